//! Any events in any order: nothing panics, and what must always hold holds.

use std::collections::HashMap;

use proptest::prelude::*;
use tandem_call::{FilePlayback, ItemId, LegEvent, MediaLeg};
use tandem_media::{AudioFormat, Law, SampleRate};
use tandem_streams::{Channels, Dialect, StreamShape};

use crate::{
    module::Module,
    world::{PCM8, PCM16, PCM24, World, millis},
};

#[derive(Debug, Clone)]
enum Step {
    Run(u64),
    Stall(u64),
    Hear { bytes: usize, byte: u8 },
    Text(String),
    Play { further: u64, format: AudioFormat, bytes: usize, byte: u8 },
    EndItem(u64),
    Clear,
    Pause(bool),
    Duck(bool),
    Attach(StreamShape),
    Detach,
    Playback(FilePlayback),
    SetUplink(AudioFormat),
    Writes(bool),
}

fn rate() -> impl Strategy<Value = SampleRate> {
    use SampleRate::{Hz8000, Hz16000, Hz24000, Hz48000};
    prop_oneof![Just(Hz8000), Just(Hz16000), Just(Hz24000), Just(Hz48000)]
}

fn format() -> impl Strategy<Value = AudioFormat> {
    prop_oneof![
        Just(AudioFormat::G711(Law::Mu)),
        Just(AudioFormat::G711(Law::A)),
        rate().prop_map(AudioFormat::Pcm16)
    ]
}

fn any_shape() -> impl Strategy<Value = StreamShape> {
    let channels = prop_oneof![Just(Channels::Mono), Just(Channels::Mixed), Just(Channels::Stereo)];
    let dialect = prop_oneof![
        3 => Just(Dialect::AudioForkBidirectional),
        2 => Just(Dialect::AudioFork),
        1 => Just(Dialect::AudioStream),
        1 => Just(Dialect::AudioStreamRaw),
        1 => Just(Dialect::AudioStreamBase64),
    ];
    (dialect, rate(), channels, rate(), rate()).prop_map(
        |(dialect, rate, channels, back, codec)| StreamShape {
            dialect,
            rate,
            channels,
            back,
            codec,
        },
    )
}

