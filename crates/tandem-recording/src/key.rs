//! The key that recordings are sealed with.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use ring::digest;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
pub(crate) const KEY: usize = 32;

/// The longest key file that is read, in bytes.
const LONGEST: u64 = 4_096;

/// The key that the keys of files are wrapped with: 256 bits. Prints only its id.
#[derive(Clone)]
pub struct RecordingKey {
    bytes: Zeroizing<[u8; KEY]>,
    id: KeyId,
}

/// Tells keys apart, and tells nothing else of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(crate) [u8; 8]);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file can't be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It holds something else.
    #[error(
        "a key is 64 hexadecimal digits, as `openssl rand -hex 32` prints them; these are {length} other characters"
    )]
    Malformed {
        /// Characters found.
        length: usize,
    },
}

impl RecordingKey {
    /// The key in `text`: 64 hexadecimal digits, blanks around them aside.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let malformed = || KeyError::Malformed { length: text.chars().count() };
        let mut bytes = Zeroizing::new([0; KEY]);
        if text.len() != 2 * KEY {
            return Err(malformed());
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().as_chunks::<2>().0) {
            let digit = |digit: u8| char::from(digit).to_digit(16).ok_or_else(malformed);
            *byte = (digit(digits[0])? << 4 | digit(digits[1])?) as u8;
        }
        Ok(Self::new(bytes))
    }

    /// The key in the file `path`.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let unreadable = |source| KeyError::Unreadable { path: path.to_owned(), source };
        let length = fs::metadata(path).map_err(unreadable)?.len();
        if length > LONGEST {
            return Err(KeyError::Malformed { length: length as usize });
        }
        let mut text = fs::read_to_string(path).map_err(unreadable)?;
        let key = Self::parse(&text);
        text.zeroize();
        key
    }

    /// Which key it is.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY] {
        &self.bytes
    }

    fn new(bytes: Zeroizing<[u8; KEY]>) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"tandem recording key");
        context.update(bytes.as_slice());
        let mut id = [0; 8];
        id.copy_from_slice(&context.finish().as_ref()[..8]);
        Self { bytes, id: KeyId(id) }
    }
}

impl PartialEq for RecordingKey {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for RecordingKey {}

impl fmt::Debug for RecordingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordingKey({})", self.id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_sixty_four_digits_and_prints_none_of_them() {
        let digits = "00112233445566778899aabbccddeeff".repeat(2);
        let key = RecordingKey::parse(&format!(" {digits}\n")).unwrap();
        assert_eq!(key.bytes()[..3], [0, 0x11, 0x22]);
        assert_eq!(key, RecordingKey::parse(&digits.to_uppercase()).unwrap());
        assert!(!format!("{key:?}").contains("0011"));
        for bad in ["", "00", &digits[1..], &digits.replace('f', "g"), &digits.replace("ff", "é")]
        {
            let error = RecordingKey::parse(bad).unwrap_err().to_string();
            assert!(error.contains("openssl rand -hex 32"), "{error}");
        }
        assert!(RecordingKey::read(Path::new("/nowhere")).is_err());
    }
}
