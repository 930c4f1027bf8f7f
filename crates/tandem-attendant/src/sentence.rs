//! Sentences to be spoken: what occasion they are for, where one ends, and how placeholders are filled.

use std::collections::BTreeMap;

/// Words that end in a dot without ending a sentence.
const ABBREVIATIONS: [&str; 8] = ["mr", "mrs", "ms", "dr", "st", "no", "ext", "prof"];
/// Longest value of a variable that is spoken, in characters.
const MAX_VALUE: usize = 200;

/// Why something is said; picks the shipped phrase when nobody can render the sentence itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Occasion {
    /// First words.
    Greeting,
    /// The answer to a turn or a digit.
    Answer,
    /// An answer when the script has none.
    Fallback,
    /// A person will take over.
    Transfer,
    /// No person can be reached, or another model failed.
    Apology,
    /// Something did not work.
    Trouble,
    /// The caller is silent.
    Silence,
    /// Last words.
    Goodbye,
}

/// One sentence, at most [`Sentence::MAX_CHARS`] long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sentence {
    /// What is said.
    pub text: String,
    /// Why.
    pub occasion: Occasion,
}

impl Sentence {
    /// The most that is rendered in one piece.
    pub const MAX_CHARS: usize = 1_000;
}

/// The sentences of `text`, each trimmed and at most [`Sentence::MAX_CHARS`] long. Control characters become spaces.
pub fn split_sentences(text: &str) -> Vec<String> {
    let mut sentences = vec![String::new()];
    for word in
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty())
    {
        for piece in pieces(word) {
            let current = sentences.last_mut().expect("there is always one");
            let full = current.chars().count() + 1 + piece.chars().count() > Sentence::MAX_CHARS;
            if !current.is_empty() && (full || ends_sentence(current)) {
                sentences.push(piece.to_owned());
            } else {
                if !current.is_empty() {
                    current.push(' ');
                }
                current.push_str(piece);
            }
        }
    }
    sentences.retain(|sentence| sentence.chars().any(char::is_alphanumeric));
    sentences
}

/// A word in pieces that are no longer than a sentence may be.
fn pieces(word: &str) -> impl Iterator<Item = &str> {
    let mut rest = word;
    std::iter::from_fn(move || {
        let end = rest.char_indices().nth(Sentence::MAX_CHARS).map_or(rest.len(), |(at, _)| at);
        let (piece, after) = rest.split_at(end);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

fn ends_sentence(text: &str) -> bool {
    let text = text.trim_end_matches(['"', '\'', ')', '”', '’']);
    if text.ends_with(['!', '?', '…', '。', '！', '？']) {
        return true;
    }
    let Some(text) = text.strip_suffix('.') else { return false };
    let word = text.rsplit([' ', '.']).next().unwrap_or(text);
    !ABBREVIATIONS.iter().any(|abbreviation| word.eq_ignore_ascii_case(abbreviation))
        && (word.chars().count() > 1 || word.chars().any(|c| c.is_ascii_digit()))
}

/// `template` with each `{{name}}` replaced by its value, cut to what can be spoken; an unknown name by `missing`.
pub(crate) fn fill(template: &str, variables: &BTreeMap<String, String>, missing: &str) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, name, after)) = next_placeholder(rest) {
        filled.push_str(before);
        match lookup(variables, name).map(str::trim).filter(|value| !value.is_empty()) {
            Some(value) => filled.extend(value.chars().take(MAX_VALUE)),
            None if missing.is_empty() && after.starts_with([',', '.', '!', '?', ';', ':']) => {
                filled.truncate(filled.trim_end_matches([' ', ',']).len()); // "Hello, {{name}}." without a name is "Hello."
            }
            None => filled.push_str(missing),
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// The variable `name`; names of SIP headers are the same in any case.
fn lookup<'a>(variables: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    let other_case =
        || variables.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    variables.get(name).or_else(other_case).map(String::as_str)
}

/// Whether `template` says the same on every call.
pub(crate) fn is_fixed(template: &str) -> bool {
    next_placeholder(template).is_none()
}

/// What is wrong with the placeholders of `template`.
pub(crate) fn placeholder_mistake(template: &str) -> Option<String> {
    let mut rest = template;
    while let Some((before, name, after)) = next_placeholder(rest) {
        if before.contains("}}") {
            break;
        }
        if !is_name(name) {
            return Some(format!(
                "{{{{{name}}}}} is no placeholder: a name has letters, digits, _ and - (up to 64)"
            ));
        }
        rest = after;
    }
    (rest.contains("{{") || rest.contains("}}"))
        .then(|| "a placeholder is written {{name}}; these braces have no pair".into())
}

fn next_placeholder(text: &str) -> Option<(&str, &str, &str)> {
    let (before, rest) = text.split_once("{{")?;
    let (name, after) = rest.split_once("}}")?;
    Some((before, name.trim(), after))
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_falls_into_sentences() {
        for (text, sentences) in [
            ("Hello. How are you? Fine!", vec!["Hello.", "How are you?", "Fine!"]),
            (
                "Dr. Smith of St. Mary is in room 5. Go on",
                vec!["Dr. Smith of St. Mary is in room 5.", "Go on"],
            ),
            ("He said \"stop.\" Then he left...", vec!["He said \"stop.\"", "Then he left..."]),
            ("At 5.30 or v1.2, call J. R. Ewing.", vec!["At 5.30 or v1.2, call J. R. Ewing."]),
            ("two\nlines\u{7}and a bell", vec!["two lines and a bell"]),
            (" ... ! ", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(split_sentences(text), sentences, "{text}");
        }
    }

    #[test]
    fn no_sentence_is_longer_than_can_be_rendered() {
        for text in ["word ".repeat(900), "ü".repeat(2_500)] {
            let sentences = split_sentences(&text);
            assert!(sentences.len() >= 3);
            assert!(
                sentences.iter().all(|sentence| sentence.chars().count() <= Sentence::MAX_CHARS)
            );
            assert_eq!(sentences.concat().replace(' ', ""), text.replace(' ', ""));
        }
    }

    #[test]
    fn placeholders_are_filled() {
        let variables = BTreeMap::from([
            ("name".to_owned(), " Ana ".to_owned()),
            ("empty".to_owned(), String::new()),
        ]);
        for (template, filled) in [
            ("Hello {{name}}, hello {{ NAME }}.", "Hello Ana, hello Ana."),
            ("Hello {{empty}}{{other}}.", "Hello ??."),
            ("{{name", "{{name"),
            ("}}{{name}}", "}}Ana"),
        ] {
            assert_eq!(fill(template, &variables, "?"), filled);
        }
        assert_eq!(
            fill("Hello, {{other}}. Welcome {{other}} back.", &variables, ""),
            "Hello. Welcome  back."
        );
        let long = BTreeMap::from([("name".to_owned(), "é".repeat(5_000))]);
        assert_eq!(fill("{{name}}", &long, "").chars().count(), MAX_VALUE);
    }

    #[test]
    fn wrong_placeholders_are_named() {
        for (template, wrong) in [
            ("{{name}} and {{other_1}}", false),
            ("{{a b}}", true),
            ("{{}}", true),
            ("{{name", true),
            ("name}}", true),
            ("}}{{name}}", true),
        ] {
            assert_eq!(placeholder_mistake(template).is_some(), wrong, "{template}");
        }
    }
}
