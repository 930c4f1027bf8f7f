//! Tells the agent's own voice, coming back from the caller's loudspeaker, from the caller's.

use std::time::{Duration, Instant};

use super::bands::{BANDS, Bands, Block, Levels};
use crate::{SampleRate, lanes::to_pcm};

/// Blocks of what was played that are remembered: 960 ms, some of which may be still to come.
const MEMORY: usize = 96;
/// An echo comes back after so many blocks at most: 500 ms of network, jitter buffers and room.
const LONGEST: usize = 50;
/// Delays are compared by vectors of this length, a whole number of vector registers; the bands beyond the last are zero.
const LANES: usize = 16;
/// A shape's distances are in parts of a dB, and bounded: the sum of products of two has room in 32 bits.
const PARTS: f32 = 256.0;
const FURTHEST: f32 = 30.0;
const BLOCK_TIME: Duration = Duration::from_millis(10);
/// Blocks by which the clocks of both ways may differ from their samples' count before they are set anew.
const SLACK: i64 = 4;
/// The agent is heard where the mean of the bands is so far above nothing at all, dB.
const ACTIVE: f32 = 14.0;
/// What coders make of silence.
const SILENT: f32 = 20.0;
/// How fast the mean level of a band is followed, which the comparison leaves out.
const MEAN_RATE: f32 = 0.02;
/// Memory of the comparison, per block: of a syllable, and of a sentence.
const SHORT: f32 = 0.94;
const LONG: f32 = 0.99;
/// The likeness of a delay over a sentence, from 0 to 1, from which on it is that of an echo; below the second it is no more.
const FOUND: f32 = 0.50;
const LOST: f32 = 0.25;
/// Over a syllable: from here on what is heard is the echo, below the second it is not.
const SURE_ECHO: f32 = 0.72;
const SURE_CALLER: f32 = 0.50;
/// What is expected of the echo beside what was learnt of it, dB: less, for much of it is above its mean and callers must get
/// through; and at first more, by this much for each block of the first dozen that is not there to learn from.
const EXPECTED: f32 = -1.0;
const UNLEARNT: f32 = 1.0;
const FIRST: u32 = 12;
/// After so many of them the path is the right one.
const SETTLED: u32 = 30;
/// The echo's tail falls by this much in a block: 60 dB in 300 ms.
const TAIL: f32 = 2.0;
const TAIL_BLOCKS: usize = 12;
/// What both sides of a likeness are at least, dB squared: one block of 12 dB in every band.
const LEAST: f32 = 2_000.0;
/// Blocks of the agent's voice, once an echo would have come, after which there is none.
const UNANSWERED: u32 = 30;

/// What a block that sounds like speech may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Origin {
    /// The caller: the agent is silent, or this line has no echo.
    Caller,
    /// The caller where it is left of this.
    Louder(Levels),
    /// The caller or an echo: more must be heard.
    Unsure,
    /// The agent's own voice.
    Echo,
}

/// Knows what was played, and finds it in what is heard.
#[derive(Debug)]
pub(super) struct EchoGuard {
    bands: Bands,
    rate: SampleRate,
    origin: Option<Instant>,
    /// Number of the next block of each way, counted from the first instant.
    next_played: i64,
    next_heard: Option<i64>,
    /// What was played, by the number of its block: levels in [`PARTS`].
    levels: [[i16; BANDS]; MEMORY],
    /// .. as the comparison takes it: the distance from the mean.
    shapes: [Shape; MEMORY],
    /// The sum of products of each shape with itself, dB squared.
    powers: [f32; MEMORY],
    /// Whether the agent is heard in it.
    active: [bool; MEMORY],
    played_mean: Levels,
    heard_mean: Levels,
    short: Likeness,
    long: Likeness,
    path: Option<Path>,
    /// Blocks since the agent was last silent for as long as an echo may take.
    playing: u32,
    unanswered: u32,
}

/// How far each band is from its mean, in [`PARTS`].
type Shape = [i16; LANES];

