//! Words that are not to be kept.

use serde_json::{Value, json};

use super::world::{World, agent};
use crate::{
    HangupCause, HistoryTurn, ModelEvent, Output, Reaction, SignalCommand, SignalEvent, ToolOutcome,
};

const NUMBER: &str = "4111 1111 1111 1111";

fn caller_says(world: &mut World, text: &str) {
    world.caller_speaks(1_000);
    world.model(ModelEvent::CallerText { text: text.into(), last: true });
}

fn agent_says(world: &mut World, item: u64, text: &str) {
    world.model(ModelEvent::ResponseStarted);
    world.speak(item, 500, text);
    world.model(ModelEvent::ResponseEnded(crate::ResponseEnd::Completed));
    world.run(600);
}

/// A call in which the caller has just said his card number, and the agent has said it back.
fn paused() -> World {
    let mut world = World::greeted(agent());
    caller_says(&mut world, "I want to pay.");
    agent_says(&mut world, 2, "The number, please.");
    world.machine.pause_transcript(world.now, true);
    caller_says(&mut world, NUMBER);
    agent_says(&mut world, 3, NUMBER);
    world
}

fn texts(turns: &[HistoryTurn]) -> Vec<&str> {
    turns.iter().map(|turn| turn.text.as_str()).collect()
}

#[test]
fn words_of_a_pause_are_in_no_record_and_go_to_the_model_that_takes_over() {
    let mut world = paused();
    world.call_tool("t1", "find_repair", json!({ "order": NUMBER }));
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
    world.call_tool("t2", "opening_hours", json!({}));
    world.tool_comes_out("t2", ToolOutcome::Answered(json!({})));
    let executed = |output: &Output| matches!(output, Output::Tool(it) if it.call.arguments == Ok(json!({ "order": NUMBER })));
    assert_eq!(world.times(executed).len(), 1, "the tool gets all of it");
    world.machine.pause_transcript(world.now, false);
    world.lose_model(Reaction::GiveUp);
    let history = world.log.iter().find_map(|(_, output)| match output {
        Output::OpenModel { history, .. } => Some(history.clone()),
        _ => None,
    });
    let history = history.expect("another model takes over");
    assert_eq!(texts(&history), ["I want to pay.", "The number, please.", NUMBER, NUMBER]);
    let kept = world.machine.conversation();
    assert_eq!(texts(&kept), ["I want to pay.", "The number, please.", "[paused]", "[paused]"]);
    world.model(ModelEvent::Ready);
    agent_says(&mut world, 4, "Thank you.");
    world.run(10_000);
    caller_says(&mut world, "Goodbye.");
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let outcome = world.outcome();
    assert!(!format!("{outcome:?}").contains(NUMBER), "{outcome:?}");
    let said: Vec<_> = outcome.transcript.iter().map(|turn| turn.text.as_str()).collect();
    assert_eq!(said[2..4], ["[paused]", "[paused]"]);
    assert_eq!(said[said.len() - 2..], ["Thank you.", "Goodbye."]);
    let arguments: Vec<_> = outcome.tools.into_iter().map(|tool| tool.arguments).collect();
    assert_eq!(arguments, [Value::from("[paused]"), json!({})]);
}

#[test]
fn whoever_takes_the_caller_over_in_a_pause_does_not_read_what_was_said() {
    let mut world = paused();
    world.call_tool("t1", "transfer_to_human", json!({ "reason": NUMBER, "department": NUMBER }));
    world.run(1_000);
    let headers = world.log.iter().find_map(|(_, output)| match output {
        Output::Signal(SignalCommand::Transfer { headers, .. }) => Some(headers.clone()),
        _ => None,
    });
    let headers = headers.expect("he is handed over");
    assert!(!format!("{headers:?}").contains("4111"), "{headers:?}");
    assert!(headers[1].1.contains("pay"), "{headers:?}");
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    assert!(!format!("{:?}", world.outcome()).contains("4111"));
}

#[test]
fn a_summary_made_in_a_pause_is_not_kept() {
    let mut world = paused();
    world.call_tool(
        "t1",
        "end_call",
        json!({ "reason": "conversation_complete", "summary": NUMBER }),
    );
    world.run(10_000);
    let outcome = world.outcome();
    assert_eq!(outcome.summary.as_deref(), Some("[paused]"));
    assert!(!format!("{outcome:?}").contains(NUMBER));
}
