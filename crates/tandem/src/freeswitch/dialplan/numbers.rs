//! The number plan as expressions for `destination_number`.

use std::cmp::Reverse;

use tandem_exchange::Elsewhere;

use super::{DialplanError, DialplanOrder, Mode};
use crate::{
    config::{Config, Destination, NumberRoute},
    number::{self, Pattern},
    routing::NoRoute,
};

/// Numbers that are handed over.
pub(super) struct Numbers {
    /// The narrowest first, never empty.
    pub(super) wanted: Vec<Wanted>,
    /// Lines of the plan that are not among them, as they are written.
    pub(super) left_out: Vec<String>,
}

/// One line of the plan.
pub(super) struct Wanted {
    /// A regular expression (PCRE).
    pub(super) expression: String,
    /// Whose it is.
    pub(super) note: String,
}

/// The numbers of `config` that `order` wants.
pub(super) fn numbers(config: &Config, order: &DialplanOrder) -> Result<Numbers, DialplanError> {
    if !order.numbers.is_empty() {
        let wanted = order.numbers.iter().map(|number| named(config, order.mode, number));
        return Ok(Numbers { wanted: wanted.collect::<Result<_, _>>()?, left_out: Vec::new() });
    }
    let mut lines: Vec<&NumberRoute> = config.numbers.lines().iter().collect();
    lines.sort_by_key(|line| match &line.pattern {
        Pattern::Exact(_) => (0, Reverse(0)),
        Pattern::Prefix(prefix) => (1, Reverse(prefix.len())),
        Pattern::Any => (2, Reverse(0)),
    });
    let (taken, not_taken): (Vec<_>, Vec<_>) =
        lines.into_iter().partition(|line| taker(config, order.mode, line).is_ok());
    let wanted: Vec<Wanted> = taken
        .iter()
        .map(|line| Wanted {
            expression: expression(line, order.mode, &not_taken),
            note: taker(config, order.mode, line).unwrap_or_default(),
        })
        .collect();
    if wanted.is_empty() {
        return Err(DialplanError::NoNumbers);
    }
    let left_out = not_taken.iter().map(|line| line.written.clone()).collect();
    Ok(Numbers { wanted, left_out })
}

/// A number that was asked for by name, whichever line of the plan it falls under.
fn named(config: &Config, mode: Mode, number: &str) -> Result<Wanted, DialplanError> {
    let bad = || DialplanError::BadNumber(number.chars().take(64).collect());
    let normal = number::normalise(number);
    let Ok(pattern @ Pattern::Exact(_)) = normal.parse::<Pattern>() else { return Err(bad()) };
    let line = config.numbers.find(&normal).ok_or_else(|| DialplanError::NotAnswered {
        number: number.to_owned(),
        why: NoRoute::NoMatch,
    })?;
    let note = taker(config, mode, line).map_err(|why| match why {
        NoRoute::Elsewhere(_) => DialplanError::GivenBack { number: number.to_owned(), why },
        why => DialplanError::NotAnswered { number: number.to_owned(), why },
    })?;
    let line = NumberRoute { written: number.to_owned(), pattern, ..line.clone() };
    Ok(Wanted { expression: expression(&line, mode, &[]), note })
}

/// Who takes the calls of `line`, for a comment; or why they are not handed over.
fn taker(config: &Config, mode: Mode, line: &NumberRoute) -> Result<String, NoRoute> {
    if !line.enabled {
        return Err(NoRoute::NumberDisabled { written: line.written.clone() });
    }
    let taker = match &line.destination {
        Destination::Agent(name) => match config.agents.get(name) {
            Some(agent) if agent.enabled => name.clone(),
            _ => return Err(NoRoute::AgentDisabled { agent: name.clone() }),
        },
        Destination::Elsewhere(elsewhere) if mode != Mode::Socket => {
            return Err(NoRoute::Elsewhere(elsewhere.clone()));
        }
        Destination::Elsewhere(Elsewhere::Place(target)) => {
            format!("given back, to {} {}", target.kind.name(), target.target)
        }
        Destination::Elsewhere(Elsewhere::HangUp(cause)) => {
            format!("hung up with {}", cause.name())
        }
    };
    Ok(match &line.label {
        Some(label) => format!("{taker}: {label}"),
        None => taker,
    })
}

/// An expression for the numbers of `line` but those of the narrower lines among `not_taken`.
fn expression(line: &NumberRoute, mode: Mode, not_taken: &[&NumberRoute]) -> String {
    // Where the number goes into a command, it may hold nothing else.
    let any = if mode == Mode::Socket { "." } else { "[0-9A-Za-z*#_.+-]" };
    let excluded: Vec<String> = not_taken
        .iter()
        .filter(|other| is_narrower(&other.pattern, &line.pattern))
        .map(|other| match &other.pattern {
            Pattern::Exact(_) => format!("{}$", dialled(other)),
            Pattern::Prefix(_) | Pattern::Any => dialled(other),
        })
        .collect();
    let without = match &*excluded {
        [] => String::new(),
        excluded => format!("(?!{})", excluded.join("|")),
    };
    match &line.pattern {
        Pattern::Exact(_) => format!("^{}$", dialled(line)),
        Pattern::Prefix(_) => format!("^{without}{}{any}*$", dialled(line)),
        Pattern::Any => format!("^{without}({any}+)$"),
    }
}

fn is_narrower(one: &Pattern, than: &Pattern) -> bool {
    match (one, than) {
        (Pattern::Exact(number), Pattern::Prefix(prefix)) => number.starts_with(prefix),
        (Pattern::Prefix(longer), Pattern::Prefix(prefix)) => {
            longer.len() > prefix.len() && longer.starts_with(prefix)
        }
        (Pattern::Exact(_) | Pattern::Prefix(_), Pattern::Any) => true,
        (_, Pattern::Exact(_)) | (Pattern::Any, _) => false,
    }
}

/// The number or prefix of `line` as it may be dialled: `\+?13055551234`, a name in capital or small letters.
fn dialled(line: &NumberRoute) -> String {
    let normal = match &line.pattern {
        Pattern::Exact(normal) | Pattern::Prefix(normal) => normal,
        Pattern::Any => return String::new(),
    };
    if normal.starts_with(|c: char| c.is_ascii_digit()) && !has_letter(normal) {
        return format!(r"\+?{}", quoted(normal));
    }
    if !has_letter(normal) {
        return quoted(normal);
    }
    // A name keeps its dashes and dots on the way here; Tandem compares it without them.
    let written = line.written.trim().trim_end_matches('*').to_ascii_lowercase();
    let plain = |c: char| c.is_ascii_alphanumeric() || "*#_-.".contains(c);
    if written != *normal && written.chars().all(plain) && number::normalise(&written) == *normal {
        return format!("(?i:{}|{})", quoted(normal), quoted(&written));
    }
    format!("(?i:{})", quoted(normal))
}

fn has_letter(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_alphabetic())
}

/// With the signs of an expression as plain text.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        if !c.is_ascii_alphanumeric() && c != '_' && c != '#' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted
}
