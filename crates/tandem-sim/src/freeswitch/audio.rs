//! Sound inside the fake switch: rates, callers that speak, files that are played.

use std::{collections::VecDeque, f64::consts::TAU, fmt};

use tandem_media::{Resampler, SampleRate};

/// The sample value of a frame in which no packet came: FreeSWITCH hands on bytes of 0xFF.
pub(crate) const FILLER: i16 = -1;

/// Converts a stream of samples between two rates.
#[derive(Debug)]
pub(crate) enum Converter {
    Same,
    Filter(Box<Resampler>),
    /// Rates nobody filters for: straight lines between samples.
    Lines {
        from: u64,
        to: u64,
        position: u64,
        last: i16,
    },
}

impl Converter {
    pub(crate) fn new(from: u32, to: u32) -> Self {
        let rate = |hz: u32| SampleRate::from_hz(hz as usize);
        match (rate(from), rate(to)) {
            _ if from == to => Self::Same,
            (Some(from), Some(to)) => Self::Filter(Box::new(Resampler::new(from, to))),
            _ => {
                Self::Lines { from: from.max(1).into(), to: to.max(1).into(), position: 0, last: 0 }
            }
        }
    }

    pub(crate) fn process(&mut self, input: &[i16], output: &mut Vec<i16>) {
        match self {
            Self::Same => output.extend_from_slice(input),
            Self::Filter(filter) => filter.process(input, output),
            Self::Lines { from, to, position, last } => {
                for &sample in input {
                    // `position` counts in units of 1 / to of an input sample.
                    while *position < *to {
                        let step =
                            (i64::from(sample) - i64::from(*last)) * *position as i64 / *to as i64;
                        output.push((i64::from(*last) + step) as i16);
                        *position += *from;
                    }
                    *position -= *to;
                    *last = sample;
                }
            }
        }
    }
}

/// Converts a whole piece of sound.
pub(crate) fn converted(samples: &[i16], from: u32, to: u32) -> Vec<i16> {
    let mut output = Vec::with_capacity(samples.len());
    Converter::new(from, to).process(samples, &mut output);
    output
}

/// Reads little-endian 16-bit samples; an odd byte at the end is left out.
pub fn samples_of(bytes: &[u8]) -> Vec<i16> {
    bytes.as_chunks().0.iter().map(|pair| i16::from_le_bytes(*pair)).collect()
}

/// Little-endian bytes of 16-bit samples.
pub fn bytes_of(samples: &[i16]) -> Vec<u8> {
    samples.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

/// Writes the next frame of a caller's speech.
pub type SpeechGenerator = Box<dyn FnMut(&mut [i16]) + Send>;

/// What a caller says, sample by sample at the rate of the call's codec.
pub enum Speech {
    /// Nothing: packets of silence.
    Silence,
    /// These samples once, then silence.
    Once(Vec<i16>),
    /// These samples over and over.
    Loop(Vec<i16>),
    /// Whatever the function writes into each frame.
    Generator(SpeechGenerator),
}

impl fmt::Debug for Speech {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silence => formatter.write_str("Silence"),
            Self::Once(samples) => write!(formatter, "Once({} samples)", samples.len()),
            Self::Loop(samples) => write!(formatter, "Loop({} samples)", samples.len()),
            Self::Generator(_) => formatter.write_str("Generator"),
        }
    }
}

/// A voice: what it was told to say comes first, then its own speech.
#[derive(Debug)]
pub(crate) struct Voice {
    own: Speech,
    position: usize,
    said: VecDeque<i16>,
}

/// Most samples that wait to be said: ten minutes at 48 kHz.
const MOST_SAID: usize = 600 * 48_000;

impl Voice {
    pub(crate) fn new(own: Speech) -> Self {
        Self { own, position: 0, said: VecDeque::new() }
    }

    /// Says this next, after what it was told before.
    pub(crate) fn say(&mut self, samples: &[i16]) {
        let room = MOST_SAID.saturating_sub(self.said.len());
        self.said.extend(&samples[..samples.len().min(room)]);
    }

    pub(crate) fn set_own(&mut self, own: Speech) {
        self.own = own;
        self.position = 0;
    }

    pub(crate) fn fill(&mut self, frame: &mut [i16]) {
        let said = self.said.len().min(frame.len());
        for (sample, next) in frame.iter_mut().zip(self.said.drain(..said)) {
            *sample = next;
        }
        let rest = &mut frame[said..];
        match &mut self.own {
            Speech::Silence => rest.fill(0),
            Speech::Once(samples) => {
                for sample in rest {
                    *sample = samples.get(self.position).copied().unwrap_or(0);
                    self.position += 1;
                }
            }
            Speech::Loop(samples) => {
                for sample in rest {
                    *sample = samples.get(self.position).copied().unwrap_or(0);
                    self.position = (self.position + 1) % samples.len().max(1);
                }
            }
            Speech::Generator(write) if !rest.is_empty() => write(rest),
            Speech::Generator(_) => {}
        }
    }
}

/// Sound that can be played to a channel.
#[derive(Debug, Clone)]
pub(crate) enum Sound {
    /// Samples at the channel's rate.
    Samples(Vec<i16>),
    /// A tone of `hz` (0: silence) that is `on` samples on and `off` samples off, so many times; none: for ever.
    Tone { hz: u32, on: usize, off: usize, times: Option<u64>, rate: u32 },
}

