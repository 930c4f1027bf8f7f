//! Noise that goes on is taken out of speech, bin by bin.

use std::{
    cell::RefCell,
    f32::consts::{LN_2, LOG2_E, PI},
    sync::OnceLock,
};

use crate::{
    SampleRate,
    fourier::Fourier,
    lanes::{LANES, dot},
};

/// The filter reaches so many samples to both sides: its delay, 10 ms at 8 kHz.
pub(super) const REACH: usize = 80;
/// Taps, and zeros for whole vectors.
const TAPS: usize = (2 * REACH + 1).next_multiple_of(LANES);
/// Parts of a block between which the filter moves on.
const STEPS: usize = 4;
/// What is left of the noise: it stays audible, for its sudden end would be heard as the end of the call.
const LEAST_GAIN: f32 = 0.16;
/// Speech that is there at all is 15 dB above the noise: the prior of Gerkmann and Hendriks (2012), who found it.
const PRESENT: f32 = 31.6;
/// Memory of the noise's level, per block of 10 ms, where there is no speech.
const NOISE_KEEP: f32 = 0.8;
/// Memory of the presence of speech; who is present for ever is noise.
const PRESENCE_KEEP: f32 = 0.9;
const SURELY_PRESENT: f32 = 0.99;
/// Weight of the last block's speech in what is expected of this one (Ephraim and Malah 1984).
const SPEECH_KEEP: f32 = 0.97;
/// Blocks from which the noise is learnt as if nobody spoke: 50 ms.
const FIRST: u32 = 5;
/// Energy of a bin that no noise is below.
const LEAST_NOISE: f32 = 1.0;

thread_local! {
    /// What a design takes for its steps, whatever call it is for.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// A Wiener filter that follows the noise.
///
/// Every 10 ms the spectrum of the last 32 ms gives a gain for each bin, and all of them a linear-phase filter of 161 taps, which
/// delays by 80 samples: 10 ms at 8 kHz, 5 at 16. Any split of the same input gives the same length of output.
#[derive(Debug)]
pub(super) struct Denoiser {
    hop: usize,
    fourier: Fourier,
    /// Of half the length.
    half: Fourier,
    shapes: &'static Shapes,
    /// The last samples, enough for spectrum and filter; the newest at the end.
    history: Vec<f32>,
    filled: usize,
    blocks: u32,
    noise: Vec<f32>,
    /// One divided by the noise, of which there is always a little.
    inverse: Vec<f32>,
    presence: Vec<f32>,
    /// Energy of the speech in the last block, by what was let through of it.
    speech: Vec<f32>,
    taps: [f32; TAPS],
    target: [f32; TAPS],
}

/// What all filters of a rate have in common.
#[derive(Debug)]
struct Shapes {
    /// What a frame is weighted with.
    window: Vec<f32>,
    /// What the filter is faded out with at its ends.
    taper: [f32; REACH + 1],
}

impl Shapes {
    /// Those for frames of `length`.
    fn of(length: usize) -> &'static Self {
        static SHAPES: [OnceLock<Shapes>; 16] = [const { OnceLock::new() }; 16];
        SHAPES[length.ilog2() as usize].get_or_init(|| Self {
            window: (0..length).map(|n| (PI * (n as f32 + 0.5) / length as f32).sin()).collect(),
            taper: std::array::from_fn(|n| {
                (PI / 2.0 * n as f32 / (REACH + 1) as f32).cos().powi(2)
            }),
        })
    }
}

impl Denoiser {
    pub(super) fn new(rate: SampleRate) -> Self {
        let hop = rate.hz() / 100;
        let length = (hop * 3).next_power_of_two();
        let bins = length / 2 + 1;
        let mut denoiser = Self {
            hop,
            fourier: Fourier::new(length),
            half: Fourier::new(length / 2),
            shapes: Shapes::of(length),
            history: vec![0.0; length],
            filled: 0,
            blocks: 0,
            noise: vec![0.0; bins],
            inverse: vec![1.0 / LEAST_NOISE; bins],
            presence: vec![0.0; bins],
            speech: vec![0.0; bins],
            taps: [0.0; TAPS],
            target: [0.0; TAPS],
        };
        debug_assert!(length >= hop + TAPS, "a hop and what its filter looks back to");
        SCRATCH.with_borrow_mut(|scratch| make_room(scratch, length));
        denoiser.reset();
        denoiser
    }

    /// Forgets the sound, not the noise.
    pub(super) fn reset(&mut self) {
        self.history.fill(0.0);
        self.speech.fill(0.0);
        self.filled = 0;
        if self.blocks == 0 {
            self.taps[TAPS - 1 - REACH] = 1.0; // Passes everything, as late as ever.
        }
        self.target = self.taps;
    }

