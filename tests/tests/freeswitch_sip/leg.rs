//! The RTP leg of a replay, and what it should hear of what was recorded.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tandem_call::{Digit, ItemId, LegEvent, MediaLeg, Origin};
use tandem_media::{AudioFormat, Codec, Decoder, SampleRate};
use tandem_rtp::{
    DigitReceiver, LegConfig, MediaParams, RtpLeg, RtpPacket, TelephoneEvent, is_rtcp,
};

/// Bytes of 20 ms of G.711.
const FRAME: usize = 160;

/// What the model says first in a G.711 call: 200 ms.
const GREETING: usize = 10 * FRAME;

/// What it says in any other: so much of a tone, half of a second.
const TONE_HZ: f64 = 440.0;

/// One leg on the virtual clock. Its model says a greeting as soon as it may.
pub(crate) struct Leg {
    pub(crate) leg: RtpLeg,
    params: Option<MediaParams>,
    /// Of what the model hears: that of the first codec.
    rate: SampleRate,
    /// What the packets of the call's codec hold by itself, ours and theirs.
    theirs: Option<Decoder>,
    ours: Option<Decoder>,
    start: Instant,
    /// What the model got of the caller's audio, and what it should have got.
    pub(crate) heard: Vec<i16>,
    pub(crate) expected: Vec<i16>,
    pub(crate) packets: usize,
    pub(crate) digits: String,
    /// Samples the model got in place of audio.
    pub(crate) concealed: usize,
    pub(crate) silence: usize,
    /// Digits in what we sent.
    pub(crate) said_digits: String,
    sender: DigitReceiver,
    /// The audio we sent, encoded, and decoded where it is not G.711.
    said: Vec<u8>,
    said_pcm: Vec<i16>,
    last_sequence: Option<u16>,
    started: Option<Instant>,
    lasted: Duration,
    closed: bool,
}

impl Leg {
    pub(crate) fn new(now: Instant) -> Self {
        let config = LegConfig {
            ssrc: 0x7A4D_E301,
            first_sequence: 65_500,
            first_timestamp: 0xFFFF_F000,
            cname: "replay".into(),
            codec: Codec::PCMU,
            uplink: AudioFormat::Pcm16(SampleRate::Hz8000),
            media_timeout: Duration::from_secs(600),
            seed: 7,
        };
        Self {
            leg: RtpLeg::new(now, Duration::from_secs(1_795_233_000), config),
            params: None,
            rate: SampleRate::Hz8000,
            theirs: None,
            ours: None,
            start: now,
            heard: Vec::new(),
            expected: Vec::new(),
            packets: 0,
            digits: String::new(),
            concealed: 0,
            silence: 0,
            said_digits: String::new(),
            sender: DigitReceiver::default(),
            said: Vec::new(),
            said_pcm: Vec::new(),
            last_sequence: None,
            started: None,
            lasted: Duration::ZERO,
            closed: false,
        }
    }

    pub(crate) fn apply(&mut self, now: Instant, params: MediaParams) {
        let first = self.params.replace(params).is_none();
        if first {
            self.rate = params.codec.rate();
            self.leg.set_uplink(AudioFormat::Pcm16(self.rate));
            self.theirs = Decoder::new(params.codec).ok();
            self.ours = Decoder::new(params.codec).ok();
        }
        self.leg.apply(now, params);
        if first {
            self.started = Some(now);
            self.leg.play(now, ItemId(1), params.codec.format(), &greeting(params.codec));
            self.leg.end_item(now, ItemId(1));
        }
        self.drain(now);
    }

    pub(crate) fn close(&mut self, now: Instant) {
        if let Some(started) = self.started.take() {
            self.lasted = now - started;
        }
        self.closed = true;
        self.leg.close(now);
        self.drain(now);
    }

