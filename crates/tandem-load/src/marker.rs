//! Where a packet's audio comes from, written into the audio itself.
//!
//! G.711 passes the daemon untouched, so the bytes at the front of each 20 ms arrive as they were sent, whatever
//! sequence numbers, timestamps and envelopes they had on the way.

use tandem_media::{Law, g711};

/// Bytes of 20 ms of G.711.
pub(crate) const FRAME: usize = 160;

const MAGIC: usize = 4;
const LEN: usize = MAGIC + 2 + 4 + 2;

/// Which way audio goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Up,
    Down,
}

impl Way {
    const fn magic(self) -> &'static [u8; MAGIC] {
        match self {
            Self::Up => b"T-up",
            Self::Down => b"T-dn",
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
    /// Writes the marker to the front of `frame`, which is at least 12 bytes long.
    pub(crate) fn write(self, way: Way, frame: &mut [u8]) {
        frame[..4].copy_from_slice(way.magic());
        frame[4..6].copy_from_slice(&self.call.to_be_bytes());
        frame[6..10].copy_from_slice(&self.number.to_be_bytes());
        frame[10..LEN].copy_from_slice(&self.frame.to_be_bytes());
    }

    /// The marker at the front of `frame`, if there is one.
    pub(crate) fn read(way: Way, frame: &[u8]) -> Option<Self> {
        let marker = frame.first_chunk::<LEN>().filter(|it| it.starts_with(way.magic()))?;
        let [_, _, _, _, call @ .., _, _, _, _, _, _] = *marker;
        let [_, _, _, _, _, _, number @ .., _, _] = *marker;
        Some(Self {
            call: u16::from_be_bytes(call),
            number: u32::from_be_bytes(number),
            frame: u16::from_be_bytes([marker[10], marker[11]]),
        })
    }
}

/// Something audible to put behind markers: `length` bytes of mu-law, a tone of 400 Hz at -20 dBFS.
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
        }
    }
}
