//! Tools in whole calls of the real daemon: webhooks go to a receiver process over real HTTP, by SIP legs and by forks of a
//! fake FreeSWITCH, with fakes of both vendors' models.
//!
//! All calls of a test run at the same time; what is asserted is what was told, sent, recorded and heard, never how long
//! it took.

#[path = "tool_calls/answers.rs"]
mod answers;
mod common;
#[path = "tool_calls/listener.rs"]
mod listener;
#[path = "freeswitch/proxy.rs"]
#[allow(dead_code, reason = "a part of it is enough here")]
mod proxy;
#[path = "tool_calls/scripts.rs"]
mod scripts;
#[path = "tool_calls/stage.rs"]
mod stage;

use serde_json::{Value, json};
use tandem_sim::ToolRequest;

use self::{
    scripts::{ANSWER_MS, WORDS_MS, asks_and_nothing_else, asks_and_tells, closes},
    stage::{Played, Scene, Until, WAYS, play},
};

/// The caller hangs up when the model has said what came of its one call.
const ANSWERED: Until = Until::Heard { ms: WORDS_MS + ANSWER_MS - 40, results: 1 };

/// The one result of a call.
#[track_caller]
fn result(played: &Played) -> &Value {
    let Played { name, told, record, .. } = played;
    assert_eq!(told.len(), 1, "{name}: {told:#?}, {record:#}");
    &told[0].1
}

/// The one invocation of a record.
#[track_caller]
fn invocation(played: &Played) -> &Value {
    let tools = played.record["tools"].as_array().expect("a record has tools");
    assert_eq!(tools.len(), 1, "{}: {tools:#?}", played.name);
    &tools[0]
}

/// A section of the configuration for everything in a test that needs no more than the receiver.
fn tools(receiver: &str) -> String {
    format!(
        "[tools]\nwebhook_url = \"{receiver}/ok\"\nwebhook_key_env = \"TEST_MODEL_KEY\"\nallow = [\"127.0.0.0/8\"]\n"
    )
}

#[test]
fn standard_tools_reach_their_receiver_with_exactly_their_arguments() {
    let cases = [
        (
            "create_lead",
            json!({ "first_name": "Ann", "phone": "(305) 555-0177", "interest": "two wheels" }),
            json!({
                "first_name": "Ann", "phone": "(305) 555-0177", "interest": "two wheels",
                "source": "phone_call",
            }),
        ),
        (
            "leave_message",
            json!({
                "caller_name": "Juan García", "caller_phone": "+13051234567",
                "message": "Please call back \"today\"", "urgent": true,
            }),
            json!({
                "caller_name": "Juan García", "caller_phone": "+13051234567",
                "caller_phone_e164": "+13051234567",
                "message": "Please call back \"today\"", "urgent": true,
            }),
        ),
        (
            "schedule_appointment",
            json!({
                "caller_name": "Ann", "phone": "+1 305 555 0177", "date": "next Thursday",
                "time": "2pm", "purpose": "inspection",
            }),
            json!({
                "caller_name": "Ann", "phone": "+1 305 555 0177", "phone_e164": "+13055550177",
                "date": "next Thursday", "time": "2pm", "purpose": "inspection",
            }),
        ),
        (
            "check_policy_status",
            json!({ "policy_number": "P-100", "lookup_type": "renewal" }),
            json!({ "policy_number": "P-100", "lookup_type": "renewal" }),
        ),
        (
            "send_sms",
            json!({ "to_phone": "+13055550177", "message": "See you.", "purpose": "general" }),
            json!({
                "to_phone": "+13055550177", "to_phone_e164": "+13055550177",
                "message": "See you.", "purpose": "general",
            }),
        ),
    ];
    let scenes: Vec<Scene> = cases
        .iter()
        .flat_map(|(tool, arguments, _)| {
            WAYS.map(|way| Scene {
                name: format!("{tool}, {way:?}"),
                way,
                script: asks_and_tells(way.1, [ToolRequest::new("t-1", tool, arguments.clone())]),
                agent: format!("tools = [\"{tool}\"]"),
                until: ANSWERED,
            })
        })
        .collect();
    for played in play(&scenes, tools) {
        let (tool, _, expected) = &cases[played.index / WAYS.len()];
        let name = &played.name;
        let [request] = &played.requests[..] else { panic!("{name}: {:#?}", played.requests) };
        assert_eq!(request.body["function"], *tool, "{name}");
        let mut sent = request.body["args"].clone();
        // A number without a country may be made one of the machine's.
        if expected.get("phone_e164").is_none()
            && let Some(sent) = sent.as_object_mut()
        {
            sent.remove("phone_e164");
        }
        assert_eq!(sent, *expected, "{name}");
        assert_eq!(request.headers["authorization"], "Bearer test-key", "{name}");
        let invocation = invocation(&played);
        assert_eq!(request.invocation_id.as_deref(), invocation["id"].as_str(), "{name}");
        assert_eq!(request.headers["idempotency-key"], invocation["id"], "{name}");
        assert_eq!(invocation["outcome"], "ok", "{name}");
        assert_eq!((&invocation["http_status"], &invocation["attempts"]), (&json!(200), &json!(1)));
        let answer = result(&played);
        assert_eq!(
            (&answer["status"], &answer["message"]),
            (&json!("saved"), &json!("That is done."))
        );
        assert_eq!(answer["reference"], "R-1001", "{name}");
        assert_eq!(played.record["end_reason"], "caller_hangup", "{name}");
    }
}