    /// Replaces `samples` by what they are without noise, [`REACH`] samples late.
    #[inline(always)] // Compiled for the instructions of the caller.
    pub(super) fn process(&mut self, samples: &mut [f32]) {
        let mut rest = samples;
        while !rest.is_empty() {
            let now = rest.len().min(self.hop - self.filled);
            let (chunk, later) = rest.split_at_mut(now);
            self.history.copy_within(now.., 0);
            let newest = self.history.len() - now;
            self.history[newest..].copy_from_slice(chunk);
            self.filled += now;
            if self.filled == self.hop {
                self.filled = 0;
                SCRATCH.with_borrow_mut(|scratch| self.design(scratch));
            }
            self.filter(chunk);
            rest = later;
        }
    }

    /// Finds the filter for what is in the history.
    fn design(&mut self, scratch: &mut Vec<f32>) {
        self.blocks = self.blocks.saturating_add(1);
        let (length, bins) = (self.fourier.length(), self.noise.len());
        make_room(scratch, length);
        let (frame, rest) = scratch.split_at_mut(length);
        let (energy, rest) = rest.split_at_mut(bins);
        let (gain, rest) = rest.split_at_mut(bins);
        for ((slot, sample), weight) in frame.iter_mut().zip(&self.history).zip(&self.shapes.window)
        {
            *slot = sample * weight;
        }
        self.fourier.forward(frame, energy, gain);
        for (re, im) in energy.iter_mut().zip(&*gain) {
            *re = *re * *re + im * im;
        }
        if self.blocks <= FIRST {
            let learnt = self.noise.iter_mut().zip(&mut self.inverse).zip(&*energy);
            for ((noise, inverse), energy) in learnt {
                *noise += (energy - *noise) / self.blocks as f32;
                *inverse = 1.0 / noise.max(LEAST_NOISE);
            }
        }
        let Self { noise, inverse, presence, speech, .. } = self;
        find_gains(Bins { energy, noise, inverse, presence, speech, gain });
        let mut taps = [0.0; REACH + 1];
        // At 8 kHz the last taps are those of the first half of the response, no more: their taper is next to nothing.
        let known = taps.len().min(length / 4);
        self.half.even(gain, rest, &mut taps[..known]);
        // The oldest sample's tap first; the zeros for whole vectors lie in the past.
        for (n, (tap, weight)) in taps.iter().zip(&self.shapes.taper).enumerate() {
            self.target[TAPS - 1 - REACH + n] = tap * weight;
            self.target[TAPS - 1 - REACH - n] = tap * weight;
        }
    }

    /// Filters the newest of the history into `chunk`, moving from the last filter to the next.
    #[inline(always)]
    fn filter(&mut self, chunk: &mut [f32]) {
        let (total, mut done) = (chunk.len(), 0);
        for step in 0..STEPS {
            let end = total * (step + 1) / STEPS;
            let left = 1.0 / (STEPS - step) as f32;
            for (tap, target) in self.taps.iter_mut().zip(&self.target) {
                *tap += (target - *tap) * left;
            }
            let from = self.history.len() - total + done + 1 - TAPS;
            let to = self.history.len() - total + end;
            convolve(&self.taps, &self.history[from..to], &mut chunk[done..end]);
            done = end;
        }
    }
}

/// Room for a frame, for energy and gain of its bins, and for what becomes of them.
fn make_room(scratch: &mut Vec<f32>, length: usize) {
    let wanted = length + 2 * (length / 2 + 1) + length + 2;
    if scratch.len() < wanted {
        scratch.resize(wanted, 0.0);
    }
}

/// The state of all bins, each slice of the same length.
struct Bins<'a> {
    energy: &'a [f32],
    noise: &'a mut [f32],
    inverse: &'a mut [f32],
    presence: &'a mut [f32],
    speech: &'a mut [f32],
    gain: &'a mut [f32],
}

/// Follows the noise of each bin and finds its gain; by the widest instructions there are.
fn find_gains(bins: Bins<'_>) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, all that `find_gains_avx2` asks for.
        return unsafe { find_gains_avx2(bins) };
    }
    find_gains_lanes(bins);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn find_gains_avx2(bins: Bins<'_>) {
    find_gains_lanes(bins);
}

// Inlined, so that it is compiled for the instructions of each caller.
#[inline(always)]
fn find_gains_lanes(bins: Bins<'_>) {
    let Bins { energy, noise, inverse, presence, speech, gain } = bins;
    let count = gain.len();
    let (energy, noise) = (&energy[..count], &mut noise[..count]);
    let (inverse, presence) = (&mut inverse[..count], &mut presence[..count]);
    let speech = &mut speech[..count];
    for bin in 0..count {
        let energy = energy[bin];
        let ratio = energy * inverse[bin];
        let absent = (1.0 + PRESENT) * exp(-ratio * (PRESENT / (1.0 + PRESENT)));
        let present = 1.0 / (1.0 + absent);
        presence[bin] = PRESENCE_KEEP * presence[bin] + (1.0 - PRESENCE_KEEP) * present;
        let most = if presence[bin] > SURELY_PRESENT { SURELY_PRESENT } else { 1.0 };
        let present = present.min(most);
        let seen = present * noise[bin] + (1.0 - present) * energy;
        noise[bin] = NOISE_KEEP * noise[bin] + (1.0 - NOISE_KEEP) * seen;
        let floor = noise[bin].max(LEAST_NOISE);
        let above = (energy - floor).max(0.0);
        let expected = SPEECH_KEEP * speech[bin] + (1.0 - SPEECH_KEEP) * above;
        // One division for both: it is what takes the time.
        let (all, both) = (floor + expected, 1.0 / (floor * (floor + expected)));
        inverse[bin] = all * both;
        gain[bin] = (expected * floor * both).max(LEAST_GAIN);
        speech[bin] = gain[bin] * gain[bin] * energy;
    }
}

