//! The server's end of a websocket on loopback: against tungstenite's client, and against bytes no client should send.

use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tandem_net::{Closure, Incoming, MessageKind, SendError, ServerWebSocket, SocketLimits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role},
    },
};

/// A test that hangs ends with this.
const HUNG: Duration = Duration::from_secs(20);

const LIMITS: SocketLimits = SocketLimits { message: 1 << 20, waiting: 256 << 10 };

/// A client's and a server's end of one connection.
async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).await;
    let client = client.expect("a connection");
    client.set_nodelay(true).expect("an open socket");
    (client, listener.accept().await.expect("a connection").0)
}

async fn sockets() -> (WebSocketStream<TcpStream>, ServerWebSocket) {
    let (client, server) = pair().await;
    let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
    (client, ServerWebSocket::new(server, &[], LIMITS).expect("an open socket"))
}

/// A client that writes what it likes.
async fn raw_client() -> (TcpStream, ServerWebSocket) {
    let (client, server) = pair().await;
    (client, ServerWebSocket::new(server, &[], LIMITS).expect("an open socket"))
}

async fn next(socket: &mut ServerWebSocket) -> Incoming {
    timeout(HUNG, poll_fn(|cx| socket.poll_incoming(cx))).await.expect("no hang")
}

async fn flush(socket: &mut ServerWebSocket) {
    timeout(HUNG, poll_fn(|cx| socket.poll_flush(cx))).await.expect("no hang");
}

fn text(text: &str) -> Incoming {
    let bytes = Bytes::copy_from_slice(text.as_bytes());
    Incoming::Message { kind: MessageKind::Text, bytes }
}

/// A client's frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x37, 0xFA, 0x21, 0x3D];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[tokio::test]
async fn messages_of_all_lengths_go_both_ways_and_keep_their_kind() {
    let (mut client, mut server) = sockets().await;
    for length in [0, 1, 125, 126, 320, 3_840, 65_535, 65_536, 200_000] {
        let bytes = Bytes::from(vec![b'x'; length]);
        for kind in [MessageKind::Text, MessageKind::Binary] {
            let message = match kind {
                MessageKind::Text => Message::Text(bytes.clone().try_into().unwrap()),
                MessageKind::Binary => Message::Binary(bytes.clone()),
            };
            // Longer than what loopback holds: both ends have to run.
            let (sent, received) = tokio::join!(client.send(message.clone()), next(&mut server));
            sent.unwrap();
            assert_eq!(received, Incoming::Message { kind, bytes: bytes.clone() });
            server.send(kind, &bytes).unwrap();
            let ((), back) = tokio::join!(flush(&mut server), client.next());
            assert_eq!(back.unwrap().unwrap(), message);
            assert_eq!(server.waiting(), 0);
        }
    }
}

#[tokio::test]
async fn an_overruns_long_message_is_taken_and_one_beyond_the_limit_is_not() {
    let (mut client, mut server) = sockets().await;
    let long = Bytes::from(vec![7; 384_000]);
    let (sent, received) =
        tokio::join!(client.send(Message::Binary(long.clone())), next(&mut server));
    sent.unwrap();
    assert_eq!(received, Incoming::Message { kind: MessageKind::Binary, bytes: long });

    let too_long = Message::Binary(Bytes::from(vec![7; (1 << 20) + 1]));
    let writer = tokio::spawn(async move {
        let _ = client.send(too_long).await; // The server does not read it.
        client.next().await
    });
    let reason = "a message of more than 1048576 bytes".to_owned();
    assert_eq!(next(&mut server).await, Incoming::Closed(Closure { code: None, reason }));
    drop(server);
    timeout(HUNG, writer).await.expect("no hang").expect("no panic");
}

#[tokio::test]
async fn what_was_read_beyond_the_head_comes_first() {
    let (mut client, server) = pair().await;
    let binary = frame(0x82, &[1, 2, 3, 4]);
    let (head, tail) = binary.split_at(7);
    let buffered = [frame(0x81, b"{}"), head.to_vec()].concat();
    client.write_all(tail).await.unwrap();
    let mut server = ServerWebSocket::new(server, &buffered, LIMITS).unwrap();
    assert_eq!(next(&mut server).await, text("{}"));
    let bytes = Bytes::from_static(&[1, 2, 3, 4]);
    assert_eq!(next(&mut server).await, Incoming::Message { kind: MessageKind::Binary, bytes });
}

