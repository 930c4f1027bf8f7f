//! Call records on disk: one JSON line per call, synced before the call is forgotten.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tandem_call::CallRecord;
use tokio::sync::oneshot;

/// First wait after a failed write; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Lines written and synced as one batch.
const BATCH: usize = 256;

/// Appends call records to one file from a thread of its own.
///
/// A disk that is full or gone delays records and is reported; it never blocks a call. Records that wait are counted in
/// [`RecordLogStats::waiting`], so that no new call is taken when too many do.
#[derive(Debug, Clone)]
pub struct RecordLog {
    lines: mpsc::Sender<Line>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Line {
    json: Vec<u8>,
    written: oneshot::Sender<()>,
}

#[derive(Debug, Default)]
struct Counters {
    waiting: AtomicUsize,
    written: AtomicU64,
    failures: AtomicU64,
}

/// Counters of the record log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordLogStats {
    /// Records not yet on disk.
    pub waiting: usize,
    /// Records on disk.
    pub written: u64,
    /// Writes that failed and were tried again.
    pub failures: u64,
}

impl RecordLog {
    /// Opens `path` for appending and makes it, and its folder, if they are not there.
    ///
    /// A last line that a crash left half written is closed by a line break, so that the next record stands alone.
    pub fn open(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = RecordFile::open(path)?;
        file.close_torn_line()?;
        Ok(Self::start(file))
    }

    fn start(mut sink: impl Sink) -> Self {
        let (lines, waiting) = mpsc::channel::<Line>();
        let counters = Arc::<Counters>::default();
        let shared = Arc::clone(&counters);
        thread::Builder::new()
            .name("records".into())
            .spawn(move || write_all(&mut sink, &waiting, &shared))
            .expect("the process can start a thread at start-up");
        Self { lines, counters }
    }

    /// Queues `record`; the receiver resolves when it is on disk.
    pub fn append(&self, record: &CallRecord) -> oneshot::Receiver<()> {
        let mut json =
            serde_json::to_vec(record).expect("a call record holds only what JSON can say");
        json.push(b'\n');
        let (written, on_disk) = oneshot::channel();
        self.counters.waiting.fetch_add(1, Ordering::Relaxed);
        self.lines.send(Line { json, written }).expect("the writer lives as long as its senders");
        on_disk
    }

    /// What was written and what waits.
    pub fn stats(&self) -> RecordLogStats {
        RecordLogStats {
            waiting: self.counters.waiting.load(Ordering::Relaxed),
            written: self.counters.written.load(Ordering::Relaxed),
            failures: self.counters.failures.load(Ordering::Relaxed),
        }
    }
}

/// Where lines go: appended whole and synced, or not at all.
trait Sink: Send + 'static {
    fn append_synced(&mut self, batch: &[u8]) -> io::Result<()>;
    fn wait(&mut self, delay: Duration) {
        thread::sleep(delay);
    }
}

fn write_all(sink: &mut impl Sink, waiting: &mpsc::Receiver<Line>, counters: &Counters) {
    let mut queue = VecDeque::new();
    let mut batch = Vec::new();
    while let Ok(first) = waiting.recv() {
        queue.push_back(first);
        queue.extend(waiting.try_iter().take(BATCH - 1));
        batch.clear();
        for line in &queue {
            batch.extend_from_slice(&line.json);
        }
        let mut delay = FIRST_WAIT;
        while let Err(error) = sink.append_synced(&batch) {
            counters.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                %error,
                waiting = counters.waiting.load(Ordering::Relaxed),
                retry_in = ?delay,
                "call records can't be written; free space on the disk or fix the path, calls go on meanwhile",
            );
            sink.wait(delay);
            delay = (delay * 2).min(LONGEST_WAIT);
        }
        counters.written.fetch_add(queue.len() as u64, Ordering::Relaxed);
        counters.waiting.fetch_sub(queue.len(), Ordering::Relaxed);
        for line in queue.drain(..) {
            line.written.send(()).ok(); // The call may have been forgotten by force.
        }
    }
}

/// The file on disk.
struct RecordFile {
    file: File,
    path: PathBuf,
    /// A batch that failed could not be taken back.
    torn: bool,
}

impl RecordFile {
    fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).read(true).create(true).open(path)?;
        if let Some(folder) = path.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()?; // The name of a new file must survive a crash too.
        }
        Ok(Self { file, path: path.to_owned(), torn: false })
    }

    fn close_torn_line(&mut self) -> io::Result<()> {
        use std::os::unix::fs::FileExt;
        let length = self.file.metadata()?.len();
        let mut last = [b'\n'];
        if length > 0 {
            self.file.read_exact_at(&mut last, length - 1)?;
        }
        if last != *b"\n" { self.append_synced(b"\n") } else { Ok(()) }
    }
}

impl Sink for RecordFile {
    fn append_synced(&mut self, batch: &[u8]) -> io::Result<()> {
        if !self.path.exists() {
            *self = Self::open(&self.path)?; // The log was rotated away.
        }
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        let before = self.file.seek(SeekFrom::End(0))?;
        let done = self.file.write_all(batch).and_then(|()| self.file.sync_data());
        if done.is_err() {
            // Take back what was written of the batch: it is written whole later.
            self.torn = self.file.set_len(before).is_err();
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct FullDisk {
        failures_left: Arc<Mutex<u32>>,
        waits: Arc<Mutex<Vec<Duration>>>,
        content: Arc<Mutex<Vec<u8>>>,
    }

    impl Sink for FullDisk {
        fn append_synced(&mut self, batch: &[u8]) -> io::Result<()> {
            let mut left = self.failures_left.lock().unwrap();
            if *left > 0 {
                *left -= 1;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.content.lock().unwrap().extend_from_slice(batch);
            Ok(())
        }
        fn wait(&mut self, delay: Duration) {
            self.waits.lock().unwrap().push(delay);
        }
    }

    #[test]
    fn a_full_disk_delays_and_loses_nothing() {
        let disk = FullDisk { failures_left: Arc::new(Mutex::new(7)), ..FullDisk::default() };
        let log = RecordLog::start(disk.clone());
        let (written, on_disk) = oneshot::channel();
        log.counters.waiting.fetch_add(1, Ordering::Relaxed);
        log.lines.send(Line { json: b"{}\n".to_vec(), written }).unwrap();
        on_disk.blocking_recv().unwrap();
        assert_eq!(*disk.content.lock().unwrap(), b"{}\n");
        assert_eq!(log.stats(), RecordLogStats { waiting: 0, written: 1, failures: 7 });
        let waits: Vec<_> = disk.waits.lock().unwrap().iter().map(Duration::as_millis).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 10_000]);
    }

    #[test]
    fn a_torn_line_is_closed_and_a_rotated_log_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/calls.jsonl");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, b"{\"half").unwrap();
        let mut file = RecordFile::open(&path).unwrap();
        file.close_torn_line().unwrap();
        file.append_synced(b"{\"whole\":1}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"half\n{\"whole\":1}\n");
        std::fs::rename(&path, folder.path().join("old")).unwrap();
        file.append_synced(b"{\"whole\":2}\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"{\"whole\":2}\n");
    }
}
