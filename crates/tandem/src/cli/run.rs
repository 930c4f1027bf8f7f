//! Carries the commands out.

use std::{future::Future, process::ExitCode, time::Duration};

use clap::Parser;
use serde_json::json;

use super::{
    CallArgs, CheckArgs, Cli, Command, DemoArgs, DialplanArgs, FreeswitchCommand, Global,
    RouteArgs, recording,
    report::{
        findings_json, findings_text, print_json, print_line, route_json, route_text, step_text,
    },
    tools,
};
use crate::{
    bench::{self, BenchArgs},
    check::{self, Outcome, Step},
    config::{Config, ConfigError, Loaded, Severity},
    demo, descriptors,
    freeswitch::dialplan::{DialplanOrder, dialplan},
    logging,
    routing::route,
    serve::{self, ServeError},
    softphone::{self, CallReport},
};

/// Threads of the control runtime: signalling, records, speech programs. Audio has threads of its own.
const CONTROL_THREADS: usize = 2;

/// How long the end waits for work that can't be broken off: a file of a share that hangs.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// It is not well: nobody answers, a check failed.
pub(super) const NO: u8 = 1;

/// The command line or the configuration is wrong.
pub(super) const WRONG: u8 = 2;

/// Runs the process: reads the command line, does what it says, and tells how it went by the exit code.
pub fn main() -> ExitCode {
    let Cli { command, global } = Cli::parse();
    let default_log = match &command {
        Command::Serve(_) => "info",
        // They say themselves what came of a server or a request.
        Command::Check(_) | Command::Tools(_) => "warn,tandem_tools=error",
        _ => "warn",
    };
    if let Err(why) =
        logging::start(global.log.as_deref(), default_log, global.log_format, global.color)
    {
        eprintln!("tandem: {why}");
        return ExitCode::from(WRONG);
    }
    let code = match command {
        Command::Serve(_) => serve(&global),
        Command::Check(args) => check(&args, &global),
        Command::Route(args) => show_route(&args, &global),
        Command::Call(args) => call(&args, &global),
        Command::Demo(args) => demo(&args, &global),
        Command::Bench(args) => bench(&args, &global),
        Command::WebhookReceiver(args) => {
            let Err(error) = tandem_load::receive_webhooks(args.listen);
            eprintln!("tandem webhook-receiver: {error}");
            NO
        }
        Command::Freeswitch(args) => match args.command {
            FreeswitchCommand::Dialplan(args) => show_dialplan(args, &global),
        },
        Command::Recording(args) => recording::run(&args.command),
        Command::Tools(args) => match load(&global) {
            Ok(loaded) => block_on(tools::run(&args.command, &loaded.config, global.color.paint())),
            Err(code) => code,
        },
    };
    ExitCode::from(code)
}

fn serve(global: &Global) -> u8 {
    let loaded = match load(global) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Err(error) = descriptors::raise() {
        tracing::warn!(%error, "the limit on open files can't be raised");
    }
    block_on(async {
        match serve::run(loaded).await {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("tandem serve: {error}");
                if matches!(error, ServeError::Config(_)) { WRONG } else { NO }
            }
        }
    })
}

fn demo(args: &DemoArgs, global: &Global) -> u8 {
    let paint = global.color.paint();
    let report = |report: &CallReport| print_line(&report.text(paint));
    match block_on(demo::run(&args.dir, &print_line, &report)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("tandem demo: {error}");
            NO
        }
    }
}

fn bench(args: &BenchArgs, global: &Global) -> u8 {
    if let Err(error) = descriptors::raise() {
        tracing::warn!(%error, "the limit on open files can't be raised");
    }
    match bench::run(args, &|what| eprintln!("{what}")) {
        Ok(report) => {
            print_line(&bench::text(&report, global.color.paint()));
            if report.passed() { 0 } else { NO }
        }
        Err(error) => {
            eprintln!("tandem bench: {error}");
            NO
        }
    }
}

