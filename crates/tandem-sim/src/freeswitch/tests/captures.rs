//! Recorded dialogues: the client's side is said again, and the switch must answer as the real one did.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{CAPTURES, Frame, World, find, frames, millis};
use crate::freeswitch::{
    FakeCall, ForkModule,
    call::CallMode,
    replay::{Dialogue, Side},
    settings::{SwitchConfig, Target},
};

/// How long the world runs before the recording begins.
const BEFORE: Duration = Duration::from_secs(2);

/// What of an event is compared.
const COMPARED: &[&str] = &[
    "Event-Name",
    "Event-Subclass",
    "Unique-ID",
    "Channel-State",
    "Answer-State",
    "Channel-Call-State",
    "Call-Direction",
    "Caller-Destination-Number",
    "Hangup-Cause",
    "Application",
    "Application-Data",
    "Application-Response",
    "DTMF-Digit",
    "DTMF-Source",
    "DTMF-Duration",
    "Playback-File-Path",
    "Playback-Status",
    "Bridge-A-Unique-ID",
    "Bridge-B-Unique-ID",
    "Media-Bug-Function",
    "API-Command",
    "API-Command-Argument",
    "Valet-Lot-Name",
    "Valet-Extension",
    "Action",
    "Job-UUID",
    "Job-Command",
    "Job-Command-Arg",
    "_body",
];

/// Something that is done to the world.
type Happening = Box<dyn Fn(&mut World)>;

struct Scene {
    world: World,
    /// What happens besides the client's words, so long after the recording's start.
    happenings: Vec<(u64, Happening)>,
    /// Commands, or parts of them, whose replies are not compared.
    skipped: Vec<&'static str>,
    /// Events that are not compared.
    skipped_events: Vec<&'static str>,
    /// Headers that are not compared.
    skipped_headers: Vec<&'static str>,
    /// Microseconds of the recording that are not played.
    left_out: Range<u64>,
}

impl Scene {
    fn new() -> Self {
        let config = SwitchConfig { joined_percent: 0, ..SwitchConfig::default() };
        let mut world = World::with(config.extension("1001", &[("answer", ""), ("echo", "")]));
        let target = |cause| Target::fails(cause, millis(20));
        for (user, cause) in [
            ("busy", "USER_BUSY"),
            ("decline", "CALL_REJECTED"),
            ("notfound", "UNALLOCATED_NUMBER"),
            ("unavail", "NO_USER_RESPONSE"),
            ("srv", "NORMAL_TEMPORARY_FAILURE"),
            ("notacc", "INCOMPATIBLE_DESTINATION"),
            ("forbidden", "CALL_REJECTED"),
            ("gone", "NUMBER_CHANGED"),
            ("err500", "NORMAL_TEMPORARY_FAILURE"),
            ("busyall", "USER_BUSY"),
            ("timeout408", "RECOVERY_ON_TIMER_EXPIRE"),
        ] {
            world.model.targets.push((format!("/{user}@127.0.0.1:5090"), target(cause)));
        }
        let more = [
            ("/ring@", Target::rings_for_ever()),
            ("/silent@", Target::silent()),
            ("@name.invalid", Target::silent()),
            ("/agent@", Target::answers(Duration::ZERO)),
            (
                "/early@",
                Target { rings: None, ..Target::answers(millis(800)).early_media(Duration::ZERO) },
            ),
        ];
        world.model.targets.extend(more.map(|(pattern, target)| (pattern.to_owned(), target)));
        Self {
            world,
            happenings: Vec::new(),
            skipped: Vec::new(),
            skipped_events: Vec::new(),
            skipped_headers: Vec::new(),
            left_out: 0..0,
        }
    }

    /// A call that was there before the recording began.
    fn earlier_call(mut self, uuid: &str, did: &str) -> Self {
        let call = FakeCall {
            uuid: Some(uuid.to_owned()),
            ..FakeCall::new(did, CallMode::Dialplan).from("caller", "caller")
        };
        self.world.call(call);
        self.world.run(millis(500));
        self
    }

    fn at(mut self, ms: u64, act: impl Fn(&mut World) + 'static) -> Self {
        self.happenings.push((ms, Box::new(act)));
        self
    }

    fn skip(mut self, part: &'static str) -> Self {
        self.skipped.push(part);
        self
    }

