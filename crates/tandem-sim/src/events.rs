//! Random lives of calls: any events in any order, on a leg that does what a leg does.
//!
//! Every choice is a byte, from a seed or from a fuzzer, so each life can be lived again. The [`Reference`] watches.

mod agent;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_call::{
    CallMachine, CallOutcome, Capabilities, Cut, Digit, EndReason, FollowUp, HangupCause, Input,
    ItemId, LegCommand, LegEvent, ModelCommand, ModelEvent, ModelFailure, Output, Patience, Prompt,
    Reaction, ResponseEnd, SignalCommand, SignalEvent, ToolCall, ToolCallId, ToolOutcome,
    ToolReport, TransferKind, TransferOutcome, TransferTarget, Usage, Verdict,
};
use tandem_media::{AudioFormat, Law, SampleRate};

#[cfg(test)]
pub(crate) use self::agent::test_agent;
use self::agent::{SPEC_BYTES, agent};
use crate::reference::{Reference, Step, Stimulus, Violation};

/// How long each prompt lasts.
const PROMPT: Duration = Duration::from_millis(1_200);

/// Steps a call may take to end when nothing happens to it any more.
const LONGEST_REST: usize = 20_000;

/// What came of a call's life.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    /// How it ended.
    pub outcome: CallOutcome,
    /// How often each kind of order was given.
    pub orders: BTreeMap<&'static str, usize>,
}

/// Lives the call that `bytes` describe; the fuzz target of the machine.
///
/// # Panics
///
/// When the call breaks a rule of the [`Reference`].
pub fn run_events(bytes: &[u8]) {
    if let Err(violation) = live(bytes) {
        panic!("{violation}");
    }
}

/// Lives the call of `seed`, with up to `events` events.
pub fn live_seeded(seed: u64, events: usize) -> Result<Life, Violation> {
    let mut random = fastrand::Rng::with_seed(seed);
    let length = random.usize(..=events * 3) + SPEC_BYTES;
    let bytes: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
    live(&bytes)
}

/// Lives the call that `bytes` describe and gives what came of it, or the rule it broke.
pub fn live(bytes: &[u8]) -> Result<Life, Violation> {
    let mut choices = Choices(bytes);
    let mut call = Call::new(&mut choices);
    call.step(&Stimulus::New)?;
    while let Some(event) = choices.next() {
        if call.machine.is_ended() {
            break;
        }
        call.event(event, &mut choices)?;
    }
    call.rest()?;
    call.reference.finish()?;
    let outcome = call.outcome.ok_or_else(|| Violation("no outcome".into()))?;
    Ok(Life { outcome, orders: call.orders })
}

/// What is to happen, byte by byte.
struct Choices<'a>(&'a [u8]);

impl Choices<'_> {
    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte, or 0 when there is none.
    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    fn flag(&mut self) -> bool {
        self.byte() % 2 == 1
    }

    fn pick<T: Copy, const N: usize>(&mut self, of: [T; N]) -> T {
        of[usize::from(self.byte()) % N]
    }

    fn millis<const N: usize>(&mut self, of: [u64; N]) -> Duration {
        Duration::from_millis(self.pick(of))
    }
}

/// A call, its leg, and what is known of its model.
struct Call {
    machine: CallMachine,
    reference: Reference,
    now: Instant,
    queue: VecDeque<(ItemId, Duration)>,
    sounds: BTreeMap<ItemId, (Duration, Duration)>,
    playing: Option<ItemId>,
    paused: bool,
    ducked: bool,
    /// Signalling does what it is told.
    obedient: bool,
    /// Events no peer of ours would send come too.
    absurd: bool,
    next_item: u64,
    next_tool: u64,
    running: BTreeSet<u32>,
    latest: u32,
    reactions: VecDeque<Input>,
    outputs: Vec<Output>,
    outcome: Option<CallOutcome>,
    orders: BTreeMap<&'static str, usize>,
}

