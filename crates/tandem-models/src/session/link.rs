//! One connection: from dialling to its end.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use tandem_call::{ModelCommand, ModelEvent, ModelFailure, ModelSink};
use tandem_net::{ConnectError, Incoming, SendError, WebSocket, connect};

use crate::{ModelDialect, Outbox, dialect::Verdict, failure};

/// Messages taken from a socket before others get their turn.
const MESSAGES_PER_POLL: usize = 32;

/// A connection on which nothing came for this long is pinged, lest a proxy takes it for forgotten: nginx closes one
/// whose server was silent for 60 s. No pong is waited for, since servers are known to answer late; TCP finds out what
/// is dead.
const PING_AFTER: Duration = Duration::from_secs(20);

type Dialling = Pin<Box<dyn Future<Output = Result<WebSocket, ConnectError>>>>;

/// What a poll or a command led to.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing happened.
    Idle,
    /// Something happened; there may be more.
    Busy,
    /// The session is configured.
    Ready,
    /// The connection is gone.
    Failed(ModelFailure),
}

enum State {
    Dialling(Dialling),
    Open(Box<WebSocket>),
    Gone,
}

/// A connection and its dialect.
pub(super) struct Link<D> {
    dialect: D,
    state: State,
    handshake_until: Instant,
    ready_since: Option<Instant>,
    /// When the next ping is due, if nothing comes before.
    ping_at: Option<Instant>,
    out: Outbox,
}

impl<D: ModelDialect> Link<D> {
    /// Begins to dial; all must stand at `handshake_until`.
    pub(super) fn dial(dialect: D, handshake_until: Instant) -> Self {
        let request = dialect.request();
        let dialling: Dialling = Box::pin(async move { connect(&request).await });
        Self {
            dialect,
            state: State::Dialling(dialling),
            handshake_until,
            ready_since: None,
            ping_at: None,
            out: Outbox::default(),
        }
    }

    pub(super) fn dialect(&self) -> &D {
        &self.dialect
    }

    pub(super) fn dialect_mut(&mut self) -> &mut D {
        &mut self.dialect
    }

    /// Configured and connected.
    pub(super) fn is_ready(&self) -> bool {
        self.ready_since.is_some() && matches!(self.state, State::Open(_))
    }

    /// Since when it was configured, also of a connection that is gone.
    pub(super) fn ready_since(&self) -> Option<Instant> {
        self.ready_since
    }

    /// Another way to open the session, after this one failed before it was ready.
    pub(super) fn fallback(&mut self) -> Option<D> {
        if self.ready_since.is_some() { None } else { self.dialect.fallback() }
    }

    /// Gives the socket away, to be closed.
    pub(super) fn leave(&mut self) -> Option<WebSocket> {
        match std::mem::replace(&mut self.state, State::Gone) {
            State::Open(socket) => Some(*socket),
            State::Dialling(_) | State::Gone => None,
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Gone => None,
            State::Dialling(_) => Some(self.handshake_until),
            State::Open(_) => {
                let handshake = self.ready_since.is_none().then_some(self.handshake_until);
                [handshake, self.ping_at, self.dialect.poll_timeout()].into_iter().flatten().min()
            }
        }
    }

    /// Bytes handed over which the socket has not taken yet.
    pub(super) fn waiting(&self) -> usize {
        match &self.state {
            State::Open(socket) => socket.waiting(),
            _ => 0,
        }
    }

    /// Sends a frame of audio unless more than `limit` bytes wait already. False when it was dropped.
    pub(super) fn send_audio(
        &mut self,
        audio: &[u8],
        limit: usize,
        message: &mut BytesMut,
    ) -> bool {
        if self.ready_since.is_none() {
            return false;
        }
        let State::Open(socket) = &mut self.state else { return false };
        if socket.waiting() > limit {
            return false;
        }
        self.dialect.encode_audio(audio, message);
        // What is wrong with the socket shows when it is read.
        socket.send_text(message.split().freeze()).is_ok()
    }

    /// Carries out `command` on a connection that is ready; events go to `reports`.
    pub(super) fn command(
        &mut self,
        now: Instant,
        command: ModelCommand,
        reports: &mut VecDeque<ModelEvent>,
    ) -> Step {
        self.dialect.command(now, command, &mut self.out);
        while let Some(event) = self.out.next_event() {
            reports.push_back(event);
        }
        self.flush_out(now)
    }

