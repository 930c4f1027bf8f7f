//! The caller speaks over the agent: it falls silent, and is stopped or goes on soon after.

use std::time::{Duration, Instant};

use tandem_call::{Input, LegCommand, LegEvent, ModelEvent, Output};

use super::{Reference, Step, Stimulus, Violation, check};

/// The agent goes on when the caller was silent for so long.
const GOES_ON_AFTER: Duration = Duration::from_millis(100);

/// Sounds of the caller that are closer together than this count as one.
const MEMORY: Duration = Duration::from_secs(1);

/// When the caller was heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// From when to when, the oldest first.
    sounds: Vec<(Instant, Instant)>,
    /// He is heard since then.
    since: Option<Instant>,
    /// The model reported speech then, while the leg heard none.
    pub(super) reported: Option<Instant>,
    /// The model wrote down sounds of a listener then.
    pub(super) listened: Option<Instant>,
    /// He began or went on while something of the agent was to be heard, in this stretch of speech.
    pub(super) over_agent: bool,
}

impl Heard {
    pub(super) fn begin(&mut self, now: Instant) {
        self.since.get_or_insert(now);
        self.reported = None;
    }

    pub(super) fn end(&mut self, at: Instant) {
        if let Some(since) = self.since.take() {
            self.sounds.push((since, at.max(since)));
        }
    }

    /// For how long he was heard lately, at `now`; more of it than can count.
    fn lately(&self, now: Instant) -> Duration {
        let running = self.since.map(|since| (since, now));
        let mut sum = Duration::ZERO;
        let mut before = None;
        for &(from, to) in self.sounds.iter().chain(&running).rev() {
            if before.is_some_and(|next: Instant| next.saturating_duration_since(to) > MEMORY) {
                break;
            }
            sum += to - from;
            before = Some(from);
        }
        sum
    }
}

impl Reference {
    /// The caller begins or goes on; the agent is to fall silent or be stopped for it where that is certain.
    pub(super) fn must_heed(&self, now: Instant, stimulus: &Stimulus) -> bool {
        let Stimulus::Input(input) = stimulus else { return false };
        let begins = match input {
            Input::Leg(LegEvent::SpeechStarted) => self.speaking.is_none(),
            Input::Leg(LegEvent::SpeechResumed) => self.speaking.is_some(),
            Input::Model(ModelEvent::SpeechStarted) => !self.interrupts && self.is_told_first(),
            _ => false,
        };
        let heeds = self.patience().is_some_and(|patience| {
            patience.is_zero() || self.spec.interruption.reversible && !patience.is_zero()
        });
        begins && heeds && self.speaks() && self.talks(now) && self.surely_live()
    }

    /// The leg has never heard the caller, so that what the model reports is all there is.
    pub(super) fn is_told_first(&self) -> bool {
        self.stretch.is_none()
    }

    /// Speech that must not stop the agent, in this step.
    pub(super) fn may_not_stop(&self, now: Instant, stimulus: &Stimulus) -> bool {
        let Stimulus::Input(input) = stimulus else { return false };
        let certain = self.talks(now) && self.surely_live() && self.turn_pause.is_none();
        match input {
            Input::Leg(LegEvent::SpeechStarted | LegEvent::SpeechResumed)
            | Input::Model(ModelEvent::SpeechStarted) => certain && self.patience().is_none(),
            _ => false,
        }
    }

    /// How long he has to be heard to stop the agent; none = for ever.
    pub(super) fn patience(&self) -> Option<Duration> {
        self.spec.interruption.patience()
    }

    pub(super) fn take_duck(&mut self, now: Instant, ducked: bool) -> Result<(), Violation> {
        check(ducked != self.ducked, || "hushed twice, or not at all".into())?;
        let may = self.spec.interruption.reversible
            && self.patience().is_some_and(|patience| !patience.is_zero());
        check(!ducked || may, || "an agent was hushed that is not to be".into())?;
        let heard = self.heard.since.is_some() || self.heard.reported == Some(now);
        check(!ducked || heard, || "hushed for nobody".into())?;
        self.ducked = ducked;
        Ok(())
    }

    /// A hushed agent is stopped for whoever was heard for long enough, and for nobody else.
    pub(super) fn check_stop(&self, step: &Step<'_>, was_ducked: bool) -> Result<(), Violation> {
        let by_ear = match step.stimulus {
            Stimulus::Timeout => true,
            Stimulus::Input(Input::Leg(event)) => matches!(
                event,
                LegEvent::SpeechStarted
                    | LegEvent::SpeechPaused { .. }
                    | LegEvent::SpeechResumed
                    | LegEvent::SpeechStopped { .. }
            ),
            Stimulus::New | Stimulus::Input(_) => false,
        };
        let cleared = step.outputs.contains(&Output::Leg(LegCommand::ClearPlayout));
        if !cleared || !was_ducked || !by_ear || !self.talks(step.now) || !self.surely_live() {
            return Ok(());
        }
        let reported = self.heard.reported.map(|at| step.now - at);
        let heard = self.heard.lately(step.now).max(reported.unwrap_or_default());
        let enough = self.patience().is_some_and(|patience| heard >= patience);
        check(enough, || format!("stopped for {heard:?} of speech"))
    }

    /// A hushed agent does not stay so: by now it must have been stopped or gone on, or, where time has just passed, must do
    /// so now at the latest.
    pub(super) fn check_hush(&self, now: Instant, just_now: bool) -> Result<(), Violation> {
        if !self.ducked || self.is_over() {
            return Ok(());
        }
        check(just_now || !self.transferring(now), || "hushed for a caller who is away".into())?;
        let in_time = |span, limit| span < limit || just_now && span == limit;
        match self.heard.reported.or(self.heard.since) {
            Some(since) => {
                let span = now - self.heard.listened.map_or(since, |at| at.max(since));
                let patient = self.patience().is_some_and(|patience| in_time(span, patience));
                check(patient, || format!("neither stopped nor gone on after {span:?} of speech"))
            }
            None => {
                let until = self.heard.sounds.last().map_or(now, |(_, until)| *until);
                let quiet = now.saturating_duration_since(until);
                let waits = self.speaking.is_some() && in_time(quiet, GOES_ON_AFTER);
                check(waits, || format!("still hushed after {quiet:?} of silence"))
            }
        }
    }
}
