//! The security of one leg's datagrams: stands between its two sockets and the leg.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    DtlsError, DtlsIdentity, MediaSecurity, OVERHEAD, Protocol, SrtpError,
    dtls::Association,
    handshakes::{Handshakes, Taken},
    path::Path,
};

/// How long a handshake may take: the caller hears nothing meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// Room for a packet and its tag; longer ones only cost an allocation.
const BUFFER: usize = 2048 + OVERHEAD;

/// One of the leg's two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Port {
    /// RTP, with RTCP beside it where they share a port.
    Rtp,
    /// RTCP alone.
    Rtcp,
}

/// Where the peer's media is, for handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its RTP port.
    pub rtp: SocketAddr,
    /// Its RTCP port; equals `rtp` where they share one.
    pub rtcp: SocketAddr,
    /// It may sit behind a NAT: its handshake is taken from any address.
    pub anywhere: bool,
}

/// A datagram of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Where from.
    pub port: Port,
    /// Where to.
    pub destination: SocketAddr,
    /// What.
    pub bytes: Bytes,
}

/// What came of a handshake. With SDES and without protection nothing does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityEvent {
    /// There are keys: media may flow.
    Ready,
    /// There will be none, and so no media.
    Failed(DtlsError),
}

/// Packets that were not believed or not sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SecurityCounters {
    /// In: nobody with the key has sent them.
    pub forged: u64,
    /// In: they came before, or are too old to tell.
    pub replayed: u64,
    /// In: too short, neither RTP nor RTCP, of one source too many, or a handshake that was not agreed on.
    pub malformed: u64,
    /// In or out: there was no key yet.
    pub too_early: u64,
    /// Out: the key is used up, or a sequence number came twice.
    pub unsent: u64,
}

/// Protects and checks the datagrams of one leg as was agreed on: a machine without sockets or clock.
///
/// It begins without protection. Once something secure is agreed on, nothing enters or leaves in clear, and with DTLS
/// nothing at all until the handshake is over. Packets are worked on in place or in one buffer, without an allocation.
#[derive(Default)]
pub struct SecureTransport {
    identity: Option<Arc<DtlsIdentity>>,
    agreed: MediaSecurity,
    peer: Option<Peer>,
    rtp: Path,
    /// With DTLS and two ports, RTCP has a handshake and keys of its own (RFC 5764 §4.1.2).
    rtcp: Option<Path>,
    give_up_at: Option<Instant>,
    out: Vec<u8>,
    event: Option<SecurityEvent>,
    counters: SecurityCounters,
}

impl SecureTransport {
    /// A transport without protection so far; `identity` is what DTLS takes.
    pub fn new(identity: Option<Arc<DtlsIdentity>>) -> Self {
        Self { identity, out: Vec::with_capacity(BUFFER), ..Self::default() }
    }

    /// Takes what an answer, a re-INVITE or an UPDATE settled. The same again changes nothing: rollover counters,
    /// replay windows and handshakes go on.
    pub fn apply(&mut self, now: Instant, security: &MediaSecurity, peer: Peer) {
        let changed = *security != self.agreed;
        if self.peer != Some(peer) {
            self.peer = Some(peer);
            if let Some(handshakes) = &mut self.rtp.handshakes {
                handshakes.remote = peer.rtp;
            }
            if let Some(handshakes) = self.rtcp.as_mut().and_then(|rtcp| rtcp.handshakes.as_mut()) {
                handshakes.remote = peer.rtcp;
            }
        }
        if !changed {
            return;
        }
        self.agreed = security.clone();
        (self.event, self.give_up_at) = (None, None);
        match security {
            MediaSecurity::Plain => (self.rtp, self.rtcp) = (Path::default(), None),
            MediaSecurity::Sdes { ours, theirs, mki } => {
                self.rtcp = None;
                self.rtp.handshakes = None;
                self.rtp.use_keys(ours, theirs, *mki);
            }
            MediaSecurity::Dtls { .. } => {
                self.give_up_at = Some(now + PATIENCE);
                if let Err(error) = self.shake_hands(now, peer) {
                    self.fail(error);
                }
            }
        }
    }

    fn shake_hands(&mut self, now: Instant, peer: Peer) -> Result<(), DtlsError> {
        let (MediaSecurity::Dtls { role, fingerprints, .. }, Some(identity)) =
            (&self.agreed, &self.identity)
        else {
            return Err(DtlsError::Failed("there is no certificate".into()));
        };
        let start = |remote| {
            let association = Association::start(now, identity, *role, fingerprints)?;
            Ok(Some(Handshakes::new(association, remote)))
        };
        self.rtp.handshakes = start(peer.rtp)?;
        if peer.rtp == peer.rtcp {
            self.rtcp = None;
        } else {
            self.rtcp.get_or_insert_default().handshakes = start(peer.rtcp)?;
        }
        Ok(())
    }

    /// What was agreed on last.
    pub const fn agreed(&self) -> &MediaSecurity {
        &self.agreed
    }

    /// Whether media may flow: it needs no keys, or has some.
    pub const fn is_ready(&self) -> bool {
        !self.agreed.is_secure() || self.rtp.has_keys()
    }

