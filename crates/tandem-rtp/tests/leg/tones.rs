use std::f64::consts::TAU;

use tandem_call::{LegEvent, Origin};
use tandem_media::{AudioFormat, Law, SampleRate, g711};
use tandem_rtp::{Direction, MediaParams};

use crate::world::{MU, PEER, World, assert_same, millis, params, voice};

const A: AudioFormat = AudioFormat::G711(Law::A);
const PCM8: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz8000);

/// The most of a tone that a model hears: what goes up before it is recognised.
const LEAK: usize = 36 * 8;

/// What the caller's telephone sends: from a sample on, for so many, a digit's tone; silence otherwise.
type Press = (usize, usize, char);

fn frequencies(digit: char) -> (f64, f64) {
    let keys = ["123A", "456B", "789C", "*0#D"];
    let row = keys.iter().position(|row| row.contains(digit)).expect("a key");
    let column = keys[row].find(digit).expect("a key");
    ([697.0, 770.0, 852.0, 941.0][row], [1_209.0, 1_336.0, 1_477.0, 1_633.0][column])
}

fn sound(presses: &[Press], samples: usize) -> Vec<i16> {
    let mut pcm = vec![0; samples];
    for &(begin, length, digit) in presses {
        let (low, high) = frequencies(digit);
        for (n, sample) in pcm[begin..begin + length].iter_mut().enumerate() {
            let time = n as f64 / 8_000.0;
            *sample =
                (5_000.0 * ((TAU * low * time).sin() + (TAU * high * time).sin())).round() as i16;
        }
    }
    pcm
}

/// A call without telephone-event whose caller's sound comes in packets of `frame` samples, those for which `lost` excepted.
fn call(
    law: Law,
    uplink: AudioFormat,
    pcm: &[i16],
    frame: usize,
    lost: impl Fn(usize) -> bool,
) -> World {
    let mut world = World::new(uplink);
    let payload_type = if law == Law::Mu { 0 } else { 8 };
    let agreed = MediaParams { codec: law.into(), payload_type, telephone_event: None, ..params() };
    world.leg.apply(world.now, agreed);
    world.peer.payload_type = payload_type;
    let mut payload = vec![0; pcm.len()];
    g711::encode(law, pcm, &mut payload);
    for (n, payload) in payload.chunks(frame).enumerate() {
        let bytes = world.next_packet(payload);
        if !lost(n) {
            let samples = (n + 1) * frame;
            world.arrive_from(SampleRate::Hz8000.duration_of(samples), PEER, bytes);
        }
    }
    world.run(SampleRate::Hz8000.duration_of(pcm.len()) + millis(40));
    world
}

fn digits(world: &World) -> String {
    let digit = |event| match event {
        LegEvent::Digit(digit) => Some(digit.as_char()),
        _ => None,
    };
    world.event_list().into_iter().filter_map(digit).collect()
}

/// Samples of sound in all that went up.
fn heard(world: &World, uplink: AudioFormat) -> usize {
    let bytes: Vec<u8> = world.frames.iter().flat_map(|frame| frame.audio.clone()).collect();
    let loud = |sample: i16| sample.unsigned_abs() > 64;
    match uplink {
        AudioFormat::G711(law) => {
            let mut pcm = vec![0; bytes.len()];
            g711::decode(law, &bytes, &mut pcm);
            pcm.into_iter().filter(|sample| loud(*sample)).count()
        }
        AudioFormat::Pcm16(rate) => {
            let samples = bytes.as_chunks::<2>().0.iter();
            let loud = samples.filter(|bytes| loud(i16::from_le_bytes(**bytes))).count();
            loud * 8_000 / rate.hz()
        }
    }
}

#[test]
fn every_digit_is_reported_once_and_its_tone_is_silenced() {
    for law in [Law::Mu, Law::A] {
        for uplink in [MU, A, PCM8, AudioFormat::Pcm16(SampleRate::Hz24000)] {
            let keys = "0123456789*#ABCD";
            // 100 ms of tone and 100 ms of pause, each at another offset to the packets.
            let presses: Vec<Press> =
                (0..).zip(keys.chars()).map(|(n, digit)| (800 + n * 1_611, 800, digit)).collect();
            let world = call(law, uplink, &sound(&presses, 27_200), 160, |_| false);
            let name = format!("{law:?} to {uplink:?}");
            assert_eq!(digits(&world), keys, "{name}");
            let heard = heard(&world, uplink);
            assert!(heard < keys.len() * LEAK, "{name}: {heard} samples of tone were heard");
            let speech = |event| matches!(event, LegEvent::SpeechStarted);
            assert!(!world.event_list().into_iter().any(speech), "{name}: a digit is no speech");
            assert!(world.frames.iter().any(|frame| frame.origin == Origin::Silence), "{name}");
            assert_eq!(world.frames.len(), 170, "{name}: nothing is added or left out");
            let due = (1..=170).map(|n| millis(20 * n));
            let times = world.frames.iter().map(|frame| frame.at);
            assert!(times.eq(due), "{name}: nothing is delayed");
        }
    }
}

#[test]
fn a_tone_is_silenced_from_the_packet_of_its_recognition_on() {
    for frame in [80, 160, 240, 480, 37] {
        for offset in [0, 1, 40, 79, 100, 159] {
            let begin = 1_600 + offset;
            let world = call(Law::Mu, MU, &sound(&[(begin, 800, '5')], 4_440), frame, |_| false);
            let name = format!("packets of {frame}, offset {offset}");
            assert_eq!(digits(&world), "5", "{name}");
            let up: Vec<u8> = world.frames.iter().flat_map(|it| it.audio.clone()).collect();
            let last = up.iter().rposition(|byte| *byte != 0xFF && *byte != 0x7F);
            let leaked = last.map_or(0, |last| (last + 1).saturating_sub(begin));
            assert!(leaked <= LEAK, "{name}: {leaked} samples");
            let at = world.events.iter().find(|(_, it)| matches!(it, LegEvent::Digit(_))).unwrap();
            let latest = SampleRate::Hz8000.duration_of(begin + LEAK + frame);
            assert!(at.0 <= latest, "{name}: at {:?}", at.0);
        }
    }
}

