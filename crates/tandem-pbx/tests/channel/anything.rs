//! Any events in any order: every path ends, once, and leaves nobody behind.

use proptest::prelude::*;
use tandem_call::{
    Digit, HangupCause, SignalCommand, SignalEvent, TransferKind, TransferMode, TransferTarget,
};
use tandem_pbx::{
    Cause, ChannelEventKind as Kind, DigitSource, ForkEvent, ForkModule, MediaPath, SwitchError,
};

use crate::{
    switch::{Switch, With, is_end},
    world::{OWN, STRANGER, millis, uuid},
};

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

impl Switch {
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
}

#[test]
fn a_leg_that_rings_longer_than_endings_are_tried_is_ended_when_it_answers() {
    let mut switch = Switch::new(With { patient: true, ..With::default() });
    switch.make(Move::Answer);
    switch.make(Move::Reply(1, None));
    switch.make(Move::Transfer { kind: TransferKind::Extension, attended: false });
    switch.make(Move::Reject);
    for wait in [9_790, 10_725, 11_987, 13_549, 15_549, 18_757, 9_643] {
        switch.make(Move::Wait(wait));
        switch.make(Move::Reply(0, None));
    }
    assert!(switch.left.is_empty());
    switch.wind_up();
    assert!(switch.done);
    assert!(switch.legs.values().all(|leg| !leg.alive), "{:?}", switch.legs);
}

#[test]
fn a_leg_that_answered_and_cannot_be_ended_for_long_is_left_to_its_own_time_out() {
    let mut switch = Switch::new(With { answered: true, ..With::default() });
    switch.make(Move::Answer);
    switch.make(Move::Transfer { kind: TransferKind::Extension, attended: false });
    switch.make(Move::Reject);
    switch.make(Move::LegAnswers(0));
    switch.make(Move::LinkDown);
    for _ in 0..5 {
        switch.make(Move::Wait(17_000));
    }
    assert!(!switch.done, "the event socket may come back");
    switch.make(Move::Wait(6_000));
    assert!(switch.done);
    assert_eq!(switch.left.len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_path_ends(
        with in any::<[bool; 4]>(),
        up in prop::bool::weighted(0.8),
        moves in moves(),
    ) {
        let [answered, dialplan, fallback, patient] = with;
        let mut switch = Switch::new(With { answered, dialplan, fallback, patient });
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
        let forgotten = switch.forgotten();
        prop_assert!(forgotten.is_empty(), "left behind: {forgotten:?}");
    }
}
