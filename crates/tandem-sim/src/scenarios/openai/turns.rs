//! Turns and barge-in: O01 to O03, O13 to O15, O18, O19, O24.

use super::*;
use crate::{answer::Profile, script::Phase};

const QUESTION: &str = "Is my bike ready?";

pub(super) fn stories() -> Vec<Scenario> {
    let mut all = vec![
        tale("O01", "greeting")
            .needs(Need::Greet)
            .plays(Script::new().on_nth(
                1,
                Trigger::Text,
                [answer(1_200, ["Hello, ", "how can I help?"])],
            ))
            .listens(3_000)
            .hang_up()
            .hears(0, 1, 1_200)
            .agent_says(["Hello, how can I help?"])
            .creates(1)
            .bills(1),
    ];
    all.extend(utterances());
    all.extend(barge_in());
    all.extend(unusual_barge_in());
    all.extend(silences());
    all.extend(odd_ends());
    all
}

fn utterances() -> Vec<Scenario> {
    let told = |id: &str, title: &str, script: Script| {
        tale(id, title)
            .plays(script)
            .utterance(10_000)
            .hang_up()
            .hears(0, 1, 8_000)
            .caller_says([QUESTION])
            .agent_says(["It is ready since yesterday."])
            .creates(0)
            .bills(1)
    };
    let text = || heard_as(["Is my", " bike ready?"]);
    let timed = Action::InputTranscript(InputTranscript::Timed {
        fragments: vec![QUESTION.into()],
        seconds: 1.0,
    });
    let says = || Answer::of_ms(8_000).saying(["It is ready ", "since yesterday."]);
    let slow_answer = says().profile(Profile::Fast).into();
    let at_the_end = Trigger::SpeechEnd;
    vec![
        told(
            "O02a",
            "an utterance; its text comes before the answer",
            Script::new().on(at_the_end.clone(), [text(), says().into()]),
        ),
        told(
            "O02b",
            "an utterance; its text comes within the answer",
            Script::new()
                .on(at_the_end.clone(), [slow_answer])
                .on(at_the_end.clone(), [Action::Delay(300), text()]),
        ),
        told(
            "O02c",
            "an utterance; its text comes after the answer and is billed by time",
            Script::new().on(at_the_end, [says().into(), timed]),
        ),
    ]
}

/// An utterance, an answer that begins at 1,700 ms of caller audio, and speech over it when 1,200 ms were played.
fn over_it(story: Scenario) -> Scenario {
    story.utterance(1_200).utterance(4_000).hang_up().creates(0)
}

fn second_answer(script: Script) -> Script {
    script.on_nth(2, Trigger::SpeechEnd, [answer(1_500, ["Of course."])])
}