/// e to the power of `x`, which is not above 0, to 0.1 %; a library's would not become vector instructions.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Added to a small float, leaves its integer part in the lowest bits.
    const INTEGER: f32 = 12_582_912.0;
    let power = (x * LOG2_E).max(-120.0);
    let shifted = power + INTEGER;
    let whole = shifted.to_bits().wrapping_sub(INTEGER.to_bits());
    let part = power - (shifted - INTEGER);
    let mantissa = 1.0 + part * (LN_2 + part * (0.240_227 + part * 0.055_504));
    f32::from_bits(mantissa.to_bits().wrapping_add(whole << 23))
}

/// Each output is the sum of products of `taps` with as many samples from its place on; by the widest instructions there are.
fn convolve(taps: &[f32; TAPS], samples: &[f32], output: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if output.len() >= wide::LANES
        && is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("fma")
    {
        // SAFETY: the processor has AVX2 and FMA, all that `convolve` asks for.
        return unsafe { wide::convolve(taps, samples, output) };
    }
    for (n, slot) in output.iter_mut().enumerate() {
        *slot = dot(taps, &samples[n..][..TAPS]);
    }
}

/// The same by vectors of outputs, which stay in registers while all taps pass.
#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::{
        __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps,
        _mm256_storeu_ps,
    };

    use super::TAPS;

    pub(super) const LANES: usize = 8;

    /// Vectors of outputs computed at once, at most.
    const MOST: usize = 5;

    /// `output` is of [`LANES`] samples at least.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn convolve(taps: &[f32; TAPS], samples: &[f32], output: &mut [f32]) {
        assert!(output.len() >= LANES && samples.len() >= output.len() + TAPS - 1);
        let (mut at, end) = (0, output.len());
        while at < end {
            let vectors = (end - at).div_ceil(LANES).min(MOST);
            // The last vector overlaps the one before where no whole one is left.
            let from = at.min(end - LANES);
            match vectors {
                1 => some::<1>(taps, samples, output, from),
                2 => some::<2>(taps, samples, output, from),
                3 => some::<3>(taps, samples, output, from),
                4 => some::<4>(taps, samples, output, from),
                _ => some::<MOST>(taps, samples, output, from),
            }
            at += vectors * LANES;
        }
    }

    /// `N` vectors of outputs from `from` on, the last one where it has room.
    #[target_feature(enable = "avx2,fma")]
    fn some<const N: usize>(taps: &[f32; TAPS], samples: &[f32], output: &mut [f32], from: usize) {
        let last = output.len() - LANES;
        let places: [usize; N] = std::array::from_fn(|n| (from + n * LANES).min(last));
        let inputs: [&[f32; TAPS + LANES - 1]; N] =
            places.map(|at| samples[at..].first_chunk().expect("as many as taps and lanes"));
        // Even and odd taps apart: twice as many sums that need not wait for each other.
        let mut even = [_mm256_setzero_ps(); N];
        let mut odd = even;
        for tap in (0..TAPS).step_by(2) {
            let (a, b) = (_mm256_set1_ps(taps[tap]), _mm256_set1_ps(taps[tap + 1]));
            for n in 0..N {
                even[n] = _mm256_fmadd_ps(a, load(inputs[n], tap), even[n]);
                odd[n] = _mm256_fmadd_ps(b, load(inputs[n], tap + 1), odd[n]);
            }
        }
        for n in 0..N {
            let slot: &mut [f32; LANES] =
                output[places[n]..].first_chunk_mut().expect("a whole vector has room");
            // SAFETY: `slot` has room for one vector.
            unsafe { _mm256_storeu_ps(slot.as_mut_ptr(), _mm256_add_ps(even[n], odd[n])) };
        }
    }

    #[target_feature(enable = "avx2")]
    fn load(samples: &[f32; TAPS + LANES - 1], at: usize) -> __m256 {
        let vector: &[f32; LANES] = samples[at..].first_chunk().expect("a vector for each tap");
        // SAFETY: `vector` is one.
        unsafe { _mm256_loadu_ps(vector.as_ptr()) }
    }
}
