//! One RTP leg, whole: datagrams and model audio in, frames for the model, packets and events out.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_call::{Digit, ItemId, LegEvent, LegQuality, MediaLeg, Tap, UplinkFrame};
use tandem_media::{AmbienceSettings, AudioFormat, Codec, VoiceSettings};

use crate::{
    ArrivedPacket, DigitReceiver, Inserted, KnownStream, Latch, MediaParams, ReceptionStats,
    Released, Reorder, RtpError, RtpPacket, SendDigitsError, TelephoneEvent,
    control::Control,
    downlink::Downlink,
    is_rtcp,
    opinion::{Opinion, one_way_delay},
    sender::Sender,
    uplink::Uplink,
};

/// Events that may wait to be polled; more are dropped and counted.
const MAX_EVENTS: usize = 256;

/// What a leg is created with.
#[derive(Debug, Clone)]
pub struct LegConfig {
    /// SSRC of what we send; random.
    pub ssrc: u32,
    /// First sequence number; random.
    pub first_sequence: u16,
    /// RTP timestamp of the instant the leg is created; random.
    pub first_timestamp: u32,
    /// Canonical name for RTCP, at most 255 bytes.
    pub cname: String,
    /// The codec that will most likely be negotiated.
    pub codec: Codec,
    /// What the model takes.
    pub uplink: AudioFormat,
    /// Silence of the peer after which [`LegEvent::MediaTimeout`] is reported, unless it is on hold.
    pub media_timeout: Duration,
    /// Seed of the randomness of RTCP's timing.
    pub seed: u64,
}

/// Which of the leg's two ports a datagram leaves from; with `rtcp_mux` both are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The port in our SDP.
    Rtp,
    /// The port after it.
    Rtcp,
}

/// One datagram to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit<'a> {
    /// Where to.
    pub destination: SocketAddr,
    /// Where from.
    pub channel: Channel,
    /// What.
    pub bytes: &'a [u8],
}

/// What the leg threw away, or had to make up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LegCounters {
    /// Datagrams that are neither RTP nor RTCP.
    pub malformed: u64,
    /// Packets from addresses that nobody vouches for.
    pub foreign: u64,
    /// Packets of a payload type that was not negotiated.
    pub unknown_payload: u64,
    /// Packets of audio that were no audio of their codec.
    pub undecodable: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets dropped because the uplink would have run ahead of the call.
    pub uplink_surplus: u64,
    /// Uplink frames dropped because nobody polled.
    pub uplink_overflow: u64,
    /// Bytes of model audio that the full playout queue did not take.
    pub playout_refused: u64,
    /// Times the model ran dry in the middle of an item.
    pub underruns: u64,
    /// Events dropped because nobody polled.
    pub events_dropped: u64,
}

/// The media of one call leg, over RTP, as a machine without socket or clock.
///
/// It is created before media is negotiated; [`apply`](Self::apply) starts it and changes it. Audio
/// played before waits. After each call that may complete something, `poll_uplink` and `poll_event` are
/// to be called until they give nothing, and `poll_transmit` at the latest at
/// [`next_send`](Self::next_send), which `play` may bring forward to now.
/// [`poll_timeout`](Self::poll_timeout) says when `handle_timeout` is due; `poll_transmit` follows it, for
/// RTCP is due then too.
#[derive(Debug)]
pub struct RtpLeg {
    media_timeout: Duration,
    codec: Codec,
    params: Option<MediaParams>,
    latch: Option<Latch>,
    reorder: Reorder,
    stats: ReceptionStats,
    opinion: Opinion,
    digits: DigitReceiver,
    uplink: Uplink,
    downlink: Downlink,
    control: Control,
    events: VecDeque<LegEvent>,
    /// The last sign of life of the peer's RTP, or when it began to be expected.
    heard_at: Instant,
    timeout_reported: bool,
    closed: bool,
    counters: LegCounters,
}

/// What a payload type stands for on this leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payload {
    Audio(Codec),
    Event,
    ComfortNoise,
    Unknown,
}

impl RtpLeg {
    /// A leg without media. `unix_now` is the wall clock at `now`, since 1970, for RTCP.
    pub fn new(now: Instant, unix_now: Duration, config: LegConfig) -> Self {
        let LegConfig {
            ssrc,
            first_sequence,
            first_timestamp,
            cname,
            codec,
            uplink,
            media_timeout,
            seed,
        } = config;
        Self {
            media_timeout,
            codec,
            params: None,
            latch: None,
            reorder: Reorder::default(),
            stats: ReceptionStats::default(),
            opinion: Opinion::default(),
            digits: DigitReceiver::default(),
            uplink: Uplink::new(codec, uplink),
            downlink: Downlink::new(
                now,
                Sender::new(ssrc, first_sequence, codec),
                first_timestamp,
                codec,
            ),
            control: Control::new(now, unix_now, cname, seed),
            events: VecDeque::with_capacity(16),
            heard_at: now,
            timeout_reported: false,
            closed: false,
            counters: LegCounters::default(),
        }
    }

