//! Quantities of telephone audio, each its own type.

use std::time::Duration;

use crate::g711;

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

    /// The byte that makes silence of a buffer.
    pub const fn silence(self) -> u8 {
        match self {
            Self::G711(law) => law.silence(),
            Self::Pcm16(_) => 0,
        }
    }

    /// Appends samples of this format's rate to `bytes`.
    pub fn write(self, pcm: &[i16], bytes: &mut Vec<u8>) {
        let start = bytes.len();
        bytes.resize(start + pcm.len() * self.bytes_per_sample(), 0);
        match self {
            Self::G711(law) => {
                g711::encode(law, pcm, &mut bytes[start..]);
            }
            Self::Pcm16(_) => {
                for (bytes, sample) in bytes[start..].as_chunks_mut::<2>().0.iter_mut().zip(pcm) {
                    *bytes = sample.to_le_bytes();
                }
            }
        }
    }

    /// Reads `bytes`, whole samples, into `pcm`, which becomes as long.
    pub fn read(self, bytes: &[u8], pcm: &mut Vec<i16>) {
        match self {
            Self::G711(law) => {
                pcm.resize(bytes.len(), 0);
                g711::decode(law, bytes, pcm);
            }
            Self::Pcm16(_) => {
                pcm.clear();
                pcm.extend(bytes.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes)));
            }
        }
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
    fn samples_are_written_and_read_back() {
        let pcm = [0, 1_000, -1_000, i16::MIN, i16::MAX];
        let (mut bytes, mut read) = (vec![7], Vec::new());
        AudioFormat::Pcm16(SampleRate::Hz24000).write(&pcm, &mut bytes);
        assert_eq!(bytes[..5], [7, 0, 0, 0xE8, 3]);
        AudioFormat::Pcm16(SampleRate::Hz24000).read(&bytes[1..], &mut read);
        assert_eq!(read, pcm);
        let law = AudioFormat::G711(Law::Mu);
        bytes.clear();
        law.write(&pcm, &mut bytes);
        law.read(&bytes, &mut read);
        assert_eq!((bytes.len(), read[0], bytes[0]), (5, 0, law.silence()));
    }

    #[test]
    fn packet_time_is_rounded_into_what_we_send() {
        for (asked, granted) in [(0, 10), (10, 10), (20, 20), (24, 20), (30, 30), (120, 60)] {
            assert_eq!(Ptime::nearest(asked).millis(), granted, "{asked}");
        }
    }
}
