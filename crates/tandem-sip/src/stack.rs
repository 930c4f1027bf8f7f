//! The boundary: sockets, framing and transactions. Nothing outside sees a type of the SIP stack in use, so that it
//! can be replaced.
//!
//! rsipstack runs the transactions (RFC 3261 §17) and writes to the sockets. Reading, framing and parsing are ours:
//! its readers feed unbounded queues and lose a message over one unknown method or a byte that is no UTF-8.

mod lower;
mod streams;
mod udp;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rsipstack::{
    EndpointBuilder,
    sip::SipMessage,
    transaction::{
        Endpoint, TransactionReceiver,
        endpoint::{EndpointInnerRef, EndpointOption},
        key::{TransactionKey, TransactionRole},
        transaction::{Transaction, TransactionEvent, TransactionEventSender},
    },
    transport::SipConnection,
};
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

use self::{
    streams::{NEWCOMER_IDLE, Streams, StreamsConfig},
    udp::UdpPort,
};
use crate::{
    Listener, SipSettings, Transport,
    action::{ClientId, ReplyTo, ServerId, Target},
    ids::Ids,
    message::{Arrival, Message, Method, Request, Response},
    uri::host_text,
};

/// Messages and news of transactions that wait for the user agent; readers wait when there are more, and the kernel
/// drops.
const QUEUE: usize = 4096;
/// How long one write may hold up the rest.
const WRITE_TIMEOUT: Duration = Duration::from_millis(250);
/// A transaction with a final response lives no longer than this: a little more than 64*T1.
const LONGEST_WAIT: Duration = Duration::from_secs(33);
/// Name resolution and connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What comes up.
#[derive(Debug)]
pub(crate) enum StackEvent {
    /// A message; of a request the topmost Via says where it came from.
    Message { arrival: Arrival, message: Message },
    /// Bytes that are no message, and what could be read of them if they may be answered.
    Malformed(Option<(Arrival, Box<Request>)>),
    /// The INVITE of this transaction was cancelled; the CANCEL is answered.
    Cancelled(ServerId),
    /// A response to a request of ours, 2xx to INVITE aside: those come as [`StackEvent::Message`].
    Response { transaction: ClientId, response: Response },
    /// Nothing comes from this transaction any more.
    ServerOver(ServerId),
    /// The same for one of ours.
    ClientOver(ClientId),
}

/// Why the endpoint could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The port is taken, or the address is not ours.
    #[error("cannot listen on {transport} {addr}: {source}", transport = .listener.transport.name(), addr = .listener.addr)]
    Listen {
        /// Which listener.
        listener: Listener,
        /// What the system says.
        source: io::Error,
    },
    /// The system has no random numbers.
    #[error("no random numbers: {0}")]
    Random(io::Error),
}

/// Sockets and transactions.
pub(crate) struct Stack {
    endpoint: Endpoint,
    incoming: TransactionReceiver,
    udp: Vec<UdpPort>,
    streams: Streams,
    servers: HashMap<ServerId, Running>,
    clients: HashMap<ClientId, Running>,
    next_server: u64,
    ids: Ids,
    events: mpsc::Sender<StackEvent>,
    pump: JoinHandle<()>,
}

/// A transaction's own task reads this queue.
struct Running {
    queue: TransactionEventSender,
    key: TransactionKey,
    /// The INVITE of a client transaction, for its CANCEL.
    sent: Option<(Request, Target)>,
}

impl Running {
    fn end(&self) {
        self.queue.send(TransactionEvent::Terminate(self.key.clone())).ok();
    }
}

