//! FreeSWITCH beside Tandem.
//!
//! - [`dialplan`]: the XML with which its dialplan hands calls over.
//! - [`sidecar`]: its forks and event sockets beside a running daemon.
//! - `controls`, `asked` and `tools`: what agents may do with their channels, what they ask for, and how it is carried out.

mod asked;
mod calls;
pub(crate) mod controls;
pub mod dialplan;
mod facts;
mod fork_settings;
mod given_back;
mod handover;
mod lone;
mod orphans;
mod side;
pub mod sidecar;
pub(crate) mod tools;
mod whereabouts;
