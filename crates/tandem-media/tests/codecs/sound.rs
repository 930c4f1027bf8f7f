//! Sounds to code, and what is left of them.

use std::f64::consts::TAU;

use tandem_media::{Codec, Decoder, Encoder, OpusParams, Ptime, SampleRate};

pub(crate) const RATES: [SampleRate; 4] =
    [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz24000, SampleRate::Hz48000];

/// A codec of each kind, at each rate it has.
pub(crate) fn codecs() -> Vec<Codec> {
    let mut codecs = vec![Codec::PCMU, Codec::PCMA, Codec::G722];
    codecs.extend(RATES.map(Codec::Opus));
    codecs.extend(RATES.map(Codec::L16));
    codecs
}

/// A buzzing voice: soft pulses whose pitch glides, through four resonances, loud for 400 ms and faint for 100.
pub(crate) fn voice(rate: SampleRate, millis: usize) -> Vec<i16> {
    let hz = rate.hz() as f64;
    // 2 r cos w and r^2 of each.
    let formants = [(500.0, 80.0), (1_500.0, 100.0), (2_500.0, 150.0), (3_300.0, 200.0)];
    let poles = formants.map(|(frequency, width): (f64, f64)| {
        let radius = (-std::f64::consts::PI * width / hz).exp();
        (2.0 * radius * (TAU * frequency / hz).cos(), radius * radius)
    });
    let soft = (-TAU * 200.0 / hz).exp();
    let (mut states, mut phase, mut glottis) = ([[0.0; 2]; 4], 0.0, [0.0; 2]);
    let samples: Vec<f64> = (0..rate.hz() * millis / 1_000)
        .map(|n| {
            let time = n as f64 / hz;
            phase += (120.0 + 30.0 * (TAU * 1.3 * time).sin()) / hz;
            let loud = if time % 0.5 < 0.4 { 1.0 } else { 0.02 };
            let pulse = if phase >= 1.0 { loud } else { 0.0 };
            phase %= 1.0;
            glottis[0] = pulse + soft * glottis[0];
            glottis[1] = glottis[0] + soft * glottis[1];
            let pulse = glottis[1];
            states.iter_mut().zip(poles).fold(pulse, |input, (state, (first, second))| {
                let output = input + first * state[0] - second * state[1];
                *state = [output, state[0]];
                output
            })
        })
        .collect();
    let peak = samples.iter().fold(1e-9, |peak: f64, sample| peak.max(sample.abs()));
    samples.iter().map(|sample| (sample / peak * 20_000.0) as i16).collect()
}

pub(crate) fn power(pcm: &[i16]) -> f64 {
    pcm.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>() / pcm.len() as f64
}

/// The ratio of `sound` to what `heard`, which comes `delay` samples later, differs from it, in dB.
pub(crate) fn signal_to_noise(sound: &[i16], heard: &[i16], delay: usize) -> f64 {
    let pairs = sound.iter().zip(&heard[delay..]);
    let noise: f64 = pairs.map(|(&one, &other)| (f64::from(one) - f64::from(other)).powi(2)).sum();
    10.0 * (power(sound) * heard[delay..].len() as f64 / noise.max(1e-9)).log10()
}

/// The payloads of `sound` in packets of 20 ms.
pub(crate) fn packets(encoder: &mut Encoder, sound: &[i16]) -> Vec<Vec<u8>> {
    let frame = encoder.codec().rate().samples_per(Ptime::MS20);
    sound
        .chunks_exact(frame)
        .map(|frame| {
            let mut payload = Vec::new();
            encoder.encode(frame, &mut payload).expect("20 ms can be sent");
            payload
        })
        .collect()
}

pub(crate) fn encoder(codec: Codec) -> Encoder {
    Encoder::new(codec, &OpusParams::DEFAULT).expect("there is memory")
}

pub(crate) fn heard(decoder: &mut Decoder, packets: &[Vec<u8>]) -> Vec<i16> {
    let (mut all, mut pcm) = (Vec::new(), Vec::new());
    for packet in packets {
        decoder.decode(packet, &mut pcm).expect("what was sent can be heard");
        all.extend(&pcm);
    }
    all
}
