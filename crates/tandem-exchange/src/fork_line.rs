//! The wire side of a forked call: the websocket of the switch's module, and the channel behind it.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tandem_call::{HangupCause, SignalCommand, SignalEvent};
use tandem_net::{Incoming, MessageKind, SendError, ServerWebSocket, SocketLimits};
use tandem_streams::{ForkLeg, ForkStream, LegOrder, Message, StreamShape};
use tokio::sync::mpsc;

use crate::{CallCore, task::Line};

/// Largest message taken: a module that was not read for 17 s sends 384,000 bytes at once.
pub(crate) const LIMITS: SocketLimits = SocketLimits { message: 1 << 20, waiting: 2 << 20 };

/// A sign of life is asked for so often: NATs forget a path after 30 s, and a peer that vanished is noticed.
const PING: Duration = Duration::from_secs(25);

/// Audio of a websocket that is dead at its far end still comes for so long.
const ON_ITS_WAY: Duration = Duration::from_millis(200);

/// What comes to a forked call from the control runtime.
pub enum ForkReport {
    /// The module has connected, for the first time or again.
    Connected {
        /// The socket.
        stream: ForkStream,
        /// What flows over it.
        shape: StreamShape,
    },
    /// Of the channel.
    Signal(SignalEvent),
    /// Is the websocket sound? [`Signalling::media_flows`] tells when more audio has come.
    Probe,
}

/// The channel of a forked call, as the call's worker sees it. No method may block.
pub trait Signalling: Send + Sync {
    /// Passes an order on.
    fn order(&self, command: SignalCommand);

    /// The module's websocket is gone, and the call was not hung up by us.
    fn media_lost(&self, why: &str);

    /// The module's websocket is sound: audio has come since [`ForkReport::Probe`].
    fn media_flows(&self) {}
}

/// A forked call's websocket and channel.
pub(crate) struct ForkLine {
    socket: Option<ServerWebSocket>,
    next_ping: Instant,
    /// Audio that comes from then on was not on its way when somebody asked for it.
    probed: Option<Instant>,
    reports: mpsc::Receiver<ForkReport>,
    reports_gone: bool,
    signalling: Arc<dyn Signalling>,
}

impl ForkLine {
    /// A line whose module has not connected yet.
    pub(crate) fn new(
        now: Instant,
        reports: mpsc::Receiver<ForkReport>,
        signalling: Arc<dyn Signalling>,
    ) -> Self {
        Self {
            socket: None,
            next_ping: now + PING,
            probed: None,
            reports,
            reports_gone: false,
            signalling,
        }
    }

    fn poll_reports(
        &mut self,
        cx: &mut Context<'_>,
        core: &mut CallCore<ForkLeg>,
        now: Instant,
    ) -> bool {
        if self.reports_gone {
            return false;
        }
        match self.reports.poll_recv(cx) {
            Poll::Ready(Some(ForkReport::Connected { stream, shape })) => {
                self.connect(core, now, stream, shape);
            }
            Poll::Ready(Some(ForkReport::Signal(SignalEvent::Playback(playback)))) => {
                core.feed(now, |leg| leg.playback(now, &playback));
            }
            Poll::Ready(Some(ForkReport::Probe)) => self.probed = Some(now + ON_ITS_WAY),
            Poll::Ready(Some(ForkReport::Signal(event))) => core.handle_signal(now, event),
            Poll::Ready(None) => {
                self.reports_gone = true;
                let cause = HangupCause::NormalTemporaryFailure; // Ignored when the call is over already.
                core.handle_signal(now, SignalEvent::HungUp { cause });
            }
            Poll::Pending => return false,
        }
        true
    }

    fn connect(
        &mut self,
        core: &mut CallCore<ForkLeg>,
        now: Instant,
        stream: ForkStream,
        shape: StreamShape,
    ) {
        match stream.open(LIMITS) {
            Ok(mut socket) => {
                if let Some(mut old) = self.socket.take() {
                    old.close(1000, "replaced"); // Two forks of one call: the newer one counts.
                    core.feed(now, |leg| leg.detach(now));
                }
                socket.ping().ok();
                self.next_ping = now + PING;
                self.socket = Some(socket);
                core.feed(now, |leg| leg.attach(now, shape));
            }
            Err(error) => self.signalling.media_lost(&error.to_string()),
        }
    }

    fn poll_socket(
        &mut self,
        cx: &mut Context<'_>,
        core: &mut CallCore<ForkLeg>,
        now: Instant,
    ) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        match socket.poll_incoming(cx) {
            Poll::Ready(Incoming::Message { kind: MessageKind::Binary, bytes }) => {
                if let Err(error) = core.feed(now, |leg| leg.handle_binary(now, &bytes)) {
                    tracing::debug!(%error, "a binary message of the fork module is not taken");
                }
                if self.probed.is_some_and(|from| from <= now) {
                    self.probed = None;
                    self.signalling.media_flows();
                }
            }
            Poll::Ready(Incoming::Message { kind: MessageKind::Text, bytes }) => {
                if let Err(error) = core.feed(now, |leg| leg.handle_text(now, &bytes)) {
                    tracing::debug!(%error, "a text of the fork module is not understood");
                }
            }
            Poll::Ready(Incoming::Closed(closure)) => {
                tracing::debug!(code = closure.code, reason = closure.reason, "fork closed");
                self.lose(core, now, &closure.reason);
            }
            Poll::Pending => return false,
        }
        true
    }

    fn lose(&mut self, core: &mut CallCore<ForkLeg>, now: Instant, why: &str) {
        self.socket = None;
        core.feed(now, |leg| leg.detach(now));
        self.signalling.media_lost(why);
    }

    fn send(&mut self, core: &mut CallCore<ForkLeg>, now: Instant) -> Result<bool, SendError> {
        let mut sent = false;
        while let Some(message) = core.leg().poll_message(now) {
            sent = true;
            let Some(socket) = &mut self.socket else { continue };
            match message {
                Message::Binary(bytes) => socket.send_binary(bytes)?,
                Message::Text(text) => socket.send_text(text)?,
                Message::Close => socket.close(1000, ""),
            }
        }
        if now >= self.next_ping
            && let Some(socket) = &mut self.socket
        {
            self.next_ping = now + PING;
            socket.ping()?;
        }
        Ok(sent)
    }
}

impl Line for ForkLine {
    type Leg = ForkLeg;

    fn poll(&mut self, cx: &mut Context<'_>, core: &mut CallCore<ForkLeg>, now: Instant) -> bool {
        let progress = self.poll_reports(cx, core, now);
        progress | self.poll_socket(cx, core, now)
    }

    fn transmit(&mut self, core: &mut CallCore<ForkLeg>, now: Instant) {
        match self.send(core, now) {
            Ok(false) => {}
            Ok(true) => core.after_transmit(now),
            Err(error) => {
                tracing::warn!(%error, "the fork module does not take the audio");
                self.lose(core, now, "the module does not read");
            }
        }
        while let Some(LegOrder::BreakPlayback) = core.leg().poll_order() {
            self.signalling.order(SignalCommand::BreakPlayback);
        }
    }

    fn signal(&mut self, _core: &mut CallCore<ForkLeg>, _now: Instant, command: SignalCommand) {
        self.signalling.order(command);
    }
}
