//! An hour-long call keeps time to the sample, both ways.

use std::time::{Duration, Instant};

use tandem_call::{ItemId, MediaLeg, Origin};
use tandem_media::{AudioFormat, Codec, Encoder, Law, OpusParams, Ptime, SampleRate};
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket, is_rtcp};

const PTIME: Duration = Duration::from_millis(20);

/// Packets of an hour.
const HOUR: u32 = 180_000;

/// Some instant to count virtual time from.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; nothing is measured"
)]
fn beginning() -> Instant {
    Instant::now()
}

/// A call of so many packets each way between a phone that speaks `codec` and a model that takes `up` and gives `down`.
fn call(codec: Codec, up: AudioFormat, down: AudioFormat, packets: u32) {
    let start = beginning();
    let peer = "192.0.2.1:4000".parse().expect("an address");
    let payload_type = codec.static_payload_type().unwrap_or(96);
    let config = LegConfig {
        ssrc: 1,
        first_sequence: 0,
        first_timestamp: 0,
        cname: "tandem".into(),
        codec,
        uplink: up,
        media_timeout: Duration::from_secs(30),
        seed: 3,
    };
    let mut leg = RtpLeg::new(start, Duration::from_secs(1), config);
    leg.apply(
        start,
        MediaParams {
            remote_rtp: peer,
            remote_rtcp: peer,
            rtcp_mux: true,
            codec,
            payload_type,
            opus: OpusParams::DEFAULT,
            telephone_event: Some(101),
            telephone_event_hz: codec.clock_hz(),
            comfort_noise: None,
            ptime: Ptime::MS20,
            direction: Direction::SendRecv,
            latching: Latching::Off,
        },
    );
    let ticks = codec.clock_hz() / 50;
    let mut payload = Vec::new();
    let tone: Vec<i16> =
        (0..codec.rate().hz() / 50).map(|n| (8_000.0 * (n as f64 * 0.157).sin()) as i16).collect();
    let mut encoder = Encoder::new(codec, &OpusParams::DEFAULT).expect("memory");
    encoder.encode(&tone, &mut payload).expect("20 ms");
    // What a model sends has no regard for packets.
    let (item, chunk) = (ItemId(1), down.bytes_per(PTIME * 7 / 3));
    let voice = vec![0x31; chunk];
    let total = down.bytes_per(PTIME) * packets as usize;
    let (mut played, mut heard, mut timestamps) = (0, 0, Vec::with_capacity(2));
    let (mut datagram, mut sent) = (Vec::new(), 0);
    while leg.poll_transmit(start).is_some() {} // The first packet, of silence.
    for n in 0..packets {
        let now = start + PTIME * n;
        while played < total && leg.queued() < 5 * PTIME {
            let piece = chunk.min(total - played);
            leg.play(now, item, down, &voice[..piece]);
            played += piece;
        }
        if played == total {
            leg.end_item(now, item);
        }
        datagram.clear();
        RtpPacket {
            marker: false,
            payload_type,
            sequence: n as u16,
            timestamp: n.wrapping_mul(ticks),
            ssrc: 7,
            csrc: &[],
            extension: None,
            payload: &payload,
            padding: 0,
        }
        .write(&mut datagram);
        leg.handle_rtp(now, peer, &datagram).expect("a good packet");
        leg.handle_timeout(now);
        while let Some(frame) = leg.poll_uplink() {
            assert_eq!(frame.origin, Origin::Caller, "packet {n}");
            heard += frame.audio.len();
        }
        while leg.poll_event().is_some() {}
        while let Some(transmit) = leg.poll_transmit(now) {
            if !is_rtcp(transmit.bytes) {
                let packet = RtpPacket::parse(transmit.bytes).expect("what we send is RTP");
                timestamps.truncate(1);
                timestamps.push(packet.timestamp);
                sent += 1;
            }
        }
    }
    let name = format!("{codec:?}, {up:?} up, {down:?} down");
    assert_eq!(heard, up.bytes_per(PTIME) * packets as usize, "{name}: up");
    assert_eq!(leg.heard(item), Some(PTIME * packets), "{name}: down");
    assert_eq!(leg.queued(), Duration::ZERO, "{name}");
    assert_eq!(sent, packets, "{name}: packets");
    let elapsed = timestamps[1].wrapping_sub(timestamps[0]);
    assert_eq!(elapsed, (packets - 1).wrapping_mul(ticks), "{name}: timestamps");
    let counters = leg.counters();
    assert_eq!((counters.underruns, counters.uplink_surplus, counters.playout_refused), (0, 0, 0));
}

const MU: AudioFormat = AudioFormat::G711(Law::Mu);
const PCM16: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz16000);
const PCM24: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz24000);

#[test]
fn an_hour_of_g711_passed_through() {
    call(Codec::PCMU, MU, MU, HOUR);
}

#[test]
fn an_hour_of_g711_at_24_khz() {
    call(Codec::PCMA, PCM24, PCM24, HOUR);
}

#[test]
fn an_hour_of_g722() {
    call(Codec::G722, PCM16, PCM24, HOUR);
}

#[test]
fn an_hour_of_linear_pcm() {
    call(Codec::L16(SampleRate::Hz24000), PCM16, PCM24, HOUR);
}

/// Six minutes: encoding Opus takes ten times as long as all the rest. Its packets count samples as all others do.
#[test]
fn a_tenth_of_an_hour_of_opus() {
    call(Codec::Opus(SampleRate::Hz16000), PCM24, PCM24, HOUR / 10);
}
