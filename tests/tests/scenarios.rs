//! Every story of `tandem-sim` as a whole call, one test each.
//!
//! What a story is about stands in its title; what must come of it in its `expect`. On top of that every call is held to
//! the rules of [`Finished::broken_rules`](tandem_tests::Finished::broken_rules).

use std::collections::BTreeSet;

use tandem_sim::{Action, Answer, CallerStep, Expect, Heard, Script, Trigger, scenarios};
use tandem_tests::{Finished, play};

macro_rules! stories {
    ($module:ident: $($name:ident = $id:literal,)*) => {
        mod $module {
            pub(super) const IDS: &[&str] = &[$($id),*];
            $(
                #[test]
                fn $name() {
                    super::play_by_id($id);
                }
            )*
        }
    };
}

fn play_by_id(id: &str) {
    let scenario = scenarios::by_id(id).unwrap_or_else(|| panic!("there is no story {id}"));
    play(&scenario);
}

stories! { gemini:
    g01 = "G01",
    g01b = "G01b",
    g01c = "G01c",
    g02 = "G02",
    g03 = "G03",
    g04a = "G04a",
    g04b = "G04b",
    g04c = "G04c",
    g05 = "G05",
    g06a = "G06a",
    g06b = "G06b",
    g06c = "G06c",
    g06d = "G06d",
    g07a = "G07a",
    g07b = "G07b",
    g08a = "G08a",
    g08b = "G08b",
    g09a = "G09a",
    g09b = "G09b",
    g09c = "G09c",
    g09d = "G09d",
    g10 = "G10",
    g10a = "G10a",
    g10b = "G10b",
    g10c = "G10c",
    g10d = "G10d",
    g10e = "G10e",
    g10f = "G10f",
    g10g = "G10g",
    g10h = "G10h",
    g10i = "G10i",
    g11a_answer = "G11a-answer",
    g11a_idle = "G11a-idle",
    g11a_setup = "G11a-setup",
    g11a_tool = "G11a-tool",
    g11b_answer = "G11b-answer",
    g11b_idle = "G11b-idle",
    g11b_setup = "G11b-setup",
    g11b_tool = "G11b-tool",
    g11c_answer = "G11c-answer",
    g11c_idle = "G11c-idle",
    g11c_setup = "G11c-setup",
    g11c_tool = "G11c-tool",
    g11d_answer = "G11d-answer",
    g11d_idle = "G11d-idle",
    g11d_setup = "G11d-setup",
    g11d_tool = "G11d-tool",
    g12_401 = "G12-401",
    g12_403 = "G12-403",
    g12_404 = "G12-404",
    g12_429 = "G12-429",
    g12_503 = "G12-503",
    g12_refused = "G12-refused",
    g12_setup = "G12-setup",
    g12_upgrade = "G12-upgrade",
    g13a = "G13a",
    g13b = "G13b",
    g14a = "G14a",
    g14b = "G14b",
    g15 = "G15",
    g16a = "G16a",
    g16b = "G16b",
    g17 = "G17",
    g18 = "G18",
    g19a = "G19a",
    g19b = "G19b",
    g20 = "G20",
    g21a = "G21a",
    g21b = "G21b",
    g21c = "G21c",
    g21d = "G21d",
    g22 = "G22",
    g23a = "G23a",
    g23b = "G23b",
    g23c = "G23c",
    g24 = "G24",
    g25a = "G25a",
    g25b = "G25b",
    g25c = "G25c",
    g25d = "G25d",
    g25e = "G25e",
    g25f = "G25f",
    g25g = "G25g",
    g26a = "G26a",
    g26b = "G26b",
    g27 = "G27",
    g28 = "G28",
}

stories! { openai:
    o01 = "O01",
    o02a = "O02a",
    o02b = "O02b",
    o02c = "O02c",
    o03 = "O03",
    o03a = "O03a",
    o03b = "O03b",
    o03c = "O03c",
    o03d = "O03d",
    o03e = "O03e",
    o03f = "O03f",
    o03g = "O03g",
    o03h = "O03h",
    o03i = "O03i",
    o04a = "O04a",
    o04b = "O04b",
    o05a = "O05a",
    o05b = "O05b",
    o06 = "O06",
    o07 = "O07",
    o08 = "O08",
    o09a = "O09a",
    o09b = "O09b",
    o10a_answer = "O10a-answer",
    o10a_idle = "O10a-idle",
    o10a_tool = "O10a-tool",
    o10b_answer = "O10b-answer",
    o10b_idle = "O10b-idle",
    o10b_tool = "O10b-tool",
    o10c_answer = "O10c-answer",
    o10c_idle = "O10c-idle",
    o10c_tool = "O10c-tool",
    o11a = "O11a",
    o11b = "O11b",
    o11c = "O11c",
    o11d = "O11d",
    o12a = "O12a",
    o12b = "O12b",
    o13a = "O13a",
    o13b = "O13b",
    o14 = "O14",
    o15 = "O15",
    o16 = "O16",
    o17a = "O17a",
    o17b = "O17b",
    o17c = "O17c",
    o17d = "O17d",
    o17e = "O17e",
    o18 = "O18",
    o19a = "O19a",
    o19b = "O19b",
    o20 = "O20",
    o21a = "O21a",
    o21b = "O21b",
    o22a = "O22a",
    o22b = "O22b",
    o23a = "O23a",
    o23b = "O23b",
    o23c = "O23c",
    o24 = "O24",
}

#[test]
fn no_story_is_left_out() {
    let all = || scenarios::gemini().into_iter().chain(scenarios::openai());
    let told: BTreeSet<String> = all().map(|story| story.id).collect();
    let played = gemini::IDS.iter().chain(openai::IDS);
    assert_eq!(told, played.map(|&id| id.to_owned()).collect());
}

/// O15 with `script` and another caller, who hangs up at the end.
fn marked(script: Script, caller: &[CallerStep], expect: Expect) -> Finished {
    let mut story = scenarios::by_id("O15").expect("it is there");
    story.title = "turns marked by the client, otherwise".into();
    story.connections = vec![script];
    story.caller = [caller, &[CallerStep::HangUp]].concat();
    story.expect = expect;
    play(&story)
}

#[test]
fn a_caller_interrupts_a_model_that_is_told_of_turns() {
    let answer = |ms| -> [Action; 1] { [Answer::of_ms(ms).saying(["Yes."]).into()] };
    let script = Script::new().on_nth(1, Trigger::Text, answer(8_000)).on_nth(
        2,
        Trigger::Text,
        answer(1_000),
    );
    let heard = |answer, ms| Heard { connection: 0, answer, ms };
    let expect = Expect {
        heard: vec![heard(1, 1_100..=1_400), heard(2, 1_000..=1_000)],
        truncates: 1,
        response_creates: Some(2),
        ..Expect::default()
    };
    use CallerStep::{Silence, Speech};
    marked(
        script,
        &[Silence(200), Speech(1_000), Silence(1_700), Speech(1_000), Silence(3_000)],
        expect,
    );
}

#[test]
fn a_click_is_no_turn_that_a_model_is_told_of() {
    let expect = Expect { response_creates: Some(0), ..Expect::default() };
    use CallerStep::{Silence, Speech};
    let call = marked(Script::new(), &[Silence(1_000), Speech(60), Silence(3_000)], expect);
    let told = ["clear", "commit"].map(|it| call.sent(&format!("input_audio_buffer.{it}")));
    assert_eq!(told, [0, 0]);
}
