//! What a failed attempt to reach somebody means, in words for a person or a model.

use tandem_call::TransferOutcome;

use crate::Cause;

/// The outcome of a transfer whose target could not be had, for the cause the switch gave:
/// `USER_BUSY: the line is busy`, 486.
pub(super) fn failed(cause: &Cause) -> TransferOutcome {
    TransferOutcome::Failed {
        status: cause.sip_status(),
        reason: format!("{}: {}", cause.name(), words(cause.name())),
    }
}

fn words(cause: &str) -> &'static str {
    match cause {
        "USER_BUSY" | "BUSY_EVERYWHERE" => "the line is busy",
        "NO_ANSWER" | "ALLOTTED_TIMEOUT" | "NO_PICKUP" => "nobody answered",
        "NO_USER_RESPONSE" | "PROGRESS_TIMEOUT" => "the phone did not respond",
        "CALL_REJECTED" | "DECLINE" | "UNWANTED" | "NORMAL_CLEARING" => "the call was declined",
        "UNALLOCATED_NUMBER"
        | "NO_ROUTE_DESTINATION"
        | "NO_ROUTE_TRANSIT_NET"
        | "DOES_NOT_EXIST_ANYWHERE" => "there is no such number",
        "SUBSCRIBER_ABSENT" | "USER_NOT_REGISTERED" => "no phone is connected under that number",
        "NUMBER_CHANGED" | "REDIRECTION_TO_NEW_DESTINATION" => "the number has changed",
        "INVALID_NUMBER_FORMAT" | "INVALID_URL" => "the number is not complete",
        "EXCHANGE_ROUTING_ERROR" => "the call went in circles",
        "OUTGOING_CALL_BARRED" | "INCOMING_CALL_BARRED" => "calls to that number are barred",
        "INCOMPATIBLE_DESTINATION" | "BEARERCAPABILITY_NOTIMPL" | "NOT_ACCEPTABLE" => {
            "the phone has no codec in common"
        }
        "ORIGINATOR_CANCEL" => "the attempt was given up",
        "CHAN_NOT_IMPLEMENTED" | "FACILITY_REJECTED" => "the switch cannot place such a call",
        "GATEWAY_DOWN" | "INVALID_GATEWAY" | "INVALID_PROFILE" => {
            "the line to that destination is down"
        }
        "NORMAL_TEMPORARY_FAILURE"
        | "NETWORK_OUT_OF_ORDER"
        | "NORMAL_CIRCUIT_CONGESTION"
        | "SWITCH_CONGESTION"
        | "SERVICE_UNAVAILABLE"
        | "REQUESTED_CHAN_UNAVAIL"
        | "DESTINATION_OUT_OF_ORDER"
        | "RECOVERY_ON_TIMER_EXPIRE" => "the destination cannot be reached at the moment",
        _ => "the call failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_has_words_and_a_status() {
        for (cause, status, reason) in [
            ("USER_BUSY", Some(486), "USER_BUSY: the line is busy"),
            ("NO_ANSWER", Some(480), "NO_ANSWER: nobody answered"),
            ("UNALLOCATED_NUMBER", Some(404), "UNALLOCATED_NUMBER: there is no such number"),
            ("LOSE_RACE", None, "LOSE_RACE: the call failed"),
        ] {
            let reason = reason.to_owned();
            assert_eq!(
                failed(&Cause::from_name(cause)),
                TransferOutcome::Failed { status, reason }
            );
        }
    }
}
