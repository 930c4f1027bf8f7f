//! What the channel machine wants done, and who waits for which result.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::Duration,
};

use tandem_call::SignalEvent;

use crate::{ChannelUuid, SwitchCommand, VariableName, VariableValue};

/// Names an order until its result comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What comes out of a [`super::Channel`].
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelOutput {
    /// To be done.
    Order(ChannelOrder),
    /// For the call.
    Event(SignalEvent),
    /// For the log.
    Note(ChannelNote),
}

/// What a [`super::Channel`] wants done outside.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelOrder {
    /// Give this to the switch, in this order, and its result to [`super::Channel::handle_result`].
    Switch {
        /// Comes back with the result, once.
        ticket: Ticket,
        /// The order.
        command: Box<SwitchCommand>,
    },
    /// From now on also give this channel's events to [`super::Channel::handle_event`].
    Watch(ChannelUuid),
    /// No longer.
    Unwatch(ChannelUuid),
    /// Say this to the leg that just answered, then tell [`super::Channel::handle_announced`].
    Announce {
        /// The leg.
        uuid: ChannelUuid,
        /// What it should hear.
        text: String,
    },
    /// Fall silent there and take away what was attached to the leg; no answer is expected.
    StopAnnouncing(ChannelUuid),
    /// Tell [`super::Channel::handle_media`] `attached` when more audio has come by the fork; nothing where none does.
    ProbeMedia,
}

/// What happened to a channel that an operator may want to know.
#[derive(Debug, Clone, PartialEq)]
pub enum ChannelNote {
    /// The fork failed; it is started again after `wait`.
    ForkFailed {
        /// What the module or the switch said.
        why: String,
        /// How often in a row.
        attempt: u32,
        /// How long until it is tried again.
        wait: Duration,
    },
    /// The fork cannot be had: the call is ended or handed to the fallback extension.
    ForkGivenUp {
        /// The last failure.
        why: String,
    },
    /// Tandem did not read fast enough, and the module threw audio away.
    ForkOverrun,
    /// A file is to be played that no leg of ours asked for.
    StrangeFile,
    /// A piece of speech was not played.
    NotPlayed {
        /// Why not.
        reason: String,
    },
    /// A variable was not set.
    VariableDropped {
        /// Its name.
        name: String,
        /// Why not.
        why: String,
    },
    /// A step of a transfer.
    Transfer(String),
    /// A leg could not be ended; its own time-outs must do it.
    LegLeft {
        /// The leg.
        uuid: ChannelUuid,
    },
    /// The switch never confirmed the hang-up.
    HangUpUnconfirmed,
    /// Somebody else moved the caller.
    TakenOver(String),
    /// The switch refused an order on which nothing depends.
    Refused {
        /// Which.
        command: &'static str,
        /// What it said.
        why: String,
    },
}

impl fmt::Display for ChannelNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForkFailed { why, attempt, wait } => {
                write!(f, "the fork failed ({why}), attempt {attempt}, again in {wait:?}")
            }
            Self::ForkGivenUp { why } => write!(f, "the fork is given up: {why}"),
            Self::ForkOverrun => f.write_str("the fork's buffer overran, audio was lost"),
            Self::StrangeFile => f.write_str("a file to play came without the number of a piece"),
            Self::NotPlayed { reason } => write!(f, "a piece of speech was not played: {reason}"),
            Self::VariableDropped { name, why } => write!(f, "variable {name} is not set: {why}"),
            Self::Transfer(step) => write!(f, "transfer: {step}"),
            Self::LegLeft { uuid } => write!(f, "the leg {uuid} could not be ended"),
            Self::HangUpUnconfirmed => f.write_str("the switch did not confirm the hang-up"),
            Self::TakenOver(how) => write!(f, "somebody else took the caller: {how}"),
            Self::Refused { command, why } => write!(f, "{command} was refused: {why}"),
        }
    }
}

/// Who waits for a result.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Purpose {
    /// Nobody; a refusal is noted.
    Nothing(&'static str),
    Answer,
    HangUp,
    ForkStart,
    ForkStop,
    Fallback,
    Annotate(Vec<(VariableName, VariableValue)>),
    Play(u64),
    Break,
    /// What the channel is doing, after the link was down.
    Recover,
    /// Whether the channel is really connected with this one.
    RecoverPeer(ChannelUuid),
    /// Whether there still is a channel, of which a fork was refused.
    Exists,
    /// No ringing in the caller's ear any more.
    Silence,
    /// Of a transfer: whether the place exists.
    Check,
    Originate(ChannelUuid),
    Bridge,
    /// Whether the bridge is there, of which no event came.
    BridgeCheck,
    HandOver,
    KillLeg(ChannelUuid),
}

/// Outputs in order, and the tickets that are out.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    outputs: VecDeque<ChannelOutput>,
    pending: BTreeMap<Ticket, Purpose>,
    last: u64,
}

impl Outbox {
    /// Orders `command`; its result is for `purpose`.
    pub(super) fn order(&mut self, command: SwitchCommand, purpose: Purpose) -> Ticket {
        self.last += 1;
        let ticket = Ticket(self.last);
        self.pending.insert(ticket, purpose);
        self.push(ChannelOrder::Switch { ticket, command: Box::new(command) });
        ticket
    }

    pub(super) fn push(&mut self, order: ChannelOrder) {
        self.outputs.push_back(ChannelOutput::Order(order));
    }

    pub(super) fn tell(&mut self, event: SignalEvent) {
        self.outputs.push_back(ChannelOutput::Event(event));
    }

    pub(super) fn note(&mut self, note: ChannelNote) {
        self.outputs.push_back(ChannelOutput::Note(note));
    }

    /// Whose result this is; `None` for one that was given already, or that nobody wants any more.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Purpose> {
        self.pending.remove(&ticket)
    }

    /// Whether a result for a purpose like this is awaited.
    pub(super) fn awaits(&self, purpose: impl Fn(&Purpose) -> bool) -> bool {
        self.pending.values().any(purpose)
    }

    /// Lets results for such purposes come and go.
    pub(super) fn forget(&mut self, purpose: impl Fn(&Purpose) -> bool) {
        self.pending.retain(|_, it| !purpose(it));
    }

    pub(super) fn poll(&mut self) -> Option<ChannelOutput> {
        self.outputs.pop_front()
    }
}
