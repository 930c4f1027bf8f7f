//! Every codec, both ways.

use std::{f64::consts::TAU, time::Duration};

use tandem_call::{Digit, ItemId, LegEvent, MediaLeg, Origin};
use tandem_media::{AudioFormat, Codec, Decoder, Encoder, Law, OpusParams, Ptime, SampleRate};
use tandem_rtp::{MediaParams, TelephoneEvent};

use crate::world::{MU, PEER, World, address, millis, params};

const ITEM: ItemId = ItemId(1);
const OPUS16: Codec = Codec::Opus(SampleRate::Hz16000);

const CODECS: [Codec; 8] = [
    Codec::PCMU,
    Codec::PCMA,
    Codec::G722,
    Codec::Opus(SampleRate::Hz8000),
    OPUS16,
    Codec::Opus(SampleRate::Hz24000),
    Codec::L16(SampleRate::Hz16000),
    Codec::L16(SampleRate::Hz24000),
];

const FORMATS: [AudioFormat; 4] = [
    MU,
    AudioFormat::Pcm16(SampleRate::Hz8000),
    AudioFormat::Pcm16(SampleRate::Hz16000),
    AudioFormat::Pcm16(SampleRate::Hz24000),
];

fn params_of(codec: Codec) -> MediaParams {
    let payload_type = codec.static_payload_type().unwrap_or(96);
    MediaParams { codec, payload_type, telephone_event_hz: codec.clock_hz(), ..params() }
}

/// A leg whose media is up with `codec`, and whose peer sends it.
fn answered(codec: Codec, uplink: AudioFormat) -> World {
    let mut world = World::speaking(codec, uplink);
    world.apply(params_of(codec));
    world.peer.payload_type = params_of(codec).payload_type;
    world
}

/// A tone from the sample `from` on.
fn tone(rate: SampleRate, hz: f64, from: usize, samples: usize) -> Vec<i16> {
    let step = TAU * hz / rate.hz() as f64;
    (from..from + samples).map(|n| (9_000.0 * (step * n as f64).sin()).round() as i16).collect()
}

/// The peer's packets of 20 ms of a tone.
fn packets(codec: Codec, hz: f64, count: usize) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec, &OpusParams::DEFAULT).expect("memory");
    let samples = codec.rate().hz() / 50;
    (0..count)
        .map(|n| {
            let mut payload = Vec::new();
            encoder
                .encode(&tone(codec.rate(), hz, n * samples, samples), &mut payload)
                .expect("20 ms");
            payload
        })
        .collect()
}

/// The peer sends `payloads` from now on, one each 20 ms, those for which `lost` excepted.
fn peer_sends(world: &mut World, codec: Codec, payloads: &[Vec<u8>], lost: impl Fn(usize) -> bool) {
    for (n, payload) in payloads.iter().enumerate() {
        let bytes = world.next_of(payload, codec.clock_hz() / 50);
        if !lost(n) {
            world.arrive_from(millis(20 * n as u64 + 20), PEER, bytes);
        }
    }
}

fn pcm(format: AudioFormat, bytes: &[u8]) -> Vec<i16> {
    let mut pcm = Vec::new();
    format.read(bytes, &mut pcm);
    pcm
}

/// The amplitude of `hz` in `pcm`.
fn amplitude(rate: SampleRate, hz: f64, pcm: &[i16]) -> f64 {
    let step = TAU * hz / rate.hz() as f64;
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in pcm.iter().enumerate() {
        re += f64::from(*sample) * (step * n as f64).cos();
        im += f64::from(*sample) * (step * n as f64).sin();
    }
    (re * re + im * im).sqrt() * 2.0 / pcm.len() as f64
}

fn heard(world: &World, format: AudioFormat) -> Vec<i16> {
    let bytes: Vec<u8> = world.frames.iter().flat_map(|frame| frame.audio.clone()).collect();
    pcm(format, &bytes)
}

/// What a peer decodes of the audio we sent.
fn sent_pcm(world: &World, codec: Codec) -> Vec<i16> {
    let mut decoder = Decoder::new(codec).expect("memory");
    let (mut all, mut one) = (Vec::new(), Vec::new());
    for sent in world.sent.iter().filter(|sent| sent.payload_type != 101) {
        decoder.decode(&sent.payload, &mut one).expect("audio of the codec");
        all.extend_from_slice(&one);
    }
    all
}

