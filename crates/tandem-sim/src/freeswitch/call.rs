//! Calls that reach the switch.

use std::{net::SocketAddr, time::Instant};

use super::{
    audio::Speech, channel::State, fork_module::Mix, lifecycle::NewChannel, model::SwitchModel,
};

/// Which way a call goes through the dialplan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallMode {
    /// As the extension of its number says.
    Dialplan,
    /// These actions.
    Actions(Vec<(String, String)>),
    /// `socket` to a client at this address, async and full; then the actions that follow.
    Socket {
        /// Host and port.
        address: String,
        /// What the dialplan does when the client lets go of the channel.
        then: Vec<(String, String)>,
    },
    /// Answered, forked, parked, with no word of the event socket.
    ForkFirst(ForkFirst),
}

/// A fork that the dialplan starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForkFirst {
    /// Where it leads.
    pub url: String,
    /// Its first text.
    pub metadata: Option<String>,
    /// mod_audio_stream instead of mod_audio_fork.
    pub stream: bool,
    /// What goes up.
    pub mix: Mix,
    /// Hz of what goes up.
    pub rate: u32,
    /// Hz of raw audio that comes back; none: none does.
    pub back: Option<u32>,
}

impl ForkFirst {
    /// A mono fork by mod_audio_fork at 16 kHz, with audio back at the same rate.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            metadata: None,
            stream: false,
            mix: Mix::Mono,
            rate: 16_000,
            back: Some(16_000),
        }
    }

    /// The same with a first text.
    #[must_use]
    pub fn metadata(mut self, text: &str) -> Self {
        self.metadata = Some(text.to_owned());
        self
    }

    fn action(&self, uuid: &str) -> (String, String) {
        let mix = match self.mix {
            Mix::Mono => "mono",
            Mix::Mixed => "mixed",
            Mix::Stereo => "stereo",
        };
        let metadata = self.metadata.as_deref().unwrap_or_default();
        let metadata = metadata.replace('\\', "\\\\").replace('\'', "\\'");
        let (url, rate) = (&self.url, self.rate);
        if self.stream {
            let line = format!("^^|{uuid}|start|{url}|{mix}|{rate}|'{metadata}'");
            return ("uuid_audio_stream".to_owned(), line);
        }
        let back = self.back.map_or("false|false|0".to_owned(), |back| format!("true|true|{back}"));
        let line = format!("^^|{uuid}|start|{url}|{mix}|{rate}|audio_fork|'{metadata}'|{back}");
        ("uuid_audio_fork".to_owned(), line)
    }
}

/// A call that reaches the switch.
#[derive(Debug)]
pub struct FakeCall {
    /// The number dialled.
    pub did: String,
    /// The caller's number.
    pub caller: String,
    /// The caller's name.
    pub caller_name: String,
    /// Further variables, as `sip_h_X-Tenant`.
    pub variables: Vec<(String, String)>,
    /// Hz of the call's codec: 8000 PCMU, 16000 G722, 48000 OPUS.
    pub codec_rate: u32,
    /// What the caller says.
    pub speech: Speech,
    /// Where it goes.
    pub mode: CallMode,
    /// Its uuid; none: any.
    pub uuid: Option<String>,
}

impl FakeCall {
    /// A silent PCMU call of `+15550100` to `did`.
    pub fn new(did: &str, mode: CallMode) -> Self {
        Self {
            did: did.to_owned(),
            caller: "+15550100".to_owned(),
            caller_name: "Ann".to_owned(),
            variables: Vec::new(),
            codec_rate: 8_000,
            speech: Speech::Silence,
            mode,
            uuid: None,
        }
    }

    /// A call that is handed to a client of the outbound event socket; hung up when the client lets it go.
    pub fn to_socket(did: &str, address: SocketAddr) -> Self {
        Self::new(did, CallMode::Socket { address: address.to_string(), then: Vec::new() })
    }

    /// A call that the dialplan answers and forks.
    pub fn forked(did: &str, fork: ForkFirst) -> Self {
        Self::new(did, CallMode::ForkFirst(fork))
    }

    /// The same with a variable more.
    #[must_use]
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The same with something to say.
    #[must_use]
    pub fn speech(mut self, speech: Speech) -> Self {
        self.speech = speech;
        self
    }

    /// The same at another codec rate.
    #[must_use]
    pub fn codec_rate(mut self, hz: u32) -> Self {
        self.codec_rate = hz;
        self
    }

    /// The same from another number.
    #[must_use]
    pub fn from(mut self, number: &str, name: &str) -> Self {
        number.clone_into(&mut self.caller);
        name.clone_into(&mut self.caller_name);
        self
    }
}

impl SwitchModel {
    /// A call comes in.
    pub(crate) fn begin_call(&mut self, now: Instant, call: FakeCall) -> String {
        let codec = match call.codec_rate {
            16_000 => "G722",
            48_000 => "OPUS",
            _ => "PCMU",
        };
        let call_id = format!("{:016x}@127.0.0.1", self.rng.u64(..));
        let mut variables: Vec<(String, String)> = [
            ("sip_from_user", call.caller.as_str()),
            ("sip_from_host", "127.0.0.1"),
            ("sip_call_id", &call_id),
            ("sip_network_ip", "127.0.0.1"),
            ("sip_network_port", "5099"),
            ("sip_req_user", &call.did),
            ("sip_req_host", "127.0.0.1"),
            ("sip_to_user", &call.did),
            ("sip_to_host", "127.0.0.1"),
            ("sofia_profile_name", "internal"),
            ("domain_name", "127.0.0.1"),
            ("sip_user_agent", "lab-ua"),
            ("max_forwards", "70"),
            ("endpoint_disposition", "DELAYED NEGOTIATION"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        variables.extend(call.variables);
        let uuid = self.create_channel(
            now,
            NewChannel {
                uuid: call.uuid,
                inbound: true,
                name: format!("sofia/internal/{}@127.0.0.1", call.caller),
                caller_number: call.caller,
                caller_name: call.caller_name,
                destination: call.did.clone(),
                context: "public".to_owned(),
                codec: (codec, call.codec_rate),
                speech: call.speech,
                variables,
                call_uuid: None,
            },
        );
        let action = |app: &str, data: &str| (app.to_owned(), data.to_owned());
        let actions = match call.mode {
            CallMode::Dialplan => self.config.extensions.get(&call.did).cloned(),
            CallMode::Actions(actions) => Some(actions),
            CallMode::Socket { address, then } => {
                Some([vec![action("socket", &format!("{address} async full"))], then].concat())
            }
            CallMode::ForkFirst(fork) => Some(vec![
                action("answer", ""),
                action("set", "send_silence_when_idle=-1"),
                fork.action(&uuid),
                action("park", ""),
            ]),
        };
        if let Some(channel) = self.channels.get_mut(&uuid) {
            channel.state = State::Routing;
        }
        self.set_call_state(now, &uuid, "RINGING");
        self.raise(now, &uuid, "CHANNEL_STATE", &[], &[]);
        match actions {
            Some(actions) => {
                if let Some(channel) = self.channels.get_mut(&uuid) {
                    channel.plan.extend(actions);
                }
                self.set_state(now, &uuid, State::Execute);
                self.advance_plan(now, &uuid);
            }
            None => self.hang_up(now, &uuid, "NO_ROUTE_DESTINATION"),
        }
        self.wake.notify_one();
        uuid
    }
}
