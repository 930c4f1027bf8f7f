//! The headers of an event.

use std::{borrow::Cow, fmt};

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

/// The headers of an event or of a channel: names with values, found by name.
///
/// Names are as the switch writes them: `Unique-ID`, `variable_sip_call_id`. Of a name that comes twice the first
/// counts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EventHeaders {
    text: String,
    /// Sorted by name, in order of arrival within a name.
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    name: usize,
    value: usize,
    end: usize,
}

/// Most headers kept of one event; a channel has 150 to 250.
const MAX_HEADERS: usize = 4096;

impl EventHeaders {
    /// Headers from pairs.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut headers = Self::default();
        for (name, value) in pairs {
            headers.push(name, value);
        }
        headers.sort();
        headers
    }

    /// The headers of a JSON object: numbers and the like as their text, arrays joined as the switch prints them
    /// (`ARRAY::a|:b`). Bytes that are no UTF-8 are replaced, for a caller's name may be in any encoding.
    ///
    /// `None` when it is no JSON object.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(json);
        let mut reader = serde_json::Deserializer::from_str(&text);
        let mut headers = reader.deserialize_map(Collect { room: json.len() }).ok()?;
        headers.sort();
        Some(headers)
    }

    /// The headers of a block of lines, with the values URL-decoded where `encoded`, and what follows the empty line.
    pub(crate) fn from_lines(block: &[u8], encoded: bool) -> (Self, &[u8]) {
        let mut headers = Self { text: String::with_capacity(block.len()), entries: Vec::new() };
        let mut rest = block;
        while !rest.is_empty() {
            let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            rest = rest.get(end + 1..).unwrap_or_default();
            if line.is_empty() {
                break;
            }
            let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
            let name = String::from_utf8_lossy(&line[..colon]);
            let value = line[colon + 1..].strip_prefix(b" ").unwrap_or(&line[colon + 1..]);
            let value = if encoded { url_decode(value) } else { String::from_utf8_lossy(value) };
            let value = if encoded && value == "_undef_" { Cow::Borrowed("") } else { value };
            headers.push(&name, &value);
        }
        headers.sort();
        (headers, rest)
    }

    fn push(&mut self, name: &str, value: &str) {
        if self.entries.len() < MAX_HEADERS {
            let start = self.text.len();
            self.text.push_str(name);
            let middle = self.text.len();
            self.text.push_str(value);
            self.entries.push(Entry { name: start, value: middle, end: self.text.len() });
        }
    }

    fn sort(&mut self) {
        let text = &self.text;
        self.entries.sort_by(|a, b| text[a.name..a.value].cmp(&text[b.name..b.value]));
    }

    /// The value of the header `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        let at = self.entries.partition_point(|entry| &self.text[entry.name..entry.value] < name);
        let entry = self.entries.get(at)?;
        (&self.text[entry.name..entry.value] == name).then(|| &self.text[entry.value..entry.end])
    }

    /// The value of the channel variable `name`.
    pub fn variable(&self, name: &str) -> Option<&str> {
        const PREFIX: &str = "variable_";
        let compare = |entry: &Entry| {
            let this = &self.text[entry.name..entry.value];
            this.bytes().cmp(PREFIX.bytes().chain(name.bytes()))
        };
        let at = self.entries.partition_point(|entry| compare(entry).is_lt());
        let entry = self.entries.get(at)?;
        compare(entry).is_eq().then(|| &self.text[entry.value..entry.end])
    }

    /// All headers, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries
            .iter()
            .map(|entry| (&self.text[entry.name..entry.value], &self.text[entry.value..entry.end]))
    }

    /// All channel variables, by name, without their prefix.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter_map(|(name, value)| Some((name.strip_prefix("variable_")?, value)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl fmt::Debug for EventHeaders {
    /// Only what names the event: the rest is about people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = ["Event-Name", "Event-Subclass", "Unique-ID", "Content-Type", "Reply-Text"];
        f.debug_map()
            .entries(shown.iter().filter_map(|name| Some((name, self.get(name)?))))
            .finish_non_exhaustive()
    }
}

