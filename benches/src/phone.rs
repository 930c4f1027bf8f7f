//! A caller over RTP.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tandem_call::SignalEvent;
use tandem_exchange::CallCore;
use tandem_media::{Law, Ptime, SampleRate, g711};
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
    next: usize,
}

impl PhoneCall {
    pub(crate) fn new(now: Instant, variant: Variant, wire: &Rc<Wire>) -> Self {
        let law = variant.law();
        let leg = LegConfig {
            ssrc: 1,
            first_sequence: 1,
            first_timestamp: 0,
            cname: "bench".into(),
            codec: law.into(),
            uplink: variant.formats().0,
            media_timeout: Duration::from_secs(60),
            seed: 1,
        };
        let core = core(now, RtpLeg::new(now, UNIX_NOW, leg), variant, wire);
        let peer = SocketAddr::from(([127, 0, 0, 1], 4_000));
        Self { core, peer, datagrams: datagrams(law), next: 0 }
    }

    pub(crate) fn answer(&mut self, now: Instant, law: Law) {
        let params = MediaParams {
            remote_rtp: self.peer,
            remote_rtcp: self.peer,
            rtcp_mux: true,
            codec: law.into(),
            payload_type: if law == Law::Mu { 0 } else { 8 },
            opus: tandem_media::OpusParams::DEFAULT,
            telephone_event: Some(101),
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
        stamp(datagram, self.next);
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
fn datagrams(law: Law) -> Vec<Vec<u8>> {
    let mut pcm = [0_i16; 160];
    let mut payload = [0_u8; 160];
    (0..256_usize)
        .map(|packet| {
            buzz(packet * 160, SampleRate::Hz8000, &mut pcm);
            g711::encode(law, &pcm, &mut payload);
            let mut datagram =
                vec![0x80, if law == Law::Mu { 0 } else { 8 }, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
            datagram.extend_from_slice(&payload);
            debug_assert!(RtpPacket::parse(&datagram).is_ok());
            datagram
        })
        .collect()
}

/// Writes sequence number and timestamp of packet `n`.
fn stamp(datagram: &mut [u8], n: usize) {
    datagram[2..4].copy_from_slice(&(n as u16).to_be_bytes());
    datagram[4..8].copy_from_slice(&((n * 160) as u32).to_be_bytes());
}
