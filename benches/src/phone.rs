//! A caller over RTP.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tandem_call::SignalEvent;
use tandem_exchange::CallCore;
use tandem_media::{Codec, Encoder, OpusParams, Ptime};
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};

use crate::{
    Variant,
    path::{buzz, core},
    wire::{UNIX_NOW, Wire},
};

/// A call over RTP that is answered.
pub(crate) struct PhoneCall {
    pub(crate) core: CallCore<RtpLeg>,
    peer: SocketAddr,
    datagrams: Vec<Vec<u8>>,
    /// Ticks of a packet.
    ticks: u32,
    next: usize,
}

impl PhoneCall {
    pub(crate) fn new(now: Instant, variant: Variant, wire: &Rc<Wire>) -> Self {
        let codec = variant.codec();
        let leg = LegConfig {
            ssrc: 1,
            first_sequence: 1,
            first_timestamp: 0,
            cname: "bench".into(),
            codec,
            uplink: variant.formats().0,
            media_timeout: Duration::from_secs(60),
            seed: 1,
        };
        let mut leg = RtpLeg::new(now, UNIX_NOW, leg);
        if let Some(complexity) = variant.complexity() {
            leg.set_complexity(complexity);
        }
        let core = core(now, leg, variant, wire);
        let peer = SocketAddr::from(([127, 0, 0, 1], 4_000));
        Self { core, peer, datagrams: datagrams(codec), ticks: codec.clock_hz() / 50, next: 0 }
    }

    pub(crate) fn answer(&mut self, now: Instant, codec: Codec) {
        let params = MediaParams {
            remote_rtp: self.peer,
            remote_rtcp: self.peer,
            rtcp_mux: true,
            codec,
            payload_type: codec.static_payload_type().unwrap_or(96),
            opus: OpusParams::DEFAULT,
            telephone_event: Some(101),
            telephone_event_hz: codec.clock_hz(),
            comfort_noise: Some(13),
            ptime: Ptime::MS20,
            direction: Direction::SendRecv,
            latching: Latching::Off,
        };
        self.core.handle_media(now, params);
        self.core.handle_signal(now, SignalEvent::Answered);
    }

    /// The caller's next datagram arrives.
    pub(crate) fn receive(&mut self, now: Instant) {
        let index = self.next % self.datagrams.len();
        let datagram = &mut self.datagrams[index];
        stamp(datagram, self.next, self.ticks);
        self.next += 1;
        self.core.handle_rtp(now, self.peer, datagram).expect("the datagram is good");
    }

    /// Sends the datagrams that are due. Returns their bytes.
    pub(crate) fn transmit(&mut self, now: Instant) -> usize {
        let mut sent = 0;
        while let Some(transmit) = self.core.poll_transmit(now) {
            sent += transmit.bytes.len();
        }
        sent
    }
}

/// Packets of something like speech.
fn datagrams(codec: Codec) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec, &OpusParams::DEFAULT).expect("libopus gets memory");
    let mut pcm = vec![0; codec.rate().samples_per(Ptime::MS20)];
    (0..256_usize)
        .map(|packet| {
            buzz(packet * pcm.len(), codec.rate(), &mut pcm);
            let payload_type = codec.static_payload_type().unwrap_or(96);
            let mut datagram = vec![0x80, payload_type, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
            encoder.encode(&pcm, &mut datagram).expect("every codec takes 20 ms");
            debug_assert!(RtpPacket::parse(&datagram).is_ok());
            datagram
        })
        .collect()
}

/// Writes sequence number and timestamp of packet `n`, each `ticks` long.
fn stamp(datagram: &mut [u8], n: usize, ticks: u32) {
    datagram[2..4].copy_from_slice(&(n as u16).to_be_bytes());
    datagram[4..8].copy_from_slice(&(n as u32).wrapping_mul(ticks).to_be_bytes());
}
