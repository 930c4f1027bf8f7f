//! A voice model as the call sees it: what it can do, what it is told, what it says.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_media::AudioFormat;

use crate::{ItemId, ToolCall, ToolCallId, ToolOutcome};

/// What a model can do. The machine asks this, never the model's name.
#[derive(Debug, Clone, PartialEq)]
pub struct Capabilities {
    /// Formats it takes from the caller, best first.
    pub input: &'static [AudioFormat],
    /// Formats it speaks in, best first.
    pub output: &'static [AudioFormat],
    /// Must be told how much of an interrupted item was heard.
    pub truncates: bool,
    /// Finds the caller's turns and barge-in by itself. Any other is told of them by [`ModelCommand::TurnStarted`] and
    /// [`ModelCommand::TurnEnded`].
    pub detects_turns: bool,
    /// Has stopped its own answer when it reports the caller's speech. Any other goes on with it until it is told to stop.
    pub interrupts: bool,
    /// A model that is told of turns is told of their end after the caller was silent for this long.
    pub turn_pause: Duration,
    /// Wants digits one by one as they are pressed, rather than as a sentence of text.
    pub takes_digits: bool,
    /// Speaks again after each result of a tool. One that has said it all with the call owes nothing more.
    pub answers_results: bool,
    /// A lost session can be taken up again with its memory.
    pub resumes: bool,
    /// How long one session may last; it is replaced before.
    pub session_limit: Option<Duration>,
}

/// Who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaker {
    /// The person on the phone.
    Caller,
    /// The model.
    Agent,
}

/// One thing said so far, carried into a session that takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryTurn {
    /// Who.
    pub speaker: Speaker,
    /// What was said and, for the agent, heard.
    pub text: String,
}

/// How the agent opens the conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greet {
    /// Say exactly this.
    Exactly(String),
    /// Greet in your own words, by this instruction.
    Instruction(String),
}

/// Orders to a model session.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelCommand {
    /// Speak first.
    Greet(Greet),
    /// Digits the caller pressed.
    Digits(String),
    /// Text for the model that wants an answer (a nudge, a failed transfer).
    Say(String),
    /// The one outcome of a tool call. Never sent for [`ToolOutcome::Cancelled`].
    ToolResult { id: ToolCallId, outcome: ToolOutcome },
    /// The caller heard only this much of `item`. Sent only when the model truncates, and only for `heard` > 0.
    Truncate { item: ItemId, heard: Duration },
    /// The caller heard nothing of `item`.
    Forget { item: ItemId },
    /// Stop the running answer, if there is one.
    Cancel,
    /// The caller's turn began; the leg has heard him for `ago` now, and his first sound is a little older. Sent only to a
    /// model that finds no turns.
    TurnStarted { ago: Duration },
    /// The caller's turn is over and wants an answer. Sent once for each [`ModelCommand::TurnStarted`], unless the caller
    /// or the session goes before.
    TurnEnded,
    /// Replace the connection by a new one with the same memory: now is a quiet moment, or the last one.
    Renew { history: Vec<HistoryTurn> },
    /// The call is over: close the session.
    Close,
}

/// How an answer of the model ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResponseEnd {
    /// It is complete: every sample of it has been handed over.
    Completed,
    /// The caller's speech or a command stopped it.
    Cancelled,
    /// The model stopped early (token limit, content filter); the text says why.
    Incomplete(String),
    /// The model failed to answer; nothing was said.
    Failed(String),
}

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Try the same model again, not before this.
    Retry { after: Duration },
    /// This model will not do: go to the agent's next one.
    GiveUp,
}

/// Why a session is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelFailure {
    /// What to do about it.
    pub reaction: Reaction,
    /// The peer's own words: close code and reason, HTTP status, error code. No secrets.
    pub reason: String,
}

/// Tokens or seconds used, summed over a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens.
    pub input_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// Of the input: audio.
    pub input_audio_tokens: u64,
    /// Of the output: audio.
    pub output_audio_tokens: u64,
    /// Of the input: served from the vendor's cache.
    pub cached_tokens: u64,
}

impl Usage {
    /// Adds `other`.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
        self.input_audio_tokens = self.input_audio_tokens.saturating_add(other.input_audio_tokens);
        self.output_audio_tokens =
            self.output_audio_tokens.saturating_add(other.output_audio_tokens);
        self.cached_tokens = self.cached_tokens.saturating_add(other.cached_tokens);
    }
}

/// What a model session reports. Audio does not pass here: it goes to [`crate::ModelSink::audio`].
#[derive(Debug, Clone, PartialEq)]
pub enum ModelEvent {
    /// The session is configured: audio and commands may flow. Comes again after [`ModelCommand::Renew`].
    Ready,
    /// The caller began to speak. A model that [`interrupts`](Capabilities::interrupts) withholds what it made before:
    /// what plays must stop now. Of any other it is a report.
    SpeechStarted,
    /// The caller's turn ended, as the model heard it.
    SpeechStopped,
    /// The model begins an answer.
    ResponseStarted,
    /// The answer is over. After a tool call the model waits for the results.
    ResponseEnded(ResponseEnd),
    /// A piece of what the caller said. Pieces of one turn are joined verbatim until one is `last`.
    CallerText { text: String, last: bool },
    /// A piece of what the agent says in `item`, joined verbatim.
    AgentText { item: ItemId, text: String },
    /// A tool call, complete.
    ToolCall(ToolCall),
    /// The model takes a tool call back.
    ToolCancelled(ToolCallId),
    /// Usage to be added to the call's sum.
    Usage(Usage),
    /// The session ends soon: [`ModelCommand::Renew`] is due within this time.
    ExpiresIn(Duration),
    /// The session is gone. Nothing more comes unless it is renewed or replaced.
    Lost(ModelFailure),
}
