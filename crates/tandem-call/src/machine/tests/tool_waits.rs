//! What the caller hears while a tool runs.

use serde_json::json;

use super::world::{PROMPT, World, agent, ms};
use crate::{
    AgentSpec, Filler, Input, LegEvent, ModelEvent, PhraseId, Prompt, ResponseEnd, SignalEvent,
    ToolOutcome,
};

const LOOKING: Prompt = Prompt::Phrase(PhraseId(0));
const BOOKING: Prompt = Prompt::Phrase(PhraseId(1));

/// Longest silence of a caller who waits.
const BOUND: u64 = 2_500;

/// The agent, whose tools say something after so many milliseconds of silence.
fn agent_saying(repair: Option<u64>, hours: Option<u64>) -> AgentSpec {
    let filler = |after: Option<u64>, phrase| {
        after.map(|after| Filler { after: ms(after), phrase: PhraseId(phrase) })
    };
    let mut spec = agent();
    spec.phrases = vec!["Let me look.".into(), "I am booking it.".into()];
    spec.tools[0].filler = filler(repair, 0);
    spec.tools[1].filler = filler(hours, 1);
    spec
}

fn calls(world: &mut World, id: &str, name: &str) {
    world.model(ModelEvent::ResponseStarted);
    world.call_tool(id, name, json!({}));
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
}

#[test]
fn a_caller_who_waits_for_a_tool_is_never_left_in_silence() {
    for (name, says, filler) in [
        ("the model called at once", 0, None),
        ("it said a word before", 600, None),
        ("the tool has words", 0, Some(800)),
        ("both", 600, Some(800)),
        ("words for a wait that never comes", 600, Some(60_000)),
    ] {
        let mut world = World::greeted(agent_saying(filler, None));
        world.model(ModelEvent::ResponseStarted);
        world.audio(2, says);
        world.call_tool("t1", "find_repair", json!({}));
        world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        world.run(8_900);
        let prompts = world.prompts();
        assert!(prompts.len() >= 3, "{name}: {prompts:?}");
        let mut silent_since = 1_200 + says;
        for (at, _) in &prompts {
            assert!(*at - silent_since <= BOUND, "{name}: {prompts:?}");
            silent_since = at + PROMPT;
        }
        let fillers = prompts.iter().filter(|(_, prompt)| *prompt == LOOKING).count();
        assert_eq!(fillers, usize::from(filler.is_some()), "{name}: {prompts:?}");
    }
}

#[test]
fn words_of_a_tool_come_in_the_silence_that_they_wait_for() {
    let mut world = World::greeted(agent_saying(Some(800), None));
    calls(&mut world, "t1", "find_repair");
    world.run(2_000);
    assert_eq!(world.prompts(), [(2_000, LOOKING)]);
    let texts: Vec<_> = world.machine.conversation().into_iter().map(|turn| turn.text).collect();
    assert!(texts.contains(&"Let me look.".to_owned()), "{texts:?}");
    world.run(2_300); // The caller heard it until 3,000.
    assert_eq!(world.prompts()[1..], [(4_800, Prompt::OneMoment)]);
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
    world.answer(2, 3_000);
    calls(&mut world, "t2", "find_repair");
    world.tool_comes_out("t2", ToolOutcome::Answered(json!({})));
    world.run(10_000);
    assert_eq!(world.prompts().iter().filter(|(_, it)| *it == LOOKING).count(), 1);
}

#[test]
fn words_without_a_wait_are_said_as_soon_as_nobody_speaks() {
    let mut world = World::greeted(agent_saying(Some(0), None));
    calls(&mut world, "t1", "find_repair");
    assert_eq!(world.prompts(), [(1_200, LOOKING)]);

    let mut world = World::greeted(agent_saying(Some(0), None));
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 700);
    world.call_tool("t1", "find_repair", json!({}));
    world.run(1_000);
    assert_eq!(world.prompts(), [(1_900, LOOKING)]);
}

#[test]
fn of_several_tools_the_first_words_are_for_all() {
    let mut world = World::greeted(agent_saying(Some(1_200), Some(500)));
    calls(&mut world, "t1", "find_repair");
    calls(&mut world, "t2", "opening_hours");
    calls(&mut world, "t3", "opening_hours");
    world.run(5_000);
    let phrases: Vec<_> =
        world.prompts().into_iter().filter(|(_, it)| *it != Prompt::OneMoment).collect();
    assert_eq!(phrases, [(1_700, BOOKING)]);
}

#[test]
fn nobody_is_spoken_to_on_hold_or_while_he_speaks() {
    let mut world = World::greeted(agent_saying(Some(500), None));
    calls(&mut world, "t1", "find_repair");
    world.signal(SignalEvent::Held(true));
    world.run(3_000);
    assert!(world.prompts().is_empty());
    world.signal(SignalEvent::Held(false));
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(2_000);
    assert!(world.prompts().is_empty());
    world.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
    world.run(600);
    assert_eq!(world.prompts().len(), 1);
}

#[test]
fn the_callers_speech_stops_words_only_where_it_may() {
    for interruptible in [true, false] {
        for model_hears in [true, false] {
            let mut spec = agent_saying(Some(0), None);
            spec.tools[0].interruptible = interruptible;
            let mut world = World::greeted(spec);
            calls(&mut world, "t1", "find_repair");
            world.run(200);
            world.input(Input::Leg(LegEvent::SpeechStarted));
            if model_hears {
                world.run(100);
                world.model(ModelEvent::SpeechStarted);
            }
            world.run(600);
            let name = format!("{interruptible} {model_hears}");
            assert_eq!(world.clears().len(), usize::from(interruptible), "{name}");
            assert!(!world.is_still(), "{name}");
            let heard_out = world.last_drained() == 1_200 + PROMPT;
            world.run(400);
            assert_eq!(!heard_out && world.last_drained() == 1_200 + PROMPT, !interruptible);
        }
    }
}

#[test]
fn words_of_the_model_behind_a_protected_phrase_can_be_stopped() {
    let mut spec = agent_saying(Some(0), None);
    spec.tools[0].interruptible = false;
    let mut world = World::greeted(spec);
    calls(&mut world, "t1", "find_repair");
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
    world.answer(2, 3_000);
    world.run(300);
    world.model(ModelEvent::SpeechStarted);
    assert_eq!(world.clears().len(), 1);
}

#[test]
fn a_tool_in_the_background_keeps_nobody_waiting() {
    let mut spec = agent_saying(Some(500), None);
    spec.tools[0].mode = crate::ToolMode::Background;
    let mut world = World::greeted(spec);
    calls(&mut world, "t1", "find_repair");
    world.answer(2, 500);
    world.run(6_000);
    assert!(world.prompts().is_empty());
}
