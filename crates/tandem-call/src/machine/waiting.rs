//! The caller waits for an answer: no dead air, no forgotten turn, no silent model.

use std::time::{Duration, Instant};

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
    /// The model was reminded.
    nudged: bool,
    /// The model is known to have dropped the turn.
    dropped: bool,
}

/// The answer that is owed, and how long the caller has waited for it, or for a tool.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    due: Option<Due>,
    /// The caller was told to wait.
    prompted: bool,
    /// The caller was told that there is trouble.
    troubled: bool,
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
            (self.prompted, self.troubled) = (false, false);
        }
        match &self.due {
            Some(due) if due.cause == cause && matches!(cause, Cause::Greeting | Cause::Lost) => {}
            Some(due) if due.cause == Cause::Lost && cause == Cause::Caller => {}
            Some(_) | None => {
                self.due = Some(Due { cause, nudged: false, dropped: false });
                self.ignored.reset();
            }
        }
    }

    /// The answer came, or is not wanted any more. How long the caller has heard nothing does not change by that.
    pub(super) fn satisfy(&mut self) {
        *self = Self { quiet: std::mem::take(&mut self.quiet), ..Self::default() };
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
        let runs = self.tools.runs_any();
        let waiting = &mut self.waiting;
        if waiting.due.is_none() && !runs {
            *waiting = Waiting::default();
            for timer in [Timer::DeadAir, Timer::Nudge, Timer::Stall] {
                self.timers.stop(timer);
            }
            return;
        }
        // Nobody listens to the caller while the model is gone, so he may be spoken to.
        let lost = waiting.due.as_ref().is_some_and(|due| due.cause == Cause::Lost);
        let open = open && (!speaks || lost);
        waiting.quiet.hold(now, open && silent);
        let reminded = waiting.due.as_ref().is_none_or(|due| due.nudged);
        waiting.ignored.hold(now, open && forgotten && !reminded);
        // While he hears the agent he does not wait, however long the model has said nothing.
        let listening = !self.playout.agent_is_silent();
        let owed = waiting.due.is_some();
        waiting.stalled.gather(now, owed && open && !listening && !runs);
        let gap = if waiting.prompted { patience.dead_air_again } else { patience.dead_air };
        let quiet = waiting.quiet.shows(Duration::ZERO);
        let filler = quiet.and_then(|since| self.tools.filler_due(since));
        let dead_air = match filler {
            Some(at) => waiting.quiet.shows(patience.dead_air_again).map(|latest| at.min(latest)),
            None => waiting.quiet.shows(gap),
        };
        self.timers.set(Timer::DeadAir, dead_air);
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

    /// The caller has waited in silence for long enough: a word, of the tool that runs where it has some. Of a model that is
    /// gone, or has said nothing at all for long enough to be reminded, he is told that there is trouble, once.
    pub(super) fn break_the_silence(&mut self, now: Instant) {
        self.waiting.prompted = true;
        if let Some((phrase, interruptible)) = self.tools.take_filler() {
            let item = self.play(now, Prompt::Phrase(phrase));
            if !interruptible {
                self.playout.protect(item);
            }
            return;
        }
        let stalled = self.waiting.stalled.shows(self.patience.nudge).is_some_and(|at| at <= now);
        let trouble =
            !self.waiting.troubled && (stalled || self.waiting.cause() == Some(Cause::Lost));
        self.waiting.troubled |= trouble;
        self.play(now, if trouble { Prompt::Trouble } else { Prompt::OneMoment });
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
