//! Recorded calls: the announcement before the conversation, the agent's pauses, what is in the file. On virtual time, but for the
//! writer, which is given a little real time now and then.

#![allow(clippy::unwrap_used, reason = "what helps a test may panic like the test")]

use std::{
    collections::BTreeMap,
    f64::consts::TAU,
    fs,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    task::{Context, Waker},
    thread,
    time::{Duration, Instant, SystemTime},
};

use tandem_attendant::{DigitAction, Script, ToolAction, Voice};
use tandem_call::{
    AgentSpec, CallOutcome, Digit, EndReason, Greeting, Interruption, LateResults, Patience,
    SignalCommand, SignalEvent, TransferRoutes, standard_tool,
};
use tandem_exchange::{
    CallCore, CallRecording, Consent, CoreConfig, CoreOutput, Prompts, RECORDING_TOOLS,
    RecordingPlan, VendorModels, recording_tool,
};
use tandem_media::{AudioFormat, Codec, Law, OpusParams, Ptime, g711};
use tandem_recording::{Recorder, RecordingEnd, RecordingReport, RecordingSettings};
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};
use tokio::sync::oneshot;

const FRAME: Duration = Duration::from_millis(20);
const SECOND: Duration = Duration::from_secs(1);
/// The voice of these tests takes so long for a character, whatever it is.
const CHARACTER: Duration = Duration::from_millis(30);
const CONSENT: &str = "This call is recorded for training, and nobody else will hear it.";

/// A caller and the core of a call, 20 ms a step.
struct Call {
    core: CallCore,
    now: Instant,
    answered: Option<Instant>,
    packets: u16,
    peer: SocketAddr,
    /// What the caller heard since the answer.
    heard: Vec<i16>,
    outcome: Option<CallOutcome>,
    report: oneshot::Receiver<RecordingReport>,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn script() -> Script {
    let action = |name: &str| DigitAction {
        say: Some("All right.".into()),
        tool: Some(ToolAction { name: name.into(), arguments: serde_json::Map::new() }),
    };
    let digit = |c| Digit::new(c).unwrap();
    let digits =
        [(digit('1'), action("pause_recording")), (digit('2'), action("resume_recording"))];
    Script { digits: digits.into_iter().collect(), ..Script::default() }
}

fn plan(folder: &Path, consent: Option<Consent>) -> RecordingPlan {
    let settings = RecordingSettings {
        folder: folder.to_owned(),
        keep_free: 0,
        ..RecordingSettings::default()
    };
    let recorder = Recorder::start(1).unwrap();
    RecordingPlan { recorder, settings, consent, from_answer: false }
}

fn rendered(voice: &Voice) -> Consent {
    let consent = Consent::new("en", CONSENT);
    runtime().block_on(consent.render(voice)).unwrap();
    consent
}

impl Call {
    fn begin(voice: &Voice, plan: RecordingPlan) -> Self {
        let now = Instant::now();
        let standard = ["end_call"].iter().filter_map(|name| standard_tool(name));
        let tools = standard.chain(RECORDING_TOOLS.iter().filter_map(|name| recording_tool(name)));
        let agent = AgentSpec {
            agent_id: "reception".into(),
            system_prompt: String::new(),
            language: "en".into(),
            voice: None,
            temperature: None,
            greeting: Greeting::OwnWords,
            tools: tools.collect(),
            tool_timeout: Duration::from_secs(9),
            late_results: LateResults::Discard,
            transfer: TransferRoutes::default(),
            transfer_timeout: Duration::from_secs(30),
            end_call_drain: Duration::from_secs(2),
            end_call_cancel_on_speech: false,
            interruption: Interruption::default(),
            max_silence: Duration::from_secs(600),
            max_duration: Duration::from_secs(3_600),
            transcription: true,
            models: Vec::new(),
        };
        let models = VendorModels {
            chain: Vec::new(),
            agent: agent.clone(),
            script: Arc::new(script()),
            voice: voice.clone(),
            variables: BTreeMap::new(),
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
        let config = CoreConfig {
            agent,
            patience: Patience::default(),
            leg: RtpLeg::new(now, Duration::from_secs(1_790_000_000), leg),
            models: Box::new(models),
            prompts: Arc::new(Prompts::new(voice)),
            annotates: false,
        };
        let mut core = CallCore::new(now, config);
        let id = format!("call_{:032x}", 1);
        let (recording, report) = CallRecording::new(plan, &id, (now, SystemTime::now()));
        core.record(recording);
        let peer = SocketAddr::from(([127, 0, 0, 1], 4_000));
        let (heard, outcome) = (Vec::new(), None);
        Self { core, now, answered: None, packets: 0, peer, heard, outcome, report }
    }

    /// Lets 20 ms pass in which the caller's packet holds `payload`.
    fn step(&mut self, payload: &[u8; 160]) {
        let mut cx = Context::from_waker(Waker::noop());
        self.now += FRAME;
        let packet = RtpPacket {
            marker: false,
            payload_type: 0,
            sequence: self.packets,
            timestamp: u32::from(self.packets) * 160,
            ssrc: 1,
            csrc: &[],
            extension: None,
            payload,
            padding: 0,
        };
        let mut datagram = Vec::new();
        packet.write(&mut datagram);
        self.packets += 1;
        self.core.handle_timeout(self.now);
        let taken = self.core.handle_rtp(self.now, self.peer, &datagram);
        assert!(taken.is_ok() || self.answered.is_none());
        while self.core.poll_session(&mut cx, self.now) {}
        self.core.note_written(self.now);
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            if let Ok(packet) = RtpPacket::parse(transmit.bytes)
                && packet.payload_type == 0
            {
                let mut pcm = [0; 160];
                g711::decode(Law::Mu, packet.payload, &mut pcm);
                self.heard.extend(pcm);
            }
        }
        self.core.after_transmit(self.now);
        while let Some(output) = self.core.poll_output() {
            match output {
                CoreOutput::Signal(SignalCommand::Answer) => self.answer(),
                CoreOutput::Signal(SignalCommand::HangUp { cause }) => {
                    self.core.handle_signal(self.now, SignalEvent::HungUp { cause });
                }
                CoreOutput::Ended(outcome) => self.outcome = Some(*outcome),
                other => panic!("unexpected: {other:?}"),
            }
        }
        if self.packets.is_multiple_of(50) {
            thread::sleep(Duration::from_millis(40)); // For the writer.
        }
    }

