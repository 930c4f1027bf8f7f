//! Sessions over real sockets, against small servers that misbehave on purpose.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tandem_call::{
    HistoryTurn, ItemId, ModelCommand, ModelEvent, ModelFailure, ModelSession, ModelSink, Reaction,
    SessionSpec, Speaker,
};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_models::{ModelSettings, Provider, capabilities, open, probe};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_async,
    tungstenite::{
        Message,
        protocol::frame::{
            CloseFrame, Frame,
            coding::{CloseCode, Data, OpCode},
        },
    },
};

mod renewal;

const KEY: &str = "sk-very-secret";

/// Nothing here waits for time to pass; a test that hangs ends with this.
const HUNG: Duration = Duration::from_secs(20);

type Server = WebSocketStream<TcpStream>;

/// Everything a session said.
#[derive(Default)]
struct Ear {
    events: Vec<ModelEvent>,
    audio: Vec<u8>,
}

impl ModelSink for Ear {
    fn audio(&mut self, _item: ItemId, _format: AudioFormat, bytes: &[u8]) {
        self.audio.extend_from_slice(bytes);
    }

    fn event(&mut self, event: ModelEvent) {
        self.events.push(event);
    }
}

/// A session, its ear, and a clock that can be put forward.
struct Client {
    session: Box<dyn ModelSession>,
    ear: Ear,
    ahead: Duration,
}

impl Client {
    fn new(provider: Provider, address: SocketAddr) -> Self {
        let settings = settings(provider, address);
        let able = capabilities(&settings);
        let spec = SessionSpec {
            instructions: "Be brief.".into(),
            voice: None,
            language: String::new(),
            temperature: None,
            tools: Vec::new(),
            input: able.input[0],
            output: able.output[0],
            transcription: false,
            history: Vec::new(),
            first_item: ItemId(1),
        };
        let session = open(&settings, spec, Instant::now(), Duration::from_secs(1_795_000_000));
        Self { session, ear: Ear::default(), ahead: Duration::ZERO }
    }

    fn now(&self) -> Instant {
        Instant::now() + self.ahead
    }

    fn order(&mut self, command: ModelCommand) {
        let now = self.now();
        self.session.send(now, command);
    }

    fn audio(&mut self, bytes: &[u8]) {
        let now = self.now();
        self.session.send_audio(now, bytes);
    }

    /// Drives the session until `done` says so.
    async fn until(&mut self, done: impl Fn(&Ear) -> bool) {
        let driven = poll_fn(|cx| {
            loop {
                if done(&self.ear) {
                    return Poll::Ready(());
                }
                let now = self.now();
                if self.session.poll(cx, now, &mut self.ear).is_pending() {
                    return if done(&self.ear) { Poll::Ready(()) } else { Poll::Pending };
                }
            }
        });
        let reached = timeout(HUNG, driven).await;
        assert!(
            reached.is_ok(),
            "the session does not get there: {:?} {:?}",
            self.ear.events,
            self.ear.audio
        );
    }

    /// Drives the session while `other` runs.
    async fn during<T>(&mut self, other: impl Future<Output = T>) -> T {
        let mut other = pin!(other);
        let driven = poll_fn(|cx| {
            if let Poll::Ready(result) = other.as_mut().poll(cx) {
                return Poll::Ready(result);
            }
            while self.session.poll(cx, Instant::now() + self.ahead, &mut self.ear).is_ready() {}
            Poll::Pending
        });
        timeout(HUNG, driven).await.expect("the other side does not get there")
    }

    async fn ready(&mut self) {
        self.until(|ear| ear.events.contains(&ModelEvent::Ready)).await;
        let ready = self.ear.events.iter().position(|event| *event == ModelEvent::Ready);
        self.ear.events.drain(..=ready.expect("it is there"));
    }

    async fn lost(&mut self) -> ModelFailure {
        self.until(|ear| matches!(ear.events.last(), Some(ModelEvent::Lost(_)))).await;
        match self.ear.events.pop() {
            Some(ModelEvent::Lost(failure)) => failure,
            other => panic!("no loss but {other:?}"),
        }
    }
}

