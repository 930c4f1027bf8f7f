//! How much the daemon takes on, and where it keeps its records.

use std::{path::PathBuf, time::Duration};

use super::{reader::Section, secret::Surroundings};

/// Limits of the whole daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Calls at once; more get 503.
    pub max_calls: u32,
    /// How long a call rings while the model is dialled.
    pub answer_after: Duration,
    /// How long SIGTERM waits for calls to end.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_calls: 1000,
            answer_after: Duration::from_millis(1500),
            drain: Duration::from_secs(30),
        }
    }
}

/// The call records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordsConfig {
    /// One JSON line per call is appended to this file.
    pub path: PathBuf,
}

impl Default for RecordsConfig {
    fn default() -> Self {
        Self { path: "calls.jsonl".into() }
    }
}

/// Reads `[limits]`.
pub(crate) fn read_limits(mut section: Section<'_, '_>) -> Limits {
    let defaults = Limits::default();
    let limits = Limits {
        max_calls: section.count("max_calls", 1..=100_000).unwrap_or(defaults.max_calls),
        answer_after: section
            .millis("answer_after_ms", 0..=10_000)
            .unwrap_or(defaults.answer_after),
        drain: section.seconds("drain_s", 0..=3600).unwrap_or(defaults.drain),
    };
    section.finish(&[]);
    limits
}

/// Reads `[records]`.
pub(crate) fn read_records(
    mut section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> RecordsConfig {
    let defaults = RecordsConfig::default();
    let path = section.parsed("path", |path| {
        if path.trim().is_empty() || path.ends_with('/') {
            return Err("must name a file, as in \"calls.jsonl\"".into());
        }
        Ok(surroundings.directory.join(path))
    });
    let records =
        RecordsConfig { path: path.unwrap_or_else(|| surroundings.directory.join(defaults.path)) };
    section.finish(&[]);
    records
}
