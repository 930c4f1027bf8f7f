//! The words of the vendors: how they are spoken to, and how they speak.

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use base64_simd::{AsOut, STANDARD};
use memchr::memmem;
use serde_json::{Value, json};

use crate::marker::{FRAME, Marker, Way, tone, tone_samples};

/// Frames of one answer of OpenAI.
const ANSWER_FRAMES: usize = 10;

/// Samples per second of Gemini's voice.
const GEMINI_RATE: u32 = 24_000;

/// Whose protocol the model speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    /// OpenAI Realtime: G.711 both ways.
    OpenAi,
    /// Gemini Live: 16-bit samples, up at 16 kHz and down at 24 kHz.
    Gemini,
}

/// The messages of one answer.
pub(crate) struct Answer {
    pub(crate) before: Vec<String>,
    /// All its audio at once, as models send it.
    pub(crate) audio: String,
    pub(crate) after: Vec<String>,
}

/// A tool that an answer of OpenAI calls.
pub(crate) struct FunctionCall {
    pub(crate) call_id: String,
    pub(crate) name: &'static str,
    /// JSON.
    pub(crate) arguments: String,
}

impl Vendor {
    /// Audio of one answer.
    pub(crate) const fn answer_length(self) -> Duration {
        match self {
            Self::OpenAi => Duration::from_millis(200),
            Self::Gemini => Duration::from_millis(400),
        }
    }

    /// Whether `message` is to be answered by the greeting.
    pub(crate) fn is_setup(self, message: &[u8]) -> bool {
        let key: &[u8] = match self {
            Self::OpenAi => b"\"session.update\"",
            Self::Gemini => b"\"setup\"",
        };
        memmem::find(message, key).is_some()
    }

    /// After these the caller's audio comes.
    pub(crate) const fn greeting(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi => &[
                r#"{"type":"session.created","session":{}}"#,
                r#"{"type":"session.updated","session":{}}"#,
            ],
            Self::Gemini => &[r#"{"setupComplete":{}}"#],
        }
    }

    /// Adds the frames of a caller's audio in `message` to `arrivals`; false when it is no such message.
    pub(crate) fn hear(
        self,
        message: &[u8],
        at: Instant,
        decoded: &mut Vec<u8>,
        arrivals: &mut Vec<(Marker, Instant)>,
    ) -> bool {
        let (kind, key): (&[u8], &[u8]) = match self {
            Self::OpenAi => (b"\"input_audio_buffer.append\"", b"\"audio\":\""),
            Self::Gemini => (b"\"realtimeInput\"", b"\"data\":\""),
        };
        let Some(audio) = carried_audio(message, kind, key, decoded) else { return false };
        match self {
            Self::OpenAi => {
                let frames = audio.chunks_exact(FRAME);
                arrivals
                    .extend(frames.filter_map(|frame| Some((Marker::read(Way::Up, frame)?, at))));
            }
            Self::Gemini => arrivals.extend(Marker::find_pcm(audio).map(|marker| (marker, at))),
        }
        true
    }

    /// The messages of `turn`.
    pub(super) fn answer(self, turn: Marker) -> Answer {
        match self {
            Self::OpenAi => openai_answer(turn, ANSWER_FRAMES, &[]),
            Self::Gemini => Answer {
                before: Vec::new(),
                audio: GEMINI_AUDIO.clone(),
                after: GEMINI_END.map(Into::into).into(),
            },
        }
    }
}

/// The audio behind `key` in a message that has `kind` in it.
fn carried_audio<'a>(
    message: &[u8],
    kind: &[u8],
    key: &[u8],
    decoded: &'a mut Vec<u8>,
) -> Option<&'a [u8]> {
    memmem::find(message, kind)?;
    let start = memmem::find(message, key)? + key.len();
    let length = memchr::memchr(b'"', &message[start..])?;
    let base64 = &message[start..start + length];
    decoded.resize(STANDARD.estimated_decoded_length(base64.len()), 0);
    STANDARD.decode(base64, decoded.as_mut_slice().as_out()).ok().map(|audio| &*audio)
}

