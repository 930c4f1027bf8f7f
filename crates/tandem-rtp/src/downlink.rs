//! The way down: model audio waits in the playout queue and leaves packet by packet on an absolute grid.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::{Cut, Digit, ItemId, LegEvent, Tap};
use tandem_media::{
    AmbienceSettings, AudioFormat, Codec, Cushion, CutAudio, Playout, Ptime, VoiceSettings,
};

use crate::{
    DigitSender, MediaParams, SendDigitsError,
    backdrop::Backdrop,
    joint::{Filling, Joint},
    media_clock::MediaClock,
    model_audio::ModelAudio,
    sender::Sender,
};

/// Packets sent at once when the caller was late; what was due before them is skipped.
const MAX_BURST: u32 = 3;

/// Before its creation a leg has sent nothing for at least this long.
const LONGEST_PTIME: Duration = Duration::from_millis(60);

/// The most that a packet of linear PCM carries, so that none is cut into fragments on the way.
const MAX_PAYLOAD: usize = 1_400;

/// A cut fades out in the next packet, if that leaves within this time: nothing of what was cut is sent later.
const CUT_WITHIN: Duration = Duration::from_millis(20);

/// Ends of items that wait to be reported.
const MAX_DRAINS: usize = 1024;

/// The downlink of one leg.
#[derive(Debug)]
pub(crate) struct Downlink {
    sender: Sender,
    clock: MediaClock,
    route: Option<Route>,
    state: State,
    /// The end of the audio sent so far, on the call's time line.
    covered_until: Instant,
    paused: bool,
    ducked: bool,
    playout: Playout,
    joint: Joint,
    converter: ModelAudio,
    digits: DigitSender,
    cushion: Cushion,
    /// Since when audio or digits wait to start.
    waiting_since: Option<Instant>,
    /// Since when enough audio waits.
    ready_since: Option<Instant>,
    /// The last item of which audio came, and whether more may come.
    newest: Option<(ItemId, bool)>,
    /// The item at whose end the queue ran dry, and the latest instant for more of it to follow without a hole.
    dry: Option<(ItemId, Option<Instant>)>,
    drains: VecDeque<(Instant, ItemId)>,
    cuts: Vec<CutAudio>,
    /// One packet of audio as it is queued.
    frame: Vec<u8>,
    /// What a cut fades out.
    rest: Vec<u8>,
    marker: bool,
    refused: u64,
    backdrop: Backdrop,
    /// When the agent's voice in `frame` is played, until somebody asked.
    spoken_at: Option<Instant>,
    /// Hears what is sent.
    tap: Option<Box<dyn Tap>>,
}

#[derive(Debug, Clone, Copy)]
struct Route {
    payload_type: u8,
    telephone_event: Option<u8>,
    ptime: Duration,
    /// Bytes of a packet's audio as it is queued.
    bytes: usize,
    /// Ticks of a packet.
    ticks: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing may be sent.
    Off,
    /// Silence is sent at the end of the time it covers.
    Idle,
    /// Audio or digits are sent at the beginning of the time they cover.
    Running,
}

impl Downlink {
    /// A downlink whose audio will most likely go out by `codec`.
    pub(crate) fn new(now: Instant, sender: Sender, timestamp: u32, codec: Codec) -> Self {
        Self {
            sender,
            clock: MediaClock::new(now, timestamp, codec.clock_hz()),
            route: None,
            state: State::Off,
            covered_until: now.checked_sub(LONGEST_PTIME).unwrap_or(now),
            paused: false,
            ducked: false,
            playout: Playout::new(codec.format()),
            joint: Joint::new(codec.format()),
            converter: ModelAudio::default(),
            digits: DigitSender::default(),
            cushion: Cushion::default(),
            waiting_since: None,
            ready_since: None,
            newest: None,
            dry: None,
            drains: VecDeque::new(),
            cuts: Vec::new(),
            frame: Vec::new(),
            rest: Vec::new(),
            marker: true,
            refused: 0,
            backdrop: Backdrop::default(),
            spoken_at: None,
            tap: None,
        }
    }

