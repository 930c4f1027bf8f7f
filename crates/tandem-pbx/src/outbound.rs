//! Channels that a switch hands to us: the dialplan's `socket 10.0.0.9:8084 async full`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};
use tracing::{debug, warn};

use crate::{
    Answer, ChannelUuid, ChannelWatch, EventHeaders, LinkState, Reply, Switch, SwitchCommand,
    SwitchError,
    driver::{Arrival, Driver},
    link::Link,
};

/// Who may hand channels to us, and how many.
#[derive(Debug, Clone)]
pub struct OutboundSettings {
    /// The switches' addresses. The protocol has no password of its own.
    pub sources: Vec<IpNet>,
    /// Most channels at a time.
    pub max_channels: usize,
}

impl Default for OutboundSettings {
    fn default() -> Self {
        let loopback = ["127.0.0.0/8", "::1/128"].map(|net| net.parse().expect("it is a network"));
        Self { sources: loopback.into(), max_channels: 1024 }
    }
}

/// What became of connections, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutboundCounts {
    /// Connections of a known source with room for them.
    pub accepted: u64,
    /// Of another source.
    pub refused_source: u64,
    /// One too many.
    pub refused_full: u64,
}

#[derive(Debug, Default)]
struct Counters {
    accepted: AtomicU64,
    refused_source: AtomicU64,
    refused_full: AtomicU64,
}

/// Takes the connections of switches. Dropped, it takes no more; channels that were taken live on.
#[derive(Debug)]
pub struct OutboundListener {
    arrivals: mpsc::Receiver<OutboundChannel>,
    addresses: Vec<SocketAddr>,
    counters: Arc<Counters>,
    tasks: Vec<JoinHandle<()>>,
}

/// Channels that are ready and not taken yet.
const MAX_ARRIVALS: usize = 256;

impl OutboundListener {
    /// Listens at these addresses, in tasks of the current tokio runtime.
    pub async fn bind(addresses: &[SocketAddr], settings: OutboundSettings) -> io::Result<Self> {
        let (sender, arrivals) = mpsc::channel(MAX_ARRIVALS);
        let counters = Arc::new(Counters::default());
        let room = Arc::new(Semaphore::new(settings.max_channels));
        let mut listener = Self { arrivals, addresses: Vec::new(), counters, tasks: Vec::new() };
        for address in addresses {
            let socket = TcpListener::bind(address).await?;
            listener.addresses.push(socket.local_addr()?);
            let door = Door {
                sources: settings.sources.clone(),
                room: Arc::clone(&room),
                counters: Arc::clone(&listener.counters),
                arrivals: sender.clone(),
            };
            listener.tasks.push(tokio::spawn(door.run(socket)));
        }
        Ok(listener)
    }

    /// Where it listens.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The next channel, with its events subscribed; `None` when there is no address left to listen at.
    pub async fn accept(&mut self) -> Option<OutboundChannel> {
        self.arrivals.recv().await
    }

    /// What became of connections, so far.
    pub fn counts(&self) -> OutboundCounts {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        OutboundCounts {
            accepted: get(&self.counters.accepted),
            refused_source: get(&self.counters.refused_source),
            refused_full: get(&self.counters.refused_full),
        }
    }
}

impl Drop for OutboundListener {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// What the accepting tasks know.
struct Door {
    sources: Vec<IpNet>,
    room: Arc<Semaphore>,
    counters: Arc<Counters>,
    arrivals: mpsc::Sender<OutboundChannel>,
}

impl Door {
    async fn run(self, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((socket, peer)) => self.take(socket, peer),
                Err(error) => {
                    warn!(%error, "accepting an event socket");
                    // Out of descriptors: the connection stays in the queue, and asking at once would spin.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn take(&self, socket: TcpStream, peer: SocketAddr) {
        let ip = peer.ip().to_canonical();
        if !self.is_source(ip) {
            self.counters.refused_source.fetch_add(1, Ordering::Relaxed);
            debug!(%peer, "an event socket of a source that is no switch of ours");
            return;
        }
        let room = Arc::clone(&self.room).try_acquire_owned();
        let (Ok(room), Ok(place)) = (room, self.arrivals.clone().try_reserve_owned()) else {
            self.counters.refused_full.fetch_add(1, Ordering::Relaxed);
            warn!(%peer, "no room for another event socket");
            return;
        };
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve(socket, peer, room, place));
    }

