//! Legs of ours that are to end: none is left behind, whatever became of the order that made them.

use std::time::{Duration, Instant};

use super::{Channel, ChannelNote, Purpose, after};
use crate::{Cause, ChannelUuid, Originate, Reply, SwitchCommand, SwitchError};

/// An order that failed, or came before the leg was there, is given again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The variable `park_timeout` of a leg that waits to be bridged once it answered: so many seconds, longer than an
/// announcement and the bridge take. Then the switch itself ends it, also where we, or the event socket, are gone.
pub(super) const PARK_TIMEOUT: &str = "60:NORMAL_TEMPORARY_FAILURE";

/// Nothing is tried longer, for by then a leg that answered has ended by its own time-out.
const GIVE_UP_AFTER: Duration = Duration::from_secs(90);

/// By then calling a leg has come out, also one that could not be ended while it rang: the longest ring time-out there is, and the
/// link's own patience.
const CALLED_WITHIN: Duration = Duration::from_secs(310);

/// A leg we called, as we can name it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Leg {
    /// The name it was given when it was called.
    pub(super) called: ChannelUuid,
    /// Whether the switch calls one phone only, under that name.
    pub(super) named: bool,
    /// The channel that answered.
    pub(super) answered: Option<ChannelUuid>,
}

impl Leg {
    pub(super) fn of(originate: &Originate) -> Self {
        Self { called: originate.uuid.clone(), named: originate.is_named(), answered: None }
    }

    /// Its channel, once that is known.
    pub(super) fn channel(&self) -> Option<&ChannelUuid> {
        self.answered.as_ref().or(self.named.then_some(&self.called))
    }

    fn kill(&self, cause: Cause) -> SwitchCommand {
        match self.channel() {
            Some(uuid) => SwitchCommand::HangUp { uuid: uuid.clone(), cause },
            None => SwitchCommand::HangUpCalled { leg: self.called.clone(), cause },
        }
    }
}

/// A leg that is to end.
#[derive(Debug)]
pub(super) struct Ending {
    leg: Leg,
    cause: Cause,
    /// Its order to call may still come out.
    open: bool,
    again: Option<Instant>,
    latest: Instant,
}

impl Ending {
    pub(super) fn due(&self, link_up: bool) -> Instant {
        match self.again {
            Some(again) if link_up => again.min(self.latest),
            Some(_) | None => self.latest,
        }
    }
}

impl Channel {
    /// Ends a leg. `open`: the result of calling it is still to come.
    pub(super) fn end_leg(&mut self, now: Instant, leg: Leg, open: bool, cause: &str) {
        let cause = Cause::from_name(cause);
        let purpose = Purpose::KillLeg(leg.called.clone());
        self.out.order(leg.kill(cause.clone()), purpose);
        let latest = after(now, if open { CALLED_WITHIN } else { GIVE_UP_AFTER });
        self.endings.push(Ending { leg, cause, open, again: None, latest });
    }

    /// The order to end it was carried out, or not.
    pub(super) fn leg_killed(
        &mut self,
        now: Instant,
        called: &ChannelUuid,
        result: &Result<Reply, SwitchError>,
    ) {
        let Some(index) = self.endings.iter().position(|it| it.leg.called == *called) else {
            return;
        };
        let ending = &mut self.endings[index];
        let gone = match result {
            Ok(_) => true,
            Err(error) => error.is_no_such_channel(),
        };
        if gone && !ending.open {
            self.endings.remove(index);
        } else {
            ending.again = Some(after(now, AGAIN_AFTER)); // It may not have been there yet.
        }
    }

    /// Calling a leg that is to end came out. Gives back whether it was one.
    pub(super) fn ending_called(
        &mut self,
        now: Instant,
        called: &ChannelUuid,
        result: &Result<Option<ChannelUuid>, SwitchError>,
    ) -> bool {
        let Some(index) = self.endings.iter().position(|it| it.leg.called == *called) else {
            return false;
        };
        match result {
            Ok(uuid) => {
                let Ending { mut leg, cause, .. } = self.endings.remove(index);
                // Orders to end it while it rang say nothing of the channel that answered.
                self.out.forget(|it| matches!(it, Purpose::KillLeg(leg) if leg == called));
                leg.answered = uuid.clone().or(leg.answered);
                self.end_leg(now, leg, false, cause.name());
            }
            Err(SwitchError::Refused { .. } | SwitchError::Command(_) | SwitchError::Stopped) => {
                self.endings.remove(index);
            }
            // Never sent, or its result is lost; the next order to end it settles it.
            Err(SwitchError::Down | SwitchError::Busy) => {
                self.endings.remove(index);
            }
            Err(SwitchError::TimedOut | SwitchError::Unknown) => {
                let ending = &mut self.endings[index];
                ending.open = false;
                ending.again = Some(now);
            }
        }
        true
    }

    /// A channel is gone.
    pub(super) fn leg_gone(&mut self, uuid: &ChannelUuid) {
        self.endings.retain(|ending| ending.leg.channel() != Some(uuid));
    }

    /// Gives the orders that failed again.
    pub(super) fn check_endings(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(ending) = self.endings.get_mut(index) {
            if ending.latest <= now {
                let uuid = self.endings.remove(index).leg.called;
                self.out.forget(|it| matches!(it, Purpose::KillLeg(called) if *called == uuid));
                self.out.note(ChannelNote::LegLeft { uuid });
                continue;
            }
            if self.link_up && ending.again.is_some_and(|at| at <= now) {
                ending.again = None;
                let command = ending.leg.kill(ending.cause.clone());
                let purpose = Purpose::KillLeg(ending.leg.called.clone());
                self.out.order(command, purpose);
            }
            index += 1;
        }
    }

    /// The event socket is up again: what it took down with it is given again at once.
    pub(super) fn renew_endings(&mut self, now: Instant) {
        for ending in &mut self.endings {
            ending.again = ending.again.map(|_| now);
        }
        self.check_endings(now);
    }
}
