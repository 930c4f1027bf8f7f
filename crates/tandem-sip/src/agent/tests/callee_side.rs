//! Calls that come in.

use tandem_call::TransferOutcome;

use super::*;

#[test]
fn a_call_is_announced_answered_and_hung_up_by_the_caller() {
    let mut world = World::new(settings());
    let done = world
        .receive(&invite("X-Tenant: acme\nRecord-Route: <sip:p2@h;lr>, <sip:p1@h;lr>\n", OFFER));
    assert_eq!(statuses(&done), [100]);
    let call = invitations(&done)[0];
    assert_eq!(
        (call.called.as_str(), call.from.number.as_deref()),
        ("4930555001", Some("491701234567"))
    );
    assert_eq!(call.offered, Some(vec![Codec::PCMA, Codec::PCMU]));
    assert_eq!(call.headers, [("X-Tenant".to_owned(), "acme".to_owned())]);
    assert!(call.trusted && call.sip_call_id == "call-1");

    let done = world.order(Order::Progress);
    assert_eq!(statuses(&done), [180]);
    assert!(statuses(&world.order(Order::Progress)).is_empty(), "once");
    let done = world.order(Order::Accept(local()));
    let response = responses(&done)[0].clone();
    assert_eq!(response.status, 200);
    assert_eq!(response.headers.get("Contact"), Some("<sip:tandem@203.0.113.20:5060>"));
    assert_eq!(response.headers.get("Record-Route"), Some("<sip:p2@h;lr>, <sip:p1@h;lr>"));
    assert!(String::from_utf8_lossy(&response.body).contains("m=audio 40000 RTP/AVP 0 101\r\n"));
    let events_now = events(&done);
    let DialogEvent::Media(params) = events_now[0] else { panic!("media comes before the answer") };
    assert_eq!(params.remote_rtp, "198.51.100.7:24680".parse::<SocketAddr>().unwrap());
    assert_eq!(events_now[1], &DialogEvent::Signal(SignalEvent::Answered));

    let tag = response.to().unwrap().tag().unwrap().to_owned();
    world.receive(&world.within(&tag, "ACK", 100, "", ""));
    assert!(world.pass(secs(40)).is_empty(), "nothing is repeated after the ACK");
    let bye = world.within(&tag, "BYE", 101, "Reason: Q.850;cause=17;text=\"USER_BUSY\"\n", "");
    let done = world.receive(&bye);
    assert_eq!(statuses(&done), [200]);
    assert_eq!(events(&done), [&hung_up(HangupCause::UserBusy)]);
    assert_eq!((world.agent.dialogs(), world.agent.unacked()), (0, 0));
    assert_eq!(world.agent.poll_timeout(), None);
}

#[test]
fn the_answer_is_repeated_until_the_ack_and_given_up_after_32_seconds() {
    let mut world = World::new(settings());
    world.receive(&invite("", OFFER));
    world.order(Order::Accept(local()));
    assert_eq!(world.agent.unacked(), 1);
    let (times, done) = timed(world.pass(secs(40)));
    let again: Vec<_> = times
        .iter()
        .zip(&done)
        .filter(|(_, it)| matches!(it, Action::Reply { .. }))
        .map(|(at, _)| *at)
        .collect();
    let expected: Vec<_> = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]
        .into_iter()
        .map(millis)
        .collect();
    assert_eq!(again, expected);
    let bye = &sent(&done)[0];
    assert_eq!(bye.request.method, Method::Bye);
    assert_eq!(
        bye.request.headers.get("Reason"),
        Some("Q.850;cause=102;text=\"RECOVERY_ON_TIMER_EXPIRE\"")
    );
    assert_eq!(events(&done), [&hung_up(HangupCause::RecoveryOnTimerExpire)]);
    world.agent.handle_server_over(ServerId(1000));
    world.respond(bye, 408, "caller", &[], "");
    assert_eq!((world.agent.dialogs(), world.agent.unacked()), (0, 0));
}

