//! The way up: the caller's samples become frames for the model, and the stream keeps time when none come.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::{LegEvent, Origin, Tap, UplinkFrame};
use tandem_media::{
    Activity, AudioFormat, Conditioner, FrameQueue, Ptime, Resampler, SampleRate, SpeechPause,
    SpeechPauses, VoiceActivity, VoiceSettings, g711,
};

use crate::Channels;

/// Silence goes up when audio is overdue by this much.
const PATIENCE: Duration = Duration::from_millis(60);
/// How far the uplink may run ahead of the call: audio beyond it is surplus.
///
/// A model tells time by the samples it was given. After a backlog sent up whole (all that the module kept while the handshake
/// ran, or while a socket was not read) it would take the caller's pauses, the ends of turns and the place of a barge-in for
/// later than they were, until the call ends. So the newest 100 ms are kept, and silence is dropped before speech.
const MAX_LEAD: Duration = Duration::from_millis(100);
/// Silence is surplus from here on, so that the lead a backlog left is given back in the caller's next pause.
const FULL_FOR_SILENCE: Duration = Duration::from_millis(40);
/// Behind by more than this, a whole thread stood still; the past is not made up.
const MAX_LAG: Duration = Duration::from_secs(1);
/// The block that is judged, kept or dropped as a whole.
const BLOCK: Duration = Ptime::MS20.duration();
/// A message up to this long is one frame.
const LONGEST_FRAME: Duration = Duration::from_millis(60);
/// Modules may be told to gather audio in messages of up to this length; longer ones are backlog.
const LONGEST_USUAL: Duration = Duration::from_millis(500);
/// Below this mean square nothing is speech: -45 dBFS of a full-scale sine.
const QUIET: f32 = 16_978.0;

/// The uplink of one leg.
#[derive(Debug)]
pub(crate) struct Uplink {
    format: AudioFormat,
    rate: SampleRate,
    channels: Channels,
    resampler: Option<Resampler>,
    activity: VoiceActivity,
    pauses: SpeechPauses,
    voice: VoiceSettings,
    /// Makes the voice better before it goes up, where that is asked for.
    conditioner: Option<Conditioner>,
    /// Hears what goes up, as it came.
    tap: Option<Box<dyn Tap>>,
    queue: FrameQueue<Frame>,
    /// The beginning of a sample that was split between two messages.
    carry: [u8; 4],
    carried: usize,
    pcm: Vec<i16>,
    wide: Vec<i16>,
    /// The stream's end on the call's time line; none before it starts.
    covered_until: Option<Instant>,
    /// Length of the last message, and of those that come one after the other.
    last: Duration,
    usual: Duration,
    /// Silence was sent up in place of audio since the last message.
    is_filling: bool,
    surplus: u64,
}

/// A frame without its bytes.
#[derive(Debug, Clone, Copy)]
struct Frame {
    format: AudioFormat,
    speech: bool,
    arrival: Instant,
    origin: Origin,
}

/// A message as samples of the caller.
#[derive(Debug, Clone, Copy)]
struct Samples<'a> {
    /// The sample that began in the message before.
    first: Option<i16>,
    bytes: &'a [u8],
    channels: Channels,
}

impl Samples<'_> {
    fn count(&self) -> usize {
        usize::from(self.first.is_some()) + self.bytes.len() / (2 * self.channels.count())
    }

    /// Puts the samples from `start` to `end` into `pcm`.
    fn read(&self, start: usize, end: usize, pcm: &mut Vec<i16>) {
        pcm.clear();
        let before = usize::from(self.first.is_some());
        if start < before && start < end {
            pcm.extend(self.first);
        }
        let size = 2 * self.channels.count();
        let bytes =
            &self.bytes[start.saturating_sub(before) * size..end.saturating_sub(before) * size];
        match self.channels {
            Channels::Mono | Channels::Mixed => {
                pcm.extend(bytes.as_chunks::<2>().0.iter().map(|it| i16::from_le_bytes(*it)));
            }
            Channels::Stereo => {
                let frames = bytes.as_chunks::<4>().0.iter();
                pcm.extend(frames.map(|&[low, high, _, _]| i16::from_le_bytes([low, high])));
            }
        }
    }
}

