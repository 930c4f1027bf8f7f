//! Carries out what a model decides: webhooks, MCP servers, arguments, answers.
//!
//! A configuration compiles each agent's tools into a [`ToolSet`]. A call takes an [`Offer`] of it, tells its model what
//! is in there, and has a [`CallRunner`] carry out what the model decides; the runner's work is done on the runtime of
//! the daemon's one [`Executor`]. Deadlines, order and words for the caller in time are the call machine's: here is
//! what is sent, what an answer means, and what became of it.

mod address;
mod answer;
mod arguments;
mod cut;
mod dates;
mod exchange;
mod executor;
mod http;
mod mcp;
mod metrics;
mod offer;
mod phone;
mod request;
mod runner;
mod schema;
mod set;
mod standard;
mod trial;
mod webhook;

pub use address::{AddressError, AddressRule};
pub use answer::{AnswerBody, MAX_ANSWER, read_answer, trouble};
pub use arguments::InvalidArguments;
pub use cut::{MAX_DATA, cut as cut_for_model};
pub use executor::{Executor, ExecutorLimits};
pub use http::{HttpClient, HttpClientError, is_refused};
pub use mcp::{McpAway, McpServer, McpSettings, McpTool, McpTransport};
pub use metrics::{ToolMetric, ToolMetrics};
pub use offer::{Offer, OfferedTool};
pub use phone::e164;
pub use request::CallFacts;
pub use runner::{CallRunner, Invocation};
pub use schema::{ArgumentSchema, MAX_DEPTH, MAX_SCHEMA, ResultSchema, SchemaError, check_schema};
pub use set::{Tool, ToolFault, ToolSet, ToolSetError, ToolSetSettings};
pub use trial::{NoSuchTool, Trial, TrialRequest, TrialResponse};
pub use webhook::{BodyFormat, Method, Webhook, WebhookError};
