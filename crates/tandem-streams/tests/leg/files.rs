//! The way down to modules that write files, and a switch that plays them.

use std::{collections::VecDeque, time::Duration};

use serde_json::Value;
use tandem_call::{FilePlayback, ItemId, LegEvent, MediaLeg};
use tandem_media::SampleRate;
use tandem_streams::{Dialect, LegOrder, StreamShape};

use crate::world::{PCM16, PCM24, World, bytes, millis, numbers, samples, shape, tone};

const HZ16: SampleRate = SampleRate::Hz16000;

/// From a message to the first sample of its file.
const WAY: Duration = millis(50);

/// What the channel of a switch plays.
struct Switch {
    world: World,
    dialect: Dialect,
    seen: usize,
    seen_orders: usize,
    /// Files that are on their way or wait, with the time from which they can be played.
    waiting: VecDeque<(u64, Duration, Vec<i16>)>,
    playing: Option<(u64, Duration, Vec<i16>)>,
    heard: Vec<i16>,
    /// Lengths of the files.
    files: Vec<Duration>,
    /// How loud they end.
    edges: Vec<u16>,
    works: bool,
}

impl Switch {
    fn new(dialect: Dialect) -> Self {
        let mut world = World::new(PCM16);
        world.attach(StreamShape { back: HZ16, ..shape(dialect) });
        Self {
            world,
            dialect,
            seen: 0,
            seen_orders: 0,
            waiting: VecDeque::new(),
            playing: None,
            heard: Vec::new(),
            files: Vec::new(),
            edges: Vec::new(),
            works: true,
        }
    }

    fn run(&mut self, length: Duration) {
        for _ in 0..length.as_millis() {
            self.world.run(millis(1));
            self.step();
        }
    }

    fn step(&mut self) {
        let at = self.world.at();
        for (_, text) in &self.world.texts[self.seen..] {
            let (id, pcm) = file(self.dialect, text);
            self.files.push(HZ16.duration_of(pcm.len()));
            let edge = pcm.iter().rev().take(100).map(|sample| sample.unsigned_abs());
            self.edges.extend(edge.max());
            self.waiting.push_back((id, at + WAY, pcm));
        }
        self.seen = self.world.texts.len();
        if self.world.orders.len() > self.seen_orders {
            assert_eq!(self.world.orders[self.seen_orders].1, LegOrder::BreakPlayback);
            self.seen_orders = self.world.orders.len();
            if let Some((id, since, pcm)) = self.playing.take() {
                let heard = PCM16.bytes_per(at - since) / 2;
                self.heard.extend(&pcm[..heard.min(pcm.len())]);
                self.tell(&FilePlayback::Stopped { id, broken: true });
            }
            // What has not reached the channel yet is not broken.
            self.waiting.retain(|(_, ready, _)| *ready > at);
        }
        let over = |(_, since, pcm): &(u64, Duration, Vec<i16>)| {
            at - *since >= HZ16.duration_of(pcm.len())
        };
        if self.playing.as_ref().is_some_and(over)
            && let Some((id, _, pcm)) = self.playing.take()
        {
            self.heard.extend(pcm);
            self.tell(&FilePlayback::Stopped { id, broken: false });
        }
        if self.playing.is_none()
            && self.waiting.front().is_some_and(|(_, ready, _)| *ready <= at)
            && let Some((id, _, pcm)) = self.waiting.pop_front()
        {
            if self.works {
                self.playing = Some((id, at, pcm));
                self.tell(&FilePlayback::Started { id });
            } else {
                self.tell(&FilePlayback::Failed { id, reason: "no such file".into() });
            }
        } else if self.playing.is_none() && !self.heard.is_empty() {
            self.heard.extend([0; 16]);
        }
    }

    fn tell(&mut self, playback: &FilePlayback) {
        self.world.leg.playback(self.world.now, playback);
        self.world.drain();
    }
}