fn settings(provider: Provider, address: SocketAddr) -> ModelSettings {
    let mut settings = ModelSettings::new(provider, KEY.to_owned().into());
    settings.base_url = Some(format!("ws://{address}"));
    settings
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

async fn accept(listener: &TcpListener) -> Server {
    let (stream, _) = listener.accept().await.expect("a connection");
    // Small messages would wait for the client's delayed acknowledgement otherwise.
    stream.set_nodelay(true).expect("a TCP socket");
    accept_async(stream).await.expect("an upgrade")
}

/// The next JSON message, past audio.
async fn next_json(server: &mut Server) -> Value {
    loop {
        let message = server.next().await.expect("a message").expect("a whole one");
        let Message::Text(text) = message else { continue };
        let value: Value = serde_json::from_str(&text).expect("JSON");
        let audio = value.pointer("/realtimeInput/audio").is_some()
            || value.get("type") == Some(&json!("input_audio_buffer.append"));
        if !audio {
            return value;
        }
    }
}

async fn say(server: &mut Server, value: Value) {
    server.send(Message::text(value.to_string())).await.expect("the client reads");
}

/// Accepts a connection and configures a Gemini session; the setup comes back.
async fn gemini(listener: &TcpListener) -> (Server, Value) {
    let mut server = accept(listener).await;
    let setup = next_json(&mut server).await;
    // The real server sends binary frames.
    let complete = json!({ "setupComplete": {} }).to_string();
    server.send(Message::binary(complete.into_bytes())).await.expect("the client reads");
    (server, setup)
}

/// Accepts a connection and configures an OpenAI session with G.711.
async fn openai(listener: &TcpListener) -> Server {
    let mut server = accept(listener).await;
    say(&mut server, json!({ "type": "session.created", "session": {} })).await;
    assert_eq!(next_json(&mut server).await["type"], "session.update");
    let format = json!({ "format": { "type": "audio/pcmu" } });
    say(
        &mut server,
        json!({ "type": "session.updated", "session": { "audio": { "input": format, "output": format } } }),
    )
    .await;
    server
}

async fn closed_with(server: &mut Server) -> Option<u16> {
    loop {
        match server.next().await {
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map(|frame| frame.code.into());
                while let Some(Ok(_)) = server.next().await {}
                return code;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return None,
        }
    }
}

fn history() -> Vec<HistoryTurn> {
    vec![HistoryTurn { speaker: Speaker::Caller, text: "Is my bike ready?".into() }]
}

#[tokio::test]
async fn audio_flows_both_ways_and_the_call_ends_with_a_goodbye() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut server, _) = gemini(&listener).await;
        let Some(Ok(Message::Text(frame))) = server.next().await else { panic!("no audio") };
        say(
            &mut server,
            json!({ "serverContent": { "modelTurn": { "parts": [
                { "inlineData": { "mimeType": "audio/pcm;rate=24000", "data": "AQIDBA==" } }] } } }),
        )
        .await;
        (frame.to_string(), closed_with(&mut server).await)
    });
    let mut client = Client::new(Provider::GeminiLive, address);
    client.audio(&[0; 640]);
    client.ready().await;
    client.audio(&[1, 2, 3]); // Half a sample too much.
    client.until(|ear| !ear.audio.is_empty()).await;
    assert_eq!(client.ear.audio, [1, 2, 3, 4]);
    let stats = client.session.uplink_stats();
    assert_eq!((stats.frames_sent, stats.frames_dropped), (1, 1), "before it was ready: dropped");

    client.order(ModelCommand::Close);
    assert!(!client.session.is_closed());
    let (frame, code) = client.during(server).await.expect("the server ends well");
    assert_eq!(
        frame,
        r#"{"realtimeInput":{"audio":{"data":"AQI=","mimeType":"audio/pcm;rate=16000"}}}"#
    );
    assert_eq!(code, Some(1000));
    client.during(async { tokio::task::yield_now().await }).await;
    client.ahead = Duration::from_secs(1);
    client.during(async {}).await;
    let mut cx = Context::from_waker(Waker::noop());
    let now = client.now();
    while client.session.poll(&mut cx, now, &mut client.ear).is_ready() {}
    assert!(client.session.is_closed());
}

