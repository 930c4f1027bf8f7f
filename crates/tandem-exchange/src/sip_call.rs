//! SIP calls: from an INVITE that was let through to a call on a worker.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use tandem_attendant::AttendantSession;
use tandem_call::{HangupCause, Party};
use tandem_media::{AudioFormat, Codec, SampleRate};
use tandem_rtp::{LegConfig, RtpLeg};
use tandem_sip::{CodecPreference, IncomingCall, LocalMedia, LocalSecurity, Rejection};

use crate::{
    AgentProfile, CallFacts, CallIdentity, Exchange, Refused,
    consult_line::Transferor,
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
            codecs: codecs(&settings.codecs, input_of(&admitted.profile)),
            security: LocalSecurity {
                policy: admitted.profile.srtp.unwrap_or(settings.security.policy),
                ..settings.security.clone()
            },
        };
        let codec = likely(&local.codecs, call.offered.as_deref(), settings.codec_preference);
        let config = leg_config(settings.media_timeout, codec);
        let voice = admitted.profile.audio.clone();
        let dialog = call.dialog.clone();
        let ports = SipPorts {
            media,
            local,
            dialog: call.dialog,
            events: call.events,
            call_id: identity.id.clone(),
            agent_id: identity.agent_id.clone(),
            transferor: Transferor {
                consults: self.consults(),
                caller: identity.from.clone(),
                language: admitted.profile.spec.language.clone(),
                transfer_timeout: admitted.profile.spec.transfer_timeout,
            },
            ambience: voice.ambience.clone(),
        };
        self.launch(
            admitted,
            About { identity, variables, annotates: false },
            move |now| {
                let mut leg = RtpLeg::new(now, unix_now(), config);
                leg.set_voice(&voice);
                Ok((SipLine::new(ports)?, leg))
            },
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

/// The formats that an agent's first model takes from the caller, best first.
fn input_of(profile: &AgentProfile) -> &'static [AudioFormat] {
    profile.chain.first().map_or(AttendantSession::CAPABILITIES.input, |model| {
        tandem_models::capabilities(&model.settings).input
    })
}

/// The codecs of SDP, best first: those whose audio a model of these inputs takes as it is, then those with more of the
/// voice than a telephone's, then the rest. All that are configured, whatever was offered: the peer may change its mind
/// in a re-INVITE. Opus runs at the model's rate.
fn codecs(configured: &[Codec], input: &[AudioFormat]) -> Vec<Codec> {
    let linear = input.iter().find(|format| matches!(format, AudioFormat::Pcm16(_)));
    let opus = Codec::Opus(linear.map_or(SampleRate::Hz16000, |format| format.rate()));
    let mut codecs: Vec<Codec> =
        configured.iter().map(|codec| if codec.is_same_as(opus) { opus } else { *codec }).collect();
    // Stable: the configured order stays among equals.
    codecs.sort_by_key(|codec| {
        let taken = input.contains(&codec.format());
        (!taken, !taken && codec.rate() == SampleRate::Hz8000)
    });
    codecs
}

/// The codec the leg will most likely use.
fn likely(codecs: &[Codec], offered: Option<&[Codec]>, preference: CodecPreference) -> Codec {
    let is_offered = |codec: &&Codec| {
        offered.is_none_or(|offered| offered.iter().any(|other| other.is_same_as(**codec)))
    };
    let theirs = || {
        let ours = |other: &Codec| codecs.iter().find(|codec| codec.is_same_as(*other));
        offered.into_iter().flatten().find_map(ours)
    };
    let ours = || codecs.iter().find(is_offered).or(codecs.first());
    let codec = match preference {
        CodecPreference::Ours => ours(),
        CodecPreference::Theirs => theirs().or_else(ours),
    };
    codec.copied().unwrap_or(Codec::PCMU)
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

/// A leg that nobody can confuse with another one.
pub(crate) fn leg_config(media_timeout: Duration, codec: Codec) -> LegConfig {
    let seed = random();
    LegConfig {
        ssrc: seed as u32,
        first_sequence: (seed >> 32) as u16 & 0x7FFF, // A first rollover that is lost would confuse SRTP (RFC 3711 §3.3.1).
        first_timestamp: (seed >> 48) as u32,
        cname: format!("{:016x}", (seed >> 64) as u64), // Says nothing about the host (RFC 7022).
        codec,
        uplink: codec.format(),
        media_timeout,
        seed: (seed >> 80) as u64,
    }
}

#[cfg(test)]
mod tests {
    use tandem_media::Law;

    use super::*;

    const PHONE: &[AudioFormat] = &[
        AudioFormat::G711(Law::Mu),
        AudioFormat::G711(Law::A),
        AudioFormat::Pcm16(SampleRate::Hz24000),
    ];
    const WIDE: &[AudioFormat] = &[AudioFormat::Pcm16(SampleRate::Hz16000)];
    const VOICE: &[AudioFormat] = &[AudioFormat::Pcm16(SampleRate::Hz24000)];

    const OPUS: Codec = Codec::Opus(SampleRate::Hz48000);
    const OPUS_16: Codec = Codec::Opus(SampleRate::Hz16000);
    const OPUS_24: Codec = Codec::Opus(SampleRate::Hz24000);
    const L16: Codec = Codec::L16(SampleRate::Hz16000);

    #[test]
    fn the_codecs_follow_what_the_model_takes() {
        use Codec as C;
        const USUAL: &[Codec] = &[C::PCMU, C::PCMA, C::G722, OPUS];
        for (configured, input, order) in [
            (USUAL, PHONE, [C::PCMU, C::PCMA, OPUS_24, C::G722].as_slice()),
            (USUAL, WIDE, &[C::G722, OPUS_16, C::PCMU, C::PCMA]),
            (USUAL, VOICE, &[OPUS_24, C::G722, C::PCMU, C::PCMA]),
            (&[C::PCMU, OPUS, L16], WIDE, &[OPUS_16, L16, C::PCMU]),
            (&[OPUS, C::PCMU], PHONE, &[OPUS_24, C::PCMU]),
            (&[OPUS, C::PCMU], &PHONE[..2], &[C::PCMU, OPUS_16]),
            (&[C::PCMA], WIDE, &[C::PCMA]),
        ] {
            assert_eq!(codecs(configured, input), order, "{configured:?} for {input:?}");
        }
    }

    #[test]
    fn the_leg_begins_with_what_will_be_negotiated() {
        let ours = [Codec::G722, OPUS_16, Codec::PCMU];
        for (offered, preference, codec) in [
            (None, CodecPreference::Ours, Codec::G722),
            (None, CodecPreference::Theirs, Codec::G722),
            (Some([OPUS, Codec::PCMU]), CodecPreference::Ours, OPUS_16),
            (Some([Codec::PCMU, OPUS]), CodecPreference::Ours, OPUS_16),
            (Some([Codec::PCMU, OPUS]), CodecPreference::Theirs, Codec::PCMU),
            (Some([OPUS, Codec::PCMU]), CodecPreference::Theirs, OPUS_16),
            (Some([Codec::PCMA, L16]), CodecPreference::Theirs, Codec::G722),
        ] {
            let offered = offered.as_ref().map(|offered| offered.as_slice());
            assert_eq!(likely(&ours, offered, preference), codec, "{offered:?} {preference:?}");
        }
    }
}
