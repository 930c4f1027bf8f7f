//! What the first text of a fork tells about its call.

use std::{collections::BTreeMap, fmt};

use serde_json::{Map, Value};

/// Longer metadata is refused; the modules keep at most 8 KiB of it.
const MAX_TEXT: usize = 64 * 1024;
/// Variables that are kept.
const MAX_VARIABLES: usize = 128;
/// Bytes of a name that is kept.
const MAX_NAME: usize = 128;
/// Bytes of a value that is kept.
const MAX_VALUE: usize = 2_048;

/// Names under which metadata carries the channel's uuid, the best first.
const CALL: [&str; 8] = [
    "uuid",
    "call_uuid",
    "channel_uuid",
    "channel",
    "unique_id",
    "Unique-ID",
    "callSid",
    "call_sid",
];
/// The number that was dialled.
const DID: [&str; 7] = [
    "did",
    "destination",
    "destination_number",
    "Caller-Destination-Number",
    "dnis",
    "called",
    "to",
];
/// The caller's number.
const CALLER: [&str; 6] =
    ["caller", "caller_id_number", "Caller-Caller-ID-Number", "caller_number", "ani", "from"];
/// The caller's name.
const CALLER_NAME: [&str; 4] =
    ["caller_name", "caller_id_name", "Caller-Caller-ID-Name", "callerName"];
/// Objects whose entries are variables of their own.
const NESTED: [&str; 6] =
    ["variables", "headers", "sip_headers", "channel_variables", "customerData", "metadata"];

/// What is known of a fork's call before its first sound.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// The channel's uuid at the switch; jambonz' own call id where that is all there is.
    pub call: Option<String>,
    /// The number that was dialled.
    pub did: Option<String>,
    /// The caller's number.
    pub caller: Option<String>,
    /// The caller's name.
    pub caller_name: Option<String>,
    /// All other values, those of `variables`, `headers` and the like included; at most 128 of at most 2 KiB each.
    pub variables: BTreeMap<String, String>,
}

/// Why metadata was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Longer than any module sends.
    #[error("metadata of {0} bytes, more than 65536")]
    TooLong(usize),
    /// It does not begin with a JSON object.
    #[error("metadata that is no JSON object: {0}")]
    NoObject(String),
}

impl fmt::Debug for Metadata {
    /// Numbers, names and variables belong to the caller.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata")
            .field("call", &self.call)
            .field("variables", &self.variables.len())
            .finish_non_exhaustive()
    }
}

impl Metadata {
    /// Reads the object that `text` begins with; drachtio's module leaves its surplus arguments behind it.
    ///
    /// The words of several programs are known: those of the dialplan that Tandem prints, of FreeSWITCH's events and of jambonz.
    /// What is none of them is a variable, under its own name. What is too long or too much is left out.
    pub fn parse(text: &[u8]) -> Result<Self, MetadataError> {
        if text.len() > MAX_TEXT {
            return Err(MetadataError::TooLong(text.len()));
        }
        let no_object = |reason: &dyn fmt::Display| MetadataError::NoObject(reason.to_string());
        let mut values = serde_json::Deserializer::from_slice(text).into_iter::<Value>();
        let mut object = match values.next() {
            Some(Ok(Value::Object(object))) => object,
            Some(Ok(_)) => return Err(no_object(&"another value")),
            Some(Err(error)) => return Err(no_object(&error)),
            None => return Err(no_object(&"nothing")),
        };
        let mut metadata = Self {
            call: take(&mut object, &CALL),
            did: take(&mut object, &DID),
            caller: take(&mut object, &CALLER),
            caller_name: take(&mut object, &CALLER_NAME),
            variables: BTreeMap::new(),
        };
        // jambonz names the caller by it, others give the number.
        if let Some(id) = take(&mut object, &["callerId", "caller_id"]) {
            let is_number = id.chars().all(|c| matches!(c, '0'..='9' | '+' | '*' | '#'));
            let place = if is_number && metadata.caller.is_none() {
                &mut metadata.caller
            } else {
                &mut metadata.caller_name
            };
            place.get_or_insert(id);
        }
        for name in NESTED {
            if let Some(Value::Object(nested)) = object.get_mut(name) {
                let nested = std::mem::take(nested);
                object.remove(name);
                metadata.keep(nested);
            }
        }
        metadata.keep(object);
        Ok(metadata)
    }

