//! Servers behind streamable HTTP.

use std::time::{Duration, Instant};

use serde_json::json;
use tandem_call::{ToolOutcome, Verdict};
use tandem_tools::{HttpClient, McpServer, McpTransport};

use crate::{
    TROUBLE, answer, call,
    peers::{
        HttpPeer, Journal, PATIENCE, Peer, at, free_port, names, ready, secret, start, tool, until,
    },
};

#[tokio::test]
async fn an_sdk_server_is_listed_and_called() {
    for peer in Peer::sdks() {
        let (journal, port) = (Journal::new(), free_port());
        let _process = HttpPeer::start(peer, port, &journal).await;
        let server = ready(at(port)).await;
        assert_eq!(names(&server).len(), 7, "{peer:?}");
        let found =
            call(&tool(&server, "find_customer"), json!({ "phone": "+1305" }), PATIENCE).await;
        assert_eq!(answer(&found)["name"], "Juana García", "{peer:?}");
        assert_eq!((found.verdict, found.attempts), (Verdict::Ok, 1));
        let failed = call(&tool(&server, "fail"), json!({}), PATIENCE).await;
        assert_eq!(answer(&failed)["status"], "error", "{peer:?}");
    }
}

#[tokio::test]
async fn a_changed_list_is_read_again() {
    for peer in Peer::sdks() {
        let (journal, port) = (Journal::new(), free_port());
        let _process = HttpPeer::start(peer, port, &journal).await;
        let server = ready(at(port)).await;
        call(&tool(&server, "learn"), json!({}), PATIENCE).await;
        until("the new tool is there", || names(&server).contains(&"learned".to_owned())).await;
    }
}

#[tokio::test]
async fn many_calls_at_once_share_the_session_and_a_cancelled_one_harms_no_other() {
    for peer in Peer::sdks() {
        let (journal, port) = (Journal::new(), free_port());
        let _process = HttpPeer::start(peer, port, &journal).await;
        let server = ready(at(port)).await;
        let slow = tool(&server, "slow");
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let slow = slow.clone();
                tokio::spawn(async move { call(&slow, json!({ "seconds": 1 }), PATIENCE).await })
            })
            .collect();
        let taken_back = tokio::spawn({
            let slow = slow.clone();
            async move { call(&slow, json!({ "seconds": 600 }), PATIENCE).await }
        });
        until("all have begun", || journal.count("slow begins") == 21).await;
        taken_back.abort();
        for one in calls {
            assert_eq!(one.await.expect("it ends").verdict, Verdict::Ok, "{peer:?}");
        }
        until("it is cancelled", || journal.count("slow cancelled") == 1).await;
        assert_eq!(journal.count("slow ends"), 20);
    }
}

