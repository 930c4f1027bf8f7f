//! What only sockets can show: refused and unanswered handshakes, frames, broken connections, many calls at once.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tandem_media::{AudioFormat, Law};
use tandem_sim::{
    Action, Answer, Conversation, Ending, FakeConfig, FakeServer, Keep, Mode, Provider, Script,
    Trigger, answer_audio, caller_silence, caller_speech, refused_url,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const MU: AudioFormat = AudioFormat::G711(Law::Mu);

async fn start(scripts: Vec<Script>) -> FakeServer {
    FakeServer::start(FakeConfig::new(Provider::OpenAi, scripts)).await.unwrap()
}

async fn dial(server: &FakeServer) -> Result<Socket, Error> {
    let mut request = server.url().into_client_request().unwrap();
    request.headers_mut().insert("authorization", "Bearer test-key".parse().unwrap());
    connect_async(request).await.map(|(socket, _)| socket)
}

/// A session that takes mu-law and speaks it.
async fn open(server: &FakeServer) -> Socket {
    let mut socket = dial(server).await.unwrap();
    let format = json!({ "format": { "type": "audio/pcmu" } });
    let audio = json!({ "input": format, "output": format });
    send(
        &mut socket,
        &json!({ "type": "session.update", "session": { "type": "realtime", "audio": audio } }),
    )
    .await;
    for kind in ["session.created", "session.updated"] {
        assert_eq!(next(&mut socket).await["type"], kind);
    }
    socket
}

async fn send(socket: &mut Socket, message: &Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn next(socket: &mut Socket) -> Value {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).unwrap(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The audio of the next response.
async fn next_answer(socket: &mut Socket) -> Vec<u8> {
    let mut audio = Vec::new();
    loop {
        let event = next(socket).await;
        if let Some(delta) =
            event["delta"].as_str().filter(|_| event["type"] == "response.output_audio.delta")
        {
            audio.extend(base64_simd::STANDARD.decode_to_vec(delta).unwrap());
        }
        if event["type"] == "response.done" {
            return audio;
        }
    }
}

fn append(audio: &[u8]) -> Value {
    json!({ "type": "input_audio_buffer.append", "audio": base64_simd::STANDARD.encode_to_string(audio) })
}

#[tokio::test]
async fn every_connection_plays_its_own_script_and_the_last_is_repeated() {
    let refuse = |status| Script::new().on(Trigger::Connect, [Action::HttpStatus(status)]);
    let server = start(vec![refuse(409), Script::new(), refuse(503)]).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(match dial(&server).await {
            Ok(_) => 101,
            Err(Error::Http(response)) => response.status().as_u16(),
            Err(other) => panic!("{other}"),
        });
    }
    assert_eq!(statuses, [409, 101, 503, 503]);
    assert_eq!(server.handle().connections(), 4);
    assert_eq!(server.handle().ended(0).await, Ending::ByServer);
}

#[tokio::test]
async fn a_handshake_can_stay_unanswered() {
    let server = start(vec![Script::new().on(Trigger::Connect, [Action::NeverUpgrade])]).await;
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET /v1/realtime HTTP/1.1\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"", "the client gave up first");
    assert_eq!(server.handle().ended(0).await, Ending::Abandoned);
}

#[tokio::test]
async fn nothing_listens_at_the_refused_url() {
    let url = refused_url().await.unwrap();
    assert!(matches!(connect_async(url).await, Err(Error::Io(_))));
}

#[tokio::test]
async fn a_close_has_its_code_and_a_drop_has_none() {
    let closes = |action| Script::new().on(Trigger::Text, [action]);
    let reason = "x".repeat(200);
    let server =
        start(vec![closes(Action::Close { code: 1011, reason }), closes(Action::Drop)]).await;
    let mut socket = open(&server).await;
    send(&mut socket, &json!({ "type": "response.create" })).await;
    let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else { panic!("not closed") };
    assert_eq!((u16::from(frame.code), frame.reason.len()), (1011, 123), "the reason is cut");

    let mut socket = open(&server).await;
    send(&mut socket, &json!({ "type": "response.create" })).await;
    assert!(matches!(socket.next().await, None | Some(Err(_))), "no close frame");
    assert_eq!(server.handle().ended(1).await, Ending::ByServer);
}

#[tokio::test]
async fn the_clients_close_is_on_record() {
    let server = start(vec![Script::new()]).await;
    let mut socket = open(&server).await;
    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
        code: 1000.into(),
        reason: "bye".into(),
    };
    socket.close(Some(frame)).await.unwrap();
    assert_eq!(server.handle().ended(0).await, Ending::ByClient(Some((1000, "bye".into()))));
    drop(open(&server).await);
    assert_eq!(server.handle().ended(1).await, Ending::Abandoned);
    assert_eq!(server.handle().live_connections(), 0);
}

