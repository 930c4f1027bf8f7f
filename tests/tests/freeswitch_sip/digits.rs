//! Digits as telephone-events, both ways, and by INFO.

use crate::case::{Case, PEER_HANGS_UP, WE_HANG_UP, answered, check, placed};

/// Our call to SIPp in FreeSWITCH's place.
fn placed_to_peer(port: u16) -> String {
    format!(
        "
        * call
        > INVITE [0 8 9 111 101 110 13 sendrecv] 1800
        < 100 INVITE
        < 180 INVITE
        ! ringing
        < 200 INVITE [0 101 sendrecv]
        > ACK
        ! media PCMU to {port}, events 101, 20 ms, sendrecv
        ! answered"
    )
}

/// A call of the scripted caller to us in FreeSWITCH's place.
fn taken(called: &str, port: u16) -> String {
    format!(
        "
        < INVITE [0 101 sendrecv]
        > 100 INVITE
        ! called {called} by caller offering PCMU
        * accept
        > 200 INVITE [0 101 sendrecv] 1800/uas
        ! media PCMU to {port}, events 101, 20 ms, sendrecv
        ! answered
        < ACK"
    )
}

pub(crate) fn cases() -> Vec<Case> {
    let fs_digits = "sip/out_fs_dtmf_rfc4733";
    let uas_digits = "sip/out_uas_dtmf_rfc4733";
    let caller_digits = "sip/in_caller_dtmf_rfc4733";
    let info = "sip/out_uas_info_dtmf";
    let fork = "e2e/bidir_16k_up_24k_down";
    vec![
        Case::new(fs_digits, 5090, &[&answered("PCMU", 24366), PEER_HANGS_UP])
            .hears(111)
            .hears_digits("1234*0#"),
        Case::new(fs_digits, 5060, &[&placed_to_peer(6000), WE_HANG_UP])
            .hears(196)
            .says_digits("1234*0#"),
        Case::new(uas_digits, 5090, &[&answered("PCMU", 27804), WE_HANG_UP])
            .hears(160)
            .says_digits("1234*0#"),
        Case::new(uas_digits, 5060, &[&placed_to_peer(53526), PEER_HANGS_UP])
            .hears(77)
            .hears_digits("1234*0#"),
        Case::new(caller_digits, 5099, &[&placed("PCMU", 27726), WE_HANG_UP])
            .hears(110)
            .says_digits("12#"),
        Case::new(caller_digits, 5060, &[&taken("9014", 41925), PEER_HANGS_UP])
            .hears(74)
            .hears_digits("12#"),
        Case::new(fork, 5099, &[&placed("PCMU", 23904), WE_HANG_UP]).hears(126).says_digits("5"),
        Case::new(fork, 5060, &[&taken("9003", 53091), PEER_HANGS_UP]).hears(114).hears_digits("5"),
        Case::new(info, 5090, &[&answered("PCMU", 24656), WE_HANG_UP]),
        Case::new(
            info,
            5060,
            &[&placed_to_peer(6000), "< INFO\n> 200 INFO\n! digit 5", PEER_HANGS_UP],
        ),
    ]
}

#[test]
fn each_digit_is_heard_once() {
    check(&cases());
}
