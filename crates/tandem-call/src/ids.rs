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
    }
}
