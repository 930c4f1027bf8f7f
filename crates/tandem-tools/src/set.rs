//! An agent's tools, compiled when the configuration is read and shared by all its calls.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use tandem_call::{STANDARD_TOOLS, ToolDeclaration, ToolTexts, standard_tool};
use tokio::sync::Semaphore;
use url::Url;

use crate::{
    ArgumentSchema, Executor, HttpClient, InvalidArguments, MAX_DEPTH, McpServer, Offer,
    ResultSchema, SchemaError, Webhook, WebhookError, exchange::Receiver, metrics::ToolStats,
    standard,
};

/// The longest description, in characters (control API 10.3).
const MAX_DESCRIPTION: usize = 1_024;

/// A tool as it is configured.
#[derive(Debug, Clone)]
pub struct Tool {
    /// Name, words for the model, and the schema of the arguments with its `x-redact` marks; a `null` schema stands for
    /// no arguments.
    pub declaration: ToolDeclaration,
    /// Where its calls are sent; none = they are noted.
    pub webhook: Option<Webhook>,
    /// Arguments that are not kept, beside those that the schema marks.
    pub redacted: Vec<String>,
    /// What an answer must match.
    pub result_schema: Option<Value>,
}

impl Tool {
    /// A tool that nobody receives yet.
    pub fn new(declaration: ToolDeclaration) -> Self {
        Self { declaration, webhook: None, redacted: Vec::new(), result_schema: None }
    }

    /// The standard tool `name`, or nothing when there is no such tool.
    pub fn standard(name: &str) -> Option<Self> {
        standard_tool(name).map(Self::new)
    }
}

/// What goes for all tools of an agent.
#[derive(Debug, Clone)]
pub struct ToolSetSettings {
    /// What the caller is told when a receiver has nothing to say.
    pub texts: ToolTexts,
    /// Invocations of one call that are carried out at a time (control API 11.6).
    pub max_in_flight: usize,
    /// Adds `date_iso` and `time_iso` to arguments of standard tools, as days are counted there.
    pub normalize_dates: Option<TimeZone>,
    /// `tenant_id` in the envelope.
    pub tenant_id: String,
}

impl Default for ToolSetSettings {
    fn default() -> Self {
        Self {
            texts: ToolTexts::default(),
            max_in_flight: 4,
            normalize_dates: None,
            tenant_id: "default".into(),
        }
    }
}

/// What is wrong with a tool.
#[derive(Debug, thiserror::Error)]
#[error("tool {tool:?}: {fault}")]
pub struct ToolSetError {
    /// Its name.
    pub tool: String,
    /// What is wrong.
    pub fault: ToolFault,
}

