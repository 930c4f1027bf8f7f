//! Takes calls in: finds the agent, checks capacity, gives the call to a worker, keeps its record.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tandem_attendant::{Script, Voice};
use tandem_call::{AgentSpec, CallId, HangupCause, Party, Patience};
use tandem_media::{AudioFormat, Law};
use tandem_net::Workers;
use tandem_rtp::LegConfig;
use tandem_sip::{CodecPreference, IncomingCall, LocalMedia, Rejection};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

use crate::{
    CallControl, CallCore, CallIdentity, CoreConfig, MediaPorts, ModelChoice, Prompts, RecordLog,
    Tools, VendorModels, call_record,
    ports::PortPair,
    task::{self, CallPorts, Finished},
};

/// Records that may wait for the disk before new calls are refused.
const WAITING_RECORDS: usize = 10_000;

/// Orders to one call that may wait.
const CONTROL_QUEUE: usize = 4;

/// How long calls get to say goodbye after the drain time.
const GOODBYE: Duration = Duration::from_secs(12);

/// How long the last records may take to reach the disk when the daemon stops.
const LAST_RECORDS: Duration = Duration::from_secs(10);

/// How the exchange is set up.
pub struct ExchangeSettings {
    /// Media workers: one per core.
    pub workers: usize,
    /// Calls at once; more get 503.
    pub max_calls: usize,
    /// `Retry-After` of a 503, in seconds.
    pub retry_after: u32,
    /// Codecs we take, best first.
    pub codecs: Vec<Law>,
    /// Whose order of codecs decides.
    pub codec_preference: CodecPreference,
    /// Address RTP sockets are bound to.
    pub media_bind: IpAddr,
    /// Address in SDP, where it is not the one the caller reached us at.
    pub media_address: Option<IpAddr>,
    /// RTP ports.
    pub media_ports: RangeInclusive<u16>,
    /// No RTP for so long ends a call.
    pub media_timeout: Duration,
    /// What the call machine waits for, and how long.
    pub patience: Patience,
}

/// An agent as a call takes it.
#[derive(Debug, Clone)]
pub struct AgentProfile {
    /// What the machine knows of it; its transfer routes hold the dialled number's target already.
    pub spec: AgentSpec,
    /// Its models, in order.
    pub chain: Vec<ModelChoice>,
    /// What the offline attendant says for it.
    pub script: Arc<Script>,
    /// More calls are busy.
    pub max_concurrent_calls: Option<u32>,
}

/// Where a call goes.
#[derive(Debug, Clone)]
pub enum Route {
    /// An agent answers.
    Agent(Box<AgentProfile>),
    /// Nobody answers this number: 404. The text says why, for the log.
    Nobody(String),
}

/// What is known of a call when its route is looked up.
#[derive(Debug, Clone, Copy)]
pub struct CallFacts<'a> {
    /// The dialled number, normalised.
    pub called: &'a str,
    /// The caller.
    pub from: &'a Party,
    /// For placeholders: `caller_number`, `caller_name`, `called_number`, and each header of the call.
    pub variables: &'a BTreeMap<String, String>,
}

/// Finds the agent for a call. Must not block.
pub trait Routes: Send + Sync {
    /// The route of a call.
    fn route(&self, facts: CallFacts<'_>) -> Route;
}

/// The exchange. Cheap to clone.
#[derive(Clone)]
pub struct Exchange(Arc<Inner>);

struct Inner {
    settings: ExchangeSettings,
    workers: Workers,
    ports: MediaPorts,
    voice: Voice,
    prompts: Arc<Prompts>,
    records: RecordLog,
    tools: Arc<dyn Tools>,
    routes: Mutex<Arc<dyn Routes>>,
    calls: Mutex<Calls>,
    /// Calls that are not over.
    live: watch::Sender<usize>,
    /// Calls that are not forgotten: live, or over and without their record on disk.
    open: watch::Sender<usize>,
}

#[derive(Default)]
struct Calls {
    live: HashMap<CallId, LiveCall>,
    per_agent: HashMap<String, u32>,
    draining: bool,
}

struct LiveCall {
    agent_id: String,
    control: mpsc::Sender<CallControl>,
}

impl Exchange {
    /// An exchange with its workers started. Fails when the system can't give it threads.
    pub fn start(
        settings: ExchangeSettings,
        routes: Arc<dyn Routes>,
        voice: Voice,
        records: RecordLog,
        tools: Arc<dyn Tools>,
    ) -> std::io::Result<Self> {
        Ok(Self(Arc::new(Inner {
            workers: Workers::start(settings.workers)?,
            ports: MediaPorts::new(settings.media_bind, settings.media_ports.clone()),
            prompts: Arc::new(Prompts::new(&voice)),
            voice,
            records,
            tools,
            routes: Mutex::new(routes),
            calls: Mutex::default(),
            live: watch::Sender::new(0),
            open: watch::Sender::new(0),
            settings,
        })))
    }

