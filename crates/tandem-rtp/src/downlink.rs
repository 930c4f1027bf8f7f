//! The way down: model audio waits in the playout queue and leaves packet by packet on an absolute grid.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tandem_call::{Cut, Digit, ItemId, LegEvent};
use tandem_media::{AudioFormat, Codec, Cushion, CutBytes, Law, Playout, SampleRate};

use crate::{
    DigitSender, HEADER_LEN, MediaParams, RtpPacket, SendDigitsError, media_clock::MediaClock,
    model_audio::ModelAudio,
};

/// Packets sent at once when the caller was late; what was due before them is skipped.
const MAX_BURST: u32 = 3;

/// Before its creation a leg has sent nothing for at least this long.
const LONGEST_PTIME: Duration = Duration::from_millis(60);

/// Ends of items that wait to be reported.
const MAX_DRAINS: usize = 1024;

/// The downlink of one leg.
#[derive(Debug)]
pub(crate) struct Downlink {
    ssrc: u32,
    sequence: u16,
    clock: MediaClock,
    route: Option<Route>,
    state: State,
    /// The end of the audio sent so far, on the call's time line.
    covered_until: Instant,
    paused: bool,
    playout: Playout,
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
    cuts: Vec<CutBytes>,
    payload: Vec<u8>,
    packet: Vec<u8>,
    marker: bool,
    packets: u64,
    octets: u64,
    refused: u64,
}

#[derive(Debug, Clone, Copy)]
struct Route {
    law: Law,
    payload_type: u8,
    telephone_event: Option<u8>,
    ptime: Duration,
    samples: usize,
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
    pub(crate) fn new(now: Instant, ssrc: u32, sequence: u16, timestamp: u32) -> Self {
        Self {
            ssrc,
            sequence,
            clock: MediaClock::new(now, timestamp),
            route: None,
            state: State::Off,
            covered_until: now.checked_sub(LONGEST_PTIME).unwrap_or(now),
            paused: false,
            playout: Playout::new(Law::Mu),
            converter: ModelAudio::default(),
            digits: DigitSender::default(),
            cushion: Cushion::default(),
            waiting_since: None,
            ready_since: None,
            newest: None,
            dry: None,
            drains: VecDeque::new(),
            cuts: Vec::new(),
            payload: Vec::new(),
            packet: Vec::with_capacity(HEADER_LEN + 480),
            marker: true,
            packets: 0,
            octets: 0,
            refused: 0,
        }
    }

    /// What was negotiated. SSRC, sequence and timestamps go on.
    pub(crate) fn apply(&mut self, now: Instant, params: &MediaParams) {
        let route = Route {
            law: match params.codec {
                Codec::G711(law) => law,
                _ => Law::Mu,
            },
            payload_type: params.payload_type,
            telephone_event: params.telephone_event,
            ptime: params.ptime.duration(),
            samples: SampleRate::Hz8000.samples_per(params.ptime),
        };
        if self.playout.law() != route.law {
            self.playout.set_law(route.law);
        }
        if route.telephone_event.is_none() {
            self.digits.clear();
        }
        self.route = Some(route);
        if !params.sends() {
            self.state = State::Off;
        } else if self.state == State::Off {
            self.state = State::Idle;
            // One packet of silence leaves at once: peers latch on, and firewalls open, with the first.
            let one_before = now.checked_sub(route.ptime).unwrap_or(now);
            self.covered_until = self.covered_until.max(one_before);
            self.marker = true;
            self.wait_from(now);
        }
    }

    pub(crate) fn play(&mut self, now: Instant, item: ItemId, format: AudioFormat, audio: &[u8]) {
        let was_empty = self.playout.is_empty();
        self.newest = Some((item, true));
        if self.converter.item() != Some(item) {
            self.forget_stale_rest(now);
        }
        let law = self.playout.law();
        let Self { converter, playout, refused, .. } = self;
        converter.convert(item, format, law, audio, &mut |item, bytes| {
            *refused += playout.push(item.0, bytes) as u64;
        });
        self.note_arrival(now, was_empty, item);
    }

    pub(crate) fn end_item(&mut self, now: Instant, item: ItemId) {
        let was_empty = self.playout.is_empty();
        self.forget_stale_rest(now);
        if self.converter.item() == Some(item) {
            let law = self.playout.law();
            let Self { converter, playout, refused, .. } = self;
            converter.finish(law, &mut |item, bytes| {
                *refused += playout.push(item.0, bytes) as u64;
            });
        }
        self.note_arrival(now, was_empty, item);
        if self.newest.is_some_and(|(newest, _)| newest == item) {
            self.newest = Some((item, false));
            self.note_readiness(now);
        }
    }

