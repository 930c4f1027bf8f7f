//! Everything that can be ordered of a switch. A command line is made here and nowhere else.

mod choices;
mod conference;
mod fork;
mod line;
mod originate;
mod raw;
mod wire;
mod words;

use std::time::Duration;

pub use choices::{
    BroadcastLeg, Direction, Eavesdrop, EavesdropMode, Playable, RecordAction, TransferLeg,
    ValetSlot,
};
pub use conference::{CallerName, ConferenceCommand, Member};
pub use fork::{ForkModule, ForkName, ForkStart, ForkUrl, Metadata, Mix};
pub use originate::{Application, Connect, Extension, Originate};
pub use raw::RawCommand;
pub use words::{
    AppArgs, ChannelUuid, CommandError, DialString, Digits, MediaPath, Text, VariableName,
    VariableValue, Word,
};

use crate::Cause;

/// One order to a switch.
///
/// Its parts are checked words, so every command there is can be carried; see [`CommandError`] for what can't.
#[derive(Debug, Clone, PartialEq)]
pub enum SwitchCommand {
    /// Answer the call.
    Answer {
        uuid: ChannelUuid,
    },
    /// Early media: audio flows, nobody pays.
    PreAnswer {
        uuid: ChannelUuid,
    },
    /// Ringing.
    RingReady {
        uuid: ChannelUuid,
    },
    /// End the call.
    HangUp {
        uuid: ChannelUuid,
        cause: Cause,
    },
    /// End all that was called by the [`Originate`] of this name, also where it rings several phones; see
    /// [`Originate::is_named`].
    HangUpCalled {
        leg: ChannelUuid,
        cause: Cause,
    },
    /// To a place in the dialplan.
    Transfer {
        uuid: ChannelUuid,
        leg: TransferLeg,
        to: Extension,
    },
    /// To applications, run one after the other.
    TransferInline {
        uuid: ChannelUuid,
        leg: TransferLeg,
        actions: Vec<Application>,
    },
    /// Connect two channels, of which one has media.
    Bridge {
        uuid: ChannelUuid,
        other: ChannelUuid,
    },
    /// Out of what it runs, to wait.
    Park {
        uuid: ChannelUuid,
    },
    /// Into a parking lot where somebody picks it up.
    ValetPark {
        uuid: ChannelUuid,
        lot: Word,
        slot: ValetSlot,
    },
    /// On hold: a re-INVITE `sendonly`.
    Hold {
        uuid: ChannelUuid,
    },
    /// Back from hold.
    Unhold {
        uuid: ChannelUuid,
    },
    /// Digits for the far end to hear, each of `duration` where one is given.
    SendDigits {
        uuid: ChannelUuid,
        digits: Digits,
        duration: Option<Duration>,
    },
    /// Digits as if the far end had pressed them.
    ReceiveDigits {
        uuid: ChannelUuid,
        digits: Digits,
    },
    /// Stop the file that is played; with `all` also those that wait behind it.
    Break {
        uuid: ChannelUuid,
        all: bool,
    },
    /// Play something; several play one after the other.
    Broadcast {
        uuid: ChannelUuid,
        what: Playable,
        leg: BroadcastLeg,
    },
    /// Silence one direction, or take that back; the other stays as it is.
    Mute {
        uuid: ChannelUuid,
        direction: Direction,
        on: bool,
    },
    /// Take back the silence of both directions.
    Unmute {
        uuid: ChannelUuid,
    },
    /// Recording.
    Record {
        uuid: ChannelUuid,
        action: RecordAction,
        path: MediaPath,
    },
    /// Somebody listens in.
    Eavesdrop(Box<Eavesdrop>),
    /// An order to a conference.
    Conference {
        name: Word,
        command: ConferenceCommand,
    },
    /// The channel and its partner into a conference, where a third is called in by [`ConferenceCommand::Dial`].
    ThreeWay {
        uuid: ChannelUuid,
        conference: Word,
        profile: Word,
    },
    /// Call somebody.
    Originate(Box<Originate>),
    /// Attended transfer in the hands of the channel's far end, by its keys: `#` takes the caller back, `*` hangs up
    /// on the target, `0` makes it three. The channel is bridged.
    AttendedTransferByKeys {
        uuid: ChannelUuid,
        target: DialString,
    },
    /// Set channel variables, up to 64.
    SetVariables {
        uuid: ChannelUuid,
        variables: Vec<(VariableName, VariableValue)>,
    },
    /// Read one; [`crate::Reply::value`].
    GetVariable {
        uuid: ChannelUuid,
        name: VariableName,
    },
    /// Whether the channel is there; [`crate::Reply::flag`].
    Exists {
        uuid: ChannelUuid,
    },
    /// All that the switch knows of it; [`crate::Reply::dump`].
    Dump {
        uuid: ChannelUuid,
    },
    /// All channels; [`crate::Reply::channels`].
    ShowChannels,
    /// Whether a gateway is up; [`crate::Reply::text`].
    GatewayStatus {
        gateway: Word,
    },
    /// What is attached to the channel's media, as XML.
    BugList {
        uuid: ChannelUuid,
    },
    /// Fork the channel's audio. The reply says that it was begun; whether it connected is told by an event.
    ForkStart(Box<ForkStart>),
    /// End a fork, after a last text.
    ForkStop {
        fork: ForkName,
        text: Option<Text>,
    },
    /// No audio until `ForkResume`.
    ForkPause {
        fork: ForkName,
    },
    ForkResume {
        fork: ForkName,
    },
    /// A text over the fork's websocket.
    ForkSendText {
        fork: ForkName,
        text: Text,
    },
    /// Ask the far end for its last results: no audio any more, the far end closes.
    ForkShutdown {
        fork: ForkName,
    },
    /// Forget the raw audio that waits to be played; jambonz's edition under its default name only.
    StopPlay {
        uuid: ChannelUuid,
    },
    /// Send the far end elsewhere: REFER, or 302 before the answer.
    Deflect {
        uuid: ChannelUuid,
        uri: Word,
    },
    /// Run an application on the channel. `lock` keeps others from running in between; `tag` comes back in
    /// [`crate::ChannelEventKind::ExecuteComplete`].
    Execute {
        uuid: ChannelUuid,
        application: Application,
        tag: Option<ChannelUuid>,
        lock: bool,
    },
    /// Whether a module is loaded; [`crate::Reply::flag`].
    ModuleExists {
        module: Word,
    },
    /// Whether a user has a mailbox's number; [`crate::Reply::flag`]. The domain is the operator's own text: variables in
    /// it are those of the channel.
    MailboxExists {
        uuid: ChannelUuid,
        mailbox: Word,
        domain: AppArgs,
    },
    /// The menus of the application `ivr`, as XML; those that something makes on demand are not among them.
    Menus,
    /// The switch's version.
    Version,
    /// A query of another kind.
    Raw(RawCommand),
}

