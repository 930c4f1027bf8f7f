//! One attempt at a webhook, written out: URL, headers, signed body (control API 11.1, 11.2).

use std::{collections::BTreeMap, fmt::Write as _};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde_json::{Map, Value};
use sha2::Sha256;
use tandem_call::{CallId, InvocationId, Party};
use url::Url;

use crate::{BodyFormat, Method, Webhook};

/// What a receiver is told of the call.
#[derive(Debug, Clone, PartialEq)]
pub struct CallFacts {
    /// Which call.
    pub call_id: CallId,
    /// Which agent answers it.
    pub agent_id: String,
    /// BCP-47.
    pub language: String,
    /// Who calls.
    pub from: Party,
    /// Who was called.
    pub to: Party,
    /// The call's variables, sent as `metadata`.
    pub variables: BTreeMap<String, String>,
}

/// What is asked for, the same for every attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: &'a Map<String, Value>,
    pub(crate) facts: &'a CallFacts,
    pub(crate) invocation: &'a InvocationId,
    pub(crate) tenant_id: &'a str,
    /// It is a trial, and the receiver is told so.
    pub(crate) test: bool,
}

/// An attempt as it is sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    /// Pairs of the URL's query that are configured and may be secret; those behind them are arguments.
    pub(crate) own_pairs: usize,
    pub(crate) headers: HeaderMap,
    /// Empty for GET.
    pub(crate) body: Bytes,
}

#[derive(Serialize)]
struct Envelope<'a> {
    function: &'a str,
    args: &'a Map<String, Value>,
    call_id: &'a str,
    tenant_id: &'a str,
    invocation_id: &'a str,
    agent_id: &'a str,
    conversation_id: Option<&'a str>,
    from_number: Option<&'a str>,
    to_number: Option<&'a str>,
    language: &'a str,
    attempt: u8,
    timestamp: String,
    metadata: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    test: bool,
}

impl Request {
    /// Writes attempt number `attempt` of `order`, made at `now`, with the `fixed` headers of `webhook`.
    pub(crate) fn write(
        webhook: &Webhook,
        fixed: &HeaderMap,
        order: &Order<'_>,
        attempt: u8,
        now: Timestamp,
    ) -> Self {
        let mut url = webhook.url.clone();
        let body = match (webhook.method, webhook.body) {
            (Method::Get, _) => {
                add_query(&mut url, order.arguments);
                String::new()
            }
            (Method::Post, BodyFormat::Args) => json(order.arguments),
            (Method::Post, BodyFormat::Envelope) => json(&Envelope {
                function: order.name,
                args: order.arguments,
                call_id: order.facts.call_id.as_str(),
                tenant_id: order.tenant_id,
                invocation_id: order.invocation.as_str(),
                agent_id: &order.facts.agent_id,
                conversation_id: None,
                from_number: order.facts.from.number.as_deref(),
                to_number: order.facts.to.number.as_deref(),
                language: &order.facts.language,
                attempt,
                timestamp: format!("{now:.3}"),
                metadata: &order.facts.variables,
                test: order.test,
            }),
        };
        let mut headers = fixed.clone();
        let seconds = now.as_second().to_string();
        let id = order.invocation.as_str();
        let ours =
            [("x-webhook-id", id), ("idempotency-key", id), ("x-webhook-timestamp", &seconds)];
        for (name, value) in ours {
            headers.insert(name, HeaderValue::from_str(value).expect("ids and numbers are ASCII"));
        }
        if webhook.method == Method::Post {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        if order.test {
            headers.insert("x-webhook-test", HeaderValue::from_static("true"));
        }
        if let Some(key) = &webhook.key {
            let signature = signature(key, &seconds, body.as_bytes());
            let value = HeaderValue::from_str(&signature).expect("it is hexadecimal");
            headers.insert("x-webhook-signature", value);
        }
        let own_pairs = webhook.url.query_pairs().count();
        Self { method: webhook.method, url, own_pairs, headers, body: body.into() }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("the names of members are strings")
}

/// Texts as they are, other values as JSON, `null` not at all.
fn add_query(url: &mut Url, arguments: &Map<String, Value>) {
    if arguments.values().all(Value::is_null) {
        return;
    }
    let mut query = url.query_pairs_mut();
    for (name, value) in arguments {
        match value {
            Value::Null => {}
            Value::String(text) => drop(query.append_pair(name, text)),
            other => drop(query.append_pair(name, &other.to_string())),
        }
    }
}

/// `sha256=` and the HMAC-SHA256 of `timestamp.body` in hexadecimal.
fn signature(key: &SecretString, timestamp: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes())
        .expect("HMAC takes keys of any length");
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(body);
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        write!(text, "{byte:02x}").expect("a string takes it");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn facts() -> CallFacts {
        let party = |number: &str| Party { number: Some(number.into()), name: None };
        CallFacts {
            call_id: CallId::new(0x0192_3456_789A, 7),
            agent_id: "reception".into(),
            language: "en".into(),
            from: party("+13051234567"),
            to: Party::default(),
            variables: BTreeMap::from([("tenant".into(), "acme".into())]),
        }
    }

    fn written(webhook: &Webhook, arguments: &Value, attempt: u8, test: bool) -> Request {
        let facts = facts();
        let invocation = facts.call_id.invocation(3);
        let order = Order {
            name: "leave_message",
            arguments: arguments.as_object().expect("an object"),
            facts: &facts,
            invocation: &invocation,
            tenant_id: "default",
            test,
        };
        let fixed = webhook.fixed_headers().expect("good headers");
        let now = Timestamp::from_millisecond(1_790_000_000_007).expect("a time");
        Request::write(webhook, &fixed, &order, attempt, now)
    }

    fn webhook() -> Webhook {
        Webhook::new("https://crm.example.com/hook?team=1".parse().expect("a URL"))
    }

    #[test]
    fn the_envelope_holds_what_the_contract_says() {
        let request = written(&webhook(), &json!({ "message": "Hi" }), 2, false);
        let call = facts().call_id;
        assert_eq!(
            serde_json::from_slice::<Value>(&request.body).expect("JSON"),
            json!({
                "function": "leave_message", "args": { "message": "Hi" }, "call_id": call.as_str(),
                "tenant_id": "default", "invocation_id": call.invocation(3).as_str(), "agent_id": "reception",
                "conversation_id": null, "from_number": "+13051234567", "to_number": null, "language": "en",
                "attempt": 2, "timestamp": "2026-09-21T14:13:20.007Z", "metadata": { "tenant": "acme" },
            })
        );
        assert_eq!(request.url.as_str(), "https://crm.example.com/hook?team=1");
        let header = |name: &str| request.headers[name].to_str().expect("ASCII").to_owned();
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("x-webhook-source"), "tandem");
        assert_eq!(header("x-webhook-timestamp"), "1790000000");
        assert_eq!(header("x-webhook-id"), call.invocation(3).as_str());
        assert_eq!(header("idempotency-key"), call.invocation(3).as_str());
        for absent in ["authorization", "x-webhook-signature", "x-webhook-test"] {
            assert!(!request.headers.contains_key(absent), "{absent}");
        }
    }