#[test]
fn a_tone_of_the_caller_reaches_every_model_in_full_length() {
    for (codec, format) in CODECS.into_iter().flat_map(|codec| FORMATS.map(|to| (codec, to))) {
        let mut world = answered(codec, format);
        peer_sends(&mut world, codec, &packets(codec, 1_000.0, 50), |_| false);
        world.run(millis(1_010));
        let heard = heard(&world, format);
        assert_eq!(heard.len(), format.rate().hz(), "{codec:?} to {format:?}");
        let level = amplitude(format.rate(), 1_000.0, &heard[heard.len() / 2..]);
        assert!((7_500.0..10_500.0).contains(&level), "{codec:?} to {format:?}: {level}");
        assert!(world.frames.iter().all(|frame| frame.origin == Origin::Caller));
        assert_eq!(world.leg.quality().codec, codec.name().to_ascii_uppercase());
    }
}

#[test]
fn wideband_stays_wideband_both_ways() {
    let pcm16 = AudioFormat::Pcm16(SampleRate::Hz16000);
    for (codec, is_wide) in [
        (Codec::PCMU, false),
        (Codec::G722, true),
        (OPUS16, true),
        (Codec::L16(SampleRate::Hz16000), true),
    ] {
        let mut world = answered(codec, pcm16);
        peer_sends(&mut world, codec, &packets(codec, 6_000.0, 50), |_| false);
        let model: Vec<u8> = tone(SampleRate::Hz16000, 6_000.0, 0, 16_000)
            .iter()
            .flat_map(|sample| sample.to_le_bytes())
            .collect();
        world.play(1, pcm16, &model);
        world.end_item(1);
        world.run(millis(1_010));
        let heard = heard(&world, pcm16);
        let up = amplitude(SampleRate::Hz16000, 6_000.0, &heard[8_000..]);
        let sent = sent_pcm(&world, codec);
        let half = sent.len() / 2;
        let down = amplitude(codec.rate(), 6_000.0, &sent[half / 2..half + half / 2]);
        if is_wide {
            assert!(up > 5_000.0 && down > 5_000.0, "{codec:?}: {up} up, {down} down");
        } else {
            assert!(up < 300.0, "{codec:?}: {up} up");
        }
    }
}

#[test]
fn lost_packets_are_concealed_in_every_codec() {
    for codec in CODECS {
        let format = AudioFormat::Pcm16(SampleRate::Hz16000);
        let mut world = answered(codec, format);
        let lost = |n: usize| n % 10 == 5 || (50..53).contains(&n);
        peer_sends(&mut world, codec, &packets(codec, 400.0, 100), lost);
        world.run(millis(2_010));
        let concealed: Vec<u8> = world.heard_by_model(Origin::Concealed);
        assert_eq!(concealed.len(), 13 * 640, "{codec:?}: as long as what was lost");
        let level = amplitude(SampleRate::Hz16000, 400.0, &pcm(format, &concealed[..640]));
        assert!(level > 3_000.0, "{codec:?}: the tone goes on, {level}");
        assert_eq!(heard(&world, format).len(), 2 * 16_000, "{codec:?}");
        assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{codec:?}: {:?}", world.lead);
        assert_eq!(world.leg.quality().packets_lost, 13, "{codec:?}");
    }
}

#[test]
fn opus_repairs_a_lost_packet_from_the_next_one() {
    let rate = SampleRate::Hz16000;
    let samples = 320;
    // A new tone each 100 ms: what was lost cannot be guessed from what came before.
    let sound = |n: usize| tone(rate, [500.0, 1_100.0, 700.0][n / 5 % 3], n * samples, samples);
    let mut encoder =
        Encoder::new(OPUS16, &OpusParams { fec: true, ..OpusParams::DEFAULT }).expect("memory");
    encoder.set_loss(0.2);
    let payloads: Vec<Vec<u8>> = (0..50)
        .map(|n| {
            let mut payload = Vec::new();
            encoder.encode(&sound(n), &mut payload).expect("20 ms");
            payload
        })
        .collect();
    let run = |repair: bool| {
        let format = AudioFormat::Pcm16(rate);
        let mut world = answered(OPUS16, format);
        // The first packet of each second tone is lost; without repair, so is the one after it that knows of it.
        let lost = |n: usize| n % 10 == 5 || !repair && n % 10 == 6;
        peer_sends(&mut world, OPUS16, &payloads, lost);
        world.run(millis(1_010));
        let all = heard(&world, format);
        let level: f64 = (5..50)
            .step_by(10)
            .map(|n| {
                let hz = [500.0, 1_100.0, 700.0][n / 5 % 3];
                amplitude(rate, hz, &all[n * samples + 100..(n + 1) * samples])
            })
            .sum();
        level / 5.0
    };
    let (repaired, guessed) = (run(true), run(false));
    assert!(repaired > 2.0 * guessed, "{repaired} repaired, {guessed} guessed");
}

