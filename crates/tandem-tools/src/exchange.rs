//! One order and its answer over HTTP: attempts, the rule for a second one, reading with a bound.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use jiff::Timestamp;
use reqwest::{Response, header::HeaderMap};
use tandem_call::{ToolReport, ToolTexts, Verdict};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{
    AddressError, AnswerBody, HttpClient, MAX_ANSWER, Method, ResultSchema, Webhook, WebhookError,
    http::{in_words, is_refused},
    metrics::ToolStats,
    read_answer,
    request::{Order, Request},
    trouble,
};

/// So much must be left of an invocation's time for a second attempt (control API 11.4).
const RETRY_NEEDS: Duration = Duration::from_secs(3);

/// Between two attempts: a receiver that is being restarted listens again after a moment.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Whether a request has left: from here on it may have arrived.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(Arc<AtomicBool>);

impl Written {
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// A webhook that is ready to be called.
#[derive(Debug)]
pub(crate) struct Receiver {
    webhook: Webhook,
    fixed: HeaderMap,
    client: HttpClient,
}

/// What came of an order.
#[derive(Debug)]
pub(crate) struct Exchanged {
    pub(crate) attempts: u8,
    /// The last attempt.
    pub(crate) request: Request,
    pub(crate) answer: Result<Answer, Failure>,
}

/// An answer as far as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// None when it is over [`MAX_ANSWER`].
    pub(crate) body: Option<Vec<u8>>,
}

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The receiver's address must not be called.
    Refused(AddressError),
    /// Nothing was written: name, connection or TLS failed.
    Unreachable(String),
    /// It was written, and the answer did not come to its end.
    Broken { status: Option<u16>, why: String },
    /// Nobody listens any more.
    Silent,
}

impl Receiver {
    pub(crate) fn new(webhook: Webhook, client: &HttpClient) -> Result<Self, WebhookError> {
        webhook.check(client)?;
        let fixed = webhook.fixed_headers()?;
        Ok(Self { webhook, fixed, client: client.clone() })
    }

    pub(crate) fn webhook(&self) -> &Webhook {
        &self.webhook
    }

    /// Sends `order`, a second time when nothing was written and enough is left until `deadline`, and reads the answer.
    ///
    /// It goes on beyond the deadline until `give_up`. Before `written` is set, nothing was sent.
    pub(crate) async fn exchange(
        &self,
        order: &Order<'_>,
        (deadline, give_up): (Instant, Instant),
        written: &Written,
        stats: &ToolStats,
    ) -> Exchanged {
        let mut attempts = 1;
        loop {
            let request =
                Request::write(&self.webhook, &self.fixed, order, attempts, Timestamp::now());
            let answer = timeout_at(give_up, self.attempt(&request, written)).await;
            let answer = answer.unwrap_or(Err(Failure::Silent));
            let again = matches!(answer, Err(Failure::Unreachable(_)))
                && attempts == 1
                && Instant::now() + RETRY_NEEDS <= deadline;
            if !again {
                if let Ok(answer) = &answer {
                    stats.count_response(answer.status);
                }
                return Exchanged { attempts, request, answer };
            }
            stats.count_retry();
            attempts += 1;
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn attempt(&self, request: &Request, written: &Written) -> Result<Answer, Failure> {
        let client = self.client.for_url(&request.url).map_err(Failure::Refused)?;
        let body = NotedBody { bytes: Some(request.body.clone()), written: written.clone() };
        let method = match request.method {
            Method::Post => reqwest::Method::POST,
            Method::Get => reqwest::Method::GET,
        };
        let sent = client
            .request(method, request.url.clone())
            .headers(request.headers.clone())
            .body(reqwest::Body::wrap(body))
            .send()
            .await;
        match sent {
            Ok(response) => read(response).await,
            Err(error) => Err(if let Some(refused) = is_refused(&error) {
                Failure::Refused(refused.clone())
            } else if error.is_connect() || !written.is_set() {
                Failure::Unreachable(in_words(error))
            } else {
                Failure::Broken { status: None, why: in_words(error) }
            }),
        }
    }
}

async fn read(mut response: Response) -> Result<Answer, Failure> {
    let status = response.status().as_u16();
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_ANSWER => {
                return Ok(Answer { status, body: None });
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(Answer { status, body: Some(body) }),
            Err(error) => {
                return Err(Failure::Broken { status: Some(status), why: in_words(error) });
            }
        }
    }
}

impl Exchanged {
    /// For the model and the record (control API 11.5).
    pub(crate) fn report(
        &self,
        texts: &ToolTexts,
        result_schema: Option<&ResultSchema>,
    ) -> ToolReport {
        let words = &texts.trouble;
        let report = match &self.answer {
            Ok(Answer { status, body }) => {
                let body = body.as_deref().map_or(AnswerBody::TooLarge, AnswerBody::Whole);
                read_answer(*status, body, texts, result_schema)
            }
            Err(Failure::Refused(why)) => {
                let report = trouble("unreachable", words, Verdict::Rejected, why.to_string());
                return ToolReport { attempts: 0, ..report };
            }
            Err(Failure::Unreachable(why)) => {
                trouble("unreachable", words, Verdict::FallbackTrouble, why)
            }
            Err(Failure::Silent) => {
                trouble("timeout", words, Verdict::FallbackTrouble, "no answer in time")
            }
            Err(Failure::Broken { status, why }) => ToolReport {
                http_status: *status,
                ..trouble("error", words, Verdict::FallbackTrouble, why)
            },
        };
        ToolReport { attempts: self.attempts, ..report }
    }
}

/// A body that notes when the connection takes it.
struct NotedBody {
    bytes: Option<Bytes>,
    written: Written,
}

impl Body for NotedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.written.0.store(true, Relaxed);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    /// Of a request without a body this is all that the connection asks.
    fn is_end_stream(&self) -> bool {
        match &self.bytes {
            None => true,
            Some(bytes) if bytes.is_empty() => {
                self.written.0.store(true, Relaxed);
                true
            }
            Some(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}
