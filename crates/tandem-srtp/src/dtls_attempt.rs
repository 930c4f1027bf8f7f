//! One attempt at a DTLS handshake: the library's state, and what it is not to be told.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use rtc_dtls::{
    config::HandshakeConfig,
    endpoint::{Endpoint, EndpointEvent},
    state::State,
};
use rtc_shared::{TransportProtocol, error::Error};

use crate::{
    DtlsRole,
    dtls_records::{self, ClientHello, RANDOM, Repeated},
};

/// The endpoint knows its peers by address; ours is always the same one, wherever its packets come from.
pub(crate) const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// A handshake from its first hello on. It ends well or is thrown away.
pub(crate) struct Attempt {
    endpoint: Endpoint,
    /// Of the peer's hello, where it began, and the cookie that it was asked to bring back.
    random: Option<[u8; RANDOM]>,
    cookie: Vec<u8>,
    repeated: Repeated,
    /// Records in clear that were taken.
    records: u64,
    outbox: VecDeque<Bytes>,
    /// It has sent more than hellos: the peer is where it says it is, or else could not have gone on.
    answered: bool,
}

impl Attempt {
    /// We begin it.
    pub(crate) fn active(now: Instant, config: &Arc<HandshakeConfig>) -> Result<Self, Error> {
        let mut attempt = Self::new(None);
        attempt.endpoint.connect(now, PEER, Arc::clone(config), None)?;
        attempt.collect();
        Ok(attempt)
    }

    /// The peer begins it with `hello`, which is still to be read.
    pub(crate) fn passive(config: &Arc<HandshakeConfig>, hello: &ClientHello<'_>) -> Self {
        let mut attempt = Self::new(Some(Arc::clone(config)));
        attempt.random = Some(*hello.random);
        attempt
    }

    fn new(server: Option<Arc<HandshakeConfig>>) -> Self {
        Self {
            endpoint: Endpoint::new(PEER, TransportProtocol::UDP, server),
            random: None,
            cookie: Vec::new(),
            repeated: Repeated::default(),
            records: 0,
            outbox: VecDeque::new(),
            answered: false,
        }
    }

    /// Whether `hello` is of the client that began it.
    pub(crate) fn began_with(&self, hello: &ClientHello<'_>) -> bool {
        self.random.as_ref() == Some(hello.random)
    }

    /// Whether `hello` brings the cookie back that its client was asked for: that client gets what we send.
    pub(crate) fn is_proven_by(&self, hello: &ClientHello<'_>) -> bool {
        self.began_with(hello) && !self.cookie.is_empty() && self.cookie == hello.cookie
    }

    /// Whether it has sent more than hellos.
    pub(crate) const fn has_answered(&self) -> bool {
        self.answered
    }

    /// Whether it knows all of `datagram`; what is new it will know.
    pub(crate) fn knows(&mut self, datagram: &[u8]) -> bool {
        self.repeated.is_all_of(datagram)
    }

    pub(crate) fn read(
        &mut self,
        now: Instant,
        datagram: &[u8],
    ) -> Result<Vec<EndpointEvent>, Error> {
        let mut datagram = BytesMut::from(datagram);
        self.records = dtls_records::renumber(&mut datagram, self.records);
        let events = self.endpoint.read(now, PEER, None, datagram);
        self.collect();
        events
    }

    /// The next datagram for the peer.
    pub(crate) fn poll_transmit(&mut self) -> Option<Bytes> {
        self.outbox.pop_front()
    }

    /// When a flight is to be sent again.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&PEER)
    }

    /// Sends a flight again if it is due; an error after too many repetitions.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return Ok(());
        }
        let sent = self.endpoint.handle_timeout(PEER, now);
        self.collect();
        sent
    }

    /// What was agreed on.
    pub(crate) fn state(&self) -> Option<&State> {
        self.endpoint.get_connection_state(PEER)
    }

    fn collect(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let bytes = transmit.message.freeze();
            if let Some(cookie) = dtls_records::asked_cookie(&bytes) {
                self.cookie = cookie.to_vec();
            }
            self.answered |= !dtls_records::is_hello(&bytes);
            self.outbox.push_back(bytes);
        }
    }
}

/// Which side begins: the library's name for it.
pub(crate) const fn is_client(role: DtlsRole) -> bool {
    matches!(role, DtlsRole::Active)
}