    /// How voices are treated from now on: noise, level, echo, background. Nothing is until this is called.
    pub fn set_voice(&mut self, voice: &VoiceSettings) {
        self.uplink.set_voice(voice);
        self.downlink.set_voice(voice);
    }

    /// What is heard behind the agent's voice and in its pauses from now on, in place of what
    /// [`set_voice`](Self::set_voice) said.
    pub fn set_ambience(&mut self, ambience: Option<&AmbienceSettings>) {
        self.downlink.set_ambience(ambience);
    }

    /// Takes what an answer, a re-INVITE or an UPDATE settled. SSRC, sequence and timestamps go on.
    pub fn apply(&mut self, now: Instant, params: MediaParams) {
        if self.closed {
            return;
        }
        match &mut self.latch {
            Some(latch) => latch.renegotiate(params.remote_rtp, params.latching),
            None => {
                self.latch = Some(Latch::new(params.remote_rtp, params.latching));
                self.control.start(now);
                self.uplink.start(now);
            }
        }
        if params.is_held() {
            self.uplink.hush();
        }
        let narrowband = matches!(params.codec, Codec::G711(_));
        self.uplink.negotiate(params.codec);
        self.uplink.hear_digits(narrowband && params.telephone_event.is_none());
        self.digits.set_clocks(params.codec.clock_hz(), params.telephone_event_hz);
        self.codec = params.codec;
        self.downlink.apply(now, &params);
        self.control.renegotiate(&params);
        self.params = Some(params);
        self.heard_at = now;
        self.timeout_reported = false;
    }

    /// What was negotiated last.
    pub const fn params(&self) -> Option<&MediaParams> {
        self.params.as_ref()
    }

