//! `end_call`: the hang-up comes the drain time after the played end of the goodbye.

use serde_json::json;

use super::world::{World, agent, ms};
use crate::{
    EndReason, EndedBy, HangupCause, Input, ItemId, LegEvent, ModelCommand, ModelEvent,
    ResponseEnd, SignalEvent, ToolOutcome,
};

fn goodbye(world: &mut World, audio: u64) {
    world.model(ModelEvent::ResponseStarted);
    world.speak(2, audio, "Goodbye, then.");
    let arguments = json!({ "reason": "caller_goodbye", "summary": "Asked for a bike." });
    world.call_tool("e1", "end_call", arguments);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
}

#[test]
fn the_call_ends_the_drain_time_after_the_played_end() {
    for (name, audio, drain, hang_up, tail) in [
        ("short goodbye", 500, 2_000, 2_500, Some(2_000.0)),
        ("long goodbye", 3_500, 2_000, 5_500, Some(2_000.0)),
        ("no drain time", 700, 0, 700, Some(0.0)),
        ("endless goodbye", 30_000, 2_000, 10_000, None),
        ("endless drain time", 500, 60_000, 10_000, Some(9_500.0)),
    ] {
        let mut spec = agent();
        spec.end_call_drain = ms(drain);
        let mut world = World::greeted(spec);
        goodbye(&mut world, audio);
        let ending = ToolOutcome::Answered(json!({ "status": "ending" }));
        assert_eq!(world.results(), [(1_200, "e1", &ending)], "{name}");
        let outcome = world.outcome();
        assert_eq!(world.hang_ups(), [1_200 + hang_up], "{name}");
        assert_eq!(outcome.end_call_tail_ms, tail, "{name}");
        assert_eq!(
            (outcome.end_reason, outcome.ended_by, outcome.cause),
            (EndReason::CallerGoodbye, EndedBy::Agent, HangupCause::NormalClearing),
            "{name}"
        );
        assert_eq!(outcome.summary.as_deref(), Some("Asked for a bike."), "{name}");
    }
}

#[test]
fn a_farewell_after_the_result_is_heard() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.call_tool("e1", "end_call", json!({ "reason": "conversation_complete" }));
    world.run(1_500);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_000);
    world.run(1_200); // Played; the answer goes on.
    world.audio(2, 1_000);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    assert_eq!(world.end().0, EndReason::ConversationComplete);
    assert_eq!(world.hang_ups(), [1_900 + 5_700]);
}

#[test]
fn there_is_no_second_goodbye() {
    type Say = fn(&mut World);
    let cases: [(&str, Say, u64); 3] = [
        ("with the call", |world| goodbye(world, 1_000), 1_000),
        (
            "before the call",
            |world| {
                world.answer(2, 1_000);
                world.call_tool("e1", "end_call", json!({ "reason": "caller_goodbye" }));
            },
            1_000,
        ),
        (
            "played before the call",
            |world| {
                world.answer(2, 1_000);
                world.run(1_500);
                world.call_tool("e1", "end_call", json!({ "reason": "caller_goodbye" }));
            },
            1_500, // From the call of the tool.
        ),
    ];
    for (name, say, played) in cases {
        let mut world = World::greeted(agent());
        world.caller_speaks(500); // Until 1,900.
        say(&mut world);
        world.run(300);
        let again = world.clock();
        world.model(ModelEvent::ResponseStarted);
        assert!(!world.machine.accepts_audio(ItemId(3)), "{name}");
        assert!(world.machine.accepts_audio(ItemId(2)), "{name}: the first is still heard");
        assert!(world.told().contains(&(again, &ModelCommand::Cancel)), "{name}");
        assert_eq!(world.end().0, EndReason::CallerGoodbye, "{name}");
        assert_eq!(world.hang_ups(), [1_900 + played + 2_000], "{name}");
    }
}

#[test]
fn a_farewell_that_breaks_off_is_not_waited_for() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.call_tool("e1", "end_call", json!({ "reason": "conversation_complete" }));
    world.run(1_500);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_000);
    assert_eq!(world.end().0, EndReason::ConversationComplete);
    assert_eq!(world.hang_ups(), [1_900 + 4_500]);
}

