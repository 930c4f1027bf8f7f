//! The switch on the virtual clock, against what a real one said.

mod calls;
mod captures;

use std::time::{Duration, Instant};

use super::{call::FakeCall, model::SwitchModel, settings::SwitchConfig};

pub(super) const CAPTURES: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/freeswitch");

pub(super) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A frame of the event socket: its own headers, and its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: String,
}

impl Frame {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(super) fn is_event(&self) -> bool {
        self.header("Content-Type").is_some_and(|kind| kind.starts_with("text/event"))
    }

    /// The headers of the event, decoded, with its body as `_body`.
    pub(super) fn event(&self) -> Vec<(String, String)> {
        if self.header("Content-Type") == Some("text/event-json") {
            let object: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(&self.body).unwrap();
            let text = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            return object.into_iter().map(|(name, value)| (name, text(value))).collect();
        }
        if self.header("Content-Type") == Some("text/event-xml") {
            let lines = self.body.lines().filter_map(|line| line.trim().strip_prefix('<'));
            let pairs = lines.filter_map(|line| {
                let (name, rest) = line.split_once('>')?;
                Some((name.to_owned(), url_decoded(rest.split_once("</")?.0)))
            });
            return pairs.collect();
        }
        let (head, body) = self.body.split_once("\n\n").unwrap_or((&self.body, ""));
        let mut headers: Vec<_> = parse_headers(head)
            .into_iter()
            .map(|(name, value)| (name, url_decoded(&value)))
            .collect();
        if !body.is_empty() {
            headers.push(("_body".to_owned(), body.to_owned()));
        }
        headers
    }
}

pub(super) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

fn parse_headers(head: &str) -> Vec<(String, String)> {
    let pairs = head.lines().filter_map(|line| line.split_once(": "));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(super) fn url_decoded(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// Cuts the switch's bytes into frames.
pub(super) fn frames(text: &str) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut rest = text;
    while let Some((head, after)) = rest.split_once("\n\n") {
        let headers = parse_headers(head);
        // The reply to `connect` has the length of nothing in it.
        let length = find(&headers, "Content-Length").and_then(|length| length.parse().ok());
        let (body, after) = after.split_at(length.unwrap_or(0));
        frames.push(Frame { headers, body: body.to_owned() });
        rest = after;
    }
    assert_eq!(rest, "", "bytes that are no frame");
    frames
}

/// A switch on the virtual clock.
pub(super) struct World {
    pub(super) model: SwitchModel,
    start: Instant,
    pub(super) now: Instant,
}

impl World {
    pub(super) fn new() -> Self {
        Self::with(SwitchConfig { joined_percent: 0, ..SwitchConfig::default() })
    }

    pub(super) fn with(config: SwitchConfig) -> Self {
        let start = Instant::now();
        let epoch = Duration::from_micros(1_795_232_474_775_879);
        Self { model: SwitchModel::new(config, start, epoch), start, now: start }
    }

    pub(super) fn run(&mut self, time: Duration) {
        self.run_until(self.now - self.start + time);
    }

    /// Lets time pass until so long after the start.
    pub(super) fn run_until(&mut self, since_start: Duration) {
        let until = self.start + since_start;
        while let Some(due) = self.model.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.model.handle_timeout(self.now);
            let next = self.model.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "something stays due");
        }
        self.now = self.now.max(until);
    }

    pub(super) fn call(&mut self, call: FakeCall) -> String {
        self.model.begin_call(self.now, call)
    }

    /// A client of the event socket.
    pub(super) fn client(&mut self) -> u64 {
        self.model.accept_session().unwrap()
    }

    /// A client that is let in; what it was told till then is forgotten.
    pub(super) fn trusted_client(&mut self, events: &str) -> u64 {
        let id = self.client();
        self.say(id, "auth ClueCon\n\n");
        self.say(id, &format!("event json {events}\n\n"));
        self.hear(id);
        id
    }

    pub(super) fn say(&mut self, id: u64, text: &str) {
        self.model.handle_bytes(self.now, id, text.as_bytes());
    }

    pub(super) fn hear_text(&mut self, id: u64) -> String {
        let session = self.model.sessions.get_mut(&id).unwrap();
        String::from_utf8(session.take_output()).unwrap()
    }

    pub(super) fn hear(&mut self, id: u64) -> Vec<Frame> {
        let text = self.hear_text(id);
        frames(&text)
    }

    /// Carries out an API line; gives its result.
    pub(super) fn api(&mut self, id: u64, line: &str) -> String {
        self.say(id, &format!("api {line}\n\n"));
        let heard = self.hear(id);
        let reply = heard.iter().find(|frame| frame.header("Content-Type") == Some("api/response"));
        reply.unwrap_or_else(|| panic!("no reply to {line}: {heard:?}")).body.clone()
    }

    /// The names of events a channel raised, in their order.
    pub(super) fn names(&self, uuid: &str) -> Vec<String> {
        let own = self.model.events.iter().filter(|event| event.uuid() == Some(uuid));
        own.map(|event| event.subclass().unwrap_or(event.name()).to_owned())
            .filter(|name| !matches!(name.as_str(), "CHANNEL_STATE" | "CHANNEL_CALLSTATE"))
            .collect()
    }
}