    fn skip_event(mut self, name: &'static str) -> Self {
        self.skipped_events.push(name);
        self
    }

    fn leave_out(mut self, micros: Range<u64>) -> Self {
        self.left_out = micros;
        self
    }

    fn skip_header(mut self, name: &'static str) -> Self {
        self.skipped_headers.push(name);
        self
    }

    /// Says the client's side again, and compares.
    fn plays(mut self, file: &str) {
        let mut dialogue = Dialogue::load(format!("{CAPTURES}/{file}")).unwrap();
        dialogue.said.retain(|said| !self.left_out.contains(&(said.at.as_micros() as u64)));
        let mut client = self.world.client();
        let (mut heard, mut recorded) = (String::new(), String::new());
        self.world.run_until(BEFORE);
        for said in &dialogue.said {
            self.run_to(said.at);
            match said.side {
                Side::Client => {
                    let words = String::from_utf8(said.bytes.clone()).unwrap();
                    self.world.say(client, &words);
                }
                Side::Switch => recorded.push_str(std::str::from_utf8(&said.bytes).unwrap()),
                Side::Closed => {
                    self.world.run(millis(40));
                    heard.push_str(&self.world.hear_text(client));
                    assert!(self.world.model.sessions[&client].closing, "{file}: still open");
                    client = self.world.client();
                }
            }
            heard.push_str(&self.world.hear_text(client));
        }
        self.world.run(millis(200));
        heard.push_str(&self.world.hear_text(client));
        self.compare(file, &dialogue, &frames(&heard), &frames(&recorded));
    }

    fn run_to(&mut self, at: Duration) {
        self.happenings.sort_by_key(|(ms, _)| *ms);
        while self.happenings.first().is_some_and(|(ms, _)| millis(*ms) <= at) {
            let (ms, act) = self.happenings.remove(0);
            self.world.run_until(BEFORE + millis(ms));
            act(&mut self.world);
        }
        self.world.run_until(BEFORE + at);
    }

    fn compare(&self, file: &str, dialogue: &Dialogue, heard: &[Frame], recorded: &[Frame]) {
        let replies = |frames: &[Frame]| -> Vec<Frame> {
            let not_events = frames.iter().filter(|frame| !frame.is_event());
            not_events
                .filter(|frame| frame.header("Content-Type") != Some("auth/request"))
                .cloned()
                .collect()
        };
        let (ours, theirs) = (replies(heard), replies(recorded));
        let commands = dialogue.said.iter().filter(|said| said.side == Side::Client);
        let mut commands = commands.map(|said| String::from_utf8_lossy(&said.bytes).into_owned());
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let command = match theirs.header("Content-Type") {
                Some("text/disconnect-notice") => String::new(),
                _ => commands.next().unwrap_or_default(),
            };
            if !self.skipped.iter().any(|part| command.contains(part)) {
                assert_eq!(ours, theirs, "{file}: reply to {command}");
            }
        }
        assert_eq!(ours.len(), theirs.len(), "{file}: {ours:#?}");
        let events = |frames: &[Frame]| -> Vec<Vec<(String, String)>> {
            let events = frames.iter().filter(|frame| frame.is_event()).map(Frame::event);
            let wanted = events.filter(|event| {
                let name = find(event, "Event-Name").unwrap();
                let action = find(event, "Action").unwrap_or_default();
                ![name, action].iter().any(|name| self.skipped_events.contains(name))
            });
            let words: Vec<u8> = dialogue
                .said
                .iter()
                .filter(|said| said.side == Side::Client)
                .flat_map(|said| said.bytes.clone())
                .collect();
            let words = String::from_utf8_lossy(&words).into_owned();
            let compared = wanted.map(|event| {
                let names = COMPARED.iter().filter(|name| !self.skipped_headers.contains(name));
                let compared = names.filter_map(|name| {
                    // Uuids that the client did not choose or name are anything.
                    let value = find(&event, name)?;
                    let any = *name == "Unique-ID" && !words.contains(value);
                    Some(((*name).to_owned(), if any { "any" } else { value }.to_owned()))
                });
                compared.collect()
            });
            compared.collect()
        };
        let (ours, theirs) = (events(heard), events(recorded));
        for (index, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert_eq!(ours, theirs, "{file}: event {index}");
        }
        assert_eq!(ours.len(), theirs.len(), "{file}: {ours:#?}");
    }
}

