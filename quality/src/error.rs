//! What can go wrong.

use std::{io, path::PathBuf};

/// Why the sound of the report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum QualityError {
    #[error("espeak-ng cannot be run: {0}")]
    NoSpeech(io::Error),
    #[error("espeak-ng failed to say clip {clip}: {reason}")]
    Speech { clip: String, reason: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {source}", path.display())]
    Wave { path: PathBuf, source: hound::Error },
    #[error("{} is not usable as a clip: {reason}", path.display())]
    Clip { path: PathBuf, reason: &'static str },
}
