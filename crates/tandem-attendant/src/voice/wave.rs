//! Waves as speech programs write them, brought to the rate of the session.

use std::{f32::consts::PI, io::Cursor};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

/// Half the length of the interpolation filter, in samples of the lower rate.
const HALF_TAPS: f32 = 16.0;
/// Rates a speech program may have.
const RATES: std::ops::RangeInclusive<u32> = 8_000..=48_000;

/// The mono samples and the rate of a 16-bit WAV file; more channels are averaged.
pub(crate) fn parse(wav: &[u8]) -> Result<(Vec<i16>, u32), String> {
    let reader = WavReader::new(Cursor::new(wav)).map_err(|error| error.to_string())?;
    let WavSpec { channels, sample_rate, bits_per_sample, sample_format } = reader.spec();
    if (bits_per_sample, sample_format) != (16, SampleFormat::Int) {
        return Err(format!(
            "{bits_per_sample}-bit {sample_format:?} samples instead of 16-bit integers"
        ));
    }
    if channels == 0 || !RATES.contains(&sample_rate) {
        return Err(format!("{channels} channels at {sample_rate} Hz"));
    }
    let samples = reader
        .into_samples::<i16>()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let mono = samples
        .chunks_exact(usize::from(channels))
        .map(|frame| {
            (frame.iter().map(|&sample| i32::from(sample)).sum::<i32>() / i32::from(channels))
                as i16
        })
        .collect();
    Ok((mono, sample_rate))
}

/// A mono 16-bit WAV file.
pub(crate) fn write(pcm: &[i16], rate: u32) -> Result<Vec<u8>, hound::Error> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: rate,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let mut wav = Cursor::new(Vec::with_capacity(44 + pcm.len() * 2));
    let mut writer = WavWriter::new(&mut wav, spec)?;
    for &sample in pcm {
        writer.write_sample(sample)?;
    }
    writer.finalize()?;
    Ok(wav.into_inner())
}

/// `pcm` at another rate, any pair of rates: a windowed sinc with one table row for each phase of the output.
///
/// For whole sentences, away from the frame path: nothing is kept from one call to the next.
pub(crate) fn resample(pcm: &[i16], from: u32, to: u32) -> Vec<i16> {
    if from == to || pcm.is_empty() {
        return pcm.to_vec();
    }
    let divisor = greatest_common_divisor(from, to);
    let (phases, stride) = (to / divisor, from / divisor); // Output n lies at input position n * stride / phases.
    let cutoff = (to as f32 / from as f32).min(1.0) * 0.95; // Of the input's Nyquist frequency.
    let reach = (HALF_TAPS / cutoff).ceil() as usize;
    let taps = 2 * reach;
    let table: Vec<f32> = (0..phases)
        .flat_map(|phase| {
            let fraction = phase as f32 / phases as f32;
            (0..taps).map(move |tap| {
                let distance = tap as f32 + 1.0 - reach as f32 - fraction;
                cutoff * sinc(distance * cutoff) * hann(distance / reach as f32)
            })
        })
        .collect();
    let mut padded = vec![0.0; reach - 1];
    padded.extend(pcm.iter().map(|&sample| f32::from(sample)));
    padded.resize(padded.len() + reach, 0.0);
    let length = pcm.len() as u64 * u64::from(phases) / u64::from(stride);
    (0..length)
        .map(|n| {
            let at = n * u64::from(stride);
            let (first, phase) =
                ((at / u64::from(phases)) as usize, (at % u64::from(phases)) as usize);
            let row = &table[phase * taps..][..taps];
            let sum: f32 =
                padded[first..first + taps].iter().zip(row).map(|(sample, tap)| sample * tap).sum();
            sum.round() as i16 // Saturates.
        })
        .collect()
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

fn sinc(x: f32) -> f32 {
    if x.abs() < 1e-6 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

fn hann(x: f32) -> f32 {
    0.5 + 0.5 * (PI * x).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(hz: f32, rate: u32, samples: usize) -> Vec<i16> {
        (0..samples)
            .map(|n| ((2.0 * PI * hz * n as f32 / rate as f32).sin() * 10_000.0) as i16)
            .collect()
    }

    fn rms(pcm: &[i16]) -> f32 {
        (pcm.iter().map(|&sample| f32::from(sample).powi(2)).sum::<f32>() / pcm.len() as f32).sqrt()
    }

    #[test]
    fn speech_keeps_its_pitch_and_level() {
        for (from, to, hz) in
            [(22_050, 16_000, 1_000.0), (8_000, 16_000, 3_000.0), (16_000, 8_000, 500.0)]
        {
            let resampled = resample(&sine(hz, from, from as usize), from, to);
            assert_eq!(resampled.len(), to as usize);
            let expected = sine(hz, to, to as usize);
            let inside = 200..to as usize - 200;
            let error: Vec<i16> = resampled[inside.clone()]
                .iter()
                .zip(&expected[inside])
                .map(|(a, b)| a - b)
                .collect();
            assert!(rms(&error) < 100.0, "{from} to {to}: {}", rms(&error));
        }
    }

    #[test]
    fn nothing_folds_down() {
        let resampled = resample(&sine(6_000.0, 16_000, 16_000), 16_000, 8_000);
        assert!(rms(&resampled[100..7_900]) < 30.0);
        assert!(resample(&[], 8_000, 16_000).is_empty());
    }

    #[test]
    fn a_wave_is_read_as_written() {
        let pcm = sine(440.0, 16_000, 500);
        let wav = write(&pcm, 16_000).unwrap();
        assert_eq!(parse(&wav).unwrap(), (pcm, 16_000));
        assert!(parse(&wav[..20]).is_err());
        assert!(parse(b"no wave at all").is_err());
    }
}
