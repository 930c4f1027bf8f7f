//! Quantities of telephone audio, each its own type.

use std::time::Duration;

/// Samples per second of mono PCM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SampleRate {
    /// Narrowband telephony: G.711.
    Hz8000,
    /// Wideband: Gemini Live's input, voice activity detection.
    Hz16000,
    /// The output of today's realtime voice models.
    Hz24000,
    /// Fullband: WebRTC.
    Hz48000,
}

impl SampleRate {
    /// Samples per second.
    pub const fn hz(self) -> usize {
        match self {
            Self::Hz8000 => 8_000,
            Self::Hz16000 => 16_000,
            Self::Hz24000 => 24_000,
            Self::Hz48000 => 48_000,
        }
    }

    /// The rate of `hz` samples per second, if it is one we carry.
    pub const fn from_hz(hz: usize) -> Option<Self> {
        match hz {
            8_000 => Some(Self::Hz8000),
            16_000 => Some(Self::Hz16000),
            24_000 => Some(Self::Hz24000),
            48_000 => Some(Self::Hz48000),
            _ => None,
        }
    }

    /// Samples in one packet: 160 for 20 ms at 8 kHz.
    pub const fn samples_per(self, ptime: Ptime) -> usize {
        self.hz() * ptime.millis() / 1000
    }

    /// How long `samples` last at this rate.
    pub const fn duration_of(self, samples: usize) -> Duration {
        Duration::from_nanos(samples as u64 * 1_000_000_000 / self.hz() as u64)
    }
}

/// Packet time: the length of audio in one RTP packet, 10 to 60 ms (RFC 8866 §6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ptime(u8);

impl Ptime {
    /// The usual packet time.
    pub const MS20: Self = Self(20);

    /// The nearest packet time we send: a multiple of 10 ms from 10 to 60.
    pub const fn nearest(millis: u32) -> Self {
        let rounded = (millis + 5) / 10 * 10;
        Self(if rounded < 10 {
            10
        } else if rounded > 60 {
            60
        } else {
            rounded as u8
        })
    }

    /// Milliseconds.
    pub const fn millis(self) -> usize {
        self.0 as usize
    }

    /// As a [`Duration`].
    pub const fn duration(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

/// The two G.711 companding laws.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Law {
    /// mu-law: PCMU, RTP payload type 0.
    Mu,
    /// A-law: PCMA, RTP payload type 8.
    A,
}

impl Law {
    /// The byte that decodes to silence.
    pub const fn silence(self) -> u8 {
        match self {
            Self::Mu => 0xFF,
            Self::A => 0xD5,
        }
    }
}

/// How audio bytes between the leg and a model are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioFormat {
    /// G.711 at 8 kHz, one byte a sample: RTP payloads as they are.
    G711(Law),
    /// Signed 16-bit little-endian mono PCM.
    Pcm16(SampleRate),
}

impl AudioFormat {
    /// The sample rate of the audio.
    pub const fn rate(self) -> SampleRate {
        match self {
            Self::G711(_) => SampleRate::Hz8000,
            Self::Pcm16(rate) => rate,
        }
    }

    /// Bytes of one mono sample.
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::G711(_) => 1,
            Self::Pcm16(_) => 2,
        }
    }

    /// How long `bytes` of this format last.
    pub const fn duration_of(self, bytes: usize) -> Duration {
        self.rate().duration_of(bytes / self.bytes_per_sample())
    }

    /// Bytes that `duration` takes, whole samples.
    pub const fn bytes_per(self, duration: Duration) -> usize {
        (duration.as_nanos() as usize / 1000 * self.rate().hz() / 1_000_000)
            * self.bytes_per_sample()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_packet_in_samples_and_bytes() {
        for (format, samples, bytes) in [
            (AudioFormat::G711(Law::Mu), 160, 160),
            (AudioFormat::Pcm16(SampleRate::Hz8000), 160, 320),
            (AudioFormat::Pcm16(SampleRate::Hz16000), 320, 640),
            (AudioFormat::Pcm16(SampleRate::Hz24000), 480, 960),
        ] {
            assert_eq!(format.rate().samples_per(Ptime::MS20), samples);
            assert_eq!(format.bytes_per(Ptime::MS20.duration()), bytes);
            assert_eq!(format.duration_of(bytes), Ptime::MS20.duration());
        }
    }

    #[test]
    fn packet_time_is_rounded_into_what_we_send() {
        for (asked, granted) in [(0, 10), (10, 10), (20, 20), (24, 20), (30, 30), (120, 60)] {
            assert_eq!(Ptime::nearest(asked).millis(), granted, "{asked}");
        }
    }
}
