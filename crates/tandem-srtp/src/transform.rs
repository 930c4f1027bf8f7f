//! One kind of packets sealed and opened in place under one master key.
//!
//! The primitives are kept ones (AES and HMAC-SHA1 of RustCrypto, which use AES-NI and the SHA extensions where the
//! processor has them; AES-GCM of ring); only how a packet is laid out is ours. Published SRTP crates make a new buffer
//! of every packet; these functions work in the caller's and allocate nothing.

use aes::{Aes128, Aes256, cipher::KeyInit};
use hmac::{Hmac, Mac};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use sha1::Sha1;
use subtle::ConstantTimeEq;

use crate::{
    MasterKey, counter,
    derivation::{Kind, Purpose, derive},
    key::Secret,
};

/// The flag of an encrypted SRTCP packet (RFC 3711 §3.4).
const ENCRYPTED: u32 = 1 << 31;
/// What RTCP leaves in clear: the first header up to the SSRC.
pub(crate) const RTCP_CLEAR: usize = 8;
/// The longest tag, AES-GCM's.
pub(crate) const LONGEST_TAG: usize = 16;
/// The word with flag and index of SRTCP.
pub(crate) const INDEX_WORD: usize = 4;

/// A packet that nobody with the key has sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Forged;

/// Seals or opens RTP, or RTCP.
pub(crate) struct Transform {
    cipher: Cipher,
    tag_length: usize,
}

enum Cipher {
    Counter { cipher: Box<Aes>, salt: [u8; 14], mac: Hmac<Sha1> },
    Galois { key: Box<LessSafeKey>, salt: [u8; 12] },
}

enum Aes {
    Aes128(Aes128),
    Aes256(Aes256),
}

impl Transform {
    pub(crate) fn new(master: &MasterKey, kind: Kind) -> Self {
        let profile = master.profile();
        let mut key = Secret([0; 32]);
        let key = &mut key.0[..profile.key_length()];
        derive(master, kind, Purpose::Encryption, key);
        let cipher = if profile.is_aead() {
            let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
            let key = UnboundKey::new(algorithm, key).expect("a key of the algorithm's length");
            let mut salt = [0; 12];
            derive(master, kind, Purpose::Salt, &mut salt);
            Cipher::Galois { key: Box::new(LessSafeKey::new(key)), salt }
        } else {
            let cipher = if key.len() == 16 {
                Aes::Aes128(Aes128::new_from_slice(key).expect("16 bytes are a key of AES-128"))
            } else {
                Aes::Aes256(Aes256::new_from_slice(key).expect("32 bytes are a key of AES-256"))
            };
            let mut salt = [0; 14];
            derive(master, kind, Purpose::Salt, &mut salt);
            let mut authentication = Secret([0; 20]);
            derive(master, kind, Purpose::Authentication, &mut authentication.0);
            let mac = Hmac::new_from_slice(&authentication.0).expect("HMAC takes any key");
            Cipher::Counter { cipher: Box::new(cipher), salt, mac }
        };
        let tag_length = match kind {
            Kind::Rtp => profile.rtp_tag_length(),
            Kind::Rtcp => profile.rtcp_tag_length(),
        };
        Self { cipher, tag_length }
    }

    /// Bytes of the tag.
    pub(crate) const fn tag_length(&self) -> usize {
        self.tag_length
    }

    /// Encrypts the RTP packet behind its `header` bytes of header and appends its tag. `index` is the rollover counter and the
    /// sequence number (RFC 3711 §3.3, RFC 7714 §8).
    pub(crate) fn seal_rtp(&self, packet: &mut Vec<u8>, header: usize, ssrc: u32, index: u64) {
        match &self.cipher {
            Cipher::Counter { cipher, salt, mac } => {
                cipher.apply(&counter_block(salt, ssrc, index), &mut packet[header..]);
                let tag = tag(mac, packet, &rollover(index));
                packet.extend_from_slice(&tag[..self.tag_length]);
            }
            Cipher::Galois { key, salt } => {
                let (header, payload) = packet.split_at_mut(header);
                let tag = galois_seal(key, rtp_nonce(salt, ssrc, index), &*header, payload);
                packet.extend_from_slice(tag.as_ref());
            }
        }
    }

