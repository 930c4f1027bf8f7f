//! One dialog and the INVITE usage in it (RFC 3261 §12-15): its state, its requests, its timers.

mod consultation;
mod incoming;
mod outgoing;
mod replies;
mod within;

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use tandem_call::{HangupCause, SignalEvent, TransferOutcome, TransferTarget};
use tandem_rtp::MediaParams;
use tandem_srtp::MediaSecurity;

pub(crate) use consultation::Planned;
pub(crate) use incoming::{Ringing, warn};
use outgoing::Calling;
pub(crate) use within::{refuse_body, unsupported};

use crate::{
    Credential, DialogEvent, DialogId, Transport,
    action::{Action, ClientId, Context, ReplyTo, ServerId, Target},
    cause,
    message::{Arrival, Method, Request, Response},
    offer_answer::Negotiator,
    refer::{self, Due, Transfer},
    session_timer::SessionTimer,
    uri::{NameAddr, Uri, host_text},
};

/// Round-trip estimate (RFC 3261 §17.1.1.1).
pub(crate) const T1: Duration = Duration::from_millis(500);
/// The longest interval between retransmissions (RFC 3261 §17.1.2.2).
const T2: Duration = Duration::from_secs(4);
/// How long an ACK may take (RFC 3261 §13.3.1.4), and most other things.
pub(crate) const T1_64: Duration = Duration::from_secs(32);

/// The longest request over UDP (RFC 3261 §18.1.1), less the Via that is still to come.
const MAX_DATAGRAM: usize = 1300 - 128;

/// Methods we take.
pub(crate) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, UPDATE, INFO, NOTIFY";
/// Extensions we support.
pub(crate) const SUPPORTED: &str = "timer";
/// Bodies we take in INFO.
const INFO_BODIES: &str = "application/dtmf-relay, application/dtmf";

/// One dialog.
#[derive(Debug)]
pub(crate) struct Dialog {
    pub(crate) id: DialogId,
    call_id: String,
    /// From of our requests, with our tag.
    local: NameAddr,
    /// To of our requests, with the peer's tag once it is known.
    remote: NameAddr,
    local_cseq: u32,
    remote_cseq: Option<u32>,
    routes: Vec<String>,
    /// Where the first INVITE of a call of ours goes, if that is not where its URI says.
    first_hop: Option<Target>,
    /// Where requests go: the peer's Contact.
    target: Uri,
    contact: String,
    arrival: Arrival,
    /// We sent the first INVITE.
    owns_call_id: bool,
    update_allowed: bool,
    credential: Option<Credential>,
    phase: Phase,
    negotiator: Option<Negotiator>,
    timer: Option<SessionTimer>,
    transfer: Option<Transfer>,
    /// CSeq of the last REFER, for NOTIFYs that come late.
    last_refer: Option<u32>,
    outstanding: Vec<Outstanding>,
    unacked: Option<Unacked>,
    /// The ACK of our last INVITE, for 2xx that come again.
    last_ack: Option<(u32, Request, Target)>,
    retry: Option<(Instant, Purpose)>,
    hang_up_after_ack: Option<HangupCause>,
    held: bool,
    /// The protection of media that was reported last.
    secured: MediaSecurity,
    /// The last event is out.
    over: bool,
}

#[derive(Debug)]
enum Phase {
    /// Their INVITE is not answered yet.
    Ringing(Box<Ringing>),
    /// Our INVITE is not answered yet.
    Calling(Box<Calling>),
    /// Answered.
    Up,
    /// Nothing left but to wait for the end of our last transactions.
    Closing,
}

/// A request of ours without a final response.
#[derive(Debug)]
struct Outstanding {
    transaction: ClientId,
    request: Request,
    purpose: Purpose,
    /// It carries credentials already.
    authorized: bool,
    /// Its session interval is the one a 422 asked for.
    lengthened: bool,
}

/// Why a request was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Bye,
    Refer,
    /// UPDATE or re-INVITE that keeps the session alive.
    Refresh,
    /// re-INVITE that holds or resumes.
    Hold(bool),
}

