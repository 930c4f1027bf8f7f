//! Whose packets are heard and where ours go: symmetric RTP (RFC 4961) and latching (RFC 7362).

use std::net::{IpAddr, SocketAddr};

use crate::{Latching, RtpPacket};

/// Consecutive packets that prove an address with the IP of the peer's signalling.
const FROM_SIGNALLING: u8 = 2;

/// Consecutive packets that prove any other address.
const FROM_ELSEWHERE: u8 = 4;

/// Consecutive packets that prove a new port of the peer after its NAT forgot the old one.
const REBOUND: u8 = 3;

/// Unproven addresses watched at once.
const MAX_CANDIDATES: usize = 4;

/// A rebound stream goes on within this many packets of where it stopped.
const MAX_REBIND_GAP: u16 = 500;

/// The address of the peer's RTP: the one in its SDP, or the one its packets proved.
///
/// An address is learned only on a leg that may latch, once per offer/answer, from consecutive packets of one SSRC with a
/// payload type that was negotiated, and never while packets come from the SDP's own address. On such a leg a peer whose NAT
/// gave it another port is followed, if its stream goes on where it stopped and the old port is silent.
#[derive(Debug)]
pub struct Latch {
    sdp: SocketAddr,
    latching: Latching,
    state: State,
    candidates: [Option<Candidate>; MAX_CANDIDATES],
    oldest: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing valid has come yet.
    Open,
    /// Packets come from the address in the SDP.
    AsOffered,
    /// Packets come from an address that was proven.
    Latched(SocketAddr),
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    source: SocketAddr,
    ssrc: u32,
    next: u16,
    count: u8,
}

/// The stream heard so far, for telling a rebound peer from a stranger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownStream {
    /// Its SSRC.
    pub ssrc: u32,
    /// Its highest sequence number.
    pub sequence: u16,
}

impl Latch {
    /// Before any packet: ours go where the SDP says.
    pub const fn new(sdp: SocketAddr, latching: Latching) -> Self {
        Self { sdp, latching, state: State::Open, candidates: [None; MAX_CANDIDATES], oldest: 0 }
    }

    /// A new offer/answer. With the same address in it what was learned stays: session refreshes must not cost packets.
    pub fn renegotiate(&mut self, sdp: SocketAddr, latching: Latching) {
        if sdp != self.sdp || matches!(latching, Latching::Off) {
            *self = Self::new(sdp, latching);
        }
        self.latching = latching;
    }

    /// Where our RTP goes.
    pub const fn destination(&self) -> SocketAddr {
        match self.state {
            State::Open | State::AsOffered => self.sdp,
            State::Latched(source) => source,
        }
    }

    /// Whether the destination was learned from packets.
    pub const fn is_latched(&self) -> bool {
        matches!(self.state, State::Latched(_))
    }

    /// Whether `packet` from `source` is the peer's. `negotiated` says that its payload type is one of ours.
    pub fn accept(
        &mut self,
        source: SocketAddr,
        packet: &RtpPacket<'_>,
        negotiated: bool,
        known: Option<KnownStream>,
    ) -> bool {
        if self.state != State::Open && source == self.destination() {
            self.candidates = [None; MAX_CANDIDATES];
            return true;
        }
        if source == self.sdp {
            if negotiated {
                self.state = State::AsOffered;
                self.candidates = [None; MAX_CANDIDATES];
            }
            return true;
        }
        let Some(needed) = self.needed(source.ip(), packet, known).filter(|_| negotiated) else {
            return false;
        };
        let proven = self.count(source, packet) >= needed;
        if proven {
            self.state = State::Latched(source);
            self.candidates = [None; MAX_CANDIDATES];
        }
        proven
    }

    /// Consecutive packets `source` has to bring; none when it can prove nothing.
    fn needed(
        &self,
        source: IpAddr,
        packet: &RtpPacket<'_>,
        known: Option<KnownStream>,
    ) -> Option<u8> {
        let Latching::Natted { signalling } = self.latching else { return None };
        let from_signalling = signalling == Some(source);
        match self.state {
            State::Open if from_signalling => Some(FROM_SIGNALLING),
            State::Open => Some(FROM_ELSEWHERE),
            State::AsOffered | State::Latched(_) => {
                let goes_on = known.is_some_and(|known| {
                    let ahead = packet.sequence.wrapping_sub(known.sequence);
                    known.ssrc == packet.ssrc && (1..=MAX_REBIND_GAP).contains(&ahead)
                });
                ((from_signalling || source == self.destination().ip()) && goes_on)
                    .then_some(REBOUND)
            }
        }
    }