/// The id and the samples of a file's message.
fn file(dialect: Dialect, text: &str) -> (u64, Vec<i16>) {
    assert!(text.len() < 600_000, "{} bytes", text.len());
    let value: Value = serde_json::from_str(text).expect("JSON");
    let data = &value["data"];
    let (kind, how, audio) = match dialect {
        Dialect::AudioFork => ("playAudio", "audioContentType", "audioContent"),
        _ => ("streamAudio", "audioDataType", "audioData"),
    };
    assert_eq!(value["type"], kind);
    assert_eq!(data[how], "raw");
    assert_eq!(data["sampleRate"], 16_000);
    let audio = data[audio].as_str().expect("base64");
    let id = data["id"].as_str().expect("an id").parse().expect("a number");
    (id, samples(&base64_simd::STANDARD.decode_to_vec(audio).expect("base64")))
}

#[test]
fn speech_is_heard_whole_in_few_files() {
    for dialect in [Dialect::AudioFork, Dialect::AudioStream] {
        let mut switch = Switch::new(dialect);
        let said = numbers(100, 32_000);
        switch.world.leg.play(switch.world.now, ItemId(1), PCM16, &bytes(&said[..24_000]));
        switch.world.say(2, PCM16, &bytes(&said[24_000..]));
        switch.run(millis(3_000));
        let (start, end) = (0, said.len());
        assert!(switch.heard[start..end] == said, "files follow each other");
        assert_eq!(switch.files, [millis(2_000)], "all of it was there");
        for item in [1, 2] {
            let started = switch.world.started(item).expect("it began");
            assert!(started < switch.world.drained(item).expect("it ended"));
        }
        assert_eq!(switch.world.leg.heard(ItemId(1)), Some(millis(1_500)));
        assert!(switch.world.started(1).expect("it began") <= WAY + millis(2));
    }
}

#[test]
fn a_long_speech_comes_early_and_without_gaps() {
    let mut switch = Switch::new(Dialect::AudioFork);
    // Twelve seconds at three times the speed of speech, in words of 400 ms with pauses of 100 ms.
    let word = [tone(SampleRate::Hz24000, millis(400)), vec![0; 2_400]].concat();
    for _ in 0..24 {
        for piece in word.chunks(2_400) {
            switch.world.play(1, PCM24, &bytes(piece));
            switch.run(millis(33));
        }
    }
    switch.world.end_item(1);
    switch.run(millis(9_000));
    assert_eq!(switch.files.iter().sum::<Duration>(), millis(12_000));
    assert!(switch.files.iter().all(|length| *length <= millis(5_000)), "{:?}", switch.files);
    assert!((3..=8).contains(&switch.files.len()), "{:?}", switch.files);
    let first = switch.world.started(1).expect("it began");
    assert!(first <= millis(300), "{first:?}");
    assert!(
        switch.edges.iter().all(|level| *level < 300),
        "cuts lie in pauses: {:?}",
        switch.edges
    );
    let drained = switch.world.drained(1).expect("it ended");
    let gaps = drained - first - millis(12_000);
    assert!(gaps <= millis(10), "{gaps:?}");
}

#[test]
fn a_slow_model_is_heard_too() {
    let mut switch = Switch::new(Dialect::AudioStream);
    let said = numbers(1, 32_000);
    for piece in bytes(&said).chunks(640) {
        switch.world.play(1, PCM16, piece);
        switch.run(millis(20));
    }
    switch.run(millis(200));
    assert!(!switch.files.is_empty());
    // It stops in mid-sentence: what is there is played.
    switch.run(millis(4_000));
    let heard: Vec<i16> = switch.heard.iter().copied().filter(|sample| *sample != 0).collect();
    assert!(heard == said);
    assert!(switch.world.drained(1).is_some());
}

#[test]
fn a_barge_in_breaks_what_plays_and_what_waits() {
    let mut switch = Switch::new(Dialect::AudioFork);
    switch.world.say(1, PCM24, &bytes(&tone(SampleRate::Hz24000, millis(8_000))));
    while switch.files.len() < 2 {
        switch.run(millis(10));
    }
    switch.run(millis(100));
    assert_eq!(switch.waiting.len(), 1, "the second waits behind the first");
    let cut = switch.world.clear();
    switch.run(millis(100));
    let heard = HZ16.duration_of(
        switch.heard.len() - switch.heard.iter().rev().take_while(|s| **s == 0).count(),
    );
    assert!(cut[0].heard.abs_diff(heard) <= millis(5), "{cut:?}, heard {heard:?}");
    assert_eq!(cut[0].received, millis(8_000));
    switch.run(millis(3_000));
    assert_eq!(switch.world.orders.len(), 1);
    assert!(switch.playing.is_none() && switch.world.drained(1).is_none());
    switch.world.say(2, PCM16, &bytes(&numbers(100, 8_000)));
    switch.run(millis(1_000));
    assert!(switch.world.drained(2).is_some());
}

