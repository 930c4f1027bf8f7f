//! How calls end: by `end_call`, politely, at once, or by the far side.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    CallMachine, Output, Phase, SIGNALLING_PATIENCE,
    outcome::Verdict,
    timers::{Timer, after},
    tool_results::Given,
    tools::{required_text, text_argument},
};
use crate::{
    EndReason, EndedBy, HangupCause, ItemId, ModelCommand, PhraseId, Prompt, SignalCommand,
    ToolCall,
};

/// An ending takes at most this long.
const LONGEST_ENDING: Duration = Duration::from_secs(10);

/// An answer for a farewell begins within this, and is heard for so long: somebody else worded what is in it.
const FAREWELL_BEGINS: Duration = Duration::from_secs(4);
const LONGEST_FAREWELL: Duration = Duration::from_secs(20);

/// A message for an answering machine is over after this.
const LONGEST_MESSAGE: Duration = Duration::from_secs(60);

/// A goodbye that broke off is over after this much silence.
const BROKEN_OFF: Duration = Duration::from_secs(1);

/// Words that are being said when a limit is reached may go on this long.
const LAST_WORDS: Duration = Duration::from_secs(4);

/// Speech of this length takes an `end_call` back.
const TAKES_BACK: Duration = Duration::from_millis(600);

/// The leg reports silence at most this late, so speech that lasts so much longer is long enough.
pub(super) const SPEECH_HANGOVER: Duration = Duration::from_millis(200);

/// Tells the model that its `end_call` was taken back.
const TAKEN_BACK: &str =
    "(The caller went on talking, so the call was not ended. Go on with the conversation.)";

/// The last words of a call.
#[derive(Debug)]
pub(super) struct Ending {
    reason: EndReason,
    kind: Kind,
    /// Hang up now, whatever still plays.
    latest: Instant,
    /// No new answer of the model is heard.
    pub(super) refuses: bool,
    /// A farewell after the result of `end_call` may still begin.
    farewell: bool,
    /// It is waited for until then.
    begins: Instant,
}

#[derive(Debug)]
enum Kind {
    /// The model called `end_call`.
    EndCall { called: Instant },
    /// An answering machine hears a message in `item`, since `called` at the earliest.
    Message { called: Instant, item: ItemId },
    /// Words being said may finish until then.
    LastWords { until: Instant },
    /// Tandem says goodbye.
    Goodbye { item: ItemId },
}

impl Ending {
    /// The caller spoke: whatever the model answers to that is no farewell.
    pub(super) fn caller_spoke(&mut self) {
        self.farewell = false;
    }

    /// The model speaks: nothing more is waited for that is to begin. Some go on with the answer that called the tool.
    pub(super) fn model_speaks(&mut self, now: Instant) {
        self.begins = self.begins.min(now);
    }

    /// Whether an answer that begins now may be heard.
    pub(super) fn admits_answer(&mut self, now: Instant) -> bool {
        let admitted = std::mem::take(&mut self.farewell);
        self.refuses = !admitted;
        if admitted {
            self.begins = now;
        }
        admitted
    }
}

impl CallMachine {
    /// `end_call` of the model: hang-up comes `end_call_drain` after the played end of the goodbye and after the call itself,
    /// whichever is later (control API 10.2.2), and at the latest 10 s after the call. A farewell after the result is heard where the
    /// model has not spoken since the caller did: one goodbye is enough.
    pub(super) fn end_call(&mut self, now: Instant, call: &ToolCall) {
        let reason = match required_text(call, "reason").and_then(reason_of) {
            Ok(reason) => reason,
            Err(given) => return self.answer_tool(now, call, *given),
        };
        match self.phase {
            Phase::Talking => {}
            Phase::Ending(_) => return self.settle_tool(now, call, is_ending()),
            Phase::LeadingOut(_) | Phase::Transferring => {
                return self.refuse(now, call, "the caller is being transferred");
            }
            Phase::Ringing | Phase::Answering => {
                return self.refuse(now, call, "the call is not answered yet");
            }
            Phase::Transferred | Phase::Closing(_) | Phase::Ended => return,
        }
        self.summary =
            text_argument(call, "summary").map(|it| self.transcript.kept_of(it).to_owned());
        if let (EndReason::VoicemailDetected, Some(message)) = (reason, self.spec.voicemail_message)
        {
            self.leave_message(now, message);
            return self.settle_tool(now, call, is_ending());
        }
        let spoken = !self.waiting.is_due();
        self.start_ending(Ending {
            reason,
            kind: Kind::EndCall { called: now },
            latest: after(now, LONGEST_ENDING),
            refuses: false,
            farewell: !spoken,
            begins: now,
        });
        self.settle_tool(now, call, is_ending());
        if self.caller.speaking.is_some() {
            self.watch_for_take_back(now);
        }
    }

