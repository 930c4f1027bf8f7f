//! A UDP port: one reader, and a socket that transactions write to.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, UdpSocket as StdSocket},
    sync::Arc,
};

use rsipstack::transport::{
    SipAddr,
    udp::{UdpConnection, UdpInner},
};
use tokio::{net::UdpSocket, sync::mpsc};

use super::{Delivered, StackEvent, Tasks, canonical, deliver, lower};
use crate::{
    Transport,
    message::{Arrival, MAX_MESSAGE},
};

/// Peers whose local address is remembered.
const MAX_REMEMBERED: usize = 1024;

/// A bound UDP port.
#[derive(Clone)]
pub(super) struct UdpPort {
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    connection: UdpConnection,
    tasks: Tasks,
}

impl UdpPort {
    pub(super) async fn bind(
        addr: SocketAddr,
        advertised: Option<IpAddr>,
        events: mpsc::Sender<StackEvent>,
    ) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind(addr).await?);
        let local = socket.local_addr()?;
        let inner = UdpInner { conn: socket.clone(), addr: lower::address(Transport::Udp, local) };
        let connection = UdpConnection::attach(inner, None, None).await;
        let reader = tokio::spawn(read(socket.clone(), local, advertised, events));
        Ok(Self { socket, local, connection, tasks: Tasks::new(vec![reader].into()) })
    }

    pub(super) const fn local(&self) -> SocketAddr {
        self.local
    }

    pub(super) fn connection(&self) -> UdpConnection {
        self.connection.clone()
    }

    /// Sends one datagram; what the socket does not take at once is lost, as on the way.
    pub(super) fn send(&self, to: SocketAddr, bytes: &[u8]) {
        if let Err(error) = self.socket.try_send_to(bytes, self.on_socket(to)) {
            tracing::debug!(%to, %error, "a datagram was not sent");
        }
    }

    /// `to` as transactions on this port need it.
    pub(super) fn address(&self, to: SocketAddr) -> SipAddr {
        lower::address(Transport::Udp, self.on_socket(to))
    }

    /// An IPv6 socket reaches IPv4 peers only under mapped addresses.
    fn on_socket(&self, to: SocketAddr) -> SocketAddr {
        match to.ip() {
            IpAddr::V4(ip) if self.local.is_ipv6() => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), to.port())
            }
            _ => to,
        }
    }

    pub(super) fn close(&self) {
        for task in self.tasks.lock().expect("no holder panics").drain(..) {
            task.abort();
        }
    }
}

async fn read(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    advertised: Option<IpAddr>,
    events: mpsc::Sender<StackEvent>,
) {
    let mut buffer = vec![0; MAX_MESSAGE];
    let mut reachable_at: HashMap<IpAddr, IpAddr> = HashMap::new();
    loop {
        let (length, source) = match socket.recv_from(&mut buffer).await {
            Ok((length, source)) => (length, canonical(source)),
            Err(error) => {
                // ICMP errors of earlier datagrams arrive here.
                tracing::debug!(%error, "UDP read");
                continue;
            }
        };
        let datagram = &buffer[..length];
        // Keep-alives: line ends, or zero bytes.
        if datagram.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0 | b' ')) {
            continue;
        }
        if reachable_at.len() >= MAX_REMEMBERED {
            reachable_at.clear();
        }
        let address = *reachable_at
            .entry(source.ip())
            .or_insert_with(|| reachable(local.ip(), source.ip(), advertised));
        let local = SocketAddr::new(address, local.port());
        let arrival = Arrival { transport: Transport::Udp, source, local };
        if deliver(datagram, arrival, &events).await == Delivered::Closed {
            return;
        }
    }
}

/// The address `peer` reaches us at: the advertised one, the one we are bound to, or the one the system would send
/// from.
pub(super) fn reachable(bound: IpAddr, peer: IpAddr, advertised: Option<IpAddr>) -> IpAddr {
    if let Some(advertised) = advertised.filter(|_| !peer.is_loopback()) {
        return advertised;
    }
    if !bound.is_unspecified() {
        return bound;
    }
    let any: SocketAddr = match peer.to_canonical() {
        IpAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        IpAddr::V6(_) => ([0_u16; 8], 0).into(),
    };
    // Connecting a UDP socket sends nothing; it only picks the route.
    let route = || {
        let socket = StdSocket::bind(any)?;
        socket.connect((peer.to_canonical(), 9))?;
        socket.local_addr()
    };
    route().map_or(bound, |local| local.ip())
}
