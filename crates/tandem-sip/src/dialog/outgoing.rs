//! The first INVITE of a call we place: offer, credentials, ringing, answer, forks, giving up.

use std::time::Instant;

use tandem_call::{HangupCause, SignalEvent};

use super::{ALLOW, Dialog, Ends, Phase, Purpose, SUPPORTED, T1_64, allows_update};
use crate::{
    DialogEvent, DialogId, OutgoingCall,
    action::{Action, ClientId, Context, Target},
    body, cause, digest,
    message::{Arrival, Method, Request, Response},
    offer_answer::Negotiator,
    session_timer::{self, Refresher, SessionTimer, Terms},
    uri::{NameAddr, Uri, UriError},
};

/// How often an INVITE is sent again with other headers (credentials, session interval).
const MAX_TRIES: u8 = 3;

/// Our INVITE without a final response.
#[derive(Debug)]
pub(super) struct Calling {
    transaction: ClientId,
    request: Request,
    /// A 1xx came: from here on a CANCEL may be sent (RFC 3261 §9.1).
    provisional: bool,
    /// Somebody hung up before the answer.
    giving_up: Option<HangupCause>,
    cancelled: bool,
    give_up_at: Option<Instant>,
    tries: u8,
    rang: bool,
}

impl Calling {
    pub(super) const fn next_timeout(&self) -> Option<Instant> {
        self.give_up_at
    }
}

impl Dialog {
    /// Places a call to the peer at `arrival.source`; `hop` is where its INVITE goes, if that is not where its URI says.
    pub(crate) fn outgoing(
        cx: &mut Context<'_>,
        id: DialogId,
        arrival: Arrival,
        hop: Option<Target>,
        call: OutgoingCall,
    ) -> Result<Self, UriError> {
        let target = Uri::parse(&call.uri)?;
        let local_tag = cx.ids.tag();
        let remote = NameAddr { display: None, uri: target.clone(), params: Vec::new() };
        let session_id = cx.ids.below(1 << 40);
        let preference = cx.settings.codec_preference;
        let mut negotiator = Negotiator::new(call.local, preference, session_id, arrival.ip());
        let sdp = negotiator.offer();
        let ends = Ends {
            call_id: cx.ids.call_id(),
            local: NameAddr::parse(&call.from)?.with_tag(&local_tag),
            remote,
            target,
        };
        let mut dialog = Self::new(cx, id, arrival, ends);
        dialog.owns_call_id = true;
        dialog.first_hop = hop;
        dialog.credential = call.credentials;
        dialog.negotiator = Some(negotiator);
        let mut request = dialog.request(cx, Method::Invite);
        request.headers.push("Allow", ALLOW);
        request.headers.push("Supported", SUPPORTED);
        if let Some(interval) = cx.policy.wanted {
            request.headers.push("Session-Expires", interval.as_secs().to_string());
            request.headers.push("Min-SE", cx.policy.min_se.as_secs().to_string());
        }
        for (name, value) in &call.headers {
            request.headers.push(name, value.clone());
        }
        request.set_body("application/sdp", sdp);
        dialog.shorten_invite(&mut request);
        dialog.send_invite(cx, request, 1);
        Ok(dialog)
    }

    fn send_invite(&mut self, cx: &mut Context<'_>, request: Request, tries: u8) {
        let transaction = cx.client_id();
        let to = self.next_hop();
        cx.act(Action::Send { transaction, request: request.clone(), to });
        self.phase = Phase::Calling(Box::new(Calling {
            transaction,
            request,
            provisional: false,
            giving_up: None,
            cancelled: false,
            give_up_at: None,
            tries,
            rang: false,
        }));
    }

    pub(super) fn cancel_calling(&mut self, cx: &mut Context<'_>, cause: HangupCause) {
        let Phase::Calling(calling) = &mut self.phase else { return };
        calling.giving_up.get_or_insert(cause);
        self.cancel_if_possible(cx);
        self.finish(cx, cause);
    }

    fn cancel_if_possible(&mut self, cx: &mut Context<'_>) {
        let Phase::Calling(calling) = &mut self.phase else { return };
        let Some(cause) = calling.giving_up else { return };
        if calling.cancelled || !calling.provisional {
            return;
        }
        calling.cancelled = true;
        calling.give_up_at = Some(cx.now + T1_64);
        let invite = calling.transaction;
        let cancel = cx.client_id();
        cx.act(Action::Cancel { invite, cancel, reason: cause::reason(cause) });
    }

