//! The daemon: starts every part, reloads on SIGHUP, drains on SIGTERM.

use std::{future, io, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};

use tandem_attendant::Voice;
use tandem_call::Patience;
use tandem_exchange::{Exchange, ExchangeSettings, RecordLog};
use tandem_recording::Recorder;
use tandem_sip::{SipEndpoint, SipHandle, SrtpPolicy};
use tandem_srtp::{DtlsIdentity, NoIdentity};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinHandle},
};

use crate::{
    config::{Config, ConfigError, FixedSettings, Loaded, listener_name},
    freeswitch::{
        sidecar::{Sidecar, SidecarError},
        tools::ChannelTools,
    },
    metrics::{MetricsServer, Render},
    retention::Retention,
    tools::{EquipError, Receivers},
    wiring::{NoRoutes, Plan},
};

/// What calls asked for at their end is still carried out so long when the daemon stops.
const TOOLS_END: Duration = Duration::from_secs(5);

/// Why the daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The record file can't be opened.
    #[error("records.path {}: {source}; name a file that this user may write", path.display())]
    Records {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A SIP listener can't be bound.
    #[error("SIP: {0}")]
    Sip(String),
    /// There is no certificate for protected media.
    #[error(transparent)]
    Identity(#[from] NoIdentity),
    /// Tools can't be carried out as they are configured.
    #[error(transparent)]
    Tools(#[from] EquipError),
    /// Nobody could read the metrics.
    #[error("metrics.listen {address}: {source}; choose another port")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// FreeSWITCH can't be served.
    #[error(transparent)]
    Freeswitch(#[from] SidecarError),
    /// The system gives no threads, timers or signals.
    #[error("the system refused a thread or a signal handler: {0}")]
    System(#[from] io::Error),
}

/// A running daemon.
pub struct Daemon {
    exchange: Exchange,
    sip: SipHandle,
    records: RecordLog,
    recorder: Recorder,
    retention: Retention,
    voice: Voice,
    freeswitch: Option<Sidecar>,
    receivers: Receivers,
    channel: ChannelTools,
    metrics: Option<MetricsServer>,
    calls: JoinHandle<()>,
    warming: JoinHandle<()>,
    fixed: FixedSettings,
    drain: Duration,
}

impl Daemon {
    /// Starts everything that `config` names. Listens when this returns.
    pub async fn start(mut config: Config) -> Result<Self, ServeError> {
        if config.media.srtp != SrtpPolicy::Off {
            let identity = DtlsIdentity::generate()?;
            config.sip.security.identity = Some(Arc::new(identity));
        }
        let records = RecordLog::open(&config.records.path)
            .map_err(|source| ServeError::Records { path: config.records.path.clone(), source })?;
        let voice = Voice::open(config.voice.clone(), tokio::runtime::Handle::current());
        let settings = exchange_settings(&config);
        let drain = config.limits.drain;
        let fixed = FixedSettings::of(&config);
        let (sip, incoming) = SipEndpoint::bind(config.sip.clone())
            .await
            .map_err(|error| ServeError::Sip(error.to_string()))?;
        let (beside, max_calls) = (config.freeswitch.clone(), config.limits.max_calls as usize);
        let recorder = Recorder::start(recording_threads())?;
        let retention = Retention::start(&config.recording);
        let allowed = beside.as_ref().map(|config| config.tools.clone()).unwrap_or_default();
        let channel = ChannelTools::new(allowed);
        let receivers = Receivers::new(config.tools.in_all);
        let metrics = config.metrics.clone();
        let plan = ready_plan(config, &recorder, &receivers, &channel, &voice).await?;
        let warming = warm(&voice, Arc::clone(&plan));
        let exchange = Exchange::start(settings, plan, voice.clone(), records.clone())?;
        let metrics = match metrics {
            Some(config) => {
                let failed = |source| ServeError::Metrics { address: config.listen, source };
                let figures = figures(&exchange, &records, &receivers);
                Some(MetricsServer::start(&config, figures).await.map_err(failed)?)
            }
            None => None,
        };
        let freeswitch = match &beside {
            Some(config) => {
                Some(Sidecar::start(config, max_calls, exchange.clone(), channel.clone()).await?)
            }
            None => None,
        };
        let calls = tokio::spawn({
            let exchange = exchange.clone();
            async move { exchange.run(incoming).await }
        });
        Ok(Self {
            exchange,
            sip,
            records,
            recorder,
            retention,
            voice,
            freeswitch,
            receivers,
            channel,
            metrics,
            calls,
            warming,
            fixed,
            drain,
        })
    }

    /// The SIP side: its addresses, its counters.
    pub fn sip(&self) -> &SipHandle {
        &self.sip
    }

    /// FreeSWITCH beside it: its addresses.
    pub fn freeswitch(&self) -> Option<&Sidecar> {
        self.freeswitch.as_ref()
    }

    /// Where figures are given to a monitoring system.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().map(MetricsServer::address)
    }

    /// Calls that are live, or whose record is not on disk yet.
    pub fn live_calls(&self) -> usize {
        self.exchange.live_calls()
    }

    /// Puts agents, models, tools and numbers of `config` in force for new calls, as soon as what callers may be told is
    /// rendered. The other settings stay as they are; the keys of those that `config` changes are returned: they take
    /// effect at the next start.
    pub fn reload(&mut self, config: Config) -> Vec<&'static str> {
        let changed = self.fixed.changed_keys(&config);
        self.retention.set(&config.recording);
        self.warming.abort(); // It must not put older routes in force later.
        let (voice, exchange) = (self.voice.clone(), self.exchange.clone());
        let (recorder, receivers) = (self.recorder.clone(), self.receivers.clone());
        let channel = self.channel.clone();
        self.warming = tokio::spawn(async move {
            match ready_plan(config, &recorder, &receivers, &channel, &voice).await {
                Ok(plan) => {
                    exchange.set_routes(Arc::clone(&plan) as Arc<_>);
                    tracing::info!("agents and numbers reloaded; live calls keep theirs");
                    warm_scripts(&voice, &plan).await;
                }
                Err(error) => {
                    tracing::error!("not reloaded, the old configuration stays: {error}");
                }
            }
        });
        changed
    }

    /// Waits until the fixed sentences of the attendant's scripts are rendered.
    pub async fn warmed(&mut self) {
        if (&mut self.warming).await.is_err() {
            tracing::error!("rendering the attendant's sentences was broken off");
        }
    }

    /// Refuses new calls, lets the live ones end, stops listening.
    pub async fn stop(self) {
        self.sip.set_draining(true);
        let live = self.exchange.live_calls();
        tracing::info!(live, patience = ?self.drain, "draining: no new calls");
        let hung_up = self.exchange.drain(self.drain).await;
        if hung_up > 0 {
            tracing::warn!(hung_up, "the drain time was over: calls were hung up");
        }
        self.sip.shutdown().await;
        if let Some(freeswitch) = self.freeswitch {
            freeswitch.stop().await;
        }
        self.calls.abort();
        self.warming.abort();
        let left = self.receivers.executor().idle(TOOLS_END).await;
        if left > 0 {
            tracing::warn!(left, "tools that calls asked for are given up");
        }
        self.exchange.set_routes(Arc::new(NoRoutes));
        self.receivers.end().await;
        let waiting = self.records.stats().waiting;
        if waiting > 0 {
            tracing::error!(waiting, "call records could not be written and are lost");
        }
        tracing::info!("stopped");
    }
}

/// Runs the daemon until SIGTERM or SIGINT. `file` is read again on SIGHUP.
pub async fn run(loaded: Loaded) -> Result<(), ServeError> {
    let Loaded { config, file, findings } = loaded;
    if !findings.is_empty() {
        eprintln!("{findings}");
    }
    let (mut hangup, mut terminate, mut interrupt) = (
        signal(SignalKind::hangup())?,
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let mut daemon = Daemon::start(config).await?;
    for listener in daemon.sip().listeners() {
        tracing::info!("listening for SIP on {}", listener_name(listener));
    }
    if let Some(freeswitch) = daemon.freeswitch() {
        for address in freeswitch.fork_addresses() {
            tracing::info!("listening for FreeSWITCH forks on {address}");
        }
        for address in freeswitch.outbound_addresses() {
            tracing::info!("listening for FreeSWITCH outbound event sockets on {address}");
        }
    }
    if let Some(address) = daemon.metrics_address() {
        tracing::info!("listening for scrapes on http://{address}/metrics");
    }
    // A file that can't be read for long, on a share that hangs, must not keep the daemon from stopping.
    let mut reading: Option<JoinHandle<Result<Loaded, ConfigError>>> = None;
    loop {
        tokio::select! {
            // A further SIGHUP waits until the file is read, and has it read again.
            _ = hangup.recv(), if reading.is_none() => {
                let file = file.clone();
                reading = Some(tokio::task::spawn_blocking(move || Config::load(file.as_deref())));
            }
            read = finished(&mut reading) => {
                reading = None;
                match read {
                    Ok(read) => reload(&mut daemon, read),
                    Err(error) => tracing::error!(%error, "not reloaded, reading the file was broken off"),
                }
            }
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    // A second signal ends the process at once.
    tokio::select! {
        () = daemon.stop() => {}
        _ = terminate.recv() => tracing::warn!("second signal: stopping at once"),
        _ = interrupt.recv() => tracing::warn!("second signal: stopping at once"),
    }
    Ok(())
}

/// What `task` has come to; waits for ever where there is none.
async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match task {
        Some(task) => task.await,
        None => future::pending().await,
    }
}

fn reload(daemon: &mut Daemon, read: Result<Loaded, ConfigError>) {
    let Loaded { config, findings, .. } = match read {
        Ok(loaded) => loaded,
        Err(error) => {
            return tracing::error!("not reloaded, the old configuration stays:\n{error}");
        }
    };
    if !findings.is_empty() {
        tracing::warn!("the configuration has warnings:\n{findings}");
    }
    let changed = daemon.reload(config);
    if !changed.is_empty() {
        tracing::warn!("{} changed: these take effect at the next start", changed.join(", "));
    }
}

fn exchange_settings(config: &Config) -> ExchangeSettings {
    ExchangeSettings {
        workers: config.media.workers.map_or_else(
            || thread::available_parallelism().map_or(1, usize::from),
            |workers| workers as usize,
        ),
        max_calls: config.limits.max_calls as usize,
        retry_after: config.sip.retry_after,
        codecs: config.sip.codecs.clone(),
        codec_preference: config.sip.codec_preference,
        security: config.sip.security.clone(),
        media_bind: config.media.bind,
        media_address: config.media.address,
        media_ports: config.media.ports.clone(),
        media_timeout: config.media.timeout,
        consult: config.consult.clone(),
        patience: Patience { answer_after: config.limits.answer_after, ..Patience::default() },
    }
}

/// Threads that write recordings: one can do some hundred calls as WAV, some sixty as Ogg.
fn recording_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from).div_ceil(4).min(4)
}

/// The plan of `config` with all that a call needs from its first moment.
async fn ready_plan(
    config: Config,
    recorder: &Recorder,
    receivers: &Receivers,
    channel: &ChannelTools,
    voice: &Voice,
) -> Result<Arc<Plan>, EquipError> {
    let equipment = receivers.equip(&config, channel.clone(), voice).await?;
    let plan = Plan::new(config, equipment).with_recorder(recorder.clone());
    // No call is to come before it can be told that it is recorded.
    render_consents(voice, &plan).await;
    warn_of_servers(receivers).await;
    Ok(Arc::new(plan))
}

/// Waits a little for the MCP servers, so that the first calls have their tools.
async fn warn_of_servers(receivers: &Receivers) {
    for (server, ready) in receivers.servers_ready().await {
        if let Err(away) = ready {
            tracing::warn!(
                server,
                why = away.why,
                "agents do without the tools of this MCP server until it is there"
            );
        }
    }
}

/// What makes the text for a monitoring system.
fn figures(exchange: &Exchange, records: &RecordLog, receivers: &Receivers) -> Render {
    let (exchange, records) = (exchange.clone(), records.clone());
    let executor = receivers.executor().clone();
    Arc::new(move || {
        let gauges = [
            ("tandem_calls_live", "Calls that are not over.", exchange.live_calls()),
            (
                "tandem_calls_open",
                "Calls that are live, or over and without their record on disk.",
                exchange.open_calls(),
            ),
            (
                "tandem_records_waiting",
                "Call records that wait for the disk.",
                records.stats().waiting,
            ),
        ];
        let mut text = String::new();
        for (name, help, value) in gauges {
            text += &format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n");
        }
        text + &executor.metrics().render()
    })
}

/// Renders what callers are told before they are recorded. Without it their calls are not recorded.
async fn render_consents(voice: &Voice, plan: &Plan) {
    for consent in plan.consents() {
        if let Err(error) = consent.render(voice).await {
            tracing::error!(%error, text = consent.text(), "nobody can say this announcement: calls that need it are not recorded");
        }
    }
}

/// Renders what never changes in the background, so that no caller waits for it.
fn warm(voice: &Voice, plan: Arc<Plan>) -> JoinHandle<()> {
    let voice = voice.clone();
    tokio::spawn(async move { warm_scripts(&voice, &plan).await })
}

async fn warm_scripts(voice: &Voice, plan: &Plan) {
    for (language, script) in plan.scripts() {
        let warmed = voice.warm(language, script).await;
        for (sentence, error) in warmed.failed {
            tracing::warn!(%error, sentence, "a sentence of a script can't be rendered; a shipped one stands in");
        }
    }
}