#[test]
fn silence_that_opus_leaves_out_is_no_loss() {
    let format = AudioFormat::Pcm16(SampleRate::Hz16000);
    let mut world = answered(OPUS16, format);
    let dtx = OpusParams { dtx: true, ..OpusParams::DEFAULT };
    let mut encoder = Encoder::new(OPUS16, &dtx).expect("memory");
    let mut sent = 0;
    for n in 0..300_usize {
        let pcm = match n {
            50..250 => vec![0; 320],
            _ => tone(SampleRate::Hz16000, 500.0, n * 320, 320),
        };
        let mut payload = Vec::new();
        encoder.encode(&pcm, &mut payload).expect("20 ms");
        if payload.is_empty() {
            world.peer.timestamp = world.peer.timestamp.wrapping_add(960);
        } else {
            let bytes = world.next_of(&payload, 960);
            world.arrive_from(millis(20 * n as u64 + 20), PEER, bytes);
            sent += 1;
        }
    }
    assert!(sent < 160, "{sent} packets: silence is left out");
    world.run(millis(6_020));
    assert_eq!(world.leg.quality().packets_lost, 0);
    assert_eq!(world.leg.counters().uplink_surplus, 0);
    assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{:?}", world.lead);
    let quiet = world.frames.iter().filter(|frame| frame.origin == Origin::Silence).count();
    assert!(quiet > 100, "{quiet} frames of silence");
}

#[test]
fn comfort_noise_is_heard_until_audio_comes_again() {
    for (codec, format) in [
        (Codec::PCMU, AudioFormat::Pcm16(SampleRate::Hz8000)),
        (Codec::PCMU, MU),
        (Codec::G722, AudioFormat::Pcm16(SampleRate::Hz16000)),
    ] {
        let mut world = answered(codec, format);
        let speech = packets(codec, 500.0, 10);
        peer_sends(&mut world, codec, &speech, |_| false);
        let noise = world.packet_with(&[40], 13, world.peer.timestamp);
        world.arrive_from(millis(220), PEER, noise);
        world.run(millis(1_220));
        let frames = world.frames.len();
        // -40 dBov is an RMS of 328.
        let silence: Vec<u8> = world.heard_by_model(Origin::Silence);
        let noise = pcm(format, &silence);
        let power = noise.iter().map(|&it| f64::from(it).powi(2)).sum::<f64>() / noise.len() as f64;
        assert!((250.0..410.0).contains(&power.sqrt()), "{codec:?}: {}", power.sqrt());
        assert!((45..=50).contains(&(frames - 10)), "{codec:?}: {frames}");
        assert_eq!(world.heard_by_model(Origin::Concealed).len(), 0, "{codec:?}");
        let ticks = codec.clock_hz();
        world.peer.timestamp = world.peer.timestamp.wrapping_add(ticks);
        peer_sends(&mut world, codec, &speech, |_| false);
        world.run(millis(210));
        let caller = world.heard_by_model(Origin::Caller);
        assert_eq!(caller.len(), 20 * format.bytes_per(millis(20)), "{codec:?}");
        assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{codec:?}: {:?}", world.lead);
        assert_eq!(world.leg.quality().packets_lost, 0, "{codec:?}");
    }
}

#[test]
fn what_is_no_audio_of_the_codec_is_counted_and_the_call_goes_on() {
    for (codec, nonsense) in
        [(OPUS16, vec![0xFF; 9]), (Codec::L16(SampleRate::Hz16000), vec![1; 7])]
    {
        let format = AudioFormat::Pcm16(SampleRate::Hz16000);
        let mut world = answered(codec, format);
        let mut payloads = packets(codec, 500.0, 50);
        payloads[20] = nonsense;
        peer_sends(&mut world, codec, &payloads, |_| false);
        world.run(millis(1_010));
        assert_eq!(world.leg.counters().undecodable, 1, "{codec:?}");
        assert_eq!(world.heard_by_model(Origin::Caller).len(), 49 * 640, "{codec:?}");
        assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{codec:?}: {:?}", world.lead);
    }
}

