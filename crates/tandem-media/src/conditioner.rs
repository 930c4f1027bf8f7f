//! Makes the caller's voice better to understand before the model hears it.

mod denoiser;
mod level;

use std::time::Duration;

use crate::{SampleRate, VoiceSettings, lanes::to_pcm};
use denoiser::Denoiser;
use level::{DcBlocker, LevelControl};

/// Samples treated in one go; longer frames are taken in such blocks.
const BLOCK: usize = 480;

/// Takes offset and noise out of the caller's audio and brings it to a level, as far as a [`VoiceSettings`] asks for it.
///
/// Mono `i16` PCM, in place, frames of any length; nothing is allocated. The sound comes out [`delay`](Self::delay) later.
#[derive(Debug)]
pub struct Conditioner {
    rate: SampleRate,
    offset: DcBlocker,
    denoiser: Option<Box<Denoiser>>,
    level: Option<LevelControl>,
}

impl Conditioner {
    /// A conditioner for audio of `rate`; none where nothing is to be done.
    pub fn new(rate: SampleRate, settings: &VoiceSettings) -> Option<Self> {
        if !settings.denoise && settings.gain_control.is_none() {
            return None;
        }
        Some(Self {
            rate,
            offset: DcBlocker::new(rate),
            denoiser: settings.denoise.then(|| Box::new(Denoiser::new(rate))),
            level: settings.gain_control.map(|control| LevelControl::new(rate, control)),
        })
    }

    /// The rate it was made for.
    pub const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// How much later than its input a sound comes out: 10 ms at 8 kHz with noise suppression, 5 ms at 16 kHz, less above;
    /// nothing without.
    pub fn delay(&self) -> Duration {
        let samples = self.denoiser.as_ref().map_or(0, |_| denoiser::REACH);
        self.rate.duration_of(samples)
    }

