//! Judging Gemini's `setup` message.

use serde_json::{Map, Value};

use crate::wire::Link;

/// Why a connection is closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) code: u16,
    pub(super) reason: String,
}

impl Rejection {
    pub(super) fn invalid(reason: &str) -> Self {
        Self { code: 1007, reason: reason.to_owned() }
    }

    pub(super) fn invalid_argument() -> Self {
        Self::invalid("Request contains an invalid argument.")
    }

    pub(super) fn unknown_name(name: &str, place: &str) -> Self {
        Self::invalid(&format!(
            "Invalid JSON payload received. Unknown name \"{name}\" at '{place}': Cannot find field."
        ))
    }
}

/// What matters of an accepted setup.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    model: String,
    pub(super) manual_turns: bool,
    pub(super) interrupts: bool,
    pub(super) silence_ms: u64,
    pub(super) seeds_history: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            model: String::new(),
            manual_turns: false,
            interrupts: true,
            silence_ms: 500,
            seeds_history: false,
        }
    }
}

/// The fields of each object of a setup.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "/generationConfig",
        &[
            "responseModalities",
            "temperature",
            "topP",
            "topK",
            "maxOutputTokens",
            "seed",
            "presencePenalty",
            "frequencyPenalty",
            "candidateCount",
            "mediaResolution",
            "speechConfig",
            "thinkingConfig",
            "enableAffectiveDialog",
            "translationConfig",
        ],
    ),
    ("/generationConfig/speechConfig", &["voiceConfig", "languageCode"]),
    (
        "/generationConfig/speechConfig/voiceConfig",
        &["prebuiltVoiceConfig", "replicatedVoiceConfig"],
    ),
    ("/generationConfig/speechConfig/voiceConfig/prebuiltVoiceConfig", &["voiceName"]),
    ("/generationConfig/thinkingConfig", &["thinkingLevel", "thinkingBudget", "includeThoughts"]),
    ("/systemInstruction", &["parts", "role"]),
    (
        "/realtimeInputConfig",
        &[
            "automaticActivityDetection",
            "activityHandling",
            "turnCoverage",
            "interimTranscriptTimestampEnabled",
        ],
    ),
    (
        "/realtimeInputConfig/automaticActivityDetection",
        &[
            "disabled",
            "startOfSpeechSensitivity",
            "endOfSpeechSensitivity",
            "prefixPaddingMs",
            "silenceDurationMs",
        ],
    ),
    ("/inputAudioTranscription", TRANSCRIPTION),
    ("/outputAudioTranscription", TRANSCRIPTION),
    ("/sessionResumption", &["handle"]),
    ("/contextWindowCompression", &["triggerTokens", "slidingWindow"]),
    ("/contextWindowCompression/slidingWindow", &["targetTokens"]),
    ("/proactivity", &["proactiveAudio", "proactiveVideo"]),
    ("/historyConfig", &["initialHistoryInClientContent"]),
];

const TRANSCRIPTION: &[&str] = &[
    "languageCodes",
    "customVocabulary",
    "mode",
    "languageHints",
    "languageAuto",
    "adaptationPhrases",
];

const SETUP: &[&str] = &[
    "model",
    "generationConfig",
    "systemInstruction",
    "tools",
    "realtimeInputConfig",
    "inputAudioTranscription",
    "outputAudioTranscription",
    "sessionResumption",
    "contextWindowCompression",
    "proactivity",
    "historyConfig",
    "safetySettings",
    "labels",
    "avatarConfig",
];

const DECLARATION: &[&str] =
    &["name", "description", "behavior", "parameters", "parametersJsonSchema", "response"];

const VOICES: [&str; 30] = [
    "Achernar",
    "Achird",
    "Algenib",
    "Algieba",
    "Alnilam",
    "Aoede",
    "Autonoe",
    "Callirrhoe",
    "Charon",
    "Despina",
    "Enceladus",
    "Erinome",
    "Fenrir",
    "Gacrux",
    "Iapetus",
    "Kore",
    "Laomedeia",
    "Leda",
    "Orus",
    "Pulcherrima",
    "Puck",
    "Rasalgethi",
    "Sadachbia",
    "Sadaltager",
    "Schedar",
    "Sulafat",
    "Umbriel",
    "Vindemiatrix",
    "Zephyr",
    "Zubenelgenubi",
];