#[test]
fn a_peer_may_send_g711_whatever_was_agreed_on() {
    let format = AudioFormat::Pcm16(SampleRate::Hz16000);
    let mut world = answered(OPUS16, format);
    peer_sends(&mut world, OPUS16, &packets(OPUS16, 500.0, 25), |_| false);
    world.run(millis(505));
    for law in [Law::Mu, Law::A] {
        let codec = Codec::G711(law);
        world.peer.payload_type = params_of(codec).payload_type;
        peer_sends(&mut world, codec, &packets(codec, 500.0, 25), |_| false);
        world.run(millis(500));
    }
    world.peer.payload_type = 9;
    peer_sends(&mut world, Codec::G722, &packets(Codec::G722, 500.0, 5), |_| false);
    world.run(millis(100));
    assert_eq!(world.leg.counters().unknown_payload, 5, "G.722 was not agreed on");
    assert_eq!(world.heard_by_model(Origin::Caller).len(), 75 * 640);
    let all = heard(&world, format);
    let level = amplitude(SampleRate::Hz16000, 500.0, &all[17_000..24_000]);
    assert!(level > 8_000.0, "{level}");
}

#[test]
fn the_model_is_heard_in_every_codec() {
    for (codec, format) in CODECS.into_iter().flat_map(|codec| FORMATS.map(|to| (codec, to))) {
        let mut world = answered(codec, MU);
        world.run(millis(105));
        let mut audio = Vec::new();
        format.write(&tone(format.rate(), 700.0, 0, format.rate().hz()), &mut audio);
        for chunk in audio.chunks(777) {
            world.play(1, format, chunk);
        }
        world.end_item(1);
        world.run(millis(1_500));
        let name = format!("{format:?} to {codec:?}");
        assert_eq!(world.leg.heard(ITEM), Some(Duration::from_secs(1)), "{name}");
        let started = world.when(&LegEvent::PlayoutStarted { item: ITEM });
        assert_eq!(started, Some(millis(105)), "{name}: at once");
        let drained = world.when(&LegEvent::PlayoutDrained { item: ITEM });
        assert_eq!(drained, Some(millis(1_105)), "{name}");
        let first = world.sent.iter().position(|sent| sent.at == millis(105)).unwrap();
        assert!(world.sent[first].marker, "{name}");
        for (n, sent) in world.sent[first..first + 50].iter().enumerate() {
            let expected =
                world.sent[first].timestamp.wrapping_add(n as u32 * codec.clock_hz() / 50);
            assert_eq!((sent.timestamp, sent.ticks), (expected, codec.clock_hz() / 50), "{name}");
        }
        let sent = sent_pcm(&world, codec);
        let packet = codec.rate().hz() / 50;
        let middle = &sent[(first + 10) * packet..(first + 40) * packet];
        let level = amplitude(codec.rate(), 700.0, middle);
        assert!((7_500.0..10_500.0).contains(&level), "{name}: {level}");
        let loudest = sent[(first + 55) * packet..].iter().map(|it| it.unsigned_abs()).max();
        assert!(loudest.unwrap() < 200, "{name}: {loudest:?} after the end");
        world.assert_stream_is_honest();
    }
}

