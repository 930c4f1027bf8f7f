//! Arithmetic in a shape that the compiler turns into vector instructions on any x86-64.

/// Partial sums kept side by side; lengths given to [`dot`] are multiples of it.
pub(crate) const LANES: usize = 8;

/// The sum of products of two slices of one length, a multiple of [`LANES`].
#[inline(always)] // Compiled for the instructions of the caller.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0; LANES];
    for (a, b) in a.chunks_exact(LANES).zip(b.chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    // Added up one after the other: any tree of sums makes the compiler keep the lanes in half-filled registers.
    lanes.iter().sum()
}

/// The nearest 16-bit value.
#[inline(always)]
pub(crate) fn to_pcm(sample: f32) -> i16 {
    // Added to a small float, leaves its integer part in the lowest bits; `f32::round` is a library call on baseline x86-64.
    const INTEGER: f32 = 12_582_912.0;
    let clamped = sample.clamp(f32::from(i16::MIN), f32::from(i16::MAX));
    ((clamped + INTEGER).to_bits() as i32).wrapping_sub(INTEGER.to_bits() as i32) as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_rounded_and_saturates() {
        for (sample, pcm) in [
            (0.0, 0),
            (0.6, 1),
            (-0.6, -1),
            (-1.4, -1),
            (32_767.4, i16::MAX),
            (1e9, i16::MAX),
            (-32_768.0, i16::MIN),
            (-1e9, i16::MIN),
        ] {
            assert_eq!(to_pcm(sample), pcm, "{sample}");
        }
    }

    #[test]
    fn every_lane_counts() {
        let a: Vec<f32> = (1..=16).map(|n| n as f32).collect();
        assert_eq!(dot(&a, &a), 1_496.0);
    }
}
