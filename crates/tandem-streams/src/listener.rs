//! Where forks come in: the shell around `Handshake`, which owns the sockets and reads the clocks.

mod arrival;
mod source_rate;
mod stats;

pub use arrival::{Arrival, ForkRefusal, ForkStream};
pub use stats::ListenerStats;

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};

use self::{source_rate::SourceRate, stats::Counters};
use crate::handshake::{
    CredentialsError, Ended, ForkCredentials, Greeting, Handshake, Refusal, Rules,
};

/// Connections that may be told at one time that there are too many; those beyond are dropped without a word.
const MAX_BUSY_ANSWERS: usize = 64;

/// A peer has this long to take an answer and to hang up.
const GOODBYE_WITHIN: Duration = Duration::from_secs(1);

/// Bytes of one read.
const READ: usize = 8 << 10;

/// After a failed accept, by want of file descriptors for instance.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Where forks may come in, and from whom.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Where to listen; port 0 takes a free one.
    pub addresses: Vec<SocketAddr>,
    /// What stands before each dialect's path: `/freeswitch`, or nothing.
    pub prefix: String,
    /// What opens a fork.
    pub credentials: ForkCredentials,
    /// Connections that may be in their handshake at one time; of one source half as many.
    pub max_handshakes: usize,
    /// Connections a second from one source in the long run, per address listened at.
    pub source_per_second: u32,
    /// Connections from one source at once. A switch has all its calls' forks come from one.
    pub source_burst: u32,
    /// Arrivals that may wait to be taken.
    pub max_waiting: usize,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            addresses: vec![SocketAddr::from(([127, 0, 0, 1], 8085))],
            prefix: "/freeswitch".to_owned(),
            credentials: ForkCredentials::default(),
            max_handshakes: 512,
            source_per_second: 200,
            source_burst: 1_000,
            max_waiting: 256,
        }
    }
}

/// Why there is no listener.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// It would keep out nobody, or everybody.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// The prefix could not stand before a path.
    #[error(
        "the prefix {0:?} must begin with a slash, not end with one, and have no '?', '%' or blank"
    )]
    Prefix(String),
    /// A limit is zero, so that nothing could come in.
    #[error("{0} must not be zero")]
    Zero(&'static str),
    /// There is no address to listen at.
    #[error("no address to listen at")]
    NoAddress,
    /// The address is taken, or not ours.
    #[error("cannot listen at {address}: {error}")]
    Bind { address: SocketAddr, error: io::Error },
}

/// Takes forks in and hands them over as `Arrival`s. Dropping it stops listening and ends what is in its handshake.
#[derive(Debug)]
pub struct ForkListener {
    local: Vec<SocketAddr>,
    counters: Arc<Counters>,
    tasks: JoinSet<()>,
}

/// What all connections of a listener share.
#[derive(Debug, Clone)]
struct Shared {
    rules: Arc<Rules>,
    counters: Arc<Counters>,
    arrivals: mpsc::Sender<Arrival>,
    handshakes: Arc<Semaphore>,
    seated: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most_of_source: usize,
    busy_answers: Arc<Semaphore>,
}

/// One handshake of a source, for as long as it lasts.
#[derive(Debug)]
struct Seat {
    source: IpAddr,
    seated: Arc<Mutex<HashMap<IpAddr, usize>>>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seated = lock(&self.seated);
        if let Some(of_source) = seated.get_mut(&self.source) {
            *of_source -= 1;
            if *of_source == 0 {
                seated.remove(&self.source);
            }
        }
    }
}

/// Counts are changed in one step each: whoever panicked left them right.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ListenerSettings {
    /// Whether a listener could be made of these, as far as that shows without binding.
    pub fn check(&self) -> Result<(), ListenError> {
        self.credentials.check()?;
        let prefix = &self.prefix;
        let bad = |c: char| !c.is_ascii_graphic() || matches!(c, '?' | '%' | '#');
        let well_formed = prefix.is_empty() || (prefix.starts_with('/') && !prefix.ends_with('/'));
        if !well_formed || prefix.contains(bad) {
            return Err(ListenError::Prefix(prefix.clone()));
        }
        for (name, zero) in [
            ("max_handshakes", self.max_handshakes == 0),
            ("source_per_second", self.source_per_second == 0),
            ("source_burst", self.source_burst == 0),
            ("max_waiting", self.max_waiting == 0),
        ] {
            if zero {
                return Err(ListenError::Zero(name));
            }
        }
        if self.addresses.is_empty() { Err(ListenError::NoAddress) } else { Ok(()) }
    }
}

impl ForkListener {
    /// Listens at all addresses, on the tokio runtime it is called in.
    ///
    /// Arrivals that are not taken from the channel in time are closed with 1013.
    pub async fn bind(
        settings: ListenerSettings,
    ) -> Result<(Self, mpsc::Receiver<Arrival>), ListenError> {
        settings.check()?;
        let mut listeners = Vec::new();
        let mut local = Vec::new();
        for address in settings.addresses {
            let failed = |error| ListenError::Bind { address, error };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            local.push(listener.local_addr().map_err(failed)?);
            listeners.push(listener);
        }
        let (arrivals, taken) = mpsc::channel(settings.max_waiting);
        let shared = Shared {
            rules: Arc::new(Rules { prefix: settings.prefix, credentials: settings.credentials }),
            counters: Arc::default(),
            arrivals,
            handshakes: Arc::new(Semaphore::new(settings.max_handshakes)),
            seated: Arc::default(),
            most_of_source: settings.max_handshakes.div_ceil(2),
            busy_answers: Arc::new(Semaphore::new(MAX_BUSY_ANSWERS)),
        };
        let counters = Arc::clone(&shared.counters);
        let mut tasks = JoinSet::new();
        for listener in listeners {
            let rate = SourceRate::new(settings.source_per_second, settings.source_burst);
            tasks.spawn(shared.clone().accept(listener, rate));
        }
        Ok((Self { local, counters, tasks }, taken))
    }

