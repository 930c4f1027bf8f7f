//! The agent whose calls are tested.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tandem_call::{
    AgentSpec, AgentTool, Greeting, LateResults, ToolDeclaration, ToolTexts, TransferKind,
    TransferRoutes, TransferTarget, standard_tool,
};

/// What every tool has, if nothing else is said.
const TOOL_TIMEOUT: Duration = Duration::from_secs(9);

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
            .map(|declaration| AgentTool::new(declaration, TOOL_TIMEOUT))
            .collect(),
        tool_texts: ToolTexts::default(),
        phrases: Vec::new(),
        voicemail_message: None,
        late_results: LateResults::Discard,
        transfer: TransferRoutes {
            departments: BTreeMap::new(),
            number: None,
            agent: Some(TransferTarget::new(TransferKind::Extension, "200")),
            default: None,
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

/// A tool of this name.
pub fn custom_tool(name: &str) -> AgentTool {
    let declaration = ToolDeclaration {
        name: name.into(),
        description: "Does what it is asked to.".into(),
        parameters: json!({
            "type": "object",
            "properties": { "order": { "type": "string" }, "pin": { "type": "string" } },
        }),
    };
    AgentTool::new(declaration, TOOL_TIMEOUT)
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
