//! Hearing the caller costs no allocation.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    collections::BTreeMap,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tandem_attendant::{AttendantSession, AttendantSpec, Endpointing, Script, Voice};
use tandem_call::{ItemId, ModelEvent, ModelSession, ModelSink, SessionSpec};
use tandem_media::{AudioFormat, SampleRate};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the promises of this very function.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Ignore;

impl ModelSink for Ignore {
    fn audio(&mut self, _: ItemId, _: AudioFormat, _: &[u8]) {}
    fn event(&mut self, _: ModelEvent) {}
}

#[test]
fn ten_thousand_frames_allocate_nothing() {
    const FORMAT: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz16000);
    for parrot in [false, true] {
        let spec = SessionSpec {
            instructions: String::new(),
            voice: None,
            language: "en".into(),
            temperature: None,
            tools: Vec::new(),
            input: FORMAT,
            output: FORMAT,
            transcription: true,
            history: Vec::new(),
            first_item: ItemId(1),
        };
        let attendant = AttendantSpec {
            script: Arc::new(Script { silence_seconds: 0, parrot, ..Script::default() }),
            voice: Voice::tone(Duration::from_millis(60)),
            variables: BTreeMap::new(),
            apologise: false,
            endpointing: Endpointing::default(),
        };
        let mut session = AttendantSession::open(spec, attendant);
        let now = Instant::now();
        let mut cx = Context::from_waker(Waker::noop());
        let mut hear = |frame: usize| {
            let frame: [u8; 640] =
                std::array::from_fn(|n| (n * frame % 7) as u8 * (n % 2 == 0) as u8);
            session.send_audio(now, &frame);
            while session.poll(&mut cx, now, &mut Ignore).is_ready() {}
        };
        (0..500).for_each(&mut hear);
        let before = ALLOCATIONS.get();
        (500..10_500).for_each(&mut hear);
        assert_eq!(ALLOCATIONS.get() - before, 0, "parrot: {parrot}");
    }
}
