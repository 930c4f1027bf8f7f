//! Speech over the telephone and through the real leg, on virtual time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_call::{ItemId, MediaLeg, Origin};
use tandem_media::{AudioFormat, Codec, Law, OpusParams, Ptime, SampleRate, VoiceSettings, g711};
use tandem_rtp::{
    Direction, Latching, LegConfig, MAX_HOLD, MediaParams, ReportBlock, RtpLeg, RtpPacket,
    write_report,
};

use crate::loss::Random;

pub(crate) const PTIME: Duration = Duration::from_millis(20);
const SAMPLES: usize = 160;
/// The model makes its speech in pieces of 200 ms, as fast as we take them.
const CHUNK: Duration = Duration::from_millis(200);

/// What the network does to a caller's packets.
#[derive(Debug, Clone, Copy)]
pub struct Network<'a> {
    /// Whether each packet is lost; none beyond its end.
    pub lost: &'a [bool],
    /// Each packet is late by up to so much, and overtaken by others.
    pub jitter: Duration,
    /// Seed of the jitter.
    pub seed: u64,
}

impl Network<'_> {
    /// The network that loses and delays nothing.
    pub const PERFECT: Self = Self { lost: &[], jitter: Duration::ZERO, seed: 0 };
}

/// What the model hears.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Audio in the model's format.
    pub audio: Vec<u8>,
    /// Bytes of it that no packet brought.
    pub made_up: usize,
}

/// Sends G.711 of `law` to a leg whose model takes `format`: whole packets of 20 ms, one after the other.
pub fn uplink(law: Law, format: AudioFormat, g711: &[u8], network: Network<'_>) -> Heard {
    let packets: Vec<&[u8]> = g711.chunks_exact(SAMPLES).collect();
    hear(law.into(), format, &packets, network)
}

/// Sends G.711 mu-law to a leg that treats the caller's voice by `settings`, and whose model takes PCM at 8 kHz.
pub fn treated(settings: &VoiceSettings, mu: &[u8]) -> Vec<i16> {
    let format = AudioFormat::Pcm16(SampleRate::Hz8000);
    let start = start();
    let mut leg = leg(start, Codec::PCMU, format);
    leg.set_voice(settings);
    let packets: Vec<&[u8]> = mu.chunks_exact(SAMPLES).collect();
    samples(format, &send(leg, start, Codec::PCMU, &packets, Network::PERFECT).audio)
}

/// Sends packets of `codec`, 20 ms each, to a leg whose model takes `format`.
///
/// A packet without a byte in it is none: its sender had nothing to say.
pub fn hear<P: AsRef<[u8]>>(
    codec: Codec,
    format: AudioFormat,
    packets: &[P],
    network: Network<'_>,
) -> Heard {
    let start = start();
    send(leg(start, codec, format), start, codec, packets, network)
}

/// Sends packets of `codec` to `leg`, the first one at `start`.
fn send<P: AsRef<[u8]>>(
    mut leg: RtpLeg,
    start: Instant,
    codec: Codec,
    packets: &[P],
    network: Network<'_>,
) -> Heard {
    let (mut heard, mut now, mut sequence) = (Heard::default(), start, 0_u16);
    let sequences: Vec<u16> = packets
        .iter()
        .map(|packet| {
            let this = sequence;
            sequence = sequence.wrapping_add(u16::from(!packet.as_ref().is_empty()));
            this
        })
        .collect();
    for (at, n, payload) in arrivals(packets, network) {
        now = start + at;
        run_until(&mut leg, now, &mut heard);
        if payload.is_empty() {
            continue;
        }
        let packet = RtpPacket {
            marker: n == 0,
            payload_type: payload_type(codec),
            sequence: sequences[n],
            timestamp: n as u32 * ticks(codec),
            ssrc: 0x7A4D,
            csrc: &[],
            extension: None,
            payload,
            padding: 0,
        };
        let mut datagram = Vec::with_capacity(12 + payload.len());
        packet.write(&mut datagram);
        leg.handle_rtp(now, PEER.into(), &datagram).expect("the packet is a good one");
        settle(&mut leg, now, &mut heard);
    }
    // What waits behind the last gap comes out too.
    run_until(&mut leg, now + MAX_HOLD, &mut heard);
    heard
}

/// Lets the model say `audio` of `format` over a leg; what the caller's telephone gets, in G.711 of `law`.
pub fn downlink(law: Law, format: AudioFormat, audio: &[u8]) -> Vec<u8> {
    say(law.into(), None, format, audio).concat()
}

