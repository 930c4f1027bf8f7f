//! Turns the bytes of one audio format into those of another.

use crate::{AudioFormat, Resampler, SampleRate, g711};

/// Samples converted in one go: 20 ms at 24 kHz.
const BLOCK: usize = 480;

/// Converts a stretch of audio that comes in pieces; it is as long afterwards as it was, and begins where it began.
///
/// The resampler's delay is cut off at the beginning and made up by [`finish`](Self::finish). Nothing is allocated but room in
/// buffers that are kept, and what is in the wanted format already is passed on as it is.
#[derive(Debug)]
pub struct Converter {
    from: AudioFormat,
    to: AudioFormat,
    resampler: Option<Resampler>,
    /// The first half of a sample that was split between two pieces.
    half: Option<u8>,
    /// Output samples still to be cut off the beginning.
    skip: usize,
    taken: u64,
    given: u64,
    pcm: Vec<i16>,
    resampled: Vec<i16>,
    bytes: Vec<u8>,
}

impl Converter {
    /// A converter at the beginning of a stretch.
    pub fn new(from: AudioFormat, to: AudioFormat) -> Self {
        let mut converter = Self {
            from,
            to,
            resampler: None,
            half: None,
            skip: 0,
            taken: 0,
            given: 0,
            pcm: Vec::new(),
            resampled: Vec::new(),
            bytes: Vec::new(),
        };
        converter.restart(from, to);
        converter
    }

    /// What it takes.
    pub const fn from(&self) -> AudioFormat {
        self.from
    }

    /// What it gives.
    pub const fn to(&self) -> AudioFormat {
        self.to
    }

    /// Begins another stretch, without a trace of the last one. Takes memory where the rates are others than before.
    pub fn restart(&mut self, from: AudioFormat, to: AudioFormat) {
        (self.from, self.to) = (from, to);
        (self.half, self.taken, self.given) = (None, 0, 0);
        let rates = (from.rate(), to.rate());
        match &mut self.resampler {
            Some(resampler) if (resampler.from(), resampler.to()) == rates => resampler.reset(),
            _ if from.rate() == to.rate() => self.resampler = None,
            _ => self.resampler = Some(Resampler::new(from.rate(), to.rate())),
        }
        let delay = self.resampler.as_ref().map_or(0.0, |it| it.delay().as_secs_f64());
        self.skip = (delay * to.rate().hz() as f64).round() as usize;
    }

    /// Converts the next piece and hands it on to `take`, in pieces of its own.
    pub fn convert(&mut self, mut audio: &[u8], take: &mut impl FnMut(&[u8])) {
        match (self.from, self.to) {
            (AudioFormat::G711(from), AudioFormat::G711(to)) if from == to => take(audio),
            (AudioFormat::G711(from), AudioFormat::G711(to)) => {
                self.bytes.clear();
                self.bytes.extend_from_slice(audio);
                g711::transcode(from, to, &mut self.bytes);
                take(&self.bytes);
            }
            (AudioFormat::G711(law), AudioFormat::Pcm16(_)) => {
                for block in audio.chunks(BLOCK) {
                    self.pcm.resize(block.len(), 0);
                    g711::decode(law, block, &mut self.pcm);
                    self.hand_on(take);
                }
            }
            (AudioFormat::Pcm16(_), _) => {
                self.pcm.clear();
                if let (Some(low), Some((&high, rest))) = (self.half, audio.split_first()) {
                    self.pcm.push(i16::from_le_bytes([low, high]));
                    (self.half, audio) = (None, rest);
                }
                let (mut pairs, odd) = audio.as_chunks::<2>();
                if let [odd] = odd {
                    self.half = Some(*odd);
                }
                if self.from == self.to && self.pcm.is_empty() {
                    return take(pairs.as_flattened());
                }
                // The sample that was split joins the first block; blocks bound the scratch buffers.
                loop {
                    let (block, later) = pairs.split_at(pairs.len().min(BLOCK - self.pcm.len()));
                    self.pcm.extend(block.iter().map(|bytes| i16::from_le_bytes(*bytes)));
                    if self.pcm.is_empty() {
                        return;
                    }
                    self.hand_on(take);
                    self.pcm.clear();
                    pairs = later;
                }
            }
        }
    }

    /// No more of the stretch comes: hands on what the resampler still holds. The next one begins with
    /// [`restart`](Self::restart).
    pub fn finish(&mut self, take: &mut impl FnMut(&[u8])) {
        let Some(resampler) = &mut self.resampler else { return };
        let rates = (self.from.rate().hz() as u64, self.to.rate().hz() as u64);
        let expected = (self.taken * rates.1).div_ceil(rates.0);
        self.resampled.clear();
        resampler.flush(&mut self.resampled);
        let skip = self.skip.min(self.resampled.len());
        let left = usize::try_from(expected.saturating_sub(self.given)).unwrap_or(0);
        let left = left.min(self.resampled.len() - skip);
        self.given += left as u64;
        if left > 0 {
            write(self.to, &self.resampled[skip..skip + left], &mut self.bytes);
            take(&self.bytes);
        }
    }