/// A value for each delay in blocks.
type Delays = [f32; LONGEST + 1];

/// Running sums of products, for each delay in blocks.
#[derive(Debug)]
struct Likeness {
    keep: f32,
    heard: f32,
    products: Delays,
    played: Delays,
}

/// An echo that is there.
#[derive(Debug, Clone, Copy)]
struct Path {
    delay: usize,
    /// What is heard of each band of what was played, dB.
    gain: Levels,
    /// Blocks that `gain` was learnt from.
    learnt: u32,
}

impl EchoGuard {
    pub(super) fn new() -> Self {
        Self {
            bands: Bands::new(SampleRate::Hz8000),
            rate: SampleRate::Hz8000,
            origin: None,
            next_played: 0,
            next_heard: None,
            levels: [[in_parts(SILENT); BANDS]; MEMORY],
            shapes: [[0; LANES]; MEMORY],
            powers: [0.0; MEMORY],
            active: [false; MEMORY],
            played_mean: [SILENT; BANDS],
            heard_mean: [SILENT; BANDS],
            short: Likeness::new(SHORT),
            long: Likeness::new(LONG),
            path: None,
            playing: 0,
            unanswered: 0,
        }
    }

    /// Takes what was sent to the caller; its first sample left at `at`.
    pub(super) fn play(&mut self, at: Instant, rate: SampleRate, pcm: &[i16]) {
        if rate != self.rate {
            self.rate = rate;
            self.bands.set_rate(rate);
        }
        let first = self.number(at);
        if (first - self.next_played).abs() > SLACK {
            self.play_silence(first);
        }
        let mut rest = pcm;
        while !rest.is_empty() {
            let (taken, block) = self.bands.take(rest);
            rest = &rest[taken..];
            if let Some(block) = block {
                self.remember(block.levels);
            }
        }
    }

    /// Takes a block that was heard, its last sample at `end`, and tells whose it may be. `background` is what is heard always.
    pub(super) fn hear(
        &mut self,
        end: Instant,
        block: &Block,
        background: &Levels,
        above: bool,
    ) -> Origin {
        let number = self.number(end) - 1;
        let number = match self.next_heard {
            Some(next) if (number - next).abs() <= SLACK => next,
            _ => number,
        };
        self.next_heard = Some(number + 1);
        if self.next_played < number - 2 {
            self.play_silence(number - 2); // Nothing was sent, not even silence.
        }
        let active = self.recent(number).any(|(_, slot)| self.active[slot]);
        let shape = shape(&block.levels, &mut self.heard_mean);
        if !active {
            self.playing = 0;
            return Origin::Caller;
        }
        self.playing = self.playing.saturating_add(1);
        self.compare(number, &shape);
        self.find_path();
        if let Some(mut path) = self.path {
            let at_path = self.short.near(path.delay);
            if above && at_path > SURE_CALLER {
                self.learn_gain(number, &mut path, block, background);
            }
            self.path = Some(path);
            if path.learnt < SETTLED && self.short.best().0 > SURE_ECHO {
                return Origin::Echo; // Its delay may be that of a neighbouring syllable yet.
            }
            return Origin::Louder(self.expected(number, &path));
        }
        if !above {
            // What was played until now would have come back by now.
            if self.playing > LONGEST as u32 {
                self.unanswered = self.unanswered.saturating_add(1);
            }
            return Origin::Caller;
        }
        match self.short.best().0 {
            SURE_ECHO.. => {
                self.unanswered = 0;
                Origin::Echo
            }
            _ if self.unanswered >= UNANSWERED => Origin::Caller,
            ..SURE_CALLER => Origin::Caller,
            _ => Origin::Unsure,
        }
    }

    /// The number of the block that begins at `at`.
    fn number(&mut self, at: Instant) -> i64 {
        // A second ahead of the first instant, so that nothing lies before it.
        let origin = *self.origin.get_or_insert(at);
        let after = at.saturating_duration_since(origin).as_micros() as i64;
        let before = origin.saturating_duration_since(at).as_micros() as i64;
        let block = BLOCK_TIME.as_micros() as i64;
        (after - before + 100 * block + block / 2) / block
    }

