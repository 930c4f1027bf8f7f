//! The RTP packet (RFC 3550 §5.1): a view into a datagram, and its encoding.

/// Bytes of the header without CSRC list and extension.
pub const HEADER_LEN: usize = 12;

/// Why a datagram was not taken. The leg counts it and goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RtpError {
    /// Shorter than its own header, CSRC list, extension or padding says.
    #[error("packet ends in the middle of its header, extension or padding")]
    Truncated,
    /// Not RTP or RTCP version 2.
    #[error("version {0} instead of 2")]
    Version(u8),
    /// RTCP whose lengths do not add up.
    #[error("malformed RTCP packet")]
    Rtcp,
    /// It came from an address that neither SDP nor latching vouches for.
    #[error("packet from a foreign address")]
    ForeignSource,
    /// Media is not negotiated yet, or the leg is closed.
    #[error("no media negotiated")]
    NotNegotiated,
}

/// A header extension (RFC 3550 §5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderExtension<'a> {
    /// Defined by profile; `0xBEDE` for the one-byte form of RFC 8285.
    pub profile: u16,
    /// Whole 32-bit words.
    pub data: &'a [u8],
}

/// One RTP packet, its variable parts borrowed from the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// First packet of a talkspurt (RFC 3551 §4.1); peers set it at will.
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Rises by one each packet.
    pub sequence: u16,
    /// Codec clock of the first sample.
    pub timestamp: u32,
    /// The source.
    pub ssrc: u32,
    /// Contributing sources, four bytes each.
    pub csrc: &'a [u8],
    /// Header extension.
    pub extension: Option<HeaderExtension<'a>>,
    /// What it carries, padding removed.
    pub payload: &'a [u8],
    /// Padding bytes at the end, the count itself included.
    pub padding: u8,
}

impl<'a> RtpPacket<'a> {
    /// Reads `datagram` without copying.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtpError> {
        let (header, mut rest) =
            datagram.split_first_chunk::<HEADER_LEN>().ok_or(RtpError::Truncated)?;
        let version = header[0] >> 6;
        if version != 2 {
            return Err(RtpError::Version(version));
        }
        let csrc = take(&mut rest, usize::from(header[0] & 0x0F) * 4)?;
        let extension = if header[0] & 0x10 != 0 {
            let fixed = take(&mut rest, 4)?;
            let words = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
            let profile = u16::from_be_bytes([fixed[0], fixed[1]]);
            Some(HeaderExtension { profile, data: take(&mut rest, words * 4)? })
        } else {
            None
        };
        let padding = if header[0] & 0x20 != 0 {
            let count = *rest.last().ok_or(RtpError::Truncated)?;
            if count == 0 || usize::from(count) > rest.len() {
                return Err(RtpError::Truncated);
            }
            count
        } else {
            0
        };
        Ok(Self {
            marker: header[1] & 0x80 != 0,
            payload_type: header[1] & 0x7F,
            sequence: u16::from_be_bytes([header[2], header[3]]),
            timestamp: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            ssrc: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            csrc,
            extension,
            payload: &rest[..rest.len() - usize::from(padding)],
            padding,
        })
    }

    /// Appends the packet to `buffer`.
    ///
    /// More than 15 CSRCs or an extension above 65,535 words is a mistake of the caller's and is cut to what fits.
    pub fn write(&self, buffer: &mut Vec<u8>) {
        let csrc = &self.csrc[..(self.csrc.len() / 4).min(15) * 4];
        let padding = if self.padding > 0 { 0x20 } else { 0 };
        let extended = if self.extension.is_some() { 0x10 } else { 0 };
        buffer.push(0x80 | padding | extended | (csrc.len() / 4) as u8);
        buffer.push(u8::from(self.marker) << 7 | self.payload_type & 0x7F);
        buffer.extend_from_slice(&self.sequence.to_be_bytes());
        buffer.extend_from_slice(&self.timestamp.to_be_bytes());
        buffer.extend_from_slice(&self.ssrc.to_be_bytes());
        buffer.extend_from_slice(csrc);
        if let Some(extension) = self.extension {
            let words = (extension.data.len() / 4).min(usize::from(u16::MAX));
            buffer.extend_from_slice(&extension.profile.to_be_bytes());
            buffer.extend_from_slice(&(words as u16).to_be_bytes());
            buffer.extend_from_slice(&extension.data[..words * 4]);
        }
        buffer.extend_from_slice(self.payload);
        if self.padding > 0 {
            buffer.resize(buffer.len() + usize::from(self.padding) - 1, 0);
            buffer.push(self.padding);
        }
    }
}

