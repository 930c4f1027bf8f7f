//! How FreeSWITCH's core cuts an API line into arguments.

/// Splits `line` at blanks, or at the character after a leading `^^`, into at most `most` arguments; the last one
/// takes the rest of the line.
///
/// Single quotes group and are removed. Backslash escapes are undone, inside quotes too: `\n`, `\r`, `\t`, `\s`, `\\`,
/// `\"`, `\'` and the separator; others stay as they are. Between blanks nothing is empty; between other separators it may be.
pub(crate) fn split(line: &str, most: usize) -> Vec<String> {
    let (separator, line) = match line.strip_prefix("^^").and_then(|rest| {
        let separator = rest.chars().next()?;
        Some((separator, &rest[separator.len_utf8()..]))
    }) {
        Some(found) => found,
        None => (' ', line),
    };
    let mut arguments: Vec<String> = Vec::new();
    let mut rest = if separator == ' ' { line.trim_start_matches(' ') } else { line };
    if rest.is_empty() {
        return arguments;
    }
    loop {
        if arguments.len() + 1 >= most {
            arguments.push(clean(rest, separator));
            return arguments;
        }
        let Some(end) = end_of_argument(rest, separator) else {
            arguments.push(clean(rest, separator));
            return arguments;
        };
        arguments.push(clean(&rest[..end], separator));
        rest = &rest[end + separator.len_utf8()..];
        if separator == ' ' {
            rest = rest.trim_start_matches(' ');
            if rest.is_empty() {
                return arguments;
            }
        }
    }
}

/// Splits at `separator` outside quotes and brackets, the way dial strings and lists of actions are cut.
pub(crate) fn split_outside_brackets(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut quoted, mut from) = (0_i32, false, 0);
    let mut parts = Vec::new();
    for (at, symbol) in text.char_indices() {
        match symbol {
            '\'' => quoted = !quoted,
            '{' | '[' | '(' | '<' if !quoted => depth += 1,
            '}' | ']' | ')' | '>' if !quoted => depth -= 1,
            _ if symbol == separator && depth <= 0 && !quoted => {
                parts.push(&text[from..at]);
                from = at + symbol.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// `name=value` pairs of a variable list: separated by `separator`, or by the character after a leading `^^`. A
/// separator inside a value is escaped or quoted.
pub(crate) fn pairs(list: &str, separator: char) -> Vec<(String, String)> {
    let (separator, list) = match list.strip_prefix("^^").and_then(|rest| {
        let separator = rest.chars().next()?;
        Some((separator, &rest[separator.len_utf8()..]))
    }) {
        Some(found) => found,
        None => (separator, list),
    };
    let mut pairs = Vec::new();
    let mut rest = list;
    loop {
        let end = end_of_argument(rest, separator);
        let pair = clean(end.map_or(rest, |end| &rest[..end]), separator);
        if let Some((name, value)) = pair.split_once('=') {
            pairs.push((name.trim().to_owned(), value.to_owned()));
        }
        match end {
            Some(end) => rest = &rest[end + separator.len_utf8()..],
            None => return pairs,
        }
    }
}

fn end_of_argument(text: &str, separator: char) -> Option<usize> {
    let mut quoted = false;
    let mut symbols = text.char_indices();
    while let Some((at, symbol)) = symbols.next() {
        match symbol {
            '\\' => {
                symbols.next();
            }
            '\'' => quoted = !quoted,
            _ if symbol == separator && !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

fn clean(text: &str, separator: char) -> String {
    let mut cleaned = String::with_capacity(text.len());
    let mut kept = 0;
    let mut symbols = text.trim_start_matches(' ').chars();
    let mut quoted = false;
    while let Some(symbol) = symbols.next() {
        match symbol {
            '\\' => {
                match symbols.next() {
                    Some('n') => cleaned.push('\n'),
                    Some('r') => cleaned.push('\r'),
                    Some('t') => cleaned.push('\t'),
                    Some('s') => cleaned.push(' '),
                    Some(plain) if plain == separator || matches!(plain, '\\' | '"' | '\'') => {
                        cleaned.push(plain);
                    }
                    Some(other) => cleaned.extend(['\\', other]),
                    None => cleaned.push('\\'),
                }
                kept = cleaned.len();
            }
            '\'' => {
                quoted = !quoted;
                kept = cleaned.len();
            }
            _ => {
                cleaned.push(symbol);
                if symbol != ' ' || quoted {
                    kept = cleaned.len();
                }
            }
        }
    }
    cleaned.truncate(kept);
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_as_the_core_cuts_them() {
        for (line, most, arguments) in [
            ("", 3, &[][..]),
            ("a  b c", 9, &["a", "b", "c"]),
            ("a b c d", 2, &["a", "b c d"]),
            ("u stop '{\"a\":\"b c\"}'", 9, &["u", "stop", "{\"a\":\"b c\"}"]),
            ("u {\"a\":\"b c\"}", 9, &["u", "{\"a\":\"b", "c\"}"]),
            (
                "^^|u|start||x y|'{\"n\":\"it\\u0027s\"}'",
                9,
                &["u", "start", "", "x y", "{\"n\":\"it\\u0027s\"}"],
            ),
            ("a 'b\\'c' \\\"d", 9, &["a", "b'c", "\"d"]),
            ("a b\\sc", 9, &["a", "b c"]),
        ] {
            assert_eq!(split(line, most), arguments, "{line}");
        }
    }

    #[test]
    fn variable_lists_may_choose_their_separator() {
        let owned = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        for (list, separator, expected) in [
            ("a=1,b=two words", ',', &[("a", "1"), ("b", "two words")][..]),
            ("^^:a=1,2:b=3", ',', &[("a", "1,2"), ("b", "3")]),
            ("a='x,y',b=1\\,2", ',', &[("a", "x,y"), ("b", "1,2")]),
            ("a=1;b=;junk", ';', &[("a", "1"), ("b", "")]),
        ] {
            assert_eq!(pairs(list, separator), owned(expected), "{list}");
        }
    }

    #[test]
    fn dial_strings_are_cut_outside_brackets() {
        assert_eq!(
            split_outside_brackets("{a=1,b=2}user/1,[x=|]user/2|sofia/i/3", '|'),
            ["{a=1,b=2}user/1,[x=|]user/2", "sofia/i/3"]
        );
    }
}
