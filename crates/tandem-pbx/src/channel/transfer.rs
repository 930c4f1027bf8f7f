//! Hands the caller over, so that it comes back when nobody takes it.
//!
//! A plain transfer moves the caller before anybody is known to answer. Instead the target is called on a leg of our
//! own while the caller hears it ring, and both are bridged when it answers. The fork goes on until the bridge is
//! there: what fails before leaves the conversation as it was. It is not paused either, for a fork without frames looks
//! like a dead caller to the leg's media time-out.

use std::time::{Duration, Instant};

use tandem_call::{SignalEvent, TransferOutcome, TransferTarget, transfer_announcement};

use super::{
    Channel, ChannelNote, ChannelOrder, Purpose, after, causes,
    legs::{Leg, PARK_TIMEOUT},
    transfer_plan::Reach,
};
use crate::{
    BroadcastLeg, Cause, ChannelEventKind, ChannelUuid, DialString, Originate, Playable, Reply,
    SwitchCommand, SwitchError, VariableName, VariableValue,
};

/// Beyond the target's ringing, for the switch to say how it went.
const GRACE: Duration = Duration::from_secs(10);

/// The target hears what it is about within this, or is connected without.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(30);

/// A bridge that was ordered is there within this.
const BRIDGED_WITHIN: Duration = Duration::from_secs(3);

/// A caller who was handed to an application is there within this; the order itself is answered within its own limit.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_millis(1_500);
pub(super) const HAND_OVER_PATIENCE: Duration = Duration::from_secs(8);

/// A transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) headers: Vec<(String, String)>,
    attended: bool,
    pub(super) step: Step,
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) enum Step {
    /// The switch is asked whether the place exists; `asked` questions have been answered.
    Checking { reach: Reach, asked: usize },
    /// The target rings.
    Ringing { leg: Leg },
    /// The target hears what it is about.
    Announcing { leg: Leg },
    /// Caller and target are being connected.
    Bridging { leg: Leg },
    /// The caller is being handed to these applications; to the dialplan where there are none.
    HandingOver { applications: Vec<String>, accepted: bool, moved: bool },
}

impl Transfer {
    pub(super) fn due(&self) -> Instant {
        self.until
    }

    fn leg(&self) -> Option<&Leg> {
        match &self.step {
            Step::Ringing { leg } | Step::Announcing { leg } | Step::Bridging { leg } => Some(leg),
            Step::Checking { .. } | Step::HandingOver { .. } => None,
        }
    }
}

impl Channel {
    /// The caller is on its way to somebody else and may not come back.
    pub(super) fn is_handing_over(&self) -> bool {
        let step = self.transfer.as_ref().map(|transfer| &transfer.step);
        matches!(step, Some(Step::Bridging { .. } | Step::HandingOver { .. }))
    }

    /// Whether `peer` is the leg this transfer called.
    pub(super) fn is_target(&self, peer: &ChannelUuid) -> bool {
        let leg = self.transfer.as_ref().and_then(Transfer::leg);
        leg.is_some_and(|leg| leg.channel() == Some(peer))
    }

    /// Begins a transfer. One that is still under way was given up by the call: it ends without a word, and the outcome
    /// of this one stands for both.
    pub(super) fn start_transfer(
        &mut self,
        now: Instant,
        target: &TransferTarget,
        headers: Vec<(String, String)>,
    ) {
        self.drop_transfer(now);
        if !self.is_talking() {
            return self.transfer_failed("the call is not up");
        }
        if !self.link_up {
            return self.transfer_failed("the event socket is down");
        }
        if self.is_falling_back() {
            return self.transfer_failed("the call's audio is gone");
        }
        let reach = match self.settings.transfers.reach(target) {
            Ok(reach) => reach,
            Err(error) => return self.transfer_failed(&error.to_string()),
        };
        let attended = !target.mode.is_blind();
        let step = Step::Checking { reach: reach.clone(), asked: 0 };
        let until = after(now, HAND_OVER_PATIENCE);
        self.transfer = Some(Transfer { headers, attended, step, until });
        match reach {
            Reach::Bridge(dial) => self.call_target(now, dial),
            Reach::Inline(_) => self.check_place(now),
            Reach::Dialplan(_) => self.hand_over(now),
        }
    }

