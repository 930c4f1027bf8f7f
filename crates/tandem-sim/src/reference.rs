//! What must hold in every call, whatever happens in it.
//!
//! [`Reference`] reads what a [`CallMachine`](tandem_call::CallMachine) was told and what it ordered, and knows nothing
//! of how the machine decides. It is slower to be right and much simpler: it only counts and compares.

mod interruptions;
mod orders;
#[cfg(test)]
mod tests;
mod tools;
mod turns;

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use self::{interruptions::Heard, tools::ToolWatch};
use tandem_call::{
    AgentSpec, Capabilities, Input, ItemId, LegCommand, LegEvent, ModelEvent, Output, Prompt,
    SignalCommand, SignalEvent, TransferOutcome,
};

/// Prompts have item ids from here up.
const FIRST_PROMPT: u64 = 1 << 62;

/// A caller who waits for an answer or a tool hears something within this, again and again.
const LONGEST_DEAD_AIR: Duration = Duration::from_secs(2);

/// Sounds of the caller shorter than this ask nothing.
const SHORTEST_UTTERANCE: Duration = Duration::from_millis(200);

/// The sentence before a transfer may be cut this long after the call of the tool, and not before.
const LONGEST_LEAD_OUT: Duration = Duration::from_secs(12);

/// What a machine was made to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Stimulus {
    /// It was made.
    New,
    /// It was told something.
    Input(Input),
    /// Time passed.
    Timeout,
}

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// One step of a call: what happened, and everything that came of it.
#[derive(Debug)]
pub struct Step<'a> {
    /// When.
    pub now: Instant,
    /// What happened.
    pub stimulus: &'a Stimulus,
    /// All orders that came of it.
    pub outputs: &'a [Output],
    /// What `poll_timeout` says after it.
    pub timeout: Option<Instant>,
}

/// Where a call is, as far as can be seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signalling {
    Ringing,
    Answering,
    Answered,
    /// The caller is being handed over since then.
    Transferring(Instant),
    /// Hung up, refused, handed over: nobody listens.
    Over,
}

/// Watches one call.
#[derive(Debug)]
pub struct Reference {
    spec: AgentSpec,
    truncates: bool,
    /// The model has stopped when it reports speech.
    interrupts: bool,
    /// The pause that ends a turn, where the model is told of turns.
    turn_pause: Option<Duration>,
    signalling: Signalling,
    ended: bool,
    closed: bool,
    greeted: bool,
    held: bool,
    paused: bool,
    hung_up: bool,
    answered_at: Option<Instant>,
    /// The session hears commands: it was ready, or is being renewed.
    live: bool,
    /// It is ready.
    ready: bool,
    /// It is gone until it is renewed or replaced.
    lost: bool,
    opened: Option<usize>,
    renewals: VecDeque<Instant>,
    tools: ToolWatch,
    /// Audio that may be heard.
    queued: BTreeSet<ItemId>,
    prompts: BTreeSet<ItemId>,
    /// Prompts that are heard to their end though the caller speaks.
    heard_out: BTreeSet<ItemId>,
    cut: BTreeSet<ItemId>,
    answering: bool,
    /// The last words are being said. They may be taken back, so it is never certain again that they are not.
    ending: bool,
    /// They follow an `end_call`.
    farewell: bool,
    /// Since when the caller speaks, as the leg hears it.
    speaking: Option<Instant>,
    /// When he began and when he was last heard, whether he still speaks or not.
    stretch: Option<(Instant, Instant)>,
    /// The agent was cut in this stretch of speech.
    heeded: bool,
    heard: Heard,
    /// The leg is silent until it shows whether the caller interrupts.
    ducked: bool,
    /// The caller fell silent in this step.
    fell_silent: bool,
    /// The model was told that the caller's turn began, and not that it is over.
    turn_open: bool,
    /// The model owes the caller an answer.
    owed: bool,
    /// The model is gone.
    gone: bool,
    /// Since when a caller who waits hears nothing.
    quiet_since: Option<Instant>,
    /// When a transfer was promised that has not begun.
    promised: Option<Instant>,
}

