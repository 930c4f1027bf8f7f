//! What goes up to the model: audio of the leg in the format the model takes, frame by frame.

use std::{ops::Range, time::Instant};

use tandem_call::{Origin, UplinkFrame};
use tandem_media::{
    AudioFormat, Conditioner, FrameQueue, Law, Resampler, SampleRate, VoiceSettings, g711,
};

/// Room for so much audio is made at once: 60 ms.
const ROOM_PER_SECOND: usize = 16;

/// A frame without its bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tag {
    pub(crate) speech: bool,
    pub(crate) arrival: Instant,
    pub(crate) origin: Origin,
}

/// The frames that wait for the model.
#[derive(Debug)]
pub(crate) struct Feed {
    format: AudioFormat,
    source: SampleRate,
    voice: VoiceSettings,
    /// Makes the voice better before it goes up, where that is asked for.
    conditioner: Option<Conditioner>,
    conditioned: Vec<i16>,
    resampler: Option<Resampler>,
    resampled: Vec<i16>,
    /// What the resampler held when the source changed its rate; it sounds under the first samples after that.
    rest: Vec<i16>,
    queue: FrameQueue<(AudioFormat, Tag)>,
}

impl Feed {
    /// Frames of `format`, made of audio of the rate `source`.
    pub(crate) fn new(source: SampleRate, format: AudioFormat) -> Self {
        let mut feed = Self {
            format,
            source,
            voice: VoiceSettings::default(),
            conditioner: None,
            conditioned: Vec::new(),
            resampler: None,
            resampled: Vec::new(),
            rest: Vec::new(),
            queue: FrameQueue::new(),
        };
        feed.fit_resampler();
        feed
    }

    pub(crate) const fn format(&self) -> AudioFormat {
        self.format
    }

    /// What is done to the voice from now on.
    pub(crate) fn set_voice(&mut self, voice: &VoiceSettings) {
        self.voice = voice.clone();
        self.fit_conditioner();
    }

    /// Whether a payload may go up as it came.
    pub(crate) const fn passes(&self) -> bool {
        self.conditioner.is_none()
    }

    /// Frames are of `format` from now on.
    pub(crate) fn set_format(&mut self, format: AudioFormat) {
        if format.rate() == self.format.rate() {
            self.format = format; // The resampler goes on.
            return;
        }
        self.format = format;
        self.rest.clear();
        self.fit_resampler();
    }

    /// The audio that comes is of `source` from now on. It follows what came before without a hole.
    pub(crate) fn set_source(&mut self, source: SampleRate) {
        self.rest.clear();
        if let Some(resampler) = &mut self.resampler {
            resampler.flush(&mut self.rest);
        }
        self.source = source;
        self.fit_resampler();
        self.fit_conditioner();
    }

    /// Queues `pcm` of the source's rate.
    pub(crate) fn push(&mut self, tag: Tag, pcm: &[i16]) {
        let Self { format, conditioner, conditioned, resampler, resampled, rest, queue, .. } = self;
        let pcm = match conditioner {
            Some(conditioner) => {
                conditioned.clear();
                conditioned.extend_from_slice(pcm);
                conditioner.process(conditioned, tag.speech);
                conditioned.as_slice()
            }
            None => pcm,
        };
        queue.push((*format, tag), |bytes| {
            let samples = match resampler {
                Some(resampler) => {
                    resampled.clear();
                    resampler.process(pcm, resampled);
                    resampled
                }
                None if rest.is_empty() => return format.write(pcm, bytes),
                None => {
                    resampled.clear();
                    resampled.extend_from_slice(pcm);
                    resampled
                }
            };
            if !rest.is_empty() {
                let joined = rest.len().min(samples.len());
                for (sample, rest) in samples.iter_mut().zip(rest.drain(..joined)) {
                    *sample = sample.saturating_add(rest);
                }
            }
            format.write(samples, bytes);
        });
    }

    /// Queues a payload of G.711 of `law` for a model that takes G.711, untouched where it takes `law`; what is `silent` of it is
    /// silence.
    pub(crate) fn push_g711(&mut self, tag: Tag, law: Law, payload: &[u8], silent: Range<usize>) {
        let Self { format, queue, .. } = self;
        let AudioFormat::G711(wanted) = *format else { return };
        queue.push((*format, tag), |bytes| {
            let start = bytes.len();
            bytes.extend_from_slice(payload);
            if wanted != law {
                g711::transcode(law, wanted, &mut bytes[start..]);
            }
            bytes[start..][silent].fill(wanted.silence());
        });
    }

    pub(crate) fn poll(&mut self) -> Option<UplinkFrame<'_>> {
        let (audio, (format, Tag { speech, arrival, origin })) = self.queue.pop()?;
        Some(UplinkFrame { audio, format, speech, arrival, origin })
    }

    /// Frames dropped because nobody polled.
    pub(crate) const fn dropped(&self) -> u64 {
        self.queue.dropped()
    }

    fn fit_conditioner(&mut self) {
        self.conditioner = Conditioner::new(self.source, &self.voice);
        if self.conditioner.is_some() {
            self.conditioned.reserve(self.source.hz() / ROOM_PER_SECOND);
        }
    }

    fn fit_resampler(&mut self) {
        let to = self.format.rate();
        self.resampler = (self.source != to).then(|| Resampler::new(self.source, to));
        self.resampled.reserve(to.hz() / ROOM_PER_SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_rate_of_the_source_is_not_heard() {
        let tone = |rate: SampleRate, from_ms: usize, ms: usize| -> Vec<i16> {
            let (begin, length) = (rate.hz() / 1_000 * from_ms, rate.hz() / 1_000 * ms);
            let step = std::f64::consts::TAU * 400.0 / rate.hz() as f64;
            (begin..begin + length).map(|n| (8_000.0 * (step * n as f64).sin()) as i16).collect()
        };
        let (narrow, wide) = (SampleRate::Hz8000, SampleRate::Hz16000);
        let tag = Tag { speech: false, arrival: crate::testing::start(), origin: Origin::Caller };
        for (from, to) in [(narrow, wide), (wide, narrow)] {
            let mut feed = Feed::new(from, AudioFormat::Pcm16(SampleRate::Hz24000));
            feed.push(tag, &tone(from, 0, 40));
            feed.set_source(to);
            feed.push(tag, &tone(to, 40, 40));
            let (mut pcm, mut frame) = (Vec::new(), Vec::new());
            while let Some(next) = feed.poll() {
                next.format.read(next.audio, &mut frame);
                pcm.extend_from_slice(&frame);
            }
            assert_eq!(pcm.len(), 24 * 80, "{from:?} to {to:?}");
            let steps = pcm.windows(2).skip(240).map(|pair| pair[0].abs_diff(pair[1]));
            // The steepest a tone of 400 Hz gets is 838 a sample.
            let steepest = steps.max().unwrap();
            assert!(steepest < 1_100, "{from:?} to {to:?}: a step of {steepest}");
        }
    }
}
