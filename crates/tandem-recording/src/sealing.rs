//! Sealed files: AES-256-GCM in chunks, the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015).
//!
//! ```text
//! 0   8   "TANDEMR1"
//! 8   8   which key: the first bytes of SHA-256("tandem recording key" || key)
//! 16  12  nonce of the next field
//! 28  48  the file's own key, sealed with the key; bytes 0 to 27 are authenticated with it
//! 76  7   the beginning of the nonces of all chunks
//! 83      chunks: 4 bytes, little-endian: the length of the text, bit 31 set in the last chunk; the sealed text; 16 bytes of tag
//! ```
//!
//! The nonce of a chunk: the 7 bytes, the chunk's number (4 bytes, big-endian, from 0), and 1 for the last chunk, else 0; the chunk's
//! first 4 bytes are authenticated with it. So no chunk can be changed, left out, moved or added, and a file whose end is missing
//! says so; what is there of it can be read up to the last whole chunk.

use std::io::{self, Read, Write};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};
use zeroize::Zeroizing;

use crate::{KeyId, RecordingKey, key::KEY, random};

const MAGIC: &[u8; 8] = b"TANDEMR1";
const HEADER: usize = 83;
const NONCE: usize = 12;
const TAG: usize = 16;
const PREFIX: usize = 7;

/// The most text of a chunk.
const CHUNK: usize = 1 << 18;

const LAST: u32 = 1 << 31;

/// Seals one file.
pub(crate) struct Sealer {
    key: LessSafeKey,
    prefix: [u8; PREFIX],
    chunks: u32,
}

/// Why a file was not unsealed.
#[derive(Debug, thiserror::Error)]
pub enum UnsealError {
    /// It is not sealed.
    #[error("the file is not sealed")]
    NotSealed,
    /// It was sealed with another key.
    #[error("the file was sealed with the key {wanted}, this is the key {given}")]
    WrongKey {
        /// The key that is needed.
        wanted: KeyId,
        /// The key that was tried.
        given: KeyId,
    },
    /// It is not what was written.
    #[error("the file was changed: {0} does not fit its seal")]
    Changed(String),
    /// It can't be read, or its contents can't be written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What was unsealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsealed {
    /// Bytes of contents.
    pub bytes: u64,
    /// The end is there. It is not when the process was killed, the disk was full, or somebody cut the file.
    pub complete: bool,
}

impl Sealer {
    /// Seals with a key of its own, which is wrapped with `key` in the file's first bytes: they go to `out`.
    pub(crate) fn new(key: &RecordingKey, out: &mut Vec<u8>) -> io::Result<Self> {
        let mut own = Zeroizing::new([0; KEY]);
        let (mut nonce, mut prefix) = ([0; NONCE], [0; PREFIX]);
        for part in [own.as_mut_slice(), &mut nonce, &mut prefix] {
            random::fill(part)?;
        }
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&key.id().0);
        out.extend_from_slice(&nonce);
        let mut wrapped = *own;
        let tag = aead(key.bytes())
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(&out[start..]),
                &mut wrapped,
            )
            .map_err(|_| refused())?;
        out.extend_from_slice(&wrapped);
        out.extend_from_slice(tag.as_ref());
        out.extend_from_slice(&prefix);
        Ok(Self { key: aead(&own), prefix, chunks: 0 })
    }

    /// Appends `text`, sealed, to `out`; nothing may follow what `is_last`.
    pub(crate) fn seal(&mut self, text: &[u8], is_last: bool, out: &mut Vec<u8>) -> io::Result<()> {
        let mut rest = text;
        loop {
            let (chunk, later) = rest.split_at(rest.len().min(CHUNK));
            self.seal_chunk(chunk, is_last && later.is_empty(), out)?;
            rest = later;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }

    fn seal_chunk(&mut self, text: &[u8], is_last: bool, out: &mut Vec<u8>) -> io::Result<()> {
        let head = head(text.len(), is_last);
        out.extend_from_slice(&head);
        let start = out.len();
        out.extend_from_slice(text);
        let nonce = nonce(self.prefix, self.chunks, is_last);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(head), &mut out[start..])
            .map_err(|_| refused())?;
        out.extend_from_slice(tag.as_ref());
        self.chunks =
            self.chunks.checked_add(1).ok_or_else(|| io::Error::other("too many chunks"))?;
        Ok(())
    }
}

/// Whether a file that begins like this is sealed.
pub fn is_sealed(beginning: &[u8]) -> bool {
    beginning.starts_with(MAGIC)
}

/// The key that a sealed file names in its beginning.
pub(crate) fn key_id(beginning: &[u8; 16]) -> KeyId {
    KeyId(*beginning[8..].first_chunk().expect("eight bytes"))
}

/// Writes the contents of the sealed file `input` to `output`, as far as they are there.
pub fn unseal(
    input: &mut impl Read,
    key: &RecordingKey,
    output: &mut impl Write,
) -> Result<Unsealed, UnsealError> {
    let mut header = [0; HEADER];
    let read = fill(input, &mut header)?;
    if !is_sealed(&header[..read]) {
        return Err(UnsealError::NotSealed);
    }
    if read < HEADER {
        return Ok(Unsealed { bytes: 0, complete: false });
    }
    let (own, prefix) = unwrap(&header, key)?;
    let (mut chunk, mut bytes, mut number) = (Vec::new(), 0, 0_u32);
    loop {
        let mut head = [0; 4];
        if fill(input, &mut head)? < head.len() {
            return Ok(Unsealed { bytes, complete: false });
        }
        let word = u32::from_le_bytes(head);
        let (length, is_last) = ((word & !LAST) as usize, word & LAST != 0);
        let changed = || UnsealError::Changed(format!("chunk {number}"));
        if length > CHUNK {
            return Err(changed());
        }
        chunk.resize(length + TAG, 0);
        if fill(input, &mut chunk)? < chunk.len() {
            return Ok(Unsealed { bytes, complete: false });
        }
        let text = own
            .open_in_place(nonce(prefix, number, is_last), Aad::from(head), &mut chunk)
            .map_err(|_| changed())?;
        output.write_all(text)?;
        bytes += text.len() as u64;
        if is_last {
            if fill(input, &mut [0])? > 0 {
                return Err(UnsealError::Changed("what follows its end".into()));
            }
            return Ok(Unsealed { bytes, complete: true });
        }
        number = number.checked_add(1).ok_or_else(changed)?;
    }
}

