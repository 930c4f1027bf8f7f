//! A process that is killed while it records leaves a file that can be played, or unsealed and played.

#![allow(clippy::unwrap_used, reason = "what helps a test may panic like the test")]

use std::{
    env, fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use tandem_call::Tap;
use tandem_media::SampleRate;
use tandem_recording::{
    Recorder, RecordingFormat, RecordingKey, RecordingOrder, RecordingSettings, inspect,
    unseal_file,
};

/// Tells the process that is to be killed where to record, and how.
const ORDER: &str = "TANDEM_TEST_RECORDING";

fn key() -> RecordingKey {
    RecordingKey::parse(&"5".repeat(64)).unwrap()
}

/// Records ten times as fast as time goes until it is killed; a test only where somebody asked for it.
#[test]
fn records_until_it_is_killed() {
    let Ok(order) = env::var(ORDER) else { return };
    let (how, folder) = order.split_once(' ').unwrap();
    let (format, sealed) = how.split_once('+').unwrap_or((how, ""));
    let rate = SampleRate::Hz8000;
    let settings = RecordingSettings {
        folder: folder.into(),
        format: RecordingFormat::from_name(format).unwrap(),
        key: (sealed == "sealed").then(key),
        keep_free: 0,
        ..RecordingSettings::default()
    };
    let begin = Instant::now();
    let order = RecordingOrder {
        call_id: format!("call_{:032x}", 7),
        settings,
        begin,
        started_at: SystemTime::now(),
        leg_rate: rate,
    };
    let recorder = Recorder::start(1).unwrap();
    let (_recording, [mut heard, mut sent]) = recorder.begin(order, |_| {});
    for n in 0..10_000_u32 {
        let tone = |hz: f64| -> Vec<i16> {
            (0..160)
                .map(|i| {
                    let at = f64::from(n * 160 + i) / 8_000.0;
                    ((at * hz * std::f64::consts::TAU).sin() * 8_000.0) as i16
                })
                .collect()
        };
        let at = begin + n * Duration::from_millis(20);
        heard.take_pcm(at, rate, &tone(440.0));
        sent.take_pcm(at, rate, &tone(880.0));
        thread::sleep(Duration::from_millis(2));
    }
}

/// The recording of a process that was killed when it had recorded for some seconds.
fn killed(how: &str, folder: &Path) -> PathBuf {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["records_until_it_is_killed", "--exact"])
        .env(ORDER, format!("{how} {}", folder.display()))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let path = wait_for_a_file(&mut child, folder);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    path
}

fn wait_for_a_file(child: &mut Child, folder: &Path) -> PathBuf {
    loop {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        let days = fs::read_dir(folder).into_iter().flatten();
        let files = days.flat_map(|day| fs::read_dir(day.unwrap().path()).into_iter().flatten());
        for file in files {
            let file = file.unwrap();
            if file.metadata().unwrap().len() > 60_000 {
                return file.path();
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_a_killed_process_recorded_can_be_played() {
    for how in ["wav", "ogg", "wav+sealed", "ogg+sealed"] {
        let directory = tempfile::tempdir().unwrap();
        let file = killed(how, &directory.path().join("recordings"));
        let mut about = inspect(&file, Some(&key())).unwrap();
        let mut played = file.clone();
        if how.ends_with("sealed") {
            assert_eq!((about.sealed, about.complete), (Some(key().id()), Some(false)));
            played = directory.path().join("played");
            assert!(!unseal_file(&file, &key(), &played).unwrap().complete);
            about = inspect(&played, None).unwrap();
        }
        let contents = about.contents.unwrap();
        assert!(contents.duration > Duration::from_millis(800), "{how}: {contents:?}");
        if let Some(seconds) = probed(&played) {
            let ours = contents.duration.as_secs_f64();
            assert!((seconds - ours).abs() < 0.03, "{how}: {seconds} s for others, {ours} for us");
        }
    }
}

/// The duration that ffprobe tells of, where it is installed.
fn probed(file: &Path) -> Option<f64> {
    let mut command = Command::new("ffprobe");
    command.args(["-v", "error", "-show_entries", "stream=duration,channels:format=duration"]);
    let output = command.args(["-of", "csv=p=0"]).arg(file).output().ok()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("2,"), "{text}");
    text.lines().last()?.trim().parse().ok()
}
