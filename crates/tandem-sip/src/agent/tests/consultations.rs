//! Calls beside a call, whose far end takes the first one's caller.

use tandem_call::{Party, TransferOutcome};

use super::*;
use crate::{Consultation, uri::escape};

const ANSWER: &str = "v=0
o=- 9 1 IN IP4 198.51.100.7
s=-
c=IN IP4 198.51.100.7
m=audio 24690 RTP/AVP 0 101
a=rtpmap:101 telephone-event/8000
";
const CONTACT: (&str, &str) = ("Contact", "<sip:2001@198.51.100.7:5080;ob>");
const CONSULTED: DialogId = DialogId(1 << 63);

fn consultation(kind: TransferKind, target: &str) -> Consultation {
    Consultation {
        target: TransferTarget::new(kind, target),
        caller: Party { number: Some("491701234567".into()), name: Some("Erika".into()) },
        local: local(),
        headers: vec![
            ("X-Tandem-Reason".into(), "billing".into()),
            ("Contact".into(), "<sip:evil@h>".into()),
        ],
        credentials: None,
    }
}

/// An answered call, and the INVITE of the one beside it.
fn consulting(
    settings: SipSettings,
    consultation: Consultation,
) -> (World, String, DialogId, Sent) {
    let (mut world, tag) = World::answered("", settings);
    let caller = *world.agent.dialogs.keys().next().expect("a dialog");
    let elsewhere = world.agent.consult(world.now, caller, CONSULTED, consultation);
    assert!(elsewhere.is_none());
    let done = world.drain();
    (world, tag, caller, sent(&done).remove(0))
}

/// The same with the one beside it answered.
fn consulted() -> (World, String, DialogId, Sent) {
    let (mut world, tag, caller, invite) =
        consulting(settings(), consultation(TransferKind::Extension, "2001"));
    world.respond(&invite, 100, "", &[], "");
    let done = world.respond(&invite, 200, "desk", &[CONTACT], ANSWER);
    assert_eq!(acks(&done).len(), 1);
    (world, tag, caller, invite)
}

fn transfer_to(world: &mut World, caller: DialogId) -> Vec<Action> {
    let headers = vec![("X-Tandem-Reason".into(), "billing".into())];
    world.order_to(caller, Order::TransferTo(CONSULTED, headers, secs(10)))
}

