//! Servers that are our children.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::json;
use tandem_call::{FollowUp, ToolOutcome, Verdict};
use tandem_tools::{McpSettings, McpTransport};

use crate::{
    TROUBLE, answer, call,
    peers::{
        Journal, PATIENCE, Peer, child, names, ready, runs, secret, start, tool, until, unwatched,
    },
};

#[tokio::test]
async fn an_sdk_server_is_listed_and_called() {
    for peer in Peer::sdks() {
        let journal = Journal::new();
        let server = ready(child(peer, &journal)).await;
        let offered =
            ["find_customer", "opening_hours", "slow", "fail", "environment", "leave", "learn"];
        assert_eq!(names(&server), offered, "{peer:?}");

        let find = tool(&server, "find_customer");
        assert_eq!(
            find.declaration().description,
            "Finds a customer by the number they call from."
        );
        assert_eq!(find.declaration().parameters["required"], json!(["phone"]));
        let found = call(&find, json!({ "phone": "+1305" }), PATIENCE).await;
        let customer = json!({ "name": "Juana García", "phone": "+1305", "exact": "True" });
        assert_eq!(answer(&found), &customer, "{peer:?}");
        assert_eq!((found.verdict, found.attempts, found.error), (Verdict::Ok, 1, None));

        let hours =
            call(&tool(&server, "opening_hours"), json!({ "day": "today" }), PATIENCE).await;
        assert_eq!(answer(&hours), &json!({ "result": "Open until six today." }), "{peer:?}");

        let failed = call(&tool(&server, "fail"), json!({}), PATIENCE).await;
        assert_eq!(answer(&failed)["status"], "error", "{peer:?}");
        assert_eq!(answer(&failed)["message"], TROUBLE, "{peer:?}");
        assert_eq!(failed.verdict, Verdict::FallbackTrouble);
        assert_eq!(failed.follow_up, FollowUp::default());
    }
}

#[tokio::test]
async fn a_server_that_knows_only_the_newest_handshake_is_understood() {
    let journal = Journal::new();
    let server = ready(child(Peer::Odd("newest-only"), &journal)).await;
    assert_eq!(journal.count("server/discover"), 1);
    let report = call(&tool(&server, "do"), json!({}), PATIENCE).await;
    assert_eq!(answer(&report), &json!({ "result": "done" }));
}

#[tokio::test]
async fn wrong_arguments_are_told_and_never_sent() {
    for peer in Peer::sdks() {
        let journal = Journal::new();
        let server = ready(child(peer, &journal)).await;
        let missing = call(&tool(&server, "find_customer"), json!({}), PATIENCE).await;
        assert_eq!(missing.verdict, Verdict::InvalidArguments, "{peer:?}");
        assert_eq!(answer(&missing)["missing"], json!(["phone"]), "{peer:?}");
        let wrong =
            call(&tool(&server, "opening_hours"), json!({ "day": "someday" }), PATIENCE).await;
        assert_eq!(wrong.verdict, Verdict::InvalidArguments, "{peer:?}");
        assert_eq!((missing.attempts, wrong.attempts), (0, 0));
        let lines = journal.lines();
        assert!(lines.iter().all(|line| line.starts_with("started")), "{lines:?}");
    }
}

#[tokio::test]
async fn a_child_gets_no_environment_of_ours() {
    for peer in Peer::sdks() {
        let mut settings = unwatched(peer);
        let McpTransport::Command { environment, .. } = &mut settings.transport else { panic!() };
        environment.insert("CRM_KEY".to_owned(), secret("hush"));
        assert!(!format!("{settings:?}").contains("hush"));
        let server = ready(settings).await;
        let told = call(&tool(&server, "environment"), json!({}), PATIENCE).await;
        let told = answer(&told).as_object().expect("an object");
        assert_eq!(told["CRM_KEY"], "hush");
        // Python sets LC_CTYPE in its own environment.
        let expected = BTreeSet::from(["PATH", "HOME", "LANG", "CRM_KEY", "LC_CTYPE"]);
        let given: BTreeSet<_> = told.keys().map(String::as_str).collect();
        assert!(given.is_subset(&expected), "{given:?}");
    }
}

#[tokio::test]
async fn a_changed_list_is_read_again() {
    for peer in Peer::sdks() {
        let server = ready(unwatched(peer)).await;
        let before = server.tools();
        call(&tool(&server, "learn"), json!({}), PATIENCE).await;
        until("the new tool is there", || names(&server).contains(&"learned".to_owned())).await;
        let learned = call(&tool(&server, "learned"), json!({}), PATIENCE).await;
        assert_eq!(answer(&learned), &json!({ "result": "learned" }), "{peer:?}");
        assert!(before.iter().all(|tool| tool.declaration().name != "learned"));
    }
}

