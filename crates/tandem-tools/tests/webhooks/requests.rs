//! What the receiver gets: control API 11.1 and 11.2, and the standard tools' arguments.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tandem_call::Verdict;
use tandem_tools::{BodyFormat, Method, Tool, ToolSetSettings, Webhook};

use crate::world::{Call, World, facts, open_tool, report};

const TIMEOUT: Duration = Duration::from_secs(9);

#[tokio::test(flavor = "multi_thread")]
async fn the_request_is_as_the_contract_says_and_its_signature_is_right() {
    let world = World::tls(0).await;
    let webhook = Webhook {
        key: Some("s3cret".into()),
        headers: vec![("X-Team".into(), "sales".into())],
        source: "tandem-test".into(),
        ..world.webhook("/ok?team=1")
    };
    let set = world
        .set(ToolSetSettings::default(), vec![Tool { webhook: Some(webhook), ..open_tool("ask") }]);
    let mut call = Call::new(&set);
    let arguments = json!({ "sku": "A-1 ü", "n": 2.5, "deep": { "list": [1, null] } });
    assert_eq!(report(call.start("ask", arguments.clone(), TIMEOUT)).await.verdict, Verdict::Ok);

    let [request] = &world.requests(1).await[..] else { panic!("one request") };
    let id = facts().call_id.invocation(1);
    assert_eq!((&*request.method, &*request.path, &*request.query), ("POST", "/ok", "team=1"));
    assert_eq!(request.invocation_id.as_deref(), Some(id.as_str()));
    let header = |name: &str| request.headers[name].as_str().expect("text");
    for (name, value) in [
        ("content-type", "application/json"),
        ("authorization", "Bearer s3cret"),
        ("x-webhook-source", "tandem-test"),
        ("x-webhook-id", id.as_str()),
        ("idempotency-key", id.as_str()),
        ("user-agent", concat!("Tandem/", env!("CARGO_PKG_VERSION"))),
        ("x-team", "sales"),
    ] {
        assert_eq!(header(name), value, "{name}");
    }
    let body = &request.body;
    for (member, value) in [
        ("function", json!("ask")),
        ("args", arguments),
        ("call_id", json!(facts().call_id)),
        ("tenant_id", json!("default")),
        ("invocation_id", json!(id)),
        ("agent_id", json!("reception")),
        ("from_number", json!("+13051234567")),
        ("to_number", json!("+17865550000")),
        ("language", json!("en")),
        ("attempt", json!(1)),
        ("metadata", json!({ "tenant": "acme" })),
        ("test", Value::Null),
    ] {
        assert_eq!(body.get(member).unwrap_or(&Value::Null), &value, "{member}");
    }
    let seconds: i64 = header("x-webhook-timestamp").parse().expect("Unix seconds");
    let written: jiff::Timestamp =
        body["timestamp"].as_str().expect("text").parse().expect("RFC 3339");
    assert_eq!(written.as_second(), seconds);

    let mut mac = Hmac::<Sha256>::new_from_slice(b"s3cret").expect("a key");
    mac.update(format!("{seconds}.{}", raw(body)).as_bytes());
    let hex: String =
        mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(header("x-webhook-signature"), format!("sha256={hex}"));
}