/// Whether a datagram on a port shared by both is RTCP (RFC 5761 §4): its second byte is 192 to 223.
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [first, 192..=223, ..] if first >> 6 == 2)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], RtpError> {
    let (taken, left) = rest.split_at_checked(count).ok_or(RtpError::Truncated)?;
    *rest = left;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: [u8; 14] =
        [0x80, 0x80, 0x12, 0x34, 0, 0, 0, 160, 0xDE, 0xAD, 0xBE, 0xEF, 0xFF, 0xFE];

    #[test]
    fn a_plain_packet() {
        let packet = RtpPacket::parse(&PLAIN).unwrap();
        assert!(packet.marker);
        assert_eq!((packet.payload_type, packet.sequence, packet.timestamp), (0, 0x1234, 160));
        assert_eq!((packet.ssrc, packet.payload), (0xDEAD_BEEF, &[0xFF, 0xFE][..]));
    }

    #[test]
    fn csrc_extension_and_padding_are_stepped_over() {
        let mut datagram = PLAIN[..12].to_vec();
        datagram[0] = 0x80 | 0x20 | 0x10 | 2;
        datagram.extend([1, 1, 1, 1, 2, 2, 2, 2]);
        datagram.extend([0xBE, 0xDE, 0, 1, 0x10, 0xAA, 0, 0]);
        datagram.extend([7, 7, 7, 0, 0, 3]);
        let packet = RtpPacket::parse(&datagram).unwrap();
        assert_eq!(packet.payload, [7, 7, 7]);
        assert_eq!(packet.csrc.len(), 8);
        assert_eq!(packet.extension.unwrap().profile, 0xBEDE);
        assert_eq!(packet.padding, 3);
    }

    #[test]
    fn broken_packets_are_refused() {
        for (name, datagram, error) in [
            ("empty", &[][..], RtpError::Truncated),
            ("short", &PLAIN[..11], RtpError::Truncated),
            ("version 0", &[0; 12], RtpError::Version(0)),
            ("CSRC missing", &[0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], RtpError::Truncated),
            ("extension missing", &[0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], RtpError::Truncated),
            (
                "extension longer than the packet",
                &[0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
                RtpError::Truncated,
            ),
            ("no padding count", &[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], RtpError::Truncated),
            (
                "padding longer than the payload",
                &[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9],
                RtpError::Truncated,
            ),
            ("padding of zero", &[0xA0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], RtpError::Truncated),
        ] {
            assert_eq!(RtpPacket::parse(datagram), Err(error), "{name}");
        }
    }

    #[test]
    fn rtcp_is_told_from_rtp_by_its_second_byte() {
        for (second, expected) in
            [(0, false), (191, false), (192, true), (200, true), (223, true), (224, false)]
        {
            assert_eq!(is_rtcp(&[0x80, second, 0, 0]), expected, "{second}");
        }
        assert!(!is_rtcp(&[0x16, 200]));
        assert!(!is_rtcp(&[0x80]));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            marker: bool, payload_type in 0u8..128, sequence: u16, timestamp: u32, ssrc: u32,
            csrc_count in 0usize..16, payload in proptest::collection::vec(any::<u8>(), 0..400),
            extension in proptest::option::of((any::<u16>(), 0usize..20)), padding: u8,
        ) {
            let csrc = vec![9; csrc_count * 4];
            let data = [5; 80];
            let packet = RtpPacket {
                marker, payload_type, sequence, timestamp, ssrc, csrc: &csrc,
                extension: extension.map(|(profile, words)| HeaderExtension { profile, data: &data[..words * 4] }),
                payload: &payload, padding,
            };
            let mut bytes = Vec::new();
            packet.write(&mut bytes);
            prop_assert_eq!(RtpPacket::parse(&bytes), Ok(packet));
        }

        #[test]
        fn any_bytes_parse_write_and_parse_to_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(packet) = RtpPacket::parse(&bytes) {
                let mut again = Vec::new();
                packet.write(&mut again);
                prop_assert_eq!(RtpPacket::parse(&again), Ok(packet));
            }
        }
    }
}
