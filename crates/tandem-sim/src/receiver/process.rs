//! A receiver that runs as a process, as a test holds it.

use std::{
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Map, Value};

/// A request as the receiver wrote it down.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct LoggedRequest {
    /// Since the receiver was started.
    pub at_ms: u64,
    /// From 1, in the order in which they came.
    pub connection: u64,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: String,
    /// Of HTTP.
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Without the question mark.
    pub query: String,
    /// The path whose behaviour it got.
    pub does: String,
    /// Names in small letters.
    pub headers: Map<String, Value>,
    /// JSON, or a string when it was none.
    pub body: Value,
    /// `X-Webhook-ID`.
    pub invocation_id: Option<String>,
    /// How often this id has come, from 1.
    pub nth: Option<u64>,
}

/// A running receiver; dropping it kills the process.
#[derive(Debug)]
pub struct ReceiverProcess {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    requests: Arc<(Mutex<Vec<LoggedRequest>>, Condvar)>,
}

impl ReceiverProcess {
    /// Starts `command`, a receiver that logs to its standard output, and waits until it listens.
    ///
    /// # Errors
    ///
    /// When it cannot be started or says something else first.
    pub fn spawn(mut command: Command) -> io::Result<Self> {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))?;
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.parse().map_err(io::Error::other)?;
            }
        };
        let requests = Arc::new((Mutex::new(Vec::new()), Condvar::new()));
        let noted = Arc::clone(&requests);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(request) = serde_json::from_str(&line) {
                    noted.0.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                    noted.1.notify_all();
                }
            }
        });
        Ok(Self { child, address, requests })
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.requests.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What came so far, as soon as `enough` says so of it; after `patience` whatever there is.
    pub fn wait(
        &self,
        patience: Duration,
        enough: impl Fn(&[LoggedRequest]) -> bool,
    ) -> Vec<LoggedRequest> {
        let until = Instant::now() + patience;
        let mut requests = self.requests.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !enough(&requests) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.requests.1.wait_timeout(requests, left);
            requests = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        requests.clone()
    }
}

impl Drop for ReceiverProcess {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
