//! What the caller hears, millisecond by millisecond.
//!
//! Fake models speak in constant levels that tell which answer and which 20 ms of it they are; prompts and the attendant
//! do not.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use tandem_media::{AudioFormat, Law, g711};
use tandem_sim::{Heard, answer_code, answer_level};

const MS: Duration = Duration::from_millis(1);

/// Silence within what counts as one stretch of sound.
const PAUSE: Duration = Duration::from_millis(20);

/// Below this nothing is heard.
const SILENT: i16 = 100;

/// Milliseconds that a resampler may smear at a begin and an end.
const SMEAR: u64 = 4;

/// Milliseconds in which the leg lets a voice that breaks off go on or fade out, and of which some fade in again.
const JOINT: usize = 65;
const FADE: usize = 5;

/// Milliseconds alike after a joint, by which it is known where an answer goes on: no two of 20 ms are.
const RESUMED: usize = 12;

/// Everything that left for the caller, silence left out.
#[derive(Debug, Default)]
pub struct Ear {
    frames: Vec<Frame>,
    packets: u64,
}

/// One millisecond of G.711.
#[derive(Debug, Clone, Copy)]
struct Frame {
    at: Instant,
    bytes: [u8; 8],
    /// The mean, if all eight samples are alike.
    level: Option<i16>,
    /// The loudest sample.
    peak: u16,
}

/// Who is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Voiced {
    /// A fake model.
    Model,
    /// A prompt or the attendant.
    Words,
}

/// A stretch of sound between silences.
#[derive(Debug, Clone, PartialEq)]
pub struct Stretch {
    /// When the packet with its first millisecond left, or as much later as the millisecond is within the packet.
    pub start: Instant,
    /// The end of its last millisecond.
    pub end: Instant,
    /// Who is heard.
    pub voiced: Voiced,
    frames: Range<usize>,
}

impl Ear {
    /// Takes the payload of a packet that left `at`.
    pub fn hear(&mut self, at: Instant, payload: &[u8]) {
        self.packets += 1;
        let mut at = at;
        for bytes in payload.as_chunks::<8>().0 {
            let mut pcm = [0; 8];
            g711::decode(Law::Mu, bytes, &mut pcm);
            let peak = pcm.map(i16::unsigned_abs).into_iter().max().unwrap_or(0);
            if peak > SILENT.unsigned_abs() {
                self.frames.push(Frame { at, bytes: *bytes, level: flat(&pcm), peak });
            }
            at += MS;
        }
    }

    /// Packets heard, silence included.
    pub fn packets(&self) -> u64 {
        self.packets
    }

    /// Every millisecond that was no silence, as G.711, and when it left.
    pub fn milliseconds(&self) -> impl Iterator<Item = (Instant, [u8; 8])> {
        self.frames.iter().map(|frame| (frame.at, frame.bytes))
    }