/// The body as it was written: its members are in the order of the contract.
fn raw(body: &Value) -> String {
    let order = [
        "function",
        "args",
        "call_id",
        "tenant_id",
        "invocation_id",
        "agent_id",
        "conversation_id",
        "from_number",
        "to_number",
        "language",
        "attempt",
        "timestamp",
        "metadata",
    ];
    let members: Vec<String> =
        order.iter().map(|name| format!("{:?}:{}", name, body[*name])).collect();
    format!("{{{}}}", members.join(","))
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_travel_as_they_are_configured() {
    let world = World::plain().await;
    let bare = Webhook { body: BodyFormat::Args, ..world.webhook("/ok") };
    let get = Webhook { method: Method::Get, ..world.webhook("/ok?team=1") };
    let tools = vec![
        Tool { webhook: Some(bare), ..open_tool("bare") },
        Tool { webhook: Some(get), ..open_tool("get") },
    ];
    let mut call = Call::new(&world.set(ToolSetSettings::default(), tools));
    let arguments = json!({ "sku": "A&B ü", "n": 2 });
    for tool in ["bare", "get"] {
        assert_eq!(report(call.start(tool, arguments.clone(), TIMEOUT)).await.verdict, Verdict::Ok);
    }
    let [bare, get] = &world.requests(2).await[..] else { panic!("two requests") };
    assert_eq!((&bare.body, bare.headers.get("authorization")), (&arguments, None));
    assert_eq!(
        (&*get.method, &*get.query, &get.body),
        ("GET", "team=1&n=2&sku=A%26B+%C3%BC", &json!(""))
    );
    assert!(
        !get.headers.contains_key("content-length")
            && !get.headers.contains_key("transfer-encoding")
    );
    assert!(!bare.headers.contains_key("x-webhook-signature"), "there is no key to sign with");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_standard_tool_reaches_the_receiver_with_its_arguments() {
    let world = World::plain().await;
    let standard = |name: &str| Tool {
        webhook: Some(world.webhook("/ok")),
        ..Tool::standard(name).expect("a standard tool")
    };
    let rows = [
        (
            "create_lead",
            json!({ "first_name": "Juan", "phone": "+1 305 123 4567", "email": "j@example.com", "made_up": 1 }),
            json!({ "first_name": "Juan", "phone": "+1 305 123 4567", "phone_e164": "+13051234567",
                    "email": "j@example.com", "source": "phone_call" }),
        ),
        (
            "leave_message",
            json!({ "caller_name": "Juan", "caller_phone": "305 123", "message": "Call me", "urgent": true }),
            json!({ "caller_name": "Juan", "caller_phone": "305 123", "message": "Call me", "urgent": true }),
        ),
        (
            "schedule_appointment",
            json!({ "caller_name": "Juan", "phone": "1", "date": "2026-04-18", "time": "2pm", "purpose": "Visit" }),
            json!({ "caller_name": "Juan", "phone": "1", "date": "2026-04-18", "date_iso": "2026-04-18",
                    "time": "2pm", "time_iso": "14:00", "purpose": "Visit" }),
        ),
        (
            "check_policy_status",
            json!({ "policy_number": "P-1", "lookup_type": "claims" }),
            json!({ "policy_number": "P-1", "lookup_type": "claims" }),
        ),
        (
            "send_sms",
            json!({ "to_phone": "+4930123456", "message": "Hello" }),
            json!({ "to_phone": "+4930123456", "to_phone_e164": "+4930123456", "message": "Hello" }),
        ),
    ];
    let settings =
        ToolSetSettings { normalize_dates: Some(jiff::tz::TimeZone::UTC), ..Default::default() };
    let tools = rows.iter().map(|(name, ..)| standard(name)).collect();
    let mut call = Call::new(&world.set(settings, tools));
    for (name, given, _) in &rows {
        assert_eq!(
            report(call.start(name, given.clone(), TIMEOUT)).await.verdict,
            Verdict::Ok,
            "{name}"
        );
    }
    for (request, (name, _, got)) in world.requests(rows.len()).await.iter().zip(&rows) {
        assert_eq!((&request.body["function"], &request.body["args"]), (&json!(name), got));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_are_kept_and_shared() {
    let plain = World::plain().await;
    let mut call = plain.call(ToolSetSettings::default());
    for _ in 0..3 {
        assert_eq!(report(call.ask("/ok", TIMEOUT)).await.verdict, Verdict::Ok);
    }
    assert!(plain.requests(3).await.iter().all(|request| request.connection == 1));

    let tls = World::tls(0).await;
    let mut call = tls.call(ToolSetSettings::default());
    assert_eq!(report(call.ask("/ok", TIMEOUT)).await.verdict, Verdict::Ok);
    let parallel = ["/late?ms=50", "/ok", "/late?ms=50", "/ok"].map(|path| call.ask(path, TIMEOUT));
    for reported in parallel {
        assert_eq!(report(reported).await.verdict, Verdict::Ok);
    }
    assert!(
        tls.requests(5).await.iter().all(|request| request.connection == 1),
        "one connection for all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_may_be_made_in_advance_and_tried_without_a_request() {
    let world = World::tls(0).await;
    let tool = Tool {
        webhook: Some(Webhook { key: Some("s3cret".into()), ..world.webhook("/ok") }),
        ..open_tool("ask")
    };
    let set = world.set(ToolSetSettings::default(), vec![tool]);
    let [(_, Ok(()))] = &set.probe().await[..] else { panic!("it can be reached") };
    assert!(world.receiver.requests().is_empty(), "a probe sends nothing");

    set.warm();
    let warmed = world.requests(1).await;
    assert_eq!((&*warmed[0].method, &*warmed[0].path), ("HEAD", "/"));
    assert!(!warmed[0].headers.contains_key("authorization"));
    let mut call = Call::new(&set);
    assert_eq!(report(call.start("ask", json!({}), TIMEOUT)).await.verdict, Verdict::Ok);
    let requests = world.requests(2).await;
    assert_eq!(requests[0].connection, requests[1].connection);

    let address = world.receiver.address;
    drop(world.receiver);
    let [(_, Err(why))] = &set.probe().await[..] else { panic!("{address} is gone") };
    assert!(why.contains("refused"), "{why}");
}
