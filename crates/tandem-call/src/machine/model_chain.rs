//! The models of a call: one after the other, each renewed before it ends and after it failed.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    CallMachine, Output, Phase,
    timers::{Stopwatch, Timer, after},
    transcript::floor,
    turn::Answering,
    waiting::Cause,
};
use crate::{EndReason, Greet, ModelCommand, ModelFailure, Reaction};

/// A lost session is dialled again at most this often within [`RENEWAL_WINDOW`].
const RENEWALS: usize = 3;
const RENEWAL_WINDOW: Duration = Duration::from_secs(60);

/// A session that expires is replaced this long before.
const EXPIRY_MARGIN: Duration = Duration::from_secs(1);

/// A moment is quiet after this: what belongs to the last answer (its bill, the state to resume from) is here by then.
const QUIET: Duration = Duration::from_millis(500);

/// Texts that wait for a model, failures that are kept, and their length in bytes.
const KEPT: usize = 32;
const LONGEST_REASON: usize = 500;

/// Asks a session that took over to go on.
const GO_ON: &str = "(The connection was interrupted for a moment and the caller is waiting. \
                     Go on with the conversation where it stopped.)";

/// The name the offline attendant goes by in the record.
const ATTENDANT: &str = "attendant";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Dialled, or dialled again after a loss, and not ready.
    Connecting,
    /// Audio and commands flow.
    Ready,
    /// Its connection is being replaced before it ends: the old one may still be heard.
    Renewing,
    /// Gone.
    Lost,
    /// The call is over.
    Closed,
}

/// Where in the agent's list of models the call is.
#[derive(Debug)]
pub(super) struct ModelChain {
    index: usize,
    link: Link,
    /// Counts sessions, renewals included: ids of one mean nothing to the next.
    session: u32,
    /// This model was ready once.
    proven: bool,
    /// It was lost, and has not been ready since it was dialled again.
    redialled: bool,
    renewals: VecDeque<Instant>,
    expires: Option<Instant>,
    /// How long an expiring session has been of no use to anybody.
    quiet: Stopwatch,
    /// The caller waited for an answer when the session went.
    owed: bool,
    words: Vec<String>,
    used: Vec<String>,
    failures: Vec<String>,
}

impl ModelChain {
    pub(super) fn new() -> Self {
        Self {
            index: 0,
            link: Link::Lost,
            session: 0,
            proven: false,
            redialled: false,
            renewals: VecDeque::new(),
            expires: None,
            quiet: Stopwatch::default(),
            owed: false,
            words: Vec::new(),
            used: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// Audio and commands flow.
    pub(super) fn is_ready(&self) -> bool {
        self.link == Link::Ready
    }

    /// There is a session that was ready.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.link, Link::Ready | Link::Renewing)
    }

    /// The caller waits for an answer the present session does not know of.
    pub(super) fn owe(&mut self) {
        self.owed = true;
    }

    /// The last session was closed for good.
    pub(super) fn is_closed(&self) -> bool {
        self.link == Link::Closed
    }

    /// The number of the present session.
    pub(super) fn session(&self) -> u32 {
        self.session
    }

    /// The models that were ready, in order.
    pub(super) fn used(&self) -> &[String] {
        &self.used
    }

    /// What went wrong with them.
    pub(super) fn failures(&self) -> &[String] {
        &self.failures
    }

    /// Keeps text for the model until it may be said.
    pub(super) fn keep_words(&mut self, text: String) {
        if self.words.len() < KEPT {
            self.words.push(text);
        }
    }

    /// Takes all the text that was kept.
    pub(super) fn take_words(&mut self) -> Option<String> {
        (!self.words.is_empty()).then(|| std::mem::take(&mut self.words).join("\n"))
    }

    fn may_renew(&mut self, now: Instant) -> bool {
        self.renewals.retain(|at| now.saturating_duration_since(*at) < RENEWAL_WINDOW);
        self.renewals.len() < RENEWALS
    }
}

impl CallMachine {
    /// Sends `command` to the session, if there is one that hears it.
    pub(super) fn tell_model(&mut self, command: ModelCommand) {
        if self.chain.is_live() {
            self.emit(Output::Model(command));
        }
    }

