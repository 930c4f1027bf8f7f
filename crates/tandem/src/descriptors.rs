//! How many files and sockets the system lets this process have open.

use std::io;

/// Descriptors of one call: RTP, RTCP, the model's socket, the pacing timer, and one to spare for a second session.
const PER_CALL: u64 = 5;

/// Descriptors the daemon needs without any call.
const BASE: u64 = 256;

/// How many descriptors `max_calls` calls take together.
pub fn needed_for(max_calls: u32) -> u64 {
    BASE + u64::from(max_calls) * PER_CALL
}

/// How many this process may have at most: what [`raise`] raises the limit to.
pub fn most() -> io::Result<u64> {
    read().map(|limit| limit.rlim_max)
}

/// Raises the limit on open descriptors to the most that is allowed, and returns it.
pub fn raise() -> io::Result<u64> {
    let mut limit = read()?;
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is initialised and lives through the call.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

fn read() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid place to write to.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => Ok(limit),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_to_the_most() {
        let allowed = most().unwrap();
        assert_eq!(raise().unwrap(), allowed);
        assert_eq!(read().unwrap().rlim_cur, allowed);
        assert!(needed_for(1000) > 5000);
    }
}
