//! Each row of control API 11.5.

use std::{net::TcpListener, time::Duration};

use serde_json::{Value, json};
use tandem_call::{FollowUp, ToolTexts, TransferKind, TransferTarget, Verdict};
use tandem_tools::{HttpClient, Tool, ToolSet, ToolSetSettings, Webhook};

use crate::world::{Call, World, nothing, open_tool, report, result};

const TIMEOUT: Duration = Duration::from_secs(9);

fn texts() -> ToolTexts {
    ToolTexts { noted: "noted".into(), trouble: "trouble".into() }
}

fn settings() -> ToolSetSettings {
    ToolSetSettings { texts: texts(), ..ToolSetSettings::default() }
}

async fn each_row(world: World, protocol: &str) {
    let trouble = json!({ "status": "error", "message": "trouble" });
    let good = json!({ "status": "saved", "message": "That is done.", "reference": "R-1001" });
    let spoken = json!({ "status": "refused", "message": "That is not possible." });
    let (ok, bad) = (Verdict::Ok, Verdict::FallbackTrouble);
    let rows: [(&str, Value, Verdict, Option<u16>); 22] = [
        ("/ok", good.clone(), ok, Some(200)),
        (
            "/no-message",
            json!({ "status": "saved", "message": "noted", "reference": "R-1001" }),
            Verdict::FallbackNoted,
            Some(200),
        ),
        ("/message/201", spoken.clone(), ok, Some(201)),
        ("/message/400", spoken.clone(), ok, Some(400)),
        ("/message/404", spoken.clone(), ok, Some(404)),
        ("/message/500", spoken.clone(), ok, Some(500)),
        (
            "/reply?status=422&body={\"message\":\"Which%20day?\"}",
            json!({ "status": "error", "message": "Which day?" }),
            ok,
            Some(422),
        ),
        ("/message/401", trouble.clone(), bad, Some(401)),
        ("/message/403", trouble.clone(), bad, Some(403)),
        ("/500", trouble.clone(), bad, Some(500)),
        ("/404", trouble.clone(), bad, Some(404)),
        ("/reply?status=400&body={\"status\":\"bad\"}", trouble.clone(), bad, Some(400)),
        ("/redirect", trouble.clone(), bad, Some(302)),
        ("/not-json", trouble.clone(), bad, Some(200)),
        ("/not-object", trouble.clone(), bad, Some(200)),
        ("/empty", trouble.clone(), bad, Some(204)),
        ("/too-large", trouble.clone(), bad, Some(200)),
        ("/endless", trouble.clone(), bad, Some(200)),
        ("/close", trouble.clone(), bad, None),
        ("/close-body", trouble.clone(), bad, Some(200)),
        ("/drip?ms=100", good.clone(), ok, Some(200)),
        ("/drip-head?ms=100", good, ok, Some(200)),
    ];
    let mut call = world.call(settings());
    for (path, expected, verdict, http_status) in rows {
        let report = report(call.ask(path, TIMEOUT)).await;
        assert_eq!(*result(&report), expected, "{path} {report:?}");
        assert_eq!(
            (report.verdict, report.http_status, report.attempts),
            (verdict, http_status, 1),
            "{path} {report:?}"
        );
        assert_eq!(report.follow_up, FollowUp::default(), "{path}");
    }
    let requests = world.requests(22).await;
    assert_eq!(requests.len(), 22, "each was sent once, and no redirect was followed");
    assert!(requests.iter().all(|request| request.protocol == protocol && request.nth == Some(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_over_http_1() {
    each_row(World::plain().await, "HTTP/1.1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_row_over_http_2() {
    each_row(World::tls(0).await, "HTTP/2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_http_is_trouble() {
    let world = World::plain().await;
    let mut call = world.call(settings());
    for path in ["/wrong", "/close-head"] {
        let report = report(call.ask(path, TIMEOUT)).await;
        assert_eq!(*result(&report), json!({ "status": "error", "message": "trouble" }), "{path}");
        assert_eq!((report.verdict, report.attempts), (Verdict::FallbackTrouble, 1), "{path}");
    }
    assert_eq!(world.requests(2).await.len(), 2, "what was written is not written again");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_answers_in_time() {
    let limits = tandem_tools::ExecutorLimits {
        late_window: Duration::from_millis(200),
        ..Default::default()
    };
    let world = World::new(&[], limits).await;
    let mut call = world.call(settings());
    let waiting = ["/hang", "/drip?ms=60000", "/drip-head?ms=60000", "/late?ms=60000"]
        .map(|path| call.ask(path, Duration::from_millis(300)));
    for reported in waiting {
        nothing(reported).await;
    }
    world
        .measured("tandem_tool_invocations_total{tool=\"ask\",outcome=\"fallback_trouble\"} 4")
        .await;
    world.measured("tandem_tool_in_flight{tool=\"ask\"} 0").await;
}

/// A port that nobody listens at.
fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_is_told_from_who_fails() {
    let world = World::plain().await;
    let tls = World::tls(0).await;
    let distrustful =
        HttpClient::new(vec!["127.0.0.0/8".parse().unwrap()], None).await.expect("a client");
    let to = |url: String| Tool {
        webhook: Some(Webhook::new(url.parse().unwrap())),
        ..open_tool("ask")
    };
    for (client, url, why) in [
        (&world.client, format!("http://127.0.0.1:{}/ok", closed_port()), "refused"),
        (&world.client, "https://receiver.invalid/ok".to_owned(), ""),
        (&world.client, format!("https://{}/ok", world.receiver.address), ""),
        (&distrustful, format!("https://{}/ok", tls.receiver.address), "certificate"),
        (&world.client, format!("https://127.0.0.2:{}/ok", tls.receiver.address.port()), ""),
    ] {
        let set =
            ToolSet::new(&world.executor, client, settings(), vec![to(url.clone())], Vec::new());
        let mut call = Call::new(&set.expect("good tools"));
        // Too little time for a second attempt.
        let report = report(call.ask("/ok", Duration::from_millis(2_900))).await;
        assert_eq!(
            *result(&report),
            json!({ "status": "unreachable", "message": "trouble" }),
            "{url}"
        );
        assert_eq!(
            (report.verdict, report.http_status, report.attempts),
            (Verdict::FallbackTrouble, None, 1),
            "{url}"
        );
        let error = report.error.unwrap_or_default().to_lowercase();
        assert!(!error.is_empty() && error.contains(why), "{url}: {error}");
        assert!(!error.contains("http://") && !error.contains("https://"), "{error}");
    }
    assert!(world.receiver.requests().is_empty() && tls.receiver.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_not_sent() {
    let world = World::plain().await;
    let strict = HttpClient::new(Vec::new(), None).await.expect("a client");
    let port = world.receiver.address.port();
    let at_localhost = |client: &HttpClient, scheme: &str| {
        let webhook = Webhook::new(format!("{scheme}://localhost:{port}/ok").parse().unwrap());
        let tool = Tool { webhook: Some(webhook), ..open_tool("ask") };
        ToolSet::new(&world.executor, client, settings(), vec![tool], Vec::new())
    };
    let mut call = Call::new(&at_localhost(&strict, "https").expect("a name says nothing yet"));
    let refused = report(call.ask("/ok", TIMEOUT)).await;
    assert_eq!(*result(&refused), json!({ "status": "unreachable", "message": "trouble" }));
    assert_eq!((refused.verdict, refused.attempts), (Verdict::Rejected, 0));
    assert!(refused.error.unwrap().contains("no public address"));
    assert!(at_localhost(&strict, "http").is_err(), "without TLS nothing can be right");
    assert!(world.receiver.requests().is_empty());

    let mut call = Call::new(&at_localhost(&world.client, "http").expect("it is allowed"));
    assert_eq!(report(call.ask("/ok", TIMEOUT)).await.verdict, Verdict::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_receives_is_noted_and_what_is_not_there_is_said() {
    let world = World::plain().await;
    let set =
        world.set(settings(), vec![Tool::standard("leave_message").expect("a standard tool")]);
    let mut call = Call::new(&set);
    let message = json!({ "caller_name": "Ann", "caller_phone": "1", "message": "Hi" });
    let noted = report(call.start("leave_message", message, TIMEOUT)).await;
    assert_eq!(*result(&noted), json!({ "status": "noted", "message": "noted" }));
    assert_eq!((noted.verdict, noted.attempts, noted.error), (Verdict::FallbackNoted, 0, None));

    let unknown = report(call.start("teleport", json!({}), TIMEOUT)).await;
    assert_eq!(*result(&unknown), json!({ "status": "unknown_tool", "message": "noted" }));
    assert_eq!((unknown.verdict, unknown.attempts), (Verdict::Rejected, 0));

    let invalid = report(call.start("leave_message", json!({ "message": "Hi" }), TIMEOUT)).await;
    assert_eq!(
        *result(&invalid),
        json!({ "status": "invalid_arguments", "missing": ["caller_name", "caller_phone"], "message": "Ask for the missing details." })
    );
    for raw in ["", " ", "nonsense"] {
        let invalid = report(call.start_raw("leave_message", Err(raw.into()), TIMEOUT)).await;
        assert_eq!(invalid.verdict, Verdict::InvalidArguments, "{raw:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_may_ask_for_more_and_must_keep_its_word() {
    let world = World::plain().await;
    let mut asking = open_tool("ask");
    asking.webhook = Some(world.webhook("/as-asked"));
    asking.result_schema =
        Some(json!({ "type": "object", "properties": { "price": { "type": "number" } } }));
    let mut call = Call::new(&world.set(settings(), vec![asking]));
    let reply = |body: Value| {
        let body: String =
            url::form_urlencoded::byte_serialize(body.to_string().as_bytes()).collect();
        format!("/reply?body={body}")
    };
    let path = reply(json!({
        "message": "Somebody will help you.", "verbatim": true, "end_call": false,
        "transfer": { "type": "extension", "target": "200" }, "metadata": { "ticket": "T-7" },
    }));
    let answered = report(call.ask(&path, TIMEOUT)).await;
    assert_eq!(*result(&answered), json!({ "message": "Somebody will help you." }));
    assert_eq!(
        answered.follow_up.transfer,
        Some(TransferTarget::new(TransferKind::Extension, "200"))
    );
    assert_eq!(answered.follow_up.verbatim.as_deref(), Some("Somebody will help you."));
    assert_eq!(answered.follow_up.metadata["ticket"], "T-7");

    let path = reply(json!({ "message": "It costs five.", "price": "five" }));
    let mismatch = report(call.ask(&path, TIMEOUT)).await;
    assert_eq!(*result(&mismatch), json!({ "status": "error", "message": "trouble" }));

    let path = reply(json!({ "message": "Here.", "rows": "x".repeat(20_000) }));
    let long = report(call.ask(&path, TIMEOUT)).await;
    assert_eq!(result(&long)["truncated"], true);
    assert!(result(&long).to_string().len() < 9_000);
}