    /// Keeps what is in `object` as variables; those kept before stay.
    fn keep(&mut self, object: Map<String, Value>) {
        for (name, value) in object {
            let value = match value {
                Value::Null => continue,
                Value::String(text) => text,
                other => other.to_string(),
            };
            if name.len() <= MAX_NAME
                && value.len() <= MAX_VALUE
                && self.variables.len() < MAX_VARIABLES
            {
                self.variables.entry(name).or_insert(value);
            }
        }
    }
}

/// Takes the first of `names` that has a text or a number out of `object`; those after it stay.
fn take(object: &mut Map<String, Value>, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let text = match object.get(*name)? {
            Value::String(text) if !text.is_empty() && text.len() <= MAX_VALUE => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return None,
        };
        object.remove(*name);
        Some(text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Metadata {
        Metadata::parse(text.as_bytes()).expect(text)
    }

    #[test]
    fn the_words_of_several_programs() {
        for (text, call, did, caller, name, variables) in [
            (
                r#"{"uuid":"9d1e","did":"4930123456","caller":"+15550100","caller_name":"Ann","note":"it's ok","n":7}"#,
                Some("9d1e"),
                Some("4930123456"),
                Some("+15550100"),
                Some("Ann"),
                &[("n", "7"), ("note", "it's ok")][..],
            ),
            (
                r#"{"callId":"7f1e","direction":"inbound","from":"+15550100","to":"9003"}"#,
                None,
                Some("9003"),
                Some("+15550100"),
                None,
                &[("callId", "7f1e"), ("direction", "inbound")],
            ),
            (
                r#"{"sampleRate":8000,"callSid":"5f1c","from":"+4930111","to":"+4930222","callerId":"Ann","headers":{"X-Foo":"bar"},"customerData":{}}"#,
                Some("5f1c"),
                Some("+4930222"),
                Some("+4930111"),
                Some("Ann"),
                &[("X-Foo", "bar"), ("sampleRate", "8000")],
            ),
            (
                r#"{"Unique-ID":"u","callSid":"c","callerId":"+49","destination":1001,"variables":{"a":"b","c":[1,2]},"x":null}"#,
                Some("u"),
                Some("1001"),
                Some("+49"),
                None,
                &[("a", "b"), ("c", "[1,2]"), ("callSid", "c")],
            ),
            (r#"{"callId":"7f1e"} true true 8000"#, None, None, None, None, &[("callId", "7f1e")]),
            (r#"{"uuid":"","call_uuid":"u2"}"#, Some("u2"), None, None, None, &[("uuid", "")]),
            ("{}", None, None, None, None, &[]),
        ] {
            let metadata = parse(text);
            let own = |word: Option<&str>| word.map(String::from);
            assert_eq!(metadata.call, own(call), "{text}");
            assert_eq!(metadata.did, own(did), "{text}");
            assert_eq!(metadata.caller, own(caller), "{text}");
            assert_eq!(metadata.caller_name, own(name), "{text}");
            let kept: Vec<(&str, &str)> =
                metadata.variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(kept, variables, "{text}");
        }
    }

    #[test]
    fn what_is_too_much_is_left_out() {
        let many: Vec<String> = (0..500).map(|n| format!(r#""k{n}":"v""#)).collect();
        assert_eq!(parse(&format!("{{{}}}", many.join(","))).variables.len(), MAX_VARIABLES);
        let long = format!(
            r#"{{"a":"{}","{}":1,"b":2,"did":"{}"}}"#,
            "x".repeat(3_000),
            "n".repeat(200),
            "9".repeat(3_000)
        );
        let metadata = parse(&long);
        assert_eq!(metadata.variables.into_iter().collect::<Vec<_>>(), [("b".into(), "2".into())]);
        assert_eq!(metadata.did, None);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["", "hello", "[1]", r#"c","d":[1,"#, r#"{"a":"#, "7", "\u{FEFF}{}"] {
            assert!(
                matches!(Metadata::parse(text.as_bytes()), Err(MetadataError::NoObject(_))),
                "{text}"
            );
        }
        assert!(matches!(Metadata::parse(&[0xFF; 9]), Err(MetadataError::NoObject(_))));
        assert_eq!(Metadata::parse(&[b' '; 70_000]), Err(MetadataError::TooLong(70_000)));
        assert!(Metadata::parse("{\"a\":".repeat(9_000).as_bytes()).is_err());
    }
}