/// Lets the model say `audio` of `format` over a leg that speaks `codec`; the payloads that the caller's telephone gets.
///
/// The caller's side may have reported the share of our packets that it misses, before the first one.
pub fn say(
    codec: Codec,
    reported_loss: Option<f32>,
    format: AudioFormat,
    audio: &[u8],
) -> Vec<Vec<u8>> {
    let start = start();
    let mut leg = leg(start, codec, format);
    if let Some(loss) = reported_loss {
        leg.handle_rtcp(start, PEER.into(), &report_of(loss)).expect("the report is a good one");
    }
    let item = ItemId(1);
    let mut payloads = Vec::new();
    for chunk in audio.chunks(format.bytes_per(CHUNK)) {
        leg.play(start, item, format, chunk);
    }
    leg.end_item(start, item);
    // An idle leg sends silence for ever, so the queue says when it is over; all is there from the start.
    let packets = format.duration_of(audio.len()).as_millis() / PTIME.as_millis() + 2;
    for _ in 0..packets {
        let Some(due) = leg.next_send().filter(|_| !leg.queued().is_zero()) else { break };
        while let Some(transmit) = leg.poll_transmit(due) {
            if let Ok(packet) = RtpPacket::parse(transmit.bytes)
                && packet.payload_type == payload_type(codec)
            {
                payloads.push(packet.payload.to_vec());
            }
        }
        leg.handle_timeout(due);
        while leg.poll_event().is_some() {}
    }
    assert_eq!(leg.queued(), Duration::ZERO, "a leg sends a packet each packet time");
    assert_eq!(leg.counters().playout_refused, 0, "a clip fits into the playout queue");
    payloads
}

/// G.711 of `pcm` at 8 kHz.
pub fn encode(law: Law, pcm: &[i16]) -> Vec<u8> {
    let mut payload = vec![0; pcm.len()];
    g711::encode(law, pcm, &mut payload);
    payload
}

/// Samples of G.711 at 8 kHz.
pub fn decode(law: Law, payload: &[u8]) -> Vec<i16> {
    let mut pcm = vec![0; payload.len()];
    g711::decode(law, payload, &mut pcm);
    pcm
}

/// Samples of audio that the model hears or says.
pub fn samples(format: AudioFormat, audio: &[u8]) -> Vec<i16> {
    match format {
        AudioFormat::G711(law) => decode(law, audio),
        AudioFormat::Pcm16(_) => {
            audio.as_chunks::<2>().0.iter().map(|bytes| i16::from_le_bytes(*bytes)).collect()
        }
    }
}

/// Little-endian bytes of `pcm`.
pub fn bytes(pcm: &[i16]) -> Vec<u8> {
    pcm.iter().flat_map(|sample| sample.to_le_bytes()).collect()
}

pub(crate) const PEER: ([u8; 4], u16) = ([192, 0, 2, 1], 4_000);
const OUR_SSRC: u32 = 1;
/// The payload type of comfort noise.
pub(crate) const COMFORT_NOISE: u8 = 13;

/// When each packet comes that is not lost: time, number, payload.
fn arrivals<'a, P: AsRef<[u8]>>(
    packets: &'a [P],
    network: Network<'_>,
) -> Vec<(Duration, usize, &'a [u8])> {
    let mut random = Random::new(network.seed);
    let mut arrivals: Vec<_> = packets
        .iter()
        .enumerate()
        .map(|(n, payload)| {
            let late = random.below(network.jitter.as_micros() as u64 + 1);
            // The first one sets the leg's clock; it comes on time.
            let late = if n == 0 { 0 } else { late };
            (PTIME * n as u32 + Duration::from_micros(late), n, payload.as_ref())
        })
        .filter(|(_, n, _)| !network.lost.get(*n).is_some_and(|lost| *lost))
        .collect();
    arrivals.sort();
    arrivals
}

/// What the peer says of us in RTCP when it misses this share of our packets.
fn report_of(loss: f32) -> Vec<u8> {
    let block = ReportBlock {
        ssrc: OUR_SSRC,
        // 256ths, rounded up: 2 % is 2 %.
        fraction_lost: (loss * 256.0).ceil() as u8,
        ..ReportBlock::default()
    };
    let mut datagram = Vec::new();
    write_report(&mut datagram, 0x7A4D, None, Some(&block));
    datagram
}

