//! Calls that nobody answers: refused, cancelled, without an end.

use std::time::Instant;

use tandem_sip::{
    LocalMedia, LocalSecurity, SipSettings,
    message::Message,
    offline::{OfflineAgent, Outcome},
};

use crate::{
    capture::Capture,
    case::{Case, check},
    replay::{Replay, Seat},
    script,
};

/// We call FreeSWITCH and are refused.
fn refused_by_freeswitch(file: &'static str, call: usize, status: u16) -> Case {
    let story = format!(
        "
        * call
        > INVITE [0 8 9 111 101 110 13 sendrecv] 1800
        < 100 INVITE
        < {status} INVITE
        > ACK
        ! failed {status}"
    );
    Case::new(file, 5099, &[&story]).call(call)
}

/// FreeSWITCH calls us and we refuse.
fn refused_by_us(file: &'static str, status: u16, cause: &str) -> Case {
    let story = format!(
        "
        < INVITE [0 101 13 sendrecv] 1800/uac
        > 100 INVITE
        ! called agent by 15550100 offering PCMU
        * reject {status}
        > {status} INVITE
        ! hung up {cause}
        < ACK"
    );
    Case::new(file, 5090, &[&story])
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = vec![
        refused_by_freeswitch("sip/in_busy_reject_unknown", 0, 486),
        refused_by_freeswitch("sip/in_busy_reject_unknown", 1, 603),
        refused_by_freeswitch("sip/in_busy_reject_unknown", 2, 404),
        refused_by_freeswitch("sip/in_no_common_codec_488", 0, 488),
        refused_by_us("sip/out_busy486", 486, "USER_BUSY"),
        refused_by_us("sip/out_decline603", 603, "CALL_REJECTED"),
        refused_by_us("sip/out_notfound404", 404, "UNALLOCATED_NUMBER"),
        refused_by_us("sip/out_unavail480", 480, "NO_USER_RESPONSE"),
        refused_by_us("sip/out_srv503", 503, "NORMAL_TEMPORARY_FAILURE"),
        refused_by_us("sip/out_notacc488", 488, "INCOMPATIBLE_DESTINATION"),
        refused_by_us("sip/out_redirect302", 302, "NORMAL_UNSPECIFIED"),
    ];
    cases.extend([
        Case::new(
            "sip/in_no_common_codec_488",
            5060,
            &["< INVITE [18 101 sendrecv]
               > 488 INVITE
               < ACK"],
        ),
        Case::new(
            "sip/in_invite_without_sdp_480",
            5099,
            &["* call
               > INVITE [0 8 9 111 101 110 13 sendrecv] 1800
               < 480 INVITE
               > ACK
               ! failed 480"],
        ),
        // FreeSWITCH follows the redirection to its other profile; there we take the call.
        Case::new(
            "sip/out_redirect302",
            5080,
            &["< INVITE [0 101 sendrecv] 1800/uac
               > 100 INVITE
               ! called 1001 by 15550100 offering PCMU
               * accept
               > 200 INVITE [0 101 sendrecv] 1800/uac
               ! media PCMU to 27948, events 101, 20 ms, sendrecv
               ! answered
               < ACK"],
        ),
        Case::new(
            "sip/out_cancel_no_answer",
            5090,
            &["< INVITE [0 101 13 sendrecv] 1800/uac
               > 100 INVITE
               ! called agent by 15550100 offering PCMU
               * progress
               > 180 INVITE
               < CANCEL
               > 200 CANCEL
               > 487 INVITE
               ! cancelled
               < ACK"],
        ),
        Case::new(
            "sip/in_cancel_while_ringing",
            5099,
            &["* call
               > INVITE [0 8 9 111 101 110 13 sendrecv] 1800
               < 100 INVITE
               < 180 INVITE
               ! ringing
               * hang up NO_ANSWER
               > CANCEL
               ! hung up NO_ANSWER
               < 200 CANCEL
               < 487 INVITE
               > ACK"],
        ),
        Case::new(
            "sip/in_cancel_while_ringing",
            5060,
            &["< INVITE [0 101 sendrecv]
               > 100 INVITE
               ! called 9013 by caller offering PCMU
               * progress
               > 180 INVITE
               < CANCEL
               > 200 CANCEL
               > 487 INVITE
               ! cancelled
               < ACK"],
        ),
        Case::new("sip/out_no_response_invite_retransmits", 5091, &[UNANSWERED]),
    ]);
    cases
}

/// The same INVITE twice is one call.
const UNANSWERED: &str = "< INVITE [102 9 0 8 103 104 101 13 sendrecv] 1800/uac
    > 100 INVITE
    ! called agent by 0000000000 offering opus, G722, PCMU, PCMA
    < INVITE [102 9 0 8 103 104 101 13 sendrecv] 1800/uac
    > 100 INVITE";

#[test]
fn calls_that_nobody_answers() {
    check(&cases());
}

#[test]
fn a_call_that_is_left_ringing_ends_by_itself() {
    let capture = Capture::read("sip/out_no_response_invite_retransmits");
    let mut replay = Replay::run(&capture, Seat { port: 5091, call: 0 });
    replay.wait(SipSettings::default().ring_timeout);
    assert_eq!(replay.story[5..], ["> 480 INVITE", "! hung up NO_ANSWER"]);
}

/// FreeSWITCH refuses an INVITE without an offer; we answer it with ours.
#[test]
fn an_invite_without_an_offer_is_answered_with_one() {
    let capture = Capture::read("sip/in_invite_without_sdp_480");
    let invite = &capture.datagrams[0];
    let mut now = Instant::now();
    let mut agent = OfflineAgent::new(now, invite.to, SipSettings::default(), 7);
    agent.handle_datagram(now, invite.from, &invite.bytes);
    let mut said = Vec::new();
    let mut call = None;
    let mut take = |agent: &mut OfflineAgent, said: &mut Vec<String>| {
        while let Some(outcome) = agent.poll_outcome() {
            match outcome {
                Outcome::Sent { message, .. } => said.push(script::line(&message)),
                Outcome::Invited(invitation) => call = Some(invitation.id),
                Outcome::Event { .. } => {}
            }
        }
        call
    };
    let call = take(&mut agent, &mut said).expect("it is a call");
    let local = LocalMedia {
        address: invite.to.ip(),
        rtp_port: 6000,
        rtcp_port: 6001,
        codecs: SipSettings::default().codecs,
        security: LocalSecurity::default(),
    };
    agent.accept(now, call, local);
    take(&mut agent, &mut said);
    assert_eq!(said, ["100 INVITE", "200 INVITE [0 8 9 111 101 110 13 sendrecv] 1800/uas"]);
    // The recorded caller acknowledges a refusal, which is no answer to our offer.
    let ack = capture.datagrams.last().unwrap();
    assert!(matches!(ack.message(), Message::Request(_)));
    agent.handle_datagram(now, ack.from, &ack.bytes);
    while let Some(at) = agent.poll_timeout() {
        now = at;
        agent.handle_timeout(now);
        take(&mut agent, &mut said);
    }
    assert_eq!(said.last().unwrap(), "BYE");
}
