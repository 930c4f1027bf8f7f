//! The threads that write recordings.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    Ear, Recording, RecordingOrder, RecordingReport,
    ear::Shared,
    random,
    ring::ring,
    take::{Job, Take, Turn},
};

/// The rings are emptied so often.
const TICK: Duration = Duration::from_millis(100);

/// Recordings that may wait for their file to be opened; more are not made.
const WAITING: usize = 1_024;

/// The writers' nice value: nobody waits for them, and audio has room for seconds.
const NICE: libc::c_int = 10;

/// Writes recordings on threads of its own. Cheap to clone; the threads end when the last clone is dropped and all that was begun
/// is written.
#[derive(Debug, Clone)]
pub struct Recorder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    writers: Vec<SyncSender<Job>>,
    next: AtomicUsize,
}

impl Recorder {
    /// A recorder with `threads` writers, one at least. Fails when the system gives no threads.
    pub fn start(threads: usize) -> io::Result<Self> {
        let mut writers = Vec::new();
        for _ in 0..threads.max(1) {
            let (sender, jobs) = sync_channel(WAITING);
            thread::Builder::new().name("recorder".into()).spawn(move || write(&jobs))?;
            writers.push(sender);
        }
        Ok(Self(Arc::new(Inner { writers, next: AtomicUsize::new(0) })))
    }

    /// Begins a recording: the file is made by a writer, and `done` gets what became of it, once, when it is over. The two ears are
    /// for the leg: the caller's, the agent's.
    pub fn begin(
        &self,
        order: RecordingOrder,
        done: impl FnOnce(RecordingReport) + Send + 'static,
    ) -> (Recording, [Box<Ear>; 2]) {
        let shared = Arc::new(Shared::default());
        let begin = order.begin;
        let (heard, caller) = ring(order.leg_rate);
        let (sent, agent) = ring(order.leg_rate);
        let ears = [heard, sent].map(|it| Box::new(Ear::new(begin, it, Arc::clone(&shared))));
        let recording = Recording::new(begin, Arc::clone(&shared));
        let id = recording_id(order.started_at);
        let job = Job { id, order, caller, agent, shared, done: Box::new(done) };
        let writer = self.0.next.fetch_add(1, Relaxed) % self.0.writers.len();
        match self.0.writers[writer].try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(job)) => {
                job.refuse(&io::Error::other("too many recordings wait for the disk"));
            }
            Err(TrySendError::Disconnected(job)) => {
                job.refuse(&io::Error::other("the recorder broke down"));
            }
        }
        (recording, ears)
    }
}

fn write(jobs: &Receiver<Job>) {
    // SAFETY: the call takes numbers only; on Linux 0 is the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) };
    let mut takes: Vec<Take> = Vec::new();
    let mut due = Instant::now();
    loop {
        let job = if takes.is_empty() {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            jobs.recv_timeout(due.saturating_duration_since(Instant::now()))
        };
        match job {
            Ok(job) => takes.extend(Take::open(Instant::now(), job)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if takes.is_empty() => return,
            Err(RecvTimeoutError::Disconnected) => {
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        let now = Instant::now();
        if now >= due {
            due = now + TICK;
            takes.retain_mut(|take| {
                let turn = take.pump(now);
                if turn == Turn::More {
                    due = now; // It goes on when the others had their turns, and a new one may begin.
                }
                turn != Turn::Over
            });
        }
    }
}

/// `rec_` and the UUIDv7 (RFC 9562 §5.7) of `at`.
fn recording_id(at: SystemTime) -> String {
    let millis = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() & 0xFFFF_FFFF_FFFF;
    let mut bits = [0; 16];
    // Without randomness from the system nothing is secret about it, and it is still of its millisecond.
    random::fill(&mut bits).ok();
    let bits = u128::from_le_bytes(bits);
    let (a, b) = ((bits >> 64 & 0xFFF) << 64, bits & 0x3FFF_FFFF_FFFF_FFFF);
    format!("rec_{:032x}", millis << 80 | 7 << 76 | a | 0b10 << 62 | b)
}