/// Replies that hold what cannot be foreseen: times, uuids, lists of this very machine.
const VARYING: [&str; 12] = [
    "api status",
    "sofia status",
    "create_uuid",
    "strftime",
    "fsctl loglevel",
    "min_idle_cpu",
    "show modules",
    "bgapi status",
    "expr",
    "sendevent",
    "uuid_dump",
    "log 6",
];

fn scene() -> Scene {
    let mut scene = Scene::new();
    scene.skipped.extend(VARYING);
    scene
}

#[test]
fn greeting_wrong_password_and_goodbye() {
    scene().plays("esl/auth_and_exit.txt");
}

#[test]
fn api_and_background_jobs() {
    scene().skip_event("BACKGROUND_JOB").plays("esl/api_and_bgapi.txt");
}

#[test]
fn subscriptions_and_filters() {
    scene().skip_event("RELOADXML").plays("esl/subscriptions_and_misc.txt");
}

#[test]
fn failing_originates() {
    scene()
        .skip("bgapi originate")
        .skip("&nosuchapp")
        .skip("busy@127.0.0.1:5090,sofia")
        .skip_event("BACKGROUND_JOB")
        .skip_event("CHANNEL_HANGUP_COMPLETE")
        .plays("esl/originate_failures.txt");
}

#[test]
fn hangups_of_failing_originates() {
    scene().skip_header("Unique-ID").plays("esl/originate_failure_hangup_events.txt");
}

#[test]
fn transfers_parking_and_hold() {
    scene()
        .earlier_call("939bb305-50fc-4099-841c-65365c00889f", "9005")
        .skip_event("CHANNEL_EXECUTE") // Left out of the recording.
        .skip_header("Caller-Destination-Number")
        .plays("esl/transfer_park_hold.txt");
}

#[test]
fn operations_on_a_channel() {
    let mut scene = scene().earlier_call("ad315f92-5843-4618-8e1c-e1520a9142bc", "9003");
    let file = crate::freeswitch::model::StoredFile {
        rate: 8_000,
        samples: vec![100; 80_000],
        owner: None,
    };
    scene.world.model.store_file("/var/lib/freeswitch/sounds/agent8.wav".to_owned(), file);
    scene.skip_header("Caller-Destination-Number").plays("esl/uuid_ops.txt");
}

#[test]
fn json_events_of_a_call() {
    let uuid = "23a83d49-d93f-4ac6-a918-d9d31db3c266";
    inbound_call(scene(), uuid).plays("esl/events_json_inbound_call.txt");
}

#[test]
fn xml_events_of_a_call() {
    let uuid = "93635a39-954e-4f89-a4a7-a45c19263e21";
    let mut scene = inbound_call(scene(), uuid);
    // Left out of the recording.
    scene.skipped_events.extend([
        "CHANNEL_EXECUTE",
        "CHANNEL_EXECUTE_COMPLETE",
        "CHANNEL_HANGUP",
        "CHANNEL_DESTROY",
        "PLAYBACK_START",
        "PLAYBACK_STOP",
    ]);
    scene.plays("esl/events_xml_inbound_call.txt");
}

#[test]
fn plain_events_of_a_call() {
    let uuid = "35eb8e76-4ac2-430f-8c34-e1d237017db7";
    inbound_call(scene(), uuid)
        .skip_event("CODEC")
        .skip_event("CHANNEL_STATE")
        .plays("esl/events_plain_inbound_call.txt");
}

/// A call to 9001 with a digit, hung up by the caller.
fn inbound_call(scene: Scene, uuid: &'static str) -> Scene {
    scene
        .at(20, move |world| {
            let call = FakeCall::new("9001", CallMode::Dialplan).from("caller", "caller");
            world.call(FakeCall { uuid: Some(uuid.to_owned()), ..call });
        })
        .at(500, move |world| world.model.press(uuid, '5'))
        .at(1_142, move |world| {
            let now = world.now;
            world.model.hang_up(now, uuid, "NORMAL_CLEARING");
        })
}