    /// Checks and decrypts a packet that ends with its tag; the plain one is what is left before the tag. On an error it is spoilt.
    pub(crate) fn open_rtp(
        &self,
        packet: &mut [u8],
        header: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), Forged> {
        let (packet, received) = packet.split_at_mut(packet.len() - self.tag_length);
        match &self.cipher {
            Cipher::Counter { cipher, salt, mac } => {
                check(&tag(mac, packet, &rollover(index)), received)?;
                cipher.apply(&counter_block(salt, ssrc, index), &mut packet[header..]);
                Ok(())
            }
            Cipher::Galois { key, salt } => {
                let (header, payload) = packet.split_at_mut(header);
                galois_open(key, rtp_nonce(salt, ssrc, index), &*header, received, payload)
            }
        }
    }

    /// Encrypts an RTCP packet and appends its index and tag (RFC 3711 §3.4, RFC 7714 §9). It has at least
    /// [`RTCP_CLEAR`] bytes.
    pub(crate) fn seal_rtcp(&self, packet: &mut Vec<u8>, ssrc: u32, index: u32) {
        let word = (index | ENCRYPTED).to_be_bytes();
        match &self.cipher {
            Cipher::Counter { cipher, salt, mac } => {
                let block = counter_block(salt, ssrc, index.into());
                cipher.apply(&block, &mut packet[RTCP_CLEAR..]);
                packet.extend_from_slice(&word);
                let tag = tag(mac, packet, &[]);
                packet.extend_from_slice(&tag[..self.tag_length]);
            }
            Cipher::Galois { key, salt } => {
                let nonce = rtcp_nonce(salt, ssrc, index);
                let (clear, rest) = packet.split_at_mut(RTCP_CLEAR);
                let tag = galois_seal(key, nonce, &with_word(clear, word), rest);
                packet.extend_from_slice(tag.as_ref());
                packet.extend_from_slice(&word);
            }
        }
    }

    /// Checks and decrypts an RTCP packet and returns the length of the plain one. The packet has room for
    /// [`RTCP_CLEAR`], [`INDEX_WORD`] and its tag. On an error it is spoilt.
    pub(crate) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32) -> Result<usize, Forged> {
        match &self.cipher {
            Cipher::Counter { cipher, salt, mac } => {
                let (packet, received) = packet.split_at_mut(packet.len() - self.tag_length);
                check(&tag(mac, packet, &[]), received)?;
                let (plain, word) = packet.split_at_mut(packet.len() - INDEX_WORD);
                let block = counter_block(salt, ssrc, encrypted_index(word_of(word))?.into());
                cipher.apply(&block, &mut plain[RTCP_CLEAR..]);
                Ok(plain.len())
            }
            Cipher::Galois { key, salt } => {
                let (sealed, word) = packet.split_at_mut(packet.len() - INDEX_WORD);
                let (plain, received) = sealed.split_at_mut(sealed.len() - self.tag_length);
                let word = word_of(word);
                let nonce = rtcp_nonce(salt, ssrc, encrypted_index(word)?);
                let (clear, secret) = plain.split_at_mut(RTCP_CLEAR);
                let clear = with_word(clear, word.to_be_bytes());
                galois_open(key, nonce, &clear, received, secret)?;
                Ok(plain.len())
            }
        }
    }

    /// The index that an SRTCP packet claims.
    pub(crate) fn rtcp_index(&self, packet: &[u8]) -> u32 {
        let behind = if self.is_aead() { 0 } else { self.tag_length };
        let end = packet.len() - behind;
        word_of(&packet[end - INDEX_WORD..end]) & !ENCRYPTED
    }

    /// Whether cipher and authentication are one.
    pub(crate) const fn is_aead(&self) -> bool {
        matches!(self.cipher, Cipher::Galois { .. })
    }
}

impl Aes {
    fn apply(&self, block: &[u8; 16], data: &mut [u8]) {
        match self {
            Self::Aes128(cipher) => counter::apply(cipher, block, data),
            Self::Aes256(cipher) => counter::apply(cipher, block, data),
        }
    }
}

/// `(k_s * 2^16) XOR (SSRC * 2^64) XOR (i * 2^16)` (RFC 3711 §4.1.1).
fn counter_block(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut block = [0; 16];
    block[4..8].copy_from_slice(&ssrc.to_be_bytes());
    block[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
    xor(&mut block[..14], salt);
    block
}

/// RFC 7714 §8.1.
fn rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
    xor(&mut nonce, salt);
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 7714 §9.1.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    let mut nonce = [0; 12];
    nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
    nonce[8..].copy_from_slice(&index.to_be_bytes());
    xor(&mut nonce, salt);
    Nonce::assume_unique_for_key(nonce)
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}

