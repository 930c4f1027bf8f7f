use super::*;
use crate::{Law, g711};

/// The loudest sine of mu-law, in dBm0 (ITU-T G.711).
const LOUDEST_DBM0: f64 = 3.17;

/// One press of a key.
#[derive(Debug, Clone, Copy)]
struct Press {
    code: u8,
    /// Level of the stronger line, in dBm0.
    level: f64,
    /// By how much the higher line is stronger than the lower, in dB.
    twist: f64,
    /// By how much lower and higher line are off, as a ratio.
    off: (f64, f64),
    /// In samples.
    length: usize,
    /// In turns, of the lower line.
    phase: f64,
}

impl Press {
    const fn of(code: u8) -> Self {
        Self { code, level: -10.0, twist: 0.0, off: (0.0, 0.0), length: 320, phase: 0.0 }
    }

    fn sound(self) -> Vec<f64> {
        let (low, high) = frequencies(self.code);
        let (low, high) = (low * (1.0 + self.off.0), high * (1.0 + self.off.1));
        let low_level = self.level - self.twist.max(0.0);
        let high_level = self.level + self.twist.min(0.0);
        (0..self.length)
            .map(|n| {
                let time = n as f64 / 8_000.0;
                amplitude(low_level) * (TAU * (low * time + self.phase)).sin()
                    + amplitude(high_level) * (TAU * (high * time + 1.7 * self.phase)).sin()
            })
            .collect()
    }
}

fn frequencies(code: u8) -> (f64, f64) {
    let row = CODES.iter().position(|row| row.contains(&code)).unwrap();
    let column = CODES[row].iter().position(|it| *it == code).unwrap();
    (FREQUENCIES[row], FREQUENCIES[GROUP + column])
}

fn amplitude(dbm0: f64) -> f64 {
    32_768.0 * 10f64.powf((dbm0 - LOUDEST_DBM0) / 20.0)
}

fn silence(samples: usize) -> Vec<f64> {
    vec![0.0; samples]
}

struct Noise(u64);

impl Noise {
    /// Uniform in -1.0 to 1.0.
    fn next(&mut self) -> f64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as f64 / f64::from(1 << 30) - 1.0
    }

    /// White noise of a level in dBm0.
    fn add_to(&mut self, sound: &mut [f64], dbm0: f64) {
        let peak = amplitude(dbm0) * 1.5f64.sqrt();
        for sample in sound {
            *sample += peak * self.next();
        }
    }
}

fn pcm(sound: &[f64]) -> Vec<i16> {
    sound.iter().map(|sample| sample.round() as i16).collect()
}

fn over_g711(law: Law, pcm: &[i16]) -> Vec<i16> {
    let (mut payload, mut decoded) = (vec![0; pcm.len()], vec![0; pcm.len()]);
    g711::encode(law, pcm, &mut payload);
    g711::decode(law, &payload, &mut decoded);
    decoded
}

/// What is found in `pcm`, as it comes in frames of `frame` samples, and which samples are tone.
fn hear(pcm: &[i16], frame: usize) -> (Vec<u8>, Vec<bool>) {
    let mut detector = DtmfDetector::new();
    let (mut codes, mut tone) = (Vec::new(), Vec::new());
    for frame in pcm.chunks(frame) {
        let range = detector.process(frame, |code| codes.push(code));
        assert!(range.start <= range.end && range.end <= frame.len(), "{range:?}");
        tone.extend((0..frame.len()).map(|n| range.contains(&n)));
    }
    (codes, tone)
}

fn digits(sound: &[f64]) -> Vec<u8> {
    hear(&pcm(sound), 160).0
}

/// One press at several offsets to the blocks, with silence around it.
fn at_offsets(press: Press) -> impl Iterator<Item = (usize, Vec<f64>)> {
    // One that leaves the least for whole blocks, and others.
    [0, 1, 7, 15, 16, 24, 31].into_iter().map(move |offset| {
        let phase = offset as f64 * 0.137;
        let sound = [silence(400 + offset), Press { phase, ..press }.sound(), silence(400)];
        (offset, sound.concat())
    })
}

#[track_caller]
fn assert_found(press: Press, name: &str) {
    for (offset, sound) in at_offsets(press) {
        assert_eq!(digits(&sound), [press.code], "{name}, offset {offset}: {press:?}");
    }
}

#[track_caller]
fn assert_refused(press: Press, name: &str) {
    for (offset, sound) in at_offsets(press) {
        assert_eq!(digits(&sound), [], "{name}, offset {offset}: {press:?}");
    }
}

#[test]
fn every_digit_is_found_at_every_level_and_twist() {
    for code in 0..16 {
        for level in [-3.0, -10.0, -20.0, -30.0] {
            for twist in [-8.0, -4.0, 0.0, 4.0] {
                assert_found(Press { level, twist, ..Press::of(code) }, "level and twist");
            }
        }
    }
}

