//! Calls that are answered and hung up.

use std::time::Duration;

use crate::{
    capture::Capture,
    case::{Case, PEER_HANGS_UP, WE_HANG_UP, answered, check, placed, placed_and_rang},
    replay::{Replay, Seat},
};

const TIMER: &str = "sip/out_session_timer_refresh";

/// The recorded user agent shortened the session interval to 120 s.
fn short_session() -> String {
    answered("PCMU", 25530)
        .replace("> 200 INVITE [0 101 13 sendrecv] 1800", "> 200 INVITE [0 101 13 sendrecv] 120")
}

pub(crate) fn cases() -> Vec<Case> {
    // We would rather have PCMU; the recorded user agent took PCMA of the same offer. What comes is heard all the same.
    let whole_offer = answered("PCMU", 20076)
        .replacen("[0 101 13 sendrecv]", "[102 9 0 8 103 104 101 13 sendrecv]", 1)
        .replace("15550100 offering PCMU", "0000000000 offering opus, G722, PCMU, PCMA");
    let bridge = "sip/in_9002_bridged_to_uas";
    let bridged = answered("PCMU", 25488).replace("15550100", "caller");
    vec![
        Case::new("sip/out_pcmu_fs_bye", 5090, &[&answered("PCMU", 25374), PEER_HANGS_UP])
            .hears(150),
        Case::new("sip/out_pcma_fs_bye", 5090, &[&answered("PCMA", 21496), PEER_HANGS_UP])
            .hears(150),
        Case::new("sip/out_pcmu_uas_bye", 5090, &[&answered("PCMU", 29808), WE_HANG_UP]).hears(125),
        Case::new("sip/out_default_codecs_offer", 5090, &[&whole_offer, PEER_HANGS_UP]).hears(60),
        // 180 in the place of 183: what FreeSWITCH sends before the answer is not for the model.
        Case::new("sip/out_early_media_183", 5090, &[&answered("PCMU", 26588), PEER_HANGS_UP])
            .hears(36),
        Case::new("sip/in_9001_tone_caller_bye", 5099, &[&placed("PCMU", 22144), WE_HANG_UP])
            .hears(100),
        Case::new("sip/in_9004_echo_pcma_fs_bye", 5099, &[&placed("PCMA", 23158), PEER_HANGS_UP])
            .hears(98),
        Case::new(bridge, 5099, &[&placed_and_rang("PCMU", 27962), WE_HANG_UP]).hears(123),
        Case::new(bridge, 5090, &[&bridged, PEER_HANGS_UP]).hears(123),
        Case::new("e2e/9000_fork_mono16k", 5099, &[&placed("PCMU", 26368), WE_HANG_UP]),
        Case::new("e2e/stream_mono16k", 5099, &[&placed("PCMU", 26560), WE_HANG_UP]),
        Case::new(
            TIMER,
            5090,
            &[
                &short_session(),
                "< INVITE [0 101 13 sendrecv] 1800/uac
                 > 200 INVITE [0 101 13 sendrecv] 120/uac
                 < ACK",
                PEER_HANGS_UP,
            ],
        ),
    ]
}

#[test]
fn calls_are_answered_and_hung_up() {
    check(&cases());
}

#[test]
fn a_session_that_freeswitch_does_not_refresh_is_given_up() {
    let mut capture = Capture::read(TIMER);
    capture.datagrams.retain(|datagram| datagram.at < Duration::from_secs(60));
    let mut replay = Replay::run(&capture, Seat { port: 5090, call: 0 });
    let before = replay.story.len();
    // A third of the interval or 32 s before its end (RFC 4028 §10), of which 40 s are over.
    replay.wait(Duration::from_secs(47));
    assert_eq!(replay.story.len(), before, "{:?}", replay.story);
    replay.wait(Duration::from_secs(2));
    assert_eq!(replay.story[before..], ["> BYE", "! hung up RECOVERY_ON_TIMER_EXPIRE"]);
}
