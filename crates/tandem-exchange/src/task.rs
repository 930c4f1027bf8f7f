//! The shell of one call: owns its line and its timer, reads the clock, drives [`CallCore`].

use std::{
    future::poll_fn,
    io,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tandem_call::{
    BargeIns, CallId, CallOutcome, EndReason, EndedBy, HangupCause, Input, LegQuality, MediaLeg,
    SignalCommand, ToolReport, Usage,
};
use tandem_net::PacingTimer;
use tokio::sync::mpsc;

use crate::{
    CallControl, CallCore, CallTools, CoreOutput, ToolReply,
    load::Load,
    quality_watch::{Change, QualityWatch},
};

/// Rounds over all that can wake a call before other calls on the worker get their turn.
const BUDGET: usize = 16;

/// Datagrams or messages taken in a row before the timer is looked at: a second and a quarter of audio.
const BURST: usize = 64;

/// Reports of tools that may wait; a call has at most 16 open tool calls, and as many that may be answered late.
const TOOL_INBOX: usize = 64;

/// How long the model's socket may take to close in order after the call has ended.
const CLOSING: Duration = Duration::from_millis(500);

/// The wire side of a call: what its media and its signalling travel on.
pub(crate) trait Line {
    /// The media it carries.
    type Leg: MediaLeg;

    /// Hands over what has arrived. True: poll again; false: the wakers of all that may still come are registered.
    fn poll(&mut self, cx: &mut Context<'_>, core: &mut CallCore<Self::Leg>, now: Instant) -> bool;

    /// Sends what the leg has for its peer at `now`.
    fn transmit(&mut self, core: &mut CallCore<Self::Leg>, now: Instant);

    /// When [`Self::handle_timeout`] is due; none = never.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due at `now`; what is to be sent is taken by [`Self::transmit`].
    fn handle_timeout(&mut self, _now: Instant) {}

    /// The protection profile of its media, as SDP spells it.
    fn srtp(&self) -> Option<&'static str> {
        None
    }

    /// Encodes with this complexity from now on, 0 to 10, where the media's codec has one.
    fn set_complexity(&mut self, _core: &mut CallCore<Self::Leg>, _complexity: u8) {}

    /// Passes an order on to signalling.
    fn signal(&mut self, core: &mut CallCore<Self::Leg>, now: Instant, command: SignalCommand);
}

/// What every call needs from outside, whatever its line.
pub(crate) struct CallPorts {
    /// Orders of the daemon.
    pub(crate) control: mpsc::Receiver<CallControl>,
    /// Carries tools out.
    pub(crate) tools: Box<dyn CallTools>,
    /// The call, as tools name it.
    pub(crate) call_id: CallId,
}

/// What is left of a call.
pub(crate) struct Finished {
    pub(crate) outcome: CallOutcome,
    pub(crate) quality: LegQuality,
    pub(crate) srtp: Option<&'static str>,
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
            metadata: serde_json::Map::new(),
            transfer: None,
            turns: Vec::new(),
            barge_ins: BargeIns::default(),
            usage: Usage::default(),
            model_connect_ms: None,
            first_audio_ms: None,
            end_call_tail_ms: None,
            models: Vec::new(),
            model_failures: Vec::new(),
        };
        let ended = Instant::now().max(started);
        Self { outcome, quality: LegQuality::default(), srtp: None, ended }
    }
}

/// Runs `core` on `line` to its end. Fails only when the system gives it no timer.
pub(crate) async fn run<W: Line>(
    mut core: Box<CallCore<W::Leg>>,
    line: W,
    ports: CallPorts,
) -> io::Result<Finished> {
    let mut task = CallTask::new(line, ports)?;
    let outcome = poll_fn(|cx| task.poll(cx, &mut core)).await;
    let ended = Instant::now();
    let quality = core.quality();
    core.close(ended);
    task.line.transmit(&mut core, ended);
    let closing = tokio::time::timeout(CLOSING, poll_fn(|cx| poll_closed(cx, &mut core)));
    if closing.await.is_err() {
        tracing::debug!(call_id = %task.ports.call_id, "the model's socket did not close in time");
    }
    Ok(Finished { outcome: *outcome, quality, srtp: task.line.srtp(), ended })
}

fn poll_closed<L: MediaLeg>(cx: &mut Context<'_>, core: &mut CallCore<L>) -> Poll<()> {
    while !core.session_closed() {
        if !core.poll_session(cx, Instant::now()) {
            return Poll::Pending;
        }
    }
    Poll::Ready(())
}

struct CallTask<W> {
    line: W,
    ports: CallPorts,
    timer: PacingTimer,
    tool_reports: mpsc::Receiver<(u32, ToolReport)>,
    tool_inbox: mpsc::Sender<(u32, ToolReport)>,
    quality: QualityWatch,
    load: Load,
    control_gone: bool,
}