#[test]
fn a_bye_of_ours_waits_for_the_ack_and_follows_the_route() {
    let mut world = World::new(settings());
    world.receive(&invite("Record-Route: <sip:p1.example:5070;lr>, <sip:p2.example;lr>\n", OFFER));
    let done = world.order(Order::Accept(local()));
    let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
    let done = world.order(Order::HangUp(HangupCause::NormalClearing));
    assert!(sent(&done).is_empty());
    assert_eq!(events(&done), [&hung_up(HangupCause::NormalClearing)], "at once");
    let done = world.receive(&world.within(&tag, "ACK", 100, "", ""));
    let bye = &sent(&done)[0];
    assert_eq!(bye.request.uri.to_string(), "sip:mod_sofia@198.51.100.7:5080");
    assert_eq!(
        bye.request.headers.list("Route").collect::<Vec<_>>(),
        ["<sip:p1.example:5070;lr>", "<sip:p2.example;lr>"]
    );
    assert_eq!((bye.to.host.as_str(), bye.to.port), ("p1.example", Some(5070)));
    assert_eq!(
        bye.request.headers.get("From"),
        Some(format!("<sip:4930555001@203.0.113.20:5060>;tag={tag}").as_str())
    );
    assert!(events(&done).is_empty(), "the last event was the last");
    world.respond(bye, 200, "caller", &[], "");
    assert_eq!(world.agent.dialogs(), 0);
}

#[test]
fn the_caller_gives_up() {
    let mut world = World::new(settings());
    let text = invite("", OFFER);
    world.receive(&text);
    let done = world
        .receive(&text.replace("INVITE sip", "CANCEL sip").replace("100 INVITE", "100 CANCEL"));
    assert_eq!(statuses(&done), [487]);
    assert_eq!(events(&done), [&DialogEvent::Signal(SignalEvent::Cancelled)]);
    assert_eq!(world.agent.dialogs(), 0);
    assert_eq!(world.agent.unacked(), 1, "its transaction still waits for the ACK");
    world.agent.handle_server_over(ServerId(1000));
    assert_eq!(world.agent.unacked(), 0);
    assert!(statuses(&world.order_if_any(Order::Accept(local()))).is_empty());
}

impl World {
    fn order_if_any(&mut self, order: Order) -> Vec<Action> {
        self.agent.handle_order(self.now, DialogId(1), order);
        self.drain()
    }
}

#[test]
fn refusals_of_the_exchange() {
    for (order, status, retry_after, cause) in [
        (Order::Reject(Rejection::status(404)), 404, None, HangupCause::UnallocatedNumber),
        (
            Order::Reject(Rejection {
                status: 503,
                reason: "Full\r\nX: y".into(),
                retry_after: Some(5),
            }),
            503,
            Some("5"),
            HangupCause::NormalTemporaryFailure,
        ),
        (Order::Reject(Rejection::status(200)), 500, None, HangupCause::NormalTemporaryFailure),
        (Order::HangUp(HangupCause::UserBusy), 486, None, HangupCause::UserBusy),
        (
            Order::Accept(LocalMedia { codecs: Vec::new(), ..local() }),
            488,
            None,
            HangupCause::IncompatibleDestination,
        ),
    ] {
        let mut world = World::new(settings());
        world.receive(&invite("", OFFER));
        let done = world.order(order);
        let response = responses(&done)[0];
        assert_eq!((response.status, response.headers.get("Retry-After")), (status, retry_after));
        assert!(Message::parse(&response.encode()).is_ok());
        assert_eq!(events(&done), [&hung_up(cause)]);
        assert_eq!(world.agent.dialogs(), 0);
    }
}

#[test]
fn an_unanswered_call_rings_again_each_minute_and_ends() {
    let mut world = World::new(settings());
    world.receive(&invite("", OFFER));
    world.order(Order::Progress);
    let (times, done) = timed(world.pass(secs(130)));
    assert_eq!(statuses(&done), [180, 480]);
    assert_eq!(times[..2], [secs(60), secs(120)]);
    let mut impatient = World::new(settings());
    impatient.receive(&invite("Expires: 20\n", OFFER));
    let (times, done) = timed(impatient.pass(secs(130)));
    assert_eq!((times[0], statuses(&done)), (secs(20), vec![480]));
}

#[test]
fn a_reliable_ringing_is_avoided() {
    let mut world = World::new(settings());
    let done = world.receive(&invite("Require: 100rel\n", OFFER));
    assert_eq!(statuses(&done), [100]);
    assert!(statuses(&world.order(Order::Progress)).is_empty());
    let done = world.order(Order::Accept(local()));
    assert_eq!(statuses(&done), [200]);
    let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
    let done = world.receive(&world.within(&tag, "PRACK", 101, "RAck: 1 100 INVITE\n", ""));
    assert_eq!(statuses(&done), [481]);
}

