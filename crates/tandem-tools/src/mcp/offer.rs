//! A server's tool as it is offered to a model, and one call of it.

use std::{
    collections::BTreeSet,
    fmt,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use rmcp::model::{CallToolResult, Tool};
use serde_json::{Map, Value};
use tandem_call::{STANDARD_TOOLS, ToolDeclaration, ToolOutcome, ToolReport, Verdict};
use tokio::time::timeout_at;

use super::{
    McpServer, McpSettings, answer,
    fault::{Fault, short},
    keeper::{Ask, Link},
    name,
    session::Line,
};
use crate::{ArgumentSchema, InvalidArguments, trouble};

/// Tools of one server that are offered at most: more would take the model's whole attention.
const MOST_TOOLS: usize = 128;
/// How deep a schema of a server may be: generated ones are deeper than those that people write.
const DEEPEST_SCHEMA: usize = 32;
/// Characters of a description.
const LONGEST_DESCRIPTION: usize = 1024;
/// Beginnings of names that are ours.
const OUR_PREFIXES: [&str; 2] = ["tandem_", "pbx_"];
/// Names that are ours beside the standard tools'.
const OUR_NAMES: [&str; 2] = ["pause_recording", "resume_recording"];
/// How long a call waits for a session.
const CONNECT_TIME: Duration = Duration::from_secs(2);
/// What must be left of its time when a call is made a second time.
const TIME_TO_RETRY: Duration = Duration::from_secs(3);

/// What is known of one tool.
pub(super) struct Offer {
    declaration: Arc<ToolDeclaration>,
    schema: ArgumentSchema,
    /// The server's own name for it.
    own_name: String,
}

/// One tool of an MCP server. Cheap to clone; it keeps the server's session alive.
#[derive(Clone)]
pub struct McpTool {
    offer: Arc<Offer>,
    server: McpServer,
}

impl fmt::Debug for McpTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "McpTool({}: {})", self.server.name(), self.offer.own_name)
    }
}

/// `tools` as they are offered, and in words which are not and why.
pub(super) fn offers(settings: &McpSettings, tools: &[Tool]) -> (Arc<[Arc<Offer>]>, Vec<String>) {
    let mut offers: Vec<Arc<Offer>> = Vec::new();
    let mut left_out = Vec::new();
    let mut names = BTreeSet::new();
    for tool in tools {
        if settings.only.as_ref().is_some_and(|only| !only.contains(&*tool.name)) {
            continue;
        }
        if offers.len() == MOST_TOOLS {
            left_out.push(format!("the server has more than {MOST_TOOLS}"));
            break;
        }
        match Offer::new(&settings.prefix, tool) {
            Ok(offer) if names.insert(offer.declaration.name.clone()) => {
                offers.push(Arc::new(offer));
            }
            Ok(offer) => {
                left_out.push(format!("there are two of the name {}", offer.declaration.name));
            }
            Err(why) => left_out.push(format!("{:?}: {why}", short(&tool.name))),
        }
    }
    for name in settings.only.iter().flatten() {
        if !tools.iter().any(|tool| tool.name == *name) {
            left_out.push(format!("the server has none of the name {name:?}"));
        }
    }
    (offers.into(), left_out)
}

impl Offer {
    fn new(prefix: &str, tool: &Tool) -> Result<Self, String> {
        let name = name::fit(prefix, &tool.name).ok_or("no model takes such a name")?;
        if is_ours(&name) {
            return Err("the name is one of Tandem's own; a prefix helps".to_owned());
        }
        let schema = Value::Object((*tool.input_schema).clone());
        let schema = ArgumentSchema::compile(&schema, DEEPEST_SCHEMA)
            .map_err(|error| short(&format!("its schema: {error}")))?;
        let said = [tool.description.as_deref(), tool.title.as_deref(), Some(&tool.name)];
        let mut said = said.into_iter().flatten().filter(|text| !text.trim().is_empty());
        let description = said.next().unwrap_or_default();
        let declaration = ToolDeclaration {
            description: description.chars().take(LONGEST_DESCRIPTION).collect(),
            parameters: schema.declared().clone(),
            name,
        };
        Ok(Self { declaration: Arc::new(declaration), schema, own_name: tool.name.to_string() })
    }
}

