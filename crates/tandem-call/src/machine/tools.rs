//! Tool calls: each comes out once.

use std::{
    collections::{HashSet, VecDeque},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{CallMachine, Output, timers::after, transcript::floor, waiting::Cause};
use crate::{
    LateResults, ModelCommand, ToolCall, ToolCallId, ToolDeclaration, ToolOutcome, ToolRecord,
};

/// Calls that run at the same time.
const MOST_OPEN: usize = 16;

/// Calls that are kept of one call, and ids that are told apart in one session.
const MOST_RECORDS: usize = 1_024;
const MOST_IDS: usize = 4_096;

/// Longest arguments, longest text of a refusal and of a result that is told in words, in bytes.
const LONGEST_ARGUMENTS: usize = 64 * 1_024;
const LONGEST_REFUSAL: usize = 500;
const LONGEST_TOLD: usize = 8 * 1_024;

#[derive(Debug)]
struct Open {
    id: ToolCallId,
    name: String,
    record: Option<usize>,
    began: Instant,
    deadline: Instant,
    /// The session that asked is gone: its successor does not know the id.
    orphan: bool,
}

/// The tool calls of a call.
#[derive(Debug, Default)]
pub(super) struct Tools {
    open: Vec<Open>,
    records: Vec<ToolRecord>,
    /// Ids the present session has used.
    ids: HashSet<ToolCallId>,
    /// Calls whose deadline passed and whose results may still come.
    late: VecDeque<(ToolCallId, String)>,
}

impl Tools {
    /// Whether the present session waits for a result.
    pub(super) fn runs_any(&self) -> bool {
        self.open.iter().any(|open| !open.orphan)
    }

    /// The next deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.deadline).min()
    }

    /// A call whose deadline has passed at `now`.
    pub(super) fn due(&self, now: Instant) -> Option<ToolCallId> {
        self.open.iter().find(|open| open.deadline <= now).map(|open| open.id.clone())
    }

    /// Results of calls that run now are told in words, for the next session does not know their ids.
    pub(super) fn change_session(&mut self) {
        self.open.iter_mut().for_each(|open| open.orphan = true);
        self.ids.clear();
    }

    /// The calls so far.
    pub(super) fn records(&self) -> &[ToolRecord] {
        &self.records
    }

    /// Whether the present session waits for the result of `id`.
    fn runs(&self, id: &ToolCallId) -> bool {
        self.open.iter().any(|open| open.id == *id && !open.orphan)
    }

    /// Takes note of a call's id, or says why the call cannot be carried out.
    fn note(&mut self, id: &ToolCallId) -> Result<(), &'static str> {
        if self.ids.contains(id) {
            return Err("there was a call with this id before");
        }
        if self.ids.len() == MOST_IDS {
            return Err("too many tools were called");
        }
        self.ids.insert(id.clone());
        Ok(())
    }

    fn take(&mut self, now: Instant, id: &ToolCallId, outcome: &'static str) -> Option<Open> {
        let index = self.open.iter().position(|open| open.id == *id)?;
        let open = self.open.remove(index);
        if let Some(record) = open.record.and_then(|index| self.records.get_mut(index)) {
            record.duration_ms = now.saturating_duration_since(open.began).as_millis() as u64;
            record.outcome = outcome;
        }
        Some(open)
    }

    fn record(&mut self, call: &ToolCall, at: Duration, outcome: &'static str) -> Option<usize> {
        if self.records.len() == MOST_RECORDS {
            return None;
        }
        let arguments = match &call.arguments {
            Ok(arguments) if fits(arguments) => arguments.clone(),
            Ok(_) => Value::Null,
            Err(text) => Value::from(&text[..floor(text, LONGEST_REFUSAL)]),
        };
        self.records.push(ToolRecord {
            name: call.name[..floor(&call.name, LONGEST_REFUSAL)].to_owned(),
            arguments,
            at_ms: at.as_millis() as u64,
            duration_ms: 0,
            outcome,
        });
        Some(self.records.len() - 1)
    }
}

impl CallMachine {
    /// The model calls a tool.
    pub(super) fn handle_tool_call(&mut self, now: Instant, call: ToolCall) {
        self.answering.called = true;
        if self.tools.runs(&call.id) {
            return; // The result that comes answers both.
        }
        if let Err(text) = self.tools.note(&call.id) {
            return self.refuse(now, &call, text);
        }
        if self.tools.open.iter().any(|open| open.id == call.id) {
            self.cancel_tool(now, &call.id); // An orphan of the last session that has the same id.
        }
        let arguments = match &call.arguments {
            Ok(arguments) => arguments,
            Err(text) => {
                let text = format!("the arguments are no JSON object: {text}");
                return self.refuse(now, &call, &text);
            }
        };
        match call.name.as_str() {
            "end_call" => return self.end_call(now, &call),
            "transfer_to_human" => return self.transfer_to_human(now, &call),
            _ => {}
        }
        let Some(tool) = self.spec.tools.iter().find(|tool| tool.name == call.name) else {
            let text = format!("there is no tool {:?}", call.name);
            return self.refuse(now, &call, &text);
        };
        let missing = missing_arguments(tool, arguments);
        if !missing.is_empty() {
            self.answer_tool(now, &call, ToolOutcome::Answered(invalid(&missing)), "failed");
        } else if !fits(arguments) {
            self.refuse(now, &call, "the arguments are too long");
        } else if self.tools.open.len() == MOST_OPEN {
            self.refuse(now, &call, "too many tools are running");
        } else {
            let at = self.since_answer(now);
            let record = self.tools.record(&call, at, "cancelled");
            self.tools.open.push(Open {
                id: call.id.clone(),
                name: call.name.clone(),
                record,
                began: now,
                deadline: after(now, self.spec.tool_timeout),
                orphan: false,
            });
            self.emit(Output::Tool(call));
        }
    }