    /// Throws the queue away and reports what was cut.
    pub(crate) fn clear(&mut self) -> LegEvent {
        self.converter.reset();
        self.cuts.clear();
        self.playout.clear(&mut self.cuts);
        (self.waiting_since, self.ready_since) = (None, None);
        self.newest = None;
        self.dry = None;
        let length = |bytes| SampleRate::Hz8000.duration_of(bytes);
        let cut = self.cuts.iter().map(|cut| Cut {
            item: ItemId(cut.item),
            heard: length(cut.heard),
            received: length(cut.received),
        });
        LegEvent::PlayoutCleared { cut: cut.collect() }
    }

    pub(crate) fn pause(&mut self, now: Instant, paused: bool) {
        if self.paused && !paused {
            self.wait_from(now);
        }
        self.paused = paused;
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
                let silence = self.covered_until + route.ptime;
                Some(self.start_at().map_or(silence, |start| start.min(silence)))
            }
        }
    }

    /// Makes the next packet if one is due at `now`; it is in [`packet`](Self::packet) then.
    pub(crate) fn poll(&mut self, now: Instant, events: &mut VecDeque<LegEvent>) -> bool {
        let Some(route) = self.route else { return false };
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
        match self.state {
            State::Off => return false,
            State::Idle if now < self.covered_until + route.ptime => return false,
            State::Idle => {
                self.skip_missed(now, &route, 0);
                self.marker = true;
                self.write_silence(&route);
            }
            State::Running if now < self.covered_until => return false,
            State::Running => {
                self.skip_missed(now, &route, 1);
                self.write_next(&route, events);
            }
        }
        true
    }

    /// The packet made last.
    pub(crate) fn packet(&self) -> &[u8] {
        &self.packet
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

    /// The RTP timestamp that belongs to `now`.
    pub(crate) fn timestamp_at(&self, now: Instant) -> u32 {
        self.clock.timestamp_at(now)
    }

    pub(crate) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub(crate) const fn packets(&self) -> u64 {
        self.packets
    }

    pub(crate) const fn octets(&self) -> u64 {
        self.octets
    }

    /// Bytes of G.711 that the full queue did not take.
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
        !self.paused && !self.playout.is_empty()
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

    fn write_silence(&mut self, route: &Route) {
        self.payload.clear();
        self.payload.resize(route.samples, route.law.silence());
        let timestamp = self.clock.timestamp_at(self.covered_until);
        self.covered_until += route.ptime;
        self.write(false, route.payload_type, timestamp);
    }

    fn write_next(&mut self, route: &Route, events: &mut VecDeque<LegEvent>) {
        let timestamp = self.clock.timestamp_at(self.covered_until);
        self.covered_until += route.ptime;
        if let Some(payload_type) = route.telephone_event
            && let Some(packet) = self.digits.next_packet(timestamp, route.samples as u32)
        {
            self.payload.clear();
            self.payload.extend_from_slice(&packet.event.to_bytes());
            self.marker = true; // The audio after it is a new talkspurt.
            self.write(packet.marker, payload_type, packet.timestamp);
            return;
        }
        self.payload.clear();
        self.payload.resize(route.samples, route.law.silence());
        if self.plays() {
            self.pull(events);
        }
        let marker = std::mem::take(&mut self.marker);
        self.write(marker, route.payload_type, timestamp);
    }

    /// Fills `payload`, which covers the time up to `covered_until`, from the queue.
    fn pull(&mut self, events: &mut VecDeque<LegEvent>) {
        let pulled = self.playout.pull(&mut self.payload);
        // Silence at the end of a packet is a hole, however soon the rest comes.
        let in_time_until = (pulled.bytes == self.payload.len()).then_some(self.covered_until);
        for &item in pulled.started {
            events.push_back(LegEvent::PlayoutStarted { item: ItemId(item) });
        }
        for &item in pulled.emptied {
            if self.drains.len() < MAX_DRAINS {
                self.drains.push_back((self.covered_until, ItemId(item)));
            }
            self.dry = Some((ItemId(item), in_time_until));
        }
        if self.playout.is_empty() {
            // What follows starts anew, with a cushion if it needs one.
            self.state = State::Idle;
        }
    }

    fn write(&mut self, marker: bool, payload_type: u8, timestamp: u32) {
        let packet = RtpPacket {
            marker,
            payload_type,
            sequence: self.sequence,
            timestamp,
            ssrc: self.ssrc,
            csrc: &[],
            extension: None,
            payload: &self.payload,
            padding: 0,
        };
        self.packet.clear();
        packet.write(&mut self.packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets += 1;
        self.octets += self.payload.len() as u64;
    }
}
