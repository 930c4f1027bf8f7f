//! Requests of the peer inside a dialog.

use tandem_call::{Digit, SignalEvent};

use super::{Dialog, INFO_BODIES, Phase, allows_update, incoming};
use crate::{
    action::{Action, Context, ServerId},
    body::{self, BodyError},
    cause,
    message::{Arrival, Method, Request, Response},
    offer_answer::OfferError,
    refer,
    sdp::SessionDescription,
    session_timer::{Refresher, SessionTimer, Terms},
};

impl Dialog {
    /// Takes a request of the peer, ACK and CANCEL aside.
    pub(crate) fn handle_request(
        &mut self,
        cx: &mut Context<'_>,
        transaction: ServerId,
        arrival: Arrival,
        request: &Request,
    ) {
        let Ok(cseq) = request.cseq() else { return self.respond(cx, transaction, request, 400) };
        if self.remote_cseq.is_some_and(|seen| cseq <= seen) {
            return self.respond(cx, transaction, request, 500);
        }
        self.remote_cseq = Some(cseq);
        if let Some(unsupported) = unsupported(request) {
            let response = self.response(cx, request, 420).with("Unsupported", unsupported);
            return cx.act(Action::Respond { transaction, response });
        }
        // The peer may have moved: streams break, NATs rebind.
        self.arrival.source = arrival.source;
        match request.method {
            Method::Invite | Method::Update => self.handle_offer(cx, transaction, request),
            Method::Bye => self.handle_bye(cx, transaction, request),
            Method::Info => self.handle_info(cx, transaction, request),
            Method::Notify => self.handle_notify(cx, transaction, request),
            Method::Options => {
                let response = self.response(cx, request, 200);
                let response =
                    response.with("Allow", super::ALLOW).with("Accept", "application/sdp");
                cx.act(Action::Respond {
                    transaction,
                    response: response.with("Supported", super::SUPPORTED),
                });
            }
            // No 1xx of ours is reliable, so no PRACK can be meant for one.
            Method::Prack => self.respond(cx, transaction, request, 481),
            Method::Refer | Method::Ack | Method::Cancel | Method::Other(_) => {
                let response = self.response(cx, request, 405).with("Allow", super::ALLOW);
                cx.act(Action::Respond { transaction, response });
            }
        }
    }

    fn handle_bye(&mut self, cx: &mut Context<'_>, transaction: ServerId, request: &Request) {
        self.respond(cx, transaction, request, 200);
        if self.is_ringing() {
            return self.handle_cancel(cx);
        }
        if let Some(outcome) =
            self.transfer.as_mut().and_then(|transfer| transfer.handle_bye(cx.now))
        {
            self.report_transfer(cx, outcome);
        }
        if let Phase::Calling(_) = self.phase {
            // Only the caller may end an early dialog; the INVITE's own answer is still to come.
            return;
        }
        self.close(cx);
        self.finish(cx, cause::of_reason(&request.headers));
    }

