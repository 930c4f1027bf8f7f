//! The way up: packets in order become frames for the model at once, and the stream keeps time when they do not come.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use tandem_call::{Digit, LegEvent, Origin, Tap, UplinkFrame};
use tandem_media::{
    Activity, AudioFormat, Codec, ComfortNoise, Concealer, DtmfDetector, SampleRate, SpeechPause,
    SpeechPauses, VoiceActivity, VoiceSettings,
};

use crate::{
    ArrivedPacket,
    decoders::Decoders,
    feed::{Feed, Tag},
    last_audio::LastAudio,
};

/// Silence goes up when audio is overdue by this much.
const PATIENCE: Duration = Duration::from_millis(60);

/// How far the uplink may run ahead of the call: late packets beyond it are surplus.
const MAX_LEAD: Duration = Duration::from_millis(100);

/// A packet that finds the uplink this far ahead is surplus: 100 ms with its own 20 ms.
const FULL: Duration = Duration::from_millis(80);

/// Silence is surplus from here on, so that a peer's fast clock costs no speech.
const FULL_FOR_SILENCE: Duration = Duration::from_millis(40);

/// Behind by more than this, a whole thread stood still; the past is not made up.
const MAX_LAG: Duration = Duration::from_secs(1);

/// One frame of silence.
const FILL: Duration = Duration::from_millis(20);

/// Lost audio is extended for so long; then it is silence.
const MAX_EXTENSION: Duration = Duration::from_millis(60);

/// Audio that is to lead a concealment out of a gap must be this long to be worth looking at.
const MIN_FUTURE: Duration = Duration::from_millis(10);

/// The longest packet the buffers are made for; a longer one makes them grow.
const LONGEST: Duration = Duration::from_millis(60);

/// The noise of one leg need not differ from that of another.
const NOISE_SEED: u32 = 0x7A4D;

/// The uplink of one leg.
#[derive(Debug)]
pub(crate) struct Uplink {
    decoders: Decoders,
    /// That of the last packet of audio.
    codec: Codec,
    /// Samples per second of what is decoded and made up.
    rate: SampleRate,
    concealer: Concealer,
    activity: VoiceActivity,
    pauses: SpeechPauses,
    /// Where digits come as tones; none where they come as telephone-events.
    dtmf: Option<Box<DtmfDetector>>,
    noise: Option<Box<ComfortNoise>>,
    feed: Feed,
    /// Hears what goes up, as it came.
    tap: Option<Box<dyn Tap>>,
    pcm: Vec<i16>,
    gap: Vec<i16>,
    played: Vec<i16>,
    /// The stream's end on the call's time line; none before it starts.
    covered_until: Option<Instant>,
    /// The last packet of audio of the current source.
    last: Option<LastAudio>,
    /// Sent up in place of audio since the last packet.
    filled: Duration,
    absent: Absent,
    /// The next packet has no past to be measured against: the time line alone tells what is missing before it.
    resync: bool,
    catch_up: Option<CatchUp>,
    surplus: u64,
    undecodable: u64,
}

/// What audio is that does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// Lost.
    Lost,
    /// Silence: a digit, hold.
    Silent,
    /// The comfort noise that the peer described.
    Noise,
    /// The comfort noise that the decoder knows of.
    Dtx,
}

/// What lies between the last packet and the next one and has not gone up yet.
#[derive(Debug, Clone, Copy)]
enum Bridge {
    Lost(Duration),
    Quiet(Duration),
}

/// Packets arrive after a pause that was filled: a burst of late ones, or a path that has become longer.
#[derive(Debug, Clone, Copy)]
struct CatchUp {
    /// The last packet before the pause.
    before: LastAudio,
    previous_arrival: Instant,
    /// Packets that came at their usual distance.
    paced: u8,
}

impl Uplink {
    /// Frames of `format`, from packets that will most likely be of `codec`.
    pub(crate) fn new(codec: Codec, format: AudioFormat) -> Self {
        let rate = codec.rate();
        let mut uplink = Self {
            decoders: Decoders::new(codec),
            codec,
            rate,
            concealer: Concealer::new(rate),
            activity: VoiceActivity::new(rate),
            pauses: SpeechPauses::default(),
            dtmf: None,
            noise: None,
            feed: Feed::new(rate, format),
            tap: None,
            pcm: Vec::new(),
            gap: Vec::new(),
            played: Vec::new(),
            covered_until: None,
            last: None,
            filled: Duration::ZERO,
            absent: Absent::Silent,
            resync: true,
            catch_up: None,
            surplus: 0,
            undecodable: 0,
        };
        uplink.make_room();
        uplink
    }

