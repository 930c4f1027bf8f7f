//! A leg, its module and a clock that only tests move.

use std::time::{Duration, Instant};

use tandem_call::{Cut, ItemId, LegEvent, MediaLeg, Origin};
use tandem_media::{AudioFormat, SampleRate};
use tandem_streams::{Channels, Dialect, ForkLeg, ForkLegConfig, LegOrder, Message, StreamShape};

use crate::module::Module;

pub(crate) const PCM16: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz16000);
pub(crate) const PCM24: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);
pub(crate) const PCM8: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz8000);

pub(crate) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A frame for the model, owned.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) at: Duration,
    pub(crate) audio: Vec<u8>,
    pub(crate) speech: bool,
    pub(crate) origin: Origin,
}

pub(crate) struct World {
    start: Instant,
    pub(crate) now: Instant,
    pub(crate) leg: ForkLeg,
    pub(crate) module: Option<Module>,
    /// From the start to the module's first tick.
    phase: Duration,
    pub(crate) frames: Vec<Frame>,
    pub(crate) events: Vec<(Duration, LegEvent)>,
    pub(crate) orders: Vec<(Duration, LegOrder)>,
    /// Texts that were sent.
    pub(crate) texts: Vec<(Duration, String)>,
    /// Binary messages that were sent.
    pub(crate) messages: Vec<(Duration, Vec<u8>)>,
    pub(crate) closes: usize,
}

impl World {
    pub(crate) fn new(uplink: AudioFormat) -> Self {
        let start = Instant::now();
        let config = ForkLegConfig {
            rate: SampleRate::Hz16000,
            uplink,
            media_timeout: Duration::from_secs(30),
            stream_clear: None,
        };
        Self {
            start,
            now: start,
            leg: ForkLeg::new(start, config),
            module: None,
            phase: millis(7),
            frames: Vec::new(),
            events: Vec::new(),
            orders: Vec::new(),
            texts: Vec::new(),
            messages: Vec::new(),
            closes: 0,
        }
    }

    /// With a websocket of jambonz' module.
    pub(crate) fn forked(rate: SampleRate, back: SampleRate, codec: SampleRate) -> Self {
        let mut world = Self::new(AudioFormat::Pcm16(rate));
        world.fork(rate, back, codec);
        world
    }

    pub(crate) fn fork(&mut self, rate: SampleRate, back: SampleRate, codec: SampleRate) {
        self.module = Some(Module::new(back.hz(), codec.hz()));
        self.phase = self.at() + millis(7);
        self.attach(StreamShape { rate, back, codec, ..shape(Dialect::AudioForkBidirectional) });
    }

    pub(crate) fn attach(&mut self, shape: StreamShape) {
        self.leg.attach(self.now, shape);
        self.drain();
    }

    pub(crate) fn at(&self) -> Duration {
        self.now - self.start
    }

    /// Lets time pass, a millisecond at a time.
    pub(crate) fn run(&mut self, length: Duration) {
        let end = self.now + length;
        while self.now < end {
            self.now += millis(1);
            let at = self.at();
            if at >= self.phase && (at - self.phase).as_millis().is_multiple_of(20) {
                let notices = self.module.as_mut().map(Module::tick).unwrap_or_default();
                for notice in notices {
                    self.leg.handle_text(self.now, notice.as_bytes()).expect("a notice");
                }
            }
            if self.leg.poll_timeout().is_some_and(|due| due <= self.now) {
                self.leg.handle_timeout(self.now);
            }
            self.drain();
            assert!(self.leg.poll_timeout().is_none_or(|due| due > self.now));
        }
    }

    pub(crate) fn play(&mut self, item: u64, format: AudioFormat, audio: &[u8]) {
        self.leg.play(self.now, ItemId(item), format, audio);
        self.drain();
    }

    pub(crate) fn end_item(&mut self, item: u64) {
        self.leg.end_item(self.now, ItemId(item));
        self.drain();
    }

    /// Audio of one item that comes at once.
    pub(crate) fn say(&mut self, item: u64, format: AudioFormat, audio: &[u8]) {
        self.leg.play(self.now, ItemId(item), format, audio);
        self.end_item(item);
    }

    /// Audio of one item that comes in pieces of 20 ms in real time.
    pub(crate) fn say_slowly(&mut self, item: u64, format: AudioFormat, audio: &[u8]) {
        for piece in audio.chunks(format.bytes_per(millis(20))) {
            self.play(item, format, piece);
            self.run(millis(20));
        }
        self.end_item(item);
    }

