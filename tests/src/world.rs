//! A call and everybody around it, 20 ms a step.

use std::{
    collections::BTreeMap,
    future::poll_fn,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use tandem_attendant::Voice;
use tandem_call::{
    CallOutcome, Digit, HangupCause, Input, Invocation, SignalCommand, SignalEvent, ToolReport,
    TransferOutcome, UplinkStats,
};
use tandem_exchange::{CallCore, CoreConfig, CoreOutput, Prompts, VendorModels};
use tandem_media::{AudioFormat, Codec, Law, Ptime};
use tandem_rtp::{Channel, Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};
use tandem_sim::FakeHandle;
use tokio::runtime::Runtime;

use crate::{
    Caller, Ear, FakeModel, FakeModels, Finished, SharedTap, Sound, ToolPlay, WorldConfig,
    caller::TELEPHONE_EVENT,
    config::TransferScript,
    server::{Awaited, Server},
    tap::DialState,
};

/// A step of virtual time.
const FRAME: Duration = Duration::from_millis(20);

/// A socket that is not quiet after this much real time never will be: a guard, not a pace.
const HUNG: Duration = Duration::from_secs(60);

/// How long the phone may ring.
const RINGS: Duration = Duration::from_secs(12);

/// A call and everybody around it.
pub struct World {
    core: CallCore,
    runtime: Rc<Runtime>,
    servers: Vec<Server>,
    tap: SharedTap,
    /// The present.
    pub now: Instant,
    /// The INVITE.
    pub began: Instant,
    /// The answer.
    pub answered: Option<Instant>,
    /// What the caller hears.
    pub ear: Ear,
    /// Keep nothing of what is heard, for long calls.
    pub keeps_no_audio: bool,
    caller: Caller,
    telephone_event: Option<u8>,
    tools: Vec<ToolPlay>,
    running_tools: Vec<(Instant, u32, ToolReport)>,
    /// Every tool call that came out of the machine.
    pub tool_calls: Vec<(Instant, Invocation)>,
    /// Tools nobody waits for any more, by number.
    pub cancelled_tools: Vec<u32>,
    transfers: Vec<TransferScript>,
    transferring: Option<(Instant, TransferOutcome)>,
    /// Every order to signalling.
    pub signals: Vec<(Instant, SignalCommand)>,
    outcome: Option<Box<CallOutcome>>,
    ended: Option<Instant>,
    peer: SocketAddr,
    held: Duration,
    on_hold: bool,
}

impl World {
    /// A call that comes in now.
    pub fn new(config: WorldConfig) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let now = Instant::now();
        let tap = SharedTap::default();
        tap.borrow_mut().now = Some(now);
        let mut servers = Vec::new();
        let mut chain = Vec::new();
        for server in &config.servers {
            let (server, settings) = runtime.block_on(Server::start(server.as_ref(), &config));
            servers.push(server);
            chain.push(FakeModel {
                settings: Arc::new(settings),
                pcm: config.pcm,
                unix_now: config.unix_now,
                history: if chain.is_empty() { config.history.clone() } else { Vec::new() },
            });
        }
        let voice = Voice::tone(Duration::from_millis(30));
        let attendant = VendorModels {
            chain: Vec::new(),
            agent: config.agent.clone(),
            script: Arc::new(config.script),
            voice: voice.clone(),
            variables: BTreeMap::new(),
        };
        let models =
            FakeModels { chain, agent: config.agent.clone(), attendant, tap: Rc::clone(&tap) };
        let leg = LegConfig {
            ssrc: 7,
            first_sequence: 1,
            first_timestamp: 0,
            cname: "test".into(),
            codec: Codec::PCMU,
            uplink: AudioFormat::G711(Law::Mu),
            media_timeout: Duration::from_secs(60),
            seed: 1,
        };
        let core = CallCore::new(
            now,
            CoreConfig {
                agent: config.agent,
                patience: config.patience,
                leg: RtpLeg::new(now, config.unix_now, leg),
                models: Box::new(models),
                prompts: Arc::new(Prompts::with_phrases(&voice, config.phrases)),
                annotates: false,
            },
        );
        let mut world = Self {
            core,
            runtime: Rc::new(runtime),
            servers,
            tap,
            now,
            began: now,
            answered: None,
            ear: Ear::default(),
            keeps_no_audio: false,
            caller: Caller::default(),
            telephone_event: config.telephone_event.then_some(TELEPHONE_EVENT),
            tools: [config.plays, config.tools.iter().map(ToolPlay::from).collect()].concat(),
            running_tools: Vec::new(),
            tool_calls: Vec::new(),
            cancelled_tools: Vec::new(),
            transfers: config.transfers,
            transferring: None,
            signals: Vec::new(),
            outcome: None,
            ended: None,
            peer: SocketAddr::from(([127, 0, 0, 1], 4_000)),
            held: Duration::ZERO,
            on_hold: false,
        };
        world.settle();
        world
    }

    /// What passed between the sessions and the models.
    pub fn tap(&self) -> &SharedTap {
        &self.tap
    }

    /// A view of the fake model at `index`.
    pub fn model(&self, index: usize) -> &FakeHandle {
        self.servers[index].handle.as_ref().expect("a server runs there")
    }

    /// Ends the process of the fake model at `index`, so to speak: its connections break and nothing listens any more.
    pub fn kill_model(&mut self, index: usize) {
        self.servers[index].running = None;
    }

    /// From now on nobody waits until the fake model at `index` has read what was sent.
    pub fn ignore_model(&mut self, index: usize) {
        self.servers[index].deaf = true;
    }

    /// Whether the call is over.
    pub fn is_over(&self) -> bool {
        self.outcome.is_some()
    }

    /// Counters of the way up.
    pub fn uplink_stats(&self) -> UplinkStats {
        self.core.uplink_stats()
    }

    /// Rings until the call is answered, or over.
    pub fn ring(&mut self) {
        let until = self.now + RINGS;
        while self.answered.is_none() && self.outcome.is_none() {
            assert!(self.now < until, "the call is not answered\n{}", self.story());
            self.step(Sound::Nothing);
        }
    }

    /// The caller listens.
    pub fn silence(&mut self, ms: u64) {
        self.run(ms, Sound::Silence);
    }

    /// The caller speaks.
    pub fn speech(&mut self, ms: u64) {
        self.run(ms, Sound::Speech);
    }

    /// The caller speaks and listens for `ms` afterwards, the half second that ends the turn included.
    pub fn utterance(&mut self, ms: u64) {
        self.speech(1_000);
        self.silence(ms);
    }

    /// Lets `ms` pass with `sound`, or less if the call ends.
    pub fn run(&mut self, ms: u64, sound: Sound) {
        for _ in 0..ms / 20 {
            if self.outcome.is_some() {
                return;
            }
            self.step(sound);
        }
    }

    /// Lets time pass until `reached`, at most `ms`; whether it was reached.
    pub fn run_until(&mut self, ms: u64, sound: Sound, reached: impl Fn(&Self) -> bool) -> bool {
        for _ in 0..ms / 20 {
            if reached(self) {
                return true;
            }
            self.step(sound);
        }
        reached(self)
    }

    /// Presses `digits`, 100 ms each with 100 ms between, with the end of each sent three times; as tones where telephone-event
    /// is not agreed.
    pub fn press(&mut self, digits: &str) {
        for digit in digits.chars().map(|c| Digit::new(c).expect("a digit")) {
            if self.telephone_event.is_none() {
                self.run(100, Sound::Tone { digit });
                self.silence(100);
                continue;
            }
            for (packet, end) in
                [(0, false), (1, false), (2, false), (3, false), (4, true), (4, true), (4, true)]
            {
                self.step(Sound::Digit { digit, packet, end });
            }
            self.silence(100);
        }
    }

    /// The caller hangs up, or cancels while the phone rings.
    pub fn hang_up(&mut self) {
        let event = if self.answered.is_some() {
            SignalEvent::HungUp { cause: HangupCause::NormalClearing }
        } else {
            SignalEvent::Cancelled
        };
        self.signal(event);
    }

    /// The caller's side puts us on hold with nothing sent either way, or takes us back.
    pub fn hold(&mut self, held: bool) {
        let direction = if held { Direction::Inactive } else { Direction::SendRecv };
        self.core.handle_media(self.now, self.media(direction));
        self.on_hold = held;
        self.signal(SignalEvent::Held(held));
    }

    /// Signalling reports.
    pub fn signal(&mut self, event: SignalEvent) {
        self.core.handle_signal(self.now, event);
        self.settle();
    }

    /// The machine is told something else.
    pub fn input(&mut self, input: Input) {
        self.core.handle_input(self.now, input);
        self.settle();
    }

    /// Lets 20 ms pass.
    pub fn step(&mut self, sound: Sound) {
        self.now += FRAME;
        self.tap.borrow_mut().now = Some(self.now);
        if self.on_hold {
            self.held += FRAME;
        }
        self.core.handle_timeout(self.now);
        if let Some(datagram) = self.caller.packet(sound) {
            // Before the answer and on hold it is refused, as it should be.
            let taken = self.core.handle_rtp(self.now, self.peer, &datagram);
            assert!(taken.is_ok() || self.answered.is_none() || self.on_hold, "{taken:?}");
        }
        self.run_tools();
        self.end_transfer();
        self.settle();
    }

    /// Closes what is left of the call and gives everything that is known of it.
    pub fn finish(mut self) -> Finished {
        let story = self.story();
        let ended = self.ended.unwrap_or_else(|| panic!("the call is not over\n{story}"));
        self.core.close(self.now);
        self.settle();
        for _ in 0..50 {
            if self.core.session_closed() {
                break;
            }
            self.step(Sound::Nothing);
        }
        let closed = self.core.session_closed().then(|| self.now - ended);
        let uplink = self.core.uplink_stats();
        let quality = self.core.quality();
        let outcome =
            *self.outcome.take().unwrap_or_else(|| panic!("the call is not over\n{story}"));
        let Self { core, runtime, servers, tap, ear, .. } = self;
        drop(core);
        let mut models = Vec::new();
        for server in servers {
            let Some(handle) = server.handle else {
                models.push(None);
                continue;
            };
            let alive = server.running.is_some() && !server.deaf;
            let connections = if alive { handle.connections() } else { 0 };
            let wait = async {
                for index in 0..connections {
                    handle.ended(index).await;
                }
            };
            let guarded = runtime.block_on(async { tokio::time::timeout(HUNG, wait).await });
            assert!(guarded.is_ok(), "a connection is left\n{story}");
            models.push(Some(handle));
        }
        Finished {
            outcome,
            ear,
            tap,
            models,
            uplink,
            quality,
            story,
            signals: self.signals,
            tool_calls: self.tool_calls,
            cancelled_tools: self.cancelled_tools,
            began: self.began,
            answered: self.answered,
            ended,
            held: self.held,
            closed,
        }
    }

    /// What happened so far, for a failed test.
    pub fn story(&self) -> String {
        let zero = self.answered.unwrap_or(self.began);
        let mut lines = self.ear.story(zero);
        lines.extend(self.tap.borrow().story(zero));
        lines.extend(self.signals.iter().map(|(at, signal)| (*at, format!("signal {signal:?}"))));
        lines.sort_by_key(|(at, _)| *at);
        let mut story: Vec<String> = Vec::new();
        for (at, line) in lines {
            let before = if at < zero { "-" } else { "" };
            let ms = if at < zero { zero - at } else { at - zero }.as_millis();
            story.push(format!("{before}{ms:>6} ms  {line}"));
        }
        story.join("\n")
    }

    fn media(&self, direction: Direction) -> MediaParams {
        MediaParams {
            remote_rtp: self.peer,
            remote_rtcp: self.peer,
            rtcp_mux: true,
            codec: Codec::PCMU,
            payload_type: 0,
            opus: tandem_media::OpusParams::DEFAULT,
            telephone_event: self.telephone_event,
            telephone_event_hz: 8_000,
            comfort_noise: Some(13),
            ptime: Ptime::MS20,
            direction,
            latching: Latching::Off,
        }
    }

    fn run_tools(&mut self) {
        while let Some(index) = self.running_tools.iter().position(|(due, ..)| *due <= self.now) {
            let (_, number, report) = self.running_tools.remove(index);
            self.core.handle_tool(self.now, number, report);
        }
    }

    fn end_transfer(&mut self) {
        if let Some((_, outcome)) = self.transferring.take_if(|(due, _)| *due <= self.now) {
            let completed = outcome == TransferOutcome::Completed;
            self.core.handle_signal(self.now, SignalEvent::Transfer(outcome));
            if completed {
                let cause = HangupCause::NormalClearing;
                self.core.handle_signal(self.now, SignalEvent::HungUp { cause });
            }
        }
    }

    fn carry_out(&mut self, output: CoreOutput) {
        match output {
            CoreOutput::Signal(command) => {
                self.signalling(&command);
                self.signals.push((self.now, command));
            }
            CoreOutput::Tool(invocation) => {
                let number = invocation.number;
                let play = self.tools.iter().find(|tool| tool.name == invocation.call.name);
                let reports = play.into_iter().flat_map(|play| &play.reports);
                let due =
                    reports.map(|(takes, report)| (self.now + *takes, number, report.clone()));
                self.running_tools.extend(due);
                self.tool_calls.push((self.now, invocation));
            }
            CoreOutput::CancelTool(number) => {
                self.cancelled_tools.push(number);
                self.running_tools.retain(|(_, running, _)| *running != number);
            }
            CoreOutput::Ended(outcome) => {
                assert!(self.outcome.is_none(), "the call ends once");
                self.outcome = Some(outcome);
                self.ended = Some(self.now);
            }
        }
    }

    fn signalling(&mut self, command: &SignalCommand) {
        match command {
            SignalCommand::Answer => {
                self.answered = Some(self.now);
                self.core.handle_media(self.now, self.media(Direction::SendRecv));
                self.core.handle_signal(self.now, SignalEvent::Answered);
            }
            SignalCommand::Reject { cause } | SignalCommand::HangUp { cause } => {
                self.core.handle_signal(self.now, SignalEvent::HungUp { cause: *cause });
            }
            SignalCommand::Annotate { .. } | SignalCommand::BreakPlayback => {}
            SignalCommand::Transfer { .. } => {
                if !self.transfers.is_empty() {
                    let TransferScript { after, outcome } = self.transfers.remove(0);
                    self.transferring = Some((self.now + after, outcome));
                }
            }
        }
    }

    /// Lets everything that was said at this instant arrive on both sides of the socket, and what follows from it, and
    /// sends what is due to the caller.
    fn settle(&mut self) {
        loop {
            self.hear_each_other();
            self.core.note_written(self.now);
            if !self.transmit() {
                return;
            }
        }
    }

    /// Sends what is due to the caller. True when there was something.
    fn transmit(&mut self) -> bool {
        let mut sent = false;
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            sent = true;
            if transmit.channel == Channel::Rtp
                && !self.keeps_no_audio
                && let Ok(packet) = RtpPacket::parse(transmit.bytes)
                && packet.payload_type == 0
            {
                self.ear.hear(self.now, packet.payload);
            }
        }
        self.core.after_transmit(self.now);
        sent
    }

    fn hear_each_other(&mut self) {
        let runtime = Rc::clone(&self.runtime);
        let quiet = runtime.block_on(async { tokio::time::timeout(HUNG, self.quiet()).await });
        if quiet.is_err() {
            let dials = self.tap.borrow().dials.clone();
            panic!("the socket does not become quiet: {dials:?}\n{}", self.story());
        }
    }

    async fn quiet(&mut self) {
        let mut quiet_turns = 0;
        while quiet_turns < 2 {
            if self.drive().await {
                quiet_turns = 0;
            }
            match self.awaited() {
                Awaited::Nothing if self.is_offline() => return,
                Awaited::Nothing => {
                    quiet_turns += 1;
                    tokio::task::yield_now().await;
                }
                Awaited::Client => {
                    quiet_turns = 0;
                    self.session_moves().await;
                }
                Awaited::Connection { model, count } => {
                    quiet_turns = 0;
                    let handle = self.model(model).clone();
                    tokio::select! {
                        () = handle.connected(count) => {}
                        () = self.session_moves() => {}
                    }
                }
                Awaited::Server { model, connection, received } => {
                    quiet_turns = 0;
                    let handle = self.model(model).clone();
                    tokio::select! {
                        _ = handle.answered(connection, received) => {}
                        () = self.session_moves() => {}
                    }
                }
            }
        }
    }

    /// Polls the session until it has nothing more to do. True when something was done.
    async fn drive(&mut self) -> bool {
        let now = self.now;
        let mut moved = false;
        poll_fn(|cx| {
            while self.core.poll_session(cx, now) {
                moved = true;
            }
            Poll::Ready(())
        })
        .await;
        while let Some(output) = self.core.poll_output() {
            moved = true;
            self.carry_out(output);
        }
        moved
    }

    /// Waits until the session has done something.
    async fn session_moves(&mut self) {
        let now = self.now;
        poll_fn(|cx| if self.core.poll_session(cx, now) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    /// No connection stands or is to stand.
    fn is_offline(&self) -> bool {
        let tap = self.tap.borrow();
        tap.undialled == 0 && tap.dials.iter().all(|dial| dial.state == DialState::Over)
    }

    /// Who still has something to do at this instant.
    fn awaited(&self) -> Awaited {
        let tap = self.tap.borrow();
        let mut dialled = vec![0; self.servers.len()];
        for dial in &tap.dials {
            let connection = dialled[dial.model];
            dialled[dial.model] += 1;
            let awaited = self.servers[dial.model].awaited(dial, connection);
            if !matches!(awaited, Awaited::Nothing) {
                return awaited;
            }
        }
        let deaf = self.servers.iter().any(|server| server.deaf);
        if tap.undialled > 0 && !deaf { Awaited::Client } else { Awaited::Nothing }
    }
}
