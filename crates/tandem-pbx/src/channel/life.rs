//! How the call begins and ends on its channel.

use std::time::Instant;

use tandem_call::{HangupCause, SignalEvent};

use super::{
    AGAIN_AFTER, Channel, ChannelNote, HANG_UP_PATIENCE, LAST_WORDS, LONGEST_LEAVE, Phase, Purpose,
    after,
};
use crate::{Cause, Reply, SwitchCommand, SwitchError};

impl Channel {
    pub(super) fn answer(&mut self, now: Instant) {
        if self.phase != Phase::Ringing {
            return;
        }
        self.phase = Phase::Answering { again: None };
        if !self.link_up {
            return; // Done when the event socket is up again, if the call waits so long.
        }
        self.prepare_fork();
        if self.answered {
            self.confirm_answer(now);
        } else {
            self.order_answer();
        }
    }

    pub(super) fn order_answer(&mut self) {
        self.phase = Phase::Answering { again: None };
        if self.link_up {
            let uuid = self.settings.uuid.clone();
            self.out.order(SwitchCommand::Answer { uuid }, Purpose::Answer);
        }
    }

    pub(super) fn answer_ordered(&mut self, now: Instant, result: Result<Reply, SwitchError>) {
        if !matches!(self.phase, Phase::Answering { .. }) {
            return;
        }
        match result {
            Ok(_) => self.confirm_answer(now),
            Err(error) if error.is_no_such_channel() => {
                self.gone(now, &Cause::from(HangupCause::OriginatorCancel));
            }
            Err(SwitchError::Refused { .. } | SwitchError::Command(_)) => {
                self.hang_up(now, HangupCause::NormalTemporaryFailure);
            }
            Err(_) => self.phase = Phase::Answering { again: Some(after(now, AGAIN_AFTER)) },
        }
    }

    /// The switch says that the channel is answered.
    pub(super) fn confirm_answer(&mut self, now: Instant) {
        self.answered = true;
        if matches!(self.phase, Phase::Answering { .. }) {
            self.phase = Phase::Talking;
            self.tell(SignalEvent::Answered);
            self.start_fork(now);
        }
    }

    pub(super) fn hang_up(&mut self, now: Instant, cause: HangupCause) {
        if !self.is_live() {
            return;
        }
        let answered = self.phase == Phase::Talking;
        self.abort_transfer(now, "the call is over");
        self.order_all_annotations(); // The switch carries both out in this order.
        let latest = after(now, HANG_UP_PATIENCE);
        self.phase = Phase::HangingUp { cause, answered, again: None, latest };
        self.fork.forget();
        self.files.clear();
        self.order_hang_up();
    }

    /// Also while the event socket is down: the link keeps it.
    pub(super) fn order_hang_up(&mut self) {
        if let Phase::HangingUp { cause, again, .. } = &mut self.phase {
            *again = None;
            let (uuid, cause) = (self.settings.uuid.clone(), Cause::from(*cause));
            self.out.order(SwitchCommand::HangUp { uuid, cause }, Purpose::HangUp);
        }
    }

    pub(super) fn hang_up_ordered(&mut self, now: Instant, result: &Result<Reply, SwitchError>) {
        let Phase::HangingUp { cause, answered, again, .. } = &mut self.phase else { return };
        if let Err(error) = result
            && !error.is_no_such_channel()
        {
            *again = Some(after(now, AGAIN_AFTER));
            return;
        }
        let event = ended(*cause, *answered);
        self.end(event);
    }

    /// The channel is not there any more.
    pub(super) fn gone(&mut self, now: Instant, cause: &Cause) {
        match self.phase {
            Phase::Ringing | Phase::Answering { .. } => {
                self.abort_transfer_for(now, cause);
                self.end(SignalEvent::Cancelled);
            }
            Phase::Talking => {
                self.abort_transfer_for(now, cause);
                self.end(SignalEvent::HungUp { cause: cause.cause() });
            }
            Phase::HangingUp { cause, answered, .. } => self.end(ended(cause, answered)),
            Phase::Left { .. } => self.close(),
            Phase::Over => {}
        }
    }

    /// Tells the call of its end.
    pub(super) fn end(&mut self, event: SignalEvent) {
        self.tell(event);
        self.close();
    }

    fn close(&mut self) {
        self.phase = Phase::Over;
        self.files.clear();
        self.annotations.clear();
        self.fork.forget();
    }

    /// Our part is over, the channel's is not.
    pub(super) fn leave(&mut self, now: Instant) {
        self.tell(SignalEvent::HungUp { cause: HangupCause::NormalClearing });
        self.files.clear();
        self.order_all_annotations();
        let until = after(now, LAST_WORDS);
        self.phase = Phase::Left { until, latest: after(now, LONGEST_LEAVE) };
    }

    /// Ends the time for last words.
    pub(super) fn settle_left(&mut self, now: Instant) {
        if let Phase::Left { until, latest } = self.phase {
            let quiet = until <= now && !self.fork.is_stopping();
            if quiet || latest <= now {
                self.close();
            }
        }
    }

    pub(super) fn taken_over(&mut self, now: Instant, how: String) {
        if !self.is_live() {
            return;
        }
        self.out.note(ChannelNote::TakenOver(how));
        self.abort_transfer(now, "somebody else took the caller");
        self.stop_fork();
        self.tell(SignalEvent::TakenOver);
        self.leave(now);
    }
}

/// The end of a call that we ended.
pub(super) fn ended(cause: HangupCause, answered: bool) -> SignalEvent {
    match cause {
        HangupCause::OriginatorCancel if !answered => SignalEvent::Cancelled,
        cause => SignalEvent::HungUp { cause },
    }
}
