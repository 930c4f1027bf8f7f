//! Everything that can be ordered of a switch. A command line is made here and nowhere else.

mod conference;
mod fork;
mod line;
mod originate;
mod raw;
mod words;

use std::time::Duration;

pub use conference::{CallerName, ConferenceCommand, Member};
pub use fork::{ForkModule, ForkName, ForkStart, ForkUrl, Metadata, Mix};
pub use originate::{Application, Connect, Extension, Originate};
pub use raw::RawCommand;
pub use words::{
    AppArgs, ChannelUuid, CommandError, DialString, Digits, MediaPath, Text, VariableName,
    VariableValue, Word,
};

use crate::Cause;

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
    Start { limit: Option<Duration> },
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

/// One order to a switch.
///
/// Its parts are checked words, so every command there is can be carried; see [`CommandError`] for what can't.
#[derive(Debug, Clone, PartialEq)]
pub enum SwitchCommand {
    /// Answer the call.
    Answer { uuid: ChannelUuid },
    /// Early media: audio flows, nobody pays.
    PreAnswer { uuid: ChannelUuid },
    /// Ringing.
    RingReady { uuid: ChannelUuid },
    /// End the call.
    HangUp { uuid: ChannelUuid, cause: Cause },
    /// End all that was called by the [`Originate`] of this name, also where it rings several phones; see
    /// [`Originate::is_named`].
    HangUpCalled { leg: ChannelUuid, cause: Cause },
    /// To a place in the dialplan.
    Transfer { uuid: ChannelUuid, leg: TransferLeg, to: Extension },
    /// To applications, run one after the other.
    TransferInline { uuid: ChannelUuid, leg: TransferLeg, actions: Vec<Application> },
    /// Connect two channels, of which one has media.
    Bridge { uuid: ChannelUuid, other: ChannelUuid },
    /// Out of what it runs, to wait.
    Park { uuid: ChannelUuid },
    /// Into a parking lot where somebody picks it up.
    ValetPark { uuid: ChannelUuid, lot: Word, slot: ValetSlot },
    /// On hold: a re-INVITE `sendonly`.
    Hold { uuid: ChannelUuid },
    /// Back from hold.
    Unhold { uuid: ChannelUuid },
    /// Digits for the far end to hear, each of `duration` where one is given.
    SendDigits { uuid: ChannelUuid, digits: Digits, duration: Option<Duration> },
    /// Digits as if the far end had pressed them.
    ReceiveDigits { uuid: ChannelUuid, digits: Digits },
    /// Stop the file that is played; with `all` also those that wait behind it.
    Break { uuid: ChannelUuid, all: bool },
    /// Play something; several play one after the other.
    Broadcast { uuid: ChannelUuid, what: Playable, leg: BroadcastLeg },
    /// Silence one direction; `on: false` takes back both.
    Mute { uuid: ChannelUuid, direction: Direction, on: bool },
    /// Recording.
    Record { uuid: ChannelUuid, action: RecordAction, path: MediaPath },
    /// Somebody listens in.
    Eavesdrop(Box<Eavesdrop>),
    /// An order to a conference.
    Conference { name: Word, command: ConferenceCommand },
    /// The channel and its partner into a conference, where a third is called in by [`ConferenceCommand::Dial`].
    ThreeWay { uuid: ChannelUuid, conference: Word, profile: Word },
    /// Call somebody.
    Originate(Box<Originate>),
    /// Attended transfer in the hands of the channel's far end, by its keys: `#` takes the caller back, `*` hangs up on the target,
    /// `0` makes it three. The channel is bridged.
    AttendedTransferByKeys { uuid: ChannelUuid, target: DialString },
    /// Set channel variables, up to 64.
    SetVariables { uuid: ChannelUuid, variables: Vec<(VariableName, VariableValue)> },
    /// Read one; [`crate::Reply::value`].
    GetVariable { uuid: ChannelUuid, name: VariableName },
    /// Whether the channel is there; [`crate::Reply::flag`].
    Exists { uuid: ChannelUuid },
    /// All that the switch knows of it; [`crate::Reply::dump`].
    Dump { uuid: ChannelUuid },
    /// All channels; [`crate::Reply::channels`].
    ShowChannels,
    /// Whether a gateway is up; [`crate::Reply::text`].
    GatewayStatus { gateway: Word },
    /// What is attached to the channel's media, as XML.
    BugList { uuid: ChannelUuid },
    /// Fork the channel's audio. The reply says that it was begun; whether it connected is told by an event.
    ForkStart(Box<ForkStart>),
    /// End a fork, after a last text.
    ForkStop { fork: ForkName, text: Option<Text> },
    /// No audio until `ForkResume`.
    ForkPause { fork: ForkName },
    ForkResume { fork: ForkName },
    /// A text over the fork's websocket.
    ForkSendText { fork: ForkName, text: Text },
    /// Ask the far end for its last results: no audio any more, the far end closes.
    ForkShutdown { fork: ForkName },
    /// Forget the raw audio that waits to be played; jambonz's edition under its default name only.
    StopPlay { uuid: ChannelUuid },
    /// Send the far end elsewhere: REFER, or 302 before the answer.
    Deflect { uuid: ChannelUuid, uri: Word },
    /// Run an application on the channel. `lock` keeps others from running in between; `tag` comes back in [`crate::ChannelEventKind::ExecuteComplete`].
    Execute { uuid: ChannelUuid, application: Application, tag: Option<ChannelUuid>, lock: bool },
    /// Whether a module is loaded; [`crate::Reply::flag`].
    ModuleExists { module: Word },
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

