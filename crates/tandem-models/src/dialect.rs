//! What a vendor's protocol must be able to do: turn its messages into events and our commands into messages.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tandem_call::{Capabilities, HistoryTurn, ModelCommand, ModelEvent, ModelFailure, ModelSink};
use tandem_net::WebSocketRequest;

use crate::failure;

/// What a dialect wants done: messages to send, events to report, and a word on the connection as a whole.
#[derive(Debug, Default)]
pub struct Outbox {
    messages: VecDeque<String>,
    events: VecDeque<ModelEvent>,
    verdict: Option<Verdict>,
}

/// What became of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is configured.
    Ready,
    /// It will not do.
    Failed(ModelFailure),
}

impl Outbox {
    /// Sends `message`, a JSON object, after those before it.
    pub fn send(&mut self, message: String) {
        self.messages.push_back(message);
    }

    /// Reports `event`; only for places that have no sink at hand.
    pub fn event(&mut self, event: ModelEvent) {
        self.events.push_back(event);
    }

    /// The session is configured.
    pub fn ready(&mut self) {
        if self.verdict.is_none() {
            self.verdict = Some(Verdict::Ready);
        }
    }

    /// The connection is of no more use.
    pub fn fail(&mut self, failure: ModelFailure) {
        if !matches!(self.verdict, Some(Verdict::Failed(_))) {
            self.verdict = Some(Verdict::Failed(failure));
        }
    }

    /// The next message to send.
    pub fn next_message(&mut self) -> Option<String> {
        self.messages.pop_front()
    }

    /// The next event to report.
    pub fn next_event(&mut self) -> Option<ModelEvent> {
        self.events.pop_front()
    }

    /// Takes the verdict.
    pub fn take_verdict(&mut self) -> Option<Verdict> {
        self.verdict.take()
    }
}

/// A message that breaks the protocol or our limits. The connection is given up: what was lost with it is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialectError {
    /// It is no JSON.
    #[error("the server sent something that is no JSON: {0}")]
    NotJson(String),
    /// It is JSON, but no object.
    #[error("the server sent JSON that is no object")]
    NotAnObject,
    /// It is too large to be read, and the call cannot go on without it.
    #[error("the server sent {bytes} bytes in a message that cannot be left out")]
    TooLarge { bytes: usize },
}

/// In which order a connection is replaced by the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// The old one is closed, then the new one is dialled.
    CloseFirst,
    /// The new one is made ready, then it takes over and the old one is closed.
    ConnectFirst,
}

/// One connection in a vendor's words. Pure: no socket, no clock.
pub trait ModelDialect: Sized {
    /// What the model can do.
    fn capabilities(&self) -> &Capabilities;

    /// Where to connect and with which headers.
    fn request(&self) -> WebSocketRequest;

    /// The websocket is open.
    fn open(&mut self, now: Instant, out: &mut Outbox);

    /// Takes one message. Audio and events go to `sink` in the order they were said.
    fn handle_message(
        &mut self,
        now: Instant,
        payload: &[u8],
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) -> Result<(), DialectError>;

    /// Carries out `command`; never called with `Renew` or `Close`.
    fn command(&mut self, now: Instant, command: ModelCommand, out: &mut Outbox);

    /// Appends the message for `audio`, whole samples in the session's input format.
    fn encode_audio(&mut self, audio: &[u8], message: &mut BytesMut);

    /// When `handle_timeout` is next due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Does what is due at `now`.
    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox, sink: &mut dyn ModelSink);

    /// What the end of the connection means; no code when the peer vanished.
    fn handle_close(&mut self, code: Option<u16>, reason: &str) -> ModelFailure;

    /// What the refusal of the upgrade means.
    fn handle_http(
        &mut self,
        status: u16,
        body: &str,
        retry_after: Option<Duration>,
    ) -> ModelFailure {
        failure::http(status, body, retry_after)
    }

    /// How a connection is replaced.
    fn renewal(&self) -> Renewal;

    /// The connection that comes after this one; `history` is the conversation so far.
    fn successor(&self, history: Vec<HistoryTurn>) -> Self;

    /// Another way to open the session after this one failed before it was ready.
    fn fallback(&mut self) -> Option<Self>;

    /// Continues where `old` was: ids rise on, open tool calls stay answerable.
    fn take_over(&mut self, old: &mut Self);
}

/// A sink and an outbox for the tests of dialects.
#[cfg(test)]
pub(crate) mod testing {
    use tandem_call::ItemId;
    use tandem_media::AudioFormat;

    use super::*;

    /// What a sink was told, audio of one item joined.
    #[derive(Debug, Clone, PartialEq)]
    pub(crate) enum Heard {
        Audio(ItemId, AudioFormat, Vec<u8>),
        Event(ModelEvent),
    }

    #[derive(Debug, Default)]
    pub(crate) struct Recorder {
        pub(crate) heard: Vec<Heard>,
    }

    impl ModelSink for Recorder {
        fn audio(&mut self, item: ItemId, format: AudioFormat, bytes: &[u8]) {
            if let Some(Heard::Audio(last, same, joined)) = self.heard.last_mut()
                && *last == item
                && *same == format
            {
                joined.extend_from_slice(bytes);
            } else {
                self.heard.push(Heard::Audio(item, format, bytes.to_vec()));
            }
        }

        fn event(&mut self, event: ModelEvent) {
            self.heard.push(Heard::Event(event));
        }
    }

    impl Recorder {
        pub(crate) fn take(&mut self) -> Vec<Heard> {
            std::mem::take(&mut self.heard)
        }

        pub(crate) fn events(&mut self) -> Vec<ModelEvent> {
            self.take()
                .into_iter()
                .filter_map(|heard| match heard {
                    Heard::Event(event) => Some(event),
                    Heard::Audio(..) => None,
                })
                .collect()
        }
    }

    /// The messages in `out`, parsed.
    pub(crate) fn sent(out: &mut Outbox) -> Vec<serde_json::Value> {
        std::iter::from_fn(|| out.next_message())
            .map(|text| serde_json::from_str(&text).expect("we send JSON"))
            .collect()
    }
}
