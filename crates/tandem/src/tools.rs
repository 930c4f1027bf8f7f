//! The tools of agents: what the configuration says of them, made into what carries them out.

mod equipment;
mod in_call;
mod listing;

pub use equipment::EquipError;
pub(crate) use equipment::{AgentEquipment, Equipment, Receivers, adds_origins};
pub(crate) use in_call::ToolsOfCall;
pub(crate) use listing::{Carrier, shown};
