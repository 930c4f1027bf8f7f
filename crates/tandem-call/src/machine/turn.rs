//! Turns and barge-in: who speaks, who is cut, and what of it was heard.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{CallMachine, Phase, is_prompt, waiting::Cause};
use crate::{Cut, ItemId, ModelCommand, ModelEvent, ResponseEnd};

/// Sounds of the caller shorter than this ask nothing.
pub(super) const SHORTEST_UTTERANCE: Duration = Duration::from_millis(200);

/// The model hears an utterance this much later than the leg, at most.
const MODEL_HEARS_LATER: Duration = Duration::from_secs(1);

/// Utterances without text that are remembered.
const UTTERANCES: usize = 8;

/// The model's running answer.
#[derive(Debug, Default)]
pub(super) struct Answering {
    /// It has begun and not ended.
    pub(super) running: bool,
    /// Audio of it came.
    pub(super) spoke: bool,
    /// It called a tool.
    pub(super) called: bool,
    /// It was cut, and its end has not come.
    pub(super) cut: bool,
    /// It was stopped before it was heard: what still comes of it is not.
    pub(super) refused: bool,
}

/// One stretch of the caller's speech.
#[derive(Debug)]
struct Utterance {
    start: Instant,
    stop: Option<Instant>,
}

/// The caller's side of the turns.
#[derive(Debug, Default)]
pub(super) struct Caller {
    /// Since when the leg hears speech.
    pub(super) speaking: Option<Instant>,
    /// The agent was cut in this stretch of speech.
    cut: bool,
    /// The model hears speech and will say when it ends, if it ever does.
    model_hears: bool,
    /// When playout was ordered to stop, until it did.
    cut_at: Option<Instant>,
    /// Those whose text has not come.
    utterances: VecDeque<Utterance>,
}

impl Caller {
    fn begin(&mut self, now: Instant) {
        if self.utterances.len() == UTTERANCES {
            self.utterances.pop_front();
        }
        self.utterances.push_back(Utterance { start: now, stop: None });
    }

    fn end(&mut self, now: Instant) {
        if let Some(last) = self.utterances.back_mut() {
            last.stop.get_or_insert(now);
        }
    }

    /// The agent was cut for what he says.
    pub(super) fn was_heeded(&self) -> bool {
        self.cut
    }

    /// The model heard speech; usually the leg has heard it before.
    fn begin_by_model(&mut self, now: Instant) {
        let heard = self.utterances.back().is_some_and(|last| {
            last.stop.is_none_or(|at| now.saturating_duration_since(at) < MODEL_HEARS_LATER)
        });
        if !heard {
            self.begin(now);
        }
    }

    /// Text that comes now is of what he says now: nothing he said before waits for its own.
    pub(super) fn is_first_text(&self) -> bool {
        self.utterances.len() == 1
    }

    /// When the speech began whose text comes now: the latest that is over, or else the running one.
    fn claim(&mut self, now: Instant) -> Instant {
        let over = self.utterances.iter().rposition(|utterance| utterance.stop.is_some());
        let index = over.or_else(|| self.utterances.len().checked_sub(1));
        index
            .and_then(|index| self.utterances.drain(..=index).next_back())
            .map_or(now, |it| it.start)
    }
}

impl CallMachine {
    /// Acts on what the model says.
    pub(super) fn handle_model(&mut self, now: Instant, event: ModelEvent) {
        if let ModelEvent::Usage(usage) = &event {
            self.usage.add(usage);
        }
        if self.chain.is_closed() {
            return;
        }
        self.waiting.heard_from_model();
        if !self.chain.is_live() {
            // A session that is dialled or gone has nothing to say but its state and the last of what was said.
            match &event {
                ModelEvent::Ready
                | ModelEvent::Lost(_)
                | ModelEvent::CallerText { .. }
                | ModelEvent::AgentText { .. } => {}
                ModelEvent::SpeechStarted
                | ModelEvent::SpeechStopped
                | ModelEvent::ResponseStarted
                | ModelEvent::ResponseEnded(_)
                | ModelEvent::ToolCall(_)
                | ModelEvent::ToolCancelled(_)
                | ModelEvent::Usage(_)
                | ModelEvent::ExpiresIn(_) => return,
            }
        }
        match event {
            ModelEvent::Ready => self.handle_ready(now),
            ModelEvent::SpeechStarted => self.handle_model_heard_speech(now),
            ModelEvent::SpeechStopped => self.handle_model_heard_the_end(now),
            ModelEvent::ResponseStarted => self.handle_response_started(now),
            ModelEvent::ResponseEnded(end) => self.handle_response_ended(now, &end),
            ModelEvent::CallerText { text, last } => {
                self.judge_words(now, &text);
                let start = match self.transcript.open_since() {
                    Some(start) => start,
                    None if text.trim().is_empty() => now,
                    None => self.caller.claim(now),
                };
                self.transcript.caller(now, start, &text, last);
            }
            // Nobody asked for it and nobody hears it.
            ModelEvent::AgentText { item, .. }
                if self.answering.refused && self.playout.never_had(item) => {}
            ModelEvent::AgentText { item, text } => {
                self.transcript.agent(now, item, &text, &self.playout);
            }
            ModelEvent::ToolCall(call) => self.handle_tool_call(now, call),
            ModelEvent::ToolCancelled(id) => self.handle_tool_cancelled(now, &id),
            ModelEvent::Usage(_) => {}
            ModelEvent::ExpiresIn(span) => self.handle_expires_in(now, span),
            ModelEvent::Lost(failure) => self.lose_model(now, &failure),
        }
    }

