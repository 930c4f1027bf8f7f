//! Calls of switches: channels handed over by a dialplan, and forks that come in.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tandem_call::{HangupCause, SignalCommand, SignalEvent};
use tandem_exchange::{Elsewhere, Exchange, ForkReport, Refused, Signalling, TakenFork};
use tandem_media::SampleRate;
use tandem_pbx::{
    CallerIdentity, Cause, Channel, ChannelInput, ChannelSettings, ChannelUuid, CommandError,
    Extension, ForkModule, ForkName, ForkSource, ForkStart, OutboundChannel, Switch, SwitchCommand,
    TransferLeg, TransferPlan, Word, follow,
};
use tandem_streams::{
    Arrival, AuthenticatedAs, ForkRefusal, ForkStream, Metadata as ForkMetadata, StreamShape,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    facts::Facts,
    fork_settings::{FORK_NAME, ForkSettings, module_of},
    given_back::give_back,
    handover::{self, Control},
    lone::{LoneFork, switch_to_come},
    side::{ChannelSide, ChannelSignalling},
    tools::{ChannelTools, Controllable, LiveChannel},
    whereabouts::{self, is_up},
};
/// Reports and orders of one call that may wait.
const QUEUE: usize = 256;

/// How long a call of ours may take to end when its channel is handed over again.
const FREE_TRIES: u32 = 60;
const FREE_STEP: Duration = Duration::from_millis(50);

/// Who waits for a fork of a channel.
enum Expected {
    /// Its call is being taken.
    Coming,
    /// Its call.
    Call {
        reports: mpsc::Sender<ForkReport>,
        inputs: Option<mpsc::Sender<ChannelInput>>,
        /// The fork is ours, and its URL holds a token for this channel: no other credential opens it.
        signed: bool,
        /// What the switch said of its codec when it was answered: better than what was known when its URL was made.
        codec: Option<SampleRate>,
    },
    /// Something that is to be said to it.
    Announcement(oneshot::Sender<(ForkStream, StreamShape)>),
}

/// All calls of all switches. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Calls(Arc<Inner>);

struct Inner {
    exchange: Exchange,
    switches: Vec<Switch>,
    transfers: Arc<TransferPlan>,
    settings: ForkSettings,
    tools: ChannelTools,
    expected: Mutex<HashMap<String, Expected>>,
}

impl Calls {
    pub(crate) fn new(
        exchange: Exchange,
        switches: Vec<Switch>,
        transfers: Arc<TransferPlan>,
        settings: ForkSettings,
        tools: ChannelTools,
    ) -> Self {
        let expected = Mutex::default();
        Self(Arc::new(Inner { exchange, switches, transfers, settings, tools, expected }))
    }

    /// A dialplan hands a channel over.
    pub(crate) async fn take_channel(&self, channel: OutboundChannel) {
        let inner = &self.0;
        let uuid = channel.uuid().clone();
        let facts = Facts::of_channel(channel.headers(), &inner.settings);
        let shape = inner.settings.shape(facts.codec);
        let source = match inner.settings.plan(&uuid, &shape) {
            Ok(plan) => ForkSource::Ours(Box::new(plan)),
            Err(error) => {
                tracing::error!(%error, "a fork can't be started: look at freeswitch.url");
                return channel.release();
            }
        };
        if !self.reserve_when_free(uuid.as_str()).await {
            tracing::warn!(%uuid, "a channel is handed over whose call goes on: it is given back");
            return channel.release();
        }
        match self.start(&uuid, facts, shape.rate, source) {
            Ok(begun) => {
                // A link of our own outlives the channel's, and comes back when it is lost.
                let link = self.switch_of(&uuid).await;
                let control = handover::take_over(channel, link, begun.longest).await;
                self.follow(begun, control);
            }
            Err(refused) => {
                self.expected().remove(uuid.as_str());
                tracing::info!(%refused, %uuid, "a channel goes back to its dialplan");
                give_back(channel, &refused, &self.0.transfers).await;
            }
        }
    }

