use proptest::prelude::*;

use super::*;

fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}

fn request(text: &str) -> Request {
    match Message::parse(&crlf(text)) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}"),
    }
}

const INVITE: &str = "INVITE sip:4930555001@203.0.113.20:5060 SIP/2.0
v: SIP/2.0/UDP 198.51.100.7:5080;rport;branch=z9hG4bK7Kp3v0a1, SIP/2.0/TCP 10.0.0.1;branch=z9hG4bKx
Max-Forwards: 69
f: \"Erika Beispiel\" <sip:491701234567@198.51.100.7>;tag=r4Z9QeKB
t: <sip:4930555001@203.0.113.20:5060>
i: 5d0c1e52
CSeq: 118230411 INVITE
m: <sip:mod_sofia@198.51.100.7:5080>
Subject: one
 two
l: 4

v=0";

#[test]
fn a_request_with_compact_names_and_folding() {
    let mut text = crlf(INVITE);
    text.extend_from_slice(b"\nignored");
    let Ok(Message::Request(mut request)) = Message::parse(&text) else { panic!() };
    request.check().unwrap();
    assert_eq!(request.body, b"v=0\n");
    assert_eq!(request.headers.get("Subject"), Some("one two"));
    assert_eq!(request.cseq(), Ok(118_230_411));
    assert_eq!(request.contact().unwrap().uri.to_string(), "sip:mod_sofia@198.51.100.7:5080");
    assert_eq!(request.headers.list("Via").count(), 2);
    let source = "198.51.100.9:6000".parse().unwrap();
    request.mark_source(source);
    assert_eq!(
        request.headers.get("Via"),
        Some(
            "SIP/2.0/UDP 198.51.100.7:5080;branch=z9hG4bK7Kp3v0a1;received=198.51.100.9;rport=6000, SIP/2.0/TCP 10.0.0.1;branch=z9hG4bKx"
        )
    );
    assert_eq!(request.via().unwrap().reply_address(source), source);
    let response = request.response(180, Some("ai-1"));
    assert_eq!(response.to().unwrap().tag(), Some("ai-1"));
    assert_eq!(response.headers.get("Via"), request.headers.get("Via"));
    assert!(response.headers.get("Subject").is_none());
}

#[test]
fn without_rport_the_answer_goes_to_the_port_in_sent_by() {
    for (via, address) in [
        ("SIP/2.0/UDP pc33.example;branch=z9hG4bK1", "198.51.100.9:5060"),
        ("SIP/2.0/UDP 198.51.100.9:5070;branch=z9hG4bK1", "198.51.100.9:5070"),
        ("SIP/2.0/UDP 198.51.100.9:5070;rport;branch=z9hG4bK1", "198.51.100.9:6000"),
    ] {
        let mut request = request(&INVITE.replace("\nv=0", "\nv=0\n"));
        request.headers.set("Via", via);
        let source = "198.51.100.9:6000".parse().unwrap();
        request.mark_source(source);
        assert_eq!(request.via().unwrap().reply_address(source).to_string(), address, "{via}");
        let received = request.via().unwrap().param("received").is_some();
        assert_eq!(received, !via.contains("198.51.100.9:5070;branch"), "{via}");
    }
}

#[test]
fn hostile_messages_are_refused_not_trusted() {
    let long = format!("OPTIONS sip:a@b SIP/2.0\nX: {}\n\n", "y".repeat(MAX_HEADER_LINE));
    let folded = format!("OPTIONS sip:a@b SIP/2.0\nX: y\n{}\n", " yyyyyyyyyyyyyyyy\n".repeat(2000));
    let many = format!("OPTIONS sip:a@b SIP/2.0\n{}\n", "X: y\n".repeat(MAX_HEADERS + 1));
    for (name, text, error) in [
        ("empty", "", MessageError::Truncated),
        ("no empty line", "OPTIONS sip:a@b SIP/2.0\nX: y\n", MessageError::Truncated),
        (
            "body too short",
            "OPTIONS sip:a@b SIP/2.0\nContent-Length: 9\n\nabc",
            MessageError::Truncated,
        ),
        (
            "length is no number",
            "OPTIONS sip:a@b SIP/2.0\nContent-Length: -1\n\n",
            MessageError::ContentLength,
        ),
        (
            "length overflows",
            "OPTIONS sip:a@b SIP/2.0\nContent-Length: 99999999999999999999999\n\n",
            MessageError::ContentLength,
        ),
        (
            "two lengths",
            "OPTIONS sip:a@b SIP/2.0\nContent-Length: 1\nl: 2\n\nab",
            MessageError::ContentLength,
        ),
        ("no version", "OPTIONS sip:a@b\n\n", MessageError::StartLine),
        ("other version", "OPTIONS sip:a@b SIP/7.0\n\n", MessageError::StartLine),
        ("spaces in the start line", "OPTIONS  sip:a@b SIP/2.0\n\n", MessageError::StartLine),
        ("status", "SIP/2.0 99 No\n\n", MessageError::StartLine),
        ("huge status", "SIP/2.0 4294967301 better\n\n", MessageError::StartLine),
        ("no URI", "OPTIONS <sip:a@b> SIP/2.0\n\n", MessageError::RequestUri(UriError::Malformed)),
        ("no colon", "OPTIONS sip:a@b SIP/2.0\nhello\n\n", MessageError::HeaderLine),
        ("folding nothing", "OPTIONS sip:a@b SIP/2.0\n fold\n\n", MessageError::HeaderLine),
        ("NUL", "OPTIONS sip:a@b SIP/2.0\nX: a\0b\n\n", MessageError::HeaderLine),
        ("CR inside", "OPTIONS sip:a@b SIP/2.0\nX: a\rY: b\n\n", MessageError::HeaderLine),
        ("long line", &long, MessageError::TooManyHeaders),
        ("long fold", &folded, MessageError::TooManyHeaders),
        ("header bomb", &many, MessageError::TooManyHeaders),
    ] {
        assert_eq!(Message::parse(&crlf(text)), Err(error), "{name}");
    }
    assert_eq!(Message::parse(&vec![b'a'; MAX_MESSAGE + 1]), Err(MessageError::TooLong));
}

