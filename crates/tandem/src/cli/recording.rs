//! `tandem recording`: looks at recordings, and unseals them.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tandem_recording::{About, RecordingKey, inspect, sweep, unseal_file};

use super::{
    report::{print_json, print_line},
    run::{NO, WRONG},
};
use crate::retention::AT_ONCE;

/// `tandem recording`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem recording info recordings/2026-11-21/call_0192….wav
  tandem recording decrypt recordings/2026-11-21/call_0192….wav.sealed --key-file recording.key
      leaves call_0192….wav beside it
  tandem recording sweep /var/lib/tandem/recordings --keep-days 30
      deletes what is older in a folder that recording.path names no more
  openssl rand -hex 32 > recording.key
      makes a key, for recording.key_file in tandem.toml")]
pub struct RecordingArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: RecordingCommand,
}

/// What `tandem recording` does.
#[derive(Debug, Clone, Subcommand)]
pub enum RecordingCommand {
    /// Tell what a recording is: format, length, whether it is sealed and whole
    Info(InfoArgs),
    /// Make a file that can be played of a sealed one
    Decrypt(DecryptArgs),
    /// Delete the old recordings of a folder, as the daemon does in its own
    Sweep(SweepArgs),
}

/// `tandem recording info`
#[derive(Debug, Clone, Args)]
pub struct InfoArgs {
    /// The recording
    pub file: PathBuf,
    /// The key, to look into a sealed one
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `tandem recording decrypt`
#[derive(Debug, Clone, Args)]
pub struct DecryptArgs {
    /// The sealed recording
    pub file: PathBuf,
    /// The key it was sealed with
    #[arg(long, value_name = "FILE")]
    pub key_file: PathBuf,
    /// The file to write, which must not exist [default: the same name without .sealed]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `tandem recording sweep`
#[derive(Debug, Clone, Args)]
pub struct SweepArgs {
    /// The folder that has the folders of the days in it
    pub folder: PathBuf,
    /// Recordings of so many days before today (UTC) are kept
    #[arg(long, value_name = "DAYS")]
    pub keep_days: u32,
}

/// Carries the command out; its exit code.
pub(crate) fn run(command: &RecordingCommand) -> u8 {
    let done = match command {
        RecordingCommand::Info(args) => info(args),
        RecordingCommand::Decrypt(args) => decrypt(args),
        RecordingCommand::Sweep(args) => delete_old(args),
    };
    match done {
        Ok(()) => 0,
        Err((code, why)) => {
            eprintln!("tandem recording: {why}");
            code
        }
    }
}

type Failure = (u8, String);

fn info(args: &InfoArgs) -> Result<(), Failure> {
    let key = args.key_file.as_deref().map(read_key).transpose()?;
    let about = inspect(&args.file, key.as_ref()).map_err(|error| (NO, error.to_string()))?;
    if args.json {
        print_json(&info_json(&about));
    } else {
        print_line(&info_text(&about));
    }
    Ok(())
}

fn decrypt(args: &DecryptArgs) -> Result<(), Failure> {
    let key = read_key(&args.key_file)?;
    let output = match &args.output {
        Some(output) => output.clone(),
        None => unsealed_name(&args.file)?,
    };
    let unsealed =
        unseal_file(&args.file, &key, &output).map_err(|error| (NO, error.to_string()))?;
    print_line(&format!("{}: {} bytes", output.display(), unsealed.bytes));
    if !unsealed.complete {
        eprintln!(
            "tandem recording: its end is missing: it was broken off (crash, full disk), or the file was cut"
        );
    }
    Ok(())
}

fn delete_old(SweepArgs { folder, keep_days }: &SweepArgs) -> Result<(), Failure> {
    let failed = |path: &Path, error| (NO, format!("{}: {error}", path.display()));
    if !folder.is_dir() {
        return Err((NO, format!("{}: there is no such folder", folder.display())));
    }
    let (mut deleted, mut bytes) = (0, 0);
    loop {
        let swept = sweep(folder, *keep_days, SystemTime::now(), AT_ONCE)
            .map_err(|error| failed(folder, error))?;
        deleted += swept.deleted;
        bytes += swept.bytes;
        if swept.failure.is_some() || !swept.more {
            print_line(&format!(
                "{}: {deleted} recordings deleted, {bytes} bytes",
                folder.display()
            ));
            return match swept.failure {
                Some((file, error)) => Err(failed(&file, error)),
                None => Ok(()),
            };
        }
    }
}

fn read_key(path: &Path) -> Result<RecordingKey, Failure> {
    RecordingKey::read(path).map_err(|error| (WRONG, format!("--key-file: {error}")))
}

fn unsealed_name(file: &Path) -> Result<PathBuf, Failure> {
    if file.extension().is_some_and(|ending| ending == "sealed") {
        return Ok(file.with_extension(""));
    }
    Err((WRONG, "name the file to write with -o: the sealed one does not end in .sealed".into()))
}

fn info_text(about: &About) -> String {
    let mut parts = Vec::new();
    match &about.contents {
        Some(contents) => {
            parts.push(format!("{} at {} Hz", contents.format.name(), contents.rate.hz()));
            parts.push(match contents.channels.count() {
                1 => "both sides mixed".into(),
                _ => "caller left, agent right".into(),
            });
            parts.push(format!("{:.2} s", contents.duration.as_secs_f64()));
        }
        None => parts.push("what it holds can be told with its key (--key-file)".into()),
    }
    if let Some(key) = about.sealed {
        parts.push(format!("sealed with the key {key}"));
    }
    if about.complete == Some(false) {
        parts.push("its end is missing".into());
    }
    parts.push(format!("{} bytes", about.size_bytes));
    parts.join(", ")
}

fn info_json(about: &About) -> Value {
    let contents = about.contents.as_ref();
    json!({
        "format": contents.map(|it| it.format.name()),
        "sample_rate_hz": contents.map(|it| it.rate.hz()),
        "channels": contents.map(|it| it.channels.count()),
        "duration_ms": contents.map(|it| it.duration.as_millis() as u64),
        "sealed": about.sealed.is_some(),
        "key": about.sealed.map(|key| key.to_string()),
        "complete": about.complete,
        "size_bytes": about.size_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_swept_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let day = directory.path().join("2020-01-01");
        std::fs::create_dir(&day).unwrap();
        for number in 0..=AT_ONCE {
            std::fs::write(day.join(format!("call_{number:032x}.wav")), b"").unwrap();
        }
        let args = |folder: &Path| SweepArgs { folder: folder.to_owned(), keep_days: 30 };
        assert_eq!(delete_old(&args(directory.path())), Ok(()));
        assert!(!day.exists());
        assert_eq!(delete_old(&args(&day)).unwrap_err().0, NO);
    }

    #[test]
    fn the_name_of_what_comes_out_is_that_of_what_went_in() {
        let named = unsealed_name(Path::new("a/call_1.wav.sealed")).unwrap();
        assert_eq!(named, Path::new("a/call_1.wav"));
        assert_eq!(unsealed_name(Path::new("a/call_1.wav")).unwrap_err().0, WRONG);
    }
}
