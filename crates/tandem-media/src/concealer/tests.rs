use std::f32::consts::TAU;

use proptest::prelude::*;

use super::{extrapolation::FULL_LEVEL, *};
use crate::Resampler;

const FRAME: usize = 160;
const SECONDS: usize = 4;

struct Random(u32);

impl Random {
    /// Uniform in 0.0 to 1.0.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 24) as f32
    }
}

/// Pulses of a gliding pitch through three gliding formants, with a little breath.
fn voice(seed: u32) -> Vec<i16> {
    let mut random = Random(seed);
    let (base, mut phase) = (90.0 + 130.0 * random.next(), 1.0);
    let mut states = [[0.0f32; 2]; 3];
    (0..SECONDS * 8_000)
        .map(|n| {
            let time = n as f32 / 8_000.0;
            phase += base * (1.0 + 0.15 * (TAU * 0.9 * time).sin()) / 8_000.0;
            let mut excitation = (random.next() - 0.5) * 60.0;
            if phase >= 1.0 {
                phase -= 1.0;
                excitation += 4_000.0;
            }
            let glide = (TAU * 1.3 * time).sin();
            let formants =
                [(550.0 + 150.0 * glide, 80.0), (1_500.0 - 300.0 * glide, 110.0), (2_500.0, 160.0)];
            let sum: f32 = formants
                .iter()
                .zip(&mut states)
                .map(|((hz, width), state)| {
                    let radius = (-TAU / 2.0 * width / 8_000.0).exp();
                    let next = excitation * 0.3
                        + 2.0 * radius * (TAU * hz / 8_000.0).cos() * state[0]
                        - radius * radius * state[1];
                    *state = [next, state[0]];
                    next
                })
                .sum();
            to_pcm(sum)
        })
        .collect()
}

/// Starts of gaps of `frames`, one about every 120 ms.
fn gaps(pcm: &[i16], frames: usize) -> impl Iterator<Item = usize> + use<> {
    (4..pcm.len() / FRAME - frames - 1).step_by(3 + frames).map(|frame| frame * FRAME)
}

/// Fills every gap by `fill(concealer, before, after, gap)`.
fn with_gaps(
    pcm: &[i16],
    frames: usize,
    fill: impl Fn(&mut Concealer, &[i16], &[i16], &mut [i16]),
) -> Vec<i16> {
    let (mut concealer, mut output, mut learnt) =
        (Concealer::new(SampleRate::Hz8000), pcm.to_vec(), 0);
    for start in gaps(pcm, frames) {
        let end = start + frames * FRAME;
        concealer.good(&pcm[learnt..start]);
        fill(
            &mut concealer,
            &pcm[start - FRAME..start],
            &pcm[end..end + FRAME],
            &mut output[start..end],
        );
        learnt = end;
    }
    output
}

fn two_sided(concealer: &mut Concealer, _: &[i16], after: &[i16], gap: &mut [i16]) {
    concealer.conceal_between(after, gap);
}

fn one_sided(concealer: &mut Concealer, _: &[i16], _: &[i16], gap: &mut [i16]) {
    concealer.conceal_forward(gap);
}

fn repetition(_: &mut Concealer, before: &[i16], _: &[i16], gap: &mut [i16]) {
    gap.chunks_mut(FRAME).for_each(|frame| frame.copy_from_slice(before));
}

fn energy(pcm: &[i16]) -> f64 {
    pcm.iter().map(|&sample| f64::from(sample).powi(2)).sum()
}

/// Signal to error ratio in the gaps, dB.
fn snr(pcm: &[i16], output: &[i16], frames: usize) -> f64 {
    let (mut signal, mut error) = (0.0, 0.0);
    for start in gaps(pcm, frames) {
        let range = start..start + frames * FRAME;
        signal += energy(&pcm[range.clone()]);
        error += range.map(|n| (f64::from(pcm[n]) - f64::from(output[n])).powi(2)).sum::<f64>();
    }
    10.0 * (signal / error).log10()
}

/// Mean distance in dB of the power in bands of 100 Hz, over windows of 20 ms that begin a half before each gap.
fn spectral_distance(pcm: &[i16], output: &[i16], frames: usize) -> f64 {
    let power = |window: &[i16], hz: f32| {
        let (mut re, mut im) = (0.0f64, 0.0f64);
        for (n, &sample) in window.iter().enumerate() {
            let hann = (TAU / 2.0 * (n as f32 + 0.5) / FRAME as f32).sin().powi(2);
            let (sin, cos) = (TAU * hz * n as f32 / 8_000.0).sin_cos();
            re += f64::from(f32::from(sample) * hann * cos);
            im += f64::from(f32::from(sample) * hann * sin);
        }
        10.0 * (re * re + im * im + 1e6).log10()
    };
    let (mut distance, mut count) = (0.0, 0.0);
    for start in gaps(pcm, frames) {
        for half in 0..=2 * frames {
            let at = start - FRAME / 2 + half * FRAME / 2;
            for hz in (200..3_800).step_by(200) {
                let (hz, window) = (hz as f32, at..at + FRAME);
                distance += (power(&pcm[window.clone()], hz) - power(&output[window], hz)).abs();
                count += 1.0;
            }
        }
    }
    distance / count
}

