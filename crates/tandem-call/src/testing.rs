//! What the unit tests share.

use std::time::Instant;

/// Some instant to count virtual time from.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; nothing is measured"
)]
pub(crate) fn beginning() -> Instant {
    Instant::now()
}
