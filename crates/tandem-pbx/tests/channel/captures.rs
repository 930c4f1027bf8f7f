//! What a real switch said, told to the machine.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tandem_call::{
    FilePlayback, HangupCause, SignalCommand, SignalEvent, TransferKind, TransferOutcome,
};
use tandem_pbx::{
    ChannelEvent, ChannelEventKind, ChannelSettings, EventHeaders, ForkEvent, ForkModule, ForkPlan,
    ForkSource,
};

use crate::world::{World, completed, fork_plan, hung_up, refused, secs, settings};

fn directory(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/freeswitch")).join(name)
}

/// One message of a recorded dialogue.
struct Block {
    from_switch: bool,
    text: String,
}

fn blocks(path: &Path) -> Vec<Block> {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut blocks = Vec::new();
    for part in format!("\n{text}").split("\n#### ").skip(1) {
        let (head, body) = part.split_once('\n').unwrap_or((part, ""));
        blocks.push(Block { from_switch: head.ends_with("S>C"), text: body.to_owned() });
    }
    blocks
}

/// The events of a recording, in order.
fn events(path: &Path) -> Vec<ChannelEvent> {
    blocks(path).iter().filter(|block| block.from_switch).flat_map(read).collect()
}

fn read(block: &Block) -> Vec<ChannelEvent> {
    let headers = if block.text.contains("Content-Type: text/event-json") {
        let json = block.text.find("{\"").map(|start| block.text[start..].trim_end());
        json.and_then(|json| EventHeaders::from_json(json.as_bytes()))
    } else {
        // A reply of an outbound socket is the event itself; others stand behind their frame's headers.
        let framed = block.text.contains("Content-Type: text/event-plain");
        let inner = block.text.split_once("\n\n").map(|(_, inner)| inner).filter(|_| framed);
        let inner = inner.unwrap_or(&block.text);
        inner.contains("Event-Name: ").then(|| plain(inner))
    };
    headers.map(ChannelEvent::read).unwrap_or_default()
}

fn plain(text: &str) -> EventHeaders {
    let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
    let decoded: Vec<(&str, String)> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name, decode(value)))
        .collect();
    let body = body.trim_end().to_owned();
    let pairs = decoded.iter().map(|(name, value)| (*name, value.as_str()));
    EventHeaders::from_pairs(pairs.chain([("_body", body.as_str())]))
}

