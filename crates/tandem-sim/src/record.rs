//! What a fake server has seen, for a test to look at and to wait for.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::engine::Received;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The client closed it, with this code and reason if it sent any.
    ByClient(Option<(u16, String)>),
    /// The client went away without a close frame.
    Abandoned,
    /// The server ended it: refused the handshake, closed or dropped it.
    ByServer,
}

/// How far a connection has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Caller audio received, milliseconds.
    pub audio_ms: u64,
    /// Messages received, audio included.
    pub received: u64,
    /// Messages that are written or wait to be written to the socket.
    pub queued: u64,
    /// Messages written to the socket.
    pub sent: u64,
    /// Everything there was to send so far is written.
    pub idle: bool,
    /// The handshake succeeded.
    pub open: bool,
    /// The server has sent its close frame, or is about to drop the connection: nothing more is read.
    pub ending: bool,
    /// The connection is over.
    pub ended: Option<Ending>,
}

/// One connection's record.
#[derive(Debug)]
pub(crate) struct ConnectionRecord {
    pub(crate) progress: watch::Sender<Progress>,
    pub(crate) received: Mutex<Vec<Received>>,
    pub(crate) violations: Mutex<Vec<String>>,
}

/// What all connections of a server have seen.
#[derive(Debug)]
pub(crate) struct ServerRecord {
    connections: Mutex<Vec<Arc<ConnectionRecord>>>,
    count: watch::Sender<usize>,
}

impl ServerRecord {
    pub(crate) fn new() -> Self {
        Self { connections: Mutex::default(), count: watch::Sender::new(0) }
    }

    pub(crate) fn add(&self) -> (usize, Arc<ConnectionRecord>) {
        let record = Arc::new(ConnectionRecord {
            progress: watch::Sender::new(Progress::default()),
            received: Mutex::default(),
            violations: Mutex::default(),
        });
        let mut connections = lock(&self.connections);
        connections.push(Arc::clone(&record));
        self.count.send_replace(connections.len());
        (connections.len() - 1, record)
    }

    pub(crate) fn connection(&self, index: usize) -> Option<Arc<ConnectionRecord>> {
        lock(&self.connections).get(index).cloned()
    }
}

/// A view of a running fake server. Connections are numbered from 0 in the order they were accepted.
#[derive(Debug, Clone)]
pub struct FakeHandle {
    pub(crate) record: Arc<ServerRecord>,
}

impl FakeHandle {
    /// Connections accepted so far, refused ones included.
    pub fn connections(&self) -> usize {
        *self.record.count.borrow()
    }

    /// Connections that are not over.
    pub fn live_connections(&self) -> usize {
        let connections = lock(&self.record.connections);
        connections.iter().filter(|one| one.progress.borrow().ended.is_none()).count()
    }

    /// What connection `index` received, in order. Caller audio is in it when the server keeps it.
    pub fn received(&self, index: usize) -> Vec<Received> {
        self.record.connection(index).map_or_else(Vec::new, |one| lock(&one.received).clone())
    }

    /// What a real server would have objected to on connection `index`, in order.
    pub fn violations(&self, index: usize) -> Vec<String> {
        self.record.connection(index).map_or_else(Vec::new, |one| lock(&one.violations).clone())
    }

    /// The violations of all connections.
    pub fn all_violations(&self) -> Vec<String> {
        (0..self.connections()).flat_map(|index| self.violations(index)).collect()
    }

    /// How far connection `index` has come; nothing of all when there is no such connection.
    pub fn progress(&self, index: usize) -> Progress {
        let connection = self.record.connection(index);
        connection.map_or_else(Progress::default, |one| one.progress.borrow().clone())
    }

    /// Caller audio that connection `index` received, milliseconds.
    pub fn caller_audio_ms(&self, index: usize) -> u64 {
        self.progress(index).audio_ms
    }

    /// Caller audio received on all connections, milliseconds.
    pub fn total_caller_audio_ms(&self) -> u64 {
        (0..self.connections()).map(|index| self.caller_audio_ms(index)).sum()
    }

    /// Messages written to the socket of connection `index`.
    pub fn sent(&self, index: usize) -> u64 {
        self.progress(index).sent
    }

    /// Waits until `count` connections were accepted.
    pub async fn connected(&self, count: usize) {
        let mut seen = self.record.count.subscribe();
        seen.wait_for(|connections| *connections >= count)
            .await
            .expect("the record outlives the wait");
    }

    /// Waits until connection `index` has received `audio_ms` of caller audio and has written all there is to send at
    /// that audio time, or is over. Returns how far it is then: `sent` messages are on their way to the client. A client
    /// that does not read meanwhile must not be sent more than its socket holds; see [`Self::reached`].
    pub async fn settled(&self, index: usize, audio_ms: u64) -> Progress {
        self.reached(index, |progress| progress.audio_ms >= audio_ms && progress.idle).await
    }

    /// As [`Self::settled`], for a number of messages received, audio included.
    pub async fn answered(&self, index: usize, received: u64) -> Progress {
        self.reached(index, |progress| progress.received >= received && progress.idle).await
    }

    /// Waits until connection `index` is over and tells how it ended.
    pub async fn ended(&self, index: usize) -> Ending {
        let progress = self.reached(index, |_| false).await;
        progress.ended.expect("the wait was for the end")
    }

    /// Waits until connection `index` has come as far as `reached` asks, or is over.
    pub async fn reached(
        &self,
        index: usize,
        mut reached: impl FnMut(&Progress) -> bool,
    ) -> Progress {
        self.connected(index + 1).await;
        let connection = self.record.connection(index).expect("it is connected");
        let mut seen = connection.progress.subscribe();
        let found = seen.wait_for(|progress| progress.ended.is_some() || reached(progress)).await;
        found.expect("the record outlives the wait").clone()
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
