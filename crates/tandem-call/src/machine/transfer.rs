//! `transfer_to_human`: speak, then act, and come back when it fails.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    CallMachine, Output, Phase, SIGNALLING_PATIENCE,
    timers::{Timer, after},
    tool_results::Given,
    tools::{required_text, text_argument},
};
use crate::{
    EndReason, EndedBy, SignalCommand, Speaker, ToolCall, TransferMode, TransferOutcome,
    TransferRecord, TransferTarget,
};

/// The sentence takes at most this long, from the call of the tool.
const LONGEST_LEAD_OUT: Duration = Duration::from_secs(12);

/// A model that calls first and speaks then begins to speak within this.
const SPEAKS_WITHIN: Duration = Duration::from_secs(2);

/// A model that has to make something of a result begins to speak within this.
const ANSWERS_WITHIN: Duration = Duration::from_secs(4);

/// Longest header value, percent-encoded (control API, section 7), and the turns a summary is made of.
const LONGEST_HEADER: usize = 1_000;
const SUMMARY_TURNS: usize = 6;

/// A transfer whose sentence is being played out.
#[derive(Debug)]
pub(super) struct Transfer {
    target: TransferTarget,
    reason: String,
    asked: Instant,
    /// A model that has not spoken begins by then.
    begins: Instant,
    /// The model has said something.
    pub(super) spoken: bool,
}

impl CallMachine {
    /// `transfer_to_human` of the model (control API 10.2.1).
    pub(super) fn transfer_to_human(&mut self, now: Instant, call: &ToolCall) {
        let reason = match required_text(call, "reason") {
            Ok(reason) => reason,
            Err(given) => return self.answer_tool(now, call, *given),
        };
        let reason = self.transcript.kept_of(reason);
        match self.phase {
            Phase::Talking => {}
            Phase::LeadingOut(_) | Phase::Transferring => {
                return self.settle_tool(now, call, transferring());
            }
            Phase::Ringing | Phase::Answering | Phase::Ending(_) => {
                return self.refuse(now, call, "the caller cannot be transferred now");
            }
            Phase::Transferred | Phase::Closing(_) | Phase::Ended => return,
        }
        let department = text_argument(call, "department");
        let Some(target) = self.spec.transfer.resolve(department).cloned() else {
            let result = json!({
                "status": "unavailable",
                "message": "Nobody can be reached. Say so, and offer to help or to take a message."
            });
            return self.answer_tool(now, call, Given::done(result));
        };
        let department = department.map(|it| self.transcript.kept_of(it).to_owned());
        // No answer owed: the model has spoken since the caller did.
        let spoken = !self.waiting.is_due();
        let begins = after(now, SPEAKS_WITHIN);
        let reason = reason.to_owned();
        self.lead_out(Transfer { target, reason, asked: now, begins, spoken }, department);
        self.settle_tool(now, call, transferring());
    }

    /// Hands the caller over to `target` when the answer to the result has been heard that the model just got.
    pub(super) fn lead_out_after_answer(
        &mut self,
        now: Instant,
        target: TransferTarget,
        reason: String,
    ) {
        let begins = after(now, ANSWERS_WITHIN);
        self.lead_out(Transfer { target, reason, asked: now, begins, spoken: false }, None);
    }

    fn lead_out(&mut self, transfer: Transfer, department: Option<String>) {
        self.transfer = Some(TransferRecord {
            target: transfer.target.clone(),
            department,
            reason: transfer.reason.clone(),
            status: "initiated",
            error: None,
        });
        self.phase = Phase::LeadingOut(transfer);
    }

    /// Looks whether the sentence is over, and then hands the caller over.
    pub(super) fn settle_lead_out(&mut self, now: Instant) {
        let Phase::LeadingOut(transfer) = &self.phase else { return };
        let latest = after(transfer.asked, LONGEST_LEAD_OUT);
        let begins = transfer.begins;
        let waits_for_words = !transfer.spoken && now < begins;
        let over = !waits_for_words && self.playout.is_silent() && !self.answering.running;
        if over || now >= latest {
            self.hand_over(now);
        } else {
            self.timers.set(Timer::LeadOut, Some(if waits_for_words { begins } else { latest }));
        }
    }

    /// Signalling says how the transfer went.
    pub(super) fn handle_transfer_outcome(&mut self, now: Instant, outcome: TransferOutcome) {
        let under_way = matches!(self.phase, Phase::Transferring);
        if !under_way && !std::mem::take(&mut self.transfer_open) {
            return;
        }
        match outcome {
            TransferOutcome::Completed => {
                if let Some(record) = &mut self.transfer {
                    record.status = "completed";
                    record.error = None;
                }
                if matches!(self.phase, Phase::Closing(_)) {
                    return;
                }
                self.let_go(now);
                self.phase = Phase::Transferred;
                self.timers.start(Timer::Transfer, now, SIGNALLING_PATIENCE);
            }
            TransferOutcome::Failed { status, reason } if under_way => {
                let reason = match status {
                    Some(status) => format!("{reason} ({status})"),
                    None => reason,
                };
                self.take_caller_back(now, &reason);
            }
            TransferOutcome::Failed { .. } => {}
        }
    }

