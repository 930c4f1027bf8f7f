//! The way up: packets in order become frames for the model at once, and the stream keeps time when they do not come.

use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

use tandem_call::{Digit, LegEvent, Origin, UplinkFrame};
use tandem_media::{
    Activity, AudioFormat, Concealer, DtmfDetector, FrameQueue, Law, Resampler, SampleRate,
    VoiceActivity, g711,
};

use crate::ArrivedPacket;

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

/// Samples of one frame of silence: 20 ms.
const FILL: usize = 160;

/// Samples of the longest packet the buffers are made for, 60 ms; a longer one makes them grow.
const LONGEST: usize = 480;

/// Lost audio is extended for so many samples, 60 ms; then it is silence.
const MAX_EXTENSION: usize = 480;

/// A packet that is to lead a concealment out of a gap needs this many samples to be worth looking at: 10 ms.
const MIN_FUTURE: usize = 80;

/// A frame without its bytes.
#[derive(Debug, Clone, Copy)]
struct Frame {
    format: AudioFormat,
    speech: bool,
    arrival: Instant,
    origin: Origin,
}

/// The uplink of one leg.
#[derive(Debug)]
pub(crate) struct Uplink {
    format: AudioFormat,
    resampler: Option<Resampler>,
    concealer: Concealer,
    activity: VoiceActivity,
    /// Where digits come as tones; none where they come as telephone-events.
    dtmf: Option<DtmfDetector>,
    queue: FrameQueue<Frame>,
    pcm: Vec<i16>,
    gap: Vec<i16>,
    wide: Vec<i16>,
    /// The stream's end on the call's time line; none before it starts.
    covered_until: Option<Instant>,
    /// The last packet of audio of the current source.
    last: Option<LastAudio>,
    /// Samples sent up in place of audio since the last packet.
    filled: usize,
    /// What is missing is silence rather than lost.
    quiet: bool,
    /// The next packet has no past to be measured against: the time line alone tells what is missing before it.
    resync: bool,
    catch_up: Option<CatchUp>,
    surplus: u64,
}

#[derive(Debug, Clone, Copy)]
struct LastAudio {
    arrival: Instant,
    /// RTP timestamp of the sample after it.
    end: u32,
    samples: usize,
}

impl LastAudio {
    /// Samples between it and `packet` by the media clock.
    fn ahead(&self, packet: &ArrivedPacket<'_>) -> usize {
        let ahead = packet.timestamp.wrapping_sub(self.end).cast_signed();
        usize::try_from(ahead).unwrap_or(0)
    }

    /// Samples in the `missing` packets between it and `packet`.
    fn lost_before(&self, packet: &ArrivedPacket<'_>, missing: u16) -> usize {
        // The media clock knows how much was lost, unless the peer was silent in between or began anew.
        let packets = usize::from(missing);
        let plausible = packets * 80..=packets * 480;
        let ahead = self.ahead(packet);
        if plausible.contains(&ahead) { ahead } else { packets * self.samples }
    }
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
    pub(crate) fn new(format: AudioFormat) -> Self {
        Self {
            format,
            resampler: resampler_for(format),
            concealer: Concealer::new(),
            activity: VoiceActivity::new(),
            dtmf: None,
            queue: FrameQueue::new(),
            pcm: Vec::with_capacity(LONGEST),
            gap: Vec::with_capacity(2 * LONGEST),
            wide: Vec::with_capacity(4 * LONGEST),
            covered_until: None,
            last: None,
            filled: 0,
            quiet: true,
            resync: true,
            catch_up: None,
            surplus: 0,
        }
    }

    /// Frames are of `format` from now on.
    pub(crate) fn set_format(&mut self, format: AudioFormat) {
        self.format = format;
        self.resampler = resampler_for(format);
    }

    pub(crate) const fn format(&self) -> AudioFormat {
        self.format
    }

    /// Whether digits are to be heard in the audio, from now on.
    ///
    /// Their tones are not for the model: of each it gets what it was sent before the tone was recognised, 36 ms at most unless
    /// packets were lost, and silence for the rest.
    pub(crate) fn hear_digits(&mut self, wanted: bool) {
        if wanted != self.dtmf.is_some() {
            self.dtmf = wanted.then(DtmfDetector::new);
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
        self.forget_tone();
    }

    pub(crate) fn poll(&mut self) -> Option<UplinkFrame<'_>> {
        let (audio, Frame { format, speech, arrival, origin }) = self.queue.pop()?;
        Some(UplinkFrame { audio, format, speech, arrival, origin })
    }

    /// Packets dropped because the uplink would have run ahead of the call.
    pub(crate) const fn surplus(&self) -> u64 {
        self.surplus
    }

    /// Frames dropped because nobody polled.
    pub(crate) const fn overflow(&self) -> u64 {
        self.queue.dropped()
    }

