//! One fork's way in: the upgrade request, who sends it, the answer, and the first thing it says. No socket, no clock.

mod access;
mod refusal;
mod request;
#[cfg(test)]
mod tests;

pub use access::{AuthenticatedAs, CredentialsError, ForkCredentials};
pub(crate) use refusal::{Ended, Refusal};

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tandem_net::{FrameError, FrameReader, Framed, MessageKind, accept_key, close_frame};

use self::request::{MAX_HEAD, Upgrade, end_of_head};
use crate::Dialect;

/// The head of the request is to be there by then.
pub(crate) const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// The first message is waited for this long.
pub(crate) const GREETING_WITHIN: Duration = Duration::from_secs(2);

/// A connection that names no call and says nothing is kept this long.
///
/// `mod_audio_fork` leaves its connection open and silent for good when the call ends before the 101.
pub(crate) const SILENT_FOR: Duration = Duration::from_secs(10);

/// Metadata that comes behind audio is waited for this long when nothing else names the call.
///
/// `mod_audio_stream` sends its first two messages in the wrong order one time in twenty; both come at once.
pub(crate) const SWAPPED_WITHIN: Duration = Duration::from_millis(100);

/// Longest metadata; the modules keep 8 KiB.
pub(crate) const MAX_GREETING: usize = 64 << 10;

/// What a listener takes, and from whom.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) prefix: String,
    pub(crate) credentials: ForkCredentials,
}

/// What a connection that was let in said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Greeting {
    pub(crate) dialect: Dialect,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) authenticated_as: AuthenticatedAs,
    /// The first message, or the first behind audio that came with it, if it was text.
    pub(crate) metadata: Option<Bytes>,
    /// Everything read after the head, the metadata too.
    pub(crate) buffered: Vec<u8>,
}

/// Takes the bytes of one connection and says what becomes of it. It holds credentials, so it cannot be printed.
pub(crate) struct Handshake {
    rules: Arc<Rules>,
    peer: SocketAddr,
    /// An instant and the unix time at it.
    clock: (Instant, Duration),
    state: State,
    transmit: Option<Vec<u8>>,
}

enum State {
    Head { until: Instant, bytes: Vec<u8> },
    Greeting(Box<Listening>),
    Over(Option<Result<Greeting, Ended>>),
}

/// A websocket that was opened and has said nothing of use yet.
struct Listening {
    upgrade: Upgrade,
    /// The first message is given up at this time.
    until: Instant,
    /// The connection is given up at this time if it has been silent.
    silent_until: Instant,
    /// Audio came first.
    audio: bool,
    raw: Vec<u8>,
    reader: FrameReader,
}

impl Handshake {
    /// A connection that was accepted at `now`; `unix_now` is the unix time then.
    pub(crate) fn new(
        now: Instant,
        unix_now: Duration,
        peer: SocketAddr,
        rules: Arc<Rules>,
    ) -> Self {
        Self {
            rules,
            peer,
            clock: (now, unix_now),
            state: State::Head { until: now + HEAD_WITHIN, bytes: Vec::new() },
            transmit: None,
        }
    }

    /// Takes what the peer sent.
    pub(crate) fn handle_bytes(&mut self, now: Instant, received: &[u8]) {
        match &mut self.state {
            State::Head { bytes, .. } => {
                let seen = bytes.len();
                bytes.extend_from_slice(received);
                match end_of_head(bytes, seen) {
                    Some(end) if end <= MAX_HEAD => {
                        let greeting = bytes.split_off(end);
                        let head = std::mem::take(bytes);
                        self.answer(now, &head, &greeting);
                    }
                    None if bytes.len() < MAX_HEAD => {}
                    Some(_) | None => self.refuse(Refusal::TooLarge),
                }
            }
            State::Greeting(listening) => {
                if listening.raw.is_empty() && listening.until <= now {
                    listening.until = now + GREETING_WITHIN;
                }
                listening.raw.extend_from_slice(received);
                listening.reader.extend(received);
                self.listen(now);
            }
            State::Over(_) => {}
        }
    }