impl<W: Line> CallTask<W> {
    fn new(line: W, ports: CallPorts) -> io::Result<Self> {
        let (tool_inbox, tool_reports) = mpsc::channel(TOOL_INBOX);
        let timer = PacingTimer::new()?;
        let quality = QualityWatch::new(Instant::now());
        let load = Load::default();
        let control_gone = false;
        Ok(Self { line, ports, timer, tool_reports, tool_inbox, quality, load, control_gone })
    }

    /// One round over everything that can wake the call. Every source is polled until it is pending, so that its waker
    /// is registered; the budget keeps one call from starving the others on its worker.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        core: &mut CallCore<W::Leg>,
    ) -> Poll<Box<CallOutcome>> {
        for _ in 0..BUDGET {
            let now = Instant::now();
            // What has arrived comes before what is due: after a standstill of ours the caller's audio lies in the
            // socket, and a timer that looked first would take it for lost.
            let mut progress = false;
            for _ in 0..BURST {
                if !self.line.poll(cx, core, now) {
                    break;
                }
                progress = true;
            }
            progress |= self.poll_timer(cx, core, now);
            progress |= self.poll_control(cx, core, now);
            progress |= self.poll_tools(cx, core, now);
            progress |= core.poll_session(cx, now);
            core.note_written(Instant::now());
            self.note_load(core, now);
            self.line.transmit(core, now);
            while let Some(output) = core.poll_output() {
                progress = true;
                if let Some(outcome) = self.carry_out(core, now, output) {
                    return Poll::Ready(outcome);
                }
            }
            let due = [core.poll_timeout(), self.line.poll_timeout()].into_iter().flatten().min();
            if let Some(at) = due
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

    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        core: &mut CallCore<W::Leg>,
        now: Instant,
    ) -> bool {
        let mut progress = false;
        while let Poll::Ready(expired) = self.timer.poll_expired(cx) {
            if let Err(error) = expired {
                tracing::error!(call_id = %self.ports.call_id, %error, "the pacing timer failed");
                break;
            }
            progress = true;
        }
        if self.line.poll_timeout().is_some_and(|at| at <= now) {
            self.line.handle_timeout(now);
            progress = true;
        }
        if progress || core.poll_timeout().is_some_and(|at| at <= now) {
            core.handle_timeout(now);
            self.watch_quality(core, now);
            progress = true;
        }
        progress
    }

    /// Takes note of how late the packet is that is about to be sent, if one is due.
    fn note_load(&mut self, core: &mut CallCore<W::Leg>, now: Instant) {
        if let Some(due) = core.leg().next_send().filter(|due| *due <= now)
            && let Some(complexity) = self.load.note(now, due)
        {
            tracing::debug!(complexity, "the worker's load changed");
            self.line.set_complexity(core, complexity);
        }
    }

    fn watch_quality(&mut self, core: &CallCore<W::Leg>, now: Instant) {
        if !self.quality.is_due(now) {
            return;
        }
        let mos = core.live_mos();
        tracing::debug!(mos, "live quality");
        match self.quality.note(now, mos) {
            Some(Change::Poor(mos)) => {
                tracing::warn!(mos, "the caller's audio arrives in bad shape: loss or jitter");
            }
            Some(Change::Well(mos)) => tracing::info!(mos, "the caller's audio is well again"),
            None => {}
        }
    }

    fn poll_control(
        &mut self,
        cx: &mut Context<'_>,
        core: &mut CallCore<W::Leg>,
        now: Instant,
    ) -> bool {
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

    fn poll_tools(
        &mut self,
        cx: &mut Context<'_>,
        core: &mut CallCore<W::Leg>,
        now: Instant,
    ) -> bool {
        match self.tool_reports.poll_recv(cx) {
            Poll::Ready(Some((number, report))) => {
                core.handle_tool(now, number, report);
                true
            }
            Poll::Ready(None) | Poll::Pending => false, // Never closed: this task holds a sender.
        }
    }

    fn carry_out(
        &mut self,
        core: &mut CallCore<W::Leg>,
        now: Instant,
        output: CoreOutput,
    ) -> Option<Box<CallOutcome>> {
        match output {
            CoreOutput::Signal(command) => self.line.signal(core, now, command),
            CoreOutput::Tool(invocation) => {
                let reply = ToolReply::new(invocation.number, self.tool_inbox.clone());
                self.ports.tools.start(invocation, reply);
            }
            CoreOutput::CancelTool(number) => self.ports.tools.cancel(number),
            CoreOutput::Ended(outcome) => return Some(outcome),
        }
        None
    }
}
