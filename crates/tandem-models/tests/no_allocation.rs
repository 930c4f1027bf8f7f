//! The audio path of a dialect allocates nothing once its buffers are warm.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tandem_call::{ItemId, ModelEvent, ModelSink, SessionSpec};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_models::{GeminiLive, ModelDialect, ModelSettings, OpenAiRealtime, Outbox, Provider};

/// Counts what this thread allocates.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // A thread that is going away has no counter any more and none is needed.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_in(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[derive(Default)]
struct Ear {
    bytes: usize,
    events: usize,
}

impl ModelSink for Ear {
    fn audio(&mut self, _item: ItemId, _format: AudioFormat, bytes: &[u8]) {
        self.bytes += bytes.len();
    }

    fn event(&mut self, _event: ModelEvent) {
        self.events += 1;
    }
}

fn spec(input: AudioFormat, output: AudioFormat) -> SessionSpec {
    SessionSpec {
        instructions: String::new(),
        voice: None,
        language: String::new(),
        temperature: None,
        tools: Vec::new(),
        input,
        output,
        transcription: true,
        history: Vec::new(),
        first_item: ItemId(1),
    }
}

/// Encodes and decodes 20 ms frames as the session does; `message` is the server's audio message around base64.
fn check(mut dialect: impl ModelDialect, frame: usize, message: impl Fn(&str) -> String) {
    let now = Instant::now();
    let audio: Vec<u8> = (0..frame).map(|n| n as u8).collect();
    let mut out = Outbox::default();
    dialect.open(now, &mut out);

    let mut buffer = BytesMut::new();
    let mut sent = 0;
    let mut encode = |rounds: usize| {
        for _ in 0..rounds {
            dialect.encode_audio(&audio, &mut buffer);
            sent += buffer.split().freeze().len();
        }
    };
    encode(100);
    assert_eq!(allocations_in(|| encode(1_000)), 0, "uplink");
    assert!(sent > 1_100 * frame * 4 / 3);

    let message = message(&base64_simd::STANDARD.encode_to_string(&audio));
    let mut ear = Ear::default();
    let mut decode = |rounds: usize| {
        for _ in 0..rounds {
            dialect
                .handle_message(now, message.as_bytes(), &mut out, &mut ear)
                .expect("a valid message");
        }
    };
    decode(100);
    assert_eq!(allocations_in(|| decode(1_000)), 0, "downlink");
    assert_eq!(ear.bytes, 1_100 * frame);
}

#[test]
fn openai_audio_allocates_nothing() {
    for (format, frame) in
        [(AudioFormat::G711(Law::Mu), 160), (AudioFormat::Pcm16(SampleRate::Hz24000), 960)]
    {
        let settings = ModelSettings::new(Provider::OpenAiRealtime, String::new().into());
        let dialect = OpenAiRealtime::new(
            Arc::new(settings),
            spec(format, format),
            Instant::now(),
            Duration::ZERO,
        );
        check(dialect, frame, |base64| {
            format!(
                r#"{{"type":"response.output_audio.delta","event_id":"event_9","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"{base64}"}}"#
            )
        });
    }
}

#[test]
fn gemini_audio_allocates_nothing() {
    let settings = ModelSettings::new(Provider::GeminiLive, String::new().into());
    let dialect = GeminiLive::new(
        Arc::new(settings),
        spec(AudioFormat::Pcm16(SampleRate::Hz16000), AudioFormat::Pcm16(SampleRate::Hz24000)),
    );
    check(dialect, 640, |base64| {
        format!(
            r#"{{"serverContent":{{"modelTurn":{{"parts":[{{"inlineData":{{"mimeType":"audio/pcm;rate=24000","data":"{base64}"}}}}]}}}}}}"#
        )
    });
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_in(|| drop(Box::new([0_u8; 64]))), 1);
}
