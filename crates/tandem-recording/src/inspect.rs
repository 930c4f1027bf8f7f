//! Reads recordings again: what a file holds, and how a sealed one becomes one that can be played.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, BufWriter, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use tandem_media::SampleRate;

use crate::{
    Channels, KeyId, RecordingFormat, RecordingKey, UnsealError, Unsealed, is_sealed, ogg,
    opus_file, sealing, unseal, wav,
};

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The key it is sealed with.
    pub sealed: Option<KeyId>,
    /// What it holds; none of a sealed file whose key is not given.
    pub contents: Option<Contents>,
    /// Its end is there; not known of a WAV file that is not sealed, nor of a sealed file without its key.
    pub complete: Option<bool>,
    /// Bytes of the file.
    pub size_bytes: u64,
}

/// What a recording holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// How it is written.
    pub format: RecordingFormat,
    /// Its samples per second.
    pub rate: SampleRate,
    /// Its channels.
    pub channels: Channels,
    /// How long it is.
    pub duration: Duration,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It can't be opened, read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It can't be unsealed.
    #[error("{}: {source}", path.display())]
    Unseal {
        /// Which.
        path: PathBuf,
        /// Why.
        source: UnsealError,
    },
    /// It is something else.
    #[error("{}: this is no recording of Tandem", path.display())]
    NoRecording {
        /// Which.
        path: PathBuf,
    },
}

/// What the file `path` is, and with its `key` what a sealed one holds.
pub fn inspect(path: &Path, key: Option<&RecordingKey>) -> Result<About, InspectError> {
    let path = || path.to_owned();
    let about = File::open(path()).map_err(UnsealError::Io).and_then(|file| {
        let size_bytes = file.metadata()?.len();
        examine(&mut BufReader::new(file), size_bytes, key)
    });
    match about {
        Ok(Some(about)) => Ok(about),
        Ok(None) => Err(InspectError::NoRecording { path: path() }),
        Err(UnsealError::Io(source)) => Err(InspectError::Io { path: path(), source }),
        Err(source) => Err(InspectError::Unseal { path: path(), source }),
    }
}

/// What the file of `size_bytes` is that `input` gives, and with its `key` what a sealed one holds; none when it is no recording.
///
/// A file whose end is missing is told of as far as it is there; an error when it can't be read or was changed.
pub fn examine(
    input: &mut impl Read,
    size_bytes: u64,
    key: Option<&RecordingKey>,
) -> Result<Option<About>, UnsealError> {
    let mut beginning = [0; 16];
    let read = sealing::fill(input, &mut beginning)?;
    let mut whole = beginning[..read].chain(input);
    let mut probe = Probe::default();
    let (sealed, complete) = if is_sealed(&beginning[..read]) {
        let sealed = Some(sealing::key_id(&beginning));
        let Some(key) = key else {
            return Ok(Some(About { sealed, contents: None, complete: None, size_bytes }));
        };
        let unsealed = unseal(&mut whole, key, &mut probe)?;
        (sealed, Some(unsealed.complete))
    } else {
        io::copy(&mut whole, &mut probe)?;
        (None, probe.is_complete())
    };
    let contents = probe.contents();
    Ok(contents.map(|contents| About { sealed, contents: Some(contents), complete, size_bytes }))
}

/// Writes what the sealed file `input` holds to the new file `output`, which only its owner may read, as far as it is there.
///
/// Nothing is left behind of a file that is not what was written.
pub fn unseal_file(
    input: &Path,
    key: &RecordingKey,
    output: &Path,
) -> Result<Unsealed, InspectError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| InspectError::Io { path, source }
    };
    let mut from = BufReader::new(File::open(input).map_err(io(input))?);
    let to = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(output);
    let mut to = BufWriter::new(to.map_err(io(output))?);
    let unsealed = unseal(&mut from, key, &mut to)
        .map_err(|source| InspectError::Unseal { path: input.to_owned(), source })
        .and_then(|unsealed| {
            to.flush().and_then(|()| set_length(to.get_ref())).map_err(io(output))?;
            Ok(unsealed)
        });
    if unsealed.is_err() {
        fs::remove_file(output).ok();
    }
    unsealed
}

