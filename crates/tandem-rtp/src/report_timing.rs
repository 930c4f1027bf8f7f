//! When RTCP is sent (RFC 3550 §6.2, §6.3), for a session of two.

use std::time::{Duration, Instant};

/// The least mean interval between reports.
const MIN_INTERVAL: Duration = Duration::from_secs(5);

/// 5 % of the 80 kbit/s that G.711 with its headers takes each way, in bytes per second.
const RTCP_BYTES_PER_SECOND: f64 = 80_000.0 * 2.0 / 8.0 * 0.05;

/// Undoes the bias of timer reconsideration: e - 3/2 (RFC 3550 §6.3.1).
const COMPENSATION: f64 = std::f64::consts::E - 1.5;

/// Bytes of IPv4 and UDP headers, which count as RTCP bandwidth.
const UDP_IP_LEN: usize = 28;

/// Says when the next report is due.
///
/// Members are us and, once heard, the peer, so the reconsideration of §6.3.3 has nothing to reconsider.
#[derive(Debug, Clone)]
pub struct ReportTiming {
    random: u64,
    average_size: f64,
    due: Instant,
}

impl ReportTiming {
    /// The first report is due after half an interval from `now`; `seed` gives the randomness.
    pub fn new(now: Instant, seed: u64) -> Self {
        let mut timing = Self { random: seed, average_size: 100.0, due: now };
        timing.due = now + timing.interval(MIN_INTERVAL / 2);
        timing
    }

    /// When the next report is due.
    pub const fn due(&self) -> Instant {
        self.due
    }

    /// Counts a compound of `bytes` that was sent or received.
    pub fn record_size(&mut self, bytes: usize) {
        self.average_size += ((bytes + UDP_IP_LEN) as f64 - self.average_size) / 16.0;
    }

    /// Makes the next report due at `now`: a BYE in a session of two does not wait (RFC 3550 §6.3.7).
    pub const fn hurry(&mut self, now: Instant) {
        self.due = now;
    }

    /// Plans the report after one sent at `now`.
    pub fn sent(&mut self, now: Instant) {
        self.due = now + self.interval(MIN_INTERVAL);
    }

    fn interval(&mut self, minimum: Duration) -> Duration {
        let members = 2.0;
        let by_bandwidth = members * self.average_size / RTCP_BYTES_PER_SECOND;
        let mean = by_bandwidth.max(minimum.as_secs_f64());
        Duration::from_secs_f64(mean * (0.5 + self.next_random()) / COMPENSATION)
    }

    /// SplitMix64, as a fraction in 0..1: reports of many legs must not fall together, nothing more depends on it.
    fn next_random(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_spread_around_five_seconds() {
        let mut now = crate::testing::start();
        let start = now;
        let mut timing = ReportTiming::new(now, 7);
        let first = timing.due() - now;
        assert!((1.02..3.08).contains(&first.as_secs_f64()), "{first:?}");
        for _ in 0..1000 {
            let due = timing.due();
            let gap = (due - now).as_secs_f64();
            assert!(now == start || (2.05..6.16).contains(&gap), "{gap}");
            now = due;
            timing.record_size(80);
            timing.sent(now);
        }
        let mean = (now - start).as_secs_f64() / 1000.0;
        assert!((3.9..4.3).contains(&mean), "5 s / 1.218 on average, got {mean}");
    }

    #[test]
    fn huge_reports_are_sent_less_often() {
        let now = crate::testing::start();
        let mut timing = ReportTiming::new(now, 7);
        for _ in 0..200 {
            timing.record_size(60_000);
        }
        timing.sent(now);
        assert!(timing.due() - now > Duration::from_secs(40));
    }
}
