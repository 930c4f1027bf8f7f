//! The fake switch on real sockets.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::{
    io,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use tandem_sim::freeswitch::{
    Answer, CallMode, Edition, FakeCall, FakeSwitch, ForkFirst, Speech, SwitchConfig, Target,
    bytes_of,
    replay::{Dialogue, Recording, ReplayOptions, replay},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
    },
};

const CAPTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/freeswitch");
const LIMIT: Duration = Duration::from_secs(10);

/// A websocket server as simple as can be.
struct Server {
    listener: TcpListener,
}

impl Server {
    async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.listener.local_addr().unwrap())
    }

    async fn accept(&self) -> WebSocketStream<TcpStream> {
        let (stream, _) = timeout(LIMIT, self.listener.accept()).await.unwrap().unwrap();
        #[expect(clippy::result_large_err, reason = "the library's callback is like that")]
        let answer = |request: &Request, mut response: Response| {
            if let Some(protocol) = request.headers().get("sec-websocket-protocol") {
                response.headers_mut().insert("Sec-WebSocket-Protocol", protocol.clone());
            }
            Ok(response)
        };
        accept_hdr_async(stream, answer).await.unwrap()
    }
}

async fn next(socket: &mut WebSocketStream<TcpStream>) -> Message {
    timeout(LIMIT, socket.next()).await.unwrap().unwrap().unwrap()
}

async fn next_text(socket: &mut WebSocketStream<TcpStream>) -> String {
    loop {
        if let Message::Text(text) = next(socket).await {
            return text.to_string();
        }
    }
}

