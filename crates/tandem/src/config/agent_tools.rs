//! Reads which tools an agent has.

use std::collections::BTreeMap;

use tandem_attendant::Script;
use tandem_call::STANDARD_TOOLS;
use tandem_exchange::RECORDING_TOOLS;

use super::{
    agent::Agent, mcp::McpConfig, mistake::closest, models::ModelConfig, reader::Value,
    secret::Surroundings, switch_tools::SwitchTools, tool::ToolKind, tools::ToolsConfig,
};
use crate::freeswitch::controls::{CONTROLS, missing_setting};

/// Tools that one agent may list.
const MOST_TOOLS: usize = 64;

/// What agents may name, and what holds where they say nothing.
pub(crate) struct Known<'a> {
    /// Models.
    pub(crate) models: &'a BTreeMap<String, ModelConfig>,
    /// What the attendant says.
    pub(crate) script: &'a Script,
    /// What they may do with a channel, where there is a FreeSWITCH.
    pub(crate) switch: Option<&'a SwitchTools>,
    /// Tools of the file.
    pub(crate) tools: &'a ToolsConfig,
    /// MCP servers.
    pub(crate) servers: &'a BTreeMap<String, McpConfig>,
    /// Environment and directory.
    pub(crate) surroundings: &'a Surroundings<'a>,
}

impl Known<'_> {
    fn tool_names(&self) -> impl Iterator<Item = &str> {
        let ours = STANDARD_TOOLS.into_iter().chain(CONTROLS).chain(RECORDING_TOOLS);
        self.tools.own().chain(ours)
    }
}

/// Reads an agent's `tools`; none where it is no list.
pub(crate) fn read_tool_names(value: &Value<'_, '_>, known: &Known<'_>) -> Option<Vec<String>> {
    let mut tools: Vec<String> = Vec::new();
    for value in value.list(MOST_TOOLS)? {
        let Some(name) = value.string(64) else { continue };
        if !known.tool_names().any(|tool| tool == name) {
            let message = format!("`{}`: there is no tool {name:?}", value.path());
            value.mistakes().error_with_fix(&value.span(), message, unknown_tool(name, known));
            continue;
        }
        if tools.iter().any(|tool| tool == name) {
            value
                .mistakes()
                .error(&value.span(), format!("`{}`: {name:?} is listed twice", value.path()));
            continue;
        }
        if ToolKind::of(name) == ToolKind::Control && !can_control(name, &value, known.switch) {
            continue;
        }
        tools.push(name.to_owned());
    }
    Some(tools)
}

/// What to do about a tool that is not there.
fn unknown_tool(name: &str, known: &Known<'_>) -> String {
    if let Some(meant) = closest(name, known.tool_names()) {
        return format!("did you mean {meant:?}?");
    }
    let of_server = |(_, server): &(&String, &McpConfig)| {
        !server.prefix.is_empty() && name.starts_with(&server.prefix)
    };
    if let Some((server, _)) = known.servers.iter().find(of_server) {
        return format!("the tools of an MCP server come with mcp = [{server:?}]");
    }
    format!(
        "describe it in [tools.{name}]; known tools: {}",
        known.tool_names().collect::<Vec<_>>().join(", ")
    )
}

/// Reads an agent's `mcp`.
pub(crate) fn read_mcp_names(value: &Value<'_, '_>, known: &Known<'_>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for value in value.list(20).unwrap_or_default() {
        let Some(name) = value.string(64) else { continue };
        if !known.servers.contains_key(name) {
            let servers = || known.servers.keys().map(String::as_str);
            let fix = closest(name, servers()).map_or_else(
                || format!("describe it in [mcp.{name}]"),
                |meant| format!("did you mean {meant:?}?"),
            );
            let message = format!("`{}`: there is no MCP server {name:?}", value.path());
            value.mistakes().error_with_fix(&value.span(), message, fix);
        } else if names.iter().any(|known| known == name) {
            value
                .mistakes()
                .error(&value.span(), format!("`{}`: {name:?} is listed twice", value.path()));
        } else {
            names.push(name.to_owned());
        }
    }
    names
}

/// Warns where a tool of `agent`, which stands in the list `value`, has nowhere to be sent, or loses its key on the way.
pub(crate) fn warn_of_receivers(value: &Value<'_, '_>, agent: &Agent, known: &Known<'_>) {
    for value in value.list(MOST_TOOLS).unwrap_or_default() {
        let Some(name) = value.string(64).filter(|name| agent.tools.iter().any(|it| it == name))
        else {
            continue;
        };
        if !matches!(ToolKind::of(name), ToolKind::Own | ToolKind::Standard) {
            continue;
        }
        let receiver = known.tools.receiver_of(name, agent);
        if receiver.url.is_none() {
            value.mistakes().warning(
                &value.span(),
                format!("`{}`: {name:?} has no receiver: its calls are only noted in the call record", value.path()),
                format!("set `tools_webhook_url` here, `webhook_url` in [tools] or `url` in [tools.{name}]"),
            );
        } else if receiver.key.is_none() && agent.receiver.key.is_some() {
            value.mistakes().warning(
                &value.span(),
                format!("`{}`: {name:?} goes to a server of its own, and the agent's key does not go there", value.path()),
                format!("give [tools.{name}] a `key_env` or `key_file`"),
            );
        }
    }
}

/// Whether the control `tool` has all it needs.
fn can_control(tool: &str, value: &Value<'_, '_>, controls: Option<&SwitchTools>) -> bool {
    let (path, span, mistakes) = (value.path(), value.span(), value.mistakes());
    let Some(controls) = controls else {
        mistakes.error_with_fix(
            &span,
            format!(
                "`{path}`: {tool:?} controls a channel of FreeSWITCH, and there is no [freeswitch]"
            ),
            "add [freeswitch], or remove the tool",
        );
        return false;
    };
    let Some(needed) = missing_setting(tool, controls) else { return true };
    mistakes.error_with_fix(
        &span,
        format!("`{path}`: {tool:?} needs `freeswitch.tools.{}`", needed.key),
        format!("for example {} = {}", needed.key, needed.example),
    );
    false
}
