//! The event socket of a real switch, by bare sockets: nothing of what is tested stands between it and a story.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

/// How long the switch may take for an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the event socket.
pub(crate) struct EventSocket {
    stream: BufReader<TcpStream>,
}

/// What a channel was at its end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ended(HashMap<String, String>);

impl Ended {
    /// Why it ended.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.0.get("Hangup-Cause").map(String::as_str)
    }

    /// A variable it had.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.0.get(&format!("variable_{name}")).map(String::as_str)
    }
}

/// The channels that have ended since the watch began, by their uuids.
pub(crate) type EndedChannels = Arc<Mutex<HashMap<String, Ended>>>;

impl EventSocket {
    /// Connects and logs in.
    pub(crate) fn connect(address: &str, password: &str) -> Self {
        let stream = TcpStream::connect(address)
            .unwrap_or_else(|error| panic!("TANDEM_FREESWITCH={address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
        let mut socket = Self { stream: BufReader::new(stream) };
        socket.frame();
        let (head, _) = socket.ask(&format!("auth {password}"));
        let reply = head.get("Reply-Text").map(String::as_str).unwrap_or_default();
        assert!(reply.starts_with("+OK"), "TANDEM_FREESWITCH_PASSWORD: {reply}");
        socket
    }

    /// Carries out a command; its answer.
    pub(crate) fn api(&mut self, line: &str) -> String {
        self.ask(&format!("api {line}")).1
    }

    /// Has a command carried out without waiting for it.
    pub(crate) fn background(&mut self, line: &str) {
        self.ask(&format!("bgapi {line}"));
    }

    /// Notes the end of every channel from now on, in a thread that ends with the connection.
    pub(crate) fn watch(mut self) -> EndedChannels {
        self.ask("event plain CHANNEL_HANGUP_COMPLETE");
        self.stream.get_ref().set_read_timeout(None).expect("a time-out can be taken back");
        let ended = EndedChannels::default();
        let notes = Arc::clone(&ended);
        thread::spawn(move || {
            while let Some((_, body)) = self.next_frame() {
                let fields: HashMap<String, String> = headers(&body)
                    .into_iter()
                    .map(|(name, value)| (name, decoded(&value)))
                    .collect();
                if let Some(uuid) = fields.get("Unique-ID").cloned() {
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    notes.insert(uuid, Ended(fields));
                }
            }
        });
        ended
    }

    fn ask(&mut self, command: &str) -> (HashMap<String, String>, String) {
        let stream = self.stream.get_mut();
        stream.write_all(format!("{command}\n\n").as_bytes()).expect("the switch reads");
        self.frame()
    }

    fn frame(&mut self) -> (HashMap<String, String>, String) {
        self.next_frame().expect("the switch answers")
    }

    fn next_frame(&mut self) -> Option<(HashMap<String, String>, String)> {
        let mut head = String::new();
        while !head.ends_with("\n\n") {
            if self.stream.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let head = headers(&head);
        let length = head.get("Content-Length").and_then(|length| length.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.stream.read_exact(&mut body).ok()?;
        Some((head, String::from_utf8_lossy(&body).into_owned()))
    }
}

fn headers(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A value of a plain event: `%20` and the like.
fn decoded(value: &str) -> String {
    let bytes = value.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(&byte) = bytes.get(index) {
        let hex = bytes.get(index + 1..index + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(code) if byte == b'%' => {
                out.push(code);
                index += 3;
            }
            _ => {
                out.push(byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
