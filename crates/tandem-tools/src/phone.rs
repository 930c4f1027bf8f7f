//! Telephone numbers that callers say and models write down.

/// `text` in E.164 with its plus sign, when it is an international number once its dress is gone.
///
/// A `tel:` scheme, visual separators and the `(0)` that some countries write for calls from within go. A number
/// without a plus sign is nobody's: which country it belongs to would be a guess.
pub fn e164(text: &str) -> Option<String> {
    let text = text.trim();
    let text = match text.get(..4) {
        Some(scheme) if scheme.eq_ignore_ascii_case("tel:") => &text[4..],
        _ => text,
    };
    let text = text.split(';').next().unwrap_or(text).replace("(0)", "");
    let mut digits = String::with_capacity(16);
    for c in text.trim().strip_prefix('+')?.chars() {
        match c {
            '0'..='9' if digits.len() < 15 => digits.push(c),
            ' ' | '\u{a0}' | '-' | '.' | '(' | ')' | '[' | ']' | '/' => {}
            _ => return None,
        }
    }
    let fits = digits.len() >= 7 && !digits.starts_with('0');
    fits.then(|| format!("+{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_normalises_when_it_says_its_country() {
        for (text, normal) in [
            ("+13055551234", Some("+13055551234")),
            (" +1 (305) 555-1234 ", Some("+13055551234")),
            ("+49 (0)30 / 12.34-56", Some("+4930123456")),
            ("tel:+1-305-555-1234;phone-context=x", Some("+13055551234")),
            ("+44\u{a0}20 7946 0000", Some("+442079460000")),
            ("305 555 1234", None),
            ("0049 30 123456", None),
            ("+0130555", None),
            ("+123456", None),
            ("+1234567890123456", None),
            ("+1 305 CALL NOW", None),
            ("+", None),
            ("", None),
        ] {
            assert_eq!(e164(text).as_deref(), normal, "{text}");
        }
    }
}
