//! Where a packet's audio comes from, written into the audio itself.
//!
//! G.711 passes the daemon untouched, so the bytes at the front of each 20 ms arrive as they were sent, whatever
//! sequence numbers, timestamps and envelopes they had on the way. They are among the quietest codes of mu-law, one for
//! each half of a byte: to whoever looks for speech, a marker is none.
//!
//! A fork's 16-bit samples pass untouched to a model that takes their rate. There each half of a byte is one sample,
//! from 1 to 16.

use memchr::memmem;
use tandem_media::{Law, g711};

/// Bytes of 20 ms of G.711.
pub(crate) const FRAME: usize = 160;

/// Bytes of 20 ms of 16-bit samples at 16 kHz.
pub(crate) const PCM_FRAME: usize = 640;

/// Codes from here on are amplitudes up to 120 of 32,124.
const QUIET: u8 = 0xF0;

const MAGIC: usize = 4;
const FIELDS: usize = 2 + 4 + 2;

/// Bytes of a marker.
pub(crate) const LEN: usize = MAGIC + 2 * FIELDS;

/// Bytes of a marker among 16-bit samples.
pub(crate) const PCM_LEN: usize = 2 * LEN;

/// The samples at the front of each marker on the way up, as bytes.
const PCM_MAGIC: [u8; 2 * MAGIC] = [4, 0, 13, 0, 6, 0, 11, 0];

/// Which way audio goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Way {
    const fn magic(self) -> [u8; MAGIC] {
        match self {
            Self::Up => [0xF3, 0xFC, 0xF5, 0xFA],
            Self::Down => [0xF5, 0xFA, 0xF3, 0xFC],
        }
    }
}

/// What one frame of audio says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Marker {
    /// The call, from 0.
    pub(crate) call: u16,
    /// Up: the packet; down: the turn. From 0.
    pub(crate) number: u32,
    /// Down: the frame within its turn, from 0.
    pub(crate) frame: u16,
}

impl Marker {
    /// Writes the marker to the front of `frame`, which is at least 20 bytes long.
    pub(crate) fn write(self, way: Way, frame: &mut [u8]) {
        let (magic, codes) = frame[..LEN].split_at_mut(MAGIC);
        magic.copy_from_slice(&way.magic());
        for (pair, byte) in codes.chunks_exact_mut(2).zip(self.fields().to_be_bytes()) {
            pair.copy_from_slice(&[QUIET | byte >> 4, QUIET | byte & 0x0F]);
        }
    }

    /// The marker at the front of `frame`, if there is one.
    pub(crate) fn read(way: Way, frame: &[u8]) -> Option<Self> {
        let codes = frame.first_chunk::<LEN>()?.strip_prefix(&way.magic())?;
        if codes.iter().any(|code| *code < QUIET) {
            return None;
        }
        Some(Self::of(codes.iter().fold(0, |fields, code| fields << 4 | u64::from(code & 0x0F))))
    }

    /// The markers anywhere in G.711: what comes behind something else may begin in the middle of a packet.
    pub(crate) fn find(way: Way, audio: &[u8]) -> impl Iterator<Item = Self> {
        let magic = way.magic();
        let places = audio.windows(MAGIC).enumerate().filter(move |(_, codes)| **codes == magic);
        places.filter_map(move |(at, _)| Self::read(way, &audio[at..]))
    }

    /// The marker as 16-bit samples, on the way up.
    pub(crate) fn to_pcm(self) -> [u8; PCM_LEN] {
        let mut samples = [0; PCM_LEN];
        let (magic, codes) = samples.split_at_mut(PCM_MAGIC.len());
        magic.copy_from_slice(&PCM_MAGIC);
        for (pair, byte) in codes.chunks_exact_mut(4).zip(self.fields().to_be_bytes()) {
            pair.copy_from_slice(&[(byte >> 4) + 1, 0, (byte & 0x0F) + 1, 0]);
        }
        samples
    }

    /// The markers anywhere among 16-bit samples, on the way up: a frame may begin where another one did not end.
    pub(crate) fn find_pcm(samples: &[u8]) -> impl Iterator<Item = Self> {
        memmem::find_iter(samples, &PCM_MAGIC).filter_map(|at| Self::read_pcm(&samples[at..]))
    }

    fn read_pcm(samples: &[u8]) -> Option<Self> {
        let codes = samples.get(PCM_MAGIC.len()..PCM_LEN)?.as_chunks::<2>().0;
        let mut fields = 0;
        for [low, high] in codes {
            let code = low.checked_sub(1).filter(|code| *code < 16 && *high == 0)?;
            fields = fields << 4 | u64::from(code);
        }
        Some(Self::of(fields))
    }

    const fn fields(self) -> u64 {
        (self.call as u64) << 48 | (self.number as u64) << 16 | self.frame as u64
    }

