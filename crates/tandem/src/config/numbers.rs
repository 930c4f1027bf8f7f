//! Reads which agent answers which number, and where people are reached.

use std::ops::Range;

use tandem_call::{HangupCause, TransferKind, TransferMode, TransferTarget};
use tandem_exchange::Elsewhere;

use super::{
    listeners::printable,
    number_plan::{Destination, NumberPlan, NumberRoute},
    reader::{Section, Value},
    recording::read_mode,
};
use crate::number::{self, Pattern};

/// The number plan, and where each of its lines names its agent, so that an unknown one can be pointed at.
#[derive(Debug, Default)]
pub(crate) struct ReadNumbers {
    pub(crate) plan: NumberPlan,
    pub(crate) agent_spans: Vec<Range<usize>>,
}

/// Reads `[numbers]`: `"+13055551234" = "reception"` or a table with `agent` and more.
pub(crate) fn read_numbers(section: Section<'_, '_>) -> ReadNumbers {
    let mut numbers = ReadNumbers::default();
    for (written, value) in section.entries(100_000) {
        let pattern = match written.parse::<Pattern>() {
            Ok(pattern) => Some(pattern),
            Err(why) => {
                value.mistakes().error(value.key_span(), format!("[numbers]: {why}"));
                None
            }
        };
        let read = read_route(&written, pattern.clone(), &value);
        let (Some(_), Some((route, agent_span))) = (pattern, read) else { continue };
        match numbers.plan.add(route) {
            Ok(()) => numbers.agent_spans.push(agent_span),
            Err(other) => value.mistakes().error_with_fix(
                value.key_span(),
                format!("[numbers]: {written:?} and {:?} are the same number", other.written),
                "keep one of the two",
            ),
        }
    }
    numbers
}

/// One line, and where it names its agent.
fn read_route(
    written: &str,
    pattern: Option<Pattern>,
    value: &Value<'_, '_>,
) -> Option<(NumberRoute, Range<usize>)> {
    let pattern = pattern.unwrap_or(Pattern::Any);
    let mut route = NumberRoute {
        written: written.to_owned(),
        pattern,
        destination: Destination::Agent(String::new()),
        label: None,
        ai_transfer: None,
        recording: None,
        enabled: true,
        line: value.mistakes().line_of(value.key_span()),
    };
    if value.is_string() {
        route.destination = Destination::Agent(value.string(64)?.to_owned());
        return Some((route, value.span()));
    }
    if !value.is_table() {
        return value.expected("an agent's name or a table");
    }
    let mut section = value.section()?;
    let agent = section.value("agent");
    let elsewhere = section.value("route");
    route.label = section.string("label", 100);
    route.ai_transfer = section.value("ai_transfer").and_then(|target| read_target(&target));
    route.recording = section.value("recording").and_then(|mode| read_mode(&mode)).flatten();
    route.enabled = section
        .parsed("status", |status| match status {
            "active" => Ok(true),
            "disabled" => Ok(false),
            _ => Err(format!("{status:?} must be \"active\" or \"disabled\"")),
        })
        .unwrap_or(true);
    let (span, mistakes) = (section.span().clone(), section.mistakes());
    section.finish(&["kind", "country", "schedule_id", "after_hours", "operator_ids", "metadata"]);
    if let Some(elsewhere) = elsewhere {
        if agent.is_some() {
            mistakes.error_with_fix(
                elsewhere.key_span(),
                format!("[numbers]: {written:?} has an `agent` and a `route`"),
                "keep one of the two",
            );
        }
        route.destination = Destination::Elsewhere(read_elsewhere(&elsewhere)?);
        return Some((route, elsewhere.span()));
    }
    let Some(agent) = agent else {
        mistakes.error_with_fix(
            &span,
            format!("[numbers]: {written:?} has no `agent`"),
            "add `agent = \"…\"` with the name of an agent, or a `route` for the PBX",
        );
        return None;
    };
    route.destination = Destination::Agent(agent.string(64)?.to_owned());
    Some((route, agent.span()))
}

/// Reads `{ type = "hangup", cause = "USER_BUSY" }` or a place such as `{ type = "queue", target = "support" }`.
fn read_elsewhere(value: &Value<'_, '_>) -> Option<Elsewhere> {
    let mut section = value.section()?;
    if section.value("type").and_then(|kind| kind.string(32)) != Some("hangup") {
        return read_target(value).map(Elsewhere::Place);
    }
    let cause = section.value("cause").map(|cause| {
        cause.parsed(|name| {
            HangupCause::from_name(name).ok_or_else(|| {
                format!("{name:?} is no hangup cause, as in \"USER_BUSY\" or \"CALL_REJECTED\"")
            })
        })
    });
    section.finish(&[]);
    Some(Elsewhere::HangUp(cause.unwrap_or(Some(HangupCause::NormalClearing))?))
}

