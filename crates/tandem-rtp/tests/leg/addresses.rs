use tandem_call::Origin;
use tandem_rtp::{Latching, MediaParams, RtpError};

use crate::world::{MU, PEER, World, address, assert_same, millis, numbered, params};

const NAT: &str = "203.0.113.9:31000";
const REBOUND: &str = "203.0.113.9:31555";
const ATTACKER: &str = "198.51.100.66:4000";

fn natted() -> MediaParams {
    let latching = Latching::Natted { signalling: Some(address(NAT).ip()) };
    MediaParams { remote_rtp: address("10.0.0.5:4000"), latching, ..params() }
}

#[test]
fn media_before_the_answer_and_garbage_are_refused() {
    let mut world = World::new(MU);
    let bytes = world.next_packet(&numbered(0));
    assert_eq!(
        world.leg.handle_rtp(world.now, address(PEER), &bytes),
        Err(RtpError::NotNegotiated)
    );
    world.leg.apply(world.now, params());
    for (datagram, error) in [
        (&b""[..], RtpError::Truncated),
        (b"\r\n\r\n", RtpError::Truncated),
        (&[0; 40], RtpError::Version(0)),
        (&[0x80, 200, 0, 9], RtpError::Rtcp),
    ] {
        assert_eq!(world.leg.handle_rtp(world.now, address(PEER), datagram), Err(error));
    }
    assert_eq!(world.leg.counters().malformed, 4);
}

#[test]
fn a_stranger_is_neither_heard_nor_sent_to() {
    let mut world = World::answered(MU);
    world.peer_sends(100, numbered, |_| Some(millis(20)));
    let mut theirs = World::new(MU);
    theirs.peer.ssrc = 666;
    for n in 0..200 {
        let bytes = theirs.next_packet(&[0x55; 160]);
        world.arrive_from(millis(10 * n), ATTACKER, bytes);
    }
    world.run(millis(2_000));
    assert_same(
        &world.heard_by_model(Origin::Caller),
        &(0..100).flat_map(numbered).collect::<Vec<_>>(),
        "",
    );
    assert!(world.sent.iter().all(|sent| sent.to == address(PEER)));
    assert_eq!(world.leg.counters().foreign, 200);
}

#[test]
fn a_peer_behind_a_nat_is_found_and_followed() {
    let mut world = World::new(MU);
    world.leg.apply(world.now, natted());
    world.run(millis(100));
    assert!(world.sent.iter().all(|sent| sent.to == address("10.0.0.5:4000")));
    for n in 0..50 {
        let bytes = world.next_packet(&numbered(n));
        world.arrive_from(millis(20 * n), NAT, bytes);
    }
    world.run(millis(1_000));
    assert_eq!(world.sent.last().unwrap().to, address(NAT));
    assert_eq!(world.heard_by_model(Origin::Caller).len(), 49 * 160, "the first proved nothing");
    for n in 0..50 {
        let bytes = world.next_packet(&numbered(n));
        world.arrive_from(millis(20 * n), REBOUND, bytes);
    }
    let before = world.sent.len();
    world.run(millis(1_000));
    let moved = world.sent[before..].iter().position(|sent| sent.to == address(REBOUND)).unwrap();
    assert!(moved <= 4, "{moved}");
    assert!(world.heard_by_model(Origin::Caller).len() >= (49 + 47) * 160);
    assert!(world.lead.0 >= -100 && world.lead.1 <= 105, "{:?}", world.lead);
}

#[test]
fn a_new_sdp_moves_the_stream() {
    let mut world = World::answered(MU);
    world.run(millis(200));
    let moved = MediaParams { remote_rtp: address("192.0.2.77:5000"), ..params() };
    world.leg.apply(world.now, moved);
    let before = world.sent.len();
    world.run(millis(200));
    assert!(world.sent[before..].iter().all(|sent| sent.to == address("192.0.2.77:5000")));
    let bytes = world.next_packet(&numbered(0));
    assert_eq!(
        world.leg.handle_rtp(world.now, address(PEER), &bytes),
        Err(RtpError::ForeignSource)
    );
    world.assert_stream_is_honest();
}