    /// What was negotiated. SSRC, sequence and timestamps go on.
    pub(crate) fn apply(&mut self, now: Instant, params: &MediaParams) {
        let codec = params.codec;
        let ptime = sent_ptime(codec, params.ptime);
        let route = Route {
            payload_type: params.payload_type,
            telephone_event: params.telephone_event,
            ptime: ptime.duration(),
            bytes: codec.format().bytes_per(ptime.duration()),
            ticks: codec.clock_hz() / 1_000 * ptime.millis() as u32,
        };
        if self.playout.format() != codec.format() {
            self.finish_item();
            self.playout.set_format(codec.format());
            self.joint = Joint::new(codec.format());
            self.backdrop.set_format(codec.format());
        }
        self.sender.set_codec(codec, params.opus);
        self.clock.set_hz(self.covered_until, codec.clock_hz());
        self.digits.set_clocks(codec.clock_hz(), params.telephone_event_hz);
        if route.telephone_event.is_none() {
            self.digits.clear();
        }
        self.route = Some(route);
        if !params.sends() {
            self.state = State::Off;
            self.joint.interrupt(self.playout.next_item());
        } else if self.state == State::Off {
            self.state = State::Idle;
            // One packet of silence leaves at once: peers latch on, and firewalls open, with the first.
            let one_before = now.checked_sub(route.ptime).unwrap_or(now);
            self.covered_until = self.covered_until.max(one_before);
            self.marker = true;
            self.wait_from(now);
        }
    }

    /// What is heard behind the agent's voice, from now on.
    pub(crate) fn set_voice(&mut self, voice: &VoiceSettings) {
        self.set_ambience(voice.ambience.as_ref());
    }

    /// The same for what is behind it alone.
    pub(crate) fn set_ambience(&mut self, ambience: Option<&AmbienceSettings>) {
        self.backdrop.set(self.playout.format(), ambience);
    }

    /// The agent's voice in the packet made last, and when it is played; once.
    pub(crate) fn take_spoken(&mut self) -> Option<(Instant, AudioFormat, &[u8])> {
        self.spoken_at.take().map(|at| (at, self.playout.format(), self.frame.as_slice()))
    }

    pub(crate) fn play(&mut self, now: Instant, item: ItemId, format: AudioFormat, audio: &[u8]) {
        let was_empty = self.playout.is_empty();
        self.newest = Some((item, true));
        if self.converter.item() != Some(item) {
            self.forget_stale_rest(now);
        }
        let queued = self.playout.format();
        let Self { converter, playout, refused, .. } = self;
        converter.convert(item, format, queued, audio, &mut |item, bytes| {
            *refused += playout.push(item.0, bytes) as u64;
        });
        self.note_arrival(now, was_empty, item);
    }

    pub(crate) fn end_item(&mut self, now: Instant, item: ItemId) {
        let was_empty = self.playout.is_empty();
        self.forget_stale_rest(now);
        if self.converter.item() == Some(item) {
            self.finish_item();
        }
        self.note_arrival(now, was_empty, item);
        if self.playout.is_empty() {
            self.joint.end_item(item.0);
        }
        if self.newest.is_some_and(|(newest, _)| newest == item) {
            self.newest = Some((item, false));
            self.note_readiness(now);
        }
    }

    /// Throws the queue away and reports what was cut.
    pub(crate) fn clear(&mut self, now: Instant) -> LegEvent {
        self.cut(now, None);
        self.ducked = false;
        self.converter.reset();
        self.cuts.clear();
        self.playout.clear(&mut self.cuts);
        (self.waiting_since, self.ready_since) = (None, None);
        self.newest = None;
        self.dry = None;
        let cut = self.cuts.iter().map(|cut| Cut {
            item: ItemId(cut.item),
            heard: cut.heard,
            received: cut.received,
        });
        LegEvent::PlayoutCleared { cut: cut.collect() }
    }

    /// Stops playing where it is, or goes on from there.
    pub(crate) fn pause(&mut self, now: Instant, paused: bool) {
        self.hold(now, paused, self.ducked);
    }

    /// As [`pause`](Self::pause), and apart from it: what is played is neither paused nor ducked. A clear ends it.
    pub(crate) fn duck(&mut self, now: Instant, ducked: bool) {
        self.hold(now, self.paused, ducked);
    }

