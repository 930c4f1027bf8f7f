//! Sessions that end, models that fail.

use serde_json::json;

use super::world::{PROMPT, World, agent, ms};
use crate::{
    EndReason, HangupCause, HistoryTurn, Input, LegEvent, ModelCommand, ModelEvent, Output, Prompt,
    Reaction, ResponseEnd, SignalEvent, Speaker, ToolOutcome, Usage,
};

fn renewals(world: &World) -> Vec<u64> {
    world.times(|output| matches!(output, Output::Model(ModelCommand::Renew { .. })))
}

#[test]
fn an_expiring_session_is_replaced_in_a_quiet_moment() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.speak(2, 3_000, "Your bike is ready.");
    world.call_tool("t1", "opening_hours", json!({}));
    world.model(ModelEvent::ExpiresIn(ms(20_000)));
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    world.run(4_000);
    assert!(renewals(&world).is_empty(), "a tool is open");
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
    assert!(renewals(&world).is_empty(), "an answer is owed");
    world.answer(3, 1_000);
    assert!(renewals(&world).is_empty(), "it plays");
    world.run(1_480);
    assert!(renewals(&world).is_empty(), "the rest of the turn may still come");
    world.run(20);
    assert_eq!(renewals(&world), [6_700]);
    let Some((_, ModelCommand::Renew { history })) = world.told().last().copied() else {
        panic!("{:?}", world.told());
    };
    let text = "Your bike is ready.".to_owned();
    assert_eq!(history[..], [HistoryTurn { speaker: Speaker::Agent, text }]);
    world.log.clear();
    world.model(ModelEvent::Ready);
    world.run(30_000);
    assert!(world.log.is_empty(), "nobody notices");
}

#[test]
fn a_session_that_finds_no_quiet_moment_is_replaced_before_it_ends() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ExpiresIn(ms(0))); // No time is left: at once.
    assert_eq!(renewals(&world), [1_200]);
    world.model(ModelEvent::Ready);
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.model(ModelEvent::ExpiresIn(ms(5_000)));
    world.run(6_000);
    assert_eq!(renewals(&world), [1_200, 5_200]);
}

#[test]
fn a_lost_session_is_dialled_again_and_goes_on() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.lose_model(Reaction::Retry { after: ms(400) });
    world.run(2_000);
    assert_eq!(renewals(&world), [2_300]);
    assert_eq!(world.prompts(), [(3_400, Prompt::Trouble)]);
    world.model(ModelEvent::Ready);
    assert_eq!(world.said().len(), 1);
    assert!(!world.told().iter().any(|(_, told)| matches!(told, ModelCommand::Greet(_))));
}

#[test]
fn a_session_lost_in_silence_comes_back_in_silence() {
    let mut world = World::greeted(agent());
    world.lose_model(Reaction::Retry { after: ms(300) });
    world.run(800);
    world.model(ModelEvent::Ready);
    world.run(10_000);
    assert!(world.said().is_empty() && world.prompts().is_empty());
}

#[test]
fn what_the_caller_said_to_nobody_is_made_up_for() {
    let mut world = World::greeted(agent());
    world.lose_model(Reaction::Retry { after: ms(300) });
    world.caller_speaks(500);
    world.model(ModelEvent::Ready);
    assert_eq!(world.said().len(), 1);
}

#[test]
fn what_was_received_is_played_out_and_can_be_cut() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 5_000);
    world.lose_model(Reaction::GiveUp);
    world.run(2_000);
    assert!(world.clears().is_empty() && world.prompts().is_empty());
    world.input(Input::Leg(LegEvent::SpeechStarted));
    world.run(1_000);
    assert_eq!(world.clears(), [3_500], "the leg cuts while no model listens");
    assert!(world.told().is_empty(), "the new model knows nothing of it");
}

#[test]
fn a_new_model_is_not_told_of_words_it_never_said() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 5_000);
    world.lose_model(Reaction::GiveUp);
    world.model(ModelEvent::Ready);
    world.run(2_000);
    world.model(ModelEvent::SpeechStarted);
    assert_eq!(world.clears(), [3_200]);
    assert!(matches!(world.told()[..], [(1_200, ModelCommand::Say(_))]), "{:?}", world.told());
}

#[test]
fn three_renewals_a_minute_and_then_the_next_model() {
    let mut world = World::greeted(agent());
    for _ in 0..3 {
        world.lose_model(Reaction::Retry { after: ms(1_000) });
        world.run(1_000);
        world.model(ModelEvent::Ready);
    }
    assert_eq!(renewals(&world).len(), 3);
    world.lose_model(Reaction::Retry { after: ms(1_000) });
    assert_eq!(world.opened(), [(4_200, 1, false)]);
}

