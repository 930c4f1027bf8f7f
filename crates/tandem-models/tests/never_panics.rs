//! Whatever a server sends, a dialect answers with events or an error.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use tandem_call::{
    Greet, ItemId, ModelCommand, ModelEvent, ModelSink, SessionSpec, ToolCallId, ToolOutcome,
};
use tandem_media::{AudioFormat, SampleRate};
use tandem_models::{
    GeminiLive, ModelDialect, ModelSettings, OpenAiRealtime, Outbox, Provider, TurnDetection,
};

/// Checks what every sink may rely on.
#[derive(Default)]
struct Ear {
    last: Option<ItemId>,
}

impl ModelSink for Ear {
    fn audio(&mut self, item: ItemId, format: AudioFormat, bytes: &[u8]) {
        assert!(!bytes.is_empty());
        assert!(bytes.len().is_multiple_of(format.bytes_per_sample()), "half a sample");
        self.last = Some(item);
    }

    fn event(&mut self, _event: ModelEvent) {}
}

/// Something that happens to a session.
#[derive(Debug, Clone)]
enum Happening {
    Message(Vec<u8>),
    Command(ModelCommand),
    Wait(u64),
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "[A-Za-z0-9+/=]{0,12}".prop_map(Value::from),
        prop_oneof![
            Just("50s"),
            Just("message"),
            Just("function_call"),
            Just("completed"),
            Just("failed"),
            Just("audio/pcm;rate=24000"),
            Just("r1"),
            Just("i1"),
            Just("c1"),
            Just("rate_limit_exceeded"),
            Just("IN_PROGRESS"),
            Just("IDLE"),
            Just("\"\\\u{0}ü"),
        ]
        .prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("type"),
        Just("response"),
        Just("item"),
        Just("id"),
        Just("status"),
        Just("output"),
        Just("delta"),
        Just("item_id"),
        Just("response_id"),
        Just("call_id"),
        Just("name"),
        Just("arguments"),
        Just("usage"),
        Just("error"),
        Just("code"),
        Just("session"),
        Just("expires_at"),
        Just("transcript"),
        Just("serverContent"),
        Just("modelTurn"),
        Just("parts"),
        Just("inlineData"),
        Just("mimeType"),
        Just("data"),
        Just("turnComplete"),
        Just("interrupted"),
        Just("generationComplete"),
        Just("toolCall"),
        Just("functionCalls"),
        Just("toolCallCancellation"),
        Just("ids"),
        Just("goAway"),
        Just("timeLeft"),
        Just("usageMetadata"),
        Just("promptTokenCount"),
        Just("setupComplete"),
        Just("text"),
        Just("status_details"),
        Just("message"),
        Just("rate_limits"),
        Just("content_index"),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((key.clone(), inner), 0..6).prop_map(|members| {
                Value::Object(
                    members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
                )
            }),
        ]
    })
}

/// Events of known kinds with any content.
fn event() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![
        Just("session.created"),
        Just("session.updated"),
        Just("error"),
        Just("response.created"),
        Just("response.done"),
        Just("response.output_item.added"),
        Just("response.output_item.done"),
        Just("response.output_audio.delta"),
        Just("response.output_audio_transcript.delta"),
        Just("response.output_audio_transcript.done"),
        Just("rate_limits.updated"),
        Just("input_audio_buffer.speech_started"),
        Just("input_audio_buffer.speech_stopped"),
        Just("conversation.item.added"),
        Just("conversation.item.input_audio_transcription.completed"),
    ];
    (kind, json_value()).prop_map(|(kind, mut value)| {
        if let Some(members) = value.as_object_mut() {
            members.insert("type".into(), kind.into());
            value
        } else {
            json!({ "type": kind, "response": value.clone(), "item": value.clone(), "error": value.clone(),
                    "session": value, "item_id": "i1", "response_id": "r1", "delta": "AQID" })
        }
    })
}

fn content() -> impl Strategy<Value = Value> {
    (json_value(), any::<(bool, bool, bool, bool)>()).prop_map(|(value, flags)| {
        let (audio, interrupted, generated, complete) = flags;
        let part =
            json!({ "inlineData": { "mimeType": "audio/pcm;rate=24000", "data": "AQIDBAU=" } });
        let parts = json!([part, part]);
        json!({
            "serverContent": {
                "modelTurn": { "parts": if audio { &parts } else { &value } },
                "interrupted": interrupted,
                "generationComplete": generated,
                "turnComplete": complete,
                "outputTranscription": { "text": "x" },
                "inputTranscription": &value,
                "interactionStatus": &value,
            },
            "toolCall": { "functionCalls": [&value, { "id": "c1", "name": "n" }] },
            "usageMetadata": &value,
            "goAway": &value,
        })
    })
}

