//! Rendered speech kept on disk from one start to the next: one WAV file a sentence.

use std::{path::PathBuf, time::SystemTime};

use sha2::{Digest, Sha256};

use super::{Engine, Speech, Utterance, wave};

/// Most files kept; the oldest go first.
const MAX_FILES: usize = 2_000;
/// Largest file read back: five minutes of speech.
const MAX_BYTES: u64 = 10_000_000;

/// A directory of rendered sentences. It fails silently but for the log: it only saves time.
#[derive(Debug)]
pub(super) struct DiskCache {
    directory: PathBuf,
    voice: String,
}

impl DiskCache {
    pub(super) fn new(directory: PathBuf, engines: &[Engine], flite_voice: &str) -> Self {
        Self { directory, voice: format!("1\0{engines:?}\0{flite_voice}") }
    }

    pub(super) async fn read(&self, utterance: &Utterance) -> Option<Vec<i16>> {
        let path = self.path(utterance);
        let size = tokio::fs::metadata(&path).await.ok()?.len();
        if size > MAX_BYTES {
            return None;
        }
        let (pcm, rate) = wave::parse(&tokio::fs::read(&path).await.ok()?).ok()?;
        (rate == Speech::RATE.hz() as u32 && !pcm.is_empty()).then_some(pcm)
    }

    pub(super) async fn write(&self, utterance: &Utterance, pcm: &[i16]) {
        let path = self.path(utterance);
        let unfinished = path.with_extension("part");
        let written = async {
            let wav = wave::write(pcm, Speech::RATE.hz() as u32).map_err(std::io::Error::other)?;
            tokio::fs::create_dir_all(&self.directory).await?;
            tokio::fs::write(&unfinished, wav).await?;
            tokio::fs::rename(&unfinished, &path).await
        };
        if let Err(error) = written.await {
            tracing::warn!(%error, directory = %self.directory.display(), "a rendered sentence was not kept on disk");
        }
    }

    /// Removes the oldest files beyond the limit.
    pub(super) async fn prune(&self) {
        let directory = self.directory.clone();
        let pruned = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            let mut files: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(&directory)?
                .filter_map(|entry| entry.ok().map(|entry| entry.path()))
                .filter(|path| {
                    path.extension()
                        .is_some_and(|extension| extension == "wav" || extension == "part")
                })
                .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
                .collect();
            files.sort();
            for (_, path) in files.iter().take(files.len().saturating_sub(MAX_FILES)) {
                std::fs::remove_file(path)?;
            }
            Ok(())
        });
        if let Ok(Err(error)) = pruned.await
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, directory = %self.directory.display(), "old sentences were not removed");
        }
    }

    fn path(&self, utterance: &Utterance) -> PathBuf {
        let Utterance { language, text } = utterance;
        let digest = Sha256::digest(format!("{}\0{language}\0{text}", self.voice));
        let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.directory.join(name).with_extension("wav")
    }
}