    /// The peer sends no more.
    pub(crate) fn handle_end(&mut self) {
        let ended = match self.state {
            State::Head { .. } => Ended::Left,
            State::Greeting(_) => Ended::Closed,
            State::Over(_) => return,
        };
        self.state = State::Over(Some(Err(ended)));
    }

    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match &self.state {
            State::Head { until, .. } => Some(*until),
            State::Greeting(listening) => Some(listening.due()),
            State::Over(_) => None,
        }
    }

    /// Gives up what was to be there at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|due| now < due) {
            return;
        }
        match &self.state {
            State::Head { .. } => self.refuse(Refusal::Slow),
            State::Greeting(listening)
                if listening.raw.is_empty() && !listening.upgrade.names_call() =>
            {
                self.end(Ended::Silent, 1008, "nothing was said");
            }
            State::Greeting(_) => self.arrive(None),
            State::Over(_) => {}
        }
    }

    /// What is to be sent to the peer.
    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.take()
    }

    /// What became of the connection; given once, after the last `poll_transmit`.
    pub(crate) fn poll_outcome(&mut self) -> Option<Result<Greeting, Ended>> {
        match &mut self.state {
            State::Over(outcome) => outcome.take(),
            State::Head { .. } | State::Greeting(_) => None,
        }
    }

    fn unix_now(&self, now: Instant) -> u64 {
        let (then, unix_then) = self.clock;
        (unix_then + now.saturating_duration_since(then)).as_secs()
    }

    fn answer(&mut self, now: Instant, head: &[u8], greeting: &[u8]) {
        let Rules { prefix, credentials } = &*self.rules;
        let unix_now = self.unix_now(now);
        let upgrade = match Upgrade::read(head, self.peer.ip(), prefix, credentials, unix_now) {
            Ok(upgrade) => upgrade,
            Err(refusal) => return self.refuse(refusal),
        };
        self.transmit = Some(switching_protocols(&upgrade));
        self.state = State::Greeting(Box::new(Listening {
            upgrade,
            until: now + GREETING_WITHIN,
            silent_until: now + SILENT_FOR,
            audio: false,
            raw: greeting.to_vec(),
            reader: FrameReader::new(MAX_GREETING, greeting),
        }));
        self.listen(now);
    }

    /// Looks for the first message.
    fn listen(&mut self, now: Instant) {
        let State::Greeting(listening) = &mut self.state else { return };
        loop {
            match listening.reader.next_frame() {
                Ok(Some(Framed::Message { kind: MessageKind::Text, bytes })) => {
                    return self.arrive(Some(bytes));
                }
                Ok(Some(Framed::Message { kind: MessageKind::Binary, .. })) => {
                    listening.hear_audio(now);
                }
                Ok(Some(Framed::Ping(_) | Framed::Pong)) => {} // The pong is left to whom the bytes are handed.
                Ok(Some(Framed::Close(_))) => return self.end(Ended::Closed, 1000, ""),
                Ok(None) => break,
                // A late handshake's first frame holds all that was said meanwhile.
                Err(FrameError::TooLarge { .. })
                    if listening.reader.begun() == Some(MessageKind::Binary) =>
                {
                    return self.arrive(None);
                }
                Err(error) => {
                    return self.end(Ended::BadFrames, error.close_code(), &error.to_string());
                }
            }
        }
        if listening.reader.begun() == Some(MessageKind::Binary) {
            listening.hear_audio(now);
        }
        let too_much = listening.raw.len() > MAX_GREETING + MAX_HEAD;
        if listening.audio && (too_much || listening.upgrade.names_call()) {
            self.arrive(None);
        } else if too_much {
            self.end(Ended::BadFrames, 1008, "pings are no greeting");
        }
    }

    fn arrive(&mut self, metadata: Option<Bytes>) {
        let State::Greeting(listening) = std::mem::replace(&mut self.state, State::Over(None))
        else {
            return;
        };
        let Listening { upgrade, raw, .. } = *listening;
        self.state = State::Over(Some(Ok(Greeting {
            dialect: upgrade.dialect,
            query: upgrade.query,
            authenticated_as: upgrade.authenticated_as,
            metadata,
            buffered: raw,
        })));
    }

    fn refuse(&mut self, refusal: Refusal) {
        self.transmit = Some(refusal.response(&self.rules.prefix));
        self.state = State::Over(Some(Err(Ended::Refused(refusal))));
    }

    /// Ends an open websocket; the 101 may still be on its way out.
    fn end(&mut self, ended: Ended, code: u16, reason: &str) {
        self.transmit.get_or_insert_default().extend(close_frame(code, reason));
        self.state = State::Over(Some(Err(ended)));
    }
}

impl Listening {
    fn hear_audio(&mut self, now: Instant) {
        if !self.audio {
            self.audio = true;
            self.until = self.until.min(now + SWAPPED_WITHIN);
        }
    }

    fn due(&self) -> Instant {
        if self.raw.is_empty() && !self.upgrade.names_call() {
            self.silent_until
        } else {
            self.until
        }
    }
}

impl Upgrade {
    /// The call is known without a word of metadata.
    fn names_call(&self) -> bool {
        matches!(self.authenticated_as, AuthenticatedAs::Call(_))
            || self.query.iter().any(|(name, _)| name == "call")
    }
}

/// RFC 6455 §4.2.2. No extension is ever agreed to; a subprotocol that was not offered must not be named.
fn switching_protocols(upgrade: &Upgrade) -> Vec<u8> {
    let protocol = match &upgrade.protocol {
        Some(protocol) => format!("Sec-WebSocket-Protocol: {protocol}\r\n"),
        None => String::new(),
    };
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n{protocol}\r\n",
        accept_key(&upgrade.key)
    )
    .into_bytes()
}
