//! Finding the caller's turns in received audio by counting blocks, and a caller that is easily found.

use tandem_media::{AudioFormat, Law, SampleRate};

use crate::answer::bytes_of;

/// Length of the blocks that are judged.
const BLOCK_MS: u64 = 20;

/// Peak above which a block is speech.
const SPEECH_PEAK: i32 = 500;

/// Speech blocks in a row that begin a turn.
const ONSET_BLOCKS: u64 = 2;

/// Finds turns in the caller's audio. Its only time is the audio itself.
#[derive(Debug)]
pub struct SpeechDetector {
    format: AudioFormat,
    silence_ms: u64,
    partial: Vec<u8>,
    position_ms: u64,
    loud_run: u64,
    quiet_run: u64,
    in_speech: bool,
}

/// One block of caller audio, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Where the block ends in the stream, milliseconds.
    pub ends_ms: u64,
    /// What it brought.
    pub change: Option<SpeechChange>,
}

/// A border of a caller's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeechChange {
    /// Two blocks of speech in a row: the turn began `at_ms`, at the first of them.
    Started { at_ms: u64 },
    /// The stream was silent for long enough: the turn ended `at_ms`, where that silence is full.
    Ended { at_ms: u64 },
}

impl SpeechDetector {
    /// A detector that ends a turn after `silence_ms` of silence in the stream.
    pub fn new(format: AudioFormat, silence_ms: u64) -> Self {
        Self {
            format,
            silence_ms,
            partial: Vec::new(),
            position_ms: 0,
            loud_run: 0,
            quiet_run: 0,
            in_speech: false,
        }
    }

    /// Changes what the stream is made of and when a turn ends; the position stays.
    pub fn configure(&mut self, format: AudioFormat, silence_ms: u64) {
        if self.format != format {
            self.partial.clear();
        }
        self.format = format;
        self.silence_ms = silence_ms;
    }

    /// Takes the next block from the front of `audio`, none when what is left there is not a whole one; the rest
    /// is kept for the next call.
    pub fn next_block(&mut self, audio: &mut &[u8]) -> Option<Block> {
        let block_bytes = bytes_of(self.format, BLOCK_MS);
        let wanted = block_bytes - self.partial.len();
        if audio.len() < wanted {
            self.partial.extend_from_slice(audio);
            *audio = &[];
            return None;
        }
        let (head, rest) = audio.split_at(wanted);
        *audio = rest;
        let loud = if self.partial.is_empty() {
            peak(self.format, head) > SPEECH_PEAK
        } else {
            self.partial.extend_from_slice(head);
            let loud = peak(self.format, &self.partial) > SPEECH_PEAK;
            self.partial.clear();
            loud
        };
        self.position_ms += BLOCK_MS;
        Some(Block { ends_ms: self.position_ms, change: self.judge(loud) })
    }

    /// Received whole blocks, milliseconds.
    pub fn position_ms(&self) -> u64 {
        self.position_ms
    }

    fn judge(&mut self, loud: bool) -> Option<SpeechChange> {
        if loud {
            self.loud_run += 1;
            self.quiet_run = 0;
        } else {
            self.quiet_run += 1;
            self.loud_run = 0;
        }
        if !self.in_speech && self.loud_run >= ONSET_BLOCKS {
            self.in_speech = true;
            return Some(SpeechChange::Started {
                at_ms: self.position_ms - ONSET_BLOCKS * BLOCK_MS,
            });
        }
        if self.in_speech && self.quiet_run * BLOCK_MS >= self.silence_ms.max(BLOCK_MS) {
            self.in_speech = false;
            return Some(SpeechChange::Ended { at_ms: self.position_ms });
        }
        None
    }
}

/// The greatest magnitude in `audio`, on the scale of 16-bit PCM.
fn peak(format: AudioFormat, audio: &[u8]) -> i32 {
    match format {
        AudioFormat::Pcm16(_) => audio
            .chunks_exact(2)
            .map(|sample| i32::from(i16::from_le_bytes([sample[0], sample[1]])).abs())
            .max()
            .unwrap_or(0),
        // Magnitude codes of G.711 are in order, so only the loudest is expanded.
        AudioFormat::G711(Law::Mu) => {
            let code = audio.iter().map(|byte| !byte & 0x7F).max().unwrap_or(0);
            (((i32::from(code & 0x0F) << 3) + 0x84) << (code >> 4)) - 0x84
        }
        AudioFormat::G711(Law::A) => {
            let code = audio.iter().map(|byte| (byte ^ 0x55) & 0x7F).max().unwrap_or(0);
            let step = (i32::from(code & 0x0F) << 4) + 8;
            match code >> 4 {
                0 => step,
                segment => (step + 0x100) << (segment - 1),
            }
        }
    }
}