    /// How many consecutive packets the stream from `source` has brought.
    fn count(&mut self, source: SocketAddr, packet: &RtpPacket<'_>) -> u8 {
        let fresh = Candidate {
            source,
            ssrc: packet.ssrc,
            next: packet.sequence.wrapping_add(1),
            count: 1,
        };
        if let Some(known) =
            self.candidates.iter_mut().flatten().find(|candidate| candidate.source == source)
        {
            let consecutive = known.ssrc == packet.ssrc && known.next == packet.sequence;
            let count = if consecutive { known.count.saturating_add(1) } else { 1 };
            *known = Candidate { count, ..fresh };
            return count;
        }
        let free = self.candidates.iter().position(Option::is_none);
        let slot = free.unwrap_or_else(|| {
            self.oldest = (self.oldest + 1) % MAX_CANDIDATES;
            self.oldest
        });
        self.candidates[slot] = Some(fresh);
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "10.0.0.5:4000";
    const SDP_REBOUND: &str = "10.0.0.5:4010";
    const NAT: &str = "203.0.113.9:31000";
    const REBOUND_NAT: &str = "203.0.113.9:31999";
    const STRANGER: &str = "198.51.100.66:4000";

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn natted() -> Latching {
        Latching::Natted { signalling: Some(address(NAT).ip()) }
    }

    fn packet(ssrc: u32, sequence: u16) -> RtpPacket<'static> {
        RtpPacket {
            marker: false,
            payload_type: 0,
            sequence,
            timestamp: 0,
            ssrc,
            csrc: &[],
            extension: None,
            payload: &[],
            padding: 0,
        }
    }

    /// Feeds (source, ssrc, sequence) and returns which were accepted, and where RTP goes afterwards.
    fn run(latch: &mut Latch, packets: &[(&str, u32, u16)]) -> (String, SocketAddr) {
        let mut known: Option<KnownStream> = None;
        let accepted = packets
            .iter()
            .map(|(source, ssrc, sequence)| {
                let accepted =
                    latch.accept(address(source), &packet(*ssrc, *sequence), true, known);
                if accepted {
                    known = Some(KnownStream { ssrc: *ssrc, sequence: *sequence });
                }
                if accepted { 'y' } else { 'n' }
            })
            .collect();
        (accepted, latch.destination())
    }

