//! How results of tools get to the model: in the order of its calls, or in words, in a quiet moment.

use std::{collections::VecDeque, time::Instant};

use serde_json::{Value, json};

use super::{CallMachine, Phase, transcript::floor, waiting::Cause};
use crate::{
    FollowUp, ModelCommand, ToolCall, ToolCallId, ToolOutcome, ToolReport, ToolTexts, Verdict,
};

/// Results that may wait for those before them, and words that may wait for a quiet moment.
const MOST_WAITING: usize = 64;

/// Longest text of a refusal and of a result that is told in words, in bytes.
const LONGEST_REFUSAL: usize = 500;
const LONGEST_TOLD: usize = 8 * 1_024;

/// What the model is given for a call, and what the record says of it.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) outcome: ToolOutcome,
    pub(super) verdict: Verdict,
    pub(super) http_status: Option<u16>,
    pub(super) attempts: Option<u8>,
    pub(super) error: Option<String>,
    pub(super) follow_up: FollowUp,
    /// The model owes an answer to it although it may have said all there is to say.
    wants_answer: bool,
}

impl Given {
    /// A result of what was done inside.
    pub(super) fn done(result: Value) -> Self {
        Self::new(ToolOutcome::Answered(result), Verdict::Ok)
    }

    /// What the model did wrong, for it to put right.
    pub(super) fn invalid(missing: &[&str], problems: &[String]) -> Self {
        let mut result = json!({ "status": "invalid_arguments" });
        if !missing.is_empty() {
            result["missing"] = json!(missing);
        }
        if !problems.is_empty() {
            result["problems"] = json!(problems);
        }
        result["message"] = Value::from(if missing.is_empty() {
            "Call it again with the right arguments."
        } else {
            "Ask for the missing details."
        });
        Self::new(ToolOutcome::Answered(result), Verdict::InvalidArguments)
    }

    /// There is no such tool; what the caller asked for is `noted`.
    pub(super) fn unknown_tool(noted: &str) -> Self {
        let result = json!({ "status": "unknown_tool", "message": noted });
        Self::new(ToolOutcome::Answered(result), Verdict::Rejected)
    }

    /// Why it is not done.
    pub(super) fn refused(text: &str) -> Self {
        let text = text[..floor(text, LONGEST_REFUSAL)].to_owned();
        let error = Some(text.clone());
        Self { error, ..Self::new(ToolOutcome::Failed(text), Verdict::Rejected) }
    }

    /// What the executor reported. Whatever it says, the model is told something.
    pub(super) fn reported(report: ToolReport, texts: &ToolTexts) -> Self {
        let ToolReport { outcome, verdict, http_status, attempts, error, follow_up } = report;
        let answered = matches!(outcome, ToolOutcome::Answered(_));
        let known = outcome != ToolOutcome::TimedOut;
        let follow_up = if answered { follow_up } else { FollowUp::default() };
        let trouble = |status: &str| {
            let result = json!({ "status": status, "message": texts.trouble });
            (ToolOutcome::Answered(result), Verdict::FallbackTrouble)
        };
        let (outcome, verdict) = match outcome {
            ToolOutcome::Answered(result) => {
                let early = !matches!(verdict, Verdict::Late | Verdict::Cancelled);
                let verdict = if early { verdict } else { Verdict::Ok };
                (
                    ToolOutcome::Answered(said_exactly(result, follow_up.verbatim.as_deref())),
                    verdict,
                )
            }
            ToolOutcome::Failed(text) => {
                let failed = matches!(verdict, Verdict::Ok | Verdict::Late | Verdict::Cancelled);
                let verdict = if failed { Verdict::FallbackTrouble } else { verdict };
                (ToolOutcome::Failed(text), verdict)
            }
            ToolOutcome::TimedOut => trouble("timeout"),
            ToolOutcome::Cancelled => trouble("error"),
        };
        let wants_answer = !matches!(verdict, Verdict::Ok | Verdict::FallbackNoted);
        let attempts = (attempts > 0 || known).then_some(attempts);
        Self { outcome, verdict, http_status, attempts, error, follow_up, wants_answer }
    }

    fn new(outcome: ToolOutcome, verdict: Verdict) -> Self {
        Self {
            outcome,
            verdict,
            http_status: None,
            attempts: Some(0),
            error: None,
            follow_up: FollowUp::default(),
            wants_answer: false,
        }
    }

    /// The model is to say something after it, whatever model it is.
    pub(super) fn wanting_an_answer(self) -> Self {
        Self { wants_answer: true, ..self }
    }

    /// The conversation has gone on: nothing is done beside.
    pub(super) fn without_follow_up(self) -> Self {
        Self { follow_up: FollowUp::default(), ..self }
    }

    /// For a model that does not know the call, or has a result of it.
    pub(super) fn in_words(&self, name: &str) -> String {
        let mut words = match &self.outcome {
            ToolOutcome::Answered(result) => format!("(The tool {name} answered: {result}"),
            ToolOutcome::Failed(reason) => format!("(The tool {name} failed: {reason}"),
            ToolOutcome::TimedOut | ToolOutcome::Cancelled => {
                format!("(The tool {name} did not answer in time")
            }
        };
        words.truncate(floor(&words, LONGEST_TOLD));
        words + ")"
    }
}

