//! TCP connections: accepted, opened, read message by message, found again by the peer's address.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ipnet::IpNet;
use rsipstack::transport::{stream::StreamConnection, tcp::TcpConnection};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, timeout, timeout_at},
};

use super::{Delivered, StackEvent, Tasks, canonical, deliver, lower, udp};
use crate::{
    Transport, admission,
    message::{Arrival, Frame, MAX_MESSAGE, stream_frame},
};

/// A connection may be idle for so long until one of its requests was let in.
pub(super) const NEWCOMER_IDLE: Duration = Duration::from_secs(10);
/// And then for so long: longer than a session interval.
const IDLE: Duration = Duration::from_secs(3600);
/// The kernel gives up on a peer that takes nothing for so long.
const USER_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that one source may open.
const MOST_PER_TRUSTED: usize = 32;
const MOST_PER_STRANGER: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct StreamsConfig {
    pub(super) advertised: Option<IpAddr>,
    /// Connections at most.
    pub(super) most: usize,
    /// How long a connection may be idle until one of its requests was let in.
    pub(super) newcomer_idle: Duration,
    /// Sources that need no password.
    pub(super) trusted: Arc<[IpNet]>,
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
    /// A request that came over it was let in, or we opened it.
    admitted: Arc<AtomicBool>,
    /// The peer opened it: it counts against what its source may open.
    accepted: bool,
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
                        if let Err(error) = streams.adopt(stream, local, true) {
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
        self.adopt(stream, local, false)
    }

    /// Lets a connection be idle for longer.
    pub(super) fn admit(&self, peer: SocketAddr) {
        if let Some(stream) = self.open.lock().expect("no holder panics").get(&peer) {
            stream.admitted.store(true, Ordering::Relaxed);
        }
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

    fn adopt(&self, stream: TcpStream, listener: SocketAddr, accepted: bool) -> io::Result<()> {
        let peer = canonical(stream.peer_addr()?);
        stream.set_nodelay(true)?;
        let socket = SockRef::from(&stream);
        socket.set_keepalive(true)?;
        socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
        let bound = canonical(stream.local_addr()?);
        let trusted = admission::is_trusted(&self.config.trusted, peer.ip());
        let mut open = self.open.lock().expect("no holder panics");
        if open.len() >= admission::places(self.config.most, trusted || !accepted) {
            return Err(io::Error::other("too many connections"));
        }
        if accepted {
            let source = admission::bucket_key(peer.ip());
            let is_same = |(other, stream): &(&SocketAddr, &Stream)| {
                stream.accepted && admission::bucket_key(other.ip()) == source
            };
            let most = if trusted { MOST_PER_TRUSTED } else { MOST_PER_STRANGER };
            if open.iter().filter(is_same).count() >= most {
                return Err(io::Error::other("too many connections from one source"));
            }
        }
        let address = udp::reachable(bound.ip(), peer.ip(), self.config.advertised);
        let local = SocketAddr::new(address, listener.port());
        let connection =
            TcpConnection::from_stream(stream, lower::address(Transport::Tcp, bound), None)
                .map_err(|error| io::Error::other(error.to_string()))?;
        let half = connection.inner.read_half.try_lock().ok().and_then(|mut half| half.take());
        let half = half.ok_or_else(|| io::Error::other("the connection is already read"))?;
        let arrival = Arrival { transport: Transport::Tcp, source: peer, local };
        let admitted = Arc::new(AtomicBool::new(!accepted));
        let reader = Reader {
            streams: self.clone(),
            connection: connection.clone(),
            arrival,
            admitted: admitted.clone(),
        };
        let reader = tokio::spawn(reader.run(half));
        open.insert(peer, Stream { connection, reader, admitted, accepted });
        Ok(())
    }
}

/// What the reader of one connection knows of it.
struct Reader {
    streams: Streams,
    connection: TcpConnection,
    arrival: Arrival,
    admitted: Arc<AtomicBool>,
}

impl Reader {
    async fn run(self, half: impl AsyncRead + Unpin) {
        if let Err(error) = self.read(half).await {
            tracing::debug!(peer = %self.arrival.source, %error, "TCP connection ends");
        }
        let mut open = self.streams.open.lock().expect("no holder panics");
        let is_ours = open
            .get(&self.arrival.source)
            .is_some_and(|stream| Arc::ptr_eq(&stream.connection.inner, &self.connection.inner));
        if is_ours {
            open.remove(&self.arrival.source);
        }
    }

    async fn read(&self, mut half: impl AsyncRead + Unpin) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(4096);
        let mut needed: Option<Frame> = None;
        let mut last_message = Instant::now();
        loop {
            if needed.is_none_or(|frame| buffer.len() >= frame.length) {
                if drop_line_ends(&mut buffer, &self.connection).await? && self.is_admitted() {
                    last_message = Instant::now();
                }
                needed = stream_frame(&buffer).map_err(io::Error::other)?;
                if let Some(frame) = needed.filter(|frame| buffer.len() >= frame.length) {
                    self.take(&buffer[..frame.length], frame).await?;
                    buffer.drain(..frame.length);
                    needed = None;
                    last_message = Instant::now();
                    continue;
                }
            }
            if buffer.len() > MAX_MESSAGE {
                return Err(io::Error::other("message too long"));
            }
            let until = last_message + self.patience();
            match timeout_at(until, half.read_buf(&mut buffer)).await {
                Ok(Ok(0)) => return Ok(()),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(error),
                // The last message may have been let in meanwhile.
                Err(_) if last_message + self.patience() > until => {}
                Err(elapsed) => return Err(elapsed.into()),
            }
        }
    }

    async fn take(&self, message: &[u8], frame: Frame) -> io::Result<()> {
        match deliver(message, self.arrival, &self.streams.events).await {
            Delivered::Message => Ok(()),
            // Others may share the connection: one message that cannot be read is skipped.
            Delivered::Malformed if frame.is_sure => Ok(()),
            Delivered::Malformed => {
                Err(io::Error::other("nobody knows where the next message begins"))
            }
            Delivered::Closed => Err(io::Error::other("the endpoint is closed")),
        }
    }

    fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    fn patience(&self) -> Duration {
        if self.is_admitted() { IDLE } else { self.streams.config.newcomer_idle }
    }
}

/// Line ends between messages are keep-alives: a double one wants a single one back (RFC 5626 §3.5.1). Says whether
/// there were any.
async fn drop_line_ends(buffer: &mut Vec<u8>, connection: &TcpConnection) -> io::Result<bool> {
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
    Ok(at > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_a_connection_that_was_let_in_may_be_idle() {
        let (events, _receiver) = mpsc::channel(8);
        let config = StreamsConfig {
            advertised: None,
            most: 8,
            newcomer_idle: Duration::from_millis(500),
            trusted: Arc::new([]),
        };
        let mut streams = Streams::new(config, events);
        streams.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let to = streams.listeners()[0];
        let guest = TcpStream::connect(to).await.unwrap();
        let guest = guest.local_addr().map(|addr| (guest, addr)).unwrap();
        while !streams.has(guest.1) {
            tokio::task::yield_now().await;
        }
        streams.admit(guest.1);
        let mut stranger = TcpStream::connect(to).await.unwrap();
        assert_eq!(stranger.read(&mut [0; 8]).await.unwrap(), 0, "its time is over");
        assert!(streams.has(guest.1), "this one came before it and stays");
        streams.close_all();
    }
}
