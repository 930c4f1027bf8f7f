//! SIP messages as they stand on the wire.

use std::net::{IpAddr, SocketAddr};

/// One SIP message as it stood on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    head: String,
    /// What follows the empty line.
    pub(crate) body: String,
}

impl Message {
    /// The status of a response; 0 for a request.
    pub(crate) fn status(&self) -> u16 {
        let words = self.head.strip_prefix("SIP/2.0 ");
        words.map_or(0, |words| words[..3].parse().expect("a status is a number"))
    }

    /// The method of a request; the version for a response.
    pub(crate) fn method(&self) -> &str {
        self.head.split(' ').next().unwrap_or_default()
    }

    /// The user part of the Request-URI.
    pub(crate) fn uri_user(&self) -> &str {
        let uri = self.head.split(' ').nth(1).unwrap_or_default();
        let user = uri.split('@').next().unwrap_or_default();
        user.trim_start_matches("sips:").trim_start_matches("sip:")
    }

    /// The value of the header `name`; panics when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers(name);
        values.next().unwrap_or_else(|| panic!("no {name} in {}", self.head))
    }

    /// The values of all header lines called `name`.
    pub(crate) fn headers(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(':'));
        let named = lines.filter(move |(key, _)| key.trim().eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.trim())
    }

    /// Whether the SDP has the attribute line `a=name`.
    pub(crate) fn has_attribute(&self, name: &str) -> bool {
        self.body.lines().any(|line| line.strip_prefix("a=") == Some(name))
    }

    /// The formats of the audio line of the SDP.
    pub(crate) fn formats(&self) -> Vec<&str> {
        let line = self.body.lines().find_map(|line| line.strip_prefix("m=audio "));
        line.expect("the SDP has audio").split(' ').skip(2).collect()
    }

    /// Where the SDP wants RTP.
    pub(crate) fn media(&self) -> SocketAddr {
        let after = |prefix| {
            let line = self.body.lines().find_map(|line| line.strip_prefix(prefix));
            line.and_then(|line| line.split(' ').next()).expect("the SDP has address and port")
        };
        let ip: IpAddr = after("c=IN IP4 ").parse().expect("an address");
        SocketAddr::new(ip, after("m=audio ").parse().expect("a port"))
    }
}

/// Takes the first whole message off `bytes`, and the answers to keep-alives before it.
pub(crate) fn take_message(bytes: &mut Vec<u8>) -> Option<Message> {
    while bytes.starts_with(b"\r\n") {
        bytes.drain(..2);
    }
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8(bytes[..end].to_vec()).expect("the daemon writes UTF-8");
    let message = Message { head, body: String::new() };
    let length: usize = message.header("Content-Length").parse().expect("a length is a number");
    let body = bytes.get(end + 4..end + 4 + length)?.to_vec();
    bytes.drain(..end + 4 + length);
    Some(Message { body: String::from_utf8(body).expect("the daemon writes UTF-8"), ..message })
}
