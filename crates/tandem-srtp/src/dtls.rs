//! One DTLS association and the keys that come of it (RFC 5764).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use rtc_dtls::{
    cipher_suite::CipherSuiteId,
    config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig},
    endpoint::EndpointEvent,
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use rtc_shared::error::Error;
use zeroize::Zeroizing;

use crate::{
    DtlsIdentity, Fingerprint, MasterKey, Profile,
    dtls_attempt::{Attempt, PEER, is_client},
    dtls_records, fingerprint,
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

/// Hellos of different clients that may wait for their cookies; somebody who forges them does not see ours.
const MAX_ASKED: usize = 4;

/// Attempts that we begin after one that was spoiled.
const MAX_ATTEMPTS: u32 = 8;

/// How long another attempt may take after something was wrong: it may have been forged, but hardly ever is.
const DOUBT: Duration = Duration::from_secs(3);

/// A server that has begun to answer and says nothing new is asked anew after this: its repetitions come after one and
/// three seconds (RFC 6347 §4.2.4.1).
const STALL: Duration = Duration::from_secs(4);

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
///
/// All but the end of a handshake comes in clear, and anybody who guesses the peer's address can make it up. So a failure is
/// believed only when it is sealed; what else goes wrong costs the attempt, and another one has a few seconds.
pub(crate) struct Association {
    config: Arc<HandshakeConfig>,
    role: DtlsRole,
    fingerprints: Arc<[Fingerprint]>,
    /// A peer has just shown a certificate of another fingerprint. The configuration sets it, and all that use it share
    /// it: who has read a datagram takes it at once.
    wrong: Arc<AtomicBool>,
    /// The attempt that is under way: one that we began, or one whose client has brought its cookie back.
    current: Option<Attempt>,
    /// Those whose clients were asked for their cookies.
    asked: Vec<Attempt>,
    /// How often we began.
    attempts: u32,
    /// What went wrong, and when that is believed.
    failure: Option<DtlsError>,
    fails_at: Option<Instant>,
    stalls_at: Option<Instant>,
    taken: u32,
    taken_later: u32,
    finished: bool,
}

/// The attempt that a datagram belongs to.
#[derive(Debug, Clone, Copy)]
enum Place {
    Current,
    Asked(usize),
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
        Self::begin(now, config, role, fingerprints, wrong)
    }

    /// Begins, or awaits, the same handshake with somebody else.
    pub(crate) fn another(&self, now: Instant) -> Result<Self, DtlsError> {
        let Self { config, role, fingerprints, wrong, .. } = self;
        Self::begin(now, Arc::clone(config), *role, Arc::clone(fingerprints), Arc::clone(wrong))
    }

    fn begin(
        now: Instant,
        config: Arc<HandshakeConfig>,
        role: DtlsRole,
        fingerprints: Arc<[Fingerprint]>,
        wrong: Arc<AtomicBool>,
    ) -> Result<Self, DtlsError> {
        let mut association = Self {
            config,
            role,
            fingerprints,
            wrong,
            current: None,
            asked: Vec::new(),
            attempts: 0,
            failure: None,
            fails_at: None,
            stalls_at: None,
            taken: 0,
            taken_later: 0,
            finished: false,
        };
        association.begin_anew(now)?;
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
    pub(crate) fn is_under_way(&self) -> bool {
        !self.finished && self.current.as_ref().is_some_and(Attempt::has_answered)
    }

    /// What went wrong, if anything did that may have been forged.
    pub(crate) const fn failure(&self) -> Option<&DtlsError> {
        self.failure.as_ref()
    }

    /// Takes a datagram of the peer; the keys come once. An error is the peer's own word.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Option<DtlsKeys>, DtlsError> {
        let spent = match self.finished {
            false => self.taken >= MAX_DATAGRAMS,
            true => self.taken_later >= MAX_LATER,
        };
        if spent || datagram.len() > MAX_DATAGRAM {
            return Ok(None);
        }
        if self.is_of_somebody_else(datagram) {
            self.doubt(now, DtlsError::WrongCertificate);
            return Ok(None);
        }
        let Some(place) = self.place_of(datagram) else { return Ok(None) };
        let attempt = match place {
            Place::Current => self.current.as_mut(),
            Place::Asked(at) => self.asked.get_mut(at),
        };
        let Some(attempt) = attempt else { return Ok(None) };
        if !self.finished && attempt.knows(datagram) {
            return Ok(None);
        }
        let taken = if self.finished { &mut self.taken_later } else { &mut self.taken };
        *taken += 1;
        let events = attempt.read(now, datagram);
        let stalls = attempt.poll_timeout().is_none();
        let wrong = self.wrong.swap(false, Ordering::Relaxed);
        if self.finished {
            return Ok(None); // The keys stay, whatever is said later.
        }
        self.stalls_at = (stalls && is_client(self.role)).then(|| now + STALL);
        match events {
            Ok(events)
                if events.iter().any(|it| matches!(it, EndpointEvent::HandshakeComplete)) =>
            {
                self.finished = true;
                self.asked.clear();
                return self.keys().map(Some);
            }
            Ok(events) if events.iter().any(|it| matches!(it, EndpointEvent::PeerClosed)) => {
                return Err(DtlsError::Refused);
            }
            Err(Error::ErrAlertFatalOrClose) => return Err(DtlsError::Refused),
            Ok(_) if !wrong => {}
            Ok(_) => self.spoil(now, place, DtlsError::WrongCertificate),
            Err(_) if wrong => self.spoil(now, place, DtlsError::WrongCertificate),
            Err(error) => self.spoil(now, place, failed(&error)),
        }
        Ok(None)
    }

    /// The next datagram for the peer.
    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.current.iter_mut().chain(&mut self.asked).find_map(Attempt::poll_transmit)
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.finished {
            return None;
        }
        let repeats = self.current.as_ref().and_then(Attempt::poll_timeout);
        [repeats, self.stalls_at, self.fails_at].into_iter().flatten().min()
    }

    /// Sends a flight again; after too many repetitions the handshake begins anew. An error when it has come to nothing.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        if self.finished {
            return Ok(());
        }
        if let Some(failure) = self.failure.take_if(|_| self.fails_at.is_some_and(|at| at <= now)) {
            return Err(failure);
        }
        let is_spent = self.current.as_mut().is_some_and(|it| it.handle_timeout(now).is_err());
        if is_spent || self.stalls_at.is_some_and(|at| at <= now) {
            self.begin_anew(now)?;
        }
        Ok(())
    }

    /// Takes nothing more and repeats nothing.
    pub(crate) fn stop(&mut self) {
        self.finished = true;
        self.taken_later = MAX_LATER;
        self.asked.clear();
    }

    /// Throws the attempt under way away. Ours is followed by another, the peer may begin one.
    fn begin_anew(&mut self, now: Instant) -> Result<(), DtlsError> {
        (self.current, self.stalls_at) = (None, None);
        if is_client(self.role) {
            self.attempts += 1;
            let attempt = Attempt::active(now, &self.config).map_err(|error| failed(&error))?;
            self.current = Some(attempt);
        }
        Ok(())
    }

    /// Something in clear was wrong in that attempt. What it would say to the peer is not said: the peer may be without fault.
    fn spoil(&mut self, now: Instant, place: Place, failure: DtlsError) {
        match place {
            Place::Current => {
                self.doubt(now, failure);
                if self.attempts > MAX_ATTEMPTS || self.begin_anew(now).is_err() {
                    (self.current, self.stalls_at) = (None, None);
                }
            }
            Place::Asked(at) => {
                self.asked.remove(at);
                self.failure.get_or_insert(failure);
            }
        }
    }

    fn doubt(&mut self, now: Instant, failure: DtlsError) {
        self.failure = Some(failure);
        self.fails_at.get_or_insert(now + DOUBT);
    }

    /// Whether a certificate in `datagram` is not the announced one, which the attempt under way is not to see.
    fn is_of_somebody_else(&self, datagram: &[u8]) -> bool {
        let is_announced = |leaf: &[u8]| fingerprint::is_one_of(leaf, &self.fingerprints);
        !self.finished
            && self.current.is_some()
            && dtls_records::has_foreign_certificate(datagram, is_announced)
    }

    /// Which attempt `datagram` belongs to. Of a client that has not proven that it gets what we send only hellos are taken,
    /// each one's to its own attempt; who begins anew replaces what is under way with its cookie (RFC 6347 §4.2.8).
    fn place_of(&mut self, datagram: &[u8]) -> Option<Place> {
        if self.finished || is_client(self.role) {
            return Some(Place::Current);
        }
        let Some(hello) = dtls_records::client_hello(datagram) else {
            return match self.asked.len() {
                1.. if dtls_records::is_of_client_hello(datagram) => {
                    Some(Place::Asked(self.asked.len() - 1))
                }
                _ => Some(Place::Current),
            };
        };
        let of_current = self.current.as_ref().is_some_and(|it| it.began_with(&hello));
        if of_current {
            return (!hello.cookie.is_empty()).then_some(Place::Current);
        }
        if !hello.cookie.is_empty() {
            let at = self.asked.iter().position(|attempt| attempt.is_proven_by(&hello))?;
            self.current = Some(self.asked.swap_remove(at));
            self.asked.clear();
            return Some(Place::Current);
        }
        let known = self.asked.iter().position(|attempt| attempt.began_with(&hello));
        Some(Place::Asked(known.unwrap_or_else(|| {
            if self.asked.len() == MAX_ASKED {
                self.asked.remove(0);
            }
            self.asked.push(Attempt::passive(&self.config, &hello));
            self.asked.len() - 1
        })))
    }

    fn keys(&self) -> Result<DtlsKeys, DtlsError> {
        let state = self
            .current
            .as_ref()
            .and_then(Attempt::state)
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
        .build(is_client(role), Some(PEER))
        .map(Arc::new)
        .map_err(|error| failed(&error))
}

fn failed(error: &Error) -> DtlsError {
    DtlsError::Failed(error.to_string())
}
