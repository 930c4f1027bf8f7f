//! The event socket is lost, and comes back.

use tandem_call::{HangupCause, SignalCommand, SignalEvent, TransferKind};
use tandem_pbx::{
    ChannelEventKind, ChannelLink, ChannelNote, ChannelNotice, Control, ForkEvent, SwitchCommand,
    SwitchError, Word,
};

use crate::{
    answering::annotate,
    world::{
        OWN, STRANGER, TARGET, World, completed, hung_up, millis, ok, refused, secs, settings, uuid,
    },
};

const DUMP: &str = "uuid_dump OWN json";

fn dump(pairs: &[(&str, &str)]) -> Result<tandem_pbx::Reply, SwitchError> {
    let pairs: Vec<_> =
        pairs.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
    ok(&format!("{{\"Unique-ID\":\"{OWN}\",{}}}", pairs.join(",")))
}

#[test]
fn a_call_outlives_its_event_socket() {
    let mut world = World::talking();
    world.link_lost();
    world.run(secs(10));
    world.next_answer("uuid_dump", dump(&[("Answer-State", "answered")]));
    world.link(ChannelLink::Alive);
    assert_eq!(world.take_short_lines(), [DUMP]);
    assert!(world.take_events().is_empty());
    world.hang_up();
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);
}

#[test]
fn a_channel_that_went_meanwhile_has_hung_up() {
    let mut world = World::talking();
    world.link_lost();
    world.link(ChannelLink::Gone);
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);
    assert!(world.channel.is_done());

    let mut world = World::talking();
    world.link_lost();
    world.next_answer("uuid_dump", refused("No such channel!"));
    world.link(ChannelLink::Alive);
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);

    let mut world = World::new(settings());
    world.link_lost();
    world.link(ChannelLink::Gone);
    assert_eq!(world.take_events(), [SignalEvent::Cancelled]);
}

#[test]
fn a_transfer_ordered_meanwhile_fails_clearly() {
    let mut world = World::talking();
    world.link_lost();
    world.transfer(TransferKind::Extension, "1001");
    assert_eq!(world.failure(), (None, "the event socket is down".to_owned()));
    assert!(world.take_lines().is_empty());
}

#[test]
fn an_answer_ordered_meanwhile_is_carried_out_once() {
    let mut world = World::new(settings());
    world.link_lost();
    world.command(SignalCommand::Answer);
    assert!(world.take_lines().is_empty());
    world.next_answer("uuid_dump", dump(&[("Answer-State", "ringing")]));
    world.link(ChannelLink::Alive);
    assert_eq!(
        world.take_short_lines()[..3],
        [DUMP, "uuid_setvar OWN send_silence_when_idle -1", "uuid_answer OWN"]
    );
    assert_eq!(world.take_events(), [SignalEvent::Answered]);

    let mut world = World::new(settings());
    world.hold_back("uuid_answer");
    world.command(SignalCommand::Answer);
    world.link_lost();
    world.take_lines();
    world.next_answer("uuid_dump", dump(&[("Answer-State", "answered")]));
    world.link(ChannelLink::Alive);
    assert_eq!(world.take_events(), [SignalEvent::Answered]);
    assert!(world.take_lines().iter().all(|line| !line.starts_with("uuid_answer")));
}

#[test]
fn a_hang_up_ordered_meanwhile_is_kept() {
    let mut world = World::talking();
    world.link_lost();
    world.hold_back("uuid_kill");
    world.command(annotate(&[("outcome", "done")]));
    assert!(world.take_lines().is_empty());
    world.hang_up();
    assert_eq!(
        world.take_short_lines(),
        ["uuid_setvar OWN tandem_outcome done", "uuid_kill OWN NORMAL_CLEARING"]
    );
    world.answer("uuid_kill", Err(SwitchError::Down));
    assert!(world.take_events().is_empty());
    world.link(ChannelLink::Alive);
    assert_eq!(world.take_short_lines(), ["uuid_kill OWN NORMAL_CLEARING"]);
    world.answer("uuid_kill", ok("+OK\n"));
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);
    assert!(world.channel.is_done());
}

#[test]
fn variables_wait_for_the_event_socket() {
    let mut world = World::talking();
    world.hold_back("uuid_setvar");
    world.command(annotate(&[("a", "1")]));
    world.link_lost();
    world.command(annotate(&[("a", "2"), ("b", "1")]));
    world.take_lines();
    world.run(secs(5));
    world.link(ChannelLink::Alive);
    assert_eq!(world.take_short_lines(), [DUMP, "uuid_setvar_multi OWN tandem_a=2;tandem_b=1"]);
}

