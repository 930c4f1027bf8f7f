use super::{BLOCK, limit};

/// The quadrature mirror filter (table 11 of G.722), oldest sample first; it reads the same backwards.
const FILTER: [i16; 24] = [
    3, -11, -11, 53, 12, -156, 32, 362, -210, -805, 951, 3876, 3876, 951, -805, -210, 362, 32,
    -156, 12, 53, -11, -11, 3,
];

/// Samples of the past that a filter reaches back over.
const PAST: usize = 22;

/// Splits 16 kHz samples into two bands of 8 kHz.
#[derive(Debug)]
pub(super) struct Analysis {
    /// The samples before the block, and room for a block.
    samples: [i16; PAST + 2 * BLOCK],
}

impl Analysis {
    pub(super) const fn new() -> Self {
        Self { samples: [0; PAST + 2 * BLOCK] }
    }

    /// Fills the front of `low` and `high` from one block of pairs at most.
    pub(super) fn split(&mut self, pairs: &[[i16; 2]], low: &mut [i16], high: &mut [i16]) {
        let length = 2 * pairs.len();
        self.samples[PAST..PAST + length].copy_from_slice(pairs.as_flattened());
        let windows = self.samples[..PAST + length].windows(24).step_by(2);
        for ((window, low), high) in windows.zip(low).zip(high) {
            let (mut even, mut odd) = (0, 0);
            for (pair, filter) in window.as_chunks::<2>().0.iter().zip(FILTER.as_chunks::<2>().0) {
                even += i32::from(pair[0]) * i32::from(filter[0]);
                odd += i32::from(pair[1]) * i32::from(filter[1]);
            }
            *low = limit((odd + even) >> 14);
            *high = limit((odd - even) >> 14);
        }
        self.samples.copy_within(length..length + PAST, 0);
    }
}

/// Joins two bands of 8 kHz into 16 kHz samples.
#[derive(Debug)]
pub(super) struct Synthesis {
    /// Sums and differences of the bands before the block, and room for a block.
    sums: [i16; PAST / 2 + BLOCK],
    differences: [i16; PAST / 2 + BLOCK],
}

impl Synthesis {
    pub(super) const fn new() -> Self {
        Self { sums: [0; PAST / 2 + BLOCK], differences: [0; PAST / 2 + BLOCK] }
    }

    /// Fills `pairs`, one block at most, from the front of `low` and `high`.
    #[inline(always)] // Compiled for the instructions of the caller.
    pub(super) fn join(&mut self, low: &[i16], high: &[i16], pairs: &mut [[i16; 2]]) {
        let length = pairs.len();
        for (index, (&low, &high)) in low.iter().zip(high).take(length).enumerate() {
            self.sums[PAST / 2 + index] = low + high;
            self.differences[PAST / 2 + index] = low - high;
        }
        let windows = self.sums.windows(12).zip(self.differences.windows(12));
        for (pair, (sums, differences)) in pairs.iter_mut().zip(windows) {
            let (mut first, mut second) = (0, 0);
            for ((&sum, &difference), filter) in
                sums.iter().zip(differences).zip(FILTER.as_chunks::<2>().0)
            {
                first += i32::from(difference) * i32::from(filter[1]);
                second += i32::from(sum) * i32::from(filter[0]);
            }
            *pair = [first, second].map(|sample| (sample >> 11).clamp(-32_768, 32_767) as i16);
        }
        self.sums.copy_within(length..length + PAST / 2, 0);
        self.differences.copy_within(length..length + PAST / 2, 0);
    }
}
