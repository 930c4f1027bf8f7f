//! Deletes old recordings, at the start and every day, in every folder that was recorded to since the start.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use tandem_recording::{Swept, sweep};
use tokio::{sync::watch, task::JoinHandle};

use crate::config::RecordingConfig;

/// From one look to the next.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// Folders that are looked into at most: the latest ones.
const MOST_FOLDERS: usize = 32;

/// Files deleted in one go, and the rest between two of them: others use the disk, too.
pub(crate) const AT_ONCE: usize = 1_000;
const REST: Duration = Duration::from_secs(1);

/// What is kept where.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// Where recordings are made last, before it where they were made before.
    folders: Vec<PathBuf>,
    /// None, or none of them: nothing is deleted.
    days: Option<u32>,
}

/// A task that deletes recordings whose time is over, until it is dropped.
#[derive(Debug)]
pub(crate) struct Retention {
    rule: watch::Sender<Rule>,
    task: JoinHandle<()>,
}

impl Retention {
    /// Deletes what `config` does not keep, from now on.
    pub(crate) fn start(config: &RecordingConfig) -> Self {
        let (rule, rules) = watch::channel(Rule { folders: Vec::new(), days: None }.with(config));
        Self { rule, task: tokio::spawn(run(rules)) }
    }

    /// What `config` says holds from now on.
    pub(crate) fn set(&self, config: &RecordingConfig) {
        self.rule.send_if_modified(|running| {
            let rule = running.clone().with(config);
            let differs = *running != rule;
            *running = rule;
            differs
        });
    }
}

impl Drop for Retention {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Rule {
    /// What `config` says; what was recorded elsewhere before is not forgotten.
    fn with(mut self, config: &RecordingConfig) -> Self {
        let settings = &config.settings;
        self.folders.retain(|folder| *folder != settings.folder);
        self.folders.push(settings.folder.clone());
        let surplus = self.folders.len().saturating_sub(MOST_FOLDERS);
        self.folders.drain(..surplus);
        self.days = settings.retention_days.filter(|days| *days > 0);
        self
    }
}

async fn run(mut rules: watch::Receiver<Rule>) {
    loop {
        let Rule { folders, days } = rules.borrow_and_update().clone();
        let mut more = false;
        if let Some(days) = days {
            for folder in folders {
                more |= look(folder, days).await;
            }
        }
        let wait = if more { REST } else { DAY };
        if let Ok(Err(_)) = tokio::time::timeout(wait, rules.changed()).await {
            return; // Nobody wants it any more.
        }
    }
}

/// Looks once; whether there is more to do.
async fn look(folder: PathBuf, days: u32) -> bool {
    let shown = folder.display().to_string();
    let looked =
        tokio::task::spawn_blocking(move || sweep(&folder, days, SystemTime::now(), AT_ONCE));
    match looked.await {
        Ok(Ok(Swept { deleted, bytes, failure, more })) => {
            if deleted > 0 {
                tracing::info!(folder = shown, deleted, bytes, days, "old recordings deleted");
            }
            if let Some((file, error)) = failure {
                tracing::warn!(file = %file.display(), %error, "an old recording can't be deleted");
            }
            more
        }
        Ok(Err(error)) => {
            tracing::warn!(folder = shown, %error, "old recordings can't be looked for");
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::config::Config;

    #[tokio::test(start_paused = true)]
    async fn old_recordings_go_at_the_start_and_when_the_rule_changes() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("recordings/2020-01-01");
        fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("call_{:032x}.wav", 1));
        let config = |days: &str| read(directory.path(), &format!("retention_days = {days}"));
        fs::write(&file, b"").unwrap();
        let retention = Retention::start(&config("\"forever\""));
        tokio::time::sleep(2 * DAY).await;
        assert!(file.exists());
        retention.set(&config("7"));
        gone(&file).await;
        fs::create_dir_all(&folder).unwrap();
        fs::write(&file, b"").unwrap();
        tokio::time::sleep(DAY + REST).await;
        gone(&file).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_that_is_not_recorded_to_any_more_is_not_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let config = |folder: &str| read(directory.path(), &format!("path = {folder:?}"));
        let make = |folder: &str| {
            let day = directory.path().join(folder).join("2020-01-01");
            fs::create_dir_all(&day).unwrap();
            let file = day.join(format!("call_{:032x}.wav", 1));
            fs::write(&file, b"").unwrap();
            file
        };
        let retention = Retention::start(&config("first"));
        retention.set(&config("second"));
        retention.set(&config("first"));
        retention.set(&config("third"));
        let files = ["first", "second", "third"].map(make);
        tokio::time::sleep(DAY + REST).await;
        for file in &files {
            gone(file).await;
        }
        let rule = (0..100).fold(Rule { folders: Vec::new(), days: None }, |rule, n| {
            rule.with(&config(&n.to_string()))
        });
        assert_eq!(rule.folders.len(), MOST_FOLDERS);
        assert_eq!(rule.folders.last(), Some(&config("99").settings.folder));
    }

    fn read(folder: &Path, setting: &str) -> RecordingConfig {
        let text = format!("[recording]\n{setting}\n");
        let read = Config::read(&folder.join("t.toml"), &text, &|_| None);
        read.0.expect("the configuration is good").recording
    }

    async fn gone(file: &Path) {
        for _ in 0..1_000 {
            if !file.exists() {
                return;
            }
            tokio::task::spawn_blocking(std::thread::yield_now).await.unwrap();
        }
        panic!("{file:?} is still there");
    }
}
