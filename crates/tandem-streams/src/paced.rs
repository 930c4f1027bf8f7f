//! Speech sent back piece by piece, a little ahead of the module's playing.
//!
//! The module (jambonz' `mod_audio_fork`) plays nothing until its first buffer holds `640 * factor` samples, twice as many the
//! first time; then all of it moves to the second buffer, of which the channel takes 20 ms at each tick. `killAudio` empties
//! the second buffer, at its next tick. So:
//!
//! - A message is never shorter than the first buffer's threshold: the first buffer is empty between messages, nothing gets
//!   stuck in it, and `killAudio` silences everything.
//! - The first message of a websocket is twice as long. A greeting that waits for the websocket is that long. When nothing is
//!   said in the first 100 ms, silence is sent as the first message, so that the beginning of an answer needs no more than the
//!   usual threshold; sent at once, that silence would stand before the greeting of a call that begins with its websocket.
//! - No speech is sent in the two ticks after a `killAudio`: the module would throw it away.
//! - Speech of a model that bursts leaves at once. Of a model that speaks in real time as much as a message needs is awaited, at
//!   the cost of a first sound 60 ms later: padding the first 20 ms instead would put a hole of 60 ms into the first word.
//! - The end of an item is padded with silence only when it became known too late to send it with the message before.
//! - When the module's lock is taken, a message stays in the first buffer until the next one comes. So a message of silence
//!   follows the last one of an utterance when that has been played: else a kept end would be heard before the next answer.

use std::time::{Duration, Instant};

use tandem_call::ItemId;
use tandem_media::{Cushion, SampleRate};

use crate::{
    Dialect, StreamShape,
    ledger::Ledger,
    marks::Marks,
    message::{AudioMessage, KILL_AUDIO, write_mark},
    speech_queue::{Part, SpeechQueue},
    timeline::Timeline,
};

/// From a message to its first sample at the caller: one tick of the channel (5 to 18 ms measured).
const TICK: Duration = Duration::from_millis(20);
/// After `killAudio` the module throws away what it has at its next tick.
const HOLD_AFTER_KILL: Duration = Duration::from_millis(40);
/// Silence fills the module's first buffer when nothing is said for so long.
const PRIME_AFTER: Duration = Duration::from_millis(100);
/// A model whose first audio is no faster than real time gets so much of a cushion at once.
const SLOW_MODEL: Duration = Duration::from_millis(40);
/// Samples of the first buffer's threshold at the call's rate.
const THRESHOLD: usize = 640;
/// How far ahead of the playing is sent: a stall of the websocket, or of the call's task, of up to 160 ms is not heard.
const FORK_AHEAD: Duration = Duration::from_millis(240);
/// The same where nothing is known to silence the module: so much of the old speech is heard after a barge-in.
const STREAM_AHEAD: Duration = Duration::from_millis(100);

/// What is no louder than this may be interrupted by a zero: -40 dBFS.
const MARK_LEVEL: u16 = 328;

/// How speech is sent to one module.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rate: SampleRate,
    /// A message is of whole multiples of this many samples.
    unit: usize,
    /// Samples of the shortest message.
    least: usize,
    /// Samples of the shortest first message.
    first: usize,
    /// How far ahead of the playing is sent.
    ahead: Duration,
    /// Audio goes into text messages.
    in_text: bool,
    /// The module reads the sample -1 as a mark.
    minus_one_is_mark: bool,
}

impl Pace {
    fn of(shape: &StreamShape) -> Self {
        let rate = shape.back;
        let piece = rate.hz() / 50;
        match shape.dialect {
            Dialect::AudioForkBidirectional => {
                let factor = (shape.back.hz() / shape.codec.hz()).max(1);
                Self {
                    rate,
                    unit: factor,
                    least: THRESHOLD * factor,
                    first: 2 * THRESHOLD * factor,
                    ahead: FORK_AHEAD,
                    in_text: false,
                    minus_one_is_mark: true,
                }
            }
            Dialect::AudioStreamBase64 => Self {
                rate,
                unit: 1,
                least: 2 * piece,
                first: 2 * piece,
                ahead: STREAM_AHEAD,
                in_text: true,
                minus_one_is_mark: false,
            },
            Dialect::AudioStreamRaw | Dialect::AudioFork | Dialect::AudioStream => Self {
                rate,
                unit: 1,
                least: piece,
                first: piece,
                ahead: STREAM_AHEAD,
                in_text: false,
                minus_one_is_mark: false,
            },
        }
    }

