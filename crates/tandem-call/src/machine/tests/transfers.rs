//! `transfer_to_human` (control API 7 and 10.2.1).

use serde_json::{Value, json};

use super::world::{PROMPT, World, agent, ms};
use crate::{
    EndReason, EndedBy, HangupCause, Input, ItemId, LegCommand, LegEvent, ModelCommand, ModelEvent,
    Output, Prompt, Reaction, ResponseEnd, SignalCommand, SignalEvent, ToolOutcome,
    TransferOutcome,
};

fn ask(world: &mut World) {
    let arguments = json!({ "reason": "billing question", "department": "Billing" });
    world.call_tool("h1", "transfer_to_human", arguments);
}

/// The model says a sentence of `audio` and asks for the transfer in the same answer.
fn speak_and_ask(world: &mut World, audio: u64) {
    world.model(ModelEvent::ResponseStarted);
    world.speak(2, audio, "I put you through.");
    ask(world);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
}

fn transfers(world: &World) -> Vec<u64> {
    world.times(|output| matches!(output, Output::Signal(SignalCommand::Transfer { .. })))
}

fn failed() -> SignalEvent {
    SignalEvent::Transfer(TransferOutcome::Failed { status: Some(486), reason: "busy".into() })
}

fn status(world: &World) -> Value {
    match world.results()[..] {
        [(_, "h1", ToolOutcome::Answered(result)), ..] => result["status"].clone(),
        _ => panic!("{:?}", world.results()),
    }
}

#[test]
fn the_sentence_is_played_out_first() {
    for (name, audio, after) in
        [("short", 1_500, 1_500), ("long", 11_000, 11_000), ("endless", 20_000, 12_000)]
    {
        let mut world = World::greeted(agent());
        speak_and_ask(&mut world, audio);
        assert_eq!(status(&world), "transferring", "{name}");
        world.run(13_000);
        assert_eq!(transfers(&world), [1_200 + after], "{name}");
        let paused = Output::Leg(LegCommand::Pause(true));
        assert_eq!(world.times(|output| *output == paused), [1_200 + after], "{name}");
    }
}

#[test]
fn a_sentence_that_comes_after_the_call_is_waited_for() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    ask(&mut world);
    world.run(1_000);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_200);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    world.run(3_000);
    assert_eq!(transfers(&world), [1_900 + 1_000 + 1_200]);
    assert!(world.prompts().is_empty());
}

#[test]
fn a_model_that_says_nothing_is_not_waited_for_long() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    ask(&mut world);
    world.run(6_000);
    assert_eq!(world.prompts(), [(3_400, Prompt::OneMoment)]);
    assert_eq!(transfers(&world), [3_400 + PROMPT]);
}

#[test]
fn an_answer_that_never_ends_is_not_waited_for() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    ask(&mut world);
    world.audio(2, 20_000);
    world.run(13_000);
    assert_eq!(transfers(&world), [1_200 + 12_000]);
}

#[test]
fn a_sentence_that_comes_in_pieces_is_heard_to_its_end() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_000);
    ask(&mut world);
    world.run(1_500); // Nothing plays, but the answer is not over.
    assert!(transfers(&world).is_empty());
    world.audio(2, 4_000);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    world.run(5_000);
    assert_eq!(transfers(&world), [1_200 + 1_500 + 4_000]);
}

#[test]
fn the_order_names_target_reason_and_conversation() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    world.model(ModelEvent::CallerText { text: "My bill is wrong".into(), last: true });
    speak_and_ask(&mut world, 500);
    world.run(1_000);
    let order = world.log.iter().find_map(|(_, output)| match output {
        Output::Signal(SignalCommand::Transfer { target, headers }) => Some((target, headers)),
        _ => None,
    });
    let (target, headers) = order.unwrap();
    assert_eq!(target.target, "200");
    assert_eq!(
        headers[..],
        [
            ("X-Tandem-Reason".to_owned(), "billing%20question".to_owned()),
            (
                "X-Tandem-Summary".to_owned(),
                "Caller%3A%20My%20bill%20is%20wrong%0AAgent%3A%20I%20put%20you%20through."
                    .to_owned()
            ),
        ]
    );
}

#[test]
fn without_a_target_the_call_goes_on() {
    let mut spec = agent();
    spec.transfer.agent = None;
    let mut world = World::greeted(spec);
    ask(&mut world);
    assert_eq!(status(&world), "unavailable");
    world.answer(2, 500);
    world.run(10_000);
    assert!(transfers(&world).is_empty());
    assert!(!world.machine.is_ended());
}

#[test]
fn a_completed_transfer_ends_the_call() {
    for (name, hung_up, hang_ups) in [("far side hangs up", true, 0), ("it does not", false, 1)] {
        let mut world = World::greeted(agent());
        speak_and_ask(&mut world, 500);
        world.run(2_000);
        world.signal(SignalEvent::Transfer(TransferOutcome::Completed));
        assert!(matches!(world.told().last(), Some((_, ModelCommand::Close))), "{name}");
        world.run(1_000);
        if hung_up {
            world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
            assert!(world.machine.is_ended(), "{name}");
        }
        let outcome = world.outcome();
        assert_eq!(world.hang_ups().len(), hang_ups, "{name}");
        assert_eq!(
            (outcome.end_reason, outcome.ended_by),
            (EndReason::Transferred, EndedBy::Agent)
        );
        let transfer = outcome.transfer.unwrap();
        assert_eq!((transfer.status, transfer.error), ("completed", None), "{name}");
        assert_eq!(transfer.department.as_deref(), Some("Billing"), "{name}");
    }
}

