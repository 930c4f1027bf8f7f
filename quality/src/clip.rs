//! Speech to listen with: six voices of espeak-ng, or files of one's own.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use tandem_media::SampleRate;

use crate::{error::QualityError, ideal, wave};

/// Mean level of the parts that are speech, as ITU-T P.56 and PESQ's makers want it: 26 dB below overload.
const LEVEL_DB: f64 = -26.0;
/// Silence before and after, in milliseconds: PESQ looks for the beginning of speech.
const MARGIN_MS: usize = 300;
/// What `.. --clips` takes at most.
const MAX_CLIPS: usize = 32;

/// Name, espeak-ng voice, words a minute, text. Three men, three women, four languages; about eight seconds each.
const VOICES: [(&str, &str, u32, &str); 6] = [
    (
        "en-us-man",
        "en-us+m3",
        150,
        "Thank you for calling Acme Bicycles. Our workshop opens at half past eight, and we close at six. How can I help you today?",
    ),
    (
        "en-us-woman",
        "en-us+f3",
        155,
        "My order number is four, seven, nine, two. The front wheel arrived bent, so I would like to exchange it, please.",
    ),
    (
        "en-gb-woman",
        "en-gb-x-rp+f2",
        150,
        "Could you put me through to the billing department? I was charged twice this month, on the third and again on the fifth.",
    ),
    (
        "en-scotland-man",
        "en-gb-scotland+m1",
        145,
        "She sells six thick thistle sticks, while the judge chewed yellow cheese. We were away a year ago; why were you weary?",
    ),
    (
        "de-woman",
        "de+f4",
        150,
        "Guten Tag, ich möchte meinen Termin am Donnerstag verschieben. Passt es Ihnen auch am Freitag um zwanzig nach neun?",
    ),
    (
        "es-man",
        "es+m7",
        150,
        "Buenos días, llamo por la bicicleta roja que dejé el jueves. ¿Me puede decir cuánto cuesta la reparación y cuándo estará lista?",
    ),
];

/// One piece of speech at its source's rate.
#[derive(Debug, Clone)]
pub struct Clip {
    /// A name for files and tables.
    pub name: String,
    rate: usize,
    samples: Vec<f64>,
}

impl Clip {
    /// A clip of `pcm`, brought to the usual level and given silence at both ends.
    pub fn new(name: impl Into<String>, rate: usize, pcm: &[i16]) -> Self {
        let gain = 10f64.powf((LEVEL_DB - active_level(rate, pcm)) / 20.0);
        // A loud peak limits the level: nothing clips.
        let peak = pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
        let gain = gain.min(30_000.0 / f64::from(peak.max(1)));
        let margin = vec![0.0; rate * MARGIN_MS / 1_000];
        let mut samples = margin.clone();
        samples.extend(pcm.iter().map(|&sample| f64::from(sample) * gain));
        samples.extend(margin);
        Self { name: name.into(), rate, samples }
    }

    /// The clip at `rate`, a whole number of packets of 20 ms.
    pub fn at(&self, rate: SampleRate) -> Vec<i16> {
        let mut samples = ideal::convert(self.rate, rate.hz(), &self.samples);
        // The packets of all rates are counted at the lowest one, so that they are equally many.
        let packets = self.samples.len() * 50 / self.rate;
        samples.resize(packets * rate.hz() / 50, 0.0);
        ideal::to_pcm(&samples)
    }
}

/// The six clips, said by espeak-ng into `directory`, and the version that said them.
pub fn speak(directory: &Path) -> Result<(Vec<Clip>, String), QualityError> {
    let version = Command::new("espeak-ng")
        .arg("--version")
        .stdin(Stdio::null())
        .output()
        .map_err(QualityError::NoSpeech)?;
    let version = String::from_utf8_lossy(&version.stdout);
    // "eSpeak NG text-to-speech: 1.51  Data at: .."
    let version =
        version.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let clips = VOICES
        .iter()
        .map(|&(name, voice, speed, text)| {
            let path = directory.join(format!("{name}.espeak.wav"));
            say(name, voice, speed, text, &path)?;
            let (pcm, rate) = wave::read(&path)?;
            Ok(Clip::new(name, rate, &pcm))
        })
        .collect::<Result<_, QualityError>>()?;
    Ok((clips, format!("espeak-ng {}", version.unwrap_or("of unknown version"))))
}