    /// Ends the call as `end_call` does, after the answer to the result that the model just got.
    pub(super) fn end_after_answer(&mut self, now: Instant) {
        self.start_ending(Ending {
            reason: EndReason::ConversationComplete,
            kind: Kind::EndCall { called: now },
            latest: after(now, LONGEST_FAREWELL),
            refuses: false,
            farewell: true,
            begins: after(now, FAREWELL_BEGINS),
        });
    }

    /// Ends the call when an answering machine has heard `message`, which comes after the words that wait to be heard.
    fn leave_message(&mut self, now: Instant, message: PhraseId) {
        if self.answering.running {
            self.tell_model(ModelCommand::Cancel);
        }
        let item = self.play(now, Prompt::Phrase(message));
        self.start_ending(Ending {
            reason: EndReason::VoicemailDetected,
            kind: Kind::Message { called: now, item },
            latest: after(now, LONGEST_MESSAGE),
            refuses: true,
            farewell: false,
            begins: now,
        });
    }

    /// Ends the call for a reason of our own: words being said may finish, then goodbye.
    pub(super) fn end_politely(&mut self, now: Instant, reason: EndReason) {
        match self.phase {
            Phase::Ringing | Phase::Answering => self.hang_up(now, reason, EndedBy::System),
            Phase::Talking | Phase::LeadingOut(_) => {
                self.fail_transfer("the call ended");
                self.start_ending(Ending {
                    reason,
                    kind: Kind::LastWords { until: after(now, LAST_WORDS) },
                    latest: after(now, LONGEST_ENDING),
                    refuses: false,
                    farewell: false,
                    begins: now,
                });
            }
            Phase::Transferring => self.overdue = Some(reason),
            Phase::Ending(_) | Phase::Transferred | Phase::Closing(_) | Phase::Ended => {}
        }
    }

    /// Looks whether the last words are over.
    pub(super) fn settle_ending(&mut self, now: Instant) {
        let Phase::Ending(ending) = &self.phase else { return };
        let (reason, latest, silent) = (ending.reason, ending.latest, self.playout.is_silent());
        let next = match ending.kind {
            Kind::EndCall { called } => {
                let played = self.last_drained_at.unwrap_or(called);
                let quiet_since = played.max(called);
                let drained = after(quiet_since, self.spec.end_call_drain);
                let over = if self.answering.running {
                    drained.max(after(quiet_since.max(ending.begins), BROKEN_OFF))
                } else if ending.farewell {
                    drained.max(ending.begins)
                } else {
                    drained
                };
                if now >= latest || (silent && now >= over) {
                    return self.hang_up(now, reason, EndedBy::Agent);
                }
                if silent { over.min(latest) } else { latest }
            }
            Kind::Message { called, item } => {
                let said = self.playout.get(item).is_none_or(|item| !item.queued);
                let played = self.last_drained_at.unwrap_or(called).max(called);
                let over = after(played, self.spec.end_call_drain);
                if now >= latest || (said && now >= over) {
                    return self.hang_up(now, reason, EndedBy::Agent);
                }
                if said { over.min(latest) } else { latest }
            }
            Kind::LastWords { until } if silent || now >= until => {
                return self.say_goodbye(now);
            }
            Kind::LastWords { until } => until,
            Kind::Goodbye { item } => {
                let said = self.playout.get(item).is_none_or(|item| !item.queued);
                if said || now >= latest {
                    return self.hang_up(now, reason, EndedBy::System);
                }
                latest
            }
        };
        self.timers.set(Timer::Ending, Some(next));
    }

