//! G.711: one byte a sample at 8 kHz, mu-law or A-law.
//!
//! Linear samples are 16 bits wide; mu-law keeps the upper 14 of them, A-law the upper 13 (ITU-T G.711, scaled as in the
//! reference software of G.191). A sample that lies exactly on a decision value takes the interval above it, so a
//! positive tie grows in magnitude and a negative one shrinks.

use crate::Law;

/// Decodes a payload into linear samples and returns how many were written.
///
/// One byte gives one sample; as many are written as fit into `pcm`.
pub fn decode(law: Law, payload: &[u8], pcm: &mut [i16]) -> usize {
    let table = match law {
        Law::Mu => &MU_TO_LINEAR,
        Law::A => &A_TO_LINEAR,
    };
    for (sample, &code) in pcm.iter_mut().zip(payload) {
        *sample = table[usize::from(code)];
    }
    pcm.len().min(payload.len())
}

/// Encodes linear samples into a payload and returns how many bytes were written.
///
/// One sample gives one byte; as many are written as fit into `payload`. Decoded samples give their code back, except that
/// mu-law has two codes for zero and 0x7F returns as 0xFF.
pub fn encode(law: Law, pcm: &[i16], payload: &mut [u8]) -> usize {
    let pairs = payload.iter_mut().zip(pcm);
    match law {
        Law::Mu => pairs.for_each(|(code, &sample)| *code = linear_to_mu(sample)),
        Law::A => pairs.for_each(|(code, &sample)| *code = linear_to_a(sample)),
    }
    pcm.len().min(payload.len())
}

/// Turns codes of one law into those of the other, in place, by way of the linear sample.
pub fn transcode(from: Law, to: Law, bytes: &mut [u8]) {
    let table = match (from, to) {
        (Law::Mu, Law::A) => &MU_TO_A,
        (Law::A, Law::Mu) => &A_TO_MU,
        (Law::Mu, Law::Mu) | (Law::A, Law::A) => return,
    };
    for code in bytes {
        *code = table[usize::from(*code)];
    }
}

static MU_TO_LINEAR: [i16; 256] = linear_table(Law::Mu);
static A_TO_LINEAR: [i16; 256] = linear_table(Law::A);
static MU_TO_A: [u8; 256] = transcode_table(Law::Mu);
static A_TO_MU: [u8; 256] = transcode_table(Law::A);

const fn linear_table(law: Law) -> [i16; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = match law {
            Law::Mu => mu_to_linear(code as u8),
            Law::A => a_to_linear(code as u8),
        };
        code += 1;
    }
    table
}

const fn transcode_table(from: Law) -> [u8; 256] {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = match from {
            Law::Mu => linear_to_a(mu_to_linear(code as u8)),
            Law::A => linear_to_mu(a_to_linear(code as u8)),
        };
        code += 1;
    }
    table
}

/// Added to a 14-bit magnitude, so that every mu-law segment begins at a power of two.
const MU_BIAS: i32 = 33;

const fn mu_to_linear(code: u8) -> i16 {
    let inverted = !code;
    let segment = (inverted >> 4) & 7;
    let step = (inverted & 0x0F) as i32;
    // In 14-bit units: the middle of the interval, an odd number of half steps above the segment's begin.
    let magnitude = (((2 * step + 33) << segment) - MU_BIAS) * 4;
    (if code & 0x80 == 0 { -magnitude } else { magnitude }) as i16
}

const fn a_to_linear(code: u8) -> i16 {
    let code = code ^ 0x55;
    let segment = (code >> 4) & 7;
    let step = (code & 0x0F) as i32;
    let magnitude =
        if segment == 0 { (2 * step + 1) * 8 } else { ((2 * step + 33) * 8) << (segment - 1) };
    (if code & 0x80 == 0 { -magnitude } else { magnitude }) as i16
}

/// Segment and step of a magnitude: the exponent and the upper four bits of the mantissa, which is what a float holds.
const fn segment_and_step(magnitude: i32) -> i32 {
    ((magnitude as f32).to_bits() >> 19) as i32
}

const fn linear_to_mu(sample: i16) -> u8 {
    let sign = (sample >> 15) as i32;
    let magnitude = ((sample as i32 ^ sign) >> 2) + MU_BIAS;
    let magnitude = if magnitude > 0x1FFF { 0x1FFF } else { magnitude };
    let code = segment_and_step(magnitude) - ((127 + 5) << 4);
    (!code ^ (sign & 0x80)) as u8
}

