//! The user agent without a network: datagrams in with the time they came at, datagrams out.
//!
//! For replays of recorded traffic and for whole-call tests on a virtual clock. It matches requests and responses as
//! transactions do, but sends nothing again by itself and has no time-outs of its own (RFC 3261 §17); what dialogs
//! repeat, it repeats.

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_call::{HangupCause, TransferTarget};

use crate::{
    Consultation, DialogEvent, DialogId, DoorStats, LocalMedia, OutgoingCall, Rejection,
    SipSettings, Transport,
    action::{Action, ClientId, ServerId},
    agent::{Invitation, Screening, UserAgent},
    call::Order,
    endpoint::OUTGOING_IDS,
    ids::{Ids, Secret},
    message::{Arrival, Message, Method, Request, Response, reason_phrase},
    stack::{cancel_of, via},
    uri::Uri,
};

/// What the user agent did.
#[derive(Debug)]
pub enum Outcome {
    /// It sent a message.
    Sent {
        /// Where to.
        to: SocketAddr,
        /// What, the Via of a request included.
        message: Message,
    },
    /// A call came in; `100 Trying` is sent already.
    Invited(Box<Invitation>),
    /// Something happened to a dialog.
    Event {
        /// Which one.
        dialog: DialogId,
        /// What.
        event: DialogEvent,
    },
}

/// A request that was received.
#[derive(Debug)]
struct Server {
    request: Request,
    source: SocketAddr,
    last: Option<Response>,
}

/// A request that was sent.
#[derive(Debug)]
struct Client {
    request: Request,
    to: SocketAddr,
}

/// A user agent at one UDP address, without socket and clock.
///
/// After each call `poll_outcome` is to be called until it gives nothing. Every transaction is kept for as long as
/// the agent lives: it is for one call or a few.
#[derive(Debug)]
pub struct OfflineAgent {
    agent: UserAgent,
    local: SocketAddr,
    branches: Ids,
    servers: HashMap<ServerId, Server>,
    /// Method and branch of what was received.
    by_branch: HashMap<(Method, String), ServerId>,
    clients: HashMap<ClientId, Client>,
    outcomes: VecDeque<Outcome>,
    calls: u64,
}

impl OfflineAgent {
    /// A user agent reached at `local`. Its tags and Call-IDs follow from `seed`.
    pub fn new(now: Instant, local: SocketAddr, settings: SipSettings, seed: u8) -> Self {
        Self {
            agent: UserAgent::new(now, settings, Secret::fixed(seed)),
            local,
            branches: Ids::new(Secret::fixed(!seed)),
            servers: HashMap::new(),
            by_branch: HashMap::new(),
            clients: HashMap::new(),
            outcomes: VecDeque::new(),
            calls: 0,
        }
    }

    /// Takes a datagram from `source`.
    pub fn handle_datagram(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) {
        let arrival = Arrival { transport: Transport::Udp, source, local: self.local };
        match Message::parse(datagram) {
            Ok(Message::Request(mut request)) => {
                request.mark_source(source);
                self.handle_request(now, arrival, request);
            }
            Ok(Message::Response(response)) => self.handle_response(now, &response),
            Err(_) => match Request::salvage(datagram) {
                Some(mut request) => {
                    request.mark_source(source);
                    let reason = reason_phrase(400).to_owned();
                    self.agent.handle_malformed(now, &arrival, &request, reason);
                }
                None => self.agent.count_malformed(),
            },
        }
        self.act(now);
    }

