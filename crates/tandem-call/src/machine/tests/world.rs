//! One call with a leg that plays in real time on a virtual clock, and a model that the story speaks for.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_media::{AudioFormat, Law};

use crate::{
    AgentSpec, AgentTool, CallMachine, CallOutcome, Capabilities, Cut, EndReason, EndedBy,
    Greeting, HangupCause, Input, ItemId, LateResults, LegCommand, LegEvent, ModelCommand,
    ModelEvent, ModelFailure, Output, Patience, Prompt, Reaction, ResponseEnd, SignalCommand,
    SignalEvent, ToolCall, ToolCallId, ToolDeclaration, ToolOutcome, ToolReport, ToolTexts,
    TransferKind, TransferRoutes, TransferTarget,
};

/// How long each prompt lasts.
pub(super) const PROMPT: u64 = 1_000;

pub(super) const OPENAI: Capabilities = Capabilities {
    input: &[AudioFormat::G711(Law::Mu)],
    output: &[AudioFormat::G711(Law::Mu)],
    truncates: true,
    detects_turns: true,
    interrupts: true,
    turn_pause: Duration::from_millis(500),
    takes_digits: false,
    resumes: false,
    answers_results: true,
    session_limit: None,
};

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// An agent with two models, four tools and somebody to transfer to.
pub(super) fn agent() -> AgentSpec {
    let tool = |name: &str, required: &[&str]| {
        let declaration = ToolDeclaration {
            name: name.into(),
            description: String::new(),
            parameters: json!({ "type": "object", "required": required }),
        };
        AgentTool::new(declaration, ms(9_000))
    };
    AgentSpec {
        agent_id: "reception".into(),
        system_prompt: String::new(),
        language: "en".into(),
        voice: None,
        temperature: None,
        greeting: Greeting::Exactly("Hello.".into()),
        tools: vec![
            tool("find_repair", &["order"]),
            tool("opening_hours", &[]),
            tool("end_call", &["reason"]),
            tool("transfer_to_human", &["reason"]),
        ],
        tool_texts: ToolTexts::default(),
        phrases: Vec::new(),
        voicemail_message: None,
        late_results: LateResults::Discard,
        transfer: TransferRoutes {
            agent: Some(TransferTarget::new(TransferKind::Extension, "200")),
            ..TransferRoutes::default()
        },
        transfer_timeout: ms(30_000),
        end_call_drain: ms(2_000),
        end_call_cancel_on_speech: false,
        interruption: crate::Interruption::default(),
        max_silence: ms(60_000),
        max_duration: ms(600_000),
        transcription: true,
        models: vec!["first".into(), "second".into()],
    }
}

/// As [`agent`], stopped by whatever the leg takes for speech.
pub(super) fn at_the_first_sound() -> AgentSpec {
    let mut spec = agent();
    spec.interruption.sensitivity = 1.0;
    spec
}

#[derive(Debug, Default, Clone, Copy)]
struct Sound {
    heard: Duration,
    received: Duration,
}

pub(super) struct World {
    pub(super) machine: CallMachine,
    pub(super) start: Instant,
    pub(super) now: Instant,
    queue: VecDeque<(ItemId, Duration)>,
    playing: Option<ItemId>,
    sounds: BTreeMap<ItemId, Sound>,
    paused: bool,
    ducked: bool,
    drained: u64,
    /// Every output and when it came, in milliseconds of the story.
    pub(super) log: Vec<(u64, Output)>,
    /// Whether signalling does what it is told.
    pub(super) signalling: bool,
}

impl World {
    /// A call that has just come in.
    pub(super) fn ringing(spec: AgentSpec) -> Self {
        let start = crate::testing::beginning();
        let mut machine = CallMachine::new(start, spec, Patience::default());
        machine.set_model(&OPENAI);
        let mut world = Self {
            machine,
            start,
            now: start,
            queue: VecDeque::new(),
            playing: None,
            sounds: BTreeMap::new(),
            paused: false,
            ducked: false,
            drained: 0,
            log: Vec::new(),
            signalling: true,
        };
        world.obey();
        world
    }

    /// A call that was answered and greeted: the greeting, item 1, has been heard.
    pub(super) fn greeted(spec: AgentSpec) -> Self {
        let mut world = Self::ringing(spec);
        world.model(ModelEvent::Ready);
        world.answer(1, 1_000);
        world.run(1_200);
        world.log.clear();
        world
    }

    /// As [`World::greeted`], with a model that cannot do what `change` takes from it.
    pub(super) fn greeted_by(spec: AgentSpec, change: impl FnOnce(&mut Capabilities)) -> Self {
        let mut world = Self::greeted(spec);
        let mut capabilities = OPENAI.clone();
        change(&mut capabilities);
        world.machine.set_model(&capabilities);
        world
    }