    fn is_source(&self, ip: IpAddr) -> bool {
        self.sources.iter().any(|net| net.contains(&ip))
    }
}

async fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    room: OwnedSemaphorePermit,
    place: mpsc::OwnedPermit<OutboundChannel>,
) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%peer, %error, "TCP_NODELAY");
    }
    let name = peer.to_string();
    let link = Link::outbound(Instant::now(), fastrand::u64(..));
    let (switch, ends) = Switch::handle(&name);
    let arrival = Arrival { switch, place, channel: None };
    Driver::new(name.clone(), name, link, ends).on_socket(socket, arrival).run().await;
    drop(room);
}

/// A channel that a switch handed to us, with a link of its own.
///
/// Dropped together with its handles it goes back to the dialplan, as with [`OutboundChannel::release`].
#[derive(Debug)]
pub struct OutboundChannel {
    uuid: ChannelUuid,
    headers: Arc<EventHeaders>,
    events: Option<ChannelWatch>,
    switch: Switch,
}

impl OutboundChannel {
    pub(crate) fn new(headers: Arc<EventHeaders>, events: ChannelWatch, switch: Switch) -> Self {
        Self { uuid: events.uuid().clone(), headers, events: Some(events), switch }
    }

    /// The channel.
    pub fn uuid(&self) -> &ChannelUuid {
        &self.uuid
    }

    /// All that the switch said of it when it connected.
    pub fn headers(&self) -> &Arc<EventHeaders> {
        &self.headers
    }

    /// The number that was dialled.
    pub fn destination(&self) -> &str {
        self.header("Caller-Destination-Number", "Channel-Destination-Number")
    }

    /// The caller's number; empty when it is withheld.
    pub fn caller(&self) -> &str {
        self.header("Caller-Caller-ID-Number", "Channel-Caller-ID-Number")
    }

    /// The caller's name; empty when there is none.
    pub fn caller_name(&self) -> &str {
        self.header("Caller-Caller-ID-Name", "Channel-Caller-ID-Name")
    }

    /// Whether the dialplan has answered it already.
    pub fn is_answered(&self) -> bool {
        self.headers.get("Answer-State") == Some("answered")
    }

    fn header(&self, name: &str, else_name: &str) -> &str {
        self.headers.get(name).or_else(|| self.headers.get(else_name)).unwrap_or_default()
    }

    /// Its events since it was handed over; once.
    pub fn take_events(&mut self) -> Option<ChannelWatch> {
        self.events.take()
    }

    /// Carries out a command on the channel's own connection.
    pub async fn execute(&self, command: SwitchCommand) -> Result<Reply, SwitchError> {
        self.switch.execute(command).await
    }

    /// Orders a command at once; see [`Switch::submit`].
    pub fn submit(&self, command: SwitchCommand) -> Answer {
        self.switch.submit(command)
    }

    /// Watches another channel of the same switch, such as a leg called from here.
    pub fn watch(&self, uuid: ChannelUuid) -> Result<ChannelWatch, SwitchError> {
        self.switch.watch(uuid)
    }

    /// Whether the connection stands. Once down it stays down: only the switch can connect again.
    pub fn state(&self) -> LinkState {
        self.switch.state()
    }

    /// The connection as a handle like that of any switch. As long as one is held the channel stays with us.
    pub fn switch(&self) -> &Switch {
        &self.switch
    }

    /// Gives the channel back: after what was ordered before, the dialplan goes on with its next action.
    pub fn release(self) {
        if !self.switch.release() {
            self.switch.stop();
        }
    }
}

#[cfg(test)]
mod tests;
