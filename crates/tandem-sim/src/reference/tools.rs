//! Tool calls: each has one outcome, the model gets its results in the order of its calls, and nothing after it took one
//! back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tandem_call::{
    AgentSpec, CallOutcome, Invocation, ToolCall, ToolCallId, ToolMode, ToolOutcome, ToolReport,
    Verdict,
};

use super::{Violation, check};

/// Calls that run at the same time, and calls that are kept of one call.
const MOST_OPEN: usize = 16;
const MOST_RECORDS: usize = 1_024;

/// A tool call of the present session without a result.
#[derive(Debug)]
struct Call {
    id: ToolCallId,
    /// When the result must have come, if it must.
    due: Option<Instant>,
    /// It is carried out, and the model waits.
    blocks: bool,
}

/// What became of what was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Running,
    Reported,
    TimedOut,
    Cancelled,
}

/// What is known of the tool calls of a call.
#[derive(Debug, Default)]
pub(super) struct ToolWatch {
    /// In the order of the model.
    calls: Vec<Call>,
    /// What the present session had carried out.
    executed: BTreeSet<ToolCallId>,
    /// What the executor has, and until when.
    executing: BTreeMap<u32, Instant>,
    fates: BTreeMap<u32, Fate>,
    /// A receiver asked for a transfer, which may begin with any result or word for the model.
    pub(super) asks_transfer: bool,
}

impl ToolWatch {
    /// The model waits for something that is being carried out.
    pub(super) fn blocks(&self) -> bool {
        self.calls.iter().any(|call| call.blocks)
    }

    /// What still runs.
    pub(super) fn executing(&self) -> impl Iterator<Item = u32> {
        self.executing.keys().copied()
    }

    /// The model calls a tool, whose result must come in time where that is `certain`: that of the last call before it, or
    /// its own.
    pub(super) fn call(&mut self, now: Instant, call: &ToolCall, spec: &AgentSpec, certain: bool) {
        if self.calls.iter().any(|known| known.id == call.id) {
            return; // One result answers both.
        }
        let tool = spec.tools.iter().find(|tool| tool.declaration.name == call.name);
        let own = now + tool.map_or(Duration::ZERO, |tool| tool.timeout);
        let before = self.calls.iter().map(|call| call.due).collect::<Option<Vec<_>>>();
        let due = before.map(|before| before.into_iter().fold(own, Instant::max));
        let due = due.filter(|_| certain);
        self.calls.push(Call { id: call.id.clone(), due, blocks: false });
    }

    /// The model takes a call back.
    pub(super) fn take_back(&mut self, id: &ToolCallId) {
        self.calls.retain(|call| call.id != *id);
    }

    /// The machine has a call carried out.
    pub(super) fn execute(
        &mut self,
        now: Instant,
        invocation: &Invocation,
        spec: &AgentSpec,
    ) -> Result<(), Violation> {
        let Invocation { number, call, deadline, timeout } = invocation;
        let known = self.calls.iter_mut().find(|known| known.id == call.id);
        let known = known.ok_or_else(|| Violation(format!("{:?} not called", call.id)))?;
        let tool = spec.tools.iter().find(|tool| tool.declaration.name == call.name);
        let tool = tool.ok_or_else(|| Violation(format!("{} is no tool", call.name)))?;
        known.blocks = tool.mode == ToolMode::Blocking;
        let right = *timeout == tool.timeout && *deadline == now + *timeout;
        check(right, || format!("{deadline:?} is not the deadline"))?;
        let rises = self.fates.last_key_value().is_none_or(|(last, _)| last < number);
        check(rises && *number > 0, || format!("{number} is a wrong number"))?;
        check(self.executing.len() < MOST_OPEN, || "too many tools at a time".into())?;
        check(self.executed.insert(call.id.clone()), || "executed twice".into())?;
        self.executing.insert(*number, *deadline);
        self.fates.insert(*number, Fate::Running);
        Ok(())
    }

    /// The machine does not want it carried out any more, for the model took it back.
    pub(super) fn cancel(&mut self, number: u32) -> Result<(), Violation> {
        self.fates.insert(number, Fate::Cancelled);
        check(self.executing.remove(&number).is_some(), || format!("{number} does not run"))
    }

    /// The executor reports. True when the receiver asks for an end.
    pub(super) fn report(&mut self, now: Instant, number: u32, report: &ToolReport) -> bool {
        let in_time = self.executing.remove(&number).is_some_and(|deadline| now < deadline);
        if let Some(fate @ Fate::Running) = self.fates.get_mut(&number) {
            let answered = in_time && report.outcome != ToolOutcome::TimedOut;
            *fate = if answered { Fate::Reported } else { Fate::TimedOut };
        }
        self.asks_transfer |= in_time && report.follow_up.transfer.is_some();
        in_time && report.follow_up.end_call
    }

    /// The model gets a result.
    pub(super) fn give(&mut self, id: &ToolCallId) -> Result<(), Violation> {
        let index = self.calls.iter().position(|call| call.id == *id);
        let index = index.ok_or_else(|| Violation(format!("a result nobody waits for: {id:?}")))?;
        let call = self.calls.remove(index);
        let earlier = self.calls[..index].iter().find(|call| call.blocks);
        let in_order = !call.blocks || earlier.is_none();
        check(in_order, || format!("the result of {id:?} came before that of {earlier:?}"))
    }

    /// Calls whose results are late.
    pub(super) fn check_due(&self, now: Instant) -> Result<(), Violation> {
        let late = self.calls.iter().find(|call| call.due.is_some_and(|at| at <= now));
        check(late.is_none(), || format!("{late:?} was not answered"))
    }

    /// The time of some may be over.
    pub(super) fn pass(&mut self, now: Instant) {
        let over = self.executing.extract_if(.., |_, deadline| *deadline <= now);
        for (number, _) in over {
            self.fates.insert(number, Fate::TimedOut);
        }
    }

    /// The next session knows nothing of the calls of this one.
    pub(super) fn change_session(&mut self) {
        self.calls.clear();
        self.executed.clear();
    }

    /// The call is over: nobody waits any more.
    pub(super) fn forget(&mut self, now: Instant) {
        self.calls.clear();
        self.pass(now);
        for number in std::mem::take(&mut self.executing).into_keys() {
            self.fates.insert(number, Fate::Cancelled);
        }
    }

    /// Whatever was carried out is in the record once, with what became of it.
    pub(super) fn check_record(&self, outcome: &CallOutcome) -> Result<(), Violation> {
        let records = &outcome.tools;
        let rises = records.is_sorted_by(|one, next| one.number < next.number);
        check(rises, || format!("the record is out of order: {records:?}"))?;
        for (number, fate) in &self.fates {
            let record = records.iter().find(|record| record.number == *number);
            let Some(record) = record else {
                check(records.len() == MOST_RECORDS, || format!("{number} is not in the record"))?;
                continue;
            };
            let verdict = record.outcome;
            let right = match fate {
                Fate::Running => false,
                Fate::Reported => !matches!(verdict, Verdict::Cancelled | Verdict::Late),
                Fate::TimedOut => matches!(verdict, Verdict::FallbackTrouble | Verdict::Late),
                Fate::Cancelled => verdict == Verdict::Cancelled,
            };
            check(right, || format!("{number} is {fate:?} and {verdict:?} in the record"))?;
        }
        Ok(())
    }
}