#[tokio::test]
async fn who_no_longer_waits_tells_the_server() {
    for peer in Peer::sdks() {
        let journal = Journal::new();
        let server = ready(child(peer, &journal)).await;
        let slow = tool(&server, "slow");
        // Taken back by the model.
        let taken_back = tokio::spawn({
            let slow = slow.clone();
            async move { call(&slow, json!({ "seconds": 600 }), PATIENCE).await }
        });
        until("it has begun", || journal.count("slow begins") == 1).await;
        taken_back.abort();
        until("it is cancelled", || journal.count("slow cancelled") == 1).await;
        // Given up.
        let late = call(&slow, json!({ "seconds": 600 }), Duration::from_millis(500)).await;
        assert_eq!(late.outcome, ToolOutcome::TimedOut, "{peer:?}");
        assert_eq!((late.verdict, late.attempts), (Verdict::FallbackTrouble, 1));
        until("it is cancelled", || journal.count("slow cancelled") == 2).await;
        // The session is as good as before.
        let hours =
            call(&tool(&server, "opening_hours"), json!({ "day": "today" }), PATIENCE).await;
        assert_eq!(hours.verdict, Verdict::Ok, "{peer:?}");
        assert_eq!(journal.lines().iter().filter(|line| line.starts_with("started")).count(), 1);
    }
}

#[tokio::test]
async fn a_server_that_ends_in_the_middle_of_a_call_is_started_again() {
    for peer in Peer::sdks() {
        let journal = Journal::new();
        let server = ready(child(peer, &journal)).await;
        let left = call(&tool(&server, "leave"), json!({}), PATIENCE).await;
        assert_eq!(answer(&left), &json!({ "status": "unreachable", "message": TROUBLE }));
        assert_eq!((left.verdict, left.attempts), (Verdict::FallbackTrouble, 1), "{peer:?}");
        assert_eq!(journal.count("leave"), 1, "what may have been done is not done again");
        until("it is started again", || {
            journal.lines().iter().filter(|line| line.starts_with("started")).count() == 2
        })
        .await;
        server.ready(PATIENCE).await.ok();
        until("it answers", || names(&server).len() == 7).await;
        let hours = loop {
            let report =
                call(&tool(&server, "opening_hours"), json!({ "day": "today" }), PATIENCE).await;
            if report.attempts > 0 {
                break report;
            }
        };
        assert_eq!(hours.verdict, Verdict::Ok, "{peer:?}");
    }
}

#[tokio::test]
async fn names_get_their_prefix_and_only_the_wanted_are_offered() {
    for peer in Peer::sdks() {
        let only = ["slow", "opening_hours", "unknown"].map(str::to_owned);
        let settings =
            McpSettings { prefix: "crm_".to_owned(), only: Some(only.into()), ..unwatched(peer) };
        let server = ready(settings).await;
        assert_eq!(names(&server), ["crm_opening_hours", "crm_slow"]);
        let hours = tool(&server, "crm_opening_hours");
        let report = call(&hours, json!({ "day": "today" }), PATIENCE).await;
        assert_eq!(report.verdict, Verdict::Ok, "{peer:?}");
    }
}

#[tokio::test]
async fn a_child_lives_as_long_as_anything_of_it_is_held() {
    for peer in Peer::sdks() {
        let journal = Journal::new();
        let server = ready(child(peer, &journal)).await;
        let process = journal.process("started");
        let held = tool(&server, "opening_hours");
        drop(server);
        let hours = call(&held, json!({ "day": "today" }), PATIENCE).await;
        assert_eq!(hours.verdict, Verdict::Ok, "{peer:?}");
        assert!(runs(process));
        drop(held);
        until("the child has ended", || !runs(process)).await;
    }
}

#[tokio::test]
async fn a_child_that_is_asked_to_end_may_end_by_itself() {
    let journal = Journal::new();
    let server = ready(child(Peer::Odd("polite"), &journal)).await;
    let process = journal.process("started");
    drop(server);
    until("the child has ended", || !runs(process)).await;
    assert_eq!(journal.count("terminated"), 1);
}

#[tokio::test]
async fn a_child_that_will_not_end_is_killed_with_what_it_started() {
    let journal = Journal::new();
    let server = ready(child(Peer::Odd("stubborn"), &journal)).await;
    let (process, grandchild) = (journal.process("started"), journal.process("child"));
    assert!(runs(process) && runs(grandchild));
    drop(server);
    until("both have ended", || !runs(process) && !runs(grandchild)).await;
}

#[test]
fn a_runtime_that_ends_leaves_no_child() {
    let journal = Journal::new();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(ready(child(Peer::Odd("stubborn"), &journal)));
    let (process, grandchild) = (journal.process("started"), journal.process("child"));
    drop(runtime);
    drop(server);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(until("both have ended", || !runs(process) && !runs(grandchild)));
}

