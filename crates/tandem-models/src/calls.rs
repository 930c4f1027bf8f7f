//! Tool calls that wait for their result, and how a result reads to a model.

use serde_json::{Value, json};
use tandem_call::{ToolCallId, ToolOutcome};

/// Calls that may wait at once; a model that opens more gets a refusal for each.
const MAX_OPEN: usize = 32;

/// Bytes of arguments that are read: they are the one thing of a message that becomes a tree.
const MAX_ARGUMENTS: usize = 32 << 10;

/// Characters that are kept of arguments which are not read.
const MAX_REFUSED: usize = 1_000;

/// The calls of one connection that have no result yet, and those of connections before it.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    open: Vec<(ToolCallId, String)>,
    /// Made on an earlier connection: the model of this one does not know them by id.
    earlier: Vec<(ToolCallId, String)>,
}

/// Whose call a result belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answered {
    /// A call of this connection, by its tool's name.
    Here(String),
    /// A call of an earlier connection, by its tool's name.
    Earlier(String),
    /// Nobody's, or it was answered or taken back already.
    Unknown,
}

impl Calls {
    /// Notes a call. False when too many wait already.
    pub(crate) fn open(&mut self, id: &ToolCallId, name: &str) -> bool {
        if self.open.len() >= MAX_OPEN {
            return false;
        }
        self.open.push((id.clone(), name.to_owned()));
        true
    }

    /// Takes the call that `id` names off the list.
    pub(crate) fn answer(&mut self, id: &ToolCallId) -> Answered {
        let take = |calls: &mut Vec<(ToolCallId, String)>| {
            let at = calls.iter().position(|(open, _)| open == id)?;
            Some(calls.swap_remove(at).1)
        };
        if let Some(name) = take(&mut self.open) {
            Answered::Here(name)
        } else if let Some(name) = take(&mut self.earlier) {
            Answered::Earlier(name)
        } else {
            Answered::Unknown
        }
    }

    /// Some call of this connection waits.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.open.is_empty()
    }

    /// Takes over the calls of the connection before.
    pub(crate) fn inherit(&mut self, old: &mut Self) {
        self.earlier.append(&mut old.earlier);
        self.earlier.append(&mut old.open);
        let excess = self.earlier.len().saturating_sub(MAX_OPEN);
        self.earlier.drain(..excess);
    }
}

/// The object a model is answered with; none for a call that is not answered.
pub(crate) fn result_object(outcome: ToolOutcome) -> Option<Value> {
    match outcome {
        ToolOutcome::Answered(value) => Some(value),
        ToolOutcome::Failed(text) => Some(json!({ "error": text })),
        ToolOutcome::TimedOut => Some(json!({ "error": "the tool did not answer in time" })),
        ToolOutcome::Cancelled => None,
    }
}

/// The arguments of a call: an object, empty where nothing is written. Of anything else the beginning as it is written.
pub(crate) fn arguments(written: &str) -> Result<Value, String> {
    if written.trim().is_empty() {
        return Ok(json!({}));
    }
    if written.len() <= MAX_ARGUMENTS
        && let Ok(arguments @ Value::Object(_)) = serde_json::from_str(written)
    {
        return Ok(arguments);
    }
    Err(written.chars().take(MAX_REFUSED).collect())
}

/// A result in words, for a model that does not know the call any more.
pub(crate) fn result_text(name: &str, result: &Value) -> String {
    format!("The tool {name} that was called before has answered: {result}")
}

/// Exactly these words: the order for a vendor that speaks to instructions.
pub(crate) fn exact_words(words: &str) -> String {
    format!("Say exactly these words and nothing else: {words}")
}

/// Keypad digits in words.
pub(crate) fn digits_text(digits: &str) -> String {
    let spelled: Vec<String> = digits.chars().map(String::from).collect();
    let noun = if spelled.len() == 1 { "key" } else { "keys" };
    format!("(The caller pressed the {noun} {} on the telephone keypad.)", spelled.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ToolCallId {
        ToolCallId(text.into())
    }

    #[test]
    fn a_call_is_answered_once() {
        let mut calls = Calls::default();
        assert!(calls.open(&id("a"), "find"));
        assert_eq!(calls.answer(&id("a")), Answered::Here("find".into()));
        assert_eq!(calls.answer(&id("a")), Answered::Unknown);
        assert!(!calls.is_waiting());
    }

    #[test]
    fn calls_outlive_their_connection() {
        let mut old = Calls::default();
        old.open(&id("a"), "find");
        let mut new = Calls::default();
        new.inherit(&mut old);
        assert!(!new.is_waiting(), "this connection's model waits for nothing");
        assert_eq!(new.answer(&id("a")), Answered::Earlier("find".into()));
    }

    #[test]
    fn open_calls_are_limited() {
        let mut calls = Calls::default();
        let taken = (0..100).filter(|n| calls.open(&id(&n.to_string()), "x")).count();
        assert_eq!(taken, MAX_OPEN);
    }

    #[test]
    fn arguments_are_an_object_of_bounded_size() {
        assert_eq!(arguments(r#"{"a":1}"#), Ok(json!({ "a": 1 })));
        assert_eq!(arguments(" "), Ok(json!({})));
        assert_eq!(arguments("[1]"), Err("[1]".into()));
        assert_eq!(arguments("{"), Err("{".into()));
        let long = format!(r#"{{"a":[{}1]}}"#, "[1],".repeat(MAX_ARGUMENTS / 4));
        assert_eq!(arguments(&long), Err(long[..MAX_REFUSED].to_owned()));
    }

    #[test]
    fn digits_are_spelled() {
        assert_eq!(
            digits_text("12#"),
            "(The caller pressed the keys 1 2 # on the telephone keypad.)"
        );
        assert_eq!(digits_text("0"), "(The caller pressed the key 0 on the telephone keypad.)");
    }
}
