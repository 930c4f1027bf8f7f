//! Digits on their way to the model.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::Digit;

/// A digit by INFO this long after the beginning of the same one in the media is its twin. Many a phone sends its INFO
/// when the key is let go, and one that was lost comes again half a second later: this is a key held for 2 s, and that.
const INFO_BEHIND: Duration = Duration::from_secs(3);

/// A digit in the media this long after the same one by INFO is its twin. The media tells of a key when it goes down, so
/// it is hardly behind.
const MEDIA_BEHIND: Duration = Duration::from_millis(100);

/// A group ends this long after its last digit.
pub(super) const GROUP_GAP: Duration = Duration::from_millis(1_200);

/// A group holds at most this many digits.
const LONGEST: usize = 32;

/// How a digit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Media,
    Signalling,
}

impl Way {
    /// How long the twin of a digit that came this way may take by the other.
    const fn twin_within(self) -> Duration {
        match self {
            Self::Media => INFO_BEHIND,
            Self::Signalling => MEDIA_BEHIND,
        }
    }
}

/// Digits the caller pressed and the model has not been told of.
#[derive(Debug, Default)]
pub(super) struct Digits {
    group: String,
    /// Digits whose twin has not come by the other way.
    single: VecDeque<(Instant, Digit, Way)>,
}

impl Digits {
    /// Whether `digit` is a new one rather than the twin of one that came the other way.
    ///
    /// Each digit has one twin at most and the first waits for the first, so that a key pressed twice counts twice,
    /// however its INFO requests come in between. Digits that come the same way are never twins.
    pub(super) fn is_new(&mut self, now: Instant, digit: Digit, way: Way) -> bool {
        self.single.retain(|(at, _, by)| now.saturating_duration_since(*at) <= by.twin_within());
        let twin = self.single.iter().position(|(_, other, by)| *other == digit && *by != way);
        if let Some(twin) = twin {
            self.single.remove(twin);
            return false;
        }
        if self.single.len() == LONGEST {
            self.single.pop_front();
        }
        self.single.push_back((now, digit, way));
        true
    }

    /// Adds `digit` to the group; true when the group is complete with it. A digit too many is dropped.
    pub(super) fn push(&mut self, digit: Digit) -> bool {
        if self.group.len() < LONGEST {
            self.group.push(digit.as_char());
        }
        digit.as_char() == '#' || self.group.len() == LONGEST
    }

    /// Takes the group, if there is one.
    pub(super) fn take(&mut self) -> Option<String> {
        (!self.group.is_empty()).then(|| std::mem::take(&mut self.group))
    }

    /// Whether digits wait.
    pub(super) fn is_empty(&self) -> bool {
        self.group.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::beginning;

    #[test]
    fn the_same_digit_by_two_ways_is_one() {
        use Way::{Media, Signalling};
        for (name, pressed, heard) in [
            ("twins", vec![(0, '5', Media), (50, '5', Signalling)], "5"),
            ("twins at the limit", vec![(0, '5', Signalling), (100, '5', Media)], "5"),
            ("media too far behind", vec![(0, '5', Signalling), (101, '5', Media)], "55"),
            ("INFO of a key held for 2 s", vec![(0, '5', Media), (2_020, '5', Signalling)], "5"),
            ("INFO that was lost once", vec![(0, '5', Media), (620, '5', Signalling)], "5"),
            ("INFO at the limit", vec![(0, '5', Media), (3_000, '5', Signalling)], "5"),
            ("INFO too far behind", vec![(0, '5', Media), (3_001, '5', Signalling)], "55"),
            (
                "a second INFO, whose media was lost",
                vec![(0, '5', Media), (90, '5', Signalling), (500, '5', Signalling)],
                "55",
            ),
            (
                "pressed twice, INFO when let go",
                vec![
                    (0, '5', Media),
                    (150, '5', Signalling),
                    (300, '5', Media),
                    (450, '5', Signalling),
                ],
                "55",
            ),
            (
                "pressed twice, the first INFO was lost once",
                vec![
                    (0, '5', Media),
                    (300, '5', Media),
                    (450, '5', Signalling),
                    (650, '5', Signalling),
                ],
                "55",
            ),
            (
                "a number whose INFO requests are late",
                vec![
                    (0, '1', Media),
                    (200, '2', Media),
                    (400, '1', Media),
                    (620, '1', Signalling),
                    (820, '2', Signalling),
                    (1_020, '1', Signalling),
                ],
                "121",
            ),
            ("other digit", vec![(0, '5', Media), (50, '6', Signalling)], "56"),
            ("same way twice", vec![(0, '5', Media), (50, '5', Media)], "55"),
            (
                "two quick ones, each twice",
                vec![
                    (0, '5', Media),
                    (40, '5', Media),
                    (60, '5', Signalling),
                    (90, '5', Signalling),
                ],
                "55",
            ),
        ] {
            let start = beginning();
            let mut digits = Digits::default();
            for (at, digit, way) in pressed {
                let digit = Digit::new(digit).unwrap();
                if digits.is_new(start + Duration::from_millis(at), digit, way) {
                    digits.push(digit);
                }
            }
            assert_eq!(digits.take().unwrap(), heard, "{name}");
        }
    }

    #[test]
    fn a_group_ends_with_a_hash_or_when_it_is_full() {
        let mut digits = Digits::default();
        assert!(!digits.push(Digit::new('1').unwrap()));
        assert!(digits.push(Digit::new('#').unwrap()));
        assert_eq!(digits.take().as_deref(), Some("1#"));
        assert_eq!(digits.take(), None);
        let full = (0..40).map(|_| digits.push(Digit::new('7').unwrap())).position(|full| full);
        assert_eq!(full, Some(31));
        assert_eq!(digits.take().unwrap().len(), 32);
    }
}