#[tokio::test]
async fn fragments_with_pings_between_them_are_one_message() {
    let framing = Action::Framing { fragment: 100, ping_between: true };
    let server =
        start(vec![Script::new().on(Trigger::Text, [framing, Answer::of_ms(500).into()])]).await;
    let mut socket = open(&server).await;
    send(&mut socket, &json!({ "type": "response.create" })).await;
    assert_eq!(next_answer(&mut socket).await, answer_audio(MU, 1, 0..4_000));
}

#[tokio::test]
async fn a_client_may_fragment_as_well() {
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };
    let server = start(vec![Script::new()]).await;
    let mut socket = open(&server).await;
    let text = append(&caller_silence(MU, 100)).to_string();
    let (first, second) = text.as_bytes().split_at(100);
    for (opcode, piece, last) in [(Data::Text, first, false), (Data::Continue, second, true)] {
        let frame = Frame::message(piece.to_vec(), OpCode::Data(opcode), last);
        socket.send(Message::Frame(frame)).await.unwrap();
    }
    assert_eq!(server.handle().answered(0, 2).await.audio_ms, 100);
}

#[tokio::test]
async fn a_server_that_does_not_read_reads_in_the_end() {
    let server =
        start(vec![Script::new().on(Trigger::AudioMs { at: 20 }, [Action::StallReading(50)])])
            .await;
    let mut socket = open(&server).await;
    for _ in 0..100 {
        send(&mut socket, &append(&caller_silence(MU, 20))).await;
    }
    assert_eq!(server.handle().settled(0, 2_000).await.audio_ms, 2_000);
}

#[tokio::test]
async fn dropping_the_server_ends_its_connections() {
    let server = start(vec![Script::new()]).await;
    let mut socket = open(&server).await;
    drop(server);
    assert!(matches!(socket.next().await, None | Some(Err(_))));
}

#[tokio::test]
async fn a_conversation_in_real_time() {
    let conversation = Conversation { greeting_ms: 100, answer_ms: 300, ..Conversation::default() };
    let config = FakeConfig::conversation(Provider::OpenAi, &conversation);
    let server = FakeServer::start(config).await.unwrap();
    let mut socket = open(&server).await;
    send(&mut socket, &json!({ "type": "response.create" })).await;
    assert_eq!(next_answer(&mut socket).await, answer_audio(MU, 1, 0..800));
    for audio in [caller_speech(MU, 400), caller_silence(MU, 600)] {
        send(&mut socket, &append(&audio)).await;
    }
    assert_eq!(next_answer(&mut socket).await, answer_audio(MU, 2, 0..2_400));
    assert_eq!(server.handle().received(0), [], "only counted");
}

/// One call: a greeting, an utterance, an answer, 300 frames in all.
async fn short_call(server: &FakeServer) {
    let mut socket = open(server).await;
    send(&mut socket, &json!({ "type": "response.create" })).await;
    assert_eq!(next_answer(&mut socket).await.len(), 12_000);
    for frame in 0..300 {
        let speaks = (100..150).contains(&frame);
        let audio = if speaks { caller_speech(MU, 20) } else { caller_silence(MU, 20) };
        send(&mut socket, &append(&audio)).await;
    }
    assert_eq!(next_answer(&mut socket).await.len(), 20_000);
    socket.close(None).await.unwrap();
}

#[tokio::test]
async fn five_hundred_calls_at_once() {
    const CALLS: usize = 500;
    let conversation = Conversation { answer_ms: 2_500, ..Conversation::default() };
    let config = FakeConfig {
        keep: Keep::Counts,
        ..FakeConfig::conversation(Provider::OpenAi, &conversation).mode(Mode::Collapsed)
    };
    let server = FakeServer::start(config).await.unwrap();
    let server = std::sync::Arc::new(server);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let server = std::sync::Arc::clone(&server);
        calls.spawn(async move { short_call(&server).await });
    }
    calls.join_all().await;
    let handle = server.handle();
    for index in 0..CALLS {
        handle.ended(index).await;
    }
    assert_eq!(handle.connections(), CALLS);
    assert_eq!(handle.live_connections(), 0);
    assert_eq!(handle.total_caller_audio_ms(), CALLS as u64 * 6_000);
    assert_eq!(handle.all_violations(), [""; 0]);
}