impl Reference {
    /// A reference for a call with the agent of `spec`, whose models can all do the same.
    pub fn new(spec: AgentSpec, able: &Capabilities) -> Self {
        Self {
            spec,
            truncates: able.truncates,
            interrupts: able.interrupts,
            turn_pause: (!able.detects_turns).then_some(able.turn_pause),
            signalling: Signalling::Ringing,
            ended: false,
            closed: false,
            greeted: false,
            held: false,
            paused: false,
            hung_up: false,
            answered_at: None,
            live: false,
            ready: false,
            lost: false,
            opened: None,
            renewals: VecDeque::new(),
            tools: ToolWatch::default(),
            queued: BTreeSet::new(),
            prompts: BTreeSet::new(),
            heard_out: BTreeSet::new(),
            cut: BTreeSet::new(),
            answering: false,
            ending: false,
            farewell: false,
            speaking: None,
            stretch: None,
            heeded: false,
            heard: Heard::default(),
            ducked: false,
            fell_silent: false,
            turn_open: false,
            owed: false,
            gone: false,
            quiet_since: None,
            promised: None,
        }
    }

    /// Whether the call is over for the caller: no audio may be accepted any more.
    pub fn is_over(&self) -> bool {
        self.signalling == Signalling::Over
    }

    /// Checks one step.
    pub fn observe(&mut self, step: &Step<'_>) -> Result<(), Violation> {
        if self.ended {
            check(step.outputs.is_empty(), || format!("{:?} after the end", step.outputs))?;
            return check(step.timeout.is_none(), || "a timer after the end".into());
        }
        let must_clear = self.must_clear(step.now, step.stimulus);
        let must_heed = self.must_heed(step.now, step.stimulus);
        let may_not_stop = self.may_not_stop(step.now, step.stimulus);
        let was_ducked = self.ducked;
        if *step.stimulus == Stimulus::Timeout {
            self.check_hush(step.now, true)?;
        }
        let told = matches!(step.stimulus, Stimulus::Input(_));
        let may_not_clear = told && self.farewell && !self.spec.end_call_cancel_on_speech;
        self.take_stimulus(step.now, step.stimulus);
        self.check_stop(step, was_ducked)?;
        for (index, output) in step.outputs.iter().enumerate() {
            check(!self.ended, || format!("{output:?} after Ended"))?;
            self.take_output(step, output)?;
            check(index + 1 == step.outputs.len() || !self.ended, || "Ended is not last".into())?;
        }
        let cleared = step.outputs.contains(&Output::Leg(LegCommand::ClearPlayout));
        check(cleared || !must_clear, || "the caller interrupted and is not heard".into())?;
        check(!cleared || !may_not_clear, || "the goodbye was cut".into())?;
        check(!cleared || !may_not_stop, || "an agent was stopped that never is".into())?;
        check(cleared || self.ducked || !must_heed, || "the agent talks on".into())?;
        self.check_turn(step)?;
        if self.ended {
            return check(step.timeout.is_none(), || "a timer after the end".into());
        }
        self.check_hush(step.now, false)?;
        self.check_tools(step.now)?;
        self.check_dead_air(step.now)?;
        self.tools.pass(step.now);
        let timeout = step.timeout.ok_or_else(|| Violation("nothing will end the call".into()))?;
        check(timeout > step.now, || "a timer is not in the future".into())
    }

    /// Checks that the call is over and nothing is left of it.
    pub fn finish(&self) -> Result<(), Violation> {
        check(self.ended, || "the call does not end".into())?;
        check(self.closed, || "the model was not closed".into())?;
        let still = self.tools.executing().next();
        check(still.is_none(), || format!("{still:?} still runs"))
    }

