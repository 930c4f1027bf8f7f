//! Calls with G.722 and Opus alone, which we do not speak.

use std::time::Instant;

use tandem_call::MediaLeg;
use tandem_media::{Codec, Ptime};
use tandem_rtp::{Direction, Latching, MediaParams};

use crate::{
    capture::{Capture, Datagram},
    case::{Case, check},
    leg::Leg,
};

/// FreeSWITCH calls us with such a codec alone. It goes on as if the recorded user agent were there.
fn called(file: &'static str, port: u16, payload_type: u8) -> Case {
    let story = format!(
        "
        < INVITE [{payload_type} 101 13 sendrecv] 1800/uac
        > 488 INVITE
        < ACK
        < BYE
        > 481 BYE"
    );
    Case::new(file, port, &[&story])
}

/// FreeSWITCH answers our call with such a codec, which it was not offered.
fn misunderstood(file: &'static str, payload_type: u8) -> Case {
    let story = format!(
        "
        * call
        > INVITE [0 8 101 sendrecv] 1800
        < 100 INVITE
        < 200 INVITE [{payload_type} 101 13 sendrecv] 1800/uac
        > ACK
        > BYE
        ! hung up INCOMPATIBLE_DESTINATION
        < 200 BYE"
    );
    Case::new(file, 5060, &[&story])
}

pub(crate) fn cases() -> Vec<Case> {
    vec![
        called("sip/out_g722_fs_bye", 5090, 9),
        called("sip/out_opus_fs_bye", 5090, 102),
        called("sip/fs_to_fs_g722_dtmf", 5080, 9),
        called("sip/fs_to_fs_opus_dtmf", 5080, 102),
        misunderstood("sip/fs_to_fs_g722_dtmf", 9),
        misunderstood("sip/fs_to_fs_opus_dtmf", 102),
    ]
}

#[test]
fn calls_without_a_codec_of_ours_are_refused() {
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
                opus: tandem_media::OpusParams::DEFAULT,
                telephone_event: Some(101),
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
