//! Rooms, made of noise and a few tones.

use std::f32::consts::TAU;

use super::Room;
use crate::{SampleRate, lanes::to_pcm};

/// All is made at this rate: what lies above 8 kHz is not missed behind a voice.
pub(super) const RATE: SampleRate = SampleRate::Hz16000;
const SECONDS: usize = 16;

/// The sound of `room`; both ends may be anything.
pub(super) fn make(room: Room) -> Vec<i16> {
    let mut sound = vec![0.0; SECONDS * RATE.hz()];
    let mut random = Random(0x2545_F491);
    match room {
        Room::Office => {
            noise(&mut sound, &mut random, 300.0, 900.0, 0.05);
            (0..3).for_each(|_| murmur(&mut sound, &mut random, 120.0));
            keys(&mut sound, &mut random);
        }
        Room::CoffeeShop => {
            noise(&mut sound, &mut random, 600.0, 500.0, 0.1);
            (0..9).for_each(|_| murmur(&mut sound, &mut random, 330.0));
            cups(&mut sound, &mut random);
        }
        Room::Outdoor => {
            noise(&mut sound, &mut random, 250.0, 1_500.0, 0.5);
            noise(&mut sound, &mut random, 1_200.0, 250.0, 0.3);
            birds(&mut sound, &mut random);
        }
    }
    sound.into_iter().map(to_pcm).collect()
}

struct Random(u32);

impl Random {
    /// Uniform in 0 to 1.
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 24) as f32
    }

    fn between(&mut self, least: f32, most: f32) -> f32 {
        least + (most - least) * self.next()
    }
}

/// Adds noise below `cutoff` Hz, which swells and falls by the part `gusts` every few seconds.
fn noise(sound: &mut [f32], random: &mut Random, cutoff: f32, level: f32, gusts: f32) {
    let pole = (-TAU * cutoff / RATE.hz() as f32).exp();
    let (mut once, mut twice) = (0.0, 0.0);
    let (slow, slower) = (random.next(), random.next());
    for (n, slot) in sound.iter_mut().enumerate() {
        let time = n as f32 / RATE.hz() as f32;
        once = pole * once + (1.0 - pole) * random.between(-1.0, 1.0);
        twice = pole * twice + (1.0 - pole) * once;
        let gust = (TAU * (0.19 * time + slow)).sin() + (TAU * (0.31 * time + slower)).sin();
        // The narrower the band, the less is left of the noise.
        *slot += twice * level * (RATE.hz() as f32 / cutoff).sqrt() * (1.0 + 0.5 * gusts * gust);
    }
}

/// Adds somebody who talks too far away to be understood: a gliding buzz through two formants, in syllables.
fn murmur(sound: &mut [f32], random: &mut Random, level: f32) {
    let (mut phase, mut base) = (0.0, random.between(95.0, 210.0));
    let mut formants = [[0.0f32; 2]; 2];
    let (mut left, mut length, mut loudness, mut tune) = (0usize, 1usize, 0.0, [500.0, 1_500.0]);
    for slot in sound {
        if left == 0 {
            length = (random.between(0.12, 0.32) * RATE.hz() as f32) as usize;
            left = length;
            // Every third syllable is a pause.
            loudness = if random.next() < 0.33 { 0.0 } else { random.between(0.4, 1.0) };
            base = (base * random.between(0.93, 1.075)).clamp(85.0, 230.0);
            tune = [random.between(300.0, 750.0), random.between(900.0, 2_000.0)];
        }
        let into = 1.0 - left as f32 / length as f32;
        left -= 1;
        phase += base * (1.05 - 0.1 * into) / RATE.hz() as f32;
        let pulse = if phase >= 1.0 { 1.0 } else { 0.0 };
        phase -= phase.floor();
        let excitation = pulse * 12.0 + random.between(-0.15, 0.15);
        let mut voice = 0.0;
        for (state, hz) in formants.iter_mut().zip(tune) {
            let radius = (-TAU * 60.0 / RATE.hz() as f32).exp();
            let turn = (TAU * hz / RATE.hz() as f32).cos();
            let next = excitation + 2.0 * radius * turn * state[0] - radius * radius * state[1];
            *state = [next, state[0]];
            voice += next;
        }
        *slot += voice * level * 0.05 * loudness * (TAU / 2.0 * into).sin().powi(2);
    }
}

/// Adds `strike`s at random times, `every` so many seconds in the mean.
fn strikes(
    sound: &mut [f32],
    random: &mut Random,
    every: f32,
    mut strike: impl FnMut(&mut [f32], &mut Random),
) {
    let mut at = 0.0;
    loop {
        at += every * random.between(0.3, 1.7);
        let start = (at * RATE.hz() as f32) as usize;
        if start >= sound.len() {
            return;
        }
        strike(&mut sound[start..], random);
    }
}

/// Keys are struck in runs.
fn keys(sound: &mut [f32], random: &mut Random) {
    strikes(sound, random, 3.0, |rest, random| {
        let count = random.between(4.0, 14.0) as usize;
        let mut at = 0.0;
        for _ in 0..count {
            at += random.between(0.09, 0.25);
            let start = (at * RATE.hz() as f32) as usize;
            let level = random.between(60.0, 160.0);
            for (n, slot) in rest.iter_mut().skip(start).take(RATE.hz() / 60).enumerate() {
                let decay = (-(n as f32) / 40.0).exp();
                *slot += level * decay * random.between(-1.0, 1.0);
            }
        }
    });
}

/// Cups and spoons ring.
fn cups(sound: &mut [f32], random: &mut Random) {
    strikes(sound, random, 1.8, |rest, random| {
        let (hz, level) = (random.between(2_100.0, 3_300.0), random.between(40.0, 180.0));
        for (n, slot) in rest.iter_mut().take(RATE.hz() / 4).enumerate() {
            let time = n as f32 / RATE.hz() as f32;
            let ring = (TAU * hz * time).sin() + 0.5 * (TAU * hz * 2.31 * time).sin();
            *slot += level * (-time * 28.0).exp() * (time * 2_000.0).min(1.0) * ring;
        }
    });
}

/// A bird whistles twice or three times.
fn birds(sound: &mut [f32], random: &mut Random) {
    strikes(sound, random, 4.5, |rest, random| {
        let (low, level) = (random.between(2_200.0, 2_800.0), random.between(40.0, 110.0));
        let mut phase = 0.0;
        for call in 0..random.between(2.0, 4.0) as usize {
            let start = call * RATE.hz() / 4;
            let length = RATE.hz() / 9;
            for (n, slot) in rest.iter_mut().skip(start).take(length).enumerate() {
                let into = n as f32 / length as f32;
                phase += (low + 700.0 * (TAU / 2.0 * into).sin()) / RATE.hz() as f32;
                phase -= phase.floor();
                *slot += level * (TAU / 2.0 * into).sin().powi(2) * (TAU * phase).sin();
            }
        }
    });
}
