//! The SIP user agent: offer/answer, dialogs, session timers, REFER, admission, authentication.
//!
//! Everything above transactions is pure and runs on a clock handed in; `endpoint` is the shell that owns the
//! sockets, `offline` does without any, and `stack` is the boundary behind which messages travel.

mod action;
mod admission;
mod agent;
mod body;
mod call;
mod caller;
mod cause;
mod dialog;
mod digest;
mod endpoint;
mod headers;
mod ids;
pub mod message;
mod offer_answer;
pub mod offline;
mod refer;
pub mod sdp;
mod security;
mod session_timer;
mod settings;
mod stack;
pub mod uri;

pub use agent::{DoorStats, Invitation};
pub use call::{
    Consultation, DialogEvent, DialogHandle, DialogId, IncomingCall, LocalMedia, OutgoingCall,
    Rejection,
};
pub use endpoint::{SipEndpoint, SipHandle, SipStats};
pub use headers::Headers;
pub use offer_answer::OfferError;
pub use security::{KeyExchange, LocalSecurity, SecurityError, SrtpPolicy};
pub use settings::{CodecPreference, Credential, Limits, Listener, SipSettings, Transport};
pub use stack::BindError;