/// A server that offered a tool of such a name would get at what the daemon does by itself.
fn is_ours(name: &str) -> bool {
    STANDARD_TOOLS.contains(&name)
        || OUR_NAMES.contains(&name)
        || OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

impl McpTool {
    pub(super) fn new(offer: Arc<Offer>, server: McpServer) -> Self {
        Self { offer, server }
    }

    /// What the model is told of it.
    pub fn declaration(&self) -> &Arc<ToolDeclaration> {
        &self.offer.declaration
    }

    /// Arguments whose values are not kept, as JSON pointers: those with `x-redact` in the server's schema.
    pub fn redacted(&self) -> &Arc<[String]> {
        self.offer.schema.redacted()
    }

    /// Which server it is a tool of.
    pub fn server(&self) -> &str {
        self.server.name()
    }

    /// `arguments` as the server gets them.
    pub(crate) fn check(&self, arguments: Value) -> Result<Map<String, Value>, InvalidArguments> {
        self.offer.schema.check(arguments)
    }

    /// Checks `arguments`, has the server carry it out and waits for the answer until `give_up`; nothing is sent after
    /// `deadline`. `trouble_text` is what the model gets to say where it is not known to have been done.
    ///
    /// Dropping the future tells the server that nobody waits any more. A server is somebody else's: what it answers is
    /// data for the model, and a `transfer` or `end_call` in it does nothing.
    pub async fn call(
        &self,
        arguments: Value,
        deadline: Instant,
        give_up: Instant,
        trouble_text: &str,
    ) -> ToolReport {
        match self.check(arguments) {
            Ok(arguments) => self.send(arguments, deadline, give_up, trouble_text).await,
            Err(invalid) => invalid.into(),
        }
    }

    /// The same with arguments that were checked.
    pub(crate) async fn send(
        &self,
        arguments: Map<String, Value>,
        deadline: Instant,
        give_up: Instant,
        trouble_text: &str,
    ) -> ToolReport {
        let mut attempts = 0;
        let answered = async {
            let mut exchange = pin!(self.exchange(arguments, deadline, &mut attempts));
            if let Ok(answered) = timeout_at(deadline.into(), &mut exchange).await {
                return answered;
            }
            self.doubt();
            exchange.await
        };
        let report = match timeout_at(give_up.into(), answered).await {
            Ok(Ok(result)) => answer::report(result, trouble_text),
            Ok(Err(fault)) => failed(&fault, trouble_text),
            Err(_) => ToolReport {
                verdict: Verdict::FallbackTrouble,
                error: Some("no answer".to_owned()),
                ..ToolOutcome::TimedOut.into()
            },
        };
        ToolReport { attempts, ..report }
    }

    /// Sends the call, a second time where the server surely did not begin with the first. Counts in `sent`.
    async fn exchange(
        &self,
        arguments: Map<String, Value>,
        deadline: Instant,
        sent: &mut u8,
    ) -> Result<CallToolResult, Fault> {
        let line = self.line_after(0, deadline).await?;
        if Instant::now() >= deadline {
            return Err(Fault::Refused("there was no time left to send it".to_owned()));
        }
        *sent = 1;
        let fault = match line.call(self.offer.own_name.clone(), arguments.clone()).await {
            Ok(result) => return Ok(result),
            Err(fault) => fault,
        };
        if fault.doubtful() {
            self.server.ask(Ask::Doubt(line.number));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if !fault.untouched() || left < TIME_TO_RETRY {
            return Err(fault);
        }
        let line = self.line_after(line.number, deadline).await.map_err(|_| fault)?;
        *sent = 2;
        line.call(self.offer.own_name.clone(), arguments).await
    }

    /// The way to the server by a session later than `number`, waited for 2 s and never beyond `deadline`.
    async fn line_after(&self, number: u64, deadline: Instant) -> Result<Line, Fault> {
        let mut link = self.server.link();
        let up = |link: &Link| matches!(link, Link::Up(line) if line.number > number);
        if !up(&link.borrow()) {
            self.server.ask(Ask::Needed);
        }
        let until = deadline.min(Instant::now() + CONNECT_TIME);
        let found = timeout_at(until.into(), link.wait_for(up)).await;
        if let Ok(Ok(link)) = found
            && let Link::Up(line) = &*link
        {
            return Ok(line.clone());
        }
        let why = match &*self.server.link().borrow() {
            Link::Away(Some(why)) => why.to_string(),
            Link::Away(None) | Link::Up(_) => "there is no session yet".to_owned(),
        };
        Err(Fault::NotConnected(why))
    }

    /// A server that does not answer may be gone: its keeper is to see.
    fn doubt(&self) {
        if let Link::Up(line) = &*self.server.link().borrow() {
            self.server.ask(Ask::Doubt(line.number));
        }
    }
}

/// What the model gets where there is no result.
fn failed(fault: &Fault, text: &str) -> ToolReport {
    let status = match fault {
        Fault::NotConnected(_) | Fault::Expired | Fault::Lost(_) => "unreachable",
        Fault::Status(_) | Fault::Refused(_) => "error",
    };
    let http_status = match fault {
        Fault::Status(status) => Some(*status),
        _ => None,
    };
    ToolReport { http_status, ..trouble(status, text, Verdict::FallbackTrouble, fault.text()) }
}