    pub(super) fn handle_calling_timeout(&mut self, cx: &mut Context<'_>) {
        let Phase::Calling(calling) = &self.phase else { return };
        if calling.give_up_at.is_some_and(|at| at <= cx.now) {
            cx.act(Action::Abandon(calling.transaction));
            self.close(cx);
        }
    }

    /// Takes a response to the first INVITE; 2xx come by [`Self::handle_invite_success`].
    pub(super) fn handle_calling_response(
        &mut self,
        cx: &mut Context<'_>,
        transaction: ClientId,
        response: &Response,
    ) {
        let Phase::Calling(calling) = &mut self.phase else { return };
        if calling.transaction != transaction {
            return;
        }
        match response.status {
            100..200 => {
                calling.provisional = true;
                let rings = response.status > 100 && !calling.rang;
                calling.rang |= rings;
                self.cancel_if_possible(cx);
                if rings {
                    self.event(cx, DialogEvent::Ringing);
                }
            }
            401 | 407 | 422 if calling.giving_up.is_none() && calling.tries < MAX_TRIES => {
                let tries = calling.tries + 1;
                let mut request = calling.request.clone();
                if self.amend(cx, &mut request, response) {
                    self.send_invite(cx, request, tries);
                } else {
                    self.fail(cx, response);
                }
            }
            _ => self.fail(cx, response),
        }
    }

    fn fail(&mut self, cx: &mut Context<'_>, response: &Response) {
        self.close(cx);
        self.event(
            cx,
            DialogEvent::Failed { status: response.status, reason: response.reason.clone() },
        );
    }

    /// Makes `request` what a 401, 407 or 422 asks for, with the next CSeq; `false` when it cannot be.
    pub(super) fn amend(
        &mut self,
        cx: &mut Context<'_>,
        request: &mut Request,
        response: &Response,
    ) -> bool {
        if response.status == 422 {
            let Some(least) = session_timer::min_se(&response.headers) else { return false };
            let asked = request.headers.get("Session-Expires").unwrap_or_default();
            // Who refreshes was settled before, and stays.
            let refresher = asked.find(';').map_or("", |at| &asked[at..]);
            let interval = least.max(cx.policy.min_se).as_secs();
            let interval = format!("{interval}{refresher}");
            request.headers.set("Session-Expires", interval);
            request.headers.set("Min-SE", least.as_secs().to_string());
        } else {
            let Some(credential) = &self.credential else { return false };
            let cnonce = cx.ids.tag();
            let (method, uri) = (request.method.as_str(), request.uri.to_string());
            let answer = digest::authorize(
                response.status,
                &response.headers,
                method,
                &uri,
                credential,
                &cnonce,
            );
            let Some((name, value)) = answer else { return false };
            // The same challenge again means that the password is wrong, unless the nonce was only too old.
            let stale = response
                .headers
                .all("WWW-Authenticate")
                .chain(response.headers.all("Proxy-Authenticate"));
            if request.headers.get(name).is_some()
                && !stale
                    .into_iter()
                    .any(|challenge| challenge.to_ascii_lowercase().contains("stale=true"))
            {
                return false;
            }
            request.headers.set(name, value);
        }
        self.local_cseq += 1;
        request.headers.set("CSeq", format!("{} {}", self.local_cseq, request.method));
        true
    }

    /// Takes a 2xx to an INVITE of ours, first or again, of this dialog or of a fork of it.
    pub(crate) fn handle_invite_success(&mut self, cx: &mut Context<'_>, response: &Response) {
        let (Ok((cseq, _)), Ok(to)) = (response.cseq(), response.to()) else { return };
        if let Some((acked, ack, target)) = &self.last_ack
            && *acked == cseq
            && self.remote.tag() == to.tag()
        {
            cx.act(Action::Acknowledge { request: ack.clone(), to: target.clone() });
            return;
        }
        if let Phase::Calling(calling) = &self.phase
            && calling.request.cseq() == Ok(cseq)
        {
            return self.handle_answer(cx, response, to);
        }
        let renewed = self
            .outstanding
            .iter()
            .position(|it| it.request.method == Method::Invite && it.request.cseq() == Ok(cseq));
        if let Some(index) = renewed {
            let outstanding = self.outstanding.remove(index);
            self.acknowledge(cx, &outstanding.request, response);
            return self.handle_reinvite_success(cx, outstanding.purpose, response);
        }
        if self.owns_call_id && self.remote.tag().is_some() && self.remote.tag() != to.tag() {
            self.release_fork(cx, response, to, cseq);
        }
    }

