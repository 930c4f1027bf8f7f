//! The run from beginning to end: control, daemon, control.

use std::{
    io,
    net::{Ipv4Addr, UdpSocket},
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    BenchReport, DaemonUse, Scheduling, Summary,
    callers::Callers,
    daemon::{Daemon, Ingress},
    fake_model::{FakeModel, Phase, Vendor},
    generator::{Grid, PTIME, Phases, Sent, WARM_UP, generate},
    listener::{Listener, TurnsHeard},
    null_relay,
};

/// What is still on its way after the last packet was sent may take this long.
pub(crate) const SETTLE: Duration = Duration::from_millis(500);

/// Turns a run is to have at least, where slots of the shortest length give them.
const TURNS: u32 = 1_500;

const SHORTEST_SLOT: Duration = Duration::from_millis(500);
const LONGEST_SLOT: Duration = Duration::from_secs(2);

/// One block of the control at most takes this long.
pub(crate) const CONTROL: Duration = Duration::from_secs(10);

/// Packets that leave later than this at p99 make figures about the generator: under SCHED_FIFO, and as an ordinary
/// thread.
const LATENESS_FIFO: Duration = Duration::from_micros(100);
const LATENESS_ORDINARY: Duration = Duration::from_micros(500);

/// So often a block is measured before its generator's lateness ends the run.
const TRIES: u32 = 3;

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct BenchPlan {
    /// The `tandem` to be started as daemon.
    pub daemon: PathBuf,
    /// Calls at the same time, at least 1.
    pub calls: u16,
    /// How long the daemon is measured, after a second of warm-up.
    pub length: Duration,
    /// Decides when the model speaks.
    pub seed: u64,
    /// Schedule the daemon, and the control, with SCHED_FIFO too. What a user gets is without.
    pub fifo_daemon: bool,
    /// How late the generator may be at p99; none = 100 us under SCHED_FIFO and 500 us as an ordinary thread.
    pub lateness_limit: Option<Duration>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The system gave no socket, thread or file.
    #[error("the system refused: {0}")]
    System(#[from] io::Error),
    /// The daemon did not start.
    #[error("the daemon: {0}")]
    Daemon(String),
    /// The receiver of webhooks did not start.
    #[error("the receiver of webhooks: {0}")]
    Receiver(String),
    /// Our own SIP endpoint did not start.
    #[error("SIP: {0}")]
    Sip(String),
    /// The daemon did not take a call.
    #[error("call {call} was not answered: {why}")]
    NotAnswered {
        /// From 0.
        call: u16,
        /// What came instead.
        why: String,
    },
    /// The generator did not keep its grid: whatever was measured would be its own lateness.
    #[error(
        "no report: the generator itself sent {p99:?} late at p99 ({during}), allowed are {limit:?} as {} thread; \
         the machine is too busy to measure on",
        scheduling.name()
    )]
    GeneratorLate {
        /// In which block.
        during: &'static str,
        /// What was seen.
        p99: Duration,
        /// What is allowed.
        limit: Duration,
        /// How the generator was scheduled.
        scheduling: Scheduling,
    },
}

/// Measures as `plan` says, and tells `progress` what it is doing. Takes `length` and about half a minute; longer where
/// the generator was late and a block is measured again.
pub fn run(plan: &BenchPlan, progress: &dyn Fn(&str)) -> Result<BenchReport, BenchError> {
    let control = plan.length.min(CONTROL);
    let null = || Ok(null_relay::measure(plan.calls, control, plan.fifo_daemon)?);
    let daemon = || measure_daemon(plan, progress);
    let (_, null_before) = on_time(plan, progress, "null relay", null)?;
    let (sent, measured) = on_time(plan, progress, "daemon", daemon)?;
    let (_, null_after) = on_time(plan, progress, "null relay again", null)?;
    let Measured { grid, uplink, turns, set_up, daemon, calls_lost } = measured;
    let expected = grid.counted();
    Ok(BenchReport {
        calls: plan.calls,
        length: plan.length,
        generator: sent.scheduling,
        daemon_scheduling: if plan.fifo_daemon { Scheduling::Fifo } else { Scheduling::Ordinary },
        packets_refused: sent.refused,
        lateness: Summary::of(sent.lateness),
        null_before: Summary::of(null_before),
        uplink_lost: expected.saturating_sub(uplink.len() as u64),
        uplink: Summary::of(uplink),
        null_after: Summary::of(null_after),
        turns_unheard: turns.unheard,
        first_packet: Summary::of(turns.first_packet),
        spacing: Summary::of(turns.spacing),
        set_up: Summary::of(set_up),
        calls_lost,
        daemon,
    })
}

/// What the daemon's block gave, beside how the generator kept its grid.
struct Measured {
    grid: Grid,
    uplink: Vec<Duration>,
    turns: TurnsHeard,
    set_up: Vec<Duration>,
    daemon: DaemonUse,
    calls_lost: u64,
}

/// Measures one block; again when the generator was late, for what else ran on the machine may be over.
pub(crate) fn on_time<S: AsRef<Sent>, T>(
    plan: &BenchPlan,
    progress: &dyn Fn(&str),
    during: &'static str,
    mut measure: impl FnMut() -> Result<(S, T), BenchError>,
) -> Result<(S, T), BenchError> {
    let mut tries = 0;
    loop {
        progress(during);
        let (sent, measured) = measure()?;
        tries += 1;
        match check_lateness(plan, during, sent.as_ref()) {
            Ok(()) => return Ok((sent, measured)),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => progress("the generator was late, once more:"),
        }
    }
}