    /// Replaces `pcm` by what the model is to hear. `speech`: the caller speaks in it, which is what the level is taken from.
    pub fn process(&mut self, pcm: &mut [i16], speech: bool) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, all that `process_avx2` asks for.
            return unsafe { self.process_avx2(pcm, speech) };
        }
        self.process_lanes(pcm, speech);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn process_avx2(&mut self, pcm: &mut [i16], speech: bool) {
        self.process_lanes(pcm, speech);
    }

    // Inlined, so that it is compiled for the instructions of each caller.
    #[inline(always)]
    fn process_lanes(&mut self, pcm: &mut [i16], speech: bool) {
        let mut block = [0.0; BLOCK];
        for chunk in pcm.chunks_mut(BLOCK) {
            let block = &mut block[..chunk.len()];
            for (slot, &sample) in block.iter_mut().zip(chunk.iter()) {
                *slot = f32::from(sample);
            }
            self.offset.process(block);
            if let Some(denoiser) = &mut self.denoiser {
                denoiser.process(block);
            }
            if let Some(level) = &mut self.level {
                level.process(block, speech);
            }
            for (sample, &value) in chunk.iter_mut().zip(block.iter()) {
                *sample = to_pcm(value);
            }
        }
    }

    /// Forgets the sound, as after a pause; what was learnt of noise and level stays.
    pub fn reset(&mut self) {
        self.offset.reset();
        if let Some(denoiser) = &mut self.denoiser {
            denoiser.reset();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::GainControl;

    const RATES: [SampleRate; 4] =
        [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];

    fn denoising() -> VoiceSettings {
        VoiceSettings { denoise: true, ..VoiceSettings::default() }
    }

    fn levelling() -> VoiceSettings {
        VoiceSettings { gain_control: Some(GainControl::default()), ..VoiceSettings::default() }
    }

    /// Uniform white noise.
    fn noise(samples: usize, peak: f32) -> Vec<i16> {
        let mut state = 1u32;
        (0..samples)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (((state >> 8) as f32 / 8_388_608.0 - 1.0) * peak) as i16
            })
            .collect()
    }

    /// Harmonics of a gliding voice in syllables of a quarter of a second.
    fn voice(rate: SampleRate, samples: usize, peak: f32) -> Vec<i16> {
        let mut phase = 0.0f32;
        (0..samples)
            .map(|n| {
                let time = n as f32 / rate.hz() as f32;
                phase += (130.0 + 25.0 * (time * 5.0).sin()) / rate.hz() as f32;
                phase -= phase.floor();
                let syllable = (time * 4.0 * std::f32::consts::PI).sin().max(0.0);
                let sum: f32 = (1..=12)
                    .map(|k| (std::f32::consts::TAU * phase * k as f32).sin() / k as f32)
                    .sum();
                (sum * syllable * peak * 0.5) as i16
            })
            .collect()
    }

    fn mix(a: &[i16], b: &[i16]) -> Vec<i16> {
        a.iter().zip(b).map(|(a, b)| a.saturating_add(*b)).collect()
    }

    fn db(pcm: &[i16]) -> f64 {
        let sum: f64 = pcm.iter().map(|&sample| f64::from(sample).powi(2)).sum();
        10.0 * (sum / pcm.len() as f64 + 1e-9).log10() - 90.3
    }

    fn condition(
        rate: SampleRate,
        settings: &VoiceSettings,
        pcm: &[i16],
        frame: usize,
    ) -> Vec<i16> {
        let mut conditioner = Conditioner::new(rate, settings).expect("something is asked for");
        let mut out = pcm.to_vec();
        out.chunks_mut(frame).for_each(|frame| conditioner.process(frame, true));
        out
    }

    #[test]
    fn nothing_asked_is_nothing_done() {
        assert!(Conditioner::new(SampleRate::Hz8000, &VoiceSettings::default()).is_none());
    }

    #[test]
    fn an_offset_goes_and_the_sound_stays() {
        for rate in RATES {
            let with: Vec<i16> =
                voice(rate, rate.hz() * 2, 6_000.0).iter().map(|s| s + 1_500).collect();
            let out = condition(rate, &levelling(), &with, rate.hz() / 50);
            let half = &out[rate.hz()..];
            let mean = half.iter().map(|&s| f64::from(s)).sum::<f64>() / half.len() as f64;
            assert!(mean.abs() < 100.0, "{rate:?}: {mean}");
        }
    }

    #[test]
    fn steady_noise_falls_by_10_db_and_speech_by_less_than_2() {
        for rate in RATES {
            let length = rate.hz() * 4;
            let background = noise(length, 600.0);
            let mut pcm = background.clone();
            let spoken = mix(&voice(rate, length / 2, 16_000.0), &background[length / 2..]);
            pcm[length / 2..].copy_from_slice(&spoken);
            let out = condition(rate, &denoising(), &pcm, rate.hz() / 50);
            let quiet = rate.hz()..2 * rate.hz();
            let fall = db(&pcm[quiet.clone()]) - db(&out[quiet]);
            assert!(fall > 10.0, "{rate:?}: noise fell by {fall:.1} dB");
            let loss = db(&pcm[length / 2..]) - db(&out[length / 2..]);
            assert!(loss.abs() < 2.0, "{rate:?}: speech fell by {loss:.1} dB");
        }
    }

    #[test]
    fn the_sound_is_late_by_the_delay_that_is_told() {
        for rate in RATES {
            let pcm = voice(rate, rate.hz() * 2, 16_000.0);
            let out = condition(rate, &denoising(), &pcm, rate.hz() / 50);
            let like = |late: usize| -> f64 {
                (rate.hz()..2 * rate.hz())
                    .map(|n| f64::from(out[n]) * f64::from(pcm[n - late]))
                    .sum()
            };
            let best = (0..rate.hz() / 50).max_by(|a, b| like(*a).total_cmp(&like(*b))).unwrap();
            let told = Conditioner::new(rate, &denoising()).unwrap().delay();
            assert!(told <= Duration::from_millis(10), "{rate:?}");
            let measured = rate.duration_of(best);
            assert!(
                measured.abs_diff(told) <= Duration::from_micros(300),
                "{rate:?}: {measured:?}"
            );
        }
    }

    #[test]
    fn frames_of_any_length_keep_length_and_level() {
        let pcm = mix(&voice(SampleRate::Hz8000, 16_000, 12_000.0), &noise(16_000, 300.0));
        let whole = condition(SampleRate::Hz8000, &denoising(), &pcm, 80);
        for frame in [1, 33, 160, 480, 1_000] {
            let out = condition(SampleRate::Hz8000, &denoising(), &pcm, frame);
            assert_eq!(out.len(), pcm.len());
            assert!((db(&out[8_000..]) - db(&whole[8_000..])).abs() < 0.5, "frames of {frame}");
        }
    }

    #[test]
    fn levels_come_to_the_target_and_noise_is_not_pumped() {
        let rate = SampleRate::Hz8000;
        for peak in [800.0, 3_000.0, 30_000.0] {
            let pcm = voice(rate, rate.hz() * 12, peak);
            let out = condition(rate, &levelling(), &pcm, 160);
            let (before, after) = (db(&pcm[rate.hz() * 8..]), db(&out[rate.hz() * 8..]));
            let aim = (-24.0f64).min(before + 12.0);
            // The target is the level of the syllables, 3 to 5 dB above the mean with its pauses.
            assert!(
                (after - aim).abs() < 5.5 && (after - before) < 12.1,
                "{before:.1} became {after:.1}"
            );
            assert!(
                (after - aim).abs() <= (before - aim).abs() + 1.0,
                "{before:.1} became {after:.1}"
            );
        }
        let mut conditioner = Conditioner::new(rate, &levelling()).unwrap();
        let hiss = noise(80_000, 200.0);
        let mut out = hiss.clone();
        out.chunks_mut(160).for_each(|frame| conditioner.process(frame, false));
        assert!((db(&out) - db(&hiss)).abs() < 0.5, "noise stays as it is");
    }

    #[test]
    fn full_scale_does_not_wrap() {
        let square: Vec<i16> =
            (0..16_000).map(|n| if n / 20 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let settings = VoiceSettings {
            gain_control: Some(GainControl { target_db: -10.0, max_gain_db: 24.0 }),
            ..denoising()
        };
        for rate in RATES {
            let out = condition(rate, &settings, &square, 160);
            assert!(out.iter().any(|sample| sample.unsigned_abs() > 1_000), "{rate:?}");
        }
    }
}
