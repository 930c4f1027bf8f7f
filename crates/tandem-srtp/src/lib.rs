//! SRTP and SRTCP (RFC 3711, 6188, 7714), their keys by SDES (RFC 4568) or DTLS (RFC 5764), and the security of one
//! leg's datagrams as a machine without sockets or clock.
//!
//! [`SecureTransport`] stands between a leg's sockets and the leg: the leg knows nothing of it. What was agreed on in
//! SDP comes as [`MediaSecurity`]. Keys are wiped when dropped and never printed.

mod counter;
mod derivation;
mod dtls;
mod dtls_attempt;
mod dtls_records;
mod error;
mod fingerprint;
mod handshakes;
mod identity;
mod key;
mod media_security;
mod mki;
mod packet;
mod path;
mod profile;
mod receiver;
mod replay;
mod sdes;
mod secure_transport;
mod sender;
#[cfg(test)]
mod testing;
mod transform;

pub use dtls::{DtlsError, DtlsRole};
pub use error::SrtpError;
pub use fingerprint::Fingerprint;
pub use identity::{DtlsIdentity, NoIdentity};
pub use key::{MasterKey, NoRandomness};
pub use media_security::MediaSecurity;
pub use mki::Mki;
pub use packet::Protocol;
pub use profile::Profile;
pub use receiver::Receiver;
pub use sdes::{CryptoAttribute, SdesError};
pub use secure_transport::{
    Handshake, Peer, Port, SecureTransport, SecurityCounters, SecurityEvent,
};
pub use sender::{OVERHEAD, Sender};
