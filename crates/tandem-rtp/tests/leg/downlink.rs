use std::time::Duration;

use tandem_call::{Cut, Digit, ItemId, LegEvent, MediaLeg};
use tandem_media::{AudioFormat, Codec, Law, Ptime, SampleRate, g711};
use tandem_rtp::{RtpPacket, SendDigitsError};

use crate::world::{MU, World, address, assert_same, millis, numbered, params, voice};

const ITEM: ItemId = ItemId(1);
const STARTED: LegEvent = LegEvent::PlayoutStarted { item: ITEM };
const DRAINED: LegEvent = LegEvent::PlayoutDrained { item: ITEM };

/// `ms` of audio in which each 20 ms can be told apart.
fn speech(ms: u64) -> Vec<u8> {
    (0..ms / 20).flat_map(numbered).collect()
}

/// Payloads sent, silence left out.
fn sent_audio(world: &World) -> Vec<u8> {
    let audio = world.sent.iter().filter(|sent| sent.payload_type == 0 && !sent.is_silence());
    audio.flat_map(|sent| sent.payload.clone()).collect()
}

#[test]
fn silence_is_sent_from_the_answer_on_and_trails_the_clock() {
    let mut world = World::answered(MU);
    world.run(millis(1_000));
    assert_eq!(world.sent.len(), 51);
    for (n, sent) in (0u64..).zip(&world.sent) {
        assert_eq!((sent.at, sent.to), (millis(20 * n), address("192.0.2.1:4000")));
        assert!(sent.is_silence() && sent.payload.len() == 160 && !sent.marker);
        assert_eq!(sent.timestamp, (u32::MAX - 2_160).wrapping_add(160 * n as u32));
    }
    world.assert_stream_is_honest();
}

#[test]
fn the_first_audio_leaves_at_once_and_the_rest_on_its_grid() {
    let mut world = World::answered(MU);
    world.run(millis(1_007));
    world.play(1, MU, &speech(200));
    world.end_item(1);
    let first = world.sent.last().unwrap().clone();
    assert_eq!(first.at, millis(1_007));
    assert!(first.marker && first.payload == numbered(0));
    assert_eq!(first.timestamp, (u32::MAX - 2_000).wrapping_add(1_007 * 8), "honest");
    assert_eq!(world.when(&STARTED), Some(millis(1_007)));
    let before = world.sent.len();
    world.run(millis(1_000));
    for n in 1..10u64 {
        let sent = &world.sent[before + n as usize - 1];
        assert_eq!((sent.at, sent.marker), (millis(1_007 + 20 * n), false));
        assert_eq!(sent.payload, numbered(n));
        assert_eq!(sent.timestamp, first.timestamp.wrapping_add(160 * n as u32));
    }
    // The last packet left at 1,187; it is played 20 ms later, and silence trails from there.
    assert_eq!(world.when(&DRAINED), Some(millis(1_207)));
    let silence = &world.sent[before + 9];
    assert!(silence.is_silence());
    assert_eq!(silence.at, millis(1_227));
    assert_eq!(silence.timestamp, first.timestamp.wrapping_add(1_600));
    world.assert_stream_is_honest();
}

#[test]
fn a_model_that_bursts_is_played_in_real_time() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &speech(60_000));
    world.end_item(1);
    world.run(millis(30_000));
    assert_eq!(world.leg.queued(), millis(30_000 - 20));
    assert_eq!(world.leg.heard(ITEM), Some(millis(30_020)));
    world.run(millis(31_000));
    assert_same(&sent_audio(&world), &speech(60_000), "");
    world.assert_stream_is_honest();
}

#[test]
fn the_last_packet_is_filled_up_with_silence() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &speech(40)[..200]);
    world.end_item(1);
    world.run(millis(100));
    let last = world.sent.iter().rev().find(|sent| !sent.is_silence()).unwrap();
    assert_eq!(last.payload[..40], numbered(1)[..40]);
    assert!(last.payload[40..].iter().all(|byte| *byte == 0xFF));
    assert_eq!(world.leg.counters().underruns, 0);
}

