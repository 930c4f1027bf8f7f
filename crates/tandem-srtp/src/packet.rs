//! What the outside of a datagram says: which protocol it is, where its header ends.

/// What a datagram on a media port is (RFC 7983 §7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// DTLS.
    Dtls,
    /// RTP, or SRTP.
    Rtp,
    /// RTCP, or SRTCP (RFC 5761 §4).
    Rtcp,
    /// STUN, TURN, noise.
    Other,
}

impl Protocol {
    /// What `datagram` looks like from its first two bytes.
    pub const fn of(datagram: &[u8]) -> Self {
        match datagram {
            [20..=63, ..] => Self::Dtls,
            [128..=191, 192..=223, ..] => Self::Rtcp,
            [128..=191, _, ..] => Self::Rtp,
            _ => Self::Other,
        }
    }
}

/// The outside of an RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RtpHead {
    /// Bytes of header: fixed part, contributing sources, extension.
    pub(crate) length: usize,
    pub(crate) sequence: u16,
    pub(crate) ssrc: u32,
}

impl RtpHead {
    /// Reads the header of `packet` (RFC 3550 §5.1); none when it does not fit.
    pub(crate) fn read(packet: &[u8]) -> Option<Self> {
        let fixed: &[u8; 12] = packet.first_chunk()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut length = 12 + usize::from(fixed[0] & 0x0F) * 4;
        if fixed[0] & 0x10 != 0 {
            let extension: [u8; 4] = packet.get(length..length + 4)?.try_into().ok()?;
            let words = u16::from_be_bytes([extension[2], extension[3]]);
            length += 4 + usize::from(words) * 4;
        }
        (length <= packet.len()).then_some(Self {
            length,
            sequence: u16::from_be_bytes([fixed[2], fixed[3]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
        })
    }
}

/// The SSRC of an RTCP packet's sender; none when it is too short.
pub(crate) fn rtcp_sender(packet: &[u8]) -> Option<u32> {
    let head: &[u8; 8] = packet.first_chunk()?;
    (head[0] >> 6 == 2).then(|| u32::from_be_bytes([head[4], head[5], head[6], head[7]]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_by_their_first_bytes() {
        for (bytes, protocol) in [
            (&[22, 254][..], Protocol::Dtls),
            (&[0x80, 0], Protocol::Rtp),
            (&[0x80, 0x80 | 101], Protocol::Rtp),
            (&[0x81, 200], Protocol::Rtcp),
            (&[0, 1], Protocol::Other),
            (&[64, 0], Protocol::Other),
            (&[0xC0, 0], Protocol::Other),
            (&[0x80], Protocol::Other),
            (&[], Protocol::Other),
        ] {
            assert_eq!(Protocol::of(bytes), protocol, "{bytes:?}");
        }
    }

    #[test]
    fn where_a_header_ends() {
        let mut packet = vec![0; 40];
        packet[0] = 0x80;
        packet[3] = 7;
        packet[11] = 9;
        let plain = RtpHead { length: 12, sequence: 7, ssrc: 9 };
        assert_eq!(RtpHead::read(&packet), Some(plain));
        packet[0] = 0x92; // Two contributing sources, and an extension of one word.
        packet[23] = 1;
        assert_eq!(RtpHead::read(&packet), Some(RtpHead { length: 28, ..plain }));
        packet[23] = 9;
        assert_eq!(RtpHead::read(&packet), None);
        packet[0] = 0x8F;
        assert_eq!(RtpHead::read(&packet), None);
        packet[0] = 0x40;
        assert_eq!(RtpHead::read(&packet), None);
        assert_eq!(RtpHead::read(&packet[..11]), None);
    }
}
