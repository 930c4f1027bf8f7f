//! What happens to a request before it has a transaction: who is let in, and what is answered without keeping
//! anything (RFC 3261 §8.2.7).

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use tandem_media::Codec;

use super::{Ended, NOTIFY_LINGER, UserAgent};
use crate::{
    SipSettings,
    action::{Action, ReplyTo},
    admission, body,
    dialog::{self, ALLOW, SUPPORTED},
    digest::{Verdict, hex},
    message::{Arrival, Method, Request, Response},
    offer_answer,
    sdp::SessionDescription,
    session_timer::Terms,
    uri::Scheme,
};

/// What is to be done with a request.
#[derive(Debug)]
pub(crate) enum Screening {
    /// It is answered or dropped.
    Done,
    /// It gets a transaction, if it does not belong to one.
    Pass(Option<Box<Examined>>),
}

/// What an INVITE wants, once it was looked at.
#[derive(Debug)]
pub(crate) struct Examined {
    pub(super) offer: Option<SessionDescription>,
    pub(super) offered: Option<Vec<Codec>>,
    pub(super) terms: Option<Terms>,
}

impl UserAgent {
    /// Looks at a request before anything is kept of it. What is refused here costs the peer a packet and us the
    /// same; unauthenticated requests never get further.
    pub(crate) fn screen(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
    ) -> Screening {
        if let Err(error) = request.check() {
            let reason = format!("Bad Request ({error})");
            self.handle_malformed(now, arrival, request, reason);
            return Screening::Done;
        }
        match request.method {
            // Never answered, never refused.
            Method::Ack => return Screening::Pass(None),
            Method::Cancel => return self.pass_if_slow(now, arrival, true),
            _ => {}
        }
        let has_tag = request.to().is_ok_and(|to| to.tag().is_some());
        if has_tag {
            self.screen_in_dialog(now, arrival, request)
        } else {
            self.screen_outside(now, arrival, request)
        }
    }

    /// Answers a request that cannot be read, or not as a whole, if it can be answered.
    pub(crate) fn handle_malformed(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        reason: String,
    ) {
        self.stats.malformed += 1;
        // A response needs at least a way back.
        if request.method != Method::Ack
            && request.via().is_ok()
            && self.admission.take(now, arrival.ip(), false)
        {
            let mut response = self.stateless(request, 400);
            response.reason = reason;
            self.reply(arrival, request, response);
        }
    }

    fn screen_in_dialog(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
    ) -> Screening {
        if self.find_dialog(request).is_some() {
            if let Method::Other(_) = request.method {
                let response = self.stateless(request, 405).with("Allow", ALLOW);
                return self.refuse(now, arrival, request, response);
            }
            return self.pass_if_slow(now, arrival, true);
        }
        if self.ended(request).is_some() {
            // Perhaps our answer to it was lost: its transaction knows.
            return self.pass_if_slow(now, arrival, true);
        }
        let response = self.stateless(request, 481);
        self.refuse(now, arrival, request, response)
    }

    /// The dialog of this request, if it is over since a short time.
    fn ended(&self, request: &Request) -> Option<&Ended> {
        let to = request.to().ok()?;
        self.lingering.get(&(request.call_id().ok()?.to_owned(), to.tag()?.to_owned()))
    }

    /// Whether a NOTIFY comes just after the end of a transferred call.
    pub(super) fn is_late_notify(&self, now: Instant, request: &Request) -> bool {
        request.method == Method::Notify
            && self
                .ended(request)
                .is_some_and(|ended| ended.was_transferred && ended.at + NOTIFY_LINGER > now)
    }

    fn screen_outside(&mut self, now: Instant, arrival: &Arrival, request: &Request) -> Screening {
        if let Some(same) = self.known_invite(request) {
            return if same {
                self.pass_if_slow(now, arrival, true)
            } else {
                // The same request over another branch (RFC 3261 §8.2.2.2).
                let response = self.stateless(request, 482);
                self.refuse(now, arrival, request, response)
            };
        }
        let trusted = self.admission.is_trusted(arrival.ip());
        let is_scanner = request.headers.get("User-Agent").is_some_and(admission::is_scanner);
        if !self.admission.take(now, arrival.ip(), false) || (is_scanner && !trusted) {
            self.stats.dropped += 1;
            return Screening::Done;
        }
        if !trusted && !self.authenticator.has_users() {
            let response = self.stateless(request, 403);
            return self.answer(arrival, request, response);
        }
        match request.method {
            Method::Invite => self.screen_invite(now, arrival, request, trusted),
            Method::Options => {
                let response = self.options(request);
                self.answer(arrival, request, response)
            }
            Method::Bye | Method::Info | Method::Update | Method::Notify | Method::Prack => {
                let response = self.stateless(request, 481);
                self.answer(arrival, request, response)
            }
            Method::Ack | Method::Cancel | Method::Refer | Method::Other(_) => {
                let response = self.stateless(request, 405).with("Allow", ALLOW);
                self.answer(arrival, request, response)
            }
        }
    }

    fn screen_invite(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        trusted: bool,
    ) -> Screening {
        if !trusted
            && let Some(verdict) = self.authenticator.turn_away(now, arrival.ip(), &request.headers)
        {
            let stale = verdict == Verdict::Challenge { stale: true };
            let response = match verdict {
                Verdict::Refuse => self.stateless(request, 403),
                _ => self.challenge(now, arrival, request, stale),
            };
            return self.answer(arrival, request, response);
        }
        if !self.admission.has_room(arrival.ip()) {
            let response = self.unavailable(request);
            return self.answer(arrival, request, response);
        }
        if !trusted {
            // Passwords are looked at once per transaction: a retransmission would look like a replay.
            return Screening::Pass(None);
        }
        match self.examine(arrival, request) {
            Ok(examined) => Screening::Pass(Some(Box::new(examined))),
            Err(response) => self.answer(arrival, request, *response),
        }
    }

