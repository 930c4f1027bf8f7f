//! Opus: what the peer asked for, forward error correction, silence, and packets as other encoders make them.

use opus::{Application, Bitrate, Channels};
use tandem_media::{Codec, CodecError, Decoder, Encoder, OpusParams, Ptime, SampleRate};

use crate::sound::{RATES, encoder, heard, packets, power, voice};

const FEC: OpusParams = OpusParams { fec: true, ..OpusParams::DEFAULT };

fn opus(rate: SampleRate, params: &OpusParams) -> Encoder {
    Encoder::new(Codec::Opus(rate), params).expect("there is memory")
}

fn bits_per_second(packets: &[Vec<u8>]) -> usize {
    packets.iter().map(Vec::len).sum::<usize>() * 8 * 50 / packets.len()
}

/// The share of packets that carry the one before once more: RFC 6716 §4.2.4, packets of one SILK frame in mono.
fn guarded(packets: &[Vec<u8>]) -> f64 {
    let guarded = packets.iter().filter(|packet| packet[0] >> 3 < 16 && packet[1] & 0x40 != 0);
    guarded.count() as f64 / packets.len() as f64
}

#[test]
fn audio_is_as_wide_as_its_rate() {
    for rate in RATES {
        let packets = packets(&mut opus(rate, &OpusParams::DEFAULT), &voice(rate, 2_000));
        // RFC 6716 §3.1: what each configuration carries.
        let widest = packets.iter().map(|packet| match packet[0] >> 3 {
            0..=3 | 16..=19 => 8_000,
            4..=7 => 12_000,
            8..=11 | 20..=23 => 16_000,
            12..=13 | 24..=27 => 24_000,
            _ => 48_000,
        });
        assert_eq!(widest.max(), Some(rate.hz()));
        assert!(packets.iter().all(|packet| packet[0] & 4 == 0), "mono");
    }
}

#[test]
fn bitrate_is_what_the_peer_takes() {
    let rate = SampleRate::Hz16000;
    // Noise is as hard to code as anything.
    let mut random = 1_u32;
    let sound: Vec<i16> = std::iter::repeat_with(|| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 18) as i16 - 8_192
    })
    .take(3 * rate.hz())
    .collect();
    for (max_bitrate, range) in [
        (None, 28_000..40_000),
        (Some(510_000), 28_000..40_000),
        (Some(12_000), 9_000..13_500),
        (Some(1), 4_000..8_000),
    ] {
        let params = OpusParams { max_bitrate, ..OpusParams::DEFAULT };
        let sent = bits_per_second(&packets(&mut opus(rate, &params), &sound));
        assert!(range.contains(&sent), "{max_bitrate:?}: {sent}");
    }
    let params = OpusParams { cbr: true, ..OpusParams::DEFAULT };
    let sizes = packets(&mut opus(rate, &params), &sound);
    assert!(sizes.iter().all(|packet| packet.len() == sizes[0].len()), "one size");
    assert_eq!(bits_per_second(&sizes), 36_000);
}

#[test]
fn error_correction_comes_with_the_loss_and_goes_with_it() {
    for rate in RATES {
        let sound = voice(rate, 1_000);
        let mut encoder = opus(rate, &FEC);
        for (reported, sends) in [
            (0.0, false),
            (0.015, false),
            (0.02, true),
            (0.05, true),
            (0.015, true),
            (0.009, false),
            (0.015, false),
            (0.2, true),
            (f32::NAN, false),
        ] {
            encoder.set_loss(reported);
            let share = guarded(&packets(&mut encoder, &sound)[2..]);
            assert_eq!(share > 0.5, sends, "{rate:?} at {reported}: {share}");
        }
        // Nor does it go missing where there is no time to think.
        encoder.set_complexity(0);
        encoder.set_loss(0.03);
        assert!(guarded(&packets(&mut encoder, &sound)[2..]) > 0.5, "{rate:?}");

        let mut encoder = opus(rate, &OpusParams::DEFAULT);
        encoder.set_loss(0.5);
        assert_eq!(guarded(&packets(&mut encoder, &sound)), 0.0, "the peer makes no use of it");
    }
}

#[test]
fn the_next_packet_tells_what_was_lost() {
    for rate in RATES {
        let frame = rate.samples_per(Ptime::MS20);
        let mut encoder = opus(rate, &FEC);
        encoder.set_loss(0.1);
        let packets = packets(&mut encoder, &voice(rate, 4_000));
        let whole = heard(&mut Decoder::new(Codec::Opus(rate)).unwrap(), &packets);
        // Every tenth packet is lost; how far is what takes its place from what it would have been?
        let error = |by_next: bool| {
            let mut decoder = Decoder::new(Codec::Opus(rate)).unwrap();
            let (mut pcm, mut error) = (Vec::new(), 0.0);
            for (index, packet) in packets.iter().enumerate() {
                if index % 10 == 9 {
                    let next = packets.get(index + 1).map(Vec::as_slice).filter(|_| by_next);
                    assert!(decoder.conceal(next, frame, &mut pcm));
                    let lost = &whole[index * frame..][..frame];
                    let pairs = pcm.iter().zip(lost);
                    error += pairs
                        .map(|(&one, &other)| (f64::from(one) - f64::from(other)).powi(2))
                        .sum::<f64>();
                } else {
                    decoder.decode(packet, &mut pcm).unwrap();
                }
            }
            error
        };
        let (told, guessed) = (error(true), error(false));
        assert!(told * 2.0 < guessed, "{rate:?}: {told:.0} against {guessed:.0}");
    }
}

