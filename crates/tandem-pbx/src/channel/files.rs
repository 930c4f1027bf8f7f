//! Files the switch plays to the caller for a leg that cannot be played back directly.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::{FilePlayback, SignalEvent};

use super::{Channel, ChannelNote, Purpose, after};
use crate::{BroadcastLeg, MediaPath, Playable, SwitchCommand};

/// A file that may play begins within this, or never.
const STARTS_WITHIN: Duration = Duration::from_secs(1);

/// No file plays longer; the event of its end was lost.
const LONGEST_FILE: Duration = Duration::from_secs(60);

/// A file that was broken off is silent after this, whatever is heard of it.
const BREAKS_WITHIN: Duration = Duration::from_secs(1);

/// Files that wait, at most.
const MOST_FILES: usize = 32;

/// A file on its way to the caller.
#[derive(Debug)]
struct File {
    id: u64,
    path: String,
    started: bool,
    broken: bool,
    /// It was ordered a second time: the switch forgets what it is told to play to a channel that is just moving.
    again: bool,
    /// When we stop waiting for the next news of it. Runs for the first file only: the others wait for that.
    until: Option<Instant>,
}

/// The files being played, in order.
#[derive(Debug, Default)]
pub(super) struct Files(VecDeque<File>);

impl Files {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.0.iter().filter_map(|file| file.until).min()
    }

    fn start_first(&mut self, now: Instant) {
        if let Some(first) = self.0.front_mut()
            && first.until.is_none()
        {
            first.until = Some(after(now, STARTS_WITHIN));
        }
    }

    fn remove(&mut self, now: Instant, index: usize) -> Option<File> {
        let file = self.0.remove(index);
        self.start_first(now);
        file
    }
}

impl Channel {
    /// The module wrote a file and named it.
    pub(super) fn play_file(&mut self, now: Instant, id: Option<&str>, file: Option<&MediaPath>) {
        let Some(id) = id.and_then(|id| id.parse().ok()) else {
            return self.out.note(ChannelNote::StrangeFile);
        };
        let refusal = if !self.is_talking() {
            Some("the call is not up".to_owned())
        } else if self.transfer.is_some() {
            Some("the caller is being transferred".to_owned())
        } else if !self.link_up {
            Some("the event socket is down".to_owned())
        } else if self.files.0.len() >= MOST_FILES {
            Some(format!("{MOST_FILES} files are waiting already"))
        } else {
            None
        };
        if let Some(reason) = refusal {
            return self.file_failed(id, reason);
        }
        let Some(file) = file else {
            return self.file_failed(id, "the module wrote no file".to_owned());
        };
        self.files.0.push_back(File {
            id,
            path: file.as_str().to_owned(),
            started: false,
            broken: false,
            again: false,
            until: None,
        });
        self.files.start_first(now);
        self.order_file(id, file.clone());
    }

    fn order_file(&mut self, id: u64, file: MediaPath) {
        let uuid = self.settings.uuid.clone();
        let (what, leg) = (Playable::File(file), BroadcastLeg::Own);
        self.out.order(SwitchCommand::Broadcast { uuid, what, leg }, Purpose::Play(id));
    }

    /// The switch would not play it.
    pub(super) fn file_refused(&mut self, now: Instant, id: u64, reason: String) {
        if let Some(index) = self.files.0.iter().position(|file| file.id == id && !file.started) {
            self.files.remove(now, index);
            self.file_failed(id, reason);
        }
    }

    /// The first sample of `path` is on its way.
    pub(super) fn playback_started(&mut self, now: Instant, path: &str) {
        let file = self.files.0.iter_mut().find(|file| !file.started && file.path == path);
        if let Some(file) = file {
            file.started = true;
            file.until = Some(after(now, LONGEST_FILE));
            let id = file.id;
            self.tell(SignalEvent::Playback(FilePlayback::Started { id }));
        }
    }

