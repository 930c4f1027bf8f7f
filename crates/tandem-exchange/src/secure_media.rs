//! Protected media between a leg and its sockets: joins what signalling settles with [`SecureTransport`].

use std::{net::SocketAddr, sync::Arc, time::Instant};

use tandem_rtp::{Channel, Latching, MediaParams};
use tandem_srtp::{
    DtlsError, DtlsIdentity, Handshake, MediaSecurity, Peer, Port, SecureTransport,
    SecurityCounters, SecurityEvent,
};

/// The security of a leg's datagrams, by the words of [`tandem_rtp`].
///
/// A leg is told where its peer is only when media may flow: until a handshake is over, its audio waits.
#[derive(Debug)]
pub struct SecureMedia {
    transport: SecureTransport,
    security: MediaSecurity,
    /// Where the peer is; none before the answer.
    params: Option<MediaParams>,
    /// The leg does not know them yet.
    held_back: bool,
    failed: Option<DtlsError>,
}

impl SecureMedia {
    /// Media without protection, until something else is agreed on. `identity` is what DTLS takes.
    pub fn new(identity: Option<Arc<DtlsIdentity>>) -> Self {
        Self {
            transport: SecureTransport::new(identity),
            security: MediaSecurity::Plain,
            params: None,
            held_back: false,
            failed: None,
        }
    }

    /// Takes how media is protected from now on; what was negotiated beside it follows, or stays.
    pub fn agree(&mut self, now: Instant, security: MediaSecurity) {
        self.security = security;
        if let Some(params) = self.params {
            self.transport.apply(now, &self.security, peer(&params));
        }
    }

    /// Takes what was negotiated, and returns it if the leg is to have it at once; else it comes by [`Self::poll_media`].
    pub fn negotiate(&mut self, now: Instant, params: MediaParams) -> Option<MediaParams> {
        self.params = Some(params);
        self.transport.apply(now, &self.security, peer(&params));
        self.held_back = !self.transport.is_ready();
        (!self.held_back).then_some(params)
    }

    /// What the leg is to have now that a handshake is over.
    pub fn poll_media(&mut self) -> Option<MediaParams> {
        match self.transport.poll_event() {
            Some(SecurityEvent::Failed(error)) => {
                self.failed = Some(error);
                None
            }
            Some(SecurityEvent::Ready) if self.held_back => {
                self.held_back = false;
                self.params
            }
            Some(SecurityEvent::Ready) | None => None,
        }
    }

    /// Why there will be no media, once. The call cannot go on.
    pub fn take_failure(&mut self) -> Option<DtlsError> {
        self.failed.take()
    }

    /// Takes a datagram off the socket of `channel`. Returns the length of the plain packet in it, if it holds one for the
    /// leg.
    pub fn unprotect(
        &mut self,
        now: Instant,
        channel: Channel,
        source: SocketAddr,
        datagram: &mut [u8],
    ) -> Option<usize> {
        self.transport.unprotect(now, port(channel), source, datagram)
    }

    /// The form in which a packet of the leg leaves; none when it must not.
    pub fn protect<'a>(&'a mut self, channel: Channel, packet: &'a [u8]) -> Option<&'a [u8]> {
        self.transport.protect(port(channel), packet)
    }

    /// The next datagram of a handshake, with the socket it leaves from.
    pub fn poll_handshake(&mut self) -> Option<(Channel, Handshake)> {
        let handshake = self.transport.poll_handshake()?;
        let channel = match handshake.port {
            Port::Rtp => Channel::Rtp,
            Port::Rtcp => Channel::Rtcp,
        };
        Some((channel, handshake))
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.transport.poll_timeout()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.transport.handle_timeout(now);
    }

    /// The protection profile in use, as SDP spells it.
    pub fn profile(&self) -> Option<&'static str> {
        self.transport.profile()
    }

    /// What was not believed or not sent, so far.
    pub const fn counters(&self) -> SecurityCounters {
        self.transport.counters()
    }
}

const fn port(channel: Channel) -> Port {
    match channel {
        Channel::Rtp => Port::Rtp,
        Channel::Rtcp => Port::Rtcp,
    }
}

fn peer(params: &MediaParams) -> Peer {
    Peer {
        rtp: params.remote_rtp,
        rtcp: if params.rtcp_mux { params.remote_rtp } else { params.remote_rtcp },
        anywhere: params.latching != Latching::Off,
    }
}
