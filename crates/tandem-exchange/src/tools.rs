//! The port to tools that are carried out outside the machine.

use std::collections::BTreeMap;

use tandem_call::{CallId, Invocation, Party, ToolReport};
use tokio::sync::mpsc;

/// Carries out the tools of an agent.
pub trait Tools: Send + Sync {
    /// Begins to do so for one call, at its beginning. Must not block.
    fn open(&self, call: ToolContext) -> Box<dyn CallTools>;
}

/// Carries out the tools of one call. Dropped when the call is over: what was sent by then may finish, and nobody hears of it.
///
/// Neither method may block: what takes time goes to a task of its own.
pub trait CallTools: Send {
    /// Begins `invocation`, which is answered through `reply`.
    fn start(&mut self, invocation: Invocation, reply: ToolReply);

    /// Nobody waits for the invocation of this number any more. What was not sent need not be; a report is dropped.
    fn cancel(&mut self, number: u32);
}

/// What is known of a call when its tools are opened.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolContext {
    /// The call.
    pub call_id: CallId,
    /// The agent that answers.
    pub agent_id: String,
    /// Its language, BCP-47.
    pub language: String,
    /// The caller.
    pub from: Party,
    /// The dialled number.
    pub to: Party,
    /// X- headers, User-to-User and the like.
    pub variables: BTreeMap<String, String>,
}

/// Brings the reports of one invocation back to its call: what came of it, and after the deadline once more when an answer
/// comes late. Without a report the call goes on at its deadline.
#[derive(Debug, Clone)]
pub struct ToolReply {
    number: u32,
    reports: mpsc::Sender<(u32, ToolReport)>,
}

impl ToolReply {
    /// A reply for the invocation of `number`.
    pub fn new(number: u32, reports: mpsc::Sender<(u32, ToolReport)>) -> Self {
        Self { number, reports }
    }

    /// Reports. A call that has ended meanwhile drops it; a call with a full inbox falls back to its deadline.
    pub fn send(&self, report: ToolReport) {
        if self.reports.try_send((self.number, report)).is_err() {
            tracing::debug!(number = self.number, "a tool's report came when nobody took it");
        }
    }
}
