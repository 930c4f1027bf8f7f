//! The caller's audio just before his turn, for a vendor that is told of turns: they are noticed late.

use std::{collections::VecDeque, time::Duration};

use tandem_media::AudioFormat;

/// What is kept at most: the lead-in and the time it takes to believe that somebody speaks.
const MOST: Duration = Duration::from_millis(1_500);

/// The lead-in when none is configured.
const DEFAULT: Duration = Duration::from_millis(300);

/// Keeps the end of the audio that went up between turns, and measures what went up within one.
#[derive(Debug)]
pub(crate) struct LeadIn {
    format: AudioFormat,
    span: Duration,
    kept: VecDeque<u8>,
    /// Bytes of the turn that is open.
    turn: Option<usize>,
}

impl LeadIn {
    /// For audio in `format`; a turn has so many milliseconds of what was before it, 300 when none are given.
    pub(crate) fn new(format: AudioFormat, millis: Option<u32>) -> Self {
        Self {
            format,
            span: millis.map_or(DEFAULT, |millis| Duration::from_millis(millis.into())),
            kept: VecDeque::with_capacity(format.bytes_per(MOST)),
            turn: None,
        }
    }

    /// Takes note of audio that goes up.
    pub(crate) fn push(&mut self, audio: &[u8]) {
        if let Some(turn) = &mut self.turn {
            *turn = turn.saturating_add(audio.len());
            return;
        }
        let most = self.format.bytes_per(MOST);
        let audio = &audio[audio.len().saturating_sub(most)..];
        let excess = (self.kept.len() + audio.len()).saturating_sub(most);
        self.kept.drain(..excess);
        self.kept.extend(audio);
    }

    /// A turn began `ago`: the audio that belongs to it and went up before, whole samples. None when one is open already.
    pub(crate) fn begin(&mut self, ago: Duration) -> Option<Vec<u8>> {
        if self.turn.is_some() {
            return None;
        }
        let wanted = self.format.bytes_per(ago.saturating_add(self.span).min(MOST));
        let from = self.kept.len().saturating_sub(wanted);
        let lead: Vec<u8> = self.kept.drain(..).skip(from).collect();
        self.turn = Some(lead.len());
        Some(lead)
    }

    /// The turn is over: how much audio it has. None when none is open.
    pub(crate) fn end(&mut self) -> Option<Duration> {
        self.turn.take().map(|bytes| self.format.duration_of(bytes))
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::{Law, SampleRate};

    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_turn_begins_with_what_was_just_before() {
        let mut lead_in = LeadIn::new(AudioFormat::G711(Law::Mu), None);
        for frame in 0..200_u8 {
            lead_in.push(&[frame; 160]); // 4 s
        }
        let lead = lead_in.begin(ms(100)).unwrap();
        assert_eq!((lead.len(), lead[0], lead[3_199]), (400 * 8, 180, 199));
        assert_eq!(lead_in.begin(ms(100)), None, "it is open");
        lead_in.push(&[0; 160]);
        assert_eq!(lead_in.end(), Some(ms(420)));
        assert_eq!(lead_in.end(), None);
        lead_in.push(&[7; 160]);
        assert_eq!(lead_in.begin(ms(100)).unwrap(), [7; 160], "nothing of the turn before");
    }

    #[test]
    fn what_is_kept_is_bounded_and_whole() {
        for (frame, ago) in [(640, Duration::MAX), (200_000, ms(5_000)), (2, ms(3_000))] {
            let mut lead_in = LeadIn::new(AudioFormat::Pcm16(SampleRate::Hz16000), Some(5_000));
            let capacity = lead_in.kept.capacity();
            for _ in 0..96_000 / frame.min(640) {
                lead_in.push(&vec![1; frame]);
            }
            assert_eq!(lead_in.kept.capacity(), capacity, "it allocates nothing more");
            assert_eq!(lead_in.begin(ago).unwrap().len(), 48_000, "frames of {frame}");
        }
    }

    #[test]
    fn a_turn_without_audio_is_empty() {
        let mut lead_in = LeadIn::new(AudioFormat::G711(Law::Mu), Some(0));
        assert_eq!(lead_in.begin(ms(0)), Some(Vec::new()));
        assert_eq!(lead_in.end(), Some(Duration::ZERO));
    }
}