impl Call {
    fn new(choices: &mut Choices<'_>) -> Self {
        let now = Instant::now();
        let (spec, flags) = agent(choices);
        let capabilities = Capabilities {
            input: &[AudioFormat::G711(Law::Mu)],
            output: &[AudioFormat::Pcm16(SampleRate::Hz24000)],
            truncates: flags & 1 != 0,
            detects_turns: flags & 6 != 0,
            interrupts: flags & 10 != 10,
            turn_pause: Duration::from_millis(if flags & 16 == 0 { 500 } else { 1_200 }),
            takes_digits: flags & 8 != 0,
            resumes: false,
            answers_results: true,
            session_limit: None,
        };
        let reference = Reference::new(spec.clone(), &capabilities);
        let mut machine = CallMachine::new(now, spec, Patience::default());
        machine.set_model(&capabilities);
        Self {
            machine,
            reference,
            now,
            queue: VecDeque::new(),
            sounds: BTreeMap::new(),
            playing: None,
            paused: false,
            ducked: false,
            obedient: flags & 176 != 0,
            absurd: flags & 64 != 0,
            next_item: 0,
            next_tool: 0,
            running: BTreeSet::new(),
            latest: 0,
            reactions: VecDeque::new(),
            outputs: Vec::new(),
            outcome: None,
            orders: BTreeMap::new(),
        }
    }

    /// One event by the byte that chose it.
    fn event(&mut self, event: u8, choices: &mut Choices<'_>) -> Result<(), Violation> {
        let input = match event {
            0..=69 => {
                let span = choices.millis([1, 20, 60, 200, 600, 1_600, 3_000, 9_000]);
                return self.pass(span);
            }
            70..=84 => Input::Model(ModelEvent::Ready),
            85..=99 => Input::Model(ModelEvent::ResponseStarted),
            100..=124 => return self.model_audio(choices),
            125..=136 => Input::Model(ModelEvent::ResponseEnded(match choices.byte() % 6 {
                0..=2 => ResponseEnd::Completed,
                3 => ResponseEnd::Cancelled,
                4 => ResponseEnd::Incomplete("max_output_tokens".into()),
                _ => ResponseEnd::Failed("server_error".into()),
            })),
            137..=148 => Input::Model(ModelEvent::SpeechStarted),
            149..=154 => Input::Model(ModelEvent::SpeechStopped),
            155..=163 => Input::Leg(LegEvent::SpeechStarted),
            164..=167 => Input::Leg(LegEvent::SpeechPaused { ago: choices.millis([0, 40, 60]) }),
            168..=169 => Input::Leg(LegEvent::SpeechResumed),
            170..=174 => return self.caller_stops(choices),
            175..=190 => Input::Model(ModelEvent::ToolCall(self.tool_call(choices))),
            191..=198 => self.tool_report(choices),
            199..=201 => Input::Model(ModelEvent::ToolCancelled(self.some_tool(choices))),
            202..=208 => Input::Model(ModelEvent::Lost(ModelFailure {
                reaction: if choices.flag() {
                    Reaction::Retry { after: choices.millis([0, 300, 2_000, 30_000]) }
                } else {
                    Reaction::GiveUp
                },
                reason: "1011 Internal error encountered.".into(),
            })),
            209..=212 => {
                Input::Model(ModelEvent::ExpiresIn(choices.millis([0, 500, 10_000, 60_000])))
            }
            213..=217 => Input::Model(ModelEvent::CallerText {
                text: choices.pick([" well, you know", "Uh-huh."]).into(),
                last: choices.flag(),
            }),
            218..=222 => Input::Model(ModelEvent::AgentText {
                item: ItemId(self.next_item),
                text: "Let me see. ".into(),
            }),
            223..=224 => Input::Model(ModelEvent::Usage(Usage {
                input_tokens: u64::from(choices.byte()) << 56,
                ..Usage::default()
            })),
            225..=230 => {
                let digit = Digit::from_event(choices.byte() % 12).expect("0 to 11 are digits");
                if choices.flag() {
                    Input::Leg(LegEvent::Digit(digit))
                } else {
                    Input::Signal(SignalEvent::Digit(digit))
                }
            }
            231..=236 => Input::Signal(SignalEvent::Held(choices.flag())),
            237..=244 => Input::Signal(SignalEvent::Transfer(match choices.byte() % 3 {
                0 => TransferOutcome::Completed,
                1 => TransferOutcome::Failed { status: Some(486), reason: "busy".into() },
                _ => TransferOutcome::Failed { status: None, reason: "gone".into() },
            })),
            245..=250 => match choices.byte() % 32 {
                0 => Input::Leg(LegEvent::MediaTimeout),
                1 => Input::Drain,
                2 => Input::Kill { reason: EndReason::Failed },
                3 => Input::Signal(SignalEvent::HungUp { cause: HangupCause::NormalClearing }),
                4 => Input::Signal(SignalEvent::Cancelled),
                5 => {
                    Input::Signal(SignalEvent::HungUp { cause: HangupCause::RecoveryOnTimerExpire })
                }
                _ => Input::Model(ModelEvent::Ready),
            },
            251..=255 if self.absurd => self.absurdity(choices),
            251..=255 => return self.pass(Duration::from_millis(500)),
        };
        self.input(input)
    }