#[test]
fn lines_may_be_off_by_1_8_percent_and_not_by_3() {
    for code in 0..16 {
        for twist in [-8.0, 0.0, 4.0] {
            for off in [-0.018, -0.015, 0.015, 0.018] {
                for off in [(off, off), (off, -off), (off, 0.0), (0.0, off)] {
                    assert_found(Press { off, twist, ..Press::of(code) }, "off");
                }
            }
            for off in [-0.05, -0.045, -0.04, -0.035, -0.03, 0.03, 0.035, 0.04, 0.045, 0.05] {
                for off in [(off, 0.0), (0.0, off), (off, off), (off, -off)] {
                    let length = 560;
                    assert_refused(Press { off, twist, length, ..Press::of(code) }, "too far off");
                }
            }
        }
    }
}

#[test]
fn too_short_too_quiet_too_twisted_and_half_a_digit_are_none() {
    for code in 0..16 {
        let press = Press::of(code);
        assert_refused(Press { length: 184, ..press }, "23 ms");
        assert_refused(Press { length: 184, off: (0.01, -0.01), level: -3.0, ..press }, "23 ms");
        for (name, press) in [
            ("quiet", Press { level: -40.0, ..press }),
            ("the higher line stronger", Press { twist: 6.0, ..press }),
            ("the lower line stronger", Press { twist: -10.0, ..press }),
            ("the lower line alone", Press { twist: -60.0, ..press }),
            ("the higher line alone", Press { twist: 60.0, ..press }),
        ] {
            assert_refused(Press { length: 1_600, ..press }, name);
        }
        assert_found(Press { length: 288, ..press }, "36 ms");
    }
}

#[test]
fn noise_15_db_below_hides_no_digit_and_makes_none() {
    let mut noise = Noise(5);
    for level in [-5.0, -30.0] {
        for twist in [-8.0, 0.0, 4.0] {
            for off in [0.0, 0.015] {
                for code in 0..16 {
                    let press = Press { level, twist, off: (off, -off), ..Press::of(code) };
                    for (offset, mut sound) in at_offsets(press) {
                        let tone = Press { length: 8_000, ..press }.sound();
                        let power = tone.iter().map(|it| it * it).sum::<f64>() / 8_000.0;
                        let dbm0 =
                            10.0 * (2.0 * power).log10() - 20.0 * 32_768f64.log10() + LOUDEST_DBM0;
                        noise.add_to(&mut sound, dbm0 - 15.0);
                        assert_eq!(digits(&sound), [code], "offset {offset}: {press:?}");
                    }
                }
            }
        }
    }
    let mut alone = silence(8_000 * 60);
    noise.add_to(&mut alone, -15.0);
    assert_eq!(digits(&alone), []);
}

#[test]
fn a_second_harmonic_an_overtone_or_a_third_line_is_a_voice() {
    let line = |hz: f64, dbm0: f64| -> Vec<f64> {
        (0..1_600).map(|n| amplitude(dbm0) * (TAU * hz * n as f64 / 8_000.0).sin()).collect()
    };
    for code in 0..16 {
        let press = Press { length: 1_600, ..Press::of(code) };
        let (low, high) = frequencies(code);
        for hz in [2.0 * low, 2.0 * high, low / 2.0, high - low, 440.0, 3_000.0] {
            let with = |dbm0| -> Vec<f64> {
                press.sound().iter().zip(line(hz, dbm0)).map(|(a, b)| a + b).collect()
            };
            assert_eq!(digits(&with(-12.0)), [], "{code} with {hz} Hz");
            assert_eq!(digits(&with(-25.0)), [code], "{code} with a trace of {hz} Hz");
        }
    }
}

#[test]
fn a_digit_survives_both_laws_an_offset_and_a_hum() {
    for code in 0..16 {
        for level in [-3.0, -30.0] {
            let press = Press { level, twist: -8.0, length: 400, ..Press::of(code) };
            let clean = [silence(333), press.sound(), silence(500)].concat();
            for law in [Law::Mu, Law::A] {
                let sound = over_g711(law, &pcm(&clean));
                assert_eq!(hear(&sound, 160).0, [code], "{law:?} at {level} dBm0");
                let other = if law == Law::Mu { Law::A } else { Law::Mu };
                assert_eq!(hear(&over_g711(other, &sound), 160).0, [code], "{law:?} and back");
            }
        }
        let hum = |n: usize| 300.0 + amplitude(-35.0) * (TAU * 50.0 * n as f64 / 8_000.0).sin();
        let press = Press { level: -20.0, length: 400, ..Press::of(code) };
        let sound: Vec<f64> = [silence(333), press.sound(), silence(500)]
            .concat()
            .iter()
            .enumerate()
            .map(|(n, sample)| sample + hum(n))
            .collect();
        assert_eq!(digits(&sound), [code]);
    }
}

