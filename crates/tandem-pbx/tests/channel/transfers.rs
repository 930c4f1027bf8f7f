//! Handing the caller over, and taking it back.

use std::sync::Arc;

use tandem_call::{Digit, HangupCause, SignalEvent, TransferKind, TransferOutcome};
use tandem_pbx::{
    Cause, ChannelEventKind, ChannelOrder, ChannelSettings, DigitSource, ForkEvent, SwitchError,
    TransferPlan, TransferSettings,
};

use crate::world::{
    OWN, TARGET, World, completed, hung_up, millis, ok, refused, secs, settings, uuid,
};

const RINGBACK: &str = "uuid_broadcast OWN tone_stream://%(2000,4000,440,480);loops=60 aleg";
const MUSIC: &str = "uuid_broadcast OWN local_stream://moh aleg";
const SILENCE: &str = "uuid_break OWN all";
const FORK_STOP: &str = "uuid_audio_fork OWN stop";

fn bridged() -> ChannelEventKind {
    ChannelEventKind::Bridged { peer: uuid(TARGET) }
}

fn target_hung_up() -> ChannelEventKind {
    ChannelEventKind::HungUp { cause: Cause::from_name("NORMAL_CLEARING") }
}

fn pressed(digit: char) -> ChannelEventKind {
    let digit = Digit::new(digit).unwrap();
    ChannelEventKind::Digit { digit, duration: millis(100), source: DigitSource::Rtp }
}

#[test]
fn the_caller_is_bridged_when_the_target_answers() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+4930123456");
    let lines = world.take_short_lines();
    assert_eq!(lines[0], RINGBACK);
    let (name, rest) = lines[1].split_once(",originate_timeout=25,").unwrap();
    assert!(name.starts_with("originate {origination_uuid="), "{name}");
    assert_eq!(
        rest,
        "ignore_early_media=true,park_timeout=60:NORMAL_TEMPORARY_FAILURE,\
         origination_caller_id_number=+13055550100,origination_caller_id_name=Ann,tandem_transfer_of=OWN,sip_h_X-Tandem-Reason=billing,\
         tenant=acme}sofia/gateway/trunk1/+4930123456 &park()"
    );
    world.run(secs(5));
    world.target_answers();
    assert_eq!(world.take_short_lines(), [SILENCE, "uuid_bridge OWN TARGET"]);
    assert!(world.take_events().is_empty());
    world.own(ChannelEventKind::Unparked);
    world.own(bridged());
    assert_eq!(world.take_events(), completed());
    assert_eq!(world.take_short_lines(), [FORK_STOP]);
    world.event(TARGET, bridged());
    world.event(TARGET, target_hung_up());
    world.own_hangs_up("NORMAL_CLEARING");
    assert!(world.take_events().is_empty());
    assert!(world.take_lines().is_empty());
    assert!(world.channel.is_done());
    assert_eq!(
        world.orders,
        [ChannelOrder::Watch(uuid(TARGET)), ChannelOrder::Unwatch(uuid(TARGET))]
    );
}

#[test]
fn several_phones_of_a_user_ring_under_one_mark() {
    let mut world = World::talking();
    world.transfer(TransferKind::Extension, "1001");
    let line = world.take_lines().remove(1);
    assert!(line.starts_with("originate {tandem_called_by="), "{line}");
    assert!(line.ends_with("}user/1001 &park()"), "{line}");
    let mark = line.split(['=', ',']).nth(1).unwrap().to_owned();
    world.hang_up();
    let lines = world.take_lines();
    assert_eq!(lines[0], format!("hupall ORIGINATOR_CANCEL tandem_called_by {mark}"));
    assert_eq!(lines[1], format!("uuid_kill {OWN} NORMAL_CLEARING"));
    assert!(!world.channel.is_done(), "the result of the call is open");
    world.answer("originate", refused("ORIGINATOR_CANCEL"));
    assert!(world.channel.is_done());
}

#[test]
fn the_caller_comes_back_when_the_target_cannot_be_had() {
    for (cause, status, reason) in [
        ("USER_BUSY", Some(486), "USER_BUSY: the line is busy"),
        ("NO_ANSWER", Some(480), "NO_ANSWER: nobody answered"),
        ("UNALLOCATED_NUMBER", Some(404), "UNALLOCATED_NUMBER: there is no such number"),
        ("CALL_REJECTED", Some(603), "CALL_REJECTED: the call was declined"),
        (
            "SUBSCRIBER_ABSENT",
            Some(480),
            "SUBSCRIBER_ABSENT: no phone is connected under that number",
        ),
        ("INVALID_GATEWAY", Some(502), "INVALID_GATEWAY: the line to that destination is down"),
    ] {
        let mut world = World::talking();
        world.transfer(TransferKind::Extension, "1001");
        world.take_lines();
        world.answer("originate", refused(cause));
        assert_eq!(world.failure(), (status, reason.to_owned()));
        assert_eq!(world.take_short_lines(), [SILENCE]);
        // The conversation goes on, and can be handed over again.
        world.transfer(TransferKind::External, "+4930123456");
        world.target_answers();
        world.own(bridged());
        assert_eq!(world.take_events(), completed());
    }
}

