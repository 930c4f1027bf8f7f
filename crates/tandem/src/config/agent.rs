//! An agent as it is configured, and what a call makes of it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tandem_attendant::Script;
use tandem_call::{
    AgentSpec, Greeting, Interruption, LateResults, ToolTexts, TransferRoutes, TransferTarget,
};
use tandem_media::VoiceSettings;
use tandem_sip::SrtpPolicy;

use super::{
    models::ATTENDANT, offer::Offer, receiver::Receiver, recording::AgentRecording,
    tools::ToolsConfig,
};

/// Tools that run inside Tandem and need no webhook; an agent has them unless it lists its own.
pub(crate) const INSIDE_TOOLS: [&str; 2] = ["transfer_to_human", "end_call"];

/// Tools that a model takes.
const MOST_TOOLS: usize = 128;

/// An agent as it is configured. [`Agent::spec`] makes the words the call machine takes.
#[derive(Debug, Clone)]
pub struct Agent {
    /// The slug that numbers point at.
    pub agent_id: String,
    /// A name for people.
    pub display_name: String,
    /// Whom it answers for.
    pub company: String,
    /// What it is.
    pub role: String,
    /// BCP-47.
    pub language: String,
    /// Models in order of preference: those with a key. Empty = the offline attendant.
    pub models: Vec<String>,
    /// Models it names that can't be used, for they have no key.
    pub models_without_key: Vec<String>,
    /// The vendor's voice name.
    pub voice: Option<String>,
    /// The system prompt, with `{{name}}` placeholders.
    pub system_prompt: String,
    /// First words, with `{{name}}` placeholders.
    pub greeting: Greeting,
    /// 0.0 to 1.0.
    pub temperature: f32,
    /// Names of its tools: standard ones, those of the file, controls of the switch and of the recording.
    pub tools: Vec<String>,
    /// The MCP servers whose tools it has as well.
    pub mcp: Vec<String>,
    /// Where tools go that have no place of their own.
    pub receiver: Receiver,
    /// Deadline of each tool call whose tool has none of its own.
    pub tool_timeout: Duration,
    /// What the caller is told when a tool has nothing to say for itself; none = as usual in its language.
    pub noted_text: Option<String>,
    /// What the caller is told when a tool could not be carried out; none = as usual in its language.
    pub trouble_text: Option<String>,
    /// What an answering machine is told, with `{{name}}` placeholders.
    pub voicemail_message: Option<String>,
    /// What its calls get of its tools, made of all these.
    pub offer: Offer,
    /// What to do with late results.
    pub late_results: LateResults,
    /// Where `transfer_to_human` leads when neither department nor number know better.
    pub transfer: Option<TransferTarget>,
    /// Where it leads when the agent does not know either.
    pub default_transfer: Option<TransferTarget>,
    /// Where it leads by department.
    pub departments: BTreeMap<String, TransferTarget>,
    /// How long a transfer may take.
    pub transfer_timeout: Duration,
    /// `end_call` hangs up so long after the played end of the goodbye.
    pub end_call_drain: Duration,
    /// Speech of the caller takes an `end_call` back.
    pub end_call_cancel_on_speech: bool,
    /// When speech of the caller stops it.
    pub interruption: Interruption,
    /// How its calls sound.
    pub audio: VoiceSettings,
    /// Whether and how its calls are recorded.
    pub recording: AgentRecording,
    /// Hang up after this much silence of the caller.
    pub max_silence: Duration,
    /// Hang up after this long.
    pub max_duration: Duration,
    /// More calls are busy.
    pub max_concurrent_calls: Option<u32>,
    /// Whether its SIP calls may, must or must not have protected media; none = as `media.srtp` says.
    pub srtp: Option<SrtpPolicy>,
    /// Keep the transcript.
    pub transcription: bool,
    /// Defaults for placeholders.
    pub variables: BTreeMap<String, String>,
    /// What the offline attendant says in its place.
    pub script: Script,
    /// A disabled agent refuses new calls.
    pub enabled: bool,
}

