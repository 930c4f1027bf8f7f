//! How long to wait before the next try of something that failed.

use std::time::Duration;

/// Doubling waits with jitter: each is between half and all of its step, so that many callers of a peer that came
/// back do not arrive together.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    random: fastrand::Rng,
}

impl Backoff {
    /// Waits that start at `first`, double with each failure and never exceed `longest`. The same `seed` gives the
    /// same waits.
    pub fn new(first: Duration, longest: Duration, seed: u64) -> Self {
        Self { first, longest, failures: 0, random: fastrand::Rng::with_seed(seed) }
    }

    /// Counts a failure and says how long to wait before the next try.
    pub fn failed(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        step.div_f64(2.0) + step.mul_f64(self.random.f64() / 2.0)
    }

    /// Failures since the last success.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// A try went well: the next wait is the first one again.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let first = Duration::from_millis(200);
        let longest = Duration::from_secs(10);
        let mut backoff = Backoff::new(first, longest, 7);
        for step in [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
            let wait = backoff.failed();
            let step = Duration::from_millis(step);
            assert!(wait >= step / 2 && wait <= step, "{wait:?} for the step {step:?}");
        }
        assert_eq!(backoff.failures(), 8);
        backoff.succeeded();
        assert!(backoff.failed() <= first);
    }

    #[test]
    fn a_thousand_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60), 1);
        for _ in 0..1_000 {
            assert!(backoff.failed() <= Duration::from_secs(60));
        }
    }
}
