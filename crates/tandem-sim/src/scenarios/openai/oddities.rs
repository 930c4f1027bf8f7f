//! Uneven, big, unknown and parallel messages: O17, O20, O21, O23.

use super::*;
use crate::answer::Profile;

pub(super) fn stories() -> Vec<Scenario> {
    let mut all = cuts();
    all.extend([out_of_band(), unknown_events(), old_names()]);
    all
}

fn cuts() -> Vec<Scenario> {
    let told =
        |id: &str, title: &str, ms: u64, profile: Profile, framing: Option<(usize, bool)>| {
            let framing =
                framing.map(|(fragment, ping_between)| Action::Framing { fragment, ping_between });
            let answer = Answer::of_ms(ms).saying(["A long story."]).profile(profile).into();
            tale(id, title)
                .plays(Script::new().on_nth(
                    1,
                    Trigger::SpeechEnd,
                    framing.into_iter().chain([answer]).collect::<Vec<_>>(),
                ))
                .utterance(ms + 2_500)
                .hang_up()
                .hears(0, 1, ms)
                .agent_says(["A long story."])
                .bills(1)
        };
    vec![
        told("O17a", "uneven deltas", 2_345, Profile::Ragged, None),
        told("O17b", "deltas that split a sample", 2_000, Profile::Odd, None).needs(Need::Pcm),
        told("O17c", "a stall in the middle", 3_000, Profile::Stall, None),
        told("O17d", "slower than it is spoken", 2_000, Profile::Slow, None),
        told("O17e", "five times faster than it is spoken", 3_000, Profile::Fast, None),
        told("O23a", "a delta of 1 MB", 100_000, Profile::Whole, None),
        told("O23b", "messages in fragments", 2_000, Profile::Burst, Some((300, false))),
        told("O23c", "pings between the fragments", 2_000, Profile::Burst, Some((300, true))),
    ]
}

fn out_of_band() -> Scenario {
    let aside = ResponseOutput::Message(SpokenMessage {
        profile: Profile::Fast,
        ..SpokenMessage::of_ms(1_000, ["The caller asks about a bike."])
    });
    let aside = Response { out_of_band: true, ..Response::of([aside]) };
    let spoken = Answer::of_ms(2_000).saying(["Yes."]).profile(Profile::Fast);
    tale("O20", "a response outside the conversation runs beside the answer")
        .plays(Script::new().on_nth(1, Trigger::SpeechEnd, [aside.into()]).on_nth(
            1,
            Trigger::SpeechEnd,
            [spoken.into()],
        ))
        .utterance(4_000)
        .hang_up()
        .hears(0, 2, 2_000)
        .agent_says(["Yes."])
        .bills(2)
}

fn unknown_events() -> Scenario {
    let item = json!({
        "id": "item_z", "type": "message", "status": "in_progress", "role": "assistant", "content": [],
    });
    tale("O21a", "events nobody knows, and fields that are not there")
        .plays(Script::new().on_nth(1, Trigger::SpeechEnd, [
            send(json!({ "type": "something.new", "a": { "b": [1] } })),
            send(json!({ "type": "conversation.created", "conversation": { "id": "conv_1" } })),
            send(json!({
                "type": "response.created",
                "response": { "id": "resp_z", "status": "in_progress", "conversation_id": "conv_1" },
            })),
            send(json!({
                "type": "response.output_item.added",
                "response_id": "resp_z", "output_index": 0, "item": item,
            })),
            send(json!({
                "type": "response.output_audio_transcript.delta", "response_id": "resp_z",
                "item_id": "item_z", "output_index": 0, "content_index": 0, "delta": "Yes.",
                "obfuscation": "kJ3xQ",
            })),
            send(json!({
                "type": "response.output_audio.delta", "response_id": "resp_z",
                "item_id": "item_z", "output_index": 0, "content_index": 0, "obfuscation": "aZ0",
                "delta": "$audio:300",
            })),
            send(json!({
                "type": "response.done",
                "response": { "id": "resp_z", "status": "completed", "output": [], "usage": null },
            })),
        ]))
        .utterance(2_500)
        .hang_up()
        .hears(0, 1, 300)
        .agent_says(["Yes."])
}

fn old_names() -> Scenario {
    tale("O21b", "the event names of the beta")
        .dialect(Dialect { beta: true, ..Dialect::default() })
        .plays(Script::new().on_nth(
            1,
            Trigger::SpeechEnd,
            [heard_as(["Hello"]), answer(1_000, ["Yes."])],
        ))
        .utterance(2_500)
        .hang_up()
        .hears(0, 1, 1_000)
        .caller_says(["Hello"])
        .agent_says(["Yes."])
        .bills(1)
}
