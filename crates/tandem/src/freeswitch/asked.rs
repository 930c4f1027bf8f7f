//! What a model asks of a switch, as the control that does it.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tandem_call::TransferTarget;
use tandem_pbx::{
    CommandError, Control, Digits, Direction, ListenerCall, MediaPath, Playable, RecordAction,
    TargetError, Text, TransferPlan, ValetSlot, VariableName, VariableValue, Word,
};

use super::controls::{LONGEST_TEXT, LONGEST_VALUE};
use crate::config::SwitchTools;

/// Hold and mute end by themselves: an agent that hears nothing has no occasion to end them.
const SHORTEST: f64 = 1.0;
const LONGEST: f64 = 300.0;
const USUAL: Duration = Duration::from_secs(60);

/// A digit that is sent, in milliseconds.
const SHORTEST_DIGIT: f64 = 40.0;
const LONGEST_DIGIT: f64 = 2_000.0;

/// A supervisor's phone rings for so long.
const SUPERVISOR_RINGS: Duration = Duration::from_secs(25);

/// A control that a model asked for, with arguments of the right types.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Asked {
    Hold { seconds: Option<f64> },
    Resume {},
    Park {},
    ValetPark { lot: String },
    SendDigits { digits: String, milliseconds: Option<f64> },
    Play { sound: String },
    StopPlaying {},
    Say { text: String },
    Mute { who: Who, seconds: Option<f64> },
    Unmute {},
    Record { action: Recording },
    SetVariable { name: String, value: String },
    GetVariable { name: String },
    Conference { room: String },
    ThreeWay { department: Option<String> },
    Supervise {},
    GatewayStatus { gateway: String },
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
    /// One of the two is silenced.
    Mute(Direction),
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
    pub(crate) ends: &'static [Spell],
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
        let kind = name.strip_prefix("pbx_").unwrap_or(name).to_owned();
        let asked = serde_json::from_value(Value::Object(Map::from_iter([(kind, arguments)])))
            .map_err(|error| AskedError::Arguments(error.to_string()))?;
        Self::of(asked, about)
    }

    fn of(asked: Asked, about: &About<'_>) -> Result<Self, AskedError> {
        let tools = about.tools;
        let profile = || tools.conference_profile.clone();
        Ok(match asked {
            Asked::Hold { seconds } => {
                let span = spell(seconds)?;
                Self::new(Control::Hold, json!({ "status": "on hold", "seconds": span.as_secs() }))
                    .beginning(Spell::Hold, span)
            }
            Asked::Resume {} => Self::plain(Control::Resume).ending(&[Spell::Hold]),
            Asked::Park {} => Self::plain(Control::Park),
            Asked::ValetPark { lot } => {
                let slots = chosen("parking lot", &lot, tools.lots.keys(), tools.lots.get(&lot))?;
                let (first, last) = *slots;
                let slot = ValetSlot::Range { first, last };
                let done = json!({ "status": "parked", "lot": lot });
                Self::new(Control::ValetPark { lot: Word::new(&lot)?, slot }, done)
            }
            Asked::SendDigits { digits, milliseconds } => {
                let digits = Digits::new(&digits)?;
                let duration = milliseconds
                    .map(|ms| within("milliseconds", ms, SHORTEST_DIGIT, LONGEST_DIGIT))
                    .transpose()?
                    .map(|ms| Duration::from_millis(ms as u64));
                Self::plain(Control::SendDigits { digits, duration })
            }
            Asked::Play { sound } => {
                let path = chosen("sound", &sound, tools.sounds.keys(), tools.sounds.get(&sound))?;
                let done = json!({ "status": "playing", "sound": sound });
                Self::new(Control::Play(Playable::File(path.clone())), done)
            }
            Asked::StopPlaying {} => Self::plain(Control::StopPlaying),
            Asked::Say { text } => {
                let speech = tools.speech.clone();
                let (engine, voice) = speech.ok_or(AskedError::NotConfigured("a voice"))?;
                let text = Text::new(short("the text", &text, LONGEST_TEXT)?)?;
                let done = json!({ "status": "speaking" });
                Self::new(Control::Play(Playable::Speak { engine, voice, text }), done)
            }
            Asked::Mute { who, seconds } => {
                let (direction, who) = match who {
                    Who::Caller => (Direction::Read, "caller"),
                    Who::Agent => (Direction::Write, "agent"),
                };
                let span = spell(seconds)?;
                let done = json!({ "status": "muted", "who": who, "seconds": span.as_secs() });
                Self::new(Control::Mute(direction), done).beginning(Spell::Mute(direction), span)
            }
            Asked::Unmute {} => Self::plain(Control::Unmute).ending(&Spell::MUTES),
            Asked::Record { action } => record(action, about)?,
            Asked::SetVariable { name, value } => {
                let name = variable(&name, tools)?;
                let value = VariableValue::new(short("the value", &value, LONGEST_VALUE)?)?;
                Self::plain(Control::SetVariable { name, value })
            }
            Asked::GetVariable { name } => {
                let variable = variable(&name, tools)?;
                Self::new(Control::GetVariable(variable), json!({ "name": name }))
            }
            Asked::Conference { room } => {
                let rooms = tools.rooms.iter().map(Word::as_str);
                let found = tools.rooms.iter().find(|known| known.as_str() == room);
                let conference = chosen("room", &room, rooms, found)?.clone();
                let done = json!({ "status": "in the conference", "room": room });
                Self::new(Control::JoinConference { conference, profile: profile() }, done)
            }
            Asked::ThreeWay { department } => {
                let target = (about.target)(department.as_deref()).ok_or(AskedError::Nobody)?;
                let third = about.transfers.dial_string(&target)?;
                let conference = Word::new(about.own_room)?;
                let timeout = about.transfers.ring_timeout();
                let control = Control::ThreeWay { conference, profile: profile(), third, timeout };
                Self::new(control, json!({ "status": "connected" }))
            }
            Asked::Supervise {} => {
                let dial = tools.supervisor.clone();
                let dial = dial.ok_or(AskedError::NotConfigured("a supervisor"))?;
                let (timeout, mode) = (SUPERVISOR_RINGS, tools.supervisor_mode);
                let listener = ListenerCall { dial, timeout, mode };
                Self::new(Control::Eavesdrop(listener), json!({ "status": "supervised" }))
            }
            Asked::GatewayStatus { gateway } => {
                let gateways = tools.gateways.iter().map(Word::as_str);
                let found = tools.gateways.iter().find(|known| known.as_str() == gateway);
                let known = chosen("gateway", &gateway, gateways, found)?.clone();
                Self::new(Control::GatewayStatus(known), json!({ "gateway": gateway }))
            }
        })
    }

    fn new(control: Control, done: Value) -> Self {
        Self { control, done, begins: None, ends: &[] }
    }

    fn plain(control: Control) -> Self {
        Self::new(control, json!({ "status": "done" }))
    }

    fn beginning(self, spell: Spell, span: Duration) -> Self {
        Self { begins: Some((spell, span)), ..self }
    }

    fn ending(self, ends: &'static [Spell]) -> Self {
        Self { ends, ..self }
    }
}

impl Spell {
    /// The caller's silence, and the agent's.
    const MUTES: [Self; 2] = [Self::Mute(Direction::Read), Self::Mute(Direction::Write)];

    /// What ends it, and nothing else.
    pub(crate) fn end(self) -> Control {
        match self {
            Self::Hold => Control::Resume,
            Self::Mute(direction) => Control::EndMute(direction),
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
pub(super) mod tests;