/// A 2xx to an INVITE that waits for its ACK.
#[derive(Debug)]
struct Unacked {
    cseq: u32,
    response: Response,
    to: ReplyTo,
    interval: Duration,
    resend_at: Instant,
    give_up_at: Instant,
    /// Our offer is in it: the ACK brings the answer.
    our_offer: bool,
    /// It is the first INVITE of the dialog.
    initial: bool,
}

/// Who is at the two ends of a dialog.
struct Ends {
    call_id: String,
    local: NameAddr,
    remote: NameAddr,
    target: Uri,
}

impl Dialog {
    /// A dialog in which nothing has happened. The phase is to be set.
    fn new(cx: &Context<'_>, id: DialogId, arrival: Arrival, ends: Ends) -> Self {
        Self {
            id,
            call_id: ends.call_id,
            local: ends.local,
            remote: ends.remote,
            local_cseq: 0,
            remote_cseq: None,
            routes: Vec::new(),
            first_hop: None,
            target: ends.target,
            contact: contact(&cx.settings.contact_user, &arrival),
            arrival,
            owns_call_id: false,
            update_allowed: false,
            credential: None,
            phase: Phase::Closing,
            negotiator: None,
            timer: None,
            transfer: None,
            last_refer: None,
            outstanding: Vec::new(),
            unacked: None,
            last_ack: None,
            retry: None,
            hang_up_after_ack: None,
            held: false,
            secured: MediaSecurity::Plain,
            over: false,
        }
    }

    /// The Call-ID.
    pub(crate) fn call_id(&self) -> &str {
        &self.call_id
    }

    /// Our tag.
    pub(crate) fn local_tag(&self) -> &str {
        self.local.tag().expect("a dialog is made with our tag")
    }

    /// The peer's tag, once it is known.
    pub(crate) fn remote_tag(&self) -> Option<&str> {
        self.remote.tag()
    }

    /// Whether the first INVITE of the peer is answered with 2xx and not acknowledged.
    pub(crate) fn waits_for_first_ack(&self) -> bool {
        self.unacked.as_ref().is_some_and(|unacked| unacked.initial)
    }

    /// Whether the INVITE of the peer has no final response.
    pub(crate) const fn is_ringing(&self) -> bool {
        matches!(self.phase, Phase::Ringing(_))
    }

