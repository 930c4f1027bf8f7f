//! Strangers, floods, nonsense, and everything that is answered without a dialog.

use proptest::prelude::*;
use tandem_call::Party;

use super::*;
use crate::Consultation;

#[test]
fn requests_outside_dialogs() {
    let wide = OFFER.replace("8 0 101", "18 101");
    let ip6 = OFFER.replace("c=IN IP4 198.51.100.7", "c=IN IP6 2001:db8::7");
    let options = invite("", "").replace("INVITE", "OPTIONS");
    for (name, text, expected, header) in [
        ("OPTIONS", options, 200, Some("Allow")),
        ("REGISTER", invite("", "").replace("INVITE", "REGISTER"), 405, Some("Allow")),
        ("SUBSCRIBE", invite("", "").replace("INVITE", "SUBSCRIBE"), 405, Some("Allow")),
        ("an unknown method", invite("", "").replace("INVITE", "NEWMETHOD"), 405, Some("Allow")),
        ("BYE", invite("", "").replace("INVITE", "BYE"), 481, None),
        ("NOTIFY", invite("", "").replace("INVITE", "NOTIFY"), 481, None),
        (
            "unknown extension",
            invite("Require: 100rel, precondition\n", OFFER),
            420,
            Some("Unsupported"),
        ),
        (
            "foreign body",
            invite("", OFFER).replace("application/sdp", "text/plain"),
            415,
            Some("Accept"),
        ),
        ("bad SDP", invite("", "v=1\n"), 400, None),
        ("no common codec", invite("", &wide), 488, Some("Warning")),
        ("media in another family", invite("", &ip6), 488, Some("Warning")),
        (
            "session too short",
            invite("Supported: timer\nSession-Expires: 30\n", OFFER),
            422,
            Some("Min-SE"),
        ),
        ("no Contact", invite("", OFFER).replace("Contact:", "X-Contact:"), 400, None),
        (
            "other scheme",
            invite("", OFFER)
                .replace("INVITE sip:4930555001@203.0.113.20:5060", "INVITE urn:service:sos"),
            416,
            None,
        ),
        ("no From tag", invite("", OFFER).replace(";tag=caller", ""), 400, None),
        ("bad CSeq", invite("", OFFER).replace("100 INVITE", "x INVITE"), 400, None),
    ] {
        let mut world = World::new(settings());
        let done = world.receive(&text);
        assert_eq!(statuses(&done), [expected], "{name}");
        let response = responses(&done)[0];
        assert!(header.is_none_or(|header| response.headers.get(header).is_some()), "{name}");
        assert!(response.to().unwrap().tag().is_some(), "{name}");
        assert!(Message::parse(&response.encode()).is_ok(), "{name}");
        assert_eq!(world.agent.dialogs(), 0, "{name}");
        assert!(
            done.iter().all(|it| matches!(it, Action::Reply { .. })),
            "{name}: nothing is kept"
        );
    }
}

#[test]
fn strangers_get_403_or_a_challenge_and_scanners_nothing() {
    let user = Credential { username: "pbx1".into(), password: "s3cret".into() };
    let closed = SipSettings::default();
    let open = SipSettings { users: vec![user], ..SipSettings::default() };
    let scanner = "User-Agent: friendly-scanner\n";
    let forged = "Authorization: Digest username=\"pbx1\", realm=\"tandem\", nonce=\"1-00\", uri=\"sip:x@y\", response=\"0\", qop=auth, nc=00000001, cnonce=\"c\"\n";
    for (name, settings, text, expected) in [
        ("no users", &closed, invite("", OFFER), vec![403]),
        ("no users, OPTIONS", &closed, invite("", "").replace("INVITE", "OPTIONS"), vec![403]),
        ("nonsense comes after", &closed, invite("Require: x\n", OFFER), vec![403]),
        ("users", &open, invite("", OFFER), vec![401]),
        ("users, OPTIONS", &open, invite("", "").replace("INVITE", "OPTIONS"), vec![200]),
        ("a scanner", &open, invite(scanner, OFFER), vec![]),
        ("a forged password", &open, invite(forged, OFFER), vec![401]),
    ] {
        let mut world = World::new(settings.clone());
        let done = world.receive(&text);
        assert_eq!(statuses(&done), expected, "{name}");
        assert!(invitations(&done).is_empty(), "{name}");
        if expected == [401] {
            let challenges: Vec<_> = responses(&done)[0].headers.all("WWW-Authenticate").collect();
            assert!(challenges[0].contains("SHA-256") && challenges[1].contains("MD5"), "{name}");
        }
        world.agent.handle_server_over(ServerId(1000));
        assert_eq!((world.agent.dialogs(), world.agent.unacked()), (0, 0), "{name}");
    }
}

