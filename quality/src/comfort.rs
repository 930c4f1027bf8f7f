//! Comfort noise (RFC 3389) over the real leg: is it as loud as the peer says, and does it sound so?

use std::{f64::consts::PI, time::Duration};

use tandem_media::{AudioFormat, Codec, Encoder, OpusParams, SampleRate};
use tandem_rtp::RtpPacket;

use crate::{
    maker::{Maker, Voice},
    manifest::Figure,
    telephone::{self, COMFORT_NOISE, Heard, PEER, PTIME},
};

/// Packets of speech before the peer falls silent.
const PACKETS: usize = 100;
/// How long it stays so.
const SILENCE: Duration = Duration::from_secs(4);
/// The noise is settled so long after the speech.
const SETTLED: Duration = Duration::from_millis(500);
/// A spectrum that falls, as that of a room: reflection coefficients -0.7, 0.2, -0.1 in the code of RFC 3389.
const REFLECTIONS: [f64; 3] = [-0.7, 0.2, -0.1];
/// The octaves that are compared, Hz.
const OCTAVES: [(f64, f64); 4] =
    [(250.0, 500.0), (500.0, 1_000.0), (1_000.0, 2_000.0), (2_000.0, 3_600.0)];

/// Measures level and spectrum of the noise at both rates of telephony.
pub(crate) fn measure(maker: &mut Maker, voices: &[Voice]) {
    let Some(voice) = voices.first() else { return };
    for (row, codec, speech) in
        [("G.711", Codec::PCMU, &voice.narrow), ("G.722", Codec::G722, &voice.wide)]
    {
        let rate = codec.rate();
        let (mut level_error, mut shape_error) = (0.0_f64, 0.0_f64);
        for level in [30, 40, 50, 60] {
            let noise = noise_of(codec, speech, level);
            let power = noise.iter().map(|&sample| f64::from(sample).powi(2)).sum::<f64>()
                / noise.len() as f64;
            let measured = 10.0 * (power.max(1e-3) / 32_768.0_f64.powi(2)).log10();
            level_error = level_error.max((measured + f64::from(level)).abs());
            if level <= 40 {
                shape_error = shape_error.max(spectrum_error(rate, &noise));
            }
        }
        for (column, value, tolerance) in
            [("level, worst error", level_error, 0.5), ("octaves, worst error", shape_error, 0.5)]
        {
            let (table, row) = ("comfort noise", row.into());
            maker.figure(Figure { table, row, column, value, unit: "dB", tolerance });
        }
    }
}

/// What the model hears of a peer that speaks, then describes its noise once and sends no more.
fn noise_of(codec: Codec, speech: &[i16], level: u8) -> Vec<i16> {
    let rate = codec.rate();
    let format = AudioFormat::Pcm16(rate);
    let start = telephone::start();
    let mut leg = telephone::leg(start, codec, format);
    let mut heard = Heard::default();
    let mut encoder =
        Encoder::new(codec, &OpusParams::DEFAULT).expect("no codec but Opus can fail");
    let mut payload = Vec::new();
    let mut now = start;
    for (n, pcm) in speech.chunks_exact(rate.hz() / 50).take(PACKETS).enumerate() {
        now = start + PTIME * n as u32;
        payload.clear();
        encoder.encode(pcm, &mut payload).expect("20 ms is a packet time");
        let datagram = datagram(telephone::payload_type(codec), codec, n, &payload);
        leg.handle_rtp(now, PEER.into(), &datagram).expect("the packet is a good one");
        telephone::settle(&mut leg, now, &mut heard);
    }
    let silent = heard.audio.len();
    let mut description = vec![level];
    description.extend(REFLECTIONS.map(|k| (127.0 + k * 32_768.0 / 258.0).round() as u8));
    let packets = heard.audio.len() / format.bytes_per(PTIME);
    let datagram = datagram(COMFORT_NOISE, codec, packets, &description);
    leg.handle_rtp(now + PTIME, PEER.into(), &datagram).expect("the packet is a good one");
    telephone::run_until(&mut leg, now + SILENCE, &mut heard);
    telephone::samples(format, &heard.audio[silent + format.bytes_per(SETTLED)..])
}

