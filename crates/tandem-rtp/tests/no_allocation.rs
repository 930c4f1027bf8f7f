//! The frame path allocates nothing once its buffers have grown.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    time::{Duration, Instant},
};

use tandem_call::{ItemId, LegEvent, MediaLeg};
use tandem_media::{
    AmbienceSettings, AmbientSound, AudioFormat, Codec, Encoder, GainControl, Law, OpusParams,
    Ptime, Room, SampleRate, VoiceSettings, g711,
};
use tandem_rtp::{Direction, Latching, LegConfig, MediaParams, RtpLeg, RtpPacket};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes on to the system's allocator unchanged; counting touches a constant-initialised thread local
// that needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const PTIME: Duration = Duration::from_millis(20);

/// Some instant to count virtual time from.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant has no other beginning; nothing is measured"
)]
fn beginning() -> Instant {
    Instant::now()
}

/// Frames in which one packet in fifty is lost, one in fifty late, and the caller falls silent now and then; digits are
/// telephone-events, or tones, of which the caller presses one every second.
fn run(
    codec: Codec,
    format: AudioFormat,
    telephone_event: Option<u8>,
    warm_up: u64,
    frames: u64,
) -> u64 {
    run_with(&VoiceSettings::default(), codec, format, telephone_event, warm_up, frames)
}

fn run_with(
    voice: &VoiceSettings,
    codec: Codec,
    format: AudioFormat,
    telephone_event: Option<u8>,
    warm_up: u64,
    frames: u64,
) -> u64 {
    let start = beginning();
    let config = LegConfig {
        ssrc: 1,
        first_sequence: 0,
        first_timestamp: 0,
        cname: "tandem".into(),
        codec,
        uplink: format,
        media_timeout: Duration::from_secs(30),
        seed: 3,
    };
    let payload_type = codec.static_payload_type().unwrap_or(96);
    let mut leg = RtpLeg::new(start, Duration::from_secs(1), config);
    leg.set_voice(voice);
    let peer = "192.0.2.1:4000".parse().expect("an address");
    leg.apply(
        start,
        MediaParams {
            remote_rtp: peer,
            remote_rtcp: peer,
            rtcp_mux: true,
            codec,
            payload_type,
            opus: OpusParams::DEFAULT,
            telephone_event,
            telephone_event_hz: codec.clock_hz(),
            comfort_noise: Some(13),
            ptime: Ptime::MS20,
            direction: Direction::SendRecv,
            latching: Latching::Off,
        },
    );
    let payloads = payloads(codec);
    let tone = tone();
    let model_audio = vec![0x21; format.bytes_per(PTIME) * 2];
    let mut datagram = Vec::with_capacity(2_000);
    let mut late: Option<Vec<u8>> = Some(Vec::with_capacity(2_000));
    let mut late_waits = false;
    // The playout queue grows to what the model sends ahead: here once, two seconds.
    leg.play(start, ItemId(0), format, &model_audio.repeat(50));
    leg.clear(start);
    let (mut up, mut down, mut before, mut digits) = (0, 0, 0, 0);
    let mut clears = 0;
    for n in 0..warm_up + frames {
        if n == warm_up {
            before = ALLOCATIONS.with(Cell::get);
            clears = 0;
        }
        let now = start + PTIME * u32::try_from(n).expect("few frames");
        let sequence = n as u16;
        let silent = n % 1_000 > 980;
        let narrowband = matches!(codec, Codec::G711(_));
        let pressed = narrowband && telephone_event.is_none() && (22..32).contains(&(n % 50));
        let noise = n % 1_000 == 980;
        let audio = &payloads[n as usize % payloads.len()];
        let packet = RtpPacket {
            marker: false,
            payload_type: if noise { 13 } else { payload_type },
            sequence,
            timestamp: n as u32 * (codec.clock_hz() / 50),
            ssrc: 7,
            csrc: &[],
            extension: None,
            payload: match (noise, pressed) {
                (true, _) => &[60, 100, 150],
                (false, true) => &tone[n as usize % 5],
                (false, false) => audio,
            },
            padding: 0,
        };
        datagram.clear();
        packet.write(&mut datagram);
        let kept = late.as_mut().expect("kept for the whole run");
        if n % 50 == 20 {
            kept.clear();
            kept.extend_from_slice(&datagram);
            late_waits = true;
        } else if n % 50 != 10 && !silent {
            leg.handle_rtp(now, peer, &datagram).expect("a valid packet");
        }
        if late_waits && n % 50 == 22 {
            leg.handle_rtp(now, peer, kept).expect("a valid packet");
            late_waits = false;
        }
        // The model speaks for 400 ms of each 800, twice as fast as real time; at first in more items than are remembered.
        let item = ItemId(if n < warm_up { n } else { warm_up + n / 40 });
        if n % 40 < 10 {
            leg.play(now, item, format, &model_audio);
        }
        // Every other item runs dry before its end; one in ten is cut, another held for a while.
        if n % 80 == 10 || n % 80 == 70 {
            leg.end_item(now, item);
        }
        if n % 400 == 365 {
            leg.clear(now);
            clears += 1;
        }
        if n % 400 == 325 || n % 400 == 328 {
            leg.duck(now, n % 400 == 325);
        }
        leg.handle_timeout(now);
        while let Some(frame) = leg.poll_uplink() {
            up += frame.audio.len();
        }
        while let Some(event) = leg.poll_event() {
            digits += u64::from(matches!(event, LegEvent::Digit(_)));
        }
        assert!(leg.live_mos().is_some());
        while let Some(transmit) = leg.poll_transmit(now) {
            down += transmit.bytes.len();
        }
    }
    let allocations = ALLOCATIONS.with(Cell::get) - before;
    let tones = matches!(codec, Codec::G711(_)) && telephone_event.is_none();
    assert_eq!(digits, if tones { (warm_up + frames) / 50 } else { 0 });
    let expected = format.bytes_per(PTIME) as u64 * (warm_up + frames);
    assert!((up as u64).abs_diff(expected) < format.bytes_per(PTIME) as u64 * 10, "{up}");
    let least = if matches!(codec, Codec::Opus(_)) { 20 } else { 160 };
    assert!(down as u64 > (warm_up + frames) * least, "{down}");
    // A clear lists what it cut.
    allocations - clears
}

