//! One call's frame path, driven on virtual time: all of it but the sockets.

use std::{
    rc::Rc,
    sync::Arc,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use tandem_attendant::Voice;
use tandem_call::{
    AgentSpec, Greeting, LateResults, MediaLeg, Patience, ToolTexts, TransferRoutes,
};
use tandem_exchange::{CallCore, CoreConfig, Prompts};
use tandem_media::{AudioFormat, Codec, Law, Ptime, SampleRate};

use crate::{
    Extras,
    fork::{self, ForkCall},
    listener::Listener,
    phone::{self, PhoneCall},
    wire::{OnePath, Wire},
};

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
    /// Gemini Live behind a caller who speaks G.722: 16 kHz PCM passes up, 24 kHz becomes 16 kHz down.
    G722,
    /// The same behind a caller who speaks Opus, coded at 16 kHz.
    Opus16k,
    /// The same, encoded with the least effort, as on a worker that falls behind.
    Opus16kEased,
    /// The same behind a caller who speaks linear PCM at 16 kHz.
    L16,
    /// Gemini Live behind a FreeSWITCH fork at 16 kHz: PCM passes untouched up, 24 kHz becomes 16 kHz down.
    ForkGemini,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::OpenAiPcmu,
        Self::OpenAiPcma,
        Self::OpenAiPcm24k,
        Self::Gemini,
        Self::G722,
        Self::L16,
        Self::Opus16k,
        Self::Opus16kEased,
        Self::ForkGemini,
    ];

    /// Those of G.711 and G.722, with which everything is tried that may be switched on.
    pub const PROBED: [Self; 4] = [Self::OpenAiPcmu, Self::OpenAiPcm24k, Self::Gemini, Self::G722];

    /// Whether a frame may cost so many nanoseconds up and down.
    pub fn affords(self, up: f64, down: f64) -> bool {
        match self {
            Self::Opus16k => up + down <= 240_000.0, // 1.2 % of a core.
            Self::Opus16kEased => up + down <= 140_000.0,
            _ => up.max(down) <= 10_000.0,
        }
    }

    /// How hard Opus tries, where it is not the usual.
    pub(crate) const fn complexity(self) -> Option<u8> {
        match self {
            Self::Opus16kEased => Some(0),
            _ => None,
        }
    }

    /// Bytes on the wire for 20 ms of the model's voice, at least.
    pub const fn downlink_bytes(self) -> usize {
        match self {
            Self::OpenAiPcmu
            | Self::OpenAiPcma
            | Self::OpenAiPcm24k
            | Self::Gemini
            | Self::G722 => 172,
            Self::Opus16k | Self::Opus16kEased => 20,
            Self::L16 => 652,
            Self::ForkGemini => 640,
        }
    }

    /// What a table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OpenAiPcmu => "mu-law, OpenAI takes it as it is",
            Self::OpenAiPcma => "A-law, OpenAI takes it as it is",
            Self::OpenAiPcm24k => "mu-law, OpenAI at 24 kHz",
            Self::Gemini => "mu-law, Gemini at 16/24 kHz",
            Self::G722 => "G.722, Gemini at 16/24 kHz",
            Self::Opus16k => "Opus at 16 kHz, Gemini",
            Self::Opus16kEased => "  at complexity 0",
            Self::L16 => "L16 at 16 kHz, Gemini",
            Self::ForkGemini => "fork at 16 kHz, Gemini",
        }
    }

    /// How the caller's telephone encodes.
    pub(crate) const fn codec(self) -> Codec {
        match self {
            Self::OpenAiPcma => Codec::PCMA,
            Self::OpenAiPcmu | Self::OpenAiPcm24k | Self::Gemini | Self::ForkGemini => Codec::PCMU,
            Self::G722 => Codec::G722,
            Self::Opus16k | Self::Opus16kEased => Codec::Opus(SampleRate::Hz16000),
            Self::L16 => Codec::L16(SampleRate::Hz16000),
        }
    }

    /// What the model takes and what it gives.
    pub(crate) const fn formats(self) -> (AudioFormat, AudioFormat) {
        match self {
            Self::OpenAiPcmu => (AudioFormat::G711(Law::Mu), AudioFormat::G711(Law::Mu)),
            Self::OpenAiPcma => (AudioFormat::G711(Law::A), AudioFormat::G711(Law::A)),
            Self::OpenAiPcm24k => {
                (AudioFormat::Pcm16(SampleRate::Hz24000), AudioFormat::Pcm16(SampleRate::Hz24000))
            }
            Self::Gemini
            | Self::G722
            | Self::Opus16k
            | Self::Opus16kEased
            | Self::L16
            | Self::ForkGemini => {
                (AudioFormat::Pcm16(SampleRate::Hz16000), AudioFormat::Pcm16(SampleRate::Hz24000))
            }
        }
    }
}

/// What is around a call and none of it: its caller's audio, the model's messages, the prompts that all calls share.
pub struct Surroundings {
    pub(crate) variant: Variant,
    pub(crate) extras: Extras,
    pub(crate) messages: Rc<[Vec<u8>]>,
    pub(crate) prompts: Arc<Prompts>,
}