/// How a command travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Travel {
    /// `api`: the connection waits for the result.
    Api,
    /// `bgapi`: the result comes as an event.
    Background,
    /// `sendmsg`: queued to the channel.
    Message,
}

/// What the text of a good reply looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyForm {
    /// `+OK …`.
    Status,
    /// Anything but an error.
    Value,
}

impl SwitchCommand {
    /// How long a switch may take for an order, but for calls, which may ring.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// Most variables of one [`SwitchCommand::SetVariables`].
    pub const MAX_VARIABLES: usize = 64;
    /// Longest list of variables, all names and values together.
    pub const MAX_VARIABLES_LENGTH: usize = 128 << 10;
    /// Most actions of one [`SwitchCommand::TransferInline`].
    pub const MAX_ACTIONS: usize = 32;

    /// The channel it is about.
    pub fn channel(&self) -> Option<&ChannelUuid> {
        match self {
            Self::Answer { uuid }
            | Self::PreAnswer { uuid }
            | Self::RingReady { uuid }
            | Self::HangUp { uuid, .. }
            | Self::Transfer { uuid, .. }
            | Self::TransferInline { uuid, .. }
            | Self::Bridge { uuid, .. }
            | Self::Park { uuid }
            | Self::ValetPark { uuid, .. }
            | Self::Hold { uuid }
            | Self::Unhold { uuid }
            | Self::SendDigits { uuid, .. }
            | Self::ReceiveDigits { uuid, .. }
            | Self::Break { uuid, .. }
            | Self::Broadcast { uuid, .. }
            | Self::Mute { uuid, .. }
            | Self::Unmute { uuid }
            | Self::Record { uuid, .. }
            | Self::ThreeWay { uuid, .. }
            | Self::AttendedTransferByKeys { uuid, .. }
            | Self::SetVariables { uuid, .. }
            | Self::GetVariable { uuid, .. }
            | Self::Exists { uuid }
            | Self::Dump { uuid }
            | Self::BugList { uuid }
            | Self::StopPlay { uuid }
            | Self::Deflect { uuid, .. }
            | Self::Execute { uuid, .. } => Some(uuid),
            Self::Eavesdrop(eavesdrop) => Some(&eavesdrop.uuid),
            Self::Originate(originate) => Some(&originate.uuid),
            Self::ForkStart(start) => Some(&start.fork.uuid),
            Self::ForkStop { fork, .. }
            | Self::ForkPause { fork }
            | Self::ForkResume { fork }
            | Self::ForkSendText { fork, .. }
            | Self::ForkShutdown { fork } => Some(&fork.uuid),
            Self::HangUpCalled { .. }
            | Self::Conference { .. }
            | Self::ShowChannels
            | Self::GatewayStatus { .. }
            | Self::ModuleExists { .. }
            | Self::MailboxExists { .. }
            | Self::Menus
            | Self::Version
            | Self::Raw(_) => None,
        }
    }

