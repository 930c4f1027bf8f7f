//! Responses to our requests inside a dialog (RFC 3261 §12.2.1.2, RFC 5057).

use std::time::Duration;

use tandem_call::HangupCause;

use super::{Dialog, Phase, Purpose};
use crate::{
    action::{ClientId, Context},
    message::{Method, Response},
    session_timer::{Refresher, SessionTimer, Terms},
};

impl Dialog {
    /// Takes a response to a request of ours. 2xx to INVITE come by [`Self::handle_invite_success`].
    pub(crate) fn handle_response(
        &mut self,
        cx: &mut Context<'_>,
        transaction: ClientId,
        response: &Response,
    ) {
        let Some(index) = self.outstanding.iter().position(|it| it.transaction == transaction)
        else {
            return self.handle_calling_response(cx, transaction, response);
        };
        if response.status < 200 {
            return;
        }
        let mut outstanding = self.outstanding.remove(index);
        let purpose = outstanding.purpose;
        let lengthened = outstanding.lengthened || response.status == 422;
        // Each request is amended once for each reason: a peer may ask for more and more.
        let again = match response.status {
            401 | 407 => !outstanding.authorized,
            422 => {
                !outstanding.lengthened
                    && outstanding.request.headers.get("Session-Expires").is_some()
            }
            _ => false,
        };
        if again && self.amend(cx, &mut outstanding.request, response) {
            if let (Purpose::Refer, Some(transfer)) = (purpose, &mut self.transfer) {
                transfer.resent(self.local_cseq);
                self.last_refer = Some(self.local_cseq);
            }
            self.send(cx, outstanding.request, purpose);
            if let Some(sent) = self.outstanding.last_mut() {
                sent.lengthened = lengthened;
            }
            return;
        }
        match purpose {
            Purpose::Bye => {}
            Purpose::Refer => self.handle_refer_response(cx, response),
            Purpose::Refresh | Purpose::Hold(_) => {
                let method = outstanding.request.method;
                self.handle_renewal_response(cx, purpose, &method, response);
            }
        }
    }

    fn handle_refer_response(&mut self, cx: &mut Context<'_>, response: &Response) {
        let Some(transfer) = &mut self.transfer else { return };
        if let Some(outcome) = transfer.handle_response(response.status, &response.reason) {
            self.transfer = None;
            self.report_transfer(cx, outcome);
        }
        // 408 says nothing about the dialog: there are trunks that never answer a REFER.
        if response.status == 481 {
            self.lose(cx);
        }
    }

    fn handle_renewal_response(
        &mut self,
        cx: &mut Context<'_>,
        purpose: Purpose,
        method: &Method,
        response: &Response,
    ) {
        match response.status {
            200..300 => self.renew_timer(cx, purpose, response),
            408 | 481 => self.lose(cx),
            491 => {
                // Who owns the Call-ID waits longer, so that the two do not meet again (RFC 3261 §14.1).
                let (base, steps) = if self.owns_call_id { (2_100, 190) } else { (0, 200) };
                let wait = Duration::from_millis(base + 10 * cx.ids.below(steps + 1));
                self.retry = Some((cx.now + wait, purpose));
            }
            405 | 501 if *method == Method::Update => {
                self.update_allowed = false;
                self.refresh(cx);
            }
            422 | 500.. if purpose == Purpose::Refresh => {
                if let Some(timer) = &mut self.timer {
                    timer.retry_refresh(cx.now + Duration::from_secs(10));
                }
            }
            _ => {
                if let (Purpose::Hold(hold), Some(negotiator)) = (purpose, &mut self.negotiator) {
                    negotiator.set_holding(!hold);
                }
            }
        }
    }

    /// Starts the session timer anew after a 2xx to a request that asked for it.
    pub(super) fn renew_timer(
        &mut self,
        cx: &mut Context<'_>,
        purpose: Purpose,
        response: &Response,
    ) {
        if matches!(self.phase, Phase::Up) && (purpose == Purpose::Refresh || self.timer.is_some())
        {
            self.timer = Terms::of_response(response)
                .map(|terms| SessionTimer::start(cx.now, terms, Refresher::Uac));
        }
    }

    /// The peer does not know the dialog any more, or is gone.
    fn lose(&mut self, cx: &mut Context<'_>) {
        if matches!(self.phase, Phase::Up) {
            self.send_bye(cx, HangupCause::RecoveryOnTimerExpire);
        }
    }
}
