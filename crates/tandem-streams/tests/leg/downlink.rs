//! The way down to modules that play what they are sent.

use std::time::Duration;

use tandem_call::{ItemId, LegEvent, MediaLeg};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_streams::{Dialect, LegOrder};

use crate::world::{
    PCM8, PCM16, PCM24, World, bytes, millis, numbers, samples, shape, sounds, tone,
};

const HZ8: SampleRate = SampleRate::Hz8000;
const HZ16: SampleRate = SampleRate::Hz16000;
const HZ24: SampleRate = SampleRate::Hz24000;
const HZ48: SampleRate = SampleRate::Hz48000;

fn near(a: Duration, b: Duration, by: u64) -> bool {
    a.abs_diff(b) <= millis(by)
}

#[test]
fn a_burst_is_heard_at_once_and_without_a_hole() {
    for (back, codec) in [
        (HZ8, HZ8),
        (HZ16, HZ8),
        (HZ24, HZ8),
        (HZ48, HZ8),
        (HZ8, HZ16),
        (HZ16, HZ16),
        (HZ24, HZ16),
        (HZ16, HZ48),
    ] {
        for before in [0, 300, 2_000] {
            let mut world = World::forked(HZ16, back, codec);
            world.run(millis(before));
            let said_at = world.at();
            world.say(1, PCM24, &bytes(&tone(HZ24, millis(1_990))));
            world.run(millis(3_000));
            let name = format!("{back:?} to {codec:?} after {before} ms");
            let sounds = sounds(world.heard(), codec.hz() / 100);
            let [(start, end)] = sounds[..] else { panic!("{name}: {sounds:?}") };
            let first = world.time_of(start, codec);
            assert!(first - said_at <= millis(20), "{name}: {first:?} after {said_at:?}");
            let length = codec.duration_of(end - start);
            assert!(near(length, millis(1_990), 2), "{name}: {length:?}");
            assert!(near(world.started(1).expect(&name), first, 20), "{name}");
            let over = world.time_of(end, codec);
            assert!(near(world.drained(1).expect(&name), over, 20), "{name}");
            assert_eq!(world.module.as_ref().expect("a module").waiting(), (0, 0), "{name}");
        }
    }
}

#[test]
fn the_samples_are_the_models_own() {
    let mut world = World::forked(HZ8, HZ8, HZ8);
    let mut said = Vec::new();
    for (item, (from, count)) in
        [(1_000, 4_321), (6_000, 80), (7_000, 1_279), (9_000, 641)].into_iter().enumerate()
    {
        let pcm = numbers(from, count);
        world.say(item as u64 + 1, PCM8, &bytes(&pcm));
        said.extend(pcm);
    }
    world.run(millis(3_000));
    let heard = world.heard();
    let (start, end) = sounds(heard, 10)[0];
    assert!(heard[start..end] == said, "items follow each other without a gap");
    for item in 1..=4 {
        assert!(world.started(item).expect("it began") < world.drained(item).expect("it ended"));
        let heard = world.leg.heard(ItemId(item));
        assert!(heard.is_some_and(|heard| !heard.is_zero()), "{item}: {heard:?}");
    }
    assert_eq!(world.leg.heard(ItemId(1)), Some(HZ8.duration_of(4_321)));
}

#[test]
fn the_sample_that_is_a_mark_is_never_sent() {
    let mut world = World::forked(HZ8, HZ8, HZ8);
    world.say(1, PCM8, &bytes(&[-1; 8_000]));
    world.run(millis(1_500));
    let sent: Vec<i16> = world.messages.iter().flat_map(|(_, it)| samples(it)).collect();
    assert!(sent.len() >= 8_000 && !sent.contains(&-1));
    assert_eq!(world.module.as_ref().expect("a module").false_marks, 0);
    assert!(!world.texts.is_empty(), "there was a mark");
}

#[test]
fn speech_in_real_time_is_a_little_late_and_whole() {
    for back in [HZ8, HZ24] {
        for before in [0, 50, 1_900] {
            let mut world = World::forked(HZ16, back, HZ8);
            world.run(millis(before));
            let said_at = world.at();
            world.say_slowly(1, PCM24, &bytes(&tone(HZ24, millis(1_990))));
            world.run(millis(1_000));
            let sounds = sounds(world.heard(), 40);
            let [(start, end)] = sounds[..] else { panic!("{before} ms: {sounds:?}") };
            let late = world.time_of(start, HZ8) - said_at;
            let bound = if before < 1_000 { 220 } else { 140 };
            assert!(late <= millis(bound), "after {before} ms: {late:?}");
            assert!(near(HZ8.duration_of(end - start), millis(1_990), 2));
            assert_eq!(world.leg.counters().underruns, 0);
        }
    }
}

