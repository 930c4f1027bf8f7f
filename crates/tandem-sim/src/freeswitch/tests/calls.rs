//! Calls, transfers and faults on the virtual clock.

use std::time::Duration;

use super::{World, frames, millis};
use crate::freeswitch::{
    Answer, FakeCall, Speech, SwitchConfig, Target,
    call::{CallMode, ForkFirst},
    model::{Dial, StoredFile},
    settings::LegAct,
};

fn parked(world: &mut World) -> String {
    let uuid = world.call(FakeCall::new("9003", CallMode::Dialplan));
    world.run(millis(100));
    uuid
}

#[test]
fn a_call_to_nowhere_is_hung_up() {
    let mut world = World::new();
    let uuid = world.call(FakeCall::new("123456", CallMode::Dialplan));
    world.run(millis(100));
    let view = world.model.view(&uuid).unwrap();
    assert!(view.gone);
    assert_eq!(view.cause.as_deref(), Some("NO_ROUTE_DESTINATION"));
    assert_eq!(
        world.names(&uuid),
        ["CHANNEL_CREATE", "CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"]
    );
}

#[test]
fn originates_end_as_their_targets_do() {
    for (dial, target, result) in [
        ("user/1000@d", Some(Target::answers(millis(500))), "+OK 11111111-"),
        ("user/1000@d", Some(Target::busy()), "-ERR USER_BUSY\n"),
        ("user/1000@d", Some(Target::unknown()), "-ERR UNALLOCATED_NUMBER\n"),
        ("user/1000@d", Some(Target::rings_for_ever()), "-ERR NO_ANSWER\n"),
        ("user/1000@d", None, "-ERR SUBSCRIBER_ABSENT\n"),
        ("user/1001@d", None, "-ERR USER_NOT_REGISTERED\n"),
        ("group/default@d", None, "-ERR USER_NOT_REGISTERED\n"),
        ("group/other@d", None, "-ERR NO_ROUTE_DESTINATION\n"),
        ("sofia/gateway/trunk1/0301", None, "-ERR NORMAL_TEMPORARY_FAILURE\n"),
        ("sofia/gateway/other/0301", None, "-ERR INVALID_GATEWAY\n"),
        ("loopback/9011/default", None, "-ERR USER_BUSY\n"),
        ("loopback/9012/default", None, "-ERR CALL_REJECTED\n"),
        ("loopback/9013/default", None, "-ERR NO_ANSWER\n"),
        ("loopback/777/default", None, "-ERR NO_ROUTE_DESTINATION\n"),
        ("loopback/1000/default", None, "+OK 11111111-"),
        ("user/1@d|error/user_busy", None, "-ERR USER_BUSY\n"),
    ] {
        let mut world = World::new();
        if let Some(target) = target {
            world.model.targets.push(("user/1000".to_owned(), target));
        }
        let id = world.trusted_client("BACKGROUND_JOB");
        let uuid = "11111111-2222-4333-8444-555555555555";
        let line = format!("{{origination_uuid={uuid},originate_timeout=3}}{dial} &park()");
        world.say(id, &format!("bgapi originate {line}\nJob-UUID: j1\n\n"));
        world.run(Duration::from_secs(4));
        let heard = world.hear(id);
        let job = heard.last().unwrap().event();
        assert_eq!(super::find(&job, "Job-UUID"), Some("j1"), "{dial}");
        let body = super::find(&job, "_body").unwrap();
        assert!(body.starts_with(result), "{dial}: {body}");
        assert_eq!(world.model.channels.contains_key(uuid), result.starts_with("+OK"), "{dial}");
        assert!(world.model.originates.is_empty(), "{dial}");
    }
}

#[test]
fn a_group_rings_at_all_its_users_who_are_registered() {
    let mut world = World::new();
    for (user, after) in [("1001", 2_000), ("1002", 300)] {
        let contact = format!("sofia/internal/{user}@192.0.2.7:5060");
        world.model.targets.push((contact.clone(), Target::answers(millis(after))));
        world.model.config.users.insert(user.to_owned(), Some(contact));
    }
    let id = world.trusted_client("CHANNEL_HANGUP_COMPLETE");
    world.say(id, "bgapi originate group/default@d &park\n\n");
    world.run(millis(100));
    assert_eq!(world.model.channels.len(), 2);
    world.run(millis(500));
    let left: Vec<_> = world.model.channels.values().map(|channel| &channel.name).collect();
    assert_eq!(left, ["sofia/internal/1002@192.0.2.7:5060"]);
    let lost = world.hear(id).last().unwrap().event();
    assert_eq!(super::find(&lost, "Hangup-Cause"), Some("LOSE_RACE"));
}

