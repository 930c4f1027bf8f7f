//! Websocket client and server, TLS, backoff, worker threads and the pacing timer.

mod backoff;
mod dial;
mod framing;
mod pacing;
mod server_websocket;
mod tls;
mod websocket;
mod worker;

pub use backoff::Backoff;
pub use framing::{FrameError, FrameReader, Framed, close_frame};
pub use pacing::PacingTimer;
pub use server_websocket::{ServerWebSocket, SocketLimits, accept_key};
pub use tls::{TlsError, tls_client};
pub use websocket::{
    Closure, ConnectError, Incoming, MessageKind, SendError, WebSocket, WebSocketRequest, connect,
};
pub use worker::{Workers, WorkersBusy};
