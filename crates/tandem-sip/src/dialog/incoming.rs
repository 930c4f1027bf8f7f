//! The first INVITE of a call that comes in: ringing, answer, refusal, cancellation.

use std::time::{Duration, Instant};

use tandem_call::{HangupCause, SignalEvent};

use super::{Dialog, Ends, Phase, T1, T1_64, Unacked, allows_update};
use crate::{
    DialogId, LocalMedia, Rejection,
    action::{Action, Context, ReplyTo, ServerId},
    cause,
    message::{Arrival, Request, Response, reason_phrase},
    offer_answer::{Negotiator, OfferError},
    sdp::SessionDescription,
    session_timer::{Refresher, SessionTimer, Terms},
};

/// Proxies give up on a silent INVITE after three minutes (RFC 3261 §16.6, timer C): ringing is repeated.
const RING_AGAIN: Duration = Duration::from_secs(60);

/// An INVITE without a final response.
#[derive(Debug)]
pub(crate) struct Ringing {
    pub(crate) transaction: ServerId,
    pub(crate) request: Request,
    pub(crate) offer: Option<SessionDescription>,
    pub(crate) terms: Option<Terms>,
    /// 1xx above 100 would have to be reliable: none is sent (RFC 3262 §3).
    pub(crate) silent: bool,
    pub(crate) give_up_at: Instant,
    pub(crate) ring_again_at: Option<Instant>,
}

impl Ringing {
    pub(super) fn next_timeout(&self) -> Instant {
        self.ring_again_at.map_or(self.give_up_at, |at| at.min(self.give_up_at))
    }
}

impl Dialog {
    /// The dialog of a checked INVITE. The contact of the request must be there.
    pub(crate) fn incoming(
        cx: &mut Context<'_>,
        id: DialogId,
        arrival: Arrival,
        ringing: Ringing,
        local_tag: &str,
    ) -> Option<Self> {
        let request = &ringing.request;
        let ends = Ends {
            call_id: request.call_id().ok()?.to_owned(),
            local: request.to().ok()?.with_tag(local_tag),
            remote: request.from().ok()?,
            target: request.contact()?.uri,
        };
        let mut dialog = Self::new(cx, id, arrival, ends);
        dialog.remote_cseq = request.cseq().ok();
        // The UAS takes Record-Route as it stands (RFC 3261 §12.1.1).
        dialog.routes = request.headers.list("Record-Route").map(str::to_owned).collect();
        dialog.update_allowed = allows_update(&request.headers);
        dialog.phase = Phase::Ringing(Box::new(ringing));
        Some(dialog)
    }

    /// Lets the caller hear ringing.
    pub(crate) fn progress(&mut self, cx: &mut Context<'_>) {
        let Phase::Ringing(ringing) = &mut self.phase else { return };
        if ringing.silent || ringing.ring_again_at.is_some() {
            return;
        }
        ringing.ring_again_at = Some(cx.now + RING_AGAIN);
        self.ring(cx);
    }

    fn ring(&self, cx: &mut Context<'_>) {
        let Phase::Ringing(ringing) = &self.phase else { return };
        self.respond(cx, ringing.transaction, &ringing.request, 180);
    }

    /// Answers the call.
    pub(crate) fn accept(&mut self, cx: &mut Context<'_>, local: LocalMedia) {
        let Phase::Ringing(ringing) = &self.phase else { return };
        let session_id = cx.ids.below(1 << 40);
        let preference = cx.settings.codec_preference;
        let mut negotiator = Negotiator::new(local, preference, session_id, self.arrival.ip());
        let sdp = match &ringing.offer {
            Some(offer) => match negotiator.answer(offer) {
                Ok((sdp, _)) => sdp,
                Err(error) => {
                    let mut response = self.response(cx, &ringing.request, error.status());
                    warn(&mut response, self.arrival, &error);
                    return self.refuse(cx, response, HangupCause::IncompatibleDestination);
                }
            },
            None => negotiator.offer(),
        };
        let mut response = self.response(cx, &ringing.request, 200);
        if let Some(terms) = ringing.terms {
            terms.write(&mut response);
        }
        response.set_body("application/sdp", sdp);
        self.timer = ringing.terms.map(|terms| SessionTimer::start(cx.now, terms, Refresher::Uas));
        let Phase::Ringing(ringing) = std::mem::replace(&mut self.phase, Phase::Up) else { return };
        self.accepted(
            cx,
            ringing.transaction,
            &ringing.request,
            response,
            ringing.offer.is_none(),
            true,
        );
        self.negotiator = Some(negotiator);
        self.report_media(cx, None);
        self.signal(cx, SignalEvent::Answered);
    }

