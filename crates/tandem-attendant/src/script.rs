//! What the attendant says and does, as the agent's configuration writes it.

use std::{collections::BTreeMap, fmt, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tandem_call::Digit;

use crate::sentence::{self, Sentence};

const MAX_TURNS: usize = 64;
const MAX_FALLBACKS: usize = 16;
const MAX_TURN_NUMBER: u32 = 1_000;
/// Longest arguments of a tool, as JSON text.
const MAX_ARGUMENTS: usize = 8_192;
const SILENCE_SECONDS: std::ops::RangeInclusive<u16> = 2..=600;

pub(crate) const END_CALL: &str = "end_call";
pub(crate) const TRANSFER: &str = "transfer_to_human";
pub(crate) const LEAVE_MESSAGE: &str = "leave_message";

/// The attendant's lines. Fields that are left out keep those of a friendly receptionist who takes a message.
///
/// Every text may hold placeholders `{{name}}`, filled from the call's variables; `{{speech}}` is the length of the
/// caller's last turn.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Script {
    /// First words.
    pub greeting: String,
    /// Answers to the caller's turns, in order; those with a number wait for that turn.
    pub turns: Vec<ScriptTurn>,
    /// Answers when `turns` is used up, one after the other and again from the first.
    pub fallback: Vec<String>,
    /// What digits do. `0` (a person) and `#` (goodbye) need no entry, but may have their own.
    pub digits: BTreeMap<Digit, DigitAction>,
    /// Answer to a digit that does nothing.
    pub unknown_digit: String,
    /// Last words.
    pub goodbye: String,
    /// Said before the caller is handed to a person.
    pub transfer: String,
    /// Said when no person could be reached; what the caller says next is taken as a message.
    pub transfer_failed: String,
    /// Said when a tool did not work.
    pub trouble: String,
    /// Said once when the caller is silent for `silence_seconds`; after as long again the attendant says goodbye.
    pub silence_prompt: String,
    /// 2 to 600; 0 never asks.
    pub silence_seconds: u16,
    /// Said when the attendant takes over from a model that failed.
    pub apology: String,
    /// Said after a message was left.
    pub message_taken: String,
    /// Said when the conversation goes on after an interruption that was not the caller's.
    pub go_on: String,
    /// Repeat the caller's own words instead of answering: shows what the line does to speech.
    pub parrot: bool,
}

/// The answer to one turn of the caller.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptTurn {
    /// What is said; may be left out before `end_call` and `transfer_to_human`, which have words of their own.
    pub say: Option<String>,
    /// What is done when it was said.
    pub tool: Option<ToolAction>,
    /// Answer exactly the caller's turn of this number, counted from 1; otherwise whichever comes next.
    pub turn: Option<u32>,
}

/// What a digit does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DigitAction {
    /// What is said.
    pub say: Option<String>,
    /// What is done when it was said.
    pub tool: Option<ToolAction>,
}

/// A tool call of the script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ToolAction {
    /// The tool. One that the agent does not offer is passed over; `end_call` and `transfer_to_human` always work.
    pub name: String,
    /// Its arguments; texts may hold placeholders.
    #[serde(default)]
    pub arguments: Map<String, Value>,
}

impl ToolAction {
    fn new(name: &str, arguments: &[(&str, &str)]) -> Self {
        let arguments =
            arguments.iter().map(|&(key, value)| (key.to_owned(), json!(value))).collect();
        Self { name: name.to_owned(), arguments }
    }
}

/// One thing wrong with a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScriptMistake {
    /// Where, as a path of keys: `turns[2].say`.
    pub key: String,
    /// What, and what would be right.
    pub problem: String,
}

impl fmt::Display for ScriptMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

impl Default for Script {
    fn default() -> Self {
        const KEYS: &str = "Press zero to reach a person, or press pound to end the call.";
        let says = |say: &str| ScriptTurn { say: Some(say.into()), ..ScriptTurn::default() };
        Self {
            greeting: "Hello, and thank you for calling. I am the automatic attendant. How can I help you?".into(),
            turns: vec![
                says("Thank you. May I have your name, please?"),
                says("Thank you. What number can we reach you at?"),
                says("Thank you. Please tell me your message now."),
                ScriptTurn {
                    say: Some("Thank you. I have noted that you left a message. Is there anything else?".into()),
                    tool: Some(Self::message_action()),
                    turn: None,
                },
            ],
            fallback: vec![
                format!("I am a simple attendant, and I may not have understood you. {KEYS}"),
                format!("You can go on speaking. {KEYS}"),
            ],
            digits: BTreeMap::new(),
            unknown_digit: format!("I have no answer for that key. {KEYS}"),
            goodbye: "Thank you for calling. Goodbye.".into(),
            transfer: "One moment, please. I am connecting you to a person.".into(),
            transfer_failed: "I am sorry, nobody can take your call right now. \
                              Please leave a message now, and press pound when you are done."
                .into(),
            trouble: format!("I am sorry, that did not work. {KEYS}"),
            silence_prompt: "Are you still there?".into(),
            silence_seconds: 8,
            apology: "I am sorry, our assistant is not available right now. \
                      Press zero to reach a person, or leave a message now."
                .into(),
            message_taken: format!("Thank you. I have noted that you left a message. {KEYS}"),
            go_on: "I am still here. Please go on.".into(),
            parrot: false,
        }
    }
}

