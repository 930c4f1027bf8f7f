//! The choices that commands leave.

use std::time::Duration;

use super::{
    AppArgs, Application, ChannelUuid, Connect, MediaPath, Originate, Text, VariableName,
    VariableValue, Word,
};

/// Which leg of a bridged pair a transfer moves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TransferLeg {
    /// The channel itself; its partner hangs up or goes on as its variables say.
    #[default]
    Own,
    /// The channel's partner.
    Partner,
    /// Both, to the same place.
    Both,
}

/// Who hears what is broadcast.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum BroadcastLeg {
    /// The channel.
    #[default]
    Own,
    /// Its partner.
    Partner,
    /// Both.
    Both,
}

/// What is played to a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Playable {
    /// A file or a stream.
    File(MediaPath),
    /// Text for the speech engine `engine` of the switch, in the voice `voice`.
    Speak { engine: Word, voice: Word, text: Text },
    /// Text for the switch's own recorded words (mod_say): numbers, times, spelling.
    Say { language: Word, kind: Word, method: Word, text: Text },
    /// Any application.
    Application(Application),
}

/// Where a valet-parked call waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValetSlot {
    /// In this slot; who is there already is picked up instead.
    Slot(Word),
    /// In the next free slot of these; which one is told by [`crate::ChannelEventKind::Valet`].
    Range { first: u32, last: u32 },
}

/// Which of a channel's two directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// What its far end says.
    Read,
    /// What its far end hears.
    Write,
}

/// What is done with a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordAction {
    /// Begin it; the limit is in whole seconds.
    Start {
        limit: Option<Duration>,
    },
    Stop,
    Pause,
    Resume,
    /// Write silence in place of what is said, until `Unmask`.
    Mask,
    Unmask,
}

/// What one who listens in may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EavesdropMode {
    /// Hear both sides.
    #[default]
    Listen,
    /// Also speak to the channel's far end; its partner does not hear it.
    WhisperToChannel,
    /// Also speak to the channel's partner; its far end does not hear it.
    WhisperToPartner,
    /// Speak to both.
    Barge,
}

/// Lets somebody listen in on a channel, by calling them.
#[derive(Debug, Clone, PartialEq)]
pub struct Eavesdrop {
    /// The channel listened to.
    pub uuid: ChannelUuid,
    /// The call to the listener; what it is connected to is not used.
    pub listener: Originate,
    /// What the listener may do.
    pub mode: EavesdropMode,
}

impl TransferLeg {
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Partner => " -bleg",
            Self::Both => " -both",
        }
    }
}

impl BroadcastLeg {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Own => "aleg",
            Self::Partner => "bleg",
            Self::Both => "both",
        }
    }
}

impl RecordAction {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Mask => "mask",
            Self::Unmask => "unmask",
        }
    }
}

impl Playable {
    pub(super) fn to_text(&self) -> String {
        match self {
            Self::File(path) => path.to_string(),
            Self::Speak { engine, voice, text } => {
                format!("speak::{engine}|{voice}|{}", text.as_str().replace(['\r', '\n'], " "))
            }
            Self::Say { language, kind, method, text } => {
                format!(
                    "say::{language} {kind} {method} {}",
                    text.as_str().replace(['\r', '\n'], " ")
                )
            }
            Self::Application(Application { name, args }) => format!("{name}::{args}"),
        }
    }
}

impl Eavesdrop {
    /// The call to the listener, connected to the channel.
    ///
    /// The switch names the directions from the listened channel's side: "bleg" is what its far end hears.
    pub(super) fn call(&self) -> Originate {
        let mut call = self.listener.clone();
        let (far_end, partner) = match self.mode {
            EavesdropMode::Listen => (false, false),
            EavesdropMode::WhisperToChannel => (true, false),
            EavesdropMode::WhisperToPartner => (false, true),
            EavesdropMode::Barge => (true, true),
        };
        for (name, on) in [("eavesdrop_whisper_bleg", far_end), ("eavesdrop_whisper_aleg", partner)]
        {
            if on {
                let name = VariableName::new(name).expect("a plain name");
                let value = VariableValue::new("true").expect("a plain value");
                // Ahead of the caller's own, of which the last may be cut off by the limit.
                call.variables.insert(0, (name, value));
            }
        }
        call.connect = Connect::Application(Application {
            name: Word::new("eavesdrop").expect("a plain word"),
            args: AppArgs::new(self.uuid.as_str()).expect("a uuid has no control characters"),
        });
        call
    }
}
