//! A switch as small as can be, its link, and what it knows of the legs: what random stories are told to.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_call::{SignalCommand, SignalEvent, TransferOutcome};
use tandem_pbx::{
    Cause, Channel, ChannelEvent, ChannelEventKind as Kind, ChannelLink, ChannelNote, ChannelOrder,
    ChannelOutput, ChannelSettings, ChannelUuid, Extension, ForkModule, ForkSource, Reply,
    SwitchCommand, SwitchError, Ticket, TransferPlan, TransferSettings,
};

use crate::world::{OWN, secs, settings, uuid};

/// How the call stands at first.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct With {
    pub(crate) answered: bool,
    /// The dialplan started the fork.
    pub(crate) dialplan: bool,
    pub(crate) fallback: bool,
    /// Targets may ring for five minutes.
    pub(crate) patient: bool,
}

#[derive(Debug)]
pub(crate) struct Leg {
    /// The order that calls it, while that is open.
    pub(crate) call: Option<Ticket>,
    pub(crate) answered: Option<ChannelUuid>,
    pub(crate) alive: bool,
}

/// An order without a result.
pub(crate) struct Open {
    pub(crate) ticket: Ticket,
    pub(crate) command: SwitchCommand,
    /// The link promises a result by then.
    pub(crate) until: Instant,
}

/// A link keeps what a live call needs done for so long while it is down.
const KEPT_FOR: Duration = secs(30);

/// Every order is given again within this.
const GIVEN_AGAIN: Duration = secs(10);

/// A switch as small as can be, and what the call was told.
pub(crate) struct Switch {
    pub(crate) channel: Channel,
    pub(crate) now: Instant,
    pub(crate) open: Vec<Open>,
    pub(crate) legs: BTreeMap<ChannelUuid, Leg>,
    /// Legs that are left to their own time-outs.
    pub(crate) left: BTreeSet<ChannelUuid>,
    /// When an order last failed, or the link was down.
    pub(crate) trouble: Option<Instant>,
    pub(crate) caller_alive: bool,
    pub(crate) link_up: bool,
    pub(crate) told: Vec<SignalEvent>,
    pub(crate) transfers: usize,
    /// A transfer was ordered that has no outcome yet.
    pub(crate) transfer_open: bool,
    /// Transfers that a later one took the place of.
    pub(crate) superseded: usize,
    pub(crate) done: bool,
    pub(crate) bridged: Option<ChannelUuid>,
    /// A hang-up that was ordered before is still seen through.
    pub(crate) released: bool,
    pub(crate) legs_made: u32,
}

impl Switch {
    pub(crate) fn new(with: With) -> Self {
        let With { answered, dialplan, fallback, patient } = with;
        let mut settings = ChannelSettings { answered, ..settings() };
        if patient {
            let plan = TransferSettings {
                gateway: Some("trunk1".into()),
                ring_timeout: secs(300),
                ..TransferSettings::default()
            };
            settings.transfers = Arc::new(TransferPlan::new(&plan).unwrap());
        }
        if dialplan {
            settings.fork = ForkSource::Dialplan { module: ForkModule::AudioFork, bug: None };
        }
        if fallback {
            settings.fallback = Extension::new("reception", "default").ok();
        }
        Self {
            channel: Channel::new(settings),
            now: Instant::now(),
            open: Vec::new(),
            legs: BTreeMap::new(),
            left: BTreeSet::new(),
            trouble: None,
            caller_alive: true,
            link_up: true,
            told: Vec::new(),
            transfers: 0,
            transfer_open: false,
            superseded: 0,
            done: false,
            bridged: None,
            released: false,
            legs_made: 0,
        }
    }

    pub(crate) fn settle(&mut self) {
        while let Some(output) = self.channel.poll_output() {
            assert!(!self.done, "after the end: {output:?}");
            match output {
                ChannelOutput::Order(ChannelOrder::Switch { ticket, command }) => {
                    self.take_order(ticket, *command);
                }
                ChannelOutput::Event(event) => {
                    assert!(!self.told.iter().any(is_end), "after {:?}: {event:?}", self.told);
                    if matches!(event, SignalEvent::Transfer(_)) {
                        assert!(std::mem::take(&mut self.transfer_open), "nobody asked: {event:?}");
                    }
                    self.told.push(event);
                }
                ChannelOutput::Note(ChannelNote::LegLeft { uuid }) => {
                    let troubled = |at: Instant| self.now - at <= GIVEN_AGAIN;
                    let tried = !self.link_up || self.trouble.is_some_and(troubled);
                    assert!(tried, "the switch would have ended {uuid}");
                    self.left.insert(uuid);
                }
                ChannelOutput::Order(_) | ChannelOutput::Note(_) => {}
            }
        }
        self.done = self.channel.is_done();
    }

