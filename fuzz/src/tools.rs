//! What receivers of tools answer, and what models call them with.

use std::sync::LazyLock;

use serde_json::{Value, json};
use tandem_call::{ToolOutcome, ToolTexts};
use tandem_tools::{
    AnswerBody, ArgumentSchema, MAX_DATA, MAX_DEPTH, ResultSchema, e164, read_answer,
};

/// Any answer becomes an object with words for the caller that is not too much for a model.
pub fn tool_answer(bytes: &[u8]) {
    static SCHEMA: LazyLock<ResultSchema> = LazyLock::new(|| {
        let schema = json!({ "type": "object", "properties": { "n": { "type": "integer" } } });
        ResultSchema::compile(&schema).expect("a schema")
    });
    let [high, low, body @ ..] = bytes else { return };
    let status = u16::from_be_bytes([*high, *low]) % 700;
    let texts = ToolTexts::default();
    for (body, schema) in [
        (AnswerBody::Whole(body), None),
        (AnswerBody::Whole(body), Some(&*SCHEMA)),
        (AnswerBody::TooLarge, None),
    ] {
        let report = read_answer(status, body, &texts, schema);
        assert_eq!(report.http_status, Some(status));
        let ToolOutcome::Answered(Value::Object(mut result)) = report.outcome else {
            panic!("{:?}", report.outcome)
        };
        let message = result.remove("message");
        let message = message.as_ref().and_then(Value::as_str).expect("there are always words");
        assert!(!message.trim().is_empty() && message.chars().count() <= 2_000);
        let status = result.remove("status");
        assert!(
            status.is_none_or(|status| status.as_str().is_some_and(|s| s.chars().count() <= 64))
        );
        for native in ["end_call", "transfer", "metadata", "verbatim"] {
            assert!(!result.contains_key(native), "{native}");
        }
        assert!(Value::Object(result).to_string().len() <= MAX_DATA);
        if let Some(target) = report.follow_up.transfer {
            assert!(!target.target.is_empty() && !target.target.contains(char::is_control));
        }
    }
}

/// A schema, a line break, arguments: what a schema lets through it lets through unchanged a second time.
pub fn tool_arguments(bytes: &[u8]) {
    let mut parts = bytes.splitn(2, |&byte| byte == b'\n');
    let mut next = || serde_json::from_slice::<Value>(parts.next()?).ok();
    let Some(schema) = next() else { return };
    let Ok(schema) = ArgumentSchema::compile(&schema, MAX_DEPTH) else { return };
    let declared = ArgumentSchema::compile(schema.declared(), MAX_DEPTH).expect("it was declared");
    assert!(declared.redacted().is_empty(), "no mark is left");
    let Some(arguments) = next() else { return };
    match schema.check(arguments) {
        Ok(checked) => {
            let again = schema.check(Value::Object(checked.clone()));
            assert_eq!(again.as_ref(), Ok(&checked));
        }
        Err(invalid) => {
            let result = invalid.result();
            assert!(!invalid.missing.is_empty() || !invalid.problems.is_empty(), "{result}");
        }
    }
}

/// A number that normalises is one, and is its own normal form.
pub fn phone_number(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(number) = e164(text) else { return };
    assert_eq!(e164(&number).as_ref(), Some(&number));
}
