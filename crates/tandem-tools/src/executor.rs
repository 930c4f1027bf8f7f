//! The daemon's tool executor: where tools are carried out, and how many at a time (control API 11.6).

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    time::timeout,
};

use crate::ToolMetrics;

/// Late answers that are waited for at a time; beyond it they are not heard.
const MAX_LISTENERS: usize = 1_024;

/// What the executor may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExecutorLimits {
    /// Invocations of all calls that are carried out at a time, of which at most half lead to one host; the others
    /// wait, and their time runs.
    pub in_flight: usize,
    /// A late answer is listened for so long after the deadline.
    pub late_window: Duration,
}

impl Default for ExecutorLimits {
    fn default() -> Self {
        Self { in_flight: 256, late_window: Duration::from_secs(60) }
    }
}

/// Carries out the tools of all calls on one runtime. Clones are the same executor; it outlives configurations.
#[derive(Debug, Clone)]
pub struct Executor {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    runtime: Handle,
    limits: ExecutorLimits,
    places: Arc<Semaphore>,
    /// By the host or server that they lead to: one that is slow leaves places for the others.
    places_of: Mutex<HashMap<String, Arc<Semaphore>>>,
    listeners: Arc<Semaphore>,
    metrics: ToolMetrics,
    /// Invocations whose tasks are not over.
    underway: watch::Sender<usize>,
}

impl Executor {
    /// An executor whose work is done on `runtime`, within `limits`.
    pub fn new(runtime: Handle, limits: ExecutorLimits) -> Self {
        let in_flight = limits.in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Shared {
            runtime,
            limits,
            places: Arc::new(Semaphore::new(in_flight)),
            places_of: Mutex::default(),
            listeners: Arc::new(Semaphore::new(MAX_LISTENERS)),
            metrics: ToolMetrics::default(),
            underway: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What was counted of all tools.
    pub fn metrics(&self) -> &ToolMetrics {
        &self.shared.metrics
    }

    /// Waits until nothing is under way any more, at most `within`; how many invocations are left.
    pub async fn idle(&self, within: Duration) -> usize {
        let mut underway = self.shared.underway.subscribe();
        let none = underway.wait_for(|count| *count == 0);
        if timeout(within, none).await.is_ok() {
            return 0;
        }
        *self.shared.underway.borrow()
    }

    /// Has `task`, which is all there is to do for an invocation, done.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let underway = Underway::begin(&self.shared);
        self.shared.runtime.spawn(async move {
            task.await;
            drop(underway);
        });
    }

    pub(crate) fn runtime(&self) -> &Handle {
        &self.shared.runtime
    }

    pub(crate) fn late_window(&self) -> Duration {
        self.shared.limits.late_window
    }

    /// Places for what is carried out.
    pub(crate) fn places(&self) -> &Arc<Semaphore> {
        &self.shared.places
    }

    /// Places for what is carried out by `carrier`, half of all.
    pub(crate) fn places_of(&self, carrier: &str) -> Arc<Semaphore> {
        let half = (self.shared.limits.in_flight / 2).clamp(1, Semaphore::MAX_PERMITS);
        let mut places = self.shared.places_of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = places.get(carrier) {
            return Arc::clone(known);
        }
        places.retain(|_, places| Arc::strong_count(places) > 1);
        Arc::clone(places.entry(carrier.into()).or_insert_with(|| Arc::new(Semaphore::new(half))))
    }

    /// Places for those who listen for late answers.
    pub(crate) fn listeners(&self) -> &Arc<Semaphore> {
        &self.shared.listeners
    }
}

/// Counts an invocation for as long as it lives.
struct Underway(Arc<Shared>);

impl Underway {
    fn begin(shared: &Arc<Shared>) -> Self {
        shared.underway.send_modify(|count| *count += 1);
        Self(Arc::clone(shared))
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.underway.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn idle_waits_for_what_is_under_way_and_no_longer_than_it_may() {
        let executor = Executor::new(Handle::current(), ExecutorLimits::default());
        assert_eq!(executor.idle(Duration::ZERO).await, 0);
        for seconds in [2, 9] {
            executor.spawn(async move { sleep(Duration::from_secs(seconds)).await });
        }
        let begun = Instant::now();
        assert_eq!(executor.idle(Duration::from_secs(5)).await, 1);
        assert_eq!(begun.elapsed(), Duration::from_secs(5));
        assert_eq!(executor.idle(Duration::from_secs(60)).await, 0);
        assert_eq!(begun.elapsed(), Duration::from_secs(9));
    }
}
