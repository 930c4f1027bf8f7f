//! The agents of random lives.

use std::time::Duration;

use serde_json::json;
use tandem_call::{
    AgentSpec, AgentTool, Filler, Greeting, Interruption, LateResults, PhraseId, ToolDeclaration,
    ToolMode, ToolTexts, TransferKind, TransferRoutes, TransferTarget,
};

use super::Choices;

/// Bytes that are spent on the agent.
pub(super) const SPEC_BYTES: usize = 7;

/// An agent, and flags for everything else.
pub(super) fn agent(choices: &mut Choices<'_>) -> (AgentSpec, u8) {
    let flags = choices.byte();
    let (greeting, limits, models) = (choices.byte(), choices.byte(), choices.byte());
    let taste = choices.byte();
    let drain = choices.millis([0, 500, 2_000, 10_000]);
    let target = TransferTarget::new(TransferKind::Extension, "200");
    let spec = AgentSpec {
        agent_id: "reception".into(),
        system_prompt: String::new(),
        language: "en".into(),
        voice: None,
        temperature: None,
        greeting: match greeting % 4 {
            0 => Greeting::Silent,
            1 => Greeting::OwnWords,
            _ => Greeting::Exactly("Hello.".into()),
        },
        tools: tools(choices.byte()),
        tool_texts: ToolTexts::default(),
        phrases: ["Let me look.", "I am booking it.", "Please call back."].map(Into::into).into(),
        voicemail_message: (taste & 8 != 0).then_some(PhraseId(2)),
        late_results: if taste & 1 == 0 { LateResults::Discard } else { LateResults::Inject },
        transfer: TransferRoutes {
            agent: (taste & 6 != 0).then_some(target),
            ..TransferRoutes::default()
        },
        transfer_timeout: Duration::from_secs(if taste & 8 == 0 { 30 } else { 4 }),
        end_call_drain: drain,
        end_call_cancel_on_speech: taste & 16 != 0,
        interruption: Interruption {
            sensitivity: [0.8, 0.0, 1.0, 0.5][usize::from(taste >> 6)],
            reversible: limits & 8 == 0,
            ..Interruption::default()
        },
        max_silence: Duration::from_secs(if limits & 1 == 0 { 10 } else { 600 }),
        max_duration: Duration::from_secs(if limits & 6 == 0 { 30 } else { 900 }),
        transcription: taste & 32 == 0,
        models: (0..models % 4).map(|index| format!("model-{index}")).collect(),
    };
    (spec, flags)
}

/// Tools of every mode, with fillers and without.
fn tools(taste: u8) -> Vec<AgentTool> {
    let tool = |name: &str, timeout| {
        let declaration = ToolDeclaration {
            name: name.into(),
            description: String::new(),
            parameters: json!({ "type": "object" }),
        };
        AgentTool::new(declaration, Duration::from_millis(timeout))
    };
    let filler = |after, phrase| {
        Some(Filler { after: Duration::from_millis(after), phrase: PhraseId(phrase) })
    };
    let fillers = [None, filler(0, 0), filler(800, 0), filler(60_000, 0)];
    vec![
        AgentTool { filler: fillers[usize::from(taste & 3)], ..tool("find_repair", 9_000) },
        AgentTool {
            filler: filler(1_000, 1),
            interruptible: taste & 4 == 0,
            ..tool("look_up", 3_000)
        },
        AgentTool { mode: ToolMode::Background, ..tool("book", 6_000) },
        AgentTool { mode: ToolMode::FireAndForget, ..tool("note", 6_000) },
    ]
}

/// An agent for tests, with one model.
#[cfg(test)]
pub(crate) fn test_agent() -> AgentSpec {
    agent(&mut Choices(&[0, 2, 0, 1, 0, 0])).0
}