    #[test]
    fn who_is_heard() {
        type Case<'a> = (&'a str, Latching, &'a [(&'a str, u32, u16)], &'a str, &'a str);
        let anyone = Latching::Natted { signalling: None };
        let cases: [Case<'_>; 15] = [
            ("the SDP's address", Latching::Off, &[(SDP, 1, 1), (SDP, 1, 2)], "yy", SDP),
            ("nobody else without NAT", Latching::Off, &[(NAT, 1, 1), (NAT, 1, 2)], "nn", SDP),
            ("the second packet latches", natted(), &[(NAT, 1, 1), (NAT, 1, 2)], "ny", NAT),
            ("not a gap", natted(), &[(NAT, 1, 1), (NAT, 1, 3)], "nn", SDP),
            ("not two SSRCs", natted(), &[(NAT, 1, 1), (NAT, 2, 2)], "nn", SDP),
            (
                "another IP needs four",
                natted(),
                &[(STRANGER, 1, 1), (STRANGER, 1, 2), (STRANGER, 1, 3), (STRANGER, 1, 4)],
                "nnny",
                STRANGER,
            ),
            (
                "signalling goes first",
                natted(),
                &[
                    (STRANGER, 9, 1),
                    (STRANGER, 9, 2),
                    (NAT, 1, 1),
                    (STRANGER, 9, 3),
                    (NAT, 1, 2),
                    (STRANGER, 9, 4),
                ],
                "nnnnyn",
                NAT,
            ),
            (
                "never while the SDP's address sends",
                natted(),
                &[(SDP, 1, 1), (NAT, 2, 1), (NAT, 2, 2), (NAT, 2, 3)],
                "ynnn",
                SDP,
            ),
            (
                "the SDP's address takes back",
                natted(),
                &[(NAT, 1, 1), (NAT, 1, 2), (SDP, 3, 1), (NAT, 1, 3)],
                "nyyn",
                SDP,
            ),
            (
                "strangers after latching",
                anyone,
                &[
                    (NAT, 1, 1),
                    (NAT, 1, 2),
                    (NAT, 1, 3),
                    (NAT, 1, 4),
                    (STRANGER, 1, 5),
                    (STRANGER, 1, 6),
                    (STRANGER, 1, 7),
                ],
                "nnnynnn",
                NAT,
            ),
            (
                "a rebound port within four packets",
                natted(),
                &[
                    (NAT, 1, 1),
                    (NAT, 1, 2),
                    (REBOUND_NAT, 1, 3),
                    (REBOUND_NAT, 1, 4),
                    (REBOUND_NAT, 1, 5),
                ],
                "nynny",
                REBOUND_NAT,
            ),
            (
                "no rebound while the old port sends",
                natted(),
                &[
                    (NAT, 1, 1),
                    (NAT, 1, 2),
                    (REBOUND_NAT, 1, 3),
                    (REBOUND_NAT, 1, 4),
                    (NAT, 1, 3),
                    (REBOUND_NAT, 1, 5),
                    (REBOUND_NAT, 1, 6),
                ],
                "nynnynn",
                NAT,
            ),
            (
                "a rebound port of a peer whose SDP was right",
                natted(),
                &[(SDP, 1, 1), (SDP_REBOUND, 1, 2), (SDP_REBOUND, 1, 3), (SDP_REBOUND, 1, 4)],
                "ynny",
                SDP_REBOUND,
            ),
            (
                "no rebound of another SSRC",
                natted(),
                &[
                    (NAT, 1, 1),
                    (NAT, 1, 2),
                    (REBOUND_NAT, 2, 3),
                    (REBOUND_NAT, 2, 4),
                    (REBOUND_NAT, 2, 5),
                ],
                "nynnn",
                NAT,
            ),
            (
                "no rebound of an old sequence",
                natted(),
                &[
                    (NAT, 1, 10),
                    (NAT, 1, 11),
                    (REBOUND_NAT, 1, 5),
                    (REBOUND_NAT, 1, 6),
                    (REBOUND_NAT, 1, 7),
                ],
                "nynnn",
                NAT,
            ),
        ];
        for (name, latching, packets, accepted, destination) in cases {
            let mut latch = Latch::new(address(SDP), latching);
            let (heard, goes_to) = run(&mut latch, packets);
            assert_eq!((heard.as_str(), goes_to), (accepted, address(destination)), "{name}");
        }
    }

    #[test]
    fn payload_types_never_negotiated_prove_nothing() {
        let mut latch = Latch::new(address(SDP), natted());
        for sequence in 0..10 {
            assert!(!latch.accept(address(NAT), &packet(1, sequence), false, None));
        }
        assert!(latch.accept(address(SDP), &packet(1, 1), false, None), "it vouches for itself");
        assert_eq!(latch.state, State::Open);
    }

    #[test]
    fn a_new_address_in_the_sdp_opens_it_again_and_a_refresh_does_not() {
        let mut latch = Latch::new(address(SDP), natted());
        run(&mut latch, &[(NAT, 1, 1), (NAT, 1, 2)]);
        latch.renegotiate(address(SDP), natted());
        assert_eq!(latch.destination(), address(NAT));
        assert!(latch.is_latched());
        latch.renegotiate(address("10.0.0.5:4002"), natted());
        assert_eq!(latch.destination(), address("10.0.0.5:4002"));
        run(&mut latch, &[(NAT, 1, 1), (NAT, 1, 2)]);
        latch.renegotiate(address("10.0.0.5:4002"), Latching::Off);
        assert_eq!(latch.destination(), address("10.0.0.5:4002"));
    }

    #[test]
    fn a_spray_of_strangers_does_not_keep_the_peer_out() {
        let mut latch = Latch::new(address(SDP), natted());
        for n in 0..1000u16 {
            let stranger = SocketAddr::new(address(STRANGER).ip(), 1024 + n);
            assert!(!latch.accept(stranger, &packet(u32::from(n), n), true, None));
        }
        assert_eq!(run(&mut latch, &[(NAT, 1, 1), (NAT, 1, 2)]).0, "ny");
    }
}
