//! The servers that the tests start.

use std::{
    collections::BTreeMap,
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use secrecy::SecretString;
use tandem_tools::{HttpClient, McpServer, McpSettings, McpTool, McpTransport};
use tempfile::TempDir;

/// How long anything outside may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Who runs a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Ours, that misbehaves as told, run by Debian's Python.
    Odd(&'static str),
    /// Made with the official Python SDK of this generation.
    Sdk(u8),
}

impl Peer {
    /// Both generations of the official SDK, as far as `scripts/install-test-tools.sh` has installed them. A missing
    /// one is a failure where `TANDEM_PEERS=required` is set, as `make test` does.
    pub(crate) fn sdks() -> Vec<Self> {
        let required = std::env::var("TANDEM_PEERS").is_ok_and(|value| value == "required");
        let (found, missing): (Vec<_>, Vec<_>) =
            [Self::Sdk(1), Self::Sdk(2)].into_iter().partition(|peer| peer.python().exists());
        assert!(
            missing.is_empty() || !required,
            "{missing:?} not installed; scripts/install-test-tools.sh installs them"
        );
        if !missing.is_empty() {
            eprintln!(
                "{missing:?} skipped: not installed. Run `make test` to have them installed."
            );
        }
        found
    }

    fn python(self) -> PathBuf {
        match self {
            Self::Odd(_) => PathBuf::from("python3"),
            Self::Sdk(generation) => {
                let installed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/mcp-peers");
                PathBuf::from(format!("{installed}/{generation}/bin/python"))
            }
        }
    }

    fn arguments(self, port: Option<u16>) -> Vec<String> {
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp");
        let mut arguments = match self {
            Self::Odd(mode) => vec![format!("{scripts}/odd_server.py"), mode.to_owned()],
            Self::Sdk(_) => vec![format!("{scripts}/sdk_server.py")],
        };
        arguments.extend(port.map(|port| port.to_string()));
        arguments
    }
}

/// What a server wrote about what it did.
pub(crate) struct Journal {
    folder: TempDir,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder can be made") }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines().iter().filter(|one| *one == line).count()
    }

    /// The process id that a line `word` names, the last one of several.
    pub(crate) fn process(&self, word: &str) -> u32 {
        let lines = self.lines();
        let found =
            lines.iter().rev().find_map(|line| line.strip_prefix(word)?.trim().parse().ok());
        found.unwrap_or_else(|| panic!("no process {word:?} in {lines:?}"))
    }
}

/// Settings of `peer` as our child, which writes to `journal`.
pub(crate) fn child(peer: Peer, journal: &Journal) -> McpSettings {
    let mut settings = unwatched(peer);
    if let McpTransport::Command { environment, .. } = &mut settings.transport {
        let file = journal.file().to_string_lossy().into_owned();
        environment.insert("JOURNAL".to_owned(), SecretString::from(file));
    }
    settings
}

/// Settings of `peer` as our child, without a journal.
pub(crate) fn unwatched(peer: Peer) -> McpSettings {
    settings(McpTransport::Command {
        program: peer.python().to_string_lossy().into_owned(),
        arguments: peer.arguments(None),
        environment: BTreeMap::new(),
    })
}

/// Settings of what listens at `port`.
pub(crate) fn at(port: u16) -> McpSettings {
    settings(McpTransport::Http {
        url: format!("http://127.0.0.1:{port}/mcp").parse().expect("a URL"),
        headers: Default::default(),
        bearer: None,
    })
}

fn settings(transport: McpTransport) -> McpSettings {
    McpSettings { name: "peer".to_owned(), transport, only: None, prefix: String::new() }
}

pub(crate) fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}

/// A client that may go to loopback.
pub(crate) async fn http() -> HttpClient {
    let loopback = "127.0.0.0/8".parse().expect("a network");
    HttpClient::new(vec![loopback], None).await.expect("a client")
}

pub(crate) async fn start(settings: McpSettings) -> McpServer {
    McpServer::start(settings, &http().await).expect("an address that may be used")
}

/// Starts it and waits for its tools.
pub(crate) async fn ready(settings: McpSettings) -> McpServer {
    let server = start(settings).await;
    server.ready(PATIENCE).await.expect("a session");
    server
}

pub(crate) fn tool(server: &McpServer, name: &str) -> McpTool {
    let tools = server.tools();
    let found = tools.iter().find(|tool| tool.declaration().name == name);
    found.unwrap_or_else(|| panic!("no {name:?} in {tools:?}")).clone()
}

pub(crate) fn names(server: &McpServer) -> Vec<String> {
    server.tools().iter().map(|tool| tool.declaration().name.clone()).collect()
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// Whether a process still runs: one that has ended but was not waited for does not.
pub(crate) fn runs(process: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { return false };
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    !matches!(state, Some('Z' | 'X') | None)
}

/// A port that nobody listened at a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port can be had");
    listener.local_addr().expect("it is bound").port()
}

/// A server of HTTP as a process of its own, until it is dropped.
pub(crate) struct HttpPeer {
    process: Child,
}

impl HttpPeer {
    /// Starts `peer` at `port` and waits until it listens.
    pub(crate) async fn start(peer: Peer, port: u16, journal: &Journal) -> Self {
        let process = Command::new(peer.python())
            .args(peer.arguments(Some(port)))
            .env("JOURNAL", journal.file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("Python can be started");
        let peer = Self { process };
        until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        peer
    }
}

impl Drop for HttpPeer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