fn check(args: &CheckArgs, global: &Global) -> u8 {
    let paint = global.color.paint();
    let loaded = match Config::load(global.config.as_deref()) {
        Ok(loaded) => loaded,
        Err(error) if args.json => {
            let findings = match &error {
                ConfigError::Mistakes(findings) => findings_json(findings),
                ConfigError::Unreadable { .. } => {
                    json!([{ "severity": "error", "message": error.to_string() }])
                }
            };
            print_json(&json!({ "ok": false, "findings": findings, "steps": [] }));
            return WRONG;
        }
        Err(error) => return refuse(&error, global),
    };
    let Loaded { config, file, findings } = loaded;
    if !args.json {
        if !findings.is_empty() {
            print_line(&findings_text(&findings, paint));
        }
        let name = file.as_ref().map_or_else(
            || "no configuration file: the built-in attendant".into(),
            |file| file.display().to_string(),
        );
        let step = Step {
            name: "configuration".into(),
            outcome: Outcome::Passed,
            detail: format!(
                "{name}, {}, {} in the number plan",
                counted(config.agents.len(), "agent"),
                counted(config.numbers.lines().len(), "line")
            ),
            fix: None,
        };
        print_line(&step_text(&step, paint));
    }
    let mut steps = Vec::new();
    block_on(check::run(&config, args.offline, |step| {
        if !args.json {
            print_line(&step_text(&step, paint));
        }
        steps.push(step);
    }));
    let count = |outcome| steps.iter().filter(|step| step.outcome == outcome).count();
    let failed = count(Outcome::Failed);
    let warnings = count(Outcome::Warning) + findings.count(Severity::Warning);
    if args.json {
        print_json(
            &json!({ "ok": failed == 0, "findings": findings_json(&findings), "steps": steps }),
        );
    } else if failed > 0 {
        print_line(&paint.bad(&format!("{failed} failed, {}", counted(warnings, "warning"))));
    } else {
        print_line(&paint.good(&format!("all is well, {}", counted(warnings, "warning"))));
    }
    if failed > 0 { NO } else { 0 }
}

fn show_route(args: &RouteArgs, global: &Global) -> u8 {
    let config = match load(global) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let found = route(&config, &args.number);
    if args.json {
        print_json(&route_json(&args.number, &found, &config));
    } else {
        print_line(&route_text(&args.number, &found, &config, global.color.paint()));
    }
    if found.is_ok() { 0 } else { NO }
}

fn show_dialplan(args: DialplanArgs, global: &Global) -> u8 {
    let config = match load(global) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    let DialplanArgs { mode, context, profile, number: numbers } = args;
    match dialplan(&config, &DialplanOrder { mode, context, profile, numbers }) {
        Ok(xml) => {
            print_line(xml.trim_end());
            0
        }
        Err(error) => {
            eprintln!("tandem freeswitch dialplan: {error}");
            NO
        }
    }
}

fn call(args: &CallArgs, global: &Global) -> u8 {
    let plan = match softphone::CallPlan::new(args) {
        Ok(plan) => plan,
        Err(why) => {
            eprintln!("tandem call: {why}");
            return WRONG;
        }
    };
    let paint = global.color.paint();
    let show = |line: &str| {
        if !args.json {
            print_line(line);
        }
    };
    let hint = plan.ledger_hint();
    let outcome = block_on(softphone::call(plan, &show));
    match outcome {
        Ok(report) => {
            if args.json {
                print_json(&report);
            } else {
                print_line(&report.text(paint));
                if let (Some(hint), Some(_)) = (hint, report.answered_after) {
                    print_line(&format!("  {}", paint.faint(hint)));
                }
            }
            if report.answered_after.is_some() { 0 } else { NO }
        }
        Err(error) => {
            eprintln!("tandem call: {error}");
            NO
        }
    }
}

/// The configuration; what is wrong with it goes to standard error.
fn load(global: &Global) -> Result<Loaded, u8> {
    Config::load(global.config.as_deref()).map_err(|error| refuse(&error, global))
}

fn refuse(error: &ConfigError, global: &Global) -> u8 {
    match error {
        ConfigError::Mistakes(findings) => {
            eprintln!("{}", findings_text(findings, global.color.paint()));
            let errors = counted(findings.count(Severity::Error), "mistake");
            eprintln!("{errors} in the configuration");
        }
        ConfigError::Unreadable { .. } => eprintln!("tandem: {error}"),
    }
    WRONG
}

/// `1 agent`, `2 agents`.
fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CONTROL_THREADS)
        .thread_name("control")
        .enable_all()
        .build()
        .expect("the system has room for two threads");
    let output = runtime.block_on(future);
    runtime.shutdown_timeout(LEFT_BEHIND);
    output
}
