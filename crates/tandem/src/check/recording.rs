//! Tries for real what recordings need: their folder, room, and somebody who says the announcement.

use std::path::Path;

use tandem_attendant::Voice;
use tandem_recording::{free_bytes, probe_folder};

use super::{Outcome, Step};
use crate::config::Config;

/// An hour of a recording as WAV at 16 kHz, two channels.
const HOUR: u64 = 3_600 * 64_000;

/// Tries the recordings of `config`, if any call is recorded.
pub(super) async fn run(config: &Config, report: &mut impl FnMut(Step)) {
    let recording = &config.recording;
    let records = |agent, number| recording.records(agent, number);
    let of_numbers = config.numbers.lines().iter().any(|line| line.recording == Some(true));
    let recorded = of_numbers || config.agents.values().any(|it| records(&it.recording, None));
    if !recorded {
        return;
    }
    report(try_folder(&recording.settings.folder));
    report(try_room(&recording.settings.folder, recording.settings.keep_free));
    let voice = Voice::open(config.voice.clone(), tokio::runtime::Handle::current());
    for agent in config.agents.values() {
        let Some(text) = recording.consent_of(agent) else { continue };
        let name = format!("announcement of {}", agent.agent_id);
        report(match voice.render(&agent.language, &text).await {
            Ok(speech) => {
                let detail = format!("takes {:.1} s to say", speech.duration().as_secs_f64());
                Step::new(name, Outcome::Passed, detail)
            }
            Err(error) => {
                Step::new(name, Outcome::Failed, format!("{error}: its calls are not recorded"))
                    .fix("apt install flite, or espeak-ng for other languages than English; or consent = \"off\"")
            }
        });
    }
}

fn try_folder(folder: &Path) -> Step {
    let name = "recordings";
    match probe_folder(folder) {
        Ok(detail) => {
            let open = detail.contains("others may look");
            let outcome = if open { Outcome::Warning } else { Outcome::Passed };
            let step = Step::new(name, outcome, format!("{}: {detail}", folder.display()));
            if open { step.fix(format!("chmod 700 {}", folder.display())) } else { step }
        }
        Err(error) => Step::new(name, Outcome::Failed, format!("{}: {error}", folder.display()))
            .fix("name a folder in recording.path that this user may write"),
    }
}

fn try_room(folder: &Path, keep_free: u64) -> Step {
    let name = "room for recordings";
    let existing = folder.ancestors().find(|it| it.is_dir());
    let existing = existing.filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let free = match free_bytes(existing) {
        Ok(free) => free,
        Err(error) => return Step::new(name, Outcome::Warning, error.to_string()),
    };
    let room = free.saturating_sub(keep_free);
    let hours = room / HOUR;
    let detail = format!("{} GB are free, {hours} hours of WAV at 16 kHz", free / 1_000_000_000);
    match hours {
        0 => Step::new(name, Outcome::Failed, format!("only {} MB are free", free / 1_000_000))
            .fix("free some, or name another disk in recording.path"),
        1..10 => Step::new(name, Outcome::Warning, detail)
            .fix("keep less (recording.retention_days), or format = \"ogg\", which takes a tenth"),
        _ => Step::new(name, Outcome::Passed, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_and_its_room_are_looked_at() {
        let directory = tempfile::tempdir().unwrap();
        let step = try_folder(&directory.path().join("recordings"));
        assert_eq!(step.outcome, Outcome::Passed, "{step:?}");
        assert_eq!(try_folder(Path::new("/proc/tandem")).outcome, Outcome::Failed);
        assert_eq!(try_room(directory.path(), u64::MAX).outcome, Outcome::Failed);
        assert!(try_room(directory.path(), 0).detail.contains("free"));
    }
}
