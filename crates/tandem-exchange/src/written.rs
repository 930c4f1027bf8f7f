//! When frames with the caller's speech arrived, and when they had left for the model.

use std::{collections::VecDeque, time::Instant};

/// Frames remembered: more than a voice detector's hangover is long.
const FRAMES: usize = 64;

/// The last frames with speech in them.
#[derive(Debug)]
pub(crate) struct SpeechWritten {
    frames: VecDeque<Frame>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    arrived: Instant,
    written: Option<Instant>,
}

impl Default for SpeechWritten {
    fn default() -> Self {
        Self { frames: VecDeque::with_capacity(FRAMES) }
    }
}

impl SpeechWritten {
    /// A frame that arrived at `arrived` was handed to the model's session.
    pub(crate) fn push(&mut self, arrived: Instant) {
        if self.frames.len() == FRAMES {
            self.frames.pop_front();
        }
        self.frames.push_back(Frame { arrived, written: None });
    }

    /// All frames handed over so far had left at `now`.
    pub(crate) fn note(&mut self, now: Instant) {
        for frame in self.frames.iter_mut().rev().take_while(|frame| frame.written.is_none()) {
            frame.written = Some(now);
        }
    }

    /// Arrival and departure of the last frame that had arrived at `at`, if it has left.
    pub(crate) fn last_until(&self, at: Instant) -> Option<(Instant, Instant)> {
        let frame = self.frames.iter().rev().find(|frame| frame.arrived <= at)?;
        Some((frame.arrived, frame.written?))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_frame_that_ended_the_speech_is_found() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut log = SpeechWritten::default();
        for n in 0..200 {
            log.push(at(20 * n));
            log.note(at(20 * n + 3));
        }
        log.push(at(4_000));
        assert_eq!(log.last_until(at(3_790)), Some((at(3_780), at(3_783))));
        assert_eq!(log.last_until(at(4_000)), None, "it has not left yet");
        assert_eq!(log.last_until(at(100)), None, "it is forgotten");
    }
}