#[test]
fn the_events_of_a_fork() {
    const UUID: &str = "3fe16565-563a-4ea5-ab0d-90f29f545e44";
    let on_fork = |act: fn(&mut ForkModule, Instant)| {
        move |world: &mut World| {
            let (now, id) = (world.now, world.model.channels[UUID].forks[0]);
            act(&mut world.model.forks.get_mut(&id).unwrap().module, now);
            world.model.drain_forks(now, UUID);
        }
    };
    scene()
        .earlier_call(UUID, "9003")
        .at(43, on_fork(ForkModule::handle_connected))
        .at(
            440,
            on_fork(|module, _| {
                module.handle_text(r#"{"type": "transcription", "data": {"text": "hi"}}"#);
            }),
        )
        .at(1_555, on_fork(|module, _| module.handle_connect_failed(6, "conn fail: 111")))
        .at(2_160, on_fork(ForkModule::handle_connected))
        .at(2_440, |world| {
            let now = world.now;
            world.model.hang_up(now, UUID, "NORMAL_CLEARING");
        })
        .skip("bgapi")
        .skip_header("Caller-Destination-Number")
        .plays("esl/audio_fork_start_stop_json.txt");
}

#[test]
fn originates_that_succeed() {
    scene()
        .skip("bgapi originate")
        .skip_header("Job-UUID")
        .skip_header("Caller-Destination-Number")
        .plays("esl/originate_success.txt");
}

#[test]
fn bridges_with_hold_and_transfer_of_both() {
    const LEG: &str = "5e551000-0000-4000-8000-000000000021";
    scene()
        .earlier_call("971a0687-092d-4726-849f-b20b7177229c", "9005")
        .at(3_370, |world| {
            let now = world.now;
            world.model.hang_up(now, LEG, "NORMAL_CLEARING");
        })
        .skip_event("CALL_UPDATE")
        .skip_event("CHANNEL_HANGUP")
        .skip_event("CHANNEL_DESTROY")
        .skip_header("Caller-Destination-Number")
        .plays("esl/bridge_hold_unbridge.txt");
}

#[test]
fn messages_to_a_channel() {
    const UUID: &str = "c571c996-86b1-4b83-b4c9-554bdc000464";
    scene()
        .earlier_call(UUID, "9005")
        .leave_out(1_500_000..3_527_420) // play_and_get_digits, which gets no digits here.
        .skip_header("Caller-Destination-Number")
        .plays("esl/sendmsg.txt");
}

#[test]
fn my_events_until_the_call_ends() {
    const UUID: &str = "338c2f8f-6228-4738-89ba-1f7965e4308f";
    scene()
        .earlier_call(UUID, "9005")
        .at(360, |world| world.model.press(UUID, '9'))
        .at(743, |world| {
            let now = world.now;
            world.model.hang_up(now, UUID, "NORMAL_CLEARING");
        })
        .leave_out(1_500_000..2_000_000) // A word after the end.
        .skip_event("CHANNEL_STATE")
        .skip_event("CHANNEL_CALLSTATE")
        .skip_event("CHANNEL_DESTROY")
        .skip_header("Caller-Destination-Number")
        .plays("esl/myevents_call_ends.txt");
}

#[test]
fn valet_parking_and_a_conference() {
    let call = |uuid: &'static str, did: &'static str| {
        move |world: &mut World| {
            let call = FakeCall::new(did, CallMode::Dialplan).from("caller", "caller");
            world.call(FakeCall { uuid: Some(uuid.to_owned()), ..call });
        }
    };
    let end = |uuid: &'static str| {
        move |world: &mut World| {
            let now = world.now;
            world.model.hang_up(now, uuid, "NORMAL_CLEARING");
        }
    };
    scene()
        .at(20, call("9c81c4e9-a28e-4734-ba1c-6d497af4de39", "5901"))
        .at(640, end("9c81c4e9-a28e-4734-ba1c-6d497af4de39"))
        .at(1_040, call("c839c8ce-372c-4deb-87f2-ea78a216ee69", "9006"))
        .at(1_560, call("9c26e34e-b462-45ce-90d4-dacb8f6d7545", "9006"))
        .at(2_280, end("9c26e34e-b462-45ce-90d4-dacb8f6d7545"))
        .at(2_700, end("c839c8ce-372c-4deb-87f2-ea78a216ee69"))
        .skip("list")
        .skip_event("floor-change")
        .skip_event("start-talking")
        .plays("esl/valet_and_conference.txt");
}