    fn play_silence(&mut self, until: i64) {
        if until < self.next_played {
            self.next_played = until; // What was sent before its time is sent again.
            return;
        }
        for _ in 0..(until - self.next_played).min(MEMORY as i64) {
            self.remember([SILENT; BANDS]);
        }
        self.next_played = until;
    }

    fn remember(&mut self, levels: Levels) {
        let slot = self.next_played.rem_euclid(MEMORY as i64) as usize;
        let shape = shape(&levels, &mut self.played_mean);
        self.levels[slot] = levels.map(in_parts);
        self.shapes[slot] = shape;
        self.powers[slot] = product(&shape, &shape);
        self.active[slot] = levels.iter().sum::<f32>() / BANDS as f32 > SILENT + ACTIVE;
        self.next_played += 1;
    }

    /// Where what was played in block `number` lies, if it is known.
    fn slot(&self, number: i64) -> Option<usize> {
        let known = self.next_played - MEMORY as i64..self.next_played;
        known.contains(&number).then(|| number.rem_euclid(MEMORY as i64) as usize)
    }

    /// The delays after which what was played may be heard in block `number`, as far as it is known, and where that lies.
    fn recent(&self, number: i64) -> impl Iterator<Item = (usize, usize)> + use<> {
        let behind = self.next_played - 1 - number;
        let delays = (-behind).max(0)..=(MEMORY as i64 - 1 - behind).min(LONGEST as i64);
        let mut slot = (number - delays.start()).rem_euclid(MEMORY as i64) as usize;
        delays.map(move |delay| {
            let here = slot;
            slot = if slot == 0 { MEMORY - 1 } else { slot - 1 };
            (delay as usize, here)
        })
    }

    fn compare(&mut self, number: i64, heard: &Shape) {
        let (mut products, mut powers) = ([0.0; LONGEST + 1], [0.0; LONGEST + 1]);
        for (delay, slot) in self.recent(number) {
            products[delay] = product(heard, &self.shapes[slot]);
            powers[delay] = self.powers[slot];
        }
        let energy = product(heard, heard);
        self.short.add(energy, &products, &powers);
        self.long.add(energy, &products, &powers);
    }

    fn find_path(&mut self) {
        let (likeness, delay) = self.long.best();
        match &mut self.path {
            Some(path) if self.long.near(path.delay) < LOST => self.path = None,
            Some(path)
                if delay.abs_diff(path.delay) > 1
                    && likeness > FOUND.max(self.long.near(path.delay) + 0.1) =>
            {
                *path = Path::new(delay);
            }
            None if likeness > FOUND => self.path = Some(Path::new(delay)),
            _ => {}
        }
    }

    /// Learns how loud the echo is, from the bands in which there is one.
    fn learn_gain(&self, number: i64, path: &mut Path, block: &Block, background: &Levels) {
        let played = self.loudest_near(number, path.delay, 1);
        let rate = 1.0 / (path.learnt + 1).min(FIRST) as f32;
        for band in 0..BANDS {
            let heard = block.levels[band];
            if played[band] > SILENT + 15.0 && heard > background[band] + 3.0 {
                let gain = (heard - played[band]).min(6.0);
                path.gain[band] += rate * (gain - path.gain[band]);
            }
        }
        path.learnt += 1;
    }

    /// What the echo may sound like in block `number`.
    fn expected(&self, number: i64, path: &Path) -> Levels {
        let mut expected = self.loudest_near(number, path.delay, 1);
        for tail in 2..TAIL_BLOCKS {
            let Some(slot) = self.slot(number - (path.delay + tail) as i64) else { continue };
            for (level, &played) in expected.iter_mut().zip(&self.levels[slot]) {
                *level = level.max(f32::from(played) / PARTS - TAIL * tail as f32);
            }
        }
        let more = EXPECTED + UNLEARNT * FIRST.saturating_sub(path.learnt) as f32;
        for (level, gain) in expected.iter_mut().zip(&path.gain) {
            *level += gain + more;
        }
        expected
    }

