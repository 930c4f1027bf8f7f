//! Stories with OpenAI Realtime.

use super::*;
use crate::script::{
    ErrorSpec, InputTranscript, Response, ResponseOutput, ResponseStatus, SpokenMessage,
};

mod connection;
mod oddities;
mod tools;
mod turns;

/// The scenarios O01 to O24 and their variants.
pub fn openai() -> Vec<Scenario> {
    [turns::stories(), tools::stories(), connection::stories(), oddities::stories()].concat()
}

fn tale(id: impl Into<String>, title: impl Into<String>) -> Scenario {
    story(Provider::OpenAi, id, title)
}

fn message<const N: usize>(ms: u64, transcript: [&str; N]) -> ResponseOutput {
    ResponseOutput::Message(SpokenMessage::of_ms(ms, transcript))
}

fn call(tool: ToolRequest) -> ResponseOutput {
    ResponseOutput::FunctionCall(tool)
}
