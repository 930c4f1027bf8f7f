//! The caller waits.

use serde_json::json;

use super::world::{PROMPT, World, agent, ms};
use crate::{
    Digit, Input, LegEvent, ModelCommand, ModelEvent, Prompt, ResponseEnd, SignalEvent, ToolOutcome,
};

#[test]
fn a_slow_answer_is_announced() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.run(2_900);
    assert_eq!(world.prompts(), [(3_400, Prompt::OneMoment)]);
    world.answer(2, 1_000);
    world.run(10_000);
    assert_eq!(world.prompts().len(), 1);
    assert!(world.said().is_empty());
}

#[test]
fn a_caller_who_waits_is_spoken_to_again_and_again() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.run(30_000); // No model ever answers.
    let prompts = world.prompts();
    let second = 3_400 + PROMPT + 1_800;
    assert_eq!(prompts[..2], [(3_400, Prompt::OneMoment), (second, Prompt::Trouble)]);
    let goodbye = prompts.iter().position(|(_, prompt)| *prompt == Prompt::Goodbye).unwrap();
    for pair in prompts[..goodbye].windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, PROMPT + 1_800, "{prompts:?}");
        assert!(pair[1].1 != Prompt::Trouble || pair[1].0 == second, "said once: {prompts:?}");
    }
    assert_eq!(world.opened(), [(7_400, 1, false), (12_900, 2, true)]);
}

#[test]
fn a_model_that_comes_back_does_not_make_the_caller_wait_longer() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.lose_model(crate::Reaction::Retry { after: ms(1_000) });
    world.run(3_000);
    assert_eq!(world.prompts(), [(3_400, Prompt::Trouble)]);
    world.lose_model(crate::Reaction::GiveUp);
    world.model(ModelEvent::Ready); // It is asked to go on.
    world.run(2_000);
    assert_eq!(world.prompts()[1..], [(3_400 + PROMPT + 1_800, Prompt::OneMoment)]);
}

#[test]
fn silence_where_nothing_is_owed_is_fine() {
    let mut world = World::greeted(agent());
    world.run(50_000);
    assert!(world.log.is_empty());
}

#[test]
fn a_click_asks_nothing() {
    let mut world = World::greeted(agent());
    world.caller_speaks(100);
    world.run(30_000);
    assert!(world.log.is_empty());
}

#[test]
fn a_model_that_greets_too_late_is_excused() {
    let mut world = World::ringing(agent());
    world.model(ModelEvent::Ready);
    world.run(1_600);
    assert_eq!(world.prompts(), [(1_500, Prompt::OneMoment)]);
}

#[test]
fn a_model_that_says_nothing_at_all_is_replaced() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500); // Until 1,900.
    world.run(6_000);
    assert_eq!(world.said().len(), 1, "it was reminded before");
    assert_eq!(world.said()[0].0, 4_900);
    assert_eq!(world.opened(), [(7_400, 1, false)]);
    world.log.clear();
    world.model(ModelEvent::Ready);
    assert_eq!(world.said().len(), 1, "the new one is asked to go on");
}

#[test]
fn a_caller_who_asks_again_does_not_save_a_dead_model() {
    let mut world = World::greeted(agent());
    for _ in 0..3 {
        world.caller_speaks(500);
        world.run(2_500);
    }
    assert_eq!(world.opened().len(), 1);
}

#[test]
fn a_long_speech_is_not_a_stall() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    world.run(300);
    world.caller_speaks(30_000);
    world.run(300);
    world.answer(2, 500);
    assert!(world.opened().is_empty());
    assert!(world.prompts().is_empty());
}

#[test]
fn a_dropped_turn_is_nudged_once() {
    type Drop = fn(&mut World);
    let cases: [(&str, Drop); 4] = [
        ("empty answer", |world| {
            world.caller_speaks(500);
            world.model(ModelEvent::ResponseStarted);
            world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        }),
        ("phantom interrupt", |world| {
            world.model(ModelEvent::ResponseStarted);
            world.audio(2, 4_000);
            world.run(700);
            world.model(ModelEvent::SpeechStarted);
            world.model(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
        }),
        ("noise", |world| {
            world.model(ModelEvent::SpeechStarted);
            world.model(ModelEvent::SpeechStopped);
        }),
        ("failed answer", |world| {
            world.caller_speaks(500);
            world.model(ModelEvent::ResponseStarted);
            world.model(ModelEvent::ResponseEnded(ResponseEnd::Failed("rate limit".into())));
        }),
    ];
    for (name, drop) in cases {
        let mut world = World::greeted(agent());
        drop(&mut world);
        let dropped = world.clock();
        world.run(3_500);
        let said: Vec<_> = world.said().iter().map(|(at, _)| *at).collect();
        assert_eq!(said, [dropped + 3_000], "{name}");
        world.model(ModelEvent::ResponseStarted);
        world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        world.run(4_000);
        assert_eq!(world.said().len(), 1, "{name}: nudged twice");
    }
}

#[test]
fn a_model_that_fails_again_after_the_nudge_is_replaced() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    let failed = || ModelEvent::ResponseEnded(ResponseEnd::Failed("server_error".into()));
    world.model(ModelEvent::ResponseStarted);
    world.model(failed());
    world.run(3_000);
    world.model(ModelEvent::ResponseStarted);
    world.model(failed());
    assert_eq!(world.opened().len(), 1);
}

