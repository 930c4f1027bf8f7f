//! The shell of one call: owns its sockets and its timer, reads the clock, drives [`CallCore`].

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tandem_call::{
    CallId, CallOutcome, EndReason, EndedBy, HangupCause, Input, LegQuality, SignalCommand,
    SignalEvent, ToolCallId, ToolOutcome, Usage,
};
use tandem_net::PacingTimer;
use tandem_rtp::Channel;
use tandem_sip::{DialogEvent, DialogHandle, LocalMedia, Rejection};
use tokio::{io::ReadBuf, net::UdpSocket, sync::mpsc};

use crate::{CallControl, CallCore, CoreOutput, ToolReply, Tools, ports::PortPair};

/// Largest datagram taken; RTP of 60 ms of G.711 is 492 bytes.
const DATAGRAM: usize = 2048;

/// Datagrams, session messages or events handled before other calls on the worker get their turn.
const BUDGET: usize = 64;

/// Tool outcomes that may wait; a call has at most 16 open tool calls.
const TOOL_INBOX: usize = 32;

/// How long the model's socket may take to close in order after the call has ended.
const CLOSING: Duration = Duration::from_millis(500);

/// What a call needs from outside.
pub(crate) struct CallPorts {
    /// RTP and RTCP.
    pub(crate) media: PortPair,
    /// Our end of the media, for SDP.
    pub(crate) local: LocalMedia,
    /// Orders to signalling.
    pub(crate) dialog: DialogHandle,
    /// Reports of signalling.
    pub(crate) events: mpsc::Receiver<DialogEvent>,
    /// Orders of the daemon.
    pub(crate) control: mpsc::Receiver<CallControl>,
    /// Carries tools out.
    pub(crate) tools: Arc<dyn Tools>,
    /// The call, as tools and headers name it.
    pub(crate) call_id: CallId,
    /// The agent, for the headers of a transfer.
    pub(crate) agent_id: String,
}

/// What is left of a call.
pub(crate) struct Finished {
    pub(crate) outcome: CallOutcome,
    pub(crate) quality: LegQuality,
    pub(crate) ended: Instant,
}

impl Finished {
    /// What is left of a call that began at `started` and broke down: nothing but that.
    pub(crate) fn failed(started: Instant) -> Self {
        let outcome = CallOutcome {
            end_reason: EndReason::Failed,
            ended_by: EndedBy::System,
            cause: HangupCause::NormalTemporaryFailure,
            answered: None,
            summary: None,
            transcript: Vec::new(),
            tools: Vec::new(),
            transfer: None,
            turns: Vec::new(),
            usage: Usage::default(),
            model_connect_ms: None,
            first_audio_ms: None,
            end_call_tail_ms: None,
            models: Vec::new(),
            model_failures: Vec::new(),
        };
        Self { outcome, quality: LegQuality::default(), ended: Instant::now().max(started) }
    }
}

/// Runs `core` to its end. Fails only when the process can't give it sockets or a timer.
pub(crate) async fn run(mut core: CallCore, ports: CallPorts) -> io::Result<Finished> {
    let mut task = match CallTask::new(ports) {
        Ok(task) => task,
        Err((error, dialog)) => {
            dialog.reject(Rejection::status(503));
            return Err(error);
        }
    };
    let outcome = poll_fn(|cx| task.poll(cx, &mut core)).await;
    let ended = Instant::now();
    let quality = core.quality();
    core.close(ended);
    task.transmit(&mut core, ended);
    let closing = tokio::time::timeout(CLOSING, poll_fn(|cx| poll_closed(cx, &mut core)));
    if closing.await.is_err() {
        tracing::debug!(call_id = %task.ports.call_id, "the model's socket did not close in time");
    }
    Ok(Finished { outcome: *outcome, quality, ended })
}

fn poll_closed(cx: &mut Context<'_>, core: &mut CallCore) -> Poll<()> {
    while !core.session_closed() {
        if !core.poll_session(cx, Instant::now()) {
            return Poll::Pending;
        }
    }
    Poll::Ready(())
}

struct CallTask {
    ports: Ports,
    rtp: UdpSocket,
    rtcp: UdpSocket,
    timer: PacingTimer,
    datagram: Box<[u8; DATAGRAM]>,
    tool_outcomes: mpsc::Receiver<(ToolCallId, ToolOutcome)>,
    tool_inbox: mpsc::Sender<(ToolCallId, ToolOutcome)>,
    signalling_gone: bool,
    control_gone: bool,
    malformed: u64,
    unsent: u64,
}

