use crate::{
    Codec, CodecError, Law, SampleRate, g711,
    g722::G722Decoder,
    l16,
    opus::{self, OpusDecoder},
};

/// Turns the payloads of one RTP stream into samples, mono, at the rate of its codec.
///
/// It allocates when it is made, and afterwards only where the caller's buffer has to grow.
#[derive(Debug)]
pub struct Decoder(Kind);

#[derive(Debug)]
enum Kind {
    G711(Law),
    G722(Box<G722Decoder>),
    Opus(OpusDecoder),
    L16(SampleRate),
}

impl Decoder {
    /// A decoder for a stream that begins; only Opus can fail, where libopus gets no memory.
    pub fn new(codec: Codec) -> Result<Self, CodecError> {
        Ok(Self(match codec {
            Codec::G711(law) => Kind::G711(law),
            Codec::G722 => Kind::G722(Box::new(G722Decoder::new())),
            Codec::Opus(rate) => Kind::Opus(OpusDecoder::new(rate)?),
            Codec::L16(rate) => Kind::L16(rate),
        }))
    }

    /// The codec it was made for.
    pub const fn codec(&self) -> Codec {
        match &self.0 {
            Kind::G711(law) => Codec::G711(*law),
            Kind::G722(_) => Codec::G722,
            Kind::Opus(decoder) => Codec::Opus(decoder.rate()),
            Kind::L16(rate) => Codec::L16(*rate),
        }
    }

    /// Samples at [`Codec::rate`] that `payload` holds, by its length or its first bytes; none where it is no packet of this codec.
    pub fn samples_in(&self, payload: &[u8]) -> Option<usize> {
        if payload.is_empty() {
            return None;
        }
        match &self.0 {
            Kind::G711(_) => Some(payload.len()),
            Kind::G722(_) => Some(2 * payload.len()),
            Kind::Opus(decoder) => opus::samples_in(decoder.rate(), payload),
            Kind::L16(_) => l16::samples_in(payload),
        }
    }

    /// Whether `payload` says that its sender is silent: an Opus packet of DTX, which decodes to comfort noise.
    pub fn is_dtx(&self, payload: &[u8]) -> bool {
        matches!(self.0, Kind::Opus(_)) && opus::is_dtx(payload)
    }

    /// Decodes a packet's payload into `pcm`, which holds its samples afterwards and nothing else.
    ///
    /// After an error `pcm` is empty and the decoder goes on as if the packet had not come.
    pub fn decode(&mut self, payload: &[u8], pcm: &mut Vec<i16>) -> Result<(), CodecError> {
        pcm.clear();
        let samples = self
            .samples_in(payload)
            .ok_or(CodecError::Malformed { codec: self.codec().name(), bytes: payload.len() })?;
        pcm.resize(samples, 0);
        match &mut self.0 {
            Kind::G711(law) => _ = g711::decode(*law, payload, pcm),
            Kind::G722(decoder) => decoder.decode(payload, pcm),
            Kind::Opus(decoder) => decoder.decode(payload, pcm)?,
            Kind::L16(_) => l16::decode(payload, pcm),
        }
        Ok(())
    }

    /// Makes up `samples` that were lost right before the packet `next`, if that is there, into `pcm`, which is cleared first.
    ///
    /// Opus reads the last packet's worth from the forward error correction in `next`, where it has any, and extrapolates the
    /// rest; `next` is still to be decoded afterwards. False, with `pcm` empty, where the codec cannot and a
    /// [`Concealer`](crate::Concealer) is to do it.
    pub fn conceal(&mut self, next: Option<&[u8]>, samples: usize, pcm: &mut Vec<i16>) -> bool {
        pcm.clear();
        match &mut self.0 {
            Kind::Opus(decoder) => {
                decoder.conceal(next, samples, pcm);
                true
            }
            Kind::G711(_) | Kind::G722(_) | Kind::L16(_) => false,
        }
    }

    /// Forgets what it heard: the next packet is of another source.
    pub fn reset(&mut self) {
        match &mut self.0 {
            Kind::G722(decoder) => **decoder = G722Decoder::new(),
            Kind::Opus(decoder) => decoder.reset(),
            Kind::G711(_) | Kind::L16(_) => {}
        }
    }
}