#[test]
fn a_file_on_its_way_during_a_barge_in_is_broken_when_it_begins() {
    let mut switch = Switch::new(Dialect::AudioFork);
    switch.world.say(1, PCM16, &bytes(&numbers(100, 16_000)));
    switch.run(millis(20));
    let cut = switch.world.clear();
    assert_eq!((cut[0].heard, cut[0].received), (Duration::ZERO, millis(1_000)));
    switch.run(millis(500));
    assert_eq!(switch.world.orders.len(), 2, "it began all the same");
    assert!(switch.heard.iter().filter(|sample| **sample != 0).count() <= 32);
    assert!(switch.world.started(1).is_none());
}

#[test]
fn a_pause_breaks_the_file_and_goes_on_where_it_was() {
    let mut switch = Switch::new(Dialect::AudioFork);
    let said = numbers(100, 32_000);
    switch.world.say(1, PCM16, &bytes(&said));
    switch.run(millis(1_000));
    switch.world.leg.pause(switch.world.now, true);
    switch.world.drain();
    switch.run(millis(2_000));
    assert!(switch.world.drained(1).is_none() && switch.playing.is_none());
    switch.world.leg.pause(switch.world.now, false);
    switch.run(millis(2_000));
    let heard: Vec<i16> = switch.heard.iter().copied().filter(|sample| *sample != 0).collect();
    let twice = heard.len() as i64 - said.len() as i64;
    assert!(twice.abs() <= 32, "{twice} samples twice or not at all");
    assert!(switch.world.drained(1).is_some());
    assert_eq!(switch.world.leg.heard(ItemId(1)), Some(millis(2_000)));
}

#[test]
fn a_switch_that_plays_nothing_holds_nothing_up() {
    let mut switch = Switch::new(Dialect::AudioFork);
    switch.works = false;
    switch.world.say(1, PCM16, &bytes(&numbers(100, 16_000)));
    switch.run(millis(200));
    assert!(switch.world.started(1).is_some() && switch.world.drained(1).is_some());
    assert_eq!(switch.world.leg.heard(ItemId(1)), Some(Duration::ZERO));
    assert_eq!(switch.world.leg.counters().files_failed, 1);
    // Nor does one that says nothing.
    let mut silent = Switch::new(Dialect::AudioFork);
    silent.world.say(1, PCM16, &bytes(&numbers(100, 16_000)));
    silent.world.run(millis(7_000));
    assert!(silent.world.drained(1).is_some());
    assert_eq!(silent.world.leg.counters().files_failed, 1);
}

#[test]
fn a_file_broken_by_somebody_else_is_heard_until_then() {
    let mut switch = Switch::new(Dialect::AudioFork);
    switch.world.say(1, PCM16, &bytes(&numbers(100, 16_000)));
    switch.run(millis(550));
    let id = switch.playing.take().expect("it plays").0;
    switch.tell(&FilePlayback::Stopped { id, broken: true });
    switch.run(millis(10));
    assert!(switch.world.drained(1).is_some());
    let heard = switch.world.leg.heard(ItemId(1)).expect("it is known");
    assert!(heard.abs_diff(millis(500)) <= millis(5), "{heard:?}");
    let cleared = switch.world.clear();
    assert!(cleared.is_empty());
    assert!(switch.world.events.iter().all(|(_, event)| *event != LegEvent::MediaTimeout));
}

#[test]
fn jambonz_tells_the_end_of_a_file_over_the_websocket() {
    let mut switch = Switch::new(Dialect::AudioFork);
    switch.world.say(1, PCM16, &bytes(&numbers(100, 16_000)));
    switch.world.run(millis(100));
    let now = switch.world.now;
    switch.world.leg.playback(now, &FilePlayback::Started { id: 1 });
    switch.world.run(millis(990));
    let text = br#"{"type":"playDone","data":{"id":"1"}}"#;
    let note = switch.world.leg.handle_text(switch.world.now, text).expect("a text");
    assert_eq!(note.playbacks, 1);
    switch.world.drain();
    assert_eq!(switch.world.drained(1), Some(switch.world.at()));
}
