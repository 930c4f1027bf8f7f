use std::time::{Duration, Instant};

use super::*;
use crate::freeswitch::{
    bytes_of,
    replay::{Dialogue, Recorded, Recording, Side},
};

const CAPTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/freeswitch");

fn open(spec: ForkSpec) -> ForkModule {
    let mut module = ForkModule::new(spec);
    module.handle_connected(Instant::now());
    while module.poll_event().is_some() {}
    module
}

fn texts(module: &mut ForkModule) -> Vec<String> {
    std::iter::from_fn(|| module.poll_message())
        .filter_map(|message| match message {
            ForkMessage::Text(text) => Some(text),
            _ => None,
        })
        .collect()
}

fn raised(module: &mut ForkModule) -> Vec<(&'static str, Option<String>)> {
    std::iter::from_fn(|| module.poll_event())
        .filter_map(|event| match event {
            ForkEvent::Raised { name, body } => Some((name, body)),
            _ => None,
        })
        .collect()
}

/// Plays one frame of 20 ms at 8 kHz; gives the number of samples that were heard in it.
fn heard(module: &mut ForkModule) -> usize {
    let mut frame = [0; 160];
    module.play(&mut frame);
    frame.iter().filter(|sample| **sample != 0).count()
}

fn jambonz(back: u32) -> ForkSpec {
    ForkSpec { back_rate: back, ..ForkSpec::new(Edition::Jambonz, 8_000, 8_000) }
}

#[test]
fn nothing_is_heard_below_the_threshold() {
    for (back, factor) in [(8_000, 1), (16_000, 2), (24_000, 3), (48_000, 6)] {
        let mut module = open(jambonz(back));
        module.handle_binary(&bytes_of(&vec![100; 1_280 * factor - 1]));
        assert_eq!(heard(&mut module), 0, "{back}: one sample short of the first threshold");
        module.handle_binary(&bytes_of(&[100]));
        assert!(heard(&mut module) > 100, "{back}");
        assert_eq!(module.queued(), 1_280 - 160, "{back}");
        while heard(&mut module) > 0 {}
        module.handle_binary(&bytes_of(&vec![100; 640 * factor - 1]));
        assert_eq!(heard(&mut module), 0, "{back}: the second threshold is half of it");
        module.handle_binary(&bytes_of(&[100]));
        assert!(heard(&mut module) > 100, "{back}");
    }
}

#[test]
fn a_short_tail_waits_for_more_and_odd_bytes_are_carried_over() {
    // The sizes of the capture `bidir_8000_odd_sizes_short_tail`.
    let mut module = open(jambonz(8_000));
    let mut total = 0;
    for size in [2_561, 333, 1, 640, 4_001, 7, 3_000, 1_280] {
        let bytes: Vec<u8> =
            (total..total + size).map(|at| if at % 2 == 0 { 100 } else { 0 }).collect();
        module.handle_binary(&bytes);
        total += size;
    }
    let samples = total / 2;
    let mut played = 0;
    loop {
        let mut frame = [0; 160];
        module.play(&mut frame);
        assert!(frame.iter().all(|sample| matches!(sample, 0 | 100)), "no byte is out of place");
        match frame.iter().filter(|sample| **sample == 100).count() {
            0 => break,
            heard => played += heard,
        }
    }
    assert_eq!(played, samples, "the last message crossed the threshold");
    module.handle_binary(&bytes_of(&[100; 500]));
    assert_eq!(heard(&mut module), 0, "a tail of 1000 bytes");
    module.handle_binary(&bytes_of(&[100; 500]));
    assert_eq!(module.queued(), 1_000);
}

#[test]
fn kill_audio_leaves_the_pre_buffer() {
    let mut module = open(jambonz(8_000));
    module.handle_binary(&bytes_of(&[100; 1_280]));
    module.handle_binary(&bytes_of(&[50; 300]));
    module.handle_text("{\"type\":\"killAudio\"}");
    assert_eq!(heard(&mut module), 0);
    let events: Vec<_> = std::iter::from_fn(|| module.poll_event()).collect();
    assert_eq!(events, [ForkEvent::Raised { name: "kill_audio", body: None }, ForkEvent::Break]);
    module.handle_binary(&bytes_of(&[100; 340]));
    let mut frame = [0; 160];
    module.play(&mut frame);
    assert_eq!(frame, [50; 160], "stale audio goes before the next utterance");
}

