//! The core of a call: leg, model session and machine joined, without sockets and without a clock.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, task::Context, time::Instant};

use tandem_call::{
    AgentSpec, CallMachine, CallOutcome, EndReason, HistoryTurn, Input, Invocation, ItemId,
    LegCommand, LegEvent, LegQuality, MediaLeg, ModelCommand, ModelEvent, ModelSink, Output,
    Patience, SignalCommand, SignalEvent, ToolReport, TransferOutcome, UplinkStats,
};
use tandem_media::AudioFormat;
use tandem_rtp::{MediaParams, RtpError, RtpLeg, Transmit};

use crate::{
    CallRecording, ModelOpener, OpenSession, Opened, Prompts, RECORDING_TOOLS, annotations,
    recording::{Announcement, PAUSE_RECORDING, not_recorded},
    written::SpeechWritten,
};

/// What a call is made of.
pub struct CoreConfig<L = RtpLeg> {
    /// The agent that answers.
    pub agent: AgentSpec,
    /// How long the machine waits for what.
    pub patience: Patience,
    /// The media leg. The model session is opened for its format before the answer.
    pub leg: L,
    /// Opens the agent's models.
    pub models: Box<dyn ModelOpener>,
    /// Sentences Tandem says by itself.
    pub prompts: Arc<Prompts>,
    /// Signalling has a place for transcript, summary and outcome.
    pub annotates: bool,
}

/// What the shell must do.
#[derive(Debug)]
pub enum CoreOutput {
    /// For the signalling side.
    Signal(SignalCommand),
    /// Run this tool and bring back what comes of it.
    Tool(Invocation),
    /// Nobody waits for the invocation of this number any more.
    CancelTool(u32),
    /// The call is over. Nothing comes after it.
    Ended(Box<CallOutcome>),
}

/// One call. Feed it what arrives, then take what is due from the `poll_*` methods until they are empty.
pub struct CallCore<L = RtpLeg> {
    session: Option<Opened>,
    models: Box<dyn ModelOpener>,
    conversation: Conversation<L>,
    ended_uplink: UplinkStats,
}

/// Everything but the session, so that a session that is being polled can hand over what it has.
struct Conversation<L> {
    now: Instant,
    machine: CallMachine,
    leg: L,
    held: bool,
    prompts: Arc<Prompts>,
    orders: VecDeque<SessionOrder>,
    outputs: VecDeque<CoreOutput>,
    speaking: Option<ItemId>,
    next_item: u64,
    speech_written: SpeechWritten,
    annotates: bool,
    recording: Option<CallRecording>,
}

/// What is to be done with the session once it is not being polled.
enum SessionOrder {
    Command(ModelCommand),
    Open { index: usize, history: Vec<HistoryTurn>, apologise: bool },
}

impl<L: MediaLeg> CallCore<L> {
    /// A call whose INVITE arrived at `now`; it dials its model at once.
    pub fn new(now: Instant, config: CoreConfig<L>) -> Self {
        let mut core = Self {
            session: None,
            models: config.models,
            conversation: Conversation {
                now,
                machine: CallMachine::new(now, config.agent, config.patience),
                leg: config.leg,
                held: false,
                prompts: config.prompts,
                orders: VecDeque::new(),
                outputs: VecDeque::new(),
                speaking: None,
                next_item: 1,
                speech_written: SpeechWritten::default(),
                annotates: config.annotates,
                recording: None,
            },
            ended_uplink: UplinkStats::default(),
        };
        core.settle(now);
        core
    }

    /// Records the call from its answer on, or from the end of the announcement.
    pub fn record(&mut self, recording: CallRecording) {
        self.conversation.recording = Some(recording);
    }

    /// Hands the leg what came for it, and carries on what follows.
    pub fn feed<R>(&mut self, now: Instant, feed: impl FnOnce(&mut L) -> R) -> R {
        let fed = feed(&mut self.conversation.leg);
        self.settle(now);
        fed
    }

    /// The leg, to take what it sends. [`after_transmit`](Self::after_transmit) follows.
    pub fn leg(&mut self) -> &mut L {
        &mut self.conversation.leg
    }

