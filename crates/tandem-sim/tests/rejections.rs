//! What a real server refuses, the strict fakes refuse too; the lenient ones only note it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tandem_sim::{
    Action, Answer, AnswerEnd, Dialect, FakeConfig, FakeServer, Provider, Script, Strictness,
    ToolRequest, Trigger,
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn dial(server: &FakeServer, headers: &[(&'static str, &str)]) -> Result<Socket, Error> {
    let mut request = server.url().into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    connect_async(request).await.map(|(socket, _)| socket)
}

/// What the server says to `messages`: its messages, and the close code with its reason.
async fn exchange(server: &FakeServer, messages: &[Value]) -> (Vec<Value>, Option<(u16, String)>) {
    let headers = [("authorization", "Bearer test-key"), ("x-goog-api-key", "test-key")];
    let index = server.handle().connections();
    let mut socket = dial(server, &headers).await.unwrap();
    for message in messages {
        let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
        let _ = socket.send(Message::text(text)).await;
    }
    let progress = server
        .handle()
        .reached(index, |progress| progress.ending || progress.received >= messages.len() as u64)
        .await;
    let mut answers = Vec::new();
    let mut closed = None;
    while answers.len() < progress.queued as usize || (progress.ending && closed.is_none()) {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => answers.push(serde_json::from_str(&text).unwrap()),
            Some(Ok(Message::Binary(bytes))) => {
                answers.push(serde_json::from_slice(&bytes).unwrap());
            }
            Some(Ok(Message::Close(Some(frame)))) => {
                closed = Some((u16::from(frame.code), frame.reason.to_string()));
            }
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    }
    (answers, closed)
}

fn setup(fields: Value) -> Value {
    let mut setup = json!({ "model": "models/gemini-3.8-live" });
    let Value::Object(fields) = fields else { panic!("{fields} is no object") };
    for (key, value) in fields {
        setup[key] = value;
    }
    json!({ "setup": setup })
}

fn declared(behavior: &str) -> Value {
    json!([{ "functionDeclarations": [{ "name": "t", "behavior": behavior }] }])
}

#[tokio::test]
async fn gemini_closes_on_what_it_does_not_accept() {
    const EXTENDED: &str = "models/gemini-3.8-live-extended-thinking";
    let plain = || setup(json!({}));
    let thinking = json!({ "thinkingConfig": { "thinkingLevel": "LOW" } });
    let voice = |name: &str| {
        let config = json!({ "prebuiltVoiceConfig": { "voiceName": name } });
        json!({ "generationConfig": { "speechConfig": { "voiceConfig": config } } })
    };
    let audio = |data: &str, mime: &str| json!({ "realtimeInput": { "audio": { "data": data, "mimeType": mime } } });
    let result = |id: &str, response: Value| json!({ "toolResponse": { "functionResponses": [{ "id": id, "name": "t", "response": response }] } });
    let table: Vec<(&str, Vec<Value>, u16, &str)> = vec![
        ("no setup", vec![json!({ "realtimeInput": { "text": "hi" } })], 1007, "first message"),
        ("second setup", vec![plain(), plain()], 1007, "only once"),
        (
            "text modality",
            vec![setup(json!({ "generationConfig": { "responseModalities": ["TEXT"] } }))],
            1007,
            "invalid argument",
        ),
        (
            "unknown field",
            vec![setup(json!({ "sessionTime": 3 }))],
            1007,
            "Unknown name \"sessionTime\"",
        ),
        (
            "unknown nested field",
            vec![setup(json!({ "generationConfig": { "stopSequences": [] } }))],
            1007,
            "stopSequences",
        ),
        ("null handle", vec![setup(json!({ "sessionResumption": { "handle": null } }))], 1008, ""),
        (
            "unknown handle",
            vec![setup(json!({ "sessionResumption": { "handle": "h-9" } }))],
            1008,
            "not found",
        ),
        ("unknown voice", vec![setup(voice("Nobody"))], 1007, "speaker"),
        (
            "thinking level missing",
            vec![setup(json!({ "model": EXTENDED }))],
            1007,
            "Thinking level",
        ),
        (
            "thinking level not wanted",
            vec![setup(json!({ "generationConfig": thinking }))],
            1007,
            "Thinking level",
        ),
        (
            "BLOCKING on extended thinking",
            vec![setup(
                json!({ "model": EXTENDED, "generationConfig": thinking, "tools": declared("BLOCKING") }),
            )],
            1007,
            "behavior",
        ),
        (
            "NON_BLOCKING on 3.1",
            vec![setup(
                json!({ "model": "models/gemini-3.1-flash-live-preview", "tools": declared("NON_BLOCKING") }),
            )],
            1007,
            "behavior",
        ),
        (
            "role system",
            vec![
                plain(),
                json!({ "clientContent": { "turns": [{ "role": "system", "parts": [] }] } }),
            ],
            1007,
            "role",
        ),
        (
            "activity with detection on",
            vec![plain(), json!({ "realtimeInput": { "activityStart": {} } })],
            1007,
            "activity",
        ),
        ("unknown call", vec![plain(), result("fc-9", json!({}))], 1007, "fc-9"),
        ("audio without a rate", vec![plain(), audio("AAAA", "audio/pcm")], 1007, "rate"),
        (
            "half a sample",
            vec![plain(), audio("AAAA", "audio/pcm;rate=16000")],
            1007,
            "half a sample",
        ),
        ("bad base64", vec![plain(), audio("A!AA", "audio/pcm;rate=16000")], 1007, "base64"),
        ("no JSON", vec![plain(), json!("{\"realtimeInput\":")], 1007, "JSON"),
        ("unknown message", vec![plain(), json!({ "somethingElse": {} })], 1007, "somethingElse"),
    ];
    for (name, messages, code, reason) in table {
        let config = FakeConfig::new(Provider::Gemini, vec![Script::new()]);
        let server = FakeServer::start(config.clone()).await.unwrap();
        let (_, closed) = exchange(&server, &messages).await;
        let (closed_code, closed_reason) = closed.unwrap_or_else(|| panic!("{name}: not closed"));
        assert_eq!(closed_code, code, "{name}");
        assert!(closed_reason.contains(reason), "{name}: {closed_reason}");
        assert_eq!(server.handle().violations(0).len(), 1, "{name}");

        let lenient = FakeConfig { strictness: Strictness::Lenient, ..config };
        let server = FakeServer::start(lenient).await.unwrap();
        let (_, closed) = exchange(&server, &messages).await;
        assert_eq!(closed, None, "{name}");
        assert!(!server.handle().violations(0).is_empty(), "{name}");
    }
}

#[tokio::test]
async fn gemini_takes_what_is_right() {
    let snake = json!({ "setup": {
        "model": "models/gemini-3.8-live",
        "generation_config": {
            "response_modalities": ["AUDIO"],
            "speech_config": { "voice_config": { "prebuilt_voice_config": { "voice_name": "en-us-tavi" } } },
        },
        "realtime_input_config": { "automatic_activity_detection": { "disabled": true } },
        "session_resumption": {},
        "tools": [{ "function_declarations": [
            { "name": "t", "parameters": { "type": "OBJECT", "properties": { "a_b": { "type": "STRING" } } } },
        ] }],
    } });
    let server =
        FakeServer::start(FakeConfig::new(Provider::Gemini, vec![Script::new()])).await.unwrap();
    let (answers, closed) = exchange(&server, &[
        snake,
        json!({ "realtime_input": { "activity_start": {} } }),
        json!({ "realtime_input": { "audio": { "data": "AAA=", "mime_type": "audio/pcm;rate=16000" } } }),
        json!({ "realtime_input": { "activity_end": {} } }),
        json!({ "client_content": { "turns": [{ "role": "user", "parts": [] }], "turn_complete": false } }),
        json!({ "context_update": { "system_instruction": { "parts": [] } } }),
    ])
    .await;
    assert_eq!(answers, [json!({ "setupComplete": {} })]);
    assert_eq!(closed, None);
    assert_eq!(server.handle().violations(0), [""; 0]);
}

#[tokio::test]
async fn a_message_before_setup_complete_is_refused() {
    let waits = Script::new().on(Trigger::Setup, []);
    let server = FakeServer::start(FakeConfig::new(Provider::Gemini, vec![waits])).await.unwrap();
    let text = json!({ "realtimeInput": { "text": "too early" } });
    let (_, closed) = exchange(&server, &[setup(json!({})), text]).await;
    assert_eq!(closed.map(|(code, _)| code), Some(1007));
}

#[tokio::test]
async fn a_session_is_resumed_only_when_its_old_socket_is_closed() {
    let script = Script::new().on(Trigger::Setup, [Action::Ready, Action::Handle("h-1".into())]);
    let server = FakeServer::start(FakeConfig::new(Provider::Gemini, vec![script])).await.unwrap();
    let resume = || [setup(json!({ "sessionResumption": { "handle": "h-1" } }))];
    let key = [("x-goog-api-key", "test-key")];
    let mut old = dial(&server, &key).await.unwrap();
    old.send(Message::text(setup(json!({})).to_string())).await.unwrap();
    server.handle().answered(0, 1).await;

    let (_, closed) = exchange(&server, &resume()).await;
    assert_eq!(closed.map(|(code, _)| code), Some(1011));

    old.close(None).await.unwrap();
    let (answers, closed) = exchange(&server, &resume()).await;
    assert_eq!(answers[0], json!({ "setupComplete": {} }));
    assert_eq!(closed, None);
}

#[tokio::test]
async fn scheduling_is_refused_by_extended_thinking() {
    let script = Script::new().on(
        Trigger::Setup,
        [Action::Ready, Action::Tool(ToolRequest::new("fc-1", "t", json!({})))],
    );
    let server = FakeServer::start(FakeConfig::new(Provider::Gemini, vec![script])).await.unwrap();
    let thinking = json!({ "thinkingConfig": { "thinkingLevel": "LOW" } });
    let model = "models/gemini-3.8-live-extended-thinking";
    let result = |extra: &str| {
        let mut response = json!({ "id": "fc-1", "name": "t", "response": {} });
        if !extra.is_empty() {
            response["scheduling"] = extra.into();
        }
        json!({ "toolResponse": { "functionResponses": [response] } })
    };
    for (scheduling, closes) in [("", false), ("SILENT", true)] {
        let setup = setup(json!({ "model": model, "generationConfig": thinking }));
        let (_, closed) = exchange(&server, &[setup, result(scheduling)]).await;
        assert_eq!(closed.is_some(), closes, "{scheduling}");
    }
    let second = [setup(json!({})), result(""), result("")];
    exchange(&server, &second).await;
    assert_eq!(server.handle().violations(2), ["tool call fc-1 answered twice"]);
}

#[tokio::test]
async fn openai_answers_mistakes_with_an_error_event() {
    let session = |fields: Value| {
        let mut session = json!({ "type": "realtime" });
        for (key, value) in fields.as_object().expect("an object") {
            session[key] = value.clone();
        }
        json!({ "type": "session.update", "session": session })
    };
    let typed = |kind: &str| json!({ "type": kind });
    let truncate = |item: &str, ms: Value| json!({ "type": "conversation.item.truncate", "item_id": item, "content_index": 0, "audio_end_ms": ms });
    let create = |item: Value| json!({ "type": "conversation.item.create", "item": item });
    let user = |id: &str| {
        create(
            json!({ "id": id, "type": "message", "role": "user", "content": [{ "type": "input_text", "text": "x" }] }),
        )
    };
    let output = |call: &str| {
        create(json!({ "type": "function_call_output", "call_id": call, "output": "{}" }))
    };
    let input = |fields: Value| json!({ "audio": { "input": fields } });
    let pcm16k = json!({ "format": { "type": "audio/pcm", "rate": 16_000 } });
    let voice = session(json!({ "audio": { "output": { "voice": "ash" } } }));
    let respond = || typed("response.create");
    let table: Vec<(&str, Vec<Value>, &str, Option<&str>)> = vec![
        (
            "no session.type",
            vec![json!({ "type": "session.update", "session": {} })],
            "missing_required_parameter",
            Some("session.type"),
        ),
        (
            "unknown session field",
            vec![session(json!({ "temperature": 0.8 }))],
            "unknown_parameter",
            Some("session.temperature"),
        ),
        (
            "beta field",
            vec![session(json!({ "input_audio_format": "g711_ulaw" }))],
            "unknown_parameter",
            Some("session.input_audio_format"),
        ),
        (
            "unknown nested field",
            vec![session(input(json!({ "gain": 2 })))],
            "unknown_parameter",
            Some("session.audio.input.gain"),
        ),
        (
            "unknown event field",
            vec![json!({ "type": "response.cancel", "why": 1 })],
            "unknown_parameter",
            Some("why"),
        ),
        (
            "voice change after audio",
            vec![session(json!({})), respond(), voice],
            "cannot_update_voice",
            Some("session.audio.output.voice"),
        ),
        (
            "unknown voice",
            vec![session(json!({ "audio": { "output": { "voice": "onyx" } } }))],
            "invalid_value",
            Some("session.audio.output.voice"),
        ),
        (
            "both modalities",
            vec![session(json!({ "output_modalities": ["audio", "text"] }))],
            "invalid_value",
            Some("session.output_modalities"),
        ),
        (
            "PCM at 16 kHz",
            vec![session(input(pcm16k))],
            "invalid_value",
            Some("session.audio.input.format.rate"),
        ),
        (
            "bad base64",
            vec![json!({ "type": "input_audio_buffer.append", "audio": "A!" })],
            "invalid_value",
            Some("audio"),
        ),
        (
            "second response",
            vec![session(json!({})), respond(), respond()],
            "conversation_already_has_active_response",
            None,
        ),
        ("nothing to cancel", vec![typed("response.cancel")], "response_cancel_not_active", None),
        (
            "empty commit",
            vec![typed("input_audio_buffer.commit")],
            "input_audio_buffer_commit_empty",
            None,
        ),
        (
            "truncate beyond the end",
            vec![session(json!({})), respond(), truncate("item_1", json!(1_001))],
            "invalid_value",
            Some("audio_end_ms"),
        ),
        (
            "truncate with a fraction",
            vec![session(json!({})), respond(), truncate("item_1", json!(10.5))],
            "invalid_value",
            Some("audio_end_ms"),
        ),
        (
            "truncate a user item",
            vec![user("mine"), truncate("mine", json!(1))],
            "unsupported_content_type",
            Some("item_id"),
        ),
        (
            "truncate nothing",
            vec![truncate("item_9", json!(1))],
            "item_truncate_invalid_item_id",
            Some("item_id"),
        ),
        (
            "result of an unknown call",
            vec![output("call_9")],
            "invalid_value",
            Some("item.call_id"),
        ),
        (
            "duplicate item",
            vec![user("mine"), user("mine")],
            "item_create_duplicate_item_id",
            Some("item.id"),
        ),
        (
            "assistant audio",
            vec![create(
                json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_audio" }] }),
            )],
            "invalid_value",
            Some("item.content"),
        ),
        ("unknown type", vec![typed("response.restart")], "invalid_value", Some("type")),
        ("no type", vec![json!({ "event": 1 })], "invalid_event", Some("type")),
        (
            "only for WebRTC",
            vec![typed("output_audio_buffer.clear")],
            "invalid_value",
            Some("type"),
        ),
        ("no JSON", vec![json!("{\"type\":")], "invalid_json", None),
    ];
    let script =
        Script::new().on(Trigger::Text, [Answer::of_ms(1_000).end(AnswerEnd::Open).into()]);
    for (name, mut messages, code, param) in table {
        if let Some(Value::Object(last)) = messages.last_mut() {
            last.insert("event_id".into(), "cli-7".into());
        }
        let config = FakeConfig::new(Provider::OpenAi, vec![script.clone()]);
        let server = FakeServer::start(config.clone()).await.unwrap();
        let (answers, closed) = exchange(&server, &messages).await;
        assert_eq!(closed, None, "{name}: the session goes on");
        let errors: Vec<&Value> =
            answers.iter().filter(|answer| answer["type"] == "error").collect();
        let [error] = errors.as_slice() else { panic!("{name}: {answers:?}") };
        assert_eq!(error["error"]["code"], code, "{name}");
        assert_eq!(error["error"]["param"], json!(param), "{name}");
        if code != "invalid_json" {
            assert_eq!(error["error"]["event_id"], "cli-7", "{name}");
        }
        assert_eq!(server.handle().violations(0).len(), 1, "{name}");

        let lenient = FakeConfig { strictness: Strictness::Lenient, ..config };
        let server = FakeServer::start(lenient).await.unwrap();
        let (answers, _) = exchange(&server, &messages).await;
        assert!(answers.iter().all(|answer| answer["type"] != "error"), "{name}");
        assert_eq!(server.handle().violations(0).len(), 1, "{name}");
    }
}

#[tokio::test]
async fn truncation_names_both_lengths() {
    let script = Script::new().on(Trigger::Text, [Answer::of_ms(1_200).into()]);
    let server = FakeServer::start(FakeConfig::new(Provider::OpenAi, vec![script])).await.unwrap();
    let pcmu = json!({ "format": { "type": "audio/pcmu" } });
    let (answers, _) = exchange(&server, &[
        json!({ "type": "session.update", "session": { "type": "realtime", "audio": { "output": pcmu } } }),
        json!({ "type": "response.create" }),
        json!({ "type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1_840 }),
        json!({ "type": "conversation.item.truncate", "item_id": "item_1", "content_index": 0, "audio_end_ms": 1_200 }),
    ])
    .await;
    let [.., error, truncated] = answers.as_slice() else { panic!("{answers:?}") };
    let message = error["error"]["message"].as_str().unwrap();
    assert_eq!(message, "Audio content of 1200ms is already shorter than 1840ms.");
    assert_eq!(truncated["type"], "conversation.item.truncated");
    assert_eq!(truncated["audio_end_ms"], 1_200);
}

#[tokio::test]
async fn only_the_right_key_and_path_are_let_in() {
    let right = ("authorization", "Bearer test-key");
    for (provider, headers, suffix, status) in [
        (Provider::OpenAi, vec![], "", Some(401)),
        (Provider::OpenAi, vec![("authorization", "Bearer wrong")], "", Some(401)),
        (Provider::OpenAi, vec![right], "", None),
        (Provider::Gemini, vec![], "", Some(401)),
        (Provider::Gemini, vec![("x-goog-api-key", "wrong")], "", Some(401)),
        (Provider::Gemini, vec![], "?key=test-key", None),
        (Provider::Gemini, vec![("x-goog-api-key", "test-key")], "", None),
        (Provider::Gemini, vec![("x-goog-api-key", "test-key")], "Constrained", Some(404)),
    ] {
        let server =
            FakeServer::start(FakeConfig::new(provider, vec![Script::new()])).await.unwrap();
        let mut request = format!("{}{suffix}", server.url()).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let answer = match connect_async(request).await {
            Ok(_) => None,
            Err(Error::Http(response)) => Some(response.status().as_u16()),
            Err(other) => panic!("{other}"),
        };
        assert_eq!(answer, status, "{provider:?} {suffix}");
    }
}

#[tokio::test]
async fn the_beta_header_ends_a_ga_session() {
    for (beta, code) in [(false, Some(4000)), (true, None)] {
        let config = FakeConfig {
            dialect: Dialect { beta, ..Dialect::default() },
            ..FakeConfig::new(Provider::OpenAi, vec![Script::new()])
        };
        let server = FakeServer::start(config).await.unwrap();
        let headers = [("authorization", "Bearer test-key"), ("openai-beta", "realtime=v1")];
        let mut socket = dial(&server, &headers).await.unwrap();
        let first: Value =
            serde_json::from_str(socket.next().await.unwrap().unwrap().to_text().unwrap()).unwrap();
        assert_eq!(first["type"], if beta { "session.created" } else { "error" });
        if let Some(code) = code {
            let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else {
                panic!("not closed")
            };
            assert_eq!(u16::from(frame.code), code);
        }
        assert_eq!(server.handle().violations(0), ["the OpenAI-Beta header was sent"]);
    }
}
