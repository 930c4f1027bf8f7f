use super::*;
use crate::script::ScriptTurn;

fn script() -> Script {
    let says = |say: &str| ScriptTurn { say: Some(say.into()), ..ScriptTurn::default() };
    let look_up = ToolAction {
        name: "look_up".into(),
        arguments: Map::from_iter([
            ("who".into(), json!("{{caller_name}}")),
            ("what".into(), json!("{{speech}}")),
        ]),
    };
    Script {
        greeting: "Hello {{caller_name}}. How can I help?".into(),
        turns: vec![
            says("First."),
            ScriptTurn { say: Some("Third, by number.".into()), turn: Some(3), tool: None },
            ScriptTurn { say: Some("Let me see.".into()), tool: Some(look_up), turn: None },
            says("Last."),
        ],
        fallback: vec!["Again?".into(), "Pardon?".into()],
        digits: BTreeMap::from([(
            Digit::new('1').unwrap(),
            DigitAction { say: Some("We open at nine.".into()), tool: None },
        )]),
        unknown_digit: "No such key.".into(),
        goodbye: "Goodbye.".into(),
        transfer: "Connecting.".into(),
        transfer_failed: "Nobody is there.".into(),
        trouble: "That failed.".into(),
        silence_prompt: "Still there?".into(),
        apology: "Sorry.".into(),
        message_taken: "Noted.".into(),
        go_on: "Go on.".into(),
        ..Script::default()
    }
}

fn dialogue(change: impl FnOnce(&mut DialogueSpec)) -> Dialogue {
    let mut spec = DialogueSpec {
        script: Arc::new(script()),
        variables: BTreeMap::from([("caller_name".to_owned(), "Ana".to_owned())]),
        tools: vec!["look_up".into()],
        apologise: false,
        turns_before: 0,
        call_prefix: "call".into(),
    };
    change(&mut spec);
    Dialogue::new(spec)
}

