//! Fake model servers on loopback.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tokio::{
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};

use crate::{
    answer::AudioBank,
    connection,
    conversation::Conversation,
    engine::Mode,
    gemini::Gemini,
    openai::OpenAi,
    record::{FakeHandle, ServerRecord},
    scenario::Scenario,
    script::Script,
    wire::{Registry, Wire},
};

/// Whose protocol a fake server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// OpenAI Realtime.
    OpenAi,
    /// Gemini Live.
    Gemini,
}

/// The text names no provider.
#[derive(Debug, thiserror::Error)]
#[error("unknown provider {0:?}: it is `openai` or `gemini`")]
pub struct UnknownProvider(String);

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(text: &str) -> Result<Self, UnknownProvider> {
        match text {
            "openai" | "openai-realtime" => Ok(Self::OpenAi),
            "gemini" | "gemini-live" => Ok(Self::Gemini),
            _ => Err(UnknownProvider(text.to_owned())),
        }
    }
}

/// What is done about a message that a real server would refuse. It is a violation in the record in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strictness {
    /// It is refused as a real server does.
    #[default]
    Strict,
    /// Nothing.
    Lenient,
}

/// Differences between servers of the same provider.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dialect {
    /// OpenAI: the event names and session fields of the beta.
    pub beta: bool,
    /// OpenAI: no `session.updated`, no usage, no answer to `conversation.item.truncate`.
    pub minimal: bool,
    /// Gemini: JSON in text frames.
    pub text_frames: bool,
}

/// What is kept of received messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// Everything.
    #[default]
    Everything,
    /// All but caller audio, which is only counted.
    AllButAudio,
    /// Nothing; messages are only counted. For many calls at once.
    Counts,
}

/// How a fake server behaves.
#[derive(Debug, Clone)]
pub struct FakeConfig {
    /// Whose protocol.
    pub provider: Provider,
    /// The key a client must present.
    pub key: String,
    /// What each connection does, in the order they are accepted; the last one is used for all further ones.
    pub scripts: Vec<Script>,
    /// Where time comes from.
    pub mode: Mode,
    /// What is done about mistakes of the client.
    pub strictness: Strictness,
    /// Differences between servers.
    pub dialect: Dialect,
    /// What is kept.
    pub keep: Keep,
    /// OpenAI: `session.expires_at` of the first connection, Unix seconds; that of each further one is an hour later.
    pub expires_at: u64,
    /// Where it listens; port 0 takes a free one.
    pub bind: SocketAddr,
}

impl FakeConfig {
    /// The key that every fake server expects unless it is changed.
    pub const KEY: &str = "test-key";

    /// A strict server on the audio clock that plays `scripts`.
    pub fn new(provider: Provider, scripts: Vec<Script>) -> Self {
        Self {
            provider,
            key: Self::KEY.to_owned(),
            scripts,
            mode: Mode::AudioClock,
            strictness: Strictness::Strict,
            dialect: Dialect::default(),
            keep: Keep::Everything,
            expires_at: 4_102_444_800, // The year 2100.
            bind: (Ipv4Addr::LOCALHOST, 0).into(),
        }
    }

    /// A strict server on the audio clock that plays `scenario`.
    pub fn for_scenario(scenario: &Scenario) -> Self {
        Self {
            dialect: scenario.dialect,
            ..Self::new(scenario.provider, scenario.connections.clone())
        }
    }

    /// A server that holds conversations in real time: see [`Conversation`].
    pub fn conversational(provider: Provider) -> Self {
        Self::conversation(provider, &Conversation::default())
    }

    /// A server that holds conversations of this kind in real time, for any number of calls.
    pub fn conversation(provider: Provider, conversation: &Conversation) -> Self {
        Self {
            mode: Mode::RealTime,
            keep: Keep::Counts,
            strictness: Strictness::Lenient,
            ..Self::new(provider, vec![conversation.script(provider)])
        }
    }

    /// The same in another mode.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn wire(&self, connection: usize) -> Box<dyn Wire> {
        match self.provider {
            Provider::OpenAi => {
                let expires_at = self.expires_at.saturating_add(connection as u64 * 3_600);
                Box::new(OpenAi::new(&self.key, self.dialect, connection, expires_at))
            }
            Provider::Gemini => Box::new(Gemini::new(&self.key, self.dialect.text_frames)),
        }
    }
}

/// What the connections of one server share.
pub(crate) struct Shared {
    pub(crate) config: FakeConfig,
    scripts: Vec<Arc<Script>>,
    pub(crate) record: Arc<ServerRecord>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) bank: Arc<AudioBank>,
}

impl Shared {
    /// What connection `index` does.
    pub(crate) fn script(&self, index: usize) -> Arc<Script> {
        self.scripts.get(index).or(self.scripts.last()).map(Arc::clone).unwrap_or_default()
    }
}

/// A running fake server. Dropping it ends its tasks and connections.
#[derive(Debug)]
pub struct FakeServer {
    /// Where it listens.
    pub addr: SocketAddr,
    provider: Provider,
    handle: FakeHandle,
    accepting: JoinHandle<()>,
}

impl FakeServer {
    /// Binds and starts on the current tokio runtime.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn start(config: FakeConfig) -> io::Result<Self> {
        let listener = TcpListener::bind(config.bind).await?;
        let addr = listener.local_addr()?;
        let provider = config.provider;
        let record = Arc::new(ServerRecord::new());
        let handle = FakeHandle { record: Arc::clone(&record) };
        let shared = Arc::new(Shared {
            scripts: config.scripts.iter().cloned().map(Arc::new).collect(),
            config,
            record,
            registry: Arc::default(),
            bank: Arc::default(),
        });
        let accepting = tokio::spawn(accept(listener, shared));
        Ok(Self { addr, provider, handle, accepting })
    }

    /// Where a client finds it, without a path: `ws://127.0.0.1:…`.
    pub fn base_url(&self) -> String {
        format!("ws://{}", self.addr)
    }

    /// The whole URL a client dials, without the key.
    pub fn url(&self) -> String {
        let base = self.base_url();
        match self.provider {
            Provider::OpenAi => format!("{base}/v1/realtime?model=gpt-realtime-2.1"),
            Provider::Gemini => format!(
                "{base}/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
            ),
        }
    }

    /// A view of what it has seen.
    pub fn handle(&self) -> FakeHandle {
        self.handle.clone()
    }

    /// Serves until it is cancelled; for a process that is nothing but a fake model.
    pub async fn run(mut self) {
        // The task ends only with its listener, which nothing closes.
        let _ = (&mut self.accepting).await;
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A URL on loopback where nothing listens: dialling it is refused.
///
/// # Errors
/// When no port can be found.
pub async fn refused_url() -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    Ok(format!("ws://{}", listener.local_addr()?))
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    const MOST: usize = 10_000;
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _)) if connections.len() < MOST => {
                let (index, record) = shared.record.add();
                connections.spawn(connection::serve(index, stream, record, Arc::clone(&shared)));
            }
            Ok(_) => tracing::warn!("fake model: too many connections"),
            Err(error) => {
                tracing::warn!(%error, "fake model: accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
    }
}
