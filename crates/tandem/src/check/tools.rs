//! Tries what the tools of agents need: webhooks, MCP servers, the words that are said meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use tandem_attendant::Voice;

use super::{Outcome, Step, bind_failure};
use crate::{
    config::{Config, MetricsConfig, ToolKind},
    tools::{Receivers, adds_origins, shown},
};

/// Tries them; what is on a network only unless `offline`.
pub(super) async fn run(config: &Config, offline: bool, report: &mut impl FnMut(Step)) {
    if let Some(metrics) = &config.metrics {
        report(try_metrics(metrics));
    }
    if offline {
        skip(config, report);
        return;
    }
    let receivers = Receivers::new(config.tools.in_all);
    let sets = match receivers.tool_sets(config).await {
        Ok(sets) => sets,
        Err(error) => return report(Step::new("tools", Outcome::Failed, error.to_string())),
    };
    let (mut origins, mut tried) = (BTreeSet::new(), BTreeSet::new());
    for (agent_id, set) in &sets {
        if !adds_origins(config, &config.agents[agent_id], &mut origins) {
            continue;
        }
        for (url, reached) in set.probe().await {
            if !tried.insert(url.origin().ascii_serialization()) {
                continue;
            }
            let name = format!("webhook {}", shown(&url));
            report(match reached {
                Ok(()) => Step::new(name, Outcome::Passed, "can be reached; nothing was sent"),
                Err(why) => Step::new(name, Outcome::Failed, why).fix(
                    "start the receiver, or correct the URL; a private address must stand in tools.allow",
                ),
            });
        }
    }
    for (server, ready) in receivers.servers_ready().await {
        let name = format!("MCP server {server}");
        report(match ready {
            Ok(tools) if tools.is_empty() => {
                Step::new(name, Outcome::Warning, "is there, and has no tool that may be used")
            }
            Ok(tools) => {
                let names: Vec<&str> =
                    tools.iter().map(|tool| tool.declaration().name.as_str()).collect();
                Step::new(name, Outcome::Passed, format!("has {}", names.join(", ")))
            }
            Err(away) => Step::new(name, Outcome::Failed, away.why)
                .fix("until it is there, agents do without its tools"),
        });
    }
}

/// Tries to say what Tandem itself says for agents.
pub(super) async fn try_phrases(config: &Config, voice: &Voice, report: &mut impl FnMut(Step)) {
    let mut phrases: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for agent in config.agents.values() {
        for text in &agent.offer.phrases {
            phrases.entry((&agent.language, text)).or_insert(&agent.agent_id);
        }
    }
    let mut ready = 0;
    for ((language, text), agent_id) in &phrases {
        match voice.render(language, text).await {
            Ok(_) => ready += 1,
            Err(error) => report(
                Step::new(
                    format!("phrase {text:?}"),
                    Outcome::Warning,
                    format!("agent {agent_id}: {error}"),
                )
                .fix("until it can be said, a filler is the shipped \"one moment\", and a voicemail_message is left out"),
            ),
        }
    }
    if ready > 0 {
        report(Step::new("phrases", Outcome::Passed, format!("{ready} can be said")));
    }
}

fn try_metrics(metrics: &MetricsConfig) -> Step {
    let name = format!("metrics {}", metrics.listen);
    match std::net::TcpListener::bind(metrics.listen) {
        Ok(_) => Step::new(name, Outcome::Passed, "can be bound"),
        Err(error) => Step::new(name, Outcome::Failed, error.to_string())
            .fix(bind_failure(&error, "metrics.listen")),
    }
}

fn skip(config: &Config, report: &mut impl FnMut(Step)) {
    let mut urls = BTreeSet::new();
    for agent in config.agents.values() {
        let sent = agent
            .tools
            .iter()
            .filter(|name| matches!(ToolKind::of(name), ToolKind::Own | ToolKind::Standard));
        urls.extend(sent.filter_map(|name| config.tools.receiver_of(name, agent).url));
    }
    let webhooks = urls.iter().map(|url| format!("webhook {}", shown(url)));
    let servers = config.mcp.keys().map(|name| format!("MCP server {name}"));
    for name in webhooks.chain(servers) {
        report(Step::new(name, Outcome::Skipped, "not tried (--offline)"));
    }
}