/// `%XX` decoded; what is no escape stays as it is.
fn url_decode(value: &[u8]) -> Cow<'_, str> {
    if !value.contains(&b'%') {
        return String::from_utf8_lossy(value);
    }
    let digit = |at: usize| value.get(at).and_then(|b| char::from(*b).to_digit(16));
    let (mut bytes, mut at) = (Vec::with_capacity(value.len()), 0);
    while at < value.len() {
        match (value[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high << 4 | low) as u8);
                at += 3;
            }
            (byte, ..) => {
                bytes.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&bytes).into_owned())
}

struct Collect {
    room: usize,
}

impl<'de> Visitor<'de> for Collect {
    type Value = EventHeaders;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EventHeaders, A::Error> {
        let mut headers = EventHeaders {
            text: String::with_capacity(self.room),
            entries: Vec::with_capacity(256),
        };
        while let Some(name) = map.next_key_seed(Str)? {
            let value = map.next_value_seed(Value)?;
            headers.push(&name, &value);
        }
        Ok(headers)
    }
}

/// A string, borrowed where the JSON has no escape in it.
struct Str;

impl<'de> serde::de::DeserializeSeed<'de> for Str {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(Value)
    }
}

/// Any value as its text.
struct Value;

impl<'de> serde::de::DeserializeSeed<'de> for Value {
    type Value = Cow<'de, str>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(if value { "true" } else { "false" }))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(value.to_string()))
    }

    fn visit_unit<E>(self) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(""))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Cow<'de, str>, A::Error> {
        let mut joined = String::from("ARRAY::");
        let mut first = true;
        while let Some(value) = seq.next_element_seed(Value)? {
            if !std::mem::take(&mut first) {
                joined.push_str("|:");
            }
            joined.push_str(&value);
        }
        Ok(Cow::Owned(joined))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Cow<'de, str>, A::Error> {
        while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
        Ok(Cow::Borrowed(""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_a_json_event() {
        let json = b"{\"Event-Name\":\"CUSTOM\",\"Unique-ID\":\"5e551000\",\"variable_b\":\"2\",\"variable_a\":[\"x\",\"y\"],
            \"n\":7,\"t\":true,\"z\":null,\"o\":{\"deep\":[1]},\"name\":\"J\\u00f6rg \xF6 \\\"x\\\"\",\"n\":\"again\",\"_body\":\"+OK\\n\"}";
        let headers = EventHeaders::from_json(json).unwrap();
        for (name, value) in [
            ("Event-Name", Some("CUSTOM")),
            ("variable_a", Some("ARRAY::x|:y")),
            ("n", Some("7")),
            ("t", Some("true")),
            ("z", Some("")),
            ("o", Some("")),
            ("name", Some("Jörg \u{FFFD} \"x\"")),
            ("_body", Some("+OK\n")),
            ("variable_", None),
            ("", None),
            ("zz", None),
        ] {
            assert_eq!(headers.get(name), value, "{name}");
        }
        assert_eq!(headers.variable("b"), Some("2"));
        assert_eq!(headers.variable("c"), None);
        assert_eq!(headers.variables().collect::<Vec<_>>(), [("a", "ARRAY::x|:y"), ("b", "2")]);
        assert_eq!(EventHeaders::from_json(b"[1]"), None);
        assert_eq!(EventHeaders::from_json(b"{\"a\":"), None);
    }

    #[test]
    fn headers_of_an_encoded_block() {
        let block = b"Event-Name: CUSTOM\nReply-Text: %2BOK%0A\nempty: _undef_\nodd: 100%\nsip: sip%3Aa%40b\r\n\nbody\n";
        let (headers, rest) = EventHeaders::from_lines(block, true);
        assert_eq!(headers.get("Reply-Text"), Some("+OK\n"));
        assert_eq!(headers.get("empty"), Some(""));
        assert_eq!(headers.get("odd"), Some("100%"));
        assert_eq!(headers.get("sip"), Some("sip:a@b"));
        assert_eq!(rest, b"body\n");
    }

    #[test]
    fn the_number_of_headers_is_bounded() {
        let block: String = (0..10_000).map(|n| format!("h{n}: {n}\n")).collect();
        let (headers, _) = EventHeaders::from_lines(block.as_bytes(), false);
        assert_eq!(headers.len(), MAX_HEADERS);
    }
}
