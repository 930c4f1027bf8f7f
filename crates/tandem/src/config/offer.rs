//! What an agent's calls get of its tools: how each is offered to the model and run, and what is said meanwhile.

use std::{cmp::Reverse, collections::BTreeMap, sync::Arc, time::Duration};

use tandem_call::{AgentTool, Filler, PhraseId, ToolDeclaration, ToolMode, standard_tool};
use tandem_exchange::recording_tool;
use tandem_tools::{ArgumentSchema, MAX_DEPTH};

use super::{
    agent::Agent, mcp::McpConfig, switch_tools::SwitchTools, tool::ToolConfig, tools::ToolsConfig,
};
use crate::freeswitch::controls::control_tool;

/// The tools of one agent, as far as they are known before a call: MCP servers bring theirs later.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// The tools it lists, in that order.
    pub tools: Vec<AgentTool>,
    /// What Tandem itself says for it: fillers, the message for an answering machine.
    pub phrases: Vec<String>,
    /// Of those, what an answering machine is told.
    pub voicemail: Option<PhraseId>,
    /// How calls of tools go that an MCP server brings, by the tool's name.
    manners: BTreeMap<String, Manners>,
    /// What stands before the names of a server's tools, and their deadline; the longest first.
    servers: Vec<(String, Duration)>,
}

/// How the calls of a tool go.
#[derive(Debug, Clone)]
struct Manners {
    config: Arc<ToolConfig>,
    filler: Option<Filler>,
}

impl Offer {
    /// The offer of `agent`, whose tools are configured in `tools` and `servers`; `switch` says what controls may do.
    pub(crate) fn new(
        agent: &Agent,
        tools: &ToolsConfig,
        servers: &BTreeMap<String, McpConfig>,
        switch: Option<&SwitchTools>,
    ) -> Self {
        let mut offer = Self::default();
        for name in &agent.tools {
            let declaration = declaration(name, agent, tools, switch);
            let tool = declaration.and_then(|it| offer.tool(agent, it, tools.tools.get(name)));
            offer.tools.extend(tool);
        }
        let named = agent.mcp.iter().filter_map(|name| servers.get(name));
        offer.servers =
            named.map(|it| (it.prefix.clone(), it.timeout.unwrap_or(agent.tool_timeout))).collect();
        offer.servers.sort_by_key(|(prefix, _)| Reverse(prefix.len()));
        let brought = offer.servers.clone();
        let brings = |name: &str| {
            brought.iter().any(|(prefix, _)| !prefix.is_empty() && name.starts_with(prefix))
        };
        for (name, config) in &tools.tools {
            if brings(name) && !agent.tools.contains(name) {
                let filler = offer.filler(agent, config);
                offer.manners.insert(name.clone(), Manners { config: Arc::clone(config), filler });
            }
        }
        let voicemail = agent.voicemail_message.as_ref();
        offer.voicemail = voicemail.and_then(|text| offer.phrase(agent, text));
        offer
    }

    /// A tool that an MCP server brings.
    pub fn from_server(
        &self,
        declaration: Arc<ToolDeclaration>,
        redacted: Arc<[String]>,
    ) -> AgentTool {
        let server = self.servers.iter().find(|(it, _)| declaration.name.starts_with(it));
        let timeout = server.map_or(Duration::from_secs(9), |(_, timeout)| *timeout);
        let tool = AgentTool {
            declaration,
            mode: ToolMode::default(),
            timeout,
            filler: None,
            interruptible: true,
            redacted,
        };
        match self.manners.get(&tool.declaration.name) {
            Some(manners) => manners.on(tool),
            None => tool,
        }
    }

    fn tool(
        &mut self,
        agent: &Agent,
        declaration: ToolDeclaration,
        config: Option<&Arc<ToolConfig>>,
    ) -> Option<AgentTool> {
        // One that is wrong was reported where it was read.
        let schema = ArgumentSchema::compile(&declaration.parameters, MAX_DEPTH).ok()?;
        let declaration = ToolDeclaration { parameters: schema.declared().clone(), ..declaration };
        let tool = AgentTool {
            redacted: Arc::clone(schema.redacted()),
            ..AgentTool::new(declaration, agent.tool_timeout)
        };
        let Some(config) = config else { return Some(tool) };
        let filler = self.filler(agent, config);
        Some(Manners { config: Arc::clone(config), filler }.on(tool))
    }

    fn filler(&mut self, agent: &Agent, config: &ToolConfig) -> Option<Filler> {
        let (text, after) = config.filler.as_ref()?;
        let phrase = self.phrase(agent, text)?;
        Some(Filler { after: *after, phrase })
    }

    /// `text`, filled in, as a phrase; none where nothing is left to say.
    fn phrase(&mut self, agent: &Agent, text: &str) -> Option<PhraseId> {
        let text = agent.fill(text, &BTreeMap::new());
        if !text.chars().any(char::is_alphanumeric) {
            return None;
        }
        let place = self.phrases.iter().position(|known| *known == text).unwrap_or_else(|| {
            self.phrases.push(text);
            self.phrases.len() - 1
        });
        u16::try_from(place).ok().map(PhraseId)
    }
}

impl Manners {
    fn on(&self, tool: AgentTool) -> AgentTool {
        let config = &self.config;
        let mut redacted = tool.redacted.to_vec();
        let more = config.redacted.iter().map(|name| pointer(name));
        redacted.extend(more.filter(|more| !tool.redacted.contains(more)));
        AgentTool {
            mode: config.mode,
            timeout: config.timeout.unwrap_or(tool.timeout),
            filler: self.filler,
            interruptible: config.interruptible.unwrap_or(true),
            redacted: redacted.into(),
            ..tool
        }
    }
}

/// The JSON pointer to a member of an object (RFC 6901).
fn pointer(name: &str) -> String {
    format!("/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// What the model is told of the tool `name`, with the marks of what is not kept still in it.
pub(crate) fn declaration(
    name: &str,
    agent: &Agent,
    tools: &ToolsConfig,
    switch: Option<&SwitchTools>,
) -> Option<ToolDeclaration> {
    let config = tools.tools.get(name);
    let known = standard_tool(name)
        .or_else(|| recording_tool(name))
        .or_else(|| control_tool(name, switch?, agent.departments.keys()));
    let description = config.and_then(|config| config.description.clone());
    match known {
        Some(known) => {
            Some(ToolDeclaration { description: description.unwrap_or(known.description), ..known })
        }
        None => Some(ToolDeclaration {
            name: name.to_owned(),
            description: description?,
            parameters: config?.parameters.clone().unwrap_or_else(no_arguments),
        }),
    }
}

fn no_arguments() -> serde_json::Value {
    serde_json::json!({ "type": "object", "properties": {}, "additionalProperties": false })
}
