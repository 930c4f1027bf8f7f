//! The requests that came, written down, and how often each invocation did.

use std::{
    collections::HashMap,
    io::Write,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde_json::{Map, Value, json};

use super::Request;

/// Where requests are written down.
pub(super) struct Log {
    begun: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    sink: Box<dyn Write + Send>,
    seen: HashMap<String, u64>,
}

impl Log {
    pub(super) fn new(sink: Box<dyn Write + Send>) -> Self {
        let inner = Inner { sink, seen: HashMap::new() };
        Self { begun: Instant::now(), inner: Mutex::new(inner) }
    }

    /// Writes `text` at once. Nobody to read it is no reason to stop.
    pub(super) fn write(&self, text: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.write(text);
    }

    /// Writes down `request`, which is answered as `does` says, and returns how often its invocation has come.
    pub(super) fn request(&self, request: &Request, does: &str, connection: u64) -> u64 {
        let headers: Map<String, Value> = request
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
            .collect();
        let body = serde_json::from_slice(&request.body)
            .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&request.body)));
        let invocation = request.header("x-webhook-id");
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let nth = invocation.map(|id| {
            let nth = inner.seen.entry(id.to_owned()).or_default();
            *nth += 1;
            *nth
        });
        let line = json!({
            "at_ms": self.begun.elapsed().as_millis() as u64,
            "connection": connection,
            "protocol": request.protocol,
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "does": does,
            "headers": headers,
            "body": body,
            "invocation_id": invocation,
            "nth": nth,
        });
        inner.write(&format!("{line}\n"));
        nth.unwrap_or(1)
    }
}

impl Inner {
    fn write(&mut self, text: &str) {
        self.sink.write_all(text.as_bytes()).and_then(|()| self.sink.flush()).ok();
    }
}
