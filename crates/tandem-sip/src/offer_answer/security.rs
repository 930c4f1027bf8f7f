//! The protection of media in offer and answer: SDES (RFC 4568) and DTLS (RFC 5763, 8842).

use tandem_srtp::{
    CryptoAttribute, DtlsRole, Fingerprint, MasterKey, MediaSecurity, Profile, SdesError,
};

use super::OfferError;
use crate::{
    KeyExchange, LocalSecurity, SecurityError, SrtpPolicy,
    sdp::{Attribute, Media, SessionDescription},
};

/// The profiles of our own SDES offers, best known first.
const OFFERED: [Profile; 4] = [
    Profile::AesCm128HmacSha1_80,
    Profile::AesCm128HmacSha1_32,
    Profile::AeadAes128Gcm,
    Profile::AeadAes256Gcm,
];

/// What an `m=` line says of protection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    None,
    /// Keys in SDP, as a rule.
    Srtp,
    /// Keys of a handshake.
    Dtls,
}

impl Protection {
    /// Of the media's protocol; none for what is no RTP.
    fn of(protocol: &str) -> Option<Self> {
        match protocol {
            "RTP/AVP" | "RTP/AVPF" => Some(Self::None),
            "RTP/SAVP" | "RTP/SAVPF" => Some(Self::Srtp),
            "UDP/TLS/RTP/SAVP" | "UDP/TLS/RTP/SAVPF" => Some(Self::Dtls),
            _ => None,
        }
    }
}

/// What both sides would agree on. It holds once it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settlement {
    security: MediaSecurity,
    /// Of our answer.
    pub(super) attributes: Vec<Attribute>,
    /// The media's protocol, for offers to come.
    protocol: String,
    /// Of SDES: tag and suite of the line that holds.
    line: (u32, String),
    /// The `a=tls-id` of the peer and ours (RFC 8842 §4).
    tls_ids: Option<(String, String)>,
}

/// What our last offer said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Offered {
    #[default]
    Plain,
    Sdes(Vec<(u32, MasterKey)>),
    Dtls {
        tls_id: String,
    },
}

/// The protection of one leg over the life of its dialog.
#[derive(Debug)]
pub(super) struct SecuritySide {
    local: LocalSecurity,
    current: Option<Settlement>,
    offered: Option<Offered>,
    generation: u32,
}

impl SecuritySide {
    pub(super) const fn new(local: LocalSecurity) -> Self {
        Self { local, current: None, offered: None, generation: 0 }
    }

    /// What was agreed on last.
    pub(super) fn agreed(&self) -> &MediaSecurity {
        const PLAIN: MediaSecurity = MediaSecurity::Plain;
        self.current.as_ref().map_or(const { &PLAIN }, |current| &current.security)
    }

