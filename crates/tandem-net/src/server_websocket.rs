//! The server's end of a websocket, driven by polling: bounded buffers, never a wait in a write.
//!
//! tungstenite stays the client. Here its rules are in the way: it ends a connection over text that is no UTF-8, which
//! telephone switches send.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::{Pin, pin},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::{
    framing::{self, FrameReader, Framed, MAX_HEADER, Opcode, close_frame},
    websocket::{Closure, Incoming, MessageKind, SendError, set_options},
};

/// A write buffer that grew beyond this is given back when it is empty.
const KEPT_BUFFER: usize = 64 << 10;

/// How much may come and how much may wait, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketLimits {
    /// Longest message taken from the peer; a longer one ends the connection with 1009.
    pub message: usize,
    /// What may wait to be written before a send fails.
    pub waiting: usize,
}

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455 §4.2.2).
pub fn accept_key(key: &str) -> String {
    derive_accept_key(key.as_bytes())
}

/// An open websocket whose peer is the client. Dropping it says goodbye (1000) if the socket takes that at once.
///
/// Neither direction allocates once the buffers have grown, if each message is dropped before the next is asked for.
pub struct ServerWebSocket {
    stream: TcpStream,
    reader: FrameReader,
    /// Frames that the socket did not take, from `written` on.
    out: Vec<u8>,
    written: usize,
    limits: SocketLimits,
    over: Option<Closure>,
    closing: bool,
}

impl ServerWebSocket {
    /// Takes over a stream whose upgrade was answered already; `buffered` was read beyond the request's head.
    ///
    /// It fails when the socket takes no options, because the peer is gone for instance.
    pub fn new(stream: TcpStream, buffered: &[u8], limits: SocketLimits) -> io::Result<Self> {
        set_options(&stream)?;
        Ok(Self {
            stream,
            reader: FrameReader::new(limits.message, buffered),
            out: Vec::new(),
            written: 0,
            limits,
            over: None,
            closing: false,
        })
    }

    /// Hands over one binary message and writes what the socket takes at once.
    ///
    /// What it did not take is written by `poll_incoming` and `poll_flush`, of which one is to be called next.
    pub fn send_binary(&mut self, bytes: &[u8]) -> Result<(), SendError> {
        self.send(MessageKind::Binary, bytes)
    }

    /// Hands over one text message, as `send_binary` does. `text` must be UTF-8.
    pub fn send_text(&mut self, text: &[u8]) -> Result<(), SendError> {
        self.send(MessageKind::Text, text)
    }

    /// Hands over one message of either kind, as `send_binary` does.
    pub fn send(&mut self, kind: MessageKind, bytes: &[u8]) -> Result<(), SendError> {
        self.check_open()?;
        self.write_frame(kind.into(), bytes)
    }

    /// Asks the peer for a sign of life, so that a path that is dead or forgotten by a NAT shows as an end.
    pub fn ping(&mut self) -> Result<(), SendError> {
        self.check_open()?;
        self.write_frame(Opcode::Ping, &[])
    }

    /// Bytes handed over which the socket has not taken yet.
    pub fn waiting(&self) -> usize {
        self.out.len() - self.written
    }

    /// The next message, or the end. Pings are answered and what waits is written on the way.
    pub fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Incoming> {
        loop {
            if let Some(over) = &self.over {
                return Poll::Ready(Incoming::Closed(over.clone()));
            }
            match self.poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Framed::Message { kind, bytes })) => {
                    return Poll::Ready(Incoming::Message { kind, bytes });
                }
                Poll::Ready(Ok(Framed::Ping(bytes))) => {
                    // A peer that pings and does not read gets no answer.
                    let _ = self.write_frame(Opcode::Pong, &bytes);
                }
                Poll::Ready(Ok(Framed::Pong)) => {}
                Poll::Ready(Ok(Framed::Close(closure))) => {
                    let answer = match closure.code {
                        // Codes that no frame may carry (RFC 6455 §7.4.1).
                        None | Some(..1000 | 1004..=1006 | 1015) => 1000,
                        Some(code) => code,
                    };
                    self.close(answer, "");
                    self.over = Some(closure);
                }
                Poll::Ready(Err(closure)) => self.over = Some(closure),
            }
        }
    }

    /// Writes what waits. `Ready` when nothing does, also on a connection that is over.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.waiting() > 0 {
            match Pin::new(&mut self.stream).poll_write(cx, &self.out[self.written..]) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(written)) if written > 0 => self.written += written,
                // The reason shows in the next read.
                Poll::Ready(Ok(_) | Err(_)) => self.written = self.out.len(),
            }
        }
        self.out.clear();
        self.written = 0;
        if self.out.capacity() > KEPT_BUFFER {
            self.out.shrink_to(KEPT_BUFFER);
        }
        Poll::Ready(())
    }

    /// Begins the closing handshake; `poll_closed` ends it. A reason of more than 123 bytes is cut.
    pub fn close(&mut self, code: u16, reason: &str) {
        if self.closing || self.over.is_some() {
            return;
        }
        self.closing = true;
        self.write_out(&close_frame(code, reason), &[]);
    }

    /// Ready when the peer has said goodbye, too, or is gone. What else it says is passed over.
    pub fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.over.is_none() {
            match self.poll_frame(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Framed::Close(closure)) | Err(closure)) => self.over = Some(closure),
                Poll::Ready(Ok(_)) => {}
            }
        }
        self.poll_flush(cx)
    }

    fn check_open(&self) -> Result<(), SendError> {
        match &self.over {
            Some(over) => Err(SendError::Gone(over.reason.clone())),
            None if self.closing => Err(SendError::Gone("it is being closed".to_owned())),
            None => Ok(()),
        }
    }

    /// The next frame, or how the connection ended.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Framed, Closure>> {
        let gone = |reason: String| Poll::Ready(Err(Closure { code: None, reason }));
        loop {
            match self.reader.next_frame() {
                Ok(Some(frame)) => return Poll::Ready(Ok(frame)),
                Ok(None) => {}
                Err(error) => {
                    let reason = error.to_string();
                    self.close(error.close_code(), &reason);
                    return gone(reason);
                }
            }
            let _ = self.poll_flush(cx);
            match pin!(self.stream.read_buf(self.reader.space())).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return gone("the connection ended".to_owned()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return gone(error.to_string()),
            }
        }
    }

    fn write_frame(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), SendError> {
        let waiting = self.waiting();
        if waiting + MAX_HEADER + payload.len() > self.limits.waiting {
            return Err(SendError::Full { waiting });
        }
        self.write_out(framing::header(opcode, payload.len(), &mut [0; MAX_HEADER]), payload);
        Ok(())
    }

    /// Writes what the socket takes at once, in one system call and without a copy, and keeps the rest.
    fn write_out(&mut self, header: &[u8], payload: &[u8]) {
        let mut taken = 0;
        if self.waiting() == 0 {
            let pieces = [IoSlice::new(header), IoSlice::new(payload)];
            // An error shows in the next read.
            taken = self.stream.try_write_vectored(&pieces).unwrap_or(0);
        } else if self.written > self.out.len() / 2 {
            self.out.drain(..self.written);
            self.written = 0;
        }
        self.out.extend_from_slice(&header[taken.min(header.len())..]);
        self.out.extend_from_slice(&payload[taken.saturating_sub(header.len())..]);
    }
}

impl Drop for ServerWebSocket {
    fn drop(&mut self) {
        self.close(1000, "");
    }
}