    /// Takes what signalling reports.
    pub fn handle_signal(&mut self, now: Instant, event: SignalEvent) {
        if let SignalEvent::Held(held) = event
            && self.conversation.hold(held, now)
        {
            return self.settle(now);
        }
        let answered = event == SignalEvent::Answered;
        let came_back = matches!(event, SignalEvent::Transfer(TransferOutcome::Failed { .. }));
        if event == SignalEvent::TakenOver {
            self.conversation.annotate(|it| {
                annotations::outcome(EndReason::Transferred, None, &it.conversation())
            });
        }
        self.handle_input(now, Input::Signal(event));
        if answered {
            self.conversation.announce(now);
            self.settle(now);
        }
        if came_back {
            self.conversation
                .annotate(|_| annotations::outcome(EndReason::CallerHangup, None, &[]));
        }
    }

    /// Takes what came of the invocation `number`, in time or late.
    pub fn handle_tool(&mut self, now: Instant, number: u32, report: ToolReport) {
        self.handle_input(now, Input::Tool { number, report });
    }

    /// Takes an input of the machine that comes from neither leg nor model: a drain, a kill.
    pub fn handle_input(&mut self, now: Instant, input: Input) {
        self.conversation.machine.handle(now, input);
        self.settle(now);
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.conversation.leg.handle_timeout(now);
        self.conversation.wait_for_announcement(now);
        self.conversation.machine.handle_timeout(now);
        self.settle(now);
    }

    /// When `handle_timeout` or `poll_transmit` has something to do next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Conversation { leg, machine, .. } = &self.conversation;
        [leg.next_send(), leg.poll_timeout(), machine.poll_timeout()].into_iter().flatten().min()
    }

    /// Lets the model session make progress. True: poll again; false: its waker is registered.
    pub fn poll_session(&mut self, cx: &mut Context<'_>, now: Instant) -> bool {
        let Some(Opened { session, .. }) = &mut self.session else { return false };
        self.conversation.now = now;
        let polled = session.poll(cx, now, &mut self.conversation);
        self.settle(now);
        polled.is_ready()
    }

    /// Says that everything handed to the session so far had left for the model at `now`.
    pub fn note_written(&mut self, now: Instant) {
        if self.uplink_stats().waiting == 0 {
            self.conversation.speech_written.note(now);
        }
    }

    /// Takes note of what `poll_transmit` caused: the start and the end of playout. Call it when the last datagram due
    /// was sent.
    pub fn after_transmit(&mut self, now: Instant) {
        self.settle(now);
    }

    /// The next thing to do outside.
    pub fn poll_output(&mut self) -> Option<CoreOutput> {
        self.conversation.outputs.pop_front()
    }

    /// What the network did to the leg.
    pub fn quality(&self) -> LegQuality {
        self.conversation.leg.quality()
    }

    /// The mean opinion score of the last seconds, where the leg can tell.
    pub fn live_mos(&self) -> Option<f64> {
        self.conversation.leg.live_mos()
    }

    /// What went up to the models so far.
    pub fn uplink_stats(&self) -> UplinkStats {
        let mut sum = self.ended_uplink;
        if let Some(Opened { session, .. }) = &self.session {
            add_uplink(&mut sum, session.uplink_stats());
        }
        sum
    }

    /// Queues the RTCP BYE and ends the session; `poll_session` may be called on to let it close in order.
    pub fn close(&mut self, now: Instant) {
        if let Some(recording) = &mut self.conversation.recording {
            recording.end(now);
        }
        self.conversation.leg.close(now);
        if let Some(Opened { session, .. }) = &mut self.session {
            session.send(now, ModelCommand::Close);
        }
    }

    /// Whether the session has nothing more to do.
    pub fn session_closed(&self) -> bool {
        self.session.as_ref().is_none_or(|opened| opened.session.is_closed())
    }

    fn settle(&mut self, now: Instant) {
        self.conversation.now = now;
        self.send_uplink(now);
        loop {
            self.conversation.settle();
            let Some(order) = self.conversation.orders.pop_front() else { return };
            match order {
                SessionOrder::Command(command) => {
                    if let Some(Opened { session, .. }) = &mut self.session {
                        session.send(now, command);
                    }
                }
                SessionOrder::Open { index, history, apologise } => {
                    self.open(now, index, history, apologise);
                }
            }
        }
    }

    fn send_uplink(&mut self, now: Instant) {
        let Conversation { leg, speech_written, held, .. } = &mut self.conversation;
        while let Some(frame) = leg.poll_uplink() {
            // Held: nothing goes up, so that for the model no time passes and nobody is asked whether they are still there.
            if let Some(Opened { session, input }) = &mut self.session
                && frame.format == *input
                && !*held
            {
                let sent = session.uplink_stats().frames_sent;
                session.send_audio(now, frame.audio);
                if frame.speech && session.uplink_stats().frames_sent > sent {
                    speech_written.push(frame.arrival);
                }
            }
        }
    }

    fn open(&mut self, now: Instant, index: usize, history: Vec<HistoryTurn>, apologise: bool) {
        if let Some(old) = &self.session {
            add_uplink(&mut self.ended_uplink, old.session.uplink_stats());
        }
        let opened = self.models.open(
            now,
            OpenSession {
                index,
                leg: self.conversation.leg.format(),
                history,
                apologise,
                first_item: ItemId(self.conversation.next_item),
            },
        );
        self.conversation.machine.set_model(opened.session.capabilities());
        self.conversation.leg.set_uplink(opened.input);
        self.session = Some(opened);
    }
}

