#![expect(
    clippy::needless_pass_by_value,
    reason = "tests read better with json!(…) as the argument"
)]

use tandem_call::{
    ItemId, Reaction, ResponseEnd, Speaker, ToolCallId, ToolDeclaration, ToolOutcome, Usage,
};

use super::*;
use crate::{
    Provider, Verdict,
    dialect::testing::{Heard, Recorder, sent},
};

mod local_turns;
mod turns;

const PCM: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

fn settings(model: &str) -> ModelSettings {
    let mut settings = ModelSettings::new(Provider::GeminiLive, "k".to_owned().into());
    settings.model = model.into();
    settings
}

fn spec() -> SessionSpec {
    SessionSpec {
        instructions: "You answer the phone for a bicycle workshop.".into(),
        voice: Some("Kore".into()),
        language: "en-US".into(),
        temperature: Some(0.8),
        tools: vec![ToolDeclaration {
            name: "find_repair".into(),
            description: "Looks up a repair order.".into(),
            parameters: json!({ "type": "object", "additionalProperties": false,
                "properties": { "order": { "type": "string", "description": "Order number" } },
                "required": ["order"] }),
        }],
        input: INPUT,
        output: PCM,
        transcription: true,
        history: Vec::new(),
        first_item: ItemId(1),
    }
}

/// A dialect with a clock of its own.
struct Session {
    dialect: GeminiLive,
    now: Instant,
    out: Outbox,
    heard: Recorder,
}

impl Session {
    fn opened(mut dialect: GeminiLive) -> Self {
        let now = Instant::now();
        let mut out = Outbox::default();
        dialect.open(now, &mut out);
        Self { dialect, now, out, heard: Recorder::default() }
    }

    fn new(model: &str) -> Self {
        Self::opened(GeminiLive::new(Arc::new(settings(model)), spec()))
    }

    fn ready_with(model: &str) -> Self {
        let mut session = Self::new(model);
        session.become_ready();
        session
    }

    fn ready() -> Self {
        Self::ready_with("gemini-3.8-live")
    }

    fn become_ready(&mut self) {
        self.sent();
        self.say(json!({ "setupComplete": {} }));
        assert_eq!(self.out.take_verdict(), Some(Verdict::Ready));
    }

    fn say(&mut self, message: Value) {
        let payload = message.to_string();
        self.dialect
            .handle_message(self.now, payload.as_bytes(), &mut self.out, &mut self.heard)
            .expect("valid JSON");
    }

    fn content(&mut self, content: Value) {
        self.say(json!({ "serverContent": content }));
    }

    fn audio(&mut self, bytes: &[u8]) {
        self.content(json!({ "modelTurn": { "parts": [part(bytes)] } }));
    }

    fn tool_call(&mut self, id: &str) {
        self.say(json!({ "toolCall": { "functionCalls": [
            { "id": id, "name": "find_repair", "args": { "order": "B-17" } }] } }));
    }

    fn order(&mut self, command: ModelCommand) {
        self.dialect.command(self.now, command, &mut self.out);
        while let Some(event) = self.out.next_event() {
            self.heard.event(event);
        }
    }

