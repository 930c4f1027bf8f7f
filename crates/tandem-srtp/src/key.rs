//! Master keys, which nothing prints.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::Profile;

/// The longest key with its salt.
const LONGEST: usize = 32 + 14;

/// The system has no random numbers to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no random numbers from the system")]
pub struct NoRandomness;

/// A master key and its salt, which protect one direction of one session. `Debug` shows the profile only, and the
/// bytes are wiped when it is dropped.
#[derive(Clone)]
pub struct MasterKey {
    profile: Profile,
    /// Key, salt, zeros.
    bytes: [u8; LONGEST],
}

impl MasterKey {
    /// A fresh key out of the system's random numbers.
    pub fn generate(profile: Profile) -> Result<Self, NoRandomness> {
        let mut bytes = [0; LONGEST];
        getrandom::fill(&mut bytes[..Self::length(profile)]).map_err(|_| NoRandomness)?;
        Ok(Self { profile, bytes })
    }

    /// The key in `bytes`, key before salt; none when they are not exactly as many as `profile` takes.
    pub fn from_bytes(profile: Profile, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != Self::length(profile) {
            return None;
        }
        let mut key = Self { profile, bytes: [0; LONGEST] };
        key.bytes[..bytes.len()].copy_from_slice(bytes);
        Some(key)
    }

    /// Bytes of key and salt together.
    pub const fn length(profile: Profile) -> usize {
        profile.key_length() + profile.salt_length()
    }

    /// What it is for.
    pub const fn profile(&self) -> Profile {
        self.profile
    }

    /// Key and salt.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes[..Self::length(self.profile)]
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[..self.profile.key_length()]
    }

    pub(crate) fn salt(&self) -> &[u8] {
        &self.bytes()[self.profile.key_length()..]
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        self.profile == other.profile && bool::from(self.bytes.ct_eq(&other.bytes))
    }
}

impl Eq for MasterKey {}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MasterKey").field(&self.profile).finish()
    }
}

/// Secret bytes that are wiped when they are dropped.
pub(crate) struct Secret<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_length_and_shows_nothing() {
        for profile in Profile::ALL {
            let key = MasterKey::generate(profile).unwrap();
            assert_eq!(key.bytes().len(), MasterKey::length(profile));
            assert_ne!(key, MasterKey::generate(profile).unwrap());
            assert_eq!(MasterKey::from_bytes(profile, key.bytes()), Some(key.clone()));
            assert_eq!(MasterKey::from_bytes(profile, &key.bytes()[1..]), None);
            assert_eq!(format!("{key:?}"), format!("MasterKey({profile:?})"));
        }
        let bytes = [7; 30];
        let long = MasterKey::from_bytes(Profile::AesCm128HmacSha1_80, &bytes);
        assert_ne!(long, MasterKey::from_bytes(Profile::AesCm128HmacSha1_32, &bytes));
    }
}