/// What may be wrong with a tool.
#[derive(Debug, thiserror::Error)]
pub enum ToolFault {
    /// The name is not `^[A-Za-z][A-Za-z0-9_-]{0,63}$`.
    #[error("a name begins with a letter and has letters, digits, _ and -, at most 64")]
    Name,
    /// Two tools have the name.
    #[error("there is another tool of this name")]
    Twice,
    /// The description is empty or too long.
    #[error("a description has 1 to {MAX_DESCRIPTION} characters")]
    Description,
    /// The schema of the arguments is of no use.
    #[error("parameters: {0}")]
    Parameters(SchemaError),
    /// The schema of the answer is of no use.
    #[error("result_schema: {0}")]
    ResultSchema(SchemaError),
    /// The receiver cannot be called.
    #[error("webhook: {0}")]
    Webhook(#[from] WebhookError),
}

/// A tool of the agent's own, ready to be called.
#[derive(Debug)]
pub(crate) struct OwnTool {
    pub(crate) declaration: Arc<ToolDeclaration>,
    pub(crate) redacted: Arc<[String]>,
    standard: bool,
    schema: ArgumentSchema,
    pub(crate) receiver: Option<Receiver>,
    pub(crate) result_schema: Option<ResultSchema>,
    pub(crate) stats: Arc<ToolStats>,
    /// Shared with all tools that lead to the same host.
    pub(crate) places: Arc<Semaphore>,
}

impl OwnTool {
    fn compile(tool: Tool, client: &HttpClient, executor: &Executor) -> Result<Self, ToolFault> {
        let Tool { mut declaration, webhook, redacted, result_schema } = tool;
        if !is_name(&declaration.name) {
            return Err(ToolFault::Name);
        }
        if !(1..=MAX_DESCRIPTION).contains(&declaration.description.trim().chars().count()) {
            return Err(ToolFault::Description);
        }
        let standard = STANDARD_TOOLS.contains(&declaration.name.as_str());
        let compile = |schema: &Value| ArgumentSchema::compile(schema, MAX_DEPTH);
        let as_declared = compile(&declaration.parameters).map_err(ToolFault::Parameters)?;
        declaration.parameters = as_declared.declared().clone();
        let schema = if standard {
            let bounded = standard::bounded(declaration.parameters.clone());
            compile(&bounded).map_err(ToolFault::Parameters)?
        } else {
            as_declared
        };
        let marked = schema.redacted().iter().cloned();
        let named =
            redacted.iter().map(|name| format!("/{}", name.replace('~', "~0").replace('/', "~1")));
        let redacted: BTreeSet<String> = marked.chain(named).collect();
        Ok(Self {
            redacted: redacted.into_iter().collect(),
            standard,
            schema,
            places: executor.places_of(&match &webhook {
                Some(webhook) => webhook.url.origin().ascii_serialization(),
                None => String::new(),
            }),
            receiver: webhook.map(|webhook| Receiver::new(webhook, client)).transpose()?,
            result_schema: result_schema
                .map(|schema| ResultSchema::compile(&schema))
                .transpose()
                .map_err(ToolFault::ResultSchema)?,
            stats: executor.metrics().tool(&declaration.name),
            declaration: Arc::new(declaration),
        })
    }

    /// The arguments as the receiver gets them.
    pub(crate) fn prepare(
        &self,
        arguments: Value,
        settings: &ToolSetSettings,
    ) -> Result<Map<String, Value>, InvalidArguments> {
        let arguments = self.schema.check(arguments)?;
        if !self.standard {
            return Ok(arguments);
        }
        let zone = settings.normalize_dates.clone();
        let today = zone.map(|zone| jiff::Timestamp::now().to_zoned(zone).date());
        standard::finish(&self.declaration.parameters, arguments, today)
    }
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    name.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && name.len() <= 64
        && name.bytes().all(fits)
}

/// An agent's compiled tools. Clones are the same set.
#[derive(Debug, Clone)]
pub struct ToolSet {
    pub(crate) shared: Arc<SetShared>,
}

pub(crate) struct SetShared {
    pub(crate) executor: Executor,
    pub(crate) client: HttpClient,
    pub(crate) settings: ToolSetSettings,
    pub(crate) own: Vec<Arc<OwnTool>>,
    pub(crate) servers: Vec<McpServer>,
}

impl fmt::Debug for SetShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let own = self.own.iter().map(|tool| &tool.declaration.name);
        let servers = self.servers.iter().map(|server| server.name());
        f.debug_list().entries(own).entries(servers).finish()
    }
}

impl ToolSet {
    /// Compiles `tools`, whose calls are carried out by `executor` and sent by `client`; what `servers` offer comes
    /// behind them, without the tools whose names are taken.
    ///
    /// # Errors
    ///
    /// The first tool that is of no use, with what is wrong.
    pub fn new(
        executor: &Executor,
        client: &HttpClient,
        settings: ToolSetSettings,
        tools: Vec<Tool>,
        servers: Vec<McpServer>,
    ) -> Result<Self, ToolSetError> {
        let mut names = BTreeSet::new();
        let mut own = Vec::with_capacity(tools.len());
        for tool in tools {
            let name = tool.declaration.name.clone();
            let compiled = OwnTool::compile(tool, client, executor).and_then(|tool| {
                if names.insert(name.clone()) { Ok(tool) } else { Err(ToolFault::Twice) }
            });
            own.push(Arc::new(compiled.map_err(|fault| ToolSetError { tool: name, fault })?));
        }
        let (executor, client) = (executor.clone(), client.clone());
        Ok(Self { shared: Arc::new(SetShared { executor, client, settings, own, servers }) })
    }

    /// The tools as they are now, for one call.
    pub fn offer(&self) -> Offer {
        Offer::new(self)
    }