#[tokio::test]
async fn a_program_that_does_not_run_is_told_at_once() {
    let crashing = start(unwatched(Peer::Odd("crash"))).await;
    let away = crashing.ready(PATIENCE).await.expect_err("it crashes");
    assert_eq!(
        away.to_string(),
        r#"MCP server "peer": the connection was lost: the program ended: exit status: 3"#
    );

    let mut settings = unwatched(Peer::Odd("crash"));
    settings.transport = McpTransport::Command {
        program: "/no/such/program".to_owned(),
        arguments: Vec::new(),
        environment: BTreeMap::new(),
    };
    let away = start(settings).await.ready(PATIENCE).await.expect_err("there is none");
    assert!(away.why.contains("/no/such/program can't be started"), "{away}");
}

#[tokio::test]
async fn a_silent_server_offers_nothing_and_holds_up_nobody() {
    let server = start(unwatched(Peer::Odd("silent"))).await;
    let away = server.ready(Duration::from_millis(300)).await.expect_err("it says nothing");
    assert_eq!(away.why, "no answer within 300ms");
    assert!(server.tools().is_empty());
}

#[tokio::test]
async fn a_hanging_call_is_given_up_and_cancelled() {
    let journal = Journal::new();
    let server = ready(child(Peer::Odd("hang"), &journal)).await;
    let report = call(&tool(&server, "do"), json!({}), Duration::from_millis(300)).await;
    assert_eq!(report.outcome, ToolOutcome::TimedOut);
    assert_eq!(report.attempts, 1);
    until("it is cancelled", || journal.count("notifications/cancelled") == 1).await;
    assert_eq!(journal.count("tools/call"), 1);
}

#[tokio::test]
async fn a_server_that_stalls_is_started_again() {
    let journal = Journal::new();
    let server = ready(child(Peer::Odd("stall"), &journal)).await;
    let first = journal.process("started");
    let report = call(&tool(&server, "do"), json!({}), Duration::from_millis(200)).await;
    assert_eq!(report.outcome, ToolOutcome::TimedOut);
    until("another one runs", || journal.process("started") != first).await;
    assert!(!runs(first));
}

#[tokio::test]
async fn a_server_that_dies_in_the_middle_of_an_answer_is_unreachable() {
    let journal = Journal::new();
    let server = ready(child(Peer::Odd("die"), &journal)).await;
    let report = call(&tool(&server, "do"), json!({}), PATIENCE).await;
    assert_eq!(answer(&report), &json!({ "status": "unreachable", "message": TROUBLE }));
    assert_eq!(journal.count("tools/call"), 1);
}

#[tokio::test]
async fn what_is_no_answer_is_trouble() {
    for (mode, error) in [
        ("error", "error -32602: no way"),
        ("wrong-shape", "Unexpected response type"),
        ("large-answer", "the answer is larger than 64 KiB"),
        ("wants-input", "it wants more input than a call can give"),
    ] {
        let server = ready(unwatched(Peer::Odd(mode))).await;
        let report = call(&tool(&server, "do"), json!({}), PATIENCE).await;
        let trouble = json!({ "status": "error", "message": TROUBLE });
        assert_eq!(answer(&report), &trouble, "{mode}");
        assert_eq!(report.verdict, Verdict::FallbackTrouble, "{mode}");
        assert_eq!(report.error.as_deref(), Some(error), "{mode}");
    }
}

#[tokio::test]
async fn babble_between_the_answers_is_passed_over() {
    for mode in ["babble", "noisy"] {
        let server = ready(unwatched(Peer::Odd(mode))).await;
        let report = call(&tool(&server, "do"), json!({}), PATIENCE).await;
        assert_eq!(answer(&report), &json!({ "result": "done" }), "{mode}");
    }
}

#[tokio::test]
async fn a_message_without_end_is_not_kept() {
    let server = ready(unwatched(Peer::Odd("huge-answer"))).await;
    let report = call(&tool(&server, "do"), json!({}), Duration::from_secs(3)).await;
    assert_eq!(report.outcome, ToolOutcome::TimedOut);
    let again = server.ready(PATIENCE).await.expect("the session goes on");
    assert_eq!(again.len(), 1);
}

#[tokio::test]
async fn a_list_without_end_is_cut() {
    let server = ready(unwatched(Peer::Odd("endless-list"))).await;
    let names = names(&server);
    assert_eq!(names.len(), 128);
    assert_eq!(names[127], "tool_127");
}

#[tokio::test]
async fn tools_that_no_model_could_use_are_left_out() {
    let server = ready(unwatched(Peer::Odd("odd-list"))).await;
    assert_eq!(names(&server), ["good", "go_od", "t_2nd"]);
    assert_eq!(tool(&server, "good").declaration().description.len(), 1024);
    assert_eq!(tool(&server, "t_2nd").declaration().description, "The second");
    let settings = McpSettings { prefix: "odd_".to_owned(), ..unwatched(Peer::Odd("odd-list")) };
    let renamed = names(&ready(settings).await);
    assert!(renamed.contains(&"odd_end_call".to_owned()), "{renamed:?}");
}
