//! A scenario: what the fake server does, what the caller does, and what must come of it.

use std::ops::RangeInclusive;

use serde_json::Value;
use tandem_call::Usage;
use tandem_media::AudioFormat;

use crate::{
    answer::{audio as answer_audio, bytes_of},
    script::Script,
    server::{Dialect, Provider},
};

/// One story between a caller, the client under test and a fake server.
///
/// Scenarios are written for [`crate::Mode::AudioClock`]: everything the server does follows from the caller audio it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Such as `G04b`.
    pub id: String,
    /// What it is about.
    pub title: String,
    /// Whose protocol.
    pub provider: Provider,
    /// Differences between servers.
    pub dialect: Dialect,
    /// What each connection does, in order; the last is repeated.
    pub connections: Vec<Script>,
    /// What the client has to be set to for the story to make sense.
    pub needs: Vec<Need>,
    /// What the caller does once the session is ready, one after the other.
    pub caller: Vec<CallerStep>,
    /// What the tools do.
    pub tools: Vec<ToolScript>,
    /// What must come of it.
    pub expect: Expect,
}

/// A setting of the client that a scenario relies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The client tells the model to speak first.
    Greet,
    /// This model.
    Model(&'static str),
    /// Turns are marked by the client, not found by the server.
    ManualTurns,
    /// The server does not interrupt by itself; the client cancels.
    ClientInterrupts,
    /// The session takes over a conversation: there is history to seed.
    History,
    /// 24 kHz PCM instead of G.711.
    Pcm,
    /// The client sends a websocket ping and keeps the connection when no pong comes.
    Pings,
    /// `session.expires_at` is this many seconds after the client's own time.
    ExpiresInSecs(u64),
    /// The client changes the instructions during the call.
    ContextUpdate,
    /// The client asks for a response outside the conversation.
    OutOfBandResponse,
    /// Nothing listens where the client dials: use [`crate::refused_url`].
    NothingListens,
}

/// One thing the caller does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerStep {
    /// Says nothing, milliseconds.
    Silence(u64),
    /// Speaks, milliseconds.
    Speech(u64),
    /// Nothing comes from the caller's side, not even silence, milliseconds. The client has to fill the gap.
    Nothing(u64),
    /// Presses these digits.
    Digits(String),
    /// Hangs up.
    HangUp,
}

/// What a tool does when it is called.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolScript {
    /// The tool's name.
    pub name: &'static str,
    /// Milliseconds of caller audio until it answers.
    pub takes_ms: u64,
    /// What it answers.
    pub reply: ToolReply,
}

/// What a tool answers.
#[derive(Debug, Clone, PartialEq)]
pub enum ToolReply {
    /// A result.
    Output(Value),
    /// A failure.
    Error(&'static str),
    /// Nothing; the client's deadline passes.
    Never,
}

/// What must come of a scenario.
#[derive(Debug, Clone, PartialEq)]
pub struct Expect {
    /// Which answers the caller hears, and how much of each. What is not listed is not heard.
    pub heard: Vec<Heard>,
    /// What the caller said, turn by turn, joined. Not looked at when empty.
    pub caller_text: Vec<&'static str>,
    /// What the agent said, answer by answer, joined. Not looked at when empty.
    pub agent_text: Vec<&'static str>,
    /// The tool calls, in the order of their results.
    pub tool_calls: Vec<ExpectedCall>,
    /// All usage together, if the number of answers is certain.
    pub usage: Option<Usage>,
    /// Connections the client makes, refused ones included.
    pub connections: RangeInclusive<usize>,
    /// `conversation.item.truncate` events (OpenAI).
    pub truncates: usize,
    /// `response.create` events (OpenAI), if the number is certain.
    pub response_creates: Option<usize>,
    /// How the story ends for the session.
    pub outcome: Outcome,
}

impl Default for Expect {
    /// A session that lasts on one connection, in which nothing is heard.
    fn default() -> Self {
        Self {
            heard: Vec::new(),
            caller_text: Vec::new(),
            agent_text: Vec::new(),
            tool_calls: Vec::new(),
            usage: None,
            connections: 1..=1,
            truncates: 0,
            response_creates: None,
            outcome: Outcome::Lasts,
        }
    }
}

/// How much of an answer reaches the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// On which connection, from 0.
    pub connection: usize,
    /// The number its audio carries on that connection, from 1.
    pub answer: u32,
    /// Milliseconds, from the answer's begin on.
    pub ms: RangeInclusive<u64>,
}

