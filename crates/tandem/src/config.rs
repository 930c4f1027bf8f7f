//! The configuration: one TOML file, every mistake reported at once, parsed types only.

mod agent;
mod agent_tools;
mod agents;
mod attendant;
mod audio;
mod fixed;
mod freeswitch;
mod interruption;
mod limits;
mod listeners;
mod mcp;
mod metrics;
mod mistake;
mod models;
mod number_plan;
mod numbers;
mod offer;
mod reader;
mod receiver;
mod recording;
mod secret;
mod sip_transfer;
mod switch_tools;
#[cfg(test)]
mod tests;
mod tool;
mod tools;

use std::{
    collections::{BTreeMap, HashMap},
    env, fs, io,
    path::{Path, PathBuf},
};

pub use agent::Agent;
pub use fixed::FixedSettings;
pub(crate) use freeswitch::module_name;
pub use freeswitch::{FreeswitchConfig, SwitchConfig};
pub use limits::{Limits, RecordsConfig};
pub(crate) use listeners::parse_codec;
pub use listeners::{MediaConfig, listener_name};
pub(crate) use mcp::same_server;
pub use mcp::{McpConfig, McpTransportConfig};
pub use metrics::MetricsConfig;
pub(crate) use mistake::closest;
pub use mistake::{Findings, Mistake, Severity};
pub use models::{ATTENDANT, ModelConfig};
pub use number_plan::{Destination, NumberPlan, NumberRoute};
#[cfg(test)]
pub(crate) use numbers::parse_kind;
pub use offer::Offer;
pub(crate) use offer::declaration;
pub use receiver::Receiver;
pub use recording::{AgentRecording, RecordingConfig};
pub use secret::SecretSource;
pub use switch_tools::SwitchTools;
use tandem_attendant::VoiceSettings;
use tandem_call::TransferKind;
use tandem_exchange::{ConsultSettings, Elsewhere};
use tandem_pbx::{TargetError, TransferPlan, TransferSettings};
use tandem_sip::SipSettings;
use tandem_tools::AddressRule;
use toml::de::DeTable;
pub use tool::ToolConfig;
pub(crate) use tool::ToolKind;
pub use tools::ToolsConfig;

use self::{
    agent_tools::Known, mistake::Mistakes, models::read_models, numbers::ReadNumbers,
    reader::Section, secret::Surroundings,
};
use crate::number::Pattern;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "tandem.toml";

/// The largest file we read, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// Everything the daemon is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// SIP listeners and who may call.
    pub sip: SipSettings,
    /// How attended transfers of SIP calls go.
    pub consult: ConsultSettings,
    /// Addresses and ports of the audio.
    pub media: MediaConfig,
    /// Bounds.
    pub limits: Limits,
    /// The call records.
    pub records: RecordsConfig,
    /// The recordings.
    pub recording: RecordingConfig,
    /// How the offline attendant speaks; what it says is in the agents.
    pub voice: VoiceSettings,
    /// Models by their configured names, also those without a key.
    pub models: BTreeMap<String, ModelConfig>,
    /// Agents by their slug.
    pub agents: BTreeMap<String, Agent>,
    /// Tools beyond those that every agent knows, and what holds for all of them.
    pub tools: ToolsConfig,
    /// MCP servers by their configured names.
    pub mcp: BTreeMap<String, McpConfig>,
    /// Where figures are given to a monitoring system, if anywhere.
    pub metrics: Option<MetricsConfig>,
    /// FreeSWITCH beside us.
    pub freeswitch: Option<FreeswitchConfig>,
    /// The number plan. Empty only when no agent is active.
    pub numbers: NumberPlan,
}

/// A configuration that can be used, and what is still to be said about it.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What was read, or the defaults.
    pub config: Config,
    /// The file; none = there is no file, and the defaults hold.
    pub file: Option<PathBuf>,
    /// Warnings.
    pub findings: Findings,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read at all.
    #[error("{}: {why}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why not, and what to do.
        why: String,
    },
    /// It has mistakes.
    #[error("{0}")]
    Mistakes(Findings),
}

impl Config {
    /// The configuration in `file`; with none, that in `tandem.toml` of this directory; without that, the defaults.
    ///
    /// Secrets are read from the process's environment and from files.
    pub fn load(file: Option<&Path>) -> Result<Loaded, ConfigError> {
        let file = match file {
            Some(file) => file,
            None if Path::new(DEFAULT_FILE).exists() => Path::new(DEFAULT_FILE),
            None => {
                let (config, findings) = Self::read(Path::new(""), "", &|name| env::var(name).ok());
                let config = config.expect("the empty configuration has no mistakes");
                return Ok(Loaded { config, file: None, findings });
            }
        };
        let text = read_file(file)?;
        let (config, findings) = Self::read(file, &text, &|name| env::var(name).ok());
        match config {
            Some(config) => Ok(Loaded { config, file: Some(file.to_owned()), findings }),
            None => Err(ConfigError::Mistakes(findings)),
        }
    }

