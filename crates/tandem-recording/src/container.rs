//! The file formats behind one face.

use std::io;

use tandem_media::SampleRate;

use crate::{Channels, RecordingFormat, opus_file::OpusFile, wav};

/// A file that grows: samples in, bytes out.
pub(crate) enum Container {
    Wav { rate: SampleRate, channels: Channels, bytes: u64 },
    Ogg(Box<OpusFile>),
}

impl Container {
    /// A file without samples, whose first bytes go to `out`; `serial` is random.
    pub(crate) fn begin(
        format: RecordingFormat,
        rate: SampleRate,
        channels: Channels,
        serial: u32,
        out: &mut Vec<u8>,
    ) -> io::Result<Self> {
        Ok(match format {
            RecordingFormat::Wav => {
                out.extend_from_slice(&wav::header(rate, channels, None));
                Self::Wav { rate, channels, bytes: 0 }
            }
            RecordingFormat::Ogg => {
                Self::Ogg(Box::new(OpusFile::new(rate, channels, serial, out)?))
            }
        })
    }

    /// Takes interleaved samples; what is complete goes to `out`.
    pub(crate) fn push(&mut self, samples: &[i16], out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Wav { bytes, .. } => {
                *bytes += 2 * samples.len() as u64;
                out.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
                Ok(())
            }
            Self::Ogg(file) => file.push(samples, out),
        }
    }

    /// How many channels it has.
    pub(crate) const fn channels(&self) -> usize {
        match self {
            Self::Wav { channels, .. } => channels.count(),
            Self::Ogg(file) => file.channels().count(),
        }
    }

    /// Whether `samples` more have no room.
    pub(crate) fn is_full(&self, samples: usize) -> bool {
        matches!(self, Self::Wav { bytes, .. } if bytes + 2 * samples as u64 > wav::MOST)
    }

    /// Makes what was taken readable.
    pub(crate) fn flush(&mut self, out: &mut Vec<u8>) {
        if let Self::Ogg(file) = self {
            file.flush(out);
        }
    }

    /// The last bytes.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        match self {
            Self::Wav { .. } => Ok(()),
            Self::Ogg(file) => file.finish(out),
        }
    }

    /// The file's new first bytes when it is `length` bytes long.
    pub(crate) fn head(&self, length: u64) -> Option<[u8; wav::HEADER]> {
        match self {
            Self::Wav { rate, channels, .. } => {
                let bytes = length.saturating_sub(wav::HEADER as u64);
                Some(wav::header(*rate, *channels, Some(bytes)))
            }
            Self::Ogg(_) => None,
        }
    }
}
