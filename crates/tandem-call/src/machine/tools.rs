//! Tool calls: each comes out once, in time, and the model hears of it once.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use super::{
    CallMachine, Output,
    timers::after,
    tool_log::{ToolLog, fits},
    tool_results::{Given, LaterWords, Results},
    transcript::floor,
    waiting::Cause,
};
use crate::{
    Invocation, LateResults, ModelCommand, PhraseId, ToolCall, ToolCallId, ToolMode, ToolOutcome,
    ToolRecord, ToolReport, Verdict,
};

/// Calls that run at the same time.
const MOST_OPEN: usize = 16;

/// Ids that are told apart in one session.
const MOST_IDS: usize = 4_096;

/// Longest text of a refusal, in bytes.
const LONGEST_REFUSAL: usize = 500;

/// A call that somebody carries out.
#[derive(Debug)]
struct Running {
    number: u32,
    name: String,
    mode: ToolMode,
    began: Instant,
    deadline: Instant,
    /// Words for the caller meanwhile that were not said: after how long, which, and whether his speech stops them.
    filler: Option<(Duration, PhraseId, bool)>,
    /// The session that asked is gone: its successor does not know the id.
    orphan: bool,
}

impl Running {
    /// The present session waits for it.
    fn blocks(&self) -> bool {
        self.mode == ToolMode::Blocking && !self.orphan
    }
}

/// The tool calls of a call.
#[derive(Debug, Default)]
pub(super) struct Tools {
    running: Vec<Running>,
    /// Ids the present session has used.
    ids: HashSet<ToolCallId>,
    pub(super) log: ToolLog,
    pub(super) results: Results,
    pub(super) later: LaterWords,
}

impl Tools {
    /// Whether the present session waits for a result.
    pub(super) fn runs_any(&self) -> bool {
        self.results.are_awaited()
    }

    /// The next deadline.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.running.iter().map(|running| running.deadline).min()
    }

    /// The number of a call whose deadline has passed at `now`.
    pub(super) fn due(&self, now: Instant) -> Option<u32> {
        self.running.iter().find(|running| running.deadline <= now).map(|running| running.number)
    }

    /// When the caller, who has heard nothing since `quiet`, is to hear words of a tool that runs, where one has some.
    pub(super) fn filler_due(&self, quiet: Instant) -> Option<Instant> {
        let blocking = self.running.iter().filter(|running| running.blocks());
        let due = blocking.filter_map(|running| {
            let (span, ..) = running.filler?;
            Some(after(running.began.max(quiet), span))
        });
        due.min()
    }

    /// The words that are due first. Those of all calls that run now count as said with them.
    pub(super) fn take_filler(&mut self) -> Option<(PhraseId, bool)> {
        let blocking = self.running.iter_mut().filter(|running| running.blocks());
        let mut fillers: Vec<_> =
            blocking.filter_map(|running| Some((running.began, running.filler.take()?))).collect();
        fillers.sort_by_key(|(began, (span, ..))| after(*began, *span)); // Stable: the first called comes first.
        fillers.first().map(|(_, (_, phrase, interruptible))| (*phrase, *interruptible))
    }

    /// The calls so far.
    pub(super) fn take_records(&mut self) -> Vec<ToolRecord> {
        self.log.take_records()
    }

    /// What receivers wanted kept of the call.
    pub(super) fn take_metadata(&mut self) -> Map<String, Value> {
        self.log.take_metadata()
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

    fn take(&mut self, number: u32) -> Option<Running> {
        let index = self.running.iter().position(|running| running.number == number)?;
        Some(self.running.remove(index))
    }
}

