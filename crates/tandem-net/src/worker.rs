//! Media workers: threads that each run the calls given to them, whole.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use tokio::{
    sync::mpsc,
    task::{LocalSet, spawn_local},
};

/// What a worker runs: made on the worker's thread, so that it need not be `Send`.
type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// Jobs that may wait for a worker to take them up; a worker takes one up within a poll.
const WAITING_JOBS: usize = 1024;

/// The media workers of this process: one single-threaded runtime each.
#[derive(Debug)]
pub struct Workers {
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    jobs: mpsc::Sender<Job>,
    load: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

/// No worker takes the job: its queue is full or its thread is gone.
#[derive(Debug, thiserror::Error)]
#[error("no media worker takes another call")]
pub struct WorkersBusy;

impl Workers {
    /// Starts `count` threads, at least one.
    pub fn start(count: usize) -> io::Result<Self> {
        let workers = (0..count.max(1)).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { workers })
    }

    /// Runs the future that `job` makes on the worker with the fewest jobs; all of it stays on that thread.
    pub fn spawn<F>(&self, job: impl FnOnce() -> F + Send + 'static) -> Result<(), WorkersBusy>
    where
        F: Future<Output = ()> + 'static,
    {
        let worker = self
            .workers
            .iter()
            .min_by_key(|worker| worker.load.load(Ordering::Relaxed))
            .expect("there is at least one worker");
        let load = Load::add(Arc::clone(&worker.load));
        let job: Job = Box::new(move || {
            let future = Box::pin(job()); // Awaited by value it would be held twice.
            Box::pin(async move {
                let _load = load;
                future.await;
            })
        });
        worker.jobs.try_send(job).map_err(|_| WorkersBusy)
    }

    /// Jobs running or waiting on all workers.
    pub fn load(&self) -> usize {
        self.workers.iter().map(|worker| worker.load.load(Ordering::Relaxed)).sum()
    }
}

impl Drop for Workers {
    /// Ends the threads; jobs that still run are dropped.
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let (closed, _) = mpsc::channel(1);
            worker.jobs = closed;
        }
        for worker in &mut self.workers {
            if let Some(thread) = worker.thread.take()
                && thread.join().is_err()
            {
                tracing::error!("a media worker had panicked");
            }
        }
    }
}

impl Worker {
    fn start(index: usize) -> io::Result<Self> {
        let (jobs, mut waiting) = mpsc::channel::<Job>(WAITING_JOBS);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name(format!("media-{index}")).spawn(move || {
            let set = LocalSet::new();
            set.block_on(&runtime, async move {
                while let Some(job) = waiting.recv().await {
                    // A panic ends this one call: the runtime catches it and the guard in the job counts it off.
                    spawn_local(async move { job().await });
                }
            });
        })?;
        Ok(Self { jobs, load: Arc::default(), thread: Some(thread) })
    }
}

/// Counts one job for as long as it lives.
struct Load(Arc<AtomicUsize>);

impl Load {
    fn add(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn jobs_spread_stay_on_their_thread_and_count_off() {
        let workers = Workers::start(2).unwrap();
        let (mut stop, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..4 {
            let (stopper, stopped) = oneshot::channel::<()>();
            let (tell, told) = oneshot::channel();
            workers
                .spawn(move || async move {
                    let here = Rc::new(thread::current().id()); // Not `Send`, on purpose.
                    tell.send(*here).unwrap();
                    stopped.await.ok();
                    assert_eq!(*here, thread::current().id());
                })
                .unwrap();
            threads.push(told.blocking_recv().unwrap());
            stop.push(stopper);
        }
        assert_eq!(workers.load(), 4);
        assert_eq!(threads[0], threads[2]);
        assert_ne!(threads[0], threads[1]);
        drop(stop);
        while workers.load() > 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_panicking_job_takes_nothing_with_it() {
        let workers = Workers::start(1).unwrap();
        workers.spawn(|| async { panic!("one call fails") }).unwrap();
        let (tell, told) = oneshot::channel();
        workers.spawn(move || async move { tell.send(7).unwrap() }).unwrap();
        assert_eq!(told.blocking_recv().unwrap(), 7);
        while workers.load() > 0 {
            thread::yield_now();
        }
    }
}
