//! What must hold for any input from outside, as plain functions.
//!
//! Each takes arbitrary bytes and panics when something is wrong: a parser panicked, or what was parsed, written and
//! parsed again came out different. `cargo test -p tandem-fuzz` feeds them seeds and mutations of them;
//! `cargo-fuzz/` has a target for each.

mod codecs;
mod recordings;
mod srtp;
mod tools;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_call::{ItemId, MediaLeg, ModelEvent, ModelSink, SessionSpec};
use tandem_media::{AudioFormat, Codec, Law, Ptime, SampleRate};
use tandem_models::{GeminiLive, ModelDialect, ModelSettings, OpenAiRealtime, Outbox, Provider};
use tandem_net::FrameReader;
use tandem_pbx::EventHeaders;
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtcpCompound, RtpLeg, RtpPacket};
use tandem_sip::{message::Message, sdp::SessionDescription, uri::NameAddr};
use tandem_streams::{Channels, Dialect, ForkLeg, ForkLegConfig, Metadata, StreamShape};

pub use codecs::{comfort_noise, concealer, g722, l16, opus, opus_encoder};
pub use recordings::{SEEDS_KEY, recording, sealed_recording};
pub use srtp::{crypto_attribute, handshake};
pub use tools::{phone_number, tool_answer, tool_arguments};

/// A target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 26] = [
    ("sip_message", sip_message),
    ("sdp", sdp),
    ("name_addr", name_addr),
    ("rtp", rtp),
    ("rtcp", rtcp),
    ("leg", leg),
    ("openai_realtime", openai_realtime),
    ("gemini_live", gemini_live),
    ("websocket_frames", websocket_frames),
    ("event_json", event_json),
    ("fork_metadata", fork_metadata),
    ("fork_leg", fork_leg),
    ("crypto_attribute", crypto_attribute),
    ("handshake", handshake),
    ("g722", g722),
    ("opus", opus),
    ("opus_encoder", opus_encoder),
    ("l16", l16),
    ("comfort_noise", comfort_noise),
    ("concealer", concealer),
    ("recording", recording),
    ("sealed_recording", sealed_recording),
    ("tool_answer", tool_answer),
    ("tool_arguments", tool_arguments),
    ("phone_number", phone_number),
    ("machine", tandem_sim::run_events),
];

/// A SIP message that parses is the same after it was written and parsed again.
pub fn sip_message(bytes: &[u8]) {
    let Ok(message) = Message::parse(bytes) else { return };
    let written = match &message {
        Message::Request(request) => request.encode(),
        Message::Response(response) => response.encode(),
    };
    let again = Message::parse(&written).expect("what we wrote can be read");
    let rewritten = match &again {
        Message::Request(request) => request.encode(),
        Message::Response(response) => response.encode(),
    };
    assert_eq!(written, rewritten);
}

/// A session description that parses is the same after it was written and parsed again.
pub fn sdp(bytes: &[u8]) {
    let Ok(description) = SessionDescription::parse(bytes) else { return };
    let written = description.to_string();
    let again = SessionDescription::parse(written.as_bytes()).expect("what we wrote can be read");
    assert_eq!(written, again.to_string());
}

/// An address header that parses is the same after it was written and parsed again.
pub fn name_addr(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(address) = NameAddr::parse(text) else { return };
    let written = address.to_string();
    let again = NameAddr::parse(&written).expect("what we wrote can be read");
    assert_eq!(written, again.to_string());
}

/// An RTP packet that parses is the same after it was written and parsed again.
pub fn rtp(bytes: &[u8]) {
    let Ok(packet) = RtpPacket::parse(bytes) else { return };
    let mut written = Vec::new();
    packet.write(&mut written);
    let again = RtpPacket::parse(&written).expect("what we wrote can be read");
    assert_eq!(
        (packet.sequence, packet.timestamp, packet.payload),
        (again.sequence, again.timestamp, again.payload)
    );
}

/// An RTCP compound that parses can be walked to its end.
pub fn rtcp(bytes: &[u8]) {
    for packet in RtcpCompound::new(bytes) {
        std::hint::black_box(packet).ok();
    }
}

/// Websocket frames come out the same however the bytes were cut into reads.
pub fn websocket_frames(bytes: &[u8]) {
    let read = |step: usize| {
        let mut reader = FrameReader::new(4_096, &[]);
        let mut frames = Vec::new();
        for part in bytes.chunks(step.max(1)) {
            reader.extend(part);
            loop {
                match reader.next_frame() {
                    Ok(Some(frame)) => frames.push(Ok(frame)),
                    Ok(None) => break,
                    Err(error) => {
                        frames.push(Err(error));
                        return frames;
                    }
                }
            }
        }
        frames
    };
    assert_eq!(read(bytes.len()), read(1 + bytes.len() % 7));
}

/// An event of the switch is read or refused; what was read can be looked up.
pub fn event_json(bytes: &[u8]) {
    let Some(headers) = EventHeaders::from_json(bytes) else { return };
    for (name, _) in headers.iter() {
        assert!(headers.get(name).is_some(), "{name:?}");
    }
}

/// Metadata of a fork is read or refused, and what is kept of it is bounded.
pub fn fork_metadata(bytes: &[u8]) {
    let Ok(metadata) = Metadata::parse(bytes) else { return };
    assert!(metadata.variables.len() <= 128);
}

