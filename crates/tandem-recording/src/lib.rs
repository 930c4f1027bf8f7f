//! Recordings of calls: both sides on one time line, written outside the media workers.
//!
//! A call's leg hands a copy of each frame to two [`tandem_call::Tap`]s, which put it into a ring and never wait. Threads of the
//! [`Recorder`] empty the rings, lay the pieces where they belong in time, and write them: WAV or Ogg/Opus, the caller on the left and
//! the agent on the right, sealed with AES-256-GCM where a key is given. A file can be played, or unsealed and played, whatever
//! becomes of the process while it is written.
//!
//! `ear` and `ring` are the way from the frame path, `mixer` the time line, `wav`, `opus_file` and `ogg` the formats, `sealing` the
//! encryption, `take` one recording on its way to the disk, `recorder` the threads; `folder` names the files and `retention` deletes
//! the old ones. [`inspect`] reads them again.

mod container;
mod disk;
mod ear;
mod folder;
mod inspect;
mod key;
mod mixer;
mod ogg;
mod opus_file;
mod random;
mod recorder;
mod recording;
mod report;
mod retention;
mod ring;
mod sealing;
mod settings;
mod store;
mod take;
mod wav;

pub use disk::free_bytes;
pub use ear::{Ear, EarDrain};
pub use folder::probe_folder;
pub use inspect::{About, Contents, InspectError, examine, inspect, unseal_file};
pub use key::{KeyError, KeyId, RecordingKey};
pub use recorder::Recorder;
pub use recording::Recording;
pub use report::{RecordingEnd, RecordingReport};
pub use retention::{Swept, expiry, sweep};
pub use sealing::{UnsealError, Unsealed, is_sealed, unseal};
pub use settings::{Channels, RecordingFormat, RecordingOrder, RecordingSettings};