    fn call_target(&mut self, now: Instant, dial: DialString) {
        let Some(transfer) = &mut self.transfer else { return };
        let plan = &self.settings.transfers;
        let called = ChannelUuid::from_random(self.random.u128(..));
        let mut originate = Originate::parked(called, dial, plan.ring_timeout);
        push_variable(&mut originate, "park_timeout", PARK_TIMEOUT);
        let caller = &self.settings.caller;
        let identity = [
            ("origination_caller_id_number", caller.number.as_deref()),
            ("origination_caller_id_name", caller.name.as_deref()),
        ];
        for (name, value) in identity {
            if let Some(value) = value {
                push_variable(&mut originate, name, value);
            }
        }
        push_variable(&mut originate, "tandem_transfer_of", self.settings.uuid.as_str());
        if transfer.attended {
            // What it is told by a fork is heard only while its channel writes.
            push_variable(&mut originate, "send_silence_when_idle", "-1");
        }
        for (name, value) in &transfer.headers {
            push_variable(&mut originate, &format!("sip_h_{name}"), value);
        }
        for (name, value) in &self.settings.carried {
            push_variable(&mut originate, name, value);
        }
        let leg = Leg::of(&originate);
        transfer.until = after(now, originate.ringing() + GRACE);
        transfer.step = Step::Ringing { leg: leg.clone() };
        let waits_with = if transfer.attended { &plan.hold_music } else { &plan.ringback }.clone();
        if !self.files.is_empty() {
            self.drop_files();
            self.order_break();
        }
        let uuid = self.settings.uuid.clone();
        let what = Playable::File(waits_with);
        let ringback = SwitchCommand::Broadcast { uuid, what, leg: BroadcastLeg::Own };
        self.out.order(ringback, Purpose::Nothing("uuid_broadcast"));
        self.out.note(ChannelNote::Transfer("calling the target".into()));
        self.out
            .order(SwitchCommand::Originate(Box::new(originate)), Purpose::Originate(leg.called));
    }

    /// Calling the target came out.
    pub(super) fn target_called(
        &mut self,
        now: Instant,
        called: &ChannelUuid,
        result: Result<Option<ChannelUuid>, SwitchError>,
    ) {
        if self.ending_called(now, called, &result) {
            return;
        }
        let Some(Transfer { step: Step::Ringing { leg }, .. }) = &mut self.transfer else { return };
        if leg.called != *called {
            return;
        }
        match result {
            Ok(uuid) => {
                leg.answered = uuid.or_else(|| leg.channel().cloned());
                self.target_answered(now);
            }
            // The target rings on, perhaps: settled when the event socket is up again, or the time is over.
            Err(SwitchError::Unknown) => {}
            Err(error) => match error.cause() {
                Some(cause) => self.end_transfer(now, Left::Nobody, causes::failed(&cause)),
                None => {
                    // Of an order that may have been carried out nothing must be left.
                    let unsure = matches!(error, SwitchError::TimedOut);
                    let left = if unsure { Left::Target } else { Left::Nobody };
                    let reason = error.to_string();
                    self.end_transfer(now, left, TransferOutcome::Failed { status: None, reason });
                }
            },
        }
    }

    fn target_answered(&mut self, now: Instant) {
        let Some(transfer) = &mut self.transfer else { return };
        let Some(leg) = transfer.leg().cloned() else { return };
        let Some(uuid) = leg.channel().cloned() else {
            let reason = "the switch did not say which phone answered".to_owned();
            let outcome = TransferOutcome::Failed { status: None, reason };
            return self.end_transfer(now, Left::Target, outcome);
        };
        self.out.push(ChannelOrder::Watch(uuid.clone()));
        if !transfer.attended {
            return self.bridge_target(now);
        }
        let text = transfer_announcement(&self.settings.transfers.announcement, &transfer.headers);
        transfer.step = Step::Announcing { leg };
        transfer.until = after(now, ANNOUNCED_WITHIN);
        self.out.note(ChannelNote::Transfer("the target answered and is told".into()));
        self.out.push(ChannelOrder::Announce { uuid, text });
    }

    /// The target has heard what it is about, or could not be told.
    pub(super) fn target_announced(&mut self, now: Instant, uuid: &ChannelUuid) {
        if let Some(Transfer { step: Step::Announcing { leg }, .. }) = &self.transfer
            && leg.channel() == Some(uuid)
        {
            self.bridge_target(now);
        }
    }

    fn bridge_target(&mut self, now: Instant) {
        let Some(transfer) = &mut self.transfer else { return };
        let Some(leg) = transfer.leg().cloned() else { return };
        let Some(other) = leg.channel().cloned() else { return };
        if matches!(transfer.step, Step::Announcing { .. }) {
            self.out.push(ChannelOrder::StopAnnouncing(other.clone()));
        }
        transfer.step = Step::Bridging { leg };
        transfer.until = after(now, HAND_OVER_PATIENCE);
        self.order_break(); // No ringing into the conversation.
        let uuid = self.settings.uuid.clone();
        self.out.order(SwitchCommand::Bridge { uuid, other }, Purpose::Bridge);
    }

