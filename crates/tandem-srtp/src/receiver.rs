//! What a peer sends, checked and decrypted.

use crate::{
    MasterKey, Mki, SrtpError,
    derivation::Kind,
    packet::{RtpHead, rtcp_sender},
    replay::Source,
    transform::{INDEX_WORD, RTCP_CLEAR, Transform},
};

/// Authentic sources that one key may have; packets of further ones are dropped. A switch changes the SSRC with each
/// announcement and each transfer.
const MAX_SOURCES: usize = 256;

/// The longest datagram that is tried with several rollover counters.
const SCRATCH: usize = 2048;

/// Checks and decrypts RTP and RTCP of one direction, each packet once.
pub struct Receiver {
    rtp: Transform,
    rtcp: Transform,
    mki: Option<Mki>,
    rtp_sources: Vec<Source>,
    rtcp_sources: Vec<Source>,
    /// Sources under the key before this one.
    earlier: Vec<Source>,
    scratch: Vec<u8>,
}

impl Receiver {
    /// A receiver under `key`. With `mki` each packet must carry that identifier of the key.
    pub fn new(key: &MasterKey, mki: Option<Mki>) -> Self {
        Self {
            rtp: Transform::new(key, Kind::Rtp),
            rtcp: Transform::new(key, Kind::Rtcp),
            mki,
            rtp_sources: Vec::with_capacity(4),
            rtcp_sources: Vec::with_capacity(4),
            earlier: Vec::new(),
            scratch: Vec::with_capacity(SCRATCH),
        }
    }

    /// Takes over from `earlier`, whose key is replaced: a sender may count its rollovers on (RFC 3711 §3.3.1), or start
    /// at zero again, as most do.
    pub fn succeed(&mut self, earlier: &Self) {
        self.earlier.clone_from(&earlier.rtp_sources);
    }

    /// Decrypts an RTP packet in place and returns the length of the plain one.
    ///
    /// After an error the packet is spoilt, and nothing is remembered of it: only what somebody with the key has sent
    /// moves the replay window or makes a source known.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let length = strip_mki(self.mki.as_ref(), &self.rtp, packet)?;
        let packet = &mut packet[..length];
        let plain = length.checked_sub(self.rtp.tag_length()).ok_or(SrtpError::Malformed)?;
        let head = RtpHead::read(&packet[..plain]).ok_or(SrtpError::Malformed)?;
        match position(&self.rtp_sources, head.ssrc) {
            Some(at) => {
                let source = &mut self.rtp_sources[at];
                let index = source.guess(head.sequence).ok_or(SrtpError::Replayed)?;
                if !source.is_new(index) {
                    return Err(SrtpError::Replayed);
                }
                self.rtp
                    .open_rtp(packet, head.length, head.ssrc, index)
                    .map_err(|_| SrtpError::Forged)?;
                source.record(index);
                self.rtp_sources.swap(0, at); // Who spoke last is found first.
            }
            None => {
                let index = self.open_first(packet, head)?;
                self.rtp_sources.push(Source::new(head.ssrc, index));
            }
        }
        Ok(plain)
    }

    /// Opens a packet of an unknown source, whose rollover counter is unknown, too: zero when we hear it from its
    /// beginning, one when a sender that began shortly before the wrap has wrapped before we heard it, that under the
    /// earlier key when it counts on.
    fn open_first(&mut self, packet: &mut [u8], head: RtpHead) -> Result<u64, SrtpError> {
        if self.rtp_sources.len() >= MAX_SOURCES {
            return Err(SrtpError::TooManySources);
        }
        let first = u64::from(head.sequence);
        let wrapped = (head.sequence < 0x8000).then_some(first | 1 << 16);
        let earlier = self.earlier.iter().find(|source| source.ssrc() == head.ssrc);
        let counted_on =
            earlier.and_then(|source| source.guess(head.sequence)).filter(|index| index >> 16 > 1);
        for index in [Some(first), wrapped, counted_on].into_iter().flatten() {
            self.scratch.clear();
            self.scratch.extend_from_slice(packet);
            let opened = self.rtp.open_rtp(&mut self.scratch, head.length, head.ssrc, index);
            if opened.is_ok() {
                packet.copy_from_slice(&self.scratch);
                return Ok(index);
            }
        }
        Err(SrtpError::Forged)
    }

    /// Decrypts a (compound) RTCP packet in place and returns the length of the plain one.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let length = strip_mki(self.mki.as_ref(), &self.rtcp, packet)?;
        let packet = &mut packet[..length];
        if length < RTCP_CLEAR + INDEX_WORD + self.rtcp.tag_length() {
            return Err(SrtpError::Malformed);
        }
        let ssrc = rtcp_sender(packet).ok_or(SrtpError::Malformed)?;
        let index = u64::from(self.rtcp.rtcp_index(packet));
        let known = position(&self.rtcp_sources, ssrc);
        match known {
            Some(at) if !self.rtcp_sources[at].is_new(index) => return Err(SrtpError::Replayed),
            None if self.rtcp_sources.len() >= MAX_SOURCES => {
                return Err(SrtpError::TooManySources);
            }
            Some(_) | None => {}
        }
        let plain = self.rtcp.open_rtcp(packet, ssrc).map_err(|_| SrtpError::Forged)?;
        match known {
            Some(at) => self.rtcp_sources[at].record(index),
            None => self.rtcp_sources.push(Source::new(ssrc, index)),
        }
        Ok(plain)
    }
}

impl std::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Receiver").field("sources", &self.rtp_sources).finish_non_exhaustive()
    }
}

fn position(sources: &[Source], ssrc: u32) -> Option<usize> {
    sources.iter().position(|source| source.ssrc() == ssrc)
}

/// Takes the identifier of the key out of the packet: it stands before the tag (RFC 3711 §3.1), with AES-GCM at the
/// end (RFC 7714 §8). Returns the length that is left.
fn strip_mki(
    mki: Option<&Mki>,
    transform: &Transform,
    packet: &mut [u8],
) -> Result<usize, SrtpError> {
    let Some(mki) = mki else { return Ok(packet.len()) };
    let behind = if transform.is_aead() { 0 } else { transform.tag_length() };
    let end = packet.len().checked_sub(behind).ok_or(SrtpError::Malformed)?;
    let start = end.checked_sub(mki.length()).ok_or(SrtpError::Malformed)?;
    if !mki.matches(&packet[start..end]) {
        return Err(SrtpError::Forged);
    }
    packet.copy_within(end.., start);
    Ok(packet.len() - mki.length())
}
