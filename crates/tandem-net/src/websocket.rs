//! A websocket client that is driven by polling: bounded dialling, bounded buffers, never a wait in a write.

use std::{
    io,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Sink, Stream};
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message, Utf8Bytes,
        client::IntoClientRequest,
        http::{HeaderName, HeaderValue, Uri},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    dial::first_to_connect,
    tls::{TlsError, tls_client},
};

/// Largest message taken from a peer; OpenAI's and Gemini's largest are some megabytes.
const MAX_MESSAGE: usize = 16 << 20;

/// tungstenite's read buffer: 8 KiB cost 9 kB a connection where its default of 128 KiB costs 133 kB.
const READ_BUFFER: usize = 8 << 10;

/// What may wait in our write buffer before a send fails.
const MAX_WRITE_BUFFER: usize = 1 << 20;

/// Unsent bytes the kernel takes before the socket counts as full, so that late audio waits where it can be seen.
const NOT_SENT: u32 = 16 << 10;

/// Cipher text rustls keeps for a socket that is full.
const TLS_BUFFER: usize = 16 << 10;

/// A path on which nothing is acknowledged for this long is dead.
const DEAD_PATH: Duration = Duration::from_secs(20);

/// Characters of a refusal's body that are kept.
const MAX_BODY: usize = 1_024;

/// What to connect to.
#[derive(Clone)]
pub struct WebSocketRequest {
    /// `ws://` or `wss://`, with path and query.
    pub url: String,
    /// Headers beside those of the handshake; a secret one is `(name, value)` like any other and never printed.
    pub headers: Vec<(&'static str, String)>,
    /// Certificates trusted beside the Mozilla roots: a PEM file.
    pub extra_ca: Option<PathBuf>,
}

/// Why there is no connection. None of the texts holds a header of the request.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL or a header is not one.
    #[error("{0}")]
    BadRequest(String),
    /// The host has no address.
    #[error("cannot resolve {host}: {error}")]
    Resolve { host: String, error: io::Error },
    /// No address of the host takes the connection.
    #[error("cannot connect to {host}: {error}")]
    Connect { host: String, error: io::Error },
    /// Our own TLS settings are wrong.
    #[error(transparent)]
    TlsSettings(#[from] TlsError),
    /// The TLS handshake failed, by a certificate for instance.
    #[error("TLS with {host}: {error}")]
    Tls { host: String, error: io::Error },
    /// The server answered the upgrade with another status than 101.
    #[error("HTTP {status}{}", body_text(.body))]
    Refused { status: u16, body: String, retry_after: Option<Duration> },
    /// The server broke off or answered something that is no handshake.
    #[error("websocket handshake: {0}")]
    Handshake(String),
}

fn body_text(body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(": {body}") }
}

/// Why a message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The peer reads too slowly: the write buffer is full.
    #[error("the peer reads too slowly, {waiting} bytes wait")]
    Full { waiting: usize },
    /// The connection is gone.
    #[error("the connection is gone: {0}")]
    Gone(String),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closure {
    /// The peer's close code; none when it vanished without a close frame (1006).
    pub code: Option<u16>,
    /// The peer's reason, or what the network said.
    pub reason: String,
}

/// What a message is sent as (RFC 6455 §5.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MessageKind {
    Text,
    Binary,
}

/// What comes from the peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// One whole message.
    Message { kind: MessageKind, bytes: Bytes },
    /// The connection is over. Nothing more comes.
    Closed(Closure),
}

/// An open websocket. Dropping it says goodbye (1000) if the socket takes that at once.
pub struct WebSocket {
    inner: WebSocketStream<Transport>,
    /// Bytes of all frames handed to `inner`, on the count of `Transport::written`.
    framed: u64,
    /// Something was sent since all of it was last known to be out; TLS may hold back what `framed` does not show.
    unflushed: bool,
    over: Option<Closure>,
    closing: bool,
}

