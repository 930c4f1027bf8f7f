//! Says when a live call begins to sound bad, and when it sounds well again.

use std::time::{Duration, Instant};

/// How often a live call is looked at.
const INTERVAL: Duration = Duration::from_secs(5);

/// Below this many users are dissatisfied (ITU-T G.107 annex B: R 70).
const POOR: f64 = 3.6;

/// From here on it sounds well again; the distance keeps a call at the limit from flapping.
const WELL: f64 = 3.8;

/// What there is to say of a call's sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Change {
    /// It has begun to sound bad.
    Poor(f64),
    /// It sounds well again.
    Well(f64),
}

/// Follows the live mean opinion score of one call.
#[derive(Debug)]
pub(crate) struct QualityWatch {
    next: Instant,
    poor: bool,
}

impl QualityWatch {
    /// A watch over a call that begins at `now`.
    pub(crate) fn new(now: Instant) -> Self {
        Self { next: now + INTERVAL, poor: false }
    }

    /// Whether the score is to be looked at.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        now >= self.next
    }

    /// Takes the score at `now`; none while nothing can be said of it.
    pub(crate) fn note(&mut self, now: Instant, mos: Option<f64>) -> Option<Change> {
        self.next = now + INTERVAL;
        let mos = mos?;
        match self.poor {
            false if mos < POOR => {
                self.poor = true;
                Some(Change::Poor(mos))
            }
            true if mos >= WELL => {
                self.poor = false;
                Some(Change::Well(mos))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_spoken_of_when_its_sound_changes_and_not_between() {
        let start = Instant::now();
        let mut watch = QualityWatch::new(start);
        assert!(!watch.is_due(start + INTERVAL / 2));
        let mut said = Vec::new();
        for (n, mos) in
            [None, Some(4.3), Some(3.5), Some(3.2), Some(3.7), None, Some(3.9), Some(3.7)]
                .into_iter()
                .enumerate()
        {
            let now = start + INTERVAL * (n as u32 + 1);
            assert!(watch.is_due(now));
            said.extend(watch.note(now, mos).map(|change| (n, change)));
        }
        assert_eq!(said, [(2, Change::Poor(3.5)), (6, Change::Well(3.9))]);
    }
}
