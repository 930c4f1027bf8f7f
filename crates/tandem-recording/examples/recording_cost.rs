//! What a recording costs: nanoseconds a frame on the call's thread, and the writer's share of a core.
//!
//! `cargo run --release -p tandem-recording --example recording_cost`

use std::{
    hint::black_box,
    sync::mpsc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use tandem_call::Tap;
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_recording::{Recorder, RecordingFormat, RecordingOrder, RecordingSettings};

const FRAMES: u32 = 20_000;

fn main() {
    let folder = std::env::temp_dir().join(format!("tandem-recording-cost-{}", std::process::id()));
    for format in [RecordingFormat::Wav, RecordingFormat::Ogg] {
        for rate in [SampleRate::Hz8000, SampleRate::Hz16000] {
            measure(&folder, format, rate);
        }
    }
    std::fs::remove_dir_all(&folder).ok();
}

fn measure(folder: &std::path::Path, format: RecordingFormat, rate: SampleRate) {
    let begin = Instant::now();
    let order = RecordingOrder {
        call_id: format!("call_{:032x}", 1),
        settings: RecordingSettings {
            folder: folder.to_owned(),
            format,
            keep_free: 0,
            ..RecordingSettings::default()
        },
        begin,
        started_at: SystemTime::now(),
        leg_rate: rate,
    };
    let recorder = Recorder::start(1).expect("a thread");
    let (done, reports) = mpsc::channel();
    let (mut recording, [mut heard, mut sent]) =
        recorder.begin(order, move |report| done.send(report).expect("somebody waits"));
    let samples = rate.hz() / 50;
    let speech: Vec<i16> = (0..samples * 50)
        .map(|n| ((n as f64 * 0.13).sin() * (n as f64 * 0.003).sin() * 9_000.0) as i16)
        .collect();
    let packet = vec![0x5A; 160];
    let (mut on_the_call, cpu) = (Duration::ZERO, process_time());
    for n in 0..FRAMES {
        let at = begin + n * Duration::from_millis(20);
        let pcm = &speech[(n as usize % 50) * samples..][..samples];
        let start = Instant::now();
        heard.take_pcm(at, rate, black_box(pcm));
        if rate == SampleRate::Hz8000 {
            sent.take_bytes(at, AudioFormat::G711(Law::Mu), black_box(&packet));
        } else {
            sent.take_pcm(at, rate, black_box(pcm));
        }
        on_the_call += start.elapsed();
        if n % 50 == 49 {
            thread::sleep(Duration::from_millis(60)); // The writer is to keep up.
        }
    }
    recording.end(begin + FRAMES * Duration::from_millis(20));
    let report = reports.recv().expect("a report");
    let cpu = process_time() - cpu;
    println!(
        "{} of a leg at {} Hz: {} ns a frame both ways on the call's thread, {:.3} % of a core for the writer, {} ms dropped, {} bytes a second",
        format.name(),
        rate.hz(),
        on_the_call.as_nanos() / u128::from(FRAMES),
        (cpu.saturating_sub(on_the_call)).as_secs_f64() / report.duration.as_secs_f64() * 100.0,
        report.dropped.as_millis(),
        report.size_bytes as f64 / report.duration.as_secs_f64(),
    );
}

/// Processor time of this process.
fn process_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel fills the struct.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
