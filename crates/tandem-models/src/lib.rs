//! Realtime voice models: OpenAI Realtime and Gemini Live.
//!
//! A dialect is pure: it turns a vendor's messages into [`tandem_call::ModelEvent`]s and commands into messages. One
//! driver owns the websocket for all of them. A new vendor is one dialect and one line in [`open`].

mod calls;
mod dialect;
mod envelope;
mod failure;
mod gemini_live;
mod json;
mod lead_in;
mod openai_realtime;
mod probe;
mod session;
mod settings;

pub use dialect::{DialectError, ModelDialect, Outbox, Renewal, Verdict};
pub use gemini_live::GeminiLive;
pub use openai_realtime::OpenAiRealtime;
pub use probe::{ProbeReport, probe};
pub use session::{WsSession, open};
pub use settings::{
    ModelOptions, ModelSettings, Provider, Thinking, TurnDetection, UnknownProvider, capabilities,
};
