//! Which answer runs, which is wanted next, and when it may be asked for.
//!
//! The server takes a `response.create` only while no other answer runs, and it makes answers of its own whenever
//! the caller stops speaking. So a wanted answer waits here for its moment, and only one is ever wanted.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::json::Json;

/// Answers whose late audio is still recognised as stale.
const MAX_WITHHELD: usize = 32;

/// After the caller stopped, the server's own answer is due; without one in this time the noise was no turn.
const OWN_ANSWER: Duration = Duration::from_millis(1_500);

/// A caller who "speaks" longer than this without a stop is a server that does not report stops.
const LONGEST_SPEECH: Duration = Duration::from_secs(30);

/// A `response.create` that is neither answered nor refused in this time was swallowed.
const SWALLOWED: Duration = Duration::from_secs(10);

/// An answer we want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// To what was last added to the conversation.
    Answer,
    /// The first words, by these instructions; without tools.
    Greeting { instructions: String, exact: bool },
}

#[derive(Debug, Clone)]
struct Due {
    what: Wanted,
    not_before: Instant,
}

#[derive(Debug, Clone)]
struct Asked {
    what: Wanted,
    event_id: String,
    until: Instant,
    /// It is to be stopped as soon as it has a name.
    cancel: bool,
}

/// What a server's `response.created` turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Created {
    /// An answer to be heard.
    Heard,
    /// An answer that was stopped before it began.
    Stopped,
    /// Not part of the conversation.
    OutOfBand,
}

/// The answers of one connection.
#[derive(Debug, Default)]
pub(super) struct Responses {
    active: Option<String>,
    withheld: VecDeque<String>,
    due: Option<Due>,
    asked: Option<Asked>,
    last: Option<(String, Wanted)>,
    counter: u64,
    caller_speaks_until: Option<Instant>,
    own_answer_until: Option<Instant>,
    /// The caller's turn that the server was told of is not over.
    turn_open: bool,
    /// The server gives answers a conversation id, as far as is known.
    names_conversations: Option<bool>,
    conflicts: u8,
    retries: u8,
}

impl Responses {
    /// Wants an answer, not before `at`. A greeting is never replaced by a plain answer.
    pub(super) fn want(&mut self, what: Wanted, at: Instant) {
        match &mut self.due {
            Some(due) if what == Wanted::Answer => due.not_before = due.not_before.min(at),
            _ => self.due = Some(Due { what, not_before: at }),
        }
    }

    /// What `id` says is not to be heard any more.
    pub(super) fn is_withheld(&self, id: &[u8]) -> bool {
        self.withheld.iter().any(|withheld| withheld.as_bytes() == id)
    }

    /// Notes that audio of `id` came: an answer that was never announced begins with it.
    ///
    /// Says whether it began just now.
    pub(super) fn note_content(&mut self, id: &[u8]) -> bool {
        if self.active.is_some() {
            return false;
        }
        self.active = Some(String::from_utf8_lossy(id).into_owned());
        self.asked = None;
        self.own_answer_until = None;
        true
    }

    /// The message for the wanted answer, if its moment has come.
    pub(super) fn next_create(&mut self, now: Instant, open_calls: bool) -> Option<String> {
        let due = self.due.as_ref()?;
        let greeting = due.what != Wanted::Answer;
        let blocked = self.active.is_some()
            || self.asked.is_some()
            || now < due.not_before
            || (!greeting && (open_calls || self.caller_turn(now)));
        if blocked {
            return None;
        }
        let what = self.due.take()?.what;
        self.counter += 1;
        let event_id = format!("answer-{}", self.counter);
        let message = match &what {
            Wanted::Answer => json!({ "type": "response.create", "event_id": event_id }),
            Wanted::Greeting { instructions, .. } => json!({
                "type": "response.create",
                "event_id": event_id,
                "response": { "instructions": instructions, "tool_choice": "none" },
            }),
        };
        self.last = Some((event_id.clone(), what.clone()));
        self.asked = Some(Asked { what, event_id, until: now + SWALLOWED, cancel: false });
        Some(message.to_string())
    }

    /// The caller speaks, or has stopped so lately that the server's own answer is still to come.
    fn caller_turn(&self, now: Instant) -> bool {
        self.turn_open
            || self.caller_speaks_until.is_some_and(|until| now < until)
            || self.own_answer_until.is_some_and(|until| now < until)
    }

    /// When time alone changes something.
    pub(super) fn poll_timeout(&self, open_calls: bool) -> Option<Instant> {
        let swallowed = self.asked.as_ref().map(|asked| asked.until);
        let due = self.due.as_ref().filter(|due| {
            let waits = (open_calls || self.turn_open) && due.what == Wanted::Answer;
            self.active.is_none() && self.asked.is_none() && !waits
        });
        let due = due.map(|due| match due.what {
            Wanted::Greeting { .. } => due.not_before,
            Wanted::Answer => [self.caller_speaks_until, self.own_answer_until]
                .into_iter()
                .flatten()
                .fold(due.not_before, Instant::max),
        });
        [due, swallowed].into_iter().flatten().min()
    }

