//! What an API does with the channel.

use std::time::Duration;

use tandem_call::{HangupCause, SignalEvent, TransferKind};
use tandem_pbx::{
    ChannelEventKind, Control, ControlError, ControlFailure, DialString, Digits, Direction,
    EavesdropMode, ListenerCall, MediaPath, Playable, RecordAction, Reply, SwitchCommand,
    SwitchError, ValetSlot, VariableName, VariableValue, Word,
};

use crate::world::{OWN, World, millis, ok, refused, secs, settings};

fn word(text: &str) -> Word {
    Word::new(text).unwrap()
}

fn line(command: &SwitchCommand) -> String {
    command.line().replace(OWN, "OWN")
}

#[test]
fn hold_goes_back_and_forth() {
    let mut world = World::talking();
    assert_eq!(line(&world.channel.toggle_hold().unwrap()), "uuid_hold OWN");
    assert_eq!(world.channel.resume(), Err(ControlError::NotHeld));
    world.own(ChannelEventKind::Held);
    assert_eq!(world.channel.hold(), Err(ControlError::AlreadyHeld));
    assert_eq!(line(&world.channel.toggle_hold().unwrap()), "uuid_hold off OWN");
}

#[test]
fn a_recording_knows_its_path() {
    let mut world = World::talking();
    let path = || MediaPath::new("/var/rec/a.wav").unwrap();
    assert_eq!(world.channel.change_recording(RecordAction::Mask), Err(ControlError::NotRecording));
    let start = world.channel.record(path(), Some(secs(60))).unwrap();
    assert_eq!(line(&start), "uuid_record OWN start /var/rec/a.wav 60");
    assert_eq!(world.channel.record(path(), None), Err(ControlError::AlreadyRecording(path())));
    let mask = world.channel.change_recording(RecordAction::Mask).unwrap();
    assert_eq!(line(&mask), "uuid_record OWN mask /var/rec/a.wav");
    world.own(ChannelEventKind::RecordStopped { path: "/var/rec/a.wav".into() });
    assert_eq!(world.channel.change_recording(RecordAction::Stop), Err(ControlError::NotRecording));
    world.own(ChannelEventKind::RecordStarted { path: "/var/rec/b.wav".into() });
    let stop = world.channel.change_recording(RecordAction::Stop).unwrap();
    assert_eq!(line(&stop), "uuid_record OWN stop /var/rec/b.wav");
}

#[test]
fn where_we_send_the_channel_nobody_took_it() {
    let mut world = World::talking();
    let lot = world.channel.valet_park(word("lot1"), ValetSlot::Range { first: 5001, last: 5099 });
    assert_eq!(line(&lot.unwrap()), "uuid_transfer OWN 'valet_park:lot1 auto in 5001 5099' inline");
    world.own(ChannelEventKind::Unparked);
    world.executed("valet_park");
    let [stays, join] = world.channel.join_conference(&word("room1"), &word("default")).unwrap();
    assert_eq!(line(&stays), "uuid_setvar OWN hangup_after_conference false");
    assert_eq!(line(&join), "uuid_transfer OWN conference:room1@default,park inline");
    world.own(ChannelEventKind::Unparked);
    world.executed("conference");
    assert_eq!(line(&world.channel.park().unwrap()), "uuid_park OWN");
    assert!(world.take_events().is_empty());
    world.own(ChannelEventKind::Unparked);
    world.executed("conference");
    assert_eq!(world.take_events().len(), 2, "a second time it was not us");
}

