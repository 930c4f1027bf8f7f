//! WAV files as telephone audio: mono, 16 bit, at one of our rates.

use std::path::Path;

use hound::{SampleFormat, WavReader};
use tandem_media::SampleRate;

/// The longest file that is played, in seconds.
const MAX_SECONDS: u32 = 1800;

/// Zero crossings of the filter on each side.
const LOBES: f64 = 16.0;

/// Mono sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clip {
    /// Its rate.
    pub rate: SampleRate,
    /// Its samples.
    pub pcm: Vec<i16>,
}

/// Reads `file`, of any rate, width and number of channels, as mono samples at `rate`.
///
/// Fails with a text that names the file and says what is wrong with it.
pub fn load(file: &Path, rate: SampleRate) -> Result<Clip, String> {
    let failed = |why: String| format!("{}: {why}", file.display());
    let reader = WavReader::open(file).map_err(|error| match error {
        hound::Error::IoError(error) => failed(error.to_string()),
        error => failed(format!("not a WAV file we can read: {error}")),
    })?;
    let spec = reader.spec();
    if !(4000..=384_000).contains(&spec.sample_rate) || spec.channels == 0 {
        return Err(failed(format!(
            "{} channels at {} Hz is nothing to play",
            spec.channels, spec.sample_rate
        )));
    }
    if reader.duration() > MAX_SECONDS.saturating_mul(spec.sample_rate) {
        return Err(failed(format!("longer than {MAX_SECONDS} s")));
    }
    let samples =
        read_samples(reader).map_err(|error| failed(format!("broken audio data: {error}")))?;
    let channels = usize::from(spec.channels);
    let mono: Vec<f32> = samples
        .chunks_exact(channels)
        .map(|frame| frame.iter().sum::<f32>() / channels as f32)
        .collect();
    Ok(Clip { rate, pcm: resample(&mono, f64::from(spec.sample_rate), rate.hz() as f64) })
}

/// All samples, -1.0 to 1.0, channels interleaved.
fn read_samples<R: std::io::Read>(reader: WavReader<R>) -> Result<Vec<f32>, hound::Error> {
    let spec = reader.spec();
    match spec.sample_format {
        SampleFormat::Float => reader.into_samples::<f32>().collect(),
        SampleFormat::Int => {
            let full_scale = (1_i64 << (spec.bits_per_sample.clamp(1, 32) - 1)) as f32;
            let scaled = |sample: Result<i32, hound::Error>| Ok(sample? as f32 / full_scale);
            reader.into_samples::<i32>().map(scaled).collect()
        }
    }
}

/// Windowed-sinc interpolation from `rate` to `wanted`.
fn resample(input: &[f32], rate: f64, wanted: f64) -> Vec<i16> {
    let to_i16 = |sample: f64| (sample * 32_767.0).round().clamp(-32_768.0, 32_767.0) as i16;
    if rate == wanted {
        return input.iter().map(|&sample| to_i16(sample.into())).collect();
    }
    // The band that both rates have, a little less so that the slope of the filter ends there.
    let band = (wanted / rate).min(1.0) * 0.92;
    let reach = LOBES / band;
    let length = (input.len() as f64 * wanted / rate).round() as usize;
    (0..length)
        .map(|n| {
            let centre = n as f64 * rate / wanted;
            let first = (centre - reach).ceil().max(0.0) as usize;
            let last = ((centre + reach).floor() as usize).min(input.len().saturating_sub(1));
            let weighted = (first..=last).map(|k| {
                let distance = k as f64 - centre;
                f64::from(input[k]) * band * sinc(distance * band) * hann(distance / reach)
            });
            to_i16(weighted.sum())
        })
        .collect()
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x.abs() < 1e-9 { 1.0 } else { x.sin() / x }
}

fn hann(x: f64) -> f64 {
    0.5 + 0.5 * (x * std::f64::consts::PI).cos()
}

#[cfg(test)]
mod tests {
    use hound::{WavSpec, WavWriter};

    use super::*;

    fn spec(channels: u16, sample_rate: u32) -> WavSpec {
        WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format: SampleFormat::Int }
    }

    /// A second of a 1 kHz tone at half of full scale.
    fn write_tone(path: &Path, spec: WavSpec) {
        let mut writer = WavWriter::create(path, spec).unwrap();
        for n in 0..spec.sample_rate {
            let phase = f64::from(n) * 1000.0 / f64::from(spec.sample_rate) * std::f64::consts::TAU;
            for _ in 0..spec.channels {
                match (spec.sample_format, spec.bits_per_sample) {
                    (SampleFormat::Float, _) => {
                        writer.write_sample((phase.sin() * 0.5) as f32).unwrap();
                    }
                    (_, 24) => writer.write_sample((phase.sin() * 4_194_304.0) as i32).unwrap(),
                    _ => writer.write_sample((phase.sin() * 16_384.0) as i16).unwrap(),
                }
            }
        }
        writer.finalize().unwrap();
    }

    #[test]
    fn any_rate_width_and_channel_count_becomes_the_same_tone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tone.wav");
        let wide = WavSpec { bits_per_sample: 24, ..spec(1, 48_000) };
        let float =
            WavSpec { bits_per_sample: 32, sample_format: SampleFormat::Float, ..spec(2, 44_100) };
        for spec in [spec(1, 8000), spec(2, 16_000), spec(1, 22_050), spec(1, 11_025), wide, float]
        {
            write_tone(&path, spec);
            let pcm = load(&path, SampleRate::Hz8000).unwrap().pcm;
            assert_eq!(pcm.len(), 8000, "{spec:?}");
            let wide = load(&path, SampleRate::Hz48000).unwrap();
            assert_eq!((wide.pcm.len(), wide.rate), (48_000, SampleRate::Hz48000), "{spec:?}");
            let middle = &pcm[1000..7000];
            let power =
                middle.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>() / middle.len() as f64;
            let amplitude = (2.0 * power).sqrt();
            assert!((amplitude - 16_384.0).abs() < 350.0, "{spec:?}: {amplitude}");
            let crossings = middle.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
            assert!(crossings.abs_diff(750) <= 1, "{spec:?}: {crossings}");
        }
    }

    #[test]
    fn what_does_not_fit_the_telephone_band_is_filtered_and_not_folded() {
        let tone: Vec<f32> = (0..48_000)
            .map(|n| (f64::from(n) * 6000.0 / 48_000.0 * std::f64::consts::TAU).sin() as f32)
            .collect();
        let peak = |rate: f64| {
            resample(&tone, 48_000.0, rate)[1000..7000].iter().map(|s| s.unsigned_abs()).max()
        };
        assert!(peak(8_000.0).unwrap() < 100, "{:?}", peak(8_000.0));
        assert!(peak(16_000.0).unwrap() > 32_000, "{:?}", peak(16_000.0));
    }

    #[test]
    fn what_is_no_wav_file_is_said_so() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.wav");
        std::fs::write(&path, b"RIFX nonsense").unwrap();
        let load = |path: &Path| load(path, SampleRate::Hz16000).unwrap_err();
        assert!(load(&path).contains("not a WAV file"), "{:?}", load(&path));
        let missing = load(&directory.path().join("none.wav"));
        assert!(missing.contains("none.wav: No such file"), "{missing}");
    }
}
