//! The media of one fork call, whole: websocket messages and model audio in, frames for the model, messages and events out.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::{FilePlayback, ItemId, LegEvent, LegQuality, MediaLeg, Tap, UplinkFrame};
use tandem_media::{AudioFormat, SampleRate, VoiceSettings};

use crate::{
    Message, StreamError, StreamShape, TextNote,
    downlink::Downlink,
    notice::{self, Notice},
    paced::Piece,
    uplink::Uplink,
};

/// Events that may wait to be polled; more are dropped and counted.
const MAX_EVENTS: usize = 256;

/// What a leg is created with.
#[derive(Debug, Clone)]
pub struct ForkLegConfig {
    /// The rate at which the caller's audio will most likely come.
    pub rate: SampleRate,
    /// What the model takes.
    pub uplink: AudioFormat,
    /// After so long without audio, or without a websocket, [`LegEvent::MediaTimeout`] is reported, unless the leg is paused.
    pub media_timeout: Duration,
    /// What is sent to the two-way `mod_audio_stream` to throw away the audio that it has; none where nothing is known to do it.
    pub stream_clear: Option<String>,
}

/// What is asked of the switch, beside what goes over the websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegOrder {
    /// Stop what is being played on the channel, and what waits behind it.
    BreakPlayback,
}

/// What a binary message was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BinaryNote {
    /// The caller's audio.
    Audio,
    /// Without a byte: the module shuts the fork down gracefully. The leg plays nothing more and asks for the close frame that
    /// the module waits for.
    Shutdown,
}

/// What the leg threw away, or did not understand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForkCounters {
    /// Binary messages with audio.
    pub messages_received: u64,
    /// Messages with audio that were sent.
    pub messages_sent: u64,
    /// Times a websocket was attached.
    pub attached: u64,
    /// Texts that were not understood.
    pub malformed: u64,
    /// Blocks of 20 ms that were dropped because the uplink would have run ahead of the call.
    pub uplink_surplus: u64,
    /// Uplink frames dropped because nobody polled.
    pub uplink_overflow: u64,
    /// Bytes of model audio that the full playout queue did not take.
    pub playout_refused: u64,
    /// Times the model ran dry in the middle of an item.
    pub underruns: u64,
    /// Files that the switch did not play.
    pub files_failed: u64,
    /// Events dropped because nobody polled.
    pub events_dropped: u64,
}

/// The media of one call, over the websocket of a FreeSWITCH fork, as a machine without socket or clock.
///
/// It outlives its websocket: [`attach`](Self::attach) and [`detach`](Self::detach) tell it of each one, and audio played while
/// none is there waits. What arrives goes to [`handle_binary`](Self::handle_binary) and [`handle_text`](Self::handle_text);
/// [`poll_message`](Self::poll_message) gives what is to be sent, at the latest at [`next_send`](MediaLeg::next_send).
///
/// What the caller has heard is known by the clock: the module plays what it is sent 20 ms later and in real time, and tells
/// where it is by marks where its rates allow that. Barging in on jambonz' module is a `killAudio`, which also breaks whatever
/// application plays on the channel: a dialplan that keeps its channel alive by an endless `playback` ends with it.
#[derive(Debug)]
pub struct ForkLeg {
    media_timeout: Duration,
    shape: Option<StreamShape>,
    uplink: Uplink,
    downlink: Downlink,
    events: VecDeque<LegEvent>,
    /// The last sign of life of the module's audio, or when it began to be expected.
    heard_at: Instant,
    is_paused: bool,
    is_closed: bool,
    close_due: Option<Instant>,
    counters: ForkCounters,
}

impl ForkLeg {
    /// A leg without a websocket.
    pub fn new(now: Instant, config: ForkLegConfig) -> Self {
        let ForkLegConfig { rate, uplink, media_timeout, stream_clear } = config;
        Self {
            media_timeout,
            shape: None,
            uplink: Uplink::new(uplink, rate),
            downlink: Downlink::new(stream_clear),
            events: VecDeque::with_capacity(16),
            heard_at: now,
            is_paused: false,
            is_closed: false,
            close_due: None,
            counters: ForkCounters::default(),
        }
    }

