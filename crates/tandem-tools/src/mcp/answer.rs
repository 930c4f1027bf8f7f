//! A server's result as the report of a tool.

use rmcp::model::{CallToolResult, ContentBlock, ResourceContents};
use serde_json::{Map, Value};
use tandem_call::{FollowUp, ToolOutcome, ToolReport, Verdict};

use super::fault::short;
use crate::{cut_for_model, trouble};

/// Bytes of a result, of all its texts and of its structured form together.
const LARGEST: usize = 64 << 10;

/// What the model gets of `result`: the structured form where there is one, else its texts.
///
/// An object is given as it is, anything else as the member `result`. What the server marks as an error gets a
/// `status`, its text as `error`, and `trouble_text` to say unless it has a `message` of its own.
pub(super) fn report(result: CallToolResult, trouble_text: &str) -> ToolReport {
    let is_error = result.is_error == Some(true);
    let Some(text) = joined(&result.content) else { return too_large(trouble_text) };
    let structured = result.structured_content.filter(|value| !value.is_null());
    let value = match structured {
        Some(value) if value.to_string().len() > LARGEST => return too_large(trouble_text),
        Some(value) => Some(value),
        None if text.is_empty() => None,
        None => Some(match serde_json::from_str(&text) {
            Ok(Value::Object(members)) => Value::Object(members),
            Ok(_) | Err(_) => Value::from(text.as_str()),
        }),
    };
    let mut members = match value {
        Some(Value::Object(members)) => members,
        Some(other) if is_error => Map::from_iter([("error".to_owned(), other)]),
        Some(other) => Map::from_iter([("result".to_owned(), other)]),
        None => Map::new(),
    };
    if is_error {
        return refused(members, &text, trouble_text);
    }
    if members.is_empty() {
        members.insert("status".to_owned(), "ok".into());
    }
    answered(members, Verdict::Ok, None)
}

fn refused(mut members: Map<String, Value>, text: &str, trouble_text: &str) -> ToolReport {
    if !members.get("status").is_some_and(Value::is_string) {
        members.insert("status".to_owned(), "error".into());
    }
    let error = Some(short(&format!("the tool failed: {text}")));
    if members.get("message").and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty()) {
        return answered(members, Verdict::Ok, error);
    }
    members.insert("message".to_owned(), trouble_text.into());
    answered(members, Verdict::FallbackTrouble, error)
}

fn answered(members: Map<String, Value>, verdict: Verdict, error: Option<String>) -> ToolReport {
    ToolReport {
        outcome: ToolOutcome::Answered(Value::Object(cut_for_model(members))),
        verdict,
        http_status: None,
        attempts: 0,
        error,
        follow_up: FollowUp::default(),
    }
}

fn too_large(trouble_text: &str) -> ToolReport {
    trouble("error", trouble_text, Verdict::FallbackTrouble, "the answer is larger than 64 KiB")
}

