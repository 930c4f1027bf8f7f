//! Audio that says of itself which answer and which 20 ms of it it is.

use std::{
    collections::HashMap,
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tandem_media::{AudioFormat, Law};

/// Length of a block: all samples of one are equal.
pub const BLOCK_MS: u64 = 20;

/// Longest answer a script can order.
pub(crate) const LONGEST_MS: u64 = 3_600_000;

/// How the audio of an answer is cut into messages, and when they are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// 100 ms chunks, all at once.
    #[default]
    Burst,
    /// A 100 ms chunk every 20 ms.
    Fast,
    /// Chunks of 7, 33, 250, 1 and 90 ms in turn, all at once.
    Ragged,
    /// 100 ms chunks whose boundaries split a 16-bit sample, all at once.
    Odd,
    /// One second at once, a pause of 1.5 s, the rest at once.
    Stall,
    /// A 100 ms chunk every 130 ms, which is slower than it is spoken.
    Slow,
    /// A 100 ms chunk every 100 ms.
    Paced,
    /// One message.
    Whole,
}

/// One message's worth of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Which bytes of the answer.
    pub(crate) bytes: Range<usize>,
    /// Milliseconds to wait after the chunk before it, or after the answer's begin.
    pub(crate) after_ms: u64,
}

impl Profile {
    /// Cuts `ms` milliseconds of `format`, an hour at most. An answer of no length has no chunks.
    pub(crate) fn cut(self, format: AudioFormat, ms: u64) -> Vec<Chunk> {
        let ms = ms.min(LONGEST_MS);
        let total = bytes_of(format, ms);
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut start = 0;
        while start < total {
            let index = chunks.len();
            let chunk_ms = match self {
                Self::Ragged => [7, 33, 250, 1, 90][index % 5],
                Self::Whole => ms,
                _ => 100,
            };
            let odd = usize::from(self == Self::Odd && index == 0);
            let end = (start + bytes_of(format, chunk_ms) + odd).min(total);
            let after_ms = match self {
                Self::Fast if index > 0 => 20,
                Self::Slow if index > 0 => 130,
                Self::Paced if index > 0 => 100,
                Self::Stall if index == 10 => 1_500,
                _ => 0,
            };
            chunks.push(Chunk { bytes: start..end, after_ms });
            start = end;
        }
        chunks
    }
}

/// The bytes of `ms` milliseconds.
pub(crate) fn bytes_of(format: AudioFormat, ms: u64) -> usize {
    ms as usize * format.rate().hz() / 1_000 * format.bytes_per_sample()
}

/// The linear level of PCM that millisecond `ms` of answer `answer` has: 1000 to 10990 in steps of 10.
pub fn level(answer: u32, ms: u64) -> i16 {
    let block = (ms / BLOCK_MS + u64::from(answer.saturating_sub(1)) * 211) % 1_000;
    1_000 + 10 * block as i16
}

/// The byte of G.711 that millisecond `ms` of answer `answer` has: one of 224 codes, none of which is near silence.
pub fn code(law: Law, answer: u32, ms: u64) -> u8 {
    let block = (ms / BLOCK_MS + u64::from(answer.saturating_sub(1)) * 61) % 224;
    let (sign, magnitude) = ((block / 112 * 0x80) as u8, (block % 112) as u8);
    match law {
        Law::Mu => sign | magnitude,
        Law::A => (sign | (magnitude + 0x10)) ^ 0x55,
    }
}

/// Bytes `range` of answer `answer` in `format`.
pub fn audio(format: AudioFormat, answer: u32, range: Range<usize>) -> Vec<u8> {
    let bytes_per_ms = bytes_of(format, 1);
    let ms_at = |byte: usize| (byte / bytes_per_ms) as u64;
    match format {
        AudioFormat::G711(law) => range.map(|byte| code(law, answer, ms_at(byte))).collect(),
        AudioFormat::Pcm16(_) => {
            range.map(|byte| level(answer, ms_at(byte)).to_le_bytes()[byte % 2]).collect()
        }
    }
}

