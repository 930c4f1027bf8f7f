//! Turns and barge-in: G01 to G05, G16 to G20, G23, G26.

use super::*;
use crate::script::InputTranscript;

const GREETING: &str = "Hello, how can I help?";
const QUESTION: &str = " Is my bike ready?";

pub(super) fn stories() -> Vec<Scenario> {
    let mut all = greetings();
    all.extend(answers_and_barge_in());
    all.extend(odd_turns());
    all.extend(texts());
    all.extend(manual_turns());
    all
}

fn greetings() -> Vec<Scenario> {
    let greeting = || {
        Script::new().on(
            Trigger::Text,
            [answer(1_200, ["Hello, ", "how can I help?"]), Action::Handle("h-1".into())],
        )
    };
    let told = |story: Scenario| {
        story
            .needs(Need::Greet)
            .plays(greeting())
            .listens(3_000)
            .hang_up()
            .hears(0, 1, 1_200)
            .agent_says([GREETING])
            .bills(1)
    };
    vec![
        told(tale("G01", "greeting by text")),
        told(tale("G01b", "greeting by clientContent"))
            .needs(Need::Model("gemini-2.5-flash-native-audio-preview-12-2025")),
        told(tale("G01c", "seeded history says nothing, the greeting does")).needs(Need::History),
    ]
}

fn answers_and_barge_in() -> Vec<Scenario> {
    let second = |script: Script| {
        script.on_nth(2, Trigger::SpeechEnd, [heard_as([" wait"]), answer(1_500, ["Of course."])])
    };
    // The answer begins at 1,700 ms of caller audio; the caller speaks over it 1,200 ms later.
    let over_it = |story: Scenario| {
        story
            .utterance(1_200)
            .utterance(4_000)
            .hang_up()
            .hears_part(0, 1, 900..=1_500)
            .hears(0, 2, 1_500)
            .caller_says([QUESTION, " wait"])
    };
    let first = |end: AnswerEnd| {
        [
            heard_as([" Is my", " bike ready?"]),
            Answer::of_ms(8_000).saying(["It is ", "nearly ready."]).end(end).into(),
        ]
    };
    let both_at_once = json!({ "serverContent": { "interrupted": true, "turnComplete": true } });
    vec![
        tale("G02", "an utterance and its answer in one burst")
            .plays(Script::new().on(
                Trigger::SpeechEnd,
                [
                    heard_as([" Is my", " bike ready?"]),
                    answer(8_000, ["It is ready ", "since yesterday."]),
                ],
            ))
            .utterance(10_000)
            .hang_up()
            .hears(0, 1, 8_000)
            .caller_says([QUESTION])
            .agent_says(["It is ready since yesterday."])
            .bills(1),
        over_it(tale("G03", "barge-in while the answer is being made"))
            .plays(second(
                Script::new().on_nth(1, Trigger::SpeechEnd, first(AnswerEnd::Open)).on_nth(
                    2,
                    Trigger::SpeechStart,
                    [
                        send(json!({ "sessionResumptionUpdate": { "resumable": false } })),
                        Action::Interrupt(true),
                    ],
                ),
            ))
            .bills(1),
        over_it(tale("G04a", "late barge-in: interrupted, then turnComplete"))
            .plays(second(Script::new().interruptible().on_nth(
                1,
                Trigger::SpeechEnd,
                first(AnswerEnd::Complete),
            )))
            .bills(1),
        over_it(tale("G04b", "late barge-in: turnComplete came long before interrupted"))
            .plays(second(Script::new().interruptible().on_nth(1, Trigger::SpeechEnd, {
                let [transcript, answer] = first(AnswerEnd::Generated);
                [transcript, answer, turn_complete()]
            })))
            .bills(1),
        over_it(tale("G04c", "late barge-in: interrupted and turnComplete in one message"))
            .plays(second(
                Script::new().on_nth(1, Trigger::SpeechEnd, first(AnswerEnd::Generated)).on_nth(
                    2,
                    Trigger::SpeechStart,
                    [send(both_at_once)],
                ),
            ))
            .bills(1),
        over_it(tale("G05", "audio of the old answer follows its interruption"))
            .plays(second(
                Script::new().on_nth(1, Trigger::SpeechEnd, first(AnswerEnd::Open)).on_nth(
                    2,
                    Trigger::SpeechStart,
                    [Action::Interrupted, Action::StaleAudio(200), Action::TurnComplete],
                ),
            ))
            .bills(1),
    ]
}

