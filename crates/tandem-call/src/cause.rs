//! Why calls end.

use serde::{Deserialize, Serialize};

/// Why a leg was released, in the words of Q.850 as PBXs print them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum HangupCause {
    /// 1: no such number.
    UnallocatedNumber,
    /// 16: somebody hung up.
    NormalClearing,
    /// 17: busy.
    UserBusy,
    /// 18: nobody responded.
    NoUserResponse,
    /// 19: it rang out.
    NoAnswer,
    /// 21: refused.
    CallRejected,
    /// 31: normal, unspecified.
    NormalUnspecified,
    /// 34: no channel free.
    NormalCircuitCongestion,
    /// 41: temporary failure.
    NormalTemporaryFailure,
    /// 88: no common codec.
    IncompatibleDestination,
    /// 102: a timer ran out: session timer, media time-out, missing ACK.
    RecoveryOnTimerExpire,
    /// 487: the caller cancelled before the answer.
    OriginatorCancel,
}

impl HangupCause {
    /// The Q.850 cause value; 16 where only SIP has a word for it.
    pub const fn q850(self) -> u8 {
        match self {
            Self::UnallocatedNumber => 1,
            Self::NormalClearing | Self::OriginatorCancel => 16,
            Self::UserBusy => 17,
            Self::NoUserResponse => 18,
            Self::NoAnswer => 19,
            Self::CallRejected => 21,
            Self::NormalUnspecified => 31,
            Self::NormalCircuitCongestion => 34,
            Self::NormalTemporaryFailure => 41,
            Self::IncompatibleDestination => 88,
            Self::RecoveryOnTimerExpire => 102,
        }
    }

    /// The cause for a Q.850 value from the wire; values without a word of ours become `NormalUnspecified`.
    pub const fn from_q850(value: u8) -> Self {
        match value {
            1..=3 => Self::UnallocatedNumber,
            16 => Self::NormalClearing,
            17 => Self::UserBusy,
            18 => Self::NoUserResponse,
            19 => Self::NoAnswer,
            21 => Self::CallRejected,
            34 => Self::NormalCircuitCongestion,
            38 | 41 | 42 => Self::NormalTemporaryFailure,
            65 | 88 => Self::IncompatibleDestination,
            102 => Self::RecoveryOnTimerExpire,
            _ => Self::NormalUnspecified,
        }
    }

    /// The cause of that name, in any case; none where it has no word of ours.
    pub fn from_name(name: &str) -> Option<Self> {
        const ALL: [HangupCause; 12] = [
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
        ];
        ALL.into_iter().find(|cause| cause.name().eq_ignore_ascii_case(name))
    }

    /// The name FreeSWITCH and Asterisk print, as in `Reason: Q.850;cause=16;text="NORMAL_CLEARING"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::UnallocatedNumber => "UNALLOCATED_NUMBER",
            Self::NormalClearing => "NORMAL_CLEARING",
            Self::UserBusy => "USER_BUSY",
            Self::NoUserResponse => "NO_USER_RESPONSE",
            Self::NoAnswer => "NO_ANSWER",
            Self::CallRejected => "CALL_REJECTED",
            Self::NormalUnspecified => "NORMAL_UNSPECIFIED",
            Self::NormalCircuitCongestion => "NORMAL_CIRCUIT_CONGESTION",
            Self::NormalTemporaryFailure => "NORMAL_TEMPORARY_FAILURE",
            Self::IncompatibleDestination => "INCOMPATIBLE_DESTINATION",
            Self::RecoveryOnTimerExpire => "RECOVERY_ON_TIMER_EXPIRE",
            Self::OriginatorCancel => "ORIGINATOR_CANCEL",
        }
    }
}

/// Why the call is over, as the call record says it (control API 5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// `end_call`: everything is said.
    ConversationComplete,
    /// `end_call`: the caller said goodbye.
    CallerGoodbye,
    /// `end_call`: nobody speaks.
    NoResponse,
    /// `end_call`: an answering machine.
    VoicemailDetected,
    /// The caller hung up.
    CallerHangup,
    /// The caller gave up before the answer.
    Cancelled,
    /// Handed to a human.
    Transferred,
    /// `max_duration_s` ran out.
    MaxDuration,
    /// `max_silence_ms` ran out.
    MaxSilence,
    /// No RTP for too long.
    MediaTimeout,
    /// No model could carry the conversation on.
    ModelError,
    /// The daemon was told to stop and the drain time ran out.
    Draining,
    /// Refused before the answer.
    Rejected,
    /// Anything else, said in the log.
    Failed,
}

/// Who ended the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The person on the phone.
    Caller,
    /// The model, by `end_call` or a transfer.
    Agent,
    /// Tandem itself: a limit, a failure, a drain.
    System,
}