    /// The caller speaks over the agent, as the model hears it or the leg for it.
    fn must_clear(&self, now: Instant, stimulus: &Stimulus) -> bool {
        let Stimulus::Input(input) = stimulus else { return false };
        let at_once = self.patience() == Some(Duration::ZERO);
        let interrupts = match input {
            Input::Model(ModelEvent::SpeechStarted) if self.interrupts => {
                self.patience().is_some() && (self.answering || self.speaks())
            }
            Input::Model(ModelEvent::SpeechStarted) => {
                at_once && self.is_told_first() && self.speaks()
            }
            // What was cut is not cut again, though its end may not have come.
            Input::Leg(LegEvent::SpeechStarted) => {
                at_once && self.speaking.is_none() && self.speaks()
            }
            _ => false,
        };
        interrupts && !self.hears_out() && self.talks(now) && self.surely_live()
    }

    /// Something of the agent may be heard, or is about to be.
    fn is_heard(&self) -> bool {
        self.answering || !(self.queued.is_empty() || self.hears_out())
    }

    /// There is nothing but what the caller hears to its end though he speaks.
    fn hears_out(&self) -> bool {
        !self.queued.is_empty() && self.queued.is_subset(&self.heard_out)
    }

    /// Something of the model is to be heard.
    fn speaks(&self) -> bool {
        self.queued.iter().any(|item| item.0 < FIRST_PROMPT)
    }

    /// Caller and model talk, and nothing can have begun to end that.
    fn talks(&self, now: Instant) -> bool {
        let here = match self.signalling {
            Signalling::Answered => true,
            Signalling::Transferring(_) => !self.transferring(now),
            Signalling::Ringing | Signalling::Answering | Signalling::Over => false,
        };
        here && self.is_in_time(now) && !self.ending
    }

    /// The call was answered and may go on.
    fn is_in_time(&self, now: Instant) -> bool {
        self.answered_at.is_some_and(|at| now < at + self.spec.max_duration)
    }

    /// The model must react. The attendant may have been given up on without a sign, for nobody stands behind him,
    /// and so may any model while the call ends.
    fn surely_live(&self) -> bool {
        self.live && !self.ending && self.opened.is_some_and(|index| index < self.spec.models.len())
    }

    fn take_stimulus(&mut self, now: Instant, stimulus: &Stimulus) {
        self.fell_silent = false;
        let Stimulus::Input(input) = stimulus else { return };
        match input {
            Input::Model(event) => self.take_model_event(now, event),
            Input::ModelAudio { item, duration } => {
                if item.0 < FIRST_PROMPT && !duration.is_zero() && !self.closed {
                    self.queued.insert(*item);
                    self.owed &= !self.live; // It speaks again.
                    self.gone &= !self.live;
                }
            }
            Input::Leg(LegEvent::PlayoutDrained { item }) => {
                self.queued.remove(item);
            }
            // The caller says something more: his wait begins anew.
            Input::Leg(LegEvent::SpeechStarted) => {
                self.quiet_since = None;
                if self.speaking.is_none() && self.answered_at.is_some() {
                    self.speaking = Some(now);
                    self.stretch = Some((now, now));
                    self.heeded = false;
                    self.heard.over_agent = self.is_heard();
                    self.heard.begin(now);
                }
            }
            Input::Leg(LegEvent::SpeechPaused { ago }) => {
                self.heard.end(now.checked_sub(*ago).unwrap_or(now));
            }
            Input::Leg(LegEvent::SpeechResumed) => {
                if self.speaking.is_some() {
                    self.heard.over_agent |= self.is_heard();
                    self.heard.begin(now);
                }
            }
            Input::Leg(LegEvent::SpeechStopped { ago }) => {
                self.quiet_since = None;
                if let Some(since) = self.speaking.take() {
                    self.heard.end(now.checked_sub(*ago).unwrap_or(now));
                    self.stretch = Some((since, now.checked_sub(*ago).unwrap_or(since)));
                    self.fell_silent = true;
                }
                let asks = self.asks() && !self.speaks() && self.talks(now);
                // A model that is told of turns owes nothing before.
                self.owed |= asks && !(self.turn_pause.is_some() && self.ready);
            }
            Input::Signal(event) => self.take_signal_event(now, event),
            Input::Tool { number, report } => {
                self.ending |= self.tools.report(now, *number, report);
                if self.tools.asks_transfer && !self.transferring(now) {
                    self.promised.get_or_insert(now);
                }
            }
            Input::Drain => self.ending = true,
            Input::Leg(_) | Input::SpeechWritten { .. } | Input::Kill { .. } => {}
        }
    }

