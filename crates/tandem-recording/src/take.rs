//! One recording on its way to the disk.

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    RecordingEnd, RecordingOrder, RecordingReport,
    container::Container,
    disk::Disk,
    ear::Shared,
    expiry, folder,
    mixer::{Mixer, Side},
    random,
    ring::PieceReceiver,
    store::Store,
};

/// What was recorded is on its way to the disk after this at the latest: what a crash costs.
const FLUSH: Duration = Duration::from_secs(1);

/// Nothing that belongs so long before the present is still to come: while both sides say nothing, the file follows the clock.
const QUIET: Duration = Duration::from_secs(5);

/// How far a turn of a take went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// All that was there is taken.
    Done,
    /// There is more to do at once, when others had their turns.
    More,
    /// The recording is over and reported.
    Over,
}

/// Tells the call what became of its recording.
pub(crate) type Done = Box<dyn FnOnce(RecordingReport) + Send>;

/// What the call's side of a recording hands to the writer.
pub(crate) struct Job {
    pub(crate) id: String,
    pub(crate) order: RecordingOrder,
    pub(crate) caller: PieceReceiver,
    pub(crate) agent: PieceReceiver,
    pub(crate) shared: Arc<Shared>,
    pub(crate) done: Done,
}

impl Job {
    /// It could not even begin.
    pub(crate) fn refuse(self, error: &io::Error) {
        let end = end_of(error);
        tracing::error!(call_id = self.order.call_id, %error, "the call is not recorded");
        self.shared.stop_listening();
        let report = report(&self.id, &self.order, &self.shared, end, Some(error.to_string()));
        (self.done)(report);
    }
}

/// A recording that is being written.
pub(crate) struct Take {
    begin: Instant,
    job: Job,
    mixer: Mixer,
    file: OpenFile,
    path: Option<PathBuf>,
    flush_at: Instant,
}

/// The file, as long as it can be written.
struct OpenFile {
    container: Container,
    store: Store,
    /// Bytes that are not written yet.
    waiting: Vec<u8>,
    /// Frames in it, and those of them that are written.
    frames: u64,
    kept: u64,
    keep_free: u64,
    /// A write failed: nothing more may be appended.
    is_closed: bool,
    failure: Option<(RecordingEnd, String)>,
}

impl Take {
    /// Makes the file; a recording without one is refused.
    pub(crate) fn open(now: Instant, job: Job) -> Option<Self> {
        let RecordingOrder { settings, call_id, started_at, .. } = &job.order;
        let opened = folder::create(settings, call_id, *started_at);
        let (file, path) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                job.refuse(&error);
                return None;
            }
        };
        Self::begin(now, job, Box::new(file), Some(path))
    }

    /// Begins the file on `disk`.
    pub(crate) fn begin(
        now: Instant,
        job: Job,
        disk: Box<dyn Disk>,
        path: Option<PathBuf>,
    ) -> Option<Self> {
        match OpenFile::new(&job.order, disk) {
            Ok(file) => {
                let settings = &job.order.settings;
                let mixer = Mixer::new(settings.rate, settings.channels);
                let begin = job.order.begin;
                Some(Self { begin, job, mixer, file, path, flush_at: now + FLUSH })
            }
            Err(error) => {
                if let Some(path) = path {
                    fs::remove_file(path).ok();
                }
                job.refuse(&error);
                None
            }
        }
    }

    /// Takes what came, a second of the time line at most, and writes it now and then.
    pub(crate) fn pump(&mut self, now: Instant) -> Turn {
        let shared = &self.job.shared;
        let ended_at = shared.ended_at();
        let abandoned = ended_at.is_none() && Arc::strong_count(shared) == 1;
        let ends = ended_at.is_some() || abandoned;
        self.mixer.begin_turn();
        let drained = self.drain();
        let Self { begin, mixer, file, .. } = self;
        let push = &mut |frames: &[i16]| file.push(frames);
        let quiet = now.saturating_duration_since(*begin).saturating_sub(QUIET);
        let done = drained
            && if ends {
                mixer.finish(ended_at, push)
            } else {
                mixer.settle(u64::try_from(quiet.as_nanos()).unwrap_or(u64::MAX), push)
            };
        if done && ends || file.failure.is_some() {
            self.finish();
            return Turn::Over;
        }
        if now >= self.flush_at || !done {
            self.flush_at = now + FLUSH;
            file.flush();
        }
        if done { Turn::Done } else { Turn::More }
    }

    /// Takes the pieces of both sides in the order of time; false when some are left for the next turn.
    fn drain(&mut self) -> bool {
        let Self { job: Job { caller, agent, .. }, mixer, file, .. } = self;
        loop {
            let (side, ring) = match (caller.head(), agent.head()) {
                (None, None) => return true,
                (Some(left), Some(right)) if left.at > right.at => (Side::Agent, &mut *agent),
                (Some(_), _) => (Side::Caller, &mut *caller),
                (None, Some(_)) => (Side::Agent, &mut *agent),
            };
            let Some(head) = ring.head() else { return true };
            if !mixer.reach(head.at, &mut |frames| file.push(frames)) {
                return false;
            }
            mixer.put(side, head.at, head.format, ring.take());
        }
    }

    fn finish(&mut self) {
        let Self { job, mixer, file, path, .. } = self;
        file.finish();
        let Job { id, order, shared, .. } = &*job;
        shared.stop_listening();
        let (end, error) = match file.failure.take() {
            Some((end, error)) => (end, Some(error)),
            None => (RecordingEnd::CallEnded, None),
        };
        if file.kept == 0
            && error.is_some()
            && let Some(path) = path.take()
        {
            fs::remove_file(path).ok(); // There is nothing to hear in it.
        }
        let rate = order.settings.rate;
        let report = RecordingReport {
            path: path.take(),
            duration: rate.duration_of(usize::try_from(file.kept).unwrap_or(usize::MAX)),
            size_bytes: file.store.length(),
            dropped: shared.dropped() + rate.duration_of(mixer.late() as usize),
            ..report(id, order, shared, end, error)
        };
        let call_id = &order.call_id;
        match &report.error {
            None => {
                tracing::info!(call_id, path = ?report.path, seconds = report.duration.as_secs(), "recorded");
            }
            Some(error) => tracing::error!(
                call_id,
                error,
                seconds = report.duration.as_secs(),
                "the recording ended early; the call goes on"
            ),
        }
        if !report.dropped.is_zero() {
            let dropped_ms = report.dropped.as_millis() as u64;
            tracing::warn!(
                call_id,
                dropped_ms,
                "audio is missing in the recording: the disk was too slow"
            );
        }
        let done = std::mem::replace(&mut job.done, Box::new(|_| {}));
        done(report);
    }
}

