//! JSON that is read where it lies: whoever asks names the members, everything else is walked over and nothing is
//! built from it. So what a message costs depends on its length alone, not on what a server puts in.

use std::{borrow::Cow, fmt};

use serde::{
    Deserializer as _,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use crate::DialectError;

/// A message without audio is a few kilobytes long; a larger one is not read.
pub(crate) const MAX_MESSAGE: usize = 256 << 10;

/// Messages that repeat what was configured or said, and audio in an unusual wrapping, may be this large.
pub(crate) const MAX_LARGE_MESSAGE: usize = 1 << 20;

/// Elements of an array that are looked at; the protocols' arrays hold a handful.
const MAX_ELEMENTS: usize = 256;

/// A JSON value as it is written, or the absence of one.
///
/// What is absent or of another type reads as nothing: vendors add and change at will.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Json<'a>(&'a str);

impl<'a> Json<'a> {
    const ABSENT: Self = Self("");

    /// The members of the object that `payload` is, by name and in the order of `names`.
    pub(crate) fn read<const N: usize>(
        payload: &'a [u8],
        names: [&str; N],
    ) -> Result<[Self; N], DialectError> {
        let text = std::str::from_utf8(payload)
            .map_err(|error| DialectError::NotJson(error.to_string()))?;
        let error = |error: serde_json::Error| match error.classify() {
            Category::Data => DialectError::NotAnObject,
            Category::Io | Category::Syntax | Category::Eof => {
                DialectError::NotJson(error.to_string())
            }
        };
        let mut json = serde_json::Deserializer::from_str(text);
        let members = json.deserialize_map(Members(&names)).map_err(error)?;
        json.end().map_err(error)?;
        Ok(members)
    }

    /// The members of this object, by name and in the order of `names`; of two with one name the last.
    pub(crate) fn members<const N: usize>(self, names: [&str; N]) -> [Self; N] {
        serde_json::Deserializer::from_str(self.0)
            .deserialize_map(Members(&names))
            .unwrap_or([Self::ABSENT; N])
    }

    /// One member of this object.
    pub(crate) fn get(self, name: &str) -> Self {
        let [member] = self.members([name]);
        member
    }

    /// The first elements of this array.
    pub(crate) fn elements(self) -> Vec<Self> {
        if !self.is_array() {
            return Vec::new();
        }
        serde_json::Deserializer::from_str(self.0).deserialize_seq(Elements).unwrap_or_default()
    }

    /// The text of this string, else none; it is copied only when it has escapes.
    pub(crate) fn text(self) -> Cow<'a, str> {
        match self.0.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
            None => Cow::Borrowed(""),
            Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
            Some(_) => serde_json::from_str(self.0).map_or(Cow::Borrowed(""), Cow::Owned),
        }
    }

    pub(crate) fn u64(self) -> Option<u64> {
        serde_json::from_str(self.0).ok()
    }

    pub(crate) fn f64(self) -> Option<f64> {
        serde_json::from_str(self.0).ok()
    }

    /// It is `true`.
    pub(crate) fn is_true(self) -> bool {
        self.0 == "true"
    }

    pub(crate) fn is_string(self) -> bool {
        self.0.starts_with('"')
    }

    pub(crate) fn is_array(self) -> bool {
        self.0.starts_with('[')
    }

    pub(crate) fn is_absent(self) -> bool {
        self.0.is_empty()
    }

    /// The value as it is written, empty when absent.
    pub(crate) fn as_written(self) -> &'a str {
        self.0
    }

    /// `text`, which must be JSON.
    #[cfg(test)]
    pub(crate) fn of(text: &'a str) -> Self {
        Self(text)
    }
}

/// Counts the messages that were too large to be read.
#[derive(Debug, Default)]
pub(crate) struct LeftOut(u64);

impl LeftOut {
    pub(crate) fn note(&mut self, payload: &[u8]) {
        self.0 += 1;
        let (bytes, so_far) = (payload.len(), self.0);
        tracing::warn!(bytes, so_far, "a message of the model is too large, left out");
    }

