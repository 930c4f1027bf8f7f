//! One session with a server: its handshake, its list of tools, its calls, its end.

use std::{borrow::Cow, collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use rmcp::{
    ClientHandler, Peer, RoleClient, ServiceError,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, ClientConfig,
        Implementation, JsonObject, PaginatedRequestParams, ProtocolVersion, SubscriptionFilter,
        Tool,
    },
    service::{
        ClientCacheConfig, ClientInitializeError, ClientLifecycleMode, ClientServiceExt,
        NotificationContext, RunningService, RunningServiceCancellationToken,
    },
    transport::{
        StreamableHttpClientTransport, async_rw::AsyncRwTransport,
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use secrecy::ExposeSecret;
use tokio::{sync::Notify, task::JoinHandle, time::timeout};

use super::{
    McpTransport,
    child::Child,
    fault::{Fault, short},
};

/// For the whole list of tools.
const LIST_TIME: Duration = Duration::from_secs(10);
/// For a polite end of a session.
const END_TIME: Duration = Duration::from_secs(3);
/// For what a child has to say about its end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Pages of the list that are read.
const PAGES: usize = 64;
/// Tools that are read, offered or not.
const MOST_READ: usize = 1024;
/// Bytes of one message of a server: a full list of tools with their schemas has room in it.
const LARGEST_MESSAGE: usize = 6 << 20;
/// Requests under way on one HTTP session: as many as a daemon has tool calls in flight.
const MOST_REQUESTS: usize = 256;

/// Which handshake is tried first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Handshake {
    /// `server/discover` of MCP 2026-07-28, and `initialize` with those that do not know it.
    Newest,
    /// `initialize` of MCP 2025-11-25 and before, for servers that are upset by the other.
    Initialize,
}

/// A session that is up.
pub(super) struct Session {
    line: Line,
    changed: Arc<Notify>,
    running: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    stop: Option<RunningServiceCancellationToken>,
    subscription: Option<JoinHandle<()>>,
    child: Option<Child>,
}

/// The way to the server while a session lasts.
#[derive(Clone)]
pub(super) struct Line {
    /// Sessions are numbered, so that a fault is not blamed on the next one.
    pub(super) number: u64,
    peer: Peer<RoleClient>,
}

impl Line {
    /// Has the server carry out its tool `name`. Dropped before it is done, the server is told so.
    pub(super) async fn call(
        &self,
        name: String,
        arguments: JsonObject,
    ) -> Result<CallToolResult, Fault> {
        let call = CallToolRequestParams::new(Cow::Owned(name)).with_arguments(arguments);
        match self.peer.call_tool_once(call).await? {
            CallToolResponse::Complete(result) => Ok(result),
            _ => Err(Fault::Refused("it wants more input than a call can give".to_owned())),
        }
    }
}

impl Session {
    /// Opens session `number` with the server called `name`. `http` makes its requests where it is one of HTTP.
    pub(super) async fn open(
        name: &str,
        transport: &McpTransport,
        http: Option<&reqwest::Client>,
        number: u64,
        handshake: Handshake,
    ) -> Result<Self, Fault> {
        let changed = Arc::new(Notify::new());
        let client = Client { changed: changed.clone() };
        match transport {
            McpTransport::Http { url, headers, bearer } => {
                let mut config = StreamableHttpClientTransportConfig::with_uri(url.as_str())
                    .custom_headers(header_map(headers))
                    .max_concurrent_requests(MOST_REQUESTS)
                    .max_sse_event_size(LARGEST_MESSAGE)
                    // A new session has another list of tools: whoever keeps the session opens it.
                    .reinit_on_expired_session(false);
                if let Some(bearer) = bearer {
                    config = config.auth_header(bearer.expose_secret());
                }
                let http = http.expect("a server of HTTP comes with a client for it").clone();
                let transport = StreamableHttpClientTransport::with_client(http, config);
                let running = client.serve_with_lifecycle(transport, handshake.mode()).await?;
                Ok(Self::started(running, changed, number, None).await)
            }
            McpTransport::Command { program, arguments, environment } => {
                let (mut child, output, input) =
                    Child::spawn(name, program, arguments, environment).map_err(|error| {
                        Fault::NotConnected(short(&format!("{program} can't be started: {error}")))
                    })?;
                let transport = AsyncRwTransport::new_client(output, input)
                    .with_max_line_length(LARGEST_MESSAGE);
                match client.serve_with_lifecycle(transport, handshake.mode()).await {
                    Ok(running) => Ok(Self::started(running, changed, number, Some(child)).await),
                    Err(error) => {
                        let fault = child_fault(error, &mut child).await;
                        child.stop().await;
                        Err(fault)
                    }
                }
            }
        }
    }

    async fn started(
        running: RunningService<RoleClient, Client>,
        changed: Arc<Notify>,
        number: u64,
        child: Option<Child>,
    ) -> Self {
        let peer = running.peer().clone();
        // What it offers is kept by us, and asked for in order to see whether it still answers.
        peer.set_response_cache_config(ClientCacheConfig::disabled()).await;
        let stop = running.cancellation_token();
        let subscription = peer
            .peer_info()
            .is_some_and(|info| !info.protocol_version.has_initialize())
            .then(|| tokio::spawn(subscribe(peer.clone(), changed.clone())));
        let running = Box::pin(async move {
            let _ = running.waiting().await;
        });
        Self {
            line: Line { number, peer },
            changed,
            running: Some(running),
            stop: Some(stop),
            subscription,
            child,
        }
    }

    /// For calls.
    pub(super) fn line(&self) -> &Line {
        &self.line
    }

    /// Notified when the server says that its tools changed. Many such words at once count as one.
    pub(super) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// All tools that the server offers now, within 10 s. What goes beyond 1024 tools or 64 pages is not read.
    pub(super) fn list(&self) -> impl Future<Output = Result<Vec<Tool>, Fault>> + Send + use<> {
        let peer = self.line.peer.clone();
        async move {
            match timeout(LIST_TIME, list(&peer)).await {
                Ok(listed) => Ok(listed?),
                Err(_) => Err(Fault::Lost("no list of tools within 10 s".to_owned())),
            }
        }
    }

    /// Waits until the session is over, and says why.
    pub(super) async fn ended(&mut self) -> String {
        if let Some(running) = &mut self.running {
            match &mut self.child {
                None => running.await,
                Some(child) => tokio::select! {
                    () = running => {}
                    end = child.ended() => return end,
                },
            }
            self.running = None;
        }
        if let Some(child) = &mut self.child
            && let Ok(end) = timeout(LAST_WORDS, child.ended()).await
        {
            return end;
        }
        "the server closed the connection".to_owned()
    }

    /// Ends the session; a child is ended with it.
    pub(super) async fn end(mut self) {
        if let Some(stop) = self.stop.take() {
            stop.cancel();
        }
        if let Some(running) = self.running.take() {
            let _ = timeout(END_TIME, running).await;
        }
        if let Some(child) = self.child.take() {
            child.stop().await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(subscription) = &self.subscription {
            subscription.abort();
        }
    }
}

impl Handshake {
    /// What may do where this one did not.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Newest => Self::Initialize,
            Self::Initialize => Self::Newest,
        }
    }

    fn mode(self) -> ClientLifecycleMode {
        match self {
            Self::Newest => ClientLifecycleMode::Auto {
                preferred_versions: vec![ProtocolVersion::LATEST],
                legacy_version: Some(ProtocolVersion::LATEST_WITH_INITIALIZE),
            },
            Self::Initialize => ClientLifecycleMode::Initialize,
        }
    }
}

