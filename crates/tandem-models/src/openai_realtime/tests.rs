#![expect(
    clippy::needless_pass_by_value,
    reason = "tests read better with json!(…) as the argument"
)]

use secrecy::SecretString;
use tandem_call::{ItemId, ResponseEnd, ToolCallId, ToolDeclaration, ToolOutcome, Usage};

use super::*;
use crate::{
    Provider, Verdict,
    dialect::testing::{Heard, Recorder, sent},
};

mod answers;
mod local_turns;

const MU: AudioFormat = AudioFormat::G711(Law::Mu);

fn spec() -> SessionSpec {
    SessionSpec {
        instructions: "You answer the phone for a bicycle workshop.".into(),
        voice: Some("marin".into()),
        language: "en-US".into(),
        temperature: None,
        tools: vec![ToolDeclaration {
            name: "find_repair".into(),
            description: "Looks up a repair order.".into(),
            parameters: json!({ "type": "object", "properties": { "order": { "type": "string" } } }),
        }],
        input: MU,
        output: MU,
        transcription: true,
        history: Vec::new(),
        first_item: ItemId(1),
    }
}

/// A dialect with a clock of its own.
struct Session {
    dialect: OpenAiRealtime,
    now: Instant,
    out: Outbox,
    heard: Recorder,
}

impl Session {
    fn new(settings: ModelSettings, spec: SessionSpec) -> Self {
        let now = Instant::now();
        let unix = Duration::from_secs(1_795_000_000);
        let mut dialect = OpenAiRealtime::new(Arc::new(settings), spec, now, unix);
        let mut out = Outbox::default();
        dialect.open(now, &mut out);
        Self { dialect, now, out, heard: Recorder::default() }
    }

    fn plain() -> Self {
        Self::new(ModelSettings::new(Provider::OpenAiRealtime, "k".to_owned().into()), spec())
    }

    fn ready() -> Self {
        Self::ready_with(ModelSettings::new(Provider::OpenAiRealtime, "k".to_owned().into()))
    }

    /// With a server that cuts its own answer when the caller speaks.
    fn interrupting() -> Self {
        let mut settings = ModelSettings::new(Provider::OpenAiRealtime, "k".to_owned().into());
        settings.options.server_interrupts = true;
        Self::ready_with(settings)
    }

    fn ready_with(settings: ModelSettings) -> Self {
        let mut session = Self::new(settings, spec());
        session.say(json!({ "type": "session.created", "session": {} }));
        session.say(updated("audio/pcmu", "audio/pcmu"));
        assert_eq!(session.out.take_verdict(), Some(Verdict::Ready));
        sent(&mut session.out);
        session
    }

    fn say(&mut self, event: Value) {
        let payload = event.to_string();
        self.dialect
            .handle_message(self.now, payload.as_bytes(), &mut self.out, &mut self.heard)
            .expect("valid JSON");
    }

    fn order(&mut self, command: ModelCommand) {
        self.dialect.command(self.now, command, &mut self.out);
    }