    /// Makes progress.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        sink: &mut dyn ModelSink,
    ) -> Step {
        let mut done = false;
        if let State::Dialling(dialling) = &mut self.state {
            match dialling.as_mut().poll(cx) {
                Poll::Pending => return self.check_handshake(now),
                Poll::Ready(Err(error)) => {
                    let failure = self.connect_failure(error);
                    return self.end(failure);
                }
                Poll::Ready(Ok(socket)) => {
                    self.state = State::Open(Box::new(socket));
                    self.dialect.open(now, &mut self.out);
                    self.ping_at = Some(now + PING_AFTER);
                    done = true;
                    match self.flush_out(now) {
                        Step::Idle | Step::Busy => {}
                        step => return step,
                    }
                }
            }
        }
        for _ in 0..MESSAGES_PER_POLL {
            let State::Open(socket) = &mut self.state else { return Step::Idle };
            let message = match socket.poll_incoming(cx) {
                Poll::Pending => break,
                Poll::Ready(Incoming::Message { bytes, .. }) => bytes,
                Poll::Ready(Incoming::Closed(closure)) => {
                    let failure = self.dialect.handle_close(closure.code, &closure.reason);
                    return self.end(failure);
                }
            };
            done = true;
            self.ping_at = Some(now + PING_AFTER);
            if let Err(error) = self.dialect.handle_message(now, &message, &mut self.out, sink) {
                return self.end(failure::retry(Duration::ZERO, error.to_string()));
            }
            match self.flush_out(now) {
                Step::Idle | Step::Busy => {}
                step => return step,
            }
        }
        if self.dialect.poll_timeout().is_some_and(|at| at <= now) {
            done = true;
            self.dialect.handle_timeout(now, &mut self.out, sink);
            match self.flush_out(now) {
                Step::Idle | Step::Busy => {}
                step => return step,
            }
        }
        if let State::Open(socket) = &mut self.state {
            if self.ping_at.is_some_and(|at| at <= now) {
                done = true;
                self.ping_at = Some(now + PING_AFTER);
                let _ = socket.ping(); // What is wrong with the socket shows when it is read.
            }
            let _ = socket.poll_flush(cx);
        }
        match self.check_handshake(now) {
            Step::Idle if done => Step::Busy,
            step => step,
        }
    }

    fn check_handshake(&mut self, now: Instant) -> Step {
        if matches!(self.state, State::Gone)
            || self.ready_since.is_some()
            || now < self.handshake_until
        {
            return Step::Idle;
        }
        let stage = match self.state {
            State::Dialling(_) => "the server did not take the connection in time",
            State::Open(_) | State::Gone => "the server did not configure the session in time",
        };
        self.end(failure::retry(Duration::ZERO, stage))
    }

    /// Sends what the dialect wants sent and hears its verdict.
    fn flush_out(&mut self, now: Instant) -> Step {
        if let State::Open(socket) = &mut self.state {
            while let Some(message) = self.out.next_message() {
                match socket.send_text(Bytes::from(message)) {
                    Ok(()) => {}
                    Err(error @ SendError::Full { .. }) => {
                        return self.end(failure::retry(Duration::ZERO, error.to_string()));
                    }
                    // The reason shows when the socket is read.
                    Err(SendError::Gone(_)) => break,
                }
            }
        }
        match self.out.take_verdict() {
            None => Step::Idle,
            Some(Verdict::Ready) => {
                self.ready_since = Some(now);
                Step::Ready
            }
            Some(Verdict::Failed(failure)) => self.end(failure),
        }
    }

    fn end(&mut self, failure: ModelFailure) -> Step {
        self.state = State::Gone;
        self.out = Outbox::default();
        Step::Failed(failure)
    }

    fn connect_failure(&mut self, error: ConnectError) -> ModelFailure {
        match error {
            ConnectError::Refused { status, body, retry_after } => {
                self.dialect.handle_http(status, &body, retry_after)
            }
            error @ (ConnectError::BadRequest(_)
            | ConnectError::TlsSettings(_)
            | ConnectError::Tls { .. }) => failure::give_up(error.to_string()),
            error @ (ConnectError::Resolve { .. }
            | ConnectError::Connect { .. }
            | ConnectError::Handshake(_)) => failure::retry(Duration::ZERO, error.to_string()),
        }
    }
}
