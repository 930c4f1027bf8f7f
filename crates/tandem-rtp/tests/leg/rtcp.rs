use std::time::Duration;

use tandem_call::MediaLeg;
use tandem_rtp::{
    Channel, Direction, Latching, MediaParams, NtpTime, ReportBlock, RtcpCompound, RtcpPacket,
    RtpError, SenderInfo, mos, write_cname, write_report,
};

use crate::world::{
    MU, OUR_SSRC, PEER, PEER_RTCP, UNIX_START, World, address, millis, params, voice,
};

#[test]
fn sender_reports_say_what_was_sent_and_when() {
    let mut world = World::answered(MU);
    world.peer_sends(1_500, voice, |n| (n % 10 != 3).then_some(millis(20)));
    world.run(Duration::from_secs(31));
    assert!((5..12).contains(&world.rtcp.len()), "{}", world.rtcp.len());
    for (at, to, channel, bytes) in &world.rtcp {
        assert_eq!((*to, *channel), (address(PEER_RTCP), Channel::Rtcp));
        let packets: Vec<_> = RtcpCompound::new(bytes).map(Result::unwrap).collect();
        let [
            RtcpPacket::SenderReport { ssrc, info, mut blocks },
            RtcpPacket::SourceDescription { cname, .. },
        ] = packets[..]
        else {
            panic!("{packets:?}");
        };
        assert_eq!((ssrc, cname), (OUR_SSRC, Some(&b"tandem@test"[..])));
        assert_eq!(info.ntp, NtpTime::from_unix(UNIX_START + *at));
        let clock = (u32::MAX - 2_000).wrapping_add((at.as_nanos() / 125_000) as u32);
        assert_eq!(info.rtp_timestamp, clock, "of the instant, not of the last packet");
        let sent = world.sent.iter().filter(|sent| sent.at <= *at).count() as u32;
        assert!(sent.abs_diff(info.packets) <= 1);
        assert_eq!(info.octets, info.packets * 160);
        let block = blocks.next().unwrap();
        assert_eq!((block.ssrc, block.last_sr), (9, 0));
        assert!((15..40).contains(&block.fraction_lost), "{}", block.fraction_lost);
    }
    let quality = world.leg.quality();
    assert_eq!(quality.codec, "PCMU");
    assert_eq!((quality.packets_received, quality.packets_lost), (1_350, 150));
    for mos in [quality.mos, quality.mos_min, world.leg.live_mos()] {
        assert!((3.3..3.5).contains(&mos.unwrap()), "{mos:?}");
    }
    assert!(quality.jitter_ms < 0.01);
}

#[test]
fn the_live_mos_is_of_the_last_ten_seconds_and_the_record_knows_the_worst() {
    let mut world = World::answered(MU);
    world.run(Duration::from_secs(5));
    let quality = world.leg.quality();
    assert_eq!((world.leg.live_mos(), quality.mos, quality.mos_min), (None, None, None));
    // A minute without loss, ten seconds in which a fifth is lost, half a minute without, and the peer falls silent.
    world.peer_sends(5_000, voice, |n| {
        (!(3_000..3_500).contains(&n) || n % 5 != 2).then_some(millis(20))
    });
    world.run(Duration::from_secs(60));
    assert!((4.39..4.41).contains(&world.leg.live_mos().unwrap()), "{:?}", world.leg.live_mos());
    world.run(Duration::from_secs(5));
    assert!((3.0..3.7).contains(&world.leg.live_mos().unwrap()), "{:?}", world.leg.live_mos());
    world.run(Duration::from_secs(5));
    let bad = world.leg.live_mos().unwrap();
    assert!((2.4..2.7).contains(&bad), "{bad}");
    world.run(Duration::from_secs(12));
    assert!((4.39..4.41).contains(&world.leg.live_mos().unwrap()), "{:?}", world.leg.live_mos());
    world.run(Duration::from_secs(60));
    assert_eq!(world.leg.live_mos(), None, "nothing came for ten seconds");
    let quality = world.leg.quality();
    let (mean, worst) = (quality.mos.unwrap(), quality.mos_min.unwrap());
    assert!((worst - bad).abs() < 0.1, "{worst} and {bad}");
    assert!((4.1..4.35).contains(&mean), "{mean}");
}

