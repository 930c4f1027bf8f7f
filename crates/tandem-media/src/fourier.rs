//! The Fourier transform of short frames of real samples.

use std::f64::consts::PI;

use crate::lanes::LANES;

/// A transform of real frames of `length` samples, a power of two from 32 on, to `length / 2 + 1` bins and back.
///
/// Stockham's radix-2 with real and imaginary parts apart, so that the compiler makes vector instructions of it. Nothing is
/// allocated after construction. 128 samples take about half a microsecond.
#[derive(Debug)]
pub(crate) struct Fourier {
    length: usize,
    /// Cosine and sine of half-turn / l, for the stages with l = `length` / 4, / 8 .. 1 one after the other.
    stage_cos: Vec<f32>,
    stage_sin: Vec<f32>,
    /// Cosine and sine of each bin of the whole frame: what parts the two interleaved halves.
    cos: Vec<f32>,
    sin: Vec<f32>,
    re: Vec<f32>,
    im: Vec<f32>,
    re_next: Vec<f32>,
    im_next: Vec<f32>,
}

impl Fourier {
    pub(crate) fn new(length: usize) -> Self {
        assert!(length >= 4 * LANES && length.is_power_of_two(), "a length we transform");
        let half = length / 2;
        let (mut stage_cos, mut stage_sin) = (Vec::new(), Vec::new());
        let mut pairs = half / 2;
        while pairs >= 1 {
            for j in 0..pairs {
                let angle = PI * j as f64 / pairs as f64;
                stage_cos.push(angle.cos() as f32);
                stage_sin.push(-angle.sin() as f32);
            }
            pairs /= 2;
        }
        let angle = |k: usize| 2.0 * PI * k as f64 / length as f64;
        Self {
            length,
            stage_cos,
            stage_sin,
            cos: (0..=half).map(|k| angle(k).cos() as f32).collect(),
            sin: (0..=half).map(|k| angle(k).sin() as f32).collect(),
            re: vec![0.0; half],
            im: vec![0.0; half],
            re_next: vec![0.0; half],
            im_next: vec![0.0; half],
        }
    }

    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// The bins of `frame`: `re` and `im` take `length / 2 + 1` values each.
    pub(crate) fn forward(&mut self, frame: &[f32], re: &mut [f32], im: &mut [f32]) {
        let half = self.length / 2;
        for (pair, (a, b)) in
            frame.as_chunks::<2>().0.iter().zip(self.re.iter_mut().zip(&mut self.im))
        {
            (*a, *b) = (pair[0], pair[1]);
        }
        self.transform();
        // Bin k of the even samples is (Z[k] + Z*[half - k]) / 2, of the odd ones (Z[k] - Z*[half - k]) / 2i.
        for k in 0..=half {
            let (a, b) = (k % half, (half - k) % half);
            let (zr, zi, yr, yi) = (self.re[a], self.im[a], self.re[b], self.im[b]);
            let (even_re, even_im) = (0.5 * (zr + yr), 0.5 * (zi - yi));
            let (odd_re, odd_im) = (0.5 * (zi + yi), 0.5 * (yr - zr));
            re[k] = even_re + self.cos[k] * odd_re + self.sin[k] * odd_im;
            im[k] = even_im + self.cos[k] * odd_im - self.sin[k] * odd_re;
        }
    }

    /// The frame of the bins `re` and `im`.
    pub(crate) fn inverse(&mut self, re: &[f32], im: &[f32], frame: &mut [f32]) {
        let half = self.length / 2;
        for k in 0..half {
            let j = half - k;
            let (even_re, even_im) = (re[k] + re[j], im[k] - im[j]);
            let (diff_re, diff_im) = (re[k] - re[j], im[k] + im[j]);
            let odd_re = self.cos[k] * diff_re - self.sin[k] * diff_im;
            let odd_im = self.sin[k] * diff_re + self.cos[k] * diff_im;
            // Z[k] = even + i odd; the transform of its conjugate is the conjugate of the inverse.
            self.re[k] = even_re - odd_im;
            self.im[k] = -(even_im + odd_re);
        }
        self.transform();
        let scale = 1.0 / self.length as f32;
        for (pair, (a, b)) in
            frame.as_chunks_mut::<2>().0.iter_mut().zip(self.re.iter().zip(&self.im))
        {
            *pair = [a * scale, -b * scale];
        }
    }

