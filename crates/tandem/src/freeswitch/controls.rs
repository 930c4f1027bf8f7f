//! The controls of a switch as tools: what a model is told of them, and what its arguments mean.
//!
//! A model may be talked into anything by its caller. It never names a path, an address, a lot, a room or a gateway:
//! it chooses among those of the configuration. Digits, a text to be spoken and the value of a variable are its own.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use tandem_call::{ToolDeclaration, TransferTarget};
use tandem_pbx::{
    CommandError, Control, Digits, Direction, ListenerCall, MediaPath, Playable, RecordAction,
    TargetError, Text, TransferPlan, ValetSlot, VariableName, VariableValue, Word,
};

use crate::config::SwitchTools;

/// The names of all controls that an agent can have.
pub(crate) const CONTROLS: [&str; 17] = [
    "pbx_hold",
    "pbx_resume",
    "pbx_park",
    "pbx_valet_park",
    "pbx_send_digits",
    "pbx_play",
    "pbx_stop_playing",
    "pbx_say",
    "pbx_mute",
    "pbx_unmute",
    "pbx_record",
    "pbx_set_variable",
    "pbx_get_variable",
    "pbx_conference",
    "pbx_three_way",
    "pbx_supervise",
    "pbx_gateway_status",
];

/// Hold and mute end by themselves: an agent that hears nothing has no occasion to end them.
const SHORTEST: f64 = 1.0;
const LONGEST: f64 = 300.0;
const USUAL: Duration = Duration::from_secs(60);

/// A digit that is sent, in milliseconds.
const SHORTEST_DIGIT: f64 = 40.0;
const LONGEST_DIGIT: f64 = 2_000.0;

/// A text that is spoken and the value of a variable, in bytes.
const LONGEST_TEXT: usize = 1_000;
const LONGEST_VALUE: usize = 1_000;

/// A supervisor's phone rings for so long.
const SUPERVISOR_RINGS: Duration = Duration::from_secs(25);

/// A setting that a tool can't be without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Needed {
    /// In `[freeswitch.tools]`.
    pub(crate) key: &'static str,
    /// How it may look.
    pub(crate) example: &'static str,
}

/// What is missing in `tools` so that an agent can have the control `name`.
pub(crate) fn missing_setting(name: &str, tools: &SwitchTools) -> Option<Needed> {
    let (is_there, key, example) = match name {
        "pbx_valet_park" => (!tools.lots.is_empty(), "lots", "{ main = \"5001-5099\" }"),
        "pbx_play" => (!tools.sounds.is_empty(), "sounds", "{ music = \"local_stream://moh\" }"),
        "pbx_say" => (tools.speech.is_some(), "speech", "\"flite slt\""),
        "pbx_record" => {
            (tools.recordings.is_some(), "recordings", "\"/var/lib/freeswitch/recordings\"")
        }
        "pbx_conference" => (!tools.rooms.is_empty(), "rooms", "[\"support\"]"),
        "pbx_supervise" => (tools.supervisor.is_some(), "supervisor", "\"user/1000\""),
        "pbx_gateway_status" => (!tools.gateways.is_empty(), "gateways", "[\"trunk1\"]"),
        _ => return None,
    };
    (!is_there).then_some(Needed { key, example })
}

/// The declaration of the control `name` for an agent that may name `departments`, or nothing where there is no such
/// control.
pub(crate) fn control_tool<'a>(
    name: &str,
    tools: &SwitchTools,
    departments: impl Iterator<Item = &'a String>,
) -> Option<ToolDeclaration> {
    let name = CONTROLS.into_iter().find(|known| *known == name)?;
    let (description, required, properties) = parts(name, tools, departments.collect());
    Some(ToolDeclaration {
        name: name.into(),
        description: description.into(),
        parameters: json!({
            "type": "object",
            "required": required,
            "properties": properties,
            "additionalProperties": false,
        }),
    })
}

