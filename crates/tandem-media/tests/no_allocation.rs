//! After warm-up the audio path of a frame takes nothing from the heap.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use tandem_media::{
    Concealer, DtmfDetector, Law, Playout, Resampler, SampleRate, VoiceActivity, g711,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system allocator unchanged; the counter neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_frame_takes_nothing_from_the_heap() {
    let pcm: Vec<i16> = (0..160_i32).map(|n| (n * 7_919 % 20_000 - 10_000) as i16).collect();
    let (mut payload, mut decoded, mut gap) = ([0; 160], [0; 160], [0; 320]);
    let (mut concealer, mut activity, mut playout) =
        (Concealer::new(), VoiceActivity::new(), Playout::new(Law::A));
    let (mut dtmf, mut digits, tone) = (DtmfDetector::new(), 0, tone());
    let mut up = Resampler::new(SampleRate::Hz8000, SampleRate::Hz24000);
    let mut down = Resampler::new(SampleRate::Hz24000, SampleRate::Hz8000);
    let (mut wide, mut narrow, mut cut) = (Vec::new(), Vec::new(), Vec::new());
    let mut warm = 0;
    for frame in 0..2_000_u64 {
        if frame == 200 {
            warm = ALLOCATIONS.get();
        }
        g711::encode(Law::A, &pcm, &mut payload);
        g711::decode(Law::A, &payload, &mut decoded);
        if frame % 10 == 9 {
            concealer.conceal_forward(&mut gap);
            concealer.conceal_between(&decoded, &mut gap);
        }
        concealer.good(&decoded);
        activity.process(&decoded);
        // 100 ms of a tone, and as much of something else.
        let frame_of_tone = &tone[(frame as usize % 5) * 160..][..160];
        dtmf.process(if frame % 10 < 5 { frame_of_tone } else { &decoded }, |_| digits += 1);
        wide.clear();
        up.process(&decoded, &mut wide);
        narrow.clear();
        down.process(&wide, &mut narrow);
        playout.push(frame / 7, &payload);
        playout.pull(&mut payload);
        if frame % 50 == 49 {
            playout.push(frame, &payload);
            cut.clear();
            playout.clear(&mut cut);
        }
    }
    assert_eq!(digits, 200);
    assert!(warm > 0, "the counter counts");
    assert_eq!(ALLOCATIONS.get() - warm, 0);
}

/// 100 ms of the digit 1.
fn tone() -> Vec<i16> {
    let sine = |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / 8_000.0).sin();
    (0..800).map(|n| (6_000.0 * (sine(697.0, n) + sine(1_209.0, n))) as i16).collect()
}
