//! Recorded calls: the announcement before the conversation, the agent's pauses, what is in the file. On virtual time, but for the
//! writer, which is given a little real time now and then.

#![allow(clippy::unwrap_used, reason = "what helps a test may panic like the test")]

mod common;

use std::{
    f64::consts::TAU,
    fs,
    path::Path,
    task::{Context, Waker},
    thread,
    time::{Duration, Instant, SystemTime},
};

use common::FRAME;
use tandem_attendant::{DigitAction, Script, ToolAction, Voice};
use tandem_call::{
    CallOutcome, Digit, EndReason, SignalCommand, SignalEvent, Speaker, Verdict, standard_tool,
};
use tandem_exchange::{
    CallCore, CallRecording, Consent, CoreOutput, RECORDING_TOOLS, RecordingPlan, recording_tool,
};
use tandem_media::{Law, g711};
use tandem_recording::{Recorder, RecordingEnd, RecordingReport, RecordingSettings};
use tokio::sync::oneshot;

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
        let agent = common::agent(tools.collect());
        let models = common::attendant(&agent, script(), voice);
        let mut core = common::core(now, agent, common::leg(now), models, voice);
        let id = format!("call_{:032x}", 1);
        let (recording, report) = CallRecording::new(plan, &id, (now, SystemTime::now()));
        core.record(recording);
        let (heard, outcome) = (Vec::new(), None);
        Self { core, now, answered: None, packets: 0, heard, outcome, report }
    }

    /// Lets 20 ms pass in which the caller's packet holds `payload`.
    fn step(&mut self, payload: &[u8; 160]) {
        let mut cx = Context::from_waker(Waker::noop());
        self.now += FRAME;
        let datagram = common::packet(self.packets, payload);
        self.packets += 1;
        self.core.handle_timeout(self.now);
        let taken = self.core.handle_rtp(self.now, common::peer(), &datagram);
        assert!(taken.is_ok() || self.answered.is_none());
        while self.core.poll_session(&mut cx, self.now) {}
        self.core.note_written(self.now);
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            if let Some(audio) = common::audio(transmit.bytes) {
                let mut pcm = [0; 160];
                g711::decode(Law::Mu, audio, &mut pcm);
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
        self.answered = Some(self.now);
        self.core.handle_media(self.now, common::media());
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
fn a_key_pressed_during_the_announcement_does_not_cut_it() {
    let directory = tempfile::tempdir().unwrap();
    let voice = Voice::tone(CHARACTER);
    let length = CHARACTER * CONSENT.len() as u32;
    let mut call = Call::begin(&voice, plan(directory.path(), Some(rendered(&voice))));
    call.listen(SECOND / 4);
    let keys = ['1', '2', '1'];
    for key in keys {
        call.press(key);
        call.listen(SECOND / 4);
    }
    call.listen(length - SECOND);
    let spoken = call.heard.iter().filter(|sample| sample.abs() > 500).count();
    assert!(spoken as f64 > 0.9 * length.as_secs_f64() * 8_000.0 * 0.9, "{spoken} samples");
    call.listen(6 * SECOND);
    let (outcome, report, _) = call.end();
    let report = report.expect("it is recorded");
    assert!(report.duration > 5 * SECOND && report.paused > SECOND, "{report:?}");
    let tools = outcome.tools.iter().map(|tool| tool.name.as_str());
    let asked = keys.map(|key| if key == '1' { "pause_recording" } else { "resume_recording" });
    assert_eq!(tools.take(3).collect::<Vec<_>>(), asked);
    // The greeting waited behind the announcement and was cut there: not a word of it was heard.
    let greeting = outcome.transcript.iter().find(|turn| turn.interrupted);
    assert_eq!(greeting.map(|turn| turn.text.as_str()), Some(""), "{:?}", outcome.transcript);
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
        [("pause_recording", Verdict::Ok), ("resume_recording", Verdict::Ok)],
        "{tools:?}"
    );
    let report = report.unwrap();
    assert!(report.paused > 5 * SECOND && report.paused < 12 * SECOND, "{:?}", report.paused);
    assert!(sounds(&frames, 1, Duration::ZERO, SECOND), "the greeting");
    assert!(!sounds(&frames, 0, from - SECOND / 2, to + SECOND));
    assert!(sounds(&frames, 0, again, again + SECOND));
    let of_caller: Vec<_> =
        outcome.transcript.iter().filter(|it| it.role == Speaker::Caller).collect();
    assert_eq!(of_caller[0].text, "[paused]", "{:?}", outcome.transcript);
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
    let last = outcome.transcript.last().unwrap();
    assert_eq!(last.text, "[paused]", "it is not written down either");
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
