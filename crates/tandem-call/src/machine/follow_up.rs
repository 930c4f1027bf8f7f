//! What a tool's receiver asks for beside its answer: an end, or somebody else.

use std::time::Instant;

use super::{CallMachine, Phase};
use crate::{EndReason, FollowUp};

impl CallMachine {
    /// Does what is asked for beside a result that the model just got: a transfer after the answer to it, or an end with
    /// that answer for a farewell. Where the call is about to end or to be handed over already, nothing.
    pub(super) fn follow_up(&mut self, now: Instant, tool: &str, follow_up: FollowUp) {
        if !matches!(self.phase, Phase::Talking) {
            return;
        }
        if let Some(target) = follow_up.transfer {
            self.lead_out_after_answer(now, target, format!("asked for by {tool}"));
        } else if follow_up.end_call && self.chain.is_ready() {
            self.end_after_answer(now);
        } else if follow_up.end_call {
            self.end_politely(now, EndReason::ConversationComplete); // Nobody is there to answer the result.
        }
    }
}
