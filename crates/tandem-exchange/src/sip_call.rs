//! SIP calls: from an INVITE that was let through to a call on a worker.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use tandem_call::{HangupCause, Party};
use tandem_media::Codec;
use tandem_rtp::{LegConfig, RtpLeg};
use tandem_sip::{CodecPreference, IncomingCall, LocalMedia, Rejection};

use crate::{
    AgentProfile, CallFacts, CallIdentity, Exchange, Refused,
    exchange::{About, random, unix_now},
    sip_line::{SipLine, SipPorts},
};

impl Exchange {
    /// Takes an INVITE, or has it refused.
    pub(crate) fn take(&self, call: IncomingCall) {
        let dialog = call.dialog.clone();
        if let Err(refused) = self.admit(call) {
            tracing::info!(%refused, "INVITE refused");
            dialog.reject(rejection(&refused));
        }
    }

    fn admit(&self, call: IncomingCall) -> Result<(), Refused> {
        let headers: BTreeMap<_, _> = call.headers.iter().cloned().collect();
        let variables = placeholders(&call.called, &call.from, &headers);
        let facts = CallFacts { called: &call.called, from: &call.from, variables: &variables };
        let admitted = self.count_in(self.profile(facts)?)?;
        let media = self.ports().bind().map_err(|error| {
            tracing::error!(%error, "call refused: widen media.ports");
            self.no_room()
        })?;
        let settings = self.settings();
        let identity = CallIdentity {
            id: admitted.id.clone(),
            sip_call_id: call.sip_call_id,
            channel: None,
            from: call.from,
            to: Party { number: Some(call.called), name: None },
            agent_id: admitted.profile.spec.agent_id.clone(),
            variables: headers,
            started_at: SystemTime::now(),
        };
        call.dialog.progress();
        let local = LocalMedia {
            address: settings.media_address.unwrap_or(call.local),
            rtp_port: media.port,
            rtcp_port: media.port + 1,
            codecs: codecs(&settings.codecs, &admitted.profile),
        };
        let codec = likely(&local.codecs, call.offered.as_deref(), settings.codec_preference);
        let config = leg_config(settings.media_timeout, codec);
        let dialog = call.dialog.clone();
        let ports = SipPorts {
            media,
            local,
            dialog: call.dialog,
            events: call.events,
            call_id: identity.id.clone(),
            agent_id: identity.agent_id.clone(),
        };
        self.launch(
            admitted,
            About { identity, variables, annotates: false },
            move |now| Ok((SipLine::new(ports)?, RtpLeg::new(now, unix_now(), config))),
            move || dialog.hang_up(HangupCause::NormalTemporaryFailure),
        )
    }
}

/// The final response for a call that is not taken.
fn rejection(refused: &Refused) -> Rejection {
    match refused {
        Refused::Elsewhere(_) | Refused::NoRoute(_) => Rejection::status(404),
        Refused::AgentBusy => Rejection::status(486),
        Refused::NoRoom { retry_after } => {
            Rejection { status: 503, reason: String::new(), retry_after: Some(*retry_after) }
        }
    }
}

/// The codecs of SDP, best first: those configured, what the agent's first model takes untouched moved to the front.
/// All of them, whatever was offered: the peer may change its mind in a re-INVITE.
fn codecs(configured: &[Codec], profile: &AgentProfile) -> Vec<Codec> {
    let taken = |codec: &Codec| {
        profile.chain.first().is_some_and(|model| {
            tandem_models::capabilities(&model.settings).input.contains(&codec.format())
        })
    };
    let mut codecs = configured.to_vec();
    codecs.sort_by_key(|codec| !taken(codec)); // Stable: the configured order stays among equals.
    codecs
}

/// The codec the leg will most likely use.
fn likely(codecs: &[Codec], offered: Option<&[Codec]>, preference: CodecPreference) -> Codec {
    let offered = offered.unwrap_or(codecs);
    let (first, second) = match preference {
        CodecPreference::Ours => (codecs, offered),
        CodecPreference::Theirs => (offered, codecs),
    };
    let common = first.iter().find(|codec| second.contains(codec)).or(first.first());
    common.copied().unwrap_or(Codec::PCMU)
}

/// What prompts and scripts may name: the caller, the dialled number, and each header or variable of the call.
pub(crate) fn placeholders(
    called: &str,
    from: &Party,
    headers: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut variables = headers.clone();
    variables.insert("called_number".into(), called.into());
    variables.extend(from.number.clone().map(|number| ("caller_number".into(), number)));
    variables.extend(from.name.clone().map(|name| ("caller_name".into(), name)));
    variables
}

fn leg_config(media_timeout: Duration, codec: Codec) -> LegConfig {
    let seed = random();
    LegConfig {
        ssrc: seed as u32,
        first_sequence: (seed >> 32) as u16,
        first_timestamp: (seed >> 48) as u32,
        cname: format!("{:016x}", (seed >> 64) as u64), // Says nothing about the host (RFC 7022).
        codec,
        uplink: codec.format(),
        media_timeout,
        seed: (seed >> 80) as u64,
    }
}