/// The INVITE of a stranger that answers the challenge in `response`.
fn authorized(response: &Response, password: &str) -> String {
    let credential = Credential { username: "pbx1".into(), password: password.into() };
    let uri = "sip:4930555001@203.0.113.20:5060";
    let (name, value) =
        crate::digest::authorize(401, &response.headers, "INVITE", uri, &credential, "c").unwrap();
    invite(&format!("{name}: {value}\n"), OFFER)
}

#[test]
fn a_strangers_password_is_looked_at_only_with_a_nonce_of_ours() {
    let user = Credential { username: "pbx1".into(), password: "s3cret".into() };
    let mut world = World::new(SipSettings { users: vec![user], ..SipSettings::default() });
    let challenged = world.receive(&invite("", OFFER));
    let right = authorized(responses(&challenged)[0], "s3cret");
    let forged = right.replace("nonce=\"0-1-", "nonce=\"0-2-");
    assert_ne!(forged, right);
    for (name, text, at) in [("made up", &forged, 0), ("too old", &right, 62)] {
        world.pass(secs(at));
        let done = world.receive(text);
        assert!(matches!(done[..], [Action::Reply { .. }]), "{name}: nothing is kept: {done:?}");
        assert_eq!(statuses(&done), [401], "{name}");
        let challenge = responses(&done)[0].headers.get("WWW-Authenticate").unwrap();
        assert!(challenge.contains("stale=true"), "{name}");
    }
    assert_eq!((world.agent.unacked(), world.transactions.len()), (0, 0));

    for (tries, stateless) in [(1, false), (2, false), (3, false), (4, true)] {
        world.pass(secs(1));
        let challenged = world.receive(&invite("", OFFER));
        let branch = format!("z9hG4bKtry{tries}");
        let wrong = authorized(responses(&challenged)[0], "guess").replace("z9hG4bKinv1", &branch);
        let done = world.receive(&wrong);
        assert_eq!(statuses(&done), [if tries < 3 { 401 } else { 403 }], "{tries}");
        assert_eq!(matches!(done[..], [Action::Reply { .. }]), stateless, "{tries}");
    }
    world.pass(secs(62));
    let challenged = world.receive(&invite("", OFFER));
    let right = authorized(responses(&challenged)[0], "s3cret").replace("z9hG4bKinv1", "z9hG4bKr");
    assert_eq!(statuses(&world.receive(&right)), [100]);
}

#[test]
fn what_cannot_be_read_is_answered_where_it_can_be() {
    let good = invite("", OFFER);
    for (name, text, expected) in [
        ("Request-URI", good.replace("INVITE sip:4930555001@203.0.113.20:5060", "INVITE sip:@"), 1),
        ("blank in the URI", good.replace("INVITE sip:", "INVITE  sip:"), 1),
        ("a header without a name", good.replace("Max-Forwards:", "Max Forwards:"), 1),
        ("no colon", good.replace("Max-Forwards:", "Max-Forwards"), 1),
        ("too many headers", invite(&"X: y\n".repeat(300), OFFER), 1),
        ("body cut off", good[..good.len() - 9].to_owned(), 1),
        ("no Via", good.replace("INVITE sip:4930555001", "INVITE sip:@").replace("Via:", "X:"), 0),
        (
            "no From",
            good.replace("INVITE sip:4930555001", "INVITE sip:@").replace("From:", "X:"),
            0,
        ),
        (
            "ACK",
            good.replace("INVITE sip:4930555001@", "ACK sip:@@").replace("100 INVITE", "1 ACK"),
            0,
        ),
        ("a response", good.replace("INVITE sip:4930555001", "SIP/2.0 sip:@"), 0),
    ] {
        let mut world = World::new(settings());
        let done = world.receive(&text);
        assert_eq!(statuses(&done), vec![400; expected], "{name}");
        assert_eq!(world.agent.stats().malformed, 1, "{name}");
        for response in responses(&done) {
            assert!(Message::parse(&response.encode()).is_ok(), "{name}");
            assert_eq!(response.call_id(), Ok("call-1"), "{name}");
        }
    }
}

#[test]
fn a_repeated_invite_is_one_call_and_a_merged_one_is_refused() {
    let mut world = World::new(settings());
    let text = invite("", OFFER);
    world.receive(&text);
    assert!(world.receive(&text).is_empty(), "its transaction answers");
    let merged = world.receive(&text.replace("z9hG4bKinv1", "z9hG4bKinv2"));
    assert_eq!(statuses(&merged), [482]);
    world.order(Order::Accept(local()));
    assert!(world.receive(&text).is_empty());
    assert_eq!(world.agent.dialogs(), 1);
}

