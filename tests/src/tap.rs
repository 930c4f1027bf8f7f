//! Sits between a session and its dialect: counts messages, so that a step knows when the socket is quiet, and keeps
//! what was said for the story of a failed test.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tandem_call::{
    Capabilities, HistoryTurn, ItemId, ModelCommand, ModelEvent, ModelFailure, ModelSink,
};
use tandem_media::AudioFormat;
use tandem_models::{DialectError, ModelDialect, Outbox, Renewal, Verdict};
use tandem_net::WebSocketRequest;

/// Characters of a message that are kept for the story.
const KEPT: usize = 300;

/// Shared by all dialects of a call.
pub type SharedTap = Rc<RefCell<Tap>>;

/// Everything that passed between a call's sessions and its models.
#[derive(Debug, Default)]
pub struct Tap {
    /// The connections, in the order they were dialled.
    pub dials: Vec<Dial>,
    /// What happened, in order.
    pub notes: Vec<(Instant, Note)>,
    /// Dialects that wait for their turn to dial.
    pub undialled: usize,
    /// The clock of the last step.
    pub now: Option<Instant>,
}

impl Tap {
    fn note(&mut self, note: Note) {
        if let Some(now) = self.now {
            self.notes.push((now, note));
        }
    }

    /// When an event happened for which `wanted` is true, in order.
    pub fn events<'a>(
        &'a self,
        mut wanted: impl FnMut(&ModelEvent) -> bool + 'a,
    ) -> impl Iterator<Item = Instant> + 'a {
        self.notes.iter().filter_map(move |(at, note)| match note {
            Note::Event { event, .. } if wanted(event) => Some(*at),
            _ => None,
        })
    }

    /// One line for everything that passed, audio of one item joined; times are given to be sorted by.
    pub fn story(&self, zero: Instant) -> Vec<(Instant, String)> {
        let mut lines: Vec<(Instant, String)> = Vec::new();
        let mut audio: Option<(Instant, Instant, usize, ItemId, Duration)> = None;
        let flush = |audio: &mut Option<(Instant, Instant, usize, ItemId, Duration)>,
                     lines: &mut Vec<(Instant, String)>| {
            if let Some((from, until, dial, item, time)) = audio.take() {
                let (time, until) =
                    (time.as_millis(), until.saturating_duration_since(zero).as_millis());
                lines.push((
                    from,
                    format!("<{dial}< audio of {item:?}: {time} ms, until {until} ms"),
                ));
            }
        };
        for (at, note) in &self.notes {
            if let Note::Audio { dial, item, time } = note {
                match &mut audio {
                    Some((_, until, _, joined, sum)) if joined == item => {
                        *until = *at;
                        *sum += *time;
                    }
                    _ => {
                        flush(&mut audio, &mut lines);
                        audio = Some((*at, *at, *dial, *item, *time));
                    }
                }
                continue;
            }
            flush(&mut audio, &mut lines);
            let line = match note {
                Note::Dialled { dial, url } => format!("-{dial}- dials {url}"),
                Note::Up { dial, text } => format!(">{dial}> {text}"),
                Note::Down { dial, text } => format!("<{dial}< {text}"),
                Note::Event { dial, event } => format!("<{dial}<   {event:?}"),
                Note::Audio { .. } => continue,
            };
            lines.push((*at, line));
        }
        flush(&mut audio, &mut lines);
        lines
    }
}

/// One connection, as the client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dial {
    /// Which model of the agent it goes to.
    pub model: usize,
    /// How far it is.
    pub state: DialState,
    /// Messages sent on it.
    pub sent: u64,
    /// Messages taken from it.
    pub received: u64,
}

/// How far a connection is, as the client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialState {
    /// On its way up.
    Dialling,
    /// The handshake is done.
    Open,
    /// Gone, or of no more interest.
    Over,
}

/// Something that passed.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A connection is dialled.
    Dialled { dial: usize, url: String },
    /// JSON went up; audio is left out.
    Up { dial: usize, text: String },
    /// JSON came down; audio is left out.
    Down { dial: usize, text: String },
    /// The dialect reported.
    Event { dial: usize, event: ModelEvent },
    /// The dialect handed audio over.
    Audio { dial: usize, item: ItemId, time: Duration },
}

/// A dialect that is listened to.
#[derive(Debug)]
pub struct Tapped<D> {
    inner: D,
    model: usize,
    dial: Cell<Option<usize>>,
    tap: SharedTap,
}

impl<D> Tapped<D> {
    /// Listens to `inner`, which speaks to model `model` of the agent.
    pub fn new(inner: D, model: usize, tap: SharedTap) -> Self {
        tap.borrow_mut().undialled += 1;
        Self { inner, model, dial: Cell::new(None), tap }
    }

    fn with_dial(&self, act: impl FnOnce(&mut Dial)) {
        if let Some(dial) = self.dial.get() {
            act(&mut self.tap.borrow_mut().dials[dial]);
        }
    }

    fn over(&self) {
        self.with_dial(|dial| dial.state = DialState::Over);
    }

