//! What a stream is protected with: cipher, authentication and their lengths.

/// A protection profile of SRTP, as SDP and DTLS name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Profile {
    /// AES-128 in counter mode, tags of 80 bits (RFC 3711; RFC 4568 §6.2.1).
    AesCm128HmacSha1_80,
    /// The same with RTP tags of 32 bits; those of RTCP stay at 80 (RFC 4568 §6.2.2).
    AesCm128HmacSha1_32,
    /// AES-256 in counter mode, tags of 80 bits (RFC 6188).
    AesCm256HmacSha1_80,
    /// The same with RTP tags of 32 bits.
    AesCm256HmacSha1_32,
    /// AES-128 in Galois/counter mode, tags of 128 bits (RFC 7714).
    AeadAes128Gcm,
    /// AES-256 in Galois/counter mode, tags of 128 bits (RFC 7714).
    AeadAes256Gcm,
}

impl Profile {
    /// Every profile, in the order in which we offer them: what every peer knows comes first.
    pub const ALL: [Self; 6] = [
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::AesCm256HmacSha1_80,
        Self::AesCm256HmacSha1_32,
    ];

    /// The crypto-suite of SDES, which call records show, too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::AesCm256HmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Self::AesCm256HmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// The profile of a crypto-suite; names are compared without case. Suites without encryption, F8 and unknown ones
    /// are none.
    pub fn from_name(name: &str) -> Option<Self> {
        // Names of a draft of RFC 6188 that are still sent.
        const DRAFT: [(&str, Profile); 2] = [
            ("AES_CM_256_HMAC_SHA1_80", Profile::AesCm256HmacSha1_80),
            ("AES_CM_256_HMAC_SHA1_32", Profile::AesCm256HmacSha1_32),
        ];
        let all = Self::ALL.map(|profile| (profile.name(), profile));
        all.into_iter()
            .chain(DRAFT)
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, profile)| profile)
    }

    /// Bytes of master and session encryption keys.
    pub const fn key_length(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 | Self::AeadAes128Gcm => 16,
            Self::AesCm256HmacSha1_80 | Self::AesCm256HmacSha1_32 | Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of master and session salts.
    pub const fn salt_length(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Bytes of an RTP packet's tag.
    pub const fn rtp_tag_length(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm256HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 | Self::AesCm256HmacSha1_32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Bytes of an RTCP packet's tag.
    pub const fn rtcp_tag_length(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }

    /// Whether cipher and authentication are one.
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_by_name() {
        for profile in Profile::ALL {
            assert_eq!(Profile::from_name(&profile.name().to_ascii_lowercase()), Some(profile));
        }
        assert_eq!(
            Profile::from_name("AES_CM_256_HMAC_SHA1_80"),
            Some(Profile::AesCm256HmacSha1_80)
        );
        for unknown in ["F8_128_HMAC_SHA1_80", "NULL_HMAC_SHA1_80", "AES_CM_128_NULL_AUTH", ""] {
            assert_eq!(Profile::from_name(unknown), None, "{unknown}");
        }
    }
}
