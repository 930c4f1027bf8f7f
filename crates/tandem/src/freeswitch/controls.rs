//! The controls of a switch as tools: what a model is told of them, and what its arguments mean.
//!
//! A model may be talked into anything by its caller. It never names a path, an address, a lot, a room or a gateway:
//! it chooses among those of the configuration. Digits, a text to be spoken and the value of a variable are its own.

use serde_json::{Value, json};
use tandem_call::ToolDeclaration;
use tandem_pbx::Word;

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

/// A text that is spoken and the value of a variable, in bytes.
pub(super) const LONGEST_TEXT: usize = 1_000;
pub(super) const LONGEST_VALUE: usize = 1_000;

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
    let (description, required, properties) = parts(name, tools, &departments.collect::<Vec<_>>());
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

fn parts(name: &'static str, tools: &SwitchTools, departments: &[&String]) -> Parts {
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

#[cfg(test)]
mod tests;
