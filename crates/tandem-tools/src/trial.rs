//! One real request from the command line: what was sent, what came back, and what it means.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use reqwest::header::HeaderMap;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tandem_call::{ToolOutcome, Verdict};
use url::Url;

use crate::{
    CallFacts, Method, ToolSet,
    exchange::{Answer, Exchanged, Written},
    offer::{Done, Errand},
};

/// The longest body of an answer that is shown, in characters.
const MAX_SHOWN: usize = 4_096;

/// There is no tool of that name in the set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no tool {0:?}")]
pub struct NoSuchTool(pub String);

/// What came of trying a tool out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trial {
    /// What was sent; none when nothing was, or it went to an MCP server.
    pub request: Option<TrialRequest>,
    /// What came back.
    pub response: Option<TrialResponse>,
    /// The `status` that the model is given.
    pub status: Option<String>,
    /// What the caller is to be told.
    pub message: Option<String>,
    /// All that the model is given.
    pub result: Value,
    /// From the call to the result.
    pub duration_ms: u64,
    /// In one word.
    pub outcome: Verdict,
    /// How often it was tried.
    pub attempts: u8,
    /// What went wrong.
    pub error: Option<String>,
}

/// A request as it was sent, secrets masked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialRequest {
    /// `POST` or `GET`.
    pub method: &'static str,
    /// With the arguments of a GET.
    pub url: String,
    /// By their names in small letters; secret values are `***`.
    pub headers: BTreeMap<String, String>,
    /// JSON as it is, nothing for a GET.
    pub body: Option<Value>,
}

/// An answer as far as it was read.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrialResponse {
    /// Of HTTP.
    pub http_status: u16,
    /// JSON as it is, else the text; none when it was too large to be read.
    pub body: Option<Value>,
}

impl ToolSet {
    /// Carries out the tool `name` once, marked as a test, and waits for the result up to `timeout`. Runs inside a tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// When there is no such tool. Everything else that may go wrong is a result.
    pub async fn try_out(
        &self,
        facts: &CallFacts,
        name: &str,
        arguments: Value,
        timeout: Duration,
    ) -> Result<Trial, NoSuchTool> {
        let offer = self.offer();
        let carrier = offer.carrier(name).ok_or_else(|| NoSuchTool(name.to_owned()))?;
        let begun = Instant::now();
        let deadline = tokio::time::Instant::from_std(begun + timeout);
        let done = match carrier.prepare(&self.shared, arguments) {
            Err(report) => Done::from(*report),
            Ok(arguments) => {
                let errand = Errand {
                    arguments,
                    facts,
                    invocation: &facts.call_id.invocation(1),
                    deadline,
                    give_up: deadline,
                    written: &Written::default(),
                    test: true,
                };
                carrier.carry(&self.shared, errand).await
            }
        };
        Ok(Trial::new(done, begun.elapsed()))
    }
}

impl Trial {
    fn new(done: Done, took: Duration) -> Self {
        let Done { report, exchanged } = done;
        let result = match report.outcome {
            ToolOutcome::Answered(result) => result,
            ToolOutcome::Failed(why) => json!({ "status": "error", "message": why }),
            ToolOutcome::TimedOut => json!({ "status": "timeout" }),
            ToolOutcome::Cancelled => Value::Null,
        };
        let text = |member: &str| result.get(member).and_then(Value::as_str).map(str::to_owned);
        Self {
            request: exchanged.as_ref().map(shown_request),
            response: exchanged
                .and_then(|exchanged| exchanged.answer.ok())
                .map(|answer| shown_response(&answer)),
            status: text("status"),
            message: text("message"),
            result,
            duration_ms: took.as_millis() as u64,
            outcome: report.verdict,
            attempts: report.attempts,
            error: report.error,
        }
    }
}

fn shown_request(exchanged: &Exchanged) -> TrialRequest {
    let request = &exchanged.request;
    TrialRequest {
        method: match request.method {
            Method::Post => "POST",
            Method::Get => "GET",
        },
        url: shown_url(&request.url, request.own_pairs),
        headers: shown_headers(&request.headers),
        body: serde_json::from_slice(&request.body).ok(),
    }
}

/// Of a configured query the values may be keys.
fn shown_url(url: &Url, own_pairs: usize) -> String {
    let pairs: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    if pairs.is_empty() {
        return url.to_string();
    }
    let mut shown = url.clone();
    let mut query = shown.query_pairs_mut();
    query.clear();
    for (index, (name, value)) in pairs.iter().enumerate() {
        query.append_pair(name, if index < own_pairs { "***" } else { value });
    }
    drop(query);
    shown.to_string()
}

fn shown_headers(headers: &HeaderMap) -> BTreeMap<String, String> {
    let shown = |(name, value): (&reqwest::header::HeaderName, &reqwest::header::HeaderValue)| {
        let value = if value.is_sensitive() {
            "***".into()
        } else {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        };
        (name.to_string(), value)
    };
    headers.iter().map(shown).collect()
}

fn shown_response(answer: &Answer) -> TrialResponse {
    let body = answer.body.as_ref().map(|body| {
        let parsed: Result<Map<String, Value>, _> = serde_json::from_slice(body);
        parsed.map(Value::Object).unwrap_or_else(|_| {
            let text: String = String::from_utf8_lossy(body).chars().take(MAX_SHOWN).collect();
            Value::from(text)
        })
    });
    TrialResponse { http_status: answer.status, body }
}
