//! The doors to FreeSWITCH: the fork listener, the outbound event socket, the links to the switches.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use secrecy::SecretString;
use tandem_exchange::Exchange;
use tandem_pbx::{
    LinkState, OutboundListener, OutboundSettings, SettingsError, Switch, SwitchSettings,
    SwitchUser, TransferPlan, TransferPlanError,
};
use tandem_streams::{ForkCredentials, ForkListener, ListenError, ListenerSettings, Playback};
use tokio::task::JoinSet;

use super::{calls::Calls, fork_settings::ForkSettings, orphans, tools::ChannelTools};
use crate::config::{FreeswitchConfig, SwitchConfig};

/// Why FreeSWITCH cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SidecarError {
    /// The fork listener.
    #[error("freeswitch.listen: {0}")]
    Listen(#[from] ListenError),
    /// The outbound event socket.
    #[error("freeswitch.outbound: {0}")]
    Outbound(io::Error),
    /// A switch.
    #[error("freeswitch.switches.{name}: {error}")]
    Switch {
        /// Its name.
        name: String,
        /// What is wrong.
        error: SettingsError,
    },
    /// Transfers.
    #[error("freeswitch.transfer: {0}")]
    Transfer(#[from] TransferPlanError),
}

/// FreeSWITCH beside a running daemon.
pub struct Sidecar {
    forks: ForkListener,
    outbound: Vec<SocketAddr>,
    switches: Vec<Switch>,
    tasks: JoinSet<()>,
}

impl Sidecar {
    /// Opens the doors that `config` names and gives what comes in to `exchange`, whose tools are `tools`.
    pub(crate) async fn start(
        config: &FreeswitchConfig,
        max_calls: usize,
        exchange: Exchange,
        tools: ChannelTools,
    ) -> Result<Self, SidecarError> {
        if config.module.playback() == Playback::Files {
            tracing::warn!(
                module = crate::config::module_name(config.module),
                "this module can't play audio back: speech goes to the switch in files, and is played by its event socket"
            );
        }
        let signing = SecretString::from(format!("{:032x}", random_secret()));
        let (forks, mut arrivals) =
            ForkListener::bind(listener_settings(config, signing.clone())).await?;
        let transfers = Arc::new(TransferPlan::new(&config.transfer)?);
        let mut switches = Vec::new();
        for switch in &config.switches {
            let settings = switch_settings(switch);
            let started = Switch::start(settings)
                .map_err(|error| SidecarError::Switch { name: switch.name.clone(), error })?;
            switches.push(started);
        }
        let outbound_settings =
            OutboundSettings { sources: config.outbound_allowed.clone(), max_channels: max_calls };
        let mut outbound = OutboundListener::bind(&config.outbound, outbound_settings)
            .await
            .map_err(SidecarError::Outbound)?;
        let outbound_addresses = outbound.addresses().to_vec();
        let port = forks.local_addresses().first().map(SocketAddr::port);
        let settings = ForkSettings::new(config, port, signing);
        let calls = Calls::new(exchange, switches.clone(), transfers, settings, tools);
        let mut tasks = JoinSet::new();
        for switch in switches.clone() {
            tasks.spawn(watch(switch, calls.clone()));
        }
        tasks.spawn({
            let calls = calls.clone();
            async move {
                while let Some(arrival) = arrivals.recv().await {
                    let calls = calls.clone();
                    tokio::spawn(async move { calls.take_fork(arrival).await });
                }
            }
        });
        tasks.spawn(async move {
            while let Some(channel) = outbound.accept().await {
                let calls = calls.clone();
                tokio::spawn(async move { calls.take_channel(channel).await });
            }
        });
        Ok(Self { forks, outbound: outbound_addresses, switches, tasks })
    }

    /// Where forks come in.
    pub fn fork_addresses(&self) -> &[SocketAddr] {
        self.forks.local_addresses()
    }

    /// Where the dialplan's `socket` comes in.
    pub fn outbound_addresses(&self) -> &[SocketAddr] {
        &self.outbound
    }

    /// Closes the doors. Live calls were ended before.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
        self.forks.stop().await;
        for switch in &self.switches {
            switch.stop();
        }
    }
}

/// Says in the log when a switch is reached, what it can do, and when it is lost.
async fn watch(mut switch: Switch, calls: Calls) {
    let mut said = None;
    loop {
        match switch.changed().await {
            LinkState::Up(facts) => {
                said = None;
                let (name, version) = (switch.name(), facts.version.trim());
                let (fork, stream) = (facts.audio_fork, facts.audio_stream);
                tracing::info!(
                    switch = name,
                    version,
                    audio_fork = fork,
                    audio_stream = stream,
                    "event socket is up"
                );
                if !fork && !stream {
                    tracing::warn!(
                        switch = name,
                        "neither mod_audio_fork nor mod_audio_stream is loaded: no call's audio can reach us"
                    );
                }
                orphans::release(&switch, &calls).await;
            }
            // Said again only when it is for another reason: it is dialled every few seconds.
            LinkState::Down { reason } if said.as_ref() != Some(&reason) => {
                tracing::warn!(switch = switch.name(), %reason, "event socket is down");
                said = Some(reason);
            }
            LinkState::Down { .. } => {}
            LinkState::Stopped => return,
        }
    }
}

/// The fork listener that `config` asks for.
pub(crate) fn listener_settings(
    config: &FreeswitchConfig,
    signing: SecretString,
) -> ListenerSettings {
    ListenerSettings {
        addresses: config.listen.clone(),
        prefix: config.prefix.clone(),
        credentials: ForkCredentials {
            users: config.user.clone().into_iter().collect(),
            tokens: config.token.clone().into_iter().collect(),
            signing: Some(signing),
            open_on_loopback: config.open_to_loopback,
        },
        ..ListenerSettings::default()
    }
}

/// The link that `switch` asks for.
pub(crate) fn switch_settings(switch: &SwitchConfig) -> SwitchSettings {
    let mut settings = SwitchSettings::new(&switch.name, &switch.address, switch.password.clone());
    settings.user = switch.user.as_deref().and_then(|user| {
        let (name, domain) = user.split_once('@')?;
        Some(SwitchUser { name: name.into(), domain: domain.into() })
    });
    settings
}

/// How long a fork's signed URL opens the door: longer than any call, for a fork may be started again.
pub(crate) const TOKEN_LIFE: Duration = Duration::from_secs(24 * 3600);

fn random_secret() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system has randomness");
    u128::from_ne_bytes(bytes)
}