#[tokio::test]
async fn a_connection_on_which_nothing_comes_is_pinged() {
    let (listener, address) = listen().await;
    let mut client = Client::new(Provider::GeminiLive, address);
    let (mut server, _) = client.during(async move { gemini(&listener).await }).await;
    client.ready().await;
    for _ in 0..3 {
        client.audio(&[0; 640]);
        client.ahead += Duration::from_secs(20);
        let first = client.during(server.next()).await;
        assert!(matches!(first, Some(Ok(Message::Text(_)))), "the audio: {first:?}");
        let second = client.during(server.next()).await;
        assert!(matches!(second, Some(Ok(Message::Ping(_)))), "{second:?}");
    }
    assert_eq!(client.ear.events, []);
}

#[tokio::test]
async fn a_dropped_session_says_goodbye() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut server, _) = gemini(&listener).await;
        closed_with(&mut server).await
    });
    let mut client = Client::new(Provider::GeminiLive, address);
    client.ready().await;
    drop(client);
    assert_eq!(timeout(HUNG, server).await.expect("no hang").expect("no panic"), Some(1000));
}

#[tokio::test]
async fn refusals_of_the_upgrade_are_told_in_the_servers_words_without_the_key() {
    for (status, body, retried) in [
        ("401 Unauthorized", r#"{"error":{"message":"Incorrect key sk-very-secret"}}"#, false),
        ("403 Forbidden", "", false),
        ("404 Not Found", "no such model", false),
        ("409 Conflict", "", true),
        ("429 Too Many Requests", "quota", false),
        ("503 Service Unavailable", "", true),
    ] {
        let (listener, address) = listen().await;
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).await.expect("a request");
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.expect("the client reads");
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let mut client = Client::new(Provider::OpenAiRealtime, address);
        let failure = client.lost().await;
        let request = timeout(HUNG, server).await.expect("no hang").expect("no panic");
        assert!(
            request.starts_with("GET /v1/realtime?model=gpt-realtime-2.1 HTTP/1.1"),
            "{request}"
        );
        assert!(request.contains("authorization: Bearer sk-very-secret"), "{request}");
        assert!(!request.to_ascii_lowercase().contains("openai-beta"));
        let code = &status[..3];
        assert!(failure.reason.starts_with(&format!("HTTP {code}")), "{}", failure.reason);
        assert!(!failure.reason.contains(KEY), "{}", failure.reason);
        assert_eq!(matches!(failure.reaction, Reaction::Retry { .. }), retried, "{status}");
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_tried_again_with_growing_waits_and_then_given_up() {
    let (listener, address) = listen().await;
    drop(listener);
    let mut client = Client::new(Provider::GeminiLive, address);
    let mut waits = Vec::new();
    loop {
        let failure = client.lost().await;
        assert!(failure.reason.contains("cannot connect"), "{}", failure.reason);
        let Reaction::Retry { after } = failure.reaction else { break };
        waits.push(after);
        client.order(ModelCommand::Renew { history: Vec::new() });
    }
    assert_eq!(waits.len(), 5);
    assert!(waits.iter().all(|wait| !wait.is_zero() && *wait <= Duration::from_secs(3)));
    assert!(waits[4] > waits[0]);
}

#[tokio::test]
async fn a_server_that_never_answers_is_left_after_the_handshake_time() {
    // It takes the TCP connection and nothing more.
    let (listener, address) = listen().await;
    let mut client = Client::new(Provider::OpenAiRealtime, address);
    let (_held, _) = client.during(listener.accept()).await.expect("a connection");
    assert!(client.ear.events.is_empty());
    client.ahead = Duration::from_secs(5);
    let failure = client.lost().await;
    assert!(matches!(failure.reaction, Reaction::Retry { .. }));
    assert!(failure.reason.contains("in time"), "{}", failure.reason);

    // It upgrades and never completes the setup.
    let (listener, address) = listen().await;
    let mut client = Client::new(Provider::GeminiLive, address);
    let mut server = client.during(accept(&listener)).await;
    client.during(next_json(&mut server)).await;
    client.ahead = Duration::from_secs(5);
    let failure = client.lost().await;
    assert!(failure.reason.contains("configure"), "{}", failure.reason);
}

#[tokio::test]
async fn the_handshake_time_wakes_the_task_by_itself() {
    let (listener, address) = listen().await;
    let mut settings = settings(Provider::GeminiLive, address);
    settings.handshake_timeout = Duration::from_millis(20);
    let refused = timeout(HUNG, probe(&settings)).await.expect("no hang");
    assert!(refused.unwrap_err().contains("in time"));
    drop(listener);
}

#[tokio::test]
async fn a_probe_opens_and_closes() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let (mut server, _) = gemini(&listener).await;
        closed_with(&mut server).await
    });
    let settings = settings(Provider::GeminiLive, address);
    let report = timeout(HUNG, probe(&settings)).await.expect("no hang").expect("a session");
    assert!(!report.ready_after.is_zero());
    assert_eq!(timeout(HUNG, server).await.expect("no hang").expect("no panic"), Some(1000));
}