impl Stack {
    /// Opens every listener, or none.
    pub(crate) async fn bind(
        settings: &SipSettings,
        ids: Ids,
    ) -> Result<(Self, mpsc::Receiver<StackEvent>), BindError> {
        let (events, receiver) = mpsc::channel(QUEUE);
        let advertised = settings.advertised;
        let mut udp = Vec::new();
        let mut streams = Streams::new(
            StreamsConfig {
                advertised,
                most: settings.limits.connections,
                newcomer_idle: NEWCOMER_IDLE,
                trusted: settings.trusted.as_slice().into(),
            },
            events.clone(),
        );
        for &listener in &settings.listen {
            let failed = |source| BindError::Listen { listener, source };
            match listener.transport {
                Transport::Udp => {
                    udp.push(
                        UdpPort::bind(listener.addr, advertised, events.clone())
                            .await
                            .map_err(failed)?,
                    );
                }
                Transport::Tcp => streams.listen(listener.addr).await.map_err(failed)?,
            }
        }
        // ACKs of 2xx are the dialog's business: the stack's own would lack an answer to a delayed offer.
        let option = EndpointOption { auto_ack_2xx: false, ..EndpointOption::default() };
        let endpoint = EndpointBuilder::new()
            .with_option(option)
            .with_user_agent(&settings.user_agent)
            .build();
        let incoming = endpoint.incoming_transactions().expect("nobody else has taken them");
        let pump = tokio::spawn(pump_timers(endpoint.inner.clone()));
        let stack = Self {
            endpoint,
            incoming,
            udp,
            streams,
            servers: HashMap::new(),
            clients: HashMap::new(),
            next_server: 0,
            ids,
            events,
            pump,
        };
        Ok((stack, receiver))
    }

    /// The listeners with the ports they got.
    pub(crate) fn listeners(&self) -> Vec<Listener> {
        let udp =
            self.udp.iter().map(|port| Listener { transport: Transport::Udp, addr: port.local() });
        let tcp = self
            .streams
            .listeners()
            .iter()
            .map(|addr| Listener { transport: Transport::Tcp, addr: *addr });
        udp.chain(tcp).collect()
    }

