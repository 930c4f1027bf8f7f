//! Calls we place.

use super::*;

const ANSWER: &str = "v=0
o=- 9 1 IN IP4 198.51.100.7
s=-
c=IN IP4 198.51.100.7
m=audio 24680 RTP/AVP 0 101
a=rtpmap:101 telephone-event/8000
";

fn call(world: &mut World, credentials: Option<Credential>) -> Sent {
    let call = OutgoingCall {
        uri: "sip:2000@198.51.100.7:5080".into(),
        from: "\"Tester\" <sip:1000@203.0.113.20>".into(),
        local: local(),
        headers: vec![("X-Run".into(), "7".into())],
        credentials,
    };
    let arrival = world.arrival();
    world.agent.call(world.now, DialogId(1 << 63), arrival, call);
    let done = world.drain();
    sent(&done).remove(0)
}

const CONTACT: (&str, &str) = ("Contact", "<sip:pbx@198.51.100.8:5070>");

fn answered(world: &mut World) -> Sent {
    let invite = call(world, None);
    world.respond(&invite, 100, "", &[], "");
    world.respond(
        &invite,
        200,
        "callee",
        &[CONTACT, ("Record-Route", "<sip:b@h;lr>, <sip:a@h;lr>")],
        ANSWER,
    );
    invite
}

#[test]
fn a_call_rings_is_answered_and_acknowledged_each_time_the_answer_comes() {
    let mut world = World::new(settings());
    let invite = call(&mut world, None);
    assert_eq!(invite.request.uri.to_string(), "sip:2000@198.51.100.7:5080");
    assert_eq!(invite.request.headers.get("X-Run"), Some("7"));
    assert!(String::from_utf8_lossy(&invite.request.body).contains("RTP/AVP 0 8 101"));
    assert!(events(&world.respond(&invite, 100, "", &[], "")).is_empty());
    assert_eq!(events(&world.respond(&invite, 180, "callee", &[], "")), [&DialogEvent::Ringing]);
    assert!(events(&world.respond(&invite, 183, "callee", &[], "")).is_empty(), "once");
    let routes = ("Record-Route", "<sip:b@h;lr>, <sip:a@h;lr>");
    let done = world.respond(&invite, 200, "callee", &[CONTACT, routes], ANSWER);
    let ack = acks(&done)[0];
    assert_eq!(ack.uri.to_string(), "sip:pbx@198.51.100.8:5070");
    assert_eq!(
        ack.headers.list("Route").collect::<Vec<_>>(),
        ["<sip:a@h;lr>", "<sip:b@h;lr>"],
        "reversed"
    );
    assert_eq!(ack.to().unwrap().tag(), Some("callee"));
    assert!(matches!(events(&done)[0], DialogEvent::Media(params) if params.codec == Codec::PCMU));
    assert_eq!(events(&done)[1], &DialogEvent::Signal(SignalEvent::Answered));
    let again = world.respond(&invite, 200, "callee", &[CONTACT, routes], ANSWER);
    assert_eq!(acks(&again).len(), 1);
    assert!(events(&again).is_empty());
    let done = world.order(Order::HangUp(HangupCause::NormalClearing));
    let bye = sent(&done).remove(0);
    assert_eq!(bye.request.cseq(), Ok(2));
    world.respond(&bye, 200, "callee", &[], "");
    assert_eq!(world.agent.dialogs(), 0);
}

#[test]
fn a_second_branch_that_answers_is_released() {
    let mut world = World::new(settings());
    let invite = answered(&mut world);
    let done =
        world.respond(&invite, 200, "other", &[("Contact", "<sip:fork@198.51.100.9>")], ANSWER);
    assert_eq!(acks(&done)[0].to().unwrap().tag(), Some("other"));
    let bye = &sent(&done)[0];
    assert_eq!((bye.request.method.clone(), bye.to.host.as_str()), (Method::Bye, "198.51.100.9"));
    assert_eq!(bye.request.to().unwrap().tag(), Some("other"));
    assert!(events(&done).is_empty());
    let done = world.order(Order::HangUp(HangupCause::NormalClearing));
    assert_eq!(
        sent(&done)[0].request.to().unwrap().tag(),
        Some("callee"),
        "the first branch is untouched"
    );
}

