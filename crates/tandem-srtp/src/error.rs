//! Why a packet is not protected or not believed.

/// Why a packet was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SrtpError {
    /// Too short, or no RTP or RTCP.
    #[error("no SRTP packet")]
    Malformed,
    /// Nobody with the key has sent it.
    #[error("forged")]
    Forged,
    /// It came before, is too old to tell, or its sequence number was used before.
    #[error("replayed")]
    Replayed,
    /// A key has only so many sources.
    #[error("too many sources")]
    TooManySources,
    /// The key has protected as many packets as it may.
    #[error("the key is used up")]
    Exhausted,
}