    const fn of(fields: u64) -> Self {
        Self { call: (fields >> 48) as u16, number: (fields >> 16) as u32, frame: fields as u16 }
    }
}

/// A frame of silence for a caller, to write a marker into. A caller who speaks and falls silent is owed an answer, and
/// the daemon would fill the time until it comes.
pub(crate) fn silence() -> Vec<u8> {
    vec![Law::Mu.silence(); FRAME]
}

/// Something audible for the model: `length` bytes of mu-law, a tone of 400 Hz at -20 dBFS.
pub(crate) fn tone(length: usize) -> Vec<u8> {
    let mut tone = vec![0; length];
    g711::encode(Law::Mu, &tone_samples(length, 8_000), &mut tone);
    tone
}

/// The same tone as `length` samples at `rate`.
pub(crate) fn tone_samples(length: usize, rate: u32) -> Vec<i16> {
    let step = std::f64::consts::TAU * 400.0 / f64::from(rate);
    (0..length).map(|n| (3277.0 * (step * n as f64).sin()) as i16).collect()
}

#[cfg(test)]
mod tests {
    use tandem_media::{SampleRate, VoiceActivity};

    use super::*;

    #[test]
    fn a_marker_is_read_back_and_nothing_else_is() {
        let mut frame = tone(FRAME);
        assert_eq!(Marker::read(Way::Up, &frame), None);
        for marker in [
            Marker { call: 0, number: 0, frame: 0 },
            Marker { call: 999, number: 1_234_567, frame: 9 },
            Marker { call: u16::MAX, number: u32::MAX, frame: u16::MAX },
        ] {
            marker.write(Way::Up, &mut frame);
            assert_eq!(Marker::read(Way::Up, &frame), Some(marker));
            assert_eq!(Marker::read(Way::Up, &frame[..LEN]), Some(marker));
            assert_eq!(Marker::read(Way::Down, &frame), None);
            assert_eq!(Marker::read(Way::Up, &frame[1..]), None);
            assert_eq!(Marker::read(Way::Up, &frame[..LEN - 1]), None);
            frame[LEN - 1] = 0x7F;
            assert_eq!(Marker::read(Way::Up, &frame), None);
        }
    }

    #[test]
    fn a_marker_is_found_in_the_middle_of_a_packet() {
        let mut frame = tone(FRAME);
        let markers = [7, 8].map(|number| Marker { call: 3, number, frame: 1 });
        markers[0].write(Way::Down, &mut frame[13..]);
        markers[1].write(Way::Down, &mut frame[FRAME - LEN..]);
        assert_eq!(Marker::find(Way::Down, &frame).collect::<Vec<_>>(), markers);
        let cut = &frame[..FRAME - 1];
        assert_eq!(Marker::find(Way::Down, cut).collect::<Vec<_>>(), markers[..1]);
        assert_eq!(Marker::find(Way::Up, &frame).count(), 0);
    }

    #[test]
    fn a_marker_is_found_among_samples() {
        let mut samples: Vec<u8> = vec![9; 7];
        let markers = [
            Marker { call: 0, number: 0, frame: 0 },
            Marker { call: 199, number: 123_456, frame: 0 },
            Marker { call: u16::MAX, number: u32::MAX, frame: u16::MAX },
        ];
        for marker in markers {
            samples.extend(marker.to_pcm());
            samples.extend([0; 30]);
        }
        assert_eq!(Marker::find_pcm(&samples).collect::<Vec<_>>(), markers);
        let mut broken = markers[1].to_pcm();
        broken[PCM_LEN - 1] = 1;
        let cut = &markers[1].to_pcm()[..PCM_LEN - 1];
        for none in [&[][..], &[0; 640], &broken, cut, &[0xFF; 640]] {
            assert_eq!(Marker::find_pcm(none).count(), 0);
        }
    }

    #[test]
    fn a_marked_silence_is_no_speech() {
        let mut activity = VoiceActivity::new(SampleRate::Hz8000);
        let (mut frame, mut pcm) = (silence(), [0; FRAME]);
        for number in 0..500 {
            Marker { call: 99, number, frame: 0 }.write(Way::Up, &mut frame);
            g711::decode(Law::Mu, &frame, &mut pcm);
            assert_eq!(activity.process(&pcm), None, "packet {number}");
        }
    }

    #[test]
    fn samples_marked_in_silence_are_no_speech() {
        let mut activity = VoiceActivity::new(SampleRate::Hz8000);
        for number in 0..500 {
            let mut frame = [0; PCM_FRAME];
            frame[..PCM_LEN].copy_from_slice(&Marker { call: 99, number, frame: 0 }.to_pcm());
            let pcm: Vec<i16> = frame
                .as_chunks::<4>()
                .0
                .iter()
                .map(|&[a, b, c, d]| {
                    i16::midpoint(i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d]))
                })
                .collect();
            assert_eq!(activity.process(&pcm), None, "frame {number}");
        }
    }
}
