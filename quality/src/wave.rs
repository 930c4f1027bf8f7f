//! Mono 16-bit WAV files.

use std::path::Path;

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

use crate::error::QualityError;

/// The longest file that is read: two minutes at 48 kHz.
const MAX_SAMPLES: u32 = 120 * 48_000;

/// Writes `pcm` at `rate` samples per second.
pub fn write(path: &Path, rate: usize, pcm: &[i16]) -> Result<(), QualityError> {
    let failed = |source| QualityError::Wave { path: path.into(), source };
    let spec = WavSpec {
        channels: 1,
        sample_rate: rate as u32,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut writer = WavWriter::create(path, spec).map_err(failed)?;
    let mut samples = writer.get_i16_writer(pcm.len() as u32);
    pcm.iter().for_each(|&sample| samples.write_sample(sample));
    samples.flush().map_err(failed)?;
    writer.finalize().map_err(failed)
}

/// Samples and rate of a file of at most two minutes.
pub fn read(path: &Path) -> Result<(Vec<i16>, usize), QualityError> {
    let failed = |source| QualityError::Wave { path: path.into(), source };
    let unusable = |reason| QualityError::Clip { path: path.into(), reason };
    let mut reader = WavReader::open(path).map_err(failed)?;
    let spec = reader.spec();
    if (spec.channels, spec.bits_per_sample, spec.sample_format) != (1, 16, SampleFormat::Int) {
        return Err(unusable("it is not mono with 16 bits"));
    }
    if !(8_000..=48_000).contains(&spec.sample_rate) {
        return Err(unusable("its rate is not between 8 and 48 kHz"));
    }
    if reader.len() > MAX_SAMPLES {
        return Err(unusable("it is longer than two minutes"));
    }
    let pcm = reader.samples().collect::<Result<_, _>>().map_err(failed)?;
    Ok((pcm, spec.sample_rate as usize))
}