    /// Where we are towards `peer`: port and reachable address of the listener to use.
    pub(crate) fn local_towards(
        &self,
        transport: Transport,
        peer: IpAddr,
        advertised: Option<IpAddr>,
    ) -> SocketAddr {
        let of_family = |addr: &SocketAddr| addr.is_ipv4() == peer.is_ipv4();
        let listeners: Vec<_> = self
            .listeners()
            .into_iter()
            .filter(|it| it.transport == transport)
            .map(|it| it.addr)
            .collect();
        let listener = listeners.iter().copied().find(of_family).or(listeners.first().copied());
        let listener = listener.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 5060)));
        SocketAddr::new(udp::reachable(listener.ip(), peer, advertised), listener.port())
    }

    /// Live transactions and streams.
    pub(crate) fn load(&self) -> (usize, usize) {
        (self.servers.len() + self.clients.len(), self.streams.len())
    }

    /// Gives a request to its transaction. A new one gets a new transaction, whose name is returned.
    pub(crate) async fn begin(&mut self, arrival: &Arrival, request: &Request) -> Option<ServerId> {
        self.hand_over(arrival, lower::request(request)?.into()).await;
        let mut transaction = self.incoming.try_recv().ok()?;
        if arrival.transport == Transport::Udp {
            let reply =
                request.via().map_or(arrival.source, |via| via.reply_address(arrival.source));
            transaction.destination = Some(self.udp_port(arrival.local)?.address(reply));
        }
        self.next_server += 1;
        let id = ServerId(self.next_server);
        let running = Running {
            queue: transaction.tu_sender.clone(),
            key: transaction.key.clone(),
            sent: None,
        };
        self.servers.insert(id, running);
        let events = self.events.clone();
        tokio::spawn(async move {
            while let Some(message) = transaction.receive().await {
                if lower::is_cancel(&message) {
                    events.send(StackEvent::Cancelled(id)).await.ok();
                }
            }
            drop(transaction);
            events.send(StackEvent::ServerOver(id)).await.ok();
        });
        Some(id)
    }

    /// Answers through a transaction. A 2xx to INVITE ends it: the dialog repeats that itself.
    pub(crate) fn respond(&mut self, transaction: ServerId, response: &Response) {
        let Some(running) = self.servers.get(&transaction) else { return };
        let Some(lowered) = lower::response(response) else { return running.end() };
        running.queue.send(TransactionEvent::Respond(lowered)).ok();
        if response.status < 200 {
            return;
        }
        let is_invite = response.cseq().is_ok_and(|(_, method)| method == Method::Invite);
        if is_invite && response.status >= 300 {
            // It waits for the ACK by itself, unless the response could not be sent.
            let (queue, key) = (running.queue.clone(), running.key.clone());
            tokio::spawn(async move {
                tokio::time::sleep(LONGEST_WAIT).await;
                queue.send(TransactionEvent::Terminate(key)).ok();
            });
        } else {
            running.end();
        }
    }

    /// Sends a response outside any transaction.
    pub(crate) async fn reply(&self, to: ReplyTo, response: &Response) {
        match to.transport {
            Transport::Udp => self.datagram(to.local, to.address, &response.encode()),
            Transport::Tcp => {
                self.streams.write(to.address, &response.encode(), WRITE_TIMEOUT).await;
            }
        }
    }

    /// Sends a request in a transaction of its own. Whatever goes wrong comes back as a response: 503 when there is
    /// no way, 408 when nobody answers.
    pub(crate) fn send(&mut self, transaction: ClientId, mut request: Request, to: Target) {
        let branch = self.ids.tag();
        request.headers.push_front("Via", via(&to, &branch));
        self.start(transaction, request, to);
    }

    /// Cancels an INVITE of ours (RFC 3261 §9.1).
    pub(crate) fn cancel(&mut self, invite: ClientId, cancel: ClientId, reason: &str) {
        let sent = self.clients.get(&invite).and_then(|running| running.sent.clone());
        let Some((invite, to)) = sent else { return self.report_over(cancel) };
        self.start(cancel, cancel_of(&invite, reason), to);
    }

    fn start(&mut self, id: ClientId, request: Request, to: Target) {
        let lowered = lower::request(&request);
        let key = lowered
            .as_ref()
            .and_then(|it| TransactionKey::from_request(it, TransactionRole::Client).ok());
        let (Some(lowered), Some(key)) = (lowered, key) else {
            let response = request.response(400, None);
            return self.report(id, response);
        };
        let transaction =
            Transaction::new_client(key.clone(), lowered, self.endpoint.inner.clone(), None);
        let queue = transaction.tu_sender.clone();
        let sent = (request.method == Method::Invite).then(|| (request.clone(), to.clone()));
        self.clients.insert(id, Running { queue, key, sent });
        let way = Way { udp: self.udp_port(to.local).cloned(), streams: self.streams.clone() };
        let events = self.events.clone();
        tokio::spawn(async move {
            run_client(transaction, id, &request, &to, &way, &events).await;
            events.send(StackEvent::ClientOver(id)).await.ok();
        });
    }

    /// Sends the ACK of a 2xx.
    pub(crate) async fn acknowledge(&mut self, mut request: Request, to: Target) {
        let branch = self.ids.tag();
        request.headers.push_front("Via", via(&to, &branch));
        let bytes = request.encode();
        if let (Transport::Udp, Some(address)) = (to.transport, to.socket_address()) {
            return self.datagram(to.local, address, &bytes);
        }
        if let Some(flow) =
            to.flow.filter(|flow| to.transport == Transport::Tcp && self.streams.has(*flow))
        {
            return self.streams.write(flow, &bytes, WRITE_TIMEOUT).await;
        }
        let way = Way { udp: self.udp_port(to.local).cloned(), streams: self.streams.clone() };
        tokio::spawn(async move {
            match way.find(&to).await {
                Ok((Found::Datagram(port), address)) => port.send(address, &bytes),
                Ok((Found::Stream, address)) => {
                    way.streams.write(address, &bytes, WRITE_TIMEOUT).await;
                }
                Err(error) => tracing::debug!(%error, "no way for an ACK"),
            }
        });
    }

    /// Ends a transaction of ours without waiting for its response.
    pub(crate) fn abandon(&self, transaction: ClientId) {
        if let Some(running) = self.clients.get(&transaction) {
            running.end();
        }
    }

    /// Forgets what is over.
    pub(crate) fn forget(&mut self, event: &StackEvent) {
        match event {
            StackEvent::ServerOver(id) => drop(self.servers.remove(id)),
            StackEvent::ClientOver(id) => drop(self.clients.remove(id)),
            _ => {}
        }
    }

    /// Gives a response to the transaction of its request.
    pub(crate) async fn handle_response(&self, arrival: &Arrival, response: &Response) {
        if let Some(message) = lower::response(response) {
            self.hand_over(arrival, message.into()).await;
        }
    }

    /// A peer at the other end of a stream has got in: its connection may be idle.
    pub(crate) fn admit(&self, arrival: &Arrival) {
        if arrival.transport == Transport::Tcp {
            self.streams.admit(arrival.source);
        }
    }

    async fn hand_over(&self, arrival: &Arrival, message: SipMessage) {
        let Some(connection) = self.connection(arrival) else { return };
        let from = lower::address(arrival.transport, arrival.source);
        // A finished transaction answers from in here, and a stream whose peer does not read would hold up all.
        let taken = timeout(
            WRITE_TIMEOUT,
            self.endpoint.inner.on_received_message(message, connection, &from),
        );
        if taken.await.is_err() {
            self.streams.close(arrival.source);
        }
    }

    fn report(&self, transaction: ClientId, response: Response) {
        let events = self.events.clone();
        tokio::spawn(async move {
            events.send(StackEvent::Response { transaction, response }).await.ok();
            events.send(StackEvent::ClientOver(transaction)).await.ok();
        });
    }

    fn report_over(&self, transaction: ClientId) {
        let events = self.events.clone();
        tokio::spawn(async move { events.send(StackEvent::ClientOver(transaction)).await });
    }

    fn connection(&self, arrival: &Arrival) -> Option<SipConnection> {
        match arrival.transport {
            Transport::Udp => Some(SipConnection::Udp(self.udp_port(arrival.local)?.connection())),
            Transport::Tcp => self.streams.connection(arrival.source).map(SipConnection::Tcp),
        }
    }

    /// The socket with this port; addresses may be other than the one it is bound to.
    fn udp_port(&self, local: SocketAddr) -> Option<&UdpPort> {
        let same_port = |port: &&UdpPort| port.local().port() == local.port();
        let same_family =
            |port: &&UdpPort| same_port(port) && port.local().is_ipv4() == local.is_ipv4();
        self.udp
            .iter()
            .find(same_family)
            .or_else(|| self.udp.iter().find(same_port))
            .or(self.udp.first())
    }

    fn datagram(&self, local: SocketAddr, to: SocketAddr, bytes: &[u8]) {
        if let Some(port) = self.udp_port(local) {
            port.send(to, bytes);
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        self.pump.abort();
        for running in self.servers.values().chain(self.clients.values()) {
            running.end();
        }
        self.streams.close_all();
        for port in &self.udp {
            port.close();
        }
    }
}

