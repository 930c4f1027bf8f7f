//! What a detector makes of callers in noise.

use std::time::{Duration, Instant};

use tandem_quality::scene::{BLOCK, Scene};

use crate::candidate::Candidate;

/// Blocks of speech, less those without, that begin it, and blocks without that end it: 50 and 200 ms, as in Tandem.
const ONSET: u32 = 5;
const HANGOVER: u32 = 20;
/// Every detector may take so many blocks to get used to the line, a second.
const SETTLING: usize = 100;
/// A sentence is found when speech begins within so many blocks of it.
const IN_TIME: usize = 60;

/// What one detector did in some scenes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Trial {
    /// Score of each block, and whether it was speech.
    scores: Vec<(f32, bool)>,
    hits: usize,
    speech: usize,
    alarms: usize,
    noise: usize,
    sentences: usize,
    onsets: Vec<usize>,
    false_starts: usize,
    took: Duration,
}

impl Trial {
    /// Lets a detector of `make` hear each of `scenes` anew.
    pub(crate) fn run(make: fn() -> Box<dyn Candidate>, scenes: &[Scene]) -> Self {
        let mut trial = Self::default();
        for scene in scenes {
            trial.hear(make().as_mut(), scene);
        }
        trial
    }

    fn hear(&mut self, candidate: &mut dyn Candidate, scene: &Scene) {
        let sentences = scene.sentences();
        let is_near = |block: usize| {
            sentences.iter().any(|(first, last)| block + 5 >= *first && block <= last + 20)
        };
        let (mut onset, mut silence, mut speaking) = (0, 0, false);
        let mut starts = Vec::new();
        for (block, pcm) in scene.pcm.chunks_exact(BLOCK).enumerate() {
            let begin = Instant::now();
            let score = candidate.score(pcm);
            self.took += begin.elapsed();
            let is_speech = candidate.is_speech(score);
            self.scores.push((score, scene.speech[block]));
            if scene.speech[block] {
                self.speech += 1;
                self.hits += usize::from(is_speech);
            } else if block >= SETTLING && !is_near(block) {
                self.noise += 1;
                self.alarms += usize::from(is_speech);
            }
            let before = speaking;
            if candidate.is_smooth() {
                speaking = is_speech;
            } else if is_speech {
                silence = 0;
                onset = (onset + 1).min(ONSET);
                speaking |= onset == ONSET;
            } else {
                silence += 1;
                onset = onset.saturating_sub(1);
                if silence >= HANGOVER {
                    (speaking, onset) = (false, 0);
                }
            }
            if speaking && !before {
                starts.push(block);
            }
        }
        self.sentences += sentences.len();
        for (first, last) in &sentences {
            let latest = (first + IN_TIME).min(last + 10);
            let found = starts.iter().find(|start| **start + 1 >= *first && **start <= latest);
            self.onsets.extend(found.map(|start| (start + 1 - first) * 10));
        }
        let false_starts = starts.iter().filter(|start| {
            let near =
                |(first, last): &(usize, usize)| **start + 1 >= *first && **start <= last + 20;
            **start >= SETTLING && !sentences.iter().any(near)
        });
        self.false_starts += false_starts.count();
    }

    /// Adds what was done elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.scores.extend(other.scores);
        self.onsets.extend(other.onsets);
        self.hits += other.hits;
        self.speech += other.speech;
        self.alarms += other.alarms;
        self.noise += other.noise;
        self.sentences += other.sentences;
        self.false_starts += other.false_starts;
        self.took += other.took;
    }

    /// The chance that a block of speech has a higher score than one without.
    pub(crate) fn area_under_curve(&self) -> f64 {
        let mut scores = self.scores.clone();
        scores.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut ranks, mut from) = (0.0, 0);
        while from < scores.len() {
            let same = scores[from..].iter().take_while(|score| score.0 == scores[from].0).count();
            let rank = from as f64 + (same as f64 + 1.0) / 2.0;
            let speech = scores[from..from + same].iter().filter(|score| score.1).count();
            ranks += rank * speech as f64;
            from += same;
        }
        let speech = scores.iter().filter(|score| score.1).count() as f64;
        (ranks - speech * (speech + 1.0) / 2.0) / (speech * (scores.len() as f64 - speech))
    }

    /// Parts of the blocks with and without speech that were called speech, in per cent.
    pub(crate) fn rates(&self) -> (f64, f64) {
        let percent = |part: usize, of: usize| 100.0 * part as f64 / of.max(1) as f64;
        (percent(self.hits, self.speech), percent(self.alarms, self.noise))
    }

    /// Sentences whose beginning was found, and all of them.
    pub(crate) fn found(&self) -> (usize, usize) {
        (self.onsets.len(), self.sentences)
    }

    /// From the beginning of a sentence to when it was found: median and 95th percentile, milliseconds.
    pub(crate) fn onset(&self) -> Option<(usize, usize)> {
        let mut onsets = self.onsets.clone();
        onsets.sort_unstable();
        let last = onsets.len().checked_sub(1)?;
        Some((onsets[last / 2], onsets[last * 95 / 100]))
    }

    /// Beginnings found in a minute without any.
    pub(crate) fn false_starts(&self) -> f64 {
        self.false_starts as f64 / (self.noise.max(1) as f64 / 6_000.0)
    }

    /// What 20 ms cost.
    pub(crate) fn micros(&self) -> f64 {
        self.took.as_secs_f64() * 1e6 / (self.scores.len() as f64 / 2.0)
    }
}