#[test]
fn a_model_that_stops_in_mid_sentence_is_heard_as_far_as_it_came() {
    let mut world = World::forked(HZ16, HZ8, HZ8);
    world.run(millis(1_500));
    world.play(1, PCM8, &bytes(&numbers(1_000, 400)));
    world.run(millis(300));
    assert_eq!(sounds(world.heard(), 10).len(), 1, "50 ms are less than a message");
    assert!(world.drained(1).is_some());
    world.play(1, PCM8, &bytes(&numbers(2_000, 400)));
    world.end_item(1);
    world.run(millis(300));
    let heard: Vec<i16> = world.heard().iter().copied().filter(|sample| *sample != 0).collect();
    assert!(heard == [numbers(1_000, 400), numbers(2_000, 400)].concat());
    assert_eq!(world.leg.counters().underruns, 1);
    assert_eq!(world.leg.heard(ItemId(1)), Some(millis(100)));
}

#[test]
fn a_barge_in_is_silence_at_once_and_the_account_is_right() {
    for (back, codec) in [(HZ8, HZ8), (HZ16, HZ8), (HZ24, HZ8), (HZ16, HZ16)] {
        for spoken in [1, 45, 130, 500, 977, 1_800] {
            let name = format!("{back:?} to {codec:?}, {spoken} ms");
            let mut world = World::forked(HZ16, back, codec);
            world.run(millis(1_500));
            world.say(1, PCM24, &bytes(&tone(HZ24, millis(2_000))));
            world.say(2, PCM24, &bytes(&tone(HZ24, millis(500))));
            world.run(millis(spoken));
            let at = world.at();
            let cut = world.clear();
            world.run(millis(1_000));
            let heard = world.heard();
            let last = heard.iter().rposition(|sample| *sample != 0);
            let heard = match (sounds(heard, 100).first(), last) {
                (Some((start, _)), Some(last)) => {
                    assert!(world.time_of(last, codec) < at + millis(20), "{name}");
                    codec.duration_of(last + 1 - start)
                }
                _ => Duration::ZERO,
            };
            assert_eq!((cut[0].item, cut[1].item), (ItemId(1), ItemId(2)), "{name}");
            assert_eq!((cut[0].received, cut[1].received), (millis(2_000), millis(500)));
            assert_eq!(cut[1].heard, Duration::ZERO, "{name}");
            // A tick that has begun is heard to its end, and the first one may come at once.
            let account = cut[0].heard;
            assert!(
                account <= heard && heard <= account + millis(40),
                "{name}: {account:?}, heard {heard:?}"
            );
            assert!(world.drained(1).is_none() && world.started(2).is_none(), "{name}");
            assert_eq!(world.module.as_ref().expect("a module").kills, 1, "{name}");
        }
    }
}

#[test]
fn what_is_said_right_after_a_barge_in_is_heard_whole() {
    for wait in [0, 5, 15, 35, 100, 400] {
        let mut world = World::forked(HZ16, HZ8, HZ8);
        world.run(millis(1_500));
        world.say(1, PCM8, &bytes(&vec![500; 16_000]));
        world.run(millis(713));
        world.clear();
        world.run(millis(wait));
        let said_at = world.at();
        world.say(2, PCM8, &bytes(&numbers(1_000, 3_000)));
        world.run(millis(1_000));
        let new: Vec<i16> =
            world.heard().iter().copied().filter(|sample| *sample >= 1_000).collect();
        assert!(new == numbers(1_000, 3_000), "after {wait} ms");
        let place = world.heard().iter().position(|sample| *sample == 1_000).expect("it is heard");
        assert!(world.time_of(place, HZ8) - said_at <= millis(60), "after {wait} ms");
        assert!(world.drained(2).is_some());
    }
}

#[test]
fn nothing_is_killed_when_nothing_plays() {
    let mut world = World::forked(HZ16, HZ8, HZ8);
    world.run(millis(110));
    assert_eq!(world.messages.len(), 1);
    assert_eq!(world.clear(), [], "only silence is on its way");
    world.say(1, PCM8, &bytes(&numbers(1_000, 800)));
    world.run(millis(800));
    assert_eq!(world.clear(), []);
    assert_eq!(world.module.as_ref().expect("a module").kills, 0, "an application may be playing");
}

