//! The pieces of one side on their way to the writer.

use rtrb::{Consumer, Producer, RingBuffer};
use tandem_media::{AudioFormat, Law, SampleRate};

/// Bytes before the audio of a piece: where it belongs (8), its format (1), its length (2).
const HEADER: usize = 11;

/// The most audio of a piece, in bytes: 20 ms at 48 kHz.
pub(crate) const LONGEST: usize = 1_920;

/// Seconds of a leg's audio that a ring has room for: a disk may stand still for so long.
const SECONDS: usize = 4;

/// A ring grows at most so often: from the lowest rate to the highest.
const GROWTHS: usize = 3;

/// The end of a ring that is on the frame path.
#[derive(Debug)]
pub(crate) struct PieceSender {
    ring: Producer<u8>,
    /// The rate it has room for.
    rate: SampleRate,
    larger: Producer<Consumer<u8>>,
    /// A piece as it lies in the ring.
    piece: Vec<u8>,
}

/// The other end.
#[derive(Debug)]
pub(crate) struct PieceReceiver {
    ring: Consumer<u8>,
    /// Rings that follow this one.
    larger: Consumer<Consumer<u8>>,
    next: Option<Consumer<u8>>,
    head: Option<Head>,
    audio: Vec<u8>,
}

/// Where a piece belongs, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    /// Nanoseconds from the beginning of the recording to its first sample.
    pub(crate) at: u64,
    pub(crate) format: AudioFormat,
    length: usize,
}

/// A ring for the audio of a leg of `rate`. A piece of a higher rate makes it larger, which allocates that once.
pub(crate) fn ring(rate: SampleRate) -> (PieceSender, PieceReceiver) {
    let (sender, receiver) = RingBuffer::new(room(rate));
    let (larger, follows) = RingBuffer::new(GROWTHS);
    let piece = Vec::with_capacity(HEADER + LONGEST);
    let audio = Vec::with_capacity(LONGEST);
    (
        PieceSender { ring: sender, rate, larger, piece },
        PieceReceiver { ring: receiver, larger: follows, next: None, head: None, audio },
    )
}

const fn room(rate: SampleRate) -> usize {
    SECONDS * (2 * rate.hz() + 50 * HEADER)
}

impl PieceSender {
    /// Hands over a piece of at most [`LONGEST`] bytes, which `write` appends; false when there is no room for it.
    pub(crate) fn send(
        &mut self,
        at: u64,
        format: AudioFormat,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        if format.rate().hz() > self.rate.hz() {
            self.grow(format.rate());
        }
        self.piece.clear();
        self.piece.extend_from_slice(&at.to_le_bytes());
        self.piece.extend_from_slice(&[code(format), 0, 0]);
        write(&mut self.piece);
        let length = self.piece.len() - HEADER;
        debug_assert!(length <= LONGEST, "a piece is no longer than it may be");
        self.piece[HEADER - 2..HEADER].copy_from_slice(&(length as u16).to_le_bytes());
        self.ring.push_entire_slice(&self.piece).is_ok()
    }

    /// Goes on in a ring with room for `rate`; what is in the old one is read before.
    #[cold]
    fn grow(&mut self, rate: SampleRate) {
        let (sender, receiver) = RingBuffer::new(room(rate));
        if self.larger.push(receiver).is_ok() {
            (self.ring, self.rate) = (sender, rate);
        }
    }
}

impl PieceReceiver {
    /// The next piece, if one is there; [`take`](Self::take) gives its audio.
    pub(crate) fn head(&mut self) -> Option<Head> {
        if self.head.is_none() {
            let mut header = [0; HEADER];
            while self.ring.pop_entire_slice(&mut header).is_err() {
                match self.next.take() {
                    Some(next) => self.ring = next,
                    // All of the old ring is there to be read when the next one is: looks once more.
                    None => self.next = Some(self.larger.pop().ok()?),
                }
            }
            let [at @ .., format, low, high] = header;
            self.head = Some(Head {
                at: u64::from_le_bytes(at),
                format: format_of(format)?,
                length: u16::from_le_bytes([low, high]).into(),
            });
        }
        self.head
    }