impl Uplink {
    /// An uplink for a model that takes `format`; `rate` is what will most likely come.
    pub(crate) fn new(format: AudioFormat, rate: SampleRate) -> Self {
        let mut uplink = Self {
            format,
            rate,
            channels: Channels::Mono,
            resampler: resampler(rate, format),
            activity: VoiceActivity::new(rate),
            pauses: SpeechPauses::default(),
            voice: VoiceSettings::default(),
            conditioner: None,
            tap: None,
            queue: FrameQueue::new(),
            carry: [0; 4],
            carried: 0,
            pcm: Vec::new(),
            wide: Vec::new(),
            covered_until: None,
            last: BLOCK,
            usual: BLOCK,
            is_filling: false,
            surplus: 0,
        };
        uplink.make_room();
        uplink
    }

    /// Frames are of `format` from now on.
    pub(crate) fn set_format(&mut self, format: AudioFormat) {
        self.format = format;
        self.resampler = resampler(self.rate, format);
        self.make_room();
    }

    /// Room for a pause that a message ends just before silence was due, and for the message.
    fn make_room(&mut self) {
        let longest = |rate: SampleRate| 3 * rate.samples_per(Ptime::nearest(60));
        self.pcm.clear();
        self.pcm.reserve(longest(self.rate));
        if let Some(resampler) = &self.resampler {
            self.wide.clear();
            self.wide.reserve(longest(resampler.to()));
        }
    }

    pub(crate) const fn format(&self) -> AudioFormat {
        self.format
    }

    /// How the caller's voice is treated, from now on.
    pub(crate) fn set_voice(&mut self, voice: &VoiceSettings) {
        self.activity.guard_against_echo(voice.echo_guard);
        self.conditioner = Conditioner::new(self.rate, voice);
        self.voice = voice.clone();
    }

