//! G.722 at 64 kbit/s (mode 1): 16 kHz audio as two sub-bands of adaptive differential PCM, two samples a byte.
//!
//! Bit-exact with the recommendation (ITU-T G.722 §3 to §6), whose block names stand where the arithmetic follows them.

mod filter_bank;
mod quantizer;
mod sub_band;

use crate::CodecError;
use filter_bank::{Analysis, Synthesis};
use quantizer::{HIGH, LOW};
use sub_band::SubBand;

/// Pairs of samples that are filtered at once: 10 ms.
const BLOCK: usize = 80;

/// Turns 16 kHz samples into G.722.
#[derive(Debug)]
pub(crate) struct G722Encoder {
    analysis: Analysis,
    low: SubBand,
    high: SubBand,
}

impl G722Encoder {
    pub(crate) const fn new() -> Self {
        Self { analysis: Analysis::new(), low: SubBand::new(&LOW), high: SubBand::new(&HIGH) }
    }

    /// Appends one byte for each pair of samples; an odd number of them is an error.
    pub(crate) fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), CodecError> {
        let (pairs, []) = pcm.as_chunks::<2>() else {
            return Err(CodecError::PacketTime { codec: "G722", samples: pcm.len() });
        };
        payload.reserve(pairs.len());
        let (mut low, mut high, mut codes) = ([0; BLOCK], [0; BLOCK], [0; BLOCK]);
        for pairs in pairs.chunks(BLOCK) {
            self.analysis.split(pairs, &mut low, &mut high);
            let codes = &mut codes[..pairs.len()];
            // Copies, which the compiler can keep in registers.
            let (mut lower, mut higher) = (self.low, self.high);
            for ((code, &low), &high) in codes.iter_mut().zip(&low).zip(&high) {
                *code = encode_high(&mut higher, high) << 6 | encode_low(&mut lower, low);
            }
            (self.low, self.high) = (lower, higher);
            payload.extend_from_slice(codes);
        }
        Ok(())
    }
}

#[inline(always)]
fn encode_low(band: &mut SubBand, sample: i16) -> u8 {
    let code = quantizer::low(i32::from(sample) - band.predicted, band.reciprocal);
    band.adapt(&LOW, code >> 2);
    code
}

#[inline(always)]
fn encode_high(band: &mut SubBand, sample: i16) -> u8 {
    let code = quantizer::high(i32::from(sample) - band.predicted, band.step);
    band.adapt(&HIGH, code);
    code
}

/// Turns G.722 into 16 kHz samples.
#[derive(Debug)]
pub(crate) struct G722Decoder {
    synthesis: Synthesis,
    low: SubBand,
    high: SubBand,
}

impl G722Decoder {
    pub(crate) const fn new() -> Self {
        Self { synthesis: Synthesis::new(), low: SubBand::new(&LOW), high: SubBand::new(&HIGH) }
    }

    /// Fills two samples from each byte.
    pub(crate) fn decode(&mut self, payload: &[u8], pcm: &mut [i16]) {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2, all that `decode_avx2` asks for.
            return unsafe { self.decode_avx2(payload, pcm) };
        }
        self.decode_codes(payload, pcm);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn decode_avx2(&mut self, payload: &[u8], pcm: &mut [i16]) {
        self.decode_codes(payload, pcm);
    }

    // Inlined, so that it is compiled for the instructions of each caller.
    #[inline(always)]
    fn decode_codes(&mut self, payload: &[u8], pcm: &mut [i16]) {
        let (mut low, mut high) = ([0; BLOCK], [0; BLOCK]);
        let pairs = pcm.as_chunks_mut::<2>().0;
        for (codes, pairs) in payload.chunks(BLOCK).zip(pairs.chunks_mut(BLOCK)) {
            let mut band = self.low;
            for (&code, low) in codes.iter().zip(&mut low) {
                *low = decode_low(&mut band, code & 0x3F);
            }
            self.low = band;
            let mut band = self.high;
            for (&code, high) in codes.iter().zip(&mut high) {
                *high = limit(band.adapt(&HIGH, code >> 6));
            }
            self.high = band;
            self.synthesis.join(&low, &high, pairs);
        }
    }
}

/// The full six bits are heard, the upper four steer.
#[inline(always)]
fn decode_low(band: &mut SubBand, code: u8) -> i16 {
    let heard = band.predicted + quantizer::low_heard(code, band.step);
    band.adapt(&LOW, code >> 2);
    limit(heard)
}

/// LIMIT: sub-bands have 15 bits.
#[inline(always)]
fn limit(sample: i32) -> i16 {
    sample.clamp(-16_384, 16_383) as i16
}

#[cfg(test)]
mod tests;
