//! The shell: one task that owns the user agent and the sockets, and the handles to it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tandem_call::SignalEvent;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep_until, timeout},
};

use crate::{
    BindError, DialogEvent, DialogHandle, DialogId, DoorStats, IncomingCall, Listener,
    OutgoingCall, Rejection, SipSettings, Transport,
    action::Action,
    agent::{Invitation, Screening, UserAgent},
    call::{Desk, EVENTS, Errand, Order, Resolved},
    ids::{Ids, Secret},
    message::{Arrival, Message, Method, reason_phrase},
    stack::{Stack, StackEvent},
    uri::Uri,
};

/// Errands that wait for the task.
const ERRANDS: usize = 4096;
/// Calls the exchange has not looked at yet; further ones get 503.
const INCOMING: usize = 256;
/// Ids of calls we place are above those of calls that come in.
pub(crate) const OUTGOING_IDS: u64 = 1 << 63;
/// How long a shutdown waits for the last BYEs.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// Name resolution of a call's URI.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// A count of everything there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SipStats {
    /// Dialogs in any phase.
    pub dialogs: usize,
    /// INVITEs without an ACK.
    pub unacked: usize,
    /// Live transactions.
    pub transactions: usize,
    /// TCP connections.
    pub connections: usize,
    /// What happened at the door.
    pub door: DoorStats,
    /// Events that were lost because the owner of a dialog did not read them.
    pub events_lost: u64,
    /// Orders that were lost because the queue was full.
    pub orders_lost: u64,
}

/// Opens SIP endpoints.
#[derive(Debug)]
pub struct SipEndpoint;

impl SipEndpoint {
    /// Opens every listener and starts the task behind them on the current runtime. Calls that come in arrive in the
    /// channel.
    pub async fn bind(
        settings: SipSettings,
    ) -> Result<(SipHandle, mpsc::Receiver<IncomingCall>), BindError> {
        let secret = Secret::random().map_err(BindError::Random)?;
        let branches = Ids::new(Secret::random().map_err(BindError::Random)?);
        let advertised = settings.advertised;
        let (stack, events) = Stack::bind(&settings, branches).await?;
        let listeners: Arc<[Listener]> = stack.listeners().into();
        let (errands, errand_queue) = mpsc::channel(ERRANDS);
        let (requests, request_queue) = mpsc::channel(ERRANDS);
        let (incoming, calls) = mpsc::channel(INCOMING);
        let next = Arc::new(AtomicU64::new(OUTGOING_IDS));
        let desk = Desk { errands, lost: Arc::default(), next };
        let shared = Arc::new(Shared::default());
        let task = Task {
            agent: UserAgent::new(Instant::now(), settings, secret),
            stack,
            advertised,
            incoming,
            channels: HashMap::new(),
            desk: desk.clone(),
            events_lost: 0,
            shared: shared.clone(),
        };
        tokio::spawn(task.run(events, errand_queue, request_queue));
        Ok((SipHandle { desk, requests, listeners, shared }, calls))
    }
}

/// What only the handle asks for.
enum Ask {
    Call(DialogId, Box<OutgoingCall>, Resolved, mpsc::Sender<DialogEvent>),
    Shutdown(oneshot::Sender<()>),
}

/// A running endpoint. Cheap to clone; when the last clone is gone, the endpoint closes.
#[derive(Clone)]
pub struct SipHandle {
    desk: Desk,
    requests: mpsc::Sender<Ask>,
    listeners: Arc<[Listener]>,
    shared: Arc<Shared>,
}

/// What handles set and see without a message.
#[derive(Default)]
struct Shared {
    draining: AtomicBool,
    full: AtomicBool,
    stats: Mutex<SipStats>,
}

impl std::fmt::Debug for SipHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SipHandle").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl SipHandle {
    /// The listeners with the ports they got.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Places a call. Everything that happens to it, failure too, comes by the channel.
    pub fn call(&self, call: OutgoingCall) -> (DialogHandle, mpsc::Receiver<DialogEvent>) {
        let id = self.desk.next_id();
        let (sender, events) = mpsc::channel(EVENTS);
        let requests = self.requests.clone();
        tokio::spawn(async move {
            let resolved = resolve(&call.uri).await;
            requests.send(Ask::Call(id, Box::new(call), resolved, sender)).await.ok();
        });
        (DialogHandle::new(id, self.desk.clone()), events)
    }

    /// Answers INVITE and OPTIONS outside dialogs with 503 from now on, or no longer. Calls go on.
    pub fn set_draining(&self, draining: bool) {
        self.shared.draining.store(draining, Ordering::Relaxed);
    }

    /// The same, because there is no room for more calls.
    pub fn set_full(&self, full: bool) {
        self.shared.full.store(full, Ordering::Relaxed);
    }

    /// Counts everything there is; all zero once the endpoint is closed.
    pub fn stats(&self) -> SipStats {
        *self.shared.stats.lock().expect("no holder panics")
    }

    /// Ends every call, waits a moment for the last answers, and closes all sockets.
    pub async fn shutdown(&self) {
        let (sender, done) = oneshot::channel();
        self.requests.send(Ask::Shutdown(sender)).await.ok();
        done.await.ok();
    }
}

