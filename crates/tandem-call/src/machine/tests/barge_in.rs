//! The caller interrupts.

use super::world::{PROMPT, World, agent, at_the_first_sound, ms};
use crate::{
    HangupCause, Input, ItemId, LegEvent, ModelCommand, ModelEvent, ResponseEnd, SignalEvent,
    Speaker, TranscriptTurn, TurnLedger,
};

fn truncate(item: u64, heard: u64) -> ModelCommand {
    ModelCommand::Truncate { item: ItemId(item), heard: ms(heard) }
}

fn forget(item: u64) -> ModelCommand {
    ModelCommand::Forget { item: ItemId(item) }
}

#[test]
fn the_model_learns_what_the_caller_missed() {
    type Audio = &'static [(u64, u64)];
    let cases: [(&str, Audio, u64, bool, Vec<ModelCommand>); 7] = [
        ("one item, answer running", &[(2, 8_000)], 1_200, true, vec![truncate(2, 1_200)]),
        ("one item, answer done", &[(2, 8_000)], 1_200, false, vec![truncate(2, 1_200)]),
        ("everything played", &[(2, 800)], 1_200, false, vec![]),
        ("nothing played", &[(2, 8_000)], 0, true, vec![forget(2)]),
        ("the second plays", &[(2, 1_000), (3, 1_000)], 1_300, false, vec![truncate(3, 300)]),
        (
            "the first plays",
            &[(2, 1_000), (3, 1_000)],
            300,
            true,
            vec![truncate(2, 300), forget(3)],
        ),
        ("nothing came yet", &[], 300, true, vec![]),
    ];
    for (name, audio, played, running, expected) in cases {
        let mut world = World::greeted(agent());
        world.model(ModelEvent::ResponseStarted);
        for (item, duration) in audio {
            world.audio(*item, *duration);
        }
        if !running {
            world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        }
        world.run(played);
        let interrupted = world.clock();
        world.model(ModelEvent::SpeechStarted);
        let playing = running || !expected.is_empty();
        assert_eq!(world.clears(), if playing { vec![interrupted] } else { vec![] }, "{name}");
        let told: Vec<_> = world.told().into_iter().map(|(_, command)| command.clone()).collect();
        assert_eq!(told, expected, "{name}");
        for (item, _) in audio {
            let accepted = world.machine.accepts_audio(ItemId(*item));
            let cut = expected.contains(&forget(*item))
                || expected.iter().any(
                    |it| matches!(it, ModelCommand::Truncate { item: cut, .. } if cut.0 == *item),
                );
            assert_eq!(accepted, !cut, "{name}: item {item}");
        }
    }
}

#[test]
fn a_model_that_need_not_be_told_is_not() {
    let mut world = World::greeted_by(agent(), |it| it.truncates = false);
    world.answer(2, 8_000);
    world.run(500);
    world.model(ModelEvent::SpeechStarted);
    assert_eq!(world.clears().len(), 1);
    assert!(world.told().is_empty());
}

#[test]
fn a_model_that_finds_no_turns_is_cut_by_the_leg() {
    let mut world = World::greeted_by(at_the_first_sound(), |it| it.detects_turns = false);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 4_000);
    world.run(500);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    assert_eq!(world.clears(), [1_700]);
    let began = ModelCommand::TurnStarted { ago: ms(0) };
    assert_eq!(
        world.told(),
        [(1_700, &ModelCommand::Cancel), (1_700, &began), (1_700, &truncate(2, 500))]
    );
}

#[test]
fn the_leg_alone_does_not_cut_a_model_that_finds_turns() {
    let mut world = World::greeted(agent());
    world.answer(2, 4_000);
    world.run(500);
    world.caller_speaks(250);
    world.run(10_000);
    assert!(world.clears().is_empty());
    assert!(world.prompts().is_empty(), "a listening sound asks nothing");
    assert!(world.said().is_empty());
}