    /// How long its result may take.
    pub fn timeout(&self) -> Duration {
        match self {
            Self::Originate(originate) => originate.ringing() + Self::TIMEOUT,
            Self::Eavesdrop(eavesdrop) => eavesdrop.listener.ringing() + Self::TIMEOUT,
            // A REFER is answered by the far end, which may be asleep.
            Self::Deflect { .. } => Duration::from_secs(32) + Self::TIMEOUT,
            _ => Self::TIMEOUT,
        }
    }

    /// Whether carrying it out a second time changes nothing: it is repeated when the connection was lost before its
    /// reply.
    pub fn is_idempotent(&self) -> bool {
        matches!(
            self,
            Self::HangUp { .. }
                | Self::HangUpCalled { .. }
                | Self::SetVariables { .. }
                | Self::ForkStop { text: None, .. }
        )
    }

    /// Whether it is kept while the link is down and carried out when it is up again: what a live call needs done
    /// whenever it can be done.
    pub fn is_kept_while_down(&self) -> bool {
        self.is_idempotent()
    }

    /// Short name for logs, without arguments.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Answer { .. } => "uuid_answer",
            Self::PreAnswer { .. } => "uuid_pre_answer",
            Self::RingReady { .. } => "uuid_ring_ready",
            Self::HangUp { .. } => "uuid_kill",
            Self::HangUpCalled { .. } => "hupall",
            Self::Transfer { .. }
            | Self::TransferInline { .. }
            | Self::ValetPark { .. }
            | Self::ThreeWay { .. } => "uuid_transfer",
            Self::Bridge { .. } => "uuid_bridge",
            Self::Park { .. } => "uuid_park",
            Self::Hold { .. } | Self::Unhold { .. } => "uuid_hold",
            Self::SendDigits { .. } => "uuid_send_dtmf",
            Self::ReceiveDigits { .. } => "uuid_recv_dtmf",
            Self::Break { .. } => "uuid_break",
            Self::Broadcast { .. } | Self::AttendedTransferByKeys { .. } => "uuid_broadcast",
            Self::Mute { .. } | Self::Unmute { .. } => "uuid_audio",
            Self::Record { .. } => "uuid_record",
            Self::Eavesdrop(_) | Self::Originate(_) => "originate",
            Self::Conference { .. } => "conference",
            Self::SetVariables { variables, .. } if variables.len() == 1 => "uuid_setvar",
            Self::SetVariables { .. } => "uuid_setvar_multi",
            Self::GetVariable { .. } => "uuid_getvar",
            Self::Exists { .. } => "uuid_exists",
            Self::Dump { .. } => "uuid_dump",
            Self::ShowChannels => "show",
            Self::GatewayStatus { .. } => "sofia",
            Self::BugList { .. } => "uuid_buglist",
            Self::ForkStart(start) => start.fork.module.api(),
            Self::ForkStop { fork, .. }
            | Self::ForkPause { fork }
            | Self::ForkResume { fork }
            | Self::ForkSendText { fork, .. }
            | Self::ForkShutdown { fork } => fork.module.api(),
            Self::StopPlay { .. } => ForkModule::AudioForkBidirectional.api(),
            Self::Deflect { .. } => "uuid_deflect",
            Self::Execute { .. } => "sendmsg",
            Self::ModuleExists { .. } => "module_exists",
            Self::MailboxExists { .. } => "expand",
            Self::Menus => "xml_locate",
            Self::Version => "version",
            Self::Raw(raw) => raw.name(),
        }
    }

    /// Slow ones go in the background; the others keep their order, which a hang-up after variables relies on.
    pub(crate) fn travel(&self) -> Travel {
        match self {
            Self::Originate(_) | Self::Eavesdrop(_) | Self::Deflect { .. } => Travel::Background,
            Self::Execute { .. } => Travel::Message,
            _ => Travel::Api,
        }
    }

    pub(crate) fn reply_form(&self) -> ReplyForm {
        match self {
            Self::GetVariable { .. }
            | Self::Exists { .. }
            | Self::Dump { .. }
            | Self::ShowChannels
            | Self::GatewayStatus { .. }
            | Self::BugList { .. }
            | Self::ModuleExists { .. }
            | Self::MailboxExists { .. }
            | Self::Menus
            | Self::Version
            | Self::Conference { .. }
            | Self::Raw(_) => ReplyForm::Value,
            _ => ReplyForm::Status,
        }
    }

    /// Whether its parts together are within the limits of a line.
    pub(crate) fn check(&self) -> Result<(), CommandError> {
        let too_many = |what, count, limit| Err(CommandError::TooMany { what, count, limit });
        match self {
            Self::SetVariables { variables, .. } => {
                let length = variables
                    .iter()
                    .map(|(name, value)| name.as_str().len() + value.as_str().len())
                    .sum();
                match variables.len() {
                    0 => Err(CommandError::Empty { what: "the list of variables" }),
                    count if count > Self::MAX_VARIABLES => {
                        too_many("variables", count, Self::MAX_VARIABLES)
                    }
                    _ if length > Self::MAX_VARIABLES_LENGTH => Err(CommandError::TooLong {
                        what: "the list of variables",
                        length,
                        limit: Self::MAX_VARIABLES_LENGTH,
                    }),
                    _ => Ok(()),
                }
            }
            Self::TransferInline { actions, .. } => match actions.len() {
                0 => Err(CommandError::Empty { what: "the list of actions" }),
                count if count > Self::MAX_ACTIONS => too_many("actions", count, Self::MAX_ACTIONS),
                _ => Ok(()),
            },
            Self::Originate(originate) => match originate.variables.len() {
                count if count > Originate::MAX_VARIABLES => {
                    too_many("variables", count, Originate::MAX_VARIABLES)
                }
                _ => Ok(()),
            },
            Self::Eavesdrop(eavesdrop) => match eavesdrop.listener.variables.len() {
                count if count > Originate::MAX_VARIABLES => {
                    too_many("variables", count, Originate::MAX_VARIABLES)
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
