//! The words of a call, and the machine that runs one.
//!
//! Adapters (SIP, models, the attendant) speak these words and know nothing of each other; the machine is pure:
//! inputs come with `now`, outputs are collected, nothing in here reads a clock, opens a socket or spawns a task.

mod agent;
mod announcement;
mod cause;
mod ids;
mod interruption;
mod leg;
mod machine;
mod media_leg;
mod model;
mod record;
mod session;
mod standard_tools;
#[cfg(test)]
mod testing;
mod tool;
mod tool_texts;

pub use agent::{AgentSpec, Greeting, LateResults, TransferRoutes};
pub use announcement::{ATTENDED_PATIENCE, TRANSFER_ANNOUNCEMENT, transfer_announcement};
pub use cause::{EndReason, EndedBy, HangupCause};
pub use ids::{CallId, InvocationId, ItemId, PhraseId, ToolCallId};
pub use interruption::Interruption;
pub use leg::{
    Cut, Digit, FilePlayback, LegCommand, LegEvent, Prompt, SignalCommand, SignalEvent,
    TransferKind, TransferMode, TransferOutcome, TransferTarget,
};
pub use machine::{CallMachine, CallOutcome, Input, Output, Patience};
pub use media_leg::{MediaLeg, Origin, Tap, UplinkFrame};
pub use model::{
    Capabilities, Greet, HistoryTurn, ModelCommand, ModelEvent, ModelFailure, Reaction,
    ResponseEnd, Speaker, Usage,
};
pub use record::{
    BargeIns, CallRecord, InvocationRecord, LegQuality, Party, RecordingRecord, ToolRecord,
    TranscriptTurn, TransferRecord, TurnLedger,
};
pub use session::{ModelSession, ModelSink, SessionSpec, UplinkStats};
pub use standard_tools::{STANDARD_TOOLS, standard_tool};
pub use tool::{
    AgentTool, Filler, FollowUp, Invocation, ToolCall, ToolDeclaration, ToolMode, ToolOutcome,
    ToolReport, Verdict,
};
pub use tool_texts::ToolTexts;