#[test]
fn clearing_stops_at_once_and_tells_what_was_heard() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &speech(400));
    world.play(2, MU, &speech(100));
    world.run(millis(90));
    world.clear();
    // Packets left at 100, 120, 140, 160 and 180 ms.
    assert_eq!(
        world.event_list(),
        [
            STARTED,
            LegEvent::PlayoutCleared {
                cut: vec![
                    Cut { item: ITEM, heard: millis(100), received: millis(400) },
                    Cut { item: ItemId(2), heard: millis(0), received: millis(100) },
                ]
            }
        ]
    );
    let before = world.sent.len();
    world.run(millis(500));
    let fade = &world.sent[before];
    assert_eq!((fade.at, fade.marker), (millis(200), false), "in the next packet");
    assert!(fade.payload[40..].iter().all(|byte| *byte == 0xFF), "of 5 ms");
    assert!(world.sent[before + 1..].iter().all(|sent| sent.is_silence()));
    assert_eq!(world.leg.heard(ITEM), Some(millis(100)), "what faded out was not heard");
    assert_eq!(world.events.len(), 2, "a cut item does not drain");
    world.clear();
    assert_eq!(world.event_list()[2], LegEvent::PlayoutCleared { cut: vec![] });
    world.play(3, MU, &speech(40));
    assert!(world.sent.last().unwrap().marker, "what follows starts anew");
    world.run(millis(100));
    world.assert_stream_is_honest();
}

#[test]
fn an_item_whose_last_packet_is_out_drains_even_when_cleared() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &speech(40));
    world.run(millis(30));
    world.clear();
    world.run(millis(100));
    assert_eq!(
        world.events,
        [
            (millis(100), STARTED),
            (millis(130), LegEvent::PlayoutCleared { cut: vec![] }),
            (millis(140), DRAINED)
        ]
    );
}

#[test]
fn items_follow_each_other_without_a_gap() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &speech(40)[..200]);
    world.end_item(1);
    world.play(2, MU, &speech(40)[..280]);
    world.end_item(2);
    world.run(millis(200));
    let second = LegEvent::PlayoutStarted { item: ItemId(2) };
    assert_eq!(
        world.events,
        [
            (millis(100), STARTED),
            (millis(120), second),
            (millis(140), DRAINED),
            (millis(160), LegEvent::PlayoutDrained { item: ItemId(2) }),
        ]
    );
    assert_eq!(sent_audio(&world).len(), 480);
}

#[test]
fn after_an_underrun_a_cushion_grows() {
    let mut world = World::answered(MU);
    world.run(millis(1_000));
    world.play(1, MU, &speech(100));
    world.run(millis(300));
    assert_eq!(world.when(&DRAINED), Some(millis(1_100)));
    assert_eq!(world.leg.counters().underruns, 0, "nobody knows yet that it was not the end");
    let before = world.sent.len();
    world.play(1, MU, &speech(20)); // At 1,300: it was not.
    assert_eq!(world.leg.counters().underruns, 1);
    world.run(millis(10));
    world.play(1, MU, &speech(60));
    world.run(millis(1));
    let first = world.sent[before..].iter().find(|sent| !sent.is_silence()).unwrap();
    assert_eq!(first.at, millis(1_310), "40 ms are there");
    assert_eq!(first.timestamp, (u32::MAX - 2_000).wrapping_add(1_310 * 8));
    world.run(millis(2_000));
    let before = world.sent.len();
    world.play(2, MU, &speech(20));
    world.run(millis(100));
    let first = world.sent[before..].iter().find(|sent| !sent.is_silence()).unwrap();
    assert_eq!(first.at, millis(3_311 + 40), "40 ms have passed");
    world.run(Duration::from_secs(30));
    let before = world.sent.len();
    world.play(3, MU, &speech(20));
    assert_eq!(world.sent.len(), before + 1, "the cushion is gone again");
    world.assert_stream_is_honest();
}