fn datagram(payload_type: u8, codec: Codec, n: usize, payload: &[u8]) -> Vec<u8> {
    let packet = RtpPacket {
        marker: n == 0,
        payload_type,
        sequence: n as u16,
        timestamp: n as u32 * telephone::ticks(codec),
        ssrc: 0x7A4D,
        csrc: &[],
        extension: None,
        payload,
        padding: 0,
    };
    let mut datagram = Vec::new();
    packet.write(&mut datagram);
    datagram
}

/// The octave that is furthest from the spectrum described, in dB, the mean of all four left out.
fn spectrum_error(rate: SampleRate, noise: &[i16]) -> f64 {
    let differences = OCTAVES.map(|(low, high)| {
        let decibels = |power: f64| 10.0 * power.max(1e-9).log10();
        decibels(band_power(rate, noise, low, high)) - decibels(described(rate, low, high))
    });
    let mean = differences.iter().sum::<f64>() / differences.len() as f64;
    differences.iter().map(|difference| (difference - mean).abs()).fold(0.0, f64::max)
}

/// Power between two frequencies: the mean over blocks, by Fourier sums every 50 Hz.
fn band_power(rate: SampleRate, noise: &[i16], low: f64, high: f64) -> f64 {
    let block = rate.hz() / 50;
    let window: Vec<f64> =
        (0..block).map(|n| 0.5 - 0.5 * (2.0 * PI * n as f64 / block as f64).cos()).collect();
    frequencies(low, high)
        .map(|hz| {
            let step = 2.0 * PI * hz / rate.hz() as f64;
            noise
                .chunks_exact(block)
                .map(|chunk| {
                    let (mut re, mut im) = (0.0, 0.0);
                    for (n, (&sample, window)) in chunk.iter().zip(&window).enumerate() {
                        let (sin, cos) = (step * n as f64).sin_cos();
                        re += f64::from(sample) * window * cos;
                        im += f64::from(sample) * window * sin;
                    }
                    re * re + im * im
                })
                .sum::<f64>()
        })
        .sum()
}

/// The same of the filter that the reflection coefficients stand for.
fn described(rate: SampleRate, low: f64, high: f64) -> f64 {
    // Step-up recursion: the coefficients of the all-pole filter's denominator.
    let mut a = vec![1.0];
    for k in REFLECTIONS {
        a.push(0.0);
        let reversed: Vec<f64> = a.iter().rev().copied().collect();
        a.iter_mut().zip(reversed).for_each(|(a, reversed)| *a += k * reversed);
    }
    frequencies(low, high)
        .map(|hz| {
            let step = 2.0 * PI * hz / rate.hz() as f64;
            let (mut re, mut im) = (0.0, 0.0);
            for (n, a) in a.iter().enumerate() {
                let (sin, cos) = (step * n as f64).sin_cos();
                re += a * cos;
                im -= a * sin;
            }
            1.0 / (re * re + im * im)
        })
        .sum()
}

fn frequencies(low: f64, high: f64) -> impl Iterator<Item = f64> {
    (0..).map(move |n| low + 50.0 * f64::from(n)).take_while(move |hz| *hz < high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spectrum_is_told_from_another() {
        // White noise is not what the coefficients describe: that falls.
        let mut random = crate::loss::Random::new(5);
        let white: Vec<i16> = (0..32_000).map(|_| random.below(2_000) as i16 - 1_000).collect();
        assert!(spectrum_error(SampleRate::Hz8000, &white) > 5.0);
        let whole = described(SampleRate::Hz8000, 250.0, 500.0);
        assert!(whole / described(SampleRate::Hz8000, 2_000.0, 2_250.0) > 4.0);
    }
}
