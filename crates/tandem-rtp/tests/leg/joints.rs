//! Where the agent's voice breaks off and goes on.

use std::{f64::consts::TAU, time::Duration};

use tandem_call::{ItemId, LegEvent, MediaLeg};
use tandem_media::{AudioFormat, Codec, Decoder, Law, Ptime, SampleRate, g711};
use tandem_rtp::MediaParams;

use crate::world::{MU, World, millis, params};

const ITEM: ItemId = ItemId(1);

const CODECS: [Codec; 4] = [Codec::PCMU, Codec::PCMA, Codec::G722, Codec::L16(SampleRate::Hz16000)];

/// A vowel of 131 Hz, from `from` on, for `ms`.
fn vowel(rate: SampleRate, from: Duration, ms: usize) -> Vec<i16> {
    let first = (from.as_secs_f64() * rate.hz() as f64).round() as usize;
    (first..first + rate.hz() / 1_000 * ms)
        .map(|n| {
            let phase = TAU * 131.0 * n as f64 / rate.hz() as f64;
            (1..=8).map(|k| 4_500.0 / f64::from(k) * (phase * f64::from(k)).cos()).sum::<f64>()
                as i16
        })
        .collect()
}

/// A call in `codec` whose model speaks its format: nothing but the joints changes a sample.
struct Speaker {
    world: World,
    codec: Codec,
    spoken: Duration,
}

impl Speaker {
    fn new(codec: Codec) -> Self {
        Self::with_ptime(codec, 20)
    }

    fn with_ptime(codec: Codec, ptime: u32) -> Self {
        let mut world = World::speaking(codec, MU);
        let payload_type = codec.static_payload_type().unwrap_or(96);
        let ptime = Ptime::nearest(ptime);
        world.apply(MediaParams { codec, payload_type, ptime, ..params() });
        world.run(millis(100));
        Self { world, codec, spoken: Duration::ZERO }
    }

    fn speak(&mut self, item: u64, ms: usize) {
        let mut bytes = Vec::new();
        let format = self.codec.format();
        format.write(&vowel(self.codec.rate(), self.spoken, ms), &mut bytes);
        self.spoken += millis(ms as u64);
        self.world.play(item, format, &bytes);
    }

    /// What the caller hears from 100 ms on.
    fn heard(&self) -> Vec<i16> {
        let mut decoder = Decoder::new(self.codec).expect("memory");
        let (mut all, mut one) = (Vec::new(), Vec::new());
        let mut next: Option<u32> = None;
        for sent in &self.world.sent {
            decoder.decode(&sent.payload, &mut one).expect("audio of the codec");
            if sent.at >= millis(100) && !(all.is_empty() && one.iter().all(|it| it.abs() < 40)) {
                // What the timestamps leave out is silence.
                let left_out = next.map_or(0, |next| sent.timestamp.wrapping_sub(next)) as usize;
                let samples = left_out * self.codec.rate().hz() / self.codec.clock_hz() as usize;
                all.resize(all.len() + samples, 0);
                all.extend_from_slice(&one);
                next = Some(sent.timestamp.wrapping_add(sent.ticks));
            }
        }
        all
    }

    fn samples(&self, ms: usize) -> usize {
        self.codec.rate().hz() / 1_000 * ms
    }
}

/// How sharp the sharpest bend is: what a click is made of.
fn click(pcm: &[i16]) -> i32 {
    let bends = pcm.windows(3).map(|it| i32::from(it[0]) - 2 * i32::from(it[1]) + i32::from(it[2]));
    bends.map(i32::abs).max().unwrap_or(0)
}

/// The sharpest bend of the voice itself.
fn usual(codec: Codec) -> i32 {
    let mut speaker = Speaker::new(codec);
    speaker.speak(1, 400);
    speaker.world.run(millis(300));
    click(&speaker.heard()[speaker.samples(20)..speaker.samples(280)])
}

#[test]
fn a_hard_cut_clicks() {
    for codec in CODECS {
        let mut broken = vowel(codec.rate(), Duration::ZERO, 160);
        broken.resize(broken.len() * 2, 0);
        let sharpest = click(&broken[codec.rate().hz() / 100..]);
        assert!(sharpest > usual(codec) * 3 / 2, "{codec:?}: {sharpest} of {}", usual(codec));
    }
}

#[test]
fn a_model_that_runs_dry_is_not_cut_off() {
    for codec in CODECS {
        // The queue ends with a packet, and within one.
        for ms in [200, 207] {
            let mut speaker = Speaker::new(codec);
            speaker.speak(1, ms);
            speaker.world.run(millis(400));
            let name = format!("{codec:?}, dry after {ms} ms");
            let heard = speaker.heard();
            let at = |ms: usize| speaker.samples(ms);
            let voice = vowel(codec.rate(), Duration::ZERO, 300);
            let power = |pcm: &[i16]| pcm.iter().map(|&it| f64::from(it).powi(2)).sum::<f64>();
            let made_up = &heard[at(ms)..at(ms + 20)];
            let real = power(&voice[at(ms)..at(ms + 20)]);
            assert!((0.6..1.4).contains(&(power(made_up) / real)), "{name}: the voice goes on");
            assert!(power(&heard[at(ms + 65)..at(ms + 85)]) < real / 1e3, "{name}: and fades");
            let sharpest = click(&heard[at(ms) - 8..at(ms + 90)]);
            assert!(sharpest < usual(codec) * 3 / 2, "{name}: {sharpest}");
            assert_eq!(speaker.world.leg.heard(ITEM), Some(millis(ms as u64)), "{name}");
            let drained = speaker.world.when(&LegEvent::PlayoutDrained { item: ITEM });
            let end = millis(100 + (ms as u64).next_multiple_of(20));
            assert_eq!(drained, Some(end), "{name}: made-up sound is no part of it");
            speaker.world.assert_stream_is_honest();
        }
    }
}

