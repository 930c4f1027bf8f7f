//! The frame path of a call without its sockets: what one 20 ms frame costs, in time and in allocations.

mod allocations;
mod fork;
mod path;
mod phone;
mod wire;

pub use allocations::CountingAllocator;
pub use path::{FramePath, Variant};
