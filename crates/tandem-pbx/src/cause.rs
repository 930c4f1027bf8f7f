//! Hang-up causes as FreeSWITCH names them.

use std::fmt;

use tandem_call::HangupCause;

/// Why a channel ended or was refused: the switch's own name for it and the nearest cause a call knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    name: CauseName,
    cause: HangupCause,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum CauseName {
    Known(&'static str),
    Other(Box<str>),
}

/// Longest name kept of a cause that is in no table.
const MAX_NAME: usize = 64;

impl Cause {
    /// The cause called `name`, in any case; a name in no table is kept and counts as `NormalUnspecified`.
    pub fn from_name(name: &str) -> Self {
        if let Some(&(known, code, _)) =
            TABLE.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name))
        {
            return Self { name: CauseName::Known(known), cause: nearest(known, code) };
        }
        let kept: String = name
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || *c == '_')
            .take(MAX_NAME)
            .map(|c| c.to_ascii_uppercase())
            .collect();
        if kept.is_empty() {
            return HangupCause::NormalUnspecified.into(); // A command would be another one without it.
        }
        Self { name: CauseName::Other(kept.into()), cause: HangupCause::NormalUnspecified }
    }

    /// The cause after the `-ERR ` of a failed `originate`, such as `USER_BUSY`.
    pub fn from_failure(reason: &str) -> Option<Self> {
        let word = reason.split_whitespace().next()?;
        TABLE.iter().find(|(known, ..)| *known == word).map(|&(known, code, _)| Self {
            name: CauseName::Known(known),
            cause: nearest(known, code),
        })
    }

    /// The name the switch gave it: `NO_ROUTE_DESTINATION`.
    pub fn name(&self) -> &str {
        match &self.name {
            CauseName::Known(name) => name,
            CauseName::Other(name) => name,
        }
    }

    /// The nearest cause in the words of a call.
    pub fn cause(&self) -> HangupCause {
        self.cause
    }

    /// The SIP status a switch gives for it where it refuses a call; `None` for a call that simply ended.
    pub fn sip_status(&self) -> Option<u16> {
        let name = self.name();
        TABLE.iter().find(|(known, ..)| *known == name).and_then(|&(_, _, status)| match status {
            0 => None,
            status => Some(status),
        })
    }
}

