use std::time::Duration;

use tandem_call::SignalEvent;
use tandem_media::Codec;

use super::*;
use crate::LocalSecurity;

const PEER: &str = "127.0.0.1:5060";
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
                     m=audio 24680 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\n";

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

struct World {
    agent: OfflineAgent,
    now: Instant,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        let local = address("127.0.0.1:5090");
        Self { agent: OfflineAgent::new(now, local, SipSettings::default(), 7), now }
    }

    fn receive(&mut self, text: &str) -> Vec<Outcome> {
        self.agent.handle_datagram(self.now, address(PEER), text.as_bytes());
        self.outcomes()
    }

    fn outcomes(&mut self) -> Vec<Outcome> {
        std::iter::from_fn(|| self.agent.poll_outcome()).collect()
    }
}

fn request(method: &str, branch: &str, to_tag: &str, cseq: &str, body: &str) -> String {
    format!(
        "{method} sip:agent@127.0.0.1:5090 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.1;branch=z9hG4bK{branch}\r\n\
         From: <sip:1@127.0.0.1>;tag=a\r\nTo: <sip:agent@127.0.0.1>{to_tag}\r\nCall-ID: c\r\n\
         CSeq: {cseq}\r\nContact: <sip:1@127.0.0.1>\r\nContent-Type: application/sdp\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn local() -> LocalMedia {
    LocalMedia {
        address: "127.0.0.1".parse().unwrap(),
        rtp_port: 6000,
        rtcp_port: 6001,
        codecs: vec![Codec::PCMU],
        security: LocalSecurity::default(),
    }
}

/// Statuses and methods of what was sent.
fn said(outcomes: &[Outcome]) -> Vec<String> {
    outcomes
        .iter()
        .filter_map(|outcome| match outcome {
            Outcome::Sent { to, message } => {
                assert_eq!(*to, address(PEER));
                Some(match message {
                    Message::Request(request) => request.method.to_string(),
                    Message::Response(response) => response.status.to_string(),
                })
            }
            _ => None,
        })
        .collect()
}

fn sent_request(outcomes: &[Outcome]) -> Request {
    let mut requests = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Sent { message: Message::Request(request), .. } => Some(request.clone()),
        _ => None,
    });
    requests.next_back().expect("a request was sent")
}

fn invited(outcomes: &[Outcome]) -> DialogId {
    let mut calls = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Invited(call) => Some(call.id),
        _ => None,
    });
    calls.next_back().expect("a call came in")
}

#[test]
fn a_request_that_comes_again_gets_the_same_response_and_a_cancel_its_own() {
    let mut world = World::new();
    let invite = request("INVITE", "1", "", "1 INVITE", OFFER);
    let done = world.receive(&invite);
    assert_eq!(said(&done), ["100"]);
    world.agent.progress(world.now, invited(&done));
    assert_eq!(said(&world.outcomes()), ["180"]);
    assert_eq!(said(&world.receive(&invite)), ["180"]);
    let stray = request("CANCEL", "2", "", "1 CANCEL", "");
    assert_eq!(said(&world.receive(&stray)), ["481"]);
    let done = world.receive(&request("CANCEL", "1", "", "1 CANCEL", ""));
    assert_eq!(said(&done), ["200", "487"]);
    assert!(matches!(
        done.last(),
        Some(Outcome::Event { event: DialogEvent::Signal(SignalEvent::Cancelled), .. })
    ));
    assert!(said(&world.receive(&request("ACK", "1", ";tag=x", "1 ACK", ""))).is_empty());
    assert_eq!((world.agent.dialogs(), world.agent.stats().invited), (0, 1));
    assert!(world.receive("no SIP").is_empty());
    assert_eq!(world.agent.stats().malformed, 1);
}

#[test]
fn an_answered_call_repeats_its_200_and_is_hung_up() {
    let mut world = World::new();
    let call = invited(&world.receive(&request("INVITE", "1", "", "1 INVITE", OFFER)));
    world.agent.accept(world.now, call, local());
    assert_eq!(said(&world.outcomes()), ["200"]);
    world.now = world.agent.poll_timeout().expect("the 200 waits for its ACK");
    world.agent.handle_timeout(world.now);
    let done = world.outcomes();
    assert_eq!(said(&done), ["200"]);
    let Some(Outcome::Sent { message: Message::Response(ok), .. }) = done.first() else {
        panic!("{done:?}")
    };
    let tag = format!(";tag={}", ok.to().unwrap().tag().unwrap());
    assert!(world.receive(&request("ACK", "2", &tag, "1 ACK", "")).is_empty());
    world.agent.hang_up(world.now, call, HangupCause::NormalClearing);
    let done = world.outcomes();
    assert_eq!(said(&done), ["BYE"]);
    let ok = sent_request(&done).response(200, None).encode();
    assert!(world.receive(std::str::from_utf8(&ok).unwrap()).is_empty());
    assert_eq!(world.agent.dialogs(), 0);
}

#[test]
fn calls_of_ours_are_acknowledged_refused_and_cancelled() {
    let mut world = World::new();
    let call = OutgoingCall {
        uri: "sip:9001@127.0.0.1:5060".into(),
        from: "<sip:agent@127.0.0.1>".into(),
        local: local(),
        headers: Vec::new(),
        credentials: None,
    };
    let answer = |request: &Request, status, body: &str| {
        let mut response = request.response(status, Some("b"));
        response.headers.push("Contact", "<sip:9001@127.0.0.1:5060>");
        if !body.is_empty() {
            response.set_body("application/sdp", body);
        }
        String::from_utf8(response.encode()).unwrap()
    };
    world.agent.call(world.now, address(PEER), call.clone());
    let invite = sent_request(&world.outcomes());
    let busy = answer(&invite, 486, "");
    let done = world.receive(&busy);
    assert_eq!(said(&done), ["ACK"]);
    assert_eq!(sent_request(&done).via().unwrap().branch(), invite.via().unwrap().branch());

    let id = world.agent.call(world.now, address(PEER), call.clone());
    let invite = sent_request(&world.outcomes());
    world.receive(&answer(&invite, 180, ""));
    world.agent.hang_up(world.now, id, HangupCause::NormalClearing);
    let cancel = sent_request(&world.outcomes());
    assert_eq!(cancel.method, Method::Cancel);
    assert_eq!(cancel.via(), invite.via());
    assert!(said(&world.receive(&answer(&cancel, 200, ""))).is_empty());
    assert_eq!(said(&world.receive(&answer(&invite, 487, ""))), ["ACK"]);

    world.agent.call(world.now, address(PEER), call);
    let invite = sent_request(&world.outcomes());
    let ok = answer(&invite, 200, OFFER);
    assert_eq!(said(&world.receive(&ok)), ["ACK"]);
    world.now += Duration::from_millis(500);
    assert_eq!(said(&world.receive(&ok)), ["ACK"], "each 200 is acknowledged");
    assert_eq!(world.agent.dialogs(), 1);
}
