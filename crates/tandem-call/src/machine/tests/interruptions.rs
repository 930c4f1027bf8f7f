//! The caller is heard over the agent, and it shows a moment later whether he interrupts.

use serde_json::json;

use super::world::{World, agent, at_the_first_sound, ms};
use crate::{
    AgentSpec, BargeIns, Digit, HangupCause, Input, ItemId, LegEvent, ModelCommand, ModelEvent,
    Output, Reaction, ResponseEnd, SignalCommand, SignalEvent, Speaker, ToolOutcome,
};

/// Says how a model finds turns.
type Kind = fn(&mut crate::Capabilities);

/// What comes between.
type Happening = fn(&mut World);

const SERVER: Kind = |_| {};
const LOCAL: Kind = |it| it.detects_turns = false;
const OBEDIENT: Kind = |it| it.interrupts = false;

/// The agent has said 500 ms of 4 s at 1,700; the answer is complete unless it is `running`.
fn world_of(spec: AgentSpec, kind: Kind, running: bool) -> World {
    let mut world = World::greeted_by(spec, kind);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 4_000);
    if !running {
        world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    }
    world.run(500);
    world.log.clear();
    world
}

fn world(kind: Kind) -> World {
    world_of(agent(), kind, true)
}

fn sensitive(sensitivity: f32) -> AgentSpec {
    let mut spec = agent();
    spec.interruption.sensitivity = sensitivity;
    spec
}

fn truncate(heard: u64) -> ModelCommand {
    ModelCommand::Truncate { item: ItemId(2), heard: ms(heard) }
}

fn commands(world: &World) -> Vec<ModelCommand> {
    world.told().into_iter().map(|(_, command)| command.clone()).collect()
}

fn barge_ins(mut world: World) -> BargeIns {
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    world.outcome().barge_ins
}

#[test]
fn who_shows_that_he_listens_costs_the_agent_a_pause_and_nothing_else() {
    for (name, kind, sound, resumed) in [
        ("uh-huh", SERVER, 250, 2_050),
        ("uh-huh, turns are told", LOCAL, 250, 2_050),
        ("uh-huh, a model that goes on", OBEDIENT, 250, 2_050),
        ("a cough", SERVER, 120, 1_920),
        ("a click", LOCAL, 20, 1_820),
    ] {
        let mut world = world_of(agent(), kind, false);
        world.caller_speaks(sound);
        assert_eq!(world.ducks(), [(1_700, true), (resumed, false)], "{name}");
        world.run(10_000);
        assert!(world.clears().is_empty() && world.told().is_empty(), "{name}: {:?}", world.log);
        assert!(world.prompts().is_empty(), "nobody waits for an answer: {name}");
        let silent = resumed - 1_700;
        assert_eq!(world.last_drained(), 1_200 + 4_000 + silent, "all of it was played: {name}");
        let expected = BargeIns { hushed: 1, went_on: 1, stopped: 0 };
        assert_eq!(barge_ins(world), expected, "{name}");
    }
}

#[test]
fn who_goes_on_stops_the_agent_where_it_fell_silent() {
    for (name, kind, running, more) in [
        ("before the model has noticed", SERVER, true, vec![]),
        ("a model that waits to be told", OBEDIENT, true, vec![ModelCommand::Cancel]),
        ("the answer is complete", SERVER, false, vec![]),
    ] {
        let mut world = world_of(agent(), kind, running);
        world.caller_speaks(1_000);
        assert_eq!((world.ducks(), world.clears()), (vec![(1_700, true)], vec![2_000]), "{name}");
        assert_eq!(commands(&world), [more, vec![truncate(500)]].concat(), "{name}");
        let expected = BargeIns { hushed: 1, went_on: 0, stopped: 1 };
        assert_eq!(barge_ins(world), expected, "{name}");
    }
}

#[test]
fn the_turn_of_who_interrupts_is_told_from_his_first_word() {
    let mut world = world(LOCAL);
    world.caller_speaks(1_000); // Until 2,700.
    world.run(1_000);
    assert_eq!(
        world.told(),
        [
            (2_000, &ModelCommand::Cancel),
            (2_000, &ModelCommand::TurnStarted { ago: ms(300) }),
            (2_000, &truncate(500)),
            (3_200, &ModelCommand::TurnEnded),
        ]
    );
}

