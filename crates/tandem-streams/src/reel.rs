//! What was sent to the switch and is not played yet: to be taken back, and for whoever records what the caller hears.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::Tap;
use tandem_media::SampleRate;

use crate::timeline::Lateness;

/// Audio between its sending and its playing.
#[derive(Debug, Default)]
pub(crate) struct Reel {
    tap: Option<Box<dyn Tap>>,
    pieces: VecDeque<Piece>,
    /// The samples of all pieces.
    pcm: VecDeque<i16>,
    /// What is handed on.
    played: Vec<i16>,
}

/// Audio of one message or file.
#[derive(Debug)]
struct Piece {
    start: Instant,
    rate: SampleRate,
    samples: usize,
}

impl Piece {
    /// Samples that begin before `instant`, to the nearest.
    fn samples_until(&self, instant: Instant) -> usize {
        let time: Duration = instant.saturating_duration_since(self.start);
        let samples = (time.as_nanos() * self.rate.hz() as u128 + 500_000_000) / 1_000_000_000;
        usize::try_from(samples).unwrap_or(usize::MAX).min(self.samples)
    }

    /// The first `samples` of it are dealt with.
    fn pass(&mut self, samples: usize) {
        self.start += self.rate.duration_of(samples);
        self.samples -= samples;
    }
}

impl Reel {
    /// From now on `tap` hears what is played.
    pub(crate) fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(tap);
    }

    /// Whether somebody records.
    pub(crate) const fn is_tapped(&self) -> bool {
        self.tap.is_some()
    }

    /// `pcm` was sent, which is played from `start` on.
    pub(crate) fn add(&mut self, start: Instant, rate: SampleRate, pcm: &[i16]) {
        self.pieces.push_back(Piece { start, rate, samples: pcm.len() });
        self.pcm.extend(pcm);
    }

    /// Takes out what would be played from `from` until `until`, and appends it to `pcm`: its rate, if there is any. What lies before
    /// is forgotten.
    pub(crate) fn take(
        &mut self,
        from: Instant,
        until: Instant,
        pcm: &mut Vec<i16>,
    ) -> Option<SampleRate> {
        let mut taken = None;
        while let Some(piece) = self.pieces.front_mut() {
            let skipped = piece.samples_until(from);
            self.pcm.drain(..skipped);
            piece.pass(skipped);
            let wanted = piece.samples_until(until);
            pcm.extend(self.pcm.drain(..wanted));
            piece.pass(wanted);
            taken = taken.or((wanted > 0).then_some(piece.rate));
            if piece.samples > 0 {
                break;
            }
            self.pieces.pop_front();
        }
        taken
    }

    /// Hands on what has been played by `now`.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some(piece) = self.pieces.front_mut() {
            let time = now.saturating_duration_since(piece.start);
            let played = time.as_nanos() * piece.rate.hz() as u128 / 1_000_000_000;
            let played = usize::try_from(played).unwrap_or(usize::MAX).min(piece.samples);
            if played > 0 {
                self.played.clear();
                self.played.extend(self.pcm.drain(..played));
                if let Some(tap) = &mut self.tap {
                    tap.take_pcm(piece.start, piece.rate, &self.played);
                }
                piece.pass(played);
            }
            if piece.samples > 0 {
                return;
            }
            self.pieces.pop_front();
        }
    }

    /// What is not played yet comes later by `lateness`, or earlier.
    pub(crate) fn shift(&mut self, lateness: Lateness) {
        for piece in &mut self.pieces {
            piece.start = lateness.apply(piece.start);
        }
    }

    /// What was not played by `now` will not be.
    pub(crate) fn cut(&mut self, now: Instant) {
        self.settle(now);
        self.pieces.clear();
        self.pcm.clear();
    }

    /// All of it has been played, sooner than it was thought to be.
    pub(crate) fn finish(&mut self) {
        if let Some(last) = self.pieces.back() {
            let end = last.start + last.rate.duration_of(last.samples + 1);
            self.settle(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use tandem_media::AudioFormat;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RATE: SampleRate = SampleRate::Hz8000;

    /// Pieces as they came.
    type Pieces = Vec<(Instant, Vec<i16>)>;

    #[derive(Debug, Clone, Default)]
    struct Heard(Arc<Mutex<Pieces>>);

    impl Tap for Heard {
        fn take_pcm(&mut self, at: Instant, _: SampleRate, pcm: &[i16]) {
            self.0.lock().unwrap().push((at, pcm.to_vec()));
        }

        fn take_bytes(&mut self, _: Instant, _: AudioFormat, _: &[u8]) {
            unreachable!("a reel holds samples");
        }
    }

    fn reel() -> (Instant, Reel, Heard) {
        let (mut reel, heard) = (Reel::default(), Heard::default());
        let start = Instant::now();
        reel.set_tap(Box::new(heard.clone()));
        (start, reel, heard)
    }

    fn heard(heard: &Heard, start: Instant) -> Vec<(u128, usize, i16)> {
        let pieces = std::mem::take(&mut *heard.0.lock().unwrap());
        pieces.iter().map(|(at, pcm)| ((*at - start).as_millis(), pcm.len(), pcm[0])).collect()
    }

    #[test]
    fn what_is_played_is_heard_at_its_time_and_what_is_cut_never() {
        let (start, mut reel, tap) = reel();
        reel.add(start + 10 * MS, RATE, &[1; 160]);
        reel.add(start + 30 * MS, RATE, &[2; 160]);
        reel.settle(start + 5 * MS);
        assert_eq!(heard(&tap, start), []);
        reel.settle(start + 15 * MS);
        reel.settle(start + 32 * MS);
        assert_eq!(heard(&tap, start), [(10, 40, 1), (15, 120, 1), (30, 16, 2)]);
        reel.cut(start + 40 * MS);
        assert_eq!(heard(&tap, start), [(32, 64, 2)]);
        reel.settle(start + 100 * MS);
        assert_eq!(heard(&tap, start), []);
    }

    #[test]
    fn what_is_not_played_can_be_taken_back_without_what_lies_between() {
        let (start, mut reel, _) = reel();
        reel.add(start, RATE, &[1; 160]);
        reel.add(start + 20 * MS, RATE, &[2; 160]);
        reel.settle(start + 10 * MS);
        let mut pcm = Vec::new();
        assert_eq!(reel.take(start + 10 * MS, start + 15 * MS, &mut pcm), Some(RATE));
        assert_eq!(reel.take(start + 20 * MS, start + 30 * MS, &mut pcm), Some(RATE));
        assert_eq!(pcm, [[1; 40].as_slice(), &[2; 80]].concat());
        assert_eq!(reel.take(start + 40 * MS, start + 50 * MS, &mut pcm), None);
    }

    #[test]
    fn a_shift_moves_what_is_still_to_come_and_an_end_brings_it() {
        let (start, mut reel, tap) = reel();
        reel.add(start, RATE, &[1; 160]);
        reel.settle(start + 10 * MS);
        reel.shift(Lateness::Later(5 * MS));
        reel.settle(start + 16 * MS);
        assert_eq!(heard(&tap, start), [(0, 80, 1), (15, 8, 1)]);
        reel.finish();
        assert_eq!(heard(&tap, start), [(16, 72, 1)]);
    }
}
