//! Turns a model's audio into the G.711 of the leg.

use tandem_call::ItemId;
use tandem_media::{AudioFormat, Law, Resampler, SampleRate, g711};

/// Samples converted in one go: 20 ms at 48 kHz.
const BLOCK: usize = 960;

/// Converter of one item after the other, each as long at 8 kHz as it was at the model's rate.
///
/// The resampler's delay is cut off at the beginning of an item and made up at its end.
#[derive(Debug, Default)]
pub(crate) struct ModelAudio {
    stream: Option<Stream>,
    resampler: Option<Resampler>,
    pcm: Vec<i16>,
    narrow: Vec<i16>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    item: ItemId,
    format: AudioFormat,
    /// The first half of a sample that was split between two chunks.
    half: Option<u8>,
    /// Samples at 8 kHz still to be cut off the beginning.
    skip: usize,
    taken: usize,
    given: usize,
}

impl ModelAudio {
    /// Converts `audio` of `item` and hands the G.711 of `law` on to `play`.
    pub(crate) fn convert(
        &mut self,
        item: ItemId,
        format: AudioFormat,
        law: Law,
        audio: &[u8],
        play: &mut impl FnMut(ItemId, &[u8]),
    ) {
        if self.stream.is_none_or(|stream| stream.item != item || stream.format != format) {
            self.finish(law, play);
            self.begin(item, format);
        }
        match format {
            AudioFormat::G711(from) if from == law => play(item, audio),
            AudioFormat::G711(from) => {
                self.bytes.clear();
                self.bytes.extend_from_slice(audio);
                g711::transcode(from, law, &mut self.bytes);
                play(item, &self.bytes);
            }
            AudioFormat::Pcm16(_) => self.convert_pcm(law, audio, play),
        }
    }

    /// No more audio of the current item comes: hands on what the resampler still holds.
    pub(crate) fn finish(&mut self, law: Law, play: &mut impl FnMut(ItemId, &[u8])) {
        let Some(mut stream) = self.stream.take() else { return };
        let Some(resampler) = self.resampler.as_mut() else { return };
        let expected = (stream.taken * 8_000).div_ceil(stream.format.rate().hz());
        self.narrow.clear();
        resampler.flush(&mut self.narrow);
        let skip = stream.skip.min(self.narrow.len());
        let left = expected.saturating_sub(stream.given).min(self.narrow.len() - skip);
        stream.given += left;
        encode(law, &self.narrow[skip..skip + left], &mut self.bytes);
        play(stream.item, &self.bytes);
    }

    /// Forgets the current item, without a trace of it in the next one.
    pub(crate) fn reset(&mut self) {
        self.stream = None;
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
    }

    /// The item whose audio comes.
    pub(crate) fn item(&self) -> Option<ItemId> {
        self.stream.map(|stream| stream.item)
    }

    fn begin(&mut self, item: ItemId, format: AudioFormat) {
        let rate = format.rate();
        match &mut self.resampler {
            Some(resampler) if resampler.from() == rate => resampler.reset(),
            _ if rate == SampleRate::Hz8000 => self.resampler = None,
            _ => self.resampler = Some(Resampler::new(rate, SampleRate::Hz8000)),
        }
        let delay =
            self.resampler.as_ref().map_or(0.0, |resampler| resampler.delay().as_secs_f64());
        let skip = (delay * 8000.0).round() as usize;
        self.stream = Some(Stream { item, format, half: None, skip, taken: 0, given: 0 });
    }

    fn convert_pcm(&mut self, law: Law, mut audio: &[u8], play: &mut impl FnMut(ItemId, &[u8])) {
        let stream = self.stream.as_mut().expect("the stream has begun");
        self.pcm.clear();
        if let (Some(low), Some((&high, rest))) = (stream.half, audio.split_first()) {
            self.pcm.push(i16::from_le_bytes([low, high]));
            (stream.half, audio) = (None, rest);
        }
        let (pairs, odd) = audio.as_chunks::<2>();
        if let [odd] = odd {
            stream.half = Some(*odd);
        }
        // The sample that was split comes alone, the others in blocks that bound the scratch buffers.
        let mut rest = pairs;
        loop {
            let (block, later) = rest.split_at(rest.len().min(BLOCK - self.pcm.len()));
            self.pcm.extend(block.iter().map(|bytes| i16::from_le_bytes(*bytes)));
            if self.pcm.is_empty() {
                return;
            }
            stream.taken += self.pcm.len();
            let narrow = match &mut self.resampler {
                Some(resampler) => {
                    self.narrow.clear();
                    resampler.process(&self.pcm, &mut self.narrow);
                    self.narrow.as_slice()
                }
                None => self.pcm.as_slice(),
            };
            let skip = stream.skip.min(narrow.len());
            stream.skip -= skip;
            stream.given += narrow.len() - skip;
            encode(law, &narrow[skip..], &mut self.bytes);
            play(stream.item, &self.bytes);
            self.pcm.clear();
            rest = later;
        }
    }
}