/// Every WAV file in `directory`, in the order of their names, at most 32.
pub fn load(directory: &Path) -> Result<Vec<Clip>, QualityError> {
    let failed = |source| QualityError::Io { path: directory.into(), source };
    let mut paths = fs::read_dir(directory)
        .map_err(failed)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, io::Error>>()
        .map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "wav"));
    paths.sort();
    paths.truncate(MAX_CLIPS);
    if paths.is_empty() {
        return Err(QualityError::Clip { path: directory.into(), reason: "it holds no WAV file" });
    }
    paths
        .iter()
        .map(|path| {
            let (pcm, rate) = wave::read(path)?;
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            Ok(Clip::new(name, rate, &pcm))
        })
        .collect()
}

pub(crate) fn say(
    name: &str,
    voice: &str,
    speed: u32,
    text: &str,
    wave: &Path,
) -> Result<(), QualityError> {
    let speed = speed.to_string();
    let output = Command::new("espeak-ng")
        .args(["-v", voice, "-s", &speed, "-w"])
        .arg(wave)
        .arg(text)
        .stdin(Stdio::null())
        .output()
        .map_err(QualityError::NoSpeech)?;
    if output.status.success() {
        return Ok(());
    }
    let reason = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(QualityError::Speech { clip: name.into(), reason })
}

/// Mean level of the stretches of 20 ms that are less than 40 dB below the loudest, in dB of overload.
pub(crate) fn active_level(rate: usize, pcm: &[i16]) -> f64 {
    let powers: Vec<f64> = pcm
        .chunks(rate / 50)
        .map(|chunk| {
            let sum: f64 = chunk.iter().map(|&sample| f64::from(sample).powi(2)).sum();
            sum / chunk.len() as f64
        })
        .collect();
    let loudest = powers.iter().copied().fold(1.0, f64::max);
    let active: Vec<f64> = powers.into_iter().filter(|power| *power >= loudest * 1e-4).collect();
    let mean = active.iter().sum::<f64>() / active.len().max(1) as f64;
    10.0 * (mean.max(1.0) / (32_768.0 * 32_768.0)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_has_its_level_at_every_rate() {
        let loud: Vec<i16> = (0..22_050)
            .map(|n| (20_000.0 * (n as f64 * 0.2).sin()) as i16)
            .chain(vec![0; 22_050])
            .collect();
        let clip = Clip::new("tone", 22_050, &loud);
        for rate in [SampleRate::Hz8000, SampleRate::Hz24000, SampleRate::Hz48000] {
            let pcm = clip.at(rate);
            assert_eq!(pcm.len(), rate.hz() * 26 / 10, "{rate:?}");
            let level = active_level(rate.hz(), &pcm);
            assert!((level - LEVEL_DB).abs() < 0.3, "{rate:?}: {level}");
            assert!(pcm[..rate.hz() / 4].iter().all(|sample| sample.abs() < 30), "{rate:?}");
        }
    }

    #[test]
    fn silence_stays_silent_and_nothing_clips() {
        assert!(
            Clip::new("silence", 8_000, &[0; 800]).at(SampleRate::Hz8000).iter().all(|s| *s == 0)
        );
        // A single sample is so short that its level would have to go above overload.
        let mut click = [0; 9_600];
        click[4_000] = 300;
        let clip = Clip::new("click", 48_000, &click).at(SampleRate::Hz48000);
        assert_eq!(clip.iter().copied().max(), Some(30_000));
    }
}
