//! The agent whose calls are tested.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tandem_call::{
    AgentSpec, Greeting, LateResults, ToolDeclaration, TransferKind, TransferRoutes,
    TransferTarget, standard_tool,
};

/// A bicycle workshop's agent with models of these names, which waits until it is spoken to.
pub fn agent(models: &[&str]) -> AgentSpec {
    AgentSpec {
        agent_id: "workshop".into(),
        system_prompt: "You answer the phone of a bicycle workshop.".into(),
        language: "en".into(),
        voice: None,
        temperature: None,
        greeting: Greeting::Silent,
        tools: ["end_call", "transfer_to_human", "leave_message"]
            .iter()
            .filter_map(|name| standard_tool(name))
            .chain([find_repair(), opening_hours()])
            .collect(),
        tool_timeout: Duration::from_secs(9),
        late_results: LateResults::Discard,
        transfer: TransferRoutes {
            departments: BTreeMap::new(),
            number: None,
            agent: Some(TransferTarget::new(TransferKind::Extension, "200")),
        },
        transfer_timeout: Duration::from_secs(30),
        end_call_drain: Duration::from_secs(2),
        end_call_cancel_on_speech: false,
        interruption: tandem_call::Interruption::default(),
        max_silence: Duration::from_secs(7_200),
        max_duration: Duration::from_secs(7_200),
        transcription: true,
        models: models.iter().map(|&name| name.to_owned()).collect(),
    }
}

/// A tool with a required argument.
pub fn find_repair() -> ToolDeclaration {
    ToolDeclaration {
        name: "find_repair".into(),
        description: "Looks a repair up.".into(),
        parameters: json!({
            "type": "object",
            "required": ["order"],
            "properties": { "order": { "type": "string" } },
            "additionalProperties": false,
        }),
    }
}

/// A tool without arguments.
pub fn opening_hours() -> ToolDeclaration {
    ToolDeclaration {
        name: "opening_hours".into(),
        description: "Tells when the workshop is open.".into(),
        parameters: json!({ "type": "object", "properties": {}, "additionalProperties": false }),
    }
}
