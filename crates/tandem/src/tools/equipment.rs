//! What the agents of one configuration carry their tools out with.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    mem,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};
use tandem_attendant::Voice;
use tandem_call::PhraseId;
use tandem_exchange::Prompts;
use tandem_tools::{
    AddressError, Executor, ExecutorLimits, HttpClient, HttpClientError, McpAway, McpServer,
    McpSettings, McpTool, McpTransport, Tool, ToolSet, ToolSetError, ToolSetSettings, Webhook,
};
use tokio::runtime::Handle;

use crate::{
    config::{Agent, Config, McpConfig, McpTransportConfig, ToolKind, declaration, same_server},
    freeswitch::tools::ChannelTools,
};

/// The start of the daemon waits so long for its MCP servers, that the first calls have their tools.
const SERVERS_READY: Duration = Duration::from_secs(5);

/// Servers that are connected to before there is a call for them.
const MOST_WARM: usize = 64;

/// The end of the daemon waits so long for the programs among its MCP servers to end.
const SERVERS_END: Duration = Duration::from_secs(4);

/// Why tools can't be carried out as they are configured.
#[derive(Debug, thiserror::Error)]
pub enum EquipError {
    /// There is no client for requests.
    #[error("[tools]: {0}")]
    Client(#[from] HttpClientError),
    /// An MCP server can't be used.
    #[error("[mcp.{name}]: {why}")]
    Server {
        /// Its name.
        name: String,
        /// Why.
        why: AddressError,
    },
    /// The tools of an agent can't be used.
    #[error("[agents.{agent_id}]: {why}")]
    Set {
        /// The agent.
        agent_id: String,
        /// Why.
        why: ToolSetError,
    },
}

/// What one agent carries its tools out with.
#[derive(Clone)]
pub(crate) struct AgentEquipment {
    /// Its webhooks and MCP servers.
    pub(crate) set: ToolSet,
    /// What Tandem says for it.
    pub(crate) prompts: Arc<Prompts>,
    /// Its answering machine's message can be said.
    pub(crate) voicemail: bool,
}

/// What the agents of one configuration carry their tools out with.
pub(crate) struct Equipment {
    /// By their slugs.
    pub(crate) agents: HashMap<String, AgentEquipment>,
    /// The controls of the switch.
    pub(crate) channel: ChannelTools,
}

/// What carries out tools from one configuration to the next: requests that are under way, sessions with MCP servers.
/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Receivers {
    executor: Executor,
    servers: Arc<Mutex<Servers>>,
}

/// The MCP servers in use.
#[derive(Default)]
struct Servers {
    /// What they are reached with.
    way: Option<(Vec<IpNet>, Option<PathBuf>)>,
    by_name: BTreeMap<String, (McpConfig, McpServer)>,
}

impl Receivers {
    /// No server yet; at most `in_all` requests at a time. Called on the control runtime.
    pub(crate) fn new(in_all: usize) -> Self {
        let limits = ExecutorLimits { in_flight: in_all, ..ExecutorLimits::default() };
        Self { executor: Executor::new(Handle::current(), limits), servers: Arc::default() }
    }

    /// What carries out all requests.
    pub(crate) fn executor(&self) -> &Executor {
        &self.executor
    }

    /// What the agents of `config` carry their tools out with, controls on the `channel`; what they say is rendered.
    pub(crate) async fn equip(
        &self,
        config: &Config,
        channel: ChannelTools,
        voice: &Voice,
    ) -> Result<Equipment, EquipError> {
        let sets = self.tool_sets(config).await?;
        let shipped = Arc::new(Prompts::new(voice));
        let mut agents = HashMap::new();
        let mut origins = BTreeSet::new();
        let mut rendered = Rendered::default();
        for (agent_id, set) in sets {
            let agent = &config.agents[&agent_id];
            if adds_origins(config, agent, &mut origins) && origins.len() <= MOST_WARM {
                set.warm();
            }
            let mut phrases = Vec::with_capacity(agent.offer.phrases.len());
            for text in &agent.offer.phrases {
                phrases.push(rendered.phrase(voice, agent, text).await);
            }
            let said =
                |phrase: PhraseId| phrases.get(usize::from(phrase.0)).is_some_and(Option::is_some);
            let voicemail = agent.offer.voicemail.is_some_and(said);
            let prompts = if phrases.is_empty() {
                Arc::clone(&shipped)
            } else {
                Arc::new(Prompts::with_phrases(voice, phrases))
            };
            agents.insert(agent_id, AgentEquipment { set, prompts, voicemail });
        }
        Ok(Equipment { agents, channel })
    }