#[test]
fn a_delayed_offer_is_answered_in_the_ack_or_the_call_ends() {
    for (body, good) in [
        (
            "v=0\no=- 1 1 IN IP4 198.51.100.7\ns=-\nc=IN IP4 198.51.100.7\nm=audio 9000 RTP/AVP 8\n",
            true,
        ),
        ("", false),
    ] {
        let mut world = World::new(settings());
        let done = world.receive(&invite("", ""));
        assert_eq!(invitations(&done)[0].offered, None);
        let done = world.order(Order::Accept(local()));
        assert!(String::from_utf8_lossy(&responses(&done)[0].body).contains("RTP/AVP 0 8 101"));
        assert_eq!(events(&done), [&DialogEvent::Signal(SignalEvent::Answered)]);
        let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
        let early = world.receive(&world.within(&tag, "INVITE", 101, "", OFFER));
        assert_eq!(statuses(&early), [491], "our offer is out");
        let content = if good { "Content-Type: application/sdp\n" } else { "" };
        let done = world.receive(&world.within(&tag, "ACK", 100, content, body));
        if good {
            let DialogEvent::Media(params) = events(&done)[0] else { panic!() };
            assert_eq!((params.codec, params.remote_rtp.port()), (Codec::PCMA, 9000));
        } else {
            assert_eq!(sent(&done)[0].request.method, Method::Bye);
            assert_eq!(events(&done), [&hung_up(HangupCause::IncompatibleDestination)]);
        }
    }
}

#[test]
fn hold_resume_move_and_refusal_inside_a_call() {
    let (mut world, tag) = World::answered("", settings());
    let sdp = "Content-Type: application/sdp\n";
    let hold = OFFER.replace("t=0 0", "t=0 0\na=sendonly");
    let done = world.receive(&world.within(&tag, "INVITE", 101, sdp, &hold));
    assert!(String::from_utf8_lossy(&responses(&done)[0].body).contains("a=recvonly"));
    assert_eq!(events(&done)[1], &DialogEvent::Signal(SignalEvent::Held(true)));
    world.receive(&world.within(&tag, "ACK", 101, "", ""));

    let moved = format!("{sdp}Contact: <sip:pbx2@198.51.100.9:5090>\n");
    let elsewhere = OFFER.replace("c=IN IP4 198.51.100.7", "c=IN IP4 198.51.100.9");
    let done = world.receive(&world.within(&tag, "UPDATE", 102, &moved, &elsewhere));
    assert_eq!(statuses(&done), [200]);
    let DialogEvent::Media(params) = events(&done)[0] else { panic!() };
    assert_eq!(params.remote_rtp.ip().to_string(), "198.51.100.9");
    assert_eq!(events(&done)[1], &DialogEvent::Signal(SignalEvent::Held(false)));

    let t38 = "v=0\no=- 1 2 IN IP4 1.2.3.4\ns=-\nc=IN IP4 1.2.3.4\nm=image 5000 udptl t38\n";
    let done = world.receive(&world.within(&tag, "INVITE", 103, sdp, t38));
    assert_eq!(statuses(&done), [488]);
    assert!(events(&done).is_empty());

    let done = world.receive(&world.within(&tag, "INVITE", 104, "", ""));
    let offer = String::from_utf8_lossy(&responses(&done)[0].body).into_owned();
    assert!(offer.contains("RTP/AVP 0 8 101"), "an INVITE without an offer gets ours: {offer}");
    let answer = OFFER.replace("8 0 101", "8 101");
    let done = world.receive(&world.within(&tag, "ACK", 104, sdp, &answer));
    assert!(matches!(events(&done)[0], DialogEvent::Media(params) if params.codec == Codec::PCMA));

    let done = world.order(Order::HangUp(HangupCause::NormalClearing));
    assert_eq!(sent(&done)[0].to.host, "198.51.100.9", "the Contact was refreshed");
}

