//! `a=crypto` lines of SDP (RFC 4568), read strictly.

use base64_simd::{STANDARD, STANDARD_NO_PAD};
use zeroize::Zeroizing;

use crate::{MasterKey, Mki, Profile};

/// The shortest life of a key we take, in packets: six hours of speech. We change no keys by ourselves.
const MIN_LIFETIME: u128 = 1 << 20;
/// The longest life a key may have (RFC 3711 §9.2).
const MAX_LIFETIME: u128 = 1 << 48;

/// Why a crypto line cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SdesError {
    /// No tag of one to nine digits, no suite or no key.
    #[error("malformed crypto line")]
    Malformed,
    /// A crypto-suite we do not have: F8, one without encryption, an unknown one.
    #[error("unknown crypto-suite {0:?}")]
    UnknownSuite(String),
    /// A key method other than `inline`.
    #[error("unknown key method")]
    KeyMethod,
    /// No base64, or not as many bytes as the suite takes.
    #[error("no key of this suite")]
    Key,
    /// More than one master key.
    #[error("several keys in one line")]
    SeveralKeys,
    /// No lifetime, or one that is too short for a call or too long for a key.
    #[error("unusable key lifetime")]
    Lifetime,
    /// No identifier of a key.
    #[error("unusable key identifier")]
    Mki,
    /// A session parameter that weakens protection, or that we do not have.
    #[error("session parameter {0:?} is not supported")]
    SessionParameter(String),
}

/// One usable crypto line: the key with which its writer protects what it sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CryptoAttribute {
    /// The number by which the answer names the line.
    pub tag: u32,
    /// The crypto-suite as its writer spells it: some know the name of a draft only, so the answer has to repeat it.
    pub suite: String,
    /// The key.
    pub key: MasterKey,
    /// The identifier of the key that each packet carries.
    pub mki: Option<Mki>,
}

impl CryptoAttribute {
    /// Reads the value of an `a=crypto` attribute: tag, suite, `inline:` and the key, then session parameters.
    pub fn parse(value: &str) -> Result<Self, SdesError> {
        let mut words = value.split_ascii_whitespace();
        let (Some(tag), Some(suite), Some(key)) = (words.next(), words.next(), words.next()) else {
            return Err(SdesError::Malformed);
        };
        let is_tag = (1..=9).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_digit());
        let tag = tag.parse().ok().filter(|_| is_tag).ok_or(SdesError::Malformed)?;
        let profile =
            Profile::from_name(suite).ok_or_else(|| SdesError::UnknownSuite(shortened(suite)))?;
        let (key, mki) = parse_keys(profile, key)?;
        for parameter in words {
            check_parameter(parameter)?;
        }
        Ok(Self { tag, suite: suite.to_owned(), key, mki })
    }

    /// The value of an `a=crypto` attribute with our key for `suite`. Nobody reads it but the peer: it is not to be
    /// logged.
    pub fn write(tag: u32, suite: &str, key: &MasterKey) -> String {
        format!("{tag} {suite} inline:{}", STANDARD.encode_to_string(key.bytes()))
    }
}

fn parse_keys(profile: Profile, text: &str) -> Result<(MasterKey, Option<Mki>), SdesError> {
    let (method, info) = text.split_once(':').ok_or(SdesError::Malformed)?;
    if !method.eq_ignore_ascii_case("inline") {
        return Err(SdesError::KeyMethod);
    }
    if info.contains(';') {
        return Err(SdesError::SeveralKeys);
    }
    let mut parts = info.split('|');
    let key = parse_key(profile, parts.next().unwrap_or_default())?;
    let (mut lifetime, mut mki) = (None, None);
    for part in parts {
        // The lifetime comes first, and each comes once.
        match part.split_once(':') {
            None if lifetime.is_none() && mki.is_none() => lifetime = Some(parse_lifetime(part)?),
            None => return Err(SdesError::Lifetime),
            Some((value, length)) if mki.is_none() => mki = Some(parse_mki(value, length)?),
            Some(_) => return Err(SdesError::Mki),
        }
    }
    Ok((key, mki))
}

/// Padding may be missing: some switches leave it out.
fn parse_key(profile: Profile, text: &str) -> Result<MasterKey, SdesError> {
    let padding = text.len() - text.trim_end_matches('=').len();
    if padding > 2 {
        return Err(SdesError::Key);
    }
    let bytes = STANDARD_NO_PAD
        .decode_to_vec(&text[..text.len() - padding])
        .map(Zeroizing::new)
        .map_err(|_| SdesError::Key)?;
    MasterKey::from_bytes(profile, &bytes).ok_or(SdesError::Key)
}

/// `2^n`, or a number.
fn parse_lifetime(text: &str) -> Result<(), SdesError> {
    let packets = match text.strip_prefix("2^") {
        Some(exponent) => exponent.parse().ok().and_then(|exponent| 1_u128.checked_shl(exponent)),
        None => text.parse().ok(),
    };
    packets
        .filter(|packets| (MIN_LIFETIME..=MAX_LIFETIME).contains(packets))
        .map(|_| ())
        .ok_or(SdesError::Lifetime)
}

fn parse_mki(value: &str, length: &str) -> Result<Mki, SdesError> {
    let value = value.parse().map_err(|_| SdesError::Mki)?;
    let length = length.parse().map_err(|_| SdesError::Mki)?;
    Mki::new(value, length).ok_or(SdesError::Mki)
}

