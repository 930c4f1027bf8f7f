//! A receiver, an executor, and one call that uses tools.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_call::{CallId, Party, ToolDeclaration, ToolOutcome, ToolReport};
use tandem_sim::receiver::{LoggedRequest, ReceiverProcess};
use tandem_tools::{
    CallFacts, CallRunner, Executor, ExecutorLimits, HttpClient, Invocation, Tool, ToolSet,
    ToolSetSettings, Webhook,
};
use tokio::{runtime::Handle, sync::oneshot, task::spawn_blocking};

/// Longer than anything takes that does not hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) receiver: ReceiverProcess,
    pub(crate) executor: Executor,
    pub(crate) client: HttpClient,
    scheme: &'static str,
}

impl World {
    /// HTTP/1.1 without TLS.
    pub(crate) async fn plain() -> Self {
        Self::new(&[], ExecutorLimits::default()).await
    }

    /// HTTP/2 with TLS, whose first connections are dropped.
    pub(crate) async fn tls(drop_first: u32) -> Self {
        let mut world = Self::new(
            &[
                "--tls",
                &testdata("localhost.pem").to_string_lossy(),
                &testdata("localhost.key").to_string_lossy(),
                "--drop-first",
                &drop_first.to_string(),
            ],
            ExecutorLimits::default(),
        )
        .await;
        world.scheme = "https";
        world
    }

    pub(crate) async fn new(flags: &[&str], limits: ExecutorLimits) -> Self {
        let mut command = Command::new(receiver_program());
        command.args(flags);
        let receiver = spawn_blocking(move || ReceiverProcess::spawn(command));
        let receiver = receiver.await.expect("no panic").expect("a receiver");
        let executor = Executor::new(Handle::current(), limits);
        Self { receiver, executor, client: local_client().await, scheme: "http" }
    }

    pub(crate) fn webhook(&self, path: &str) -> Webhook {
        let url = format!("{}://{}{path}", self.scheme, self.receiver.address);
        Webhook::new(url.parse().expect("a URL"))
    }

    pub(crate) fn set(&self, settings: ToolSetSettings, tools: Vec<Tool>) -> ToolSet {
        ToolSet::new(&self.executor, &self.client, settings, tools, Vec::new()).expect("good tools")
    }

    /// A call of an agent whose tool `ask` does what its argument `receiver` says.
    pub(crate) fn call(&self, settings: ToolSetSettings) -> Call {
        let tool = Tool { webhook: Some(self.webhook("/as-asked")), ..open_tool("ask") };
        Call::new(&self.set(settings, vec![tool]))
    }

    /// Requests that came, as soon as there are `count` of them.
    pub(crate) async fn requests(&self, count: usize) -> Vec<LoggedRequest> {
        let until = Instant::now() + PATIENCE;
        loop {
            let requests = self.receiver.requests();
            if requests.len() >= count {
                return requests;
            }
            assert!(Instant::now() < until, "only {} of {count} requests", requests.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until the metrics say `line`.
    pub(crate) async fn measured(&self, line: &str) {
        let until = Instant::now() + PATIENCE;
        while !self.executor.metrics().render().lines().any(|measured| measured == line) {
            assert!(Instant::now() < until, "{line}\n{}", self.executor.metrics().render());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// One call and the tools of its agent.
pub(crate) struct Call {
    pub(crate) runner: CallRunner,
    next: u32,
}

/// What an invocation reports, some time.
pub(crate) type Reported = oneshot::Receiver<ToolReport>;

impl Call {
    pub(crate) fn new(set: &ToolSet) -> Self {
        Self { runner: set.offer().begin(facts()), next: 1 }
    }

    /// Has `tool` carried out, with `timeout` from now.
    pub(crate) fn start(&mut self, tool: &str, arguments: Value, timeout: Duration) -> Reported {
        self.start_raw(tool, Ok(arguments), timeout)
    }

    pub(crate) fn start_raw(
        &mut self,
        tool: &str,
        arguments: Result<Value, String>,
        timeout: Duration,
    ) -> Reported {
        let (sender, reported) = oneshot::channel();
        let deadline = Instant::now() + timeout;
        let invocation = Invocation { number: self.next, name: tool.into(), arguments, deadline };
        self.next += 1;
        self.runner.start(invocation, |report| drop(sender.send(report)));
        reported
    }

    /// Has the tool `ask` do what `path` says.
    pub(crate) fn ask(&mut self, path: &str, timeout: Duration) -> Reported {
        self.start("ask", json!({ "receiver": path }), timeout)
    }
}

/// The report of `reported`; the test fails when there is none.
pub(crate) async fn report(reported: Reported) -> ToolReport {
    tokio::time::timeout(PATIENCE, reported).await.expect("in time").expect("a report")
}

/// Nothing is ever reported.
pub(crate) async fn nothing(reported: Reported) {
    let ended = tokio::time::timeout(PATIENCE, reported).await.expect("in time");
    assert!(ended.is_err(), "{ended:?}");
}

pub(crate) fn result(report: &ToolReport) -> &Value {
    let ToolOutcome::Answered(result) = &report.outcome else { panic!("{report:?}") };
    result
}

/// A tool that takes any arguments and that nobody receives.
pub(crate) fn open_tool(name: &str) -> Tool {
    Tool::new(ToolDeclaration {
        name: name.into(),
        description: "Asks.".into(),
        parameters: json!({ "type": "object" }),
    })
}

pub(crate) fn facts() -> CallFacts {
    CallFacts {
        call_id: CallId::new(0x0192_3456_789A, 7),
        agent_id: "reception".into(),
        language: "en".into(),
        from: Party { number: Some("+13051234567".into()), name: None },
        to: Party { number: Some("+17865550000".into()), name: None },
        variables: BTreeMap::from([("tenant".into(), "acme".into())]),
    }
}

/// A client that reaches this machine and trusts its receiver.
pub(crate) async fn local_client() -> HttpClient {
    let loopback =
        vec!["127.0.0.0/8".parse().expect("a network"), "::1/128".parse().expect("a network")];
    HttpClient::new(loopback, Some(&testdata("ca.pem"))).await.expect("a client")
}

fn testdata(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tandem-net/testdata").join(file)
}

/// `examples/webhook-receiver`, which is built with the tests, beside them.
fn receiver_program() -> PathBuf {
    let test = std::env::current_exe().expect("a test is a program");
    let profile = test.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let program = profile.join("examples/webhook-receiver");
    assert!(program.exists(), "{} is built by `cargo test` without --test", program.display());
    program
}
