//! Tool calls.

use serde_json::{Value, json};

use super::world::{World, agent};
use crate::{
    HangupCause, LateResults, ModelEvent, Output, Reaction, SignalEvent, ToolCall, ToolCallId,
    ToolOutcome, ToolReport, Verdict,
};

fn order() -> Value {
    json!({ "order": "B-17" })
}

fn executed(world: &World) -> usize {
    world.times(|output| matches!(output, Output::Tool(_))).len()
}

fn hang_up(world: &mut World) -> Vec<(String, Verdict)> {
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    world.outcome().tools.into_iter().map(|tool| (tool.name, tool.outcome)).collect()
}

#[test]
fn answer_failure_and_silence_are_one_outcome() {
    let ready = || ToolOutcome::Answered(json!({ "status": "ready" }));
    let failed = || ToolOutcome::Failed("no such order".into());
    let trouble = |status: &str| {
        let message = agent().tool_texts.trouble;
        ToolOutcome::Answered(json!({ "status": status, "message": message }))
    };
    for (name, outcome, at, told, verdict) in [
        ("answer", Some(ready()), 2_200, ready(), Verdict::Ok),
        ("failure", Some(failed()), 2_200, failed(), Verdict::Rejected),
        (
            "executor's deadline",
            Some(ToolOutcome::TimedOut),
            2_200,
            trouble("timeout"),
            Verdict::FallbackTrouble,
        ),
        (
            "stopped elsewhere",
            Some(ToolOutcome::Cancelled),
            2_200,
            trouble("error"),
            Verdict::FallbackTrouble,
        ),
        ("silence", None, 10_200, trouble("timeout"), Verdict::FallbackTrouble),
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
        assert_eq!(world.results(), [(at, "t1", &told)], "{name}");
        world.tool_comes_out("t1", failed());
        assert_eq!(world.results().len(), 1, "{name}: answered twice");
        assert_eq!(hang_up(&mut world), [("find_repair".to_owned(), verdict)], "{name}");
    }
}

#[test]
fn what_cannot_be_executed_is_answered_at_once() {
    let invalid = |problem: &str| {
        json!({
            "status": "invalid_arguments",
            "problems": [problem],
            "message": "Call it again with the right arguments."
        })
    };
    let missing = json!({
        "status": "invalid_arguments",
        "missing": ["reason"],
        "message": "Ask for the missing details."
    });
    let noted = agent().tool_texts.noted;
    let raw = r#"{"order":"#;
    let reasons = "reason must be one of conversation_complete, caller_goodbye, no_response, \
                   voicemail_detected";
    for (name, tool, arguments, expected, verdict) in [
        (
            "unknown",
            "no_such_tool",
            Ok(json!({})),
            json!({ "status": "unknown_tool", "message": noted }),
            Verdict::Rejected,
        ),
        (
            "malformed",
            "find_repair",
            Err(raw.to_owned()),
            invalid(&format!("the arguments are no JSON object: {raw}")),
            Verdict::InvalidArguments,
        ),
        (
            "too long",
            "find_repair",
            Ok(json!({ "order": "x".repeat(70_000) })),
            invalid("the arguments are longer than 64 KiB"),
            Verdict::InvalidArguments,
        ),
        (
            "end_call without reason",
            "end_call",
            Ok(json!({ "reason": null })),
            missing.clone(),
            Verdict::InvalidArguments,
        ),
        (
            "end_call for a reason of its own",
            "end_call",
            Ok(json!({ "reason": "bored" })),
            invalid(reasons),
            Verdict::InvalidArguments,
        ),
        (
            "transfer without reason",
            "transfer_to_human",
            Ok(json!({})),
            missing,
            Verdict::InvalidArguments,
        ),
        (
            "transfer with a number for a reason",
            "transfer_to_human",
            Ok(json!({ "reason": 7 })),
            invalid("reason must be a text"),
            Verdict::InvalidArguments,
        ),
    ] {
        let mut world = World::greeted(agent());
        let id = ToolCallId("t1".into());
        world.model(ModelEvent::ToolCall(ToolCall { id, name: tool.into(), arguments }));
        assert_eq!(executed(&world), 0, "{name}");
        let expected = ToolOutcome::Answered(expected);
        assert_eq!(world.results(), [(1_200, "t1", &expected)], "{name}");
        assert_eq!(hang_up(&mut world), [(tool.to_owned(), verdict)], "{name}");
    }
}

