//! Whole calls on virtual time: the real leg, machine, session and websocket against a fake model on loopback.
//!
//! [`World`] joins the parts and moves its clock 20 ms a step; a step is over when the socket is quiet, so a call runs as
//! fast as the machine can and always the same way. [`Tap`] sits between the session and its dialect and notes what
//! passes, [`Ear`] is what the caller hears, [`play`] runs a scenario of `tandem-sim` and compares what came of it.

mod agent;
mod caller;
mod config;
mod ear;
mod fakes;
mod server;
mod story;
mod tap;
mod verdict;
mod world;

pub use agent::{agent, custom_tool, find_repair, opening_hours};
pub use caller::{Caller, Sound};
pub use config::{ToolPlay, TransferScript, WorldConfig};
pub use ear::{Ear, Stretch, Voiced};
pub use fakes::{FakeModel, FakeModels};
pub use story::play;
pub use tap::{Note, SharedTap, Tap, Tapped};
pub use verdict::Finished;
pub use world::World;
