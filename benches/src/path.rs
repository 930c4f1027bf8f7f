//! One call's frame path, driven on virtual time: all of it but the sockets.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tandem_attendant::Voice;
use tandem_call::{
    AgentSpec, Capabilities, Greeting, ItemId, LateResults, ModelCommand, ModelEvent, ModelSession,
    ModelSink, Patience, SessionSpec, SignalEvent, TransferRoutes, UplinkStats,
};
use tandem_exchange::{CallCore, CoreConfig, ModelOpener, OpenSession, Opened, Prompts};
use tandem_media::{AudioFormat, Law, Ptime, SampleRate};
use tandem_models::{
    GeminiLive, ModelDialect, ModelSettings, OpenAiRealtime, Outbox, Provider, Verdict,
};
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

/// A whole call without its sockets: leg, machine, dialect, joined by the call's core.
pub struct FramePath {
    now: Instant,
    core: CallCore,
    wire: Rc<Wire>,
    peer: SocketAddr,
    datagrams: Vec<Vec<u8>>,
    next_datagram: usize,
}

/// What stands between the session and the vendor in place of a websocket.
struct Wire {
    /// Bytes of the messages that went up.
    up: Cell<usize>,
    /// Messages that come down.
    down: RefCell<VecDeque<Rc<[u8]>>>,
}

impl FramePath {
    /// Frames of one pass.
    pub const FRAMES: usize = 4_096;

    /// A call that is answered and whose model speaks.
    pub fn new(variant: Variant) -> Self {
        let now = Instant::now();
        let (input, output) = variant.formats();
        let wire = Rc::new(Wire { up: Cell::new(0), down: RefCell::default() });
        let opener = OnePath { variant, input, output, wire: Rc::clone(&wire) };
        let leg = LegConfig {
            ssrc: 1,
            first_sequence: 1,
            first_timestamp: 0,
            cname: "bench".into(),
            law: variant.law(),
            uplink: input,
            media_timeout: Duration::from_secs(60),
            seed: 1,
        };
        let core = CallCore::new(
            now,
            CoreConfig {
                agent: agent(),
                patience: Patience::default(),
                leg: RtpLeg::new(now, UNIX_NOW, leg),
                models: Box::new(opener),
                prompts: Arc::new(Prompts::new(&Voice::tone(Duration::from_millis(50)))),
                annotates: false,
            },
        );
        let peer = SocketAddr::from(([127, 0, 0, 1], 4_000));
        let datagrams = datagrams(variant.law());
        let mut path = Self { now, core, wire, peer, datagrams, next_datagram: 0 };
        path.answer(variant);
        path
    }

    fn answer(&mut self, variant: Variant) {
        self.deliver(opening(variant));
        let params = MediaParams {
            remote_rtp: self.peer,
            remote_rtcp: self.peer,
            rtcp_mux: true,
            law: variant.law(),
            payload_type: if variant.law() == Law::Mu { 0 } else { 8 },
            telephone_event: Some(101),
            ptime: Ptime::MS20,
            direction: Direction::SendRecv,
            latching: Latching::Off,
        };
        self.core.handle_media(self.now, params);
        self.core.handle_signal(self.now, SignalEvent::Answered);
        let delta: Rc<[u8]> = delta(variant, variant.formats().1).into();
        self.wire.down.borrow_mut().push_back(delta); // It stays on the wire and comes with each frame.
    }

    fn deliver(&mut self, messages: &[&str]) {
        self.wire
            .down
            .borrow_mut()
            .extend(messages.iter().map(|message| Rc::from(message.as_bytes())));
        let mut cx = Context::from_waker(Waker::noop());
        while self.core.poll_session(&mut cx, self.now) {}
        while self.core.poll_output().is_some() {}
    }

    /// Moves the clock to the next packet time and does what is due then.
    pub fn advance(&mut self) {
        self.now += Ptime::MS20.duration();
        self.core.handle_timeout(self.now);
    }

    /// One datagram of the caller to one message for the model. Returns the message's bytes.
    pub fn uplink(&mut self) -> usize {
        let index = self.next_datagram % self.datagrams.len();
        let datagram = &mut self.datagrams[index];
        stamp(datagram, self.next_datagram);
        self.next_datagram += 1;
        self.wire.up.set(0);
        self.core.handle_rtp(self.now, self.peer, datagram).expect("the datagram is good");
        self.core.note_written(self.now);
        self.wire.up.get()
    }

    /// One message of the model with 20 ms of audio to one packet for the caller. Returns the datagram's bytes.
    pub fn downlink(&mut self) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        while self.core.poll_session(&mut cx, self.now) {}
        let mut sent = 0;
        while let Some(transmit) = self.core.poll_transmit(self.now) {
            sent += transmit.bytes.len();
        }
        self.core.after_transmit(self.now);
        sent
    }
}

/// Opens the one session of the path.
struct OnePath {
    variant: Variant,
    input: AudioFormat,
    output: AudioFormat,
    wire: Rc<Wire>,
}

impl ModelOpener for OnePath {
    fn open(&mut self, now: Instant, _wanted: OpenSession) -> Opened {
        let session: Box<dyn ModelSession> =
            match dialect(self.variant, self.input, self.output, now) {
                Dialect::OpenAi(dialect) => Box::new(WireSession::new(*dialect, now, &self.wire)),
                Dialect::Gemini(dialect) => Box::new(WireSession::new(*dialect, now, &self.wire)),
            };
        Opened { session, input: self.input }
    }
}