#[test]
fn requests_inside_a_dialog_and_their_answers() {
    let (mut world, tag) = World::answered("", settings());
    let relay = "Content-Type: application/dtmf-relay\n";
    for (cseq, method, extra, body, status, digit) in [
        (101, "INFO", relay, "Signal=5\nDuration=160\n", 200, Some('5')),
        (102, "INFO", relay, "Signal = 11\n", 200, Some('#')),
        (103, "INFO", "Content-Type: application/dtmf\n", "*", 200, Some('*')),
        (104, "INFO", relay, "Signal=x\n", 200, None),
        (105, "INFO", "", "", 200, None),
        (106, "INFO", "Content-Type: text/plain\n", "5", 415, None),
        (107, "OPTIONS", "", "", 200, None),
        (106, "OPTIONS", "", "", 500, None),
        (108, "PRACK", "", "", 481, None),
        (109, "REFER", "Refer-To: <sip:1@h>\n", "", 405, None),
        (110, "MESSAGE", "", "hello", 405, None),
        (111, "NOTIFY", "Event: refer\n", "", 481, None),
        (112, "NOTIFY", "Event: presence\n", "", 489, None),
        (113, "INFO", "Require: nonsense\n", "", 420, None),
        (114, "UPDATE", "", "", 200, None),
    ] {
        let done = world.receive(&world.within(&tag, method, cseq, extra, body));
        assert_eq!(statuses(&done), [status], "{method} {cseq}");
        let digits: Vec<_> = events(&done)
            .iter()
            .filter_map(|event| match event {
                DialogEvent::Signal(SignalEvent::Digit(digit)) => Some(digit.as_char()),
                _ => None,
            })
            .collect();
        assert_eq!(digits, Vec::from_iter(digit), "{method} {cseq}");
        for response in responses(&done) {
            assert!(response.to().unwrap().tag().is_some());
            assert!(status != 405 || response.headers.get("Allow").is_some());
            assert!(status != 420 || response.headers.get("Unsupported") == Some("nonsense"));
        }
    }
    for (from, to) in [("tag=caller", "tag=other"), ("call-1", "call-2"), (tag.as_str(), "unknown")]
    {
        let done = world.receive(&world.within(&tag, "BYE", 120, "", "").replace(from, to));
        assert_eq!(statuses(&done), [481], "{to}");
    }
    assert_eq!(world.agent.dialogs(), 1);
}

#[test]
fn before_the_answer_the_caller_may_only_give_up() {
    let mut world = World::new(settings());
    let done = world.receive(&invite("", OFFER));
    let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
    let sdp = "Content-Type: application/sdp\n";
    for (cseq, method, body) in [(101, "INVITE", OFFER), (102, "UPDATE", OFFER)] {
        let done = world.receive(&world.within(&tag, method, cseq, sdp, body));
        assert_eq!(statuses(&done), [500]);
        let wait: u32 = responses(&done)[0].headers.get("Retry-After").unwrap().parse().unwrap();
        assert!(wait <= 10);
    }
    let done = world.receive(&world.within(&tag, "BYE", 103, "", ""));
    assert_eq!(statuses(&done), [200, 487]);
    assert_eq!(events(&done), [&DialogEvent::Signal(SignalEvent::Cancelled)]);
}

fn refer(world: &mut World) -> Sent {
    let target = TransferTarget::new(TransferKind::Extension, "2001");
    let done = world.order(Order::Transfer(target, vec![("X-Summary".into(), "billing".into())]));
    sent(&done).remove(0)
}

fn notify(world: &World, tag: &str, cseq: u32, event: &str, state: &str, frag: &str) -> String {
    let head = format!(
        "Event: {event}\nSubscription-State: {state}\nContent-Type: message/sipfrag;version=2.0\n"
    );
    world.within(tag, "NOTIFY", cseq, &head, frag)
}

#[test]
fn a_transfer_succeeds_and_the_call_ends() {
    let (mut world, tag) = World::answered("", settings());
    let asked = refer(&mut world);
    assert_eq!(asked.request.headers.get("Refer-To"), Some("<sip:2001@198.51.100.7>"));
    assert_eq!(
        asked.request.headers.get("Referred-By"),
        Some("<sip:4930555001@203.0.113.20:5060>")
    );
    world.respond(&asked, 202, "caller", &[], "");
    let done = world.receive(&notify(
        &world,
        &tag,
        101,
        "refer;id=1",
        "active;expires=60",
        "SIP/2.0 100 Trying\n",
    ));
    assert_eq!((statuses(&done), events(&done).len()), (vec![200], 0));
    let done = world.receive(&notify(
        &world,
        &tag,
        102,
        "refer",
        "terminated;reason=noresource",
        "SIP/2.0 200 OK\n",
    ));
    assert_eq!(
        events(&done),
        [&DialogEvent::Signal(SignalEvent::Transfer(TransferOutcome::Completed))]
    );
    let (times, done) = timed(world.pass(secs(10)));
    let bye = &sent(&done)[0];
    assert_eq!(
        (times[0], bye.request.method.clone()),
        (secs(2), Method::Bye),
        "the peer had two seconds"
    );
    assert_eq!(events(&done), [&hung_up(HangupCause::NormalClearing)]);
    world.respond(bye, 200, "caller", &[], "");
    assert_eq!(world.agent.dialogs(), 0);
    let late = world.receive(&notify(&world, &tag, 103, "refer", "terminated", "SIP/2.0 200 OK\n"));
    assert_eq!(statuses(&late), [200], "a late NOTIFY is still known");
    world.pass(secs(6));
    let later =
        world.receive(&notify(&world, &tag, 104, "refer", "terminated", "SIP/2.0 200 OK\n"));
    assert_eq!(statuses(&later), [481]);
}

