//! Reads how an agent takes being spoken over.

use tandem_call::Interruption;

use super::reader::{Section, Value};

/// Words that may be listed, and the longest of them in bytes.
const MOST_WORDS: usize = 200;
const LONGEST_WORD: usize = 40;

/// Takes `interruption_sensitivity`, `reversible_barge_in` and `listening_words` from an agent's `section`.
pub(crate) fn read_interruption(section: &mut Section<'_, '_>) -> Interruption {
    let defaults = Interruption::default();
    Interruption {
        sensitivity: section
            .number("interruption_sensitivity", 0.0..=1.0)
            .map_or(defaults.sensitivity, |sensitivity| sensitivity as f32),
        reversible: section.boolean("reversible_barge_in").unwrap_or(defaults.reversible),
        listening_words: section
            .list("listening_words", MOST_WORDS)
            .map_or(defaults.listening_words, |words| words.iter().filter_map(read_word).collect()),
    }
}

fn read_word(value: &Value<'_, '_>) -> Option<String> {
    value.parsed(|word| {
        let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '\'';
        if word.is_empty() || word.len() > LONGEST_WORD {
            Err(format!("{word:?} must be a word of at most {LONGEST_WORD} bytes"))
        } else if !word.chars().all(is_word) {
            Err(format!("{word:?} must be one word: letters, digits, dashes and apostrophes"))
        } else {
            Ok(word.to_lowercase())
        }
    })
}
