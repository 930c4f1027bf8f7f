//! JSON as the modules print it: the members in the order they came in.

use serde::de::IgnoredAny;

/// Takes the blanks between tokens away; none when `text` is no JSON.
pub(crate) fn minify(text: &str) -> Option<String> {
    serde_json::from_str::<IgnoredAny>(text).ok()?;
    let mut minified = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for symbol in text.chars() {
        if in_string {
            minified.push(symbol);
            match symbol {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if !symbol.is_ascii_whitespace() {
            in_string = symbol == '"';
            minified.push(symbol);
        }
    }
    Some(minified)
}

/// The members of a minified object in their order, each value as it is written; none when it is no object.
pub(crate) fn members(minified: &str) -> Option<Vec<(String, &str)>> {
    let inner = minified.strip_prefix('{')?.strip_suffix('}')?;
    let mut members = Vec::new();
    for member in split_top_level(inner, ',') {
        let [key, value] = split_top_level(member, ':')[..] else { continue };
        members.push((serde_json::from_str(key).ok()?, value));
    }
    Some(members)
}

/// The string `value` stands for; none when it is no string.
pub(crate) fn string(value: &str) -> Option<String> {
    serde_json::from_str(value).ok()
}

/// Prints an object of already printed members.
pub(crate) fn object<'a>(members: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::from("{");
    for (key, value) in members {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&quoted(key));
        text.push(':');
        text.push_str(value);
    }
    text.push('}');
    text
}

/// `text` as a JSON string.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string can be printed")
}

fn split_top_level(text: &str, separator: char) -> Vec<&str> {
    let (mut depth, mut in_string, mut escaped, mut from) = (0_u32, false, false, 0);
    let mut parts = Vec::new();
    for (at, symbol) in text.char_indices() {
        match symbol {
            _ if escaped => escaped = false,
            '\\' if in_string => escaped = true,
            '"' => in_string = !in_string,
            _ if in_string => {}
            '{' | '[' => depth += 1,
            '}' | ']' => depth = depth.saturating_sub(1),
            _ if symbol == separator && depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !text.is_empty() {
        parts.push(&text[from..]);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_keep_their_order() {
        let text = minify(
            "{ \"type\": \"x\", \"data\": {\"b\": [1, 2], \"a\": \"s, }\\\"\"} , \"c\":null}",
        )
        .unwrap();
        assert_eq!(text, "{\"type\":\"x\",\"data\":{\"b\":[1,2],\"a\":\"s, }\\\"\"},\"c\":null}");
        let found = members(&text).unwrap();
        assert_eq!(
            found.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(),
            ["type", "data", "c"]
        );
        let data = members(found[1].1).unwrap();
        assert_eq!(data[0].1, "[1,2]");
        assert_eq!(string(data[1].1).unwrap(), "s, }\"");
        assert_eq!(members("{}").unwrap(), []);
        assert!(members("[1]").is_none());
        assert!(minify("not json").is_none());
    }
}