#[test]
fn sound_is_added_to_what_is_written() {
    let mut module = open(jambonz(8_000));
    module.handle_binary(&bytes_of(&[100; 1_280]));
    let mut frame = [7; 160];
    module.play(&mut frame);
    assert_eq!(frame, [107; 160]);
}

/// The marks of the captures, at the frames where the real module reported them.
#[test]
fn marks_are_reported_where_the_real_module_did() {
    for (file, silent) in [
        ("bidir_8000_marks_clean", false),
        ("bidir_8000_burst2s", false),
        ("bidir_8000_paced20ms", true),
        ("bidir_8000_killaudio_marks", true),
        ("bidir_8000_stop_play", false),
    ] {
        let recording = Recording::load(format!("{CAPTURES}/fork/{file}.jsonl")).unwrap();
        let mut module = open(jambonz(8_000));
        let (mut reported, mut recorded) = (Vec::new(), Vec::new());
        let mut frame = 0;
        let mut next_tick = recording.connections[0].steps[0].at;
        for moment in &recording.connections[0].steps {
            // The module's thread of 20 ms: what came up shows its beat.
            while next_tick <= moment.at {
                module.play(&mut [0; 160]);
                frame += 1;
                next_tick += Duration::from_millis(20);
                reported.extend(texts(&mut module).into_iter().map(|text| (frame, text)));
            }
            match (&moment.what, moment.from_module) {
                (Recorded::Text(text), true) if text.contains("mark") => {
                    recorded.push((frame, text.clone()));
                }
                (Recorded::Text(text), false) => module.handle_text(text),
                // Of a message only the beginning was recorded: where it holds samples of -1 that begins with them.
                (Recorded::Binary(bytes), false) => {
                    let mut samples = crate::freeswitch::samples_of(bytes);
                    let rest = if silent { 32 } else { 0 };
                    for sample in samples.iter_mut().skip(rest) {
                        *sample = 100;
                    }
                    module.handle_binary(&bytes_of(&samples));
                }
                _ => {}
            }
            reported.extend(texts(&mut module).into_iter().map(|text| (frame, text)));
        }
        let names = |marks: &[(i32, String)]| -> Vec<String> {
            marks.iter().map(|(_, text)| text.clone()).collect()
        };
        assert_eq!(names(&reported), names(&recorded), "{file}");
        for ((ours, text), (theirs, _)) in reported.iter().zip(&recorded) {
            // The real module's beats of reading and writing are not one.
            assert!((ours - theirs).abs() <= 3, "{file}: {text} in frame {ours}, not {theirs}");
        }
    }
}

#[test]
fn a_channel_that_writes_nothing_plays_nothing() {
    let mut module = open(jambonz(8_000));
    module.handle_text("{\"type\":\"mark\",\"data\":{\"name\":\"A\"}}");
    module.handle_binary(&bytes_of(&[100; 8_000]));
    for _ in 0..100 {
        module.capture(Instant::now(), Some(&[0; 160]), None);
        assert!(texts(&mut module).is_empty());
    }
    assert_eq!(module.queued(), 8_001, "the mark is a sample in the stream");
}

#[test]
fn at_most_thirty_marks_are_kept_and_clear_marks_forgets_them() {
    let mut module = open(jambonz(8_000));
    for mark in 0..40 {
        module.handle_text(&format!("{{\"type\":\"mark\",\"data\":{{\"name\":\"{mark}\"}}}}"));
    }
    module.handle_text("{\"type\":\"killAudio\"}");
    assert_eq!(texts(&mut module).len(), 30);
    module.handle_text("{\"type\":\"mark\",\"data\":{\"name\":\"x\"}}");
    module.handle_text("{\"type\":\"clearMarks\"}");
    heard(&mut module);
    assert!(texts(&mut module).is_empty());
}

