//! After warm-up the audio path of a frame takes nothing from the heap.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use tandem_media::{
    Ambience, AmbienceSettings, AmbientSound, AudioFormat, Codec, ComfortNoise, Concealer,
    Conditioner, Decoder, DtmfDetector, Encoder, GainControl, Law, OpusParams, Playout, Ptime,
    Resampler, Room, SampleRate, VoiceActivity, VoiceSettings, g711,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system allocator unchanged; the counter neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_frame_takes_nothing_from_the_heap() {
    let pcm: Vec<i16> = (0..160_i32).map(|n| (n * 7_919 % 20_000 - 10_000) as i16).collect();
    let (mut payload, mut decoded, mut gap) = ([0; 160], [0; 160], [0; 320]);
    let (mut concealer, mut activity, mut playout) = (
        Concealer::new(SampleRate::Hz8000),
        VoiceActivity::new(SampleRate::Hz8000),
        Playout::new(AudioFormat::G711(Law::A)),
    );
    let (mut dtmf, mut digits, tone) = (DtmfDetector::new(), 0, tone());
    let mut up = Resampler::new(SampleRate::Hz8000, SampleRate::Hz24000);
    let mut down = Resampler::new(SampleRate::Hz24000, SampleRate::Hz8000);
    let (mut wide, mut narrow, mut cut) = (Vec::new(), Vec::new(), Vec::new());
    let mut warm = 0;
    for frame in 0..2_000_u64 {
        if frame == 200 {
            warm = ALLOCATIONS.get();
        }
        g711::encode(Law::A, &pcm, &mut payload);
        g711::decode(Law::A, &payload, &mut decoded);
        if frame % 10 == 9 {
            concealer.conceal_forward(&mut gap);
            concealer.conceal_between(&decoded, &mut gap);
        }
        concealer.good(&decoded);
        activity.process(&decoded);
        // 100 ms of a tone, and as much of something else.
        let frame_of_tone = &tone[(frame as usize % 5) * 160..][..160];
        dtmf.process(if frame % 10 < 5 { frame_of_tone } else { &decoded }, |_| digits += 1);
        wide.clear();
        up.process(&decoded, &mut wide);
        narrow.clear();
        down.process(&wide, &mut narrow);
        playout.push(frame / 7, &payload);
        playout.pull(&mut payload);
        if frame % 50 == 49 {
            playout.push(frame, &payload);
            cut.clear();
            playout.clear(&mut cut);
        }
    }
    assert_eq!(digits, 200);
    assert!(warm > 0, "the counter counts");
    assert_eq!(ALLOCATIONS.get() - warm, 0);
}

#[test]
fn what_is_done_to_voices_takes_nothing_from_the_heap() {
    let settings = VoiceSettings {
        denoise: true,
        gain_control: Some(GainControl::default()),
        ..VoiceSettings::default()
    };
    let ambience = AmbienceSettings { sound: AmbientSound::shared(Room::Office), level_db: -40.0 };
    #[expect(clippy::disallowed_methods, reason = "tests need an instant to begin with, any")]
    let start = std::time::Instant::now();
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000]
    {
        let mut pcm: Vec<i16> = vec![0; rate.samples_per(Ptime::MS20)];
        let mut conditioner = Conditioner::new(rate, &settings).expect("something is asked for");
        let mut ambience = Ambience::new(rate, &ambience);
        let mut activity = VoiceActivity::new(rate);
        activity.guard_against_echo(true);
        let mut warm = 0;
        for frame in 0..1_000_u32 {
            if frame == 10 {
                warm = ALLOCATIONS.get();
            }
            for (n, sample) in (frame as i32 * 31..).zip(&mut pcm) {
                *sample = (n * 7_919 % 20_000 - 10_000) as i16;
            }
            let at = start + frame * Ptime::MS20.duration();
            activity.played(at, rate, &pcm);
            activity.process_at(at, &pcm);
            conditioner.process(&mut pcm, activity.is_speech());
            ambience.mix(&mut pcm);
        }
        assert!(warm > 0, "the counter counts");
        assert_eq!(ALLOCATIONS.get() - warm, 0, "{rate:?}");
    }
}

#[test]
fn a_packet_of_any_codec_takes_nothing_from_the_heap() {
    const RATES: [SampleRate; 4] =
        [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];
    let mut codecs = vec![Codec::PCMU, Codec::PCMA, Codec::G722];
    codecs.extend(RATES.map(Codec::Opus));
    codecs.extend(RATES.map(Codec::L16));
    let params = OpusParams { fec: true, ..OpusParams::DEFAULT };
    for codec in codecs {
        let mut encoder = Encoder::new(codec, &params).unwrap();
        let mut decoder = Decoder::new(codec).unwrap();
        let mut noise = ComfortNoise::new(codec.rate(), 1);
        let frame = codec.rate().samples_per(Ptime::MS20);
        let mut pcm: Vec<i16> =
            (0..frame as i32).map(|n| (n * 7_919 % 20_000 - 10_000) as i16).collect();
        let (mut payload, mut heard, mut warm) = (Vec::new(), Vec::new(), 0);
        for packet in 0..120_u8 {
            if packet == 20 {
                warm = ALLOCATIONS.get();
            }
            encoder.set_loss(f32::from(packet) / 1_000.0);
            encoder.set_complexity(packet % 6);
            payload.clear();
            encoder.encode(&pcm, &mut payload).unwrap();
            if packet % 10 == 9 {
                decoder.conceal(Some(&payload), frame, &mut heard);
            }
            decoder.decode(&payload, &mut heard).unwrap();
            noise.set(&[40, packet]);
            noise.fill(&mut pcm);
        }
        assert_eq!(ALLOCATIONS.get() - warm, 0, "{codec:?}");
    }
}

/// 100 ms of the digit 1.
fn tone() -> Vec<i16> {
    let sine = |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / 8_000.0).sin();
    (0..800).map(|n| (6_000.0 * (sine(697.0, n) + sine(1_209.0, n))) as i16).collect()
}
