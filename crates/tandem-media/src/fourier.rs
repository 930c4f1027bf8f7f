//! The Fourier transform of short frames of real samples.

use std::{f64::consts::PI, sync::OnceLock};

/// Lengths we transform: powers of two between these.
const SHORTEST: usize = 64;
const LONGEST: usize = 2_048;
const LENGTHS: usize = (LONGEST / SHORTEST).ilog2() as usize + 1;

/// Values taken at once where a frame is looked at from both ends.
const BLOCK: usize = 8;

/// A transform of real frames of one length.
///
/// Stockham's radix-4 with real and imaginary parts apart, so that the compiler makes vector instructions of it. Tables are made
/// once for all calls; nothing is allocated after that.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fourier(&'static Tables);

#[derive(Debug)]
struct Tables {
    length: usize,
    /// Powers 1, 2 and 3 of the twiddle factors of the first stage, real and imaginary parts.
    first: [Vec<f32>; 6],
    /// .. and those of the further stages of radix 4, one after the other.
    stages: Vec<Vec<[f32; 6]>>,
    /// The twiddle factor of each bin from 1 to `length` / 4: what parts the two interleaved halves.
    bins: [Vec<f32>; 2],
    /// Sine and cosine of the bins from 1 to `length` / 2 of twice the length, for [`Fourier::even`].
    waves: [Vec<f32>; 2],
}

/// Complex numbers of a transform under way.
struct Split<const HALF: usize> {
    re: [f32; HALF],
    im: [f32; HALF],
}

impl<const HALF: usize> Split<HALF> {
    const ZERO: Self = Self { re: [0.0; HALF], im: [0.0; HALF] };
}

impl Fourier {
    /// The transform of frames of `length` samples, a power of two from 64 to 2,048.
    pub(crate) fn new(length: usize) -> Self {
        static TABLES: [OnceLock<Tables>; LENGTHS] = [const { OnceLock::new() }; LENGTHS];
        assert!(
            length.is_power_of_two() && (SHORTEST..=LONGEST).contains(&length),
            "a length we transform"
        );
        let tables = &TABLES[(length / SHORTEST).ilog2() as usize];
        Self(tables.get_or_init(|| Tables::new(length)))
    }

    pub(crate) const fn length(self) -> usize {
        self.0.length
    }

    /// The bins of `frame`: `re` and `im` take `length / 2 + 1` values each.
    pub(crate) fn forward(self, frame: &[f32], re: &mut [f32], im: &mut [f32]) {
        match self.length() {
            64 => self.forward_by::<32>(frame, re, im),
            128 => self.forward_by::<64>(frame, re, im),
            256 => self.forward_by::<128>(frame, re, im),
            512 => self.forward_by::<256>(frame, re, im),
            1_024 => self.forward_by::<512>(frame, re, im),
            _ => self.forward_by::<1_024>(frame, re, im),
        }
    }

    /// The middle of the impulse response that has the real spectrum `bins`, `length + 1` of them from 0 Hz to half the sample
    /// rate: `taps[n]` is what is n samples before and after the middle. `taps` takes `length / 2` values at most; `scratch` has
    /// room for two frames and two values more.
    pub(crate) fn even(self, bins: &[f32], scratch: &mut [f32], taps: &mut [f32]) {
        let length = self.length();
        let (folded, rest) = scratch.split_at_mut(length);
        let (re, im) = rest.split_at_mut(length / 2 + 1);
        let mut odd = self.fold_by_the_widest(bins, folded);
        self.forward(folded, re, im);
        let scale = 1.0 / length as f32;
        let (pairs, last) = taps.as_chunks_mut::<2>();
        for ((pair, re), im) in pairs.iter_mut().zip(&*re).zip(&*im) {
            odd -= im; // Of bin 0 it is nothing.
            *pair = [re * scale, odd * scale];
        }
        last.iter_mut().for_each(|tap| *tap = re[pairs.len()] * scale);
    }

    fn fold_by_the_widest(self, bins: &[f32], folded: &mut [f32]) -> f32 {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, all that `fold_avx2` asks for.
            return unsafe { self.fold_avx2(bins, folded) };
        }
        self.fold(bins, folded)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn fold_avx2(self, bins: &[f32], folded: &mut [f32]) -> f32 {
        self.fold(bins, folded)
    }