#[test]
fn the_clock_follows_the_marks() {
    let mut world = World::forked(HZ8, HZ8, HZ8);
    world.run(millis(1_500));
    world.module.as_mut().expect("a module").writes = false;
    let breath = vec![5; 200];
    world.say(1, PCM8, &bytes(&[breath, tone(HZ8, millis(1_000))].concat()));
    world.run(millis(200));
    world.module.as_mut().expect("a module").writes = true;
    world.run(millis(500));
    let before = world.at();
    let cut = world.clear();
    world.run(millis(100));
    let (start, _) = sounds(world.heard(), 100)[0];
    let heard = before - world.time_of(start, HZ8);
    assert!(near(cut[0].heard, heard, 20), "{:?}, heard {heard:?}", cut[0].heard);
}

#[test]
fn marks_are_not_believed_after_some_were_thrown_away() {
    let mut world = World::forked(HZ8, HZ8, HZ8);
    world.run(millis(1_500));
    let marks = |world: &World| world.texts.iter().filter(|(_, it)| it.contains("mark")).count();
    let speech = bytes(&[vec![5; 200], tone(HZ8, millis(500))].concat());
    world.say(1, PCM8, &speech);
    assert_eq!(marks(&world), 1);
    world.run(millis(1));
    world.clear(); // Before the mark was reached.
    for item in 2..6 {
        world.run(millis(1_000));
        world.say(item, PCM8, &speech);
        world.run(millis(300));
        let cut = world.clear();
        assert!((millis(260)..=millis(300)).contains(&cut[0].heard), "{cut:?}");
    }
    assert_eq!(marks(&world), 1);
    // The module of the next websocket knows nothing of it.
    world.leg.detach(world.now);
    world.fork(HZ8, HZ8, HZ8);
    world.run(millis(1_000));
    world.say(7, PCM8, &speech);
    assert_eq!(marks(&world), 2);
}

#[test]
fn an_end_that_the_module_kept_is_not_heard_before_the_next_answer() {
    let mut world = World::forked(HZ8, HZ8, HZ8);
    world.run(millis(1_500));
    world.module.as_mut().expect("a module").busy = 1;
    world.say(1, PCM8, &bytes(&numbers(1_000, 1_000)));
    world.run(millis(500));
    let heard: Vec<i16> = world.heard().iter().copied().filter(|sample| *sample != 0).collect();
    assert!(heard == numbers(1_000, 1_000));
    let sent = world.messages.len();
    world.run(millis(5_000));
    assert_eq!(world.messages.len(), sent, "once");
}

#[test]
fn a_pause_keeps_what_was_not_sent() {
    let mut world = World::forked(HZ8, HZ8, HZ8);
    world.run(millis(1_500));
    world.say(1, PCM8, &bytes(&numbers(1_000, 8_000)));
    world.run(millis(400));
    world.leg.pause(world.now, true);
    world.run(millis(300));
    let so_far = world.heard().iter().filter(|sample| **sample != 0).count();
    assert!((3_200..=5_300).contains(&so_far), "{so_far}");
    world.run(millis(2_000));
    assert_eq!(world.heard().iter().filter(|sample| **sample != 0).count(), so_far);
    assert!(world.drained(1).is_none());
    world.leg.pause(world.now, false);
    world.run(millis(1_000));
    let heard: Vec<i16> = world.heard().iter().copied().filter(|sample| *sample != 0).collect();
    assert!(heard == numbers(1_000, 8_000));
    assert!(world.drained(1).is_some());
}

#[test]
fn a_duck_loses_nothing_and_is_apart_from_a_pause() {
    let mut world = World::forked(HZ8, HZ8, HZ8);
    world.run(millis(1_500));
    world.say(1, PCM8, &bytes(&numbers(1_000, 8_000)));
    world.run(millis(400));
    world.leg.duck(world.now, true);
    world.run(millis(300));
    let count = |world: &World| world.heard().iter().filter(|sample| **sample != 0).count();
    let so_far = count(&world);
    assert!((2_900..=3_400).contains(&so_far), "the module falls silent at once: {so_far}");
    world.leg.pause(world.now, true);
    world.leg.duck(world.now, false);
    world.run(millis(500));
    assert_eq!(count(&world), so_far, "still paused");
    world.leg.pause(world.now, false);
    world.run(millis(1_000));
    let heard: Vec<i16> = world.heard().iter().copied().filter(|sample| *sample != 0).collect();
    let said = numbers(1_000, 8_000);
    let (before, after) = heard.split_at(so_far);
    assert!(before == &said[..so_far]);
    assert!(after == &said[said.len() - after.len()..], "it goes on, to the end");
    let apart = heard.len().abs_diff(said.len());
    assert!(
        apart <= 320,
        "where it fell silent, by our clock to two ticks of the channel: {apart}"
    );
    // A clear ends a duck, and the cut is where it fell silent.
    world.say(2, PCM8, &bytes(&numbers(1_000, 8_000)));
    world.run(millis(400));
    world.leg.duck(world.now, true);
    world.run(millis(300));
    let heard = count(&world) - 8_000;
    world.leg.clear(world.now);
    world.run(millis(20));
    let cut = world.events.iter().find_map(|(_, event)| match event {
        LegEvent::PlayoutCleared { cut } => Some(cut[0].heard),
        _ => None,
    });
    assert!(cut.unwrap().abs_diff(HZ8.duration_of(heard)) <= millis(40), "{cut:?}, {heard}");
    world.say(3, PCM8, &bytes(&numbers(1_000, 800)));
    world.run(millis(500));
    assert!(world.drained(3).is_some());
}