    /// Sends a 2xx to an INVITE and repeats it until the ACK.
    pub(super) fn accepted(
        &mut self,
        cx: &mut Context<'_>,
        transaction: ServerId,
        request: &Request,
        response: Response,
        our_offer: bool,
        initial: bool,
    ) {
        self.unacked = Some(Unacked {
            cseq: request.cseq().unwrap_or_default(),
            to: ReplyTo::new(&self.arrival, request),
            response: response.clone(),
            interval: T1,
            resend_at: cx.now + T1,
            give_up_at: cx.now + T1_64,
            our_offer,
            initial,
        });
        cx.act(Action::Respond { transaction, response });
    }

    /// Refuses the call for a reason of the exchange.
    pub(crate) fn reject(&mut self, cx: &mut Context<'_>, rejection: &Rejection) {
        let Phase::Ringing(ringing) = &self.phase else { return };
        let status = if (300..700).contains(&rejection.status) { rejection.status } else { 500 };
        let mut response = self.response(cx, &ringing.request, status);
        if !rejection.reason.is_empty() {
            response.reason = rejection.reason.replace(['\r', '\n'], " ");
        }
        if let Some(seconds) = rejection.retry_after {
            response.headers.push("Retry-After", seconds.to_string());
        }
        let cause = cause::of_status(status);
        response.headers.push("Reason", cause::reason(cause));
        self.refuse(cx, response, cause);
    }

    pub(super) fn refuse_ringing(&mut self, cx: &mut Context<'_>, cause: HangupCause) {
        let Phase::Ringing(ringing) = &self.phase else { return };
        let mut response = self.response(cx, &ringing.request, cause::status_of(cause));
        response.headers.push("Reason", cause::reason(cause));
        self.refuse(cx, response, cause);
    }

    fn refuse(&mut self, cx: &mut Context<'_>, response: Response, cause: HangupCause) {
        let Phase::Ringing(ringing) = &self.phase else { return };
        cx.act(Action::Respond { transaction: ringing.transaction, response });
        self.close(cx);
        self.finish(cx, cause);
    }

    /// The caller gave up: CANCEL, or a BYE before the answer. The CANCEL itself is answered by its transaction.
    pub(crate) fn handle_cancel(&mut self, cx: &mut Context<'_>) {
        let Phase::Ringing(ringing) = &self.phase else { return };
        self.respond(cx, ringing.transaction, &ringing.request, 487);
        self.close(cx);
        self.signal(cx, SignalEvent::Cancelled);
    }

    pub(super) fn handle_ringing_timeout(&mut self, cx: &mut Context<'_>) {
        let Phase::Ringing(ringing) = &mut self.phase else { return };
        if cx.now >= ringing.give_up_at {
            return self.refuse_ringing(cx, HangupCause::NoAnswer);
        }
        if ringing.ring_again_at.is_some_and(|at| at <= cx.now) {
            ringing.ring_again_at = Some(cx.now + RING_AGAIN);
            self.ring(cx);
        }
    }
}

/// Says in a Warning why an offer was refused (RFC 3261 §20.43).
pub(crate) fn warn(response: &mut Response, arrival: Arrival, error: &OfferError) {
    let text = error.to_string().replace(['"', '\\'], "'");
    response
        .headers
        .push("Warning", format!("{} {} \"{text}\"", error.warning(), arrival.local.ip()));
    response.reason = reason_phrase(error.status()).to_owned();
}