    /// Lets `millis` pass, timers in order.
    fn wait(&mut self, millis: u64) {
        let until = self.now + Duration::from_millis(millis);
        while let Some(at) = self.dialect.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.dialect.handle_timeout(self.now, &mut self.out, &mut self.heard);
            assert!(
                self.dialect.poll_timeout().is_none_or(|next| next > self.now),
                "a timer that stays due"
            );
        }
        self.now = until;
    }

    fn sent(&mut self) -> Vec<Value> {
        sent(&mut self.out)
    }

    /// The types of what was sent.
    fn sent_types(&mut self) -> Vec<String> {
        self.sent().iter().map(|message| message["type"].as_str().unwrap().to_owned()).collect()
    }

    fn created(&mut self, id: &str) {
        self.say(json!({ "type": "response.created", "response": { "id": id, "conversation_id": "conv_1" } }));
    }

    fn done(&mut self, id: &str, status: &str) {
        self.say(json!({ "type": "response.done", "response": { "id": id, "status": status } }));
    }

    fn audio(&mut self, response: &str, item: &str, bytes: &[u8]) {
        self.say(audio_delta(response, item, bytes));
    }

    fn speech_started(&mut self) {
        self.say(json!({ "type": "input_audio_buffer.speech_started", "audio_start_ms": 1 }));
    }

    fn speech_stopped(&mut self) {
        self.say(json!({ "type": "input_audio_buffer.speech_stopped", "audio_end_ms": 2 }));
    }

    fn function_call(&mut self, response: &str, call: &str, arguments: &str) {
        self.say(json!({ "type": "response.output_item.done", "response_id": response, "item": {
            "type": "function_call", "id": "fi", "status": "completed", "call_id": call,
            "name": "find_repair", "arguments": arguments } }));
    }

    fn result(&mut self, call: &str) {
        self.order(ModelCommand::ToolResult {
            id: ToolCallId(call.into()),
            outcome: ToolOutcome::Answered(json!({ "status": "ready" })),
        });
    }

    fn fault(&mut self) -> ModelFailure {
        match self.out.take_verdict() {
            Some(Verdict::Failed(failure)) => failure,
            other => panic!("no failure but {other:?}"),
        }
    }
}

fn audio_delta(response: &str, item: &str, bytes: &[u8]) -> Value {
    json!({ "type": "response.output_audio.delta", "event_id": "e", "response_id": response,
            "item_id": item, "output_index": 0, "content_index": 0,
            "delta": base64_simd::STANDARD.encode_to_string(bytes) })
}

fn updated(input: &str, output: &str) -> Value {
    json!({ "type": "session.updated", "session": { "audio": {
        "input": { "format": { "type": input } }, "output": { "format": { "type": output } } } } })
}

#[test]
fn the_session_is_asked_for_in_the_ga_shape() {
    let mut session = Session::plain();
    let update = session.sent().remove(0);
    let golden: Value =
        serde_json::from_str(include_str!("../../testdata/openai/session_update.json")).unwrap();
    assert_eq!(update, golden);
}

#[test]
fn a_recorded_conversation_is_understood() {
    // One line per message of the server: a greeting, and a turn with a transcript.
    let transcript = include_str!("../../testdata/openai/conversation.jsonl");
    let mut session = Session::plain();
    for line in transcript.lines() {
        session
            .dialect
            .handle_message(session.now, line.as_bytes(), &mut session.out, &mut session.heard)
            .unwrap();
    }
    let heard = session.heard.take();
    let text = |item, text: &str| {
        Heard::Event(ModelEvent::AgentText { item: ItemId(item), text: text.into() })
    };
    assert_eq!(
        heard,
        [
            Heard::Event(ModelEvent::ResponseStarted),
            text(1, "Hello, "),
            Heard::Audio(ItemId(1), MU, vec![1, 2, 3]),
            text(1, "how can I help?"),
            Heard::Audio(ItemId(1), MU, vec![4, 5, 6]),
            Heard::Event(ModelEvent::Usage(Usage {
                input_tokens: 188,
                output_tokens: 122,
                input_audio_tokens: 18,
                output_audio_tokens: 98,
                cached_tokens: 128,
            })),
            Heard::Event(ModelEvent::ResponseEnded(ResponseEnd::Completed)),
            Heard::Event(ModelEvent::SpeechStarted),
            Heard::Event(ModelEvent::SpeechStopped),
            Heard::Event(ModelEvent::CallerText { text: "Is my bike ready?".into(), last: true }),
        ]
    );
}

#[test]
fn readiness_waits_for_the_formats_and_compares_them() {
    let mut session = Session::plain();
    session.say(updated("audio/pcm", "audio/pcm"));
    let fault = session.fault();
    assert_eq!(fault.reaction, tandem_call::Reaction::GiveUp);
    assert!(fault.reason.contains("audio/pcmu was asked for"), "{}", fault.reason);

    // A server that never acknowledges is believed after a while, if it said anything at all.
    let mut session = Session::plain();
    session.wait(10_000);
    assert_eq!(session.out.take_verdict(), None);
    session.say(json!({ "type": "session.created", "session": {} }));
    session.wait(999);
    assert_eq!(session.out.take_verdict(), None);
    session.wait(1);
    assert_eq!(session.out.take_verdict(), Some(Verdict::Ready));
    // A late acknowledgement is still compared.
    session.say(updated("audio/pcmu", "audio/pcm"));
    session.fault();
}