    /// Nothing more of `path` is played.
    pub(super) fn playback_stopped(&mut self, now: Instant, path: &str, broken: bool) {
        let files = &self.files.0;
        let started = files.iter().position(|file| file.started && file.path == path);
        let Some(index) = started.or_else(|| files.iter().position(|file| file.path == path))
        else {
            return;
        };
        if let Some(file) = self.files.remove(now, index) {
            if !file.started {
                self.tell(SignalEvent::Playback(FilePlayback::Started { id: file.id }));
            }
            let broken = broken || file.broken;
            self.tell(SignalEvent::Playback(FilePlayback::Stopped { id: file.id, broken }));
        }
    }

    /// Stops what plays and forgets what waits.
    pub(super) fn break_playback(&mut self) {
        if !self.is_talking() || self.transfer.is_some() {
            return;
        }
        for file in &mut self.files.0 {
            file.broken = true;
        }
        let uuid = self.settings.uuid.clone();
        self.out.order(SwitchCommand::Break { uuid, all: true }, Purpose::Break);
    }

    /// What plays and what waits is broken off for good: the caller hears something else now.
    pub(super) fn drop_files(&mut self) {
        for file in std::mem::take(&mut self.files.0) {
            let stopped = FilePlayback::Stopped { id: file.id, broken: true };
            self.tell(SignalEvent::Playback(stopped));
        }
    }

    /// The order to stop was carried out: files that waited are gone without a word.
    pub(super) fn playback_broken(&mut self, now: Instant) {
        let mut index = 0;
        while let Some(file) = self.files.0.get_mut(index) {
            if !file.broken {
                index += 1;
            } else if file.started {
                let soon = after(now, BREAKS_WITHIN);
                file.until = Some(file.until.map_or(soon, |until| until.min(soon)));
                index += 1;
            } else if let Some(file) = self.files.remove(now, index) {
                let stopped = FilePlayback::Stopped { id: file.id, broken: true };
                self.tell(SignalEvent::Playback(stopped));
            }
        }
    }

    /// The link is down: what has not begun will not be heard of.
    pub(super) fn files_lost(&mut self, now: Instant) {
        while let Some(index) = self.files.0.iter().position(|file| !file.started) {
            if let Some(file) = self.files.remove(now, index) {
                self.file_failed(file.id, "the event socket is down".to_owned());
            }
        }
    }

    /// The link was down, and the end of a file with it.
    pub(super) fn files_unsure(&mut self, now: Instant) {
        for file in &mut self.files.0 {
            let soon = after(now, 5 * BREAKS_WITHIN);
            file.until = Some(file.until.map_or(soon, |until| until.min(soon)));
        }
    }

    /// Ends the waiting for files of which nothing is heard.
    pub(super) fn check_files(&mut self, now: Instant) {
        while let Some(index) =
            self.files.0.iter().position(|file| file.until.is_some_and(|until| until <= now))
        {
            let alone = !self.files.0.iter().any(|file| file.started);
            let file = &mut self.files.0[index];
            if alone && !file.started && !file.broken && !file.again {
                file.again = true;
                file.until = Some(after(now, STARTS_WITHIN));
                let (id, path) = (file.id, MediaPath::new(&file.path));
                if let Ok(path) = path {
                    self.order_file(id, path);
                }
                continue;
            }
            let Some(file) = self.files.remove(now, index) else { return };
            if file.started {
                let stopped = FilePlayback::Stopped { id: file.id, broken: file.broken };
                self.tell(SignalEvent::Playback(stopped));
            } else {
                let reason = format!("it did not begin within {} s", 2 * STARTS_WITHIN.as_secs());
                self.file_failed(file.id, reason);
            }
        }
    }

    fn file_failed(&mut self, id: u64, reason: String) {
        self.out.note(ChannelNote::NotPlayed { reason: reason.clone() });
        self.tell(SignalEvent::Playback(FilePlayback::Failed { id, reason }));
    }
}
