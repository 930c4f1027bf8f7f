//! What we send, as the far side hears it.

use tandem_media::{Codec, Decoder, Resampler, SampleRate};
use tandem_rtp::{MediaParams, RtpPacket};

/// Decodes our own packets to samples of one rate, whatever codec they are in.
#[derive(Debug)]
pub(crate) struct Monitor {
    rate: SampleRate,
    tuned: Option<(u8, Decoder)>,
    resampler: Option<Resampler>,
    decoded: Vec<i16>,
    pcm: Vec<i16>,
}

impl Monitor {
    /// A monitor that gives samples at `rate`.
    pub(crate) const fn new(rate: SampleRate) -> Self {
        Self { rate, tuned: None, resampler: None, decoded: Vec::new(), pcm: Vec::new() }
    }

    /// Takes what was negotiated. A stream whose codec stays goes on.
    pub(crate) fn tune(&mut self, params: &MediaParams) {
        let codec: Codec = params.codec;
        match &mut self.tuned {
            Some((payload_type, decoder)) if decoder.codec() == codec => {
                *payload_type = params.payload_type;
            }
            tuned => {
                // Without a decoder nothing is recorded of what we say; the call itself goes on.
                *tuned = Decoder::new(codec).ok().map(|decoder| (params.payload_type, decoder));
                let differs = codec.rate() != self.rate;
                self.resampler = differs.then(|| Resampler::new(codec.rate(), self.rate));
            }
        }
    }

    /// The sound of a packet of ours; none if it is no audio.
    pub(crate) fn hear(&mut self, packet: &RtpPacket<'_>) -> Option<&[i16]> {
        let (payload_type, decoder) = self.tuned.as_mut()?;
        if packet.payload_type != *payload_type {
            return None;
        }
        decoder.decode(packet.payload, &mut self.decoded).ok()?;
        let Some(resampler) = &mut self.resampler else { return Some(&self.decoded) };
        self.pcm.clear();
        resampler.process(&self.decoded, &mut self.pcm);
        Some(&self.pcm)
    }
}
