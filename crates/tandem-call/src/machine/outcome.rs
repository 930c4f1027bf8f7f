//! What the machine knows of a call that is over.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::{CallMachine, Output, Phase, ledger::between};
use crate::{
    BargeIns, EndReason, EndedBy, HangupCause, ToolRecord, TranscriptTurn, TransferRecord,
    TurnLedger, Usage,
};

/// The machine's part of the call record.
#[derive(Debug, Clone, PartialEq)]
pub struct CallOutcome {
    /// Why the call ended.
    pub end_reason: EndReason,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// The cause that was sent, or came.
    pub cause: HangupCause,
    /// The 200; none when the call was never answered.
    pub answered: Option<Instant>,
    /// From `end_call`.
    pub summary: Option<String>,
    /// Both sides, in order; empty when the agent keeps no transcript.
    pub transcript: Vec<TranscriptTurn>,
    /// Tool calls, in order.
    pub tools: Vec<ToolRecord>,
    /// What receivers of tools wanted kept of the call, 8 KiB of it.
    pub metadata: Map<String, Value>,
    /// The last transfer.
    pub transfer: Option<TransferRecord>,
    /// Latency of each turn.
    pub turns: Vec<TurnLedger>,
    /// What became of the caller's sounds over the agent.
    pub barge_ins: BargeIns,
    /// Sum over all sessions.
    pub usage: Usage,
    /// The beginning of the call to the first model session ready.
    pub model_connect_ms: Option<f64>,
    /// Answer to first agent audio.
    pub first_audio_ms: Option<f64>,
    /// Last agent sample played to BYE, after an `end_call`.
    pub end_call_tail_ms: Option<f64>,
    /// Models that were ready, in order, by their configured names; `attendant` is the offline one.
    pub models: Vec<String>,
    /// Failures of models: name and the vendor's words.
    pub model_failures: Vec<String>,
}

/// How it ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verdict {
    pub(super) reason: EndReason,
    pub(super) by: EndedBy,
    pub(super) cause: HangupCause,
}

impl Verdict {
    /// The caller is with somebody else.
    pub(super) fn transferred() -> Self {
        Self {
            reason: EndReason::Transferred,
            by: EndedBy::Agent,
            cause: HangupCause::NormalClearing,
        }
    }
}

impl CallMachine {
    /// The last output.
    pub(super) fn finish(&mut self) {
        let Phase::Closing(verdict) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            unreachable!("a call is closed before it is finished");
        };
        self.timers.stop_all();
        let transcript = if self.spec.transcription {
            self.transcript.turns(self.answered, &self.playout)
        } else {
            Vec::new()
        };
        let outcome = CallOutcome {
            end_reason: verdict.reason,
            ended_by: verdict.by,
            cause: verdict.cause,
            answered: self.answered,
            summary: self.summary.take(),
            transcript,
            tools: self.tools.take_records(),
            metadata: self.tools.take_metadata(),
            transfer: self.transfer.take(),
            turns: self.ledger.turns(self.answered),
            barge_ins: self.barge_in.tally(),
            usage: self.usage,
            model_connect_ms: between(Some(self.began), self.model_ready_at),
            first_audio_ms: between(self.answered, self.first_audio_at),
            end_call_tail_ms: self.end_call_tail.map(|tail: Duration| tail.as_secs_f64() * 1_000.0),
            models: self.chain.used().to_vec(),
            model_failures: self.chain.failures().to_vec(),
        };
        self.emit(Output::Ended(Box::new(outcome)));
    }
}