#[test]
fn what_happened_meanwhile_is_asked_for() {
    let mut world = World::talking();
    world.link_lost();
    world.next_answer("uuid_dump", dump(&[("Channel-Call-State", "HELD")]));
    world.link(ChannelLink::Alive);
    assert_eq!(world.take_events(), [SignalEvent::Held(true)]);

    // Bridged by somebody.
    world.link_lost();
    world.next_answer("uuid_dump", dump(&[("Other-Leg-Unique-ID", STRANGER)]));
    world.next_answer("uuid_dump", dump(&[("variable_bridge_uuid", OWN)]));
    world.link(ChannelLink::Alive);
    assert_eq!(
        world.take_events(),
        [SignalEvent::Held(false), SignalEvent::TakenOver, hung_up(HangupCause::NormalClearing)]
    );

    // A leg of long ago.
    let mut world = World::talking();
    world.next_answer("uuid_dump", dump(&[("Other-Leg-Unique-ID", STRANGER)]));
    world.next_answer("uuid_dump", refused("No such channel!"));
    world.channel.handle_notice(world.now, &uuid(OWN), &ChannelNotice::Lagged);
    world.run(secs(1));
    assert_eq!(world.take_lines().len(), 2);
    assert!(world.take_events().is_empty());
}

fn taken_over() -> [SignalEvent; 2] {
    [SignalEvent::TakenOver, hung_up(HangupCause::NormalClearing)]
}

/// A call whose channel is found in this state, running that, after a time in which nothing was heard of it.
fn found(mut world: World, link: ChannelLink, state: &str, app: &str) -> World {
    if link == ChannelLink::Alive {
        world.link_lost();
    }
    let said = dump(&[("Channel-State", state), ("variable_current_application", app)]);
    world.next_answer("uuid_dump", said);
    world.link(link);
    world
}

#[test]
fn a_channel_that_was_moved_meanwhile_is_taken_over() {
    for link in [ChannelLink::Alive, ChannelLink::Lagged] {
        for app in ["ivr", "echo", "conference", "bridge", "voicemail"] {
            let mut world = found(World::talking(), link, "CS_EXECUTE", app);
            assert_eq!(world.take_events(), taken_over(), "{app}");
            let lines = world.take_short_lines();
            assert!(lines.contains(&"uuid_audio_fork OWN stop".to_owned()), "{lines:?}");
            assert!(!lines.iter().any(|line| line.starts_with("uuid_kill")), "{lines:?}");
        }
        for app in ["park", "socket", "playback", "speak", "set", "answer"] {
            let mut world = found(World::talking(), link, "CS_EXECUTE", app);
            assert!(world.take_events().is_empty(), "{app}");
        }
        // The switch parks by itself, and still names what ran before.
        let mut world = found(World::talking(), link, "CS_PARK", "echo");
        assert!(world.take_events().is_empty());
    }
}

#[test]
fn what_a_doubtful_channel_begins_tells_where_it_is() {
    // On its way from one application to the next, or named after what was played to it.
    for (state, app) in
        [("CS_ROUTING", "park"), ("CS_EXECUTE", "playback"), ("CS_EXECUTE", "socket")]
    {
        let mut world = found(World::talking(), ChannelLink::Alive, state, app);
        world.executed("playback");
        assert!(world.take_events().is_empty(), "{state} {app}");
        world.executed("ivr");
        assert_eq!(world.take_events(), taken_over(), "{state} {app}");

        let mut world = found(World::talking(), ChannelLink::Alive, state, app);
        world.executed("park");
        world.executed("ivr");
        assert!(world.take_events().is_empty(), "it waits: what it runs now it runs there");
    }
    let mut world = found(World::talking(), ChannelLink::Alive, "CS_EXECUTE", "park");
    world.executed("ivr");
    assert!(world.take_events().is_empty(), "it waits");

    // Taken out of its waiting before, and where to was missed.
    let mut world = World::talking();
    world.own(ChannelEventKind::Unparked);
    let mut world = found(world, ChannelLink::Alive, "CS_EXECUTE", "playback");
    world.executed("playback");
    assert_eq!(world.take_events(), taken_over());
}

