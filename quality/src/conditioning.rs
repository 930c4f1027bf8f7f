//! What noise suppression and level control do to the caller's voice, on its way from G.711 to the model.

use tandem_media::{GainControl, Law, SampleRate, VoiceSettings};

use crate::{
    clip::active_level,
    error::QualityError,
    ideal,
    maker::{Maker, Voice},
    manifest::Figure,
    noise::Noise,
    telephone,
};

const RATE: SampleRate = SampleRate::Hz8000;
/// Mean level of the clips' speech, dB of overload.
const LEVEL_DB: f64 = -26.0;
/// Noise alone before the speech, which the suppressor learns from and PESQ does not hear.
const LEAD_IN: usize = 8_000;

/// The clip `n` in noises, as it comes and suppressed. The other clips talk in the babble.
pub(crate) fn noise(maker: &mut Maker, voices: &[Voice], n: usize) -> Result<(), QualityError> {
    let voice = &voices[n];
    let others: Vec<Vec<f64>> = voices
        .iter()
        .filter(|other| voices.len() == 1 || other.name != voice.name)
        .map(|other| other.narrow.iter().map(|&sample| f64::from(sample)).collect())
        .collect();
    let mut clean = vec![0; LEAD_IN];
    clean.extend_from_slice(&voice.narrow);
    for kind in Noise::ALL {
        let noise = kind.make(RATE.hz(), clean.len(), &others, n as u64 + 1);
        for snr in [15, 10, 5] {
            let gain = 32_768.0 * 10f64.powf((LEVEL_DB - f64::from(snr)) / 20.0);
            let sum: Vec<f64> = clean
                .iter()
                .zip(&noise)
                .map(|(&sample, noise)| {
                    (f64::from(sample) + gain * noise).clamp(-32_768.0, 32_767.0)
                })
                .collect();
            let (came, heard) = compare(&denoising(), &ideal::to_pcm(&sum));
            let row = format!("{}, {snr} dB", kind.name());
            maker.narrow("noise", &row, "as it comes", voice, None, &came[LEAD_IN..])?;
            maker.narrow("noise", &row, "suppressed", voice, None, &heard[LEAD_IN..])?;
        }
    }
    // What it does to a voice that needs none of it.
    let (came, heard) = compare(&denoising(), &clean);
    maker.narrow("noise", "none", "as it comes", voice, None, &came[LEAD_IN..])?;
    maker.narrow("noise", "none", "suppressed", voice, None, &heard[LEAD_IN..])
}

/// Callers of several levels, brought to one; measured once the control has heard them for some time.
pub(crate) fn level(maker: &mut Maker, voices: &[Voice]) -> Result<(), QualityError> {
    for level in [-42, -36, -26, -16, -11] {
        let gain = 10f64.powf((f64::from(level) - LEVEL_DB) / 20.0);
        let row = format!("{level} dB");
        let (mut lowest, mut highest) = (0.0_f64, -100.0_f64);
        for voice in voices {
            let scaled: Vec<i16> = voice
                .narrow
                .iter()
                .map(|&sample| (f64::from(sample) * gain).round().clamp(-32_768.0, 32_767.0) as i16)
                .collect();
            let (came, heard) = compare(&levelling(), &[&scaled[..], &scaled[..]].concat());
            let (came, heard) = (&came[scaled.len()..], &heard[scaled.len()..]);
            let became = active_level(RATE.hz(), heard);
            (lowest, highest) = (lowest.min(became), highest.max(became));
            maker.narrow("level", &row, "as it comes", voice, None, came)?;
            maker.narrow("level", &row, "controlled", voice, None, heard)?;
        }
        for (column, value) in [("lowest", lowest), ("highest", highest)] {
            let (table, row, unit) = ("level", row.clone(), "dB");
            maker.figure(Figure { table, row, column, value, unit, tolerance: 0.0 });
        }
    }
    Ok(())
}

/// How much of an offset is left.
pub(crate) fn offset(maker: &mut Maker, voices: &[Voice]) {
    const OFFSET: i16 = 2_000;
    let mut worst = 0.0_f64;
    for voice in voices {
        let shifted: Vec<i16> =
            voice.narrow.iter().map(|&sample| sample.saturating_add(OFFSET)).collect();
        let (_, heard) = compare(&levelling(), &shifted);
        let settled = &heard[RATE.hz()..];
        let mean =
            settled.iter().map(|&sample| f64::from(sample)).sum::<f64>() / settled.len() as f64;
        worst = worst.max(mean.abs());
    }
    maker.figure(Figure {
        table: "offset",
        row: "offset of 2,000".into(),
        column: "left",
        value: 20.0 * (worst.max(0.1) / f64::from(OFFSET)).log10(),
        unit: "dB",
        tolerance: 6.0,
    });
}

fn denoising() -> VoiceSettings {
    VoiceSettings { denoise: true, ..VoiceSettings::default() }
}

fn levelling() -> VoiceSettings {
    VoiceSettings { gain_control: Some(GainControl::default()), ..VoiceSettings::default() }
}

/// What a model hears of a caller whom the leg leaves as he is, and treats by `settings`.
fn compare(settings: &VoiceSettings, pcm: &[i16]) -> (Vec<i16>, Vec<i16>) {
    let mu = telephone::encode(Law::Mu, pcm);
    let heard = telephone::treated(settings, &mu);
    (telephone::decode(Law::Mu, &mu), heard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_done_and_the_length_stays() {
        let hiss: Vec<i16> = {
            let mut random = crate::loss::Random::new(3);
            (0..32_000).map(|_| random.below(1_600) as i16 - 800).collect()
        };
        let power = |pcm: &[i16]| pcm.iter().map(|&s| f64::from(s).powi(2)).sum::<f64>();
        let (came, heard) = compare(&denoising(), &hiss);
        assert_eq!((came.len(), heard.len()), (32_000, 32_000));
        assert!(power(&heard[16_000..]) < power(&came[16_000..]) / 4.0);
        let (came, heard) = compare(&VoiceSettings::default(), &hiss);
        assert_eq!(came, heard, "nothing asked");
    }
}
