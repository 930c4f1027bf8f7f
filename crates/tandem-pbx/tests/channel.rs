//! The channel machine against a small model of a switch, on virtual time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

#[path = "channel/answering.rs"]
mod answering;
#[path = "channel/anything.rs"]
mod anything;
#[path = "channel/captures.rs"]
mod captures;
#[path = "channel/controls.rs"]
mod controls;
#[path = "channel/forks.rs"]
mod forks;
#[path = "channel/links.rs"]
mod links;
#[path = "channel/ownership.rs"]
mod ownership;
#[path = "channel/switch.rs"]
mod switch;
#[path = "channel/transfers.rs"]
mod transfers;
#[path = "channel/world.rs"]
mod world;
