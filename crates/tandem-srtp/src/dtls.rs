//! One DTLS association and the keys that come of it (RFC 5764).

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use rtc_dtls::{
    cipher_suite::CipherSuiteId,
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    endpoint::{Endpoint, EndpointEvent},
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::{TransportProtocol, error::Error};
use zeroize::Zeroizing;

use crate::{
    DtlsIdentity, Fingerprint, MasterKey, Profile,
    dtls_records::{self, Repeated},
    fingerprint,
};

/// Silence of the peer after which a flight is sent again. The standard begins at a second (RFC 6347 §4.2.4.1), but a
/// caller waits: the first flight is often lost, for the peer opens its port only when it has read our answer.
const FLIGHT: Duration = Duration::from_millis(400);

/// Datagrams taken until the handshake is over; a handshake has ten, and each is sent again a few times at most.
const MAX_DATAGRAMS: u32 = 256;
/// Datagrams taken after it: repeated last flights, and the goodbye.
const MAX_LATER: u32 = 32;
/// The longest datagram of a handshake.
const MAX_DATAGRAM: usize = 2048;

/// The endpoint knows its peers by address; ours is always the same one, wherever its packets come from.
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// The label of the keying material (RFC 5764 §4.2).
const LABEL: &str = "EXTRACTOR-dtls_srtp";

/// Which side of the handshake we are (RFC 4145 §4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// We begin: the client.
    Active,
    /// The peer does: the server.
    Passive,
}

/// Why a handshake came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DtlsError {
    /// The certificate is not the one whose fingerprint SDP has announced.
    #[error("the certificate does not have the announced fingerprint")]
    WrongCertificate,
    /// No common protection profile.
    #[error("no common protection profile")]
    NoProfile,
    /// The peer gave up.
    #[error("the peer ended the handshake")]
    Refused,
    /// The peer has not finished the handshake in time.
    #[error("the handshake took too long")]
    TimedOut,
    /// The library refused to work.
    #[error("{0}")]
    Failed(String),
}

/// The keys of a finished handshake.
#[derive(Debug)]
pub(crate) struct DtlsKeys {
    pub(crate) ours: MasterKey,
    pub(crate) theirs: MasterKey,
}

/// One association, from its first flight on.
pub(crate) struct Association {
    endpoint: Endpoint,
    config: Arc<HandshakeConfig>,
    role: DtlsRole,
    fingerprints: Arc<[Fingerprint]>,
    /// A peer has just shown a certificate of another fingerprint. The configuration sets it, and all that use it share
    /// it: who has read a datagram takes it at once.
    wrong: Arc<AtomicBool>,
    repeated: Repeated,
    /// It has sent more than hellos: the peer is where it says it is, or else could not have gone on.
    answered: bool,
    taken: u32,
    taken_later: u32,
    finished: bool,
}

impl Association {
    /// Begins the handshake, or waits for the peer to begin it.
    pub(crate) fn start(
        now: Instant,
        identity: &DtlsIdentity,
        role: DtlsRole,
        fingerprints: &[Fingerprint],
    ) -> Result<Self, DtlsError> {
        let wrong = Arc::new(AtomicBool::new(false));
        let fingerprints: Arc<[Fingerprint]> = fingerprints.into();
        let config = config(identity, role, Arc::clone(&fingerprints), Arc::clone(&wrong))?;
        let mut association = Self {
            endpoint: endpoint(&config, role),
            config,
            role,
            fingerprints,
            wrong,
            repeated: Repeated::default(),
            answered: false,
            taken: 0,
            taken_later: 0,
            finished: false,
        };
        association.begin(now)?;
        Ok(association)
    }

    /// Begins, or awaits, the same handshake with somebody else.
    pub(crate) fn another(&self, now: Instant) -> Result<Self, DtlsError> {
        let mut association = Self {
            endpoint: endpoint(&self.config, self.role),
            config: Arc::clone(&self.config),
            role: self.role,
            fingerprints: Arc::clone(&self.fingerprints),
            wrong: Arc::clone(&self.wrong),
            repeated: Repeated::default(),
            answered: false,
            taken: 0,
            taken_later: 0,
            finished: false,
        };
        association.begin(now)?;
        Ok(association)
    }

    pub(crate) const fn role(&self) -> DtlsRole {
        self.role
    }

    /// Whether it is over, well or not.
    pub(crate) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether it goes on, with a peer that has shown that it gets what we send.
    pub(crate) const fn is_under_way(&self) -> bool {
        self.answered && !self.finished
    }

    fn begin(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.role == DtlsRole::Passive {
            return Ok(());
        }
        let config = Arc::clone(&self.config);
        self.endpoint.connect(now, PEER, config, None).map_err(|error| failed(&error))
    }

