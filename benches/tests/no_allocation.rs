//! After the warm-up a frame allocates nothing, in either direction, in any format.

use tandem_benches::{CountingAllocator, FramePath, Variant};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

#[test]
fn ten_thousand_frames_each_way_allocate_nothing() {
    for variant in Variant::ALL {
        let mut path = FramePath::new(variant);
        for _ in 0..1_000 {
            path.advance();
            assert!(path.uplink() > 160, "{}: a frame went up", variant.name());
            path.downlink();
        }
        let before = CountingAllocator::count();
        let mut sent = 0;
        for _ in 0..10_000 {
            path.advance();
            path.uplink();
            sent += path.downlink();
        }
        assert_eq!(CountingAllocator::count() - before, 0, "{}", variant.name());
        // The last frame of a fork may wait for the next one.
        let expected = 9_999 * variant.downlink_bytes();
        assert!(sent >= expected, "{}: what came from the model went down", variant.name());
    }
}