impl Sound {
    /// What `path` names when it is no file: `tone_stream://` and `silence_stream://`; none for others.
    pub(crate) fn of_stream(path: &str, rate: u32) -> Option<Self> {
        let samples = |ms: u64| (ms * u64::from(rate) / 1_000) as usize;
        if let Some(length) = path.strip_prefix("silence_stream://") {
            let length = length.split(',').next().unwrap_or_default().trim();
            let ms: i64 = length.parse().ok()?;
            return Some(match u64::try_from(ms) {
                Ok(ms) => Self::Samples(vec![0; samples(ms.min(600_000))]),
                Err(_) => Self::Tone { hz: 0, on: samples(1_000), off: 0, times: None, rate },
            });
        }
        let description = path.strip_prefix("tone_stream://")?;
        let inside = description.split_once("%(").and_then(|(_, rest)| rest.split_once(')'));
        let mut numbers = inside
            .map_or("", |(inside, _)| inside)
            .split(',')
            .map(|number| number.trim().parse::<u64>().ok());
        let on = numbers.next().flatten().unwrap_or(1_000).min(600_000);
        let off = numbers.next().flatten().unwrap_or(0).min(600_000);
        let hz = numbers.next().flatten().unwrap_or(440) as u32;
        let times = description
            .split(';')
            .find_map(|option| option.strip_prefix("loops="))
            .map_or(Some(1), |loops| {
                loops.parse::<i64>().ok().and_then(|loops| u64::try_from(loops).ok())
            });
        Some(Self::Tone { hz, on: samples(on).max(1), off: samples(off), times, rate })
    }

    /// Samples it has, none when it never ends.
    pub(crate) fn length(&self) -> Option<usize> {
        match self {
            Self::Samples(samples) => Some(samples.len()),
            Self::Tone { on, off, times, .. } => {
                times.map(|times| (on + off).saturating_mul(times as usize))
            }
        }
    }

    /// Writes the samples from `position` on; those after its end stay as they are.
    pub(crate) fn fill(&self, position: usize, frame: &mut [i16]) {
        match self {
            Self::Samples(samples) => {
                let rest = samples.get(position..).unwrap_or_default();
                for (sample, next) in frame.iter_mut().zip(rest) {
                    *sample = *next;
                }
            }
            Self::Tone { hz, on, off, rate, .. } => {
                let end = self.length().unwrap_or(usize::MAX);
                for (at, sample) in (position..end).zip(frame) {
                    let loud = *hz > 0 && at % (on + off) < *on;
                    let phase = at as f64 * f64::from(*hz) / f64::from(*rate);
                    *sample = if loud { (4_000.0 * (TAU * phase).sin()) as i16 } else { 0 };
                }
            }
        }
    }
}

/// Reads the sound in a wave file: 16-bit PCM, the first channel only; with its rate.
pub(crate) fn of_wave(bytes: &[u8]) -> Option<(u32, Vec<i16>)> {
    let mut rest = bytes.strip_prefix(b"RIFF")?.get(4..)?.strip_prefix(b"WAVE")?;
    let (mut rate, mut channels) = (8_000, 1);
    loop {
        let (name, after) = rest.split_first_chunk::<4>()?;
        let (length, body) = after.split_first_chunk::<4>()?;
        // Streams are written before their length is known: the data reaches to the end then.
        let length = (u32::from_le_bytes(*length) as usize).min(body.len());
        match name {
            b"fmt " => {
                channels = u16::from_le_bytes(*body.get(2..)?.first_chunk()?).max(1);
                rate = u32::from_le_bytes(*body.get(4..)?.first_chunk()?);
            }
            b"data" => {
                let samples = samples_of(&body[..length]);
                return Some((rate, samples.into_iter().step_by(channels.into()).collect()));
            }
            _ => {}
        }
        rest = body.get(length.next_multiple_of(2)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_their_length() {
        for (path, length) in [
            ("silence_stream://250", Some(2_000)),
            ("silence_stream://-1", None),
            ("tone_stream://%(300,100,800)", Some(3_200)),
            ("tone_stream://%(200,100,440);loops=3", Some(7_200)),
            ("tone_stream://%(500,500,440);loops=-1", None),
        ] {
            assert_eq!(Sound::of_stream(path, 8_000).unwrap().length(), length, "{path}");
        }
        assert!(Sound::of_stream("/a/file.wav", 8_000).is_none());
    }

    #[test]
    fn odd_rates_keep_the_length_of_time() {
        let mut lines = Converter::new(8_000, 11_025);
        let mut output = Vec::new();
        for _ in 0..50 {
            lines.process(&[100; 160], &mut output);
        }
        assert_eq!(output.len(), 11_025);
        assert_eq!(output[2_000], 100);
    }

    #[test]
    fn a_voice_says_what_it_is_told_first() {
        let mut voice = Voice::new(Speech::Loop(vec![1, 2, 3]));
        voice.say(&[9, 9]);
        let mut frame = [0; 6];
        voice.fill(&mut frame);
        assert_eq!(frame, [9, 9, 1, 2, 3, 1]);
    }

    #[test]
    fn wave_files_are_read() {
        let mut wave = b"RIFF\x2c\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data\xff\xff\xff\x7f".to_vec();
        wave.extend(bytes_of(&[5, -6]));
        assert_eq!(of_wave(&wave), Some((8_000, vec![5, -6])));
        assert_eq!(of_wave(b"RIFF"), None);
    }
}