    /// When `handle_timeout` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    /// Does what is due at `now`.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.agent.handle_timeout(now);
        self.act(now);
    }

    /// What was done, in order.
    pub fn poll_outcome(&mut self) -> Option<Outcome> {
        self.outcomes.pop_front()
    }

    /// Places a call to the peer at `to`.
    pub fn call(&mut self, now: Instant, to: SocketAddr, call: OutgoingCall) -> DialogId {
        let id = DialogId(OUTGOING_IDS + self.calls);
        self.calls += 1;
        let arrival = Arrival { transport: Transport::Udp, source: to, local: self.local };
        self.agent.call(now, id, arrival, call);
        self.act(now);
        id
    }

    /// As [`crate::DialogHandle::progress`].
    pub fn progress(&mut self, now: Instant, dialog: DialogId) {
        self.order(now, dialog, Order::Progress);
    }

    /// As [`crate::DialogHandle::accept`].
    pub fn accept(&mut self, now: Instant, dialog: DialogId, local: LocalMedia) {
        self.order(now, dialog, Order::Accept(local));
    }

    /// As [`crate::DialogHandle::reject`].
    pub fn reject(&mut self, now: Instant, dialog: DialogId, rejection: Rejection) {
        self.order(now, dialog, Order::Reject(rejection));
    }

    /// As [`crate::DialogHandle::hang_up`].
    pub fn hang_up(&mut self, now: Instant, dialog: DialogId, cause: HangupCause) {
        self.order(now, dialog, Order::HangUp(cause));
    }

    /// As [`crate::DialogHandle::transfer`].
    pub fn transfer(
        &mut self,
        now: Instant,
        dialog: DialogId,
        target: TransferTarget,
        headers: Vec<(String, String)>,
    ) {
        self.order(now, dialog, Order::Transfer(target, headers));
    }

    /// As [`crate::DialogHandle::consult`]. A host that is no address can't be called.
    pub fn consult(&mut self, now: Instant, of: DialogId, consultation: Consultation) -> DialogId {
        let id = DialogId(OUTGOING_IDS + self.calls);
        self.calls += 1;
        if let Some(call) = self.agent.consult(now, of, id, consultation) {
            let peer = Uri::parse(&call.uri).ok().and_then(|uri| {
                Some(SocketAddr::new(uri.host.parse().ok()?, uri.port.unwrap_or(5060)))
            });
            match peer {
                Some(source) => {
                    let arrival = Arrival { transport: Transport::Udp, source, local: self.local };
                    self.agent.call(now, id, arrival, call);
                }
                None => self.outcomes.push_back(Outcome::Event {
                    dialog: id,
                    event: DialogEvent::Failed {
                        status: 503,
                        reason: "names are not resolved here".into(),
                    },
                }),
            }
        }
        self.act(now);
        id
    }

    /// As [`crate::DialogHandle::transfer_to`].
    pub fn transfer_to(
        &mut self,
        now: Instant,
        dialog: DialogId,
        consulted: DialogId,
        headers: Vec<(String, String)>,
        timeout: Duration,
    ) {
        self.order(now, dialog, Order::TransferTo(consulted, headers, timeout));
    }

    /// As [`crate::DialogHandle::hold`] and [`crate::DialogHandle::resume`].
    pub fn hold(&mut self, now: Instant, dialog: DialogId, hold: bool) {
        self.order(now, dialog, Order::Hold(hold));
    }

    /// How many dialogs there are, in any phase.
    pub fn dialogs(&self) -> usize {
        self.agent.dialogs()
    }

    /// What happened at the door.
    pub const fn stats(&self) -> DoorStats {
        self.agent.stats()
    }

    fn order(&mut self, now: Instant, dialog: DialogId, order: Order) {
        self.agent.handle_order(now, dialog, order);
        self.act(now);
    }

    fn handle_request(&mut self, now: Instant, arrival: Arrival, request: Request) {
        let is_ack = request.method == Method::Ack;
        if is_ack {
            self.agent.handle_ack(now, &request);
        }
        let Screening::Pass(examined) = self.agent.screen(now, &arrival, &request) else { return };
        let Ok(via) = request.via() else { return };
        let of_invite = || (Method::Invite, via.branch().to_owned());
        if is_ack {
            // Of a refusal: it has the branch of its INVITE (RFC 3261 §17.1.1.3).
            if let Some(&invite) = self.by_branch.get(&of_invite()) {
                self.agent.handle_server_over(invite);
            }
            return;
        }
        if request.method == Method::Cancel {
            let invite = self.by_branch.get(&of_invite()).copied();
            return self.handle_cancel(now, arrival, &request, invite);
        }
        let key = (request.method.clone(), via.branch().to_owned());
        if let Some(known) = self.by_branch.get(&key).and_then(|id| self.servers.get(id)) {
            if let Some(last) = known.last.clone() {
                let to = via.reply_address(arrival.source);
                self.outcomes.push_back(Outcome::Sent { to, message: Message::Response(last) });
            }
            return;
        }
        let id = ServerId(self.servers.len() as u64 + 1);
        self.by_branch.insert(key, id);
        let server = Server { request: request.clone(), source: arrival.source, last: None };
        self.servers.insert(id, server);
        self.agent.handle_request(now, id, arrival, request, examined);
    }

    fn handle_cancel(
        &mut self,
        now: Instant,
        arrival: Arrival,
        cancel: &Request,
        invite: Option<ServerId>,
    ) {
        let known = invite.and_then(|id| Some((id, self.servers.get(&id)?)));
        let (status, tag) = match &known {
            Some((_, server)) => {
                let to = server.last.as_ref().and_then(|last| last.to().ok());
                (200, to.and_then(|to| to.tag().map(str::to_owned)))
            }
            None => (481, None),
        };
        let id = known.map(|(id, _)| id);
        let Ok(via) = cancel.via() else { return };
        let to = via.reply_address(arrival.source);
        let response = cancel.response(status, tag.as_deref());
        self.outcomes.push_back(Outcome::Sent { to, message: Message::Response(response) });
        if let Some(id) = id {
            self.agent.handle_cancel(now, id);
        }
    }

    fn handle_response(&mut self, now: Instant, response: &Response) {
        let (Ok(via), Ok((_, method))) = (response.via(), response.cseq()) else {
            return self.agent.count_malformed();
        };
        let is_invite = method == Method::Invite;
        let is_success = (200..300).contains(&response.status);
        if is_invite && is_success {
            self.agent.handle_invite_success(now, response);
        }
        let answered = self.clients.iter().find(|(_, client)| {
            client.request.method == method
                && client.request.via().is_ok_and(|sent| sent.branch() == via.branch())
        });
        let Some((&id, client)) = answered else { return };
        if is_invite && response.status >= 300 {
            let ack = Outcome::Sent {
                to: client.to,
                message: Message::Request(ack_of_refusal(&client.request, response)),
            };
            self.outcomes.push_back(ack);
        }
        if !(is_invite && is_success) {
            self.agent.handle_response(now, id, response);
        }
        if response.status >= 200 {
            self.agent.handle_client_over(id);
            self.clients.remove(&id);
        }
    }

    /// Does what the user agent wants done.
    fn act(&mut self, now: Instant) {
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::Respond { transaction, response } => self.respond(transaction, response),
                Action::Reply { to, response } => {
                    let message = Message::Response(response);
                    self.outcomes.push_back(Outcome::Sent { to: to.address, message });
                }
                Action::Send { transaction, mut request, to } => {
                    request.headers.push_front("Via", via(&to, &self.branches.tag()));
                    match to.socket_address() {
                        Some(address) => self.send(transaction, request, address),
                        // Names are not resolved here: there is no way to the peer.
                        None => {
                            let refusal = request.response(503, None);
                            self.agent.handle_response(now, transaction, &refusal);
                            self.agent.handle_client_over(transaction);
                        }
                    }
                }
                Action::Cancel { invite, cancel, reason } => match self.clients.get(&invite) {
                    Some(client) => {
                        let (request, to) = (cancel_of(&client.request, &reason), client.to);
                        self.send(cancel, request, to);
                    }
                    None => self.agent.handle_client_over(cancel),
                },
                Action::Acknowledge { mut request, to } => {
                    request.headers.push_front("Via", via(&to, &self.branches.tag()));
                    if let Some(to) = to.socket_address() {
                        let message = Message::Request(request);
                        self.outcomes.push_back(Outcome::Sent { to, message });
                    }
                }
                Action::Abandon(transaction) => {
                    self.clients.remove(&transaction);
                    self.agent.handle_client_over(transaction);
                }
                Action::Invited(it) => self.outcomes.push_back(Outcome::Invited(it)),
                Action::Event { dialog, event } => {
                    self.outcomes.push_back(Outcome::Event { dialog, event });
                }
            }
        }
    }

    fn respond(&mut self, transaction: ServerId, response: Response) {
        let Some(server) = self.servers.get_mut(&transaction) else { return };
        let Ok(via) = server.request.via() else { return };
        server.last = Some(response.clone());
        let to = via.reply_address(server.source);
        let waits_for_ack = server.request.method == Method::Invite && response.status >= 300;
        if response.status >= 200 && !waits_for_ack {
            self.agent.handle_server_over(transaction);
        }
        self.outcomes.push_back(Outcome::Sent { to, message: Message::Response(response) });
    }

    fn send(&mut self, transaction: ClientId, request: Request, to: SocketAddr) {
        let message = Message::Request(request.clone());
        self.outcomes.push_back(Outcome::Sent { to, message });
        self.clients.insert(transaction, Client { request, to });
    }
}

/// The ACK of a refusal: of the same transaction as its INVITE (RFC 3261 §17.1.1.3).
fn ack_of_refusal(invite: &Request, refusal: &Response) -> Request {
    let mut ack = Request::new(Method::Ack, invite.uri.clone());
    ack.headers.push("Via", invite.headers.get("Via").unwrap_or_default());
    for name in ["Max-Forwards", "From", "Call-ID"] {
        ack.headers.push(name, invite.headers.get(name).unwrap_or_default());
    }
    ack.headers.push("To", refusal.headers.get("To").unwrap_or_default());
    for route in invite.headers.all("Route") {
        ack.headers.push("Route", route);
    }
    ack.headers.push("CSeq", format!("{} ACK", invite.cseq().unwrap_or_default()));
    ack
}

#[cfg(test)]
mod tests;
