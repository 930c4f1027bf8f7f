//! People who are called in on the channel's call: somebody who listens, a third party.

use std::time::{Duration, Instant};

use super::{Channel, ControlError, legs::Leg};
use crate::{ChannelUuid, DialString, Originate, Reply, SwitchError};

/// People who are being called at a time.
pub(super) const MOST_GUESTS: usize = 4;

impl Channel {
    /// A call to somebody who is to join, who sees who the caller is.
    pub(super) fn call_guest(
        &mut self,
        dial: DialString,
        timeout: Duration,
    ) -> Result<Originate, ControlError> {
        if self.controls.guests.len() == MOST_GUESTS {
            return Err(ControlError::Calling);
        }
        let called = ChannelUuid::from_random(self.random.u128(..));
        let mut call = Originate::parked(called, dial, timeout);
        let caller = &self.settings.caller;
        for (name, value) in [
            ("origination_caller_id_number", &caller.number),
            ("origination_caller_id_name", &caller.name),
        ] {
            if let Some(value) = value
                && let Ok(named) = call.clone().variable(name, value)
            {
                call = named;
            }
        }
        self.controls.guests.push(Leg::of(&call));
        Ok(call)
    }

    /// Ends the calls to people who were to join a call that is over. To be called after each `handle_*`.
    pub fn settle_controls(&mut self, now: Instant) {
        if !self.is_live() {
            self.end_guests(now, |_| true);
        }
    }

    /// A person was called, who `waits` for the caller to come.
    pub(super) fn guest_called(
        &mut self,
        now: Instant,
        called: &ChannelUuid,
        result: &Result<Reply, SwitchError>,
        waits: bool,
    ) {
        let channel = result.as_ref().map(Reply::uuid).map_err(Clone::clone);
        if self.ending_called(now, called, &channel) {
            return; // The call ended first.
        }
        let guests = &mut self.controls.guests;
        let Some(index) = guests.iter().position(|guest| guest.called == *called) else { return };
        match channel {
            Ok(channel) if waits => guests[index].answered = channel.or(Some(called.clone())),
            Err(SwitchError::TimedOut | SwitchError::Unknown) => {
                let guest = guests.remove(index);
                self.end_leg(now, guest, false, "ORIGINATOR_CANCEL");
            }
            Ok(_) | Err(_) => drop(guests.remove(index)),
        }
    }

    pub(super) fn end_guests(&mut self, now: Instant, which: impl Fn(&Leg) -> bool) {
        let guests = &mut self.controls.guests;
        for guest in guests.extract_if(.., |guest| which(guest)).collect::<Vec<_>>() {
            let open = guest.answered.is_none();
            self.end_leg(now, guest, open, "ORIGINATOR_CANCEL");
        }
    }
}
