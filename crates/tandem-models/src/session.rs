//! Drives the websocket of any dialect: dialling, sending, receiving, renewing, closing, and their time limits.

mod link;

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use secrecy::ExposeSecret;
use tandem_call::{
    Capabilities, HistoryTurn, ModelCommand, ModelEvent, ModelFailure, ModelSession, ModelSink,
    Reaction, SessionSpec, UplinkStats,
};
use tandem_media::AudioFormat;
use tandem_net::{Backoff, WebSocket};

use self::link::{Link, Step};
use crate::{GeminiLive, ModelDialect, ModelSettings, OpenAiRealtime, Provider, Renewal, failure};

/// Commands that may wait for a session to be ready.
const MAX_WAITING_COMMANDS: usize = 256;

/// The closing handshake with a peer may take this long; a new Gemini connection waits for it.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// A connection that stood this long was a good one: faults before it are forgotten.
const STABLE: Duration = Duration::from_secs(30);

/// Faults in a row after which the model is given up.
const MAX_FAULTS: u32 = 5;

/// Audio that may wait in the socket before more of it is dropped.
const MAX_AUDIO_WAITING: Duration = Duration::from_secs(1);

/// A failed renewal is announced anew after this, while the old connection still stands.
const RENEW_AGAIN: Duration = Duration::from_secs(5);

/// Opens a session of the configured model for `spec`; `unix_now` is the unix time at `now`.
///
/// It dials at the first `poll`, which must be made from within a tokio runtime.
pub fn open(
    settings: &ModelSettings,
    spec: SessionSpec,
    now: Instant,
    unix_now: Duration,
) -> Box<dyn ModelSession> {
    let settings = Arc::new(settings.clone());
    match settings.provider {
        Provider::OpenAiRealtime => {
            let format = spec.input;
            let dialect = OpenAiRealtime::new(Arc::clone(&settings), spec, now, unix_now);
            Box::new(WsSession::new(&settings, dialect, format, now))
        }
        Provider::GeminiLive => {
            let format = spec.input;
            let dialect = GeminiLive::new(Arc::clone(&settings), spec);
            Box::new(WsSession::new(&settings, dialect, format, now))
        }
    }
}

/// A session over a websocket, in any dialect.
pub struct WsSession<D: ModelDialect> {
    settings: Arc<ModelSettings>,
    capabilities: Capabilities,
    input: AudioFormat,
    /// The connection that speaks, or the last one that did.
    link: Link<D>,
    /// The one that is to replace it.
    next: Option<Link<D>>,
    /// An old socket on its way out.
    leaving: Option<(WebSocket, Instant)>,
    /// Dials when the old socket is gone.
    waiting_to_dial: Option<D>,
    commands: VecDeque<ModelCommand>,
    /// Events for the next `poll`.
    reports: VecDeque<ModelEvent>,
    /// `Lost` was reported and nothing was renewed since.
    lost: bool,
    closed: bool,
    backoff: Backoff,
    renew_again: Option<Instant>,
    stats: UplinkStats,
    audio_message: BytesMut,
    waker: Option<Waker>,
    alarm: Option<Alarm>,
}

/// The timer that wakes the task for what only time brings about.
struct Alarm {
    at: Instant,
    sleep: Pin<Box<tokio::time::Sleep>>,
}

impl<D: ModelDialect> WsSession<D> {
    /// A session that dials at its first `poll`; `input` is the format of the caller's audio.
    pub fn new(
        settings: &Arc<ModelSettings>,
        dialect: D,
        input: AudioFormat,
        now: Instant,
    ) -> Self {
        Self {
            capabilities: dialect.capabilities().clone(),
            input,
            link: Link::dial(dialect, now + settings.handshake_timeout),
            settings: Arc::clone(settings),
            next: None,
            leaving: None,
            waiting_to_dial: None,
            commands: VecDeque::new(),
            reports: VecDeque::new(),
            lost: false,
            closed: false,
            backoff: Backoff::new(Duration::from_millis(200), failure::LONGEST_WAIT, any_seed(now)),
            renew_again: None,
            stats: UplinkStats::default(),
            audio_message: BytesMut::new(),
            waker: None,
            alarm: None,
        }
    }