    /// A fork's websocket has come in.
    pub(crate) async fn take_fork(&self, arrival: Arrival) {
        let shape = match StreamShape::from_query(arrival.dialect, &arrival.query) {
            Ok(shape) => shape,
            Err(error) => {
                let reason = error.to_string();
                tracing::warn!(peer = %arrival.peer, reason, "a fork is refused");
                return arrival.refuse(ForkRefusal::NotWanted, &reason);
            }
        };
        let metadata = match arrival.metadata.as_deref().map(ForkMetadata::parse) {
            Some(Ok(metadata)) => metadata,
            Some(Err(error)) => {
                tracing::debug!(%error, "a fork's first text says nothing of its call");
                ForkMetadata::default()
            }
            None => ForkMetadata::default(),
        };
        let call = arrival.call().map(str::to_owned).or_else(|| metadata.call.clone());
        if let Some(call) = &call
            && self.is_expected(call)
        {
            return self.attach(call, arrival, shape);
        }
        if let AuthenticatedAs::Call(_) = arrival.authenticated_as {
            return arrival.refuse(ForkRefusal::NotWanted, "the call is over");
        }
        if arrival.is_silent() {
            // Left behind by a module that hung up while it connected.
            return arrival.refuse(ForkRefusal::NotWanted, "nothing was said");
        }
        let name = call.clone().unwrap_or_else(|| format!("fork-{:016x}", fastrand::u64(..)));
        if !self.reserve(&name) {
            return arrival.refuse(ForkRefusal::TryLater, "the channel's call is being taken");
        }
        self.take_forked(arrival, shape, metadata, call.is_some(), name).await;
    }

    /// Keeps the name of a channel for the call that is about to begin; false when it has one.
    fn reserve(&self, name: &str) -> bool {
        let mut expected = self.expected();
        let free = !expected.contains_key(name);
        if free {
            expected.insert(name.to_owned(), Expected::Coming);
        }
        free
    }

    /// The same for a channel that was moved here from another of our calls, which ends by that.
    async fn reserve_when_free(&self, name: &str) -> bool {
        for _ in 0..FREE_TRIES {
            if self.reserve(name) {
                return true;
            }
            tokio::time::sleep(FREE_STEP).await;
        }
        false
    }

    pub(super) fn is_expected(&self, call: &str) -> bool {
        self.expected().contains_key(call)
    }

    /// The fork of a call that is there already, or of a leg that is to hear something.
    fn attach(&self, call: &str, arrival: Arrival, shape: StreamShape) {
        if arrival.is_silent() {
            // Left behind by a module that hung up while it connected.
            return arrival.refuse(ForkRefusal::NotWanted, "nothing was said");
        }
        let mut expected = self.expected();
        let proven = matches!(arrival.authenticated_as, AuthenticatedAs::Call(_));
        match expected.get(call) {
            Some(Expected::Coming) => {
                drop(expected);
                arrival.refuse(ForkRefusal::TryLater, "the channel's call is being taken");
            }
            Some(Expected::Call { signed: true, .. } | Expected::Announcement(_)) if !proven => {
                drop(expected);
                tracing::warn!(peer = %arrival.peer, "a fork without its call's own token is refused");
                arrival.refuse(ForkRefusal::NotWanted, "this call's fork has a token of its own");
            }
            Some(Expected::Call { reports, inputs, codec, .. }) => {
                let shape = StreamShape { codec: codec.unwrap_or(shape.codec), ..shape };
                let report = ForkReport::Connected { stream: arrival.stream, shape };
                if reports.try_send(report).is_err() {
                    tracing::warn!(call, "a fork came for a call that takes nothing more");
                } else if let Some(inputs) = inputs {
                    inputs.try_send(ChannelInput::Media { attached: true }).ok();
                }
            }
            Some(Expected::Announcement(_)) => {
                if let Some(Expected::Announcement(stream)) = expected.remove(call) {
                    stream.send((arrival.stream, shape)).ok();
                }
            }
            None => drop(expected),
        }
    }