fn encode(law: Law, pcm: &[i16], bytes: &mut Vec<u8>) {
    bytes.resize(pcm.len(), 0);
    g711::encode(law, pcm, bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const ITEM: ItemId = ItemId(1);
    const PCM24: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

    fn tone(samples: usize, hz: f64, rate: f64) -> Vec<u8> {
        (0..samples)
            .map(|n| (8000.0 * (std::f64::consts::TAU * hz * n as f64 / rate).sin()) as i16)
            .flat_map(i16::to_le_bytes)
            .collect()
    }

    fn convert(format: AudioFormat, audio: &[u8], chunk: usize) -> Vec<u8> {
        let mut converter = ModelAudio::default();
        let mut out = Vec::new();
        let mut play = |item: ItemId, bytes: &[u8]| {
            assert_eq!(item, ITEM);
            out.extend_from_slice(bytes);
        };
        for chunk in audio.chunks(chunk) {
            converter.convert(ITEM, format, Law::Mu, chunk, &mut play);
        }
        converter.finish(Law::Mu, &mut play);
        out
    }

    #[test]
    fn an_item_keeps_its_length_and_place() {
        for (format, rate) in [
            (AudioFormat::Pcm16(SampleRate::Hz8000), 8_000.0),
            (AudioFormat::Pcm16(SampleRate::Hz16000), 16_000.0),
            (PCM24, 24_000.0),
            (AudioFormat::Pcm16(SampleRate::Hz48000), 48_000.0),
        ] {
            let audio = tone(rate as usize / 10, 500.0, rate);
            let out = convert(format, &audio, 480);
            assert_eq!(out.len(), 800, "{format:?}");
            let mut pcm = vec![0; 800];
            g711::decode(Law::Mu, &out, &mut pcm);
            for (n, sample) in pcm.iter().enumerate().skip(40).take(720) {
                let ideal = 8000.0 * (std::f64::consts::TAU * 500.0 * n as f64 / 8000.0).sin();
                let error = (f64::from(*sample) - ideal).abs();
                // Half a sample of the resampler's delay cannot be cut off: 62 us.
                assert!(error < 1_700.0, "{format:?}: sample {n} is {error} off");
            }
        }
    }

    #[test]
    fn any_split_gives_the_same_bytes() {
        let audio = tone(5000, 440.0, 24_000.0);
        let whole = convert(PCM24, &audio, audio.len());
        for chunk in [1, 3, 959, 4096] {
            assert!(convert(PCM24, &audio, chunk) == whole, "chunks of {chunk}");
        }
    }

    #[test]
    fn g711_passes_or_changes_its_law() {
        let audio: Vec<u8> = (0..=255).collect();
        assert_eq!(convert(AudioFormat::G711(Law::Mu), &audio, 100), audio);
        let mut expected = audio.clone();
        g711::transcode(Law::A, Law::Mu, &mut expected);
        assert_eq!(convert(AudioFormat::G711(Law::A), &audio, 100), expected);
    }

    #[test]
    fn the_next_item_takes_the_end_of_the_last_one_along() {
        let mut converter = ModelAudio::default();
        let mut lengths = [0; 3];
        let mut play = |item: ItemId, bytes: &[u8]| lengths[item.0 as usize] += bytes.len();
        converter.convert(ItemId(1), PCM24, Law::A, &tone(480, 300.0, 24e3), &mut play);
        converter.convert(ItemId(2), PCM24, Law::A, &tone(480, 300.0, 24e3), &mut play);
        converter.reset();
        converter.finish(Law::A, &mut play);
        assert_eq!(lengths[1], 160);
        assert!((140..160).contains(&lengths[2]));
    }
}