    /// Takes calls until the SIP endpoint closes the channel.
    pub async fn run(&self, mut incoming: mpsc::Receiver<IncomingCall>) {
        while let Some(call) = incoming.recv().await {
            self.take(call);
        }
    }

    /// Replaces the routes. Live calls keep what they started with.
    pub fn set_routes(&self, routes: Arc<dyn Routes>) {
        *lock(&self.0.routes) = routes;
    }

    /// Calls that are not over.
    pub fn live_calls(&self) -> usize {
        *self.0.live.borrow()
    }

    /// Calls that are not forgotten: live, or over and without their record on disk.
    pub fn open_calls(&self) -> usize {
        *self.0.open.borrow()
    }

    /// Refuses new calls, waits up to `patience` for the live ones to end, then lets the agents say goodbye, then hangs
    /// up, and at last waits a little for the records. Returns how many calls had to be hung up.
    pub async fn drain(&self, patience: Duration) -> usize {
        lock(&self.0.calls).draining = true;
        let mut hung_up = 0;
        for (wait, order) in [(patience, CallControl::Drain), (GOODBYE, CallControl::Kill)] {
            if none_within(&self.0.live, wait).await {
                break;
            }
            hung_up = if order == CallControl::Kill { self.live_calls() } else { 0 };
            self.order_all(order);
        }
        none_within(&self.0.live, GOODBYE).await;
        none_within(&self.0.open, LAST_RECORDS).await;
        hung_up
    }

    fn order_all(&self, order: CallControl) {
        for call in lock(&self.0.calls).live.values() {
            call.control.try_send(order).ok(); // A call with a full inbox is ending already.
        }
    }

    fn take(&self, call: IncomingCall) {
        let dialog = call.dialog.clone();
        if let Err(rejection) = self.admit(call) {
            dialog.reject(rejection);
        }
    }

    fn admit(&self, call: IncomingCall) -> Result<(), Rejection> {
        let inner = &self.0;
        let headers: BTreeMap<_, _> = call.headers.iter().cloned().collect();
        let variables = placeholders(&call, &headers);
        let facts = CallFacts { called: &call.called, from: &call.from, variables: &variables };
        let routes = Arc::clone(&lock(&inner.routes));
        let profile = match routes.route(facts) {
            Route::Agent(profile) => profile,
            Route::Nobody(why) => {
                tracing::info!(why, "no route, 404");
                return Err(Rejection::status(404));
            }
        };
        let id = CallId::new(unix_now().as_millis() as u64, random());
        let (control, orders) = mpsc::channel(CONTROL_QUEUE);
        let guard = self.count_in(&id, &profile, control)?;
        let media = inner.ports.bind().map_err(|error| {
            tracing::error!(%error, "call refused, 503: widen media.ports");
            self.busy()
        })?;
        let identity = CallIdentity {
            id: id.clone(),
            sip_call_id: call.sip_call_id.clone(),
            from: call.from.clone(),
            to: Party { number: Some(call.called.clone()), name: None },
            agent_id: profile.spec.agent_id.clone(),
            variables: headers,
            started_at: SystemTime::now(),
        };
        call.dialog.progress();
        let span = tracing::info_span!("call", call_id = %id, agent = identity.agent_id);
        span.in_scope(|| tracing::info!("call comes in"));
        let admitted =
            Admitted { call, profile: *profile, media, orders, identity, variables, guard };
        let finishing = span.in_scope(|| self.start_call(admitted))?;
        tokio::spawn(finishing.instrument(span));
        Ok(())
    }