    /// The configuration in `text`, which is that of `file`, with `variable` as the environment; none when it has errors.
    ///
    /// Relative paths in it start from the file's directory.
    pub fn read(
        file: &Path,
        text: &str,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> (Option<Self>, Findings) {
        let mistakes = Mistakes::new(text);
        let (document, syntax_errors) = DeTable::parse_recoverable(text);
        for error in &syntax_errors {
            mistakes
                .syntax(&error.span().unwrap_or(0..0), format!("not TOML: {}", error.message()));
        }
        let surroundings =
            Surroundings { variable, directory: file.parent().unwrap_or(Path::new("")) };
        let config = read_config(Section::root(document.get_ref(), &mistakes), &surroundings);
        let findings = mistakes.into_findings(file.to_owned());
        ((!findings.has_errors()).then_some(config), findings)
    }
}

fn read_file(file: &Path) -> Result<String, ConfigError> {
    let unreadable = |why: String| ConfigError::Unreadable { file: file.to_owned(), why };
    let read = || -> io::Result<Result<Vec<u8>, u64>> {
        let length = fs::metadata(file)?.len();
        if length > MAX_FILE { Ok(Err(length)) } else { fs::read(file).map(Ok) }
    };
    match read() {
        Ok(Ok(bytes)) => String::from_utf8(bytes).map_err(|error| {
            unreadable(format!("not UTF-8 text at byte {}", error.utf8_error().valid_up_to()))
        }),
        Ok(Err(length)) => {
            Err(unreadable(format!("{length} bytes are too many, at most {MAX_FILE} are read")))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(unreadable(
            "there is no such file; name another with -c, or start from tandem.example.toml".into(),
        )),
        Err(error) => Err(unreadable(format!("can't be read: {error}"))),
    }
}

fn read_config(mut root: Section<'_, '_>, surroundings: &Surroundings<'_>) -> Config {
    let sip = root.section("sip").map(|section| listeners::read_sip(section, surroundings));
    let (sip, consult) = sip.unzip();
    let media_value = root.value("media");
    let media = media_value.as_ref().and_then(|value| value.section()).map(listeners::read_media);
    let limits_value = root.value("limits");
    let limits = limits_value.as_ref().and_then(|value| value.section()).map(limits::read_limits);
    let records =
        root.section("records").map(|section| limits::read_records(section, surroundings));
    let recording =
        root.section("recording").map(|section| recording::read_recording(section, surroundings));
    let freeswitch = root
        .section("freeswitch")
        .map(|section| freeswitch::read_freeswitch(section, surroundings));
    let models = read_models(root.section("models"), surroundings);
    let attendant = root
        .section("attendant")
        .map(|section| attendant::read_attendant(section, surroundings))
        .unwrap_or_default();
    let mut tools_section = root.section("tools");
    let allow = tools_section.as_mut().map(tools::read_allow).unwrap_or_default();
    let rule = AddressRule::new(allow.clone());
    let mcp = root.section("mcp").map(|section| mcp::read_mcp(section, &rule, surroundings));
    let mcp = mcp.unwrap_or_default();
    let tools = tools_section
        .map(|section| tools::read_tools(section, allow, &mcp, surroundings))
        .unwrap_or_default();
    let metrics =
        root.section("metrics").and_then(|section| metrics::read_metrics(section, surroundings));
    let agents_section = root.section("agents");
    let known = Known {
        models: &models,
        script: &attendant.script,
        switch: freeswitch.as_ref().map(|freeswitch| &freeswitch.tools),
        tools: &tools,
        servers: &mcp,
        surroundings,
    };
    let mut agents =
        agents_section.map(|section| agents::read_agents(section, &known)).unwrap_or_default();
    let numbers_value = root.value("numbers");
    let numbers_section = numbers_value.as_ref().and_then(|value| value.section());
    let empty_plan = numbers_section
        .as_ref()
        .filter(|section| section.is_empty())
        .map(|section| section.span().clone());
    let read_numbers = numbers_section.map(numbers::read_numbers).unwrap_or_default();

    let mistakes = root.mistakes();
    let media_has_bind = media.as_ref().is_some_and(|(_, has_bind)| *has_bind);
    let mut media = media.map(|(media, _)| media).unwrap_or_default();
    let limits = limits.unwrap_or_default();
    if media.capacity() < limits.max_calls {
        let value = media_value.as_ref().or(limits_value.as_ref());
        let span = value.map_or(0..0, |value| value.key_span().clone());
        mistakes.error_with_fix(
            &span,
            format!(
                "`media.ports` has room for {} calls, `limits.max_calls` is {}",
                media.capacity(),
                limits.max_calls
            ),
            "give it two ports per call, or lower `limits.max_calls`",
        );
    }
    if agents.is_empty() {
        let mut agent = Agent::offline(attendant.script.clone());
        agent.script = agent.fill_script();
        agents.insert(ATTENDANT.into(), agent);
    }
    let mut sip = sip.unwrap_or_else(listeners::default_sip);
    sip.media_address = media.address;
    sip.security.policy = media.srtp;
    sip.security.best_effort = media.srtp_best_effort;
    if !media_has_bind {
        media.bind = listeners::default_bind(&sip.listen);
    }
    sip.limits.dialogs = sip.limits.dialogs.max(2 * limits.max_calls as usize);
    // Each call has its agent's own patience. This one outlasts that of every agent, also of those of a later reload.
    sip.transfer_timeout = agents::LONGEST_TRANSFER;
    let numbers = if numbers_value.is_some() {
        if let Some(span) = empty_plan {
            mistakes.warning(
                &span,
                "[numbers] is empty, no call is answered",
                "add `\"*\" = \"…\"` with the name of an agent",
            );
        }
        let handed_over = freeswitch.as_ref().filter(|freeswitch| !freeswitch.outbound.is_empty());
        if let Some(freeswitch) = handed_over {
            check_routes(&read_numbers, &freeswitch.transfer, mistakes);
        }
        known_agents_only(read_numbers, &agents, mistakes)
    } else {
        default_numbers(&agents, mistakes)
    };
    root.finish(&["api", "store", "log", "tls", "webhooks", "streams", "pbx"]);
    Config {
        sip,
        consult: consult.unwrap_or_default(),
        media,
        limits,
        recording: recording.unwrap_or_else(|| RecordingConfig::off(surroundings)),
        records: records.unwrap_or_else(|| RecordsConfig {
            path: surroundings.directory.join(RecordsConfig::default().path),
        }),
        voice: attendant.voice,
        models,
        agents,
        tools,
        mcp,
        metrics,
        freeswitch,
        numbers,
    }
}

/// The number plan, after each agent in it that does not exist was reported.
fn known_agents_only(
    numbers: ReadNumbers,
    agents: &BTreeMap<String, Agent>,
    mistakes: &Mistakes<'_>,
) -> NumberPlan {
    let known = || agents.keys().map(String::as_str);
    let mut fixes: HashMap<&str, String> = HashMap::new();
    for (route, agent_span) in numbers.plan.lines().iter().zip(&numbers.agent_spans) {
        let Some(name) = route.destination.agent() else { continue };
        if agents.contains_key(name) {
            continue;
        }
        let fix = fixes.entry(name).or_insert_with(|| {
            closest(name, known()).map_or_else(
                || format!("known agents: {}", known().collect::<Vec<_>>().join(", ")),
                |meant| format!("did you mean {meant:?}?"),
            )
        });
        mistakes.error_with_fix(
            agent_span,
            format!("[numbers]: {:?} leads to {name:?}, and there is no such agent", route.written),
            fix.as_str(),
        );
    }
    numbers.plan
}

/// Reports each number that is given back to a place FreeSWITCH can't be told the way to.
fn check_routes(numbers: &ReadNumbers, transfer: &TransferSettings, mistakes: &Mistakes<'_>) {
    let Ok(plan) = TransferPlan::new(transfer) else { return }; // Reported where it was read.
    for (route, span) in numbers.plan.lines().iter().zip(&numbers.agent_spans) {
        let Destination::Elsewhere(Elsewhere::Place(target)) = &route.destination else { continue };
        let Err(why) = plan.dialplan_argument(target) else { continue };
        let kind = target.kind.name();
        let gateway =
            matches!(why, TargetError::NoRoute(_)) && target.kind == TransferKind::External;
        let fix = if gateway {
            "name a gateway of your FreeSWITCH in `freeswitch.transfer.gateway`".to_owned()
        } else {
            format!("change the target, or the way to it in `freeswitch.transfer.{kind}`")
        };
        mistakes.error_with_fix(
            span,
            format!(
                "[numbers]: {:?} is given back to {kind} {:?}: {why}",
                route.written, target.target
            ),
            fix,
        );
    }
}

/// Without a number plan the only agent answers everything.
fn default_numbers(agents: &BTreeMap<String, Agent>, mistakes: &Mistakes<'_>) -> NumberPlan {
    let mut plan = NumberPlan::default();
    let mut names = agents.keys();
    let (Some(agent), None) = (names.next(), names.next()) else {
        mistakes.error_with_fix(
            &(0..0),
            format!("there are {} agents and no [numbers], so no call finds one", agents.len()),
            "add [numbers] with lines such as \"+13055551234\" = \"…\" and \"*\" = \"…\"",
        );
        return plan;
    };
    let everything = NumberRoute {
        written: "*".into(),
        pattern: Pattern::Any,
        destination: Destination::Agent(agent.clone()),
        label: None,
        ai_transfer: None,
        recording: None,
        enabled: true,
        line: 0,
    };
    plan.add(everything).expect("the plan was empty");
    plan
}