#[tokio::test]
async fn a_server_that_restarts_is_found_again() {
    for peer in Peer::sdks() {
        let (journal, port) = (Journal::new(), free_port());
        let process = HttpPeer::start(peer, port, &journal).await;
        let server = ready(at(port)).await;
        let hours = tool(&server, "opening_hours");

        // Restarted between two calls: the caller notices nothing.
        drop(process);
        let process = HttpPeer::start(peer, port, &journal).await;
        let after = call(&hours, json!({ "day": "today" }), PATIENCE).await;
        assert_eq!(after.verdict, Verdict::Ok, "{peer:?} {after:?}");

        // Gone: trouble, soon.
        drop(process);
        let began = Instant::now();
        let gone = call(&hours, json!({ "day": "today" }), Duration::from_secs(9)).await;
        assert_eq!(
            answer(&gone),
            &json!({ "status": "unreachable", "message": TROUBLE }),
            "{peer:?} {gone:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
        assert_eq!(names(&server).len(), 7, "what it offered last is still known");

        // Back.
        let _process = HttpPeer::start(peer, port, &journal).await;
        let back = call(&hours, json!({ "day": "tomorrow" }), PATIENCE).await;
        assert_eq!(back.verdict, Verdict::Ok, "{peer:?} {back:?}");
        assert_eq!(journal.count("opening_hours tomorrow"), 1);
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_at_first_is_found() {
    let (journal, port) = (Journal::new(), free_port());
    let server = start(at(port)).await;
    let away = server.ready(PATIENCE).await.expect_err("nobody listens");
    assert!(away.why.starts_with("no connection: "), "{away}");
    assert!(!away.why.contains("/mcp"), "{away}");
    let _process = HttpPeer::start(Peer::Odd("fine"), port, &journal).await;
    until("its tools are known", || names(&server) == ["do"]).await;
}

#[tokio::test]
async fn headers_and_key_are_sent_and_never_shown() {
    let (journal, port) = (Journal::new(), free_port());
    let _process = HttpPeer::start(Peer::Odd("fine"), port, &journal).await;
    let mut settings = at(port);
    let McpTransport::Http { headers, bearer, .. } = &mut settings.transport else { panic!() };
    headers.insert("x-tenant", "seven".parse().expect("a value"));
    *bearer = Some(secret("hush"));
    let shown = format!("{settings:?}");
    assert!(!shown.contains("hush") && !shown.contains("seven"), "{shown}");
    let server = ready(settings).await;
    let report = call(&tool(&server, "do"), json!({}), PATIENCE).await;
    assert_eq!(answer(&report), &json!({ "result": "done" }));
    let posts = journal.lines().into_iter().filter(|line| line.starts_with("POST"));
    assert!(posts.into_iter().all(|line| line == "POST /mcp Bearer hush seven"));
}

#[tokio::test]
async fn what_is_no_mcp_server_is_told_so() {
    for (mode, why) in [
        ("unauthorized", "HTTP status 401"),
        ("redirect", "HTTP status 307"),
        ("page", "Unexpected content type"),
    ] {
        let (journal, port) = (Journal::new(), free_port());
        let _process = HttpPeer::start(Peer::Odd(mode), port, &journal).await;
        let away = start(at(port)).await.ready(PATIENCE).await.expect_err(mode);
        assert!(away.why.contains(why), "{mode}: {away}");
        assert!(!journal.lines().iter().any(|line| line.contains("elsewhere")), "{mode}");
    }
}

#[tokio::test]
async fn what_is_no_answer_is_trouble() {
    for (mode, status, http_status) in [
        ("500", "error", Some(500)),
        ("garbage", "error", None),
        ("large-answer", "error", None),
        ("drop", "unreachable", None),
    ] {
        let (journal, port) = (Journal::new(), free_port());
        let _process = HttpPeer::start(Peer::Odd(mode), port, &journal).await;
        let server = ready(at(port)).await;
        let report = call(&tool(&server, "do"), json!({}), Duration::from_secs(9)).await;
        let trouble = json!({ "status": status, "message": TROUBLE });
        assert_eq!(answer(&report), &trouble, "{mode} {report:?}");
        assert_eq!(report.verdict, Verdict::FallbackTrouble, "{mode}");
        assert_eq!(report.http_status, http_status, "{mode} {report:?}");
        assert_eq!(report.attempts, 1, "{mode}");
    }
}

#[tokio::test]
async fn a_hanging_call_is_given_up_and_cancelled() {
    let (journal, port) = (Journal::new(), free_port());
    let _process = HttpPeer::start(Peer::Odd("hang"), port, &journal).await;
    let server = ready(at(port)).await;
    let report = call(&tool(&server, "do"), json!({}), Duration::from_millis(300)).await;
    assert_eq!(report.outcome, ToolOutcome::TimedOut);
    until("it is cancelled", || journal.count("notifications/cancelled") == 1).await;
}

#[tokio::test]
async fn an_address_that_webhooks_may_not_use_is_refused() {
    let strict = HttpClient::new(Vec::new(), None).await.expect("a client");
    let refused = McpServer::start(at(1), &strict).expect_err("loopback is not allowed");
    assert!(refused.to_string().contains("127.0.0.1"), "{refused}");
    // A name tells where it leads only when it is asked.
    let mut settings = at(1);
    let McpTransport::Http { url, .. } = &mut settings.transport else { panic!() };
    *url = "https://localhost:1/mcp".parse().expect("a URL");
    let server = McpServer::start(settings, &strict).expect("a name may be tried");
    let away = server.ready(PATIENCE).await.expect_err("it leads to loopback");
    assert!(away.why.contains("127.0.0.1") || away.why.contains("::1"), "{away}");
}
