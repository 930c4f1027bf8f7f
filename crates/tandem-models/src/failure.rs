//! What a vendor's refusals mean for the call: try again, or go to the next model.

use std::time::Duration;

use tandem_call::{ModelFailure, Reaction};

/// The longest wait that is still worth a caller's silence; a vendor that asks for more is left.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// Characters of a reason that are kept.
const MAX_REASON: usize = 300;

/// Try again after `after`, or give up when that is too long for somebody on the phone.
pub(crate) fn retry(after: Duration, reason: impl AsRef<str>) -> ModelFailure {
    let reason = reason.as_ref();
    if after > LONGEST_WAIT {
        give_up(format!("{reason} (try again in {} s)", after.as_secs()))
    } else {
        ModelFailure { reaction: Reaction::Retry { after }, reason: clean(reason) }
    }
}

/// This model will not do.
pub(crate) fn give_up(reason: impl AsRef<str>) -> ModelFailure {
    ModelFailure { reaction: Reaction::GiveUp, reason: clean(reason.as_ref()) }
}

/// What an HTTP status in place of the upgrade means.
pub(crate) fn http(status: u16, body: &str, retry_after: Option<Duration>) -> ModelFailure {
    let reason = match message_in(body) {
        Some(message) => format!("HTTP {status}: {message}"),
        None if body.is_empty() => format!("HTTP {status}"),
        None => format!("HTTP {status}: {body}"),
    };
    match status {
        // Seen when a new connection follows the old one too quickly.
        409 => retry(retry_after.unwrap_or(Duration::from_millis(1_500)), reason),
        429 => retry(retry_after.unwrap_or(Duration::from_secs(30)), reason),
        408 | 425 | 500..=599 => retry(retry_after.unwrap_or(Duration::ZERO), reason),
        _ => give_up(reason),
    }
}

/// The text of a vendor's JSON error body.
fn message_in(body: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    let error = value.get("error").or_else(|| value.get(0)?.get("error"))?;
    Some(error.get("message")?.as_str()?.to_owned())
}

/// How a close frame reads.
pub(crate) fn closed(code: Option<u16>, reason: &str) -> String {
    match (code, reason) {
        (Some(code), "") => format!("closed with {code}"),
        (Some(code), reason) => format!("closed with {code}: {reason}"),
        (None, reason) => format!("connection lost: {reason}"),
    }
}

/// One line of bounded length.
fn clean(reason: &str) -> String {
    let mut line: String =
        reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_REASON).collect();
    line.truncate(line.trim_end().len());
    line
}

/// `text` without `secret`.
pub(crate) fn redacted(text: String, secret: &str) -> String {
    if secret.is_empty() || !text.contains(secret) {
        return text;
    }
    text.replace(secret, "[key]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_sorted_into_retry_and_give_up() {
        for (status, retried) in [
            (400, false),
            (401, false),
            (403, false),
            (404, false),
            (409, true),
            (429, false), // The vendor's quota lasts longer than a caller waits.
            (500, true),
            (503, true),
        ] {
            let failure = http(status, "", None);
            assert_eq!(matches!(failure.reaction, Reaction::Retry { .. }), retried, "{status}");
            assert_eq!(failure.reason.split(' ').nth(1), Some(&*status.to_string()));
        }
        let soon = http(429, "", Some(Duration::from_secs(1)));
        assert_eq!(soon.reaction, Reaction::Retry { after: Duration::from_secs(1) });
    }

    #[test]
    fn the_vendors_own_words_are_kept_in_one_line() {
        let failure = http(401, r#"{"error":{"message":"Incorrect API key\nprovided"}}"#, None);
        assert_eq!(failure.reason, "HTTP 401: Incorrect API key provided");
        let long = give_up("x".repeat(5_000));
        assert_eq!(long.reason.len(), MAX_REASON);
        assert_eq!(redacted("key sk-1 refused".into(), "sk-1"), "key [key] refused");
    }
}
