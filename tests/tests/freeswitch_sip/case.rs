//! One call of a recording from one of its ends, and what is to come of it.

use crate::{
    capture::Capture,
    replay::{Replay, Seat},
};

/// The peer hangs up.
pub(crate) const PEER_HANGS_UP: &str = "
    < BYE
    > 200 BYE
    ! hung up NORMAL_CLEARING";

/// We hang up.
pub(crate) const WE_HANG_UP: &str = "
    * hang up NORMAL_CLEARING
    > BYE
    ! hung up NORMAL_CLEARING
    < 200 BYE";

/// The opening of a call from FreeSWITCH, which offers `codec` and hears RTP at `port`.
pub(crate) fn answered(codec: &str, port: u16) -> String {
    let (payload_type, formats) = match codec {
        "PCMA" => (8, "8 101 13"),
        "G722" => (9, "9 101 13"),
        // Opus makes its own comfort noise.
        "opus" => (102, "102 101"),
        _ => (0, "0 101 13"),
    };
    format!(
        "
        < INVITE [{payload_type} 101 13 sendrecv] 1800/uac
        > 100 INVITE
        ! called agent by 15550100 offering {codec}
        * progress
        > 180 INVITE
        * accept
        > 200 INVITE [{formats} sendrecv] 1800/uac
        ! media {codec} to {port}, events 101, 20 ms, sendrecv
        ! answered
        < ACK"
    )
}

/// The opening of our call to FreeSWITCH, which answers at once with `codec` and hears RTP at `port`.
pub(crate) fn placed(codec: &str, port: u16) -> String {
    let payload_type = if codec == "PCMA" { 8 } else { 0 };
    format!(
        "
        * call
        > INVITE [0 8 9 111 101 110 13 sendrecv] 1800
        < 100 INVITE
        < 200 INVITE [{payload_type} 101 sendrecv] 1800/uas
        > ACK
        ! media {codec} to {port}, events 101, 20 ms, sendrecv
        ! answered"
    )
}

/// The same, of a call that rings before.
pub(crate) fn placed_and_rang(law: &str, port: u16) -> String {
    placed(law, port).replace("< 200", "< 180 INVITE\n! ringing\n< 200")
}

/// One call from one of its ends.
pub(crate) struct Case {
    /// Folder and name, without `.pcap`.
    pub(crate) file: &'static str,
    seat: Seat,
    /// Lines: `<` the peer said, `*` we were ordered, `>` we said, `!` the call was told.
    story: String,
    heard_digits: &'static str,
    said_digits: &'static str,
    heard_packets: usize,
}

impl Case {
    /// The first call at the user agent whose SIP port is `port`; it makes no sound and no digit.
    pub(crate) fn new(file: &'static str, port: u16, story: &[&str]) -> Self {
        Self {
            file,
            seat: Seat { port, call: 0 },
            story: story.join("\n"),
            heard_digits: "",
            said_digits: "",
            heard_packets: 0,
        }
    }

    /// A later call at the same port.
    pub(crate) fn call(mut self, call: usize) -> Self {
        self.seat.call = call;
        self
    }

    /// The audio of so many packets reaches the model, sample by sample.
    pub(crate) fn hears(mut self, packets: usize) -> Self {
        self.heard_packets = packets;
        self
    }

    /// These digits come as telephone-events.
    pub(crate) fn hears_digits(mut self, digits: &'static str) -> Self {
        self.heard_digits = digits;
        self
    }

    /// The recorded user agent sends these digits as telephone-events, and so do we.
    pub(crate) fn says_digits(mut self, digits: &'static str) -> Self {
        self.said_digits = digits;
        self
    }

    /// Replays it and looks at everything that came of it.
    pub(crate) fn check(&self) {
        let replay = Replay::run(&Capture::read(self.file), self.seat);
        let name = format!("{}, call {} at {}", self.file, self.seat.call, self.seat.port);
        let expected: Vec<_> =
            self.story.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(replay.story, expected, "{name}");
        assert_eq!(replay.leg.digits, self.heard_digits, "{name}");
        assert_eq!(replay.leg.said_digits, self.said_digits, "{name}");
        assert_eq!(replay.leg.packets, self.heard_packets, "{name}");
        replay.check(&name);
    }
}

/// Checks every case.
pub(crate) fn check(cases: &[Case]) {
    for case in cases {
        case.check();
    }
}
