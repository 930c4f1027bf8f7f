//! What is done for the arguments of the standard tools beside their schemas (control API 10.1).

use jiff::civil::Date;
use serde_json::{Map, Value};

use crate::{
    InvalidArguments,
    dates::{date_iso, time_iso},
    phone::e164,
};

/// The longest argument, in characters.
const MAX_TEXT: u64 = 2_000;

/// Arguments that are telephone numbers.
const PHONES: [&str; 3] = ["phone", "caller_phone", "to_phone"];

/// `schema` with the longest text that each argument may have.
pub(crate) fn bounded(mut schema: Value) -> Value {
    let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
    for property in properties.into_iter().flat_map(Map::values_mut) {
        if let Some(property) = property.as_object_mut()
            && property.get("type").is_some_and(|kind| kind == "string")
        {
            property.entry("maxLength").or_insert(MAX_TEXT.into());
        }
    }
    schema
}

/// Finishes `arguments` that match the `schema` of a standard tool: the two defaults are filled in, telephone numbers
/// that normalise get their E.164 form beside them, and, where `today` is given, days and times their ISO form.
///
/// # Errors
///
/// When a required argument is there but blank: it is missing all the same.
pub(crate) fn finish(
    schema: &Value,
    mut arguments: Map<String, Value>,
    today: Option<Date>,
) -> Result<Map<String, Value>, InvalidArguments> {
    let mut invalid = InvalidArguments::default();
    for name in schema.get("required").and_then(Value::as_array).into_iter().flatten() {
        let Some(name) = name.as_str() else { continue };
        if arguments.get(name).and_then(Value::as_str).is_some_and(|text| text.trim().is_empty()) {
            invalid.missing.push(name.to_owned());
        }
    }
    if !invalid.is_empty() {
        return Err(invalid);
    }
    for (name, property) in
        schema.get("properties").and_then(Value::as_object).into_iter().flatten()
    {
        if let Some(default) = property.get("default") {
            arguments.entry(name.as_str()).or_insert_with(|| default.clone());
        }
    }
    let mut beside = |name: &str, suffix: &str, read: &dyn Fn(&str) -> Option<String>| {
        if let Some(value) = arguments.get(name).and_then(Value::as_str).and_then(read) {
            arguments.insert(format!("{name}_{suffix}"), value.into());
        }
    };
    for name in PHONES {
        beside(name, "e164", &e164);
    }
    if let Some(today) = today {
        beside("date", "iso", &|text| date_iso(text, today));
        beside("time", "iso", &time_iso);
    }
    Ok(arguments)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tandem_call::standard_tool;

    use super::*;
    use crate::{ArgumentSchema, MAX_DEPTH};

    fn prepared(
        tool: &str,
        arguments: Value,
        today: Option<Date>,
    ) -> Result<Value, InvalidArguments> {
        let schema = standard_tool(tool).expect("a standard tool").parameters;
        let compiled =
            ArgumentSchema::compile(&bounded(schema.clone()), MAX_DEPTH).expect("a schema");
        finish(&schema, compiled.check(arguments)?, today).map(Value::Object)
    }

    #[test]
    fn only_two_defaults_are_filled_in() {
        for (tool, given, expected) in [
            (
                "create_lead",
                json!({ "first_name": "Juan", "phone": "305 555 1234" }),
                json!({ "first_name": "Juan", "phone": "305 555 1234", "source": "phone_call" }),
            ),
            (
                "create_lead",
                json!({ "first_name": "Juan", "phone": "+1 (305) 555-1234", "source": "web" }),
                json!({ "first_name": "Juan", "phone": "+1 (305) 555-1234", "phone_e164": "+13055551234", "source": "web" }),
            ),
            (
                "leave_message",
                json!({ "caller_name": "A", "caller_phone": "+13055551234", "message": "Call back." }),
                json!({ "caller_name": "A", "caller_phone": "+13055551234", "caller_phone_e164": "+13055551234",
                        "message": "Call back.", "urgent": false }),
            ),
            (
                "schedule_appointment",
                json!({ "caller_name": "A", "phone": "1", "date": "tomorrow", "time": "2pm", "purpose": "x" }),
                json!({ "caller_name": "A", "phone": "1", "date": "tomorrow", "time": "2pm", "purpose": "x" }),
            ),
            (
                "check_policy_status",
                json!({ "policy_number": "P1" }),
                json!({ "policy_number": "P1" }),
            ),
            (
                "send_sms",
                json!({ "to_phone": "+4930123456", "message": "Hi", "unknown": 1, "purpose": null }),
                json!({ "to_phone": "+4930123456", "to_phone_e164": "+4930123456", "message": "Hi" }),
            ),
        ] {
            assert_eq!(prepared(tool, given.clone(), None), Ok(expected), "{tool} {given}");
        }
    }

    #[test]
    fn days_and_times_are_added_where_wanted() {
        let given = json!({ "caller_name": "A", "phone": "1", "date": "Thursday", "time": "10:30 AM", "purpose": "x" });
        let arguments =
            prepared("schedule_appointment", given, Some(jiff::civil::date(2026, 4, 15))).unwrap();
        assert_eq!(
            (&arguments["date_iso"], &arguments["time_iso"]),
            (&json!("2026-04-16"), &json!("10:30"))
        );
        assert_eq!(arguments["date"], "Thursday");
    }

    #[test]
    fn what_is_missing_or_too_long_goes_back_to_the_model() {
        for (tool, given, missing, problem) in [
            ("create_lead", json!({}), vec!["first_name", "phone"], None),
            ("create_lead", json!({ "first_name": " ", "phone": "1" }), vec!["first_name"], None),
            (
                "leave_message",
                json!({ "caller_name": "A", "caller_phone": "1", "message": "x".repeat(2_001) }),
                vec![],
                Some("`message` must have at most 2000 characters."),
            ),
            (
                "send_sms",
                json!({ "to_phone": "1", "message": "x".repeat(1_601) }),
                vec![],
                Some("`message` must have at most 1600 characters."),
            ),
            (
                "leave_message",
                json!({ "caller_name": "A", "caller_phone": "1", "message": "x", "urgent": "yes" }),
                vec![],
                Some("`urgent` must be true or false."),
            ),
            (
                "check_policy_status",
                json!({ "policy_number": "P1", "lookup_type": "all" }),
                vec![],
                Some(
                    "`lookup_type` must be one of \"status\", \"coverage\", \"renewal\", \"payment\", \"claims\".",
                ),
            ),
        ] {
            let invalid = prepared(tool, given, None).unwrap_err();
            assert_eq!(invalid.missing, missing, "{tool}");
            assert_eq!(invalid.problems.first().map(String::as_str), problem, "{tool}");
        }
    }
}
