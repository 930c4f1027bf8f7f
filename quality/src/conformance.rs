//! G.711 against the reference software of ITU-T G.191 (STL2019 and later): its tables, as hashes.

use sha2::{Digest, Sha256};
use tandem_media::{Law, g711};

/// The linear samples of all 256 codes and the codes of all 65,536 samples from -32,768 on.
struct Reference {
    law: Law,
    expand: &'static str,
    compress: &'static str,
}

/// Of `ulaw_expand`, `ulaw_compress`, `alaw_expand` and `alaw_compress` in openitu/STL, commit 139db497.
const REFERENCES: [Reference; 2] = [
    Reference {
        law: Law::Mu,
        expand: "3dab54339e520bb2c924826e3b72a917a2b612e9fd12fc867500f1d983a75827",
        compress: "90c29de505fb68e766118303bd552a16005dcf810873698bee1d8f3b247ce28c",
    },
    Reference {
        law: Law::A,
        expand: "e04788d110e58ff8c70c93b8480190d973e3b67876b6119abbaec766cc75c174",
        compress: "38488f6fd710f4686360edc4d38639f96c491595ef93f8eb8d62d5e07ca6ce7b",
    },
];

/// Whether all codes of both laws decode to the reference's samples.
pub fn decodes_as_the_reference() -> bool {
    REFERENCES.iter().all(|reference| {
        let codes: Vec<u8> = (0..=255).collect();
        let mut pcm = [0; 256];
        g711::decode(reference.law, &codes, &mut pcm);
        let bytes: Vec<u8> = pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        sha256(&bytes) == reference.expand
    })
}

/// Whether all samples get the reference's codes under both laws.
pub fn encodes_as_the_reference() -> bool {
    REFERENCES.iter().all(|reference| {
        let pcm: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let mut codes = vec![0; pcm.len()];
        g711::encode(reference.law, &pcm, &mut codes);
        sha256(&codes) == reference.compress
    })
}

/// The SHA-256 of `bytes` in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g711_is_that_of_the_reference_software() {
        assert!(decodes_as_the_reference());
        assert!(encodes_as_the_reference());
    }
}
