//! RTCP compound packets (RFC 3550 §6.4 to §6.6): reading any, building ours.

use crate::{NtpTime, RtpError};

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const BYE: u8 = 203;
const CNAME: u8 = 1;
const BLOCK_LEN: usize = 24;

/// What a receiver says of one source (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source it is about.
    pub ssrc: u32,
    /// Loss since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Loss since the beginning; negative when duplicates outnumber it. 24 bits on the wire.
    pub cumulative_lost: i32,
    /// Highest sequence number received, with the count of wraps above it.
    pub highest_sequence: u32,
    /// Interarrival jitter in clock units.
    pub jitter: u32,
    /// [`NtpTime::middle`] of the source's last sender report; 0 for none.
    pub last_sr: u32,
    /// Time since that report arrived, in 1/65,536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    fn parse(bytes: &[u8; BLOCK_LEN]) -> Self {
        let word = |at: usize| be32(&bytes[at..at + 4]);
        Self {
            ssrc: word(0),
            fraction_lost: bytes[4],
            cumulative_lost: (word(4) << 8).cast_signed() >> 8,
            highest_sequence: word(8),
            jitter: word(12),
            last_sr: word(16),
            delay_since_last_sr: word(20),
        }
    }

    fn write(&self, buffer: &mut Vec<u8>) {
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF).cast_unsigned() & 0xFF_FFFF;
        for word in [
            self.ssrc,
            u32::from(self.fraction_lost) << 24 | lost,
            self.highest_sequence,
            self.jitter,
            self.last_sr,
            self.delay_since_last_sr,
        ] {
            buffer.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// What a sender says of itself (RFC 3550 §6.4.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SenderInfo {
    /// When the report was made.
    pub ntp: NtpTime,
    /// The media clock at that same instant, not that of the last packet.
    pub rtp_timestamp: u32,
    /// RTP packets sent.
    pub packets: u32,
    /// Their payload bytes.
    pub octets: u32,
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RtcpPacket<'a> {
    /// From a source that sends.
    SenderReport { ssrc: u32, info: SenderInfo, blocks: ReportBlocks<'a> },
    /// From one that only receives.
    ReceiverReport { ssrc: u32, blocks: ReportBlocks<'a> },
    /// CNAME of the first chunk, when it is there.
    SourceDescription { ssrc: Option<u32>, cname: Option<&'a [u8]> },
    /// A source leaves.
    Bye { ssrc: Option<u32> },
    /// Feedback, extended reports, application-defined packets.
    Other { packet_type: u8 },
}

/// The report blocks of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl Iterator for ReportBlocks<'_> {
    type Item = ReportBlock;

    fn next(&mut self) -> Option<ReportBlock> {
        let (block, rest) = self.0.split_first_chunk::<BLOCK_LEN>()?;
        self.0 = rest;
        Some(ReportBlock::parse(block))
    }
}

/// Reads the packets of a compound one by one; ends after the first error.
///
/// A compound need not begin with a report (RFC 5506), but the lengths have to add up to the datagram.
#[derive(Debug, Clone)]
pub struct RtcpCompound<'a> {
    rest: &'a [u8],
}

impl<'a> RtcpCompound<'a> {
    /// The packets of `datagram`.
    pub const fn new(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn read(&mut self) -> Result<RtcpPacket<'a>, RtpError> {
        let header = self.rest.first_chunk::<4>().ok_or(RtpError::Truncated)?;
        if header[0] >> 6 != 2 {
            return Err(RtpError::Version(header[0] >> 6));
        }
        let length = (usize::from(u16::from_be_bytes([header[2], header[3]])) + 1) * 4;
        let (packet, rest) = self.rest.split_at_checked(length).ok_or(RtpError::Truncated)?;
        self.rest = rest;
        let mut body = &packet[4..];
        if header[0] & 0x20 != 0 {
            // Only the last packet may be padded (RFC 3550 §6.4.1).
            let padding = usize::from(*body.last().ok_or(RtpError::Rtcp)?);
            if padding == 0 || padding > body.len() || !rest.is_empty() {
                return Err(RtpError::Rtcp);
            }
            body = &body[..body.len() - padding];
        }
        Self::read_body(header[1], header[0] & 0x1F, body).ok_or(RtpError::Rtcp)
    }

    fn read_body(packet_type: u8, count: u8, body: &'a [u8]) -> Option<RtcpPacket<'a>> {
        let ssrc = body.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
        let blocks =
            |at: usize| body.get(at..at + usize::from(count) * BLOCK_LEN).map(ReportBlocks);
        Some(match packet_type {
            SENDER_REPORT => {
                let info = body.get(4..24)?;
                RtcpPacket::SenderReport {
                    ssrc: ssrc?,
                    info: SenderInfo {
                        ntp: NtpTime(
                            u64::from(be32(&info[..4])) << 32 | u64::from(be32(&info[4..8])),
                        ),
                        rtp_timestamp: be32(&info[8..12]),
                        packets: be32(&info[12..16]),
                        octets: be32(&info[16..20]),
                    },
                    blocks: blocks(24)?,
                }
            }
            RECEIVER_REPORT => RtcpPacket::ReceiverReport { ssrc: ssrc?, blocks: blocks(4)? },
            SOURCE_DESCRIPTION if count == 0 => {
                RtcpPacket::SourceDescription { ssrc: None, cname: None }
            }
            SOURCE_DESCRIPTION => {
                RtcpPacket::SourceDescription { ssrc: Some(ssrc?), cname: find_cname(&body[4..])? }
            }
            BYE if count == 0 => RtcpPacket::Bye { ssrc: None },
            BYE => RtcpPacket::Bye { ssrc: Some(ssrc?) },
            packet_type => RtcpPacket::Other { packet_type },
        })
    }
}

impl<'a> Iterator for RtcpCompound<'a> {
    type Item = Result<RtcpPacket<'a>, RtpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let packet = self.read();
        if packet.is_err() {
            self.rest = &[];
        }
        Some(packet)
    }
}

/// The CNAME among the items of the first chunk; `None` when an item overruns the packet.
fn find_cname(mut items: &[u8]) -> Option<Option<&[u8]>> {
    while let Some((&kind, rest)) = items.split_first()
        && kind != 0
    {
        let (&length, rest) = rest.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(length))?;
        if kind == CNAME {
            return Some(Some(text));
        }
        items = rest;
    }
    Some(None)
}

