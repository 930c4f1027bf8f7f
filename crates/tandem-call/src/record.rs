//! What is kept of a call: one record, one JSON line.

use std::collections::BTreeMap;

use serde::Serialize;

use serde_json::{Map, Value};

use crate::{
    CallId, EndReason, EndedBy, HangupCause, InvocationId, Speaker, ToolMode, TransferTarget,
    Usage, Verdict,
};

/// One side of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Party {
    /// The number as dialled or presented; none when withheld.
    pub number: Option<String>,
    /// Display name.
    pub name: Option<String>,
}

/// The latency of one turn, in milliseconds from the instant the member before it names.
///
/// Caller's last speech sample (by RTP arrival) -> last uplink frame written -> model's first audio -> first RTP packet
/// sent. A member is absent where the turn had no such instant: the greeting has no caller speech.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct TurnLedger {
    /// Counts from 1.
    pub turn: u32,
    /// Offset of the turn's beginning from the answer.
    pub at_ms: f64,
    /// Last speech sample arrived to last frame of it written to the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uplink_ms: Option<f64>,
    /// Last frame of speech written to the model's first audio: the model's own time, its end-of-speech wait included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_ms: Option<f64>,
    /// Model's first audio received to first RTP packet with it sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub downlink_ms: Option<f64>,
    /// Caller's last speech sample to first RTP packet of the answer: what the caller waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_ms: Option<f64>,
    /// Barge-in noticed to the last packet of the old audio; 0 when none followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub barge_in_ms: Option<f64>,
    /// How much of the interrupted item was heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heard_ms: Option<f64>,
}

/// What became of the caller's sounds over the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct BargeIns {
    /// The agent fell silent for one of which it was not known yet whether it interrupts.
    pub hushed: u32,
    /// It went on at the very sample.
    pub went_on: u32,
    /// It was stopped, hushed before or not.
    pub stopped: u32,
}

/// One entry of the transcript.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TranscriptTurn {
    /// Who spoke.
    pub role: Speaker,
    /// What was said; of an interrupted agent, what was heard.
    pub text: String,
    /// Offset from the answer.
    pub start_ms: u64,
    /// The agent was cut off.
    pub interrupted: bool,
    /// What the model said beyond what was heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_unheard: Option<String>,
}

/// One tool call (control API 10.4).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ToolRecord {
    /// Its number in the call, from 1.
    #[serde(skip)]
    pub number: u32,
    /// Which tool, as the model wrote it.
    pub name: String,
    /// Whether the model waited.
    pub mode: ToolMode,
    /// Its arguments, without what is not to be kept.
    pub arguments: Value,
    /// Offset from the answer.
    pub at_ms: u64,
    /// From the complete call to how it came out; of a late answer to that answer.
    pub duration_ms: u64,
    /// How often it was tried: 0 when nothing was sent, absent when nobody waited to learn of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u8>,
    /// What became of it.
    pub outcome: Verdict,
    /// Of the receiver's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The `status` that the model was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What the caller was to be told, 500 characters of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// From the call of the tool to the first words of the agent after its result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spoken_after_ms: Option<u64>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// One tool call, under the name by which the whole world knows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InvocationRecord {
    /// What webhook and log call it, too.
    pub id: InvocationId,
    /// What is known of it.
    #[serde(flatten)]
    pub tool: ToolRecord,
}

impl InvocationRecord {
    /// The record of a tool call of `call`.
    pub fn new(call: &CallId, tool: ToolRecord) -> Self {
        Self { id: call.invocation(tool.number), tool }
    }
}

