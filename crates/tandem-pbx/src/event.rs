//! What happens to a channel, as the switch tells it.

mod fork;
mod read;

use std::{sync::Arc, time::Duration};

pub use fork::ForkEvent;
use tandem_call::Digit;

use crate::{Cause, ChannelUuid, EventHeaders, ForkModule, MediaPath};

/// Something that happened to a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelEvent {
    /// The channel.
    pub uuid: ChannelUuid,
    /// What.
    pub kind: ChannelEventKind,
    /// All that the switch said with it. Digits and states come without variables.
    pub headers: Arc<EventHeaders>,
}

/// How a digit reached the switch. One key press may be reported from two sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DigitSource {
    /// In RTP (RFC 4733).
    Rtp,
    /// By SIP INFO.
    Endpoint,
    /// Heard in the audio.
    Inband,
    /// Made by an application or a command.
    App,
    /// Not said.
    Unknown,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelEventKind {
    /// The channel is there.
    Created,
    /// It rings; `early`: with media.
    Progress { early: bool },
    /// It was answered.
    Answered,
    /// It is connected with `peer`. Told to both.
    Bridged { peer: ChannelUuid },
    /// It is no longer connected with `peer`.
    Unbridged { peer: ChannelUuid },
    /// It is on hold.
    Held,
    /// It is no longer on hold.
    Unheld,
    /// It waits.
    Parked,
    /// It no longer waits.
    Unparked,
    /// An application begins.
    Executed { app: String, args: String, tag: Option<String> },
    /// An application has ended, with this to say (empty where nothing).
    ExecuteComplete { app: String, args: String, response: String, tag: Option<String> },
    /// A key was pressed by the far end; comes when it is released.
    Digit { digit: Digit, duration: Duration, source: DigitSource },
    /// A file begins to play.
    PlaybackStarted { file: String },
    /// A file is no longer played: at its end, or (`broken`) before.
    PlaybackStopped { file: String, broken: bool },
    /// A recording begins.
    RecordStarted { path: String },
    /// A recording has ended.
    RecordStopped { path: String },
    /// Something was attached to the channel's media.
    BugStarted { function: String },
    /// It was taken off.
    BugStopped { function: String },
    /// Of a fork; `bug` is its name where the module says it.
    Fork { module: ForkModule, bug: Option<String>, event: ForkEvent },
    /// It ends. The variables of the whole call follow with `HungUpComplete`.
    HungUp { cause: Cause },
    /// It has ended; `headers` hold its last variables.
    HungUpComplete { cause: Cause },
    /// It is gone, and its uuid with it.
    Destroyed,
    /// Of a valet parking lot: `hold`, `bridge` or `exit`.
    Valet { lot: String, slot: String, action: String },
    /// Of a conference: `add-member`, `del-member`, `bgdial-result`, …
    Conference { name: String, action: String, member: Option<u32> },
    /// Another.
    Other { name: String },
}

impl ChannelEvent {
    /// An event without headers.
    pub fn new(uuid: ChannelUuid, kind: ChannelEventKind) -> Self {
        Self { uuid, kind, headers: Arc::default() }
    }

    /// The value of the channel variable `name`, where the event carries variables.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.headers.variable(name)
    }

    /// The file that a fork's far end sent, where it did and its name can be carried.
    pub fn play_file(&self) -> Option<&MediaPath> {
        match &self.kind {
            ChannelEventKind::Fork { event: ForkEvent::PlayFile { file, .. }, .. } => file.as_ref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
