//! Finds the pauses inside a stretch of speech, sooner than a voice activity detector believes that the speech is over.

use std::time::Duration;

/// Nothing heard for so long is a pause: two packets of 20 ms, and no more than the closure of a plosive.
const PAUSE: Duration = Duration::from_millis(40);

/// A change inside a stretch of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechPause {
    /// Nothing was heard for so long.
    Began { quiet: Duration },
    /// Speech goes on.
    Ended,
}

/// What a [`VoiceActivity`](crate::VoiceActivity) says after each frame, made into pauses.
#[derive(Debug, Default)]
pub struct SpeechPauses {
    paused: bool,
}

impl SpeechPauses {
    /// Takes note of whether somebody is `speaking`, pauses included, and for how long the end of the audio was `quiet`.
    ///
    /// The end of a stretch of speech ends its pause without a word.
    pub fn note(&mut self, speaking: bool, quiet: Duration) -> Option<SpeechPause> {
        let paused = speaking && (quiet >= PAUSE || self.paused && !quiet.is_zero());
        let was_paused = std::mem::replace(&mut self.paused, paused);
        match (was_paused, paused) {
            (false, true) => Some(SpeechPause::Began { quiet }),
            (true, false) if speaking => Some(SpeechPause::Ended),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_begin_after_40_ms_and_end_with_the_next_sound() {
        let mut pauses = SpeechPauses::default();
        let mut found = Vec::new();
        for (at, (speaking, quiet)) in [
            (false, 9_000),
            (true, 0),
            (true, 20),
            (true, 0), // A plosive.
            (true, 20),
            (true, 40),
            (true, 60),
            (true, 0),
            (true, 10),
            (true, 90),
            (false, 200),
            (true, 0), // Another stretch.
        ]
        .into_iter()
        .enumerate()
        {
            found.extend(pauses.note(speaking, Duration::from_millis(quiet)).map(|it| (at, it)));
        }
        let began = |millis| SpeechPause::Began { quiet: Duration::from_millis(millis) };
        assert_eq!(found, [(5, began(40)), (7, SpeechPause::Ended), (9, began(90))]);
    }
}