#[test]
fn arguments_that_are_wrong_never_reach_the_receiver() {
    let cases = [
        ("leave_message", json!({ "caller_name": "Ann" }), json!(["caller_phone", "message"])),
        ("check_policy_status", json!({}), json!(["policy_number"])),
        (
            "check_policy_status",
            json!({ "policy_number": "P", "lookup_type": "mood" }),
            Value::Null,
        ),
        (
            "leave_message",
            json!({ "caller_name": 7, "caller_phone": "1", "message": "x" }),
            Value::Null,
        ),
    ];
    let scenes: Vec<Scene> = cases
        .iter()
        .flat_map(|(tool, arguments, _)| {
            WAYS.map(|way| Scene {
                name: format!("{tool} {arguments}, {way:?}"),
                way,
                script: asks_and_tells(way.1, [ToolRequest::new("t-1", tool, arguments.clone())]),
                agent: format!("tools = [\"{tool}\"]"),
                until: ANSWERED,
            })
        })
        .collect();
    for played in play(&scenes, tools) {
        let (_, _, missing) = &cases[played.index / WAYS.len()];
        let name = &played.name;
        let told = result(&played);
        assert_eq!(told["status"], "invalid_arguments", "{name}");
        assert_eq!(told["missing"], *missing, "{name}: {told}");
        let problems = told["problems"].as_array().map_or(0, Vec::len);
        assert!(problems > 0 || !missing.is_null(), "{name}: {told}");
        assert_eq!(invocation(&played)["outcome"], "invalid_arguments", "{name}");
        assert!(played.requests.is_empty(), "{name}: {:#?}", played.requests);
    }
}

