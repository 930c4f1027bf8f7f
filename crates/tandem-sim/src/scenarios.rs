//! The stories every client of a voice model has to get through.

use serde_json::{Value, json};

use crate::{
    scenario::{
        CallerStep, Expect, ExpectedCall, Heard, Need, Outcome, Scenario, ToolReply, ToolScript,
    },
    script::{Action, Answer, AnswerEnd, Script, ToolRequest, Trigger, UsageSpec},
    server::{Dialect, Provider},
};

mod gemini;
mod openai;

pub use gemini::gemini;
pub use openai::openai;

/// The scenario called `id`.
pub fn by_id(id: &str) -> Option<Scenario> {
    gemini().into_iter().chain(openai()).find(|scenario| scenario.id == id)
}

/// Milliseconds of silence after which the stories count a turn as ended: the client's setting.
pub const END_SILENCE_MS: u64 = 500;

fn story(provider: Provider, id: impl Into<String>, title: impl Into<String>) -> Scenario {
    Scenario {
        id: id.into(),
        title: title.into(),
        provider,
        dialect: Dialect::default(),
        connections: Vec::new(),
        needs: Vec::new(),
        caller: Vec::new(),
        tools: Vec::new(),
        expect: Expect::default(),
    }
}

impl Scenario {
    /// Adds what the next connection does.
    fn plays(mut self, script: Script) -> Self {
        self.connections.push(script);
        self
    }

    fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// The caller speaks one second, then listens for `listens_ms`.
    fn utterance(mut self, listens_ms: u64) -> Self {
        if self.caller.is_empty() {
            self.caller.push(CallerStep::Silence(200));
        }
        self.caller
            .extend([CallerStep::Speech(1_000), CallerStep::Silence(END_SILENCE_MS + listens_ms)]);
        self
    }

    /// The caller listens.
    fn listens(mut self, ms: u64) -> Self {
        self.caller.push(CallerStep::Silence(ms));
        self
    }

    /// What a tool does.
    fn tool(mut self, name: &'static str, takes_ms: u64, reply: ToolReply) -> Self {
        self.tools.push(ToolScript { name, takes_ms, reply });
        self
    }

    /// An answer is heard whole.
    fn hears(self, connection: usize, answer: u32, ms: u64) -> Self {
        self.hears_part(connection, answer, ms..=ms)
    }

    /// A part of an answer is heard.
    fn hears_part(
        mut self,
        connection: usize,
        answer: u32,
        ms: std::ops::RangeInclusive<u64>,
    ) -> Self {
        self.expect.heard.push(Heard { connection, answer, ms });
        self
    }

    fn caller_says<const N: usize>(mut self, turns: [&'static str; N]) -> Self {
        self.expect.caller_text.extend(turns);
        self
    }

    fn agent_says<const N: usize>(mut self, answers: [&'static str; N]) -> Self {
        self.expect.agent_text.extend(answers);
        self
    }

    /// A tool call gets this many results.
    fn calls(mut self, id: &'static str, results: usize) -> Self {
        self.expect.tool_calls.push(ExpectedCall { id, results });
        self
    }

    /// So many answers report what they used.
    fn bills(mut self, answers: u64) -> Self {
        self.expect.usage = Some(UsageSpec::ANSWER.times(answers));
        self
    }

    fn truncates(mut self, times: usize) -> Self {
        self.expect.truncates = times;
        self
    }

    fn creates(mut self, responses: usize) -> Self {
        self.expect.response_creates = Some(responses);
        self
    }

    fn connects(mut self, times: std::ops::RangeInclusive<usize>) -> Self {
        self.expect.connections = times;
        self
    }

    fn ends(mut self, outcome: Outcome) -> Self {
        self.expect.outcome = outcome;
        self
    }

    /// The caller hangs up at the end of the story.
    fn hang_up(mut self) -> Self {
        self.caller.push(CallerStep::HangUp);
        self
    }
}

/// What a connection does that takes over from a lost one: it answers whatever the caller says.
fn goes_on() -> Script {
    Script::new()
        .interruptible()
        .on(Trigger::Text, [Answer::of_ms(1_000).saying(["Where were we?"]).into()])
        .on(Trigger::SpeechEnd, [Answer::of_ms(1_000).saying(["I am back."]).into()])
}

fn find_repair(id: &str) -> ToolRequest {
    ToolRequest::new(id, "find_repair", json!({ "order": "B-17" }))
}

fn opening_hours(id: &str) -> ToolRequest {
    ToolRequest::new(id, "opening_hours", json!({}))
}

fn ready_result() -> ToolReply {
    ToolReply::Output(json!({ "status": "ready" }))
}

fn open_hours() -> ToolReply {
    ToolReply::Output(json!({ "hours": "9 to 18" }))
}

/// An answer without an end and without a bill.
fn open_answer<const N: usize>(ms: u64, transcript: [&str; N]) -> Action {
    Answer { usage: None, ..Answer::of_ms(ms).saying(transcript).end(AnswerEnd::Open) }.into()
}

fn answer<const N: usize>(ms: u64, transcript: [&str; N]) -> Action {
    Answer::of_ms(ms).saying(transcript).into()
}

fn send(message: Value) -> Action {
    Action::Send(message)
}

fn close(code: u16, reason: &str) -> Action {
    Action::Close { code, reason: reason.to_owned() }
}

fn heard_as<const N: usize>(fragments: [&str; N]) -> Action {
    Action::InputTranscript(crate::script::InputTranscript::Fragments(
        fragments.map(String::from).to_vec(),
    ))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_numbered_story_is_there_once() {
        for (prefix, last, scenarios) in [("G", 28, gemini()), ("O", 24, openai())] {
            let ids: BTreeSet<&str> =
                scenarios.iter().map(|scenario| scenario.id.as_str()).collect();
            assert_eq!(ids.len(), scenarios.len(), "ids are unique");
            let numbers: BTreeSet<u32> = ids
                .iter()
                .map(|id| id.strip_prefix(prefix).expect("ids carry the provider's letter"))
                .map(|rest| rest[..2].parse().expect("and a number of two digits"))
                .collect();
            assert_eq!(numbers, (1..=last).collect());
        }
    }

    #[test]
    fn every_script_can_be_written_as_json() {
        for scenario in gemini().into_iter().chain(openai()) {
            for script in &scenario.connections {
                let text = serde_json::to_string(script).unwrap();
                let read: Script = serde_json::from_str(&text).unwrap();
                assert_eq!(read, *script, "{}: {text}", scenario.id);
            }
        }
    }

    #[test]
    fn a_story_is_found_by_its_id() {
        assert_eq!(by_id("G04b").map(|scenario| scenario.provider), Some(Provider::Gemini));
        assert_eq!(by_id("O03h").map(|scenario| scenario.provider), Some(Provider::OpenAi));
        assert_eq!(by_id("X01"), None);
    }
}