#[tokio::test]
async fn garbage_ends_the_session_with_a_reason() {
    for garbage in
        [Message::text("{\"type\": oops"), Message::binary(vec![0xFF; 100]), Message::text("[]")]
    {
        let (listener, address) = listen().await;
        let server = tokio::spawn(async move {
            let mut server = openai(&listener).await;
            server.send(garbage).await.expect("the client reads");
            server
        });
        let mut client = Client::new(Provider::OpenAiRealtime, address);
        client.ready().await;
        let failure = client.lost().await;
        assert!(matches!(failure.reaction, Reaction::Retry { .. }));
        assert!(failure.reason.contains("JSON"), "{}", failure.reason);
        server.await.expect("no panic");
    }
}

#[tokio::test]
async fn ten_megabytes_in_a_message_are_played_and_seventeen_refused() {
    let (listener, address) = listen().await;
    let (go_on, next) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let mut server = openai(&listener).await;
        say(&mut server, json!({ "type": "response.created", "response": { "id": "r" } })).await;
        let delta = |length: usize| {
            json!({ "type": "response.output_audio.delta", "response_id": "r", "item_id": "i",
                    "delta": "A".repeat(length) })
        };
        say(&mut server, delta(10 << 20)).await;
        next.await.expect("the client is there");
        // The client breaks off while this is on its way.
        let _ = server.send(Message::text(delta(17 << 20).to_string())).await;
        server
    });
    let mut client = Client::new(Provider::OpenAiRealtime, address);
    client.ready().await;
    client.until(|ear| ear.audio.len() == (10 << 20) / 4 * 3).await;
    go_on.send(()).expect("the server is there");
    let failure = client.lost().await;
    assert!(matches!(failure.reaction, Reaction::Retry { .. }));
    assert!(failure.reason.contains("too long"), "{}", failure.reason);
    drop(client);
    timeout(HUNG, server).await.expect("no hang").expect("no panic");
}

#[tokio::test]
async fn fragments_with_pings_between_them_are_one_message() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(async move {
        let mut server = openai(&listener).await;
        let text = audio_delta("AQID").to_string();
        let (first, second) = text.split_at(20);
        let fragment = |text: &str, kind, last| {
            Message::Frame(Frame::message(text.to_owned().into_bytes(), OpCode::Data(kind), last))
        };
        server.send(fragment(first, Data::Text, false)).await.expect("sent");
        server.send(Message::Ping(b"p".to_vec().into())).await.expect("sent");
        server.send(fragment(second, Data::Continue, true)).await.expect("sent");
        loop {
            if let Message::Pong(data) = server.next().await.expect("a message").expect("whole") {
                return data;
            }
        }
    });
    let mut client = Client::new(Provider::OpenAiRealtime, address);
    client.ready().await;
    client.until(|ear| ear.audio == [1, 2, 3]).await;
    assert_eq!(client.during(server).await.expect("no panic"), "p");
}