    /// Gives the call to a worker; the future that comes back keeps its record when it is over.
    fn start_call(
        &self,
        admitted: Admitted,
    ) -> Result<impl Future<Output = ()> + Send + 'static, Rejection> {
        let Admitted { call, profile, media, orders, identity, variables, guard } = admitted;
        let inner = Arc::clone(&self.0);
        let started = Instant::now();
        let local = LocalMedia {
            address: inner.settings.media_address.unwrap_or(call.local),
            rtp_port: media.port,
            rtcp_port: media.port + 1,
            codecs: codecs(&inner.settings.codecs, &profile),
        };
        let preference = inner.settings.codec_preference;
        let law = likely(&local.codecs, call.offered.as_deref(), preference);
        let ports = CallPorts {
            media,
            local,
            dialog: call.dialog,
            events: call.events,
            control: orders,
            tools: Arc::clone(&inner.tools),
            call_id: identity.id.clone(),
            agent_id: identity.agent_id.clone(),
        };
        let (prompts, voice) = (Arc::clone(&inner.prompts), inner.voice.clone());
        let (patience, leg) = (inner.settings.patience, leg_config(&inner.settings, law));
        let (finished, outcome) = oneshot::channel();
        let (dialog, open) = (ports.dialog.clone(), Open::count_in(&inner));
        let job = move || async move {
            let AgentProfile { spec, chain, script, .. } = profile;
            let models =
                Box::new(VendorModels { chain, agent: spec.clone(), script, voice, variables });
            let config = CoreConfig {
                agent: spec,
                patience,
                leg,
                unix_now: unix_now(),
                law,
                models,
                prompts,
            };
            let core = CallCore::new(started, config);
            finished.send(task::run(core, ports).await).ok();
        };
        let span = tracing::Span::current();
        inner.workers.spawn(move || job().instrument(span)).map_err(|error| {
            tracing::error!(%error, "call refused, 503");
            self.busy()
        })?;
        Ok(async move {
            let _open = open;
            let finished = match outcome.await {
                Ok(Ok(finished)) => finished,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the call could not be set up");
                    Finished::failed(started)
                }
                Err(_) => {
                    tracing::error!("the call's task broke down; the caller is hung up on");
                    dialog.hang_up(HangupCause::NormalTemporaryFailure);
                    Finished::failed(started)
                }
            };
            drop(guard); // Room for the next call, however long the record takes.
            inner.keep_record(identity, finished, started).await;
        })
    }

    /// Counts a call in, or says why it is refused.
    fn count_in(
        &self,
        id: &CallId,
        profile: &AgentProfile,
        control: mpsc::Sender<CallControl>,
    ) -> Result<Counted, Rejection> {
        let agent_id = &profile.spec.agent_id;
        let mut calls = lock(&self.0.calls);
        let waiting = self.0.records.stats().waiting;
        if calls.draining
            || calls.live.len() >= self.0.settings.max_calls
            || waiting >= WAITING_RECORDS
        {
            tracing::warn!(
                live = calls.live.len(),
                draining = calls.draining,
                waiting,
                "no room, 503"
            );
            return Err(self.busy());
        }
        let of_agent = calls.per_agent.get(agent_id).copied().unwrap_or(0);
        if profile.max_concurrent_calls.is_some_and(|most| of_agent >= most) {
            tracing::info!(agent = agent_id, calls = of_agent, "agent busy, 486");
            return Err(Rejection::status(486));
        }
        calls.per_agent.insert(agent_id.clone(), of_agent + 1);
        calls.live.insert(id.clone(), LiveCall { agent_id: agent_id.clone(), control });
        self.0.live.send_replace(calls.live.len());
        Ok(Counted { inner: Arc::clone(&self.0), id: id.clone() })
    }

    fn busy(&self) -> Rejection {
        Rejection {
            status: 503,
            reason: String::new(),
            retry_after: Some(self.0.settings.retry_after),
        }
    }
}

