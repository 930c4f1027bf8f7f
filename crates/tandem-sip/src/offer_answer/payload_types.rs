//! Payload types over the life of a dialog: a number never changes its meaning (RFC 3264 §8.3.2).

use tandem_media::Codec;

use super::formats::{Format, formats_of, payload_type};
use crate::sdp::Media;

/// The numbers that both sides have used in a dialog, and what for.
#[derive(Debug, Clone, Default)]
pub(crate) struct PayloadTypes {
    given: Vec<(Format, u8)>,
    /// One bit for each number.
    taken: u128,
}

impl PayloadTypes {
    /// Takes over the numbers of a description of the peer's.
    pub(crate) fn learn(&mut self, audio: &Media) {
        for number in audio.formats.iter().filter_map(|format| payload_type(format)) {
            self.taken |= 1 << number;
        }
        for (number, format) in formats_of(audio) {
            if self.number(format) != Some(number) {
                // A peer that gives a number another meaning is followed.
                self.given.retain(|(other, used)| *other != format && *used != number);
                self.given.push((format, number));
            }
        }
    }

    /// The number of `format`: the one it has, else a free one; none when there is no free one left.
    pub(crate) fn assign(&mut self, format: Format) -> Option<u8> {
        if let Some(number) = self.number(format) {
            return Some(number);
        }
        let usual = usual(format).into_iter();
        // Dynamic numbers, then those that are not assigned at all (RFC 3551 §6).
        let number = usual.chain(96..128).chain(35..64).find(|n| self.taken >> n & 1 == 0)?;
        self.taken |= 1 << number;
        self.given.push((format, number));
        Some(number)
    }

    /// What `number` stands for.
    pub(crate) fn meaning(&self, number: u8) -> Option<Format> {
        self.given.iter().find(|(_, other)| *other == number).map(|(format, _)| *format)
    }

    fn number(&self, format: Format) -> Option<u8> {
        self.given.iter().find(|(other, _)| *other == format).map(|(_, number)| *number)
    }
}

/// The number that the standard or custom gives `format`.
const fn usual(format: Format) -> Option<u8> {
    match format {
        Format::Audio(Codec::Opus(_)) => Some(111),
        Format::Audio(codec) => codec.static_payload_type(),
        Format::TelephoneEvent { clock_hz: 8_000 } => Some(101),
        Format::TelephoneEvent { clock_hz: 48_000 } => Some(110),
        Format::TelephoneEvent { .. } => None,
        Format::ComfortNoise { clock_hz: 8_000 } => Some(13),
        Format::ComfortNoise { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::SampleRate;

    use super::*;
    use crate::sdp::SessionDescription;

    fn audio(body: &str) -> Media {
        let text = format!("v=0\no=- 1 1 IN IP4 1.1.1.1\n{body}");
        SessionDescription::parse(text.as_bytes()).unwrap().media.remove(0)
    }

    const OPUS: Format = Format::Audio(Codec::Opus(SampleRate::Hz16000));
    const L16: Format = Format::Audio(Codec::L16(SampleRate::Hz16000));

    #[test]
    fn a_format_keeps_the_number_it_has_and_never_takes_anothers() {
        let mut types = PayloadTypes::default();
        for (format, number) in [
            (OPUS, 111),
            (Format::Audio(Codec::G722), 9),
            (L16, 96),
            (Format::Audio(Codec::L16(SampleRate::Hz24000)), 97),
            (Format::TelephoneEvent { clock_hz: 48_000 }, 110),
            (Format::TelephoneEvent { clock_hz: 16_000 }, 98),
            (Format::ComfortNoise { clock_hz: 8_000 }, 13),
        ] {
            assert_eq!(types.assign(format), Some(number), "{format:?}");
            assert_eq!(types.assign(format), Some(number), "{format:?} again");
        }
        let mut types = PayloadTypes::default();
        types.learn(&audio(
            "m=audio 9 RTP/AVP 111 0 8\na=rtpmap:111 speex/8000\na=rtpmap:0 x/8000\n",
        ));
        assert_eq!(types.assign(OPUS), Some(96), "111 and 0 are the peer's");
        assert_eq!(types.assign(Format::Audio(Codec::PCMU)), Some(97));
        assert_eq!(types.assign(Format::Audio(Codec::PCMA)), Some(8));
        types.learn(&audio("m=audio 9 RTP/AVP 96\na=rtpmap:96 L16/16000\n"));
        assert_eq!((types.assign(L16), types.assign(OPUS)), (Some(96), Some(98)));
        assert_eq!(types.meaning(96), Some(L16));
    }

    #[test]
    fn a_peer_that_takes_all_numbers_leaves_none() {
        let mut types = PayloadTypes::default();
        for first in [0, 64] {
            let all: Vec<_> = (first..first + 64).map(|number: u8| number.to_string()).collect();
            types.learn(&audio(&format!("m=audio 9 RTP/AVP {}\n", all.join(" "))));
        }
        assert_eq!(types.assign(OPUS), None);
        assert_eq!(types.assign(Format::Audio(Codec::PCMA)), Some(8));
    }
}
