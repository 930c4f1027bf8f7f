//! Finds where somebody speaks, in audio of any rate and over noise of any kind.

mod background;
mod bands;
mod echo_guard;

use std::time::{Duration, Instant};

use crate::SampleRate;
use background::Background;
use bands::{BLOCK, Bands, Block};
use echo_guard::{EchoGuard, Origin};

/// Blocks of speech, less those without, after which somebody speaks: 50 ms.
const ONSET_BLOCKS: u32 = 5;
/// .. and so many where it may as well be the agent's own voice: 120 ms.
const UNSURE_BLOCKS: u32 = 12;
/// Samples at 8 kHz without speech after which nobody speaks any more: 200 ms.
const HANGOVER: usize = 1_600;
/// Below this mean square nothing is speech: -45 dBFS of a full-scale sine.
const QUIETEST_SPEECH: f32 = 16_978.0;

/// A detector of speech in a stream of mono `i16` PCM, in frames of any length.
///
/// It compares the levels of thirteen bands in each 10 ms with those of the background, which it follows, and asks for the more
/// the livelier that background is: steady noise is left by little, voices in the room by much. Speech begins after 50 ms of it
/// and ends after 200 ms without; a sound that goes on unchanged becomes the background after two seconds.
#[derive(Debug)]
pub struct VoiceActivity {
    bands: Bands,
    background: Background,
    guard: Option<Box<EchoGuard>>,
    onset: u32,
    speaking: bool,
    /// Samples at 8 kHz since the last block of speech.
    silence: usize,
}

/// A change between speech and silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Somebody began to speak.
    Started,
    /// Nobody speaks any more.
    Stopped {
        /// How long before the end of the frame the last speech was.
        silence: Duration,
    },
}

impl VoiceActivity {
    /// A detector for audio of `rate` that has heard nothing yet.
    pub fn new(rate: SampleRate) -> Self {
        Self {
            bands: Bands::new(rate),
            background: Background::new(),
            guard: None,
            onset: 0,
            speaking: false,
            silence: 0,
        }
    }

    /// The audio is of `rate` from now on; what was learnt of the background stays.
    pub fn set_rate(&mut self, rate: SampleRate) {
        self.bands.set_rate(rate);
    }

    /// Whether what was played is to be told from what the caller says, from now on: for callers who listen by loudspeaker.
    ///
    /// [`played`](Self::played) is to be told what was sent to the caller, and [`process_at`](Self::process_at) when it was that
    /// something was heard. What comes back of it within half a second is no speech, unless it is louder than it should be.
    pub fn guard_against_echo(&mut self, wanted: bool) {
        if wanted != self.is_guarded() {
            self.guard = wanted.then(|| Box::new(EchoGuard::new()));
        }
    }

    /// Whether what was played makes a difference.
    pub fn is_guarded(&self) -> bool {
        self.guard.is_some()
    }

    /// Tells what was sent to the caller, of any rate; its first sample left at `at`.
    pub fn played(&mut self, at: Instant, rate: SampleRate, pcm: &[i16]) {
        if let Some(guard) = &mut self.guard {
            guard.play(at, rate, pcm);
        }
    }

    /// Takes the next samples and tells what they changed.
    ///
    /// A frame in which speech stops and starts again, or the other way round, changes nothing.
    pub fn process(&mut self, pcm: &[i16]) -> Option<Activity> {
        self.listen(None, pcm)
    }

    /// As [`process`](Self::process), for samples the last of which was heard at `at`.
    pub fn process_at(&mut self, at: Instant, pcm: &[i16]) -> Option<Activity> {
        self.listen(Some(at), pcm)
    }

    /// Whether somebody speaks, by the last complete block; pauses of up to 200 ms belong to the speech.
    pub fn is_speech(&self) -> bool {
        self.speaking
    }

    /// For how long nothing but silence was heard: zero while the last complete block was speech.
    pub fn quiet(&self) -> Duration {
        match self.silence {
            0 => Duration::ZERO,
            silence => SampleRate::Hz8000.duration_of(silence + self.bands.filled()),
        }
    }

    fn listen(&mut self, end: Option<Instant>, pcm: &[i16]) -> Option<Activity> {
        let before = self.speaking;
        let mut rest = pcm;
        while !rest.is_empty() {
            let (taken, block) = self.bands.take(rest);
            rest = &rest[taken..];
            if let Some(block) = block {
                let left = self.bands.duration_of(rest.len());
                self.judge(end.and_then(|end| end.checked_sub(left)), &block);
            }
        }
        match (before, self.speaking) {
            (false, true) => Some(Activity::Started),
            (true, false) => Some(Activity::Stopped { silence: self.quiet() }),
            _ => None,
        }
    }

