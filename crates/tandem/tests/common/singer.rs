//! A model in the dialect of Gemini Live that keeps what it hears and answers with two tones.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tandem_net::{Incoming, ServerWebSocket, SocketLimits, accept_key};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Samples per second of what it hears.
pub(crate) const HEARD_RATE: usize = 16_000;

/// Samples per second of what it sings.
const SUNG_RATE: usize = 24_000;

/// How long it sings.
const SECONDS: usize = 3;

/// So much silence after a sound is its turn.
const PAUSE: usize = HEARD_RATE / 2;

/// A sound of so many samples is the caller's turn.
const TURN: usize = HEARD_RATE;

/// The model, on a port of its own. Each caller's turn gets one song.
pub(crate) struct Singer {
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    audio: Vec<i16>,
    messages: Vec<String>,
}

impl Singer {
    /// Listens; each connection is served by a task of the current runtime.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let heard = Arc::new(Mutex::default());
        let keep = Arc::clone(&heard);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&keep)));
            }
        });
        Ok(Self { addr, heard })
    }

    /// Everything it has heard: samples at [`HEARD_RATE`].
    pub(crate) fn heard(&self) -> Vec<i16> {
        self.heard.lock().expect("nobody panics with it").audio.clone()
    }

    /// How many messages it was sent with `text` in them, audio aside.
    pub(crate) fn messages_with(&self, text: &str) -> usize {
        let heard = self.heard.lock().expect("nobody panics with it");
        heard.messages.iter().filter(|message| message.contains(text)).count()
    }
}

async fn serve(mut stream: TcpStream, heard: Arc<Mutex<Heard>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let key = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"))
        .map_or("", |(_, key)| key.trim());
    let upgrade = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
        accept_key(key)
    );
    stream.write_all(upgrade.as_bytes()).await?;
    let limits = SocketLimits { message: 1 << 20, waiting: 1 << 24 };
    let mut socket = ServerWebSocket::new(stream, &[], limits)?;
    let (mut loud, mut quiet) = (0, 0);
    while let Incoming::Message { bytes, .. } = poll_fn(|cx| socket.poll_incoming(cx)).await {
        let Ok(message) = serde_json::from_slice::<Value>(&bytes) else { continue };
        if message.get("setup").is_some() {
            say(&mut socket, &json!({ "setupComplete": {} })).await;
        }
        let Some(audio) = message["realtimeInput"]["audio"]["data"].as_str() else {
            heard.lock().expect("nobody panics with it").messages.push(message.to_string());
            continue;
        };
        let audio = base64_simd::STANDARD.decode_to_vec(audio).expect("audio comes as base64");
        let pcm: Vec<i16> =
            audio.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect();
        if pcm.iter().any(|sample| sample.unsigned_abs() > 1_000) {
            loud += pcm.len();
            quiet = 0;
        } else {
            quiet += pcm.len();
        }
        heard.lock().expect("nobody panics with it").audio.extend(pcm);
        if loud >= TURN && quiet >= PAUSE {
            loud = 0;
            sing(&mut socket).await;
        }
    }
    Ok(())
}

async fn sing(socket: &mut ServerWebSocket) {
    let song: Vec<u8> = (0..SUNG_RATE * SECONDS)
        .flat_map(|n| super::two_tones(n as u32, SUNG_RATE as u32).to_le_bytes())
        .collect();
    for piece in song.chunks(SUNG_RATE / 5 * 2) {
        let data = base64_simd::STANDARD.encode_to_string(piece);
        let part = json!({ "inlineData": { "mimeType": "audio/pcm;rate=24000", "data": data } });
        say(
            socket,
            &json!({ "serverContent": { "modelTurn": { "role": "model", "parts": [part] } } }),
        )
        .await;
    }
    say(socket, &json!({ "serverContent": { "generationComplete": true } })).await;
    say(socket, &json!({ "serverContent": { "turnComplete": true } })).await;
}

async fn say(socket: &mut ServerWebSocket, message: &Value) {
    if socket.send_text(message.to_string().as_bytes()).is_ok() {
        poll_fn(|cx| socket.poll_flush(cx)).await;
    }
}