/// An answer of so many frames that calls tools behind its words.
pub(crate) fn openai_answer(turn: Marker, frames: usize, calls: &[FunctionCall]) -> Answer {
    let name = format!("{}_{}", turn.call, turn.number);
    let response = format!("resp_{name}");
    let event = |kind: &str, index: usize, mut rest: Value| {
        rest["type"] = kind.into();
        rest["response_id"] = response.as_str().into();
        rest["output_index"] = index.into();
        rest.to_string()
    };
    let whole = |kind: &str, status: &str| {
        json!({ "type": kind, "response": { "id": response, "status": status, "output": [] } })
            .to_string()
    };
    let item = format!("item_{name}");
    let message = json!({
        "item": { "id": item, "type": "message", "role": "assistant", "content": [] },
    });
    // By hand: the audio is long, and whoever looks for it knows the place.
    let audio = format!(
        r#"{{"type":"response.output_audio.delta","response_id":"{response}","item_id":"{item}","output_index":0,"content_index":0,"delta":"{}"}}"#,
        STANDARD.encode_to_string(marked_frames(turn, frames)),
    );
    let mut after = vec![event("response.output_item.done", 0, message.clone())];
    for (index, call) in (1..).zip(calls) {
        let FunctionCall { call_id, name, arguments } = call;
        let stated = |status: &str, arguments: &str| {
            json!({ "item": {
                "id": format!("{item}_{index}"), "type": "function_call", "status": status,
                "call_id": call_id, "name": name, "arguments": arguments,
            } })
        };
        let written = json!({
            "item_id": format!("{item}_{index}"), "call_id": call_id, "name": name, "arguments": arguments,
        });
        after.extend([
            event("response.output_item.added", index, stated("in_progress", "")),
            event("response.function_call_arguments.done", index, written),
            event("response.output_item.done", index, stated("completed", arguments)),
        ]);
    }
    after.push(whole("response.done", "completed"));
    Answer {
        before: vec![
            whole("response.created", "in_progress"),
            event("response.output_item.added", 0, message),
        ],
        audio,
        after,
    }
}

fn marked_frames(turn: Marker, frames: usize) -> Vec<u8> {
    let mut audio = tone(frames * FRAME);
    for (number, frame) in (0..).zip(audio.chunks_exact_mut(FRAME)) {
        Marker { frame: number, ..turn }.write(Way::Down, frame);
    }
    audio
}

/// Made once: who makes it reads no message meanwhile.
static GEMINI_AUDIO: LazyLock<String> = LazyLock::new(|| {
    let samples = Vendor::Gemini.answer_length().as_millis() as usize * GEMINI_RATE as usize / 1000;
    let bytes: Vec<u8> =
        tone_samples(samples, GEMINI_RATE).iter().flat_map(|it| it.to_le_bytes()).collect();
    let audio = STANDARD.encode_to_string(bytes);
    format!(
        r#"{{"serverContent":{{"modelTurn":{{"parts":[{{"inlineData":{{"mimeType":"audio/pcm;rate={GEMINI_RATE}","data":"{audio}"}}}}]}}}}}}"#
    )
});

