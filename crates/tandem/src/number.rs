//! Telephone numbers as they are dialled, and the patterns that match them.

use std::{fmt, str::FromStr};

pub use tandem_tools::e164;

/// The longest dialled number we look at, in bytes.
const MAX_DIALLED: usize = 256;

/// The form in which dialled numbers are compared.
///
/// Drops a `sip:`, `sips:` or `tel:` scheme with the host, `;` parameters inside the user part, visual separators
/// (space, `-`, `.`, brackets), a leading `+`, and the difference between capital and small letters. `%2B` is read as
/// `+`. The result may be empty.
pub fn normalise(dialled: &str) -> String {
    let mut end = dialled.len().min(MAX_DIALLED);
    while !dialled.is_char_boundary(end) {
        end -= 1;
    }
    let text = dialled[..end].trim();
    let lower = text.to_ascii_lowercase();
    let user = ["sip:", "sips:", "tel:"]
        .iter()
        .find_map(|scheme| lower.strip_prefix(scheme))
        .unwrap_or(&lower);
    let user = user.split('@').next().unwrap_or(user);
    let user = user.split(';').next().unwrap_or(user);
    let user = user.replace("%2b", "+").replace("%23", "#").replace("%2a", "*");
    user.chars()
        .filter(|c| {
            !c.is_whitespace() && !matches!(c, '-' | '.' | '(' | ')' | '[' | ']' | '/' | '+')
        })
        .collect()
}

/// The numbers a line of the number plan stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pattern {
    /// Exactly this number, normalised.
    Exact(String),
    /// All numbers that begin so, normalised: `+1305*`.
    Prefix(String),
    /// All numbers: `*`.
    Any,
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(exact) => f.write_str(exact),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl FromStr for Pattern {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        let (body, prefix) = match text.strip_suffix('*') {
            Some(body) => (body, true),
            None => (text, false),
        };
        let normal = normalise(body);
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '#' | '*' | '_');
        if normal.is_empty() || normal.len() > 64 || !normal.chars().all(allowed) {
            return Err(format!(
                "{text:?} is no number: use one such as \"+13055551234\" or \"200\", a prefix such as \"+1305*\", or \"*\" for all"
            ));
        }
        Ok(if prefix { Self::Prefix(normal) } else { Self::Exact(normal) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dialled_number_is_compared_without_its_dress() {
        for (dialled, normal) in [
            ("+13055551234", "13055551234"),
            ("13055551234", "13055551234"),
            ("+1 (305) 555-1234", "13055551234"),
            ("+1.305.555.1234", "13055551234"),
            ("tel:+1-305-555-1234;phone-context=x", "13055551234"),
            ("sip:+13055551234;npdi;rn=13050000000@192.0.2.1:5060;user=phone", "13055551234"),
            ("SIPS:%2B13055551234@example.org", "13055551234"),
            ("200", "200"),
            ("*98", "*98"),
            ("Reception", "reception"),
            ("", ""),
            ("+", ""),
        ] {
            assert_eq!(normalise(dialled), normal, "{dialled}");
        }
    }

    #[test]
    fn normalising_twice_changes_nothing() {
        for dialled in ["+1 (305) 555-1234", "sip:a.b-c@host", "tel:+49 30 1", "äöü", "%2b%2B1"]
        {
            let once = normalise(dialled);
            assert_eq!(normalise(&once), once, "{dialled}");
        }
    }

    #[test]
    fn patterns_are_exact_numbers_prefixes_or_everything() {
        for (text, pattern) in [
            ("+13055551234", Some(Pattern::Exact("13055551234".into()))),
            ("+1305*", Some(Pattern::Prefix("1305".into()))),
            ("*", Some(Pattern::Any)),
            ("*98", Some(Pattern::Exact("*98".into()))),
            ("reception", Some(Pattern::Exact("reception".into()))),
            ("", None),
            ("+", None),
            ("+*", None),
            ("1305?", None),
        ] {
            assert_eq!(text.parse::<Pattern>().ok(), pattern, "{text}");
        }
    }
}
