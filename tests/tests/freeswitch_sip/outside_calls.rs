//! Requests outside any call.

use std::time::{Duration, Instant};

use tandem_sip::{
    SipSettings,
    message::Message,
    offline::{OfflineAgent, Outcome},
};

use crate::capture::Capture;

/// OPTIONS, REGISTER, SUBSCRIBE, PUBLISH, a method nobody knows, and REGISTER with `Expires: 0`.
pub(crate) const FILE: &str = "sip/in_options_register_others";

/// FreeSWITCH is a registrar and knows 501 for a method it never heard of; we allow none of them (RFC 3261 §8.2.1).
#[test]
fn only_options_is_answered_with_success() {
    let capture = Capture::read(FILE);
    let start = Instant::now();
    let local = capture.datagrams[0].to;
    let mut agent = OfflineAgent::new(start, local, SipSettings::default(), 7);
    let mut said = Vec::new();
    for datagram in capture.datagrams.iter().filter(|datagram| datagram.to == local) {
        let Message::Request(request) = datagram.message() else { panic!("a response to us") };
        agent.handle_datagram(start + datagram.at, datagram.from, &datagram.bytes);
        let Some(Outcome::Sent { to, message: Message::Response(response) }) = agent.poll_outcome()
        else {
            panic!("{} is not answered", request.method)
        };
        assert_eq!(to, datagram.from);
        assert_eq!(response.via().unwrap().branch(), request.via().unwrap().branch());
        assert!(response.to().unwrap().tag().is_some());
        let allow = response.headers.get("Allow").expect("both say what is allowed");
        assert!(allow.contains("INVITE") && !allow.contains("REGISTER"));
        said.push(format!("{} {}", response.status, request.method));
        assert!(agent.poll_outcome().is_none());
    }
    assert_eq!(
        said,
        ["200 OPTIONS", "405 REGISTER", "405 SUBSCRIBE", "405 PUBLISH", "405 FOO", "405 REGISTER"]
    );
    assert_eq!((agent.dialogs(), agent.poll_timeout()), (0, None::<Instant>));
    assert_eq!((agent.stats().refused, agent.stats().dropped), (5, 0));
    assert!(capture.datagrams.last().unwrap().at < Duration::from_secs(2));
}
