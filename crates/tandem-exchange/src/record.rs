//! Joins what machine, leg and identity know into the record of a call.

use std::time::{Instant, SystemTime};

use jiff::Timestamp;
use tandem_call::{CallOutcome, CallRecord, InvocationRecord, LegQuality};

use crate::CallIdentity;

/// The record of a call that began at `started` (and `identity.started_at` on the wall) and ended at `ended`.
pub fn call_record(
    identity: CallIdentity,
    outcome: CallOutcome,
    quality: LegQuality,
    srtp: Option<&'static str>,
    started: Instant,
    ended: Instant,
) -> CallRecord {
    let wall = |at: Instant| rfc3339(identity.started_at + at.saturating_duration_since(started));
    let invocations = outcome.tools.into_iter();
    CallRecord {
        started_at: wall(started),
        answered_at: outcome.answered.map(wall),
        ended_at: wall(ended),
        duration_ms: ended.saturating_duration_since(started).as_millis() as u64,
        tools: invocations.map(|tool| InvocationRecord::new(&identity.id, tool)).collect(),
        id: identity.id,
        sip_call_id: identity.sip_call_id,
        channel: identity.channel,
        from: identity.from,
        to: identity.to,
        agent_id: identity.agent_id,
        end_reason: outcome.end_reason,
        ended_by: outcome.ended_by,
        hangup_cause: outcome.cause,
        q850_cause: outcome.cause.q850(),
        summary: outcome.summary,
        models: outcome.models,
        model_failures: outcome.model_failures,
        transcript: outcome.transcript,
        metadata: outcome.metadata,
        transfer: outcome.transfer,
        turns: outcome.turns,
        barge_ins: outcome.barge_ins,
        model_connect_ms: outcome.model_connect_ms,
        first_audio_ms: outcome.first_audio_ms,
        end_call_tail_ms: outcome.end_call_tail_ms,
        usage: outcome.usage,
        recording: None,
        quality,
        srtp,
        variables: identity.variables,
    }
}

/// RFC 3339, UTC, milliseconds.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    let timestamp = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{timestamp:.3}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_have_milliseconds_and_a_zone() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_000_000_250);
        assert_eq!(rfc3339(at), "2026-11-18T11:06:40.250Z");
    }
}
