//! The server's error codes, sorted by what to do about them.

use std::time::Duration;

use serde_json::Value;

/// What an error asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing: it is about something that is over already.
    Harmless,
    /// `response.create` came while another answer ran.
    Conflict,
    /// The session reached its age.
    Expired,
    /// Too much in too short a time.
    RateLimited,
    /// The server's own fault.
    Server,
    /// Key, quota or account: no try will help.
    Fatal,
    /// A message of ours that the server did not take.
    Rejected,
}

/// Sorts the `error` object of an `error` event or of a failed response.
pub(super) fn classify(error: &Value) -> Class {
    let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or_default();
    match text("code") {
        "response_cancel_not_active"
        | "input_audio_buffer_commit_empty"
        | "unsupported_content_type"
        | "item_create_duplicate_item_id"
        | "item_retrieve_invalid_item_id"
        | "item_truncate_invalid_item_id"
        | "item_delete_invalid_item_id" => Class::Harmless,
        "conversation_already_has_active_response" => Class::Conflict,
        "session_expired" => Class::Expired,
        "rate_limit_exceeded" => Class::RateLimited,
        "insufficient_quota"
        | "credit_balance_exhausted"
        | "invalid_api_key"
        | "account_deactivated"
        | "billing_hard_limit_reached"
        | "model_not_found" => Class::Fatal,
        "server_error" | "internal_error" => Class::Server,
        _ if text("type") == "server_error" => Class::Server,
        _ if text("type") == "authentication_error" => Class::Fatal,
        _ => Class::Rejected,
    }
}

/// An error in one line: its code (or type) and message.
pub(super) fn describe(error: &Value) -> String {
    let text = |key: &str| error.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let name = text("code").or_else(|| text("type")).unwrap_or("error");
    match text("message") {
        Some(message) => format!("{name}: {message}"),
        None => name.to_owned(),
    }
}

/// The wait that a message such as "try again in 1.2s" or "in 350ms" asks for.
pub(super) fn wait_in(error: &Value) -> Option<Duration> {
    let message = error.get("message")?.as_str()?;
    let rest = message.split("try again in ").nth(1)?.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let number: f64 = rest[..digits].trim_end_matches('.').parse().ok()?;
    let seconds = match rest[digits..].trim_start() {
        unit if unit.starts_with("ms") => number / 1_000.0,
        unit if unit.starts_with('m') => number * 60.0,
        unit if unit.starts_with('s') => number,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// The longest wait that an exhausted limit of `rate_limits.updated` asks for.
pub(super) fn reset_in(event: &Value) -> Option<Duration> {
    event
        .get("rate_limits")?
        .as_array()?
        .iter()
        .filter(|limit| {
            let number = |key: &str| limit.get(key).and_then(Value::as_f64).unwrap_or(0.0);
            number("remaining") < number("limit") / 100.0
        })
        .filter_map(|limit| Duration::try_from_secs_f64(limit.get("reset_seconds")?.as_f64()?).ok())
        .max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_are_sorted() {
        for (code, kind, class) in [
            ("response_cancel_not_active", "invalid_request_error", Class::Harmless),
            ("conversation_already_has_active_response", "invalid_request_error", Class::Conflict),
            ("session_expired", "invalid_request_error", Class::Expired),
            ("rate_limit_exceeded", "tokens", Class::RateLimited),
            ("insufficient_quota", "insufficient_quota", Class::Fatal),
            ("invalid_api_key", "invalid_request_error", Class::Fatal),
            ("", "server_error", Class::Server),
            ("invalid_value", "invalid_request_error", Class::Rejected),
            ("never_heard_of", "", Class::Rejected),
        ] {
            assert_eq!(classify(&json!({ "code": code, "type": kind })), class, "{code}");
        }
        assert_eq!(classify(&Value::Null), Class::Rejected);
    }

    #[test]
    fn waits_are_read_from_the_servers_prose() {
        for (message, millis) in [
            ("Rate limit reached for x. Please try again in 1.2s. Visit", Some(1_200)),
            ("… try again in 1.2s", Some(1_200)),
            ("please try again in 350ms.", Some(350)),
            ("try again in 2m", Some(120_000)),
            ("try again in 20s", Some(20_000)),
            ("try again in a while", None),
            ("try again later", None),
            ("try again in 999999999999999999999999s", None),
        ] {
            let wait = wait_in(&json!({ "message": message }));
            assert_eq!(wait, millis.map(Duration::from_millis), "{message}");
        }
    }

    #[test]
    fn only_an_exhausted_limit_asks_for_a_wait() {
        let limits = |remaining: u32| {
            json!({ "rate_limits": [
                { "name": "requests", "limit": 100, "remaining": 99, "reset_seconds": 60.0 },
                { "name": "tokens", "limit": 40_000, "remaining": remaining, "reset_seconds": 20 },
            ] })
        };
        assert_eq!(reset_in(&limits(12)), Some(Duration::from_secs(20)));
        assert_eq!(reset_in(&limits(39_000)), None);
    }
}
