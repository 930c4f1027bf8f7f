//! What a receiver's answer means: for the model, for the record, and what is to be done beside (control API 11.3, 11.5).

use serde_json::{Map, Value};
use tandem_call::{
    FollowUp, ToolOutcome, ToolReport, ToolTexts, TransferKind, TransferTarget, Verdict,
};

use crate::{ResultSchema, cut::cut, e164};

/// The longest answer that is read, in bytes.
pub const MAX_ANSWER: usize = 64 * 1024;

/// The longest `status`, in characters.
const MAX_STATUS: usize = 64;

/// The longest `message`, in characters: more than two minutes of speech.
const MAX_MESSAGE: usize = 2_000;

/// The longest `metadata`, in bytes of compact JSON.
const MAX_METADATA: usize = 8 * 1024;

/// The body of an answer as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerBody<'a> {
    /// To its end.
    Whole(&'a [u8]),
    /// Up to [`MAX_ANSWER`], with more behind it.
    TooLarge,
}

/// The report of a tool that was asked once and answered with `status` and `body`.
///
/// The rows of control API 11.5: a JSON object with a `message` is the receiver's own words, one without is *noted*,
/// and all else is *trouble*; of 401 and 403 no body counts. `end_call`, `transfer`, `verbatim` and `metadata` become
/// the follow-up and are not shown to the model.
pub fn read_answer(
    status: u16,
    body: AnswerBody<'_>,
    texts: &ToolTexts,
    result_schema: Option<&ResultSchema>,
) -> ToolReport {
    let answered = ToolReport {
        http_status: Some(status),
        attempts: 1,
        ..match read(status, body, result_schema) {
            Ok(object) => heed(status, object, texts),
            Err(why) => trouble("error", &texts.trouble, Verdict::FallbackTrouble, why),
        }
    };
    debug_assert!(matches!(answered.outcome, ToolOutcome::Answered(Value::Object(_))));
    answered
}

/// A result without an answer: `status` and `message` for the model, `error` for the record.
pub fn trouble(
    status: &str,
    message: &str,
    verdict: Verdict,
    error: impl Into<String>,
) -> ToolReport {
    let result = Map::from_iter([
        ("status".to_owned(), Value::from(status)),
        ("message".to_owned(), Value::from(message)),
    ]);
    ToolReport {
        outcome: ToolOutcome::Answered(Value::Object(result)),
        verdict,
        http_status: None,
        attempts: 0,
        error: Some(error.into()),
        follow_up: FollowUp::default(),
    }
}

/// The object of an answer that counts, or why it does not.
fn read(
    status: u16,
    body: AnswerBody<'_>,
    result_schema: Option<&ResultSchema>,
) -> Result<Map<String, Value>, String> {
    let good = (200..300).contains(&status);
    match status {
        401 | 403 => return Err(format!("HTTP {status}: the receiver does not accept the key")),
        300..400 => return Err(format!("HTTP {status}: redirects are not followed")),
        200..300 | 400..600 => {}
        _ => return Err(format!("HTTP {status}")),
    }
    let or_status = |why: String| if good { why } else { format!("HTTP {status}, {why}") };
    let AnswerBody::Whole(body) = body else {
        return Err(or_status(format!("the answer is over {MAX_ANSWER} bytes")));
    };
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| or_status(format!("the answer is not JSON: {error}")))?;
    if let Some(mismatch) =
        result_schema.filter(|_| good).and_then(|schema| schema.mismatch(&value))
    {
        return Err(mismatch);
    }
    let Value::Object(object) = value else {
        return Err(or_status("the answer is JSON, but not an object".into()));
    };
    if !good && message(&object).is_none() {
        return Err(or_status("no message".into()));
    }
    Ok(object)
}

/// The words for the caller, if there are any.
fn message(object: &Map<String, Value>) -> Option<&str> {
    object.get("message")?.as_str().map(str::trim).filter(|message| !message.is_empty())
}

