//! The sentences shipped with the binary, which are always there: mu-law at 8 kHz.

use std::sync::Arc;

use tandem_call::Prompt;
use tandem_media::{Law, g711};

use crate::sentence::{Occasion, Sentence};

/// Silence between two phrases, samples at 8 kHz.
const PAUSE: usize = 800;
/// Most phrases in one composition: about two minutes of speech.
const MAX_PHRASES: usize = 64;

/// One recorded sentence.
#[derive(Debug)]
pub(crate) struct Phrase {
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "the list for rendering is checked against it")
    )]
    name: &'static str,
    text: &'static str,
    occasion: Occasion,
    audio: &'static [u8],
}

macro_rules! phrase {
    ($name:literal, $occasion:ident, $text:literal) => {
        Phrase {
            name: $name,
            text: $text,
            occasion: Occasion::$occasion,
            audio: include_bytes!(concat!("../prompts/", $name, ".ulaw")),
        }
    };
}

/// Of each occasion the first one stands in for sentences that resemble none. `prompts/render.sh` renders them.
static PHRASES: &[Phrase] = &[
    phrase!("hello", Greeting, "Hello, and thank you for calling."),
    phrase!("automatic", Greeting, "I am the automatic attendant."),
    phrase!("help", Greeting, "How can I help you?"),
    phrase!("thank_you", Answer, "Thank you."),
    phrase!("name", Answer, "May I have your name, please?"),
    phrase!("number", Answer, "What number can we reach you at?"),
    phrase!("message", Answer, "Please tell me your message now."),
    phrase!("noted", Answer, "I have noted that you left a message."),
    phrase!("anything_else", Answer, "Is there anything else?"),
    phrase!("simple", Fallback, "I am a simple attendant, and I may not have understood you."),
    phrase!(
        "zero_or_pound",
        Fallback,
        "Press zero to reach a person, or press pound to end the call."
    ),
    phrase!("go_on_speaking", Fallback, "You can go on speaking."),
    phrase!("thanks_for_calling", Goodbye, "Thank you for calling."),
    phrase!("goodbye", Goodbye, "Goodbye."),
    phrase!("one_moment", Transfer, "One moment, please."),
    phrase!("connecting", Transfer, "I am connecting you to a person."),
    phrase!("nobody", Apology, "I am sorry, nobody can take your call right now."),
    phrase!(
        "leave_message",
        Apology,
        "Please leave a message now, and press pound when you are done."
    ),
    phrase!("did_not_work", Trouble, "I am sorry, that did not work."),
    phrase!("still_there", Silence, "Are you still there?"),
    phrase!("not_available", Apology, "I am sorry, our assistant is not available right now."),
    phrase!("zero_or_message", Apology, "Press zero to reach a person, or leave a message now."),
    phrase!("still_here", Silence, "I am still here."),
    phrase!("please_go_on", Answer, "Please go on."),
    phrase!("no_such_key", Fallback, "I have no answer for that key."),
    phrase!("trouble", Trouble, "Sorry, I am having trouble."),
    phrase!("stay_on_line", Trouble, "Please stay on the line."),
    phrase!("cannot_go_on", Goodbye, "I am sorry, I can't go on with this call."),
    phrase!("call_again", Goodbye, "Please call again later."),
    phrase!("digit_0", Answer, "Zero."),
    phrase!("digit_1", Answer, "One."),
    phrase!("digit_2", Answer, "Two."),
    phrase!("digit_3", Answer, "Three."),
    phrase!("digit_4", Answer, "Four."),
    phrase!("digit_5", Answer, "Five."),
    phrase!("digit_6", Answer, "Six."),
    phrase!("digit_7", Answer, "Seven."),
    phrase!("digit_8", Answer, "Eight."),
    phrase!("digit_9", Answer, "Nine."),
];

/// `prompt` at 8 kHz.
pub(crate) fn prompt(prompt: Prompt) -> Arc<[i16]> {
    let text = prompt.text().unwrap_or_default();
    let phrases = compose(text).expect("each prompt is made of shipped phrases");
    join(&phrases).into()
}

/// The phrases that say exactly `text`, if there are such; numbers are read digit by digit.
pub(crate) fn compose(text: &str) -> Option<Vec<&'static Phrase>> {
    let words = words(text);
    let mut rest = words.as_slice();
    let mut phrases = Vec::new();
    while !rest.is_empty() {
        let (phrase, length) = PHRASES
            .iter()
            .map(|phrase| (phrase, self::words(phrase.text)))
            .filter(|(_, said)| rest.starts_with(said))
            .map(|(phrase, said)| (phrase, said.len()))
            .max_by_key(|&(_, length)| length)?;
        phrases.push(phrase);
        rest = &rest[length..];
        if phrases.len() > MAX_PHRASES {
            return None;
        }
    }
    (!phrases.is_empty()).then_some(phrases)
}