impl Agent {
    /// The agent that answers when nothing is configured: every default, and the name `attendant`.
    pub fn offline(script: Script) -> Self {
        let mut agent = Self {
            agent_id: ATTENDANT.into(),
            display_name: "Attendant".into(),
            company: "Attendant".into(),
            role: "AI Assistant".into(),
            language: "en".into(),
            models: Vec::new(),
            models_without_key: Vec::new(),
            voice: None,
            system_prompt: String::new(),
            greeting: Greeting::OwnWords,
            temperature: 0.7,
            tools: INSIDE_TOOLS.map(str::to_owned).to_vec(),
            mcp: Vec::new(),
            receiver: Receiver::default(),
            tool_timeout: Duration::from_secs(9),
            noted_text: None,
            trouble_text: None,
            voicemail_message: None,
            offer: Offer::default(),
            late_results: LateResults::Discard,
            transfer: None,
            default_transfer: None,
            departments: BTreeMap::new(),
            transfer_timeout: Duration::from_secs(30),
            end_call_drain: Duration::from_secs(2),
            end_call_cancel_on_speech: false,
            interruption: Interruption::default(),
            audio: VoiceSettings::default(),
            recording: AgentRecording::default(),
            max_silence: Duration::from_secs(600),
            max_duration: Duration::from_secs(3600),
            max_concurrent_calls: None,
            srtp: None,
            transcription: true,
            variables: BTreeMap::new(),
            script,
            enabled: true,
        };
        agent.offer = Offer::new(&agent, &ToolsConfig::default(), &BTreeMap::new(), None);
        agent
    }

    /// The agent `agent_id` with every default.
    pub(crate) fn named(agent_id: &str, script: &Script) -> Self {
        let name = agent_id.to_owned();
        Self {
            agent_id: name.clone(),
            display_name: name.clone(),
            company: name,
            ..Self::offline(script.clone())
        }
    }

    /// What the call machine needs for one call: to a number with its own `ai_transfer`, with the `variables` of the
    /// call, which win over the agent's own.
    pub fn spec(
        &self,
        ai_transfer: Option<&TransferTarget>,
        variables: &BTreeMap<String, String>,
    ) -> AgentSpec {
        let fill = |text: &str| self.fill(text, variables);
        AgentSpec {
            agent_id: self.agent_id.clone(),
            system_prompt: fill(&self.system_prompt),
            language: self.language.clone(),
            voice: self.voice.clone(),
            temperature: Some(self.temperature),
            greeting: match &self.greeting {
                Greeting::Exactly(words) => Greeting::Exactly(fill(words)),
                Greeting::OwnWords => Greeting::OwnWords,
                Greeting::Silent => Greeting::Silent,
            },
            tools: self.offer.tools.clone(),
            tool_texts: self.tool_texts(),
            phrases: self.offer.phrases.clone(),
            voicemail_message: self.offer.voicemail,
            late_results: self.late_results,
            transfer: TransferRoutes {
                departments: self.departments.clone(),
                number: ai_transfer.cloned(),
                agent: self.transfer.clone(),
                default: self.default_transfer.clone(),
            },
            transfer_timeout: self.transfer_timeout,
            end_call_drain: self.end_call_drain,
            end_call_cancel_on_speech: self.end_call_cancel_on_speech,
            interruption: self.interruption.clone(),
            max_silence: self.max_silence,
            max_duration: self.max_duration,
            transcription: self.transcription,
            models: self.models.clone(),
        }
    }

    /// Adds the tools to `spec` that MCP servers bring to this call, as many as a model takes.
    pub(crate) fn add_server_tools(&self, spec: &mut AgentSpec, brought: &tandem_tools::Offer) {
        for tool in brought.tools() {
            if spec.tools.iter().any(|it| it.declaration.name == tool.declaration.name) {
                continue;
            }
            if spec.tools.len() >= MOST_TOOLS {
                tracing::warn!(
                    agent = self.agent_id,
                    tool = tool.declaration.name,
                    "a model takes {MOST_TOOLS} tools: this one and those behind it are left out"
                );
                return;
            }
            let tool = self.offer.from_server(tool.declaration, tool.redacted);
            spec.tools.push(tool);
        }
    }

    /// What the caller is told when a tool has nothing to say for itself.
    pub fn tool_texts(&self) -> ToolTexts {
        let usual = ToolTexts::of(&self.language);
        ToolTexts {
            noted: self.noted_text.clone().unwrap_or(usual.noted),
            trouble: self.trouble_text.clone().unwrap_or(usual.trouble),
        }
    }