#[test]
fn a_conference_of_ours_is_no_taking_over() {
    let join = || Control::JoinConference {
        conference: Word::new("room").unwrap(),
        profile: Word::new("default").unwrap(),
    };
    // Begun before the event socket was lost, or while it was.
    for begun in [true, false] {
        let mut world = World::talking();
        let orders = world.channel.control(join()).unwrap();
        assert!(matches!(orders.last(), Some(SwitchCommand::TransferInline { .. })));
        if begun {
            world.own(ChannelEventKind::Unparked);
            world.executed("conference");
        }
        let mut world = found(world, ChannelLink::Alive, "CS_EXECUTE", "conference");
        assert!(world.take_events().is_empty());
        world.executed("park");
        let mut world = found(world, ChannelLink::Alive, "CS_EXECUTE", "conference");
        assert_eq!(world.take_events(), taken_over(), "another one");
    }
}

#[test]
fn who_is_elsewhere_than_handed_over_to_is_taken_over() {
    let mut world = World::talking();
    world.hold_back("uuid_transfer");
    world.transfer(TransferKind::Ivr, "main");
    let mut world = found(world, ChannelLink::Alive, "CS_EXECUTE", "conference");
    let events = world.take_events();
    assert!(matches!(events[0], SignalEvent::Transfer(_)), "{events:?}");
    assert_eq!(events[1..], taken_over());
}

#[test]
fn a_question_that_a_busy_switch_leaves_open_is_asked_again() {
    let elsewhere = || dump(&[("variable_current_application", "echo")]);
    for error in [SwitchError::Busy, SwitchError::TimedOut] {
        let mut world = World::talking();
        world.link_lost();
        world.next_answer("uuid_dump", Err(error.clone()));
        world.link(ChannelLink::Alive);
        assert_eq!(world.take_short_lines(), [DUMP]);
        world.run(millis(1_999));
        assert!(world.take_lines().is_empty(), "the switch is given time");
        world.next_answer("uuid_dump", elsewhere());
        world.run(millis(1_002));
        assert_eq!(world.take_short_lines()[0], DUMP);
        assert_eq!(world.take_events(), taken_over());

        // Also about the leg it is connected with.
        let mut world = World::talking();
        world.next_answer("uuid_dump", dump(&[("Other-Leg-Unique-ID", STRANGER)]));
        world.next_answer("uuid_dump", Err(error));
        world.link(ChannelLink::Lagged);
        world.take_lines();
        world.next_answer("uuid_dump", elsewhere());
        world.run(secs(3));
        assert_eq!(world.take_events(), taken_over());
    }
}

#[test]
fn a_question_is_not_asked_for_ever() {
    let mut world = World::talking();
    world.hold_back("uuid_dump");
    world.link(ChannelLink::Lagged);
    for _ in 0..5 {
        assert_eq!(world.take_short_lines(), [DUMP]);
        world.answer("uuid_dump", Err(SwitchError::TimedOut));
        world.run(secs(3));
    }
    assert_eq!(world.take_short_lines(), [DUMP]);
    assert!(world.notes.is_empty());
    world.answer("uuid_dump", Err(SwitchError::Busy));
    world.run(secs(60));
    assert!(world.take_lines().is_empty());
    let given_up =
        |note: &ChannelNote| matches!(note, ChannelNote::Refused { command: "uuid_dump", .. });
    assert!(world.notes.iter().any(given_up), "{:?}", world.notes);

    // Missed again, it is asked anew.
    world.link(ChannelLink::Lagged);
    assert_eq!(world.take_short_lines(), [DUMP]);
    world.answer("uuid_dump", Err(SwitchError::Busy));
    world.run(secs(3));
    assert_eq!(world.take_short_lines(), [DUMP]);
}

#[test]
fn a_question_waits_until_the_caller_is_handed_over() {
    let mut world = World::talking();
    world.next_answer("uuid_dump", Err(SwitchError::Busy));
    world.link(ChannelLink::Lagged);
    world.hold_back("uuid_transfer");
    world.transfer(TransferKind::Ivr, "main");
    world.take_lines();
    world.run(secs(4));
    assert!(world.take_lines().is_empty(), "on its way it would still say that it waits");
    world.answer("uuid_transfer", refused("no such place"));
    world.failure();
    world.take_lines();
    world.run(secs(2));
    assert_eq!(world.take_short_lines(), [DUMP]);
}

#[test]
fn a_question_is_not_asked_again_without_a_link_or_a_call() {
    for error in [SwitchError::Unknown, SwitchError::Down] {
        let mut world = World::talking();
        world.next_answer("uuid_dump", Err(error));
        world.link(ChannelLink::Lagged);
        world.take_lines();
        world.run(secs(10));
        assert!(world.take_lines().is_empty());
    }
    let mut world = World::talking();
    world.next_answer("uuid_dump", Err(SwitchError::Busy));
    world.link(ChannelLink::Lagged);
    world.link_lost();
    world.take_lines();
    world.run(secs(10));
    assert!(world.take_lines().is_empty());

    let mut world = World::talking();
    world.next_answer("uuid_dump", Err(SwitchError::Busy));
    world.link(ChannelLink::Lagged);
    world.hold_back("uuid_kill");
    world.hang_up();
    world.take_lines();
    world.run(secs(10));
    assert!(!world.take_lines().iter().any(|line| line.starts_with("uuid_dump")));
}

