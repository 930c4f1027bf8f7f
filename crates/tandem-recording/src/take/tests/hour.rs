//! An hour of a call: clicks of both sides lie where RTP has them, to the sample.

use std::net::SocketAddr;

use tandem_call::{ItemId, MediaLeg};
use tandem_media::{AudioFormat, Codec, Law, OpusParams, Ptime, g711};
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};

use super::*;

const PACKETS: u32 = 180_000;
const CLICK: i16 = 30_000;
const FIRST_TIMESTAMP: u32 = u32::MAX - 5_000;

fn peer() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

fn leg(start: Instant) -> RtpLeg {
    let config = LegConfig {
        ssrc: 7,
        first_sequence: 65_000,
        first_timestamp: FIRST_TIMESTAMP,
        cname: "tandem@test".into(),
        codec: Codec::PCMU,
        uplink: AudioFormat::G711(Law::Mu),
        media_timeout: Duration::from_secs(30),
        seed: 1,
    };
    let mut leg = RtpLeg::new(start, Duration::from_secs(1_800_000_000), config);
    leg.apply(
        start,
        MediaParams {
            remote_rtp: peer(),
            remote_rtcp: peer(),
            rtcp_mux: true,
            codec: Codec::PCMU,
            payload_type: 0,
            opus: OpusParams::DEFAULT,
            telephone_event: Some(101),
            telephone_event_hz: 8_000,
            comfort_noise: None,
            ptime: Ptime::MS20,
            direction: Direction::SendRecv,
            latching: Latching::Off,
        },
    );
    leg
}

/// A packet of silence, with a click at `click`.
fn audio(click: Option<usize>) -> [u8; 160] {
    let mut audio = [Law::Mu.silence(); 160];
    if let Some(click) = click {
        let mut code = [0];
        g711::encode(Law::Mu, &[CLICK], &mut code);
        audio[click] = code[0];
    }
    audio
}

#[test]
fn after_an_hour_both_sides_lie_where_rtp_has_them() {
    // At the leg's own rate a click is one sample. At 16 kHz it would be twice the memory.
    let rate = SampleRate::Hz8000;
    let room = 44 + PACKETS as usize * 160 * 4 + 10_000;
    let mut studio = Studio::open(settings(rate), rate, MemoryDisk::new(room));
    let start = studio.begin;
    let mut leg = leg(start);
    let [heard, sent] = studio.ears.take().unwrap();
    leg.tap(heard, sent);

    let (mut said, mut played) = (Vec::new(), Vec::new());
    for n in 0..PACKETS {
        let at = start + n * 20 * MS;
        // The caller clicks about every seven seconds, in the middle of packets that come up to 12 ms late; one packet in a hundred
        // is lost, and some overtake each other.
        let click = (n % 350 == 17).then_some((n as usize * 7) % 160);
        let lost = n % 100 == 50;
        if let Some(click) = click {
            said.push(n as usize * 160 + click);
        }
        // A turn of the agent about every ten seconds: a click after 30 ms, 200 ms long.
        if n % 500 == 100 {
            let item = ItemId(u64::from(n));
            let mut speech = vec![Law::Mu.silence(); 1_600];
            speech[..160].copy_from_slice(&audio(Some(30)));
            leg.play(at + 3 * MS, item, AudioFormat::G711(Law::Mu), &speech);
            leg.end_item(at + 3 * MS, item);
        }
        let delay = Duration::from_micros(u64::from(n) * 7_919 % 12_000);
        let arrival = at + 3 * MS + delay;
        let until = at + 20 * MS;
        run_until(&mut leg, arrival, &mut played);
        if !lost {
            let mut datagram = Vec::new();
            let packet = RtpPacket {
                marker: n == 0,
                payload_type: 0,
                sequence: n as u16,
                timestamp: n.wrapping_mul(160),
                ssrc: 9,
                csrc: &[],
                extension: None,
                payload: &audio(click),
                padding: 0,
            };
            packet.write(&mut datagram);
            leg.handle_rtp(arrival, peer(), &datagram).unwrap();
        }
        run_until(&mut leg, until, &mut played);
        if n % 5 == 0 {
            assert!(!studio.pump(until - start));
        }
    }
    assert!(leg.quality().packets_lost > 1_000);
    let (report, file) = studio.end(PACKETS * 20 * MS);
    assert_eq!(report.duration, Duration::from_secs(3_600));
    assert_eq!((report.dropped, report.end), (Duration::ZERO, RecordingEnd::CallEnded));
    let frames = frames(&file);
    let clicks = |side: usize| -> Vec<usize> {
        let loud = frames.iter().enumerate().filter(|(_, it)| it[side] > 20_000);
        loud.map(|(at, _)| at).collect()
    };
    assert!(said.len() > 500 && played.len() > 350, "{} and {}", said.len(), played.len());
    assert!(clicks(0) == said);
    assert!(clicks(1) == played);
}

/// Lets time pass; takes down where, by the RTP time of what is sent, the clicks are.
fn run_until(leg: &mut RtpLeg, until: Instant, played: &mut Vec<usize>) {
    loop {
        let due = [leg.next_send(), leg.poll_timeout()].into_iter().flatten().min();
        let Some(due) = due.filter(|due| *due < until) else { break };
        leg.handle_timeout(due);
        while let Some(sent) = leg.poll_transmit(due) {
            let Ok(packet) = RtpPacket::parse(sent.bytes) else { continue };
            if packet.payload_type != 0 {
                continue; // RTCP, on the same port.
            }
            let mut pcm = vec![0; packet.payload.len()];
            g711::decode(Law::Mu, packet.payload, &mut pcm);
            if let Some(click) = pcm.iter().position(|sample| *sample > 20_000) {
                let time = packet.timestamp.wrapping_sub(FIRST_TIMESTAMP) as usize;
                played.push(time + click);
            }
        }
        while leg.poll_uplink().is_some() {}
        while leg.poll_event().is_some() {}
    }
    while leg.poll_uplink().is_some() {}
}