    /// Folds `length + 1` bins into a frame whose transform holds every other value of their cosine transform, and returns the
    /// second of that (Numerical Recipes, 12.4.2).
    #[inline(always)]
    fn fold(self, bins: &[f32], folded: &mut [f32]) -> f32 {
        let Tables { length, waves: [sines, cosines], .. } = self.0;
        let (length, half) = (*length, length / 2);
        let (bins, folded) = (&bins[..=length], &mut folded[..length]);
        let (first, last) = (bins[0], bins[length]);
        folded[0] = 0.5 * (first + last);
        let mut sums = [0.0; BLOCK];
        let waves = sines[..half].as_chunks::<BLOCK>().0.iter().zip(cosines.as_chunks::<BLOCK>().0);
        for (n, (sines, cosines)) in waves.enumerate() {
            let (from, to) = (1 + n * BLOCK, length - (n + 1) * BLOCK);
            let low: &[f32; BLOCK] = block(bins, from);
            let high = reversed(block(bins, to));
            let (mut left, mut right) = ([0.0; BLOCK], [0.0; BLOCK]);
            for k in 0..BLOCK {
                let (mean, difference) = (0.5 * (low[k] + high[k]), low[k] - high[k]);
                sums[k] += cosines[k] * difference;
                left[k] = mean - sines[k] * difference;
                right[k] = mean + sines[k] * difference;
            }
            *block_mut(folded, from) = left;
            *block_mut(folded, to) = reversed(&right);
        }
        0.5 * (first - last) + sums.iter().sum::<f32>()
    }

    /// By the widest instructions there are.
    fn forward_by<const HALF: usize>(self, frame: &[f32], re: &mut [f32], im: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, all that `forward_avx2` asks for.
            return unsafe { self.forward_avx2::<HALF>(frame, re, im) };
        }
        self.forward_lanes::<HALF>(frame, re, im);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn forward_avx2<const HALF: usize>(self, frame: &[f32], re: &mut [f32], im: &mut [f32]) {
        self.forward_lanes::<HALF>(frame, re, im);
    }

    // Inlined, so that it is compiled for the instructions of each caller.
    #[inline(always)]
    fn forward_lanes<const HALF: usize>(self, frame: &[f32], re: &mut [f32], im: &mut [f32]) {
        let Tables { first, stages, bins, .. } = self.0;
        let (mut one, mut other) = (Split::<HALF>::ZERO, Split::<HALF>::ZERO);
        first_stage(first, frame, &mut one);
        let (mut from, mut to) = (&mut one, &mut other);
        let mut run = 4;
        for twiddles in stages {
            match run {
                4 => stage::<4, 4, HALF>(twiddles, from, to),
                16 => stage::<16, 8, HALF>(twiddles, from, to),
                64 => stage::<64, 8, HALF>(twiddles, from, to),
                _ => stage::<256, 8, HALF>(twiddles, from, to),
            }
            std::mem::swap(&mut from, &mut to);
            run *= 4;
        }
        if run < HALF {
            last_stage(from, to);
            std::mem::swap(&mut from, &mut to);
        }
        part(from, bins, re, im);
    }
}

impl Tables {
    fn new(length: usize) -> Self {
        let half = length / 2;
        let mut stages = Vec::new();
        let mut left = half / 4;
        while left >= 4 {
            stages.push((0..left / 4).map(|k| twiddles(k, left)).collect());
            left /= 4;
        }
        let waves = |wave: fn(f64) -> f64, turn: usize, last: usize| {
            (1..=last).map(|n| wave(2.0 * PI * n as f64 / turn as f64) as f32).collect()
        };
        Self {
            length,
            first: std::array::from_fn(|part| {
                (0..half / 4).map(|k| twiddles(k, half)[part]).collect()
            }),
            stages,
            bins: [waves(f64::cos, length, half / 2), waves(|x| -x.sin(), length, half / 2)],
            waves: [waves(f64::sin, 2 * length, half), waves(f64::cos, 2 * length, half)],
        }
    }
}

/// e to the power of -2 pi i `k` / `length`, its square and its cube, real and imaginary parts.
fn twiddles(k: usize, length: usize) -> [f32; 6] {
    std::array::from_fn(|part| {
        let angle = 2.0 * PI * (k * (part / 2 + 1)) as f64 / length as f64;
        (if part % 2 == 0 { angle.cos() } else { -angle.sin() }) as f32
    })
}

/// The stage of radix 4 that takes the frame, neighbours as one complex number.
#[inline(always)]
fn first_stage<const HALF: usize>(twiddles: &[Vec<f32>; 6], frame: &[f32], to: &mut Split<HALF>) {
    let count = HALF / 4;
    let frame = &frame.as_chunks::<2>().0[..HALF];
    let (ab, cd) = frame.split_at(HALF / 2);
    let ((a, b), (c, d)) = (ab.split_at(count), cd.split_at(count));
    let [w1r, w1i, w2r, w2i, w3r, w3i] = twiddles;
    let (w1r, w1i, w2r) = (&w1r[..count], &w1i[..count], &w2r[..count]);
    let (w2i, w3r, w3i) = (&w2i[..count], &w3r[..count], &w3i[..count]);
    let to_re = &mut to.re.as_chunks_mut::<4>().0[..count];
    let to_im = &mut to.im.as_chunks_mut::<4>().0[..count];
    for p in 0..count {
        let [(ar, ai), (br, bi), (cr, ci), (dr, di)] = butterfly(
            [(a[p][0], a[p][1]), (b[p][0], b[p][1]), (c[p][0], c[p][1]), (d[p][0], d[p][1])],
            [w1r[p], w1i[p], w2r[p], w2i[p], w3r[p], w3i[p]],
        );
        to_re[p] = [ar, br, cr, dr];
        to_im[p] = [ai, bi, ci, di];
    }
}