    /// The webhooks and servers of each agent of `config`. Servers that stay as they are keep their sessions.
    pub(crate) async fn tool_sets(
        &self,
        config: &Config,
    ) -> Result<BTreeMap<String, ToolSet>, EquipError> {
        let client = HttpClient::new(config.tools.allow.clone(), config.tools.ca_file.as_deref());
        let client = client.await?;
        let servers = self.servers().start(config, &client)?;
        let mut sets = BTreeMap::new();
        for (agent_id, agent) in &config.agents {
            let servers = agent.mcp.iter().filter_map(|name| servers.get(name).cloned()).collect();
            let set = tool_set(&self.executor, &client, config, agent, servers)?;
            sets.insert(agent_id.clone(), set);
        }
        Ok(sets)
    }

    /// Waits a little for the servers, so that the first calls have their tools: what each has come to.
    pub(crate) async fn servers_ready(&self) -> Vec<(String, Result<Vec<McpTool>, McpAway>)> {
        let servers: Vec<McpServer> =
            self.servers().by_name.values().map(|(_, server)| server.clone()).collect();
        let asked = servers.into_iter().map(|server| async move {
            let ready = server.ready(SERVERS_READY).await;
            (server.name().to_owned(), ready)
        });
        futures_util::future::join_all(asked).await
    }

