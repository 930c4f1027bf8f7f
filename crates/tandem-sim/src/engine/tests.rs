use tandem_media::{AudioFormat, Law};

use super::*;
use crate::{
    conversation::Conversation,
    gemini::Gemini,
    openai::OpenAi,
    script::{Answer, AnswerEnd, InputTranscript},
    server::{Dialect, Provider},
    speech::{caller_silence, caller_speech},
};

const MU: AudioFormat = AudioFormat::G711(Law::Mu);

/// An engine and its client, on a clock of their own.
struct Call {
    engine: Engine,
    provider: Provider,
    now: Duration,
    log: Vec<String>,
}

impl Call {
    fn new(provider: Provider, mode: Mode, script: Script) -> Self {
        let wire: Box<dyn Wire> = match provider {
            Provider::OpenAi => Box::new(OpenAi::new("k", Dialect::default(), 0, 1)),
            Provider::Gemini => Box::new(Gemini::new("k", false)),
        };
        let engine = Engine::new(EngineParts {
            connection: 0,
            script: Arc::new(script),
            wire,
            mode,
            strict: true,
            keep_audio: true,
            keep_messages: true,
            bank: Arc::default(),
            registry: Arc::default(),
        });
        let mut call = Self { engine, provider, now: Duration::ZERO, log: Vec::new() };
        call.engine.handle_open(call.now);
        call.say(&match provider {
            Provider::OpenAi => {
                json!({ "type": "session.update", "session": { "type": "realtime", "audio": {
                "input": { "format": { "type": "audio/pcmu" }, "transcription": { "model": "m" } },
                "output": { "format": { "type": "audio/pcmu" } },
            } } })
            }
            Provider::Gemini => json!({ "setup": { "model": "models/gemini-3.8-live" } }),
        });
        call.log.clear();
        call
    }

    fn say(&mut self, message: &Value) {
        self.engine.handle_message(self.now, message.to_string().as_bytes());
        self.take_outputs();
    }

    fn ask(&mut self) {
        self.say(&match self.provider {
            Provider::OpenAi => json!({ "type": "response.create" }),
            Provider::Gemini => json!({ "realtimeInput": { "text": "go on" } }),
        });
    }

    /// Lets the caller speak or be silent, frame by frame, while real time passes as well.
    fn caller(&mut self, ms: u64, speech: bool) {
        let format = match self.provider {
            Provider::OpenAi => MU,
            Provider::Gemini => AudioFormat::Pcm16(tandem_media::SampleRate::Hz16000),
        };
        let audio = if speech { caller_speech(format, 20) } else { caller_silence(format, 20) };
        let data = base64_simd::STANDARD.encode_to_string(audio);
        let message = match self.provider {
            Provider::OpenAi => json!({ "type": "input_audio_buffer.append", "audio": data }),
            Provider::Gemini => json!({ "realtimeInput": { "audio": {
                "mimeType": "audio/pcm;rate=16000", "data": data,
            } } }),
        };
        for _ in 0..ms / 20 {
            let next = self.now + Duration::from_millis(20);
            while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= next) {
                self.now = due.max(self.now);
                self.engine.handle_timeout(self.now);
                self.take_outputs();
            }
            self.now = next;
            self.say(&message);
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            let at = self.now.as_millis();
            let text = match output {
                Output::Message(text) => short(&text),
                other => format!("{other:?}"),
            };
            self.log.push(format!("{at} {text}"));
        }
    }

    fn take_log(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    fn times_of(&self, what: &str) -> Vec<u64> {
        let at = |line: &String| {
            line.split_once(' ')
                .and_then(|(at, text)| (text == what).then_some(at.parse().unwrap()))
        };
        self.log.iter().filter_map(at).collect()
    }
}