/// `result` with what makes a model say exactly `words`, where there are any.
fn said_exactly(mut result: Value, words: Option<&str>) -> Value {
    if let (Some(words), Some(members)) = (words, result.as_object_mut()) {
        let instruction = "Say exactly the words of say_exactly and nothing else.";
        members.insert("say_exactly".into(), words.into());
        members.insert("instruction".into(), instruction.into());
    }
    result
}

/// A call whose result the present session waits for.
#[derive(Debug)]
struct Slot {
    id: ToolCallId,
    name: String,
    number: u32,
    /// The result, which waits for those before it.
    given: Option<Given>,
}

/// Results on their way to the present session, in the order of its calls.
#[derive(Debug, Default)]
pub(super) struct Results(VecDeque<Slot>);

impl Results {
    /// Whether the model waits for any.
    pub(super) fn are_awaited(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether the model waits for that of `id`.
    pub(super) fn await_one_of(&self, id: &ToolCallId) -> bool {
        self.0.iter().any(|slot| slot.id == *id)
    }

    /// The result of `call` will come.
    pub(super) fn expect(&mut self, call: &ToolCall, number: u32) {
        let (id, name) = (call.id.clone(), call.name.clone());
        self.0.push_back(Slot { id, name, number, given: None });
    }

    /// The result of `call` has come at once; given back where too many wait already.
    pub(super) fn queue(&mut self, call: &ToolCall, number: u32, given: Given) -> Option<Given> {
        if self.0.len() >= MOST_WAITING {
            return Some(given);
        }
        let (id, name) = (call.id.clone(), call.name.clone());
        self.0.push_back(Slot { id, name, number, given: Some(given) });
        None
    }

    /// The result of the call `number` has come.
    pub(super) fn fill(&mut self, number: u32, given: Given) {
        if let Some(slot) = self.0.iter_mut().find(|slot| slot.number == number) {
            slot.given = Some(given);
        }
    }

    /// The model does not wait for `id` any more, if it did; gives the call's number.
    pub(super) fn withdraw(&mut self, id: &ToolCallId) -> Option<u32> {
        let index = self.0.iter().position(|slot| slot.id == *id)?;
        self.0.remove(index).map(|slot| slot.number)
    }

    /// The session is gone; gives the results that it was still to get.
    pub(super) fn change_session(&mut self) -> Vec<(String, Given)> {
        let slots = std::mem::take(&mut self.0);
        slots.into_iter().filter_map(|slot| Some((slot.name, slot.given?))).collect()
    }

    /// Nobody waits any more.
    pub(super) fn forget(&mut self) {
        self.0.clear();
    }

    /// The next that may be given.
    fn next(&mut self) -> Option<Slot> {
        self.0.front()?.given.as_ref()?;
        self.0.pop_front()
    }
}

/// Results that the model is told in words as soon as nobody speaks.
#[derive(Debug, Default)]
pub(super) struct LaterWords(VecDeque<(String, u32, Given)>);

impl LaterWords {
    /// The call `number` of the tool `name` came out. Words beyond all measure are dropped.
    pub(super) fn push(&mut self, name: &str, number: u32, given: Given) {
        if self.0.len() < MOST_WAITING {
            self.0.push_back((name.to_owned(), number, given));
        }
    }
}

impl CallMachine {
    /// Gives the model all results that wait for none before them.
    pub(super) fn give_results(&mut self, now: Instant) {
        while let Some(Slot { id, name, number, given }) = self.tools.results.next() {
            let given = given.expect("only a result that has come is next");
            self.give_result(now, &id, &name, number, given);
        }
    }

    /// Gives the model one result, and does what was asked for beside.
    pub(super) fn give_result(
        &mut self,
        now: Instant,
        id: &ToolCallId,
        name: &str,
        number: u32,
        given: Given,
    ) {
        let Given { outcome, follow_up, wants_answer, .. } = given;
        self.tell_model(ModelCommand::ToolResult { id: id.clone(), outcome });
        self.tools.log.told(number);
        if wants_answer || self.abilities.answers_results {
            self.expect_answer(Cause::Tool);
        }
        self.follow_up(now, name, follow_up);
    }

    /// A session that did not call the tool is told how it came out: at once, for somebody waits.
    pub(super) fn tell_successor(&mut self, now: Instant, name: &str, given: Given) {
        self.say(given.in_words(name));
        self.follow_up(now, name, given.follow_up);
    }

    /// Tells the model what came out meanwhile, when nobody speaks or is about to.
    pub(super) fn settle_later_words(&mut self, now: Instant) {
        if self.tools.later.0.is_empty() || !self.is_quiet() {
            return;
        }
        let later = std::mem::take(&mut self.tools.later.0);
        let words: Vec<_> = later.iter().map(|(name, _, given)| given.in_words(name)).collect();
        self.say(words.join("\n"));
        for (name, number, given) in later {
            self.tools.log.told(number);
            self.follow_up(now, &name, given.follow_up);
        }
    }

    /// Nobody speaks, nobody is about to, and the model waits for nothing.
    fn is_quiet(&self) -> bool {
        matches!(self.phase, Phase::Talking)
            && self.chain.is_ready()
            && !self.held
            && self.caller.speaking.is_none()
            && !self.turn_is_open()
            && self.playout.is_silent()
            && !self.answering.running
            && !self.waiting.is_due()
            && !self.tools.runs_any()
    }
}