/// Each text of a recorded server gives the event that the real module raised.
#[test]
fn texts_of_servers_become_the_recorded_events() {
    let stream = ForkSpec::new(Edition::Stream, 8_000, 8_000);
    let no_raw = ForkSpec { streaming: false, back_rate: 0, ..jambonz(8_000) };
    let drachtio = ForkSpec::new(Edition::Drachtio, 8_000, 8_000);
    const MORNING: &str = ",\"textContent\":\"Good morning\"";
    for (file, spec, cut_off) in [
        ("fork/server_messages", no_raw.clone(), &[][..]),
        ("fork/playaudio_file", no_raw, &[MORNING, MORNING, MORNING, ""]),
        ("fork-drachtio/messages_auth", drachtio, &[",\"textContent\":\"hi\""]),
        (
            "stream/server_messages_streamaudio",
            stream,
            &[",\"sampleRate\":8000", ",\"sampleRate\":16000", ""],
        ),
    ] {
        let mut cut_off = cut_off.iter().copied();
        let recording = Recording::load(format!("{CAPTURES}/{file}.jsonl")).unwrap();
        let module_name = spec.edition.module();
        let mut module = open(spec);
        let mut ours = Vec::new();
        for moment in recording.connections[0].steps.iter().filter(|moment| !moment.from_module) {
            if let Recorded::Text(text) = &moment.what {
                module.handle_text(&mended(text, &mut cut_off));
                ours.extend(raised(&mut module));
            }
        }
        let dialogue = Dialogue::load(format!("{CAPTURES}/{file}.esl.txt")).unwrap();
        let theirs: Vec<(String, Option<String>)> = dialogue
            .said
            .iter()
            .filter(|said| said.side == Side::Switch)
            .filter_map(|said| custom_event(&String::from_utf8_lossy(&said.bytes), module_name))
            .filter(|(name, _)| name != "connect")
            .collect();
        let uuid = "00000000-0000-4000-8000-000000000000";
        assert_eq!(ours.len(), theirs.len(), "{file}: {ours:?} {theirs:?}");
        for ((name, body), (recorded, recorded_body)) in ours.iter().zip(&theirs) {
            assert_eq!(name, recorded, "{file}");
            // The recorded file names begin with the uuid of the recorded call.
            let alike = |body: &Option<String>| -> Option<String> {
                let body = body.as_ref()?.replace(uuid, "UUID");
                let at = body.find("/tmp/").map(|at| at + 5);
                Some(match at {
                    Some(at) if !body[at..].starts_with("UUID") => {
                        format!("{}UUID{}", &body[..at], &body[at + 36..])
                    }
                    _ => body,
                })
            };
            assert_eq!(alike(body), alike(recorded_body), "{file}: {name}");
        }
    }
}

/// Long texts were cut by the recorder: other audio is put in, and the keys that came after it.
fn mended(text: &str, cut_off: &mut impl Iterator<Item = &'static str>) -> String {
    for key in ["\"audioContent\": \"", "\"audioData\": \""] {
        if let Some(at) = text.find(key).filter(|_| text.ends_with("bytes in all]")) {
            let rest = cut_off.next().unwrap();
            return format!("{}AAABAA==\"{rest}}}}}", &text[..at + key.len()]);
        }
    }
    text.to_owned()
}

fn custom_event(frame: &str, module: &str) -> Option<(String, Option<String>)> {
    let subclass = frame.lines().find_map(|line| line.strip_prefix("Event-Subclass: "))?;
    let name = subclass.strip_prefix(module)?.strip_prefix("%3A%3A")?.to_owned();
    let mut blocks = frame.splitn(3, "\n\n").skip(2);
    Some((name, blocks.next().map(str::to_owned).filter(|body| !body.is_empty())))
}

fn binaries(module: &mut ForkModule) -> Vec<usize> {
    std::iter::from_fn(|| module.poll_message())
        .filter_map(|message| match message {
            ForkMessage::Binary(bytes) => Some(bytes.len()),
            _ => None,
        })
        .collect()
}

#[test]
fn messages_have_the_sizes_of_the_captures() {
    for (mix, rate, size) in [
        (Mix::Mono, 8_000, 320),
        (Mix::Mono, 16_000, 640),
        (Mix::Mixed, 24_000, 960),
        (Mix::Stereo, 8_000, 640),
        (Mix::Stereo, 48_000, 3_840),
        (Mix::Mono, 32_000, 1_280),
    ] {
        for edition in [Edition::Jambonz, Edition::Drachtio, Edition::Stream] {
            let mut module = open(ForkSpec { mix, ..ForkSpec::new(edition, rate, 8_000) });
            for _ in 0..5 {
                module.capture(Instant::now(), Some(&[5; 160]), Some(&[6; 160]));
                assert_eq!(binaries(&mut module), [size], "{edition:?} {mix:?} {rate}");
            }
        }
    }
    let mut module =
        open(ForkSpec { buffer_ms: 100, ..ForkSpec::new(Edition::Stream, 16_000, 8_000) });
    for _ in 0..10 {
        module.capture(Instant::now(), Some(&[5; 160]), None);
    }
    assert_eq!(binaries(&mut module), [3_200, 3_200]);
}

