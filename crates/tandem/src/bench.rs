//! `tandem bench`: latency of a daemon with many calls, measured from outside it.

use std::{env, fs, io, path::PathBuf, time::Duration};

use clap::Args;
use serde::Serialize;
use serde_json::json;
use tandem_load::{
    BenchError, BenchPlan, BenchReport, ForkReport, Phases, Target, ToolsPlan, ToolsReport,
};

use crate::terminal::Paint;

/// `tandem bench`
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tandem bench                          100 calls for 30 seconds, against a daemon of its own
  tandem bench --calls 300 --seconds 60 --json bench.json
  tandem bench --fork                   200 calls of FreeSWITCH's mod_audio_fork instead of SIP and RTP
  tandem bench --fork --burst           the same, all calls sending at once every 20 ms
  tandem bench --tools                  1000 short calls, each with three tools whose webhooks now and then fail

A daemon is started as a process of its own, with a model that runs here. Everything is on loopback: SIP calls are G.711
all the way, forked calls are 16 kHz PCM both ways with a model that answers in 24 kHz. Latency counts from the instant
a packet was meant to leave; the calls are spread evenly over each 20 ms, unless --burst is given. The null relay is the
least that any bridge costs on this machine.

With --tools each call lasts about 20 seconds and a new one begins in its place; the webhooks go to a receiver in a process
of its own, which answers one in twenty late, never, wrongly or drop by drop. Every invocation must have exactly one outcome,
no caller may hear more than 2.5 seconds of silence while a tool runs, and the audio is compared with the same calls
without tools, made before and after.

As root, or with CAP_SYS_NICE, the measuring threads use SCHED_FIFO; the
daemon does not.

The exit code is 1 when a target is missed, or when this machine is too busy to measure on.")]
pub struct BenchArgs {
    /// Calls at the same time [default: 100, with --fork 200]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub calls: Option<u16>,
    /// Measure forked calls of FreeSWITCH instead of SIP calls
    #[arg(long)]
    pub fork: bool,
    /// Have the model call tools, in many short calls
    #[arg(long, conflicts_with_all = ["fork", "seconds"])]
    pub tools: bool,
    /// Calls with tools, one after the other in each place [default: 1000]
    #[arg(long, value_name = "N", requires = "tools", value_parser = clap::value_parser!(u16).range(1..=20_000))]
    pub total: Option<u16>,
    /// Have all calls send at the same instant, as one FreeSWITCH does, instead of spread over 20 ms
    #[arg(long, requires = "fork")]
    pub burst: bool,
    /// How long the daemon is measured
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(1..=600))]
    pub seconds: u16,
    /// Decides when the model speaks
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub seed: u64,
    /// Schedule daemon and null relay with SCHED_FIFO too, to see the code without the scheduler
    #[arg(long)]
    pub fifo: bool,
    /// Report even if the generator is this late at p99; it is part of the latencies [default: 100 with SCHED_FIFO, else 500]
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_lateness: Option<u32>,
    /// Write all figures as JSON to this file as well
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchFailed {
    /// This program does not know where it is.
    #[error("this program can't be found to start it again: {0}")]
    Executable(io::Error),
    /// It was not measured.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The file could not be written.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// What was measured.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Measured {
    /// Calls over SIP and RTP.
    Sip(Box<BenchReport>),
    /// Forked calls.
    Forks(Box<ForkReport>),
    /// SIP calls with tools.
    Tools(Box<ToolsReport>),
}

impl Measured {
    /// Whether all targets were met.
    pub fn passed(&self) -> bool {
        self.targets().iter().all(|target| target.met)
    }

    fn targets(&self) -> Vec<Target> {
        match self {
            Self::Sip(report) => report.targets(),
            Self::Forks(report) => report.targets(),
            Self::Tools(report) => report.targets(),
        }
    }

    fn table(&self) -> String {
        match self {
            Self::Sip(report) => report.table(),
            Self::Forks(report) => report.table(),
            Self::Tools(report) => report.table(),
        }
    }

    fn disturbance(&self) -> Option<String> {
        match self {
            Self::Sip(report) => report.disturbance(),
            Self::Forks(report) => report.disturbance(),
            Self::Tools(report) => report.disturbance(),
        }
    }
}

/// Measures as `args` say, and tells `progress` what it is doing.
pub fn run(args: &BenchArgs, progress: &dyn Fn(&str)) -> Result<Measured, BenchFailed> {
    let plan = BenchPlan {
        daemon: env::current_exe().map_err(BenchFailed::Executable)?,
        calls: args.calls.unwrap_or(if args.fork { 200 } else { 100 }),
        length: Duration::from_secs(args.seconds.into()),
        seed: args.seed,
        fifo_daemon: args.fifo,
        lateness_limit: args.max_lateness.map(|limit| Duration::from_micros(limit.into())),
    };
    let report = if args.tools {
        let receiver = ["webhook-receiver", "--listen", "127.0.0.1:0"].map(str::to_owned).into();
        let plan = ToolsPlan {
            calls: args.total.unwrap_or(1_000),
            receiver: (plan.daemon.clone(), receiver),
            bench: plan,
        };
        Measured::Tools(Box::new(tandem_load::run_tools(&plan, progress)?))
    } else if args.fork {
        let phases = if args.burst { Phases::Burst } else { Phases::Spread };
        Measured::Forks(Box::new(tandem_load::run_forks(&plan, phases, progress)?))
    } else {
        Measured::Sip(Box::new(tandem_load::run(&plan, progress)?))
    };
    if let Some(path) = &args.json {
        let json =
            json!({ "passed": report.passed(), "targets": report.targets(), "figures": report });
        fs::write(path, format!("{json:#}\n"))
            .map_err(|source| BenchFailed::Json { path: path.clone(), source })?;
    }
    Ok(report)
}

/// The report for a person.
pub fn text(report: &Measured, paint: Paint) -> String {
    let mut text = format!("{}\n", report.table());
    if let Some(disturbance) = report.disturbance() {
        let warning = format!("this machine was not quiet: {disturbance}");
        text += &format!("{}\n", paint.warning(&warning));
    }
    for target in report.targets() {
        let verdict = if target.met { paint.good("pass") } else { paint.bad("FAIL") };
        text += &format!("\n{verdict}  {}: {}, target {}", target.name, target.seen, target.bound);
    }
    text
}
