//! The ears of a recording: what the leg hands its audio to.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    time::{Duration, Instant},
};

use tandem_call::Tap;
use tandem_media::{AudioFormat, SampleRate};

use crate::ring::{LONGEST, PieceReceiver, PieceSender, ring};

/// What the call and the writer know of each other.
#[derive(Debug)]
pub(crate) struct Shared {
    paused: AtomicBool,
    /// Audio from before is not taken, in nanoseconds from the beginning.
    open_from: AtomicU64,
    paused_ns: AtomicU64,
    dropped_ns: AtomicU64,
    /// The end, in nanoseconds from the beginning.
    ended_at: AtomicU64,
    /// The writer takes nothing any more.
    deaf: AtomicBool,
}

const NOT_YET: u64 = u64::MAX;

impl Default for Shared {
    fn default() -> Self {
        Self {
            paused: AtomicBool::new(false),
            open_from: AtomicU64::new(0),
            paused_ns: AtomicU64::new(0),
            dropped_ns: AtomicU64::new(0),
            ended_at: AtomicU64::new(NOT_YET),
            deaf: AtomicBool::new(false),
        }
    }
}

impl Shared {
    pub(crate) fn pause(&self) {
        self.paused.store(true, Relaxed);
    }

    /// Goes on at `at`, `length` after the pause began.
    pub(crate) fn resume(&self, at: Duration, length: Duration) {
        self.open_from.store(nanos(at), Relaxed);
        self.add_pause(length);
        self.paused.store(false, Relaxed);
    }

    pub(crate) fn add_pause(&self, length: Duration) {
        self.paused_ns.fetch_add(nanos(length), Relaxed);
    }

    /// Everything until `at` is in the rings.
    pub(crate) fn end(&self, at: Duration) {
        self.ended_at.store(nanos(at).min(NOT_YET - 1), Release);
    }

    /// The end, once it is known: all that is to be read is in the rings by then.
    pub(crate) fn ended_at(&self) -> Option<u64> {
        Some(self.ended_at.load(Acquire)).filter(|at| *at != NOT_YET)
    }

    /// Nothing is read any more.
    pub(crate) fn stop_listening(&self) {
        self.deaf.store(true, Relaxed);
    }

    pub(crate) fn paused_for(&self) -> Duration {
        Duration::from_nanos(self.paused_ns.load(Relaxed))
    }

    pub(crate) fn dropped(&self) -> Duration {
        Duration::from_nanos(self.dropped_ns.load(Relaxed))
    }
}

/// Puts one side of a leg's audio into a ring. Takes no lock and allocates nothing, but for more room once when the codec becomes a
/// wider one; what has no room is dropped and counted.
#[derive(Debug)]
pub struct Ear {
    begin: Instant,
    ring: PieceSender,
    shared: Arc<Shared>,
}

impl Ear {
    pub(crate) fn new(begin: Instant, ring: PieceSender, shared: Arc<Shared>) -> Self {
        Self { begin, ring, shared }
    }

    /// An ear for the audio of a leg of `rate` that nobody records: what one costs can be measured with it.
    pub fn unrecorded(begin: Instant, rate: SampleRate) -> (Self, EarDrain) {
        let (sender, receiver) = ring(rate);
        (Self::new(begin, sender, Arc::default()), EarDrain(receiver))
    }

    /// Where audio of `samples` belongs whose first one belongs at `at`: nanoseconds from the beginning, and how many of its
    /// first samples are from before. None when nothing of it is to be kept.
    fn place(&self, at: Instant, rate: SampleRate, samples: usize) -> Option<(u64, usize)> {
        if self.shared.deaf.load(Relaxed) || self.shared.paused.load(Relaxed) {
            return None;
        }
        let (at, early) = match at.checked_duration_since(self.begin) {
            Some(at) => (at, 0),
            None => {
                let before = self.begin.duration_since(at).as_nanos() * rate.hz() as u128;
                let early = usize::try_from(before.div_ceil(1_000_000_000)).ok()?;
                let first = at + rate.duration_of(early);
                (first.saturating_duration_since(self.begin), early)
            }
        };
        let at = nanos(at);
        (early < samples && at >= self.shared.open_from.load(Relaxed)).then_some((at, early))
    }

    fn send(
        &mut self,
        at: u64,
        format: AudioFormat,
        bytes: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if !self.ring.send(at, format, write) {
            self.shared.dropped_ns.fetch_add(nanos(format.duration_of(bytes)), Relaxed);
        }
    }
}

