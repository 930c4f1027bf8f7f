//! One connection of a fake server: the socket around an engine.

use std::{io, sync::Arc, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    accept_hdr_async,
    tungstenite::{
        handshake::server::{ErrorResponse, Request, Response},
        http::StatusCode,
        protocol::frame::coding::Control,
    },
};

use crate::{
    engine::{Engine, EngineParts, Mode},
    frames::{self, FrameReader, Framing, Incoming},
    record::{ConnectionRecord, Ending, lock},
    script::Action,
    server::{Keep, Shared, Strictness},
    wire::{Dial, Output},
};

/// How long a client may take for its part of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a closed connection waits for the client's side.
const CLOSING: Duration = Duration::from_secs(2);

/// Bytes that may wait for a client that does not read; a connection with more is dropped.
const MOST_WAITING: usize = 64 << 20;

pub(crate) async fn serve(
    index: usize,
    stream: TcpStream,
    record: Arc<ConnectionRecord>,
    shared: Arc<Shared>,
) {
    let config = &shared.config;
    let engine = Engine::new(EngineParts {
        connection: index,
        script: shared.script(index),
        wire: config.wire(index),
        mode: config.mode,
        strict: config.strictness == Strictness::Strict,
        keep_audio: config.keep == Keep::Everything,
        keep_messages: config.keep != Keep::Counts,
        bank: Arc::clone(&shared.bank),
        registry: Arc::clone(&shared.registry),
    });
    let ending = match handshake(stream, engine, config.mode).await {
        Ok((stream, engine)) => {
            shared.registry.opened(index);
            let started = Instant::now();
            let connection = Connection {
                index,
                engine,
                record: Arc::clone(&record),
                shared: Arc::clone(&shared),
                started,
                reader: FrameReader::default(),
                out: BytesMut::new(),
                framing: Framing::default(),
                queued: 0,
                stalled_until: None,
                ending: None,
                dropping: false,
            };
            let ending = connection.run(stream).await.unwrap_or(Ending::Abandoned);
            shared.registry.closed(index);
            ending
        }
        Err(ending) => ending,
    };
    record.progress.send_modify(|progress| {
        progress.idle = true;
        progress.ended = Some(ending);
    });
}

/// Lets the client in, or not, as the script and the key say.
async fn handshake(
    mut stream: TcpStream,
    mut engine: Engine,
    mode: Mode,
) -> Result<(TcpStream, Engine), Ending> {
    let mut refuse_with = None;
    for action in engine.connect_actions() {
        match action {
            Action::HttpStatus(status) => refuse_with = Some(status),
            Action::Drop => return Err(Ending::ByServer),
            Action::Delay(ms) if mode == Mode::RealTime => sleep(Duration::from_millis(ms)).await,
            Action::NeverUpgrade => {
                let mut ignored = [0; 1024];
                while stream.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
                return Err(Ending::Abandoned);
            }
            _ => {}
        }
    }
    stream.set_nodelay(true).map_err(|_| Ending::Abandoned)?;
    #[expect(clippy::result_large_err, reason = "the library's callback is like that")]
    let judge = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        let verdict = match refuse_with {
            Some(status) => Err(status),
            None => engine.wire().authorize(&dial_of(request)),
        };
        match verdict {
            Ok(()) => Ok(response),
            Err(status) => Err(refusal(status)),
        }
    };
    match timeout(HANDSHAKE, accept_hdr_async(stream, judge)).await {
        Ok(Ok(upgraded)) => Ok((upgraded.into_inner(), engine)),
        Ok(Err(_)) => Err(Ending::ByServer),
        Err(_) => Err(Ending::Abandoned),
    }
}

fn dial_of(request: &Request) -> Dial {
    let header = |(name, value): (&_, &_)| {
        let (name, value): (
            &tokio_tungstenite::tungstenite::http::HeaderName,
            &tokio_tungstenite::tungstenite::http::HeaderValue,
        ) = (name, value);
        (name.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned())
    };
    Dial {
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: request.headers().iter().map(header).collect(),
    }
}

fn refusal(status: u16) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(format!("refused with {status}")));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    response
}

struct Connection {
    index: usize,
    engine: Engine,
    record: Arc<ConnectionRecord>,
    shared: Arc<Shared>,
    started: Instant,
    reader: FrameReader,
    out: BytesMut,
    framing: Framing,
    /// Messages in `out` or written.
    queued: u64,
    stalled_until: Option<Instant>,
    ending: Option<Ending>,
    /// It ends without a close frame.
    dropping: bool,
}

