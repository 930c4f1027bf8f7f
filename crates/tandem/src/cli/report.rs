//! What the commands print.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};
use tandem_exchange::Elsewhere;

use crate::{
    check::{Outcome, Step},
    config::{Config, Findings, Severity},
    number,
    routing::{NoRoute, Reason, Route},
    terminal::Paint,
};

/// Prints one JSON value on one line. A reader that went away is no error.
pub(crate) fn print_json(value: &impl Serialize) {
    let text = serde_json::to_string(value).expect("plain data becomes JSON");
    print_line(&text);
}

/// Prints one line. A reader that went away (`| head`) is no error.
pub(crate) fn print_line(text: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Findings for a person, errors in red.
pub(crate) fn findings_text(findings: &Findings, paint: Paint) -> String {
    let mut lines = Vec::new();
    for mistake in &findings.mistakes {
        let (severity, name) = match mistake.severity {
            Severity::Error => (paint.bad("error"), "error"),
            Severity::Warning => (paint.warning("warning"), "warning"),
        };
        let text = mistake.to_string();
        lines.push(format!("{}:{}", findings.file.display(), text.replacen(name, &severity, 1)));
    }
    lines.join("\n")
}

/// Findings for a program.
pub(crate) fn findings_json(findings: &Findings) -> Value {
    findings
        .mistakes
        .iter()
        .map(|mistake| {
            json!({
                "severity": match mistake.severity {
                    Severity::Error => "error",
                    Severity::Warning => "warning",
                },
                "file": findings.file.display().to_string(),
                "line": mistake.line,
                "column": mistake.column,
                "message": mistake.message,
                "fix": mistake.fix,
            })
        })
        .collect()
}

/// One step of `tandem check`.
pub(crate) fn step_text(step: &Step, paint: Paint) -> String {
    let outcome = match step.outcome {
        Outcome::Passed => paint.good("ok     "),
        Outcome::Warning => paint.warning("warning"),
        Outcome::Failed => paint.bad("FAILED "),
        Outcome::Skipped => paint.faint("skipped"),
    };
    let fix = step.fix.as_ref().map(|fix| format!("\n          fix: {fix}")).unwrap_or_default();
    format!("{outcome}  {}: {}{fix}", paint.strong(&step.name), step.detail)
}

/// The answer of `tandem route` for a person.
pub(crate) fn route_text(
    number: &str,
    route: &Result<Route<'_>, NoRoute>,
    config: &Config,
    paint: Paint,
) -> String {
    let shown = paint.strong(number);
    let route = match route {
        Ok(route) => route,
        Err(why @ NoRoute::Elsewhere(_)) => {
            return format!(
                "{shown}: {}\n  why:        {why}\n  by SIP:     404, the dialplan must not send it here",
                paint.warning("no agent answers"),
            );
        }
        Err(why) => {
            let plan: Vec<&str> =
                config.numbers.lines().iter().take(20).map(|line| line.written.as_str()).collect();
            return format!(
                "{shown}: {}\n  why:        {why}\n  the plan:   {}",
                paint.bad("nothing answers (404)"),
                if plan.is_empty() { "is empty".into() } else { plan.join(", ") },
            );
        }
    };
    let agent = route.agent;
    let mut text = format!(
        "{shown}: {} answers{}\n  why:        {}",
        paint.good(&agent.agent_id),
        if agent.display_name == agent.agent_id {
            String::new()
        } else {
            format!(" ({})", agent.display_name)
        },
        reason_text(number, route),
    );
    let mut chain: Vec<String> = agent
        .models
        .iter()
        .map(|name| {
            let settings = config.models.get(name).map(|model| &model.settings);
            settings.map_or_else(
                || name.clone(),
                |model| format!("{name} ({}, {})", model.provider, model.model),
            )
        })
        .collect();
    chain.push("the offline attendant".into());
    text += &format!("\n  models:     {}", chain.join(", then "));
    for name in &agent.models_without_key {
        let why = config.models.get(name).and_then(|model| model.missing_key.as_deref());
        text += &format!(
            "\n              {} {name} is passed over: {}",
            paint.warning("!"),
            why.unwrap_or("no key")
        );
    }
    let of_servers = agent.mcp.iter().map(|server| format!("those of MCP server {server}"));
    let tools: Vec<String> = agent.tools.iter().cloned().chain(of_servers).collect();
    text += &format!(
        "\n  tools:      {}",
        if tools.is_empty() { "none".into() } else { tools.join(", ") }
    );
    let targets = transfer_targets(route);
    if targets.is_empty() {
        text += "\n  transfers:  nowhere: the model is told that nobody can be reached";
    }
    for (n, (what, kind, target)) in targets.iter().enumerate() {
        let label = if n == 0 { "transfers:" } else { "" };
        text += &format!("\n  {label:<10}  {what}: {kind} {target}");
    }
    text
}

/// The answer of `tandem route` for a program.
pub(crate) fn route_json(
    number: &str,
    route: &Result<Route<'_>, NoRoute>,
    config: &Config,
) -> Value {
    let normalised = number::normalise(number);
    match route {
        Err(why) => json!({
            "number": number, "normalised": normalised, "answered": false, "reason": why.to_string(),
            "route": match why {
                NoRoute::Elsewhere(Elsewhere::Place(target)) => json!(target),
                NoRoute::Elsewhere(Elsewhere::HangUp(cause)) => {
                    json!({ "type": "hangup", "cause": cause })
                }
                NoRoute::NoMatch
                | NoRoute::NumberDisabled { .. }
                | NoRoute::AgentDisabled { .. } => Value::Null,
            },
        }),
        Ok(route) => json!({
            "number": number,
            "normalised": normalised,
            "answered": true,
            "agent_id": route.agent.agent_id,
            "display_name": route.agent.display_name,
            "reason": route.reason.word(),
            "number_entry": (route.reason != Reason::OnlyAgent).then(|| json!({
                "number": route.number.written, "label": route.number.label, "line": route.number.line,
            })),
            "models": route.agent.models.iter().map(|name| {
                let model = config.models.get(name).map(|model| &model.settings);
                json!({
                    "name": name,
                    "provider": model.map(|model| model.provider.name()),
                    "model": model.map(|model| model.model.as_str()),
                })
            }).collect::<Vec<_>>(),
            "models_without_key": route.agent.models_without_key,
            "tools": route.agent.tools,
            "mcp": route.agent.mcp,
            "transfers": transfer_targets(route).iter().map(|(what, kind, target)| {
                json!({ "for": what, "type": kind, "target": target })
            }).collect::<Vec<_>>(),
        }),
    }
}

fn reason_text(number: &str, route: &Route<'_>) -> String {
    let line = route.number.line;
    let written = &route.number.written;
    match route.reason {
        Reason::Exact => format!("the number is in the plan as {written:?} (line {line})"),
        Reason::Prefix => format!(
            "{written:?} (line {line}) is the longest prefix of {} in the plan",
            number::normalise(number)
        ),
        Reason::CatchAll => format!("nothing else fits, and \"*\" (line {line}) takes the rest"),
        Reason::OnlyAgent => "it is the only agent, and there is no number plan".into(),
    }
}

/// Where calls are transferred to, in the order in which targets are looked for: for what, kind, target.
fn transfer_targets(route: &Route<'_>) -> Vec<(String, &'static str, String)> {
    let departments =
        route.agent.departments.iter().map(|(name, target)| (format!("department {name}"), target));
    let number = route.number.ai_transfer.iter().map(|target| ("this number".to_owned(), target));
    let agent = route.agent.transfer.iter().map(|target| ("the agent".to_owned(), target));
    departments
        .chain(number)
        .chain(agent)
        .map(|(what, target)| (what, target.kind.name(), target.target.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::routing::route;

    const TEXT: &str = r#"
[agents.reception]
display_name = "Reception"
models = ["openai", "gemini"]
transfer = { type = "extension", target = "200" }
[agents.reception.departments]
sales = { type = "queue", target = "sales" }
[numbers]
"+1305*" = { agent = "reception", ai_transfer = { type = "external", target = "+13055550100" } }
"#;

    fn config() -> Config {
        let variable = |name: &str| (name == "OPENAI_API_KEY").then(|| "sk".to_owned());
        Config::read(Path::new("t.toml"), TEXT, &variable).0.unwrap()
    }

    #[test]
    fn a_route_is_told_with_its_reason_models_and_transfers() {
        let config = config();
        let number = "+13055551234";
        assert_eq!(
            route_text(number, &route(&config, number), &config, Paint::PLAIN),
            "+13055551234: reception answers (Reception)
  why:        \"+1305*\" (line 9) is the longest prefix of 13055551234 in the plan
  models:     openai (openai-realtime, gpt-realtime-2.1), then the offline attendant
              ! gemini is passed over: the environment variable GEMINI_API_KEY is not set
  tools:      transfer_to_human, end_call
  transfers:  department sales: queue sales
              this number: external +13055550100
              the agent: extension 200"
        );
        let json = route_json(number, &route(&config, number), &config);
        assert_eq!(json["agent_id"], "reception");
        assert_eq!(json["reason"], "prefix");
        assert_eq!(json["number_entry"]["line"], 9);
        assert_eq!(json["transfers"][1]["target"], "+13055550100");
    }

    #[test]
    fn a_number_without_an_agent_says_what_the_plan_has() {
        let config = config();
        assert_eq!(
            route_text("+4930", &route(&config, "+4930"), &config, Paint::PLAIN),
            "+4930: nothing answers (404)
  why:        no line of the number plan fits
  the plan:   +1305*"
        );
        assert_eq!(route_json("+4930", &route(&config, "+4930"), &config)["answered"], false);
    }

    #[test]
    fn findings_and_steps_are_coloured_by_their_weight() {
        let (_, findings) = Config::read(Path::new("t.toml"), "errors = 1\n", &|_| None);
        let text = findings_text(&findings, Paint::PLAIN);
        assert_eq!(text, findings.to_string());
        let step = Step {
            name: "voice".into(),
            outcome: Outcome::Failed,
            detail: "mute".into(),
            fix: Some("speak".into()),
        };
        assert_eq!(step_text(&step, Paint::PLAIN), "FAILED   voice: mute\n          fix: speak");
        assert_eq!(findings_json(&findings)[0]["line"], 1);
    }
}