/// The kind of a message.
fn short(text: &str) -> String {
    let message: Value = serde_json::from_str(text).unwrap();
    if let Some(kind) = message["type"].as_str() {
        return kind.to_owned();
    }
    let (key, value) = message.as_object().unwrap().iter().next_back().unwrap();
    match value.as_object().and_then(|fields| fields.keys().next()) {
        Some(field) if key == "serverContent" => field.clone(),
        _ => key.clone(),
    }
}

#[test]
fn a_turn_of_openai_has_its_events_in_order() {
    let script = Script::new().on(
        Trigger::SpeechEnd,
        [
            Action::InputTranscript(InputTranscript::Text("hi".into())),
            Answer::of_ms(300).saying(["Hello, ", "you."]).into(),
        ],
    );
    let mut call = Call::new(Provider::OpenAi, Mode::AudioClock, script);
    call.caller(1_000, true);
    call.caller(600, false);
    assert_eq!(
        call.take_log(),
        [
            "40 input_audio_buffer.speech_started",
            "1500 input_audio_buffer.speech_stopped",
            "1500 input_audio_buffer.committed",
            "1500 conversation.item.added",
            "1500 conversation.item.done",
            "1500 conversation.item.input_audio_transcription.delta",
            "1500 conversation.item.input_audio_transcription.completed",
            "1500 response.created",
            "1500 rate_limits.updated",
            "1500 response.output_item.added",
            "1500 conversation.item.added",
            "1500 response.content_part.added",
            "1500 response.output_audio_transcript.delta",
            "1500 response.output_audio.delta",
            "1500 response.output_audio.delta",
            "1500 response.output_audio_transcript.delta",
            "1500 response.output_audio.delta",
            "1500 response.output_audio.done",
            "1500 response.output_audio_transcript.done",
            "1500 response.content_part.done",
            "1500 conversation.item.done",
            "1500 response.output_item.done",
            "1500 response.done",
        ]
    );
}

#[test]
fn turn_complete_waits_for_playback_unless_time_is_collapsed() {
    for (mode, at) in [(Mode::AudioClock, 1_500), (Mode::RealTime, 1_500), (Mode::Collapsed, 500)] {
        let script = Script::new().on(Trigger::Text, [Answer::of_ms(1_000).into()]);
        let mut call = Call::new(Provider::Gemini, mode, script);
        call.caller(500, false);
        call.ask();
        call.caller(2_000, false);
        assert_eq!(call.times_of("generationComplete"), [500], "{mode:?}");
        assert_eq!(
            call.times_of("usageMetadata").first().or(call.times_of("turnComplete").first()),
            Some(&at),
            "{mode:?}"
        );
    }
}

#[test]
fn delays_are_counted_in_caller_audio() {
    for (mode, at) in [(Mode::AudioClock, 400), (Mode::RealTime, 400), (Mode::Collapsed, 100)] {
        let script =
            Script::new().on(Trigger::AudioMs { at: 100 }, [Action::Delay(300), Action::Ping]);
        let mut call = Call::new(Provider::OpenAi, mode, script);
        call.caller(1_000, false);
        assert_eq!(call.take_log(), [format!("{at} Ping")], "{mode:?}");
    }
}

#[test]
fn a_step_waits_for_what_was_played() {
    let script = Script::new()
        .on(Trigger::Text, [Answer::of_ms(2_000).end(AnswerEnd::Open).into()])
        .on(Trigger::PlayedMs { at: 700 }, [Action::Ping]);
    for mode in [Mode::AudioClock, Mode::RealTime] {
        let mut call = Call::new(Provider::Gemini, mode, script.clone());
        call.caller(200, false);
        call.ask();
        call.caller(3_000, false);
        assert_eq!(call.times_of("Ping"), [900], "{mode:?}: once");
    }
}

