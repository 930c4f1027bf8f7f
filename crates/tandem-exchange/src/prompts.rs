//! Sentences Tandem says by itself, ready to be played.

use std::sync::Arc;

use tandem_attendant::{Speech, Voice};
use tandem_call::{PhraseId, Prompt};
use tandem_media::{AudioFormat, SampleRate};

/// The prompts of a voice and the phrases of an agent as bytes for [`tandem_call::MediaLeg::play`].
#[derive(Debug)]
pub struct Prompts {
    one_moment: Vec<u8>,
    trouble: Vec<u8>,
    goodbye: Vec<u8>,
    phrases: Vec<Option<Arc<[u8]>>>,
}

impl Prompts {
    /// How the bytes of what is the same for all agents are to be read.
    pub const FORMAT: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz8000);

    /// How the bytes of phrases are to be read.
    pub const PHRASE_FORMAT: AudioFormat = AudioFormat::Pcm16(Speech::RATE);

    /// The prompts of `voice`, for an agent without phrases.
    pub fn new(voice: &Voice) -> Self {
        Self::with_phrases(voice, Vec::new())
    }

    /// The same with the phrases of an agent, numbered by [`PhraseId`], in [`Self::PHRASE_FORMAT`]. Where one could not be
    /// rendered the caller is asked to wait instead.
    pub fn with_phrases(voice: &Voice, phrases: Vec<Option<Arc<[u8]>>>) -> Self {
        let bytes =
            |prompt| voice.prompt(prompt).iter().flat_map(|sample| sample.to_le_bytes()).collect();
        Self {
            one_moment: bytes(Prompt::OneMoment),
            trouble: bytes(Prompt::Trouble),
            goodbye: bytes(Prompt::Goodbye),
            phrases,
        }
    }

    /// One of them, and how its bytes are to be read.
    pub fn get(&self, prompt: Prompt) -> (AudioFormat, &[u8]) {
        let shipped = match prompt {
            Prompt::OneMoment => &self.one_moment,
            Prompt::Trouble => &self.trouble,
            Prompt::Goodbye => &self.goodbye,
            Prompt::Phrase(PhraseId(place)) => {
                if let Some(Some(phrase)) = self.phrases.get(usize::from(place)) {
                    return (Self::PHRASE_FORMAT, phrase);
                }
                &self.one_moment
            }
        };
        (Self::FORMAT, shipped)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_phrase_that_nobody_could_render_asks_to_wait() {
        let voice = Voice::tone(Duration::from_millis(10));
        let prompts = Prompts::with_phrases(&voice, vec![None, Some([1, 2].into())]);
        let one_moment = prompts.get(Prompt::OneMoment);
        assert_eq!(prompts.get(Prompt::Phrase(PhraseId(0))), one_moment);
        assert_eq!(prompts.get(Prompt::Phrase(PhraseId(7))), one_moment);
        let phrase = prompts.get(Prompt::Phrase(PhraseId(1)));
        assert_eq!(phrase, (Prompts::PHRASE_FORMAT, [1, 2].as_slice()));
    }
}
