//! Stories of calls on a virtual clock.

#![expect(clippy::wildcard_enum_match_arm, reason = "a story looks only at what it is about")]

mod barge_in;
mod endings;
mod interruptions;
mod limits;
mod marked_turns;
mod models;
mod pauses;
mod setup;
mod tool_follow_ups;
mod tool_modes;
mod tool_waits;
mod tools;
mod transfers;
mod waits;
mod world;
