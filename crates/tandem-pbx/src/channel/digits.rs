//! One key press that is told twice.
//!
//! Some phones send a digit by telephone-event (RFC 4733) and by SIP INFO (RFC 6086); the switch reports both.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::Digit;

use crate::DigitSource;

/// The two reports of one key press come within this: a long press is reported by one way at its beginning, by the
/// other at its end.
const TWIN_WITHIN: Duration = Duration::from_millis(1_500);

/// Digits that wait for their twin.
const MOST_WAITING: usize = 16;

/// Tells first reports from second ones.
#[derive(Debug, Default)]
pub(super) struct Twins(VecDeque<(Instant, Digit, DigitSource)>);

impl Twins {
    /// Whether this report is a key press of its own.
    pub(super) fn is_new(&mut self, now: Instant, digit: Digit, source: DigitSource) -> bool {
        self.0.retain(|(at, ..)| now.saturating_duration_since(*at) < TWIN_WITHIN);
        let twin = self.0.iter().position(|(_, first, by)| *first == digit && *by != source);
        if let Some(twin) = twin {
            self.0.remove(twin);
            return false;
        }
        if self.0.len() == MOST_WAITING {
            self.0.pop_front();
        }
        self.0.push_back((now, digit, source));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_press_counts_once() {
        let start = Instant::now();
        for (name, reports, count) in [
            ("one way", vec![(0, '1', DigitSource::Rtp), (200, '1', DigitSource::Rtp)], 2),
            ("both ways", vec![(0, '1', DigitSource::Rtp), (5, '1', DigitSource::Endpoint)], 1),
            (
                "twice, both ways, in a row",
                vec![
                    (0, '1', DigitSource::Rtp),
                    (90, '1', DigitSource::Rtp),
                    (100, '1', DigitSource::Endpoint),
                    (190, '1', DigitSource::Endpoint),
                ],
                2,
            ),
            (
                "different keys",
                vec![(0, '1', DigitSource::Rtp), (5, '2', DigitSource::Endpoint)],
                2,
            ),
            (
                "too far apart",
                vec![(0, '1', DigitSource::Rtp), (1_600, '1', DigitSource::Endpoint)],
                2,
            ),
        ] {
            let mut twins = Twins::default();
            let heard = reports.iter().filter(|(ms, digit, source)| {
                let digit = Digit::new(*digit).unwrap();
                twins.is_new(start + Duration::from_millis(*ms), digit, *source)
            });
            assert_eq!(heard.count(), count, "{name}");
        }
    }
}
