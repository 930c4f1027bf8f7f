//! What is kept of tool calls: a row for each, and what their receivers wanted kept.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};

use super::{
    tool_results::Given,
    transcript::{PAUSED, floor},
};
use crate::{AgentTool, ItemId, ToolCall, ToolMode, ToolOutcome, ToolRecord, ToolReport, Verdict};

/// Calls that are kept of one call.
const MOST_RECORDS: usize = 1_024;

/// Longest arguments, in bytes.
const LONGEST_ARGUMENTS: usize = 64 * 1_024;

/// Longest name, raw text and error that are kept, in bytes; longest status and message, in characters.
const LONGEST_TEXT: usize = 500;
const LONGEST_STATUS: usize = 64;
const LONGEST_MESSAGE: usize = 500;

/// Calls that are waited for at the same time: answers that may come late, and results that nobody has spoken after.
const MOST_AWAITED: usize = 16;

/// What is kept of metadata, in bytes of JSON.
const MOST_METADATA: usize = 8 * 1_024;

/// A result after which the agent has not been heard yet.
#[derive(Debug)]
struct Unspoken {
    number: u32,
    /// What it says then, once it has begun.
    item: Option<ItemId>,
}

#[derive(Debug)]
struct Row {
    began: Instant,
    record: ToolRecord,
}

/// The rows of all tool calls of a call.
#[derive(Debug, Default)]
pub(super) struct ToolLog {
    rows: Vec<Row>,
    /// The number of the latest call.
    latest: u32,
    /// Calls whose deadline passed and whose answers may still come.
    late: VecDeque<u32>,
    unspoken: VecDeque<Unspoken>,
    metadata: Map<String, Value>,
    metadata_bytes: usize,
}

impl ToolLog {
    /// Enters a call that was made at `now`, and gives its number; it counts as cancelled until it comes out.
    pub(super) fn open(
        &mut self,
        now: Instant,
        answered: Option<Instant>,
        call: &ToolCall,
        tool: Option<&AgentTool>,
        mode: ToolMode,
        paused: bool,
    ) -> u32 {
        self.latest = self.latest.saturating_add(1);
        if self.rows.len() < MOST_RECORDS {
            let at = answered.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
            self.rows.push(Row {
                began: now,
                record: ToolRecord {
                    number: self.latest,
                    name: cut_bytes(&call.name),
                    mode,
                    arguments: kept_arguments(call, tool, paused),
                    at_ms: at.as_millis() as u64,
                    duration_ms: 0,
                    attempts: None,
                    outcome: Verdict::Cancelled,
                    http_status: None,
                    status: None,
                    message: None,
                    spoken_after_ms: None,
                    error: None,
                },
            });
        }
        self.latest
    }

    /// The call `number` came out as `verdict` at `now`, and there is no more to say.
    pub(super) fn close(&mut self, now: Instant, number: u32, verdict: Verdict) {
        if let Some(row) = self.row(number) {
            row.record.duration_ms = now.saturating_duration_since(row.began).as_millis() as u64;
            row.record.outcome = verdict;
        }
    }

    /// The call `number` came out at `now`, and the model is or was told so.
    pub(super) fn finish(&mut self, now: Instant, number: u32, given: &Given, paused: bool) {
        self.close(now, number, given.verdict);
        let Some(row) = self.row(number) else { return };
        let record = &mut row.record;
        record.attempts = given.attempts;
        record.http_status = given.http_status;
        record.error = given.error.as_deref().map(|error| kept(cut_bytes(error), paused));
        if let ToolOutcome::Answered(result) = &given.outcome {
            let text = |name| result.get(name).and_then(Value::as_str);
            record.status = text("status").map(|it| cut(it, LONGEST_STATUS));
            record.message = text("message").map(|it| kept(cut(it, LONGEST_MESSAGE), paused));
        }
    }

    /// The call `number` may still be answered, after its deadline.
    pub(super) fn expect_late(&mut self, number: u32) {
        if self.late.len() == MOST_AWAITED {
            self.late.pop_front();
        }
        self.late.push_back(number);
    }

    /// The executor reports of a call whose deadline has passed. Gives the tool and its mode when that is an answer.
    pub(super) fn note_late(
        &mut self,
        now: Instant,
        number: u32,
        report: &ToolReport,
        paused: bool,
    ) -> Option<(String, ToolMode)> {
        let index = self.late.iter().position(|late| *late == number)?;
        self.late.remove(index);
        let answered = matches!(report.verdict, Verdict::Ok | Verdict::Late);
        if answered {
            self.close(now, number, Verdict::Late);
            self.add_metadata(&report.follow_up.metadata);
        }
        let record = &mut self.row(number)?.record;
        record.attempts = Some(report.attempts);
        record.http_status = report.http_status;
        if let Some(error) = &report.error {
            record.error = Some(kept(cut_bytes(error), paused));
        }
        answered.then(|| (record.name.clone(), record.mode))
    }

    /// The model has the result of the call `number`: what it says next is said after it.
    pub(super) fn told(&mut self, number: u32) {
        if self.unspoken.len() == MOST_AWAITED {
            self.unspoken.pop_front();
        }
        self.unspoken.push_back(Unspoken { number, item: None });
    }