#[test]
fn lost_packets_make_no_second_digit_and_cost_none() {
    // A tone of 120 ms is in packets 10 to 15, or 16 where it begins within a packet.
    for offset in [0, 50, 120] {
        for lost in [vec![10], vec![11], vec![12], vec![13], vec![15], vec![12, 13], vec![13, 14]] {
            for law in [Law::Mu, Law::A] {
                let pcm = sound(&[(1_600 + offset, 960, '8'), (3_600, 960, '8')], 5_600);
                let world = call(law, MU, &pcm, 160, |n| lost.contains(&n));
                let name = format!("{law:?}, offset {offset}, without {lost:?}");
                assert_eq!(digits(&world), "88", "{name}");
                // Before it is recognised a tone may be lost and made up once, and begins anew.
                let heard = heard(&world, MU);
                assert!(heard < 3 * LEAK + lost.len() * 160, "{name}: {heard} samples");
            }
        }
    }
}

#[test]
fn a_tone_in_packets_that_wait_or_come_in_a_burst_is_heard_once() {
    for (name, delay) in [
        ("one is overtaken", (|n| u64::from(n == 12) * 50) as fn(u64) -> u64),
        ("jitter", |n| n * 37 % 31),
        ("a stall", |n| if (8..30).contains(&n) { (30 - n) * 20 } else { 0 }),
    ] {
        let mut world = World::new(MU);
        world.leg.apply(world.now, MediaParams { telephone_event: None, ..params() });
        let pcm = sound(&[(1_600, 800, '3'), (6_400, 800, '4')], 8_000);
        let payload = |n: u64| {
            let mut bytes = vec![0; 160];
            g711::encode(Law::Mu, &pcm[n as usize * 160..][..160], &mut bytes);
            bytes
        };
        world.peer_sends(50, payload, |n| Some(millis(20 + delay(n))));
        world.run(millis(1_100));
        assert_eq!(digits(&world), "34", "{name}");
    }
}

#[test]
fn silence_that_is_not_sent_parts_two_tones() {
    let mut world = World::new(MU);
    world.leg.apply(world.now, MediaParams { telephone_event: None, ..params() });
    for _ in 0..3 {
        let mut payload = vec![0; 480];
        g711::encode(Law::Mu, &sound(&[(0, 480, '1')], 480), &mut payload);
        for payload in payload.chunks(160) {
            let bytes = world.next_packet(payload);
            world.arrive_from(millis(0), PEER, bytes);
            world.run(millis(20));
        }
        // The media clock goes on by 60 ms and the sequence does not.
        world.peer.timestamp = world.peer.timestamp.wrapping_add(480);
        world.run(millis(60));
    }
    assert_eq!(digits(&world), "111");
}

#[test]
fn where_digits_are_telephone_events_tones_are_audio() {
    let pcm = sound(&[(0, 1_600, '6')], 1_600);
    let mut payload = vec![0; 1_600];
    g711::encode(Law::Mu, &pcm, &mut payload);
    let mut world = World::answered(MU);
    world.peer_sends(10, |n| payload[n as usize * 160..][..160].to_vec(), |_| Some(millis(20)));
    world.run(millis(205));
    assert_same(&world.heard_by_model(Origin::Caller), &payload, "untouched");
    assert_eq!(digits(&world), "");
    // Renegotiated without, the same tone is a digit; and audio again after that.
    world.leg.apply(world.now, MediaParams { telephone_event: None, ..params() });
    world.peer_sends(10, |n| payload[n as usize * 160..][..160].to_vec(), |_| Some(millis(20)));
    world.run(millis(200));
    assert_eq!(digits(&world), "6");
    world.leg.apply(world.now, params());
    let before = world.heard_by_model(Origin::Caller).len();
    world.peer_sends(10, |n| payload[n as usize * 160..][..160].to_vec(), |_| Some(millis(20)));
    world.run(millis(200));
    assert_eq!(digits(&world), "6");
    assert_same(&world.heard_by_model(Origin::Caller)[before..], &payload, "untouched again");
}

#[test]
fn speech_without_telephone_event_goes_up_untouched() {
    let mut world = World::new(MU);
    world.leg.apply(world.now, MediaParams { telephone_event: None, ..params() });
    world.peer_sends(100, voice, |_| Some(millis(20)));
    world.run(millis(2_010));
    let spoken: Vec<u8> = (0..100).flat_map(voice).collect();
    assert_same(&world.heard_by_model(Origin::Caller), &spoken, "speech");
    assert_eq!(digits(&world), "");
}

#[test]
fn music_on_hold_presses_no_keys() {
    let mut world = World::new(MU);
    let held = MediaParams { telephone_event: None, direction: Direction::RecvOnly, ..params() };
    world.leg.apply(world.now, held);
    let pcm = sound(&[(0, 1_600, '6')], 1_600);
    let mut payload = vec![0; 1_600];
    g711::encode(Law::Mu, &pcm, &mut payload);
    world.peer_sends(10, |n| payload[n as usize * 160..][..160].to_vec(), |_| Some(millis(20)));
    world.run(millis(300));
    assert_eq!(digits(&world), "");
}