#[test]
fn greetings_carry_the_session_prompt_or_the_exact_words() {
    let mut session = Session::ready();
    session.order(ModelCommand::Greet(Greet::Exactly("Workshop, hello.".into())));
    let create = session.sent().remove(0);
    assert_eq!(
        create["response"],
        json!({ "instructions": "Say exactly these words and nothing else: Workshop, hello.",
                "tool_choice": "none" })
    );
    let mut session = Session::ready();
    session.order(ModelCommand::Greet(Greet::Instruction("Greet the caller.".into())));
    let create = session.sent().remove(0);
    let instructions = create["response"]["instructions"].as_str().unwrap();
    assert!(
        instructions.starts_with("You answer the phone")
            && instructions.ends_with("Greet the caller.")
    );
}

#[test]
fn audio_after_the_caller_speaks_is_withheld() {
    let mut session = Session::interrupting();
    session.created("resp_1");
    session.audio("resp_1", "item_1", &[1; 80]);
    session.speech_started();
    session.audio("resp_1", "item_1", &[2; 80]);
    session.say(json!({ "type": "response.output_audio_transcript.delta", "response_id": "resp_1",
                        "item_id": "item_1", "delta": "unheard" }));
    session.done("resp_1", "cancelled");
    session.audio("resp_1", "item_1", &[3; 80]);
    session.speech_stopped();
    session.created("resp_2");
    session.audio("resp_2", "item_2", &[4; 80]);
    assert_eq!(
        session.heard.take(),
        [
            Heard::Event(ModelEvent::ResponseStarted),
            Heard::Audio(ItemId(1), MU, vec![1; 80]),
            Heard::Event(ModelEvent::SpeechStarted),
            Heard::Event(ModelEvent::ResponseEnded(ResponseEnd::Cancelled)),
            Heard::Event(ModelEvent::SpeechStopped),
            Heard::Event(ModelEvent::ResponseStarted),
            Heard::Audio(ItemId(2), MU, vec![4; 80]),
        ]
    );
    assert!(session.sent().is_empty(), "the server cuts by itself");
}

#[test]
fn a_server_that_does_not_interrupt_is_told() {
    let mut settings = ModelSettings::new(Provider::OpenAiRealtime, "k".to_owned().into());
    settings.options.server_interrupts = false;
    let mut session = Session::new(settings, spec());
    session.say(updated("audio/pcmu", "audio/pcmu"));
    let update = session.sent().remove(0);
    assert_eq!(
        update.pointer("/session/audio/input/turn_detection/interrupt_response"),
        Some(&json!(false))
    );
    session.created("resp_1");
    session.audio("resp_1", "item_1", &[1; 80]);
    session.speech_started();
    session.audio("resp_1", "item_1", &[2; 80]);
    assert_eq!(session.sent(), [Value::Null; 0], "it goes on until the call has decided");
    let heard = session.heard.take();
    assert_eq!(
        heard[2..],
        [Heard::Event(ModelEvent::SpeechStarted), Heard::Audio(ItemId(1), MU, vec![2; 80])]
    );
    session.order(ModelCommand::Cancel);
    session.audio("resp_1", "item_1", &[3; 80]);
    assert_eq!(session.sent(), [json!({ "type": "response.cancel", "response_id": "resp_1" })]);
    assert_eq!(session.heard.take(), [], "what comes after is not heard");
}

