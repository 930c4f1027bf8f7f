//! Where the caller's turns begin and end, in audio time.

use std::time::Duration;

use earshot::Detector;
use tandem_media::SampleRate;

/// Samples the detector takes at once: 16 ms at 16 kHz.
const FRAME: usize = 256;
const FRAME_TIME: Duration = SampleRate::Hz16000.duration_of(FRAME);
/// Frames in a row that restart the hangover: a single one is a click or noise.
const RESTART_FRAMES: u32 = 2;
/// Frames without speech after which the beginning of a turn is forgotten (about 100 ms: the gap of a plosive).
const FORGET_FRAMES: u32 = 6;

/// When speech counts as a turn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Endpointing {
    /// Score of the detector, 0 to 1, from which a frame is speech. White noise scores above 0.5 in up to 18 % of its frames.
    pub threshold: f32,
    /// Frames of 16 ms in a row that interrupt the agent.
    pub barge_in_frames: u32,
    /// Speech over the agent that interrupts it, those frames included: less shows that somebody listens.
    pub barge_in_speech: Duration,
    /// Speech that makes a turn; less is a noise and is not answered.
    pub min_speech: Duration,
    /// Silence that ends a turn.
    pub end_silence: Duration,
    /// A turn is ended after this long even if the sound goes on.
    pub max_turn: Duration,
}

impl Default for Endpointing {
    fn default() -> Self {
        Self {
            threshold: 0.6,
            barge_in_frames: 3,
            barge_in_speech: Duration::ZERO,
            min_speech: Duration::from_millis(150),
            end_silence: Duration::from_millis(600),
            max_turn: Duration::from_secs(120),
        }
    }
}

/// An edge of the caller's speech. Positions count from the first sample ever given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Speech began at `at`; it was noticed up to [`Endpointing::min_speech`] later.
    Started { at: Duration },
    /// The last speech ended at `at`, [`Endpointing::end_silence`] ago.
    Stopped {
        /// End of the last speech.
        at: Duration,
        /// From its beginning to its end, pauses included.
        length: Duration,
        /// Too short to be words: something interrupted the agent, but nobody said anything.
        noise: bool,
    },
}

/// Finds the caller's turns in 16 kHz audio.
///
/// While the agent speaks, a turn begins after [`Endpointing::barge_in_frames`] and [`Endpointing::barge_in_speech`]. While
/// nobody speaks there is no hurry: a turn begins when [`Endpointing::min_speech`] was heard, and noises leave no trace.
/// Audio is the only clock.
pub struct Endpointer {
    settings: Endpointing,
    detector: Box<Detector>,
    frame: [i16; FRAME],
    filled: usize,
    frames: u64,
    agent_speaks: bool,
    speech: Speech,
}

/// Frame numbers are of the first frame of something, ends are exclusive.
#[derive(Debug, Clone, Copy)]
enum Speech {
    None,
    /// Speech was seen, not yet enough of it.
    Beginning {
        start: u64,
        frames: u32,
        run: u32,
        gap: u32,
    },
    /// A turn.
    Turn {
        start: u64,
        end: u64,
        frames: u32,
        run: u32,
    },
}

impl Endpointer {
    /// An endpointer at position zero.
    pub fn new(settings: Endpointing) -> Self {
        Self {
            settings,
            detector: Detector::default_boxed(),
            frame: [0; FRAME],
            filled: 0,
            frames: 0,
            agent_speaks: false,
            speech: Speech::None,
        }
    }

    /// Whether the agent is heard right now, which makes speech an interruption.
    pub fn set_agent_speaks(&mut self, speaks: bool) {
        self.agent_speaks = speaks;
    }

    /// Whether a turn of the caller has begun and not ended.
    pub fn in_turn(&self) -> bool {
        matches!(self.speech, Speech::Turn { .. })
    }

    /// Whether speech was noticed lately, a turn or the beginning of one.
    pub fn hears_speech(&self) -> bool {
        !matches!(self.speech, Speech::None)
    }

    /// How much audio was given.
    pub fn position(&self) -> Duration {
        frame_position(self.frames) + SampleRate::Hz16000.duration_of(self.filled)
    }

    /// Takes mono samples at 16 kHz, any number, and calls `turn` for each edge found in them.
    pub fn process(&mut self, pcm: impl IntoIterator<Item = i16>, mut turn: impl FnMut(Turn)) {
        for sample in pcm {
            self.frame[self.filled] = sample;
            self.filled += 1;
            if self.filled == FRAME {
                self.filled = 0;
                let score = self.detector.predict_i16(&self.frame);
                if let Some(edge) = self.step(score >= self.settings.threshold) {
                    turn(edge);
                }
            }
        }
    }

