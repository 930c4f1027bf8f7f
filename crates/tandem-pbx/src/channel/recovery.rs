//! What is asked and done again when the event socket is back.

use std::time::Instant;

use tandem_call::HangupCause;

use super::{Channel, Phase, Purpose};
use crate::{Cause, ChannelUuid, Reply, SwitchCommand, SwitchError};

impl Channel {
    pub(super) fn link_restored(&mut self, now: Instant) {
        self.link_up = true;
        self.renew_endings(now);
        match self.phase {
            Phase::Ringing | Phase::Answering { .. } | Phase::Talking => {
                self.ask_channel();
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

    pub(super) fn ask_channel(&mut self) {
        let uuid = self.settings.uuid.clone();
        self.out.forget(|it| matches!(it, Purpose::Recover | Purpose::RecoverPeer(_)));
        self.out.order(SwitchCommand::Dump { uuid }, Purpose::Recover);
    }

    /// What the channel does, after a time in which nothing was heard of it.
    pub(super) fn recovered(&mut self, now: Instant, result: &Result<Reply, SwitchError>) {
        let dump = match result {
            Ok(reply) => reply.dump(),
            Err(error) if error.is_no_such_channel() => return self.found_gone(now),
            Err(_) => return, // The event socket is away again.
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
        if self.is_handing_over() {
            return self.hand_over_recovered(now, result);
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
        let dump = result.as_ref().ok().and_then(Reply::dump);
        let with = dump.as_ref().and_then(|dump| dump.variable("bridge_uuid"));
        if with == Some(self.settings.uuid.as_str()) && !self.is_target(peer) {
            self.taken_over(now, format!("bridged with {peer}"));
        }
    }
}