fn barge_in() -> Vec<Scenario> {
    let first = |answer: Action| Script::new().on_nth(1, Trigger::SpeechEnd, [answer]);
    let long = || Answer::of_ms(8_000).saying(["It is ", "nearly ready."]);
    let open = || open_answer(8_000, ["It is ", "nearly ready."]);
    let two_items = |first_ms, second_ms| -> Action {
        let outputs = [message(first_ms, ["First."]), message(second_ms, ["Second."])];
        Response { usage: None, end: AnswerEnd::Open, ..Response::of(outputs) }.into()
    };
    let cut = |story: Scenario| {
        over_it(story).hears_part(0, 1, 900..=1_500).hears(0, 2, 1_500).truncates(1)
    };
    vec![
        cut(tale("O03", "barge-in while the answer is being made"))
            .plays(second_answer(first(open()).interruptible()))
            .bills(2),
        cut(tale("O03a", "barge-in when the answer is made and still plays"))
            .plays(second_answer(first(long().into()).interruptible()))
            .bills(2),
        tale("O03b", "speech when everything was played")
            .plays(second_answer(first(answer(600, ["Yes."])).interruptible()))
            .utterance(2_500)
            .utterance(4_000)
            .hang_up()
            .hears(0, 1, 600)
            .hears(0, 2, 1_500)
            .bills(2),
        tale("O03c", "barge-in before anything was played")
            .plays(
                Script::new()
                    .on(
                        Trigger::AudioMs { at: 200 },
                        [
                            open_answer(2_000, ["Well"]),
                            send(json!({
                                "type": "input_audio_buffer.speech_started",
                                "audio_start_ms": 100, "item_id": "item_x",
                            })),
                            Action::Interrupt(true),
                        ],
                    )
                    .on_nth(1, Trigger::SpeechEnd, [answer(1_500, ["Of course."])]),
            )
            .listens(600)
            .utterance(3_500)
            .hang_up()
            .hears_part(0, 1, 0..=20)
            .hears(0, 2, 1_500)
            .bills(2),
        over_it(tale("O03d", "the second of two items is interrupted"))
            .plays(second_answer(first(two_items(500, 7_000)).interruptible()))
            .hears(0, 1, 500)
            .hears_part(0, 2, 400..=1_000)
            .hears(0, 3, 1_500)
            .truncates(1)
            .bills(2),
        over_it(tale("O03e", "the first of two items is interrupted"))
            .plays(second_answer(first(two_items(3_000, 3_000)).interruptible()))
            .hears_part(0, 1, 900..=1_500)
            .hears(0, 3, 1_500)
            .truncates(1)
            .bills(2),
    ]
}

fn unusual_barge_in() -> Vec<Scenario> {
    let open = || open_answer(8_000, ["It is ", "nearly ready."]);
    let first = || Script::new().on_nth(1, Trigger::SpeechEnd, [open()]);
    let cut = |story: Scenario| {
        over_it(story).hears_part(0, 1, 900..=1_500).hears(0, 2, 1_500).truncates(1)
    };
    let refuse = Action::Error(ErrorSpec::new(
        "invalid_request_error",
        "invalid_value",
        "Audio content of 1100ms is already shorter than 1200ms.",
    ));
    let too_late = Action::Error(ErrorSpec::new(
        "invalid_request_error",
        "response_cancel_not_active",
        "Cancellation failed: no active response found.",
    ));
    vec![
        cut(tale("O03f", "the client interrupts by itself"))
            .needs(Need::ClientInterrupts)
            .plays(second_answer(first()))
            .bills(2),
        cut(tale("O03g", "audio of the old answer follows the caller's speech"))
            .plays(second_answer(first().on_while(
                Phase::Speaking,
                Trigger::SpeechStart,
                [Action::Interrupted, Action::StaleAudio(200), Action::TurnComplete],
            )))
            .bills(2),
        cut(tale("O03h", "the truncation is refused"))
            .plays(second_answer(
                first()
                    .interruptible()
                    .on(Trigger::message_type("conversation.item.truncate"), [refuse]),
            ))
            .bills(2),
        cut(tale("O03i", "the cancellation crosses the end of the response"))
            .needs(Need::ClientInterrupts)
            .plays(second_answer(
                first()
                    .on(Trigger::message_type("response.cancel"), [Action::TurnComplete, too_late]),
            ))
            .bills(2),
    ]
}

