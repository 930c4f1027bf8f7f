//! Wideband lines under loss: Opus and G.722 over two real legs, the one that sends and the one that hears.

use tandem_media::{AudioFormat, Codec, CodecError, Decoder, SampleRate};

use crate::{
    error::QualityError,
    ideal,
    loss::Shape,
    maker::{Maker, Voice},
    report::Plan,
    stopgap::Stopgap,
    telephone::{self, Network},
};

const RATE: SampleRate = SampleRate::Hz16000;
const OPUS: Codec = Codec::Opus(RATE);
/// From this reported loss on we send error correction.
const FEC_FROM: f32 = 0.02;

/// Opus at 16 kHz: as Tandem sends it for the loss that is reported, always and never with error correction, and PCM in which
/// lost packets are silent. Whether error correction is sent where it should be.
pub(crate) fn opus(maker: &mut Maker, voice: &Voice, plan: &Plan) -> Result<bool, QualityError> {
    const TABLE: &str = "opus";
    let say = |reported| say(OPUS, reported, &voice.wide);
    let plain = say(None);
    let mut as_it_should = !has_fec(&plain) && !has_fec(&say(Some(0.01)));
    as_it_should &= has_fec(&say(Some(FEC_FROM)));
    for (row, shape, percent) in rows(plan) {
        let share = percent as f32 / 100.0;
        let told = say(Some(share));
        let guarded = say(Some(share.max(FEC_FROM)));
        for seed in 1..=if percent == 0 { 1 } else { plan.wide_seeds } {
            let lost = voice.lost(shape, percent, seed);
            let seed = (percent > 0).then_some(seed);
            for (column, packets) in [("tandem", &told), ("no FEC", &plain), ("FEC", &guarded)] {
                let heard = hear(OPUS, packets, &lost);
                maker.wide(TABLE, &row, column, voice, seed, &heard)?;
            }
            let silenced = Stopgap::Silence.fill(RATE, &voice.wide, &lost);
            maker.wide(TABLE, &row, "PCM, silence", voice, seed, &silenced)?;
        }
    }
    Ok(as_it_should)
}

/// G.722: the leg, and what simpler gateways do with the samples of the packets that arrive.
pub(crate) fn g722(maker: &mut Maker, voice: &Voice, plan: &Plan) -> Result<(), QualityError> {
    const TABLE: &str = "g722";
    let packets = say(Codec::G722, None, &voice.wide);
    for (row, shape, percent) in rows(plan) {
        for seed in 1..=if percent == 0 { 1 } else { plan.wide_seeds } {
            let lost = voice.lost(shape, percent, seed);
            let seed = (percent > 0).then_some(seed);
            let heard = hear(Codec::G722, &packets, &lost);
            maker.wide(TABLE, &row, "tandem", voice, seed, &heard)?;
            if percent == 0 {
                continue;
            }
            let arrived = decode_arrived(&packets, &lost).expect("they are packets of G.722");
            for stopgap in [Stopgap::OneSided, Stopgap::Repeat, Stopgap::Silence] {
                let filled = stopgap.fill(RATE, &arrived, &lost);
                maker.wide(TABLE, &row, stopgap.name(), voice, seed, &filled)?;
            }
        }
    }
    Ok(())
}

/// Every codec at every rate it is run at: the model's voice there and back, without loss and with 5 %.
pub(crate) fn codecs(maker: &mut Maker, voice: &Voice, plan: &Plan) -> Result<(), QualityError> {
    const TABLE: &str = "codecs";
    const SEEDS: u64 = 2;
    use SampleRate::{Hz8000, Hz16000, Hz24000, Hz48000};
    for (row, codec) in [
        ("G.722", Codec::G722),
        ("Opus at 8 kHz, narrowband", Codec::Opus(Hz8000)),
        ("Opus at 16 kHz", Codec::Opus(Hz16000)),
        ("Opus at 24 kHz", Codec::Opus(Hz24000)),
        ("Opus at 48 kHz", Codec::Opus(Hz48000)),
        ("L16 at 16 kHz", Codec::L16(Hz16000)),
        ("L16 at 24 kHz", Codec::L16(Hz24000)),
    ] {
        let rate = codec.rate();
        let pcm = voice.clip.at(rate);
        for (column, percent) in [("0 %", 0), ("5 % random", 5)] {
            let packets = say(codec, (percent > 0).then_some(percent as f32 / 100.0), &pcm);
            for seed in 1..=if percent == 0 { 1 } else { plan.wide_seeds.min(SEEDS) } {
                let lost = voice.lost(Shape::Random, percent, seed);
                let heard = hear(codec, &packets, &lost);
                let seed = (percent > 0).then_some(seed);
                if rate == Hz8000 {
                    maker.narrow(TABLE, row, column, voice, seed, &heard)?;
                } else {
                    let wide = ideal::convert_pcm(rate.hz(), RATE.hz(), &heard);
                    maker.wide(TABLE, row, column, voice, seed, &wide)?;
                }
            }
        }
    }
    Ok(())
}

