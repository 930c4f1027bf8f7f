//! The run of forked calls from beginning to end: control, daemon, control.

mod calls;
mod generator;
mod listener;
mod null_relay;
mod poll;
mod report;
mod websocket;

pub use report::ForkReport;

use std::{
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use self::{
    calls::{Calls, hang_up},
    generator::{Spoken, generate},
    listener::{AnswersHeard, Listener},
};
use crate::{
    BenchError, BenchPlan, DaemonUse, Phases, Scheduling, Summary,
    bench::{CONTROL, SETTLE, on_time, slot},
    daemon::{Daemon, Ingress},
    fake_model::{FakeModel, Phase, Vendor},
    generator::{Grid, PTIME, WARM_UP},
};

/// An answer is 400 ms long, and the module plays it in real time.
const SHORTEST_SLOT: Duration = Duration::from_secs(1);

/// Calls whose forks were closed are to be over, and recorded, after this.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Measures forked calls as `plan` says, and tells `progress` what it is doing. Takes `length` and about half a minute;
/// longer where the generator was late and a block is measured again.
///
/// Each call is a fork of jambonz' module at 16 kHz both ways, opened and closed as a dialplan without an event socket
/// does; the model is Gemini, which takes that rate.
pub fn run_forks(
    plan: &BenchPlan,
    phases: Phases,
    progress: &dyn Fn(&str),
) -> Result<ForkReport, BenchError> {
    let control = plan.length.min(CONTROL);
    let null = || null_relay::measure(plan.calls, control, phases, plan.fifo_daemon);
    let daemon = || measure_daemon(plan, phases, progress);
    let (_, null_before) = on_time(plan, progress, "null relay of forks", null)?;
    let (spoken, measured) = on_time(plan, progress, "daemon with forks", daemon)?;
    let (_, null_after) = on_time(plan, progress, "null relay of forks again", null)?;
    let Measured { grid, uplink, answers, set_up, daemon, calls_lost, calls_left } = measured;
    let Spoken { sent, bursts } = spoken;
    Ok(ForkReport {
        calls: plan.calls,
        length: plan.length,
        phases,
        generator: sent.scheduling,
        daemon_scheduling: if plan.fifo_daemon { Scheduling::Fifo } else { Scheduling::Ordinary },
        frames_refused: sent.refused,
        lateness: Summary::of(sent.lateness),
        bursts: Summary::of(bursts),
        null_before: Summary::of(null_before),
        uplink_lost: grid.counted().saturating_sub(uplink.len() as u64),
        uplink: Summary::of(uplink),
        null_after: Summary::of(null_after),
        answers_incomplete: answers.incomplete,
        answers: answers.written,
        first_message: Summary::of(answers.first_message),
        set_up: Summary::of(set_up),
        calls_lost,
        calls_left,
        daemon,
    })
}

/// What the daemon's block gave, beside how the generator kept its grid.
struct Measured {
    grid: Grid,
    uplink: Vec<Duration>,
    answers: AnswersHeard,
    set_up: Vec<Duration>,
    daemon: DaemonUse,
    calls_lost: u64,
    calls_left: u64,
}

fn measure_daemon(
    plan: &BenchPlan,
    phases: Phases,
    progress: &dyn Fn(&str),
) -> Result<(Spoken, Measured), BenchError> {
    let model = FakeModel::start(Vendor::Gemini, plan.seed)?;
    let daemon =
        Daemon::start(&plan.daemon, Ingress::Forks, &model.url(), plan.calls, plan.fifo_daemon)?;
    let idle = daemon.usage()?;
    progress(&format!("opening {} forks at the daemon", plan.calls));
    let Calls { streams, frames, set_up } =
        Calls::open(daemon.forks, plan.calls, &model).map_err(|error| daemon.explain(error))?;
    let (owed, notes) = mpsc::channel();
    let listener = Listener::start(&streams, frames, owed)?;

    progress(&format!("measuring for {} s", plan.length.as_secs()));
    let grid = Grid::starting_soon(plan.calls, plan.length, phases);
    let from = grid.start + PTIME * WARM_UP;
    model.set_phase(Phase::Speaking { from, until: grid.end(), slot: slot(plan, SHORTEST_SLOT) });
    let (before, since) = (daemon.usage()?, Instant::now());
    let spoken = generate(&streams, notes, grid)?;
    let (after, elapsed) = (daemon.usage()?, since.elapsed());
    thread::sleep(SETTLE);

    let heard = listener.stop();
    hang_up(&streams);
    let ended = daemon.ended_calls(plan.calls.into(), END_WITHIN);
    let log = model.stop();
    daemon.stop()?;
    let measured = Measured {
        uplink: grid.latencies(&log.arrivals),
        grid,
        answers: AnswersHeard::new(log.turns, Vendor::Gemini.answer_length(), heard.speech),
        set_up,
        daemon: DaemonUse::between(idle, before, after, elapsed),
        calls_lost: heard.closed,
        calls_left: u64::from(plan.calls).saturating_sub(ended),
    };
    Ok((spoken, measured))
}
