use crate::{
    Codec, CodecError, Law, OpusParams, SampleRate, g711, g722::G722Encoder, l16, opus::OpusEncoder,
};

/// Turns samples, mono, at the rate of its codec, into the payloads of one RTP stream.
///
/// It allocates when it is made, and afterwards only where the caller's buffer has to grow.
#[derive(Debug)]
pub struct Encoder(Kind);

#[derive(Debug)]
enum Kind {
    G711(Law),
    G722(Box<G722Encoder>),
    Opus(OpusEncoder),
    L16(SampleRate),
}

impl Encoder {
    /// An encoder for a stream that begins; only Opus can fail, where libopus gets no memory.
    ///
    /// `params` is how the peer wants its Opus and means nothing to the other codecs.
    pub fn new(codec: Codec, params: &OpusParams) -> Result<Self, CodecError> {
        Ok(Self(match codec {
            Codec::G711(law) => Kind::G711(law),
            Codec::G722 => Kind::G722(Box::new(G722Encoder::new())),
            Codec::Opus(rate) => Kind::Opus(OpusEncoder::new(rate, params)?),
            Codec::L16(rate) => Kind::L16(rate),
        }))
    }

    /// The codec it was made for.
    pub const fn codec(&self) -> Codec {
        match &self.0 {
            Kind::G711(law) => Codec::G711(*law),
            Kind::G722(_) => Codec::G722,
            Kind::Opus(encoder) => Codec::Opus(encoder.rate()),
            Kind::L16(rate) => Codec::L16(*rate),
        }
    }

    /// Appends the payload of one packet that holds `pcm`, samples at [`Codec::rate`].
    ///
    /// Nothing is appended where the peer asked for DTX and `pcm` is silence that need not be sent. G.722 takes an even number of
    /// samples, Opus those of a packet time for which [`Codec::nearest_ptime`] changes nothing; other lengths are an error
    /// and leave `payload` as it was.
    pub fn encode(&mut self, pcm: &[i16], payload: &mut Vec<u8>) -> Result<(), CodecError> {
        match &mut self.0 {
            Kind::G711(law) => {
                let start = payload.len();
                payload.resize(start + pcm.len(), 0);
                g711::encode(*law, pcm, &mut payload[start..]);
            }
            Kind::G722(encoder) => encoder.encode(pcm, payload)?,
            Kind::Opus(encoder) => encoder.encode(pcm, payload)?,
            Kind::L16(_) => l16::encode(pcm, payload),
        }
        Ok(())
    }

    /// Tells it the share of our packets that the peer reports as lost, 0 to 1, so that Opus guards against it.
    ///
    /// Forward error correction is sent from 2 % on, until the loss falls below 1 %, and only to a peer that makes use of it;
    /// below that it would take bitrate from the speech for nothing.
    pub fn set_loss(&mut self, reported: f32) {
        if let Kind::Opus(encoder) = &mut self.0 {
            encoder.set_loss(reported);
        }
    }

    /// Sets how hard Opus tries, 0 to 10; 5 is what it starts with.
    ///
    /// Speech gets a little cleaner with each step. A frame of 20 ms costs at 0, 2, 5 and 9, measured on one core of 2.5 GHz: 22, 38, 54
    /// and 68 us at 8 kHz; 38, 72, 102 and 144 us at 16 kHz; 54, 92, 123 and 165 us at 24 kHz; 61, 100, 131 and 173 us at 48 kHz. Decoding
    /// costs 6 to 30 us whatever the sender chose.
    pub fn set_complexity(&mut self, complexity: u8) {
        if let Kind::Opus(encoder) = &mut self.0 {
            encoder.set_complexity(complexity);
        }
    }

    /// Forgets what it sent: the next packet begins a stream. What the peer reported is kept.
    pub fn reset(&mut self) {
        match &mut self.0 {
            Kind::G722(encoder) => **encoder = G722Encoder::new(),
            Kind::Opus(encoder) => encoder.reset(),
            Kind::G711(_) | Kind::L16(_) => {}
        }
    }
}