#[test]
fn sensitivity_says_how_long_he_has_to_go_on() {
    for (sensitivity, kind, stopped) in [
        (1.0, SERVER, vec![1_700]),
        (1.0, LOCAL, vec![1_700]),
        (0.9, LOCAL, vec![1_850]),
        (0.5, SERVER, vec![2_450]),
        (0.2, LOCAL, vec![2_900]),
        (0.0, SERVER, vec![]),
        (0.0, LOCAL, vec![]),
        (0.0, OBEDIENT, vec![]),
    ] {
        let mut world = world_of(sensitive(sensitivity), kind, true);
        world.caller_speaks(1_800);
        assert_eq!(world.clears(), stopped, "{sensitivity}");
        let falls_silent = sensitivity > 0.0 && sensitivity < 1.0;
        assert_eq!(!world.ducks().is_empty(), falls_silent, "{sensitivity}");
    }
}

#[test]
fn an_agent_that_is_never_interrupted_finishes_and_then_listens() {
    let mut world = world_of(sensitive(0.0), LOCAL, false);
    world.run(3_000); // Until 4,700 of 5,200.
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(1_000);
    assert_eq!(world.last_drained(), 5_200);
    assert_eq!(world.told(), [(5_200, &ModelCommand::TurnStarted { ago: ms(500) })]);

    let mut world = world_of(sensitive(0.0), SERVER, true);
    world.model(ModelEvent::SpeechStarted);
    world.run(5_000);
    assert!(world.clears().is_empty());
}

#[test]
fn the_gap_inside_a_word_is_no_end_and_several_sounds_are_one() {
    let mut world = world_of(agent(), SERVER, false);
    let sound = |world: &mut World, heard, quiet: u64| {
        world.run(heard);
        world.run(40);
        world.input(Input::Leg(LegEvent::SpeechPaused { ago: ms(40) }));
        world.run(quiet - 40);
    };
    world.input(Input::Leg(LegEvent::SpeechStarted));
    sound(&mut world, 100, 80); // "uh"
    world.input(Input::Leg(LegEvent::SpeechResumed));
    sound(&mut world, 120, 150); // "huh": 220 ms together.
    assert_eq!(world.ducks(), [(1_700, true), (2_100, false)]);
    assert!(world.clears().is_empty());
    world.input(Input::Leg(LegEvent::SpeechResumed)); // "no": at 2,150
    assert_eq!(world.ducks()[2..], [(2_150, true)]);
    world.run(200);
    assert_eq!(world.clears(), [2_230], "300 ms together");
}

#[test]
fn sounds_that_are_far_apart_are_each_one() {
    let mut world = world_of(agent(), SERVER, false);
    for _ in 0..2 {
        world.caller_speaks(200);
        world.run(1_100);
    }
    assert!(world.clears().is_empty());
    assert_eq!(world.ducks().len(), 4);
}

#[test]
fn what_he_said_in_his_own_turn_does_not_count() {
    let mut world = World::greeted(agent());
    world.caller_speaks(1_000); // Until 2,200, and it is 2,400.
    world.answer(2, 4_000);
    world.run(200);
    world.caller_speaks(200);
    world.run(1_000);
    assert_eq!(world.clears(), [0; 0]);
    assert_eq!(world.ducks(), [(2_600, true), (2_900, false)]);
}

#[test]
fn a_model_that_stops_itself_has_the_last_word() {
    let mut world = world(SERVER);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(150);
    world.model(ModelEvent::SpeechStarted);
    assert_eq!(world.clears(), [1_850]);
    assert_eq!(commands(&world), [truncate(500)], "it knows that it stopped");
    world.run(40);
    world.input(Input::Leg(LegEvent::SpeechPaused { ago: ms(40) }));
    world.run(160);
    world.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
    assert_eq!(world.ducks(), [(1_700, true)], "there is nothing to go on with");
}

#[test]
fn a_model_that_goes_on_only_reports() {
    let mut world = world_of(agent(), OBEDIENT, false);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(150);
    world.model(ModelEvent::SpeechStarted);
    world.run(90);
    world.input(Input::Leg(LegEvent::SpeechPaused { ago: ms(40) }));
    world.run(160);
    world.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
    assert_eq!(world.ducks(), [(1_700, true), (2_000, false)]);
    world.run(300);
    world.model(ModelEvent::SpeechStopped);
    world.model(ModelEvent::CallerText { text: "Uh-huh.".into(), last: true });
    assert!(world.clears().is_empty());
    // Its answer to that is not wanted, and the next one is.
    world.model(ModelEvent::ResponseStarted);
    assert_eq!(commands(&world), [ModelCommand::Cancel]);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
    world.model(ModelEvent::ResponseStarted);
    assert_eq!(commands(&world).len(), 1);
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let transcript = world.outcome().transcript;
    assert_eq!((transcript[0].role, transcript[0].text.as_str()), (Speaker::Caller, "Uh-huh."));
}