/// Appends one report to `buffer`: a sender report with `info`, a receiver report without.
pub fn write_report(
    buffer: &mut Vec<u8>,
    ssrc: u32,
    info: Option<&SenderInfo>,
    block: Option<&ReportBlock>,
) {
    let count = u8::from(block.is_some());
    let words = 1 + if info.is_some() { 5 } else { 0 } + if block.is_some() { 6 } else { 0 };
    let packet_type = if info.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
    write_header(buffer, count, packet_type, words);
    buffer.extend_from_slice(&ssrc.to_be_bytes());
    if let Some(info) = info {
        buffer.extend_from_slice(&info.ntp.0.to_be_bytes());
        buffer.extend_from_slice(&info.rtp_timestamp.to_be_bytes());
        buffer.extend_from_slice(&info.packets.to_be_bytes());
        buffer.extend_from_slice(&info.octets.to_be_bytes());
    }
    if let Some(block) = block {
        block.write(buffer);
    }
}

/// Appends a source description with the CNAME, of which at most 255 bytes are sent (RFC 3550 §6.5.1).
pub fn write_cname(buffer: &mut Vec<u8>, ssrc: u32, cname: &str) {
    let cname = &cname.as_bytes()[..cname.len().min(255)];
    let words = 1 + (2 + cname.len()) / 4 + 1; // At least one zero byte ends the items.
    write_header(buffer, 1, SOURCE_DESCRIPTION, words);
    buffer.extend_from_slice(&ssrc.to_be_bytes());
    buffer.extend_from_slice(&[CNAME, cname.len() as u8]);
    buffer.extend_from_slice(cname);
    buffer.resize(buffer.len() + (words - 1) * 4 - 2 - cname.len(), 0);
}

/// Appends a BYE.
pub fn write_bye(buffer: &mut Vec<u8>, ssrc: u32) {
    write_header(buffer, 1, BYE, 1);
    buffer.extend_from_slice(&ssrc.to_be_bytes());
}