    fn take_model_event(&mut self, now: Instant, event: &ModelEvent) {
        if self.closed {
            return;
        }
        match event {
            // A session that is gone cannot become ready.
            ModelEvent::Ready if !self.lost => {
                self.live = true;
                self.ready = true;
                self.gone = false;
                self.owed = false; // What it does not know of it is asked for now.
            }
            ModelEvent::Lost(_) => {
                self.gone |= self.ready && self.talks(now);
                self.change_session();
                self.lost = true;
            }
            ModelEvent::ResponseStarted if self.live => self.answering = true,
            ModelEvent::ResponseEnded(_) => self.answering = false,
            ModelEvent::SpeechStarted => {
                self.quiet_since = None;
                if !self.ducked && !self.interrupts {
                    self.heard.reported = Some(now);
                }
            }
            ModelEvent::SpeechStopped => self.quiet_since = None,
            ModelEvent::CallerText { text, .. }
                if self.spec.interruption.is_listening(text) == Some(true) =>
            {
                self.heard.listened = Some(now);
            }
            ModelEvent::ToolCall(call) if self.live => {
                let certain = self.surely_live();
                self.tools.call(now, call, &self.spec, certain);
            }
            ModelEvent::ToolCancelled(id) => self.tools.take_back(id),
            _ => {}
        }
    }

    fn take_signal_event(&mut self, now: Instant, event: &SignalEvent) {
        match event {
            SignalEvent::Answered if self.signalling == Signalling::Answering => {
                self.signalling = Signalling::Answered;
                self.answered_at = Some(now);
            }
            SignalEvent::Held(held) => self.held = *held,
            SignalEvent::Transfer(TransferOutcome::Failed { .. })
                if matches!(self.signalling, Signalling::Transferring(_)) =>
            {
                self.signalling = Signalling::Answered;
            }
            _ => {}
        }
    }

    fn take_output(&mut self, step: &Step<'_>, output: &Output) -> Result<(), Violation> {
        let now = step.now;
        match output {
            Output::Leg(command) => self.take_leg_command(now, command),
            Output::Signal(command) => self.take_signal_command(now, command),
            Output::Model(command) => {
                check(!self.closed, || format!("{command:?} after Close"))?;
                self.take_model_command(step, command)
            }
            Output::OpenModel { index, apologise, .. } => {
                check(!self.closed && !self.is_over(), || "a model for nobody".into())?;
                let expected = self.opened.map_or(0, |opened| opened + 1);
                check(*index == expected, || format!("model {index}, not {expected}"))?;
                let attendant = *index == self.spec.models.len();
                check(attendant || *index < self.spec.models.len(), || "no such model".into())?;
                check(*apologise == (attendant && *index > 0), || "a wrong apology".into())?;
                self.opened = Some(*index);
                self.change_session();
                Ok(())
            }
            Output::Tool(invocation) => self.tools.execute(now, invocation, &self.spec),
            Output::CancelTool(number) => self.tools.cancel(*number),
            Output::Ended(outcome) => {
                self.ended = true;
                check(self.closed, || "ended with an open model".into())?;
                self.tools.check_record(outcome)
            }
        }
    }