    /// Audio of the model is in the playout queue.
    pub(super) fn handle_model_audio(&mut self, now: Instant, item: ItemId, duration: Duration) {
        if is_prompt(item) || duration.is_zero() || self.chain.is_closed() {
            return;
        }
        let begins = self.chain.is_live() && !self.answering.spoke;
        if self.playout.receive(item, duration, self.chain.session()) {
            self.tools.log.speaks(item);
            if let Some(row) = self.ledger.audio(now, begins) {
                self.playout.set_row(item, row);
            }
        }
        if !self.chain.is_live() {
            return; // The rest of an answer whose session is gone.
        }
        self.answering.spoke = true;
        self.take_back_untold = false; // The model goes on by itself.
        self.waiting.satisfy();
        if let Phase::LeadingOut(transfer) = &mut self.phase {
            transfer.spoken = true;
        }
        if let Phase::Ending(ending) = &mut self.phase {
            ending.model_speaks(now);
        }
    }

    pub(super) fn handle_playout_started(&mut self, now: Instant, item: ItemId) {
        if !self.playout.start(now, item) {
            return;
        }
        if let Some(prompt) = self.playout.get(item).and_then(|item| item.prompt) {
            if let Some(words) = self.words_of(prompt).map(str::to_owned) {
                self.transcript.agent(now, item, &words, &self.playout);
            }
            return;
        }
        self.first_audio_at.get_or_insert(now);
        self.transcript.started(now, item);
        self.tools.log.is_heard(now, item);
        if let Some(row) = self.playout.get(item).and_then(|item| item.row) {
            self.ledger.started(now, row);
        }
    }

    pub(super) fn handle_playout_drained(&mut self, now: Instant, item: ItemId) {
        if !self.playout.drain(item) {
            return;
        }
        self.last_drained_at = Some(now);
        let broke_off = self.answering.running && self.answering.spoke;
        let owed = self.waiting.is_due(); // An answer to something else, which this one's end does not settle.
        if broke_off && !owed && !is_prompt(item) && self.playout.agent_is_silent() {
            self.expect_answer(Cause::Unfinished);
        }
    }

    /// The leg threw away what was queued: the model learns what the caller missed.
    pub(super) fn handle_playout_cleared(&mut self, now: Instant, cuts: &[Cut]) {
        let barge_in = self.caller.cut_at.take().map(|at| now.saturating_duration_since(at));
        for cut in cuts {
            let Some(item) = self.playout.cut(*cut) else { continue };
            let (id, session, row) = (item.id, item.session, item.row);
            let (heard, received) = item.cut.expect("it was just cut");
            self.transcript.cut(id, heard, received);
            if is_prompt(id) {
                continue;
            }
            if let Some(row) = row {
                self.ledger.cut(row, barge_in, heard);
            }
            if self.abilities.truncates && session == self.chain.session() {
                self.tell_model(if heard.as_millis() > 0 {
                    ModelCommand::Truncate { item: id, heard }
                } else {
                    ModelCommand::Forget { item: id }
                });
            }
        }
    }

    /// The leg hears the caller speak.
    pub(super) fn handle_caller_started(&mut self, now: Instant) {
        if self.answered.is_none() || self.caller.speaking.is_some() {
            return;
        }
        self.caller.speaking = Some(now);
        self.caller.cut = false;
        self.caller.model_hears = false;
        self.caller.begin(now);
        if self.in_conversation() {
            self.ledger.caller_began(now);
        }
        self.hear_caller(now);
        self.watch_for_take_back(now);
    }