    /// Where it listens, with the ports that were free.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.local
    }

    /// What came in so far.
    pub fn stats(&self) -> ListenerStats {
        self.counters.snapshot()
    }

    /// Stops listening and ends what is in its handshake. What was handed over lives on.
    pub async fn stop(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Shared {
    async fn accept(self, listener: TcpListener, mut rate: SourceRate) {
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let (stream, peer) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a fork's connection could not be accepted");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            };
            let permit =
                rate.admit(Instant::now(), peer.ip()).then(|| self.seat(peer.ip())).flatten();
            match permit {
                Some(permit) => {
                    connections.spawn(self.clone().handshake(stream, peer, permit));
                }
                None => {
                    let busy = Ended::Refused(Refusal::Busy);
                    self.report(peer, busy);
                    if let Ok(permit) = Arc::clone(&self.busy_answers).try_acquire_owned() {
                        let response = Refusal::Busy.response(&self.rules.prefix);
                        connections.spawn(async move {
                            say_goodbye(stream, &response).await;
                            drop(permit);
                        });
                    }
                }
            }
        }
    }

    /// Room for one handshake; no source has more than half of it, so that none can keep the others out.
    fn seat(&self, source: IpAddr) -> Option<Seat> {
        let permit = Arc::clone(&self.handshakes).try_acquire_owned().ok()?;
        let mut seated = lock(&self.seated);
        let of_source = seated.entry(source).or_default();
        if *of_source >= self.most_of_source {
            return None;
        }
        *of_source += 1;
        Some(Seat { source, seated: Arc::clone(&self.seated), _permit: permit })
    }

    /// Drives one connection until it is known what it is.
    async fn handshake(self, mut stream: TcpStream, peer: SocketAddr, _seat: Seat) {
        let _ = stream.set_nodelay(true); // Without it the answer is late, no more.
        let unix_now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let mut handshake = Handshake::new(Instant::now(), unix_now, peer, Arc::clone(&self.rules));
        let mut bytes = [0; READ];
        loop {
            let outcome = handshake.poll_outcome();
            if let Some(transmit) = handshake.poll_transmit() {
                if let Some(Err(ended)) = outcome {
                    self.report(peer, ended);
                    return say_goodbye(stream, &transmit).await;
                }
                if !matches!(timeout(GOODBYE_WITHIN, stream.write_all(&transmit)).await, Ok(Ok(())))
                {
                    return self.report(peer, Ended::Left);
                }
            }
            match outcome {
                Some(Ok(greeting)) => return self.hand_over(stream, peer, greeting),
                Some(Err(ended)) => return self.report(peer, ended),
                None => {}
            }
            let due =
                handshake.poll_timeout().expect("a handshake that is not over has a time limit");
            tokio::select! {
                read = stream.read(&mut bytes) => match read {
                    Ok(0) | Err(_) => handshake.handle_end(),
                    Ok(read) => handshake.handle_bytes(Instant::now(), &bytes[..read]),
                },
                () = sleep_until(due.into()) => handshake.handle_timeout(Instant::now()),
            }
        }
    }

    fn hand_over(&self, stream: TcpStream, peer: SocketAddr, greeting: Greeting) {
        let Greeting { dialect, query, authenticated_as, metadata, buffered } = greeting;
        let Ok(tcp) = stream.into_std() else { return self.report(peer, Ended::Closed) };
        tracing::debug!(%peer, ?dialect, metadata = metadata.is_some(), "a fork came in");
        let arrival = Arrival {
            dialect,
            query,
            metadata,
            stream: ForkStream { tcp, buffered },
            peer,
            authenticated_as,
            home: Handle::current(),
        };
        match self.arrivals.try_send(arrival) {
            Ok(()) => {
                self.counters.accepted.fetch_add(1, Relaxed);
            }
            Err(error) => {
                tracing::warn!(%peer, "a fork was turned away: too many wait to be taken");
                self.counters.not_taken.fetch_add(1, Relaxed);
                error.into_inner().refuse(ForkRefusal::TryLater, "too many forks at once");
            }
        }
    }

    fn report(&self, peer: SocketAddr, ended: Ended) {
        self.counters.count(ended);
        match ended {
            // What the owner of the switch has to mend.
            Ended::Refused(Refusal::Unauthorized(denied)) => {
                tracing::info!(%peer, reason = %denied, "a fork was refused");
            }
            Ended::Refused(Refusal::NotFound) => {
                tracing::info!(%peer, reason = "no such path", "a fork was refused");
            }
            Ended::Refused(Refusal::Busy) => {
                tracing::info!(%peer, reason = "too many connections at once", "a fork was refused");
            }
            other => tracing::debug!(%peer, reason = ?other, "a connection did not become a fork"),
        }
    }
}

/// Writes the last words and gives the peer a moment to read them: closing at once while more of its bytes come in
/// would reset the connection and take them away.
async fn say_goodbye(mut stream: TcpStream, words: &[u8]) {
    let goodbye = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut bytes = [0; 1_024];
        while stream.read(&mut bytes).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whether it heard them or not, there is no more to say.
    let _ = timeout(GOODBYE_WITHIN, goodbye).await;
}