#[test]
fn the_transcript_and_the_ledger_keep_what_was_heard() {
    let mut world = World::greeted(agent());
    world.caller_speaks(1_000);
    world.model(ModelEvent::SpeechStopped);
    world.model(ModelEvent::CallerText { text: " Is my bike".into(), last: false });
    world.run(300);
    world.model(ModelEvent::ResponseStarted);
    world.speak(2, 4_000, "It is ready and ");
    world.model(ModelEvent::CallerText { text: " ready?".into(), last: true });
    world.run(2_000);
    world.model(ModelEvent::SpeechStarted);
    world.model(ModelEvent::AgentText { item: ItemId(2), text: "waits here.".into() });
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let outcome = world.outcome();
    assert_eq!(
        outcome.transcript,
        [
            TranscriptTurn {
                role: Speaker::Caller,
                text: "Is my bike ready?".into(),
                start_ms: 1_200,
                interrupted: false,
                text_unheard: None,
            },
            TranscriptTurn {
                role: Speaker::Agent,
                text: "It is ready".into(),
                start_ms: 2_700,
                interrupted: true,
                text_unheard: Some("and waits here.".into()),
            },
        ]
    );
    assert_eq!(
        outcome.turns[1],
        TurnLedger {
            turn: 2,
            at_ms: 1_200.0,
            uplink_ms: Some(1.0),
            model_ms: Some(499.0),
            downlink_ms: Some(0.0),
            response_ms: Some(500.0),
            barge_in_ms: Some(0.0),
            heard_ms: Some(2_000.0),
        }
    );
}

#[test]
fn every_answer_has_its_own_row_in_the_ledger() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    world.answer(2, 500); // "Let me see."
    world.run(600);
    world.call_tool("t1", "opening_hours", serde_json::json!({}));
    world.tool_comes_out("t1", crate::ToolOutcome::Failed("no".into()));
    let after_tool = world.clock();
    world.answer(3, 500);
    world.run(600);
    let pressed = world.clock();
    for digit in ['1', '2'] {
        world.input(Input::Leg(LegEvent::Digit(crate::Digit::new(digit).unwrap())));
    }
    world.run(1_300);
    world.model(ModelEvent::ResponseStarted);
    world.audio(4, 500);
    world.audio(5, 3_000); // The same answer.
    world.run(700);
    world.model(ModelEvent::SpeechStarted);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let turns = world.outcome().turns;
    let rows: Vec<_> = turns.iter().map(|turn| (turn.at_ms as u64, turn.heard_ms)).collect();
    let expected = [(0, None), (1_200, None), (after_tool, None), (pressed, Some(200.0))];
    assert_eq!(rows, expected);
}

#[test]
fn an_answer_that_is_cut_before_its_second_item_counts_what_was_heard_of_the_first() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_000);
    world.audio(3, 1_000);
    world.run(300);
    world.model(ModelEvent::SpeechStarted);
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    assert_eq!(world.outcome().turns[1].heard_ms, Some(300.0));
}

#[test]
fn what_tandem_says_by_itself_is_in_the_transcript() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.run(3_800 + PROMPT);
    assert_eq!(world.prompts().len(), 2);
    world.model(ModelEvent::SpeechStarted); // In the middle of the second.
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let transcript = world.outcome().transcript;
    let turns: Vec<_> =
        transcript.iter().map(|it| (it.role, it.text.as_str(), it.start_ms)).collect();
    let second = 3_400 + PROMPT + 1_800;
    let (heard, unheard) = ("One moment, please.", "Sorry, I am having");
    assert_eq!(turns, [(Speaker::Agent, heard, 3_400), (Speaker::Agent, unheard, second)]);
    assert!(!transcript[0].interrupted && transcript[1].interrupted);
}

#[test]
fn a_prompt_is_cut_without_a_word_to_the_model() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    world.run(2_000);
    assert_eq!(world.prompts().len(), 1);
    world.model(ModelEvent::SpeechStarted);
    assert_eq!(world.clears().len(), 1);
    assert!(world.told().is_empty());
}

#[test]
fn what_is_left_when_the_caller_hangs_up_was_not_heard() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.speak(2, 2_000, "one two three four");
    world.run(1_000);
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let turn = world.outcome().transcript.pop().unwrap();
    assert_eq!((turn.text.as_str(), turn.text_unheard.as_deref()), ("one two", Some("three four")));
}
