//! What payload types stand for: audio codecs, telephone-event, comfort noise.

use std::ops::RangeInclusive;

use tandem_media::{Codec, Law, OpusParams, Ptime, SampleRate};

use crate::sdp::{Encoding, Media, SessionDescription};

/// The most audio in one packet of ours, in bytes: with its headers it fits into the datagrams of any network.
const MAX_PAYLOAD: usize = 1_400;

/// The bit rates of Opus, in bits per second; others are no rates (RFC 7587 §6.1).
const OPUS_BITRATES: RangeInclusive<u32> = 6_000..=510_000;

/// What a payload type of ours or of a peer stands for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Format {
    /// A codec. The rate at which we run Opus is no part of the format.
    Audio(Codec),
    /// Digits, on the clock of the audio beside them (RFC 4733 §2.1).
    TelephoneEvent { clock_hz: u32 },
    /// Comfort noise, likewise (RFC 3389 §4).
    ComfortNoise { clock_hz: u32 },
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Audio(one), Self::Audio(other)) => one.is_same_as(other),
            (Self::TelephoneEvent { clock_hz: one }, Self::TelephoneEvent { clock_hz: other })
            | (Self::ComfortNoise { clock_hz: one }, Self::ComfortNoise { clock_hz: other }) => {
                one == other
            }
            _ => false,
        }
    }
}

impl Format {
    /// What `encoding` is, if it is something we could have.
    fn read(encoding: &Encoding) -> Option<Self> {
        let is = |name: &str| encoding.name.eq_ignore_ascii_case(name);
        let clock_hz = encoding.clock_hz;
        let rate = || SampleRate::from_hz(clock_hz as usize).filter(|_| encoding.channels == 1);
        // Two channels are what RFC 7587 §4.1 wants always; some leave them out.
        if is("opus") && clock_hz == 48_000 && encoding.channels <= 2 {
            return Some(Self::Audio(Codec::Opus(SampleRate::Hz48000)));
        }
        let rate = rate()?;
        if is("telephone-event") {
            Some(Self::TelephoneEvent { clock_hz })
        } else if is("CN") {
            Some(Self::ComfortNoise { clock_hz })
        } else if is("L16") {
            Some(Self::Audio(Codec::L16(rate)))
        } else {
            [Codec::G711(Law::Mu), Codec::G711(Law::A), Codec::G722]
                .into_iter()
                .find(|codec| is(codec.name()) && codec.clock_hz() == clock_hz)
                .map(Self::Audio)
        }
    }

    /// The value of its `a=rtpmap`, without the payload type.
    pub(crate) fn encoding(self) -> String {
        match self {
            Self::Audio(codec @ Codec::Opus(_)) => format!("{}/48000/2", codec.name()),
            Self::Audio(codec) => format!("{}/{}", codec.name(), codec.clock_hz()),
            Self::TelephoneEvent { clock_hz } => format!("telephone-event/{clock_hz}"),
            Self::ComfortNoise { clock_hz } => format!("CN/{clock_hz}"),
        }
    }

    /// The value of its `a=fmtp`, without the payload type: what we want to receive.
    pub(crate) fn parameters(self) -> Option<String> {
        match self {
            Self::TelephoneEvent { .. } => Some("0-16".into()),
            // No word of our rate: a FreeSWITCH that hears of 16 kHz codes at 19 kbit/s with error correction for a loss of
            // 20 %, and what is left is a band of 4 to 6 kHz. What we do not play back costs a few bits.
            Self::Audio(Codec::Opus(_)) => Some("useinbandfec=1;minptime=10".into()),
            Self::Audio(_) | Self::ComfortNoise { .. } => None,
        }
    }
}

/// The payload types of `audio` that stand for something we could have, in its order, each once.
pub(crate) fn formats_of(audio: &Media) -> impl Iterator<Item = (u8, Format)> {
    let known =
        audio.formats.iter().enumerate().filter(|(n, text)| !audio.formats[..*n].contains(text));
    known.filter_map(|(_, text)| Some((payload_type(text)?, Format::read(&audio.encoding(text)?)?)))
}

