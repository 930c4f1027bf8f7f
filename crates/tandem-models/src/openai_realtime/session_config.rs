//! The session as we ask for it, and whether the server gave it.

use serde_json::{Map, Value, json};
use tandem_call::{HistoryTurn, SessionSpec, Speaker};
use tandem_media::{AudioFormat, Law, SampleRate};

use crate::{
    ModelOptions, ModelSettings,
    json::Json,
    settings::{Thinking, TurnDetection},
};

/// The `event_id` of our `session.update`, so that its refusal is known for what it is.
pub(super) const CONFIGURE: &str = "configure";

/// Turns of history that are carried over; the oldest go first.
const MAX_HISTORY: usize = 100;

/// The name the server has for `format`, if it takes it.
pub(super) fn format_name(format: AudioFormat) -> Option<&'static str> {
    match format {
        AudioFormat::G711(Law::Mu) => Some("audio/pcmu"),
        AudioFormat::G711(Law::A) => Some("audio/pcma"),
        AudioFormat::Pcm16(SampleRate::Hz24000) => Some("audio/pcm"),
        AudioFormat::Pcm16(_) => None,
    }
}

fn format_object(name: &str) -> Value {
    if name == "audio/pcm" {
        json!({ "type": name, "rate": 24_000 })
    } else {
        json!({ "type": name })
    }
}

/// The `session.update` for `spec`; the formats by the server's names.
pub(super) fn session_update(
    settings: &ModelSettings,
    spec: &SessionSpec,
    input: &str,
    output: &str,
) -> Value {
    let options = &settings.options;
    let mut audio_input = Map::new();
    audio_input.insert("format".into(), format_object(input));
    audio_input.insert("turn_detection".into(), turn_detection(options));
    audio_input.insert("transcription".into(), transcription(settings, spec));
    let mut audio_output = Map::new();
    audio_output.insert("format".into(), format_object(output));
    if let Some(voice) = &spec.voice {
        audio_output.insert("voice".into(), json!(voice));
    }

    let mut session = json!({
        "type": "realtime",
        "output_modalities": ["audio"],
        "instructions": instructions(spec),
        "audio": { "input": audio_input, "output": audio_output },
        "tools": spec.tools.iter().map(|tool| json!({
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
        })).collect::<Vec<_>>(),
        "tool_choice": "auto",
        "max_output_tokens": "inf",
    });
    if let Some(thinking) = options.thinking {
        let effort = match thinking {
            Thinking::Minimal => "minimal",
            Thinking::Low => "low",
            Thinking::Medium => "medium",
            Thinking::High => "high",
        };
        session["reasoning"] = json!({ "effort": effort });
    }
    json!({ "type": "session.update", "event_id": CONFIGURE, "session": session })
}

/// How the server is to find turns; null when we tell it.
fn turn_detection(options: &ModelOptions) -> Value {
    let mut detection = match options.turn_detection {
        TurnDetection::Local => return Value::Null,
        TurnDetection::Semantic => json!({ "type": "semantic_vad", "eagerness": "auto" }),
        TurnDetection::Silence => json!({
            "type": "server_vad",
            "silence_duration_ms": options.silence_duration_ms,
        }),
    };
    detection["create_response"] = json!(true);
    detection["interrupt_response"] = json!(options.server_interrupts);
    if options.turn_detection == TurnDetection::Silence {
        if let Some(padding) = options.prefix_padding_ms {
            detection["prefix_padding_ms"] = json!(padding);
        }
        if let Some(threshold) = options.vad_threshold {
            // Through decimal text: 0.6_f32 is to be written 0.6.
            detection["threshold"] = json!(threshold.to_string().parse::<f64>().unwrap_or(0.5));
        }
    }
    detection
}