    fn answer(&mut self) {
        let params = MediaParams {
            remote_rtp: self.peer,
            remote_rtcp: self.peer,
            rtcp_mux: true,
            codec: Codec::PCMU,
            payload_type: 0,
            opus: OpusParams::DEFAULT,
            telephone_event: Some(101),
            telephone_event_hz: 8_000,
            comfort_noise: Some(13),
            ptime: Ptime::MS20,
            direction: Direction::SendRecv,
            latching: Latching::Off,
        };
        self.answered = Some(self.now);
        self.core.handle_media(self.now, params);
        self.core.handle_signal(self.now, SignalEvent::Answered);
    }

    /// The caller says nothing.
    fn listen(&mut self, time: Duration) {
        self.run(time, 0.0);
    }

    /// The caller speaks.
    fn talk(&mut self, time: Duration) {
        self.run(time, 9_000.0);
    }

    fn run(&mut self, time: Duration, level: f64) {
        for _ in 0..time.as_millis() / 20 {
            let pcm: [i16; 160] = std::array::from_fn(|n| {
                let at = (usize::from(self.packets) * 160 + n) as f64 / 8_000.0;
                ((440.0 * TAU * at).sin() * level * (1.0 + (9.0 * TAU * at).sin()) / 2.0) as i16
            });
            let mut payload = [0; 160];
            g711::encode(Law::Mu, &pcm, &mut payload);
            self.step(&payload);
        }
    }

    fn press(&mut self, digit: char) {
        self.core.handle_signal(self.now, SignalEvent::Digit(Digit::new(digit).unwrap()));
    }

    /// Ends the call; the outcome, the report and the file's frames.
    fn end(mut self) -> (CallOutcome, Option<RecordingReport>, Vec<[i16; 2]>) {
        self.press('#');
        for _ in 0..20 {
            if self.outcome.is_none() {
                self.listen(SECOND);
            }
        }
        let Self { mut core, now, outcome, report, .. } = self;
        core.close(now);
        drop(core);
        let report = report.blocking_recv().ok();
        let frames = report.as_ref().map(|report| frames(report.path.as_ref().unwrap()));
        (outcome.expect("the call has ended"), report, frames.unwrap_or_default())
    }
}

fn frames(path: &Path) -> Vec<[i16; 2]> {
    let file = fs::read(path).unwrap();
    let frames = file[44..].as_chunks::<4>().0.iter();
    frames.map(|&[a, b, c, d]| [i16::from_le_bytes([a, b]), i16::from_le_bytes([c, d])]).collect()
}

/// Whether there is a sound in a side of `frames` between two times.
fn sounds(frames: &[[i16; 2]], side: usize, from: Duration, to: Duration) -> bool {
    let at = |time: Duration| (time.as_millis() as usize * 16).min(frames.len());
    frames[at(from)..at(to)].iter().any(|frame| frame[side].abs() > 500)
}

#[test]
fn the_caller_hears_the_announcement_whole_and_is_recorded_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let voice = Voice::tone(CHARACTER);
    let length = CHARACTER * CONSENT.len() as u32;
    let mut call = Call::begin(&voice, plan(directory.path(), Some(rendered(&voice))));
    call.listen(100 * Duration::from_millis(1));
    // He talks all the time: nothing of the announcement is lost, and nobody answers it.
    call.talk(length - 500 * Duration::from_millis(1));
    let spoken = |call: &Call| call.heard.iter().filter(|sample| sample.abs() > 500).count();
    assert!(
        spoken(&call) as f64
            > 0.8 * (length - 500 * Duration::from_millis(1)).as_secs_f64() * 8_000.0 * 0.9
    );
    call.listen(6 * SECOND);
    let answered = call.answered.unwrap();
    let at = call.now - answered;
    call.talk(2 * SECOND);
    call.listen(4 * SECOND);
    let end = call.now;
    let (outcome, report, frames) = call.end();
    assert_eq!(outcome.end_reason, EndReason::CallerGoodbye);
    assert_eq!(outcome.barge_ins.stopped, 0);
    let first = outcome.first_audio_ms.unwrap();
    assert!(
        (first - length.as_secs_f64() * 1e3).abs() < 100.0,
        "greeted {first} ms after the answer"
    );
    let report = report.unwrap();
    assert_eq!((report.end, report.dropped), (RecordingEnd::CallEnded, Duration::ZERO));
    assert!(report.duration + length > end - answered);
    // The greeting comes at once, on the right; what the caller says is where he said it, on the left.
    assert!(sounds(&frames, 1, Duration::ZERO, SECOND));
    assert!(!sounds(&frames, 0, Duration::ZERO, at - length - SECOND / 5));
    assert!(sounds(&frames, 0, at - length, at - length + SECOND));
}