    /// Ends the sessions with the servers that no call holds any more.
    pub(crate) async fn end(&self) {
        let servers = mem::take(&mut *self.servers()).by_name.into_values();
        let ended = futures_util::future::join_all(servers.map(|(_, server)| server.ended()));
        if tokio::time::timeout(SERVERS_END, ended).await.is_err() {
            tracing::warn!("not all MCP servers have ended in time");
        }
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        // Whoever panicked left a whole map behind: it is replaced in one step.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Servers {
    /// The servers that agents of `config` name, started as far as they do not run already.
    fn start(
        &mut self,
        config: &Config,
        client: &HttpClient,
    ) -> Result<BTreeMap<String, McpServer>, EquipError> {
        let way = (config.tools.allow.clone(), config.tools.ca_file.clone());
        let same_way = self.way.as_ref() == Some(&way);
        let mut by_name = BTreeMap::new();
        for (name, wanted) in &config.mcp {
            if !config.agents.values().any(|agent| agent.mcp.contains(name)) {
                continue;
            }
            let running = self.by_name.get(name);
            let kept = running.filter(|(has, _)| same_way && same_server(has, wanted));
            let server = match kept {
                Some((_, server)) => server.clone(),
                None => McpServer::start(settings_of(name, wanted), client)
                    .map_err(|why| EquipError::Server { name: name.clone(), why })?,
            };
            by_name.insert(name.clone(), (wanted.clone(), server));
        }
        self.way = Some(way);
        self.by_name = by_name;
        let started = self.by_name.iter();
        Ok(started.map(|(name, (_, server))| (name.clone(), server.clone())).collect())
    }
}

/// What an MCP server is started with.
fn settings_of(name: &str, config: &McpConfig) -> McpSettings {
    let transport = match &config.transport {
        McpTransportConfig::Http { url, key, headers } => {
            let open = |value: &SecretString| value.expose_secret().to_owned();
            let headers: HashMap<String, String> =
                headers.iter().map(|(name, value)| (name.clone(), open(value))).collect();
            McpTransport::Http {
                url: url.clone(),
                headers: (&headers).try_into().expect("they were checked when they were read"),
                bearer: key.clone(),
            }
        }
        McpTransportConfig::Command { command, environment } => {
            let (program, arguments) = command.split_first().expect("a command names its program");
            McpTransport::Command {
                program: program.clone(),
                arguments: arguments.to_vec(),
                environment: environment.clone(),
            }
        }
    };
    McpSettings {
        name: name.to_owned(),
        transport,
        only: config.only.clone(),
        prefix: config.prefix.clone(),
    }
}

/// The webhooks of `agent`, and its MCP `servers`.
fn tool_set(
    executor: &Executor,
    client: &HttpClient,
    config: &Config,
    agent: &Agent,
    servers: Vec<McpServer>,
) -> Result<ToolSet, EquipError> {
    let settings = ToolSetSettings {
        texts: agent.tool_texts(),
        max_in_flight: config.tools.per_call,
        normalize_dates: config.tools.normalize_dates.clone(),
        ..ToolSetSettings::default()
    };
    let tools = agent.tools.iter().filter_map(|name| tool(name, config, agent)).collect();
    ToolSet::new(executor, client, settings, tools, servers)
        .map_err(|why| EquipError::Set { agent_id: agent.agent_id.clone(), why })
}

/// The tool `name` of `agent` as it is sent; none for those that run inside Tandem or on the switch.
fn tool(name: &str, config: &Config, agent: &Agent) -> Option<Tool> {
    if !matches!(ToolKind::of(name), ToolKind::Own | ToolKind::Standard) {
        return None;
    }
    let declaration = declaration(name, agent, &config.tools, None)?;
    let own = config.tools.tools.get(name);
    let receiver = config.tools.receiver_of(name, agent);
    let webhook = receiver.url.map(|url| {
        let mut webhook = Webhook::new(url);
        webhook.key = receiver.key;
        webhook.source = config.tools.source.clone();
        if let Some(own) = own {
            webhook.method = own.method;
            webhook.body = own.body;
            webhook.headers = own.headers.clone();
        }
        webhook
    });
    Some(Tool {
        declaration,
        webhook,
        redacted: own.map(|own| own.redacted.clone()).unwrap_or_default(),
        result_schema: own.and_then(|own| own.result_schema.clone()),
    })
}

/// Whether webhooks of `agent` lead to servers that are not among `origins` yet, where they are added.
pub(crate) fn adds_origins(config: &Config, agent: &Agent, origins: &mut BTreeSet<String>) -> bool {
    let before = origins.len();
    let sent = agent
        .tools
        .iter()
        .filter(|name| matches!(ToolKind::of(name), ToolKind::Own | ToolKind::Standard))
        .filter_map(|name| config.tools.receiver_of(name, agent).url);
    origins.extend(sent.map(|url| url.origin().ascii_serialization()));
    origins.len() > before
}

/// What was rendered, by language and text: agents share it.
#[derive(Default)]
struct Rendered(HashMap<(String, String), Option<Arc<[u8]>>>);

impl Rendered {
    /// `text` as `agent` says it, or nothing where nobody can.
    async fn phrase(&mut self, voice: &Voice, agent: &Agent, text: &str) -> Option<Arc<[u8]>> {
        let key = (agent.language.clone(), text.to_owned());
        if let Some(known) = self.0.get(&key) {
            return known.clone();
        }
        let bytes = match voice.render(&agent.language, text).await {
            Ok(speech) => Some(speech.pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect()),
            Err(error) => {
                tracing::warn!(
                    %error,
                    text,
                    agent = agent.agent_id,
                    "nobody can say this phrase: a filler is replaced by \"one moment\", a message for answering machines left out"
                );
                None
            }
        };
        self.0.insert(key, bytes.clone());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tandem_attendant::VoiceSettings;

    use super::*;
    use crate::config::SwitchTools;

    #[tokio::test]
    async fn a_message_that_nobody_can_say_is_left_out() {
        let text = "[agents.a]\nvoicemail_message = \"Quizzaciously.\"\n";
        let config = Config::read(Path::new("t.toml"), text, &|_| None).0.expect("no mistakes");
        let dumb = VoiceSettings { engines: Vec::new(), ..VoiceSettings::default() };
        for (voice, said) in
            [(Voice::tone(Duration::ZERO), true), (Voice::open(dumb, Handle::current()), false)]
        {
            let channel = ChannelTools::new(SwitchTools::default());
            let receivers = Receivers::new(config.tools.in_all);
            let equipment = receivers.equip(&config, channel, &voice).await.expect("no mistakes");
            assert_eq!(equipment.agents["a"].voicemail, said);
        }
    }
}