    #[cfg(test)]
    pub(crate) fn count(&self) -> u64 {
        self.0
    }
}

/// Keeps the members with these names.
struct Members<'n, const N: usize>(&'n [&'n str; N]);

impl<'de, const N: usize> Visitor<'de> for Members<'_, N> {
    type Value = [Json<'de>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [Json::ABSENT; N];
        while let Some(at) = map.next_key_seed(Position(self.0))? {
            match at {
                Some(at) => found[at] = Json(map.next_value::<&RawValue>()?.get()),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Where a key stands among the names.
struct Position<'n>(&'n [&'n str]);

impl<'de> DeserializeSeed<'de> for Position<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Position<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|name| *name == key))
    }
}

/// Keeps the first elements.
struct Elements;

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<Json<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut found = Vec::new();
        while found.len() < MAX_ELEMENTS {
            match array.next_element::<&RawValue>()? {
                Some(element) => found.push(Json(element.get())),
                None => return Ok(found),
            }
        }
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_and_the_rest_is_walked_over() {
        let text = r#" { "a" : 1, "b": {"c": [true, "x\ny"]}, "\u0064": "D", "e": [[{}], null] } "#;
        let [d, a, b, missing] =
            Json::read(text.as_bytes(), ["d", "a", "b", "missing"]).expect("valid JSON");
        assert_eq!((d.text(), a.u64(), a.f64()), ("D".into(), Some(1), Some(1.0)));
        assert!(missing.is_absent() && missing.text().is_empty() && missing.u64().is_none());
        let elements = b.get("c").elements();
        assert!(elements[0].is_true());
        assert_eq!(elements[1].text(), "x\ny");
        assert_eq!(elements.len(), 2);
        let [twice] = Json::read(br#"{"a":1,"a":2}"#, ["a"]).expect("valid JSON");
        assert_eq!(twice.u64(), Some(2));
    }

    #[test]
    fn another_type_than_expected_is_nothing() {
        for text in ["null", "true", "5", "-1.5", r#""x""#, "[1]", "{}", ""] {
            let json = Json::of(text);
            assert!(json.get("a").is_absent(), "{text}");
            assert_eq!(json.text(), if json.is_string() { "x" } else { "" }, "{text}");
            assert_eq!(json.u64(), (text == "5").then_some(5), "{text}");
            assert_eq!(json.elements().len(), usize::from(json.is_array()), "{text}");
        }
        assert_eq!(Json::of(r#""half a pair: \ud83d""#).text(), "");
    }

    #[test]
    fn only_a_whole_object_is_a_message() {
        for text in [r#"{"a":1"#, r#"{"a":1}x"#, r#"{"a":[1,]}"#, r#"{"b":tru}"#, "", "\"", "{1:2}"]
        {
            let read = Json::read(text.as_bytes(), ["a"]);
            assert!(matches!(read, Err(DialectError::NotJson(_))), "{text}: {read:?}");
        }
        for text in ["[]", "1", "null", r#""a""#] {
            assert_eq!(
                Json::read(text.as_bytes(), ["a"]),
                Err(DialectError::NotAnObject),
                "{text}"
            );
        }
        assert!(matches!(Json::read(b"{\"a\":\"\xff\"}", ["a"]), Err(DialectError::NotJson(_))));
    }

    #[test]
    fn a_long_array_is_read_in_part_and_depth_is_no_danger() {
        let long = format!("[{}1]", "1,".repeat(10_000));
        assert_eq!(Json::of(&long).elements().len(), MAX_ELEMENTS);
        let deep = format!(r#"{{"b":{}{},"a":7}}"#, "[".repeat(100_000), "]".repeat(100_000));
        let [a] = Json::read(deep.as_bytes(), ["a"]).expect("valid JSON");
        assert_eq!(a.u64(), Some(7));
    }
}
