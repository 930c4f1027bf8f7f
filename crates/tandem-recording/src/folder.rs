//! Where recordings lie and what they are called: `2026-11-21/call_0192….wav`, sealed `.wav.sealed`.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::{RecordingFormat, RecordingSettings};

/// Recordings of one call in one folder.
const MOST: u32 = 100;

/// Makes the file for a recording of `call_id` that began at `started_at`, readable by its owner only.
pub(crate) fn create(
    settings: &RecordingSettings,
    call_id: &str,
    started_at: SystemTime,
) -> io::Result<(File, PathBuf)> {
    let folder = settings.folder.join(day(started_at).to_string());
    make_folder(&folder)?;
    for number in 1..=MOST {
        let path = folder.join(file_name(settings, call_id, number));
        let opened =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
        match opened {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            opened => return opened.map(|file| (file, path)),
        }
    }
    Err(io::Error::other("the call has too many recordings"))
}

/// The day of `at`, in UTC.
pub(crate) fn day(at: SystemTime) -> Date {
    let at = Timestamp::try_from(at).unwrap_or(Timestamp::UNIX_EPOCH);
    at.to_zoned(TimeZone::UTC).date()
}

/// The day that a folder's name stands for, if it is one of ours.
pub(crate) fn day_of_folder(name: &str) -> Option<Date> {
    let shape = |(at, byte): (usize, u8)| match at {
        4 | 7 => byte == b'-',
        _ => byte.is_ascii_digit(),
    };
    let is_date = name.len() == 10 && name.bytes().enumerate().all(shape);
    if is_date { name.parse().ok() } else { None }
}

/// Whether a file of that name is a recording of ours.
pub(crate) fn is_recording(name: &str) -> bool {
    let name = name.strip_suffix(".sealed").unwrap_or(name);
    let Some((stem, ending)) = name.rsplit_once('.') else { return false };
    let (id, number) = stem.split_once('-').unwrap_or((stem, "2"));
    let is_id = id.strip_prefix("call_").is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
    });
    is_id
        && RecordingFormat::from_name(ending).is_some()
        && (1..=3).contains(&number.len())
        && number.bytes().all(|byte| byte.is_ascii_digit())
}

/// Makes and deletes a file in `folder` or, where that does not exist yet, in the nearest folder above it that does. Says what
/// is to be said about it.
pub fn probe_folder(folder: &Path) -> io::Result<String> {
    let existing = folder.ancestors().find(|it| it.is_dir());
    let existing = existing.filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let probe = existing.join(format!(".tandem-check-{}", std::process::id()));
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&probe)?;
    drop(opened);
    fs::remove_file(&probe)?;
    if existing != folder {
        return Ok("will be made".into());
    }
    let mode = fs::metadata(folder)?.permissions().mode() & 0o777;
    Ok(if mode & 0o077 == 0 {
        "can be written".into()
    } else {
        format!("can be written; others may look into it (mode {mode:o})")
    })
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn file_name(settings: &RecordingSettings, call_id: &str, number: u32) -> String {
    let number = if number == 1 { String::new() } else { format!("-{number}") };
    let ending = settings.format.name();
    let sealed = if settings.key.is_some() { ".sealed" } else { "" };
    format!("{call_id}{number}.{ending}{sealed}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::RecordingKey;

    #[test]
    fn files_are_their_owners_alone_and_never_written_over() {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = RecordingSettings {
            folder: directory.path().join("deep/recordings"),
            ..RecordingSettings::default()
        };
        let id = format!("call_{}", "0a".repeat(16));
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_000_000);
        let paths: Vec<PathBuf> = (0..2).map(|_| create(&settings, &id, at).unwrap().1).collect();
        settings.key = Some(RecordingKey::parse(&"1".repeat(64)).unwrap());
        let sealed = create(&settings, &id, at).unwrap().1;
        let folder = settings.folder.join("2026-11-18");
        assert_eq!(paths, [format!("{id}.wav"), format!("{id}-2.wav")].map(|it| folder.join(it)));
        assert_eq!(sealed, folder.join(format!("{id}.wav.sealed")));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&paths[0]), mode(&folder), mode(&settings.folder)), (0o600, 0o700, 0o700));
        for path in [&paths[0], &paths[1], &sealed] {
            assert!(is_recording(path.file_name().unwrap().to_str().unwrap()), "{path:?}");
        }
    }

    #[test]
    fn only_names_of_ours_are_ours() {
        let id = "0123456789abcdef".repeat(2);
        for (name, ours) in [
            (format!("call_{id}.wav"), true),
            (format!("call_{id}.ogg.sealed"), true),
            (format!("call_{id}-12.ogg"), true),
            (format!("call_{id}.txt"), false),
            (format!("call_{id}.wav.bak"), false),
            (format!("call_{id}-x.wav"), false),
            (format!("call_{id}-.wav"), false),
            (format!("call_{}.wav", &id[1..]), false),
            (format!("call_{}.wav", id.to_uppercase()), false),
            ("notes.wav".into(), false),
            (".wav".into(), false),
        ] {
            assert_eq!(is_recording(&name), ours, "{name}");
        }
        for (name, ours) in [
            ("2026-11-18", true),
            ("2026-02-30", false),
            ("2026-1-18", false),
            ("+026-11-18", false),
            ("archive", false),
        ] {
            assert_eq!(day_of_folder(name).is_some(), ours, "{name}");
        }
    }

    #[test]
    fn a_folder_is_probed_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(probe_folder(directory.path()).unwrap(), "can be written");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(probe_folder(directory.path()).unwrap().contains("mode 755"));
        assert_eq!(probe_folder(&directory.path().join("a/b")).unwrap(), "will be made");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(probe_folder(Path::new("/proc/tandem")).is_err());
    }
}
