//! The machine that runs one call.
//!
//! [`CallMachine`] takes [`Input`]s with `now`, and gives [`Output`]s: orders to the leg's two faces, to the model and
//! to the tool executor. It owns every decision of a call and nothing else. `poll_output` is asked until it is empty
//! after each `handle` and `handle_timeout`; `poll_timeout` says when `handle_timeout` is next due.

#![deny(clippy::wildcard_enum_match_arm)]

mod barge_in;
mod digits;
mod ending;
mod follow_up;
mod ledger;
mod marked_turn;
mod model_chain;
mod outcome;
mod playout;
mod timers;
mod tool_log;
mod tool_results;
mod tools;
mod transcript;
mod transfer;
mod turn;
mod waiting;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

pub use self::outcome::CallOutcome;
use self::{
    barge_in::BargeIn,
    digits::{Digits, GROUP_GAP, Way},
    ending::Ending,
    ledger::Ledger,
    marked_turn::MarkedTurn,
    model_chain::ModelChain,
    outcome::Verdict,
    playout::{Playout, is_prompt},
    timers::{Stopwatch, Timer, Timers},
    tools::Tools,
    transcript::Transcript,
    transfer::Transfer,
    turn::{Answering, Caller},
    waiting::Waiting,
};
use crate::{
    AgentSpec, Capabilities, Digit, EndReason, EndedBy, HangupCause, HistoryTurn, Invocation,
    ItemId, LegCommand, LegEvent, ModelCommand, ModelEvent, PhraseId, Prompt, SignalCommand,
    SignalEvent, ToolReport, TransferRecord, Usage,
};

/// Signalling confirms an answer or a hang-up within this time, or the call goes on without it.
const SIGNALLING_PATIENCE: Duration = Duration::from_secs(5);

/// A prompt is over this long after it was ordered, whatever the leg says; an agent's own phrase may be longer.
const LONGEST_PROMPT: Duration = Duration::from_secs(15);
const LONGEST_PHRASE: Duration = Duration::from_secs(60);

/// How long the machine waits for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The phone rings at most this long while the model is dialled.
    pub answer_after: Duration,
    /// A caller who waits for an answer hears nothing at most this long.
    pub dead_air: Duration,
    /// A caller who was told to wait, and still waits, hears nothing at most this long.
    pub dead_air_again: Duration,
    /// A model that must answer and says nothing at all for this long is lost.
    pub stall: Duration,
    /// A model that does not begin to answer, or dropped the turn, is reminded once after this.
    pub nudge: Duration,
    /// A session is ready within this, or it is lost.
    pub connect: Duration,
    /// A lost session that is dialled again is ready within this, or the next model is asked.
    pub redial: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer_after: Duration::from_millis(1_500),
            dead_air: Duration::from_millis(1_500),
            dead_air_again: Duration::from_millis(1_800),
            stall: Duration::from_millis(5_500),
            nudge: Duration::from_secs(3),
            connect: Duration::from_secs(10),
            redial: Duration::from_secs(2),
        }
    }
}

/// What the machine is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// The model said something. Nothing of a session that was replaced by [`Output::OpenModel`] may come any more.
    Model(ModelEvent),
    /// Audio of the model was handed to the leg's playout; ask [`CallMachine::accepts_audio`] before handing it.
    ModelAudio { item: ItemId, duration: Duration },
    /// The last frame of the caller's speech arrived, and left for the model. Comes with the leg's
    /// [`LegEvent::SpeechStopped`].
    SpeechWritten { arrived: Instant, written: Instant },
    /// The leg's media reported.
    Leg(LegEvent),
    /// The leg's signalling reported.
    Signal(SignalEvent),
    /// The tool call `number` came out, in time or late.
    Tool { number: u32, report: ToolReport },
    /// The daemon stops: say goodbye and hang up.
    Drain,
    /// Hang up at once.
    Kill { reason: EndReason },
}

/// What the machine orders.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// To the leg's media.
    Leg(LegCommand),
    /// To the leg's signalling.
    Signal(SignalCommand),
    /// To the model session last opened.
    Model(ModelCommand),
    /// Replace the session, if there is one, by one with `AgentSpec::models[index]`, and tell
    /// [`CallMachine::set_model`]; `index` = `models.len()` is the offline attendant. With `apologise` it takes over
    /// from models that failed.
    OpenModel { index: usize, history: Vec<HistoryTurn>, apologise: bool },
    /// Carry out this call and answer with [`Input::Tool`].
    Tool(Invocation),
    /// The model took the call of this number back. Never said of those that run when the call ends.
    CancelTool(u32),
    /// The call is over. Always the last output, exactly once.
    Ended(Box<CallOutcome>),
}

