//! The way up.

use std::time::Duration;

use tandem_call::{Digit, LegEvent, MediaLeg, Origin};
use tandem_media::{AudioFormat, Law, Resampler, SampleRate, g711};
use tandem_streams::{BinaryNote, Channels, Dialect, StreamError, StreamShape};

use crate::world::{PCM8, PCM16, PCM24, World, bytes, millis, numbers, shape, tone};

const HZ8: SampleRate = SampleRate::Hz8000;
const HZ16: SampleRate = SampleRate::Hz16000;

fn attached(uplink: AudioFormat, rate: SampleRate, channels: Channels) -> World {
    let mut world = World::new(uplink);
    world.attach(StreamShape { rate, channels, ..shape(Dialect::AudioFork) });
    world
}

/// Sends `audio` in messages of `length` bytes, each when its last sample was spoken.
fn feed(world: &mut World, audio: &[u8], length: usize, time: Duration) {
    for message in audio.chunks(length) {
        world.run(time);
        world.hear(message);
    }
}

#[test]
fn messages_go_up_at_once_and_as_they_are() {
    let mut world = attached(PCM16, HZ16, Channels::Mono);
    for sizes in [&[640][..], &[1280], &[640, 1280, 640], &[1920], &[320, 960]] {
        for &size in sizes {
            world.run(PCM16.duration_of(size));
            let message = bytes(&tone(HZ16, PCM16.duration_of(size)));
            world.frames.clear();
            world.hear(&message);
            assert_eq!(world.frames.len(), 1);
            assert_eq!(world.frames[0].audio, message);
            assert_eq!(world.frames[0].origin, Origin::Caller);
        }
    }
    assert_eq!(world.leg.counters().uplink_surplus, 0);
}

#[test]
fn a_stream_cut_anywhere_is_the_same_stream() {
    let left = numbers(1_000, 8_000);
    let stereo: Vec<i16> = left.iter().flat_map(|&sample| [sample, 77]).collect();
    for (channels, audio) in [(Channels::Mono, &left), (Channels::Stereo, &stereo)] {
        let audio = bytes(audio);
        for length in [1, 3, 5, 319, 641, 1_283] {
            let mut world = attached(PCM16, HZ16, channels);
            let start = world.now;
            for (n, message) in audio.chunks(length).enumerate() {
                let bytes = n * length + message.len();
                world.now = start + PCM16.duration_of(bytes / channels.count());
                world.hear(message);
            }
            assert!(world.uplink() == bytes(&left), "{channels:?} in {length} bytes");
        }
    }
}

#[test]
fn every_format_is_as_long_as_the_call() {
    use SampleRate::{Hz8000, Hz16000, Hz24000, Hz48000};
    for rate in [Hz8000, Hz16000, Hz24000, Hz48000] {
        for format in [
            AudioFormat::G711(Law::Mu),
            AudioFormat::G711(Law::A),
            PCM8,
            PCM16,
            PCM24,
            AudioFormat::Pcm16(Hz48000),
        ] {
            let mut world = attached(format, rate, Channels::Mono);
            let pcm = tone(rate, millis(1_000));
            feed(&mut world, &bytes(&pcm), rate.hz() / 25, millis(20));
            let up = world.uplink();
            assert_eq!(up.len(), format.bytes_per(millis(1_000)), "{rate:?} to {format:?}");
            let mut expected = Vec::new();
            Resampler::new(rate, format.rate()).process(&pcm, &mut expected);
            let expected = match format {
                AudioFormat::Pcm16(_) => bytes(&expected),
                AudioFormat::G711(law) => {
                    let mut codes = vec![0; expected.len()];
                    g711::encode(law, &expected, &mut codes);
                    codes
                }
            };
            assert!(up == expected, "{rate:?} to {format:?}");
        }
    }
}

#[test]
fn filler_is_silence_and_the_clock_goes_on() {
    let mut world = attached(PCM8, HZ8, Channels::Mono);
    let voice = bytes(&tone(HZ8, millis(20)));
    let filler = vec![0xFF; 320];
    for message in [&voice[..], &filler, &[&voice[..], &filler].concat(), &voice] {
        world.run(PCM8.duration_of(message.len()));
        world.hear(message);
    }
    let origins: Vec<_> = world.frames.iter().map(|frame| frame.origin).collect();
    use Origin::{Caller, Silence};
    assert_eq!(origins, [Caller, Silence, Caller, Silence, Caller]);
    let silent: Vec<_> = world.frames.iter().filter(|it| it.audio == [0; 320]).collect();
    assert_eq!(silent.len(), 2);
    assert!(world.frames.iter().all(|frame| frame.audio.len() == 320));
}

