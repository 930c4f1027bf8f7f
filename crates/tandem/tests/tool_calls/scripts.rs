//! What the models of the scenes do.

use tandem_sim::{
    Action, Answer, AnswerEnd, Provider, Response, ResponseOutput, Script, SpokenMessage,
    ToolRequest, Trigger,
};

/// What a model says before it calls a tool.
pub(crate) const WORDS_MS: u64 = 700;

/// What it says afterwards.
pub(crate) const ANSWER_MS: u64 = 900;

/// Nobody has to speak for it.
const BEGINS: Trigger = Trigger::AudioMs { at: 400 };

/// Speaks, and calls tools in the same answer.
fn asks<const N: usize>(provider: Provider, calls: [ToolRequest; N]) -> Vec<Action> {
    match provider {
        Provider::Gemini => {
            let spoken = Answer { usage: None, ..Answer::of_ms(WORDS_MS).saying(["Well."]) };
            vec![spoken.end(AnswerEnd::Open).into(), Action::Tools(calls.into())]
        }
        Provider::OpenAi => {
            let words = ResponseOutput::Message(SpokenMessage::of_ms(WORDS_MS, ["Well."]));
            let calls = calls.into_iter().map(ResponseOutput::FunctionCall);
            vec![Response::of([words].into_iter().chain(calls).collect::<Vec<_>>()).into()]
        }
    }
}

fn answer() -> Action {
    Answer::of_ms(ANSWER_MS).saying(["That is it."]).into()
}

/// The model opens with a few words and a call, and says nothing more.
pub(crate) fn asks_and_nothing_else(provider: Provider, call: ToolRequest) -> Script {
    Script::new().on(BEGINS, asks(provider, [call]))
}

/// The model begins with `first`, and with the results of its calls it says an answer.
fn tells(provider: Provider, first: Vec<Action>) -> Script {
    let script = Script::new().on(BEGINS, first);
    match provider {
        Provider::Gemini => script.on_nth(1, Trigger::all_results(), [answer()]),
        Provider::OpenAi => script.on_nth(1, Trigger::Text, [answer()]),
    }
}

/// The model opens with a few words and calls, and says what came of them.
pub(crate) fn asks_and_tells<const N: usize>(
    provider: Provider,
    calls: [ToolRequest; N],
) -> Script {
    tells(provider, asks(provider, calls))
}

/// The same, and it answers once more when it is told something in words.
pub(crate) fn told_later(provider: Provider, call: ToolRequest) -> Script {
    let n = if provider == Provider::Gemini { 1 } else { 2 };
    asks_and_tells(provider, [call]).on_nth(n, Trigger::Text, [answer()])
}

/// The model opens with its closing words, and has nothing to add to them.
pub(crate) fn closes(provider: Provider, call: ToolRequest) -> Script {
    let script = Script::new().on(BEGINS, asks(provider, [call]));
    match provider {
        Provider::Gemini => {
            script.on(Trigger::all_results(), [Action::GenerationComplete, Action::TurnComplete])
        }
        Provider::OpenAi => script, // It answers an unscripted `response.create` with an empty response.
    }
}

/// The same, and it answers when it is told that it was in vain.
pub(crate) fn comes_back(provider: Provider, call: ToolRequest) -> Script {
    let n = if provider == Provider::Gemini { 1 } else { 2 };
    closes(provider, call).on_nth(n, Trigger::Text, [answer()])
}
