//! The ears of a recording allocate nothing on the call's thread.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, Instant, SystemTime},
};

use tandem_call::Tap;
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_recording::{Recorder, RecordingOrder, RecordingSettings};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged; counting touches a constant-initialised thread local
// that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_frame_costs_no_allocation() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = Recorder::start(1).unwrap();
    let begin = Instant::now();
    let order = RecordingOrder {
        call_id: format!("call_{:032x}", 7),
        settings: RecordingSettings {
            folder: directory.path().join("recordings"),
            keep_free: 0,
            ..RecordingSettings::default()
        },
        begin,
        started_at: SystemTime::now(),
        leg_rate: SampleRate::Hz48000,
    };
    let (done, report) = std::sync::mpsc::channel();
    let (mut recording, [mut heard, mut sent]) = recorder.begin(order, move |it| {
        done.send(it).unwrap();
    });
    let before = ALLOCATIONS.with(Cell::get);
    for n in 0..1_000 {
        let at = begin + n * Duration::from_millis(20);
        heard.take_pcm(at, SampleRate::Hz48000, &[1; 960]);
        sent.take_bytes(at, AudioFormat::G711(Law::Mu), &[1; 160]);
        if n == 500 {
            recording.pause(at);
        }
        if n == 600 {
            recording.resume(at);
        }
    }
    recording.end(begin + Duration::from_secs(20));
    assert_eq!(ALLOCATIONS.with(Cell::get), before);
    let report = report.recv().unwrap();
    assert_eq!(report.duration, Duration::from_secs(20));
    assert!(report.path.unwrap().is_file());
}