#[test]
fn jitter_and_a_long_round_trip_lower_the_live_mos() {
    let mut world = World::answered(MU);
    world.peer_sends(250, voice, |_| Some(millis(20)));
    world.run(Duration::from_secs(5));
    let near = world.leg.live_mos().unwrap();
    world.peer_sends(250, voice, |n| Some(millis(if n % 2 == 0 { 5 } else { 35 })));
    world.run(Duration::from_secs(5));
    let jittery = world.leg.live_mos().unwrap();
    assert_eq!(world.leg.quality().packets_lost, 0);
    assert!((0.02..0.1).contains(&(near - jittery)), "{near} {jittery}");
    world.peer_sends(250, voice, |_| Some(millis(20)));
    world.run(Duration::from_secs(5));
    // A report that answers ours of 700 ms ago: 350 ms one way, and a packet of 20 ms.
    let our_report = NtpTime::from_unix(UNIX_START + world.elapsed() - millis(700));
    let block =
        ReportBlock { ssrc: OUR_SSRC, last_sr: our_report.middle(), ..ReportBlock::default() };
    let mut bytes = Vec::new();
    write_report(&mut bytes, 9, None, Some(&block));
    write_cname(&mut bytes, 9, "peer");
    world.leg.handle_rtcp(world.now, address(PEER_RTCP), &bytes).unwrap();
    let far = world.leg.live_mos().unwrap();
    let expected = mos(0.0, 1.0, millis(370));
    assert!((far - expected).abs() < 0.02, "{far} {expected}");
    assert!((3.2..3.3).contains(&far), "{far}");
}

#[test]
fn the_round_trip_is_learned_from_the_peers_reports() {
    let mut world = World::answered(MU);
    world.peer_sends(50, voice, |_| Some(millis(20)));
    world.run(millis(1_000));
    // The peer's report, 250 ms after ours of 900 ms, 40 ms of which it spent there.
    let our_report = NtpTime::from_unix(UNIX_START + millis(900));
    let block = ReportBlock {
        ssrc: OUR_SSRC,
        cumulative_lost: 5,
        jitter: 24,
        last_sr: our_report.middle(),
        delay_since_last_sr: 65_536 * 40 / 1000,
        ..ReportBlock::default()
    };
    let theirs = NtpTime(0x1234_5678_0000_0000);
    let info = SenderInfo { ntp: theirs, ..SenderInfo::default() };
    let mut bytes = Vec::new();
    write_report(&mut bytes, 9, Some(&info), Some(&block));
    write_cname(&mut bytes, 9, "peer");
    world.run(millis(150));
    world.leg.handle_rtcp(world.now, address(PEER_RTCP), &bytes).unwrap();
    let quality = world.leg.quality();
    assert!((209.0..211.0).contains(&quality.rtt_ms.unwrap()), "{:?}", quality.rtt_ms);
    assert_eq!(quality.remote_jitter_ms, Some(3.0));
    assert!(quality.remote_loss_ratio.unwrap() > 0.05);
    world.run(Duration::from_secs(10));
    let (at, _, _, bytes) = world.rtcp.iter().find(|(at, ..)| *at > millis(1_150)).unwrap();
    let Some(Ok(RtcpPacket::SenderReport { mut blocks, .. })) = RtcpCompound::new(bytes).next()
    else {
        panic!("no sender report");
    };
    let block = blocks.next().unwrap();
    assert_eq!(block.last_sr, theirs.middle());
    let delay = Duration::from_secs_f64(f64::from(block.delay_since_last_sr) / 65_536.0);
    assert!((*at - millis(1_150)).abs_diff(delay) < millis(1));
}

