//! Prints what the audio of one 20 ms frame costs: `cargo run --release -p tandem-media --example frame_cost`, of all or of what is
//! named behind it.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tandem_media::{
    Ambience, AmbienceSettings, AmbientSound, AudioFormat, Codec, ComfortNoise, Concealer,
    Conditioner, Decoder, DtmfDetector, Encoder, GainControl, Law, OpusParams, Playout, Resampler,
    Room, SampleRate, VoiceActivity, VoiceSettings, g711,
};

const RATES: [SampleRate; 4] =
    [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];

fn main() {
    let narrowband = sound(SampleRate::Hz8000);
    let mut payload = [0; 160];
    let mut pcm = [0; 160];
    for law in [Law::Mu, Law::A] {
        report(&format!("g711 {law:?} encode"), || {
            g711::encode(law, black_box(&narrowband), &mut payload)
        });
        report(&format!("g711 {law:?} decode"), || {
            g711::decode(law, black_box(&payload), &mut pcm)
        });
    }
    codecs();
    for (from, to) in RATES
        .into_iter()
        .flat_map(|from| RATES.map(|to| (from, to)))
        .filter(|(from, to)| from != to)
    {
        let input = sound(from);
        let mut resampler = Resampler::new(from, to);
        let mut output = Vec::new();
        report(&format!("resample {} -> {}", from.hz(), to.hz()), || {
            output.clear();
            resampler.process(black_box(&input), &mut output);
        });
    }
    let mut concealer = Concealer::new(SampleRate::Hz8000);
    report("learn a good frame", || concealer.good(black_box(&narrowband)));
    report("conceal between, and learn", || {
        concealer.conceal_between(black_box(&narrowband), &mut pcm);
        concealer.good(&narrowband);
    });
    let mut activity = VoiceActivity::new(SampleRate::Hz8000);
    report("voice activity", || activity.process(black_box(&narrowband)));
    voices();
    for (name, sound) in [("dtmf in a voice", &narrowband), ("dtmf in a tone", &tone())] {
        let mut dtmf = DtmfDetector::new();
        report(name, || dtmf.process(black_box(sound), |digit| _ = black_box(digit)));
    }
    let mut playout = Playout::new(AudioFormat::G711(Law::Mu));
    report("playout push and pull", || {
        playout.push(1, black_box(&payload));
        playout.pull(&mut payload).bytes
    });
}

/// What a leg does to voices where it is asked to.
#[expect(clippy::disallowed_methods, reason = "an Instant has no other beginning")]
fn voices() {
    let mut now = Instant::now();
    let (frame, voice) = (Duration::from_millis(20), sound(SampleRate::Hz8000));
    let mut activity = VoiceActivity::new(SampleRate::Hz8000);
    activity.guard_against_echo(true);
    report("voice activity, guarded", || {
        now += frame;
        activity.played(now, SampleRate::Hz8000, black_box(&voice));
        activity.process_at(now + frame, black_box(&voice))
    });
    let ambience = AmbienceSettings { sound: AmbientSound::shared(Room::Office), level_db: -40.0 };
    for rate in RATES {
        let input = sound(rate);
        let mut pcm = input.clone();
        let denoise = VoiceSettings { denoise: true, ..VoiceSettings::default() };
        let level = VoiceSettings {
            gain_control: Some(GainControl::default()),
            ..VoiceSettings::default()
        };
        for (name, settings) in [("noise", denoise), ("level", level)] {
            let mut conditioner = Conditioner::new(rate, &settings).expect("something is asked");
            report(&format!("{name} at {}", rate.hz()), || {
                pcm.copy_from_slice(&input);
                conditioner.process(black_box(&mut pcm), true);
            });
        }
        let mut ambience = Ambience::new(rate, &ambience);
        report(&format!("ambience at {}", rate.hz()), || ambience.mix(black_box(&mut pcm)));
    }
}

/// The codecs that remember, both ways, and comfort noise.
fn codecs() {
    for codec in [Codec::G722].into_iter().chain(RATES.map(Codec::Opus)) {
        let input = sound(codec.rate());
        let mut encoder = Encoder::new(codec, &OpusParams::DEFAULT).expect("there is memory");
        let mut decoder = Decoder::new(codec).expect("there is memory");
        let (mut payload, mut pcm) = (Vec::new(), Vec::new());
        let complexities: &[u8] = if codec == Codec::G722 { &[5] } else { &[0, 5, 9] };
        let name = format!("{} {}", codec.name(), codec.rate().hz());
        for &complexity in complexities {
            encoder.set_complexity(complexity);
            let complexity = if codec == Codec::G722 { "" } else { &format!(" at {complexity}") };
            report(&format!("{name} encode{complexity}"), || {
                payload.clear();
                encoder.encode(black_box(&input), &mut payload)
            });
        }
        report(&format!("{name} decode"), || decoder.decode(black_box(&payload), &mut pcm));
    }
    let (mut noise, mut pcm) = (ComfortNoise::new(SampleRate::Hz8000, 1), [0; 160]);
    noise.set(&[50, 60, 140, 120, 130, 125, 127, 128, 126]);
    report("comfort noise of order 8", || noise.fill(black_box(&mut pcm)));
}

/// 20 ms of a few harmonics.
fn sound(rate: SampleRate) -> Vec<i16> {
    (0..rate.hz() / 50)
        .map(|n| {
            let phase = std::f64::consts::TAU * 150.0 * n as f64 / rate.hz() as f64;
            (1..=8).map(|k| 2_000.0 * (phase * f64::from(k)).sin()).sum::<f64>() as i16
        })
        .collect()
}

/// 20 ms of two lines that go on from frame to frame, as those of a digit do.
fn tone() -> Vec<i16> {
    let sine = |hz: f64, n: usize| (std::f64::consts::TAU * hz * n as f64 / 8_000.0).sin();
    (0..160).map(|n| (6_000.0 * (sine(700.0, n) + sine(1_200.0, n))) as i16).collect()
}

/// The best of many short runs, which is the one nothing else disturbed.
#[expect(clippy::disallowed_methods, reason = "it is the cost in real time that is asked for")]
fn report<T>(name: &str, mut frame: impl FnMut() -> T) {
    const FRAMES: u32 = 500;
    if std::env::args().nth(1).is_some_and(|wanted| !name.contains(&wanted)) {
        return;
    }
    let best = (0..60)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..FRAMES {
                black_box(frame());
            }
            start.elapsed() / FRAMES
        })
        .min()
        .unwrap_or(Duration::ZERO);
    println!("{name:<28}{:>8} ns", best.as_nanos());
}
