//! The listener on loopback: every handshake that was recorded of a real switch, and the limits.

use std::{
    fs,
    future::poll_fn,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use base64_simd::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use tandem_net::{Incoming, MessageKind, ServerWebSocket, SocketLimits};
use tandem_streams::{
    Arrival, AuthenticatedAs, CredentialsError, Dialect, ForkCredentials, ForkListener,
    ForkRefusal, ListenError, ListenerSettings, ListenerStats, sign_token,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::Receiver,
    time::timeout,
};

/// A test that hangs ends with this.
const HUNG: Duration = Duration::from_secs(20);

const LIMITS: SocketLimits = SocketLimits { message: 1 << 20, waiting: 256 << 10 };

const TOKEN: &str = "tok123-of-a-length-that-is-allowed";

fn settings() -> ListenerSettings {
    ListenerSettings {
        addresses: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        credentials: ForkCredentials {
            users: vec![("alice".into(), "s3cret".into())],
            tokens: vec![TOKEN.into()],
            signing: Some("0123456789abcdef".into()),
            open_on_loopback: false,
        },
        ..ListenerSettings::default()
    }
}

async fn listen(settings: ListenerSettings) -> (ForkListener, Receiver<Arrival>, SocketAddr) {
    let (listener, arrivals) = ForkListener::bind(settings).await.expect("a free port");
    let address = listener.local_addresses()[0];
    (listener, arrivals, address)
}

async fn connect(address: SocketAddr, bytes: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(address).await.expect("a connection");
    client.set_nodelay(true).expect("an open socket");
    client.write_all(bytes).await.expect("room for a head");
    client
}

/// The response up to its empty line.
async fn head(client: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(HUNG, client.read_u8()).await.expect("no hang").expect("a whole head");
        head.push(byte);
    }
    String::from_utf8(head).expect("text")
}

/// All that comes until the listener hangs up.
async fn rest(client: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    timeout(HUNG, client.read_to_end(&mut rest)).await.expect("no hang").expect("a proper end");
    rest
}

async fn arrival(arrivals: &mut Receiver<Arrival>) -> Arrival {
    timeout(HUNG, arrivals.recv()).await.expect("no hang").expect("an arrival")
}

async fn next(socket: &mut ServerWebSocket) -> Incoming {
    timeout(HUNG, poll_fn(|cx| socket.poll_incoming(cx))).await.expect("no hang")
}