#[test]
fn a_bye_whose_answer_was_lost_reaches_its_transaction() {
    let (mut world, tag) = World::answered("", settings());
    let bye = world.within(&tag, "BYE", 101, "", "");
    assert_eq!(statuses(&world.receive(&bye)), [200]);
    assert!(world.receive(&bye).is_empty(), "its transaction answers again");
    world.pass(secs(33));
    world.agent.handle_timeout(world.now);
    assert_eq!(statuses(&world.receive(&bye)), [481], "half a minute later it is nobody's");
    assert!(world.agent.lingering.is_empty() && world.agent.lingering_order.is_empty());
}

#[test]
fn draining_and_full_refuse_new_calls_only() {
    let (mut world, tag) = World::answered("", settings());
    let fresh = invite("", OFFER).replace("call-1", "call-2").replace("inv1", "inv2");
    for (draining, full) in [(true, false), (false, true)] {
        world.agent.set_draining(draining);
        world.agent.set_full(full);
        for text in [fresh.clone(), fresh.replace("INVITE", "OPTIONS")] {
            let done = world.receive(&text);
            assert_eq!(statuses(&done), [503]);
            assert_eq!(responses(&done)[0].headers.get("Retry-After"), Some("5"));
        }
    }
    assert_eq!(statuses(&world.receive(&world.within(&tag, "OPTIONS", 101, "", ""))), [200]);
    world.agent.set_full(false);
    assert_eq!(statuses(&world.receive(&fresh)), [100]);
}

#[test]
fn floods_meet_a_rate_and_a_cap() {
    let limits = crate::Limits { unacked_per_source: 3, burst: 50, ..crate::Limits::default() };
    let mut world = World::new(SipSettings { limits, ..settings() });
    let mut got: HashMap<u16, usize> = HashMap::new();
    for call in 0..100 {
        let text = invite("", OFFER)
            .replace("call-1", &format!("flood-{call}"))
            .replace("inv1", &format!("f{call}"));
        for status in statuses(&world.receive(&text)) {
            *got.entry(status).or_default() += 1;
        }
    }
    assert_eq!((got[&100], got[&503], got.len()), (3, 47, 2), "the rest is dropped");
    assert_eq!(
        (world.agent.dialogs(), world.agent.unacked(), world.agent.stats().dropped),
        (3, 3, 50)
    );
    let (_, done) = timed(world.pass(secs(200)));
    assert_eq!(statuses(&done), [480, 480, 480]);
    for transaction in 1000..1003 {
        world.agent.handle_server_over(ServerId(transaction));
    }
    assert_eq!((world.agent.dialogs(), world.agent.unacked()), (0, 0));
    assert!(
        world.agent.by_caller.is_empty()
            && world.agent.by_local_tag.is_empty()
            && world.agent.first_transaction.is_empty()
    );
}

#[test]
fn a_thousand_calls_leave_nothing() {
    let limits = crate::Limits { burst: 1_000_000, ..crate::Limits::default() };
    let mut world = World::new(SipSettings { limits, ..settings() });
    for call in 0..1_000 {
        let rename = |text: String| {
            text.replace("call-1", &format!("c{call}"))
                .replace("z9hG4bK", &format!("z9hG4bK{call}"))
        };
        world.receive(&rename(invite("", OFFER)));
        let done = world.order(Order::Accept(local()));
        let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
        world.receive(&rename(world.within(&tag, "ACK", 100, "", "")));
        world.receive(&rename(world.within(&tag, "BYE", 101, "", "")));
        world.transactions.clear();
    }
    let agent = &world.agent;
    assert_eq!((agent.dialogs(), agent.unacked(), agent.poll_timeout()), (0, 0, None));
    assert_eq!(
        (
            agent.by_client.len(),
            agent.by_local_tag.len(),
            agent.by_caller.len(),
            agent.scheduled.len()
        ),
        (0, 0, 0, 0)
    );
}

/// Texts a peer could send in any order around one call.
fn texts(tag: &str) -> Vec<String> {
    let world = World::new(settings());
    let sdp = "Content-Type: application/sdp\n";
    let hold = OFFER.replace("t=0 0", "t=0 0\na=inactive");
    let mut texts =
        vec![invite("", OFFER), invite("", ""), invite("", OFFER).replace("INVITE", "CANCEL")];
    for (method, extra, body) in [
        ("ACK", "", ""),
        ("ACK", sdp, OFFER),
        ("BYE", "", ""),
        ("INVITE", sdp, OFFER),
        ("INVITE", sdp, hold.as_str()),
        ("INVITE", "", ""),
        ("UPDATE", sdp, OFFER),
        ("UPDATE", "Supported: timer\nSession-Expires: 90;refresher=uas\n", ""),
        ("INFO", "Content-Type: application/dtmf\n", "5"),
        ("NOTIFY", "Event: refer\nSubscription-State: active\n", "SIP/2.0 100 Trying\n"),
        ("NOTIFY", "Event: refer\nSubscription-State: terminated\n", "SIP/2.0 200 OK\n"),
        ("NOTIFY", "Event: refer\nSubscription-State: terminated\n", ""),
    ] {
        texts.extend((100..104).map(|cseq| world.within(tag, method, cseq, extra, body)));
    }
    texts
}