    /// A re-INVITE or UPDATE: hold, resume, another address or codec, or only a refresh.
    fn handle_offer(&mut self, cx: &mut Context<'_>, transaction: ServerId, request: &Request) {
        let is_invite = request.method == Method::Invite;
        let carries_offer = is_invite || !request.body.is_empty();
        match &self.phase {
            Phase::Up => {}
            Phase::Closing => return self.respond(cx, transaction, request, 481),
            // Still answering the first INVITE (RFC 3261 §14.2, RFC 3311 §5.2).
            Phase::Ringing(_) | Phase::Calling(_) if carries_offer => {
                return self.respond_later(cx, transaction, request);
            }
            Phase::Ringing(_) | Phase::Calling(_) => {
                self.take_target(request);
                return self.respond(cx, transaction, request, 200);
            }
        }
        if self.over {
            return self.respond(cx, transaction, request, 481);
        }
        if carries_offer && self.has_open_offer() {
            return self.respond(cx, transaction, request, 491);
        }
        let terms = match cx.policy.terms_for(request) {
            Ok(terms) => terms,
            Err(too_small) => {
                let response = self.response(cx, request, 422);
                let response = response.with("Min-SE", too_small.min_se.as_secs().to_string());
                return cx.act(Action::Respond { transaction, response });
            }
        };
        let offer = match body::session_description(&request.headers, &request.body) {
            Ok(offer) => offer,
            Err(error) => {
                let response = refuse_body(self.response(cx, request, 400), &error);
                return cx.act(Action::Respond { transaction, response });
            }
        };
        let before =
            self.negotiator.as_ref().and_then(|negotiator| negotiator.negotiated().copied());
        let our_offer = is_invite && offer.is_none();
        let sdp = match self.negotiate(offer.as_ref(), our_offer) {
            Ok(sdp) => sdp,
            Err(error) => {
                let mut response = self.response(cx, request, error.status());
                incoming::warn(&mut response, self.arrival, &error);
                return cx.act(Action::Respond { transaction, response });
            }
        };
        self.take_target(request);
        let mut response = self.response(cx, request, 200);
        self.agree_on_timer(cx, terms, &mut response);
        if let Some(sdp) = sdp {
            response.set_body("application/sdp", sdp);
        }
        if is_invite {
            // A new INVITE shows that the 2xx before it has arrived.
            self.unacked = None;
            self.accepted(cx, transaction, request, response, our_offer, false);
        } else {
            cx.act(Action::Respond { transaction, response });
        }
        self.report_media(cx, before);
        if let Some(cause) = self.hang_up_after_ack.take() {
            self.send_bye(cx, cause);
        }
    }

    fn negotiate(
        &mut self,
        offer: Option<&SessionDescription>,
        our_offer: bool,
    ) -> Result<Option<String>, OfferError> {
        let negotiator = self.negotiator.as_mut().expect("an answered call has negotiated");
        match offer {
            Some(offer) => negotiator.answer(offer).map(|(sdp, _)| Some(sdp)),
            None if our_offer => Ok(Some(negotiator.offer())),
            None => Ok(None),
        }
    }

    fn agree_on_timer(&mut self, cx: &Context<'_>, terms: Option<Terms>, response: &mut Response) {
        if let Some(terms) = terms {
            terms.write(response);
            self.timer = Some(SessionTimer::start(cx.now, terms, Refresher::Uas));
        } else {
            // No header in the 2xx: no timer (RFC 4028 §9).
            self.timer = None;
        }
    }

    fn take_target(&mut self, request: &Request) {
        if let Some(contact) = request.contact() {
            self.target = contact.uri;
        }
        if request.headers.get("Allow").is_some() {
            self.update_allowed = allows_update(&request.headers);
        }
    }

    fn respond_later(&mut self, cx: &mut Context<'_>, transaction: ServerId, request: &Request) {
        let response =
            self.response(cx, request, 500).with("Retry-After", cx.ids.below(11).to_string());
        cx.act(Action::Respond { transaction, response });
    }

    /// Takes the ACK of a 2xx of ours. One that comes again does nothing.
    pub(crate) fn handle_ack(&mut self, cx: &mut Context<'_>, ack: &Request) {
        let Ok(cseq) = ack.cseq() else { return };
        let Some(unacked) = self.unacked.take_if(|unacked| unacked.cseq == cseq) else { return };
        if unacked.our_offer {
            let before =
                self.negotiator.as_ref().and_then(|negotiator| negotiator.negotiated().copied());
            let answer = body::session_description(&ack.headers, &ack.body).ok().flatten();
            let taken = match (&mut self.negotiator, answer) {
                (Some(negotiator), Some(answer)) => negotiator.accept_answer(&answer).is_ok(),
                _ => false,
            };
            if taken {
                self.report_media(cx, before);
            } else if unacked.initial && self.hang_up_after_ack.is_none() {
                // Our offer stays without an answer: there is no session (RFC 3261 §13.3.1.4).
                return self.send_bye(cx, tandem_call::HangupCause::IncompatibleDestination);
            }
        }
        if let Some(cause) = self.hang_up_after_ack.take() {
            self.send_bye(cx, cause);
        }
    }