fn odd_turns() -> Vec<Scenario> {
    let then_answers = |story: Scenario, first: Vec<Action>| {
        story
            .plays(Script::new().on_nth(1, Trigger::SpeechEnd, first).on_nth(
                2,
                Trigger::SpeechEnd,
                [answer(1_000, ["Now I can say something."])],
            ))
            .utterance(2_500)
            .utterance(2_500)
            .hang_up()
            .agent_says(["Now I can say something."])
            .bills(1)
    };
    let reason = |reason: &str| {
        send(json!({ "serverContent": { "turnComplete": true, "turnCompleteReason": reason } }))
    };
    let waiting = json!({ "serverContent": {
        "turnComplete": true, "turnCompleteReason": "NEED_MORE_INPUT", "waitingForInput": true,
    } });
    let mut all = vec![
        then_answers(tale("G16a", "an empty turn"), vec![turn_complete()]).hears(0, 1, 1_000),
        then_answers(
            tale("G16b", "turnComplete before the last chunks"),
            vec![
                open_answer(1_000, []),
                turn_complete(),
                Action::StaleAudio(300),
                Action::GenerationComplete,
                turn_complete(),
            ],
        )
        .hears_part(0, 1, 1_000..=1_300)
        .hears(0, 2, 1_000),
        tale("G17", "the greeting is interrupted by nobody")
            .needs(Need::Greet)
            .plays(
                Script::new()
                    .on_nth(
                        1,
                        Trigger::Text,
                        [open_answer(300, ["Hel"]), Action::Interrupted, Action::TurnComplete],
                    )
                    .on_nth(2, Trigger::Text, [answer(1_200, [GREETING])]),
            )
            .listens(25_000)
            .hang_up()
            .hears_part(0, 1, 0..=300)
            .hears(0, 2, 1_200)
            .bills(1),
        tale("G18", "everything in one message")
            .plays(Script::new().on_nth(1, Trigger::SpeechEnd, [send(bundle())]))
            .utterance(2_000)
            .hang_up()
            .hears(0, 1, 200)
            .caller_says([" thanks"])
            .agent_says(["Bye."])
            .bills(1),
    ];
    for (id, title, first) in [
        ("G23a", "a response is rejected", reason("RESPONSE_REJECTED")),
        ("G23b", "the model waits for more", send(waiting)),
        ("G23c", "a malformed function call", reason("MALFORMED_FUNCTION_CALL")),
    ] {
        all.push(then_answers(tale(id, title), vec![first]).hears(0, 1, 1_000));
    }
    all
}

fn bundle() -> Value {
    let audio =
        json!({ "inlineData": { "mimeType": "audio/pcm;rate=24000", "data": "$audio:100" } });
    json!({
        "serverContent": {
            "modelTurn": { "parts": [audio, audio] },
            "outputTranscription": { "text": "Bye." },
            "inputTranscription": { "text": " thanks" },
            "generationComplete": true,
            "turnComplete": true,
        },
        "usageMetadata": crate::gemini::usage_metadata(&UsageSpec::ANSWER),
    })
}

fn texts() -> Vec<Scenario> {
    let one_turn = |story: Scenario, actions: Vec<Action>| {
        story
            .plays(Script::new().on_nth(1, Trigger::SpeechEnd, actions))
            .utterance(3_000)
            .hang_up()
            .hears(0, 1, 1_000)
            .caller_says([" is my bike"])
            .agent_says(["Yes."])
            .bills(1)
    };
    let interim = |text: &str| {
        send(json!({ "serverContent": { "interimInputTranscription": { "text": text } } }))
    };
    let parts =
        |parts: Value| send(json!({ "serverContent": { "modelTurn": { "parts": parts } } }));
    vec![
        one_turn(
            tale("G19a", "what the caller said comes after the turn"),
            vec![
                answer(1_000, ["Yes."]),
                Action::InputTranscript(InputTranscript::Fragments(vec![
                    " is my".into(),
                    " bike".into(),
                ])),
            ],
        ),
        one_turn(
            tale("G19b", "guesses at what the caller said come first"),
            vec![
                interim("is"),
                interim("is my"),
                interim("is my bike"),
                heard_as([" is my", " bike"]),
                answer(1_000, ["Yes."]),
            ],
        ),
        one_turn(
            tale("G20", "thoughts and stray text beside the audio"),
            vec![
                heard_as([" is my bike"]),
                parts(json!([{ "thought": true, "text": "The caller asks about a bike." }])),
                parts(json!([{ "text": "stray text" }, { "thoughtSignature": "c2ln" }])),
                answer(1_000, ["Yes."]),
            ],
        ),
    ]
}

fn manual_turns() -> Vec<Scenario> {
    let turns = |script: Script| {
        script.on_nth(1, Trigger::SpeechEnd, [answer(3_000, ["You said something."])]).on_nth(
            2,
            Trigger::SpeechEnd,
            [answer(1_000, ["And again."])],
        )
    };
    vec![
        tale("G26a", "turns marked by the client")
            .needs(Need::ManualTurns)
            .plays(turns(Script::new()))
            .utterance(4_500)
            .utterance(2_500)
            .hang_up()
            .hears(0, 1, 3_000)
            .hears(0, 2, 1_000)
            .agent_says(["You said something.", "And again."])
            .bills(2),
        tale("G26b", "activityStart interrupts")
            .needs(Need::ManualTurns)
            .plays(turns(Script::new().interruptible()))
            .utterance(1_200)
            .utterance(2_500)
            .hang_up()
            .hears_part(0, 1, 600..=2_000)
            .hears(0, 2, 1_000)
            .bills(1),
    ]
}
