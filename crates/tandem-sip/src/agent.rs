//! The user agent: all dialogs, who may start one, and what is answered outside of any.

mod screening;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use tandem_call::Party;
use tandem_media::Codec;

pub(crate) use screening::{Examined, Screening};

use crate::{
    Consultation, DialogEvent, DialogId, OutgoingCall, SipSettings,
    action::{Action, ClientId, Context, ServerId, Target},
    admission::Admission,
    call::Order,
    caller,
    dialog::{Dialog, Planned, Ringing},
    digest::{Authenticator, Verdict},
    ids::{Ids, Secret},
    message::{Arrival, Method, Request, Response},
    session_timer::Policy,
};

/// How long a dialog that is over is remembered: as long as its last requests may come again.
const LINGER: Duration = Duration::from_secs(32);
/// How long NOTIFYs of a transfer are welcome after the end of the call.
const NOTIFY_LINGER: Duration = Duration::from_secs(5);
const MAX_LINGERING: usize = 65_536;

/// A call that came in, before it has channels; [`crate::IncomingCall`] says more of each field.
#[derive(Debug)]
pub struct Invitation {
    /// Its dialog.
    pub id: DialogId,
    /// The Call-ID of the INVITE.
    pub sip_call_id: String,
    /// Where the INVITE came from.
    pub source: SocketAddr,
    /// The address the caller reaches us at.
    pub local: IpAddr,
    /// Whether the source is trusted by its address.
    pub trusted: bool,
    /// The user name that authenticated, if one had to.
    pub authenticated: Option<String>,
    /// The caller.
    pub from: Party,
    /// The dialled number.
    pub called: String,
    /// The Request-URI as received.
    pub request_uri: String,
    /// Headers worth keeping with the call.
    pub headers: Vec<(String, String)>,
    /// Codecs of the offer that we have in common; none when the INVITE has no offer.
    pub offered: Option<Vec<Codec>>,
}

/// What happened at the door so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DoorStats {
    /// Calls let in.
    pub invited: u64,
    /// Requests answered with 401, 403, 4xx, 5xx before they became a call.
    pub refused: u64,
    /// Requests dropped: too fast, or a scanner's.
    pub dropped: u64,
    /// Messages that could not be read.
    pub malformed: u64,
}

/// The first INVITE of a dialog, to know it again.
#[derive(Debug)]
struct FirstInvite {
    dialog: DialogId,
    cseq: u32,
    branch: String,
}

/// A dialog that is over.
#[derive(Debug)]
struct Ended {
    at: Instant,
    was_transferred: bool,
}

/// An INVITE that counts as unacknowledged.
#[derive(Debug)]
struct Waiting {
    source: IpAddr,
    dialog: DialogId,
    transaction_over: bool,
}

/// All dialogs of one endpoint, on a clock handed in.
#[derive(Debug)]
pub(crate) struct UserAgent {
    settings: SipSettings,
    policy: Policy,
    secret: Secret,
    ids: Ids,
    admission: Admission,
    authenticator: Authenticator,
    dialogs: HashMap<DialogId, Dialog>,
    by_local_tag: HashMap<(String, String), DialogId>,
    by_caller: HashMap<(String, String), FirstInvite>,
    by_client: HashMap<ClientId, DialogId>,
    waiting: HashMap<ServerId, Waiting>,
    first_transaction: HashMap<DialogId, ServerId>,
    timeouts: BTreeSet<(Instant, DialogId)>,
    scheduled: HashMap<DialogId, Instant>,
    /// Call-ID and our tag of calls that are over, and when they ended.
    lingering: HashMap<(String, String), Ended>,
    lingering_order: VecDeque<(Instant, (String, String))>,
    actions: VecDeque<Action>,
    next_dialog: u64,
    clients: u64,
    draining: bool,
    full: bool,
    stats: DoorStats,
}

