//! The latency ledger and the conversation of a call, out of the call records of a Tandem on this machine.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use tokio::time::{Instant, sleep};

/// The longest record that is read, in bytes.
const MAX_RECORD: u64 = 8 * 1024 * 1024;

/// How often the file is looked at while a record is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The length of the file of records now, or 0 without one: where a record of a later call can begin.
pub fn end_of(records: &Path) -> u64 {
    std::fs::metadata(records).map_or(0, |file| file.len())
}

/// The first record at or after byte `from` in which `mark` stands, as soon as it is written; none after `patience`.
///
/// `mark` is any text of the record: a call id, a header's value. Fails when the file can't be read.
pub async fn find(
    records: &Path,
    from: u64,
    mark: &str,
    patience: Duration,
) -> io::Result<Option<Value>> {
    let deadline = Instant::now() + patience;
    loop {
        match look(records, from, mark) {
            Ok(None) => {}
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn look(records: &Path, from: u64, mark: &str) -> io::Result<Option<Value>> {
    let mut file = File::open(records)?;
    file.seek(SeekFrom::Start(from))?;
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_RECORD).read_until(b'\n', &mut line)?;
        if read == 0 || line.last() != Some(&b'\n') {
            return Ok(None); // The rest is not written yet.
        }
        if let Ok(record) = serde_json::from_slice::<Value>(&line)
            && mentions(&record, mark)
        {
            return Ok(Some(record));
        }
    }
}

fn mentions(value: &Value, mark: &str) -> bool {
    match value {
        Value::String(text) => text == mark,
        Value::Array(items) => items.iter().any(|item| mentions(item, mark)),
        Value::Object(members) => members.values().any(|member| mentions(member, mark)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// What was said, one line per turn: `  1.240 s  agent   Hello.`
pub fn conversation_text(record: &Value) -> String {
    let turns = record["transcript"].as_array().map(Vec::as_slice).unwrap_or_default();
    let line = |turn: &Value| {
        let start = turn["start_ms"].as_f64().unwrap_or_default() / 1000.0;
        let role = turn["role"].as_str().unwrap_or("?");
        let text = turn["text"].as_str().unwrap_or_default();
        let cut = match (turn["interrupted"].as_bool(), turn["text_unheard"].as_str()) {
            (Some(true), Some(unheard)) => format!(" … [interrupted, unheard: {unheard}]"),
            (Some(true), None) => " … [interrupted]".into(),
            _ => String::new(),
        };
        format!("{start:8.3} s  {role:<7} {text}{cut}")
    };
    let tool = |tool: &Value| {
        let at = tool["at_ms"].as_f64().unwrap_or_default() / 1000.0;
        let name = tool["name"].as_str().unwrap_or("?");
        let outcome = tool["outcome"].as_str().unwrap_or("?");
        format!("{at:8.3} s  tool    {name} {} -> {outcome}", tool["arguments"])
    };
    let tools = record["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines: Vec<(f64, String)> = turns
        .iter()
        .map(|turn| (turn["start_ms"].as_f64().unwrap_or_default(), line(turn)))
        .chain(tools.iter().map(|call| (call["at_ms"].as_f64().unwrap_or_default(), tool(call))))
        .collect();
    lines.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    lines.into_iter().map(|(_, line)| line).collect::<Vec<_>>().join("\n")
}

/// The latency of each turn as a table, and what the call took as a whole.
pub fn ledger_text(record: &Value) -> String {
    const COLUMNS: [(&str, &str); 7] = [
        ("at_ms", "at"),
        ("uplink_ms", "uplink"),
        ("model_ms", "model"),
        ("downlink_ms", "downlink"),
        ("response_ms", "response"),
        ("barge_in_ms", "barge-in"),
        ("heard_ms", "heard"),
    ];
    let mut text = String::from("turn");
    for (_, title) in COLUMNS {
        text += &format!("{title:>11}");
    }
    text += "   (ms)";
    for turn in record["turns"].as_array().map(Vec::as_slice).unwrap_or_default() {
        text += &format!("\n{:>4}", turn["turn"].as_u64().unwrap_or_default());
        for (key, _) in COLUMNS {
            text += &turn[key]
                .as_f64()
                .map_or_else(|| format!("{:>11}", "-"), |ms| format!("{ms:>11.1}"));
        }
    }
    for (key, title) in [
        ("model_connect_ms", "model session ready after the INVITE"),
        ("first_audio_ms", "answer to the agent's first sound"),
        ("end_call_tail_ms", "last sound to hang-up"),
    ] {
        if let Some(ms) = record[key].as_f64() {
            text += &format!("\n{ms:>8.1} ms  {title}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_record_with_the_mark_is_found_after_the_beginning_of_the_call() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("calls.jsonl");
        let none = find(&path, 0, "m", Duration::ZERO).await.unwrap();
        assert_eq!(none, None);
        let old = "{\"n\":1,\"variables\":{\"X-Mark\":\"m\"}}\n";
        std::fs::write(&path, old).unwrap();
        let from = end_of(&path);
        std::fs::write(&path, format!("{old}not json\n{{\"n\":2}}\n{{\"n\":3,\"variables\":{{\"X-Mark\":\"m\"}}}}\n{{\"n\":4,"))
            .unwrap();
        let found = find(&path, from, "m", Duration::ZERO).await.unwrap().unwrap();
        assert_eq!(found["n"], 3);
        assert_eq!(find(&path, from, "other", Duration::ZERO).await.unwrap(), None);
    }

    #[test]
    fn conversation_and_ledger_are_tables() {
        let record = json!({
            "transcript": [
                { "role": "agent", "text": "Hello", "start_ms": 120, "interrupted": true, "text_unheard": "there." },
                { "role": "caller", "text": "Hi.", "start_ms": 900, "interrupted": false },
            ],
            "tools": [{ "name": "end_call", "arguments": { "reason": "caller_goodbye" }, "at_ms": 1500, "outcome": "ok" }],
            "turns": [
                { "turn": 1, "at_ms": 0.0, "downlink_ms": 0.4, "barge_in_ms": 12.0, "heard_ms": 800.0 },
                { "turn": 2, "at_ms": 900.0, "uplink_ms": 0.21, "model_ms": 600.0, "downlink_ms": 0.4, "response_ms": 600.61 },
            ],
            "model_connect_ms": 3.25,
        });
        assert_eq!(
            conversation_text(&record),
            "   0.120 s  agent   Hello … [interrupted, unheard: there.]
   0.900 s  caller  Hi.
   1.500 s  tool    end_call {\"reason\":\"caller_goodbye\"} -> ok"
        );
        assert_eq!(
            ledger_text(&record),
            "turn         at     uplink      model   downlink   response   barge-in      heard   (ms)
   1        0.0          -          -        0.4          -       12.0      800.0
   2      900.0        0.2      600.0        0.4      600.6          -          -
     3.2 ms  model session ready after the INVITE"
        );
        assert_eq!(conversation_text(&json!({})), "");
    }
}