    const fn length(&self, samples: usize) -> Duration {
        self.rate.duration_of(samples)
    }

    /// Samples of `length`, whole units.
    fn samples(&self, length: Duration) -> usize {
        let samples = length.as_micros() as usize * self.rate.hz() / 1_000_000;
        samples.next_multiple_of(self.unit)
    }
}

/// One piece to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// Audio, binary.
    Audio(&'a [u8]),
    /// Audio in a text message.
    AudioText(&'a [u8]),
    /// A text message without audio.
    Text(&'a [u8]),
}

/// Speech on its way to a module that plays what it is sent.
#[derive(Debug)]
pub(crate) struct Paced {
    /// None while no websocket is there.
    pace: Option<Pace>,
    /// What silences the module, if anything does.
    kill_text: Option<String>,
    /// The module's first message has been sent.
    is_primed: bool,
    /// When silence is sent unless something is said: to prime the module, and to push out what it may have kept.
    silence_at: Option<Instant>,
    kill_due: Option<Instant>,
    hold_until: Option<Instant>,
    /// Since when audio waits to be sent.
    waiting_since: Option<Instant>,
    /// Since when enough of it waits.
    ready_since: Option<Instant>,
    /// The item at whose end the queue ran dry, and until when it was played.
    dry: Option<(ItemId, Instant)>,
    cushion: Cushion,
    marks: Marks,
    /// When the message in `pcm` was composed that is to be sent after its mark.
    composed: Option<Instant>,
    /// When the voice in `pcm` is played, until somebody asked.
    spoken_at: Option<Instant>,
    pcm: Vec<i16>,
    parts: Vec<Part>,
    message: Vec<u8>,
    text: Vec<u8>,
}

impl Default for Paced {
    fn default() -> Self {
        Self {
            pace: None,
            kill_text: None,
            is_primed: false,
            silence_at: None,
            kill_due: None,
            hold_until: None,
            waiting_since: None,
            ready_since: None,
            dry: None,
            cushion: Cushion::default(),
            marks: Marks::default(),
            composed: None,
            spoken_at: None,
            pcm: Vec::new(),
            parts: Vec::with_capacity(8),
            message: Vec::new(),
            text: Vec::with_capacity(64),
        }
    }
}

impl Paced {
    /// A websocket is there. `stream_clear` silences the two-way `mod_audio_stream`, if anything does.
    pub(crate) fn attach(&mut self, now: Instant, shape: &StreamShape, stream_clear: Option<&str>) {
        self.dry = None;
        let is_fork = shape.dialect == Dialect::AudioForkBidirectional;
        self.pace = Some(Pace::of(shape));
        self.kill_text =
            if is_fork { Some(KILL_AUDIO.into()) } else { stream_clear.map(Into::into) };
        self.is_primed = !is_fork;
        self.silence_at = is_fork.then(|| now + PRIME_AFTER);
        (self.kill_due, self.hold_until) = (None, None);
        self.marks.begin(is_fork && shape.back == shape.codec);
        self.composed = None;
    }

    /// The websocket is gone.
    pub(crate) fn detach(&mut self) {
        self.pace = None;
        self.composed = None;
    }

    /// Audio of `item` was queued, or its end became known.
    pub(crate) fn note_queued(&mut self, now: Instant, queue: &SpeechQueue, timeline: &Timeline) {
        if queue.is_empty() {
            return;
        }
        if self.waiting_since.is_none() {
            self.cushion.decay(now);
            if let Some((item, until)) = self.dry.take()
                && queue.open_item() == Some(item)
                && now > until
            {
                self.cushion.underrun(now);
            }
            self.wait_from(now);
        }
        self.note_readiness(now, queue, timeline);
    }

    /// What is queued, if anything, may be sent from `now` on.
    pub(crate) fn go_on(&mut self, now: Instant, queue: &SpeechQueue, timeline: &Timeline) {
        self.dry = None;
        if !queue.is_empty() {
            self.wait_from(now);
            self.note_readiness(now, queue, timeline);
        }
    }

    fn wait_from(&mut self, now: Instant) {
        (self.waiting_since, self.ready_since) = (Some(now), None);
    }

    /// Whether the module can be silenced.
    pub(crate) const fn can_kill(&self) -> bool {
        self.pace.is_some() && self.kill_text.is_some()
    }

    /// Nothing is queued any more.
    pub(crate) fn forget(&mut self) {
        (self.waiting_since, self.ready_since) = (None, None);
        (self.dry, self.composed) = (None, None);
        self.silence_at = self.silence_at.filter(|_| !self.is_primed);
    }

    /// Silences the module.
    pub(crate) fn kill(&mut self, now: Instant) {
        self.kill_due = Some(now);
        self.hold_until = Some(now + HOLD_AFTER_KILL);
        self.marks.kill();
        self.composed = None;
    }

    /// The module came to the mark `name`.
    pub(crate) fn reach_mark(&mut self, now: Instant, name: &str, timeline: &mut Timeline) {
        if let Some(lateness) = self.marks.reach(now, name)
            && !timeline.is_over(now)
        {
            timeline.shift(lateness);
        }
    }

    /// The voice in the message made last, and when it is played; once.
    pub(crate) fn take_spoken(&mut self) -> Option<(Instant, SampleRate, &[i16])> {
        let rate = self.pace?.rate;
        self.spoken_at.take().map(|at| (at, rate, self.pcm.as_slice()))
    }

    /// Times the model ran dry in mid-sentence.
    pub(crate) const fn underruns(&self) -> u64 {
        self.cushion.underruns()
    }

    /// When the next piece is due.
    pub(crate) fn next_send(
        &self,
        queue: &SpeechQueue,
        timeline: &Timeline,
        paused: bool,
    ) -> Option<Instant> {
        let pace = self.pace.as_ref()?;
        let speech = (!paused).then(|| self.speech_due(pace, queue, timeline)).flatten();
        let silence = self.silence_at.filter(|_| speech.is_none() && queue.open_item().is_none());
        [self.kill_due, self.composed, speech, silence].into_iter().flatten().min()
    }

    /// The next piece, if one is due at `now`.
    pub(crate) fn poll(
        &mut self,
        now: Instant,
        queue: &mut SpeechQueue,
        ledger: &mut Ledger,
        timeline: &mut Timeline,
        paused: bool,
    ) -> Option<Piece<'_>> {
        let pace = self.pace?;
        if self.kill_due.is_some_and(|due| due <= now) {
            self.kill_due = None;
            return self.kill_text.as_ref().map(|text| Piece::Text(text.as_bytes()));
        }
        if self.composed.is_none() {
            if self.next_send(queue, timeline, paused).is_none_or(|due| due > now) {
                return None;
            }
            let is_start = timeline.is_over(now);
            self.compose(now, &pace, queue, ledger, timeline, paused);
            if is_start && self.marks.may_set() && self.bears_mark(&pace) {
                let mark = self.marks.set(now + TICK);
                write_mark(mark, &mut self.text);
                return Some(Piece::Text(&self.text));
            }
        }
        self.composed = None;
        self.write(&pace);
        Some(if pace.in_text { Piece::AudioText(&self.text) } else { Piece::Audio(&self.message) })
    }

    /// Puts the next message into `pcm`, and on the timeline.
    fn compose(
        &mut self,
        now: Instant,
        pace: &Pace,
        queue: &mut SpeechQueue,
        ledger: &mut Ledger,
        timeline: &mut Timeline,
        paused: bool,
    ) {
        self.pcm.clear();
        self.parts.clear();
        let start = timeline.begin(now + TICK);
        let least = if self.is_primed { pace.least } else { pace.first };
        if !paused && !queue.is_empty() {
            self.fill(now, start, least, pace, queue, ledger);
        }
        let spoken = self.pcm.len();
        self.pcm.resize(spoken.max(least).next_multiple_of(pace.unit), 0);
        for part in &self.parts {
            timeline.add(ledger, part.item, pace.length(part.samples));
        }
        timeline.add_silence(pace.length(self.pcm.len() - spoken));
        self.is_primed = true;
        self.composed = Some(now);
        self.spoken_at = (spoken > 0).then_some(start);
        timeline.keep(start, pace.rate, &self.pcm);
        self.silence_at =
            timeline.until().filter(|_| pace.minus_one_is_mark && !self.parts.is_empty());
        self.note_sent(now, queue, timeline);
    }

    /// Whether a mark before the message in `pcm` is not heard: the module puts a zero sample at the end of the mark's tick.
    fn bears_mark(&self, pace: &Pace) -> bool {
        let end = pace.samples(TICK);
        let around = self.pcm.get(end - 2..end + 1).unwrap_or_default();
        !self.parts.is_empty() && around.iter().all(|sample| sample.unsigned_abs() < MARK_LEVEL)
    }

    /// Takes from the queue what makes the module play until the look-ahead is full; `start` is when it will be played.
    fn fill(
        &mut self,
        now: Instant,
        start: Instant,
        least: usize,
        pace: &Pace,
        queue: &mut SpeechQueue,
        ledger: &mut Ledger,
    ) {
        let wanted = (now + pace.ahead).saturating_duration_since(start);
        let mut samples = pace.samples(wanted).max(least);
        let queued = queue.length();
        if queue.open_item().is_none() && queued < pace.length(samples + pace.least) {
            samples += pace.least; // No end too short for a message of its own.
        }
        queue.pull(ledger, pace.rate, samples, &mut self.pcm, &mut self.parts);
        if pace.minus_one_is_mark {
            for sample in self.pcm.iter_mut().filter(|sample| **sample == -1) {
                *sample = 0;
            }
        }
    }

    fn note_sent(&mut self, now: Instant, queue: &SpeechQueue, timeline: &Timeline) {
        if queue.is_empty() {
            (self.waiting_since, self.ready_since) = (None, None);
            self.dry = queue.open_item().zip(timeline.until());
        } else {
            self.wait_from(now);
            self.note_readiness(now, queue, timeline);
        }
    }

    fn note_readiness(&mut self, now: Instant, queue: &SpeechQueue, timeline: &Timeline) {
        let Some(pace) = &self.pace else { return };
        if self.ready_since.is_none()
            && (queue.open_item().is_none() || queue.length() >= self.needed(now, pace, timeline))
        {
            self.ready_since = Some(now);
        }
    }

    /// The audio that must wait before some of it is sent.
    fn needed(&self, now: Instant, pace: &Pace, timeline: &Timeline) -> Duration {
        let least = pace.length(if self.is_primed { pace.least } else { pace.first });
        if !timeline.is_over(now) {
            return least;
        }
        let waited = self.waiting_since.map_or(Duration::ZERO, |since| now - since);
        let slow = if waited > least / 2 { SLOW_MODEL } else { Duration::ZERO };
        least + self.cushion.length().max(slow)
    }

    /// When speech is sent, if some waits.
    fn speech_due(&self, pace: &Pace, queue: &SpeechQueue, timeline: &Timeline) -> Option<Instant> {
        if queue.is_empty() {
            return None;
        }
        let since = self.waiting_since?;
        let until = timeline.until().unwrap_or(since);
        let at_last = || {
            let least = pace.length(if self.is_primed { pace.least } else { pace.first });
            (since + least + self.cushion.length().max(SLOW_MODEL) + TICK).max(until)
        };
        let ready = self.ready_since.unwrap_or_else(at_last);
        let room = until.checked_sub(pace.ahead - pace.length(pace.least)).unwrap_or(since);
        Some(ready.max(room).max(self.hold_until.unwrap_or(since)))
    }

    fn write(&mut self, pace: &Pace) {
        self.message.clear();
        self.message.resize(self.pcm.len() * 2, 0);
        for (bytes, sample) in self.message.chunks_exact_mut(2).zip(&self.pcm) {
            bytes.copy_from_slice(&sample.to_le_bytes());
        }
        if pace.in_text {
            AudioMessage::StreamAudio.write(pace.rate, None, &self.message, &mut self.text);
        }
    }
}
