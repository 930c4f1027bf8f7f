//! Sample rate conversion with little delay: a polyphase Kaiser-windowed FIR.

use std::{f64::consts::PI, time::Duration};

use crate::{
    SampleRate,
    lanes::{LANES, dot, to_pcm},
};

/// Input samples filtered in one go; longer input is taken in such blocks.
const BLOCK: usize = 480;

/// Converts a stream of mono `i16` PCM from one sample rate to another.
///
/// Within 0.1 dB up to 0.85 of the lower Nyquist frequency (0.875 where that is 8 kHz), and 80 dB down from 1.15 of it. The filter
/// is linear in phase; its delay is below 2 ms at 8 kHz and below 1.2 ms otherwise. Output comes as soon as its last input has:
/// after n samples, n * to / from have come out, rounded up. Any split of the same input gives the same output.
#[derive(Debug)]
pub struct Resampler {
    from: SampleRate,
    to: SampleRate,
    /// Outputs per `decimation` inputs; 1 where the rates are equal.
    interpolation: usize,
    decimation: usize,
    /// One row of `taps` for each of the `interpolation` phases, the oldest sample's tap first. Empty where the rates are equal.
    coefficients: Vec<f32>,
    taps: usize,
    /// The last `taps - 1` samples of the past, then room for a block.
    window: Vec<f32>,
    /// Where the next output lies, in steps of 1 / (from * interpolation) after the first sample not yet filtered.
    position: usize,
}

impl Resampler {
    /// A converter that starts from silence.
    pub fn new(from: SampleRate, to: SampleRate) -> Self {
        let divisor = greatest_common_divisor(from.hz(), to.hz());
        let (interpolation, decimation) = (to.hz() / divisor, from.hz() / divisor);
        let mut resampler = Self {
            from,
            to,
            interpolation,
            decimation,
            coefficients: Vec::new(),
            taps: 1,
            window: Vec::new(),
            position: 0,
        };
        if from != to {
            let prototype = Prototype::between(from, to).coefficients();
            // Rows are filled up with zeros on the side of the past, where they cost no delay.
            resampler.taps = prototype.len().div_ceil(interpolation).next_multiple_of(LANES);
            resampler.coefficients = polyphase(&prototype, interpolation, resampler.taps);
            resampler.window = vec![0.0; resampler.taps - 1 + BLOCK];
        }
        resampler
    }

    /// The rate of the input.
    pub fn from(&self) -> SampleRate {
        self.from
    }

    /// The rate of the output.
    pub fn to(&self) -> SampleRate {
        self.to
    }

    /// Takes the next samples and appends what they complete to `output`, which is not cleared.
    ///
    /// Values beyond 16 bits saturate. Nothing is allocated but room in `output`.
    pub fn process(&mut self, input: &[i16], output: &mut Vec<i16>) {
        if self.coefficients.is_empty() {
            output.extend_from_slice(input);
            return;
        }
        output.reserve(input.len() * self.interpolation / self.decimation + 1);
        for block in input.chunks(BLOCK) {
            self.process_block(block, output);
        }
    }

    /// Appends the end of the stream that the filter still holds back, [`delay`](Self::delay) of it, and starts from silence again.
    pub fn flush(&mut self, output: &mut Vec<i16>) {
        let held = (self.delay().as_secs_f64() * self.from.hz() as f64).ceil() as usize;
        self.process(&[0; 128][..held], output);
        self.reset();
    }

    /// Forgets the past: the next sample follows silence.
    pub fn reset(&mut self) {
        self.window.fill(0.0);
        self.position = 0;
    }

    /// How much later than its input a sound comes out.
    pub fn delay(&self) -> Duration {
        if self.coefficients.is_empty() {
            return Duration::ZERO;
        }
        let prototype = Prototype::between(self.from, self.to);
        Duration::from_secs_f64((prototype.length - 1) as f64 / 2.0 / prototype.rate)
    }

    fn process_block(&mut self, block: &[i16], output: &mut Vec<i16>) {
        let past = self.taps - 1;
        for (slot, &sample) in self.window[past..].iter_mut().zip(block) {
            *slot = f32::from(sample);
        }
        let end = block.len() * self.interpolation;
        let count = end.saturating_sub(self.position).div_ceil(self.decimation);
        let start = output.len();
        output.resize(start + count, 0);
        self.filter(&mut output[start..]);
        self.position = self.position + count * self.decimation - end;
        self.window.copy_within(block.len()..block.len() + past, 0);
    }

