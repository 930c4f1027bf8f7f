//! What is heard behind the agent's voice and in its pauses.

use tandem_media::{Ambience, AmbienceSettings, AudioFormat};

/// Mixes a background into packets of audio, whatever they are queued in.
#[derive(Debug, Default)]
pub(crate) struct Backdrop {
    ambience: Option<Ambience>,
    pcm: Vec<i16>,
}

impl Backdrop {
    /// Packets of `format` have this background from now on, or none.
    pub(crate) fn set(&mut self, format: AudioFormat, settings: Option<&AmbienceSettings>) {
        self.ambience = settings.map(|settings| Ambience::new(format.rate(), settings));
        self.set_format(format);
    }

    /// Packets are of `format` from now on; the background goes on.
    pub(crate) fn set_format(&mut self, format: AudioFormat) {
        if let Some(ambience) = &mut self.ambience {
            ambience.set_rate(format.rate());
            self.pcm.reserve(format.rate().hz() / 16); // 60 ms, and a little.
        }
    }

    /// Adds the background to `frame`, which holds whole samples of `format`.
    pub(crate) fn mix(&mut self, format: AudioFormat, frame: &mut Vec<u8>) {
        if let Some(ambience) = &mut self.ambience {
            format.read(frame, &mut self.pcm);
            ambience.mix(&mut self.pcm);
            frame.clear();
            format.write(&self.pcm, frame);
        }
    }
}