    /// Has a connection to each webhook's host made in the background, so that the first call of a tool finds it open.
    ///
    /// The receivers see a request for the headers of their root page, without a key.
    pub fn warm(&self) {
        for url in self.hosts().into_values() {
            let client = self.shared.client.clone();
            self.shared.executor.runtime().spawn(async move {
                if let Err(error) = client.warm(&url).await {
                    tracing::debug!(host = url.host_str(), error, "no connection in advance");
                }
            });
        }
    }

    /// Whether each webhook's host takes a connection, TLS included; no request is sent.
    pub async fn probe(&self) -> Vec<(Url, Result<(), String>)> {
        let probes = self.hosts().into_values().map(|url| async {
            let result = self.shared.client.probe(&url).await;
            (url, result)
        });
        futures_util::future::join_all(probes).await
    }

    /// A URL of each host that webhooks lead to.
    fn hosts(&self) -> BTreeMap<String, Url> {
        let receivers = self.shared.own.iter().filter_map(|tool| tool.receiver.as_ref());
        let urls = receivers.map(|receiver| receiver.webhook().url.clone());
        urls.map(|url| (url.origin().ascii_serialization(), url)).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::runtime::Handle;

    use super::*;
    use crate::ExecutorLimits;

    async fn set(tools: Vec<Tool>) -> Result<ToolSet, ToolSetError> {
        let executor = Executor::new(Handle::current(), ExecutorLimits::default());
        let client = HttpClient::new(Vec::new(), None).await.expect("a client");
        ToolSet::new(&executor, &client, ToolSetSettings::default(), tools, Vec::new())
    }

    fn tool(name: &str, parameters: Value) -> Tool {
        Tool::new(ToolDeclaration { name: name.into(), description: "Does it.".into(), parameters })
    }

    #[tokio::test]
    async fn a_tool_of_no_use_is_named_with_what_is_wrong() {
        let good = || tool("check_stock", Value::Null);
        let at = |url: &str| Some(Webhook::new(url.parse().expect("a URL")));
        let nameless = Tool {
            declaration: ToolDeclaration { description: " ".into(), ..good().declaration },
            ..good()
        };
        for (tools, name, why) in [
            (vec![good(), good()], "check_stock", "another tool"),
            (vec![tool("1st", Value::Null)], "1st", "begins with a letter"),
            (vec![tool(&"x".repeat(65), Value::Null)], &"x".repeat(65), "at most 64"),
            (vec![tool("a b", Value::Null)], "a b", "letters, digits"),
            (vec![nameless], "check_stock", "description"),
            (
                vec![tool("x", json!({ "type": "string" }))],
                "x",
                "parameters: the schema: it must be",
            ),
            (
                vec![Tool { result_schema: Some(json!({ "type": "thing" })), ..good() }],
                "check_stock",
                "result_schema: the schema at /type",
            ),
            (
                vec![Tool { webhook: at("http://crm.example.com/"), ..good() }],
                "check_stock",
                "without TLS",
            ),
            (
                vec![Tool { webhook: at("https://10.0.0.1/"), ..good() }],
                "check_stock",
                "no public address",
            ),
        ] {
            let error = set(tools).await.expect_err(why);
            assert_eq!(error.tool, name);
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[tokio::test]
    async fn what_is_declared_has_no_marks_and_what_is_marked_is_redacted() {
        let schema = json!({ "type": "object", "properties": { "pin": { "type": "string", "x-redact": true } } });
        let set = set(vec![
            Tool { redacted: vec!["a/b".into()], ..tool("pay", schema) },
            Tool {
                redacted: vec!["date_of_birth".into()],
                ..Tool::standard("check_policy_status").expect("standard")
            },
        ]);
        let offer = set.await.expect("good tools").offer();
        let tools: Vec<_> = offer.tools().collect();
        assert_eq!(
            tools[0].declaration.parameters,
            json!({ "type": "object", "properties": { "pin": { "type": "string" } } })
        );
        assert_eq!(*tools[0].redacted, ["/a~1b".to_owned(), "/pin".to_owned()]);
        assert_eq!(*tools[1].redacted, ["/date_of_birth".to_owned()]);
        assert_eq!(*tools[1].declaration, standard_tool("check_policy_status").expect("standard"));
    }
}
