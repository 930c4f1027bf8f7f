//! Which fields each client event may have.

use serde_json::{Map, Value};

use super::Refusal;

/// The fields of a client event besides `type` and `event_id`; none when there is no such event.
pub(super) fn of_event(kind: &str) -> Option<&'static [&'static str]> {
    Some(match kind {
        "session.update" => &["session"],
        "input_audio_buffer.append" => &["audio"],
        "input_audio_buffer.commit" | "input_audio_buffer.clear" | "output_audio_buffer.clear" => {
            &[]
        }
        "conversation.item.create" => &["previous_item_id", "item"],
        "conversation.item.truncate" => &["item_id", "content_index", "audio_end_ms"],
        "conversation.item.delete" | "conversation.item.retrieve" => &["item_id"],
        "response.create" => &["response"],
        "response.cancel" => &["response_id"],
        _ => return None,
    })
}

pub(super) const RESPONSE: &[&str] = &[
    "conversation",
    "input",
    "instructions",
    "output_modalities",
    "audio",
    "tools",
    "tool_choice",
    "max_output_tokens",
    "metadata",
    "reasoning",
    "parallel_tool_calls",
    "prompt",
];

pub(super) const ITEM: &[&str] = &[
    "id",
    "object",
    "type",
    "status",
    "role",
    "content",
    "call_id",
    "name",
    "arguments",
    "output",
];

pub(super) const SESSION: &[&str] = &[
    "type",
    "model",
    "output_modalities",
    "instructions",
    "audio",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning",
    "max_output_tokens",
    "truncation",
    "tracing",
    "prompt",
    "include",
];

pub(super) const BETA_SESSION: &[&str] = &[
    "modalities",
    "voice",
    "speed",
    "input_audio_format",
    "output_audio_format",
    "input_audio_transcription",
    "input_audio_noise_reduction",
    "turn_detection",
    "max_response_output_tokens",
    "temperature",
];

/// The objects inside a session and their fields.
pub(super) const NESTED: &[(&str, &[&str])] = &[
    ("/audio", &["input", "output"]),
    ("/audio/input", &["format", "noise_reduction", "transcription", "turn_detection"]),
    ("/audio/input/format", &["type", "rate"]),
    ("/audio/input/noise_reduction", &["type", "strength"]),
    (
        "/audio/input/transcription",
        &["model", "language", "languages", "prompt", "keywords", "delay"],
    ),
    (
        "/audio/input/turn_detection",
        &[
            "type",
            "threshold",
            "prefix_padding_ms",
            "silence_duration_ms",
            "idle_timeout_ms",
            "eagerness",
            "create_response",
            "interrupt_response",
        ],
    ),
    ("/audio/output", &["format", "voice", "speed"]),
    ("/audio/output/format", &["type", "rate"]),
    ("/reasoning", &["effort"]),
];

/// Fails for the first field of `object` that is not `known`.
pub(super) fn check(
    object: &Map<String, Value>,
    known: &[&str],
    place: &str,
) -> Result<(), Refusal> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => {
            let param =
                if place.is_empty() { unknown.clone() } else { format!("{place}.{unknown}") };
            let message = format!("Unknown parameter: '{param}'.");
            Err(Refusal::about("unknown_parameter", param, message))
        }
        None => Ok(()),
    }
}