    /// The caller speaks while the call is ending: see whether he goes on.
    pub(super) fn watch_for_take_back(&mut self, now: Instant) {
        if self.end_call_at().is_some() && self.spec.end_call_cancel_on_speech {
            self.timers.start(Timer::TakeBack, now, TAKES_BACK + SPEECH_HANGOVER);
        }
    }

    /// The caller spoke from `since` to `until`: long enough takes the ending back.
    pub(super) fn take_back_if_spoken(&mut self, now: Instant, since: Instant, until: Instant) {
        self.timers.stop(Timer::TakeBack);
        let Some(called) = self.end_call_at() else { return };
        let spoken = until.saturating_duration_since(since.max(called));
        if spoken >= TAKES_BACK && self.spec.end_call_cancel_on_speech {
            self.take_ending_back(now);
        }
    }

    /// The call goes on.
    pub(super) fn take_ending_back(&mut self, now: Instant) {
        if self.end_call_at().is_none() {
            return;
        }
        self.phase = Phase::Talking;
        self.summary = None;
        self.take_back_untold = true;
        self.timers.stop(Timer::Ending);
        let limit = self.answered.map(|answered| after(answered, self.spec.max_duration));
        self.timers.set(Timer::CallLimit, limit);
        self.cut_agent(now, self.abilities.detects_turns);
        self.replace_lost_session(now);
    }

    /// The caller has finished what he took the ending back for: the model learns of it.
    pub(super) fn tell_of_take_back(&mut self) {
        if matches!(self.phase, Phase::Talking) && std::mem::take(&mut self.take_back_untold) {
            self.say(TAKEN_BACK.into());
        }
    }

    /// Hangs up, or refuses the call where it was not answered.
    pub(super) fn hang_up(&mut self, now: Instant, reason: EndReason, by: EndedBy) {
        let (command, verdict) = match &self.phase {
            Phase::Closing(_) | Phase::Ended => return,
            Phase::Ringing => {
                let cause = if reason == EndReason::Rejected {
                    HangupCause::CallRejected
                } else {
                    HangupCause::NormalTemporaryFailure
                };
                (SignalCommand::Reject { cause }, Verdict { reason, by, cause })
            }
            Phase::Transferred => {
                let cause = HangupCause::NormalClearing;
                (SignalCommand::HangUp { cause }, Verdict::transferred())
            }
            Phase::Answering
            | Phase::Talking
            | Phase::LeadingOut(_)
            | Phase::Transferring
            | Phase::Ending(_) => {
                let cause = cause_of(reason);
                (SignalCommand::HangUp { cause }, Verdict { reason, by, cause })
            }
        };
        if self.is_ended_by_model() {
            let drained = self.last_drained_at.filter(|_| self.playout.is_silent());
            self.end_call_tail = drained.map(|drained| now.saturating_duration_since(drained));
        }
        self.emit(Output::Signal(command));
        self.let_go(now);
        self.phase = Phase::Closing(verdict);
        self.timers.start(Timer::Closing, now, SIGNALLING_PATIENCE);
    }

    /// The far side is gone.
    pub(super) fn handle_hung_up(&mut self, now: Instant, cause: HangupCause) {
        let lost = cause == HangupCause::RecoveryOnTimerExpire;
        let (reason, by) = match &self.phase {
            Phase::Ended => return,
            Phase::Closing(_) => return self.finish(),
            Phase::Transferred => {
                self.phase = Phase::Closing(Verdict::transferred());
                return self.finish();
            }
            Phase::Ending(Ending { reason, .. }) if self.is_ended_by_model() => {
                (*reason, EndedBy::Caller)
            }
            _ if lost => (EndReason::Failed, EndedBy::System),
            Phase::Ringing | Phase::Answering => (EndReason::Cancelled, EndedBy::Caller),
            Phase::Talking | Phase::LeadingOut(_) | Phase::Transferring | Phase::Ending(_) => {
                (EndReason::CallerHangup, EndedBy::Caller)
            }
        };
        self.let_go(now);
        self.phase = Phase::Closing(Verdict { reason, by, cause });
        self.finish();
    }

