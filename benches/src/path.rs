//! One call's frame path, driven on virtual time.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tandem_call::{ItemId, ModelEvent, ModelSink, SessionSpec};
use tandem_media::{AudioFormat, Law, Ptime, SampleRate};
use tandem_models::{GeminiLive, ModelDialect, ModelSettings, OpenAiRealtime, Outbox, Provider};
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};

/// Which model and format the path leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// OpenAI Realtime, mu-law both ways: payloads pass untouched.
    OpenAiPcmu,
    /// OpenAI Realtime, A-law both ways: payloads pass untouched.
    OpenAiPcma,
    /// OpenAI Realtime, 24 kHz PCM both ways.
    OpenAiPcm24k,
    /// Gemini Live: 16 kHz PCM up, 24 kHz PCM down.
    Gemini,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::OpenAiPcmu, Self::OpenAiPcma, Self::OpenAiPcm24k, Self::Gemini];

    /// What a table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiPcmu => "openai pcmu pass-through",
            Self::OpenAiPcma => "openai pcma pass-through",
            Self::OpenAiPcm24k => "openai pcm 24k",
            Self::Gemini => "gemini pcm 16k up 24k down",
        }
    }

    const fn law(self) -> Law {
        match self {
            Self::OpenAiPcma => Law::A,
            Self::OpenAiPcmu | Self::OpenAiPcm24k | Self::Gemini => Law::Mu,
        }
    }

    const fn formats(self) -> (AudioFormat, AudioFormat) {
        match self {
            Self::OpenAiPcmu => (AudioFormat::G711(Law::Mu), AudioFormat::G711(Law::Mu)),
            Self::OpenAiPcma => (AudioFormat::G711(Law::A), AudioFormat::G711(Law::A)),
            Self::OpenAiPcm24k => {
                (AudioFormat::Pcm16(SampleRate::Hz24000), AudioFormat::Pcm16(SampleRate::Hz24000))
            }
            Self::Gemini => {
                (AudioFormat::Pcm16(SampleRate::Hz16000), AudioFormat::Pcm16(SampleRate::Hz24000))
            }
        }
    }
}

/// A leg and a dialect joined as the call's core joins them, without sockets.
pub struct FramePath {
    now: Instant,
    leg: RtpLeg,
    dialect: Dialect,
    peer: SocketAddr,
    datagrams: Vec<Vec<u8>>,
    next_datagram: usize,
    message: BytesMut,
    delta: Vec<u8>,
    out: Outbox,
    opened: bool,
}

enum Dialect {
    OpenAi(Box<OpenAiRealtime>),
    Gemini(Box<GeminiLive>),
}

impl FramePath {
    /// Frames of one pass through the prepared datagrams.
    pub const FRAMES: usize = 4_096;

    /// A path with its media negotiated.
    pub fn new(variant: Variant) -> Self {
        let now = Instant::now();
        let (input, output) = variant.formats();
        let peer = SocketAddr::from(([127, 0, 0, 1], 4_000));
        let config = LegConfig {
            ssrc: 1,
            first_sequence: 1,
            first_timestamp: 0,
            cname: "bench".into(),
            uplink: input,
            media_timeout: Duration::from_secs(60),
            seed: 1,
        };
        let mut leg = RtpLeg::new(now, Duration::from_secs(1_790_000_000), config);
        leg.apply(
            now,
            MediaParams {
                remote_rtp: peer,
                remote_rtcp: peer,
                rtcp_mux: true,
                law: variant.law(),
                payload_type: if variant.law() == Law::Mu { 0 } else { 8 },
                telephone_event: Some(101),
                ptime: Ptime::MS20,
                direction: Direction::SendRecv,
                latching: Latching::Off,
            },
        );
        Self {
            now,
            leg,
            dialect: dialect(variant, input, output, now),
            peer,
            datagrams: datagrams(variant.law()),
            next_datagram: 0,
            message: BytesMut::with_capacity(8_192),
            delta: delta(variant, output),
            out: Outbox::default(),
            opened: false,
        }
    }

    /// Moves the clock to the next packet time.
    pub fn advance(&mut self) {
        self.now += Ptime::MS20.duration();
        self.leg.handle_timeout(self.now);
    }

    /// One datagram of the caller to one message for the model. Returns the message's bytes.
    pub fn uplink(&mut self) -> usize {
        let index = self.next_datagram % self.datagrams.len();
        let datagram = &mut self.datagrams[index];
        stamp(datagram, self.next_datagram);
        self.next_datagram += 1;
        self.leg.handle_rtp(self.now, self.peer, datagram).expect("the datagram is good");
        let mut written = 0;
        while let Some(frame) = self.leg.poll_uplink() {
            self.message.clear();
            self.message.reserve(8_192);
            match &mut self.dialect {
                Dialect::OpenAi(dialect) => dialect.encode_audio(frame.audio, &mut self.message),
                Dialect::Gemini(dialect) => dialect.encode_audio(frame.audio, &mut self.message),
            }
            written += self.message.len();
            drop(self.message.split().freeze()); // What a websocket does: it takes the bytes and lets them go.
        }
        while self.leg.poll_event().is_some() {}
        written
    }