/// The channel to the owner of one dialog.
struct Channel {
    events: mpsc::Sender<DialogEvent>,
    /// Room for the last event, which is never lost.
    last: Option<mpsc::OwnedPermit<DialogEvent>>,
}

impl Channel {
    fn new(events: mpsc::Sender<DialogEvent>) -> Self {
        let last = events.clone().try_reserve_owned().ok();
        Self { events, last }
    }
}

struct Task {
    agent: UserAgent,
    stack: Stack,
    advertised: Option<IpAddr>,
    incoming: mpsc::Sender<IncomingCall>,
    channels: HashMap<DialogId, Channel>,
    desk: Desk,
    events_lost: u64,
    shared: Arc<Shared>,
}

impl Drop for Task {
    fn drop(&mut self) {
        *self.shared.stats.lock().expect("no holder panics") = SipStats::default();
    }
}

impl Task {
    async fn run(
        mut self,
        mut events: mpsc::Receiver<StackEvent>,
        mut errands: mpsc::Receiver<(DialogId, Errand)>,
        mut requests: mpsc::Receiver<Ask>,
    ) {
        let mut shutdown: Option<(oneshot::Sender<()>, Instant)> = None;
        loop {
            self.act().await;
            *self.shared.stats.lock().expect("no holder panics") = self.stats();
            let closes_at = shutdown.as_ref().map(|(_, at)| *at);
            if closes_at.is_some_and(|at| at <= Instant::now() || self.agent.dialogs() == 0) {
                break;
            }
            let next = [self.agent.poll_timeout(), closes_at].into_iter().flatten().min();
            tokio::select! {
                Some(event) = events.recv() => self.handle_event(event).await,
                Some((id, errand)) = errands.recv() => self.run_errand(id, errand),
                ask = requests.recv() => match ask {
                    Some(Ask::Shutdown(done)) => {
                        self.shared.draining.store(true, Ordering::Relaxed);
                        self.agent.hang_up_all(Instant::now());
                        shutdown = Some((done, Instant::now() + LAST_WORDS));
                    }
                    Some(Ask::Call(id, call, resolved, events)) => self.place_call(id, *call, resolved, events),
                    None => break,
                },
                () = sleep_until(next.unwrap_or_else(Instant::now).into()), if next.is_some() => {
                    self.agent.handle_timeout(Instant::now());
                }
            }
        }
        drop(self);
        if let Some((done, _)) = shutdown {
            done.send(()).ok();
        }
    }

    async fn handle_event(&mut self, event: StackEvent) {
        let now = Instant::now();
        self.stack.forget(&event);
        self.agent.set_draining(self.shared.draining.load(Ordering::Relaxed));
        self.agent.set_full(self.shared.full.load(Ordering::Relaxed));
        match event {
            StackEvent::Message { arrival, message: Message::Request(request) } => {
                if request.method == Method::Ack {
                    self.agent.handle_ack(now, &request);
                }
                if self.agent.trusts(&arrival) {
                    self.stack.admit(&arrival);
                }
                let Screening::Pass(examined) = self.agent.screen(now, &arrival, &request) else {
                    return;
                };
                if let Some(transaction) = self.stack.begin(&arrival, &request).await
                    && self.agent.handle_request(now, transaction, arrival, request, examined)
                {
                    self.stack.admit(&arrival);
                }
            }
            StackEvent::Message { arrival, message: Message::Response(response) } => {
                let is_invite_success = (200..300).contains(&response.status)
                    && response.cseq().is_ok_and(|(_, method)| method == Method::Invite);
                if is_invite_success {
                    self.agent.handle_invite_success(now, &response);
                }
                self.stack.handle_response(&arrival, &response).await;
            }
            StackEvent::Malformed(None) => self.agent.count_malformed(),
            StackEvent::Malformed(Some((arrival, request))) => {
                let reason = reason_phrase(400).to_owned();
                self.agent.handle_malformed(now, &arrival, &request, reason);
            }
            StackEvent::Cancelled(transaction) => self.agent.handle_cancel(now, transaction),
            StackEvent::Response { transaction, response } => {
                self.agent.handle_response(now, transaction, &response);
            }
            StackEvent::ServerOver(transaction) => self.agent.handle_server_over(transaction),
            StackEvent::ClientOver(transaction) => self.agent.handle_client_over(transaction),
        }
    }