#[tokio::test]
async fn a_ping_is_answered_and_ours_is_sent() {
    let (mut client, mut server) = sockets().await;
    client.send(Message::Ping(Bytes::from_static(b"ping"))).await.unwrap();
    client.send(Message::Text("after".into())).await.unwrap();
    assert_eq!(next(&mut server).await, text("after"));
    server.ping().unwrap();
    flush(&mut server).await;
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(Bytes::from_static(b"ping")));
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Ping(Bytes::new()));
    client.send(Message::Text("the pong went before".into())).await.unwrap();
    assert_eq!(next(&mut server).await, text("the pong went before"));
}

#[tokio::test]
async fn fragments_are_joined_around_a_ping() {
    let (mut client, mut server) = raw_client().await;
    for piece in
        [frame(0x01, b"in "), frame(0x89, b"?"), frame(0x00, b"three "), frame(0x80, b"parts")]
    {
        client.write_all(&piece).await.unwrap();
    }
    assert_eq!(next(&mut server).await, text("in three parts"));
}

#[tokio::test]
async fn text_that_is_no_utf_8_is_no_end() {
    let (mut client, mut server) = raw_client().await;
    client.write_all(&frame(0x81, b"{\"name\":\"M\xFCller")).await.unwrap();
    let bytes = Bytes::from_static(b"{\"name\":\"M\xFCller");
    assert_eq!(next(&mut server).await, Incoming::Message { kind: MessageKind::Text, bytes });
}

#[tokio::test]
async fn the_clients_goodbye_is_answered_and_reported_for_good() {
    for (name, said, code, reason, answer) in [
        ("hang-up", Some((1000, "")), 1000, "", 1000),
        ("libwsc", Some((1000, "Normal closure")), 1000, "Normal closure", 1000),
        ("own code", Some((4001, "x")), 4001, "x", 4001),
        ("no code", None, 1005, "", 1000),
    ] {
        let (mut client, mut server) = sockets().await;
        let frame = said.map(|(code, reason): (u16, &str)| CloseFrame {
            code: code.into(),
            reason: reason.into(),
        });
        client.close(frame).await.unwrap();
        let closure = Closure { code: Some(code), reason: reason.into() };
        assert_eq!(next(&mut server).await, Incoming::Closed(closure.clone()), "{name}");
        assert_eq!(next(&mut server).await, Incoming::Closed(closure), "{name}");
        assert!(matches!(server.send_binary(&[0]), Err(SendError::Gone(_))), "{name}");
        let Some(Ok(Message::Close(Some(answered)))) = client.next().await else {
            panic!("{name}: no answer")
        };
        assert_eq!(u16::from(answered.code), answer, "{name}");
    }
}

#[tokio::test]
async fn our_goodbye_ends_with_the_clients_answer_or_its_silence() {
    let (mut client, mut server) = sockets().await;
    client.send(Message::Binary(Bytes::from_static(&[0; 320]))).await.unwrap();
    server.close(1008, "not this one");
    assert!(matches!(server.send_text(b"{}"), Err(SendError::Gone(_))));
    let client = tokio::spawn(async move {
        let said = client.next().await;
        while client.next().await.is_some() {}
        said
    });
    timeout(HUNG, poll_fn(|cx| server.poll_closed(cx))).await.expect("no hang");
    drop(server);
    let said = timeout(HUNG, client).await.expect("no hang").expect("no panic");
    let Some(Ok(Message::Close(Some(said)))) = said else { panic!("no close frame") };
    assert_eq!((u16::from(said.code), said.reason.as_str()), (1008, "not this one"));

    let (client, mut server) = raw_client().await;
    server.close(1001, "");
    drop(client);
    timeout(HUNG, poll_fn(|cx| server.poll_closed(cx))).await.expect("no hang");
}

#[tokio::test]
async fn a_dropped_socket_says_goodbye() {
    let (mut client, mut server) = sockets().await;
    // A socket is written to at once when the runtime knows that it takes something.
    server.send_text(b"hello").unwrap();
    flush(&mut server).await;
    drop(server);
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Text("hello".into()));
    let Some(Ok(Message::Close(Some(said)))) = client.next().await else { panic!("no goodbye") };
    assert_eq!(u16::from(said.code), 1000);
}