    /// Computes outputs from `position` on, by the widest instructions there are. All give the same bits.
    fn filter(&self, output: &mut [i16]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, all that `filter_avx2` asks for.
            return unsafe { self.filter_avx2(output) };
        }
        self.filter_lanes(output);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn filter_avx2(&self, output: &mut [i16]) {
        self.filter_lanes(output);
    }

    // Inlined, so that it is compiled for the instructions of each caller.
    #[inline(always)]
    fn filter_lanes(&self, output: &mut [i16]) {
        let (mut sample, mut phase) =
            (self.position / self.interpolation, self.position % self.interpolation);
        let (step, phase_step) =
            (self.decimation / self.interpolation, self.decimation % self.interpolation);
        for slot in output {
            let row = &self.coefficients[phase * self.taps..][..self.taps];
            *slot = to_pcm(dot(row, &self.window[sample..][..self.taps]));
            sample += step;
            phase += phase_step;
            if phase >= self.interpolation {
                phase -= self.interpolation;
                sample += 1;
            }
        }
    }
}

/// The low-pass filter at the common multiple of both rates, of which each phase takes its share.
struct Prototype {
    /// Samples per second of the common multiple.
    rate: f64,
    /// Half the lower sample rate.
    nyquist: f64,
    length: usize,
    /// Shape of the Kaiser window.
    beta: f64,
    /// Half-amplitude frequency as a part of `nyquist`.
    cutoff: f64,
}

impl Prototype {
    fn between(from: SampleRate, to: SampleRate) -> Self {
        let lower = from.min(to);
        let rate = from.hz() / greatest_common_divisor(from.hz(), to.hz()) * to.hz();
        // Found by a search over window and cutoff: the shortest that keep 0.1 dB and 80 dB. The wideband pass band reaches to
        // 7 kHz, a larger part of its Nyquist frequency, and needs a longer filter; at that rate it is still the shorter delay.
        let (periods, beta, cutoff) =
            if lower == SampleRate::Hz16000 { (36, 8.6, 0.9936) } else { (32, 8.3, 0.98) };
        Self {
            rate: rate as f64,
            nyquist: lower.hz() as f64 / 2.0,
            length: periods * (rate / lower.hz()) - 1,
            beta,
            cutoff,
        }
    }

    /// The impulse response, symmetrical, its sum not yet normalised.
    fn coefficients(&self) -> Vec<f64> {
        let center = (self.length - 1) as f64 / 2.0;
        let cycles = self.nyquist * self.cutoff / self.rate;
        (0..self.length)
            .map(|n| {
                let x = n as f64 - center;
                let sinc = if x == 0.0 {
                    1.0
                } else {
                    (2.0 * PI * cycles * x).sin() / (2.0 * PI * cycles * x)
                };
                let edge = x / center;
                sinc * bessel_i0(self.beta * (1.0 - edge * edge).sqrt())
            })
            .collect()
    }
}

/// Splits the prototype into rows of `taps`, one for each phase, reversed in time and each with a gain of 1 at 0 Hz.
fn polyphase(prototype: &[f64], phases: usize, taps: usize) -> Vec<f32> {
    let mut rows = vec![0.0; phases * taps];
    for (phase, row) in rows.chunks_exact_mut(taps).enumerate() {
        let sum: f64 = prototype.iter().skip(phase).step_by(phases).sum();
        for (slot, tap) in row.iter_mut().rev().zip(prototype.iter().skip(phase).step_by(phases)) {
            *slot = (tap / sum) as f32;
        }
    }
    rows
}

