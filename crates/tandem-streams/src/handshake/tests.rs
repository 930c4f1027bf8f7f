//! Ways in and ways not in, on a virtual clock.

use proptest::prelude::*;

use super::*;
use crate::sign_token;

const UNIX: u64 = 1_800_000_000;

/// Some instant to count virtual time from.
fn beginning() -> Instant {
    Instant::now()
}

fn secret() -> secrecy::SecretString {
    "0123456789abcdef".into()
}

struct World {
    start: Instant,
    now: Instant,
    handshake: Handshake,
    said: Vec<u8>,
}

impl World {
    fn new(peer: &str) -> Self {
        let credentials = ForkCredentials {
            users: vec![("alice".into(), "s3cret".into())],
            tokens: vec!["a-static-token-of-some-length".into()],
            signing: Some(secret()),
            open_on_loopback: true,
        };
        let rules = Rules { prefix: "/freeswitch".into(), credentials };
        let start = beginning();
        let peer = SocketAddr::new(peer.parse().unwrap(), 40_000);
        let unix = Duration::from_secs(UNIX);
        let handshake = Handshake::new(start, unix, peer, Arc::new(rules));
        Self { start, now: start, handshake, said: Vec::new() }
    }

    fn here() -> Self {
        Self::new("127.0.0.1")
    }

    fn send(&mut self, bytes: &[u8]) {
        self.handshake.handle_bytes(self.now, bytes);
        self.said.extend(self.handshake.poll_transmit().unwrap_or_default());
    }

    /// Time goes on to `millis` after the start, with every timeout on the way.
    fn run_to(&mut self, millis: u64) {
        let end = self.start + Duration::from_millis(millis);
        while let Some(due) = self.handshake.poll_timeout().filter(|due| *due <= end) {
            self.now = due;
            self.handshake.handle_timeout(due);
        }
        self.said.extend(self.handshake.poll_transmit().unwrap_or_default());
        self.now = end;
    }

    fn outcome(&mut self) -> Option<Result<Greeting, Ended>> {
        self.handshake.poll_outcome()
    }

    fn status(&self) -> &str {
        str::from_utf8(&self.said).unwrap().split(' ').nth(1).unwrap_or("nothing")
    }

    /// The close code after the 101.
    fn close_code(&self) -> Option<u16> {
        let end = end_of_head(&self.said, 0)?;
        let [0x88, _, code @ ..] = &self.said[end..] else { return None };
        Some(u16::from_be_bytes(*code.first_chunk()?))
    }
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";

fn upgrade(target: &str, extra: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         {KEY}\r\nSec-WebSocket-Version: 13\r\n{extra}\r\n"
    )
    .into_bytes()
}

const JAMBONZ: &str = "/freeswitch/fork/jambonz";

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [9, 8, 7, 6];
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[test]
fn the_answer_is_that_of_rfc_6455() {
    let mut world = World::here();
    world.send(&upgrade(JAMBONZ, "Sec-WebSocket-Protocol: audio.drachtio.org\r\n"));
    assert_eq!(
        str::from_utf8(&world.said).unwrap(),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
         Sec-WebSocket-Protocol: audio.drachtio.org\r\n\r\n"
    );
}

#[test]
fn subprotocols_are_echoed_when_there_is_one() {
    for (offered, echoed) in [
        ("", None),
        ("Sec-WebSocket-Protocol: custom.proto.example\r\n", Some("custom.proto.example")),
        ("sec-websocket-protocol:a\r\n", Some("a")),
        ("Sec-WebSocket-Protocol: a, b\r\n", None),
        ("Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: b\r\n", None),
        ("Sec-WebSocket-Protocol:\r\n", None),
        ("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=9\r\n", None),
    ] {
        let mut world = World::here();
        world.send(&upgrade(JAMBONZ, offered));
        let said = str::from_utf8(&world.said).unwrap();
        assert_eq!(world.status(), "101", "{offered}");
        let expected = echoed.map(|protocol| format!("\r\nSec-WebSocket-Protocol: {protocol}\r\n"));
        match expected {
            Some(line) => assert!(said.contains(&line), "{said}"),
            None => assert!(!said.contains("Protocol:") && !said.contains("Extensions"), "{said}"),
        }
    }
}