    pub(super) fn input(&mut self, input: Input) {
        self.machine.handle(self.now, input);
        self.obey();
    }

    pub(super) fn model(&mut self, event: ModelEvent) {
        self.input(Input::Model(event));
    }

    pub(super) fn signal(&mut self, event: SignalEvent) {
        self.input(Input::Signal(event));
    }

    /// The model says `text` in `item` and sends `duration` of audio at once.
    pub(super) fn speak(&mut self, item: u64, duration: u64, text: &str) {
        self.model(ModelEvent::AgentText { item: ItemId(item), text: text.into() });
        self.audio(item, duration);
    }

    /// Audio of `item`, if it is wanted.
    pub(super) fn audio(&mut self, item: u64, duration: u64) {
        let (item, duration) = (ItemId(item), ms(duration));
        if self.machine.accepts_audio(item) {
            self.push(item, duration);
            self.input(Input::ModelAudio { item, duration });
        }
    }

    /// A whole answer in one burst.
    pub(super) fn answer(&mut self, item: u64, duration: u64) {
        self.model(ModelEvent::ResponseStarted);
        self.audio(item, duration);
        self.model(ModelEvent::ResponseEnded(ResponseEnd::Completed));
    }

    /// The caller speaks for `duration`, as the leg hears it.
    pub(super) fn caller_speaks(&mut self, duration: u64) {
        self.input(Input::Leg(LegEvent::SpeechStarted));
        self.run(duration);
        let arrived = self.now;
        self.run(40);
        self.input(Input::Leg(LegEvent::SpeechPaused { ago: ms(40) }));
        self.run(160);
        self.input(Input::Leg(LegEvent::SpeechStopped { ago: ms(200) }));
        self.input(Input::SpeechWritten { arrived, written: arrived + ms(1) });
    }

    pub(super) fn call_tool(&mut self, id: &str, name: &str, arguments: Value) {
        self.model(ModelEvent::ToolCall(ToolCall {
            id: ToolCallId(id.into()),
            name: name.into(),
            arguments: Ok(arguments),
        }));
    }

    /// The tool call that the model knows as `id` comes out; nothing happens when it was never carried out.
    pub(super) fn tool_comes_out(&mut self, id: &str, outcome: ToolOutcome) {
        self.tool_reports(id, outcome.into());
    }

    /// What the executor says of the last such call.
    pub(super) fn tool_reports(&mut self, id: &str, report: ToolReport) {
        let number = self.log.iter().rev().find_map(|(_, output)| match output {
            Output::Tool(invocation) if invocation.call.id.0 == id => Some(invocation.number),
            _ => None,
        });
        if let Some(number) = number {
            self.input(Input::Tool { number, report });
        }
    }

    pub(super) fn lose_model(&mut self, reaction: Reaction) {
        self.model(ModelEvent::Lost(ModelFailure { reaction, reason: "1011 gone".into() }));
    }