    /// A call that begins with its fork: the dialplan answered and forked by itself.
    async fn take_forked(
        &self,
        arrival: Arrival,
        shape: StreamShape,
        metadata: ForkMetadata,
        is_named: bool,
        name: String,
    ) {
        let inner = &self.0;
        let uuid = is_named.then(|| ChannelUuid::new(&name).ok()).flatten();
        let linked = match &uuid {
            Some(uuid) => self.switch_of(uuid).await,
            None => None,
        };
        let mut facts = Facts::of_fork(&arrival, metadata);
        let waiting = uuid.clone().zip(linked.clone());
        let alone = uuid.clone();
        let taken = match (uuid, linked) {
            (Some(uuid), Some(switch)) => {
                if let Ok(reply) = switch.execute(SwitchCommand::Dump { uuid: uuid.clone() }).await
                    && let Some(headers) = reply.dump()
                {
                    facts.complete(Facts::of_channel(&headers, &inner.settings));
                }
                facts.answered = true;
                let Ok(watch) = switch.watch(uuid.clone()) else {
                    self.expected().remove(&name);
                    return arrival.refuse(ForkRefusal::TryLater, "the event socket is busy");
                };
                let source = ForkSource::Dialplan {
                    module: module_of(shape.dialect),
                    bug: Word::new(FORK_NAME).ok(),
                };
                self.start(&uuid, facts, shape.rate, source).map(|begun| {
                    self.follow(begun, Some(Control { switch, watch, held: None }));
                })
            }
            // One that is not connected may be the one that knows it.
            (Some(_), None) if !inner.switches.is_empty() && inner.switches.iter().all(is_up) => {
                Err(Refused::NoRoute("no connected switch knows the channel".into()))
            }
            _ => {
                if !inner.switches.is_empty() {
                    tracing::warn!(
                        channel = name,
                        "no connected switch knows this fork's channel: it can't be transferred, nor hung up with a cause"
                    );
                }
                self.start_alone(&name, alone, facts, &shape)
            }
        };
        match taken {
            Ok(()) => self.attach(&name, arrival, shape),
            Err(refused) => {
                self.expected().remove(&name);
                tracing::info!(%refused, "a forked call is refused");
                let refusal = match refused {
                    Refused::NoRoom { .. } | Refused::AgentBusy => ForkRefusal::TryLater,
                    Refused::Elsewhere(_) | Refused::NoRoute(_) => ForkRefusal::NotWanted,
                };
                arrival.refuse(refusal, &refused.to_string());
                if let Some((uuid, switch)) = waiting {
                    self.send_away(&switch, uuid, &refused).await;
                }
            }
        }
    }

