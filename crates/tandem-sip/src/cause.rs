//! SIP statuses and Reason headers, and the hang-up causes they stand for (RFC 3326, RFC 3398).

use tandem_call::HangupCause;

use crate::{
    headers::Headers,
    uri::{find_param, parse_params},
};

/// The final response that refuses an INVITE for `cause`.
pub(crate) const fn status_of(cause: HangupCause) -> u16 {
    match cause {
        HangupCause::UnallocatedNumber => 404,
        HangupCause::UserBusy => 486,
        HangupCause::CallRejected => 403,
        HangupCause::NormalCircuitCongestion | HangupCause::NormalTemporaryFailure => 503,
        HangupCause::IncompatibleDestination => 488,
        HangupCause::RecoveryOnTimerExpire => 504,
        HangupCause::OriginatorCancel => 487,
        HangupCause::NoUserResponse
        | HangupCause::NoAnswer
        | HangupCause::NormalClearing
        | HangupCause::NormalUnspecified => 480,
    }
}

/// The cause a final response stands for.
pub(crate) const fn of_status(status: u16) -> HangupCause {
    match status {
        404 | 410 | 484 | 604 => HangupCause::UnallocatedNumber,
        401 | 403 | 407 | 603 => HangupCause::CallRejected,
        408 | 504 => HangupCause::RecoveryOnTimerExpire,
        480 => HangupCause::NoUserResponse,
        486 | 600 => HangupCause::UserBusy,
        487 => HangupCause::OriginatorCancel,
        488 | 606 => HangupCause::IncompatibleDestination,
        400..=699 => HangupCause::NormalTemporaryFailure,
        _ => HangupCause::NormalUnspecified,
    }
}

/// `Q.850;cause=16;text="NORMAL_CLEARING"`.
pub(crate) fn reason(cause: HangupCause) -> String {
    format!("Q.850;cause={};text=\"{}\"", cause.q850(), cause.name())
}

/// The cause in the Reason headers of a BYE or CANCEL; a normal one when there is none.
pub(crate) fn of_reason(headers: &Headers) -> HangupCause {
    let q850 = headers.list("Reason").find_map(|reason| {
        let (protocol, params) = reason.split_once(';')?;
        let cause = find_param(&parse_params(params), "cause")?.parse().ok()?;
        protocol.trim().eq_ignore_ascii_case("Q.850").then_some(cause)
    });
    q850.map_or(HangupCause::NormalClearing, HangupCause::from_q850)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_and_written() {
        for (value, cause) in [
            (r#"Q.850;cause=16;text="normal_clearing""#, HangupCause::NormalClearing),
            (
                r#"SIP;cause=200;text="Call completed elsewhere", Q.850 ;cause=17"#,
                HangupCause::UserBusy,
            ),
            ("Q.850;cause=102", HangupCause::RecoveryOnTimerExpire),
            ("Q.850", HangupCause::NormalClearing),
            ("Q.850;cause=999", HangupCause::NormalClearing),
        ] {
            let mut headers = Headers::default();
            headers.push("Reason", value);
            assert_eq!(of_reason(&headers), cause, "{value}");
        }
        assert_eq!(of_reason(&Headers::default()), HangupCause::NormalClearing);
        assert_eq!(reason(HangupCause::UserBusy), r#"Q.850;cause=17;text="USER_BUSY""#);
    }

    #[test]
    fn a_status_and_its_cause_agree() {
        for cause in [
            HangupCause::UnallocatedNumber,
            HangupCause::UserBusy,
            HangupCause::CallRejected,
            HangupCause::IncompatibleDestination,
            HangupCause::RecoveryOnTimerExpire,
            HangupCause::OriginatorCancel,
        ] {
            assert_eq!(of_status(status_of(cause)), cause);
        }
    }
}