fn measure_daemon(
    plan: &BenchPlan,
    progress: &dyn Fn(&str),
) -> Result<(Sent, Measured), BenchError> {
    let model = FakeModel::start(Vendor::OpenAi, plan.seed)?;
    let daemon =
        Daemon::start(&plan.daemon, Ingress::Sip, &model.url(), plan.calls, plan.fifo_daemon)?;
    let idle = daemon.usage()?;
    // Signalling goes on in a thread of its own while we measure.
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let listener = Listener::start(socket.try_clone()?)?;
    progress(&format!("calling the daemon {} times", plan.calls));
    let called = runtime.block_on(Callers::call(daemon.sip, &socket, plan.calls));
    let mut callers = called.map_err(|error| daemon.explain(error))?;

    progress(&format!("measuring for {} s", plan.length.as_secs()));
    let remotes = callers.remotes();
    let grid = Grid::starting_soon(plan.calls, plan.length, Phases::Spread);
    let from = grid.start + PTIME * WARM_UP;
    model.set_phase(Phase::Speaking { from, until: grid.end(), slot: slot(plan, SHORTEST_SLOT) });
    let (before, since) = (daemon.usage()?, Instant::now());
    let sent = generate(&socket, &remotes, grid)?;
    let (after, elapsed) = (daemon.usage()?, since.elapsed());
    std::thread::sleep(SETTLE);

    let set_up = std::mem::take(&mut callers.set_up);
    let calls_lost = runtime.block_on(callers.hang_up());
    let heard = listener.stop();
    let log = model.stop();
    daemon.stop()?;
    let measured = Measured {
        uplink: grid.latencies(&log.arrivals),
        grid,
        turns: TurnsHeard::new(&log.turns, heard),
        set_up,
        daemon: DaemonUse::between(idle, before, after, elapsed),
        calls_lost,
    };
    Ok((sent, measured))
}

/// In every slot each call's model speaks once.
pub(crate) fn slot(plan: &BenchPlan, shortest: Duration) -> Duration {
    (plan.length * u32::from(plan.calls) / TURNS).clamp(shortest, LONGEST_SLOT)
}

fn check_lateness(plan: &BenchPlan, during: &'static str, sent: &Sent) -> Result<(), BenchError> {
    let scheduling = sent.scheduling;
    let limit = plan.lateness_limit.unwrap_or(match scheduling {
        Scheduling::Fifo => LATENESS_FIFO,
        Scheduling::Ordinary => LATENESS_ORDINARY,
    });
    let p99 = Summary::of(sent.lateness.clone()).p99;
    if p99 > limit {
        return Err(BenchError::GeneratorLate { during, p99, limit, scheduling });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(scheduling: Scheduling, late: usize, micros: u64) -> Sent {
        let mut lateness = vec![Duration::from_micros(30); 1000];
        lateness[..late].fill(Duration::from_micros(micros));
        Sent { scheduling, lateness, refused: 0 }
    }

    fn plan(limit: Option<u64>) -> BenchPlan {
        BenchPlan {
            daemon: PathBuf::new(),
            calls: 1,
            length: Duration::from_secs(1),
            seed: 0,
            fifo_daemon: false,
            lateness_limit: limit.map(Duration::from_micros),
        }
    }

    #[test]
    fn a_late_generator_gives_no_report() {
        for (name, sent, limit, good) in [
            ("on time", sent(Scheduling::Fifo, 0, 0), None, true),
            ("late one time in a hundred", sent(Scheduling::Fifo, 10, 9_000), None, true),
            ("late more often", sent(Scheduling::Fifo, 11, 101), None, false),
            ("good for an ordinary thread", sent(Scheduling::Ordinary, 500, 400), None, true),
            ("too late for one", sent(Scheduling::Ordinary, 11, 501), None, false),
            ("allowed by the user", sent(Scheduling::Fifo, 11, 900), Some(1_000), true),
        ] {
            let checked = check_lateness(&plan(limit), "daemon", &sent);
            assert_eq!(checked.is_ok(), good, "{name}");
            if let Err(error) = checked {
                assert!(error.to_string().starts_with("no report: the generator"), "{error}");
            }
        }
    }

    #[test]
    fn a_block_whose_generator_was_late_is_measured_again() {
        let late = |times: u32| {
            let mut tries = 0;
            let outcome = on_time(&plan(None), &|_| {}, "daemon", || {
                tries += 1;
                Ok((sent(Scheduling::Fifo, if tries <= times { 500 } else { 0 }, 900), tries))
            });
            outcome.map(|(_, tries)| tries).ok()
        };
        assert_eq!([0, 1, 2, 3].map(late), [Some(1), Some(2), Some(3), None]);
    }

    #[test]
    fn a_run_has_turns_enough_and_room_between_them() {
        for (calls, seconds, millis) in
            [(100, 30, 2_000), (100, 10, 666), (10, 30, 500), (1000, 30, 2_000)]
        {
            let plan = BenchPlan { calls, length: Duration::from_secs(seconds), ..plan(None) };
            let slot = slot(&plan, SHORTEST_SLOT);
            assert_eq!(slot.as_millis(), millis, "{calls} calls, {seconds} s");
        }
    }
}
