//! Takes calls in: finds the agent, checks capacity, gives the call to a worker, keeps its record.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use tandem_attendant::{Script, Voice};
use tandem_call::{AgentSpec, CallId, HangupCause, Party, Patience, TransferTarget};
use tandem_media::{Codec, VoiceSettings};
use tandem_net::Workers;
use tandem_recording::RecordingReport;
use tandem_sip::{CodecPreference, IncomingCall, LocalSecurity, SrtpPolicy};
use tokio::sync::{mpsc, oneshot, watch};
use tracing::Instrument;

use crate::{
    CallControl, CallCore, CallIdentity, CallRecording, ConsultSettings, CoreConfig, MediaPorts,
    ModelChoice, Prompts, RecordLog, RecordingPlan, ToolContext, Tools, VendorModels, call_record,
    consult_line::Consults,
    recording::record_of,
    task::{self, CallPorts, Finished, Line},
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
    pub codecs: Vec<Codec>,
    /// Whose order of codecs decides.
    pub codec_preference: CodecPreference,
    /// How the media of SIP calls may be protected.
    pub security: LocalSecurity,
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
    /// How attended transfers of SIP calls go.
    pub consult: ConsultSettings,
}

/// An agent as a call takes it.
#[derive(Clone)]
pub struct AgentProfile {
    /// What the machine knows of it; its transfer routes hold the dialled number's target already.
    pub spec: AgentSpec,
    /// Its models, in order.
    pub chain: Vec<ModelChoice>,
    /// What the offline attendant says for it.
    pub script: Arc<Script>,
    /// More calls are busy.
    pub max_concurrent_calls: Option<u32>,
    /// Whether media of its SIP calls may, must or must not be protected, where that is not as for all.
    pub srtp: Option<SrtpPolicy>,
    /// How its calls sound.
    pub audio: VoiceSettings,
    /// How its calls are recorded, if they are.
    pub recording: Option<RecordingPlan>,
    /// Carries out its tools.
    pub tools: Arc<dyn Tools>,
    /// What its callers hear that is said by no model.
    pub prompts: Arc<Prompts>,
}

/// Where a call goes.
#[derive(Clone)]
pub enum Route {
    /// An agent answers.
    Agent(Box<AgentProfile>),
    /// The PBX itself has a place for this number's calls.
    Elsewhere(Elsewhere),
    /// Nobody answers this number: 404. The text says why, for the log.
    Nobody(String),
}

/// Where the PBX takes a call that no agent answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// To this place.
    Place(TransferTarget),
    /// Nowhere: it is released.
    HangUp(HangupCause),
}

