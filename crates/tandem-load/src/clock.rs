//! Waking at an absolute instant, and the priority that makes it true.

use std::{
    io, ptr,
    time::{Duration, Instant},
};

use serde::Serialize;

/// Who goes first under SCHED_FIFO. All are above ordinary threads and below the kernel's own.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Priority {
    /// Who is measured.
    Measured = 10,
    /// Who stamps what comes.
    Stamps = 20,
    /// Who keeps the grid: nothing of ours makes it late.
    Paces = 30,
}

/// How a thread gets its turn on a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheduling {
    /// SCHED_FIFO: at once.
    Fifo,
    /// When the scheduler finds it fair.
    Ordinary,
}

impl Scheduling {
    /// SCHED_FIFO for the calling thread where that is allowed (root, CAP_SYS_NICE, an rtprio limit).
    pub(crate) fn best_for_this_thread(priority: Priority) -> Self {
        // SAFETY: plain system call about the calling thread.
        let thread = unsafe { libc::gettid() };
        if set_fifo(thread, priority).is_ok() { Self::Fifo } else { Self::Ordinary }
    }

    /// In words.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fifo => "SCHED_FIFO",
            Self::Ordinary => "ordinary",
        }
    }
}

/// SCHED_FIFO for one thread, and for all threads it starts from now on.
pub(crate) fn set_fifo(thread: libc::pid_t, priority: Priority) -> io::Result<()> {
    let parameters = libc::sched_param { sched_priority: priority as libc::c_int };
    // SAFETY: plain system call; `parameters` is initialised and outlives it.
    let done = unsafe { libc::sched_setscheduler(thread, libc::SCHED_FIFO, &parameters) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sleeps to absolute instants: CLOCK_MONOTONIC, TIMER_ABSTIME.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sleeper {
    instant: Instant,
    kernel: Duration,
}

impl Sleeper {
    /// Ties `Instant` to the kernel's clock by reading both at once.
    pub(crate) fn new() -> Self {
        let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let before = Instant::now();
        // SAFETY: `spec` is a valid timespec to write to; CLOCK_MONOTONIC always exists on Linux.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut spec) };
        // Never after the true pair, so that nobody wakes early.
        Self { instant: before, kernel: Duration::new(spec.tv_sec as u64, spec.tv_nsec as u32) }
    }

    /// Returns at `at` or a little after; at once when it has passed.
    pub(crate) fn sleep_until(&self, at: Instant) {
        let kernel = self.kernel + at.saturating_duration_since(self.instant);
        let spec = libc::timespec {
            tv_sec: kernel.as_secs() as libc::time_t,
            tv_nsec: kernel.subsec_nanos() as libc::c_long,
        };
        // SAFETY: `spec` is initialised, and with TIMER_ABSTIME no remaining time is written.
        while unsafe {
            libc::clock_nanosleep(
                libc::CLOCK_MONOTONIC,
                libc::TIMER_ABSTIME,
                &spec,
                ptr::null_mut(),
            )
        } == libc::EINTR
        {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_wakes_early() {
        let sleeper = Sleeper::new();
        for millis in [0, 1, 3] {
            let at = Instant::now() + Duration::from_millis(millis);
            sleeper.sleep_until(at);
            assert!(Instant::now() >= at, "{millis} ms");
        }
        sleeper.sleep_until(sleeper.instant);
    }
}