fn heed(http_status: u16, mut object: Map<String, Value>, texts: &ToolTexts) -> ToolReport {
    let words = message(&object).map(|words| shorten(words, MAX_MESSAGE));
    object.remove("message");
    let mut follow_up = take_follow_up(&mut object);
    let status = match object.remove("status") {
        Some(Value::String(status)) if !status.trim().is_empty() => {
            Some(shorten(status.trim(), MAX_STATUS))
        }
        _ => None,
    };
    let status = status.or_else(|| (http_status >= 400).then(|| "error".to_owned()));
    if object.remove("verbatim") == Some(Value::Bool(true)) {
        follow_up.verbatim = words.clone();
    }
    let mut result = Map::new();
    result.extend(status.map(|status| ("status".to_owned(), Value::String(status))));
    let verdict = if words.is_some() { Verdict::Ok } else { Verdict::FallbackNoted };
    let words = words.unwrap_or_else(|| texts.noted.clone());
    result.insert("message".into(), Value::String(words));
    result.extend(cut(object));
    ToolReport {
        outcome: ToolOutcome::Answered(Value::Object(result)),
        verdict,
        http_status: None,
        attempts: 0,
        error: (http_status >= 400).then(|| format!("HTTP {http_status}")),
        follow_up,
    }
}

/// Takes the native members out; what has the wrong shape is ignored and logged.
fn take_follow_up(object: &mut Map<String, Value>) -> FollowUp {
    let mut follow_up = FollowUp::default();
    match object.remove("end_call") {
        None | Some(Value::Null) => {}
        Some(Value::Bool(end)) => follow_up.end_call = end,
        Some(_) => ignored("end_call", "it must be true or false"),
    }
    match object.remove("transfer") {
        None | Some(Value::Null) => {}
        Some(transfer) => match read_transfer(transfer) {
            Ok(target) => follow_up.transfer = Some(target),
            Err(why) => ignored("transfer", &why),
        },
    }
    match object.remove("metadata") {
        None | Some(Value::Null) => {}
        Some(Value::Object(metadata)) => {
            let bytes = serde_json::to_string(&metadata).map_or(usize::MAX, |text| text.len());
            if bytes <= MAX_METADATA {
                follow_up.metadata = metadata;
            } else {
                ignored("metadata", "it is too long");
            }
        }
        Some(_) => ignored("metadata", "it must be an object"),
    }
    if !matches!(object.get("verbatim"), None | Some(Value::Null | Value::Bool(_))) {
        ignored("verbatim", "it must be true or false");
    }
    follow_up
}