#[test]
fn a_short_item_that_has_ended_waits_for_no_cushion() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &speech(40));
    world.run(millis(200));
    world.play(1, MU, &speech(20));
    world.end_item(1);
    assert_eq!(world.sent.last().unwrap().at, millis(300));
}

#[test]
fn audio_that_comes_just_in_time_is_no_underrun() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    for n in 0..50 {
        world.play(1, MU, &numbered(n));
        world.run(millis(if n == 0 { 19 } else { 20 }));
    }
    world.end_item(1);
    world.run(millis(100));
    assert_eq!(world.leg.counters().underruns, 0);
    assert_same(&sent_audio(&world), &speech(1_000), "");
    let drained = world.event_list().into_iter().filter(|event| *event == DRAINED).count();
    assert_eq!(drained, 1);
    world.assert_stream_is_honest();
}

#[test]
fn a_hole_in_a_packet_is_an_underrun_too() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &speech(40)[..300]);
    world.run(millis(25));
    world.play(1, MU, &speech(20));
    assert_eq!(world.leg.counters().underruns, 1);
}

#[test]
fn a_late_caller_sends_three_packets_at_most_and_honest_timestamps() {
    for (speaking, name) in [(true, "speaking"), (false, "silent")] {
        let mut world = World::answered(MU);
        world.run(millis(100));
        if speaking {
            world.play(1, MU, &speech(2_000));
            world.end_item(1);
        }
        world.run(millis(100));
        let before = world.sent.len();
        world.now += millis(333);
        world.drain();
        assert_eq!(world.sent.len() - before, 3, "{name}");
        world.run(millis(3_000));
        let mut instants: Vec<_> = world.sent[before + 3..].iter().map(|sent| sent.at).collect();
        instants.dedup();
        assert_eq!(instants.len(), world.sent.len() - before - 3, "{name}: one packet at a time");
        if speaking {
            assert_same(&sent_audio(&world), &speech(2_000), "nothing of it is lost");
        }
        world.assert_stream_is_honest();
    }
}

#[test]
fn a_timer_that_is_always_late_does_not_make_the_stream_slower() {
    let mut world = World::answered(MU);
    world.lateness = Duration::from_micros(1_900);
    world.run(millis(100));
    world.play(1, MU, &speech(20_000));
    world.end_item(1);
    let start = world.sent.last().unwrap().clone();
    world.run(millis(20_100));
    let last = world.sent.iter().rev().find(|sent| !sent.is_silence()).unwrap();
    assert_eq!(last.timestamp, start.timestamp.wrapping_add(999 * 160));
    assert_eq!(last.at, start.at + millis(999 * 20) + world.lateness);
}

#[test]
fn a_pause_keeps_the_queue() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &speech(200));
    world.end_item(1);
    world.run(millis(50));
    world.leg.pause(world.now, true);
    let before = world.sent.len();
    world.run(millis(1_000));
    assert!(world.sent[before + 1..].iter().all(|sent| sent.is_silence()));
    assert_eq!(world.events.len(), 1, "paused is not drained");
    assert_eq!(world.leg.heard(ITEM), Some(millis(60)));
    world.leg.pause(world.now, false);
    world.run(millis(500));
    let (mut sent, mut expected) = (sent_audio(&world), speech(200));
    assert_same(&sent[..480], &expected[..480], "before the pause");
    // A packet that fades out, and the same samples again, which fade in.
    sent.drain(..480 + 160 + 40);
    expected.drain(..480 + 40);
    assert_same(&sent, &expected, "after the pause");
    assert!(world.when(&DRAINED).is_some());
    world.assert_stream_is_honest();
}

#[test]
fn audio_that_waits_for_the_answer_starts_with_it() {
    let mut world = World::new(MU);
    world.play(1, MU, &speech(100));
    world.end_item(1);
    assert_eq!(world.leg.next_send(), None);
    world.run(millis(700));
    assert_eq!(world.sent, []);
    world.leg.apply(world.now, params());
    world.run(millis(200));
    assert_eq!(world.sent[0].at, millis(700));
    assert!(world.sent[0].marker);
    assert_eq!(world.sent[1].at, millis(720));
    assert_same(&sent_audio(&world), &speech(100), "");
    world.assert_stream_is_honest();
}