fn transfers(done: &[Action]) -> Vec<TransferOutcome> {
    events(done)
        .into_iter()
        .filter_map(|event| match event {
            DialogEvent::Signal(SignalEvent::Transfer(outcome)) => Some(outcome.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn who_is_asked_is_called_the_way_the_call_came() {
    let (_, _, _, invite) = consulting(settings(), consultation(TransferKind::Extension, "2001"));
    let request = &invite.request;
    assert_eq!(request.uri.to_string(), "sip:2001@198.51.100.7");
    assert_eq!((invite.to.host.as_str(), invite.to.port), ("198.51.100.7", Some(5080)));
    let from = request.from().unwrap();
    assert_eq!(from.display.as_deref(), Some("Erika"));
    assert_eq!(from.uri.to_string(), "sip:491701234567@203.0.113.20");
    assert_eq!(request.headers.get("X-Tandem-Reason"), Some("billing"));
    assert_eq!(request.headers.get("Contact"), Some("<sip:tandem@203.0.113.20:5060>"));
    assert_ne!(request.call_id().unwrap(), "call-1");
}

#[test]
fn a_caller_behind_nat_or_a_proxy_has_who_is_asked_called_through_it() {
    for (contact, route, host, port) in [
        ("sip:pbx@10.1.2.3:5060", "", "198.51.100.7", Some(5080)),
        ("sip:pbx@198.51.100.99:5062", "", "198.51.100.99", Some(5062)),
        ("sip:pbx@198.51.100.99:5062", "<sip:198.51.100.7:5070;lr>", "198.51.100.7", Some(5070)),
    ] {
        let mut world = World::new(settings());
        let record =
            if route.is_empty() { String::new() } else { format!("Record-Route: {route}\n") };
        let text = invite(&record, OFFER).replace("sip:mod_sofia@198.51.100.7:5080", contact);
        world.receive(&text);
        let done = world.order(Order::Accept(local()));
        let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
        world.receive(&world.within(&tag, "ACK", 100, "", ""));
        let caller = *world.agent.dialogs.keys().next().expect("a dialog");
        let to = consultation(TransferKind::Extension, "2001");
        assert!(world.agent.consult(world.now, caller, CONSULTED, to).is_none());
        let invite = sent(&world.drain()).remove(0);
        assert_eq!((invite.to.host.as_str(), invite.to.port), (host, port), "{contact} {route}");
        assert_eq!(invite.request.headers.get("Route"), None, "the route set is the call's own");
        world.respond(&invite, 100, "", &[], "");
        let done = world.respond(&invite, 200, "desk", &[CONTACT], ANSWER);
        assert_eq!(acks(&done)[0].uri.to_string(), "sip:2001@198.51.100.7:5080;ob");
    }
}

#[test]
fn another_host_is_called_where_its_uri_says() {
    for target in
        ["sip:desk@192.0.2.7", "sip:desk@198.51.100.7:5090", "sip:desk@198.51.100.7;transport=tcp"]
    {
        let (mut world, _) = World::answered("", settings());
        let caller = *world.agent.dialogs.keys().next().expect("a dialog");
        let to = consultation(TransferKind::Sip, target);
        let call = world.agent.consult(world.now, caller, CONSULTED, to).expect("it is elsewhere");
        assert_eq!(call.uri, target);
        assert!(world.drain().is_empty());
    }
}

#[test]
fn what_cannot_be_called_fails_at_once() {
    let (mut world, _) = World::answered("", settings());
    let caller = *world.agent.dialogs.keys().next().expect("a dialog");
    for (of, target) in [(caller, "sip:a b@h"), (DialogId(77), "sip:a@h")] {
        let to = consultation(TransferKind::Sip, target);
        assert!(world.agent.consult(world.now, of, CONSULTED, to).is_none());
        let done = world.drain();
        assert!(matches!(events(&done)[..], [DialogEvent::Failed { status: 400, .. }]), "{done:?}");
    }
}

#[test]
fn a_summary_that_does_not_fit_is_left_out() {
    let mut to = consultation(TransferKind::Extension, "2001");
    to.headers.push(("X-Tandem-Summary".into(), "x".repeat(1_000)));
    let (_, _, _, invite) = consulting(settings(), to);
    assert_eq!(invite.request.headers.get("X-Tandem-Summary"), None);
    assert_eq!(invite.request.headers.get("X-Tandem-Reason"), Some("billing"));
}

#[test]
fn a_challenge_is_answered_the_same_way() {
    let mut to = consultation(TransferKind::Extension, "2001");
    to.credentials = Some(Credential { username: "ai".into(), password: "s3cret".into() });
    let (mut world, _, _, invite) = consulting(settings(), to);
    let challenge = ("Proxy-Authenticate", "Digest realm=\"r\", nonce=\"n1\", qop=\"auth\"");
    let again = sent(&world.respond(&invite, 407, "x", &[challenge], "")).remove(0);
    assert!(again.request.headers.get("Proxy-Authorization").unwrap().contains("\"ai\""));
    assert_eq!(again.to, invite.to);
}

#[test]
fn the_refer_names_the_dialog_as_the_far_end_sees_it_and_both_calls_end_in_order() {
    let (mut world, tag, caller, invite) = consulted();
    let refer = sent(&transfer_to(&mut world, caller)).remove(0);
    let ours = invite.request.from().unwrap().tag().unwrap().to_owned();
    let call_id = escape(invite.request.call_id().unwrap(), "");
    assert_eq!(
        refer.request.headers.get("Refer-To"),
        Some(
            format!(
                "<sip:2001@198.51.100.7:5080;ob?Replaces={call_id}%3Bto-tag%3Ddesk%3Bfrom-tag%3D{ours}>"
            )
            .as_str()
        )
    );
    assert_eq!(refer.request.call_id(), Ok("call-1"), "in the caller's dialog");
    assert_eq!(refer.request.headers.get("X-Tandem-Reason"), Some("billing"));
    world.respond(&refer, 202, "caller", &[], "");
    let frag = "Event: refer\nSubscription-State: terminated\nContent-Type: message/sipfrag\n";
    let done = world.receive(&world.within(&tag, "NOTIFY", 101, frag, "SIP/2.0 200 OK\n"));
    assert_eq!(transfers(&done), [TransferOutcome::Completed]);
    assert_eq!(world.agent.dialogs(), 2, "who was asked is let go of by their owner");
    let (_, done) = timed(world.pass(secs(5)));
    let [bye] = &sent(&done)[..] else { panic!("{done:?}") };
    assert_eq!(bye.request.call_id(), Ok("call-1"));
    world.respond(bye, 200, "caller", &[], "");
    let bye =
        sent(&world.order_to(CONSULTED, Order::HangUp(HangupCause::NormalClearing))).remove(0);
    world.respond(&bye, 200, "desk", &[], "");
    assert_eq!(world.agent.dialogs(), 0);
}

#[test]
fn a_refer_that_is_refused_or_comes_to_nothing_leaves_both_calls_up() {
    for (name, answer, frag, status) in [
        ("refused", Some(603), None, Some(603)),
        ("not known", Some(405), None, Some(405)),
        (
            "not replaced",
            Some(202),
            Some("SIP/2.0 481 Call/Transaction Does Not Exist\n"),
            Some(481),
        ),
        ("silent", Some(202), None, None),
        ("not even answered", None, None, None),
    ] {
        let (mut world, tag, caller, _) = consulted();
        let refer = sent(&transfer_to(&mut world, caller)).remove(0);
        let mut done = Vec::new();
        if let Some(answer) = answer {
            done.extend(world.respond(&refer, answer, "caller", &[], ""));
        }
        if let Some(frag) = frag {
            let head = "Event: refer;id=1\nSubscription-State: terminated\nContent-Type: message/sipfrag\n";
            done.extend(world.receive(&world.within(&tag, "NOTIFY", 101, head, frag)));
        }
        done.extend(timed(world.pass(secs(10))).1);
        let outcomes = transfers(&done);
        assert!(
            matches!(&outcomes[..], [TransferOutcome::Failed { status: got, .. }] if *got == status),
            "{name}: {outcomes:?}"
        );
        assert_eq!(world.agent.dialogs(), 2, "{name}");
    }
}

#[test]
fn nobody_is_handed_to_a_call_that_is_not_up() {
    let (mut world, _, caller, _) =
        consulting(settings(), consultation(TransferKind::Extension, "2001"));
    assert!(matches!(
        transfers(&transfer_to(&mut world, caller))[..],
        [TransferOutcome::Failed { .. }]
    ));
    let (mut world, _, caller, invite) = consulted();
    let bye = with_body(
        &format!(
            "BYE sip:tandem@203.0.113.20:5060 SIP/2.0
Via: SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bKbyedesk
From: <sip:2001@198.51.100.7>;tag=desk
To: <sip:491701234567@203.0.113.20>;tag={}
Call-ID: {}
CSeq: 1 BYE
",
            invite.request.from().unwrap().tag().unwrap(),
            invite.request.call_id().unwrap(),
        ),
        "",
    );
    assert_eq!(statuses(&world.receive(&bye)), [200]);
    assert!(matches!(
        transfers(&transfer_to(&mut world, caller))[..],
        [TransferOutcome::Failed { .. }]
    ));
}