    /// The model begins to say `item`.
    pub(super) fn speaks(&mut self, item: ItemId) {
        for unspoken in &mut self.unspoken {
            unspoken.item.get_or_insert(item);
        }
    }

    /// The caller begins to hear `item` at `now`.
    pub(super) fn is_heard(&mut self, now: Instant, item: ItemId) {
        while let Some(index) = self.unspoken.iter().position(|it| it.item == Some(item)) {
            let Some(Unspoken { number, .. }) = self.unspoken.remove(index) else { return };
            if let Some(row) = self.row(number) {
                let span = now.saturating_duration_since(row.began);
                row.record.spoken_after_ms = Some(span.as_millis() as u64);
            }
        }
    }

    /// Keeps the metadata of an answer, newer values over older ones.
    pub(super) fn keep_metadata(&mut self, given: &mut Given) {
        let metadata = std::mem::take(&mut given.follow_up.metadata);
        self.add_metadata(&metadata);
    }

    pub(super) fn take_records(&mut self) -> Vec<ToolRecord> {
        std::mem::take(&mut self.rows).into_iter().map(|row| row.record).collect()
    }

    pub(super) fn take_metadata(&mut self) -> Map<String, Value> {
        self.metadata_bytes = 0;
        std::mem::take(&mut self.metadata)
    }

    /// What has no room is left out, and what it would have replaced stays.
    fn add_metadata(&mut self, metadata: &Map<String, Value>) {
        for (name, value) in metadata {
            let before = self.metadata.get(name).map_or(0, |value| json_length(name, value));
            let bytes = self.metadata_bytes - before + json_length(name, value);
            if bytes <= MOST_METADATA {
                self.metadata_bytes = bytes;
                self.metadata.insert(name.clone(), value.clone());
            }
        }
    }

    fn row(&mut self, number: u32) -> Option<&mut Row> {
        let index = self.rows.binary_search_by_key(&number, |row| row.record.number).ok()?;
        self.rows.get_mut(index)
    }
}

/// Whether arguments are of a bearable length.
pub(super) fn fits(arguments: &Value) -> bool {
    arguments.to_string().len() <= LONGEST_ARGUMENTS
}

fn kept_arguments(call: &ToolCall, tool: Option<&AgentTool>, paused: bool) -> Value {
    let redacts = tool.is_some_and(|tool| !tool.redacted.is_empty());
    match &call.arguments {
        Ok(arguments) if paused && *arguments == json!({}) => arguments.clone(),
        _ if paused => Value::from(PAUSED),
        Ok(arguments) if !fits(arguments) => Value::Null,
        Ok(arguments) => {
            tool.map_or_else(|| arguments.clone(), |tool| tool.kept_arguments(arguments))
        }
        Err(_) if redacts => Value::from("[redacted]"),
        Err(text) => Value::from(cut_bytes(text)),
    }
}

fn kept(text: String, paused: bool) -> String {
    if paused { PAUSED.into() } else { text }
}

fn cut_bytes(text: &str) -> String {
    text[..floor(text, LONGEST_TEXT)].to_owned()
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

fn json_length(name: &str, value: &Value) -> usize {
    const QUOTES_COLON_COMMA: usize = 4;
    name.len() + value.to_string().len() + QUOTES_COLON_COMMA
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FollowUp, ToolTexts, testing::beginning};

    fn answer(metadata: &Value) -> Given {
        let report = ToolReport {
            follow_up: FollowUp {
                metadata: metadata.as_object().expect("an object").clone(),
                ..FollowUp::default()
            },
            ..ToolReport::from(ToolOutcome::Answered(json!({})))
        };
        Given::reported(report, &ToolTexts::default())
    }

    #[test]
    fn metadata_has_bounds_and_newer_values_win() {
        let mut log = ToolLog::default();
        log.keep_metadata(&mut answer(&json!({ "a": 1, "b": "x".repeat(8_000) })));
        log.keep_metadata(&mut answer(&json!({ "a": 2, "c": "y".repeat(8_000), "d": null })));
        log.keep_metadata(&mut answer(&json!({ "b": "short" })));
        log.keep_metadata(&mut answer(&json!({ "c": [1] })));
        let kept = Value::from(log.take_metadata());
        assert_eq!(kept, json!({ "a": 2, "b": "short", "c": [1], "d": null }));
    }

    #[test]
    fn rows_are_bounded_and_numbers_go_on() {
        let now = beginning();
        let mut log = ToolLog::default();
        let call = ToolCall {
            id: crate::ToolCallId("t".into()),
            name: "n".repeat(600),
            arguments: Err("x".repeat(600)),
        };
        let mode = ToolMode::Blocking;
        for number in 1..=1_100 {
            assert_eq!(log.open(now, None, &call, None, mode, false), number);
            log.expect_late(number);
            log.told(number);
        }
        assert!(log.late.len() == MOST_AWAITED && log.unspoken.len() == MOST_AWAITED);
        log.close(now, 1_100, Verdict::Ok); // Not kept.
        let records = log.take_records();
        assert_eq!(records.len(), MOST_RECORDS);
        assert_eq!(records[0].name.len(), LONGEST_TEXT);
        assert_eq!(records[0].arguments.as_str().map(str::len), Some(LONGEST_TEXT));
    }
}
