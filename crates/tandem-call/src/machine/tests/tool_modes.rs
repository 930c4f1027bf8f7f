//! Modes of tools, the order of results, and what is kept of each call.

use serde_json::{Value, json};

use super::world::{World, agent, ms};
use crate::{
    AgentSpec, HangupCause, ModelEvent, Output, Reaction, ResponseEnd, SignalEvent, ToolCallId,
    ToolDeclaration, ToolMode, ToolOutcome, ToolRecord, ToolReport, Verdict,
};

/// The agent, whose tool `find_repair` runs in `mode`.
fn agent_in(mode: ToolMode) -> AgentSpec {
    let mut spec = agent();
    spec.tools[0].mode = mode;
    spec
}

fn ready() -> ToolOutcome {
    ToolOutcome::Answered(json!({ "status": "ready", "message": "It is ready." }))
}

fn statuses(world: &World) -> Vec<(u64, String, String)> {
    let results = world.results().into_iter().map(|(at, id, outcome)| {
        let status = match outcome {
            ToolOutcome::Answered(result) => result["status"].as_str().unwrap_or_default(),
            ToolOutcome::Failed(_) => "failed",
            ToolOutcome::TimedOut | ToolOutcome::Cancelled => "not for a model",
        };
        (at, id.to_owned(), status.to_owned())
    });
    results.collect()
}

fn records(world: &mut World) -> Vec<ToolRecord> {
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    world.outcome().tools
}

#[test]
fn results_come_in_the_order_of_the_calls() {
    let mut world = World::greeted(agent());
    for id in ["t1", "t2", "t3"] {
        world.call_tool(id, "find_repair", json!({}));
    }
    world.call_tool("t4", "end_call", json!({ "reason": "bored" }));
    world.run(100);
    world.tool_comes_out("t3", ready());
    world.tool_comes_out("t2", ready());
    assert!(world.results().is_empty());
    world.run(100);
    world.model(ModelEvent::ToolCancelled(ToolCallId("t2".into())));
    world.tool_comes_out("t1", ready());
    let told = statuses(&world);
    let at = 1_400;
    let expected = [
        (at, "t1".into(), "ready".into()),
        (at, "t3".into(), "ready".into()),
        (at, "t4".into(), "invalid_arguments".into()),
    ];
    assert_eq!(told, expected);
    assert!(world.times(|output| matches!(output, Output::CancelTool(_))).is_empty());
    let records = records(&mut world);
    let kept: Vec<_> = records.iter().map(|it| (it.number, it.outcome, it.duration_ms)).collect();
    let ok = Verdict::Ok;
    assert_eq!(kept, [(1, ok, 200), (2, ok, 100), (3, ok, 100), (4, Verdict::InvalidArguments, 0)]);
}

#[test]
fn each_call_has_a_deadline_of_its_own_and_a_call_taken_back_lets_the_next_go() {
    let mut spec = agent();
    spec.tools[1].timeout = ms(2_000);
    let mut world = World::greeted(spec);
    world.call_tool("t1", "find_repair", json!({}));
    world.call_tool("t2", "opening_hours", json!({}));
    world.run(3_000);
    assert!(world.results().is_empty());
    world.tool_comes_out("t2", ready()); // Late.
    world.model(ModelEvent::ToolCancelled(ToolCallId("t1".into())));
    assert_eq!(statuses(&world), [(4_200, "t2".into(), "timeout".into())]);
    let kept: Vec<_> = records(&mut world).iter().map(|it| (it.outcome, it.duration_ms)).collect();
    assert_eq!(kept, [(Verdict::Cancelled, 3_000), (Verdict::Late, 3_000)]);
}

#[test]
fn what_the_last_session_was_still_to_get_is_told_to_the_next() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", json!({}));
    world.call_tool("t2", "opening_hours", json!({}));
    world.tool_comes_out("t2", ready());
    world.lose_model(Reaction::GiveUp);
    world.model(ModelEvent::Ready);
    let [(_, said)] = world.said()[..] else { panic!("{:?}", world.said()) };
    assert!(said.contains("opening_hours answered"), "{said}");
    world.tool_comes_out("t1", ready());
    assert!(world.said()[1].1.contains("find_repair answered"));
    assert!(world.results().is_empty());
}