fn decode(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: String = rest.by_ref().take(2).map(char::from).collect();
            bytes.push(u8::from_str_radix(&hex, 16).unwrap_or(b'?'));
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A call on the channel of the recording that is up.
fn talking_on(events: &[ChannelEvent]) -> World {
    let own = events.first().expect("the recording holds events").uuid.clone();
    let module = events.iter().find_map(|event| match event.kind {
        ChannelEventKind::Fork { module, .. } => Some(module),
        _ => None,
    });
    let module = module.unwrap_or(ForkModule::AudioFork);
    let fork = ForkSource::Ours(Box::new(ForkPlan { module, back: None, ..fork_plan() }));
    let mut world = World::new(ChannelSettings { uuid: own, answered: true, fork, ..settings() });
    world.command(SignalCommand::Answer);
    world.take_events();
    world.lines.clear();
    world
}

fn replay(world: &mut World, events: &[ChannelEvent]) {
    for event in events {
        world.told(event);
    }
}

#[test]
fn digits_by_telephone_event() {
    let events = events(&directory("fork/dtmf_rfc4733.esl.txt"));
    let mut world = talking_on(&events);
    replay(&mut world, &events);
    let digits: String = world
        .take_events()
        .iter()
        .map(|event| match event {
            SignalEvent::Digit(digit) => digit.as_char(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(digits, "159*0#");
}

#[test]
fn a_caller_who_holds() {
    let events = events(&directory("fork/caller_hold_reinvite.esl.txt"));
    let mut world = talking_on(&events);
    replay(&mut world, &events);
    assert_eq!(world.take_events(), [SignalEvent::Held(true), SignalEvent::Held(false)]);
}

#[test]
fn files_written_by_the_module_are_played_as_the_recording_played_them() {
    let path = directory("fork/playaudio_file.esl.txt");
    let recorded: Vec<String> = blocks(&path)
        .into_iter()
        .filter(|block| !block.from_switch)
        .filter_map(|block| block.text.trim().strip_prefix("api ").map(str::to_owned))
        .filter(|line| line.starts_with("uuid_broadcast"))
        .collect();
    let events = events(&path);
    let mut world = talking_on(&events);
    let mut id = 0;
    for event in &events {
        let mut event = event.clone();
        if let ChannelEventKind::Fork { event: ForkEvent::PlayFile { id: of, .. }, .. } =
            &mut event.kind
        {
            id += 1;
            *of = Some(id.to_string());
        }
        world.told(&event);
    }
    let ordered = world.take_lines();
    for (line, recorded) in ordered.iter().zip(&recorded) {
        assert_eq!(*line, format!("{recorded} aleg"));
    }
    let told = world.take_events();
    for id in 1..=4 {
        let started = SignalEvent::Playback(FilePlayback::Started { id });
        let broken = id == 4; // By killAudio.
        let stopped = SignalEvent::Playback(FilePlayback::Stopped { id, broken });
        let start = told.iter().position(|event| *event == started).expect("it started");
        let stop = told.iter().position(|event| *event == stopped).expect("it stopped");
        assert!(start < stop);
    }
    let failed =
        |event: &&SignalEvent| matches!(event, SignalEvent::Playback(FilePlayback::Failed { .. }));
    assert_eq!(told.iter().filter(failed).count(), 2, "an mp3 and an empty one were never written");
}

#[test]
fn a_fork_whose_far_end_closes_or_refuses_is_started_again() {
    for name in [
        "fork/server_close_1000",
        "fork/server_close_1011",
        "fork/server_close_4001",
        "fork/server_tcp_reset",
        "fork/connect_refused",
        "fork/handshake_http_401",
        "fork/handshake_http_503",
        "fork/handshake_other_subprotocol",
        "fork/handshake_tcp_drop",
        "stream/server_close_1000",
        "stream/server_close_1011",
        "stream/server_tcp_reset",
        "stream/handshake_http_403",
        "stream/handshake_tcp_drop",
    ] {
        let events = events(&directory(&format!("{name}.esl.txt")));
        let mut world = talking_on(&events);
        let last = events
            .iter()
            .position(|event| {
                matches!(
                    event.kind,
                    ChannelEventKind::Fork {
                        event: ForkEvent::Failed { .. } | ForkEvent::Disconnected { .. },
                        ..
                    }
                )
            })
            .unwrap_or_else(|| panic!("{name} tells of a failure"));
        replay(&mut world, &events[..=last]);
        world.run(secs(1));
        let lines = world.take_lines();
        assert!(lines[0].ends_with(" stop"), "{name}: {lines:?}");
        assert!(lines[1].contains("|start|"), "{name}: {lines:?}");
        assert!(world.take_events().is_empty(), "{name}");
    }
}

#[test]
fn a_bridge_is_ours_when_we_ordered_it_and_somebody_elses_when_not() {
    let events = events(&directory("esl/bridge_hold_unbridge.txt"));
    let target = "5e551000-0000-4000-8000-000000000021";
    let own = events.iter().find(|event| event.uuid.as_str() != target).unwrap().uuid.clone();
    for ours in [true, false] {
        let mut world =
            World::new(ChannelSettings { uuid: own.clone(), answered: true, ..settings() });
        world.command(SignalCommand::Answer);
        world.take_events();
        if ours {
            world.transfer(TransferKind::External, "+491");
            world.target_answers();
        }
        replay(&mut world, &events);
        if ours {
            assert_eq!(world.take_events(), completed());
        } else {
            let taken = [SignalEvent::TakenOver, hung_up(HangupCause::NormalClearing)];
            assert_eq!(world.take_events(), taken);
        }
        assert!(world.channel.is_done(), "the recording ends with the call");
    }
}

#[test]
fn every_failure_of_the_switch_brings_the_caller_back() {
    let mut failures = 0;
    for block in blocks(&directory("esl/originate_failures.txt")) {
        let Some((_, reason)) = block.text.split_once("-ERR ").filter(|_| block.from_switch) else {
            continue;
        };
        let reason = reason.split_whitespace().next().unwrap();
        let mut world = World::talking();
        world.transfer(TransferKind::External, "+491");
        world.answer("originate", refused(reason));
        let (status, said) = world.failure();
        assert!(said.starts_with(&format!("{reason}: ")), "{said}");
        assert!(status.is_some(), "{reason}");
        assert!(!said.ends_with("the call failed"), "{said}");
        assert!(!world.channel.is_done());
        failures += 1;
    }
    assert!(failures > 20, "{failures}");
}

#[test]
fn a_channel_that_is_parked_held_and_ended_at_last() {
    let events = events(&directory("esl/transfer_park_hold.txt"));
    let mut world = talking_on(&events);
    replay(&mut world, &events);
    assert_eq!(
        world.take_events(),
        [
            SignalEvent::Held(true),
            SignalEvent::Held(false),
            SignalEvent::Held(true),
            SignalEvent::Held(false),
            hung_up(HangupCause::UnallocatedNumber),
        ]
    );
}

#[test]
fn a_call_on_an_outbound_socket() {
    let events = events(&directory("esl/outbound_socket_async_full.txt"));
    let own = events[0].uuid.clone();
    let mut world = World::new(ChannelSettings { uuid: own, ..settings() });
    world.hold_back("uuid_answer");
    world.command(SignalCommand::Answer);
    replay(&mut world, &events);
    assert_eq!(world.take_events(), [SignalEvent::Answered, hung_up(HangupCause::NormalClearing)]);
    assert!(world.channel.is_done());
}

#[test]
fn any_recording_ends_a_call_once_at_most() {
    let mut recordings = 0;
    for name in ["esl", "fork", "fork-drachtio", "stream"] {
        for entry in fs::read_dir(directory(name)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "txt") {
                continue;
            }
            recordings += 1;
            let events = events(&path);
            let mut channels: Vec<_> = events.iter().map(|event| event.uuid.clone()).collect();
            channels.sort();
            channels.dedup();
            for own in channels {
                let mut world = World::new(ChannelSettings { uuid: own, ..settings() });
                world.command(SignalCommand::Answer);
                world.transfer(TransferKind::External, "+491");
                replay(&mut world, &events);
                world.run(secs(1));
                let told = world.take_events();
                let ends = told.iter().filter(|event| is_end(event)).count();
                assert!(ends <= 1, "{}: {told:?}", path.display());
                if ends == 1 {
                    assert!(is_end(told.last().unwrap()), "{}: {told:?}", path.display());
                }
                let outcomes = told.iter().filter(|event| {
                    matches!(event, SignalEvent::Transfer(TransferOutcome::Failed { .. }))
                });
                assert!(outcomes.count() <= 1, "{}", path.display());
            }
        }
    }
    assert!(recordings >= 120, "{recordings}");
}

fn is_end(event: &SignalEvent) -> bool {
    matches!(event, SignalEvent::Cancelled | SignalEvent::HungUp { .. })
}