    fn judge(&mut self, end: Option<Instant>, block: &Block) {
        let mut onset_blocks = ONSET_BLOCKS;
        let mut above =
            block.power > QUIETEST_SPEECH && self.background.is_left(block, None, self.speaking);
        let heard = above;
        if let (Some(guard), Some(end)) = (&mut self.guard, end) {
            match guard.hear(end, block, self.background.levels(), above) {
                Origin::Caller => {}
                Origin::Louder(than) => {
                    above = above && self.background.is_left(block, Some(&than), self.speaking);
                }
                Origin::Unsure => onset_blocks = UNSURE_BLOCKS,
                Origin::Echo => above = false,
            }
        }
        if above {
            self.silence = 0;
            self.onset = (self.onset + 1).min(UNSURE_BLOCKS);
            self.speaking |= self.onset >= onset_blocks;
        } else {
            self.silence = (self.silence + BLOCK).min(usize::MAX / 2);
            self.onset = self.onset.min(ONSET_BLOCKS).saturating_sub(1);
            if self.silence >= HANGOVER {
                self.speaking = false;
                self.onset = 0;
            }
        }
        // An echo is no part of the background, and would make it a lively one.
        self.background.learn(block, heard, self.speaking || heard && !above);
    }
}

/// An instant to count virtual time from.
#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests need an instant to begin with, any")]
fn some_instant() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    const FRAME: usize = 160;

    struct Noise(u32);

    impl Noise {
        /// Uniform in -1.0 to 1.0.
        fn next(&mut self) -> f64 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(self.0 >> 8) / f64::from(1 << 23) - 1.0
        }
    }

    /// White noise of a level in dB below a full-scale sine.
    fn noise(dbfs: f64, millis: usize) -> Vec<i16> {
        let mut source = Noise(7);
        let peak = 32_768.0 * 10f64.powf(dbfs / 20.0) * 1.5f64.sqrt();
        (0..millis * 8).map(|_| (source.next() * peak) as i16).collect()
    }

    fn tone(hz: f64, dbfs: f64, millis: usize) -> Vec<i16> {
        let amplitude = 32_768.0 * 10f64.powf(dbfs / 20.0);
        (0..millis * 8)
            .map(|n| (amplitude * (TAU * hz * n as f64 / 8_000.0).sin()) as i16)
            .collect()
    }

    /// Harmonics of 120 Hz in syllables of 160 ms with gaps of 80 ms; the level is that of the syllables.
    fn speech(dbfs: f64, millis: usize) -> Vec<i16> {
        let amplitude = 32_768.0 * 10f64.powf(dbfs / 20.0) / 8f64.sqrt();
        (0..millis * 8)
            .map(|n| {
                let into_syllable = n % (240 * 8);
                let envelope = if into_syllable < 160 * 8 { 1.0 } else { 0.02 };
                let voice: f64 =
                    (1..=8).map(|k| (TAU * 120.0 * f64::from(k) * n as f64 / 8_000.0).sin()).sum();
                (amplitude * envelope * voice) as i16
            })
            .collect()
    }

    fn mix(a: &[i16], b: &[i16]) -> Vec<i16> {
        a.iter().zip(b).map(|(a, b)| a.saturating_add(*b)).collect()
    }

    /// Changes with the time in milliseconds at the end of the frame that brought them.
    fn changes(pcm: &[i16], frame: usize) -> Vec<(usize, Activity)> {
        let mut detector = VoiceActivity::new(SampleRate::Hz8000);
        let mut samples = 0;
        let mut found = Vec::new();
        for piece in pcm.chunks(frame) {
            samples += piece.len();
            found.extend(detector.process(piece).map(|activity| (samples / 8, activity)));
        }
        found
    }

    #[test]
    fn what_nobody_said_is_no_speech() {
        for (name, pcm) in [
            ("silence", vec![0; 80_000]),
            ("an offset", vec![2_000; 80_000]),
            ("comfort noise of -50 dBFS", noise(-50.0, 10_000)),
            ("a 100 Hz hum of -50 dBFS", tone(100.0, -50.0, 10_000)),
            ("a 50 Hz hum of -40 dBFS", tone(50.0, -40.0, 10_000)),
            ("noise of -40 dBFS from the start", noise(-40.0, 10_000)),
            ("a tone of -50 dBFS", tone(1_000.0, -50.0, 10_000)),
            ("a click", [vec![0; 8_000], vec![20_000; 40], vec![0; 8_000]].concat()),
        ] {
            assert_eq!(changes(&pcm, FRAME), [], "{name}");
        }
    }

    #[test]
    fn speech_over_noise_starts_within_60_ms_and_stops_after_200_ms() {
        for (level, noise_level) in [(-30.0, -55.0), (-30.0, -80.0), (-12.0, -35.0), (-38.0, -60.0)]
        {
            let mut pcm = noise(noise_level, 10_000);
            let spoken = mix(&speech(level, 3_000), &pcm[24_000..48_000]);
            pcm[24_000..48_000].copy_from_slice(&spoken);
            let found = changes(&pcm, FRAME);
            let [(started, Activity::Started), (stopped, Activity::Stopped { silence })] =
                found[..]
            else {
                panic!("{level} dBFS over {noise_level}: {found:?}");
            };
            assert!(
                (3_040..=3_060).contains(&started),
                "{level} over {noise_level}: started at {started}"
            );
            assert!(
                (6_200..=6_220).contains(&stopped),
                "{level} over {noise_level}: stopped at {stopped}"
            );
            let last_speech = Duration::from_millis(stopped as u64) - silence;
            assert!(
                last_speech.abs_diff(Duration::from_secs(6)) <= Duration::from_millis(10),
                "{last_speech:?}"
            );
        }
    }

    #[test]
    fn a_loud_hum_becomes_the_noise() {
        for pcm in [tone(400.0, -15.0, 10_000), tone(200.0, -10.0, 10_000), noise(-20.0, 10_000)] {
            if let Some((stopped, last)) = changes(&pcm, FRAME).last() {
                let is_over = matches!(last, Activity::Stopped { .. });
                assert!(is_over && *stopped < 2_500, "from the start: {last:?} at {stopped}");
            }
            let found = changes(&[vec![0; 16_000], pcm].concat(), FRAME);
            let [(2_040..=2_060, Activity::Started), (stopped, Activity::Stopped { .. })] =
                found[..]
            else {
                panic!("{found:?}");
            };
            assert!((2_600..=4_500).contains(&stopped), "{stopped}");
        }
    }

    #[test]
    fn speech_is_found_again_over_a_hum_that_stays() {
        let hum = noise(-35.0, 12_000);
        let mut pcm = hum.clone();
        let spoken = mix(&speech(-15.0, 4_000), &hum[48_000..80_000]);
        pcm[48_000..80_000].copy_from_slice(&spoken);
        let found = changes(&pcm[..], FRAME);
        let started =
            found.iter().filter(|(at, change)| *at > 4_000 && *change == Activity::Started).count();
        assert_eq!(started, 1, "{found:?}");
    }

    #[test]
    fn frames_of_any_length_find_the_same() {
        let pcm = [vec![0; 8_000], speech(-20.0, 1_000), vec![0; 8_000]].concat();
        let reference = changes(&pcm, 80);
        assert_eq!(reference.len(), 2);
        for frame in [1, 33, 240, 480] {
            let found = changes(&pcm, frame);
            assert_eq!(found.len(), 2, "frames of {frame}: {found:?}");
            for ((at, _), (expected, _)) in found.iter().zip(&reference) {
                assert!(
                    (*expected..=expected + frame / 8 + 1).contains(at),
                    "frames of {frame}: {found:?}"
                );
            }
            let (Activity::Stopped { silence }, Activity::Stopped { silence: expected }) =
                (found[1].1, reference[1].1)
            else {
                panic!("{found:?}");
            };
            let last = |at: usize, silence: Duration| at as f64 - silence.as_secs_f64() * 1_000.0;
            assert!(
                (last(found[1].0, silence) - last(reference[1].0, expected)).abs() < 1.5,
                "frames of {frame}"
            );
        }
    }

    #[test]
    fn a_frame_that_ends_as_it_began_changes_nothing() {
        let mut detector = VoiceActivity::new(SampleRate::Hz8000);
        assert_eq!(
            detector.process(&[vec![0; 800], speech(-20.0, 160), vec![0; 8_000]].concat()),
            None
        );
        assert!(!detector.is_speech());
        assert_eq!(detector.process(&speech(-20.0, 160)), Some(Activity::Started));
        assert!(detector.is_speech());
    }
}