/// Base64 of answer audio, made once and shared by all connections of a server.
#[derive(Debug, Default)]
pub(crate) struct AudioBank {
    chunks: Mutex<Bank>,
}

#[derive(Debug, Default)]
struct Bank {
    by_key: HashMap<(AudioFormat, u32, Range<usize>), Arc<str>>,
    bytes: usize,
}

impl AudioBank {
    /// Text kept at most; beyond it chunks are made anew each time.
    const LIMIT: usize = 64 << 20;

    /// Bytes `range` of answer `answer` as base64.
    pub(crate) fn base64(&self, format: AudioFormat, answer: u32, range: Range<usize>) -> Arc<str> {
        let key = (format, answer, range.clone());
        let mut bank = self.chunks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = bank.by_key.get(&key) {
            return Arc::clone(kept);
        }
        let text: Arc<str> =
            base64_simd::STANDARD.encode_to_string(audio(format, answer, range)).into();
        if bank.bytes + text.len() <= Self::LIMIT {
            bank.bytes += text.len();
            bank.by_key.insert(key, Arc::clone(&text));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::SampleRate;

    use super::*;

    const MU: AudioFormat = AudioFormat::G711(Law::Mu);
    const PCM24: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

    #[test]
    fn every_block_has_its_own_value() {
        assert_eq!(
            [level(1, 0), level(1, 19), level(1, 20), level(2, 0)],
            [1000, 1000, 1010, 3110]
        );
        for law in [Law::Mu, Law::A] {
            let mut codes: Vec<u8> = (0..224).map(|block| code(law, 1, block * 20)).collect();
            codes.sort_unstable();
            codes.dedup();
            assert_eq!(codes.len(), 224, "{law:?}");
            assert!(!codes.contains(&law.silence()));
            assert_ne!(code(law, 1, 0), code(law, 2, 0));
        }
    }

    #[test]
    fn a_profile_cuts_all_of_the_audio_in_order() {
        for profile in [
            Profile::Burst,
            Profile::Fast,
            Profile::Ragged,
            Profile::Odd,
            Profile::Stall,
            Profile::Slow,
            Profile::Paced,
            Profile::Whole,
        ] {
            for format in [MU, PCM24] {
                let whole = audio(format, 3, 0..bytes_of(format, 2_345));
                let chunks = profile.cut(format, 2_345);
                let joined: Vec<u8> =
                    chunks.iter().flat_map(|chunk| audio(format, 3, chunk.bytes.clone())).collect();
                assert_eq!(joined, whole, "{profile:?} {format:?}");
            }
        }
        assert!(Profile::Burst.cut(MU, 0).is_empty());
    }

    #[test]
    fn profiles_are_timed_and_cut_as_they_say() {
        let sizes = |profile: Profile, format| -> Vec<usize> {
            profile.cut(format, 500).iter().map(|chunk| chunk.bytes.len()).collect()
        };
        assert_eq!(sizes(Profile::Burst, MU), [800; 5]);
        assert_eq!(sizes(Profile::Ragged, MU), [56, 264, 2_000, 8, 720, 56, 264, 632]);
        assert_eq!(sizes(Profile::Odd, PCM24), [4_801, 4_800, 4_800, 4_800, 4_799]);
        assert_eq!(sizes(Profile::Whole, PCM24), [24_000]);
        let wait = |profile: Profile| -> u64 {
            profile.cut(MU, 2_000).iter().map(|chunk| chunk.after_ms).sum()
        };
        let waits = [Profile::Burst, Profile::Fast, Profile::Stall, Profile::Slow].map(wait);
        assert_eq!(waits, [0, 380, 1_500, 2_470]);
    }

    #[test]
    fn the_bank_shares_what_it_made() {
        let bank = AudioBank::default();
        let first = bank.base64(MU, 1, 0..800);
        assert!(Arc::ptr_eq(&first, &bank.base64(MU, 1, 0..800)));
        assert_eq!(
            base64_simd::STANDARD.decode_to_vec(first.as_bytes()).unwrap(),
            audio(MU, 1, 0..800)
        );
    }
}
