//! The tools that agents may have beside those that every agent knows, and what holds for all of them.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use ipnet::IpNet;
use jiff::tz::TimeZone;
use tandem_call::TransferTarget;
use tandem_tools::AddressRule;

use super::{
    agent::Agent,
    listeners::{parse_network, printable, set},
    mcp::McpConfig,
    models::readable_file,
    numbers::read_target,
    reader::Section,
    receiver::{Receiver, read_receiver},
    secret::Surroundings,
    tool::{ToolConfig, ToolKind, read_tool},
};

/// Tables of tools in one file.
const MOST_TOOLS: usize = 500;

/// `[tools]`.
#[derive(Debug, Clone)]
pub struct ToolsConfig {
    /// Where tools go whose agent and own table name no place.
    pub receiver: Receiver,
    /// What stands in `X-Webhook-Source`.
    pub source: String,
    /// Private networks that requests may go to, and hosts that need no TLS.
    pub allow: Vec<IpNet>,
    /// Certificates (PEM) trusted beside the public ones.
    pub ca_file: Option<PathBuf>,
    /// Requests of one call at a time.
    pub per_call: usize,
    /// Requests of all calls at a time.
    pub in_all: usize,
    /// Dates and times are also sent as ISO, "tomorrow" as of this zone.
    pub normalize_dates: Option<TimeZone>,
    /// Where `transfer_to_human` leads when department, number and agent know no better.
    pub default_transfer: Option<TransferTarget>,
    /// Tools of one's own, and how known ones are run, by name.
    pub tools: BTreeMap<String, Arc<ToolConfig>>,
}

impl Default for ToolsConfig {
    fn default() -> Self {
        Self {
            receiver: Receiver::default(),
            source: "tandem".into(),
            allow: Vec::new(),
            ca_file: None,
            per_call: 4,
            in_all: 256,
            normalize_dates: None,
            default_transfer: None,
            tools: BTreeMap::new(),
        }
    }
}

impl ToolsConfig {
    /// Which addresses may be called.
    pub(crate) fn rule(&self) -> AddressRule {
        AddressRule::new(self.allow.clone())
    }

    /// Where the tool `name` of `agent` is sent.
    pub fn receiver_of(&self, name: &str, agent: &Agent) -> Receiver {
        match self.tools.get(name) {
            Some(own) => own.receiver.within(&agent.receiver),
            None => agent.receiver.clone(),
        }
    }

    /// The names of tools that are one's own.
    pub(crate) fn own(&self) -> impl Iterator<Item = &str> {
        let own = self.tools.iter().filter(|(name, tool)| {
            ToolKind::of(name) == ToolKind::Own && tool.description.is_some()
        });
        own.map(|(name, _)| name.as_str())
    }
}

/// Reads what `[tools]` says of private networks, which the URLs of other tables need to know.
pub(crate) fn read_allow(section: &mut Section<'_, '_>) -> Vec<IpNet> {
    let networks = section.list("allow", 64).unwrap_or_default();
    networks.iter().filter_map(|value| value.parsed(parse_network)).collect()
}

/// Reads the rest of `[tools]`; tools without words of their own may belong to one of the `servers`.
pub(crate) fn read_tools(
    mut section: Section<'_, '_>,
    allow: Vec<IpNet>,
    servers: &BTreeMap<String, McpConfig>,
    surroundings: &Surroundings<'_>,
) -> ToolsConfig {
    let mut tools = ToolsConfig { allow, ..ToolsConfig::default() };
    let rule = tools.rule();
    let keys = ["webhook_url", "webhook_key", "webhook_key_env", "webhook_key_file"];
    tools.receiver = read_receiver(&mut section, keys, &rule, surroundings);
    let source = section.parsed("source", |word| {
        let word = printable(word, 100)?;
        if word.is_ascii() { Ok(word.to_owned()) } else { Err("must be plain ASCII".into()) }
    });
    set(&mut tools.source, source);
    tools.ca_file =
        section.parsed("ca_file", |path| readable_file(surroundings.directory.join(path)));
    set(&mut tools.per_call, section.count("max_in_flight", 1..=64).map(|count| count as usize));
    set(&mut tools.in_all, section.count("max_requests", 1..=10_000).map(|count| count as usize));
    tools.normalize_dates = read_dates(&mut section);
    tools.default_transfer =
        section.value("default_transfer").and_then(|target| read_target(&target));
    for (name, value) in section.named_tables(MOST_TOOLS) {
        let of_server = servers
            .values()
            .any(|server| !server.prefix.is_empty() && name.starts_with(&server.prefix));
        if let Some(tool) = read_tool(&name, &value, of_server, &rule, surroundings) {
            tools.tools.insert(name, Arc::new(tool));
        }
    }
    section.finish(&[]);
    tools
}

/// The zone for `normalize_dates`, if dates are to be normalised.
fn read_dates(section: &mut Section<'_, '_>) -> Option<TimeZone> {
    let normalize = section.boolean("normalize_dates").unwrap_or(false);
    let value = section.value("time_zone");
    let zone = value.as_ref().and_then(|value| {
        value.parsed(|name| {
            TimeZone::get(name)
                .map_err(|_| format!("{name:?} is no time zone, as in \"America/New_York\""))
        })
    });
    if let (Some(value), false) = (&value, normalize) {
        value.mistakes().warning(
            value.key_span(),
            format!("`{}` is for `normalize_dates` only", value.path()),
            "add normalize_dates = true, or remove it",
        );
    }
    normalize.then(|| zone.unwrap_or_else(TimeZone::system))
}