#[test]
fn truncation_names_the_item_that_played() {
    let mut session = Session::ready();
    session.created("resp_1");
    session.audio("resp_1", "item_a", &[1; 8_000]);
    session.audio("resp_1", "item_b", &[2; 8_000]);
    session.order(ModelCommand::Truncate { item: ItemId(2), heard: Duration::from_millis(250) });
    session.order(ModelCommand::Truncate { item: ItemId(2), heard: Duration::from_millis(260) });
    session.order(ModelCommand::Truncate { item: ItemId(9), heard: Duration::from_secs(1) });
    assert_eq!(
        session.sent(),
        [json!({ "type": "conversation.item.truncate", "item_id": "item_b",
                 "content_index": 0, "audio_end_ms": 250 })]
    );
    session.order(ModelCommand::Forget { item: ItemId(1) });
    assert_eq!(
        session.sent(),
        [json!({ "type": "conversation.item.delete", "item_id": "item_a" })]
    );
}

#[test]
fn error_events_end_the_session_only_when_they_must() {
    let error = |kind: &str, code: &str| json!({ "type": "error", "error": { "type": kind, "code": code, "message": "m" } });
    for (before_ready, kind, code, verdict) in [
        (false, "invalid_request_error", "invalid_value", None),
        (true, "invalid_request_error", "invalid_value", Some("give up")),
        (true, "invalid_request_error", "invalid_api_key", Some("give up")),
        (false, "insufficient_quota", "insufficient_quota", Some("give up")),
        (false, "invalid_request_error", "session_expired", Some("retry")),
        (false, "invalid_request_error", "response_cancel_not_active", None),
        (true, "server_error", "", Some("retry")),
    ] {
        let mut session = if before_ready { Session::plain() } else { Session::ready() };
        session.say(error(kind, code));
        let found = match session.out.take_verdict() {
            None => None,
            Some(Verdict::Failed(ModelFailure { reaction, .. })) => Some(match reaction {
                tandem_call::Reaction::Retry { .. } => "retry",
                tandem_call::Reaction::GiveUp => "give up",
            }),
            Some(Verdict::Ready) => Some("ready"),
        };
        assert_eq!(found, verdict, "{code} {kind}");
    }
}

#[test]
fn beta_names_and_servers_that_announce_nothing_are_understood() {
    let mut session = Session::ready();
    session.say(json!({ "type": "response.audio_transcript.delta", "response_id": "r", "item_id": "i", "delta": "Hi" }));
    session.say(json!({ "type": "response.audio.delta", "response_id": "r", "item_id": "i", "delta": "AQID" }));
    session.say(json!({ "type": "response.done", "response": { "id": "r", "status": "completed", "usage": null } }));
    session.say(json!({ "type": "something.new", "list": [1, { "a": "b" }] }));
    session.say(json!({}));
    assert_eq!(
        session.heard.take(),
        [
            Heard::Event(ModelEvent::ResponseStarted),
            Heard::Event(ModelEvent::AgentText { item: ItemId(1), text: "Hi".into() }),
            Heard::Audio(ItemId(1), MU, vec![1, 2, 3]),
            Heard::Event(ModelEvent::ResponseEnded(ResponseEnd::Completed)),
        ]
    );
}

#[test]
fn expiry_is_announced_with_time_to_spare() {
    let expires = |seconds: u64| json!({ "type": "session.created", "session": { "expires_at": 1_795_000_000 + seconds } });
    let mut session = Session::plain();
    session.say(expires(3_600));
    session.say(updated("audio/pcmu", "audio/pcmu"));
    session.wait(52 * 60 * 1_000 - 1);
    assert_eq!(session.heard.events(), []);
    session.wait(1);
    assert_eq!(session.heard.events(), [ModelEvent::ExpiresIn(Duration::from_secs(450))]);
    session.wait(3_600_000);
    assert_eq!(session.heard.events(), [], "told once");

    let mut session = Session::plain();
    session.say(expires(60));
    session.say(updated("audio/pcmu", "audio/pcmu"));
    session.wait(44_999);
    assert_eq!(session.heard.events(), []);
    session.wait(1);
    assert_eq!(session.heard.events(), [ModelEvent::ExpiresIn(Duration::from_millis(11_250))]);

    // A server whose clock is behind ours.
    let mut session = Session::plain();
    session.say(expires(0));
    session.say(updated("audio/pcmu", "audio/pcmu"));
    session.wait(51 * 60 * 1_000);
    assert_eq!(session.heard.events(), []);
}

