use super::quantizer::{Quantizer, RECIPROCALS, STEPS, multiply};

/// While step sizes are no larger, no difference is so large that the sum over the zeros could overflow.
const QUIET: i32 = 4_000;

/// Zeros of the predictor.
const ZEROS: i32 = 6;

/// The state of one sub-band, in which encoder and decoder move alike: its step size, and a predictor of two poles and six zeros.
///
/// All values have 16 bits; those that do not stand side by side are kept in 32, which costs less.
#[derive(Debug, Clone, Copy)]
pub(super) struct SubBand {
    /// SL, SH: what the next sample is expected to be.
    pub(super) predicted: i32,
    /// DETL, DETH: the step size.
    pub(super) step: i32,
    /// One over it, as [`RECIPROCALS`] has it.
    pub(super) reciprocal: u64,
    /// NBL, NBH: its logarithm.
    log_step: i32,
    /// A1, A2.
    poles: [i32; 2],
    /// B1 to B6, and two that stay zero: a whole vector register.
    zeros: [i16; 8],
    /// All ones where there is a zero; a constant that the compiler does not see through, or it would take the register apart.
    used: [i16; 8],
    /// The last differences, newest first, doubled.
    differences: [i16; 8],
    /// How many of those that count may be large.
    loud: i32,
    /// The last sample rebuilt, doubled.
    rebuilt: i32,
    /// Of the last two partly rebuilt samples: -1 where it was negative, otherwise 0.
    signs: [i32; 2],
    /// SZL, SZH: the share of the zeros in what is predicted.
    by_zeros: i32,
}

impl SubBand {
    pub(super) const fn new(quantizer: &Quantizer) -> Self {
        Self {
            predicted: 0,
            step: STEPS[quantizer.first_step] as i32,
            reciprocal: RECIPROCALS[quantizer.first_step],
            log_step: 0,
            poles: [0; 2],
            zeros: [0; 8],
            used: [-1, -1, -1, -1, -1, -1, 0, 0],
            differences: [0; 8],
            loud: 0,
            rebuilt: 0,
            signs: [0; 2],
            by_zeros: 0,
        }
    }

    /// Moves on by the code that steers, and returns the sample that it rebuilds, which is not yet limited to 16 bits.
    #[inline(always)]
    pub(super) fn adapt(&mut self, quantizer: &Quantizer, code: u8) -> i32 {
        let code = usize::from(code & 15);
        let difference = multiply(i32::from(quantizer.differences[code]), self.step);
        self.loud = if self.step > QUIET { ZEROS } else { (self.loud - 1).max(0) };

        // LOGSCL, SCALEL.
        let moved = multiply(self.log_step, 32_512) + i32::from(quantizer.weights[code]);
        self.log_step = moved.clamp(0, quantizer.most);
        let step = (self.log_step as usize >> 6) + quantizer.first_step;
        self.step = i32::from(STEPS[step]);
        self.reciprocal = RECIPROCALS[step];

        // PARREC, RECONS.
        let sign = (difference + self.by_zeros) >> 31;
        let rebuilt = self.predicted + difference;

        self.adapt_zeros(difference as i16);
        self.adapt_poles(sign);
        self.signs = [sign, self.signs[0]];

        self.by_zeros = self.filter_zeros();
        // FILTEP.
        let doubled = saturate(2 * rebuilt);
        let by_poles = multiply(self.poles[0], doubled) + multiply(self.poles[1], self.rebuilt);
        self.rebuilt = doubled;
        self.predicted = saturate(saturate(by_poles) + self.by_zeros);
        rebuilt
    }

    /// UPZERO: each zero leaks, and follows the correlation of its difference with the newest.
    #[inline(always)]
    fn adapt_zeros(&mut self, newest: i16) {
        for ((zero, difference), used) in self.zeros.iter_mut().zip(self.differences).zip(self.used)
        {
            // 255/256 of it, rounded down; with the move it stays within 16 bits.
            let leaked = *zero - (*zero >> 8) - (*zero & 255).min(1);
            // -128 where the signs differ, otherwise 128.
            let move_by = (((difference ^ newest) >> 15) << 8) | 128;
            *zero = leaked.wrapping_add(if newest & used == 0 { 0 } else { move_by });
        }
        let [a, b, c, d, e, f, g, _] = self.differences;
        // No difference is so large that twice as much would overflow.
        self.differences = [2 * newest, a, b, c, d, e, f, g];
    }

    /// UPPOL2, UPPOL1.
    #[inline(always)]
    fn adapt_poles(&mut self, sign: i32) {
        let [first, second] = self.poles;
        let unlike = sign ^ self.signs[0];
        // Limited while it has the sign of the pole, which branches can foresee.
        let by_first = negate(first.clamp(-8_191, 8_191), !unlike) >> 5;
        let by_second = negate(128, sign ^ self.signs[1]);
        let second = (by_first + by_second + multiply(second, 32_512)).clamp(-12_288, 12_288);
        let bound = 15_360 - second;
        let first = multiply(first, 32_640) + negate(192, unlike);
        self.poles = [first.min(bound).max(-bound), second];
    }

    /// FILTEZ.
    #[inline(always)]
    fn filter_zeros(&self) -> i32 {
        let mut products = [0; 8];
        for ((product, zero), difference) in
            products.iter_mut().zip(self.zeros).zip(self.differences)
        {
            *product = (i32::from(zero) * i32::from(difference)) >> 15;
        }
        if self.loud == 0 {
            products.iter().sum()
        } else {
            // From the oldest on, for every sum saturates.
            products.into_iter().rev().fold(0, |sum, product| saturate(sum + product))
        }
    }
}

/// The nearest value of 16 bits.
#[inline(always)]
fn saturate(value: i32) -> i32 {
    value.clamp(-32_768, 32_767)
}

/// The negative of `value` where `sign` is -1, itself where that is 0; no branch could guess which.
#[inline(always)]
fn negate(value: i32, sign: i32) -> i32 {
    (value ^ sign) - sign
}
