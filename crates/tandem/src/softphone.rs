//! A telephone for scripts: it calls, plays, presses digits, listens, records and reports.
//!
//! [`Phone`] is the whole telephone as a machine on a clock handed in; `line` is the shell around it with SIP, sockets
//! and the real clock.

mod cue;
pub mod ledger;
mod line;
mod monitor;
mod notes;
mod phone;
mod plan;
pub mod recording;
mod report;
mod target;
mod turns;
pub mod wav;

pub use cue::{Cue, DigitCue, HeaderArg, WavCue};
pub use line::{CallError, call};
pub use phone::{Action, Phone};
pub use plan::CallPlan;
pub use report::{CallReport, TurnReport};
pub use target::Target;
pub use turns::{HeardTurn, Turns};
pub use wav::Clip;