/// A dialect as a session, over the wire that is none.
struct WireSession<D> {
    dialect: D,
    wire: Rc<Wire>,
    message: BytesMut,
    out: Outbox,
    delivered: Option<Instant>,
    stats: UplinkStats,
}

impl<D: ModelDialect> WireSession<D> {
    fn new(mut dialect: D, now: Instant, wire: &Rc<Wire>) -> Self {
        let mut out = Outbox::default();
        dialect.open(now, &mut out);
        Self {
            dialect,
            wire: Rc::clone(wire),
            message: BytesMut::with_capacity(8_192),
            out,
            delivered: None,
            stats: UplinkStats::default(),
        }
    }
}

impl<D: ModelDialect> ModelSession for WireSession<D> {
    fn capabilities(&self) -> &Capabilities {
        self.dialect.capabilities()
    }

    fn send_audio(&mut self, _now: Instant, audio: &[u8]) {
        self.message.clear();
        self.message.reserve(8_192);
        self.dialect.encode_audio(audio, &mut self.message);
        self.wire.up.set(self.wire.up.get() + self.message.len());
        self.stats.frames_sent += 1;
        drop(self.message.split().freeze()); // What a websocket does: it takes the bytes and lets them go.
    }

    fn send(&mut self, now: Instant, command: ModelCommand) {
        self.dialect.command(now, command, &mut self.out);
    }

    /// Delivers what is on the wire once at each instant.
    fn poll(&mut self, _cx: &mut Context<'_>, now: Instant, sink: &mut dyn ModelSink) -> Poll<()> {
        if self.delivered == Some(now) {
            return Poll::Pending;
        }
        self.delivered = Some(now);
        for message in self.wire.down.borrow().iter() {
            self.dialect.handle_message(now, message, &mut self.out, sink).expect("a good message");
        }
        if matches!(self.out.take_verdict(), Some(Verdict::Ready)) {
            self.wire.down.borrow_mut().clear();
            sink.event(ModelEvent::Ready);
        }
        while self.out.next_message().is_some() {}
        while let Some(event) = self.out.next_event() {
            sink.event(event);
        }
        Poll::Ready(())
    }

    fn is_closed(&self) -> bool {
        true
    }

    fn uplink_stats(&self) -> UplinkStats {
        self.stats
    }
}

enum Dialect {
    OpenAi(Box<OpenAiRealtime>),
    Gemini(Box<GeminiLive>),
}

/// An agent that waits until it is spoken to, and never ends the call.
fn agent() -> AgentSpec {
    let long = Duration::from_secs(1_000_000);
    AgentSpec {
        agent_id: "bench".into(),
        system_prompt: String::new(),
        language: "en".into(),
        voice: None,
        temperature: None,
        greeting: Greeting::Silent,
        tools: Vec::new(),
        tool_timeout: Duration::from_secs(9),
        late_results: LateResults::Discard,
        transfer: TransferRoutes::default(),
        transfer_timeout: Duration::from_secs(30),
        end_call_drain: Duration::from_secs(2),
        end_call_cancel_on_speech: false,
        max_silence: long,
        max_duration: long,
        transcription: true,
        models: vec!["bench".into()],
    }
}

/// What a server says until audio may come.
fn opening(variant: Variant) -> &'static [&'static str] {
    match variant {
        Variant::Gemini => &[r#"{"setupComplete":{}}"#],
        Variant::OpenAiPcmu => &[
            r#"{"type":"session.created","event_id":"e1","session":{"type":"realtime","id":"s"}}"#,
            r#"{"type":"session.updated","event_id":"e2","session":{"type":"realtime","audio":{"input":{"format":{"type":"audio/pcmu"}},"output":{"format":{"type":"audio/pcmu"}}}}}"#,
            CREATED,
            ADDED,
        ],
        Variant::OpenAiPcma => &[
            r#"{"type":"session.created","event_id":"e1","session":{"type":"realtime","id":"s"}}"#,
            r#"{"type":"session.updated","event_id":"e2","session":{"type":"realtime","audio":{"input":{"format":{"type":"audio/pcma"}},"output":{"format":{"type":"audio/pcma"}}}}}"#,
            CREATED,
            ADDED,
        ],
        Variant::OpenAiPcm24k => &[
            r#"{"type":"session.created","event_id":"e1","session":{"type":"realtime","id":"s"}}"#,
            r#"{"type":"session.updated","event_id":"e2","session":{"type":"realtime","audio":{"input":{"format":{"type":"audio/pcm","rate":24000}},"output":{"format":{"type":"audio/pcm","rate":24000}}}}}"#,
            CREATED,
            ADDED,
        ],
    }
}

const CREATED: &str = r#"{"type":"response.created","event_id":"e3","response":{"id":"resp_1","status":"in_progress"}}"#;
const ADDED: &str = r#"{"type":"response.output_item.added","event_id":"e4","response_id":"resp_1","output_index":0,"item":{"id":"item_1","object":"realtime.item","type":"message","status":"in_progress","role":"assistant","content":[]}}"#;

/// The wall clock of the path.
const UNIX_NOW: Duration = Duration::from_secs(1_790_000_000);

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
        Variant::OpenAiPcmu | Variant::OpenAiPcma | Variant::OpenAiPcm24k => Dialect::OpenAi(
            Box::new(OpenAiRealtime::new(settings(Provider::OpenAiRealtime), spec, now, UNIX_NOW)),
        ),
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
