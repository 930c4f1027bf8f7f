//! The caller's side: what is ordered of a leg and what it reports.
//!
//! A leg has two faces. Media (RTP, a fork's websocket) lives on the call's worker: [`LegCommand`], [`LegEvent`].
//! Signalling (SIP, the event socket) lives on the control runtime: [`SignalCommand`], [`SignalEvent`].

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{HangupCause, ItemId, PhraseId};

/// A DTMF digit: `0`-`9`, `*`, `#`, `A`-`D`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "char", into = "char")]
pub struct Digit(char);

impl Digit {
    /// The digit `c`, lower-case letters included.
    pub const fn new(c: char) -> Option<Self> {
        match c.to_ascii_uppercase() {
            c @ ('0'..='9' | '*' | '#' | 'A'..='D') => Some(Self(c)),
            _ => None,
        }
    }

    /// The digit of a telephone-event code (RFC 4733 §3.2); others are tones, not digits.
    pub const fn from_event(event: u8) -> Option<Self> {
        match event {
            0..=9 => Some(Self((b'0' + event) as char)),
            10 => Some(Self('*')),
            11 => Some(Self('#')),
            12..=15 => Some(Self((b'A' + event - 12) as char)),
            _ => None,
        }
    }

    /// Its telephone-event code (RFC 4733 §3.2).
    pub const fn event(self) -> u8 {
        match self.0 {
            '*' => 10,
            '#' => 11,
            c @ 'A'..='D' => c as u8 - b'A' + 12,
            c => c as u8 - b'0',
        }
    }

    /// As a character.
    pub const fn as_char(self) -> char {
        self.0
    }
}

impl fmt::Display for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Digit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digit(•)") // A digit may be part of a card number or a PIN.
    }
}

impl TryFrom<char> for Digit {
    type Error = String;
    fn try_from(c: char) -> Result<Self, String> {
        Self::new(c).ok_or_else(|| format!("{c:?} is no DTMF digit (0-9, *, #, A-D)"))
    }
}

impl From<Digit> for char {
    fn from(digit: Digit) -> Self {
        digit.0
    }
}

/// What was thrown away of one item when the playout queue was cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The item that still had audio queued.
    pub item: ItemId,
    /// What the caller heard of it: audio sent in packets.
    pub heard: Duration,
    /// What the model had sent of it so far.
    pub received: Duration,
}

/// A sentence Tandem says by itself, rendered before any call needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Prompt {
    /// The caller waits.
    OneMoment,
    /// The caller waits for a model that is gone or says nothing.
    Trouble,
    /// The call ends by our own decision.
    Goodbye,
    /// A phrase of the agent's own.
    Phrase(PhraseId),
}

impl Prompt {
    /// Those that are the same for all agents.
    pub const SHIPPED: [Self; 3] = [Self::OneMoment, Self::Trouble, Self::Goodbye];

    /// What is said in it; of a phrase the agent knows that.
    pub const fn text(self) -> Option<&'static str> {
        match self {
            Self::OneMoment => Some("One moment, please."),
            Self::Trouble => Some("Sorry, I am having trouble. Please stay on the line."),
            Self::Goodbye => {
                Some("I am sorry, I can't go on with this call. Please call again later. Goodbye.")
            }
            Self::Phrase(_) => None,
        }
    }
}

/// Orders to the media of a leg.
#[derive(Debug, Clone, PartialEq)]
pub enum LegCommand {
    /// Throw away all queued audio; the leg answers [`LegEvent::PlayoutCleared`].
    ClearPlayout,
    /// Queue a prompt as item `item`, after what is queued already.
    Play { item: ItemId, prompt: Prompt },
    /// Pause playout (hold) or go on with it.
    Pause(bool),
    /// Fall silent within a packet and keep all that was not heard, or go on at that very sample. Apart from
    /// [`LegCommand::Pause`]; [`LegCommand::ClearPlayout`] ends it.
    Duck(bool),
}

/// Reports of the media of a leg.
#[derive(Debug, Clone, PartialEq)]
pub enum LegEvent {
    /// The first packet with audio of `item` has left.
    PlayoutStarted { item: ItemId },
    /// The last sample of `item` has been played: its last packet left one packet time ago and nothing more of it
    /// is queued. More audio of the same item may still come from the model.
    PlayoutDrained { item: ItemId },
    /// The queue was cleared; `cut` lists each item that lost audio, in playing order, the one being played first.
    PlayoutCleared { cut: Vec<Cut> },
    /// A digit, once.
    Digit(Digit),
    /// The caller began to speak, by the leg's own voice activity detector.
    SpeechStarted,
    /// Nothing was heard of a caller who speaks for `ago`: a pause, or the end.
    SpeechPaused { ago: Duration },
    /// He is heard again after a pause.
    SpeechResumed,
    /// The caller fell silent; the last sample of speech arrived `ago`.
    SpeechStopped { ago: Duration },
    /// No RTP for longer than the media time-out.
    MediaTimeout,
}

