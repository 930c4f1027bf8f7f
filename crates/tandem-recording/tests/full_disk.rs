//! A file system without room, for real. Needs the right to mount one; without it there is nothing to test.

#![allow(clippy::unwrap_used, reason = "what helps a test may panic like the test")]

use std::{
    fs,
    path::Path,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use tandem_call::Tap;
use tandem_media::SampleRate;
use tandem_recording::{Recorder, RecordingEnd, RecordingOrder, RecordingSettings, inspect};

/// A file system of a megabyte, as long as it is held.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(at: &'a Path) -> Option<Self> {
        let mut command = Command::new("mount");
        let command = command.args(["-t", "tmpfs", "-o", "size=1m", "tandem-test"]).arg(at);
        command.output().ok()?.status.success().then_some(Self(at))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        Command::new("umount").arg(self.0).status().ok();
    }
}

#[test]
fn a_full_disk_ends_recordings_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(directory.path()) else {
        eprintln!("skipped: no right to mount a file system");
        return;
    };
    let rate = SampleRate::Hz16000;
    let recorder = Recorder::start(1).unwrap();
    let begin = Instant::now();
    let order = |call: u8, folder: &str| RecordingOrder {
        call_id: format!("call_{call:032x}"),
        settings: RecordingSettings {
            folder: directory.path().join(folder),
            keep_free: 0,
            ..RecordingSettings::default()
        },
        begin,
        started_at: SystemTime::now(),
        leg_rate: rate,
    };
    let (done, reports) = mpsc::channel();
    let (_recording, [mut heard, mut sent]) = recorder.begin(order(1, "a"), {
        let done = done.clone();
        move |report| done.send(report).unwrap()
    });
    // 64 kB a second: the disk is full after 16 s, which pass in three seconds.
    let report = (0..10_000).find_map(|n| {
        let at = begin + n * Duration::from_millis(20);
        heard.take_pcm(at, rate, &[1_000; 320]);
        sent.take_pcm(at, rate, &[1_000; 320]);
        thread::sleep(Duration::from_millis(4));
        reports.try_recv().ok()
    });
    let report = report.expect("a disk of a megabyte is full after 200 s");
    assert_eq!(report.end, RecordingEnd::DiskFull, "{:?}", report.error);
    assert!(report.duration > Duration::from_secs(1));
    let contents = inspect(report.path.as_deref().unwrap(), None).unwrap().contents.unwrap();
    assert_eq!(contents.duration, report.duration);
    // The next one does not even begin.
    fs::write(small.0.join("rest"), vec![0; 1 << 20]).unwrap_err();
    let (_recording, _ears) = recorder.begin(order(2, "b"), move |it| done.send(it).unwrap());
    let report = reports.recv().unwrap();
    assert_eq!((report.end, report.path), (RecordingEnd::DiskFull, None));
}