    /// Looks at what an INVITE wants. The error is its final response.
    pub(super) fn examine(
        &self,
        arrival: &Arrival,
        request: &Request,
    ) -> Result<Examined, Box<Response>> {
        let refuse = |status| Err(Box::new(self.stateless(request, status)));
        if self.draining || self.full || self.dialogs.len() >= self.settings.limits.dialogs {
            return Err(Box::new(self.unavailable(request)));
        }
        if matches!(request.uri.scheme, Scheme::Other(_)) {
            return refuse(416);
        }
        if let Some(unsupported) = dialog::unsupported(request) {
            return Err(Box::new(self.stateless(request, 420).with("Unsupported", unsupported)));
        }
        let offer = match body::session_description(&request.headers, &request.body) {
            Ok(offer) => offer,
            Err(error) => {
                return Err(Box::new(dialog::refuse_body(self.stateless(request, 400), &error)));
            }
        };
        if !request.contact().is_some_and(|contact| contact.uri.is_sip()) {
            return refuse(400);
        }
        let terms = match self.policy.terms_for(request) {
            Ok(terms) => terms,
            Err(too_small) => {
                let seconds = too_small.min_se.as_secs().to_string();
                return Err(Box::new(self.stateless(request, 422).with("Min-SE", seconds)));
            }
        };
        let offered = match &offer {
            None => None,
            Some(offer) => {
                let local = self.media_address(arrival.local);
                let SipSettings { codecs, security, .. } = &self.settings;
                match offer_answer::offered_codecs(offer, codecs, security, local) {
                    Ok(codecs) => Some(codecs),
                    Err(error) => {
                        let mut response = self.stateless(request, error.status());
                        dialog::warn(&mut response, *arrival, &error);
                        return Err(Box::new(response));
                    }
                }
            }
        };
        Ok(Examined { offer, offered, terms })
    }

    /// Our address for RTP towards a peer.
    pub(crate) fn media_address(&self, local: SocketAddr) -> IpAddr {
        self.settings.media_address.unwrap_or(local.ip())
    }

    /// A 401 with one header line for each algorithm.
    pub(super) fn challenge(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        stale: bool,
    ) -> Response {
        let mut response = self.stateless(request, 401);
        for challenge in self.authenticator.challenges(now, arrival.ip(), stale) {
            response.headers.push("WWW-Authenticate", challenge);
        }
        response
    }

    /// What an INVITE would get (RFC 3261 §11.2), without asking for a password.
    fn options(&self, request: &Request) -> Response {
        if self.draining || self.full {
            return self.unavailable(request);
        }
        self.stateless(request, 200)
            .with("Allow", ALLOW)
            .with("Accept", "application/sdp")
            .with("Supported", SUPPORTED)
            .with("Allow-Events", "refer")
    }

    fn unavailable(&self, request: &Request) -> Response {
        self.stateless(request, 503).with("Retry-After", self.settings.retry_after.to_string())
    }

    /// A response whose To tag is the same whenever the same request comes.
    pub(super) fn stateless(&self, request: &Request, status: u16) -> Response {
        let branch = request.via().map(|via| via.branch().to_owned()).unwrap_or_default();
        let call_id = request.call_id().unwrap_or_default();
        let tag = hex(&self.secret.hash(&["stateless", call_id, &branch])[..8]);
        let mut response = request.response(status, Some(&tag));
        response.headers.push("Server", self.settings.user_agent.clone());
        response
    }

    /// Whether an INVITE without a To tag belongs to a dialog: the same one again, or a merged one.
    fn known_invite(&self, request: &Request) -> Option<bool> {
        if request.method != Method::Invite {
            return None;
        }
        let from = request.from().ok()?;
        let key = (request.call_id().ok()?.to_owned(), from.tag()?.to_owned());
        let first = self.by_caller.get(&key)?;
        (request.cseq() == Ok(first.cseq))
            .then(|| request.via().is_ok_and(|via| via.branch() == first.branch))
    }

    fn pass_if_slow(&mut self, now: Instant, arrival: &Arrival, in_dialog: bool) -> Screening {
        if self.admission.take(now, arrival.ip(), in_dialog) {
            return Screening::Pass(None);
        }
        self.stats.dropped += 1;
        Screening::Done
    }

    /// Answers if the source does not send too fast.
    fn refuse(
        &mut self,
        now: Instant,
        arrival: &Arrival,
        request: &Request,
        response: Response,
    ) -> Screening {
        if self.admission.take(now, arrival.ip(), false) {
            return self.answer(arrival, request, response);
        }
        self.stats.dropped += 1;
        Screening::Done
    }

    fn answer(&mut self, arrival: &Arrival, request: &Request, response: Response) -> Screening {
        if response.status >= 300 {
            self.stats.refused += 1;
        }
        self.reply(arrival, request, response);
        Screening::Done
    }

    fn reply(&mut self, arrival: &Arrival, request: &Request, response: Response) {
        let to = ReplyTo::new(arrival, request);
        self.actions.push_back(Action::Reply { to, response });
    }
}