/// The modified Bessel function of order zero, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > sum * 1e-16 {
        term *= quarter / (k * k);
        sum += term;
        k += 1.0;
    }
    sum
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES: [SampleRate; 4] =
        [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];

    fn pairs() -> impl Iterator<Item = (SampleRate, SampleRate)> {
        RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to)))
    }

    fn sine(rate: SampleRate, hz: f64, amplitude: f64, samples: usize) -> Vec<i16> {
        let step = 2.0 * PI * hz / rate.hz() as f64;
        (0..samples).map(|n| (amplitude * (step * n as f64).sin()).round() as i16).collect()
    }

    fn resample(from: SampleRate, to: SampleRate, input: &[i16]) -> Vec<i16> {
        let mut output = Vec::new();
        Resampler::new(from, to).process(input, &mut output);
        output
    }

    /// Amplitude and phase (radians) of the sine of `hz` in the output between 50 ms and 250 ms: whole periods of multiples of 5 Hz.
    fn measure(rate: SampleRate, output: &[i16], hz: f64) -> (f64, f64) {
        let (start, length) = (rate.hz() / 20, rate.hz() / 5);
        let step = 2.0 * PI * hz / rate.hz() as f64;
        let (mut re, mut im) = (0.0, 0.0);
        for (n, &sample) in output.iter().enumerate().skip(start).take(length) {
            re += f64::from(sample) * (step * n as f64).sin();
            im += f64::from(sample) * (step * n as f64).cos();
        }
        ((re * re + im * im).sqrt() * 2.0 / length as f64, im.atan2(re))
    }

    fn decibels(ratio: f64) -> f64 {
        20.0 * ratio.log10()
    }

    /// Upper end of the pass band and lower end of the stop band, Hz.
    fn bands(from: SampleRate, to: SampleRate) -> (usize, usize) {
        match from.min(to) {
            SampleRate::Hz8000 => (3_400, 4_600),
            SampleRate::Hz16000 => (7_000, 9_200),
            lower => (lower.hz() * 425 / 1000, lower.hz() * 575 / 1000),
        }
    }

    #[test]
    fn the_pass_band_is_flat_and_late_by_the_delay() {
        for (from, to) in pairs() {
            let delay = Resampler::new(from, to).delay();
            assert!(delay <= Duration::from_millis(2), "{from:?} to {to:?}: {delay:?}");
            let (pass, _) = bands(from, to);
            for hz in (100..=pass).step_by(100).map(|hz| hz as f64) {
                let output = resample(from, to, &sine(from, hz, 20_000.0, from.hz() * 3 / 10));
                let (amplitude, phase) = measure(to, &output, hz);
                let gain = decibels(amplitude / 20_000.0);
                assert!(gain.abs() < 0.1, "{from:?} to {to:?}: {gain:.3} dB at {hz} Hz");
                let lag = (phase + 2.0 * PI * hz * delay.as_secs_f64()) / (2.0 * PI);
                assert!(
                    (lag - lag.round()).abs() < 1e-3,
                    "{from:?} to {to:?}: {lag:.4} periods off at {hz} Hz"
                );
            }
        }
    }

    #[test]
    fn what_the_lower_rate_cannot_carry_is_80_db_down() {
        for (from, to) in pairs().filter(|(from, to)| from > to) {
            let (_, stop) = bands(from, to);
            for hz in (stop..from.hz() / 2).step_by(100) {
                let output =
                    resample(from, to, &sine(from, hz as f64, 30_000.0, from.hz() * 3 / 10));
                let folded = hz % to.hz();
                let alias = folded.min(to.hz() - folded);
                if alias == 0 || alias == to.hz() / 2 {
                    continue; // No sine of its own to measure; the neighbours tell.
                }
                let gain = decibels(measure(to, &output, alias as f64).0 / 30_000.0);
                assert!(gain < -80.0, "{from:?} to {to:?}: {hz} Hz comes through at {gain:.1} dB");
            }
        }
    }

    #[test]
    fn images_of_the_lower_rate_are_80_db_down() {
        for (from, to) in pairs().filter(|(from, to)| from < to) {
            let (pass, stop) = bands(from, to);
            for hz in (100..=pass).step_by(100) {
                let output =
                    resample(from, to, &sine(from, hz as f64, 30_000.0, from.hz() * 3 / 10));
                for image in (1..4).flat_map(|k| [k * from.hz() - hz, k * from.hz() + hz]) {
                    if image < stop || image >= to.hz() / 2 {
                        continue;
                    }
                    let gain = decibels(measure(to, &output, image as f64).0 / 30_000.0);
                    assert!(
                        gain < -80.0,
                        "{from:?} to {to:?}: {hz} Hz at {image} Hz with {gain:.1} dB"
                    );
                }
            }
        }
    }

    #[test]
    fn a_sine_comes_out_clean() {
        for (from, to) in pairs().filter(|(from, to)| from != to) {
            let output = resample(from, to, &sine(from, 1_000.0, 20_000.0, from.hz() * 3 / 10));
            let (amplitude, phase) = measure(to, &output, 1_000.0);
            let (start, length) = (to.hz() / 20, to.hz() / 5);
            let noise: f64 = (start..start + length)
                .map(|n| {
                    amplitude * (2.0 * PI * 1_000.0 * n as f64 / to.hz() as f64 + phase).sin()
                        - f64::from(output[n])
                })
                .map(|error| error * error)
                .sum();
            let snr = decibels(amplitude / 2f64.sqrt() / (noise / length as f64).sqrt());
            assert!(snr > 77.0, "{from:?} to {to:?}: {snr:.1} dB");
        }
    }

    #[test]
    fn no_hour_gains_or_loses_a_sample() {
        for (from, to) in pairs() {
            let mut resampler = Resampler::new(from, to);
            let (frame, mut output, mut total) = (vec![100; from.hz() / 50], Vec::new(), 0);
            for _ in 0..60 * 50 {
                output.clear();
                resampler.process(&frame, &mut output);
                assert_eq!(output.len(), to.hz() / 50, "{from:?} to {to:?}: every frame is whole");
                total += output.len();
            }
            assert_eq!(total, to.hz() * 60);
            assert_eq!(
                resampler.position, 0,
                "{from:?} to {to:?}: a minute ends where it began, so an hour does too"
            );
        }
    }

    #[test]
    fn any_split_gives_the_same_output() {
        let input: Vec<i16> =
            (0..5_000_i32).map(|n| (n * 7_919 % 40_000 - 20_000) as i16).collect();
        for (from, to) in pairs() {
            let whole = resample(from, to, &input);
            assert_eq!(
                whole.len(),
                (input.len() * to.hz()).div_ceil(from.hz()),
                "{from:?} to {to:?}"
            );
            for size in [1, 7, 80, 333, 1_921] {
                let (mut resampler, mut pieces) = (Resampler::new(from, to), Vec::new());
                for piece in input.chunks(size) {
                    resampler.process(piece, &mut pieces);
                }
                assert!(pieces == whole, "{from:?} to {to:?} in pieces of {size}");
            }
        }
    }

    #[test]
    fn overshoot_saturates() {
        for (from, to) in pairs() {
            let square: Vec<i16> = (0..from.hz() / 10)
                .map(
                    |n| if (n / (from.hz() / 400)).is_multiple_of(2) { i16::MAX } else { i16::MIN },
                )
                .collect();
            let output = resample(from, to, &square);
            let delay =
                (Resampler::new(from, to).delay().as_secs_f64() * to.hz() as f64).round() as usize;
            for (n, &sample) in output.iter().enumerate().skip(delay) {
                let into_half = (n - delay) % (to.hz() / 400);
                // Away from the edges, ringing included, the sign is the input's: nothing wrapped.
                if into_half > to.hz() / 1600 && into_half < to.hz() / 400 - to.hz() / 1600 {
                    let high = ((n - delay) / (to.hz() / 400)).is_multiple_of(2);
                    assert_eq!(sample > 0, high, "{from:?} to {to:?}: sample {n} is {sample}");
                }
            }
            assert!(output.contains(&i16::MAX) && output.contains(&i16::MIN), "{from:?} to {to:?}");
        }
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for (from, to) in pairs().filter(|(from, to)| from != to) {
            let mut resampler = Resampler::new(from, to);
            for (n, slot) in resampler.window.iter_mut().enumerate() {
                *slot = ((n * 7_919) % 65_536) as f32 - 32_768.0;
            }
            let count = BLOCK * resampler.interpolation / resampler.decimation;
            let (mut widest, mut plain) = (vec![0; count], vec![1; count]);
            resampler.filter(&mut widest);
            resampler.filter_lanes(&mut plain);
            assert!(widest == plain, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn equal_rates_pass_through() {
        let input: Vec<i16> = (-300..300).map(|n| n * 100).collect();
        assert_eq!(resample(SampleRate::Hz24000, SampleRate::Hz24000, &input), input);
        assert_eq!(Resampler::new(SampleRate::Hz8000, SampleRate::Hz8000).delay(), Duration::ZERO);
    }

    #[test]
    fn after_reset_nothing_of_the_past_is_left() {
        for (from, to) in pairs() {
            let input = sine(from, 440.0, 10_000.0, 1_001);
            let (mut resampler, mut output) = (Resampler::new(from, to), Vec::new());
            resampler.process(&[i16::MAX; 77], &mut output);
            resampler.reset();
            output.clear();
            resampler.process(&input, &mut output);
            assert_eq!(output, resample(from, to, &input), "{from:?} to {to:?}");
        }
    }

    #[test]
    fn flush_brings_the_end_of_the_stream() {
        for (from, to) in pairs().filter(|(from, to)| from != to) {
            let mut click = vec![0; from.hz() / 50];
            *click.last_mut().unwrap() = 20_000;
            let (mut resampler, mut output) = (Resampler::new(from, to), Vec::new());
            resampler.process(&click, &mut output);
            let before = output.iter().map(|sample| sample.unsigned_abs()).max();
            resampler.flush(&mut output);
            let after = output.iter().map(|sample| sample.unsigned_abs()).max();
            assert!(
                before < Some(100) && after > Some(1_000),
                "{from:?} to {to:?}: {before:?}, {after:?}"
            );
        }
    }
}
