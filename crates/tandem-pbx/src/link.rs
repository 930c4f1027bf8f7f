//! One connection to a switch as a machine without socket or clock.
//!
//! The shell dials when it is told to, feeds what it reads, writes what `output` holds and hands on what `poll_event`
//! gives. Commands go out in order and replies come back in order; what is slow runs in the background and comes back
//! as an event with the job's name. While the link is down commands fail at once, but for those that a live call
//! needs done whenever that is (hang-up, variables, the end of a fork): these are kept for 30 s and carried out once
//! after the switch was asked which channels are still there.

mod orders;
mod settings;
mod start;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

pub use settings::{SettingsError, SwitchSettings, SwitchUser};
use tandem_net::Backoff;

use self::{
    orders::{Awaited, Job, Outgoing},
    start::{Listing, Step},
};
use crate::{
    ChannelEvent, ChannelUuid, EventHeaders, Reply, SwitchError,
    esl::{Frame, FrameKind, FrameReader},
};

/// Names a command of whoever gave it.
pub(crate) type Ticket = u64;

/// Whether the switch can be reached, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// Not yet, or not any more; the next try is on its way.
    Down { reason: Arc<str> },
    /// Commands are carried out and events come.
    Up(Arc<SwitchFacts>),
    /// Stopped for good.
    Stopped,
}

/// What a switch said of itself when the link came up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SwitchFacts {
    /// Its version, one line.
    pub version: String,
    /// Whether `mod_audio_fork` is loaded; which edition it can't be asked.
    pub audio_fork: bool,
    /// Whether `mod_audio_stream` is loaded.
    pub audio_stream: bool,
}

/// What the shell is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkAction {
    /// Dial; then `handle_connected` or `handle_closed`.
    Dial,
    /// Close the connection, or give up dialling; nothing is to be reported.
    Close,
}

/// What the link reports.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum LinkEvent {
    /// It came up or went down.
    State(LinkState),
    /// The switch connected to us about this channel.
    Accepted(Arc<EventHeaders>),
    /// The outcome of a command, once.
    Reply { ticket: Ticket, result: Result<Reply, SwitchError> },
    /// Something happened to a watched channel.
    Channel(ChannelEvent),
    /// The channels there are, asked after a connection was made. The watched ones among them are alive, the others
    /// gone.
    Reconciled { alive: HashSet<ChannelUuid> },
}

/// Which side connects.
#[derive(Debug)]
enum Role {
    /// We do, and again whenever the connection is lost.
    Inbound(SwitchSettings),
    /// The switch did, for one channel.
    Outbound,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing is connected; dialled at `dial_at`.
    Idle {
        dial_at: Instant,
    },
    Dialling {
        until: Instant,
    },
    /// Connected: the switch speaks first, or answers our `connect`.
    Greeting {
        until: Instant,
    },
    Starting {
        until: Instant,
    },
    Up,
    /// Stopped, or an outbound socket that is gone.
    Ended,
}

/// How long dialling, and the greeting, may take.
const DIAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take from the greeting until all that is asked first is answered.
const START_TIMEOUT: Duration = Duration::from_secs(20);
/// First wait before a lost connection is dialled again.
const FIRST_RETRY: Duration = Duration::from_millis(200);
/// Longest wait before it is dialled again.
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Wait after the switch refused us: the answer will be the same until somebody mends it.
const REFUSED_RETRY: Duration = Duration::from_secs(30);
/// A connection that lasts so long is dialled again quickly when it is lost.
const STEADY: Duration = Duration::from_secs(10);
/// A connection that brings nothing for so long is asked something.
const IDLE_PROBE: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(crate) struct Link {
    role: Role,
    phase: Phase,
    reader: FrameReader,
    /// Bytes for the socket.
    out: Vec<u8>,
    /// Whose replies are on their way, in order.
    wire: VecDeque<Awaited>,
    /// Of our own: asked before anybody's commands.
    steps: VecDeque<Outgoing>,
    /// Commands not written yet.
    waiting: VecDeque<Outgoing>,
    /// Commands that outlast an outage.
    kept: VecDeque<Outgoing>,
    kept_bytes: usize,
    jobs: HashMap<ChannelUuid, Job>,
    watched: HashSet<ChannelUuid>,
    listing: Listing,
    facts: SwitchFacts,
    heard: Instant,
    up_since: Option<Instant>,
    backoff: Backoff,
    random: fastrand::Rng,
    actions: VecDeque<LinkAction>,
    events: VecDeque<LinkEvent>,
    /// Events of the switch that could not be read, or came too long.
    pub(crate) unreadable: u64,
    /// Whether extra channels of an outbound socket are watched by filters.
    filters: bool,
    /// Goodbye waits behind the last commands.
    releasing: bool,
}

