//! Where a packet's audio comes from, written into the audio itself.
//!
//! G.711 passes the daemon untouched, so the bytes at the front of each 20 ms arrive as they were sent, whatever
//! sequence numbers, timestamps and envelopes they had on the way. They are among the quietest codes of mu-law, one for
//! each half of a byte: to whoever looks for speech, a marker is none.

use tandem_media::{Law, g711};

/// Bytes of 20 ms of G.711.
pub(crate) const FRAME: usize = 160;

/// Codes from here on are amplitudes up to 120 of 32,124.
const QUIET: u8 = 0xF0;

const MAGIC: usize = 4;
const FIELDS: usize = 2 + 4 + 2;
const LEN: usize = MAGIC + 2 * FIELDS;

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
        let fields =
            u64::from(self.call) << 48 | u64::from(self.number) << 16 | u64::from(self.frame);
        let (magic, codes) = frame[..LEN].split_at_mut(MAGIC);
        magic.copy_from_slice(&way.magic());
        for (pair, byte) in codes.chunks_exact_mut(2).zip(fields.to_be_bytes()) {
            pair.copy_from_slice(&[QUIET | byte >> 4, QUIET | byte & 0x0F]);
        }
    }

    /// The marker at the front of `frame`, if there is one.
    pub(crate) fn read(way: Way, frame: &[u8]) -> Option<Self> {
        let codes = frame.first_chunk::<LEN>()?.strip_prefix(&way.magic())?;
        if codes.iter().any(|code| *code < QUIET) {
            return None;
        }
        let fields = codes.iter().fold(0, |fields, code| fields << 4 | u64::from(code & 0x0F));
        Some(Self {
            call: (fields >> 48) as u16,
            number: (fields >> 16) as u32,
            frame: fields as u16,
        })
    }
}

/// A frame of silence for a caller, to write a marker into. A caller who speaks and falls silent is owed an answer, and
/// the daemon would fill the time until it comes.
pub(crate) fn silence() -> Vec<u8> {
    vec![Law::Mu.silence(); FRAME]
}

/// Something audible for the model: `length` bytes of mu-law, a tone of 400 Hz at -20 dBFS.
pub(crate) fn tone(length: usize) -> Vec<u8> {
    let pcm: Vec<i16> = (0..length)
        .map(|n| (3277.0 * (std::f64::consts::TAU * 400.0 * n as f64 / 8000.0).sin()) as i16)
        .collect();
    let mut tone = vec![0; length];
    g711::encode(Law::Mu, &pcm, &mut tone);
    tone
}

#[cfg(test)]
mod tests {
    use tandem_media::VoiceActivity;

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
    fn a_marked_silence_is_no_speech() {
        let mut activity = VoiceActivity::new();
        let (mut frame, mut pcm) = (silence(), [0; FRAME]);
        for number in 0..500 {
            Marker { call: 99, number, frame: 0 }.write(Way::Up, &mut frame);
            g711::decode(Law::Mu, &frame, &mut pcm);
            assert_eq!(activity.process(&pcm), None, "packet {number}");
        }
    }
}
