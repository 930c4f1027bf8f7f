//! A running recording, as its call holds it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::ear::Shared;

/// A recording that runs. Dropped together with its ears it comes to its end where the audio ended.
#[derive(Debug)]
pub struct Recording {
    begin: Instant,
    shared: Arc<Shared>,
    paused_since: Option<Instant>,
    ended: bool,
}

impl Recording {
    pub(crate) fn new(begin: Instant, shared: Arc<Shared>) -> Self {
        Self { begin, shared, paused_since: None, ended: false }
    }

    /// From `now` on there is silence in the place of both sides; false when it is paused already, or over.
    ///
    /// What is said in a pause does not even leave the call's thread.
    pub fn pause(&mut self, now: Instant) -> bool {
        let pauses = !self.ended && self.paused_since.is_none();
        if pauses {
            self.shared.pause();
            self.paused_since = Some(now);
        }
        pauses
    }

    /// Goes on at `now`; false when it is not paused, or over. Audio from before that arrives later is not kept.
    pub fn resume(&mut self, now: Instant) -> bool {
        let Some(since) = self.paused_since.filter(|_| !self.ended) else { return false };
        self.shared.resume(self.offset(now), now.saturating_duration_since(since));
        self.paused_since = None;
        true
    }

    /// Whether it is paused.
    pub const fn is_paused(&self) -> bool {
        self.paused_since.is_some()
    }

    /// The recording ends at `now`; the file is finished and reported by the writer.
    pub fn end(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.ended, true) {
            if let Some(since) = self.paused_since {
                self.shared.add_pause(now.saturating_duration_since(since));
            }
            self.shared.end(self.offset(now));
        }
    }

    fn offset(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.begin)
    }
}