/// All texts of `content`, one after the other in lines of their own; pictures, sounds and links are nothing that
/// could be said. `None` when it is too much.
fn joined(content: &[ContentBlock]) -> Option<String> {
    let mut joined = String::new();
    for block in content {
        let text = match block {
            ContentBlock::Text(text) => &text.text,
            ContentBlock::Resource(resource) => match &resource.resource {
                ResourceContents::TextResourceContents { text, .. } => text,
                _ => continue,
            },
            _ => continue,
        };
        if joined.len() + text.len() > LARGEST {
            return None;
        }
        if !joined.is_empty() {
            joined.push('\n');
        }
        joined.push_str(text);
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TROUBLE: &str = "That can't be done just now.";

    fn of(result: Value) -> ToolReport {
        report(serde_json::from_value(result).expect("a result of MCP"), TROUBLE)
    }

    fn text(text: &str) -> Value {
        json!({ "type": "text", "text": text })
    }

    #[test]
    fn results_become_objects_for_the_model() {
        for (name, result, expected) in [
            (
                "plain text",
                json!({ "content": [text("Open until six.")] }),
                json!({ "result": "Open until six." }),
            ),
            (
                "several texts",
                json!({ "content": [text("one"), text("two")] }),
                json!({ "result": "one\ntwo" }),
            ),
            (
                "JSON in a text",
                json!({ "content": [text(r#"{"stock":3}"#)] }),
                json!({ "stock": 3 }),
            ),
            (
                "a JSON array in a text",
                json!({ "content": [text("[1,2]")] }),
                json!({ "result": "[1,2]" }),
            ),
            (
                "structured goes before text",
                json!({ "content": [text("three")], "structuredContent": { "stock": 3 } }),
                json!({ "stock": 3 }),
            ),
            (
                "structured, no object",
                json!({ "content": [], "structuredContent": [1, 2] }),
                json!({ "result": [1, 2] }),
            ),
            (
                "structured null",
                json!({ "content": [text("x")], "structuredContent": null }),
                json!({ "result": "x" }),
            ),
            ("nothing", json!({ "content": [] }), json!({ "status": "ok" })),
            (
                "only a picture",
                json!({ "content": [{ "type": "image", "data": "AAAA", "mimeType": "image/png" }] }),
                json!({ "status": "ok" }),
            ),
            (
                "a text file",
                json!({ "content": [{ "type": "resource", "resource": { "uri": "file:///a", "text": "hours" } }] }),
                json!({ "result": "hours" }),
            ),
            (
                "words of the contract have no power",
                json!({ "content": [], "structuredContent": { "end_call": true, "message": "Bye." } }),
                json!({ "end_call": true, "message": "Bye." }),
            ),
        ] {
            let report = of(result);
            assert_eq!(report.outcome, ToolOutcome::Answered(expected), "{name}");
            assert_eq!(report.verdict, Verdict::Ok, "{name}");
            assert_eq!(report.follow_up, FollowUp::default(), "{name}");
        }
    }

    #[test]
    fn errors_of_a_tool_are_told_and_say_trouble() {
        for (name, result, expected, verdict) in [
            (
                "text",
                json!({ "isError": true, "content": [text("no such customer")] }),
                json!({ "error": "no such customer", "status": "error", "message": TROUBLE }),
                Verdict::FallbackTrouble,
            ),
            (
                "nothing",
                json!({ "isError": true, "content": [] }),
                json!({ "status": "error", "message": TROUBLE }),
                Verdict::FallbackTrouble,
            ),
            (
                "its own words",
                json!({ "isError": true, "content": [], "structuredContent": { "message": "We are closed." } }),
                json!({ "status": "error", "message": "We are closed." }),
                Verdict::Ok,
            ),
            (
                "its own status",
                json!({ "isError": true, "content": [], "structuredContent": { "status": "not_found" } }),
                json!({ "status": "not_found", "message": TROUBLE }),
                Verdict::FallbackTrouble,
            ),
        ] {
            let report = of(result);
            assert_eq!(report.outcome, ToolOutcome::Answered(expected), "{name}");
            assert_eq!(report.verdict, verdict, "{name}");
            assert!(report.error.is_some(), "{name}");
        }
    }

    #[test]
    fn a_large_result_is_cut_and_a_huge_one_is_trouble() {
        let large = of(json!({ "content": [text(&"x".repeat(20_000))] }));
        let ToolOutcome::Answered(members) = &large.outcome else { panic!("{large:?}") };
        assert!(members.to_string().len() <= 9 << 10, "{}", members.to_string().len());
        assert_eq!(large.verdict, Verdict::Ok);
        for huge in [
            json!({ "content": [text(&"x".repeat(40_000)), text(&"x".repeat(40_000))] }),
            json!({ "content": [], "structuredContent": { "rows": "x".repeat(70_000) } }),
        ] {
            let report = of(huge);
            assert_eq!(
                report.outcome,
                ToolOutcome::Answered(json!({ "status": "error", "message": TROUBLE }))
            );
            assert_eq!(report.verdict, Verdict::FallbackTrouble);
        }
    }
}