#[tokio::test]
async fn an_abrupt_end_has_no_code() {
    let (client, mut server) = raw_client().await;
    drop(client);
    let closure = Closure { code: None, reason: "the connection ended".into() };
    assert_eq!(next(&mut server).await, Incoming::Closed(closure));

    let (client, mut server) = raw_client().await;
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let Incoming::Closed(Closure { code: None, reason }) = next(&mut server).await else {
        panic!("no end")
    };
    assert!(reason.contains("reset"), "{reason}");
}

#[tokio::test]
async fn frames_that_are_none_end_the_connection_with_the_reason() {
    for (name, bytes, code, reason) in [
        ("no mask", vec![0x82, 0x01, 0x00], 1002_u16, "a frame without a mask"),
        ("reserved bit", frame(0xC2, &[0]), 1002, "a frame of an extension that nobody agreed on"),
        (
            "reserved opcode",
            frame(0x83, &[0]),
            1002,
            "a frame of an extension that nobody agreed on",
        ),
        (
            "long ping",
            frame(0x89, &[0; 126]),
            1002,
            "a control frame that is fragmented or too long",
        ),
        (
            "ping in pieces",
            frame(0x09, &[0]),
            1002,
            "a control frame that is fragmented or too long",
        ),
        ("continuation of nothing", frame(0x80, &[0]), 1002, "a frame out of order"),
        (
            "message in a message",
            [frame(0x02, &[0]), frame(0x82, &[0])].concat(),
            1002,
            "a frame out of order",
        ),
        (
            "more than there are bytes in the world",
            [vec![0x82, 0xFF], vec![0xFF; 8]].concat(),
            1009,
            "a message of more than 1048576 bytes",
        ),
        (
            "fragments beyond the limit",
            [frame(0x02, &[0; 65_000])]
                .into_iter()
                .chain((0..16).map(|_| frame(0x00, &[0; 65_000])))
                .collect::<Vec<_>>()
                .concat(),
            1009,
            "a message of more than 1048576 bytes",
        ),
    ] {
        let (mut client, mut server) = raw_client().await;
        let client = tokio::spawn(async move {
            client.write_all(&bytes).await.unwrap();
            let mut said = vec![0; 4];
            client.read_exact(&mut said).await.unwrap();
            said
        });
        let closure = Closure { code: None, reason: reason.into() };
        assert_eq!(next(&mut server).await, Incoming::Closed(closure), "{name}");
        flush(&mut server).await;
        let said = timeout(HUNG, client).await.expect("no hang").expect("no panic");
        assert_eq!(said[0], 0x88, "{name}");
        assert_eq!(said[2..4], code.to_be_bytes(), "{name}");
    }
}

#[tokio::test]
async fn what_the_client_does_not_read_is_seen_and_bounded() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_send_buffer_size(4_096).expect("a small buffer");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(1).expect("a listener");
    let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.unwrap();
    let (stream, _) = listener.accept().await.expect("a connection");
    let mut server = ServerWebSocket::new(stream, &[], LIMITS).unwrap();
    let bytes = [7; 10_000];
    let mut sent = 0_usize;
    let waiting = loop {
        match server.send_binary(&bytes) {
            Ok(()) => sent += 1,
            Err(SendError::Full { waiting }) => break waiting,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(waiting > 240_000 && waiting <= LIMITS.waiting, "{waiting}");
    assert_eq!(waiting, server.waiting());

    // What waits comes whole and in order; the pong is behind it, if there was room for one.
    client.write_all(&frame(0x89, b"?")).await.unwrap();
    client.write_all(&frame(0x81, b"still here")).await.unwrap();
    let reader = tokio::spawn(async move {
        let mut all = vec![0; sent * 10_004];
        client.read_exact(&mut all).await.unwrap();
        (client, all)
    });
    assert_eq!(next(&mut server).await, text("still here"));
    flush(&mut server).await;
    assert_eq!(server.waiting(), 0);
    let (_client, all) = timeout(HUNG, reader).await.expect("no hang").expect("no panic");
    for frame in all.chunks(10_004) {
        assert_eq!(frame[..4], [0x82, 126, 0x27, 0x10]);
        assert!(frame[4..].iter().all(|byte| *byte == 7));
    }
}
