//! The arguments of a call against their schema: what is wrong is told in words that a model can act on.

use jsonschema::{
    JsonType, ValidationError, Validator,
    error::{TypeKind, ValidationErrorKind as Kind},
};
use serde_json::{Map, Value, json};
use tandem_call::{FollowUp, ToolOutcome, ToolReport, Verdict};

use crate::schema::{MAX_NESTING, is_nested_deeper};

/// The longest arguments of one call, in bytes of compact JSON.
const MAX_ARGUMENTS: usize = 64 * 1024;

/// Problems that are told at once; a model mends these and tries again.
const MAX_PROBLEMS: usize = 8;

/// The longest text of one problem, in characters.
const MAX_PROBLEM: usize = 300;

/// What a model has to do better.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InvalidArguments {
    /// Required arguments that are not there, such as `phone` or `address.street`.
    pub missing: Vec<String>,
    /// What is wrong with others, one sentence each.
    pub problems: Vec<String>,
}

impl InvalidArguments {
    /// One problem and nothing else.
    pub(crate) fn problem(problem: impl Into<String>) -> Self {
        Self { missing: Vec::new(), problems: vec![problem.into()] }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.problems.is_empty()
    }

    pub(crate) fn add_problem(&mut self, problem: &str) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(problem.chars().take(MAX_PROBLEM).collect());
        }
    }

    /// The result for the model (control API 10.1).
    pub fn result(&self) -> Value {
        let mut result = Map::new();
        result.insert("status".into(), "invalid_arguments".into());
        if !self.missing.is_empty() {
            result.insert("missing".into(), json!(self.missing));
        }
        if !self.problems.is_empty() {
            result.insert("problems".into(), json!(self.problems));
        }
        let message = match &self.missing[..] {
            [] => "Call it again with the right arguments.",
            _ => "Ask for the missing details.",
        };
        result.insert("message".into(), message.into());
        Value::Object(result)
    }
}

impl From<InvalidArguments> for ToolReport {
    fn from(invalid: InvalidArguments) -> Self {
        let error = match (&invalid.missing[..], &invalid.problems[..]) {
            ([], problems) => problems.join(" "),
            (missing, []) => format!("Missing: {}.", missing.join(", ")),
            (missing, problems) => {
                format!("Missing: {}. {}", missing.join(", "), problems.join(" "))
            }
        };
        Self {
            outcome: ToolOutcome::Answered(invalid.result()),
            verdict: Verdict::InvalidArguments,
            http_status: None,
            attempts: 0,
            error: Some(error),
            follow_up: FollowUp::default(),
        }
    }
}

/// See [`crate::ArgumentSchema::check`].
pub(crate) fn check(
    schema: &Value,
    validator: &Validator,
    arguments: Value,
) -> Result<Map<String, Value>, InvalidArguments> {
    let mut arguments = match arguments {
        Value::Null => Value::Object(Map::new()),
        Value::Object(_) => arguments,
        _ => return Err(InvalidArguments::problem("The arguments must be one JSON object.")),
    };
    if is_nested_deeper(&arguments, MAX_NESTING) {
        return Err(InvalidArguments::problem("The arguments are nested too deep."));
    }
    if arguments.to_string().len() > MAX_ARGUMENTS {
        return Err(InvalidArguments::problem("The arguments are too long: shorten them."));
    }
    let mut dropped = Vec::new();
    drop_absent(schema, &mut arguments);
    drop_unknown(schema, &mut arguments, &mut dropped);
    if !dropped.is_empty() {
        tracing::info!(arguments = ?dropped, "the model gave arguments that the tool does not have: dropped");
    }
    let mut invalid = InvalidArguments::default();
    for error in validator.iter_errors(&arguments).take(4 * MAX_PROBLEMS) {
        note(&error, &mut invalid);
    }
    match arguments {
        Value::Object(arguments) if invalid.is_empty() => Ok(arguments),
        _ => Err(invalid),
    }
}

/// Takes away `null` where it can only mean that there is no such argument.
fn drop_absent(schema: &Value, arguments: &mut Value) {
    let (Some(properties), Some(members)) =
        (schema.get("properties").and_then(Value::as_object), arguments.as_object_mut())
    else {
        return;
    };
    members.retain(|name, value| {
        let takes_null = |property: &Value| match property.get("type") {
            Some(Value::String(kind)) => kind == "null",
            Some(Value::Array(kinds)) => kinds.iter().any(|kind| kind == "null"),
            _ => true, // Described in another way: the validator knows.
        };
        !value.is_null() || properties.get(name).is_none_or(takes_null)
    });
}