#[test]
fn a_model_that_goes_on_is_believed_where_the_leg_hears_nothing() {
    let mut world = world(OBEDIENT);
    world.model(ModelEvent::SpeechStarted);
    world.run(500);
    assert_eq!((world.ducks(), world.clears()), (vec![(1_700, true)], vec![2_000]));
    assert_eq!(commands(&world), [ModelCommand::Cancel, truncate(500)]);
}

#[test]
fn a_model_that_hears_sooner_than_the_leg_only_hushes_the_agent() {
    for (sound, stopped) in [(200, vec![]), (1_000, vec![2_030])] {
        let mut world = world(OBEDIENT);
        world.model(ModelEvent::SpeechStarted);
        world.run(30);
        world.caller_speaks(sound);
        world.run(1_000);
        assert_eq!(world.ducks()[0], (1_700, true));
        assert_eq!(world.clears(), stopped, "{sound}");
    }
    let mut world = world(OBEDIENT);
    world.model(ModelEvent::SpeechStarted);
    world.run(200);
    world.model(ModelEvent::SpeechStopped);
    assert_eq!(world.ducks(), [(1_700, true), (1_900, false)], "nobody ever heard more of it");
}

#[test]
fn an_answer_that_is_owed_is_heard_whatever_was_let_pass() {
    let mut world = world_of(agent(), OBEDIENT, false);
    world.call_tool("t1", "opening_hours", json!({}));
    world.caller_speaks(200);
    world.tool_comes_out("t1", ToolOutcome::Failed("no".into()));
    world.model(ModelEvent::ResponseStarted);
    assert!(!commands(&world).contains(&ModelCommand::Cancel));
}

#[test]
fn his_words_decide_where_they_are_written_down_in_time() {
    for (text, went_on, stopped) in [
        ("Mm-hmm", vec![2_700], vec![]),
        ("Wait, no", vec![], vec![2_000]),
        (" ", vec![], vec![2_450]),
    ] {
        let mut world = world_of(sensitive(0.5), SERVER, false);
        world.input(Input::Leg(LegEvent::SpeechStarted));
        world.run(300);
        world.model(ModelEvent::CallerText { text: text.into(), last: false });
        world.run(640);
        world.input(Input::Leg(LegEvent::SpeechPaused { ago: ms(40) }));
        world.run(300);
        let ends = world.ducks()[1..].iter().map(|(at, _)| *at).collect::<Vec<_>>();
        assert_eq!((ends, world.clears()), (went_on, stopped), "{text}");
    }
    let mut world = world_of(sensitive(0.5), SERVER, false);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(300);
    world.model(ModelEvent::CallerText { text: "Okay,".into(), last: false });
    world.run(1_000);
    assert_eq!(world.clears(), [2_750], "okay, but");
}

#[test]
fn the_late_text_of_his_last_question_decides_nothing() {
    let mut world = World::greeted(agent());
    world.caller_speaks(1_000);
    world.answer(2, 4_000);
    world.run(1_200);
    world.input(Input::Leg(LegEvent::SpeechStarted)); // A cough.
    world.model(ModelEvent::CallerText { text: "Is my bike ready?".into(), last: true });
    assert!(world.clears().is_empty());
}

#[test]
fn an_agent_may_talk_on_until_it_is_stopped() {
    let mut spec = agent();
    spec.interruption.reversible = false;
    for (sound, stopped) in [(200, vec![]), (1_000, vec![2_000])] {
        let mut world = world_of(spec.clone(), LOCAL, true);
        world.caller_speaks(sound);
        assert_eq!((world.ducks(), world.clears()), (vec![], stopped.clone()));
        if !stopped.is_empty() {
            assert!(commands(&world).contains(&truncate(800)), "it was heard all the time");
        }
    }
}

#[test]
fn audio_that_comes_meanwhile_waits_its_turn() {
    let mut world = world(SERVER);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.audio(2, 1_000);
    world.audio(3, 500);
    world.run(90);
    world.input(Input::Leg(LegEvent::SpeechPaused { ago: ms(40) }));
    world.run(10_000);
    assert_eq!(world.last_drained(), 1_200 + 4_000 + 150 + 1_500);
}

