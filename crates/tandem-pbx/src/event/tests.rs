use std::collections::{BTreeMap, BTreeSet};

use tandem_call::HangupCause;

use super::{ChannelEventKind as Kind, *};
use crate::{
    captures::{self, Block, Capture},
    esl::FrameReader,
};

/// The headers of all events of a recording.
fn headers(capture: &Capture) -> Vec<EventHeaders> {
    let mut reader = FrameReader::default();
    let mut events = Vec::new();
    for block in &capture.blocks {
        match block {
            Block::Received(bytes) => reader.push(bytes),
            Block::Note(_) => reader = FrameReader::default(),
            Block::Sent(_) => continue,
        }
        while let Some(frame) = reader.next().unwrap() {
            events.extend(frame.event());
        }
    }
    events
}

fn events(name: &str) -> Vec<ChannelEvent> {
    headers(&captures::named(name)).into_iter().flat_map(ChannelEvent::read).collect()
}

/// `kind` in a word or two, for tables.
fn short(event: &ChannelEvent) -> String {
    match &event.kind {
        Kind::Created => "created".into(),
        Kind::Progress { early } => if *early { "early" } else { "ringing" }.into(),
        Kind::Answered => "answered".into(),
        Kind::Bridged { peer } => format!("bridged {}", &peer.as_str()[..4]),
        Kind::Unbridged { peer } => format!("unbridged {}", &peer.as_str()[..4]),
        Kind::Held => "held".into(),
        Kind::Unheld => "unheld".into(),
        Kind::Parked => "parked".into(),
        Kind::Unparked => "unparked".into(),
        Kind::Executed { app, args, .. } => format!("> {app} {args}").trim_end().into(),
        Kind::ExecuteComplete { app, args, response, .. } => format!("< {app} {args}={response}"),
        Kind::Digit { digit, duration, source } => {
            format!("digit {} {} ms {source:?}", digit.as_char(), duration.as_millis())
        }
        Kind::PlaybackStarted { file } => format!("plays {file}"),
        Kind::PlaybackStopped { file, broken } => {
            format!("{} {file}", if *broken { "broken" } else { "played" })
        }
        Kind::RecordStarted { path } => format!("records {path}"),
        Kind::RecordStopped { path } => format!("recorded {path}"),
        Kind::BugStarted { function } => format!("bug {function}"),
        Kind::BugStopped { function } => format!("no bug {function}"),
        Kind::Fork { event, .. } => format!("fork {event:?}"),
        Kind::HungUp { cause } => format!("hung up {cause}"),
        Kind::HungUpComplete { cause } => format!("complete {cause}"),
        Kind::Destroyed => "gone".into(),
        Kind::Valet { lot, slot, action } => format!("valet {lot} {slot} {action}"),
        Kind::Conference { name, action, member } => {
            format!("conference {name} {action} {member:?}")
        }
        Kind::Other { name } => name.clone(),
    }
}

fn told(name: &str) -> Vec<String> {
    events(name)
        .iter()
        .map(|event| format!("{} {}", &event.uuid.as_str()[..4], short(event)))
        .collect()
}

#[test]
fn every_recorded_event_of_a_channel_is_told() {
    let (mut kinds, mut others) = (BTreeMap::<_, usize>::new(), BTreeSet::new());
    for capture in captures::all() {
        for headers in headers(&capture) {
            let name = headers.get("Event-Name").unwrap().to_owned();
            let named = headers.get("Unique-ID").is_some();
            let told = ChannelEvent::read(headers);
            let expected = match name.as_str() {
                "CHANNEL_BRIDGE" | "CHANNEL_UNBRIDGE" => 2,
                _ if named => 1,
                _ => 0,
            };
            assert_eq!(told.len(), expected, "{}: {name}", capture.name);
            for event in told {
                match event.kind {
                    Kind::Other { name } => drop(others.insert(name)),
                    _ => *kinds.entry(name.clone()).or_default() += 1,
                }
            }
        }
    }
    let others: Vec<_> = others.iter().map(String::as_str).collect();
    assert_eq!(
        others,
        [
            "CALL_UPDATE",
            "CHANNEL_CALLSTATE",
            "CHANNEL_ORIGINATE",
            "CHANNEL_OUTGOING",
            "CHANNEL_STATE",
            "CODEC"
        ]
    );
    for (name, least) in [
        ("CUSTOM", 180),
        ("CHANNEL_BRIDGE", 6),
        ("DTMF", 15),
        ("PLAYBACK_STOP", 11),
        ("CHANNEL_DESTROY", 3),
    ] {
        assert!(kinds[name] >= least, "{name}: {}", kinds[name]);
    }
}