/// Where the call is.
#[derive(Debug)]
enum Phase {
    /// The phone rings while the model is dialled.
    Ringing,
    /// The answer was ordered.
    Answering,
    /// The conversation.
    Talking,
    /// The sentence before a transfer is played out.
    LeadingOut(Transfer),
    /// Signalling hands the caller over.
    Transferring,
    /// The caller is with somebody else; the far side hangs up.
    Transferred,
    /// The last words are played out.
    Ending(Ending),
    /// We hung up; signalling confirms.
    Closing(Verdict),
    /// Over.
    Ended,
}

/// The parts of [`Capabilities`] the machine acts on.
#[derive(Debug, Clone, Copy)]
struct Abilities {
    truncates: bool,
    detects_turns: bool,
    interrupts: bool,
    turn_pause: Duration,
    takes_digits: bool,
    answers_results: bool,
}

/// Runs one call from INVITE to its end, on a clock that is given to it.
#[derive(Debug)]
pub struct CallMachine {
    spec: AgentSpec,
    patience: Patience,
    abilities: Abilities,
    phase: Phase,
    outputs: VecDeque<Output>,
    timers: Timers,
    began: Instant,
    answered: Option<Instant>,
    held: bool,
    paused: bool,
    /// RTP stopped while the caller was being handed over.
    media_lost: bool,
    /// An ending that waits for the outcome of a transfer.
    overdue: Option<EndReason>,
    greeted: bool,
    chain: ModelChain,
    /// The model's running answer.
    answering: Answering,
    caller: Caller,
    barge_in: BargeIn,
    marked: MarkedTurn,
    waiting: Waiting,
    silence: Stopwatch,
    playout: Playout,
    digits: Digits,
    tools: Tools,
    transfer: Option<TransferRecord>,
    /// We gave up on a transfer whose outcome may still come.
    transfer_open: bool,
    transcript: Transcript,
    ledger: Ledger,
    usage: Usage,
    summary: Option<String>,
    model_ready_at: Option<Instant>,
    first_audio_at: Option<Instant>,
    last_drained_at: Option<Instant>,
    end_call_tail: Option<Duration>,
    /// The caller took an `end_call` back and the model does not know.
    take_back_untold: bool,
}

impl CallMachine {
    /// A call to the agent of `spec` that came in at `now`. Its first output opens the first model.
    pub fn new(now: Instant, spec: AgentSpec, patience: Patience) -> Self {
        let mut machine = Self {
            chain: ModelChain::new(),
            patience,
            abilities: Abilities {
                truncates: false,
                detects_turns: true,
                interrupts: true,
                turn_pause: Duration::ZERO,
                takes_digits: false,
                answers_results: true,
            },
            phase: Phase::Ringing,
            outputs: VecDeque::new(),
            timers: Timers::default(),
            began: now,
            answered: None,
            held: false,
            paused: false,
            media_lost: false,
            overdue: None,
            greeted: false,
            answering: Answering::default(),
            caller: Caller::default(),
            barge_in: BargeIn::default(),
            marked: MarkedTurn::default(),
            waiting: Waiting::default(),
            silence: Stopwatch::default(),
            playout: Playout::default(),
            digits: Digits::default(),
            tools: Tools::default(),
            transfer: None,
            transfer_open: false,
            transcript: Transcript::default(),
            ledger: Ledger::default(),
            usage: Usage::default(),
            summary: None,
            model_ready_at: None,
            first_audio_at: None,
            last_drained_at: None,
            end_call_tail: None,
            take_back_untold: false,
            spec,
        };
        machine.timers.start(Timer::Answer, now, patience.answer_after);
        machine.open_model(now, 0, false);
        machine
    }

    /// Tells what the model can do that was just opened.
    pub fn set_model(&mut self, capabilities: &Capabilities) {
        self.abilities = Abilities {
            truncates: capabilities.truncates,
            detects_turns: capabilities.detects_turns,
            interrupts: capabilities.interrupts,
            turn_pause: capabilities.turn_pause,
            takes_digits: capabilities.takes_digits,
            answers_results: capabilities.answers_results,
        };
    }

    /// Whether audio of `item` may be handed to playout: not when it was cut, was refused, or the call is over.
    pub fn accepts_audio(&self, item: ItemId) -> bool {
        let known = self.playout.get(item);
        match &self.phase {
            Phase::Ringing
            | Phase::Answering
            | Phase::Talking
            | Phase::LeadingOut(_)
            | Phase::Transferring => {
                known.map_or(!self.answering.refused, |known| known.cut.is_none())
            }
            Phase::Ending(ending) => known.map_or(!ending.refuses, |known| known.cut.is_none()),
            Phase::Transferred | Phase::Closing(_) | Phase::Ended => false,
        }
    }

