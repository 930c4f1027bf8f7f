//! Every door of the running daemon, as the caller sees it: who is let in, who is refused and with which words, and
//! what a call may do while it is up.

mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    time::Duration,
};

use common::{
    Daemon,
    caller::{Call, Caller, Heard},
    message::Message,
};
use serde_json::Value;

/// One agent that waits for the caller's keys, and says no more than shipped phrases.
const RECEPTION: &str = r#"
[attendant]
engines = []
[agents.reception]
greeting = ""
end_call_drain_ms = 0
[numbers]
"200" = "reception"
"#;

/// How long it must be quiet to be called silence: fifteen packets.
const QUIET: Duration = Duration::from_millis(300);

fn daemon(more: &str) -> Daemon {
    Daemon::start(&format!("{RECEPTION}{more}"))
}

/// Presses `#` and waits to be hung up; the record of the call.
fn say_goodbye(daemon: &Daemon, caller: &mut Caller, call: &mut Call) -> Value {
    caller.press(call, '#');
    caller.wait_for_bye(call);
    let records = daemon.wait_for_records(1);
    records
        .into_iter()
        .find(|record| record["sip_call_id"] == call.id())
        .expect("the call has a record")
}

/// Whether no packet is missing.
fn is_whole(heard: &[Heard]) -> bool {
    heard.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1))
}

fn retry_after(response: &Message) -> u32 {
    response.header("Retry-After").parse().expect("seconds")
}

#[test]
fn a_number_nobody_answers_is_not_found() {
    let daemon = daemon("");
    let (_, response) = Caller::udp(daemon.sip).call("999");
    assert_eq!(response.status(), 404);
    assert!(daemon.records().is_empty());
}

#[test]
fn an_offer_without_a_codec_of_ours_is_not_acceptable() {
    let daemon = daemon("");
    let mut caller = Caller::udp(daemon.sip);
    for formats in ["18 101", "97 101", "18 97"] {
        let mut call = caller.dial("200");
        let offer = caller.sdp(formats, "sendrecv");
        let response = caller.ask(&mut call, "INVITE", &[], &offer);
        assert_eq!(response.status(), 488, "{formats}");
        assert!(response.header("Warning").starts_with("305 "), "{response:?}");
    }
    let response = caller.call("200").1;
    assert_eq!(response.formats(), ["0", "101"], "the same caller is answered with a better offer");
}

#[test]
fn an_agent_with_enough_calls_is_busy_and_a_full_daemon_is_unavailable() {
    let daemon = Daemon::start(
        r#"
[limits]
max_calls = 2
[sip]
retry_after_s = 7
[attendant]
engines = []
[agents.one]
max_concurrent_calls = 1
greeting = ""
[agents.many]
greeting = ""
[numbers]
"1" = "one"
"2" = "many"
"#,
    );
    let mut caller = Caller::udp(daemon.sip);
    let mut first = caller.connect("1");
    let (_, response) = caller.call("1");
    assert_eq!(response.status(), 486);
    let mut second = caller.connect("2");
    let (_, response) = caller.call("2");
    assert_eq!((response.status(), retry_after(&response)), (503, 7));
    let (_, response) = caller.call("1");
    assert_eq!(response.status(), 503, "being full comes before being busy");

    caller.hang_up(&mut first);
    let mut third = caller.connect_when_free("1");
    caller.hang_up(&mut second);
    caller.hang_up(&mut third);
    assert_eq!(daemon.wait_for_records(3).len(), 3, "calls that were refused leave no record");
}

#[test]
fn a_draining_daemon_takes_no_calls_and_keeps_those_it_has() {
    let mut daemon = daemon("[limits]\ndrain_s = 60\n");
    let mut caller = Caller::udp(daemon.sip);
    let mut call = caller.connect("200");
    daemon.signal("TERM");
    daemon.wait_for_log("draining");
    let (_, response) = caller.call("200");
    assert_eq!((response.status(), retry_after(&response)), (503, 5));
    let mut ping = caller.dial("ping");
    let response = caller.ask(&mut ping, "OPTIONS", &[], "");
    assert_eq!((response.status(), retry_after(&response)), (503, 5));
    caller.listen(&call, 10);
    let response = caller.reinvite(&mut call, "sendrecv");
    assert_eq!(response.formats(), ["0", "101"]);
    caller.hang_up(&mut call);
    assert_eq!(daemon.wait(), Some(0));
    assert_eq!(daemon.records()[0]["end_reason"], "caller_hangup");
}