    /// Converts what is in `pcm`.
    fn hand_on(&mut self, take: &mut impl FnMut(&[u8])) {
        self.taken += self.pcm.len() as u64;
        let converted = match &mut self.resampler {
            Some(resampler) => {
                self.resampled.clear();
                resampler.process(&self.pcm, &mut self.resampled);
                self.resampled.as_slice()
            }
            None => self.pcm.as_slice(),
        };
        let skip = self.skip.min(converted.len());
        self.skip -= skip;
        self.given += (converted.len() - skip) as u64;
        write(self.to, &converted[skip..], &mut self.bytes);
        take(&self.bytes);
    }
}

impl Default for Converter {
    /// One that has nothing to do yet.
    fn default() -> Self {
        let format = AudioFormat::Pcm16(SampleRate::Hz8000);
        Self::new(format, format)
    }
}

/// Writes `pcm` into `bytes`, which becomes as long.
fn write(format: AudioFormat, pcm: &[i16], bytes: &mut Vec<u8>) {
    bytes.clear();
    format.write(pcm, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Law;

    const RATES: [SampleRate; 4] =
        [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];

    fn tone(rate: SampleRate, samples: usize) -> Vec<u8> {
        let step = std::f64::consts::TAU * 500.0 / rate.hz() as f64;
        (0..samples)
            .flat_map(|n| ((8000.0 * (step * n as f64).sin()) as i16).to_le_bytes())
            .collect()
    }

    fn convert(from: AudioFormat, to: AudioFormat, audio: &[u8], piece: usize) -> Vec<u8> {
        let (mut converter, mut out) = (Converter::default(), Vec::new());
        for _ in 0..2 {
            // The second stretch knows nothing of the first.
            out.clear();
            converter.restart(from, to);
            for piece in audio.chunks(piece) {
                converter.convert(piece, &mut |bytes| out.extend_from_slice(bytes));
            }
            converter.finish(&mut |bytes| out.extend_from_slice(bytes));
        }
        out
    }

    #[test]
    fn a_stretch_keeps_its_length_and_place_at_every_rate() {
        for (from, to) in RATES.into_iter().flat_map(|from| RATES.map(|to| (from, to))) {
            let formats = (AudioFormat::Pcm16(from), AudioFormat::Pcm16(to));
            let out = convert(formats.0, formats.1, &tone(from, from.hz() / 10), 479);
            assert_eq!(out.len(), to.hz() / 5, "{from:?} to {to:?}");
            let ideal = tone(to, to.hz() / 10);
            let (out, ideal) = (out.as_chunks::<2>().0, ideal.as_chunks::<2>().0);
            let edge = to.hz() / 200;
            for n in edge..out.len() - edge {
                let error =
                    i32::from(i16::from_le_bytes(out[n])) - i32::from(i16::from_le_bytes(ideal[n]));
                // Half a sample of the resampler's delay cannot be cut off: 62 us at 8 kHz.
                assert!(error.abs() < 1_700, "{from:?} to {to:?}: sample {n} is {error} off");
            }
        }
    }

    #[test]
    fn any_split_gives_the_same_bytes() {
        for to in [
            AudioFormat::G711(Law::Mu),
            AudioFormat::Pcm16(SampleRate::Hz16000),
            AudioFormat::Pcm16(SampleRate::Hz24000),
        ] {
            let from = AudioFormat::Pcm16(SampleRate::Hz24000);
            let audio = tone(SampleRate::Hz24000, 5000);
            let whole = convert(from, to, &audio, audio.len());
            for piece in [1, 3, 959, 4096] {
                assert!(convert(from, to, &audio, piece) == whole, "{to:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn g711_passes_changes_its_law_or_becomes_pcm() {
        let audio: Vec<u8> = (0..=255).collect();
        let (mu, a) = (AudioFormat::G711(Law::Mu), AudioFormat::G711(Law::A));
        assert_eq!(convert(mu, mu, &audio, 100), audio);
        let mut expected = audio.clone();
        g711::transcode(Law::A, Law::Mu, &mut expected);
        assert_eq!(convert(a, mu, &audio, 100), expected);
        let pcm = convert(mu, AudioFormat::Pcm16(SampleRate::Hz8000), &audio, 100);
        assert_eq!(convert(AudioFormat::Pcm16(SampleRate::Hz8000), mu, &pcm, 3).len(), 256);
        let wide = convert(mu, AudioFormat::Pcm16(SampleRate::Hz16000), &audio, 100);
        assert_eq!(wide.len(), 1024);
    }
}
