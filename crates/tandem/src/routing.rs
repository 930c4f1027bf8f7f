//! Which agent answers a number, and why.

use std::fmt;

use tandem_exchange::Elsewhere;

use crate::{
    config::{Agent, Config, Destination, NumberRoute},
    number::{self, Pattern},
};

/// The agent that answers.
#[derive(Debug, Clone, Copy)]
pub struct Route<'a> {
    /// It.
    pub agent: &'a Agent,
    /// Why it and no other.
    pub reason: Reason,
    /// The line of the number plan that led to it.
    pub number: &'a NumberRoute,
}

/// Why a route was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The number itself is in the plan.
    Exact,
    /// It is the longest prefix in the plan that fits.
    Prefix,
    /// Nothing else fits, and `*` is in the plan.
    CatchAll,
    /// It is the only agent and there is no plan.
    OnlyAgent,
}

impl Reason {
    /// The word for it in JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Prefix => "prefix",
            Self::CatchAll => "catch_all",
            Self::OnlyAgent => "only_agent",
        }
    }
}

/// Why nothing answers a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoute {
    /// No line of the number plan fits.
    NoMatch,
    /// The line that fits is disabled.
    NumberDisabled {
        /// As it is written.
        written: String,
    },
    /// The agent it leads to is disabled.
    AgentDisabled {
        /// Its slug.
        agent: String,
    },
    /// The PBX gets its calls back.
    Elsewhere(Elsewhere),
}

impl fmt::Display for NoRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMatch => f.write_str("no line of the number plan fits"),
            Self::NumberDisabled { written } => write!(f, "the number {written:?} is disabled"),
            Self::AgentDisabled { agent } => write!(f, "the agent {agent:?} is disabled"),
            Self::Elsewhere(Elsewhere::Place(target)) => {
                write!(f, "the PBX takes its calls to {} {:?}", target.kind.name(), target.target)
            }
            Self::Elsewhere(Elsewhere::HangUp(cause)) => {
                write!(f, "its calls are released with {}", cause.name())
            }
        }
    }
}

/// The agent that answers calls to `called`, as dialled: the best fitting line of the plan decides, even if it is
/// disabled.
pub fn route<'a>(config: &'a Config, called: &str) -> Result<Route<'a>, NoRoute> {
    let called = number::normalise(called);
    let line = config.numbers.find(&called).ok_or(NoRoute::NoMatch)?;
    if !line.enabled {
        return Err(NoRoute::NumberDisabled { written: line.written.clone() });
    }
    let name = match &line.destination {
        Destination::Agent(name) => name,
        Destination::Elsewhere(elsewhere) => return Err(NoRoute::Elsewhere(elsewhere.clone())),
    };
    let agent = config.agents.get(name).ok_or(NoRoute::NoMatch)?;
    if !agent.enabled {
        return Err(NoRoute::AgentDisabled { agent: name.clone() });
    }
    let reason = match line.pattern {
        Pattern::Exact(_) => Reason::Exact,
        Pattern::Prefix(_) => Reason::Prefix,
        Pattern::Any if line.line == 0 => Reason::OnlyAgent,
        Pattern::Any => Reason::CatchAll,
    };
    Ok(Route { agent, reason, number: line })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tandem_call::{HangupCause, TransferKind, TransferTarget};

    use super::*;

    const PLAN: &str = r#"
[agents.reception]
[agents.sales]
[agents.night]
status = "disabled"
[numbers]
"+1 305 555 1234" = "reception"
"+1305*" = "sales"
"+13055*" = "reception"
"+1999" = { agent = "sales", status = "disabled" }
"200" = "night"
"300" = { route = { type = "queue", target = "support" } }
"301" = { route = { type = "hangup", cause = "user_busy" } }
"#;

    fn config(text: &str) -> Config {
        Config::read(Path::new("t.toml"), text, &|_| None).0.expect("the plan is good")
    }

    #[test]
    fn the_best_fitting_line_decides() {
        let config = config(PLAN);
        for (called, agent, reason) in [
            ("+13055551234", "reception", Reason::Exact),
            ("13055551234", "reception", Reason::Exact),
            ("sip:+1-305-555-1234;npdi@192.0.2.1", "reception", Reason::Exact),
            ("+13055559999", "reception", Reason::Prefix),
            ("+13051112222", "sales", Reason::Prefix),
        ] {
            let route = route(&config, called).unwrap();
            assert_eq!((route.agent.agent_id.as_str(), route.reason), (agent, reason), "{called}");
        }
        for (called, why) in [
            ("+4930", NoRoute::NoMatch),
            ("", NoRoute::NoMatch),
            ("+1999", NoRoute::NumberDisabled { written: "+1999".into() }),
            ("200", NoRoute::AgentDisabled { agent: "night".into() }),
            (
                "300",
                NoRoute::Elsewhere(Elsewhere::Place(TransferTarget::new(
                    TransferKind::Queue,
                    "support",
                ))),
            ),
            ("301", NoRoute::Elsewhere(Elsewhere::HangUp(HangupCause::UserBusy))),
        ] {
            assert_eq!(route(&config, called).unwrap_err(), why, "{called}");
        }
    }

    #[test]
    fn a_star_takes_the_rest_and_an_only_agent_takes_all() {
        let star = config(&format!("{PLAN}\"*\" = \"sales\"\n"));
        assert_eq!(route(&star, "+4930").unwrap().reason, Reason::CatchAll);
        let only = config("[agents.reception]\n");
        assert_eq!(route(&only, "").unwrap().reason, Reason::OnlyAgent);
        let nothing = config("");
        assert_eq!(route(&nothing, "+4930").unwrap().agent.agent_id, "attendant");
    }
}