    /// The order to bridge was carried out, or not; the bridge itself is told by an event.
    pub(super) fn bridge_ordered(&mut self, now: Instant, result: Result<(), SwitchError>) {
        let Some(transfer) = &mut self.transfer else { return };
        if !matches!(transfer.step, Step::Bridging { .. }) {
            return;
        }
        match result {
            Ok(()) => transfer.until = after(now, BRIDGED_WITHIN),
            // It may be there: the event tells, or the question asked when the time is over.
            Err(SwitchError::Unknown | SwitchError::TimedOut) => {}
            Err(error) => {
                let reason = format!("the phones could not be connected: {error}");
                let outcome = TransferOutcome::Failed { status: None, reason };
                self.end_transfer(now, Left::Target, outcome);
            }
        }
    }

    /// Whether the bridge is there, of which no event came.
    pub(super) fn bridge_checked(&mut self, now: Instant, result: &Result<Reply, SwitchError>) {
        let Some(Transfer { step: Step::Bridging { leg }, .. }) = &self.transfer else { return };
        let dump = result.as_ref().ok().and_then(Reply::dump);
        let peer = dump.as_ref().and_then(|dump| dump.get("Other-Leg-Unique-ID"));
        if peer.is_some() && peer == leg.channel().map(ChannelUuid::as_str) {
            return self.complete_transfer(now);
        }
        let reason = "the phones could not be connected".to_owned();
        self.end_transfer(now, Left::Target, TransferOutcome::Failed { status: None, reason });
    }

    /// Something happened to a leg we called.
    pub(super) fn handle_target(
        &mut self,
        now: Instant,
        uuid: &ChannelUuid,
        kind: &ChannelEventKind,
    ) {
        match kind {
            ChannelEventKind::Digit { digit, .. } => {
                if !matches!(self.transfer, Some(Transfer { step: Step::Announcing { .. }, .. })) {
                    return;
                }
                match digit.as_char() {
                    '1' | '#' => self.bridge_target(now),
                    '*' => self.declined(now, Left::Target),
                    _ => {}
                }
            }
            ChannelEventKind::Bridged { peer } if *peer == self.settings.uuid => {
                self.complete_transfer(now);
            }
            ChannelEventKind::HungUp { .. }
            | ChannelEventKind::HungUpComplete { .. }
            | ChannelEventKind::Destroyed => {
                self.out.push(ChannelOrder::Unwatch(uuid.clone()));
                match self.transfer.as_ref().map(|transfer| &transfer.step) {
                    Some(Step::Announcing { .. }) => self.declined(now, Left::Nobody),
                    Some(Step::Bridging { .. }) => {
                        let reason = "the target hung up before it was connected".to_owned();
                        let outcome = TransferOutcome::Failed { status: Some(480), reason };
                        self.end_transfer(now, Left::Nobody, outcome);
                    }
                    // Calling it has not come out yet, and says why.
                    Some(
                        Step::Ringing { .. } | Step::Checking { .. } | Step::HandingOver { .. },
                    )
                    | None => {}
                }
            }
            _ => {}
        }
    }

    fn declined(&mut self, now: Instant, left: Left) {
        let reason = "declined: the person did not take the call".to_owned();
        self.end_transfer(now, left, TransferOutcome::Failed { status: Some(603), reason });
    }

    /// Does what the transfer waits for.
    pub(super) fn check_transfer(&mut self, now: Instant) {
        let Some(transfer) = &mut self.transfer else { return };
        if transfer.until > now {
            return;
        }
        let reason = match &transfer.step {
            Step::Announcing { .. } => return self.bridge_target(now),
            Step::HandingOver { accepted: true, .. } => return self.complete_transfer(now),
            Step::Bridging { .. } if self.link_up => {
                let asked = self.out.awaits(|purpose| *purpose == Purpose::BridgeCheck);
                transfer.until = after(now, HAND_OVER_PATIENCE);
                if !asked {
                    let uuid = self.settings.uuid.clone();
                    self.out.order(SwitchCommand::Dump { uuid }, Purpose::BridgeCheck);
                    return;
                }
                "the switch does not say whether the phones are connected"
            }
            Step::Bridging { .. } => "the event socket is down",
            Step::Ringing { .. } => "nobody answered in time",
            Step::Checking { .. } | Step::HandingOver { .. } => "the switch did not answer in time",
        };
        let outcome = TransferOutcome::Failed { status: None, reason: reason.to_owned() };
        self.end_transfer(now, Left::Target, outcome);
    }