#[test]
fn pongs_come_when_they_are_due() {
    let script = Script::new().on(Trigger::AudioMs { at: 20 }, [Action::PongDelay(1_000)]);
    for mode in [Mode::AudioClock, Mode::RealTime] {
        let mut call = Call::new(Provider::OpenAi, mode, script.clone());
        call.engine.handle_ping(call.now, b"one");
        call.take_outputs();
        call.caller(100, false);
        call.engine.handle_ping(call.now, b"two");
        call.caller(2_000, false);
        assert_eq!(
            call.take_log(),
            ["0 Pong([111, 110, 101])".to_owned(), "1100 Pong([116, 119, 111])".to_owned(),],
            "{mode:?}"
        );
    }
}

#[test]
fn an_unanswered_tool_call_is_a_violation() {
    let tool = || ToolRequest { budget_ms: Some(500), ..ToolRequest::new("fc-1", "t", json!({})) };
    let script = Script::new().on(Trigger::AudioMs { at: 20 }, [Action::Tool(tool())]);
    for (answers, violations) in [(false, 1), (true, 0)] {
        let mut call = Call::new(Provider::Gemini, Mode::AudioClock, script.clone());
        call.caller(300, false);
        if answers {
            let response = json!({ "id": "fc-1", "name": "t", "response": {} });
            call.say(&json!({ "toolResponse": { "functionResponses": [response] } }));
        }
        call.caller(1_000, false);
        assert_eq!(call.engine.take_violations().len(), violations);
    }
}

#[test]
fn an_interruption_drops_what_is_left_of_the_answer_and_its_step() {
    let answer = Answer::of_ms(3_000).profile(crate::answer::Profile::Paced);
    let script = Script::new().on(Trigger::Text, [answer.into(), Action::Ping]).interruptible();
    let mut call = Call::new(Provider::OpenAi, Mode::AudioClock, script);
    call.ask();
    call.caller(500, false);
    call.caller(200, true);
    call.caller(3_000, false);
    assert_eq!(call.times_of("response.output_audio.delta").len(), 6, "at 0, 100, … 500 ms");
    assert_eq!(call.times_of("response.done"), [540]);
    assert_eq!(call.times_of("Ping"), [0; 0]);
}

#[test]
fn a_step_for_a_message_takes_the_place_of_the_usual_reaction() {
    let script =
        Script::new().on_nth(2, Trigger::message_type("input_audio_buffer.clear"), [Action::Ping]);
    let mut call = Call::new(Provider::OpenAi, Mode::AudioClock, script);
    for _ in 0..3 {
        call.say(&json!({ "type": "input_audio_buffer.clear" }));
    }
    assert_eq!(
        call.take_log(),
        ["0 input_audio_buffer.cleared", "0 Ping", "0 input_audio_buffer.cleared",]
    );
}

#[test]
fn received_messages_are_kept_with_their_place() {
    let mut call = Call::new(Provider::OpenAi, Mode::AudioClock, Script::new());
    call.caller(40, false);
    call.say(&json!({ "type": "response.create" }));
    call.engine.handle_message(call.now, b"no json");
    let received = call.engine.take_received();
    let kinds: Vec<(u64, u64, bool)> = received
        .iter()
        .map(|one| (one.seq, one.audio_ms, matches!(one.message, ReceivedMessage::Audio(_))))
        .collect();
    assert_eq!(
        kinds,
        [(1, 0, false), (2, 0, true), (3, 20, true), (4, 40, false), (5, 40, false),]
    );
    assert_eq!(received[1].message, ReceivedMessage::Audio(caller_silence(MU, 20).into()));
}

