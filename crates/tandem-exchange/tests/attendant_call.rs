//! A whole call with the offline attendant, without sockets, on virtual time.

mod common;

use std::{
    task::{Context, Waker},
    time::{Duration, Instant},
};

use common::FRAME;
use tandem_attendant::{Script, Voice};
use tandem_call::{
    CallOutcome, Digit, EndReason, HangupCause, SignalCommand, SignalEvent, standard_tool,
};
use tandem_exchange::{CallCore, CoreOutput};

/// A caller and the core of a call, 20 ms a step.
struct Call {
    core: CallCore,
    now: Instant,
    started: Instant,
    sequence: u16,
    heard: Vec<u8>,
    answered: bool,
    outcome: Option<CallOutcome>,
}

impl Call {
    fn begin(voice: &Voice) -> Self {
        let now = Instant::now();
        let tools = ["end_call", "transfer_to_human", "leave_message"];
        let agent = common::agent(tools.iter().filter_map(|name| standard_tool(name)).collect());
        let models = common::attendant(&agent, Script::default(), voice);
        let core = common::core(now, agent, common::leg(now), models, voice);
        let (heard, outcome) = (Vec::new(), None);
        Self { core, now, started: now, sequence: 0, heard, answered: false, outcome }
    }

    /// Lets 20 ms pass in which the caller's packet holds `payload`.
    fn step(&mut self, payload: &[u8; 160]) {
        let mut cx = Context::from_waker(Waker::noop());
        self.now += FRAME;
        let datagram = common::packet(self.sequence, payload);
        self.sequence += 1;
        self.core.handle_timeout(self.now);
        let taken = self.core.handle_rtp(self.now, common::peer(), &datagram);
        assert!(taken.is_ok() || !self.answered);
        while self.core.poll_session(&mut cx, self.now) {}
        self.core.note_written(self.now);
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            self.heard.extend(common::audio(transmit.bytes).unwrap_or_default());
        }
        self.core.after_transmit(self.now);
        while let Some(output) = self.core.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: CoreOutput) {
        match output {
            CoreOutput::Signal(SignalCommand::Answer) => {
                self.answered = true;
                self.core.handle_media(self.now, common::media());
                self.core.handle_signal(self.now, SignalEvent::Answered);
            }
            CoreOutput::Signal(SignalCommand::HangUp { cause }) => {
                self.core.handle_signal(self.now, SignalEvent::HungUp { cause });
            }
            CoreOutput::Ended(outcome) => self.outcome = Some(*outcome),
            other => panic!("unexpected: {other:?}"),
        }
    }

    fn silence(&mut self, time: Duration) {
        self.run(time, &[0xFF; 160]);
    }

    fn run(&mut self, time: Duration, payload: &[u8; 160]) {
        for _ in 0..time.as_millis() / 20 {
            if self.outcome.is_some() {
                return;
            }
            self.step(payload);
        }
    }

    fn seconds_heard(&self) -> f64 {
        self.heard.iter().filter(|&&byte| byte != 0xFF && byte != 0x7F).count() as f64 / 8_000.0
    }
}

#[test]
fn the_attendant_greets_and_pound_ends_the_call_at_the_played_end_of_the_goodbye() {
    let voice = Voice::tone(Duration::from_millis(30));
    let mut call = Call::begin(&voice);
    call.silence(Duration::from_secs(4));
    let greeting = call.seconds_heard();
    assert!(greeting > 2.0, "{greeting} s of the greeting were heard");

    call.core.handle_signal(call.now, SignalEvent::Digit(Digit::new('#').unwrap()));
    call.silence(Duration::from_secs(12));
    let outcome = call.outcome.expect("the call has ended");
    assert_eq!(
        (outcome.end_reason, outcome.cause),
        (EndReason::CallerGoodbye, HangupCause::NormalClearing)
    );
    assert_eq!(outcome.tools[0].name, "end_call");
    assert_eq!(outcome.models, ["attendant"]);
    assert!(outcome.first_audio_ms.unwrap() <= 20.0, "{outcome:?}");
    assert!(outcome.end_call_tail_ms.is_some(), "{outcome:?}");
    assert!(call.now - call.started < Duration::from_secs(12));
}

#[test]
fn a_caller_who_hangs_up_ends_the_call_at_once() {
    let voice = Voice::tone(Duration::from_millis(30));
    let mut call = Call::begin(&voice);
    call.silence(Duration::from_secs(1));
    call.core.handle_signal(call.now, SignalEvent::HungUp { cause: HangupCause::NormalClearing });
    call.silence(FRAME);
    assert_eq!(call.outcome.expect("the call has ended").end_reason, EndReason::CallerHangup);
}
