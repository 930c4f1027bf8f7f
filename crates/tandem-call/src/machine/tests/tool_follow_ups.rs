//! What receivers of tools ask for beside their answer, and the message for an answering machine.

use serde_json::{Value, json};

use super::world::{PROMPT, World, agent, ms};
use crate::{
    EndReason, EndedBy, FollowUp, HangupCause, LateResults, ModelCommand, ModelEvent, Output,
    PhraseId, Prompt, ResponseEnd, SignalCommand, SignalEvent, ToolMode, ToolOutcome, ToolReport,
    TransferKind, TransferOutcome, TransferTarget,
};

fn report(follow_up: FollowUp) -> ToolReport {
    let result = json!({ "status": "ready", "message": "It is ready." });
    ToolReport { follow_up, ..ToolOutcome::Answered(result).into() }
}

fn end_call() -> FollowUp {
    FollowUp { end_call: true, ..FollowUp::default() }
}

fn transfer() -> FollowUp {
    let target = TransferTarget::new(TransferKind::Queue, "support");
    FollowUp { transfer: Some(target), ..FollowUp::default() }
}

fn transfers(world: &World) -> Vec<(u64, String)> {
    let transfers = world.log.iter().filter_map(|(at, output)| match output {
        Output::Signal(SignalCommand::Transfer { target, .. }) => {
            Some((*at, target.target.clone()))
        }
        _ => None,
    });
    transfers.collect()
}

#[test]
fn the_answer_to_a_result_that_asks_for_an_end_is_the_farewell() {
    // However long the model thinks about it, and however long it speaks.
    for (thinks, speaks) in [(300, 1_000), (3_500, 1_000), (1_000, 14_000)] {
        let mut world = World::greeted(agent());
        world.call_tool("t1", "find_repair", json!({}));
        world.run(1_000);
        world.tool_reports("t1", report(end_call()));
        world.run(thinks);
        world.model(ModelEvent::ResponseStarted);
        world.run(200);
        world.audio(2, speaks);
        world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        world.run(300);
        world.model(ModelEvent::ResponseStarted); // One farewell is enough.
        world.audio(3, 1_000);
        let outcome = world.outcome();
        assert_eq!(
            (outcome.end_reason, outcome.ended_by),
            (EndReason::ConversationComplete, EndedBy::Agent)
        );
        assert_eq!(world.hang_ups(), [2_200 + thinks + 200 + speaks + 2_000]);
    }
}

#[test]
fn a_farewell_in_the_answer_that_called_the_tool_is_one_too() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.call_tool("t1", "find_repair", json!({}));
    world.run(1_000);
    world.tool_reports("t1", report(end_call()));
    world.run(300);
    world.audio(2, 1_600);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    assert_eq!(world.end().0, EndReason::ConversationComplete);
    assert_eq!(world.hang_ups(), [2_500 + 1_600 + 2_000]);
}

#[test]
fn a_model_that_does_not_take_its_leave_is_not_waited_for_for_ever() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", json!({}));
    world.tool_reports("t1", report(end_call()));
    assert_eq!(world.end().0, EndReason::ConversationComplete);
    assert_eq!(world.hang_ups(), [1_200 + 4_000]);
}

#[test]
fn a_transfer_that_is_asked_for_follows_the_answer() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", json!({}));
    world.tool_reports("t1", report(transfer()));
    world.run(1_000);
    world.answer(2, 2_000);
    world.run(1_900);
    assert!(transfers(&world).is_empty());
    world.run(1_000);
    assert_eq!(transfers(&world), [(4_200, "support".to_owned())]);
    let failed = TransferOutcome::Failed { status: Some(486), reason: "busy".into() };
    world.signal(SignalEvent::Transfer(failed));
    let said = world.said();
    assert!(said.last().is_some_and(|(_, text)| text.contains("busy (486)")), "{said:?}");
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let record = world.outcome().transfer.expect("it was tried");
    assert_eq!((record.reason.as_str(), record.status), ("asked for by find_repair", "failed"));
}

