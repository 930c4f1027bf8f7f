//! Answering, refusing, hanging up, and what is kept with the channel.

use tandem_call::{Digit, HangupCause, SignalCommand, SignalEvent};
use tandem_pbx::{
    Cause, ChannelEventKind, ChannelNote, ChannelSettings, DigitSource, ForkEvent, ForkModule,
    ForkPlan, ForkSource, SwitchError,
};

use crate::world::{World, fork_plan, hung_up, millis, ok, refused, secs, settings};

const FORK_START: &str = "uuid_audio_fork ^^|OWN|start|ws://127.0.0.1:9900/fork/jambonz|mono|16000|audio_fork||true|true|8000";

#[test]
fn a_call_is_answered_then_forked() {
    let mut world = World::new(settings());
    world.hold_back("uuid_answer");
    world.command(SignalCommand::Answer);
    assert_eq!(
        world.take_short_lines(),
        ["uuid_setvar OWN send_silence_when_idle -1", "uuid_answer OWN"]
    );
    assert!(world.take_events().is_empty());
    world.own(ChannelEventKind::Answered);
    assert_eq!(world.take_events(), [SignalEvent::Answered]);
    assert_eq!(world.take_short_lines(), [FORK_START]);
    world.answer("uuid_answer", ok("+OK\n"));
    world.command(SignalCommand::Answer);
    world.fork(ForkEvent::Connected);
    world.run(secs(60));
    assert!(world.take_events().is_empty());
    assert!(world.take_lines().is_empty());
}

#[test]
fn the_reply_to_the_answer_is_as_good_as_its_event() {
    let mut world = World::new(settings());
    world.command(SignalCommand::Answer);
    assert_eq!(world.take_events(), [SignalEvent::Answered]);
    world.own(ChannelEventKind::Answered);
    assert!(world.take_events().is_empty());
}

#[test]
fn an_answered_channel_is_not_answered_again() {
    let mut world = World::new(ChannelSettings { answered: true, ..settings() });
    world.command(SignalCommand::Answer);
    assert_eq!(world.take_events(), [SignalEvent::Answered]);
    assert_eq!(world.take_short_lines(), ["uuid_setvar OWN send_silence_when_idle -1", FORK_START]);
}

#[test]
fn a_fork_of_the_dialplan_is_not_started_again() {
    let fork = ForkSource::Dialplan { module: ForkModule::AudioStream, bug: None };
    let mut world = World::new(ChannelSettings { answered: true, fork, ..settings() });
    world.command(SignalCommand::Answer);
    assert_eq!(world.take_events(), [SignalEvent::Answered]);
    assert_eq!(world.take_short_lines(), ["uuid_setvar OWN send_silence_when_idle -1"]);
}

#[test]
fn mod_audio_stream_gets_the_variables_it_reads_unset() {
    let plan = ForkPlan { module: ForkModule::AudioStream, back: None, ..fork_plan() };
    let fork = ForkSource::Ours(Box::new(plan));
    let mut world = World::new(ChannelSettings { fork, ..settings() });
    world.command(SignalCommand::Answer);
    assert_eq!(
        world.take_short_lines()[0],
        "uuid_setvar_multi OWN send_silence_when_idle=-1;STREAM_MESSAGE_DEFLATE=true;STREAM_HEART_BEAT=20"
    );
}

#[test]
fn a_caller_who_gives_up_cancels() {
    for answer in [false, true] {
        let mut world = World::new(settings());
        world.hold_back("uuid_answer");
        if answer {
            world.command(SignalCommand::Answer);
        }
        world.own_hangs_up("ORIGINATOR_CANCEL");
        assert_eq!(world.take_events(), [SignalEvent::Cancelled]);
        assert!(world.channel.is_done());
        world.take_lines();
        world.hang_up();
        world.own(ChannelEventKind::Destroyed);
        assert!(world.take_events().is_empty());
        assert!(world.take_lines().is_empty());
    }
}

#[test]
fn an_answer_that_fails_ends_the_call() {
    let mut world = World::new(settings());
    world.next_answer("uuid_answer", refused("No such channel!"));
    world.command(SignalCommand::Answer);
    assert_eq!(world.take_events(), [SignalEvent::Cancelled]);
    assert!(world.channel.is_done());

    let mut world = World::new(settings());
    world.next_answer("uuid_answer", refused("Operation Failed"));
    world.command(SignalCommand::Answer);
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalTemporaryFailure)]);
    assert_eq!(world.take_short_lines().last().unwrap(), "uuid_kill OWN NORMAL_TEMPORARY_FAILURE");
}

#[test]
fn an_answer_without_an_answer_is_ordered_again() {
    let mut world = World::new(settings());
    world.next_answer("uuid_answer", Err(SwitchError::Busy));
    world.command(SignalCommand::Answer);
    assert!(world.take_events().is_empty());
    world.run(secs(2));
    assert_eq!(world.take_events(), [SignalEvent::Answered]);
}

#[test]
fn a_refusal_kills_with_its_cause() {
    let mut world = World::new(settings());
    world.command(SignalCommand::Reject { cause: HangupCause::UserBusy });
    assert_eq!(world.take_short_lines(), ["uuid_kill OWN USER_BUSY"]);
    assert_eq!(world.take_events(), [hung_up(HangupCause::UserBusy)]);
    assert!(world.channel.is_done());
}

