//! When speech of the caller stops the agent.

use std::time::Duration;

/// Speech over the agent that stops one of the lowest sensitivity above never.
const LONGEST_PATIENCE: Duration = Duration::from_millis(1_500);

/// How an agent takes being spoken over.
#[derive(Debug, Clone, PartialEq)]
pub struct Interruption {
    /// 0.0 never lets itself be interrupted, 1.0 stops at the first sound (control API, `interruption_sensitivity`).
    pub sensitivity: f32,
    /// It falls silent while it is not yet known whether the caller interrupts, and goes on where it was if not. Off: it
    /// talks on until it is stopped.
    pub reversible: bool,
    /// What people say to show that they listen, in small letters: it does not interrupt, where a model writes it down in time.
    pub listening_words: Vec<String>,
}

impl Default for Interruption {
    fn default() -> Self {
        Self {
            sensitivity: 0.8,
            reversible: true,
            listening_words: LISTENING_WORDS.map(str::to_owned).to_vec(),
        }
    }
}

impl Interruption {
    /// How long the caller has to be heard over the agent to stop it: 1.5 s times what is missing of full sensitivity,
    /// 300 ms by default; none = for ever.
    pub fn patience(&self) -> Option<Duration> {
        let missing = 1.0 - self.sensitivity.clamp(0.0, 1.0);
        let millis = (LONGEST_PATIENCE.as_millis() as f32 * missing).round() as u64;
        (self.sensitivity > 0.0).then(|| Duration::from_millis(millis))
    }

    /// Whether `text` is nothing but sounds of somebody who listens; none when there are no words in it.
    pub fn is_listening(&self, text: &str) -> Option<bool> {
        let text = text.to_lowercase();
        let mut words = text
            .split(|c: char| !c.is_alphanumeric() && c != '-' && c != '\'')
            .filter(|word| word.chars().any(char::is_alphanumeric))
            .peekable();
        words.peek()?;
        Some(words.all(|word| self.listening_words.iter().any(|known| known == word)))
    }
}

/// Of English, German, French, Spanish, Italian, Portuguese and Dutch: sounds, and the shortest words of agreement.
const LISTENING_WORDS: [&str; 33] = [
    "uh-huh", "uhuh", "uh", "huh", "mm", "mmm", "mm-hmm", "mmhmm", "mhm", "hm", "hmm", "hmhm",
    "ah", "aha", "ahh", "oh", "eh", "yeah", "yep", "okay", "ok", "right", "genau", "ach", "tja",
    "ouais", "bah", "ajá", "vale", "già", "pois", "ja", "hè",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitivity_is_how_soon_speech_stops_the_agent() {
        for (sensitivity, millis) in [
            (1.0, Some(0)),
            (0.9, Some(150)),
            (0.8, Some(300)),
            (0.5, Some(750)),
            (0.1, Some(1_350)),
            (0.0, None),
            (-1.0, None),
            (7.0, Some(0)),
            (f32::NAN, None),
        ] {
            let interruption = Interruption { sensitivity, ..Interruption::default() };
            assert_eq!(interruption.patience(), millis.map(Duration::from_millis), "{sensitivity}");
        }
    }

    #[test]
    fn listening_sounds_are_told_from_words() {
        let interruption = Interruption::default();
        for (text, listening) in [
            ("Uh-huh.", Some(true)),
            (" Mm-hmm, okay… ", Some(true)),
            ("AJÁ", Some(true)),
            ("Okay, stop", Some(false)),
            ("No.", Some(false)),
            ("Hm?", Some(true)),
            ("", None),
            (" … - ", None),
        ] {
            assert_eq!(interruption.is_listening(text), listening, "{text:?}");
        }
    }
}