#[test]
fn two_sides_are_better_than_one_and_one_than_none() {
    for (frames, two, one) in [(1, 4.0, 2.0), (2, 2.5, 0.3), (3, 1.3, 0.2)] {
        let (mut sums, voices) = ([0.0; 6], 6);
        for seed in 1..=voices {
            let pcm = voice(seed);
            let both = with_gaps(&pcm, frames, two_sided);
            let forward = with_gaps(&pcm, frames, one_sided);
            let repeated = with_gaps(&pcm, frames, repetition);
            for (sum, value) in sums.iter_mut().zip([
                snr(&pcm, &both, frames),
                snr(&pcm, &forward, frames),
                snr(&pcm, &repeated, frames),
                spectral_distance(&pcm, &both, frames),
                spectral_distance(&pcm, &forward, frames),
                spectral_distance(&pcm, &repeated, frames),
            ]) {
                *sum += value / f64::from(voices);
            }
        }
        let name = format!("{frames} frames: {sums:.2?}");
        let [both, forward, repeated, both_distance, forward_distance, repeated_distance] = sums;
        // Silence has 0 dB.
        assert!(
            both > two && forward > one && both > forward + 1.0 && forward > repeated + 1.0,
            "{name}"
        );
        assert!(both_distance < forward_distance && both_distance < repeated_distance, "{name}");
    }
}

#[test]
fn a_steady_vowel_goes_on_as_it_was() {
    let vowel: Vec<i16> = (0..4_000)
        .map(|n| {
            let phase = TAU * 125.0 * n as f32 / 8_000.0;
            to_pcm((1..=6).map(|k| 3_000.0 / k as f32 * (phase * k as f32).sin()).sum())
        })
        .collect();
    for gap in [80, 160, 320, 480] {
        let (mut concealer, mut filled) = (Concealer::new(SampleRate::Hz8000), vec![0; gap]);
        concealer.good(&vowel[..1_000]);
        concealer.conceal_between(&vowel[1_000 + gap..][..160], &mut filled);
        let original = &vowel[1_000..1_000 + gap];
        let error: f64 = original
            .iter()
            .zip(&filled)
            .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
            .sum();
        let ratio = 10.0 * (energy(original) / error.max(1.0)).log10();
        assert!(ratio > if gap > FULL_LEVEL { 6.0 } else { 30.0 }, "a gap of {gap}: {ratio:.1} dB");
    }
}

#[test]
fn joints_do_not_click() {
    for seed in 1..=6 {
        let pcm = voice(seed);
        for frames in 1..=3 {
            let output = with_gaps(&pcm, frames, two_sided);
            for start in gaps(&pcm, frames) {
                let end = start + frames * FRAME;
                let step = |n: usize| (i32::from(output[n]) - i32::from(output[n - 1])).abs();
                let usual = (start - 320..start).chain(end + 1..end + 160).map(step).max().unwrap();
                assert!(
                    step(start) <= usual,
                    "seed {seed}: step of {} at the begin of {start}",
                    step(start)
                );
                assert!(
                    step(end) <= usual,
                    "seed {seed}: step of {} at the end of {start}",
                    step(end)
                );
                let level = energy(&output[start..end]) / frames as f64;
                let around =
                    (energy(&output[start - FRAME..start]), energy(&output[end..end + FRAME]));
                assert!(level < 2.5 * around.0.max(around.1), "seed {seed}: {start} is too loud");
                assert!(level > 0.25 * around.0.min(around.1), "seed {seed}: {start} is too quiet");
            }
        }
    }
}

#[test]
fn one_sided_concealment_fades_to_silence_however_it_is_split() {
    let pcm = voice(3);
    let mut whole = vec![0; 1_600];
    let mut concealer = Concealer::new(SampleRate::Hz8000);
    concealer.good(&pcm[..8_000]);
    concealer.conceal_forward(&mut whole);
    assert!(
        energy(&whole[..160]) > 0.3 * energy(&pcm[7_840..8_000]),
        "the first 20 ms keep the level"
    );
    assert!(whole[480..].iter().all(|&sample| sample == 0), "silence after 60 ms");
    for size in [1, 80, 160, 333] {
        let mut pieces = vec![0; 1_600];
        let mut concealer = Concealer::new(SampleRate::Hz8000);
        concealer.good(&pcm[..8_000]);
        pieces.chunks_mut(size).for_each(|piece| concealer.conceal_forward(piece));
        assert_eq!(pieces, whole, "pieces of {size}");
    }
}