/// A window size is a hint; whatever changes what is sent would have to be agreed on, unless a `-` makes it optional
/// (RFC 4568 §6.3).
fn check_parameter(parameter: &str) -> Result<(), SdesError> {
    let window = parameter.strip_prefix("WSH=").and_then(|size| size.parse::<u32>().ok());
    if window.is_some_and(|size| size >= 64) || parameter.starts_with('-') || parameter == "KDR=0" {
        return Ok(());
    }
    Err(SdesError::SessionParameter(shortened(parameter)))
}

fn shortened(word: &str) -> String {
    word.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd";

    #[test]
    fn what_peers_write() {
        for (line, tag, profile, mki) in [
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"),
                1,
                Profile::AesCm128HmacSha1_80,
                None,
            ),
            (
                format!("2 aes_cm_128_hmac_sha1_32  inline:{KEY}|2^31"),
                2,
                Profile::AesCm128HmacSha1_32,
                None,
            ),
            (
                format!("10 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^31|1:1"),
                10,
                Profile::AesCm128HmacSha1_80,
                Mki::new(1, 1),
            ),
            (
                format!("1 AES_CM_128_HMAC_SHA1_80 INLINE:{KEY}|1066:4 WSH=64"),
                1,
                Profile::AesCm128HmacSha1_80,
                Mki::new(1066, 4),
            ),
            (
                format!("999999999 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1048576 KDR=0 -odd=1"),
                999_999_999,
                Profile::AesCm128HmacSha1_80,
                None,
            ),
            (
                "1 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw==".into(),
                1,
                Profile::AeadAes128Gcm,
                None,
            ),
            (
                "1 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw".into(),
                1,
                Profile::AeadAes128Gcm,
                None,
            ),
        ] {
            let attribute = CryptoAttribute::parse(&line).unwrap();
            assert_eq!((attribute.tag, attribute.mki), (tag, mki), "{line}");
            assert_eq!(attribute.key.profile(), profile);
            let bytes: Vec<u8> = (0..).take(MasterKey::length(profile)).collect();
            assert_eq!(attribute.key.bytes(), bytes);
            assert!(!format!("{attribute:?}").contains(KEY));
        }
    }

    #[test]
    fn what_is_refused() {
        let suite = "1 AES_CM_128_HMAC_SHA1_80";
        for (line, error) in [
            (String::new(), SdesError::Malformed),
            (format!("{suite} "), SdesError::Malformed),
            (format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), SdesError::Malformed),
            (format!("+1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), SdesError::Malformed),
            (format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), SdesError::Malformed),
            (format!("{suite} inline"), SdesError::Malformed),
            (
                format!("1 F8_128_HMAC_SHA1_80 inline:{KEY}"),
                SdesError::UnknownSuite("F8_128_HMAC_SHA1_80".into()),
            ),
            (format!("{suite} uri:{KEY}"), SdesError::KeyMethod),
            (format!("{suite} inline:{KEY};inline:{KEY}"), SdesError::SeveralKeys),
            (format!("{suite} inline:{}", &KEY[..36]), SdesError::Key),
            (format!("{suite} inline:{KEY}AAAA"), SdesError::Key),
            (format!("{suite} inline:{KEY}==="), SdesError::Key),
            (format!("{suite} inline:{}", KEY.replace('A', "!")), SdesError::Key),
            (format!("{suite} inline:"), SdesError::Key),
            (format!("1 AEAD_AES_256_GCM inline:{KEY}"), SdesError::Key),
            (format!("{suite} inline:{KEY}|2^19"), SdesError::Lifetime),
            (format!("{suite} inline:{KEY}|2^49"), SdesError::Lifetime),
            (format!("{suite} inline:{KEY}|2^200"), SdesError::Lifetime),
            (format!("{suite} inline:{KEY}|forever"), SdesError::Lifetime),
            (format!("{suite} inline:{KEY}|"), SdesError::Lifetime),
            (format!("{suite} inline:{KEY}|2^31|2^31"), SdesError::Lifetime),
            (format!("{suite} inline:{KEY}|1:1|2^31"), SdesError::Lifetime),
            (format!("{suite} inline:{KEY}|1:1|1:1"), SdesError::Mki),
            (format!("{suite} inline:{KEY}|1:0"), SdesError::Mki),
            (format!("{suite} inline:{KEY}|1:129"), SdesError::Mki),
            (format!("{suite} inline:{KEY}|300:1"), SdesError::Mki),
            (
                format!("{suite} inline:{KEY} UNENCRYPTED_SRTP"),
                SdesError::SessionParameter("UNENCRYPTED_SRTP".into()),
            ),
            (
                format!("{suite} inline:{KEY} UNAUTHENTICATED_SRTP"),
                SdesError::SessionParameter("UNAUTHENTICATED_SRTP".into()),
            ),
            (format!("{suite} inline:{KEY} KDR=24"), SdesError::SessionParameter("KDR=24".into())),
            (format!("{suite} inline:{KEY} WSH=8"), SdesError::SessionParameter("WSH=8".into())),
        ] {
            assert_eq!(CryptoAttribute::parse(&line), Err(error), "{line}");
        }
    }

    #[test]
    fn what_we_write_is_read() {
        for profile in Profile::ALL {
            let key = MasterKey::generate(profile).unwrap();
            let line = CryptoAttribute::write(7, profile.name(), &key);
            let suite = profile.name().to_owned();
            assert_eq!(
                CryptoAttribute::parse(&line),
                Ok(CryptoAttribute { tag: 7, suite, key, mki: None })
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(text in "\\PC{0,80}") {
            let _ = CryptoAttribute::parse(&text);
            let _ = CryptoAttribute::parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{text}"));
        }
    }
}
