//! Tags, Call-IDs and other names that nobody may guess, from one secret.

use sha2::{Digest, Sha256};

use crate::digest::hex;

/// 32 random bytes that never leave the process.
#[derive(Clone)]
pub(crate) struct Secret([u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// From the system's random numbers.
    pub(crate) fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        Ok(Self(bytes))
    }

    /// Always the same: for tests, and for agents without a network.
    pub(crate) fn fixed(seed: u8) -> Self {
        Self([seed; 32])
    }

    /// A hash of `parts` that only the holder of the secret can make. The secret stands at both ends, so that the
    /// hash cannot be extended.
    pub(crate) fn hash(&self, parts: &[&str]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.update(self.0);
        hasher.finalize().into()
    }
}

/// Makes names, each once.
#[derive(Debug)]
pub(crate) struct Ids {
    secret: Secret,
    made: u64,
}

impl Ids {
    pub(crate) const fn new(secret: Secret) -> Self {
        Self { secret, made: 0 }
    }

    /// 16 hex digits.
    pub(crate) fn tag(&mut self) -> String {
        hex(&self.next("tag")[..8])
    }

    /// 32 hex digits.
    pub(crate) fn call_id(&mut self) -> String {
        hex(&self.next("call-id")[..16])
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        let hash = self.next("number");
        u64::from_be_bytes(hash[..8].try_into().expect("8 of 32 bytes")) % limit
    }

    fn next(&mut self, kind: &str) -> [u8; 32] {
        self.made += 1;
        self.secret.hash(&[kind, &self.made.to_string()])
    }
}