    /// The complex transform of `re` and `im` in place.
    fn transform(&mut self) {
        let half = self.length / 2;
        let (mut pairs, mut run, mut table) = (half / 2, 1, 0);
        while pairs >= 1 {
            let (cos, sin) = (&self.stage_cos[table..][..pairs], &self.stage_sin[table..][..pairs]);
            if run == 1 {
                self.first_stage(pairs);
            } else {
                for (j, (&c, &s)) in cos.iter().zip(sin).enumerate() {
                    butterflies(
                        (&self.re[j * run..][..run], &self.im[j * run..][..run]),
                        (
                            &self.re[(j + pairs) * run..][..run],
                            &self.im[(j + pairs) * run..][..run],
                        ),
                        (
                            &mut self.re_next[2 * j * run..][..2 * run],
                            &mut self.im_next[2 * j * run..][..2 * run],
                        ),
                        (c, s),
                    );
                }
            }
            std::mem::swap(&mut self.re, &mut self.re_next);
            std::mem::swap(&mut self.im, &mut self.im_next);
            table += pairs;
            pairs /= 2;
            run *= 2;
        }
    }

    fn first_stage(&mut self, pairs: usize) {
        let (low_re, high_re) = self.re.split_at(pairs);
        let (low_im, high_im) = self.im.split_at(pairs);
        let (out_re, _) = self.re_next.as_chunks_mut::<2>();
        let (out_im, _) = self.im_next.as_chunks_mut::<2>();
        for j in 0..pairs {
            let (c, s) = (self.stage_cos[j], self.stage_sin[j]);
            let (dr, di) = (low_re[j] - high_re[j], low_im[j] - high_im[j]);
            out_re[j] = [low_re[j] + high_re[j], dr * c - di * s];
            out_im[j] = [low_im[j] + high_im[j], dr * s + di * c];
        }
    }
}

/// A run of butterflies that share a twiddle factor.
#[inline(always)]
fn butterflies(
    low: (&[f32], &[f32]),
    high: (&[f32], &[f32]),
    (re, im): (&mut [f32], &mut [f32]),
    (c, s): (f32, f32),
) {
    let run = low.0.len();
    let (sum_re, diff_re) = re.split_at_mut(run);
    let (sum_im, diff_im) = im.split_at_mut(run);
    for k in 0..run {
        let (dr, di) = (low.0[k] - high.0[k], low.1[k] - high.1[k]);
        sum_re[k] = low.0[k] + high.0[k];
        sum_im[k] = low.1[k] + high.1[k];
        diff_re[k] = dr * c - di * s;
        diff_im[k] = dr * s + di * c;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<f32> {
        (0..length).map(|n| ((n * 7_919 + 13) % 2_003) as f32 - 1_000.0).collect()
    }

    #[test]
    fn bins_are_those_of_the_definition() {
        for length in [32, 128, 256, 1_024] {
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
    fn there_and_back_is_the_same_frame() {
        for length in [32, 64, 128, 512, 2_048] {
            let (frame, mut back) = (frame(length), vec![0.0; length]);
            let (mut re, mut im) = (vec![0.0; length / 2 + 1], vec![0.0; length / 2 + 1]);
            let mut fourier = Fourier::new(length);
            fourier.forward(&frame, &mut re, &mut im);
            fourier.inverse(&re, &im, &mut back);
            for (n, (a, b)) in frame.iter().zip(&back).enumerate() {
                assert!((a - b).abs() < 0.01, "{length}: {n}: {a} became {b}");
            }
        }
    }
}