impl UserAgent {
    pub(crate) fn new(now: Instant, settings: SipSettings, secret: Secret) -> Self {
        let admission = Admission::new(settings.trusted.clone(), settings.limits);
        let authenticator =
            Authenticator::new(now, &settings.realm, settings.users.clone(), secret.clone());
        Self {
            policy: Policy::new(settings.session_expires, settings.min_se),
            ids: Ids::new(secret.clone()),
            secret,
            admission,
            authenticator,
            settings,
            dialogs: HashMap::new(),
            by_local_tag: HashMap::new(),
            by_caller: HashMap::new(),
            by_client: HashMap::new(),
            waiting: HashMap::new(),
            first_transaction: HashMap::new(),
            timeouts: BTreeSet::new(),
            scheduled: HashMap::new(),
            lingering: HashMap::new(),
            lingering_order: VecDeque::new(),
            actions: VecDeque::new(),
            next_dialog: 0,
            clients: 0,
            draining: false,
            full: false,
            stats: DoorStats::default(),
        }
    }

    /// The next thing to be done.
    pub(crate) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When [`Self::handle_timeout`] is due next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.timeouts.first().map(|(at, _)| *at)
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<_> =
            self.timeouts.iter().take_while(|(at, _)| *at <= now).map(|(_, id)| *id).collect();
        for id in due {
            self.with_dialog(now, id, Dialog::handle_timeout);
        }
        self.forget_ended(now);
    }

    /// Whether the peer needs no password.
    pub(crate) fn trusts(&self, arrival: &Arrival) -> bool {
        self.admission.is_trusted(arrival.ip())
    }

    /// Takes a request that has a transaction and passed [`Self::screen`]. Says whether it belongs to a call now.
    pub(crate) fn handle_request(
        &mut self,
        now: Instant,
        transaction: ServerId,
        arrival: Arrival,
        request: Request,
        examined: Option<Box<Examined>>,
    ) -> bool {
        if let Some(id) = self.find_dialog(&request) {
            self.with_dialog(now, id, |dialog, cx| {
                dialog.handle_request(cx, transaction, arrival, &request);
            });
            return true;
        }
        if request.method != Method::Invite || request.to().is_ok_and(|to| to.tag().is_some()) {
            let status = if self.is_late_notify(now, &request) { 200 } else { 481 };
            let response = self.stateless(&request, status);
            self.actions.push_back(Action::Respond { transaction, response });
            return false;
        }
        self.admission.invited(arrival.ip());
        let id = self.dialog_id();
        self.waiting.insert(
            transaction,
            Waiting { source: arrival.ip(), dialog: id, transaction_over: false },
        );
        self.first_transaction.insert(id, transaction);
        if let Err(response) = self.invite(now, id, transaction, arrival, request, examined) {
            self.stats.refused += 1;
            self.actions.push_back(Action::Respond { transaction, response: *response });
            return false;
        }
        true
    }

    fn invite(
        &mut self,
        now: Instant,
        id: DialogId,
        transaction: ServerId,
        arrival: Arrival,
        request: Request,
        examined: Option<Box<Examined>>,
    ) -> Result<(), Box<Response>> {
        let trusted = self.trusts(&arrival);
        let mut authenticated = None;
        if !trusted {
            match self.authenticator.verify(
                now,
                arrival.ip(),
                request.method.as_str(),
                &request.headers,
            ) {
                Verdict::Valid(username) => authenticated = Some(username),
                Verdict::Challenge { stale } => {
                    return Err(Box::new(self.challenge(now, &arrival, &request, stale)));
                }
                Verdict::Refuse => return Err(Box::new(self.stateless(&request, 403))),
            }
        }
        let examined = match examined {
            Some(examined) => examined,
            None => Box::new(self.examine(&arrival, &request)?),
        };
        let bad_request = || Box::new(request.response(400, None));
        let invitation = Invitation {
            id,
            sip_call_id: request.call_id().map_err(|_| bad_request())?.to_owned(),
            source: arrival.source,
            local: self.media_address(arrival.local),
            trusted,
            authenticated,
            from: caller::caller(&request, trusted),
            called: caller::called(&request, &self.settings.contact_user),
            request_uri: request.uri.to_string(),
            headers: caller::kept_headers(&request.headers, trusted),
            offered: examined.offered,
        };
        let (Ok(from), Ok(cseq), Ok(via)) = (request.from(), request.cseq(), request.via()) else {
            return Err(bad_request());
        };
        let caller_key =
            (invitation.sip_call_id.clone(), from.tag().unwrap_or_default().to_owned());
        let expires = request.headers.get("Expires").and_then(|value| value.trim().parse().ok());
        let ring_timeout = expires.map_or(self.settings.ring_timeout, |expires| {
            Duration::from_secs(expires).min(self.settings.ring_timeout)
        });
        let ringing = Ringing {
            transaction,
            offer: examined.offer,
            terms: examined.terms,
            silent: request.headers.has_token("Require", "100rel"),
            give_up_at: now + ring_timeout,
            ring_again_at: None,
            request,
        };
        let tag = self.ids.tag();
        let trying = ringing.request.response(100, Some(&tag));
        let bad_request = Box::new(ringing.request.response(400, Some(&tag)));
        let mut cx = self.context(now);
        let Some(dialog) = Dialog::incoming(&mut cx, id, arrival, ringing, &tag) else {
            return Err(bad_request);
        };
        self.stats.invited += 1;
        self.by_caller
            .insert(caller_key, FirstInvite { dialog: id, cseq, branch: via.branch().to_owned() });
        self.actions.push_back(Action::Respond { transaction, response: trying });
        self.actions.push_back(Action::Invited(Box::new(invitation)));
        self.insert(dialog);
        Ok(())
    }

    /// Takes an ACK; those that are not for a 2xx of ours do nothing here.
    pub(crate) fn handle_ack(&mut self, now: Instant, ack: &Request) {
        if let Some(id) = self.find_dialog(ack) {
            self.with_dialog(now, id, |dialog, cx| dialog.handle_ack(cx, ack));
        }
    }

    /// The INVITE of this transaction was cancelled.
    pub(crate) fn handle_cancel(&mut self, now: Instant, transaction: ServerId) {
        if let Some(id) = self.waiting.get(&transaction).map(|waiting| waiting.dialog) {
            self.with_dialog(now, id, Dialog::handle_cancel);
        }
    }

    /// Takes a response to a request of ours, 2xx to INVITE aside.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        transaction: ClientId,
        response: &Response,
    ) {
        if let Some(&id) = self.by_client.get(&transaction) {
            self.with_dialog(now, id, |dialog, cx| {
                dialog.handle_response(cx, transaction, response);
            });
        }
    }

    /// Takes a 2xx to an INVITE of ours. Each one needs an ACK, also when it comes again or from a fork.
    pub(crate) fn handle_invite_success(&mut self, now: Instant, response: &Response) {
        let (Ok(call_id), Ok(from)) = (response.call_id(), response.from()) else { return };
        let Some(tag) = from.tag() else { return };
        if let Some(&id) = self.by_local_tag.get(&(call_id.to_owned(), tag.to_owned())) {
            self.with_dialog(now, id, |dialog, cx| dialog.handle_invite_success(cx, response));
        }
    }

    /// A transaction of a received request is over.
    pub(crate) fn handle_server_over(&mut self, transaction: ServerId) {
        let Some(waiting) = self.waiting.get_mut(&transaction) else { return };
        waiting.transaction_over = true;
        let still_waits = self
            .dialogs
            .get(&waiting.dialog)
            .is_some_and(|dialog| dialog.is_ringing() || dialog.waits_for_first_ack());
        if !still_waits {
            self.release(transaction);
        }
    }

    /// A transaction of a request of ours is over.
    pub(crate) fn handle_client_over(&mut self, transaction: ClientId) {
        self.by_client.remove(&transaction);
    }

    /// Places a call; the id must be one that [`Self::new`] does not give out (above 2^63).
    pub(crate) fn call(
        &mut self,
        now: Instant,
        id: DialogId,
        arrival: Arrival,
        call: OutgoingCall,
    ) {
        self.place(now, id, arrival, None, call);
    }

    fn place(
        &mut self,
        now: Instant,
        id: DialogId,
        arrival: Arrival,
        hop: Option<Target>,
        call: OutgoingCall,
    ) {
        let before = self.clients;
        match Dialog::outgoing(&mut self.context(now), id, arrival, hop, call) {
            Ok(dialog) => {
                for client in before + 1..=self.clients {
                    self.by_client.insert(ClientId(client), id);
                }
                self.insert(dialog);
            }
            Err(error) => {
                let event = DialogEvent::Failed { status: 400, reason: error.to_string() };
                self.actions.push_back(Action::Event { dialog: id, event });
            }
        }
    }

    /// Places a call beside `of`, to somebody who is to be asked whether they take its caller. Its id as for
    /// [`Self::call`]. Returned is a call that does not go the way of `of`: its URI is to be resolved first.
    pub(crate) fn consult(
        &mut self,
        now: Instant,
        of: DialogId,
        id: DialogId,
        consultation: Consultation,
    ) -> Option<OutgoingCall> {
        let planned = match self.dialogs.get(&of) {
            Some(dialog) => dialog.plan_consultation(&self.settings, consultation),
            None => Err("the call is over".into()),
        };
        match planned {
            Ok(Planned { call, beside: Some((arrival, hop)) }) => {
                self.place(now, id, arrival, Some(hop), call);
                None
            }
            Ok(Planned { call, beside: None }) => Some(call),
            Err(reason) => {
                let event = DialogEvent::Failed { status: 400, reason };
                self.actions.push_back(Action::Event { dialog: id, event });
                None
            }
        }
    }

    /// Carries out an order of the exchange.
    pub(crate) fn handle_order(&mut self, now: Instant, id: DialogId, order: Order) {
        let replaced = match &order {
            Order::TransferTo(consulted, ..) => {
                self.dialogs.get(consulted).and_then(Dialog::replaced)
            }
            _ => None,
        };
        self.with_dialog(now, id, |dialog, cx| match order {
            Order::Progress => dialog.progress(cx),
            Order::Accept(local) => dialog.accept(cx, local),
            Order::Reject(rejection) => dialog.reject(cx, &rejection),
            Order::HangUp(cause) => dialog.hang_up(cx, cause),
            Order::Transfer(target, headers) => dialog.transfer(cx, &target, &headers),
            Order::TransferTo(_, headers, timeout) => {
                dialog.transfer_to(cx, replaced.as_ref(), &headers, timeout);
            }
            Order::Hold(hold) => dialog.hold(cx, hold),
        });
    }

    /// Refuses new calls with 503 from now on, or no longer.
    pub(crate) fn set_draining(&mut self, draining: bool) {
        self.draining = draining;
    }

    /// The same, because there is no room.
    pub(crate) fn set_full(&mut self, full: bool) {
        self.full = full;
    }

    /// Ends every call.
    pub(crate) fn hang_up_all(&mut self, now: Instant) {
        let ids: Vec<_> = self.dialogs.keys().copied().collect();
        for id in ids {
            self.with_dialog(now, id, |dialog, cx| {
                dialog.hang_up(cx, tandem_call::HangupCause::NormalTemporaryFailure);
            });
        }
    }

    /// Whether there is this dialog, in any phase.
    pub(crate) fn knows(&self, id: DialogId) -> bool {
        self.dialogs.contains_key(&id)
    }

    /// How many dialogs there are, in any phase.
    pub(crate) fn dialogs(&self) -> usize {
        self.dialogs.len()
    }

    /// How many INVITEs wait for their ACK.
    pub(crate) const fn unacked(&self) -> usize {
        self.admission.unacked()
    }

    pub(crate) const fn stats(&self) -> DoorStats {
        self.stats
    }

    pub(crate) fn count_malformed(&mut self) {
        self.stats.malformed += 1;
    }

    fn dialog_id(&mut self) -> DialogId {
        self.next_dialog += 1;
        DialogId(self.next_dialog)
    }

    fn context(&mut self, now: Instant) -> Context<'_> {
        Context {
            now,
            settings: &self.settings,
            policy: self.policy,
            ids: &mut self.ids,
            actions: &mut self.actions,
            clients: &mut self.clients,
        }
    }

    fn find_dialog(&self, request: &Request) -> Option<DialogId> {
        let (Ok(call_id), Ok(to), Ok(from)) = (request.call_id(), request.to(), request.from())
        else {
            return None;
        };
        let id = *self.by_local_tag.get(&(call_id.to_owned(), to.tag()?.to_owned()))?;
        let dialog = self.dialogs.get(&id)?;
        dialog.remote_tag().is_none_or(|tag| from.tag() == Some(tag)).then_some(id)
    }

    fn insert(&mut self, dialog: Dialog) {
        let id = dialog.id;
        self.by_local_tag.insert((dialog.call_id().to_owned(), dialog.local_tag().to_owned()), id);
        self.dialogs.insert(id, dialog);
        self.schedule(id);
    }

    /// Lets `work` loose on a dialog and draws the consequences: timers, removal, what counts as unacknowledged.
    fn with_dialog(
        &mut self,
        now: Instant,
        id: DialogId,
        work: impl FnOnce(&mut Dialog, &mut Context<'_>),
    ) {
        let before = self.clients;
        let Some(mut dialog) = self.dialogs.remove(&id) else { return };
        work(&mut dialog, &mut self.context(now));
        let is_gone = dialog.is_gone();
        let answered = !dialog.is_ringing() && !dialog.waits_for_first_ack() && !is_gone;
        for client in before + 1..=self.clients {
            self.by_client.insert(ClientId(client), id);
        }
        if is_gone {
            self.bury(now, &dialog);
        } else {
            self.dialogs.insert(id, dialog);
        }
        if let Some(&transaction) = self.first_transaction.get(&id) {
            let over =
                self.waiting.get(&transaction).is_none_or(|waiting| waiting.transaction_over);
            if answered || (is_gone && over) {
                self.release(transaction);
            }
        }
        self.schedule(id);
    }

    /// Keeps of a dialog that is over what its last requests need.
    fn bury(&mut self, now: Instant, dialog: &Dialog) {
        let key = (dialog.call_id().to_owned(), dialog.local_tag().to_owned());
        self.forget_ended(now);
        if self.lingering.len() < MAX_LINGERING {
            self.lingering
                .insert(key.clone(), Ended { at: now, was_transferred: dialog.was_transferred() });
            self.lingering_order.push_back((now, key.clone()));
        }
        self.by_local_tag.remove(&key);
        if let Some(tag) = dialog.remote_tag() {
            let caller = (key.0, tag.to_owned());
            if self.by_caller.get(&caller).is_some_and(|first| first.dialog == dialog.id) {
                self.by_caller.remove(&caller);
            }
        }
    }

    fn forget_ended(&mut self, now: Instant) {
        while self.lingering_order.front().is_some_and(|(at, _)| *at + LINGER <= now) {
            if let Some((_, key)) = self.lingering_order.pop_front() {
                self.lingering.remove(&key);
            }
        }
    }

    fn release(&mut self, transaction: ServerId) {
        if let Some(waiting) = self.waiting.remove(&transaction) {
            self.first_transaction.remove(&waiting.dialog);
            self.admission.acked(waiting.source);
        }
    }

    fn schedule(&mut self, id: DialogId) {
        let next = self.dialogs.get(&id).and_then(Dialog::next_timeout);
        let before = match next {
            Some(at) => self.scheduled.insert(id, at),
            None => self.scheduled.remove(&id),
        };
        if before == next {
            return;
        }
        if let Some(at) = before {
            self.timeouts.remove(&(at, id));
        }
        if let Some(at) = next {
            self.timeouts.insert((at, id));
        }
    }
}

#[cfg(test)]
mod tests;
