//! The invocations of one call: each is checked, waits for its place, is carried out, and reported once at most.

use std::{
    collections::BTreeMap,
    future::ready,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use serde_json::Value;
use tandem_call::{FollowUp, InvocationId, ToolReport, Verdict};
use tokio::{
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, sleep_until},
};
use tracing::Instrument as _;

use crate::{
    CallFacts, InvalidArguments, Offer,
    exchange::Written,
    metrics::{InFlight, ToolStats},
    offer::{Carrier, Done, Errand},
    trouble,
};

/// Invocations of one call that are not over, those included that only a late answer is awaited of.
const MAX_OPEN: usize = 64;

/// A tool call that is to be carried out.
#[derive(Debug, Clone, PartialEq)]
pub struct Invocation {
    /// From 1 in the call.
    pub number: u32,
    /// Which tool, as the model wrote it.
    pub name: String,
    /// The arguments, or the raw text when it was no JSON object.
    pub arguments: Result<Value, String>,
    /// At this instant the model is told that it took too long.
    pub deadline: std::time::Instant,
}

/// Carries out the tools of one call. Dropping it says that the call ended.
#[derive(Debug)]
pub struct CallRunner {
    call: Arc<Call>,
    /// Told `()` when the invocation is taken back; dropped when the call ends.
    open: BTreeMap<u32, oneshot::Sender<()>>,
}

#[derive(Debug)]
struct Call {
    offer: Offer,
    facts: CallFacts,
    places: Arc<Semaphore>,
}

impl CallRunner {
    pub(crate) fn new(offer: Offer, facts: CallFacts) -> Self {
        let max = offer.set.settings.max_in_flight.clamp(1, Semaphore::MAX_PERMITS);
        let call = Call { offer, facts, places: Arc::new(Semaphore::new(max)) };
        Self { call: Arc::new(call), open: BTreeMap::new() }
    }

    /// Has `invocation` carried out and returns at once.
    ///
    /// `report` is called on the executor's runtime: before the deadline, or after it with [`Verdict::Late`], or never.
    /// At the deadline nothing is reported, it is the caller's to know that the time is over. Up to the set's maximum
    /// is carried out at a time, the rest waits in its order and its time runs.
    pub fn start<F>(&mut self, invocation: Invocation, report: F)
    where
        F: FnOnce(ToolReport) + Send + 'static,
    {
        self.open.retain(|_, stop| !stop.is_closed());
        let number = invocation.number;
        let room = self.open.len() < MAX_OPEN;
        let (stop, stopped) = oneshot::channel();
        let work = Work {
            id: self.call.facts.call_id.invocation(number),
            carrier: self.call.offer.carrier(&invocation.name).cloned(),
            call: Arc::clone(&self.call),
            invocation,
            begun: Instant::now(),
        };
        let turn = queue_up(&self.call.places);
        let span =
            tracing::info_span!("tool", call_id = %work.call.facts.call_id, invocation = number);
        let task = async move {
            if let Some(answer) = work.run(room.then_some(turn), stopped).await {
                report(answer);
            }
        };
        self.call.offer.set.executor.spawn(task.instrument(span));
        if room {
            self.open.insert(number, stop);
        }
    }

    /// Takes invocation `number` back: what was not sent is not sent any more, what was is forgotten. Nothing is
    /// reported of it.
    pub fn cancel(&mut self, number: u32) {
        if let Some(stop) = self.open.remove(&number) {
            stop.send(()).ok(); // It is over already: its report is on the way.
        }
    }
}

/// Why nobody waits for a report any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Cancelled,
    CallEnded,
}

async fn stopped(stop: &mut oneshot::Receiver<()>) -> Stop {
    match stop.await {
        Ok(()) => Stop::Cancelled,
        Err(_) => Stop::CallEnded,
    }
}

/// A place of the call, when it is this one's turn.
type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// Queues up now, whenever the task comes to run: a semaphore serves in the order of the first polls.
fn queue_up(places: &Arc<Semaphore>) -> Turn {
    let mut turn = Box::pin(Arc::clone(places).acquire_owned());
    match turn.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(place) => Box::pin(ready(place)),
        Poll::Pending => turn,
    }
}

/// How an invocation ended.
enum Ended {
    /// There is something to report.
    Reported(ToolReport),
    /// Nobody waits for it any more.
    Forgotten,
    /// The deadline passed, and no answer is to be expected.
    TimedOut,
}

/// Places that an invocation holds while it is carried out.
struct Place {
    _of_the_call: OwnedSemaphorePermit,
    _of_the_host: OwnedSemaphorePermit,
    _of_the_daemon: OwnedSemaphorePermit,
    _counted: InFlight,
}

/// What an invocation holds that is on its way: before its deadline a place, then only that of a listener.
enum Held {
    Place(#[expect(dead_code, reason = "held until it is dropped")] Place),
    Listener(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit),
}

/// One invocation on its way.
struct Work {
    call: Arc<Call>,
    id: InvocationId,
    carrier: Option<Carrier>,
    invocation: Invocation,
    begun: Instant,
}

impl Work {
    /// The report, if there is one and somebody waits for it; without a turn there are too many.
    async fn run(
        mut self,
        turn: Option<Turn>,
        mut stop: oneshot::Receiver<()>,
    ) -> Option<ToolReport> {
        let Some(carrier) = self.carrier.take() else {
            tracing::warn!(tool = %self.short_name(), "the model called a tool that there is not");
            return Some(self.call.offer.unknown());
        };
        let ended = match turn {
            Some(turn) => self.carry(&carrier, turn, &mut stop).await,
            None => self.too_many(),
        };
        self.note(&ended, carrier.stats());
        match ended {
            Ended::Reported(report) => Some(report),
            Ended::Forgotten | Ended::TimedOut => None,
        }
    }