    fn take_leg_command(&mut self, now: Instant, command: &LegCommand) -> Result<(), Violation> {
        match command {
            LegCommand::ClearPlayout => {
                self.queued.clear();
                self.quiet_since = None; // He interrupts: his wait begins anew.
                self.heeded = true;
                self.ducked = false;
                Ok(())
            }
            LegCommand::Duck(ducked) => self.take_duck(now, *ducked),
            LegCommand::Play { item, prompt } => {
                check(!self.is_over(), || "a prompt after the end".into())?;
                check(!self.transferring(now), || "a prompt during a transfer".into())?;
                check(item.0 >= FIRST_PROMPT, || "a prompt with an id of the model".into())?;
                check(self.prompts.insert(*item), || "a prompt id came again".into())?;
                self.ending |= *prompt == Prompt::Goodbye;
                if self.is_heard_out(*prompt) {
                    self.heard_out.insert(*item);
                }
                self.queued.insert(*item);
                Ok(())
            }
            LegCommand::Pause(paused) => {
                check(*paused != self.paused, || "paused twice".into())?;
                let away = self.is_over() || self.transferring(now);
                check(*paused || !away, || "speech to a caller who is away".into())?;
                self.paused = *paused;
                Ok(())
            }
        }
    }

    fn take_signal_command(
        &mut self,
        now: Instant,
        command: &SignalCommand,
    ) -> Result<(), Violation> {
        let (allowed, next) = match command {
            SignalCommand::Answer => {
                (self.signalling == Signalling::Ringing, Signalling::Answering)
            }
            SignalCommand::Reject { .. } => {
                (self.signalling == Signalling::Ringing, Signalling::Over)
            }
            SignalCommand::HangUp { .. } => {
                // After a completed transfer the call is over for us, and still has to be hung up.
                let twice = std::mem::replace(&mut self.hung_up, true);
                (self.signalling != Signalling::Ringing && !twice, Signalling::Over)
            }
            SignalCommand::Transfer { .. } => {
                (self.gone, self.owed) = (false, false);
                let late = self.promised.take().is_some_and(|at| now >= at + LONGEST_LEAD_OUT);
                check(late || !self.speaks(), || "the sentence before a transfer was cut".into())?;
                let answered = self.signalling == Signalling::Answered;
                let again = matches!(self.signalling, Signalling::Transferring(_))
                    && !self.transferring(now);
                (answered || again, Signalling::Transferring(now))
            }
            SignalCommand::Annotate { .. } | SignalCommand::BreakPlayback => return Ok(()),
        };
        check(allowed, || format!("{command:?} while {:?}", self.signalling))?;
        self.signalling = next;
        Ok(())
    }

    fn check_tools(&mut self, now: Instant) -> Result<(), Violation> {
        // While the call ends a model may be given up on without a sign, and its calls with it.
        let goes_on = !self.ending && self.is_in_time(now);
        if goes_on { self.tools.check_due(now) } else { Ok(()) }
    }

    /// Every gap without sound, as long as the caller waits.
    fn check_dead_air(&mut self, now: Instant) -> Result<(), Violation> {
        let owed = self.owed || self.tools.blocks();
        let waits = self.gone || (owed && self.speaking.is_none() && !self.turn_open);
        let quiet = waits && self.queued.is_empty() && !self.held && self.talks(now);
        if !quiet {
            self.quiet_since = None;
            return Ok(());
        }
        let since = *self.quiet_since.get_or_insert(now);
        let span = now.duration_since(since);
        check(span <= LONGEST_DEAD_AIR, || format!("{span:?} of dead air"))
    }

    /// It is the filler of a tool that the caller's speech does not stop.
    fn is_heard_out(&self, prompt: Prompt) -> bool {
        let Prompt::Phrase(phrase) = prompt else { return false };
        let mut tools = self.spec.tools.iter().filter(|tool| !tool.interruptible);
        tools.any(|tool| tool.filler.is_some_and(|filler| filler.phrase == phrase))
    }

    fn transferring(&self, now: Instant) -> bool {
        matches!(self.signalling, Signalling::Transferring(at) if now < at + self.spec.transfer_timeout)
    }

    /// The next session knows nothing of the tools and answers of this one.
    fn change_session(&mut self) {
        self.tools.change_session();
        self.answering = false;
        self.turn_open = false;
        self.live = false;
        self.ready = false;
        self.lost = false;
    }
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation(otherwise())) }
}
