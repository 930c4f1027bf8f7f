//! What a real server does beside the protocol's main road: G22, G24, G25, G27, G28.

use super::*;
use crate::answer::Profile;

pub(super) fn stories() -> Vec<Scenario> {
    let mut all = vec![unknown_content(), slow_pongs(), voice_activity(), context_update()];
    all.extend(big_messages());
    all
}

fn unknown_content() -> Scenario {
    let audio =
        json!({ "inlineData": { "mimeType": "audio/pcm;rate=16000", "data": "$audio:400@16000" } });
    tale("G22", "fields and values nobody knows, and audio at another rate")
        .plays(Script::new().on_nth(1, Trigger::SpeechEnd, [
            send(json!({})),
            send(json!({ "somethingNew": { "a": [1, 2] } })),
            send(json!({ "serverContent": { "shiny": true, "modelTurn": { "parts": [audio], "mood": "good" } } })),
            send(json!({ "serverContent": { "outputTranscription": { "text": "Yes.", "finished": true } } })),
            Action::GenerationComplete,
            send(json!({ "serverContent": {
                "turnComplete": true, "turnCompleteReason": "A_REASON_OF_TOMORROW",
            } })),
        ]))
        .utterance(2_000)
        .hang_up()
        .hears(0, 1, 400)
        .agent_says(["Yes."])
}

fn slow_pongs() -> Scenario {
    tale("G24", "pongs come 30 seconds late")
        .needs(Need::Pings)
        .plays(
            Script::new()
                .on(Trigger::Setup, [Action::PongDelay(30_000), Action::Ready])
                .on(Trigger::SpeechEnd, [answer(1_000, ["Yes."])]),
        )
        .utterance(33_000)
        .utterance(2_000)
        .hang_up()
        .hears(0, 1, 1_000)
        .hears(0, 2, 1_000)
        .bills(2)
}

fn voice_activity() -> Scenario {
    let event = |kind: &str, at: &str| {
        send(json!({ "voiceActivity": { "voiceActivityType": kind, "audioOffset": at } }))
    };
    tale("G27", "voice activity is told, which changes nothing")
        .plays(
            Script::new()
                .on(Trigger::SpeechStart, [event("ACTIVITY_START", "0.2s")])
                .on(Trigger::SpeechEnd, [event("ACTIVITY_END", "1.2s"), answer(1_000, ["Yes."])]),
        )
        .utterance(2_500)
        .hang_up()
        .hears(0, 1, 1_000)
        .bills(1)
}

fn context_update() -> Scenario {
    tale("G28", "new instructions during the call")
        .needs(Need::ContextUpdate)
        .plays(Script::new().on_nth(1, Trigger::SpeechEnd, [answer(1_000, ["Yes."])]).on_nth(
            2,
            Trigger::SpeechEnd,
            [answer(1_000, ["Si."])],
        ))
        .utterance(2_500)
        .utterance(2_500)
        .hang_up()
        .hears(0, 1, 1_000)
        .hears(0, 2, 1_000)
        .agent_says(["Yes.", "Si."])
        .bills(2)
}

fn big_messages() -> Vec<Scenario> {
    let told =
        |id: &str, title: &str, ms: u64, profile: Profile, framing: Option<(usize, bool)>| {
            let framing =
                framing.map(|(fragment, ping_between)| Action::Framing { fragment, ping_between });
            let answer = Answer::of_ms(ms).saying(["A long story."]).profile(profile).into();
            let actions: Vec<Action> = framing.into_iter().chain([answer]).collect();
            tale(id, title)
                .plays(Script::new().on_nth(1, Trigger::SpeechEnd, actions))
                .utterance(ms + 2_000)
                .hang_up()
                .hears(0, 1, ms)
                .agent_says(["A long story."])
                .bills(1)
        };
    vec![
        told("G25a", "80 seconds of audio in one message of 5 MB", 80_000, Profile::Whole, None),
        told("G25b", "messages in fragments", 2_000, Profile::Burst, Some((700, false))),
        told("G25c", "pings between the fragments", 2_000, Profile::Burst, Some((700, true))),
        told("G25d", "uneven chunks", 2_000, Profile::Ragged, None),
        told("G25e", "chunks that split a sample", 2_000, Profile::Odd, None),
        told("G25f", "a stall in the middle", 3_000, Profile::Stall, None).listens(1_500),
        told("G25g", "slower than it is spoken", 2_000, Profile::Slow, None).listens(1_000),
    ]
}