#[test]
fn a_target_that_cannot_be_dialled_fails_at_once() {
    let mut world = World::talking();
    for (kind, target, why) in [
        (TransferKind::Extension, "1001\nexit", "'\\n' cannot be part of a target"),
        (TransferKind::Sip, "sip:a@b,user/1", "',' cannot be part of a target"),
        (TransferKind::Extension, "", "the target is empty"),
    ] {
        world.transfer(kind, target);
        assert_eq!(world.failure(), (None, why.to_owned()));
        assert!(world.take_lines().is_empty());
    }
    let mut world = World::talking_with(ChannelSettings {
        transfers: Arc::new(TransferPlan::default()),
        ..settings()
    });
    world.transfer(TransferKind::External, "+49");
    let why = "no way to reach targets of type external is configured";
    assert_eq!(world.failure(), (None, why.to_owned()));
}

#[test]
fn a_call_that_is_not_up_is_not_handed_over() {
    let mut world = World::new(settings());
    world.transfer(TransferKind::Extension, "1001");
    assert_eq!(world.failure(), (None, "the call is not up".to_owned()));
}

#[test]
fn a_caller_who_hangs_up_takes_the_target_along() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+4930123456");
    world.take_lines();
    world.own_hangs_up("NORMAL_CLEARING");
    let events = world.take_events();
    assert!(matches!(&events[0], SignalEvent::Transfer(TransferOutcome::Failed { .. })));
    assert_eq!(events[1..], [hung_up(HangupCause::NormalClearing)]);
    assert!(world.take_lines()[0].starts_with("uuid_kill "));
    // The target answered in the same moment: it is there only now.
    world.target_answers();
    assert_eq!(world.take_short_lines(), ["uuid_kill TARGET ORIGINATOR_CANCEL"]);
    assert!(world.channel.is_done());
}

#[test]
fn a_leg_that_is_not_there_yet_is_ended_when_it_is() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+4930123456");
    world.take_lines();
    world.next_answer("uuid_kill", refused("No such channel!"));
    world.own_hangs_up("NORMAL_CLEARING");
    assert_eq!(world.take_lines().len(), 1);
    world.run(secs(2));
    assert!(!world.take_lines().is_empty());
    world.answer("originate", refused("ORIGINATOR_CANCEL"));
    assert!(world.channel.is_done());
    world.run(secs(200));
    assert!(world.take_lines().is_empty());
}

#[test]
fn a_later_transfer_takes_the_place_of_an_earlier_one() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.take_lines();
    world.transfer(TransferKind::External, "+492");
    let lines = world.take_short_lines();
    assert!(lines[0].starts_with("uuid_kill ") && lines[0].ends_with(" ORIGINATOR_CANCEL"));
    assert_eq!(lines[1..3], [SILENCE.to_owned(), RINGBACK.to_owned()]);
    world.answer("originate", refused("ORIGINATOR_CANCEL"));
    assert!(world.take_events().is_empty(), "the outcome of the later one stands for both");
    world.answer("originate", refused("USER_BUSY"));
    assert_eq!(world.failure().0, Some(486));
}

#[test]
fn a_switch_that_says_nothing_is_not_waited_for() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.run(secs(36));
    assert_eq!(world.failure(), (None, "nobody answered in time".to_owned()));
    world.target_answers();
    assert_eq!(world.take_short_lines().last().unwrap(), "uuid_kill TARGET ORIGINATOR_CANCEL");
}

#[test]
fn a_target_that_is_gone_before_the_bridge_leaves_the_caller_ours() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.next_answer("uuid_bridge", refused("Invalid uuid"));
    world.target_answers();
    let (status, reason) = world.failure();
    assert_eq!(status, None);
    assert!(reason.starts_with("the phones could not be connected"), "{reason}");

    world.transfer(TransferKind::External, "+491");
    world.target_answers();
    world.event(TARGET, target_hung_up());
    assert_eq!(world.failure().0, Some(480));
}

#[test]
fn a_bridge_of_which_no_event_came_is_asked_for() {
    for (peer, there) in [(TARGET, true), (OWN, false)] {
        let mut world = World::talking();
        world.transfer(TransferKind::External, "+491");
        world.target_answers();
        world.next_answer("uuid_dump", ok(&format!("{{\"Other-Leg-Unique-ID\":\"{peer}\"}}")));
        world.take_lines();
        world.run(secs(4));
        let lines = world.take_short_lines();
        assert_eq!(lines[0], "uuid_dump OWN json");
        if there {
            assert_eq!(world.take_events(), completed());
        } else {
            assert_eq!(lines[1], "uuid_kill TARGET NORMAL_CLEARING");
            assert_eq!(world.failure().0, None);
        }
    }
}