#[test]
fn presses_are_counted_by_their_pauses() {
    let press = |code, ms: usize| Press { length: ms * 8, ..Press::of(code) }.sound();
    let softer =
        |code, ms: usize| Press { level: -18.0, length: ms * 8, ..Press::of(code) }.sound();
    let pause = |ms: usize| silence(ms * 8);
    for offset in 0..BLOCK {
        let begin = silence(200 + offset);
        for (name, rest, expected) in [
            ("40 ms, 40 ms", vec![press(5, 40), pause(40), press(5, 40)], vec![5, 5]),
            ("long", vec![press(9, 3_000)], vec![9]),
            ("a break of 10 ms", vec![press(1, 50), pause(10), press(1, 50)], vec![1]),
            ("a break of 10 ms too early", vec![press(1, 25), pause(10), press(1, 20)], vec![]),
            ("softer from the middle on", vec![press(2, 60), softer(2, 60)], vec![2]),
            ("no pause at all", vec![press(3, 50), press(6, 50), press(11, 50)], vec![3, 6, 11]),
            ("many", (0..30).flat_map(|_| [press(0, 50), pause(50)]).collect(), vec![0; 30]),
        ] {
            let sound = [begin.clone(), rest.concat(), pause(50)].concat();
            assert_eq!(digits(&sound), expected, "{name}, offset {offset}");
        }
    }
}

#[test]
fn a_tone_is_marked_from_its_recognition_to_its_end() {
    for offset in 0..160 {
        let begin = 800 + offset;
        let press = Press { length: 800, ..Press::of(7) };
        let pcm = pcm(&[silence(begin), press.sound(), silence(800)].concat());
        let (codes, tone) = hear(&pcm, 160);
        assert_eq!(codes, [7]);
        let first = tone.iter().position(|it| *it).unwrap();
        let last = tone.iter().rposition(|it| *it).unwrap();
        // The packet in which it is recognised 32 to 36 ms after its begin is the first without it.
        assert!((begin - BLOCK..=begin + 288).contains(&first), "{first} of {begin}");
        assert!(
            first % 160 == 0 || first <= begin,
            "{first} of {begin}: from the frame's begin on"
        );
        assert!((begin + 799..begin + 799 + 64).contains(&last), "{last} of {begin}");
        assert!(tone[first..=last].iter().all(|it| *it), "without a hole");
    }
}

#[test]
fn frames_of_any_length_find_the_same() {
    let mut sound = silence(77);
    for code in 0..16 {
        sound.extend(Press { length: 320 + 7 * usize::from(code), ..Press::of(code) }.sound());
        sound.extend(silence(320 + 5 * usize::from(code)));
    }
    let pcm = pcm(&sound);
    let all: Vec<u8> = (0..16).collect();
    for frame in [1, 7, 33, 80, 160, 161, 240, 480, 700, 1_400, pcm.len()] {
        assert_eq!(hear(&pcm, frame).0, all, "frames of {frame}");
    }
    assert_eq!(DtmfDetector::new().process(&[], |_| unreachable!()), 0..0);
}

#[test]
fn a_loss_does_not_make_two_of_one_and_silence_does() {
    let tone = pcm(&Press { length: 800, ..Press::of(4) }.sound());
    let press = |gap: fn(&mut DtmfDetector)| {
        let mut detector = DtmfDetector::new();
        let mut codes = Vec::new();
        detector.process(&tone, |code| codes.push(code));
        gap(&mut detector);
        let range = detector.process(&tone, |code| codes.push(code));
        (codes.len(), range)
    };
    assert_eq!(press(|detector| detector.lose(160)), (1, 0..800));
    assert_eq!(press(|detector| detector.lose(480)), (1, 0..800));
    assert_eq!(press(|detector| (0..3).for_each(|_| detector.lose(160))), (1, 0..800));
    assert_eq!(press(|detector| detector.lose(640)).0, 2);
    assert_eq!(press(DtmfDetector::reset).0, 2);
    let quiet = |detector: &mut DtmfDetector| {
        detector.process(&[0; 240], |_| unreachable!());
    };
    assert_eq!(press(quiet).0, 2);
}

#[test]
fn what_follows_a_loss_is_not_judged_with_what_was_before() {
    let tone = pcm(&Press { length: 400, ..Press::of(4) }.sound());
    let mut detector = DtmfDetector::new();
    let mut codes = Vec::new();
    detector.process(&tone[..160], |code| codes.push(code));
    detector.lose(160);
    detector.process(&tone[..160], |code| codes.push(code));
    assert_eq!(codes, []);
    detector.process(&tone[160..256], |code| codes.push(code));
    assert_eq!(codes, [4]);
}