    fn result(&mut self, id: &str) {
        self.order(ModelCommand::ToolResult {
            id: ToolCallId(id.into()),
            outcome: ToolOutcome::Answered(json!({ "status": "ready" })),
        });
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
}

fn part(bytes: &[u8]) -> Value {
    json!({ "inlineData": { "mimeType": "audio/pcm;rate=24000",
                            "data": base64_simd::STANDARD.encode_to_string(bytes) } })
}

fn audio(item: u64, bytes: &[u8]) -> Heard {
    Heard::Audio(ItemId(item), PCM, bytes.to_vec())
}

fn text(item: u64, text: &str) -> Heard {
    Heard::Event(ModelEvent::AgentText { item: ItemId(item), text: text.into() })
}

const STARTED: Heard = Heard::Event(ModelEvent::ResponseStarted);
const COMPLETED: Heard = Heard::Event(ModelEvent::ResponseEnded(ResponseEnd::Completed));
const CANCELLED: Heard = Heard::Event(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
const SPEECH: Heard = Heard::Event(ModelEvent::SpeechStarted);

#[test]
fn the_setup_is_what_the_server_takes() {
    let mut session = Session::new("gemini-3.8-live");
    let golden: Value =
        serde_json::from_str(include_str!("../../testdata/gemini/setup.json")).unwrap();
    assert_eq!(session.sent(), [golden]);
}

#[test]
fn a_recorded_conversation_is_understood() {
    let transcript = include_str!("../../testdata/gemini/conversation.jsonl");
    let mut session = Session::new("gemini-3.8-live");
    for line in transcript.lines() {
        session
            .dialect
            .handle_message(session.now, line.as_bytes(), &mut session.out, &mut session.heard)
            .unwrap();
    }
    let usage = |input_tokens, output_tokens, output_audio_tokens| {
        Heard::Event(ModelEvent::Usage(Usage {
            input_tokens,
            output_tokens,
            input_audio_tokens: 0,
            output_audio_tokens,
            cached_tokens: 0,
        }))
    };
    let caller =
        |text: &str, last| Heard::Event(ModelEvent::CallerText { text: text.into(), last });
    assert_eq!(
        session.heard.take(),
        [
            STARTED,
            audio(1, &[1, 2, 3, 4]),
            text(1, "Hello, "),
            audio(1, &[5, 6]),
            text(1, "how can I help?"),
            COMPLETED,
            usage(40, 30, 30),
            caller(" Is my", false),
            caller(" bike ready?", false),
            STARTED,
            audio(2, &[1, 2, 3, 4]), // Two parts of one message, which also ends the turn.
            text(2, "Yes."),
            usage(70, 12, 0),
            COMPLETED,
        ]
    );
    assert_eq!(session.dialect.handle.as_deref(), Some("h-2"));
}

#[test]
fn nothing_is_sent_before_the_setup_is_complete() {
    let mut session = Session::new("gemini-3.8-live");
    session.sent();
    assert_eq!(session.out.take_verdict(), None);
    session.say(json!({ "setupComplete": { "sessionId": "s" } }));
    assert_eq!(session.out.take_verdict(), Some(Verdict::Ready));
    assert!(session.sent().is_empty());
}

#[test]
fn words_go_the_way_the_model_takes_them() {
    let mut session = Session::ready();
    session.order(ModelCommand::Greet(Greet::Exactly("Hello.".into())));
    session.order(ModelCommand::Digits("5".into()));
    assert_eq!(
        session.sent(),
        [
            json!({ "realtimeInput": { "text":
                "(The call is connected.) Say exactly these words and nothing else: Hello." } }),
            json!({ "realtimeInput": { "text":
                "(The caller pressed the key 5 on the telephone keypad.)" } }),
        ]
    );
    let mut session = Session::ready_with("gemini-2.5-flash-native-audio-preview-12-2025");
    session.order(ModelCommand::Say("Go on.".into()));
    assert_eq!(
        session.sent(),
        [json!({ "clientContent": { "turnComplete": true,
            "turns": [{ "role": "user", "parts": [{ "text": "Go on." }] }] } })]
    );
}

#[test]
fn callers_words_end_when_the_server_or_the_pause_says_so() {
    let fragment = |text: &str| json!({ "inputTranscription": { "text": text } });
    let said = |text: &str, last| ModelEvent::CallerText { text: text.into(), last };
    let mut session = Session::ready();
    session.content(json!({ "interimInputTranscription": { "text": "is my bi" } }));
    session.content(fragment(" Is my"));
    session.wait(1_999);
    session.content(fragment(" bike ready?"));
    session.wait(2_000);
    assert_eq!(
        session.heard.events(),
        [said(" Is my", false), said(" bike ready?", false), said("", true)]
    );
    session.content(json!({ "inputTranscription": { "text": "Yes", "finished": true } }));
    session.wait(5_000);
    assert_eq!(session.heard.events(), [said("Yes", false), said("", true)]);
}

#[test]
fn thoughts_strangers_and_other_rates() {
    let mut session = Session::ready();
    session.content(json!({ "modelTurn": { "parts": [
        { "thought": true, "text": "hm", "inlineData": part(&[9, 9])["inlineData"] },
        { "text": "stray" },
        { "inlineData": { "mimeType": "audio/pcm;rate=16000", "data": "AQI=" } },
        { "inlineData": { "mimeType": "image/png", "data": "AQI=" } },
        { "inlineData": { "mimeType": "audio/pcm;rate=24000", "data": "§" } },
        { "executableCode": {} },
    ] }, "groundingMetadata": {}, "unheardOf": 1 }));
    session.say(json!({ "somethingNew": { "a": 1 } }));
    session.say(json!({}));
    session.say(json!({ "voiceActivity": { "voiceActivityType": "ACTIVITY_START" } }));
    assert_eq!(
        session.heard.take(),
        [STARTED, Heard::Audio(ItemId(1), AudioFormat::Pcm16(SampleRate::Hz16000), vec![1, 2])]
    );
}

#[test]
fn go_away_and_age_ask_for_a_renewal() {
    for (left, within) in
        [(json!("10s"), 8_000), (json!("50s"), 48_000), (json!("5s"), 4_000), (json!("?"), 0)]
    {
        let mut session = Session::ready();
        session.say(json!({ "goAway": { "timeLeft": left } }));
        assert_eq!(session.heard.events(), [ModelEvent::ExpiresIn(Duration::from_millis(within))]);
        session.wait(3_600_000);
        assert_eq!(session.heard.events(), [], "asked for once");
    }
    let mut session = Session::ready();
    session.wait(509_999);
    assert_eq!(session.heard.events(), []);
    session.wait(1);
    assert_eq!(session.heard.events(), [ModelEvent::ExpiresIn(Duration::from_secs(30))]);
}

#[test]
fn only_good_handles_are_kept_and_used() {
    let mut session = Session::ready();
    let update = |handle: Value, resumable: bool| json!({ "sessionResumptionUpdate": { "newHandle": handle, "resumable": resumable } });
    session.say(update(json!("h-1"), true));
    session.say(update(json!("h-2"), true));
    session.say(update(json!(""), false));
    session.say(update(json!("h-3"), false));
    session.say(json!({ "sessionResumptionUpdate": { "resumable": true } }));
    let history = vec![HistoryTurn { speaker: Speaker::Caller, text: "Hello".into() }];
    let mut next = Session::opened(session.dialect.successor(history.clone()));
    let setup = next.sent().remove(0);
    assert_eq!(setup["setup"]["sessionResumption"], json!({ "handle": "h-2" }));
    next.say(json!({ "setupComplete": {} }));
    assert!(next.sent().is_empty(), "a resumed session remembers");

    // The handle is refused: a fresh session with the history in words.
    let mut refused = session.dialect.successor(history);
    let fault = refused.handle_close(Some(1008), "Requested entity was not found.");
    assert!(matches!(fault.reaction, Reaction::Retry { .. }));
    let mut fresh = Session::opened(refused.fallback().expect("a fresh session"));
    assert_eq!(fresh.sent()[0]["setup"]["sessionResumption"], json!({}));
    fresh.say(json!({ "setupComplete": {} }));
    assert_eq!(
        fresh.sent(),
        [json!({ "clientContent": { "turnComplete": false,
            "turns": [{ "role": "user", "parts": [{ "text": "Hello" }] }] } })]
    );
    assert!(fresh.dialect.fallback().is_none());
}

#[test]
fn results_for_calls_of_the_session_before_are_told_in_words() {
    let mut session = Session::ready();
    session.audio(&[1, 1]);
    session.tool_call("fc-1");
    let mut next = session.dialect.successor(Vec::new());
    next.take_over(&mut session.dialect);
    let mut next = Session::opened(next);
    next.become_ready();
    next.result("fc-1");
    let words = next.sent().remove(0)["realtimeInput"]["text"].as_str().unwrap().to_owned();
    assert!(words.contains("find_repair") && words.contains(r#"{"status":"ready"}"#), "{words}");
    next.audio(&[2, 2]);
    assert_eq!(next.heard.take(), [STARTED, audio(2, &[2, 2])]);
}

#[test]
fn closures_are_sorted() {
    for (ready, code, reason, gives_up) in [
        (true, None, "", false),
        (true, Some(1000), "", true),
        (true, Some(1001), "", false),
        (true, Some(1007), "Request contains an invalid argument.", true),
        (true, Some(1008), "Operation is not implemented", false),
        (false, Some(1008), "models/x is not found", true),
        (true, Some(1011), "Internal error encountered.", false),
        (true, Some(1011), "You exceeded your current quota, please check", true),
        (false, Some(1007), "Thinking level must be specified", true),
        (false, Some(1011), "", false),
    ] {
        let mut session = if ready { Session::ready() } else { Session::new("gemini-3.8-live") };
        let fault = session.dialect.handle_close(code, reason);
        assert_eq!(fault.reaction == Reaction::GiveUp, gives_up, "{code:?} {reason}");
        assert!(fault.reason.contains(reason), "{}", fault.reason);
    }
    // A second closure by policy is not tried again.
    let mut session = Session::ready();
    session.dialect.handle_close(Some(1008), "");
    let mut next = Session::opened(session.dialect.successor(Vec::new()));
    next.become_ready();
    assert_eq!(next.dialect.handle_close(Some(1008), "").reaction, Reaction::GiveUp);
}

#[test]
fn the_key_travels_in_a_header() {
    let mut settings = settings("gemini-3.8-live");
    settings.base_url = Some("http://127.0.0.1:9".into());
    let request = GeminiLive::new(Arc::new(settings), spec()).request();
    assert_eq!(
        request.url,
        "ws://127.0.0.1:9/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
    );
    assert_eq!(request.headers, [("x-goog-api-key", "k".to_owned())]);
}