impl Target {
    /// Where to send, unless the host is a name.
    pub(crate) fn socket_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port.unwrap_or(5060)))
    }
}

/// Everything that leads to a peer.
struct Way {
    udp: Option<UdpPort>,
    streams: Streams,
}

enum Found {
    Datagram(UdpPort),
    Stream,
}

impl Way {
    async fn find(&self, to: &Target) -> io::Result<(Found, SocketAddr)> {
        if let Some(flow) =
            to.flow.filter(|flow| to.transport == Transport::Tcp && self.streams.has(*flow))
        {
            return Ok((Found::Stream, flow));
        }
        let address = match to.socket_address() {
            Some(address) => address,
            None => {
                let names = tokio::net::lookup_host((to.host.as_str(), to.port.unwrap_or(5060)));
                let mut addresses = timeout(CONNECT_TIMEOUT, names).await??;
                addresses.next().ok_or_else(|| io::Error::other("the name has no address"))?
            }
        };
        let address = canonical(address);
        match to.transport {
            Transport::Udp => {
                let port = self.udp.clone().ok_or_else(|| io::Error::other("no UDP listener"))?;
                Ok((Found::Datagram(port), address))
            }
            Transport::Tcp => {
                self.streams.connect(address, to.local, CONNECT_TIMEOUT).await?;
                Ok((Found::Stream, address))
            }
        }
    }
}

