//! A model that finds no turns is told of the caller's.

use serde_json::json;

use super::world::{World, agent, at_the_first_sound, ms};
use crate::{
    Digit, Input, ItemId, LegEvent, ModelCommand, ModelEvent, Reaction, ResponseEnd, SignalEvent,
    ToolOutcome,
};

/// A greeted call with such a model, at 1,200.
fn world() -> World {
    World::greeted_by(agent(), |it| it.detects_turns = false)
}

/// When turns began, by how long the caller was heard before, and when they were over.
#[derive(Debug, PartialEq)]
enum Mark {
    Began { at: u64, ago: u64 },
    Over { at: u64 },
}
use Mark::{Began, Over};

fn marks(world: &World) -> Vec<Mark> {
    let marks = world.told().into_iter().filter_map(|(at, command)| match command {
        ModelCommand::TurnStarted { ago } => Some(Began { at, ago: ago.as_millis() as u64 }),
        ModelCommand::TurnEnded => Some(Over { at }),
        _ => None,
    });
    marks.collect()
}

#[test]
fn a_turn_is_marked_from_speech_that_is_no_click_to_its_pause() {
    for (speech, expected) in [
        (1_000, vec![Began { at: 1_600, ago: 400 }, Over { at: 2_700 }]),
        // It is over before the leg would be believed.
        (250, vec![Began { at: 1_600, ago: 400 }, Over { at: 1_950 }]),
        (200, vec![Began { at: 1_600, ago: 400 }, Over { at: 1_900 }]),
        (199, vec![]),
        (60, vec![]),
    ] {
        let mut world = world();
        world.caller_speaks(speech);
        world.run(1_000);
        assert_eq!(marks(&world), expected, "{speech} ms");
        assert_eq!(world.told().len(), expected.len(), "nothing else is said: {speech} ms");
    }
}

#[test]
fn the_models_own_pause_counts() {
    let mut world = World::greeted_by(agent(), |it| {
        it.detects_turns = false;
        it.turn_pause = ms(2_000);
    });
    world.caller_speaks(1_000); // Until 2,200.
    world.run(5_000);
    assert_eq!(marks(&world)[1..], [Over { at: 4_200 }]);
    assert_eq!(world.prompts()[0].0, 5_700, "he waits from then on");
}

#[test]
fn a_breath_does_not_end_a_turn() {
    let mut world = world();
    world.caller_speaks(1_000); // Until 2,200.
    world.run(200);
    world.caller_speaks(60); // From 2,600 on, and be it a click.
    world.run(100);
    world.caller_speaks(500); // From 2,960 to 3,460.
    world.run(1_000);
    assert_eq!(marks(&world), [Began { at: 1_600, ago: 400 }, Over { at: 3_960 }]);
}

#[test]
fn a_model_that_finds_turns_is_told_of_none() {
    let mut world = World::greeted(agent());
    world.caller_speaks(1_000);
    world.run(1_000);
    assert_eq!(marks(&world), []);
}

#[test]
fn who_interrupts_is_heard_at_once() {
    let mut world = World::greeted_by(at_the_first_sound(), |it| it.detects_turns = false);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 4_000);
    world.run(500);
    world.caller_speaks(60); // Even a cough: the agent fell silent for it.
    world.run(1_000);
    assert_eq!(world.clears(), [1_700]);
    assert_eq!(
        world.told(),
        [
            (1_700, &ModelCommand::Cancel),
            (1_700, &ModelCommand::TurnStarted { ago: ms(0) }),
            (1_700, &ModelCommand::Truncate { item: ItemId(2), heard: ms(500) }),
            (2_260, &ModelCommand::TurnEnded),
        ]
    );
}

#[test]
fn an_answer_that_begins_while_the_caller_goes_on_is_not_heard() {
    let mut world = world();
    world.caller_speaks(1_000);
    world.run(1_000); // Over at 2,700, and it is 3,400.
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(100);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 4_000); // He may have coughed.
    world.run(1_000);
    assert_eq!(world.clears(), [3_800], "he did not");
    assert_eq!(marks(&world)[2..], [Began { at: 3_800, ago: 400 }]);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
    world.log.clear();
    world.model(ModelEvent::ResponseStarted); // One that had been asked for.
    assert_eq!(world.told(), [(4_500, &ModelCommand::Cancel)]);
}