/// One step of a story: what happens, and what is said about it; a tool call is written after `+`.
type Step = (Happening, &'static str);

fn turn() -> Happening {
    Happening::Turn { length: Duration::from_millis(1_400) }
}

fn digit(digit: char) -> Happening {
    Happening::Digit(Digit::new(digit).unwrap())
}

fn say(text: &str) -> Happening {
    Happening::Say(text.into())
}

fn result(call: u32, result: Value) -> Happening {
    outcome(call, ToolOutcome::Answered(result))
}

fn outcome(call: u32, outcome: ToolOutcome) -> Happening {
    Happening::ToolResult { id: ToolCallId(format!("call-{call}")), outcome }
}

fn own_words() -> Happening {
    Happening::Greet(Greet::Instruction("Greet the caller.".into()))
}

fn shown(answer: Option<Answer>) -> String {
    let Some(answer) = answer else { return String::new() };
    let mut shown: Vec<String> =
        answer.sentences.into_iter().map(|sentence| sentence.text).collect();
    shown.extend(answer.echo.then(|| "(echo)".to_owned()));
    if let Some(ToolCall { name, arguments, .. }) = answer.tool {
        shown.push(format!("+{name}{}", arguments.unwrap()));
    }
    shown.join(" ")
}

fn tell(name: &str, dialogue: &mut Dialogue, steps: Vec<Step>) {
    for (n, (happening, expected)) in steps.into_iter().enumerate() {
        let context = format!("{name}, step {n}: {happening:?}");
        assert_eq!(shown(dialogue.handle(happening)), expected, "{context}");
    }
}

const GOODBYE: &str = r#"Goodbye. +end_call{"reason":"caller_goodbye"}"#;
const NO_RESPONSE: &str = r#"Goodbye. +end_call{"reason":"no_response"}"#;
const CONNECTING: &str = r#"Connecting. +transfer_to_human{"reason":"The caller pressed 0."}"#;
const LOOK_UP: &str = r#"Let me see. +look_up{"what":"[speech 1.4 s]","who":"Ana"}"#;

#[test]
fn conversations_take_their_course() {
    let stories: Vec<(&str, Vec<Step>)> = vec![
        (
            "turns in order, by number, then the fallbacks",
            vec![
                (own_words(), "Hello Ana. How can I help?"),
                (turn(), "First."),
                (turn(), LOOK_UP),
                (turn(), "Third, by number."),
                (turn(), "Last."),
                (turn(), "Again?"),
                (turn(), "Pardon?"),
                (turn(), "Again?"),
            ],
        ),
        (
            "the exact greeting",
            vec![(
                Happening::Greet(Greet::Exactly("Good day, {{x}}. Yes?".into())),
                "Good day. Yes?",
            )],
        ),
        (
            "digits",
            vec![
                (digit('1'), "We open at nine."),
                (digit('2'), "No such key."),
                (digit('#'), GOODBYE),
                (result(1, json!({"status": "ending"})), ""),
                (turn(), ""),
                (digit('0'), ""),
                (Happening::Silence, ""),
            ],
        ),
        (
            "a taken back goodbye",
            vec![
                (digit('#'), GOODBYE),
                (say("The caller spoke: the call goes on."), "Go on."),
                (turn(), "First."),
            ],
        ),
        (
            "a goodbye that was not followed",
            vec![(digit('#'), GOODBYE), (Happening::StillConnected, ""), (turn(), "First.")],
        ),
        (
            "a goodbye that was refused",
            vec![
                (digit('#'), GOODBYE),
                (outcome(1, ToolOutcome::Failed("no".into())), "Go on."),
                (turn(), "First."),
            ],
        ),
        (
            "a transfer that fails on the way",
            vec![
                (digit('0'), CONNECTING),
                (result(1, json!({"status": "transferring", "message": "Say goodbye."})), ""),
                (turn(), ""),
                (Happening::Silence, ""),
                (say("Busy."), "Nobody is there."),
                (turn(), "Noted."),
                (turn(), "Noted."),
                (digit('#'), r##"Goodbye. +end_call{"reason":"caller_goodbye"}"##),
            ],
        ),
        (
            "a transfer to nowhere",
            vec![
                (digit('0'), CONNECTING),
                (
                    result(1, json!({"status": "unavailable", "message": "No target."})),
                    "Nobody is there.",
                ),
                (turn(), "Noted."),
            ],
        ),
        (
            "a failed transfer of somebody else",
            vec![(say("(The transfer did not succeed: busy.)"), "Nobody is there.")],
        ),
        (
            "tools that answer, stay silent, fail",
            vec![
                (turn(), "First."),
                (turn(), LOOK_UP),
                (
                    result(1, json!({"message": "It is {{ready}}. Really."})),
                    "It is {{ready}}. Really.",
                ),
                (result(1, json!({"message": "Twice."})), ""),
                (result(7, json!({"message": "Unknown."})), ""),
            ],
        ),
        (
            "a tool without words",
            vec![(turn(), "First."), (turn(), LOOK_UP), (result(1, json!({"status": "ok"})), "")],
        ),
        (
            "a tool that times out",
            vec![
                (turn(), "First."),
                (turn(), LOOK_UP),
                (outcome(1, ToolOutcome::TimedOut), "That failed."),
            ],
        ),
        (
            "a tool that is cancelled",
            vec![(turn(), "First."), (turn(), LOOK_UP), (outcome(1, ToolOutcome::Cancelled), "")],
        ),
        (
            "a silent caller",
            vec![
                (own_words(), "Hello Ana. How can I help?"),
                (Happening::Silence, "Still there?"),
                (turn(), "First."),
                (Happening::Silence, "Still there?"),
                (digit('1'), "We open at nine."),
                (Happening::Silence, "Still there?"),
                (Happening::Silence, NO_RESPONSE),
                (Happening::Silence, ""),
            ],
        ),
        ("a nudge", vec![(say("The caller is waiting."), "Go on.")]),
    ];
    for (name, steps) in stories {
        tell(name, &mut dialogue(|_| ()), steps);
    }
}

#[test]
fn standing_in_for_a_failed_model() {
    let stories: Vec<(&str, Vec<Step>)> = vec![
        (
            "in the middle of a conversation",
            vec![
                (Happening::TookOver, "Sorry."),
                (say("The caller waits for an answer."), ""),
                (say("The caller still waits."), "Go on."),
                (turn(), "Noted."),
                (turn(), "Noted."),
                (digit('0'), CONNECTING),
            ],
        ),
        (
            "before the greeting",
            vec![(own_words(), "Sorry."), (Happening::TookOver, ""), (turn(), "Noted.")],
        ),
        (
            "before the exact greeting",
            vec![(Happening::Greet(Greet::Exactly("Hello.".into())), "Sorry.")],
        ),
        ("with nobody ordering anything", vec![(turn(), "Sorry."), (turn(), "Noted.")]),
        (
            "with an answer due",
            vec![(say("Go on with the conversation."), "Sorry."), (turn(), "Noted.")],
        ),
        (
            "at a digit",
            vec![
                (Happening::TookOver, "Sorry."),
                (digit('#'), GOODBYE),
                (say("Taken back."), "Go on."),
                (turn(), "Noted."),
            ],
        ),
    ];
    for (name, steps) in stories {
        tell(name, &mut dialogue(|spec| spec.apologise = true), steps);
    }
}

#[test]
fn a_message_is_handed_to_the_tool_that_takes_it() {
    let mut dialogue = dialogue(|spec| {
        spec.apologise = true;
        spec.tools = vec!["leave_message".into()];
    });
    tell(
        "message",
        &mut dialogue,
        vec![
            (Happening::TookOver, "Sorry."),
            (
                turn(),
                r#"Noted. +leave_message{"caller_name":"Ana","caller_phone":"unknown","message":"[speech 1.4 s]"}"#,
            ),
            (result(1, json!({"message": "The message was stored."})), ""),
            (
                turn(),
                r#"Noted. +leave_message{"caller_name":"Ana","caller_phone":"unknown","message":"[speech 1.4 s]"}"#,
            ),
            (outcome(2, ToolOutcome::TimedOut), "That failed."),
            (
                turn(),
                r#"Noted. +leave_message{"caller_name":"Ana","caller_phone":"unknown","message":"[speech 1.4 s]"}"#,
            ),
            (result(3, json!({"status": "timeout", "message": "Not now."})), "Not now."),
            (
                turn(),
                r#"Noted. +leave_message{"caller_name":"Ana","caller_phone":"unknown","message":"[speech 1.4 s]"}"#,
            ),
            (result(4, json!({"status": "invalid_arguments", "message": "Ask."})), "That failed."),
        ],
    );
}

#[test]
fn what_the_agent_does_not_offer_is_not_called() {
    let mut dialogue = dialogue(|spec| spec.tools.clear());
    tell(
        "no tools",
        &mut dialogue,
        vec![(turn(), "First."), (turn(), "Let me see."), (digit('0'), CONNECTING)],
    );
}

#[test]
fn a_conversation_is_taken_up_where_it_was() {
    tell(
        "one turn before",
        &mut dialogue(|spec| spec.turns_before = 1),
        vec![(turn(), LOOK_UP), (turn(), "Third, by number.")],
    );
    tell(
        "many turns before",
        &mut dialogue(|spec| spec.turns_before = u32::MAX),
        vec![(turn(), "Again?")],
    );
}

#[test]
fn a_parrot_repeats() {
    let parrot = Arc::new(Script { parrot: true, ..script() });
    tell(
        "parrot",
        &mut dialogue(|spec| spec.script = parrot),
        vec![(turn(), "(echo)"), (digit('#'), GOODBYE)],
    );
}

#[test]
fn an_interrupted_answer_comes_again_when_it_should() {
    let first_of = |answer: &Answer| vec![answer.sentences[0].clone()];

    let mut noise = dialogue(|_| ());
    let greeting = noise.handle(own_words()).unwrap();
    noise.interrupted(Answer::default(), false);
    noise.unplayed(vec![greeting.sentences[1].clone()], false);
    tell(
        "a noise cut the second sentence",
        &mut noise,
        vec![(Happening::Noise, "How can I help?"), (turn(), "First.")],
    );

    let mut late = dialogue(|_| ());
    late.handle(own_words());
    late.interrupted(Answer::default(), false);
    tell("a noise at the very end", &mut late, vec![(Happening::Noise, "How can I help?")]);

    let mut unheard = dialogue(|_| ());
    let first = unheard.handle(turn()).unwrap();
    unheard.interrupted(Answer::default(), false);
    unheard.unplayed(first_of(&first), true);
    tell("the caller had only paused", &mut unheard, vec![(turn(), "First."), (turn(), LOOK_UP)]);

    let mut heard = dialogue(|_| ());
    let first = heard.handle(turn()).unwrap();
    heard.interrupted(Answer::default(), false);
    heard.unplayed(first_of(&first), false);
    tell("the caller answered into it", &mut heard, vec![(turn(), LOOK_UP)]);

    let mut greeted = dialogue(|_| ());
    let greeting = greeted.handle(own_words()).unwrap();
    greeted.interrupted(greeting, true);
    tell("the caller spoke before the greeting", &mut greeted, vec![(turn(), "First.")]);

    let mut digit_cut = dialogue(|_| ());
    let first = digit_cut.handle(turn()).unwrap();
    digit_cut.interrupted(Answer::default(), false);
    tell("a digit", &mut digit_cut, vec![(digit('1'), "We open at nine.")]);
    digit_cut.unplayed(first_of(&first), true);
    tell("leaves nothing to repeat", &mut digit_cut, vec![(turn(), LOOK_UP)]);
}

#[test]
fn a_withheld_tool_call_is_not_lost_to_a_noise() {
    let mut dialogue = dialogue(|_| ());
    let goodbye = dialogue.handle(digit('#')).unwrap();
    assert!(dialogue.is_ending());
    dialogue.interrupted(goodbye.clone(), true);
    assert!(dialogue.is_open());
    assert_eq!(dialogue.handle(Happening::Noise), Some(goodbye.clone()));
    assert!(dialogue.is_ending());
    dialogue.interrupted(goodbye, true);
    tell("the caller goes on", &mut dialogue, vec![(turn(), "First.")]);
}

#[test]
fn the_last_goodbye_is_not_repeated_when_nobody_waits() {
    let mut dialogue = dialogue(|_| ());
    dialogue.handle(digit('#'));
    assert_eq!(dialogue.handle(Happening::Noise), None);
}

#[test]
fn nothing_grows_without_end() {
    let mut dialogue = dialogue(|spec| {
        spec.apologise = true;
        spec.tools = vec!["leave_message".into()];
    });
    for _ in 0..1_000 {
        dialogue.handle(turn());
    }
    assert_eq!(dialogue.open_tools.len(), MAX_OPEN_TOOLS);
    let answer = dialogue.handle(Happening::Greet(Greet::Exactly("Word. ".repeat(5_000)))).unwrap();
    assert!(
        answer.sentences.iter().map(|sentence| sentence.text.len() + 1).sum::<usize>()
            <= MAX_ANSWER + 1
    );
}
