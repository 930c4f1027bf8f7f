//! What we send, protected.

use crate::{
    MasterKey, SrtpError,
    derivation::Kind,
    packet::{RtpHead, rtcp_sender},
    replay::Source,
    transform::{INDEX_WORD, LONGEST_TAG, Transform},
};

/// Bytes by which protection makes a packet longer at most.
pub const OVERHEAD: usize = LONGEST_TAG + INDEX_WORD;

/// Sources that one key may protect; a leg has one, and another after each collision of SSRCs.
const MAX_SOURCES: usize = 64;

/// Packets of one SRTCP source under one key (RFC 3711 §9.2).
const MAX_RTCP: u32 = (1 << 31) - 1;

/// Protects RTP and RTCP of one direction.
pub struct Sender {
    rtp: Transform,
    rtcp: Transform,
    rtp_sources: Vec<Source>,
    /// SSRC and the last index.
    rtcp_sources: Vec<(u32, u32)>,
}

impl Sender {
    /// A sender under `key`, with rollover counters of zero.
    pub fn new(key: &MasterKey) -> Self {
        Self {
            rtp: Transform::new(key, Kind::Rtp),
            rtcp: Transform::new(key, Kind::Rtcp),
            rtp_sources: Vec::with_capacity(2),
            rtcp_sources: Vec::with_capacity(2),
        }
    }

    /// Writes the protected form of the RTP packet `packet` to `out`, which is cleared before; it gets at most
    /// [`OVERHEAD`] bytes longer.
    ///
    /// The sequence numbers of a source must rise: the same number twice would encrypt two packets with one key stream
    /// and is refused.
    pub fn protect_rtp(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), SrtpError> {
        let head = RtpHead::read(packet).ok_or(SrtpError::Malformed)?;
        let known = self.rtp_sources.iter_mut().find(|source| source.ssrc() == head.ssrc);
        let index = match known {
            Some(source) => {
                let index = source.guess(head.sequence).ok_or(SrtpError::Exhausted)?;
                if !source.is_newest(index) {
                    return Err(SrtpError::Replayed);
                }
                source.record(index);
                index
            }
            None => {
                if self.rtp_sources.len() >= MAX_SOURCES {
                    return Err(SrtpError::TooManySources);
                }
                let index = u64::from(head.sequence);
                self.rtp_sources.push(Source::new(head.ssrc, index));
                index
            }
        };
        out.clear();
        out.extend_from_slice(packet);
        self.rtp.seal_rtp(out, head.length, head.ssrc, index);
        Ok(())
    }

    /// Writes the protected form of a (compound) RTCP packet to `out`, which is cleared before.
    pub fn protect_rtcp(&mut self, packet: &[u8], out: &mut Vec<u8>) -> Result<(), SrtpError> {
        let ssrc = rtcp_sender(packet).ok_or(SrtpError::Malformed)?;
        let index = match self.rtcp_sources.iter_mut().find(|(known, _)| *known == ssrc) {
            Some((_, index)) if *index >= MAX_RTCP => return Err(SrtpError::Exhausted),
            Some((_, index)) => {
                *index += 1;
                *index
            }
            None => {
                if self.rtcp_sources.len() >= MAX_SOURCES {
                    return Err(SrtpError::TooManySources);
                }
                self.rtcp_sources.push((ssrc, 1));
                1
            }
        };
        out.clear();
        out.extend_from_slice(packet);
        self.rtcp.seal_rtcp(out, ssrc, index);
        Ok(())
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("sources", &self.rtp_sources).finish_non_exhaustive()
    }
}
