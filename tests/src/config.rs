//! What one call is made of.

use std::{sync::Arc, time::Duration};

use tandem_attendant::Script as AttendantScript;
use tandem_call::{AgentSpec, HistoryTurn, Patience, ToolOutcome, ToolReport, TransferOutcome};
use tandem_models::ModelOptions;
use tandem_sim::{FakeConfig, ToolReply, ToolScript};

/// What one call is made of.
pub struct WorldConfig {
    /// The agent; it has as many models as there are servers.
    pub agent: AgentSpec,
    /// The agent's models, in order; none where nothing listens.
    pub servers: Vec<Option<FakeConfig>>,
    /// The vendor's model name, its default otherwise.
    pub model: Option<&'static str>,
    /// Options of all models.
    pub options: ModelOptions,
    /// 24 kHz PCM instead of G.711.
    pub pcm: bool,
    /// Telephone-event is agreed; otherwise the caller's digits are tones.
    pub telephone_event: bool,
    /// The client's unix time at the beginning.
    pub unix_now: Duration,
    /// What was said before.
    pub history: Vec<HistoryTurn>,
    /// What tools do.
    pub tools: Vec<ToolScript>,
    /// What tools do whose reports say more than that.
    pub plays: Vec<ToolPlay>,
    /// The agent's phrases as they were rendered, 16-bit samples at 16 kHz.
    pub phrases: Vec<Option<Arc<[u8]>>>,
    /// How long the machine waits for what.
    pub patience: Patience,
    /// How transfers end; one that is not listed is never heard of again.
    pub transfers: Vec<TransferScript>,
    /// What the attendant says.
    pub script: AttendantScript,
}

impl WorldConfig {
    /// A call to `agent` with a model for each of `servers`.
    pub fn new(agent: AgentSpec, servers: Vec<Option<FakeConfig>>) -> Self {
        Self {
            agent,
            servers,
            model: None,
            options: ModelOptions::default(),
            pcm: false,
            telephone_event: true,
            unix_now: Duration::from_secs(1_795_000_000),
            history: Vec::new(),
            tools: Vec::new(),
            plays: Vec::new(),
            phrases: Vec::new(),
            patience: Patience::default(),
            transfers: Vec::new(),
            script: AttendantScript::default(),
        }
    }
}

/// What comes of a tool's calls.
#[derive(Debug, Clone)]
pub struct ToolPlay {
    /// The tool.
    pub name: String,
    /// What is reported, and how long after the call. Nothing: nobody ever answers.
    pub reports: Vec<(Duration, ToolReport)>,
}

impl ToolPlay {
    /// A tool that reports after `takes_ms`.
    pub fn new(name: &str, takes_ms: u64, report: impl Into<ToolReport>) -> Self {
        let reports = vec![(Duration::from_millis(takes_ms), report.into())];
        Self { name: name.into(), reports }
    }
}

impl From<&ToolScript> for ToolPlay {
    fn from(script: &ToolScript) -> Self {
        let outcome = match &script.reply {
            ToolReply::Output(output) => ToolOutcome::Answered(output.clone()),
            ToolReply::Error(error) => ToolOutcome::Failed((*error).to_owned()),
            ToolReply::Never => return Self { name: script.name.into(), reports: Vec::new() },
        };
        Self::new(script.name, script.takes_ms, outcome)
    }
}

/// How a transfer ends.
#[derive(Debug, Clone)]
pub struct TransferScript {
    /// After how long.
    pub after: Duration,
    /// How.
    pub outcome: TransferOutcome,
}
