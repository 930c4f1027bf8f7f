/// How the codes of one sub-band are read back, and how they move its step size.
#[derive(Debug)]
pub(super) struct Quantizer {
    /// The logarithm of the step size at its largest.
    pub(super) most: i32,
    /// Where the smallest step size is found in [`STEPS`].
    pub(super) first_step: usize,
    /// By the code that steers: the difference in step sizes, times 2^15.
    pub(super) differences: [i16; 16],
    /// By the same code: what is added to the logarithm of the step size.
    pub(super) weights: [i16; 16],
}

/// The lower band, by the upper four of its six bits (tables 7 and 17 of G.722: QQ4, WL).
pub(super) static LOW: Quantizer = Quantizer {
    most: 18_432,
    first_step: 64,
    differences: signed([150, 323, 530, 786, 1_121, 1_612, 2_557]),
    weights: mirrored([-30, 58, 172, 334, 538, 1_198, 3_042], -60),
};

/// The higher band (QQ2, WH).
pub(super) static HIGH: Quantizer = Quantizer {
    most: 22_528,
    first_step: 0,
    differences: [-926 * 8, -202 * 8, 926 * 8, 202 * 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    weights: [798, -214, 798, -214, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Codes 1 to 7 are negative and 8 to 14 positive, the largest first; 0 and 15 are nothing.
const fn signed(magnitudes: [i16; 7]) -> [i16; 16] {
    let mut values = mirrored(magnitudes, 0);
    let mut code = 0;
    while code < 16 {
        values[code] *= if code < 8 { -8 } else { 8 };
        code += 1;
    }
    values
}

const fn mirrored(magnitudes: [i16; 7], smallest: i16) -> [i16; 16] {
    let mut values = [smallest; 16];
    let mut index = 0;
    while index < 7 {
        values[7 - index] = magnitudes[index];
        values[14 - index] = magnitudes[index];
        index += 1;
    }
    values
}

/// SCALEL, SCALEH: step sizes by the logarithm, 32 to the octave. The lower band leaves out the two lowest octaves.
pub(super) static STEPS: [i16; 353] = {
    /// ILB of G.722: 2^(11 + n/32).
    const OCTAVE: [i16; 32] = [
        2048, 2093, 2139, 2186, 2233, 2282, 2332, 2383, 2435, 2489, 2543, 2599, 2656, 2714, 2774,
        2834, 2896, 2960, 3025, 3091, 3158, 3228, 3298, 3371, 3444, 3520, 3597, 3676, 3756, 3838,
        3922, 4008,
    ];
    let mut steps = [0; 353];
    let mut index = 0;
    while index < 353 {
        steps[index] = (((OCTAVE[index % 32] as i32 * 2) >> (11 - index / 32)) as i16) << 2;
        index += 1;
    }
    steps
};

/// The last decision level of the lower band's six bits, in 4096ths of the step size.
const LARGEST: usize = 2_919;

/// The lower band's six bits for a difference, by its sign and its size in 4096ths of the step size; larger ones have the last code.
static CODES: [[u8; LARGEST + 1]; 2] = {
    const Q6: [usize; 29] = [
        35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940,
        1023, 1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
    ];
    let mut codes = [[0; LARGEST + 1]; 2];
    let (mut size, mut passed) = (0, 0);
    while size <= LARGEST {
        if passed < 29 && size == Q6[passed] {
            passed += 1;
        }
        // Those of a sign count down from its smallest difference; the two smallest negative ones lie apart.
        codes[0][size] = 0x3D - passed as u8;
        codes[1][size] = if passed < 2 { 0x3F } else { 0x21 } - passed as u8;
        size += 1;
    }
    codes
};

/// Binary digits behind the point of [`RECIPROCALS`]: so many that no quotient up to [`LARGEST`] is rounded wrongly.
const PRECISION: u32 = 38;

/// One over a quarter of each of [`STEPS`], which are multiples of four; rounded up.
pub(super) static RECIPROCALS: [u64; 353] = {
    let mut reciprocals = [0; 353];
    let mut index = 0;
    while index < 353 {
        reciprocals[index] = (1_u64 << PRECISION).div_ceil(STEPS[index] as u64 / 4);
        index += 1;
    }
    reciprocals
};

/// QUANTL: the six bits of a difference, by the reciprocal of the step size.
#[inline(always)]
pub(super) fn low(difference: i32, reciprocal: u64) -> u8 {
    let magnitude = (difference ^ (difference >> 31)) as u32;
    // Levels are rounded down: one is passed where its exact value is less than the next whole number.
    let below = u64::from((magnitude + 1) * 1_024 - 1);
    let size = ((below * reciprocal) >> PRECISION) as usize;
    CODES[usize::from(difference < 0)][size.min(LARGEST)]
}

/// QUANTH: the two bits of a difference.
#[inline(always)]
pub(super) fn high(difference: i32, step: i32) -> u8 {
    let negative = difference >> 31;
    let large = difference ^ negative >= multiply(564 * 8, step);
    (3 + 2 * negative) as u8 - u8::from(large)
}

/// INVQBL: the difference that six bits of the lower band stand for.
#[inline(always)]
pub(super) fn low_heard(code: u8, step: i32) -> i32 {
    static DIFFERENCES: [i16; 64] = {
        const QQ6: [i16; 30] = [
            17, 54, 91, 130, 170, 211, 254, 300, 347, 396, 447, 501, 558, 618, 682, 750, 822, 899,
            982, 1072, 1170, 1279, 1399, 1535, 1689, 1873, 2088, 2376, 2738, 3101,
        ];
        // The codes 0 to 3 are never sent.
        let mut differences = [-QQ6[0] * 8; 64];
        let mut rank = 0;
        while rank < 30 {
            let value = QQ6[rank] * 8;
            differences[61 - rank] = value;
            differences[if rank < 2 { 63 - rank } else { 33 - rank }] = -value;
            rank += 1;
        }
        differences
    };
    multiply(i32::from(DIFFERENCES[usize::from(code & 63)]), step)
}

/// The product of two fractions of 15 bits, rounded down.
#[inline(always)]
pub(super) const fn multiply(one: i32, other: i32) -> i32 {
    (one * other) >> 15
}
