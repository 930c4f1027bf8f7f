//! Calls with G.722 and Opus alone.

use std::time::Instant;

use tandem_call::MediaLeg;
use tandem_media::{Codec, OpusParams, Ptime};
use tandem_rtp::{Direction, Latching, MediaParams};

use crate::{
    capture::{Capture, Datagram},
    case::{Case, PEER_HANGS_UP, WE_HANG_UP, answered, check},
    leg::Leg,
};

/// FreeSWITCH answers our call with such a codec alone.
fn placed(payload_type: u8, codec: &str, port: u16) -> String {
    format!(
        "
        * call
        > INVITE [0 8 9 111 101 110 13 sendrecv] 1800
        < 100 INVITE
        < 200 INVITE [{payload_type} 101 13 sendrecv] 1800/uac
        > ACK
        ! media {codec} to {port}, events 101, 20 ms, sendrecv
        ! answered"
    )
}

/// A call from one FreeSWITCH to the other, in whose place we are.
fn taken(codec: &str, port: u16) -> String {
    answered(codec, port).replace("agent", "1001").replace("* progress\n        > 180 INVITE\n", "")
}

pub(crate) fn cases() -> Vec<Case> {
    let (g722, opus) = ("sip/fs_to_fs_g722_dtmf", "sip/fs_to_fs_opus_dtmf");
    vec![
        Case::new("sip/out_g722_fs_bye", 5090, &[&answered("G722", 20212), PEER_HANGS_UP])
            .hears(150),
        Case::new("sip/out_opus_fs_bye", 5090, &[&answered("opus", 20154), PEER_HANGS_UP])
            .hears(151),
        Case::new(g722, 5080, &[&taken("G722", 21616), PEER_HANGS_UP])
            .hears_digits("12")
            .hears(161),
        Case::new(opus, 5080, &[&taken("opus", 29554), PEER_HANGS_UP])
            .hears_digits("12")
            .hears(182),
        Case::new(g722, 5060, &[&placed(9, "G722", 20400), WE_HANG_UP])
            .says_digits("12")
            .hears(186),
        Case::new(opus, 5060, &[&placed(102, "opus", 24626), WE_HANG_UP])
            .says_digits("12")
            .hears(187),
    ]
}

#[test]
fn wideband_calls_are_answered_and_heard() {
    check(&cases());
}

/// One way of the media of a recording, between two ports.
fn stream(capture: &Capture, from: u16, to: u16) -> Vec<&Datagram> {
    let stream = |datagram: &&Datagram| (datagram.from.port(), datagram.to.port()) == (from, to);
    capture.datagrams.iter().filter(stream).collect()
}

/// Should such packets come all the same, the model hears silence, and digits still count.
#[test]
fn audio_that_was_not_negotiated_is_counted_and_not_heard() {
    for (file, from, to, packets, digits) in [
        ("sip/out_g722_fs_bye", 20212, 6000, 150, ""),
        ("sip/out_opus_fs_bye", 20154, 6000, 151, ""),
        ("sip/fs_to_fs_g722_dtmf", 20400, 21616, 186, ""),
        ("sip/fs_to_fs_g722_dtmf", 21616, 20400, 161, "12"),
        ("sip/fs_to_fs_opus_dtmf", 24626, 29554, 187, ""),
        ("sip/fs_to_fs_opus_dtmf", 29554, 24626, 182, "12"),
    ] {
        let capture = Capture::read(file);
        let stream = stream(&capture, from, to);
        let remote_rtp = stream[0].from;
        let start = Instant::now();
        let mut now = start;
        let mut leg = Leg::new(now);
        leg.apply(
            now,
            MediaParams {
                remote_rtp,
                remote_rtcp: (remote_rtp.ip(), from + 1).into(),
                rtcp_mux: false,
                codec: Codec::PCMU,
                payload_type: 0,
                opus: OpusParams::DEFAULT,
                telephone_event: Some(101),
                telephone_event_hz: 8_000,
                comfort_noise: Some(13),
                ptime: Ptime::MS20,
                direction: Direction::SendRecv,
                latching: Latching::Off,
            },
        );
        for datagram in stream {
            let at = start + datagram.at;
            while let Some(due) = leg.poll_timeout().filter(|due| *due <= at) {
                now = now.max(due);
                leg.handle_timeout(now);
            }
            now = at;
            leg.receive(now, datagram.from, &datagram.bytes);
        }
        leg.close(now);
        assert_eq!(leg.leg.counters().unknown_payload, packets, "{file} from {from}");
        assert_eq!(leg.leg.quality().packets_lost, 0, "{file} from {from}");
        assert_eq!(leg.digits, digits, "{file} from {from}");
        assert_eq!(leg.concealed, 0, "{file} from {from}");
        leg.check(file);
    }
}
