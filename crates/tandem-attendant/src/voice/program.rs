//! The speech programs of this machine, as subprocesses.

use std::{
    ffi::OsString,
    fs::DirBuilder,
    hash::{BuildHasher, Hasher, RandomState},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command, sync::Semaphore, time::timeout};

use super::{Engine, Utterance, VoiceError, wave};

/// A sentence of 1,000 characters takes flite 1 to 2 s.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// Programs that run at once.
const CONCURRENCY: usize = 2;
/// Largest wave accepted: about three minutes at 48 kHz.
const MAX_WAVE_BYTES: u64 = 16 * 1024 * 1024;

/// The engines, each with what is known of it.
#[derive(Debug)]
pub(super) struct Programs {
    engines: Vec<Engine>,
    flite_voice: String,
    missing: [AtomicBool; 2],
    running: Semaphore,
    time_limit: Duration,
    path: OsString,
    files: AtomicU64,
    directory: OnceLock<WorkDirectory>,
}

impl Programs {
    pub(super) fn new(engines: Vec<Engine>, flite_voice: String) -> Self {
        Self {
            engines,
            flite_voice,
            missing: Default::default(),
            running: Semaphore::new(CONCURRENCY),
            time_limit: TIME_LIMIT,
            path: std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into()),
            files: AtomicU64::new(0),
            directory: OnceLock::new(),
        }
    }

    /// The same programs, looked for in `directory` first and given less time.
    #[cfg(test)]
    pub(super) fn with_path(self, directory: &Path, time_limit: Duration) -> Self {
        let paths = std::iter::once(directory.to_owned()).chain(std::env::split_paths(&self.path));
        let path =
            std::env::join_paths(paths).expect("a directory of the test has no colon in its name");
        Self { path, time_limit, ..self }
    }

    pub(super) fn engines(&self) -> &[Engine] {
        &self.engines
    }

    /// Samples and rate from the first engine that speaks `utterance`.
    pub(super) async fn render(
        &self,
        utterance: &Utterance,
    ) -> Result<(Vec<i16>, u32), VoiceError> {
        let Utterance { language, text } = utterance;
        let mut error = VoiceError::NoEngine;
        for &engine in &self.engines {
            if (engine == Engine::Flite && language != "en")
                || self.missing[engine as usize].load(Ordering::Relaxed)
            {
                continue;
            }
            match self.run(engine, language, text).await {
                Ok(wave) => return Ok(wave),
                Err(VoiceError::NoEngine) => {
                    self.missing[engine as usize].store(true, Ordering::Relaxed);
                    tracing::info!(?engine, "a speech program is not installed");
                }
                Err(failed) => {
                    tracing::warn!(error = %failed, "a speech program failed");
                    error = failed;
                }
            }
        }
        Err(error)
    }

    /// Samples and rate of `text` as `engine` says it; [`VoiceError::NoEngine`] when it is not installed.
    pub(super) async fn run(
        &self,
        engine: Engine,
        language: &str,
        text: &str,
    ) -> Result<(Vec<i16>, u32), VoiceError> {
        let failed = |reason: String| VoiceError::Failed { engine, reason };
        let _permit = self.running.acquire().await.map_err(|_| VoiceError::Stopped)?;
        let directory = self
            .directory()
            .map_err(|error| failed(format!("no directory for its output: {error}")))?;
        let wave = directory.join(format!("{}.wav", self.files.fetch_add(1, Ordering::Relaxed)));
        let spoken = timeout(self.time_limit, self.write_wave(engine, language, text, &wave)).await;
        let bytes = match spoken {
            Ok(Ok(())) => read_limited(&wave).await,
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        _ = tokio::fs::remove_file(&wave).await; // It may not exist; the directory goes with the process anyway.
        let bytes = bytes.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => VoiceError::NoEngine,
            io::ErrorKind::TimedOut => VoiceError::TimedOut { engine, limit: self.time_limit },
            _ => failed(error.to_string()),
        })?;
        match wave::parse(&bytes) {
            Ok((pcm, _)) if pcm.is_empty() => Err(failed("it made no sound".into())),
            Ok(spoken) => Ok(spoken),
            Err(reason) => Err(failed(format!("its wave cannot be read: {reason}"))),
        }
    }

    /// The text goes in by standard input, so that it is neither an argument nor visible to other users.
    async fn write_wave(
        &self,
        engine: Engine,
        language: &str,
        text: &str,
        wave: &Path,
    ) -> io::Result<()> {
        let mut command = match engine {
            Engine::Flite => {
                let mut command = Command::new("flite");
                command.args(["-voice", &self.flite_voice, "-f", "/dev/stdin", "-o"]).arg(wave);
                command
            }
            Engine::EspeakNg => {
                let voice = if language == "en" { "en-us" } else { language };
                let mut command = Command::new("espeak-ng");
                command.args(["-v", voice, "-b", "1", "--stdin", "-w"]).arg(wave);
                command
            }
        };
        let mut child = command
            .env_clear() // Keys of models are no business of theirs.
            .env("PATH", &self.path)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        let mut stdin = child.stdin.take().expect("it was asked for above");
        stdin.write_all(format!("{text}\n").as_bytes()).await.or_else(ignore_broken_pipe)?;
        drop(stdin);
        let status = child.wait().await?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other(format!("it ended with {status}")))
        }
    }

    fn directory(&self) -> io::Result<&Path> {
        if let Some(directory) = self.directory.get() {
            return Ok(&directory.0);
        }
        let created = WorkDirectory::create()?;
        Ok(&self.directory.get_or_init(|| created).0) // A second one, made meanwhile, is removed by its drop.
    }
}

fn ignore_broken_pipe(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) } // Its exit status says more.
}

async fn read_limited(wave: &Path) -> io::Result<Vec<u8>> {
    let size = match tokio::fs::metadata(wave).await {
        Ok(metadata) => metadata.len(),
        Err(_) => return Err(io::Error::other("it wrote no wave")),
    };
    if size > MAX_WAVE_BYTES {
        return Err(io::Error::other(format!("its wave of {size} bytes is too long")));
    }
    tokio::fs::read(wave).await
}

/// A new directory that only this user can enter, removed when dropped.
#[derive(Debug)]
struct WorkDirectory(PathBuf);

impl WorkDirectory {
    fn create() -> io::Result<Self> {
        let random = RandomState::new().build_hasher().finish();
        let path =
            std::env::temp_dir().join(format!("tandem-voice-{}-{random:016x}", std::process::id()));
        DirBuilder::new().mode(0o700).create(&path)?; // Fails on anything that exists, links included.
        Ok(Self(path))
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        _ = std::fs::remove_dir_all(&self.0);
    }
}
