//! Tools that are carried out outside the machine.

use serde_json::json;
use tandem_call::{CallId, ToolCall, ToolCallId, ToolOutcome};
use tokio::sync::mpsc;

/// Brings one outcome back to the call that asked. Dropping it without an answer leaves the call to its deadline.
#[derive(Debug)]
pub struct ToolReply {
    id: ToolCallId,
    outcomes: mpsc::Sender<(ToolCallId, ToolOutcome)>,
}

impl ToolReply {
    /// A reply for the call of `id`.
    pub fn new(id: ToolCallId, outcomes: mpsc::Sender<(ToolCallId, ToolOutcome)>) -> Self {
        Self { id, outcomes }
    }

    /// Answers. A call that has ended meanwhile drops it; a call with a full inbox falls back to its deadline.
    pub fn send(self, outcome: ToolOutcome) {
        if self.outcomes.try_send((self.id, outcome)).is_err() {
            tracing::debug!("a tool's outcome came when nobody took it");
        }
    }
}

/// Carries tools out. Must not block: what takes time goes to a task of its own and answers through `reply`.
pub trait Tools: Send + Sync {
    /// Begins the tool call of `call_id`.
    fn start(&self, call_id: &CallId, call: ToolCall, reply: ToolReply);
}

/// What a standard tool does while it has no receiver: the request is written down in the call record and the model is
/// told so (control API 11.5).
#[derive(Debug, Clone, Copy, Default)]
pub struct NotedTools;

impl Tools for NotedTools {
    fn start(&self, call_id: &CallId, call: ToolCall, reply: ToolReply) {
        tracing::info!(%call_id, tool = call.name, "request noted");
        reply.send(ToolOutcome::Answered(json!({
            "status": "noted",
            "message": "I have written that down, and someone from the team will follow up.",
        })));
    }
}
