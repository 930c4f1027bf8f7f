//! The wire of Gemini Live, server side.

use serde_json::{Map, Value, json};
use tandem_media::{AudioFormat, SampleRate};

use crate::{
    script::{AnswerEnd, InputTranscript, Response, ResponseOutput, ToolRequest, UsageSpec},
    speech::SpeechChange,
    wire::{CallState, Dial, Inbound, Link, Op, Output, Target, Wire, interleave},
};

mod setup;

use setup::{Rejection, Setup};

const OUTPUT: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fresh,
    Configuring,
    Live,
}

/// Gemini Live as a client sees it.
pub(crate) struct Gemini {
    key: String,
    text_frames: bool,
    stage: Stage,
    setup: Setup,
    input: AudioFormat,
    seeding: bool,
    turn_open: bool,
}

impl Gemini {
    pub(crate) fn new(key: &str, text_frames: bool) -> Self {
        Self {
            key: key.to_owned(),
            text_frames,
            stage: Stage::Fresh,
            setup: Setup::default(),
            input: AudioFormat::Pcm16(SampleRate::Hz16000),
            seeding: false,
            turn_open: false,
        }
    }

    fn reject(link: &mut Link, rejection: Rejection) {
        let Rejection { code, reason } = rejection;
        link.violation(format!("{code} {reason}"));
        if link.strict {
            link.push(Output::Close { code, reason });
        }
    }

    fn handle_setup(&mut self, setup: &Value, link: &mut Link) -> Vec<Inbound> {
        match Setup::check(setup, link) {
            Ok(accepted) => self.setup = accepted,
            Err(rejection) => {
                Self::reject(link, rejection);
                if link.strict {
                    return Vec::new();
                }
            }
        }
        self.seeding = self.setup.seeds_history;
        self.stage = Stage::Configuring;
        vec![Inbound::Setup]
    }

    fn handle_realtime(&mut self, input: &Map<String, Value>) -> Result<Vec<Inbound>, Rejection> {
        const FIELDS: &[&str] = &[
            "audio",
            "text",
            "audioStreamEnd",
            "activityStart",
            "activityEnd",
            "mediaChunks",
            "video",
        ];
        setup::known_fields(input, FIELDS, "realtime_input")?;
        let mut inbound = Vec::new();
        let chunks = input.get("mediaChunks").and_then(Value::as_array);
        for audio in input.get("audio").into_iter().chain(chunks.into_iter().flatten()) {
            inbound.push(self.caller_audio(audio)?);
        }
        if input.contains_key("activityStart") || input.contains_key("activityEnd") {
            if !self.setup.manual_turns {
                return Err(Rejection::invalid(
                    "Explicit activity control is not supported when automatic activity detection is enabled.",
                ));
            }
            let start = input.contains_key("activityStart");
            inbound.push(if start { Inbound::ActivityStart } else { Inbound::ActivityEnd });
        }
        if let Some(text) = input.get("text") {
            if !text.is_string() {
                return Err(Rejection::invalid_argument());
            }
            inbound.push(Inbound::Text);
        }
        Ok(inbound)
    }

    fn caller_audio(&mut self, audio: &Value) -> Result<Inbound, Rejection> {
        let mime = audio.get("mimeType").and_then(Value::as_str).unwrap_or_default();
        let format = format_of(mime)
            .ok_or_else(|| Rejection::invalid("Audio mime type must be audio/pcm with a rate."))?;
        let data =
            audio.get("data").and_then(Value::as_str).ok_or_else(Rejection::invalid_argument)?;
        let bytes = base64_simd::STANDARD
            .decode_to_vec(data)
            .map_err(|_| Rejection::invalid("Invalid base64 in audio data."))?;
        if !bytes.len().is_multiple_of(2) {
            return Err(Rejection::invalid("Audio data has half a sample."));
        }
        self.input = format;
        Ok(Inbound::Audio(bytes, format))
    }

    fn handle_content(&mut self, content: &Map<String, Value>) -> Result<Vec<Inbound>, Rejection> {
        setup::known_fields(content, &["turns", "turnComplete"], "client_content")?;
        let turns = content.get("turns").and_then(Value::as_array);
        for turn in turns.into_iter().flatten() {
            if !matches!(turn.get("role").and_then(Value::as_str), Some("user" | "model")) {
                return Err(Rejection::invalid("Please use a valid role: user, model."));
            }
        }
        let complete = content.get("turnComplete").and_then(Value::as_bool).unwrap_or(false);
        if !complete {
            return Ok(Vec::new());
        }
        if std::mem::take(&mut self.seeding) {
            return Ok(Vec::new());
        }
        if self.setup.seeds_only() {
            return Err(Rejection::invalid_argument());
        }
        Ok(if self.turn_open { vec![Inbound::Cut, Inbound::Text] } else { vec![Inbound::Text] })
    }

