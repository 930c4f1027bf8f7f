use std::time::Duration;

use tandem_call::{Digit, LegEvent, MediaLeg, Origin};
use tandem_media::{AudioFormat, Law, SampleRate, g711};
use tandem_rtp::TelephoneEvent;

use crate::world::{MU, World, assert_same, millis, numbered, voice};

/// Numbers from a seed, spread well enough for a test.
fn random(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % below
}

#[test]
fn packets_in_order_go_up_untouched_and_at_once() {
    let mut world = World::answered(MU);
    world.peer_sends(100, numbered, |_| Some(millis(20)));
    world.run(millis(2_010));
    let caller: Vec<_> =
        world.frames.iter().filter(|frame| frame.origin == Origin::Caller).collect();
    assert_eq!(caller.len(), 100);
    for (n, frame) in (0u64..).zip(caller) {
        assert_eq!((frame.at, &frame.audio), (millis(20 * n + 20), &numbered(n)), "packet {n}");
    }
    assert_eq!(world.frames.len(), 100, "nothing was made up");
}

#[test]
fn lost_packets_are_concealed_and_the_others_stay_as_they_were() {
    let mut world = World::answered(MU);
    let lost = |n: u64| n % 10 == 5 || (50..53).contains(&n);
    world.peer_sends(100, voice, |n| (!lost(n)).then_some(millis(20)));
    world.run(millis(2_200));
    let arrived: Vec<u8> = (0..100).filter(|n| !lost(*n)).flat_map(voice).collect();
    assert_same(&world.heard_by_model(Origin::Caller), &arrived, "");
    let concealed = world.heard_by_model(Origin::Concealed);
    // 13 packets, and 60 ms after the end of the stream.
    assert_eq!(concealed.len(), 13 * 160 + 480);
    let mut pcm = vec![0; 160];
    g711::decode(Law::Mu, &concealed[..160], &mut pcm);
    assert!(pcm.iter().any(|sample| sample.unsigned_abs() > 2_000), "the voice goes on");
    assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{:?}", world.lead);
    assert_eq!(world.leg.quality().packets_lost, 13);
}

#[test]
fn a_gap_waits_60_ms_for_a_packet_that_was_overtaken() {
    let mut world = World::answered(MU);
    world.peer_sends(10, numbered, |n| Some(millis(if n == 5 { 79 } else { 20 })));
    world.run(millis(300));
    assert_same(
        &world.heard_by_model(Origin::Caller),
        &(0..10).flat_map(numbered).collect::<Vec<_>>(),
        "",
    );
    let late = world.frames.iter().find(|frame| frame.audio == numbered(6)).unwrap();
    assert_eq!(late.at, millis(5 * 20 + 79), "with the packet it waited for");
    assert_eq!(world.leg.quality().packets_late, 0);
}

#[test]
fn nothing_is_lost_or_made_up_at_20_ms_of_jitter() {
    for seed in 0..20 {
        let mut world = World::answered(MU);
        let delays: Vec<_> = {
            let mut state = seed;
            // The first packet is on time: the stream begins with whatever comes first.
            (0..500)
                .map(|n| Duration::from_micros(if n == 0 { 0 } else { random(&mut state, 40_000) }))
                .collect()
        };
        world.peer_sends(500, voice, |n| Some(delays[n as usize]));
        world.run(millis(10_025));
        assert_same(
            &world.heard_by_model(Origin::Caller),
            &(0..500).flat_map(voice).collect::<Vec<_>>(),
            &format!("seed {seed}"),
        );
        assert_eq!(world.heard_by_model(Origin::Concealed).len(), 0, "seed {seed}");
        assert_eq!(world.leg.quality().packets_late, 0, "seed {seed}");
        assert_eq!(world.leg.counters().duplicates, 0, "seed {seed}");
    }
}

#[test]
fn the_uplink_keeps_time_while_nothing_comes() {
    let mut world = World::answered(MU);
    world.run(millis(1_000));
    assert!(world.lead.0 >= -100, "silence from the answer on: {:?}", world.lead);
    world.peer_sends(50, voice, |_| Some(millis(20)));
    world.run(millis(1_020));
    let before = world.frames.len();
    // Silence suppression: five seconds without packets, then the clock has gone on.
    world.run(millis(5_000));
    let fill = &world.frames[before..];
    assert!(fill.iter().all(|frame| frame.origin != Origin::Caller));
    assert_eq!(fill.iter().filter(|frame| frame.origin == Origin::Concealed).count(), 3, "60 ms");
    assert!((245..=250).contains(&fill.len()), "{}", fill.len());
    world.peer.timestamp = world.peer.timestamp.wrapping_add(5_000 * 8);
    world.peer_sends(50, voice, |_| Some(millis(20)));
    world.run(millis(1_000));
    assert_eq!(world.heard_by_model(Origin::Caller).len(), 100 * 160);
    assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{:?}", world.lead);
    assert_eq!(world.leg.counters().uplink_surplus, 0);
}

