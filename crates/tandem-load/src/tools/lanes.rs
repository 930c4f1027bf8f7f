//! The callers: each lane has one call after the other, until all calls were made.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    task::JoinSet,
    time::{interval, sleep, timeout},
};

use super::{
    ear::Answered,
    generator::{Change, Line},
};
use crate::{BenchError, callers::Phone};

/// A call in which the model is not done after this is ended.
const LONGEST_CALL: Duration = Duration::from_secs(120);

/// Over this the first calls are spread, so that there is always one that begins and one that ends.
const SPREAD: Duration = Duration::from_secs(15);

/// From a caller's last packet to the BYE, so that what was sent arrives.
const LAST_PACKET: Duration = Duration::from_millis(100);

const PROGRESS: Duration = Duration::from_secs(15);

/// What became of the calls.
#[derive(Debug, Default)]
pub(super) struct Called {
    /// Whose packets come from where.
    pub(super) answered: Vec<Answered>,
    /// From INVITE to answer, per call.
    pub(super) set_up: Vec<Duration>,
    /// Calls that ended before we hung up, or whose model was never done.
    pub(super) lost: u64,
}

/// What all lanes know.
pub(super) struct Lanes {
    /// Calls.
    pub(super) phone: Phone,
    /// Calls in all.
    pub(super) calls: u16,
    /// Calls at the same time, at least 1.
    pub(super) at_once: u16,
    /// By call: the model has nothing more to say in it.
    pub(super) over: Arc<[Notify]>,
    /// The generator's ear.
    pub(super) changes: mpsc::Sender<Change>,
}

impl Lanes {
    /// Makes all calls and tells `progress` how far it is. The first call that is not answered ends it.
    pub(super) async fn run(self, progress: &dyn Fn(&str)) -> Result<Called, BenchError> {
        let (shared, next) = (Arc::new(self), Arc::new(AtomicU16::new(0)));
        let mut lanes = JoinSet::new();
        for lane in 0..shared.at_once {
            lanes.spawn(Arc::clone(&shared).run_lane(lane, Arc::clone(&next)));
        }
        let mut called = Called::default();
        let mut look = interval(PROGRESS);
        look.tick().await;
        loop {
            tokio::select! {
                lane = lanes.join_next() => match lane {
                    Some(lane) => called.add(lane.expect("a lane does not panic")?),
                    None => break,
                },
                _ = look.tick() => {
                    let begun = next.load(Ordering::Relaxed).min(shared.calls);
                    progress(&format!("  {begun} of {} calls begun", shared.calls));
                }
            }
        }
        shared.phone.close().await;
        Ok(called)
    }

    async fn run_lane(
        self: Arc<Self>,
        lane: u16,
        next: Arc<AtomicU16>,
    ) -> Result<Called, BenchError> {
        sleep(SPREAD * u32::from(lane) / u32::from(self.at_once)).await;
        let mut called = Called::default();
        loop {
            let call = next.fetch_add(1, Ordering::Relaxed);
            let Some(over) = self.over.get(usize::from(call)).filter(|_| call < self.calls) else {
                next.fetch_sub(1, Ordering::Relaxed);
                return Ok(called);
            };
            let from = Instant::now();
            let answered = self.phone.call(call).await?;
            called.set_up.push(from.elapsed());
            let remote = answered.remote;
            called.answered.push(Answered { port: remote.port(), from, call });
            // A generator that is gone has failed by itself.
            let _ = self.changes.send((lane, Some(Line { call, remote })));
            let done = timeout(LONGEST_CALL, over.notified()).await.is_ok();
            let _ = self.changes.send((lane, None));
            sleep(LAST_PACKET).await;
            let ended_before = answered.hang_up().await;
            called.lost += u64::from(ended_before || !done);
        }
    }
}

impl Called {
    fn add(&mut self, mut lane: Self) {
        self.answered.append(&mut lane.answered);
        self.set_up.append(&mut lane.set_up);
        self.lost += lane.lost;
    }
}