    pub(crate) fn clear(&mut self) -> Vec<Cut> {
        let before = self.events.len();
        self.leg.clear(self.now);
        self.drain();
        self.events[before..]
            .iter()
            .find_map(|(_, event)| match event {
                LegEvent::PlayoutCleared { cut } => Some(cut.clone()),
                _ => None,
            })
            .expect("a clear is answered")
    }

    pub(crate) fn hear(&mut self, message: &[u8]) {
        self.leg.handle_binary(self.now, message).expect("a message");
        self.drain();
    }

    /// Takes all that the leg has.
    pub(crate) fn drain(&mut self) {
        let at = self.at();
        while self.leg.next_send().is_some_and(|due| due <= self.now) {
            match self.leg.poll_message(self.now).expect("what is due is there") {
                Message::Binary(bytes) => {
                    if let Some(module) = &mut self.module {
                        module.binary(bytes);
                    }
                    self.messages.push((at, bytes.to_vec()));
                }
                Message::Text(text) => {
                    if let Some(module) = &mut self.module {
                        module.text(text);
                    }
                    let text = std::str::from_utf8(text).expect("UTF-8");
                    self.texts.push((at, text.to_owned()));
                }
                Message::Close => self.closes += 1,
            }
        }
        assert!(self.leg.poll_message(self.now).is_none(), "what is there is due");
        while let Some(frame) = self.leg.poll_uplink() {
            self.frames.push(Frame {
                at,
                audio: frame.audio.to_vec(),
                speech: frame.speech,
                origin: frame.origin,
            });
        }
        while let Some(event) = self.leg.poll_event() {
            self.events.push((at, event));
        }
        while let Some(order) = self.leg.poll_order() {
            self.orders.push((at, order));
        }
    }

    /// What the caller heard, from the module's first tick on.
    pub(crate) fn heard(&self) -> &[i16] {
        &self.module.as_ref().expect("a module").heard
    }

    /// When the sample at `place` is heard.
    pub(crate) fn time_of(&self, place: usize, codec: SampleRate) -> Duration {
        self.phase + codec.duration_of(place)
    }

    pub(crate) fn started(&self, item: u64) -> Option<Duration> {
        self.find(&LegEvent::PlayoutStarted { item: ItemId(item) })
    }

    pub(crate) fn drained(&self, item: u64) -> Option<Duration> {
        self.find(&LegEvent::PlayoutDrained { item: ItemId(item) })
    }

    fn find(&self, wanted: &LegEvent) -> Option<Duration> {
        self.events.iter().rfind(|(_, event)| event == wanted).map(|(at, _)| *at)
    }

    pub(crate) fn uplink(&self) -> Vec<u8> {
        self.frames.iter().flat_map(|frame| frame.audio.iter().copied()).collect()
    }
}

pub(crate) fn shape(dialect: Dialect) -> StreamShape {
    StreamShape {
        dialect,
        rate: SampleRate::Hz16000,
        channels: Channels::Mono,
        back: SampleRate::Hz16000,
        codec: SampleRate::Hz8000,
    }
}

/// Samples that are all different and none of them 0 or -1, of at most 500 ms at 48 kHz; `from` tells sounds apart.
pub(crate) fn numbers(from: i16, count: usize) -> Vec<i16> {
    (0..count).map(|n| from + i16::try_from(n).expect("few samples")).collect()
}

pub(crate) fn bytes(pcm: &[i16]) -> Vec<u8> {
    pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

pub(crate) fn samples(bytes: &[u8]) -> Vec<i16> {
    bytes.chunks_exact(2).map(|it| i16::from_le_bytes([it[0], it[1]])).collect()
}

/// A tone that sounds like speech to an energy detector.
pub(crate) fn tone(rate: SampleRate, length: Duration) -> Vec<i16> {
    let count = (length.as_micros() as usize * rate.hz()) / 1_000_000;
    let angle = std::f64::consts::TAU * 440.0 / rate.hz() as f64;
    (0..count).map(|n| (9_000.0 * (angle * n as f64 + 0.5).sin()) as i16).collect()
}

/// Stretches of sound in `heard`, as places: pauses of less than `gap` samples belong to them.
pub(crate) fn sounds(heard: &[i16], gap: usize) -> Vec<(usize, usize)> {
    let mut sounds: Vec<(usize, usize)> = Vec::new();
    for (place, _) in heard.iter().enumerate().filter(|(_, sample)| sample.unsigned_abs() > 1) {
        match sounds.last_mut() {
            Some((_, end)) if place - *end <= gap => *end = place + 1,
            _ => sounds.push((place, place + 1)),
        }
    }
    sounds
}
