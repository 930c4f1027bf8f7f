//! The headers of a message: ordered, repeated, and found without case under their long or compact name.

use crate::uri::split_outside_quotes;

/// Headers in the order they came, each under its long name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let name = long_name(name);
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Every value of `name`, one per header line.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let name = long_name(name);
        self.0
            .iter()
            .filter(move |(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Every value of `name`, with comma-separated lines taken apart.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.all(name)
            .flat_map(|line| split_outside_quotes(line, ','))
            .map(str::trim)
            .filter(|value| !value.is_empty())
    }

    /// Whether the comma-separated `name` holds `token`, compared without case.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|value| value.eq_ignore_ascii_case(token))
    }

    /// Adds a header at the end. Line breaks in the value become spaces: a value cannot become a header.
    pub fn push(&mut self, name: &str, value: impl Into<String>) {
        let mut value = value.into();
        if value.contains(['\r', '\n', '\0']) {
            value = value.replace(['\r', '\n', '\0'], " ");
        }
        self.0.push((long_name(name).to_owned(), value));
    }

    /// Replaces every `name` by one.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        self.remove(name);
        self.push(name, value);
    }

    /// Puts a header before all others.
    pub fn push_front(&mut self, name: &str, value: impl Into<String>) {
        self.push(name, value);
        self.0.rotate_right(1);
    }

    /// Removes every `name`.
    pub fn remove(&mut self, name: &str) {
        let name = long_name(name);
        self.0.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
    }

    /// The first value of `name`, to be changed.
    pub(crate) fn first_mut(&mut self, name: &str) -> Option<&mut String> {
        self.0.iter_mut().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// All headers in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many header lines there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Continues the last value (a folded line, RFC 3261 §7.3.1); `false` when there is none.
    pub(crate) fn fold(&mut self, more: &str) -> bool {
        let Some((_, value)) = self.0.last_mut() else { return false };
        if !value.is_empty() {
            value.push(' ');
        }
        value.push_str(more);
        true
    }
}

/// The long name behind a compact one (RFC 3261 §7.3.3, RFC 3515, 3892, 6665, 4028, 8224).
pub(crate) fn long_name(name: &str) -> &str {
    let mut letters = name.bytes();
    let (Some(letter), None) = (letters.next(), letters.next()) else { return name };
    match letter.to_ascii_lowercase() {
        b'v' => "Via",
        b'f' => "From",
        b't' => "To",
        b'i' => "Call-ID",
        b'm' => "Contact",
        b'c' => "Content-Type",
        b'l' => "Content-Length",
        b'k' => "Supported",
        b'e' => "Content-Encoding",
        b's' => "Subject",
        b'r' => "Refer-To",
        b'b' => "Referred-By",
        b'o' => "Event",
        b'u' => "Allow-Events",
        b'x' => "Session-Expires",
        b'y' => "Identity",
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_found_without_case_and_by_compact_name() {
        let mut headers = Headers::default();
        headers.push("k", "timer, replaces");
        headers.push("SUPPORTED", "100rel");
        headers.push("X-Tenant", "acme");
        assert_eq!(headers.get("supported"), Some("timer, replaces"));
        assert_eq!(headers.list("K").collect::<Vec<_>>(), ["timer", "replaces", "100rel"]);
        assert!(headers.has_token("Supported", "TIMER"));
        assert!(!headers.has_token("Supported", "path"));
        assert_eq!(headers.get("x-tenant"), Some("acme"));
        headers.set("Supported", "timer");
        assert_eq!(headers.all("Supported").count(), 1);
        headers.push_front("Via", "SIP/2.0/UDP h");
        assert_eq!(headers.iter().next(), Some(("Via", "SIP/2.0/UDP h")));
    }

    #[test]
    fn a_value_cannot_become_a_header() {
        let mut headers = Headers::default();
        headers.push("X-Note", "a\r\nContact: <sip:evil@h>");
        assert_eq!(headers.get("X-Note"), Some("a  Contact: <sip:evil@h>"));
    }
}
