//! A leg, its peer and its model on virtual time.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_call::{ItemId, LegEvent, MediaLeg, Origin};
use tandem_media::{AudioFormat, Codec, Decoder, Law, Ptime};
use tandem_rtp::{
    Channel, Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket, TelephoneEvent,
};

pub(crate) const PEER: &str = "192.0.2.1:4000";
pub(crate) const PEER_RTCP: &str = "192.0.2.1:4001";
pub(crate) const MU: AudioFormat = AudioFormat::G711(Law::Mu);
pub(crate) const OUR_SSRC: u32 = 0x7A_4D_00_01;
pub(crate) const UNIX_START: Duration = Duration::from_secs(1_800_000_000);

pub(crate) const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Some instant to count virtual time from.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; nothing is measured"
)]
fn beginning() -> Instant {
    Instant::now()
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub(crate) fn params() -> MediaParams {
    MediaParams {
        remote_rtp: address(PEER),
        remote_rtcp: address(PEER_RTCP),
        rtcp_mux: false,
        codec: Codec::PCMU,
        payload_type: 0,
        opus: tandem_media::OpusParams::DEFAULT,
        telephone_event: Some(101),
        telephone_event_hz: 8_000,
        comfort_noise: Some(13),
        ptime: Ptime::MS20,
        direction: Direction::SendRecv,
        latching: Latching::Off,
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Frame {
    pub(crate) at: Duration,
    pub(crate) audio: Vec<u8>,
    pub(crate) speech: bool,
    pub(crate) origin: Origin,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) to: SocketAddr,
    pub(crate) marker: bool,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    /// By which the timestamps of the next packet are later, at least.
    pub(crate) ticks: u32,
    pub(crate) payload: Vec<u8>,
}

impl Sent {
    pub(crate) fn is_silence(&self) -> bool {
        self.payload.iter().all(|byte| *byte == 0xFF)
    }
}

/// What the peer sends next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerStream {
    pub(crate) ssrc: u32,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload_type: u8,
}

pub(crate) struct World {
    pub(crate) leg: RtpLeg,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    pub(crate) peer: PeerStream,
    arrivals: BTreeMap<(Instant, usize), (SocketAddr, Vec<u8>)>,
    arrival_count: usize,
    pub(crate) frames: Vec<Frame>,
    pub(crate) events: Vec<(Duration, LegEvent)>,
    pub(crate) sent: Vec<Sent>,
    pub(crate) rtcp: Vec<(Duration, SocketAddr, Channel, Vec<u8>)>,
    /// The least and the most by which the uplink was ahead of the call after any step, in milliseconds.
    pub(crate) lead: (i64, i64),
    uplink_bytes_per_ms: usize,
    uplink_bytes: usize,
    /// Timers are served this much too late.
    pub(crate) lateness: Duration,
    /// The clock of what we send was another one before.
    clock_changed: bool,
}

impl World {
    pub(crate) fn new(uplink: AudioFormat) -> Self {
        Self::speaking(Codec::PCMU, uplink)
    }

    /// A leg that will most likely speak `codec`.
    pub(crate) fn speaking(codec: Codec, uplink: AudioFormat) -> Self {
        let start = beginning() + Duration::from_secs(1000);
        let config = LegConfig {
            ssrc: OUR_SSRC,
            first_sequence: 65_500,
            first_timestamp: u32::MAX - 2_000,
            cname: "tandem@test".into(),
            codec,
            uplink,
            media_timeout: Duration::from_secs(30),
            seed: 1,
        };
        Self {
            leg: RtpLeg::new(start, UNIX_START, config),
            start,
            now: start,
            peer: PeerStream {
                ssrc: 9,
                sequence: 65_530,
                timestamp: u32::MAX - 400,
                payload_type: 0,
            },
            arrivals: BTreeMap::new(),
            arrival_count: 0,
            frames: Vec::new(),
            events: Vec::new(),
            sent: Vec::new(),
            rtcp: Vec::new(),
            lead: (0, 0),
            uplink_bytes_per_ms: uplink.bytes_per(millis(1)),
            uplink_bytes: 0,
            lateness: Duration::ZERO,
            clock_changed: codec.clock_hz() != 8_000,
        }
    }

    /// Media is up, with these parameters.
    pub(crate) fn apply(&mut self, params: MediaParams) {
        self.clock_changed |= params.codec.clock_hz() != 8_000;
        self.leg.apply(self.now, params);
        self.drain();
    }

    /// A leg whose media is up.
    pub(crate) fn answered(uplink: AudioFormat) -> Self {
        let mut world = Self::new(uplink);
        world.leg.apply(world.now, params());
        world.drain();
        world
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A datagram arrives `delay` from now.
    pub(crate) fn arrive_from(&mut self, delay: Duration, source: &str, datagram: Vec<u8>) {
        self.arrival_count += 1;
        self.arrivals.insert((self.now + delay, self.arrival_count), (address(source), datagram));
    }

    /// The peer's next packet of audio.
    pub(crate) fn next_packet(&mut self, payload: &[u8]) -> Vec<u8> {
        self.next_of(payload, payload.len() as u32)
    }

    /// The peer's next packet of audio that lasts so many ticks.
    pub(crate) fn next_of(&mut self, payload: &[u8], ticks: u32) -> Vec<u8> {
        let bytes = self.packet_with(payload, self.peer.payload_type, self.peer.timestamp);
        self.peer.timestamp = self.peer.timestamp.wrapping_add(ticks);
        bytes
    }

    /// The peer's next packet of a telephone-event that began `ago` samples ago.
    pub(crate) fn next_event(&mut self, event: TelephoneEvent, ago: u32) -> Vec<u8> {
        let timestamp = self.peer.timestamp.wrapping_sub(ago);
        self.packet_with(&event.to_bytes(), 101, timestamp)
    }

    pub(crate) fn packet_with(
        &mut self,
        payload: &[u8],
        payload_type: u8,
        timestamp: u32,
    ) -> Vec<u8> {
        let packet = RtpPacket {
            marker: false,
            payload_type,
            sequence: self.peer.sequence,
            timestamp,
            ssrc: self.peer.ssrc,
            csrc: &[],
            extension: None,
            payload,
            padding: 0,
        };
        self.peer.sequence = self.peer.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        packet.write(&mut bytes);
        bytes
    }

    /// The peer sends `count` packets of 20 ms from now on; the n-th has `payload(n)` and arrives `delay(n)` late, or never.
    pub(crate) fn peer_sends(
        &mut self,
        count: u64,
        payload: impl Fn(u64) -> Vec<u8>,
        delay: impl Fn(u64) -> Option<Duration>,
    ) {
        for n in 0..count {
            let bytes = self.next_packet(&payload(n));
            if let Some(delay) = delay(n) {
                self.arrive_from(millis(20 * n) + delay, PEER, bytes);
            }
        }
    }

    /// Time passes; timers are served when due and datagrams when they arrive.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let timer = [self.leg.poll_timeout(), self.leg.next_send()]
                .into_iter()
                .flatten()
                .map(|at| at.max(self.now) + self.lateness)
                .min();
            let arrival = self.arrivals.keys().next().map(|(at, _)| *at);
            let next = [timer, arrival].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if let Some(entry) = self.arrivals.first_entry()
                && entry.key().0 <= self.now
            {
                let (source, bytes) = entry.remove();
                let _ = self.leg.handle_rtp(self.now, source, &bytes);
            }
            self.leg.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// Polls the leg until it gives nothing.
    pub(crate) fn drain(&mut self) {
        let at = self.elapsed();
        let codec = self.leg.params().map_or(Codec::PCMU, |params| params.codec);
        let decoder = Decoder::new(codec).expect("memory");
        while let Some(transmit) = self.leg.poll_transmit(self.now) {
            if tandem_rtp::is_rtcp(transmit.bytes) {
                self.rtcp.push((
                    at,
                    transmit.destination,
                    transmit.channel,
                    transmit.bytes.to_vec(),
                ));
                continue;
            }
            assert_eq!(transmit.channel, Channel::Rtp);
            let packet = RtpPacket::parse(transmit.bytes).expect("what we send is RTP");
            assert_eq!(packet.ssrc, OUR_SSRC);
            let samples = match packet.payload_type {
                101 => 0,
                _ => decoder.samples_in(packet.payload).expect("audio of the codec"),
            };
            self.sent.push(Sent {
                at,
                to: transmit.destination,
                marker: packet.marker,
                payload_type: packet.payload_type,
                sequence: packet.sequence,
                timestamp: packet.timestamp,
                ticks: (samples * codec.clock_hz() as usize / codec.rate().hz()) as u32,
                payload: packet.payload.to_vec(),
            });
        }
        while let Some(frame) = self.leg.poll_uplink() {
            self.uplink_bytes += frame.audio.len();
            self.frames.push(Frame {
                at,
                audio: frame.audio.to_vec(),
                speech: frame.speech,
                origin: frame.origin,
            });
        }
        let lead = (self.uplink_bytes / self.uplink_bytes_per_ms) as i64 - at.as_millis() as i64;
        self.lead = (self.lead.0.min(lead), self.lead.1.max(lead));
        while let Some(event) = self.leg.poll_event() {
            self.events.push((at, event));
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

    pub(crate) fn clear(&mut self) {
        self.leg.clear(self.now);
        self.drain();
    }

    pub(crate) fn event_list(&self) -> Vec<LegEvent> {
        self.events.iter().map(|(_, event)| event.clone()).collect()
    }

    pub(crate) fn when(&self, wanted: &LegEvent) -> Option<Duration> {
        self.events.iter().find(|(_, event)| event == wanted).map(|(at, _)| *at)
    }

    /// All audio that went up.
    pub(crate) fn heard_by_model(&self, origin: Origin) -> Vec<u8> {
        let frames = self.frames.iter().filter(|frame| frame.origin == origin);
        frames.flat_map(|frame| frame.audio.clone()).collect()
    }

    /// What we sent has one unbroken sequence, timestamps that follow the clock, and no audio over other audio.
    pub(crate) fn assert_stream_is_honest(&self) {
        let mut free_from: Option<u32> = None;
        for (n, sent) in self.sent.iter().enumerate() {
            let expected = 65_500u16.wrapping_add(n as u16);
            assert_eq!(sent.sequence, expected, "sequence of packet {n}");
            if sent.payload_type == 101 {
                continue;
            }
            let clock = (u32::MAX - 2_000).wrapping_add((sent.at.as_nanos() / 125_000) as u32);
            let early = sent.timestamp.wrapping_sub(clock).cast_signed();
            let slack = 4 * sent.ticks.cast_signed();
            assert!(
                self.clock_changed || (-slack..=1).contains(&early),
                "packet {n} at {:?}: {early} early",
                sent.at
            );
            if let Some(free_from) = free_from {
                let gap = sent.timestamp.wrapping_sub(free_from).cast_signed();
                assert!(gap >= 0, "packet {n} at {:?} overlaps by {gap}", sent.at);
            }
            free_from = Some(sent.timestamp.wrapping_add(sent.ticks));
        }
    }
}

/// 20 ms that can be told from all other packets and from silence.
pub(crate) fn numbered(n: u64) -> Vec<u8> {
    (0..160).map(|k| (n * 7 + k) as u8 & 0x7F).collect()
}

/// A loud voice-like tone in mu-law.
pub(crate) fn voice(n: u64) -> Vec<u8> {
    let pcm: Vec<i16> = (0..160)
        .map(|k| {
            let t = (n * 160 + k) as f64 / 8000.0;
            (6000.0 * (t * 200.0 * std::f64::consts::TAU).sin()
                + 4000.0 * (t * 1000.0 * std::f64::consts::TAU).sin()) as i16
        })
        .collect();
    let mut bytes = vec![0; 160];
    tandem_media::g711::encode(Law::Mu, &pcm, &mut bytes);
    bytes
}

/// Compares long audio without printing it.
#[track_caller]
pub(crate) fn assert_same(left: &[u8], right: &[u8], name: &str) {
    let differs = left.iter().zip(right).position(|(left, right)| left != right);
    assert_eq!((left.len(), differs), (right.len(), None), "{name}: length, first difference");
}
