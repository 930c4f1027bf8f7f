//! Writing the arguments of a command so that the switch reads them back as they were.
//!
//! The switch splits a line at a separator outside single quotes. In each part it then takes `\n`, `\r`, `\t` and
//! `\s` for the characters they name, `\\`, `\'`, `\"` and an escaped separator for themselves, drops single quotes
//! and trims blanks. What goes through several splittings is escaped once for each, the innermost first.

/// Appends `text` so that one splitting at `separator` gives it back. Line ends become escapes: one line stays one.
pub(crate) fn escape(text: &str, separator: char, out: &mut String) {
    let blanks_before = text.len() - text.trim_start_matches(' ').len();
    let blanks_after = text.trim_end_matches(' ').len();
    for (at, c) in text.char_indices() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' ' if at < blanks_before || at >= blanks_after => out.push_str("\\s"),
            c if c == separator && c != ' ' => out.extend(['\\', c]),
            c => out.push(c),
        }
    }
}

/// Appends `text` as one argument of a line that is split at blanks, in quotes where it needs them.
pub(crate) fn quote(text: &str, out: &mut String) {
    let plain = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '\'' | '\\' | '"'));
    if plain {
        out.push_str(text);
        return;
    }
    out.push('\'');
    escape(text, '\'', out);
    out.push('\'');
}

/// Escapes a value of a variable list `{a=1,b=2}` for the two splittings in it, at `,` and at `=`; the line's own
/// comes on top. Braces and brackets become parentheses, for the switch counts them without looking at escapes, and
/// line ends become blanks, for such variables end in SIP headers.
pub(crate) fn escape_in_braces(text: &str, out: &mut String) {
    let harmless: String = text
        .chars()
        .map(|c| match c {
            '{' | '[' => '(',
            '}' | ']' => ')',
            '<' | '>' => '"',
            c if c.is_control() => ' ',
            c => c,
        })
        .collect();
    let mut once = String::with_capacity(harmless.len());
    escape(harmless.trim(), '=', &mut once);
    // An escaped "=" is only unescaped where "=" separates, so it passes the splitting at "," as it is.
    escape(&once.replace(":_:", ": _:"), ',', out);
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Splits as the switch does, for tests: its tokenizer in the words of its documentation.
    pub(crate) fn split(line: &str, separator: char, limit: usize) -> Vec<String> {
        let (line, separator) = match line.strip_prefix("^^") {
            Some(rest) if rest.chars().count() > 1 => {
                let separator = rest.chars().next().unwrap();
                (&rest[separator.len_utf8()..], separator)
            }
            _ => (line, separator),
        };
        let chars: Vec<char> = line.chars().collect();
        let (mut parts, mut at) = (Vec::new(), 0);
        while at < chars.len() && parts.len() < limit {
            let (start, mut quoted) = (at, false);
            let mut end = chars.len();
            if parts.len() + 1 < limit {
                while at < chars.len() {
                    match chars[at] {
                        '\\' => at += 1,
                        '\'' if separator == ' ' || quoted || chars[at + 1..].contains(&'\'') => {
                            quoted = !quoted;
                        }
                        c if c == separator && !quoted => {
                            end = at;
                            at += 1;
                            break;
                        }
                        _ => {}
                    }
                    at += 1;
                }
                while separator == ' ' && end < chars.len() && chars.get(at) == Some(&' ') {
                    at += 1;
                }
            } else {
                at = chars.len();
            }
            parts.push(clean(&chars[start..end], separator));
        }
        parts
    }

    fn clean(part: &[char], separator: char) -> String {
        let separator = (separator != ' ').then_some(separator);
        let first = part.iter().position(|c| *c != ' ').unwrap_or(part.len());
        let part = &part[first..];
        let (mut out, mut keep, mut quoted, mut at) = (String::new(), 0, false, 0);
        while at < part.len() {
            let next = part.get(at + 1).copied();
            let escaped = match (part[at], next) {
                ('\\', Some(c @ ('\'' | '"' | '\\'))) => Some(c),
                ('\\', Some(c)) if Some(c) == separator => Some(c),
                ('\\', Some('n')) => Some('\n'),
                ('\\', Some('r')) => Some('\r'),
                ('\\', Some('t')) => Some('\t'),
                ('\\', Some('s')) => Some(' '),
                _ => None,
            };
            if let Some(c) = escaped {
                out.push(c);
                keep = out.len();
                at += 2;
                continue;
            }
            if part[at] == '\'' && (quoted || part[at + 1..].contains(&'\'')) {
                quoted = !quoted;
                if quoted {
                    keep = out.len();
                }
            } else {
                out.push(part[at]);
                if part[at] != ' ' || quoted {
                    keep = out.len();
                }
            }
            at += 1;
        }
        out.truncate(keep);
        out
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(text in "[^\0]{1,40}", other in "[a-z]{1,5}") {
            let mut line = format!("{other} ");
            quote(&text, &mut line);
            line.push_str(" aleg");
            prop_assert!(!line.contains(['\r', '\n']));
            prop_assert_eq!(split(&line, ' ', 4), [other, text, "aleg".to_owned()]);
        }

        #[test]
        fn what_is_escaped_in_a_list_is_read_back(values in prop::collection::vec("[^\0]{1,30}", 1..6)) {
            let mut line = String::new();
            for value in &values {
                line.push_str(if line.is_empty() { "a=" } else { ";a=" });
                escape(value, ';', &mut line);
            }
            prop_assert!(!line.contains(['\r', '\n']));
            let read: Vec<String> = split(&line, ';', 64).iter().map(|p| p[2..].to_owned()).collect();
            // Blanks in front of the value stand behind "a=", so nothing is trimmed there.
            prop_assert_eq!(read, values);
        }

        #[test]
        fn what_is_escaped_in_braces_is_read_back(text in "[ -~]{1,40}") {
            let expected = text.trim().replace(['{', '['], "(").replace(['}', ']'], ")").replace(['<', '>'], "\"");
            prop_assume!(!expected.is_empty() && !expected.contains(":_:"));
            let mut list = String::from("a=");
            escape_in_braces(&text, &mut list);
            list.push_str(",b=2");
            let mut line = String::new();
            quote(&list, &mut line);
            let list = split(&line, ' ', 10).remove(0);
            let pair = split(&list, ',', 1024);
            prop_assert_eq!(pair.len(), 2);
            prop_assert_eq!(split(&pair[0], '=', 2)[1].clone(), expected);
        }
    }
}