/// A place that a receiver may name: never a SIP URI, which would have Tandem call any host there is.
fn read_transfer(transfer: Value) -> Result<TransferTarget, String> {
    let mut target: TransferTarget =
        serde_json::from_value(transfer).map_err(|error| shorten(&error.to_string(), 200))?;
    let is_name = |text: &str, more: &[u8]| {
        (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    let fits = match target.kind {
        TransferKind::Sip => return Err("a receiver may not name a SIP URI".into()),
        TransferKind::External => match e164(&target.target) {
            Some(number) => {
                target.target = number;
                true
            }
            None => false,
        },
        TransferKind::Extension => {
            let digits = target.target.bytes().all(|byte| byte.is_ascii_digit());
            digits && (2..=10).contains(&target.target.len())
        }
        TransferKind::Ringgroup => is_name(&target.target, b"-_.+*"),
        TransferKind::Queue
        | TransferKind::Ivr
        | TransferKind::Voicemail
        | TransferKind::Conference => is_name(&target.target, b"-_.+*@"),
    };
    if fits { Ok(target) } else { Err("the target is no number and no name at the PBX".into()) }
}

fn ignored(member: &str, why: &str) {
    tracing::warn!(member, why, "a member of the receiver's answer is ignored");
}

/// At most `limit` characters of `text`.
fn shorten(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn texts() -> ToolTexts {
        ToolTexts { noted: "noted".into(), trouble: "trouble".into() }
    }

    fn answer(status: u16, body: &Value) -> ToolReport {
        read_answer(status, AnswerBody::Whole(body.to_string().as_bytes()), &texts(), None)
    }

    fn result(report: &ToolReport) -> &Value {
        let ToolOutcome::Answered(result) = &report.outcome else { panic!("{report:?}") };
        result
    }

    #[test]
    fn each_row_of_the_table_of_answers() {
        let trouble = json!({ "status": "error", "message": "trouble" });
        for (status, body, expected, verdict) in [
            (
                200,
                r#"{"status":"saved","message":"Done.","n":1}"#,
                json!({ "status": "saved", "message": "Done.", "n": 1 }),
                Verdict::Ok,
            ),
            (201, r#"{"message":" Done. "}"#, json!({ "message": "Done." }), Verdict::Ok),
            (
                200,
                r#"{"status":"saved","n":1}"#,
                json!({ "status": "saved", "message": "noted", "n": 1 }),
                Verdict::FallbackNoted,
            ),
            (200, r#"{"message":"  "}"#, json!({ "message": "noted" }), Verdict::FallbackNoted),
            (
                200,
                r#"{"message":5,"status":7}"#,
                json!({ "message": "noted" }),
                Verdict::FallbackNoted,
            ),
            (200, "{}", json!({ "message": "noted" }), Verdict::FallbackNoted),
            (
                400,
                r#"{"message":"No such policy."}"#,
                json!({ "status": "error", "message": "No such policy." }),
                Verdict::Ok,
            ),
            (
                404,
                r#"{"status":"not_found","message":"No."}"#,
                json!({ "status": "not_found", "message": "No." }),
                Verdict::Ok,
            ),
            (
                503,
                r#"{"status":"","message":"Later."}"#,
                json!({ "status": "error", "message": "Later." }),
                Verdict::Ok,
            ),
            (401, r#"{"message":"Wrong key."}"#, trouble.clone(), Verdict::FallbackTrouble),
            (403, r#"{"message":"Wrong key."}"#, trouble.clone(), Verdict::FallbackTrouble),
            (400, r#"{"status":"bad"}"#, trouble.clone(), Verdict::FallbackTrouble),
            (500, "oops", trouble.clone(), Verdict::FallbackTrouble),
            (302, r#"{"message":"Elsewhere."}"#, trouble.clone(), Verdict::FallbackTrouble),
            (304, "", trouble.clone(), Verdict::FallbackTrouble),
            (200, "<html>", trouble.clone(), Verdict::FallbackTrouble),
            (204, "", trouble.clone(), Verdict::FallbackTrouble),
            (200, r#"["message"]"#, trouble.clone(), Verdict::FallbackTrouble),
            (200, r#""message""#, trouble.clone(), Verdict::FallbackTrouble),
            (200, r#"{"message":"cut of"#, trouble.clone(), Verdict::FallbackTrouble),
            (999, r#"{"message":"What?"}"#, trouble.clone(), Verdict::FallbackTrouble),
        ] {
            let report = read_answer(status, AnswerBody::Whole(body.as_bytes()), &texts(), None);
            assert_eq!((result(&report), report.verdict), (&expected, verdict), "{status} {body}");
            assert_eq!((report.http_status, report.attempts), (Some(status), 1));
            assert_eq!(
                report.error.is_some(),
                status >= 300 || verdict == Verdict::FallbackTrouble,
                "{status} {body}"
            );
            assert_eq!(report.follow_up, FollowUp::default());
        }
        let report = read_answer(200, AnswerBody::TooLarge, &texts(), None);
        assert_eq!((result(&report), report.verdict), (&trouble, Verdict::FallbackTrouble));
    }

    #[test]
    fn long_words_are_shortened() {
        let report =
            answer(200, &json!({ "status": "s".repeat(99), "message": "ü".repeat(5_000) }));
        assert_eq!(result(&report)["status"].as_str().map(str::len), Some(64));
        assert_eq!(
            result(&report)["message"].as_str().map(|text| text.chars().count()),
            Some(2_000)
        );
    }

    #[test]
    fn what_is_to_be_done_beside_is_not_shown_to_the_model() {
        let report = answer(
            200,
            &json!({
                "message": "Goodbye.", "end_call": true, "verbatim": true, "metadata": { "ticket": 7 },
                "transfer": { "type": "extension", "target": "200" }, "kept": 1,
            }),
        );
        assert_eq!(*result(&report), json!({ "message": "Goodbye.", "kept": 1 }));
        assert_eq!(
            report.follow_up,
            FollowUp {
                end_call: true,
                transfer: Some(TransferTarget::new(TransferKind::Extension, "200")),
                verbatim: Some("Goodbye.".into()),
                metadata: json!({ "ticket": 7 }).as_object().unwrap().clone(),
            }
        );
        let report = answer(
            404,
            &json!({ "message": "Let me get somebody.", "transfer": { "type": "queue", "target": "5" } }),
        );
        assert!(report.follow_up.transfer.is_some(), "an error may say so, too");
    }

    #[test]
    fn a_follow_up_of_the_wrong_shape_is_ignored() {
        for members in [
            json!({ "end_call": "yes" }),
            json!({ "end_call": 1 }),
            json!({ "transfer": "200" }),
            json!({ "transfer": { "type": "teleport", "target": "200" } }),
            json!({ "transfer": { "type": "extension", "target": " " } }),
            json!({ "transfer": { "type": "extension", "target": "2\r\nVia: x" } }),
            json!({ "transfer": { "type": "extension", "target": "2".repeat(300) } }),
            json!({ "transfer": { "type": "extension" } }),
            json!({ "transfer": { "type": "sip", "target": "sip:x@192.0.2.1" } }),
            json!({ "transfer": { "type": "external", "target": "3055551234" } }),
            json!({ "transfer": { "type": "queue", "target": "support;x" } }),
            json!({ "metadata": [1] }),
            json!({ "metadata": { "x": "y".repeat(9_000) } }),
            json!({ "verbatim": "Hello." }),
            json!({ "end_call": null, "transfer": null, "metadata": null, "verbatim": null }),
            json!({ "end_call": false, "verbatim": false }),
        ] {
            let mut body = members.clone();
            body["message"] = "Done.".into();
            let report = answer(200, &body);
            assert_eq!(*result(&report), json!({ "message": "Done." }), "{members}");
            assert_eq!(report.follow_up, FollowUp::default(), "{members}");
        }
        let report = answer(200, &json!({ "verbatim": true }));
        assert_eq!(
            report.follow_up.verbatim, None,
            "without words there is nothing to be said exactly"
        );
    }

    #[test]
    fn an_answer_that_does_not_match_its_schema_is_trouble() {
        let schema = json!({ "type": "object", "required": ["price"], "properties": { "price": { "type": "number" } } });
        let schema = ResultSchema::compile(&schema).expect("a schema");
        for (status, body, verdict) in [
            (200, r#"{"message":"It costs 5.","price":5}"#, Verdict::Ok),
            (200, r#"{"message":"It costs five.","price":"five"}"#, Verdict::FallbackTrouble),
            (200, r#"{"message":"No idea."}"#, Verdict::FallbackTrouble),
            (200, "[]", Verdict::FallbackTrouble),
            (404, r#"{"message":"No such thing."}"#, Verdict::Ok),
        ] {
            let report =
                read_answer(status, AnswerBody::Whole(body.as_bytes()), &texts(), Some(&schema));
            assert_eq!(report.verdict, verdict, "{status} {body}");
        }
    }
}