/// A fork's leg takes any messages, of any dialect, and goes on.
pub fn fork_leg(bytes: &[u8]) {
    const RATES: [SampleRate; 3] = [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000];
    let Some((&choice, mut rest)) = bytes.split_first() else { return };
    let rate = RATES[usize::from(choice) % RATES.len()];
    let format = AudioFormat::Pcm16(SampleRate::Hz24000);
    let mut now = Instant::now();
    let media_timeout = Duration::from_secs(60);
    let config = ForkLegConfig { rate, uplink: format, media_timeout, stream_clear: None };
    let mut leg = ForkLeg::new(now, config);
    leg.attach(
        now,
        StreamShape {
            dialect: Dialect::ALL[usize::from(choice >> 2) % Dialect::ALL.len()],
            rate,
            channels: if choice & 64 == 0 { Channels::Mono } else { Channels::Stereo },
            back: rate,
            codec: SampleRate::Hz8000,
        },
    );
    let mut item = 0;
    while let Some((&what, after)) = rest.split_first() {
        let (part, later) = after.split_at(after.len().min(usize::from(what)));
        rest = later;
        match what % 5 {
            0 => leg.play(now, ItemId(item), format, part),
            1 => leg.clear(now),
            2 => {
                leg.end_item(now, ItemId(item));
                item += 1;
            }
            3 => leg.handle_text(now, part).map(drop).unwrap_or_default(),
            _ => leg.handle_binary(now, part).map(drop).unwrap_or_default(),
        }
        now += Duration::from_millis(u64::from(what));
        leg.handle_timeout(now);
        while leg.poll_message(now).is_some() {}
        while leg.poll_uplink().is_some() {}
        while leg.poll_event().is_some() {}
        while leg.poll_order().is_some() {}
    }
}

/// A leg takes any datagrams from anybody, and goes on.
pub fn leg(bytes: &[u8]) {
    let mut now = Instant::now();
    let peer = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let config = LegConfig {
        ssrc: 1,
        first_sequence: 0,
        first_timestamp: 0,
        cname: "fuzz".into(),
        codec: Codec::PCMU,
        uplink: AudioFormat::Pcm16(SampleRate::Hz16000),
        media_timeout: Duration::from_secs(60),
        seed: 1,
    };
    let mut leg = RtpLeg::new(now, Duration::from_secs(1_790_000_000), config);
    leg.apply(
        now,
        MediaParams {
            remote_rtp: peer,
            remote_rtcp: peer,
            rtcp_mux: true,
            codec: Codec::PCMU,
            payload_type: 0,
            opus: tandem_media::OpusParams::DEFAULT,
            telephone_event: Some(101),
            telephone_event_hz: 8_000,
            comfort_noise: Some(13),
            ptime: Ptime::MS20,
            direction: Direction::SendRecv,
            latching: Latching::Natted { signalling: None },
        },
    );
    let mut rest = bytes;
    while let [head, tail @ ..] = rest {
        let length = usize::from(*head).min(tail.len());
        let (datagram, after) = tail.split_at(length);
        rest = after;
        now += Duration::from_millis(u64::from(head % 64));
        leg.handle_timeout(now);
        leg.handle_rtp(now, peer, datagram).ok();
        while leg.poll_uplink().is_some() {}
        while leg.poll_event().is_some() {}
        while leg.poll_transmit(now).is_some() {}
    }
}

/// The OpenAI Realtime dialect takes any messages.
pub fn openai_realtime(bytes: &[u8]) {
    let now = Instant::now();
    let law = AudioFormat::G711(Law::Mu);
    let dialect = OpenAiRealtime::new(
        settings(Provider::OpenAiRealtime),
        spec(law, law),
        now,
        Duration::from_secs(1_790_000_000),
    );
    feed(dialect, now, bytes);
}

/// The Gemini Live dialect takes any messages.
pub fn gemini_live(bytes: &[u8]) {
    let spec =
        spec(AudioFormat::Pcm16(SampleRate::Hz16000), AudioFormat::Pcm16(SampleRate::Hz24000));
    feed(GeminiLive::new(settings(Provider::GeminiLive), spec), Instant::now(), bytes);
}

/// Messages are separated by line breaks.
fn feed(mut dialect: impl ModelDialect, now: Instant, bytes: &[u8]) {
    let mut out = Outbox::default();
    dialect.open(now, &mut out);
    for message in bytes.split(|&byte| byte == b'\n') {
        if dialect.handle_message(now, message, &mut out, &mut Ignore).is_err() {
            return;
        }
        while out.next_message().is_some() {}
        while out.next_event().is_some() {}
    }
    dialect.handle_close(Some(1006), "");
}

fn settings(provider: Provider) -> Arc<ModelSettings> {
    Arc::new(ModelSettings::new(provider, String::from("key").into()))
}

fn spec(input: AudioFormat, output: AudioFormat) -> SessionSpec {
    SessionSpec {
        instructions: String::new(),
        voice: None,
        language: "en".into(),
        temperature: None,
        tools: Vec::new(),
        input,
        output,
        transcription: true,
        history: Vec::new(),
        first_item: ItemId(1),
    }
}

/// Takes audio and events and checks that audio is whole samples.
struct Ignore;

impl ModelSink for Ignore {
    fn audio(&mut self, _item: ItemId, format: AudioFormat, bytes: &[u8]) {
        assert_eq!(bytes.len() % format.bytes_per_sample(), 0, "half a sample");
    }

    fn event(&mut self, event: ModelEvent) {
        drop(event);
    }
}
