//! What the attendant answers: happenings in, sentences and tool calls out.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::{Map, Value, json};
use tandem_call::{Digit, Greet, ToolCall, ToolCallId, ToolOutcome};

use crate::{
    script::{DigitAction, END_CALL, LEAVE_MESSAGE, Script, TRANSFER, ToolAction},
    sentence::{Occasion, Sentence, fill, split_sentences},
};

/// Longest text that is spoken as one answer, in characters; the rest is left out.
const MAX_ANSWER: usize = 4_000;
/// Tool calls whose outcome is awaited; the oldest is forgotten beyond that.
const MAX_OPEN_TOOLS: usize = 16;

/// What a dialogue starts with.
#[derive(Debug, Clone)]
pub struct DialogueSpec {
    /// The lines.
    pub script: Arc<Script>,
    /// What fills the placeholders.
    pub variables: BTreeMap<String, String>,
    /// Names of the tools the agent offers. `end_call` and `transfer_to_human` are always there.
    pub tools: Vec<String>,
    /// Stand in for a model that failed: apologise, take a message, do not pretend to go on with its conversation.
    pub apologise: bool,
    /// Turns the caller had before, with whatever session was here.
    pub turns_before: u32,
    /// Put before the numbers of tool calls, so that their ids are unique in the call.
    pub call_prefix: String,
}

/// What the dialogue is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Happening {
    /// Speak first.
    Greet(Greet),
    /// The session took over a conversation that had begun: nobody will order a greeting.
    TookOver,
    /// The caller said something, this long.
    Turn { length: Duration },
    /// A noise interrupted the agent, but nobody said anything.
    Noise,
    /// The caller pressed a digit.
    Digit(Digit),
    /// The caller has been silent for the script's time.
    Silence,
    /// A tool call came out.
    ToolResult { id: ToolCallId, outcome: ToolOutcome },
    /// The call wants an answer: a transfer failed, or the caller is waiting.
    Say(String),
    /// The call goes on although it was to end long ago.
    StillConnected,
}

/// What the attendant says next, and does once it is said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Answer {
    /// Spoken in order.
    pub sentences: Vec<Sentence>,
    /// Called when the last sentence was handed over.
    pub tool: Option<ToolCall>,
    /// Spoken instead of sentences: the caller's own last turn.
    pub echo: bool,
}

/// The course of one conversation. Pure: it knows nothing of audio or time.
#[derive(Debug)]
pub struct Dialogue {
    spec: DialogueSpec,
    phase: Phase,
    /// Caller turns so far.
    turns: u32,
    next_turn: usize,
    next_fallback: usize,
    next_call: u64,
    open_tools: VecDeque<(ToolCallId, String)>,
    asked_silent_caller: bool,
    apology: Apology,
    last: Option<Sentence>,
    cut: Option<Cut>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Talking,
    /// What the caller says is a message for somebody.
    TakingMessage,
    /// A person is being called; the caller is not ours for now.
    Transferring,
    /// Last words were said.
    Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Apology {
    NotNeeded,
    Due,
    /// Said, and nothing else has happened since.
    JustSaid,
    Said,
}

/// What the caller did not hear when the agent was interrupted.
#[derive(Debug)]
struct Cut {
    /// Handed over, but cut from what was playing.
    unplayed: Vec<Sentence>,
    /// Not handed over, and the tool call with it.
    withheld: Answer,
    /// Hardly a word of the last answer was heard.
    whole: bool,
}

impl Cut {
    /// Everything unheard, if there is anything.
    fn unheard(mut self) -> Option<Answer> {
        self.unplayed.append(&mut self.withheld.sentences);
        let unheard = Answer { sentences: self.unplayed, ..self.withheld };
        (!unheard.sentences.is_empty() || unheard.tool.is_some()).then_some(unheard)
    }
}

impl Dialogue {
    /// A conversation that has not begun, or is taken over.
    pub fn new(spec: DialogueSpec) -> Self {
        let ordered = spec.script.turns.iter().filter(|turn| turn.turn.is_none()).count();
        Self {
            phase: if spec.apologise { Phase::TakingMessage } else { Phase::Talking },
            turns: spec.turns_before,
            next_turn: ordered.min(spec.turns_before as usize),
            next_fallback: 0,
            next_call: 1,
            open_tools: VecDeque::new(),
            asked_silent_caller: false,
            apology: if spec.apologise { Apology::Due } else { Apology::NotNeeded },
            last: None,
            cut: None,
            spec,
        }
    }

