//! The tools that one call has, and who carries out each.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::Arc,
};

use serde_json::{Map, Value};
use tandem_call::{InvocationId, ToolDeclaration, ToolReport, Verdict};
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    CallFacts, CallRunner, McpServer, McpTool, ToolSet,
    exchange::{Exchanged, Written},
    metrics::ToolStats,
    request::Order,
    set::{OwnTool, SetShared},
    trouble,
};

/// The tools of one call, as they were when it began. Clones are the same offer.
#[derive(Debug, Clone)]
pub struct Offer {
    pub(crate) set: Arc<SetShared>,
    carriers: Arc<BTreeMap<String, Carrier>>,
    offered: Arc<[OfferedTool]>,
}

/// A tool as the machine and the model need it.
#[derive(Debug, Clone)]
pub struct OfferedTool {
    /// What the model is told.
    pub declaration: Arc<ToolDeclaration>,
    /// Arguments whose values are not kept, as JSON pointers (RFC 6901).
    pub redacted: Arc<[String]>,
}

/// Who carries out a tool.
#[derive(Debug, Clone)]
pub(crate) enum Carrier {
    /// A receiver of webhooks, or nobody.
    Own(Arc<OwnTool>),
    /// An MCP server.
    Mcp(McpTool, Arc<ToolStats>, Arc<Semaphore>),
}

/// One order to a carrier.
pub(crate) struct Errand<'a> {
    pub(crate) arguments: Map<String, Value>,
    pub(crate) facts: &'a CallFacts,
    pub(crate) invocation: &'a InvocationId,
    pub(crate) deadline: Instant,
    /// When nobody listens any more.
    pub(crate) give_up: Instant,
    pub(crate) written: &'a Written,
    pub(crate) test: bool,
}

/// What a carrier makes of an errand.
pub(crate) struct Done {
    pub(crate) report: ToolReport,
    /// What went over the wire, of a webhook.
    pub(crate) exchanged: Option<Exchanged>,
}

impl Done {
    /// Whether an answer came to its end, whatever it says.
    pub(crate) fn is_answered(&self) -> bool {
        match &self.exchanged {
            Some(exchanged) => exchanged.answer.is_ok(),
            None => self.report.verdict == Verdict::Ok,
        }
    }
}

impl From<ToolReport> for Done {
    fn from(report: ToolReport) -> Self {
        Self { report, exchanged: None }
    }
}

impl Offer {
    pub(crate) fn new(set: &ToolSet) -> Self {
        let set = Arc::clone(&set.shared);
        let mut carriers = BTreeMap::new();
        let mut offered = Vec::with_capacity(set.own.len());
        for tool in &set.own {
            offered.push(OfferedTool {
                declaration: Arc::clone(&tool.declaration),
                redacted: Arc::clone(&tool.redacted),
            });
            carriers.insert(tool.declaration.name.clone(), Carrier::Own(Arc::clone(tool)));
        }
        for tool in set.servers.iter().flat_map(McpServer::tools) {
            let declaration = Arc::clone(tool.declaration());
            if let Entry::Vacant(free) = carriers.entry(declaration.name.clone()) {
                let stats = set.executor.metrics().tool(&declaration.name);
                offered.push(OfferedTool { declaration, redacted: Arc::clone(tool.redacted()) });
                let places = set.executor.places_of(&format!("mcp {}", tool.server()));
                free.insert(Carrier::Mcp(tool, stats, places));
            }
        }
        Self { set, carriers: Arc::new(carriers), offered: offered.into() }
    }

    /// The tools, in the order in which they are offered.
    pub fn tools(&self) -> impl Iterator<Item = OfferedTool> + use<'_> {
        self.offered.iter().cloned()
    }

    /// Who carries out the tools of the call that begins now.
    pub fn begin(&self, call: CallFacts) -> CallRunner {
        CallRunner::new(self.clone(), call)
    }

    pub(crate) fn carrier(&self, name: &str) -> Option<&Carrier> {
        self.carriers.get(name)
    }

    /// The report of a tool that does not exist (control API 11.5).
    pub(crate) fn unknown(&self) -> ToolReport {
        let noted = &self.set.settings.texts.noted;
        trouble("unknown_tool", noted, Verdict::Rejected, "no such tool")
    }
}

impl Carrier {
    pub(crate) fn stats(&self) -> &Arc<ToolStats> {
        match self {
            Self::Own(tool) => &tool.stats,
            Self::Mcp(_, stats, _) => stats,
        }
    }

    /// Places of the host or server that it leads to.
    pub(crate) fn places(&self) -> &Arc<Semaphore> {
        match self {
            Self::Own(tool) => &tool.places,
            Self::Mcp(_, _, places) => places,
        }
    }

    /// Checks `arguments`; what comes back is what [`Carrier::carry`] takes, or the report when nothing is to be carried.
    pub(crate) fn prepare(
        &self,
        set: &SetShared,
        arguments: Value,
    ) -> Result<Map<String, Value>, Box<ToolReport>> {
        let checked = match self {
            Self::Own(tool) => tool.prepare(arguments, &set.settings),
            Self::Mcp(tool, ..) => tool.check(arguments),
        };
        let checked = checked.map_err(|invalid| Box::new(ToolReport::from(invalid)))?;
        match self {
            Self::Own(tool) if tool.receiver.is_none() => {
                let noted = &set.settings.texts.noted;
                let report = trouble("noted", noted, Verdict::FallbackNoted, "");
                Err(Box::new(ToolReport { error: None, ..report }))
            }
            _ => Ok(checked),
        }
    }

    /// Whether an order that was sent is taken back by dropping it. Such a carrier sends nothing after the deadline.
    pub(crate) fn takes_back(&self) -> bool {
        match self {
            Self::Own(_) => false,
            Self::Mcp(..) => true,
        }
    }

    /// Carries out what [`Carrier::prepare`] has let through.
    pub(crate) async fn carry(&self, set: &SetShared, errand: Errand<'_>) -> Done {
        match self {
            Self::Own(tool) => {
                let receiver = tool.receiver.as_ref().expect("without one nothing is carried");
                let order = Order {
                    name: &tool.declaration.name,
                    arguments: &errand.arguments,
                    facts: errand.facts,
                    invocation: errand.invocation,
                    tenant_id: &set.settings.tenant_id,
                    test: errand.test,
                };
                let times = (errand.deadline, errand.give_up);
                let exchanged = receiver.exchange(&order, times, errand.written, &tool.stats).await;
                let report = exchanged.report(&set.settings.texts, tool.result_schema.as_ref());
                Done { report, exchanged: Some(exchanged) }
            }
            Self::Mcp(tool, ..) => {
                let (deadline, give_up) = (errand.deadline.into_std(), errand.give_up.into_std());
                let words = &set.settings.texts.trouble;
                tool.send(errand.arguments, deadline, give_up, words).await.into()
            }
        }
    }
}
