//! Finds where somebody speaks in 8 kHz audio, by its energy over the noise.

use std::time::Duration;

use crate::SampleRate;

/// Samples judged at a time: 10 ms.
const BLOCK: usize = 80;
/// Blocks of speech, less those without, after which somebody speaks: 50 ms.
const ONSET_BLOCKS: u32 = 5;
/// Samples without speech after which nobody speaks any more: 200 ms.
const HANGOVER: usize = 1_600;
/// The noise floor is the least energy of this many windows ..
const WINDOWS: usize = 8;
/// .. of this many blocks each: of 2 s together, in which speech takes a breath and a hum does not.
const WINDOW_BLOCKS: u32 = 25;
/// What stands this far above the noise floor is speech: 9 dB.
const ABOVE_NOISE: f32 = 7.94;
/// Below this mean square nothing is speech: -45 dBFS of a full-scale sine.
const QUIETEST_SPEECH: f32 = 16_978.0;
/// The noise floor before anything quieter is heard: -42 dBFS, so that a noisy line does not begin with speech.
const FIRST_FLOOR: f32 = 33_874.0;
/// The pole of the high-pass: -3 dB at 127 Hz, so that mains hum and offsets count little.
const HIGH_PASS: f32 = 0.9;

/// A detector of speech in a stream of mono `i16` PCM at 8 kHz, in frames of any length.
///
/// It compares the energy of 10 ms with the lowest of the last two seconds. Speech begins after 50 ms of it and ends after 200 ms
/// without; a sound that goes on unchanged becomes the noise after two seconds.
#[derive(Debug)]
pub struct VoiceActivity {
    last_input: f32,
    last_output: f32,
    /// Energy and count of the samples of the block not yet complete.
    energy: f32,
    filled: usize,
    /// The least block energy of each window, the current one at `window`.
    minima: [f32; WINDOWS],
    window: usize,
    window_blocks: u32,
    onset: u32,
    speaking: bool,
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

impl Default for VoiceActivity {
    fn default() -> Self {
        Self::new()
    }
}

impl VoiceActivity {
    /// A detector that has heard nothing yet.
    pub fn new() -> Self {
        Self {
            last_input: 0.0,
            last_output: 0.0,
            energy: 0.0,
            filled: 0,
            minima: [FIRST_FLOOR; WINDOWS],
            window: 0,
            window_blocks: 0,
            onset: 0,
            speaking: false,
            silence: 0,
        }
    }

    /// Takes the next samples and tells what they changed.
    ///
    /// A frame in which speech stops and starts again, or the other way round, changes nothing.
    pub fn process(&mut self, pcm: &[i16]) -> Option<Activity> {
        let before = self.speaking;
        let mut rest = pcm;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(BLOCK - self.filled));
            self.add(now);
            rest = later;
        }
        match (before, self.speaking) {
            (false, true) => Some(Activity::Started),
            (true, false) => {
                let silence = SampleRate::Hz8000.duration_of(self.silence + self.filled);
                Some(Activity::Stopped { silence })
            }
            _ => None,
        }
    }

    /// Whether somebody speaks, by the last complete block; pauses of up to 200 ms belong to the speech.
    pub fn is_speech(&self) -> bool {
        self.speaking
    }

    /// Adds samples of one block, high-passed.
    fn add(&mut self, pcm: &[i16]) {
        for &sample in pcm {
            let input = f32::from(sample);
            self.last_output = input - self.last_input + HIGH_PASS * self.last_output;
            self.last_input = input;
            self.energy += self.last_output * self.last_output;
        }
        self.filled += pcm.len();
        if self.filled == BLOCK {
            let energy = self.energy / BLOCK as f32;
            (self.energy, self.filled) = (0.0, 0);
            self.judge(energy);
        }
    }

    fn judge(&mut self, energy: f32) {
        let floor = self.minima.iter().copied().fold(f32::INFINITY, f32::min);
        if energy > QUIETEST_SPEECH.max(floor * ABOVE_NOISE) {
            self.silence = 0;
            self.onset = (self.onset + 1).min(ONSET_BLOCKS);
            self.speaking |= self.onset == ONSET_BLOCKS;
        } else {
            self.silence += BLOCK;
            self.onset = self.onset.saturating_sub(1);
            if self.silence >= HANGOVER {
                self.speaking = false;
                self.onset = 0;
            }
        }
        self.track_floor(energy);
    }

    fn track_floor(&mut self, energy: f32) {
        let minimum = &mut self.minima[self.window];
        *minimum = minimum.min(energy);
        self.window_blocks += 1;
        if self.window_blocks == WINDOW_BLOCKS {
            self.window_blocks = 0;
            self.window = (self.window + 1) % WINDOWS;
            self.minima[self.window] = f32::INFINITY;
        }
    }
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
        let mut detector = VoiceActivity::new();
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
        for pcm in [tone(400.0, -15.0, 10_000), tone(50.0, -10.0, 10_000), noise(-20.0, 10_000)] {
            let found = changes(&pcm, FRAME);
            let [(40..=60, Activity::Started), (stopped, Activity::Stopped { .. })] = found[..]
            else {
                panic!("{found:?}");
            };
            assert!((1_700..=2_500).contains(&stopped), "{stopped}");
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
        let mut detector = VoiceActivity::new();
        assert_eq!(
            detector.process(&[vec![0; 800], speech(-20.0, 160), vec![0; 8_000]].concat()),
            None
        );
        assert!(!detector.is_speech());
        assert_eq!(detector.process(&speech(-20.0, 160)), Some(Activity::Started));
        assert!(detector.is_speech());
    }
}