#[test]
fn a_transfer_fails_and_the_call_goes_on() {
    for (name, status, frag) in [
        ("refused", 603, None),
        ("ignored", 408, None),
        ("target busy", 202, Some("SIP/2.0 486 Busy Here\n")),
    ] {
        let (mut world, tag) = World::answered("", settings());
        let asked = refer(&mut world);
        let mut done = world.respond(&asked, status, "caller", &[], "");
        if let Some(frag) = frag {
            done.extend(world.receive(&notify(
                &world,
                &tag,
                101,
                "refer;id=1",
                "terminated",
                frag,
            )));
        }
        let failed = events(&done).into_iter().any(|event| {
            matches!(
                event,
                DialogEvent::Signal(SignalEvent::Transfer(TransferOutcome::Failed {
                    status: Some(_),
                    ..
                }))
            )
        });
        assert!(failed, "{name}: {done:?}");
        assert!(
            sent(&done).is_empty() && world.pass(secs(100)).is_empty(),
            "{name}: the call goes on"
        );
        let again = refer(&mut world);
        assert_eq!(again.request.cseq(), Ok(2), "{name}: and may be tried again");
    }
}

#[test]
fn a_transfer_without_an_outcome_fails_after_a_minute_and_a_bye_completes_it() {
    let (mut world, _) = World::answered("", settings());
    let asked = refer(&mut world);
    world.respond(&asked, 202, "caller", &[], "");
    let (times, done) = timed(world.pass(secs(70)));
    assert_eq!(times, [secs(60)]);
    assert!(matches!(
        events(&done)[0],
        DialogEvent::Signal(SignalEvent::Transfer(TransferOutcome::Failed { status: None, .. }))
    ));

    let (mut world, tag) = World::answered("", settings());
    let asked = refer(&mut world);
    world.respond(&asked, 202, "caller", &[], "");
    world.receive(&notify(&world, &tag, 101, "refer", "active", "SIP/2.0 100 Trying\n"));
    let done = world.receive(&world.within(&tag, "BYE", 102, "", ""));
    let completed = DialogEvent::Signal(SignalEvent::Transfer(TransferOutcome::Completed));
    assert_eq!(events(&done), [&completed, &hung_up(HangupCause::NormalClearing)]);
}

#[test]
fn a_hang_up_during_a_transfer_reports_it_as_failed_first() {
    let (mut world, _) = World::answered("", settings());
    refer(&mut world);
    let done = world.order(Order::HangUp(HangupCause::NormalClearing));
    assert!(matches!(
        events(&done)[0],
        DialogEvent::Signal(SignalEvent::Transfer(TransferOutcome::Failed { .. }))
    ));
    assert!(done.iter().any(|it| matches!(it, Action::Abandon(_))));
    assert_eq!(events(&done)[1], &hung_up(HangupCause::NormalClearing));
}

#[test]
fn a_bad_target_and_a_second_transfer_fail_at_once() {
    let (mut world, _) = World::answered("", settings());
    let bad = TransferTarget::new(TransferKind::Sip, "sip:");
    let done = world.order(Order::Transfer(bad, Vec::new()));
    assert!(sent(&done).is_empty() && events(&done).len() == 1);
    refer(&mut world);
    let second = TransferTarget::new(TransferKind::Queue, "1");
    let done = world.order(Order::Transfer(second, Vec::new()));
    assert!(sent(&done).is_empty() && events(&done).len() == 1);
}

#[test]
fn a_transfer_before_the_ack_hangs_up_after_it() {
    let mut world = World::new(settings());
    world.receive(&invite("", OFFER));
    let done = world.order(Order::Accept(local()));
    let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
    let asked = refer(&mut world);
    world.respond(&asked, 202, "caller", &[], "");
    world.receive(&notify(&world, &tag, 101, "refer", "terminated", "SIP/2.0 200 OK\n"));
    let (_, done) = timed(world.pass(secs(3)));
    assert!(sent(&done).is_empty(), "no BYE before the ACK");
    assert_eq!(events(&done), [&hung_up(HangupCause::NormalClearing)]);
    let done = world.receive(&world.within(&tag, "ACK", 100, "", ""));
    assert_eq!(sent(&done)[0].request.method, Method::Bye);
}

