//! Turns, interruptions and tool calls.

use super::*;

#[test]
fn interruptions_flush_and_withhold_in_every_order() {
    let answer = |session: &mut Session| {
        session.audio(&[1, 1]);
    };
    // Mid-answer, with stale audio in flight, then the next turn.
    let mut session = Session::ready();
    answer(&mut session);
    session.content(json!({ "interrupted": true }));
    session.audio(&[9, 9]);
    session.content(json!({ "outputTranscription": { "text": "unheard" } }));
    session.content(json!({ "turnComplete": true }));
    session.audio(&[2, 2]);
    assert_eq!(
        session.heard.take(),
        [STARTED, audio(1, &[1, 1]), SPEECH, CANCELLED, STARTED, audio(2, &[2, 2])]
    );
    // After generation has ended: before turnComplete, after it, and both at once.
    for order in [
        vec![json!({ "interrupted": true }), json!({ "turnComplete": true })],
        vec![json!({ "turnComplete": true }), json!({ "interrupted": true })],
        vec![json!({ "interrupted": true, "turnComplete": true })],
    ] {
        let mut session = Session::ready();
        answer(&mut session);
        session.content(json!({ "generationComplete": true }));
        for content in order {
            session.content(content);
        }
        session.audio(&[2, 2]);
        assert_eq!(
            session.heard.take(),
            [STARTED, audio(1, &[1, 1]), COMPLETED, SPEECH, STARTED, audio(2, &[2, 2])]
        );
    }
    // Before anything was said: the empty turn that follows is no answer.
    let mut session = Session::ready();
    session.content(json!({ "interrupted": true }));
    session.content(json!({ "turnComplete": true }));
    assert_eq!(session.heard.take(), [SPEECH]);
}

#[test]
fn a_cut_turn_whose_end_never_comes_does_not_mute_the_next() {
    let mut session = Session::ready();
    session.audio(&[1, 1]);
    session.content(json!({ "interrupted": true }));
    session.wait(1_999);
    session.audio(&[9, 9]);
    session.wait(1);
    session.audio(&[2, 2]);
    assert_eq!(
        session.heard.take(),
        [STARTED, audio(1, &[1, 1]), SPEECH, CANCELLED, STARTED, audio(2, &[2, 2])]
    );
}

#[test]
fn a_cancelled_answer_is_not_heard_to_its_end() {
    let mut session = Session::ready();
    session.order(ModelCommand::Cancel);
    session.audio(&[1, 1]);
    session.order(ModelCommand::Cancel);
    session.audio(&[9, 9]);
    session.content(json!({ "generationComplete": true }));
    session.content(json!({ "turnComplete": true }));
    session.audio(&[2, 2]);
    assert_eq!(
        session.heard.take(),
        [STARTED, audio(1, &[1, 1]), CANCELLED, STARTED, audio(2, &[2, 2])]
    );
    assert!(session.sent().is_empty(), "there is no message for it");
}

#[test]
fn audio_after_the_generation_ended_is_dropped_until_the_turn_is_over() {
    let mut session = Session::ready();
    session.audio(&[1, 1]);
    session.content(json!({ "generationComplete": true }));
    session.audio(&[9, 9]);
    session.content(json!({ "turnComplete": true }));
    session.audio(&[2, 2]); // A premature end: the rest is another answer.
    assert_eq!(
        session.heard.take(),
        [STARTED, audio(1, &[1, 1]), COMPLETED, STARTED, audio(2, &[2, 2])]
    );
}

#[test]
fn a_tool_call_settles_the_answer_when_the_model_falls_silent() {
    let mut session = Session::ready();
    session.audio(&[1, 1]);
    session.tool_call("fc-1");
    session.wait(400);
    session.audio(&[2, 2]); // It talks on while the tool runs.
    session.wait(499);
    assert!(!session.heard.heard.contains(&COMPLETED));
    session.wait(1);
    session.result("fc-1");
    session.audio(&[3, 3]);
    session.content(json!({ "generationComplete": true, "turnComplete": true }));
    let heard = session.heard.take();
    assert_eq!(heard[1], audio(1, &[1, 1]));
    assert!(matches!(&heard[2], Heard::Event(ModelEvent::ToolCall(call))
        if call.name == "find_repair" && call.arguments == Ok(json!({ "order": "B-17" }))));
    assert_eq!(heard[3..], [audio(1, &[2, 2]), COMPLETED, STARTED, audio(2, &[3, 3]), COMPLETED]);
    assert_eq!(
        session.sent(),
        [json!({ "toolResponse": { "functionResponses": [
            { "id": "fc-1", "name": "find_repair", "response": { "output": { "status": "ready" } } }] } })]
    );
}

