use std::time::Duration;

use tandem_call::{LegEvent, Origin};
use tandem_rtp::{Direction, MediaParams};

use crate::world::{MU, PEER, World, address, millis, numbered, params, voice};

fn held(direction: Direction) -> MediaParams {
    MediaParams { direction, ..params() }
}

#[test]
fn on_hold_the_model_hears_silence_and_the_queue_waits() {
    let unspecified = MediaParams { remote_rtp: address("0.0.0.0:4000"), ..params() };
    for (name, hold, sends) in [
        ("music", held(Direction::RecvOnly), false),
        ("inactive", held(Direction::Inactive), false),
        ("0.0.0.0", unspecified, false),
        ("peer only listens", held(Direction::SendOnly), true),
    ] {
        let mut world = World::answered(MU);
        world.peer_sends(550, voice, |_| Some(millis(20)));
        world.run(millis(1_005));
        world.leg.apply(world.now, hold);
        let (frames, sent) = (world.frames.len(), world.sent.len());
        if !sends {
            world.play(1, MU, &numbered(1).repeat(10));
            world.end_item(1);
        }
        world.run(millis(5_000));
        assert!(
            world.frames[frames..].iter().all(|frame| frame.origin == Origin::Silence),
            "{name}: no music for the model"
        );
        assert!((245..=250).contains(&(world.frames.len() - frames)), "{name}: in real time");
        assert_eq!(world.sent.len() > sent, sends, "{name}");
        world.leg.apply(world.now, params());
        world.run(millis(2_000));
        let resumed = world.frames.iter().rev().find(|frame| frame.origin == Origin::Caller);
        assert!(resumed.unwrap().at > millis(6_900), "{name}: the caller is heard again");
        assert!(world.lead.0 >= -100 && world.lead.1 <= 20, "{name}: {:?}", world.lead);
        if !sends {
            let played = world.sent.iter().filter(|sent| !sent.is_silence()).count();
            assert_eq!(played, 10, "{name}: what was queued is played after hold");
        }
        let ended = LegEvent::MediaTimeout;
        assert_eq!(world.when(&ended), None);
        world.assert_stream_is_honest();
    }
}

#[test]
fn the_media_time_out_rests_on_hold_and_starts_anew_after_it() {
    let mut world = World::answered(MU);
    world.run(Duration::from_secs(20));
    world.leg.apply(world.now, held(Direction::Inactive));
    world.run(Duration::from_secs(100));
    assert_eq!(world.event_list(), []);
    world.leg.apply(world.now, params());
    world.run(Duration::from_secs(29));
    assert_eq!(world.event_list(), []);
    world.run(Duration::from_secs(2));
    assert_eq!(world.events, [(Duration::from_secs(150), LegEvent::MediaTimeout)]);
}

#[test]
fn digits_reach_us_on_hold() {
    let mut world = World::answered(MU);
    world.leg.apply(world.now, held(Direction::RecvOnly));
    let event = tandem_rtp::TelephoneEvent { event: 9, end: true, volume: 10, duration: 800 };
    let bytes = world.next_event(event, 0);
    world.arrive_from(millis(5), PEER, bytes);
    world.run(millis(10));
    assert!(matches!(world.event_list()[..], [LegEvent::Digit(_)]));
}