    /// The caller fell silent `ago`, as the leg hears it.
    pub(super) fn handle_caller_stopped(&mut self, now: Instant, ago: Duration) {
        let Some(since) = self.caller.speaking.take() else { return };
        let until = now.checked_sub(ago).unwrap_or(since);
        self.caller.end(now);
        self.barge_in.caller_pauses(now, ago);
        self.take_back_if_spoken(now, since, until);
        self.handle_judged_silence(now);
        let long = until.saturating_duration_since(since) >= SHORTEST_UTTERANCE;
        let asks = (long && !self.barge_in.is_passed()) || self.caller.cut;
        self.mark_silence(now, since, until, asks);
        if self.turn_is_open() {
            return; // The model hears when his turn is over.
        }
        // Speech the model did not stop for is no question.
        if asks && self.playout.agent_is_silent() {
            self.expect_answer(Cause::Caller);
        }
        if !self.caller.model_hears {
            self.tell_of_take_back();
        }
    }

    /// The model hears the caller speak. What plays must stop where it stopped itself; else the leg's ear decides.
    fn handle_model_heard_speech(&mut self, now: Instant) {
        self.silence.reset();
        self.caller.model_hears = self.abilities.detects_turns;
        self.caller.begin_by_model(now);
        if self.in_conversation() {
            if !self.abilities.interrupts {
                self.hear_of_caller(now);
            } else if self.spec.interruption.patience().is_some() {
                self.cut_agent(now, true);
            }
        } else if let Phase::Ending(ending) = &mut self.phase {
            ending.caller_spoke();
        }
    }

    /// The model hears the end of the caller's turn.
    fn handle_model_heard_the_end(&mut self, now: Instant) {
        self.silence.reset();
        self.hear_of_silence(now);
        self.caller.model_hears = false;
        if self.caller.speaking.is_none() {
            self.caller.end(now);
        }
        if self.waiting.cause() != Some(Cause::Caller) && self.playout.agent_is_silent() {
            self.expect_answer(Cause::Caller);
        }
        self.waiting.drop_turn(); // Unless its answer begins now, it was noise to the model.
        self.tell_of_take_back();
    }

    /// Stops what plays and what is being answered; a model that `stopped` itself need not be told.
    pub(super) fn cut_agent(&mut self, now: Instant, stopped: bool) {
        let silent = !self.playout.may_be_stopped();
        if silent && !self.answering.running {
            return;
        }
        let again = self.caller.cut && silent;
        if !again {
            self.barge_in.count_stop();
        }
        self.caller.cut = true;
        self.answering.cut = true;
        if silent && !self.playout.is_silent() && !self.barge_in.is_ducked() {
            self.end_barge_in(now); // Words for the caller that he is to hear to their end.
        } else {
            self.caller.cut_at = Some(now);
            self.clear_playout();
        }
        if self.answering.running && !stopped {
            self.tell_model(ModelCommand::Cancel);
        }
        if self.caller.speaking.is_none() {
            self.expect_answer(Cause::Caller);
            self.waiting.drop_turn(); // Unless the caller is heard now, the model interrupted itself.
        }
    }

    fn handle_response_started(&mut self, now: Instant) {
        self.answering = Answering { running: true, ..Answering::default() };
        let refused = match &mut self.phase {
            Phase::Ending(ending) => !ending.admits_answer(now),
            // It answers to what the caller said before, or to what he said to show that he listens.
            Phase::Talking | Phase::LeadingOut(_) => {
                let unasked = self.barge_in.is_answered() && !self.waiting.is_due();
                self.turn_is_open() || (unasked && !self.playout.agent_is_silent())
            }
            Phase::Ringing
            | Phase::Answering
            | Phase::Transferring
            | Phase::Transferred
            | Phase::Closing(_)
            | Phase::Ended => false,
        };
        if refused {
            self.answering = Answering { refused: true, ..Answering::default() };
            self.tell_model(ModelCommand::Cancel);
        }
    }

    fn handle_response_ended(&mut self, now: Instant, end: &ResponseEnd) {
        let answer = std::mem::take(&mut self.answering);
        if self.waiting.cause() == Some(Cause::Unfinished) {
            self.waiting.satisfy();
        }
        if let ResponseEnd::Failed(reason) | ResponseEnd::Incomplete(reason) = end {
            self.note_model_failure(reason);
        }
        if answer.spoke || answer.called {
            return;
        }
        let again = self.waiting.drop_turn();
        if let ResponseEnd::Failed(reason) = end
            && again
        {
            self.give_up_on_model(now, reason);
        }
    }
}