/// Gives the header of a WAV file the length it could not have while it was sealed.
fn set_length(file: &File) -> io::Result<()> {
    let mut header = [0; wav::HEADER];
    let read = file.read_at(&mut header, 0)?;
    if let Some((rate, channels, _)) = wav::read_header(&header[..read]) {
        let bytes = file.metadata()?.len().saturating_sub(wav::HEADER as u64);
        file.write_all_at(&wav::header(rate, channels, Some(bytes)), 0)?;
    }
    Ok(())
}

/// How long so many frames are, also where a broken file claims absurdly many.
fn duration_of(rate: SampleRate, frames: u64) -> Duration {
    let hz = rate.hz() as u64;
    Duration::from_secs(frames / hz) + rate.duration_of((frames % hz) as usize)
}

/// Looks at the contents of a file as they come by.
#[derive(Debug, Default)]
struct Probe {
    /// Bytes that came.
    length: u64,
    /// The first of them.
    beginning: Vec<u8>,
    /// Of an Ogg file: what is no whole page yet, where the stream has come to, whether it has ended.
    page: Vec<u8>,
    granule: u64,
    ended: bool,
}

/// The first page of an Ogg/Opus file, and the header of a WAV file, are no longer than this.
const BEGINNING: usize = 64;

impl Probe {
    fn contents(&self) -> Option<Contents> {
        if let Some((rate, channels, _)) = wav::read_header(&self.beginning) {
            let bytes = self.length - wav::HEADER as u64;
            let duration = duration_of(rate, bytes / (2 * channels.count() as u64));
            return Some(Contents { format: RecordingFormat::Wav, rate, channels, duration });
        }
        ogg::read_page_head(&self.beginning)?;
        let (rate, channels, pre_skip) = opus_file::read_head(self.beginning.get(28..)?)?;
        let duration = duration_of(SampleRate::Hz48000, self.granule.saturating_sub(pre_skip));
        Some(Contents { format: RecordingFormat::Ogg, rate, channels, duration })
    }

    /// Whether the end is there, where the format tells.
    fn is_complete(&self) -> Option<bool> {
        ogg::read_page_head(&self.beginning).map(|_| self.ended)
    }
}

impl Write for Probe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.length += bytes.len() as u64;
        let room = BEGINNING - self.beginning.len();
        self.beginning.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if b"OggS".starts_with(&self.beginning[..self.beginning.len().min(4)]) {
            self.page.extend_from_slice(bytes);
            let mut read = 0;
            while let Some(page) = ogg::read_page(&self.page[read..]) {
                (self.granule, self.ended) = (page.granule, page.is_last);
                read += page.length;
            }
            self.page.drain(..read);
            if self.page.len() > ogg::LONGEST_PAGE {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a page of Ogg is broken"));
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::Container;

    /// A recording of 100 ms.
    fn recording(format: RecordingFormat) -> Vec<u8> {
        let (rate, channels) = (SampleRate::Hz16000, Channels::Stereo);
        let mut file = Vec::new();
        let mut container = Container::begin(format, rate, channels, 1, &mut file).unwrap();
        container.push(&[100; 3_200], &mut file).unwrap();
        container.finish(&mut file).unwrap();
        if let Some(head) = container.head(file.len() as u64) {
            file[..head.len()].copy_from_slice(&head);
        }
        file
    }

    fn inspected(file: &[u8]) -> Result<About, InspectError> {
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(path.path(), file).unwrap();
        inspect(path.path(), None)
    }

    #[test]
    fn a_file_says_what_it_holds() {
        for (format, complete) in [(RecordingFormat::Wav, None), (RecordingFormat::Ogg, Some(true))]
        {
            let about = inspected(&recording(format)).unwrap();
            let contents = about.contents.unwrap();
            assert_eq!((contents.format, contents.rate.hz()), (format, 16_000));
            assert_eq!(contents.duration, Duration::from_millis(100));
            assert_eq!((about.sealed, about.complete), (None, complete));
        }
        assert!(matches!(inspected(b"RIFFxxxxWAVE"), Err(InspectError::NoRecording { .. })));
        assert!(matches!(inspected(b""), Err(InspectError::NoRecording { .. })));
    }

    #[test]
    fn a_broken_file_is_an_error_and_never_a_panic() {
        for format in [RecordingFormat::Wav, RecordingFormat::Ogg] {
            let file = recording(format);
            for end in (0..file.len()).step_by(7) {
                let _ = inspected(&file[..end]);
            }
            for at in 0..file.len().min(400) {
                let mut broken = file.clone();
                broken[at] ^= 0xFF;
                let _ = inspected(&broken);
            }
        }
    }
}