#[test]
fn a_fork_that_breaks_at_the_bridge_is_started_again_if_the_caller_comes_back() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.target_answers();
    world.take_lines();
    world.fork(ForkEvent::Disconnected { code: None, reason: String::new() });
    assert!(world.take_lines().is_empty());
    world.event(TARGET, target_hung_up());
    let lines = world.take_short_lines();
    assert!(lines.iter().any(|line| line.contains("|start|")), "{lines:?}");
}

#[test]
fn an_attended_target_is_told_before_it_is_connected() {
    let attended = || {
        let mut world = World::talking();
        world.transfer_attended(TransferKind::Extension, "1001");
        assert_eq!(world.take_short_lines()[0], MUSIC);
        world.target_answers();
        assert_eq!(world.orders[0], ChannelOrder::Watch(uuid(TARGET)));
        let ChannelOrder::Announce { uuid: leg, text } = &world.orders[1] else {
            panic!("{:?}", world.orders)
        };
        assert_eq!(*leg, uuid(TARGET));
        assert_eq!(
            text,
            "A caller is waiting for you. billing. Press 1 to take the call, or star to decline."
        );
        assert!(world.take_lines().is_empty());
        world
    };
    let connected = |mut world: World| {
        assert_eq!(world.take_short_lines(), [SILENCE, "uuid_bridge OWN TARGET"]);
        assert!(world.orders.contains(&ChannelOrder::StopAnnouncing(uuid(TARGET))));
        world.event(TARGET, bridged_with_own());
        assert_eq!(world.take_events(), completed());
    };
    let mut world = attended();
    world.announced();
    connected(world);
    for key in ['1', '#'] {
        let mut world = attended();
        world.event(TARGET, pressed('5'));
        world.event(TARGET, pressed(key));
        world.event(TARGET, pressed(key));
        connected(world);
    }
    let mut world = attended();
    world.run(secs(30));
    connected(world);

    let mut world = attended();
    world.event(TARGET, pressed('*'));
    assert_eq!(world.failure(), (Some(603), "declined: the person did not take the call".into()));
    assert_eq!(world.take_short_lines(), ["uuid_kill TARGET NORMAL_CLEARING", SILENCE]);

    let mut world = attended();
    world.event(TARGET, target_hung_up());
    assert_eq!(world.failure().0, Some(603));
    assert_eq!(world.take_short_lines(), [SILENCE]);

    let mut world = attended();
    world.own_hangs_up("NORMAL_CLEARING");
    assert_eq!(world.take_short_lines(), ["uuid_kill TARGET NORMAL_CLEARING"]);
    assert_eq!(world.take_events().len(), 2);
    assert!(world.channel.is_done());
}

fn bridged_with_own() -> ChannelEventKind {
    ChannelEventKind::Bridged { peer: uuid(OWN) }
}

#[test]
fn a_queue_that_exists_takes_the_caller_for_good() {
    let mut world = World::talking();
    world.next_answer(
        "callcenter_config",
        ok("name|strategy\nsales@default|ring-all\nsupport@default|ring-all\n+OK\n"),
    );
    world.transfer(TransferKind::Queue, "support@default");
    assert_eq!(
        world.take_short_lines(),
        [
            "module_exists mod_callcenter",
            "callcenter_config queue list",
            "uuid_setvar OWN sip_h_X-Tandem-Reason billing",
            "uuid_transfer OWN callcenter:support@default inline"
        ]
    );
    assert!(world.take_events().is_empty());
    world.own(ChannelEventKind::Unparked);
    world.executed("callcenter");
    assert_eq!(world.take_events(), completed());
    assert_eq!(world.take_short_lines(), [FORK_STOP]);
}

