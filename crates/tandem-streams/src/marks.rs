//! Marks in the audio that goes back: where the module says that it is.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::timeline::Lateness;

/// Marks that may be outstanding; the module drops more than 30 without a word.
const MAX_OUTSTANDING: usize = 30;
/// A report that corrects the clock by more than this is no report of playing: the channel wrote nothing meanwhile.
const MAX_CORRECTION: Duration = Duration::from_secs(1);

/// The marks of one websocket.
///
/// One is put before the audio that follows a pause of ours, where it is not heard; from there on the module plays in real
/// time, so that the end of an utterance needs none. They are hints: where the rates of module and call differ the resampler destroys them, and after
/// `killAudio` threw some away the module tells the following ones under wrong names, so that they are not used any more.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    are_dependable: bool,
    next: u64,
    /// Marks not yet reported, with the time at which we think they are reached.
    outstanding: VecDeque<(u64, Instant)>,
}

impl Marks {
    /// Another websocket, whose module reports marks or not.
    pub(crate) fn begin(&mut self, are_dependable: bool) {
        self.are_dependable = are_dependable;
        self.outstanding.clear();
    }

    /// Whether a mark may be set.
    pub(crate) fn may_set(&self) -> bool {
        self.are_dependable && self.outstanding.len() < MAX_OUTSTANDING
    }

    /// The name of a mark that is set before audio thought to be played at `expected`.
    pub(crate) fn set(&mut self, expected: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.outstanding.push_back((number, expected));
        number
    }

    /// All marks were thrown away with their audio.
    pub(crate) fn kill(&mut self) {
        self.are_dependable &= self.outstanding.is_empty();
        self.outstanding.clear();
    }

    /// The mark `name` was reached at `now`: how late that is.
    pub(crate) fn reach(&mut self, now: Instant, name: &str) -> Option<Lateness> {
        let number: u64 = name.parse().ok()?;
        let position = self.outstanding.iter().position(|(mark, _)| *mark == number)?;
        let (_, expected) = self.outstanding.drain(..=position).next_back()?;
        let lateness = match now.checked_duration_since(expected) {
            Some(later) => Lateness::Later(later),
            None => Lateness::Earlier(expected - now),
        };
        let (Lateness::Later(by) | Lateness::Earlier(by)) = lateness;
        (self.are_dependable && by <= MAX_CORRECTION).then_some(lateness)
    }
}
