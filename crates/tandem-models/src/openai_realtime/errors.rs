//! The server's error codes, sorted by what to do about them.

use std::{borrow::Cow, time::Duration};

use crate::json::Json;

/// The `error` object of an `error` event or of a failed response.
#[derive(Debug)]
pub(super) struct ServerError<'a> {
    code: Cow<'a, str>,
    kind: Cow<'a, str>,
    message: Cow<'a, str>,
    /// The message of ours that it is about.
    pub(super) about: Option<Cow<'a, str>>,
}

impl<'a> ServerError<'a> {
    pub(super) fn read(error: Json<'a>) -> Self {
        let [code, kind, message, about] = error.members(["code", "type", "message", "event_id"]);
        Self {
            code: code.text(),
            kind: kind.text(),
            message: message.text(),
            about: about.is_string().then(|| about.text()),
        }
    }
}

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

/// Sorts an error.
pub(super) fn classify(error: &ServerError<'_>) -> Class {
    match &*error.code {
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
        _ if error.kind == "server_error" => Class::Server,
        _ if error.kind == "authentication_error" => Class::Fatal,
        _ => Class::Rejected,
    }
}

/// An error in one line: its code (or type) and message.
pub(super) fn describe(error: &ServerError<'_>) -> String {
    let name = [&*error.code, &*error.kind, "error"]
        .into_iter()
        .find(|name| !name.is_empty())
        .expect("the last one is not empty");
    match &*error.message {
        "" => name.to_owned(),
        message => format!("{name}: {message}"),
    }
}

/// The wait that a message such as "try again in 1.2s" or "in 350ms" asks for.
pub(super) fn wait_in(error: &ServerError<'_>) -> Option<Duration> {
    let rest = error.message.split("try again in ").nth(1)?.trim_start();
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

/// The longest wait that an exhausted limit among the `rate_limits` of `rate_limits.updated` asks for.
pub(super) fn reset_in(rate_limits: Json<'_>) -> Option<Duration> {
    rate_limits
        .elements()
        .into_iter()
        .filter_map(|element| {
            let [limit, remaining, reset] =
                element.members(["limit", "remaining", "reset_seconds"]).map(Json::f64);
            let exhausted = remaining.unwrap_or(0.0) < limit.unwrap_or(0.0) / 100.0;
            Duration::try_from_secs_f64(reset.filter(|_| exhausted)?).ok()
        })
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
            let error = json!({ "code": code, "type": kind }).to_string();
            assert_eq!(classify(&ServerError::read(Json::of(&error))), class, "{code}");
        }
        assert_eq!(classify(&ServerError::read(Json::of("null"))), Class::Rejected);
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
            let error = json!({ "message": message }).to_string();
            let wait = wait_in(&ServerError::read(Json::of(&error)));
            assert_eq!(wait, millis.map(Duration::from_millis), "{message}");
        }
    }

    #[test]
    fn only_an_exhausted_limit_asks_for_a_wait() {
        let limits = |remaining: u32| {
            json!([
                { "name": "requests", "limit": 100, "remaining": 99, "reset_seconds": 60.0 },
                { "name": "tokens", "limit": 40_000, "remaining": remaining, "reset_seconds": 20 },
            ])
            .to_string()
        };
        assert_eq!(reset_in(Json::of(&limits(12))), Some(Duration::from_secs(20)));
        assert_eq!(reset_in(Json::of(&limits(39_000))), None);
    }
}