    /// One message of the model with 20 ms of audio to one packet for the caller. Returns the datagram's bytes.
    pub fn downlink(&mut self) -> usize {
        if !self.opened {
            self.open();
        }
        let mut sink = Sink { leg: &mut self.leg, now: self.now };
        match &mut self.dialect {
            Dialect::OpenAi(dialect) => {
                dialect
                    .handle_message(self.now, &self.delta, &mut self.out, &mut sink)
                    .expect("a good message");
            }
            Dialect::Gemini(dialect) => {
                dialect
                    .handle_message(self.now, &self.delta, &mut self.out, &mut sink)
                    .expect("a good message");
            }
        }
        let mut sent = 0;
        while let Some(transmit) = self.leg.poll_transmit(self.now) {
            sent += transmit.bytes.len();
        }
        while self.leg.poll_event().is_some() {}
        sent
    }

    /// Brings the dialect to where audio may come.
    fn open(&mut self) {
        self.opened = true;
        let mut sink = Sink { leg: &mut self.leg, now: self.now };
        let Dialect::OpenAi(dialect) = &mut self.dialect else {
            if let Dialect::Gemini(dialect) = &mut self.dialect {
                dialect.open(self.now, &mut self.out);
                dialect
                    .handle_message(self.now, br#"{"setupComplete":{}}"#, &mut self.out, &mut sink)
                    .expect("a good message");
            }
            return;
        };
        dialect.open(self.now, &mut self.out);
        for message in [
            r#"{"type":"session.created","event_id":"e1","session":{"type":"realtime","id":"s"}}"#,
            r#"{"type":"response.created","event_id":"e2","response":{"id":"resp_1","status":"in_progress"}}"#,
            r#"{"type":"response.output_item.added","event_id":"e3","response_id":"resp_1","output_index":0,"item":{"id":"item_1","object":"realtime.item","type":"message","status":"in_progress","role":"assistant","content":[]}}"#,
        ] {
            dialect
                .handle_message(self.now, message.as_bytes(), &mut self.out, &mut sink)
                .expect("a good message");
        }
    }
}

struct Sink<'a> {
    leg: &'a mut RtpLeg,
    now: Instant,
}

impl ModelSink for Sink<'_> {
    fn audio(&mut self, item: ItemId, format: AudioFormat, bytes: &[u8]) {
        self.leg.play(self.now, item, format, bytes);
    }

    fn event(&mut self, event: ModelEvent) {
        drop(event);
    }
}

fn dialect(variant: Variant, input: AudioFormat, output: AudioFormat, now: Instant) -> Dialect {
    let spec = SessionSpec {
        instructions: String::new(),
        voice: None,
        language: "en".into(),
        temperature: None,
        tools: Vec::new(),
        input,
        output,
        transcription: true,
        history: Vec::new(),
        first_item: ItemId(1),
    };
    let settings = |provider| Arc::new(ModelSettings::new(provider, String::from("key").into()));
    match variant {
        Variant::Gemini => {
            Dialect::Gemini(Box::new(GeminiLive::new(settings(Provider::GeminiLive), spec)))
        }
        Variant::OpenAiPcmu | Variant::OpenAiPcma | Variant::OpenAiPcm24k => {
            let unix_now = Duration::from_secs(1_790_000_000);
            Dialect::OpenAi(Box::new(OpenAiRealtime::new(
                settings(Provider::OpenAiRealtime),
                spec,
                now,
                unix_now,
            )))
        }
    }
}

/// Packets of something like speech: a buzz that comes and goes.
fn datagrams(law: Law) -> Vec<Vec<u8>> {
    let mut pcm = [0_i16; 160];
    let mut payload = [0_u8; 160];
    (0..256_usize)
        .map(|packet| {
            for (n, sample) in pcm.iter_mut().enumerate() {
                let at = packet * 160 + n;
                let pulse = (at % 73) as f32 / 73.0;
                let loudness = ((at as f32 / 9_000.0).sin().abs() * 9_000.0) + 200.0;
                *sample = ((0.5 - pulse) * loudness) as i16;
            }
            tandem_media::g711::encode(law, &pcm, &mut payload);
            let mut datagram =
                vec![0x80, if law == Law::Mu { 0 } else { 8 }, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
            datagram.extend_from_slice(&payload);
            debug_assert!(RtpPacket::parse(&datagram).is_ok());
            datagram
        })
        .collect()
}

/// Writes sequence number and timestamp of packet `n`.
fn stamp(datagram: &mut [u8], n: usize) {
    datagram[2..4].copy_from_slice(&(n as u16).to_be_bytes());
    datagram[4..8].copy_from_slice(&((n * 160) as u32).to_be_bytes());
}

/// A model's message with 20 ms of audio in it.
fn delta(variant: Variant, output: AudioFormat) -> Vec<u8> {
    let bytes: Vec<u8> =
        (0..output.bytes_per(Ptime::MS20.duration())).map(|n| (n * 37 % 251) as u8).collect();
    let base64 = base64_simd::STANDARD.encode_to_string(&bytes);
    match variant {
        Variant::Gemini => format!(
            r#"{{"serverContent":{{"modelTurn":{{"parts":[{{"inlineData":{{"mimeType":"audio/pcm;rate=24000","data":"{base64}"}}}}]}}}}}}"#
        ),
        Variant::OpenAiPcmu | Variant::OpenAiPcma | Variant::OpenAiPcm24k => format!(
            r#"{{"type":"response.output_audio.delta","event_id":"event_9","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"{base64}"}}"#
        ),
    }
    .into_bytes()
}