    /// Closes the model, stops the tools and keeps what was heard: nobody listens any more.
    pub(super) fn let_go(&mut self, now: Instant) {
        self.fail_transfer("the call ended");
        self.close_model();
        self.forget_tools(now);
        self.end_barge_in(now);
        self.playout.cut_all(now);
        for item in self.playout.items() {
            if let Some((heard, received)) = item.cut {
                self.transcript.cut(item.id, heard, received);
            }
        }
        self.timers.stop_all();
    }

    fn start_ending(&mut self, ending: Ending) {
        self.phase = Phase::Ending(ending);
        self.waiting.satisfy();
        self.timers.stop(Timer::CallLimit);
        self.timers.stop(Timer::LeadOut);
        self.timers.stop(Timer::Retry);
    }

    fn say_goodbye(&mut self, now: Instant) {
        if !self.playout.is_silent() {
            self.clear_playout();
        }
        if self.answering.running {
            self.tell_model(ModelCommand::Cancel);
        }
        let item = self.play(now, Prompt::Goodbye);
        if let Phase::Ending(ending) = &mut self.phase {
            ending.refuses = true;
            ending.kind = Kind::Goodbye { item };
            self.timers.set(Timer::Ending, Some(ending.latest));
        }
    }

    /// The call ends because the model called `end_call`.
    fn is_ended_by_model(&self) -> bool {
        let Phase::Ending(ending) = &self.phase else { return false };
        match ending.kind {
            Kind::EndCall { .. } | Kind::Message { .. } => true,
            Kind::LastWords { .. } | Kind::Goodbye { .. } => false,
        }
    }

    /// When the model called `end_call`, while the caller can still take it back.
    fn end_call_at(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Ending(Ending { kind: Kind::EndCall { called, .. }, .. }) => Some(*called),
            Phase::Ending(_)
            | Phase::Ringing
            | Phase::Answering
            | Phase::Talking
            | Phase::LeadingOut(_)
            | Phase::Transferring
            | Phase::Transferred
            | Phase::Closing(_)
            | Phase::Ended => None,
        }
    }
}

fn is_ending() -> Given {
    Given::done(json!({ "status": "ending" }))
}

/// The reason by its name in the schema of `end_call`, or what the model is told of any other.
fn reason_of(name: &str) -> Result<EndReason, Box<Given>> {
    const REASONS: [(&str, EndReason); 4] = [
        ("conversation_complete", EndReason::ConversationComplete),
        ("caller_goodbye", EndReason::CallerGoodbye),
        ("no_response", EndReason::NoResponse),
        ("voicemail_detected", EndReason::VoicemailDetected),
    ];
    let reason = REASONS.iter().find(|(known, _)| *known == name).map(|(_, reason)| *reason);
    reason.ok_or_else(|| {
        let known = REASONS.map(|(known, _)| known).join(", ");
        Box::new(Given::invalid(&[], &[format!("reason must be one of {known}")]))
    })
}

/// What the far side reads in our BYE.
fn cause_of(reason: EndReason) -> HangupCause {
    match reason {
        EndReason::MediaTimeout => HangupCause::RecoveryOnTimerExpire,
        EndReason::ModelError | EndReason::Failed => HangupCause::NormalTemporaryFailure,
        EndReason::Rejected => HangupCause::CallRejected,
        EndReason::ConversationComplete
        | EndReason::CallerGoodbye
        | EndReason::NoResponse
        | EndReason::VoicemailDetected
        | EndReason::CallerHangup
        | EndReason::Cancelled
        | EndReason::Transferred
        | EndReason::MaxDuration
        | EndReason::MaxSilence
        | EndReason::Draining => HangupCause::NormalClearing,
    }
}
