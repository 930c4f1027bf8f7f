//! Limits, hold, drain, kill: the call ends without the model's help.

use super::world::{PROMPT, World, agent, ms};
use crate::{
    Digit, EndReason, EndedBy, HangupCause, Input, ItemId, LegCommand, LegEvent, ModelEvent,
    Output, Prompt, SignalCommand, SignalEvent,
};

#[test]
fn a_caller_who_says_nothing_is_said_goodbye() {
    let mut world = World::greeted(agent()); // The greeting ended at 1,000.
    assert_eq!(world.end(), (EndReason::MaxSilence, EndedBy::System, HangupCause::NormalClearing));
    assert_eq!(world.prompts(), [(61_000, Prompt::Goodbye)]);
    assert_eq!(world.hang_ups(), [61_000 + PROMPT]);
}

#[test]
fn whatever_the_caller_does_starts_the_silence_anew() {
    let mut world = World::greeted(agent());
    world.run(40_000);
    world.input(Input::Leg(LegEvent::Digit(Digit::new('1').unwrap())));
    world.run(40_000);
    world.caller_speaks(1_000);
    world.answer(2, 30_000);
    let answered = world.clock();
    assert!(!world.machine.is_ended());
    assert_eq!(world.end().0, EndReason::MaxSilence);
    assert_eq!(world.hang_ups(), [answered + 30_000 + 60_000 + PROMPT]);
}

#[test]
fn hold_is_no_silence() {
    let mut world = World::greeted(agent());
    world.answer(2, 4_000);
    world.run(1_000);
    world.signal(SignalEvent::Held(true));
    world.run(200_000);
    assert_eq!(world.times(|output| *output == Output::Leg(LegCommand::Pause(true))), [2_200]);
    world.signal(SignalEvent::Held(false));
    let resumed = world.clock();
    assert_eq!(world.end().0, EndReason::MaxSilence);
    assert_eq!(world.hang_ups(), [resumed + 3_000 + 60_000 + PROMPT]);
}

#[test]
fn a_call_that_lasts_too_long_ends_after_the_words_being_said() {
    for (name, audio, goodbye) in [
        ("nobody speaks", 0, 600_000),
        ("short words", 2_000, 601_000),
        ("long words", 60_000, 604_000),
    ] {
        let mut spec = agent();
        spec.max_silence = ms(3_600_000);
        let mut world = World::greeted(spec);
        world.run(599_000 - 1_200);
        if audio > 0 {
            world.answer(2, audio);
        }
        assert_eq!(world.end().0, EndReason::MaxDuration, "{name}");
        assert_eq!(world.prompts(), [(goodbye, Prompt::Goodbye)], "{name}");
        assert_eq!(world.hang_ups(), [goodbye + PROMPT], "{name}");
    }
}

#[test]
fn no_media_is_the_end() {
    let mut world = World::greeted(agent());
    world.input(Input::Leg(LegEvent::MediaTimeout));
    assert_eq!(
        world.end(),
        (EndReason::MediaTimeout, EndedBy::System, HangupCause::RecoveryOnTimerExpire)
    );
}

#[test]
fn a_daemon_that_stops_says_goodbye() {
    let mut world = World::greeted(agent());
    world.input(Input::Drain);
    world.input(Input::Drain);
    world.model(ModelEvent::ResponseStarted);
    assert!(!world.machine.accepts_audio(ItemId(2)), "no new turns");
    assert_eq!(world.end().0, EndReason::Draining);
    assert_eq!(world.prompts().len(), 1);
    assert_eq!(world.hang_ups(), [1_200 + PROMPT]);
}

#[test]
fn a_killed_call_ends_at_once() {
    let mut world = World::greeted(agent());
    world.answer(2, 5_000);
    world.input(Input::Kill { reason: EndReason::Failed });
    assert_eq!(world.hang_ups(), [1_200]);
    assert_eq!(
        world.end(),
        (EndReason::Failed, EndedBy::System, HangupCause::NormalTemporaryFailure)
    );

    let mut world = World::ringing(agent());
    world.input(Input::Kill { reason: EndReason::Rejected });
    let reject = SignalCommand::Reject { cause: HangupCause::CallRejected };
    assert_eq!(world.times(|output| *output == Output::Signal(reject.clone())), [0]);
    assert_eq!(world.end().0, EndReason::Rejected);
}

#[test]
fn a_hang_up_nobody_confirms_ends_five_seconds_later() {
    let mut world = World::greeted(agent());
    world.signalling = false;
    world.input(Input::Kill { reason: EndReason::Failed });
    world.run(4_999);
    assert!(!world.machine.is_ended());
    world.run(1);
    assert!(world.machine.is_ended());
    assert_eq!(world.machine.poll_timeout(), None);
}
