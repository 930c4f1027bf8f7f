//! What each 10 ms sound like: the levels of a dozen bands of the telephone's spectrum.

use std::{f32::consts::PI, sync::OnceLock, time::Duration};

use crate::{SampleRate, fourier::Fourier};

/// Samples at 8 kHz of a block: 10 ms.
pub(crate) const BLOCK: usize = 80;
/// Samples that are transformed at once: the block and the 6 ms before it.
const WINDOW: usize = 128;
/// Bands of 125 to 625 Hz between 190 and 3,880 Hz.
pub(crate) const BANDS: usize = 13;
/// First bin of each band, 62.5 Hz each; the last one's end.
const EDGES: [usize; BANDS + 1] = [3, 5, 7, 9, 12, 15, 18, 22, 26, 31, 37, 44, 52, 62];
/// The energy of a bin is never taken for less: what a coder makes of silence. About -77 dB of overload over the whole band.
const LEAST_ENERGY: f32 = 100.0;
/// How much of a new level is believed at once: the power of 16 ms of noise is no steady thing.
const BELIEF: f32 = 0.77;

/// The level of each band, in dB of one unit of 16-bit PCM.
pub(crate) type Levels = [f32; BANDS];

/// A block of 10 ms as it is judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block {
    /// Level of each band.
    pub(crate) levels: Levels,
    /// Mean square of the block between 190 and 3,880 Hz.
    pub(crate) power: f32,
}

/// Cuts audio of any rate into blocks and tells their levels.
#[derive(Debug)]
pub(crate) struct Bands {
    /// Samples of the stream that are one at 8 kHz, and those of them that came.
    decimation: usize,
    sum: i32,
    summed: usize,
    /// The last 6 ms, then the block that is not yet complete.
    window: [f32; WINDOW],
    filled: usize,
    hann: &'static [f32; WINDOW],
    fourier: Fourier,
    energies: [f32; BANDS],
}

impl Bands {
    pub(crate) fn new(rate: SampleRate) -> Self {
        Self {
            decimation: rate.hz() / SampleRate::Hz8000.hz(),
            sum: 0,
            summed: 0,
            window: [0.0; WINDOW],
            filled: 0,
            hann: hann(),
            fourier: Fourier::new(WINDOW),
            energies: [LEAST_ENERGY; BANDS],
        }
    }

    /// The audio is of `rate` from now on.
    pub(crate) fn set_rate(&mut self, rate: SampleRate) {
        (self.decimation, self.sum, self.summed) = (rate.hz() / SampleRate::Hz8000.hz(), 0, 0);
    }

    /// How many samples at 8 kHz the block that is not yet complete has.
    pub(crate) const fn filled(&self) -> usize {
        self.filled
    }

    /// How long `samples` of the stream last.
    pub(crate) fn duration_of(&self, samples: usize) -> Duration {
        SampleRate::Hz8000.duration_of(samples) / self.decimation as u32
    }

    /// Takes samples until a block is complete; it, and how many were taken.
    pub(crate) fn take(&mut self, pcm: &[i16]) -> (usize, Option<Block>) {
        const PAST: usize = WINDOW - BLOCK;
        let wanted = (BLOCK - self.filled) * self.decimation - self.summed;
        let taken = wanted.min(pcm.len());
        // A mean of neighbours lets some of the sound above 4 kHz through, which is as much speech as that below.
        let (begun, whole) = pcm[..taken].split_at(match self.summed {
            0 => 0,
            summed => (self.decimation - summed).min(taken),
        });
        self.sum_up(begun);
        let room = &mut self.window[PAST + self.filled..];
        self.filled += match self.decimation {
            1 => means::<1>(whole, room),
            2 => means::<2>(whole, room),
            3 => means::<3>(whole, room),
            _ => means::<6>(whole, room),
        };
        self.sum_up(&whole[whole.len() / self.decimation * self.decimation..]);
        if self.filled < BLOCK {
            return (taken, None);
        }
        let block = self.measure();
        self.filled = 0;
        self.window.copy_within(BLOCK.., 0);
        (taken, Some(block))
    }

    /// Takes samples of the next one at 8 kHz, no more than complete it.
    fn sum_up(&mut self, pcm: &[i16]) {
        const PAST: usize = WINDOW - BLOCK;
        self.sum += pcm.iter().map(|&sample| i32::from(sample)).sum::<i32>();
        self.summed += pcm.len();
        if self.summed == self.decimation {
            self.window[PAST + self.filled] = self.sum as f32 / self.decimation as f32;
            self.filled += 1;
            (self.sum, self.summed) = (0, 0);
        }
    }

