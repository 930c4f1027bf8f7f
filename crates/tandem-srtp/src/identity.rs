//! The certificate by which this process shows who it is in DTLS.

use std::sync::Arc;

use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::crypto::Certificate;

use crate::Fingerprint;

/// No certificate could be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no certificate for DTLS: {0}")]
pub struct NoIdentity(String);

/// A self-signed certificate on the curve P-256 and its key, made anew by each process. What vouches for it is the
/// fingerprint in SDP.
pub struct DtlsIdentity {
    pub(crate) provider: Arc<dyn RTCCryptoProvider>,
    pub(crate) certificate: Certificate,
    fingerprint: Fingerprint,
}

impl DtlsIdentity {
    /// A fresh identity. It takes a fraction of a millisecond.
    pub fn generate() -> Result<Self, NoIdentity> {
        let provider = rtc_crypto::default_provider().map_err(|it| NoIdentity(it.to_string()))?;
        // The name says nothing about the host (RFC 8827 §6.5 wants no identity in it).
        let certificate =
            Certificate::generate_self_signed(vec!["tandem.invalid".into()], provider.crypto())
                .map_err(|error| NoIdentity(error.to_string()))?;
        let leaf = certificate.certificate.first().ok_or_else(|| NoIdentity("none made".into()))?;
        let fingerprint = Fingerprint::of(leaf);
        Ok(Self { provider, certificate, fingerprint })
    }

    /// What SDP says of it.
    pub const fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl PartialEq for DtlsIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl Eq for DtlsIdentity {}

impl std::fmt::Debug for DtlsIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DtlsIdentity").field(&self.fingerprint).finish()
    }
}