fn command() -> impl Strategy<Value = ModelCommand> {
    let item = (0_u64..4).prop_map(ItemId);
    prop_oneof![
        Just(ModelCommand::Greet(Greet::Exactly("a".into()))),
        Just(ModelCommand::Say("b".into())),
        ".{0,8}".prop_map(ModelCommand::Digits),
        Just(ModelCommand::Cancel),
        any::<u32>().prop_map(|micros| ModelCommand::TurnStarted {
            ago: Duration::from_micros(micros.into()),
        }),
        Just(ModelCommand::TurnEnded),
        (item.clone(), any::<u32>()).prop_map(|(item, micros)| ModelCommand::Truncate {
            item,
            heard: Duration::from_micros(micros.into()),
        }),
        item.prop_map(|item| ModelCommand::Forget { item }),
        Just(ModelCommand::ToolResult {
            id: ToolCallId("c1".into()),
            outcome: ToolOutcome::TimedOut
        }),
    ]
}

fn happening() -> impl Strategy<Value = Happening> {
    let text = |value: Value| value.to_string().into_bytes();
    prop_oneof![
        vec(any::<u8>(), 0..200).prop_map(Happening::Message),
        json_value().prop_map(move |value| Happening::Message(text(value))),
        event().prop_map(move |value| Happening::Message(text(value))),
        content().prop_map(move |value| Happening::Message(text(value))),
        // A valid message cut short, or with one byte changed.
        (event(), any::<prop::sample::Index>(), any::<u8>()).prop_map(move |(value, at, byte)| {
            let mut bytes = text(value);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if byte % 2 == 0 {
                bytes.truncate(at);
            }
            Happening::Message(bytes)
        }),
        command().prop_map(Happening::Command),
        (0_u64..40_000).prop_map(Happening::Wait),
    ]
}

fn live_through(mut dialect: impl ModelDialect, happenings: Vec<Happening>) {
    let mut now = Instant::now();
    let mut out = Outbox::default();
    let mut ear = Ear::default();
    dialect.open(now, &mut out);
    for happening in happenings {
        match happening {
            Happening::Message(payload) => {
                let _ = dialect.handle_message(now, &payload, &mut out, &mut ear);
            }
            Happening::Command(command) => dialect.command(now, command, &mut out),
            Happening::Wait(millis) => {
                now += Duration::from_millis(millis);
                if dialect.poll_timeout().is_some_and(|at| at <= now) {
                    dialect.handle_timeout(now, &mut out, &mut ear);
                    assert!(
                        dialect.poll_timeout().is_none_or(|at| at > now),
                        "a timer that stays due would spin"
                    );
                }
            }
        }
        while let Some(message) = out.next_message() {
            serde_json::from_str::<Value>(&message).expect("we send JSON");
        }
        out.take_verdict();
    }
    let mut next = dialect.successor(Vec::new());
    next.take_over(&mut dialect);
}

fn spec(input: AudioFormat) -> SessionSpec {
    SessionSpec {
        instructions: "x".into(),
        voice: None,
        language: "en".into(),
        temperature: None,
        tools: Vec::new(),
        input,
        output: AudioFormat::Pcm16(SampleRate::Hz24000),
        transcription: true,
        history: Vec::new(),
        first_item: ItemId(0),
    }
}

fn settings(provider: Provider, model: &str, turns: TurnDetection) -> Arc<ModelSettings> {
    let mut settings = ModelSettings::new(provider, String::new().into());
    settings.model = model.into();
    settings.options.turn_detection = turns;
    Arc::new(settings)
}

fn turns() -> impl Strategy<Value = TurnDetection> {
    prop_oneof![Just(TurnDetection::Silence), Just(TurnDetection::Local)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn openai_takes_anything(happenings in vec(happening(), 0..40), turns in turns()) {
        let dialect = OpenAiRealtime::new(
            settings(Provider::OpenAiRealtime, "m", turns),
            spec(AudioFormat::Pcm16(SampleRate::Hz24000)),
            Instant::now(),
            Duration::from_secs(1_795_000_000),
        );
        live_through(dialect, happenings);
    }

    #[test]
    fn gemini_takes_anything(
        happenings in vec(happening(), 0..40),
        turns in turns(),
        model in prop_oneof![
            Just("gemini-3.8-live"), Just("gemini-3.8-live-extended-thinking"), Just("gemini-2.5-x"),
        ],
    ) {
        let dialect = GeminiLive::new(
            settings(Provider::GeminiLive, model, turns),
            spec(AudioFormat::Pcm16(SampleRate::Hz16000)),
        );
        live_through(dialect, happenings);
    }
}