    /// The script.
    pub fn script(&self) -> &Script {
        &self.spec.script
    }

    /// Whether the caller is ours: not being transferred, not said goodbye to.
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Talking | Phase::TakingMessage)
    }

    /// Whether last words were said.
    pub fn is_ending(&self) -> bool {
        self.phase == Phase::Ending
    }

    /// What is to be said about `happening`, if anything.
    pub fn handle(&mut self, happening: Happening) -> Option<Answer> {
        let cut = match happening {
            Happening::Turn { .. } | Happening::Noise | Happening::Digit(_) => self.cut.take(),
            _ => None,
        };
        let was_just_said = self.apology == Apology::JustSaid;
        if was_just_said {
            self.apology = Apology::Said;
        }
        let answer = match happening {
            Happening::Greet(greet) => Some(self.greet(greet)),
            Happening::TookOver => (self.apology == Apology::Due).then(|| self.apologise()),
            Happening::Turn { length } => self.turn(length, cut),
            Happening::Noise => self.noise(cut),
            Happening::Digit(digit) => self.digit(digit),
            Happening::Silence => self.silence(),
            Happening::ToolResult { id, outcome } => self.tool_result(&id, outcome),
            Happening::Say(_) if was_just_said => None, // The apology is what the caller was waiting for.
            Happening::Say(text) => Some(self.say(&text)),
            Happening::StillConnected => {
                self.reopen(Phase::Ending);
                None
            }
        }?;
        if let Some(sentence) = answer.sentences.last() {
            self.last = Some(sentence.clone());
        }
        Some(answer)
    }

    /// The caller interrupted, and `withheld` was not handed over; `whole` when nothing of the last answer was. What
    /// was handed over and not heard is told by [`Self::unplayed`], until the caller's turn has ended.
    pub fn interrupted(&mut self, withheld: Answer, whole: bool) {
        if let Some(call) = &withheld.tool {
            self.open_tools.retain(|(id, _)| *id != call.id);
            match call.name.as_str() {
                END_CALL => self.reopen(Phase::Ending),
                TRANSFER => self.reopen(Phase::Transferring),
                _ => {}
            }
        }
        self.cut = Some(Cut { unplayed: Vec::new(), withheld, whole });
    }

    /// These sentences of one answer were handed over before the interruption, but not heard to their end; `whole` when
    /// hardly a word of that answer was.
    pub fn unplayed(&mut self, sentences: Vec<Sentence>, whole: bool) {
        if let Some(cut) = &mut self.cut {
            cut.unplayed.extend(sentences);
            cut.whole = whole;
        }
    }

    fn greet(&mut self, greet: Greet) -> Answer {
        if self.apology == Apology::Due {
            return self.apologise();
        }
        match greet {
            Greet::Exactly(words) => self.speak(&words, Occasion::Greeting),
            Greet::Instruction(_) => self.line(|script| &script.greeting, Occasion::Greeting),
        }
    }

    fn apologise(&mut self) -> Answer {
        self.apology = Apology::JustSaid;
        self.line(|script| &script.apology, Occasion::Apology)
    }

    fn turn(&mut self, length: Duration, cut: Option<Cut>) -> Option<Answer> {
        self.asked_silent_caller = false;
        self.spec.variables.insert("speech".into(), speech_marker(length));
        if !self.is_open() {
            return None;
        }
        if let Some(unheard) = cut.filter(|cut| cut.whole).and_then(Cut::unheard)
            && unheard
                .sentences
                .first()
                .is_some_and(|sentence| sentence.occasion == Occasion::Answer)
        {
            return Some(self.again(unheard)); // The caller had only paused: this is still the same turn.
        }
        self.turns = self.turns.saturating_add(1);
        if self.apology == Apology::Due {
            return Some(self.apologise());
        }
        if self.phase == Phase::TakingMessage {
            let taken = self.line(|script| &script.message_taken, Occasion::Answer);
            return Some(self.with_tool(taken, &Script::message_action()));
        }
        if self.spec.script.parrot {
            return Some(Answer { echo: true, ..Answer::default() });
        }
        let script = Arc::clone(&self.spec.script);
        let numbered = script.turns.iter().find(|turn| turn.turn == Some(self.turns));
        let scripted = numbered.or_else(|| {
            let next = script.turns.iter().filter(|turn| turn.turn.is_none()).nth(self.next_turn);
            self.next_turn += usize::from(next.is_some());
            next
        });
        Some(match scripted {
            Some(turn) => self.act(turn.say.as_deref(), turn.tool.as_ref()),
            None => {
                let text = script.fallback.get(self.next_fallback % script.fallback.len().max(1));
                self.next_fallback = (self.next_fallback + 1) % script.fallback.len().max(1);
                self.speak(text.unwrap_or(&script.go_on), Occasion::Fallback)
            }
        })
    }

    fn noise(&mut self, cut: Option<Cut>) -> Option<Answer> {
        let unheard = match cut.and_then(Cut::unheard) {
            Some(unheard) => unheard,
            None if self.is_open() => {
                Answer { sentences: vec![self.last.clone()?], ..Answer::default() }
            }
            None => return None,
        };
        Some(self.again(unheard))
    }

    fn digit(&mut self, digit: Digit) -> Option<Answer> {
        self.asked_silent_caller = false;
        if !self.is_open() {
            return None;
        }
        Some(match self.spec.script.digit(digit) {
            Some(DigitAction { say, tool }) => self.act(say.as_deref(), tool.as_ref()),
            None => self.line(|script| &script.unknown_digit, Occasion::Fallback),
        })
    }

    fn silence(&mut self) -> Option<Answer> {
        if !self.is_open() {
            return None;
        }
        if !std::mem::replace(&mut self.asked_silent_caller, true) {
            return Some(self.line(|script| &script.silence_prompt, Occasion::Silence));
        }
        let reason = Map::from_iter([("reason".to_owned(), json!("no_response"))]);
        Some(self.act(None, Some(&ToolAction { name: END_CALL.into(), arguments: reason })))
    }

    fn tool_result(&mut self, id: &ToolCallId, outcome: ToolOutcome) -> Option<Answer> {
        let open = self.open_tools.iter().position(|(open, _)| open == id)?;
        let (_, name) = self.open_tools.remove(open)?;
        let result = match outcome {
            // What it says is meant for a model that can put it right.
            ToolOutcome::Answered(result) if result["status"] == "invalid_arguments" => None,
            ToolOutcome::Answered(result) => Some(result),
            ToolOutcome::Failed(_) | ToolOutcome::TimedOut => None,
            ToolOutcome::Cancelled => return None,
        };
        let status = result.as_ref().and_then(|result| result["status"].as_str());
        match (name.as_str(), status) {
            (END_CALL, Some("ending")) | (TRANSFER, Some("transferring")) => None,
            (END_CALL, _) => {
                self.reopen(Phase::Ending);
                Some(self.line(|script| &script.go_on, Occasion::Trouble))
            }
            (TRANSFER, _) => Some(self.transfer_failed()),
            // Its sentence said it all, unless it is not known to be true.
            (LEAVE_MESSAGE, status) if result.is_some() && !status.is_some_and(is_trouble) => None,
            _ => match result {
                Some(result) => {
                    let message =
                        result["message"].as_str().filter(|text| !text.trim().is_empty())?;
                    Some(self.speak_exactly(message, Occasion::Answer))
                }
                None => Some(self.line(|script| &script.trouble, Occasion::Trouble)),
            },
        }
    }

    fn say(&mut self, text: &str) -> Answer {
        let text = text.trim_start_matches('(').to_ascii_lowercase();
        if self.phase == Phase::Transferring || text.starts_with("the transfer") {
            return self.transfer_failed();
        }
        if self.apology == Apology::Due {
            return self.apologise();
        }
        self.reopen(Phase::Ending);
        self.line(|script| &script.go_on, Occasion::Silence)
    }

    fn transfer_failed(&mut self) -> Answer {
        self.phase = Phase::TakingMessage;
        if self.apology == Apology::Due {
            self.apology = Apology::Said;
        }
        self.line(|script| &script.transfer_failed, Occasion::Apology)
    }

    /// The answer of one entry of the script.
    fn act(&mut self, say: Option<&str>, tool: Option<&ToolAction>) -> Answer {
        let occasion = match tool.map(|tool| tool.name.as_str()) {
            Some(END_CALL) => Occasion::Goodbye,
            Some(TRANSFER) => Occasion::Transfer,
            _ => Occasion::Answer,
        };
        let script = Arc::clone(&self.spec.script);
        let text = say.unwrap_or(match occasion {
            Occasion::Goodbye => &script.goodbye,
            Occasion::Transfer => &script.transfer,
            _ => &script.go_on,
        });
        let answer = self.speak(text, occasion);
        match tool {
            Some(tool) => self.with_tool(answer, tool),
            None => answer,
        }
    }

    fn with_tool(&mut self, answer: Answer, tool: &ToolAction) -> Answer {
        let is_ours = tool.name == END_CALL || tool.name == TRANSFER;
        if !is_ours && !self.spec.tools.contains(&tool.name) {
            tracing::debug!(
                tool = tool.name,
                "the script names a tool that the agent does not offer"
            );
            return answer;
        }
        let mut arguments = tool.arguments.clone();
        for value in arguments.values_mut() {
            if let Value::String(text) = value {
                *text = fill(text, &self.spec.variables, "unknown");
            }
        }
        let reason = match tool.name.as_str() {
            END_CALL => Some("conversation_complete"),
            TRANSFER => Some("The script asks for a person."),
            _ => None,
        };
        if let Some(reason) = reason {
            arguments.entry("reason").or_insert(json!(reason));
        }
        let id = ToolCallId(format!("{}-{}", self.spec.call_prefix, self.next_call));
        self.next_call += 1;
        self.open(
            ToolCall { id, name: tool.name.clone(), arguments: Ok(Value::Object(arguments)) },
            answer,
        )
    }

    /// Marks `call` as under way.
    fn open(&mut self, call: ToolCall, answer: Answer) -> Answer {
        match call.name.as_str() {
            END_CALL => self.phase = Phase::Ending,
            TRANSFER => self.phase = Phase::Transferring,
            _ => {}
        }
        if self.open_tools.len() == MAX_OPEN_TOOLS {
            self.open_tools.pop_front();
        }
        self.open_tools.push_back((call.id.clone(), call.name.clone()));
        Answer { tool: Some(call), ..answer }
    }

    /// `answer` for a second time, with the tool call it still owes.
    fn again(&mut self, mut answer: Answer) -> Answer {
        match answer.tool.take() {
            Some(call) => self.open(call, answer),
            None => answer,
        }
    }

    /// Goes back to the conversation, if `phase` had closed it.
    fn reopen(&mut self, phase: Phase) {
        if self.phase == phase {
            self.phase = if self.spec.apologise { Phase::TakingMessage } else { Phase::Talking };
        }
    }

    fn line(&self, line: impl Fn(&Script) -> &String, occasion: Occasion) -> Answer {
        self.speak(line(&self.spec.script), occasion)
    }

    fn speak(&self, text: &str, occasion: Occasion) -> Answer {
        self.speak_exactly(&fill(text, &self.spec.variables, ""), occasion)
    }

    fn speak_exactly(&self, text: &str, occasion: Occasion) -> Answer {
        let end = text.char_indices().nth(MAX_ANSWER).map_or(text.len(), |(at, _)| at);
        let sentences = split_sentences(&text[..end])
            .into_iter()
            .map(|text| Sentence { text, occasion })
            .collect();
        Answer { sentences, ..Answer::default() }
    }
}

/// Whether a tool's result says that it is not known to have been done.
fn is_trouble(status: &str) -> bool {
    matches!(status, "error" | "failed" | "timeout" | "unreachable" | "unknown_tool")
}

/// How the record shows a turn whose words nobody knows.
pub(crate) fn speech_marker(length: Duration) -> String {
    format!("[speech {:.1} s]", length.as_secs_f64())
}

#[cfg(test)]
mod tests;
