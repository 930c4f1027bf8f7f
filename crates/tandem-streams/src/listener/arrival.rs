//! A fork that came in.

use std::{io, net::SocketAddr};

use bytes::Bytes;
use tandem_net::{ServerWebSocket, SocketLimits, close_frame};
use tokio::runtime::Handle;

use super::say_goodbye;
use crate::{AuthenticatedAs, Dialect};

/// A fork's websocket that was let in, and all that is known of it before its first frame of audio.
#[derive(Debug)]
pub struct Arrival {
    /// The edition of the module, by the path.
    pub dialect: Dialect,
    /// The pairs of the query without `token`, percent-decoded, in order.
    pub query: Vec<(String, String)>,
    /// The first message if it was text, whole, at most 64 KiB and not always UTF-8. It comes again on `stream`.
    ///
    /// `mod_audio_stream` swaps metadata and first audio now and then: what is right behind the audio is taken, too.
    /// It may come later still, as a text on `stream`, or never: a `call` in the URL is surer.
    pub metadata: Option<Bytes>,
    /// The websocket itself.
    pub stream: ForkStream,
    /// Who connected.
    pub peer: SocketAddr,
    /// What it was let in for.
    pub authenticated_as: AuthenticatedAs,
    /// Where goodbyes are said.
    pub(super) home: Handle,
}

/// An open websocket as a socket that no runtime knows, to be carried to the thread that will poll it.
#[derive(Debug)]
pub struct ForkStream {
    /// Non-blocking; the upgrade was answered.
    pub tcp: std::net::TcpStream,
    /// What was read of the websocket already.
    pub buffered: Vec<u8>,
}

/// Why an arrival is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForkRefusal {
    /// There is no such call, or it may have no fork: close code 1008.
    NotWanted,
    /// There is no room for it now: close code 1013.
    TryLater,
}

impl ForkStream {
    /// The websocket, polled by the tokio runtime this is called in. It fails when the peer is gone already.
    pub fn open(self, limits: SocketLimits) -> io::Result<ServerWebSocket> {
        let stream = tokio::net::TcpStream::from_std(self.tcp)?;
        ServerWebSocket::new(stream, &self.buffered, limits)
    }
}

impl Arrival {
    /// The channel's uuid, when the signed token or the query gives it. The signed one is proven, the other is not.
    pub fn call(&self) -> Option<&str> {
        match &self.authenticated_as {
            AuthenticatedAs::Call(call) => Some(call),
            AuthenticatedAs::User(_) | AuthenticatedAs::Token | AuthenticatedAs::Loopback => {
                self.query.iter().find(|(name, _)| name == "call").map(|(_, call)| call.as_str())
            }
        }
    }

    /// Nothing has come on the websocket in the two seconds since it was opened; its query or token names the call.
    ///
    /// A module whose call ended while it connected leaves such a connection behind for good. One that speaks already
    /// is not to be replaced by it, and who takes it gives it up when nothing comes in the time allowed for media.
    pub fn is_silent(&self) -> bool {
        self.stream.buffered.is_empty()
    }

    /// Closes the websocket with a close frame that holds `reason`, in the background.
    pub fn refuse(self, refusal: ForkRefusal, reason: &str) {
        let code = match refusal {
            ForkRefusal::NotWanted => 1008,
            ForkRefusal::TryLater => 1013,
        };
        let frame = close_frame(code, reason);
        self.home.spawn(async move {
            if let Ok(stream) = tokio::net::TcpStream::from_std(self.stream.tcp) {
                say_goodbye(stream, &frame).await;
            }
        });
    }
}
