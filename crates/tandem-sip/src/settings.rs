//! How the user agent is set up.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use secrecy::SecretString;
use tandem_call::TransferKind;
use tandem_media::{Codec, SampleRate};

use crate::LocalSecurity;

/// What carries SIP messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams; the usual one.
    Udp,
    /// A stream; needed above about 1300 bytes (RFC 3261 §18.1.1).
    Tcp,
}

impl Transport {
    /// As Via and the `transport` parameter spell it, in upper case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// The transport that a `transport` parameter names, compared without case.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Udp, Self::Tcp]
            .into_iter()
            .find(|transport| transport.name().eq_ignore_ascii_case(name))
    }
}

/// One port to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listener {
    /// UDP or TCP.
    pub transport: Transport,
    /// Where; port 0 lets the system choose.
    pub addr: SocketAddr,
}

/// A user name and its password: of a peer that authenticates to us, or ours towards a peer.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The digest user name.
    pub username: String,
    /// Its password.
    pub password: SecretString,
}

/// Whose order of codecs decides the answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CodecPreference {
    /// The order in which [`crate::LocalMedia::codecs`] lists them.
    #[default]
    Ours,
    /// The order of the offer (RFC 3264 §6.1 recommends it).
    Theirs,
}

/// Ceilings against floods; whatever is above is refused or dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// INVITEs not yet acknowledged, over all sources: further ones get 503. A quarter is kept for trusted sources.
    pub unacked: usize,
    /// The same for one source address.
    pub unacked_per_source: usize,
    /// Requests outside dialogs per second from one trusted address; any other, one with a password too, has a twentieth.
    pub requests_per_second_per_source: u32,
    /// How many of them may come at once.
    pub burst: u32,
    /// Live dialogs, all phases: further INVITEs get 503.
    pub dialogs: usize,
    /// TCP connections, over all sources. A quarter is kept for trusted sources; one of these may open 32, a stranger 4.
    pub connections: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unacked: 2_000,
            unacked_per_source: 1_000,
            requests_per_second_per_source: 500,
            burst: 1_000,
            dialogs: 10_000,
            connections: 256,
        }
    }
}

/// How the user agent is set up. The default listens nowhere and lets loopback in.
#[derive(Debug, Clone)]
pub struct SipSettings {
    /// Ports to listen on.
    pub listen: Vec<Listener>,
    /// The address peers reach us at, where it is not the one the system would use towards them (NAT, cloud).
    pub advertised: Option<IpAddr>,
    /// The address for RTP, where it is not the one SIP is reached at.
    pub media_address: Option<IpAddr>,
    /// Sources that need no password. Identity headers (P-Asserted-Identity and the like) count only from them.
    pub trusted: Vec<IpNet>,
    /// Who may call with a password from anywhere else. Empty: nobody.
    pub users: Vec<Credential>,
    /// Realm of our challenges.
    pub realm: String,
    /// The session interval we ask for (RFC 4028); none asks for nothing and still honours the peer's.
    pub session_expires: Option<Duration>,
    /// The shortest session interval we take; never below 90 s.
    pub min_se: Duration,
    /// Codecs we take at all, in order of preference. At which rate Opus runs is each call's own matter.
    pub codecs: Vec<Codec>,
    /// Whose order of codecs decides.
    pub codec_preference: CodecPreference,
    /// How media may be protected.
    pub security: LocalSecurity,
    /// Refer-To of each kind of transfer target. `{target}` is the target, `{host}` the peer's host. A kind that is
    /// missing here uses `sip:{target}@{host}`; [`TransferKind::Sip`] is taken as it stands.
    pub refer_templates: Vec<(TransferKind, String)>,
    /// Whether the headers of a transfer are escaped into Refer-To too (RFC 3261 §19.1.1), so that they reach the new
    /// call. They always stand on the REFER itself. Off by default: phones with short buffers lose such a Refer-To.
    pub refer_to_headers: bool,
    /// How long a transfer may take until its outcome is known.
    pub transfer_timeout: Duration,
    /// How long an INVITE may ring before it is refused with 480.
    pub ring_timeout: Duration,
    /// Ceilings against floods.
    pub limits: Limits,
    /// `User-Agent` and `Server`.
    pub user_agent: String,
    /// User part of our Contact.
    pub contact_user: String,
    /// `Retry-After` of every 503, in seconds. RFC 3261 §21.5.4 lets the peer avoid the whole server for so long.
    pub retry_after: u32,
}

impl Default for SipSettings {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            advertised: None,
            media_address: None,
            trusted: loopback(),
            users: Vec::new(),
            realm: "tandem".into(),
            session_expires: Some(Duration::from_secs(1800)),
            min_se: Duration::from_secs(90),
            codecs: vec![Codec::PCMU, Codec::PCMA, Codec::G722, Codec::Opus(SampleRate::Hz48000)],
            codec_preference: CodecPreference::Ours,
            security: LocalSecurity::default(),
            refer_templates: Vec::new(),
            refer_to_headers: false,
            transfer_timeout: Duration::from_secs(60),
            ring_timeout: Duration::from_secs(120),
            limits: Limits::default(),
            user_agent: concat!("tandem/", env!("CARGO_PKG_VERSION")).into(),
            contact_user: "tandem".into(),
            retry_after: 5,
        }
    }
}

fn loopback() -> Vec<IpNet> {
    let v4 = Ipv4Net::new(Ipv4Addr::new(127, 0, 0, 0), 8).expect("8 is a prefix length");
    let v6 = Ipv6Net::new(Ipv6Addr::LOCALHOST, 128).expect("128 is a prefix length");
    vec![v4.into(), v6.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_open_by_default() {
        let settings = SipSettings::default();
        for (address, open) in [
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("10.0.0.1", false),
            ("2001:db8::1", false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(
                settings.trusted.iter().any(|net| net.contains(&address)),
                open,
                "{address}"
            );
        }
        assert!(settings.users.is_empty());
    }
}
