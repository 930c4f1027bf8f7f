//! The table of answers (control API 11.5), row by row, on both legs and with both vendors' models.

use serde_json::{Value, json};
use tandem_sim::ToolRequest;

use crate::{
    ANSWERED, invocation, result,
    scripts::asks_and_tells,
    stage::{Scene, WAYS, play},
};

/// A row of the table of answers (control API 11.5).
struct Row {
    name: &'static str,
    /// What the tool's table has beside its description; `{receiver}` is the receiver.
    tool: &'static str,
    /// Members of the result.
    result: Value,
    /// `own`, `noted` or `trouble`: whose words the message has.
    words: &'static str,
    outcome: &'static str,
    http_status: Option<u16>,
}

fn rows() -> Vec<Row> {
    let row = |name, tool, result, words, outcome, http_status| Row {
        name,
        tool,
        result,
        words,
        outcome,
        http_status,
    };
    let error = || json!({ "status": "error" });
    vec![
        row(
            "message",
            r#"url = "{receiver}/ok""#,
            json!({ "status": "saved", "message": "That is done.", "reference": "R-1001" }),
            "own",
            "ok",
            Some(200),
        ),
        row(
            "no-message",
            r#"url = "{receiver}/no-message""#,
            json!({ "status": "saved", "reference": "R-1001" }),
            "noted",
            "fallback_noted",
            Some(200),
        ),
        row("404-message", r#"url = "{receiver}/message/404""#, json!({}), "own", "ok", Some(404)),
        row("500-message", r#"url = "{receiver}/message/500""#, json!({}), "own", "ok", Some(500)),
        row(
            "401-message",
            r#"url = "{receiver}/message/401""#,
            error(),
            "trouble",
            "fallback_trouble",
            Some(401),
        ),
        row(
            "403-message",
            r#"url = "{receiver}/message/403""#,
            error(),
            "trouble",
            "fallback_trouble",
            Some(403),
        ),
        row("400", r#"url = "{receiver}/400""#, error(), "trouble", "fallback_trouble", Some(400)),
        row("500", r#"url = "{receiver}/500""#, error(), "trouble", "fallback_trouble", Some(500)),
        row(
            "redirect",
            r#"url = "{receiver}/redirect""#,
            error(),
            "trouble",
            "fallback_trouble",
            Some(302),
        ),
        row(
            "not-json",
            r#"url = "{receiver}/not-json""#,
            error(),
            "trouble",
            "fallback_trouble",
            Some(200),
        ),
        row(
            "not-object",
            r#"url = "{receiver}/not-object""#,
            error(),
            "trouble",
            "fallback_trouble",
            Some(200),
        ),
        row(
            "too-large",
            r#"url = "{receiver}/too-large""#,
            error(),
            "trouble",
            "fallback_trouble",
            Some(200),
        ),
        row(
            "hang",
            "url = \"{receiver}/hang\"\ntimeout_ms = 1500",
            json!({ "status": "timeout" }),
            "trouble",
            "fallback_trouble",
            None,
        ),
        row(
            "drip",
            "url = \"{receiver}/drip?ms=60000\"\ntimeout_ms = 1500",
            json!({ "status": "timeout" }),
            "trouble",
            "fallback_trouble",
            None,
        ),
        row(
            "refused",
            r#"url = "http://127.0.0.1:9/x""#,
            json!({ "status": "unreachable" }),
            "trouble",
            "fallback_trouble",
            None,
        ),
        row(
            "no-name",
            r#"url = "https://nobody.invalid/x""#,
            json!({ "status": "unreachable" }),
            "trouble",
            "fallback_trouble",
            None,
        ),
        row(
            "no-tls",
            r#"url = "{tls_receiver}/ok""#,
            json!({ "status": "unreachable" }),
            "trouble",
            "fallback_trouble",
            None,
        ),
        row("nobody", "", json!({ "status": "noted" }), "noted", "fallback_noted", None),
    ]
}

#[test]
fn each_kind_of_answer_is_told_to_the_model_as_it_should_be() {
    let rows = rows();
    let mut scenes: Vec<Scene> = rows
        .iter()
        .flat_map(|row| {
            let tool = format!("try_{}", row.name);
            WAYS.map(|way| Scene {
                name: format!("{}, {way:?}", row.name),
                way,
                script: asks_and_tells(way.1, [ToolRequest::new("t-1", &tool, json!({}))]),
                agent: format!(
                    "tools = [\"{tool}\"]\nnoted_text = \"It is noted.\"\ntrouble_text = \"Not now.\""
                ),
                until: ANSWERED,
            })
        })
        .collect();
    let unknown = scenes.len();
    scenes.extend(WAYS.map(|way| Scene {
        name: format!("unknown, {way:?}"),
        way,
        script: asks_and_tells(way.1, [ToolRequest::new("t-1", "create_lead", json!({}))]),
        agent: "tools = []\nnoted_text = \"It is noted.\"".into(),
        until: ANSWERED,
    }));
    let sections = |receiver: &str| {
        let mut sections = String::from("[tools]\nallow = [\"127.0.0.0/8\"]\n");
        for row in &rows {
            let tls = receiver.replace("http:", "https:");
            let tool = row.tool.replace("{receiver}", receiver).replace("{tls_receiver}", &tls);
            sections += &format!("[tools.try_{}]\ndescription = \"Tries.\"\n{tool}\n", row.name);
        }
        sections
    };
    for played in play(&scenes, sections) {
        let name = &played.name;
        let told = result(&played);
        let invocation = invocation(&played);
        if played.index >= unknown {
            assert_eq!(
                *told,
                json!({ "status": "unknown_tool", "message": "It is noted." }),
                "{name}"
            );
            assert_eq!(invocation["outcome"], "rejected", "{name}");
            continue;
        }
        let row = &rows[played.index / WAYS.len()];
        let members = row.result.as_object().expect("a row has an object");
        for (member, value) in members {
            assert_eq!(told[member], *value, "{name}: {told}");
        }
        let message = told["message"].as_str().unwrap_or_default();
        match row.words {
            "noted" => assert_eq!(message, "It is noted.", "{name}"),
            "trouble" => assert_eq!(message, "Not now.", "{name}"),
            _ => assert!(!message.is_empty() && message != "Not now.", "{name}: {told}"),
        }
        assert_eq!(invocation["outcome"], row.outcome, "{name}: {invocation}");
        assert_eq!(invocation["status"], told["status"], "{name}: {invocation}");
        assert_eq!(
            invocation["http_status"].as_u64(),
            row.http_status.map(u64::from),
            "{name}: {invocation}"
        );
        // Redirects are not followed and nothing is sent twice.
        let expected = usize::from(row.tool.contains("{receiver}"));
        assert_eq!(played.requests.len(), expected, "{name}: {:#?}", played.requests);
    }
}
