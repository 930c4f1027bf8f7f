//! Turns a model's audio into PCM at the rate that goes back.

use tandem_media::{AudioFormat, Resampler, SampleRate, g711};

/// Converter of one item after the other, each as long afterwards as it was at the model's rate.
///
/// The resampler's delay is cut off at the beginning of an item and made up at its end.
#[derive(Debug, Default)]
pub(crate) struct Converter {
    stream: Option<Stream>,
    resampler: Option<Resampler>,
    pcm: Vec<i16>,
    wide: Vec<i16>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    format: AudioFormat,
    to: SampleRate,
    /// Samples still to be cut off the beginning.
    skip: usize,
    taken: usize,
    given: usize,
}

impl Converter {
    /// Appends `audio`, whole samples of `format`, to `out`.
    pub(crate) fn convert(
        &mut self,
        format: AudioFormat,
        to: SampleRate,
        audio: &[u8],
        out: &mut Vec<i16>,
    ) {
        if self.stream.is_none_or(|stream| stream.format != format || stream.to != to) {
            self.begin(format, to);
        }
        let stream = self.stream.as_mut().expect("the stream has begun");
        match format {
            AudioFormat::G711(law) => {
                self.pcm.resize(audio.len(), 0);
                g711::decode(law, audio, &mut self.pcm);
            }
            AudioFormat::Pcm16(_) => {
                let samples = audio.as_chunks::<2>().0;
                self.pcm.clear();
                self.pcm.extend(samples.iter().map(|bytes| i16::from_le_bytes(*bytes)));
            }
        }
        stream.taken += self.pcm.len();
        let converted = match &mut self.resampler {
            Some(resampler) => {
                self.wide.clear();
                resampler.process(&self.pcm, &mut self.wide);
                self.wide.as_slice()
            }
            None => self.pcm.as_slice(),
        };
        let skip = stream.skip.min(converted.len());
        stream.skip -= skip;
        stream.given += converted.len() - skip;
        out.extend_from_slice(&converted[skip..]);
    }

    /// No more audio of the item comes: appends what the resampler still holds.
    pub(crate) fn finish(&mut self, out: &mut Vec<i16>) {
        let Some(stream) = self.stream.take() else { return };
        let Some(resampler) = &mut self.resampler else { return };
        let expected = (stream.taken * stream.to.hz()).div_ceil(stream.format.rate().hz());
        self.wide.clear();
        resampler.flush(&mut self.wide);
        let skip = stream.skip.min(self.wide.len());
        let left = expected.saturating_sub(stream.given).min(self.wide.len() - skip);
        out.extend_from_slice(&self.wide[skip..skip + left]);
    }

    /// Forgets the item, without a trace of it in the next one.
    pub(crate) fn reset(&mut self) {
        self.stream = None;
    }

    fn begin(&mut self, format: AudioFormat, to: SampleRate) {
        let from = format.rate();
        match &mut self.resampler {
            Some(resampler) if resampler.from() == from && resampler.to() == to => {
                resampler.reset();
            }
            _ => self.resampler = (from != to).then(|| Resampler::new(from, to)),
        }
        let delay = self.resampler.as_ref().map_or(0.0, |it| it.delay().as_secs_f64());
        let skip = (delay * to.hz() as f64).round() as usize;
        self.stream = Some(Stream { format, to, skip, taken: 0, given: 0 });
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::Law;

    use super::*;

    #[test]
    fn an_item_keeps_its_length_and_place_however_it_is_split() {
        use SampleRate::{Hz8000, Hz16000, Hz24000, Hz48000};
        for (from, to) in [
            (Hz8000, Hz8000),
            (Hz24000, Hz8000),
            (Hz24000, Hz16000),
            (Hz8000, Hz24000),
            (Hz16000, Hz48000),
            (Hz48000, Hz16000),
        ] {
            let angle = std::f64::consts::TAU * 500.0;
            let sample =
                |n: usize, rate: SampleRate| 8000.0 * (angle * n as f64 / rate.hz() as f64).sin();
            let audio: Vec<u8> =
                (0..from.hz() / 10).flat_map(|n| (sample(n, from) as i16).to_le_bytes()).collect();
            let mut whole: Option<Vec<i16>> = None;
            for chunk in [audio.len(), 2, 322] {
                let (mut converter, mut out) = (Converter::default(), Vec::new());
                for item in 0..2 {
                    out.clear();
                    for chunk in audio.chunks(chunk) {
                        converter.convert(AudioFormat::Pcm16(from), to, chunk, &mut out);
                    }
                    converter.finish(&mut out);
                    assert_eq!(out.len(), to.hz() / 10, "{from:?} to {to:?}, item {item}");
                }
                for (n, &got) in
                    out.iter().enumerate().skip(out.len() / 20).take(out.len() * 9 / 10)
                {
                    assert!(
                        (f64::from(got) - sample(n, to)).abs() < 1_700.0,
                        "{from:?} to {to:?} at {n}"
                    );
                }
                assert!(whole.get_or_insert_with(|| out.clone()) == &out, "chunks of {chunk}");
            }
        }
    }

    #[test]
    fn g711_is_decoded() {
        let codes: Vec<u8> = (0..=255).collect();
        let (mut expected, mut out) = (vec![0; 256], Vec::new());
        g711::decode(Law::A, &codes, &mut expected);
        Converter::default().convert(
            AudioFormat::G711(Law::A),
            SampleRate::Hz8000,
            &codes,
            &mut out,
        );
        assert_eq!(out, expected);
    }
}