    fn run_errand(&mut self, id: DialogId, errand: Errand) {
        match errand {
            // Its peer's name is still being looked up.
            Errand::Order(Order::HangUp(cause))
                if self.channels.contains_key(&id) && !self.agent.knows(id) =>
            {
                self.tell(id, DialogEvent::Signal(SignalEvent::HungUp { cause }));
            }
            Errand::Order(order) => self.agent.handle_order(Instant::now(), id, order),
            Errand::Consult(consulted, consultation, events) => {
                self.channels.insert(consulted, Channel::new(events.clone()));
                let Some(call) = self.agent.consult(Instant::now(), id, consulted, *consultation)
                else {
                    return;
                };
                let errands = self.desk.errands.clone();
                tokio::spawn(async move {
                    let resolved = resolve(&call.uri).await;
                    let place = Errand::Place(Box::new(call), resolved, events);
                    errands.send((consulted, place)).await.ok();
                });
            }
            Errand::Place(..) if !self.channels.contains_key(&id) => {} // Hung up meanwhile.
            Errand::Place(mut call, resolved, events) => {
                if let Ok((transport, peer)) = &resolved {
                    let ours = self.stack.local_towards(*transport, peer.ip(), self.advertised);
                    call.local.address = self.agent.media_address(ours);
                }
                self.place_call(id, *call, resolved, events);
            }
        }
    }

    fn place_call(
        &mut self,
        id: DialogId,
        call: OutgoingCall,
        resolved: Resolved,
        events: mpsc::Sender<DialogEvent>,
    ) {
        self.channels.insert(id, Channel::new(events));
        match resolved {
            Ok((transport, source)) => {
                let local = self.stack.local_towards(transport, source.ip(), self.advertised);
                self.agent.call(Instant::now(), id, Arrival { transport, source, local }, call);
            }
            Err(reason) => self.tell(id, DialogEvent::Failed { status: 503, reason }),
        }
    }

    /// Does everything the user agent wants done.
    async fn act(&mut self) {
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::Respond { transaction, response } => {
                    self.stack.respond(transaction, &response);
                }
                Action::Reply { to, response } => self.stack.reply(to, &response).await,
                Action::Send { transaction, request, to } => {
                    self.stack.send(transaction, request, to);
                }
                Action::Cancel { invite, cancel, reason } => {
                    self.stack.cancel(invite, cancel, &reason);
                }
                Action::Acknowledge { request, to } => self.stack.acknowledge(request, to).await,
                Action::Abandon(transaction) => self.stack.abandon(transaction),
                Action::Invited(invitation) => self.announce(*invitation),
                Action::Event { dialog, event } => self.tell(dialog, event),
            }
        }
    }

    fn announce(&mut self, invitation: Invitation) {
        let id = invitation.id;
        let (sender, events) = mpsc::channel(EVENTS);
        self.channels.insert(id, Channel::new(sender));
        let call = IncomingCall {
            id,
            sip_call_id: invitation.sip_call_id,
            source: invitation.source,
            local: invitation.local,
            trusted: invitation.trusted,
            authenticated: invitation.authenticated,
            from: invitation.from,
            called: invitation.called,
            request_uri: invitation.request_uri,
            headers: invitation.headers,
            offered: invitation.offered,
            events,
            dialog: DialogHandle::new(id, self.desk.clone()),
        };
        if self.incoming.try_send(call).is_err() {
            let rejection = Rejection { status: 503, reason: String::new(), retry_after: Some(1) };
            self.agent.handle_order(Instant::now(), id, Order::Reject(rejection));
        }
    }

    fn tell(&mut self, id: DialogId, event: DialogEvent) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if event.is_last() {
            if let Some(room) = channel.last.take() {
                room.send(event);
            }
            self.channels.remove(&id);
        } else if channel.events.try_send(event).is_err() {
            self.events_lost += 1;
        }
    }

    fn stats(&self) -> SipStats {
        let (transactions, connections) = self.stack.load();
        SipStats {
            dialogs: self.agent.dialogs(),
            unacked: self.agent.unacked(),
            transactions,
            connections,
            door: self.agent.stats(),
            events_lost: self.events_lost,
            orders_lost: self.desk.lost.load(Ordering::Relaxed),
        }
    }
}

/// Transport and address a SIP URI names.
async fn resolve(uri: &str) -> Resolved {
    let uri = Uri::parse(uri).map_err(|error| format!("bad URI: {error}"))?;
    if !uri.is_sip() {
        return Err("only sip: URIs can be called".into());
    }
    let transport = match uri.param("transport") {
        None => Transport::Udp,
        Some(name) => Transport::from_name(name).ok_or_else(|| format!("no transport {name:?}"))?,
    };
    let port = uri.port.unwrap_or(5060);
    let lookup = timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((uri.host.as_str(), port))).await;
    let address = lookup
        .map_err(|_| "name resolution took too long".to_owned())?
        .map_err(|error| error.to_string());
    let address = address?.next().ok_or_else(|| "the name has no address".to_owned())?;
    Ok((transport, address))
}