#[test]
fn when_nothing_comes_silence_goes_up_after_60_ms() {
    let mut world = attached(PCM16, HZ16, Channels::Mono);
    feed(&mut world, &bytes(&tone(HZ16, millis(200))), 640, millis(20));
    world.frames.clear();
    world.run(millis(79));
    assert!(world.frames.is_empty());
    world.run(millis(921));
    assert!(world.frames.iter().all(|it| it.origin == Origin::Silence && it.audio.len() == 640));
    assert_eq!(world.frames.len(), 47);
    // The socket is lost: the model's time goes on all the same.
    world.leg.detach(world.now);
    world.run(millis(1_000));
    assert_eq!(world.frames.len(), 97);
    // It comes back, and the model is where the call is.
    world.attach(StreamShape { rate: HZ16, ..shape(Dialect::AudioFork) });
    feed(&mut world, &bytes(&tone(HZ16, millis(400))), 640, millis(20));
    let length = PCM16.duration_of(world.uplink().len());
    assert!(length.abs_diff(millis(2_400)) <= millis(20), "{length:?}");
}

#[test]
fn of_a_backlog_the_newest_100_ms_go_up_and_the_lead_is_given_back() {
    let mut world = attached(PCM8, HZ8, Channels::Mono);
    let backlog = numbers(1_000, 8_320); // What came of a 101 that was a second late.
    world.run(millis(20));
    world.hear(&bytes(&backlog));
    let up = world.uplink();
    assert_eq!(up, bytes(&backlog[8_320 - 960..]), "20 ms were due, 100 ms run ahead");
    assert_eq!(world.leg.counters().uplink_surplus, 46);
    // Speech that follows is not dropped, the silence after it gives the lead back.
    world.frames.clear();
    feed(&mut world, &bytes(&tone(HZ8, millis(300))), 320, millis(20));
    let after_speech = world.leg.counters().uplink_surplus;
    feed(&mut world, &[0; 16_000], 320, millis(20));
    world.frames.clear();
    feed(&mut world, &[0; 16_000], 320, millis(20));
    assert_eq!(world.frames.len(), 50);
    let dropped = world.leg.counters().uplink_surplus - after_speech;
    assert!((2..=4).contains(&dropped), "{dropped}");
}

#[test]
fn of_a_backlog_silence_is_dropped_before_speech() {
    let mut world = attached(PCM8, HZ8, Channels::Mono);
    world.run(millis(20));
    let mut backlog = vec![0xFF; 320 * 20];
    backlog.extend(bytes(&numbers(4_000, 320)));
    backlog.extend(vec![0; 320 * 10]);
    backlog.extend(bytes(&numbers(5_000, 160)));
    world.hear(&backlog);
    let up: Vec<i16> = crate::world::samples(&world.uplink());
    let speech: Vec<i16> = up.iter().copied().filter(|sample| *sample != 0).collect();
    assert_eq!(speech, [numbers(4_000, 320), numbers(5_000, 160)].concat());
    assert!(up.len() <= 960);
}

#[test]
fn an_overrun_of_the_module_is_no_more_than_a_backlog() {
    let mut world = attached(PCM24, SampleRate::Hz48000, Channels::Stereo);
    for _ in 0..5 {
        world.run(millis(20));
        world.hear(&vec![0x11; 384_000]);
    }
    let length = PCM24.duration_of(world.uplink().len());
    assert!(length <= millis(220), "{length:?}");
    assert_eq!(world.leg.counters().uplink_overflow, 0);
}

#[test]
fn a_module_that_gathers_audio_is_heard_without_holes() {
    for gathered in [40, 100, 300, 500] {
        let mut world = attached(PCM8, HZ8, Channels::Mono);
        let audio = bytes(&tone(HZ8, millis(6_000)));
        feed(&mut world, &audio, PCM8.bytes_per(millis(gathered)), millis(gathered));
        let silent = world.frames.iter().filter(|it| it.origin == Origin::Silence).count();
        // Until the length is known, silence stands in.
        let learning = 2 * gathered / 20;
        assert!(silent as u64 <= learning, "{gathered} ms: {silent} frames of silence");
        let later = world.frames.iter().filter(|it| it.at > millis(2_000));
        assert!(later.clone().all(|it| it.origin == Origin::Caller), "{gathered} ms");
        let length: usize = later.map(|frame| frame.audio.len()).sum();
        assert!(PCM8.duration_of(length) + millis(2 * gathered) >= millis(4_000), "{gathered} ms");
    }
}

