//! Any events in any order: every path ends, once, and leaves nobody behind.

use std::collections::BTreeMap;

use proptest::{prelude::*, test_runner::RngSeed};
use tandem_call::{
    Digit, HangupCause, SignalCommand, SignalEvent, TransferKind, TransferMode, TransferTarget,
};
use tandem_pbx::{
    Cause, Channel, ChannelEvent, ChannelEventKind as Kind, ChannelLink, ChannelOrder,
    ChannelOutput, ChannelSettings, ChannelUuid, DigitSource, Extension, ForkEvent, ForkModule,
    ForkSource, MediaPath, Reply, SwitchCommand, SwitchError, Ticket,
};

use crate::world::{OWN, STRANGER, millis, secs, settings, uuid};

/// What happens next.
#[derive(Debug, Clone)]
enum Move {
    Answer,
    Reject,
    HangUp,
    Transfer {
        kind: TransferKind,
        attended: bool,
    },
    Annotate,
    BreakPlayback,
    Own(Kind),
    Caller(&'static str),
    /// The bridge that was ordered is there.
    Bridged,
    /// The n-th target leg answers, refuses, hangs up or presses a key.
    LegAnswers(usize),
    LegRefuses(usize),
    LegHangsUp(usize),
    LegPresses(usize, char),
    Announced(usize),
    /// The n-th open order gets this result.
    Reply(usize, Option<SwitchError>),
    LinkDown,
    LinkUp,
    Media(bool),
    Release,
    Wait(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let kinds = prop::sample::select(vec![
        TransferKind::Extension,
        TransferKind::External,
        TransferKind::Sip,
        TransferKind::Queue,
        TransferKind::Ivr,
        TransferKind::Conference,
    ]);
    let fork = |event| Kind::Fork { module: ForkModule::AudioFork, bug: None, event };
    let own = prop::sample::select(vec![
        Kind::Answered,
        Kind::Held,
        Kind::Unheld,
        Kind::Parked,
        Kind::Unparked,
        Kind::Executed { app: "ivr".into(), args: String::new(), tag: None },
        Kind::Executed { app: "set".into(), args: String::new(), tag: None },
        Kind::PlaybackStarted { file: "/tmp/a".into() },
        Kind::PlaybackStopped { file: "/tmp/a".into(), broken: false },
        Kind::Digit {
            digit: Digit::new('1').unwrap(),
            duration: millis(100),
            source: DigitSource::Rtp,
        },
        fork(ForkEvent::Connected),
        fork(ForkEvent::Disconnected { code: None, reason: String::new() }),
        fork(ForkEvent::Failed { reason: "x".into(), detached: false }),
        fork(ForkEvent::PlayFile {
            file: MediaPath::new("/tmp/a").ok(),
            id: Some("1".into()),
            body: String::new(),
        }),
    ]);
    let errors = prop::sample::select(vec![
        None,
        None,
        None,
        None,
        None,
        None,
        Some(SwitchError::Busy),
        Some(SwitchError::TimedOut),
        Some(SwitchError::Refused { reason: "Operation Failed".into() }),
    ]);
    let one = prop_oneof![
        3 => Just(Move::Answer),
        1 => prop_oneof![Just(Move::Reject), Just(Move::HangUp)],
        6 => (kinds, any::<bool>()).prop_map(|(kind, attended)| Move::Transfer { kind, attended }),
        2 => Just(Move::Annotate),
        1 => Just(Move::BreakPlayback),
        8 => own.prop_map(Move::Own),
        1 => Just(Move::Own(Kind::Bridged { peer: uuid(STRANGER) })),
        4 => Just(Move::Bridged),
        1 => prop::sample::select(vec!["NORMAL_CLEARING", "USER_BUSY"]).prop_map(Move::Caller),
        10 => (0..3_usize).prop_map(Move::LegAnswers),
        2 => (0..3_usize).prop_map(Move::LegRefuses),
        2 => (0..3_usize).prop_map(Move::LegHangsUp),
        2 => (0..3_usize, prop::sample::select(vec!['1', '*', '5']))
            .prop_map(|(leg, key)| Move::LegPresses(leg, key)),
        2 => (0..3_usize).prop_map(Move::Announced),
        30 => (0..4_usize, errors).prop_map(|(order, error)| Move::Reply(order, error)),
        2 => Just(Move::LinkDown),
        3 => Just(Move::LinkUp),
        2 => any::<bool>().prop_map(Move::Media),
        1 => Just(Move::Release),
        6 => (0..20_000_u64).prop_map(Move::Wait),
    ];
    prop::collection::vec(one, 1..60)
}

#[derive(Debug)]
struct Leg {
    /// The order that calls it, while that is open.
    call: Option<Ticket>,
    answered: Option<ChannelUuid>,
    alive: bool,
}

/// A switch as small as can be, and what the call was told.
struct Switch {
    channel: Channel,
    now: std::time::Instant,
    open: Vec<(Ticket, SwitchCommand)>,
    legs: BTreeMap<ChannelUuid, Leg>,
    caller_alive: bool,
    link_up: bool,
    told: Vec<SignalEvent>,
    transfers: usize,
    /// A transfer was ordered that has no outcome yet.
    transfer_open: bool,
    /// Transfers that a later one took the place of.
    superseded: usize,
    done: bool,
    bridged: Option<ChannelUuid>,
    /// A hang-up that was ordered before is still seen through.
    released: bool,
    legs_made: u32,
}

impl Switch {
    fn new(answered: bool, dialplan: bool, fallback: bool) -> Self {
        let mut settings = ChannelSettings { answered, ..settings() };
        if dialplan {
            settings.fork = ForkSource::Dialplan { module: ForkModule::AudioFork, bug: None };
        }
        if fallback {
            settings.fallback = Extension::new("reception", "default").ok();
        }
        Self {
            channel: Channel::new(settings),
            now: std::time::Instant::now(),
            open: Vec::new(),
            legs: BTreeMap::new(),
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

    fn settle(&mut self) {
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
                ChannelOutput::Order(_) | ChannelOutput::Note(_) => {}
            }
        }
        self.done = self.channel.is_done();
    }

    fn take_order(&mut self, ticket: Ticket, command: SwitchCommand) {
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
            self.open.push((ticket, command));
        } else {
            self.result(ticket, &command, Some(SwitchError::Down));
        }
    }

    /// Carries an order out, or fails it.
    fn result(&mut self, ticket: Ticket, command: &SwitchCommand, error: Option<SwitchError>) {
        let refused = |reason: &str| Err(SwitchError::Refused { reason: reason.into() });
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
            (None, SwitchCommand::Raw(_)) => Ok(Reply::new("name|x\n42|x\n")),
            (None, SwitchCommand::ModuleExists { .. }) => Ok(Reply::new("true")),
            (None, _) => Ok(Reply::new("+OK\n")),
        };
        self.channel.handle_result(self.now, ticket, result);
    }