    fn step(&mut self, is_speech: bool) -> Option<Turn> {
        let this = self.frames;
        self.frames += 1;
        match (&mut self.speech, is_speech) {
            (Speech::None, false) => None,
            (Speech::None, true) => {
                self.speech = Speech::Beginning { start: this, frames: 1, run: 1, gap: 0 };
                self.begin_if_enough()
            }
            (Speech::Beginning { frames, run, gap, .. }, true) => {
                (*frames, *run, *gap) = (*frames + 1, *run + 1, 0);
                self.begin_if_enough()
            }
            (Speech::Beginning { run, gap, .. }, false) => {
                (*run, *gap) = (0, *gap + 1);
                if *gap > FORGET_FRAMES {
                    self.speech = Speech::None;
                }
                None
            }
            (Speech::Turn { end, frames, run, .. }, true) => {
                (*frames, *run) = (frames.saturating_add(1), *run + 1);
                if *run >= RESTART_FRAMES {
                    *end = this + 1;
                }
                self.end_if_over(false)
            }
            (Speech::Turn { end, run, .. }, false) => {
                *run = 0;
                let silence = frame_position(self.frames - *end);
                let is_silent = silence >= self.settings.end_silence;
                self.end_if_over(is_silent)
            }
        }
    }

    fn begin_if_enough(&mut self) -> Option<Turn> {
        let Speech::Beginning { start, frames, run, .. } = self.speech else { return None };
        let enough = match self.agent_speaks {
            true => {
                run >= self.settings.barge_in_frames
                    && FRAME_TIME * frames >= self.settings.barge_in_speech
            }
            false => FRAME_TIME * frames >= self.settings.min_speech,
        };
        if !enough {
            return None;
        }
        self.speech = Speech::Turn { start, end: self.frames, frames, run };
        Some(Turn::Started { at: frame_position(start) })
    }

    fn end_if_over(&mut self, is_silent: bool) -> Option<Turn> {
        let Speech::Turn { start, end, frames, .. } = self.speech else { return None };
        let length = frame_position(end - start);
        if !is_silent && length < self.settings.max_turn {
            return None;
        }
        self.speech = Speech::None;
        let noise = FRAME_TIME * frames < self.settings.min_speech;
        Some(Turn::Stopped { at: frame_position(end), length, noise })
    }
}