fn playback() -> impl Strategy<Value = FilePlayback> {
    (0u64..12, 0u8..4).prop_map(|(id, what)| match what {
        0 => FilePlayback::Started { id },
        1 => FilePlayback::Failed { id, reason: String::new() },
        what => FilePlayback::Stopped { id, broken: what == 3 },
    })
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        (0u64..20, any::<bool>()).prop_map(|(name, played)| {
            let event = if played { "playout" } else { "cleared" };
            format!(r#"{{"type":"mark","data":{{"name":"{name}","event":"{event}"}}}}"#)
        }),
        (0u64..12).prop_map(|id| format!(r#"{{"type":"playDone","data":{{"id":"{id}"}}}}"#)),
        "[{}\\[\\]\":,a-z0-9 ]{0,40}",
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0u64..400).prop_map(Step::Run),
        1 => (0u64..8_000).prop_map(Step::Stall),
        6 => (0usize..3_000, any::<u8>()).prop_map(|(bytes, byte)| Step::Hear { bytes, byte }),
        1 => (0usize..300_000, any::<u8>()).prop_map(|(bytes, byte)| Step::Hear { bytes, byte }),
        2 => text().prop_map(Step::Text),
        10 => (0u64..2, format(), 0usize..16_000, any::<u8>())
            .prop_map(|(further, format, bytes, byte)| Step::Play { further, format, bytes, byte }),
        3 => (0u64..3).prop_map(Step::EndItem),
        2 => Just(Step::Clear),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => any::<bool>().prop_map(Step::Duck),
        2 => any_shape().prop_map(Step::Attach),
        1 => Just(Step::Detach),
        6 => playback().prop_map(Step::Playback),
        1 => format().prop_map(Step::SetUplink),
        1 => any::<bool>().prop_map(Step::Writes),
    ]
}

fn take(world: &mut World, step: Step, item: &mut u64) {
    match step {
        Step::Run(ms) => world.run(millis(ms)),
        Step::Stall(ms) => {
            world.now += millis(ms);
            if world.leg.poll_timeout().is_some_and(|due| due <= world.now) {
                world.leg.handle_timeout(world.now);
            }
        }
        Step::Hear { bytes, byte } => {
            let _ = world.leg.handle_binary(world.now, &vec![byte; bytes]);
        }
        Step::Text(text) => {
            let _ = world.leg.handle_text(world.now, text.as_bytes());
        }
        Step::Play { further, format, bytes, byte } => {
            *item += further;
            world.leg.play(world.now, ItemId(*item), format, &vec![byte; bytes]);
        }
        Step::EndItem(back) => world.leg.end_item(world.now, ItemId(item.saturating_sub(back))),
        Step::Clear => world.leg.clear(world.now),
        Step::Pause(paused) => world.leg.pause(world.now, paused),
        Step::Duck(ducked) => world.leg.duck(world.now, ducked),
        Step::Attach(shape) => {
            world.module = None;
            world.leg.attach(world.now, shape);
            if shape.dialect == Dialect::AudioForkBidirectional {
                world.module = Some(Module::new(shape.back.hz(), shape.codec.hz()));
            }
        }
        Step::Detach => {
            world.leg.detach(world.now);
            world.module = None;
        }
        Step::Playback(playback) => world.leg.playback(world.now, &playback),
        Step::SetUplink(format) => world.leg.set_uplink(format),
        Step::Writes(writes) => {
            if let Some(module) = &mut world.module {
                module.writes = writes;
            }
        }
    }
    world.drain();
}

/// Every item begins before it ends, and nothing is heard that was not received.
fn is_honest(world: &World) -> Result<(), TestCaseError> {
    let mut started = HashMap::new();
    for (at, event) in &world.events {
        match event {
            LegEvent::PlayoutStarted { item } => {
                prop_assert!(started.insert(*item, *at).is_none(), "{item:?} began twice");
            }
            LegEvent::PlayoutDrained { item } => {
                prop_assert!(started.contains_key(item), "{item:?} ended before it began");
            }
            LegEvent::PlayoutCleared { cut } => {
                for cut in cut {
                    prop_assert!(cut.heard <= cut.received, "{cut:?}");
                }
            }
            _ => {}
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_account_stays_honest_and_every_clear_is_answered(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(PCM16);
        let clears = steps.iter().filter(|step| matches!(step, Step::Clear)).count();
        let mut item = 1;
        for step in steps {
            take(&mut world, step, &mut item);
            is_honest(&world)?;
        }
        let cleared = |event: &&LegEvent| matches!(event, LegEvent::PlayoutCleared { .. });
        let events = world.events.iter().map(|(_, event)| event);
        prop_assert_eq!(events.filter(cleared).count(), clears);

        // Whatever was before: on a good websocket all that is queued is played, and the model hears in real time.
        world.leg.pause(world.now, false);
        world.leg.duck(world.now, false);
        world.leg.set_uplink(PCM24);
        world.fork(SampleRate::Hz16000, SampleRate::Hz16000, SampleRate::Hz8000);
        world.leg.end_item(world.now, ItemId(item));
        let queued = world.leg.queued();
        world.run(queued + millis(2_000));
        prop_assert!(world.leg.queued().is_zero());
        prop_assert_eq!(world.module.as_ref().expect("a module").waiting(), (0, 0));
        let before = world.frames.len();
        world.run(millis(2_000));
        prop_assert!((99..=101).contains(&(world.frames.len() - before)));
        world.leg.play(world.now, ItemId(item + 1), PCM8, &[0x22; 3_200]);
        world.leg.end_item(world.now, ItemId(item + 1));
        world.drain();
        world.run(millis(600));
        prop_assert!(world.drained(item + 1).is_some());
        is_honest(&world)?;
    }
}