    fn too_many(&self) -> Ended {
        let words = &self.call.offer.set.settings.texts.trouble;
        let error = format!("{MAX_OPEN} tools of this call are not over");
        Ended::Reported(trouble("error", words, Verdict::Rejected, error))
    }

    async fn carry(
        &mut self,
        carrier: &Carrier,
        turn: Turn,
        stop: &mut oneshot::Receiver<()>,
    ) -> Ended {
        let set = &*self.call.offer.set;
        let given = std::mem::replace(&mut self.invocation.arguments, Ok(Value::Null));
        let prepared = match read_arguments(given) {
            Ok(arguments) => carrier.prepare(set, arguments),
            Err(invalid) => Err(Box::new(invalid.into())),
        };
        let arguments = match prepared {
            Ok(arguments) => arguments,
            Err(report) => return Ended::Reported(*report),
        };
        let deadline = Instant::from_std(self.invocation.deadline);
        let mut forgotten = false;
        let place = {
            let mut waiting = std::pin::pin!(self.place(turn, carrier));
            loop {
                tokio::select! {
                    biased;
                    why = stopped(stop), if !forgotten => match why {
                        Stop::Cancelled => return Ended::Forgotten,
                        Stop::CallEnded => forgotten = true, // Its caller may have been told that it is done.
                    },
                    () = sleep_until(deadline) => {
                        return if forgotten { Ended::Forgotten } else { Ended::TimedOut };
                    }
                    place = &mut waiting => break place,
                }
            }
        };
        let give_up = deadline + set.executor.late_window();
        let written = Written::default();
        let errand = Errand {
            arguments,
            facts: &self.call.facts,
            invocation: &self.id,
            deadline,
            give_up,
            written: &written,
            test: false,
        };
        let mut carried = std::pin::pin!(carrier.carry(set, errand));
        let mut held = Held::Place(place);
        loop {
            let late = matches!(held, Held::Listener(_));
            tokio::select! {
                biased;
                done = &mut carried => {
                    return match (forgotten, late) {
                        (true, _) => Ended::Forgotten,
                        (false, false) => Ended::Reported(done.report),
                        (false, true) => came_late(done),
                    };
                }
                why = stopped(stop), if !forgotten => {
                    let taken_back = carrier.takes_back() || !written.is_set();
                    if why == Stop::Cancelled && taken_back {
                        return Ended::Forgotten;
                    }
                    forgotten = true;
                }
                () = sleep_until(if late { give_up } else { deadline }) => {
                    let sent = written.is_set() || carrier.takes_back();
                    let listener = Arc::clone(set.executor.listeners()).try_acquire_owned();
                    match listener {
                        Ok(listener) if sent && !late => held = Held::Listener(listener),
                        _ if forgotten => return Ended::Forgotten,
                        _ => return Ended::TimedOut,
                    }
                }
            }
        }
    }

    /// Waits for a place of the call, then for one of the host, then for one of the daemon.
    async fn place(&self, turn: Turn, carrier: &Carrier) -> Place {
        let open = "these semaphores are never closed";
        let of_the_call = turn.await.expect(open);
        let of_the_host = Arc::clone(carrier.places()).acquire_owned().await.expect(open);
        let places = Arc::clone(self.call.offer.set.executor.places());
        let of_the_daemon = places.acquire_owned().await.expect(open);
        Place {
            _of_the_call: of_the_call,
            _of_the_host: of_the_host,
            _of_the_daemon: of_the_daemon,
            _counted: carrier.stats().fly(),
        }
    }

    fn short_name(&self) -> String {
        self.invocation.name.chars().take(64).collect()
    }

    /// Counts and logs the end. Arguments and answers are the record's, not the log's.
    fn note(&self, ended: &Ended, stats: &ToolStats) {
        let took = self.begun.elapsed();
        let verdict = match ended {
            Ended::Reported(report) => report.verdict,
            Ended::Forgotten => Verdict::Cancelled,
            Ended::TimedOut => Verdict::FallbackTrouble,
        };
        stats.count_verdict(verdict);
        let tool = &*self.invocation.name;
        let duration_ms = took.as_millis() as u64;
        if let Ended::Reported(report) = ended {
            if report.attempts > 0 {
                stats.observe(took);
            }
            let ToolReport { http_status, attempts, error, .. } = report;
            tracing::info!(tool, ?verdict, duration_ms, http_status, attempts, error, "tool");
        } else {
            tracing::info!(tool, ?verdict, duration_ms, "tool");
        }
    }
}

/// Models write nothing, or blanks, when there is nothing to say.
fn read_arguments(given: Result<Value, String>) -> Result<Value, InvalidArguments> {
    match given {
        Ok(arguments) => Ok(arguments),
        Err(text) if text.trim().is_empty() => Ok(Value::Null),
        Err(_) => Err(InvalidArguments::problem("The arguments must be one JSON object.")),
    }
}

/// A late answer is told for what it is, and moves nothing any more.
fn came_late(done: Done) -> Ended {
    if !done.is_answered() {
        return Ended::TimedOut;
    }
    let metadata = done.report.follow_up.metadata;
    let follow_up = FollowUp { metadata, ..FollowUp::default() };
    Ended::Reported(ToolReport { verdict: Verdict::Late, follow_up, ..done.report })
}
