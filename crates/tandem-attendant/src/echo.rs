//! The caller's own last turn, for the script that repeats it.

use std::collections::VecDeque;

/// Kept from before a turn is noticed: 300 ms at 16 kHz.
const PREROLL: usize = 4_800;
/// Longest turn that is repeated: 15 s at 16 kHz.
const LIMIT: usize = 240_000;

/// The audio of the caller's turn, mono at 16 kHz.
pub(crate) struct EchoBuffer {
    pcm: VecDeque<i16>,
}

impl EchoBuffer {
    pub(crate) fn new() -> Self {
        Self { pcm: VecDeque::with_capacity(LIMIT) }
    }

    /// Takes audio as it comes. While nobody speaks only the end of it is kept.
    pub(crate) fn push(&mut self, pcm: impl Iterator<Item = i16>, hears_speech: bool) {
        let room = LIMIT - self.pcm.len();
        self.pcm.extend(pcm.take(room));
        if !hears_speech {
            self.pcm.drain(..self.pcm.len().saturating_sub(PREROLL));
        }
    }

    /// The turn that ended, without the last `silence` samples.
    pub(crate) fn take(&mut self, silence: usize) -> Vec<i16> {
        let end = self.pcm.len().saturating_sub(silence);
        let turn = self.pcm.range(..end).copied().collect();
        self.pcm.clear();
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_kept_from_just_before_it_to_its_end() {
        let mut echo = EchoBuffer::new();
        for _ in 0..100 {
            echo.push(std::iter::repeat_n(0, 320), false);
        }
        echo.push(std::iter::repeat_n(5, 1_000), true);
        echo.push(std::iter::repeat_n(0, 600), true);
        let turn = echo.take(500);
        assert_eq!(turn.len(), PREROLL + 1_100);
        assert_eq!(turn.iter().filter(|&&sample| sample == 5).count(), 1_000);
        for _ in 0..1_000 {
            echo.push(std::iter::repeat_n(7, 320), true);
        }
        assert_eq!(echo.take(0).len(), LIMIT);
        assert!(echo.take(9).is_empty());
    }
}