#[test]
fn an_item_that_goes_on_is_led_into() {
    for codec in CODECS {
        // In the middle of what is made up, and after it.
        for pause in [10, 30, 47, 150] {
            let mut speaker = Speaker::new(codec);
            speaker.speak(1, 200);
            speaker.world.run(millis(200 + pause));
            speaker.speak(1, 200);
            speaker.world.end_item(1);
            speaker.world.run(millis(500));
            let name = format!("{codec:?}, a pause of {pause} ms");
            assert_eq!(speaker.world.leg.counters().underruns, 1, "{name}");
            let heard = speaker.heard();
            let broken = speaker.samples(195)..speaker.samples(200 + pause as usize + 60);
            let sharpest = click(&heard[broken]);
            assert!(sharpest < usual(codec) * 3 / 2, "{name}: {sharpest}");
            // Queued at once, it leaves with the next packet.
            let first_late = speaker.world.sent.iter().find(|sent| sent.at >= millis(300 + pause));
            let first_late = first_late.unwrap().at;
            assert!(first_late <= millis(300 + pause + 20), "{name}: {first_late:?}");
            assert_eq!(speaker.world.leg.heard(ITEM), Some(millis(400)), "{name}");
            let drained = speaker.world.when(&LegEvent::PlayoutDrained { item: ITEM });
            assert!(drained.unwrap() <= millis(300 + 220 + pause), "{name}: {drained:?}");
            speaker.world.assert_stream_is_honest();
        }
    }
}

#[test]
fn an_item_that_ends_is_not_made_longer() {
    let mut speaker = Speaker::new(Codec::PCMU);
    speaker.speak(1, 207);
    speaker.world.end_item(1);
    speaker.world.run(millis(400));
    let loud: Vec<_> = speaker.world.sent.iter().filter(|sent| !sent.is_silence()).collect();
    assert_eq!(loud.len(), 11);
    assert!(loud[10].payload[56..].iter().all(|byte| *byte == 0xFF));
    // The end is known only after the queue ran dry: what is made up stops within the next packet.
    let mut speaker = Speaker::new(Codec::PCMU);
    speaker.speak(1, 200);
    speaker.world.run(millis(210));
    speaker.world.end_item(1);
    speaker.world.run(millis(400));
    let loud: Vec<_> = speaker.world.sent.iter().filter(|sent| !sent.is_silence()).collect();
    assert_eq!(loud.len(), 12, "one was made up, and one fades out");
    assert!(loud[11].payload[40..].iter().all(|byte| *byte == 0xFF), "over 5 ms");
    let sharpest = click(&speaker.heard()[speaker.samples(195)..]);
    assert!(sharpest < usual(Codec::PCMU) * 3 / 2, "{sharpest}");
    assert_eq!(speaker.world.leg.counters().underruns, 0);
}

#[test]
fn a_quiet_end_is_left_alone() {
    let mut world = World::answered(MU);
    world.run(millis(100));
    let mut audio = vec![0; 1_600];
    g711::encode(Law::Mu, &[60; 1_600], &mut audio);
    world.play(1, MU, &audio);
    world.run(millis(400));
    let loud = world.sent.iter().filter(|sent| !sent.is_silence()).count();
    assert_eq!(loud, 10);
}

#[test]
fn a_cut_does_not_click_and_nothing_old_is_sent_after_20_ms() {
    for codec in CODECS {
        for cut_at in [143, 150, 160, 161] {
            let name = format!("{codec:?}, cut at {cut_at} ms");
            let mut speaker = Speaker::new(codec);
            speaker.speak(1, 1_000);
            speaker.world.run(millis(cut_at));
            let heard = speaker.world.leg.heard(ITEM);
            speaker.world.clear();
            let cut = speaker.world.elapsed();
            speaker.world.run(millis(300));
            assert_eq!(speaker.world.leg.heard(ITEM), heard, "{name}");
            let mut decoder = Decoder::new(codec).expect("memory");
            let mut pcm = Vec::new();
            for sent in &speaker.world.sent {
                decoder.decode(&sent.payload, &mut pcm).expect("audio of the codec");
                if sent.at > cut {
                    let fade = codec.rate().hz() / 160; // And what G.722 rings on.
                    let old =
                        pcm.iter().rposition(|sample| sample.abs() > 100).map_or(0, |n| n + 1);
                    assert!(old <= fade, "{name}: {old} samples at {:?}", sent.at);
                    assert!(old == 0 || sent.at <= cut + millis(20), "{name}: at {:?}", sent.at);
                }
            }
            let sharpest = click(&speaker.heard()[speaker.samples(100)..]);
            assert!(sharpest < usual(codec) * 3 / 2, "{name}: {sharpest}");
            speaker.world.assert_stream_is_honest();
        }
    }
}

