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

mod said;

pub use said::{
    Answer, AnswerEnd, ErrorSpec, InputTranscript, Response, ResponseOutput, ResponseStatus,
    SpokenMessage, ToolRequest, UsageSpec,
};

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
    pub fn on_while(self, phase: Phase, trigger: Trigger, actions: impl Into<Vec<Action>>) -> Self {
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
            .on_nth(
                2,
                Trigger::SpeechEnd,
                [
                    Action::InputTranscript(InputTranscript::Fragments(vec!["is".into()])),
                    Action::InputTranscript(InputTranscript::Failed { failed: "no".into() }),
                    Action::Tool(ToolRequest::new("fc-1", "find_repair", json!({"order": "B-17"}))),
                ],
            )
            .interruptible()
            .on(Trigger::all_results(), [Action::Drop])
            .on(
                Trigger::message_type("response.cancel"),
                [
                    Action::Response(
                        Response::of([]).status(ResponseStatus::Incomplete("x".into())),
                    ),
                    Action::Close { code: 1011, reason: "Internal error encountered.".into() },
                ],
            )
            .on(
                Trigger::AudioMs { at: 100 },
                [Action::RateLimit { remaining: 12, reset_seconds: 20.0 }],
            );
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