    /// From now on `tap` hears the caller, and the silence that stands for him.
    pub(crate) fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(tap);
    }

    /// The module was sent `pcm`, which it plays from `at` on.
    pub(crate) fn note_played(&mut self, at: Instant, rate: SampleRate, pcm: &[i16]) {
        self.activity.played(at, rate, pcm);
    }

    /// Samples per second of what comes.
    pub(crate) const fn rate(&self) -> SampleRate {
        self.rate
    }

    /// A websocket is there; with the first one time begins.
    pub(crate) fn attach(&mut self, now: Instant, rate: SampleRate, channels: Channels) {
        if rate != self.rate {
            self.rate = rate;
            self.resampler = resampler(rate, self.format);
            self.activity.set_rate(rate);
            self.conditioner = Conditioner::new(rate, &self.voice);
            self.make_room();
        }
        self.channels = channels;
        self.carried = 0;
        (self.last, self.usual) = (BLOCK, BLOCK);
        self.covered_until.get_or_insert(now);
    }

    pub(crate) fn poll(&mut self) -> Option<UplinkFrame<'_>> {
        let (audio, Frame { format, speech, arrival, origin }) = self.queue.pop()?;
        Some(UplinkFrame { audio, format, speech, arrival, origin })
    }

    /// Blocks of 20 ms dropped because the uplink would have run ahead of the call.
    pub(crate) const fn surplus(&self) -> u64 {
        self.surplus
    }

    /// Frames dropped because nobody polled.
    pub(crate) const fn overflow(&self) -> u64 {
        self.queue.dropped()
    }

    /// When silence is due, unless a message comes.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.covered_until.map(|covered| covered + self.usual + PATIENCE)
    }

    /// Takes the next bytes of the stream.
    pub(crate) fn take(&mut self, now: Instant, message: &[u8], events: &mut VecDeque<LegEvent>) {
        let (first, bytes) = self.join(message);
        let samples = Samples { first, bytes, channels: self.channels };
        let count = samples.count();
        if count == 0 {
            return;
        }
        self.forget_the_past(now);
        let length = self.rate.duration_of(count);
        self.bridge(now, length, events);
        self.learn(length);
        let step = self.rate.samples_per(Ptime::MS20);
        let allowance = self.usual.saturating_sub(BLOCK);
        let lead = self.lead(now);
        let excess = (lead + length).saturating_sub(MAX_LEAD + allowance + self.behind(now));
        if excess.is_zero() && length <= LONGEST_FRAME && lead <= FULL_FOR_SILENCE + allowance {
            samples.read(0, count, &mut self.pcm);
            let is_silent = is_filler(self.rate, &self.pcm);
            if is_silent || !self.pcm.chunks_exact(step).any(|it| is_filler(self.rate, it)) {
                self.push(now, now, is_silent, events);
                return;
            }
        }
        let surplus =
            (excess.as_nanos().div_ceil(BLOCK.as_nanos()) as usize).min(count.div_ceil(step));
        let mut quiet = 0;
        if surplus > 0 {
            for start in (0..count).step_by(step) {
                samples.read(start, count.min(start + step), &mut self.pcm);
                quiet += usize::from(is_quiet(&self.pcm));
            }
        }
        let (mut quiet_left, mut loud_left) = (surplus.min(quiet), surplus.saturating_sub(quiet));
        for start in (0..count).step_by(step) {
            let end = count.min(start + step);
            samples.read(start, end, &mut self.pcm);
            let is_quiet = is_quiet(&self.pcm);
            let left = if is_quiet { &mut quiet_left } else { &mut loud_left };
            if *left > 0 {
                *left -= 1;
                self.surplus += 1;
                continue;
            }
            let is_full = self.lead(now) > FULL_FOR_SILENCE + allowance;
            if is_full && is_quiet && !self.activity.is_speech() {
                self.surplus += 1;
                continue;
            }
            let is_silent = is_filler(self.rate, &self.pcm);
            let age = self.rate.duration_of(count - end);
            self.push(now, now.checked_sub(age).unwrap_or(now), is_silent, events);
        }
    }

    /// After a standstill of the whole process nothing makes up for it.
    fn forget_the_past(&mut self, now: Instant) {
        if self.behind(now) > MAX_LAG
            && let Some(recent) = now.checked_sub(PATIENCE)
        {
            self.covered_until = Some(recent);
        }
    }

    /// Sends up what is overdue at `now`. Not while messages wait to be taken: what they hold is late, not missing.
    pub(crate) fn fill(&mut self, now: Instant, events: &mut VecDeque<LegEvent>) {
        self.forget_the_past(now);
        while self.deadline().is_some_and(|deadline| deadline <= now) {
            self.is_filling = true;
            self.push_silence(now, BLOCK, events);
        }
    }

    /// Sends up the silence between what was sent up and a message of `length`, after a pause.
    fn bridge(&mut self, now: Instant, length: Duration, events: &mut VecDeque<LegEvent>) {
        if std::mem::take(&mut self.is_filling) {
            let gap = self.behind(now).saturating_sub(length);
            if gap >= Duration::from_millis(1) {
                self.push_silence(now, gap, events);
            }
        }
    }

    /// Takes note of how long messages are: two of a length in a row are the usual one.
    fn learn(&mut self, length: Duration) {
        if length == self.last && length <= LONGEST_USUAL {
            self.usual = length.max(BLOCK);
        }
        self.last = length;
    }

    fn push_silence(&mut self, now: Instant, length: Duration, events: &mut VecDeque<LegEvent>) {
        let samples = (length.as_micros() as usize * self.rate.hz()) / 1_000_000;
        self.pcm.clear();
        self.pcm.resize(samples, 0);
        let end = self.covered_until.map_or(now, |covered| (covered + length).min(now));
        self.push(now, end, true, events);
    }

    /// Sends up what is in `pcm`, whose end was spoken at `end`.
    fn push(
        &mut self,
        now: Instant,
        end: Instant,
        is_silent: bool,
        events: &mut VecDeque<LegEvent>,
    ) {
        if is_silent {
            self.pcm.fill(0);
        }
        if let (Some(tap), Some(covered)) = (&mut self.tap, self.covered_until) {
            tap.take_pcm(covered, self.rate, &self.pcm);
        }
        let length = self.rate.duration_of(self.pcm.len());
        self.covered_until = self.covered_until.map(|covered| covered + length);
        let activity = self.activity.process_at(self.covered_until.unwrap_or(end), &self.pcm);
        let age = now.saturating_duration_since(end);
        events.extend(activity.map(|activity| match activity {
            Activity::Started => LegEvent::SpeechStarted,
            Activity::Stopped { silence } => LegEvent::SpeechStopped { ago: silence + age },
        }));
        let pause = self.pauses.note(self.activity.is_speech(), self.activity.quiet());
        events.extend(pause.map(|pause| match pause {
            SpeechPause::Began { quiet } => LegEvent::SpeechPaused { ago: quiet + age },
            SpeechPause::Ended => LegEvent::SpeechResumed,
        }));
        let origin = if is_silent { Origin::Silence } else { Origin::Caller };
        let speech = self.activity.is_speech();
        let frame = Frame { format: self.format, speech, arrival: now, origin };
        let Self { queue, pcm, wide, conditioner, resampler, format, .. } = self;
        if let Some(conditioner) = conditioner {
            conditioner.process(pcm, speech);
        }
        let samples = match resampler {
            Some(resampler) => {
                wide.clear();
                resampler.process(pcm, wide);
                wide.as_slice()
            }
            None => pcm.as_slice(),
        };
        queue.push(frame, |bytes| write(*format, samples, bytes));
    }

    /// How far the uplink is ahead of `now`.
    fn lead(&self, now: Instant) -> Duration {
        self.covered_until.map_or(Duration::ZERO, |covered| covered.saturating_duration_since(now))
    }

    /// How far it lags behind.
    fn behind(&self, now: Instant) -> Duration {
        self.covered_until.map_or(Duration::ZERO, |covered| now.saturating_duration_since(covered))
    }

    /// Completes the sample that the last message began, and keeps the one that this message leaves unfinished.
    fn join<'a>(&mut self, message: &'a [u8]) -> (Option<i16>, &'a [u8]) {
        let size = 2 * self.channels.count();
        let mut first = None;
        let mut rest = message;
        if self.carried > 0 {
            let missing = (size - self.carried).min(rest.len());
            let (head, tail) = rest.split_at(missing);
            self.carry[self.carried..self.carried + missing].copy_from_slice(head);
            self.carried += missing;
            rest = tail;
            if self.carried == size {
                first = Some(i16::from_le_bytes([self.carry[0], self.carry[1]]));
                self.carried = 0;
            }
        }
        let (whole, tail) = rest.split_at(rest.len() / size * size);
        if !tail.is_empty() {
            self.carry[..tail.len()].copy_from_slice(tail);
            self.carried = tail.len();
        }
        (first, whole)
    }
}

