//! Whom the softphone calls.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    str::FromStr,
};

/// A SIP URI taken apart as far as calling it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The URI, with its scheme.
    pub uri: String,
    /// Its host: a name or an address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

impl Target {
    /// Whether it is on this machine by its name: the far side may be a Tandem whose files can be read here.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl FromStr for Target {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no SIP URI, as in sip:200@127.0.0.1:5060");
        let text = text.trim();
        if text.starts_with("sips:") {
            return Err(format!(
                "{text:?}: calls over TLS are not supported by this version of Tandem"
            ));
        }
        let rest = text.strip_prefix("sip:").unwrap_or(text);
        let legal = |c: char| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '"' | '\\');
        if rest.len() > 512 || !rest.chars().all(legal) {
            return Err(wrong());
        }
        let after_user = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
        let host_port = after_user.split([';', '?']).next().unwrap_or(after_user);
        let (host, port) = match host_port.strip_prefix('[') {
            Some(v6) => {
                let (host, rest) = v6.split_once(']').ok_or_else(wrong)?;
                (host, rest.strip_prefix(':'))
            }
            None => match host_port.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (host_port, None),
            },
        };
        let port = port.map_or(Ok(5060), |port| port.parse().map_err(|_| wrong()))?;
        if host.is_empty() || port == 0 {
            return Err(wrong());
        }
        Ok(Self { uri: format!("sip:{rest}"), host: host.to_owned(), port })
    }
}

/// The local address from which the system reaches `peer`.
pub(crate) fn local_address(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = if peer.is_ipv4() {
        (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(peer)?; // Sends nothing: it only picks a route.
    Ok(socket.local_addr()?.ip())
}

/// The URI for From: `from` itself, or a user at `local`.
pub(crate) fn from_uri(from: &str, local: IpAddr) -> String {
    if from.contains("sip:") {
        return from.to_owned();
    }
    let user: String =
        from.chars().filter(|c| c.is_ascii_alphanumeric() || "+-._".contains(*c)).collect();
    let user = if user.is_empty() { "tandem" } else { &user };
    match local {
        IpAddr::V4(ip) => format!("sip:{user}@{ip}"),
        IpAddr::V6(ip) => format!("sip:{user}@[{ip}]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_sip_uri_or_what_follows_its_scheme() {
        for (text, expected) in [
            ("sip:200@127.0.0.1", Some(("sip:200@127.0.0.1", "127.0.0.1", 5060))),
            ("200@pbx.example:5080", Some(("sip:200@pbx.example:5080", "pbx.example", 5080))),
            (
                "sip:+1305@[::1]:5070;transport=tcp",
                Some(("sip:+1305@[::1]:5070;transport=tcp", "::1", 5070)),
            ),
            (
                "sip:pbx.example;transport=tcp",
                Some(("sip:pbx.example;transport=tcp", "pbx.example", 5060)),
            ),
            ("", None),
            ("sip:200@", None),
            ("sip:200@host:x", None),
            ("sip:200@host\r\nVia: x", None),
            ("sip:2 00@host", None),
            ("sips:200@host", None),
        ] {
            let target = text.parse::<Target>().ok();
            let parts = target.as_ref().map(|it| (it.uri.as_str(), it.host.as_str(), it.port));
            assert_eq!(parts, expected, "{text}");
        }
    }

    #[test]
    fn a_target_on_this_machine_is_known_by_its_name() {
        for (text, loopback) in [
            ("sip:200@127.0.0.1", true),
            ("sip:200@[::1]:5070", true),
            ("LocalHost", true),
            ("sip:200@192.0.2.7", false),
            ("sip:localhost@pbx.example", false),
        ] {
            assert_eq!(text.parse::<Target>().unwrap().is_loopback(), loopback, "{text}");
        }
    }

    #[test]
    fn a_caller_is_a_user_at_our_address_or_a_uri() {
        let local = IpAddr::from([10, 0, 0, 7]);
        for (from, uri) in [
            ("+13055550100", "sip:+13055550100@10.0.0.7"),
            ("sip:a@b", "sip:a@b"),
            ("\"A\" <sip:a@b>", "\"A\" <sip:a@b>"),
            ("<>", "sip:tandem@10.0.0.7"),
        ] {
            assert_eq!(from_uri(from, local), uri);
        }
    }
}