impl Script {
    /// How long the caller may be silent before being asked; none = for ever.
    pub fn silence(&self) -> Option<Duration> {
        (self.silence_seconds > 0).then(|| Duration::from_secs(self.silence_seconds.into()))
    }

    /// What `digit` does, by the script or by default.
    pub fn digit(&self, digit: Digit) -> Option<DigitAction> {
        self.digits.get(&digit).cloned().or_else(|| {
            let tool = match digit.as_char() {
                '0' => ToolAction::new(TRANSFER, &[("reason", "The caller pressed 0.")]),
                '#' => ToolAction::new(END_CALL, &[("reason", "caller_goodbye")]),
                _ => return None,
            };
            Some(DigitAction { say: None, tool: Some(tool) })
        })
    }

    /// The call of the tool that records a message nobody understood.
    pub(crate) fn message_action() -> ToolAction {
        ToolAction::new(
            LEAVE_MESSAGE,
            &[
                ("caller_name", "{{caller_name}}"),
                ("caller_phone", "{{caller_number}}"),
                ("message", "{{speech}}"),
            ],
        )
    }

    /// All mistakes, in the order of the fields.
    pub fn validate(&self) -> Vec<ScriptMistake> {
        let mut mistakes = Mistakes(Vec::new());
        mistakes.text("greeting", &self.greeting);
        mistakes.count("turns", self.turns.len(), 0, MAX_TURNS);
        for (n, turn) in self.turns.iter().enumerate() {
            let key = format!("turns[{n}]");
            mistakes.action(&key, turn.say.as_deref(), turn.tool.as_ref());
            if let Some(number) = turn.turn {
                if !(1..=MAX_TURN_NUMBER).contains(&number) {
                    mistakes.add(
                        format!("{key}.turn"),
                        format!("{number} is not within 1 to {MAX_TURN_NUMBER}"),
                    );
                } else if self.turns[..n].iter().any(|earlier| earlier.turn == turn.turn) {
                    mistakes
                        .add(format!("{key}.turn"), format!("turn {number} has an answer already"));
                }
            }
        }
        mistakes.count("fallback", self.fallback.len(), 1, MAX_FALLBACKS);
        for (n, text) in self.fallback.iter().enumerate() {
            mistakes.text(&format!("fallback[{n}]"), text);
        }
        for (digit, action) in &self.digits {
            mistakes.action(
                &format!("digits.{digit}"),
                action.say.as_deref(),
                action.tool.as_ref(),
            );
        }
        for (key, text) in self.lines() {
            mistakes.text(key, text);
        }
        if self.silence_seconds != 0 && !SILENCE_SECONDS.contains(&self.silence_seconds) {
            let (least, most) = SILENCE_SECONDS.into_inner();
            mistakes.add(
                "silence_seconds".into(),
                format!("{} is neither 0 nor within {least} to {most}", self.silence_seconds),
            );
        }
        mistakes.0
    }

    /// Every sentence that is the same on each call, so that it can be rendered before the first one.
    pub fn fixed_sentences(&self) -> Vec<String> {
        let turns = self.turns.iter().filter_map(|turn| turn.say.as_ref());
        let digits = self.digits.values().filter_map(|action| action.say.as_ref());
        let mut sentences: Vec<String> = [&self.greeting]
            .into_iter()
            .chain(turns)
            .chain(&self.fallback)
            .chain(digits)
            .chain(self.lines().map(|(_, text)| text))
            .filter(|text| sentence::is_fixed(text))
            .flat_map(|text| sentence::split_sentences(text))
            .collect();
        let mut seen = std::collections::HashSet::new();
        sentences.retain(|sentence| seen.insert(sentence.clone()));
        sentences
    }

    fn lines(&self) -> impl Iterator<Item = (&'static str, &String)> {
        [
            ("unknown_digit", &self.unknown_digit),
            ("goodbye", &self.goodbye),
            ("transfer", &self.transfer),
            ("transfer_failed", &self.transfer_failed),
            ("trouble", &self.trouble),
            ("silence_prompt", &self.silence_prompt),
            ("apology", &self.apology),
            ("message_taken", &self.message_taken),
            ("go_on", &self.go_on),
        ]
        .into_iter()
    }
}

struct Mistakes(Vec<ScriptMistake>);

impl Mistakes {
    fn add(&mut self, key: String, problem: String) {
        self.0.push(ScriptMistake { key, problem });
    }

    fn text(&mut self, key: &str, text: &str) {
        let length = text.chars().count();
        if length > Sentence::MAX_CHARS {
            self.add(
                key.into(),
                format!("{length} characters are more than {}", Sentence::MAX_CHARS),
            );
        } else if !text.chars().any(char::is_alphanumeric) {
            self.add(key.into(), "there is nothing to say".into());
        } else if let Some(problem) = sentence::placeholder_mistake(text) {
            self.add(key.into(), problem);
        }
    }

