//! The model's side of the path: a dialect as a session, over a websocket that is none.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use tandem_call::{
    Capabilities, ItemId, ModelCommand, ModelEvent, ModelSession, ModelSink, SessionSpec,
    UplinkStats,
};
use tandem_exchange::{ModelOpener, OpenSession, Opened};
use tandem_media::{AudioFormat, Ptime};
use tandem_models::{
    GeminiLive, ModelDialect, ModelSettings, OpenAiRealtime, Outbox, Provider, Verdict,
};

use crate::Variant;

/// The wall clock of the path.
pub(crate) const UNIX_NOW: Duration = Duration::from_secs(1_790_000_000);

/// What stands between the session and the vendor in place of a websocket.
#[derive(Default)]
pub(crate) struct Wire {
    /// Bytes of the messages that went up.
    pub(crate) up: Cell<usize>,
    /// Messages that come down.
    pub(crate) down: RefCell<VecDeque<Rc<[u8]>>>,
}

impl Wire {
    /// What comes until audio may.
    pub(crate) fn open(&self, variant: Variant) {
        self.down
            .borrow_mut()
            .extend(opening(variant).iter().map(|message| Rc::from(message.as_bytes())));
    }

    /// Audio comes with each frame from now on.
    pub(crate) fn speak(&self, variant: Variant) {
        self.down.borrow_mut().push_back(delta(variant, variant.formats().1).into());
    }
}

/// Opens the one session of the path.
pub(crate) struct OnePath {
    pub(crate) variant: Variant,
    pub(crate) wire: Rc<Wire>,
}

impl ModelOpener for OnePath {
    fn open(&mut self, now: Instant, _wanted: OpenSession) -> Opened {
        let (input, output) = self.variant.formats();
        let session: Box<dyn ModelSession> = match dialect(self.variant, input, output, now) {
            Dialect::OpenAi(dialect) => Box::new(WireSession::new(*dialect, now, &self.wire)),
            Dialect::Gemini(dialect) => Box::new(WireSession::new(*dialect, now, &self.wire)),
        };
        Opened { session, input }
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

/// What a server says until audio may come.
fn opening(variant: Variant) -> &'static [&'static str] {
    match variant {
        Variant::Gemini
        | Variant::G722
        | Variant::Opus16k
        | Variant::Opus16kEased
        | Variant::L16
        | Variant::ForkGemini => &[r#"{"setupComplete":{}}"#],
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
        Variant::Gemini
        | Variant::G722
        | Variant::Opus16k
        | Variant::Opus16kEased
        | Variant::L16
        | Variant::ForkGemini => {
            Dialect::Gemini(Box::new(GeminiLive::new(settings(Provider::GeminiLive), spec)))
        }
        Variant::OpenAiPcmu | Variant::OpenAiPcma | Variant::OpenAiPcm24k => Dialect::OpenAi(
            Box::new(OpenAiRealtime::new(settings(Provider::OpenAiRealtime), spec, now, UNIX_NOW)),
        ),
    }
}

/// A model's message with 20 ms of audio in it.
fn delta(variant: Variant, output: AudioFormat) -> Vec<u8> {
    let bytes: Vec<u8> =
        (0..output.bytes_per(Ptime::MS20.duration())).map(|n| (n * 37 % 251) as u8).collect();
    let base64 = base64_simd::STANDARD.encode_to_string(&bytes);
    match variant {
        Variant::Gemini
        | Variant::G722
        | Variant::Opus16k
        | Variant::Opus16kEased
        | Variant::L16
        | Variant::ForkGemini => format!(
            r#"{{"serverContent":{{"modelTurn":{{"parts":[{{"inlineData":{{"mimeType":"audio/pcm;rate=24000","data":"{base64}"}}}}]}}}}}}"#
        ),
        Variant::OpenAiPcmu | Variant::OpenAiPcma | Variant::OpenAiPcm24k => format!(
            r#"{{"type":"response.output_audio.delta","event_id":"event_9","response_id":"resp_1","item_id":"item_1","output_index":0,"content_index":0,"delta":"{base64}"}}"#
        ),
    }
    .into_bytes()
}