/// Where a human is reached (control API, section 7).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransferTarget {
    /// What kind of place `target` names.
    #[serde(rename = "type")]
    pub kind: TransferKind,
    /// Extension, E.164 number, queue name or SIP URI.
    pub target: String,
    /// Whether somebody is spoken to before the caller is handed over.
    #[serde(default, skip_serializing_if = "TransferMode::is_blind")]
    pub mode: TransferMode,
}

impl TransferTarget {
    /// A place to which callers are handed over blindly.
    pub fn new(kind: TransferKind, target: impl Into<String>) -> Self {
        Self { kind, target: target.into(), mode: TransferMode::Blind }
    }
}

/// How a caller is handed over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferMode {
    /// The caller hears the target ring.
    #[default]
    Blind,
    /// The target is called first and told what it is about; the caller waits, and comes back when nobody takes the call.
    /// A leg that cannot do it hands over blindly.
    Attended,
}

impl TransferMode {
    /// Whether it is the plain way.
    pub const fn is_blind(&self) -> bool {
        matches!(self, Self::Blind)
    }
}

/// Kinds of transfer target; a SIP leg turns each into a Refer-To URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferKind {
    /// An extension of the PBX.
    Extension,
    /// A queue of the PBX.
    Queue,
    /// A ring group of the PBX.
    Ringgroup,
    /// A menu of the PBX.
    Ivr,
    /// A mailbox of the PBX.
    Voicemail,
    /// A conference room of the PBX.
    Conference,
    /// An outside number in E.164.
    External,
    /// A full SIP URI.
    Sip,
}

impl TransferKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 8] = [
        Self::Extension,
        Self::Queue,
        Self::Ringgroup,
        Self::Ivr,
        Self::Voicemail,
        Self::Conference,
        Self::External,
        Self::Sip,
    ];

    /// The word for it in configuration and API.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Extension => "extension",
            Self::Queue => "queue",
            Self::Ringgroup => "ringgroup",
            Self::Ivr => "ivr",
            Self::Voicemail => "voicemail",
            Self::Conference => "conference",
            Self::External => "external",
            Self::Sip => "sip",
        }
    }

    /// The kind of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// How a transfer went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransferOutcome {
    /// The target answered, or the PBX took the call over for good.
    Completed,
    /// It did not; the caller is still ours. `status` is the SIP status of the target where known.
    Failed { status: Option<u16>, reason: String },
}

/// Orders to the signalling of a leg.
#[derive(Debug, Clone, PartialEq)]
pub enum SignalCommand {
    /// Answer the call: 200 with the SDP answer.
    Answer,
    /// Refuse the call before it was answered.
    Reject { cause: HangupCause },
    /// End an answered call.
    HangUp { cause: HangupCause },
    /// Hand the caller over; progress comes back as [`SignalEvent::Transfer`], once.
    Transfer { target: TransferTarget, headers: Vec<(String, String)> },
    /// Keep these with the call at the PBX, as channel variables; a leg that has no such place ignores it.
    Annotate { variables: Vec<(String, String)> },
    /// Stop the file that the PBX plays for the leg, and those that wait behind it.
    BreakPlayback,
}

/// What the PBX says of a file that it plays for a leg whose media cannot be played back directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FilePlayback {
    /// The first sample is on its way to the caller.
    Started { id: u64 },
    /// Nothing more of it is played: it came to its end, or (`broken`) it was stopped.
    Stopped { id: u64, broken: bool },
    /// It was not played at all.
    Failed { id: u64, reason: String },
}

/// Reports of the signalling of a leg.
#[derive(Debug, Clone, PartialEq)]
pub enum SignalEvent {
    /// The answer is on its way; media flows from here on.
    Answered,
    /// The caller gave up before the answer.
    Cancelled,
    /// The far side hung up, or signalling lost it (no ACK, session timer).
    HungUp { cause: HangupCause },
    /// The far side put us on hold or took us back.
    Held(bool),
    /// A digit by SIP INFO.
    Digit(Digit),
    /// The outcome of [`SignalCommand::Transfer`].
    Transfer(TransferOutcome),
    /// Somebody else at the PBX took the caller: bridged or transferred away. The call goes on without us.
    TakenOver,
    /// Of a file played for the leg.
    Playback(FilePlayback),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digit_and_its_event_code() {
        for (c, event) in [('0', 0), ('9', 9), ('*', 10), ('#', 11), ('A', 12), ('d', 15)] {
            let digit = Digit::new(c).unwrap();
            assert_eq!(digit.event(), event);
            assert_eq!(Digit::from_event(event), Some(digit));
        }
        assert_eq!(Digit::new('x'), None);
        assert_eq!(Digit::from_event(16), None);
    }
}