#[test]
fn stereo_has_the_caller_on_the_left_and_needs_both_directions() {
    let mut module =
        open(ForkSpec { mix: Mix::Stereo, ..ForkSpec::new(Edition::Jambonz, 8_000, 8_000) });
    module.capture(Instant::now(), Some(&[5; 160]), None);
    assert_eq!(module.poll_message(), None);
    module.capture(Instant::now(), Some(&[5; 160]), Some(&[6; 160]));
    let Some(ForkMessage::Binary(bytes)) = module.poll_message() else { panic!("no audio") };
    assert_eq!(crate::freeswitch::samples_of(&bytes)[..4], [5, 6, 5, 6]);
}

#[test]
fn filler_keeps_its_bytes_at_any_rate() {
    for rate in [8_000, 16_000, 24_000, 48_000] {
        let mut module = open(ForkSpec::new(Edition::Jambonz, rate, 8_000));
        for _ in 0..4 {
            module.capture(Instant::now(), Some(&[-1; 160]), None);
        }
        let Some(ForkMessage::Binary(bytes)) = module.poll_message() else { panic!("no audio") };
        let last = &bytes[bytes.len() - 320..];
        assert!(last.iter().all(|byte| *byte == 0xFF), "{rate}");
    }
}

#[test]
fn audio_of_a_slow_handshake_is_one_message_or_lost() {
    let spec = ForkSpec {
        metadata: Some("{\"a\":1}".to_owned()),
        ..ForkSpec::new(Edition::Jambonz, 8_000, 8_000)
    };
    let mut module = ForkModule::new(spec);
    for _ in 0..52 {
        module.capture(Instant::now(), Some(&[5; 160]), None);
        assert_eq!(module.poll_message(), None);
    }
    module.handle_connected(Instant::now());
    assert_eq!(module.poll_message(), Some(ForkMessage::Text("{\"a\":1}".to_owned())));
    assert_eq!(binaries(&mut module), [16_640]);
    let mut module = ForkModule::new(ForkSpec::new(Edition::Stream, 8_000, 8_000));
    module.capture(Instant::now(), Some(&[5; 160]), None);
    module.handle_connected(Instant::now());
    assert_eq!(module.poll_message(), None);
}

#[test]
fn a_server_that_does_not_read_overruns_the_buffer_once() {
    for (codec, rate) in [(48_000, 48_000), (8_000, 48_000)] {
        let mut module =
            open(ForkSpec { mix: Mix::Stereo, ..ForkSpec::new(Edition::Jambonz, rate, codec) });
        let frame = vec![5; codec as usize / 50];
        for _ in 0..1_000 {
            module.capture(Instant::now(), Some(&frame), Some(&frame));
        }
        assert_eq!(raised(&mut module), [("buffer_overrun", None)]);
        let sizes = binaries(&mut module);
        assert!(sizes.len() == 1 && sizes[0] <= 384_000, "{sizes:?}");
    }
}

#[test]
fn some_messages_are_two_frames_by_the_seed() {
    let sizes = |seed| -> Vec<usize> {
        let spec =
            ForkSpec { joined_percent: 20, seed, ..ForkSpec::new(Edition::Jambonz, 16_000, 8_000) };
        let mut module = open(spec);
        let frames = (0..100).flat_map(|_| {
            module.capture(Instant::now(), Some(&[5; 160]), None);
            binaries(&mut module)
        });
        frames.collect()
    };
    assert!(sizes(1).iter().all(|size| matches!(size, 640 | 1_280)));
    assert!(sizes(1).contains(&1_280) && sizes(1).contains(&640));
    assert_eq!(sizes(1), sizes(1));
    assert_ne!(sizes(1), sizes(2));
}

