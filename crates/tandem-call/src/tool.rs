//! Tools: what a model asks to be done.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::ToolCallId;

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

/// How a tool call came out. Every call gets exactly one.
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