    /// `text` with each `{{name}}` replaced: by the call's variables, the agent's, then its `company`, `role`,
    /// `display_name` and `language`. An unknown name leaves nothing behind.
    pub fn fill(&self, text: &str, variables: &BTreeMap<String, String>) -> String {
        replace_placeholders(text, |name| {
            Some(
                variables
                    .get(name)
                    .map(String::as_str)
                    .or_else(|| self.constant(name))
                    .unwrap_or_default(),
            )
        })
    }

    /// The script with everything filled in that is the same for all calls; the rest is filled in by each call.
    pub(crate) fn fill_script(&self) -> Script {
        let filled = serde_json::to_value(&self.script).map(|mut script| {
            for_each_text(&mut script, &|text| {
                replace_placeholders(text, |name| self.constant(name))
            });
            script
        });
        let script = filled.and_then(serde_json::from_value);
        script.expect("a script is plain data, and texts stay texts")
    }

    /// What `name` stands for in all calls of this agent.
    fn constant(&self, name: &str) -> Option<&str> {
        let own = match name {
            "company" => Some(&self.company),
            "role" => Some(&self.role),
            "display_name" => Some(&self.display_name),
            "language" => Some(&self.language),
            _ => None,
        };
        self.variables.get(name).or(own).map(String::as_str)
    }
}

/// `text` with each `{{name}}` replaced by its value; those without one stay as they are.
fn replace_placeholders<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        filled.push_str(before);
        let Some((name, later)) = after.split_once("}}") else {
            filled.push_str("{{");
            rest = after;
            continue;
        };
        match value(name.trim()) {
            Some(value) => filled.push_str(value),
            None => {
                filled.push_str("{{");
                filled.push_str(name);
                filled.push_str("}}");
            }
        }
        rest = later;
    }
    filled.push_str(rest);
    filled
}

/// Replaces every text in `value`; the keys stay.
fn for_each_text(value: &mut Value, replace: &impl Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = replace(text),
        Value::Array(items) => items.iter_mut().for_each(|item| for_each_text(item, replace)),
        Value::Object(members) => {
            members.values_mut().for_each(|member| for_each_text(member, replace));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_take_the_calls_variables_first() {
        let mut agent = Agent::offline(Script::default());
        agent.company = "Acme".into();
        agent.variables =
            BTreeMap::from([("city".into(), "Miami".into()), ("tier".into(), "basic".into())]);
        let call = BTreeMap::from([("tier".into(), "gold".into())]);
        for (text, filled) in [
            ("{{company}} in {{ city }}, {{tier}}", "Acme in Miami, gold"),
            ("no {{such}}thing", "no thing"),
            ("{{open", "{{open"),
            ("{ {x} } {{}}", "{ {x} } "),
            ("{{a {{city}}", ""),
        ] {
            let got = agent.fill(text, &call);
            if text == "{{a {{city}}" {
                assert!(!got.contains("}}"), "{got}");
            } else {
                assert_eq!(got, filled);
            }
        }
    }

    #[test]
    fn a_filled_value_is_not_filled_again() {
        let mut agent = Agent::offline(Script::default());
        agent.company = "Acme".into();
        let call = BTreeMap::from([("name".into(), "{{company}}".into())]);
        assert_eq!(agent.fill("{{name}}", &call), "{{company}}");
    }

    #[test]
    fn the_number_wins_over_the_agent_in_transfers() {
        let mut agent = Agent::offline(Script::default());
        let target =
            |target: &str| TransferTarget::new(tandem_call::TransferKind::Extension, target);
        agent.transfer = Some(target("200"));
        let spec = agent.spec(Some(&target("300")), &BTreeMap::new());
        assert_eq!(spec.transfer.resolve(None), Some(&target("300")));
        let spec = agent.spec(None, &BTreeMap::new());
        assert_eq!(spec.transfer.resolve(None), Some(&target("200")));
        assert_eq!(spec.tools.len(), 2);
    }

    #[test]
    fn a_script_is_filled_with_what_all_calls_share() {
        let mut agent = Agent::offline(Script::default());
        agent.company = "Acme \"Bikes\"".into();
        agent.variables = BTreeMap::from([("city".into(), "Miami".into())]);
        agent.script.greeting = "{{company}} in {{city}}, hello {{caller_name}}.".into();
        agent.script.fallback = vec!["{{ city }}".into()];
        let script = agent.fill_script();
        assert_eq!(script.greeting, "Acme \"Bikes\" in Miami, hello {{caller_name}}.");
        assert_eq!(script.fallback, ["Miami"]);
        assert_eq!(script.goodbye, agent.script.goodbye);
    }
}