#[test]
fn the_wait_begins_with_the_end_of_the_turn() {
    let mut world = world();
    world.caller_speaks(1_000); // Over at 2,700.
    world.run(10_000);
    assert_eq!(world.prompts()[0].0, 4_200);
    assert_eq!(world.said()[0].0, 5_700, "a reminder");
    assert_eq!(world.opened(), [(8_200, 1, false)], "it is dead");
}

#[test]
fn digits_and_results_are_told_as_ever() {
    let mut world = world();
    world.input(Input::Leg(LegEvent::Digit(Digit::new('1').unwrap())));
    world.input(Input::Leg(LegEvent::Digit(Digit::new('#').unwrap())));
    world.call_tool("t1", "opening_hours", json!({}));
    world.tool_comes_out("t1", ToolOutcome::Failed("no".into()));
    assert!(matches!(
        world.told()[..],
        [(_, ModelCommand::Digits(_)), (_, ModelCommand::ToolResult { .. })]
    ));
}

#[test]
fn a_caller_who_takes_an_ending_back_is_marked_from_his_first_word() {
    let mut spec = agent();
    spec.end_call_cancel_on_speech = true;
    let mut world = World::greeted_by(spec, |it| it.detects_turns = false);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_000);
    world.call_tool("t1", "end_call", json!({ "reason": "caller_goodbye" }));
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    world.run(500);
    world.log.clear();
    world.caller_speaks(1_000); // From 1,700 on.
    world.run(1_000);
    assert_eq!(marks(&world), [Began { at: 2_500, ago: 800 }, Over { at: 3_200 }]);
    let [.., (_, ModelCommand::Say(_)), (_, ModelCommand::TurnEnded)] = world.told()[..] else {
        panic!("he is answered once: {:?}", world.told());
    };
}

#[test]
fn on_hold_no_turn_ends() {
    let mut world = world();
    world.caller_speaks(1_000); // Until 2,200.
    world.signal(SignalEvent::Held(true));
    world.run(5_000);
    assert_eq!(marks(&world).len(), 1);
    world.signal(SignalEvent::Held(false));
    assert_eq!(marks(&world)[1..], [Over { at: 7_400 }]);
}

#[test]
fn the_next_session_is_told_of_the_turn_that_goes_on() {
    let mut world = world();
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(1_000);
    world.lose_model(Reaction::Retry { after: ms(100) });
    world.run(200);
    world.model(ModelEvent::Ready); // At 2,400.
    world.run(600);
    world.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
    world.run(400);
    assert_eq!(
        marks(&world),
        [Began { at: 1_600, ago: 400 }, Began { at: 2_400, ago: 1_200 }, Over { at: 3_300 }]
    );
}

#[test]
fn a_turn_that_was_lost_with_its_session_is_asked_for() {
    let mut world = world();
    world.caller_speaks(1_000); // Over at 2,700, but
    world.lose_model(Reaction::Retry { after: ms(100) }); // at 2,400
    world.run(200);
    world.log.clear();
    world.model(ModelEvent::Ready);
    assert_eq!(world.said().len(), 1, "go on");
    world.run(1_000);
    assert_eq!(marks(&world), []);
}

#[test]
fn an_expiring_session_is_not_replaced_in_a_turn() {
    let mut world = world();
    world.model(ModelEvent::ExpiresIn(ms(60_000)));
    world.caller_speaks(100); // A click: until 1,500.
    world.caller_speaks(1_000); // Until 2,500.
    world.run(1_000); // Over at 3,000, and it is 3,700.
    let renewed =
        |world: &World| world.told().iter().any(|(_, it)| matches!(it, ModelCommand::Renew { .. }));
    assert!(!renewed(&world), "an answer is owed");
    world.answer(2, 500);
    world.run(1_100);
    assert!(renewed(&world));
}