/// A client of the event socket.
struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    async fn connect(switch: &FakeSwitch) -> io::Result<Self> {
        let mut client = Self { stream: BufReader::new(TcpStream::connect(switch.address).await?) };
        client.frame().await?;
        client.say("auth ClueCon").await?;
        Ok(client)
    }

    /// Says a command; gives what came next.
    async fn say(&mut self, command: &str) -> io::Result<String> {
        self.stream.get_mut().write_all(format!("{command}\n\n").as_bytes()).await?;
        self.frame().await
    }

    async fn frame(&mut self) -> io::Result<String> {
        let read = async {
            let (mut text, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if self.stream.read_line(&mut line).await? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if line == "\n" {
                    break;
                }
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                text.push_str(&line);
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body).await?;
            Ok(text + &String::from_utf8(body).unwrap())
        };
        timeout(LIMIT, read).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

fn all_at_once(config: SwitchConfig) -> SwitchConfig {
    SwitchConfig { joined_percent: 0, ..config }
}

#[tokio::test]
async fn a_forked_call_is_heard_answered_and_silenced() {
    let switch = FakeSwitch::start_with(all_at_once(SwitchConfig::default())).await.unwrap();
    let server = Server::start().await;
    let fork = ForkFirst {
        rate: 8_000,
        back: Some(8_000),
        ..ForkFirst::new(&server.url("/fork?token=x"))
    };
    let call = FakeCall::forked("4930123", fork.metadata("{\"did\":\"4930123\"}"))
        .speech(Speech::Generator(Box::new(|frame| frame.fill(1_234))));
    let channel = switch.call(call);
    let mut socket = server.accept().await;
    assert_eq!(next(&mut socket).await, Message::Text("{\"did\":\"4930123\"}".into()));
    let Message::Binary(first) = next(&mut socket).await else { panic!("audio comes next") };
    assert_eq!(first[..2], 1_234_i16.to_le_bytes());
    assert_eq!(first.len() % 320, 0);

    let sent = Instant::now();
    socket.send(Message::Binary(bytes_of(&vec![9_000; 80_000]).into())).await.unwrap();
    let heard = channel.wait_for_sound(sent, 1_000, LIMIT).await.unwrap();
    assert!(heard - sent < Duration::from_secs(1), "a burst is heard at once");
    socket
        .send(Message::Text("{\"type\":\"mark\",\"data\":{\"name\":\"m\"}}".into()))
        .await
        .unwrap();
    socket.send(Message::Text("{\"type\":\"killAudio\"}".into())).await.unwrap();
    assert_eq!(
        next_text(&mut socket).await,
        "{\"type\": \"mark\", \"data\": {\"name\":\"m\", \"event\": \"cleared\"}}"
    );
    let killed = switch
        .wait_for_event(LIMIT, |event| event.subclass() == Some("mod_audio_fork::kill_audio"))
        .await
        .unwrap();
    assert_eq!(killed.uuid(), Some(channel.uuid()));
    let silent_from = Instant::now() + Duration::from_millis(40);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(channel.heard().silent_since(silent_from, 1_000));

    channel.hang_up("NORMAL_CLEARING");
    let closed = async {
        loop {
            if let Message::Close(frame) = next(&mut socket).await {
                return frame.unwrap().code;
            }
        }
    };
    assert_eq!(u16::from(timeout(LIMIT, closed).await.unwrap()), 1000);
    assert_eq!(channel.ended(LIMIT).await.as_deref(), Some("NORMAL_CLEARING"));
    assert!(channel.view().gone && !channel.heard().samples.is_empty());
}

#[tokio::test]
async fn handshakes_that_fail_are_told_as_the_module_tells_them() {
    let switch = FakeSwitch::start().await.unwrap();
    for (answer, reason) in [
        ("HTTP/1.1 401 Unauthorized\r\n\r\n", "HS: ws upgrade unauthorized"),
        ("HTTP/1.1 503 Busy\r\n\r\n", "HS: ws upgrade response not 101"),
        ("", "read failed"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/fork", listener.local_addr().unwrap());
        let channel = switch.call(FakeCall::forked("1", ForkFirst::new(&url)));
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1_024];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        stream.write_all(answer.as_bytes()).await.unwrap();
        drop(stream);
        let event = switch
            .wait_for_event(LIMIT, |event| {
                event.uuid() == Some(channel.uuid())
                    && event.subclass() == Some("mod_audio_fork::connect_failed")
            })
            .await
            .unwrap();
        assert_eq!(event.body(), Some(format!("{{\"reason\":\"{reason}\"}}").as_str()));
        assert_eq!(channel.forks(), [Edition::Jambonz], "the bug stays");
        let again = format!("uuid_audio_fork {} start {url} mono 8000", channel.uuid());
        assert_eq!(switch.api(&again), "-ERR Operation Failed\n");
        let stop = format!("uuid_audio_fork {} stop", channel.uuid());
        assert_eq!(switch.api(&stop), "+OK Success\n");
        assert_eq!(switch.api(&stop), "-ERR Operation Failed\n");
    }
    // Nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/fork", listener.local_addr().unwrap());
    drop(listener);
    let channel = switch.call(FakeCall::forked("1", ForkFirst::new(&url)));
    let refused = |event: &tandem_sim::freeswitch::SwitchEvent| {
        event.uuid() == Some(channel.uuid())
            && event.body() == Some("{\"reason\":\"conn fail: 111\"}")
    };
    assert!(switch.wait_for_event(LIMIT, refused).await.is_some());
}

#[tokio::test]
async fn files_are_played_through_the_event_socket() {
    let config = SwitchConfig { audio_fork: Some(Edition::Drachtio), ..SwitchConfig::default() };
    let switch = FakeSwitch::start_with(config).await.unwrap();
    let server = Server::start().await;
    let fork = ForkFirst { rate: 8_000, back: None, ..ForkFirst::new(&server.url("/fork")) };
    let channel = switch.call(FakeCall::forked("1", fork));
    let mut socket = server.accept().await;
    let audio = base64_simd::STANDARD.encode_to_string(bytes_of(&vec![7_000; 8_000]));
    let message = format!(
        "{{\"type\":\"playAudio\",\"data\":{{\"audioContentType\":\"raw\",\"sampleRate\":8000,\"audioContent\":\"{audio}\",\"id\":\"4\"}}}}"
    );
    let sent = Instant::now();
    socket.send(Message::Text(message.into())).await.unwrap();
    let event = switch
        .wait_for_event(LIMIT, |event| event.subclass() == Some("mod_audio_fork::play_audio"))
        .await
        .unwrap();
    let body: serde_json::Value = serde_json::from_str(event.body().unwrap()).unwrap();
    assert_eq!(body["id"], "4");
    let file = body["file"].as_str().unwrap();
    assert!(file.ends_with(".tmp.r8") && file.contains(channel.uuid()));
    let order = format!("uuid_broadcast {} {file} aleg", channel.uuid());
    assert_eq!(switch.api(&order), "+OK Message sent\n");
    assert!(channel.wait_for_sound(sent, 5_000, LIMIT).await.is_some());
    assert_eq!(switch.api(&format!("uuid_break {} all", channel.uuid())), "+OK\n");
    let stopped =
        switch.wait_for_event(LIMIT, |event| event.name() == "PLAYBACK_STOP").await.unwrap();
    assert_eq!(stopped.header("Playback-Status"), Some("break"));
    assert_eq!(stopped.header("Playback-File-Path"), Some(file));
}

#[tokio::test]
async fn the_event_socket_dies_and_comes_back_while_calls_live_on() {
    let switch = FakeSwitch::start().await.unwrap();
    let channel = switch.call(FakeCall::new("9003", CallMode::Dialplan));
    let mut client = Client::connect(&switch).await.unwrap();
    assert_eq!(switch.clients(), 1);
    assert!(client.say("api uuid_exists x").await.unwrap().ends_with("false"));
    switch.kill_event_socket();
    assert!(client.say("api uuid_exists x").await.is_err());
    assert!(Client::connect(&switch).await.is_err());
    assert_eq!(switch.clients(), 0);
    let before = channel.heard().samples.len();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(channel.heard().samples.len() > before, "audio goes on");
    switch.restore_event_socket().await.unwrap();
    let mut client = Client::connect(&switch).await.unwrap();
    let order = format!("api uuid_exists {}", channel.uuid());
    assert!(client.say(&order).await.unwrap().ends_with("true"));
    switch.drop_clients();
    assert!(client.frame().await.is_err());
    assert!(Client::connect(&switch).await.is_ok());
}

#[tokio::test]
async fn wrong_passwords_and_frozen_switches() {
    let config = SwitchConfig { password: "other".to_owned(), ..SwitchConfig::default() };
    let switch = FakeSwitch::start_with(config).await.unwrap();
    let mut client =
        Client { stream: BufReader::new(TcpStream::connect(switch.address).await.unwrap()) };
    client.frame().await.unwrap();
    assert!(client.say("auth ClueCon").await.unwrap().contains("-ERR invalid"));
    assert!(client.frame().await.unwrap().contains("Disconnected, goodbye."));
    assert!(client.frame().await.is_err());
    switch.configure(|config| config.password = "ClueCon".to_owned());
    let mut client = Client::connect(&switch).await.unwrap();
    switch.freeze(true);
    let asked = timeout(Duration::from_millis(200), client.say("api version")).await;
    assert!(asked.is_err(), "no answer");
    switch.freeze(false);
    client.stream.get_mut().write_all(b"api create_uuid\n\n").await.unwrap();
    assert!(client.frame().await.unwrap().contains("FreeSWITCH Version 1.10.12"), "it comes late");
    switch.faults(|faults| faults.rude = true);
    let mut refused =
        Client { stream: BufReader::new(TcpStream::connect(switch.address).await.unwrap()) };
    assert!(refused.frame().await.unwrap().contains("text/rude-rejection"));
}

#[tokio::test]
async fn an_outbound_client_answers_and_lets_go() {
    let switch = FakeSwitch::start().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let then = vec![("playback".to_owned(), "silence_stream://-1".to_owned())];
    let mode = CallMode::Socket { address: address.to_string(), then };
    let channel = switch.call(FakeCall::new("4930123", mode).from("+15550123", "Bo"));
    let (stream, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    let mut client = Client { stream: BufReader::new(stream) };
    let said = client.say("connect").await.unwrap();
    assert!(said.contains("Caller-Destination-Number: 4930123\n"), "{said}");
    assert!(said.contains("Caller-Caller-ID-Number: %2B15550123\n"), "{said}");
    assert!(client.say("linger 5").await.unwrap().contains("+OK will linger 5 seconds"));
    let answer = "sendmsg\ncall-command: execute\nexecute-app-name: answer";
    assert!(client.say(answer).await.unwrap().contains("+OK"));
    assert!(channel.answered(LIMIT).await);
    assert!(switch.wait_for_command("sendmsg", LIMIT).await.unwrap().channel.is_some());
    assert_eq!(switch.channels().len(), 1);
    drop(client);
    assert!(channel.wait_for(LIMIT, |view| view.runs("playback")).await.is_some());
    // Nobody there: the dialplan goes on at once.
    drop(listener);
    let channel = switch.call(FakeCall::to_socket("1", address));
    assert_eq!(channel.ended(LIMIT).await.as_deref(), Some("NORMAL_CLEARING"));
}

#[tokio::test]
async fn targets_answer_press_keys_and_hear_the_caller() {
    let switch = FakeSwitch::start().await.unwrap();
    switch.script("user/1000", Target::answers(Duration::from_millis(100)));
    let caller = switch
        .call(FakeCall::new("9003", CallMode::Dialplan).speech(Speech::Loop(vec![3_000, -3_000])));
    switch.api("originate {origination_uuid=leg-1}user/1000 &park()");
    let leg = switch.wait_for_channel(LIMIT, |view| view.uuid == "leg-1").await.unwrap();
    assert!(leg.answered(LIMIT).await);
    leg.press("1");
    let pressed = |event: &tandem_sim::freeswitch::SwitchEvent| {
        event.uuid() == Some("leg-1") && event.header("DTMF-Digit") == Some("1")
    };
    assert!(switch.wait_for_event(LIMIT, pressed).await.is_some());
    let bridged = Instant::now();
    switch.api(&format!("uuid_bridge {} leg-1", caller.uuid()));
    assert!(leg.wait_for_sound(bridged, 1_000, LIMIT).await.is_some());
    assert_eq!(caller.view().answer, Answer::Answered);
    leg.hang_up("NORMAL_CLEARING");
    assert_eq!(caller.ended(LIMIT).await.as_deref(), Some("NORMAL_CLEARING"));
}

#[tokio::test]
async fn recorded_websockets_are_played_against_a_server() {
    let recording = Recording::load(format!("{CAPTURES}/fork/mono_16000_pcmu.jsonl")).unwrap();
    let server = Server::start().await;
    let address = server.listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let mut socket = server.accept().await;
        let (mut text, mut audio) = (String::new(), Vec::new());
        loop {
            match next(&mut socket).await {
                Message::Text(said) => text.push_str(&said),
                Message::Binary(bytes) => audio.extend_from_slice(&bytes),
                Message::Close(_) => {
                    // The library has answered it.
                    let _ended = socket.next().await;
                    return (text, audio);
                }
                _ => {}
            }
        }
    });
    let options = ReplayOptions {
        path: Some("/fork/jambonz".to_owned()),
        headers: vec![("Authorization".to_owned(), "Bearer x".to_owned())],
        ..ReplayOptions::to(address)
    };
    let outcomes = timeout(LIMIT, replay(&recording, &options)).await.unwrap().unwrap();
    assert_eq!(outcomes[0].status, 101);
    assert_eq!(outcomes[0].closed, Some(1000));
    let (text, audio) = serving.await.unwrap();
    assert!(text.starts_with("{\"callId\":\"7f1e\""), "{text}");
    let raw = std::fs::read(format!("{CAPTURES}/fork/mono_16000_pcmu.raw")).unwrap();
    assert_eq!(audio[..raw.len()], raw);
    assert_eq!(audio.len(), outcomes[0].sent.1);
}

