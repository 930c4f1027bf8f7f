//! Puts what goes to the peer into RTP packets of one stream.

use tandem_media::{AudioFormat, Codec, Encoder, OpusParams, Ptime};

use crate::{HEADER_LEN, RtpPacket, TelephoneEvent};

/// The largest packet of Opus (RFC 6716 §3.2.1), and what is more than any other of ours.
const LARGEST_OPUS: usize = 1_275;
/// 60 ms of G.711 or G.722.
const LONGEST_NARROW: usize = 480;

/// The stream of one leg: its SSRC and sequence, and the encoder of its audio.
#[derive(Debug)]
pub(crate) struct Sender {
    ssrc: u32,
    sequence: u16,
    codec: Codec,
    opus: OpusParams,
    /// None for G.711, which is queued as it is sent, and where libopus had no memory.
    encoder: Option<Encoder>,
    loss: f32,
    complexity: Option<u8>,
    pcm: Vec<i16>,
    payload: Vec<u8>,
    packet: Vec<u8>,
    packets: u64,
    octets: u64,
}

impl Sender {
    pub(crate) fn new(ssrc: u32, sequence: u16, codec: Codec) -> Self {
        let mut sender = Self {
            ssrc,
            sequence,
            codec,
            opus: OpusParams::DEFAULT,
            encoder: None,
            loss: 0.0,
            complexity: None,
            pcm: Vec::new(),
            payload: Vec::new(),
            packet: Vec::new(),
            packets: 0,
            octets: 0,
        };
        sender.begin(codec, OpusParams::DEFAULT);
        sender
    }

    /// Encodes with `codec` from now on, and as `opus` asks for; an encoder that suits both goes on.
    pub(crate) fn set_codec(&mut self, codec: Codec, opus: OpusParams) {
        if self.codec != codec || matches!(codec, Codec::Opus(_)) && self.opus != opus {
            self.begin(codec, opus);
        }
    }

    /// The peer missed this share of the last packets, 0.0 to 1.0.
    pub(crate) fn set_loss(&mut self, loss: f32) {
        self.loss = loss;
        if let Some(encoder) = &mut self.encoder {
            encoder.set_loss(loss);
        }
    }

    /// How hard Opus tries, 0 to 10.
    pub(crate) fn set_complexity(&mut self, complexity: u8) {
        if self.complexity != Some(complexity) {
            self.complexity = Some(complexity);
            if let Some(encoder) = &mut self.encoder {
                encoder.set_complexity(complexity);
            }
        }
    }

    /// Makes a packet of `frame`, audio in the codec's format. False when there is none to send: the encoder leaves the silence
    /// out, or there is no encoder.
    pub(crate) fn audio(
        &mut self,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
        frame: &[u8],
    ) -> bool {
        self.payload.clear();
        match self.codec.format() {
            AudioFormat::G711(_) => self.payload.extend_from_slice(frame),
            format @ AudioFormat::Pcm16(_) => {
                format.read(frame, &mut self.pcm);
                if let Some(encoder) = &mut self.encoder
                    && encoder.encode(&self.pcm, &mut self.payload).is_err()
                {
                    self.payload.clear();
                }
            }
        }
        if self.payload.is_empty() {
            return false;
        }
        self.write(marker, payload_type, timestamp);
        true
    }

    /// Makes a packet of a digit.
    pub(crate) fn event(
        &mut self,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
        event: TelephoneEvent,
    ) {
        self.payload.clear();
        self.payload.extend_from_slice(&event.to_bytes());
        self.write(marker, payload_type, timestamp);
    }

    /// The packet made last.
    pub(crate) fn packet(&self) -> &[u8] {
        &self.packet
    }

    pub(crate) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub(crate) const fn packets(&self) -> u64 {
        self.packets
    }

    pub(crate) const fn octets(&self) -> u64 {
        self.octets
    }

    fn begin(&mut self, codec: Codec, opus: OpusParams) {
        (self.codec, self.opus) = (codec, opus);
        let room = match codec {
            Codec::G711(_) | Codec::G722 => LONGEST_NARROW,
            Codec::Opus(_) => LARGEST_OPUS,
            Codec::L16(rate) => 2 * rate.samples_per(Ptime::MS20),
        };
        self.payload.clear();
        self.payload.reserve(room);
        self.packet.clear();
        self.packet.reserve(HEADER_LEN + room);
        self.encoder = match codec {
            Codec::G711(_) => None,
            Codec::G722 | Codec::Opus(_) | Codec::L16(_) => Encoder::new(codec, &opus).ok(),
        };
        if let Some(encoder) = &mut self.encoder {
            encoder.set_loss(self.loss);
            if let Some(complexity) = self.complexity {
                encoder.set_complexity(complexity);
            }
        }
    }

    fn write(&mut self, marker: bool, payload_type: u8, timestamp: u32) {
        let packet = RtpPacket {
            marker,
            payload_type,
            sequence: self.sequence,
            timestamp,
            ssrc: self.ssrc,
            csrc: &[],
            extension: None,
            payload: &self.payload,
            padding: 0,
        };
        self.packet.clear();
        packet.write(&mut self.packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.octets += self.payload.len() as u64;
    }
}