/// Without loss, and every loss of the plan.
fn rows(plan: &Plan) -> Vec<(String, Shape, usize)> {
    let none = [("0 %".to_owned(), Shape::Random, 0)].into_iter();
    let some = plan.wide_losses.iter().map(|&(shape, percent)| {
        let row = format!("{percent} % {}", shape.name());
        (row, shape, percent)
    });
    none.chain(some).collect()
}

/// What a leg sends of the model's voice, which is at the codec's rate.
fn say(codec: Codec, reported: Option<f32>, pcm: &[i16]) -> Vec<Vec<u8>> {
    telephone::say(codec, reported, codec.format(), &telephone::bytes(pcm))
}

/// What a model hears of that, at the codec's rate.
fn hear(codec: Codec, packets: &[Vec<u8>], lost: &[bool]) -> Vec<i16> {
    let format = AudioFormat::Pcm16(codec.rate());
    let network = Network { lost, ..Network::PERFECT };
    telephone::samples(format, &telephone::hear(codec, format, packets, network).audio)
}

/// The samples of the packets that arrive, in their places.
fn decode_arrived(packets: &[Vec<u8>], lost: &[bool]) -> Result<Vec<i16>, CodecError> {
    let mut decoder = Decoder::new(Codec::G722)?;
    let (mut pcm, mut output) = (Vec::new(), Vec::new());
    for (n, packet) in packets.iter().enumerate() {
        if lost.get(n).is_some_and(|lost| *lost) {
            output.resize(output.len() + RATE.hz() / 50, 0);
        } else {
            decoder.decode(packet, &mut pcm)?;
            output.extend_from_slice(&pcm);
        }
    }
    Ok(output)
}

/// Whether any of the packets, mono and of one frame of 20 ms, has error correction for the one before it (RFC 6716 §4.2.3,
/// §4.2.4): the bit behind that of voice activity, where there is a SILK layer.
fn has_fec(packets: &[Vec<u8>]) -> bool {
    packets.iter().any(|packet| {
        matches!(**packet, [toc, first, ..] if toc >> 3 < 16 && toc & 3 == 0 && first & 0x40 != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_correction_is_seen_in_the_packets() {
        let speech: Vec<i16> =
            (0..32_000_i32).map(|n| ((n % 131 - 65) * (60 + n / 160 % 90)) as i16).collect();
        for (reported, fec) in [(None, false), (Some(0.01), false), (Some(0.02), true)] {
            assert_eq!(has_fec(&say(OPUS, reported, &speech)), fec, "{reported:?}");
        }
    }

    #[test]
    fn every_codec_keeps_the_length_under_loss() {
        let plan = Plan::tiny();
        assert_eq!(rows(&plan).len(), 2);
        for codec in [Codec::G722, OPUS, Codec::L16(RATE)] {
            let pcm: Vec<i16> = (0..16_000_i32).map(|n| (n % 160 * 50) as i16).collect();
            let packets = say(codec, None, &pcm);
            assert_eq!(packets.len(), 50, "{codec:?}");
            let mut lost = vec![false; 50];
            (lost[20], lost[21], lost[30]) = (true, true, true);
            assert_eq!(hear(codec, &packets, &lost).len(), 16_000, "{codec:?}");
        }
    }
}
