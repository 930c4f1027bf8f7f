//! The frame path of a call without its sockets: what one 20 ms frame costs in time and in allocations, and what a call holds.

mod allocations;
mod extras;
mod fork;
mod listener;
mod path;
mod phone;
mod wire;

pub use allocations::CountingAllocator;
pub use extras::Extras;
pub use path::{FramePath, Surroundings, Variant};
