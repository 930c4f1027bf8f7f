//! The RTP clock of what we send: it runs with the call, whether packets leave or not.

use std::time::Instant;

/// Maps instants to RTP timestamps at 8 kHz.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MediaClock {
    anchor: Instant,
    timestamp: u32,
}

impl MediaClock {
    /// `timestamp` belongs to `now`.
    pub(crate) const fn new(now: Instant, timestamp: u32) -> Self {
        Self { anchor: now, timestamp }
    }

    /// The timestamp of `at`, which may lie before the anchor.
    pub(crate) fn timestamp_at(&self, at: Instant) -> u32 {
        let ticks = match at.checked_duration_since(self.anchor) {
            Some(after) => after.as_nanos() / 125_000,
            None => (self.anchor - at).as_nanos().div_ceil(125_000).wrapping_neg(),
        };
        self.timestamp.wrapping_add(ticks as u32)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn packets_of_a_grid_are_equally_far_apart_wherever_it_begins() {
        let now = crate::testing::start() + Duration::from_secs(1);
        let clock = MediaClock::new(now, u32::MAX - 500);
        for offset_ns in [0, 1, 124_999, 125_000, 7_777_777] {
            let start = now + Duration::from_nanos(offset_ns);
            let first = clock.timestamp_at(start);
            for k in 0..100u32 {
                let at = start + Duration::from_millis(20) * k;
                assert_eq!(clock.timestamp_at(at), first.wrapping_add(160 * k));
            }
        }
        assert_eq!(clock.timestamp_at(now - Duration::from_millis(20)), u32::MAX - 660);
        let day = Duration::from_secs(86_400 * 100);
        assert_eq!(
            clock.timestamp_at(now + day),
            clock.timestamp_at(now).wrapping_add((86_400u64 * 100 * 8000) as u32)
        );
    }
}
