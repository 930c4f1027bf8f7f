use opus::{Channels, Decoder, packet};

use crate::{CodecError, SampleRate};

/// Samples at `rate` that a packet holds, by its first bytes; none where they are malformed or say more than 120 ms.
pub(crate) fn samples_in(rate: SampleRate, payload: &[u8]) -> Option<usize> {
    packet::get_nb_samples(payload, rate.hz() as u32).ok().filter(|&samples| samples > 0)
}

/// Whether a packet has no audio in it but the word that its sender is silent.
pub(crate) const fn is_dtx(payload: &[u8]) -> bool {
    matches!(payload.len(), 1 | 2)
}

/// An Opus stream that is heard at one rate in mono; libopus mixes a stereo packet down before it synthesises it.
#[derive(Debug)]
pub(crate) struct OpusDecoder {
    libopus: Decoder,
    rate: SampleRate,
}

impl OpusDecoder {
    pub(crate) fn new(rate: SampleRate) -> Result<Self, CodecError> {
        Ok(Self { libopus: Decoder::new(rate.hz() as u32, Channels::Mono)?, rate })
    }

    pub(crate) const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Decodes into `pcm`, which is as long as [`samples_in`] says; after an error it is empty.
    pub(crate) fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), CodecError> {
        let decoded = self.libopus.decode(payload, pcm, false);
        pcm.truncate(*decoded.as_ref().unwrap_or(&0));
        decoded.map(drop).map_err(CodecError::from)
    }

    /// Makes `samples` up, the last of them from the error correction in `next` if it has any.
    pub(crate) fn conceal(&mut self, next: Option<&[u8]>, samples: usize, pcm: &mut Vec<i16>) {
        // libopus conceals in units of 2.5 ms and no more than 120 ms at once.
        let (unit, most) = (self.rate.hz() / 400, self.rate.hz() * 12 / 100);
        pcm.resize(samples.next_multiple_of(unit), 0);
        let mut rest = pcm.as_mut_slice();
        while !rest.is_empty() {
            let (part, later) = rest.split_at_mut(rest.len().min(most));
            let guarded = next.filter(|_| later.is_empty()).unwrap_or_default();
            let by_next = !guarded.is_empty() && self.libopus.decode(guarded, part, true).is_ok();
            if !by_next && self.libopus.decode(&[], part, false).is_err() {
                part.fill(0);
            }
            rest = later;
        }
        pcm.truncate(samples);
    }

    pub(crate) fn reset(&mut self) {
        self.libopus.reset_state().expect("libopus resets any decoder");
    }
}