#[test]
fn a_cut_is_hard_where_the_next_packet_is_far_off() {
    let mut speaker = Speaker::with_ptime(Codec::PCMU, 60);
    speaker.speak(1, 1_000);
    speaker.world.run(millis(125));
    speaker.world.clear();
    let before = speaker.world.sent.len();
    speaker.world.run(millis(300));
    assert!(speaker.world.sent[before..].iter().all(|sent| sent.is_silence()));
}

#[test]
fn what_follows_a_cut_at_once_is_led_into() {
    for codec in CODECS {
        let mut speaker = Speaker::new(codec);
        speaker.speak(1, 1_000);
        speaker.world.run(millis(150));
        speaker.world.clear();
        speaker.speak(2, 200);
        speaker.world.end_item(2);
        speaker.world.run(millis(500));
        let heard = speaker.heard();
        let sharpest = click(&heard[speaker.samples(100)..speaker.samples(250)]);
        assert!(sharpest < usual(codec) * 3 / 2, "{codec:?}: {sharpest}");
        assert_eq!(speaker.world.leg.heard(ItemId(2)), Some(millis(200)), "{codec:?}");
    }
}

#[test]
fn ducked_audio_goes_on_at_the_very_sample() {
    for codec in [Codec::PCMU, Codec::L16(SampleRate::Hz16000)] {
        for paused in [false, true] {
            let mut speaker = Speaker::new(codec);
            let hold = |speaker: &mut Speaker, held: bool| {
                let now = speaker.world.now;
                if paused {
                    speaker.world.leg.pause(now, held);
                } else {
                    speaker.world.leg.duck(now, held);
                }
            };
            speaker.speak(1, 400);
            speaker.world.end_item(1);
            speaker.world.run(millis(150));
            hold(&mut speaker, true);
            speaker.world.run(millis(230));
            assert_eq!(speaker.world.leg.heard(ITEM), Some(millis(160)));
            hold(&mut speaker, false);
            speaker.world.run(millis(600));
            let heard = speaker.heard();
            let at = |ms: usize| speaker.samples(ms);
            let mut plain = Speaker::new(codec);
            plain.speak(1, 400);
            plain.world.end_item(1);
            plain.world.run(millis(600));
            let whole = plain.heard();
            let (before, name) = (at(160), format!("{codec:?}, paused: {paused}"));
            assert!(heard[..before] == whole[..before], "{name}: before");
            // Ducked at 250 ms, which silences from 260 ms on; the packet at 480 ms has the next sample.
            let (again, fade) = (at(380), at(5));
            assert!(heard[before + fade..again].iter().all(|it| *it == 0), "{name}: silence");
            assert!(
                heard[again + fade..again + at(240)] == whole[before + fade..at(400)],
                "{name}: the rest"
            );
            // The item itself ends hard.
            let sharpest = click(&heard[at(100)..again + at(235)]);
            assert!(sharpest < usual(codec) * 3 / 2, "{name}: {sharpest}");
            assert_eq!(speaker.world.leg.counters().underruns, 0, "{name}");
            speaker.world.assert_stream_is_honest();
        }
    }
}

#[test]
fn a_pause_and_a_duck_hold_apart() {
    let mut speaker = Speaker::new(Codec::PCMU);
    speaker.speak(1, 400);
    speaker.world.run(millis(50));
    let now = speaker.world.now;
    speaker.world.leg.pause(now, true);
    speaker.world.leg.duck(now, true);
    speaker.world.leg.pause(now, false);
    speaker.world.run(millis(200));
    assert_eq!(speaker.world.leg.heard(ITEM), Some(millis(60)), "still ducked");
    speaker.world.clear();
    speaker.speak(2, 100);
    speaker.world.run(millis(50));
    assert_eq!(speaker.world.leg.heard(ItemId(2)), Some(millis(60)), "a clear ends the duck");
}

#[test]
fn nothing_fades_that_had_not_begun() {
    let mut speaker = Speaker::new(Codec::PCMU);
    let now = speaker.world.now;
    speaker.world.leg.duck(now, true);
    let plain: Vec<u8> = (0..160).map(|n| n as u8 & 0x7F).collect();
    speaker.world.play(1, AudioFormat::G711(Law::Mu), &plain);
    speaker.world.end_item(1);
    speaker.world.run(millis(100));
    let now = speaker.world.now;
    speaker.world.leg.duck(now, false);
    speaker.world.run(millis(100));
    let loud: Vec<_> = speaker.world.sent.iter().filter(|sent| !sent.is_silence()).collect();
    assert_eq!(loud.len(), 1);
    assert_eq!(loud[0].payload, plain);
}