    /// How voices are treated from now on: noise, level, echo. Nothing is until this is called.
    ///
    /// A background in the agent's pauses is not for this leg, for nothing is sent in them; the switch has its own ways. The echo
    /// of what the switch plays from files is not known.
    pub fn set_voice(&mut self, voice: &VoiceSettings) {
        self.uplink.set_voice(voice);
    }

    /// A websocket is there, the first one or another one of the same channel.
    pub fn attach(&mut self, now: Instant, shape: StreamShape) {
        if self.is_closed {
            return;
        }
        self.counters.attached += 1;
        self.shape = Some(shape);
        self.close_due = None;
        self.heard_at = now;
        self.uplink.attach(now, shape.rate, shape.channels);
        self.downlink.attach(now, &shape, &mut self.events);
        self.bound_events();
    }

    /// The websocket is gone. The model hears silence meanwhile.
    pub fn detach(&mut self, now: Instant) {
        if self.shape.take().is_some() {
            self.heard_at = now;
            self.close_due = None;
            self.downlink.detach();
        }
    }

    /// Whether a websocket is there.
    pub const fn is_attached(&self) -> bool {
        self.shape.is_some()
    }

    /// What the attached websocket speaks.
    pub const fn shape(&self) -> Option<&StreamShape> {
        self.shape.as_ref()
    }

    /// Takes a binary message: a piece of the caller's audio, cut anywhere.
    pub fn handle_binary(
        &mut self,
        now: Instant,
        message: &[u8],
    ) -> Result<BinaryNote, StreamError> {
        if self.shape.is_none() || self.is_closed {
            return Err(StreamError::Detached);
        }
        self.heard_at = now;
        if message.is_empty() {
            self.close_due.get_or_insert(now);
            self.downlink.detach();
            return Ok(BinaryNote::Shutdown);
        }
        self.counters.messages_received += 1;
        self.note_played();
        self.uplink.take(now, message, &mut self.events);
        self.bound_events();
        Ok(BinaryNote::Audio)
    }

    /// Takes a text message: marks, digits, and whatever others send through the module, several objects at once.
    ///
    /// An error was counted already; the call goes on.
    pub fn handle_text(&mut self, now: Instant, text: &[u8]) -> Result<TextNote, StreamError> {
        if self.shape.is_none() || self.is_closed {
            return Err(StreamError::Detached);
        }
        let mut note = TextNote::default();
        let Self { downlink, events, counters, .. } = self;
        let read = notice::read(text, |notice| match notice {
            Notice::Mark { name, cleared } => {
                note.marks += 1;
                if !cleared {
                    downlink.reach_mark(now, &name);
                }
            }
            Notice::Digit(digit) => {
                note.digits += 1;
                events.push_back(LegEvent::Digit(digit));
            }
            Notice::PlayDone { id } => {
                note.playbacks += 1;
                if let Ok(id) = id.parse() {
                    let stopped = FilePlayback::Stopped { id, broken: false };
                    downlink.handle_playback(now, &stopped, events);
                }
            }
            Notice::Other => note.other += 1,
        });
        counters.malformed += u64::from(read.is_err());
        self.bound_events();
        read.map(|()| note)
    }

    /// Takes what the switch tells of a file it plays for the leg.
    pub fn playback(&mut self, now: Instant, playback: &FilePlayback) {
        self.downlink.handle_playback(now, playback, &mut self.events);
        self.bound_events();
    }