#[test]
fn the_goodbye_is_not_cut_and_new_turns_are_refused() {
    let mut world = World::greeted(agent());
    goodbye(&mut world, 3_000);
    world.run(500);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.model(ModelEvent::SpeechStarted);
    world.run(1_000);
    world.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
    world.model(ModelEvent::SpeechStopped);
    world.model(ModelEvent::ResponseStarted);
    assert!(!world.machine.accepts_audio(ItemId(3)));
    assert!(world.machine.accepts_audio(ItemId(2)));
    world.run(4_000);
    assert!(world.clears().is_empty());
    assert!(world.told().contains(&(2_700, &ModelCommand::Cancel)));
    assert_eq!(world.hang_ups(), [6_200]);
}

#[test]
fn speech_takes_the_ending_back_where_that_is_wanted() {
    for (name, wanted, speech, taken_back) in [
        ("long enough", true, 700, true),
        ("a yes", true, 400, false),
        ("not wanted", false, 700, false),
    ] {
        let mut spec = agent();
        spec.end_call_cancel_on_speech = wanted;
        let mut world = World::greeted(spec);
        goodbye(&mut world, 3_000);
        world.run(200);
        world.caller_speaks(speech);
        assert_eq!(world.clears().len(), usize::from(taken_back), "{name}");
        assert_eq!(world.said().len(), usize::from(taken_back), "{name}");
        world.run(100);
        world.answer(3, 1_000);
        world.run(20_000);
        assert_eq!(world.machine.is_ended(), !taken_back, "{name}");
        if taken_back {
            world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
            let outcome = world.outcome();
            assert_eq!(outcome.end_reason, EndReason::CallerHangup);
            assert_eq!(outcome.summary, None);
        }
    }
}

#[test]
fn an_ending_is_taken_back_while_the_caller_still_speaks() {
    let mut spec = agent();
    spec.end_call_cancel_on_speech = true;
    spec.max_duration = ms(30_000);
    let mut world = World::greeted(spec);
    goodbye(&mut world, 3_000);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.model(ModelEvent::SpeechStarted);
    world.run(5_000);
    assert_eq!(world.clears(), [2_000]);
    assert!(world.said().is_empty(), "not while he speaks");
    world.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
    world.model(ModelEvent::SpeechStopped);
    assert_eq!(world.said().len(), 1);
    world.answer(3, 1_000);
    assert_eq!(world.end().0, EndReason::MaxDuration, "the limit still counts");
}

#[test]
fn a_model_lost_while_the_call_ends_is_not_replaced() {
    let mut world = World::greeted(agent());
    goodbye(&mut world, 3_000);
    world.lose_model(crate::Reaction::GiveUp);
    assert_eq!(world.end().0, EndReason::CallerGoodbye);
    assert!(world.opened().is_empty());
    assert_eq!(world.hang_ups(), [6_200]);
}

#[test]
fn an_ending_taken_back_without_a_model_goes_to_the_next() {
    let mut spec = agent();
    spec.end_call_cancel_on_speech = true;
    let mut world = World::greeted(spec);
    goodbye(&mut world, 3_000);
    world.lose_model(crate::Reaction::Retry { after: ms(10) });
    world.caller_speaks(1_000);
    assert_eq!(world.opened().len(), 1);
    world.model(ModelEvent::Ready);
    assert_eq!(world.said().len(), 1);
}

#[test]
fn a_caller_who_hangs_up_first_keeps_the_reason() {
    let mut world = World::greeted(agent());
    goodbye(&mut world, 3_000);
    world.run(1_000);
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let (reason, by, _) = world.end();
    assert_eq!((reason, by), (EndReason::CallerGoodbye, EndedBy::Caller));
}

#[test]
fn each_reason_is_kept() {
    for (word, reason) in [
        ("conversation_complete", EndReason::ConversationComplete),
        ("caller_goodbye", EndReason::CallerGoodbye),
        ("no_response", EndReason::NoResponse),
        ("voicemail_detected", EndReason::VoicemailDetected),
    ] {
        let mut world = World::greeted(agent());
        world.call_tool("e1", "end_call", json!({ "reason": word }));
        world.call_tool("e2", "end_call", json!({ "reason": "no_response" }));
        assert_eq!(world.results().len(), 2, "each call has its answer");
        assert_eq!(world.end().0, reason);
    }
}