#[test]
fn challenges_are_answered_once() {
    let user = Credential { username: "pbx1".into(), password: "s3cret".into() };
    let challenge = ("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"");
    let mut world = World::new(settings());
    let invite = call(&mut world, Some(user.clone()));
    let done = world.respond(&invite, 401, "x", &[challenge], "");
    let again = sent(&done).remove(0);
    assert_eq!(again.request.cseq(), Ok(2));
    assert!(again.request.headers.get("Authorization").unwrap().contains("username=\"pbx1\""));
    let done = world.respond(&again, 200, "callee", &[CONTACT], ANSWER);
    assert!(acks(&done)[0].headers.get("Authorization").is_some());
    assert_eq!(acks(&done)[0].headers.get("CSeq"), Some("2 ACK"));

    let mut world = World::new(settings());
    let invite = call(&mut world, Some(user));
    let done = world.respond(&invite, 401, "x", &[challenge], "");
    let again = sent(&done).remove(0);
    let done = world.respond(
        &again,
        401,
        "x",
        &[("WWW-Authenticate", "Digest realm=\"r\", nonce=\"n2\"")],
        "",
    );
    assert!(matches!(events(&done)[0], DialogEvent::Failed { status: 401, .. }));
    assert_eq!(world.agent.dialogs(), 0);
}

#[test]
fn a_longer_session_interval_is_tried() {
    let mut world = World::new(settings());
    let invite = call(&mut world, None);
    let done = world.respond(&invite, 422, "x", &[("Min-SE", "3600")], "");
    let again = sent(&done).remove(0);
    assert_eq!(again.request.headers.get("Session-Expires"), Some("3600"));
    assert_eq!(again.request.headers.get("Min-SE"), Some("3600"));
    let endless = World::new(settings()).refused_forever();
    assert!(endless <= 3, "{endless} tries");
}

impl World {
    fn refused_forever(mut self) -> usize {
        let mut invite = call(&mut self, None);
        for tries in 1..20 {
            let done = self.respond(&invite, 422, "x", &[("Min-SE", "3600")], "");
            match sent(&done).pop() {
                Some(again) => invite = again,
                None => return tries,
            }
        }
        20
    }
}

#[test]
fn a_call_is_given_up_only_after_a_provisional_response() {
    let mut world = World::new(settings());
    let invite = call(&mut world, None);
    let done = world.order(Order::HangUp(HangupCause::NormalClearing));
    assert_eq!(events(&done), [&hung_up(HangupCause::NormalClearing)]);
    assert!(!done.iter().any(|it| matches!(it, Action::Cancel { .. })));
    let done = world.respond(&invite, 100, "", &[], "");
    assert!(
        done.iter()
            .any(|it| matches!(it, Action::Cancel { invite: id, .. } if *id == invite.transaction))
    );
    assert!(events(&world.respond(&invite, 487, "callee", &[], "")).is_empty());
    assert_eq!(world.agent.dialogs(), 0);
}

#[test]
fn an_answer_that_crosses_the_cancel_is_acknowledged_and_hung_up() {
    let mut world = World::new(settings());
    let invite = call(&mut world, None);
    world.respond(&invite, 180, "callee", &[], "");
    world.order(Order::HangUp(HangupCause::NormalClearing));
    let done = world.respond(&invite, 200, "callee", &[CONTACT], ANSWER);
    assert_eq!(acks(&done).len(), 1);
    assert_eq!(sent(&done)[0].request.method, Method::Bye);
    assert!(events(&done).is_empty());
}

#[test]
fn a_cancelled_call_without_a_final_response_is_forgotten() {
    let mut world = World::new(settings());
    let invite = call(&mut world, None);
    world.respond(&invite, 180, "callee", &[], "");
    world.order(Order::HangUp(HangupCause::NormalClearing));
    let (times, done) = timed(world.pass(secs(60)));
    assert_eq!(times, [secs(32)]);
    assert!(matches!(done[0], Action::Abandon(id) if id == invite.transaction));
    assert_eq!(world.agent.dialogs(), 0);
}

#[test]
fn an_answer_without_a_session_is_hung_up() {
    for body in
        ["", "v=0\no=- 1 1 IN IP4 1.2.3.4\ns=-\nc=IN IP4 1.2.3.4\nm=audio 0 RTP/AVP 0\n", "hello"]
    {
        let mut world = World::new(settings());
        let invite = call(&mut world, None);
        let done = world.respond(&invite, 200, "callee", &[CONTACT], body);
        assert_eq!(acks(&done).len(), 1);
        assert_eq!(sent(&done)[0].request.method, Method::Bye);
        assert_eq!(events(&done), [&hung_up(HangupCause::IncompatibleDestination)]);
    }
}

#[test]
fn hold_meets_the_peers_own_offer() {
    let mut world = World::new(settings());
    answered(&mut world);
    let done = world.order(Order::Hold(true));
    let hold = sent(&done).remove(0);
    assert!(String::from_utf8_lossy(&hold.request.body).contains("a=sendonly"));
    let tag = hold.request.from().unwrap().tag().unwrap().to_owned();
    let theirs = with_body(
        &format!(
            "INVITE sip:tandem@203.0.113.20 SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bKx\nFrom: <sip:2000@h>;tag=callee\nTo: <sip:1000@h>;tag={tag}\nCall-ID: {}\nCSeq: 1 INVITE\nContent-Type: application/sdp\n",
            hold.request.call_id().unwrap()
        ),
        ANSWER,
    );
    assert_eq!(statuses(&world.receive(&theirs)), [491]);
    world.respond(&hold, 491, "callee", &[], "");
    let (times, done) = timed(world.pass(secs(5)));
    assert!(times[0] >= millis(2100) && times[0] <= secs(4), "{times:?}");
    let hold = sent(&done).remove(0);
    let done = world.respond(
        &hold,
        200,
        "callee",
        &[CONTACT],
        &ANSWER.replace("c=IN", "a=recvonly\nc=IN"),
    );
    assert_eq!(acks(&done).len(), 1);
    assert!(
        matches!(events(&done)[..], [DialogEvent::Media(params)] if params.direction == tandem_rtp::Direction::SendOnly)
    );
}

#[test]
fn the_callee_hangs_up() {
    let mut world = World::new(settings());
    let invite = answered(&mut world);
    let tag = invite.request.from().unwrap().tag().unwrap().to_owned();
    let bye = with_body(
        &format!(
            "BYE sip:tandem@203.0.113.20 SIP/2.0\nVia: SIP/2.0/UDP h;branch=z9hG4bKb\nFrom: <sip:2000@h>;tag=callee\nTo: <sip:1000@h>;tag={tag}\nCall-ID: {}\nCSeq: 1 BYE\n",
            invite.request.call_id().unwrap()
        ),
        "",
    );
    let done = world.receive(&bye);
    assert_eq!(
        (statuses(&done), events(&done)),
        (vec![200], vec![&hung_up(HangupCause::NormalClearing)])
    );
    assert_eq!(world.agent.dialogs(), 0);
}