#[test]
fn an_address_that_is_not_trusted_is_forbidden() {
    let daemon = daemon("[sip]\ntrusted = [\"127.0.0.1\"]\n");
    let mut stranger = Caller::udp_from("127.0.0.2", daemon.sip);
    let (_, response) = stranger.call("200");
    assert_eq!(response.status(), 403);
    let mut ping = stranger.dial("ping");
    assert_eq!(stranger.ask(&mut ping, "OPTIONS", &[], "").status(), 403);
    Caller::udp(daemon.sip).connect("200");
}

#[test]
fn options_tells_what_an_invite_would_get() {
    let daemon = daemon("");
    for mut caller in [Caller::udp(daemon.sip), Caller::tcp(daemon.tcp)] {
        let mut ping = caller.dial("anything");
        let response = caller.ask(&mut ping, "OPTIONS", &[], "");
        assert_eq!(response.status(), 200);
        for method in ["INVITE", "ACK", "CANCEL", "BYE", "OPTIONS", "UPDATE", "INFO", "NOTIFY"] {
            assert!(
                response.header("Allow").split(", ").any(|allowed| allowed == method),
                "{method}"
            );
        }
        assert_eq!(response.header("Accept"), "application/sdp");
        assert!(response.header("Supported").contains("timer"));
        assert!(response.header("To").contains(";tag="));
    }
}

#[test]
fn what_we_do_not_know_is_named_in_the_refusal() {
    let daemon = daemon("");
    let mut caller = Caller::udp(daemon.sip);
    let mut outside = caller.dial("200");
    for method in ["DANCE", "REGISTER", "SUBSCRIBE", "REFER"] {
        let response = caller.ask(&mut outside, method, &[], "");
        assert_eq!(response.status(), 405, "{method}");
        assert!(response.header("Allow").contains("INVITE"));
    }
    for method in ["BYE", "INFO", "UPDATE"] {
        assert_eq!(
            caller.ask(&mut outside, method, &[], "").status(),
            481,
            "{method} without a call"
        );
    }
    let mut demanding = caller.dial("200");
    let offer = caller.sdp("0", "sendrecv");
    let response =
        caller.ask(&mut demanding, "INVITE", &[("Require", "precondition, timer")], &offer);
    assert_eq!((response.status(), response.header("Unsupported")), (420, "precondition"));
    let mut text = caller.dial("200");
    let response = caller.ask(&mut text, "INVITE", &[("Content-Type", "text/plain")], "hello");
    assert_eq!((response.status(), response.header("Accept")), (415, "application/sdp"));

    let mut call = caller.connect("200");
    let response = caller.ask(&mut call, "DANCE", &[], "");
    assert_eq!(response.status(), 405);
    let response = caller.ask(&mut call, "INFO", &[("Content-Type", "text/plain")], "hello");
    assert_eq!(response.status(), 415);
    caller.listen(&call, 5);
    caller.hang_up(&mut call);
}

#[test]
fn a_call_without_an_offer_is_offered_ours() {
    let daemon = daemon("");
    let mut caller = Caller::udp(daemon.sip);
    let mut call = caller.dial("200");
    let response = caller.ask(&mut call, "INVITE", &[], "");
    assert_eq!(response.status(), 200);
    // The attendant takes 16 kHz, so the wideband codecs come first; then digits and comfort noise for each clock.
    let ours = ["9", "111", "0", "8", "101", "110", "13"];
    assert_eq!(response.formats(), ours);
    let answer = caller.sdp("8 101", "sendrecv");
    caller.acknowledge(&call, &answer);
    assert!(caller.listen(&call, 5).iter().all(|heard| heard.payload_type == 8));
    let record = say_goodbye(&daemon, &mut caller, &mut call);
    assert_eq!(record["quality"]["codec"], "PCMA");
}

#[test]
fn a_call_over_tcp_is_a_call() {
    let daemon = daemon("");
    let mut caller = Caller::tcp(daemon.tcp);
    let mut call = caller.connect("200");
    assert!(call.target().contains(";transport=tcp"), "{}", call.target());
    caller.listen(&call, 5);
    let record = say_goodbye(&daemon, &mut caller, &mut call);
    assert_eq!(
        (&record["end_reason"], &record["ended_by"]),
        (&"caller_goodbye".into(), &"agent".into())
    );
    let mut call = caller.connect("200");
    caller.hang_up(&mut call);
    assert_eq!(daemon.wait_for_records(2)[1]["end_reason"], "caller_hangup");
}

