//! FreeSWITCH beside Tandem.
//!
//! - [`dialplan`]: the XML with which its dialplan hands calls over.
//! - [`sidecar`]: its forks and event sockets beside a running daemon.
//! - `controls` and `tools`: what agents may do with their channels, and how it is carried out.

mod calls;
pub(crate) mod controls;
pub mod dialplan;
mod handover;
mod orphans;
mod side;
pub mod sidecar;
pub(crate) mod tools;
