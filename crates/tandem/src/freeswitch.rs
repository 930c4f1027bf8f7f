//! FreeSWITCH beside Tandem.
//!
//! - [`dialplan`]: the XML with which its dialplan hands calls over.

mod calls;
pub mod dialplan;
mod side;
pub mod sidecar;
