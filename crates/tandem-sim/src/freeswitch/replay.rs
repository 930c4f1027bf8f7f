//! Recorded conversations, played again: websockets as the modules speak them, and dialogues of the event socket.

mod dialogue;
mod recording;

use std::{io, net::SocketAddr, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

pub use dialogue::{Dialogue, DialogueOutcome, Said, Side};
pub use recording::{Moment, Recorded, RecordedConnection, Recording};

use super::{
    fork_module::ForkMessage,
    websocket::{self, FromServer, ServerFrames},
};

/// How long a server may take for its part of the handshake, or after a close frame.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a recording is played.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// Who is called.
    pub address: SocketAddr,
    /// Another path and query than the recorded one.
    pub path: Option<String>,
    /// Further headers of the request, each written `Name: value`.
    pub headers: Vec<(String, String)>,
    /// Times as recorded; otherwise everything at once.
    pub real_time: bool,
}

impl ReplayOptions {
    /// As recorded, as fast as it goes.
    pub fn to(address: SocketAddr) -> Self {
        Self { address, path: None, headers: Vec::new(), real_time: false }
    }
}

/// What a server said on one connection.
#[derive(Debug, Clone, Default)]
pub struct Replayed {
    /// The status of its response, 0 when there was none.
    pub status: u16,
    /// The whole head of its response.
    pub head: String,
    /// Its texts, with the time since the connection began.
    pub texts: Vec<(Duration, String)>,
    /// Its binary messages, likewise.
    pub binaries: Vec<(Duration, Vec<u8>)>,
    /// The code of its close frame, 1005 without one in it.
    pub closed: Option<u16>,
    /// Binary messages that were sent to it, and their bytes.
    pub sent: (usize, usize),
}

/// Plays the client's side of each connection of a recording against a server, one after another.
///
/// # Errors
/// When the server cannot be reached, or breaks the connection off.
pub async fn replay(recording: &Recording, options: &ReplayOptions) -> io::Result<Vec<Replayed>> {
    let mut outcomes = Vec::new();
    for connection in &recording.connections {
        outcomes.push(replay_connection(connection, options).await?);
    }
    Ok(outcomes)
}

/// Plays the client's side of one connection.
///
/// # Errors
/// When the server cannot be reached, or breaks the connection off.
pub async fn replay_connection(
    connection: &RecordedConnection,
    options: &ReplayOptions,
) -> io::Result<Replayed> {
    const MASK: [u8; 4] = [0x1A, 0x2B, 0x3C, 0x4D];
    let mut stream = TcpStream::connect(options.address).await?;
    stream.set_nodelay(true)?;
    stream.write_all(head_of(connection, options).as_bytes()).await?;
    let started = Instant::now();
    let mut outcome = Replayed::default();
    let mut frames = ServerFrames::default();
    outcome.head = timeout(PATIENCE, read_head(&mut stream, &mut frames.buffer)).await??;
    outcome.status =
        outcome.head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    if outcome.status != 101 {
        return Ok(outcome);
    }
    let (mut read_half, mut write_half) = stream.into_split();
    let mut closes = false;
    for moment in connection.steps.iter().filter(|moment| moment.from_module) {
        let due = started + moment.at.saturating_sub(connection.opened);
        while options.real_time && Instant::now() < due && outcome.closed.is_none() {
            tokio::select! {
                () = sleep_until(due) => {}
                read = read_half.read_buf(&mut frames.buffer) => if read? == 0 { return Ok(outcome) },
            }
            take_frames(&mut frames, started, &mut outcome)?;
        }
        let mut out = BytesMut::new();
        match &moment.what {
            Recorded::Text(text) => {
                websocket::put_message(&ForkMessage::Text(text.clone()), MASK, &mut out);
            }
            Recorded::Binary(bytes) => {
                outcome.sent.0 += 1;
                outcome.sent.1 += bytes.len();
                websocket::put_message(&ForkMessage::Binary(bytes.clone()), MASK, &mut out);
            }
            Recorded::Ping => websocket::put_message(&ForkMessage::Ping, MASK, &mut out),
            Recorded::Pong => {}
            Recorded::Close { code, reason } => {
                websocket::put_close(*code, reason, MASK, &mut out);
                closes = true;
            }
            Recorded::TcpEnd => break,
        }
        write_half.write_all(&out).await?;
        if closes {
            break;
        }
        // What the server says is read along the way, so that neither side waits for the other.
        while let Ok(read) = read_half.try_read_buf(&mut frames.buffer) {
            if read == 0 {
                return Ok(outcome);
            }
        }
        take_frames(&mut frames, started, &mut outcome)?;
    }
    if !closes {
        write_half.shutdown().await?;
    }
    let _late = timeout(PATIENCE, async {
        while outcome.closed.is_none() && read_half.read_buf(&mut frames.buffer).await? > 0 {
            take_frames(&mut frames, started, &mut outcome)?;
        }
        io::Result::Ok(())
    })
    .await;
    Ok(outcome)
}

fn head_of(connection: &RecordedConnection, options: &ReplayOptions) -> String {
    let (line, rest) = connection.head.split_once("\r\n").unwrap_or((&connection.head, "\r\n"));
    let line = match &options.path {
        Some(path) => format!("GET {path} HTTP/1.1"),
        None => line.to_owned(),
    };
    let mut head = format!("{line}\r\n");
    for (name, value) in &options.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head + rest
}

async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut) -> io::Result<String> {
    const MOST: usize = 64 << 10;
    loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = buffer.split_to(end + 4);
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
        if buffer.len() > MOST || stream.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn take_frames(
    frames: &mut ServerFrames,
    started: Instant,
    outcome: &mut Replayed,
) -> io::Result<()> {
    while let Some(message) = frames.next_message().map_err(io::Error::other)? {
        let at = started.elapsed();
        match message {
            FromServer::Text(text) => outcome.texts.push((at, text)),
            FromServer::Binary(bytes) => outcome.binaries.push((at, bytes.to_vec())),
            FromServer::Ping(_) | FromServer::Pong => {}
            FromServer::Close(code, _) => outcome.closed = Some(code),
        }
    }
    Ok(())
}