    fn handle_info(&mut self, cx: &mut Context<'_>, transaction: ServerId, request: &Request) {
        let content_type = request.headers.get("Content-Type").unwrap_or("");
        let media_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let text = String::from_utf8_lossy(&request.body);
        let digit = match media_type.as_str() {
            _ if request.body.is_empty() => None,
            "application/dtmf-relay" => text
                .lines()
                .filter_map(|line| line.split_once('='))
                .find(|(name, _)| name.trim().eq_ignore_ascii_case("signal"))
                .and_then(|(_, signal)| parse_digit(signal)),
            "application/dtmf" => parse_digit(&text),
            _ => {
                let response = self.response(cx, request, 415).with("Accept", INFO_BODIES);
                return cx.act(Action::Respond { transaction, response });
            }
        };
        self.respond(cx, transaction, request, 200);
        if let Some(digit) = digit {
            self.signal(cx, SignalEvent::Digit(digit));
        }
    }

    fn handle_notify(&mut self, cx: &mut Context<'_>, transaction: ServerId, request: &Request) {
        let event = request.headers.get("Event").unwrap_or("");
        if !refer::is_refer_event(event) {
            let response = self.response(cx, request, 489).with("Allow-Events", "refer");
            return cx.act(Action::Respond { transaction, response });
        }
        let known = match (&self.transfer, self.last_refer) {
            (Some(transfer), _) if transfer.is_about(event) => true,
            // Late, after the outcome.
            (_, Some(last)) => refer::is_about(last, event),
            _ => false,
        };
        if !known {
            return self.respond(cx, transaction, request, 481);
        }
        self.respond(cx, transaction, request, 200);
        let Some(transfer) = self.transfer.as_mut().filter(|transfer| transfer.is_about(event))
        else {
            return;
        };
        if let Some(outcome) = transfer.handle_notify(cx.now, request) {
            if !matches!(outcome, tandem_call::TransferOutcome::Completed) {
                self.transfer = None;
            }
            self.report_transfer(cx, outcome);
        }
    }
}

/// The option tags of Require that we do not know.
pub(crate) fn unsupported(request: &Request) -> Option<String> {
    // 100rel is met by going from 100 straight to 200 (RFC 3262 §3).
    let known =
        |tag: &&str| ["timer", "100rel"].iter().any(|known| tag.eq_ignore_ascii_case(known));
    let unknown: Vec<_> = request.headers.list("Require").filter(|tag| !known(tag)).collect();
    (!unknown.is_empty()).then(|| unknown.join(", "))
}

/// Makes a response the refusal of a body.
pub(crate) fn refuse_body(mut response: Response, error: &BodyError) -> Response {
    response.status = match error {
        BodyError::Unsupported => 415,
        BodyError::Malformed(_) => 400,
    };
    response.reason = crate::message::reason_phrase(response.status).to_owned();
    match error {
        BodyError::Unsupported => response.with("Accept", "application/sdp"),
        BodyError::Malformed(error) => {
            response.with("Warning", format!("399 tandem \"malformed SDP: {error}\""))
        }
    }
}

/// `5`, `*`, `#`, `A`, and the event numbers 10 to 15.
fn parse_digit(text: &str) -> Option<Digit> {
    let text = text.trim();
    let mut chars = text.chars();
    match (chars.next(), chars.next()) {
        (Some(c), None) => Digit::new(c),
        _ => {
            text.parse().ok().filter(|event| (10..=15).contains(event)).and_then(Digit::from_event)
        }
    }
}
