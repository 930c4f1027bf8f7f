//! MCP servers as processes of their own: made with the official Python SDK, and misbehaving ones.

mod http;
mod peers;
mod runner;
mod stdio;

use std::time::{Duration, Instant};

use serde_json::Value;
use tandem_call::{ToolOutcome, ToolReport};
use tandem_tools::McpTool;

/// What the model gets to say when it is not known to have been done.
const TROUBLE: &str = "That can't be done just now.";

/// A call with `time` until its deadline, which is also when it is given up.
async fn call(tool: &McpTool, arguments: Value, time: Duration) -> ToolReport {
    let deadline = Instant::now() + time;
    tool.call(arguments, deadline, deadline, TROUBLE).await
}

/// What the model got.
fn answer(report: &ToolReport) -> &Value {
    match &report.outcome {
        ToolOutcome::Answered(answer) => answer,
        other => panic!("{other:?} in {report:?}"),
    }
}