#[test]
fn a_place_that_does_not_exist_leaves_the_caller_where_it_is() {
    let mut world = World::talking();
    world.next_answer("callcenter_config", ok("name|strategy\nsales@default|ring-all\n+OK\n"));
    world.transfer(TransferKind::Queue, "support@default");
    assert_eq!(
        world.failure(),
        (Some(404), "the switch has no queue \"support@default\"".to_owned())
    );
    for (kind, target, module) in [
        (TransferKind::Queue, "support@default", "mod_callcenter"),
        (TransferKind::Conference, "room1", "mod_conference"),
        (TransferKind::Voicemail, "1001", "mod_voicemail"),
    ] {
        world.next_answer("module_exists", ok("false"));
        world.transfer(kind, target);
        let reason = format!("the switch does not have {module} loaded");
        assert_eq!(world.failure(), (Some(404), reason));
    }
    world.next_answer("expand", ok("false"));
    world.transfer(TransferKind::Voicemail, "1001");
    assert_eq!(world.failure(), (Some(404), "the switch has no mailbox \"1001\"".to_owned()));
    let menus = "<menus>\n<menu timeout=\"9\" name=\"main\">\n</menu><menu name=\"mai\"/></menus>";
    world.next_answer("xml_locate", ok(menus));
    world.transfer(TransferKind::Ivr, "ma");
    assert_eq!(world.failure(), (Some(404), "the switch has no menu \"ma\"".to_owned()));
    assert!(world.take_lines().iter().all(|line| !line.starts_with("uuid_transfer")));
}

#[test]
fn menus_mailboxes_and_rooms_take_the_caller() {
    for (kind, app, order) in [
        (TransferKind::Ivr, "ivr", "uuid_transfer OWN ivr:42 inline"),
        (
            TransferKind::Voicemail,
            "voicemail",
            "uuid_transfer OWN 'voicemail:default ${domain} 42' inline",
        ),
        (TransferKind::Conference, "conference", "uuid_transfer OWN conference:42@default inline"),
    ] {
        let mut world = World::talking();
        world.next_answer("xml_locate", ok("<menu name=\"42\" timeout=\"9\">"));
        world.transfer(kind, "42");
        assert_eq!(world.take_short_lines().last().unwrap(), order);
        world.executed(app);
        assert_eq!(world.take_events(), completed());
    }
}

#[test]
fn a_hand_over_without_news_has_worked_when_the_order_was_taken() {
    let mut world = World::talking();
    world.transfer(TransferKind::Ivr, "main");
    world.run(millis(1_600));
    assert_eq!(world.take_events(), completed());
}

#[test]
fn a_hand_over_that_fails_is_told() {
    let mut world = World::talking();
    world.next_answer("uuid_transfer", refused("Operation Failed"));
    world.transfer(TransferKind::Ivr, "main");
    assert_eq!(world.failure(), (None, "refused: Operation Failed".to_owned()));

    world.transfer(TransferKind::Ivr, "main");
    world.own(ChannelEventKind::Unparked);
    world.own(ChannelEventKind::Parked);
    assert_eq!(world.failure(), (None, "the caller was not taken there".to_owned()));

    world.transfer(TransferKind::Ivr, "main");
    world.own(ChannelEventKind::Unparked);
    world.own_hangs_up("NO_ROUTE_DESTINATION");
    let events = world.take_events();
    assert!(
        matches!(
            &events[..],
            [
                SignalEvent::Transfer(TransferOutcome::Failed { status: Some(404), .. }),
                SignalEvent::HungUp { cause: HangupCause::UnallocatedNumber },
            ]
        ),
        "{events:?}"
    );
}

#[test]
fn the_dialplan_may_be_asked_instead() {
    let plan = TransferPlan::new(&TransferSettings {
        actions: vec![(TransferKind::Extension, "transfer {target} XML {context}".into())],
        ..TransferSettings::default()
    });
    let transfers = Arc::new(plan.unwrap());
    let mut world = World::talking_with(ChannelSettings { transfers, ..settings() });
    world.transfer(TransferKind::Extension, "1001");
    assert_eq!(world.take_short_lines().last().unwrap(), "uuid_transfer OWN 1001 XML default");
    world.own(ChannelEventKind::Unparked);
    world.executed("set");
    assert_eq!(world.take_events(), completed());
}

#[test]
fn a_transfer_the_link_has_no_room_for_fails() {
    let mut world = World::talking();
    world.next_answer("originate", Err(SwitchError::Busy));
    world.transfer(TransferKind::External, "+491");
    assert_eq!(
        world.failure(),
        (None, "too many commands are waiting for the event socket".to_owned())
    );
}

#[test]
fn what_ended_a_ringing_leg_does_not_stand_for_the_channel_that_answered() {
    let mut world = World::talking();
    for name in ["hupall", "uuid_kill"] {
        world.hold_back(name);
    }
    world.transfer(TransferKind::Extension, "1001");
    world.transfer(TransferKind::Extension, "not a number");
    world.target_answers();
    world.take_lines();
    world.answer("hupall", ok("+OK\n")); // It found the leg, or came too early.
    world.answer("uuid_kill", Err(SwitchError::Busy));
    world.run(secs(1));
    assert_eq!(world.take_short_lines(), ["uuid_kill TARGET ORIGINATOR_CANCEL"]);
    world.answer("uuid_kill", refused("No such channel!"));
    world.run(secs(400));
    assert!(world.take_lines().is_empty());
}