impl CallCore {
    /// Takes a datagram from the RTP port.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), RtpError> {
        self.feed(now, |leg| leg.handle_rtp(now, source, datagram))
    }

    /// Takes a datagram from the RTCP port.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), RtpError> {
        self.feed(now, |leg| leg.handle_rtcp(now, source, datagram))
    }

    /// Takes what signalling negotiated.
    pub fn handle_media(&mut self, now: Instant, params: MediaParams) {
        self.feed(now, |leg| leg.apply(now, params));
    }

    /// The next datagram due at `now`.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit<'_>> {
        self.conversation.leg.poll_transmit(now)
    }
}

impl<L: MediaLeg> Conversation<L> {
    /// Carries events of the leg to the machine and orders of the machine to the leg until both are quiet.
    fn settle(&mut self) {
        loop {
            if let Some(event) = self.leg.poll_event() {
                self.handle_leg_event(event);
            } else if let Some(output) = self.machine.poll_output() {
                self.carry_out(output);
            } else {
                return;
            }
        }
    }

    fn handle_leg_event(&mut self, event: LegEvent) {
        let Some(event) = self.but_for_the_announcement(event) else { return };
        if let LegEvent::SpeechStopped { ago } = event
            && let Some((arrived, written)) = self.speech_written.last_until(self.now - ago)
        {
            self.machine.handle(self.now, Input::SpeechWritten { arrived, written });
        }
        let turn_ended =
            matches!(event, LegEvent::PlayoutDrained { .. } | LegEvent::PlayoutCleared { .. });
        self.machine.handle(self.now, Input::Leg(event));
        if turn_ended {
            self.annotate(|machine| annotations::transcript(&machine.conversation()));
        }
    }

    /// The peer holds us, or does not any more. True: for the machine nothing changes, for the caller hears the announcement.
    fn hold(&mut self, held: bool, now: Instant) -> bool {
        let announcing = self.is_announcing();
        if announcing && let Some(recording) = &mut self.recording {
            recording.hold(now, held, &mut self.leg);
        } else {
            self.held = held;
        }
        announcing
    }

    fn is_announcing(&self) -> bool {
        self.recording.as_ref().is_some_and(CallRecording::is_announcing)
    }

    /// The call was answered: records it. While the caller hears the announcement he is on hold for machine and model.
    fn announce(&mut self, now: Instant) {
        if let Some(recording) = &mut self.recording
            && recording.answered(now, &mut self.leg)
        {
            self.held = true;
            self.machine.handle(now, Input::Signal(SignalEvent::Held(true)));
        }
    }

    /// What of a leg's event is not about the announcement.
    fn but_for_the_announcement(&mut self, event: LegEvent) -> Option<LegEvent> {
        let Some(recording) = &mut self.recording else { return Some(event) };
        let (event, over) = recording.handle_leg(self.now, event, &mut self.leg);
        self.end_announcement(self.now, over);
        event
    }

    fn wait_for_announcement(&mut self, now: Instant) {
        let recording = self.recording.as_mut();
        let over = recording.and_then(|it| it.handle_timeout(now, &mut self.leg));
        self.end_announcement(now, over);
    }

    fn end_announcement(&mut self, now: Instant, over: Option<Announcement>) {
        if let Some(Announcement { held }) = over {
            self.held = held;
            self.machine.handle(now, Input::Signal(SignalEvent::Held(held)));
        }
    }

    /// Has signalling keep something of the call, where it can.
    fn annotate(&mut self, annotation: impl FnOnce(&CallMachine) -> SignalCommand) {
        if self.annotates {
            self.outputs.push_back(CoreOutput::Signal(annotation(&self.machine)));
        }
    }