    /// Takes a datagram that arrived on the RTP port; RTCP is told apart (RFC 5761).
    ///
    /// An error was counted already; the call goes on.
    pub fn handle_rtp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), RtpError> {
        if is_rtcp(datagram) {
            return self.handle_rtcp(now, source, datagram);
        }
        let (Some(params), Some(latch)) = (&self.params, &mut self.latch) else {
            return Err(RtpError::NotNegotiated);
        };
        if self.closed {
            return Err(RtpError::NotNegotiated);
        }
        let packet = RtpPacket::parse(datagram).inspect_err(|_| self.counters.malformed += 1)?;
        let payload = payload_of(params, packet.payload_type);
        let known = self
            .stats
            .ssrc()
            .zip(self.stats.highest_sequence())
            .map(|(ssrc, sequence)| KnownStream { ssrc, sequence });
        if !latch.accept(source, &packet, payload != Payload::Unknown, known) {
            self.counters.foreign += 1;
            return Err(RtpError::ForeignSource);
        }
        self.heard_at = now;
        self.timeout_reported = false;
        self.take(now, &packet, payload);
        self.drain_reordered(now);
        Ok(())
    }

    /// Takes a datagram that arrived on the RTCP port.
    ///
    /// An error was counted already; the call goes on.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), RtpError> {
        let (Some(params), Some(latch), false) = (&self.params, &self.latch, self.closed) else {
            return Err(RtpError::NotNegotiated);
        };
        if !self.control.accepts(source, params, latch) {
            self.counters.foreign += 1;
            return Err(RtpError::ForeignSource);
        }
        let ours = self.downlink.sender().ssrc();
        self.control
            .receive(now, source, datagram, latch, self.stats.ssrc(), ours)
            .inspect_err(|_| self.counters.malformed += 1)?;
        if let Some(loss) = self.control.recent_loss() {
            self.downlink.sender_mut().set_loss(loss);
        }
        Ok(())
    }

    /// How hard the encoder tries, 0 to 10, where the codec lets us choose: Opus. 5 unless told otherwise.
    pub fn set_complexity(&mut self, complexity: u8) {
        self.downlink.sender_mut().set_complexity(complexity);
    }

    /// Sends `digits` as telephone-events, all or none, in place of audio, which waits.
    pub fn send_digits(&mut self, now: Instant, digits: &[Digit]) -> Result<(), SendDigitsError> {
        self.downlink.send_digits(now, digits)
    }

    /// The next datagram due at `now`: RTP first, then RTCP.
    pub fn poll_transmit(&mut self, now: Instant) -> Option<Transmit<'_>> {
        let (Some(params), Some(latch)) = (&self.params, &self.latch) else { return None };
        if !self.closed && self.downlink.poll(now, &mut self.events) {
            if let Some((at, format, audio)) = self.downlink.take_spoken() {
                self.uplink.note_played(at, format, audio);
            }
            return Some(Transmit {
                destination: latch.destination(),
                channel: Channel::Rtp,
                bytes: self.downlink.packet(),
            });
        }
        let destination = self.control.destination(params, latch)?;
        let sender = self.downlink.sender();
        let sent = (sender.packets(), sender.octets());
        let timestamp = self.downlink.timestamp_at(now);
        let bytes = self.control.poll(now, sender.ssrc(), sent, timestamp, &mut self.stats)?;
        let channel = if params.rtcp_mux { Channel::Rtp } else { Channel::Rtcp };
        Some(Transmit { destination, channel, bytes })
    }

    /// Audio queued for the caller.
    pub fn queued(&self) -> Duration {
        self.downlink.queued()
    }

    /// How much of `item` has left in packets, if it is among the last 64.
    pub fn heard(&self, item: ItemId) -> Option<Duration> {
        self.downlink.heard(item)
    }

    /// What was thrown away, so far.
    pub fn counters(&self) -> LegCounters {
        LegCounters {
            undecodable: self.uplink.undecodable(),
            duplicates: self.stats.duplicates(),
            uplink_surplus: self.uplink.surplus(),
            uplink_overflow: self.uplink.overflow(),
            playout_refused: self.downlink.refused(),
            underruns: self.downlink.underruns(),
            ..self.counters
        }
    }

    fn take(&mut self, now: Instant, packet: &RtpPacket<'_>, payload: Payload) {
        self.keep_opinion(now);
        if self.reorder.begins_source(packet) {
            self.give_up_reordered(now);
        }
        let inserted = self.reorder.insert(now, packet);
        let clock_hz = match payload {
            Payload::Audio(codec) => Some(codec.clock_hz()),
            Payload::Event | Payload::ComfortNoise | Payload::Unknown => None,
        };
        self.stats.record(now, packet, inserted, clock_hz);
        if inserted == Inserted::NewSource {
            self.uplink.start_source();
        }
        if payload == Payload::Unknown {
            self.counters.unknown_payload += 1;
        }
        if payload == Payload::Event
            && inserted != Inserted::Duplicate
            && let Some(event) = TelephoneEvent::parse(packet.payload)
            && let Some(digit) = self.digits.receive(now, packet.ssrc, packet.timestamp, event)
        {
            self.push_event(LegEvent::Digit(digit));
        }
        if matches!(inserted, Inserted::InOrder | Inserted::NewSource) {
            let arrived = ArrivedPacket {
                arrival: now,
                payload_type: packet.payload_type,
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                payload: packet.payload,
            };
            self.opinion.record(now, 0);
            let params = self.params.as_ref();
            deliver(now, &arrived, 0, params, &mut self.uplink, &mut self.events);
        }
    }

    fn drain_reordered(&mut self, now: Instant) {
        let Self { reorder, opinion, params, uplink, events, .. } = self;
        while let Some(Released { missing, packet }) = reorder.pop(now) {
            opinion.record(now, missing);
            deliver(now, &packet, missing, params.as_ref(), uplink, events);
        }
        self.bound_events();
    }

    /// Hands over what still waits of a source that is over.
    fn give_up_reordered(&mut self, now: Instant) {
        let Self { reorder, opinion, params, uplink, events, .. } = self;
        while let Some(Released { missing, packet }) = reorder.give_up() {
            opinion.record(now, missing);
            deliver(now, &packet, missing, params.as_ref(), uplink, events);
        }
        self.bound_events();
    }

    fn keep_opinion(&mut self, now: Instant) {
        if self.opinion.is_due(now) {
            self.opinion.close_seconds(now, self.delay());
        }
    }

    /// How long the path takes, one way.
    fn delay(&self) -> Duration {
        one_way_delay(self.control.round_trip(), self.stats.jitter())
    }

    fn control_destination(&self) -> Option<SocketAddr> {
        self.control.destination(self.params.as_ref()?, self.latch.as_ref()?)
    }

    /// When the media time-out strikes; none when the peer need not send.
    fn media_deadline(&self) -> Option<Instant> {
        let expected = self.params.as_ref().is_some_and(|params| !params.is_held());
        (expected && !self.timeout_reported).then(|| self.heard_at + self.media_timeout)
    }

    fn push_event(&mut self, event: LegEvent) {
        self.events.push_back(event);
        self.bound_events();
    }

    fn bound_events(&mut self) {
        let surplus = self.events.len().saturating_sub(MAX_EVENTS);
        self.events.truncate(MAX_EVENTS);
        self.counters.events_dropped += surplus as u64;
    }
}

