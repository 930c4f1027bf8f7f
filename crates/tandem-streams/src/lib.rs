//! Media over a websocket: FreeSWITCH audio forks as pure legs, and the listener they come in at.

mod converter;
mod dialect;
mod downlink;
mod files;
mod handshake;
mod ledger;
mod leg;
mod listener;
mod marks;
mod message;
mod metadata;
mod notice;
mod paced;
mod reel;
mod shape;
mod speech_queue;
mod timeline;
mod token;
mod uplink;

pub use dialect::{Dialect, Playback};
pub use handshake::{AuthenticatedAs, CredentialsError, ForkCredentials};
pub use leg::{BinaryNote, ForkCounters, ForkLeg, ForkLegConfig, LegOrder};
pub use listener::{
    Arrival, ForkListener, ForkRefusal, ForkStream, ListenError, ListenerSettings, ListenerStats,
};
pub use message::Message;
pub use metadata::{Metadata, MetadataError};
pub use notice::{StreamError, TextNote};
pub use shape::{Channels, ShapeError, StreamShape};
pub use token::{TokenError, sign_token, verify_token};
