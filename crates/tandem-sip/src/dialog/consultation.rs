//! A call beside another one, whose far end is to take the other's caller (RFC 5589 §7).

use std::time::Duration;

use tandem_call::Party;

use super::{Dialog, MAX_DATAGRAM, Phase};
use crate::{
    Consultation, OutgoingCall, SipSettings, Transport,
    action::{Context, Target},
    message::{Arrival, Request},
    refer,
    uri::{NameAddr, Uri, escape},
};

/// A call that is to be placed beside a dialog.
pub(crate) struct Planned {
    pub(crate) call: OutgoingCall,
    /// It goes the way of the dialog's requests.
    pub(crate) beside: Option<(Arrival, Target)>,
}

impl Dialog {
    /// The call to somebody who is to be asked whether they take this dialog's caller. The error says in words why there is none.
    pub(crate) fn plan_consultation(
        &self,
        settings: &SipSettings,
        consultation: Consultation,
    ) -> Result<Planned, String> {
        let Consultation { target, caller, local, headers, credentials } = consultation;
        if self.over || !matches!(self.phase, Phase::Up) {
            return Err("the call is not up".into());
        }
        let uri = refer::target_uri(&settings.refer_templates, &target, &self.target.host)?;
        let ours = uri.host.eq_ignore_ascii_case(&self.target.host)
            && uri.port.is_none_or(|port| Some(port) == self.target.port)
            && uri.param("transport").is_none();
        let headers = refer::passed_on(&headers);
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let call = OutgoingCall {
            uri: uri.to_string(),
            from: self.address_of(&caller).to_string(),
            local,
            headers,
            credentials,
        };
        let beside = ours.then(|| (self.arrival, self.next_hop()));
        Ok(Planned { call, beside })
    }

    /// The caller at our host: who is asked sees who waits.
    fn address_of(&self, caller: &Party) -> NameAddr {
        let own = self.local.uri.user.clone();
        let user = caller.number.as_deref().map(|number| escape(number, "+&=$,/")).or(own);
        let host = self.arrival.local.ip().to_string();
        let uri = Uri::sip(user.as_deref(), &host, None);
        NameAddr { display: caller.name.clone(), uri, params: Vec::new() }
    }

    /// The far end's Contact, and the value of a Replaces header that names this dialog as it knows it (RFC 3891 §3); none
    /// while the dialog is not up.
    pub(crate) fn replaced(&self) -> Option<(Uri, String)> {
        let up = !self.over && matches!(self.phase, Phase::Up);
        let theirs = self.remote_tag().filter(|_| up)?;
        let ours = self.local_tag();
        let replaces = format!("{};to-tag={theirs};from-tag={ours}", self.call_id);
        Some((self.target.clone(), replaces))
    }

    /// Hands the caller over to the far end of a dialog, of which [`Self::replaced`] told.
    pub(crate) fn transfer_to(
        &mut self,
        cx: &mut Context<'_>,
        replaced: Option<&(Uri, String)>,
        headers: &[(String, String)],
        timeout: Duration,
    ) {
        let escaped = if cx.settings.refer_to_headers { headers } else { &[] };
        let refer_to = replaced
            .map(|(target, replaces)| refer::refer_to_replacing(target, replaces, escaped))
            .ok_or_else(|| "the person hung up".to_owned());
        self.refer(cx, refer_to, headers, timeout);
    }

    /// Drops what an INVITE of ours has no room for on its way.
    pub(super) fn shorten_invite(&self, request: &mut Request) {
        if self.first_hop.is_some() && self.next_hop().transport == Transport::Udp {
            refer::shorten(request, MAX_DATAGRAM);
        }
    }
}