    fn count(&mut self, key: &str, count: usize, least: usize, most: usize) {
        if !(least..=most).contains(&count) {
            self.add(key.into(), format!("{count} entries; {least} to {most} are possible"));
        }
    }

    fn action(&mut self, key: &str, say: Option<&str>, tool: Option<&ToolAction>) {
        match (say, tool) {
            (Some(say), _) => self.text(&format!("{key}.say"), say),
            (None, None) => self.add(key.into(), "needs `say`, `tool` or both".into()),
            (None, Some(tool)) if tool.name != END_CALL && tool.name != TRANSFER => {
                self.add(
                    format!("{key}.say"),
                    format!("is missing: only {END_CALL} and {TRANSFER} have words of their own"),
                );
            }
            (None, Some(_)) => {}
        }
        let Some(tool) = tool else { return };
        let name = tool.name.as_bytes();
        if !(1..=64).contains(&name.len())
            || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(byte))
        {
            self.add(
                format!("{key}.tool.name"),
                format!("{:?} is no tool name: letters, digits, _ and -, up to 64", tool.name),
            );
        }
        let length = serde_json::to_string(&tool.arguments).map_or(usize::MAX, |json| json.len());
        if length > MAX_ARGUMENTS {
            self.add(
                format!("{key}.tool.arguments"),
                format!("longer than {MAX_ARGUMENTS} bytes of JSON"),
            );
        }
        for (name, value) in &tool.arguments {
            if let Some(problem) = value.as_str().and_then(sentence::placeholder_mistake) {
                self.add(format!("{key}.tool.arguments.{name}"), problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_from_toml() {
        let script: Script = toml::from_str(
            r##"
            greeting = "Hello {{caller_name}}."
            silence_seconds = 5
            [[turns]]
            say = "Let me look that up."
            tool = { name = "check_policy_status", arguments = { policy_number = "{{policy}}" } }
            [[turns]]
            tool = { name = "end_call" }
            turn = 3
            [digits]
            1 = { say = "We are open from nine to five." }
            "#" = { say = "Bye.", tool = { name = "end_call", arguments = { reason = "conversation_complete" } } }
            "##,
        )
        .unwrap();
        assert_eq!(script.validate(), []);
        assert_eq!(script.turns.len(), 2);
        assert_eq!(script.silence(), Some(Duration::from_secs(5)));
        let action = |digit| script.digit(Digit::new(digit).unwrap());
        assert_eq!(action('1').unwrap().say.unwrap(), "We are open from nine to five.");
        assert_eq!(action('#').unwrap().say.unwrap(), "Bye.");
        assert_eq!(action('0').unwrap().tool.unwrap().name, TRANSFER);
        assert_eq!(action('5'), None);
        assert_eq!(script.goodbye, Script::default().goodbye, "what is left out keeps its default");
    }

    #[test]
    fn unknown_keys_and_digits_are_errors() {
        for (text, named) in [
            ("greetings = \"Hello.\"", "greetings"),
            ("[[turns]]\nsays = \"Hello.\"", "says"),
            ("[digits]\nx = { say = \"Hello.\" }", "no DTMF digit"),
            ("[digits]\n12 = { say = \"Hello.\" }", ""),
            ("[digits]\n1 = { tool = { nam = \"end_call\" } }", "nam"),
        ] {
            let error = toml::from_str::<Script>(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let script: Script = toml::from_str(&format!(
            r#"
            greeting = "Hello {{{{name"
            fallback = []
            goodbye = " ... "
            apology = "{}"
            silence_seconds = 1
            turns = [
                {{}},
                {{ tool = {{ name = "look_up" }} }},
                {{ say = "Yes.", turn = 2, tool = {{ name = "a b", arguments = {{ text = "{{{{a b}}}}" }} }} }},
                {{ say = "No.", turn = 2 }},
                {{ say = "No.", turn = 0 }},
            ]
            digits = {{ 1 = {{}} }}
            "#,
            "a".repeat(1_001)
        ))
        .unwrap();
        let mistakes = script.validate();
        let keys: Vec<&str> = mistakes.iter().map(|mistake| mistake.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "greeting",
                "turns[0]",
                "turns[1].say",
                "turns[2].tool.name",
                "turns[2].tool.arguments.text",
                "turns[3].turn",
                "turns[4].turn",
                "fallback",
                "digits.1",
                "goodbye",
                "apology",
                "silence_seconds",
            ]
        );
        assert_eq!(mistakes[7].to_string(), "fallback: 0 entries; 1 to 16 are possible");
    }

    #[test]
    fn the_default_script_is_valid_and_fixed() {
        let script = Script::default();
        assert_eq!(script.validate(), []);
        let sentences = script.fixed_sentences();
        assert!(sentences.contains(&"Goodbye.".to_owned()));
        assert_eq!(sentences.iter().filter(|sentence| *sentence == "Thank you.").count(), 1);
    }

    #[test]
    fn sentences_with_placeholders_are_not_fixed() {
        let script = Script { greeting: "Hello {{name}}. Welcome.".into(), ..Script::default() };
        assert!(!script.fixed_sentences().iter().any(|sentence| sentence.contains("Welcome")));
    }
}