#[test]
fn packets_are_as_long_as_asked_for_where_the_codec_can() {
    for (codec, asked, sent) in [
        (Codec::G722, 10, 10),
        (Codec::G722, 30, 30),
        (Codec::G722, 60, 60),
        (OPUS16, 10, 10),
        (OPUS16, 30, 20),
        (OPUS16, 40, 40),
        (OPUS16, 50, 40),
        (OPUS16, 60, 60),
        (Codec::L16(SampleRate::Hz16000), 60, 40),
        (Codec::L16(SampleRate::Hz24000), 30, 20),
        (Codec::L16(SampleRate::Hz48000), 20, 10),
    ] {
        let mut world = World::speaking(codec, MU);
        world.apply(MediaParams { ptime: Ptime::nearest(asked), ..params_of(codec) });
        world.run(millis(600));
        let audio = vec![7; AudioFormat::Pcm16(SampleRate::Hz24000).bytes_per(millis(600))];
        world.play(1, AudioFormat::Pcm16(SampleRate::Hz24000), &audio);
        world.end_item(1);
        world.run(millis(1_200));
        let ticks = codec.clock_hz() / 1_000 * sent;
        assert!(world.sent.iter().all(|sent| sent.ticks == ticks), "{codec:?} at {asked} ms");
        assert!(world.sent.iter().all(|sent| sent.payload.len() <= 1_400), "{codec:?}");
        assert_eq!(world.leg.heard(ITEM), Some(millis(600)), "{codec:?} at {asked} ms");
        world.assert_stream_is_honest();
    }
}

#[test]
fn a_peer_that_wants_dtx_gets_no_silence_from_opus() {
    for dtx in [false, true] {
        let mut world = World::speaking(OPUS16, MU);
        let opus = OpusParams { dtx, ..OpusParams::DEFAULT };
        world.apply(MediaParams { opus, ..params_of(OPUS16) });
        world.run(millis(4_000));
        let silent = world.sent.len();
        if dtx {
            assert!(silent < 60, "{silent} packets of 200");
        } else {
            assert_eq!(silent, 201);
        }
        let format = AudioFormat::Pcm16(SampleRate::Hz16000);
        let mut audio = Vec::new();
        format.write(&tone(SampleRate::Hz16000, 500.0, 0, 16_000), &mut audio);
        world.play(1, format, &audio);
        world.end_item(1);
        world.run(millis(1_000));
        let first = &world.sent[silent];
        assert_eq!((first.at, first.marker), (millis(4_000), true), "a talkspurt begins");
        let clock = (u32::MAX - 2_000).wrapping_add(4_000 * 48);
        assert_eq!(first.timestamp, clock, "and the timestamps know of the pause");
        world.assert_stream_is_honest();
    }
}

#[test]
fn digits_count_in_ticks_of_the_codec() {
    for codec in [Codec::G722, OPUS16, Codec::L16(SampleRate::Hz16000)] {
        let ticks = (codec.clock_hz() / 50) as u16;
        let mut world = answered(codec, MU);
        world.run(millis(100));
        world.leg.send_digits(world.now, &[Digit::new('7').unwrap()]).unwrap();
        world.run(millis(400));
        let events: Vec<_> = world.sent.iter().filter(|sent| sent.payload_type == 101).collect();
        let durations: Vec<u16> = events
            .iter()
            .map(|sent| TelephoneEvent::parse(&sent.payload).unwrap().duration)
            .collect();
        assert_eq!(durations, [1, 2, 3, 4, 5, 5, 5, 5].map(|n| n * ticks), "{codec:?}");
        assert!(events.iter().all(|sent| sent.timestamp == events[0].timestamp));
        for n in 0..5u16 {
            let end = n == 4;
            let event = TelephoneEvent { event: 3, end, volume: 10, duration: ticks * (n + 1) };
            let bytes = world.next_event(event, 0);
            world.arrive_from(millis(20 * u64::from(n)), PEER, bytes);
        }
        world.run(millis(200));
        let digit = LegEvent::Digit(Digit::new('3').unwrap());
        let found = world.event_list().into_iter().filter(|event| *event == digit).count();
        assert_eq!(found, 1, "{codec:?}");
    }
}

#[test]
fn tones_are_no_digits_where_the_codec_is_no_g711() {
    let mut world = World::speaking(Codec::G722, MU);
    world.apply(MediaParams { telephone_event: None, ..params_of(Codec::G722) });
    world.peer.payload_type = 9;
    let mut encoder = Encoder::new(Codec::G722, &OpusParams::DEFAULT).expect("memory");
    let both = |n: usize| {
        let (low, high) =
            (tone(SampleRate::Hz16000, 697.0, n, 320), tone(SampleRate::Hz16000, 1_209.0, n, 320));
        low.iter().zip(&high).map(|(low, high)| low / 2 + high / 2).collect::<Vec<i16>>()
    };
    for n in 0..10 {
        let mut payload = Vec::new();
        encoder.encode(&both(n * 320), &mut payload).expect("20 ms");
        let bytes = world.next_of(&payload, 160);
        world.arrive_from(millis(20 * n as u64 + 20), PEER, bytes);
    }
    world.run(millis(300));
    assert!(!world.event_list().iter().any(|event| matches!(event, LegEvent::Digit(_))));
}

