//! One task per live call: workers, admission, drain, call records.
//!
//! [`Exchange`] lives on the control runtime: it takes each INVITE that the SIP endpoint let through, finds the agent,
//! checks capacity and gives the call to a media worker. There [`CallCore`] joins the three pure machines of a call
//! (the leg, the model session, the call machine) and `task` is the short shell that owns its sockets and reads the
//! clock. When the call is over its record is written by [`RecordLog`] before anything forgets it.

mod annotations;
mod announce;
mod call;
mod consult;
mod consult_line;
mod consult_speech;
mod core;
mod exchange;
mod fork_call;
mod fork_line;
mod load;
mod models;
mod ports;
mod prompts;
mod quality_watch;
mod record;
mod record_log;
mod recording;
mod secure_media;
mod sip_call;
mod sip_line;
mod task;
mod tools;
mod waiting_speech;
mod written;

pub use announce::{Announcement, NotAnnounced};
pub use call::{CallControl, CallIdentity};
pub use consult::{Accept, ConsultSettings};
pub use core::{CallCore, CoreConfig, CoreOutput};
pub use exchange::{
    AgentProfile, CallFacts, Elsewhere, Exchange, ExchangeSettings, Refused, Route, Routes,
};
pub use fork_call::{ForkCall, TakenFork};
pub use fork_line::{ForkReport, Signalling};
pub use models::{ModelChoice, ModelOpener, OpenSession, Opened, VendorModels};
pub use ports::{MediaPorts, PortsExhausted};
pub use prompts::Prompts;
pub use record::call_record;
pub use record_log::{RecordLog, RecordLogStats};
pub use recording::{CallRecording, Consent, RECORDING_TOOLS, RecordingPlan, recording_tool};
pub use secure_media::SecureMedia;
pub use tandem_call::Invocation;
pub use tools::{CallTools, ToolContext, ToolReply, Tools};