/// The phrase that says most nearly what `sentence` says, on the same occasion.
pub(crate) fn nearest(sentence: &Sentence) -> &'static Phrase {
    let wanted = words(&sentence.text);
    PHRASES
        .iter()
        .filter(|phrase| phrase.occasion == sentence.occasion)
        .rev() // The last of equals is taken.
        .max_by_key(|phrase| {
            words(phrase.text).iter().filter(|word| word.len() > 3 && wanted.contains(word)).count()
        })
        .expect("each occasion has a phrase")
}

/// The words of `phrases` as text.
pub(crate) fn text(phrases: &[&Phrase]) -> String {
    phrases.iter().map(|phrase| phrase.text).collect::<Vec<_>>().join(" ")
}

/// `phrases` one after the other, at 8 kHz.
pub(crate) fn join(phrases: &[&Phrase]) -> Vec<i16> {
    let mut pcm = Vec::new();
    for phrase in phrases {
        if !pcm.is_empty() {
            pcm.resize(pcm.len() + PAUSE, 0);
        }
        let start = pcm.len();
        pcm.resize(start + phrase.audio.len(), 0);
        g711::decode(Law::Mu, phrase.audio, &mut pcm[start..]);
    }
    pcm
}

/// `text` as comparable words: lower case, no punctuation, numbers digit by digit.
fn words(text: &str) -> Vec<String> {
    const DIGITS: [&str; 10] =
        ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let mut words = Vec::new();
    for word in
        text.split(|c: char| !c.is_alphanumeric() && c != '\'').filter(|word| !word.is_empty())
    {
        if word.bytes().all(|byte| byte.is_ascii_digit()) {
            words.extend(word.bytes().map(|byte| DIGITS[usize::from(byte - b'0')].to_owned()));
        } else {
            words.push(word.to_lowercase());
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Script;

    #[test]
    fn the_list_for_rendering_names_every_phrase() {
        let list: String =
            PHRASES.iter().map(|phrase| format!("{}\t{}\n", phrase.name, phrase.text)).collect();
        assert_eq!(include_str!("../prompts/phrases.txt"), list);
    }

    #[test]
    fn phrases_are_audible_and_short() {
        for phrase in PHRASES {
            let pcm = join(&[phrase]);
            let peak = pcm.iter().map(|sample| sample.unsigned_abs()).max().unwrap();
            assert!((10_000..32_000).contains(&peak), "{}: {peak}", phrase.name);
            assert!((2_000..40_000).contains(&pcm.len()), "{}: {}", phrase.name, pcm.len());
        }
    }

    #[test]
    fn every_prompt_and_the_whole_default_script_is_shipped() {
        for (prompt, seconds) in
            [(Prompt::OneMoment, 1..3), (Prompt::Trouble, 2..5), (Prompt::Goodbye, 3..8)]
        {
            assert!(seconds.contains(&(super::prompt(prompt).len() / 8_000)), "{prompt:?}");
        }
        for sentence in Script::default().fixed_sentences() {
            let composed =
                compose(&sentence).unwrap_or_else(|| panic!("{sentence:?} has no phrase"));
            assert_eq!(text(&composed), sentence);
        }
    }

    #[test]
    fn text_is_composed_of_phrases_or_not_at_all() {
        for (text, composed) in [
            ("thank you, goodbye", Some("Thank you. Goodbye.")),
            ("Thank you for calling! 305", Some("Thank you for calling. Three. Zero. Five.")),
            ("One moment, please. One. Two.", Some("One moment, please. One. Two.")),
            ("Thank you, Ana.", None),
            ("", None),
        ] {
            assert_eq!(
                compose(text).map(|phrases| super::text(&phrases)).as_deref(),
                composed,
                "{text}"
            );
        }
        assert!(compose(&"7".repeat(500)).is_none());
    }

    #[test]
    fn a_sentence_has_a_stand_in_of_its_occasion() {
        for (text, occasion, nearest_text) in [
            ("Welcome to Acme, how may I help?", Occasion::Greeting, "How can I help you?"),
            ("Welkom.", Occasion::Greeting, "Hello, and thank you for calling."),
            ("What is your name?", Occasion::Answer, "May I have your name, please?"),
            ("See you, bye.", Occasion::Goodbye, "Thank you for calling."),
            ("Sales will take your call.", Occasion::Transfer, "One moment, please."),
            (
                "Sorry, nobody is in.",
                Occasion::Apology,
                "I am sorry, nobody can take your call right now.",
            ),
            (
                "Hm.",
                Occasion::Fallback,
                "I am a simple attendant, and I may not have understood you.",
            ),
            ("Oops.", Occasion::Trouble, "I am sorry, that did not work."),
            ("Well?", Occasion::Silence, "Are you still there?"),
        ] {
            assert_eq!(
                nearest(&Sentence { text: text.into(), occasion }).text,
                nearest_text,
                "{text}"
            );
        }
    }
}
