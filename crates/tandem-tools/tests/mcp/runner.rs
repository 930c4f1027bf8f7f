//! Tools of servers as a call has them: offered beside the agent's own, run by its runner.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tandem_call::{CallId, Party, ToolReport, Verdict};
use tandem_tools::{
    CallFacts, CallRunner, Executor, ExecutorLimits, Invocation, McpServer, Tool, ToolSet,
    ToolSetSettings,
};
use tokio::{runtime::Handle, sync::mpsc};

use crate::{
    answer,
    peers::{Journal, PATIENCE, Peer, child, http, names, ready, until},
};

/// A call that has the tools of `servers` beside `own`.
struct Call {
    runner: CallRunner,
    names: Vec<String>,
    reports: mpsc::UnboundedReceiver<(u32, ToolReport)>,
    sender: mpsc::UnboundedSender<(u32, ToolReport)>,
}

impl Call {
    async fn begin(own: Vec<Tool>, servers: Vec<McpServer>) -> Self {
        let executor = Executor::new(Handle::current(), ExecutorLimits::default());
        let settings = ToolSetSettings::default();
        let set = ToolSet::new(&executor, &http().await, settings, own, servers)
            .expect("tools that can be called");
        let offer = set.offer();
        let names = offer.tools().map(|tool| tool.declaration.name.clone()).collect();
        let runner = offer.begin(CallFacts {
            call_id: CallId::new(0, 7),
            agent_id: "desk".to_owned(),
            language: "en".to_owned(),
            from: Party::default(),
            to: Party::default(),
            variables: BTreeMap::new(),
        });
        let (sender, reports) = mpsc::unbounded_channel();
        Self { runner, names, reports, sender }
    }

    fn start(&mut self, number: u32, name: &str, arguments: Value, time: Duration) {
        let invocation = Invocation {
            number,
            name: name.to_owned(),
            arguments: Ok(arguments),
            deadline: Instant::now() + time,
        };
        let sender = self.sender.clone();
        self.runner.start(invocation, move |report| {
            sender.send((number, report)).ok();
        });
    }

    async fn report(&mut self) -> (u32, ToolReport) {
        let report = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
        report.expect("a report in time").expect("the call holds a sender")
    }
}

#[tokio::test]
async fn tools_of_servers_stand_beside_the_agents_own() {
    for peer in Peer::sdks() {
        let journal = Journal::new();
        let server = ready(child(peer, &journal)).await;
        let own = Tool::standard("send_sms").expect("a standard tool");
        let mut call = Call::begin(vec![own], vec![server.clone(), server.clone()]).await;
        assert_eq!(call.names[0], "send_sms");
        assert_eq!(call.names[1..], names(&server), "a second one of the name is left out");

        call.start(1, "opening_hours", json!({ "day": "today" }), PATIENCE);
        let (number, report) = call.report().await;
        assert_eq!((number, report.verdict, report.attempts), (1, Verdict::Ok, 1), "{peer:?}");
        assert_eq!(answer(&report), &json!({ "result": "Open until six today." }));

        call.start(2, "opening_hours", json!({}), PATIENCE);
        let (_, report) = call.report().await;
        assert_eq!((report.verdict, report.attempts), (Verdict::InvalidArguments, 0), "{peer:?}");
    }
}

#[tokio::test]
async fn a_late_answer_is_reported_as_late_and_a_cancelled_call_never() {
    for peer in Peer::sdks() {
        let journal = Journal::new();
        let server = ready(child(peer, &journal)).await;
        let mut call = Call::begin(Vec::new(), vec![server]).await;
        call.start(1, "slow", json!({ "seconds": 600 }), PATIENCE);
        until("it has begun", || journal.count("slow begins") == 1).await;
        call.runner.cancel(1);
        until("it is cancelled", || journal.count("slow cancelled") == 1).await;

        call.start(2, "slow", json!({ "seconds": 1 }), Duration::from_millis(200));
        let (number, report) = call.report().await;
        assert_eq!((number, report.verdict), (2, Verdict::Late), "{peer:?}");
        assert_eq!(answer(&report), &json!({ "result": "done" }));
    }
}

#[tokio::test]
async fn a_call_has_four_under_way_and_all_it_asked_for_is_done_after_its_end() {
    for peer in Peer::sdks() {
        let journal = Journal::new();
        let server = ready(child(peer, &journal)).await;
        let mut call = Call::begin(Vec::new(), vec![server]).await;
        for number in 1..=6 {
            call.start(number, "slow", json!({ "seconds": 2 }), PATIENCE);
        }
        until("four have begun", || journal.count("slow begins") == 4).await;
        let Call { runner, mut reports, sender, .. } = call;
        drop((runner, sender));
        until("they are finished", || journal.count("slow ends") == 6).await;
        assert_eq!(reports.recv().await, None, "nobody is told");
        assert_eq!(journal.count("slow begins"), 6, "what waited is begun as well");
        assert_eq!(journal.count("slow cancelled"), 0);
    }
}