    /// Takes `input`. Timers that ran out before it come first.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.handle_timeout(now);
        if self.is_ended() {
            return;
        }
        match input {
            Input::Model(event) => self.handle_model(now, event),
            Input::ModelAudio { item, duration } => self.handle_model_audio(now, item, duration),
            Input::SpeechWritten { arrived, written } => {
                self.ledger.speech_written(arrived, written);
            }
            Input::Leg(event) => self.handle_leg(now, event),
            Input::Signal(event) => self.handle_signal(now, event),
            Input::Tool { number, report } => self.handle_tool_report(now, number, report),
            Input::Drain => self.end_politely(now, EndReason::Draining),
            Input::Kill { reason } => self.hang_up(now, reason, EndedBy::System),
        }
        self.settle(now);
        self.handle_timeout(now);
    }

    /// Acts on every timer that ran out at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        loop {
            if let Some(timer) = self.timers.take_due(now) {
                self.handle_timer(now, timer);
            } else if let Some(number) = self.tools.due(now) {
                self.handle_tool_timeout(now, number);
            } else {
                return;
            }
            self.settle(now);
        }
    }

    /// The next order, if there is one.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`CallMachine::handle_timeout`] is next due. There is always such an instant until the call ended.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next(), self.tools.next_deadline()].into_iter().flatten().min()
    }

    /// Whether [`Output::Ended`] was given out or waits to be.
    pub fn is_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Why the call ends, from the order to hang up until it is carried out.
    pub fn end_reason(&self) -> Option<EndReason> {
        if let Phase::Closing(verdict) = &self.phase { Some(verdict.reason) } else { None }
    }

    /// What the model said of the call when it ended it.
    pub fn summary(&self) -> Option<&str> {
        self.summary.as_deref()
    }

    /// What was said so far and, of the agent's words, heard, but not in pauses; nothing when the agent keeps no transcript.
    pub fn conversation(&self) -> Vec<HistoryTurn> {
        if self.spec.transcription { self.transcript.kept(&self.playout) } else { Vec::new() }
    }

    /// From now on nothing that is said, or handed to a tool, gets into the record, the summaries and what is noted at the PBX,
    /// until this is called again with `false`. Models go on hearing of it, also one that takes over.
    pub fn pause_transcript(&mut self, now: Instant, paused: bool) {
        if paused {
            self.transcript.pause();
        } else {
            let items = self.playout.items().filter(|item| !item.is_prompt());
            self.transcript.resume(now, items.map(|item| item.id).max());
        }
    }

    fn handle_timer(&mut self, now: Instant, timer: Timer) {
        match timer {
            Timer::Answer => self.answer(now),
            Timer::Answered => self.hang_up(now, EndReason::Failed, EndedBy::System),
            Timer::Connect => self.give_up_on_model(now, "the session did not become ready"),
            Timer::Retry => self.renew_lost_session(now),
            Timer::Expiry => self.renew_expiring_session(now),
            Timer::CallLimit => self.end_politely(now, EndReason::MaxDuration),
            Timer::Silence => self.end_politely(now, EndReason::MaxSilence),
            Timer::DeadAir => self.break_the_silence(now),
            Timer::Nudge => self.nudge(),
            Timer::Stall => self.give_up_on_model(now, "the model owed an answer and said nothing"),
            Timer::Digits => self.send_digits(),
            Timer::Prompt => self.playout.forget_prompts(),
            Timer::TakeBack => self.take_ending_back(now),
            Timer::Ending | Timer::LeadOut | Timer::Turn | Timer::BargeIn => {} // `settle` looks.
            Timer::Transfer => self.handle_transfer_timeout(now),
            Timer::Closing => self.finish(),
        }
    }

    fn handle_leg(&mut self, now: Instant, event: LegEvent) {
        match event {
            LegEvent::PlayoutStarted { item } => self.handle_playout_started(now, item),
            LegEvent::PlayoutDrained { item } => self.handle_playout_drained(now, item),
            LegEvent::PlayoutCleared { cut } => self.handle_playout_cleared(now, &cut),
            LegEvent::Digit(digit) => self.handle_digit(now, digit, Way::Media),
            LegEvent::SpeechStarted => self.handle_caller_started(now),
            LegEvent::SpeechPaused { ago } => self.barge_in.caller_pauses(now, ago),
            LegEvent::SpeechResumed => self.handle_caller_resumed(now),
            LegEvent::SpeechStopped { ago } => self.handle_caller_stopped(now, ago),
            LegEvent::MediaTimeout => match self.phase {
                // The PBX may stop sending while it moves the caller.
                Phase::Transferring | Phase::Transferred => self.media_lost = true,
                Phase::Ringing | Phase::Answering => {}
                Phase::Talking
                | Phase::LeadingOut(_)
                | Phase::Ending(_)
                | Phase::Closing(_)
                | Phase::Ended => self.hang_up(now, EndReason::MediaTimeout, EndedBy::System),
            },
        }
    }

    fn handle_signal(&mut self, now: Instant, event: SignalEvent) {
        match event {
            SignalEvent::Answered => self.handle_answered(now),
            SignalEvent::Cancelled => self.handle_hung_up(now, HangupCause::OriginatorCancel),
            SignalEvent::HungUp { cause } => self.handle_hung_up(now, cause),
            SignalEvent::Held(held) => {
                self.held = held;
                self.update_pause();
            }
            SignalEvent::Digit(digit) => self.handle_digit(now, digit, Way::Signalling),
            SignalEvent::Transfer(outcome) => self.handle_transfer_outcome(now, outcome),
            SignalEvent::TakenOver => self.handle_taken_over(now),
            SignalEvent::Playback(_) => {} // The leg's affair.
        }
    }

    fn answer(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Ringing) {
            self.phase = Phase::Answering;
            self.timers.stop(Timer::Answer);
            self.timers.start(Timer::Answered, now, SIGNALLING_PATIENCE);
            self.emit(Output::Signal(SignalCommand::Answer));
        }
    }

    fn handle_answered(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Answering) {
            self.phase = Phase::Talking;
            self.answered = Some(now);
            self.timers.stop(Timer::Answered);
            self.timers.start(Timer::CallLimit, now, self.spec.max_duration);
            self.speak_first();
        }
    }

    fn handle_digit(&mut self, now: Instant, digit: Digit, way: Way) {
        if !self.digits.is_new(now, digit, way) {
            return;
        }
        self.silence.reset();
        if !self.in_conversation() {
            return;
        }
        if self.digits.is_empty() {
            self.ledger.caller_began(now);
        }
        let complete = self.digits.push(digit) || self.abilities.takes_digits;
        if complete && self.chain.is_ready() {
            self.send_digits();
        } else {
            self.timers.start(Timer::Digits, now, GROUP_GAP);
        }
    }

    /// Sends the digits that wait, or keeps them until there is a model to send them to.
    fn send_digits(&mut self) {
        if !self.chain.is_ready() {
            return;
        }
        self.timers.stop(Timer::Digits);
        let Some(group) = self.digits.take() else { return };
        if self.abilities.takes_digits {
            for digit in group.chars() {
                self.tell_model(ModelCommand::Digits(digit.into()));
            }
        } else {
            self.tell_model(ModelCommand::Digits(group));
        }
    }

    /// Brings everything that follows from the state of the call up to date after each event.
    fn settle(&mut self, now: Instant) {
        if self.is_ended() {
            return;
        }
        self.settle_later_words(now);
        self.settle_ending(now);
        self.settle_lead_out(now);
        self.settle_barge_in(now);
        self.settle_turn(now);
        self.settle_waiting(now);
        self.settle_expiry(now);
        let caller_owes_words = matches!(self.phase, Phase::Talking)
            && !self.held
            && self.caller.speaking.is_none()
            && self.playout.is_silent();
        self.silence.hold(now, caller_owes_words);
        self.timers.set(Timer::Silence, self.silence.shows(self.spec.max_silence));
    }

    /// Caller and model may talk: the call is answered and nobody is about to leave.
    fn in_conversation(&self) -> bool {
        matches!(self.phase, Phase::Talking | Phase::LeadingOut(_))
    }

    fn play(&mut self, now: Instant, prompt: Prompt) -> ItemId {
        let item = self.playout.add_prompt(prompt);
        let longest = match prompt {
            Prompt::OneMoment | Prompt::Trouble | Prompt::Goodbye => LONGEST_PROMPT,
            Prompt::Phrase(_) => LONGEST_PHRASE,
        };
        self.timers.start(Timer::Prompt, now, longest);
        self.emit(Output::Leg(LegCommand::Play { item, prompt }));
        item
    }

    /// What is said in `prompt`; none of a phrase that the agent does not have.
    fn words_of(&self, prompt: Prompt) -> Option<&str> {
        match prompt {
            Prompt::OneMoment | Prompt::Trouble | Prompt::Goodbye => prompt.text(),
            Prompt::Phrase(PhraseId(place)) => {
                self.spec.phrases.get(usize::from(place)).map(String::as_str)
            }
        }
    }

    fn clear_playout(&mut self) {
        self.barge_in.end();
        self.playout.clear();
        self.emit(Output::Leg(LegCommand::ClearPlayout));
    }

    /// Nothing is heard on hold or while the caller is handed over.
    fn update_pause(&mut self) {
        let away = matches!(self.phase, Phase::Transferring | Phase::Transferred);
        let paused = self.held || away;
        if paused != self.paused && !matches!(self.phase, Phase::Closing(_) | Phase::Ended) {
            self.paused = paused;
            self.emit(Output::Leg(LegCommand::Pause(paused)));
        }
    }

    fn emit(&mut self, output: Output) {
        self.outputs.push_back(output);
    }
}
