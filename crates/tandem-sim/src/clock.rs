//! Time that moves only when a test says so.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

/// A clock that stands still until it is advanced. Clones show the same time.
#[derive(Debug, Clone)]
pub struct VirtualClock {
    start: Instant,
    elapsed: Rc<Cell<Duration>>,
}

impl VirtualClock {
    /// A clock at zero. Its `Instant`s are real ones, so they compare and subtract like any other.
    pub fn new() -> Self {
        Self { start: Instant::now(), elapsed: Rc::default() }
    }

    /// The time shown now.
    pub fn now(&self) -> Instant {
        self.start + self.elapsed.get()
    }

    /// How far the clock has been advanced since it was made.
    pub fn elapsed(&self) -> Duration {
        self.elapsed.get()
    }

    /// Moves time on by `step` and returns the new time.
    pub fn advance(&self, step: Duration) -> Instant {
        self.elapsed.set(self.elapsed.get() + step);
        self.now()
    }

    /// Moves time on to `instant`; a time already past leaves the clock alone.
    pub fn advance_to(&self, instant: Instant) -> Instant {
        self.elapsed.set(self.elapsed.get().max(instant.saturating_duration_since(self.start)));
        self.now()
    }
}

impl Default for VirtualClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_moves_only_when_it_is_advanced() {
        let clock = VirtualClock::new();
        let seen_elsewhere = clock.clone();
        let start = clock.now();
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_millis(20));
        assert_eq!(seen_elsewhere.now(), start + Duration::from_millis(20));
        clock.advance_to(start + Duration::from_millis(10));
        assert_eq!(clock.elapsed(), Duration::from_millis(20), "time never runs backwards");
        clock.advance_to(start + Duration::from_secs(3_600));
        assert_eq!(clock.elapsed(), Duration::from_secs(3_600));
    }
}