#[test]
fn any_gap_is_filled_to_the_sample() {
    for rate in RATES {
        let packets = packets(&mut encoder(Codec::Opus(rate)), &voice(rate, 200));
        let mut decoder = Decoder::new(Codec::Opus(rate)).unwrap();
        let mut pcm = Vec::new();
        for packet in &packets[..5] {
            decoder.decode(packet, &mut pcm).unwrap();
        }
        for samples in [0, 1, 19, 20, 160, 333, 960, 5_760, 5_761, 48_000] {
            for next in [None, Some(packets[6].as_slice()), Some(&[][..]), Some(&[0xFF, 0xFF][..])]
            {
                assert!(decoder.conceal(next, samples, &mut pcm));
                assert_eq!(pcm.len(), samples, "{rate:?}");
            }
        }
        // Nobody knows what was said for so long.
        decoder.conceal(None, rate.hz(), &mut pcm);
        assert!(power(&pcm[rate.hz() / 2..]) < 100.0, "{rate:?}");
    }
}

#[test]
fn silence_is_left_out_where_the_peer_wants_that() {
    for rate in RATES {
        let dtx = OpusParams { dtx: true, ..OpusParams::DEFAULT };
        let mut sound = voice(rate, 1_000);
        let speech = sound.len() / rate.samples_per(Ptime::MS20);
        sound.resize(sound.len() * 3, 0);
        let sent = packets(&mut opus(rate, &dtx), &sound);
        let spoken = sent[..speech].iter().filter(|packet| !packet.is_empty()).count();
        let silent = sent[speech + 25..].iter().filter(|packet| !packet.is_empty()).count();
        assert!(spoken > speech * 3 / 4, "{rate:?}: {spoken}");
        // One in 400 ms keeps the stream alive.
        assert!((1..=8).contains(&silent), "{rate:?}: {silent} of {}", sent.len() - speech - 25);

        let unasked = packets(&mut opus(rate, &OpusParams::DEFAULT), &sound);
        assert!(unasked.iter().all(|packet| !packet.is_empty()));
    }
}

#[test]
fn a_packet_that_says_silence_is_comfort_noise() {
    let rate = SampleRate::Hz16000;
    let packets = packets(&mut encoder(Codec::Opus(rate)), &voice(rate, 600));
    let mut decoder = Decoder::new(Codec::Opus(rate)).unwrap();
    heard(&mut decoder, &packets);
    let silence = [packets[0][0]];
    let mut pcm = Vec::new();
    assert!(decoder.is_dtx(&silence) && !decoder.is_dtx(&packets[0]));
    assert_eq!(decoder.samples_in(&silence), Some(320));
    for _ in 0..50 {
        decoder.decode(&silence, &mut pcm).unwrap();
        assert_eq!(pcm.len(), 320);
    }
    assert!(power(&pcm) < 1_000.0, "{}", power(&pcm));
}

#[test]
fn stereo_comes_out_as_mono_at_our_rate() {
    let voice = voice(SampleRate::Hz48000, 1_000);
    let stereo: Vec<i16> = voice.iter().flat_map(|&sample| [sample, sample]).collect();
    let mut peer = opus::Encoder::new(48_000, Channels::Stereo, Application::Audio).unwrap();
    peer.set_bitrate(Bitrate::Bits(96_000)).unwrap();
    peer.set_force_channels(Some(Channels::Stereo)).unwrap();
    let packets: Vec<_> =
        stereo.chunks_exact(1_920).map(|part| peer.encode_vec(part, 1_275).unwrap()).collect();
    assert!(packets.iter().all(|packet| packet[0] & 4 != 0), "they are stereo");
    for rate in RATES {
        let heard = heard(&mut Decoder::new(Codec::Opus(rate)).unwrap(), &packets);
        assert_eq!(heard.len(), rate.hz());
        let loudness = 10.0 * (power(&heard) / power(&voice)).log10();
        assert!(loudness.abs() < 1.5, "{rate:?}: {loudness} dB");
    }
}

#[test]
fn a_packet_is_120_ms_at_most() {
    let rate = SampleRate::Hz48000;
    let mut decoder = Decoder::new(Codec::Opus(rate)).unwrap();
    // RFC 6716 §3.2.5: a code 3 packet of so many frames of 20 ms, one byte each.
    let packet = |frames: u8| [&[0b0100_1011, frames][..], &vec![1; frames.into()]].concat();
    let mut pcm = Vec::new();
    assert_eq!(decoder.samples_in(&packet(6)), Some(5_760));
    decoder.decode(&packet(6), &mut pcm).unwrap();
    assert_eq!(pcm.len(), 5_760);
    for refused in [packet(7), packet(48), packet(0), vec![0xFF], vec![0b0100_1011]] {
        let bytes = refused.len();
        assert_eq!(decoder.samples_in(&refused), None, "{refused:?}");
        let malformed = Err(CodecError::Malformed { codec: "opus", bytes });
        assert_eq!(decoder.decode(&refused, &mut pcm), malformed);
    }
    // Its length is fine, its inside is not.
    assert!(matches!(decoder.decode(&[0b0000_0010, 200, 1], &mut pcm), Err(CodecError::Opus(_))));
    assert!(pcm.is_empty());
}