/// The file's own key, and the beginning of its nonces.
fn unwrap(
    header: &[u8; HEADER],
    key: &RecordingKey,
) -> Result<(LessSafeKey, [u8; PREFIX]), UnsealError> {
    let (beginning, rest) = header.split_at(28);
    let wanted = KeyId(beginning[8..16].try_into().expect("eight bytes"));
    if wanted != key.id() {
        return Err(UnsealError::WrongKey { wanted, given: key.id() });
    }
    let nonce: [u8; NONCE] = beginning[16..].try_into().expect("twelve bytes");
    let (wrapped, prefix) = rest.split_at(KEY + TAG);
    let mut own = Zeroizing::new([0; KEY]);
    own.copy_from_slice(&wrapped[..KEY]);
    let tag = Tag::try_from(&wrapped[KEY..]).expect("sixteen bytes");
    aead(key.bytes())
        .open_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(beginning),
            tag,
            own.as_mut_slice(),
            0..,
        )
        .map_err(|_| UnsealError::Changed("its header".into()))?;
    Ok((aead(&own), prefix.try_into().expect("seven bytes")))
}

fn aead(key: &[u8; KEY]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("a key of 256 bits"))
}

fn refused() -> io::Error {
    io::Error::other("the file can't be sealed")
}

const fn head(length: usize, is_last: bool) -> [u8; 4] {
    (length as u32 | if is_last { LAST } else { 0 }).to_le_bytes()
}

fn nonce(prefix: [u8; PREFIX], number: u32, is_last: bool) -> Nonce {
    let mut nonce = [0; NONCE];
    nonce[..PREFIX].copy_from_slice(&prefix);
    nonce[PREFIX..PREFIX + 4].copy_from_slice(&number.to_be_bytes());
    nonce[NONCE - 1] = u8::from(is_last);
    Nonce::assume_unique_for_key(nonce)
}

/// Reads until `buffer` is full or nothing more comes; how much came.
pub(crate) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match input.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(digit: char) -> RecordingKey {
        RecordingKey::parse(&digit.to_string().repeat(64)).unwrap()
    }

    fn sealed(texts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut sealer = Sealer::new(&key('a'), &mut out).unwrap();
        for (n, text) in texts.iter().enumerate() {
            sealer.seal(text, n + 1 == texts.len(), &mut out).unwrap();
        }
        out
    }

    fn open(file: &[u8]) -> Result<(Unsealed, Vec<u8>), UnsealError> {
        let mut out = Vec::new();
        unseal(&mut &*file, &key('a'), &mut out).map(|unsealed| (unsealed, out))
    }

    #[test]
    fn what_was_sealed_is_unsealed() {
        let long = vec![7; 2 * CHUNK + 5];
        let file = sealed(&[b"one", &long, b""]);
        let (unsealed, out) = open(&file).unwrap();
        assert_eq!(unsealed, Unsealed { bytes: 3 + long.len() as u64, complete: true });
        assert!(out.strip_prefix(b"one") == Some(&long[..]));
        assert_ne!(file, sealed(&[b"one", &long, b""]), "every file has its own key");
    }

    #[test]
    fn the_beginning_of_a_file_is_unsealed_as_far_as_it_goes() {
        let file = sealed(&[b"first", b"second", b"third"]);
        let chunk = |text: &str| 4 + text.len() + TAG;
        let first = HEADER + chunk("first");
        for (length, text) in [
            (9, ""),
            (HEADER, ""),
            (first - 1, ""),
            (first, "first"),
            (first + 3, "first"),
            (first + chunk("second"), "firstsecond"),
            (file.len() - 1, "firstsecond"),
        ] {
            let (unsealed, out) = open(&file[..length]).unwrap();
            assert_eq!((unsealed.complete, out.as_slice()), (false, text.as_bytes()), "{length}");
        }
        assert!(matches!(open(&file[..5]), Err(UnsealError::NotSealed)));
        assert!(matches!(open(b"RIFF"), Err(UnsealError::NotSealed)));
    }

    #[test]
    fn another_key_is_refused_by_name() {
        let file = sealed(&[b"text"]);
        let error = unseal(&mut &*file, &key('b'), &mut Vec::new()).unwrap_err();
        assert!(matches!(error, UnsealError::WrongKey { .. }));
        assert!(error.to_string().contains(&key('a').id().to_string()));
    }

    #[test]
    fn every_change_is_noticed() {
        let file = sealed(&[b"first", b"second"]);
        for at in 8..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 0x10;
            let complete = open(&changed).is_ok_and(|(unsealed, _)| unsealed.complete);
            assert!(!complete, "byte {at}");
        }
        let more = [file.as_slice(), b"x"].concat();
        assert!(matches!(open(&more), Err(UnsealError::Changed(_))));
        // The chunks in another order.
        let (head, first) = (HEADER, 4 + 5 + TAG);
        let moved = [&file[..head], &file[head + first..], &file[head..head + first]].concat();
        assert!(matches!(open(&moved), Err(UnsealError::Changed(_))));
    }
}