    fn handle_answer(&mut self, cx: &mut Context<'_>, response: &Response, to: NameAddr) {
        let Phase::Calling(calling) = std::mem::replace(&mut self.phase, Phase::Up) else { return };
        self.remote = to;
        self.adopt(response);
        self.acknowledge(cx, &calling.request, response);
        if calling.giving_up.is_some() {
            // The answer crossed our CANCEL (RFC 3261 §9.1).
            return self.send_bye(cx, HangupCause::NormalClearing);
        }
        let answer = body::session_description(&response.headers, &response.body).ok().flatten();
        let negotiator = self.negotiator.as_mut().expect("a call of ours starts with its offer");
        match answer.map(|answer| negotiator.accept_answer(&answer)) {
            Some(Ok(_)) => {}
            _ => return self.send_bye(cx, HangupCause::IncompatibleDestination),
        }
        self.timer = Terms::of_response(response)
            .map(|terms| SessionTimer::start(cx.now, terms, Refresher::Uac));
        self.report_media(cx, None);
        self.signal(cx, SignalEvent::Answered);
    }

    /// Takes target and route set from the 2xx that made the dialog (RFC 3261 §12.1.2).
    fn adopt(&mut self, response: &Response) {
        if let Some(contact) = response.contact() {
            self.target = contact.uri;
        }
        self.routes = response.headers.list("Record-Route").map(str::to_owned).collect();
        self.routes.reverse();
        self.update_allowed = allows_update(&response.headers);
    }

    /// Sends the ACK of a 2xx: the CSeq and credentials of its INVITE (RFC 3261 §13.2.2.4).
    fn acknowledge(&mut self, cx: &mut Context<'_>, invite: &Request, response: &Response) {
        if let Some(contact) = response.contact() {
            self.target = contact.uri;
        }
        let cseq = invite.cseq().unwrap_or_default();
        let mut ack = self.request(cx, Method::Ack);
        self.local_cseq -= 1;
        ack.headers.remove("Contact");
        ack.headers.set("CSeq", format!("{cseq} ACK"));
        for name in ["Authorization", "Proxy-Authorization"] {
            if let Some(value) = invite.headers.get(name) {
                ack.headers.push(name, value);
            }
        }
        let target = self.next_hop();
        self.last_ack = Some((cseq, ack.clone(), target.clone()));
        cx.act(Action::Acknowledge { request: ack, to: target });
    }

    /// A second branch answered, too: it is acknowledged and hung up (RFC 3261 §13.2.2.4).
    fn release_fork(&mut self, cx: &mut Context<'_>, response: &Response, to: NameAddr, cseq: u32) {
        let Some(contact) = response.contact() else { return };
        let remote = std::mem::replace(&mut self.remote, to);
        let target = std::mem::replace(&mut self.target, contact.uri);
        let mut routes: Vec<_> = response.headers.list("Record-Route").map(str::to_owned).collect();
        routes.reverse();
        let routes = std::mem::replace(&mut self.routes, routes);
        let local_cseq = self.local_cseq;
        let hop: Target = self.next_hop();
        let mut ack = self.request(cx, Method::Ack);
        ack.headers.remove("Contact");
        ack.headers.set("CSeq", format!("{cseq} ACK"));
        self.local_cseq = cseq;
        let mut bye = self.request(cx, Method::Bye);
        bye.headers.push("Reason", "SIP;cause=200;text=\"Call completed elsewhere\"");
        self.local_cseq = local_cseq;
        (self.remote, self.target, self.routes) = (remote, target, routes);
        cx.act(Action::Acknowledge { request: ack, to: hop.clone() });
        let transaction = cx.client_id();
        cx.act(Action::Send { transaction, request: bye, to: hop });
    }

    fn handle_reinvite_success(
        &mut self,
        cx: &mut Context<'_>,
        purpose: Purpose,
        response: &Response,
    ) {
        let before =
            self.negotiator.as_ref().and_then(|negotiator| negotiator.negotiated().copied());
        let answer = body::session_description(&response.headers, &response.body).ok().flatten();
        if let (Some(negotiator), Some(answer)) = (&mut self.negotiator, answer)
            && negotiator.accept_answer(&answer).is_ok()
        {
            self.report_media(cx, before);
        }
        self.renew_timer(cx, purpose, response);
    }
}
