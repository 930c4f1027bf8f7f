//! Where the tools of an agent are carried out, for people.

use std::fmt;

use tandem_tools::Method;
use url::Url;

use crate::config::{Agent, Config, ToolKind};

/// Where a tool is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// Inside Tandem.
    Inside,
    /// On the call's own channel.
    Switch,
    /// By a webhook.
    Webhook {
        /// How arguments travel.
        method: Method,
        /// Where to, without its query, which may hold a secret.
        url: String,
        /// Requests have a key and a signature.
        signed: bool,
    },
    /// By nobody: calls are noted in the call record.
    Nobody,
    /// By an MCP server.
    Server,
}

impl Carrier {
    /// Where the tool `name` of `agent` is carried out.
    pub(crate) fn of(name: &str, agent: &Agent, config: &Config) -> Self {
        match ToolKind::of(name) {
            ToolKind::Inside => return Self::Inside,
            ToolKind::Control => return Self::Switch,
            ToolKind::Standard | ToolKind::Own => {}
        }
        if !agent.tools.iter().any(|tool| tool == name) {
            return Self::Server;
        }
        let receiver = config.tools.receiver_of(name, agent);
        let Some(url) = &receiver.url else { return Self::Nobody };
        let method = config.tools.tools.get(name).map(|tool| tool.method).unwrap_or_default();
        Self::Webhook { method, url: shown(url), signed: receiver.key.is_some() }
    }
}

/// `url` without its query.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.query().is_some() {
        url.set_query(Some("…"));
    }
    url.to_string().replace("%E2%80%A6", "…")
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside => f.write_str("inside Tandem"),
            Self::Switch => f.write_str("on the call's channel"),
            Self::Nobody => f.write_str("nobody receives it: noted in the call record"),
            Self::Server => f.write_str("MCP server"),
            Self::Webhook { method, url, signed } => {
                let method = match method {
                    Method::Post => "POST",
                    Method::Get => "GET",
                };
                let key = if *signed { "signed" } else { "without a key" };
                write!(f, "{method} {url}, {key}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_not_shown() {
        for (url, text) in [
            ("https://a.example/x?token=secret", "https://a.example/x?…"),
            ("https://a.example/x", "https://a.example/x"),
        ] {
            assert_eq!(shown(&Url::parse(url).unwrap()), text);
        }
    }
}