    /// Has the switch take back a channel that its dialplan answered, and that would wait in silence for a call.
    async fn send_away(&self, switch: &Switch, uuid: ChannelUuid, refused: &Refused) {
        if let Some(to) = self.fallback() {
            let (uuid, to) = (uuid.clone(), to.clone());
            let transfer = SwitchCommand::Transfer { uuid, leg: TransferLeg::Own, to };
            match switch.execute(transfer).await {
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%error, "a refused call can't be sent to the fallback");
                }
            }
        }
        let cause = match refused {
            Refused::AgentBusy => HangupCause::UserBusy,
            Refused::NoRoom { .. } => HangupCause::NormalCircuitCongestion,
            Refused::NoRoute(_) => HangupCause::UnallocatedNumber,
            Refused::Elsewhere(Elsewhere::HangUp(cause)) => *cause,
            Refused::Elsewhere(Elsewhere::Place(_)) => HangupCause::NormalTemporaryFailure,
        };
        let hang_up = SwitchCommand::HangUp { uuid, cause: Cause::from(cause) };
        if let Err(error) = switch.execute(hang_up).await
            && !error.is_no_such_channel()
        {
            tracing::warn!(%error, "a refused call can't be hung up");
        }
    }

    /// Starts the call of a channel; what it orders waits until the channel is followed.
    fn start(
        &self,
        uuid: &ChannelUuid,
        facts: Facts,
        rate: SampleRate,
        fork: ForkSource,
    ) -> Result<Begun, Refused> {
        let inner = &self.0;
        let signed = matches!(fork, ForkSource::Ours(_));
        let (reports, taken_reports) = mpsc::channel(QUEUE);
        let (inputs, taken_inputs) = mpsc::channel(QUEUE);
        let (caller, carried) = (facts.caller(), facts.carried.clone());
        let settings = self.channel_settings(uuid, facts.answered, caller, fork, carried);
        let mut call = facts.into_call(
            uuid.to_string(),
            rate,
            Arc::new(ChannelSignalling::new(inputs.clone())),
            taken_reports,
        );
        call.stream_clear.clone_from(&inner.settings.stream_clear);
        let taken = inner.exchange.take_fork(call)?;
        let transfers = Arc::clone(&inner.transfers);
        let live = LiveChannel::new(uuid, inputs.clone(), transfers, taken.transfer);
        let controllable = inner.tools.add(taken.id, live);
        let place = Expected::Call {
            reports: reports.clone(),
            inputs: Some(inputs.clone()),
            signed,
            codec: None,
        };
        self.expected().insert(uuid.to_string(), place);
        let address = vec![("at".to_owned(), inner.settings.base.clone())];
        let annotate = SignalCommand::Annotate { variables: address };
        inputs.try_send(ChannelInput::Command(annotate)).ok(); // Room: it is among the first.
        let over = (reports.clone(), inputs.clone());
        let calls = self.clone();
        let name = uuid.to_string();
        tokio::spawn(async move {
            over.0.closed().await;
            drop(controllable);
            over.1.send(ChannelInput::Release).await.ok();
            calls.forget(&name, &over.0);
        });
        Ok(Begun {
            settings,
            language: taken.language,
            longest: taken.longest,
            reports,
            inputs,
            taken_inputs,
        })
    }

    /// Has the channel of a call followed to its end. Without a way to control it, it is gone.
    fn follow(&self, begun: Begun, control: Option<Control>) {
        let Begun { settings, language, reports, inputs, taken_inputs, .. } = begun;
        let Some(Control { switch, watch, held }) = control else {
            reports.try_send(ForkReport::Signal(SignalEvent::Cancelled)).ok(); // Room: it is the first.
            return;
        };
        let side = ChannelSide {
            calls: self.clone(),
            switch: switch.clone(),
            channel: settings.uuid.clone(),
            language,
            reports,
            inputs,
            announcements: HashMap::new(),
        };
        tokio::spawn(async move {
            follow(Channel::new(settings), switch, watch, taken_inputs, side).await;
            drop(held);
        });
    }

    /// Starts a call of which nothing but its fork is known, and which may be the channel `uuid`.
    fn start_alone(
        &self,
        name: &str,
        uuid: Option<ChannelUuid>,
        facts: Facts,
        shape: &StreamShape,
    ) -> Result<(), Refused> {
        let (reports, taken_reports) = mpsc::channel(QUEUE);
        let signalling = Arc::new(LoneFork::new(reports.downgrade()));
        let caller = facts.caller();
        let orders = Arc::clone(&signalling) as Arc<dyn Signalling>;
        let mut call = facts.into_call(name.to_owned(), shape.rate, orders, taken_reports);
        call.stream_clear.clone_from(&self.0.settings.stream_clear);
        let taken = self.0.exchange.take_fork(call)?;
        let place =
            Expected::Call { reports: reports.clone(), inputs: None, signed: false, codec: None };
        self.expected().insert(name.to_owned(), place);
        let (calls, name) = (self.clone(), name.to_owned());
        let module = module_of(shape.dialect);
        tokio::spawn(async move {
            let controlled = match uuid {
                Some(uuid) => tokio::select! {
                    () = reports.closed() => None,
                    switch = switch_to_come(&calls.0.switches, &uuid) => {
                        let reports = reports.clone();
                        let lone = Lone { uuid, caller, module, taken, signalling, reports };
                        calls.follow_late(lone, switch).await
                    }
                },
                None => None,
            };
            reports.closed().await;
            if let Some((controllable, inputs)) = controlled {
                drop(controllable);
                inputs.send(ChannelInput::Release).await.ok();
            }
            calls.forget(&name, &reports);
        });
        Ok(())
    }

    /// Has the channel of a lone fork followed, which `switch` has turned out to know.
    async fn follow_late(
        &self,
        lone: Lone,
        switch: Switch,
    ) -> Option<(Controllable, mpsc::Sender<ChannelInput>)> {
        let Lone { uuid, caller, module, taken, signalling, reports } = lone;
        let dump = switch.execute(SwitchCommand::Dump { uuid: uuid.clone() }).await.ok()?.dump()?;
        let watch = switch.watch(uuid.clone()).ok()?;
        let fork = ForkSource::Dialplan { module, bug: Word::new(FORK_NAME).ok() };
        let carried = Facts::of_channel(&dump, &self.0.settings).carried;
        let settings = self.channel_settings(&uuid, true, caller, fork, carried);
        let (inputs, taken_inputs) = mpsc::channel(QUEUE);
        let transfers = Arc::clone(&self.0.transfers);
        let live = LiveChannel::new(&uuid, inputs.clone(), transfers, taken.transfer);
        let controllable = self.0.tools.add(taken.id, live);
        if let Some(Expected::Call { inputs: place, .. }) = self.expected().get_mut(uuid.as_str()) {
            *place = Some(inputs.clone());
        }
        signalling.follow(inputs.clone());
        let address = vec![("at".to_owned(), self.0.settings.base.clone())];
        let annotate = SignalCommand::Annotate { variables: address };
        inputs.try_send(ChannelInput::Command(annotate)).ok(); // Room: it is among the first.
        tracing::info!(%uuid, switch = switch.name(), "the channel of a fork is found");
        let begun = Begun {
            settings,
            language: taken.language,
            longest: taken.longest,
            reports,
            inputs: inputs.clone(),
            taken_inputs,
        };
        self.follow(begun, Some(Control { switch, watch, held: None }));
        Some((controllable, inputs))
    }

    fn channel_settings(
        &self,
        uuid: &ChannelUuid,
        answered: bool,
        caller: CallerIdentity,
        fork: ForkSource,
        carried: Vec<(String, String)>,
    ) -> ChannelSettings {
        ChannelSettings {
            uuid: uuid.clone(),
            answered,
            caller,
            fork,
            transfers: Arc::clone(&self.0.transfers),
            carried,
            fallback: self.0.settings.fallback.clone(),
            seed: fastrand::u64(..),
        }
    }

    /// Forks of the call of `channel` that come from now on find it with a codec of this rate.
    pub(super) fn correct_codec(&self, channel: &ChannelUuid, rate: SampleRate) {
        if let Some(Expected::Call { codec, .. }) = self.expected().get_mut(channel.as_str()) {
            *codec = Some(rate);
        }
    }

    /// Expects no fork of a call any more, unless the channel has another call by now.
    fn forget(&self, name: &str, of: &mpsc::Sender<ForkReport>) {
        let mut expected = self.expected();
        if let Some(Expected::Call { reports, .. }) = expected.get(name)
            && reports.same_channel(of)
        {
            expected.remove(name);
        }
    }

    /// The switch that knows `uuid`, of those whose event socket is up.
    async fn switch_of(&self, uuid: &ChannelUuid) -> Option<Switch> {
        whereabouts::switch_of(&self.0.switches, uuid).await
    }

    /// Forks the leg `uuid`, which is to hear something; the socket comes out of what is returned.
    pub(super) fn expect_announcement(
        &self,
        switch: &Switch,
        uuid: &ChannelUuid,
    ) -> Result<oneshot::Receiver<(ForkStream, StreamShape)>, CommandError> {
        let settings = &self.0.settings;
        let plan = settings.plan(uuid, &settings.shape(SampleRate::Hz8000))?;
        let (stream, coming) = oneshot::channel();
        self.expected().insert(uuid.to_string(), Expected::Announcement(stream));
        let fork = ForkName { uuid: uuid.clone(), module: plan.module, bug: plan.bug };
        if !plan.variables.is_empty() {
            let variables = plan.variables;
            drop(switch.submit(SwitchCommand::SetVariables { uuid: uuid.clone(), variables }));
        }
        let start = ForkStart {
            fork,
            url: plan.url,
            mix: plan.mix,
            rate: plan.rate,
            metadata: plan.metadata,
            back: plan.back,
        };
        drop(switch.submit(SwitchCommand::ForkStart(Box::new(start))));
        Ok(coming)
    }

    /// Nothing more is to be said to the leg `uuid`.
    pub(super) fn forget_announcement(&self, switch: &Switch, uuid: &ChannelUuid) {
        self.expected().remove(uuid.as_str());
        let module = self.0.settings.module();
        let fork = ForkName { uuid: uuid.clone(), module, bug: Word::new(FORK_NAME).ok() };
        drop(switch.submit(SwitchCommand::ForkStop { fork, text: None }));
    }

    /// Where calls go that can't go on with us.
    pub(super) fn fallback(&self) -> Option<&Extension> {
        self.0.settings.fallback.as_ref()
    }

    /// Where our forks come in, which no other daemon on the switch can say of itself.
    pub(super) fn address(&self) -> &str {
        &self.0.settings.base
    }

    pub(super) fn exchange(&self) -> &Exchange {
        &self.0.exchange
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<String, Expected>> {
        // Whoever panicked left a whole map behind: it is changed in single steps.
        self.0.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call of which nothing but its fork is known, and what follows its channel needs.
struct Lone {
    uuid: ChannelUuid,
    caller: CallerIdentity,
    module: ForkModule,
    taken: TakenFork,
    signalling: Arc<LoneFork>,
    reports: mpsc::Sender<ForkReport>,
}

/// A call that has begun, and whose channel is not followed yet.
struct Begun {
    settings: ChannelSettings,
    language: String,
    longest: Duration,
    reports: mpsc::Sender<ForkReport>,
    inputs: mpsc::Sender<ChannelInput>,
    taken_inputs: mpsc::Receiver<ChannelInput>,
}