    fn handle_results(
        &self,
        results: &Map<String, Value>,
        link: &mut Link,
    ) -> Result<Vec<Inbound>, Rejection> {
        let responses = results
            .get("functionResponses")
            .and_then(Value::as_array)
            .ok_or_else(Rejection::invalid_argument)?;
        let mut inbound = Vec::new();
        for response in responses {
            let id = response.get("id").and_then(Value::as_str).unwrap_or_default();
            let Some(state) = link.calls.get(id).copied() else {
                return Err(Rejection::invalid(&format!("Unknown function call id {id}.")));
            };
            if !response.get("response").is_some_and(Value::is_object) {
                return Err(Rejection::invalid_argument());
            }
            if response.get("scheduling").is_some() && self.setup.extended_thinking() {
                return Err(Rejection::invalid(
                    "Function response scheduling is not supported for this model.",
                ));
            }
            match state {
                CallState::Open => {
                    link.calls.insert(id.to_owned(), CallState::Answered);
                    inbound.push(Inbound::ToolResult(id.to_owned()));
                }
                CallState::Answered => link.violation(format!("tool call {id} answered twice")),
                CallState::Cancelled => {
                    link.violation(format!("tool call {id} answered after its cancellation"));
                }
            }
        }
        Ok(inbound)
    }
}

impl Wire for Gemini {
    fn authorize(&mut self, dial: &Dial) -> Result<(), u16> {
        let known_path = dial.path.ends_with("v1beta.GenerativeService.BidiGenerateContent")
            || dial.path.ends_with("v1alpha.GenerativeService.BidiGenerateContent")
            || dial.path.ends_with("LlmBidiService/BidiGenerateContent");
        if !known_path {
            return Err(404);
        }
        let bearer = dial.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
        let offered = [dial.header("x-goog-api-key"), dial.query("key"), bearer];
        if offered.into_iter().flatten().any(|key| key == self.key) { Ok(()) } else { Err(401) }
    }

    fn binary(&self) -> bool {
        !self.text_frames
    }

    fn live_when_opened(&self) -> bool {
        false
    }

    fn opened(&mut self, _link: &mut Link) {}

    fn ready(&mut self, link: &mut Link) {
        self.send(json!({ "setupComplete": {} }), link);
    }

