//! Tool calls: G06 to G09, G21.

use super::*;

pub(super) fn stories() -> Vec<Scenario> {
    let mut all = one_call();
    all.extend(several_calls());
    all.extend(cancellations());
    all.extend(extended_thinking());
    all
}

fn one_call() -> Vec<Scenario> {
    let call = || Action::Tool(find_repair("fc-1"));
    let result = Trigger::ToolResult { id: Some("fc-1".into()) };
    let ready = || answer(1_500, ["It is ready."]);
    let base = |id: &str, title: &str| {
        tale(id, title)
            .tool("find_repair", 800, ready_result())
            .utterance(6_000)
            .hang_up()
            .calls("fc-1", 1)
    };
    vec![
        base("G06a", "a call, silence, the answer")
            .plays(
                Script::new()
                    .on_nth(1, Trigger::SpeechEnd, [open_answer(600, ["One moment. "]), call()])
                    .on(result.clone(), [ready()]),
            )
            .hears(0, 1, 600)
            .hears(0, 2, 1_500)
            .agent_says(["One moment. ", "It is ready."])
            .bills(1),
        base("G06b", "talk goes on after the call")
            .plays(
                Script::new()
                    .on_nth(
                        1,
                        Trigger::SpeechEnd,
                        [
                            open_answer(600, ["One moment. "]),
                            call(),
                            Action::StaleAudio(500),
                            Action::GenerationComplete,
                            Action::TurnComplete,
                        ],
                    )
                    .on(result.clone(), [Action::Delay(600), ready()]),
            )
            .hears(0, 1, 1_100)
            .hears(0, 2, 1_500)
            .bills(1),
        base("G06c", "a result that is not answered")
            .plays(
                Script::new()
                    .on_nth(
                        1,
                        Trigger::SpeechEnd,
                        [
                            open_answer(600, ["One moment. "]),
                            call(),
                            Action::GenerationComplete,
                            Action::TurnComplete,
                        ],
                    )
                    .on(result.clone(), []),
            )
            .hears(0, 1, 600),
        base("G06d", "a call without a word before it")
            .plays(
                Script::new().on_nth(1, Trigger::SpeechEnd, [call()]).on(result.clone(), [ready()]),
            )
            .hears(0, 1, 1_500)
            .bills(1),
        tale("G08a", "a tool that does not exist")
            .plays(
                Script::new()
                    .on_nth(
                        1,
                        Trigger::SpeechEnd,
                        [Action::Tool(ToolRequest::new("fc-1", "no_such_tool", json!({})))],
                    )
                    .on(result.clone(), [answer(1_000, ["I am sorry."])]),
            )
            .utterance(4_000)
            .hang_up()
            .hears(0, 1, 1_000)
            .calls("fc-1", 1)
            .agent_says(["I am sorry."])
            .bills(1),
        tale("G08b", "a tool that fails")
            .tool("find_repair", 300, ToolReply::Error("the database is down"))
            .plays(
                Script::new()
                    .on_nth(1, Trigger::SpeechEnd, [call()])
                    .on(result, [answer(1_000, ["I am sorry."])]),
            )
            .utterance(4_000)
            .hang_up()
            .hears(0, 1, 1_000)
            .calls("fc-1", 1)
            .bills(1),
    ]
}

fn several_calls() -> Vec<Scenario> {
    let both = || vec![find_repair("fc-1"), opening_hours("fc-2")];
    let told = |id: &str, title: &str, calls: Vec<Action>| {
        tale(id, title)
            .tool("find_repair", 900, ready_result())
            .tool("opening_hours", 300, open_hours())
            .plays(
                Script::new()
                    .on_nth(1, Trigger::SpeechEnd, calls)
                    .on(Trigger::all_results(), [answer(1_500, ["Ready, come before six."])]),
            )
            .utterance(5_000)
            .hang_up()
            .hears(0, 1, 1_500)
            .calls("fc-2", 1)
            .calls("fc-1", 1)
            .bills(1)
    };
    let one_by_one = both().into_iter().map(Action::Tool).collect();
    vec![
        told("G07a", "two calls in one message", vec![Action::Tools(both())]),
        told("G07b", "two calls in two messages", one_by_one),
    ]
}