    /// What no leg and no signalling of ours would say.
    fn absurdity(&mut self, choices: &mut Choices<'_>) -> Input {
        let item = match choices.byte() % 4 {
            0 => ItemId(u64::from(choices.byte())),
            1 => ItemId((1 << 62) + u64::from(choices.byte() % 4)),
            _ => ItemId(self.next_item),
        };
        match choices.byte() % 8 {
            0 => Input::Leg(LegEvent::PlayoutStarted { item }),
            1 => Input::Leg(LegEvent::PlayoutDrained { item }),
            2 => {
                let heard = choices.millis([0, 1, 5_000]);
                let received = choices.millis([0, 100, 9_000]);
                Input::Leg(LegEvent::PlayoutCleared { cut: vec![Cut { item, heard, received }] })
            }
            3 => Input::Signal(SignalEvent::Answered),
            4 => {
                let arrived = self.now + choices.millis([0, 10, 100_000]);
                Input::SpeechWritten { arrived, written: self.now }
            }
            5 => Input::Leg(LegEvent::SpeechStopped { ago: Duration::MAX }),
            6 => Input::ModelAudio { item, duration: choices.millis([0, 1, u64::MAX]) },
            _ => Input::Model(ModelEvent::ExpiresIn(Duration::MAX)),
        }
    }

    /// Audio of the running item or a new one, if the machine takes it.
    fn model_audio(&mut self, choices: &mut Choices<'_>) -> Result<(), Violation> {
        if choices.byte().is_multiple_of(3) {
            self.next_item += 1;
        }
        let item = ItemId(self.next_item);
        let duration = choices.millis([7, 100, 600, 2_000, 12_000]);
        if !self.machine.accepts_audio(item) {
            return Ok(());
        }
        if self.reference.is_over() {
            return Err(Violation("audio for nobody".into()));
        }
        self.push(item, duration);
        self.input(Input::ModelAudio { item, duration })
    }

    /// The caller falls silent, and the owner says what went up.
    fn caller_stops(&mut self, choices: &mut Choices<'_>) -> Result<(), Violation> {
        let ago = choices.millis([0, 120, 200, 400]);
        self.input(Input::Leg(LegEvent::SpeechStopped { ago }))?;
        let arrived = self.now.checked_sub(ago).unwrap_or(self.now);
        self.input(Input::SpeechWritten { arrived, written: arrived })
    }

