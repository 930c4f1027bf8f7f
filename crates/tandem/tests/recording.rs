//! The real daemon records a call of the softphone: what each said is on its own side, where it was said.

mod common;

use std::{
    cell::RefCell, fs, os::unix::fs::PermissionsExt, path::Path, process::Command, time::Duration,
};

use common::{Daemon, tones_in};
use hound::WavReader;
use serde_json::Value;
use tandem::softphone::{self, Action, CallPlan, Clip};
use tandem_call::Digit;
use tandem_media::{Codec, SampleRate};

const CONFIG: &str = r#"
[media]
ports = "36000-36099"
[limits]
max_calls = 10
[attendant]
engines = []
[agents.reception]
end_call_drain_ms = 100
tools = ["end_call", "pause_recording", "resume_recording"]
[agents.reception.script.digits.1]
say = "Thank you."
tool = { name = "pause_recording" }
[recording]
mode = "on"
min_free_mb = 0
"#;

/// Two seconds of silence, three of a tone of 1 kHz, one of silence.
fn tone() -> Clip {
    let sound = |n: &u32| (16_000..40_000).contains(n);
    let pcm = (0..48_000).map(|n| if sound(&n) { common::two_tones(n, 8_000) } else { 0 });
    Clip { rate: SampleRate::Hz8000, pcm: pcm.collect() }
}

/// A call whose caller plays the tone, presses `digits` at their times and hangs up after eleven seconds.
fn call(daemon: &Daemon, digits: &[(&str, char)]) -> Value {
    let press = |c| Action::Press(vec![Digit::new(c).expect("a digit")]);
    let cue = |when: &str| when.parse().expect("a cue");
    let mut cues: Vec<_> = digits.iter().map(|(when, digit)| (cue(when), press(*digit))).collect();
    cues.push((cue("4s"), Action::Play(tone())));
    cues.push((cue("11s"), Action::HangUp));
    let plan = CallPlan {
        target: format!("sip:200@{}", daemon.sip).parse().expect("a URI"),
        from: "+13055550100".into(),
        cues,
        record: None,
        duration: Duration::from_secs(30),
        media_timeout: Duration::from_secs(5),
        credentials: None,
        headers: Vec::new(),
        codecs: vec![Codec::PCMU],
        srtp: None,
        local: None,
        ledger: None,
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let shown = RefCell::new(Vec::new());
    let called =
        runtime.block_on(softphone::call(plan, &|it| shown.borrow_mut().push(it.to_owned())));
    called.unwrap_or_else(|error| panic!("{error}: {:?}", shown.borrow()));
    daemon.wait_for_records(1).remove(0)
}

/// Both sides of a recording at 16 kHz.
fn sides(path: &Path) -> [Vec<i16>; 2] {
    let mut wav = WavReader::open(path).expect("a WAV file");
    let spec = wav.spec();
    assert_eq!((spec.channels, spec.sample_rate, spec.bits_per_sample), (2, 16_000, 16));
    let samples: Vec<i16> = wav.samples().map(|it| it.expect("a sample")).collect();
    [0, 1].map(|side| samples.iter().skip(side).step_by(2).copied().collect())
}

fn loudest(side: &[i16], from: f64, to: f64) -> u16 {
    let at = |seconds: f64| ((seconds * 16_000.0) as usize).min(side.len());
    side[at(from)..at(to)].iter().map(|it| it.unsigned_abs()).max().unwrap_or(0)
}

#[test]
fn both_sides_of_a_call_are_in_the_file_that_its_record_names() {
    let daemon = Daemon::start(CONFIG);
    let record = call(&daemon, &[]);
    let recording = &record["recording"];
    assert_eq!(
        (&recording["status"], &recording["ended"]),
        (&"available".into(), &"call_ended".into())
    );
    assert_eq!((&recording["dropped_ms"], &recording["sealed"]), (&0.into(), &false.into()));
    let path = Path::new(recording["path"].as_str().expect("a path"));
    assert!(path.starts_with(daemon.folder.path().join("recordings")), "{path:?}");
    assert!(path.display().to_string().contains(record["id"].as_str().expect("an id")));
    assert_eq!(fs::metadata(path).expect("the file").permissions().mode() & 0o777, 0o600);
    let [caller, agent] = sides(path);
    let seconds = caller.len() as f64 / 16_000.0;
    assert!((10.5..11.7).contains(&seconds), "{seconds} s");
    assert_eq!(recording["duration_ms"].as_f64().expect("a number") as usize, caller.len() / 16);
    // The agent greets at once; the caller's tone lies between the sixth and the ninth second, and on his side only.
    assert!(loudest(&agent, 0.0, 1.0) > 1_000);
    assert_eq!(loudest(&caller, 0.0, 5.5), 0);
    assert!(loudest(&caller, 6.2, 8.8) > 3_000);
    assert!(tones_in(&caller, 16_000)[0] > 3_000.0);
    assert!(tones_in(&agent, 16_000)[0] < 1_000.0);
    assert_eq!(loudest(&caller, 9.5, seconds), 0);
}

#[test]
fn a_sealed_recording_opens_with_its_key_only_and_has_nothing_of_the_pause() {
    let config = format!("{CONFIG}key_file = \"key\"\n");
    let keys = tempfile::tempdir().expect("a folder");
    let key = keys.path().join("key");
    fs::write(&key, "0f".repeat(32)).expect("the key can be written");
    let config = config.replace("\"key\"", &format!("{:?}", key.display().to_string()));
    let daemon = Daemon::start(&config);
    let record = call(&daemon, &[("3s", '1')]);
    let recording = &record["recording"];
    assert!(recording["paused_ms"].as_u64().expect("a number") > 4_000, "{record}");
    let path = recording["path"].as_str().expect("a path");
    assert!(path.ends_with(".wav.sealed"));
    let tandem = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tandem")).args(arguments).output();
        let output = output.expect("tandem can be run");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    };
    let key = key.display().to_string();
    let other = keys.path().join("other").display().to_string();
    fs::write(&other, "10".repeat(32)).expect("the key can be written");
    let played = keys.path().join("played.wav");
    let output = played.display().to_string();
    let (code, text) = tandem(&["recording", "decrypt", path, "--key-file", &other, "-o", &output]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("was sealed with the key"), "{text}");
    let (code, text) = tandem(&["recording", "decrypt", path, "--key-file", &key, "-o", &output]);
    assert_eq!(code, Some(0), "{text}");
    let (code, text) = tandem(&["recording", "info", path, "--key-file", &key]);
    assert!(code == Some(0) && text.contains("caller left, agent right"), "{text}");
    let [caller, agent] = sides(&played);
    assert!(loudest(&agent, 0.0, 1.0) > 1_000);
    assert_eq!(loudest(&caller, 0.0, 20.0), 0, "the tone fell into the pause");
    assert_eq!(loudest(&agent, 6.5, 20.0), 0);
}