#[test]
fn a_long_gap_is_silent_in_the_middle_and_meets_the_future() {
    let pcm = voice(4);
    let mut gap = vec![7; 3_200];
    let mut concealer = Concealer::new(SampleRate::Hz8000);
    concealer.good(&pcm[..8_000]);
    concealer.conceal_between(&pcm[11_200..11_360], &mut gap);
    assert!(gap[480..3_200 - 480].iter().all(|&sample| sample == 0));
    let last = &gap[3_200 - 160..];
    assert!(
        energy(last) > 0.3 * energy(&pcm[11_200..11_360]),
        "the end of the gap leads to what follows"
    );
}

#[test]
fn silence_stays_silent() {
    let mut gap = [1; 320];
    let mut concealer = Concealer::new(SampleRate::Hz8000);
    concealer.good(&[0; 160]);
    concealer.conceal_between(&[0; 160], &mut gap);
    assert_eq!(gap, [0; 320]);
}

#[test]
fn a_short_future_is_used_as_far_as_it_goes() {
    let pcm = voice(5);
    let fill = |known: usize| {
        let mut gap = vec![0; 160];
        let mut concealer = Concealer::new(SampleRate::Hz8000);
        concealer.good(&pcm[..8_000]);
        concealer.conceal_between(&pcm[8_160..8_160 + known], &mut gap);
        gap
    };
    assert_eq!(fill(0), fill(LEAST_FUTURE - 1), "too little is as good as nothing");
    assert_ne!(fill(0), fill(80));
}

/// Gaps of `frames` in a voice at `rate`, filled from both sides: signal to error ratio, dB.
fn snr_at(rate: SampleRate, seed: u32, frames: usize) -> f64 {
    let mut pcm = Vec::new();
    Resampler::new(SampleRate::Hz8000, rate).process(&voice(seed), &mut pcm);
    let (scale, mut concealer) = (rate.hz() / 8_000, Concealer::new(rate));
    let (mut learnt, mut signal, mut error) = (0, 0.0, 0.0);
    let narrow_length = pcm.len() / scale;
    for start in gaps(&vec![0; narrow_length], frames).map(|start| start * scale) {
        let end = start + frames * FRAME * scale;
        concealer.good(&pcm[learnt..start]);
        let mut gap = vec![0; end - start];
        concealer.conceal_between(&pcm[end..end + FRAME * scale], &mut gap);
        learnt = end;
        signal += energy(&pcm[start..end]);
        let differences = pcm[start..end].iter().zip(&gap);
        error += differences.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
    }
    10.0 * (signal / error).log10()
}

#[test]
fn every_rate_is_concealed_as_well_as_8_khz() {
    for frames in [1, 2] {
        let mean = |rate| (1..=6).map(|seed| snr_at(rate, seed, frames)).sum::<f64>() / 6.0;
        let narrow = mean(SampleRate::Hz8000);
        for rate in [SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000] {
            let wide = mean(rate);
            assert!(
                wide > narrow - 0.5,
                "{frames} at {rate:?}: {wide:.2} dB, {narrow:.2} at 8 kHz"
            );
        }
    }
}

#[test]
fn at_every_rate_it_fades_to_silence_within_60_ms() {
    for rate in [SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000] {
        let (mut pcm, mut gap) = (Vec::new(), vec![1; rate.hz() / 10]);
        Resampler::new(SampleRate::Hz8000, rate).process(&voice(3), &mut pcm);
        let (mut concealer, millisecond) = (Concealer::new(rate), rate.hz() / 1_000);
        let second = rate.hz();
        concealer.good(&pcm[..second]);
        concealer.conceal_forward(&mut gap);
        let before = energy(&pcm[second - 20 * millisecond..second]);
        assert!(energy(&gap[..20 * millisecond]) > 0.3 * before, "{rate:?}");
        assert!(gap[60 * millisecond..].iter().all(|&sample| sample == 0), "{rate:?}");
    }
}

proptest! {
    #[test]
    fn any_order_of_any_audio_is_filled(
        rate in prop_oneof![
            2 => Just(SampleRate::Hz8000), 1 => Just(SampleRate::Hz16000),
            1 => Just(SampleRate::Hz24000), 1 => Just(SampleRate::Hz48000),
        ],
        steps in proptest::collection::vec((0u8..3, 0usize..900, any::<i16>(), any::<u32>()), 1..20)
    ) {
        let mut concealer = Concealer::new(rate);
        for (kind, length, loudness, seed) in steps {
            let mut random = Random(seed);
            let mut audio = |length: usize| -> Vec<i16> {
                (0..length).map(|_| to_pcm((random.next() - 0.5) * 4.0 * f32::from(loudness))).collect()
            };
            match kind {
                0 => concealer.good(&audio(length)),
                1 => concealer.conceal_forward(&mut audio(length)),
                _ => concealer.conceal_between(&audio(length * 3 % 2_000), &mut audio(length)),
            }
            let gaps = concealer.gaps.as_ref();
            prop_assert!(gaps.is_none_or(|it| (0..900).all(|n| it.forward.sample(n).is_finite())));
        }
    }
}
