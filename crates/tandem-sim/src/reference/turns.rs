//! The caller's turns, of which a model is told that finds none itself.

use std::time::{Duration, Instant};

use tandem_call::{ModelCommand, Output};

use super::{Reference, SHORTEST_UTTERANCE, Step, Violation, check};

impl Reference {
    pub(super) fn take_turn_started(
        &mut self,
        step: &Step<'_>,
        ago: Duration,
    ) -> Result<(), Violation> {
        let now = step.now;
        check(self.turn_pause.is_some(), || "a turn for a model that finds them".into())?;
        check(self.ready && !self.turn_open, || "a turn at the wrong time".into())?;
        check(!self.is_over() && !self.transferring(now), || "a turn of nobody".into())?;
        let began = self.stretch.map_or(now, |(since, _)| since);
        let length = now.saturating_duration_since(began);
        check(length == ago, || format!("a turn began {length:?} ago, not {ago:?}"))?;
        check(self.speaking.is_some() || self.fell_silent, || "a turn of silence".into())?;
        let click = length < SHORTEST_UTTERANCE && !self.heeded && !self.hears_out();
        check(!click, || "a click was taken for a turn".into())?;
        self.turn_open = true;
        Ok(())
    }

    /// The caller has just spoken for long enough to want something, and not only while the agent spoke on.
    pub(super) fn asks(&self) -> bool {
        let long = |(since, until): (Instant, Instant)| {
            until.saturating_duration_since(since) >= SHORTEST_UTTERANCE
        };
        let let_pass = self.heard.over_agent && !self.heeded;
        self.fell_silent && self.stretch.is_some_and(long) && !let_pass
    }

    /// The caller has been silent for as long as the model waits.
    pub(super) fn turn_is_over(&self, now: Instant) -> bool {
        let pause = self.turn_pause.unwrap_or_default();
        self.speaking.is_none()
            && self.stretch.is_none_or(|(_, until)| now.saturating_duration_since(until) >= pause)
    }

    /// A model that finds no turns is told of each that the caller has begun or ended.
    pub(super) fn check_turn(&self, step: &Step<'_>) -> Result<(), Violation> {
        let now = step.now;
        if self.turn_pause.is_none() || !self.ready || !self.surely_live() || !self.talks(now) {
            return Ok(());
        }
        let told = self.turn_open || step.outputs.contains(&Output::Model(ModelCommand::TurnEnded));
        check(told || !self.asks(), || "the caller's turn was not told".into())?;
        let over = self.turn_open && !self.held && self.turn_is_over(now);
        check(!over, || "the end of the caller's turn was not told".into())
    }
}