    /// When silence is due, unless a packet comes; one packet time later while packets wait `behind_a_gap`.
    pub(crate) fn deadline(&self, behind_a_gap: bool) -> Option<Instant> {
        let usual = duration(self.last.map_or(FILL, |last| last.samples));
        let usual = if behind_a_gap { usual * 2 } else { usual };
        self.covered_until.map(|covered| covered + usual + PATIENCE)
    }

    /// Takes the next packet of audio; `missing` packets before it never came.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        packet: &ArrivedPacket<'_>,
        law: Law,
        missing: u16,
        events: &mut VecDeque<LegEvent>,
    ) {
        let samples = packet.payload.len();
        if samples == 0 {
            return;
        }
        self.start(now);
        self.pcm.resize(samples, 0);
        g711::decode(law, packet.payload, &mut self.pcm);
        let this = LastAudio {
            arrival: packet.arrival,
            end: packet.timestamp.wrapping_add(samples as u32),
            samples,
        };
        let tone = self.hear_tone(packet, missing, events);
        self.pcm[tone.clone()].fill(0);
        self.bridge(now, packet, missing, events);
        if self.is_surplus(now, &this) {
            self.surplus += 1;
            self.last = Some(this);
            return;
        }
        self.concealer.good(&self.pcm);
        let activity = self.activity.process(&self.pcm);
        report(activity, now.saturating_duration_since(packet.arrival), events);
        let origin = if tone.len() == samples { Origin::Silence } else { Origin::Caller };
        let frame = self.frame(packet.arrival, origin);
        let Self { queue, pcm, wide, resampler, format, .. } = self;
        queue.push(frame, |bytes| match *format {
            AudioFormat::G711(wanted) => {
                let start = bytes.len();
                bytes.extend_from_slice(packet.payload);
                if wanted != law {
                    g711::transcode(law, wanted, &mut bytes[start..]);
                }
                bytes[start..][tone].fill(wanted.silence());
            }
            AudioFormat::Pcm16(_) => write_pcm(pcm, resampler, wide, bytes),
        });
        self.advance(samples);
        self.last = Some(this);
        self.filled = 0;
        self.quiet = false;
        self.resync = false;
    }

    /// Takes note of audio that is not for the model: the caller is on hold, this is music.
    pub(crate) fn skip(&mut self, packet: &ArrivedPacket<'_>) {
        let samples = packet.payload.len();
        let end = packet.timestamp.wrapping_add(samples as u32);
        if samples > 0 {
            self.last = Some(LastAudio { arrival: packet.arrival, end, samples });
        }
        self.hush();
        self.resync = true;
    }

    /// What is missing from here on is silence: comfort noise, a digit, hold.
    pub(crate) fn hush(&mut self) {
        self.quiet = true;
        self.catch_up = None;
        self.forget_tone();
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
            self.gap.clear();
            self.gap.resize(FILL, 0);
            let origin = if self.quiet || self.filled >= MAX_EXTENSION {
                Origin::Silence
            } else {
                self.concealer.conceal_forward(&mut self.gap);
                Origin::Concealed
            };
            self.advance(FILL);
            self.filled += FILL;
            let lag = self
                .covered_until
                .map_or(Duration::ZERO, |covered| now.saturating_duration_since(covered));
            self.push_gap(now, lag, origin, events);
        }
    }

    /// Listens for digits in the packet that is in `pcm`; which of its samples are tone.
    fn hear_tone(
        &mut self,
        packet: &ArrivedPacket<'_>,
        missing: u16,
        events: &mut VecDeque<LegEvent>,
    ) -> Range<usize> {
        let Some(dtmf) = &mut self.dtmf else { return 0..0 };
        match self.last.filter(|_| !self.resync) {
            Some(last) if missing > 0 => dtmf.lose(last.lost_before(packet, missing)),
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

    /// Sends up what lies between the last packet and this one, as far as that was not done already.
    fn bridge(
        &mut self,
        now: Instant,
        packet: &ArrivedPacket<'_>,
        missing: u16,
        events: &mut VecDeque<LegEvent>,
    ) {
        let samples = packet.payload.len();
        let behind = self.behind(now);
        let room = behind.saturating_sub(samples);
        let Some(last) = self.last.filter(|_| !self.resync) else {
            if self.filled > 0 {
                self.push_silence(now, room, events);
            }
            return;
        };
        if missing > 0 {
            let lost = last.lost_before(packet, missing);
            let room = (behind + samples_in(MAX_LEAD)).saturating_sub(samples);
            let left = lost.saturating_sub(self.filled).min(room);
            self.push_concealed(now, left, events);
        } else if self.filled > 0 {
            let left = last.ahead(packet).saturating_sub(self.filled).min(room);
            self.push_silence(now, left, events);
        }
        if self.filled > 0 && !self.quiet {
            let previous_arrival = last.arrival;
            self.catch_up.get_or_insert(CatchUp { before: last, previous_arrival, paced: 0 });
        }
    }

    /// Whether the packet would carry the uplink too far ahead of the call, now or with those that will follow in a burst.
    fn is_surplus(&mut self, now: Instant, this: &LastAudio) -> bool {
        let length = duration(this.samples);
        let covered = self.covered_until.unwrap_or(now);
        let lead = covered.saturating_duration_since(now);
        if lead > FULL || lead > FULL_FOR_SILENCE && !self.activity.is_speech() {
            return true;
        }
        let Some(catch_up) = &mut self.catch_up else { return false };
        let burst = this.arrival.saturating_duration_since(catch_up.previous_arrival) < length / 2;
        catch_up.previous_arrival = this.arrival;
        catch_up.paced += u8::from(!burst);
        let elapsed = this.arrival.saturating_duration_since(catch_up.before.arrival);
        let media = duration(this.end.wrapping_sub(catch_up.before.end) as usize);
        let to_come = elapsed.saturating_sub(media);
        if catch_up.paced > 1 || to_come.is_zero() {
            self.catch_up = None;
            return false;
        }
        burst && (covered + length + to_come).saturating_duration_since(now) > MAX_LEAD
    }

    fn push_concealed(&mut self, now: Instant, samples: usize, events: &mut VecDeque<LegEvent>) {
        if samples == 0 {
            return;
        }
        self.gap.clear();
        self.gap.resize(samples, 0);
        if self.pcm.len() < MIN_FUTURE {
            self.concealer.conceal_forward(&mut self.gap);
        } else {
            self.concealer.conceal_between(&self.pcm, &mut self.gap);
        }
        self.advance(samples);
        self.push_gap(now, Duration::ZERO, Origin::Concealed, events);
    }

    fn push_silence(&mut self, now: Instant, samples: usize, events: &mut VecDeque<LegEvent>) {
        if samples == 0 {
            return;
        }
        self.gap.clear();
        self.gap.resize(samples, 0);
        self.advance(samples);
        self.push_gap(now, Duration::ZERO, Origin::Silence, events);
    }

    /// Sends up what is in `gap`; its end is `lag` before `now`.
    fn push_gap(
        &mut self,
        now: Instant,
        lag: Duration,
        origin: Origin,
        events: &mut VecDeque<LegEvent>,
    ) {
        report(self.activity.process(&self.gap), lag, events);
        let frame = self.frame(now, origin);
        let Self { queue, gap, wide, resampler, format, .. } = self;
        queue.push(frame, |bytes| match *format {
            AudioFormat::G711(law) => {
                let start = bytes.len();
                bytes.resize(start + gap.len(), 0);
                g711::encode(law, gap, &mut bytes[start..]);
            }
            AudioFormat::Pcm16(_) => write_pcm(gap, resampler, wide, bytes),
        });
    }

    fn frame(&self, arrival: Instant, origin: Origin) -> Frame {
        Frame { format: self.format, speech: self.activity.is_speech(), arrival, origin }
    }

    fn advance(&mut self, samples: usize) {
        self.covered_until = self.covered_until.map(|covered| covered + duration(samples));
    }

    /// Samples by which the uplink lags behind `now`.
    fn behind(&self, now: Instant) -> usize {
        self.covered_until.map_or(0, |covered| samples_in(now.saturating_duration_since(covered)))
    }
}

fn resampler_for(format: AudioFormat) -> Option<Resampler> {
    match format {
        AudioFormat::G711(_) | AudioFormat::Pcm16(SampleRate::Hz8000) => None,
        AudioFormat::Pcm16(rate) => Some(Resampler::new(SampleRate::Hz8000, rate)),
    }
}

/// Appends 8 kHz `pcm` as little-endian bytes at the resampler's rate.
fn write_pcm(
    pcm: &[i16],
    resampler: &mut Option<Resampler>,
    wide: &mut Vec<i16>,
    bytes: &mut Vec<u8>,
) {
    let samples = match resampler {
        Some(resampler) => {
            wide.clear();
            resampler.process(pcm, wide);
            wide.as_slice()
        }
        None => pcm,
    };
    let start = bytes.len();
    bytes.resize(start + samples.len() * 2, 0);
    for (bytes, sample) in bytes[start..].chunks_exact_mut(2).zip(samples) {
        bytes.copy_from_slice(&sample.to_le_bytes());
    }
}

/// Tells what the voice activity detector found in audio whose end arrived `lag` ago.
fn report(activity: Option<Activity>, lag: Duration, events: &mut VecDeque<LegEvent>) {
    match activity {
        None => {}
        Some(Activity::Started) => events.push_back(LegEvent::SpeechStarted),
        Some(Activity::Stopped { silence }) => {
            events.push_back(LegEvent::SpeechStopped { ago: silence + lag });
        }
    }
}

const fn duration(samples: usize) -> Duration {
    SampleRate::Hz8000.duration_of(samples)
}

const fn samples_in(duration: Duration) -> usize {
    (duration.as_micros() * 8 / 1000) as usize
}