/// Opens a websocket. The caller bounds the time: dropping the future abandons the attempt.
pub async fn connect(request: &WebSocketRequest) -> Result<WebSocket, ConnectError> {
    let bad = |error: &dyn std::fmt::Display| ConnectError::BadRequest(error.to_string());
    let uri: Uri = request
        .url
        .parse()
        .map_err(|error| ConnectError::BadRequest(format!("{:?}: {error}", request.url)))?;
    let secure = match uri.scheme_str() {
        Some("ws") => false,
        Some("wss") => true,
        _ => return Err(bad(&format!("{:?} is neither ws:// nor wss://", request.url))),
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let mut upgrade = uri.into_client_request().map_err(|error| bad(&error))?;
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|error| bad(&error))?;
        // The library's error would print nothing of the value, ours neither.
        let mut value = HeaderValue::from_str(value).map_err(|_| {
            bad(&format!("the value of header {name} has characters that no header may have"))
        })?;
        value.set_sensitive(true);
        upgrade.headers_mut().insert(name, value);
    }

    let stream = if secure {
        let name = ServerName::try_from(host.clone()).map_err(|error| bad(&error))?;
        let client = tls_client(request.extra_ca.as_deref()).await?;
        let mut tls = TlsConnector::from(client)
            .connect(name, connect_tcp(&host, port).await?)
            .await
            .map_err(|error| ConnectError::Tls { host: host.clone(), error })?;
        tls.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        Socket::Tls(Box::new(tls))
    } else {
        Socket::Plain(connect_tcp(&host, port).await?)
    };

    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BUFFER)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let transport = Transport { socket: stream, written: 0 };
    let (inner, _) =
        client_async_with_config(upgrade, transport, Some(config)).await.map_err(refusal)?;
    let framed = inner.get_ref().written;
    Ok(WebSocket { inner, framed, unflushed: false, over: None, closing: false })
}

async fn connect_tcp(host: &str, port: u16) -> Result<TcpStream, ConnectError> {
    let addresses = tokio::net::lookup_host((host, port))
        .await
        .map_err(|error| ConnectError::Resolve { host: host.to_owned(), error })?;
    let attempt = |address| async move {
        let stream = TcpStream::connect(address).await?;
        set_options(&stream)?;
        Ok(stream)
    };
    first_to_connect(addresses, attempt)
        .await
        .map_err(|error| ConnectError::Connect { host: format!("{host}:{port}"), error })
}

/// No delay for small frames, an early end for a dead path, and late data where it can be seen.
pub(crate) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(DEAD_PATH))?;
    #[cfg(target_os = "linux")]
    {
        socket.set_tcp_user_timeout(Some(DEAD_PATH))?;
        socket.set_tcp_notsent_lowat(NOT_SENT)?;
    }
    Ok(())
}

fn refusal(error: tungstenite::Error) -> ConnectError {
    match error {
        tungstenite::Error::Http(response) => {
            let retry_after = response
                .headers()
                .get("retry-after")
                .and_then(|value| value.to_str().ok()?.trim().parse().ok())
                .map(|seconds: u32| Duration::from_secs(seconds.into()));
            let body = response.body().as_deref().unwrap_or_default();
            let body = String::from_utf8_lossy(&body[..body.len().min(MAX_BODY)]);
            ConnectError::Refused {
                status: response.status().as_u16(),
                body: body.trim().to_owned(),
                retry_after,
            }
        }
        other => ConnectError::Handshake(other.to_string()),
    }
}

impl WebSocket {
    /// Hands over one text message and writes what the socket takes at once.
    ///
    /// `text` must be UTF-8. With less than a megabyte waiting it is never refused.
    pub fn send_text(&mut self, text: Bytes) -> Result<(), SendError> {
        let text = Utf8Bytes::try_from(text)
            .map_err(|error| SendError::Gone(format!("a message that is no text: {error}")))?;
        self.send(Message::Text(text))
    }

    /// Hands over one binary message, as `send_text` does with text.
    pub fn send_binary(&mut self, bytes: Bytes) -> Result<(), SendError> {
        self.send(Message::Binary(bytes))
    }

    /// Asks the peer for a sign of life, so that a path that is dead or forgotten by a NAT shows as an end.
    pub fn ping(&mut self) -> Result<(), SendError> {
        self.send(Message::Ping(Bytes::new()))
    }