    /// The audio of an offer that is to be answered, and how it would be protected: the first protected one that can be
    /// used, else the first plain one. Changes nothing.
    pub(super) fn choose(
        &self,
        offer: &SessionDescription,
    ) -> Result<(usize, Settlement), OfferError> {
        let (mut plain, mut refusal) = (None, None);
        for (index, media) in audio_of(offer) {
            match self.settle(offer, media) {
                Ok(settlement) if settlement.security.is_secure() => {
                    return Ok((index, settlement));
                }
                Ok(settlement) => plain = plain.or(Some((index, settlement))),
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        plain.ok_or_else(|| refusal.map_or(OfferError::NoAudio, OfferError::Security))
    }

    fn settle(
        &self,
        offer: &SessionDescription,
        media: &Media,
    ) -> Result<Settlement, SecurityError> {
        let policy = self.local.policy;
        match Protection::of(&media.protocol) {
            Some(Protection::None) | None => {
                let keys_count = policy != SrtpPolicy::Off && self.local.best_effort;
                match self.settle_sdes(media) {
                    Ok(settlement) if keys_count => Ok(settlement),
                    _ if policy == SrtpPolicy::Require => Err(SecurityError::Required),
                    _ => Ok(Settlement::plain(media)),
                }
            }
            Some(_) if policy == SrtpPolicy::Off => Err(SecurityError::SwitchedOff),
            Some(Protection::Dtls) => self.settle_dtls(offer, media),
            Some(Protection::Srtp) => match self.settle_sdes(media) {
                // Older WebRTC writes RTP/SAVPF with a fingerprint.
                Err(SecurityError::NoKey) if has_fingerprint(offer, media) => {
                    self.settle_dtls(offer, media)
                }
                settled => settled,
            },
        }
    }

    /// Takes the first line that we can use (RFC 4568 §5.1.2); our key stays while theirs does.
    fn settle_sdes(&self, media: &Media) -> Result<Settlement, SecurityError> {
        let theirs = usable_key(media, |_| true)?;
        let ours = match self.agreed() {
            MediaSecurity::Sdes { ours, theirs: before, .. } if *before == theirs.key => {
                ours.clone()
            }
            _ => generate(theirs.key.profile())?,
        };
        let line = CryptoAttribute::write(theirs.tag, &theirs.suite, &ours);
        Ok(Settlement {
            security: MediaSecurity::Sdes { ours, theirs: theirs.key, mki: theirs.mki },
            attributes: vec![Attribute::new("crypto", line)],
            protocol: media.protocol.clone(),
            line: (theirs.tag, theirs.suite),
            tls_ids: None,
        })
    }

    /// Answers an offer of DTLS: the same association goes on while certificate, identifier and roles stay
    /// (RFC 8842 §5.3).
    fn settle_dtls(
        &self,
        offer: &SessionDescription,
        media: &Media,
    ) -> Result<Settlement, SecurityError> {
        let identity = self.local.identity.as_ref().ok_or(SecurityError::NoDtls)?;
        let fingerprints = fingerprints(offer, media)?;
        let current = self.current.as_ref().filter(|_| self.has_handshake_with(&fingerprints));
        let setup = either_level(offer, media, "setup").unwrap_or("active");
        let role = match setup {
            "actpass" => current.and_then(Settlement::role).unwrap_or(DtlsRole::Active),
            "active" => DtlsRole::Passive,
            "passive" => DtlsRole::Active,
            other => return Err(SecurityError::Setup(other.chars().take(20).collect())),
        };
        let their_id = either_level(offer, media, "tls-id");
        let same = current
            .filter(|current| current.role() == Some(role) && current.their_tls_id() == their_id);
        let tls_ids = match (their_id, same.and_then(|same| same.tls_ids.clone())) {
            (Some(_), Some(ids)) => Some(ids),
            (Some(theirs), None) => Some((theirs.to_owned(), tls_id()?)),
            (None, _) => None,
        };
        let mut attributes = vec![
            Attribute::new("setup", setup_of(role)),
            Attribute::new("fingerprint", identity.fingerprint().to_string()),
        ];
        attributes.extend(tls_ids.as_ref().map(|(_, ours)| Attribute::new("tls-id", ours.clone())));
        Ok(Settlement {
            security: MediaSecurity::Dtls {
                role,
                fingerprints,
                generation: self.generation + u32::from(same.is_none()),
            },
            attributes,
            protocol: media.protocol.clone(),
            line: (0, String::new()),
            tls_ids,
        })
    }

    fn has_handshake_with(&self, fingerprints: &[Fingerprint]) -> bool {
        matches!(self.agreed(), MediaSecurity::Dtls { fingerprints: before, .. } if before == fingerprints)
    }

    /// Makes a settlement what holds from now on.
    pub(super) fn commit(&mut self, settlement: Settlement) {
        if let MediaSecurity::Dtls { generation, .. } = settlement.security {
            self.generation = generation;
        }
        self.current = Some(settlement);
        self.offered = None;
    }

    /// Protocol and attributes of our own offer: what holds, else what policy wants. The same again until it is answered.
    pub(super) fn offer(&mut self) -> (String, Vec<Attribute>) {
        let mut offered = self.offered.take().unwrap_or_default();
        let (protocol, attributes) = match &self.current {
            Some(current) => self.offer_again(current, &mut offered),
            None if self.local.policy == SrtpPolicy::Require => self.offer_fresh(&mut offered),
            None => ("RTP/AVP".to_owned(), Vec::new()),
        };
        self.offered = Some(offered);
        (protocol, attributes)
    }

    fn offer_again(&self, current: &Settlement, offered: &mut Offered) -> (String, Vec<Attribute>) {
        let protocol = current.protocol.clone();
        let attributes = match &current.security {
            MediaSecurity::Plain => return ("RTP/AVP".into(), Vec::new()),
            MediaSecurity::Sdes { ours, .. } => {
                let (tag, suite) = &current.line;
                *offered = Offered::Sdes(vec![(*tag, ours.clone())]);
                vec![Attribute::new("crypto", CryptoAttribute::write(*tag, suite, ours))]
            }
            MediaSecurity::Dtls { .. } => {
                let tls_id = current.tls_ids.as_ref().map(|(_, ours)| ours.clone());
                let attributes = self.dtls_attributes(tls_id.as_deref());
                *offered = Offered::Dtls { tls_id: tls_id.unwrap_or_default() };
                attributes
            }
        };
        (protocol, attributes)
    }

    /// A protected offer where nothing holds. Without keys, for want of random numbers, it is one that nobody can take.
    fn offer_fresh(&self, offered: &mut Offered) -> (String, Vec<Attribute>) {
        if self.local.key_exchange == KeyExchange::Dtls && self.local.identity.is_some() {
            if !matches!(offered, Offered::Dtls { .. }) {
                *offered = Offered::Dtls { tls_id: tls_id().unwrap_or_default() };
            }
            let Offered::Dtls { tls_id } = &*offered else { unreachable!("it was set above") };
            return ("UDP/TLS/RTP/SAVP".into(), self.dtls_attributes(Some(tls_id)));
        }
        if !matches!(offered, Offered::Sdes(_)) {
            let keys = OFFERED.into_iter().filter_map(|profile| MasterKey::generate(profile).ok());
            *offered = Offered::Sdes((1..).zip(keys).collect());
        }
        let Offered::Sdes(keys) = &*offered else { unreachable!("it was set above") };
        let line = |(tag, key): &(u32, MasterKey)| {
            let suite = key.profile().name();
            Attribute::new("crypto", CryptoAttribute::write(*tag, suite, key))
        };
        ("RTP/SAVP".into(), keys.iter().map(line).collect())
    }

    fn dtls_attributes(&self, tls_id: Option<&str>) -> Vec<Attribute> {
        let fingerprint =
            self.local.identity.as_ref().map(|identity| identity.fingerprint().to_string());
        let fingerprint = fingerprint.map(|value| Attribute::new("fingerprint", value));
        let tls_id = tls_id.filter(|id| !id.is_empty()).map(|id| Attribute::new("tls-id", id));
        [Some(Attribute::new("setup", "actpass")), fingerprint, tls_id]
            .into_iter()
            .flatten()
            .collect()
    }

    /// The audio of an answer to our last offer, and how it is protected. Changes nothing.
    pub(super) fn take_answer(
        &self,
        answer: &SessionDescription,
    ) -> Result<(usize, Settlement), OfferError> {
        let (index, media) = audio_of(answer).next().ok_or(OfferError::NoAudio)?;
        let settlement = match (&self.offered, Protection::of(&media.protocol)) {
            (None | Some(Offered::Plain), Some(Protection::None)) => Ok(Settlement::plain(media)),
            (Some(Offered::Sdes(keys)), Some(Protection::Srtp)) => take_sdes(keys, media),
            // Keys under RTP/AVP are answered there.
            (Some(Offered::Sdes(keys)), Some(Protection::None))
                if self.current.as_ref().is_some_and(|it| it.protocol == media.protocol) =>
            {
                take_sdes(keys, media)
            }
            (Some(Offered::Dtls { tls_id }), Some(Protection::Dtls | Protection::Srtp)) => {
                self.take_dtls(tls_id, answer, media)
            }
            _ => Err(SecurityError::OtherThanOffered),
        };
        Ok((index, settlement?))
    }

    fn take_dtls(
        &self,
        our_id: &str,
        answer: &SessionDescription,
        media: &Media,
    ) -> Result<Settlement, SecurityError> {
        let fingerprints = fingerprints(answer, media)?;
        let role = match either_level(answer, media, "setup").unwrap_or("active") {
            "active" => DtlsRole::Passive,
            "passive" => DtlsRole::Active,
            other => return Err(SecurityError::Setup(other.chars().take(20).collect())),
        };
        let their_id = either_level(answer, media, "tls-id");
        let same = self
            .current
            .as_ref()
            .filter(|_| self.has_handshake_with(&fingerprints))
            .is_some_and(|it| it.role() == Some(role) && it.their_tls_id() == their_id);
        Ok(Settlement {
            security: MediaSecurity::Dtls {
                role,
                fingerprints,
                generation: self.generation + u32::from(!same),
            },
            attributes: Vec::new(),
            protocol: media.protocol.clone(),
            line: (0, String::new()),
            tls_ids: their_id.map(|theirs| (theirs.to_owned(), our_id.to_owned())),
        })
    }
}

impl Settlement {
    fn plain(media: &Media) -> Self {
        Self {
            security: MediaSecurity::Plain,
            attributes: Vec::new(),
            protocol: media.protocol.clone(),
            line: (0, String::new()),
            tls_ids: None,
        }
    }

    const fn role(&self) -> Option<DtlsRole> {
        match self.security {
            MediaSecurity::Dtls { role, .. } => Some(role),
            _ => None,
        }
    }

    fn their_tls_id(&self) -> Option<&str> {
        self.tls_ids.as_ref().map(|(theirs, _)| theirs.as_str())
    }
}

/// Audio over RTP that is not switched off, plain or protected.
fn audio_of(sdp: &SessionDescription) -> impl Iterator<Item = (usize, &Media)> {
    sdp.media.iter().enumerate().filter(|(_, media)| {
        media.kind == "audio" && media.port != 0 && Protection::of(&media.protocol).is_some()
    })
}

fn take_sdes(keys: &[(u32, MasterKey)], media: &Media) -> Result<Settlement, SecurityError> {
    let theirs = usable_key(media, |line| {
        keys.iter().any(|(tag, key)| *tag == line.tag && key.profile() == line.key.profile())
    })?;
    let (tag, ours) =
        keys.iter().find(|(tag, _)| *tag == theirs.tag).ok_or(SecurityError::OtherThanOffered)?;
    Ok(Settlement {
        security: MediaSecurity::Sdes { ours: ours.clone(), theirs: theirs.key, mki: theirs.mki },
        attributes: Vec::new(),
        protocol: media.protocol.clone(),
        line: (*tag, theirs.suite),
        tls_ids: None,
    })
}

/// The first crypto line that can be read and that `fits`.
fn usable_key(
    media: &Media,
    fits: impl Fn(&CryptoAttribute) -> bool,
) -> Result<CryptoAttribute, SecurityError> {
    let mut refusal: Option<SdesError> = None;
    let lines = media.attributes.iter().filter(|attribute| attribute.name == "crypto");
    for line in lines {
        match CryptoAttribute::parse(line.value.as_deref().unwrap_or("")) {
            Ok(attribute) if fits(&attribute) => return Ok(attribute),
            Ok(_) => {}
            Err(error) => {
                refusal.get_or_insert(error);
            }
        }
    }
    Err(refusal.map_or(SecurityError::NoKey, SecurityError::UnusableKey))
}

fn has_fingerprint(sdp: &SessionDescription, media: &Media) -> bool {
    either_level(sdp, media, "fingerprint").is_some()
}

/// The fingerprints we can check: those of the medium, else those of the session (RFC 8122 §5).
fn fingerprints(
    sdp: &SessionDescription,
    media: &Media,
) -> Result<Vec<Fingerprint>, SecurityError> {
    let of = |attributes: &[Attribute]| -> Option<Vec<Fingerprint>> {
        let values: Vec<_> = attributes
            .iter()
            .filter(|attribute| attribute.name == "fingerprint")
            .map(|attribute| attribute.value.as_deref().unwrap_or(""))
            .collect();
        (!values.is_empty()).then(|| values.into_iter().filter_map(Fingerprint::parse).collect())
    };
    let found = of(&media.attributes).or_else(|| of(&sdp.attributes)).unwrap_or_default();
    if found.is_empty() { Err(SecurityError::NoFingerprint) } else { Ok(found) }
}

/// The value of an attribute of the medium, else of the session.
fn either_level<'a>(sdp: &'a SessionDescription, media: &'a Media, name: &str) -> Option<&'a str> {
    let of_session = || {
        let found = sdp.attributes.iter().find(|attribute| attribute.name == name)?;
        Some(found.value.as_deref().unwrap_or("").trim())
    };
    media.attribute(name).or_else(of_session)
}

const fn setup_of(role: DtlsRole) -> &'static str {
    match role {
        DtlsRole::Active => "active",
        DtlsRole::Passive => "passive",
    }
}

fn generate(profile: Profile) -> Result<MasterKey, SecurityError> {
    MasterKey::generate(profile).map_err(|_| SecurityError::NoRandomness)
}

/// At least 120 bits of chance in characters that a token may have (RFC 8842 §4).
fn tls_id() -> Result<String, SecurityError> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|_| SecurityError::NoRandomness)?;
    Ok(crate::digest::hex(&bytes))
}

#[cfg(test)]
mod tests;
