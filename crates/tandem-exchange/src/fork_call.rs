//! Forked calls: the audio comes by a websocket of the switch's module, signalling by its event socket.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tandem_call::{CallId, HangupCause, Party, SignalCommand, TransferRoutes};
use tandem_media::{AudioFormat, SampleRate};
use tandem_streams::{ForkLeg, ForkLegConfig};
use tokio::sync::mpsc;

use crate::{
    CallFacts, CallIdentity, Exchange, ForkReport, Refused, Signalling, annotations,
    exchange::About, fork_line::ForkLine, sip_call::placeholders,
};

/// A call of a switch's channel.
pub struct ForkCall {
    /// The dialled number.
    pub called: String,
    /// The caller.
    pub from: Party,
    /// Headers and channel variables that become variables of the call.
    pub variables: BTreeMap<String, String>,
    /// UUID of the channel.
    pub channel: String,
    /// Call-ID of the SIP dialog behind it, where the switch tells.
    pub sip_call_id: Option<String>,
    /// The rate that the fork will most likely have.
    pub rate: SampleRate,
    /// What empties the two-way `mod_audio_stream`, where a text is known that does.
    pub stream_clear: Option<String>,
    /// Orders to the channel.
    pub signalling: Arc<dyn Signalling>,
    /// What comes from the channel and its forks.
    pub reports: mpsc::Receiver<ForkReport>,
}

/// A channel's call that was taken.
#[derive(Debug, Clone)]
pub struct TakenFork {
    /// Its name.
    pub id: CallId,
    /// The agent's language, BCP-47.
    pub language: String,
    /// Where its callers are handed to.
    pub transfer: TransferRoutes,
    /// No call of it takes longer.
    pub longest: Duration,
}

impl Exchange {
    /// Takes a channel's call: its model is dialled at once. Nothing was ordered of the channel when it is refused.
    pub fn take_fork(&self, call: ForkCall) -> Result<TakenFork, Refused> {
        let variables = placeholders(&call.called, &call.from, &call.variables);
        let facts = CallFacts { called: &call.called, from: &call.from, variables: &variables };
        let admitted = self.count_in(self.profile(facts)?)?;
        let id = admitted.id.clone();
        let agent_id = admitted.profile.spec.agent_id.clone();
        let language = admitted.profile.spec.language.clone();
        let transfer = admitted.profile.spec.transfer.clone();
        let longest = admitted.profile.spec.max_duration;
        let opening = annotations::opening(&id.to_string(), &agent_id);
        let identity = CallIdentity {
            id: id.clone(),
            sip_call_id: call.sip_call_id.unwrap_or_default(),
            channel: Some(call.channel),
            from: call.from,
            to: Party { number: Some(call.called), name: None },
            agent_id,
            variables: call.variables,
            started_at: SystemTime::now(),
        };
        let config = ForkLegConfig {
            rate: call.rate,
            stream_clear: call.stream_clear,
            uplink: AudioFormat::Pcm16(call.rate),
            media_timeout: self.settings().media_timeout,
        };
        let (line, last) = (Arc::clone(&call.signalling), Arc::clone(&call.signalling));
        let reports = call.reports;
        let voice = admitted.profile.audio.clone();
        self.launch(
            admitted,
            About { identity, variables, annotates: true },
            move |now| {
                let mut leg = ForkLeg::new(now, config);
                leg.set_voice(&voice);
                Ok((ForkLine::new(now, reports, line), leg))
            },
            move || {
                last.order(SignalCommand::HangUp { cause: HangupCause::NormalTemporaryFailure });
            },
        )?;
        call.signalling.order(opening);
        Ok(TakenFork { id, language, transfer, longest })
    }
}