#[test]
fn a_model_that_blocks_on_tools_has_answered_when_it_calls() {
    let mut session = Session::ready_with("gemini-3.1-flash-live-preview");
    session.audio(&[1, 1]);
    session.say(json!({ "toolCall": { "functionCalls": [
        { "id": "fc-1", "name": "find_repair", "args": {} },
        { "id": "fc-2", "name": "opening_hours" }] } }));
    let heard = session.heard.take();
    assert_eq!(heard.len(), 5);
    assert_eq!(heard[4], COMPLETED);
    session.result("fc-2");
    session.result("fc-1");
    session.audio(&[2, 2]);
    assert_eq!(session.heard.take(), [STARTED, audio(2, &[2, 2])]);
    assert_eq!(session.sent().len(), 2);
}

#[test]
fn a_call_that_was_taken_back_gets_no_result() {
    let mut session = Session::ready();
    session.tool_call("fc-1");
    session.tool_call("fc-2");
    session.result("fc-2");
    session.sent();
    session.say(json!({ "toolCallCancellation": { "ids": ["fc-1", "fc-2", "fc-9"] } }));
    let cancelled: Vec<_> = session
        .heard
        .events()
        .into_iter()
        .filter(|event| matches!(event, ModelEvent::ToolCancelled(_)))
        .collect();
    assert_eq!(cancelled, [ModelEvent::ToolCancelled(ToolCallId("fc-1".into()))]);
    session.result("fc-1");
    session.tool_call("fc-9"); // The cancellation came before the call.
    session.result("fc-9");
    assert!(session.sent().is_empty());
}

#[test]
fn failures_of_tools_are_told_as_errors() {
    for (outcome, response) in [
        (ToolOutcome::Failed("no such tool".into()), Some(json!({ "error": "no such tool" }))),
        (ToolOutcome::TimedOut, Some(json!({ "error": "the tool did not answer in time" }))),
        (ToolOutcome::Answered(json!("plain")), Some(json!({ "output": "plain" }))),
        (
            ToolOutcome::Answered(json!({ "error": "x", "more": 1 })),
            Some(json!({ "output": { "error": "x", "more": 1 } })),
        ),
        (ToolOutcome::Cancelled, None),
    ] {
        let mut session = Session::ready();
        session.tool_call("fc-1");
        session.order(ModelCommand::ToolResult { id: ToolCallId("fc-1".into()), outcome });
        let told = session
            .sent()
            .first()
            .map(|message| message["toolResponse"]["functionResponses"][0]["response"].clone());
        assert_eq!(told, response);
    }
}

#[test]
fn extended_thinking_ends_when_it_says_so() {
    let mut session = Session::ready_with("gemini-3.8-live-extended-thinking");
    session.audio(&[1, 1]);
    session.content(json!({ "generationComplete": true }));
    session.content(json!({ "turnComplete": true, "interactionStatus": "IN_PROGRESS" }));
    assert_eq!(session.heard.take(), [STARTED, audio(1, &[1, 1])]);
    session.wait(29_999);
    session.audio(&[2, 2]);
    session.content(json!({ "generationComplete": true }));
    session.say(json!({ "serverContent": { "turnComplete": true }, "interactionStatus": "IDLE" }));
    assert_eq!(session.heard.take(), [audio(2, &[2, 2]), COMPLETED]);

    // The older name, alone in its message.
    session.audio(&[3, 3]);
    session.content(json!({ "turnComplete": true, "interactionStatus": "IN_PROGRESS" }));
    session.content(json!({ "interactionStatus": "REQUIRES_ACTION" }));
    assert_eq!(session.heard.take(), [STARTED, audio(3, &[3, 3]), COMPLETED]);

    // Idle never comes.
    session.audio(&[4, 4]);
    session.content(json!({ "turnComplete": true, "interactionStatus": "IN_PROGRESS" }));
    session.wait(29_999);
    assert_eq!(session.heard.take(), [STARTED, audio(4, &[4, 4])]);
    session.wait(1);
    assert_eq!(session.heard.take(), [COMPLETED]);
}