    /// The next message due at `now`.
    pub fn poll_message(&mut self, now: Instant) -> Option<Message<'_>> {
        self.note_played();
        self.shape?;
        if self.close_due.is_some_and(|due| due <= now) {
            self.close_due = None;
            self.downlink.detach();
            return Some(Message::Close);
        }
        let (sent, events) = (&mut self.counters.messages_sent, &mut self.events);
        self.downlink.settle(now, events);
        Some(match self.downlink.poll(now)? {
            Piece::Audio(bytes) => {
                *sent += 1;
                Message::Binary(bytes)
            }
            Piece::AudioText(text) => {
                *sent += 1;
                Message::Text(text)
            }
            Piece::Text(text) => Message::Text(text),
        })
    }

    /// The next thing to order of the switch.
    pub fn poll_order(&mut self) -> Option<LegOrder> {
        self.downlink.take_break().then_some(LegOrder::BreakPlayback)
    }

    /// How much of `item` the caller has heard as far as was reported, if it is among the last 64.
    pub fn heard(&self, item: ItemId) -> Option<Duration> {
        self.downlink.heard(item)
    }

    /// Audio that waits to be sent.
    pub fn queued(&self) -> Duration {
        self.downlink.queued()
    }

    /// What was thrown away or not understood, so far.
    pub fn counters(&self) -> ForkCounters {
        ForkCounters {
            uplink_surplus: self.uplink.surplus(),
            uplink_overflow: self.uplink.overflow(),
            playout_refused: self.downlink.refused(),
            underruns: self.downlink.underruns(),
            files_failed: self.downlink.failed_files(),
            ..self.counters
        }
    }

    /// Lets the uplink know what comes back when the caller listens by loudspeaker.
    fn note_played(&mut self) {
        if let Some((at, rate, pcm)) = self.downlink.take_spoken() {
            self.uplink.note_played(at, rate, pcm);
        }
    }

    /// When the media time-out strikes; none while nobody need send.
    fn media_deadline(&self) -> Option<Instant> {
        (!self.is_paused).then(|| self.heard_at + self.media_timeout)
    }

    fn bound_events(&mut self) {
        let surplus = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.truncate(MAX_EVENTS);
        self.counters.events_dropped += surplus as u64;
    }
}

impl MediaLeg for ForkLeg {
    fn format(&self) -> AudioFormat {
        AudioFormat::Pcm16(self.uplink.rate())
    }

    fn set_uplink(&mut self, format: AudioFormat) {
        if format != self.uplink.format() {
            self.uplink.set_format(format);
        }
    }

    fn poll_uplink(&mut self) -> Option<UplinkFrame<'_>> {
        self.uplink.poll()
    }

    fn play(&mut self, now: Instant, item: ItemId, format: AudioFormat, audio: &[u8]) {
        if !self.is_closed {
            self.downlink.play(now, item, format, audio);
        }
    }

    fn end_item(&mut self, now: Instant, item: ItemId) {
        self.downlink.end_item(now, item);
    }

    fn clear(&mut self, now: Instant) {
        self.downlink.clear(now, &mut self.events);
        self.bound_events();
    }

    fn pause(&mut self, now: Instant, paused: bool) {
        if self.is_paused && !paused {
            self.heard_at = now;
        }
        self.is_paused = paused;
        self.downlink.pause(now, paused, &mut self.events);
        self.bound_events();
    }

    fn duck(&mut self, now: Instant, ducked: bool) {
        self.downlink.duck(now, ducked, &mut self.events);
        self.bound_events();
    }

    fn tap(&mut self, heard: Box<dyn Tap>, sent: Box<dyn Tap>) {
        self.uplink.set_tap(heard);
        self.downlink.set_tap(sent);
    }

    fn poll_event(&mut self) -> Option<LegEvent> {
        self.events.pop_front()
    }

    fn next_send(&self) -> Option<Instant> {
        self.shape?;
        let speech = if self.is_closed { None } else { self.downlink.next_send() };
        [self.close_due, speech].into_iter().flatten().min()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.is_closed {
            return None;
        }
        [self.uplink.deadline(), self.downlink.deadline(), self.media_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.is_closed {
            return;
        }
        self.uplink.fill(now, &mut self.events);
        self.downlink.settle(now, &mut self.events);
        if self.media_deadline().is_some_and(|deadline| deadline <= now) {
            self.heard_at = now; // Told again after as long again: before the answer it means nothing.
            self.events.push_back(LegEvent::MediaTimeout);
        }
        self.bound_events();
    }

    fn quality(&self) -> LegQuality {
        LegQuality {
            codec: format!("L16/{}", self.uplink.rate().hz()),
            packets_received: self.counters.messages_received,
            packets_sent: self.counters.messages_sent,
            ..LegQuality::default()
        }
    }

    fn live_mos(&self) -> Option<f64> {
        None // The loss is on the far side of the switch.
    }

    fn close(&mut self, now: Instant) {
        if !self.is_closed {
            self.is_closed = true;
            self.close_due = self.shape.map(|_| now);
        }
    }
}
