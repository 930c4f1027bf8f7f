//! The pacing timer: an absolute timer in the worker's own epoll set.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Wakes a task at an [`Instant`], some tens of microseconds late rather than the 1 to 2 ms of a tokio timer.
///
/// One system call a tick: the descriptor is never read, because setting it anew clears the expiry and epoll reports
/// each expiry as an edge of its own.
#[derive(Debug)]
pub struct PacingTimer {
    fd: AsyncFd<OwnedFd>,
    anchor: Anchor,
    due: Option<Instant>,
}

/// One instant on both faces of the monotonic clock: `Instant` and the kernel's timespec.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    instant: Instant,
    kernel: Duration,
}

impl Anchor {
    fn now() -> Self {
        let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `spec` is a valid timespec to write to; CLOCK_MONOTONIC always exists on Linux.
        unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut spec) };
        let instant = Instant::now();
        Self { instant, kernel: Duration::new(spec.tv_sec as u64, spec.tv_nsec as u32) }
    }

    fn kernel_time(&self, at: Instant) -> Duration {
        match at.checked_duration_since(self.instant) {
            Some(after) => self.kernel + after,
            None => self.kernel.saturating_sub(self.instant - at),
        }
    }
}

impl PacingTimer {
    /// A timer that is not set. Must be made on the runtime that will poll it.
    ///
    /// Fails when the process is out of descriptors.
    pub fn new() -> io::Result<Self> {
        // SAFETY: plain system call; the result is checked before use.
        let raw = unsafe {
            libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC)
        };
        if raw < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `raw` was just opened and has no other owner.
        let fd = unsafe { OwnedFd::from_raw_fd(raw) };
        // SAFETY: an `OwnedFd` names the same open descriptor until it is dropped, and nothing takes it out again.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE)? };
        Ok(Self { fd, anchor: Anchor::now(), due: None })
    }

    /// Asks to be woken at `at`, which replaces what was asked before. An instant that has passed wakes at once.
    pub fn set(&mut self, at: Instant) -> io::Result<()> {
        if self.due == Some(at) {
            return Ok(());
        }
        let value = self.anchor.kernel_time(at).max(Duration::from_nanos(1)); // Zero would disarm it.
        let spec =
            libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(value) };
        // SAFETY: the descriptor is ours and open, `spec` is initialised, the old value is not asked for.
        let done = unsafe {
            libc::timerfd_settime(
                self.fd.get_ref().as_raw_fd(),
                libc::TFD_TIMER_ABSTIME,
                &spec,
                std::ptr::null_mut(),
            )
        };
        if done < 0 {
            return Err(io::Error::last_os_error());
        }
        self.due = Some(at);
        Ok(())
    }

    /// Ready once after the timer expired; set it again for the next tick.
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.fd.poll_read_ready(cx))?.clear_ready();
        self.due = None;
        Poll::Ready(Ok(()))
    }
}

fn timespec(duration: Duration) -> libc::timespec {
    libc::timespec {
        tv_sec: duration.as_secs() as libc::time_t,
        tv_nsec: duration.subsec_nanos() as libc::c_long,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn wakes_on_the_grid_and_never_early() {
        let period = Duration::from_millis(5);
        let mut timer = PacingTimer::new().unwrap();
        let start = Instant::now() + Duration::from_millis(3);
        for k in 0..5 {
            let due = start + period * k;
            timer.set(due).unwrap();
            poll_fn(|cx| timer.poll_expired(cx)).await.unwrap();
            assert!(Instant::now() >= due, "woke before tick {k}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_passed_instant_wakes_at_once_and_can_be_replaced() {
        let mut timer = PacingTimer::new().unwrap();
        timer.set(Instant::now() + Duration::from_secs(3600)).unwrap();
        timer.set(Instant::now() - Duration::from_secs(1)).unwrap();
        poll_fn(|cx| timer.poll_expired(cx)).await.unwrap();
    }
}
