//! The frame path allocates nothing once its buffers have grown.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, Instant},
};

use tandem_call::{ItemId, MediaLeg};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_streams::{Channels, Dialect, ForkLeg, ForkLegConfig, Message, StreamShape};

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

const TICK: Duration = Duration::from_millis(20);

/// Messages of 20 ms, joined or missing now and then, while the model speaks in bursts.
fn run(shape: StreamShape, format: AudioFormat, warm_up: u64, frames: u64) -> u64 {
    let start = Instant::now();
    let config = ForkLegConfig {
        rate: shape.rate,
        uplink: format,
        media_timeout: Duration::from_secs(30),
        stream_clear: None,
    };
    let mut leg = ForkLeg::new(start, config);
    leg.attach(start, shape);
    let size = shape.rate.hz() / 50 * 2 * shape.channels.count();
    let message: Vec<u8> = (0..size * 2).map(|k| (k * 5) as u8).collect();
    let filler = vec![0xFF; size];
    let model_audio = vec![0x21; format.bytes_per(TICK) * 2];
    // The queue grows to what the model sends ahead: here once, two seconds.
    leg.play(start, ItemId(0), format, &model_audio.repeat(50));
    leg.clear(start);
    let (mut up, mut down, mut before) = (0, 0, 0);
    for n in 0..warm_up + frames {
        if n == warm_up {
            before = ALLOCATIONS.with(Cell::get);
        }
        let now = start + TICK * u32::try_from(n + 1).expect("few frames");
        let is_silent = n % 1_000 > 980;
        let message = match n % 50 {
            _ if is_silent => None,
            10 => None,
            11 => Some(&message[..]),
            20 => Some(&filler[..]),
            30 => Some(&message[..size + 1]),
            31 => Some(&message[..size - 1]),
            _ => Some(&message[..size]),
        };
        if let Some(message) = message {
            leg.handle_binary(now, message).expect("it is attached");
        }
        // The model speaks for 400 ms of each 800, twice as fast as real time; at first in more items than are remembered.
        let item = ItemId(if n < warm_up { n } else { warm_up + n / 40 });
        if n % 40 < 10 {
            leg.play(now, item, format, &model_audio);
        }
        if n % 40 == 10 {
            leg.end_item(now, item);
        }
        leg.handle_timeout(now);
        while let Some(frame) = leg.poll_uplink() {
            up += frame.audio.len();
        }
        while leg.poll_event().is_some() {}
        while let Some(message) = leg.poll_message(now) {
            if let Message::Binary(bytes) | Message::Text(bytes) = message {
                down += bytes.len();
            }
        }
    }
    let allocations = ALLOCATIONS.with(Cell::get) - before;
    let expected = format.bytes_per(TICK) as u64 * (warm_up + frames);
    assert!(
        (up as u64).abs_diff(expected) < format.bytes_per(TICK) as u64 * 10,
        "{up}, {expected}"
    );
    let spoken = shape.back.hz() as u64 * 2 * (warm_up + frames) / 50 * 2 / 5;
    assert!(down as u64 > spoken, "{down} of {spoken}");
    allocations
}

#[test]
fn frames_in_both_directions_allocate_nothing_after_warm_up() {
    use SampleRate::{Hz8000, Hz16000, Hz24000, Hz48000};
    let pcm = AudioFormat::Pcm16;
    let both = Dialect::AudioForkBidirectional;
    for (dialect, rate, channels, back, format) in [
        (both, Hz16000, Channels::Mono, Hz16000, pcm(Hz24000)),
        (both, Hz16000, Channels::Mono, Hz24000, pcm(Hz24000)),
        (both, Hz16000, Channels::Mono, Hz16000, pcm(Hz16000)),
        (both, Hz8000, Channels::Mono, Hz8000, AudioFormat::G711(Law::Mu)),
        (both, Hz8000, Channels::Stereo, Hz8000, pcm(Hz8000)),
        (both, Hz48000, Channels::Stereo, Hz48000, pcm(Hz24000)),
        (Dialect::AudioStreamRaw, Hz16000, Channels::Mixed, Hz16000, pcm(Hz24000)),
        (Dialect::AudioStreamBase64, Hz16000, Channels::Mono, Hz8000, AudioFormat::G711(Law::A)),
    ] {
        let shape = StreamShape { dialect, rate, channels, back, codec: Hz8000 };
        assert_eq!(run(shape, format, 500, 10_000), 0, "{shape:?}, {format:?}");
    }
}