    fn leg(&self, index: usize) -> Option<ChannelUuid> {
        self.legs.keys().nth(index).cloned()
    }

    /// Calling the leg comes out; one that was killed while it rang is refused.
    fn call_comes_out(&mut self, called: &ChannelUuid, answers: bool) {
        let Some(leg) = self.legs.get_mut(called) else { return };
        let Some(ticket) = leg.call.take() else { return };
        let Some(index) = self.open.iter().position(|(open, _)| *open == ticket) else { return };
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

    fn event(&mut self, of: &ChannelUuid, kind: Kind) {
        if self.link_up {
            self.channel.handle_event(self.now, &ChannelEvent::new(of.clone(), kind));
        }
    }

    fn leg_event(&mut self, index: usize, kind: Kind) {
        let Some(called) = self.leg(index) else { return };
        let leg = self.legs.get_mut(&called).expect("it was just there");
        let Some(uuid) = leg.answered.clone().filter(|_| leg.alive) else { return };
        if matches!(kind, Kind::HungUp { .. }) {
            leg.alive = false;
        }
        self.event(&uuid, kind);
    }

    fn make(&mut self, step: Move) {
        match step {
            Move::Answer => self.command(SignalCommand::Answer),
            Move::Reject => {
                self.command(SignalCommand::Reject { cause: HangupCause::CallRejected });
            }
            Move::HangUp => {
                self.command(SignalCommand::HangUp { cause: HangupCause::NormalClearing });
            }
            Move::Transfer { kind, attended } => {
                if !self.told.iter().any(is_end) {
                    self.transfers += 1;
                    self.superseded += usize::from(self.transfer_open);
                    self.transfer_open = true;
                }
                let mode = if attended { TransferMode::Attended } else { TransferMode::Blind };
                let target = TransferTarget { mode, ..TransferTarget::new(kind, "42") };
                self.command(SignalCommand::Transfer { target, headers: Vec::new() });
            }
            Move::Annotate => {
                let variables = vec![("outcome".into(), "x".into())];
                self.command(SignalCommand::Annotate { variables });
            }
            Move::BreakPlayback => self.command(SignalCommand::BreakPlayback),
            Move::Own(kind) if self.caller_alive => self.event(&uuid(OWN), kind),
            Move::Own(_) => {}
            Move::Bridged => {
                if let Some(peer) = self.bridged.clone().filter(|_| self.caller_alive) {
                    self.event(&uuid(OWN), Kind::Bridged { peer });
                }
            }
            Move::Caller(cause) => {
                self.caller_alive = false;
                let cause = Cause::from_name(cause);
                self.event(&uuid(OWN), Kind::HungUp { cause });
            }
            Move::LegAnswers(index) => {
                if let Some(called) = self.leg(index).filter(|_| self.link_up) {
                    self.call_comes_out(&called, true);
                }
            }
            Move::LegRefuses(index) => {
                if let Some(called) = self.leg(index).filter(|_| self.link_up) {
                    self.call_comes_out(&called, false);
                }
            }
            Move::LegHangsUp(index) => {
                self.leg_event(index, Kind::HungUp { cause: Cause::from_name("NORMAL_CLEARING") });
            }
            Move::LegPresses(index, key) => {
                let (digit, source) = (Digit::new(key).unwrap(), DigitSource::Rtp);
                self.leg_event(index, Kind::Digit { digit, duration: millis(100), source });
            }
            Move::Announced(index) => {
                let leg = self.leg(index).and_then(|called| self.legs[&called].answered.clone());
                if let Some(leg) = leg {
                    self.channel.handle_announced(self.now, &leg);
                }
            }
            Move::Reply(index, error) => self.reply(index, error),
            Move::LinkDown => self.link_down(),
            Move::LinkUp => self.link_back(),
            Move::Media(attached) => self.channel.handle_media(self.now, attached),
            Move::Release => {
                // The call is not told of its end, so nothing may be told to it from here on.
                if !self.told.iter().any(is_end) && self.transfers == 0 {
                    self.released = true;
                    self.channel.release(self.now);
                    self.settle();
                    self.told.push(SignalEvent::Cancelled);
                }
            }
            Move::Wait(span) => self.wait(millis(span)),
        }
        self.settle();
    }

    fn command(&mut self, command: SignalCommand) {
        self.channel.handle_command(self.now, command);
    }

    fn reply(&mut self, index: usize, error: Option<SwitchError>) {
        if !self.link_up || self.open.is_empty() {
            return;
        }
        let index = index % self.open.len();
        if matches!(self.open[index].1, SwitchCommand::Originate(_)) {
            return;
        }
        let (ticket, command) = self.open.remove(index);
        self.result(ticket, &command, error);
    }

    fn link_down(&mut self) {
        if !std::mem::take(&mut self.link_up) {
            return;
        }
        for (ticket, command) in std::mem::take(&mut self.open) {
            if let SwitchCommand::Originate(originate) = &command
                && let Some(leg) = self.legs.get_mut(&originate.uuid)
            {
                // It rings on, and may answer.
                leg.call = None;
                leg.alive = true;
            }
            self.channel.handle_result(self.now, ticket, Err(SwitchError::Unknown));
            self.settle();
        }
        self.channel.handle_link(self.now, ChannelLink::Down);
    }

    fn link_back(&mut self) {
        if !self.link_up {
            self.link_up = true;
            let link = if self.caller_alive { ChannelLink::Alive } else { ChannelLink::Gone };
            self.channel.handle_link(self.now, link);
        }
    }

    fn wait(&mut self, span: std::time::Duration) {
        let until = self.now + span;
        let mut still = 0;
        while let Some(due) = self.channel.poll_timeout().filter(|due| *due <= until) {
            still = if due > self.now { 0 } else { still + 1 };
            assert!(still < 20, "the machine does not come to rest");
            self.now = self.now.max(due);
            self.channel.handle_timeout(self.now);
            self.settle();
        }
        self.now = until;
    }

    /// The caller hangs up, the link is up, and everything that is open comes out.
    fn wind_up(&mut self) {
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
                .position(|(_, command)| !matches!(command, SwitchCommand::Originate(_)))
            {
                let (ticket, command) = self.open.remove(index);
                self.result(ticket, &command, None);
                self.settle();
            }
            self.wait(secs(3));
        }
    }
}