fn consultation() -> Consultation {
    Consultation {
        target: TransferTarget::new(TransferKind::Extension, "1"),
        caller: Party { number: None, name: None },
        local: local(),
        headers: Vec::new(),
        credentials: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes in whatever order: no panic, one last event for each call, and nothing left at the end.
    #[test]
    fn every_call_ends_once(steps in proptest::collection::vec((0_usize..88, 0_u64..40), 1..40)) {
        let mut world = World::new(settings());
        let mut tag = String::from("none");
        let mut over = HashMap::<DialogId, usize>::new();
        let mut invited = 0;
        for (what, wait) in steps {
            let mut done: Vec<Action> = world.pass(secs(wait)).into_iter().map(|(_, action)| action).collect();
            let messages = texts(&tag);
            match what {
                0..60 => done.extend(world.receive(&messages[what % messages.len()])),
                80..84 => {
                    let ids: Vec<_> = world.agent.dialogs.keys().copied().collect();
                    for of in ids {
                        let id = DialogId((1 << 63) + invited as u64);
                        invited += 1;
                        let beside = world.agent.consult(world.now, of, id, consultation());
                        prop_assert!(beside.is_none());
                    }
                    done.extend(world.drain());
                }
                _ => {
                    let target = TransferTarget::new(TransferKind::Extension, "1");
                    let consulted = world.agent.dialogs.keys().copied().max().unwrap_or(DialogId(0));
                    let order = match what {
                        60..64 => Order::Progress,
                        64..69 => Order::Accept(local()),
                        69..71 => Order::Reject(Rejection::status(486)),
                        71..74 => Order::HangUp(HangupCause::NormalClearing),
                        74..77 => Order::Transfer(target, Vec::new()),
                        84.. => Order::TransferTo(consulted, Vec::new(), secs(10)),
                        _ => Order::Hold(what == 77),
                    };
                    let ids: Vec<_> = world.agent.dialogs.keys().copied().collect();
                    for id in ids {
                        world.agent.handle_order(world.now, id, order.clone());
                    }
                    done.extend(world.drain());
                }
            }
            let mut answered = done;
            while !answered.is_empty() {
                for action in &answered {
                    match action {
                        Action::Event { dialog, event } => {
                            prop_assert!(!over.contains_key(dialog), "{:?} after the last event", event);
                            if event.is_last() { over.insert(*dialog, 1); }
                        }
                        Action::Invited(_) => invited += 1,
                        Action::Respond { response, .. } => {
                            if let Some(new) = response.to().ok().and_then(|to| to.tag().map(str::to_owned)) { tag = new; }
                            prop_assert!(Message::parse(&response.encode()).is_ok());
                        }
                        _ => {}
                    }
                }
                // The peer answers everything, each request in its own way.
                let requests = sent(&answered);
                answered = Vec::new();
                for request in requests {
                    let status = [200, 202, 481, 491, 408, 503][(request.transaction.0 as usize + what) % 6];
                    let body = if request.request.method == Method::Invite { OFFER } else { "" };
                    answered.extend(world.respond(&request, status, "caller", &[("Contact", "<sip:pbx@198.51.100.7>")], body));
                }
            }
        }
        world.agent.hang_up_all(world.now);
        for _ in 0..100 {
            let mut done = world.drain();
            done.extend(world.pass(secs(40)).into_iter().map(|(_, action)| action));
            for action in &done {
                if let Action::Event { dialog, event } = action
                    && event.is_last()
                {
                    over.insert(*dialog, 1);
                }
            }
            for request in sent(&done) {
                world.respond(&request, 408, "caller", &[], "");
            }
            if world.agent.dialogs() == 0 {
                break;
            }
        }
        let transactions: Vec<_> = world.agent.waiting.keys().copied().collect();
        for transaction in transactions {
            world.agent.handle_server_over(transaction);
        }
        prop_assert_eq!(over.len(), invited);
        prop_assert_eq!((world.agent.dialogs(), world.agent.unacked()), (0, 0));
        prop_assert_eq!(world.agent.poll_timeout(), None);
    }
}
