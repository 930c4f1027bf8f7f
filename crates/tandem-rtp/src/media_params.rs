//! What an SDP offer and answer settled about a leg's media.

use std::net::{IpAddr, SocketAddr};

use tandem_media::{Codec, OpusParams, Ptime};

/// Which way audio goes, as seen from us (RFC 3264 §5.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// We send, the peer does not.
    SendOnly,
    /// The peer sends: hold with music.
    RecvOnly,
    /// Nobody sends.
    Inactive,
}

impl Direction {
    /// Whether we may send RTP.
    pub const fn sends(self) -> bool {
        matches!(self, Self::SendRecv | Self::SendOnly)
    }

    /// Whether the peer may send RTP.
    pub const fn receives(self) -> bool {
        matches!(self, Self::SendRecv | Self::RecvOnly)
    }
}

/// Whether RTP from another address than the one in the SDP may take the leg over (RFC 7362).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Latching {
    /// Only the address in the SDP is heard.
    #[default]
    Off,
    /// The peer is behind a NAT: its true address is learned from its packets. `signalling` is the source address of
    /// its SIP messages; packets from there are believed sooner.
    Natted { signalling: Option<IpAddr> },
}

/// What was negotiated for one leg; comes with each answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaParams {
    /// Where the peer's SDP wants RTP. An unspecified address (`0.0.0.0`) is the old form of hold: nothing is sent.
    pub remote_rtp: SocketAddr,
    /// Where the peer's SDP wants RTCP (`a=rtcp`, else port + 1); equals `remote_rtp` with `rtcp_mux`.
    pub remote_rtcp: SocketAddr,
    /// RTP and RTCP share one port (RFC 5761).
    pub rtcp_mux: bool,
    /// The codec we send.
    pub codec: Codec,
    /// Its payload type: 0, 8, 9, or a dynamic one.
    pub payload_type: u8,
    /// How the peer wants Opus, if that is the codec.
    pub opus: OpusParams,
    /// Payload type of telephone-event, both ways.
    pub telephone_event: Option<u8>,
    /// Ticks per second of the durations in telephone-events. They are those of the codec's clock (RFC 4733 §2.1), but for
    /// peers that have nothing but `telephone-event/8000` beside a faster codec. Timestamps count the codec's clock
    /// always.
    pub telephone_event_hz: u32,
    /// Payload type of comfort noise (RFC 3389) that the peer may send.
    pub comfort_noise: Option<u8>,
    /// Audio in each packet we send.
    pub ptime: Ptime,
    /// Which way audio goes.
    pub direction: Direction,
    /// Whether the peer's address may be learned from its packets.
    pub latching: Latching,
}

impl MediaParams {
    /// Whether the peer has put us on hold: what it sends, if anything, is music and not its user.
    pub fn is_held(&self) -> bool {
        self.direction != Direction::SendRecv || self.remote_rtp.ip().is_unspecified()
    }

    /// Whether RTP is to be sent.
    pub fn sends(&self) -> bool {
        self.direction.sends()
            && !self.remote_rtp.ip().is_unspecified()
            && self.remote_rtp.port() != 0
    }
}