    /// Whether carrying it out a second time changes nothing: it is repeated when the connection was lost before its reply.
    pub fn is_idempotent(&self) -> bool {
        matches!(self, Self::HangUp { .. } | Self::HangUpCalled { .. } | Self::SetVariables { .. } | Self::ForkStop { text: None, .. })
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
            Self::Transfer { .. } | Self::TransferInline { .. } | Self::ValetPark { .. } | Self::ThreeWay { .. } => {
                "uuid_transfer"
            }
            Self::Bridge { .. } => "uuid_bridge",
            Self::Park { .. } => "uuid_park",
            Self::Hold { .. } | Self::Unhold { .. } => "uuid_hold",
            Self::SendDigits { .. } => "uuid_send_dtmf",
            Self::ReceiveDigits { .. } => "uuid_recv_dtmf",
            Self::Break { .. } => "uuid_break",
            Self::Broadcast { .. } | Self::AttendedTransferByKeys { .. } => "uuid_broadcast",
            Self::Mute { .. } => "uuid_audio",
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
                let length = variables.iter().map(|(name, value)| name.as_str().len() + value.as_str().len()).sum();
                match variables.len() {
                    0 => Err(CommandError::Empty { what: "the list of variables" }),
                    count if count > Self::MAX_VARIABLES => too_many("variables", count, Self::MAX_VARIABLES),
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
                count if count > Originate::MAX_VARIABLES => too_many("variables", count, Originate::MAX_VARIABLES),
                _ => Ok(()),
            },
            Self::Eavesdrop(eavesdrop) => match eavesdrop.listener.variables.len() {
                count if count > Originate::MAX_VARIABLES => too_many("variables", count, Originate::MAX_VARIABLES),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// The API command with its arguments, as it stands behind `api `; for [`SwitchCommand::Execute`] the whole `sendmsg`.
    pub fn line(&self) -> String {
        let mut line = String::from(self.name());
        if !matches!(self, Self::Version | Self::Raw(_)) {
            line.push(' ');
        }
        self.arguments(&mut line);
        line
    }

    fn arguments(&self, out: &mut String) {
        let mut add = |text: &str| out.push_str(text);
        match self {
            Self::Answer { uuid }
            | Self::PreAnswer { uuid }
            | Self::RingReady { uuid }
            | Self::Park { uuid }
            | Self::Hold { uuid }
            | Self::Exists { uuid }
            | Self::BugList { uuid } => add(uuid.as_str()),
            Self::HangUp { uuid, cause } => add(&format!("{uuid} {cause}")),
            Self::HangUpCalled { leg, cause } => {
                add(&format!("{cause} {} {leg}", originate::CALLED_BY));
            }
            Self::Transfer { uuid, leg, to } => {
                add(uuid.as_str());
                add(leg.flag());
                add(" ");
                to.arguments(out);
            }
            Self::TransferInline { uuid, leg, actions } => {
                add(uuid.as_str());
                add(leg.flag());
                add(" ");
                inline(actions, out);
            }
            Self::Bridge { uuid, other } => add(&format!("{uuid} {other}")),
            Self::ValetPark { uuid, lot, slot } => add(&match slot {
                ValetSlot::Slot(slot) => format!("{uuid} 'valet_park:{lot} {slot}' inline"),
                ValetSlot::Range { first, last } => {
                    format!("{uuid} 'valet_park:{lot} auto in {first} {last}' inline")
                }
            }),
            Self::Unhold { uuid } => add(&format!("off {uuid}")),
            Self::SendDigits { uuid, digits, duration } => {
                add(&format!("{uuid} {digits}"));
                if let Some(duration) = duration {
                    add(&format!("@{}", duration.as_millis().clamp(40, 5_000)));
                }
            }
            Self::ReceiveDigits { uuid, digits } => add(&format!("{uuid} {digits}")),
            Self::Break { uuid, all } => add(&format!("{uuid}{}", if *all { " all" } else { "" })),
            Self::Broadcast { uuid, what, leg } => {
                add(&format!("{uuid} "));
                line::quote(&what.to_text(), out);
                out.push(' ');
                out.push_str(leg.name());
            }
            Self::Mute { uuid, on: false, .. } => add(&format!("{uuid} stop")),
            Self::Mute { uuid, direction: Direction::Read, .. } => add(&format!("{uuid} start read mute 1")),
            Self::Mute { uuid, direction: Direction::Write, .. } => add(&format!("{uuid} start write mute 1")),
            Self::Record { uuid, action, path } => {
                add(&format!("{uuid} {} {path}", action.verb()));
                if let RecordAction::Start { limit: Some(limit) } = action {
                    add(&format!(" {}", limit.as_secs().clamp(1, 86_400)));
                }
            }
            Self::Eavesdrop(eavesdrop) => eavesdrop.call().arguments(out),
            Self::Conference { name, command } => {
                add(&format!("{name} "));
                command.arguments(out);
            }
            Self::ThreeWay { uuid, conference, profile } => {
                add(&format!("{uuid} -both conference:{conference}@{profile} inline"));
            }
            Self::Originate(originate) => originate.arguments(out),
            Self::AttendedTransferByKeys { uuid, target } => add(&format!("{uuid} att_xfer::{target} aleg")),
            Self::SetVariables { uuid, variables } => set_variables(uuid, variables, out),
            Self::GetVariable { uuid, name } => add(&format!("{uuid} {name}")),
            Self::Dump { uuid } => add(&format!("{uuid} json")),
            Self::ShowChannels => add("channels as json"),
            Self::GatewayStatus { gateway } => add(&format!("status gateway {gateway}")),
            Self::ForkStart(start) => start.arguments(out),
            Self::ForkStop { fork, text } => fork::verb(fork, "stop", text.as_ref(), out),
            Self::ForkPause { fork } => fork::verb(fork, "pause", None, out),
            Self::ForkResume { fork } => fork::verb(fork, "resume", None, out),
            Self::ForkSendText { fork, text } => fork::verb(fork, "send_text", Some(text), out),
            Self::ForkShutdown { fork } => fork::verb(fork, "graceful-shutdown", None, out),
            Self::StopPlay { uuid } => add(&format!("{uuid} stop_play")),
            Self::Deflect { uuid, uri } => add(&format!("{uuid} {uri}")),
            Self::Execute { uuid, application, tag, lock } => {
                add(&format!("{uuid}\ncall-command: execute\nexecute-app-name: {}", application.name));
                if !application.args.as_str().is_empty() {
                    add(&format!("\nexecute-app-arg: {}", application.args));
                }
                if let Some(tag) = tag {
                    add(&format!("\nevent-uuid: {tag}"));
                }
                if *lock {
                    add("\nevent-lock: true");
                }
            }
            Self::ModuleExists { module } => add(module.as_str()),
            Self::Version => {}
            Self::Raw(raw) => add(raw.as_str()),
        }
    }

    /// Appends the whole command to `out` as it goes over the socket, with the blank line that ends it.
    pub(crate) fn write(&self, job: &ChannelUuid, out: &mut Vec<u8>) {
        let line = self.line();
        match self.travel() {
            Travel::Api => out.extend_from_slice(format!("api {line}\n\n").as_bytes()),
            Travel::Background => {
                out.extend_from_slice(format!("bgapi {line}\nJob-UUID: {job}\n\n").as_bytes());
            }
            Travel::Message => out.extend_from_slice(format!("{line}\n\n").as_bytes()),
        }
    }
}

impl TransferLeg {
    fn flag(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Partner => " -bleg",
            Self::Both => " -both",
        }
    }
}

impl BroadcastLeg {
    fn name(self) -> &'static str {
        match self {
            Self::Own => "aleg",
            Self::Partner => "bleg",
            Self::Both => "both",
        }
    }
}

