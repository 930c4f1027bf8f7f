//! The agent that answers a call, as resolved when the call came in.

use std::{collections::BTreeMap, time::Duration};

use crate::{AgentTool, Greet, Interruption, PhraseId, ToolDeclaration, ToolTexts, TransferTarget};

/// What happens when a tool answers after its deadline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LateResults {
    /// It is dropped.
    #[default]
    Discard,
    /// The model gets it as text.
    Inject,
}

/// The agent's first words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Greeting {
    /// Wait until spoken to.
    Silent,
    /// Open in the model's own words.
    #[default]
    OwnWords,
    /// Open with exactly this.
    Exactly(String),
}

impl Greeting {
    /// The order to the model, if the agent speaks first.
    pub fn order(&self) -> Option<Greet> {
        match self {
            Self::Silent => None,
            Self::OwnWords => Some(Greet::Instruction(
                "The call is connected. Greet the caller in one short sentence and ask how you can help.".into(),
            )),
            Self::Exactly(words) => Some(Greet::Exactly(words.clone())),
        }
    }
}

/// Where `transfer_to_human` leads: the first hit wins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferRoutes {
    /// By the department the model names, compared without case.
    pub departments: BTreeMap<String, TransferTarget>,
    /// Of the dialled number.
    pub number: Option<TransferTarget>,
    /// Of the agent.
    pub agent: Option<TransferTarget>,
    /// Of all agents.
    pub default: Option<TransferTarget>,
}

impl TransferRoutes {
    /// The target for a transfer to `department`.
    pub fn resolve(&self, department: Option<&str>) -> Option<&TransferTarget> {
        department
            .and_then(|wanted| {
                self.departments
                    .iter()
                    .find(|(name, _)| name.eq_ignore_ascii_case(wanted.trim()))
                    .map(|(_, target)| target)
            })
            .or(self.number.as_ref())
            .or(self.agent.as_ref())
            .or(self.default.as_ref())
    }
}

/// Everything the machine needs to know of an agent. A running call keeps what it started with.
#[derive(Debug, Clone)]
pub struct AgentSpec {
    /// The slug routes point at.
    pub agent_id: String,
    /// The system prompt, placeholders filled in.
    pub system_prompt: String,
    /// BCP-47.
    pub language: String,
    /// The vendor's voice name.
    pub voice: Option<String>,
    /// 0.0 to 1.0.
    pub temperature: Option<f32>,
    /// First words.
    pub greeting: Greeting,
    /// Tools offered to the model, and how their calls are run.
    pub tools: Vec<AgentTool>,
    /// What the caller is told when a tool has nothing to say for itself.
    pub tool_texts: ToolTexts,
    /// The agent's own phrases, which [`PhraseId`]s number: fillers of tools and the like.
    pub phrases: Vec<String>,
    /// What an answering machine is told before the call ends.
    pub voicemail_message: Option<PhraseId>,
    /// What to do with late results.
    pub late_results: LateResults,
    /// Transfer targets.
    pub transfer: TransferRoutes,
    /// How long a transfer may take before the caller is taken back.
    pub transfer_timeout: Duration,
    /// From the played end of the goodbye to the hang-up, so that the far side's buffers can play it out.
    pub end_call_drain: Duration,
    /// Speech of the caller for 600 ms takes an `end_call` back.
    pub end_call_cancel_on_speech: bool,
    /// When speech of the caller stops the agent.
    pub interruption: Interruption,
    /// Hang up after this much silence of the caller.
    pub max_silence: Duration,
    /// Hang up after this long.
    pub max_duration: Duration,
    /// Keep the transcript.
    pub transcription: bool,
    /// The agent's models in order of preference, by their configured names; the offline attendant stands behind
    /// the last one and is not listed.
    pub models: Vec<String>,
}

impl AgentSpec {
    /// What a model is told of the tools.
    pub fn declarations(&self) -> Vec<ToolDeclaration> {
        self.tools.iter().map(|tool| ToolDeclaration::clone(&tool.declaration)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TransferKind;

    fn extension(target: &str) -> TransferTarget {
        TransferTarget::new(TransferKind::Extension, target)
    }

    #[test]
    fn a_transfer_goes_to_the_department_then_the_number_then_the_agent_then_anybody() {
        let mut routes = TransferRoutes {
            departments: BTreeMap::from([("Sales".into(), extension("1"))]),
            number: Some(extension("2")),
            agent: Some(extension("3")),
            default: Some(extension("4")),
        };
        assert_eq!(routes.resolve(Some(" sales ")), Some(&extension("1")));
        assert_eq!(routes.resolve(Some("support")), Some(&extension("2")));
        routes.number = None;
        assert_eq!(routes.resolve(None), Some(&extension("3")));
        routes.agent = None;
        assert_eq!(routes.resolve(Some("support")), Some(&extension("4")));
        assert_eq!(TransferRoutes::default().resolve(Some("sales")), None);
    }
}