#[test]
fn the_conversation_goes_on_by_itself() {
    for provider in [Provider::OpenAi, Provider::Gemini] {
        let conversation = Conversation { thinking_ms: 200, ..Conversation::default() };
        let mut call = Call::new(provider, Mode::RealTime, conversation.script(provider));
        let (audio, done) = match provider {
            Provider::OpenAi => ("response.output_audio.delta", "response.done"),
            Provider::Gemini => ("modelTurn", "generationComplete"),
        };
        call.ask();
        call.caller(3_000, false);
        let greeting: Vec<u64> = (0..15).map(|chunk| chunk * 20).collect();
        assert_eq!(
            call.times_of(audio),
            greeting,
            "{provider:?}: five times as fast as it is spoken"
        );
        assert_eq!(call.times_of(done).len(), 1);
        call.take_log();

        call.caller(1_000, true);
        call.caller(1_000, false);
        assert_eq!(
            call.times_of(audio).first(),
            Some(&4_700),
            "{provider:?}: 500 of silence, 200 of thought"
        );
        call.caller(400, true);
        call.take_log();
        call.caller(3_000, false);
        assert_eq!(
            call.times_of(audio).len(),
            25,
            "{provider:?}: the interrupted answer is followed by a whole one"
        );
        assert_eq!(call.engine.take_violations(), [""; 0]);
    }
}

#[test]
fn the_conversation_calls_its_tool_at_every_second_utterance() {
    let conversation = Conversation { tool: Some("find_repair".into()), ..Conversation::default() };
    let mut call =
        Call::new(Provider::Gemini, Mode::RealTime, conversation.script(Provider::Gemini));
    for _ in 0..4 {
        call.caller(600, true);
        call.caller(4_000, false);
    }
    assert_eq!(call.times_of("toolCall").len(), 2);
    let response = json!({ "id": "call_2", "name": "find_repair", "response": {} });
    call.take_log();
    call.say(&json!({ "toolResponse": { "functionResponses": [response] } }));
    call.caller(1_000, false);
    assert_eq!(call.times_of("modelTurn"), [0_u64; 0], "the first call is still open");
    let response = json!({ "id": "call_1", "name": "find_repair", "response": {} });
    call.say(&json!({ "toolResponse": { "functionResponses": [response] } }));
    call.caller(1_000, false);
    assert_eq!(call.times_of("modelTurn").len(), 25);
}

#[test]
fn a_caller_who_never_speaks_is_spoken_to() {
    let conversation = Conversation { unprompted_every_ms: 5_000, ..Conversation::default() };
    let mut call =
        Call::new(Provider::OpenAi, Mode::RealTime, conversation.script(Provider::OpenAi));
    call.caller(20_100, false);
    assert_eq!(call.times_of("response.created"), [5_000, 10_000, 15_000, 20_000]);
}

/// Pieces of real messages, to be put together wrongly.
fn odd_message() -> impl proptest::strategy::Strategy<Value = Vec<u8>> {
    use proptest::prelude::*;
    let key = prop::sample::select(vec![
        "type",
        "session",
        "audio",
        "item",
        "setup",
        "realtimeInput",
        "clientContent",
        "toolResponse",
        "data",
        "mimeType",
        "response",
        "model",
        "item_id",
        "audio_end_ms",
        "turns",
        "sessionResumption",
        "handle",
        "text",
    ]);
    let text = prop::sample::select(vec![
        "session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "conversation.item.create",
        "conversation.item.truncate",
        "response.create",
        "response.cancel",
        "AAAA",
        "audio/pcm;rate=16000",
        "realtime",
        "models/gemini-3.8-live",
        "item_1",
        "",
    ]);
    let leaf = prop_oneof![
        text.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::Null),
        Just(Value::Bool(true)),
    ];
    let value = leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map(key.clone().prop_map(String::from), inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    prop_oneof![
        4 => value.prop_map(|value| value.to_string().into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..60),
    ]
}

proptest::proptest! {
    #[test]
    fn no_message_brings_a_server_down(messages in proptest::collection::vec(odd_message(), 1..12)) {
        for provider in [Provider::OpenAi, Provider::Gemini] {
            let script = Conversation::default().script(provider);
            let mut call = Call::new(provider, Mode::AudioClock, script);
            for message in &messages {
                call.engine.handle_message(call.now, message);
            }
            let closed = call.engine.link.closed;
            proptest::prop_assert!(provider == Provider::Gemini || !closed, "OpenAI goes on after a mistake");
            proptest::prop_assert!(call.engine.received_count() <= messages.len() as u64 + 1);
        }
    }
}
