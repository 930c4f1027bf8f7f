//! Sine sweeps through the resampler: pass band, aliases and images, delay, noise.

use std::f64::consts::PI;

use serde::Serialize;
use tandem_media::{Resampler, SampleRate};

/// Distance of the sines, Hz. The measured 200 ms hold whole periods of each.
const STEP: usize = 50;
const PASS_AMPLITUDE: f64 = 20_000.0;
const STOP_AMPLITUDE: f64 = 30_000.0;
/// A chunk as it comes from a packet.
const CHUNK_MS: usize = 20;

/// What sweeps found out about one pair of rates.
#[derive(Debug, Clone, Serialize)]
pub struct Sweep {
    /// Input rate, Hz.
    pub from: usize,
    /// Output rate, Hz.
    pub to: usize,
    /// Upper end of the pass band, Hz: 3,400, or 7,000 where both sides are wideband.
    pub pass_hz: usize,
    /// Lower end of the stop band, Hz: 4,600, or 9,200, or 13,800.
    pub stop_hz: usize,
    /// The largest deviation from 0 dB in the pass band.
    pub ripple_db: f64,
    /// How far the loudest alias or image is down.
    pub rejection_db: f64,
    /// How much later a sound comes out, by the phase of the sines of the pass band.
    pub delay_ms: f64,
    /// The largest deviation of the pass band's phase from that delay.
    pub phase_error_us: f64,
    /// Signal to noise of a sine of 1 kHz, 16-bit rounding included.
    pub snr_db: f64,
    /// Hz and dB: the gain up to the lower Nyquist frequency, then what folds back from there (down) or appears there (up).
    pub response: Vec<(usize, f64)>,
}

/// All pairs of different rates.
pub fn all() -> Vec<Sweep> {
    const RATES: [SampleRate; 4] =
        [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];
    RATES
        .into_iter()
        .flat_map(|from| RATES.map(|to| (from, to)))
        .filter(|(from, to)| from != to)
        .map(|(from, to)| sweep(from, to))
        .collect()
}

/// Sweeps one pair of different rates.
pub fn sweep(from: SampleRate, to: SampleRate) -> Sweep {
    let (pass_hz, stop_hz) = bands(from.min(to));
    let nyquist = from.min(to).hz() / 2;
    let (mut response, mut delays, mut ripple) = (Vec::new(), Vec::new(), 0.0);
    for hz in (STEP..nyquist).step_by(STEP) {
        let tone = measure(to, &through(from, to, hz, PASS_AMPLITUDE), hz);
        let gain = decibels(tone.amplitude / PASS_AMPLITUDE);
        response.push((hz, gain));
        if hz <= pass_hz {
            ripple = f64::max(ripple, gain.abs());
            delays.push((hz, -tone.phase / (2.0 * PI)));
        }
    }
    let (delay, phase_error) = delay(&delays);
    let folded = if from > to { aliases(from, to) } else { images(from, to, nyquist) };
    let loudest = folded
        .iter()
        .filter(|(hz, _)| *hz >= stop_hz)
        .map(|(_, level)| *level)
        .fold(f64::NEG_INFINITY, f64::max);
    response.extend(folded);
    Sweep {
        from: from.hz(),
        to: to.hz(),
        pass_hz,
        stop_hz,
        ripple_db: ripple,
        rejection_db: -loudest,
        delay_ms: delay * 1e3,
        phase_error_us: phase_error * 1e6,
        snr_db: snr(from, to),
        response,
    }
}

/// Upper end of the pass band and lower end of the stop band where `lower` is the lower rate.
fn bands(lower: SampleRate) -> (usize, usize) {
    match lower {
        SampleRate::Hz8000 => (3_400, 4_600),
        SampleRate::Hz16000 => (7_000, 9_200),
        SampleRate::Hz24000 | SampleRate::Hz48000 => {
            (lower.hz() * 425 / 1_000, lower.hz() * 575 / 1_000)
        }
    }
}

/// Of sines above the lower Nyquist frequency: their frequency, and how loud they come back below it.
fn aliases(from: SampleRate, to: SampleRate) -> Vec<(usize, f64)> {
    (to.hz() / 2 + STEP..from.hz() / 2)
        .step_by(STEP)
        .filter_map(|hz| {
            let folded = hz % to.hz();
            let alias = folded.min(to.hz() - folded);
            if alias == 0 || alias == to.hz() / 2 {
                return None; // No sine of its own to measure; its neighbours tell.
            }
            let tone = measure(to, &through(from, to, hz, STOP_AMPLITUDE), alias);
            Some((hz, decibels(tone.amplitude / STOP_AMPLITUDE)))
        })
        .collect()
}