impl Setup {
    /// Judges `setup`, whose keys are in camelCase.
    pub(super) fn check(setup: &Value, link: &Link) -> Result<Self, Rejection> {
        let fields = setup.as_object().ok_or_else(Rejection::invalid_argument)?;
        known_fields(fields, SETUP, "setup")?;
        for (place, known) in FIELDS {
            if let Some(object) = setup.pointer(place).and_then(Value::as_object) {
                known_fields(object, known, &format!("setup{}", place.replace('/', ".")))?;
            }
        }
        let model = setup.get("model").and_then(Value::as_str).unwrap_or_default().to_owned();
        if model.is_empty() {
            return Err(Rejection::invalid("model is required"));
        }
        check_resumption(setup, link)?;
        check_generation(setup, &model)?;
        check_tools(setup, &model)?;
        let detection = setup.pointer("/realtimeInputConfig/automaticActivityDetection");
        let detection = |name: &str| detection.and_then(|detection| detection.get(name));
        Ok(Self {
            model,
            manual_turns: detection("disabled").and_then(Value::as_bool).unwrap_or(false),
            interrupts: setup
                .pointer("/realtimeInputConfig/activityHandling")
                .and_then(Value::as_str)
                != Some("NO_INTERRUPTION"),
            silence_ms: detection("silenceDurationMs").and_then(Value::as_u64).unwrap_or(500),
            seeds_history: setup
                .pointer("/historyConfig/initialHistoryInClientContent")
                .and_then(Value::as_bool)
                .unwrap_or(false),
        })
    }

    pub(super) fn extended_thinking(&self) -> bool {
        self.model.contains("extended-thinking")
    }

    /// `clientContent` only seeds history and never asks for an answer.
    pub(super) fn seeds_only(&self) -> bool {
        self.model.contains("3.1")
    }
}

fn check_resumption(setup: &Value, link: &Link) -> Result<(), Rejection> {
    let Some(handle) = setup.pointer("/sessionResumption/handle") else { return Ok(()) };
    let Some(handle) = handle.as_str() else {
        return Err(Rejection { code: 1008, reason: "Invalid session resumption handle.".into() });
    };
    match link.registry.session_of(handle) {
        None => Err(Rejection { code: 1008, reason: "Requested entity was not found.".into() }),
        Some((_, true)) => {
            Err(Rejection { code: 1011, reason: "Internal error encountered.".into() })
        }
        Some((_, false)) => Ok(()),
    }
}

fn check_generation(setup: &Value, model: &str) -> Result<(), Rejection> {
    let generation = |place: &str| setup.pointer(&format!("/generationConfig{place}"));
    if let Some(modalities) = generation("/responseModalities")
        && *modalities != serde_json::json!(["AUDIO"])
    {
        return Err(Rejection::invalid_argument());
    }
    if let Some(voice) = generation("/speechConfig/voiceConfig/prebuiltVoiceConfig/voiceName") {
        let voice = voice.as_str().unwrap_or_default();
        let from_library = model.contains("3.8") && is_library_voice(voice);
        if !VOICES.contains(&voice) && !from_library {
            return Err(Rejection::invalid("No matching speaker found for the requested voice."));
        }
    }
    let level = generation("/thinkingConfig/thinkingLevel").and_then(Value::as_str);
    if model.contains("extended-thinking") {
        match level {
            None => return Err(Rejection::invalid("Thinking level must be specified")),
            Some("LOW" | "MEDIUM" | "HIGH") => {}
            Some(_) => return Err(Rejection::invalid_argument()),
        }
    } else if model.ends_with("gemini-3.8-live") && level.is_some() {
        return Err(Rejection::invalid("Thinking level is not supported for this model."));
    }
    if model.contains("3.8")
        && setup.pointer("/proactivity/proactiveAudio") == Some(&Value::Bool(false))
    {
        return Err(Rejection::invalid_argument());
    }
    Ok(())
}

/// Voice-library ids look like `en-us-tavi`.
fn is_library_voice(voice: &str) -> bool {
    voice.split('-').count() == 3
        && voice.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

fn check_tools(setup: &Value, model: &str) -> Result<(), Rejection> {
    let tools = setup.get("tools").and_then(Value::as_array);
    for tool in tools.into_iter().flatten() {
        let tool = tool.as_object().ok_or_else(Rejection::invalid_argument)?;
        known_fields(tool, &["functionDeclarations", "googleSearch"], "setup.tools")?;
        let declarations = tool.get("functionDeclarations").and_then(Value::as_array);
        for declaration in declarations.into_iter().flatten() {
            let declaration = declaration.as_object().ok_or_else(Rejection::invalid_argument)?;
            known_fields(declaration, DECLARATION, "setup.tools.function_declarations")?;
            if declaration.contains_key("parameters")
                && declaration.contains_key("parametersJsonSchema")
            {
                return Err(Rejection::invalid_argument());
            }
            let behavior = declaration.get("behavior").and_then(Value::as_str);
            let refused = match behavior {
                Some("BLOCKING") => model.contains("extended-thinking"),
                Some("NON_BLOCKING") => model.contains("3.1"),
                Some(_) => true,
                None => false,
            };
            if refused {
                return Err(Rejection::invalid(
                    "Function behavior is not supported for this model.",
                ));
            }
        }
    }
    Ok(())
}

/// Fails for the first field of `object` that is not `known`.
pub(super) fn known_fields(
    object: &Map<String, Value>,
    known: &[&str],
    place: &str,
) -> Result<(), Rejection> {
    match object.keys().find(|key| !known.contains(&key.as_str())) {
        Some(unknown) => Err(Rejection::unknown_name(unknown, place)),
        None => Ok(()),
    }
}