impl Link {
    /// A link to the switch of `settings`, dialled at once. The same `seed` gives the same waits and job names.
    pub(crate) fn inbound(now: Instant, settings: SwitchSettings, seed: u64) -> Self {
        Self::new(now, Role::Inbound(settings), Phase::Idle { dial_at: now }, seed)
    }

    /// A link on a connection that the switch made for one channel.
    pub(crate) fn outbound(now: Instant, seed: u64) -> Self {
        let mut link =
            Self::new(now, Role::Outbound, Phase::Greeting { until: now + DIAL_TIMEOUT }, seed);
        link.ask_whom(now);
        link
    }

    fn new(now: Instant, role: Role, phase: Phase, seed: u64) -> Self {
        Self {
            role,
            phase,
            reader: FrameReader::default(),
            out: Vec::new(),
            wire: VecDeque::new(),
            steps: VecDeque::new(),
            waiting: VecDeque::new(),
            kept: VecDeque::new(),
            kept_bytes: 0,
            jobs: HashMap::new(),
            watched: HashSet::new(),
            listing: Listing::default(),
            facts: SwitchFacts::default(),
            heard: now,
            up_since: None,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY, seed),
            random: fastrand::Rng::with_seed(seed),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            unreadable: 0,
            filters: false,
            releasing: false,
        }
    }

    /// Whether it is up.
    pub(crate) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Whether it is over for good.
    pub(crate) fn is_ended(&self) -> bool {
        self.phase == Phase::Ended
    }

    /// The next thing to do for the shell.
    pub(crate) fn poll_action(&mut self) -> Option<LinkAction> {
        self.actions.pop_front()
    }

    /// The next report.
    pub(crate) fn poll_event(&mut self) -> Option<LinkEvent> {
        self.events.pop_front()
    }

    /// Bytes to be written; `sent` says how many were.
    pub(crate) fn output(&self) -> &[u8] {
        &self.out
    }

    /// The first `count` bytes of `output` were written.
    pub(crate) fn sent(&mut self, now: Instant, count: usize) {
        self.out.drain(..count);
        self.pump(now);
    }

    /// The connection was made.
    pub(crate) fn handle_connected(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Dialling { .. }) {
            self.heard = now;
            self.phase = Phase::Greeting { until: now + DIAL_TIMEOUT };
        }
    }

    /// The connection could not be made, or was lost.
    pub(crate) fn handle_closed(&mut self, now: Instant, reason: &str) {
        if matches!(self.phase, Phase::Idle { .. } | Phase::Ended) {
            return;
        }
        self.lost(now, reason, None);
    }

    /// Takes bytes that were read.
    pub(crate) fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        if matches!(self.phase, Phase::Idle { .. } | Phase::Dialling { .. } | Phase::Ended) {
            return;
        }
        self.heard = now;
        self.reader.push(bytes);
        loop {
            match self.reader.next() {
                Ok(None) => break,
                Ok(Some(frame)) => self.handle_frame(now, &frame),
                Err(error) => {
                    self.close(now, &format!("the switch sent {error}"), None);
                    break;
                }
            }
            if matches!(self.phase, Phase::Idle { .. } | Phase::Ended) {
                break;
            }
        }
        self.pump(now);
    }

    fn handle_frame(&mut self, now: Instant, frame: &Frame) {
        match frame.kind() {
            FrameKind::AuthRequest => self.handle_greeting(now),
            FrameKind::CommandReply | FrameKind::ApiResponse => self.handle_reply(now, frame),
            FrameKind::EventJson | FrameKind::EventPlain => self.handle_event(frame),
            FrameKind::DisconnectNotice => self.handle_farewell(now, frame),
            FrameKind::RudeRejection => {
                let reason = "the switch's access list refuses this address";
                self.close(now, reason, Some(REFUSED_RETRY));
            }
            FrameKind::EventXml | FrameKind::LogData | FrameKind::Other => {}
        }
    }

    fn handle_event(&mut self, frame: &Frame) {
        if frame.kind() == FrameKind::EventJson && self.is_of_others(&frame.body) {
            return;
        }
        let Some(headers) = frame.event() else {
            self.unreadable += 1;
            return;
        };
        if headers.get("Event-Name") == Some("BACKGROUND_JOB") {
            self.handle_job(&headers);
            return;
        }
        for event in ChannelEvent::read(headers) {
            if self.watched.contains(&event.uuid) {
                self.events.push_back(LinkEvent::Channel(event));
            }
        }
    }

    /// Whether an event is about a channel nobody watches, told without reading it whole: a busy switch has many.
    ///
    /// A quote in a value is escaped, so what is looked for is a header and nothing else.
    fn is_of_others(&self, json: &[u8]) -> bool {
        let value = |name: &[u8]| {
            let at = memchr::memmem::find(json, name)? + name.len();
            let end = memchr::memchr(b'"', &json[at..])?;
            std::str::from_utf8(&json[at..at + end]).ok()
        };
        value(b"\"Unique-ID\":\"").is_some_and(|uuid| {
            let bridge = || {
                matches!(value(b"\"Event-Name\":\""), Some("CHANNEL_BRIDGE" | "CHANNEL_UNBRIDGE"))
            };
            !self.watched.contains(uuid) && !bridge()
        })
    }

    fn handle_farewell(&mut self, now: Instant, frame: &Frame) {
        if frame.header("Content-Disposition") == Some(b"linger") {
            return; // The channel has ended; its last events come yet.
        }
        let text = String::from_utf8_lossy(&frame.body);
        let said = text.lines().next().unwrap_or_default().trim();
        let reason = format!("the switch closed the connection: {said}");
        self.close(now, &reason, None);
    }

    /// Watches a channel: its events are reported, and whether it is alive after an outage.
    pub(crate) fn watch(&mut self, now: Instant, uuid: ChannelUuid) {
        if self.watched.insert(uuid.clone()) && self.filters {
            self.ask(now, Step::Filter { uuid, first: false });
            self.pump(now);
        }
    }

    /// Watches it no more.
    pub(crate) fn unwatch(&mut self, now: Instant, uuid: &ChannelUuid) {
        if self.watched.remove(uuid) && self.filters {
            self.ask(now, Step::FilterDelete(uuid.clone()));
            self.pump(now);
        }
    }

    /// Ends the link for good: what waits is answered `Stopped`.
    pub(crate) fn stop(&mut self) {
        if self.phase == Phase::Ended {
            return;
        }
        self.actions.push_back(LinkAction::Close);
        self.end(&SwitchError::Stopped);
        self.events.push_back(LinkEvent::State(LinkState::Stopped));
    }

    /// When `handle_timeout` is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Idle { dial_at } => Some(dial_at),
            Phase::Dialling { until } | Phase::Greeting { until } | Phase::Starting { until } => {
                Some(until)
            }
            Phase::Up => Some(self.heard + IDLE_PROBE),
            Phase::Ended => return None,
        };
        phase.into_iter().chain(self.orders_due()).min()
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Idle { dial_at } if dial_at <= now => {
                self.phase = Phase::Dialling { until: now + DIAL_TIMEOUT };
                self.actions.push_back(LinkAction::Dial);
            }
            Phase::Dialling { until } if until <= now => {
                self.close(now, "no connection within 5 s", None);
            }
            Phase::Greeting { until } if until <= now => {
                self.close(now, "the switch says nothing; is this its event socket?", None);
            }
            Phase::Starting { until } if until <= now => {
                self.close(now, "the switch does not answer what it is asked first", None);
            }
            Phase::Up if self.heard + IDLE_PROBE <= now => {
                self.heard = now;
                self.ask(now, Step::Probe);
            }
            _ => {}
        }
        self.give_up_due(now);
        self.pump(now);
    }

    /// Closes the connection ourselves.
    fn close(&mut self, now: Instant, reason: &str, retry: Option<Duration>) {
        if matches!(self.phase, Phase::Idle { .. } | Phase::Ended) {
            return;
        }
        self.actions.push_back(LinkAction::Close);
        self.lost(now, reason, retry);
    }

    /// The connection is gone: says what becomes of each command, and dials again after a while.
    fn lost(&mut self, now: Instant, reason: &str, retry: Option<Duration>) {
        match self.role {
            Role::Outbound => {
                self.end(&SwitchError::Down);
                self.events.push_back(LinkEvent::State(LinkState::Down { reason: reason.into() }));
            }
            Role::Inbound(_) => {
                self.reader = FrameReader::default();
                self.out.clear();
                self.steps.clear();
                self.listing = Listing::default();
                self.settle_after_loss(now);
                if self.up_since.take().is_some_and(|since| since + STEADY < now) {
                    self.backoff.succeeded();
                }
                let wait = retry.unwrap_or_else(|| self.backoff.failed());
                self.phase = Phase::Idle { dial_at: now + wait };
                self.events.push_back(LinkEvent::State(LinkState::Down { reason: reason.into() }));
            }
        }
    }

    /// Comes up: everything asked first was answered.
    fn came_up(&mut self, now: Instant) {
        self.phase = Phase::Up;
        self.up_since = Some(now);
        self.kept_bytes = 0;
        for order in self.kept.drain(..).rev() {
            self.waiting.push_front(order);
        }
        self.events.push_back(LinkEvent::State(LinkState::Up(Arc::new(self.facts.clone()))));
    }
}

#[cfg(test)]
mod tests;