    /// Frames are of `format` from now on.
    pub(crate) fn set_format(&mut self, format: AudioFormat) {
        self.feed.set_format(format);
    }

    pub(crate) const fn format(&self) -> AudioFormat {
        self.feed.format()
    }

    /// From now on `tap` hears the caller: his audio and what stands for it, as long as the call goes on.
    pub(crate) fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(tap);
    }

    /// How the caller's voice is treated, from now on.
    pub(crate) fn set_voice(&mut self, voice: &VoiceSettings) {
        self.activity.guard_against_echo(voice.echo_guard);
        self.feed.set_voice(voice);
    }

    /// The caller was sent `audio` of `format`, which is played from `at` on.
    pub(crate) fn note_played(&mut self, at: Instant, format: AudioFormat, audio: &[u8]) {
        if self.activity.is_guarded() {
            format.read(audio, &mut self.played);
            self.activity.played(at, format.rate(), &self.played);
        }
    }

    /// Packets of `codec` are understood from now on; those of G.711 always are.
    pub(crate) fn negotiate(&mut self, codec: Codec) {
        self.decoders.negotiate(codec);
        if self.last.is_none() {
            self.set_codec(codec); // What is silent until the first packet is of its rate.
        }
    }

    /// Whether digits are to be heard in the audio of G.711, from now on.
    ///
    /// Their tones are not for the model: of each it gets what it was sent before the tone was recognised, 36 ms at most unless
    /// packets were lost, and silence for the rest.
    pub(crate) fn hear_digits(&mut self, wanted: bool) {
        if wanted != self.dtmf.is_some() {
            self.dtmf = wanted.then(|| Box::new(DtmfDetector::new()));
        }
    }

    /// Begins to keep time.
    pub(crate) fn start(&mut self, now: Instant) {
        self.covered_until.get_or_insert(now);
    }

    /// Another source: its clock has nothing to do with the last one's.
    pub(crate) fn start_source(&mut self) {
        self.last = None;
        self.catch_up = None;
        self.resync = true;
        self.decoders.reset();
        self.forget_tone();
    }

    pub(crate) fn poll(&mut self) -> Option<UplinkFrame<'_>> {
        self.feed.poll()
    }

    /// Packets dropped because the uplink would have run ahead of the call.
    pub(crate) const fn surplus(&self) -> u64 {
        self.surplus
    }

    /// Frames dropped because nobody polled.
    pub(crate) const fn overflow(&self) -> u64 {
        self.feed.dropped()
    }

    /// Packets of audio that were no audio of their codec.
    pub(crate) const fn undecodable(&self) -> u64 {
        self.undecodable
    }

    /// When silence is due, unless a packet comes; one packet time later while packets wait `behind_a_gap`.
    pub(crate) fn deadline(&self, behind_a_gap: bool) -> Option<Instant> {
        let usual = self.last.map_or(FILL, |last| last.length);
        let usual = if behind_a_gap { usual * 2 } else { usual };
        self.covered_until.map(|covered| covered + usual + PATIENCE)
    }

    /// Takes the next packet of audio, which is of `codec`; `missing` packets before it never came.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        packet: &ArrivedPacket<'_>,
        codec: Codec,
        missing: u16,
        events: &mut VecDeque<LegEvent>,
    ) {
        let payload = packet.payload;
        let samples = self.decoders.of(codec).and_then(|it| it.samples_in(payload)).unwrap_or(0);
        if samples == 0 {
            self.undecodable += u64::from(!payload.is_empty());
            return;
        }
        self.start(now);
        self.set_codec(codec);
        let this = LastAudio::new(packet, self.rate.duration_of(samples), codec.clock_hz());
        if self.last.is_some_and(|last| last.clock_hz != this.clock_hz) {
            (self.last, self.catch_up, self.resync) = (None, None, true);
        }
        let bridge = self.bridge(now, packet, missing, this.length);
        // A decoder that conceals by itself does so before it sees the packet.
        let concealed = self.conceal_by_codec(bridge, payload);
        let Some(decoder) = self.decoders.of(codec) else { return };
        if decoder.decode(payload, &mut self.pcm).is_err() {
            self.undecodable += 1;
            return;
        }
        let is_dtx = decoder.is_dtx(payload);
        let tone = self.hear_tone(packet, missing, events);
        self.pcm[tone.clone()].fill(0);
        self.cross(now, bridge, concealed, events);
        if self.is_surplus(now, &this) {
            self.surplus += 1;
            self.last = Some(this);
            return;
        }
        if let (Some(tap), Some(covered)) = (&mut self.tap, self.covered_until) {
            tap.take_pcm(covered, self.rate, &self.pcm);
        }
        if !conceals_itself(codec) {
            self.concealer.good(&self.pcm);
        }
        // On the call's time line, for that has no jitter.
        let end = self.covered_until.map_or(packet.arrival, |covered| covered + this.length);
        let activity = self.activity.process_at(end, &self.pcm);
        self.report(activity, now.saturating_duration_since(packet.arrival), events);
        let origin = if tone.len() == samples { Origin::Silence } else { Origin::Caller };
        let tag = self.tag(packet.arrival, origin);
        match (codec, self.feed.format()) {
            (Codec::G711(law), AudioFormat::G711(_)) if self.feed.passes() => {
                self.feed.push_g711(tag, law, payload, tone);
            }
            _ => self.feed.push(tag, &self.pcm),
        }
        self.advance(this.length);
        self.last = Some(this);
        self.filled = Duration::ZERO;
        self.absent = if is_dtx { Absent::Dtx } else { Absent::Lost };
        self.resync = false;
    }

    /// Takes note of audio that is not for the model: the caller is on hold, this is music.
    pub(crate) fn skip(&mut self, packet: &ArrivedPacket<'_>, codec: Codec) {
        let samples = self.decoders.of(codec).and_then(|it| it.samples_in(packet.payload));
        if let Some(samples) = samples {
            let length = codec.rate().duration_of(samples);
            self.last = Some(LastAudio::new(packet, length, codec.clock_hz()));
        }
        self.hush();
        self.resync = true;
    }

    /// What is missing from here on is silence: a digit, hold.
    pub(crate) fn hush(&mut self) {
        self.absent = Absent::Silent;
        self.catch_up = None;
        self.forget_tone();
    }

    /// What is missing from here on is the noise that `payload` describes (RFC 3389).
    pub(crate) fn comfort(&mut self, payload: &[u8]) {
        self.hush();
        self.absent = Absent::Noise;
        let Self { noise, rate, .. } = self;
        noise.get_or_insert_with(|| Box::new(ComfortNoise::new(*rate, NOISE_SEED))).set(payload);
    }

    /// Sends up what is overdue at `now`.
    pub(crate) fn fill(
        &mut self,
        now: Instant,
        behind_a_gap: bool,
        events: &mut VecDeque<LegEvent>,
    ) {
        let Some(covered) = self.covered_until else { return };
        if now.saturating_duration_since(covered) > MAX_LAG
            && let Some(recent) = now.checked_sub(PATIENCE)
        {
            self.covered_until = Some(recent);
        }
        while self.deadline(behind_a_gap).is_some_and(|deadline| deadline <= now) {
            let origin = if self.absent == Absent::Lost && self.filled < MAX_EXTENSION {
                self.extend(FILL);
                Origin::Concealed
            } else {
                self.make_quiet(FILL);
                Origin::Silence
            };
            self.advance(FILL);
            self.filled += FILL;
            let lag = self
                .covered_until
                .map_or(Duration::ZERO, |covered| now.saturating_duration_since(covered));
            self.push_gap(now, lag, origin, events);
        }
    }

    /// The packet that comes is of `codec`.
    fn set_codec(&mut self, codec: Codec) {
        self.codec = codec;
        let rate = codec.rate();
        if rate == self.rate {
            return;
        }
        self.rate = rate;
        self.concealer = Concealer::new(rate);
        self.activity.set_rate(rate);
        self.feed.set_source(rate);
        self.forget_tone();
        self.noise = None;
        if self.absent == Absent::Noise {
            self.absent = Absent::Silent;
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        self.pcm.reserve(samples_in(self.rate, LONGEST));
        self.gap.reserve(2 * samples_in(self.rate, LONGEST));
    }

    /// Listens for digits in the packet that is in `pcm`; which of its samples are tone.
    fn hear_tone(
        &mut self,
        packet: &ArrivedPacket<'_>,
        missing: u16,
        events: &mut VecDeque<LegEvent>,
    ) -> Range<usize> {
        let Some(dtmf) = &mut self.dtmf else { return 0..0 };
        if !matches!(self.codec, Codec::G711(_)) {
            return 0..0;
        }
        match self.last.filter(|_| !self.resync) {
            Some(last) if missing > 0 => {
                dtmf.lose(samples_in(self.rate, last.lost_before(packet, missing)));
            }
            Some(last) if last.ahead(packet) < FILL => {}
            // In sequence and later in the media: the peer was silent in between.
            _ => dtmf.reset(),
        }
        dtmf.process(&self.pcm, |code| {
            events.extend(Digit::from_event(code).map(LegEvent::Digit));
        })
    }

    fn forget_tone(&mut self) {
        if let Some(dtmf) = &mut self.dtmf {
            dtmf.reset();
        }
    }

    /// What lies between the last packet and this one of `length`, as far as it is still to go up.
    fn bridge(
        &self,
        now: Instant,
        packet: &ArrivedPacket<'_>,
        missing: u16,
        length: Duration,
    ) -> Bridge {
        let behind =
            self.covered_until.map_or(Duration::ZERO, |it| now.saturating_duration_since(it));
        let room = behind.saturating_sub(length);
        let was_filled = !self.filled.is_zero();
        match self.last.filter(|_| !self.resync) {
            Some(last) if missing > 0 => {
                let room = (behind + MAX_LEAD).saturating_sub(length);
                let lost = last.lost_before(packet, missing);
                Bridge::Lost(lost.saturating_sub(self.filled).min(room))
            }
            Some(last) if was_filled => {
                Bridge::Quiet(last.ahead(packet).saturating_sub(self.filled).min(room))
            }
            None if was_filled => Bridge::Quiet(room),
            _ => Bridge::Quiet(Duration::ZERO),
        }
    }

    /// Fills `gap` as `bridge` asks where the codec knows better than we do. `next` is the packet after it.
    fn conceal_by_codec(&mut self, bridge: Bridge, next: &[u8]) -> bool {
        let (next, length) = match bridge {
            Bridge::Lost(length) => (Some(next), length),
            Bridge::Quiet(length) if self.absent == Absent::Dtx => (None, length),
            Bridge::Quiet(_) => return false,
        };
        let samples = samples_in(self.rate, length);
        let decoder = self.decoders.of(self.codec).filter(|_| samples > 0);
        decoder.is_some_and(|decoder| decoder.conceal(next, samples, &mut self.gap))
    }

    /// Sends up what lies before the packet that is in `pcm`; it is in `gap` already where it was `concealed`.
    fn cross(
        &mut self,
        now: Instant,
        bridge: Bridge,
        concealed: bool,
        events: &mut VecDeque<LegEvent>,
    ) {
        let (Bridge::Lost(length) | Bridge::Quiet(length)) = bridge;
        let samples = samples_in(self.rate, length);
        if samples > 0 {
            let origin = match bridge {
                Bridge::Lost(_) => Origin::Concealed,
                Bridge::Quiet(_) => Origin::Silence,
            };
            match bridge {
                _ if concealed => {}
                Bridge::Quiet(_) => self.make_quiet(length),
                Bridge::Lost(_) => {
                    self.gap.clear();
                    self.gap.resize(samples, 0);
                    if self.pcm.len() < samples_in(self.rate, MIN_FUTURE) {
                        self.concealer.conceal_forward(&mut self.gap);
                    } else {
                        self.concealer.conceal_between(&self.pcm, &mut self.gap);
                    }
                }
            }
            self.advance(self.rate.duration_of(samples));
            self.push_gap(now, Duration::ZERO, origin, events);
        }
        if let Some(last) = self.last.filter(|_| !self.resync)
            && !self.filled.is_zero()
            && self.absent == Absent::Lost
        {
            let previous_arrival = last.arrival;
            self.catch_up.get_or_insert(CatchUp { before: last, previous_arrival, paced: 0 });
        }
    }

    /// Whether the packet would carry the uplink too far ahead of the call, now or with those that will follow in a burst.
    fn is_surplus(&mut self, now: Instant, this: &LastAudio) -> bool {
        let covered = self.covered_until.unwrap_or(now);
        let lead = covered.saturating_duration_since(now);
        if lead > FULL || lead > FULL_FOR_SILENCE && !self.activity.is_speech() {
            return true;
        }
        let Some(catch_up) = &mut self.catch_up else { return false };
        let burst =
            this.arrival.saturating_duration_since(catch_up.previous_arrival) < this.length / 2;
        catch_up.previous_arrival = this.arrival;
        catch_up.paced += u8::from(!burst);
        let elapsed = this.arrival.saturating_duration_since(catch_up.before.arrival);
        let to_come = elapsed.saturating_sub(this.since(&catch_up.before));
        if catch_up.paced > 1 || to_come.is_zero() {
            self.catch_up = None;
            return false;
        }
        burst && (covered + this.length + to_come).saturating_duration_since(now) > MAX_LEAD
    }

    /// Fills `gap` with `length` of what the lost audio may have been, before anything is known of what follows.
    fn extend(&mut self, length: Duration) {
        let samples = samples_in(self.rate, length);
        let decoder = self.decoders.of(self.codec);
        if !decoder.is_some_and(|decoder| decoder.conceal(None, samples, &mut self.gap)) {
            self.gap.clear();
            self.gap.resize(samples, 0);
            self.concealer.conceal_forward(&mut self.gap);
        }
    }

    /// Fills `gap` with `length` of silence, or of the noise that stands for it.
    fn make_quiet(&mut self, length: Duration) {
        let samples = samples_in(self.rate, length);
        if self.absent == Absent::Dtx
            && let Some(decoder) = self.decoders.of(self.codec)
            && decoder.conceal(None, samples, &mut self.gap)
        {
            return;
        }
        self.gap.clear();
        self.gap.resize(samples, 0);
        if self.absent == Absent::Noise
            && let Some(noise) = &mut self.noise
        {
            noise.fill(&mut self.gap);
        }
    }

    /// Sends up what is in `gap`; its end is `lag` before `now`.
    fn push_gap(
        &mut self,
        now: Instant,
        lag: Duration,
        origin: Origin,
        events: &mut VecDeque<LegEvent>,
    ) {
        let length = self.rate.duration_of(self.gap.len());
        if let Some(tap) = &mut self.tap
            && let Some(start) = self.covered_until.and_then(|covered| covered.checked_sub(length))
        {
            tap.take_pcm(start, self.rate, &self.gap);
        }
        let at = now.checked_sub(lag).unwrap_or(now);
        let activity = self.activity.process_at(at, &self.gap);
        self.report(activity, lag, events);
        let tag = self.tag(now, origin);
        self.feed.push(tag, &self.gap);
    }

    /// Tells what the voice activity detector found in audio whose end arrived `lag` ago.
    fn report(
        &mut self,
        activity: Option<Activity>,
        lag: Duration,
        events: &mut VecDeque<LegEvent>,
    ) {
        events.extend(activity.map(|activity| match activity {
            Activity::Started => LegEvent::SpeechStarted,
            Activity::Stopped { silence } => LegEvent::SpeechStopped { ago: silence + lag },
        }));
        let pause = self.pauses.note(self.activity.is_speech(), self.activity.quiet());
        events.extend(pause.map(|pause| match pause {
            SpeechPause::Began { quiet } => LegEvent::SpeechPaused { ago: quiet + lag },
            SpeechPause::Ended => LegEvent::SpeechResumed,
        }));
    }

    fn tag(&self, arrival: Instant, origin: Origin) -> Tag {
        Tag { speech: self.activity.is_speech(), arrival, origin }
    }

    fn advance(&mut self, length: Duration) {
        self.covered_until = self.covered_until.map(|covered| covered + length);
    }
}

/// Whether the decoder of `codec` makes up what is lost.
const fn conceals_itself(codec: Codec) -> bool {
    matches!(codec, Codec::Opus(_))
}

/// Whole samples in `length`, which may be the sum of some that were rounded down to nanoseconds.
const fn samples_in(rate: SampleRate, length: Duration) -> usize {
    const SLACK: u128 = 2;
    ((length.as_nanos() + SLACK) * rate.hz() as u128 / 1_000_000_000) as usize
}
