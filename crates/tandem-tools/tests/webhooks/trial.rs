//! One real request from the command line.

use std::time::Duration;

use serde_json::json;
use tandem_call::Verdict;
use tandem_tools::{Tool, ToolSetSettings, Webhook};

use crate::world::{World, facts, open_tool};

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_shows_everything_but_secrets() {
    let world = World::plain().await;
    let webhook = Webhook {
        key: Some("s3cret-key".into()),
        headers: vec![("X-Team".into(), "s3cret-value".into())],
        ..world.webhook("/as-asked?token=s3cret-token")
    };
    let tools = vec![Tool { webhook: Some(webhook), ..open_tool("ask") }, open_tool("nobody")];
    let set = world.set(ToolSetSettings::default(), tools);
    let timeout = Duration::from_secs(9);

    let trial =
        set.try_out(&facts(), "ask", json!({ "receiver": "/ok" }), timeout).await.expect("a tool");
    assert_eq!((trial.outcome, trial.attempts, trial.error.clone()), (Verdict::Ok, 1, None));
    assert_eq!(
        (trial.status.as_deref(), trial.message.as_deref()),
        (Some("saved"), Some("That is done."))
    );
    assert_eq!(trial.result["reference"], "R-1001");
    let request = trial.request.as_ref().expect("it was sent");
    assert_eq!((request.method, request.headers["authorization"].as_str()), ("POST", "***"));
    assert!(request.url.ends_with("/as-asked?token=***"), "{}", request.url);
    assert_eq!(request.body.as_ref().expect("an envelope")["test"], true);
    let response = trial.response.as_ref().expect("an answer");
    assert_eq!(
        (response.http_status, response.body.as_ref().expect("JSON")["status"].as_str()),
        (200, Some("saved"))
    );
    let shown = serde_json::to_string(&trial).expect("JSON");
    assert!(!shown.contains("s3cret"), "{shown}");
    let [logged] = &world.requests(1).await[..] else { panic!("one request") };
    assert_eq!(
        (&logged.body["test"], logged.headers["x-webhook-test"].as_str()),
        (&json!(true), Some("true"))
    );
    assert_eq!(logged.headers["authorization"], "Bearer s3cret-key");

    for (path, outcome, status, body) in [
        (
            "/not-json",
            Verdict::FallbackTrouble,
            Some(200),
            Some(json!("<html><body>Welcome.</body></html>")),
        ),
        ("/too-large", Verdict::FallbackTrouble, Some(200), None),
        (
            "/no-message",
            Verdict::FallbackNoted,
            Some(200),
            Some(json!({ "status": "saved", "reference": "R-1001" })),
        ),
        ("/close", Verdict::FallbackTrouble, None, None),
    ] {
        let trial = set
            .try_out(&facts(), "ask", json!({ "receiver": path }), timeout)
            .await
            .expect("a tool");
        assert_eq!(trial.outcome, outcome, "{path}");
        assert_eq!(trial.response.as_ref().map(|response| response.http_status), status, "{path}");
        assert_eq!(trial.response.and_then(|response| response.body), body, "{path}");
        assert!(
            trial.request.is_some() && trial.error.is_some() == (outcome != Verdict::FallbackNoted),
            "{path}"
        );
    }

    let short = Duration::from_millis(200);
    let trial =
        set.try_out(&facts(), "ask", json!({ "receiver": "/hang" }), short).await.expect("a tool");
    assert_eq!(
        (trial.outcome, trial.status.as_deref()),
        (Verdict::FallbackTrouble, Some("timeout"))
    );
    assert!(trial.request.is_some() && trial.response.is_none());
    let trial = set.try_out(&facts(), "ask", json!([]), timeout).await.expect("a tool");
    assert_eq!((trial.outcome, trial.request), (Verdict::InvalidArguments, None));
    let trial = set.try_out(&facts(), "nobody", json!({}), timeout).await.expect("a tool");
    assert_eq!((trial.outcome, trial.request), (Verdict::FallbackNoted, None));
    assert!(set.try_out(&facts(), "what", json!({}), timeout).await.is_err());
}