/// `ms` milliseconds of a caller speaking: a square wave of amplitude 8000 at 250 Hz.
pub fn caller_speech(format: AudioFormat, ms: u64) -> Vec<u8> {
    let half_period = format.rate().hz() / 500;
    let samples = bytes_of(format, ms) / format.bytes_per_sample();
    let up = |sample: usize| (sample / half_period).is_multiple_of(2);
    match format {
        AudioFormat::Pcm16(_) => (0..samples)
            .flat_map(|sample| if up(sample) { 8_000_i16 } else { -8_000 }.to_le_bytes())
            .collect(),
        // The codes nearest to 8000 and -8000.
        AudioFormat::G711(Law::Mu) => {
            (0..samples).map(|sample| if up(sample) { 0xA0 } else { 0x20 }).collect()
        }
        AudioFormat::G711(Law::A) => {
            (0..samples).map(|sample| if up(sample) { 0xDF ^ 0x55 } else { 0x5F ^ 0x55 }).collect()
        }
    }
}

/// `ms` milliseconds of silence.
pub fn caller_silence(format: AudioFormat, ms: u64) -> Vec<u8> {
    let byte = match format {
        AudioFormat::Pcm16(_) => 0,
        AudioFormat::G711(law) => law.silence(),
    };
    vec![byte; bytes_of(format, ms)]
}

/// The format a fake server takes when nothing was said: OpenAI's default.
pub(crate) const PCM24: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

#[cfg(test)]
mod tests {
    use super::*;

    const FORMATS: [AudioFormat; 4] = [
        AudioFormat::G711(Law::Mu),
        AudioFormat::G711(Law::A),
        AudioFormat::Pcm16(SampleRate::Hz16000),
        PCM24,
    ];

    fn changes(format: AudioFormat, audio: &[u8], piece: usize) -> Vec<SpeechChange> {
        let mut detector = SpeechDetector::new(format, 500);
        let mut changes = Vec::new();
        for mut piece in audio.chunks(piece) {
            while let Some(block) = detector.next_block(&mut piece) {
                changes.extend(block.change);
            }
        }
        changes
    }

    #[test]
    fn turns_are_found_whatever_the_format_and_the_pieces() {
        for format in FORMATS {
            let call = [
                caller_silence(format, 200),
                caller_speech(format, 1_000),
                caller_silence(format, 480),
                caller_speech(format, 20),
                caller_silence(format, 700),
                caller_speech(format, 100),
                caller_silence(format, 300),
            ]
            .concat();
            for piece in [7, 160, 641, 100_000] {
                assert_eq!(
                    changes(format, &call, piece),
                    [
                        SpeechChange::Started { at_ms: 200 },
                        SpeechChange::Ended { at_ms: 2_200 },
                        SpeechChange::Started { at_ms: 2_400 },
                    ],
                    "{format:?} in pieces of {piece}"
                );
            }
        }
    }

    #[test]
    fn one_loud_block_is_no_speech_and_no_audio_is_no_silence() {
        for format in FORMATS {
            let click = [caller_speech(format, 20), caller_silence(format, 980)].concat();
            assert_eq!(changes(format, &click, 320), []);
            let cut_off = caller_speech(format, 1_000);
            assert_eq!(
                changes(format, &cut_off, 320),
                [SpeechChange::Started { at_ms: 0 }],
                "the end is never found without silence in the stream"
            );
        }
    }

    #[test]
    fn g711_peaks_are_those_of_the_standard() {
        for (law, code, magnitude) in [
            (Law::Mu, 0xFF, 0),
            (Law::Mu, 0x80, 32_124),
            (Law::Mu, 0x00, 32_124),
            (Law::Mu, 0xA0, 7_932),
            (Law::A, 0xD5, 8),
            (Law::A, 0xAA, 32_256),
            (Law::A, 0x2A, 32_256),
            (Law::A, 0xDF ^ 0x55, 8_064),
        ] {
            assert_eq!(peak(AudioFormat::G711(law), &[code]), magnitude, "{law:?} {code:#x}");
        }
    }
}
