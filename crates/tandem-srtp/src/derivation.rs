//! Session keys out of a master key (RFC 3711 §4.3, RFC 6188 §2, RFC 7714 §11), with a key derivation rate of zero.

use aes::{Aes128, Aes256, cipher::KeyInit};

use crate::{MasterKey, counter};

/// Which of the two kinds of packets a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Rtp,
    Rtcp,
}

/// What a session key is used for; its number is the label of RFC 3711 §4.3.2.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Encryption = 0,
    Authentication = 1,
    Salt = 2,
}

/// Fills `out` with a session key of `master`.
pub(crate) fn derive(master: &MasterKey, kind: Kind, purpose: Purpose, out: &mut [u8]) {
    let label = purpose as u8 + if kind == Kind::Rtcp { 3 } else { 0 };
    // Salts of 96 bits are filled up with zeros on the right.
    let mut block = [0; 16];
    block[..master.salt().len()].copy_from_slice(master.salt());
    block[7] ^= label;
    out.fill(0);
    match master.key() {
        key if key.len() == 16 => {
            let cipher = Aes128::new_from_slice(key).expect("16 bytes are a key of AES-128");
            counter::apply(&cipher, &block, out);
        }
        key => {
            let cipher = Aes256::new_from_slice(key).expect("other keys have 32 bytes");
            counter::apply(&cipher, &block, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Profile, testing::hex};

    /// RFC 3711 §B.3.
    #[test]
    fn the_session_keys_of_the_standard() {
        let master = hex("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
        let master = MasterKey::from_bytes(Profile::AesCm128HmacSha1_80, &master).unwrap();
        for (purpose, expected) in [
            (Purpose::Encryption, "C61E7A93744F39EE10734AFE3FF7A087"),
            (Purpose::Salt, "30CBBC08863D8C85D49DB34A9AE1"),
            (
                Purpose::Authentication,
                "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA48F0A0ACF3C34E2359E6CDBCE
                 E049646C43D9327AD175578EF72270986371C10C9A369AC2F94A8C5FBCDDDC25
                 6D6E919A48B610EF17C2041E474035766B68642C59BBFC2F34DB60DBDFB2DC68",
            ),
        ] {
            let expected = hex(expected);
            let mut key = vec![0xAA; expected.len()];
            derive(&master, Kind::Rtp, purpose, &mut key);
            assert_eq!(key, expected, "{purpose:?}");
            derive(&master, Kind::Rtcp, purpose, &mut key);
            assert_ne!(key, expected, "RTCP has keys of its own");
        }
    }

    /// RFC 6188 §7.2.
    #[test]
    fn the_session_keys_of_aes_256() {
        let master = hex("f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6
                          3b04803de51ee7c96423ab5b78d2");
        let master = MasterKey::from_bytes(Profile::AesCm256HmacSha1_80, &master).unwrap();
        for (purpose, expected) in [
            (
                Purpose::Encryption,
                "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4",
            ),
            (Purpose::Salt, "fa31791685ca444a9e07c6c64e93"),
            (Purpose::Authentication, "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05"),
        ] {
            let expected = hex(expected);
            let mut key = vec![0; expected.len()];
            derive(&master, Kind::Rtp, purpose, &mut key);
            assert_eq!(key, expected, "{purpose:?}");
        }
    }
}