#[test]
fn nothing_said_in_a_pause_is_in_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let voice = Voice::tone(CHARACTER);
    let mut call = Call::begin(&voice, plan(directory.path(), None));
    call.listen(8 * SECOND);
    let answered = call.answered.unwrap();
    call.press('1');
    call.listen(2 * SECOND);
    let from = call.now - answered;
    call.talk(3 * SECOND);
    let to = call.now - answered;
    call.listen(3 * SECOND);
    call.press('2');
    call.listen(3 * SECOND);
    let again = call.now - answered;
    call.talk(SECOND);
    call.listen(3 * SECOND);
    let (outcome, report, frames) = call.end();
    let tools: Vec<_> = outcome.tools.iter().map(|it| (it.name.as_str(), it.outcome)).collect();
    assert_eq!(
        tools[..2],
        [("pause_recording", "answered"), ("resume_recording", "answered")],
        "{tools:?}"
    );
    let report = report.unwrap();
    assert!(report.paused > 5 * SECOND && report.paused < 12 * SECOND, "{:?}", report.paused);
    assert!(sounds(&frames, 1, Duration::ZERO, SECOND), "the greeting");
    assert!(!sounds(&frames, 0, from - SECOND / 2, to + SECOND));
    assert!(sounds(&frames, 0, again, again + SECOND));
}

#[test]
fn without_its_announcement_a_call_goes_on_and_is_not_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let voice = Voice::tone(CHARACTER);
    let silent = Consent::new("en", CONSENT); // Nobody has rendered it.
    let mut call = Call::begin(&voice, plan(&directory.path().join("none"), Some(silent)));
    call.listen(4 * SECOND);
    call.press('1');
    call.listen(3 * SECOND);
    let (outcome, report, _) = call.end();
    assert!(outcome.first_audio_ms.unwrap() <= 20.0);
    assert_eq!(outcome.tools[0].name, "pause_recording");
    assert_eq!(report, None);
    assert!(!directory.path().join("none").exists());
}

#[test]
fn a_hold_during_the_announcement_holds_it() {
    let directory = tempfile::tempdir().unwrap();
    let voice = Voice::tone(CHARACTER);
    let plan =
        RecordingPlan { from_answer: true, ..plan(directory.path(), Some(rendered(&voice))) };
    let length = CHARACTER * CONSENT.len() as u32;
    let mut call = Call::begin(&voice, plan);
    call.listen(SECOND);
    call.core.handle_signal(call.now, SignalEvent::Held(true));
    call.listen(5 * SECOND);
    call.core.handle_signal(call.now, SignalEvent::Held(false));
    call.listen(length + 3 * SECOND);
    let (outcome, report, frames) = call.end();
    let first = Duration::from_secs_f64(outcome.first_audio_ms.unwrap() / 1e3);
    let due = length + 5 * SECOND;
    assert!(first > due - SECOND / 5 && first < due + SECOND / 5, "{first:?}");
    // Recorded from the answer on: the announcement, the hold, the rest of it.
    assert!(report.unwrap().duration > due);
    assert!(sounds(&frames, 1, Duration::ZERO, SECOND / 2));
    assert!(!sounds(&frames, 1, 2 * SECOND, 5 * SECOND));
    assert!(sounds(&frames, 1, 6 * SECOND + SECOND / 2, 7 * SECOND));
}