impl CallMachine {
    /// The model calls a tool.
    pub(super) fn handle_tool_call(&mut self, now: Instant, call: ToolCall) {
        self.answering.called = true;
        if self.tools.results.await_one_of(&call.id) {
            return; // The result that comes answers both.
        }
        if let Err(text) = self.tools.note(&call.id) {
            return self.refuse(now, &call, text);
        }
        match &call.arguments {
            Err(text) => {
                let text = &text[..floor(text, LONGEST_REFUSAL)];
                let problem = format!("the arguments are no JSON object: {text}");
                return self.answer_tool(now, &call, Given::invalid(&[], &[problem]));
            }
            Ok(arguments) if !fits(arguments) => {
                let problem = "the arguments are longer than 64 KiB".to_owned();
                return self.answer_tool(now, &call, Given::invalid(&[], &[problem]));
            }
            Ok(_) => {}
        }
        match call.name.as_str() {
            "end_call" => return self.end_call(now, &call),
            "transfer_to_human" => return self.transfer_to_human(now, &call),
            _ => {}
        }
        let Some(tool) = self.spec.tools.iter().position(|tool| tool.declaration.name == call.name)
        else {
            let given = Given::unknown_tool(&self.spec.tool_texts.noted);
            return self.answer_tool(now, &call, given);
        };
        if self.tools.running.len() == MOST_OPEN {
            return self.refuse(now, &call, "too many tools are running");
        }
        self.start_tool(now, tool, call);
    }

    /// The model takes a tool call back. One whose result it has is not its own to take back any more.
    pub(super) fn handle_tool_cancelled(&mut self, now: Instant, id: &ToolCallId) {
        if let Some(number) = self.tools.results.withdraw(id) {
            self.cancel_tool(now, number);
            self.give_results(now);
        }
    }

    /// The executor reports, in time or late.
    pub(super) fn handle_tool_report(&mut self, now: Instant, number: u32, report: ToolReport) {
        if let Some(running) = self.tools.take(number) {
            return self.finish_tool(now, running, report);
        }
        let paused = self.transcript.is_paused();
        let Some((name, mode)) = self.tools.log.note_late(now, number, &report, paused) else {
            return;
        };
        let wanted = self.spec.late_results == LateResults::Inject;
        if wanted && mode != ToolMode::FireAndForget {
            let given = Given::reported(report, &self.spec.tool_texts);
            self.tools.later.push(&name, number, given.without_follow_up());
        }
    }

    /// The deadline of the call `number` has passed.
    pub(super) fn handle_tool_timeout(&mut self, now: Instant, number: u32) {
        if let Some(running) = self.tools.take(number) {
            let error = Some("no answer in time".to_owned());
            let report = ToolReport { error, ..ToolOutcome::TimedOut.into() };
            self.finish_tool(now, running, report);
        }
    }

    /// The session is replaced: results that are still to come are told in words, for the next one does not know their ids.
    pub(super) fn change_tool_session(&mut self) {
        self.tools.running.iter_mut().for_each(|running| running.orphan = true);
        self.tools.ids.clear();
        for (name, given) in self.tools.results.change_session() {
            self.chain.keep_words(given.in_words(&name));
        }
    }

    /// The call is over: nobody waits any more. What runs is not taken back, for the end of a call undoes nothing.
    pub(super) fn forget_tools(&mut self, now: Instant) {
        self.tools.results.forget();
        for running in std::mem::take(&mut self.tools.running) {
            self.tools.log.close(now, running.number, Verdict::Cancelled);
        }
    }

    /// Answers a call at once, which is behind what it asked before; the model owes an answer then.
    pub(super) fn answer_tool(&mut self, now: Instant, call: &ToolCall, given: Given) {
        let number = self.record_tool(now, call, ToolMode::Blocking);
        self.tools.log.finish(now, number, &given, self.transcript.is_paused());
        let given = given.wanting_an_answer();
        if let Some(given) = self.tools.results.queue(call, number, given) {
            self.give_result(now, &call.id, &call.name, number, given); // There are too many before it.
        }
        self.give_results(now);
    }

    /// Answers a call at once; no answer of the model is owed for it.
    pub(super) fn settle_tool(&mut self, now: Instant, call: &ToolCall, given: Given) {
        let number = self.record_tool(now, call, ToolMode::Blocking);
        self.tools.log.finish(now, number, &given, self.transcript.is_paused());
        self.tell_model(ModelCommand::ToolResult { id: call.id.clone(), outcome: given.outcome });
    }

