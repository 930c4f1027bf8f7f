//! The latency of each turn.

use std::time::{Duration, Instant};

use crate::TurnLedger;

/// Turns that are kept of one call.
const MOST_TURNS: usize = 4_096;

#[derive(Debug)]
struct Row {
    at: Instant,
    arrived: Option<Instant>,
    written: Option<Instant>,
    first_audio: Option<Instant>,
    started: Option<Instant>,
    barge_in: Option<Duration>,
    heard: Option<Duration>,
}

/// When each step of each turn happened. A row is opened by the caller's speech or digits, or by the agent's audio where
/// it speaks unasked: first, or again after a tool or a failed transfer.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    rows: Vec<Row>,
}

impl Ledger {
    /// The caller began to speak or to press keys. What was not answered yet belongs to the same turn.
    pub(super) fn caller_began(&mut self, now: Instant) {
        if self.rows.last().is_none_or(|row| row.first_audio.is_some()) {
            self.open(now);
        }
    }

    /// The last frame of the caller's speech arrived and was written to the model.
    pub(super) fn speech_written(&mut self, arrived: Instant, written: Instant) {
        if self.rows.last().is_none_or(|row| row.first_audio.is_some_and(|audio| audio < arrived)) {
            self.open(arrived);
        }
        if let Some(row) = self.rows.last_mut() {
            row.arrived = Some(arrived);
            row.written = Some(written);
        }
    }

    /// A new item's first audio came, and with it an answer where it `begins` one; gives the row it belongs to.
    pub(super) fn audio(&mut self, now: Instant, begins: bool) -> Option<usize> {
        if self.rows.last().is_none_or(|row| begins && row.first_audio.is_some()) {
            self.open(now);
        }
        let row = self.rows.last_mut()?;
        row.first_audio.get_or_insert(now);
        Some(self.rows.len() - 1)
    }

    /// The first packet of an item of `row` left.
    pub(super) fn started(&mut self, now: Instant, row: usize) {
        if let Some(row) = self.rows.get_mut(row) {
            row.started.get_or_insert(now);
        }
    }

    /// The answer of `row` was cut; `barge_in` is how long that took. The first cut counts: of several items it is the
    /// one that was playing.
    pub(super) fn cut(&mut self, row: usize, barge_in: Option<Duration>, heard: Duration) {
        if let Some(row) = self.rows.get_mut(row).filter(|row| row.heard.is_none()) {
            row.barge_in = barge_in;
            row.heard = Some(heard);
        }
    }

    /// The ledger, turns counted from 1, offsets from `answered`. Speech that nobody measured is left out.
    pub(super) fn turns(&self, answered: Option<Instant>) -> Vec<TurnLedger> {
        let answered = answered.or(self.rows.first().map(|row| row.at));
        self.rows
            .iter()
            .filter(|row| row.arrived.is_some() || row.first_audio.is_some())
            .zip(1..)
            .map(|(row, turn)| TurnLedger {
                turn,
                at_ms: between(answered, Some(row.at)).unwrap_or(0.0),
                uplink_ms: between(row.arrived, row.written),
                model_ms: between(row.written, row.first_audio),
                downlink_ms: between(row.first_audio, row.started),
                response_ms: between(row.arrived, row.started),
                barge_in_ms: row.barge_in.map(millis),
                heard_ms: row.heard.map(millis),
            })
            .collect()
    }

    fn open(&mut self, at: Instant) {
        if self.rows.len() < MOST_TURNS {
            self.rows.push(Row {
                at,
                arrived: None,
                written: None,
                first_audio: None,
                started: None,
                barge_in: None,
                heard: None,
            });
        }
    }
}

/// Milliseconds from `from` to `to`; 0 when they are the wrong way round.
pub(super) fn between(from: Option<Instant>, to: Option<Instant>) -> Option<f64> {
    Some(millis(to?.saturating_duration_since(from?)))
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::beginning;

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn a_greeting_and_an_answered_turn() {
        let start = beginning();
        let mut ledger = Ledger::default();
        assert_eq!(ledger.audio(at(start, 100), true), Some(0));
        ledger.started(at(start, 101), 0);
        ledger.caller_began(at(start, 2_000));
        ledger.speech_written(at(start, 2_400), at(start, 2_401));
        ledger.caller_began(at(start, 2_600)); // Still the same turn: nobody answered.
        ledger.speech_written(at(start, 3_000), at(start, 3_002));
        assert_eq!(ledger.audio(at(start, 3_500), true), Some(1));
        ledger.started(at(start, 3_504), 1);
        ledger.cut(1, Some(Duration::from_millis(3)), Duration::from_millis(700));
        ledger.caller_began(at(start, 9_000)); // Never measured.
        let turns = ledger.turns(Some(start));
        assert_eq!(turns.len(), 2);
        assert_eq!(
            (turns[0].turn, turns[0].response_ms, turns[0].downlink_ms),
            (1, None, Some(1.0))
        );
        assert_eq!(
            turns[1],
            TurnLedger {
                turn: 2,
                at_ms: 2_000.0,
                uplink_ms: Some(2.0),
                model_ms: Some(498.0),
                downlink_ms: Some(4.0),
                response_ms: Some(504.0),
                barge_in_ms: Some(3.0),
                heard_ms: Some(700.0),
            }
        );
    }

    #[test]
    fn speech_whose_beginning_was_missed_still_opens_a_turn() {
        let start = beginning();
        let mut ledger = Ledger::default();
        ledger.audio(at(start, 0), true);
        ledger.speech_written(at(start, 900), at(start, 901));
        assert_eq!(ledger.turns(Some(start)).len(), 2);
    }
}
