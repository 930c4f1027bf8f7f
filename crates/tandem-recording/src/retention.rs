//! Old recordings are deleted: files that this crate made, and nothing else.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use jiff::{Span, civil::Date, tz::TimeZone};

use crate::folder::{day, day_of_folder, is_recording};

/// What one sweep did.
#[derive(Debug, Default)]
pub struct Swept {
    /// Files deleted.
    pub deleted: usize,
    /// Their bytes.
    pub bytes: u64,
    /// The first file that could not be deleted, and why.
    pub failure: Option<(PathBuf, io::Error)>,
    /// There are more to be deleted.
    pub more: bool,
}

/// Deletes the recordings in `folder` of days that are more than `keep_days` before that of `now` (UTC), `most` at most.
///
/// Deleted are files whose folder's name is a day and whose own name is that of a recording, and folders that are empty then.
/// Links are neither followed nor deleted.
pub fn sweep(folder: &Path, keep_days: u32, now: SystemTime, most: usize) -> io::Result<Swept> {
    let mut swept = Swept::default();
    let days = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(swept),
        days => days?,
    };
    let Some(oldest) = before(day(now), keep_days) else { return Ok(swept) };
    for entry in days {
        let entry = entry?;
        let of_day = entry.file_name().to_str().and_then(day_of_folder);
        if of_day.is_some_and(|day| day < oldest) && entry.file_type()?.is_dir() {
            sweep_day(&entry.path(), most, &mut swept)?;
            if swept.more {
                break;
            }
        }
    }
    Ok(swept)
}

/// When a recording that began at `started_at` is deleted that is kept for `days`.
pub fn expiry(started_at: SystemTime, days: u32) -> SystemTime {
    let midnight = day(started_at).to_zoned(TimeZone::UTC).map(SystemTime::from);
    let kept = Duration::from_secs((u64::from(days) + 1) * 86_400);
    midnight.unwrap_or(started_at) + kept
}

fn sweep_day(folder: &Path, most: usize, swept: &mut Swept) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_str().is_some_and(is_recording);
        if !is_ours || !entry.file_type()?.is_file() {
            continue;
        }
        if swept.deleted == most {
            swept.more = true;
            return Ok(());
        }
        let bytes = entry.metadata()?.len();
        match fs::remove_file(entry.path()) {
            Ok(()) => {
                swept.deleted += 1;
                swept.bytes += bytes;
            }
            Err(error) => {
                swept.failure.get_or_insert((entry.path(), error));
            }
        }
    }
    fs::remove_dir(folder).ok(); // Only an empty one can be.
    Ok(())
}

fn before(day: Date, days: u32) -> Option<Date> {
    day.checked_sub(Span::new().try_days(days).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(day: &str) -> SystemTime {
        let day: Date = day.parse().unwrap();
        SystemTime::from(day.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).unwrap())
    }

    #[test]
    fn only_old_recordings_are_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let id = "0123456789abcdef".repeat(2);
        let make = |path: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"1234").unwrap();
        };
        let old =
            [format!("2026-10-01/call_{id}.wav"), format!("2026-10-02/call_{id}-2.ogg.sealed")];
        let kept = [
            format!("2026-10-02/call_{id}.txt"),
            "2026-10-02/notes.wav".to_owned(),
            format!("2026-10-22/call_{id}.wav"),
            format!("2026-11-21/call_{id}.wav"),
            format!("2027-01-01/call_{id}.wav"),
            format!("archive/call_{id}.wav"),
            format!("call_{id}.wav"),
        ];
        old.iter().chain(&kept).for_each(|path| make(path));
        let outside = tempfile::tempdir().unwrap();
        let linked = format!("call_{id}.wav");
        fs::write(outside.path().join(&linked), b"x").unwrap();
        std::os::unix::fs::symlink(outside.path(), root.join("2026-09-01")).unwrap();
        let target = outside.path().join(&linked);
        std::os::unix::fs::symlink(&target, root.join(format!("2026-10-02/call_{id}-3.wav")))
            .unwrap();

        let swept = sweep(root, 30, at("2026-11-21"), 100).unwrap();
        assert_eq!((swept.deleted, swept.bytes, swept.more), (2, 8, false));
        assert!(swept.failure.is_none());
        assert!(old.iter().all(|path| !root.join(path).exists()));
        assert!(kept.iter().all(|path| root.join(path).exists()));
        assert!(target.exists());
        assert!(!root.join("2026-10-01").exists(), "an empty folder goes, too");
        assert!(root.join("2026-10-02").exists());
    }

    #[test]
    fn a_sweep_is_bounded_and_a_folder_that_is_not_there_is_clean() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("2020-01-01");
        fs::create_dir(&folder).unwrap();
        for n in 0..5 {
            fs::write(folder.join(format!("call_{n:032x}.wav")), b"").unwrap();
        }
        let now = at("2026-11-21");
        let swept = sweep(directory.path(), 1, now, 3).unwrap();
        assert_eq!((swept.deleted, swept.more), (3, true));
        let swept = sweep(directory.path(), 1, now, 3).unwrap();
        assert_eq!((swept.deleted, swept.more), (2, false));
        assert_eq!(sweep(&directory.path().join("no"), 1, now, 3).unwrap().deleted, 0);
        assert_eq!(sweep(directory.path(), u32::MAX, now, 3).unwrap().deleted, 0);
    }

    #[test]
    fn what_expires_is_deleted_on_that_day_and_not_before() {
        let started = at("2026-10-21");
        assert_eq!(expiry(started, 30), at("2026-11-21") - Duration::from_secs(43_200));
        for (day, deleted) in [("2026-11-20", 0), ("2026-11-21", 1)] {
            let directory = tempfile::tempdir().unwrap();
            fs::create_dir(directory.path().join("2026-10-21")).unwrap();
            let file = directory.path().join(format!("2026-10-21/call_{:032x}.wav", 1));
            fs::write(file, b"").unwrap();
            assert_eq!(sweep(directory.path(), 30, at(day), 9).unwrap().deleted, deleted, "{day}");
        }
    }
}