const GEMINI_END: [&str; 2] = [
    r#"{"serverContent":{"generationComplete":true}}"#,
    r#"{"serverContent":{"turnComplete":true}}"#,
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{PCM_FRAME, PCM_LEN};

    #[test]
    fn marked_audio_is_found_in_its_message() {
        let marker = Marker { call: 3, number: 7, frame: 0 };
        let mut g711 = tone(2 * FRAME);
        marker.write(Way::Up, &mut g711);
        let mut pcm = [0; PCM_FRAME];
        pcm[..PCM_LEN].copy_from_slice(&marker.to_pcm());
        let openai =
            |base64: &str| format!(r#"{{"type":"input_audio_buffer.append","audio":"{base64}"}}"#);
        let gemini = |base64: &str| {
            format!(
                r#"{{"realtimeInput":{{"audio":{{"data":"{base64}","mimeType":"audio/pcm;rate=16000"}}}}}}"#
            )
        };
        let (mut decoded, at) = (Vec::new(), Instant::now());
        for (vendor, message) in [
            (Vendor::OpenAi, openai(&STANDARD.encode_to_string(&g711))),
            (Vendor::Gemini, gemini(&STANDARD.encode_to_string(pcm))),
        ] {
            let mut arrivals = Vec::new();
            assert!(vendor.hear(message.as_bytes(), at, &mut decoded, &mut arrivals));
            assert_eq!(arrivals, [(marker, at)], "{vendor:?}");
        }
        let mut arrivals = Vec::new();
        for (vendor, message) in [
            (Vendor::OpenAi, r#"{"type":"session.update","session":{}}"#.to_owned()),
            (Vendor::OpenAi, openai("a")),
            (Vendor::OpenAi, r#"{"type":"input_audio_buffer.append","audio":"#.to_owned()),
            (Vendor::Gemini, r#"{"setup":{"model":"models/x"}}"#.to_owned()),
            (Vendor::Gemini, gemini("a")),
        ] {
            let heard = vendor.hear(message.as_bytes(), at, &mut decoded, &mut arrivals);
            assert!(!heard && arrivals.is_empty(), "{message}");
        }
    }

    #[test]
    fn only_a_setup_is_greeted() {
        assert!(Vendor::OpenAi.is_setup(br#"{"type":"session.update","session":{}}"#));
        assert!(Vendor::Gemini.is_setup(br#"{"setup":{"model":"models/x"}}"#));
        assert!(!Vendor::Gemini.is_setup(br#"{"realtimeInput":{"activityStart":{}}}"#));
    }

    #[test]
    fn an_answer_calls_its_tools_behind_its_words() {
        let call = |number: u16| FunctionCall {
            call_id: format!("call_{number}"),
            name: "find_order",
            arguments: r#"{"order":"B-17"}"#.into(),
        };
        let answer = openai_answer(Marker { call: 1, number: 2, frame: 0 }, 5, &[call(7), call(8)]);
        let after: Vec<Value> =
            answer.after.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let done: Vec<&Value> = after
            .iter()
            .filter(|event| event["item"]["status"] == "completed")
            .map(|event| &event["item"])
            .collect();
        assert_eq!([&done[0]["call_id"], &done[1]["call_id"]], ["call_7", "call_8"]);
        assert_eq!(done[1]["arguments"], r#"{"order":"B-17"}"#);
        assert_eq!(after.last().unwrap()["response"]["status"], "completed");
        let audio: Value = serde_json::from_str(&answer.audio).unwrap();
        assert_eq!(audio["response_id"], after[0]["response_id"]);
    }

    #[test]
    fn every_frame_of_an_answer_has_its_number() {
        let turn = Marker { call: 1, number: 2, frame: 0 };
        let audio = marked_frames(turn, ANSWER_FRAMES);
        let frames: Vec<_> =
            audio.chunks(FRAME).map(|frame| Marker::read(Way::Down, frame)).collect();
        let expected: Vec<_> = (0..10).map(|frame| Some(Marker { frame, ..turn })).collect();
        assert_eq!(frames, expected);
    }

    #[test]
    fn answers_are_as_long_as_they_say() {
        let turn = Marker { call: 1, number: 2, frame: 0 };
        let mut decoded = Vec::new();
        for (vendor, kind, key, bytes_per_ms) in [
            (Vendor::OpenAi, &b"output_audio.delta"[..], &b"\"delta\":\""[..], 8),
            (Vendor::Gemini, b"inlineData", b"\"data\":\"", 48),
        ] {
            let answer = vendor.answer(turn);
            let audio = carried_audio(answer.audio.as_bytes(), kind, key, &mut decoded).unwrap();
            assert_eq!(audio.len(), vendor.answer_length().as_millis() as usize * bytes_per_ms);
        }
    }
}
