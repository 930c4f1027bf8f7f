//! Hold and resume by either side, and other requests within a call.

use std::time::Duration;

use tandem_media::SampleRate;

use crate::{
    capture::{Capture, Datagram},
    case::{Case, PEER_HANGS_UP, WE_HANG_UP, answered, check, placed, placed_and_rang},
    replay::{Replay, Seat},
};

const FRAME: Duration = Duration::from_millis(20);

/// We hold and resume; FreeSWITCH answers the hold with `answer`, so that `held` holds.
fn we_hold(port: u16, answer: &str, held: &str) -> String {
    format!(
        "
        * hold
        > INVITE [0 8 9 111 101 110 13 sendonly] 1800/uas
        < 100 INVITE
        < 200 INVITE [0 101 {answer}] 1800/uas
        > ACK
        ! media PCMU to {port}, events 101, 20 ms, {held}
        * resume
        > INVITE [0 8 9 111 101 110 13 sendrecv] 1800/uas
        < 100 INVITE
        < 200 INVITE [0 101 sendrecv] 1800/uas
        > ACK
        ! media PCMU to {port}, events 101, 20 ms, sendrecv"
    )
}

/// The peer holds and takes us back; its requests say `asked` of a session timer, our answers `timer`.
fn peer_holds(port: u16, asked: &str, timer: &str) -> String {
    format!(
        "
        < INVITE [0 101 sendonly]{asked}
        > 200 INVITE [0 101 recvonly] {timer}
        ! media PCMU to {port}, events 101, 20 ms, recvonly
        ! held
        < ACK
        < INVITE [0 101 sendrecv]{asked}
        > 200 INVITE [0 101 sendrecv] {timer}
        ! media PCMU to {port}, events 101, 20 ms, sendrecv
        ! taken back
        < ACK"
    )
}

pub(crate) fn cases() -> Vec<Case> {
    let caller_holds = "sip/in_caller_hold_unhold_update";
    let bridged_hold = "sip/in_9002_bridged_uas_hold";
    let bridged = answered("PCMU", 20306).replace("15550100", "caller");
    vec![
        Case::new(
            "sip/out_fs_hold_unhold",
            5090,
            &[&answered("PCMU", 23474), &peer_holds(23474, " 1800/uac", "1800/uac"), PEER_HANGS_UP],
        )
        .hears(121),
        Case::new(
            "sip/out_uas_hold_unhold",
            5090,
            &[&answered("PCMU", 22536), &we_hold(22536, "recvonly", "sendonly"), WE_HANG_UP],
        )
        .hears(110),
        // The recorded user agent asked for `inactive`, which we never do; we take it as the answer.
        Case::new(
            "sip/out_uas_hold_inactive",
            5090,
            &[&answered("PCMU", 21716), &we_hold(21716, "inactive", "inactive"), WE_HANG_UP],
        )
        .hears(70),
        Case::new(
            bridged_hold,
            5090,
            &[&bridged, &we_hold(20306, "recvonly", "sendonly"), WE_HANG_UP],
        ),
        Case::new(bridged_hold, 5099, &[&placed_and_rang("PCMU", 29296), PEER_HANGS_UP]),
        Case::new(
            caller_holds,
            5099,
            &[&placed("PCMU", 29800), &we_hold(29800, "recvonly", "sendonly"), WE_HANG_UP],
        )
        .hears(107),
        Case::new(
            caller_holds,
            5060,
            &[
                "< INVITE [0 101 sendrecv]
                 > 100 INVITE
                 ! called 9014 by caller offering PCMU
                 * accept
                 > 200 INVITE [0 101 sendrecv] 1800/uas
                 ! media PCMU to 50304, events 101, 20 ms, sendrecv
                 ! answered
                 < ACK",
                &peer_holds(50304, "", "1800/uas"),
                "< UPDATE
                 > 200 UPDATE 1800/uas
                 < INFO
                 > 200 INFO",
                PEER_HANGS_UP,
            ],
        )
        .hears(121),
    ]
}

#[test]
fn holds_of_either_side() {
    check(&cases());
}

#[test]
fn what_a_peer_plays_while_it_holds_us_is_not_for_the_model() {
    let capture = Capture::read("sip/out_uas_hold_unhold");
    let ours = |datagram: &&Datagram| datagram.from.port() == 6000;
    assert_eq!(capture.datagrams.iter().filter(ours).count(), 198);
    let replay = Replay::run(&capture, Seat { port: 5060, call: 0 });
    assert_eq!(replay.leg.packets, 123);
    let held = SampleRate::Hz8000.duration_of(replay.leg.silence);
    assert!(held.abs_diff(Duration::from_millis(3_086 - 1_610)) < FRAME, "{held:?}");
    assert_eq!(replay.leg.concealed, 0, "a hold is no loss");
}
