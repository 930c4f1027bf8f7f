//! Barge-in that can be taken back: the caller is heard over the agent, and what that means shows a moment later.
//!
//! The agent falls silent at the first sound. It is stopped when the caller has been heard for as long as the agent is
//! patient, and goes on at the very sample when he falls silent before. What he said in that time was to show that he
//! listens, or no speech at all: nobody answers it.

use std::time::{Duration, Instant};

use super::{
    CallMachine, Output,
    timers::{Timer, after},
};
use crate::{BargeIns, LegCommand};

/// The agent goes on after the caller was silent for so long: the gap inside "uh-huh" is shorter.
const GOES_ON_AFTER: Duration = Duration::from_millis(100);

/// What was heard of the caller before such a silence is forgotten.
const MEMORY: Duration = Duration::from_secs(1);

/// How much of the caller's voice was heard lately.
#[derive(Debug, Default)]
struct Voice {
    /// It is heard since then.
    since: Option<Instant>,
    /// It was heard until then.
    until: Option<Instant>,
    /// For how long, in the stretches that are over.
    before: Duration,
}

impl Voice {
    fn begin(&mut self, now: Instant) {
        let fresh = self.until.is_none_or(|until| now.saturating_duration_since(until) > MEMORY);
        if fresh && self.since.is_none() {
            self.before = Duration::ZERO;
        }
        self.since.get_or_insert(now);
    }

    fn end(&mut self, at: Instant) {
        if let Some(since) = self.since.take() {
            self.before += at.saturating_duration_since(since);
            self.until = Some(at);
        }
    }

    /// It is heard, or was just now.
    fn was_heard(&self, now: Instant) -> bool {
        let lately = |until| now.saturating_duration_since(until) < MEMORY;
        self.since.is_some() || self.until.is_some_and(lately)
    }

    /// Counts anew from `now` on.
    fn restart(&mut self, now: Instant) {
        self.before = Duration::ZERO;
        self.since = self.since.map(|_| now);
    }

    /// Forgets what is over.
    fn forget(&mut self) {
        self.before = Duration::ZERO;
    }
}

/// Speech of the caller over the agent.
#[derive(Debug, Default)]
pub(super) struct BargeIn {
    voice: Voice,
    /// The voice is, or was last, heard over the agent.
    over_agent: bool,
    /// It is not known yet whether he interrupts.
    open: bool,
    /// It is the model that heard him, then, and the leg has not.
    reported: Option<Instant>,
    /// The agent fell silent for it then.
    ducked: Option<Instant>,
    /// What the caller says, or said last, does not interrupt.
    passed: bool,
    /// A model that goes on by itself may yet answer to what was let pass.
    unanswered: bool,
    tally: BargeIns,
}

impl BargeIn {
    /// The leg hears nothing of the caller for `ago`.
    pub(super) fn caller_pauses(&mut self, now: Instant, ago: Duration) {
        self.voice.end(now.checked_sub(ago).unwrap_or(now));
    }

    /// What the caller says is judged by its length, or was, and is no interruption so far.
    pub(super) fn is_judged(&self) -> bool {
        self.open || self.passed
    }

    /// What the caller says, or said last, was let pass: not a turn that he began before the agent spoke.
    pub(super) fn is_passed(&self) -> bool {
        self.passed && self.over_agent
    }

    /// The caller speaks anew or goes on, `over_agent` or not.
    fn begin(&mut self, now: Instant, over_agent: bool) {
        self.voice.begin(now);
        if !self.over_agent {
            self.voice.forget(); // It was a turn of his own.
        }
        self.over_agent = over_agent;
        self.passed = false;
        self.reported = None;
    }

    /// Nothing is left to be judged; gives since when the leg is silent for it, which is to be ended by who asks.
    pub(super) fn end(&mut self) -> Option<Instant> {
        self.open = false;
        self.unanswered = false;
        self.reported = None;
        self.ducked.take()
    }

    /// Whether an answer that begins while the agent is heard is one to what was let pass; once.
    pub(super) fn is_answered(&mut self) -> bool {
        std::mem::take(&mut self.unanswered)
    }

    /// The leg is silent until it shows what the caller means.
    pub(super) fn is_ducked(&self) -> bool {
        self.ducked.is_some()
    }

    /// The agent was stopped for the caller.
    pub(super) fn count_stop(&mut self) {
        self.tally.stopped += 1;
    }

    /// What became of the caller's sounds so far.
    pub(super) fn tally(&self) -> BargeIns {
        self.tally
    }
}

impl CallMachine {
    /// The leg hears the caller again after a pause in his speech.
    pub(super) fn handle_caller_resumed(&mut self, now: Instant) {
        if self.caller.speaking.is_some() {
            self.hear_caller(now);
        }
    }