    /// All sound, in order.
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut stretches = Vec::new();
        let mut start = 0;
        for end in 1..=self.frames.len() {
            let ends = end == self.frames.len()
                || self.frames[end].at > self.frames[end - 1].at + MS + PAUSE;
            if ends {
                stretches.push(self.stretch(start..end));
                start = end;
            }
        }
        stretches
    }

    fn stretch(&self, range: Range<usize>) -> Stretch {
        let frames = &self.frames[range.clone()];
        let flat = frames.iter().filter(|frame| frame.level.is_some()).count();
        let voiced = if flat * 10 >= frames.len() * 6 { Voiced::Model } else { Voiced::Words };
        let (first, last) = (frames[0].at, frames[frames.len() - 1].at);
        Stretch { start: first, end: last + MS, voiced, frames: range }
    }

    /// The beginning of the first sound at or after `from`.
    pub fn first_sound(&self, from: Instant) -> Option<Instant> {
        self.frames.iter().map(|frame| frame.at).find(|at| *at >= from)
    }

    /// Compares what was heard of fake models that speak `format` with `expected`, in its order and without anything
    /// between but what the leg makes of a voice that breaks off.
    ///
    /// # Errors
    /// Tells the first difference.
    pub fn check(&self, expected: &[Heard], format: AudioFormat) -> Result<(), String> {
        let stretches = self.stretches();
        let mut frames: Vec<Frame> = Vec::new();
        for stretch in stretches.iter().filter(|stretch| stretch.voiced == Voiced::Model) {
            frames.extend(&self.frames[stretch.frames.clone()]);
        }
        let slack = if matches!(format, AudioFormat::G711(_)) { 0 } else { SMEAR };
        let mut rest = frames.as_slice();
        for (index, Heard { connection, answer, ms }) in expected.iter().enumerate() {
            let most = (ms.end() + slack) as usize;
            let mut same = run(rest, format, *answer, 0, most);
            rest = &rest[same..];
            let mut joints = 0;
            while same > 0
                && (same as u64) + slack < *ms.start()
                && let Some((skipped, faded)) = joint(rest, format, *answer, same, most)
            {
                rest = &rest[skipped..];
                same += faded;
                let more = run(rest, format, *answer, same, most);
                rest = &rest[more..];
                same += more;
                joints += 1;
            }
            if (same as u64) + slack < *ms.start() {
                return Err(format!(
                    "{same} ms of answer {answer} of connection {connection} were heard instead of {ms:?}"
                ));
            }
            let next = expected.get(index + 1).map(|next| next.answer);
            let last = frames.len().checked_sub(rest.len() + 1).map(|last| frames[last].at);
            rest = without_tail(rest, format, (*answer, same as u64), next, last);
            if slack > 0 {
                // Among levels that are compared with tolerance, what was made up passes for the answer.
                let loudest = answer_level(*answer, *ms.end()).unsigned_abs() * 9 / 8;
                let surplus = rest.iter().take(joints * JOINT);
                let surplus = surplus.take_while(|frame| frame.peak <= loudest).count();
                rest = &rest[surplus..];
            }
        }
        if rest.len() as u64 > slack {
            return Err(format!(
                "{} ms of a model were heard that belong to no expected answer",
                rest.len()
            ));
        }
        Ok(())
    }

    /// Whether a whole answer of `ms` milliseconds is the last thing that was heard of a model.
    pub fn ends_with(&self, answers: Range<u32>, ms: u64, format: AudioFormat) -> bool {
        let Some(last) =
            self.stretches().into_iter().rfind(|stretch| stretch.voiced == Voiced::Model)
        else {
            return false;
        };
        let frames = &self.frames[last.frames];
        answers.into_iter().any(|answer| {
            let same = run(frames, format, answer, 0, (ms + SMEAR) as usize);
            let last = same.checked_sub(1).map(|last| frames[last].at);
            let rest = without_tail(&frames[same..], format, (answer, ms), None, last);
            (same as u64).abs_diff(ms) <= SMEAR && rest.is_empty()
        })
    }

    /// One line for each stretch of sound, in milliseconds from `zero`.
    pub fn story(&self, zero: Instant) -> Vec<(Instant, String)> {
        let line = |stretch: Stretch| {
            let from = stretch.start.saturating_duration_since(zero).as_millis();
            let until = stretch.end.saturating_duration_since(zero).as_millis();
            let level = |frame: &Frame| frame.level.map_or("~".into(), |level| level.to_string());
            let frames = &self.frames[stretch.frames.clone()];
            let what = match stretch.voiced {
                Voiced::Model => format!(
                    "the model from level {} to {}",
                    frames.iter().find(|frame| frame.level.is_some()).map_or("~".into(), level),
                    frames.iter().rfind(|frame| frame.level.is_some()).map_or("~".into(), level),
                ),
                Voiced::Words => "words".into(),
            };
            (stretch.start, format!("hears {from}..{until} ms {what}"))
        };
        self.stretches().into_iter().map(line).collect()
    }
}

impl Frame {
    /// Whether it can be millisecond `ms` of `answer`.
    fn is(&self, format: AudioFormat, answer: u32, ms: u64) -> bool {
        match format {
            AudioFormat::G711(law) => self.bytes == [answer_code(law, answer, ms); 8],
            AudioFormat::Pcm16(_) => {
                // A millisecond at a begin, an end or a jump of the level is smeared.
                let wanted = answer_level(answer, ms);
                self.level
                    .is_none_or(|level| level.abs_diff(wanted) <= 60 + wanted.unsigned_abs() / 20)
            }
        }
    }
}

/// How many of `frames` are those of `answer` from its millisecond `from` on, up to `most`.
fn run(frames: &[Frame], format: AudioFormat, answer: u32, from: usize, most: usize) -> usize {
    let wanted = frames.iter().zip(from..most);
    wanted.take_while(|(frame, ms)| frame.is(format, answer, *ms as u64)).count()
}