fn frame_position(frame: u64) -> Duration {
    Duration::from_millis(frame * FRAME_TIME.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::voice::wave;
    use tandem_media::{Law, g711};

    const CALLER: &[u8] = include_bytes!("../testdata/caller.ulaw"); // 4.3 s: a sentence with a pause after "Hello".

    fn millis(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn caller() -> Vec<i16> {
        let mut pcm = vec![0; CALLER.len()];
        g711::decode(Law::Mu, CALLER, &mut pcm);
        wave::resample(&pcm, 8_000, 16_000)
    }

    fn silence(ms: usize) -> Vec<i16> {
        vec![0; ms * 16]
    }

    /// White noise of a fixed seed with this amplitude.
    fn noise(ms: usize, amplitude: i32) -> Vec<i16> {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        (0..ms * 16)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                ((state >> 40) as i32 % (2 * amplitude + 1) - amplitude) as i16
            })
            .collect()
    }

    fn turns(pcm: &[i16], agent_speaks: bool) -> Vec<Turn> {
        let mut endpointer = Endpointer::new(Endpointing::default());
        endpointer.set_agent_speaks(agent_speaks);
        let mut turns = Vec::new();
        endpointer.process(pcm.iter().copied(), |turn| turns.push(turn));
        assert_eq!(endpointer.position(), SampleRate::Hz16000.duration_of(pcm.len()));
        turns
    }

    #[test]
    fn a_sentence_is_one_turn() {
        let spoken = SampleRate::Hz16000.duration_of(caller().len());
        for agent_speaks in [false, true] {
            for (name, background) in [("quiet line", 0), ("noise at -60 dBFS", 50)] {
                let mut pcm = [silence(800), caller(), silence(1_200)].concat();
                let background = noise(pcm.len() / 16, background.max(1));
                pcm.iter_mut()
                    .zip(background)
                    .for_each(|(sample, noise)| *sample = sample.saturating_add(noise));
                let turns = turns(&pcm, agent_speaks);
                let [Turn::Started { at: start }, Turn::Stopped { at: end, length, noise: false }] =
                    turns[..]
                else {
                    panic!("{name}: {turns:?}");
                };
                assert!(start.abs_diff(millis(800)) < millis(150), "{name}: {start:?}");
                assert!(end.abs_diff(millis(800) + spoken) < millis(200), "{name}: {end:?}");
                assert_eq!(length, end - start);
            }
        }
    }

    #[test]
    fn chunking_makes_no_difference() {
        let pcm = [silence(300), caller(), silence(900), caller(), silence(900)].concat();
        let whole = turns(&pcm, false);
        assert_eq!(whole.len(), 4);
        for chunk in [1, 160, 320, 333, 4_000] {
            let mut endpointer = Endpointer::new(Endpointing::default());
            let mut found = Vec::new();
            for piece in pcm.chunks(chunk) {
                endpointer.process(piece.iter().copied(), |turn| found.push(turn));
            }
            assert_eq!(found, whole, "{chunk}");
        }
    }

    #[test]
    fn what_is_no_speech_is_no_turn() {
        let hum: Vec<i16> =
            (0..80_000).map(|n| ((n as f32 * 0.0196).sin() * 3_000.0) as i16).collect();
        for (name, pcm) in [
            ("silence", silence(5_000)),
            ("line noise at -50 dBFS", noise(5_000, 150)),
            ("white noise at -30 dBFS", noise(5_000, 1_500)),
            ("mains hum", hum),
        ] {
            assert_eq!(turns(&pcm, false), [], "{name}");
        }
    }

    /// Drives the decisions without the detector: one letter is one frame, `#` speech and `.` none.
    fn edges(frames: &str, agent_speaks: bool) -> Vec<Turn> {
        let mut endpointer =
            Endpointer::new(Endpointing { max_turn: millis(1_600), ..Endpointing::default() });
        endpointer.set_agent_speaks(agent_speaks);
        frames.chars().filter_map(|frame| endpointer.step(frame == '#')).collect()
    }

    #[test]
    fn a_patient_agent_is_interrupted_by_so_much_speech() {
        let heard = |frames: &str| {
            let patient = Endpointing { barge_in_speech: millis(300), ..Endpointing::default() };
            let mut endpointer = Endpointer::new(patient);
            endpointer.set_agent_speaks(true);
            frames.chars().filter_map(|frame| endpointer.step(frame == '#')).next()
        };
        let started = Some(Turn::Started { at: millis(0) });
        assert_eq!(heard(&"#".repeat(18)), None, "288 ms");
        assert_eq!(heard(&"#".repeat(19)), started);
        assert_eq!(heard("########...########...###"), started, "with the gaps of words");
        assert_eq!(heard(&"############.......".repeat(5)), None, "each of them listens");
    }

    #[test]
    fn frames_become_turns() {
        let rest = ".".repeat(38); // 608 ms
        let started = |ms| Turn::Started { at: millis(ms) };
        let stopped = |start, end, noise| Turn::Stopped {
            at: millis(end),
            length: millis(end - start),
            noise,
        };
        for (name, frames, agent_speaks, expected) in [
            (
                "ten frames are words",
                format!("..{}{rest}", "#".repeat(10)),
                false,
                vec![started(32), stopped(32, 192, false)],
            ),
            ("nine are a noise", format!("..{}{rest}", "#".repeat(9)), false, vec![]),
            (
                "a gap in the beginning",
                format!("#####....#####{rest}"),
                false,
                vec![started(0), stopped(0, 224, false)],
            ),
            ("clicks are forgotten", format!("{}{rest}", "#.......".repeat(12)), false, vec![]),
            (
                "three frames interrupt",
                format!("..###{rest}"),
                true,
                vec![started(32), stopped(32, 80, true)],
            ),
            ("two do not", format!("..##.##.##{rest}"), true, vec![]),
            (
                "a pause is not the end",
                format!("{}{}{}{rest}", "#".repeat(10), ".".repeat(37), "##"),
                false,
                vec![started(0), stopped(0, 784, false)],
            ),
            (
                "a click does not prolong",
                format!("{}{}#{rest}", "#".repeat(10), ".".repeat(30)),
                false,
                vec![started(0), stopped(0, 160, false)],
            ),
            (
                "no turn is endless",
                "#".repeat(105),
                false,
                vec![started(0), stopped(0, 1_600, false)],
            ),
        ] {
            assert_eq!(edges(&frames, agent_speaks), expected, "{name}");
        }
    }
}