    fn send(&mut self, message: Message) -> Result<(), SendError> {
        if let Some(over) = &self.over {
            return Err(SendError::Gone(over.reason.clone()));
        }
        let length = message.len();
        self.unflushed = true;
        match Pin::new(&mut self.inner).start_send(message) {
            Ok(()) => {
                self.framed += frame_bytes(length);
                Ok(())
            }
            Err(tungstenite::Error::WriteBufferFull(_)) => {
                Err(SendError::Full { waiting: self.waiting() })
            }
            Err(error) => Err(SendError::Gone(error.to_string())),
        }
    }

    /// Bytes handed over which the socket has not taken yet.
    pub fn waiting(&self) -> usize {
        self.framed.saturating_sub(self.inner.get_ref().written) as usize
    }

    /// The next message, or the end. Pings are answered and what waits is written on the way.
    pub fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        if let Some(over) = &self.over {
            return Poll::Ready(Incoming::Closed(over.clone()));
        }
        let _ = self.poll_flush(cx);
        loop {
            let closure = match Pin::new(&mut self.inner).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(Message::Text(text)))) => {
                    return Poll::Ready(Incoming::Message {
                        kind: MessageKind::Text,
                        bytes: text.into(),
                    });
                }
                Poll::Ready(Some(Ok(Message::Binary(bytes)))) => {
                    return Poll::Ready(Incoming::Message { kind: MessageKind::Binary, bytes });
                }
                Poll::Ready(Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)))) => {
                    continue;
                }
                Poll::Ready(Some(Ok(Message::Close(frame)))) => {
                    // Reading on sends the reply that the library has queued.
                    let _ = Pin::new(&mut self.inner).poll_flush(cx);
                    match frame {
                        Some(CloseFrame { code, reason }) => {
                            Closure { code: Some(code.into()), reason: reason.as_str().to_owned() }
                        }
                        None => Closure { code: Some(1005), reason: String::new() },
                    }
                }
                Poll::Ready(Some(Err(error))) => Closure { code: None, reason: error.to_string() },
                Poll::Ready(None) => {
                    Closure { code: None, reason: "the connection ended".to_owned() }
                }
            };
            self.over = Some(closure.clone());
            return Poll::Ready(Incoming::Closed(closure));
        }
    }

    /// Writes what waits. `Ready` when nothing does, also on a connection that is over.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.over.is_some() || !self.unflushed {
            return Poll::Ready(());
        }
        match Pin::new(&mut self.inner).poll_flush(cx) {
            Poll::Ready(_) => {
                // An error shows in the next read; pongs and the like were counted only by the transport.
                self.unflushed = false;
                self.framed = self.inner.get_ref().written;
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// Begins the closing handshake. What comes from the peer after this is of no interest; `poll_closed` ends it.
    pub fn close(&mut self, code: u16, reason: &'static str) {
        if self.closing || self.over.is_some() {
            return;
        }
        self.closing = true;
        let frame =
            CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static(reason) };
        let _ = Pin::new(&mut self.inner).start_send(Message::Close(Some(frame)));
    }

    /// Ready when the peer has closed the connection, too.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = Pin::new(&mut self.inner).poll_flush(cx);
        loop {
            match Pin::new(&mut self.inner).poll_next(cx) {
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Drop for WebSocket {
    fn drop(&mut self) {
        self.close(1000, "");
    }
}

/// Bytes of a masked frame with `length` bytes of payload (RFC 6455 §5.2).
fn frame_bytes(length: usize) -> u64 {
    let header = match length {
        0..126 => 6,
        126..65_536 => 8,
        _ => 14,
    };
    header + length as u64
}

/// The TCP or TLS stream below the websocket, with a count of what it took.
struct Transport {
    socket: Socket,
    written: u64,
}

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Transport {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Socket::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Socket::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        if let Poll::Ready(Ok(written)) = poll {
            self.written += written as u64;
        }
        poll
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.socket {
            Socket::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Socket::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