/// Where `answer`, which breaks off before its millisecond `same`, goes on: the frames until then, and those of the answer
/// that faded in among them.
fn joint(
    frames: &[Frame],
    format: AudioFormat,
    answer: u32,
    same: usize,
    most: usize,
) -> Option<(usize, usize)> {
    let places = (1..=frames.len().min(JOINT + FADE)).flat_map(|skipped| {
        let most_faded = skipped.min(FADE);
        (0..=most_faded).rev().map(move |faded| (skipped, faded))
    });
    let alike = |(skipped, faded): (usize, usize)| {
        let wanted = RESUMED.min(most.saturating_sub(same + faded)).max(1);
        let alike = run(&frames[skipped..], format, answer, same + faded, most);
        (alike >= wanted).then_some((alike, skipped, faded))
    };
    // Where it fits best: a level lasts for 20 ms, and fits before its time too.
    let best = places.into_iter().filter_map(alike).max_by_key(|(alike, _, _)| *alike);
    best.map(|(_, skipped, faded)| (skipped, faded))
}

/// What follows the end of a voice that broke off before a millisecond of an answer, after the frame at `last`; `next` is the
/// answer after it.
fn without_tail(
    frames: &[Frame],
    format: AudioFormat,
    (answer, same): (u32, u64),
    next: Option<u32>,
    last: Option<Instant>,
) -> &[Frame] {
    let levels = [same.saturating_sub(1), same, same + FADE as u64];
    let level = levels.map(|ms| loudness(format, answer, ms)).into_iter().max();
    let loudest = level.map_or(0, |level| level + level / 8) + SILENT.unsigned_abs();
    let (mut at, mut tail) = (last, 0);
    for (frame, ms) in frames.iter().take(JOINT).zip(same..) {
        let adjacent = at.is_none_or(|at| frame.at == at + MS);
        let goes_on = matches!(format, AudioFormat::G711(_)) && frame.is(format, answer, ms);
        let begins = frame.level.is_some() && next.is_some_and(|next| frame.is(format, next, 0));
        if !adjacent || goes_on || begins || frame.peak > loudest {
            break;
        }
        (at, tail) = (Some(frame.at), tail + 1);
    }
    &frames[tail..]
}

/// The absolute level of the millisecond `ms` of `answer`.
fn loudness(format: AudioFormat, answer: u32, ms: u64) -> u16 {
    match format {
        AudioFormat::G711(law) => {
            let mut pcm = [0];
            g711::decode(law, &[answer_code(law, answer, ms)], &mut pcm);
            pcm[0].unsigned_abs()
        }
        AudioFormat::Pcm16(_) => answer_level(answer, ms).unsigned_abs(),
    }
}

fn flat(pcm: &[i16; 8]) -> Option<i16> {
    let (least, most) = (*pcm.iter().min()?, *pcm.iter().max()?);
    let mean = (pcm.iter().map(|&sample| i32::from(sample)).sum::<i32>() / 8) as i16;
    let spread = most.abs_diff(least);
    (spread <= 100 + mean.unsigned_abs() / 8 && mean.unsigned_abs() > 110).then_some(mean)
}

#[cfg(test)]
mod tests {
    use tandem_sim::answer_audio;

    use super::*;

    const MU: AudioFormat = AudioFormat::G711(Law::Mu);

    fn heard(answer: u32, ms: std::ops::RangeInclusive<u64>) -> Heard {
        Heard { connection: 0, answer, ms }
    }

    #[test]
    fn answers_and_words_are_told_apart() {
        let start = Instant::now();
        let mut ear = Ear::default();
        let audio = [
            answer_audio(MU, 1, 0..8 * 100),
            vec![0xFF; 8 * 100],
            [0xA0, 0x20].repeat(4 * 60),
            vec![0xFF; 8 * 40],
            answer_audio(MU, 2, 0..8 * 40),
        ]
        .concat();
        for (index, payload) in audio.chunks(160).enumerate() {
            ear.hear(start + 20 * MS * index as u32, payload);
        }
        let voices: Vec<_> =
            ear.stretches().iter().map(|it| (it.voiced, it.end - it.start)).collect();
        let expected =
            [(Voiced::Model, 100 * MS), (Voiced::Words, 60 * MS), (Voiced::Model, 40 * MS)];
        assert_eq!(voices, expected);
        assert_eq!(ear.first_sound(start + 100 * MS), Some(start + 200 * MS));
        ear.check(&[heard(1, 100..=100), heard(2, 40..=40)], MU).unwrap();
        for wrong in [
            vec![heard(1, 100..=100)],
            vec![heard(1, 120..=120), heard(2, 40..=40)],
            vec![heard(1, 0..=80), heard(2, 40..=40)],
            vec![heard(2, 40..=40), heard(1, 100..=100)],
        ] {
            assert!(ear.check(&wrong, MU).is_err(), "{wrong:?}");
        }
        assert!(ear.ends_with(1..4, 40, MU) && !ear.ends_with(1..2, 40, MU));
    }
}
