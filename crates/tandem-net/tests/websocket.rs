//! The websocket client over TCP and TLS on loopback.

use std::{
    future::poll_fn,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tandem_net::{
    Closure, ConnectError, Incoming, MessageKind, SendError, WebSocket, WebSocketRequest, connect,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

/// A test that hangs ends with this.
const HUNG: Duration = Duration::from_secs(20);

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn request(url: String, extra_ca: Option<PathBuf>) -> WebSocketRequest {
    WebSocketRequest { url, headers: vec![("x-test", "secret".into())], extra_ca }
}

fn acceptor() -> TlsAcceptor {
    let certificate = CertificateDer::from_pem_file(testdata("localhost.pem")).expect("a PEM file");
    let key = PrivateKeyDer::from_pem_file(testdata("localhost.key")).expect("a PEM file");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider's own versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a key that fits");
    TlsAcceptor::from(Arc::new(config))
}

/// Sends every message back until the client says goodbye.
async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut server: WebSocketStream<S>) {
    while let Some(Ok(message)) = server.next().await {
        if message.is_close() || server.send(message).await.is_err() {
            break;
        }
    }
}

async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    (listener, port)
}

async fn next(socket: &mut WebSocket) -> Incoming {
    timeout(HUNG, poll_fn(|cx| socket.poll_incoming(cx))).await.expect("no hang")
}

#[tokio::test]
async fn text_goes_there_and_back_over_tls() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let stream = acceptor().accept(stream).await.expect("TLS");
        echo(accept_async(stream).await.expect("an upgrade")).await;
    });
    let url = format!("wss://localhost:{port}/path?a=b");
    let mut socket = connect(&request(url, Some(testdata("ca.pem")))).await.expect("a connection");
    for length in [0, 1, 125, 126, 65_535, 65_536, 300_000] {
        let text = Bytes::from("x".repeat(length));
        socket.send_text(text.clone()).expect("room");
        let back = Incoming::Message { kind: MessageKind::Text, bytes: text };
        assert_eq!(next(&mut socket).await, back);
        poll_fn(|cx| socket.poll_flush(cx)).await;
        assert_eq!(socket.waiting(), 0);
    }
    socket.close(1000, "");
    timeout(HUNG, poll_fn(|cx| socket.poll_closed(cx))).await.expect("no hang");
    server.await.expect("no panic");
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_refused() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        assert!(acceptor().accept(stream).await.is_err());
    });
    let refused = connect(&request(format!("wss://localhost:{port}"), None)).await.err();
    assert!(matches!(refused, Some(ConnectError::Tls { .. })), "{refused:?}");
    server.await.expect("no panic");
}

#[tokio::test]
async fn requests_that_are_none_are_refused_before_a_connection() {
    for (url, header, text) in [
        ("http://localhost", "v", "neither ws:// nor wss://"),
        ("not a url", "v", "not a url"),
        ("ws://localhost", "line\nbreak", "characters that no header may have"),
    ] {
        let request = WebSocketRequest {
            url: url.into(),
            headers: vec![("x-test", header.into())],
            extra_ca: None,
        };
        let error = connect(&request).await.err().expect("a refusal").to_string();
        assert!(error.contains(text), "{error}");
        assert!(!error.contains("break"), "{error}");
    }
    let unknown = request("ws://no-such-host.invalid:1".into(), None);
    assert!(matches!(connect(&unknown).await.err(), Some(ConnectError::Resolve { .. })));
}

#[tokio::test]
async fn the_peers_goodbye_is_reported_once_and_for_all() {
    let (listener, port) = listen().await;
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut server = accept_async(stream).await.expect("an upgrade");
        let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame {
            code: 1011.into(),
            reason: "Deadline expired".into(),
        };
        server.close(Some(frame)).await.expect("sent");
        // The reply comes before the end of the connection.
        matches!(server.next().await, Some(Ok(Message::Close(_))))
    });
    let mut socket =
        connect(&request(format!("ws://127.0.0.1:{port}"), None)).await.expect("a connection");
    let closure = Closure { code: Some(1011), reason: "Deadline expired".into() };
    assert_eq!(next(&mut socket).await, Incoming::Closed(closure.clone()));
    assert_eq!(next(&mut socket).await, Incoming::Closed(closure));
    assert!(matches!(socket.send_text("x".into()), Err(SendError::Gone(_))));
    assert!(timeout(HUNG, server).await.expect("no hang").expect("no panic"), "no reply");
}

#[tokio::test]
async fn what_the_peer_does_not_read_is_seen_and_bounded() {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small buffer");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
    let listener = socket.listen(1).expect("a listener");
    let port = listener.local_addr().expect("an address").port();
    let server = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        accept_async(stream).await.expect("an upgrade")
    });
    let mut socket =
        connect(&request(format!("ws://127.0.0.1:{port}"), None)).await.expect("a connection");
    let mut server = server.await.expect("no panic");
    let text = Bytes::from("x".repeat(10_000));
    let mut sent = 0;
    let waiting = loop {
        match socket.send_text(text.clone()) {
            Ok(()) => sent += 1,
            Err(SendError::Full { waiting }) => break waiting,
            Err(error) => panic!("{error}"),
        }
    };
    // The kernel took little, the rest waits here up to the bound.
    assert!(waiting > 900_000 && waiting <= 1 << 20, "{waiting}");
    assert!(sent * 10_000 < waiting + 400_000, "{sent} messages were taken");
    let reader = tokio::spawn(async move {
        for _ in 0..sent {
            server.next().await.expect("a message").expect("a whole one");
        }
    });
    timeout(HUNG, poll_fn(|cx| socket.poll_flush(cx))).await.expect("no hang");
    assert_eq!(socket.waiting(), 0);
    timeout(HUNG, reader).await.expect("no hang").expect("no panic");
}
