//! The caller waits for an answer: no dead air, no forgotten turn, no silent model.

use std::time::Instant;

use super::{
    CallMachine, Phase,
    timers::{Stopwatch, Timer},
};
use crate::{ModelCommand, Prompt};

/// Reminds a model that dropped a turn.
const NUDGE: &str =
    "(The caller is waiting for an answer. Answer now, or ask the caller to repeat.)";

/// Why the model owes an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It speaks first.
    Greeting,
    /// The caller finished a turn, or the model stopped its own.
    Caller,
    /// It has a tool's result.
    Tool,
    /// It was told something that wants an answer.
    Said,
    /// Its answer broke off in the middle.
    Unfinished,
    /// Its session is gone.
    Lost,
}

#[derive(Debug)]
struct Due {
    cause: Cause,
    /// The caller was told to wait.
    prompted: bool,
    /// The caller was told that there is trouble.
    troubled: bool,
    /// The model was reminded.
    nudged: bool,
    /// The model is known to have dropped the turn.
    dropped: bool,
}

/// The answer that is owed, and for how long.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    due: Option<Due>,
    quiet: Stopwatch,
    ignored: Stopwatch,
    stalled: Stopwatch,
}

impl Waiting {
    /// Whether an answer is owed.
    pub(super) fn is_due(&self) -> bool {
        self.due.is_some()
    }

    /// Why an answer is owed.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.due.as_ref().map(|due| due.cause)
    }

    /// An answer is owed from now on.
    pub(super) fn expect(&mut self, cause: Cause) {
        if cause == Cause::Caller {
            // His wait begins anew. For all other causes the one he is in goes on.
            self.quiet.reset();
            if let Some(due) = &mut self.due {
                (due.prompted, due.troubled) = (false, false);
            }
        }
        match &self.due {
            Some(due) if due.cause == cause && matches!(cause, Cause::Greeting | Cause::Lost) => {}
            Some(due) if due.cause == Cause::Lost && cause == Cause::Caller => {}
            before => {
                let (prompted, troubled) =
                    before.as_ref().map_or((false, false), |due| (due.prompted, due.troubled));
                self.due = Some(Due { cause, prompted, troubled, nudged: false, dropped: false });
                self.ignored.reset();
            }
        }
    }

    /// The answer came, or is not wanted any more.
    pub(super) fn satisfy(&mut self) {
        *self = Self::default();
    }

    /// The model gave a sign of life.
    pub(super) fn heard_from_model(&mut self) {
        self.stalled.reset();
    }

    /// The model dropped the turn that is owed. True when it did so although it was reminded.
    pub(super) fn drop_turn(&mut self) -> bool {
        let Some(due) = &mut self.due else { return false };
        due.dropped = true;
        due.nudged
    }
}

impl CallMachine {
    /// Starts and stops the timers of a wait by what is going on.
    pub(super) fn settle_waiting(&mut self, now: Instant) {
        let (patience, silent) = (self.patience, self.playout.is_silent());
        let open = self.in_conversation() && !self.held;
        let talking = matches!(self.phase, Phase::Talking);
        let forgotten = talking
            && self.chain.is_ready()
            && !self.answering.running
            && !self.tools.runs_any()
            && self.playout.agent_is_silent();
        let speaks = self.caller.speaking.is_some() || self.turn_is_open();
        let waiting = &mut self.waiting;
        let Some(due) = &waiting.due else {
            waiting.satisfy();
            for timer in [Timer::DeadAir, Timer::Nudge, Timer::Stall] {
                self.timers.stop(timer);
            }
            return;
        };
        // Nobody listens to the caller while the model is gone, so he may be spoken to.
        let open = open && (!speaks || due.cause == Cause::Lost);
        waiting.quiet.hold(now, open && silent);
        waiting.ignored.hold(now, open && forgotten && !due.nudged);
        // While he hears the agent he does not wait, however long the model has said nothing.
        let listening = !self.playout.agent_is_silent();
        waiting.stalled.gather(now, open && !listening && !self.tools.runs_any());
        let gap = if due.prompted { patience.dead_air_again } else { patience.dead_air };
        self.timers.set(Timer::DeadAir, waiting.quiet.shows(gap));
        self.timers.set(Timer::Nudge, waiting.ignored.shows(patience.nudge));
        self.timers.set(Timer::Stall, waiting.stalled.shows(patience.stall));
    }

    /// The model owes the caller an answer.
    pub(super) fn expect_answer(&mut self, cause: Cause) {
        if self.in_conversation() {
            self.waiting.expect(cause);
            if cause == Cause::Caller && !self.chain.is_ready() {
                self.chain.owe(); // Nobody heard the caller: the next session has to be asked.
            }
        }
    }

    /// The caller has waited in silence for long enough: a word. Of a model that is gone, or has said nothing at all for
    /// long enough to be reminded, he is told that there is trouble, once.
    pub(super) fn break_the_silence(&mut self, now: Instant) {
        let stalled = self.waiting.stalled.shows(self.patience.nudge).is_some_and(|at| at <= now);
        if let Some(due) = &mut self.waiting.due {
            let trouble = !due.troubled && (stalled || due.cause == Cause::Lost);
            due.prompted = true;
            due.troubled |= trouble;
            self.play(now, if trouble { Prompt::Trouble } else { Prompt::OneMoment });
        }
    }

    /// The model dropped the caller's turn: reminds it, once.
    pub(super) fn nudge(&mut self) {
        if let Some(due) = &mut self.waiting.due {
            due.nudged = true;
            self.tell_model(ModelCommand::Say(NUDGE.into()));
        }
    }

    /// Tells the model `text`, which wants an answer; at once, or when there is a model and it may speak.
    pub(super) fn say(&mut self, text: String) {
        self.chain.keep_words(text);
        if !self.chain.is_ready() {
            self.expect_answer(Cause::Lost);
        }
        self.say_kept_words();
    }

    /// Tells the model everything that waited to be said.
    pub(super) fn say_kept_words(&mut self) {
        if matches!(self.phase, Phase::Talking)
            && self.chain.is_ready()
            && let Some(words) = self.chain.take_words()
        {
            self.tell_model(ModelCommand::Say(words));
            self.expect_answer(Cause::Said);
        }
    }
}