#[test]
fn headers_every_request_needs() {
    for (from, to, missing) in [
        (
            "f: \"Erika Beispiel\" <sip:491701234567@198.51.100.7>;tag=r4Z9QeKB",
            "f: <sip:a@b>",
            "From tag",
        ),
        ("i: 5d0c1e52\n", "", "Call-ID"),
        ("CSeq: 118230411 INVITE", "CSeq: 1 BYE", "CSeq"),
        ("CSeq: 118230411 INVITE", "CSeq: 4294967295 INVITE", "CSeq"),
        ("v: SIP/2.0/UDP 198.51.100.7:5080", "v: SIP/2.0/UDP", "Via"),
        ("t: <sip:4930555001", "t: \"<sip:4930555001", "To"),
    ] {
        let request = request(&INVITE.replace(from, to).replace("l: 4", "l: 3"));
        assert_eq!(request.check(), Err(MessageError::Header(missing)));
    }
}

#[test]
fn names_in_latin_1_do_not_lose_the_message() {
    let bytes = crlf(&INVITE.replace("Erika", "J\u{1}rg").replace("l: 4", "l: 3"));
    let bytes: Vec<u8> =
        bytes.into_iter().map(|byte| if byte == 1 { 0xF6 } else { byte }).collect();
    let Ok(Message::Request(request)) = Message::parse(&bytes) else { panic!() };
    assert_eq!(request.from().unwrap().tag(), Some("r4Z9QeKB"));
}

#[test]
fn a_stream_is_cut_by_content_length() {
    let one = crlf("OPTIONS sip:a@b SIP/2.0\nX: y\nContent-Length: 3\n\nabc");
    assert_eq!(stream_frame(&one[..one.len() - 5]), Ok(None), "headers incomplete");
    assert_eq!(
        stream_frame(&one[..one.len() - 2]),
        Ok(Some(Frame { length: one.len(), is_sure: true })),
        "body incomplete"
    );
    let two = [one.as_slice(), one.as_slice()].concat();
    assert_eq!(stream_frame(&two), Ok(Some(Frame { length: one.len(), is_sure: true })));
    let bomb = crlf("OPTIONS sip:a@b SIP/2.0\nContent-Length: 18446744073709551615\n\n");
    assert_eq!(stream_frame(&bomb), Err(MessageError::TooLong));
    assert_eq!(stream_frame(&vec![b'x'; MAX_MESSAGE + 1]), Err(MessageError::TooLong));
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Message::parse(&bytes);
        let _ = stream_frame(&bytes);
    }

    #[test]
    fn a_damaged_invite_never_panics_and_what_parses_parses_again(
        at in 0_usize..500, byte in any::<u8>(), cut in 0_usize..600,
    ) {
        let mut bytes = crlf(INVITE);
        if let Some(target) = bytes.get_mut(at) { *target = byte; }
        bytes.truncate(cut);
        if let Ok(message) = Message::parse(&bytes) {
            let encoded = match &message {
                Message::Request(request) => {
                    let mut marked = request.clone();
                    marked.mark_source("192.0.2.1:5060".parse().unwrap());
                    let _ = marked.check();
                    let _ = marked.response(400, Some("t")).encode();
                    request.encode()
                }
                Message::Response(response) => response.encode(),
            };
            prop_assert_eq!(Message::parse(&encoded), Ok(message));
        }
    }
}
