//! Who a call is, and how it is reached while it lives.

use std::{collections::BTreeMap, time::SystemTime};

use tandem_call::{CallId, Party};

/// What is known of a call when it comes in.
#[derive(Debug, Clone)]
pub struct CallIdentity {
    /// The call.
    pub id: CallId,
    /// Call-ID of the SIP dialog; empty where the PBX did not tell it.
    pub sip_call_id: String,
    /// UUID of the PBX's channel.
    pub channel: Option<String>,
    /// The caller.
    pub from: Party,
    /// The dialled number.
    pub to: Party,
    /// The agent that answers.
    pub agent_id: String,
    /// X- headers, User-to-User and the like.
    pub variables: BTreeMap<String, String>,
    /// When the INVITE came.
    pub started_at: SystemTime,
}

/// Orders from the daemon to a live call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallControl {
    /// End politely.
    Drain,
    /// End now.
    Kill,
}