#[test]
fn a_stream_is_read_however_it_is_cut() {
    let daemon = daemon("");
    let mut caller = Caller::tcp(daemon.tcp);
    let mut call = caller.dial("200");
    let offer = caller.sdp("0 101", "sendrecv");
    let invite = caller.prepare(&mut call, "INVITE", &[], &offer);
    for piece in invite.text().as_bytes().chunks(50) {
        caller.send(std::str::from_utf8(piece).expect("the request is ASCII"));
    }
    assert_eq!(caller.finish(&mut call, &invite).status(), 200);
    caller.acknowledge(&call, "");
    caller.send("\r\n\r\n"); // A keep-alive (RFC 5626 §3.5.1).
    let (mut first, mut second) = (caller.dial("a"), caller.dial("b"));
    let pings = [&mut first, &mut second].map(|ping| caller.prepare(ping, "OPTIONS", &[], ""));
    caller.send(&pings.each_ref().map(|ping| ping.text()).concat());
    assert_eq!(caller.finish(&mut second, &pings[1]).status(), 200);
    assert_eq!(caller.finish(&mut first, &pings[0]).status(), 200);

    // What can't be SIP costs the connection that brought it, and no other.
    for junk in ["\0\x01\x02 no SIP at all\r\n\r\n".to_owned(), "X".repeat(200_000), endless_body()]
    {
        let mut stream = TcpStream::connect(daemon.tcp).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let closed = stream.write_all(junk.as_bytes()).is_err();
        assert!(closed || ends(&mut stream), "{:.40}", junk.escape_debug().to_string());
    }
    caller.listen(&call, 5);
    caller.hang_up(&mut call);
}

/// A request whose body is longer than any we take.
fn endless_body() -> String {
    format!(
        "INVITE sip:200@127.0.0.1 SIP/2.0\r\nContent-Length: 4000000000\r\n\r\n{}",
        "v".repeat(200_000)
    )
}