impl RecordAction {
    fn verb(self) -> &'static str {
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
    fn to_text(&self) -> String {
        match self {
            Self::File(path) => path.to_string(),
            Self::Speak { engine, voice, text } => {
                format!("speak::{engine}|{voice}|{}", text.as_str().replace(['\r', '\n'], " "))
            }
            Self::Say { language, kind, method, text } => {
                format!("say::{language} {kind} {method} {}", text.as_str().replace(['\r', '\n'], " "))
            }
            Self::Application(Application { name, args }) => format!("{name}::{args}"),
        }
    }
}

impl Eavesdrop {
    /// The call to the listener, connected to the channel.
    ///
    /// The switch names the directions from the listened channel's side: "bleg" is what its far end hears.
    fn call(&self) -> Originate {
        let mut call = self.listener.clone();
        let (far_end, partner) = match self.mode {
            EavesdropMode::Listen => (false, false),
            EavesdropMode::WhisperToChannel => (true, false),
            EavesdropMode::WhisperToPartner => (false, true),
            EavesdropMode::Barge => (true, true),
        };
        for (name, on) in [("eavesdrop_whisper_bleg", far_end), ("eavesdrop_whisper_aleg", partner)] {
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

/// `'app:args,app:args' inline`: split at "," within one argument.
fn inline(actions: &[Application], out: &mut String) {
    let mut list = String::new();
    for Application { name, args } in actions {
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(name.as_str());
        if !args.as_str().is_empty() {
            list.push(':');
            line::escape(args.as_str(), ',', &mut list);
        }
    }
    line::quote(&list, out);
    out.push_str(" inline");
}

fn set_variables(uuid: &ChannelUuid, variables: &[(VariableName, VariableValue)], out: &mut String) {
    out.push_str(uuid.as_str());
    if let [(name, value)] = variables {
        out.push_str(&format!(" {name}"));
        if !value.as_str().is_empty() {
            out.push(' ');
            line::escape(value.as_str(), ' ', out);
        }
        return;
    }
    for (n, (name, value)) in variables.iter().enumerate() {
        out.push_str(if n == 0 { " " } else { ";" });
        out.push_str(&format!("{name}="));
        line::escape(value.as_str(), ';', out);
    }
}

#[cfg(test)]
mod tests;