#[test]
fn parallel_calls_late_answers_and_modes() {
    let custom = |tools: &str| format!("tools = {tools}\nlate_results = \"inject\"");
    let call = |id: &str, tool: &str| ToolRequest::new(id, tool, json!({ "order": id }));
    let mut scenes = Vec::new();
    for way in WAYS {
        scenes.push(Scene {
            name: format!("six at once, {way:?}"),
            way,
            script: asks_and_tells(
                way.1,
                [1, 2, 3, 4, 5, 6]
                    .map(|n| call(&format!("t-{n}"), if n == 1 { "slow" } else { "quick" })),
            ),
            agent: custom("[\"slow\", \"quick\"]"),
            until: Until::Heard { ms: WORDS_MS + ANSWER_MS - 40, results: 6 },
        });
        scenes.push(Scene {
            name: format!("late, {way:?}"),
            way,
            script: scripts::told_later(way.1, call("t-1", "late")),
            agent: custom("[\"late\"]"),
            until: Until::Heard { ms: WORDS_MS + 2 * ANSWER_MS - 40, results: 1 },
        });
        scenes.push(Scene {
            name: format!("background, {way:?}"),
            way,
            script: scripts::told_later(way.1, call("t-1", "behind")),
            agent: custom("[\"behind\"]"),
            until: Until::Heard { ms: WORDS_MS + 2 * ANSWER_MS - 40, results: 1 },
        });
        scenes.push(Scene {
            name: format!("forgotten, {way:?}"),
            way,
            script: asks_and_tells(way.1, [call("t-1", "forgotten")]),
            agent: custom("[\"forgotten\"]"),
            until: ANSWERED,
        });
    }
    let sections = |receiver: &str| {
        let tool = |name: &str, path: &str, more: &str| {
            format!(
                "[tools.{name}]\ndescription = \"Does it.\"\nurl = \"{receiver}{path}\"\n{more}\n\
                 parameters = {{ type = \"object\", properties = {{ order = {{ type = \"string\" }} }} }}\n"
            )
        };
        [
            "[tools]\nallow = [\"127.0.0.0/8\"]\n".to_owned(),
            tool("slow", "/late?ms=1200", ""),
            tool("quick", "/late?ms=100", ""),
            tool("late", "/late?ms=2500", "timeout_ms = 1000"),
            tool("behind", "/late?ms=1500", "mode = \"background\""),
            tool("forgotten", "/late?ms=300", "mode = \"fire_and_forget\""),
        ]
        .concat()
    };
    for played in play(&scenes, sections) {
        let name = &played.name;
        let told: Vec<(&str, &str)> = played
            .told
            .iter()
            .map(|(id, result)| (id.as_str(), result["status"].as_str().unwrap_or_default()))
            .collect();
        let outcomes: Vec<&str> = played.record["tools"]
            .as_array()
            .expect("a record has tools")
            .iter()
            .filter_map(|tool| tool["outcome"].as_str())
            .collect();
        let later = played.messages.iter().filter(|message| {
            let is_result = message["item"]["type"] == "function_call_output"
                || message["toolResponse"].is_object();
            !is_result && message.to_string().contains("That is done.")
        });
        let later = later.count();
        match played.index % 4 {
            0 => {
                let order = ["t-1", "t-2", "t-3", "t-4", "t-5", "t-6"].map(|id| (id, "saved"));
                assert_eq!(told, order, "{name}");
                assert_eq!(outcomes, ["ok"; 6], "{name}");
                assert_eq!(played.requests.len(), 6, "{name}");
            }
            1 => {
                assert_eq!((told, outcomes), (vec![("t-1", "timeout")], vec!["late"]), "{name}");
                assert_eq!(later, 1, "{name}: {:#?}", played.messages);
                assert_eq!(played.record["tools"][0]["http_status"], 200, "{name}");
            }
            2 => {
                assert_eq!((told, outcomes), (vec![("t-1", "running")], vec!["ok"]), "{name}");
                assert_eq!(later, 1, "{name}: {:#?}", played.messages);
            }
            _ => {
                assert_eq!(told, [("t-1", "accepted")], "{name}");
                assert_eq!(later, 0, "{name}: {:#?}", played.messages);
                assert_eq!(played.requests.len(), 1, "{name}");
            }
        }
    }
}

#[test]
fn calls_end_and_change_hands_when_the_closing_sentence_was_heard() {
    let end = |reason: &str| {
        ToolRequest::new("t-1", "end_call", json!({ "reason": reason, "summary": "All said." }))
    };
    let transfer =
        || ToolRequest::new("t-1", "transfer_to_human", json!({ "reason": "wants a person" }));
    let lookup = || ToolRequest::new("t-1", "lookup", json!({}));
    let mut scenes = Vec::new();
    for way in WAYS {
        for reason in
            ["caller_goodbye", "no_response", "voicemail_detected", "conversation_complete"]
        {
            scenes.push(Scene {
                name: format!("{reason}, {way:?}"),
                way,
                script: closes(way.1, end(reason)),
                agent: "tools = [\"end_call\"]".into(),
                until: Until::Ended { after_ms: WORDS_MS },
            });
        }
        scenes.push(Scene {
            name: format!("transferred, {way:?}"),
            way,
            script: closes(way.1, transfer()),
            agent: "tools = [\"transfer_to_human\"]\n\
                    transfer = { type = \"extension\", target = \"{taken}\" }"
                .into(),
            until: Until::Transferred { after_ms: WORDS_MS },
        });
        scenes.push(Scene {
            name: format!("not transferred, {way:?}"),
            way,
            script: scripts::comes_back(way.1, transfer()),
            agent: "tools = [\"transfer_to_human\"]\n\
                    transfer = { type = \"extension\", target = \"{busy}\" }"
                .into(),
            until: Until::NotTransferred {
                after_ms: WORDS_MS,
                heard_ms: WORDS_MS + ANSWER_MS - 40,
            },
        });
        scenes.push(Scene {
            name: format!("the receiver ends it, {way:?}"),
            way,
            script: asks_and_tells(way.1, [lookup()]),
            agent: "tools = [\"lookup\"]".into(),
            until: Until::Ended { after_ms: WORDS_MS + ANSWER_MS },
        });
    }
    let ends = percent_encoded(
        r#"{"status":"done","message":"Goodbye then.","end_call":true,"metadata":{"ticket":"T-7"}}"#,
    );
    let sections = |receiver: &str| {
        format!(
            "[tools]\nallow = [\"127.0.0.0/8\"]\n[tools.lookup]\ndescription = \"Looks up.\"\n\
             url = \"{receiver}/reply?status=200&body={ends}\"\n"
        )
    };
    for played in play(&scenes, sections) {
        let (name, record) = (&played.name, &played.record);
        let invocation = invocation(&played);
        assert_eq!(invocation["outcome"], "ok", "{name}: {invocation}");
        match played.index % 7 {
            kind @ 0..=3 => {
                let reasons = [
                    "caller_goodbye",
                    "no_response",
                    "voicemail_detected",
                    "conversation_complete",
                ];
                assert_eq!(record["end_reason"], reasons[kind], "{name}");
                assert_eq!(record["ended_by"], "agent", "{name}");
                assert_eq!(record["summary"], "All said.", "{name}");
                assert_eq!(*result(&played), json!({ "status": "ending" }), "{name}");
            }
            4 => {
                assert_eq!(record["end_reason"], "transferred", "{name}");
                assert_eq!(record["transfer"]["status"], "completed", "{name}");
                assert_eq!(result(&played)["status"], "transferring", "{name}");
                let to = played.transferred_to.as_deref().unwrap_or_default();
                assert!(to.contains(&format!("8{:03}", played.index)), "{name}: {to}");
            }
            5 => {
                assert_eq!(record["end_reason"], "caller_hangup", "{name}");
                assert_eq!(record["transfer"]["status"], "failed", "{name}");
                assert_eq!(record["models"].as_array().map(Vec::len), Some(1), "{name}");
                let told = played
                    .messages
                    .iter()
                    .filter(|message| message.to_string().contains("The transfer did not succeed"));
                assert_eq!(told.count(), 1, "{name}: the same session is told why");
            }
            _ => {
                assert_eq!(record["ended_by"], "agent", "{name}");
                assert_eq!(record["metadata"], json!({ "ticket": "T-7" }), "{name}");
                assert_eq!(result(&played)["message"], "Goodbye then.", "{name}");
            }
        }
    }
}

