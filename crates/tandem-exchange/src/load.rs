//! How hard the encoder of a call may try, by how late its worker serves it.

use std::time::{Duration, Instant};

/// A packet that leaves later than this after its time is late; on a worker with time to spare one in a hundred is 0.4 ms late.
const LATE: Duration = Duration::from_millis(3);

/// Lateness is judged over so long.
const WINDOW: Duration = Duration::from_secs(1);

/// One packet in so many late, in a window, is strain.
const STRAINED: u32 = 10;

/// Windows without strain in a row before more is tried again.
const CALM: u32 = 10;

/// Opus' complexity: as measured 1.0 %, 0.7 % and 0.5 % of a core for each call.
const COMPLEXITIES: [u8; 3] = [5, 2, 0];

/// The lateness of one call's packets. All calls of a busy worker are late alike, so each sees for itself.
#[derive(Debug, Default)]
pub(crate) struct Load {
    window_ends: Option<Instant>,
    packets: u32,
    late: u32,
    calm: u32,
    step: usize,
}

impl Load {
    /// Notes that what was due at `due` is done at `now`. Returns the complexity to encode with, where it is another one.
    pub(crate) fn note(&mut self, now: Instant, due: Instant) -> Option<u8> {
        self.packets += 1;
        self.late += u32::from(now.saturating_duration_since(due) > LATE);
        if now < *self.window_ends.get_or_insert(now + WINDOW) {
            return None;
        }
        let strained = self.late * STRAINED >= self.packets;
        (self.window_ends, self.packets, self.late) = (Some(now + WINDOW), 0, 0);
        let before = self.step;
        if strained {
            self.calm = 0;
            self.step = (self.step + 1).min(COMPLEXITIES.len() - 1);
        } else {
            self.calm += 1;
            if self.calm == CALM {
                self.calm = 0;
                self.step = self.step.saturating_sub(1);
            }
        }
        (self.step != before).then(|| COMPLEXITIES[self.step])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The changes in `seconds` of packets that leave so late, each `every`-th of them.
    fn run(load: &mut Load, now: &mut Instant, seconds: u32, late_ms: u64, every: u32) -> Vec<u8> {
        let mut changes = Vec::new();
        for n in 0..seconds * 50 {
            *now += Duration::from_millis(20);
            let late = if n % every == 0 { late_ms } else { 0 };
            changes.extend(load.note(*now, *now - Duration::from_millis(late)));
        }
        changes
    }

    #[test]
    fn a_worker_that_falls_behind_encodes_with_less_effort_until_it_has_been_calm() {
        let (mut load, mut now) = (Load::default(), Instant::now() + Duration::from_secs(10));
        assert!(run(&mut load, &mut now, 60, 2, 1).is_empty(), "2 ms are not late");
        assert!(run(&mut load, &mut now, 60, 40, 50).is_empty(), "one packet in fifty is a hiccup");
        assert_eq!(run(&mut load, &mut now, 5, 8, 4), [2, 0], "a step a second");
        assert!(run(&mut load, &mut now, 9, 0, 1).is_empty());
        assert_eq!(run(&mut load, &mut now, 25, 0, 1), [2, 5]);
        assert!(run(&mut load, &mut now, 60, 0, 1).is_empty());
    }
}
