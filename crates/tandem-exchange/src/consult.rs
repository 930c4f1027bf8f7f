//! Asks somebody whether they take a caller: the decisions, on a clock that is handed in.
//!
//! The person is called beside the caller, hears what it is about, and takes the caller by a key, or by listening to the
//! end. Whatever else happens, the caller is still ours.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::{ATTENDED_PATIENCE, Digit, HangupCause, TRANSFER_ANNOUNCEMENT, TransferOutcome};
use tandem_sip::Credential;

/// From the answer to the first word: a handset is on its way to an ear.
const LEAD_IN: Duration = Duration::from_millis(500);

/// Between the end of the announcement and its beginning again.
const PAUSE: Duration = Duration::from_secs(4);

/// How long somebody may take to decide, once they have answered.
const DECIDES_WITHIN: Duration = Duration::from_secs(45);

/// How long the PBX may take to connect the caller.
pub(crate) const CONNECTS_WITHIN: Duration = Duration::from_secs(10);

/// By so much a consultation is over before the call gives it up.
const MARGIN: Duration = Duration::from_secs(1);

/// Who has the caller hangs up on us within this, or we do.
const LEAVES_WITHIN: Duration = Duration::from_secs(4);

/// How attended transfers of SIP calls go.
#[derive(Debug, Clone)]
pub struct ConsultSettings {
    /// What the person who is asked hears; `{reason}` and `{summary}` are put in.
    pub announcement: String,
    /// What counts as taking the call.
    pub accept: Accept,
    /// How long the person may ring, at most as long as the agent gives a transfer.
    pub ring_timeout: Duration,
    /// Answers a challenge of the PBX.
    pub credentials: Option<Credential>,
}

impl Default for ConsultSettings {
    fn default() -> Self {
        Self {
            announcement: TRANSFER_ANNOUNCEMENT.into(),
            accept: Accept::Key,
            ring_timeout: Duration::from_secs(25),
            credentials: None,
        }
    }
}

/// What counts as taking a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Accept {
    /// The key 1 or #. A mailbox presses none.
    #[default]
    Key,
    /// Having heard the announcement to its end; a key does it sooner.
    Answer,
}

impl Accept {
    /// The word for it in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Answer => "answer",
        }
    }
}

/// What happens to the person's leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ConsultEvent {
    /// They answered.
    Answered,
    /// They pressed a key.
    Digit(Digit),
    /// They heard the last word.
    Heard,
    /// Nobody can say it to them.
    Unspeakable,
    /// They were not reached.
    Failed { status: Option<u16>, reason: String },
    /// They hung up, or we did.
    HungUp,
}

/// What the caller's side says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConsultOrder {
    /// The caller is with them.
    Connected,
    /// The caller could not be connected.
    NotConnected,
    /// Nobody waits any more.
    Abandon,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ConsultOutput {
    /// Say it, from the beginning.
    Say,
    /// Say no more.
    Hush,
    /// End the person's leg.
    HangUp(HangupCause),
    /// They take the caller: connect them.
    Accepted,
    /// They do not. The last report.
    Failed(TransferOutcome),
}

/// One consultation.
#[derive(Debug)]
pub(crate) struct Consult {
    accept: Accept,
    phase: Phase,
    /// The call gives it up soon after.
    decides_by: Instant,
    speechless: bool,
    /// The leg is over.
    hung_up: bool,
    outputs: VecDeque<ConsultOutput>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// They ring until then.
    Ringing { until: Instant },
    /// They hear what it is about, and decide until then.
    Asking { until: Instant, say_at: Option<Instant> },
    /// They are being connected.
    Connecting,
    /// They have the caller; their leg is to end by then.
    Leaving { until: Instant },
    /// Nothing is left to decide.
    Over,
}

impl Consult {
    /// A consultation whose INVITE leaves at `now`. `transfer_timeout` is what the agent gives a blind transfer.
    pub(crate) fn new(
        now: Instant,
        settings: &ConsultSettings,
        transfer_timeout: Duration,
    ) -> Self {
        let until = now + settings.ring_timeout.min(transfer_timeout);
        Self {
            accept: settings.accept,
            phase: Phase::Ringing { until },
            decides_by: now + transfer_timeout + ATTENDED_PATIENCE - CONNECTS_WITHIN - MARGIN,
            speechless: false,
            hung_up: false,
            outputs: VecDeque::new(),
        }
    }

    /// The next thing to be done.
    pub(crate) fn poll_output(&mut self) -> Option<ConsultOutput> {
        self.outputs.pop_front()
    }

    /// Whether nothing is left: no leg, and nobody who waits to hear of it.
    pub(crate) const fn is_over(&self) -> bool {
        self.hung_up && matches!(self.phase, Phase::Over)
    }

