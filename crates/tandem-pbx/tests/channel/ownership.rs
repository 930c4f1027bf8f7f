//! Whose the caller is: ours, or somebody else's at the switch.

use tandem_call::{HangupCause, SignalCommand, SignalEvent, TransferKind};
use tandem_pbx::{ChannelEventKind, ChannelNote, SwitchError};

use crate::{
    answering::annotate,
    world::{STRANGER, World, hung_up, secs, uuid},
};

fn taken() -> [SignalEvent; 2] {
    [SignalEvent::TakenOver, hung_up(HangupCause::NormalClearing)]
}

fn stranger() -> ChannelEventKind {
    ChannelEventKind::Bridged { peer: uuid(STRANGER) }
}

#[test]
fn somebody_who_bridges_the_caller_has_it() {
    let mut world = World::talking();
    world.own(stranger());
    assert_eq!(world.take_events(), taken());
    assert_eq!(world.take_short_lines(), ["uuid_audio_fork OWN stop"]);
    world.hang_up(); // The call is over for us; the caller talks to somebody.
    world.transfer(TransferKind::Extension, "1001");
    world.own(ChannelEventKind::Held);
    world.command(SignalCommand::BreakPlayback);
    assert!(world.take_lines().is_empty());
    world.run(secs(10));
    assert!(world.take_events().is_empty());
    assert!(world.channel.is_done());
}

#[test]
fn last_words_are_kept_with_the_channel_after_we_left() {
    let mut world = World::talking();
    world.hold_back("uuid_setvar");
    world.command(annotate(&[("a", "1")]));
    world.own(stranger());
    world.command(annotate(&[("outcome", "transferred")]));
    assert_eq!(
        world.take_short_lines(),
        [
            "uuid_setvar OWN tandem_a 1",
            "uuid_audio_fork OWN stop",
            "uuid_setvar OWN tandem_outcome transferred"
        ]
    );
    world.run(secs(6));
    assert!(world.channel.is_done());
    world.command(annotate(&[("late", "1")]));
    assert!(world.take_lines().is_empty());
}

#[test]
fn a_fork_that_would_not_stop_is_stopped_again() {
    let mut world = World::talking();
    world.next_answer("uuid_audio_fork", Err(SwitchError::TimedOut));
    world.own(stranger());
    world.run(secs(10));
    assert_eq!(world.take_short_lines(), ["uuid_audio_fork OWN stop", "uuid_audio_fork OWN stop"]);
    assert!(world.channel.is_done());
}

#[test]
fn somebody_who_transfers_the_caller_has_it() {
    let mut world = World::talking();
    world.own(ChannelEventKind::Unparked);
    assert!(world.take_events().is_empty());
    world.executed("answer");
    assert_eq!(world.take_events(), taken());
    assert!(matches!(&world.notes[..], [ChannelNote::TakenOver(how)] if how == "moved to answer"));
}

#[test]
fn what_runs_while_the_channel_waits_is_no_transfer() {
    let mut world = World::talking();
    world.own(ChannelEventKind::Parked);
    for app in ["playback", "set", "speak"] {
        world.executed(app);
    }
    world.own(ChannelEventKind::Unparked); // Parked again by an operator.
    world.own(ChannelEventKind::Parked);
    world.executed("playback");
    world.own(ChannelEventKind::Unparked);
    world.executed("park");
    world.executed("playback");
    assert!(world.take_events().is_empty());
}

#[test]
fn the_end_of_waiting_may_be_the_end_of_the_call() {
    let mut world = World::talking();
    world.own(ChannelEventKind::Unparked);
    world.own_hangs_up("NORMAL_CLEARING");
    assert_eq!(world.take_events(), [hung_up(HangupCause::NormalClearing)]);
}

#[test]
fn a_caller_taken_while_the_target_rings_leaves_no_leg() {
    let mut world = World::talking();
    world.transfer(TransferKind::External, "+491");
    world.take_lines();
    world.own(stranger());
    let events = world.take_events();
    assert!(matches!(events[0], SignalEvent::Transfer(_)));
    assert_eq!(events[1..], taken());
    assert!(world.take_lines()[0].starts_with("uuid_kill "));
    world.run(secs(10));
    assert!(!world.channel.is_done());
    world.target_answers();
    assert_eq!(world.take_short_lines().last().unwrap(), "uuid_kill TARGET ORIGINATOR_CANCEL");
    world.run(secs(10));
    assert!(world.channel.is_done());
}

#[test]
fn a_call_that_is_let_go_of_stops_its_fork_and_says_nothing() {
    let mut world = World::talking();
    world.channel.release(world.now);
    world.run(secs(1));
    assert_eq!(world.take_short_lines(), ["uuid_audio_fork OWN stop"]);
    assert!(world.take_events().is_empty());
    assert!(world.channel.is_done());
}
