//! Any events in any order: nothing panics, and what must always hold holds.

use std::time::Duration;

use proptest::prelude::*;
use tandem_call::{Digit, LegEvent, MediaLeg};
use tandem_media::{AudioFormat, Codec, Law, OpusParams, Ptime, SampleRate};
use tandem_rtp::{Direction, Latching, MediaParams, TelephoneEvent};

use crate::world::{MU, PEER, World, address, params, voice};

#[derive(Debug, Clone)]
enum Step {
    Run(u64),
    Stall(u64),
    Packet { samples: usize, delay_ms: u64, payload_type: u8 },
    Lose(u16),
    Restart(u32, u16),
    Event(u8, bool, u16),
    Bytes(Vec<u8>),
    Play { item: u64, format: AudioFormat, bytes: usize },
    EndItem(u64),
    Clear,
    Pause(bool),
    Duck(bool),
    Digits(usize),
    Apply(MediaParams),
    SetUplink(AudioFormat),
}

fn format() -> impl Strategy<Value = AudioFormat> {
    prop_oneof![
        Just(MU),
        Just(AudioFormat::G711(Law::A)),
        Just(AudioFormat::Pcm16(SampleRate::Hz8000)),
        Just(AudioFormat::Pcm16(SampleRate::Hz16000)),
        Just(AudioFormat::Pcm16(SampleRate::Hz24000)),
    ]
}

fn codec() -> impl Strategy<Value = Codec> {
    prop_oneof![
        3 => Just(Codec::PCMU),
        3 => Just(Codec::PCMA),
        1 => Just(Codec::G722),
        1 => Just(Codec::Opus(SampleRate::Hz16000)),
        1 => Just(Codec::Opus(SampleRate::Hz24000)),
        1 => Just(Codec::L16(SampleRate::Hz16000)),
        1 => Just(Codec::L16(SampleRate::Hz48000)),
    ]
}

fn media() -> impl Strategy<Value = MediaParams> {
    let direction = prop_oneof![
        4 => Just(Direction::SendRecv),
        1 => Just(Direction::SendOnly),
        1 => Just(Direction::RecvOnly),
        1 => Just(Direction::Inactive),
    ];
    let remote = prop_oneof![
        4 => Just(address(PEER)),
        1 => Just(address("0.0.0.0:4000")),
        1 => Just(address("192.0.2.1:0")),
        1 => Just(address("[2001:db8::7]:9000")),
    ];
    (direction, remote, codec(), any::<bool>(), 0u32..80, any::<bool>()).prop_map(
        |(direction, remote_rtp, codec, events, ptime, natted)| MediaParams {
            direction,
            remote_rtp,
            codec,
            payload_type: codec.static_payload_type().unwrap_or(96),
            opus: OpusParams { dtx: ptime % 2 == 0, ..OpusParams::DEFAULT },
            telephone_event: events.then_some(101),
            telephone_event_hz: codec.clock_hz(),
            comfort_noise: Some(13),
            ptime: Ptime::nearest(ptime),
            latching: if natted { Latching::Natted { signalling: None } } else { Latching::Off },
            ..params()
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0u64..200).prop_map(Step::Run),
        1 => (0u64..3_000).prop_map(Step::Stall),
        8 => (0usize..700, 0u64..150, prop_oneof![Just(0u8), Just(8), Just(9), Just(13), Just(77), Just(96)])
            .prop_map(|(samples, delay_ms, payload_type)| Step::Packet { samples, delay_ms, payload_type }),
        2 => (0u16..200).prop_map(Step::Lose),
        1 => any::<(u32, u16)>().prop_map(|(ssrc, sequence)| Step::Restart(ssrc, sequence)),
        2 => any::<(u8, bool, u16)>().prop_map(|(event, end, duration)| Step::Event(event, end, duration)),
        1 => proptest::collection::vec(any::<u8>(), 0..64).prop_map(Step::Bytes),
        6 => (0u64..6, format(), 0usize..20_000)
            .prop_map(|(item, format, bytes)| Step::Play { item, format, bytes }),
        2 => (0u64..6).prop_map(Step::EndItem),
        1 => Just(Step::Clear),
        1 => any::<bool>().prop_map(Step::Pause),
        1 => any::<bool>().prop_map(Step::Duck),
        1 => (0usize..70).prop_map(Step::Digits),
        2 => media().prop_map(Step::Apply),
        1 => format().prop_map(Step::SetUplink),
    ]
}

fn take(world: &mut World, step: Step, first_item: &mut u64) {
    match step {
        Step::Run(ms) => world.run(Duration::from_millis(ms)),
        Step::Stall(ms) => {
            world.now += Duration::from_millis(ms);
            world.drain();
        }
        Step::Packet { samples, delay_ms, payload_type } => {
            world.peer.payload_type = payload_type;
            let bytes = world.next_packet(&voice(0).repeat(5)[..samples]);
            world.arrive_from(Duration::from_millis(delay_ms), PEER, bytes);
        }
        Step::Lose(count) => world.peer.sequence = world.peer.sequence.wrapping_add(count),
        Step::Restart(ssrc, sequence) => {
            (world.peer.ssrc, world.peer.sequence) = (ssrc, sequence);
            world.peer.timestamp = ssrc;
        }
        Step::Event(event, end, duration) => {
            let bytes = world.next_event(TelephoneEvent { event, end, volume: 0, duration }, 0);
            world.arrive_from(Duration::ZERO, PEER, bytes);
        }
        Step::Bytes(bytes) => world.arrive_from(Duration::ZERO, PEER, bytes),
        Step::Play { item, format, bytes } => {
            // Items rise, as they do in a call.
            *first_item = (*first_item).max(item);
            world.play(*first_item, format, &vec![0x31; bytes]);
        }
        Step::EndItem(item) => world.end_item(item),
        Step::Clear => world.clear(),
        Step::Pause(paused) => world.leg.pause(world.now, paused),
        Step::Duck(ducked) => world.leg.duck(world.now, ducked),
        Step::Digits(count) => {
            let digit = Digit::new('7').expect("a digit");
            let _ = world.leg.send_digits(world.now, &vec![digit; count]);
        }
        Step::Apply(params) => world.apply(params),
        Step::SetUplink(format) => world.leg.set_uplink(format),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_stream_stays_honest_and_every_clear_is_answered(
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::answered(MU);
        let clears = steps.iter().filter(|step| matches!(step, Step::Clear)).count();
        let mut first_item = 0;
        for step in steps {
            take(&mut world, step, &mut first_item);
            world.drain();
        }
        let cleared = |event: &&LegEvent| matches!(event, LegEvent::PlayoutCleared { .. });
        prop_assert_eq!(world.event_list().iter().filter(cleared).count(), clears);
        world.assert_stream_is_honest();

        // Whatever was before: with media up again all that is queued is played, and the model hears in real time.
        world.leg.pause(world.now, false);
        world.leg.duck(world.now, false);
        world.apply(params());
        world.end_item(first_item);
        world.run(Duration::from_secs(60));
        prop_assert_eq!(world.leg.queued(), Duration::ZERO);
        let before = world.frames.len();
        world.run(Duration::from_secs(2));
        prop_assert!((99..=101).contains(&(world.frames.len() - before)));
        world.assert_stream_is_honest();
    }
}