impl Surroundings {
    /// Those of calls of `variant` with `extras`.
    pub fn new(variant: Variant, extras: Extras) -> Self {
        let messages = match variant {
            Variant::ForkGemini => fork::messages(),
            _ => phone::datagrams(variant.codec()),
        };
        let prompts = Arc::new(Prompts::new(&Voice::tone(Duration::from_millis(50))));
        Self { variant, extras, messages, prompts }
    }
}

/// A whole call without its sockets: leg, machine, dialect, joined by the call's core.
pub struct FramePath {
    now: Instant,
    wire: Rc<Wire>,
    call: Call,
    listener: Option<Listener>,
}

enum Call {
    Phone(Box<PhoneCall>),
    Fork(Box<ForkCall>),
}

/// Does the same with the core of either call.
macro_rules! with_core {
    ($call:expr, $core:ident => $done:expr) => {
        match $call {
            Call::Phone(call) => {
                let $core = &mut call.core;
                $done
            }
            Call::Fork(call) => {
                let $core = &mut call.core;
                $done
            }
        }
    };
}

impl FramePath {
    /// Frames of one pass.
    pub const FRAMES: usize = 4_096;

    /// A call that is answered and whose model speaks.
    pub fn new(around: &Surroundings) -> Self {
        let (now, variant) = (Instant::now(), around.variant);
        let wire = Rc::new(Wire::default());
        let mut call = match variant {
            Variant::ForkGemini => Call::Fork(Box::new(ForkCall::new(now, around, &wire))),
            _ => Call::Phone(Box::new(PhoneCall::new(now, around, &wire))),
        };
        wire.open(variant);
        with_core!(&mut call, core => open(core, now));
        match &mut call {
            Call::Phone(call) => call.answer(now, variant.codec()),
            Call::Fork(call) => call.answer(now),
        }
        let recorded = around.extras.recording;
        let listener =
            with_core!(&mut call, core => recorded.then(|| Listener::begin(now, core.leg())));
        wire.speak(variant);
        Self { now, wire, call, listener }
    }

    /// Moves the clock to the next packet time and does what is due then; so do the caller and the writer of the recording.
    pub fn advance(&mut self) {
        self.now += Ptime::MS20.duration();
        with_core!(&mut self.call, core => core.handle_timeout(self.now));
        if let Call::Phone(call) = &mut self.call {
            call.prepare();
        }
        if let Some(listener) = &mut self.listener {
            listener.listen();
        }
    }

    /// One datagram or message of the caller to one message for the model. Returns the message's bytes.
    pub fn uplink(&mut self) -> usize {
        self.wire.up.set(0);
        match &mut self.call {
            Call::Phone(call) => call.receive(self.now),
            Call::Fork(call) => call.receive(self.now),
        }
        with_core!(&mut self.call, core => core.note_written(self.now));
        self.wire.up.get()
    }

    /// One message of the model with 20 ms of audio to what is sent to the caller: one datagram, or a fork's message of
    /// 40 ms every other time. Returns the bytes.
    pub fn downlink(&mut self) -> usize {
        let mut cx = Context::from_waker(Waker::noop());
        with_core!(&mut self.call, core => while core.poll_session(&mut cx, self.now) {});
        let sent = match &mut self.call {
            Call::Phone(call) => call.transmit(self.now),
            Call::Fork(call) => call.transmit(self.now),
        };
        with_core!(&mut self.call, core => core.after_transmit(self.now));
        sent
    }
}

/// The core of a call over `leg`.
pub(crate) fn core<L: MediaLeg>(
    now: Instant,
    leg: L,
    around: &Surroundings,
    wire: &Rc<Wire>,
) -> CallCore<L> {
    CallCore::new(
        now,
        CoreConfig {
            agent: agent(),
            patience: Patience::default(),
            leg,
            models: Box::new(OnePath { variant: around.variant, wire: Rc::clone(wire) }),
            prompts: Arc::clone(&around.prompts),
            annotates: false,
        },
    )
}

/// Lets the session open.
fn open<L: MediaLeg>(core: &mut CallCore<L>, now: Instant) {
    let mut cx = Context::from_waker(Waker::noop());
    while core.poll_session(&mut cx, now) {}
    while core.poll_output().is_some() {}
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
        tool_texts: ToolTexts::default(),
        phrases: Vec::new(),
        voicemail_message: None,
        late_results: LateResults::Discard,
        transfer: TransferRoutes::default(),
        transfer_timeout: Duration::from_secs(30),
        end_call_drain: Duration::from_secs(2),
        end_call_cancel_on_speech: false,
        interruption: tandem_call::Interruption::default(),
        max_silence: long,
        max_duration: long,
        transcription: true,
        models: vec!["bench".into()],
    }
}

/// Something like speech, from the sample `start` on: a buzz that comes and goes.
pub(crate) fn buzz(start: usize, rate: SampleRate, pcm: &mut [i16]) {
    for (n, sample) in pcm.iter_mut().enumerate() {
        let at = (start + n) as f32 * 8_000.0 / rate.hz() as f32;
        let pulse = (at % 73.0) / 73.0;
        let loudness = ((at / 9_000.0).sin().abs() * 9_000.0) + 200.0;
        *sample = ((0.5 - pulse) * loudness) as i16;
    }
}
