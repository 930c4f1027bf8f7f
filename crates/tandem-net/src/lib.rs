//! Websocket client, TLS, backoff, worker threads and the pacing timer.

mod backoff;
mod dial;
mod pacing;
mod tls;
mod websocket;
mod worker;

pub use backoff::Backoff;
pub use pacing::PacingTimer;
pub use tls::TlsError;
pub use websocket::{
    Closure, ConnectError, Incoming, SendError, WebSocket, WebSocketRequest, connect,
};
pub use worker::{Workers, WorkersBusy};