/// Whether the other side closes the stream.
fn ends(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_call_outlives_the_connection_it_came_by() {
    let daemon = daemon("");
    let mut caller = Caller::tcp(daemon.tcp);
    let mut call = caller.connect("200");
    caller.listen(&call, 5);
    caller.reconnect();
    caller.listen(&call, 5);
    let record = say_goodbye(&daemon, &mut caller, &mut call);
    assert_eq!(record["end_reason"], "caller_goodbye");
}

#[test]
fn an_invite_that_comes_again_is_one_call() {
    let daemon = daemon("");
    let mut caller = Caller::udp(daemon.sip);
    let mut call = caller.dial("200");
    let offer = caller.sdp("0 101", "sendrecv");
    let invite = caller.start(&mut call, "INVITE", &[], &offer);
    caller.send(invite.text());
    let merged = invite.over_another_branch();
    caller.send(merged.text());
    assert_eq!(caller.finish(&mut call.clone(), &merged).status(), 482);
    assert_eq!(caller.finish(&mut call, &invite).status(), 200);
    caller.send(invite.text());
    for _ in 0..2 {
        caller.wait_for(&invite, 200); // Again and again until the ACK.
    }
    caller.acknowledge(&call, "");
    caller.listen(&call, 5);
    caller.hang_up(&mut call);
    assert_eq!(daemon.wait_for_records(1).len(), 1);
    assert_eq!(daemon.log().iter().filter(|line| line.contains("call comes in")).count(), 1);
}

#[test]
fn nothing_is_sent_to_a_caller_on_hold() {
    let daemon = daemon("");
    let mut caller = Caller::udp(daemon.sip);
    let mut call = caller.connect("200");
    caller.listen(&call, 5);
    for (offered, answered) in [("inactive", "inactive"), ("sendonly", "recvonly")] {
        let response = caller.reinvite(&mut call, offered);
        assert!(response.has_attribute(answered), "{response:?}");
        caller.forget_rtp();
        assert!(caller.hear(QUIET).is_none(), "{offered}: RTP on hold");
        let response = caller.reinvite(&mut call, "sendrecv");
        assert!(response.has_attribute("sendrecv"), "{response:?}");
        assert!(is_whole(&caller.listen(&call, 10)), "{offered}: the stream goes on");
    }
    let record = say_goodbye(&daemon, &mut caller, &mut call);
    assert_eq!(record["end_reason"], "caller_goodbye");
}

#[test]
fn session_timers_are_agreed_on() {
    let daemon = daemon("");
    let mut caller = Caller::udp(daemon.sip);
    let offer = caller.sdp("0 101", "sendrecv");
    let mut call = caller.dial("200");
    let short = [("Supported", "timer"), ("Session-Expires", "60")];
    let response = caller.ask(&mut call, "INVITE", &short, &offer);
    assert_eq!((response.status(), response.header("Min-SE")), (422, "90"));

    let longer = [("Supported", "timer"), ("Session-Expires", "90"), ("Min-SE", "90")];
    let response = caller.ask(&mut call, "INVITE", &longer, &offer);
    assert_eq!(response.status(), 200);
    caller.acknowledge(&call, "");
    assert_eq!(response.header("Session-Expires"), "90;refresher=uac");
    assert_eq!(response.header("Require"), "timer");
    let refresh = [("Supported", "timer"), ("Session-Expires", "90;refresher=uac")];
    let response = caller.ask(&mut call, "UPDATE", &refresh, "");
    assert_eq!((response.status(), response.header("Session-Expires")), (200, "90;refresher=uac"));
    assert!(response.body.is_empty(), "a refresh changes no media");
    caller.listen(&call, 5);

    let mut plain = caller.dial("200");
    let response = caller.ask(&mut plain, "INVITE", &[("Session-Expires", "90")], &offer);
    assert_eq!(
        response.header("Session-Expires"),
        "90;refresher=uas",
        "who knows no timer is refreshed by us"
    );
    caller.acknowledge(&plain, "");
    caller.hang_up(&mut plain);
    caller.hang_up(&mut call);
}

#[test]
fn a_caller_may_give_up_while_it_rings() {
    // It accepts connections and never says a word.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let daemon = Daemon::start(&format!(
        r#"
[limits]
answer_after_ms = 10000
[models.silent]
provider = "openai-realtime"
base_url = "ws://{}"
api_key_env = "TEST_MODEL_KEY"
handshake_timeout_ms = 10000
[agents.reception]
models = ["silent"]
[numbers]
"*" = "reception"
"#,
        silent.local_addr().unwrap()
    ));
    for (mut caller, count) in
        [Caller::udp(daemon.sip), Caller::tcp(daemon.tcp)].into_iter().zip(1..)
    {
        let mut call = caller.dial("200");
        let offer = caller.sdp("0 101", "sendrecv");
        let invite = caller.start(&mut call, "INVITE", &[("X-Tenant", "acme")], &offer);
        let ringing = caller.wait_for(&invite, 180);
        assert!(ringing.header("To").contains(";tag="));
        assert_eq!(caller.cancel(&mut call).status(), 200);
        assert_eq!(caller.finish(&mut call, &invite).status(), 487);
        let records = daemon.wait_for_records(count);
        let record = &records[count - 1];
        assert_eq!(
            (&record["end_reason"], &record["ended_by"]),
            (&"cancelled".into(), &"caller".into())
        );
        assert_eq!(record["answered_at"], Value::Null);
        assert_eq!(record["variables"]["X-Tenant"], "acme");
    }
}

#[test]
fn a_digit_by_info_and_headers_reach_the_call() {
    let daemon = daemon("");
    let mut caller = Caller::udp(daemon.sip);
    let mut call = caller.dial("200");
    let offer = caller.sdp("0", "sendrecv");
    let headers = [
        ("X-Tenant", "acme; region=\"eu\""),
        ("x-folded", "one\r\n  two"),
        ("User-to-User", "56a390f3d2b7310023a2;encoding=hex"),
        ("Diversion", "<sip:4930@192.0.2.1>;reason=no-answer"),
        ("Subject", "not for the record"),
    ];
    let response = caller.ask(&mut call, "INVITE", &headers, &offer);
    assert_eq!(response.formats(), ["0"], "no telephone-event was offered");
    caller.acknowledge(&call, "");
    caller.listen(&call, 3);
    let record = say_goodbye(&daemon, &mut caller, &mut call);
    assert_eq!(
        (&record["end_reason"], &record["ended_by"]),
        (&"caller_goodbye".into(), &"agent".into())
    );
    assert_eq!(record["tools"][0]["name"], "end_call", "{record}");
    let variables = &record["variables"];
    assert_eq!(variables["X-Tenant"], "acme; region=\"eu\"");
    assert_eq!(variables["x-folded"], "one two");
    assert_eq!(variables["User-to-User"], "56a390f3d2b7310023a2;encoding=hex");
    assert_eq!(variables["Diversion"], "<sip:4930@192.0.2.1>;reason=no-answer");
    assert_eq!(variables["Subject"], Value::Null);
    assert_eq!(
        (&record["from"]["number"], &record["from"]["name"]),
        (&"+13055550100".into(), &"Test".into())
    );
    assert_eq!(record["to"]["number"], "200");
}

