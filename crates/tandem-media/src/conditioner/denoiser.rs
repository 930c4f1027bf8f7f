//! Noise that goes on is taken out of speech, bin by bin.

use std::f32::consts::{LN_2, LOG2_E, PI};

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

/// A Wiener filter that follows the noise.
///
/// Every 10 ms the spectrum of the last 32 ms gives a gain for each bin, and all of them a linear-phase filter of 161 taps, which
/// delays by 80 samples: 10 ms at 8 kHz, 5 at 16. Any split of the same input gives the same length of output.
#[derive(Debug)]
pub(super) struct Denoiser {
    hop: usize,
    fourier: Fourier,
    window: Vec<f32>,
    /// What the filter is faded out with at its ends.
    taper: [f32; REACH + 1],
    /// The last samples, enough for spectrum and filter; the newest at the end.
    history: Vec<f32>,
    filled: usize,
    blocks: u32,
    noise: Vec<f32>,
    presence: Vec<f32>,
    /// Energy of the speech in the last block, by what was let through of it.
    speech: Vec<f32>,
    gain: Vec<f32>,
    zero: Vec<f32>,
    frame: Vec<f32>,
    re: Vec<f32>,
    im: Vec<f32>,
    taps: [f32; TAPS],
    target: [f32; TAPS],
}

impl Denoiser {
    pub(super) fn new(rate: SampleRate) -> Self {
        let hop = rate.hz() / 100;
        let length = (hop * 3).next_power_of_two();
        let bins = length / 2 + 1;
        let mut denoiser = Self {
            hop,
            fourier: Fourier::new(length),
            window: (0..length).map(|n| (PI * (n as f32 + 0.5) / length as f32).sin()).collect(),
            taper: std::array::from_fn(|n| {
                (PI / 2.0 * n as f32 / (REACH + 1) as f32).cos().powi(2)
            }),
            history: vec![0.0; length + TAPS],
            filled: 0,
            blocks: 0,
            noise: vec![0.0; bins],
            presence: vec![0.0; bins],
            speech: vec![0.0; bins],
            gain: vec![1.0; bins],
            zero: vec![0.0; bins],
            frame: vec![0.0; length],
            re: vec![0.0; bins],
            im: vec![0.0; bins],
            taps: [0.0; TAPS],
            target: [0.0; TAPS],
        };
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
                self.design();
            }
            self.filter(chunk);
            rest = later;
        }
    }

    /// Finds the filter for what is at the end of the history.
    fn design(&mut self) {
        self.blocks = self.blocks.saturating_add(1);
        let length = self.fourier.length();
        let newest = self.history.len() - length;
        for ((slot, sample), weight) in
            self.frame.iter_mut().zip(&self.history[newest..]).zip(&self.window)
        {
            *slot = sample * weight;
        }
        self.fourier.forward(&self.frame, &mut self.re, &mut self.im);
        if self.blocks <= FIRST {
            for ((noise, re), im) in self.noise.iter_mut().zip(&self.re).zip(&self.im) {
                *noise += (re * re + im * im - *noise) / self.blocks as f32;
            }
        }
        let Self { re, im, noise, presence, speech, gain, .. } = self;
        find_gains(Bins { re, im, noise, presence, speech, gain });
        self.fourier.inverse(&self.gain, &self.zero, &mut self.frame);
        // The oldest sample's tap first; the zeros for whole vectors lie in the past.
        for (n, weight) in self.taper.iter().enumerate() {
            let tap = self.frame[n] * weight;
            self.target[TAPS - 1 - REACH + n] = tap;
            self.target[TAPS - 1 - REACH - n] = tap;
        }
    }

    /// Filters the newest of the history into `chunk`, moving from the last filter to the next.
    fn filter(&mut self, chunk: &mut [f32]) {
        let (total, mut done) = (chunk.len(), 0);
        for step in 0..STEPS {
            let end = total * (step + 1) / STEPS;
            let left = (STEPS - step) as f32;
            for (tap, target) in self.taps.iter_mut().zip(&self.target) {
                *tap += (target - *tap) / left;
            }
            let from = self.history.len() - total + done + 1 - TAPS;
            convolve(&self.taps, &self.history[from..], &mut chunk[done..end]);
            done = end;
        }
    }
}

/// The state of all bins, each slice of the same length.
struct Bins<'a> {
    re: &'a [f32],
    im: &'a [f32],
    noise: &'a mut [f32],
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
    let Bins { re, im, noise, presence, speech, gain } = bins;
    let count = gain.len();
    let (re, im, noise) = (&re[..count], &im[..count], &mut noise[..count]);
    let (presence, speech) = (&mut presence[..count], &mut speech[..count]);
    for bin in 0..count {
        let energy = re[bin] * re[bin] + im[bin] * im[bin];
        let ratio = energy / noise[bin].max(LEAST_NOISE);
        let absent = (1.0 + PRESENT) * exp(-ratio * (PRESENT / (1.0 + PRESENT)));
        let present = 1.0 / (1.0 + absent);
        presence[bin] = PRESENCE_KEEP * presence[bin] + (1.0 - PRESENCE_KEEP) * present;
        let most = if presence[bin] > SURELY_PRESENT { SURELY_PRESENT } else { 1.0 };
        let present = present.min(most);
        let seen = present * noise[bin] + (1.0 - present) * energy;
        noise[bin] = NOISE_KEEP * noise[bin] + (1.0 - NOISE_KEEP) * seen;
        let floor = 1.0 / noise[bin].max(LEAST_NOISE);
        let above = (energy * floor - 1.0).max(0.0);
        let expected = SPEECH_KEEP * speech[bin] * floor + (1.0 - SPEECH_KEEP) * above;
        gain[bin] = (expected / (1.0 + expected)).max(LEAST_GAIN);
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
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, all that `convolve_avx2` asks for.
        return unsafe { convolve_avx2(taps, samples, output) };
    }
    convolve_lanes(taps, samples, output);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn convolve_avx2(taps: &[f32; TAPS], samples: &[f32], output: &mut [f32]) {
    convolve_lanes(taps, samples, output);
}

// Inlined, so that it is compiled for the instructions of each caller.
#[inline(always)]
fn convolve_lanes(taps: &[f32; TAPS], samples: &[f32], output: &mut [f32]) {
    for (n, slot) in output.iter_mut().enumerate() {
        *slot = dot(taps, &samples[n..][..TAPS]);
    }
}