fn cancellations() -> Vec<Scenario> {
    let told = |id: &str, title: &str, takes_ms: u64, calls: Action, barge_in: Vec<Action>| {
        tale(id, title)
            .tool("find_repair", takes_ms, ready_result())
            .tool("opening_hours", 100, open_hours())
            .plays(
                Script::new()
                    .on_nth(1, Trigger::SpeechEnd, [calls])
                    .on_nth(2, Trigger::SpeechStart, barge_in)
                    .on_nth(2, Trigger::SpeechEnd, [answer(1_000, ["Never mind then."])]),
            )
            .utterance(1_000)
            .utterance(6_000)
            .hang_up()
            .hears(0, 1, 1_000)
            .agent_says(["Never mind then."])
            .bills(1)
    };
    let one = || Action::Tool(find_repair("fc-1"));
    let cancel = || Action::CancelTool(vec!["fc-1".into()]);
    vec![
        told(
            "G09a",
            "the caller takes the question back",
            5_000,
            one(),
            vec![cancel(), Action::Interrupt(true)],
        )
        .calls("fc-1", 0),
        told(
            "G09b",
            "the cancellation comes after the interruption",
            5_000,
            one(),
            vec![Action::Interrupted, cancel(), Action::TurnComplete],
        )
        .calls("fc-1", 0),
        told(
            "G09c",
            "one of two calls is cancelled",
            5_000,
            Action::Tools(vec![find_repair("fc-1"), opening_hours("fc-2")]),
            vec![cancel(), Action::Interrupt(true)],
        )
        .calls("fc-2", 1)
        .calls("fc-1", 0),
        told(
            "G09d",
            "the cancellation comes too late",
            200,
            one(),
            vec![cancel(), Action::Interrupt(true)],
        )
        .calls("fc-1", 1),
    ]
}

fn extended_thinking() -> Vec<Scenario> {
    let status = |status: &str| {
        let mut done =
            json!({ "serverContent": { "turnComplete": true, "interactionStatus": status } });
        if status != "IN_PROGRESS" {
            done["usageMetadata"] = crate::gemini::usage_metadata(&UsageSpec::ANSWER);
        }
        send(done)
    };
    let spoken = |ms, text: &str| -> Action {
        Answer::of_ms(ms).saying([text]).end(AnswerEnd::Generated).into()
    };
    let told = |id: &str, title: &str, call: Action, end: Vec<Action>| {
        let mut late =
            vec![Action::Delay(3_000), spoken(1_200, "It is ready."), Action::AwaitPlayback];
        late.extend(end);
        tale(id, title)
            .needs(Need::Model(EXTENDED))
            .tool("find_repair", 500, ready_result())
            .plays(
                Script::new()
                    .on_nth(
                        1,
                        Trigger::SpeechEnd,
                        [
                            spoken(800, "Let me check."),
                            Action::AwaitPlayback,
                            status("IN_PROGRESS"),
                            call,
                        ],
                    )
                    .on(Trigger::ToolResult { id: Some("fc-1".into()) }, late)
                    .on_nth(2, Trigger::SpeechEnd, [answer(1_000, ["Goodbye."])]),
            )
            .utterance(8_000)
            .utterance(3_000)
            .hang_up()
            .calls("fc-1", 1)
            .hears(0, 1, 800)
            .hears(0, 2, 1_200)
            .hears(0, 3, 1_000)
            .agent_says(["Let me check.", "It is ready.", "Goodbye."])
    };
    let call = || Action::Tool(find_repair("fc-1"));
    let marked_call = send(json!({
        "toolCall": { "functionCalls": [{ "id": "fc-1", "name": "find_repair", "args": { "order": "B-17" } }] },
        "interactionStatus": "IN_PROGRESS",
    }));
    vec![
        told("G21a", "filler, thought, answer, IDLE", call(), vec![status("IDLE")]).bills(2),
        told("G21b", "the status stands beside the call", marked_call, vec![status("IDLE")])
            .bills(2),
        told("G21c", "REQUIRES_ACTION in place of IDLE", call(), vec![status("REQUIRES_ACTION")])
            .bills(2),
        told("G21d", "IDLE never comes", call(), vec![]).bills(1),
    ]
}