    fn loudest_near(&self, number: i64, delay: usize, reach: i64) -> Levels {
        let mut loudest = [0.0f32; BANDS];
        for near in -reach..=reach {
            let Some(slot) = self.slot(number - delay as i64 + near) else { continue };
            for (level, &played) in loudest.iter_mut().zip(&self.levels[slot]) {
                *level = level.max(f32::from(played) / PARTS);
            }
        }
        loudest
    }
}

impl Likeness {
    fn new(keep: f32) -> Self {
        Self { keep, heard: 0.0, products: [0.0; LONGEST + 1], played: [0.0; LONGEST + 1] }
    }

    fn add(&mut self, heard: f32, products: &Delays, played: &Delays) {
        self.heard = self.heard * self.keep + heard;
        for (sum, product) in self.products.iter_mut().zip(products) {
            *sum = *sum * self.keep + product;
        }
        for (sum, power) in self.played.iter_mut().zip(played) {
            *sum = *sum * self.keep + power;
        }
    }

    /// The likeness at `delay`, 0 to 1; nothing is like next to nothing.
    fn at(&self, delay: usize) -> f32 {
        let (heard, played) = (self.heard.max(LEAST), self.played[delay].max(LEAST));
        self.products[delay] / (heard * played).sqrt()
    }

    /// The best likeness, and its delay.
    fn best(&self) -> (f32, usize) {
        let heard = self.heard.max(LEAST);
        let mut all = [0.0; LONGEST + 1];
        for ((slot, product), played) in all.iter_mut().zip(&self.products).zip(&self.played) {
            *slot = product / (heard * played.max(LEAST)).sqrt();
        }
        let all = all.into_iter().zip(0..);
        all.fold((0.0, 0), |best, next| if next.0 > best.0 { next } else { best })
    }

    /// The likeness at `delay` or next to it.
    fn near(&self, delay: usize) -> f32 {
        let range = delay.saturating_sub(1)..=(delay + 1).min(LONGEST);
        range.map(|delay| self.at(delay)).fold(0.0, f32::max)
    }
}

impl Path {
    const fn new(delay: usize) -> Self {
        Self { delay, gain: [-6.0; BANDS], learnt: 0 }
    }
}

/// How far each band is from its mean, which follows.
fn shape(levels: &Levels, mean: &mut Levels) -> Shape {
    let mut shape = [0; LANES];
    for ((slot, &level), mean) in shape.iter_mut().zip(levels).zip(mean) {
        *slot = to_pcm((level - *mean).clamp(-FURTHEST, FURTHEST) * PARTS);
        *mean += MEAN_RATE * (level - *mean);
    }
    shape
}

/// A level in [`PARTS`], 128 dB at most.
const fn in_parts(level: f32) -> i16 {
    (level * PARTS) as i16
}

/// The sum of products, dB squared.
fn product(a: &Shape, b: &Shape) -> f32 {
    sum_of_products(a, b) as f32 / (PARTS * PARTS)
}

/// By the instruction that was made for it, which the compiler does not find.
#[cfg(target_arch = "x86_64")]
fn sum_of_products(a: &Shape, b: &Shape) -> i32 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_madd_epi16,
        _mm_shuffle_epi32,
    };
    let (a, b): (*const __m128i, *const __m128i) = (a.as_ptr().cast(), b.as_ptr().cast());
    // SAFETY: each shape is two vectors long, and every processor of this family has SSE2.
    unsafe {
        let low = _mm_madd_epi16(_mm_loadu_si128(a), _mm_loadu_si128(b));
        let high = _mm_madd_epi16(_mm_loadu_si128(a.add(1)), _mm_loadu_si128(b.add(1)));
        let four = _mm_add_epi32(low, high);
        let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn sum_of_products(a: &Shape, b: &Shape) -> i32 {
    a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b)).sum()
}