    /// Lets `millis` pass; the leg plays and the machine's timers run out meanwhile.
    pub(super) fn run(&mut self, millis: u64) {
        let end = self.now + ms(millis);
        loop {
            let played = match self.queue.front() {
                Some((_, left)) if !self.is_still() => Some(self.now + *left),
                _ => None,
            };
            let due = self.machine.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "a timer in the past");
            let next = [played, due].into_iter().flatten().min().filter(|next| *next <= end);
            self.pass(next.unwrap_or(end));
            if next.is_none() {
                return;
            }
            self.machine.handle_timeout(self.now);
            self.obey();
        }
    }

    /// Lets time pass until the call is over, an hour at most.
    pub(super) fn outcome(&mut self) -> CallOutcome {
        self.run(3_600_000);
        let [.., (_, Output::Ended(outcome))] = self.log.as_slice() else {
            panic!("the call is not over: {:?}", self.log);
        };
        CallOutcome::clone(outcome)
    }

    /// Why and by whom the call was ended.
    pub(super) fn end(&mut self) -> (EndReason, EndedBy, HangupCause) {
        let outcome = self.outcome();
        (outcome.end_reason, outcome.ended_by, outcome.cause)
    }

    /// What the model was told, and when.
    pub(super) fn told(&self) -> Vec<(u64, &ModelCommand)> {
        let commands = self.log.iter().filter_map(|(at, output)| match output {
            Output::Model(command) => Some((*at, command)),
            _ => None,
        });
        commands.collect()
    }

    /// The texts the model was asked to react to.
    pub(super) fn said(&self) -> Vec<(u64, &str)> {
        let said = self.told().into_iter().filter_map(|(at, command)| match command {
            ModelCommand::Say(text) => Some((at, text.as_str())),
            _ => None,
        });
        said.collect()
    }

    /// The results the model got.
    pub(super) fn results(&self) -> Vec<(u64, &str, &ToolOutcome)> {
        let results = self.told().into_iter().filter_map(|(at, command)| match command {
            ModelCommand::ToolResult { id, outcome } => Some((at, id.0.as_str(), outcome)),
            _ => None,
        });
        results.collect()
    }

    /// The prompts that were played, and when.
    pub(super) fn prompts(&self) -> Vec<(u64, Prompt)> {
        let prompts = self.log.iter().filter_map(|(at, output)| match output {
            Output::Leg(LegCommand::Play { prompt, .. }) => Some((*at, *prompt)),
            _ => None,
        });
        prompts.collect()
    }

    /// When `output` came.
    pub(super) fn times(&self, wanted: impl Fn(&Output) -> bool) -> Vec<u64> {
        self.log.iter().filter(|(_, output)| wanted(output)).map(|(at, _)| *at).collect()
    }

    /// When the last sample of the agent was played.
    pub(super) fn last_drained(&self) -> u64 {
        self.drained
    }

    /// When playout was cleared.
    pub(super) fn clears(&self) -> Vec<u64> {
        self.times(|output| *output == Output::Leg(LegCommand::ClearPlayout))
    }

    /// When the agent fell silent, and when it went on.
    pub(super) fn ducks(&self) -> Vec<(u64, bool)> {
        let ducks = self.log.iter().filter_map(|(at, output)| match output {
            Output::Leg(LegCommand::Duck(ducked)) => Some((*at, *ducked)),
            _ => None,
        });
        ducks.collect()
    }

    /// When the call was hung up.
    pub(super) fn hang_ups(&self) -> Vec<u64> {
        self.times(|output| matches!(output, Output::Signal(SignalCommand::HangUp { .. })))
    }

    /// The models that were opened: when, which, and whether to apologise.
    pub(super) fn opened(&self) -> Vec<(u64, usize, bool)> {
        let opened = self.log.iter().filter_map(|(at, output)| match output {
            Output::OpenModel { index, apologise, .. } => Some((*at, *index, *apologise)),
            _ => None,
        });
        opened.collect()
    }

    /// Milliseconds of the story.
    pub(super) fn clock(&self) -> u64 {
        self.now.duration_since(self.start).as_millis() as u64
    }

    fn push(&mut self, item: ItemId, duration: Duration) {
        self.sounds.entry(item).or_default().received += duration;
        match self.queue.back_mut() {
            Some((last, left)) if *last == item => *left += duration,
            _ => self.queue.push_back((item, duration)),
        }
    }

    /// Plays until `next`.
    fn pass(&mut self, next: Instant) {
        let span = next - self.now;
        self.now = next;
        let still = self.is_still();
        let Some((item, left)) = self.queue.front_mut().filter(|_| !still) else { return };
        let item = *item;
        *left -= span;
        let over = left.is_zero();
        self.sounds.entry(item).or_default().heard += span;
        if over {
            self.queue.pop_front();
            self.playing = None;
            self.drained = self.clock();
            self.input(Input::Leg(LegEvent::PlayoutDrained { item }));
        }
        self.start_playing();
    }

    fn start_playing(&mut self) {
        let Some((item, _)) = self.queue.front().copied().filter(|_| !self.is_still()) else {
            return;
        };
        if self.playing != Some(item) {
            self.playing = Some(item);
            self.input(Input::Leg(LegEvent::PlayoutStarted { item }));
        }
    }

    /// Nothing of the agent is played.
    pub(super) fn is_still(&self) -> bool {
        self.paused || self.ducked
    }

    fn clear(&mut self) {
        self.playing = None;
        self.ducked = false;
        let items: Vec<_> = self.queue.drain(..).map(|(item, _)| item).collect();
        let cut = items.into_iter().map(|item| {
            let Sound { heard, received } = self.sounds[&item];
            Cut { item, heard, received }
        });
        let cut = cut.collect();
        self.input(Input::Leg(LegEvent::PlayoutCleared { cut }));
    }

    /// Does what the machine orders.
    fn obey(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            self.log.push((self.clock(), output.clone()));
            match output {
                Output::Leg(LegCommand::ClearPlayout) => self.clear(),
                Output::Leg(LegCommand::Play { item, .. }) => self.push(item, ms(PROMPT)),
                Output::Leg(LegCommand::Pause(paused)) => self.paused = paused,
                Output::Leg(LegCommand::Duck(ducked)) => {
                    assert_ne!(ducked, self.ducked, "ducked twice");
                    self.ducked = ducked;
                }
                Output::Signal(SignalCommand::Answer) if self.signalling => {
                    self.signal(SignalEvent::Answered);
                }
                Output::Signal(
                    SignalCommand::HangUp { cause } | SignalCommand::Reject { cause },
                ) if self.signalling => {
                    self.signal(SignalEvent::HungUp { cause });
                }
                _ => {}
            }
        }
        self.start_playing();
    }
}
