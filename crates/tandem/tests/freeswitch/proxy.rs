//! A wire that can be cut: TCP connections pass through it, are counted, and end when a test wants them to.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{Notify, watch},
    task::{AbortHandle, JoinHandle},
};

use crate::common::wait_until;

/// Which end of a connection notices that it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CutSide {
    /// Whoever connected: the other end goes on in good faith.
    Dialler,
    /// Whoever listened.
    Listener,
}

/// Bytes that a connection has carried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// From the dialler to the listener.
    pub(crate) up: u64,
    /// Back.
    pub(crate) down: u64,
}

/// The wire. Dropped, all its connections end.
pub(crate) struct Proxy {
    /// Where it is dialled.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    runtime: Handle,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    upstream: watch::Sender<Option<SocketAddr>>,
    connections: Mutex<Vec<Arc<Connection>>>,
    taken: AtomicUsize,
    /// What diallers have said, of a wire that is listened in on.
    said: Option<Mutex<Vec<u8>>>,
    /// The beginning of what each was answered.
    answers: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Connection {
    up: AtomicU64,
    down: AtomicU64,
    cut: Mutex<Option<CutSide>>,
    woken: Notify,
    pump: Mutex<Option<AbortHandle>>,
}

impl Proxy {
    /// A wire on a free port, whose far end is told later: what connects before waits.
    pub(crate) fn start(runtime: &Handle, listen_in: bool) -> Self {
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("loopback has a port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            upstream: watch::channel(None).0,
            connections: Mutex::default(),
            taken: AtomicUsize::new(0),
            said: listen_in.then(Mutex::default),
            answers: Mutex::default(),
        });
        let accepting = runtime.spawn(Arc::clone(&shared).accept(listener));
        let runtime = runtime.clone();
        Self { address, shared, runtime, accepting: Mutex::new(Some(accepting)) }
    }

    /// Connects the far end.
    pub(crate) fn lead_to(&self, upstream: SocketAddr) {
        self.shared.upstream.send_replace(Some(upstream));
    }

    /// Ends every connection at one end.
    pub(crate) fn cut(&self, side: CutSide) {
        for connection in locked(&self.shared.connections).iter() {
            locked(&connection.cut).get_or_insert(side);
            connection.woken.notify_one();
        }
    }

    /// Ends every connection at both ends, and takes no more.
    pub(crate) fn close(&self) {
        if let Some(accepting) = locked(&self.accepting).take() {
            accepting.abort();
        }
        for connection in locked(&self.shared.connections).drain(..) {
            if let Some(pump) = locked(&connection.pump).take() {
                pump.abort();
            }
        }
    }

    /// Takes connections again, at the same address.
    pub(crate) fn open(&self) {
        let mut listener = None;
        wait_until("the port to be had again", || {
            listener = self.runtime.block_on(TcpListener::bind(self.address)).ok();
            listener.is_some()
        });
        let accept = Arc::clone(&self.shared).accept(listener.expect("it was waited for"));
        *locked(&self.accepting) = Some(self.runtime.spawn(accept));
    }

    /// Connections that stand at either end.
    pub(crate) fn connections(&self) -> usize {
        locked(&self.shared.connections).len()
    }

    /// What each connection that stands has carried so far, the oldest first.
    pub(crate) fn carried(&self) -> Vec<Carried> {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let connections = locked(&self.shared.connections);
        connections.iter().map(|it| Carried { up: get(&it.up), down: get(&it.down) }).collect()
    }

    /// Connections so far.
    pub(crate) fn taken(&self) -> usize {
        self.shared.taken.load(Ordering::Relaxed)
    }

    /// What each connection was answered first, cut to a line, in the order of the answers.
    pub(crate) fn answers(&self) -> Vec<String> {
        locked(&self.shared.answers).clone()
    }

    /// How often the diallers have said this.
    pub(crate) fn said(&self, text: &str) -> usize {
        let said = self.shared.said.as_ref().expect("it is listened in on");
        let said = locked(said);
        said.windows(text.len()).filter(|window| *window == text.as_bytes()).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        while let Ok((dialler, _)) = listener.accept().await {
            let connection = Arc::new(Connection::default());
            self.taken.fetch_add(1, Ordering::Relaxed);
            locked(&self.connections).push(Arc::clone(&connection));
            let pump = tokio::spawn(Arc::clone(&self).run(dialler, Arc::clone(&connection)));
            *locked(&connection.pump) = Some(pump.abort_handle());
        }
    }

    async fn run(self: Arc<Self>, dialler: TcpStream, connection: Arc<Connection>) {
        let mut upstream = self.upstream.subscribe();
        let address = match upstream.wait_for(Option::is_some).await {
            Ok(address) => address.expect("it was waited for"),
            Err(_) => return,
        };
        if let Ok(listener) = TcpStream::connect(address).await {
            dialler.set_nodelay(true).ok();
            listener.set_nodelay(true).ok();
            self.pump(dialler, listener, &connection).await;
        }
        locked(&self.connections).retain(|other| !Arc::ptr_eq(other, &connection));
    }

    /// Carries bytes until both ends are gone; one that is not told of the cut may speak on, to nobody.
    async fn pump(&self, dialler: TcpStream, listener: TcpStream, connection: &Connection) {
        let (mut dialler, mut listener) = (Some(dialler), Some(listener));
        let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
        let mut quiet = false;
        loop {
            tokio::select! {
                () = connection.woken.notified() => {
                    quiet = true;
                    match *locked(&connection.cut) {
                        Some(CutSide::Dialler) => dialler = None,
                        Some(CutSide::Listener) => listener = None,
                        None => {}
                    }
                }
                read = read(&mut dialler, &mut up) => {
                    let bytes = &up[..read];
                    connection.up.fetch_add(read as u64, Ordering::Relaxed);
                    if let Some(said) = &self.said {
                        locked(said).extend_from_slice(bytes);
                    }
                    if read == 0 {
                        dialler = None;
                    }
                    pass(&mut listener, bytes).await;
                }
                read = read(&mut listener, &mut down) => {
                    let bytes = &down[..read];
                    if connection.down.fetch_add(read as u64, Ordering::Relaxed) == 0 {
                        let answer = String::from_utf8_lossy(bytes);
                        let line = answer.lines().next().unwrap_or_default().to_owned();
                        locked(&self.answers).push(line);
                    }
                    if read == 0 {
                        listener = None;
                    }
                    pass(&mut dialler, bytes).await;
                }
            }
            if !quiet && (dialler.is_none() || listener.is_none()) {
                return;
            }
            if dialler.is_none() && listener.is_none() {
                return;
            }
        }
    }
}

/// The next bytes; 0 at the end. Waits for ever where there is nobody.
async fn read(from: &mut Option<TcpStream>, buffer: &mut [u8]) -> usize {
    match from {
        Some(from) => from.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn pass(to: &mut Option<TcpStream>, bytes: &[u8]) {
    if let Some(stream) = to
        && stream.write_all(bytes).await.is_err()
    {
        *to = None;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
