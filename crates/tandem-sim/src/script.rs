//! What a fake model does, as data: triggers and the actions they set off.
//!
//! A script is a list of steps and can be written as JSON:
//!
//! ```
//! let script: tandem_sim::Script = serde_json::from_str(r#"[
//!     { "on": "text", "do": [ { "answer": { "ms": 1200, "transcript": ["Hello, ", "how can I help?"] } } ] },
//!     { "on": "speech_end", "n": 1, "do": [ { "tool": { "id": "fc-1", "name": "find_repair" } } ] },
//!     { "on": "tool_result", "id": "fc-1", "do": [ { "answer": { "ms": 8000, "profile": "ragged" } } ] },
//!     { "on": "speech_start", "while": "speaking", "do": [ { "interrupt": true } ] },
//!     { "on": "audio_ms", "at": 30000, "do": [ { "go_away": "10s" } ] }
//! ]"#).unwrap();
//! assert_eq!(script.steps.len(), 5);
//! ```

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_call::Usage;

use crate::answer::Profile;

/// What one connection of a fake server does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Script {
    /// Every step whose trigger occurs is played, in this order.
    pub steps: Vec<Step>,
}

impl Script {
    /// A script without steps: the server configures the session, takes audio and says nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a step for every occurrence of `trigger`.
    #[must_use]
    pub fn on(self, trigger: Trigger, actions: impl Into<Vec<Action>>) -> Self {
        self.step(trigger, None, None, actions.into())
    }

    /// Adds a step for the `n`th occurrence of `trigger` on the connection, counted from 1.
    #[must_use]
    pub fn on_nth(self, n: u32, trigger: Trigger, actions: impl Into<Vec<Action>>) -> Self {
        self.step(trigger, Some(n), None, actions.into())
    }

    /// Adds a step for `trigger` that is played only in `phase`.
    #[must_use]
    pub fn on_while(
        self,
        phase: Phase,
        trigger: Trigger,
        actions: impl Into<Vec<Action>>,
    ) -> Self {
        self.step(trigger, None, Some(phase), actions.into())
    }

    /// Adds the usual barge-in: the caller's speech interrupts a running answer.
    #[must_use]
    pub fn interruptible(self) -> Self {
        self.on_while(Phase::Speaking, Trigger::SpeechStart, [Action::Interrupt(true)])
    }

    fn step(
        mut self,
        on: Trigger,
        n: Option<u32>,
        phase: Option<Phase>,
        actions: Vec<Action>,
    ) -> Self {
        self.steps.push(Step { on, n, phase, actions });
        self
    }
}

/// Actions and what sets them off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// What sets the step off.
    #[serde(flatten)]
    pub on: Trigger,
    /// Only this occurrence, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n: Option<u32>,
    /// Only in this phase.
    #[serde(rename = "while", default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// What is done, one after the other.
    #[serde(rename = "do")]
    pub actions: Vec<Action>,
}

/// Something that happens on a connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case")]
pub enum Trigger {
    /// The client dials: before the HTTP answer. Only [`Action::HttpStatus`], [`Action::Drop`] and
    /// [`Action::NeverUpgrade`] make sense here.
    Connect,
    /// The session is open for messages (OpenAI: before `session.created`). Replaces the server's own first message.
    Open,
    /// The client configured the session for the first time. Replaces the server's own `setupComplete` or
    /// `session.updated`.
    Setup,
    /// The client asks for an answer: Gemini text, OpenAI `response.create`.
    Text,
    /// The caller began to speak, or `activityStart` came.
    SpeechStart,
    /// The caller's turn is over, or `activityEnd` came.
    SpeechEnd,
    /// The result of tool call `id` came; without `id`, the results of all open calls are there.
    ToolResult {
        /// The call's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        id: Option<String>,
    },
    /// This much caller audio was received. Happens once.
    AudioMs {
        /// Milliseconds of audio.
        at: u64,
    },
    /// Each time this much more caller audio was received.
    EveryMs {
        /// Milliseconds of audio, at least 20.
        every: u64,
    },
    /// This much of the current answer was played, if the caller's side plays it as it comes.
    PlayedMs {
        /// Milliseconds of audio.
        at: u64,
    },
    /// A message came in which `pointer` (RFC 6901) exists and equals `equals`, if that is given. The server's own
    /// reaction to the message is left out.
    Message {
        /// JSON pointer.
        pointer: String,
        /// The value there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        equals: Option<Value>,
    },
}

impl Trigger {
    /// The results of all open tool calls are there.
    pub const fn all_results() -> Self {
        Self::ToolResult { id: None }
    }

    /// A message whose `type` is `kind`.
    pub fn message_type(kind: &str) -> Self {
        Self::Message { pointer: "/type".into(), equals: Some(kind.into()) }
    }
}

/// What the fake model is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// An answer is being made, or what was made is still playing, if the caller's side plays it as it comes.
    Speaking,
    /// Neither.
    Idle,
}

