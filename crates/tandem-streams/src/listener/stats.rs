//! What came in at a listener, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::handshake::{Ended, Refusal};

/// What became of the connections so far; each is counted once, when it is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ListenerStats {
    /// Handed over as an `Arrival`.
    pub accepted: u64,
    /// Refused with 400, 405, 426 or 431.
    pub bad_request: u64,
    /// Refused with 401.
    pub unauthorized: u64,
    /// Refused with 404.
    pub not_found: u64,
    /// Refused with 408.
    pub too_slow: u64,
    /// Refused with 503, or not answered at all because there were too many of those.
    pub busy: u64,
    /// Closed with 1013 because nobody took the arrivals.
    pub not_taken: u64,
    /// Left before the 101.
    pub left: u64,
    /// Left after the 101 and before the first message.
    pub closed: u64,
    /// Closed because nothing came after the 101.
    pub silent: u64,
    /// Closed because of what came after the 101.
    pub bad_frames: u64,
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) accepted: AtomicU64,
    bad_request: AtomicU64,
    unauthorized: AtomicU64,
    not_found: AtomicU64,
    too_slow: AtomicU64,
    busy: AtomicU64,
    pub(super) not_taken: AtomicU64,
    left: AtomicU64,
    closed: AtomicU64,
    silent: AtomicU64,
    bad_frames: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, ended: Ended) {
        let counter = match ended {
            Ended::Refused(
                Refusal::BadRequest(_) | Refusal::Method | Refusal::Version | Refusal::TooLarge,
            ) => &self.bad_request,
            Ended::Refused(Refusal::Slow) => &self.too_slow,
            Ended::Refused(Refusal::Unauthorized(_)) => &self.unauthorized,
            Ended::Refused(Refusal::NotFound) => &self.not_found,
            Ended::Refused(Refusal::Busy) => &self.busy,
            Ended::Left => &self.left,
            Ended::Closed => &self.closed,
            Ended::Silent => &self.silent,
            Ended::BadFrames => &self.bad_frames,
        };
        counter.fetch_add(1, Relaxed);
    }

    pub(super) fn snapshot(&self) -> ListenerStats {
        ListenerStats {
            accepted: self.accepted.load(Relaxed),
            bad_request: self.bad_request.load(Relaxed),
            unauthorized: self.unauthorized.load(Relaxed),
            not_found: self.not_found.load(Relaxed),
            too_slow: self.too_slow.load(Relaxed),
            busy: self.busy.load(Relaxed),
            not_taken: self.not_taken.load(Relaxed),
            left: self.left.load(Relaxed),
            closed: self.closed.load(Relaxed),
            silent: self.silent.load(Relaxed),
            bad_frames: self.bad_frames.load(Relaxed),
        }
    }
}
