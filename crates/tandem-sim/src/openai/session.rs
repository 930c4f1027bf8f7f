//! The session object: defaults, partial updates and what they may not say.

use serde_json::{Map, Value, json};
use tandem_media::{AudioFormat, Law};

use super::{Refusal, fields};
use crate::speech::PCM24;

const VOICES: [&str; 10] =
    ["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", "marin", "cedar"];

/// A session's configuration, kept as the JSON the client sees.
#[derive(Debug, Clone)]
pub(super) struct Session {
    value: Value,
    beta: bool,
}

impl Session {
    pub(super) fn new(beta: bool, connection: usize, expires_at: u64) -> Self {
        let format = json!({ "type": "audio/pcm", "rate": 24_000 });
        let value = json!({
            "type": "realtime",
            "object": "realtime.session",
            "id": format!("sess_{}", connection + 1),
            "model": "gpt-realtime",
            "output_modalities": ["audio"],
            "instructions": "",
            "tools": [],
            "tool_choice": "auto",
            "max_output_tokens": "inf",
            "tracing": null,
            "truncation": "auto",
            "prompt": null,
            "expires_at": expires_at,
            "include": null,
            "audio": {
                "input": {
                    "format": format,
                    "transcription": null,
                    "noise_reduction": null,
                    "turn_detection": {
                        "type": "server_vad",
                        "threshold": 0.5,
                        "prefix_padding_ms": 300,
                        "silence_duration_ms": 500,
                        "idle_timeout_ms": null,
                        "create_response": true,
                        "interrupt_response": true,
                    },
                },
                "output": { "format": format, "voice": "marin", "speed": 1.0 },
            },
        });
        let mut session = Self { value, beta };
        session.show_old_names();
        session
    }

    pub(super) fn value(&self) -> &Value {
        &self.value
    }

    pub(super) fn set_model(&mut self, model: &str) {
        self.value["model"] = model.into();
    }

    /// Applies a `session.update`; a refused one changes nothing. `spoke`: the model has produced audio.
    pub(super) fn update(&mut self, update: &Value, spoke: bool) -> Result<(), Refusal> {
        let Some(object) = update.as_object() else {
            return Err(Refusal::about(
                "missing_required_parameter",
                "session",
                "Missing required parameter: 'session'.",
            ));
        };
        let update = if self.beta { translated(object)? } else { update.clone() };
        let kind = update.get("type").and_then(Value::as_str);
        if kind.is_none() && !self.beta {
            return Err(Refusal::about(
                "missing_required_parameter",
                "session.type",
                "Missing required parameter: 'session.type'.",
            ));
        }
        if !matches!(kind, None | Some("realtime" | "transcription")) {
            return Err(invalid("session.type"));
        }
        check_fields(&update)?;
        check_values(&update)?;
        let voice = update.pointer("/audio/output/voice");
        if spoke
            && voice.is_some_and(|voice| Some(voice) != self.value.pointer("/audio/output/voice"))
        {
            return Err(Refusal::about(
                "cannot_update_voice",
                "session.audio.output.voice",
                "Cannot update a conversation's voice if assistant audio is present.",
            ));
        }
        merge(&mut self.value, &update);
        self.show_old_names();
        Ok(())
    }

    pub(super) fn input_format(&self) -> AudioFormat {
        self.format("/audio/input/format/type")
    }

    pub(super) fn output_format(&self) -> AudioFormat {
        self.format("/audio/output/format/type")
    }

    pub(super) fn silence_ms(&self) -> u64 {
        self.detection("silence_duration_ms").and_then(Value::as_u64).unwrap_or(500)
    }

    pub(super) fn prefix_padding_ms(&self) -> u64 {
        self.detection("prefix_padding_ms").and_then(Value::as_u64).unwrap_or(300)
    }

    pub(super) fn interrupts(&self) -> bool {
        self.detection("interrupt_response").and_then(Value::as_bool).unwrap_or(true)
    }

    pub(super) fn detects_turns(&self) -> bool {
        self.value.pointer("/audio/input/turn_detection").is_some_and(Value::is_object)
    }

    pub(super) fn transcribes(&self) -> bool {
        self.value.pointer("/audio/input/transcription").is_some_and(Value::is_object)
    }

    fn detection(&self, name: &str) -> Option<&Value> {
        self.value.pointer("/audio/input/turn_detection")?.get(name)
    }

    fn format(&self, place: &str) -> AudioFormat {
        match self.value.pointer(place).and_then(Value::as_str) {
            Some("audio/pcmu") => AudioFormat::G711(Law::Mu),
            Some("audio/pcma") => AudioFormat::G711(Law::A),
            _ => PCM24,
        }
    }

    /// With the `beta` switch the session shows its formats under the old names as well.
    fn show_old_names(&mut self) {
        if !self.beta {
            return;
        }
        let old_name = |format| match format {
            AudioFormat::G711(Law::Mu) => "g711_ulaw",
            AudioFormat::G711(Law::A) => "g711_alaw",
            AudioFormat::Pcm16(_) => "pcm16",
        };
        self.value["input_audio_format"] = old_name(self.input_format()).into();
        self.value["output_audio_format"] = old_name(self.output_format()).into();
        self.value["voice"] = self.value["audio"]["output"]["voice"].clone();
        self.value["turn_detection"] = self.value["audio"]["input"]["turn_detection"].clone();
        self.value["modalities"] = json!(["audio", "text"]);
    }
}