    /// Passes on what `inner` wants done, and counts it.
    fn pass_on(&self, mut wanted: Outbox, out: &mut Outbox) {
        while let Some(message) = wanted.next_message() {
            self.with_dial(|dial| dial.sent += 1);
            self.tap.borrow_mut().note(Note::Up { dial: self.number(), text: cut(&message) });
            out.send(message);
        }
        while let Some(event) = wanted.next_event() {
            let note = Note::Event { dial: self.number(), event: event.clone() };
            self.tap.borrow_mut().note(note);
            out.event(event);
        }
        match wanted.take_verdict() {
            None => {}
            Some(Verdict::Ready) => out.ready(),
            Some(Verdict::Failed(failure)) => {
                self.over();
                out.fail(failure);
            }
        }
    }

    fn number(&self) -> usize {
        self.dial.get().unwrap_or(usize::MAX)
    }
}

impl<D> Drop for Tapped<D> {
    fn drop(&mut self) {
        if self.dial.get().is_none() {
            self.tap.borrow_mut().undialled -= 1;
        }
        self.over();
    }
}

impl<D: ModelDialect> ModelDialect for Tapped<D> {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn request(&self) -> WebSocketRequest {
        let request = self.inner.request();
        if self.dial.get().is_none() {
            let mut tap = self.tap.borrow_mut();
            tap.undialled -= 1;
            let dial = tap.dials.len();
            self.dial.set(Some(dial));
            let state = DialState::Dialling;
            tap.dials.push(Dial { model: self.model, state, sent: 0, received: 0 });
            tap.note(Note::Dialled { dial, url: request.url.clone() });
        }
        request
    }

    fn open(&mut self, now: Instant, out: &mut Outbox) {
        self.with_dial(|dial| dial.state = DialState::Open);
        let mut wanted = Outbox::default();
        self.inner.open(now, &mut wanted);
        self.pass_on(wanted, out);
    }

    fn handle_message(
        &mut self,
        now: Instant,
        payload: &[u8],
        out: &mut Outbox,
        sink: &mut dyn ModelSink,
    ) -> Result<(), DialectError> {
        self.with_dial(|dial| dial.received += 1);
        let text = String::from_utf8_lossy(&payload[..payload.len().min(2 * KEPT)]);
        if !text.contains("inlineData") && !text.contains("audio.delta") {
            self.tap.borrow_mut().note(Note::Down { dial: self.number(), text: cut(&text) });
        }
        let mut wanted = Outbox::default();
        let mut listener = Listener { dial: self.number(), tap: &self.tap, sink };
        let handled = self.inner.handle_message(now, payload, &mut wanted, &mut listener);
        if handled.is_err() {
            self.over();
        }
        self.pass_on(wanted, out);
        handled
    }

    fn command(&mut self, now: Instant, command: ModelCommand, out: &mut Outbox) {
        let mut wanted = Outbox::default();
        self.inner.command(now, command, &mut wanted);
        self.pass_on(wanted, out);
    }

    fn encode_audio(&mut self, audio: &[u8], message: &mut BytesMut) {
        self.with_dial(|dial| dial.sent += 1);
        self.inner.encode_audio(audio, message);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox, sink: &mut dyn ModelSink) {
        let mut wanted = Outbox::default();
        let mut listener = Listener { dial: self.number(), tap: &self.tap, sink };
        self.inner.handle_timeout(now, &mut wanted, &mut listener);
        self.pass_on(wanted, out);
    }

    fn handle_close(&mut self, code: Option<u16>, reason: &str) -> ModelFailure {
        self.over();
        self.inner.handle_close(code, reason)
    }

    fn handle_http(
        &mut self,
        status: u16,
        body: &str,
        retry_after: Option<Duration>,
    ) -> ModelFailure {
        self.over();
        self.inner.handle_http(status, body, retry_after)
    }

    fn renewal(&self) -> Renewal {
        self.inner.renewal()
    }

    fn successor(&self, history: Vec<HistoryTurn>) -> Self {
        Self::new(self.inner.successor(history), self.model, Rc::clone(&self.tap))
    }

    /// Asked only when the connection failed before it was ready.
    fn fallback(&mut self) -> Option<Self> {
        self.over();
        let inner = self.inner.fallback()?;
        Some(Self::new(inner, self.model, Rc::clone(&self.tap)))
    }

    fn take_over(&mut self, old: &mut Self) {
        self.inner.take_over(&mut old.inner);
    }
}

struct Listener<'a> {
    dial: usize,
    tap: &'a SharedTap,
    sink: &'a mut dyn ModelSink,
}

impl ModelSink for Listener<'_> {
    fn audio(&mut self, item: ItemId, format: AudioFormat, bytes: &[u8]) {
        let time = format.duration_of(bytes.len());
        self.tap.borrow_mut().note(Note::Audio { dial: self.dial, item, time });
        self.sink.audio(item, format, bytes);
    }

    fn event(&mut self, event: ModelEvent) {
        self.tap.borrow_mut().note(Note::Event { dial: self.dial, event: event.clone() });
        self.sink.event(event);
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(KEPT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