#[test]
fn a_failed_transfer_comes_back_to_the_conversation() {
    type Fail = fn(&mut World);
    let cases: [(&str, Fail, &str); 2] = [
        ("refused", |world| world.signal(failed()), "busy (486)"),
        ("no outcome", |world| world.run(29_000), "nobody answered in time"),
    ];
    for (name, fail, why) in cases {
        let mut world = World::greeted(agent());
        speak_and_ask(&mut world, 20_000);
        world.run(13_000);
        world.log.clear();
        fail(&mut world);
        assert_eq!(world.clears().len(), 1, "{name}: the rest of the sentence is stale");
        assert_eq!(world.times(|it| *it == Output::Leg(LegCommand::Pause(false))).len(), 1);
        let [(back, text)] = world.said()[..] else { panic!("{name}: {:?}", world.log) };
        assert!(text.contains(why), "{name}: {text}");
        world.run(1_500);
        assert_eq!(world.prompts(), [(back + 1_500, Prompt::OneMoment)], "{name}");
        world.answer(3, 500);
        world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
        let transfer = world.outcome().transfer.unwrap();
        assert_eq!((transfer.status, transfer.error.as_deref()), ("failed", Some(why)), "{name}");
    }
}

#[test]
fn a_success_after_our_patience_is_still_one() {
    let mut world = World::greeted(agent());
    speak_and_ask(&mut world, 500);
    world.run(33_000);
    assert_eq!(world.said().len(), 1);
    world.signal(SignalEvent::Transfer(TransferOutcome::Completed));
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    assert_eq!(world.end().0, EndReason::Transferred);
}

#[test]
fn turns_are_held_during_a_transfer() {
    let mut world = World::greeted(agent());
    speak_and_ask(&mut world, 500);
    world.run(1_000);
    world.log.clear();
    world.model(ModelEvent::ResponseStarted);
    world.audio(3, 2_000);
    world.model(ModelEvent::SpeechStarted);
    world.caller_speaks(1_000);
    world.run(15_000);
    assert!(world.log.is_empty(), "{:?}", world.log);
    world.signal(failed());
    assert!(world.told().contains(&(world.clock(), &ModelCommand::Forget { item: ItemId(3) })));
}

#[test]
fn a_caller_who_interrupts_the_sentence_is_transferred_at_once() {
    let mut world = World::greeted(agent());
    speak_and_ask(&mut world, 3_000);
    world.run(1_000);
    world.model(ModelEvent::SpeechStarted);
    assert_eq!(world.clears(), [2_200]);
    assert_eq!(transfers(&world), [2_200]);
}

#[test]
fn a_caller_who_was_handed_over_hears_no_more() {
    let mut world = World::greeted(agent());
    speak_and_ask(&mut world, 20_000);
    world.run(13_000);
    world.signal(SignalEvent::Transfer(TransferOutcome::Completed));
    world.signal(SignalEvent::Held(true));
    world.signal(SignalEvent::Held(false));
    assert!(!world.machine.accepts_audio(ItemId(2)));
    assert!(world.times(|it| *it == Output::Leg(LegCommand::Pause(false))).is_empty());
}

#[test]
fn missing_media_counts_when_the_caller_does_not_come_back() {
    let mut world = World::greeted(agent());
    speak_and_ask(&mut world, 500);
    world.run(1_000);
    world.input(Input::Leg(LegEvent::MediaTimeout)); // The PBX moves the caller.
    world.run(5_000);
    assert!(world.hang_ups().is_empty());
    world.signal(failed());
    assert_eq!(world.end().0, EndReason::MediaTimeout);
}

#[test]
fn a_model_lost_during_a_transfer_is_there_when_the_caller_comes_back() {
    let mut world = World::greeted(agent());
    speak_and_ask(&mut world, 500);
    world.run(1_000);
    world.lose_model(Reaction::Retry { after: ms(500) });
    world.run(600);
    world.model(ModelEvent::Ready);
    assert!(world.said().is_empty() && world.prompts().is_empty());
    world.signal(failed());
    assert_eq!(world.said().len(), 1);
}

#[test]
fn a_limit_waits_for_the_outcome() {
    let mut spec = agent();
    spec.max_duration = ms(10_000);
    let mut world = World::greeted(spec);
    world.run(8_000);
    speak_and_ask(&mut world, 500);
    world.run(5_000);
    assert!(world.prompts().is_empty());
    world.signal(failed());
    assert_eq!(world.prompts().len(), 1);
    assert_eq!(world.end().0, EndReason::MaxDuration);
}

#[test]
fn other_requests_during_a_transfer_change_nothing() {
    let mut world = World::greeted(agent());
    speak_and_ask(&mut world, 500);
    world.call_tool("e1", "end_call", json!({ "reason": "caller_goodbye" }));
    world.run(1_000);
    world.call_tool("h2", "transfer_to_human", json!({ "reason": "again" }));
    assert_eq!(world.results().len(), 3);
    assert_eq!(transfers(&world).len(), 1);
}

#[test]
fn a_caller_who_hangs_up_during_a_transfer_is_not_transferred() {
    let mut world = World::greeted(agent());
    speak_and_ask(&mut world, 500);
    world.run(1_000);
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let outcome = world.outcome();
    assert_eq!(outcome.end_reason, EndReason::CallerHangup);
    assert_eq!(outcome.transfer.unwrap().status, "failed");
}