    fn tool_call(&mut self, choices: &mut Choices<'_>) -> ToolCall {
        if !choices.byte().is_multiple_of(8) {
            self.next_tool += 1;
        }
        let (name, arguments) = match choices.byte() % 16 {
            0..=2 => ("find_repair", Ok(json!({ "order": "B-17" }))),
            3..=4 => ("look_up", Ok(json!({}))),
            5 => ("book", Ok(json!({}))),
            6 => ("note", Ok(json!({}))),
            7 => ("find_repair", Err(r#"{"order":"#.to_owned())),
            8 => ("no_such_tool", Ok(json!({}))),
            9..=10 => ("end_call", Ok(json!({ "reason": "caller_goodbye", "summary": "Talked." }))),
            11 => ("end_call", Ok(Value::Null)),
            12..=14 => ("transfer_to_human", Ok(json!({ "reason": "billing" }))),
            _ => ("transfer_to_human", Ok(json!({ "reason": 7 }))),
        };
        ToolCall {
            id: ToolCallId(format!("call_{}", self.next_tool)),
            name: name.into(),
            arguments,
        }
    }

    fn some_tool(&mut self, choices: &mut Choices<'_>) -> ToolCallId {
        let back = u64::from(choices.byte() % 4);
        ToolCallId(format!("call_{}", self.next_tool.saturating_sub(back)))
    }

    /// A report of what runs, or once more of something that ran.
    fn tool_report(&mut self, choices: &mut Choices<'_>) -> Input {
        let number = match self.running.pop_first() {
            Some(number) if !choices.byte().is_multiple_of(8) => number,
            _ => self.latest.saturating_sub(u32::from(choices.byte() % 4)),
        };
        let outcome = match choices.byte() % 8 {
            0..=4 => ToolOutcome::Answered(json!({ "status": "ready" })),
            5 => ToolOutcome::Failed("unreachable".into()),
            6 => ToolOutcome::TimedOut,
            _ => ToolOutcome::Cancelled,
        };
        let follow_up = match choices.byte() % 64 {
            0 => FollowUp { end_call: true, ..FollowUp::default() },
            1..=2 => FollowUp {
                transfer: Some(TransferTarget::new(TransferKind::Queue, "support")),
                ..FollowUp::default()
            },
            3 => FollowUp { verbatim: Some("It is ready.".into()), ..FollowUp::default() },
            _ => FollowUp::default(),
        };
        let report = ToolReport::from(outcome);
        let late = choices.byte().is_multiple_of(16);
        let verdict = if late { Verdict::Late } else { report.verdict };
        Input::Tool { number, report: ToolReport { verdict, follow_up, ..report } }
    }

    /// Lets `span` pass on leg and machine.
    fn pass(&mut self, span: Duration) -> Result<(), Violation> {
        let end = self.now + span;
        while !self.machine.is_ended() && self.advance(end)? {}
        Ok(())
    }

    /// Goes to the next thing that happens by itself, `end` at most; false when `end` was reached.
    fn advance(&mut self, end: Instant) -> Result<bool, Violation> {
        let still = self.paused || self.ducked;
        let played = self.queue.front().filter(|_| !still).map(|(_, left)| self.now + *left);
        let due = self.machine.poll_timeout();
        let next = [played, due].into_iter().flatten().min().filter(|next| *next <= end);
        let span = next.unwrap_or(end).saturating_duration_since(self.now);
        self.now += span;
        if let Some((item, left)) = self.queue.front_mut().filter(|_| !still) {
            let item = *item;
            *left -= span;
            let over = left.is_zero();
            self.sounds.entry(item).or_default().0 += span;
            if over {
                self.queue.pop_front();
                self.playing = None;
                self.input(Input::Leg(LegEvent::PlayoutDrained { item }))?;
            }
        }
        if next.is_some() && next == due {
            self.machine.handle_timeout(self.now);
            self.step(&Stimulus::Timeout)?;
        }
        Ok(next.is_some())
    }

    /// Nothing happens any more but what the machine itself brings about.
    fn rest(&mut self) -> Result<(), Violation> {
        for _ in 0..LONGEST_REST {
            if self.machine.is_ended() {
                return Ok(());
            }
            self.advance(self.now + Duration::from_secs(7_200))?;
        }
        Err(Violation("the call does not end".into()))
    }

    fn input(&mut self, input: Input) -> Result<(), Violation> {
        self.machine.handle(self.now, input.clone());
        self.step(&Stimulus::Input(input))?;
        while let Some(reaction) = self.reactions.pop_front() {
            self.machine.handle(self.now, reaction.clone());
            self.step(&Stimulus::Input(reaction))?;
        }
        self.start_playing()
    }

    /// Has the last step checked, and does what was ordered in it.
    fn step(&mut self, stimulus: &Stimulus) -> Result<(), Violation> {
        let mut outputs = std::mem::take(&mut self.outputs);
        while let Some(output) = self.machine.poll_output() {
            outputs.push(output);
        }
        let (now, timeout) = (self.now, self.machine.poll_timeout());
        self.reference.observe(&Step { now, stimulus, outputs: &outputs, timeout })?;
        for output in outputs.drain(..) {
            *self.orders.entry(kind(&output)).or_default() += 1;
            self.obey(output);
        }
        self.outputs = outputs;
        Ok(())
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Leg(LegCommand::ClearPlayout) => {
                self.playing = None;
                self.ducked = false;
                let sounds = &self.sounds;
                let cut = self.queue.drain(..).map(|(item, _)| {
                    let (heard, received) = sounds[&item];
                    Cut { item, heard, received }
                });
                let cut = cut.collect();
                self.reactions.push_back(Input::Leg(LegEvent::PlayoutCleared { cut }));
            }
            Output::Leg(LegCommand::Play { item, .. }) => self.push(item, PROMPT),
            Output::Leg(LegCommand::Pause(paused)) => self.paused = paused,
            Output::Leg(LegCommand::Duck(ducked)) => self.ducked = ducked,
            Output::Signal(SignalCommand::Answer) if self.obedient => {
                self.reactions.push_back(Input::Signal(SignalEvent::Answered));
            }
            Output::Signal(SignalCommand::HangUp { cause } | SignalCommand::Reject { cause })
                if self.obedient =>
            {
                self.reactions.push_back(Input::Signal(SignalEvent::HungUp { cause }));
            }
            Output::Tool(invocation) => {
                self.latest = invocation.number;
                self.running.insert(invocation.number);
            }
            Output::CancelTool(number) => {
                self.running.remove(&number);
            }
            Output::OpenModel { .. } => self.next_tool = 0, // Each session counts from the start.
            Output::Ended(outcome) => self.outcome = Some(*outcome),
            Output::Signal(_) | Output::Model(_) => {}
        }
    }

    fn push(&mut self, item: ItemId, duration: Duration) {
        self.sounds.entry(item).or_default().1 += duration;
        match self.queue.back_mut() {
            Some((last, left)) if *last == item => *left += duration,
            _ => self.queue.push_back((item, duration)),
        }
    }

    fn start_playing(&mut self) -> Result<(), Violation> {
        let still = self.paused || self.ducked;
        let next = self.queue.front().filter(|_| !still).map(|(item, _)| *item);
        match next {
            Some(item) if self.playing != Some(item) => {
                self.playing = Some(item);
                self.machine.handle(self.now, Input::Leg(LegEvent::PlayoutStarted { item }));
                self.step(&Stimulus::Input(Input::Leg(LegEvent::PlayoutStarted { item })))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn kind(output: &Output) -> &'static str {
    match output {
        Output::Leg(LegCommand::ClearPlayout) => "clear",
        Output::Leg(LegCommand::Play { prompt: Prompt::Phrase(_), .. }) => "play a phrase",
        Output::Leg(LegCommand::Play { .. }) => "play",
        Output::Leg(LegCommand::Pause(_)) => "pause",
        Output::Leg(LegCommand::Duck(_)) => "duck",
        Output::Signal(SignalCommand::Answer) => "answer",
        Output::Signal(SignalCommand::Reject { .. }) => "reject",
        Output::Signal(SignalCommand::HangUp { .. }) => "hang up",
        Output::Signal(SignalCommand::Transfer { .. }) => "transfer",
        Output::Signal(SignalCommand::Annotate { .. }) => "annotate",
        Output::Signal(SignalCommand::BreakPlayback) => "break playback",
        Output::Model(ModelCommand::Greet(_)) => "greet",
        Output::Model(ModelCommand::Digits(_)) => "digits",
        Output::Model(ModelCommand::Say(_)) => "say",
        Output::Model(ModelCommand::ToolResult { .. }) => "result",
        Output::Model(ModelCommand::Truncate { .. }) => "truncate",
        Output::Model(ModelCommand::Forget { .. }) => "forget",
        Output::Model(ModelCommand::Cancel) => "cancel",
        Output::Model(ModelCommand::TurnStarted { .. }) => "turn started",
        Output::Model(ModelCommand::TurnEnded) => "turn ended",
        Output::Model(ModelCommand::Renew { .. }) => "renew",
        Output::Model(ModelCommand::Close) => "close",
        Output::OpenModel { .. } => "open",
        Output::Tool(_) => "tool",
        Output::CancelTool(_) => "cancel tool",
        Output::Ended(_) => "ended",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_life_keeps_the_rules_and_ends() {
        let mut orders = BTreeMap::<_, usize>::new();
        let mut reasons = BTreeMap::<_, usize>::new();
        let mut verdicts = BTreeMap::<_, usize>::new();
        for seed in 0..20_000 {
            let life =
                live_seeded(seed, 30).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
            for (order, times) in life.orders {
                *orders.entry(order).or_default() += times;
            }
            for tool in life.outcome.tools {
                *verdicts.entry(tool.outcome).or_default() += 1;
            }
            *reasons.entry(format!("{:?}", life.outcome.end_reason)).or_default() += 1;
        }
        // Lives that never get anywhere would prove nothing.
        assert_eq!(orders.len(), 24, "{orders:?}"); // All there are.
        assert!(orders.values().all(|times| *times >= 25), "{orders:?}");
        assert_eq!(verdicts.len(), 6, "{verdicts:?}"); // All that the machine tells apart.
        assert!(verdicts.values().all(|times| *times >= 50), "{verdicts:?}");
        assert!(reasons.len() >= 10 && reasons.values().all(|times| *times >= 20), "{reasons:?}");
    }

    #[test]
    fn a_life_can_be_lived_again() {
        assert!((0..50).all(|seed| {
            let orders = |life: Life| life.orders;
            live_seeded(seed, 60).map(orders) == live_seeded(seed, 60).map(orders)
        }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_life(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            run_events(&bytes);
        }
    }
}