impl From<HangupCause> for Cause {
    fn from(cause: HangupCause) -> Self {
        Self { name: CauseName::Known(cause.name()), cause }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Causes of the switch's own, over 127, are told by their meaning; the rest by their Q.850 value.
fn nearest(name: &str, code: u16) -> HangupCause {
    match name {
        "SUBSCRIBER_ABSENT" | "USER_NOT_REGISTERED" => HangupCause::NoUserResponse,
        "NUMBER_CHANGED" | "INVALID_NUMBER_FORMAT" | "DOES_NOT_EXIST_ANYWHERE" => {
            HangupCause::UnallocatedNumber
        }
        "SUCCESS" | "BLIND_TRANSFER" | "ATTENDED_TRANSFER" | "MANAGER_REQUEST" | "PICKED_OFF"
        | "LOSE_RACE" | "BOWOUT" => HangupCause::NormalClearing,
        "ORIGINATOR_CANCEL" => HangupCause::OriginatorCancel,
        "PROGRESS_TIMEOUT" | "ALLOTTED_TIMEOUT" | "NO_PICKUP" => HangupCause::NoAnswer,
        "MEDIA_TIMEOUT" => HangupCause::RecoveryOnTimerExpire,
        "BUSY_EVERYWHERE" => HangupCause::UserBusy,
        "DECLINE" | "UNWANTED" | "OUTGOING_CALL_BARRED" | "INCOMING_CALL_BARRED" => {
            HangupCause::CallRejected
        }
        "NOT_ACCEPTABLE" => HangupCause::IncompatibleDestination,
        "SWITCH_CONGESTION" | "REQUESTED_CHAN_UNAVAIL" => HangupCause::NormalCircuitCongestion,
        "DESTINATION_OUT_OF_ORDER"
        | "GATEWAY_DOWN"
        | "SERVICE_UNAVAILABLE"
        | "INVALID_GATEWAY"
        | "INVALID_PROFILE"
        | "INVALID_URL"
        | "CRASH"
        | "SYSTEM_SHUTDOWN" => HangupCause::NormalTemporaryFailure,
        _ => match u8::try_from(code) {
            Ok(code) if code < 128 => HangupCause::from_q850(code),
            _ => HangupCause::NormalUnspecified,
        },
    }
}

/// Name, Q.850 value (the switch's own beyond 127) and the SIP status of a refusal with it (0: none).
const TABLE: &[(&str, u16, u16)] = &[
    ("UNSPECIFIED", 0, 480),
    ("UNALLOCATED_NUMBER", 1, 404),
    ("NO_ROUTE_TRANSIT_NET", 2, 404),
    ("NO_ROUTE_DESTINATION", 3, 404),
    ("CHANNEL_UNACCEPTABLE", 6, 480),
    ("CALL_AWARDED_DELIVERED", 7, 480),
    ("NORMAL_CLEARING", 16, 0),
    ("USER_BUSY", 17, 486),
    ("NO_USER_RESPONSE", 18, 480),
    ("NO_ANSWER", 19, 480),
    ("SUBSCRIBER_ABSENT", 20, 480),
    ("CALL_REJECTED", 21, 603),
    ("NUMBER_CHANGED", 22, 410),
    ("REDIRECTION_TO_NEW_DESTINATION", 23, 410),
    ("EXCHANGE_ROUTING_ERROR", 25, 483),
    ("DESTINATION_OUT_OF_ORDER", 27, 502),
    ("INVALID_NUMBER_FORMAT", 28, 484),
    ("FACILITY_REJECTED", 29, 501),
    ("RESPONSE_TO_STATUS_ENQUIRY", 30, 480),
    ("NORMAL_UNSPECIFIED", 31, 480),
    ("NORMAL_CIRCUIT_CONGESTION", 34, 503),
    ("NETWORK_OUT_OF_ORDER", 38, 503),
    ("NORMAL_TEMPORARY_FAILURE", 41, 503),
    ("SWITCH_CONGESTION", 42, 503),
    ("ACCESS_INFO_DISCARDED", 43, 503),
    ("REQUESTED_CHAN_UNAVAIL", 44, 503),
    ("PRE_EMPTED", 45, 480),
    ("FACILITY_NOT_SUBSCRIBED", 50, 480),
    ("OUTGOING_CALL_BARRED", 52, 403),
    ("INCOMING_CALL_BARRED", 54, 403),
    ("BEARERCAPABILITY_NOTAUTH", 57, 403),
    ("BEARERCAPABILITY_NOTAVAIL", 58, 503),
    ("SERVICE_UNAVAILABLE", 63, 503),
    ("BEARERCAPABILITY_NOTIMPL", 65, 488),
    ("CHAN_NOT_IMPLEMENTED", 66, 501),
    ("FACILITY_NOT_IMPLEMENTED", 69, 501),
    ("SERVICE_NOT_IMPLEMENTED", 79, 501),
    ("INVALID_CALL_REFERENCE", 81, 480),
    ("INCOMPATIBLE_DESTINATION", 88, 488),
    ("INVALID_MSG_UNSPECIFIED", 95, 480),
    ("MANDATORY_IE_MISSING", 96, 480),
    ("MESSAGE_TYPE_NONEXIST", 97, 480),
    ("WRONG_MESSAGE", 98, 480),
    ("IE_NONEXIST", 99, 480),
    ("INVALID_IE_CONTENTS", 100, 480),
    ("WRONG_CALL_STATE", 101, 480),
    ("RECOVERY_ON_TIMER_EXPIRE", 102, 504),
    ("MANDATORY_IE_LENGTH_ERROR", 103, 480),
    ("PROTOCOL_ERROR", 111, 480),
    ("INTERWORKING", 127, 480),
    ("SUCCESS", 142, 0),
    ("ORIGINATOR_CANCEL", 487, 487),
    ("CRASH", 700, 503),
    ("SYSTEM_SHUTDOWN", 701, 503),
    ("LOSE_RACE", 702, 0),
    ("MANAGER_REQUEST", 703, 0),
    ("BLIND_TRANSFER", 800, 0),
    ("ATTENDED_TRANSFER", 801, 0),
    ("ALLOTTED_TIMEOUT", 802, 480),
    ("USER_CHALLENGE", 803, 401),
    ("MEDIA_TIMEOUT", 804, 504),
    ("PICKED_OFF", 805, 0),
    ("USER_NOT_REGISTERED", 806, 480),
    ("PROGRESS_TIMEOUT", 807, 480),
    ("INVALID_GATEWAY", 808, 502),
    ("GATEWAY_DOWN", 809, 502),
    ("INVALID_URL", 810, 404),
    ("INVALID_PROFILE", 811, 502),
    ("NO_PICKUP", 812, 480),
    ("SRTP_READ_ERROR", 813, 488),
    ("BOWOUT", 814, 0),
    ("BUSY_EVERYWHERE", 815, 600),
    ("DECLINE", 816, 603),
    ("DOES_NOT_EXIST_ANYWHERE", 817, 604),
    ("NOT_ACCEPTABLE", 818, 606),
    ("UNWANTED", 819, 607),
    ("NO_IDENTITY", 820, 428),
    ("BAD_IDENTITY_INFO", 821, 429),
    ("UNSUPPORTED_CERTIFICATE", 822, 437),
    ("INVALID_IDENTITY", 823, 438),
    ("STALE_DATE", 824, 403),
    ("REJECT_ALL", 825, 0),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_by_their_names() {
        for (name, cause, status) in [
            ("USER_BUSY", HangupCause::UserBusy, Some(486)),
            ("user_busy", HangupCause::UserBusy, Some(486)),
            ("NO_ROUTE_DESTINATION", HangupCause::UnallocatedNumber, Some(404)),
            ("NORMAL_CLEARING", HangupCause::NormalClearing, None),
            ("USER_NOT_REGISTERED", HangupCause::NoUserResponse, Some(480)),
            ("GATEWAY_DOWN", HangupCause::NormalTemporaryFailure, Some(502)),
            ("MEDIA_TIMEOUT", HangupCause::RecoveryOnTimerExpire, Some(504)),
            ("CHAN_NOT_IMPLEMENTED", HangupCause::NormalUnspecified, Some(501)),
            ("ORIGINATOR_CANCEL", HangupCause::OriginatorCancel, Some(487)),
            ("SOMETHING_NEW", HangupCause::NormalUnspecified, None),
        ] {
            let read = Cause::from_name(name);
            assert_eq!(read.cause(), cause, "{name}");
            assert_eq!(read.sip_status(), status, "{name}");
            assert_eq!(read.name(), name.to_ascii_uppercase());
        }
        assert_eq!(Cause::from_name("A\r\nB").name(), "AB");
        assert_eq!(Cause::from_name(" ").name(), "NORMAL_UNSPECIFIED");
    }

    #[test]
    fn every_cause_of_a_call_has_a_name_the_switch_knows() {
        for cause in [
            HangupCause::UnallocatedNumber,
            HangupCause::NormalClearing,
            HangupCause::UserBusy,
            HangupCause::NoUserResponse,
            HangupCause::NoAnswer,
            HangupCause::CallRejected,
            HangupCause::NormalUnspecified,
            HangupCause::NormalCircuitCongestion,
            HangupCause::NormalTemporaryFailure,
            HangupCause::IncompatibleDestination,
            HangupCause::RecoveryOnTimerExpire,
            HangupCause::OriginatorCancel,
        ] {
            assert_eq!(Cause::from_name(cause.name()), Cause::from(cause));
        }
        assert_eq!(Cause::from_failure("USER_BUSY").unwrap().cause(), HangupCause::UserBusy);
        assert_eq!(Cause::from_failure("No such channel!"), None);
    }
}