    /// Legs that are alive though nobody needs them, and of which the machine knows nothing.
    pub(crate) fn forgotten(&self) -> Vec<(&ChannelUuid, &Leg)> {
        let completed = SignalEvent::Transfer(TransferOutcome::Completed);
        let kept = self.told.contains(&completed);
        let mut legs: Vec<_> = self.legs.iter().filter(|(_, leg)| leg.alive).collect();
        legs.retain(|(called, leg)| {
            let bridged = kept && leg.answered.is_some() && leg.answered == self.bridged;
            !bridged && !self.left.contains(*called)
        });
        legs
    }

    pub(crate) fn take_order(&mut self, ticket: Ticket, command: SwitchCommand) {
        let ended = self.told.iter().any(is_end);
        if ended {
            let last = matches!(
                command,
                SwitchCommand::HangUp { .. }
                    | SwitchCommand::HangUpCalled { .. }
                    | SwitchCommand::ForkStop { .. }
                    | SwitchCommand::SetVariables { .. }
            );
            assert!(last, "after the call's end: {command:?}");
        }
        if let SwitchCommand::HangUp { uuid, .. } = &command
            && uuid.as_str() == OWN
        {
            assert!(!ended || self.released, "a channel that is not ours any more is ended");
        }
        if let SwitchCommand::Originate(originate) = &command {
            let names = &mut originate.variables.iter().map(|(name, _)| name.as_str());
            assert!(names.any(|name| name == "park_timeout"), "it may wait for ever");
            self.legs.insert(
                originate.uuid.clone(),
                Leg { call: Some(ticket), answered: None, alive: false },
            );
        }
        let kept = matches!(
            command,
            SwitchCommand::HangUp { .. }
                | SwitchCommand::HangUpCalled { .. }
                | SwitchCommand::ForkStop { .. }
                | SwitchCommand::SetVariables { .. }
        );
        if self.link_up || kept {
            let until = self.now + if self.link_up { command.timeout() } else { KEPT_FOR };
            self.open.push(Open { ticket, command, until });
        } else {
            self.result(ticket, &command, Some(SwitchError::Down));
        }
    }

    /// Carries an order out, or fails it.
    pub(crate) fn result(
        &mut self,
        ticket: Ticket,
        command: &SwitchCommand,
        error: Option<SwitchError>,
    ) {
        let refused = |reason: &str| Err(SwitchError::Refused { reason: reason.into() });
        if error.is_some() {
            self.trouble = Some(self.now);
        }
        let result = match (error, command) {
            (Some(error), _) => {
                if let SwitchCommand::Originate(originate) = command
                    && matches!(
                        error,
                        SwitchError::Down | SwitchError::Busy | SwitchError::Refused { .. }
                    )
                {
                    self.legs.remove(&originate.uuid);
                }
                Err(error)
            }
            (None, SwitchCommand::HangUp { uuid, .. }) if uuid.as_str() == OWN => {
                let was = std::mem::take(&mut self.caller_alive);
                if was { Ok(Reply::new("+OK\n")) } else { refused("No such channel!") }
            }
            (None, SwitchCommand::HangUp { uuid, .. }) => {
                let leg = self.legs.iter_mut().find(|(called, leg)| {
                    leg.alive && (*called == uuid || leg.answered.as_ref() == Some(uuid))
                });
                match leg {
                    Some((_, leg)) => {
                        leg.alive = false;
                        Ok(Reply::new("+OK\n"))
                    }
                    None => refused("No such channel!"),
                }
            }
            (None, SwitchCommand::HangUpCalled { leg, .. }) => {
                if let Some(leg) = self.legs.get_mut(leg) {
                    leg.alive = false;
                }
                Ok(Reply::new("+OK\n"))
            }
            (None, SwitchCommand::Bridge { other, .. }) => {
                let there =
                    self.legs.values().any(|leg| leg.alive && leg.answered.as_ref() == Some(other));
                if there && self.caller_alive {
                    self.bridged = Some(other.clone());
                    Ok(Reply::new("+OK\n"))
                } else {
                    refused("Invalid uuid")
                }
            }
            (None, SwitchCommand::Dump { uuid }) if uuid.as_str() == OWN => {
                if !self.caller_alive {
                    refused("No such channel!")
                } else {
                    let peer = self.bridged.as_ref().map_or(String::new(), |peer| {
                        format!(",\"Other-Leg-Unique-ID\":\"{peer}\"")
                    });
                    Ok(Reply::new(format!("{{\"Answer-State\":\"answered\"{peer}}}")))
                }
            }
            (None, SwitchCommand::Exists { .. }) => Ok(Reply::new(self.caller_alive.to_string())),
            (None, SwitchCommand::ForkStart(_)) if !self.caller_alive => {
                refused("Operation Failed")
            }
            (None, SwitchCommand::Raw(_)) => Ok(Reply::new("name|x\n42|x\n")),
            (None, SwitchCommand::ModuleExists { .. } | SwitchCommand::MailboxExists { .. }) => {
                Ok(Reply::new("true"))
            }
            (None, _) => Ok(Reply::new("+OK\n")),
        };
        self.channel.handle_result(self.now, ticket, result);
    }

    pub(crate) fn leg(&self, index: usize) -> Option<ChannelUuid> {
        self.legs.keys().nth(index).cloned()
    }