/// A tool call that must be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedCall {
    /// The model's id.
    pub id: &'static str,
    /// Results that reach the model: exactly one, or none when it was cancelled.
    pub results: usize,
}

/// How a story ends for the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It lasts until the caller hangs up.
    Lasts,
    /// A connection is lost and the conversation goes on on another. The first loss is reported with this text in it.
    Recovers(&'static str),
    /// The model is given up, with this text in the reason, and not dialled again.
    GivenUp(&'static str),
    /// The model is tried again later, or the call's next model is taken; the reason has this text in it.
    Retried(&'static str),
}

/// Compares what was heard of one connection, silence left out, with what a scenario expects.
///
/// `pcm_or_g711` is the audio as the fake server sent it, in `format`: every expected answer follows the one before it
/// without a gap and from its begin on.
///
/// # Errors
/// Tells the first difference.
pub fn check_heard(
    expected: &[Heard],
    connection: usize,
    format: AudioFormat,
    pcm_or_g711: &[u8],
) -> Result<(), String> {
    let bytes_per_ms = bytes_of(format, 1);
    let mut rest = pcm_or_g711;
    for Heard { answer, ms, .. } in expected.iter().filter(|heard| heard.connection == connection) {
        let most = bytes_of(format, *ms.end()).min(rest.len());
        let whole = answer_audio(format, *answer, 0..most);
        let same = whole.iter().zip(rest).take_while(|(wanted, heard)| wanted == heard).count();
        let heard_ms = (same / bytes_per_ms) as u64;
        if !ms.contains(&heard_ms) {
            return Err(format!(
                "connection {connection}: {heard_ms} ms of answer {answer} were heard instead of {ms:?}"
            ));
        }
        rest = &rest[same..];
    }
    if rest.is_empty() {
        return Ok(());
    }
    let (rest_ms, total_ms) = (rest.len() / bytes_per_ms, pcm_or_g711.len() / bytes_per_ms);
    Err(format!(
        "connection {connection}: {rest_ms} of {total_ms} ms heard belong to no expected answer"
    ))
}

#[cfg(test)]
mod tests {
    use tandem_media::Law;

    use super::*;

    #[test]
    fn what_was_heard_is_compared_answer_by_answer() {
        let format = AudioFormat::G711(Law::Mu);
        let answer = |number, ms| answer_audio(format, number, 0..bytes_of(format, ms));
        let expected = [
            Heard { connection: 0, answer: 1, ms: 100..=300 },
            Heard { connection: 0, answer: 2, ms: 500..=500 },
            Heard { connection: 1, answer: 1, ms: 40..=40 },
        ];
        let check = |heard: &[u8]| check_heard(&expected, 0, format, heard).is_ok();
        assert!(check(&[answer(1, 220), answer(2, 500)].concat()));
        assert!(!check(&[answer(1, 80), answer(2, 500)].concat()), "too little");
        assert!(!check(&[answer(1, 320), answer(2, 500)].concat()), "too much");
        assert!(!check(&[answer(1, 220), answer(2, 480)].concat()), "not whole");
        assert!(!check(&[answer(2, 500), answer(1, 220)].concat()), "out of order");
        assert!(!check(&[answer(1, 220), answer(2, 500), answer(3, 20)].concat()), "unexpected");
        assert!(check_heard(&expected, 1, format, &answer(1, 40)).is_ok());
    }
}