/// A stage of radix 4: for each of the twiddle factors four runs of `RUN` values that share it, `LANES` at once.
#[inline(always)]
fn stage<const RUN: usize, const LANES: usize, const HALF: usize>(
    twiddles: &[[f32; 6]],
    from: &Split<HALF>,
    to: &mut Split<HALF>,
) {
    let quarter = HALF / 4;
    for (p, &twiddle) in twiddles.iter().enumerate() {
        for at in (0..RUN).step_by(LANES) {
            let (read, write) = (p * RUN + at, 4 * p * RUN + at);
            let (second, third, fourth) = (read + quarter, read + 2 * quarter, read + 3 * quarter);
            let (ar, ai) = (block::<LANES>(&from.re, read), block::<LANES>(&from.im, read));
            let (br, bi) = (block::<LANES>(&from.re, second), block::<LANES>(&from.im, second));
            let (cr, ci) = (block::<LANES>(&from.re, third), block::<LANES>(&from.im, third));
            let (dr, di) = (block::<LANES>(&from.re, fourth), block::<LANES>(&from.im, fourth));
            let mut out = [[0.0; LANES]; 8];
            for q in 0..LANES {
                let [e, f, g, h] = butterfly(
                    [(ar[q], ai[q]), (br[q], bi[q]), (cr[q], ci[q]), (dr[q], di[q])],
                    twiddle,
                );
                (out[0][q], out[1][q], out[2][q], out[3][q]) = (e.0, f.0, g.0, h.0);
                (out[4][q], out[5][q], out[6][q], out[7][q]) = (e.1, f.1, g.1, h.1);
            }
            let [er, fr, gr, hr, ei, fi, gi, hi] = out;
            *block_mut(&mut to.re, write) = er;
            *block_mut(&mut to.re, write + RUN) = fr;
            *block_mut(&mut to.re, write + 2 * RUN) = gr;
            *block_mut(&mut to.re, write + 3 * RUN) = hr;
            *block_mut(&mut to.im, write) = ei;
            *block_mut(&mut to.im, write + RUN) = fi;
            *block_mut(&mut to.im, write + 2 * RUN) = gi;
            *block_mut(&mut to.im, write + 3 * RUN) = hi;
        }
    }
}

/// What radix 4 leaves where the length is no power of 4: radix 2, without twiddle factors.
#[inline(always)]
fn last_stage<const HALF: usize>(from: &Split<HALF>, to: &mut Split<HALF>) {
    for (from, to) in [(&from.re, &mut to.re), (&from.im, &mut to.im)] {
        let ((low, high), (sum, difference)) = (from.split_at(HALF / 2), to.split_at_mut(HALF / 2));
        for k in 0..HALF / 2 {
            (sum[k], difference[k]) = (low[k] + high[k], low[k] - high[k]);
        }
    }
}

/// Parts the bins of a frame from those of its even and its odd samples, `z`.
#[inline(always)]
fn part<const HALF: usize>(z: &Split<HALF>, bins: &[Vec<f32>; 2], re: &mut [f32], im: &mut [f32]) {
    let (re, im) = (&mut re[..=HALF], &mut im[..=HALF]);
    (re[0], im[0]) = (z.re[0] + z.im[0], 0.0);
    (re[HALF], im[HALF]) = (z.re[0] - z.im[0], 0.0);
    let [wr, wi] = bins;
    let twiddles = wr.as_chunks::<BLOCK>().0.iter().zip(wi.as_chunks::<BLOCK>().0);
    for (n, (wr, wi)) in twiddles.enumerate() {
        let (from, to) = (1 + n * BLOCK, HALF - (n + 1) * BLOCK);
        let (low_re, low_im) = (block::<BLOCK>(&z.re, from), block::<BLOCK>(&z.im, from));
        let (high_re, high_im) = (reversed(block(&z.re, to)), reversed(block(&z.im, to)));
        let (mut left, mut right) = ([[0.0; BLOCK]; 2], [[0.0; BLOCK]; 2]);
        for k in 0..BLOCK {
            // Bin k of the even samples is (Z[k] + Z*[half - k]) / 2, of the odd ones (Z[k] - Z*[half - k]) / 2i.
            let even = (0.5 * (low_re[k] + high_re[k]), 0.5 * (low_im[k] - high_im[k]));
            let odd = (0.5 * (low_im[k] + high_im[k]), 0.5 * (high_re[k] - low_re[k]));
            let turned = (wr[k] * odd.0 - wi[k] * odd.1, wr[k] * odd.1 + wi[k] * odd.0);
            (left[0][k], left[1][k]) = (even.0 + turned.0, even.1 + turned.1);
            (right[0][k], right[1][k]) = (even.0 - turned.0, turned.1 - even.1);
        }
        // The last block holds the bin in the middle, which is its own mirror.
        *block_mut(re, from) = left[0];
        *block_mut(im, from) = left[1];
        *block_mut(re, to) = reversed(&right[0]);
        *block_mut(im, to) = reversed(&right[1]);
    }
}