#[test]
fn a_place_that_does_not_exist_keeps_nobody() {
    for (actions, stays) in [
        ("callcenter:support@default", true),
        ("callcenter:support", false),
        ("'fifo:any in'", true),
        ("ivr:main", true),
        ("ivr:other", false),
        ("'voicemail:default d 1001'", true),
        ("'voicemail:default d 7777'", false),
        ("conference:any@default", true),
    ] {
        let mut world = World::new();
        let id = world.trusted_client("CHANNEL_EXECUTE");
        let uuid = parked(&mut world);
        world.api(id, &format!("uuid_transfer {uuid} {actions} inline"));
        world.run(millis(100));
        let view = world.model.view(&uuid).unwrap();
        assert_eq!(view.cause.as_deref(), (!stays).then_some("NORMAL_CLEARING"), "{actions}");
        assert!(world.names(&uuid).contains(&"CHANNEL_EXECUTE".to_owned()), "{actions}");
        let members = world.api(id, "callcenter_config queue list members support@default");
        assert_eq!(members.contains(&uuid), actions.ends_with("support@default"), "{members}");
    }
}

#[test]
fn the_first_of_several_legs_wins() {
    let mut world = World::new();
    for (user, after) in [("slow", 2_000), ("fast", 300)] {
        world.model.targets.push((format!("user/{user}"), Target::answers(millis(after))));
    }
    let id = world.trusted_client("CHANNEL_HANGUP_COMPLETE");
    world.say(id, "api originate user/slow,user/fast &park\n\n");
    world.run(Duration::from_secs(1));
    let heard = world.hear(id);
    assert!(heard[0].body.starts_with("+OK "), "{heard:?}");
    let lost = heard[1].event();
    assert_eq!(super::find(&lost, "Hangup-Cause"), Some("LOSE_RACE"));
    assert_eq!(world.model.channels.len(), 1);
}

#[test]
fn an_api_command_that_takes_time_holds_its_connection_up() {
    let mut world = World::new();
    world.model.targets.push(("user/1".to_owned(), Target::answers(millis(500))));
    let id = world.trusted_client("CHANNEL_CREATE CHANNEL_ANSWER");
    world.say(id, "api originate user/1 &park\n\napi uuid_exists x\n\n");
    world.run(millis(300));
    assert_eq!(world.hear(id), [], "no reply and no event yet");
    world.run(millis(300));
    let heard = world.hear(id);
    let kinds: Vec<_> = heard.iter().map(|frame| frame.header("Content-Type").unwrap()).collect();
    assert_eq!(kinds, ["api/response", "text/event-json", "text/event-json", "api/response"]);
    assert_eq!(heard[3].body, "false");
}

#[test]
fn bridged_channels_hear_each_other_and_end_together() {
    let mut world = World::new();
    world.model.targets.push((
        "user/1".to_owned(),
        Target::answers(millis(100)).then(millis(300), LegAct::Say(vec![700; 8_000])),
    ));
    let id = world.trusted_client("CHANNEL_BRIDGE");
    let caller =
        world.call(FakeCall::new("9005", CallMode::Dialplan).speech(Speech::Loop(vec![500])));
    world.say(id, "api originate {origination_uuid=leg}user/1 &park\n\n");
    world.run(millis(200));
    world.hear(id);
    assert_eq!(world.api(id, &format!("uuid_bridge {caller} leg")), "+OK leg\n");
    world.run(millis(600));
    let heard = |world: &World, uuid: &str| world.model.heard(world.now, uuid, None).unwrap();
    let (at_caller, at_leg) = (heard(&world, &caller), heard(&world, "leg"));
    assert!(at_caller.samples.contains(&700), "the caller hears the leg");
    assert!(at_leg.samples.contains(&500), "the leg hears the caller");
    assert_eq!(world.model.view(&caller).unwrap().peer.as_deref(), Some("leg"));
    let now = world.now;
    world.model.hang_up(now, "leg", "NORMAL_CLEARING");
    world.run(millis(100));
    assert!(world.model.channels.is_empty(), "one end takes the other with it");
    let names = world.names(&caller);
    let unbridge = names.iter().position(|name| name == "CHANNEL_UNBRIDGE").unwrap();
    assert_eq!(names[unbridge + 1], "CHANNEL_HANGUP");
}

