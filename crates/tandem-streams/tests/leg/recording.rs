//! What a recording hears of a forked call: what the caller hears, when he hears it, and the caller.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tandem_call::{MediaLeg, Tap};
use tandem_media::{AudioFormat, SampleRate};

use crate::world::{PCM8, World, bytes, millis, numbers, sounds};

const HZ8: SampleRate = SampleRate::Hz8000;

/// One side on a time line at 8 kHz.
#[derive(Debug, Clone)]
struct Track(Instant, Arc<Mutex<Vec<i16>>>);

impl Track {
    fn new(start: Instant) -> Self {
        Self(start, Arc::default())
    }

    fn samples(&self) -> Vec<i16> {
        self.1.lock().expect("nobody panicked").clone()
    }
}

impl Tap for Track {
    fn take_pcm(&mut self, at: Instant, rate: SampleRate, pcm: &[i16]) {
        assert_eq!(rate, HZ8);
        let place = ((at - self.0).as_nanos() * 8_000 + 500_000_000) / 1_000_000_000;
        let mut track = self.1.lock().expect("nobody panicked");
        assert!(track.len() <= place as usize, "pieces come in the order of time");
        track.resize(place as usize, 0);
        track.extend(pcm);
    }

    fn take_bytes(&mut self, _: Instant, _: AudioFormat, _: &[u8]) {
        panic!("a fork has samples");
    }
}

fn recorded() -> (World, Track, Track) {
    let mut world = World::forked(HZ8, HZ8, HZ8);
    let (heard, sent) = (Track::new(world.now), Track::new(world.now));
    world.leg.tap(Box::new(heard.clone()), Box::new(sent.clone()));
    (world, heard, sent)
}

/// When the first sound of `track` begins, and its samples.
fn first_sound(track: &[i16], gap: usize) -> (Duration, Vec<i16>) {
    let (from, to) = sounds(track, gap)[0];
    (HZ8.duration_of(from), track[from..to].to_vec())
}

#[test]
fn the_agents_words_are_recorded_when_they_are_heard() {
    let (mut world, _, sent) = recorded();
    world.run(millis(1_000));
    let words = numbers(1_000, 8_000);
    world.say(1, PCM8, &bytes(&words));
    world.run(millis(2_000));
    let (at, recorded) = first_sound(&sent.samples(), 8_000);
    assert!(recorded == words, "{} samples", recorded.len());
    let place = sounds(world.heard(), 8_000)[0].0;
    let heard_at = world.time_of(place, HZ8);
    assert!(at.abs_diff(heard_at) <= millis(20), "recorded at {at:?}, heard at {heard_at:?}");
}

#[test]
fn what_a_barge_in_cut_off_is_not_recorded() {
    let (mut world, _, sent) = recorded();
    world.run(millis(1_000));
    world.say(1, PCM8, &bytes(&numbers(1_000, 8_000)));
    world.run(millis(500));
    let cut = world.clear();
    world.run(millis(500));
    let (_, recorded) = first_sound(&sent.samples(), 8_000);
    assert!(HZ8.duration_of(recorded.len()).abs_diff(cut[0].heard) <= millis(1), "{cut:?}");
    assert!(recorded == numbers(1_000, recorded.len()));
    world.say(2, PCM8, &bytes(&numbers(20_000, 800)));
    world.run(millis(500));
    let samples = sent.samples();
    assert!(samples.contains(&20_000) && samples.contains(&20_799));
    assert!(!samples.contains(&(1_000 + recorded.len() as i16)));
}

#[test]
fn the_caller_is_recorded_as_he_came() {
    let (mut world, heard, _) = recorded();
    let said = numbers(1_000, 1_600);
    for piece in said.chunks(160) {
        world.run(millis(20));
        world.hear(&bytes(piece));
    }
    world.run(millis(500));
    let track = heard.samples();
    let (at, recorded) = first_sound(&track, 160);
    assert!(recorded == said);
    assert!(at <= millis(20), "{at:?}");
    assert!(HZ8.duration_of(track.len()) > millis(500), "silence goes on: {}", track.len());
}
