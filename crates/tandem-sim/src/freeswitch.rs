//! A FreeSWITCH that is none, on loopback: event socket, outbound sockets, audio forks.
//!
//! A [`FakeSwitch`] answers the commands of the event socket from a small model of channels, raises their events in
//! the order a real switch was recorded to raise them, calls clients of the outbound event socket, and opens the
//! websockets of mod_audio_fork and mod_audio_stream, whose rules are in [`ForkModule`] without socket and clock.
//! Tests hold the far end of each channel: they speak, press keys, hang up, and see what was heard.
//! [`replay`] plays recorded conversations.

mod api;
mod apps;
mod arguments;
mod audio;
mod call;
mod channel;
mod command;
mod directory;
mod event;
mod event_socket;
mod fake;
mod fork;
mod fork_module;
mod fork_socket;
mod handle;
mod heard;
mod json;
mod lifecycle;
mod model;
mod originate;
pub mod replay;
mod serve;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod tick;
mod view;
mod websocket;

pub use audio::{Speech, SpeechGenerator, bytes_of, samples_of};
pub use call::{CallMode, FakeCall, ForkFirst};
pub use channel::Answer;
pub use event::SwitchEvent;
pub use fake::FakeSwitch;
pub use fork_module::{Edition, ForkEvent, ForkMessage, ForkModule, ForkSpec, Mix, SocketEnd};
pub use handle::ChannelHandle;
pub use heard::Heard;
pub use model::{Faults, SeenCommand};
pub use settings::{LegAct, SwitchConfig, Target};
pub use view::ChannelView;