    /// Forgets what took too long.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.asked.take_if(|asked| asked.until <= now);
        self.caller_speaks_until.take_if(|until| *until <= now);
        self.own_answer_until.take_if(|until| *until <= now);
    }

    /// The caller began to speak. Of a server that `interrupts`, the running answer is over as far as anybody hears.
    pub(super) fn speech_started(&mut self, now: Instant, interrupts: bool) {
        self.caller_speaks_until = Some(now + LONGEST_SPEECH);
        self.own_answer_until = None;
        if interrupts {
            self.withhold_active();
        }
    }

    /// The caller stopped; the server will answer if there was a turn.
    pub(super) fn speech_stopped(&mut self, now: Instant) {
        self.caller_speaks_until = None;
        self.own_answer_until = Some(now + OWN_ANSWER);
    }

    /// We say that the caller's turn began: no answer is asked for until it is over, and what runs or was asked for is
    /// stopped. The id of an answer that is to be stopped comes back.
    pub(super) fn turn_started(&mut self) -> Option<String> {
        self.turn_open = true;
        if let Some(asked) = &mut self.asked {
            asked.cancel = true;
        }
        self.withhold_active()
    }

    /// We say that the caller's turn is over.
    pub(super) fn turn_ended(&mut self) {
        self.turn_open = false;
    }

    /// Stops the running answer; its id comes back. One that was asked for and has no id yet is stopped when it gets
    /// one, and one that is only wanted is not asked for.
    pub(super) fn cancel(&mut self) -> Option<String> {
        self.due = None;
        if let Some(asked) = &mut self.asked {
            asked.cancel = true;
        }
        self.withhold_active()
    }

    /// `response.created`. `answers_all` says that everything added to the conversation was in it before.
    pub(super) fn created(&mut self, response: Json<'_>, answers_all: bool) -> Created {
        let id = response.get("id").text().into_owned();
        if self.is_out_of_band(response) {
            self.withhold(id);
            return Created::OutOfBand;
        }
        let asked = self.asked.take();
        self.own_answer_until = None;
        if asked.is_none() {
            self.last = None;
        }
        if asked.is_none() && answers_all {
            // The server answered by itself what we wanted an answer to; exact words are still owed.
            self.due.take_if(|due| !matches!(due.what, Wanted::Greeting { exact: true, .. }));
        }
        self.active = Some(id.clone());
        if asked.is_some_and(|asked| asked.cancel) {
            self.withhold(id);
            return Created::Stopped;
        }
        Created::Heard
    }

    /// An answer outside the conversation has no conversation id. But there are servers that never give one: the
    /// answer to our own request, which is always part of the conversation, shows whether this is such a server.
    fn is_out_of_band(&mut self, response: Json<'_>) -> bool {
        let [conversation, id] = response.members(["conversation", "conversation_id"]);
        if conversation.text() == "none" {
            return true;
        }
        if id.is_absent() {
            return false;
        }
        if id.is_string() {
            self.names_conversations = Some(true);
            return false;
        }
        if self.names_conversations.is_none() && self.asked.is_some() {
            self.names_conversations = Some(false);
            return false;
        }
        self.names_conversations != Some(false) || self.active.is_some()
    }

    /// `response.done`. Says whether it was part of the conversation, and whether it had been stopped.
    pub(super) fn done(&mut self, id: &str) -> (bool, bool) {
        let withheld = self.is_withheld(id.as_bytes());
        if !withheld {
            // Nothing of an answer comes after its end; what does is not heard.
            self.withhold(id.to_owned());
        }
        if self.active.as_deref() == Some(id) {
            self.active = None;
            (true, withheld)
        } else if self.active.is_none() && !withheld {
            // A server that does not announce answers; whatever we asked for, this was it.
            self.asked = None;
            (true, false)
        } else {
            (false, withheld)
        }
    }

    /// An answer went well: faults are counted anew.
    pub(super) fn succeeded(&mut self) {
        self.last = None;
        self.retries = 0;
        self.conflicts = 0;
    }

    /// Asks again for the answer that failed, `delay` from `now`. False when that was tried already.
    pub(super) fn retry(&mut self, now: Instant, delay: Duration) -> bool {
        if self.retries > 0 {
            return false;
        }
        self.retries += 1;
        let what = self.last.take().map_or(Wanted::Answer, |(_, what)| what);
        self.want(what, now + delay);
        true
    }

    /// The server refused a `response.create` because another answer runs: it is asked for once more after that one.
    pub(super) fn conflict(&mut self, event_id: Option<&str>, now: Instant) {
        let Some((_, what)) =
            self.last.take_if(|(last, _)| event_id.is_none_or(|refused| refused == last))
        else {
            return;
        };
        self.asked = None;
        if self.conflicts > 0 {
            return;
        }
        self.conflicts += 1;
        // Without a running answer its announcement is still on the way.
        let wait = if self.active.is_some() { Duration::ZERO } else { OWN_ANSWER };
        self.want(what, now + wait);
    }

    /// The server refused the `response.create` with this id. False when there is none.
    pub(super) fn refused(&mut self, event_id: Option<&str>) -> bool {
        self.asked.take_if(|asked| event_id == Some(&asked.event_id)).is_some()
    }

    /// An answer is asked for or runs.
    pub(super) fn is_busy(&self) -> bool {
        self.active.is_some() || self.asked.is_some()
    }

    /// What was wanted or asked for and not begun, for the connection that takes over.
    pub(super) fn take_wanted(&mut self) -> Option<Wanted> {
        let due = self.due.take().map(|due| due.what);
        due.or_else(|| self.asked.take().map(|asked| asked.what))
    }

    /// What the running answer says is not to be heard any more; its id comes back the first time.
    fn withhold_active(&mut self) -> Option<String> {
        let id = self.active.clone()?;
        if self.is_withheld(id.as_bytes()) {
            return None;
        }
        self.withhold(id.clone());
        Some(id)
    }

    fn withhold(&mut self, id: String) {
        if id.is_empty() {
            return;
        }
        if self.withheld.len() == MAX_WITHHELD {
            self.withheld.pop_front();
        }
        self.withheld.push_back(id);
    }
}