#[test]
fn only_an_answer_in_time_to_a_model_that_hears_of_it_has_consequences() {
    for (name, mode, late, follow_up, acts) in [
        ("background", ToolMode::Background, false, end_call(), true),
        ("background transfer", ToolMode::Background, false, transfer(), true),
        ("fire and forget", ToolMode::FireAndForget, false, end_call(), false),
        ("fire and forget transfer", ToolMode::FireAndForget, false, transfer(), false),
        ("late", ToolMode::Blocking, true, end_call(), false),
        ("late transfer", ToolMode::Blocking, true, transfer(), false),
    ] {
        let mut spec = agent();
        spec.tools[0].mode = mode;
        spec.tools[0].timeout = ms(2_000);
        spec.late_results = LateResults::Inject;
        let mut world = World::greeted(spec);
        world.call_tool("t1", "find_repair", json!({}));
        world.answer(2, 500);
        world.run(if late { 2_100 } else { 700 });
        world.answer(3, 100);
        world.run(200);
        let metadata = json!({ "ticket": 7 });
        let follow_up =
            FollowUp { metadata: metadata.as_object().cloned().unwrap_or_default(), ..follow_up };
        world.tool_reports("t1", report(follow_up));
        world.run(1_500);
        world.answer(4, 500);
        world.run(6_000);
        let acted = !world.hang_ups().is_empty() || !transfers(&world).is_empty();
        assert_eq!(acted, acts, "{name}");
        world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
        assert_eq!(Value::from(world.outcome().metadata), metadata, "{name}");
    }
}

#[test]
fn words_that_are_to_be_said_exactly_are_marked() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", json!({}));
    let verbatim = Some("Your code is 7.".to_owned());
    world.tool_reports("t1", report(FollowUp { verbatim, ..FollowUp::default() }));
    let [(_, _, ToolOutcome::Answered(result))] = world.results()[..] else { panic!("one result") };
    assert_eq!(result["say_exactly"], "Your code is 7.");
    assert_eq!(result["message"], "It is ready.");
    assert!(result["instruction"].is_string());
}

#[test]
fn what_comes_after_an_end_is_not_followed() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", json!({}));
    world.call_tool("e1", "end_call", json!({ "reason": "caller_goodbye" }));
    world.tool_reports("t1", report(transfer()));
    assert_eq!(world.end().0, EndReason::CallerGoodbye);
    assert!(transfers(&world).is_empty());
}

#[test]
fn an_answering_machine_hears_the_message_before_the_call_ends() {
    let mut spec = agent();
    spec.phrases = vec!["Please call us back.".into()];
    spec.voicemail_message = Some(PhraseId(0));
    spec.end_call_cancel_on_speech = true;
    let voicemail = json!({ "reason": "voicemail_detected" });
    let mut world = World::greeted(spec.clone());
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_500);
    world.call_tool("e1", "end_call", voicemail);
    assert_eq!(world.prompts(), [(1_200, Prompt::Phrase(PhraseId(0)))]);
    assert!(world.told().iter().any(|(_, command)| **command == ModelCommand::Cancel));
    world.model(ModelEvent::ResponseStarted);
    world.audio(3, 5_000);
    world.caller_speaks(900); // The machine goes on talking: that takes nothing back.
    let outcome = world.outcome();
    assert_eq!(outcome.end_reason, EndReason::VoicemailDetected);
    assert_eq!(outcome.ended_by, EndedBy::Agent);
    assert_eq!(world.hang_ups(), [1_200 + 1_500 + PROMPT + 2_000]);
    assert_eq!(
        outcome.transcript.last().map(|turn| turn.text.as_str()),
        Some("Please call us back.")
    );

    let mut world = World::greeted(spec);
    world.call_tool("e1", "end_call", json!({ "reason": "no_response" }));
    assert_eq!(world.end().0, EndReason::NoResponse);
    assert!(world.prompts().is_empty());
}