    /// Calling the leg comes out; one that was killed while it rang is refused.
    pub(crate) fn call_comes_out(&mut self, called: &ChannelUuid, answers: bool) {
        let Some(leg) = self.legs.get_mut(called) else { return };
        let Some(ticket) = leg.call.take() else { return };
        let Some(index) = self.open.iter().position(|open| open.ticket == ticket) else { return };
        self.open.remove(index);
        let result = if answers {
            self.legs_made += 1;
            let name = ChannelUuid::from_random(u128::from(self.legs_made));
            leg.answered = Some(name.clone());
            leg.alive = true;
            Ok(Reply::new(format!("+OK {name}\n")))
        } else {
            leg.alive = false;
            Err(SwitchError::Refused { reason: "USER_BUSY".into() })
        };
        self.channel.handle_result(self.now, ticket, result);
    }

    pub(crate) fn event(&mut self, of: &ChannelUuid, kind: Kind) {
        if self.link_up {
            self.channel.handle_event(self.now, &ChannelEvent::new(of.clone(), kind));
        }
    }

    pub(crate) fn leg_event(&mut self, index: usize, kind: Kind) {
        let Some(called) = self.leg(index) else { return };
        let leg = self.legs.get_mut(&called).expect("it was just there");
        let Some(uuid) = leg.answered.clone().filter(|_| leg.alive) else { return };
        if matches!(kind, Kind::HungUp { .. }) {
            leg.alive = false;
        }
        self.event(&uuid, kind);
    }

    pub(crate) fn command(&mut self, command: SignalCommand) {
        self.channel.handle_command(self.now, command);
    }

    pub(crate) fn reply(&mut self, index: usize, error: Option<SwitchError>) {
        if !self.link_up || self.open.is_empty() {
            return;
        }
        let index = index % self.open.len();
        if matches!(self.open[index].command, SwitchCommand::Originate(_)) {
            return;
        }
        let Open { ticket, command, .. } = self.open.remove(index);
        self.result(ticket, &command, error);
    }

    pub(crate) fn link_down(&mut self) {
        if !std::mem::take(&mut self.link_up) {
            return;
        }
        for open in std::mem::take(&mut self.open) {
            self.give_up(open, SwitchError::Unknown);
        }
        self.channel.handle_link(self.now, ChannelLink::Down);
    }

    /// What became of an order will never be told.
    pub(crate) fn give_up(&mut self, Open { ticket, command, .. }: Open, error: SwitchError) {
        if let SwitchCommand::Originate(originate) = &command
            && let Some(leg) = self.legs.get_mut(&originate.uuid)
        {
            // It rings on, and may answer.
            leg.call = None;
            leg.alive = true;
        }
        self.result(ticket, &command, Some(error));
        self.settle();
    }

    pub(crate) fn give_up_overdue(&mut self) {
        while let Some(index) = self.open.iter().position(|open| open.until <= self.now) {
            let open = self.open.remove(index);
            let error = if self.link_up { SwitchError::TimedOut } else { SwitchError::Down };
            self.give_up(open, error);
        }
    }

    pub(crate) fn link_back(&mut self) {
        if !self.link_up {
            self.link_up = true;
            self.trouble = Some(self.now);
            for open in &mut self.open {
                open.until = self.now + SwitchCommand::TIMEOUT;
            }
            let link = if self.caller_alive { ChannelLink::Alive } else { ChannelLink::Gone };
            self.channel.handle_link(self.now, link);
        }
    }

    pub(crate) fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        let mut still = 0;
        while let Some(due) = self.due().filter(|due| *due <= until) {
            still = if due > self.now { 0 } else { still + 1 };
            assert!(still < 20, "the machine does not come to rest");
            self.now = self.now.max(due);
            self.give_up_overdue();
            self.channel.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    pub(crate) fn due(&self) -> Option<Instant> {
        let orders = self.open.iter().map(|open| open.until);
        self.channel.poll_timeout().into_iter().chain(orders).min()
    }

    /// The caller hangs up, the link is up, and everything that is open comes out.
    pub(crate) fn wind_up(&mut self) {
        self.link_back();
        self.settle();
        if std::mem::take(&mut self.caller_alive) {
            let cause = Cause::from_name("NORMAL_CLEARING");
            self.event(&uuid(OWN), Kind::HungUp { cause });
            self.settle();
        }
        for round in 0..40 {
            for called in self.legs.keys().cloned().collect::<Vec<_>>() {
                self.call_comes_out(&called, round % 2 == 0);
                self.settle();
            }
            while let Some(index) = self
                .open
                .iter()
                .position(|open| !matches!(open.command, SwitchCommand::Originate(_)))
            {
                let Open { ticket, command, .. } = self.open.remove(index);
                self.result(ticket, &command, None);
                self.settle();
            }
            self.wait(secs(3));
        }
    }
}

pub(crate) fn is_end(event: &SignalEvent) -> bool {
    matches!(event, SignalEvent::Cancelled | SignalEvent::HungUp { .. })
}