#[cfg(test)]
mod tests {
    use std::f32::consts::TAU;

    use super::*;
    use crate::{Activity, VoiceActivity};

    struct Random(u32);

    impl Random {
        fn between(&mut self, least: f32, most: f32) -> f32 {
            self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            least + (most - least) * (self.0 >> 8) as f32 / (1 << 24) as f32
        }
    }

    /// Somebody who talks at 8 kHz: syllables of changing pitch and vowel, and pauses.
    fn talk(seed: u32, seconds: usize, level: f32) -> Vec<f32> {
        let mut random = Random(seed);
        let (mut phase, mut pitch, mut tune) = (0.0, 120.0, [500.0, 1_500.0, 2_500.0]);
        let (mut left, mut length, mut loudness) = (0, 1, 0.0);
        let mut states = [[0.0f32; 2]; 3];
        (0..seconds * 8_000)
            .map(|_| {
                if left == 0 {
                    length = random.between(900.0, 2_600.0) as usize;
                    left = length;
                    let is_pause = random.between(0.0, 1.0) < 0.25;
                    loudness = if is_pause { 0.0 } else { random.between(0.5, 1.0) };
                    pitch = (pitch * random.between(0.85, 1.18)).clamp(90.0, 220.0);
                    tune = [
                        random.between(300.0, 800.0),
                        random.between(900.0, 2_100.0),
                        random.between(2_200.0, 3_200.0),
                    ];
                }
                let into = 1.0 - left as f32 / length as f32;
                left -= 1;
                phase += pitch / 8_000.0;
                let pulse = if phase >= 1.0 { 20.0 } else { 0.0 };
                phase -= phase.floor();
                let excitation = pulse + random.between(-0.3, 0.3);
                let mut voice = 0.0;
                for (state, hz) in states.iter_mut().zip(tune) {
                    let radius = (-TAU * 45.0 / 8_000.0f32).exp();
                    let next = excitation + 2.0 * radius * (TAU * hz / 8_000.0).cos() * state[0]
                        - radius * radius * state[1];
                    *state = [next, state[0]];
                    voice += next;
                }
                voice * loudness * level * (TAU / 2.0 * into).sin().sqrt()
            })
            .collect()
    }

    /// What comes back of `voice` after `delay_ms`, with a tail of a room.
    fn echo(voice: &[f32], delay_ms: usize, gain_db: f32) -> Vec<f32> {
        let gain = 10f32.powf(gain_db / 20.0);
        let taps = [(0, 1.0), (53, 0.5), (131, -0.4), (290, 0.25), (530, -0.15), (880, 0.1)];
        (0..voice.len())
            .map(|n| {
                let heard = taps.iter().filter_map(|(late, tap)| {
                    Some(voice[n.checked_sub(delay_ms * 8 + late)?] * tap * gain)
                });
                heard.sum()
            })
            .collect()
    }

    /// When speech was reported, in milliseconds, in frames of 20 ms.
    fn starts(played: &[f32], heard: &[f32], guarded: bool) -> Vec<usize> {
        let start = crate::voice_activity::some_instant();
        let mut activity = VoiceActivity::new(SampleRate::Hz8000);
        activity.guard_against_echo(guarded);
        let mut random = Random(9);
        let mut found = Vec::new();
        for (n, (played, heard)) in
            played.chunks_exact(160).zip(heard.chunks_exact(160)).enumerate()
        {
            let at = start + Duration::from_millis(n as u64 * 20);
            let played: Vec<i16> = played.iter().map(|&sample| to_pcm(sample)).collect();
            let heard: Vec<i16> =
                heard.iter().map(|&sample| to_pcm(sample + random.between(-25.0, 25.0))).collect();
            activity.played(at, SampleRate::Hz8000, &played);
            let change = activity.process_at(at + Duration::from_millis(20), &heard);
            if change == Some(Activity::Started) {
                found.push((n + 1) * 20);
            }
        }
        found
    }