#[test]
fn pause_stop_and_the_graceful_end() {
    let frame = |module: &mut ForkModule| module.capture(Instant::now(), Some(&[5; 160]), None);
    let spec = || ForkSpec::new(Edition::Jambonz, 8_000, 8_000);
    let mut module = open(spec());
    module.set_paused(true);
    frame(&mut module);
    assert_eq!(module.poll_message(), None);
    module.set_paused(false);
    frame(&mut module);
    module.stop(Some("{\"reason\":\"done\"}"));
    assert_eq!(module.poll_message(), Some(ForkMessage::Text("{\"reason\":\"done\"}".to_owned())));
    assert_eq!(
        module.poll_message(),
        Some(ForkMessage::Close { code: 1000, reason: String::new() })
    );
    assert_eq!(module.poll_message(), None);

    let mut module = open(spec());
    module.finish();
    frame(&mut module);
    assert_eq!(module.poll_message(), Some(ForkMessage::Binary(Vec::new())));
    assert_eq!(module.poll_message(), None);
    module.stop(None);
    assert_eq!(module.poll_message(), Some(ForkMessage::Binary(Vec::new())), "and no close frame");
    assert_eq!(module.poll_message(), None);

    let mut module = ForkModule::new(spec());
    module.stop(None);
    module.handle_connected(Instant::now());
    assert_eq!(
        (module.poll_message(), module.poll_event()),
        (None, None),
        "it stays open and silent"
    );
}

#[test]
fn texts_that_wait_are_one_with_drachtio() {
    for (edition, expected) in [
        (Edition::Drachtio, &["{\"a\":1}{\"b\":2}"][..]),
        (Edition::Jambonz, &["{\"a\":1}", "{\"b\":2}"]),
    ] {
        let mut module = open(ForkSpec::new(edition, 8_000, 8_000));
        module.send_text("{\"a\":1}");
        module.send_text("{\"b\":2}");
        assert_eq!(texts(&mut module), expected);
    }
}

#[test]
fn ends_are_told_as_the_modules_tell_them() {
    let closed = SocketEnd::Closed { code: 1000, reason: "bye".to_owned() };
    let reset = SocketEnd::Broken("Connection reset by peer (system error 104)".to_owned());
    let body = |text: &str| Some(text.to_owned());
    for (edition, end, name, text, detached) in [
        (Edition::Jambonz, &closed, "disconnect", None, false),
        (Edition::Drachtio, &reset, "disconnect", None, false),
        (
            Edition::Stream,
            &closed,
            "disconnect",
            body("{\"status\":\"disconnected\",\"message\":{\"code\":1000,\"reason\":\"bye\"}}"),
            false,
        ),
        (
            Edition::Stream,
            &reset,
            "error",
            body(
                "{\"status\":\"error\",\"message\":{\"code\":1,\"error\":\"Connection reset by peer (system error 104)\"}}",
            ),
            true,
        ),
    ] {
        let mut module = open(ForkSpec::new(edition, 8_000, 8_000));
        module.handle_ended(end);
        assert_eq!(
            module.poll_event(),
            Some(ForkEvent::Raised { name, body: text }),
            "{edition:?}"
        );
        assert_eq!(module.poll_event().is_some(), detached, "{edition:?}");
        assert!(!module.is_alive());
    }
}

#[test]
fn the_two_way_stream_plays_what_it_gets() {
    let mut module =
        open(ForkSpec { back_rate: 8_000, ..ForkSpec::new(Edition::StreamTwoWay, 8_000, 8_000) });
    module.handle_binary(&bytes_of(&[100; 160]));
    assert_eq!(heard(&mut module), 160);
    let spec = ForkSpec { streaming: false, ..ForkSpec::new(Edition::StreamTwoWay, 8_000, 8_000) };
    let mut module = open(spec);
    module.handle_text(
        "{\"type\":\"streamAudio\",\"data\":{\"audioDataType\":\"raw\",\"sampleRate\":8000,\"audioData\":\"ZABkAA==\",\"id\":7}}",
    );
    assert_eq!(heard(&mut module), 2);
    let event = raised(&mut module);
    assert_eq!(
        event[0].1.as_deref(),
        Some("{\"audioDataType\":\"raw\",\"sampleRate\":8000,\"id\":7}")
    );
}

#[test]
fn pings_follow_the_heart_beat() {
    let start = Instant::now();
    let spec = ForkSpec {
        heart_beat: Some(Duration::from_secs(1)),
        ..ForkSpec::new(Edition::Stream, 8_000, 8_000)
    };
    let mut module = ForkModule::new(spec);
    module.handle_connected(start);
    let mut pings = 0;
    for frame in 0..=150 {
        module.capture(start + Duration::from_millis(frame * 20), Some(&[0; 160]), None);
        while let Some(message) = module.poll_message() {
            pings += usize::from(message == ForkMessage::Ping);
        }
    }
    assert_eq!(pings, 3);
}