#[test]
fn at_the_very_end_of_an_item_the_rest_is_still_heard() {
    let mut world = world_of(agent(), LOCAL, false);
    world.run(3_490); // 10 ms are left.
    world.caller_speaks(200);
    world.run(5_000);
    assert_eq!(world.last_drained(), 5_200 + 300);
    assert!(world.told().is_empty() && world.prompts().is_empty(), "{:?}", world.log);
}

#[test]
fn while_a_tool_runs_its_answer_is_still_waited_for() {
    let mut world = world_of(agent(), SERVER, false);
    world.call_tool("t1", "opening_hours", json!({}));
    world.caller_speaks(250);
    world.run(5_000);
    world.tool_comes_out("t1", ToolOutcome::Failed("no".into()));
    assert_eq!(world.ducks().len(), 2);
    assert_eq!(world.results().len(), 1);
    world.run(1_600);
    assert_eq!(world.prompts().len(), 1, "he waits for it");
}

#[test]
fn on_hold_nothing_is_heard_and_afterwards_the_agent_goes_on() {
    let mut world = world_of(agent(), SERVER, false);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(50);
    world.signal(SignalEvent::Held(true));
    world.run(40);
    world.input(Input::Leg(LegEvent::SpeechPaused { ago: ms(40) }));
    world.run(2_000);
    assert_eq!(world.ducks(), [(1_700, true), (1_850, false)]);
    world.signal(SignalEvent::Held(false));
    let back = world.clock();
    world.run(10_000);
    assert_eq!(world.last_drained(), back + 3_500);
}

#[test]
fn a_leg_does_not_stay_silent_whatever_comes_between() {
    let cases: [(&str, Happening); 4] = [
        ("the call ends politely", |world| world.input(Input::Drain)),
        ("end_call", |world| {
            world.call_tool("t1", "end_call", json!({ "reason": "caller_goodbye" }));
        }),
        ("the model is lost", |world| {
            world.lose_model(Reaction::GiveUp);
            world.run(90);
            world.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
        }),
        ("the caller is handed over", |world| {
            world.call_tool("t1", "transfer_to_human", json!({ "reason": "billing" }));
            world.input(Input::Leg(LegEvent::SpeechPaused { ago: ms(40) }));
            world.run(100);
        }),
    ];
    for (name, happens) in cases {
        let mut world = world_of(agent(), SERVER, false);
        world.input(Input::Leg(LegEvent::SpeechStarted));
        assert!(world.is_still(), "{name}");
        happens(&mut world);
        assert!(!world.is_still(), "{name}: {:?}", world.log);
        let from = world.clock();
        world.run(5_000);
        assert!(world.last_drained() > from, "{name}");
    }
}

#[test]
fn a_lead_out_that_is_hushed_is_heard_to_its_end() {
    let mut world = world_of(agent(), SERVER, false);
    world.call_tool("t1", "transfer_to_human", json!({ "reason": "billing" }));
    world.caller_speaks(250);
    world.run(10_000);
    let transfers =
        world.times(|output| matches!(output, Output::Signal(SignalCommand::Transfer { .. })));
    assert_eq!(transfers, [5_200 + 350]);
}

#[test]
fn who_hangs_up_meanwhile_heard_what_was_played_before() {
    let mut world = world_of(agent(), SERVER, false);
    world.model(ModelEvent::AgentText { item: ItemId(2), text: "one two three four".into() });
    world.run(1_500); // Half of it.
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(250);
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let turn = world.outcome().transcript.pop().unwrap();
    assert_eq!((turn.text.as_str(), turn.text_unheard.as_deref()), ("one two", Some("three four")));
}

#[test]
fn keys_are_told_as_ever() {
    let mut world = world(SERVER);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.input(Input::Leg(LegEvent::Digit(Digit::new('#').unwrap())));
    assert_eq!(world.told(), [(1_700, &ModelCommand::Digits("#".into()))]);
}

#[test]
fn a_leg_that_reports_no_pauses_is_believed_until_it_reports_silence() {
    let mut world = world_of(agent(), SERVER, false);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(250);
    world.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
    assert_eq!(world.ducks(), [(1_700, true), (1_950, false)]);
    assert!(world.clears().is_empty());
}

#[test]
fn the_first_sound_is_enough_for_an_agent_of_full_sensitivity() {
    let mut world = world_of(at_the_first_sound(), SERVER, true);
    world.caller_speaks(60);
    assert_eq!((world.ducks(), world.clears()), (vec![], vec![1_700]));
}
