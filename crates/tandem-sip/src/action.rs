//! What the user agent wants done, and what its parts need to say so.

use std::{collections::VecDeque, net::SocketAddr, time::Instant};

use crate::{
    DialogEvent, DialogId, SipSettings, Transport,
    agent::Invitation,
    ids::Ids,
    message::{Arrival, Request, Response},
    session_timer::Policy,
};

/// A request we received, until its transaction is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ServerId(pub(crate) u64);

/// A request we sent, until its transaction is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) transport: Transport,
    /// Name or address.
    pub(crate) host: String,
    pub(crate) port: Option<u16>,
    /// The peer's end of a stream that may still be open.
    pub(crate) flow: Option<SocketAddr>,
    /// Our port, at the address the peer can reach us.
    pub(crate) local: SocketAddr,
}

/// Where a response goes that no transaction carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ReplyTo {
    pub(crate) transport: Transport,
    /// UDP: where to send; TCP: the peer's end of the stream.
    pub(crate) address: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl ReplyTo {
    pub(crate) fn new(arrival: &Arrival, request: &Request) -> Self {
        let address = match (arrival.transport, request.via()) {
            (Transport::Udp, Ok(via)) => via.reply_address(arrival.source),
            _ => arrival.source,
        };
        Self { transport: arrival.transport, address, local: arrival.local }
    }
}

/// One thing to be done. They are in order.
#[derive(Debug)]
pub(crate) enum Action {
    /// Answer a request through its transaction. A 2xx to INVITE ends the transaction: from there on the response
    /// is repeated by [`Action::Reply`].
    Respond { transaction: ServerId, response: Response },
    /// Send a response outside any transaction.
    Reply { to: ReplyTo, response: Response },
    /// Send a request in a transaction of its own.
    Send { transaction: ClientId, request: Request, to: Target },
    /// Cancel an INVITE of ours, in a transaction of its own.
    Cancel { invite: ClientId, cancel: ClientId, reason: String },
    /// Send the ACK of a 2xx, which has no transaction.
    Acknowledge { request: Request, to: Target },
    /// Forget a transaction of ours.
    Abandon(ClientId),
    /// A call came in.
    Invited(Box<Invitation>),
    /// Something happened to a dialog.
    Event { dialog: DialogId, event: DialogEvent },
}

/// What a dialog works with.
pub(crate) struct Context<'a> {
    pub(crate) now: Instant,
    pub(crate) settings: &'a SipSettings,
    pub(crate) policy: Policy,
    pub(crate) ids: &'a mut Ids,
    pub(crate) actions: &'a mut VecDeque<Action>,
    pub(crate) clients: &'a mut u64,
}

impl Context<'_> {
    pub(crate) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(crate) fn client_id(&mut self) -> ClientId {
        *self.clients += 1;
        ClientId(*self.clients)
    }
}
