//! After the warm-up a frame allocates nothing, in either direction, in any format, with all that may be switched on.

use tandem_benches::{CountingAllocator, Extras, FramePath, Surroundings, Variant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn ten_thousand_frames_each_way_allocate_nothing() {
    for variant in Variant::ALL {
        let frames = run(variant, Extras::DEFAULT, 10_000);
        // The last frame of a fork may wait for the next one.
        let expected = 9_999 * variant.downlink_bytes();
        assert!(frames >= expected, "{}: what came from the model went down", variant.name());
    }
}

#[test]
fn nor_do_they_with_all_that_may_be_switched_on() {
    for variant in Variant::ALL {
        let sent = run(variant, Extras::EVERYTHING, 2_000);
        assert!(sent >= 1_999 * variant.downlink_bytes(), "{}", variant.name());
    }
}

/// Bytes that were sent in so many frames.
fn run(variant: Variant, extras: Extras, frames: usize) -> usize {
    let mut path = FramePath::new(&Surroundings::new(variant, extras));
    for _ in 0..1_000 {
        path.advance();
        assert!(path.uplink() > 160, "{}: a frame went up", variant.name());
        path.downlink();
    }
    let before = CountingAllocator::count();
    let mut sent = 0;
    for _ in 0..frames {
        path.advance();
        path.uplink();
        sent += path.downlink();
    }
    assert_eq!(CountingAllocator::count() - before, 0, "{} {extras:?}", variant.name());
    sent
}