#[test]
fn another_codec_in_mid_call_leaves_no_gap_and_keeps_the_accounts() {
    let format = AudioFormat::Pcm16(SampleRate::Hz24000);
    for (before, after) in CODECS.into_iter().flat_map(|one| CODECS.map(|other| (one, other))) {
        let name = format!("{before:?} to {after:?}");
        let mut world = answered(before, format);
        peer_sends(&mut world, before, &packets(before, 500.0, 50), |_| false);
        let mut audio = Vec::new();
        format.write(&tone(format.rate(), 700.0, 0, 2 * format.rate().hz()), &mut audio);
        let (first, rest) = audio.split_at(audio.len() / 4 * 3);
        world.play(1, format, first);
        world.run(millis(1_005));
        let heard_before = world.leg.heard(ITEM).unwrap();
        assert_eq!(heard_before, millis(1_020), "{name}");
        world.apply(params_of(after));
        world.peer.payload_type = params_of(after).payload_type;
        assert_eq!(world.leg.heard(ITEM), Some(heard_before), "{name}");
        peer_sends(&mut world, after, &packets(after, 500.0, 50), |_| false);
        world.play(1, format, rest);
        world.end_item(1);
        world.run(millis(1_305));
        let heard_at_last = world.leg.heard(ITEM).unwrap();
        assert!(
            heard_at_last.abs_diff(Duration::from_secs(2)) <= Duration::from_micros(125),
            "{name}: {heard_at_last:?}"
        );
        let drained = world.when(&LegEvent::PlayoutDrained { item: ITEM });
        assert_eq!(drained, Some(millis(2_000)), "{name}: {:?}", world.events);
        world.assert_stream_is_honest();
        assert_eq!(world.heard_by_model(Origin::Caller).len(), 100 * 960, "{name}");
        let made_up: usize =
            world.frames[..100].iter().filter(|it| it.origin != Origin::Caller).count();
        assert_eq!(made_up, 0, "{name}: nothing was made up");
        assert_eq!(world.leg.counters().underruns, 0, "{name}");
        let heard = heard(&world, format);
        let level = amplitude(format.rate(), 500.0, &heard[30_000..45_000]);
        assert!(level > 7_500.0, "{name}: {level}");
    }
}

#[test]
fn a_cut_after_a_change_of_codec_tells_what_was_heard() {
    let format = AudioFormat::Pcm16(SampleRate::Hz24000);
    let mut world = answered(Codec::PCMU, MU);
    world.play(1, format, &vec![1; format.bytes_per(millis(1_000))]);
    world.run(millis(330));
    world.apply(MediaParams { remote_rtp: address(PEER), ..params_of(Codec::G722) });
    world.run(millis(100));
    world.clear();
    let cut = world.event_list().into_iter().find_map(|event| match event {
        LegEvent::PlayoutCleared { cut } => cut.first().copied(),
        _ => None,
    });
    let cut = cut.expect("audio was cut");
    assert_eq!((cut.heard, cut.received.as_millis()), (millis(440), 1_000));
}

#[test]
fn digits_beside_opus_may_count_8000_ticks() {
    let mut world = answered(OPUS16, MU);
    world.apply(MediaParams { telephone_event_hz: 8_000, ..params_of(OPUS16) });
    world.run(millis(107));
    let digits: Vec<_> = "4#".chars().map(|c| Digit::new(c).unwrap()).collect();
    world.leg.send_digits(world.now, &digits).unwrap();
    world.run(millis(1_000));
    let events: Vec<_> = world.sent.iter().filter(|sent| sent.payload_type == 101).collect();
    assert_eq!(events.len(), 16);
    assert_eq!(events[0].payload, [4, 10, 0, 160]);
    assert_eq!(events[7].payload, [4, 0x8A, 3, 32]);
    assert_eq!(events[8].payload, [11, 10, 0, 160]);
    let apart = events[8].timestamp.wrapping_sub(events[0].timestamp);
    assert!((4_800 + 2_400..=4_800 + 2_400 + 3 * 960).contains(&apart), "{apart}");
}
