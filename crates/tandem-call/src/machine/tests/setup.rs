//! From the INVITE to the greeting.

use super::world::{World, agent, ms};
use crate::{
    EndReason, EndedBy, Greet, Greeting, HangupCause, ModelCommand, ModelEvent, Output, Reaction,
    SignalCommand, SignalEvent,
};

const ANSWER: Output = Output::Signal(SignalCommand::Answer);

#[test]
fn the_phone_rings_until_the_model_is_ready() {
    let mut world = World::ringing(agent());
    assert_eq!(world.opened(), [(0, 0, false)]);
    world.run(400);
    world.model(ModelEvent::Ready);
    assert_eq!(world.times(|output| *output == ANSWER), [400]);
    assert_eq!(world.told(), [(400, &ModelCommand::Greet(Greet::Exactly("Hello.".into())))]);
    world.audio(1, 500);
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let outcome = world.outcome();
    assert_eq!(outcome.model_connect_ms, Some(400.0));
    assert_eq!(outcome.first_audio_ms, Some(0.0));
    assert_eq!(outcome.models, ["first"]);
    assert_eq!(outcome.answered, Some(world.start + ms(400)));
}

#[test]
fn a_slow_model_does_not_hold_the_answer() {
    let mut world = World::ringing(agent());
    world.run(2_000);
    assert_eq!(world.times(|output| *output == ANSWER), [1_500]);
    assert!(world.told().is_empty());
    world.model(ModelEvent::Ready);
    assert!(matches!(world.told()[..], [(2_000, ModelCommand::Greet(_))]));
    world.model(ModelEvent::Ready); // A second one changes nothing.
    assert_eq!(world.told().len(), 1);
}

#[test]
fn models_that_fail_before_the_answer_are_passed_over_at_once() {
    let mut world = World::ringing(agent());
    world.lose_model(Reaction::Retry { after: ms(100) });
    world.lose_model(Reaction::GiveUp);
    assert_eq!(world.opened(), [(0, 0, false), (0, 1, false), (0, 2, true)]);
    world.model(ModelEvent::Ready);
    assert!(matches!(world.told()[..], [(0, ModelCommand::Greet(_))]));
}

#[test]
fn the_last_model_has_another_try_while_the_phone_rings() {
    let mut spec = agent();
    spec.models.truncate(1);
    let mut world = World::ringing(spec);
    world.lose_model(Reaction::Retry { after: ms(200) });
    world.run(300);
    let renewed = |output: &Output| matches!(output, Output::Model(ModelCommand::Renew { .. }));
    assert_eq!(world.times(renewed), [200]);
    assert_eq!(world.opened(), [(0, 0, false)]);
    world.lose_model(Reaction::Retry { after: ms(400) });
    world.run(500);
    world.lose_model(Reaction::GiveUp);
    assert_eq!(world.opened(), [(0, 0, false), (800, 1, true)]);
    world.model(ModelEvent::Ready);
    assert_eq!(world.times(|output| *output == ANSWER), [800]);
}

#[test]
fn a_try_that_lasts_longer_than_the_ringing_is_the_last() {
    let mut spec = agent();
    spec.models.truncate(1);
    let mut world = World::ringing(spec);
    world.lose_model(Reaction::Retry { after: ms(1_000) });
    world.run(1_600);
    assert_eq!(world.times(|output| *output == ANSWER), [1_500]);
    world.lose_model(Reaction::Retry { after: ms(100) });
    assert_eq!(world.opened(), [(0, 0, false), (1_600, 1, true)]);
    world.model(ModelEvent::Ready);
    assert!(matches!(world.told().last(), Some((1_600, ModelCommand::Greet(_)))));
}

#[test]
fn a_call_nobody_can_answer_is_refused() {
    let mut world = World::ringing(agent());
    for _ in 0..3 {
        world.lose_model(Reaction::GiveUp);
    }
    let cause = HangupCause::NormalTemporaryFailure;
    assert_eq!(
        world.times(|output| *output == Output::Signal(SignalCommand::Reject { cause })).len(),
        1
    );
    let outcome = world.outcome();
    assert_eq!((outcome.end_reason, outcome.ended_by), (EndReason::ModelError, EndedBy::System));
    assert_eq!(
        outcome.model_failures,
        ["first: 1011 gone", "second: 1011 gone", "attendant: 1011 gone"]
    );
    assert!(outcome.models.is_empty());
}

#[test]
fn an_agent_without_models_is_the_attendant() {
    let mut spec = agent();
    spec.models.clear();
    let mut world = World::ringing(spec);
    assert_eq!(world.opened(), [(0, 0, false)]);
    world.model(ModelEvent::Ready);
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    assert_eq!(world.outcome().models, ["attendant"]);
}

#[test]
fn a_silent_agent_waits_to_be_spoken_to() {
    let mut spec = agent();
    spec.greeting = Greeting::Silent;
    let mut world = World::ringing(spec);
    world.model(ModelEvent::Ready);
    world.run(20_000);
    assert!(world.told().is_empty());
    assert!(world.prompts().is_empty());
    assert!(!world.machine.is_ended());
}

#[test]
fn a_caller_who_gives_up_ends_the_call_in_any_state() {
    let clearing = HangupCause::NormalClearing;
    let lost = HangupCause::RecoveryOnTimerExpire;
    for (name, ready, event, reason, by) in [
        ("ringing", false, SignalEvent::Cancelled, EndReason::Cancelled, EndedBy::Caller),
        (
            "talking",
            true,
            SignalEvent::HungUp { cause: clearing },
            EndReason::CallerHangup,
            EndedBy::Caller,
        ),
        ("lost", true, SignalEvent::HungUp { cause: lost }, EndReason::Failed, EndedBy::System),
        ("late cancel", true, SignalEvent::Cancelled, EndReason::CallerHangup, EndedBy::Caller),
    ] {
        let mut world = World::ringing(agent());
        if ready {
            world.model(ModelEvent::Ready);
        }
        world.signal(event);
        assert!(world.machine.is_ended(), "{name}");
        assert!(matches!(world.told().last(), Some((_, ModelCommand::Close))), "{name}");
        let (ended, ended_by, _) = world.end();
        assert_eq!((ended, ended_by), (reason, by), "{name}");
        world.log.clear();
        world.model(ModelEvent::Ready);
        world.run(60_000);
        assert!(world.log.is_empty(), "{name}: words after the end");
    }
}

#[test]
fn an_answer_that_signalling_never_confirms_ends_the_call() {
    let mut world = World::ringing(agent());
    world.signalling = false;
    world.model(ModelEvent::Ready);
    world.run(5_000);
    assert_eq!(world.hang_ups(), [5_000]);
    assert_eq!(world.end().0, EndReason::Failed);
    assert_eq!(world.times(|output| matches!(output, Output::Ended(_))), [10_000]);
}
