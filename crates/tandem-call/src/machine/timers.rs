//! What the machine waits for.

use std::time::{Duration, Instant};

/// Everything that can run out, tool deadlines aside: those live with their call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timer {
    /// The phone has rung long enough: answer without the model.
    Answer,
    /// The answer was ordered and never confirmed.
    Answered,
    /// The model's session is not ready.
    Connect,
    /// A lost session may be dialled again.
    Retry,
    /// The last moment to replace an expiring session.
    Expiry,
    /// The call lasts too long.
    CallLimit,
    /// The caller is silent for too long.
    Silence,
    /// The next look at whether the caller's turn begins or is over, where the model has to be told.
    Turn,
    /// The next look at whether the caller interrupts.
    BargeIn,
    /// The caller waits and hears nothing.
    DeadAir,
    /// The model forgot that the caller waits.
    Nudge,
    /// The model says nothing at all.
    Stall,
    /// No further digit came.
    Digits,
    /// A prompt should have been played by now.
    Prompt,
    /// The caller has spoken long enough to take an ending back.
    TakeBack,
    /// The next look at whether the goodbye is over.
    Ending,
    /// The next look at whether the sentence before a transfer is over.
    LeadOut,
    /// The transfer takes too long, or its far side does not hang up.
    Transfer,
    /// Nobody confirmed the hang-up.
    Closing,
}

const TIMERS: usize = Timer::Closing as usize + 1;

const ALL: [Timer; TIMERS] = [
    Timer::Answer,
    Timer::Answered,
    Timer::Connect,
    Timer::Retry,
    Timer::Expiry,
    Timer::CallLimit,
    Timer::Silence,
    Timer::Turn,
    Timer::BargeIn,
    Timer::DeadAir,
    Timer::Nudge,
    Timer::Stall,
    Timer::Digits,
    Timer::Prompt,
    Timer::TakeBack,
    Timer::Ending,
    Timer::LeadOut,
    Timer::Transfer,
    Timer::Closing,
];

/// The running timers, each at most once.
#[derive(Debug, Default)]
pub(super) struct Timers([Option<Instant>; TIMERS]);

impl Timers {
    /// Lets `timer` run out at `at`, or stops it.
    pub(super) fn set(&mut self, timer: Timer, at: Option<Instant>) {
        self.0[timer as usize] = at;
    }

    /// Lets `timer` run out `span` after `now`.
    pub(super) fn start(&mut self, timer: Timer, now: Instant, span: Duration) {
        self.set(timer, Some(after(now, span)));
    }

    /// Stops `timer`.
    pub(super) fn stop(&mut self, timer: Timer) {
        self.set(timer, None);
    }

    /// Stops all.
    pub(super) fn stop_all(&mut self) {
        *self = Self::default();
    }

    /// When the next one runs out.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes the timer that ran out first, if one has at `now`.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let (_, timer) = ALL
            .into_iter()
            .filter_map(|timer| self.0[timer as usize].map(|at| (at, timer)))
            .filter(|(at, _)| *at <= now)
            .min_by_key(|(at, _)| *at)?;
        self.stop(timer);
        Some(timer)
    }
}

/// Measures how long something has been going on.
#[derive(Debug, Default)]
pub(super) struct Stopwatch {
    since: Option<Instant>,
    before: Duration,
}

impl Stopwatch {
    /// Runs while `on`; off sets it back to zero.
    pub(super) fn hold(&mut self, now: Instant, on: bool) {
        if !on {
            self.reset();
        } else if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// Runs while `on`; off stops it and keeps what it showed.
    pub(super) fn gather(&mut self, now: Instant, on: bool) {
        match self.since {
            None if on => self.since = Some(now),
            Some(since) if !on => {
                self.before += now.saturating_duration_since(since);
                self.since = None;
            }
            Some(_) | None => {}
        }
    }

    /// Back to zero and stopped.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }

    /// When it will show `limit`, if it runs.
    pub(super) fn shows(&self, limit: Duration) -> Option<Instant> {
        self.since.map(|since| after(since, limit.saturating_sub(self.before)))
    }
}

/// `span` after `now`; a span from outside that no clock can hold becomes a day.
pub(super) fn after(now: Instant, span: Duration) -> Instant {
    const DAY: Duration = Duration::from_secs(86_400);
    now + span.min(DAY)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::beginning;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_earliest_timer_comes_first_and_once() {
        let now = beginning();
        let mut timers = Timers::default();
        timers.start(Timer::Closing, now, SECOND);
        timers.start(Timer::Answer, now, 2 * SECOND);
        assert_eq!(timers.next(), Some(now + SECOND));
        assert_eq!(timers.take_due(now), None);
        assert_eq!(timers.take_due(now + 3 * SECOND), Some(Timer::Closing));
        assert_eq!(timers.take_due(now + 3 * SECOND), Some(Timer::Answer));
        assert_eq!(timers.take_due(now + 3 * SECOND), None);
        assert!(ALL.iter().enumerate().all(|(index, timer)| *timer as usize == index));
    }

    #[test]
    fn a_stopwatch_holds_or_gathers() {
        let now = beginning();
        let mut watch = Stopwatch::default();
        watch.hold(now, true);
        watch.hold(now + SECOND, true);
        assert_eq!(watch.shows(3 * SECOND), Some(now + 3 * SECOND));
        watch.hold(now + SECOND, false);
        assert_eq!(watch.shows(SECOND), None);
        watch.gather(now, true);
        watch.gather(now + SECOND, false);
        watch.gather(now + 5 * SECOND, true);
        assert_eq!(watch.shows(3 * SECOND), Some(now + 7 * SECOND));
    }

    #[test]
    fn a_span_from_outside_is_bounded() {
        let now = beginning();
        assert_eq!(after(now, Duration::MAX), now + Duration::from_secs(86_400));
    }
}
