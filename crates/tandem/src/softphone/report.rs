//! How a call of the softphone went.

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use serde_json::Value;
use tandem_call::LegQuality;

use super::{ledger, turns::HeardTurn};
use crate::terminal::Paint;

/// How a call went.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallReport {
    /// Whom we called.
    pub uri: String,
    /// INVITE to 180, milliseconds.
    #[serde(rename = "ringing_ms")]
    pub ringing_after: Option<f64>,
    /// INVITE to 200; none when the call was not answered.
    #[serde(rename = "answer_ms")]
    pub answered_after: Option<f64>,
    /// INVITE to the first RTP packet.
    #[serde(rename = "first_rtp_ms")]
    pub first_rtp_after: Option<f64>,
    /// INVITE to the first sound.
    #[serde(rename = "first_audio_ms")]
    pub first_audio_after: Option<f64>,
    /// Answer to end, seconds.
    pub duration_s: f64,
    /// How it ended, in words.
    pub ended: String,
    /// The far side's turns.
    pub turns: Vec<TurnReport>,
    /// Digits they pressed.
    pub digits_heard: String,
    /// What the network did to what we heard.
    pub quality: LegQuality,
    /// How media was protected; absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srtp: Option<&'static str>,
    /// The recording.
    pub recording: Option<PathBuf>,
    /// The call record of a Tandem on this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<Value>,
}

/// One turn of the far side.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct TurnReport {
    /// When, counted from the answer.
    #[serde(flatten)]
    pub turn: HeardTurn,
    /// Our last sound before it to its first, as the caller hears it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<f64>,
    /// Our first sound in it to its last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted_ms: Option<f64>,
}

/// What our own turns make of theirs.
pub(crate) fn turn_reports(heard: &[HeardTurn], said: &[HeardTurn]) -> Vec<TurnReport> {
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    heard
        .iter()
        .enumerate()
        .map(|(n, &turn)| {
            let before = n.checked_sub(1).map_or(Duration::ZERO, |n| heard[n].start);
            let ours = said
                .iter()
                .rev()
                .find_map(|ours| ours.end.filter(|end| *end <= turn.start && ours.start >= before));
            let cut = turn.end.and_then(|end| {
                let ours = said.iter().find(|ours| ours.start > turn.start && ours.start < end)?;
                Some(end - ours.start)
            });
            TurnReport {
                turn,
                response_ms: ours.map(|ours| millis(turn.start - ours)),
                interrupted_ms: cut.map(millis),
            }
        })
        .collect()
}

impl CallReport {
    /// The summary for a person; what was shown during the call is not repeated.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = vec![format!("\n{}", paint.strong(&self.ended))];
        for (title, value) in [
            ("ringing", self.ringing_after),
            ("answered (INVITE to 200)", self.answered_after),
            ("first RTP packet", self.first_rtp_after),
            ("first sound", self.first_audio_after),
        ] {
            if let Some(ms) = value {
                lines.push(format!("  {title:<26}{ms:>9.1} ms after the INVITE"));
            }
        }
        if self.answered_after.is_some() {
            lines.push(format!("  {:<26}{:>9.2} s", "duration", self.duration_s));
        }
        for (n, report) in self.turns.iter().enumerate() {
            let start = report.turn.start.as_secs_f64();
            let end = report.turn.end.map_or(start, |end| end.as_secs_f64());
            let mut line = format!("  their turn {:<2} {start:8.2} to {end:6.2} s", n + 1);
            if let Some(ms) = report.response_ms {
                line += &format!("   {ms:6.0} ms after our last sound");
            }
            if let Some(ms) = report.interrupted_ms {
                line += &format!("   silent {ms:.0} ms after we cut in");
            }
            lines.push(line);
        }
        if !self.digits_heard.is_empty() {
            lines.push(format!("  digits they pressed       {}", self.digits_heard));
        }
        if self.answered_after.is_some() {
            let LegQuality {
                codec,
                packets_received,
                packets_lost,
                packets_late,
                jitter_ms,
                mos,
                ..
            } = &self.quality;
            let mos = mos.map_or_else(|| "unknown".to_owned(), |mos| format!("{mos:.1}"));
            lines.push(format!(
                "  {codec}: {packets_received} packets heard, {packets_lost} lost, {packets_late} late, jitter {jitter_ms:.1} ms, MOS {mos}"
            ));
        }
        if let Some(path) = &self.recording {
            lines.push(format!("  recorded in {} (left: us, right: them)", path.display()));
        }
        if let Some(record) = &self.record {
            lines.push(format!(
                "\n{}\n{}",
                paint.strong("What was said"),
                ledger::conversation_text(record)
            ));
            lines.push(format!("\n{}\n{}", paint.strong("Latency"), ledger::ledger_text(record)));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(start: u64, end: u64) -> HeardTurn {
        HeardTurn { start: Duration::from_millis(start), end: Some(Duration::from_millis(end)) }
    }

    #[test]
    fn response_and_interruption_come_from_both_sides_turns() {
        let heard = [turn(100, 2000), turn(4000, 5300), turn(9000, 9500)];
        let said = [turn(2500, 3400), turn(5000, 6000)];
        let reports = turn_reports(&heard, &said);
        let facts: Vec<_> =
            reports.iter().map(|turn| (turn.response_ms, turn.interrupted_ms)).collect();
        assert_eq!(facts, [(None, None), (Some(600.0), Some(300.0)), (Some(3000.0), None)]);
    }
}
