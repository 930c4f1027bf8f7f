//! The fake switch on loopback.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::{
    net::TcpListener,
    sync::Notify,
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    audio::samples_of,
    call::FakeCall,
    event::SwitchEvent,
    event_socket,
    handle::ChannelHandle,
    model::{Faults, SeenCommand, StoredFile, SwitchModel, Waiting},
    settings::{SwitchConfig, Target},
    view::ChannelView,
};

/// How long a restored event socket tries to have its port back.
const REBIND: Duration = Duration::from_secs(5);

/// The switch, and how its tasks reach it.
#[derive(Debug)]
pub(crate) struct Shared {
    model: Mutex<SwitchModel>,
    pub(crate) wake: Arc<Notify>,
    changed: Arc<Notify>,
}

impl Shared {
    /// Does something with the switch at the present time.
    pub(crate) fn with<R>(&self, act: impl FnOnce(&mut SwitchModel, Instant) -> R) -> R {
        let mut model = self.model.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut model, tokio::time::Instant::now().into_std())
    }

    /// Waits until `find` finds something, at most for `limit`.
    pub(crate) async fn wait<R>(
        &self,
        limit: Duration,
        mut find: impl FnMut(&mut SwitchModel, Instant) -> Option<R>,
    ) -> Option<R> {
        /// Sound tells nobody that it was heard.
        const LOOK_AGAIN: Duration = Duration::from_millis(10);
        timeout(limit, async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = self.with(&mut find) {
                    return found;
                }
                tokio::select! { () = changed => {} () = sleep(LOOK_AGAIN) => {} }
            }
        })
        .await
        .ok()
    }
}

/// A FreeSWITCH that is none: event socket, channels, media bugs with fork modules. Dropping it ends all of it.
///
/// It runs on the current tokio runtime with its own beat of 20 ms. What it says and does is what a FreeSWITCH
/// 1.10.12 was recorded to say and do.
#[derive(Debug)]
pub struct FakeSwitch {
    /// Where the event socket listens, also while it is killed.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    driving: JoinHandle<()>,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

impl FakeSwitch {
    /// A switch with the usual configuration.
    ///
    /// # Errors
    /// When no port can be had.
    pub async fn start() -> io::Result<Self> {
        Self::start_with(SwitchConfig::default()).await
    }

    /// Binds the event socket and starts on the current tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start_with(config: SwitchConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.bind).await?;
        let address = listener.local_addr()?;
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let model = SwitchModel::new(config, tokio::time::Instant::now().into_std(), epoch);
        let (wake, changed) = (Arc::clone(&model.wake), Arc::clone(&model.changed));
        let shared = Arc::new(Shared { model: Mutex::new(model), wake, changed });
        let driving = tokio::spawn(event_socket::drive(Arc::clone(&shared)));
        let accepting = tokio::spawn(event_socket::accept(Arc::clone(&shared), listener));
        Ok(Self { address, shared, driving, accepting: Mutex::new(Some(accepting)) })
    }

    /// A call comes in.
    pub fn call(&self, call: FakeCall) -> ChannelHandle {
        let uuid = self.shared.with(|model, now| model.begin_call(now, call));
        ChannelHandle::new(&self.shared, uuid)
    }

    /// The channels that live, the oldest first.
    pub fn channels(&self) -> Vec<ChannelView> {
        self.shared.with(|model, _| {
            let mut channels: Vec<_> = model.channels.values().collect();
            channels.sort_unstable_by_key(|channel| channel.serial);
            channels.into_iter().map(|channel| model.view_of(channel)).collect()
        })
    }

    /// A channel that is or was, to be driven.
    pub fn channel(&self, uuid: &str) -> Option<ChannelHandle> {
        self.shared.with(|model, _| model.view(uuid))?;
        Some(ChannelHandle::new(&self.shared, uuid.to_owned()))
    }

    /// Waits for a channel that fits, at most for `limit`.
    pub async fn wait_for_channel(
        &self,
        limit: Duration,
        fits: impl Fn(&ChannelView) -> bool,
    ) -> Option<ChannelHandle> {
        let found = self.shared.wait(limit, |model, _| {
            let mut views = model.channels.values().map(|channel| model.view_of(channel));
            views.find(|view| fits(view))
        });
        let uuid = found.await?.uuid;
        Some(ChannelHandle::new(&self.shared, uuid))
    }

    /// What becomes of legs whose dial string holds `pattern`; the longest pattern counts.
    pub fn script(&self, pattern: &str, target: Target) {
        self.shared.with(|model, _| {
            model.targets.retain(|(known, _)| known != pattern);
            model.targets.push((pattern.to_owned(), target));
        });
    }