    fn plain_audio<'a>(&mut self, text: &'a [u8]) -> Option<(&'a [u8], AudioFormat)> {
        const OPENINGS: [&str; 2] =
            [r#"{"realtimeInput":{"audio":{"#, r#"{"realtime_input":{"audio":{"#];
        if self.stage != Stage::Live {
            return None;
        }
        let text = std::str::from_utf8(text).ok()?;
        let fields = OPENINGS.iter().find_map(|opening| text.strip_prefix(opening))?;
        let fields = fields.strip_suffix("}}}")?;
        let (before, data) = fields.split_once(r#""data":""#)?;
        let (data, after) = data.split_once('"')?;
        let mime =
            if before.is_empty() { after.strip_prefix(',')? } else { before.strip_suffix(',')? };
        let mime = mime.strip_prefix(r#""mimeType":""#).or(mime.strip_prefix(r#""mime_type":""#))?;
        let format = format_of(mime.strip_suffix('"')?)?;
        let padding = data.bytes().rev().take_while(|byte| *byte == b'=').count();
        let whole =
            data.len().is_multiple_of(4) && (data.len() / 4 * 3 - padding.min(2)).is_multiple_of(2);
        (whole && format == self.input && !data.contains('\\')).then_some((data.as_bytes(), format))
    }

    fn handle(&mut self, message: &Value, link: &mut Link) -> Vec<Inbound> {
        let message = camel_case(message);
        let Some(fields) = message.as_object() else {
            Self::reject(link, Rejection::invalid_argument());
            return Vec::new();
        };
        if let Some(setup) = fields.get("setup") {
            if self.stage != Stage::Fresh {
                Self::reject(link, Rejection::invalid("setup must be sent only once"));
                return Vec::new();
            }
            return self.handle_setup(setup, link);
        }
        match self.stage {
            Stage::Live => {}
            Stage::Fresh => {
                Self::reject(link, Rejection::invalid("setup must be the first message"));
            }
            Stage::Configuring => {
                Self::reject(link, Rejection::invalid("message before setupComplete"));
            }
        }
        if link.closed {
            return Vec::new();
        }
        let object = |name: &str| fields.get(name).and_then(Value::as_object);
        let handled = if let Some(input) = object("realtimeInput") {
            self.handle_realtime(input)
        } else if let Some(content) = object("clientContent") {
            self.handle_content(content)
        } else if let Some(results) = object("toolResponse") {
            self.handle_results(results, link)
        } else if object("contextUpdate").is_some() {
            Ok(Vec::new())
        } else {
            Err(Rejection::unknown_name(fields.keys().next().map_or("", String::as_str), ""))
        };
        handled.unwrap_or_else(|rejection| {
            Self::reject(link, rejection);
            Vec::new()
        })
    }

    fn handle_garbage(&mut self, link: &mut Link) {
        Self::reject(link, Rejection::invalid("Invalid JSON payload received."));
    }

    fn speech(&mut self, _change: SpeechChange, _link: &mut Link) {}

    fn plan_response(&mut self, response: &Response, link: &mut Link) -> Vec<Op> {
        let mut ops = vec![Op::EnterAnswer];
        let mut calls = Vec::new();
        for output in &response.outputs {
            match output {
                ResponseOutput::Message(message) => {
                    let marker = link.next_marker(message.marker);
                    ops.push(Op::BeginAnswer);
                    ops.extend(interleave(
                        message.profile.cut(OUTPUT, message.ms),
                        &message.transcript,
                        |text| Op::Send(transcription("outputTranscription", text)),
                        |chunk, ops| {
                            ops.push(Op::Delay(chunk.after_ms));
                            let target = Target::default();
                            ops.push(Op::Audio {
                                marker,
                                format: OUTPUT,
                                bytes: chunk.bytes,
                                target,
                            });
                        },
                    ));
                }
                ResponseOutput::FunctionCall(tool) => calls.push(tool.clone()),
            }
        }
        if !calls.is_empty() {
            ops.extend(self.plan_tools(&calls, link));
        } else if response.end != AnswerEnd::Open {
            ops.push(Op::Send(json!({ "serverContent": { "generationComplete": true } })));
            if response.end == AnswerEnd::Complete {
                ops.push(Op::AwaitPlayback);
                let mut done = json!({ "serverContent": { "turnComplete": true } });
                if let Some(usage) = &response.usage {
                    done["usageMetadata"] = usage_metadata(usage);
                }
                ops.push(Op::Send(done));
            }
        }
        ops.push(Op::EndAnswer);
        ops
    }

    fn plan_tools(&mut self, tools: &[ToolRequest], _link: &mut Link) -> Vec<Op> {
        let calls: Vec<Value> = tools
            .iter()
            .map(|tool| json!({ "id": tool.id, "name": tool.name, "args": tool.args }))
            .collect();
        vec![Op::Send(json!({ "toolCall": { "functionCalls": calls } }))]
    }

    fn plan_transcript(&mut self, transcript: &InputTranscript) -> Vec<Op> {
        let fragments = match transcript {
            InputTranscript::Text(text) => std::slice::from_ref(text),
            InputTranscript::Fragments(fragments) | InputTranscript::Timed { fragments, .. } => {
                fragments
            }
            InputTranscript::Failed { .. } => &[],
        };
        fragments.iter().map(|text| Op::Send(transcription("inputTranscription", text))).collect()
    }

    fn plan_unscripted(&mut self, _link: &mut Link) -> Vec<Op> {
        Vec::new()
    }

    fn interruptible(&self) -> bool {
        self.setup.interrupts
    }

    fn interrupted(&mut self, link: &mut Link) {
        self.send(json!({ "serverContent": { "interrupted": true } }), link);
    }

    fn turn_complete(&mut self, link: &mut Link) {
        self.send(json!({ "serverContent": { "turnComplete": true } }), link);
    }

    fn generation_complete(&mut self, link: &mut Link) {
        self.send(json!({ "serverContent": { "generationComplete": true } }), link);
    }

    fn send(&mut self, message: Value, link: &mut Link) {
        if message.get("setupComplete").is_some() {
            self.stage = Stage::Live;
        }
        if let Some(content) = message.get("serverContent") {
            let is_true = |name: &str| content.get(name).and_then(Value::as_bool) == Some(true);
            if content.get("modelTurn").is_some() {
                self.turn_open = true;
            }
            if is_true("interrupted") {
                let now = link.now;
                link.playback.clear(now);
            }
            if is_true("turnComplete") {
                self.turn_open = false;
            }
        }
        let calls = message.pointer("/toolCall/functionCalls").and_then(Value::as_array);
        for id in calls.into_iter().flatten().filter_map(|call| call["id"].as_str()) {
            self.turn_open = true;
            link.calls.insert(id.to_owned(), CallState::Open);
        }
        let cancelled = message.pointer("/toolCallCancellation/ids").and_then(Value::as_array);
        for id in cancelled.into_iter().flatten().filter_map(Value::as_str) {
            if link.calls.get(id) == Some(&CallState::Open) {
                link.calls.insert(id.to_owned(), CallState::Cancelled);
            }
        }
        link.push(Output::Message(message.to_string()));
    }

    fn send_audio(
        &mut self,
        base64: &str,
        format: AudioFormat,
        _bytes: usize,
        _target: &Target,
        link: &mut Link,
    ) {
        self.turn_open = true;
        let rate = format.rate().hz();
        link.push(Output::Message(format!(
            r#"{{"serverContent":{{"modelTurn":{{"role":"model","parts":[{{"inlineData":{{"mimeType":"audio/pcm;rate={rate}","data":"{base64}"}}}}]}}}}}}"#
        )));
    }

    fn placeholder(&self, _name: &str) -> Option<String> {
        None
    }

    fn output_format(&self) -> AudioFormat {
        OUTPUT
    }

    fn listening(&self) -> (AudioFormat, u64) {
        (self.input, self.setup.silence_ms)
    }

    fn detects_turns(&self) -> bool {
        !self.setup.manual_turns
    }

    fn turn_open(&self) -> bool {
        self.turn_open
    }

    fn resumed_handle(&self, text: &[u8]) -> Option<String> {
        if self.stage != Stage::Fresh {
            return None;
        }
        let message = camel_case(&serde_json::from_slice(text).ok()?);
        message.pointer("/setup/sessionResumption/handle")?.as_str().map(str::to_owned)
    }
}

/// The format that a mime type such as `audio/pcm;rate=16000` names.
fn format_of(mime: &str) -> Option<AudioFormat> {
    let rate = mime.strip_prefix("audio/pcm;")?.trim().strip_prefix("rate=")?;
    SampleRate::from_hz(rate.parse().ok()?).map(AudioFormat::Pcm16)
}

fn transcription(field: &str, text: &str) -> Value {
    json!({ "serverContent": { field: { "text": text } } })
}

/// The `usageMetadata` of `usage`.
pub(crate) fn usage_metadata(usage: &UsageSpec) -> Value {
    let UsageSpec { input_text, input_audio, cached, output_text, output_audio } = *usage;
    json!({
        "promptTokenCount": input_text + input_audio,
        "cachedContentTokenCount": cached,
        "responseTokenCount": output_text + output_audio,
        "totalTokenCount": input_text + input_audio + output_text + output_audio,
        "promptTokensDetails": [
            { "modality": "TEXT", "tokenCount": input_text },
            { "modality": "AUDIO", "tokenCount": input_audio },
        ],
        "responseTokensDetails": [
            { "modality": "TEXT", "tokenCount": output_text },
            { "modality": "AUDIO", "tokenCount": output_audio },
        ],
    })
}

/// `value` with the protocol's own keys in camelCase; what belongs to the user is left alone.
fn camel_case(value: &Value) -> Value {
    const THE_USERS: [&str; 5] =
        ["parameters", "parametersJsonSchema", "response", "args", "labels"];
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let key = camel_case_word(key);
                let value = if THE_USERS.contains(&key.as_str()) {
                    value.clone()
                } else {
                    camel_case(value)
                };
                (key, value)
            })
            .collect(),
        Value::Array(values) => values.iter().map(camel_case).collect(),
        other => other.clone(),
    }
}

fn camel_case_word(word: &str) -> String {
    let mut parts = word.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |mut joined, part| {
        let mut letters = part.chars();
        joined.extend(letters.next().map(|letter| letter.to_ascii_uppercase()));
        joined.push_str(letters.as_str());
        joined
    })
}
