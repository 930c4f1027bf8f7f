//! What a module says in text frames while the call goes on.

use serde_json::Value;
use tandem_call::Digit;

/// Text longer than this is not looked at; the modules send at most 8 KiB.
pub(crate) const MAX_TEXT: usize = 64 * 1024;

/// Objects of one text frame that are looked at.
const MAX_OBJECTS: usize = 64;

/// Why a message of the module was not understood. It was counted; the call goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// No websocket is attached.
    #[error("a message of a fork that is not attached")]
    Detached,
    /// Longer than any text of a module.
    #[error("a text of {0} bytes, more than 65536")]
    TooLong(usize),
    /// Not UTF-8.
    #[error("a text that is not UTF-8")]
    NotUtf8,
    /// It begins like JSON and is none.
    #[error("malformed JSON in a text: {0}")]
    BadJson(String),
}

/// What a text frame held. One frame may hold several objects: drachtio's module joins those that wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextNote {
    /// Reports of marks, reached or cleared.
    pub marks: usize,
    /// Digits.
    pub digits: usize,
    /// Ends of files, as jambonz' player tells them.
    pub playbacks: usize,
    /// Anything else: metadata, a final text, words of other programs.
    pub other: usize,
}

/// One object of a text frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// A mark was reached, or thrown away.
    Mark { name: String, cleared: bool },
    /// A digit of the caller.
    Digit(Digit),
    /// A file was played to its end.
    PlayDone { id: String },
    /// Not for the leg.
    Other,
}

/// Reads all objects of `text` and hands them to `take`; those before a malformed one count.
pub(crate) fn read(text: &[u8], mut take: impl FnMut(Notice)) -> Result<(), StreamError> {
    if text.len() > MAX_TEXT {
        return Err(StreamError::TooLong(text.len()));
    }
    let text = std::str::from_utf8(text).map_err(|_| StreamError::NotUtf8)?;
    if !text.trim_start().starts_with(['{', '[']) {
        take(Notice::Other); // `send_text` and `stop` pass on whatever they are given.
        return Ok(());
    }
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>().take(MAX_OBJECTS) {
        take(notice(&value.map_err(|error| StreamError::BadJson(error.to_string()))?));
    }
    Ok(())
}

fn notice(value: &Value) -> Notice {
    let text = |value: Option<&Value>| match value {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let data = value.get("data");
    let in_data = |key| text(data.and_then(|data| data.get(key)));
    match (value.get("type").and_then(Value::as_str), value.get("event").and_then(Value::as_str)) {
        (Some("mark"), _) => match (in_data("name"), in_data("event").as_deref()) {
            (Some(name), Some("playout")) => Notice::Mark { name, cleared: false },
            (Some(name), Some("cleared")) => Notice::Mark { name, cleared: true },
            _ => Notice::Other,
        },
        (Some("playDone"), _) => match in_data("id") {
            Some(id) => Notice::PlayDone { id },
            None => Notice::Other,
        },
        (None, None | Some("dtmf")) => {
            let digit = text(value.get("dtmf"));
            let mut characters = digit.iter().flat_map(|digit| digit.chars());
            match (characters.next().and_then(Digit::new), characters.next()) {
                (Some(digit), None) => Notice::Digit(digit),
                _ => Notice::Other,
            }
        }
        _ => Notice::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<Notice>, StreamError> {
        let mut notices = Vec::new();
        read(text.as_bytes(), |notice| notices.push(notice)).map(|()| notices)
    }

    #[test]
    fn texts_of_the_modules() {
        let digit = |c| Notice::Digit(Digit::new(c).unwrap());
        let mark = |name: &str, cleared| Notice::Mark { name: name.into(), cleared };
        for (text, expected) in [
            (
                r#"{"type": "mark", "data": {"name":"A", "event": "playout"}}"#,
                vec![mark("A", false)],
            ),
            (
                r#"{"type":"mark","data":{"name":"7","event":"cleared"}}{"event":"dtmf","dtmf":"5","duration":"1600"}"#,
                vec![mark("7", true), digit('5')],
            ),
            (r##"{"event":"dtmf","dtmf":"#"} {"dtmf":3}"##, vec![digit('#'), digit('3')]),
            (r#"{"event":"dtmf","dtmf":"12"}"#, vec![Notice::Other]),
            (r#"{"event":"note","dtmf":"1"}"#, vec![Notice::Other]),
            (r#"{"type":"mark","data":{"name":"7","event":"lost"}}"#, vec![Notice::Other]),
            (r#"{"type":"mark"}"#, vec![Notice::Other]),
            (
                r#"{"type":"playDone","data":{"id":"12","playbackSeconds":"3"}}"#,
                vec![Notice::PlayDone { id: "12".into() }],
            ),
            (r#"{"callId":"7f1e"} true true 8000"#, vec![Notice::Other; 4]),
            ("plain-text-without-json", vec![Notice::Other]),
            (r#"c","d":[1,"#, vec![Notice::Other]),
            ("", vec![Notice::Other]),
            ("[]", vec![Notice::Other]),
        ] {
            assert_eq!(all(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_text_of_a_module_is_an_error() {
        assert!(matches!(all(r#"{"type":"mark""#), Err(StreamError::BadJson(_))));
        assert!(matches!(all(&"[".repeat(60_000)), Err(StreamError::BadJson(_))));
        assert_eq!(all(&" ".repeat(70_000)), Err(StreamError::TooLong(70_000)));
        assert_eq!(read(&[0xFF, 0xFE], |_| {}), Err(StreamError::NotUtf8));
        assert_eq!(all(&"{}".repeat(1_000)).map(|all| all.len()), Ok(MAX_OBJECTS));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(
            text in "[{}\\[\\]\":,a-z0-9\\\\ -]{0,80}",
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
        ) {
            let mut notices = 0;
            let _ = read(text.as_bytes(), |_| notices += 1);
            let _ = read(&bytes, |_| notices += 1);
            proptest::prop_assert!(notices <= 2 * MAX_OBJECTS);
            let _ = crate::Metadata::parse(text.as_bytes());
            let _ = crate::Metadata::parse(&bytes);
        }
    }
}