#[test]
fn a_background_tool_lets_the_model_talk_and_is_told_when_nobody_speaks() {
    let mut world = World::greeted(agent_in(ToolMode::Background));
    world.call_tool("t1", "find_repair", json!({}));
    assert_eq!(statuses(&world), [(1_200, "t1".into(), "running".into())]);
    world.answer(2, 1_000); // Until 2,200.
    world.run(500);
    world.tool_comes_out("t1", ready());
    assert!(world.said().is_empty(), "while the agent speaks");
    world.run(400);
    world.caller_speaks(800);
    assert!(world.said().is_empty(), "while the caller speaks and waits for an answer");
    world.answer(3, 500);
    world.run(600);
    let [(_, said)] = world.said()[..] else { panic!("{:?}", world.said()) };
    assert!(said.starts_with("(The tool find_repair answered: {"), "{said}");
    world.run(300);
    world.answer(4, 500);
    world.run(10);
    let [record] = &records(&mut world)[..] else { panic!("one call") };
    assert_eq!((record.outcome, record.mode), (Verdict::Ok, ToolMode::Background));
    assert_eq!(record.message.as_deref(), Some("It is ready."));
    assert!(record.spoken_after_ms.is_some());
}

#[test]
fn a_background_tool_without_an_answer_is_told_too() {
    let mut world = World::greeted(agent_in(ToolMode::Background));
    world.call_tool("t1", "find_repair", json!({}));
    world.answer(2, 500);
    world.run(20_000);
    let [(10_200, said), ..] = world.said()[..] else { panic!("{:?}", world.said()) };
    assert!(said.contains(r#""status":"timeout""#), "{said}");
}

#[test]
fn what_was_accepted_is_done_and_never_spoken_of() {
    let mut world = World::greeted(agent_in(ToolMode::FireAndForget));
    world.call_tool("t1", "find_repair", json!({}));
    world.call_tool("t2", "find_repair", json!({}));
    assert_eq!(statuses(&world).len(), 2);
    assert!(statuses(&world).iter().all(|(_, _, status)| status == "accepted"));
    world.model(ModelEvent::ToolCancelled(ToolCallId("t1".into()))); // It has its result.
    world.answer(2, 500);
    world.run(3_000);
    world.tool_comes_out("t1", ready());
    world.run(20_000);
    world.tool_comes_out("t2", ToolOutcome::Failed("no".into()));
    world.run(3_000);
    assert!(world.said().is_empty() && world.results().len() == 2);
    let kept: Vec<_> = records(&mut world).iter().map(|it| it.outcome).collect();
    assert_eq!(kept, [Verdict::Ok, Verdict::FallbackTrouble]);
}

#[test]
fn a_record_says_how_it_went_and_keeps_no_secrets() {
    let mut spec = agent();
    spec.tools[0].redacted = ["/card".to_owned()].into();
    let declaration = ToolDeclaration {
        parameters: json!({ "type": "object", "properties": { "card": {}, "order": {} } }),
        ..(*spec.tools[0].declaration).clone()
    };
    spec.tools[0].declaration = declaration.into();
    let mut world = World::greeted(spec);
    let arguments = json!({ "card": "4111", "order": "B-17" });
    world.call_tool("t1", "find_repair", arguments);
    world.run(1_000);
    let report = ToolReport {
        verdict: Verdict::FallbackTrouble,
        http_status: Some(500),
        attempts: 2,
        error: Some("the receiver answered 500".into()),
        ..ToolOutcome::Answered(json!({ "status": "error", "message": "m".repeat(600) })).into()
    };
    world.tool_reports("t1", report);
    world.run(300);
    world.answer(2, 700);
    world.run(10);
    let kept = serde_json::to_value(&records(&mut world)[0]).unwrap();
    let expected = json!({
        "name": "find_repair",
        "mode": "blocking",
        "arguments": { "card": "[redacted]", "order": "B-17" },
        "at_ms": 1_200,
        "duration_ms": 1_000,
        "attempts": 2,
        "outcome": "fallback_trouble",
        "http_status": 500,
        "status": "error",
        "message": "m".repeat(500),
        "spoken_after_ms": 1_300,
        "error": "the receiver answered 500",
    });
    assert_eq!(kept, expected);
}

#[test]
fn words_before_the_result_are_not_words_after_it() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 500);
    world.call_tool("t1", "opening_hours", Value::Null);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    world.tool_comes_out("t1", ready());
    world.run(800);
    world.answer(3, 500);
    world.run(10);
    assert_eq!(records(&mut world)[0].spoken_after_ms, Some(800));
}