/// Reads `{ type = "queue", target = "support" }`.
pub(crate) fn read_target(value: &Value<'_, '_>) -> Option<TransferTarget> {
    let mut section = value.section()?;
    let kind = section.value("type");
    let target = section.value("target");
    let mode = section.value("mode").map(|mode| mode.parsed(parse_mode));
    let path = value.path().to_owned();
    let (span, mistakes) = (section.span().clone(), section.mistakes());
    section.finish(&["announce", "timeout_s", "on_failure"]);
    let (Some(kind), Some(target)) = (kind, target) else {
        mistakes.error_with_fix(
            &span,
            format!("`{path}` needs `type` and `target`"),
            "for example { type = \"extension\", target = \"200\" }",
        );
        return None;
    };
    let kind = kind.parsed(parse_kind);
    let target = target.parsed(|text| match kind {
        Some(kind) => parse_target(kind, text),
        None => printable(text, 256).map(str::to_owned),
    });
    let mode = mode.unwrap_or(Some(TransferMode::Blind));
    Some(TransferTarget { kind: kind?, target: target?, mode: mode? })
}

fn parse_mode(name: &str) -> Result<TransferMode, String> {
    match name {
        "blind" => Ok(TransferMode::Blind),
        "attended" => Ok(TransferMode::Attended),
        _ => Err("is not \"blind\" or \"attended\"".to_owned()),
    }
}

/// The kind of transfer target called `name`.
pub(crate) fn parse_kind(name: &str) -> Result<TransferKind, String> {
    if let Some(kind) = TransferKind::from_name(name) {
        return Ok(kind);
    }
    if matches!(name, "operator" | "ai_agent") {
        return Err(format!("transfers to {name:?} are not supported by this version of Tandem"));
    }
    let names = TransferKind::ALL.map(TransferKind::name).join(", ");
    Err(format!("{name:?} is no kind of transfer: {names}"))
}

fn parse_target(kind: TransferKind, text: &str) -> Result<String, String> {
    let text = printable(text.trim(), 256)?;
    match kind {
        TransferKind::Extension => {
            if (2..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit()) {
                return Ok(text.to_owned());
            }
            Err(format!("{text:?} is no extension: 2 to 10 digits"))
        }
        TransferKind::External => number::e164(text)
            .ok_or_else(|| format!("{text:?} is no E.164 number, as in +13055551234")),
        TransferKind::Sip => {
            let rest = text.strip_prefix("sip:").or_else(|| text.strip_prefix("sips:"));
            if rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(char::is_whitespace)) {
                return Ok(text.to_owned());
            }
            Err(format!("{text:?} is no SIP URI, as in sip:desk@192.0.2.7"))
        }
        TransferKind::Queue
        | TransferKind::Ringgroup
        | TransferKind::Ivr
        | TransferKind::Voicemail
        | TransferKind::Conference => {
            // Queues of mod_callcenter are called `support@default`.
            let signs = if kind == TransferKind::Ringgroup { "-_.+*" } else { "-_.+*@" };
            if text.len() <= 64
                && text.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
            {
                return Ok(text.to_owned());
            }
            Err(format!("{text:?} must hold letters, digits and {signs} only, at most 64"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_target_has_the_shape_of_its_kind() {
        for (kind, text, good) in [
            (TransferKind::Extension, "200", true),
            (TransferKind::Extension, "2", false),
            (TransferKind::Extension, "20a", false),
            (TransferKind::External, "+1 (305) 555-1234", true),
            (TransferKind::External, "3055551234", false),
            (TransferKind::Sip, "sip:desk@192.0.2.7;transport=tcp", true),
            (TransferKind::Sip, "desk@192.0.2.7", false),
            (TransferKind::Sip, "sip:a@b\r\nX-Evil: 1", false),
            (TransferKind::Sip, "sip:a@b>;x=<", false),
            (TransferKind::Queue, "support_1", true),
            (TransferKind::Queue, "support@default", true),
            (TransferKind::Ringgroup, "sales@default", false),
            (TransferKind::Queue, "support;x", false),
            (TransferKind::Queue, "", false),
        ] {
            assert_eq!(parse_target(kind, text).is_ok(), good, "{kind:?} {text:?}");
        }
        assert_eq!(
            parse_target(TransferKind::External, "+1 (305) 555-1234").unwrap(),
            "+13055551234"
        );
    }
}
