//! The RTP clock of what we send: it runs with the call, whether packets leave or not.

use std::time::Instant;

const SECOND: u128 = 1_000_000_000;

/// Maps instants to RTP timestamps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MediaClock {
    anchor: Instant,
    timestamp: u32,
    hz: u32,
}

impl MediaClock {
    /// `timestamp` belongs to `now`, and `hz` of them to a second.
    pub(crate) const fn new(now: Instant, timestamp: u32, hz: u32) -> Self {
        Self { anchor: now, timestamp, hz }
    }

    /// Ticks of a second.
    pub(crate) const fn hz(&self) -> u32 {
        self.hz
    }

    /// From `at` on it ticks `hz` times a second; the timestamp of `at` stays (RFC 7160 §4.1).
    pub(crate) fn set_hz(&mut self, at: Instant, hz: u32) {
        if hz != self.hz {
            *self = Self::new(at, self.timestamp_at(at), hz);
        }
    }

    /// The timestamp of `at`, which may lie before the anchor.
    pub(crate) fn timestamp_at(&self, at: Instant) -> u32 {
        let hz = u128::from(self.hz);
        let ticks = match at.checked_duration_since(self.anchor) {
            Some(after) => after.as_nanos() * hz / SECOND,
            None => ((self.anchor - at).as_nanos() * hz).div_ceil(SECOND).wrapping_neg(),
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
        for hz in [8_000, 16_000, 24_000, 48_000] {
            let clock = MediaClock::new(now, u32::MAX - 500, hz);
            for offset_ns in [0, 1, 124_999, 125_000, 7_777_777] {
                let start = now + Duration::from_nanos(offset_ns);
                let first = clock.timestamp_at(start);
                for k in 0..100u32 {
                    let at = start + Duration::from_millis(20) * k;
                    assert_eq!(clock.timestamp_at(at), first.wrapping_add(hz / 50 * k), "{hz}");
                }
            }
            let before = clock.timestamp_at(now - Duration::from_millis(20));
            assert_eq!(before, u32::MAX - 500 - hz / 50);
            let days = Duration::from_secs(86_400 * 100);
            assert_eq!(
                clock.timestamp_at(now + days),
                clock.timestamp_at(now).wrapping_add((86_400u64 * 100 * u64::from(hz)) as u32)
            );
        }
    }

    #[test]
    fn another_rate_goes_on_from_the_timestamp_there_is() {
        let now = crate::testing::start() + Duration::from_secs(1);
        let mut clock = MediaClock::new(now, 1_000, 8_000);
        let change = now + Duration::from_secs(1);
        clock.set_hz(change, 48_000);
        assert_eq!(clock.timestamp_at(change), 9_000);
        assert_eq!(clock.timestamp_at(change + Duration::from_millis(20)), 9_960);
        assert_eq!(clock.timestamp_at(change - Duration::from_millis(20)), 8_040);
    }
}