#[test]
fn a_call_bridged_held_and_bridged_again() {
    assert_eq!(
        told("esl/bridge_hold_unbridge")
            .into_iter()
            .filter(|told| !told.ends_with("CALL_UPDATE"))
            .collect::<Vec<_>>(),
        [
            "5e55 answered",
            "5e55 parked",
            "971a bridged 5e55",
            "5e55 bridged 971a",
            "971a held",
            "971a unheld",
            "971a unbridged 5e55",
            "5e55 unbridged 971a",
            "971a parked",
            "5e55 parked",
            "971a bridged 5e55",
            "5e55 bridged 971a",
            "5e55 complete NORMAL_CLEARING",
            "971a unbridged 5e55",
            "5e55 unbridged 971a",
            "971a complete NORMAL_CLEARING",
        ]
    );
    let bridged = events("esl/bridge_hold_unbridge")
        .into_iter()
        .filter(|event| matches!(event.kind, Kind::Bridged { .. }));
    let bridged: Vec<_> = bridged.take(2).collect();
    assert_eq!(bridged[0].variable("sip_from_user"), Some("caller"));
    assert!(bridged[1].headers.is_empty(), "the partner is not told the caller's variables");
}

#[test]
fn a_call_from_its_beginning_to_its_end() {
    let expected = [
        "created",
        "> answer",
        "answered",
        "< answer =",
        "> playback tone_stream://%(500,500,440);loops=-1",
        "plays tone_stream://%(500,500,440);loops=-1",
        "digit 5 160 ms Rtp",
        "hung up NORMAL_CLEARING",
        "played tone_stream://%(500,500,440);loops=-1",
        "< playback tone_stream://%(500,500,440);loops=-1=PLAYBACK ERROR",
        "complete NORMAL_CLEARING",
        "gone",
    ];
    let json: Vec<_> = events("esl/events_json_inbound_call").iter().map(short).collect();
    assert_eq!(json, expected);
    let plain: Vec<_> = events("esl/events_plain_inbound_call").iter().map(short).collect();
    let plain: Vec<_> = plain.iter().filter(|told| expected.contains(&told.as_str())).collect();
    assert_eq!(plain, expected.iter().collect::<Vec<_>>());
}

#[test]
fn playing_breaking_and_recording() {
    let told: Vec<_> = events("esl/uuid_ops").iter().map(short).collect();
    for expected in [
        "plays /var/lib/freeswitch/sounds/agent8.wav",
        "broken /var/lib/freeswitch/sounds/agent8.wav",
        "records /var/lib/freeswitch/rec/lab.wav",
        "recorded /var/lib/freeswitch/rec/lab.wav",
        "bug session_record",
        "no bug session_record",
        "digit 3 250 ms App",
        "hung up NORMAL_TEMPORARY_FAILURE",
    ] {
        assert!(told.iter().any(|told| told == expected), "{expected}: {told:#?}");
    }
    let tag = events("esl/sendmsg").into_iter().find_map(|event| match event.kind {
        Kind::ExecuteComplete { app, response, tag, .. } if app == "play_and_get_digits" => {
            Some((response, tag))
        }
        _ => None,
    });
    assert_eq!(tag.unwrap().1.as_deref(), Some("22222222-2222-4222-8222-222222222222"));
}

