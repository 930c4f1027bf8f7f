//! How the invocations of a call are carried out: control API 11.4 and 11.6.

use std::time::Duration;

use serde_json::json;
use tandem_call::{FollowUp, Verdict};
use tandem_tools::{ExecutorLimits, Method, Tool, ToolSetSettings, Webhook};

use crate::world::{Call, World, nothing, open_tool, report, result};

const TIMEOUT: Duration = Duration::from_secs(9);
const SHORT: Duration = Duration::from_secs(1);

fn at_a_time(max_in_flight: usize) -> ToolSetSettings {
    ToolSetSettings { max_in_flight, ..ToolSetSettings::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_never_was_is_tried_once_more() {
    let world = World::tls(1).await;
    let mut call = world.call(ToolSetSettings::default());
    let answered = report(call.ask("/ok", TIMEOUT)).await;
    assert_eq!(
        (answered.verdict, answered.attempts, answered.http_status),
        (Verdict::Ok, 2, Some(200))
    );
    let [request] = &world.requests(1).await[..] else { panic!("one request") };
    assert_eq!((request.nth, &request.body["attempt"]), (Some(1), &json!(2)));
    world.measured("tandem_tool_retries_total{tool=\"ask\"} 1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_third_attempt_and_no_second_without_time() {
    let world = World::tls(3).await;
    let mut call = world.call(ToolSetSettings::default());
    let failed = report(call.ask("/ok", TIMEOUT)).await;
    assert_eq!((failed.verdict, failed.attempts), (Verdict::FallbackTrouble, 2));
    assert_eq!(result(&failed)["status"], "unreachable");
    let failed = report(call.ask("/ok", Duration::from_millis(2_900))).await;
    assert_eq!((failed.verdict, failed.attempts), (Verdict::FallbackTrouble, 1));
    assert!(world.receiver.requests().is_empty());
    assert_eq!(report(call.ask("/ok", TIMEOUT)).await.verdict, Verdict::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn four_at_a_time_and_the_rest_waits() {
    let world = World::plain().await;
    let mut call = world.call(ToolSetSettings::default());
    let hanging: Vec<_> = (0..4).map(|_| call.ask("/late?ms=1500", SHORT)).collect();
    world.requests(4).await;
    let fifth = call.ask("/ok", TIMEOUT);
    assert_eq!(report(fifth).await.verdict, Verdict::Ok);
    for late in hanging {
        assert_eq!(report(late).await.verdict, Verdict::Late);
    }
    let requests = world.requests(5).await;
    let fifth = requests.iter().find(|request| request.does == "/ok").expect("it was sent");
    let first_over = requests[0].at_ms + SHORT.as_millis() as u64;
    assert!(fifth.at_ms + 100 >= first_over, "{} and {first_over}", fifth.at_ms);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_until_the_deadline_is_never_sent() {
    let world = World::plain().await;
    let mut call = world.call(at_a_time(1));
    let first = call.ask("/late?ms=3500", Duration::from_secs(3));
    world.requests(1).await;
    nothing(call.ask("/ok", Duration::from_millis(200))).await;
    assert_eq!(report(first).await.verdict, Verdict::Late);
    assert_eq!(report(call.ask("/ok", TIMEOUT)).await.verdict, Verdict::Ok);
    let does: Vec<_> = world.requests(2).await.into_iter().map(|request| request.nth).collect();
    assert_eq!(does.len(), 2, "the second was not sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_share_the_places_of_the_daemon() {
    let limits = ExecutorLimits { in_flight: 1, ..ExecutorLimits::default() };
    let world = World::new(&[], limits).await;
    let mut one = world.call(ToolSetSettings::default());
    let mut other = world.call(ToolSetSettings::default());
    let first = one.ask("/hang", Duration::from_secs(3));
    world.requests(1).await;
    nothing(other.ask("/ok", Duration::from_millis(100))).await;
    assert_eq!(world.receiver.requests().len(), 1);
    assert_eq!(
        report(other.ask("/ok", TIMEOUT)).await.verdict,
        Verdict::Ok,
        "a late answer holds no place"
    );
    drop((one, first));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_host_leaves_places_for_the_others() {
    let slow = World::new(&[], ExecutorLimits { in_flight: 4, ..Default::default() }).await;
    let well = World::plain().await;
    let mut stuck = slow.call(ToolSetSettings::default());
    let hanging: Vec<_> = (0..4).map(|_| stuck.ask("/hang", TIMEOUT)).collect();
    slow.requests(2).await;
    let tool = Tool { webhook: Some(well.webhook("/ok")), ..open_tool("other") };
    let mut call = Call::new(&slow.set(ToolSetSettings::default(), vec![tool]));
    assert_eq!(report(call.start("other", json!({}), TIMEOUT)).await.verdict, Verdict::Ok);
    assert_eq!(slow.receiver.requests().len(), 2, "half of the places");
    drop((stuck, hanging));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_answer_is_told_as_late_and_moves_nothing() {
    let world = World::plain().await;
    let mut call = world.call(ToolSetSettings::default());
    let path = "/reply?after_ms=1500&body=%7B%22message%22%3A%22Done.%22%2C%22end_call%22%3Atrue%2C%22verbatim%22%3Atrue%2C%22metadata%22%3A%7B%22t%22%3A1%7D%7D";
    let late = report(call.ask(path, SHORT)).await;
    assert_eq!((late.verdict, late.http_status, late.attempts), (Verdict::Late, Some(200), 1));
    assert_eq!(*result(&late), json!({ "message": "Done." }));
    let metadata = json!({ "t": 1 }).as_object().unwrap().clone();
    assert_eq!(late.follow_up, FollowUp { metadata, ..FollowUp::default() });
    world.measured("tandem_tool_invocations_total{tool=\"ask\",outcome=\"late\"} 1").await;

    let failed = report(call.ask("/reply?after_ms=1500&status=500", SHORT)).await;
    assert_eq!((failed.verdict, failed.http_status), (Verdict::Late, Some(500)));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_late_is_none() {
    let world = World::plain().await;
    let mut call = world.call(ToolSetSettings::default());
    let dripping = call.ask("/drip?ms=60000", SHORT);
    world.requests(1).await;
    tokio::time::sleep(2 * SHORT).await;
    drop(world.receiver);
    nothing(dripping).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_heard_after_the_late_window_and_nothing_is_held() {
    let limits =
        ExecutorLimits { late_window: Duration::from_millis(200), ..ExecutorLimits::default() };
    let world = World::new(&[], limits).await;
    let mut call = world.call(at_a_time(1));
    for _ in 0..3 {
        nothing(call.ask("/drip?ms=60000", Duration::from_millis(200))).await;
    }
    assert_eq!(report(call.ask("/ok", TIMEOUT)).await.verdict, Verdict::Ok);
    world
        .measured("tandem_tool_invocations_total{tool=\"ask\",outcome=\"fallback_trouble\"} 3")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_taken_back_is_not_sent_or_forgotten() {
    let world = World::plain().await;
    let mut call = world.call(at_a_time(1));
    let sent = call.ask("/late?ms=1500", TIMEOUT);
    let waiting = call.ask("/count", TIMEOUT);
    let kept = call.ask("/ok", TIMEOUT);
    world.requests(1).await;
    call.runner.cancel(2);
    call.runner.cancel(1);
    nothing(waiting).await;
    assert_eq!(report(kept).await.verdict, Verdict::Ok);
    nothing(sent).await;
    let does: Vec<_> = world.requests(2).await.into_iter().map(|request| request.does).collect();
    assert_eq!(
        does,
        ["/late", "/ok"],
        "what was sent goes on, and holds its place until it is over"
    );
    world.measured("tandem_tool_invocations_total{tool=\"ask\",outcome=\"cancelled\"} 2").await;
    world.measured("tandem_tool_http_responses_total{tool=\"ask\",class=\"2xx\"} 2").await;
    call.runner.cancel(1);
    call.runner.cancel(99);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_call_lets_what_was_begun_finish() {
    let world = World::plain().await;
    let mut call = world.call(at_a_time(1));
    let begun = call.ask("/late?ms=1000", TIMEOUT);
    let waiting = call.ask("/count", TIMEOUT);
    world.requests(1).await;
    drop(call);
    nothing(begun).await;
    nothing(waiting).await;
    world.measured("tandem_tool_http_responses_total{tool=\"ask\",class=\"2xx\"} 2").await;
    world.measured("tandem_tool_in_flight{tool=\"ask\"} 0").await;
    let does: Vec<_> = world.requests(2).await.into_iter().map(|request| request.does).collect();
    assert_eq!(does, ["/late", "/count"], "what waited is sent as well");
}

/// The first connection is dropped, so that the call is over between the two attempts.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_delivered_although_the_caller_hangs_up_at_once() {
    let world = World::tls(1).await;
    let mut call = world.call(ToolSetSettings::default());
    let begun = call.ask("/ok", TIMEOUT);
    world.measured("tandem_tool_retries_total{tool=\"ask\"} 1").await;
    drop(call);
    nothing(begun).await;
    world.requests(1).await;
}

/// As above, but the model takes it back; and a request without a body is no other than one with.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_taken_back_before_it_left_never_leaves() {
    for method in [Method::Post, Method::Get] {
        let world = World::tls(1).await;
        let webhook = Webhook { method, ..world.webhook("/ok") };
        let tool = Tool { webhook: Some(webhook), ..open_tool("ask") };
        let mut call = Call::new(&world.set(ToolSetSettings::default(), vec![tool]));
        let begun = call.start("ask", json!({}), TIMEOUT);
        world.measured("tandem_tool_retries_total{tool=\"ask\"} 1").await;
        call.runner.cancel(1);
        nothing(begun).await;
        world.measured("tandem_tool_in_flight{tool=\"ask\"} 0").await;
        assert_eq!(report(call.start("ask", json!({}), TIMEOUT)).await.verdict, Verdict::Ok);
        let [request] = &world.requests(1).await[..] else { panic!("{method:?}: one request") };
        assert!(
            request.invocation_id.as_deref().is_some_and(|id| id.ends_with("_2")),
            "{method:?}"
        );
    }
}

/// Nobody takes the connection's handshake: what did not leave by the deadline is not listened for a minute.
#[tokio::test(flavor = "multi_thread")]
async fn what_did_not_leave_by_the_deadline_is_over() {
    let world = World::plain().await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://{}/", silent.local_addr().expect("an address"));
    for method in [Method::Post, Method::Get] {
        let webhook = Webhook { method, ..Webhook::new(url.parse().expect("a URL")) };
        let tool = Tool { webhook: Some(webhook), ..open_tool("ask") };
        let mut call = Call::new(&world.set(ToolSetSettings::default(), vec![tool]));
        nothing(call.start("ask", json!({}), SHORT)).await;
    }
    world
        .measured("tandem_tool_invocations_total{tool=\"ask\",outcome=\"fallback_trouble\"} 2")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_has_no_end_of_open_tools() {
    let world = World::plain().await;
    let mut call = world.call(ToolSetSettings::default());
    let open: Vec<_> = (0..64).map(|_| call.ask("/hang", TIMEOUT)).collect();
    let rejected = report(call.ask("/ok", TIMEOUT)).await;
    assert_eq!((rejected.verdict, rejected.attempts), (Verdict::Rejected, 0));
    assert_eq!(result(&rejected)["status"], "error");
    world.requests(4).await;
    for number in 1..=64 {
        call.runner.cancel(number);
    }
    for reported in open {
        drop(reported);
    }
    assert_eq!(world.receiver.requests().len(), 4, "what waited was not sent");
}