/// Packets of 20 ms of something like speech.
fn payloads(codec: Codec) -> Vec<Vec<u8>> {
    let mut encoder = Encoder::new(codec, &OpusParams::DEFAULT).expect("memory");
    let samples = codec.rate().hz() / 50;
    let step = std::f64::consts::TAU * 150.0 / codec.rate().hz() as f64;
    (0..50)
        .map(|packet| {
            let pcm: Vec<i16> = (packet * samples..(packet + 1) * samples)
                .map(|n| {
                    let harmonics = (1..=12).map(|k| (step * (n * k) as f64).sin() / k as f64);
                    (5_000.0 * harmonics.sum::<f64>()) as i16
                })
                .collect();
            let mut payload = Vec::new();
            encoder.encode(&pcm, &mut payload).expect("20 ms");
            payload
        })
        .collect()
}

/// 100 ms of the digit 1, in mu-law packets; its end joins its begin.
fn tone() -> [[u8; 160]; 5] {
    let sine = |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / 8_000.0).sin();
    std::array::from_fn(|packet| {
        let pcm = std::array::from_fn::<i16, 160, _>(|n| {
            let n = packet * 160 + n;
            (6_000.0 * (sine(700.0, n) + sine(1_210.0, n))) as i16
        });
        let mut payload = [0; 160];
        g711::encode(Law::Mu, &pcm, &mut payload);
        payload
    })
}

const FORMATS: [AudioFormat; 5] = [
    AudioFormat::G711(Law::Mu),
    AudioFormat::G711(Law::A),
    AudioFormat::Pcm16(SampleRate::Hz8000),
    AudioFormat::Pcm16(SampleRate::Hz16000),
    AudioFormat::Pcm16(SampleRate::Hz24000),
];

#[test]
fn frames_in_both_directions_allocate_nothing_after_warm_up() {
    for format in FORMATS {
        for telephone_event in [Some(101), None] {
            let allocations = run(Codec::PCMU, format, telephone_event, 1_500, 10_000);
            assert_eq!(allocations, 0, "{format:?}, {telephone_event:?}");
        }
    }
}

#[test]
fn frames_of_voices_that_are_treated_allocate_nothing_after_warm_up() {
    let ambience = AmbienceSettings { sound: AmbientSound::shared(Room::Office), level_db: -40.0 };
    let voice = VoiceSettings {
        denoise: true,
        gain_control: Some(GainControl::default()),
        echo_guard: true,
        ambience: Some(ambience),
    };
    for codec in [Codec::PCMU, Codec::G722, Codec::L16(SampleRate::Hz24000)] {
        for format in FORMATS {
            let allocations = run_with(&voice, codec, format, Some(101), 1_500, 2_000);
            assert_eq!(allocations, 0, "{codec:?}, {format:?}");
        }
    }
}

#[test]
fn frames_of_every_codec_allocate_nothing_after_warm_up() {
    for codec in [
        Codec::PCMA,
        Codec::G722,
        Codec::Opus(SampleRate::Hz16000),
        Codec::Opus(SampleRate::Hz24000),
        Codec::L16(SampleRate::Hz16000),
        Codec::L16(SampleRate::Hz48000),
    ] {
        for format in FORMATS {
            // libopus is slow where it was not optimised for us.
            let frames = if matches!(codec, Codec::Opus(_)) { 2_000 } else { 4_000 };
            let allocations = run(codec, format, Some(101), 1_500, frames);
            assert_eq!(allocations, 0, "{codec:?}, {format:?}");
        }
    }
}