impl Connection {
    async fn run(mut self, mut stream: TcpStream) -> io::Result<Ending> {
        self.framing.binary = self.engine.wire().binary();
        self.engine.handle_open(self.started.elapsed());
        loop {
            self.take_outputs();
            self.publish();
            if self.out.is_empty()
                && let Some(ending) = self.ending.take()
            {
                self.close(stream, &ending).await;
                return Ok(ending);
            }
            if self.out.len() > MOST_WAITING {
                return Ok(Ending::ByServer);
            }
            let due = self.engine.poll_timeout().map(|due| self.started + due);
            let stalled = self.stalled_until.is_some();
            let (mut read_half, mut write_half) = stream.split();
            tokio::select! {
                read = read_half.read_buf(&mut self.reader.buffer), if !stalled && self.ending.is_none() => {
                    if read? == 0 {
                        return Ok(Ending::Abandoned);
                    }
                    self.take_frames().await;
                }
                written = write_half.write_buf(&mut self.out), if !self.out.is_empty() => {
                    written?;
                }
                () = sleep_until(due.unwrap_or(self.started)), if due.is_some() => {
                    self.engine.handle_timeout(self.started.elapsed());
                }
                () = sleep_until(self.stalled_until.unwrap_or(self.started)), if stalled => {
                    self.stalled_until = None;
                }
            }
        }
    }

    async fn take_frames(&mut self) {
        loop {
            match self.reader.next_message() {
                Ok(None) => return,
                Ok(Some(Incoming::Message(payload))) => {
                    self.let_go_of_old_session(&payload).await;
                    self.engine.handle_message(self.started.elapsed(), &payload);
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    self.engine.handle_ping(self.started.elapsed(), &payload);
                }
                Ok(Some(Incoming::Pong)) => {}
                Ok(Some(Incoming::Close(said))) => {
                    self.take_outputs();
                    let code = said.as_ref().map_or(1000, |(code, _)| *code);
                    frames::close(code, "", &mut self.out);
                    self.ending.get_or_insert(Ending::ByClient(said));
                    return;
                }
                Err(error) => {
                    lock(&self.record.violations).push(error.to_string());
                    frames::close(1002, &error.to_string(), &mut self.out);
                    self.ending.get_or_insert(Ending::ByServer);
                    return;
                }
            }
            if self.ending.is_some() {
                return;
            }
        }
    }

    /// A client that closed its old socket before it dialled again may still be ahead of the old socket's task.
    async fn let_go_of_old_session(&mut self, payload: &[u8]) {
        const GRACE: Duration = Duration::from_millis(250);
        let Some(handle) = self.engine.wire().resumed_handle(payload) else { return };
        let Some((old, true)) = self.shared.registry.session_of(&handle) else { return };
        if old == self.index {
            return;
        }
        if let Some(record) = self.shared.record.connection(old) {
            let mut seen = record.progress.subscribe();
            let _still_open =
                timeout(GRACE, seen.wait_for(|progress| progress.ended.is_some())).await;
        }
    }

    fn take_outputs(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            if self.ending.is_some() {
                continue;
            }
            match output {
                Output::Message(text) => {
                    self.queued += 1;
                    self.framing.message(text.as_bytes(), &mut self.out);
                }
                Output::Ping => frames::control(Control::Ping, b"fake", &mut self.out),
                Output::Pong(payload) => frames::control(Control::Pong, &payload, &mut self.out),
                Output::Framing { fragment, ping_between } => {
                    self.framing.fragment = fragment;
                    self.framing.ping_between = ping_between;
                }
                Output::StallReading(time) => self.stalled_until = Some(Instant::now() + time),
                Output::Close { code, reason } => {
                    frames::close(code, &reason, &mut self.out);
                    self.ending = Some(Ending::ByServer);
                }
                Output::Drop => {
                    self.ending = Some(Ending::ByServer);
                    self.dropping = true;
                }
            }
        }
    }

    fn publish(&mut self) {
        let received = self.engine.take_received();
        if !received.is_empty() {
            lock(&self.record.received).extend(received);
        }
        let violations = self.engine.take_violations();
        if !violations.is_empty() {
            lock(&self.record.violations).extend(violations);
        }
        let (audio_ms, received) = (self.engine.caller_audio_ms(), self.engine.received_count());
        let (idle, ending) = (self.out.is_empty(), self.ending.is_some());
        self.record.progress.send_modify(|progress| {
            progress.open = true;
            progress.audio_ms = audio_ms;
            progress.received = received;
            progress.idle = idle;
            progress.ending = ending;
            progress.queued = self.queued;
            if idle {
                progress.sent = self.queued;
            }
        });
    }

    /// Ends the TCP connection the way `ending` asks for; all bytes are written.
    async fn close(mut self, mut stream: TcpStream, ending: &Ending) {
        if self.dropping {
            return;
        }
        if *ending == Ending::ByServer {
            // The socket waits for the client's close frame, so that nothing is lost to a reset.
            let _answered = timeout(CLOSING, self.until_closed(&mut stream)).await;
        }
        let _ = stream.shutdown().await;
    }

    async fn until_closed(&mut self, stream: &mut TcpStream) {
        loop {
            match self.reader.next_message() {
                Ok(Some(Incoming::Close(_))) | Err(_) => return,
                Ok(Some(_)) => {}
                Ok(None) => {
                    if !stream.read_buf(&mut self.reader.buffer).await.is_ok_and(|read| read > 0) {
                        return;
                    }
                }
            }
        }
    }
}
