//! A whole call with the offline attendant, without sockets, on virtual time.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tandem_attendant::{Script, Voice};
use tandem_call::{
    AgentSpec, CallOutcome, Digit, EndReason, Greeting, HangupCause, LateResults, Patience,
    SignalCommand, SignalEvent, TransferRoutes, standard_tool,
};
use tandem_exchange::{CallCore, CoreConfig, CoreOutput, Prompts, VendorModels};
use tandem_media::{AudioFormat, Codec, Law, Ptime};
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};

const FRAME: Duration = Duration::from_millis(20);

/// A caller and the core of a call, 20 ms a step.
struct Call {
    core: CallCore,
    now: Instant,
    started: Instant,
    sequence: u16,
    peer: SocketAddr,
    heard: Vec<u8>,
    answered: bool,
    outcome: Option<CallOutcome>,
}

impl Call {
    fn begin(voice: &Voice) -> Self {
        let now = Instant::now();
        let agent = AgentSpec {
            agent_id: "reception".into(),
            system_prompt: String::new(),
            language: "en".into(),
            voice: None,
            temperature: None,
            greeting: Greeting::OwnWords,
            tools: ["end_call", "transfer_to_human", "leave_message"]
                .iter()
                .filter_map(|name| standard_tool(name))
                .collect(),
            tool_timeout: Duration::from_secs(9),
            late_results: LateResults::Discard,
            transfer: TransferRoutes::default(),
            transfer_timeout: Duration::from_secs(30),
            end_call_drain: Duration::from_secs(2),
            end_call_cancel_on_speech: false,
            interruption: tandem_call::Interruption::default(),
            max_silence: Duration::from_secs(600),
            max_duration: Duration::from_secs(3_600),
            transcription: true,
            models: Vec::new(),
        };
        let models = VendorModels {
            chain: Vec::new(),
            agent: agent.clone(),
            script: Arc::new(Script::default()),
            voice: voice.clone(),
            variables: std::collections::BTreeMap::new(),
        };
        let leg = LegConfig {
            ssrc: 7,
            first_sequence: 1,
            first_timestamp: 0,
            cname: "test".into(),
            codec: Codec::PCMU,
            uplink: AudioFormat::G711(Law::Mu),
            media_timeout: Duration::from_secs(60),
            seed: 1,
        };
        let core = CallCore::new(
            now,
            CoreConfig {
                agent,
                patience: Patience::default(),
                leg: RtpLeg::new(now, Duration::from_secs(1_790_000_000), leg),
                models: Box::new(models),
                prompts: Arc::new(Prompts::new(voice)),
                annotates: false,
            },
        );
        let peer = SocketAddr::from(([127, 0, 0, 1], 4_000));
        Self {
            core,
            now,
            started: now,
            sequence: 0,
            peer,
            heard: Vec::new(),
            answered: false,
            outcome: None,
        }
    }

    /// Lets 20 ms pass in which the caller's packet holds `payload`.
    fn step(&mut self, payload: &[u8; 160]) {
        let mut cx = Context::from_waker(Waker::noop());
        self.now += FRAME;
        let mut datagram = vec![0x80, 0];
        datagram.extend(self.sequence.to_be_bytes());
        datagram.extend((u32::from(self.sequence) * 160).to_be_bytes());
        datagram.extend([0, 0, 0, 1]);
        datagram.extend(payload);
        self.sequence += 1;
        self.core.handle_timeout(self.now);
        let taken = self.core.handle_rtp(self.now, self.peer, &datagram);
        assert!(taken.is_ok() || !self.answered);
        while self.core.poll_session(&mut cx, self.now) {}
        self.core.note_written(self.now);
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            if let Ok(packet) = RtpPacket::parse(transmit.bytes)
                && packet.payload_type == 0
            {
                self.heard.extend(packet.payload);
            }
        }
        self.core.after_transmit(self.now);
        while let Some(output) = self.core.poll_output() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: CoreOutput) {
        match output {
            CoreOutput::Signal(SignalCommand::Answer) => {
                let params = MediaParams {
                    remote_rtp: self.peer,
                    remote_rtcp: self.peer,
                    rtcp_mux: true,
                    codec: Codec::PCMU,
                    payload_type: 0,
                    opus: tandem_media::OpusParams::DEFAULT,
                    telephone_event: Some(101),
                    telephone_event_hz: 8_000,
                    comfort_noise: Some(13),
                    ptime: Ptime::MS20,
                    direction: Direction::SendRecv,
                    latching: Latching::Off,
                };
                self.answered = true;
                self.core.handle_media(self.now, params);
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