#[test]
fn people_listen_in_or_join() {
    let mut world = World::talking();
    let listener = ListenerCall {
        dial: DialString::new("sofia/internal/boss@10.0.0.5").unwrap(),
        timeout: secs(20),
        mode: EavesdropMode::Listen,
    };
    let call = line(&world.channel.eavesdrop(listener).unwrap());
    assert!(call.starts_with("originate {origination_uuid="), "{call}");
    assert!(call.ends_with("}sofia/internal/boss@10.0.0.5 &eavesdrop(OWN)"), "{call}");
    let third = DialString::new("user/1001").unwrap();
    let [call, _, join] =
        world.channel.three_way(&word("room1"), &word("default"), third, secs(9)).unwrap();
    assert!(
        line(&call).ends_with("user/1001 &conference(room1@default+flags{mintwo})"),
        "{call:?}"
    );
    assert_eq!(line(&join), "uuid_transfer OWN conference:room1@default,park inline");
}

#[test]
fn the_rest_needs_a_call_that_is_up() {
    let mut world = World::talking();
    let digits = || Digits::new("12#").unwrap();
    let send = world.channel.send_digits(digits(), None).unwrap();
    assert_eq!(line(&send), "uuid_send_dtmf OWN 12#");
    assert_eq!(
        line(&world.channel.mute(Direction::Read).unwrap()),
        "uuid_audio OWN start read mute 1"
    );
    assert_eq!(line(&world.channel.unmute().unwrap()), "uuid_audio OWN stop");
    world.transfer(TransferKind::External, "+491");
    assert_eq!(world.channel.send_digits(digits(), None), Err(ControlError::Transferring));
    let ringing = World::new(settings());
    assert_eq!(ringing.channel.hold(), Err(ControlError::NotUp));
}

/// Gives the orders of `control` one after the other, each with its result, and says what was ordered and what came of
/// it.
fn carry_out(
    world: &mut World,
    control: Control,
    results: Vec<Result<Reply, SwitchError>>,
) -> (Vec<String>, Result<(), ControlFailure>) {
    let mut lines = Vec::new();
    let orders = world.channel.control(control).unwrap();
    for (order, result) in orders.iter().zip(results) {
        lines.push(line(order));
        if let Err(failure) = world.channel.control_came_out(world.now, order, &result) {
            world.run(Duration::ZERO);
            return (lines, Err(failure));
        }
    }
    assert_eq!(lines.len(), orders.len(), "a result for each order");
    (lines, Ok(()))
}

fn hung_up() -> SignalEvent {
    SignalEvent::HungUp { cause: HangupCause::NormalClearing }
}

fn three() -> Control {
    Control::ThreeWay {
        conference: word("room1"),
        profile: word("default"),
        third: DialString::new("sofia/internal/1001@10.0.0.5").unwrap(),
        timeout: secs(20),
    }
}

#[test]
fn each_control_is_an_order() {
    for (control, expected) in [
        (Control::Hold, "uuid_hold OWN"),
        (Control::Park, "uuid_park OWN"),
        (
            Control::SendDigits { digits: Digits::new("1").unwrap(), duration: Some(millis(80)) },
            "uuid_send_dtmf OWN 1@80",
        ),
        (
            Control::Play(Playable::File(MediaPath::new("local_stream://moh").unwrap())),
            "uuid_broadcast OWN local_stream://moh aleg",
        ),
        (Control::StopPlaying, "uuid_break OWN all"),
        (Control::Mute(Direction::Write), "uuid_audio OWN start write mute 1"),
        (Control::Unmute, "uuid_audio OWN stop"),
        (Control::EndMute(Direction::Read), "uuid_audio OWN start read mute 0"),
        (Control::EndMute(Direction::Write), "uuid_audio OWN start write mute 0"),
        (
            Control::SetVariable {
                name: VariableName::new("agent_x").unwrap(),
                value: VariableValue::new("1").unwrap(),
            },
            "uuid_setvar OWN agent_x 1",
        ),
        (Control::GetVariable(VariableName::new("agent_x").unwrap()), "uuid_getvar OWN agent_x"),
        (Control::GatewayStatus(word("trunk1")), "sofia status gateway trunk1"),
    ] {
        let mut world = World::talking();
        let (lines, came_out) = carry_out(&mut world, control, vec![ok("+OK\n")]);
        assert_eq!((lines, came_out), (vec![expected.to_owned()], Ok(())));
    }
}

