//! Sounds that are in the way of speech, from a seed.

use std::f64::consts::TAU;

use crate::loss::Random;

/// What a caller may have around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noise {
    /// White noise: a bad line, wind.
    White,
    /// Six voices that talk at once.
    Babble,
    /// A hum, and a tune of tones that come and go four times a second.
    Music,
    /// Noise that falls by 12 dB an octave from 150 Hz on, in gusts: a car.
    Car,
}

impl Noise {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::White, Self::Babble, Self::Music, Self::Car];

    /// What a table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::White => "white",
            Self::Babble => "babble",
            Self::Music => "music",
            Self::Car => "car",
        }
    }

    /// `samples` of it at `rate`, with a mean square of 1. `voices` of the same rate talk in the babble.
    pub fn make(self, rate: usize, samples: usize, voices: &[Vec<f64>], seed: u64) -> Vec<f64> {
        let mut random = Random::new(seed);
        let mut noise: Vec<f64> = match self {
            Self::White => (0..samples).map(|_| uniform(&mut random)).collect(),
            Self::Babble => babble(samples, voices, &mut random),
            Self::Music => music(rate, samples, &mut random),
            Self::Car => car(rate, samples, &mut random),
        };
        let power = noise.iter().map(|sample| sample * sample).sum::<f64>() / samples.max(1) as f64;
        let gain = 1.0 / power.max(1e-12).sqrt();
        noise.iter_mut().for_each(|sample| *sample *= gain);
        noise
    }
}

/// -1 to 1.
fn uniform(random: &mut Random) -> f64 {
    random.below(1 << 24) as f64 / f64::from(1 << 23) - 1.0
}

fn babble(samples: usize, voices: &[Vec<f64>], random: &mut Random) -> Vec<f64> {
    let mut sum = vec![0.0; samples];
    for voice in voices {
        let mut at = random.below(voice.len().max(1) as u64) as usize;
        for slot in &mut sum {
            *slot += voice.get(at).copied().unwrap_or(0.0);
            at = (at + 1) % voice.len().max(1);
        }
    }
    sum
}

fn music(rate: usize, samples: usize, random: &mut Random) -> Vec<f64> {
    const SCALE: [f64; 8] = [262.0, 294.0, 330.0, 392.0, 440.0, 523.0, 587.0, 659.0];
    let note = rate / 4;
    let mut hz = [262.0, 330.0];
    (0..samples)
        .map(|n| {
            if n % note == 0 {
                hz = [0; 2].map(|_| SCALE[random.below(8) as usize]);
            }
            let time = n as f64 / rate as f64;
            let decay = (-3.0 * (n % note) as f64 / note as f64).exp();
            let tune: f64 = hz
                .iter()
                .flat_map(|hz| [1.0, 2.0, 3.0].map(|k| (TAU * hz * k * time).sin() / k))
                .sum();
            tune * decay + 0.5 * (TAU * 120.0 * time).sin() + 0.3 * (TAU * 360.0 * time).sin()
        })
        .collect()
}

fn car(rate: usize, samples: usize, random: &mut Random) -> Vec<f64> {
    let pole = (-TAU * 150.0 / rate as f64).exp();
    let (mut once, mut twice) = (0.0, 0.0);
    (0..samples)
        .map(|n| {
            once = pole * once + (1.0 - pole) * uniform(random);
            twice = pole * twice + (1.0 - pole) * once;
            let gust = 1.0 + 0.4 * (TAU * 0.3 * n as f64 / rate as f64).sin();
            // A little of the white noise of tyres over the rumble.
            gust * (twice + 0.02 * uniform(random))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_noise_has_its_level_and_comes_again() {
        let voices = vec![vec![100.0; 800], vec![-30.0; 500]];
        for noise in Noise::ALL {
            let made = noise.make(8_000, 16_000, &voices, 3);
            let power = made.iter().map(|sample| sample * sample).sum::<f64>() / 16_000.0;
            assert!((power - 1.0).abs() < 1e-6, "{noise:?}: {power}");
            assert_eq!(made, noise.make(8_000, 16_000, &voices, 3), "{noise:?}");
        }
    }
}