async fn run_client(
    mut transaction: Transaction,
    id: ClientId,
    request: &Request,
    to: &Target,
    way: &Way,
    events: &mpsc::Sender<StackEvent>,
) {
    let fail = async |status| {
        let response = request.response(status, None);
        events.send(StackEvent::Response { transaction: id, response }).await.ok();
    };
    let connection = match way.find(to).await {
        Ok((Found::Datagram(port), address)) => {
            transaction.destination = Some(port.address(address));
            Some(SipConnection::Udp(port.connection()))
        }
        Ok((Found::Stream, address)) => way.streams.connection(address).map(SipConnection::Tcp),
        Err(error) => {
            tracing::debug!(host = %to.host, %error, "no way to a peer");
            None
        }
    };
    if connection.is_none() {
        return fail(503).await;
    }
    transaction.connection = connection;
    if transaction.send().await.is_err() {
        return fail(503).await;
    }
    while let Some(message) = transaction.receive().await {
        let Some(response) = lower::received(&message) else { continue };
        let is_invite_success =
            request.method == Method::Invite && (200..300).contains(&response.status);
        if !is_invite_success {
            events.send(StackEvent::Response { transaction: id, response }).await.ok();
        }
    }
}

/// The timers of the transactions. Its wait can miss a wake-up when a new first timer is set on another thread just
/// before the wait begins, so the wait begins anew now and then.
async fn pump_timers(inner: EndpointInnerRef) {
    loop {
        timeout(Duration::from_millis(100), inner.process_timer()).await.ok();
    }
}

/// The CANCEL of an INVITE that was sent (RFC 3261 §9.1).
pub(crate) fn cancel_of(invite: &Request, reason: &str) -> Request {
    let mut request = Request::new(Method::Cancel, invite.uri.clone());
    for (name, value) in invite.headers.iter() {
        if ["From", "To", "Call-ID", "Route", "Max-Forwards", "User-Agent"].contains(&name) {
            request.headers.push(name, value);
        }
    }
    // The same branch names the transaction to cancel.
    request.headers.push_front("Via", invite.headers.get("Via").unwrap_or_default());
    request.headers.push("CSeq", format!("{} CANCEL", invite.cseq().unwrap_or_default()));
    request.headers.push("Reason", reason);
    request
}

/// The Via of a request to `to`.
pub(crate) fn via(to: &Target, branch: &str) -> String {
    let sent_by = host_text(&to.local.ip().to_string(), Some(to.local.port()));
    format!("SIP/2.0/{} {sent_by};rport;branch=z9hG4bK{branch}", to.transport.name())
}

/// An IPv4 peer that came to an IPv6 socket, under its own address.
fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        ip @ IpAddr::V4(_) => SocketAddr::new(ip, address.port()),
        // Link-local addresses keep their scope.
        IpAddr::V6(_) => address,
    }
}

/// What the readers found in bytes that should be one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivered {
    Message,
    Malformed,
    /// Nobody takes messages any more.
    Closed,
}

/// Shared by the readers: what to do with bytes that should be one message.
async fn deliver(bytes: &[u8], arrival: Arrival, events: &mpsc::Sender<StackEvent>) -> Delivered {
    let (delivered, event) = match Message::parse(bytes) {
        Ok(Message::Request(mut request)) => {
            request.mark_source(arrival.source);
            let message = Message::Request(request);
            (Delivered::Message, StackEvent::Message { arrival, message })
        }
        Ok(message) => (Delivered::Message, StackEvent::Message { arrival, message }),
        Err(error) => {
            tracing::debug!(source = %arrival.source, %error, "no SIP message");
            let request = Request::salvage(bytes).map(|mut request| {
                request.mark_source(arrival.source);
                (arrival, Box::new(request))
            });
            (Delivered::Malformed, StackEvent::Malformed(request))
        }
    };
    if events.send(event).await.is_err() { Delivered::Closed } else { delivered }
}

type Tasks = Arc<std::sync::Mutex<Vec<JoinHandle<()>>>>;