fn audio_delta(base64: &str) -> Value {
    json!({ "type": "response.output_audio.delta", "response_id": "r", "item_id": "i", "delta": base64 })
}

#[tokio::test]
async fn a_server_that_reads_too_slowly_costs_audio_and_no_commands() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(4).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let (go_on, resumed) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        let mut server = openai(&listener).await;
        resumed.await.expect("the client is there");
        let mut frames = 0;
        loop {
            let text = server.next().await.expect("a message").expect("whole");
            let text = text.into_text().expect("text");
            if text.contains("input_audio_buffer.append") {
                frames += 1;
            } else {
                return (frames, text.to_string(), server);
            }
        }
    });
    let mut client = Client::new(Provider::OpenAiRealtime, address);
    client.ready().await;
    for _ in 0..200_000 {
        client.audio(&[0xFF; 160]);
        if client.session.uplink_stats().frames_dropped >= 100 {
            break;
        }
    }
    let stats = client.session.uplink_stats();
    assert_eq!(stats.frames_dropped, 100, "{stats:?}");
    client.order(ModelCommand::Digits("1".into()));
    go_on.send(()).expect("the server is there");
    let (frames, command, _held) = client.during(server).await.expect("no panic");
    assert_eq!(
        frames, stats.frames_sent,
        "what was not dropped arrives, in order before the command"
    );
    assert!(command.contains("pressed the key 1"), "{command}");
    client.audio(&[0xFF; 160]);
    assert_eq!(client.session.uplink_stats().frames_sent, stats.frames_sent + 1, "it flows again");
}

#[tokio::test]
async fn commands_that_nobody_reads_end_the_session_at_a_bound() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(4).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let mut client = Client::new(Provider::OpenAiRealtime, address);
    let _held = client.during(openai(&listener)).await;
    client.ready().await;
    for _ in 0..100 {
        client.order(ModelCommand::Say("x".repeat(64 << 10)));
    }
    let failure = client.lost().await;
    assert!(failure.reason.contains("too slowly"), "{}", failure.reason);
}

#[tokio::test]
async fn commands_before_the_session_stands_wait_up_to_a_bound() {
    let (listener, address) = listen().await;
    let mut client = Client::new(Provider::GeminiLive, address);
    for n in 0..3 {
        client.order(ModelCommand::Say(n.to_string()));
    }
    let (mut server, _) = client.during(gemini(&listener)).await;
    client.ready().await;
    for n in 0..3 {
        let words = client.during(next_json(&mut server)).await;
        assert_eq!(words["realtimeInput"]["text"], n.to_string());
    }

    let mut client = Client::new(Provider::GeminiLive, address);
    for _ in 0..1_000 {
        client.order(ModelCommand::Say("x".into()));
    }
    let failure = client.lost().await;
    assert_eq!(failure.reaction, Reaction::GiveUp);
}

#[tokio::test]
async fn formats_beyond_the_model_are_refused_at_once() {
    let (listener, address) = listen().await;
    let settings = settings(Provider::OpenAiRealtime, address);
    let spec = SessionSpec {
        instructions: String::new(),
        voice: None,
        language: String::new(),
        temperature: None,
        tools: Vec::new(),
        input: AudioFormat::Pcm16(SampleRate::Hz8000),
        output: AudioFormat::G711(Law::Mu),
        transcription: false,
        history: Vec::new(),
        first_item: ItemId(0),
    };
    let session = open(&settings, spec, Instant::now(), Duration::ZERO);
    let mut client = Client { session, ear: Ear::default(), ahead: Duration::ZERO };
    let _held = client.during(accept(&listener)).await;
    assert_eq!(client.lost().await.reaction, Reaction::GiveUp);
}