/// Takes away what closed objects do not know, as far down as plain `properties` and `items` lead.
fn drop_unknown(schema: &Value, value: &mut Value, dropped: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            let more = ["patternProperties", "allOf", "anyOf", "oneOf", "$ref", "if"];
            if closed && more.iter().all(|keyword| schema.get(keyword).is_none()) {
                members.retain(|name, _| {
                    let known = properties.is_some_and(|properties| properties.contains_key(name));
                    if !known && dropped.len() < MAX_PROBLEMS {
                        dropped.push(name.chars().take(64).collect());
                    }
                    known
                });
            }
            for (name, member) in members {
                if let Some(property) = properties.and_then(|properties| properties.get(name)) {
                    drop_unknown(property, member, dropped);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| drop_unknown(schema, item, dropped));
            }
        }
        _ => {}
    }
}

fn note(error: &ValidationError<'_>, invalid: &mut InvalidArguments) {
    let path = spoken_path(error.instance_path().as_str());
    if let Kind::Required { property: Value::String(name) } = error.kind() {
        let missing = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if invalid.missing.len() < 4 * MAX_PROBLEMS && !invalid.missing.contains(&missing) {
            invalid.missing.push(missing);
        }
        return;
    }
    let what = if path.is_empty() { "The arguments".to_owned() } else { format!("`{path}`") };
    let problem = match error.kind() {
        Kind::Type { kind } => format!("{what} must be {}.", types(kind)),
        Kind::Enum { options } => format!("{what} must be one of {}.", list(options)),
        Kind::Constant { expected_value } => format!("{what} must be {expected_value}."),
        Kind::MaxLength { limit } => format!("{what} must have at most {limit} characters."),
        Kind::MinLength { limit: 1 } => format!("{what} must not be empty."),
        Kind::MinLength { limit } => format!("{what} must have at least {limit} characters."),
        Kind::Minimum { limit } => format!("{what} must be {limit} or more."),
        Kind::Maximum { limit } => format!("{what} must be {limit} or less."),
        Kind::ExclusiveMinimum { limit } => format!("{what} must be more than {limit}."),
        Kind::ExclusiveMaximum { limit } => format!("{what} must be less than {limit}."),
        Kind::MultipleOf { multiple_of } => format!("{what} must be a multiple of {multiple_of}."),
        Kind::MinItems { limit } => format!("{what} must have at least {limit} items."),
        Kind::MaxItems { limit } => format!("{what} must have at most {limit} items."),
        Kind::UniqueItems => format!("{what} must not have the same item twice."),
        Kind::Pattern { pattern } => format!("{what} must match the pattern {pattern}."),
        Kind::Format { format } => format!("{what} must be written as {format}."),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("{what} must not have {}.", unexpected.join(", "))
        }
        Kind::FalseSchema => format!("{what} must not be there."),
        _ => format!("{what}: {}.", error.masked()),
    };
    invalid.add_problem(&problem);
}

/// A JSON pointer as a programmer would say it: `people[2].name`.
fn spoken_path(pointer: &str) -> String {
    let mut path = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        if !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit()) {
            path.push_str(&format!("[{step}]"));
        } else {
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&step);
        }
    }
    path
}

fn types(kind: &TypeKind) -> String {
    let word = |kind: JsonType| match kind {
        JsonType::Array => "a list",
        JsonType::Boolean => "true or false",
        JsonType::Integer => "a whole number",
        JsonType::Null => "null",
        JsonType::Number => "a number",
        JsonType::Object => "an object",
        JsonType::String => "a string",
    };
    match kind {
        TypeKind::Single(kind) => word(*kind).to_owned(),
        TypeKind::Multiple(kinds) => kinds.iter().map(word).collect::<Vec<_>>().join(" or "),
    }
}