    /// The leg begins to hear the caller, maybe over the agent.
    pub(super) fn hear_caller(&mut self, now: Instant) {
        let over_agent = self.in_conversation() && self.agent_speaks();
        self.barge_in.begin(now, over_agent);
        if !over_agent {
            return;
        }
        if self.spec.interruption.patience().is_none() {
            self.barge_in.passed = true;
            return;
        }
        self.judge(now);
    }

    /// A model that goes on by itself reports speech: that is believed unless the leg hears what it is.
    pub(super) fn hear_of_caller(&mut self, now: Instant) {
        let BargeIn { open, passed, voice, .. } = &self.barge_in;
        let judged = *open || *passed && voice.was_heard(now);
        if !judged && self.agent_speaks() && self.spec.interruption.patience().is_some() {
            self.barge_in.reported = Some(now);
            self.judge(now);
        }
    }

    /// A model that goes on by itself reports the end of speech that the leg never heard.
    pub(super) fn hear_of_silence(&mut self, now: Instant) {
        if self.barge_in.reported.is_some() {
            self.let_pass(now);
        }
    }

    /// It will show whether the caller interrupts.
    fn judge(&mut self, now: Instant) {
        let at_once = self.spec.interruption.patience().is_some_and(|patience| patience.is_zero());
        self.barge_in.open = true;
        let heard_out = !self.playout.is_silent() && !self.playout.may_be_stopped();
        let reversible = self.spec.interruption.reversible && !heard_out;
        if reversible && !at_once && self.barge_in.ducked.is_none() {
            self.barge_in.ducked = Some(now);
            self.barge_in.tally.hushed += 1;
            self.emit(Output::Leg(LegCommand::Duck(true)));
        }
    }

    /// Looks whether the caller interrupts.
    pub(super) fn settle_barge_in(&mut self, now: Instant) {
        self.timers.stop(Timer::BargeIn);
        if !self.in_conversation() || !self.agent_speaks() {
            // There is nobody left to be interrupted: what he says is a turn like any other.
            self.barge_in.passed &= self.barge_in.voice.since.is_none();
            return self.go_on(now);
        }
        if !self.barge_in.open {
            return;
        }
        let patience = self.spec.interruption.patience().unwrap_or(Duration::MAX);
        let voice = &self.barge_in.voice;
        let due = match (self.barge_in.reported, voice.since) {
            (Some(at), _) => after(at, patience),
            (None, Some(since)) => after(since, patience.saturating_sub(voice.before)),
            (None, None) => after(voice.until.unwrap_or(now), GOES_ON_AFTER),
        };
        if now < due {
            self.timers.set(Timer::BargeIn, Some(due));
        } else if voice.since.is_some() || self.barge_in.reported.is_some() {
            self.stop_agent(now);
        } else {
            self.let_pass(now);
        }
    }

    /// The caller interrupts, by what the leg heard or by his words. A model that stops by itself will notice.
    fn stop_agent(&mut self, now: Instant) {
        self.cut_agent(now, self.abilities.interrupts && self.abilities.detects_turns);
    }

    /// The caller fell silent before he could be said to interrupt.
    pub(super) fn handle_judged_silence(&mut self, now: Instant) {
        if self.barge_in.open {
            self.let_pass(now);
        }
    }

    /// The caller does not interrupt: the agent goes on.
    fn let_pass(&mut self, now: Instant) {
        self.barge_in.passed = true;
        self.go_on(now);
        self.barge_in.unanswered = !self.abilities.interrupts && self.abilities.detects_turns;
    }

    /// The model wrote down what the caller says while it is judged: words interrupt, and a listener has as much time again
    /// to fall silent.
    pub(super) fn judge_words(&mut self, now: Instant, text: &str) {
        if !self.barge_in.open || !self.caller.is_first_text() {
            return; // It may be what he said before.
        }
        match self.spec.interruption.is_listening(text) {
            Some(true) => self.barge_in.voice.restart(now),
            Some(false) => self.stop_agent(now),
            None => {}
        }
    }

    /// Something of the agent is heard, or about to be.
    fn agent_speaks(&self) -> bool {
        self.playout.may_be_stopped() || self.answering.running && !self.answering.cut
    }

    /// Nobody listens any more: what was not heard until the agent fell silent never will be.
    pub(super) fn end_barge_in(&mut self, now: Instant) {
        if let Some(since) = self.barge_in.end() {
            self.playout.stood_still(now.saturating_duration_since(since));
        }
    }

    /// The agent goes on where it fell silent.
    fn go_on(&mut self, now: Instant) {
        let ducked = self.barge_in.ducked.is_some();
        self.end_barge_in(now);
        if ducked {
            self.barge_in.tally.went_on += 1;
            self.emit(Output::Leg(LegCommand::Duck(false)));
        }
    }
}