#[test]
fn a_running_tool_is_no_stall_but_no_dead_air_either() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    world.call_tool("t1", "find_repair", json!({ "order": "B-17" }));
    world.run(8_900);
    let said = |at| (at, Prompt::OneMoment);
    assert_eq!(world.prompts(), [said(3_400), said(6_200), said(9_000)]);
    assert!(world.opened().is_empty());
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({ "status": "ready" })));
    world.run(1_600);
    assert_eq!(world.prompts()[3..], [said(11_800)], "the tool was not to blame");
}

#[test]
fn an_answer_that_breaks_off_is_noticed() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_000);
    let drained = world.clock() + 1_000;
    world.run(2_600);
    assert_eq!(world.prompts(), [(drained + 1_500, Prompt::OneMoment)]);
    world.run(5_500);
    assert_eq!(world.opened(), [(drained + 5_500, 1, false)]);
}

#[test]
fn an_answer_that_only_hesitates_is_not_spoken_over() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.audio(2, 1_000);
    world.run(2_000);
    world.audio(2, 1_000);
    world.run(1_100);
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    world.run(5_000);
    assert!(world.prompts().is_empty());
}

#[test]
fn nobody_is_told_to_wait_on_hold() {
    let mut world = World::greeted(agent());
    world.caller_speaks(500);
    world.signal(SignalEvent::Held(true));
    world.run(30_000);
    assert!(world.prompts().is_empty());
    assert!(world.opened().is_empty());
    world.signal(SignalEvent::Held(false));
    world.run(1_500 + PROMPT);
    assert_eq!(world.prompts().len(), 1);
}

fn press(world: &mut World, digits: &str) {
    for digit in digits.chars() {
        world.input(Input::Leg(LegEvent::Digit(Digit::new(digit).unwrap())));
        world.run(300);
    }
}

fn digits_told(world: &World) -> Vec<(u64, &str)> {
    let told = world.told().into_iter().filter_map(|(at, command)| match command {
        ModelCommand::Digits(digits) => Some((at, digits.as_str())),
        _ => None,
    });
    told.collect()
}

#[test]
fn digits_come_in_groups() {
    let mut world = World::greeted(agent());
    press(&mut world, "123");
    world.signal(SignalEvent::Digit(Digit::new('4').unwrap()));
    world.run(2_000);
    assert_eq!(digits_told(&world), [(1_200 + 900 + 1_200, "1234")]);
    world.log.clear();
    press(&mut world, "56#");
    assert_eq!(digits_told(&world).iter().map(|(_, digits)| *digits).collect::<Vec<_>>(), ["56#"]);
}

#[test]
fn a_digit_by_info_after_its_group_is_the_same_key() {
    let mut world = World::greeted(agent());
    press(&mut world, "5");
    world.run(1_500); // The key is held for longer than a group waits.
    world.signal(SignalEvent::Digit(Digit::new('5').unwrap()));
    world.run(2_000);
    assert_eq!(digits_told(&world), [(1_200 + 1_200, "5")]);
}

#[test]
fn digits_come_one_by_one_to_a_model_that_takes_them() {
    let mut world = World::greeted_by(agent(), |it| it.takes_digits = true);
    press(&mut world, "12");
    assert_eq!(digits_told(&world), [(1_200, "1"), (1_500, "2")]);
}

#[test]
fn digits_wait_for_a_model_that_is_gone() {
    let mut world = World::greeted(agent());
    world.lose_model(crate::Reaction::Retry { after: ms(3_000) });
    press(&mut world, "42");
    world.run(4_000);
    assert!(digits_told(&world).is_empty());
    world.model(ModelEvent::Ready);
    assert_eq!(digits_told(&world).len(), 1);
}

#[test]
fn a_caller_who_hears_a_long_sentence_does_not_wait() {
    let mut world = World::greeted(agent());
    world.model(ModelEvent::ResponseStarted);
    world.speak(2, 9_000, "A long sentence, and a tool at its end.");
    world.call_tool("t1", "find_repair", json!({ "order": "B-17" }));
    world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
    world.run(9_000);
    assert!(world.opened().is_empty(), "the model is not given up while it is heard");
}

#[test]
fn a_model_that_says_it_all_with_the_call_owes_nothing_after_the_result() {
    for (name, owes) in [("answers results", true), ("does not", false)] {
        let mut world =
            World::greeted_by(agent(), |capabilities| capabilities.answers_results = owes);
        world.model(ModelEvent::ResponseStarted);
        world.speak(2, 1_000, "Noted.");
        world.call_tool("t1", "find_repair", json!({ "order": "B-17" }));
        world.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        world.tool_comes_out("t1", ToolOutcome::Answered(json!({})));
        world.run(20_000);
        assert_eq!(world.prompts().is_empty(), !owes, "{name}");
        assert_eq!(world.opened().is_empty(), !owes, "{name}");
    }
}
