//! A fake model that needs no scenario: it greets, answers every utterance and can be interrupted.

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{
    answer::Profile,
    script::{Action, Answer, InputTranscript, Script, ToolRequest, Trigger},
    server::Provider,
};

/// How a fake model holds a conversation.
///
/// It greets when it is told to, answers every utterance once its end was found, stops when the caller speaks over it
/// and takes the client's truncation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conversation {
    /// Length of what it says when it is told to speak, milliseconds.
    pub greeting_ms: u64,
    /// Length of its answer to an utterance, milliseconds.
    pub answer_ms: u64,
    /// Time between the end of an utterance and the answer, milliseconds.
    pub thinking_ms: u64,
    /// How the audio is cut and timed.
    pub profile: Profile,
    /// It also speaks each time this much caller audio was received, for callers who never speak. Zero: never.
    pub unprompted_every_ms: u64,
    /// A tool it calls at every second utterance instead of answering at once.
    pub tool: Option<String>,
}

impl Default for Conversation {
    fn default() -> Self {
        Self {
            greeting_ms: 1_500,
            answer_ms: 2_500,
            thinking_ms: 0,
            profile: Profile::Fast,
            unprompted_every_ms: 0,
            tool: None,
        }
    }
}

impl Conversation {
    /// Utterances of a call that may be tool calls.
    const TOOL_CALLS: u32 = 50;

    /// The script of this conversation.
    pub fn script(&self, provider: Provider) -> Script {
        let speak = |ms: u64, text: &str| -> Action {
            Answer::of_ms(ms).saying([text]).profile(self.profile).into()
        };
        let greeting = speak(self.greeting_ms, "Hello, how can I help?");
        let answer = speak(self.answer_ms, "Let me tell you about that.");
        let heard = Action::InputTranscript(InputTranscript::Text("I have a question.".into()));
        let think = Action::Delay(self.thinking_ms);
        let mut script = Script::new().interruptible().on_nth(1, Trigger::Text, [greeting]);
        for n in 2..=2 * Self::TOOL_CALLS {
            script = script.on_nth(n, Trigger::Text, [answer.clone()]);
        }
        match &self.tool {
            None => {
                script = script.on(Trigger::SpeechEnd, [heard, think, answer.clone()]);
            }
            Some(name) => {
                for n in 1..=2 * Self::TOOL_CALLS {
                    let then = if n % 2 == 1 {
                        answer.clone()
                    } else {
                        let id = format!("call_{}", n / 2);
                        Action::Tool(ToolRequest::new(&id, name, json!({})))
                    };
                    script =
                        script.on_nth(n, Trigger::SpeechEnd, [heard.clone(), think.clone(), then]);
                }
                if provider == Provider::Gemini {
                    script = script.on(Trigger::all_results(), [answer.clone()]);
                }
            }
        }
        if self.unprompted_every_ms > 0 {
            let every = self.unprompted_every_ms;
            script =
                script.on_while(crate::script::Phase::Idle, Trigger::EveryMs { every }, [answer]);
        }
        script
    }
}