/// A beta-shaped update in the GA shape.
fn translated(update: &Map<String, Value>) -> Result<Value, Refusal> {
    const PLACES: [(&str, [&str; 3]); 5] = [
        ("voice", ["audio", "output", "voice"]),
        ("speed", ["audio", "output", "speed"]),
        ("input_audio_transcription", ["audio", "input", "transcription"]),
        ("input_audio_noise_reduction", ["audio", "input", "noise_reduction"]),
        ("turn_detection", ["audio", "input", "turn_detection"]),
    ];
    let known = [fields::SESSION, fields::BETA_SESSION].concat();
    fields::check(update, &known, "session")?;
    let mut ga: Map<String, Value> = update
        .iter()
        .filter(|(key, _)| !fields::BETA_SESSION.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut ga = Value::Object(std::mem::take(&mut ga));
    for (old, [outer, middle, inner]) in PLACES {
        if let Some(value) = update.get(old) {
            ga[outer][middle][inner] = value.clone();
        }
    }
    for (old, side) in [("input_audio_format", "input"), ("output_audio_format", "output")] {
        if let Some(format) = update.get(old) {
            let kind = match format.as_str() {
                Some("pcm16") => "audio/pcm",
                Some("g711_ulaw") => "audio/pcmu",
                Some("g711_alaw") => "audio/pcma",
                _ => return Err(invalid(&format!("session.{old}"))),
            };
            ga["audio"][side]["format"] = json!({ "type": kind });
        }
    }
    Ok(ga)
}

fn check_fields(update: &Value) -> Result<(), Refusal> {
    if let Some(object) = update.as_object() {
        fields::check(object, fields::SESSION, "session")?;
    }
    for (place, known) in fields::NESTED {
        if let Some(object) = update.pointer(place).and_then(Value::as_object) {
            fields::check(object, known, &format!("session{}", place.replace('/', ".")))?;
        }
    }
    Ok(())
}

fn check_values(update: &Value) -> Result<(), Refusal> {
    if let Some(modalities) = update.get("output_modalities")
        && *modalities != json!(["audio"])
        && *modalities != json!(["text"])
    {
        return Err(invalid("session.output_modalities"));
    }
    for side in ["input", "output"] {
        let Some(format) = update.pointer(&format!("/audio/{side}/format")) else { continue };
        let param = format!("session.audio.{side}.format");
        match format.get("type").and_then(Value::as_str) {
            Some("audio/pcm") if format.get("rate").is_some_and(|rate| *rate != 24_000) => {
                return Err(invalid(&format!("{param}.rate")));
            }
            Some("audio/pcm" | "audio/pcmu" | "audio/pcma") => {}
            _ => return Err(invalid(&format!("{param}.type"))),
        }
    }
    if let Some(voice) = update.pointer("/audio/output/voice") {
        let known = voice.as_str().is_some_and(|voice| VOICES.contains(&voice))
            || voice.get("id").is_some_and(Value::is_string);
        if !known {
            return Err(invalid("session.audio.output.voice"));
        }
    }
    if let Some(speed) = update.pointer("/audio/output/speed").filter(|speed| !speed.is_null())
        && !speed.as_f64().is_some_and(|speed| (0.25..=1.5).contains(&speed))
    {
        return Err(invalid("session.audio.output.speed"));
    }
    if let Some(detection) =
        update.pointer("/audio/input/turn_detection").filter(|value| !value.is_null())
    {
        if let Some(kind) = detection.get("type")
            && !matches!(kind.as_str(), Some("server_vad" | "semantic_vad"))
        {
            return Err(invalid("session.audio.input.turn_detection.type"));
        }
        if let Some(idle) = detection.get("idle_timeout_ms").filter(|value| !value.is_null())
            && !idle.as_u64().is_some_and(|idle| (5_000..=30_000).contains(&idle))
        {
            return Err(invalid("session.audio.input.turn_detection.idle_timeout_ms"));
        }
    }
    let tools = update.get("tools").and_then(Value::as_array);
    for tool in tools.into_iter().flatten() {
        let plain = tool.get("type").and_then(Value::as_str) == Some("function")
            && tool.get("name").is_some_and(Value::is_string);
        let mcp = tool.get("type").and_then(Value::as_str) == Some("mcp");
        if !plain && !mcp {
            return Err(invalid("session.tools"));
        }
    }
    Ok(())
}

fn invalid(param: &str) -> Refusal {
    Refusal::about("invalid_value", param, format!("Invalid value: '{param}'."))
}

/// Only the fields of `update` change; formats and tools change as a whole.
fn merge(value: &mut Value, update: &Value) {
    let (Value::Object(fields), Value::Object(changes)) = (&mut *value, update) else {
        *value = update.clone();
        return;
    };
    for (key, change) in changes {
        let whole = key == "format" || !change.is_object();
        match fields.get_mut(key) {
            Some(field) if !whole => merge(field, change),
            _ => {
                fields.insert(key.clone(), change.clone());
            }
        }
    }
}