const fn linear_to_a(sample: i16) -> u8 {
    let sign = (sample >> 15) as i32;
    let magnitude = (sample as i32 ^ sign) >> 4;
    // The two lowest segments share one step size, so below 16 the step is the magnitude itself.
    let code =
        if magnitude < 16 { magnitude } else { segment_and_step(magnitude) - ((127 + 3) << 4) };
    (code ^ 0xD5 ^ (sign & 0x80)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decision values of the positive half in 16-bit units: `segments` of 16 steps, each step size twice the one before.
    fn decision_values(first: &[i32], steps: &[i32], scale: i32) -> Vec<i32> {
        let mut values = first.to_vec();
        for step in steps {
            for _ in 0..16 {
                values.push(values.last().unwrap() + step);
            }
        }
        values.truncate(127);
        values.iter().map(|value| value * scale).collect()
    }

    /// Table 2a of G.711: 1, 3, 5 .. 31, 35, 39 .. 95, 103 ..
    fn mu_decisions() -> Vec<i32> {
        let first: Vec<i32> = (0..16).map(|n| 2 * n + 1).collect();
        decision_values(&first, &[4, 8, 16, 32, 64, 128, 256], 4)
    }

    /// Table 1a of G.711, in units of the smallest step: 1, 2, 3 .. 32, 34, 36 .. 64, 68 ..
    fn a_decisions() -> Vec<i32> {
        let first: Vec<i32> = (1..=32).collect();
        decision_values(&first, &[2, 4, 8, 16, 32, 64], 16)
    }

    fn interval(decisions: &[i32], sample: i16) -> u8 {
        let magnitude = i32::from(sample).abs();
        let passed =
            |value: &&i32| if sample < 0 { **value < magnitude } else { **value <= magnitude };
        decisions.iter().filter(passed).count() as u8
    }

    #[test]
    fn every_sample_is_encoded_by_the_decision_values() {
        let (mu, a) = (mu_decisions(), a_decisions());
        assert_eq!((mu.len(), a.len()), (127, 127));
        for sample in i16::MIN..=i16::MAX {
            let negative = if sample < 0 { 0x80 } else { 0 };
            let mut code = [0];
            encode(Law::Mu, &[sample], &mut code);
            assert_eq!(code[0], (0xFF - interval(&mu, sample)) ^ negative, "mu-law {sample}");
            encode(Law::A, &[sample], &mut code);
            assert_eq!(code[0], interval(&a, sample) ^ 0xD5 ^ negative, "A-law {sample}");
        }
    }

    #[test]
    fn every_code_decodes_to_the_value_of_the_standard() {
        // Tables 1 and 2 of G.711, the ends and the first values of segments.
        for (law, code, sample) in [
            (Law::Mu, 0xFF, 0),
            (Law::Mu, 0x7F, 0),
            (Law::Mu, 0xFE, 8),
            (Law::Mu, 0x7E, -8),
            (Law::Mu, 0xEF, 132),
            (Law::Mu, 0x80, 32_124),
            (Law::Mu, 0x00, -32_124),
            (Law::A, 0xD5, 8),
            (Law::A, 0x55, -8),
            (Law::A, 0xC5, 264),
            (Law::A, 0xF5, 528),
            (Law::A, 0xAA, 32_256),
            (Law::A, 0x2A, -32_256),
        ] {
            let mut pcm = [0];
            decode(law, &[code], &mut pcm);
            assert_eq!(pcm[0], sample, "{law:?} {code:#04x}");
        }
    }

    #[test]
    fn every_code_comes_back() {
        for law in [Law::Mu, Law::A] {
            let codes: Vec<u8> = (0..=255).collect();
            let (mut pcm, mut again) = ([0; 256], [0; 256]);
            assert_eq!(decode(law, &codes, &mut pcm), 256);
            assert_eq!(encode(law, &pcm, &mut again), 256);
            for (code, again) in codes.into_iter().zip(again) {
                let expected = if (law, code) == (Law::Mu, 0x7F) { 0xFF } else { code };
                assert_eq!(again, expected, "{law:?} {code:#04x}");
            }
        }
    }

    #[test]
    fn transcoding_goes_by_the_linear_sample() {
        for (from, to) in [(Law::Mu, Law::A), (Law::A, Law::Mu), (Law::A, Law::A)] {
            let mut codes: Vec<u8> = (0..=255).collect();
            let (mut pcm, mut expected) = ([0; 256], [0; 256]);
            decode(from, &codes, &mut pcm);
            encode(to, &pcm, &mut expected);
            transcode(from, to, &mut codes);
            assert_eq!(codes, expected, "{from:?} to {to:?}");
        }
    }

    #[test]
    fn the_shorter_side_sets_the_length() {
        let mut pcm = [7; 2];
        assert_eq!(decode(Law::Mu, &[0xFF], &mut pcm), 1);
        assert_eq!(pcm, [0, 7]);
        assert_eq!(decode(Law::A, &[0xD5; 3], &mut pcm), 2);
        assert_eq!(encode(Law::Mu, &[0; 3], &mut []), 0);
    }
}