    /// The audio of the piece that [`head`](Self::head) told of.
    pub(crate) fn take(&mut self) -> &[u8] {
        let length = self.head.take().map_or(0, |head| head.length);
        self.audio.resize(length, 0);
        // Header and audio were put in together.
        self.ring.pop_entire_slice(&mut self.audio).expect("a piece is in the ring as a whole");
        &self.audio
    }
}

const fn code(format: AudioFormat) -> u8 {
    match format {
        AudioFormat::G711(Law::Mu) => 0,
        AudioFormat::G711(Law::A) => 1,
        AudioFormat::Pcm16(SampleRate::Hz8000) => 2,
        AudioFormat::Pcm16(SampleRate::Hz16000) => 3,
        AudioFormat::Pcm16(SampleRate::Hz24000) => 4,
        AudioFormat::Pcm16(SampleRate::Hz48000) => 5,
    }
}

const fn format_of(code: u8) -> Option<AudioFormat> {
    Some(match code {
        0 => AudioFormat::G711(Law::Mu),
        1 => AudioFormat::G711(Law::A),
        2 => AudioFormat::Pcm16(SampleRate::Hz8000),
        3 => AudioFormat::Pcm16(SampleRate::Hz16000),
        4 => AudioFormat::Pcm16(SampleRate::Hz24000),
        5 => AudioFormat::Pcm16(SampleRate::Hz48000),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_come_out_as_they_went_in() {
        let (mut sender, mut receiver) = ring(SampleRate::Hz8000);
        assert_eq!(receiver.head(), None);
        for code in 0..6 {
            let format = format_of(code).unwrap();
            assert!(sender.send(u64::from(code) << 40, format, |out| out.extend([code; 7])));
        }
        for code in 0..6 {
            let head = receiver.head().unwrap();
            assert_eq!((head.at, head.format), (u64::from(code) << 40, format_of(code).unwrap()));
            assert_eq!(receiver.take(), [code; 7]);
        }
        assert_eq!(receiver.head(), None);
    }

    #[test]
    fn a_wider_codec_has_room_for_as_long() {
        let (mut sender, mut receiver) = ring(SampleRate::Hz8000);
        let mut sent = 0;
        for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
            // Nothing is read meanwhile.
            for _ in 0..50 * SECONDS {
                let format = AudioFormat::Pcm16(rate);
                let audio = vec![7; 2 * rate.hz() / 50];
                assert!(sender.send(sent, format, |out| out.extend(audio)), "{sent} at {rate:?}");
                sent += 1;
            }
        }
        let narrow = AudioFormat::Pcm16(SampleRate::Hz8000);
        for came in 0..sent {
            let head = receiver.head().unwrap();
            assert_eq!((head.at, receiver.take().len()), (came, 2 * head.format.rate().hz() / 50));
        }
        assert_eq!(receiver.head(), None);
        assert!(sender.send(sent, narrow, |out| out.extend([0; 320])), "it goes on where it is");
        assert_eq!(receiver.head().map(|head| head.at), Some(sent));
    }

    #[test]
    fn a_full_ring_takes_nothing_and_loses_nothing() {
        let (mut sender, mut receiver) = ring(SampleRate::Hz8000);
        let format = AudioFormat::G711(Law::Mu);
        let mut sent = 0_u64;
        while sender.send(sent, format, |out| out.extend([0x55; 160])) {
            sent += 1;
        }
        assert!(sent >= 50 * SECONDS as u64, "{sent} packets");
        let mut came = 0;
        while let Some(head) = receiver.head() {
            assert_eq!((head.at, receiver.take().len()), (came, 160));
            came += 1;
        }
        assert_eq!(came, sent);
        assert!(sender.send(0, format, |out| out.extend([0; 160])));
    }
}