    /// Adds a file that can be played: mono samples at `rate` Hz.
    pub fn add_file(&self, path: &str, rate: u32, samples: Vec<i16>) {
        let file = StoredFile { rate, samples, owner: None };
        self.shared.with(|model, _| model.store_file(path.to_owned(), file));
    }

    /// The same with little-endian bytes.
    pub fn add_raw_file(&self, path: &str, rate: u32, bytes: &[u8]) {
        self.add_file(path, rate, samples_of(bytes));
    }

    /// Carries out an API line as if it came from the console; empty when its result comes later.
    pub fn api(&self, line: &str) -> String {
        self.shared.with(|model, now| model.api(now, line, &Waiting::Nobody)).unwrap_or_default()
    }

    /// The commands that came in on all connections, in their order.
    pub fn commands(&self) -> Vec<SeenCommand> {
        self.shared.with(|model, _| model.commands.iter().cloned().collect())
    }

    /// Waits for a command whose line begins so, the first one since the start.
    pub async fn wait_for_command(&self, prefix: &str, limit: Duration) -> Option<SeenCommand> {
        let found = self.shared.wait(limit, |model, _| {
            model.commands.iter().find(|command| command.line.starts_with(prefix)).cloned()
        });
        found.await
    }

    /// The events that were raised, whoever wanted them, in their order.
    pub fn events(&self) -> Vec<SwitchEvent> {
        self.shared.with(|model, _| model.events.iter().cloned().collect())
    }

    /// Waits for an event that fits, the first one since the start.
    pub async fn wait_for_event(
        &self,
        limit: Duration,
        fits: impl Fn(&SwitchEvent) -> bool,
    ) -> Option<SwitchEvent> {
        self.shared
            .wait(limit, |model, _| model.events.iter().find(|event| fits(event)).cloned())
            .await
    }

    /// Clients that are connected to the event socket and authenticated.
    pub fn clients(&self) -> usize {
        self.shared.with(|model, _| {
            let clients = model.sessions.values().filter(|session| session.control.is_none());
            clients.filter(|session| session.authed && !session.closing).count()
        })
    }

    /// Changes what is wrong with the switch.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        self.shared.with(|model, _| change(&mut model.faults));
        self.shared.wake.notify_one();
        self.wake_sessions();
    }

    /// Changes the configuration of the running switch, for what happens from now on.
    pub fn configure(&self, change: impl FnOnce(&mut SwitchConfig)) {
        self.shared.with(|model, _| change(&mut model.config));
    }

    /// Connections stay open, but nothing is read and nothing said, until it is called off.
    pub fn freeze(&self, frozen: bool) {
        self.faults(|faults| faults.frozen = frozen);
    }

    /// Drops the clients of the event socket; they can connect again at once.
    pub fn drop_clients(&self) {
        self.drop_sessions(|outbound| !outbound);
    }

    /// Drops the connections to clients of the outbound event socket.
    pub fn drop_outbound(&self) {
        self.drop_sessions(|outbound| outbound);
    }

    /// The event socket goes away: clients are dropped, and nothing listens any more. Calls live on.
    pub fn kill_event_socket(&self) {
        let accepting = self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(accepting) = accepting {
            accepting.abort();
        }
        self.shared.with(|model, _| model.sessions.retain(|_, session| session.control.is_some()));
    }

    /// The event socket listens again, at the same address.
    ///
    /// # Errors
    /// When the address cannot be bound any more.
    pub async fn restore_event_socket(&self) -> io::Result<()> {
        if self.accepting.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let until = tokio::time::Instant::now() + REBIND;
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(error) if tokio::time::Instant::now() >= until => return Err(error),
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        };
        let accepting = tokio::spawn(event_socket::accept(Arc::clone(&self.shared), listener));
        *self.accepting.lock().unwrap_or_else(PoisonError::into_inner) = Some(accepting);
        Ok(())
    }

    fn drop_sessions(&self, of_kind: impl Fn(bool) -> bool) {
        self.shared.with(|model, _| {
            for session in model.sessions.values_mut() {
                if of_kind(session.control.is_some()) {
                    session.dropped = true;
                    session.wake.notify_one();
                }
            }
        });
    }

    fn wake_sessions(&self) {
        self.shared.with(|model, _| {
            for session in model.sessions.values() {
                session.wake.notify_one();
            }
        });
    }
}

impl Drop for FakeSwitch {
    fn drop(&mut self) {
        self.driving.abort();
        if let Some(accepting) =
            self.accepting.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            accepting.abort();
        }
    }
}
