//! When an answer is asked for, what of it is heard, and its tool calls.

use super::*;

#[test]
fn cancel_is_sent_only_to_an_answer_that_runs_or_is_coming() {
    let mut session = Session::ready();
    session.order(ModelCommand::Cancel);
    assert!(session.sent().is_empty());
    session.created("resp_1");
    session.order(ModelCommand::Cancel);
    session.order(ModelCommand::Cancel);
    assert_eq!(session.sent(), [json!({ "type": "response.cancel", "response_id": "resp_1" })]);
    // The crossing refusal is harmless.
    session.say(json!({ "type": "error", "error": { "code": "response_cancel_not_active" } }));
    assert_eq!(session.out.take_verdict(), None);
    session.done("resp_1", "completed");
    session.heard.take();

    // Asked for and not yet announced: stopped by its name as soon as it has one.
    session.order(ModelCommand::Say("The caller is silent.".into()));
    session.sent();
    session.order(ModelCommand::Cancel);
    assert!(session.sent().is_empty());
    session.created("resp_2");
    assert_eq!(session.sent(), [json!({ "type": "response.cancel", "response_id": "resp_2" })]);
    session.audio("resp_2", "item_2", &[1; 8]);
    assert_eq!(session.heard.take(), [Heard::Event(ModelEvent::ResponseStarted)]);
}