/// Every recorded websocket can be read, and its head is one a server can answer.
#[test]
fn every_recording_is_read() {
    let mut read = 0;
    for folder in ["fork", "fork-drachtio", "stream", "e2e"] {
        for entry in std::fs::read_dir(format!("{CAPTURES}/{folder}")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|ending| ending == "jsonl") {
                let recording = Recording::load(&path).unwrap();
                for connection in &recording.connections {
                    assert!(connection.head.ends_with("\r\n\r\n"), "{path:?}");
                }
                read += 1;
            } else if path.to_string_lossy().ends_with(".esl.txt") {
                assert!(!Dialogue::load(&path).unwrap().said.is_empty(), "{path:?}");
            }
        }
    }
    assert!(read > 100, "{read}");
    for entry in std::fs::read_dir(format!("{CAPTURES}/esl")).unwrap() {
        let path = entry.unwrap().path();
        assert!(!Dialogue::load(&path).unwrap().said.is_empty(), "{path:?}");
    }
}

#[tokio::test]
async fn recorded_dialogues_answer_a_client() {
    let dialogue = Dialogue::load(format!("{CAPTURES}/esl/transfer_park_hold.txt")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving =
        tokio::spawn(
            async move { dialogue.serve(&listener, false, Duration::from_millis(300)).await },
        );
    let mut client = Client { stream: BufReader::new(TcpStream::connect(address).await.unwrap()) };
    assert!(client.frame().await.unwrap().contains("auth/request"));
    assert!(client.say("auth ClueCon").await.unwrap().contains("+OK accepted"));
    assert!(client.say("noevents").await.unwrap().contains("-ERR command not found"));
    assert!(client.say("event plain ALL").await.unwrap().contains("+OK event listener"));
    assert!(client.say("api uuid_transfer x 9001").await.unwrap().ends_with("+OK\n"));
    assert!(client.frame().await.unwrap().contains("Event-Name: CHANNEL_UNPARK"));
    let outcome = serving.await.unwrap().unwrap();
    assert_eq!(outcome.unexpected, ["noevents"]);
    assert!(outcome.missing.iter().any(|line| line.starts_with("api uuid_hold")));
}