    /// Whether nothing is left to wait for.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.phase, Phase::Closing)
            && self.outstanding.is_empty()
            && self.unacked.is_none()
            && self.hang_up_after_ack.is_none()
    }

    /// Whether NOTIFYs of a transfer may still come after the end.
    pub(crate) const fn was_transferred(&self) -> bool {
        self.last_refer.is_some()
    }

    /// Ends the call in whatever state it is.
    pub(crate) fn hang_up(&mut self, cx: &mut Context<'_>, cause: HangupCause) {
        match &self.phase {
            Phase::Ringing(_) => self.refuse_ringing(cx, cause),
            Phase::Calling(_) => self.cancel_calling(cx, cause),
            Phase::Up if self.waits_for_first_ack() => {
                // A UAS may not send BYE before the ACK (RFC 3261 §15).
                self.hang_up_after_ack.get_or_insert(cause);
                self.finish(cx, cause);
            }
            Phase::Up => self.send_bye(cx, cause),
            Phase::Closing => {}
        }
    }

    /// Hands the caller over by REFER.
    pub(crate) fn transfer(
        &mut self,
        cx: &mut Context<'_>,
        target: &TransferTarget,
        headers: &[(String, String)],
    ) {
        let escaped = if cx.settings.refer_to_headers { headers } else { &[] };
        let templates = &cx.settings.refer_templates;
        let refer_to = refer::refer_to(templates, target, &self.target.host, escaped);
        self.refer(cx, refer_to, headers, cx.settings.transfer_timeout);
    }

    /// Hands the caller over by REFER, if there is a Refer-To.
    fn refer(
        &mut self,
        cx: &mut Context<'_>,
        refer_to: Result<String, String>,
        headers: &[(String, String)],
        timeout: Duration,
    ) {
        if self.over {
            return;
        }
        let refer_to = match refer_to {
            _ if !matches!(self.phase, Phase::Up) => Err("the call is not answered".into()),
            _ if self.transfer.is_some() => Err("another transfer is under way".into()),
            refer_to => refer_to,
        };
        let refer_to = match refer_to {
            Ok(refer_to) => refer_to,
            Err(reason) => return self.report_transfer(cx, refer::failed(None, &reason)),
        };
        let mut request = self.request(cx, Method::Refer);
        request.headers.push("Refer-To", refer_to);
        request.headers.push("Referred-By", format!("<{}>", self.local.uri));
        for (name, value) in refer::passed_on(headers) {
            request.headers.push(name, value);
        }
        let cseq = self.local_cseq;
        self.transfer = Some(Transfer::new(cx.now, cseq, timeout));
        self.last_refer = Some(cseq);
        self.send(cx, request, Purpose::Refer);
    }

    /// Puts the peer on hold or takes it back.
    pub(crate) fn hold(&mut self, cx: &mut Context<'_>, hold: bool) {
        if self.over || !matches!(self.phase, Phase::Up) {
            return;
        }
        if self.unacked.is_some() || self.has_open_offer() {
            self.retry = Some((cx.now + T1, Purpose::Hold(hold)));
            return;
        }
        let Some(negotiator) = &mut self.negotiator else { return };
        negotiator.set_holding(hold);
        self.send_reinvite(cx, Purpose::Hold(hold));
    }

    /// Does what is due at `cx.now`.
    pub(crate) fn handle_timeout(&mut self, cx: &mut Context<'_>) {
        self.resend_or_give_up(cx);
        match &self.phase {
            Phase::Ringing(_) => self.handle_ringing_timeout(cx),
            Phase::Calling(_) => self.handle_calling_timeout(cx),
            Phase::Up | Phase::Closing => {}
        }
        if let Some(due) =
            self.transfer.as_ref().and_then(|transfer| transfer.handle_timeout(cx.now))
        {
            match due {
                Due::Failed(outcome) => {
                    self.transfer = None;
                    self.report_transfer(cx, outcome);
                }
                Due::HangUp => {
                    self.transfer = None;
                    self.hang_up(cx, HangupCause::NormalClearing);
                }
            }
        }
        if let Some((_, purpose)) = self.retry.take_if(|(at, _)| *at <= cx.now) {
            match purpose {
                Purpose::Hold(hold) => self.hold(cx, hold),
                _ => self.refresh(cx),
            }
        }
        if let Some(timer) = &mut self.timer {
            if timer.is_expired(cx.now) {
                self.timer = None;
                self.hang_up(cx, HangupCause::RecoveryOnTimerExpire);
            } else if timer.take_refresh(cx.now) {
                self.refresh(cx);
            }
        }
    }

    /// When [`Self::handle_timeout`] is due next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let unacked =
            self.unacked.as_ref().map(|unacked| unacked.resend_at.min(unacked.give_up_at));
        let phase = match &self.phase {
            Phase::Ringing(ringing) => Some(ringing.next_timeout()),
            Phase::Calling(calling) => calling.next_timeout(),
            Phase::Up | Phase::Closing => None,
        };
        let transfer = self.transfer.as_ref().map(Transfer::deadline);
        let retry = self.retry.map(|(at, _)| at);
        let timer = self.timer.as_ref().map(SessionTimer::next);
        [unacked, phase, transfer, retry, timer].into_iter().flatten().min()
    }

    fn resend_or_give_up(&mut self, cx: &mut Context<'_>) {
        let Some(unacked) = &mut self.unacked else { return };
        if cx.now >= unacked.give_up_at {
            // No ACK in 64*T1: the peer may think the call is up (RFC 3261 §13.3.1.4).
            self.unacked = None;
            self.hang_up_after_ack = None;
            return self.send_bye(cx, HangupCause::RecoveryOnTimerExpire);
        }
        if cx.now >= unacked.resend_at {
            unacked.interval = (unacked.interval * 2).min(T2);
            unacked.resend_at = cx.now + unacked.interval;
            let (to, response) = (unacked.to, unacked.response.clone());
            cx.act(Action::Reply { to, response });
        }
    }

    /// A request inside the dialog, with the next CSeq.
    fn request(&mut self, cx: &mut Context<'_>, method: Method) -> Request {
        self.local_cseq += 1;
        let cseq = format!("{} {method}", self.local_cseq);
        let mut request = Request::new(method, self.target.clone());
        request.uri.headers.clear();
        let headers = &mut request.headers;
        headers.push("Max-Forwards", "70");
        headers.push("From", self.local.to_string());
        headers.push("To", self.remote.to_string());
        headers.push("Call-ID", self.call_id.clone());
        headers.push("CSeq", cseq);
        headers.push("Contact", self.contact.clone());
        headers.push("User-Agent", cx.settings.user_agent.clone());
        for route in &self.routes {
            headers.push("Route", route.clone());
        }
        request
    }

    fn send(&mut self, cx: &mut Context<'_>, mut request: Request, purpose: Purpose) {
        let transaction = cx.client_id();
        let to = self.next_hop();
        if purpose == Purpose::Refer && to.transport == Transport::Udp {
            refer::shorten(&mut request, MAX_DATAGRAM);
        }
        let authorized = ["Authorization", "Proxy-Authorization"]
            .iter()
            .any(|name| request.headers.get(name).is_some());
        self.outstanding.push(Outstanding {
            transaction,
            request: request.clone(),
            purpose,
            authorized,
            lengthened: false,
        });
        cx.act(Action::Send { transaction, request, to });
    }

    /// Whether an offer of ours waits for its answer.
    fn has_open_offer(&self) -> bool {
        self.unacked.as_ref().is_some_and(|unacked| unacked.our_offer)
            || self.outstanding.iter().any(|it| it.request.method == Method::Invite)
    }

    /// Keeps the session alive: UPDATE where the peer knows it, else a re-INVITE that changes nothing.
    fn refresh(&mut self, cx: &mut Context<'_>) {
        if self.over || !matches!(self.phase, Phase::Up) {
            return;
        }
        if !self.update_allowed {
            if self.has_open_offer() || self.unacked.is_some() {
                self.retry = Some((cx.now + T1, Purpose::Refresh));
                return;
            }
            return self.send_reinvite(cx, Purpose::Refresh);
        }
        let mut request = self.request(cx, Method::Update);
        self.ask_for_timer(cx, &mut request);
        self.send(cx, request, Purpose::Refresh);
    }

    fn send_reinvite(&mut self, cx: &mut Context<'_>, purpose: Purpose) {
        let Some(negotiator) = &mut self.negotiator else { return };
        let sdp = negotiator.offer();
        let mut request = self.request(cx, Method::Invite);
        request.headers.push("Allow", ALLOW);
        self.ask_for_timer(cx, &mut request);
        request.set_body("application/sdp", sdp);
        self.send(cx, request, purpose);
    }

    fn ask_for_timer(&self, cx: &Context<'_>, request: &mut Request) {
        request.headers.push("Supported", SUPPORTED);
        if let Some(timer) = &self.timer {
            // Roles are named anew with each request: who refreshes stays the same.
            let refresher = if timer.we_refresh() { "uac" } else { "uas" };
            let interval = timer.interval().as_secs();
            request.headers.push("Session-Expires", format!("{interval};refresher={refresher}"));
            request.headers.push("Min-SE", cx.policy.min_se.as_secs().to_string());
        }
    }

    fn send_bye(&mut self, cx: &mut Context<'_>, cause: HangupCause) {
        self.close(cx);
        let mut request = self.request(cx, Method::Bye);
        request.headers.push("Reason", cause::reason(cause));
        self.send(cx, request, Purpose::Bye);
        self.finish(cx, cause);
    }

    /// Stops everything that runs; what is left is what the caller sends next.
    fn close(&mut self, cx: &mut Context<'_>) {
        self.phase = Phase::Closing;
        self.unacked = None;
        self.hang_up_after_ack = None;
        self.retry = None;
        self.timer = None;
        if self.transfer.take().is_some_and(|transfer| transfer.is_open()) {
            self.report_transfer(cx, refer::failed(None, "the call ended"));
        }
        for outstanding in self.outstanding.drain(..) {
            cx.act(Action::Abandon(outstanding.transaction));
        }
    }

    /// The last event, once.
    fn finish(&mut self, cx: &mut Context<'_>, cause: HangupCause) {
        self.signal(cx, SignalEvent::HungUp { cause });
    }

    fn signal(&mut self, cx: &mut Context<'_>, event: SignalEvent) {
        self.event(cx, DialogEvent::Signal(event));
    }

    fn event(&mut self, cx: &mut Context<'_>, event: DialogEvent) {
        if self.over {
            return;
        }
        self.over = event.is_last();
        cx.act(Action::Event { dialog: self.id, event });
    }

    fn report_transfer(&mut self, cx: &mut Context<'_>, outcome: TransferOutcome) {
        self.signal(cx, SignalEvent::Transfer(outcome));
    }

    /// Says what was negotiated, if it is news.
    fn report_media(&mut self, cx: &mut Context<'_>, before: Option<MediaParams>) {
        let Some(negotiator) = &self.negotiator else { return };
        let Some(params) = negotiator.negotiated().copied() else { return };
        let holding = negotiator.is_holding();
        if *negotiator.security() != self.secured {
            self.secured = negotiator.security().clone();
            self.event(cx, DialogEvent::Security(self.secured.clone()));
        }
        if before == Some(params) {
            return;
        }
        self.event(cx, DialogEvent::Media(params));
        if !holding && params.is_held() != self.held {
            self.held = params.is_held();
            self.signal(cx, SignalEvent::Held(self.held));
        }
    }

    /// A response to a request of the peer, with our tag.
    fn response(&self, cx: &Context<'_>, request: &Request, status: u16) -> Response {
        let mut response = request.response(status, self.local.tag());
        response.headers.push("Server", cx.settings.user_agent.clone());
        if request.method == Method::Invite && (101..300).contains(&status) {
            for route in request.headers.all("Record-Route") {
                response.headers.push("Record-Route", route);
            }
        }
        if matches!(request.method, Method::Invite | Method::Update) && (101..300).contains(&status)
        {
            response.headers.push("Contact", self.contact.clone());
            response.headers.push("Allow", ALLOW);
            response.headers.push("Supported", SUPPORTED);
        }
        response
    }

    fn respond(&self, cx: &mut Context<'_>, transaction: ServerId, request: &Request, status: u16) {
        let response = self.response(cx, request, status);
        cx.act(Action::Respond { transaction, response });
    }

    fn next_hop(&self) -> Target {
        if let (Some(hop), None) = (&self.first_hop, self.remote.tag()) {
            return hop.clone();
        }
        let route = self
            .routes
            .first()
            .and_then(|route| NameAddr::parse(route).ok())
            .map(|route| route.uri);
        let uri = route.as_ref().unwrap_or(&self.target);
        let transport =
            uri.param("transport").and_then(Transport::from_name).unwrap_or(self.arrival.transport);
        let source = self.arrival.source;
        let (host, port) = if is_out_of_reach(&uri.host, source.ip()) {
            (source.ip().to_string(), Some(source.port()))
        } else {
            (uri.host.clone(), uri.port)
        };
        let flow = (transport == Transport::Tcp && self.arrival.transport == Transport::Tcp)
            .then_some(source);
        Target { transport, host, port, flow, local: self.arrival.local }
    }
}

/// Whether a Contact names a place only the peer can reach: a private address seen from a public one, or a made-up
/// name (RFC 5626 §9.1 uses `.invalid`).
fn is_out_of_reach(host: &str, source: IpAddr) -> bool {
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_unspecified() || (is_private(address) && !is_private(source)),
        Err(_) => host.ends_with(".invalid"),
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.segments()[0] & 0xFE00 == 0xFC00,
    }
}

/// `<sip:user@host:port;transport=tcp>`, where the peer reaches us.
fn contact(user: &str, arrival: &Arrival) -> String {
    let host = host_text(&arrival.local.ip().to_string(), Some(arrival.local.port()));
    match arrival.transport {
        Transport::Udp => format!("<sip:{user}@{host}>"),
        Transport::Tcp => format!("<sip:{user}@{host};transport=tcp>"),
    }
}

/// Whether Allow lists UPDATE.
fn allows_update(headers: &crate::Headers) -> bool {
    headers.list("Allow").any(|method| method == "UPDATE")
}