#[test]
fn what_is_said_without_a_websocket_waits_for_one() {
    let mut world = World::new(PCM16);
    world.say(1, AudioFormat::G711(Law::Mu), &[0x21; 8_000]);
    world.run(millis(400));
    world.fork(HZ16, HZ16, HZ8);
    let at = world.at();
    world.run(millis(400));
    let (start, _) = sounds(world.heard(), 100)[0];
    assert!(world.time_of(start, HZ8) - at <= millis(20), "the greeting is the first message");
    // The socket is lost, and comes back with another rate.
    world.leg.detach(world.now);
    let old = world.module.take().expect("a module").heard;
    world.run(millis(500));
    assert_eq!(world.leg.next_send(), None);
    world.fork(HZ16, HZ24, HZ8);
    world.run(millis(1_000));
    let heard = |pcm: &[i16]| pcm.iter().filter(|sample| **sample != 0).count();
    let lost = 8_000 - heard(&old) - heard(world.heard());
    assert!(lost <= 8 * 240, "what the old module had is lost: {lost} samples");
    assert!(world.drained(1).is_some());
}

#[test]
fn the_two_way_stream_is_kept_short_because_nothing_silences_it() {
    for dialect in [Dialect::AudioStreamRaw, Dialect::AudioStreamBase64] {
        let mut world = World::new(PCM16);
        world.attach(shape(dialect));
        world.say(1, PCM16, &bytes(&tone(HZ16, millis(1_000))));
        world.run(millis(500));
        let pcm = |world: &World| -> Vec<i16> {
            match dialect {
                Dialect::AudioStreamRaw => {
                    world.messages.iter().flat_map(|(_, message)| samples(message)).collect()
                }
                _ => world.texts.iter().flat_map(|(_, text)| stream_audio(text)).collect(),
            }
        };
        let sent = HZ16.duration_of(pcm(&world).len());
        assert!((millis(560)..=millis(620)).contains(&sent), "{dialect:?}: {sent:?}");
        let cut = world.clear();
        assert!(near(cut[0].heard, sent, 1), "what was sent is heard: {:?}", cut[0]);
        world.run(millis(500));
        assert_eq!(HZ16.duration_of(pcm(&world).len()), sent);
        assert_eq!(world.orders.len(), 1);
        assert_eq!(world.orders[0].1, LegOrder::BreakPlayback);
        world.say(2, PCM16, &bytes(&tone(HZ16, millis(300))));
        world.run(millis(500));
        let all = pcm(&world).len();
        assert!(HZ16.duration_of(all) >= sent + millis(300));
        assert!(world.drained(2).is_some());
    }
}

#[test]
fn a_text_that_clears_the_two_way_stream_is_used_if_one_is_known() {
    let mut world = World::new(PCM16);
    let config = tandem_streams::ForkLegConfig {
        rate: HZ16,
        uplink: PCM16,
        media_timeout: Duration::from_secs(30),
        stream_clear: Some(r#"{"type":"clearAudio"}"#.into()),
    };
    world.leg = tandem_streams::ForkLeg::new(world.now, config);
    world.attach(shape(Dialect::AudioStreamRaw));
    world.say(1, PCM16, &bytes(&tone(HZ16, millis(1_000))));
    world.run(millis(500));
    let cut = world.clear();
    assert!(near(cut[0].heard, millis(480), 2), "{cut:?}");
    assert_eq!(world.texts.last().expect("a text").1, r#"{"type":"clearAudio"}"#);
    assert_eq!(world.orders, []);
}

/// The samples of a `streamAudio` message at 16 kHz.
fn stream_audio(text: &str) -> Vec<i16> {
    let value: serde_json::Value = serde_json::from_str(text).expect("JSON");
    assert_eq!(value["type"], "streamAudio");
    assert_eq!(value["data"]["audioDataType"], "raw");
    assert_eq!(value["data"]["sampleRate"], 16_000);
    let audio = value["data"]["audioData"].as_str().expect("base64");
    samples(&base64_simd::STANDARD.decode_to_vec(audio).expect("base64"))
}