#[test]
fn empty_turns_are_reported_as_what_they_are() {
    for (content, end) in [
        (json!({ "turnComplete": true }), Some(ResponseEnd::Completed)),
        (
            json!({ "turnComplete": true, "turnCompleteReason": "RESPONSE_REJECTED" }),
            Some(ResponseEnd::Failed("RESPONSE_REJECTED".into())),
        ),
        (
            json!({ "turnComplete": true, "turnCompleteReason": "NEED_MORE_INPUT", "waitingForInput": true }),
            None,
        ),
        (
            json!({ "turnComplete": true, "turnCompleteReason": "SOMETHING_NEW" }),
            Some(ResponseEnd::Failed("SOMETHING_NEW".into())),
        ),
    ] {
        let mut session = Session::ready();
        session.content(content);
        let expected = match end {
            Some(end) => vec![ModelEvent::ResponseStarted, ModelEvent::ResponseEnded(end)],
            None => vec![],
        };
        assert_eq!(session.heard.events(), expected);
    }
    let mut session = Session::ready();
    session.audio(&[1, 1]);
    session
        .content(json!({ "turnComplete": true, "turnCompleteReason": "GENERATED_AUDIO_SAFETY" }));
    assert_eq!(
        session.heard.events()[1],
        ModelEvent::ResponseEnded(ResponseEnd::Incomplete("GENERATED_AUDIO_SAFETY".into()))
    );
}

#[test]
fn transcript_between_turns_finds_its_item() {
    let transcript = |text: &str| json!({ "outputTranscription": { "text": text } });
    let mut session = Session::ready();
    session.content(transcript("Early."));
    session.audio(&[1, 1]);
    session.content(json!({ "generationComplete": true }));
    session.content(transcript(" After."));
    session.content(json!({ "turnComplete": true }));
    session.content(transcript(" Late."));
    session.wait(1_000);
    assert_eq!(
        session.heard.take(),
        [
            STARTED,
            text(1, "Early."),
            audio(1, &[1, 1]),
            COMPLETED,
            text(1, " After."),
            text(1, " Late.")
        ]
    );
}

#[test]
fn calls_without_an_id_are_told_apart_and_answered_without_one() {
    let mut session = Session::ready();
    let both =
        json!([{ "name": "find_repair", "args": {} }, { "id": "", "name": "opening_hours" }]);
    session.say(json!({ "toolCall": { "functionCalls": both } }));
    let ids: Vec<String> = session
        .heard
        .events()
        .into_iter()
        .filter_map(|event| match event {
            ModelEvent::ToolCall(call) => Some(call.id.0),
            _ => None,
        })
        .collect();
    assert_eq!(ids, ["local-1", "local-2"]);
    // A cancellation that names nothing takes nothing back.
    session.say(json!({ "toolCallCancellation": { "ids": [""] } }));
    session.result("local-2");
    session.result("local-1");
    let answer = |name: &str| {
        json!({ "toolResponse": { "functionResponses": [
            { "name": name, "response": { "output": { "status": "ready" } } }] } })
    };
    assert_eq!(session.sent(), [answer("opening_hours"), answer("find_repair")]);

    // The next connection does not give out the same ids again.
    let mut next = session.dialect.successor(Vec::new());
    session.say(json!({ "toolCall": { "functionCalls": both } }));
    session.heard.take();
    next.take_over(&mut session.dialect);
    let mut next = Session::opened(next);
    next.become_ready();
    next.heard.take();
    next.say(json!({ "toolCall": { "functionCalls": [{ "name": "find_repair" }] } }));
    assert!(
        next.heard
            .events()
            .iter()
            .any(|event| matches!(event, ModelEvent::ToolCall(call) if call.id.0 == "local-5"))
    );
}

#[test]
fn a_message_too_large_to_read_is_left_out_or_ends_the_connection() {
    let audio = r#"{"serverContent":{"turnComplete":true,"modelTurn":{"parts":[{"inlineData":
        {"mimeType":"audio/pcm","data":"AAAA"}}]}},"more":["#;
    for (start, kilobytes, outcome) in [
        (r#"{"serverContent":{},"more":["#, 255, Some(true)),
        (r#"{"serverContent":{},"more":["#, 300, Some(false)),
        (r#"{"toolCall":{},"more":["#, 10_000, Some(false)),
        (r#"{"usageMetadata":{},"more":["#, 300, None),
        (r#"{"more":["#, 10_000, None),
        (audio, 900, Some(true)),
        (audio, 10_000, Some(false)),
    ] {
        let mut session = Session::ready();
        let message = format!("{start}{}[1]]}}", "[1],".repeat((kilobytes << 10) / 4));
        let taken = session.dialect.handle_message(
            session.now,
            message.as_bytes(),
            &mut session.out,
            &mut session.heard,
        );
        if let Err(error) = &taken {
            assert_eq!(*error, DialectError::TooLarge { bytes: message.len() }, "{start}");
        }
        let left_out = session.dialect.left_out.count() == 1;
        let seen = (!left_out).then_some(taken.is_ok());
        assert_eq!(seen, outcome, "{start} of {kilobytes} KiB");
        let heard = session.heard.take().iter().any(|heard| matches!(heard, Heard::Audio(..)));
        assert_eq!(heard, start == audio && seen == Some(true), "{start} of {kilobytes} KiB");
    }
}
