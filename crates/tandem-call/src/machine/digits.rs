//! Digits on their way to the model.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::Digit;

/// The same digit by RTP and by INFO within this time is one.
const TWINS: Duration = Duration::from_millis(100);

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

/// Digits the caller pressed and the model has not been told of.
#[derive(Debug, Default)]
pub(super) struct Digits {
    group: String,
    /// Digits whose twin has not come by the other way.
    single: VecDeque<(Instant, Digit, Way)>,
}

impl Digits {
    /// Whether `digit` is a new one rather than the twin of one that came the other way.
    pub(super) fn is_new(&mut self, now: Instant, digit: Digit, way: Way) -> bool {
        self.single.retain(|(at, _, _)| now.saturating_duration_since(*at) <= TWINS);
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
            ("too far apart", vec![(0, '5', Media), (101, '5', Signalling)], "55"),
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
