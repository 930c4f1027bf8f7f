//! The codecs of RTP audio, as words: name, clock, sample rate.

mod decoder;
mod encoder;
mod error;

use crate::{AudioFormat, Law, Ptime, SampleRate};

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use error::CodecError;

/// A codec of RTP audio, mono.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// G.711 at 8 kHz: PCMU, PCMA.
    G711(Law),
    /// G.722 at 64 kbit/s: 16 kHz audio under an RTP clock of 8 kHz (RFC 3551 §4.5.2).
    G722,
    /// Opus (RFC 6716, RFC 7587), coded from and decoded to this rate whatever the peer does; its RTP clock is 48 kHz.
    Opus(SampleRate),
    /// Linear PCM of 16 bits, big-endian (RFC 3551 §4.5.11).
    L16(SampleRate),
}

impl Codec {
    /// G.711 mu-law.
    pub const PCMU: Self = Self::G711(Law::Mu);
    /// G.711 A-law.
    pub const PCMA: Self = Self::G711(Law::A);

    /// The encoding name of `a=rtpmap`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::G711(Law::Mu) => "PCMU",
            Self::G711(Law::A) => "PCMA",
            Self::G722 => "G722",
            Self::Opus(_) => "opus",
            Self::L16(_) => "L16",
        }
    }

    /// The payload type that RFC 3551 gives it, where it does.
    pub const fn static_payload_type(self) -> Option<u8> {
        match self {
            Self::G711(Law::Mu) => Some(0),
            Self::G711(Law::A) => Some(8),
            Self::G722 => Some(9),
            Self::Opus(_) | Self::L16(_) => None,
        }
    }

    /// Samples per second of the audio it carries on our side.
    pub const fn rate(self) -> SampleRate {
        match self {
            Self::G711(_) => SampleRate::Hz8000,
            Self::G722 => SampleRate::Hz16000,
            Self::Opus(rate) | Self::L16(rate) => rate,
        }
    }

    /// Ticks per second of its RTP timestamps, which for G.722 and Opus is not the sample rate.
    pub const fn clock_hz(self) -> u32 {
        match self {
            Self::G711(_) | Self::G722 => 8_000,
            Self::Opus(_) => 48_000,
            Self::L16(rate) => rate.hz() as u32,
        }
    }

    /// The bytes in which its audio is handed on: G.711 as it is, all else as PCM of its rate.
    pub const fn format(self) -> AudioFormat {
        match self {
            Self::G711(law) => AudioFormat::G711(law),
            Self::G722 | Self::Opus(_) | Self::L16(_) => AudioFormat::Pcm16(self.rate()),
        }
    }

    /// The packet time nearest to `wanted` in which it can be sent: Opus knows no packets of 30 and 50 ms.
    pub fn nearest_ptime(self, wanted: Ptime) -> Ptime {
        match (self, wanted.millis()) {
            (Self::Opus(_), 30 | 50) => Ptime::nearest(wanted.millis() as u32 - 10),
            _ => wanted,
        }
    }

    /// Whether both are the same codec to a peer, who does not see the rate at which we run Opus.
    pub fn is_same_as(self, other: Self) -> bool {
        match (self, other) {
            (Self::Opus(_), Self::Opus(_)) => true,
            (one, other) => one == other,
        }
    }
}

impl From<Law> for Codec {
    fn from(law: Law) -> Self {
        Self::G711(law)
    }
}

/// How the peer wants its Opus (RFC 7587 §6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OpusParams {
    /// `maxaveragebitrate`, bits per second.
    pub max_bitrate: Option<u32>,
    /// `useinbandfec`: the peer makes use of forward error correction.
    pub fec: bool,
    /// `usedtx`: the peer would like silence left out.
    pub dtx: bool,
    /// `cbr`: the peer wants packets of one size.
    pub cbr: bool,
}

impl OpusParams {
    /// What holds where `a=fmtp` says nothing.
    pub const DEFAULT: Self = Self { max_bitrate: None, fec: false, dtx: false, cbr: false };
}

impl Default for OpusParams {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_and_rates() {
        for (codec, name, rate, clock) in [
            (Codec::G711(Law::A), "PCMA", 8_000, 8_000),
            (Codec::G722, "G722", 16_000, 8_000),
            (Codec::Opus(SampleRate::Hz24000), "opus", 24_000, 48_000),
            (Codec::L16(SampleRate::Hz16000), "L16", 16_000, 16_000),
        ] {
            assert_eq!((codec.name(), codec.rate().hz(), codec.clock_hz()), (name, rate, clock));
        }
        assert!(Codec::Opus(SampleRate::Hz8000).is_same_as(Codec::Opus(SampleRate::Hz48000)));
        assert!(!Codec::L16(SampleRate::Hz8000).is_same_as(Codec::L16(SampleRate::Hz16000)));
    }
    #[test]
    fn opus_has_no_packets_of_30_and_50_ms() {
        for (wanted, opus) in [(10, 10), (20, 20), (30, 20), (40, 40), (50, 40), (60, 60)] {
            let ptime = Ptime::nearest(wanted);
            assert_eq!(Codec::Opus(SampleRate::Hz8000).nearest_ptime(ptime).millis(), opus);
            assert_eq!(Codec::G722.nearest_ptime(ptime), ptime);
        }
    }
}