/// Of sines below the lower Nyquist frequency: the frequencies they appear at above it, and how loud.
fn images(from: SampleRate, to: SampleRate, nyquist: usize) -> Vec<(usize, f64)> {
    let mut images: Vec<_> = (STEP..nyquist)
        .step_by(STEP)
        .flat_map(|hz| {
            let output = through(from, to, hz, STOP_AMPLITUDE);
            (1..=to.hz() / from.hz() + 1)
                .flat_map(|k| [k * from.hz() - hz, k * from.hz() + hz])
                .filter(|image| *image < to.hz() / 2)
                .map(|image| {
                    let tone = measure(to, &output, image);
                    (image, decibels(tone.amplitude / STOP_AMPLITUDE))
                })
                .collect::<Vec<_>>()
        })
        .collect();
    images.sort_by_key(|(hz, _)| *hz);
    images
}

/// Delay in seconds from frequencies and the cycles by which they lag, and the largest deviation from it.
///
/// The lowest tells the whole cycles of the next one, and so on.
fn delay(lags: &[(usize, f64)]) -> (f64, f64) {
    let mut estimate = 0.0;
    let mut delays: Vec<f64> = lags
        .iter()
        .map(|&(hz, lag)| {
            let hz = hz as f64;
            let cycles = if estimate == 0.0 {
                lag.rem_euclid(1.0)
            } else {
                lag + (estimate * hz - lag).round()
            };
            estimate = cycles / hz;
            estimate
        })
        .collect();
    delays.sort_by(f64::total_cmp);
    let median = delays[delays.len() / 2];
    // Below 300 Hz a thousandth of a degree is microseconds.
    let error = delays.iter().map(|delay| (delay - median).abs()).fold(0.0, f64::max);
    (median, error)
}

fn snr(from: SampleRate, to: SampleRate) -> f64 {
    const HZ: usize = 1_000;
    let output = through(from, to, HZ, PASS_AMPLITUDE);
    let Tone { amplitude, phase } = measure(to, &output, HZ);
    let step = 2.0 * PI * HZ as f64 / to.hz() as f64;
    let noise: f64 = measured(to)
        .map(|n| amplitude * (step * n as f64 + phase).sin() - f64::from(output[n]))
        .map(|error| error * error)
        .sum();
    decibels(amplitude / 2f64.sqrt() / (noise / measured(to).len() as f64).sqrt())
}

/// 300 ms of a sine in chunks of 20 ms, resampled.
fn through(from: SampleRate, to: SampleRate, hz: usize, amplitude: f64) -> Vec<i16> {
    let step = 2.0 * PI * hz as f64 / from.hz() as f64;
    let input: Vec<i16> = (0..from.hz() * 3 / 10)
        .map(|n| (amplitude * (step * n as f64).sin()).round() as i16)
        .collect();
    let (mut resampler, mut output) = (Resampler::new(from, to), Vec::new());
    for chunk in input.chunks(from.hz() * CHUNK_MS / 1_000) {
        resampler.process(chunk, &mut output);
    }
    output
}

#[derive(Debug, Clone, Copy)]
struct Tone {
    amplitude: f64,
    /// Radians.
    phase: f64,
}

/// The part of `output` that is looked at: from 50 ms to 250 ms.
fn measured(rate: SampleRate) -> std::ops::Range<usize> {
    rate.hz() / 20..rate.hz() / 4
}

/// The sine of `hz` in `output`.
fn measure(rate: SampleRate, output: &[i16], hz: usize) -> Tone {
    let step = 2.0 * PI * hz as f64 / rate.hz() as f64;
    let (mut re, mut im) = (0.0, 0.0);
    for n in measured(rate) {
        let (sin, cos) = (step * n as f64).sin_cos();
        re += f64::from(output[n]) * sin;
        im += f64::from(output[n]) * cos;
    }
    let scale = 2.0 / measured(rate).len() as f64;
    Tone { amplitude: (re * re + im * im).sqrt() * scale, phase: im.atan2(re) }
}

fn decibels(ratio: f64) -> f64 {
    20.0 * ratio.max(1e-9).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_agrees_with_what_the_resampler_says_of_itself() {
        let sweep = sweep(SampleRate::Hz16000, SampleRate::Hz8000);
        let told = Resampler::new(SampleRate::Hz16000, SampleRate::Hz8000).delay();
        assert!((sweep.delay_ms - told.as_secs_f64() * 1e3).abs() < 0.01, "{sweep:?}");
        assert!(sweep.ripple_db < 0.1 && sweep.rejection_db > 80.0, "{sweep:?}");
        assert_eq!((sweep.pass_hz, sweep.stop_hz), (3_400, 4_600));
    }

    #[test]
    fn a_delay_of_many_cycles_is_found() {
        let lags: Vec<_> = (50..3_400)
            .step_by(50)
            .map(|hz| (hz, (hz as f64 * 0.0087 + 0.5).rem_euclid(1.0) - 0.5))
            .collect();
        let (delay, error) = delay(&lags);
        assert!((delay - 0.0087).abs() < 1e-9 && error < 1e-9, "{delay} {error}");
    }
}
