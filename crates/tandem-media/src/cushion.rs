//! How much audio waits before it starts, after the model has run dry in mid-sentence.

use std::time::{Duration, Instant};

/// One step of growth.
const STEP: Duration = Duration::from_millis(40);
const MAX: Duration = Duration::from_millis(120);
/// A step is taken back after this long without an underrun.
const DECAY: Duration = Duration::from_secs(30);

/// The audio that is to wait before playing starts: nothing until an underrun was seen, then more with each one, up to 120 ms,
/// and less again in time.
#[derive(Debug, Default)]
pub struct Cushion {
    length: Duration,
    changed: Option<Instant>,
    underruns: u64,
}

impl Cushion {
    /// Audio to be queued before playing starts.
    pub const fn length(&self) -> Duration {
        self.length
    }

    /// The queue ran dry in the middle of an item, as was found at `now`.
    pub fn underrun(&mut self, now: Instant) {
        self.underruns += 1;
        self.length = (self.length + STEP).min(MAX);
        self.changed = Some(now);
    }

    /// Shrinks if it has been long enough.
    pub fn decay(&mut self, now: Instant) {
        while let Some(changed) = self.changed
            && now.saturating_duration_since(changed) >= DECAY
        {
            self.length = self.length.saturating_sub(STEP);
            self.changed = (!self.length.is_zero()).then(|| changed + DECAY);
        }
    }

    /// Underruns so far.
    pub const fn underruns(&self) -> u64 {
        self.underruns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "an Instant has no other beginning; nothing is measured"
    )]
    fn beginning() -> Instant {
        Instant::now()
    }

    #[test]
    fn it_grows_with_underruns_and_shrinks_in_time() {
        let start = beginning();
        let mut cushion = Cushion::default();
        for (at_s, underrun, millis) in [
            (0, false, 0),
            (1, true, 40),
            (2, true, 80),
            (3, true, 120),
            (4, true, 120),
            (33, false, 120),
            (34, false, 80),
            (40, true, 120),
            (70, false, 80),
            (1000, false, 0),
            (2000, false, 0),
        ] {
            let now = start + Duration::from_secs(at_s);
            cushion.decay(now);
            if underrun {
                cushion.underrun(now);
            }
            assert_eq!(cushion.length(), Duration::from_millis(millis), "at {at_s} s");
        }
        assert_eq!(cushion.underruns(), 5);
    }
}