/// Why a call is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The PBX has a place for it.
    #[error("the number's calls go elsewhere")]
    Elsewhere(Elsewhere),
    /// No agent answers the number.
    #[error("no route: {0}")]
    NoRoute(String),
    /// Its agent has as many calls as it may have.
    #[error("the agent is busy")]
    AgentBusy,
    /// No room, no ports, or the daemon is stopping: come again after so many seconds.
    #[error("no room, come again in {retry_after} s")]
    NoRoom {
        /// Seconds.
        retry_after: u32,
    },
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
    ports: Arc<MediaPorts>,
    consults: Arc<Consults>,
    voice: Voice,
    records: RecordLog,
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
    ) -> std::io::Result<Self> {
        let ports = MediaPorts::new(settings.media_bind, settings.media_ports.clone());
        let ports = Arc::new(ports);
        let consults = Consults::new(
            settings.consult.clone(),
            voice.clone(),
            Arc::clone(&ports),
            settings.media_timeout,
        );
        Ok(Self(Arc::new(Inner {
            workers: Workers::start(settings.workers)?,
            ports,
            consults: Arc::new(consults),
            voice,
            records,
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

    /// The agent for a call.
    pub(crate) fn profile(&self, facts: CallFacts<'_>) -> Result<Box<AgentProfile>, Refused> {
        let routes = Arc::clone(&lock(&self.0.routes));
        match routes.route(facts) {
            Route::Agent(profile) => Ok(profile),
            Route::Elsewhere(elsewhere) => Err(Refused::Elsewhere(elsewhere)),
            Route::Nobody(why) => Err(Refused::NoRoute(why)),
        }
    }

    /// Counts a call in, or says why it is refused.
    pub(crate) fn count_in(&self, profile: Box<AgentProfile>) -> Result<Admitted, Refused> {
        let id = CallId::new(unix_now().as_millis() as u64, random());
        let agent_id = profile.spec.agent_id.clone();
        let mut calls = lock(&self.0.calls);
        let waiting = self.0.records.stats().waiting;
        let live = calls.live.len();
        if calls.draining || live >= self.0.settings.max_calls || waiting >= WAITING_RECORDS {
            tracing::warn!(live, draining = calls.draining, waiting, "no room for a call");
            return Err(self.no_room());
        }
        let of_agent = calls.per_agent.get(&agent_id).copied().unwrap_or(0);
        if profile.max_concurrent_calls.is_some_and(|most| of_agent >= most) {
            tracing::info!(agent = agent_id, calls = of_agent, "agent busy");
            return Err(Refused::AgentBusy);
        }
        let (control, orders) = mpsc::channel(CONTROL_QUEUE);
        calls.per_agent.insert(agent_id.clone(), of_agent + 1);
        calls.live.insert(id.clone(), LiveCall { agent_id, control });
        self.0.live.send_replace(calls.live.len());
        let counted = Counted { inner: Arc::clone(&self.0), id: id.clone() };
        Ok(Admitted { id, profile, orders, counted })
    }

    pub(crate) fn no_room(&self) -> Refused {
        Refused::NoRoom { retry_after: self.0.settings.retry_after }
    }

    pub(crate) fn settings(&self) -> &ExchangeSettings {
        &self.0.settings
    }

    pub(crate) fn voice(&self) -> &Voice {
        &self.0.voice
    }

    pub(crate) fn workers(&self) -> &Workers {
        &self.0.workers
    }

    pub(crate) fn ports(&self) -> &MediaPorts {
        &self.0.ports
    }

    pub(crate) fn consults(&self) -> Arc<Consults> {
        Arc::clone(&self.0.consults)
    }

    /// Gives a call to a worker, where `make` makes its line and its leg, and keeps its record when it is over. Should it
    /// break down, `release` lets the caller go.
    pub(crate) fn launch<W: Line + 'static>(
        &self,
        admitted: Admitted,
        about: About,
        make: impl FnOnce(Instant) -> std::io::Result<(W, W::Leg)> + Send + 'static,
        release: impl FnOnce() + Send + 'static,
    ) -> Result<(), Refused> {
        let Admitted { id, profile, orders, counted } = admitted;
        let About { identity, variables, annotates } = about;
        let inner = Arc::clone(&self.0);
        let started = Instant::now();
        let span = tracing::info_span!("call", call_id = %id, agent = identity.agent_id);
        let tools = profile.tools.open(ToolContext {
            call_id: id.clone(),
            agent_id: identity.agent_id.clone(),
            language: profile.spec.language.clone(),
            from: identity.from.clone(),
            to: identity.to.clone(),
            variables: identity.variables.clone(),
        });
        let ports = CallPorts { control: orders, tools, call_id: id };
        let voice = inner.voice.clone();
        let patience = inner.settings.patience;
        let (finished, outcome) = oneshot::channel();
        let open = Open::count_in(&inner);
        let mut profile = profile;
        let begun = (started, identity.started_at);
        let plan = profile.recording.take();
        let recording = plan.map(|plan| CallRecording::new(plan, identity.id.as_str(), begun));
        let (recording, report) = recording.unzip();
        // Made before there is a future, which would keep room for each step of it as long as the call goes on.
        let job = move || {
            let AgentProfile { spec, chain, script, prompts, .. } = *profile;
            let models =
                Box::new(VendorModels { chain, agent: spec.clone(), script, voice, variables });
            let made = make(started).map(|(line, leg)| {
                let config = CoreConfig { agent: spec, patience, leg, models, prompts, annotates };
                let mut core = Box::new(CallCore::new(started, config));
                if let Some(recording) = recording {
                    core.record(recording);
                }
                Box::pin(task::run(core, line, ports))
            });
            async move {
                let ran = match made {
                    Ok(running) => running.await,
                    Err(error) => Err(error),
                };
                finished.send(ran).ok();
            }
        };
        let of_call = span.clone();
        let spawned = inner.workers.spawn(move || {
            let running = of_call.in_scope(job);
            running.instrument(of_call)
        });
        spawned.map_err(|error| {
            span.in_scope(|| tracing::error!(%error, "call refused"));
            self.no_room()
        })?;
        span.in_scope(|| tracing::info!("call comes in"));
        let finishing = async move {
            let _open = open;
            let finished = match outcome.await {
                Ok(Ok(finished)) => finished,
                Ok(Err(error)) => {
                    tracing::error!(%error, "the call could not be set up");
                    release();
                    Finished::failed(started)
                }
                Err(_) => {
                    tracing::error!("the call's task broke down; the caller is hung up on");
                    release();
                    Finished::failed(started)
                }
            };
            drop(counted); // Room for the next call, however long the record takes.
            inner.keep_record(identity, finished, started, report).await;
        };
        tokio::spawn(finishing.instrument(span));
        Ok(())
    }
}

impl Inner {
    async fn keep_record(
        &self,
        identity: CallIdentity,
        finished: Finished,
        started: Instant,
        recording: Option<oneshot::Receiver<RecordingReport>>,
    ) {
        let Finished { outcome, quality, srtp, ended } = finished;
        let mut record = call_record(identity, outcome, quality, srtp, started, ended);
        if let Some(report) = recording {
            record.recording = record_of(report).await;
        }
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

/// A call for which there are an agent and room.
pub(crate) struct Admitted {
    pub(crate) id: CallId,
    pub(crate) profile: Box<AgentProfile>,
    orders: mpsc::Receiver<CallControl>,
    counted: Counted,
}

/// What is known of a call.
pub(crate) struct About {
    /// For its record.
    pub(crate) identity: CallIdentity,
    /// What prompts and scripts may name.
    pub(crate) variables: BTreeMap<String, String>,
    /// Its signalling has a place for transcript, summary and outcome.
    pub(crate) annotates: bool,
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

pub(crate) fn random() -> u128 {
    fastrand::u128(..)
}

pub(crate) fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A lock whose holder panicked still guards consistent counts: each is changed in one step.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
