//! Tool calls: O04 to O08.

use super::*;

pub(super) fn stories() -> Vec<Scenario> {
    let mut all = calls();
    all.extend(bad_calls());
    all
}

fn calls() -> Vec<Scenario> {
    let one = || Action::Tool(find_repair("call_1"));
    let both = || Action::Tools(vec![find_repair("call_1"), opening_hours("call_2")]);
    let after = |script: Script| script.on_nth(1, Trigger::Text, [answer(1_500, ["It is ready."])]);
    let first = |action: Action| after(Script::new().on_nth(1, Trigger::SpeechEnd, [action]));
    let with_words = Response::of([message(600, ["One moment."]), call(find_repair("call_1"))]);
    vec![
        tale("O04a", "a call and its answer")
            .tool("find_repair", 800, ready_result())
            .plays(first(one()))
            .utterance(5_000)
            .hang_up()
            .calls("call_1", 1)
            .hears(0, 1, 1_500)
            .agent_says(["It is ready."])
            .creates(1)
            .bills(2),
        tale("O04b", "words before the call in the same response")
            .tool("find_repair", 800, ready_result())
            .plays(first(with_words.into()))
            .utterance(5_000)
            .hang_up()
            .calls("call_1", 1)
            .hears(0, 1, 600)
            .hears(0, 2, 1_500)
            .agent_says(["One moment.", "It is ready."])
            .creates(1)
            .bills(2),
        tale("O05a", "two calls, answered in reverse order")
            .tool("find_repair", 900, ready_result())
            .tool("opening_hours", 300, open_hours())
            .plays(first(both()))
            .utterance(5_000)
            .hang_up()
            .calls("call_2", 1)
            .calls("call_1", 1)
            .hears(0, 1, 1_500)
            .creates(1)
            .bills(2),
        tale("O05b", "one of two calls is never done")
            .tool("find_repair", 0, ToolReply::Never)
            .tool("opening_hours", 300, open_hours())
            .plays(first(both()))
            .utterance(18_000)
            .hang_up()
            .calls("call_2", 1)
            .calls("call_1", 1)
            .hears(0, 1, 1_500)
            .creates(1)
            .bills(2),
        // The result comes while the answer to the second utterance is being made, at about 4,700 ms.
        tale("O06", "the caller speaks while the tool runs")
            .tool("find_repair", 3_000, ready_result())
            .plays(first(one()).on_nth(
                2,
                Trigger::SpeechEnd,
                [
                    open_answer(2_000, ["Still looking."]),
                    Action::Delay(2_000),
                    Action::TurnComplete,
                ],
            ))
            .utterance(1_000)
            .utterance(8_000)
            .hang_up()
            .calls("call_1", 1)
            .hears(0, 1, 2_000)
            .hears_part(0, 2, 0..=1_500),
    ]
}

fn bad_calls() -> Vec<Scenario> {
    let cancelled = Response::of([call(find_repair("call_1"))])
        .status(ResponseStatus::Cancelled("turn_detected".into()));
    let broken =
        ToolRequest { raw_arguments: Some(r#"{"order":"#.into()), ..find_repair("call_1") };
    vec![
        tale("O07", "a call is cancelled while it is written")
            .tool("find_repair", 300, ready_result())
            .plays(
                Script::new()
                    .on_nth(1, Trigger::SpeechEnd, [without_budget(cancelled).into()])
                    .on_nth(2, Trigger::SpeechEnd, [answer(1_000, ["Yes."])]),
            )
            .utterance(2_000)
            .utterance(2_500)
            .hang_up()
            .calls("call_1", 0)
            .hears(0, 1, 1_000)
            .creates(0)
            .bills(2),
        tale("O08", "the arguments are no JSON")
            .tool("find_repair", 300, ready_result())
            .plays(Script::new().on_nth(1, Trigger::SpeechEnd, [Action::Tool(broken)]).on_nth(
                1,
                Trigger::Text,
                [answer(1_000, ["Which order?"])],
            ))
            .utterance(4_000)
            .hang_up()
            .calls("call_1", 1)
            .hears(0, 1, 1_000)
            .creates(1)
            .bills(2),
    ]
}

/// The same response, whose calls need no result.
fn without_budget(mut response: Response) -> Response {
    for output in &mut response.outputs {
        if let ResponseOutput::FunctionCall(tool) = output {
            tool.budget_ms = None;
        }
    }
    response
}