#[test]
fn a_fork_that_broke_meanwhile_is_started_again() {
    let mut world = World::talking();
    world.link_lost();
    world.channel.handle_media(world.now, false);
    world.run(secs(10));
    assert!(world.take_lines().is_empty());
    world.link(ChannelLink::Alive);
    let lines = world.take_short_lines();
    assert_eq!(lines[0], DUMP);
    assert_eq!(lines[1], "uuid_audio_fork OWN stop");
    assert!(lines[2].contains("|start|"));
    world.fork(ForkEvent::Connected);
    assert!(world.take_events().is_empty());
}

#[test]
fn a_target_that_rang_when_the_socket_was_lost_is_let_go() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.link_lost();
    assert!(world.take_events().is_empty(), "the caller hears it ring until something is known");
    world.run(secs(5));
    world.take_lines();
    world.link(ChannelLink::Alive);
    assert_eq!(world.failure(), (None, "the event socket was lost meanwhile".to_owned()));
    let lines = world.take_short_lines();
    assert!(lines.iter().any(|line| line.starts_with("uuid_kill ")), "{lines:?}");
    assert!(lines.iter().any(|line| line == "uuid_break OWN all"), "{lines:?}");
    world.hang_up();
    world.run(secs(2));
    assert!(world.channel.is_done());
}

#[test]
fn a_target_rings_on_when_only_events_were_missed() {
    for link in [ChannelLink::Lagged, ChannelLink::Alive] {
        let mut world = World::talking();
        world.transfer(TransferKind::External, "+491");
        world.link(link);
        assert!(world.take_events().is_empty());
        world.target_answers();
        assert!(world.take_short_lines().contains(&"uuid_bridge OWN TARGET".to_owned()));
    }
}

#[test]
fn ringing_that_could_not_be_stopped_is_stopped_later() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.link_lost();
    world.next_answer("uuid_break", Err(SwitchError::Down));
    world.run(secs(40));
    assert_eq!(world.failure(), (None, "nobody answered in time".to_owned()));
    world.take_lines();
    world.link(ChannelLink::Alive);
    assert!(world.take_short_lines().contains(&"uuid_break OWN all".to_owned()));
}

#[test]
fn a_bridge_made_while_the_socket_was_lost_counts() {
    for (peer, there) in [(TARGET, true), (STRANGER, false)] {
        let mut world = World::talking();
        world.hold_back("uuid_bridge");
        world.transfer(TransferKind::External, "+491");
        world.target_answers();
        world.link_lost();
        world.next_answer("uuid_dump", dump(&[("Other-Leg-Unique-ID", peer)]));
        world.link(ChannelLink::Alive);
        if there {
            assert_eq!(world.take_events(), completed());
            assert_eq!(world.take_short_lines().last().unwrap(), "uuid_audio_fork OWN stop");
        } else {
            world.failure();
            assert!(world.take_short_lines().contains(&"uuid_kill TARGET NORMAL_CLEARING".into()));
        }
    }
}

#[test]
fn a_hand_over_made_while_the_socket_was_lost_counts() {
    for (application, there) in [("ivr", true), ("park", false)] {
        let mut world = World::talking();
        world.hold_back("uuid_transfer");
        world.transfer(TransferKind::Ivr, "main");
        world.link_lost();
        world.next_answer("uuid_dump", dump(&[("variable_current_application", application)]));
        world.link(ChannelLink::Alive);
        if there {
            assert_eq!(world.take_events(), completed());
        } else {
            assert_eq!(world.failure().0, None);
        }
    }
}

#[test]
fn a_leg_whose_end_could_not_be_ordered_is_ended_later() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.take_lines();
    world.next_answer("uuid_kill", Err(SwitchError::Busy));
    world.own_hangs_up("NORMAL_CLEARING");
    world.take_events();
    assert!(!world.channel.is_done());
    world.run(secs(2));
    assert_eq!(world.take_lines().len(), 3);
    world.answer("originate", refused("ORIGINATOR_CANCEL"));
    assert!(world.channel.is_done());

    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.hold_back("uuid_kill");
    world.own_hangs_up("NORMAL_CLEARING");
    world.run(secs(320));
    assert!(world.channel.is_done(), "a leg that cannot be ended is not waited for");
}