/// The codecs of `audio` that are among `ours`, in its order, with the rate at which we run them.
pub(crate) fn codecs_of(audio: &Media, ours: &[Codec]) -> impl Iterator<Item = (u8, Codec)> {
    formats_of(audio).filter_map(|(payload_type, format)| {
        let Format::Audio(theirs) = format else { return None };
        let ours = ours.iter().find(|ours| ours.is_same_as(theirs))?;
        Some((payload_type, *ours))
    })
}

/// The payload type of telephone-event beside `codec`, and its clock: the codec's own, else the usual one.
pub(crate) fn telephone_event_of(audio: &Media, codec: Codec) -> Option<(u8, u32)> {
    [codec.clock_hz(), 8_000]
        .into_iter()
        .find_map(|clock_hz| Some((find(audio, Format::TelephoneEvent { clock_hz })?, clock_hz)))
}

/// The payload type of comfort noise beside `codec`, if it is listed. Opus has its own way of being silent.
pub(crate) fn comfort_noise_of(audio: &Media, codec: Codec) -> Option<u8> {
    let clock_hz = codec.clock_hz();
    find(audio, Format::ComfortNoise { clock_hz }).filter(|_| !matches!(codec, Codec::Opus(_)))
}

fn find(audio: &Media, wanted: Format) -> Option<u8> {
    formats_of(audio).find(|(_, format)| *format == wanted).map(|(payload_type, _)| payload_type)
}

/// The payload type that `format` of an `m=` line names. 64 to 95 cannot be told from RTCP on a shared port (RFC 5761
/// §4), so nothing is understood by them.
pub(crate) fn payload_type(format: &str) -> Option<u8> {
    let number =
        format.parse().ok().filter(|_| format.bytes().all(|byte| byte.is_ascii_digit()))?;
    (number < 128 && !(64..96).contains(&number)).then_some(number)
}

/// How the peer wants its Opus.
pub(crate) fn opus_of(audio: &Media, payload_type: u8) -> OpusParams {
    let format = payload_type.to_string();
    let text = |name| audio.format_parameter(&format, name);
    let is_set = |name| text(name) == Some("1");
    let bitrate = text("maxaveragebitrate").and_then(|text| text.parse().ok());
    OpusParams {
        max_bitrate: bitrate.filter(|bps| OPUS_BITRATES.contains(bps)),
        fec: is_set("useinbandfec"),
        dtx: is_set("usedtx"),
        cbr: is_set("cbr"),
    }
}

/// How much audio the peer wants in a packet of `codec`, as far as we send such packets.
pub(crate) fn ptime_of(
    sdp: &SessionDescription,
    audio: &Media,
    payload_type: u8,
    codec: Codec,
) -> Ptime {
    let format = payload_type.to_string();
    let millis = |name: &str| {
        let session =
            || sdp.attributes.iter().find(|a| a.name == name).and_then(|a| a.value.as_deref());
        // FreeSWITCH says it among the parameters of Opus, too.
        let parameter = || audio.format_parameter(&format, name);
        let text = audio.attribute(name).or_else(session).or_else(parameter)?;
        // Some senders write "20.0".
        let number = text.trim().split('.').next()?.parse::<u32>().ok()?;
        (1..1000).contains(&number).then_some(number)
    };
    let wanted = millis("ptime").unwrap_or(20).max(millis("minptime").unwrap_or(10));
    let wanted = millis("maxptime").map_or(wanted, |most| wanted.min(most.max(10)));
    fitting(codec, Ptime::nearest(wanted))
}

/// The longest packet of `codec` that we send and that is no longer than `ptime`.
pub(crate) fn fitting(codec: Codec, ptime: Ptime) -> Ptime {
    let millis = longest(codec).map_or(ptime.millis(), |most| most.min(ptime.millis()));
    codec.nearest_ptime(Ptime::nearest(millis as u32))
}

/// The milliseconds of `codec` that fit into a packet, where that is less than any packet has.
pub(crate) fn longest(codec: Codec) -> Option<usize> {
    let Codec::L16(rate) = codec else { return None };
    let tens = MAX_PAYLOAD / (2 * rate.hz() / 100);
    (tens < 6).then_some(10 * tens)
}
