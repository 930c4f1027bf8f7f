//! What happens in a call, told in the order in which it happened.

use std::{collections::VecDeque, time::Duration};

/// How long a note waits for earlier ones: that somebody began to speak is known 0.4 s later, that he is done 0.7 s later.
const HOLD: Duration = Duration::from_secs(1);

/// Notes that may wait.
const MAX_WAITING: usize = 64;

/// Notes about a call; times count from its answer.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// By time; notes of the same time in the order in which they came.
    waiting: VecDeque<(Duration, String)>,
    last_told: Duration,
    complete: bool,
}

impl Notes {
    /// Takes what happened at `at`. When too many wait, the note is dropped.
    pub(crate) fn add(&mut self, at: Duration, text: impl Into<String>) {
        if self.waiting.len() < MAX_WAITING {
            // What becomes known later than it could be held for stands where it becomes known.
            let at = at.max(self.last_told);
            let place = self.waiting.partition_point(|(other, _)| *other <= at);
            self.waiting.insert(place, (at, text.into()));
        }
    }

    /// No more notes come: the waiting ones need not wait any longer.
    pub(crate) fn finish(&mut self) {
        self.complete = true;
    }

    /// The next line that can be told at `now`: `   7.530 s  they speak`.
    pub(crate) fn poll(&mut self, now: Duration) -> Option<String> {
        self.waiting.front().filter(|(at, _)| self.complete || *at + HOLD <= now)?;
        let (at, text) = self.waiting.pop_front()?;
        self.last_told = at;
        Some(format!("{:8.3} s  {text}", at.as_secs_f64()))
    }

    /// When `poll` has something again.
    pub(crate) fn due(&self) -> Option<Duration> {
        self.waiting.front().map(|(at, _)| *at + HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn told(notes: &mut Notes, now: Duration) -> Vec<String> {
        std::iter::from_fn(|| notes.poll(now)).collect()
    }

    #[test]
    fn what_becomes_known_later_is_told_where_it_happened() {
        let mut notes = Notes::default();
        notes.add(ms(7_700), "we play");
        notes.add(ms(7_530), "they speak");
        notes.add(ms(7_700), "we press 1");
        assert_eq!(notes.due(), Some(ms(8_530)));
        assert_eq!(told(&mut notes, ms(8_529)), [""; 0]);
        assert_eq!(told(&mut notes, ms(8_530)), ["   7.530 s  they speak"]);
        notes.add(ms(7_600), "they press 2");
        assert_eq!(
            told(&mut notes, ms(9_000)),
            ["   7.600 s  they press 2", "   7.700 s  we play", "   7.700 s  we press 1"]
        );
        notes.add(ms(5_000), "long ago");
        notes.add(ms(9_000), "just now");
        notes.finish();
        assert_eq!(told(&mut notes, ms(9_000)), ["   7.700 s  long ago", "   9.000 s  just now"]);
        assert_eq!(notes.due(), None);
    }

    #[test]
    fn a_flood_of_notes_is_cut() {
        let mut notes = Notes::default();
        for n in 0..1_000 {
            notes.add(ms(n), "they press 1");
        }
        notes.finish();
        assert_eq!(told(&mut notes, ms(0)).len(), MAX_WAITING);
    }
}
