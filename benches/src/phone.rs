//! A caller over RTP.

use std::{
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tandem_call::SignalEvent;
use tandem_exchange::{CallCore, SecureMedia};
use tandem_media::{Codec, Encoder, OpusParams, Ptime};
use tandem_rtp::{Channel, Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};
use tandem_srtp::{MasterKey, MediaSecurity, Profile, Sender};

use crate::{
    Surroundings,
    path::{buzz, core},
    wire::{UNIX_NOW, Wire},
};

/// What most telephones offer.
const PROFILE: Profile = Profile::AesCm128HmacSha1_80;

/// A call over RTP that is answered.
pub(crate) struct PhoneCall {
    pub(crate) core: CallCore<RtpLeg>,
    peer: SocketAddr,
    datagrams: Rc<[Vec<u8>]>,
    /// The next one, as it comes.
    datagram: Vec<u8>,
    /// Ticks of a packet.
    ticks: u32,
    next: usize,
    security: SecureMedia,
    /// Protects what the peer sends.
    sender: Option<Sender>,
    clear: Vec<u8>,
}

impl PhoneCall {
    pub(crate) fn new(now: Instant, around: &Surroundings, wire: &Rc<Wire>) -> Self {
        let codec = around.variant.codec();
        let leg = LegConfig {
            ssrc: 1,
            first_sequence: 1,
            first_timestamp: 0,
            cname: "bench".into(),
            codec,
            uplink: around.variant.formats().0,
            media_timeout: Duration::from_secs(60),
            seed: 1,
        };
        let mut leg = RtpLeg::new(now, UNIX_NOW, leg);
        leg.set_voice(&around.extras.voice());
        if let Some(complexity) = around.variant.complexity() {
            leg.set_complexity(complexity);
        }
        let mut security = SecureMedia::new(None);
        let sender = around.extras.srtp.then(|| {
            let [ours, theirs] = [0x5A, 0xC3].map(|byte| {
                MasterKey::from_bytes(PROFILE, &[byte; 30]).expect("a key and a salt of its length")
            });
            let sender = Sender::new(&theirs);
            security.agree(now, MediaSecurity::Sdes { ours, theirs, mki: None });
            sender
        });
        Self {
            core: core(now, leg, around, wire),
            peer: SocketAddr::from(([127, 0, 0, 1], 4_000)),
            datagrams: Rc::clone(&around.messages),
            datagram: Vec::with_capacity(2_048),
            ticks: codec.clock_hz() / 50,
            next: 0,
            security,
            sender,
            clear: Vec::new(),
        }
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
        let params = self.security.negotiate(now, params).expect("keys of SDP need no handshake");
        self.core.handle_media(now, params);
        self.core.handle_signal(now, SignalEvent::Answered);
    }

    /// The caller makes his next datagram.
    pub(crate) fn prepare(&mut self) {
        let datagram = if self.sender.is_some() { &mut self.clear } else { &mut self.datagram };
        datagram.clear();
        datagram.extend_from_slice(&self.datagrams[self.next % self.datagrams.len()]);
        stamp(datagram, self.next, self.ticks);
        self.next += 1;
        if let Some(sender) = &mut self.sender {
            sender.protect_rtp(&self.clear, &mut self.datagram).expect("the sequence rises");
        }
    }

    /// It arrives.
    pub(crate) fn receive(&mut self, now: Instant) {
        let datagram = &mut self.datagram[..];
        let length = self.security.unprotect(now, Channel::Rtp, self.peer, datagram);
        let clear = &datagram[..length.expect("the datagram is authentic")];
        self.core.handle_rtp(now, self.peer, clear).expect("the datagram is good");
    }

    /// Sends the datagrams that are due. Returns their bytes.
    pub(crate) fn transmit(&mut self, now: Instant) -> usize {
        let mut sent = 0;
        while let Some(transmit) = self.core.poll_transmit(now) {
            let protected = self.security.protect(transmit.channel, transmit.bytes);
            sent += protected.expect("the keys are fresh").len();
        }
        sent
    }
}

/// Packets of something like speech.
pub(crate) fn datagrams(codec: Codec) -> Rc<[Vec<u8>]> {
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
