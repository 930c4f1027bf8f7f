//! What is recorded how.

use std::{
    path::PathBuf,
    time::{Instant, SystemTime},
};

use tandem_media::SampleRate;

use crate::RecordingKey;

/// What a recording is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RecordingFormat {
    /// PCM of 16 bits in a RIFF file.
    #[default]
    Wav,
    /// Opus in Ogg (RFC 7845), a stream of its own for each channel.
    Ogg,
}

impl RecordingFormat {
    /// The word for it in configuration and API, which is also the ending of its files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Wav => "wav",
            Self::Ogg => "ogg",
        }
    }

    /// The format of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Wav, Self::Ogg].into_iter().find(|format| format.name() == name)
    }
}

/// The channels of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Channels {
    /// Both sides mixed.
    Mono,
    /// The caller left, the agent right.
    #[default]
    Stereo,
}

impl Channels {
    /// How many.
    pub const fn count(self) -> usize {
        match self {
            Self::Mono => 1,
            Self::Stereo => 2,
        }
    }
}

/// How and where calls are recorded.
#[derive(Debug, Clone)]
pub struct RecordingSettings {
    /// The folder; each day has one of its own in it.
    pub folder: PathBuf,
    /// What files are written as.
    pub format: RecordingFormat,
    /// Samples per second of a file, whatever the call's codec is.
    pub rate: SampleRate,
    /// Channels of a file.
    pub channels: Channels,
    /// What files are sealed with.
    pub key: Option<RecordingKey>,
    /// Files are deleted after so many days; none = never.
    pub retention_days: Option<u32>,
    /// A recording ends when the file system has fewer bytes left than this, so that others have room to write.
    pub keep_free: u64,
}

impl Default for RecordingSettings {
    fn default() -> Self {
        Self {
            folder: "recordings".into(),
            format: RecordingFormat::Wav,
            rate: SampleRate::Hz16000,
            channels: Channels::Stereo,
            key: None,
            retention_days: Some(30),
            keep_free: 256 * 1024 * 1024,
        }
    }
}

/// One recording to be made.
#[derive(Debug, Clone)]
pub struct RecordingOrder {
    /// The call, whose id names the file.
    pub call_id: String,
    /// How and where.
    pub settings: RecordingSettings,
    /// The instant at which the file begins.
    pub begin: Instant,
    /// The same on the wall.
    pub started_at: SystemTime,
    /// The rate of the leg: how much room its audio takes on the way to the writer. A wider codec later gets more.
    pub leg_rate: SampleRate,
}
