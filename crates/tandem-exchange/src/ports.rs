//! RTP and RTCP ports of calls.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    ops::RangeInclusive,
    sync::atomic::{AtomicU32, Ordering},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Expedited forwarding (RFC 3246), what routers expect on voice.
const DSCP_EF: u32 = 46 << 2;

/// Pairs tried before giving up; more than this in use in a row means that the range is too small.
const TRIES: u32 = 512;

/// A free pair of sockets: RTP on an even port, RTCP on the next (RFC 3550 §11).
#[derive(Debug)]
pub struct PortPair {
    /// RTP.
    pub rtp: UdpSocket,
    /// RTCP.
    pub rtcp: UdpSocket,
    /// The RTP port.
    pub port: u16,
}

/// No pair of ports is free.
#[derive(Debug, thiserror::Error)]
#[error("no free RTP port pair in {first}-{last} after {tries} tries: {source}")]
pub struct PortsExhausted {
    first: u16,
    last: u16,
    tries: u32,
    source: io::Error,
}

/// Hands out RTP port pairs in turn, so that a port rests as long as possible before it is used again.
#[derive(Debug)]
pub struct MediaPorts {
    bind: IpAddr,
    first: u16,
    pairs: u32,
    next: AtomicU32,
}

impl MediaPorts {
    /// Pairs on `bind` out of `range`.
    pub fn new(bind: IpAddr, range: RangeInclusive<u16>) -> Self {
        let first = range.start().saturating_add(range.start() % 2);
        let pairs = (u32::from(*range.end()) + 1).saturating_sub(u32::from(first)) / 2;
        Self { bind, first, pairs, next: AtomicU32::new(0) }
    }

    /// Binds the next free pair, non-blocking.
    pub fn bind(&self) -> Result<PortPair, PortsExhausted> {
        let mut source = io::Error::from(io::ErrorKind::AddrNotAvailable);
        let tries = self.pairs.min(TRIES);
        for _ in 0..tries {
            let pair = self.next.fetch_add(1, Ordering::Relaxed) % self.pairs;
            let port = self.first + (pair * 2) as u16;
            match self.bind_pair(port) {
                Ok(pair) => return Ok(pair),
                Err(error) => source = error,
            }
        }
        let last = (u32::from(self.first) + self.pairs * 2).saturating_sub(1) as u16;
        Err(PortsExhausted { first: self.first, last, tries, source })
    }

    fn bind_pair(&self, port: u16) -> io::Result<PortPair> {
        Ok(PortPair { rtp: self.bind_one(port)?, rtcp: self.bind_one(port + 1)?, port })
    }

    fn bind_one(&self, port: u16) -> io::Result<UdpSocket> {
        let address = SocketAddr::new(self.bind, port);
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv4() {
            socket.set_tos_v4(DSCP_EF).ok(); // Best effort: some containers forbid it.
        } else {
            socket.set_tclass_v6(DSCP_EF).ok();
        }
        socket.bind(&address.into())?;
        Ok(socket.into())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn pairs_are_even_distinct_and_run_out_with_a_reason() {
        let ports = MediaPorts::new(Ipv4Addr::LOCALHOST.into(), 47_101..=47_107);
        let pairs: Vec<_> = (0..3).map(|_| ports.bind().unwrap()).collect();
        assert_eq!(
            pairs.iter().map(|pair| pair.port).collect::<Vec<_>>(),
            [47_102, 47_104, 47_106]
        );
        assert_eq!(pairs[0].rtcp.local_addr().unwrap().port(), 47_103);
        let error = ports.bind().unwrap_err().to_string();
        assert!(
            error.starts_with("no free RTP port pair in 47102-47107 after 3 tries: "),
            "{error}"
        );
        drop(pairs);
        assert!(ports.bind().is_ok());
    }
}