    /// Fails a call at once.
    pub(super) fn refuse(&mut self, now: Instant, call: &ToolCall, text: &str) {
        self.answer_tool(now, call, Given::refused(text));
    }

    fn start_tool(&mut self, now: Instant, tool: usize, call: ToolCall) {
        let agent_tool = &self.spec.tools[tool];
        let (mode, timeout) = (agent_tool.mode, agent_tool.timeout);
        let deadline = after(now, timeout);
        let interruptible = agent_tool.interruptible;
        let filler = agent_tool.filler.map(|filler| (filler.after, filler.phrase, interruptible));
        let number = self.record_tool(now, &call, mode);
        self.tools.running.push(Running {
            number,
            name: call.name.clone(),
            mode,
            began: now,
            deadline,
            filler,
            orphan: false,
        });
        let at_once = match mode {
            ToolMode::Blocking => {
                self.tools.results.expect(&call, number);
                None
            }
            ToolMode::Background => Some(json!({
                "status": "running",
                "message": "It is being done. Go on with the conversation; how it came out follows."
            })),
            ToolMode::FireAndForget => Some(json!({ "status": "accepted" })),
        };
        let id = call.id.clone();
        self.emit(Output::Tool(Invocation { number, call, deadline, timeout }));
        if let Some(result) = at_once {
            let outcome = ToolOutcome::Answered(result);
            self.tell_model(ModelCommand::ToolResult { id, outcome });
            if self.abilities.answers_results {
                self.expect_answer(Cause::Tool);
            }
        }
    }

    /// A call came out: the model gets its one result, or has it already.
    fn finish_tool(&mut self, now: Instant, running: Running, report: ToolReport) {
        let Running { number, name, mode, .. } = running;
        let late = report.outcome == ToolOutcome::TimedOut;
        let mut given = Given::reported(report, &self.spec.tool_texts);
        self.tools.log.finish(now, number, &given, self.transcript.is_paused());
        self.tools.log.keep_metadata(&mut given);
        if late {
            self.tools.log.expect_late(number);
        }
        match mode {
            ToolMode::FireAndForget => {}
            ToolMode::Background => self.tools.later.push(&name, number, given),
            ToolMode::Blocking if running.orphan => self.tell_successor(now, &name, given),
            ToolMode::Blocking => {
                self.tools.results.fill(number, given);
                self.give_results(now);
            }
        }
    }

    fn cancel_tool(&mut self, now: Instant, number: u32) {
        if self.tools.take(number).is_some() {
            self.tools.log.close(now, number, Verdict::Cancelled);
            self.emit(Output::CancelTool(number));
        }
    }

    /// Enters a call into the record, as cancelled until it comes out.
    fn record_tool(&mut self, now: Instant, call: &ToolCall, mode: ToolMode) -> u32 {
        let tool = self.spec.tools.iter().find(|tool| tool.declaration.name == call.name);
        let paused = self.transcript.is_paused();
        self.tools.log.open(now, self.answered, call, tool, mode, paused)
    }
}

/// The text argument `name` of a tool that runs inside, at most 2,000 characters; none when it is absent or blank.
pub(super) fn text_argument<'a>(call: &'a ToolCall, name: &str) -> Option<&'a str> {
    const LONGEST: usize = 2_000;
    let text = call.arguments.as_ref().ok()?.get(name)?.as_str()?.trim();
    let end = text.char_indices().nth(LONGEST).map_or(text.len(), |(at, _)| at);
    (!text.is_empty()).then_some(&text[..end])
}

/// The text argument `name` that a tool that runs inside can't do without, or what the model is told of its absence.
pub(super) fn required_text<'a>(
    call: &'a ToolCall,
    name: &'static str,
) -> Result<&'a str, Box<Given>> {
    text_argument(call, name).ok_or_else(|| {
        let value = call.arguments.as_ref().ok().and_then(|arguments| arguments.get(name));
        Box::new(match value {
            None | Some(Value::Null | Value::String(_)) => Given::invalid(&[name], &[]),
            Some(_) => Given::invalid(&[], &[format!("{name} must be a text")]),
        })
    })
}