/// The rollover counter as it is authenticated.
fn rollover(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

fn word_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("four bytes are a word"))
}

/// The index of a packet that is encrypted: nothing else was agreed on, so nothing else is taken.
fn encrypted_index(word: u32) -> Result<u32, Forged> {
    if word & ENCRYPTED == 0 { Err(Forged) } else { Ok(word & !ENCRYPTED) }
}

fn with_word(clear: &[u8], word: [u8; 4]) -> [u8; RTCP_CLEAR + INDEX_WORD] {
    let mut both = [0; RTCP_CLEAR + INDEX_WORD];
    both[..RTCP_CLEAR].copy_from_slice(clear);
    both[RTCP_CLEAR..].copy_from_slice(&word);
    both
}

fn tag(mac: &Hmac<Sha1>, packet: &[u8], behind: &[u8]) -> [u8; 20] {
    let mut mac = mac.clone();
    mac.update(packet);
    mac.update(behind);
    mac.finalize().into_bytes().into()
}

fn check(tag: &[u8; 20], received: &[u8]) -> Result<(), Forged> {
    if bool::from(tag[..received.len()].ct_eq(received)) { Ok(()) } else { Err(Forged) }
}

fn galois_seal(key: &LessSafeKey, nonce: Nonce, clear: &[u8], secret: &mut [u8]) -> Tag {
    key.seal_in_place_separate_tag(nonce, Aad::from(clear), secret)
        .expect("a datagram is far below the limit of AES-GCM")
}

fn galois_open(
    key: &LessSafeKey,
    nonce: Nonce,
    clear: &[u8],
    tag: &[u8],
    secret: &mut [u8],
) -> Result<(), Forged> {
    let tag = Tag::try_from(tag).map_err(|_| Forged)?;
    key.open_in_place_separate_tag(nonce, Aad::from(clear), tag, secret, 0..)
        .map(|_| ())
        .map_err(|_| Forged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::hex;

    /// AES-GCM with the session key and salt of RFC 7714 §16 and §17.
    fn galois(key: &str, tag_length: usize) -> Transform {
        let key = hex(key);
        let algorithm = if key.len() == 16 { &AES_128_GCM } else { &AES_256_GCM };
        let salt = hex("517569642070726f2071756f").try_into().unwrap();
        let key = UnboundKey::new(algorithm, &key).unwrap();
        Transform {
            cipher: Cipher::Galois { key: Box::new(LessSafeKey::new(key)), salt },
            tag_length,
        }
    }

    const KEY_128: &str = "000102030405060708090a0b0c0d0e0f";
    const KEY_256: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn the_rtp_packets_of_rfc_7714() {
        let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
                         69736120 696e2070 61727465 73207472 6573");
        let sealed_128 = "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
                          0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439
                          0cce";
        let sealed_256 = "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238
                          9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7
                          6c13";
        for (key, sealed) in [(KEY_128, sealed_128), (KEY_256, sealed_256)] {
            let transform = galois(key, 16);
            let mut packet = plain.clone();
            transform.seal_rtp(&mut packet, 12, 0x5501_A0B2, 0xF17B);
            assert_eq!(packet, hex(sealed));
            assert_eq!(transform.open_rtp(&mut packet, 12, 0x5501_A0B2, 0xF17B), Ok(()));
            assert_eq!(packet[..plain.len()], plain);
        }
    }

    #[test]
    fn the_rtcp_packets_of_rfc_7714() {
        let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
                         deadbeef deadbeef deadbeef deadbeef deadbeef");
        let sealed_128 = "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
                          c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872
                          45d9eade 800005d4";
        let sealed_256 = "81c8000d 4d617273 d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50
                          a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad 1d1eb30c 4446839f 57ff6f6c
                          b26ac3be 800005d4";
        for (key, sealed) in [(KEY_128, sealed_128), (KEY_256, sealed_256)] {
            let transform = galois(key, 16);
            let mut packet = plain.clone();
            transform.seal_rtcp(&mut packet, 0x4D61_7273, 0x5D4);
            assert_eq!(packet, hex(sealed));
            assert_eq!(transform.rtcp_index(&packet), 0x5D4);
            assert_eq!(transform.open_rtcp(&mut packet, 0x4D61_7273), Ok(plain.len()));
            assert_eq!(packet[..plain.len()], plain);
        }
    }
}
