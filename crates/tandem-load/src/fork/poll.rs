//! Waiting for many sockets at once.

use std::{
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

/// Sockets that one wait may report.
const EVENTS: usize = 256;

/// A set of sockets to wait for.
pub(crate) struct Poll {
    epoll: OwnedFd,
    ready: [libc::epoll_event; EVENTS],
}

impl Poll {
    /// No sockets yet.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: plain system call; the descriptor it returns is nobody else's.
        let epoll = unsafe {
            let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            if epoll < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(epoll)
        };
        Ok(Self { epoll, ready: [libc::epoll_event { events: 0, u64: 0 }; EVENTS] })
    }

    /// Waits for `socket`, too, as long as it is open. It is reported as `number`, each time until it is read empty.
    pub(crate) fn add(&self, socket: &impl AsRawFd, number: usize) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number as u64 };
        // SAFETY: both descriptors are open, and `event` outlives the call, which copies it.
        let done = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_ADD,
                socket.as_raw_fd(),
                &mut event,
            )
        };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for `socket` no longer.
    pub(crate) fn remove(&self, socket: &impl AsRawFd) {
        // SAFETY: as above; the event is not looked at.
        let done = unsafe {
            libc::epoll_ctl(
                self.epoll.as_raw_fd(),
                libc::EPOLL_CTL_DEL,
                socket.as_raw_fd(),
                std::ptr::null_mut(),
            )
        };
        debug_assert_eq!(done, 0, "the socket was added");
    }

    /// The sockets that have something to read or are at their end, after `longest` at the latest.
    pub(crate) fn wait(&mut self, longest: Duration) -> impl Iterator<Item = usize> {
        // SAFETY: `ready` has room for EVENTS events.
        let count = unsafe {
            libc::epoll_wait(
                self.epoll.as_raw_fd(),
                self.ready.as_mut_ptr(),
                EVENTS as libc::c_int,
                longest.as_millis() as libc::c_int,
            )
        };
        // Less than none: a signal came, and the caller waits again.
        let count = usize::try_from(count).unwrap_or_default();
        self.ready[..count].iter().map(|event| event.u64 as usize)
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::net::UnixStream};

    use super::*;

    #[test]
    fn a_socket_is_reported_until_it_is_removed() {
        let (mut near, far) = UnixStream::pair().unwrap();
        let mut poll = Poll::new().unwrap();
        poll.add(&far, 7).unwrap();
        assert_eq!(poll.wait(Duration::ZERO).count(), 0);
        near.write_all(b"x").unwrap();
        for _ in 0..2 {
            assert_eq!(poll.wait(Duration::from_secs(1)).collect::<Vec<_>>(), [7]);
        }
        poll.remove(&far);
        assert_eq!(poll.wait(Duration::ZERO).count(), 0);
    }
}