    /// Takes a datagram of the peer; the keys come once.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Option<DtlsKeys>, DtlsError> {
        let (taken, most) = match self.finished {
            false => (&mut self.taken, MAX_DATAGRAMS),
            true => (&mut self.taken_later, MAX_LATER),
        };
        if *taken >= most || datagram.len() > MAX_DATAGRAM {
            return Ok(None);
        }
        if !self.finished && self.repeated.is_all_of(datagram) {
            return Ok(None);
        }
        *taken += 1;
        let events = self.endpoint.read(now, PEER, None, BytesMut::from(datagram));
        let wrong = self.wrong.swap(false, Ordering::Relaxed);
        if self.finished {
            return Ok(None); // The keys stay, whatever is said later.
        }
        if wrong {
            return Err(DtlsError::WrongCertificate);
        }
        match events {
            Ok(events)
                if events.iter().any(|it| matches!(it, EndpointEvent::HandshakeComplete)) =>
            {
                self.finished = true;
                self.keys().map(Some)
            }
            Ok(events) if events.iter().any(|it| matches!(it, EndpointEvent::PeerClosed)) => {
                Err(DtlsError::Refused)
            }
            Err(Error::ErrAlertFatalOrClose) => Err(DtlsError::Refused),
            // Garbage, and what does not fit: the peer's own repetitions put it right, or the time runs out.
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// The next datagram for the peer.
    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        let bytes = self.endpoint.poll_transmit()?.message.freeze();
        self.answered |= !dtls_records::is_hello(&bytes);
        Some(bytes)
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.finished { None } else { self.endpoint.poll_timeout(&PEER) }
    }

    /// Sends a flight again; after too many repetitions the handshake begins anew.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return Ok(());
        }
        if self.endpoint.handle_timeout(PEER, now).is_err() {
            self.endpoint = endpoint(&self.config, self.role);
            self.repeated = Repeated::default();
            self.begin(now)?;
        }
        Ok(())
    }

    /// Takes nothing more and repeats nothing.
    pub(crate) const fn stop(&mut self) {
        self.finished = true;
        self.taken_later = MAX_LATER;
    }

    fn keys(&self) -> Result<DtlsKeys, DtlsError> {
        let state = self
            .endpoint
            .get_connection_state(PEER)
            .ok_or_else(|| DtlsError::Failed("the association is gone".into()))?;
        // The library has asked us already; no keys without a certificate, whatever it does with the answer.
        let leaf = state.peer_certificates.first().ok_or(DtlsError::WrongCertificate)?;
        if !fingerprint::is_one_of(leaf, &self.fingerprints) {
            return Err(DtlsError::WrongCertificate);
        }
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Profile::AesCm128HmacSha1_80,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32 => Profile::AesCm128HmacSha1_32,
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Profile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => Profile::AeadAes256Gcm,
            _ => return Err(DtlsError::NoProfile),
        };
        let material = state
            .export_keying_material(LABEL, &[], 2 * MasterKey::length(profile))
            .map(|secret| Zeroizing::new(secret.into_bytes()))
            .map_err(|error| failed(&error))?;
        let [client, server] = split(profile, &material)
            .ok_or_else(|| DtlsError::Failed("too little keying material".into()))?;
        Ok(match self.role {
            DtlsRole::Active => DtlsKeys { ours: client, theirs: server },
            DtlsRole::Passive => DtlsKeys { ours: server, theirs: client },
        })
    }
}

impl std::fmt::Debug for Association {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Association")
            .field("role", &self.role)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}

/// Client key, server key, client salt, server salt (RFC 5764 §4.2).
fn split(profile: Profile, material: &[u8]) -> Option<[MasterKey; 2]> {
    let (key, salt) = (profile.key_length(), profile.salt_length());
    let keys = material.get(..2 * key)?.chunks(key);
    let salts = material.get(2 * key..2 * (key + salt))?.chunks(salt);
    let mut masters = keys.zip(salts).map(|(key, salt)| {
        let bytes = Zeroizing::new([key, salt].concat());
        MasterKey::from_bytes(profile, &bytes)
    });
    Some([masters.next()??, masters.next()??])
}

fn config(
    identity: &DtlsIdentity,
    role: DtlsRole,
    fingerprints: Arc<[Fingerprint]>,
    wrong: Arc<AtomicBool>,
) -> Result<Arc<HandshakeConfig>, DtlsError> {
    let verify = move |certificates: &[Vec<u8>], _: &[_]| match certificates.first() {
        Some(leaf) if fingerprint::is_one_of(leaf, &fingerprints) => Ok(()),
        _ => {
            wrong.store(true, Ordering::Relaxed);
            Err(Error::Other("the certificate has another fingerprint".into()))
        }
    };
    ConfigBuilder::default()
        .with_crypto_provider(Arc::clone(&identity.provider))
        .with_certificates(vec![identity.certificate.clone()])
        .with_cipher_suites(vec![
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
            CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
        ])
        .with_srtp_protection_profiles(vec![
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32,
        ])
        // No chain of authorities: the fingerprint decides, on both sides of the handshake.
        .with_insecure_skip_verify(true)
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_verify_peer_certificate(Some(Arc::new(verify)))
        .with_extended_master_secret(ExtendedMasterSecretType::Request)
        .with_flight_interval(FLIGHT)
        .with_server_name("tandem.invalid".into())
        .build(role == DtlsRole::Active, Some(PEER))
        .map(Arc::new)
        .map_err(|error| failed(&error))
}

fn endpoint(config: &Arc<HandshakeConfig>, role: DtlsRole) -> Endpoint {
    let server = (role == DtlsRole::Passive).then(|| Arc::clone(config));
    Endpoint::new(PEER, TransportProtocol::UDP, server)
}

fn failed(error: &Error) -> DtlsError {
    DtlsError::Failed(error.to_string())
}