#[test]
fn of_a_late_burst_the_oldest_is_dropped() {
    for stall in [200, 300, 1_000, 3_000] {
        let mut world = World::answered(MU);
        let late = |n: u64| {
            let sent = 20 * n;
            let until = 1_000 + stall;
            Some(millis(if (1_000..until).contains(&sent) { until - sent } else { 0 } + 20))
        };
        world.peer_sends(300, voice, late);
        world.run(millis(6_000));
        assert!(world.lead.0 >= -100 && world.lead.1 <= 105, "{stall}: {:?}", world.lead);
        let dropped = world.leg.counters().uplink_surplus;
        let burst = stall / 20;
        assert!(dropped < burst && dropped + 10 >= burst.min(12), "{stall}: {dropped} of {burst}");
        // The newest of the burst, and all after it, were heard.
        let heard = world.heard_by_model(Origin::Caller);
        let tail: Vec<u8> = (50 + burst - 4..300).flat_map(voice).collect();
        assert!(heard.ends_with(&tail), "{stall}");
    }
}

#[test]
fn a_late_burst_with_a_hole_keeps_time_too() {
    let mut world = World::answered(MU);
    let late = |n: u64| match n {
        50..60 => None,
        60..100 => Some(millis(2_020 - 20 * n)),
        _ => Some(millis(20)),
    };
    world.peer_sends(200, voice, late);
    world.run(millis(4_000));
    assert!(world.lead.0 >= -100 && world.lead.1 <= 105, "{:?}", world.lead);
    let tail: Vec<u8> = (97..200).flat_map(voice).collect();
    assert!(world.heard_by_model(Origin::Caller).ends_with(&tail));
}

#[test]
fn a_longer_path_costs_nothing_but_the_pause() {
    let mut world = World::answered(MU);
    world.peer_sends(200, voice, |n| Some(millis(if n < 100 { 20 } else { 420 })));
    world.run(millis(5_000));
    assert_eq!(world.leg.counters().uplink_surplus, 0);
    assert_eq!(world.heard_by_model(Origin::Caller).len(), 200 * 160);
}

#[test]
fn a_clock_that_runs_wrong_is_followed() {
    for (name, interval_us) in [("fast", 19_990), ("slow", 20_010)] {
        let mut world = World::answered(MU);
        for n in 0..30_000u64 {
            let bytes = world.next_packet(&voice(n));
            world.arrive_from(Duration::from_micros(interval_us * n), crate::world::PEER, bytes);
        }
        world.run(Duration::from_secs(590));
        assert!(world.lead.0 >= -100 && world.lead.1 <= 105, "{name}: {:?}", world.lead);
        let made_up = world.frames.iter().filter(|f| f.origin != Origin::Caller).count();
        let dropped = world.leg.counters().uplink_surplus;
        assert!(made_up + dropped as usize <= 20, "{name}: {made_up} made up, {dropped} dropped");
    }
}

#[test]
fn packets_of_any_length_and_both_laws_are_taken() {
    for samples in [1, 37, 80, 160, 240, 480, 700] {
        for (payload_type, law) in [(0, Law::Mu), (8, Law::A)] {
            let mut world = World::answered(AudioFormat::Pcm16(SampleRate::Hz8000));
            world.peer.payload_type = payload_type;
            let payload: Vec<u8> = (0..samples).map(|k| k as u8).collect();
            let mut pcm = vec![0; samples];
            g711::decode(law, &payload, &mut pcm);
            for _ in 0..5 {
                let bytes = world.next_packet(&payload);
                world.arrive_from(Duration::ZERO, crate::world::PEER, bytes);
                world.run(Duration::from_micros(samples as u64 * 125));
            }
            let expected: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
            assert_same(
                &world.heard_by_model(Origin::Caller),
                &expected.repeat(5),
                &format!("{samples} of {law:?}"),
            );
        }
    }
}

