//! Fingerprints of certificates, as SDP carries them (RFC 8122).

use std::fmt;

use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;

/// A hash function for fingerprints. Weaker ones than these are refused (RFC 8122 §5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Sha256, "sha-256"), (Self::Sha384, "sha-384"), (Self::Sha512, "sha-512")];

    fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    const fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// The hash of a certificate, by SHA-256 or stronger. It is no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    bytes: Vec<u8>,
}

impl Fingerprint {
    /// The fingerprint that we send of a certificate in DER: SHA-256, which every peer knows.
    pub fn of(certificate: &[u8]) -> Self {
        Self { hash: Hash::Sha256, bytes: Hash::Sha256.of(certificate) }
    }

    /// Reads the value of an `a=fingerprint` attribute; none when the hash is weak or unknown, or the value is not as
    /// long as the hash.
    pub fn parse(value: &str) -> Option<Self> {
        let (name, digits) = value.trim().split_once(' ')?;
        let (hash, _) = *Hash::ALL.iter().find(|(_, known)| known.eq_ignore_ascii_case(name))?;
        let bytes: Vec<u8> = digits
            .trim()
            .split(':')
            .take(hash.length() + 1)
            .map(|pair| {
                let digits = pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
                u8::from_str_radix(pair, 16).ok().filter(|_| digits)
            })
            .collect::<Option<_>>()?;
        (bytes.len() == hash.length()).then_some(Self { hash, bytes })
    }

    fn is_of(&self, certificate: &[u8]) -> bool {
        bool::from(self.hash.of(certificate).ct_eq(&self.bytes))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name =
            Hash::ALL.iter().find(|(hash, _)| *hash == self.hash).map_or("", |(_, name)| name);
        f.write_str(name)?;
        for (at, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if at == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

/// Whether `certificate` is the one of these fingerprints: those of the strongest hash count, and one of them must
/// match (RFC 8122 §5).
pub(crate) fn is_one_of(certificate: &[u8], fingerprints: &[Fingerprint]) -> bool {
    let strongest = fingerprints.iter().map(|fingerprint| fingerprint.hash).max();
    fingerprints
        .iter()
        .filter(|fingerprint| Some(fingerprint.hash) == strongest)
        .any(|fingerprint| fingerprint.is_of(certificate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let fingerprint = Fingerprint::of(b"abc");
        let text = fingerprint.to_string();
        assert_eq!(
            text,
            "sha-256 BA:78:16:BF:8F:01:CF:EA:41:41:40:DE:5D:AE:22:23:B0:03:61:A3:96:17:7A:9C:B4:10:FF:61:F2:00:15:AD"
        );
        assert_eq!(Fingerprint::parse(&text), Some(fingerprint.clone()));
        assert_eq!(Fingerprint::parse(&text.to_lowercase()), Some(fingerprint));
        for bad in [
            "",
            "sha-256",
            "sha-256 BA:78",
            "sha-1 A9:99:3E:36:47:06:81:6A:BA:3E:25:71:78:50:C2:6C:9C:D0:D8:9D",
            &text.replace("sha-256", "md5"),
            &text.replace("sha-256", "sha-512"),
            &text.replace(':', ""),
            &text.replace("BA:", "+A:"),
            &format!("{text}:00"),
        ] {
            assert_eq!(Fingerprint::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_strongest_hash_counts() {
        let right = |hash: Hash| Fingerprint { hash, bytes: hash.of(b"abc") };
        let wrong = |hash: Hash| Fingerprint { hash, bytes: hash.of(b"abd") };
        for (fingerprints, matches) in [
            (vec![], false),
            (vec![right(Hash::Sha256)], true),
            (vec![wrong(Hash::Sha256)], false),
            (vec![wrong(Hash::Sha256), right(Hash::Sha256)], true),
            (vec![right(Hash::Sha256), wrong(Hash::Sha512)], false),
            (vec![wrong(Hash::Sha256), right(Hash::Sha384)], true),
        ] {
            assert_eq!(is_one_of(b"abc", &fingerprints), matches);
        }
    }
}