#[test]
fn the_seventeenth_call_at_a_time_fails() {
    let mut world = World::greeted(agent());
    for call in 1..=17 {
        world.call_tool(&format!("t{call}"), "find_repair", order());
    }
    assert_eq!(executed(&world), 16);
    world.tool_comes_out("t3", ToolOutcome::Failed("no".into()));
    world.call_tool("t18", "find_repair", order());
    assert_eq!(executed(&world), 17);
    for call in (1..=18).rev() {
        world.tool_comes_out(&format!("t{call}"), ToolOutcome::Answered(json!({})));
    }
    let results = world.results();
    let ids: Vec<_> = results.iter().map(|(_, id, _)| (*id).to_owned()).collect();
    assert_eq!(ids, (1..=18).map(|call| format!("t{call}")).collect::<Vec<_>>());
    assert!(
        matches!(results[16].2, ToolOutcome::Failed(why) if why == "too many tools are running")
    );
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
    assert_eq!(world.times(|output| *output == Output::CancelTool(1)).len(), 1);
    let tools = hang_up(&mut world);
    let verdicts: Vec<_> = tools.iter().map(|(_, verdict)| *verdict).collect();
    assert_eq!(verdicts, [Verdict::Cancelled, Verdict::Ok]);
}

#[test]
fn the_end_of_the_call_waits_for_nothing_and_takes_nothing_back() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", order());
    assert_eq!(hang_up(&mut world), [("find_repair".to_owned(), Verdict::Cancelled)]);
    assert!(world.times(|output| matches!(output, Output::CancelTool(_))).is_empty());
    assert!(world.results().is_empty());
}

#[test]
fn a_late_result_is_told_in_words_where_that_is_wanted() {
    let report = |verdict, outcome: ToolOutcome, http_status| ToolReport {
        verdict,
        http_status,
        attempts: 1,
        ..outcome.into()
    };
    let ready = || ToolOutcome::Answered(json!({ "status": "ready" }));
    let failed = || ToolOutcome::Failed("refused".into());
    for (late_results, late, told, verdict) in [
        (LateResults::Discard, report(Verdict::Late, ready(), Some(200)), 0, Verdict::Late),
        (LateResults::Inject, report(Verdict::Late, ready(), Some(200)), 1, Verdict::Late),
        (LateResults::Inject, report(Verdict::Ok, ready(), Some(200)), 1, Verdict::Late),
        (
            LateResults::Inject,
            report(Verdict::FallbackTrouble, failed(), None),
            0,
            Verdict::FallbackTrouble,
        ),
    ] {
        let mut spec = agent();
        spec.late_results = late_results;
        let mut world = World::greeted(spec);
        world.call_tool("t1", "find_repair", order());
        world.run(9_000);
        world.model(ModelEvent::ResponseStarted);
        for _ in 0..2 {
            world.tool_reports("t1", late.clone());
        }
        assert!(world.said().is_empty(), "it waits until nobody speaks");
        world.audio(2, 500);
        world.model(ModelEvent::ResponseEnded(crate::ResponseEnd::Completed));
        world.run(1_700); // Behind a prompt.
        let said = world.said();
        assert_eq!(said.len(), told, "{late_results:?}");
        if let [(_, text)] = said[..] {
            assert_eq!(text, r#"(The tool find_repair answered: {"status":"ready"})"#);
        }
        assert_eq!(world.results().len(), 1);
        world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
        let [record] = &world.outcome().tools[..] else { panic!("one call") };
        assert_eq!((record.outcome, record.http_status), (verdict, late.http_status));
        assert_eq!((record.attempts, record.duration_ms), (Some(1), 9_000));
        assert_eq!(record.status.as_deref(), Some("timeout"));
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
fn an_id_that_comes_again_in_the_next_session_is_another_call() {
    let mut world = World::greeted(agent());
    world.call_tool("t1", "find_repair", order());
    world.lose_model(Reaction::GiveUp);
    world.model(ModelEvent::Ready);
    world.call_tool("t1", "opening_hours", json!({}));
    let ready = || ToolOutcome::Answered(json!({ "status": "ready" })).into();
    let open = || ToolOutcome::Answered(json!({ "open": true })).into();
    world.input(crate::Input::Tool { number: 2, report: open() });
    world.input(crate::Input::Tool { number: 1, report: ready() });
    assert_eq!(world.results().len(), 1);
    let (_, said) = world.said()[1];
    assert_eq!(said, r#"(The tool find_repair answered: {"status":"ready"})"#);
    let tools = hang_up(&mut world);
    assert_eq!(
        tools,
        [("find_repair".to_owned(), Verdict::Ok), ("opening_hours".to_owned(), Verdict::Ok)]
    );
}

#[test]
fn a_refused_call_keeps_no_redacted_argument() {
    let mut spec = agent();
    spec.tools[0].redacted = ["/order".to_owned()].into();
    let mut world = World::greeted(spec);
    let id = |id: &str| ToolCallId(id.into());
    let malformed = Err(r#"{"order":"4111"#.to_owned());
    world.model(ModelEvent::ToolCall(ToolCall {
        id: id("t0"),
        name: "find_repair".into(),
        arguments: malformed,
    }));
    for call in 1..=17 {
        world.call_tool(&format!("t{call}"), "find_repair", json!({ "order": "4111" }));
    }
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let tools = world.outcome().tools;
    assert_eq!(tools.len(), 18);
    for record in tools {
        let kept = record.arguments.to_string();
        assert!(!kept.contains("4111"), "{}: {kept}", record.number);
        assert!(kept.contains("[redacted]"), "{}: {kept}", record.number);
    }
}