#[test]
fn packets_are_as_long_as_was_asked_for() {
    for ms in [10, 20, 30, 40, 60] {
        let mut world = World::new(MU);
        world
            .leg
            .apply(world.now, tandem_rtp::MediaParams { ptime: Ptime::nearest(ms), ..params() });
        world.run(millis(600));
        world.play(1, MU, &speech(1_200));
        world.end_item(1);
        world.run(millis(2_400));
        assert_same(&sent_audio(&world), &speech(1_200), &format!("{ms} ms"));
        assert!(world.sent.iter().all(|sent| sent.payload.len() == ms as usize * 8), "{ms} ms");
        world.assert_stream_is_honest();
    }
}

#[test]
fn every_model_format_reaches_the_caller() {
    let tone = |rate: f64| -> Vec<i16> {
        (0..rate as usize / 2)
            .map(|n| (9000.0 * (std::f64::consts::TAU * 440.0 * n as f64 / rate).sin()) as i16)
            .collect()
    };
    let mut expected = vec![0; 4000];
    g711::encode(Law::A, &tone(8000.0), &mut expected);
    let mut mu = vec![0; 4000];
    g711::encode(Law::Mu, &tone(8000.0), &mut mu);
    let pcm = |rate: f64| tone(rate).iter().flat_map(|s| s.to_le_bytes()).collect::<Vec<u8>>();
    for (format, audio) in [
        (AudioFormat::G711(Law::A), expected.clone()),
        (AudioFormat::G711(Law::Mu), mu),
        (AudioFormat::Pcm16(SampleRate::Hz8000), pcm(8e3)),
        (AudioFormat::Pcm16(SampleRate::Hz16000), pcm(16e3)),
        (AudioFormat::Pcm16(SampleRate::Hz24000), pcm(24e3)),
        (AudioFormat::Pcm16(SampleRate::Hz48000), pcm(48e3)),
    ] {
        let mut world = World::new(MU);
        let params = tandem_rtp::MediaParams { codec: Codec::PCMA, payload_type: 8, ..params() };
        world.leg.apply(world.now, params);
        world.run(millis(100));
        for chunk in audio.chunks(777) {
            world.play(1, format, chunk);
        }
        world.end_item(1);
        world.run(millis(600));
        let sent: Vec<u8> = world
            .sent
            .iter()
            .filter(|sent| sent.payload.iter().any(|byte| *byte != 0xD5))
            .flat_map(|sent| sent.payload.clone())
            .collect();
        assert_eq!(sent.len(), 4000, "{format:?}");
        let (mut pcm, mut wanted) = (vec![0; 4000], vec![0; 4000]);
        g711::decode(Law::A, &sent, &mut pcm);
        g711::decode(Law::A, &expected, &mut wanted);
        for n in 40..3960 {
            let error = (i32::from(pcm[n]) - i32::from(wanted[n])).abs();
            // Up to half a sample beside the other: 1,550 at the steepest.
            assert!(error < 2_000, "{format:?}: sample {n} is {error} off");
        }
        assert_eq!(world.leg.heard(ITEM), Some(millis(500)));
    }
}

#[test]
fn a_codec_change_takes_the_queue_along() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    world.play(1, MU, &(0..20).flat_map(voice).collect::<Vec<_>>());
    world.run(millis(90));
    let before = world.sent.len();
    let changed = tandem_rtp::MediaParams { codec: Codec::PCMA, payload_type: 8, ..params() };
    world.leg.apply(world.now, changed);
    world.run(millis(300));
    let packet = &world.sent[before];
    assert_eq!(packet.payload_type, 8);
    let mut expected = voice(5);
    g711::transcode(Law::Mu, Law::A, &mut expected);
    assert_eq!(packet.payload, expected);
    world.assert_stream_is_honest();
}