/// The system prompt with the language in it, for which the session has no field.
pub(super) fn instructions(spec: &SessionSpec) -> String {
    if spec.language.is_empty() {
        return spec.instructions.clone();
    }
    format!(
        "{}\n\nSpeak the language with the BCP-47 tag {} unless the caller prefers another.",
        spec.instructions, spec.language
    )
}

fn transcription(settings: &ModelSettings, spec: &SessionSpec) -> Value {
    if !spec.transcription {
        return Value::Null;
    }
    let mut transcription = json!({ "model": settings.options.transcription_model });
    let language = spec.language.split('-').next().unwrap_or_default();
    if !language.is_empty() {
        transcription["language"] = json!(language.to_ascii_lowercase());
    }
    transcription
}

/// Messages that put `history` into the conversation, oldest first.
pub(super) fn history_items(history: &[HistoryTurn]) -> impl Iterator<Item = Value> {
    let from = history.len().saturating_sub(MAX_HISTORY);
    history[from..].iter().filter(|turn| !turn.text.trim().is_empty()).map(|turn| {
        match turn.speaker {
            Speaker::Caller => message_item("user", &turn.text),
            Speaker::Agent => json!({
                "type": "conversation.item.create",
                "item": {
                    "type": "message",
                    "role": "assistant",
                    "content": [{ "type": "output_text", "text": turn.text }],
                },
            }),
        }
    })
}

/// A message that adds `text` to the conversation, spoken by nobody.
pub(super) fn message_item(role: &str, text: &str) -> Value {
    json!({
        "type": "conversation.item.create",
        "item": {
            "type": "message",
            "role": role,
            "content": [{ "type": "input_text", "text": text }],
        },
    })
}

/// Compares the formats of a `session.updated` with the requested ones. A session without formats is believed.
pub(super) fn check_formats(session: Json<'_>, input: &str, output: &str) -> Result<(), String> {
    let [audio, input_format, output_format] =
        session.members(["audio", "input_audio_format", "output_audio_format"]);
    for (direction, asked, beta) in
        [("input", input, input_format), ("output", output, output_format)]
    {
        let ga = audio.get(direction).get("format");
        let given = if ga.is_absent() { beta } else { ga };
        let given = if given.is_string() { given } else { given.get("type") };
        let given = match &*given.text() {
            "" => continue,
            "g711_ulaw" => "audio/pcmu".to_owned(),
            "g711_alaw" => "audio/pcma".to_owned(),
            "pcm16" => "audio/pcm".to_owned(),
            other => other.to_owned(),
        };
        if given != asked {
            return Err(format!(
                "{asked} was asked for as {direction} format, the server set {given}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_compared_by_either_name() {
        let ga = |input: &str, output: &str| json!({ "audio": { "input": { "format": { "type": input } }, "output": { "format": { "type": output } } } });
        for (session, ok) in [
            (ga("audio/pcmu", "audio/pcmu"), true),
            (ga("audio/pcm", "audio/pcmu"), false),
            (ga("audio/pcmu", "audio/pcm"), false),
            (
                json!({ "input_audio_format": "g711_ulaw", "output_audio_format": "g711_ulaw" }),
                true,
            ),
            (json!({ "input_audio_format": "pcm16", "output_audio_format": "pcm16" }), false),
            (json!({ "audio": { "input": { "format": null } } }), true),
            (json!({}), true),
            (Value::Null, true),
        ] {
            assert_eq!(
                check_formats(Json::of(&session.to_string()), "audio/pcmu", "audio/pcmu").is_ok(),
                ok,
                "{session}"
            );
        }
    }

    #[test]
    fn long_history_keeps_its_end() {
        let history: Vec<_> = (0..250)
            .map(|n| HistoryTurn { speaker: Speaker::Caller, text: format!("turn {n}") })
            .collect();
        let items: Vec<_> = history_items(&history).collect();
        assert_eq!(items.len(), MAX_HISTORY);
        assert_eq!(items[99].pointer("/item/content/0/text"), Some(&json!("turn 249")));
    }
}
