//! The event socket's framing: header blocks with bodies, and the headers of events.

mod frame;
mod headers;

pub(crate) use frame::{Frame, FrameKind, FrameReader};
pub use headers::EventHeaders;