/// What the model reads, the required arguments, and the properties of the schema.
type Parts = (&'static str, &'static [&'static str], Value);

fn parts(name: &'static str, tools: &SwitchTools, departments: Vec<&String>) -> Parts {
    let seconds = |what: &str| {
        let description = format!("{what} ends by itself after so long; 60 when left out");
        json!({ "type": "integer", "minimum": 1, "maximum": 300, "description": description })
    };
    match name {
        "pbx_hold" => (
            "Puts the caller on hold: neither of you hears the other. Tell the caller first.",
            &[],
            json!({ "seconds": seconds("The hold") }),
        ),
        "pbx_resume" => ("Takes the caller back from hold.", &[], json!({})),
        "pbx_park" => (
            "Brings the caller back to you alone: out of a conference, a call of three or a parking lot.",
            &[],
            json!({}),
        ),
        "pbx_valet_park" => (
            "Parks the caller in a parking lot, where somebody picks the call up by dialling the slot you are told. \
             You keep talking with the caller until then.",
            &["lot"],
            json!({ "lot": { "type": "string", "enum": tools.lots.keys().collect::<Vec<_>>() } }),
        ),
        "pbx_send_digits" => (
            "Sends touch tones to the other end, as for a menu that answered the call.",
            &["digits"],
            json!({
                "digits": {
                    "type": "string",
                    "pattern": "^[0-9*#A-DwW]{1,90}$",
                    "description": "w waits half a second, W a second",
                },
                "milliseconds": {
                    "type": "integer", "minimum": 40, "maximum": 2000, "description": "Length of each digit",
                },
            }),
        ),
        "pbx_play" => (
            "Plays a recorded sound to the caller. It goes on while you speak.",
            &["sound"],
            json!({ "sound": { "type": "string", "enum": tools.sounds.keys().collect::<Vec<_>>() } }),
        ),
        "pbx_stop_playing" => {
            ("Stops what the telephone system plays to the caller.", &[], json!({}))
        }
        "pbx_say" => (
            "Has the telephone system's own voice read a text to the caller, word for word.",
            &["text"],
            json!({ "text": { "type": "string", "maxLength": LONGEST_TEXT } }),
        ),
        "pbx_mute" => (
            "Silences one direction: `caller` so that you do not hear the caller, as for a card number; `agent` so \
             that the caller does not hear you.",
            &["who"],
            json!({
                "who": { "type": "string", "enum": ["caller", "agent"] },
                "seconds": seconds("It"),
            }),
        ),
        "pbx_unmute" => ("Ends every silencing.", &[], json!({})),
        "pbx_record" => (
            "Records the call. `mask` records silence in place of what is said until `unmask`; `pause` records nothing \
             until `resume`.",
            &["action"],
            json!({
                "action": {
                    "type": "string",
                    "enum": ["start", "stop", "pause", "resume", "mask", "unmask"],
                },
            }),
        ),
        "pbx_set_variable" => (
            "Keeps a value with the call in the telephone system, for those who handle it after you.",
            &["name", "value"],
            json!({
                "name": { "type": "string", "maxLength": 128, "description": variable_names(tools) },
                "value": { "type": "string", "maxLength": LONGEST_VALUE },
            }),
        ),
        "pbx_get_variable" => (
            "Reads a value that the telephone system keeps with the call.",
            &["name"],
            json!({ "name": { "type": "string", "maxLength": 128, "description": variable_names(tools) } }),
        ),
        "pbx_conference" => (
            "Takes the caller into a conference room. The caller still hears you, the others in the room do not.",
            &["room"],
            json!({
                "room": { "type": "string", "enum": tools.rooms.iter().map(Word::as_str).collect::<Vec<_>>() },
            }),
        ),
        "pbx_three_way" => (
            "Calls a person into this call. Until one of the two leaves, the caller talks with both of you; the person does \
             not hear you. Tell the caller first.",
            &[],
            match departments.is_empty() {
                true => json!({}),
                false => json!({ "department": { "type": "string", "enum": departments } }),
            },
        ),
        "pbx_supervise" => (
            "Calls your supervisor to listen in on this call. Use it when the caller becomes abusive or you need help.",
            &[],
            json!({}),
        ),
        _ => (
            "Tells whether a line to the outside is up.",
            &["gateway"],
            json!({
                "gateway": { "type": "string", "enum": tools.gateways.iter().map(Word::as_str).collect::<Vec<_>>() },
            }),
        ),
    }
}

fn variable_names(tools: &SwitchTools) -> String {
    format!("Begins with {}", tools.variables)
}

/// A control that a model asked for, with arguments of the right types.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Asked {
    PbxHold { seconds: Option<f64> },
    PbxResume {},
    PbxPark {},
    PbxValetPark { lot: String },
    PbxSendDigits { digits: String, milliseconds: Option<f64> },
    PbxPlay { sound: String },
    PbxStopPlaying {},
    PbxSay { text: String },
    PbxMute { who: Who, seconds: Option<f64> },
    PbxUnmute {},
    PbxRecord { action: Recording },
    PbxSetVariable { name: String, value: String },
    PbxGetVariable { name: String },
    PbxConference { room: String },
    PbxThreeWay { department: Option<String> },
    PbxSupervise {},
    PbxGatewayStatus { gateway: String },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Who {
    Caller,
    Agent,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Recording {
    Start,
    Stop,
    Pause,
    Resume,
    Mask,
    Unmask,
}

/// Why a control is not even ordered. The text is for the model.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum AskedError {
    #[error("wrong arguments: {0}")]
    Arguments(String),
    #[error("{what} must lie between {low} and {high}")]
    Range { what: &'static str, low: f64, high: f64 },
    #[error("there is no {what} {name:?}; there are: {known}")]
    Unknown { what: &'static str, name: String, known: String },
    #[error("this agent may only use variables that begin with {0:?}")]
    Variable(String),
    #[error("{what} has {length} bytes; {limit} are the limit")]
    TooLong { what: &'static str, length: usize, limit: usize },
    #[error("nobody is configured who could be called")]
    Nobody,
    #[error("the operator has not configured {0}")]
    NotConfigured(&'static str),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// What a control ends that began before, or begins to be ended later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spell {
    /// On hold.
    Hold,
    /// Silenced.
    Mute,
}

/// A control to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    /// What is ordered.
    pub(crate) control: Control,
    /// What the model is told when it was done; what the switch answers is added.
    pub(crate) done: Value,
    /// It goes on, until this long after.
    pub(crate) begins: Option<(Spell, Duration)>,
    /// It ends what went on.
    pub(crate) ends: Option<Spell>,
}

/// What a control may need to know of its call.
pub(crate) struct About<'a> {
    /// What the operator allows.
    pub(crate) tools: &'a SwitchTools,
    /// How people are called.
    pub(crate) transfers: &'a TransferPlan,
    /// Whom the call's agent hands callers to, by department.
    pub(crate) target: &'a dyn Fn(Option<&str>) -> Option<TransferTarget>,
    /// The room of the call's own where three talk.
    pub(crate) own_room: &'a str,
    /// The name of the file of its next recording, without folder and ending.
    pub(crate) recording: &'a str,
}

impl Planned {
    /// What `arguments` of the tool `name` ask for.
    pub(crate) fn read(
        name: &str,
        arguments: Value,
        about: &About<'_>,
    ) -> Result<Self, AskedError> {
        let asked = serde_json::from_value(json!({ name: arguments }))
            .map_err(|error| AskedError::Arguments(error.to_string()))?;
        Self::of(asked, about)
    }

    fn of(asked: Asked, about: &About<'_>) -> Result<Self, AskedError> {
        let tools = about.tools;
        let profile = || tools.conference_profile.clone();
        Ok(match asked {
            Asked::PbxHold { seconds } => {
                let span = spell(seconds)?;
                Self::new(Control::Hold, json!({ "status": "on hold", "seconds": span.as_secs() }))
                    .beginning(Spell::Hold, span)
            }
            Asked::PbxResume {} => Self::plain(Control::Resume).ending(Spell::Hold),
            Asked::PbxPark {} => Self::plain(Control::Park),
            Asked::PbxValetPark { lot } => {
                let slots = chosen("parking lot", &lot, tools.lots.keys(), tools.lots.get(&lot))?;
                let (first, last) = *slots;
                let slot = ValetSlot::Range { first, last };
                let done = json!({ "status": "parked", "lot": lot });
                Self::new(Control::ValetPark { lot: Word::new(&lot)?, slot }, done)
            }
            Asked::PbxSendDigits { digits, milliseconds } => {
                let digits = Digits::new(&digits)?;
                let duration = milliseconds
                    .map(|ms| within("milliseconds", ms, SHORTEST_DIGIT, LONGEST_DIGIT))
                    .transpose()?
                    .map(|ms| Duration::from_millis(ms as u64));
                Self::plain(Control::SendDigits { digits, duration })
            }
            Asked::PbxPlay { sound } => {
                let path = chosen("sound", &sound, tools.sounds.keys(), tools.sounds.get(&sound))?;
                let done = json!({ "status": "playing", "sound": sound });
                Self::new(Control::Play(Playable::File(path.clone())), done)
            }
            Asked::PbxStopPlaying {} => Self::plain(Control::StopPlaying),
            Asked::PbxSay { text } => {
                let speech = tools.speech.clone();
                let (engine, voice) = speech.ok_or(AskedError::NotConfigured("a voice"))?;
                let text = Text::new(short("the text", &text, LONGEST_TEXT)?)?;
                let done = json!({ "status": "speaking" });
                Self::new(Control::Play(Playable::Speak { engine, voice, text }), done)
            }
            Asked::PbxMute { who, seconds } => {
                let (direction, who) = match who {
                    Who::Caller => (Direction::Read, "caller"),
                    Who::Agent => (Direction::Write, "agent"),
                };
                let span = spell(seconds)?;
                let done = json!({ "status": "muted", "who": who, "seconds": span.as_secs() });
                Self::new(Control::Mute(direction), done).beginning(Spell::Mute, span)
            }
            Asked::PbxUnmute {} => Self::plain(Control::Unmute).ending(Spell::Mute),
            Asked::PbxRecord { action } => record(action, about)?,
            Asked::PbxSetVariable { name, value } => {
                let name = variable(&name, tools)?;
                let value = VariableValue::new(short("the value", &value, LONGEST_VALUE)?)?;
                Self::plain(Control::SetVariable { name, value })
            }
            Asked::PbxGetVariable { name } => {
                let variable = variable(&name, tools)?;
                Self::new(Control::GetVariable(variable), json!({ "name": name }))
            }
            Asked::PbxConference { room } => {
                let rooms = tools.rooms.iter().map(Word::as_str);
                let found = tools.rooms.iter().find(|known| known.as_str() == room);
                let conference = chosen("room", &room, rooms, found)?.clone();
                let done = json!({ "status": "in the conference", "room": room });
                Self::new(Control::JoinConference { conference, profile: profile() }, done)
            }
            Asked::PbxThreeWay { department } => {
                let target = (about.target)(department.as_deref()).ok_or(AskedError::Nobody)?;
                let third = about.transfers.dial_string(&target)?;
                let conference = Word::new(about.own_room)?;
                let timeout = about.transfers.ring_timeout();
                let control = Control::ThreeWay { conference, profile: profile(), third, timeout };
                Self::new(control, json!({ "status": "connected" }))
            }
            Asked::PbxSupervise {} => {
                let dial = tools.supervisor.clone();
                let dial = dial.ok_or(AskedError::NotConfigured("a supervisor"))?;
                let (timeout, mode) = (SUPERVISOR_RINGS, tools.supervisor_mode);
                let listener = ListenerCall { dial, timeout, mode };
                Self::new(Control::Eavesdrop(listener), json!({ "status": "supervised" }))
            }
            Asked::PbxGatewayStatus { gateway } => {
                let gateways = tools.gateways.iter().map(Word::as_str);
                let found = tools.gateways.iter().find(|known| known.as_str() == gateway);
                let known = chosen("gateway", &gateway, gateways, found)?.clone();
                Self::new(Control::GatewayStatus(known), json!({ "gateway": gateway }))
            }
        })
    }

    fn new(control: Control, done: Value) -> Self {
        Self { control, done, begins: None, ends: None }
    }

    fn plain(control: Control) -> Self {
        Self::new(control, json!({ "status": "done" }))
    }

    fn beginning(self, spell: Spell, span: Duration) -> Self {
        Self { begins: Some((spell, span)), ..self }
    }

    fn ending(self, spell: Spell) -> Self {
        Self { ends: Some(spell), ..self }
    }
}

impl Spell {
    /// What ends it.
    pub(crate) fn end(self) -> Control {
        match self {
            Self::Hold => Control::Resume,
            Self::Mute => Control::Unmute,
        }
    }
}

fn record(action: Recording, about: &About<'_>) -> Result<Planned, AskedError> {
    let action = match action {
        Recording::Start => {
            let folder = about.tools.recordings.as_ref();
            let folder = folder.ok_or(AskedError::NotConfigured("a folder for recordings"))?;
            let path = MediaPath::new(&format!("{folder}/{}.wav", about.recording))?;
            let limit = Some(about.tools.recording_limit);
            let done = json!({ "status": "recording" });
            return Ok(Planned::new(Control::Record { path, limit }, done));
        }
        Recording::Stop => RecordAction::Stop,
        Recording::Pause => RecordAction::Pause,
        Recording::Resume => RecordAction::Resume,
        Recording::Mask => RecordAction::Mask,
        Recording::Unmask => RecordAction::Unmask,
    };
    Ok(Planned::plain(Control::ChangeRecording(action)))
}

/// `found`, or which names there are.
fn chosen<'a, T, N: AsRef<str>>(
    what: &'static str,
    name: &str,
    known: impl Iterator<Item = N>,
    found: Option<&'a T>,
) -> Result<&'a T, AskedError> {
    found.ok_or_else(|| {
        let known = known.map(|name| name.as_ref().to_owned()).collect::<Vec<_>>().join(", ");
        AskedError::Unknown { what, name: name.chars().take(64).collect(), known }
    })
}

fn spell(seconds: Option<f64>) -> Result<Duration, AskedError> {
    let Some(seconds) = seconds else { return Ok(USUAL) };
    Ok(Duration::from_secs(within("seconds", seconds, SHORTEST, LONGEST)?.round() as u64))
}

fn within(what: &'static str, number: f64, low: f64, high: f64) -> Result<f64, AskedError> {
    if (low..=high).contains(&number) {
        Ok(number)
    } else {
        Err(AskedError::Range { what, low, high })
    }
}

fn short<'a>(what: &'static str, text: &'a str, limit: usize) -> Result<&'a str, AskedError> {
    match text.len() {
        length if length > limit => Err(AskedError::TooLong { what, length, limit }),
        _ => Ok(text),
    }
}

fn variable(name: &str, tools: &SwitchTools) -> Result<VariableName, AskedError> {
    match name.strip_prefix(&tools.variables) {
        Some(rest) if !rest.is_empty() => Ok(VariableName::new(name)?),
        _ => Err(AskedError::Variable(tools.variables.clone())),
    }
}

#[cfg(test)]
mod tests;