#[test]
fn a_caller_stays_when_told_to_park_after_the_bridge() {
    let mut world = World::new();
    world.model.targets.push(("user/1".to_owned(), Target::answers(Duration::ZERO)));
    let caller = parked(&mut world);
    let id = world.trusted_client("DTMF");
    world.say(id, "bgapi originate {origination_uuid=leg}user/1 &park\n\n");
    world.api(id, &format!("uuid_setvar {caller} park_after_bridge true"));
    world.run(millis(100));
    world.api(id, &format!("uuid_bridge {caller} leg"));
    world.run(millis(100));
    world.api(id, "uuid_kill leg");
    world.run(millis(100));
    let view = world.model.view(&caller).unwrap();
    assert!(!view.gone);
    assert_eq!(view.state, "CS_PARK");
}

#[test]
fn broadcasts_play_one_after_another_and_a_break_of_all_ends_them() {
    let mut world = World::new();
    let uuid = parked(&mut world);
    for name in ["/a.r8", "/b.r8"] {
        let file = StoredFile { rate: 8_000, samples: vec![900; 4_000], owner: None };
        world.model.store_file(name.to_owned(), file);
    }
    let id = world.trusted_client("PLAYBACK_START PLAYBACK_STOP");
    for name in ["/a.r8", "/b.r8", "/a.r8"] {
        world.api(id, &format!("uuid_broadcast {uuid} {name} aleg"));
    }
    world.run(millis(1_000));
    world.api(id, &format!("uuid_break {uuid} all"));
    world.run(Duration::from_secs(2));
    let stops: Vec<_> = world
        .model
        .events
        .iter()
        .filter(|event| event.name().starts_with("PLAYBACK"))
        .map(|event| (event.header("Playback-File-Path").unwrap(), event.header("Playback-Status")))
        .collect();
    assert_eq!(
        stops,
        [("/a.r8", None), ("/a.r8", Some("done")), ("/b.r8", None), ("/b.r8", Some("break"))]
    );
    let heard = world.model.heard(world.now, &uuid, None).unwrap();
    let first = heard.first_sound(heard.started, 100).unwrap() - heard.started;
    assert!(first >= millis(180) && first <= millis(240), "five frames are read first: {first:?}");
    assert_eq!(heard.samples.iter().filter(|sample| **sample == 900).count() % 160, 0);
    assert!(heard.silent_since(world.now - millis(1_900), 100));
}

#[test]
fn nothing_is_written_to_a_parked_channel_unless_it_is_asked_for() {
    let mut world = World::new();
    let quiet = world.call(FakeCall::new("9005", CallMode::Dialplan));
    let written = world.call(FakeCall::new("9003", CallMode::Dialplan));
    world.run(Duration::from_secs(1));
    assert_eq!(world.model.heard(world.now, &quiet, None).unwrap().written, 0);
    assert!(world.model.heard(world.now, &written, None).unwrap().written > 7_000);
}

/// As a real switch was seen to do: the variable counts when it is there as media begins to flow in the application.
#[test]
fn silence_must_be_asked_for_before_a_parked_channel_is_answered() {
    for (steps, writes) in [
        (&["uuid_setvar U send_silence_when_idle -1", "uuid_answer U"][..], true),
        (&["uuid_answer U", "uuid_setvar U send_silence_when_idle -1"], false),
        (&["uuid_answer U", "uuid_setvar U send_silence_when_idle -1", "uuid_park U"], true),
    ] {
        let mut world = World::new();
        let park = vec![("park".to_owned(), String::new())];
        let uuid = world.call(FakeCall::new("1", CallMode::Actions(park)));
        let id = world.trusted_client("DTMF");
        for step in steps {
            world.run(millis(100));
            world.api(id, &step.replace('U', &uuid));
        }
        world.run(millis(200));
        let written = world.model.heard(world.now, &uuid, None).unwrap().written;
        assert_eq!(written > 0, writes, "{steps:?}");
    }
}