    /// The PBX moved the caller elsewhere, without being asked by us.
    pub(super) fn handle_taken_over(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Transferred | Phase::Closing(_) | Phase::Ended) {
            self.let_go(now);
            self.phase = Phase::Transferred;
            self.timers.start(Timer::Transfer, now, SIGNALLING_PATIENCE);
        }
    }

    /// The transfer takes too long, or nobody hangs up after it.
    pub(super) fn handle_transfer_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Transferring => {
                self.transfer_open = true;
                self.take_caller_back(now, "nobody answered in time");
            }
            Phase::Transferred => self.hang_up(now, EndReason::Transferred, EndedBy::Agent),
            Phase::Ringing
            | Phase::Answering
            | Phase::Talking
            | Phase::LeadingOut(_)
            | Phase::Ending(_)
            | Phase::Closing(_)
            | Phase::Ended => {}
        }
    }

    /// Keeps in the record that a transfer under way came to nothing.
    pub(super) fn fail_transfer(&mut self, error: &str) {
        if let Some(record) = self.transfer.as_mut().filter(|it| it.status == "initiated") {
            record.status = "failed";
            record.error = Some(error.to_owned());
        }
    }

    fn hand_over(&mut self, now: Instant) {
        let summary = self.conversation_summary();
        let Phase::LeadingOut(transfer) = std::mem::replace(&mut self.phase, Phase::Transferring)
        else {
            unreachable!("only a sentence that leads to a transfer is followed by one");
        };
        self.waiting.satisfy();
        self.media_lost = false;
        self.transfer_open = false;
        self.timers.stop(Timer::LeadOut);
        let patience = match transfer.target.mode {
            TransferMode::Blind => self.spec.transfer_timeout,
            TransferMode::Attended => self.spec.transfer_timeout + crate::ATTENDED_PATIENCE,
        };
        self.timers.start(Timer::Transfer, now, patience);
        self.update_pause();
        let mut headers = vec![("X-Tandem-Reason".to_owned(), percent_encoded(&transfer.reason))];
        if !summary.is_empty() {
            headers.push(("X-Tandem-Summary".to_owned(), percent_encoded(&summary)));
        }
        self.emit(Output::Signal(SignalCommand::Transfer { target: transfer.target, headers }));
    }

    fn take_caller_back(&mut self, now: Instant, reason: &str) {
        self.fail_transfer(reason);
        self.phase = Phase::Talking;
        self.timers.stop(Timer::Transfer);
        if !self.playout.is_silent() {
            self.clear_playout(); // What was said to nobody is not said now.
        }
        self.update_pause();
        if self.media_lost {
            self.hang_up(now, EndReason::MediaTimeout, EndedBy::System);
        } else if let Some(reason) = self.overdue.take() {
            self.end_politely(now, reason);
        } else {
            self.say(format!(
                "(The transfer did not succeed: {reason}. The caller is back on the line. \
                 Say so, and offer to help or to take a message.)"
            ));
        }
    }

    /// The last turns, for the person who takes over.
    fn conversation_summary(&self) -> String {
        if !self.spec.transcription {
            return String::new();
        }
        let turns = self.transcript.kept(&self.playout);
        let lines = turns[turns.len().saturating_sub(SUMMARY_TURNS)..].iter().map(|turn| {
            let speaker = match turn.speaker {
                Speaker::Caller => "Caller",
                Speaker::Agent => "Agent",
            };
            format!("{speaker}: {}", turn.text)
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn transferring() -> Given {
    Given::done(json!({
        "status": "transferring",
        "message": "The caller is connected as soon as you have finished your sentence."
    }))
}

/// `text` as a header value: all but unreserved characters (RFC 3986 §2.3) escaped, whole characters only.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for c in text.chars() {
        let mut bytes = [0; 4];
        let plain = c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
        let length = if plain { 1 } else { 3 * c.len_utf8() };
        if encoded.len() + length > LONGEST_HEADER {
            break;
        }
        if plain {
            encoded.push(c);
        } else {
            for byte in c.encode_utf8(&mut bytes).bytes() {
                encoded.push('%');
                for digit in [byte >> 4, byte & 0xF] {
                    let digit = char::from_digit(digit.into(), 16).expect("a nibble is a digit");
                    encoded.push(digit.to_ascii_uppercase());
                }
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_value_is_escaped_and_bounded() {
        assert_eq!(
            percent_encoded("billing question: 50 €"),
            "billing%20question%3A%2050%20%E2%82%AC"
        );
        assert_eq!(percent_encoded(&"ä".repeat(500)).len(), 996);
    }
}