    /// The model takes a tool call back.
    pub(super) fn handle_tool_cancelled(&mut self, now: Instant, id: &ToolCallId) {
        if self.tools.runs(id) {
            self.cancel_tool(now, id);
        }
    }

    /// The executor reports, in time or late.
    pub(super) fn handle_tool_outcome(
        &mut self,
        now: Instant,
        id: &ToolCallId,
        outcome: ToolOutcome,
    ) {
        if self.tools.open.iter().any(|open| open.id == *id) {
            return self.finish_tool(now, id, outcome);
        }
        let Some(index) = self.tools.late.iter().position(|(late, _)| late == id) else { return };
        let name = self.tools.late.remove(index).map(|(_, name)| name).unwrap_or_default();
        match self.spec.late_results {
            LateResults::Inject => self.say(in_words(&name, &outcome)),
            LateResults::Discard => {}
        }
    }

    /// A call came out: the model gets its one result.
    pub(super) fn finish_tool(&mut self, now: Instant, id: &ToolCallId, outcome: ToolOutcome) {
        let (outcome, word) = match outcome {
            ToolOutcome::Answered(_) => (outcome, "answered"),
            ToolOutcome::Failed(_) => (outcome, "failed"),
            ToolOutcome::TimedOut => (outcome, "timed_out"),
            ToolOutcome::Cancelled => {
                (ToolOutcome::Failed("the tool was stopped".into()), "failed")
            }
        };
        let Some(open) = self.tools.take(now, id, word) else { return };
        if outcome == ToolOutcome::TimedOut {
            if self.tools.late.len() == MOST_OPEN {
                self.tools.late.pop_front();
            }
            self.tools.late.push_back((open.id.clone(), open.name.clone()));
        }
        if open.orphan {
            self.say(in_words(&open.name, &outcome));
        } else {
            let owes =
                self.abilities.answers_results || !matches!(outcome, ToolOutcome::Answered(_));
            self.tell_model(ModelCommand::ToolResult { id: open.id, outcome });
            if owes {
                self.expect_answer(Cause::Tool);
            }
        }
    }

    /// The call is over: nobody waits any more.
    pub(super) fn cancel_tools(&mut self, now: Instant) {
        while let Some(id) = self.tools.open.first().map(|open| open.id.clone()) {
            self.cancel_tool(now, &id);
        }
    }

    /// Answers a call at once and keeps `word` of it.
    pub(super) fn answer_tool(
        &mut self,
        now: Instant,
        call: &ToolCall,
        outcome: ToolOutcome,
        word: &'static str,
    ) {
        self.settle_tool(now, call, outcome, word);
        self.expect_answer(Cause::Tool);
    }

    /// Answers a call at once; no answer of the model is owed for it.
    pub(super) fn settle_tool(
        &mut self,
        now: Instant,
        call: &ToolCall,
        outcome: ToolOutcome,
        word: &'static str,
    ) {
        let at = self.since_answer(now);
        self.tools.record(call, at, word);
        self.tell_model(ModelCommand::ToolResult { id: call.id.clone(), outcome });
    }

    /// Fails a call at once.
    pub(super) fn refuse(&mut self, now: Instant, call: &ToolCall, text: &str) {
        let text = text[..floor(text, LONGEST_REFUSAL)].to_owned();
        self.answer_tool(now, call, ToolOutcome::Failed(text), "failed");
    }

    fn cancel_tool(&mut self, now: Instant, id: &ToolCallId) {
        if self.tools.take(now, id, "cancelled").is_some() {
            self.emit(Output::CancelTool(id.clone()));
        }
    }

    fn since_answer(&self, now: Instant) -> Duration {
        self.answered.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }
}

/// The text argument `name` of a tool that runs inside, at most 2,000 characters; none when it is absent or blank.
pub(super) fn text_argument<'a>(call: &'a ToolCall, name: &str) -> Option<&'a str> {
    const LONGEST: usize = 2_000;
    let text = call.arguments.as_ref().ok()?.get(name)?.as_str()?.trim();
    let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(at, _)| at);
    (!text.is_empty()).then_some(&text[..end])
}

/// The result for a call without its required arguments.
pub(super) fn invalid(missing: &[&str]) -> Value {
    json!({ "status": "invalid_arguments", "missing": missing, "message": "Ask for the missing details." })
}

fn missing_arguments<'a>(tool: &'a ToolDeclaration, arguments: &Value) -> Vec<&'a str> {
    let required = tool.parameters.get("required").and_then(Value::as_array);
    required
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| arguments.get(name).is_none_or(Value::is_null))
        .collect()
}

fn fits(arguments: &Value) -> bool {
    arguments.to_string().len() <= LONGEST_ARGUMENTS
}

fn in_words(name: &str, outcome: &ToolOutcome) -> String {
    let mut words = match outcome {
        ToolOutcome::Answered(result) => format!("(The tool {name} answered: {result}"),
        ToolOutcome::Failed(reason) => format!("(The tool {name} failed: {reason}"),
        ToolOutcome::TimedOut | ToolOutcome::Cancelled => {
            format!("(The tool {name} did not answer in time")
        }
    };
    words.truncate(floor(&words, LONGEST_TOLD));
    words + ")"
}
