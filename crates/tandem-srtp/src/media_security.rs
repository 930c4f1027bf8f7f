//! What offer and answer have settled about the protection of a leg's media.

use crate::{DtlsRole, Fingerprint, MasterKey, Mki};

/// How a leg's media is protected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MediaSecurity {
    /// Not at all: RTP and RTCP.
    #[default]
    Plain,
    /// With keys that SDP has carried (RFC 4568).
    Sdes {
        /// Protects what we send.
        ours: MasterKey,
        /// Protects what the peer sends.
        theirs: MasterKey,
        /// The identifier of their key that their packets carry.
        mki: Option<Mki>,
    },
    /// With keys of a handshake on the media's own path (RFC 5764).
    Dtls {
        /// Who begins it.
        role: DtlsRole,
        /// Which certificate the peer must show.
        fingerprints: Vec<Fingerprint>,
        /// Counts the associations of a dialog: another number asks for another handshake.
        generation: u32,
    },
}

impl MediaSecurity {
    /// Whether keys are involved at all.
    pub const fn is_secure(&self) -> bool {
        !matches!(self, Self::Plain)
    }

    /// Whether keys have travelled in SDP.
    pub const fn is_sdes(&self) -> bool {
        matches!(self, Self::Sdes { .. })
    }
}