fn is_end(event: &SignalEvent) -> bool {
    matches!(event, SignalEvent::Cancelled | SignalEvent::HungUp { .. })
}

#[test]
fn a_leg_that_rings_longer_than_endings_are_tried_is_ended_when_it_answers() {
    let mut switch = Switch::new(false, false, false);
    switch.make(Move::Answer);
    switch.make(Move::Reply(1, None));
    switch.make(Move::Transfer { kind: TransferKind::Extension, attended: false });
    switch.make(Move::Reject);
    for wait in [9_790, 10_725, 11_987, 13_549, 15_549, 18_757, 9_643] {
        switch.make(Move::Wait(wait));
        switch.make(Move::Reply(0, None));
    }
    switch.wind_up();
    assert!(switch.done);
    assert!(switch.legs.values().all(|leg| !leg.alive), "{:?}", switch.legs);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, rng_seed: RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[test]
    fn every_path_ends(
        (answered, dialplan, fallback) in any::<(bool, bool, bool)>(),
        up in prop::bool::weighted(0.8),
        moves in moves(),
    ) {
        let mut switch = Switch::new(answered, dialplan, fallback);
        if up {
            switch.make(Move::Answer);
            while !switch.open.is_empty() {
                switch.make(Move::Reply(0, None));
            }
        }
        for step in moves {
            switch.make(step);
        }
        switch.wind_up();
        let told = &switch.told;
        prop_assert!(switch.done, "not done after {told:?}");
        prop_assert_eq!(told.iter().filter(|event| is_end(event)).count(), 1, "{:?}", told);
        let outcomes = told.iter().filter(|event| matches!(event, SignalEvent::Transfer(_))).count();
        prop_assert_eq!(outcomes + switch.superseded, switch.transfers, "{:?}", told);
        let kept = told.contains(&SignalEvent::Transfer(tandem_call::TransferOutcome::Completed));
        for leg in switch.legs.values().filter(|leg| leg.alive) {
            prop_assert!(
                kept && leg.answered.is_some() && leg.answered == switch.bridged,
                "left behind: {:?}", leg
            );
        }
    }
}
