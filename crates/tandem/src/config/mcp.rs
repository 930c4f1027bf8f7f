//! The MCP servers whose tools agents may have.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    time::Duration,
};

use secrecy::{ExposeSecret, SecretString};
use tandem_tools::AddressRule;
use url::Url;

use super::{
    listeners::printable,
    reader::{Section, Value},
    receiver::{read_headers, read_secret, read_secret_text, read_url},
    secret::Surroundings,
};

/// `[mcp.<name>]`.
#[derive(Debug, Clone)]
pub struct McpConfig {
    /// How it is reached.
    pub transport: McpTransportConfig,
    /// Stands before the names of its tools.
    pub prefix: String,
    /// Which of its tools, by the server's own names; none = all.
    pub only: Option<BTreeSet<String>>,
    /// Deadline of each call; none = as the agent says.
    pub timeout: Option<Duration>,
}

/// How an MCP server is reached.
#[derive(Debug, Clone)]
pub enum McpTransportConfig {
    /// Streamable HTTP.
    Http {
        /// Its endpoint.
        url: Url,
        /// The bearer token.
        key: Option<SecretString>,
        /// Headers for each request.
        headers: Vec<(String, SecretString)>,
    },
    /// A program that speaks on its standard streams.
    Command {
        /// The program and its arguments, never empty.
        command: Vec<String>,
        /// What it gets beside `PATH`, `HOME` and `LANG`.
        environment: BTreeMap<String, SecretString>,
    },
}

/// Whether a session with a server that is configured as `one` can serve as `other`, too.
pub(crate) fn same_server(one: &McpConfig, other: &McpConfig) -> bool {
    let open = |secret: &SecretString| secret.expose_secret().to_owned();
    let fingerprint = |server: &McpConfig| match &server.transport {
        McpTransportConfig::Http { url, key, headers } => {
            let headers = headers.iter().map(|(name, value)| (name.clone(), open(value)));
            (vec![url.to_string()], key.as_ref().map(open), headers.collect::<Vec<_>>())
        }
        McpTransportConfig::Command { command, environment } => {
            let environment = environment.iter().map(|(name, value)| (name.clone(), open(value)));
            (command.clone(), None, environment.collect())
        }
    };
    one.prefix == other.prefix
        && one.only == other.only
        && mem::discriminant(&one.transport) == mem::discriminant(&other.transport)
        && fingerprint(one) == fingerprint(other)
}

/// Reads `[mcp]`.
pub(crate) fn read_mcp(
    section: Section<'_, '_>,
    rule: &AddressRule,
    surroundings: &Surroundings<'_>,
) -> BTreeMap<String, McpConfig> {
    let mut servers = BTreeMap::new();
    for (name, value) in section.entries(20) {
        let shape = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.len() > 32
            || !name.starts_with(|c: char| c.is_ascii_alphabetic())
            || !name.chars().all(shape)
        {
            let message = format!(
                "[mcp]: {name:?} is no name of a server: a letter, then letters, digits, _ and -, at most 32"
            );
            value.mistakes().error(value.key_span(), message);
            continue;
        }
        if let Some(server) = read_server(&name, &value, rule, surroundings) {
            servers.insert(name, server);
        }
    }
    servers
}

fn read_server(
    name: &str,
    value: &Value<'_, '_>,
    rule: &AddressRule,
    surroundings: &Surroundings<'_>,
) -> Option<McpConfig> {
    let mut section = value.section()?;
    let url_value = section.value("url");
    let command_value = section.value("command");
    let prefix = section.parsed("prefix", |prefix| {
        let shape = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let begins = |c: char| c.is_ascii_alphabetic();
        if prefix.is_empty()
            || (prefix.starts_with(begins) && prefix.chars().all(shape) && prefix.len() <= 32)
        {
            return Ok(prefix.to_owned());
        }
        Err(format!("{prefix:?} must be a letter, then letters, digits, _ and -, as in \"crm_\""))
    });
    let only = section.list("tools", 128).map(|names| {
        names
            .iter()
            .filter_map(|name| name.parsed(|name| printable(name, 128).map(str::to_owned)))
            .collect()
    });
    let timeout = section.millis("timeout_ms", 1000..=120_000);
    let transport = match (&url_value, &command_value) {
        (Some(url), None) => {
            let key = read_secret(&mut section, ["key", "key_env", "key_file"], surroundings);
            let headers = section
                .section("headers")
                .map(|headers| read_headers(headers, surroundings))
                .unwrap_or_default();
            read_url(url, rule).map(|url| McpTransportConfig::Http { url, key, headers })
        }
        (None, Some(command)) => {
            let environment =
                section.section("env").map(|section| read_environment(section, surroundings));
            read_command(command).map(|command| McpTransportConfig::Command {
                command,
                environment: environment.unwrap_or_default(),
            })
        }
        (Some(_), Some(command)) => {
            command.mistakes().error_with_fix(
                command.key_span(),
                format!("[{}] has a `url` and a `command`", section.path()),
                "keep the one that reaches the server",
            );
            return None;
        }
        (None, None) => {
            section.mistakes().error_with_fix(
                section.span(),
                format!("[{}] has neither `url` nor `command`", section.path()),
                "url = \"https://crm.example.com/mcp\", or command = [\"crm-mcp\", \"--stdio\"]",
            );
            return None;
        }
    };
    let for_others: &[&str] =
        if url_value.is_some() { &["env"] } else { &["key", "key_env", "key_file", "headers"] };
    section.finish(for_others);
    Some(McpConfig {
        transport: transport?,
        prefix: prefix.unwrap_or_else(|| format!("{name}_")),
        only,
        timeout,
    })
}

fn read_command(value: &Value<'_, '_>) -> Option<Vec<String>> {
    let words = value.list(64)?;
    let command: Vec<String> = words
        .iter()
        .filter_map(|word| {
            word.parsed(|word| {
                if word.contains('\0') {
                    Err("holds a zero byte".into())
                } else {
                    Ok(word.to_owned())
                }
            })
        })
        .collect();
    if command.first().is_none_or(|program| program.trim().is_empty()) {
        value.mistakes().error_with_fix(
            &value.span(),
            format!("`{}` names no program", value.path()),
            "command = [\"crm-mcp\", \"--stdio\"]",
        );
        return None;
    }
    (command.len() == words.len()).then_some(command)
}

fn read_environment(
    section: Section<'_, '_>,
    surroundings: &Surroundings<'_>,
) -> BTreeMap<String, SecretString> {
    let mut environment = BTreeMap::new();
    for (name, value) in section.entries(64) {
        let shape = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty()
            || name.starts_with(|c: char| c.is_ascii_digit())
            || !name.chars().all(shape)
        {
            let message = format!("`{}`: this is no name of an environment variable", value.path());
            value.mistakes().error(value.key_span(), message);
            continue;
        }
        let text = read_secret_text(&value, surroundings, 16 * 1024, &|text| !text.contains('\0'));
        environment.extend(text.map(|text| (name, text)));
    }
    environment
}
