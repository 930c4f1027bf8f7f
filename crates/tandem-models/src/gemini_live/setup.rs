//! The setup message and the words sent to the model.

use serde_json::{Map, Value, json};
use tandem_call::{HistoryTurn, SessionSpec, Speaker};

use super::schema::declaration;
use crate::{
    ModelOptions, ModelSettings,
    settings::{Thinking, TurnDetection},
};

/// Context beyond this is compressed, which also lifts the limit of 15 minutes; half of it stays. Audio is 25 tokens
/// a second, so the last five minutes stay word for word.
const COMPRESS_ABOVE: u32 = 32_000;
const COMPRESS_TO: u32 = 16_000;

/// Turns of history that are carried over; the oldest go first.
const MAX_HISTORY: usize = 100;

/// What a model of this name takes and does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Family {
    /// `turnComplete` is not the end of its answer; it wants a thinking level.
    pub(super) extended_thinking: bool,
    /// Text during the conversation goes through `clientContent`.
    pub(super) content_text: bool,
    /// History is taken only when the setup announces it.
    pub(super) announces_history: bool,
    /// It is silent until its tool calls are answered.
    pub(super) blocks_on_tools: bool,
    thinks_by_budget: bool,
    thinks_by_level: bool,
}

impl Family {
    pub(super) fn of(model: &str) -> Self {
        let extended_thinking = model.contains("extended-thinking");
        let v31 = model.contains("3.1");
        let v25 = model.contains("2.5");
        Self {
            extended_thinking,
            content_text: v25,
            announces_history: v31,
            blocks_on_tools: v31 || v25,
            thinks_by_budget: v25,
            thinks_by_level: v31 || extended_thinking,
        }
    }

    fn thinking(self, options: &ModelOptions) -> Option<Value> {
        if self.thinks_by_budget {
            let budget = match options.thinking {
                None | Some(Thinking::Minimal) => 0,
                Some(Thinking::Low) => 512,
                Some(Thinking::Medium) => 2_048,
                Some(Thinking::High) => 8_192,
            };
            return Some(json!({ "thinkingBudget": budget }));
        }
        if !self.thinks_by_level {
            return None; // Naming a level is an error for the others.
        }
        let level = match options.thinking {
            None if !self.extended_thinking => return None,
            Some(Thinking::Minimal) if !self.extended_thinking => "MINIMAL",
            None | Some(Thinking::Minimal | Thinking::Low) => "LOW",
            Some(Thinking::Medium) => "MEDIUM",
            Some(Thinking::High) => "HIGH",
        };
        Some(json!({ "thinkingLevel": level }))
    }
}

/// The setup for `spec`, resuming with `handle` if there is one.
pub(super) fn setup(
    settings: &ModelSettings,
    spec: &SessionSpec,
    handle: Option<&str>,
    seeds_history: bool,
) -> Value {
    let options = &settings.options;
    let family = Family::of(&settings.model);

    let mut generation = Map::new();
    generation.insert("responseModalities".into(), json!(["AUDIO"]));
    if let Some(temperature) = spec.temperature {
        // Through decimal text: 0.8_f32 is to be written 0.8.
        let temperature: f64 = temperature.to_string().parse().unwrap_or(1.0);
        generation.insert("temperature".into(), json!(temperature));
    }
    if let Some(voice) = &spec.voice {
        generation.insert(
            "speechConfig".into(),
            json!({ "voiceConfig": { "prebuiltVoiceConfig": { "voiceName": voice } } }),
        );
    }
    if let Some(thinking) = family.thinking(options) {
        generation.insert("thinkingConfig".into(), thinking);
    }

    let mut setup = Map::new();
    setup.insert("model".into(), json!(resource_name(&settings.model)));
    setup.insert("generationConfig".into(), Value::Object(generation));
    let prompt = system_instruction(spec);
    if !prompt.is_empty() {
        setup.insert("systemInstruction".into(), json!({ "parts": [{ "text": prompt }] }));
    }
    if !spec.tools.is_empty() {
        let behavior = family.extended_thinking.then_some("NON_BLOCKING");
        let declarations: Vec<Value> =
            spec.tools.iter().map(|tool| declaration(tool, behavior)).collect();
        setup.insert("tools".into(), json!([{ "functionDeclarations": declarations }]));
    }
    setup.insert(
        "realtimeInputConfig".into(),
        json!({
            "automaticActivityDetection": activity_detection(options),
            "activityHandling": "START_OF_ACTIVITY_INTERRUPTS",
            "turnCoverage": "TURN_INCLUDES_ONLY_ACTIVITY",
        }),
    );
    if spec.transcription {
        setup.insert("inputAudioTranscription".into(), json!({}));
        setup.insert("outputAudioTranscription".into(), json!({}));
    }
    // A null handle closes the connection; none at all asks for handles to come.
    let resumption = handle.map_or_else(|| json!({}), |handle| json!({ "handle": handle }));
    setup.insert("sessionResumption".into(), resumption);
    setup.insert(
        "contextWindowCompression".into(),
        json!({
            "triggerTokens": COMPRESS_ABOVE.to_string(),
            "slidingWindow": { "targetTokens": COMPRESS_TO.to_string() },
        }),
    );
    if seeds_history && family.announces_history {
        setup.insert("historyConfig".into(), json!({ "initialHistoryInClientContent": true }));
    }
    json!({ "setup": setup })
}