/// [`CallPorts`] without the sockets.
struct Ports {
    local: LocalMedia,
    dialog: DialogHandle,
    events: mpsc::Receiver<DialogEvent>,
    control: mpsc::Receiver<CallControl>,
    tools: Arc<dyn Tools>,
    call_id: CallId,
    agent_id: String,
}

impl CallTask {
    fn new(ports: CallPorts) -> Result<Self, (io::Error, DialogHandle)> {
        let CallPorts { media, local, dialog, events, control, tools, call_id, agent_id } = ports;
        let sockets = UdpSocket::from_std(media.rtp)
            .and_then(|rtp| Ok((rtp, UdpSocket::from_std(media.rtcp)?, PacingTimer::new()?)));
        let (rtp, rtcp, timer) = match sockets {
            Ok(sockets) => sockets,
            Err(error) => return Err((error, dialog)),
        };
        let (tool_inbox, tool_outcomes) = mpsc::channel(TOOL_INBOX);
        Ok(Self {
            ports: Ports { local, dialog, events, control, tools, call_id, agent_id },
            rtp,
            rtcp,
            timer,
            datagram: Box::new([0; DATAGRAM]),
            tool_outcomes,
            tool_inbox,
            signalling_gone: false,
            control_gone: false,
            malformed: 0,
            unsent: 0,
        })
    }