/// Our side: no roots, no sampling, nobody to ask back.
struct Client {
    changed: Arc<Notify>,
}

impl ClientHandler for Client {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.changed.notify_one();
    }

    fn get_info(&self) -> ClientConfig {
        ClientConfig::new(
            ClientCapabilities::default(),
            Implementation::new("tandem", env!("CARGO_PKG_VERSION")),
        )
        .with_protocol_version(ProtocolVersion::LATEST_WITH_INITIALIZE)
    }
}

/// Since 2026-07-28 a server tells of changes only those who asked to be told.
async fn subscribe(peer: Peer<RoleClient>, changed: Arc<Notify>) {
    let filter = SubscriptionFilter::builder().tools_list_changed().build();
    let Ok(mut subscription) = peer.listen(filter).await else { return };
    while let Ok(Some(_)) = subscription.next().await {
        changed.notify_one();
    }
}

async fn list(peer: &Peer<RoleClient>) -> Result<Vec<Tool>, ServiceError> {
    let mut tools = Vec::new();
    let mut page = None;
    for _ in 0..PAGES {
        let listed = peer.list_tools(page).await?;
        tools.extend(listed.tools);
        if tools.len() >= MOST_READ {
            tools.truncate(MOST_READ);
            break;
        }
        let Some(cursor) = listed.next_cursor else { break };
        page = Some(PaginatedRequestParams::default().with_cursor(Some(cursor)));
    }
    Ok(tools)
}

/// Why a child did not become a session: what its end says, where it ended.
async fn child_fault(error: ClientInitializeError, child: &mut Child) -> Fault {
    match Fault::from(error) {
        Fault::Lost(why) => match timeout(LAST_WORDS, child.ended()).await {
            Ok(end) => Fault::Lost(end),
            Err(_) => Fault::Lost(why),
        },
        other => other,
    }
}

fn header_map(headers: &HeaderMap) -> HashMap<HeaderName, HeaderValue> {
    headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}
