//! What a fake model says: answers, transcripts, tool calls, errors, usage.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_call::Usage;

use super::Action;
use crate::answer::Profile;

/// A spoken answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Milliseconds of audio.
    pub ms: u64,
    /// How the audio is cut and timed.
    #[serde(default)]
    pub profile: Profile,
    /// Fragments of the transcript, spread over the audio.
    #[serde(default)]
    pub transcript: Vec<String>,
    /// What it used; none leaves it out.
    #[serde(default = "UsageSpec::some")]
    pub usage: Option<UsageSpec>,
    /// How it ends.
    #[serde(default)]
    pub end: AnswerEnd,
    /// Number that the audio carries, instead of the count of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<u32>,
}

impl Answer {
    /// A complete answer of `ms` milliseconds in one burst.
    pub fn of_ms(ms: u64) -> Self {
        Self {
            ms,
            profile: Profile::Burst,
            transcript: Vec::new(),
            usage: UsageSpec::some(),
            end: AnswerEnd::Complete,
            marker: None,
        }
    }

    /// The same with these transcript fragments.
    #[must_use]
    pub fn saying<const N: usize>(mut self, fragments: [&str; N]) -> Self {
        self.transcript = fragments.map(String::from).to_vec();
        self
    }

    /// The same with another profile.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The same with another end.
    #[must_use]
    pub fn end(mut self, end: AnswerEnd) -> Self {
        self.end = end;
        self
    }
}

impl From<Answer> for Action {
    fn from(answer: Answer) -> Self {
        Self::Answer(answer)
    }
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerEnd {
    /// As it should: Gemini `generationComplete` and, after playback, `turnComplete`; OpenAI `response.done`.
    #[default]
    Complete,
    /// Gemini: `generationComplete` only, `turnComplete` is up to the script. OpenAI: as `Complete`.
    Generated,
    /// Not at all: generation stays open after the last chunk.
    Open,
}

/// An answer made of several outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// What it is made of, in order.
    pub outputs: Vec<ResponseOutput>,
    /// How it ends.
    #[serde(default)]
    pub end: AnswerEnd,
    /// Its status when it ends (OpenAI).
    #[serde(default)]
    pub status: ResponseStatus,
    /// What it used; none leaves it out.
    #[serde(default = "UsageSpec::some")]
    pub usage: Option<UsageSpec>,
    /// It belongs to no conversation (OpenAI `conversation: "none"`): runs beside the others and must not be played.
    #[serde(default)]
    pub out_of_band: bool,
}

impl Response {
    /// A complete response of these outputs.
    pub fn of(outputs: impl Into<Vec<ResponseOutput>>) -> Self {
        Self {
            outputs: outputs.into(),
            end: AnswerEnd::Complete,
            status: ResponseStatus::Completed,
            usage: UsageSpec::some(),
            out_of_band: false,
        }
    }

    /// The same with another status.
    #[must_use]
    pub fn status(mut self, status: ResponseStatus) -> Self {
        self.status = status;
        self
    }
}

impl From<Response> for Action {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        let Answer { ms, profile, transcript, usage, end, marker } = answer;
        let message = SpokenMessage { ms, profile, transcript, phase: None, marker };
        Self { end, usage, ..Self::of([ResponseOutput::Message(message)]) }
    }
}

/// One output of a response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseOutput {
    /// Speech.
    Message(SpokenMessage),
    /// A tool call.
    FunctionCall(ToolRequest),
}

/// Speech within a response.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpokenMessage {
    /// Milliseconds of audio.
    pub ms: u64,
    /// How the audio is cut and timed.
    #[serde(default)]
    pub profile: Profile,
    /// Fragments of the transcript, spread over the audio.
    #[serde(default)]
    pub transcript: Vec<String>,
    /// `commentary` or `final_answer` (OpenAI reasoning models).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Number that the audio carries, instead of the count of answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub marker: Option<u32>,
}

impl SpokenMessage {
    /// `ms` milliseconds of speech in one burst.
    pub fn of_ms<const N: usize>(ms: u64, transcript: [&str; N]) -> Self {
        Self { ms, transcript: transcript.map(String::from).to_vec(), ..Self::default() }
    }
}

/// How a response of OpenAI ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResponseStatus {
    /// `completed`.
    #[default]
    Completed,
    /// `incomplete` with this reason.
    Incomplete(String),
    /// `cancelled` with this reason; the last output item is `incomplete`.
    Cancelled(String),
    /// `failed` with this error.
    Failed(ErrorSpec),
}

/// What the caller said, as the model understood it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InputTranscript {
    /// One fragment.
    Text(String),
    /// Several fragments.
    Fragments(Vec<String>),
    /// OpenAI: fragments with usage of type `duration` instead of `tokens`.
    Timed {
        /// The fragments.
        fragments: Vec<String>,
        /// Seconds of transcribed audio.
        seconds: f64,
    },
    /// OpenAI: transcription failed with this message.
    Failed {
        /// The error's message.
        failed: String,
    },
}

/// A tool call as the model writes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolRequest {
    /// Call id.
    pub id: String,
    /// Tool name.
    pub name: String,
    /// Arguments.
    #[serde(default = "empty_object")]
    pub args: Value,
    /// OpenAI: this text as arguments instead, JSON or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_arguments: Option<String>,
    /// A call that is not answered within this many milliseconds of session time is a violation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_ms: Option<u64>,
}

impl ToolRequest {
    /// A call with arguments.
    pub fn new(id: &str, name: &str, args: Value) -> Self {
        Self {
            id: id.into(),
            name: name.into(),
            args,
            raw_arguments: None,
            budget_ms: Some(20_000),
        }
    }

    /// The arguments as text.
    pub(crate) fn arguments_text(&self) -> String {
        self.raw_arguments.clone().unwrap_or_else(|| self.args.to_string())
    }
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

/// An error as OpenAI writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorSpec {
    /// `type`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `code`.
    pub code: String,
    /// `message`.
    pub message: String,
}

impl ErrorSpec {
    /// An error.
    pub fn new(kind: &str, code: &str, message: &str) -> Self {
        Self { kind: kind.into(), code: code.into(), message: message.into() }
    }
}

/// Tokens an answer used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageSpec {
    /// Text in, cached tokens included.
    pub input_text: u64,
    /// Audio in.
    pub input_audio: u64,
    /// Of the text in: from the cache.
    pub cached: u64,
    /// Text out.
    pub output_text: u64,
    /// Audio out.
    pub output_audio: u64,
}

impl UsageSpec {
    /// What every answer uses unless it says otherwise.
    pub const ANSWER: Self =
        Self { input_text: 40, input_audio: 10, cached: 8, output_text: 6, output_audio: 24 };

    fn some() -> Option<Self> {
        Some(Self::ANSWER)
    }

    /// What `answers` answers use together, as a call's record counts it.
    pub fn times(self, answers: u64) -> Usage {
        Usage {
            input_tokens: (self.input_text + self.input_audio) * answers,
            output_tokens: (self.output_text + self.output_audio) * answers,
            input_audio_tokens: self.input_audio * answers,
            output_audio_tokens: self.output_audio * answers,
            cached_tokens: self.cached * answers,
        }
    }
}