#[test]
fn a_codec_that_only_a_later_offer_has_is_taken() {
    let mut world = World::new(settings());
    let done = world.receive(&invite("", &OFFER.replace("8 0 101", "0 101")));
    assert_eq!(invitations(&done)[0].offered, Some(vec![Codec::PCMU]));
    let done = world.order(Order::Accept(local()));
    assert!(matches!(events(&done)[0], DialogEvent::Media(params) if params.codec == Codec::PCMU));
    let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
    world.receive(&world.within(&tag, "ACK", 100, "", ""));
    let sdp = "Content-Type: application/sdp\n";
    let narrowed = OFFER.replace("8 0 101", "8 101");
    let done = world.receive(&world.within(&tag, "INVITE", 101, sdp, &narrowed));
    assert_eq!(statuses(&done), [200]);
    assert!(String::from_utf8_lossy(&responses(&done)[0].body).contains("RTP/AVP 8 101\r\n"));
    assert!(matches!(events(&done)[0], DialogEvent::Media(params) if params.codec == Codec::PCMA));
}

#[test]
fn a_refer_over_udp_stays_below_the_size_of_a_packet() {
    let headers = vec![
        ("X-Tandem-Summary".to_owned(), "s".repeat(300)),
        ("X-Short".to_owned(), "1".to_owned()),
        ("X-Long".to_owned(), "l".repeat(500)),
        ("User-to-User".to_owned(), "56a3;encoding=hex".to_owned()),
    ];
    for (transport, escaped, kept) in [
        (Transport::Udp, false, vec!["X-Short", "X-Long"]),
        (Transport::Udp, true, vec!["X-Short"]),
        (Transport::Tcp, true, vec!["X-Tandem-Summary", "X-Short", "X-Long"]),
    ] {
        let mut world = World::new(SipSettings { refer_to_headers: escaped, ..settings() });
        world.transport = transport;
        world.receive(&invite("", OFFER));
        world.order(Order::Accept(local()));
        let target = TransferTarget::new(TransferKind::Extension, "2001");
        let done = world.order(Order::Transfer(target, headers.clone()));
        let refer = sent(&done).remove(0).request;
        let names: Vec<_> = refer
            .headers
            .iter()
            .map(|(name, _)| name)
            .filter(|name| name.starts_with("X-"))
            .collect();
        assert_eq!(names, kept, "{transport:?} {escaped}");
        assert!(refer.headers.get("User-to-User").is_some());
        assert!(transport == Transport::Tcp || refer.encode().len() + 128 <= 1300);
        let refer_to = refer.headers.get("Refer-To").unwrap();
        for (name, _) in &headers[..3] {
            let stands = refer_to.contains(&format!("{name}="));
            assert_eq!(stands, escaped && kept.contains(&name.as_str()), "{name} in {refer_to}");
        }
    }
}

#[test]
fn a_peer_behind_a_nat_is_reached_where_its_requests_come_from() {
    let mut world = World::new(settings());
    world.receive(
        &invite("", OFFER).replace("mod_sofia@198.51.100.7:5080", "mod_sofia@192.168.1.20:5060"),
    );
    let done = world.order(Order::Accept(local()));
    let tag = responses(&done)[0].to().unwrap().tag().unwrap().to_owned();
    world.receive(&world.within(&tag, "ACK", 100, "", ""));
    let done = world.order(Order::HangUp(HangupCause::NormalClearing));
    let bye = &sent(&done)[0];
    assert_eq!((bye.to.host.as_str(), bye.to.port), ("198.51.100.7", Some(5080)));
    assert_eq!(bye.request.uri.to_string(), "sip:mod_sofia@192.168.1.20:5060");
}

#[test]
fn crossing_byes_both_end() {
    let (mut world, tag) = World::answered("", settings());
    let done = world.order(Order::HangUp(HangupCause::NormalClearing));
    assert_eq!(sent(&done).len(), 1);
    let done = world.receive(&world.within(&tag, "BYE", 101, "", ""));
    assert_eq!(statuses(&done), [200]);
    assert!(events(&done).is_empty());
    assert_eq!(world.agent.dialogs(), 0);
}
