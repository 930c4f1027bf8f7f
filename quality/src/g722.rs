//! G.722 against the reference software of ITU-T G.191 (STL2019 and later): its output for sounds of ours, as hashes.

use tandem_media::{Codec, CodecError, Decoder, Encoder, OpusParams};

use crate::conformance::sha256;

/// Of what `g722_encode` makes of [`signal`], in openitu/STL, commit 139db497.
const ENCODED: &str = "0844f0f43cf9db5e11ff133835584da41b2e733b876a68778750371c3d3ab97e";

/// Of what `g722_decode` makes of that in mode 1, little-endian.
const DECODED: &str = "d84dd76e0a2f3a612fd39b50d55657a92d82e26e5e08f0af3a874fc0fc7b062d";

/// Of what it makes of [`codes`].
const DECODED_NOISE: &str = "23447a6c7ac2d3f2244746893a1759a44247f3c5a66fd1d6ace92bbc2dd24508";

/// Packets of 10 to 60 ms, and lengths that no packet time gives; in bytes.
const PACKETS: [usize; 8] = [160, 80, 480, 1, 320, 77, 240, 3];

/// Whether the encoder's output is the reference's, however the sound is cut into packets.
pub fn encodes_as_the_reference() -> bool {
    encode(&signal()).is_ok_and(|codes| sha256(&codes) == ENCODED)
}

/// Whether the decoder's output is the reference's, for what the encoder sends and for codes that it never would.
pub fn decodes_as_the_reference() -> bool {
    let decoded = |codes: &[u8]| decode(codes).map(|pcm| sha256(&crate::telephone::bytes(&pcm)));
    encode(&signal()).and_then(|codes| decoded(&codes)).is_ok_and(|hash| hash == DECODED)
        && decoded(&codes()).is_ok_and(|hash| hash == DECODED_NOISE)
}

/// Encodes 16 kHz samples, an even number of them, in packets of many lengths.
pub fn encode(pcm: &[i16]) -> Result<Vec<u8>, CodecError> {
    let mut encoder = Encoder::new(Codec::G722, &OpusParams::DEFAULT)?;
    let (mut codes, mut rest) = (Vec::new(), pcm);
    for bytes in PACKETS.into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (packet, later) = rest.split_at(rest.len().min(2 * bytes));
        encoder.encode(packet, &mut codes)?;
        rest = later;
    }
    Ok(codes)
}

/// Decodes a stream in packets of many lengths.
pub fn decode(codes: &[u8]) -> Result<Vec<i16>, CodecError> {
    let mut decoder = Decoder::new(Codec::G722)?;
    let (mut pcm, mut packet_pcm, mut rest) = (Vec::new(), Vec::new(), codes);
    for bytes in PACKETS.into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (packet, later) = rest.split_at(rest.len().min(bytes));
        decoder.decode(packet, &mut packet_pcm)?;
        pcm.extend(&packet_pcm);
        rest = later;
    }
    Ok(pcm)
}

/// 22 seconds at 16 kHz, the same on any machine: noise of three levels, rising square waves and saw teeth of full scale, clicks,
/// silence, and something like a voice.
pub fn signal() -> Vec<i16> {
    const SECOND: usize = 16_000;
    let mut random = Random(0x2545_F491);
    let mut signal = Vec::new();
    for (shift, seconds) in [(0, 2), (4, 2), (11, 2)] {
        signal.extend((0..seconds * SECOND).map(|_| random.next_i16() >> shift));
    }
    let rising = |step: u32| {
        (0..4 * SECOND as u32).scan(0_u32, move |phase, n| {
            *phase = phase.wrapping_add(step * n);
            Some(*phase)
        })
    };
    // From nothing to 8 kHz within four seconds.
    signal.extend(rising(33_554).map(|phase| if phase >> 31 == 0 { i16::MAX } else { i16::MIN }));
    signal.extend(rising(33_554).map(|phase| (phase >> 16) as u16 as i16));
    signal.extend((0..2 * SECOND).map(|n| match (n % 997, n % 1_301) {
        (0, _) => i16::MAX,
        (_, 0) => i16::MIN,
        _ => 0,
    }));
    signal.extend([0; SECOND]);
    signal.extend(voice(5 * SECOND));
    signal
}

/// A buzz that glides between 90 and 180 Hz through three resonances, on for 300 ms and off for 100.
fn voice(length: usize) -> impl Iterator<Item = i16> {
    // Two poles each: 2 r cos w and r^2 in 14 bits, for 500, 1,500 and 2,500 Hz at 100 to 200 Hz of width.
    const RESONANCES: [(i64, i64); 3] = [(31_509, 15_754), (26_592, 15_600), (17_700, 15_147)];
    let mut states = [[0_i64; 2]; 3];
    let mut until_pulse = 0;
    (0..length).map(move |n| {
        let mut sample = 0;
        if until_pulse == 0 {
            let glide = (n / 40 % 200).abs_diff(100);
            until_pulse = 89 + glide * 89 / 100;
            sample = if n % 6_400 < 4_800 { 6_000 } else { 0 };
        }
        until_pulse -= 1;
        for (state, (first, second)) in states.iter_mut().zip(RESONANCES) {
            sample += (first * state[0] - second * state[1]) >> 14;
            *state = [sample, state[0]];
        }
        (sample / 16).clamp(-32_768, 32_767) as i16
    })
}

/// Ten seconds of codes in which nothing follows from what came before, and ten of codes that stay for 6 ms each.
pub fn codes() -> Vec<u8> {
    let mut random = Random(0x9E37_79B9);
    let mut codes: Vec<u8> = (0..80_000).map(|_| random.next_i16() as u8).collect();
    codes.extend((0..1_600).flat_map(|_| [random.next_i16() as u8; 50]));
    codes
}

/// Marsaglia's xorshift.
struct Random(u32);

impl Random {
    fn next_i16(&mut self) -> i16 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        (self.0 >> 16) as u16 as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g722_is_that_of_the_reference_software() {
        assert!(encodes_as_the_reference());
        assert!(decodes_as_the_reference());
    }

    #[test]
    fn the_sounds_reach_full_scale_and_silence() {
        let signal = signal();
        assert_eq!(signal.len(), 22 * 16_000);
        let voice = &signal[17 * 16_000..];
        let loudest = voice.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(0);
        assert!((8_000..32_000).contains(&loudest), "{loudest}");
    }
}
