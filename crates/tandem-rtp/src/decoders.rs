//! The decoders of one leg's audio: that of the codec that was negotiated, and G.711.

use tandem_media::{Codec, Decoder, Law};

/// What decodes a leg's packets by their codec.
#[derive(Debug)]
pub(crate) struct Decoders {
    negotiated: Option<Decoder>,
    /// G.711 has no state, and is taken whatever was negotiated.
    narrowband: [Option<Decoder>; 2],
}

impl Decoders {
    pub(crate) fn new(codec: Codec) -> Self {
        let narrowband = [Law::Mu, Law::A].map(|law| Decoder::new(Codec::G711(law)).ok());
        Self { negotiated: Decoder::new(codec).ok(), narrowband }
    }

    /// Makes ready for `codec`; a decoder of the same codec goes on.
    pub(crate) fn negotiate(&mut self, codec: Codec) {
        if self.negotiated.as_ref().is_none_or(|decoder| decoder.codec() != codec) {
            self.negotiated = Decoder::new(codec).ok();
        }
    }

    /// The decoder of `codec`; none of one that was not negotiated, or that libopus had no memory for.
    pub(crate) fn of(&mut self, codec: Codec) -> Option<&mut Decoder> {
        let Self { negotiated, narrowband: [mu, a] } = self;
        match codec {
            Codec::G711(Law::Mu) => mu.as_mut(),
            Codec::G711(Law::A) => a.as_mut(),
            _ => negotiated.as_mut().filter(|decoder| decoder.codec() == codec),
        }
    }

    /// The next packet is of another source.
    pub(crate) fn reset(&mut self) {
        if let Some(decoder) = &mut self.negotiated {
            decoder.reset();
        }
    }
}