/// Takes what an [unrecorded](Ear::unrecorded) ear has heard.
#[derive(Debug)]
pub struct EarDrain(PieceReceiver);

impl EarDrain {
    /// Throws away what was heard since the last time; how many pieces that were.
    pub fn empty(&mut self) -> usize {
        let mut pieces = 0;
        while self.0.head().is_some() {
            self.0.take();
            pieces += 1;
        }
        pieces
    }
}

impl Tap for Ear {
    fn take_pcm(&mut self, at: Instant, rate: SampleRate, pcm: &[i16]) {
        let Some((mut at, early)) = self.place(at, rate, pcm.len()) else { return };
        let format = AudioFormat::Pcm16(rate);
        for piece in pcm[early..].chunks(LONGEST / 2) {
            self.send(at, format, 2 * piece.len(), |out| format.write(piece, out));
            at += nanos(rate.duration_of(piece.len()));
        }
    }

    fn take_bytes(&mut self, at: Instant, format: AudioFormat, audio: &[u8]) {
        let size = format.bytes_per_sample();
        let samples = audio.len() / size;
        let Some((mut at, early)) = self.place(at, format.rate(), samples) else { return };
        for piece in audio[early * size..].chunks(LONGEST) {
            self.send(at, format, piece.len(), |out| out.extend_from_slice(piece));
            at += nanos(format.duration_of(piece.len()));
        }
    }
}

/// 584 years have room.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(NOT_YET - 1)
}

#[cfg(test)]
mod tests {
    use tandem_media::Law;

    use super::*;
    use crate::ring::{PieceReceiver, ring};

    const MS: Duration = Duration::from_millis(1);
    const MU: AudioFormat = AudioFormat::G711(Law::Mu);

    fn ear() -> (Instant, Ear, PieceReceiver, Arc<Shared>) {
        let begin = Instant::now() + Duration::from_secs(10);
        let (sender, receiver) = ring(SampleRate::Hz8000);
        let shared = Arc::new(Shared::default());
        (begin, Ear::new(begin, sender, Arc::clone(&shared)), receiver, shared)
    }

    fn pieces(receiver: &mut PieceReceiver) -> Vec<(u64, usize)> {
        std::iter::from_fn(|| {
            let head = receiver.head()?;
            Some((head.at, receiver.take().len()))
        })
        .collect()
    }

    #[test]
    fn what_was_before_the_beginning_is_cut_off() {
        let (begin, mut ear, mut receiver, _) = ear();
        ear.take_bytes(begin - 20 * MS, MU, &[0; 160]);
        ear.take_bytes(begin - 15 * MS, MU, &[0; 160]);
        ear.take_pcm(begin + 5 * MS, SampleRate::Hz8000, &[0; 80]);
        assert_eq!(pieces(&mut receiver), [(0, 40), (5_000_000, 160)]);
    }

    #[test]
    fn nothing_of_a_pause_reaches_the_ring() {
        let (begin, mut ear, mut receiver, shared) = ear();
        ear.take_bytes(begin, MU, &[0; 160]);
        shared.pause();
        ear.take_bytes(begin + 20 * MS, MU, &[1; 160]);
        shared.resume(50 * MS, 30 * MS);
        ear.take_bytes(begin + 40 * MS, MU, &[1; 160]); // It was said in the pause.
        ear.take_bytes(begin + 60 * MS, MU, &[0; 160]);
        assert_eq!(pieces(&mut receiver), [(0, 160), (60_000_000, 160)]);
        assert_eq!(shared.paused_for(), 30 * MS);
    }

    #[test]
    fn long_audio_comes_in_pieces_and_what_has_no_room_is_counted() {
        let (begin, mut ear, mut receiver, shared) = ear();
        ear.take_pcm(begin, SampleRate::Hz48000, &[0; 2_400]);
        assert_eq!(pieces(&mut receiver), [(0, 1_920), (20_000_000, 1_920), (40_000_000, 960)]);
        for n in 0..300 {
            ear.take_bytes(
                begin + n * 20 * MS,
                AudioFormat::Pcm16(SampleRate::Hz48000),
                &[0; 1_920],
            );
        }
        let kept = pieces(&mut receiver).len();
        assert!((200..300).contains(&kept));
        assert_eq!(shared.dropped(), (300 - kept as u32) * 20 * MS);
        shared.stop_listening();
        ear.take_bytes(begin, MU, &[0; 160]);
        assert_eq!(pieces(&mut receiver), []);
    }
}