    /// From now on `tap` hears what is sent: audio and silence, not digits.
    pub(crate) fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(tap);
    }

    pub(crate) fn send_digits(
        &mut self,
        now: Instant,
        digits: &[Digit],
    ) -> Result<(), SendDigitsError> {
        if self.route.is_none_or(|route| route.telephone_event.is_none()) {
            return Err(SendDigitsError::NotNegotiated);
        }
        self.digits.push(digits)?;
        self.waiting_since.get_or_insert(now);
        Ok(())
    }

    /// When the next packet is due.
    pub(crate) fn next_send(&self) -> Option<Instant> {
        let route = self.route?;
        match self.state {
            State::Off => None,
            State::Running => Some(self.covered_until),
            State::Idle => {
                let other = self.covered_until + self.lateness_of_silence(&route);
                Some(self.start_at().map_or(other, |start| start.min(other)))
            }
        }
    }

    /// Makes the next packet if one is due at `now`; it is in [`packet`](Self::packet) then.
    pub(crate) fn poll(&mut self, now: Instant, events: &mut VecDeque<LegEvent>) -> bool {
        let Some(route) = self.route else { return false };
        // Silence that the encoder leaves out makes no packet, but time goes on.
        while self.next_send().is_some_and(|due| due <= now) {
            if self.make_packet(now, &route, events) {
                return true;
            }
        }
        false
    }

    /// The packet made last.
    pub(crate) fn packet(&self) -> &[u8] {
        self.sender.packet()
    }

    /// The stream that is sent.
    pub(crate) const fn sender(&self) -> &Sender {
        &self.sender
    }

    /// The stream that is sent.
    pub(crate) const fn sender_mut(&mut self) -> &mut Sender {
        &mut self.sender
    }

    /// When the end of an item is to be reported.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.drains.front().map(|(due, _)| *due)
    }

    /// Reports the items whose last sample has been played at `now`.
    pub(crate) fn report_drained(&mut self, now: Instant, events: &mut VecDeque<LegEvent>) {
        while let Some(&(due, item)) = self.drains.front()
            && due <= now
        {
            self.drains.pop_front();
            events.push_back(LegEvent::PlayoutDrained { item });
        }
    }

    /// Ticks per second of the RTP timestamps.
    pub(crate) const fn clock_hz(&self) -> u32 {
        self.clock.hz()
    }

    /// The RTP timestamp that belongs to `now`.
    pub(crate) fn timestamp_at(&self, now: Instant) -> u32 {
        self.clock.timestamp_at(now)
    }

    /// Bytes of audio that the full queue did not take.
    pub(crate) const fn refused(&self) -> u64 {
        self.refused
    }

    /// Times the queue ran dry in the middle of an item.
    pub(crate) const fn underruns(&self) -> u64 {
        self.cushion.underruns()
    }

    pub(crate) fn queued(&self) -> Duration {
        self.playout.queued()
    }

    pub(crate) fn heard(&self, item: ItemId) -> Option<Duration> {
        self.playout.heard(item.0)
    }

    /// Queues what the converter still holds of its item.
    fn finish_item(&mut self) {
        let Self { converter, playout, refused, .. } = self;
        converter.finish(&mut |item, bytes| {
            *refused += playout.push(item.0, bytes) as u64;
        });
    }

    /// Holds what is played, or goes on with it.
    fn hold(&mut self, now: Instant, paused: bool, ducked: bool) {
        let (was_held, held) = (self.paused || self.ducked, paused || ducked);
        if held && !was_held {
            self.cut(now, self.playout.next_item());
        }
        (self.paused, self.ducked) = (paused, ducked);
        if was_held && !held {
            self.wait_from(now);
        }
    }

    /// What is played breaks off at `now`; `item` may go on later.
    fn cut(&mut self, now: Instant, item: Option<u64>) {
        if self.covered_until > now + CUT_WITHIN {
            return self.joint.interrupt(item);
        }
        self.rest.clear();
        self.rest.resize(self.joint.fade_bytes(), 0);
        self.playout.peek(&mut self.rest);
        self.joint.cut(&self.rest, item);
    }

    /// What the resampler still holds of an item that ran dry is a click by now, not its end.
    fn forget_stale_rest(&mut self, now: Instant) {
        if self.playout.is_empty()
            && let Some((dried, in_time_until)) = self.dry
            && self.converter.item() == Some(dried)
            && in_time_until.is_none_or(|until| now > until)
        {
            self.converter.reset();
        }
    }

    fn note_arrival(&mut self, now: Instant, was_empty: bool, item: ItemId) {
        if self.playout.is_empty() {
            return;
        }
        // More of it came in time: its end was not its end.
        self.drains.retain(|(_, ending)| *ending != item);
        if was_empty {
            self.cushion.decay(now);
            if let Some((dried, in_time_until)) = self.dry.take()
                && dried == item
                && in_time_until.is_none_or(|until| now > until)
            {
                self.cushion.underrun(now);
            }
            self.wait_from(now);
        }
        self.note_readiness(now);
    }

    /// What is queued, if anything, waits to start from `now` on.
    fn wait_from(&mut self, now: Instant) {
        if !self.playout.is_empty() {
            (self.waiting_since, self.ready_since) = (Some(now), None);
            self.note_readiness(now);
        }
    }

    fn note_readiness(&mut self, now: Instant) {
        if self.is_ready() {
            self.ready_since.get_or_insert(now);
        }
    }

    /// Whether enough is queued to start: all there is, or the cushion, or at least a whole packet, for a resampler gives a
    /// little less than it takes at first.
    fn is_ready(&self) -> bool {
        let complete = self.newest.is_some_and(|(_, open)| !open);
        complete || self.playout.queued() >= self.patience()
    }

    /// How long a start may be put off, and the audio that makes it needless.
    fn patience(&self) -> Duration {
        let ptime = self.route.map_or(Duration::ZERO, |route| route.ptime);
        self.cushion.length().max(ptime)
    }

    /// Whether there is something else than silence to send.
    fn has_work(&self) -> bool {
        self.plays() || self.sends_digits()
    }

    fn plays(&self) -> bool {
        !self.paused && !self.ducked && !self.playout.is_empty()
    }

    fn sends_digits(&self) -> bool {
        self.digits.is_busy() && self.route.is_some_and(|route| route.telephone_event.is_some())
    }

    /// When audio or digits may start out of silence.
    fn start_at(&self) -> Option<Instant> {
        let since = self.waiting_since.unwrap_or(self.covered_until);
        let start = if self.sends_digits() {
            since
        } else if self.plays() {
            let at_last = since + self.patience();
            self.ready_since.map_or(at_last, |ready| ready.min(at_last))
        } else {
            return None;
        };
        Some(start.max(self.covered_until))
    }

    /// Leaves out what is due for so long that it would make a burst; the timestamps jump over it.
    fn skip_missed(&mut self, now: Instant, route: &Route, ahead: u32) {
        let late = now.saturating_duration_since(self.covered_until);
        let due = u32::try_from(late.as_nanos() / route.ptime.as_nanos()).unwrap_or(u32::MAX);
        let due = due.saturating_add(ahead);
        if due > MAX_BURST {
            self.covered_until += route.ptime * (due - MAX_BURST);
            self.marker = true;
        }
    }

    /// How long after the begin of the time it covers a packet is sent that is not of queued audio: silence at its end, for
    /// audio may still come; but what was sent does not break off late.
    fn lateness_of_silence(&self, route: &Route) -> Duration {
        if self.joint.is_busy() { Duration::ZERO } else { route.ptime }
    }

    /// Makes the packet that is due at `now`; false when it is one that is not sent.
    fn make_packet(
        &mut self,
        now: Instant,
        route: &Route,
        events: &mut VecDeque<LegEvent>,
    ) -> bool {
        if self.state == State::Running && !self.has_work() {
            self.state = State::Idle;
        }
        if self.state == State::Idle
            && let Some(start) = self.start_at().filter(|start| *start <= now)
        {
            self.marker |= start > self.covered_until;
            self.covered_until = start;
            self.state = State::Running;
            (self.waiting_since, self.ready_since) = (None, None);
        }
        if self.state == State::Running {
            self.skip_missed(now, route, 1);
            self.write_next(route, events)
        } else if now < self.covered_until + self.lateness_of_silence(route) {
            false
        } else if self.joint.is_busy() {
            self.skip_missed(now, route, 1);
            self.write_audio(route, events)
        } else {
            self.skip_missed(now, route, 0);
            self.write_silence(route)
        }
    }

    fn write_silence(&mut self, route: &Route) -> bool {
        self.joint.silence();
        self.clear_frame(route);
        let timestamp = self.clock.timestamp_at(self.covered_until);
        self.backdrop.mix(self.playout.format(), &mut self.frame);
        self.tap_frame(self.covered_until);
        self.covered_until += route.ptime;
        self.marker = true;
        self.sender.audio(false, route.payload_type, timestamp, &self.frame)
    }

    fn write_next(&mut self, route: &Route, events: &mut VecDeque<LegEvent>) -> bool {
        let timestamp = self.clock.timestamp_at(self.covered_until);
        if let Some(payload_type) = route.telephone_event
            && let Some(packet) = self.digits.next_packet(timestamp, route.ticks)
        {
            self.covered_until += route.ptime;
            self.marker = true; // The audio after it is a new talkspurt.
            self.joint.interrupt(self.playout.next_item());
            self.sender.event(packet.marker, payload_type, packet.timestamp, packet.event);
            return true;
        }
        self.write_audio(route, events)
    }

    /// Sends what is queued, if it is to be played, and what the joint makes of it.
    fn write_audio(&mut self, route: &Route, events: &mut VecDeque<LegEvent>) -> bool {
        let start = self.covered_until;
        let timestamp = self.clock.timestamp_at(start);
        self.covered_until += route.ptime;
        self.clear_frame(route);
        let filling = if self.state == State::Running && self.plays() {
            self.pull(events)
        } else {
            Filling { audio: 0, first: None, dry: None }
        };
        self.joint.finish(&mut self.frame, filling);
        self.backdrop.mix(self.playout.format(), &mut self.frame);
        self.tap_frame(start);
        self.spoken_at = Some(start);
        let marker = std::mem::take(&mut self.marker);
        let sent = self.sender.audio(marker, route.payload_type, timestamp, &self.frame);
        self.marker |= !sent;
        sent
    }

    /// Lets the tap hear `frame`, whose time begins at `start`.
    fn tap_frame(&mut self, start: Instant) {
        if let Some(tap) = &mut self.tap {
            tap.take_bytes(start, self.playout.format(), &self.frame);
        }
    }

    fn clear_frame(&mut self, route: &Route) {
        self.frame.clear();
        self.frame.resize(route.bytes, self.playout.format().silence());
    }

    /// Fills `frame`, which covers the time up to `covered_until`, from the queue.
    fn pull(&mut self, events: &mut VecDeque<LegEvent>) -> Filling {
        let first = self.playout.next_item();
        let pulled = self.playout.pull(&mut self.frame);
        let audio = pulled.bytes;
        // Silence at the end of a packet is a hole, however soon the rest comes.
        let in_time_until = (audio == self.frame.len()).then_some(self.covered_until);
        for &item in pulled.started {
            events.push_back(LegEvent::PlayoutStarted { item: ItemId(item) });
        }
        for &item in pulled.emptied {
            if self.drains.len() < MAX_DRAINS {
                self.drains.push_back((self.covered_until, ItemId(item)));
            }
            self.dry = Some((ItemId(item), in_time_until));
        }
        let mut dry = None;
        if self.playout.is_empty() {
            // What follows starts anew, with a cushion if it needs one.
            self.state = State::Idle;
            let last = self.dry.map(|(item, _)| item);
            dry = self.newest.filter(|(item, open)| *open && last == Some(*item));
        }
        Filling { audio, first, dry: dry.map(|(item, _)| item.0) }
    }
}

/// The packet time of `codec` that is nearest to what the peer wants.
fn sent_ptime(codec: Codec, wanted: Ptime) -> Ptime {
    let ptime = codec.nearest_ptime(wanted);
    let bytes = |ptime: Ptime| match codec {
        Codec::L16(rate) => rate.samples_per(ptime) * 2,
        Codec::G711(_) | Codec::G722 | Codec::Opus(_) => 0,
    };
    let fitting = (10..=ptime.millis() as u32).rev().step_by(10).map(Ptime::nearest);
    fitting.into_iter().find(|ptime| bytes(*ptime) <= MAX_PAYLOAD).unwrap_or(ptime)
}