/// Datagrams of every wrong kind, by number.
fn junk(n: usize) -> Vec<u8> {
    let random =
        |length: usize| (0..length).map(|i| (n * 31 + i * i * 7 + i / 3) as u8).collect::<Vec<_>>();
    match n % 8 {
        0 => Vec::new(),
        1 => random(12),
        2 => random(1_200),
        3 => b"\r\n\r\n".to_vec(),
        4 => format!("INVITE sip:200@127.0.0.1 SIP/2.0\r\nContent-Length: {n}99999\r\n\r\n")
            .into_bytes(),
        5 => b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 127.0.0.1\r\nCSeq: 1 INVITE\r\n\r\n".to_vec(),
        6 => [&[0x80, 0x00, 0xFF, 0xFF][..], &random(168)].concat(), // RTP of a stream that nobody announced.
        _ => [&[0x80, 0xC8, 0xFF, 0xFF][..], &random(24)].concat(),
    }
}

#[test]
fn junk_on_its_ports_does_not_disturb_a_call() {
    let daemon = daemon("[sip]\ntrusted = [\"127.0.0.1\"]\n");
    let mut caller = Caller::udp(daemon.sip);
    let mut call = caller.connect("200");
    let media = call.media.expect("it is answered");
    let strangers =
        ["127.0.0.1", "127.0.0.2"].map(|address| UdpSocket::bind((address, 0)).unwrap());
    let mut heard = caller.listen(&call, 10);
    for n in 0..2_000 {
        let datagram = junk(n);
        for stranger in &strangers {
            stranger.send_to(&datagram, daemon.sip).unwrap();
            stranger.send_to(&datagram, media).unwrap();
            stranger.send_to(&datagram, (media.ip(), media.port() + 1)).unwrap();
        }
        if n % 100 == 0 {
            heard.extend(caller.listen(&call, 1));
        }
    }
    heard.extend(caller.listen(&call, 50));
    assert!(is_whole(&heard), "the caller hears everything");
    let record = say_goodbye(&daemon, &mut caller, &mut call);
    assert_eq!(record["end_reason"], "caller_goodbye");
    let quality = &record["quality"];
    let (received, sent) =
        (quality["packets_received"].as_u64().expect("a count"), u64::from(caller.rtp_sent()));
    assert!(
        (sent / 2..=sent).contains(&received),
        "only the caller's stream is the call's: {sent} sent, {quality}"
    );
    caller.connect("200");
}

#[test]
fn a_stranger_who_asks_too_often_is_not_answered() {
    let daemon =
        daemon("[sip]\ntrusted = [\"127.0.0.1\"]\nrequests_per_second = 20\nrequest_burst = 100\n");
    let mut stranger = Caller::udp_from("127.0.0.2", daemon.sip);
    let mut caller = Caller::udp(daemon.sip);
    let mut call = caller.connect("200");
    const ASKED: usize = 200;
    for _ in 0..ASKED {
        let mut ping = stranger.dial("ping");
        stranger.start(&mut ping, "OPTIONS", &[], "");
    }
    caller.hang_up(&mut call);
    // A twentieth of what a trusted source may: five at once, and one a second.
    let answered = stranger.unclaimed();
    assert!((5..ASKED / 10).contains(&answered), "{answered} answers");
}

#[test]
fn invites_without_an_ack_are_capped() {
    let daemon = daemon("[sip]\nmax_unacked_per_source = 3\nretry_after_s = 9\n");
    let mut caller = Caller::udp(daemon.sip);
    let offer = caller.sdp("0 101", "sendrecv");
    let mut calls: Vec<Call> = (0..3).map(|_| caller.dial("200")).collect();
    for call in &mut calls {
        assert_eq!(caller.ask(call, "INVITE", &[], &offer).status(), 200);
    }
    let (_, response) = caller.call("200");
    assert_eq!((response.status(), retry_after(&response)), (503, 9));
    Caller::udp_from("127.0.0.2", daemon.sip).connect("200");

    caller.acknowledge(&calls[0], "");
    let mut answered = caller.connect("200");
    caller.listen(&answered, 3);
    caller.hang_up(&mut answered);
    for call in &mut calls {
        caller.hang_up(call);
    }
    caller.connect("200");
}