fn resampler(rate: SampleRate, format: AudioFormat) -> Option<Resampler> {
    (rate != format.rate()).then(|| Resampler::new(rate, format.rate()))
}

/// Whether the module made it up because no RTP came: every byte of it is 0xFF.
fn is_filler(rate: SampleRate, pcm: &[i16]) -> bool {
    pcm.len() >= rate.samples_per(Ptime::nearest(10)) && pcm.iter().all(|&sample| sample == -1)
}

fn is_quiet(pcm: &[i16]) -> bool {
    let energy: f32 = pcm.iter().map(|&sample| f32::from(sample) * f32::from(sample)).sum();
    energy <= QUIET * pcm.len() as f32
}

/// Appends `samples` in `format`.
fn write(format: AudioFormat, samples: &[i16], bytes: &mut Vec<u8>) {
    let start = bytes.len();
    bytes.resize(start + samples.len() * format.bytes_per_sample(), 0);
    let bytes = &mut bytes[start..];
    match format {
        AudioFormat::G711(law) => {
            g711::encode(law, samples, bytes);
        }
        AudioFormat::Pcm16(_) => {
            for (bytes, sample) in bytes.chunks_exact_mut(2).zip(samples) {
                bytes.copy_from_slice(&sample.to_le_bytes());
            }
        }
    }
}