    /// Closes the session for good.
    pub(super) fn close_model(&mut self) {
        if self.chain.link != Link::Closed {
            self.chain.link = Link::Closed;
            self.answering = Answering::default();
            self.waiting.satisfy();
            self.emit(Output::Model(ModelCommand::Close));
        }
    }

    /// Opens the model at `index`.
    pub(super) fn open_model(&mut self, now: Instant, index: usize, apologise: bool) {
        self.chain.index = index;
        self.chain.proven = false;
        self.chain.redialled = false;
        self.start_session(now, Link::Connecting, self.patience.connect);
        let history = self.transcript.history(&self.playout);
        self.emit(Output::OpenModel { index, history, apologise });
    }

    /// The session is ready.
    pub(super) fn handle_ready(&mut self, now: Instant) {
        if self.chain.link == Link::Lost {
            return;
        }
        self.chain.link = Link::Ready;
        self.chain.redialled = false;
        self.timers.stop(Timer::Connect);
        self.model_ready_at.get_or_insert(now);
        if !self.chain.proven {
            self.chain.proven = true;
            let name = self.model_name();
            self.chain.used.push(name);
        }
        self.answer(now);
        if self.greeted && std::mem::take(&mut self.chain.owed) {
            let words = self.opening_words();
            self.chain.words.insert(0, words);
        }
        self.speak_first();
        self.say_kept_words();
        if self.waiting.cause() == Some(Cause::Lost) {
            self.waiting.satisfy();
        }
        if !self.digits.is_empty() {
            self.send_digits();
        }
    }

    /// Orders the greeting, once, as soon as there is somebody to hear it and somebody to say it.
    pub(super) fn speak_first(&mut self) {
        if self.greeted || !matches!(self.phase, Phase::Talking) {
            return;
        }
        let Some(greet) = self.spec.greeting.order() else {
            self.greeted = true;
            return;
        };
        self.expect_answer(Cause::Greeting);
        if self.chain.is_ready() {
            self.greeted = true;
            self.chain.owed = false;
            self.tell_model(ModelCommand::Greet(greet));
        }
    }

    /// The session is gone.
    pub(super) fn lose_model(&mut self, now: Instant, failure: &ModelFailure) {
        if matches!(self.chain.link, Link::Lost | Link::Closed) {
            return;
        }
        self.note_model_failure(&failure.reason);
        let proven = self.chain.proven || self.on_attendant();
        self.end_session(Link::Lost);
        match self.phase {
            Phase::Ringing | Phase::Answering => match failure.reaction {
                // Nobody waits yet, and only the attendant is left: the model may have another try.
                Reaction::Retry { after } if self.is_last_model() && self.chain.may_renew(now) => {
                    self.timers.start(Timer::Retry, now, after);
                }
                Reaction::Retry { .. } | Reaction::GiveUp => self.next_model(now),
            },
            Phase::Talking | Phase::LeadingOut(_) | Phase::Transferring => {
                self.expect_answer(Cause::Lost);
                match failure.reaction {
                    Reaction::Retry { after }
                        if proven && !self.chain.redialled && self.chain.may_renew(now) =>
                    {
                        self.timers.start(Timer::Retry, now, after);
                    }
                    Reaction::Retry { .. } | Reaction::GiveUp => self.next_model(now),
                }
            }
            Phase::Ending(_) | Phase::Transferred | Phase::Closing(_) | Phase::Ended => {}
        }
    }

    /// The model cannot carry the call on, as far as the machine can see.
    pub(super) fn give_up_on_model(&mut self, now: Instant, reason: &str) {
        if self.chain.link == Link::Lost {
            return self.next_model(now); // It may not be dialled again soon enough.
        }
        let reason = reason.to_owned();
        self.lose_model(now, &ModelFailure { reaction: Reaction::GiveUp, reason });
    }

    /// Keeps the vendor's words.
    pub(super) fn note_model_failure(&mut self, reason: &str) {
        if self.chain.failures.len() < KEPT {
            let reason = &reason[..floor(reason, LONGEST_REASON)];
            let failure = format!("{}: {reason}", self.model_name());
            self.chain.failures.push(failure);
        }
    }

    /// The call goes on after all: a session that was lost while it ended is replaced.
    pub(super) fn replace_lost_session(&mut self, now: Instant) {
        if self.chain.link == Link::Lost {
            self.chain.owe();
            self.expect_answer(Cause::Lost);
            self.next_model(now);
        }
    }