fn resource_name(model: &str) -> String {
    if model.contains('/') { model.to_owned() } else { format!("models/{model}") }
}

/// How the server is to find turns, unless we tell it.
fn activity_detection(options: &ModelOptions) -> Value {
    if options.turn_detection == TurnDetection::Local {
        return json!({ "disabled": true });
    }
    let mut detection = json!({ "silenceDurationMs": options.silence_duration_ms });
    if let Some(padding) = options.prefix_padding_ms {
        detection["prefixPaddingMs"] = json!(padding);
    }
    detection
}

/// The system prompt with the language in it: native-audio models have no field for it.
fn system_instruction(spec: &SessionSpec) -> String {
    if spec.language.is_empty() {
        return spec.instructions.clone();
    }
    format!(
        "{}\n\nSpeak the language with the BCP-47 tag {} unless the caller prefers another.",
        spec.instructions, spec.language
    )
}

/// The message that puts `history` into the conversation without an answer to it; none when there is nothing to say.
pub(super) fn history_message(family: Family, history: &[HistoryTurn]) -> Option<Value> {
    let from = history.len().saturating_sub(MAX_HISTORY);
    let mut turns: Vec<Value> = Vec::new();
    for turn in history[from..].iter().filter(|turn| !turn.text.trim().is_empty()) {
        let role = match turn.speaker {
            Speaker::Caller => "user",
            Speaker::Agent => "model",
        };
        turns.push(content(role, &turn.text));
    }
    let last = turns.last()?;
    if last.get("role") == Some(&json!("model")) && !family.announces_history {
        // A trailing turn of its own is continued aloud.
        turns.push(content("user", "(The connection was renewed. The conversation goes on.)"));
    }
    // Announced history ends with a complete turn and still triggers nothing.
    Some(json!({ "clientContent": { "turns": turns, "turnComplete": family.announces_history } }))
}

fn content(role: &str, text: &str) -> Value {
    json!({ "role": role, "parts": [{ "text": text }] })
}

/// Text that wants an answer.
pub(super) fn text_message(family: Family, text: &str) -> Value {
    if family.content_text {
        json!({ "clientContent": { "turns": [content("user", text)], "turnComplete": true } })
    } else {
        json!({ "realtimeInput": { "text": text } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_is_said_the_way_each_model_takes_it() {
        for (model, asked, sent) in [
            ("gemini-3.8-live", Some(Thinking::High), None),
            ("gemini-3.8-live-extended-thinking", None, Some(json!({ "thinkingLevel": "LOW" }))),
            (
                "gemini-3.8-live-extended-thinking",
                Some(Thinking::Minimal),
                Some(json!({ "thinkingLevel": "LOW" })),
            ),
            ("gemini-3.1-flash-live-preview", None, None),
            (
                "gemini-3.1-flash-live-preview",
                Some(Thinking::Minimal),
                Some(json!({ "thinkingLevel": "MINIMAL" })),
            ),
            ("gemini-2.5-flash-native-audio", None, Some(json!({ "thinkingBudget": 0 }))),
        ] {
            let options = ModelOptions { thinking: asked, ..ModelOptions::default() };
            assert_eq!(Family::of(model).thinking(&options), sent, "{model} {asked:?}");
        }
    }

    #[test]
    fn history_never_ends_with_the_model_unless_announced() {
        let history = [
            HistoryTurn { speaker: Speaker::Caller, text: "Hello".into() },
            HistoryTurn { speaker: Speaker::Agent, text: "Hi".into() },
        ];
        let plain = history_message(Family::of("gemini-3.8-live"), &history).expect("history");
        let turns = plain.pointer("/clientContent/turns").and_then(Value::as_array);
        assert_eq!(turns.map(Vec::len), Some(3));
        assert_eq!(plain.pointer("/clientContent/turnComplete"), Some(&json!(false)));
        let announced = history_message(Family::of("gemini-3.1-x"), &history).expect("history");
        let turns = announced.pointer("/clientContent/turns").and_then(Value::as_array);
        assert_eq!(turns.map(Vec::len), Some(2));
        assert_eq!(announced.pointer("/clientContent/turnComplete"), Some(&json!(true)));
        assert_eq!(history_message(Family::of("gemini-3.8-live"), &[]), None);
    }
}