    /// Takes what happens to the person's leg.
    pub(crate) fn handle_event(&mut self, now: Instant, event: ConsultEvent) {
        match event {
            ConsultEvent::Answered => self.handle_answer(now),
            ConsultEvent::Digit(digit) => self.handle_digit(digit),
            ConsultEvent::Heard => self.handle_heard(now),
            ConsultEvent::Unspeakable => {
                self.speechless = true;
                if matches!(self.phase, Phase::Asking { .. }) {
                    self.accept();
                }
            }
            ConsultEvent::Failed { status, reason } => {
                self.hung_up = true;
                self.fail(status, &reason, None);
            }
            ConsultEvent::HungUp => self.handle_hang_up(),
        }
    }

    /// Takes what the caller's side says.
    pub(crate) fn handle_order(&mut self, now: Instant, order: ConsultOrder) {
        match (order, self.phase) {
            (_, Phase::Over) | (ConsultOrder::Abandon, Phase::Leaving { .. }) => {}
            (ConsultOrder::Connected, _) if self.hung_up => self.phase = Phase::Over,
            (ConsultOrder::Connected, _) => {
                self.phase = Phase::Leaving { until: now + LEAVES_WITHIN };
            }
            (ConsultOrder::NotConnected | ConsultOrder::Abandon, _) => {
                self.end(HangupCause::NormalClearing);
            }
        }
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.phase {
            Phase::Ringing { until } | Phase::Leaving { until } => Some(until),
            Phase::Asking { until, say_at } => Some(say_at.map_or(until, |at| at.min(until))),
            Phase::Connecting | Phase::Over => None,
        }
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Ringing { until } if now >= until => {
                let cause = HangupCause::NoAnswer;
                self.fail(None, "nobody answered in time", Some(cause));
            }
            Phase::Asking { until, .. } if now >= until => {
                let cause = HangupCause::NormalClearing;
                self.fail(None, "the person did not take the call in time", Some(cause));
            }
            Phase::Asking { until, say_at: Some(at) } if now >= at => {
                self.phase = Phase::Asking { until, say_at: None };
                self.outputs.push_back(ConsultOutput::Say);
            }
            Phase::Leaving { until } if now >= until => self.end(HangupCause::NormalClearing),
            _ => {}
        }
    }

    fn handle_answer(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Ringing { .. }) {
            return;
        }
        let until = (now + DECIDES_WITHIN).min(self.decides_by);
        self.phase = Phase::Asking { until, say_at: Some(now + LEAD_IN) };
        if self.speechless {
            self.accept();
        }
    }

    fn handle_digit(&mut self, digit: Digit) {
        if !matches!(self.phase, Phase::Asking { .. }) {
            return;
        }
        match digit.as_char() {
            '1' | '#' => self.accept(),
            '*' => {
                self.fail(
                    Some(603),
                    "declined: the person did not take the call",
                    Some(HangupCause::NormalClearing),
                );
            }
            _ => {}
        }
    }

    fn handle_heard(&mut self, now: Instant) {
        let Phase::Asking { until, .. } = self.phase else { return };
        match self.accept {
            Accept::Answer => self.accept(),
            Accept::Key => self.phase = Phase::Asking { until, say_at: Some(now + PAUSE) },
        }
    }

    fn handle_hang_up(&mut self) {
        self.hung_up = true;
        match self.phase {
            Phase::Ringing { .. } | Phase::Asking { .. } => {
                self.fail(Some(603), "declined: the person did not take the call", None);
            }
            // This is how a leg ends that is replaced; the caller's side knows whether it was.
            Phase::Connecting | Phase::Over => {}
            Phase::Leaving { .. } => self.phase = Phase::Over,
        }
    }

    fn accept(&mut self) {
        self.phase = Phase::Connecting;
        self.outputs.extend([ConsultOutput::Hush, ConsultOutput::Accepted]);
    }

    fn fail(&mut self, status: Option<u16>, reason: &str, hang_up: Option<HangupCause>) {
        if matches!(self.phase, Phase::Ringing { .. } | Phase::Asking { .. }) {
            let outcome = TransferOutcome::Failed { status, reason: reason.to_owned() };
            self.outputs.push_back(ConsultOutput::Failed(outcome));
        }
        match hang_up {
            Some(cause) => self.end(cause),
            None => self.phase = Phase::Over,
        }
    }

    fn end(&mut self, cause: HangupCause) {
        self.phase = Phase::Over;
        if !self.hung_up {
            self.outputs.push_back(ConsultOutput::HangUp(cause));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TRANSFER: Duration = Duration::from_secs(30);

    struct World {
        consult: Consult,
        start: Instant,
        now: Instant,
    }

    impl World {
        fn new(accept: Accept) -> Self {
            Self::with(&ConsultSettings { accept, ..ConsultSettings::default() }, TRANSFER)
        }

        fn with(settings: &ConsultSettings, transfer_timeout: Duration) -> Self {
            let start = Instant::now();
            Self { consult: Consult::new(start, settings, transfer_timeout), start, now: start }
        }

        /// The same, answered and told about the caller.
        fn asked(accept: Accept) -> Self {
            let mut world = Self::new(accept);
            world.pass(3 * SECOND);
            assert_eq!(world.on(ConsultEvent::Answered), []);
            assert_eq!(world.pass(SECOND), [ConsultOutput::Say]);
            world
        }

        fn on(&mut self, event: ConsultEvent) -> Vec<ConsultOutput> {
            self.consult.handle_event(self.now, event);
            self.outputs()
        }

        fn order(&mut self, order: ConsultOrder) -> Vec<ConsultOutput> {
            self.consult.handle_order(self.now, order);
            self.outputs()
        }

        fn press(&mut self, key: char) -> Vec<ConsultOutput> {
            self.on(ConsultEvent::Digit(Digit::new(key).unwrap()))
        }

        /// Lets time pass, timer by timer.
        fn pass(&mut self, time: Duration) -> Vec<ConsultOutput> {
            let end = self.now + time;
            let mut done = Vec::new();
            while let Some(at) = self.consult.poll_timeout().filter(|at| *at <= end) {
                self.now = at;
                self.consult.handle_timeout(at);
                let outputs = self.outputs();
                assert!(!outputs.is_empty(), "a timer does something");
                done.extend(outputs);
            }
            self.now = end;
            done
        }

        fn outputs(&mut self) -> Vec<ConsultOutput> {
            std::iter::from_fn(|| self.consult.poll_output()).collect()
        }
    }

    fn failed(status: Option<u16>, reason: &str) -> ConsultOutput {
        ConsultOutput::Failed(TransferOutcome::Failed { status, reason: reason.to_owned() })
    }

    const DECLINED: &str = "declined: the person did not take the call";
    const BYE: ConsultOutput = ConsultOutput::HangUp(HangupCause::NormalClearing);

    #[test]
    fn a_key_takes_the_caller_and_the_leg_ends_behind_it() {
        for key in ['1', '#'] {
            let mut world = World::asked(Accept::Key);
            assert_eq!(world.press('5'), []);
            assert_eq!(world.press(key), [ConsultOutput::Hush, ConsultOutput::Accepted]);
            assert_eq!(world.press('*'), [], "it is too late to decline");
            assert_eq!(world.order(ConsultOrder::Connected), []);
            assert_eq!(world.order(ConsultOrder::Abandon), [], "the caller's call is over first");
            assert_eq!(world.pass(3 * SECOND), []);
            assert!(!world.consult.is_over());
            assert_eq!(world.pass(SECOND), [BYE]);
            assert_eq!(world.on(ConsultEvent::HungUp), []);
            assert!(world.consult.is_over());
        }
    }

    #[test]
    fn the_pbx_may_end_the_leg_before_or_after_it_says_that_they_are_connected() {
        let mut world = World::asked(Accept::Key);
        world.press('1');
        assert_eq!(world.on(ConsultEvent::HungUp), []);
        assert!(!world.consult.is_over(), "the outcome is still to come");
        assert_eq!(world.order(ConsultOrder::Connected), []);
        assert!(world.consult.is_over());
        let mut world = World::asked(Accept::Key);
        world.press('1');
        world.order(ConsultOrder::Connected);
        assert_eq!(world.on(ConsultEvent::HungUp), []);
        assert!(world.consult.is_over());
    }

    #[test]
    fn a_caller_who_cannot_be_connected_costs_the_person_the_leg() {
        let mut world = World::asked(Accept::Key);
        world.press('1');
        assert_eq!(world.order(ConsultOrder::NotConnected), [BYE]);
        assert_eq!(world.on(ConsultEvent::HungUp), []);
        assert!(world.consult.is_over());
        let mut world = World::asked(Accept::Key);
        world.press('1');
        world.on(ConsultEvent::HungUp);
        assert_eq!(world.order(ConsultOrder::NotConnected), [], "it is gone already");
        assert!(world.consult.is_over());
    }

    #[test]
    fn who_declines_or_hangs_up_does_not_take_the_caller() {
        let mut world = World::asked(Accept::Key);
        assert_eq!(world.press('*'), [failed(Some(603), DECLINED), BYE]);
        assert_eq!(world.on(ConsultEvent::HungUp), []);
        assert!(world.consult.is_over());
        for accept in [Accept::Key, Accept::Answer] {
            let mut world = World::asked(accept);
            assert_eq!(world.on(ConsultEvent::HungUp), [failed(Some(603), DECLINED)]);
            assert!(world.consult.is_over());
        }
    }

    #[test]
    fn who_is_busy_or_away_says_why() {
        let mut world = World::new(Accept::Key);
        let busy = ConsultEvent::Failed { status: Some(486), reason: "Busy Here".into() };
        assert_eq!(world.on(busy), [failed(Some(486), "Busy Here")]);
        assert!(world.consult.is_over());
    }

    #[test]
    fn nobody_rings_longer_than_a_transfer_may_take() {
        for (transfer, rings) in [(TRANSFER, 25), (10 * SECOND, 10)] {
            let mut world = World::with(&ConsultSettings::default(), transfer);
            let cancel = ConsultOutput::HangUp(HangupCause::NoAnswer);
            let done = world.pass(100 * SECOND);
            assert_eq!(done, [failed(None, "nobody answered in time"), cancel]);
            assert!(!world.consult.is_over(), "the CANCEL has its answer to come");
            let mut world = World::with(&ConsultSettings::default(), transfer);
            assert_eq!(world.pass(rings * SECOND - Duration::from_millis(1)), []);
        }
    }

    #[test]
    fn it_is_said_again_until_the_time_is_over_and_a_mailbox_takes_nobody() {
        let mut world = World::asked(Accept::Key);
        let answered = world.now - SECOND;
        world.pass(6 * SECOND);
        for _ in 0..4 {
            assert_eq!(world.on(ConsultEvent::Heard), []);
            assert_eq!(world.pass(3 * SECOND), []);
            assert_eq!(world.pass(SECOND), [ConsultOutput::Say]);
        }
        let done = world.pass(100 * SECOND);
        assert_eq!(done, [failed(None, "the person did not take the call in time"), BYE]);
        assert!(world.consult.poll_timeout().is_none());
        assert_eq!(answered, world.start + 3 * SECOND);
    }

    #[test]
    fn it_is_decided_before_the_call_gives_up() {
        for (transfer, answered) in [(5, 5), (30, 25), (300, 25)] {
            let mut world = World::with(&ConsultSettings::default(), Duration::from_secs(transfer));
            world.pass(Duration::from_secs(answered) - Duration::from_millis(1));
            world.on(ConsultEvent::Answered);
            let given_up = world.start + Duration::from_secs(transfer) + ATTENDED_PATIENCE;
            world.pass(Duration::from_secs(2));
            let last = world.consult.poll_timeout().unwrap();
            assert!(last + CONNECTS_WITHIN < given_up, "{transfer}");
            assert!(last >= world.now + 30 * SECOND, "there is time to decide: {transfer}");
        }
    }

    #[test]
    fn without_a_key_the_end_of_the_announcement_takes_the_caller() {
        let mut world = World::asked(Accept::Answer);
        assert_eq!(world.on(ConsultEvent::Heard), [ConsultOutput::Hush, ConsultOutput::Accepted]);
        let mut world = World::asked(Accept::Answer);
        assert_eq!(world.press('1'), [ConsultOutput::Hush, ConsultOutput::Accepted]);
    }

    #[test]
    fn what_nobody_can_say_keeps_nobody_waiting() {
        let mut world = World::new(Accept::Key);
        assert_eq!(world.on(ConsultEvent::Unspeakable), []);
        let accepted = [ConsultOutput::Hush, ConsultOutput::Accepted];
        assert_eq!(world.on(ConsultEvent::Answered), accepted);
        let mut world = World::new(Accept::Key);
        world.on(ConsultEvent::Answered);
        assert_eq!(world.on(ConsultEvent::Unspeakable), accepted);
    }

    #[test]
    fn a_caller_who_leaves_frees_the_leg_whatever_it_does() {
        let mut ringing = World::new(Accept::Key);
        assert_eq!(ringing.order(ConsultOrder::Abandon), [BYE]);
        assert_eq!(ringing.on(ConsultEvent::Answered), [], "the answer crossed the CANCEL");
        let mut asked = World::asked(Accept::Key);
        assert_eq!(asked.order(ConsultOrder::Abandon), [BYE]);
        let mut accepted = World::asked(Accept::Key);
        accepted.press('1');
        assert_eq!(accepted.order(ConsultOrder::Abandon), [BYE]);
        for mut world in [ringing, asked, accepted] {
            assert_eq!(world.order(ConsultOrder::Abandon), [], "once");
            assert_eq!(world.pass(100 * SECOND), []);
            world.on(ConsultEvent::HungUp);
            assert!(world.consult.is_over());
        }
    }
}