    /// An order to signalling, what is to be known of the call by then before it.
    fn signal(&mut self, command: SignalCommand) {
        let ending = match &command {
            SignalCommand::HangUp { .. } | SignalCommand::Reject { .. } => {
                self.machine.end_reason()
            }
            SignalCommand::Transfer { .. } => Some(EndReason::Transferred),
            _ => None,
        };
        if let Some(reason) = ending {
            self.annotate(|it| annotations::outcome(reason, it.summary(), &it.conversation()));
        }
        self.outputs.push_back(CoreOutput::Signal(command));
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Leg(LegCommand::Play { item, prompt }) => {
                let prompts = Arc::clone(&self.prompts);
                let (format, audio) = prompts.get(prompt);
                self.play(item, format, audio);
                self.end_item(item);
            }
            Output::Leg(LegCommand::ClearPlayout) => self.clear(),
            // Not the announcement: he is to hear all of it.
            Output::Leg(LegCommand::Pause(_) | LegCommand::Duck(_)) if self.is_announcing() => {}
            Output::Leg(LegCommand::Pause(paused)) => self.leg.pause(self.now, paused),
            Output::Leg(LegCommand::Duck(ducked)) => self.leg.duck(self.now, ducked),
            Output::Model(command) => self.orders.push_back(SessionOrder::Command(command)),
            Output::OpenModel { index, history, apologise } => {
                self.orders.push_back(SessionOrder::Open { index, history, apologise });
            }
            Output::Signal(command) => self.signal(command),
            Output::Tool(Invocation { number, call, .. })
                if RECORDING_TOOLS.contains(&call.name.as_str()) =>
            {
                let pauses = call.name == PAUSE_RECORDING;
                self.machine.pause_transcript(self.now, pauses); // Also in a call that is not recorded.
                let outcome = match &mut self.recording {
                    Some(recording) => recording.pause(self.now, pauses),
                    None => not_recorded(pauses),
                };
                self.machine.handle(self.now, Input::Tool { number, report: outcome.into() });
            }
            Output::Tool(invocation) => self.outputs.push_back(CoreOutput::Tool(invocation)),
            Output::CancelTool(number) => self.outputs.push_back(CoreOutput::CancelTool(number)),
            Output::Ended(outcome) => self.outputs.push_back(CoreOutput::Ended(outcome)),
        }
    }

    /// Has the caller hear audio of `item`, behind the announcement while he hears that.
    fn play(&mut self, item: ItemId, format: AudioFormat, audio: &[u8]) {
        match self.recording.as_mut().and_then(CallRecording::speech_behind) {
            Some(waiting) => waiting.push(item, format, audio),
            None => self.leg.play(self.now, item, format, audio),
        }
    }

    fn end_item(&mut self, item: ItemId) {
        match self.recording.as_mut().and_then(CallRecording::speech_behind) {
            Some(waiting) => waiting.end_item(item),
            None => self.leg.end_item(self.now, item),
        }
    }

    /// Throws away all that was not heard, but for the announcement.
    fn clear(&mut self) {
        match self.recording.as_mut().and_then(CallRecording::speech_behind) {
            Some(waiting) => {
                let cut = waiting.clear();
                self.handle_leg_event(LegEvent::PlayoutCleared { cut });
            }
            None => self.leg.clear(self.now),
        }
    }

    fn end_speech(&mut self) {
        if let Some(item) = self.speaking.take() {
            self.end_item(item);
        }
    }
}

impl<L: MediaLeg> ModelSink for Conversation<L> {
    fn audio(&mut self, item: ItemId, format: AudioFormat, bytes: &[u8]) {
        if !self.machine.accepts_audio(item) {
            return; // Late audio of what was cut, or a turn that nobody is to hear any more.
        }
        if self.speaking != Some(item) {
            self.end_speech();
            self.speaking = Some(item);
        }
        self.next_item = self.next_item.max(item.0 + 1);
        self.play(item, format, bytes);
        self.machine.handle(
            self.now,
            Input::ModelAudio { item, duration: format.duration_of(bytes.len()) },
        );
        self.settle();
    }

    fn event(&mut self, event: ModelEvent) {
        match &event {
            ModelEvent::AgentText { item, .. } => self.next_item = self.next_item.max(item.0 + 1),
            ModelEvent::ResponseEnded(_) | ModelEvent::Lost(_) => self.end_speech(),
            _ => {}
        }
        self.machine.handle(self.now, Input::Model(event));
        self.settle();
    }
}

fn add_uplink(sum: &mut UplinkStats, stats: UplinkStats) {
    sum.frames_sent += stats.frames_sent;
    sum.frames_dropped += stats.frames_dropped;
    sum.waiting = stats.waiting;
}
