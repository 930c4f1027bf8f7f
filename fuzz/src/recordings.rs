//! Files that claim to be recordings.

use std::io::{self, Read};

use tandem_recording::{RecordingKey, UnsealError, Unsealed, examine, unseal};

/// The key of the sealed seeds, as its file has it.
pub const SEEDS_KEY: &str = "5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed5eed";

/// A file is told of or refused, the same however it is cut into reads.
pub fn recording(bytes: &[u8]) {
    let size = bytes.len() as u64;
    let read = |input: &mut dyn Read| {
        examine(&mut { input }, size, Some(&key())).map_err(|error| error.to_string())
    };
    let about = read(&mut { bytes });
    assert_eq!(about, read(&mut Pieces { rest: bytes, length: 1 + bytes.len() % 7 }));
    let Ok(Some(about)) = about else { return };
    assert!(about.contents.is_some() && about.size_bytes == size);
}

/// A sealed file gives what was sealed or is refused, and its beginning gives the beginning of that.
pub fn sealed_recording(bytes: &[u8]) {
    let Ok((unsealed, contents)) = unsealed(bytes) else { return };
    assert_eq!(unsealed.bytes, contents.len() as u64);
    assert!(contents.len() < bytes.len());
    let end = bytes.len() - 1 - contents.len() % bytes.len();
    match self::unsealed(&bytes[..end]) {
        Ok((cut, beginning)) => {
            assert!(!cut.complete && contents.starts_with(&beginning));
        }
        Err(UnsealError::NotSealed) => assert!(end < 8),
        Err(error) => panic!("what can be read whole can be read in part: {error}"),
    }
}

fn unsealed(mut bytes: &[u8]) -> Result<(Unsealed, Vec<u8>), UnsealError> {
    let mut contents = Vec::new();
    let unsealed = unseal(&mut bytes, &key(), &mut contents)?;
    Ok((unsealed, contents))
}

fn key() -> RecordingKey {
    RecordingKey::parse(SEEDS_KEY).expect("these are 64 hexadecimal digits")
}

/// Gives so many bytes at a time.
struct Pieces<'a> {
    rest: &'a [u8],
    length: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.length.min(buffer.len());
        self.rest.read(&mut buffer[..length])
    }
}
