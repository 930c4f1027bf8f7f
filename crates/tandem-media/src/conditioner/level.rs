//! Offset and level of the caller's voice.

use crate::{GainControl, SampleRate, lanes::LANES};

/// Mean square of a full-scale square wave.
const FULL_SCALE: f32 = 32_768.0 * 32_768.0;
/// Speech below this is not taken for a level, dB of full scale.
const QUIETEST: f32 = -55.0;
/// Loud callers are made quieter by this at most, dB.
const MAX_CUT_DB: f32 = 12.0;
/// How fast the gain rises and falls, dB per second: slow enough that a sentence keeps its stress.
const RISE: f32 = 4.0;
const FALL: f32 = 12.0;
/// How fast the level of speech is learnt, per 10 ms of it, once a second is known.
const LEARN: f32 = 0.01;
/// Blocks this far below the level are pauses, dB.
const PAUSE_DB: f32 = 12.0;
/// From here on a sample is bent towards full scale, which it never reaches.
const KNEE: f32 = 24_000.0;
const ROOM: f32 = 32_767.0 - KNEE;

/// Samples filtered at once.
const BLOCK: usize = 8;

/// A high-pass of 20 Hz.
#[derive(Debug)]
pub(super) struct DcBlocker {
    pole: f32,
    last_input: f32,
    last_output: f32,
}

impl DcBlocker {
    pub(super) fn new(rate: SampleRate) -> Self {
        let pole = 1.0 - std::f32::consts::TAU * 20.0 / rate.hz() as f32;
        Self { pole, last_input: 0.0, last_output: 0.0 }
    }

    pub(super) fn reset(&mut self) {
        (self.last_input, self.last_output) = (0.0, 0.0);
    }

    #[inline(always)] // Compiled for the instructions of the caller.
    pub(super) fn process(&mut self, samples: &mut [f32]) {
        let p = self.pole;
        let (squared, fourth) = (p * p, p * p * p * p);
        let mut powers = [p; BLOCK];
        for n in 1..BLOCK {
            powers[n] = powers[n - 1] * p;
        }
        let (blocks, rest) = samples.as_chunks_mut::<BLOCK>();
        for block in blocks {
            // As much as does not need the output before: only the last one of each block has to be waited for.
            let mut one = *block;
            one[0] -= self.last_input;
            for n in 1..BLOCK {
                one[n] -= block[n - 1];
            }
            let mut two = one;
            for n in 1..BLOCK {
                two[n] += p * one[n - 1];
            }
            let mut four = two;
            for n in 2..BLOCK {
                four[n] += squared * two[n - 2];
            }
            let mut eight = four;
            for n in 4..BLOCK {
                eight[n] += fourth * four[n - 4];
            }
            self.last_input = block[BLOCK - 1];
            for n in 0..BLOCK {
                block[n] = eight[n] + powers[n] * self.last_output;
            }
            self.last_output = block[BLOCK - 1];
        }
        for sample in rest {
            let output = *sample - self.last_input + p * self.last_output;
            (self.last_input, self.last_output) = (*sample, output);
            *sample = output;
        }
        // Far below one unit of 16 bits there is nothing to remember, and denormal numbers are slow.
        if self.last_output.abs() < 1e-3 {
            self.last_output = 0.0;
        }
    }
}

/// Brings speech to a level.
#[derive(Debug)]
pub(super) struct LevelControl {
    settings: GainControl,
    rate: SampleRate,
    /// Level of the speech so far, dB of full scale, and blocks it was learnt from.
    level: f32,
    learnt: u32,
    gain_db: f32,
    /// The same, linear.
    aim: f32,
    /// Linear, as it was at the end of the last chunk.
    gain: f32,
    /// Energy and length of the block of 10 ms not yet complete.
    energy: f32,
    filled: usize,
}

impl LevelControl {
    pub(super) fn new(rate: SampleRate, settings: GainControl) -> Self {
        Self {
            settings,
            rate,
            level: 0.0,
            learnt: 0,
            gain_db: 0.0,
            aim: 1.0,
            gain: 1.0,
            energy: 0.0,
            filled: 0,
        }
    }

    #[inline(always)] // Compiled for the instructions of the caller.
    pub(super) fn process(&mut self, samples: &mut [f32], speech: bool) {
        let block = self.rate.hz() / 100;
        let mut rest = samples;
        while !rest.is_empty() {
            let (chunk, later) = rest.split_at_mut(rest.len().min(block - self.filled));
            self.energy += energy(chunk);
            self.filled += chunk.len();
            if self.filled == block {
                let level = 10.0 * (self.energy / block as f32 / FULL_SCALE).max(1e-12).log10();
                (self.energy, self.filled) = (0.0, 0);
                if speech {
                    self.learn(level);
                }
            }
            self.amplify(chunk);
            rest = later;
        }
    }

    /// Takes a block of speech, and moves the gain to where it belongs.
    fn learn(&mut self, level: f32) {
        if level < QUIETEST || self.learnt > 0 && level < self.level - PAUSE_DB {
            return;
        }
        self.learnt = self.learnt.saturating_add(1);
        self.level += (1.0 / self.learnt as f32).max(LEARN) * (level - self.level);
        let wanted = self.settings.target_db - self.level;
        let wanted = wanted.clamp(-MAX_CUT_DB, self.settings.max_gain_db);
        self.gain_db += (wanted - self.gain_db).clamp(-FALL / 100.0, RISE / 100.0);
        self.aim = 10f32.powf(self.gain_db / 20.0);
    }

    #[inline(always)]
    fn amplify(&mut self, chunk: &mut [f32]) {
        let (start, step) = (self.gain, (self.aim - self.gain) / chunk.len() as f32);
        let mut loudest = 0;
        for (sample, n) in chunk.iter_mut().zip(1i16..) {
            *sample *= start + step * f32::from(n);
            // Of floats without sign the larger one has the larger bits, and integers need no order of comparing.
            loudest = loudest.max(sample.abs().to_bits().cast_signed());
        }
        self.gain = start + step * chunk.len() as f32;
        if loudest > KNEE.to_bits().cast_signed() {
            chunk.iter_mut().for_each(|sample| *sample = bent(*sample));
        }
    }
}

/// What is above the knee, below full scale.
fn bent(sample: f32) -> f32 {
    let over = sample.abs() - KNEE;
    if over > 0.0 { (KNEE + ROOM * over / (over + ROOM)).copysign(sample) } else { sample }
}

/// The sum of squares.
#[inline(always)]
fn energy(samples: &[f32]) -> f32 {
    let (blocks, rest) = samples.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for block in blocks {
        for (lane, sample) in lanes.iter_mut().zip(block) {
            *lane += sample * sample;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|sample| sample * sample).sum::<f32>()
}