impl OpenFile {
    fn new(order: &RecordingOrder, disk: Box<dyn Disk>) -> io::Result<Self> {
        let settings = &order.settings;
        let mut serial = [0; 4];
        random::fill(&mut serial)?;
        let serial = u32::from_le_bytes(serial);
        let mut waiting = Vec::new();
        let container = Container::begin(
            settings.format,
            settings.rate,
            settings.channels,
            serial,
            &mut waiting,
        )?;
        let store = Store::new(disk, settings.key.as_ref())?;
        let mut file = Self {
            container,
            store,
            waiting,
            frames: 0,
            kept: 0,
            keep_free: settings.keep_free,
            is_closed: false,
            failure: None,
        };
        file.check_room()?;
        file.write(false)?;
        Ok(file)
    }

    fn push(&mut self, frames: &[i16]) {
        if self.failure.is_some() {
            return;
        }
        if self.container.is_full(frames.len()) {
            let why = "the file is as long as a WAV file may be".to_owned();
            self.failure = Some((RecordingEnd::TooLong, why));
            return;
        }
        match self.container.push(frames, &mut self.waiting) {
            Ok(()) => self.frames += frames.len() as u64 / self.container.channels() as u64,
            Err(error) => self.fail(&error),
        }
    }

    /// Writes what waits, so that whoever opens the file hears it.
    fn flush(&mut self) {
        if self.failure.is_some() {
            return;
        }
        self.container.flush(&mut self.waiting);
        if let Err(error) = self.write(false).and_then(|()| self.check_room()) {
            self.fail(&error);
        }
    }

    /// Writes the end, unless the disk does not take any more.
    fn finish(&mut self) {
        let broken = matches!(&self.failure, Some((RecordingEnd::Failed, _)));
        let written = if broken || self.is_closed {
            Ok(())
        } else {
            let ended = self.container.finish(&mut self.waiting);
            ended.and_then(|()| self.write(true))
        };
        if let Err(error) = written.and_then(|()| self.store.sync()) {
            self.fail(&error);
        }
    }

    fn write(&mut self, is_last: bool) -> io::Result<()> {
        let appended = self.store.append(&self.waiting, is_last);
        self.is_closed = true; // Until nothing of it failed.
        self.waiting.clear();
        if let Some(head) = self.container.head(self.store.length()) {
            self.store.set_head(&head)?;
        }
        appended?;
        self.is_closed = false;
        self.kept = self.frames;
        Ok(())
    }

    /// Others need room to write, too.
    fn check_room(&self) -> io::Result<()> {
        match self.store.free() {
            Some(free) if free < self.keep_free => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("only {} MB are left on the disk", free / 1_000_000),
            )),
            _ => Ok(()),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        self.failure.get_or_insert_with(|| (end_of(error), error.to_string()));
    }
}

fn end_of(error: &io::Error) -> RecordingEnd {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => RecordingEnd::DiskFull,
        io::ErrorKind::FileTooLarge => RecordingEnd::TooLong,
        _ => RecordingEnd::Failed,
    }
}

/// The report of a recording without a file.
fn report(
    id: &str,
    order: &RecordingOrder,
    shared: &Shared,
    end: RecordingEnd,
    error: Option<String>,
) -> RecordingReport {
    let settings = &order.settings;
    RecordingReport {
        id: id.to_owned(),
        path: None,
        format: settings.format,
        channels: settings.channels,
        rate: settings.rate,
        duration: Duration::ZERO,
        size_bytes: 0,
        started_at: order.started_at,
        paused: shared.paused_for(),
        dropped: shared.dropped(),
        sealed: settings.key.is_some(),
        end,
        error,
        expires_at: settings.retention_days.map(|days| expiry(order.started_at, days)),
    }
}
