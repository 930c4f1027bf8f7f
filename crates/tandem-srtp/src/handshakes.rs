//! The handshakes of one port: the one with the address that SDP has announced, and those with whoever else comes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    DtlsError,
    dtls::{Association, DtlsKeys},
    dtls_records,
};

/// Addresses beside the announced one that may try at the same time.
const MAX_OTHERS: usize = 8;
/// How long one of them may take.
const LIFE: Duration = Duration::from_secs(10);

/// All handshakes of one port, one for each address that speaks, so that a stranger spoils only his own.
///
/// A peer behind a NAT comes from another address than the announced one. Whoever finishes first with the announced
/// certificate is the peer; until then each is answered at his own address.
#[derive(Debug)]
pub(crate) struct Handshakes {
    first: Association,
    /// Where the peer is: as announced, until it has proven itself elsewhere.
    pub(crate) remote: SocketAddr,
    others: Vec<Other>,
}

/// The handshake with an address that nobody has announced.
#[derive(Debug)]
struct Other {
    source: SocketAddr,
    association: Association,
    until: Instant,
}

/// What came of a datagram.
#[derive(Debug)]
pub(crate) enum Taken {
    /// Nothing: it is not of a handshake that we have or want.
    Ignored,
    /// A step.
    Step,
    /// The handshake is over.
    Keys(DtlsKeys),
}

impl Handshakes {
    pub(crate) const fn new(first: Association, remote: SocketAddr) -> Self {
        Self { first, remote, others: Vec::new() }
    }

    /// Takes a datagram; `anywhere` allows other hosts than the announced one. An error ends all: the peer at the announced
    /// address has caused it.
    pub(crate) fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        anywhere: bool,
        datagram: &[u8],
    ) -> Result<Taken, DtlsError> {
        let Some(datagram) = dtls_records::believable(datagram) else { return Ok(Taken::Ignored) };
        let known = self.others.iter().position(|other| other.source == source);
        let Some(at) = known else {
            if source != self.remote {
                let allowed = anywhere || source.ip() == self.remote.ip();
                return Ok(if allowed {
                    self.meet(now, source, &datagram)
                } else {
                    Taken::Ignored
                });
            }
            return Ok(match self.first.handle_datagram(now, &datagram)? {
                None => Taken::Step,
                Some(keys) => {
                    self.others.clear();
                    Taken::Keys(keys)
                }
            });
        };
        Ok(self.hear(now, at, &datagram))
    }

    /// Begins a handshake with an address that was not heard of before.
    fn meet(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Taken {
        let role = self.first.role();
        if self.first.is_finished() || !dtls_records::is_opening(datagram, role) {
            return Taken::Ignored;
        }
        let Ok(association) = self.first.another(now) else { return Taken::Ignored };
        if self.others.len() >= MAX_OTHERS {
            // The oldest that has failed, or of whom nothing shows that it is where it says: those come by thousands.
            let least = (0..self.others.len())
                .min_by_key(|at| self.others[*at].association.is_under_way())
                .unwrap_or_default();
            self.others.remove(least);
        }
        self.others.push(Other { source, association, until: now + LIFE });
        if role == crate::DtlsRole::Active {
            return Taken::Step; // That was the answer to another hello of ours.
        }
        self.hear(now, self.others.len() - 1, datagram)
    }

    fn hear(&mut self, now: Instant, at: usize, datagram: &[u8]) -> Taken {
        match self.others[at].association.handle_datagram(now, datagram) {
            Ok(None) => Taken::Step,
            Ok(Some(keys)) => {
                let peer = self.others.swap_remove(at);
                (self.first, self.remote) = (peer.association, peer.source);
                self.others.clear();
                Taken::Keys(keys)
            }
            Err(_) => {
                self.others[at].association.stop();
                Taken::Step
            }
        }
    }

    /// The next datagram, and where to.
    pub(crate) fn poll_transmit(&mut self) -> Option<(SocketAddr, Bytes)> {
        if let Some(bytes) = self.first.poll_transmit() {
            return Some((self.remote, bytes));
        }
        self.others
            .iter_mut()
            .find_map(|other| other.association.poll_transmit().map(|bytes| (other.source, bytes)))
    }

    /// When [`Self::handle_timeout`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let others = self.others.iter().map(|other| &other.association);
        std::iter::once(&self.first).chain(others).filter_map(Association::poll_timeout).min()
    }

    /// Sends again what was lost.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError> {
        self.others
            .retain_mut(|other| other.until > now && other.association.handle_timeout(now).is_ok());
        self.first.handle_timeout(now)
    }

    /// What went wrong with the announced address, if anything did.
    pub(crate) const fn failure(&self) -> Option<&DtlsError> {
        self.first.failure()
    }

    /// Takes nothing more and repeats nothing.
    pub(crate) fn stop(&mut self) {
        self.first.stop();
        self.others.clear();
    }
}
