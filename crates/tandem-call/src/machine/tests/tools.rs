//! Tool calls.

use serde_json::{Value, json};

use super::world::{World, agent};
use crate::{
    HangupCause, Input, LateResults, ModelEvent, Output, Reaction, SignalEvent, ToolCall,
    ToolCallId, ToolOutcome,
};

fn order() -> Value {
    json!({ "order": "B-17" })
}

fn executed(world: &World) -> usize {
    world.times(|output| matches!(output, Output::Tool(_))).len()
}

fn hang_up(world: &mut World) -> Vec<(String, &'static str)> {
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    world.outcome().tools.into_iter().map(|tool| (tool.name, tool.outcome)).collect()
}

#[test]
fn answer_failure_and_silence_are_one_outcome() {
    for (name, outcome, at, word) in [
        ("answer", Some(ToolOutcome::Answered(json!({ "status": "ready" }))), 2_200, "answered"),
        ("failure", Some(ToolOutcome::Failed("no such order".into())), 2_200, "failed"),
        ("executor's deadline", Some(ToolOutcome::TimedOut), 2_200, "timed_out"),
        ("silence", None, 10_200, "timed_out"),
    ] {
        let mut world = World::greeted(agent());
        world.call_tool("t1", "find_repair", order());
        assert_eq!(executed(&world), 1, "{name}");
        world.run(1_000);
        if let Some(outcome) = &outcome {
            world.tool_comes_out("t1", outcome.clone());
            world.tool_comes_out("t1", outcome.clone());
        }
        world.run(8_500);
        let expected = outcome.unwrap_or(ToolOutcome::TimedOut);
        assert_eq!(world.results(), [(at, "t1", &expected)], "{name}");
        world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
        assert_eq!(world.results().len(), 1, "{name}: answered twice");
        assert_eq!(hang_up(&mut world), [("find_repair".to_owned(), word)], "{name}");
    }
}

#[test]
fn what_cannot_be_executed_is_answered_at_once() {
    let answered = |value: Value| ToolOutcome::Answered(value);
    let invalid = json!({
        "status": "invalid_arguments",
        "missing": ["order"],
        "message": "Ask for the missing details."
    });
    let raw = r#"{"order":"#;
    for (name, tool, arguments, expected) in [
        (
            "unknown",
            "no_such_tool",
            Ok(json!({})),
            ToolOutcome::Failed("there is no tool \"no_such_tool\"".into()),
        ),
        (
            "malformed",
            "find_repair",
            Err(raw.to_owned()),
            ToolOutcome::Failed(format!("the arguments are no JSON object: {raw}")),
        ),
        ("missing", "find_repair", Ok(json!({ "x": 1 })), answered(invalid.clone())),
        ("null", "find_repair", Ok(json!({ "order": null })), answered(invalid)),
        (
            "too long",
            "find_repair",
            Ok(json!({ "order": "x".repeat(70_000) })),
            ToolOutcome::Failed("the arguments are too long".into()),
        ),
        (
            "end_call without reason",
            "end_call",
            Ok(json!({})),
            answered(json!({
                "status": "invalid_arguments",
                "missing": ["reason"],
                "message": "Ask for the missing details."
            })),
        ),
    ] {
        let mut world = World::greeted(agent());
        let id = ToolCallId("t1".into());
        world.model(ModelEvent::ToolCall(ToolCall { id, name: tool.into(), arguments }));
        assert_eq!(executed(&world), 0, "{name}");
        assert_eq!(world.results(), [(1_200, "t1", &expected)], "{name}");
        assert_eq!(hang_up(&mut world), [(tool.to_owned(), "failed")], "{name}");
    }
}

#[test]
fn the_seventeenth_call_at_a_time_fails() {
    let mut world = World::greeted(agent());
    for call in 1..=17 {
        world.call_tool(&format!("t{call}"), "find_repair", order());
    }
    assert_eq!(executed(&world), 16);
    let [(_, "t17", ToolOutcome::Failed(_))] = world.results()[..] else {
        panic!("{:?}", world.results());
    };
    world.tool_comes_out("t3", ToolOutcome::Failed("no".into()));
    world.call_tool("t18", "find_repair", order());
    assert_eq!(executed(&world), 17);
}