/// One thing the fake server does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Sends JSON. Strings that begin with `$` are filled in: `$audio:100` is the next 100 ms of the current answer,
    /// `$audio:100@16000` the same at another rate, `$response`, `$item`, `$user_item` the newest ids (OpenAI). The strings
    /// `"setupComplete"` and `"session.updated"` stand for the whole message, as [`Action::Ready`] does.
    Send(Value),
    /// Sends text as it is, JSON or not.
    Raw(String),
    /// Sends `setupComplete` or `session.updated`.
    Ready,
    /// Speaks.
    Answer(Answer),
    /// Answers with several outputs, or in an unusual way.
    Response(Response),
    /// Tells what the caller said, in fragments.
    InputTranscript(InputTranscript),
    /// Calls one tool.
    Tool(ToolRequest),
    /// Calls several tools at once.
    Tools(Vec<ToolRequest>),
    /// Takes tool calls back (Gemini).
    CancelTool(Vec<String>),
    /// Interrupts the answer as the protocol does: [`Action::Interrupted`], then [`Action::TurnComplete`]. `false` does
    /// nothing.
    Interrupt(bool),
    /// Stops the answer: Gemini `interrupted`; OpenAI nothing on the wire.
    Interrupted,
    /// Ends the interrupted or open turn: Gemini `turnComplete`, OpenAI `response.done` (cancelled when it was cut).
    TurnComplete,
    /// Says that all content of the turn is there (Gemini; nothing for OpenAI).
    GenerationComplete,
    /// Sends more audio of the current answer, milliseconds, even when it was interrupted.
    StaleAudio(u64),
    /// Waits until the answer has been played, if the caller's side plays it as it comes.
    AwaitPlayback,
    /// Reports usage in a message of its own (Gemini).
    Usage(UsageSpec),
    /// Sends an `error` event (OpenAI).
    Error(ErrorSpec),
    /// Sends `rate_limits.updated` for tokens (OpenAI).
    RateLimit {
        /// Tokens left.
        remaining: u64,
        /// Seconds until the limit is reset.
        reset_seconds: f64,
    },
    /// Announces the end of the connection (Gemini).
    GoAway(String),
    /// Gives out a resumption handle (Gemini); an empty one says that resumption is not possible now.
    Handle(String),
    /// Closes with code and reason.
    Close {
        /// Close code.
        code: u16,
        /// Close reason, at most 123 bytes are sent.
        #[serde(default)]
        reason: String,
    },
    /// Drops the TCP connection without a close frame.
    Drop,
    /// Waits this many milliseconds of session time before the next action.
    Delay(u64),
    /// Delays every pong from now on by this many milliseconds of session time.
    PongDelay(u64),
    /// Sends a websocket ping.
    Ping,
    /// Sends every later message in frames of at most `fragment` bytes (0: whole), with a ping between them if asked.
    Framing {
        /// Most payload bytes in a frame.
        fragment: usize,
        /// A ping between two frames of a message.
        #[serde(default)]
        ping_between: bool,
    },
    /// Stops reading from the socket for this many milliseconds, of real time in every mode: session time stands
    /// still when nothing is read.
    StallReading(u64),
    /// Refuses the handshake with this status.
    HttpStatus(u16),
    /// Accepts the TCP connection and never answers the handshake.
    NeverUpgrade,
}

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
        Self { id: id.into(), name: name.into(), args, raw_arguments: None, budget_ms: Some(20_000) }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_kind_of_step_survives_json() {
        let script = Script::new()
            .on(Trigger::Connect, [Action::HttpStatus(503)])
            .on(Trigger::Setup, [Action::Delay(20), Action::Ready])
            .on(Trigger::Text, [Answer::of_ms(1_200).saying(["Hello, ", "there."]).into()])
            .on_nth(2, Trigger::SpeechEnd, [
                Action::InputTranscript(InputTranscript::Fragments(vec!["is".into()])),
                Action::InputTranscript(InputTranscript::Failed { failed: "no".into() }),
                Action::Tool(ToolRequest::new("fc-1", "find_repair", json!({"order": "B-17"}))),
            ])
            .interruptible()
            .on(Trigger::all_results(), [Action::Drop])
            .on(Trigger::message_type("response.cancel"), [
                Action::Response(Response::of([]).status(ResponseStatus::Incomplete("x".into()))),
                Action::Close { code: 1011, reason: "Internal error encountered.".into() },
            ])
            .on(Trigger::AudioMs { at: 100 }, [Action::RateLimit {
                remaining: 12,
                reset_seconds: 20.0,
            }]);
        let text = serde_json::to_string(&script).unwrap();
        assert_eq!(serde_json::from_str::<Script>(&text).unwrap(), script, "{text}");
    }

    #[test]
    fn a_misspelled_script_is_refused() {
        for (name, text) in [
            ("trigger", r#"[{"on":"speach_end","do":[]}]"#),
            ("action", r#"[{"on":"text","do":[{"anwser":{"ms":1}}]}]"#),
            ("answer field", r#"[{"on":"text","do":[{"answer":{"ms":1,"profil":"burst"}}]}]"#),
            ("missing do", r#"[{"on":"text"}]"#),
            ("trigger without its number", r#"[{"on":"audio_ms","do":[]}]"#),
        ] {
            assert!(serde_json::from_str::<Script>(text).is_err(), "{name}");
        }
    }
}