#[test]
fn a_loss_before_a_tiny_packet_is_no_trouble() {
    let mut world = World::answered(MU);
    for (n, samples) in [160, 160, 160, 3, 1, 160].into_iter().enumerate() {
        let bytes = world.next_packet(&voice(0)[..samples]);
        if n != 2 {
            world.arrive_from(millis(20 * n as u64), crate::world::PEER, bytes);
        }
    }
    world.run(millis(300));
    assert_eq!(world.heard_by_model(Origin::Caller).len(), 4 * 160 + 4 - 160);
    assert!(!world.heard_by_model(Origin::Concealed).is_empty());
}

#[test]
fn foreign_payload_types_comfort_noise_and_empty_packets_are_no_audio() {
    let mut world = World::answered(MU);
    for n in 0..40u64 {
        let (payload, payload_type) = match n % 4 {
            0 => (voice(n), 0),
            1 => (vec![40], 13),
            2 => (vec![1, 2, 3], 77),
            _ => (vec![], 0),
        };
        let timestamp = world.peer.timestamp.wrapping_add(160 * n as u32);
        let bytes = world.packet_with(&payload, payload_type, timestamp);
        world.arrive_from(millis(20 * n + 20), crate::world::PEER, bytes);
    }
    world.run(millis(900));
    assert_eq!(world.heard_by_model(Origin::Caller).len(), 10 * 160);
    assert_eq!(world.heard_by_model(Origin::Concealed).len(), 0, "comfort noise means silence");
    assert_eq!(world.leg.counters().unknown_payload, 10);
    assert_eq!(world.leg.quality().packets_lost, 0);
    assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{:?}", world.lead);
}

#[test]
fn every_uplink_format_is_as_long_as_the_call() {
    for (format, per_packet) in [
        (MU, 160),
        (AudioFormat::G711(Law::A), 160),
        (AudioFormat::Pcm16(SampleRate::Hz8000), 320),
        (AudioFormat::Pcm16(SampleRate::Hz16000), 640),
        (AudioFormat::Pcm16(SampleRate::Hz24000), 960),
    ] {
        let mut world = World::answered(format);
        world.peer_sends(100, voice, |_| Some(millis(20)));
        world.run(millis(2_000));
        let heard = world.heard_by_model(Origin::Caller);
        assert_eq!(heard.len(), 100 * per_packet, "{format:?}");
    }
}

#[test]
fn another_model_may_take_another_format() {
    let mut world = World::answered(MU);
    world.peer_sends(20, voice, |_| Some(millis(20)));
    world.run(millis(205));
    world.leg.set_uplink(AudioFormat::Pcm16(SampleRate::Hz24000));
    world.run(millis(200));
    let lengths: Vec<_> = world.frames.iter().map(|frame| frame.audio.len()).collect();
    assert_eq!(lengths, [[160; 10], [960; 10]].concat());
}

#[test]
fn a_new_source_starts_without_a_gap() {
    for (name, ssrc, sequence) in [("another SSRC", 77, 5), ("a jump", 9, 30_000)] {
        let mut world = World::answered(MU);
        world.peer_sends(50, voice, |_| Some(millis(20)));
        world.run(millis(1_000));
        (world.peer.ssrc, world.peer.sequence, world.peer.timestamp) = (ssrc, sequence, 12_345);
        world.peer_sends(50, voice, |_| Some(millis(20)));
        world.run(millis(1_005));
        assert_eq!(world.heard_by_model(Origin::Caller).len(), 100 * 160, "{name}");
        assert_eq!(world.frames.len(), 100, "{name}: nothing made up");
        assert_eq!(world.leg.quality().packets_lost, 0, "{name}");
    }
}

#[test]
fn what_waited_behind_a_gap_goes_up_before_a_new_source() {
    for (name, ssrc, sequence) in [("another SSRC", 77, 5), ("a jump", 9, 30_000)] {
        let mut world = World::answered(MU);
        // The last packet but two is lost, and the new source comes before the gap is given up.
        world.peer_sends(50, numbered, |n| (n != 47).then_some(millis(20)));
        world.run(millis(1_005));
        (world.peer.ssrc, world.peer.sequence, world.peer.timestamp) = (ssrc, sequence, 12_345);
        world.peer_sends(50, |n| numbered(50 + n), |_| Some(millis(15)));
        world.run(millis(1_005));
        let expected: Vec<u8> = (0..100).filter(|n| *n != 47).flat_map(numbered).collect();
        assert_same(&world.heard_by_model(Origin::Caller), &expected, name);
        assert_eq!(world.heard_by_model(Origin::Concealed).len(), 160, "{name}");
        let made_up = world.frames.iter().position(|frame| frame.origin == Origin::Concealed);
        assert_eq!((made_up, world.frames.len()), (Some(47), 100), "{name}: in its place");
        let quality = world.leg.quality();
        assert_eq!((quality.packets_lost, quality.packets_late), (1, 0), "{name}");
        assert_eq!(world.leg.counters().uplink_surplus, 0, "{name}");
        assert!(quality.mos.unwrap() < 4.36, "{name}: {:?}", quality.mos);
    }
}

