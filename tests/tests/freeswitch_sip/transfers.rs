//! REFER to a FreeSWITCH, and what becomes of the call.

use crate::case::{Case, PEER_HANGS_UP, WE_HANG_UP, answered, check, placed_and_rang};

/// A REFER and FreeSWITCH's NOTIFY about it.
fn transfer(number: &str, notified: &str, outcome: &str) -> String {
    format!(
        "
        * transfer to sip:{number}@127.0.0.1:5060
        > REFER
        < 202 REFER
        < NOTIFY (SIP/2.0 {notified})
        > 200 NOTIFY
        ! {outcome}"
    )
}

/// The leg FreeSWITCH bridges to us: its name is the caller's.
fn bridged(port: u16) -> String {
    answered("PCMU", port).replace("15550100", "caller")
}

/// The leg of the other party of the bridge, in the place of FreeSWITCH's second profile.
fn other_party(port: u16) -> String {
    format!(
        "
        < INVITE [0 101 13 sendrecv] 1800/uac
        > 100 INVITE
        ! called 9014 by 15550100 offering PCMU
        * accept
        > 200 INVITE [0 101 13 sendrecv] 1800/uac
        ! media PCMU to {port}, events 101, 20 ms, sendrecv
        ! answered
        < ACK
        < INFO
        > 200 INFO"
    )
}

pub(crate) fn cases() -> Vec<Case> {
    let done = transfer("1001", "200 OK", "transferred");
    let refused = transfer("1001", "403 Forbidden", "transfer failed 403 Forbidden");
    // FreeSWITCH reports success before it looks for the target, and here there is none.
    let into_nothing = transfer("7777", "200 OK", "transferred");
    let caller_refer = "sip/in_9002_bridged_caller_refer";
    let uas_refer = "sip/in_9002_bridged_uas_refer";
    let out_bridged = "sip/out_uas_refer_bridged";
    let single = "sip/out_uas_refer_single_leg";
    let unknown = "sip/out_uas_refer_unknown_target";
    let target_unknown = PEER_HANGS_UP.replace("NORMAL_CLEARING", "UNALLOCATED_NUMBER");
    vec![
        Case::new(caller_refer, 5099, &[&placed_and_rang("PCMU", 20502), &done, PEER_HANGS_UP]),
        Case::new(caller_refer, 5090, &[&bridged(28796)]),
        Case::new(uas_refer, 5090, &[&bridged(29042), &done, PEER_HANGS_UP]),
        Case::new(uas_refer, 5099, &[&placed_and_rang("PCMU", 28090), WE_HANG_UP]),
        Case::new(out_bridged, 5090, &[&answered("PCMU", 23492), &done, PEER_HANGS_UP]).hears(74),
        Case::new(out_bridged, 5080, &[&other_party(21126)]),
        Case::new(single, 5090, &[&answered("PCMU", 28564), &refused, WE_HANG_UP]),
        Case::new(unknown, 5090, &[&answered("PCMU", 27940), &into_nothing, PEER_HANGS_UP]),
        Case::new(unknown, 5080, &[&other_party(20648), &target_unknown]),
    ]
}

#[test]
fn transfers_end_as_freeswitch_says() {
    check(&cases());
}
