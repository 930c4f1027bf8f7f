//! Recorded websockets: one JSON object a line, and the audio beside them.

use std::{collections::BTreeMap, fs, io, path::Path, time::Duration};

use serde::Deserialize;

use crate::freeswitch::samples_of;

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// A text message.
    Text(String),
    /// A binary message. Its bytes are those of the `.raw` file where that holds them; else the first 64 recorded
    /// bytes, then zeros.
    Binary(Vec<u8>),
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// A close frame.
    Close {
        /// 1005 for none.
        code: u16,
        /// May be empty.
        reason: String,
    },
    /// The TCP connection ended.
    TcpEnd,
}

/// One thing that happened, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Since the start of the recording.
    pub at: Duration,
    /// The module did it, otherwise the server.
    pub from_module: bool,
    /// What.
    pub what: Recorded,
}

/// One websocket of a recording.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedConnection {
    /// When the request came.
    pub opened: Duration,
    /// The whole request.
    pub head: String,
    /// The whole response, empty when there was none.
    pub response: String,
    /// What followed, both ways, fragments of the server put together.
    pub steps: Vec<Moment>,
}

impl RecordedConnection {
    /// The audio the module sent, samples of all channels in their order.
    pub fn uplink(&self) -> Vec<i16> {
        let mut bytes = Vec::new();
        for moment in self.steps.iter().filter(|moment| moment.from_module) {
            if let Recorded::Binary(message) = &moment.what {
                bytes.extend_from_slice(message);
            }
        }
        samples_of(&bytes)
    }
}

/// A recorded conversation of one or more websockets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recording {
    /// In the order they were opened.
    pub connections: Vec<RecordedConnection>,
}

#[derive(Debug, Deserialize)]
struct Line {
    t_ms: f64,
    dir: String,
    kind: String,
    #[serde(default)]
    payload: String,
    #[serde(default)]
    len: Option<usize>,
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    conn: usize,
}

impl Recording {
    /// Reads a `.jsonl` file, with the `.raw` file of the same name if there is one.
    ///
    /// # Errors
    /// When the file cannot be read, or a line is no such object.
    pub fn load(path: impl AsRef<Path>) -> io::Result<Self> {
        let path = path.as_ref();
        let text = fs::read_to_string(path)?;
        let raw = match fs::read(path.with_extension("raw")) {
            Ok(raw) => raw,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        Self::parse(&text, &raw)
    }

    /// Reads the lines of a recording; `raw` holds the first bytes of the audio that the module sent.
    ///
    /// # Errors
    /// When a line is no object of a recording.
    pub fn parse(text: &str, raw: &[u8]) -> io::Result<Self> {
        let mut connections: BTreeMap<usize, RecordedConnection> = BTreeMap::new();
        let mut raw_left = raw;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let line: Line = serde_json::from_str(line).map_err(io::Error::other)?;
            let from_module = line.dir == "in";
            let connection = connections.entry(line.conn).or_default();
            let at = Duration::from_secs_f64(line.t_ms.max(0.0) / 1_000.0);
            let what = match line.kind.as_str() {
                "open" if from_module => {
                    connection.opened = at;
                    connection.head = line.payload;
                    continue;
                }
                "open" => {
                    connection.response = line.payload;
                    continue;
                }
                "text" => Recorded::Text(line.payload),
                "continuation" => {
                    if let Some(Moment { what: Recorded::Text(begun), .. }) =
                        connection.steps.last_mut()
                    {
                        begun.push_str(&line.payload);
                    }
                    continue;
                }
                "binary" => Recorded::Binary(binary_of(&line, from_module, &mut raw_left)?),
                "ping" => Recorded::Ping,
                "pong" => Recorded::Pong,
                "close" => {
                    Recorded::Close { code: line.code.unwrap_or(1005), reason: line.payload }
                }
                "tcp_eof" | "tcp_closed" | "tcp_abort" => Recorded::TcpEnd,
                _ => continue, // note, skipped
            };
            connection.steps.push(Moment { at, from_module, what });
        }
        let connections =
            connections.into_values().filter(|connection| !connection.head.is_empty());
        Ok(Self { connections: connections.collect() })
    }
}

fn binary_of(line: &Line, from_module: bool, raw: &mut &[u8]) -> io::Result<Vec<u8>> {
    /// Longer than any recorded message.
    const MOST: usize = 4 << 20;
    let length = line.len.unwrap_or(0).min(MOST);
    if from_module && raw.len() >= length {
        let (message, rest) = raw.split_at(length);
        *raw = rest;
        return Ok(message.to_vec());
    }
    let mut message =
        base64_simd::STANDARD.decode_to_vec(&line.payload).map_err(io::Error::other)?;
    message.resize(length, 0);
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_moments() {
        let text = concat!(
            r#"{"t_ms": 1.5, "dir": "in", "kind": "open", "payload": "GET / HTTP/1.1\r\n\r\n"}"#,
            "\n",
            r#"{"t_ms": 2, "dir": "out", "kind": "open", "payload": "HTTP/1.1 101 x\r\n\r\n"}"#,
            "\n",
            r#"{"t_ms": 3, "dir": "in", "kind": "binary", "len": 4, "payload": "AQACAA=="}"#,
            "\n",
            r#"{"t_ms": 4, "dir": "in", "kind": "binary", "len": 4, "payload": "BQA="}"#,
            "\n",
            r#"{"t_ms": 5, "dir": "out", "kind": "text", "payload": "{\"a\"", "fin": false}"#,
            "\n",
            r#"{"t_ms": 6, "dir": "out", "kind": "continuation", "payload": ":1}"}"#,
            "\n",
            r#"{"t_ms": 7, "dir": "in", "kind": "close", "code": 1000, "payload": ""}"#,
            "\n",
        );
        let recording = Recording::parse(text, &[9, 0, 8, 0]).unwrap();
        let connection = &recording.connections[0];
        assert_eq!(connection.opened, Duration::from_micros(1_500));
        assert_eq!(
            connection.uplink(),
            [9, 8, 5, 0],
            "the raw file first, then the recorded bytes and zeros"
        );
        assert_eq!(connection.steps[2].what, Recorded::Text("{\"a\":1}".into()));
        assert_eq!(connection.steps.len(), 4);
        assert!(Recording::parse("{\"t_ms\": true}", &[]).is_err());
    }
}