#[test]
fn what_the_switch_refused_did_not_happen() {
    let mut world = World::talking();
    let record = || Control::Record { path: MediaPath::new("/rec/a.wav").unwrap(), limit: None };
    let (_, failure) = carry_out(&mut world, record(), vec![refused("Operation failed")]);
    assert_eq!(failure.unwrap_err().to_string(), "refused: Operation failed");
    carry_out(&mut world, record(), vec![Err(SwitchError::Unknown)]).1.unwrap_err();
    let again = world.channel.control(record());
    assert!(
        matches!(again, Err(ControlError::AlreadyRecording(_))),
        "it may be recorded: {again:?}"
    );

    let join = || Control::JoinConference { conference: word("r"), profile: word("default") };
    carry_out(&mut world, join(), vec![ok("+OK\n"), refused("No such channel!")]).1.unwrap_err();
    world.own(ChannelEventKind::Unparked);
    world.executed("conference");
    assert_eq!(world.take_events(), [SignalEvent::TakenOver, hung_up()], "it was not us");
}

#[test]
fn a_third_person_rings_before_the_caller_leaves_for_the_conference() {
    let mut world = World::talking();
    let (lines, came_out) =
        carry_out(&mut world, three(), vec![ok("+OK\n"), ok("+OK\n"), ok("+OK\n")]);
    came_out.unwrap();
    assert!(lines[0].contains("origination_caller_id_number=+13055550100"), "{lines:?}");
    assert!(lines[0].contains("originate_timeout=20"), "{lines:?}");
    assert_eq!(lines[1], "uuid_setvar OWN hangup_after_conference false");
    assert_eq!(lines[2], "uuid_transfer OWN conference:room1@default,park inline");
    world.own(ChannelEventKind::Unparked);
    world.executed("conference");
    // The other one leaves, the conference ends.
    world.own(ChannelEventKind::Parked);
    world.executed("park");
    assert!(world.take_events().is_empty() && world.lines.is_empty());

    let (lines, failure) = carry_out(&mut world, three(), vec![refused("USER_BUSY")]);
    assert_eq!(failure.unwrap_err().to_string(), "refused: USER_BUSY");
    assert_eq!((lines.len(), world.lines.len()), (1, 0), "the caller stays, nobody is hung up on");
}

#[test]
fn nobody_is_left_waiting_for_a_caller_who_does_not_come() {
    // The caller hangs up while the phone rings, and it is answered then.
    let mut world = World::talking();
    let orders = world.channel.control(three()).unwrap();
    world.own_hangs_up("NORMAL_CLEARING");
    world.channel.settle_controls(world.now);
    world.run(Duration::ZERO);
    assert!(world.lines[0].starts_with("uuid_kill "), "{:?}", world.lines);
    assert!(!world.channel.is_done(), "it may be answered yet");
    let answered = world.channel.control_came_out(world.now, &orders[0], &ok("+OK\n"));
    assert_eq!(answered, Err(ControlError::NotUp.into()));
    world.run(Duration::ZERO);
    assert!(world.lines[1].starts_with("uuid_kill "), "{:?}", world.lines);
    assert!(world.channel.is_done());

    // The caller can't be moved.
    let mut world = World::talking();
    let results = vec![ok("+OK\n"), ok("+OK\n"), refused("No such channel!")];
    carry_out(&mut world, three(), results).1.unwrap_err();
    assert!(world.lines[0].starts_with("uuid_kill "), "{:?}", world.lines);

    // Nobody knows what came of the call.
    let mut world = World::talking();
    carry_out(&mut world, three(), vec![Err(SwitchError::TimedOut)]).1.unwrap_err();
    assert!(world.lines[0].starts_with("uuid_kill "), "{:?}", world.lines);
    for _ in 0..4 {
        world.channel.control(three()).unwrap();
    }
    assert_eq!(world.channel.control(three()), Err(ControlError::Calling));
}