#[test]
fn speech_is_noticed_at_any_rate() {
    for rate in [HZ8, HZ16, SampleRate::Hz24000, SampleRate::Hz48000] {
        let mut world = attached(PCM16, rate, Channels::Mono);
        let size = rate.hz() / 25;
        feed(&mut world, &vec![0; size * 50], size, millis(20));
        let spoke_at = world.at();
        feed(&mut world, &bytes(&tone(rate, millis(600))), size, millis(20));
        let silent_at = world.at();
        feed(&mut world, &vec![0; size * 25], size, millis(20));
        let at = |wanted: fn(&LegEvent) -> bool| {
            world.events.iter().find(|(_, event)| wanted(event)).expect("an event")
        };
        let (started, _) = at(|event| matches!(event, LegEvent::SpeechStarted));
        assert!((millis(50)..=millis(80)).contains(&(*started - spoke_at)), "{rate:?}");
        let (stopped, event) = at(|event| matches!(event, LegEvent::SpeechStopped { .. }));
        let LegEvent::SpeechStopped { ago } = event else { unreachable!("it was matched") };
        assert!((*stopped - *ago).abs_diff(silent_at) <= millis(20), "{rate:?}: {ago:?}");
        assert!(world.frames.iter().any(|frame| frame.speech));
    }
}

#[test]
fn another_model_takes_over() {
    let mut world = attached(PCM16, HZ8, Channels::Mono);
    world.run(millis(20));
    world.hear(&[0; 320]);
    world.leg.set_uplink(AudioFormat::G711(Law::A));
    world.run(millis(20));
    world.hear(&[0; 320]);
    let lengths: Vec<_> = world.frames.iter().map(|frame| frame.audio.len()).collect();
    assert_eq!(lengths, [640, 160]);
    assert_eq!(world.leg.format(), PCM8);
}

#[test]
fn the_media_time_out_strikes_with_a_websocket_and_without() {
    let timeouts = |world: &World| {
        world.events.iter().filter(|(_, event)| *event == LegEvent::MediaTimeout).count()
    };
    let mut world = World::new(PCM16);
    world.run(millis(29_900));
    assert_eq!(timeouts(&world), 0);
    world.run(millis(200));
    assert_eq!(timeouts(&world), 1, "no websocket came");
    world.attach(shape(Dialect::AudioFork));
    world.run(millis(29_000));
    world.hear(&[0; 640]);
    world.run(millis(29_000));
    assert_eq!(timeouts(&world), 1);
    world.run(millis(1_100));
    assert_eq!(timeouts(&world), 2, "the module fell silent");
    world.leg.pause(world.now, true);
    world.run(millis(60_000));
    assert_eq!(timeouts(&world), 2, "on hold nothing need come");
    world.leg.pause(world.now, false);
    world.run(millis(29_900));
    assert_eq!(timeouts(&world), 2);
    world.run(millis(200));
    assert_eq!(timeouts(&world), 3);
}

#[test]
fn a_graceful_shutdown_ends_the_websocket_and_not_the_leg() {
    let mut world = World::forked(HZ16, HZ8, HZ8);
    world.say(1, PCM8, &bytes(&numbers(1_000, 8_000)));
    world.run(millis(200));
    assert_eq!(world.leg.handle_binary(world.now, &[]), Ok(BinaryNote::Shutdown));
    world.drain();
    let sent = world.messages.len();
    assert_eq!(world.closes, 1);
    world.leg.handle_binary(world.now, &[]).expect("the module goes on with it");
    world.run(millis(2_000));
    assert_eq!(world.messages.len(), sent);
    world.leg.detach(world.now);
    assert_eq!(world.leg.handle_binary(world.now, &[0; 640]), Err(StreamError::Detached));
    world.fork(HZ16, HZ8, HZ8);
    world.run(millis(1_000));
    assert!(world.messages.len() > sent, "what was not said is said on the next one");
}

#[test]
fn a_closed_leg_closes_its_websocket_and_is_silent() {
    let mut world = World::forked(HZ16, HZ8, HZ8);
    world.say(1, PCM8, &bytes(&numbers(1_000, 8_000)));
    world.run(millis(100));
    let sent = world.messages.len();
    world.leg.close(world.now);
    world.drain();
    world.run(millis(1_000));
    assert_eq!((world.closes, world.messages.len()), (1, sent));
    assert_eq!(world.leg.poll_timeout(), None);
}

#[test]
fn digits_come_in_texts() {
    let mut world = attached(PCM16, HZ16, Channels::Mono);
    let text =
        br#"{"event":"dtmf","dtmf":"5","duration":"1600"}{"event":"dtmf","dtmf":"*"}{"a":1}"#;
    let note = world.leg.handle_text(world.now, text).expect("a text");
    assert_eq!((note.digits, note.other), (2, 1));
    world.drain();
    let digits: Vec<_> = world.events.iter().map(|(_, event)| event.clone()).collect();
    let digit = |c| LegEvent::Digit(Digit::new(c).expect("a digit"));
    assert_eq!(digits, [digit('5'), digit('*')]);
    assert!(world.leg.handle_text(world.now, b"{").is_err());
    assert_eq!(world.leg.counters().malformed, 1);
    for _ in 0..1_000 {
        world.leg.handle_text(world.now, br#"{"dtmf":"1"}"#).expect("a text");
    }
    assert!(world.leg.counters().events_dropped > 0, "nobody polled");
}
