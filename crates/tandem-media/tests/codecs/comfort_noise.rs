//! RFC 3389: as loud as the peer says, and of the colour it says.

use proptest::prelude::*;
use tandem_media::{ComfortNoise, SampleRate};

use crate::sound::{RATES, power};

fn noise(rate: SampleRate, payload: &[u8], seconds: usize) -> Vec<i16> {
    let mut noise = ComfortNoise::new(rate, 7);
    noise.set(payload);
    let mut pcm = vec![0; seconds * rate.hz()];
    pcm.chunks_mut(rate.hz() / 50).for_each(|frame| noise.fill(frame));
    pcm
}

fn decibels_below_overload(pcm: &[i16]) -> f64 {
    -10.0 * (power(pcm) / 32_768_f64.powi(2)).log10()
}

/// A reflection coefficient as it is sent.
fn coded(reflection: f64) -> u8 {
    (reflection * 32_768.0 / 258.0 + 127.0).round() as u8
}

#[test]
fn it_is_as_loud_as_the_level_says() {
    for rate in RATES {
        for level in [20, 35, 45, 60, 70] {
            for colour in [vec![], vec![-0.9, 0.3], vec![0.7], vec![-0.98, 0.9, -0.5, 0.2, 0.1]] {
                let mut payload = vec![level];
                payload.extend(colour.iter().map(|&reflection| coded(reflection)));
                let heard = decibels_below_overload(&noise(rate, &payload, 20));
                assert!((heard - f64::from(level)).abs() < 1.0, "{rate:?} {payload:?}: {heard}");
            }
        }
    }
}

#[test]
fn it_has_the_spectrum_of_its_coefficients() {
    const RATE: SampleRate = SampleRate::Hz8000;
    let reflections: [f64; 3] = [-0.8, 0.6, -0.3];
    let mut payload = vec![30];
    payload.extend(reflections.map(coded));
    let pcm = noise(RATE, &payload, 60);
    // The predictor that belongs to them, by the step-up recursion.
    let mut predictor = vec![1.0];
    for &reflection in &reflections {
        let reversed: Vec<f64> = [0.0].into_iter().chain(predictor.iter().rev().copied()).collect();
        predictor.push(0.0);
        predictor.iter_mut().zip(reversed).for_each(|(a, b)| *a += reflection * b);
    }
    let gain: f64 = reflections.iter().map(|k| 1.0 - k * k).product();
    let variance = 32_768_f64.powi(2) * 10_f64.powf(-3.0);
    for hz in [250.0, 700.0, 1_200.0, 2_000.0, 2_800.0, 3_600.0] {
        let step = std::f64::consts::TAU * hz / RATE.hz() as f64;
        let (re, im) = predictor.iter().enumerate().fold((0.0, 0.0), |(re, im), (lag, a)| {
            (re + a * (step * lag as f64).cos(), im - a * (step * lag as f64).sin())
        });
        let expected = variance * gain / (re * re + im * im);
        // The mean of many short spectra at that frequency.
        let windows = pcm.chunks_exact(256);
        let count = windows.len() as f64;
        let measured: f64 = windows
            .map(|window| {
                let (re, im) =
                    window.iter().enumerate().fold((0.0, 0.0), |(re, im), (n, &sample)| {
                        let hann = 1.0 - (std::f64::consts::TAU * (n as f64 + 0.5) / 256.0).cos();
                        let sample = f64::from(sample) * hann;
                        let angle = step * n as f64;
                        (re + sample * angle.cos(), im - sample * angle.sin())
                    });
                // The window alone has a power of 1.5.
                (re * re + im * im) / (256.0 * 1.5)
            })
            .sum::<f64>()
            / count;
        let difference = 10.0 * (measured / expected).log10();
        assert!(difference.abs() < 1.0, "{hz} Hz: {difference:.2} dB");
    }
}

#[test]
fn a_negative_first_coefficient_is_the_sound_of_low_frequencies() {
    // Neighbouring samples of rumble are alike: the correlation is the coefficient with its sign changed.
    for reflection in [-0.8, 0.8] {
        let pcm = noise(SampleRate::Hz8000, &[30, coded(reflection)], 10);
        let alike: f64 =
            pcm.windows(2).map(|pair| f64::from(pair[0]) * f64::from(pair[1])).sum::<f64>()
                / pcm.len() as f64;
        assert!((alike / power(&pcm) + reflection).abs() < 0.05, "{reflection}");
    }
}

#[test]
fn it_begins_silent_and_glides_from_level_to_level() {
    let mut noise = ComfortNoise::new(SampleRate::Hz8000, 1);
    let mut pcm = [9; 160];
    noise.fill(&mut pcm);
    assert_eq!(pcm, [0; 160]);
    noise.set(&[30]);
    noise.fill(&mut pcm);
    assert!((decibels_below_overload(&pcm) - 30.0).abs() < 2.0, "the first level holds at once");
    noise.set(&[60]);
    let levels: Vec<f64> = (0..10)
        .map(|_| {
            noise.fill(&mut pcm[..80]);
            decibels_below_overload(&pcm[..80])
        })
        .collect();
    assert!(levels[0] < 40.0 && levels[9] > 52.0, "{levels:?}");
    noise.set(&[]);
    noise.fill(&mut pcm);
    assert!(power(&pcm) > 0.0, "an empty payload says nothing");
}

proptest! {
    #[test]
    fn no_payload_is_louder_than_its_level(
        payload in proptest::collection::vec(any::<u8>(), 1..60),
        second in proptest::collection::vec(any::<u8>(), 0..60),
        rate in proptest::sample::select(&RATES[..]),
    ) {
        let mut noise = ComfortNoise::new(rate, 3);
        let mut pcm = vec![0; rate.hz() / 2];
        for payload in [&payload, &second, &payload] {
            noise.set(payload);
            noise.fill(&mut pcm);
            noise.fill(&mut pcm[..7]);
            noise.fill(&mut pcm);
        }
        // So narrow a spectrum comes and goes, but nothing is left of what was loud before.
        let level = f64::from(payload[0] & 0x7F);
        prop_assert!(decibels_below_overload(&pcm) > level.min(70.0) - 10.0);
    }
}
