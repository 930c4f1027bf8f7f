//! What became of a recording.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tandem_media::SampleRate;

use crate::{Channels, RecordingFormat};

/// Why a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RecordingEnd {
    /// The call was over.
    CallEnded,
    /// The disk was full, or nearly.
    DiskFull,
    /// The file could not be opened or written.
    Failed,
    /// It was as long as a file may be.
    TooLong,
}

impl RecordingEnd {
    /// The word for it in the call record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CallEnded => "call_ended",
            Self::DiskFull => "disk_full",
            Self::Failed => "failed",
            Self::TooLong => "too_long",
        }
    }
}

/// A recording that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingReport {
    /// `rec_` and 32 hex digits of a UUIDv7.
    pub id: String,
    /// The file; none when there is nothing to play.
    pub path: Option<PathBuf>,
    /// What it is written as.
    pub format: RecordingFormat,
    /// Its channels.
    pub channels: Channels,
    /// Its samples per second.
    pub rate: SampleRate,
    /// How long it is, pauses included.
    pub duration: Duration,
    /// Bytes of the file.
    pub size_bytes: u64,
    /// When it began.
    pub started_at: SystemTime,
    /// How much of it is silence because it was paused.
    pub paused: Duration,
    /// Audio of either side that is silence because the disk was too slow.
    pub dropped: Duration,
    /// The file is sealed.
    pub sealed: bool,
    /// Why it ended.
    pub end: RecordingEnd,
    /// What went wrong, if anything.
    pub error: Option<String>,
    /// When it will be deleted.
    pub expires_at: Option<SystemTime>,
}