#[test]
fn one_answer_is_asked_for_after_all_results() {
    let mut session = Session::ready();
    session.created("resp_1");
    session.function_call("resp_1", "call_1", r#"{"order":"B-17"}"#);
    session.function_call("resp_1", "call_2", "{}");
    session.result("call_2");
    session.done("resp_1", "completed");
    assert_eq!(session.sent_types(), ["conversation.item.create"], "call_1 is still open");
    session.wait(60_000);
    assert!(session.sent().is_empty());
    session.order(ModelCommand::ToolResult {
        id: ToolCallId("call_1".into()),
        outcome: ToolOutcome::TimedOut,
    });
    let messages = session.sent();
    assert_eq!(
        messages[0]["item"],
        json!({ "type": "function_call_output", "call_id": "call_1",
                "output": r#"{"error":"the tool did not answer in time"}"# })
    );
    assert_eq!(messages[1]["type"], "response.create");
    assert_eq!(messages.len(), 2);
    session.result("call_1");
    assert!(session.sent().is_empty(), "a second result for the same call");
}

#[test]
fn a_result_waits_for_the_answer_that_runs() {
    let mut session = Session::ready();
    session.created("resp_1");
    session.function_call("resp_1", "call_1", "{}");
    session.done("resp_1", "completed");
    session.speech_started();
    session.speech_stopped();
    session.created("resp_2");
    session.result("call_1");
    assert_eq!(session.sent_types(), ["conversation.item.create"]);
    session.done("resp_2", "completed");
    assert_eq!(session.sent_types(), ["response.create"]);
}

#[test]
fn a_result_that_the_servers_own_answer_has_seen_needs_no_other() {
    let mut session = Session::ready();
    session.created("resp_1");
    session.function_call("resp_1", "call_1", "{}");
    session.done("resp_1", "completed");
    session.speech_started();
    session.result("call_1");
    assert_eq!(session.sent_types(), ["conversation.item.create"], "not over the caller's words");
    session.say(json!({ "type": "conversation.item.added",
                        "item": { "type": "function_call_output", "call_id": "call_1" } }));
    session.speech_stopped();
    session.created("resp_2");
    session.done("resp_2", "completed");
    session.wait(60_000);
    assert!(session.sent().is_empty());
}

#[test]
fn noise_without_a_turn_does_not_swallow_the_answer() {
    let mut session = Session::ready();
    session.created("resp_1");
    session.function_call("resp_1", "call_1", "{}");
    session.done("resp_1", "completed");
    session.speech_started();
    session.result("call_1");
    session.speech_stopped();
    session.sent();
    session.wait(1_499);
    assert!(session.sent().is_empty());
    session.wait(1);
    assert_eq!(session.sent_types(), ["response.create"]);
}

#[test]
fn tool_calls_are_carried_out_once_and_only_when_complete() {
    let mut session = Session::ready();
    session.created("resp_1");
    session.function_call("resp_1", "call_1", r#"{"order":"B-17"}"#);
    session.function_call("resp_1", "call_2", r#"{"order":"#);
    session.say(json!({ "type": "response.output_item.done", "response_id": "resp_1", "item": {
        "type": "function_call", "status": "incomplete", "call_id": "call_3", "name": "x", "arguments": "{" } }));
    session.say(json!({ "type": "response.done", "response": { "id": "resp_1", "status": "completed",
        "output": [
            { "type": "function_call", "status": "completed", "call_id": "call_1", "name": "find_repair", "arguments": "{}" },
            { "type": "function_call", "status": "completed", "call_id": "call_4", "name": "end_call", "arguments": "" },
        ] } }));
    let calls: Vec<(String, bool)> = session
        .heard
        .events()
        .into_iter()
        .filter_map(|event| match event {
            ModelEvent::ToolCall(call) => Some((call.id.0, call.arguments.is_ok())),
            _ => None,
        })
        .collect();
    assert_eq!(calls, [("call_1".into(), true), ("call_2".into(), false), ("call_4".into(), true)]);
}

#[test]
fn a_call_of_a_cancelled_answer_is_not_carried_out() {
    let mut session = Session::interrupting();
    session.created("resp_1");
    session.speech_started();
    session.function_call("resp_1", "call_1", "{}");
    session.say(
        json!({ "type": "response.done", "response": { "id": "resp_1", "status": "cancelled",
        "output": [{ "type": "function_call", "status": "incomplete", "call_id": "call_2",
                     "name": "x", "arguments": "{\"a\":" }] } }),
    );
    assert!(session.heard.events().iter().all(|event| !matches!(event, ModelEvent::ToolCall(_))));
    // The complete one is closed in the conversation, without an answer of its own.
    assert_eq!(session.sent_types(), ["conversation.item.create"]);
}

#[test]
fn a_conflict_is_asked_again_after_the_answer_that_ran() {
    let mut session = Session::ready();
    session.order(ModelCommand::Say("hm".into()));
    let event_id = session.sent()[1]["event_id"].clone();
    session.created("resp_vad");
    session.say(json!({ "type": "error", "error": {
        "code": "conversation_already_has_active_response", "event_id": event_id } }));
    assert!(session.sent().is_empty());
    session.done("resp_vad", "completed");
    assert_eq!(session.sent_types(), ["response.create"]);
}

#[test]
fn failed_answers_are_asked_for_once_more() {
    let failed = |id: &str, code: &str, message: &str| {
        json!({ "type": "response.done", "response": { "id": id, "status": "failed",
            "status_details": { "type": "failed", "error": { "type": "tokens", "code": code, "message": message } } } })
    };
    let mut session = Session::ready();
    session.order(ModelCommand::Greet(Greet::Exactly("Hello.".into())));
    session.sent();
    session.created("resp_1");
    session.say(failed("resp_1", "rate_limit_exceeded", "try again in 1.2s"));
    assert_eq!(
        session.heard.events()[1],
        ModelEvent::ResponseEnded(ResponseEnd::Failed(
            "rate_limit_exceeded: try again in 1.2s".into()
        ))
    );
    session.wait(1_199);
    assert!(session.sent().is_empty());
    session.wait(1);
    let again = session.sent();
    assert!(again[0]["response"]["instructions"].as_str().unwrap().ends_with("Hello."));
    session.created("resp_2");
    session.say(failed("resp_2", "rate_limit_exceeded", "try again in 1.2s"));
    assert!(matches!(session.fault().reaction, tandem_call::Reaction::Retry { .. }));

    for (code, message, gives_up) in [
        ("insufficient_quota", "no money", true),
        ("rate_limit_exceeded", "try again in 20s", true), // Nobody waits that long on the phone.
    ] {
        let mut session = Session::ready();
        session.created("resp_1");
        session.say(failed("resp_1", code, message));
        assert_eq!(session.fault().reaction == tandem_call::Reaction::GiveUp, gives_up, "{code}");
    }
}

#[test]
fn the_reset_of_an_exhausted_limit_is_minded() {
    let mut session = Session::ready();
    session.say(json!({ "type": "rate_limits.updated", "rate_limits": [
        { "name": "tokens", "limit": 40_000, "remaining": 12, "reset_seconds": 2 }] }));
    session.created("resp_1");
    session.say(json!({ "type": "response.done", "response": { "id": "resp_1", "status": "failed",
        "status_details": { "error": { "code": "rate_limit_exceeded", "message": "slow down" } } } }));
    session.wait(1_999);
    assert!(session.sent().is_empty());
    session.wait(1);
    assert_eq!(session.sent_types(), ["response.create"]);
}

#[test]
fn out_of_band_answers_are_not_played() {
    let mut session = Session::ready();
    session.created("resp_1");
    session.say(json!({ "type": "response.created", "response": { "id": "oob_1", "conversation_id": null } }));
    session.say(json!({ "type": "response.created", "response": { "id": "oob_2", "conversation": "none" } }));
    session.audio("oob_1", "item_x", &[9; 8]);
    session.audio("resp_1", "item_1", &[1; 8]);
    session.done("oob_1", "completed");
    session.audio("oob_2", "item_y", &[9; 8]);
    session.done("oob_2", "completed");
    session.done("resp_1", "completed");
    assert_eq!(
        session.heard.take(),
        [
            Heard::Event(ModelEvent::ResponseStarted),
            Heard::Audio(ItemId(1), MU, vec![1; 8]),
            Heard::Event(ModelEvent::ResponseEnded(ResponseEnd::Completed)),
        ]
    );
}

#[test]
fn a_server_without_conversation_ids_is_found_out_by_our_own_request() {
    let nameless = |id: &str| json!({ "type": "response.created", "response": { "id": id, "conversation_id": null } });
    let mut session = Session::ready();
    session.say(nameless("resp_0"));
    session.audio("resp_0", "item_0", &[9; 8]);
    session.done("resp_0", "completed");
    assert!(session.heard.take().is_empty(), "nobody asked, nobody hears");
    session.order(ModelCommand::Say("hm".into()));
    session.say(nameless("resp_1"));
    session.done("resp_1", "completed");
    session.say(nameless("resp_2"));
    session.audio("resp_2", "item_2", &[1; 8]);
    assert!(session.heard.take().contains(&Heard::Audio(ItemId(1), MU, vec![1; 8])));
}

#[test]
fn endings_say_why() {
    for (status, details, end) in [
        (
            "incomplete",
            json!({ "reason": "max_output_tokens" }),
            ResponseEnd::Incomplete("max_output_tokens".into()),
        ),
        (
            "incomplete",
            json!({ "reason": "content_filter" }),
            ResponseEnd::Incomplete("content_filter".into()),
        ),
        ("cancelled", json!({ "reason": "client_cancelled" }), ResponseEnd::Cancelled),
        ("completed", Value::Null, ResponseEnd::Completed),
    ] {
        let mut session = Session::ready();
        session.created("r");
        session.say(json!({ "type": "response.done",
                            "response": { "id": "r", "status": status, "status_details": details } }));
        assert_eq!(session.heard.events()[1], ModelEvent::ResponseEnded(end));
    }
}

/// `{"type":…, …, "more": [[1],[1],…]}` of at least `bytes`.
fn padded(kind: &str, members: &str, bytes: usize) -> String {
    format!(r#"{{"type":"{kind}",{members}"more":[{}[1]]}}"#, "[1],".repeat(bytes / 4))
}

#[test]
fn a_message_too_large_to_read_is_left_out_or_ends_the_connection() {
    const READ: Option<Result<(), ()>> = Some(Ok(()));
    const LEFT_OUT: Option<Result<(), ()>> = None;
    const LOST: Option<Result<(), ()>> = Some(Err(()));
    for (kind, kilobytes, outcome) in [
        ("response.output_text.delta", 255, READ),
        ("response.output_text.delta", 257, LEFT_OUT),
        ("response.output_item.done", 10_000, LEFT_OUT),
        ("conversation.item.done", 1_000, READ),
        ("conversation.item.done", 1_100, LEFT_OUT),
        ("response.done", 1_000, READ),
        ("response.done", 10_000, LOST),
        ("session.updated", 1_000, READ),
        ("session.updated", 10_000, LOST),
        ("error", 300, LOST),
        ("response.output_audio.delta", 1_000, READ),
        ("response.output_audio.delta", 10_000, LEFT_OUT),
    ] {
        let mut session = Session::ready();
        let message = padded(kind, "", kilobytes << 10);
        let taken = session.dialect.handle_message(
            session.now,
            message.as_bytes(),
            &mut session.out,
            &mut session.heard,
        );
        if let Err(error) = &taken {
            assert_eq!(*error, DialectError::TooLarge { bytes: message.len() }, "{kind}");
        }
        let left_out = session.dialect.left_out.count() == 1;
        let seen = (!left_out).then(|| taken.map_err(drop));
        assert_eq!(seen, outcome, "{kind} of {kilobytes} KiB");
    }
}

#[test]
fn a_large_answer_still_ends() {
    let mut session = Session::ready();
    session.created("r1");
    session.heard.take();
    let response = r#""response":{"id":"r1","status":"completed"},"#;
    let message = padded("response.done", response, 900 << 10);
    session
        .dialect
        .handle_message(session.now, message.as_bytes(), &mut session.out, &mut session.heard)
        .expect("it is read");
    assert_eq!(session.heard.events(), [ModelEvent::ResponseEnded(ResponseEnd::Completed)]);
}
