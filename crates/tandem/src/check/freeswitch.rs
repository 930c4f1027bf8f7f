//! FreeSWITCH: doors that can be opened, switches that can be reached, modules that are loaded.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use tandem_pbx::{LinkState, Switch, SwitchCommand, SwitchFacts, TransferPlan, Word};
use tandem_streams::Playback;

use super::{Outcome, Step, bind_failure};
use crate::{
    config::{FreeswitchConfig, SwitchConfig, module_name},
    freeswitch::sidecar::switch_settings,
};

/// How long a switch may take to let us in.
const UP_WITHIN: Duration = Duration::from_secs(6);

/// Tries the doors, then each switch.
pub(super) async fn run(config: &FreeswitchConfig, report: &mut impl FnMut(Step)) {
    for address in &config.listen {
        report(try_door(format!("forks at {address}"), *address, "freeswitch.listen"));
    }
    for address in &config.outbound {
        let name = format!("outbound event socket at {address}");
        report(try_door(name, *address, "freeswitch.outbound"));
    }
    report(playback(config));
    if let Err(error) = TransferPlan::new(&config.transfer) {
        report(Step::new("transfers", Outcome::Failed, error.to_string()));
    }
    for switch in &config.switches {
        try_switch(switch, config, report).await;
    }
}

fn try_door(name: String, address: SocketAddr, key: &str) -> Step {
    match TcpListener::bind(address) {
        Ok(_) => Step::new(name, Outcome::Passed, "can be bound"),
        Err(error) => {
            Step::new(name, Outcome::Failed, error.to_string()).fix(bind_failure(&error, key))
        }
    }
}

/// How the configured module gets speech to the caller.
fn playback(config: &FreeswitchConfig) -> Step {
    let name = format!("module {}", module_name(config.module));
    match config.module.playback() {
        Playback::Binary | Playback::Messages => {
            Step::new(name, Outcome::Passed, "plays the agent's speech itself")
        }
        Playback::Files => Step::new(
            name,
            Outcome::Warning,
            "can't play audio back: speech goes to the switch in files, and is played by its event socket",
        )
        .fix(if config.switches.is_empty() {
            "hand calls over by `socket`, or add [freeswitch.switches.main]: without an event socket nothing is heard"
        } else {
            "an edition that plays audio back answers sooner: jambonz' mod_audio_fork"
        }),
    }
}

async fn try_switch(
    switch: &SwitchConfig,
    config: &FreeswitchConfig,
    report: &mut impl FnMut(Step),
) {
    let title = format!("switch {}", switch.name);
    let started = match Switch::start(switch_settings(switch)) {
        Ok(started) => started,
        Err(error) => return report(Step::new(title, Outcome::Failed, error.to_string())),
    };
    let up = tokio::time::timeout(UP_WITHIN, started.up()).await;
    match (up, started.state()) {
        (Ok(Ok(())), LinkState::Up(facts)) => {
            let detail = format!("{}: {}", switch.address, facts.version.trim());
            report(Step::new(&title, Outcome::Passed, detail));
            report(try_module(&title, config, &facts));
            if let Some(gateway) = &config.transfer.gateway {
                report(try_gateway(&title, &started, gateway).await);
            }
        }
        (_, LinkState::Down { reason }) => report(
            Step::new(title, Outcome::Failed, format!("{}: {reason}", switch.address)).fix(
                "look at listen-ip, listen-port, password and apply-inbound-acl in event_socket.conf.xml",
            ),
        ),
        _ => report(Step::new(title, Outcome::Failed, "the event socket closed")),
    }
    started.stop();
}

fn try_module(title: &str, config: &FreeswitchConfig, facts: &SwitchFacts) -> Step {
    let (module, loaded) = if config.module.is_fork() {
        ("mod_audio_fork", facts.audio_fork)
    } else {
        ("mod_audio_stream", facts.audio_stream)
    };
    let name = format!("{title}: {module}");
    if loaded {
        return Step::new(name, Outcome::Passed, "is loaded; which edition it can't be asked");
    }
    Step::new(name, Outcome::Failed, "is not loaded, so no call's audio can reach us").fix(
        "`load` it at the switch, or name the module that is there in freeswitch.module; docs/freeswitch.md tells where they come from",
    )
}

async fn try_gateway(title: &str, switch: &Switch, gateway: &str) -> Step {
    let name = format!("{title}: gateway {gateway}");
    let Ok(word) = Word::new(gateway) else {
        return Step::new(name, Outcome::Failed, "is no name of a gateway");
    };
    match switch.execute(SwitchCommand::GatewayStatus { gateway: word }).await {
        Ok(reply) if reply.text().contains("Invalid Gateway") => {
            Step::new(name, Outcome::Failed, "the switch does not know it").fix(
                "calls to the outside go through freeswitch.transfer.gateway: see `sofia status`",
            )
        }
        Ok(reply) => {
            let word = |key: &str| {
                let mut lines = reply.text().lines();
                lines.find_map(|line| Some(line.strip_prefix(key)?.trim().to_owned()))
            };
            let state = word("State").unwrap_or_default();
            let status = word("Status").unwrap_or_default();
            let detail = format!("{state} {status}").trim().to_owned();
            if status.starts_with("DOWN") {
                Step::new(name, Outcome::Warning, detail)
            } else {
                Step::new(name, Outcome::Passed, detail)
            }
        }
        Err(error) => Step::new(name, Outcome::Failed, error.to_string()),
    }
}