#[test]
fn heads_that_are_no_upgrade_are_told_so() {
    let whole = |head: &str| head.replace('\n', "\r\n").into_bytes();
    let edited = |from: &str, to: &str| {
        let head = String::from_utf8(upgrade(JAMBONZ, "")).unwrap();
        assert!(head.contains(from), "{from}");
        head.replace(from, to).into_bytes()
    };
    for (name, head, status) in [
        ("no HTTP", whole("hello\n\n"), "400"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\n\n".to_vec(), "400"),
        ("empty", whole("\n\n"), "400"),
        ("a browser", whole("GET / HTTP/1.1\nHost: x\n\n"), "400"),
        ("HTTP/1.0", edited("HTTP/1.1", "HTTP/1.0"), "400"),
        ("POST", edited("GET ", "POST "), "405"),
        ("no upgrade", edited("Upgrade: websocket\r\n", ""), "400"),
        ("other upgrade", edited("Upgrade: websocket", "Upgrade: h2c"), "400"),
        ("no connection", edited("Connection: Upgrade\r\n", ""), "400"),
        ("keep-alive", edited("Connection: Upgrade", "Connection: keep-alive"), "400"),
        ("no version", edited("Sec-WebSocket-Version: 13\r\n", ""), "426"),
        ("version 8", edited("Version: 13", "Version: 8"), "426"),
        ("no key", edited(&format!("{KEY}\r\n"), ""), "400"),
        ("two keys", edited(KEY, &format!("{KEY}\r\n{KEY}")), "400"),
        ("short key", edited("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ=="), "400"),
        ("no base64", edited("dGhlIHNhbXBsZSBub25jZQ==", "!!!!!!!!!!!!!!!!!!!!!!=="), "400"),
        ("blank in a name", edited("Host:", "Ho st:"), "400"),
        ("body", upgrade(JAMBONZ, "Content-Length: 5\r\n"), "400"),
        ("chunks", upgrade(JAMBONZ, "Transfer-Encoding: chunked\r\n"), "400"),
        ("no token", upgrade(JAMBONZ, "Sec-WebSocket-Protocol: a b\r\n"), "400"),
        ("two of them", upgrade(JAMBONZ, "Authorization: a\r\nAuthorization: b\r\n"), "400"),
        ("long query", upgrade(&format!("{JAMBONZ}?{}", "a&".repeat(65)), ""), "400"),
        ("many headers", upgrade(JAMBONZ, &"a: b\r\n".repeat(60)), "431"),
        ("long head", upgrade(JAMBONZ, &format!("a: {}\r\n", "b".repeat(8_192))), "431"),
        ("no end", vec![b'a'; 8_192], "431"),
        ("root", upgrade("/", ""), "404"),
        ("prefix", upgrade("/freeswitch", ""), "404"),
        ("no such edition", upgrade("/freeswitch/fork/asterisk", ""), "404"),
        ("no prefix", upgrade("/fork/jambonz", ""), "404"),
        ("more behind", upgrade("/freeswitch/fork/jambonz/x", ""), "404"),
        ("absolute", upgrade("http://h/freeswitch/fork/jambonz", ""), "404"),
    ] {
        let mut world = World::here();
        world.send(&head);
        assert_eq!(world.status(), status, "{name}");
        assert!(matches!(world.outcome(), Some(Err(Ended::Refused(_)))), "{name}");
        assert!(!world.said.windows(4).any(|bytes| bytes == b" 101"), "{name}");
        // It is over once and for all.
        world.send(&upgrade(JAMBONZ, ""));
        assert_eq!(world.outcome(), None, "{name}");
        assert_eq!(world.handshake.poll_timeout(), None, "{name}");
    }
}

#[test]
fn heads_may_be_written_as_it_pleases() {
    let plain = upgrade(JAMBONZ, "");
    let plain = str::from_utf8(&plain).unwrap();
    for (name, head) in [
        ("as it is", plain.to_owned()),
        ("no blanks", plain.replace(": ", ":")),
        (
            "lower case",
            plain.replace("Upgrade", "upgrade").replace("Sec-WebSocket", "sec-websocket"),
        ),
        ("upper case", plain.replace("websocket\r", "WebSocket\r").replace("Host", "HOST")),
        ("bare newlines", plain.replace("\r\n", "\n")),
        ("lists", plain.replace(": Upgrade\r", ": keep-alive, Upgrade\r")),
        ("two of one", plain.replace("Connection: U", "Connection: keep-alive\r\nConnection: U")),
        ("blanks", plain.replace(": ", ":  \t").replace("13\r", "13  \r")),
        ("host with port", plain.replace("127.0.0.1", "voice.example.net:8443")),
        ("no host", plain.replace("Host: 127.0.0.1\r\n", "")),
        ("slash", plain.replace("jambonz ", "jambonz/ ")),
        ("no body", plain.replace("Host", "Content-Length: 0\r\nHost")),
    ] {
        let mut world = World::here();
        world.send(head.as_bytes());
        assert_eq!(world.status(), "101", "{name}");
    }
}

#[test]
fn each_dialect_has_its_path() {
    for dialect in Dialect::ALL {
        let mut world = World::here();
        world.send(&upgrade(&format!("/freeswitch{}?rate=8000&x", dialect.path()), ""));
        world.send(&frame(0x81, b"{}"));
        let greeting = world.outcome().unwrap().unwrap();
        assert_eq!(greeting.dialect, dialect);
        let pairs = [("rate".into(), "8000".into()), ("x".into(), String::new())];
        assert_eq!(greeting.query, pairs);
    }
    let mut lost = World::here();
    lost.send(&upgrade("/", ""));
    let said = String::from_utf8(lost.said).unwrap();
    for dialect in Dialect::ALL {
        assert!(said.contains(&format!("\n/freeswitch{}\n", dialect.path())), "{said}");
    }
}

#[test]
fn queries_are_decoded_and_keep_their_plus() {
    let mut world = World::here();
    world.send(&upgrade(
        &format!(
            "{JAMBONZ}?did=+13055551234&name=M%C3%BCller%20%26%20Co&bad=%zz%&latin=%FC&a=b=c&&=x"
        ),
        "",
    ));
    world.send(&frame(0x81, b"{}"));
    let query = world.outcome().unwrap().unwrap().query;
    let query: Vec<_> = query.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(
        query,
        [
            ("did", "+13055551234"),
            ("name", "Müller & Co"),
            ("bad", "%zz%"),
            ("latin", "\u{FFFD}"),
            ("a", "b=c"),
            ("", "x")
        ]
    );
}

#[test]
fn without_credentials_there_is_a_401_and_nothing_else() {
    let signed = |call: &str, expires| sign_token(&secret(), call, expires);
    let forged = sign_token(&"another secret of length".into(), "7f1e", UNIX + 60);
    for (name, target, header, expected) in [
        ("none", JAMBONZ.to_owned(), "", "missing"),
        ("none, no such path", "/".to_owned(), "", "missing"),
        (
            "wrong password",
            JAMBONZ.to_owned(),
            "authorization: Basic YWxpY2U6d3Jvbmc=\r\n",
            "wrong",
        ),
        ("wrong bearer", JAMBONZ.to_owned(), "Authorization:Bearer tok123\r\n", "wrong"),
        ("wrong token", format!("{JAMBONZ}?token=x"), "", "wrong"),
        ("forged token", format!("{JAMBONZ}?token={forged}"), "", "wrong"),
        ("expired", format!("{JAMBONZ}?token={}", signed("7f1e", UNIX)), "", "expired"),
        (
            "another call",
            format!("{JAMBONZ}?call=0000&token={}", signed("7f1e", UNIX + 60)),
            "",
            "another call",
        ),
    ] {
        let mut world = World::new("192.0.2.7");
        // The media that comes with it is not looked at.
        let request = [upgrade(&target, header), frame(0x81, b"{}")].concat();
        world.send(&request);
        let said = String::from_utf8(world.said.clone()).unwrap();
        assert_eq!(world.status(), "401", "{name}");
        assert!(said.contains("\r\nWWW-Authenticate: Basic realm=\"tandem\""), "{said}");
        assert!(said.contains(expected), "{name}: {said}");
        assert!(!said.contains(&forged) && !said.contains("wrong="), "{name}");
        assert!(
            matches!(world.outcome(), Some(Err(Ended::Refused(Refusal::Unauthorized(_))))),
            "{name}"
        );
    }
}

#[test]
fn credentials_of_each_kind_let_in() {
    let signed = sign_token(&secret(), "7f1e", UNIX + 6);
    for (name, target, header, who) in [
        (
            "password",
            JAMBONZ.to_owned(),
            "authorization: Basic YWxpY2U6czNjcmV0\r\n",
            AuthenticatedAs::User("alice".into()),
        ),
        (
            "bearer",
            JAMBONZ.to_owned(),
            "Authorization:Bearer a-static-token-of-some-length\r\n",
            AuthenticatedAs::Token,
        ),
        (
            "token",
            format!("{JAMBONZ}?token=a-static%2Dtoken-of-some-length&call=7f1e"),
            "",
            AuthenticatedAs::Token,
        ),
        (
            "signed",
            format!("{JAMBONZ}?call=7f1e&token={signed}"),
            "",
            AuthenticatedAs::Call("7f1e".into()),
        ),
    ] {
        let mut world = World::new("192.0.2.7");
        world.run_to(4_000);
        world.send(&upgrade(&target, header));
        world.send(&frame(0x81, b"{}"));
        let greeting = world.outcome().expect(name).expect(name);
        assert_eq!(greeting.authenticated_as, who, "{name}");
        assert!(!format!("{greeting:?}").contains("token\""), "{name}: the token went further");
    }
    // The token's time passes while the head is on its way.
    let mut world = World::new("192.0.2.7");
    let request =
        upgrade(&format!("{JAMBONZ}?token={}", sign_token(&secret(), "7f1e", UNIX + 4)), "");
    world.send(&request[..20]);
    world.run_to(4_000);
    world.send(&request[20..]);
    assert_eq!(world.status(), "401");
}

#[test]
fn the_first_message_decides() {
    let text = frame(0x81, b"{\"uuid\":\"7f1e\"}");
    let metadata = Some(&b"{\"uuid\":\"7f1e\"}"[..]);
    let audio = frame(0x82, &[7; 320]);
    let late = frame(0x82, &[7; 384_000]);
    let ping = frame(0x89, b"ping");
    let swapped = [&audio[..], &text].concat();
    let long = frame(0x81, &[b'x'; MAX_GREETING]);
    let long_text = vec![b'x'; MAX_GREETING];
    for (name, sent, expected) in [
        ("metadata", vec![&text[..]], metadata),
        ("metadata and audio", vec![&text, &audio, &audio], metadata),
        ("audio", vec![&audio], None),
        ("the beginning of audio", vec![&audio[..1]], None),
        ("a late handshake's audio", vec![&late[..8_192]], None),
        ("audio and metadata swapped", vec![&audio, &text], metadata),
        ("the same at once", vec![&swapped], metadata),
        ("nothing but audio", vec![&audio; 300], None),
        ("a heart-beat before", vec![&ping, &text], metadata),
        ("in pieces", vec![&text[..1], &text[1..7], &text[7..]], metadata),
        ("no UTF-8", vec![&frame(0x81, b"\xFC")], Some(b"\xFC")),
        ("as long as may be", vec![&long[..40_000], &long[40_000..]], Some(&long_text[..])),
        (
            "fragments",
            vec![&frame(0x01, b"{\"uuid\":"), &ping, &frame(0x80, b"\"7f1e\"}")],
            metadata,
        ),
        ("empty audio", vec![&frame(0x82, b"")], None),
    ] {
        for with_head in [true, false] {
            let mut world = World::here();
            let head = upgrade(JAMBONZ, "");
            if with_head {
                let (first, rest) = sent.split_first().unwrap();
                world.send(&[&head[..], first].concat());
                rest.iter().for_each(|bytes| world.send(bytes));
            } else {
                world.send(&head);
                sent.iter().for_each(|bytes| world.send(bytes));
            }
            assert_eq!(world.status(), "101", "{name}");
            world.run_to(100);
            let greeting = world.outcome().expect(name).expect(name);
            assert_eq!(greeting.metadata.as_deref(), expected, "{name}");
            // All that was taken is handed on.
            assert!(sent.concat().starts_with(&greeting.buffered), "{name}");
            assert!(!greeting.buffered.is_empty(), "{name}");
        }
    }
}

#[test]
fn audio_waits_for_metadata_only_where_nothing_else_names_the_call() {
    let audio = frame(0x82, &[7; 320]);
    let text = frame(0x81, b"{}");
    let named = format!("{JAMBONZ}?call=7f1e");
    for (name, target, sent, due, metadata) in [
        ("text first", JAMBONZ, vec![&text, &audio], 0, true),
        ("swapped", JAMBONZ, vec![&audio, &text], 0, true),
        ("none", JAMBONZ, vec![&audio], 100, false),
        ("none, and named", &named, vec![&audio], 0, false),
        ("swapped at once, and named", &named, vec![&[&audio[..], &text].concat()], 0, true),
    ] {
        let mut world = World::here();
        world.send(&upgrade(target, ""));
        sent.iter().for_each(|bytes| world.send(bytes));
        if due > 0 {
            world.run_to(due - 1);
            assert_eq!(world.outcome(), None, "{name}");
            world.run_to(due);
        }
        let greeting = world.outcome().expect(name).expect(name);
        assert_eq!(greeting.metadata.is_some(), metadata, "{name}");
    }
}

#[test]
fn what_is_no_greeting_is_closed() {
    for (name, sent, ended, code) in [
        ("hung up", frame(0x88, &[0x03, 0xE8]), Ended::Closed, 1000),
        ("no mask", vec![0x81, 0x00], Ended::BadFrames, 1002),
        ("an extension", frame(0xC1, b"{}"), Ended::BadFrames, 1002),
        ("endless metadata", frame(0x81, &[b'x'; MAX_GREETING + 1]), Ended::BadFrames, 1009),
        ("endless pings", frame(0x89, &[0; 125]).repeat(600), Ended::BadFrames, 1008),
    ] {
        let mut world = World::here();
        world.send(&upgrade(JAMBONZ, ""));
        sent.chunks(1_000).for_each(|bytes| world.send(bytes));
        assert_eq!(world.outcome(), Some(Err(ended)), "{name}");
        assert_eq!(world.close_code(), Some(code), "{name}");
    }
}

#[test]
fn who_leaves_is_counted_by_when() {
    let mut world = World::here();
    world.send(b"GET ");
    world.handshake.handle_end();
    assert_eq!(world.outcome(), Some(Err(Ended::Left)));
    let mut world = World::here();
    world.send(&upgrade(JAMBONZ, ""));
    world.handshake.handle_end();
    assert_eq!(world.outcome(), Some(Err(Ended::Closed)));
}

#[test]
fn a_head_that_drips_is_given_up_after_five_seconds() {
    let head = upgrade(JAMBONZ, &"X-Slow: loris\r\n".repeat(20));
    let mut world = World::here();
    for (index, byte) in head.iter().enumerate() {
        world.run_to(index as u64 * 50);
        if world.status() != "nothing" {
            break;
        }
        world.send(&[*byte]);
    }
    assert_eq!(world.status(), "408");
    assert_eq!(world.now - world.start, HEAD_WITHIN);
    assert_eq!(world.outcome(), Some(Err(Ended::Refused(Refusal::Slow))));
    // Nothing at all is the same.
    let mut world = World::here();
    world.run_to(4_999);
    assert_eq!(world.status(), "nothing");
    world.run_to(5_000);
    assert_eq!(world.status(), "408");
}

#[test]
fn silence_is_waited_for_by_what_is_known() {
    // Nothing names the call, so there is nobody to hand it to.
    let mut world = World::here();
    world.send(&upgrade(JAMBONZ, ""));
    world.run_to(9_999);
    assert_eq!(world.outcome(), None);
    world.run_to(10_000);
    assert_eq!(world.outcome(), Some(Err(Ended::Silent)));
    assert_eq!(world.close_code(), Some(1008));

    // The call is named: its audio may begin when something is played to it.
    let token = sign_token(&secret(), "7f1e", UNIX + 60);
    for query in ["call=7f1e".to_owned(), format!("token={token}")] {
        let mut world = World::here();
        world.send(&upgrade(&format!("{JAMBONZ}?{query}"), ""));
        world.run_to(1_999);
        assert_eq!(world.outcome(), None, "{query}");
        world.run_to(2_000);
        let greeting = world.outcome().unwrap().unwrap();
        assert_eq!((greeting.metadata, greeting.buffered.len()), (None, 0), "{query}");
    }

    // It speaks late: its first message is given the usual time.
    let mut world = World::here();
    world.send(&upgrade(JAMBONZ, ""));
    world.run_to(8_000);
    let text = frame(0x81, b"{}");
    world.send(&text[..3]);
    world.run_to(9_999);
    assert_eq!(world.outcome(), None);
    world.send(&text[3..]);
    assert_eq!(world.outcome().unwrap().unwrap().metadata.as_deref(), Some(&b"{}"[..]));

    // A message that never ends is handed on as it is.
    let mut world = World::here();
    world.send(&upgrade(JAMBONZ, ""));
    world.send(&text[..3]);
    world.run_to(2_000);
    let greeting = world.outcome().unwrap().unwrap();
    assert_eq!((greeting.metadata, &greeting.buffered[..]), (None, &text[..3]));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn however_the_bytes_arrive_the_outcome_is_the_same(
        cuts in prop::collection::vec(0_usize..400, 0..12),
        metadata in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let head = upgrade(&format!("{JAMBONZ}?call=7f1e"), "X-Call:abc\r\n");
        let bytes = [head.clone(), frame(0x81, &metadata)].concat();
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut world = World::here();
        let mut from = 0;
        for cut in cuts {
            world.send(&bytes[from..cut]);
            from = cut;
        }
        let greeting = world.outcome().unwrap().unwrap();
        prop_assert_eq!(greeting.metadata.as_deref(), Some(&metadata[..]));
        prop_assert_eq!(greeting.buffered, &bytes[head.len()..]);
    }

    #[test]
    fn whatever_comes_there_is_one_outcome_in_time(
        pieces in prop::collection::vec(
            prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                Just(upgrade(JAMBONZ, "")),
                Just(upgrade(JAMBONZ, "")[..60].to_vec()),
                Just(frame(0x81, b"{}")),
                Just(frame(0x89, b"")),
                Just(b"\r\n\r\n".to_vec()),
            ],
            0..12,
        ),
        end in any::<bool>(),
    ) {
        let mut world = World::here();
        for (index, piece) in pieces.iter().enumerate() {
            world.run_to(index as u64 * 700);
            world.send(piece);
        }
        if end {
            world.handshake.handle_end();
        }
        world.run_to(20_000);
        prop_assert!(world.outcome().is_some());
        prop_assert!(world.outcome().is_none());
        prop_assert_eq!(world.handshake.poll_timeout(), None);
    }

    #[test]
    fn a_damaged_head_never_opens_what_a_good_one_would_not(
        at in 0_usize..200,
        byte in any::<u8>(),
    ) {
        let mut head = upgrade(&format!("{JAMBONZ}?token=a-static-token-of-some-length"), "");
        let at = at % head.len();
        head[at] = byte;
        let mut world = World::new("192.0.2.7");
        world.send(&head);
        world.run_to(6_000);
        if world.status() == "101" {
            // Only what does not matter was changed, or the letter stands for itself.
            let line = String::from_utf8_lossy(&head);
            prop_assert!(line.contains("?token=a-static-token-of-some-length"), "{line}");
            prop_assert!(line.starts_with("GET /freeswitch/fork/jambonz?"), "{line}");
        }
    }
}