/// Waits for what a connection's end is counted as.
async fn stats_when(listener: &ForkListener, done: impl Fn(&ListenerStats) -> bool) {
    timeout(HUNG, async {
        while !done(&listener.stats()) {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never so: {:?}", listener.stats()));
}

fn upgrade(target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost:h\r\nUpgrade:websocket\r\nConnection:upgrade\r\n\
         Sec-WebSocket-Key:jjdYt5yPN1BnSRAabQDbvg==\r\nSec-WebSocket-Version:13\r\n\r\n"
    )
    .into_bytes()
}

/// A client's frame.
fn frame(kind: MessageKind, payload: &[u8]) -> Vec<u8> {
    let mask = [9, 8, 7, 6];
    let mut frame = vec![if kind == MessageKind::Text { 0x81 } else { 0x82 }];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// One recorded connection.
#[derive(Debug, Default)]
struct Recorded {
    name: String,
    dialect: Option<Dialect>,
    request: String,
    response: Option<String>,
    /// The first messages of the module.
    messages: Vec<(MessageKind, Vec<u8>)>,
}

impl Recorded {
    /// The request for our path, with the query as it was.
    fn request(&self) -> String {
        let (line, rest) = self.request.split_once("\r\n").expect("a request line");
        let target = line.split(' ').nth(1).expect("a target");
        let query = target.split_once('?').map_or(String::new(), |(_, query)| format!("?{query}"));
        let path = self.dialect.expect("each folder has its dialect").path();
        let rest = rest.replace("Bearer tok123", &format!("Bearer {TOKEN}"));
        format!("GET /freeswitch{path}{query} HTTP/1.1\r\n{rest}")
    }

    /// The recorded server answered as servers should.
    fn answer_is_usual(&self) -> bool {
        let unusual =
            ["handshake_no_subprotocol", "handshake_other_subprotocol"].contains(&&self.name[..]);
        !unusual && self.response.as_ref().is_some_and(|response| response.contains(" 101 "))
    }
}

fn captures() -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/freeswitch")).to_owned()
}

/// Every connection of every recording.
fn recordings() -> Vec<Recorded> {
    let mut recordings = Vec::new();
    for (folder, dialect) in [
        ("fork", Dialect::AudioForkBidirectional),
        ("fork-drachtio", Dialect::AudioFork),
        ("stream", Dialect::AudioStream),
        ("e2e", Dialect::AudioForkBidirectional),
    ] {
        for entry in fs::read_dir(captures().join(folder)).expect("the recordings") {
            let path = entry.expect("a readable folder").path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let name = path.file_stem().expect("a file").to_string_lossy().into_owned();
            let mut of_file: Vec<Recorded> = Vec::new();
            for line in fs::read_to_string(&path).expect("a readable file").lines() {
                let line: Value = serde_json::from_str(line).expect("a line of JSON");
                let number = line["conn"].as_u64().unwrap_or(0) as usize;
                if of_file.len() <= number {
                    of_file.resize_with(number + 1, Recorded::default);
                }
                let connection = &mut of_file[number];
                connection.name.clone_from(&name);
                connection.dialect = Some(dialect);
                let payload = line["payload"].as_str().unwrap_or_default();
                match (line["dir"].as_str(), line["kind"].as_str()) {
                    (Some("in"), Some("open")) => payload.clone_into(&mut connection.request),
                    (Some("out"), Some("open")) => connection.response = Some(payload.to_owned()),
                    (Some("in"), Some("text")) => {
                        connection.messages.push((MessageKind::Text, payload.into()));
                    }
                    (Some("in"), Some("binary")) => {
                        // Of audio only the beginning is recorded.
                        let mut bytes = STANDARD.decode_to_vec(payload).expect("base64");
                        bytes.resize(line["len"].as_u64().expect("a length") as usize, 0);
                        connection.messages.push((MessageKind::Binary, bytes));
                    }
                    _ => {}
                }
                connection.messages.truncate(8);
            }
            of_file.retain(|connection| !connection.request.is_empty());
            recordings.extend(of_file);
        }
    }
    recordings
}

#[tokio::test]
async fn every_recorded_fork_comes_in_with_what_it_said() {
    let mut settings = settings();
    settings.credentials.open_on_loopback = true;
    let (listener, mut arrivals, address) = listen(settings).await;
    let recordings = recordings();
    assert!(recordings.len() > 100, "{} connections are recorded", recordings.len());
    let (mut came_in, mut silent) = (0, 0);
    for recorded in &recordings {
        let name = &recorded.name;
        let mut client = connect(address, recorded.request().as_bytes()).await;
        let response = head(&mut client).await;
        if recorded.answer_is_usual() {
            assert_eq!(Some(response), recorded.response, "{name}");
        } else {
            assert!(response.starts_with("HTTP/1.1 101 "), "{name}: {response}");
        }
        if recorded.messages.is_empty() {
            drop(client);
            silent += 1;
            continue;
        }
        let sent: Vec<_> =
            recorded.messages.iter().flat_map(|(kind, bytes)| frame(*kind, bytes)).collect();
        let client = tokio::spawn(async move {
            client.write_all(&sent).await.expect("the fork reads");
            client
        });
        let arrival = arrival(&mut arrivals).await;
        assert_eq!(Some(arrival.dialect), recorded.dialect, "{name}");
        // mod_audio_stream sent it behind the first audio now and then.
        let text = recorded.messages.iter().find(|(kind, _)| *kind == MessageKind::Text);
        let metadata = text.map(|(_, text)| &text[..]);
        assert_eq!(arrival.metadata.as_deref(), metadata, "{name}");
        let who = match &name[..] {
            "basic_auth" | "messages_auth" => AuthenticatedAs::User("alice".into()),
            "headers_nodeflate_heartbeat" => AuthenticatedAs::Token,
            _ => AuthenticatedAs::Loopback,
        };
        assert_eq!(arrival.authenticated_as, who, "{name}");
        let query: &[(&str, &str)] = match &name[..] {
            "url_path_query" => &[("tok", "abc"), ("x", " y")],
            "headers_nodeflate_heartbeat" => &[("a", "1")],
            _ => &[],
        };
        let pairs: Vec<_> = arrival.query.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        assert_eq!(pairs, query, "{name}");

        let mut socket = arrival.stream.open(LIMITS).expect("the client is there");
        for (kind, bytes) in &recorded.messages {
            let expected = Incoming::Message { kind: *kind, bytes: Bytes::copy_from_slice(bytes) };
            assert_eq!(next(&mut socket).await, expected, "{name}");
        }
        drop(client.await.expect("no panic"));
        let Incoming::Closed(closure) = next(&mut socket).await else { panic!("{name}: no end") };
        assert_eq!(closure.code, None, "{name}");
        came_in += 1;
    }
    stats_when(&listener, |stats| stats.closed == silent).await;
    let stats = listener.stats();
    assert_eq!(stats, ListenerStats { accepted: came_in, closed: silent, ..Default::default() });
    assert!(came_in > 100, "{came_in}");
}

#[tokio::test]
async fn no_recorded_fork_comes_in_without_credentials() {
    let (listener, mut arrivals, address) = listen(settings()).await;
    let (mut refused, mut let_in) = (0, 0);
    for recorded in recordings() {
        let authorized = recorded.request.to_ascii_lowercase().contains("\r\nauthorization:");
        let media = frame(MessageKind::Text, b"{}");
        let request = [recorded.request().as_bytes(), &media].concat();
        let mut client = connect(address, &request).await;
        let response = head(&mut client).await;
        if authorized {
            assert!(response.starts_with("HTTP/1.1 101 "), "{}: {response}", recorded.name);
            assert_eq!(arrival(&mut arrivals).await.metadata.as_deref(), Some(&b"{}"[..]));
            let_in += 1;
        } else {
            assert!(response.starts_with("HTTP/1.1 401 "), "{}: {response}", recorded.name);
            assert!(response.contains("\r\nWWW-Authenticate: "), "{response}");
            refused += 1;
        }
    }
    assert_eq!(let_in, 3);
    let stats = listener.stats();
    assert_eq!((stats.accepted, stats.unauthorized), (let_in, refused));
    assert!(arrivals.try_recv().is_err());
}

#[tokio::test]
async fn a_signed_token_brings_the_call_along() {
    let (_listener, mut arrivals, address) = listen(settings()).await;
    let secret = "0123456789abcdef".into();
    let far_away = 1 << 40;
    let token = sign_token(&secret, "7f1e", far_away);
    let target = format!("/freeswitch/stream/raw?token={token}&back=24000");
    let request = [upgrade(&target), frame(MessageKind::Binary, &[0; 640])].concat();
    let _client = connect(address, &request).await;
    let arrival = arrival(&mut arrivals).await;
    assert_eq!(arrival.call(), Some("7f1e"));
    assert_eq!(arrival.query, [("back".to_owned(), "24000".to_owned())]);
    assert_eq!((arrival.dialect, arrival.is_silent()), (Dialect::AudioStreamRaw, false));
    assert!(!format!("{arrival:?}").contains(&token));

    // Long past.
    let token = sign_token(&secret, "7f1e", 1_000_000_000);
    let target = format!("/freeswitch/stream/raw?token={token}");
    let mut client = connect(address, &upgrade(&target)).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 401 "));
    let body = String::from_utf8(rest(&mut client).await).unwrap();
    assert_eq!(body, "the token has expired\n");
}

#[tokio::test]
async fn what_is_no_upgrade_is_answered_and_hung_up_on() {
    let mut settings = settings();
    settings.credentials.open_on_loopback = true;
    let (listener, _arrivals, address) = listen(settings).await;
    for (name, request, status) in [
        ("no HTTP", b"\x16\x03\x01\n\n".to_vec(), "400"),
        ("no end", vec![b'x'; 20_000], "431"),
        ("no upgrade", b"GET /metrics HTTP/1.1\r\n\r\n".to_vec(), "400"),
        ("no such path", upgrade("/freeswitch/fork"), "404"),
    ] {
        let mut client = connect(address, &request).await;
        let response = head(&mut client).await;
        assert_eq!(response.split(' ').nth(1), Some(status), "{name}");
        let length = response.split("Content-Length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        assert_eq!(rest(&mut client).await.len(), length, "{name}");
    }
    let stats = listener.stats();
    assert_eq!((stats.bad_request, stats.not_found), (3, 1));
    drop(connect(address, b"GET ").await);
    stats_when(&listener, |stats| stats.left == 1).await;
}

#[tokio::test]
async fn an_arrival_that_is_not_wanted_is_told_why() {
    let (_listener, mut arrivals, address) = listen(settings()).await;
    for (refusal, code) in [(ForkRefusal::NotWanted, 1008_u16), (ForkRefusal::TryLater, 1013)] {
        let target = format!("/freeswitch/fork/drachtio?token={TOKEN}");
        let request = [upgrade(&target), frame(MessageKind::Text, b"{}")].concat();
        let mut client = connect(address, &request).await;
        head(&mut client).await;
        // The module goes on sending meanwhile.
        client.write_all(&frame(MessageKind::Binary, &[0; 3_840])).await.unwrap();
        arrival(&mut arrivals).await.refuse(refusal, "no such call");
        let said = rest(&mut client).await;
        assert_eq!(said[..2], [0x88, 14]);
        assert_eq!(said[2..4], code.to_be_bytes());
        assert_eq!(&said[4..], b"no such call");
    }
}

#[tokio::test]
async fn arrivals_that_nobody_takes_are_turned_away() {
    let (listener, mut arrivals, address) =
        listen(ListenerSettings { max_waiting: 1, ..settings() }).await;
    let target = format!("/freeswitch/fork/drachtio?token={TOKEN}");
    let request = [upgrade(&target), frame(MessageKind::Text, b"{}")].concat();
    let _first = connect(address, &request).await;
    stats_when(&listener, |stats| stats.accepted == 1).await;
    let mut second = connect(address, &request).await;
    head(&mut second).await;
    assert_eq!(rest(&mut second).await[2..4], 1013_u16.to_be_bytes());
    assert_eq!((listener.stats().accepted, listener.stats().not_taken), (1, 1));
    arrival(&mut arrivals).await;
    let _third = connect(address, &request).await;
    arrival(&mut arrivals).await;
}

#[tokio::test]
async fn too_many_at_once_are_told_to_come_later() {
    let (listener, _arrivals, address) =
        listen(ListenerSettings { max_handshakes: 1, ..settings() }).await;
    let slow = connect(address, b"GET ").await;
    let mut second = connect(address, &upgrade("/")).await;
    let response = head(&mut second).await;
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
    assert!(response.contains("\r\nRetry-After: 1\r\n"), "{response}");
    assert_eq!(listener.stats().busy, 1);
    drop(slow);
    stats_when(&listener, |stats| stats.left == 1).await;
    let mut third = connect(address, &upgrade("/")).await;
    assert!(head(&mut third).await.starts_with("HTTP/1.1 401 "));

    let one_an_age = ListenerSettings { source_per_second: 1, source_burst: 1, ..settings() };
    let (listener, _arrivals, address) = listen(one_an_age).await;
    let mut first = connect(address, &upgrade("/")).await;
    assert!(head(&mut first).await.starts_with("HTTP/1.1 401 "));
    let mut answers = Vec::new();
    for _ in 0..8 {
        let mut next = connect(address, &upgrade("/")).await;
        answers.push(head(&mut next).await);
    }
    // A machine so slow that a second passes admits one more.
    assert!(answers.iter().any(|answer| answer.starts_with("HTTP/1.1 503 ")), "{answers:?}");
    assert!(listener.stats().busy > 0);
}

#[tokio::test]
async fn a_stopped_listener_leaves_what_it_handed_over() {
    let (listener, mut arrivals, address) = listen(settings()).await;
    let target = format!("/freeswitch/fork/drachtio?token={TOKEN}");
    let request = [upgrade(&target), frame(MessageKind::Text, b"{}")].concat();
    let mut client = connect(address, &request).await;
    head(&mut client).await;
    let arrival = arrival(&mut arrivals).await;
    let mut unfinished = connect(address, b"GET ").await;
    listener.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
    let mut bytes = [0; 1];
    assert_eq!(timeout(HUNG, unfinished.read(&mut bytes)).await.expect("no hang").unwrap_or(0), 0);
    assert!(arrivals.recv().await.is_none());

    let mut socket = arrival.stream.open(LIMITS).unwrap();
    socket.send_binary(&[1; 320]).unwrap();
    poll_fn(|cx| socket.poll_flush(cx)).await;
    let mut frame = [0; 324];
    client.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[..5], [0x82, 126, 1, 64, 1]);
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let prefix = |prefix: &str| ListenerSettings { prefix: prefix.into(), ..settings() };
    for (settings, expected) in [
        (
            ListenerSettings { credentials: ForkCredentials::default(), ..settings() },
            CredentialsError::None.to_string(),
        ),
        (ListenerSettings { addresses: Vec::new(), ..settings() }, "no address".to_owned()),
        (ListenerSettings { max_waiting: 0, ..settings() }, "max_waiting must not".to_owned()),
        (prefix("/"), "the prefix \"/\"".to_owned()),
        (prefix("x"), "the prefix \"x\"".to_owned()),
        (prefix("/a b"), "the prefix \"/a b\"".to_owned()),
        (
            ListenerSettings { addresses: vec![taken.1], ..settings() },
            format!("cannot listen at {}", taken.1),
        ),
    ] {
        let error: ListenError = ForkListener::bind(settings).await.expect_err("a refusal");
        assert!(error.to_string().contains(&expected), "{error}");
    }
    let (listener, _arrivals, address) = listen(prefix("")).await;
    let mut client = connect(address, &upgrade(&format!("/fork/drachtio?token={TOKEN}"))).await;
    assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
    drop(listener);
}
