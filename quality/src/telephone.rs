//! Speech over the telephone and through the real leg, on virtual time.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_call::{ItemId, MediaLeg, Origin};
use tandem_media::{AudioFormat, Law, Ptime, g711};
use tandem_rtp::{Direction, Latching, LegConfig, MAX_HOLD, MediaParams, RtpLeg, RtpPacket};

use crate::loss::Random;

const PTIME: Duration = Duration::from_millis(20);
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
    let start = start();
    let mut leg = leg(start, law, format);
    let (mut heard, mut now) = (Heard::default(), start);
    for (at, n, payload) in arrivals(g711, network) {
        now = start + at;
        run_until(&mut leg, now, &mut heard);
        let packet = RtpPacket {
            marker: n == 0,
            payload_type: payload_type(law),
            sequence: n as u16,
            timestamp: (n * SAMPLES) as u32,
            ssrc: 0x7A4D,
            csrc: &[],
            extension: None,
            payload,
            padding: 0,
        };
        let mut datagram = Vec::with_capacity(172);
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
    let start = start();
    let mut leg = leg(start, law, format);
    let item = ItemId(1);
    let mut g711 = Vec::new();
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
                && packet.payload_type == payload_type(law)
            {
                g711.extend_from_slice(packet.payload);
            }
        }
        leg.handle_timeout(due);
        while leg.poll_event().is_some() {}
    }
    assert_eq!(leg.queued(), Duration::ZERO, "a leg sends a packet each packet time");
    assert_eq!(leg.counters().playout_refused, 0, "a clip fits into the playout queue");
    g711
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

const PEER: ([u8; 4], u16) = ([192, 0, 2, 1], 4_000);

/// When each packet comes that is not lost: time, number, payload.
fn arrivals<'a>(g711: &'a [u8], network: Network<'_>) -> Vec<(Duration, usize, &'a [u8])> {
    let mut random = Random::new(network.seed);
    let mut arrivals: Vec<_> = g711
        .chunks_exact(SAMPLES)
        .enumerate()
        .map(|(n, payload)| {
            let late = random.below(network.jitter.as_micros() as u64 + 1);
            // The first one sets the leg's clock; it comes on time.
            let late = if n == 0 { 0 } else { late };
            (PTIME * n as u32 + Duration::from_micros(late), n, payload)
        })
        .filter(|(_, n, _)| !network.lost.get(*n).is_some_and(|lost| *lost))
        .collect();
    arrivals.sort();
    arrivals
}

/// Lets the leg do what is due up to `now`.
fn run_until(leg: &mut RtpLeg, now: Instant, heard: &mut Heard) {
    while let Some(due) = leg.poll_timeout().filter(|due| *due <= now) {
        leg.handle_timeout(due);
        settle(leg, due, heard);
    }
}

/// Takes what the leg has for the model, and lets it send what it has to.
fn settle(leg: &mut RtpLeg, now: Instant, heard: &mut Heard) {
    while let Some(frame) = leg.poll_uplink() {
        heard.audio.extend_from_slice(frame.audio);
        if frame.origin != Origin::Caller {
            heard.made_up += frame.audio.len();
        }
    }
    while leg.poll_transmit(now).is_some() {}
    while leg.poll_event().is_some() {}
}

fn leg(now: Instant, law: Law, uplink: AudioFormat) -> RtpLeg {
    let config = LegConfig {
        ssrc: 1,
        first_sequence: 1,
        first_timestamp: 0,
        cname: "quality".into(),
        codec: law.into(),
        uplink,
        media_timeout: Duration::from_secs(60),
        seed: 1,
    };
    let mut leg = RtpLeg::new(now, Duration::from_secs(1_000_000_000), config);
    let params = MediaParams {
        remote_rtp: SocketAddr::from(PEER),
        remote_rtcp: SocketAddr::from(PEER),
        rtcp_mux: true,
        codec: law.into(),
        payload_type: payload_type(law),
        opus: tandem_media::OpusParams::DEFAULT,
        telephone_event: Some(101),
        comfort_noise: Some(13),
        ptime: Ptime::MS20,
        direction: Direction::SendRecv,
        latching: Latching::Off,
    };
    leg.apply(now, params);
    leg
}

const fn payload_type(law: Law) -> u8 {
    match law {
        Law::Mu => 0,
        Law::A => 8,
    }
}

/// Some instant to count virtual time from.
fn start() -> Instant {
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