#[test]
fn a_repeated_id_is_executed_once_and_never_left_without_an_answer() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", order());
    world.call_tool("t1", "find_repair", order());
    assert!(world.results().is_empty(), "the result that comes answers both");
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
    assert_eq!(world.results().len(), 1);
    world.call_tool("t1", "find_repair", order());
    let [_, (_, "t1", ToolOutcome::Failed(_))] = world.results()[..] else {
        panic!("{:?}", world.results());
    };
    assert_eq!(executed(&world), 1);
}

#[test]
fn calls_beyond_all_measure_are_answered_with_a_failure() {
    let mut world = World::greeted(agent());
    for call in 0..4_097 {
        let id = format!("t{call}");
        world.call_tool(&id, "opening_hours", json!({}));
        world.tool_comes_out(&id, ToolOutcome::Answered(json!({})));
    }
    assert_eq!((executed(&world), world.results().len()), (4_096, 4_097));
    assert!(matches!(world.results().last(), Some((_, "t4096", ToolOutcome::Failed(_)))));
}

#[test]
fn a_call_taken_back_gets_no_result() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", order());
    world.call_tool("t2", "find_repair", order());
    world.model(ModelEvent::ToolCancelled(ToolCallId("t1".into())));
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
    world.tool_comes_out("t2", ToolOutcome::Answered(json!({})));
    world.model(ModelEvent::ToolCancelled(ToolCallId("t2".into()))); // Too late.
    let results: Vec<_> = world.results().iter().map(|(_, id, _)| *id).collect();
    assert_eq!(results, ["t2"]);
    let cancelled = Output::CancelTool(ToolCallId("t1".into()));
    assert_eq!(world.times(|output| *output == cancelled).len(), 1);
    let tools = hang_up(&mut world);
    assert_eq!(tools.iter().map(|(_, word)| *word).collect::<Vec<_>>(), ["cancelled", "answered"]);
}

#[test]
fn the_end_of_the_call_cancels_what_runs() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", order());
    assert_eq!(hang_up(&mut world), [("find_repair".to_owned(), "cancelled")]);
    assert_eq!(world.times(|output| matches!(output, Output::CancelTool(_))).len(), 1);
    assert!(world.results().is_empty());
}

#[test]
fn a_late_result_is_told_in_words_where_that_is_wanted() {
    for (late_results, told) in [(LateResults::Discard, 0), (LateResults::Inject, 1)] {
        let mut spec = agent();
        spec.late_results = late_results;
        let mut world = World::greeted(spec);
        world.call_tool("t1", "find_repair", order());
        world.run(9_000);
        world.model(ModelEvent::ResponseStarted);
        for _ in 0..2 {
            world.tool_comes_out("t1", ToolOutcome::Answered(json!({ "status": "ready" })));
        }
        let said = world.said();
        assert_eq!(said.len(), told, "{late_results:?}");
        if let [(_, text)] = said[..] {
            assert_eq!(text, r#"(The tool find_repair answered: {"status":"ready"})"#);
        }
        assert_eq!(world.results().len(), 1);
    }
}

#[test]
fn a_result_for_a_session_that_is_gone_is_told_to_the_next_in_words() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", order());
    world.lose_model(Reaction::GiveUp);
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({ "status": "ready" })));
    assert!(world.results().is_empty() && world.said().is_empty());
    world.model(ModelEvent::Ready);
    let [(_, text)] = world.said()[..] else { panic!("{:?}", world.said()) };
    assert!(text.contains("Go on") && text.contains("find_repair answered"), "{text}");
    // The new session counts its ids from the start again.
    world.call_tool("t1", "find_repair", order());
    assert_eq!(executed(&world), 2);
}

#[test]
fn an_id_that_comes_again_in_the_next_session_ends_the_old_call() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", order());
    world.lose_model(Reaction::GiveUp);
    world.model(ModelEvent::Ready);
    world.call_tool("t1", "opening_hours", json!({}));
    world.input(Input::Tool {
        id: ToolCallId("t1".into()),
        outcome: ToolOutcome::Answered(json!({ "open": true })),
    });
    assert_eq!(world.results().len(), 1);
    let tools = hang_up(&mut world);
    assert_eq!(
        tools,
        [("find_repair".to_owned(), "cancelled"), ("opening_hours".to_owned(), "answered")]
    );
}
