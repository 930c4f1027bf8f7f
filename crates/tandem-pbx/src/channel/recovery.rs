//! What is asked and done again when the event socket is back.

use std::time::{Duration, Instant};

use tandem_call::HangupCause;

use super::{Channel, ChannelNote, Phase, Purpose, after};
use crate::{Cause, ChannelUuid, Reply, SwitchCommand, SwitchError};

/// A question that the switch had no time for is asked again after this, and up to [`SPREAD`] more: the other channels
/// of the switch ask at the same moment.
const ASKS_AGAIN: Duration = Duration::from_secs(2);
const SPREAD: Duration = Duration::from_secs(1);

/// Such a question is asked again at most so often in a row.
const MOST_TRIES: u32 = 5;

/// A question about the channel that the switch did not answer yet.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    again: Option<Instant>,
    tries: u32,
}

impl Recovery {
    pub(super) fn due(&self) -> Option<Instant> {
        self.again
    }

    /// It is asked anew when the event socket is up.
    pub(super) fn stop(&mut self) {
        *self = Self::default();
    }
}

impl Channel {
    pub(super) fn link_restored(&mut self, now: Instant) {
        self.link_up = true;
        self.renew_endings(now);
        match self.phase {
            Phase::Ringing | Phase::Answering { .. } | Phase::Talking => {
                self.recover();
                if std::mem::take(&mut self.rings_on) {
                    let uuid = self.settings.uuid.clone();
                    self.out.order(SwitchCommand::Break { uuid, all: true }, Purpose::Silence);
                }
                self.flush_annotations();
                self.files_unsure(now);
                self.renew_transfer(now);
                self.renew_fork(now);
            }
            Phase::HangingUp { again: Some(_), .. } => self.order_hang_up(),
            Phase::Left { .. } => {
                self.flush_annotations();
                self.renew_fork(now);
            }
            Phase::HangingUp { .. } | Phase::Over => {}
        }
    }

    /// Asks what the channel does.
    pub(super) fn recover(&mut self) {
        self.recovery.stop();
        self.ask_channel();
    }

    fn ask_channel(&mut self) {
        self.recovery.again = None;
        let uuid = self.settings.uuid.clone();
        self.out.forget(|it| matches!(it, Purpose::Recover | Purpose::RecoverPeer(_)));
        self.out.order(SwitchCommand::Dump { uuid }, Purpose::Recover);
    }

    /// Asks again when the switch was too busy to answer. Of a link that went down it is heard when that is up again.
    fn recover_later(&mut self, now: Instant, error: &SwitchError) {
        if !matches!(error, SwitchError::Busy | SwitchError::TimedOut)
            || !self.link_up
            || !self.is_live()
        {
            return;
        }
        if self.recovery.tries == MOST_TRIES {
            let why = error.to_string();
            return self.out.note(ChannelNote::Refused { command: "uuid_dump", why });
        }
        self.recovery.tries += 1;
        let wait = ASKS_AGAIN + SPREAD.mul_f64(self.random.f64());
        self.recovery.again = Some(after(now, wait));
    }

    pub(super) fn check_recovery(&mut self, now: Instant) {
        if self.recovery.again.is_none_or(|at| now < at) {
            return;
        }
        if self.is_handing_over() {
            // On its way the channel still says that it waits.
            self.recovery.again = Some(after(now, ASKS_AGAIN));
        } else {
            self.ask_channel();
        }
    }

    /// What the channel does, after a time in which nothing was heard of it.
    pub(super) fn recovered(&mut self, now: Instant, result: &Result<Reply, SwitchError>) {
        let dump = match result {
            Ok(reply) => reply.dump(),
            Err(error) if error.is_no_such_channel() => return self.found_gone(now),
            Err(error) => return self.recover_later(now, error),
        };
        let Some(dump) = dump else { return };
        if matches!(self.phase, Phase::Answering { .. }) {
            if dump.get("Answer-State") == Some("answered") {
                self.prepare_fork();
                self.confirm_answer(now);
            } else {
                self.prepare_fork();
                self.order_answer();
            }
        }
        self.tell_held(dump.get("Channel-Call-State") == Some("HELD"));
        let hands_over = self.is_handing_over();
        if hands_over {
            self.hand_over_recovered(now, result);
        }
        if self.is_live() && !self.is_handing_over() {
            self.whereabouts_recovered(now, &dump);
        }
        if hands_over {
            return;
        }
        // A leg of long ago may be named there too: asked whether it says the same.
        let peer = dump.get("Other-Leg-Unique-ID").and_then(|peer| ChannelUuid::new(peer).ok());
        if let Some(peer) = peer.filter(|_| self.is_live()) {
            let command = SwitchCommand::Dump { uuid: peer.clone() };
            self.out.order(command, Purpose::RecoverPeer(peer));
        }
    }

    /// Modules refuse a fork of a channel that is gone in the same words as any other.
    pub(super) fn ask_whether_it_exists(&mut self) {
        let uuid = self.settings.uuid.clone();
        self.out.order(SwitchCommand::Exists { uuid }, Purpose::Exists);
    }

    pub(super) fn existence_told(&mut self, now: Instant, result: &Result<Reply, SwitchError>) {
        if result.as_ref().is_ok_and(|reply| reply.value() == Some("false")) {
            self.found_gone(now);
        }
    }

    /// The channel ended, and the event that told so was missed.
    pub(super) fn found_gone(&mut self, now: Instant) {
        self.gone(now, &Cause::from(HangupCause::NormalClearing));
    }

    pub(super) fn peer_recovered(
        &mut self,
        now: Instant,
        peer: &ChannelUuid,
        result: &Result<Reply, SwitchError>,
    ) {
        let dump = match result {
            Ok(reply) => reply.dump(),
            Err(error) => return self.recover_later(now, error),
        };
        let with = dump.as_ref().and_then(|dump| dump.variable("bridge_uuid"));
        if with == Some(self.settings.uuid.as_str()) && !self.is_target(peer) {
            self.taken_over(now, format!("bridged with {peer}"));
        }
    }
}