/// Four values a quarter of the frame apart, and powers 1 to 3 of their twiddle factor.
#[inline(always)]
fn butterfly([a, b, c, d]: [(f32, f32); 4], w: [f32; 6]) -> [(f32, f32); 4] {
    let (sum_ac, diff_ac) = ((a.0 + c.0, a.1 + c.1), (a.0 - c.0, a.1 - c.1));
    let (sum_bd, diff_bd) = ((b.0 + d.0, b.1 + d.1), (b.0 - d.0, b.1 - d.1));
    let (x, y, z) = (
        (diff_ac.0 + diff_bd.1, diff_ac.1 - diff_bd.0),
        (sum_ac.0 - sum_bd.0, sum_ac.1 - sum_bd.1),
        (diff_ac.0 - diff_bd.1, diff_ac.1 + diff_bd.0),
    );
    [
        (sum_ac.0 + sum_bd.0, sum_ac.1 + sum_bd.1),
        (x.0 * w[0] - x.1 * w[1], x.0 * w[1] + x.1 * w[0]),
        (y.0 * w[2] - y.1 * w[3], y.0 * w[3] + y.1 * w[2]),
        (z.0 * w[4] - z.1 * w[5], z.0 * w[5] + z.1 * w[4]),
    ]
}

#[inline(always)]
fn block<const N: usize>(values: &[f32], from: usize) -> &[f32; N] {
    values[from..].first_chunk().expect("a block is in the frame")
}

#[inline(always)]
fn block_mut<const N: usize>(values: &mut [f32], from: usize) -> &mut [f32; N] {
    values[from..].first_chunk_mut().expect("a block is in the frame")
}

#[inline(always)]
fn reversed(block: &[f32; BLOCK]) -> [f32; BLOCK] {
    let [a, b, c, d, e, f, g, h] = *block;
    [h, g, f, e, d, c, b, a]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<f32> {
        (0..length).map(|n| ((n * 7_919 + 13) % 2_003) as f32 - 1_000.0).collect()
    }

    #[test]
    fn bins_are_those_of_the_definition() {
        for length in [64, 128, 256, 512, 1_024, 2_048] {
            let frame = frame(length);
            let (mut re, mut im) = (vec![0.0; length / 2 + 1], vec![0.0; length / 2 + 1]);
            Fourier::new(length).forward(&frame, &mut re, &mut im);
            for k in 0..=length / 2 {
                let (mut sum_re, mut sum_im) = (0.0, 0.0);
                for (n, &sample) in frame.iter().enumerate() {
                    let angle = 2.0 * PI * (k * n % length) as f64 / length as f64;
                    sum_re += f64::from(sample) * angle.cos();
                    sum_im -= f64::from(sample) * angle.sin();
                }
                assert!((sum_re - f64::from(re[k])).abs() < 0.5, "{length}: re of bin {k}");
                assert!((sum_im - f64::from(im[k])).abs() < 0.5, "{length}: im of bin {k}");
            }
        }
    }

    #[test]
    fn an_impulse_response_has_the_spectrum_it_was_made_of() {
        for length in [64, 128, 512, 1_024] {
            let bins: Vec<f32> = (0..=length).map(|k| ((k * 31 + 7) % 17) as f32 / 16.0).collect();
            let (mut scratch, mut taps) = (vec![0.0; 2 * length + 2], vec![0.0; length / 2]);
            Fourier::new(length).even(&bins, &mut scratch, &mut taps);
            for (n, &tap) in taps.iter().enumerate() {
                let wave = |k: usize| (PI * (k * n) as f64 / length as f64).cos();
                let inner: f64 = (1..length).map(|k| 2.0 * f64::from(bins[k]) * wave(k)).sum();
                let ends = f64::from(bins[0]) + f64::from(bins[length]) * wave(length);
                let expected = (inner + ends) / (2 * length) as f64;
                assert!((f64::from(tap) - expected).abs() < 1e-5, "{length}: {n}: {tap}");
            }
        }
    }
}