    /// The protection profile in use, as SDP spells it.
    pub fn profile(&self) -> Option<&'static str> {
        self.rtp.profile()
    }

    /// What was not believed or not sent, so far.
    pub const fn counters(&self) -> SecurityCounters {
        self.counters
    }

    /// Takes a datagram that arrived at `port`. Returns the length of the plain packet, which begins where the datagram
    /// did; none when there is nothing for the leg: a handshake, a forgery, a repetition.
    pub fn unprotect(
        &mut self,
        now: Instant,
        port: Port,
        source: SocketAddr,
        datagram: &mut [u8],
    ) -> Option<usize> {
        if !self.agreed.is_secure() {
            return Some(datagram.len());
        }
        let protocol = Protocol::of(datagram);
        match protocol {
            Protocol::Rtp | Protocol::Rtcp => match self.path(port).open(protocol, datagram) {
                Some(Ok(length)) => return Some(length),
                Some(Err(error)) => self.count(error),
                None => self.counters.too_early += 1,
            },
            Protocol::Dtls => self.handle_handshake(now, port, source, datagram),
            Protocol::Other => self.counters.malformed += 1,
        }
        None
    }

    /// The form in which `packet` leaves from `port`; none when it must not.
    pub fn protect<'a>(&'a mut self, port: Port, packet: &'a [u8]) -> Option<&'a [u8]> {
        if !self.agreed.is_secure() {
            return Some(packet);
        }
        let path = match (&mut self.rtcp, port) {
            (Some(rtcp), Port::Rtcp) => rtcp,
            _ => &mut self.rtp,
        };
        match path.seal(Protocol::of(packet), packet, &mut self.out) {
            Some(Ok(())) => return Some(&self.out),
            Some(Err(_)) => self.counters.unsent += 1,
            None => self.counters.too_early += 1,
        }
        None
    }

    /// The next datagram of a handshake.
    pub fn poll_handshake(&mut self) -> Option<Handshake> {
        let paths = [(Port::Rtp, Some(&mut self.rtp)), (Port::Rtcp, self.rtcp.as_mut())];
        for (port, path) in paths {
            let handshakes = path.and_then(|path| path.handshakes.as_mut());
            if let Some((destination, bytes)) = handshakes.and_then(Handshakes::poll_transmit) {
                return Some(Handshake { port, destination, bytes });
            }
        }
        None
    }

    /// What came of a handshake, once.
    pub const fn poll_event(&mut self) -> Option<SecurityEvent> {
        self.event.take()
    }

    /// When [`Self::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let repeat = |path: &Path| path.handshakes.as_ref().and_then(Handshakes::poll_timeout);
        let (rtp, rtcp) = (repeat(&self.rtp), self.rtcp.as_ref().and_then(repeat));
        [rtp, rtcp, self.give_up_at].into_iter().flatten().min()
    }

    /// Repeats what a handshake has lost, or gives it up.
    pub fn handle_timeout(&mut self, now: Instant) {
        let handshakes = self.rtp.handshakes.as_mut();
        if self.give_up_at.is_some_and(|at| at <= now) {
            let failure = handshakes.and_then(|it| it.failure()).cloned();
            return self.fail(failure.unwrap_or(DtlsError::TimedOut));
        }
        if let Some(Err(error)) = handshakes.map(|it| it.handle_timeout(now)) {
            return self.fail(error);
        }
        if let Some(rtcp) = &mut self.rtcp
            && rtcp.handshakes.as_mut().is_some_and(|it| it.handle_timeout(now).is_err())
        {
            rtcp.handshakes = None; // A call does without RTCP.
        }
    }

    fn handle_handshake(&mut self, now: Instant, port: Port, source: SocketAddr, datagram: &[u8]) {
        let anywhere = self.peer.is_some_and(|peer| peer.anywhere);
        let path = self.path(port);
        let taken = match &mut path.handshakes {
            Some(handshakes) => handshakes.handle_datagram(now, source, anywhere, datagram),
            None => Ok(Taken::Ignored),
        };
        match taken {
            Ok(Taken::Ignored) => self.counters.malformed += 1,
            Ok(Taken::Step) => {}
            Ok(Taken::Keys(keys)) => {
                path.use_dtls_keys(&keys);
                let of_media = self.rtcp.is_none() || port == Port::Rtp;
                if of_media {
                    self.give_up_at = None;
                    self.event = Some(SecurityEvent::Ready);
                }
            }
            Err(error) if port == Port::Rtp => self.fail(error),
            Err(_) => path.handshakes = None, // A call does without RTCP.
        }
    }

    fn path(&mut self, port: Port) -> &mut Path {
        match (&mut self.rtcp, port) {
            (Some(rtcp), Port::Rtcp) => rtcp,
            _ => &mut self.rtp,
        }
    }

    /// Gives up: there will be no keys of this handshake.
    fn fail(&mut self, error: DtlsError) {
        self.give_up_at = None;
        for path in [Some(&mut self.rtp), self.rtcp.as_mut()].into_iter().flatten() {
            if let Some(handshakes) = &mut path.handshakes {
                handshakes.stop();
            }
        }
        self.event = Some(SecurityEvent::Failed(error));
    }

    const fn count(&mut self, error: SrtpError) {
        match error {
            SrtpError::Forged => self.counters.forged += 1,
            SrtpError::Replayed => self.counters.replayed += 1,
            SrtpError::Malformed | SrtpError::TooManySources | SrtpError::Exhausted => {
                self.counters.malformed += 1;
            }
        }
    }
}

impl fmt::Debug for SecureTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecureTransport")
            .field("agreed", &self.agreed)
            .field("ready", &self.is_ready())
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