/// `words` follow the header.
fn write_header(buffer: &mut Vec<u8>, count: u8, packet_type: u8, words: usize) {
    buffer.extend_from_slice(&[0x80 | count, packet_type, 0, words as u8]);
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(datagram: &[u8]) -> Result<Vec<RtcpPacket<'_>>, RtpError> {
        RtcpCompound::new(datagram).collect()
    }

    #[test]
    fn a_compound_of_ours_reads_back() {
        let info = SenderInfo {
            ntp: NtpTime(0xB705_2000 << 16),
            rtp_timestamp: 7,
            packets: 3,
            octets: 480,
        };
        let block = ReportBlock {
            ssrc: 9,
            fraction_lost: 26,
            cumulative_lost: -2,
            highest_sequence: 0x1_0005,
            jitter: 11,
            last_sr: 12,
            delay_since_last_sr: 13,
        };
        for cname in ["", "a", "ab", "abc", "tandem@203.0.113.20"] {
            let mut bytes = Vec::new();
            write_report(&mut bytes, 5, Some(&info), Some(&block));
            write_cname(&mut bytes, 5, cname);
            write_bye(&mut bytes, 5);
            assert_eq!(bytes.len() % 4, 0);
            let packets = all(&bytes).unwrap();
            let RtcpPacket::SenderReport { ssrc: 5, info: read, mut blocks } = packets[0] else {
                panic!("{:?}", packets[0]);
            };
            assert_eq!((read, blocks.next(), blocks.next()), (info, Some(block), None));
            assert_eq!(
                packets[1],
                RtcpPacket::SourceDescription { ssrc: Some(5), cname: Some(cname.as_bytes()) }
            );
            assert_eq!(packets[2], RtcpPacket::Bye { ssrc: Some(5) });
        }
    }

    #[test]
    fn a_receiver_report_as_bytes() {
        let mut bytes = Vec::new();
        write_report(&mut bytes, 1, None, None);
        write_cname(&mut bytes, 1, "ab");
        assert_eq!(
            bytes,
            [
                0x80, 201, 0, 1, 0, 0, 0, 1, 0x81, 202, 0, 3, 0, 0, 0, 1, 1, 2, b'a', b'b', 0, 0,
                0, 0
            ]
        );
    }

    #[test]
    fn broken_compounds_are_refused() {
        for (name, datagram, error) in [
            ("half a header", &[0x80, 201][..], RtpError::Truncated),
            ("version 1", &[0x40, 201, 0, 0], RtpError::Version(1)),
            ("longer than the datagram", &[0x80, 201, 0, 2, 0, 0, 0, 1], RtpError::Truncated),
            ("report without SSRC", &[0x80, 201, 0, 0], RtpError::Rtcp),
            ("block missing", &[0x81, 201, 0, 1, 0, 0, 0, 1], RtpError::Rtcp),
            ("item overruns", &[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 9, 0, 0], RtpError::Rtcp),
            ("padding overruns", &[0xA0, 201, 0, 1, 0, 0, 0, 9], RtpError::Rtcp),
            (
                "padding before the end",
                &[0xA0, 201, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0x80, 201, 0, 1, 0, 0, 0, 1],
                RtpError::Rtcp,
            ),
        ] {
            assert_eq!(all(datagram), Err(error), "{name}");
        }
        assert_eq!(
            all(&[0x80, 207, 0, 1, 0, 0, 0, 1]),
            Ok(vec![RtcpPacket::Other { packet_type: 207 }])
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let read: Vec<_> = RtcpCompound::new(&bytes).collect();
            prop_assert!(read.len() <= bytes.len());
        }

        #[test]
        fn blocks_read_back(
            ssrc: u32, fraction_lost: u8, cumulative_lost in -0x80_0000i32..0x80_0000,
            highest_sequence: u32, jitter: u32, last_sr: u32, delay_since_last_sr: u32,
        ) {
            let block = ReportBlock {
                ssrc, fraction_lost, cumulative_lost, highest_sequence, jitter, last_sr, delay_since_last_sr,
            };
            let mut bytes = Vec::new();
            block.write(&mut bytes);
            prop_assert_eq!(ReportBlocks(&bytes).collect::<Vec<_>>(), vec![block]);
        }
    }
}