    fn sum(a: &[f32], b: &[f32]) -> Vec<f32> {
        a.iter().zip(b).map(|(a, b)| a + b).collect()
    }

    /// `voice` from `at_ms` on, silence before and after.
    fn later(voice: &[f32], at_ms: usize, seconds: usize) -> Vec<f32> {
        let mut all = vec![0.0; seconds * 8_000];
        let room = &mut all[at_ms * 8..];
        room.iter_mut().zip(voice).for_each(|(slot, &sample)| *slot = sample);
        all
    }

    #[test]
    fn an_echo_is_no_speech_and_a_caller_over_it_is() {
        let (mut unguarded, mut found, mut sentences) = (0, 0, 0);
        for (seed, delay_ms, gain_db) in
            [(1, 20, -12.0), (2, 130, -20.0), (3, 250, -14.0), (4, 400, -20.0), (5, 60, -30.0)]
        {
            let agent = talk(seed, 12, 160.0);
            let back = echo(&agent, delay_ms, gain_db);
            assert_eq!(starts(&agent, &back, true), [], "{delay_ms} ms {gain_db} dB");
            unguarded += starts(&agent, &back, false).len();
            let caller = talk(seed + 50, 1, 220.0);
            let onset = caller.iter().position(|sample| sample.abs() > 1_000.0).unwrap() / 8;
            for at in [4_000, 6_300, 9_100] {
                sentences += 1;
                let both = sum(&back, &later(&caller, at, 12));
                let starts = starts(&agent, &both, true);
                let begin = at + onset;
                found += usize::from(starts.iter().any(|it| (begin..begin + 300).contains(it)));
            }
        }
        assert!(unguarded > 20, "{unguarded}");
        assert!(found * 10 >= sentences * 8, "{found} of {sentences} were found");
    }

    #[test]
    fn every_band_counts_in_the_comparison() {
        let a: Shape = std::array::from_fn(|band| 7_680 - 300 * band as i16);
        let b: Shape = std::array::from_fn(|band| if band % 3 == 0 { -7_680 } else { 77 });
        let sum: i32 = (0..LANES).map(|band| i32::from(a[band]) * i32::from(b[band])).sum();
        assert_eq!(sum_of_products(&a, &b), sum);
    }

    #[test]
    fn without_an_echo_nobody_waits() {
        let agent = talk(7, 8, 160.0);
        let caller = later(&talk(60, 2, 160.0), 5_000, 8);
        let guarded = starts(&agent, &caller, true);
        assert!(!guarded.is_empty());
        assert_eq!(guarded.first(), starts(&agent, &caller, false).first());
        let silent = vec![0.0; agent.len()];
        assert_eq!(starts(&silent, &caller, true), starts(&silent, &caller, false));
    }

    #[test]
    fn clocks_that_jump_and_audio_ahead_of_its_time_do_no_harm() {
        let start = crate::voice_activity::some_instant();
        let mut activity = VoiceActivity::new(SampleRate::Hz16000);
        activity.guard_against_echo(true);
        let voice: Vec<i16> = talk(3, 2, 160.0).into_iter().map(to_pcm).collect();
        let mut random = Random(1);
        for _ in 0..2_000 {
            let at = |random: &mut Random| {
                start + Duration::from_millis(random.between(0.0, 5_000.0) as u64)
            };
            let (from, length) = (random.between(0.0, 8_000.0), random.between(0.0, 4_000.0));
            let pcm = &voice[from as usize..(from + length) as usize];
            if random.between(0.0, 1.0) < 0.5 {
                activity.played(at(&mut random), SampleRate::Hz24000, pcm);
            } else {
                activity.process_at(at(&mut random), pcm);
            }
        }
        activity.guard_against_echo(false);
        assert!(!activity.is_guarded());
    }
}
