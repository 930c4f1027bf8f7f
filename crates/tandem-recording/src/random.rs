//! Randomness of the system.

use std::io;

use ring::rand::{SecureRandom, SystemRandom};

/// Fills `bytes` with random ones that nobody can guess.
pub(crate) fn fill(bytes: &mut [u8]) -> io::Result<()> {
    let filled = SystemRandom::new().fill(bytes);
    filled.map_err(|_| io::Error::other("the system gives no random numbers"))
}