    /// Bytes that may wait in the socket before audio is dropped: base64 is a third longer, and each 20 ms have an
    /// envelope.
    fn audio_limit(&self) -> usize {
        self.input.bytes_per(MAX_AUDIO_WAITING) * 4 / 3 + 50 * 100
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    fn report(&mut self, event: ModelEvent) {
        self.reports.push_back(event);
        self.wake();
    }

    /// Carries out what waited for the session to be ready.
    fn run_commands(&mut self, now: Instant) {
        while self.link.is_ready()
            && let Some(command) = self.commands.pop_front()
        {
            self.run(now, command);
        }
    }

    fn run(&mut self, now: Instant, command: ModelCommand) {
        let step = self.link.command(now, command, &mut self.reports);
        self.settle(now, step);
        self.wake();
    }

    /// Draws the consequences of what happened on the speaking connection.
    fn settle(&mut self, now: Instant, step: Step) {
        match step {
            Step::Idle | Step::Busy => {}
            Step::Ready => {
                self.report(ModelEvent::Ready);
                self.run_commands(now);
            }
            Step::Failed(fault) => self.fail(now, fault),
        }
    }

    /// The speaking connection is gone.
    fn fail(&mut self, now: Instant, fault: ModelFailure) {
        if let Some(fresh) = self.link.fallback() {
            let reason = failure::redacted(fault.reason, self.settings.api_key.expose_secret());
            tracing::info!(reason, "the session is opened in another way");
            self.link = Link::dial(fresh, now + self.settings.handshake_timeout);
            self.wake();
            return;
        }
        if self.next.is_some() || self.waiting_to_dial.is_some() {
            return; // The renewal takes its place.
        }
        let fault = self.judge(now, self.link.ready_since(), fault);
        self.lost = true;
        self.report(ModelEvent::Lost(fault));
    }

    /// Adds the wait that comes with repeated faults, and removes the key from the peer's words.
    fn judge(
        &mut self,
        now: Instant,
        ready_since: Option<Instant>,
        fault: ModelFailure,
    ) -> ModelFailure {
        if ready_since.is_some_and(|since| now.saturating_duration_since(since) >= STABLE) {
            self.backoff.succeeded();
        }
        let wait = self.backoff.failed();
        let reason = failure::redacted(fault.reason, self.settings.api_key.expose_secret());
        let reaction = match fault.reaction {
            Reaction::Retry { .. } if self.backoff.failures() > MAX_FAULTS => Reaction::GiveUp,
            Reaction::Retry { after } => Reaction::Retry { after: after.max(wait) },
            Reaction::GiveUp => Reaction::GiveUp,
        };
        tracing::info!(reason, ?reaction, "the model session failed");
        ModelFailure { reaction, reason }
    }

    fn renew(&mut self, now: Instant, history: Vec<HistoryTurn>) {
        let under_way = self.next.is_some()
            || self.waiting_to_dial.is_some()
            || (!self.lost && !self.link.is_ready());
        if under_way {
            return;
        }
        self.renew_again = None;
        let successor = self.link.dialect().successor(history);
        let handshake_until = now + self.settings.handshake_timeout;
        match self.link.dialect().renewal() {
            Renewal::ConnectFirst => self.next = Some(Link::dial(successor, handshake_until)),
            Renewal::CloseFirst => {
                if let Some(socket) = self.link.leave() {
                    self.say_goodbye(now, socket);
                }
                self.waiting_to_dial = Some(successor);
            }
        }
        self.lost = false;
        self.wake();
    }

    fn say_goodbye(&mut self, now: Instant, mut socket: WebSocket) {
        socket.close(1000, "");
        self.leaving = Some((socket, now + CLOSE_WITHIN));
    }

    fn close(&mut self, now: Instant) {
        self.closed = true;
        self.commands.clear();
        self.reports.clear();
        self.next = None;
        self.waiting_to_dial = None;
        self.renew_again = None;
        if let Some(socket) = self.link.leave() {
            self.say_goodbye(now, socket);
        }
        self.wake();
    }

    /// Drives the socket that is on its way out. True when it is gone.
    fn poll_leaving(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some((socket, until)) = &mut self.leaving else { return false };
        if socket.poll_closed(cx).is_ready() || *until <= now {
            self.leaving = None;
            return true;
        }
        false
    }

    /// Drives the replacement. True when something was done.
    fn poll_next(&mut self, cx: &mut Context<'_>, now: Instant, sink: &mut dyn ModelSink) -> bool {
        if self.leaving.is_none()
            && let Some(mut dialect) = self.waiting_to_dial.take()
        {
            dialect.take_over(self.link.dialect_mut());
            self.link = Link::dial(dialect, now + self.settings.handshake_timeout);
            return true;
        }
        if let Some(mut link) = self.next.take_if(|next| next.is_ready()) {
            link.dialect_mut().take_over(self.link.dialect_mut());
            let mut old = std::mem::replace(&mut self.link, link);
            if let Some(socket) = old.leave() {
                self.say_goodbye(now, socket);
            }
            sink.event(ModelEvent::Ready);
            self.run_commands(now);
            return true;
        }
        let Some(next) = &mut self.next else { return false };
        match next.poll(cx, now, sink) {
            Step::Idle => false,
            Step::Busy => true,
            Step::Ready => {
                // It takes over one turn of the runtime later, when all that the old one said before is here.
                cx.waker().wake_by_ref();
                false
            }
            Step::Failed(fault) => {
                let ready_since = next.ready_since();
                self.next = None;
                let fault = self.judge(now, ready_since, fault);
                if self.link.is_ready() {
                    // The old connection still stands: the renewal is asked for once more.
                    self.renew_again = Some(now + RENEW_AGAIN);
                } else {
                    self.lost = true;
                    sink.event(ModelEvent::Lost(fault));
                }
                true
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let leaving = self.leaving.as_ref().map(|(_, until)| *until);
        let next = self.next.as_ref().and_then(Link::deadline);
        let link = if self.closed { None } else { self.link.deadline() };
        [leaving, next, link, self.renew_again].into_iter().flatten().min()
    }

    /// Registers the waker for the next deadline.
    fn set_alarm(&mut self, cx: &mut Context<'_>, now: Instant) {
        let Some(at) = self.deadline() else {
            self.alarm = None;
            return;
        };
        let sleep_until = || tokio::time::Instant::now() + at.saturating_duration_since(now);
        match &mut self.alarm {
            Some(alarm) if alarm.at == at => {}
            Some(alarm) => {
                alarm.at = at;
                alarm.sleep.as_mut().reset(sleep_until());
            }
            None => {
                let sleep = Box::pin(tokio::time::sleep_until(sleep_until()));
                self.alarm = Some(Alarm { at, sleep });
            }
        }
        // The timer's clock may run ahead of `now`: it is set again until `now` gets there.
        if let Some(alarm) = &mut self.alarm
            && alarm.sleep.as_mut().poll(cx).is_ready()
        {
            let rest = at.saturating_duration_since(now).max(Duration::from_millis(1));
            alarm.sleep.as_mut().reset(tokio::time::Instant::now() + rest);
            let _ = alarm.sleep.as_mut().poll(cx);
        }
    }
}

impl<D: ModelDialect> ModelSession for WsSession<D> {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn send_audio(&mut self, _now: Instant, audio: &[u8]) {
        let audio = &audio[..audio.len() - audio.len() % self.input.bytes_per_sample()];
        if audio.is_empty() {
            return;
        }
        let limit = self.audio_limit();
        if !self.closed && self.link.send_audio(audio, limit, &mut self.audio_message) {
            self.stats.frames_sent += 1;
        } else {
            self.stats.frames_dropped += 1;
        }
    }

    fn send(&mut self, now: Instant, command: ModelCommand) {
        if self.closed {
            return;
        }
        match command {
            ModelCommand::Close => self.close(now),
            ModelCommand::Renew { history } => self.renew(now, history),
            command if self.link.is_ready() => self.run(now, command),
            // They are about audio of a connection that is gone.
            ModelCommand::Truncate { .. }
            | ModelCommand::Forget { .. }
            | ModelCommand::Cancel
            | ModelCommand::TurnStarted { .. }
            | ModelCommand::TurnEnded
                if self.link.ready_since().is_some() => {}
            command => {
                if self.commands.len() < MAX_WAITING_COMMANDS {
                    self.commands.push_back(command);
                } else if !self.lost {
                    self.lost = true;
                    drop(self.link.leave());
                    let reason = "too many commands wait for the session";
                    self.report(ModelEvent::Lost(failure::give_up(reason)));
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, now: Instant, sink: &mut dyn ModelSink) -> Poll<()> {
        if self.waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        let mut done = false;
        while let Some(event) = self.reports.pop_front() {
            sink.event(event);
            done = true;
        }
        done |= self.poll_leaving(cx, now);
        if !self.closed {
            let step = self.link.poll(cx, now, sink);
            if matches!(step, Step::Idle) {
                // Only when the old connection has nothing more to say may the new one take over.
                done |= self.poll_next(cx, now, sink);
            } else {
                done = true;
                self.settle(now, step);
            }
            if self.renew_again.take_if(|at| *at <= now).is_some() && self.link.is_ready() {
                sink.event(ModelEvent::ExpiresIn(RENEW_AGAIN));
                done = true;
            }
        }
        if done || !self.reports.is_empty() {
            return Poll::Ready(());
        }
        self.set_alarm(cx, now);
        Poll::Pending
    }

    fn is_closed(&self) -> bool {
        self.closed && self.leaving.is_none()
    }

    fn uplink_stats(&self) -> UplinkStats {
        UplinkStats { waiting: self.link.waiting(), ..self.stats }
    }
}

/// Jitter differs from session to session; nothing depends on its value.
fn any_seed(now: Instant) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(now)
}