    fn measure(&mut self) -> Block {
        let mut sum = 0.0;
        // The least that a coder makes of silence has no spectrum worth the transform.
        if self.window.iter().any(|sample| sample.abs() > 8.0) {
            let mut frame = [0.0; WINDOW];
            for ((slot, sample), weight) in frame.iter_mut().zip(&self.window).zip(self.hann) {
                *slot = sample * weight;
            }
            let (mut re, mut im) = ([0.0; WINDOW / 2 + 1], [0.0; WINDOW / 2 + 1]);
            self.fourier.forward(&frame, &mut re, &mut im);
            for (power, im) in re.iter_mut().zip(&im) {
                *power = *power * *power + im * im;
            }
            for (energy, edges) in self.energies.iter_mut().zip(EDGES.windows(2)) {
                let bins = edges[0]..edges[1];
                let count = bins.len() as f32;
                let power: f32 = re[bins].iter().sum();
                sum += power;
                let now = power / count / (WINDOW as f32 * 0.375) + LEAST_ENERGY;
                *energy += BELIEF * (now - *energy);
            }
        } else {
            for energy in &mut self.energies {
                *energy += BELIEF * (LEAST_ENERGY - *energy);
            }
        }
        Block {
            levels: self.energies.map(decibels),
            // Parseval: both halves of the spectrum, over the samples and the window's mean square.
            power: sum * 2.0 / (WINDOW as f32 * WINDOW as f32 * 0.375),
        }
    }
}

/// Writes the mean of each `N` samples to `room`, and returns how many.
fn means<const N: usize>(pcm: &[i16], room: &mut [f32]) -> usize {
    let whole = pcm.as_chunks::<N>().0;
    for (slot, samples) in room.iter_mut().zip(whole) {
        *slot = samples.iter().map(|&sample| i32::from(sample)).sum::<i32>() as f32 / N as f32;
    }
    whole.len()
}

/// The window of all transforms.
fn hann() -> &'static [f32; WINDOW] {
    static HANN: OnceLock<[f32; WINDOW]> = OnceLock::new();
    HANN.get_or_init(|| {
        std::array::from_fn(|n| (PI * (n as f32 + 0.5) / WINDOW as f32).sin().powi(2))
    })
}

/// 10 log10 of a number from 1 on, to 0.1 dB: the exponent, and a parabola for the mantissa.
pub(crate) fn decibels(x: f32) -> f32 {
    let bits = x.to_bits();
    let exponent = (bits >> 23) as i32 - 127;
    let mantissa = f32::from_bits(bits & 0x007F_FFFF | 0x3F80_0000);
    let log2 = exponent as f32 + (mantissa - 1.0) * (1.34 - 0.34 * (mantissa - 1.0));
    log2 * 3.010_3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decibels_are_nearly_logarithms() {
        for exponent in 0..120 {
            let x = 10f32.powf(exponent as f32 / 10.0);
            assert!((decibels(x) - exponent as f32).abs() < 0.1, "{x}: {}", decibels(x));
        }
    }

    #[test]
    fn a_tone_is_in_its_band_at_its_level_at_every_rate() {
        for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
            let step = std::f32::consts::TAU * 1_000.0 / rate.hz() as f32;
            let tone: Vec<i16> =
                (0..rate.hz() / 10).map(|n| (4_000.0 * (step * n as f32).sin()) as i16).collect();
            let (mut bands, mut last, mut rest) = (Bands::new(rate), None, tone.as_slice());
            let mut blocks = 0;
            while !rest.is_empty() {
                let (taken, block) = bands.take(&rest[..rest.len().min(33)]);
                rest = &rest[taken..];
                blocks += usize::from(block.is_some());
                last = block.or(last);
            }
            let block = last.expect("a block was complete");
            assert_eq!((blocks, bands.filled()), (10, 0), "{rate:?}");
            let loudest = (0..BANDS).max_by(|a, b| block.levels[*a].total_cmp(&block.levels[*b]));
            assert_eq!(loudest, Some(5), "{rate:?}: {:?}", block.levels); // 937 to 1,125 Hz
            assert!((block.power / 8e6 - 1.0).abs() < 0.15, "{rate:?}: {}", block.power);
        }
    }
}
