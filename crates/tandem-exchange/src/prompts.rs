//! Sentences Tandem says by itself, ready to be played.

use tandem_attendant::Voice;
use tandem_call::Prompt;
use tandem_media::{AudioFormat, SampleRate};

/// The prompts of a voice as bytes for [`tandem_call::MediaLeg::play`].
#[derive(Debug)]
pub struct Prompts {
    one_moment: Vec<u8>,
    trouble: Vec<u8>,
    goodbye: Vec<u8>,
}

impl Prompts {
    /// How the bytes are to be read.
    pub const FORMAT: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz8000);

    /// The prompts of `voice`.
    pub fn new(voice: &Voice) -> Self {
        let bytes =
            |prompt| voice.prompt(prompt).iter().flat_map(|sample| sample.to_le_bytes()).collect();
        Self {
            one_moment: bytes(Prompt::OneMoment),
            trouble: bytes(Prompt::Trouble),
            goodbye: bytes(Prompt::Goodbye),
        }
    }

    /// One of them.
    pub fn get(&self, prompt: Prompt) -> &[u8] {
        match prompt {
            Prompt::OneMoment => &self.one_moment,
            Prompt::Trouble => &self.trouble,
            Prompt::Goodbye => &self.goodbye,
        }
    }
}
