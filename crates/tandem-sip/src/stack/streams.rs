//! TCP connections: accepted, opened, read message by message, found again by the peer's address.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use rsipstack::transport::{stream::StreamConnection, tcp::TcpConnection};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::timeout,
};

use super::{StackEvent, Tasks, deliver, lower, udp};
use crate::{
    Transport,
    message::{Arrival, MAX_MESSAGE, stream_length},
};

/// A connection has so long to bring its first message.
const FIRST_MESSAGE: Duration = Duration::from_secs(30);
/// And so long between two: longer than a session interval.
const IDLE: Duration = Duration::from_secs(3600);
/// The kernel gives up on a peer that takes nothing for so long.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy)]
pub(super) struct StreamsConfig {
    pub(super) advertised: Option<IpAddr>,
    /// Connections at most.
    pub(super) most: usize,
}

/// All TCP connections.
#[derive(Clone)]
pub(super) struct Streams {
    config: StreamsConfig,
    open: Arc<Mutex<HashMap<SocketAddr, Stream>>>,
    listeners: Vec<SocketAddr>,
    acceptors: Tasks,
    events: mpsc::Sender<StackEvent>,
}

struct Stream {
    connection: TcpConnection,
    reader: JoinHandle<()>,
}

impl Streams {
    pub(super) fn new(config: StreamsConfig, events: mpsc::Sender<StackEvent>) -> Self {
        Self {
            config,
            open: Arc::default(),
            listeners: Vec::new(),
            acceptors: Tasks::default(),
            events,
        }
    }

    pub(super) async fn listen(&mut self, addr: SocketAddr) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(1024)?;
        let listener = TcpListener::from_std(socket.into())?;
        let local = listener.local_addr()?;
        self.listeners.push(local);
        let streams = self.clone();
        let acceptor = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        if let Err(error) = streams.adopt(stream, local) {
                            tracing::debug!(%error, "a TCP connection was not taken");
                        }
                    }
                    Err(error) => {
                        // Out of descriptors, mostly: trying again at once would only burn time.
                        tracing::warn!(%error, "TCP accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                }
            }
        });
        self.acceptors.lock().expect("no holder panics").push(acceptor);
        Ok(())
    }

    pub(super) fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    pub(super) fn len(&self) -> usize {
        self.open.lock().expect("no holder panics").len()
    }

    pub(super) fn has(&self, peer: SocketAddr) -> bool {
        self.open.lock().expect("no holder panics").contains_key(&peer)
    }

    pub(super) fn connection(&self, peer: SocketAddr) -> Option<TcpConnection> {
        self.open
            .lock()
            .expect("no holder panics")
            .get(&peer)
            .map(|stream| stream.connection.clone())
    }

    /// Makes sure that there is a connection to `peer`.
    pub(super) async fn connect(
        &self,
        peer: SocketAddr,
        local: SocketAddr,
        within: Duration,
    ) -> io::Result<()> {
        if self.has(peer) {
            return Ok(());
        }
        let stream = timeout(within, TcpStream::connect(peer)).await??;
        self.adopt(stream, local)
    }

    /// Writes a whole message. A peer that does not read loses its connection.
    pub(super) async fn write(&self, peer: SocketAddr, bytes: &[u8], within: Duration) {
        let Some(connection) = self.connection(peer) else { return };
        let written = timeout(within, connection.send_raw(bytes)).await;
        if !matches!(written, Ok(Ok(()))) {
            self.close(peer);
        }
    }

    pub(super) fn close(&self, peer: SocketAddr) {
        if let Some(stream) = self.open.lock().expect("no holder panics").remove(&peer) {
            stream.reader.abort();
        }
    }

    pub(super) fn close_all(&self) {
        for acceptor in self.acceptors.lock().expect("no holder panics").drain(..) {
            acceptor.abort();
        }
        for (_, stream) in self.open.lock().expect("no holder panics").drain() {
            stream.reader.abort();
        }
    }

    fn adopt(&self, stream: TcpStream, listener: SocketAddr) -> io::Result<()> {
        let peer = stream.peer_addr()?;
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_keepalive(true)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        let bound = stream.local_addr()?;
        let mut open = self.open.lock().expect("no holder panics");
        if open.len() >= self.config.most {
            return Err(io::Error::other("too many connections"));
        }
        let address = udp::reachable(bound.ip(), peer.ip(), self.config.advertised);
        let local = SocketAddr::new(address, listener.port());
        let connection =
            TcpConnection::from_stream(stream, lower::address(Transport::Tcp, bound), None)
                .map_err(|error| io::Error::other(error.to_string()))?;
        let half = connection.inner.read_half.try_lock().ok().and_then(|mut half| half.take());
        let half = half.ok_or_else(|| io::Error::other("the connection is already read"))?;
        let arrival = Arrival { transport: Transport::Tcp, source: peer, local };
        let reader = tokio::spawn(run(self.clone(), connection.clone(), half, arrival));
        open.insert(peer, Stream { connection, reader });
        Ok(())
    }
}

async fn run(
    streams: Streams,
    connection: TcpConnection,
    half: impl AsyncRead + Unpin,
    arrival: Arrival,
) {
    if let Err(error) = read(&streams.events, &connection, half, arrival).await {
        tracing::debug!(peer = %arrival.source, %error, "TCP connection ends");
    }
    let mut open = streams.open.lock().expect("no holder panics");
    let is_ours = open
        .get(&arrival.source)
        .is_some_and(|stream| Arc::ptr_eq(&stream.connection.inner, &connection.inner));
    if is_ours {
        open.remove(&arrival.source);
    }
}

async fn read(
    events: &mpsc::Sender<StackEvent>,
    connection: &TcpConnection,
    mut half: impl AsyncRead + Unpin,
    arrival: Arrival,
) -> io::Result<()> {
    let mut buffer = Vec::with_capacity(4096);
    let mut needed = None;
    let mut patience = FIRST_MESSAGE;
    loop {
        if needed.is_none_or(|needed| buffer.len() >= needed) {
            drop_line_ends(&mut buffer, connection).await?;
            needed = stream_length(&buffer).map_err(io::Error::other)?;
            if let Some(length) = needed.filter(|length| buffer.len() >= *length) {
                if !deliver(&buffer[..length], arrival, events).await {
                    // What follows a broken message in a stream cannot be trusted to begin where it seems to.
                    return Err(io::Error::other("malformed message"));
                }
                buffer.drain(..length);
                needed = None;
                patience = IDLE;
                continue;
            }
        }
        if buffer.len() > MAX_MESSAGE {
            return Err(io::Error::other("message too long"));
        }
        if timeout(patience, half.read_buf(&mut buffer)).await?? == 0 {
            return Ok(());
        }
    }
}

/// Line ends between messages are keep-alives: a double one wants a single one back (RFC 5626 §3.5.1).
async fn drop_line_ends(buffer: &mut Vec<u8>, connection: &TcpConnection) -> io::Result<()> {
    let mut pings = 0;
    let mut at = 0;
    while buffer[at..].starts_with(b"\r\n") {
        if buffer[at..].starts_with(b"\r\n\r\n") {
            pings += 1;
            at += 2;
        }
        at += 2;
    }
    buffer.drain(..at);
    if pings > 0 {
        let pong = timeout(super::WRITE_TIMEOUT, connection.send_raw(b"\r\n")).await?;
        pong.map_err(|error| io::Error::other(error.to_string()))?;
    }
    Ok(())
}