#[test]
fn the_caller_hangs_up() {
    for (name, cause) in [
        ("NORMAL_CLEARING", HangupCause::NormalClearing),
        ("MEDIA_TIMEOUT", HangupCause::RecoveryOnTimerExpire),
    ] {
        let mut world = World::talking();
        world.own_hangs_up(name);
        world.own(ChannelEventKind::HungUpComplete { cause: Cause::from_name(name) });
        world.own(ChannelEventKind::Destroyed);
        assert_eq!(world.take_events(), [hung_up(cause)]);
        assert!(world.channel.is_done());
        assert!(world.take_lines().is_empty());
    }
}

#[test]
fn variables_are_set_before_the_hang_up() {
    let mut world = World::talking();
    world.hold_back("uuid_setvar");
    world.hold_back("uuid_kill");
    world.command(annotate(&[("outcome", "one")]));
    world.command(annotate(&[("outcome", "two"), ("tandem_summary", "a; b=c")]));
    world.command(annotate(&[("outcome", "three")]));
    assert_eq!(world.take_short_lines(), ["uuid_setvar OWN tandem_outcome one"]);
    world.hang_up();
    assert_eq!(
        world.take_short_lines(),
        [
            "uuid_setvar_multi OWN tandem_outcome=three;tandem_summary=a\\; b=c",
            "uuid_kill OWN NORMAL_CLEARING"
        ]
    );
    world.answer("uuid_kill", ok("+OK\n"));
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);
}

#[test]
fn what_comes_while_variables_are_being_set_goes_together() {
    let mut world = World::talking();
    world.hold_back("uuid_setvar");
    world.command(annotate(&[("a", "1")]));
    world.command(annotate(&[("b", "1")]));
    world.command(annotate(&[("b", "2"), ("c", "3")]));
    world.take_lines();
    world.answer("uuid_setvar", ok("+OK\n"));
    assert_eq!(world.take_short_lines(), ["uuid_setvar_multi OWN tandem_b=2;tandem_c=3"]);
}

#[test]
fn variables_that_were_not_set_are_set_again_unless_newer_ones_came() {
    let mut world = World::talking();
    world.next_answer("uuid_setvar_multi", Err(SwitchError::TimedOut));
    world.command(annotate(&[("a", "1"), ("b", "1")]));
    world.take_lines();
    world.command(annotate(&[("a", "2")]));
    assert_eq!(world.take_short_lines(), ["uuid_setvar_multi OWN tandem_a=2;tandem_b=1"]);
    world.run(secs(5));
    assert!(world.take_lines().is_empty());

    world.hold_back("uuid_setvar");
    world.command(annotate(&[("c", "1")]));
    for _ in 0..5 {
        world.answer("uuid_setvar", refused("Operation Failed"));
        world.run(secs(2));
    }
    assert_eq!(world.take_lines().len(), 5);
    assert!(
        matches!(&world.notes[..], [ChannelNote::VariableDropped { name, .. }] if name == "tandem_c")
    );
}

#[test]
fn values_and_their_number_are_bounded() {
    let mut world = World::talking();
    world.command(annotate(&[("transcript", &"ä".repeat(8_000)), ("bad name", "1")]));
    let line = world.take_lines().remove(0);
    assert!((8_190..8_300).contains(&line.len()), "{}", line.len());
    assert!(
        matches!(&world.notes[..], [ChannelNote::VariableDropped { name, .. }] if name == "bad name")
    );
    world.hold_back("uuid_setvar");
    world.command(annotate(&[("x", "1")]));
    let many: Vec<_> = (0..100).map(|n| (format!("v{n}"), String::from("1"))).collect();
    world.command(SignalCommand::Annotate { variables: many });
    assert_eq!(world.notes.len(), 1 + 52);
    // More than one order takes goes with several.
    let mut world = World::talking();
    let long = "x".repeat(8 << 10);
    let many: Vec<_> = (0..40).map(|n| (format!("v{n}"), long.clone())).collect();
    world.command(SignalCommand::Annotate { variables: many });
    let lines = world.take_lines();
    assert_eq!(lines.len(), 3);
    assert!(lines.iter().all(|line| line.len() < 132 << 10));
}

#[test]
fn a_hang_up_nobody_confirms_is_repeated_and_at_last_believed() {
    let mut world = World::talking();
    world.hold_back("uuid_kill");
    world.hang_up();
    world.answer("uuid_kill", Err(SwitchError::TimedOut));
    world.run(secs(2));
    assert_eq!(world.take_lines().len(), 2);
    assert!(world.take_events().is_empty());
    world.run(secs(60));
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);
    assert_eq!(world.notes, [ChannelNote::HangUpUnconfirmed]);
    assert!(world.channel.is_done());
}

#[test]
fn a_digit_counts_once_and_hold_is_told() {
    let mut world = World::talking();
    for (digit, source) in
        [('5', DigitSource::Rtp), ('5', DigitSource::Endpoint), ('#', DigitSource::Rtp)]
    {
        let digit = Digit::new(digit).unwrap();
        world.own(ChannelEventKind::Digit { digit, duration: millis(100), source });
    }
    world.own(ChannelEventKind::Held);
    world.own(ChannelEventKind::Held);
    world.own(ChannelEventKind::Unheld);
    assert_eq!(
        world.take_events(),
        [
            SignalEvent::Digit(Digit::new('5').unwrap()),
            SignalEvent::Digit(Digit::new('#').unwrap()),
            SignalEvent::Held(true),
            SignalEvent::Held(false),
        ]
    );
}

pub(crate) fn annotate(variables: &[(&str, &str)]) -> SignalCommand {
    let variables =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    SignalCommand::Annotate { variables }
}