#[test]
fn outbound_sockets_are_told_of_their_channel_and_let_it_go() {
    let mut world = World::new();
    let then = vec![("playback".to_owned(), "silence_stream://-1".to_owned())];
    let mode = CallMode::Socket { address: "127.0.0.1:8084".to_owned(), then };
    let call = FakeCall::new("4930123", mode).variable("sip_h_X-Tenant", "a c");
    let uuid = world.call(call);
    let Some(Dial::Socket { session, address }) = world.model.dials.pop_front() else {
        panic!("no dial")
    };
    assert_eq!(address, "127.0.0.1:8084");
    let now = world.now;
    world.model.handle_socket_connected(now, session);
    assert_eq!(world.hear_text(session), "", "it waits for connect");
    world.say(session, "connect\n\n");
    let text = world.hear_text(session);
    assert!(text.starts_with("Event-Name: CHANNEL_DATA\n"));
    assert!(text.contains("\nvariable_sip_h_X-Tenant: a%20c\n"), "{text}");
    assert!(text.ends_with(
        "Content-Type: command/reply\nReply-Text: %2BOK%0A\nSocket-Mode: async\nControl: full\n\n"
    ));
    world.say(
        session,
        "myevents json\n\nsendmsg\ncall-command: execute\nexecute-app-name: answer\n\n",
    );
    world.run(millis(40));
    assert_eq!(world.model.view(&uuid).unwrap().answer, Answer::Answered);
    let heard = world.hear(session);
    let names: Vec<_> =
        heard.iter().filter(|frame| frame.is_event()).map(super::Frame::event).collect();
    let names: Vec<_> =
        names.iter().map(|event| super::find(event, "Event-Name").unwrap()).collect();
    assert!(names.contains(&"CHANNEL_ANSWER") && names.contains(&"CHANNEL_EXECUTE"), "{names:?}");
    world.say(session, "exit\n\n");
    let text = world.hear_text(session);
    assert!(text.contains("+OK bye") && text.contains("Content-Disposition: disconnect"));
    let now = world.now;
    world.model.handle_session_closed(now, session);
    world.run(millis(40));
    assert!(world.model.view(&uuid).unwrap().runs("playback"), "the dialplan goes on");
}

#[test]
fn a_socket_stays_when_its_channel_is_moved() {
    let mut world = World::new();
    let uuid = world.call(FakeCall::to_socket("1", ([127, 0, 0, 1], 8084).into()));
    let Some(Dial::Socket { session, .. }) = world.model.dials.pop_front() else {
        panic!("no dial")
    };
    world.say(session, "connect\n\nlinger 10\n\nmyevents json\n\n");
    world.hear_text(session);
    let id = world.trusted_client("DTMF");
    world.api(id, &format!("uuid_transfer {uuid} sleep:1500,park inline"));
    world.run(millis(100));
    let heard: Vec<_> = world.hear(session).iter().map(super::Frame::event).collect();
    let seen: Vec<_> = heard
        .iter()
        .map(|event| (super::find(event, "Event-Name").unwrap(), super::find(event, "Application")))
        .filter(|(name, _)| *name != "CHANNEL_STATE")
        .collect();
    assert_eq!(
        seen,
        [
            ("CHANNEL_UNPARK", None),
            ("CHANNEL_EXECUTE_COMPLETE", Some("socket")),
            ("CHANNEL_EXECUTE", Some("sleep")),
        ]
    );
    assert!(!world.model.sessions[&session].closing);
    world.api(id, &format!("uuid_kill {uuid}"));
    world.run(millis(100));
    assert!(world.hear_text(session).contains("Content-Disposition: linger"));
}

#[test]
fn a_lingering_socket_hears_of_the_end() {
    let mut world = World::new();
    let uuid = world.call(FakeCall::to_socket("1", ([127, 0, 0, 1], 8084).into()));
    let Some(Dial::Socket { session, .. }) = world.model.dials.pop_front() else {
        panic!("no dial")
    };
    world.say(session, "connect\n\nlinger 2\n\nmyevents\n\n");
    world.hear_text(session);
    let now = world.now;
    world.model.hang_up(now, &uuid, "USER_BUSY");
    world.run(millis(100));
    let text = world.hear_text(session);
    let complete = text.find("Event-Name: CHANNEL_HANGUP_COMPLETE").unwrap();
    assert!(complete < text.find("Content-Disposition: linger").unwrap());
    assert!(!world.model.sessions[&session].closing);
    world.run(Duration::from_secs(2));
    assert!(world.hear_text(session).contains("Content-Disposition: disconnect"));
    assert!(world.model.sessions[&session].closing);
}

#[test]
fn faults_are_what_they_say() {
    let mut world = World::new();
    let id = world.trusted_client("DTMF");
    let uuid = parked(&mut world);
    world.model.faults.frozen = true;
    world.say(id, "api uuid_exists x\n\n");
    world.run(Duration::from_secs(10));
    assert!(world.model.commands.iter().all(|command| !command.line.contains("uuid_exists")));
    world.model.faults.frozen = false;
    world.model.faults.reply_delay = millis(300);
    world.say(id, "api create_uuid\n\n");
    world.run(millis(299));
    assert_eq!(frames(&world.hear_text(id)).len(), 0);
    world.run(millis(400));
    assert_eq!(frames(&world.hear_text(id)).len(), 2);
    world.model.faults.reply_delay = Duration::ZERO;
    world.model.faults.lose_named.insert("DTMF".to_owned());
    world.model.press(&uuid, '1');
    world.run(millis(300));
    assert_eq!(world.hear_text(id), "");
    world.model.faults.lose_named.clear();
    world.model.faults.hang_on.push("api uuid_kill".to_owned());
    world.say(id, &format!("api uuid_kill {uuid}\n\napi uuid_exists x\n\n"));
    world.run(Duration::from_secs(10));
    assert_eq!(world.hear_text(id), "");
    assert!(!world.model.view(&uuid).unwrap().gone);
}

