//! When the far side speaks, by what is heard of it.

use std::time::Duration;

use serde::{Serialize, Serializer};
use tandem_media::{Activity, SampleRate, VoiceActivity};

/// A pause this long ends a turn: pauses between sentences are shorter.
const TURN_GAP: Duration = Duration::from_millis(700);

/// The detector reports speech after it has heard so much of it.
const ONSET: Duration = Duration::from_millis(50);

/// A faint beginning of a word belongs to the speech if it is no longer than this.
const FAINT_ONSET: Duration = Duration::from_millis(400);

/// Samples louder than this are sound: -44 dBFS.
const SOUND: u16 = 200;

/// One stretch of the far side's speech, counted from the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HeardTurn {
    /// First sound.
    #[serde(rename = "start_s", serialize_with = "seconds")]
    pub start: Duration,
    /// Last sound, once it is over.
    #[serde(rename = "end_s", serialize_with = "maybe_seconds")]
    pub end: Option<Duration>,
}

fn seconds<S: Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((time.as_secs_f64() * 1000.0).round() / 1000.0)
}

fn maybe_seconds<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => seconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

/// Finds turns in audio.
#[derive(Debug)]
pub struct Turns {
    rate: SampleRate,
    activity: VoiceActivity,
    heard: Vec<HeardTurn>,
    last_sound: Option<Duration>,
    /// Since when each frame has held sound.
    loud_since: Option<Duration>,
}

impl Turns {
    /// For audio of this rate.
    pub fn new(rate: SampleRate) -> Self {
        Self {
            rate,
            activity: VoiceActivity::new(rate),
            heard: Vec::new(),
            last_sound: None,
            loud_since: None,
        }
    }

    /// Takes the audio that was heard from `at` on.
    pub fn hear(&mut self, at: Duration, pcm: &[i16]) {
        let end = at + self.rate.duration_of(pcm.len());
        let loud = pcm.iter().any(|sample| sample.unsigned_abs() > SOUND);
        self.loud_since = loud.then(|| self.loud_since.unwrap_or(at));
        let change = self.activity.process(pcm);
        match change {
            Some(Activity::Started) => {
                self.close_if_over(at);
                if self.open().is_none() {
                    let faint = self.loud_since.filter(|since| end - *since <= FAINT_ONSET);
                    let start = faint.unwrap_or(end.saturating_sub(ONSET));
                    self.heard.push(HeardTurn { start, end: None });
                }
                self.last_sound = Some(end);
            }
            Some(Activity::Stopped { silence }) => {
                self.last_sound = Some(end.saturating_sub(silence));
            }
            None if self.activity.is_speech() => self.last_sound = Some(end),
            None => self.close_if_over(end),
        }
    }

    /// The turns so far, the last one perhaps not over.
    pub fn heard(&self) -> &[HeardTurn] {
        &self.heard
    }

    /// Ends the last turn at the last sound that was heard.
    pub fn finish(&mut self) {
        let last_sound = self.last_sound;
        if let Some(turn) = self.open() {
            turn.end = last_sound;
        }
    }

    fn close_if_over(&mut self, now: Duration) {
        let Some(last_sound) = self.last_sound else { return };
        if now >= last_sound + TURN_GAP
            && let Some(turn) = self.open()
        {
            turn.end = Some(last_sound);
        }
    }

    fn open(&mut self) -> Option<&mut HeardTurn> {
        self.heard.last_mut().filter(|turn| turn.end.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Speech-like: a buzz whose loudness goes up and down four times a second.
    fn speech(millis: usize) -> Vec<i16> {
        (0..millis * 8)
            .map(|n| {
                let seconds = n as f64 / 8000.0;
                let loudness = 0.55 - 0.45 * (seconds * 4.0 * std::f64::consts::TAU).cos();
                let buzz = (1..8)
                    .map(|k| (seconds * 130.0 * f64::from(k) * std::f64::consts::TAU).sin())
                    .sum::<f64>();
                (buzz * loudness * 2000.0) as i16
            })
            .collect()
    }

    fn hear_all(pieces: &[(usize, bool)]) -> Vec<HeardTurn> {
        let mut turns = Turns::new(SampleRate::Hz8000);
        let audio: Vec<i16> = pieces
            .iter()
            .flat_map(|&(millis, loud)| if loud { speech(millis) } else { vec![0; millis * 8] })
            .collect();
        for (n, frame) in audio.chunks(160).enumerate() {
            turns.hear(Duration::from_millis(20 * n as u64), frame);
        }
        turns.finish();
        turns.heard().to_vec()
    }

    #[test]
    fn a_pause_between_sentences_does_not_end_a_turn() {
        let turns = hear_all(&[
            (500, false),
            (1000, true),
            (400, false),
            (1000, true),
            (1500, false),
            (800, true),
            (300, false),
        ]);
        let near = |time: Duration, millis: u64| {
            time.abs_diff(Duration::from_millis(millis)) < Duration::from_millis(150)
        };
        assert_eq!(turns.len(), 2, "{turns:?}");
        assert!(near(turns[0].start, 500) && near(turns[0].end.unwrap(), 2900), "{turns:?}");
        assert!(near(turns[1].start, 4400) && near(turns[1].end.unwrap(), 5200), "{turns:?}");
    }

    #[test]
    fn silence_has_no_turns() {
        assert_eq!(hear_all(&[(3000, false)]), []);
    }
}
