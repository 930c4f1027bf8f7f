use super::{
    quantizer::{self, HIGH, LOW, RECIPROCALS, STEPS},
    sub_band::SubBand,
};

/// Q6 of G.722, from the first level on.
const Q6: [i32; 29] = [
    35, 72, 110, 150, 190, 233, 276, 323, 370, 422, 473, 530, 587, 650, 714, 786, 858, 940, 1023,
    1121, 1219, 1339, 1458, 1612, 1765, 1980, 2195, 2557, 2919,
];

#[test]
fn a_difference_gets_the_code_of_its_interval() {
    for (&step, &reciprocal) in STEPS.iter().zip(&RECIPROCALS) {
        let step = i32::from(step);
        // Both sides of every level, and a few in between.
        let edges = Q6.iter().flat_map(|level| {
            let level = (level * step) >> 12;
            [level - 1, level, -level, -level - 1]
        });
        for difference in (-49_152..49_152).step_by(331).chain(-100..100).chain(edges) {
            let magnitude = if difference < 0 { -difference - 1 } else { difference };
            let interval = Q6.iter().filter(|&&level| (level * step) >> 12 <= magnitude).count();
            // MIL of the recommendation is one more.
            let code = match (difference < 0, interval) {
                (false, interval) => 0x3D - interval,
                (true, 0) => 0x3F,
                (true, 1) => 0x3E,
                (true, interval) => 0x21 - interval,
            };
            let low = quantizer::low(difference, reciprocal);
            assert_eq!(usize::from(low), code, "{difference} {step}");
            let large = magnitude >= (564 * step) >> 12;
            let code = match (difference < 0, large) {
                (true, true) => 0,
                (true, false) => 1,
                (false, true) => 2,
                (false, false) => 3,
            };
            assert_eq!(quantizer::high(difference, step), code, "{difference} {step}");
        }
    }
}

#[test]
fn step_sizes_double_every_32() {
    assert_eq!((STEPS[0], STEPS[LOW.first_step], STEPS[352]), (8, 32, 16_384));
    for (index, pair) in STEPS.windows(33).enumerate() {
        // Rounded down, in units of four.
        assert!((2 * pair[0]..=2 * pair[0] + 4).contains(&pair[32]), "{index}");
    }
    assert_eq!((LOW.most as usize >> 6) + LOW.first_step, 352);
    assert_eq!((HIGH.most as usize >> 6) + HIGH.first_step, 352);
}

#[test]
fn the_loudest_codes_and_the_faintest_stay_within_16_bits() {
    for (quantizer, codes) in [(&LOW, 16_u8), (&HIGH, 4)] {
        for pattern in 0..=255_u8 {
            let mut band = SubBand::new(quantizer);
            for n in 0..2_000_u32 {
                // Two codes by turns, as the pattern has it.
                let code =
                    if pattern >> (n / 3 % 8) & 1 == 0 { pattern % codes } else { codes / 2 };
                let rebuilt = band.adapt(quantizer, code);
                // The predicted sample has 16 bits and a difference 15.
                assert!((-49_152..=49_151).contains(&rebuilt));
                assert!((-32_768..=32_767).contains(&band.predicted));
                assert!((8..=16_384).contains(&band.step));
            }
        }
    }
}
