//! The caller's turns, told to a model that finds none itself.

use std::time::{Duration, Instant};

use super::{
    CallMachine,
    ending::SPEECH_HANGOVER,
    timers::{Timer, after},
    turn::SHORTEST_UTTERANCE,
    waiting::Cause,
};
use crate::ModelCommand;

/// Speech that is still heard this long after the leg reported it is no click: the leg reports silence so much later.
const BELIEVED: Duration = SHORTEST_UTTERANCE.saturating_add(SPEECH_HANGOVER);

/// What the model knows of the caller's turn.
#[derive(Debug, Default)]
pub(super) struct MarkedTurn {
    /// The session that was told that a turn began and not that it ended.
    session: Option<u32>,
    /// When the caller was last heard in it.
    heard: Option<Instant>,
}

impl CallMachine {
    /// The model has to be told of turns, and hears it.
    pub(super) fn marks_turns(&self) -> bool {
        !self.abilities.detects_turns && self.chain.is_ready() && self.in_conversation()
    }

    /// The model was told that the caller's turn began, and not that it is over.
    pub(super) fn turn_is_open(&self) -> bool {
        self.chain.is_ready() && self.marked.session == Some(self.chain.session())
    }

    /// The caller fell silent at `until` after speech since `since`, which is part of a turn where it `asks`.
    pub(super) fn mark_silence(
        &mut self,
        now: Instant,
        since: Instant,
        until: Instant,
        asks: bool,
    ) {
        if asks && self.marks_turns() && !self.turn_is_open() {
            self.start_turn(now, since);
        }
        self.marked.heard = Some(until);
    }

    /// Begins a turn as soon as what the leg hears is speech, and ends it after the model's pause.
    pub(super) fn settle_turn(&mut self, now: Instant) {
        self.timers.stop(Timer::Turn);
        if !self.marks_turns() || self.held {
            return;
        }
        match (self.caller.speaking, self.turn_is_open()) {
            // The agent fell silent for him, so he is to be heard, whatever it was.
            (Some(_), false) if self.barge_in.is_judged() => {} // He has the agent to interrupt first.
            (Some(since), false) if self.caller.was_heeded() || now >= since + BELIEVED => {
                self.start_turn(now, since);
            }
            (Some(since), false) => self.timers.set(Timer::Turn, Some(since + BELIEVED)),
            (None, true) => {
                let over = after(self.marked.heard.unwrap_or(now), self.abilities.turn_pause);
                if now >= over {
                    self.end_turn();
                } else {
                    self.timers.set(Timer::Turn, Some(over));
                }
            }
            (Some(_), true) | (None, false) => {}
        }
    }

    fn start_turn(&mut self, now: Instant, since: Instant) {
        if !self.caller.was_heeded() {
            self.cut_agent(now, self.abilities.detects_turns); // What the model began to say meanwhile.
        }
        self.marked.session = Some(self.chain.session());
        let ago = now.saturating_duration_since(since);
        self.tell_model(ModelCommand::TurnStarted { ago });
    }

    fn end_turn(&mut self) {
        self.tell_of_take_back();
        self.marked.session = None;
        self.tell_model(ModelCommand::TurnEnded);
        self.expect_answer(Cause::Caller);
    }
}