    /// Dials a lost session again.
    pub(super) fn renew_lost_session(&mut self, now: Instant) {
        if self.chain.link == Link::Lost {
            self.chain.redialled = true;
            self.renew(now, Link::Connecting, self.patience.redial);
        }
    }

    /// The session says when it ends.
    pub(super) fn handle_expires_in(&mut self, now: Instant, span: Duration) {
        self.chain.expires = Some(after(now, span.saturating_sub(EXPIRY_MARGIN)));
    }

    /// Replaces an expiring session in a quiet moment, else when it must be.
    pub(super) fn settle_expiry(&mut self, now: Instant) {
        let quiet = matches!(self.phase, Phase::Talking)
            && self.chain.expires.is_some()
            && self.chain.is_ready()
            && self.caller.speaking.is_none()
            && !self.turn_is_open()
            && self.playout.is_silent()
            && !self.waiting.is_due()
            && !self.answering.running
            && !self.tools.runs_any();
        let quiet = quiet && self.chain.may_renew(now);
        self.chain.quiet.hold(now, quiet);
        let moment = self.chain.quiet.shows(QUIET);
        self.timers.set(Timer::Expiry, [self.chain.expires, moment].into_iter().flatten().min());
    }

    /// Replaces an expiring session now. One that was replaced too often is left to its end.
    pub(super) fn renew_expiring_session(&mut self, now: Instant) {
        self.chain.expires = None;
        let wanted = !matches!(self.phase, Phase::Ending(_));
        if wanted && self.chain.is_ready() && self.chain.may_renew(now) {
            self.end_session(Link::Renewing);
            if self.chain.owed {
                self.expect_answer(Cause::Lost);
            }
            self.renew(now, Link::Renewing, self.patience.connect);
        }
    }

    fn renew(&mut self, now: Instant, link: Link, patience: Duration) {
        self.chain.renewals.push_back(now);
        self.start_session(now, link, patience);
        let history = self.transcript.history(&self.playout);
        self.emit(Output::Model(ModelCommand::Renew { history }));
    }

    /// Goes to the agent's next model; behind the last stands the attendant, behind him nobody.
    fn next_model(&mut self, now: Instant) {
        if self.on_attendant() {
            self.end_politely(now, EndReason::ModelError);
        } else {
            let index = self.chain.index + 1;
            self.open_model(now, index, index == self.spec.models.len());
        }
    }

    /// Behind the present model there is only the attendant.
    fn is_last_model(&self) -> bool {
        self.chain.index + 1 == self.spec.models.len()
    }

    fn on_attendant(&self) -> bool {
        self.chain.index >= self.spec.models.len()
    }

    /// What the old session leaves: an answer that is owed, tools nobody waits for by their id.
    fn end_session(&mut self, link: Link) {
        let asked = self.turn_is_open() && self.caller.speaking.is_none();
        let owed =
            asked || self.waiting.is_due() || self.answering.running || self.tools.runs_any();
        self.chain.owed |= owed;
        self.chain.link = link;
        self.answering = Answering::default();
        self.change_tool_session();
        self.timers.stop(Timer::Connect);
        self.timers.stop(Timer::Retry);
    }

    /// A session is dialled, and ready within `patience`.
    fn start_session(&mut self, now: Instant, link: Link, patience: Duration) {
        self.chain.link = link;
        self.chain.session = self.chain.session.wrapping_add(1);
        self.chain.expires = None;
        self.waiting.heard_from_model(); // The new one has its own time.
        self.timers.stop(Timer::Retry);
        self.timers.start(Timer::Connect, now, patience);
    }

    /// What a session that took over is asked; a greeting nobody heard is asked for again, in words.
    fn opening_words(&self) -> String {
        match self.spec.greeting.order() {
            Some(Greet::Exactly(words)) if self.first_audio_at.is_none() => {
                format!("(Say exactly these words and nothing else: {words})")
            }
            Some(Greet::Instruction(words)) if self.first_audio_at.is_none() => {
                format!("({words})")
            }
            Some(_) | None => GO_ON.into(),
        }
    }

    fn model_name(&self) -> String {
        self.spec.models.get(self.chain.index).map_or(ATTENDANT, |name| name).into()
    }
}