#[test]
fn digits_take_the_place_of_audio_and_audio_goes_on_after_them() {
    for speaking in [false, true] {
        let mut world = World::answered(MU);
        world.run(millis(107));
        if speaking {
            world.play(1, MU, &speech(400));
            world.end_item(1);
        }
        world.run(millis(50));
        let digits: Vec<_> = "4#".chars().map(|c| Digit::new(c).unwrap()).collect();
        world.leg.send_digits(world.now, &digits).unwrap();
        world.run(millis(1_000));
        let events: Vec<_> = world.sent.iter().filter(|sent| sent.payload_type == 101).collect();
        assert_eq!(events.len(), 16);
        assert_eq!(events[0].payload, [4, 10, 0, 160]);
        assert_eq!(events[7].payload, [4, 0x8A, 3, 32]);
        assert_eq!(events[8].payload, [11, 10, 0, 160]);
        assert!(events[..8].iter().all(|event| event.timestamp == events[0].timestamp));
        assert_eq!(events.iter().filter(|event| event.marker).count(), 2);
        let apart = events[8].timestamp.wrapping_sub(events[0].timestamp);
        assert!(apart >= 800 + 400, "{apart}");
        assert_eq!(events[0].at, if speaking { millis(167) } else { millis(157) });
        if speaking {
            // It fades in after the first digit, where it goes on, and not again after the second.
            let (sent, expected) = (sent_audio(&world), speech(400));
            let differing: Vec<_> =
                (0..expected.len()).filter(|n| sent[*n] != expected[*n]).collect();
            assert_eq!(sent.len(), expected.len());
            assert!(differing.iter().all(|n| n % 160 < 40), "{differing:?}");
            assert!(differing.last().unwrap() - differing[0] < 480, "{differing:?}");
        }
        world.assert_stream_is_honest();
    }
}

#[test]
fn digits_need_telephone_event() {
    let mut world = World::new(MU);
    let digit = [Digit::new('1').unwrap()];
    assert_eq!(world.leg.send_digits(world.now, &digit), Err(SendDigitsError::NotNegotiated));
    world.leg.apply(world.now, tandem_rtp::MediaParams { telephone_event: None, ..params() });
    assert_eq!(world.leg.send_digits(world.now, &digit), Err(SendDigitsError::NotNegotiated));
    world.leg.apply(world.now, params());
    let many = digit.repeat(65);
    assert_eq!(world.leg.send_digits(world.now, &many), Err(SendDigitsError::TooMany));
}

#[test]
fn the_queue_is_bounded() {
    let mut world = World::answered(MU);
    let minute = vec![1; 60 * 8000];
    for _ in 0..11 {
        world.play(1, MU, &minute);
    }
    assert!(world.leg.counters().playout_refused >= 59 * 8000);
    assert!(world.leg.queued() <= Duration::from_secs(600));
}

#[test]
fn what_is_sent_is_valid_rtp() {
    let mut world = World::answered(MU);
    let mut bytes = Vec::new();
    world.now += millis(20);
    while let Some(transmit) = world.leg.poll_transmit(world.now) {
        bytes = transmit.bytes.to_vec();
    }
    assert_eq!(bytes.len(), 172);
    assert_eq!(bytes[..2], [0x80, 0]);
    assert!(RtpPacket::parse(&bytes).is_ok());
}

#[test]
fn the_rest_in_the_resampler_is_no_click_long_after_the_item() {
    const PCM24: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);
    let loud: Vec<u8> = [0x20, 0x4E].repeat(24 * 200);
    for (name, prompt) in [("its end", None), ("another item", Some(speech(40)))] {
        let mut world = World::answered(MU);
        world.run(millis(100));
        world.play(1, PCM24, &loud);
        world.run(millis(2_000));
        let before = sent_audio(&world).len();
        let length = prompt.as_ref().map_or(0, Vec::len);
        match prompt {
            None => world.end_item(1),
            Some(prompt) => {
                world.play(2, MU, &prompt);
                world.end_item(2);
            }
        }
        world.run(millis(1_000));
        assert_eq!(sent_audio(&world).len() - before, length, "{name}");
        assert_eq!(world.leg.counters().underruns, 0, "{name}");
        world.assert_stream_is_honest();
    }
}