fn silences() -> Vec<Scenario> {
    let event = |kind: &str, at: &str, ms: u64| {
        let kind = format!("input_audio_buffer.{kind}");
        send(json!({ "type": kind, at: ms, "item_id": "item_n" }))
    };
    let committed = json!({
        "type": "input_audio_buffer.committed", "previous_item_id": null, "item_id": "item_n",
    });
    let timeout = json!({
        "type": "input_audio_buffer.timeout_triggered",
        "audio_start_ms": 0, "audio_end_ms": 6_000, "item_id": "item_n",
    });
    let item = json!({
        "type": "conversation.item.added", "previous_item_id": null,
        "item": {
            "id": "item_n", "object": "realtime.item", "type": "message", "status": "completed",
            "role": "user", "content": [{ "type": "input_audio", "transcript": null }],
        },
    });
    vec![
        tale("O13a", "the server prompts after silence")
            .plays(Script::new().on(
                Trigger::AudioMs { at: 6_000 },
                [send(timeout), send(committed), send(item), answer(1_000, ["Are you there?"])],
            ))
            .listens(8_500)
            .hang_up()
            .hears(0, 1, 1_000)
            .agent_says(["Are you there?"])
            .creates(0)
            .bills(1),
        tale("O13b", "a minute of silence").plays(Script::new()).listens(60_000).hang_up(),
        tale("O14", "noise is taken for speech and nothing comes of it")
            .plays(
                Script::new()
                    .on(
                        Trigger::AudioMs { at: 1_000 },
                        [event("speech_started", "audio_start_ms", 800)],
                    )
                    .on(
                        Trigger::AudioMs { at: 1_200 },
                        [event("speech_stopped", "audio_end_ms", 1_200)],
                    )
                    .on_nth(1, Trigger::SpeechEnd, [answer(1_000, ["Yes."])]),
            )
            .listens(2_500)
            .utterance(2_500)
            .hang_up()
            .hears(0, 1, 1_000)
            .agent_says(["Yes."])
            .bills(1),
        tale("O15", "turns marked by the client")
            .needs(Need::ManualTurns)
            .plays(Script::new().on_nth(1, Trigger::Text, [answer(1_000, ["Yes."])]).on_nth(
                2,
                Trigger::Text,
                [answer(1_000, ["No."])],
            ))
            .utterance(2_500)
            .utterance(2_500)
            .hang_up()
            .hears(0, 1, 1_000)
            .hears(0, 2, 1_000)
            .agent_says(["Yes.", "No."])
            .creates(2)
            .bills(2),
    ]
}

fn odd_ends() -> Vec<Scenario> {
    let incomplete = |id: &str, reason: &str| {
        let response = Response::of([message(1_000, ["It is"])])
            .status(ResponseStatus::Incomplete(reason.into()));
        tale(id, format!("the answer ends early: {reason}"))
            .plays(Script::new().on_nth(1, Trigger::SpeechEnd, [response.into()]).on_nth(
                2,
                Trigger::SpeechEnd,
                [answer(1_000, ["Yes."])],
            ))
            .utterance(2_500)
            .utterance(2_500)
            .hang_up()
            .hears(0, 1, 1_000)
            .hears(0, 2, 1_000)
            .agent_says(["It is", "Yes."])
            .bills(2)
    };
    let phased = |ms, text: &str, phase: &str| {
        ResponseOutput::Message(SpokenMessage {
            phase: Some(phase.into()),
            ..SpokenMessage::of_ms(ms, [text])
        })
    };
    let failed = Action::InputTranscript(InputTranscript::Failed {
        failed: "Input transcription failed.".into(),
    });
    vec![
        tale("O18", "commentary, a call, the final answer")
            .tool("find_repair", 500, ready_result())
            .plays(
                Script::new()
                    .on_nth(
                        1,
                        Trigger::SpeechEnd,
                        [Response::of([
                            phased(800, "Let me look.", "commentary"),
                            call(find_repair("call_1")),
                        ])
                        .into()],
                    )
                    .on_nth(
                        1,
                        Trigger::Text,
                        [Response::of([phased(1_200, "It is ready.", "final_answer")]).into()],
                    ),
            )
            .utterance(5_000)
            .hang_up()
            .calls("call_1", 1)
            .hears(0, 1, 800)
            .hears(0, 2, 1_200)
            .agent_says(["Let me look.", "It is ready."])
            .creates(1)
            .bills(2),
        incomplete("O19a", "max_output_tokens"),
        incomplete("O19b", "content_filter"),
        tale("O24", "the caller's words are not understood")
            .plays(Script::new().on_nth(1, Trigger::SpeechEnd, [failed, answer(1_000, ["Yes."])]))
            .utterance(2_500)
            .hang_up()
            .hears(0, 1, 1_000)
            .agent_says(["Yes."])
            .bills(1),
    ]
}