    /// One round over everything that can wake the call. Every source is polled until it is pending, so that its waker
    /// is registered; the budget keeps one call from starving the others on its worker.
    fn poll(&mut self, cx: &mut Context<'_>, core: &mut CallCore) -> Poll<Box<CallOutcome>> {
        for _ in 0..BUDGET {
            let now = Instant::now();
            let mut progress = self.poll_timer(cx, core, now);
            progress |= self.poll_rtp(cx, core, now);
            progress |= self.poll_rtcp(cx, core, now);
            progress |= self.poll_signalling(cx, core, now);
            progress |= self.poll_control(cx, core, now);
            progress |= self.poll_tools(cx, core, now);
            progress |= core.poll_session(cx, now);
            core.note_written(Instant::now());
            self.transmit(core, now);
            while let Some(output) = core.poll_output() {
                progress = true;
                if let Some(outcome) = self.carry_out(output) {
                    return Poll::Ready(outcome);
                }
            }
            if let Some(at) = core.poll_timeout()
                && let Err(error) = self.timer.set(at)
            {
                tracing::error!(call_id = %self.ports.call_id, %error, "the pacing timer failed");
            }
            if !progress {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        let mut progress = false;
        while let Poll::Ready(expired) = self.timer.poll_expired(cx) {
            if let Err(error) = expired {
                tracing::error!(call_id = %self.ports.call_id, %error, "the pacing timer failed");
                break;
            }
            progress = true;
        }
        if progress || core.poll_timeout().is_some_and(|at| at <= now) {
            core.handle_timeout(now);
            progress = true;
        }
        progress
    }

    fn poll_rtp(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        let Some((length, source)) = receive(&self.rtp, cx, &mut self.datagram[..]) else {
            return false;
        };
        if core.handle_rtp(now, source, &self.datagram[..length]).is_err() {
            self.malformed += 1;
        }
        true
    }

    fn poll_rtcp(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        let Some((length, source)) = receive(&self.rtcp, cx, &mut self.datagram[..]) else {
            return false;
        };
        if core.handle_rtcp(now, source, &self.datagram[..length]).is_err() {
            self.malformed += 1;
        }
        true
    }

    fn poll_signalling(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        if self.signalling_gone {
            return false;
        }
        match self.ports.events.poll_recv(cx) {
            Poll::Ready(Some(DialogEvent::Media(params))) => core.handle_media(now, params),
            Poll::Ready(Some(DialogEvent::Signal(event))) => core.handle_signal(now, event),
            Poll::Ready(Some(DialogEvent::Ringing | DialogEvent::Failed { .. })) => {} // Of outgoing calls only.
            Poll::Ready(None) => {
                self.signalling_gone = true;
                let cause = HangupCause::NormalTemporaryFailure; // Ignored when the call is over already.
                core.handle_signal(now, SignalEvent::HungUp { cause });
            }
            Poll::Pending => return false,
        }
        true
    }

    fn poll_control(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        if self.control_gone {
            return false;
        }
        let input = match self.ports.control.poll_recv(cx) {
            Poll::Ready(Some(CallControl::Drain)) => Input::Drain,
            Poll::Ready(Some(CallControl::Kill)) => Input::Kill { reason: EndReason::Draining },
            Poll::Ready(None) => {
                self.control_gone = true;
                Input::Kill { reason: EndReason::Draining } // Whoever held the call is gone: no call outlives it.
            }
            Poll::Pending => return false,
        };
        core.handle_input(now, input);
        true
    }

    fn poll_tools(&mut self, cx: &mut Context<'_>, core: &mut CallCore, now: Instant) -> bool {
        match self.tool_outcomes.poll_recv(cx) {
            Poll::Ready(Some((id, outcome))) => {
                core.handle_tool(now, id, outcome);
                true
            }
            Poll::Ready(None) | Poll::Pending => false, // Never closed: this task holds a sender.
        }
    }

    fn transmit(&mut self, core: &mut CallCore, now: Instant) {
        let mut sent = false;
        while let Some(transmit) = core.poll_transmit(now) {
            let socket = match transmit.channel {
                Channel::Rtp => &self.rtp,
                Channel::Rtcp => &self.rtcp,
            };
            if socket.try_send_to(transmit.bytes, transmit.destination).is_err() {
                self.unsent += 1; // A full socket buffer or an unreachable peer: late audio is worth nothing.
            }
            sent = true;
        }
        if sent {
            core.after_transmit(now);
        }
    }

    fn carry_out(&mut self, output: CoreOutput) -> Option<Box<CallOutcome>> {
        match output {
            CoreOutput::Signal(command) => self.signal(command),
            CoreOutput::Tool(call) => {
                let reply = ToolReply::new(call.id.clone(), self.tool_inbox.clone());
                self.ports.tools.start(&self.ports.call_id, call, reply);
            }
            CoreOutput::CancelTool(id) => {
                tracing::debug!(call_id = %self.ports.call_id, tool_call = id.0, "nobody waits for this tool any more");
            }
            CoreOutput::Ended(outcome) => return Some(outcome),
        }
        None
    }

    fn signal(&self, command: SignalCommand) {
        let dialog = &self.ports.dialog;
        match command {
            SignalCommand::Answer => dialog.accept(self.ports.local.clone()),
            SignalCommand::Reject { cause } => dialog.reject(rejection(cause)),
            SignalCommand::HangUp { cause } => dialog.hang_up(cause),
            SignalCommand::Transfer { target, mut headers } => {
                headers.push(("X-Tandem-Call-ID".into(), self.ports.call_id.to_string()));
                headers.push(("X-Tandem-Agent".into(), self.ports.agent_id.clone()));
                dialog.transfer(target, headers);
            }
        }
    }
}

impl Drop for CallTask {
    fn drop(&mut self) {
        if self.malformed + self.unsent > 0 {
            let (malformed, unsent) = (self.malformed, self.unsent);
            tracing::debug!(call_id = %self.ports.call_id, malformed, unsent, "datagrams ignored or not sent");
        }
    }
}

fn receive(
    socket: &UdpSocket,
    cx: &mut Context<'_>,
    buffer: &mut [u8],
) -> Option<(usize, SocketAddr)> {
    loop {
        let mut buffer = ReadBuf::new(buffer);
        match socket.poll_recv_from(cx, &mut buffer) {
            Poll::Ready(Ok(source)) => {
                let source = SocketAddr::new(source.ip().to_canonical(), source.port()); // Off a dual-stack socket.
                return Some((buffer.filled().len(), source));
            }
            Poll::Ready(Err(_)) => {} // An ICMP error of an earlier packet, reported here and cleared by it.
            Poll::Pending => return None,
        }
    }
}

/// The final response for a call that is refused before the answer (RFC 3261 §21, Q.850 as PBXs map it).
fn rejection(cause: HangupCause) -> Rejection {
    Rejection::status(match cause {
        HangupCause::UnallocatedNumber => 404,
        HangupCause::UserBusy => 486,
        HangupCause::CallRejected => 403,
        HangupCause::IncompatibleDestination => 488,
        HangupCause::NormalClearing
        | HangupCause::NoUserResponse
        | HangupCause::NoAnswer
        | HangupCause::NormalUnspecified => 480,
        HangupCause::OriginatorCancel => 487,
        HangupCause::NormalCircuitCongestion
        | HangupCause::NormalTemporaryFailure
        | HangupCause::RecoveryOnTimerExpire => 503,
    })
}