/// The last transfer of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TransferRecord {
    /// Where to.
    #[serde(flatten)]
    pub target: TransferTarget,
    /// The department the model named.
    pub department: Option<String>,
    /// The model's reason.
    pub reason: String,
    /// `initiated`, `completed` or `failed`.
    pub status: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What the network did to the leg.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct LegQuality {
    /// Codec of the leg: `PCMU`, `PCMA`.
    pub codec: String,
    /// Packets from the caller.
    pub packets_received: u64,
    /// Packets to the caller.
    pub packets_sent: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Packets that came after they had been concealed.
    pub packets_late: u64,
    /// RFC 3550 interarrival jitter of the caller's stream.
    pub jitter_ms: f64,
    /// Estimated conversational quality of the caller's stream, 1.0 to 4.4 (G.107): the mean over sliding windows of ten
    /// seconds; absent when nothing was received.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mos: Option<f64>,
    /// The worst of those windows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mos_min: Option<f64>,
    /// Round trip by RTCP, where the peer reports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// Jitter of our stream as the peer reports it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_jitter_ms: Option<f64>,
    /// Loss of our stream as the peer reports it, 0.0 to 1.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_loss_ratio: Option<f64>,
}

/// The recording of a call (control API, section 9).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecordingRecord {
    /// `rec_` and 32 hex digits of a UUIDv7.
    pub id: String,
    /// `available`, or `failed` when there is nothing to play.
    pub status: &'static str,
    /// The file.
    pub path: Option<String>,
    /// `wav` or `ogg`.
    pub format: &'static str,
    /// 2: the caller left, the agent right; 1: both mixed.
    pub channels: usize,
    /// Samples per second of the file.
    pub sample_rate_hz: usize,
    /// How long it is, pauses included.
    pub duration_ms: u64,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// RFC 3339, UTC: its first sample.
    pub started_at: String,
    /// How much of it is silence because it was paused.
    pub paused_ms: u64,
    /// How much of either side is missing because the disk was too slow.
    pub dropped_ms: u64,
    /// The file is sealed with a key.
    pub sealed: bool,
    /// Why it ended: `call_ended`, `disk_full`, `failed`, `too_long`.
    pub ended: &'static str,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// RFC 3339, UTC: when it will be deleted.
    pub expires_at: Option<String>,
}

/// What is kept of a call.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CallRecord {
    /// The call.
    pub id: CallId,
    /// Call-ID of the SIP dialog; empty where the PBX did not tell it.
    pub sip_call_id: String,
    /// UUID of the PBX's channel, where the call came by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The caller.
    pub from: Party,
    /// The dialled number.
    pub to: Party,
    /// The agent that answered.
    pub agent_id: String,
    /// RFC 3339, UTC: the INVITE.
    pub started_at: String,
    /// The 200.
    pub answered_at: Option<String>,
    /// The end.
    pub ended_at: String,
    /// INVITE to end.
    pub duration_ms: u64,
    /// Why it ended.
    pub end_reason: EndReason,
    /// Who ended it.
    pub ended_by: EndedBy,
    /// Q.850 name.
    pub hangup_cause: HangupCause,
    /// Q.850 value.
    pub q850_cause: u8,
    /// From `end_call`.
    pub summary: Option<String>,
    /// Models used, in order.
    pub models: Vec<String>,
    /// Failures of models, in the vendor's words.
    pub model_failures: Vec<String>,
    /// Both sides, in order.
    pub transcript: Vec<TranscriptTurn>,
    /// Tool calls, in order.
    pub tools: Vec<InvocationRecord>,
    /// What receivers of tools wanted kept of the call, 8 KiB of it.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    /// The last transfer.
    pub transfer: Option<TransferRecord>,
    /// Latency of each turn.
    pub turns: Vec<TurnLedger>,
    /// What became of the caller's sounds over the agent.
    pub barge_ins: BargeIns,
    /// Model session ready after the INVITE.
    pub model_connect_ms: Option<f64>,
    /// Answer to first agent audio.
    pub first_audio_ms: Option<f64>,
    /// Last agent sample played to BYE.
    pub end_call_tail_ms: Option<f64>,
    /// Sum over all sessions.
    pub usage: Usage,
    /// The recording, where one was made or ought to have been.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recording: Option<RecordingRecord>,
    /// What the network did.
    pub quality: LegQuality,
    /// How the caller's media was protected, by SRTP's name for it (`AES_CM_128_HMAC_SHA1_80`); absent when it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub srtp: Option<&'static str>,
    /// X- headers, User-to-User and the like.
    pub variables: BTreeMap<String, String>,
}