/// Lets the leg do what is due up to `now`.
pub(crate) fn run_until(leg: &mut RtpLeg, now: Instant, heard: &mut Heard) {
    while let Some(due) = leg.poll_timeout().filter(|due| *due <= now) {
        leg.handle_timeout(due);
        settle(leg, due, heard);
    }
}

/// Takes what the leg has for the model, and lets it send what it has to.
pub(crate) fn settle(leg: &mut RtpLeg, now: Instant, heard: &mut Heard) {
    while let Some(frame) = leg.poll_uplink() {
        heard.audio.extend_from_slice(frame.audio);
        if frame.origin != Origin::Caller {
            heard.made_up += frame.audio.len();
        }
    }
    while leg.poll_transmit(now).is_some() {}
    while leg.poll_event().is_some() {}
}

/// A leg that speaks `codec`, and whose model takes `uplink`.
pub(crate) fn leg(now: Instant, codec: Codec, uplink: AudioFormat) -> RtpLeg {
    let config = LegConfig {
        ssrc: OUR_SSRC,
        first_sequence: 1,
        first_timestamp: 0,
        cname: "quality".into(),
        codec,
        uplink,
        media_timeout: Duration::from_secs(60),
        seed: 1,
    };
    let mut leg = RtpLeg::new(now, Duration::from_secs(1_000_000_000), config);
    let params = MediaParams {
        remote_rtp: SocketAddr::from(PEER),
        remote_rtcp: SocketAddr::from(PEER),
        rtcp_mux: true,
        codec,
        payload_type: payload_type(codec),
        opus: OpusParams { fec: true, ..OpusParams::DEFAULT },
        telephone_event: Some(101),
        telephone_event_hz: codec.clock_hz(),
        comfort_noise: Some(COMFORT_NOISE),
        ptime: Ptime::MS20,
        direction: Direction::SendRecv,
        latching: Latching::Off,
    };
    leg.apply(now, params);
    leg
}

pub(crate) const fn payload_type(codec: Codec) -> u8 {
    match codec.static_payload_type() {
        Some(payload_type) => payload_type,
        None => 96,
    }
}

/// RTP ticks of a packet.
pub(crate) const fn ticks(codec: Codec) -> u32 {
    codec.clock_hz() / 50
}

/// Some instant to count virtual time from.
pub(crate) fn start() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::{Shape, pattern};

    fn speech() -> Vec<i16> {
        (0..40_000)
            .map(|n| {
                let time = f64::from(n) / 8_000.0;
                (6_000.0 * (time * 900.0).sin() * (time * 9.0).sin()) as i16
            })
            .collect()
    }

    #[test]
    fn a_good_network_passes_every_byte_both_ways() {
        for law in [Law::Mu, Law::A] {
            let g711 = encode(law, &speech());
            let format = AudioFormat::G711(law);
            let heard = uplink(law, format, &g711, Network::PERFECT);
            assert_eq!(heard.audio, g711, "{law:?}");
            assert_eq!(heard.made_up, 0, "{law:?}");
            assert_eq!(downlink(law, format, &g711), g711, "{law:?}");
        }
    }

    #[test]
    fn loss_keeps_the_length_and_what_arrived() {
        let g711 = encode(Law::Mu, &speech());
        let format = AudioFormat::G711(Law::Mu);
        for shape in [Shape::Random, Shape::Burst] {
            for seed in 1..=20 {
                let lost = pattern(shape, 10, g711.len() / SAMPLES, seed);
                let network = Network { lost: &lost, ..Network::PERFECT };
                let heard = uplink(Law::Mu, format, &g711, network);
                assert_eq!(heard.audio.len(), g711.len(), "{shape:?} {seed}");
                assert_eq!(heard.made_up, 25 * SAMPLES, "{shape:?} {seed}");
                let frames = heard.audio.chunks(SAMPLES).zip(g711.chunks(SAMPLES)).zip(&lost);
                for (n, ((heard, sent), lost)) in frames.enumerate() {
                    assert!(*lost || heard == sent, "{shape:?} {seed}: packet {n}");
                }
            }
        }
    }

    #[test]
    fn jitter_and_reordering_cost_nothing() {
        let g711 = encode(Law::Mu, &speech());
        for seed in 1..=20 {
            let network = Network { lost: &[], jitter: Duration::from_millis(40), seed };
            let heard = uplink(Law::Mu, AudioFormat::G711(Law::Mu), &g711, network);
            assert!(heard.audio == g711, "{seed}");
        }
    }
}
