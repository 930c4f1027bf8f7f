//! Ids are types.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one call everywhere: logs, record, headers. `call_` and 32 lower-case hex digits of a UUIDv7.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(String);

impl CallId {
    /// Makes the UUIDv7 (RFC 9562 §5.7) of `unix_millis` and 74 bits taken from `random`.
    pub fn new(unix_millis: u64, random: u128) -> Self {
        let time = u128::from(unix_millis & 0xFFFF_FFFF_FFFF) << 80;
        let random_a = (random >> 64 & 0xFFF) << 64;
        let random_b = random & 0x3FFF_FFFF_FFFF_FFFF;
        Self(format!("call_{:032x}", time | 7 << 76 | random_a | 0b10 << 62 | random_b))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the call's tool invocation `number`, the same whoever asks and however often.
    pub fn invocation(&self, number: u32) -> InvocationId {
        let call = self.0.strip_prefix("call_").unwrap_or(&self.0);
        InvocationId(format!("inv_{call}_{number}"))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One stretch of model speech: what can be cut and truncated as a whole. Unique within a call, rising.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemId(pub u64);

/// Names one tool call of one call everywhere: record, webhooks, logs. `inv_`, the call's hex digits, `_` and the
/// invocation's number in the call, from 1.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct InvocationId(String);

impl InvocationId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of an agent's own phrases ([`crate::AgentSpec::phrases`]), by its place among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PhraseId(pub u16);

/// The model's own id of a tool call, echoed with the result.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ToolCallId(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_id_is_a_uuid_v7() {
        let id = CallId::new(0x0192_3456_789A, u128::MAX);
        assert_eq!(id.as_str(), "call_01923456789a7fffbfffffffffffffff");
        assert_eq!(id.invocation(3).as_str(), "inv_01923456789a7fffbfffffffffffffff_3");
    }
}