    /// A datagram that the recorded user agent received at its RTP port.
    pub(crate) fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let taken = self.leg.handle_rtp(now, from, datagram);
        self.drain(now);
        let open = self.params.filter(|_| !self.closed);
        let Some(params) = open else {
            assert!(taken.is_err(), "media without a call at {:?}", now - self.start);
            return;
        };
        // FreeSWITCH tries its own port with a few bytes when it opens and closes it.
        if from != params.remote_rtp || is_rtcp(datagram) {
            return assert!(taken.is_err(), "a foreign datagram was taken");
        }
        taken.unwrap();
        let packet = RtpPacket::parse(datagram).unwrap();
        if let Some(last) = self.last_sequence.replace(packet.sequence) {
            assert_eq!(packet.sequence, last.wrapping_add(1), "the recordings have no loss");
        }
        // The laws are understood in each other's place.
        let mut other_law = match (packet.payload_type, params.codec) {
            (number, _) if number == params.payload_type => None,
            (0, Codec::G711(_)) => Decoder::new(Codec::PCMU).ok(),
            (8, Codec::G711(_)) => Decoder::new(Codec::PCMA).ok(),
            _ => return,
        };
        if params.is_held() {
            return;
        }
        let decoder = other_law.as_mut().or(self.theirs.as_mut()).unwrap();
        let mut pcm = Vec::new();
        decoder.decode(packet.payload, &mut pcm).unwrap();
        self.expected.extend(pcm);
        self.packets += 1;
    }

    /// A packet that the recorded user agent sent: its digits are to be sent by us, too.
    pub(crate) fn send_like(&mut self, now: Instant, digit: Digit) {
        if self.params.is_some() && !self.closed {
            self.leg.send_digits(now, &[digit]).unwrap();
            self.drain(now);
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.leg.poll_timeout()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.leg.handle_timeout(now);
        self.drain(now);
    }

    fn drain(&mut self, now: Instant) {
        while let Some(frame) = self.leg.poll_uplink() {
            let pcm = frame.audio.chunks_exact(2).map(|it| i16::from_le_bytes([it[0], it[1]]));
            match frame.origin {
                Origin::Caller => self.heard.extend(pcm),
                Origin::Concealed => self.concealed += pcm.len(),
                Origin::Silence => {
                    self.silence += pcm.len();
                    assert!(pcm.clone().all(|sample| sample == 0), "silence is silent");
                }
            }
        }
        while let Some(event) = self.leg.poll_event() {
            match event {
                LegEvent::Digit(digit) => self.digits.push(digit.as_char()),
                LegEvent::MediaTimeout => panic!("media timed out at {:?}", now - self.start),
                _ => {}
            }
        }
        while let Some(transmit) = self.leg.poll_transmit(now) {
            let params = self.params.expect("nothing is sent before the answer");
            if is_rtcp(transmit.bytes) {
                assert_eq!(transmit.destination, params.remote_rtcp);
                continue;
            }
            assert_eq!(transmit.destination, params.remote_rtp);
            assert!(params.sends() && !self.closed, "RTP at {:?}", now - self.start);
            let packet = RtpPacket::parse(transmit.bytes).unwrap();
            if packet.payload_type == params.payload_type {
                let ours = self.ours.as_mut().unwrap();
                let samples = ours.samples_in(packet.payload);
                assert_eq!(samples, Some(params.codec.rate().samples_per(params.ptime)));
                let mut pcm = Vec::new();
                ours.decode(packet.payload, &mut pcm).unwrap();
                self.said_pcm.extend(pcm);
                self.said.extend(packet.payload);
                continue;
            }
            assert_eq!(Some(packet.payload_type), params.telephone_event);
            let event = TelephoneEvent::parse(packet.payload).unwrap();
            let digit = self.sender.receive(now, packet.ssrc, packet.timestamp, event);
            self.said_digits.extend(digit.map(Digit::as_char));
        }
    }

    /// What holds in every replay that ran to its end.
    pub(crate) fn check(&self, name: &str) {
        let differs = self.heard.iter().zip(&self.expected).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{name}: first sample that differs");
        assert_eq!(self.heard.len(), self.expected.len(), "{name}");
        if let Some(MediaParams { codec, .. }) = self.params {
            let whole = match codec {
                Codec::G711(_) => self.said.windows(GREETING).any(|said| said == greeting(codec)),
                _ => tone_in(&self.said_pcm, self.rate),
            };
            assert!(whole, "{name}: the greeting is not said");
        }
        // The model's clock goes on: audio, or something in its place, for all of the call.
        let samples = self.heard.len() + self.silence + self.concealed;
        let covered = self.rate.duration_of(samples);
        let apart = covered.abs_diff(self.lasted);
        assert!(apart <= Duration::from_millis(100), "{name}: {covered:?} of {:?}", self.lasted);
    }
}

/// Bytes that are audio in either law, or half a second of a tone.
fn greeting(codec: Codec) -> Vec<u8> {
    if let Codec::G711(_) = codec {
        return (0..GREETING).map(|n| (n * 7 % 251) as u8).collect();
    }
    let hz = codec.rate().hz();
    let phase = |n: usize| TONE_HZ * n as f64 / hz as f64 * std::f64::consts::TAU;
    (0..hz / 2).flat_map(|n| ((phase(n).sin() * 8_000.0) as i16).to_le_bytes()).collect()
}

/// Whether `pcm` holds the tone for 400 ms, at about its level and with nothing beside it.
fn tone_in(pcm: &[i16], rate: SampleRate) -> bool {
    let hz = rate.hz();
    pcm.windows(hz * 2 / 5).step_by(hz / 100).any(|window| {
        let (mut sin, mut cos, mut power) = (0.0, 0.0, 0.0);
        for (n, &sample) in window.iter().enumerate() {
            let phase = TONE_HZ * n as f64 / hz as f64 * std::f64::consts::TAU;
            let sample = f64::from(sample);
            (sin, cos, power) =
                (sin + sample * phase.sin(), cos + sample * phase.cos(), power + sample * sample);
        }
        let tone = (sin * sin + cos * cos) * 2.0 / window.len() as f64;
        tone / window.len() as f64 > 2e7 && tone > 0.95 * power
    })
}
