//! Tools: what a model asks to be done, how it is run, and how it came out.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{PhraseId, ToolCallId, TransferTarget};

/// A tool as it is offered to the model; each dialect translates it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolDeclaration {
    /// Letters, digits, `_` and `-`, at most 64 characters.
    pub name: String,
    /// Tells the model when to use it.
    pub description: String,
    /// JSON Schema of the arguments, `type: object`.
    pub parameters: Value,
}

/// How the conversation and a tool's call go together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolMode {
    /// The model waits for the result before it goes on.
    #[default]
    Blocking,
    /// The model is told that it runs and goes on talking; the result follows as text.
    Background,
    /// The model is told that it was accepted and never hears of it again.
    FireAndForget,
}

/// What the caller hears while a tool runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filler {
    /// When nobody has said anything for so long since the tool was called.
    pub after: Duration,
    /// The words, one of [`crate::AgentSpec::phrases`].
    pub phrase: PhraseId,
}

/// A tool of an agent: what the model is told of it, and how its calls are run.
#[derive(Debug, Clone, PartialEq)]
pub struct AgentTool {
    /// What the model is told.
    pub declaration: Arc<ToolDeclaration>,
    /// Whether the model waits.
    pub mode: ToolMode,
    /// From the complete call to the last byte of the answer.
    pub timeout: Duration,
    /// What the caller hears meanwhile.
    pub filler: Option<Filler>,
    /// The caller's speech stops the filler. What was sent is never taken back by it.
    pub interruptible: bool,
    /// Arguments whose values are not kept, as JSON pointers (RFC 6901).
    pub redacted: Arc<[String]>,
}

impl AgentTool {
    /// A tool that the model waits for, with no words of its own meanwhile.
    pub fn new(declaration: ToolDeclaration, timeout: Duration) -> Self {
        Self {
            declaration: Arc::new(declaration),
            mode: ToolMode::Blocking,
            timeout,
            filler: None,
            interruptible: true,
            redacted: Arc::default(),
        }
    }

    /// `arguments` as they may be kept: every redacted value is `"[redacted]"`. So is what a model writes in place of an
    /// object that holds one, and, where anything is redacted, every argument that the tool does not know: it may be
    /// the same value by another name.
    pub fn kept_arguments(&self, arguments: &Value) -> Value {
        let mut kept = arguments.clone();
        if self.redacted.is_empty() {
            return kept;
        }
        let known = self.declaration.parameters.get("properties").and_then(Value::as_object);
        for (name, value) in kept.as_object_mut().into_iter().flatten() {
            if known.is_none_or(|known| !known.contains_key(name)) {
                *value = Value::from(REDACTED);
            }
        }
        for pointer in &*self.redacted {
            redact(&mut kept, pointer);
        }
        kept
    }
}

const REDACTED: &str = "[redacted]";

/// Redacts what `pointer` leads to in `value`, or the last thing on the way to it that is no object.
fn redact(value: &mut Value, pointer: &str) {
    let mut place = value;
    for name in pointer.split('/').skip(1) {
        let name = name.replace("~1", "/").replace("~0", "~");
        if !place.is_object() {
            break;
        }
        match place.get_mut(&name) {
            Some(inner) => place = inner,
            None => return,
        }
    }
    *place = Value::from(REDACTED);
}

/// A complete tool call of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// The model's id, echoed with the result.
    pub id: ToolCallId,
    /// Which tool, as the model wrote it: it may not exist.
    pub name: String,
    /// The arguments, or the raw text when it was no JSON object.
    pub arguments: Result<Value, String>,
}

/// A tool call that is to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// Its number in the call, from 1: [`crate::CallId::invocation`] makes its id of it.
    pub number: u32,
    /// What the model asks.
    pub call: ToolCall,
    /// What comes later than this is not what the model is waiting for.
    pub deadline: Instant,
    /// From the complete call to the deadline.
    pub timeout: Duration,
}

/// How a tool call came out, for the model. Every call gets exactly one.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolOutcome {
    /// The tool answered; a JSON object for the model.
    Answered(Value),
    /// The tool failed; the text says why.
    Failed(String),
    /// The deadline passed.
    TimedOut,
    /// The model took the call back, or the call ended first; nothing is sent to the model.
    Cancelled,
}

/// What became of an invocation, in one word (control API 10.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The tool answered and its answer is what the model got.
    Ok,
    /// Nobody receives it, or the receiver had nothing to say: the model was told that it is noted.
    FallbackNoted,
    /// It is not known to have been done: the model was told of trouble.
    FallbackTrouble,
    /// The model's arguments were wrong, and it was told how.
    InvalidArguments,
    /// It was not carried out: no such tool, too many at a time, not allowed.
    Rejected,
    /// Taken back by the model, or the call ended first.
    Cancelled,
    /// The answer came after the deadline.
    Late,
}

/// What a tool's receiver asks for beside its answer (control API 11.3).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FollowUp {
    /// End the call when the answer has been said.
    pub end_call: bool,
    /// Hand the caller over when the answer has been said.
    pub transfer: Option<TransferTarget>,
    /// Say exactly this rather than what the model makes of it.
    pub verbatim: Option<String>,
    /// Kept in the call's record, newer values over older ones.
    pub metadata: Map<String, Value>,
}

/// What whoever carries out a tool reports of it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolReport {
    /// For the model.
    pub outcome: ToolOutcome,
    /// For the record.
    pub verdict: Verdict,
    /// Of the receiver's answer.
    pub http_status: Option<u16>,
    /// How often it was tried: 0 when nothing was sent.
    pub attempts: u8,
    /// What went wrong, for the record; no secrets.
    pub error: Option<String>,
    /// What is to be done beside.
    pub follow_up: FollowUp,
}

impl From<ToolOutcome> for ToolReport {
    /// The report of a tool that is carried out in one piece and without a network.
    fn from(outcome: ToolOutcome) -> Self {
        let (verdict, error) = match &outcome {
            ToolOutcome::Answered(_) => (Verdict::Ok, None),
            ToolOutcome::Failed(why) => (Verdict::Rejected, Some(why.clone())),
            ToolOutcome::TimedOut => (Verdict::FallbackTrouble, None),
            ToolOutcome::Cancelled => (Verdict::Cancelled, None),
        };
        let (http_status, attempts) = (None, 0);
        Self { outcome, verdict, http_status, attempts, error, follow_up: FollowUp::default() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn redacted_arguments_are_not_kept_and_the_rest_is() {
        let declaration = ToolDeclaration {
            name: "pay".into(),
            description: "Pays.".into(),
            parameters: json!({ "type": "object", "properties": { "card": {}, "pin": {}, "note": {} } }),
        };
        let tool = AgentTool {
            redacted: ["/card/number".to_owned(), "/pin".to_owned()].into(),
            ..AgentTool::new(declaration, Duration::from_secs(9))
        };
        assert_eq!(
            tool.kept_arguments(&json!({ "card": { "number": "4111", "year": 30 }, "note": "x" })),
            json!({ "card": { "number": "[redacted]", "year": 30 }, "note": "x" })
        );
        assert_eq!(
            tool.kept_arguments(&json!({ "card": "4111", "PIN": "12", "note": "x" })),
            json!({ "card": "[redacted]", "PIN": "[redacted]", "note": "x" })
        );
    }
}