#[test]
fn with_mux_all_goes_through_one_port() {
    let mut world = World::new(MU);
    let mux = MediaParams { rtcp_mux: true, remote_rtcp: address(PEER), ..params() };
    world.leg.apply(world.now, mux);
    world.run(Duration::from_secs(10));
    assert!(
        world
            .rtcp
            .iter()
            .all(|(_, to, channel, _)| { (*to, *channel) == (address(PEER), Channel::Rtp) })
    );
    let mut bytes = Vec::new();
    write_report(&mut bytes, 9, None, None);
    assert_eq!(world.leg.handle_rtp(world.now, address(PEER), &bytes), Ok(()));
    assert_eq!(world.leg.quality().packets_received, 0);
}

#[test]
fn rtcp_of_strangers_is_refused() {
    let mut world = World::answered(MU);
    let mut bytes = Vec::new();
    write_report(&mut bytes, 9, None, None);
    let stranger = address("198.51.100.66:4001");
    assert_eq!(world.leg.handle_rtcp(world.now, stranger, &bytes), Err(RtpError::ForeignSource));
    assert_eq!(world.leg.counters().foreign, 1);
}

#[test]
fn rtcp_follows_a_latched_peer() {
    let mut world = World::new(MU);
    let latching = Latching::Natted { signalling: None };
    let natted = MediaParams {
        remote_rtp: address("10.0.0.5:4000"),
        remote_rtcp: address("10.0.0.5:4001"),
        latching,
        ..params()
    };
    world.leg.apply(world.now, natted);
    for n in 0..50 {
        let bytes = world.next_packet(&voice(n));
        world.arrive_from(millis(20 * n), "203.0.113.9:31000", bytes);
    }
    world.run(millis(1_000));
    let mut bytes = Vec::new();
    write_report(&mut bytes, 9, Some(&SenderInfo::default()), None);
    world.leg.handle_rtcp(world.now, address("203.0.113.9:31001"), &bytes).unwrap();
    world.run(Duration::from_secs(10));
    assert_eq!(world.rtcp.last().unwrap().1, address("203.0.113.9:31001"));
}

#[test]
fn on_hold_rtcp_goes_on_and_becomes_a_receivers() {
    let hold = MediaParams { direction: Direction::Inactive, ..params() };
    let old_form = MediaParams {
        remote_rtp: address("0.0.0.0:4000"),
        remote_rtcp: address("0.0.0.0:4001"),
        ..params()
    };
    for hold in [hold, old_form] {
        let mut world = World::answered(MU);
        world.run(Duration::from_secs(10));
        world.leg.apply(world.now, hold);
        let before = world.rtcp.len();
        world.run(Duration::from_secs(60));
        assert!(world.rtcp.len() > before + 8);
        let (_, to, _, bytes) = world.rtcp.last().unwrap();
        assert_eq!(*to, address(PEER_RTCP));
        assert!(matches!(
            RtcpCompound::new(bytes).next(),
            Some(Ok(RtcpPacket::ReceiverReport { ssrc: OUR_SSRC, .. }))
        ));
    }
}

#[test]
fn the_end_is_a_bye_and_then_nothing() {
    let mut world = World::answered(MU);
    world.run(millis(500));
    world.leg.close(world.now);
    let sent = world.sent.len();
    world.drain();
    assert_eq!(world.sent.len(), sent);
    let (_, _, _, bytes) = world.rtcp.last().unwrap();
    let packets: Vec<_> = RtcpCompound::new(bytes).map(Result::unwrap).collect();
    assert!(matches!(packets[0], RtcpPacket::SenderReport { .. }));
    assert_eq!(packets.last(), Some(&RtcpPacket::Bye { ssrc: Some(OUR_SSRC) }));
    world.now += Duration::from_secs(60);
    assert_eq!((world.leg.poll_timeout(), world.leg.next_send()), (None, None));
    assert_eq!(world.leg.poll_transmit(world.now), None);
    let bytes = world.next_packet(&voice(0));
    assert_eq!(
        world.leg.handle_rtp(world.now, address(PEER), &bytes),
        Err(RtpError::NotNegotiated)
    );
}

#[test]
fn a_leg_that_never_sent_says_no_goodbye() {
    let mut world = World::new(MU);
    world.leg.close(world.now);
    world.drain();
    assert_eq!(world.rtcp, []);
}
