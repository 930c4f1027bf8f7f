//! Our user agent calls our user agent over real sockets on loopback.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use tandem_call::{HangupCause, SignalEvent, TransferKind, TransferOutcome, TransferTarget};
use tandem_media::Codec;
use tandem_sip::{
    Credential, DialogEvent, IncomingCall, Listener, LocalMedia, LocalSecurity, OutgoingCall,
    Rejection, SipEndpoint, SipHandle, SipSettings, Transport,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::mpsc::Receiver,
    time::timeout,
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn settings() -> SipSettings {
    let addr = SocketAddr::new(LOOPBACK, 0);
    SipSettings {
        listen: vec![
            Listener { transport: Transport::Udp, addr },
            Listener { transport: Transport::Tcp, addr },
        ],
        ..SipSettings::default()
    }
}

fn media(port: u16, codecs: &[Codec]) -> LocalMedia {
    LocalMedia {
        address: LOOPBACK,
        rtp_port: port,
        rtcp_port: port + 1,
        codecs: codecs.to_vec(),
        security: LocalSecurity::default(),
    }
}

fn uri(handle: &SipHandle, transport: Transport) -> String {
    let listener =
        handle.listeners().iter().find(|it| it.transport == transport).expect("both are bound");
    format!("sip:4930555001@{};transport={}", listener.addr, transport.name().to_lowercase())
}

fn call_to(uri: String) -> OutgoingCall {
    OutgoingCall {
        uri,
        from: "\"Erika\" <sip:+49170@127.0.0.1>".into(),
        local: media(30000, &[Codec::PCMA, Codec::PCMU]),
        headers: vec![("X-Tenant".into(), "acme".into())],
        credentials: None,
    }
}

async fn next(events: &mut Receiver<DialogEvent>) -> DialogEvent {
    timeout(Duration::from_secs(5), events.recv())
        .await
        .expect("an event in time")
        .expect("an open channel")
}

async fn incoming(calls: &mut Receiver<IncomingCall>) -> IncomingCall {
    timeout(Duration::from_secs(5), calls.recv())
        .await
        .expect("a call in time")
        .expect("an open endpoint")
}

async fn settle(handle: &SipHandle) {
    for _ in 0..500 {
        let stats = handle.stats();
        if stats.dialogs == 0 && stats.transactions == 0 && stats.unacked == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("something is left: {:?}", handle.stats());
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_answered_and_hung_up_over_udp_and_tcp() {
    let (callee, mut calls) = SipEndpoint::bind(settings()).await.unwrap();
    let (caller, _none) = SipEndpoint::bind(settings()).await.unwrap();
    for transport in [Transport::Udp, Transport::Tcp] {
        let (dialog, mut at_caller) = caller.call(call_to(uri(&callee, transport)));
        let mut call = incoming(&mut calls).await;
        assert_eq!(call.called, "4930555001");
        assert_eq!(
            (call.from.number.as_deref(), call.from.name.as_deref()),
            (Some("+49170"), Some("Erika"))
        );
        assert_eq!(call.headers, [("X-Tenant".to_owned(), "acme".to_owned())]);
        assert_eq!(call.offered, Some(vec![Codec::PCMA, Codec::PCMU]));
        call.dialog.progress();
        assert_eq!(next(&mut at_caller).await, DialogEvent::Ringing);
        call.dialog.accept(media(40000, &[Codec::PCMU, Codec::PCMA]));
        let (DialogEvent::Media(ours), DialogEvent::Media(theirs)) =
            (next(&mut call.events).await, next(&mut at_caller).await)
        else {
            panic!("media comes first")
        };
        assert_eq!((ours.codec, ours.remote_rtp.port()), (Codec::PCMU, 30000));
        assert_eq!((theirs.codec, theirs.remote_rtp.port()), (Codec::PCMU, 40000));
        assert_eq!(ours.telephone_event, Some(101));
        assert_eq!(next(&mut call.events).await, DialogEvent::Signal(SignalEvent::Answered));
        assert_eq!(next(&mut at_caller).await, DialogEvent::Signal(SignalEvent::Answered));
        dialog.hold();
        let DialogEvent::Media(held) = next(&mut call.events).await else { panic!() };
        assert!(held.is_held());
        assert_eq!(next(&mut call.events).await, DialogEvent::Signal(SignalEvent::Held(true)));
        dialog.resume();
        let DialogEvent::Media(resumed) = next(&mut call.events).await else { panic!() };
        assert!(!resumed.is_held());
        assert_eq!(next(&mut call.events).await, DialogEvent::Signal(SignalEvent::Held(false)));
        let over = DialogEvent::Signal(SignalEvent::HungUp { cause: HangupCause::UserBusy });
        match transport {
            Transport::Udp => dialog.hang_up(HangupCause::UserBusy),
            Transport::Tcp => call.dialog.hang_up(HangupCause::UserBusy),
        }
        assert_eq!(next(&mut call.events).await, over);
        assert_eq!(call.events.recv().await, None, "nothing comes after the last event");
        loop {
            match next(&mut at_caller).await {
                DialogEvent::Media(_) => {}
                event => break assert_eq!(event, over),
            }
        }
        settle(&callee).await;
        settle(&caller).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusal_cancellation_and_nobody_there() {
    let (callee, mut calls) = SipEndpoint::bind(settings()).await.unwrap();
    let (caller, _none) = SipEndpoint::bind(settings()).await.unwrap();
    let (_dialog, mut at_caller) = caller.call(call_to(uri(&callee, Transport::Udp)));
    let mut call = incoming(&mut calls).await;
    call.dialog.reject(Rejection {
        status: 486,
        reason: "All agents busy".into(),
        retry_after: Some(3),
    });
    assert!(matches!(next(&mut at_caller).await, DialogEvent::Failed { status: 486, .. }));
    assert!(next(&mut call.events).await.is_last());

    let (dialog, mut at_caller) = caller.call(call_to(uri(&callee, Transport::Tcp)));
    let mut call = incoming(&mut calls).await;
    call.dialog.progress();
    assert_eq!(next(&mut at_caller).await, DialogEvent::Ringing);
    dialog.hang_up(HangupCause::NormalClearing);
    assert!(next(&mut at_caller).await.is_last());
    assert_eq!(next(&mut call.events).await, DialogEvent::Signal(SignalEvent::Cancelled));

    callee.set_draining(true);
    let (_dialog, mut at_caller) = caller.call(call_to(uri(&callee, Transport::Udp)));
    assert!(matches!(next(&mut at_caller).await, DialogEvent::Failed { status: 503, .. }));
    let closed = "sip:1@127.0.0.1:1;transport=tcp".to_owned();
    let (_dialog, mut at_caller) = caller.call(call_to(closed));
    assert!(matches!(next(&mut at_caller).await, DialogEvent::Failed { status: 503, .. }));
    let (_dialog, mut at_caller) = caller.call(call_to("https://example".into()));
    assert!(matches!(next(&mut at_caller).await, DialogEvent::Failed { .. }));
    settle(&caller).await;
    caller.shutdown().await;
    callee.shutdown().await;
    assert_eq!(callee.stats(), tandem_sip::SipStats::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_lets_a_stranger_in() {
    let user = |password: &str| Credential { username: "pbx1".into(), password: password.into() };
    let closed = SipSettings { trusted: Vec::new(), users: vec![user("s3cret")], ..settings() };
    let (callee, mut calls) = SipEndpoint::bind(closed).await.unwrap();
    let (caller, _none) = SipEndpoint::bind(settings()).await.unwrap();
    let to = uri(&callee, Transport::Udp);
    let right = OutgoingCall { credentials: Some(user("s3cret")), ..call_to(to.clone()) };
    let (dialog, mut at_caller) = caller.call(right);
    let call = incoming(&mut calls).await;
    assert_eq!((call.trusted, call.authenticated.as_deref()), (false, Some("pbx1")));
    call.dialog.accept(media(40000, &[Codec::PCMU]));
    assert!(matches!(next(&mut at_caller).await, DialogEvent::Media(_)));
    dialog.hang_up(HangupCause::NormalClearing);
    for call in
        [call_to(to.clone()), OutgoingCall { credentials: Some(user("guess")), ..call_to(to) }]
    {
        let (_dialog, mut at_caller) = caller.call(call);
        let event = next(&mut at_caller).await;
        assert!(matches!(event, DialogEvent::Failed { status: 401, .. }), "{event:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_to_a_peer_that_takes_none_comes_back() {
    let (callee, mut calls) = SipEndpoint::bind(settings()).await.unwrap();
    let (caller, _none) = SipEndpoint::bind(settings()).await.unwrap();
    let (dialog, _at_caller) = caller.call(call_to(uri(&callee, Transport::Tcp)));
    let mut call = incoming(&mut calls).await;
    call.dialog.accept(media(40000, &[Codec::PCMU]));
    call.dialog.transfer(TransferTarget::new(TransferKind::Extension, "2001"), Vec::new());
    let outcome = loop {
        if let DialogEvent::Signal(SignalEvent::Transfer(outcome)) = next(&mut call.events).await {
            break outcome;
        }
    };
    assert!(matches!(outcome, TransferOutcome::Failed { status: Some(405), .. }));
    dialog.hang_up(HangupCause::NormalClearing);
    assert!(next(&mut call.events).await.is_last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_after_many_calls() {
    let (callee, mut calls) = SipEndpoint::bind(settings()).await.unwrap();
    let (caller, _none) = SipEndpoint::bind(settings()).await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(mut call) = calls.recv().await {
            call.dialog.accept(media(40000, &[Codec::PCMU]));
            tokio::spawn(async move { while call.events.recv().await.is_some() {} });
        }
    });
    let mut base = 0;
    for round in 0..3 {
        for transport in [Transport::Udp, Transport::Tcp] {
            let running: Vec<_> =
                (0..25).map(|_| caller.call(call_to(uri(&callee, transport)))).collect();
            for (dialog, mut events) in running {
                while next(&mut events).await != DialogEvent::Signal(SignalEvent::Answered) {}
                dialog.hang_up(HangupCause::NormalClearing);
                assert!(next(&mut events).await.is_last());
            }
        }
        settle(&caller).await;
        settle(&callee).await;
        if round == 0 {
            base = descriptors();
        }
    }
    assert!(descriptors() <= base + 2, "{} descriptors, {base} before", descriptors());
    assert_eq!(callee.stats().door.invited, 150);
    caller.shutdown().await;
    callee.shutdown().await;
    answering.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_and_unknown_methods_do_no_harm() {
    let (callee, _calls) = SipEndpoint::bind(settings()).await.unwrap();
    let to = callee.listeners()[0].addr;
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let local = socket.local_addr().unwrap();
    for garbage in [
        &b"\r\n\r\n"[..],
        b"\0\0\0\0",
        b"hello",
        b"INVITE",
        &[0xFF; 1400],
        b"SIP/2.0 200 OK\r\n\r\n",
    ] {
        socket.send_to(garbage, to).await.unwrap();
    }
    let mut buffer = [0; 4096];
    for (method, status) in
        [("OPTIONS", 200), ("FROBNICATE", 405), ("REGISTER", 405), ("BYE", 481), ("CANCEL", 481)]
    {
        let request = format!(
            "{method} sip:1@{to} SIP/2.0\r\nVia: SIP/2.0/UDP {local};rport;branch=z9hG4bK{method}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:1@{to}>\r\nCall-ID: {method}\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
        );
        socket.send_to(request.as_bytes(), to).await.unwrap();
        let (length, _) =
            timeout(Duration::from_secs(5), socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        let response = String::from_utf8_lossy(&buffer[..length]);
        assert!(response.starts_with(&format!("SIP/2.0 {status} ")), "{method}: {response}");
    }
    assert_eq!(callee.stats().dialogs, 0);
    assert!(callee.stats().door.malformed >= 3);
}

fn options(name: &str, uri: &str, transport: &str, local: SocketAddr) -> String {
    format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};rport;branch=z9hG4bK{name}\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:1@h>\r\nCall-ID: {name}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Reads from a connection until its end, or until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.contains(end) {
        match timeout(Duration::from_secs(5), stream.read(&mut buffer)).await.expect("in time") {
            Ok(0) | Err(_) => break,
            Ok(length) => text.push_str(&String::from_utf8_lossy(&buffer[..length])),
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreadable_request_is_answered_and_its_connection_goes_on() {
    let (callee, _calls) = SipEndpoint::bind(settings()).await.unwrap();
    let [udp, tcp] = [callee.listeners()[0].addr, callee.listeners()[1].addr];
    let socket = UdpSocket::bind((LOOPBACK, 0)).await.unwrap();
    let local = socket.local_addr().unwrap();
    socket.send_to(options("u", "sip:@", "UDP", local).as_bytes(), udp).await.unwrap();
    let mut buffer = [0; 4096];
    let (length, _) =
        timeout(Duration::from_secs(5), socket.recv_from(&mut buffer)).await.unwrap().unwrap();
    assert!(buffer[..length].starts_with(b"SIP/2.0 400 "));

    let mut stream = TcpStream::connect(tcp).await.unwrap();
    let local = stream.local_addr().unwrap();
    let bad = options("bad", "sip:@", "TCP", local);
    let good = options("good", "sip:1@h", "TCP", local);
    stream.write_all(format!("{bad}{good}").as_bytes()).await.unwrap();
    let answers = read_until(&mut stream, "Call-ID: good").await;
    assert!(answers.starts_with("SIP/2.0 400 ") && answers.contains("SIP/2.0 200 OK"), "{answers}");
    let unframed = bad.replace("Content-Length: 0\r\n", "");
    stream.write_all(format!("{unframed}{good}").as_bytes()).await.unwrap();
    let rest = read_until(&mut stream, "Call-ID: good\r\nCall").await;
    assert!(!rest.contains("SIP/2.0 200 OK"), "where the next one begins is unknown: {rest}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_source_opens_only_so_many_connections() {
    for (trusted, most) in [(true, 32), (false, 4)] {
        let mut settings = settings();
        settings.users = vec![Credential { username: "u".into(), password: "p".into() }];
        if !trusted {
            settings.trusted.clear();
        }
        let (callee, _calls) = SipEndpoint::bind(settings).await.unwrap();
        let to = callee.listeners()[1].addr;
        let mut open = Vec::new();
        for _ in 0..most {
            open.push(TcpStream::connect(to).await.unwrap());
        }
        let mut one_more = TcpStream::connect(to).await.unwrap();
        assert_eq!(read_until(&mut one_more, "never").await, "", "it is closed");
        // The others live: they may still be answered.
        let last = open.last_mut().unwrap();
        let local = last.local_addr().unwrap();
        last.write_all(options("o", "sip:1@h", "TCP", local).as_bytes()).await.unwrap();
        assert!(read_until(last, "Call-ID: o").await.starts_with("SIP/2.0 200 "));
        drop(open);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ipv4_peers_of_an_ipv6_listener_keep_their_own_address() {
    let any = SocketAddr::from(([0_u16; 8], 0));
    let both = [Transport::Udp, Transport::Tcp];
    let listen = both.map(|transport| Listener { transport, addr: any }).to_vec();
    // Machines without IPv6 have nothing to mend here.
    let Ok((callee, mut calls)) =
        SipEndpoint::bind(SipSettings { listen, ..SipSettings::default() }).await
    else {
        return;
    };
    let (caller, mut back) = SipEndpoint::bind(settings()).await.unwrap();
    for transport in both {
        let port = callee.listeners().iter().find(|it| it.transport == transport).unwrap().addr;
        let uri = format!(
            "sip:1@127.0.0.1:{};transport={}",
            port.port(),
            transport.name().to_lowercase()
        );
        let (dialog, mut at_caller) = caller.call(call_to(uri));
        let mut call = incoming(&mut calls).await;
        assert!(call.trusted);
        assert_eq!((call.source.ip(), call.local), (LOOPBACK, LOOPBACK));
        call.dialog.accept(media(40000, &[Codec::PCMU]));
        while next(&mut at_caller).await != DialogEvent::Signal(SignalEvent::Answered) {}
        call.dialog.hang_up(HangupCause::NormalClearing);
        while !next(&mut at_caller).await.is_last() {}
        while call.events.recv().await.is_some() {}
        drop(dialog);
        settle(&callee).await;
    }
    let (_dialog, mut at_callee) = callee.call(call_to(uri(&caller, Transport::Udp)));
    incoming(&mut back).await.dialog.reject(Rejection::status(486));
    assert!(matches!(next(&mut at_callee).await, DialogEvent::Failed { status: 486, .. }));
}