#[test]
fn renewals_are_counted_for_a_minute() {
    let mut world = World::greeted(agent());
    for _ in 0..6 {
        world.lose_model(Reaction::Retry { after: ms(1_000) });
        world.run(1_000);
        world.model(ModelEvent::Ready);
        world.answer(renewals(&world).len() as u64 + 10, 500);
        world.run(24_000);
    }
    assert_eq!(renewals(&world).len(), 6);
    assert!(world.opened().is_empty());
}

#[test]
fn a_session_that_may_not_be_dialled_again_soon_is_left() {
    let mut world = World::greeted(agent());
    world.lose_model(Reaction::Retry { after: ms(20_000) });
    world.run(6_000);
    assert_eq!(world.opened(), [(1_200 + 5_500, 1, false)]);
    assert!(renewals(&world).is_empty());
}

#[test]
fn one_redial_that_fails_is_enough() {
    let mut world = World::greeted(agent());
    world.lose_model(Reaction::Retry { after: ms(400) });
    world.run(700);
    world.lose_model(Reaction::Retry { after: ms(100) });
    assert_eq!(renewals(&world), [1_600]);
    assert_eq!(world.opened(), [(1_900, 1, false)]);
    world.model(ModelEvent::Ready);
    world.lose_model(Reaction::Retry { after: ms(400) });
    world.run(700);
    assert_eq!(renewals(&world), [1_600, 2_300], "the next model has its own");
}

#[test]
fn a_redial_that_hangs_is_given_up() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.lose_model(Reaction::Retry { after: ms(400) });
    world.run(3_000);
    assert_eq!(renewals(&world), [2_300]);
    assert_eq!(world.opened(), [(4_300, 1, false)]);
}

#[test]
fn behind_the_last_model_stands_the_attendant_and_behind_him_a_goodbye() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.lose_model(Reaction::GiveUp);
    world.lose_model(Reaction::GiveUp);
    assert_eq!(world.opened(), [(1_900, 1, false), (1_900, 2, true)]);
    world.model(ModelEvent::Ready);
    world.answer(2, 500);
    world.run(1_000);
    world.lose_model(Reaction::GiveUp);
    let outcome = world.outcome();
    assert_eq!(outcome.end_reason, EndReason::ModelError);
    assert_eq!(outcome.models, ["first", "attendant"]);
    assert_eq!(outcome.model_failures.len(), 3);
    assert_eq!(world.prompts(), [(2_900, Prompt::Goodbye)]);
    assert_eq!(world.hang_ups(), [2_900 + PROMPT]);
}

#[test]
fn a_greeting_nobody_heard_is_asked_for_again_in_words() {
    let mut world = World::ringing(agent());
    world.model(ModelEvent::Ready);
    world.lose_model(Reaction::GiveUp);
    world.model(ModelEvent::Ready);
    let greetings = world.told().into_iter().filter(|(_, it)| matches!(it, ModelCommand::Greet(_)));
    assert_eq!(greetings.count(), 1);
    let [(_, text)] = world.said()[..] else { panic!("{:?}", world.said()) };
    assert!(text.contains("Hello."), "{text}");
}

#[test]
fn a_session_that_never_gets_ready_is_given_up() {
    let mut world = World::greeted(agent());
    world.lose_model(Reaction::GiveUp);
    world.signal(SignalEvent::Held(true)); // No answer is owed to a caller on hold.
    world.run(10_000);
    assert_eq!(world.opened(), [(1_200, 1, false), (11_200, 2, true)]);
}

#[test]
fn history_holds_what_was_heard() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    world.model(ModelEvent::CallerText { text: "Hello?".into(), last: true });
    world.model(ModelEvent::ResponseStarted);
    world.speak(2, 2_000, "one two three four");
    world.run(1_000);
    world.model(ModelEvent::SpeechStarted);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
    world.lose_model(Reaction::GiveUp);
    let Some((_, Output::OpenModel { history, .. })) = world.log.last() else {
        panic!("{:?}", world.log);
    };
    let lines: Vec<_> = history.iter().map(|turn| (turn.speaker, turn.text.as_str())).collect();
    assert_eq!(lines, [(Speaker::Caller, "Hello?"), (Speaker::Agent, "one two")]);
}

#[test]
fn usage_is_summed_over_all_sessions() {
    let mut world = World::greeted(agent());
    let usage = Usage { input_tokens: 40, output_tokens: 30, ..Usage::default() };
    world.model(ModelEvent::Usage(usage));
    world.lose_model(Reaction::GiveUp);
    world.model(ModelEvent::Ready);
    world.model(ModelEvent::Usage(usage));
    world.model(ModelEvent::Usage(Usage { input_tokens: u64::MAX, ..Usage::default() }));
    world.signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    let sum = world.outcome().usage;
    assert_eq!((sum.input_tokens, sum.output_tokens), (u64::MAX, 60));
}