fn list(options: &Value) -> String {
    let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut text = options.iter().take(32).map(Value::to_string).collect::<Vec<_>>().join(", ");
    if options.len() > 32 {
        text.push_str(", …");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ArgumentSchema;

    fn schema() -> ArgumentSchema {
        let schema = json!({
            "type": "object",
            "required": ["sku", "count"],
            "properties": {
                "sku": { "type": "string", "pattern": "^[A-Z]{2}-[0-9]+$" },
                "count": { "type": "integer", "minimum": 1, "maximum": 99 },
                "colour": { "type": "string", "enum": ["red", "blue"] },
                "note": { "type": ["string", "null"], "maxLength": 5 },
                "to": { "type": "object", "required": ["street"], "additionalProperties": false,
                        "properties": { "street": { "type": "string" } } },
                "lines": { "type": "array", "maxItems": 2, "items": {
                    "type": "object", "properties": { "n": { "type": "number" } }, "additionalProperties": false } },
            },
            "additionalProperties": false,
        });
        ArgumentSchema::compile(&schema, 6).expect("a schema")
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        for (arguments, missing, problems) in [
            (json!({}), &["sku", "count"][..], &[][..]),
            (Value::Null, &["sku", "count"], &[]),
            (json!({ "sku": null, "count": 1 }), &["sku"], &[]),
            (json!({ "sku": "AB-1", "count": 1, "to": {} }), &["to.street"], &[]),
            (json!({ "sku": "AB-1", "count": "2" }), &[], &["`count` must be a whole number."]),
            (json!({ "sku": "AB-1", "count": 0 }), &[], &["`count` must be 1 or more."]),
            (json!({ "sku": "AB-1", "count": 100 }), &[], &["`count` must be 99 or less."]),
            (
                json!({ "sku": "x", "count": 1 }),
                &[],
                &["`sku` must match the pattern ^[A-Z]{2}-[0-9]+$."],
            ),
            (
                json!({ "sku": "AB-1", "count": 1, "colour": "green" }),
                &[],
                &["`colour` must be one of \"red\", \"blue\"."],
            ),
            (
                json!({ "sku": "AB-1", "count": 1, "note": "longer" }),
                &[],
                &["`note` must have at most 5 characters."],
            ),
            (
                json!({ "sku": "AB-1", "count": 1, "note": 5 }),
                &[],
                &["`note` must be null or a string."],
            ),
            (
                json!({ "sku": "AB-1", "count": 1, "lines": [{ "n": 1 }, { "n": "x" }] }),
                &[],
                &["`lines[1].n` must be a number."],
            ),
            (
                json!({ "sku": "AB-1", "count": 1, "lines": [{}, {}, {}] }),
                &[],
                &["`lines` must have at most 2 items."],
            ),
            (json!({ "count": true }), &["sku"], &["`count` must be a whole number."]),
            (json!([1]), &[], &["The arguments must be one JSON object."]),
            (json!("text"), &[], &["The arguments must be one JSON object."]),
        ] {
            let invalid = schema().check(arguments.clone()).expect_err(&arguments.to_string());
            assert_eq!(
                (&invalid.missing[..], &invalid.problems[..]),
                (
                    &missing.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()[..],
                    &problems.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()[..],
                ),
                "{arguments}"
            );
        }
        let long = json!({ "sku": "x".repeat(MAX_ARGUMENTS), "count": 1 });
        assert_eq!(schema().check(long).unwrap_err().problems.len(), 1);
    }

    #[test]
    fn what_nobody_asked_for_is_dropped_and_the_rest_stays_as_it_is() {
        let given = json!({
            "sku": "AB-1", "count": 1.0, "colour": null, "note": null, "invented": { "deep": [1] },
            "to": { "street": "High Street", "planet": "Mars" }, "lines": [{ "n": 1, "m": 2 }],
        });
        let kept = schema().check(given).expect("good arguments");
        assert_eq!(
            Value::Object(kept),
            json!({
                "sku": "AB-1", "count": 1.0, "note": null, "to": { "street": "High Street" }, "lines": [{ "n": 1 }],
            })
        );
    }

    #[test]
    fn an_open_schema_keeps_what_it_does_not_know() {
        let open = ArgumentSchema::compile(&json!({ "type": "object" }), 6).expect("a schema");
        assert_eq!(
            open.check(json!({ "a": null })),
            Ok(json!({ "a": null }).as_object().unwrap().clone())
        );
    }

    #[test]
    fn the_model_is_told_what_is_missing() {
        let report = ToolReport::from(schema().check(json!({ "count": "x" })).unwrap_err());
        assert_eq!((report.verdict, report.attempts), (Verdict::InvalidArguments, 0));
        assert_eq!(
            report.outcome,
            ToolOutcome::Answered(json!({
                "status": "invalid_arguments",
                "missing": ["sku"],
                "problems": ["`count` must be a whole number."],
                "message": "Ask for the missing details.",
            }))
        );
        assert_eq!(report.error.as_deref(), Some("Missing: sku. `count` must be a whole number."));
        let none_missing = schema().check(json!({ "sku": "AB-1", "count": "x" })).unwrap_err();
        assert_eq!(none_missing.result().get("missing"), None);
        assert_eq!(none_missing.result()["message"], "Call it again with the right arguments.");
    }
}