#[test]
fn forks_of_the_dialplan_are_dialled_with_what_they_were_given() {
    let mut world = World::new();
    let fork = ForkFirst::new("ws://127.0.0.1:9/x?token=a")
        .metadata("{\"note\":\"it's a | and \\\"b\\\"\"}");
    let uuid = world.call(FakeCall::forked("1", fork).codec_rate(16_000));
    assert_eq!(world.model.view(&uuid).unwrap().forks, ["audio_fork"]);
    let Some(Dial::Fork(id)) = world.model.dials.pop_front() else { panic!("no dial") };
    let fork = &world.model.forks[&id];
    assert_eq!(fork.url, "ws://127.0.0.1:9/x?token=a");
    let spec = fork.module.spec();
    assert_eq!(spec.metadata.as_deref(), Some("{\"note\":\"it's a | and \\\"b\\\"\"}"));
    assert_eq!((spec.rate, spec.codec_rate, spec.back_rate), (16_000, 16_000, 16_000));
    assert!(spec.bidirectional && spec.streaming);
    let now = world.now;
    world.model.hang_up(now, &uuid, "NORMAL_CLEARING");
    world.run(millis(40));
    assert!(!world.model.forks[&id].module.is_alive(), "stopped before the 101");
}

#[test]
fn channels_are_listed_as_json() {
    let mut world = World::new();
    let id = world.trusted_client("DTMF");
    assert_eq!(world.api(id, "show channels as json"), "{\"row_count\": 0}\n");
    let uuid = parked(&mut world);
    let listed: serde_json::Value =
        serde_json::from_str(&world.api(id, "show channels as json")).unwrap();
    assert_eq!(listed["row_count"], 1);
    assert_eq!(listed["rows"][0]["uuid"], uuid);
    assert_eq!(listed["rows"][0]["application"], "park");
    assert_eq!(listed["rows"][0]["callstate"], "ACTIVE");
}

#[test]
fn nothing_that_is_said_brings_the_switch_down() {
    use proptest::prelude::*;
    let word = prop_oneof![
        Just("U".to_owned()),
        prop::sample::select(vec![
            "api",
            "bgapi",
            "sendmsg",
            "event",
            "filter",
            "uuid_audio_fork",
            "uuid_audio_stream",
            "start",
            "stop",
            "originate",
            "uuid_transfer",
            "uuid_bridge",
            "uuid_broadcast",
            "inline",
            "&park()",
            "loopback/9001/default",
            "conference",
            "lab",
            "kick",
            "all",
            "^^|",
            "{a=1}",
            "'",
            "\\",
            "uuid_kill",
            "uuid_park",
            "uuid_break",
            "show",
            "channels",
            "valet_park:lab 1",
            "-both",
            "call-command: execute\nexecute-app-name: playback",
            "tone_stream://%(1,1,1)",
            "-1",
            "uuid_hold",
            "uuid_dual_transfer",
            "mono",
            "ws://h/x",
            "9006",
            "5901",
            "json",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,8}",
    ];
    let line = prop::collection::vec(word, 1..7);
    let lines = prop::collection::vec((line, 0_u64..60), 1..40);
    proptest!(ProptestConfig::with_cases(128), |(lines in lines)| {
        let mut world = World::with(SwitchConfig { heard_limit: millis(100), ..SwitchConfig::default() });
        let uuid = parked(&mut world);
        let id = world.trusted_client("ALL");
        for (line, ms) in lines {
            let line = line.join(" ").replace('U', &uuid);
            if !world.model.sessions.contains_key(&id) {
                break;
            }
            world.say(id, &format!("{line}\n\n"));
            world.run(millis(ms));
            let text = world.hear_text(id);
            if !text.contains("CHANNEL_DATA") {
                frames(&text);
            }
        }
        let now = world.now;
        for uuid in world.model.channels.keys().cloned().collect::<Vec<_>>() {
            world.model.hang_up(now, &uuid, "NORMAL_CLEARING");
        }
        world.run(Duration::from_secs(65));
        prop_assert!(world.model.channels.is_empty(), "{:?}", world.model.channels.keys());
        prop_assert!(world.model.conferences.is_empty());
        prop_assert!(world.model.valet.is_empty());
    });
}