#[test]
fn what_the_fork_modules_report() {
    let forks = |name: &str| -> Vec<ForkEvent> {
        let of = |event: ChannelEvent| match event.kind {
            Kind::Fork { event, .. } => Some(event),
            _ => None,
        };
        events(name).into_iter().filter_map(of).collect()
    };
    let failed = |reason: &str, detached| ForkEvent::Failed { reason: reason.into(), detached };
    let lost = |code, reason: &str| ForkEvent::Disconnected { code, reason: reason.into() };
    for (name, expected) in [
        ("fork/mono_16000_pcmu", vec![ForkEvent::Connected]),
        ("fork/connect_refused", vec![failed("conn fail: 111", false)]),
        ("fork/handshake_http_401", vec![failed("HS: ws upgrade unauthorized", false)]),
        ("fork/handshake_other_subprotocol", vec![failed("HS: PROTOCOL malformed", false)]),
        ("fork/handshake_slow_101_12s", vec![failed("Timed out waiting server reply", false)]),
        ("fork/server_stops_reading", vec![ForkEvent::Connected, ForkEvent::Overrun]),
        (
            "stream/connect_refused_and_errors",
            vec![failed("Connection refused (system error 111)", true)],
        ),
        ("stream/handshake_slow_101_1s", vec![failed("Timeout", true)]),
        ("stream/server_close_1000", vec![ForkEvent::Connected, lost(Some(1000), "bye")]),
        (
            "stream/server_close_1011",
            vec![ForkEvent::Connected, lost(Some(1011), "internal error")],
        ),
        (
            "stream/server_tcp_reset",
            vec![ForkEvent::Connected, failed("Connection reset by peer (system error 104)", true)],
        ),
    ] {
        assert_eq!(forks(name), expected, "{name}");
    }
    assert!(forks("fork/server_close_1011").contains(&lost(None, "")));
    assert!(forks("fork/server_tcp_reset").contains(&lost(None, "")));

    let texts: Vec<_> = forks("fork/server_messages")
        .into_iter()
        .filter_map(|event| match event {
            ForkEvent::Text { kind, .. } => Some(kind),
            ForkEvent::KillAudio => Some("kill"),
            _ => None,
        })
        .collect();
    for kind in ["transcription", "transfer", "json", "error", "disconnect", "kill"] {
        assert!(texts.contains(&kind), "{kind}: {texts:?}");
    }

    let files = |name: &str| -> Vec<_> {
        let file =
            |event: &ChannelEvent| Some(event.play_file()?.as_str().rsplit('_').next()?.to_owned());
        events(name).iter().filter_map(file).collect()
    };
    assert_eq!(files("stream/server_messages_streamaudio"), ["0.tmp.r8", "1.tmp.r16", "2.tmp.wav"]);
    assert_eq!(files("fork/playaudio_file")[..3], ["0.tmp.r8", "1.tmp.r16", "2.tmp.r24"]);
    let play = |body: &str| fork::read("mod_audio_fork::play_audio", body).unwrap().1;
    for (body, wanted_file, wanted_id) in [
        (r#"{"id":"7","file":"/tmp/a_0.tmp.r8"}"#, Some("/tmp/a_0.tmp.r8"), Some("7")),
        (r#"{"id":7,"file":"/tmp/a b"}"#, None, Some("7")),
        (r#"{"audioContentType":"mp3"}"#, None, None),
        ("no JSON", None, None),
    ] {
        let ForkEvent::PlayFile { file, id, .. } = play(body) else { panic!("{body}") };
        assert_eq!(
            (file.as_ref().map(MediaPath::as_str), id.as_deref()),
            (wanted_file, wanted_id),
            "{body}"
        );
    }
}

#[test]
fn valet_parking_and_conferences() {
    let told: Vec<_> = events("esl/valet_and_conference").iter().map(short).collect();
    for expected in [
        "valet lab 5901 hold",
        "valet lab 5901 exit",
        "conference lab add-member Some(1)",
        "conference lab mute-member Some(2)",
        "conference lab del-member Some(1)",
    ] {
        assert!(told.iter().any(|told| told == expected), "{expected}: {told:#?}");
    }
}

#[test]
fn causes_of_calls_that_failed() {
    let causes: Vec<_> = events("esl/originate_failure_hangup_events")
        .into_iter()
        .filter_map(|event| match event.kind {
            Kind::HungUpComplete { cause } => {
                Some((cause.name().to_owned(), cause.cause(), cause.sip_status()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        causes,
        [
            ("USER_BUSY".to_owned(), HangupCause::UserBusy, Some(486)),
            ("CALL_REJECTED".to_owned(), HangupCause::CallRejected, Some(603)),
            ("NO_USER_RESPONSE".to_owned(), HangupCause::NoUserResponse, Some(480)),
        ]
    );
}

proptest::proptest! {
    #[test]
    fn any_headers_are_read(pairs in proptest::collection::vec(("[A-Z][A-Za-z-]{0,12}|Event-Name|Unique-ID|Event-Subclass|_body", "[ -~]{0,30}"), 0..12), name in "CUSTOM|DTMF|CHANNEL_BRIDGE|CHANNEL_HANGUP", body in ".{0,40}", sub in "mod_audio_(fork|stream)::(connect_failed|error|disconnect|play|play_audio)") {
        let uuid = "5e551000-0000-4000-8000-000000000021";
        let fixed = [("Event-Name", name.as_str()), ("Unique-ID", uuid), ("Event-Subclass", sub.as_str()), ("_body", body.as_str())];
        let headers = EventHeaders::from_pairs(fixed.into_iter().chain(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
        for event in ChannelEvent::read(headers) {
            proptest::prop_assert!(event.uuid.as_str().len() >= 8);
        }
    }
}
