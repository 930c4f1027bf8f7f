//! Whether media is protected, as settings say it.

use std::sync::Arc;

use tandem_srtp::{DtlsIdentity, SdesError};

/// Whether calls may, must or must not have protected media (SRTP).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SrtpPolicy {
    /// Never: who insists on it is refused.
    Off,
    /// As the peer offers it; our own offers are plain.
    #[default]
    Allow,
    /// Always: who offers plain media only is refused.
    Require,
}

impl SrtpPolicy {
    /// The policy called `off`, `allow` or `require`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "off" => Some(Self::Off),
            "allow" => Some(Self::Allow),
            "require" => Some(Self::Require),
            _ => None,
        }
    }
}

/// Where the keys of our own offers come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KeyExchange {
    /// SDP carries them (RFC 4568): every peer knows that, and whoever reads the signalling has them.
    #[default]
    Sdes,
    /// A handshake on the media's path makes them (RFC 5764).
    Dtls,
}

/// How the media of a call is protected, as far as it is up to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalSecurity {
    /// Whether it may, must or must not be.
    pub policy: SrtpPolicy,
    /// Take keys that come with `RTP/AVP`, too: so some telephones say that they can do both.
    pub best_effort: bool,
    /// Where the keys of our own offers come from, if those are protected.
    pub key_exchange: KeyExchange,
    /// Our certificate; without one there is no DTLS.
    pub identity: Option<Arc<DtlsIdentity>>,
}

impl Default for LocalSecurity {
    fn default() -> Self {
        Self {
            policy: SrtpPolicy::Allow,
            best_effort: true,
            key_exchange: KeyExchange::Sdes,
            identity: None,
        }
    }
}

/// Why two sides do not agree on the protection of media.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// Plain media only, and we insist on protection.
    #[error("media must be protected here: SRTP")]
    Required,
    /// Protected media only, and we are not to do that.
    #[error("SRTP is switched off here")]
    SwitchedOff,
    /// Protected media without a key.
    #[error("neither a usable key nor a fingerprint")]
    NoKey,
    /// Of several keys none can be used; this is why not the first.
    #[error("no usable key: {0}")]
    UnusableKey(#[from] SdesError),
    /// No fingerprint by SHA-256 or stronger.
    #[error("no fingerprint by sha-256 or stronger")]
    NoFingerprint,
    /// DTLS without a certificate of ours.
    #[error("no DTLS here")]
    NoDtls,
    /// Nobody would begin the handshake.
    #[error("a=setup:{0} leaves nobody to begin the handshake")]
    Setup(String),
    /// The answer is not to what we offered.
    #[error("the answer's protection is not what was offered")]
    OtherThanOffered,
    /// The system has no random numbers.
    #[error("no key could be made")]
    NoRandomness,
}