    #[test]
    fn the_bare_arguments_and_a_trial() {
        let bare = Webhook { body: BodyFormat::Args, ..webhook() };
        let request = written(&bare, &json!({ "n": 1 }), 1, true);
        assert_eq!(request.body, r#"{"n":1}"#);
        assert_eq!(request.headers["x-webhook-test"], "true");
        let request = written(&webhook(), &json!({}), 1, true);
        assert_eq!(serde_json::from_slice::<Value>(&request.body).expect("JSON")["test"], true);
    }

    #[test]
    fn a_get_has_its_arguments_in_the_query() {
        let get = Webhook { method: Method::Get, ..webhook() };
        let arguments =
            json!({ "sku": "A&B ü", "n": 2, "all": true, "none": null, "list": [1, "x"] });
        let request = written(&get, &arguments, 1, false);
        let pairs: BTreeMap<String, String> = request.url.query_pairs().into_owned().collect();
        let expected =
            [("team", "1"), ("sku", "A&B ü"), ("n", "2"), ("all", "true"), ("list", r#"[1,"x"]"#)];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        assert!(request.body.is_empty() && !request.headers.contains_key("content-type"));
        assert_eq!(written(&get, &json!({}), 1, false).url, get.url);
    }

    /// Made with `printf '1790000000.{"n":1}' | openssl dgst -sha256 -hmac 'key'`.
    #[test]
    fn the_signature_is_over_the_timestamp_and_the_body() {
        let signed = signature(&"key".into(), "1790000000", br#"{"n":1}"#);
        assert_eq!(
            signed,
            "sha256=e5dc5f17f746a620a8346c9d33375440cb8fcb07cb0b6785baeed0b5ff10721d"
        );
        let bare = Webhook { body: BodyFormat::Args, key: Some("key".into()), ..webhook() };
        let request = written(&bare, &json!({ "n": 1 }), 1, false);
        assert_eq!(request.headers["x-webhook-signature"], signed);
        assert_eq!(request.headers["authorization"], "Bearer key");
    }
}