impl MediaLeg for RtpLeg {
    fn format(&self) -> AudioFormat {
        self.codec.format()
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
        if !self.closed {
            self.downlink.play(now, item, format, audio);
        }
    }

    fn end_item(&mut self, now: Instant, item: ItemId) {
        self.downlink.end_item(now, item);
    }

    fn clear(&mut self, now: Instant) {
        let cleared = self.downlink.clear(now);
        self.push_event(cleared);
    }

    fn pause(&mut self, now: Instant, paused: bool) {
        self.downlink.pause(now, paused);
    }

    fn duck(&mut self, now: Instant, ducked: bool) {
        self.downlink.duck(now, ducked);
    }

    fn tap(&mut self, heard: Box<dyn Tap>, sent: Box<dyn Tap>) {
        self.uplink.set_tap(heard);
        self.downlink.set_tap(sent);
    }

    fn poll_event(&mut self) -> Option<LegEvent> {
        self.events.pop_front()
    }

    fn next_send(&self) -> Option<Instant> {
        if self.closed { None } else { self.downlink.next_send() }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        let gap = self.reorder.deadline();
        let up = self.uplink.deadline(gap.is_some());
        let control = self.control_destination().and_then(|_| self.control.deadline());
        [gap, up, self.downlink.deadline(), control, self.media_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.keep_opinion(now);
        self.drain_reordered(now);
        let behind_a_gap = self.reorder.deadline().is_some();
        self.uplink.fill(now, behind_a_gap, &mut self.events);
        self.downlink.report_drained(now, &mut self.events);
        if self.media_deadline().is_some_and(|deadline| deadline <= now) {
            self.timeout_reported = true;
            self.push_event(LegEvent::MediaTimeout);
        }
        self.bound_events();
    }

    fn quality(&self) -> LegQuality {
        let (mos, mos_min) = self.opinion.of_call(self.delay()).unzip();
        let codec = self.params.as_ref().map(|params| params.codec.name());
        LegQuality {
            codec: codec.unwrap_or_default().to_ascii_uppercase(),
            packets_received: self.stats.received(),
            packets_sent: self.downlink.sender().packets(),
            packets_lost: self.stats.lost(),
            packets_late: self.stats.late(),
            jitter_ms: self.stats.jitter().as_secs_f64() * 1e3,
            mos,
            mos_min,
            rtt_ms: self.control.round_trip().map(|rtt| rtt.as_secs_f64() * 1e3),
            remote_jitter_ms: self
                .control
                .remote_jitter(self.downlink.clock_hz())
                .map(|jitter| jitter.as_secs_f64() * 1e3),
            remote_loss_ratio: self.control.remote_loss(self.downlink.sender().packets()),
        }
    }

    fn live_mos(&self) -> Option<f64> {
        self.opinion.live(self.delay())
    }

    fn close(&mut self, now: Instant) {
        if !self.closed {
            self.closed = true;
            self.control.close(now, self.downlink.sender().packets() > 0);
        }
    }
}

/// What `payload_type` stands for. PCMU and PCMA are always taken by their static types.
fn payload_of(params: &MediaParams, payload_type: u8) -> Payload {
    if payload_type == params.payload_type {
        Payload::Audio(params.codec)
    } else if Some(payload_type) == params.telephone_event {
        Payload::Event
    } else if Some(payload_type) == params.comfort_noise {
        Payload::ComfortNoise
    } else {
        match payload_type {
            0 => Payload::Audio(Codec::PCMU),
            8 => Payload::Audio(Codec::PCMA),
            _ => Payload::Unknown,
        }
    }
}

/// Hands a packet, whose turn it is, to the uplink.
fn deliver(
    now: Instant,
    packet: &ArrivedPacket<'_>,
    missing: u16,
    params: Option<&MediaParams>,
    uplink: &mut Uplink,
    events: &mut VecDeque<LegEvent>,
) {
    let Some(params) = params else { return };
    match payload_of(params, packet.payload_type) {
        Payload::Audio(codec) if params.is_held() => uplink.skip(packet, codec),
        Payload::Audio(codec) => uplink.take(now, packet, codec, missing, events),
        Payload::ComfortNoise if !params.is_held() => uplink.comfort(packet.payload),
        Payload::Event | Payload::ComfortNoise => uplink.hush(),
        Payload::Unknown => {}
    }
}