impl Inner {
    async fn keep_record(&self, identity: CallIdentity, finished: Finished, started: Instant) {
        let Finished { outcome, quality, ended } = finished;
        let record = call_record(identity, outcome, quality, started, ended);
        tracing::info!(
            end_reason = ?record.end_reason,
            ended_by = ?record.ended_by,
            duration_ms = record.duration_ms,
            turns = record.turns.len(),
            mos = record.quality.mos,
            "call ended",
        );
        if self.records.append(&record).await.is_err() {
            tracing::error!("the record log is gone; this record is lost");
        }
    }
}

/// A call for which there is an agent, room and a pair of ports.
struct Admitted {
    call: IncomingCall,
    profile: AgentProfile,
    media: PortPair,
    orders: mpsc::Receiver<CallControl>,
    identity: CallIdentity,
    variables: BTreeMap<String, String>,
    guard: Counted,
}

/// Counts one call for as long as it lives.
struct Counted {
    inner: Arc<Inner>,
    id: CallId,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut calls = lock(&self.inner.calls);
        if let Some(LiveCall { agent_id, .. }) = calls.live.remove(&self.id)
            && let Some(count) = calls.per_agent.get_mut(&agent_id)
        {
            *count -= 1;
            if *count == 0 {
                calls.per_agent.remove(&agent_id);
            }
        }
        self.inner.live.send_replace(calls.live.len());
    }
}

/// The codecs of SDP, best first: those configured, what the agent's first model takes untouched moved to the front.
/// All of them, whatever was offered: the peer may change its mind in a re-INVITE.
fn codecs(configured: &[Law], profile: &AgentProfile) -> Vec<Law> {
    let taken = |law: &Law| {
        profile.chain.first().is_some_and(|model| {
            let native = AudioFormat::G711(*law);
            tandem_models::capabilities(&model.settings).input.contains(&native)
        })
    };
    let mut codecs = configured.to_vec();
    codecs.sort_by_key(|law| !taken(law)); // Stable: the configured order stays among equals.
    codecs
}

/// The codec the leg will most likely use.
fn likely(codecs: &[Law], offered: Option<&[Law]>, preference: CodecPreference) -> Law {
    let offered = offered.unwrap_or(codecs);
    let (first, second) = match preference {
        CodecPreference::Ours => (codecs, offered),
        CodecPreference::Theirs => (offered, codecs),
    };
    let common = first.iter().find(|law| second.contains(law)).or(first.first());
    common.copied().unwrap_or(Law::Mu)
}

/// What prompts and scripts may name: the caller, the dialled number, and each header of the call.
fn placeholders(
    call: &IncomingCall,
    headers: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut variables = headers.clone();
    variables.insert("called_number".into(), call.called.clone());
    variables.extend(call.from.number.clone().map(|number| ("caller_number".into(), number)));
    variables.extend(call.from.name.clone().map(|name| ("caller_name".into(), name)));
    variables
}

/// Counts a call as not forgotten for as long as it lives.
struct Open(Arc<Inner>);

impl Open {
    fn count_in(inner: &Arc<Inner>) -> Self {
        inner.open.send_modify(|open| *open += 1);
        Self(Arc::clone(inner))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.send_modify(|open| *open -= 1);
    }
}

/// Whether `count` is zero within `patience`.
async fn none_within(count: &watch::Sender<usize>, patience: Duration) -> bool {
    tokio::time::timeout(patience, count.subscribe().wait_for(|count| *count == 0)).await.is_ok()
}

fn leg_config(settings: &ExchangeSettings, law: Law) -> LegConfig {
    let seed = random();
    LegConfig {
        ssrc: seed as u32,
        first_sequence: (seed >> 32) as u16,
        first_timestamp: (seed >> 48) as u32,
        cname: format!("{:016x}", (seed >> 64) as u64), // Says nothing about the host (RFC 7022).
        uplink: AudioFormat::G711(law),
        media_timeout: settings.media_timeout,
        seed: (seed >> 80) as u64,
    }
}

fn random() -> u128 {
    fastrand::u128(..)
}

fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A lock whose holder panicked still guards consistent counts: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