    /// The event socket is up again; what came meanwhile is lost.
    pub(super) fn renew_transfer(&mut self, now: Instant) {
        // One whose result is still to come rings on. A target that hears its announcement is bridged or cannot be, a
        // question that was lost has failed already, and all else is asked for with the channel itself.
        if let Some(Transfer { step: Step::Ringing { leg }, .. }) = &self.transfer {
            let called = &leg.called;
            let open =
                self.out.awaits(|it| matches!(it, Purpose::Originate(uuid) if uuid == called));
            if !open {
                let reason = "the event socket was lost meanwhile".to_owned();
                let outcome = TransferOutcome::Failed { status: None, reason };
                self.end_transfer(now, Left::Target, outcome);
            }
        }
    }

    /// The caller is with somebody else: our part is over, the channel lives on.
    pub(super) fn complete_transfer(&mut self, now: Instant) {
        let Some(transfer) = self.transfer.take() else { return };
        self.forget_transfer_results();
        if let Some(uuid) = transfer.leg().and_then(Leg::channel) {
            self.out.push(ChannelOrder::Unwatch(uuid.clone()));
        }
        self.stop_fork();
        self.tell(SignalEvent::Transfer(TransferOutcome::Completed));
        self.leave(now);
    }

    /// Ends a transfer because the call does.
    pub(super) fn abort_transfer(&mut self, now: Instant, reason: &str) {
        if self.transfer.is_some() {
            let reason = reason.to_owned();
            let outcome = TransferOutcome::Failed { status: None, reason };
            self.clean_up_transfer(now, Left::Target);
            self.tell(SignalEvent::Transfer(outcome));
        }
    }

    /// Ends a transfer because the caller's channel ended, and says why the switch ended it.
    pub(super) fn abort_transfer_for(&mut self, now: Instant, cause: &Cause) {
        match &self.transfer {
            Some(Transfer { step: Step::HandingOver { .. }, .. }) => {
                self.clean_up_transfer(now, Left::Target);
                self.tell(SignalEvent::Transfer(causes::failed(cause)));
            }
            Some(_) => self.abort_transfer(now, "the caller hung up"),
            None => {}
        }
    }

    /// Ends a transfer without a word.
    pub(super) fn drop_transfer(&mut self, now: Instant) {
        if self.transfer.is_some() {
            self.clean_up_transfer(now, Left::Target);
            self.order_break();
        }
    }

    /// The target was not had: the caller hears no ringing any more and is ours again.
    pub(super) fn end_transfer(&mut self, now: Instant, left: Left, outcome: TransferOutcome) {
        self.clean_up_transfer(now, left);
        self.order_break();
        if let TransferOutcome::Failed { reason, .. } = &outcome {
            self.out.note(ChannelNote::Transfer(reason.clone()));
        }
        self.tell(SignalEvent::Transfer(outcome));
        self.renew_fork(now);
    }

    fn clean_up_transfer(&mut self, now: Instant, left: Left) {
        let Some(transfer) = self.transfer.take() else { return };
        let open = matches!(transfer.step, Step::Ringing { .. });
        if let Some(leg) = transfer.leg().cloned() {
            if let Some(uuid) = leg.channel().filter(|_| !open).cloned() {
                if matches!(transfer.step, Step::Announcing { .. }) {
                    self.out.push(ChannelOrder::StopAnnouncing(uuid.clone()));
                }
                if left == Left::Target {
                    self.out.push(ChannelOrder::Unwatch(uuid));
                }
            }
            if left == Left::Target {
                let called = &leg.called;
                let open = self.out.awaits(
                    |purpose| matches!(purpose, Purpose::Originate(uuid) if uuid == called),
                );
                let cause = if open { "ORIGINATOR_CANCEL" } else { "NORMAL_CLEARING" };
                self.end_leg(now, leg, open, cause);
            }
        }
        self.forget_transfer_results();
    }

    fn forget_transfer_results(&mut self) {
        self.out.forget(|purpose| {
            matches!(
                purpose,
                Purpose::Check | Purpose::Bridge | Purpose::BridgeCheck | Purpose::HandOver
            )
        });
    }

    pub(super) fn transfer_failed(&mut self, reason: &str) {
        let reason = reason.to_owned();
        self.tell(SignalEvent::Transfer(TransferOutcome::Failed { status: None, reason }));
    }

    fn order_break(&mut self) {
        let uuid = self.settings.uuid.clone();
        let command = SwitchCommand::Break { uuid, all: true };
        self.out.order(command, Purpose::Silence);
    }
}

/// What a transfer leaves behind that must be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nobody,
    Target,
}

/// Adds what can be carried; nothing of it decides whether the target is reached.
fn push_variable(originate: &mut Originate, name: &str, value: &str) {
    let full = originate.variables.len() >= Originate::MAX_VARIABLES;
    if let (false, Ok(name), Ok(value)) = (full, VariableName::new(name), VariableValue::new(value))
    {
        originate.variables.push((name, value));
    }
}