#[test]
fn a_renewed_session_remembers_by_text_and_counts_on() {
    let mut old = Session::ready();
    old.created("resp_1");
    old.audio("resp_1", "item_1", &[1; 8]);
    old.function_call("resp_1", "call_1", "{}");
    let history = vec![
        HistoryTurn { speaker: tandem_call::Speaker::Caller, text: "Hello?".into() },
        HistoryTurn { speaker: tandem_call::Speaker::Agent, text: "Workshop, hello.".into() },
    ];
    let mut new = old.dialect.successor(history);
    let mut out = Outbox::default();
    new.open(old.now, &mut out);
    let messages = sent(&mut out);
    assert_eq!(messages[0]["type"], "session.update");
    assert_eq!(messages[1]["item"]["content"], json!([{ "type": "input_text", "text": "Hello?" }]));
    assert_eq!(
        messages[2]["item"]["content"],
        json!([{ "type": "output_text", "text": "Workshop, hello." }])
    );
    old.audio("resp_1", "item_2", &[1; 8]);
    new.take_over(&mut old.dialect);
    let mut new = Session { dialect: new, now: old.now, out, heard: Recorder::default() };
    new.say(updated("audio/pcmu", "audio/pcmu"));
    new.result("call_1");
    let messages = new.sent();
    assert_eq!(messages[0]["item"]["role"], "system");
    assert_eq!(messages[1]["type"], "response.create");
    new.created("resp_9");
    new.audio("resp_9", "item_9", &[1; 8]);
    assert!(new.heard.take().contains(&Heard::Audio(ItemId(3), MU, vec![1; 8])));
}

#[test]
fn closures_are_sorted() {
    for (ready, code, gives_up) in [
        (true, None, false),
        (true, Some(1000), false),
        (true, Some(1001), false),
        (true, Some(1011), false),
        (true, Some(4000), false),
        (false, Some(4000), true),
        (false, Some(1008), true),
        (false, None, false),
    ] {
        let mut session = if ready { Session::ready() } else { Session::plain() };
        let fault = session.dialect.handle_close(code, "because");
        assert_eq!(fault.reaction == tandem_call::Reaction::GiveUp, gives_up, "{code:?} {ready}");
        assert!(fault.reason.contains("because"));
    }
}

#[test]
fn the_address_is_made_from_what_is_configured() {
    for (base, url) in [
        (None, "wss://api.openai.com/v1/realtime?model=gpt-realtime-2.1"),
        (Some("ws://127.0.0.1:9"), "ws://127.0.0.1:9/v1/realtime?model=gpt-realtime-2.1"),
        (Some("http://h/v1/"), "ws://h/v1/realtime?model=gpt-realtime-2.1"),
        (Some("wss://h/openai/realtime"), "wss://h/openai/realtime?model=gpt-realtime-2.1"),
        (
            Some("wss://h/v1/realtime?api-version=1"),
            "wss://h/v1/realtime?api-version=1&model=gpt-realtime-2.1",
        ),
    ] {
        let key: SecretString = "sk-secret".to_owned().into();
        let mut settings = ModelSettings::new(Provider::OpenAiRealtime, key);
        settings.base_url = base.map(str::to_owned);
        let session = Session::new(settings, spec());
        let request = session.dialect.request();
        assert_eq!(request.url, url);
        assert_eq!(request.headers, [("authorization", "Bearer sk-secret".to_owned())]);
    }
}

#[test]
fn broken_messages_are_refused() {
    let mut session = Session::ready();
    for (payload, error) in [
        (&b"garbage"[..], "no JSON"),
        (b"[1]", "no object"),
        (b"\xff\xfe", "no JSON"),
        (b"", "no JSON"),
    ] {
        let refused = session
            .dialect
            .handle_message(session.now, payload, &mut session.out, &mut session.heard)
            .unwrap_err();
        assert!(refused.to_string().contains(error), "{refused}");
    }
}