#[test]
fn a_receiver_may_send_the_caller_elsewhere() {
    // A number of its own per call: each has its own tool.
    let mut scenes = Vec::new();
    for (index, way) in WAYS.into_iter().enumerate() {
        scenes.push(Scene {
            name: format!("the receiver transfers, {way:?}"),
            way,
            script: asks_and_tells(
                way.1,
                [ToolRequest::new("t-1", &format!("lookup{index}"), json!({}))],
            ),
            agent: format!("tools = [\"lookup{index}\"]"),
            until: Until::Transferred { after_ms: WORDS_MS + ANSWER_MS },
        });
    }
    let sections = |receiver: &str| {
        let mut sections = String::from("[tools]\nallow = [\"127.0.0.0/8\"]\n");
        for index in 0..WAYS.len() {
            let answer = json!({
                "status": "found", "message": "I connect you.",
                "transfer": { "type": "extension", "target": format!("8{index:03}") },
            });
            sections += &format!(
                "[tools.lookup{index}]\ndescription = \"Looks up.\"\nurl = \"{receiver}/reply?body={}\"\n",
                percent_encoded(&answer.to_string())
            );
        }
        sections
    };
    for played in play(&scenes, sections) {
        assert_eq!(played.record["end_reason"], "transferred", "{}", played.name);
        assert_eq!(played.record["transfer"]["status"], "completed", "{}", played.name);
        assert_eq!(invocation(&played)["outcome"], "ok", "{}", played.name);
    }
}

#[test]
fn a_caller_who_hangs_up_does_not_take_back_what_was_sent() {
    let scenes = WAYS.map(|way| Scene {
        name: format!("{way:?}"),
        way,
        script: asks_and_nothing_else(way.1, ToolRequest::new("t-1", "slow", json!({}))),
        agent: "tools = [\"slow\"]".into(),
        until: Until::Heard { ms: WORDS_MS - 40, results: 0 },
    });
    let sections = |receiver: &str| {
        format!(
            "[tools]\nallow = [\"127.0.0.0/8\"]\n[tools.slow]\ndescription = \"Takes time.\"\n\
             url = \"{receiver}/late?ms=8000\"\n"
        )
    };
    for played in play(&scenes, sections) {
        assert_eq!(played.requests.len(), 1, "{}: it was sent", played.name);
        assert_eq!(invocation(&played)["outcome"], "cancelled", "{}", played.name);
        assert!(played.told.is_empty(), "{}", played.name);
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