#[test]
fn digits_are_reported_once_and_at_their_first_packet() {
    let mut world = World::answered(MU);
    world.peer_sends(10, voice, |_| Some(millis(20)));
    world.run(millis(200));
    let event = |duration, end| TelephoneEvent { event: 5, end, volume: 10, duration };
    for n in 0..8u64 {
        let (duration, end) = (160 * (n.min(4) as u16 + 1), n >= 5);
        let bytes = world.next_event(event(duration, end), 0);
        if n != 3 {
            world.arrive_from(millis(20 * n + 20), crate::world::PEER, bytes);
        }
    }
    world.peer.timestamp = world.peer.timestamp.wrapping_add(8 * 160);
    world.run(millis(160));
    world.peer_sends(10, voice, |_| Some(millis(20)));
    world.run(millis(200));
    let digit = LegEvent::Digit(Digit::new('5').unwrap());
    assert_eq!(world.when(&digit), Some(millis(220)));
    assert_eq!(world.events.iter().filter(|(_, event)| *event == digit).count(), 1);
    assert_eq!(world.heard_by_model(Origin::Caller).len(), 20 * 160);
    assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{:?}", world.lead);
}

#[test]
fn a_flood_of_digits_is_bounded() {
    let mut world = World::answered(MU);
    for n in 0..1_000u32 {
        let event = TelephoneEvent { event: 1, end: true, volume: 0, duration: 160 };
        world.peer.timestamp = n * 800;
        let bytes = world.next_event(event, 0);
        let _ = world.leg.handle_rtp(world.now, crate::world::address(crate::world::PEER), &bytes);
    }
    world.drain();
    assert_eq!(world.events.len(), 256);
    assert_eq!(world.leg.counters().events_dropped, 744);
}

#[test]
fn speech_is_noticed_with_the_time_of_its_last_sample() {
    let mut world = World::answered(MU);
    let quiet = vec![0xFF; 160];
    world.peer_sends(
        200,
        |n| if (50..100).contains(&n) { voice(n) } else { quiet.clone() },
        |_| Some(millis(20)),
    );
    world.run(millis(4_100));
    let started = world.when(&LegEvent::SpeechStarted).unwrap();
    assert!((millis(1_040)..=millis(1_100)).contains(&started), "{started:?}");
    let (at, ago) = world
        .events
        .iter()
        .find_map(|(at, event)| match event {
            LegEvent::SpeechStopped { ago } => Some((*at, *ago)),
            _ => None,
        })
        .unwrap();
    let last = at - ago;
    assert!((millis(1_990)..=millis(2_010)).contains(&last), "{last:?}");
    assert!(world.frames.iter().any(|frame| frame.speech));
}

#[test]
fn speech_that_ends_with_the_stream_stops_too() {
    let mut world = World::answered(MU);
    let quiet = vec![0xFF; 160];
    world.peer_sends(100, |n| if n >= 50 { voice(n) } else { quiet.clone() }, |_| Some(millis(20)));
    world.run(millis(3_000));
    let (at, ago) = world
        .events
        .iter()
        .find_map(|(at, event)| match event {
            LegEvent::SpeechStopped { ago } => Some((*at, *ago)),
            _ => None,
        })
        .unwrap();
    let last = at - ago;
    // The last packet came at 2 s; up to 60 ms of its voice are made up.
    assert!((millis(1_990)..=millis(2_070)).contains(&last), "{last:?}");
}

#[test]
fn the_media_time_out_is_reported_once_until_media_comes_again() {
    let mut world = World::answered(MU);
    world.run(Duration::from_secs(29));
    assert_eq!(world.event_list(), []);
    world.run(Duration::from_secs(60));
    assert_eq!(world.events, [(Duration::from_secs(30), LegEvent::MediaTimeout)]);
    world.peer_sends(1, voice, |_| Some(Duration::ZERO));
    world.run(Duration::from_secs(31));
    let timeouts = world.event_list().into_iter().filter(|e| *e == LegEvent::MediaTimeout).count();
    assert_eq!(timeouts, 2);
}
