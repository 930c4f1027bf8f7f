//! What a caller heard, sample by sample.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// What a caller heard, with the time of each sample. While nothing was written to the channel it is silence.
#[derive(Debug, Clone)]
pub struct Heard {
    /// When the first sample was written, on the grid of 20 ms.
    pub started: Instant,
    /// Hz.
    pub rate: u32,
    /// The samples.
    pub samples: Vec<i16>,
    /// Samples the switch wrote since the call began, silence included; the rest is where it wrote nothing.
    pub written: usize,
}

impl Heard {
    /// When sample `index` was heard.
    pub fn time_of(&self, index: usize) -> Instant {
        self.started + span(index, self.rate)
    }

    /// The first sample that is heard at `time` or later; the length when there is none yet.
    pub fn index_at(&self, time: Instant) -> usize {
        let since = time.saturating_duration_since(self.started);
        index_after(since, self.rate).min(self.samples.len())
    }

    /// The samples from one time to another.
    pub fn between(&self, from: Instant, to: Instant) -> &[i16] {
        let (from, to) = (self.index_at(from), self.index_at(to));
        &self.samples[from.min(to)..to]
    }

    /// When the first sample louder than `level` was heard, at `time` or later.
    pub fn first_sound(&self, time: Instant, level: u16) -> Option<Instant> {
        let from = self.index_at(time);
        let found = self.samples[from..].iter().position(|sample| sample.unsigned_abs() > level);
        found.map(|offset| self.time_of(from + offset))
    }

    /// When the last sample louder than `level` was heard.
    pub fn last_sound(&self, level: u16) -> Option<Instant> {
        let found = self.samples.iter().rposition(|sample| sample.unsigned_abs() > level);
        found.map(|index| self.time_of(index))
    }

    /// Was nothing louder than `level` heard from `time` on.
    pub fn silent_since(&self, time: Instant, level: u16) -> bool {
        self.first_sound(time, level).is_none()
    }

    /// How long it is.
    pub fn duration(&self) -> Duration {
        span(self.samples.len(), self.rate)
    }
}

fn span(samples: usize, rate: u32) -> Duration {
    Duration::from_nanos(samples as u64 * 1_000_000_000 / u64::from(rate.max(1)))
}

/// Records what is written to a caller.
#[derive(Debug)]
pub(crate) struct Recorder {
    started: Option<Instant>,
    rate: u32,
    limit: usize,
    samples: VecDeque<i16>,
    written: usize,
}

impl Recorder {
    pub(crate) fn new(rate: u32, limit: Duration) -> Self {
        let limit = (limit.as_millis() as usize).saturating_mul(rate as usize) / 1_000;
        Self { started: None, rate, limit, samples: VecDeque::new(), written: 0 }
    }

    /// Takes a frame that is heard from `now` on.
    pub(crate) fn push(&mut self, now: Instant, frame: &[i16], written: bool) {
        self.started.get_or_insert(now);
        if written {
            self.written += frame.len();
        }
        self.samples.extend(frame);
        let beyond = self.samples.len().saturating_sub(self.limit);
        if beyond > 0 {
            self.samples.drain(..beyond);
            self.started = self.started.map(|started| started + span(beyond, self.rate));
        }
    }

    /// Samples that are kept.
    pub(crate) fn len(&self) -> usize {
        self.samples.len()
    }

    /// Forgets all that was heard.
    pub(crate) fn forget(&mut self) {
        self.samples = VecDeque::new();
    }

    /// What was heard from `from` on, or from the beginning if that is later.
    pub(crate) fn heard(&self, now: Instant, from: Option<Instant>) -> Heard {
        let started = self.started.unwrap_or(now);
        let skipped =
            from.map_or(0, |from| index_after(from.saturating_duration_since(started), self.rate));
        let skipped = skipped.min(self.samples.len());
        // Slices, because a test may ask often, and about a long call.
        let (first, second) = self.samples.as_slices();
        let mut samples = Vec::with_capacity(self.samples.len() - skipped);
        samples.extend_from_slice(first.get(skipped..).unwrap_or_default());
        samples.extend_from_slice(&second[skipped.saturating_sub(first.len()).min(second.len())..]);
        Heard {
            started: started + span(skipped, self.rate),
            rate: self.rate,
            samples,
            written: self.written,
        }
    }
}

/// The first sample that begins so long after the start, or later.
fn index_after(since: Duration, rate: u32) -> usize {
    let index = (since.as_nanos() * u128::from(rate)).div_ceil(1_000_000_000);
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sounds_are_found_by_time() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut recorder = Recorder::new(8_000, Duration::from_secs(1));
        recorder.push(at(0), &[0; 160], false);
        recorder.push(at(20), &[500; 160], true);
        recorder.push(at(40), &[3; 160], true);
        let heard = recorder.heard(start, None);
        assert_eq!(heard.first_sound(start, 100), Some(at(20)));
        assert_eq!(heard.last_sound(100), Some(at(40) - Duration::from_micros(125)));
        assert!(heard.silent_since(at(40), 100));
        assert_eq!(heard.between(at(30), at(50)), [[500; 80], [3; 80]].concat());
        assert_eq!((heard.written, heard.duration()), (320, Duration::from_millis(60)));
        for frame in 3..60 {
            recorder.push(at(frame * 20), &[1; 160], true);
        }
        let heard = recorder.heard(start, None);
        assert_eq!(
            (heard.started, heard.samples.len()),
            (at(200), 8_000),
            "only the newest second is kept"
        );
    }
}
