//! The run of calls with tools from beginning to end: without them, with them, without them again.

mod ear;
mod generator;
mod judge;
mod lanes;
mod model;
mod receiver;
mod report;
mod story;
mod talk;

pub use judge::Findings;
pub use receiver::receive_webhooks;
pub use report::{CallsReport, ToolsReport};

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::PathBuf,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use self::{
    ear::{CallersHeard, Ear},
    generator::Spoken,
    judge::Request,
    lanes::Lanes,
    model::Model,
    receiver::Receiver,
    story::TOOLS,
    talk::Told,
};
use crate::{
    BenchError, BenchPlan, DaemonUse, Scheduling, Summary,
    bench::{SETTLE, on_time},
    callers::Phone,
    daemon::{AgentTools, Daemon, Ingress},
};

/// Calls without tools beside those with: a part of them before, and one after.
const CONTROL: u16 = 5;

/// Calls that were hung up on are to be over, and recorded, after this.
const END_WITHIN: Duration = Duration::from_secs(10);

/// What is to be measured.
#[derive(Debug, Clone)]
pub struct ToolsPlan {
    /// The daemon, calls at the same time, seed and scheduling. The length follows from the calls.
    pub bench: BenchPlan,
    /// Calls in all, at least 1.
    pub calls: u16,
    /// The program that calls [`receive_webhooks`], and its arguments.
    pub receiver: (PathBuf, Vec<String>),
}

/// Measures calls with tools as `plan` says, and tells `progress` what it is doing. A call takes about 20 seconds.
///
/// In each call the model calls three tools between its words: some that it waits for, alone and in parallel, some in the
/// background. Of the webhooks 5 % are answered late, never, wrongly or drop by drop.
pub fn run_tools(plan: &ToolsPlan, progress: &dyn Fn(&str)) -> Result<ToolsReport, BenchError> {
    let some = plan.calls.div_ceil(CONTROL).max(plan.bench.calls.min(plan.calls));
    let without = |calls| move || measure(plan, calls, None, progress);
    let with = || {
        let (program, arguments) = &plan.receiver;
        let mut command = Command::new(program);
        command.args(arguments);
        let receiver = Receiver::start(command)?;
        measure(plan, plan.calls, Some(receiver), progress)
    };
    let (_, before) = on_time(&plan.bench, progress, "calls without tools", without(some))?;
    let (spoken, measured) = on_time(&plan.bench, progress, "calls with tools", with)?;
    let (_, after) = on_time(&plan.bench, progress, "calls without tools again", without(some))?;
    let findings = Findings::new(
        plan.bench.seed,
        plan.calls,
        &measured.records,
        &measured.requests,
        &measured.told,
    );
    let fifo = plan.bench.fifo_daemon;
    Ok(ToolsReport {
        at_once: plan.bench.calls,
        seed: plan.bench.seed,
        generator: spoken.sent.scheduling,
        daemon_scheduling: if fifo { Scheduling::Fifo } else { Scheduling::Ordinary },
        without_before: before.report,
        with_tools: measured.report,
        without_after: after.report,
        findings,
        silence: Summary::of(measured.silences),
        unanswered: measured.unanswered,
    })
}

/// What a block of calls gave, beside how the generator kept its grid.
struct Measured {
    report: CallsReport,
    records: String,
    requests: Vec<Request>,
    told: Vec<(u16, Told)>,
    silences: Vec<Duration>,
    unanswered: u64,
}

/// A block of `calls`; with tools when there is a receiver for them.
fn measure(
    plan: &ToolsPlan,
    calls: u16,
    receiver: Option<Receiver>,
    progress: &dyn Fn(&str),
) -> Result<(Spoken, Measured), BenchError> {
    let BenchPlan { daemon: executable, calls: at_once, seed, fifo_daemon, .. } = &plan.bench;
    let at_once = (*at_once).min(calls);
    let model = Model::start(calls, *seed, receiver.is_some())?;
    let sections = receiver.as_ref().map(|receiver| tool_sections(receiver.address()));
    let names = TOOLS.map(|tool| tool.name);
    let tools = AgentTools {
        names: &match &sections {
            Some(_) => format!("{names:?}\nlate_results = \"inject\""),
            None => "[]".into(),
        },
        sections: sections.as_deref().unwrap_or_default(),
    };
    let daemon = Daemon::start_with_tools(
        executable,
        Ingress::Sip,
        &model.url(),
        at_once,
        *fifo_daemon,
        &tools,
    )?;
    let idle = daemon.usage()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    let ear = Ear::start(socket.try_clone()?)?;
    let (changes, changed) = mpsc::channel();
    let generator = generator::start(socket.try_clone()?, at_once, changed)?;
    let (before, since) = (daemon.usage()?, Instant::now());
    let called = runtime
        .block_on(async {
            let phone = Phone::open(daemon.sip, &socket).await?;
            let over = model.over();
            Lanes { phone, calls, at_once, over, changes }.run(progress).await
        })
        .map_err(|error| daemon.explain(error))?;
    let (after, elapsed) = (daemon.usage()?, since.elapsed());
    thread::sleep(SETTLE);

    let spoken = generator.join().expect("the generator does not panic");
    let heard = ear.stop();
    daemon.ended_calls(calls.into(), END_WITHIN);
    let records = daemon.records()?;
    let log = model.stop();
    daemon.stop()?;
    let expected = usize::from(calls) * story::INVOCATIONS;
    let requests = receiver.map(|receiver| receiver.stop(expected)).unwrap_or_default();

    let (uplink, uplink_lost) = spoken.latencies(&log.arrivals);
    let waits: Vec<_> = log.told.iter().flat_map(|(_, told)| &told.waits).copied().collect();
    let heard = CallersHeard::new(heard, &called.answered, &log.turns, &waits);
    let report = CallsReport {
        calls,
        seconds: elapsed.as_secs_f64(),
        lateness: Summary::of(spoken.sent.lateness.clone()),
        uplink: Summary::of(uplink),
        uplink_lost,
        first_packet: Summary::of(heard.turns.first_packet),
        turns_queued: heard.queued,
        turns_unheard: heard.turns.unheard,
        spacing: Summary::of(heard.turns.spacing),
        set_up: Summary::of(called.set_up),
        calls_lost: called.lost + u64::from(log.broken),
        daemon: DaemonUse::between(idle, before, after, elapsed),
    };
    let (silences, unanswered) = (heard.silences, heard.unanswered);
    Ok((spoken, Measured { report, records, requests, told: log.told, silences, unanswered }))
}

/// The tools as the daemon's configuration has them, with their receiver at `address`.
fn tool_sections(address: SocketAddr) -> String {
    let mut sections = format!(
        "\n[tools]\nwebhook_url = \"http://{address}/as-asked\"\nallow = [\"127.0.0.0/8\"]\n"
    );
    for tool in TOOLS {
        let _ = write!(
            sections,
            r#"
[tools.{}]
description = "Is called by the bench."
timeout_ms = {}
mode = "{}"
[tools.{}.parameters]
type = "object"
required = ["ticket"]
additionalProperties = false
properties = {{ ticket = {{ type = "string" }}, receiver = {{ type = "string" }} }}
"#,
            tool.name,
            tool.timeout.as_millis(),
            tool.mode.name(),
            tool.name,
        );
    }
    sections
}
