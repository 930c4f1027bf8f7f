//! AES in counter mode over a slice.

use aes::{
    Block,
    cipher::{BlockCipherEncrypt, BlockSizeUser, InnerIvInit, StreamCipherCore, consts::U16},
};
use ctr::{CtrCore, flavors::Ctr128BE};

/// Applies the key stream that starts at counter block `block` to `data`.
pub(crate) fn apply<C>(cipher: &C, block: &[u8; 16], data: &mut [u8])
where
    C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16>,
{
    let block: &Block = block.into();
    let mut stream = CtrCore::<&C, Ctr128BE>::inner_iv_init(cipher, block);
    let (blocks, tail) = Block::slice_as_chunks_mut(data);
    stream.apply_keystream_blocks(blocks);
    if !tail.is_empty() {
        let mut last = Block::default();
        stream.write_keystream_block(&mut last);
        for (byte, key) in tail.iter_mut().zip(last) {
            *byte ^= key;
        }
    }
}

#[cfg(test)]
mod tests {
    use aes::{Aes128, cipher::KeyInit};

    use super::*;

    /// RFC 3711 §B.2.
    #[test]
    fn the_key_stream_of_the_standard() {
        let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
        let cipher = Aes128::new_from_slice(&key).unwrap();
        let mut block = [0; 16];
        block[..14].copy_from_slice(&hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD"));
        let mut stream = vec![0; 0xFF02 * 16];
        apply(&cipher, &block, &mut stream);
        for (at, expected) in [
            (0, "E03EAD0935C95E80E166B16DD92B4EB4"),
            (1, "D23513162B02D0F72A43A2FE4A5F97AB"),
            (2, "41E95B3BB0A2E8DD477901E4FCA894C0"),
            (0xFEFF, "EC8CDF7398607CB0F2D21675EA9EA1E4"),
            (0xFF00, "362B7C3C6773516318A077D7FC5073AE"),
            (0xFF01, "6A2CC3787889374FBEB4C81B17BA6C44"),
        ] {
            assert_eq!(stream[at * 16..(at + 1) * 16], hex(expected), "{at:#x}");
        }
        for length in [0, 1, 15, 17, 160] {
            let mut short = vec![0; length];
            apply(&cipher, &block, &mut short);
            assert_eq!(short, stream[..length], "{length}");
        }
    }

    fn hex(text: &str) -> Vec<u8> {
        crate::testing::hex(text)
    }
}
