//! Two transports shake hands over a network that loses what it is told to, on a virtual clock.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_srtp::{
    DtlsError, DtlsIdentity, DtlsRole, Fingerprint, MediaSecurity, Peer, Port, SecureTransport,
    SecurityEvent,
};

/// Where virtual time begins.
#[expect(
    clippy::disallowed_methods,
    reason = "an instant can't be made out of nothing; nothing else here looks at a clock"
)]
fn start() -> Instant {
    Instant::now()
}

struct Side {
    transport: SecureTransport,
    identity: Arc<DtlsIdentity>,
    rtp: SocketAddr,
    rtcp: SocketAddr,
}

impl Side {
    fn new(host: u8, mux: bool) -> Self {
        let identity = Arc::new(DtlsIdentity::generate().expect("random numbers"));
        let rtp = SocketAddr::from(([192, 0, 2, host], 4000));
        let rtcp = if mux { rtp } else { SocketAddr::from(([192, 0, 2, host], 4001)) };
        let transport = SecureTransport::new(Some(Arc::clone(&identity)));
        Self { transport, identity, rtp, rtcp }
    }

    const fn peer(&self) -> Peer {
        Peer { rtp: self.rtp, rtcp: self.rtcp, anywhere: false }
    }

    fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint().clone()
    }
}

fn dtls(role: DtlsRole, fingerprint: Fingerprint, generation: u32) -> MediaSecurity {
    MediaSecurity::Dtls { role, fingerprints: vec![fingerprint], generation }
}

/// Both sides, the datagrams between them, and the clock.
struct World {
    now: Instant,
    active: Side,
    passive: Side,
    sent: usize,
    lost: fn(usize) -> bool,
    /// All that was sent: whether by the active side, and what.
    log: Vec<(bool, Vec<u8>)>,
    /// What comes before the datagram of that number, to the active side or the other, from its peer's address.
    forged: Vec<(usize, bool, Vec<u8>)>,
    events: Vec<(bool, SecurityEvent)>,
}

impl World {
    fn new(mux: bool, lost: fn(usize) -> bool) -> Self {
        let (active, passive) = (Side::new(1, mux), Side::new(2, mux));
        Self {
            now: start(),
            active,
            passive,
            sent: 0,
            lost,
            log: Vec::new(),
            forged: Vec::new(),
            events: Vec::new(),
        }
    }

    fn agree(&mut self, generation: u32) {
        let (of_active, of_passive) = (self.active.fingerprint(), self.passive.fingerprint());
        let passive = dtls(DtlsRole::Passive, of_active, generation);
        self.passive.transport.apply(self.now, &passive, self.active.peer());
        let active = dtls(DtlsRole::Active, of_passive, generation);
        self.active.transport.apply(self.now, &active, self.passive.peer());
    }

    /// Carries datagrams to and fro, and lets time pass when there are none, for `duration`.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            let mut flying = VecDeque::new();
            for from_active in [true, false] {
                let side = if from_active { &mut self.active } else { &mut self.passive };
                while let Some(handshake) = side.transport.poll_handshake() {
                    flying.push_back((from_active, handshake));
                }
                while let Some(event) = side.transport.poll_event() {
                    self.events.push((from_active, event));
                }
            }
            if flying.is_empty() {
                let due = [&self.active, &self.passive].map(|side| side.transport.poll_timeout());
                let next = due.into_iter().flatten().min().unwrap_or(end).min(end);
                if next >= end {
                    self.now = end;
                    return;
                }
                self.now = next;
                self.active.transport.handle_timeout(next);
                self.passive.transport.handle_timeout(next);
            }
            for (from_active, handshake) in flying {
                self.sent += 1;
                self.log.push((from_active, handshake.bytes.to_vec()));
                self.forge();
                if (self.lost)(self.sent) {
                    continue;
                }
                let (from, to) = match from_active {
                    true => (&self.active, &mut self.passive),
                    false => (&self.passive, &mut self.active),
                };
                let source = if handshake.port == Port::Rtp { from.rtp } else { from.rtcp };
                let port = match handshake.destination {
                    address if address == to.rtp => Port::Rtp,
                    address if address == to.rtcp => Port::Rtcp,
                    other => panic!("sent to {other}"),
                };
                let mut bytes = handshake.bytes.to_vec();
                assert_eq!(to.transport.unprotect(self.now, port, source, &mut bytes), None);
            }
        }
    }

    fn forge(&mut self) {
        for (before, to_active, bytes) in &self.forged {
            if *before == self.sent {
                let (to, source) = match to_active {
                    true => (&mut self.active.transport, self.passive.rtp),
                    false => (&mut self.passive.transport, self.active.rtp),
                };
                assert_eq!(to.unprotect(self.now, Port::Rtp, source, &mut bytes.clone()), None);
            }
        }
    }

    fn both_ready(&self) -> bool {
        self.active.transport.is_ready() && self.passive.transport.is_ready()
    }

    /// Sends one RTP and one RTCP packet each way.
    fn exchange_media(&mut self, sequence: u16) {
        for from_active in [true, false] {
            let (from, to) = match from_active {
                true => (&mut self.active, &mut self.passive),
                false => (&mut self.passive, &mut self.active),
            };
            for (port, packet) in [(Port::Rtp, rtp(sequence)), (Port::Rtcp, rtcp())] {
                let sealed = from.transport.protect(port, &packet).expect("it has keys").to_vec();
                assert!(!sealed.windows(16).any(|window| window == [0x55; 16]));
                let source = if port == Port::Rtp { from.rtp } else { from.rtcp };
                let mut arrived = sealed.clone();
                let length = to.transport.unprotect(self.now, port, source, &mut arrived);
                let length = length.expect("it is authentic");
                assert_eq!(arrived[..length], packet);
                let mut again = sealed;
                assert_eq!(to.transport.unprotect(self.now, port, source, &mut again), None);
            }
        }
    }
}

fn rtp(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 160, 1, 2, 3, 4]);
    packet.extend([0x55; 160]);
    packet
}

fn rtcp() -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6, 1, 2, 3, 4];
    packet.extend([0x55; 20]);
    packet
}

#[test]
fn keys_come_of_a_handshake_and_media_flows_both_ways() {
    for mux in [true, false] {
        let mut world = World::new(mux, |_| false);
        world.agree(1);
        assert!(!world.both_ready());
        assert_eq!(world.active.transport.protect(Port::Rtp, &rtp(1)), None, "nothing in clear");
        world.run(Duration::from_secs(1));
        assert!(world.both_ready(), "mux {mux}");
        assert!(world.events.iter().all(|(_, event)| *event == SecurityEvent::Ready));
        assert_eq!(world.events.len(), 2);
        assert_eq!(world.active.transport.profile(), Some("AEAD_AES_128_GCM"));
        world.exchange_media(7);
        let counters = world.passive.transport.counters();
        assert_eq!((counters.replayed, counters.forged), (2, 0));
    }
}

#[test]
fn what_is_lost_is_sent_again() {
    // Patterns of what the network loses, by the number of the datagram.
    let patterns: [fn(usize) -> bool; 6] = [
        |sent| sent == 1,
        |sent| sent <= 4,
        |sent| sent.wrapping_mul(0x9E37_79B9) >> 12 & 15 < 5,
        |sent| sent % 3 == 1,
        |sent| (3..9).contains(&sent),
        |sent| sent % 5 < 2,
    ];
    for (number, lost) in patterns.into_iter().enumerate() {
        let mut world = World::new(true, lost);
        world.agree(1);
        world.run(Duration::from_secs(9));
        assert!(world.both_ready(), "pattern {number}");
        world.exchange_media(1);
    }
}

#[test]
fn a_peer_that_never_answers_is_given_up() {
    let mut world = World::new(true, |_| true);
    let start = world.now;
    world.agree(1);
    world.run(Duration::from_secs(30));
    let timed_out = SecurityEvent::Failed(DtlsError::TimedOut);
    assert_eq!(world.events, [(true, timed_out.clone()), (false, timed_out)]);
    assert!(world.sent > 8 && world.sent < 60, "{} datagrams", world.sent);
    assert!(world.now >= start + Duration::from_secs(10) && !world.both_ready());
    assert_eq!(world.active.transport.poll_timeout(), None);
}

#[test]
fn another_certificate_than_announced_gives_no_keys() {
    for liar_is_active in [true, false] {
        let mut world = World::new(true, |_| false);
        let stranger = DtlsIdentity::generate().unwrap().fingerprint().clone();
        let (of_active, of_passive) = match liar_is_active {
            true => (stranger, world.passive.fingerprint()),
            false => (world.active.fingerprint(), stranger),
        };
        let passive = dtls(DtlsRole::Passive, of_active, 1);
        world.passive.transport.apply(world.now, &passive, world.active.peer());
        let active = dtls(DtlsRole::Active, of_passive, 1);
        world.active.transport.apply(world.now, &active, world.passive.peer());
        world.run(Duration::from_secs(4));
        let deceived = !liar_is_active;
        assert!(
            world.events.contains(&(deceived, SecurityEvent::Failed(DtlsError::WrongCertificate))),
            "{:?}",
            world.events
        );
        let side = if deceived { &mut world.active } else { &mut world.passive };
        assert!(!side.transport.is_ready());
        assert_eq!(side.transport.protect(Port::Rtp, &rtp(1)), None);
    }
}

#[test]
fn a_new_handshake_replaces_the_keys_while_media_goes_on() {
    let mut world = World::new(true, |_| false);
    world.agree(1);
    world.run(Duration::from_millis(100));
    world.exchange_media(1);
    world.agree(1);
    assert_eq!(world.active.transport.poll_timeout(), None, "the same again does nothing");
    world.exchange_media(2);
    world.agree(2);
    world.exchange_media(3);
    world.run(Duration::from_millis(100));
    assert_eq!(world.events.len(), 4);
    world.exchange_media(4);
}

#[test]
fn strangers_and_floods_do_not_disturb_a_handshake() {
    let mut world = World::new(true, |_| false);
    world.agree(1);
    let stranger = SocketAddr::from(([203, 0, 113, 9], 4000));
    for first in 20..=63 {
        for length in [1, 13, 14, 60] {
            let mut garbage = vec![first; length];
            for side in [&mut world.active, &mut world.passive] {
                assert_eq!(
                    side.transport.unprotect(world.now, Port::Rtp, stranger, &mut garbage),
                    None
                );
            }
        }
    }
    world.run(Duration::from_secs(1));
    assert!(world.both_ready());
    // The peer's own address, forged: what is already agreed on stays.
    let source = world.active.rtp;
    for at in 0..2_000_u32 {
        let mut garbage =
            vec![22, 254, 253, 0, 0, 0, 0, 0, 0, (at >> 8) as u8, at as u8, 0, 4, 1, 0, 0, 0];
        world.passive.transport.unprotect(world.now, Port::Rtp, source, &mut garbage);
    }
    world.exchange_media(1);
}

/// A whole handshake of two others.
fn of_strangers() -> Vec<(bool, Vec<u8>)> {
    let mut world = World::new(true, |_| false);
    world.agree(1);
    world.run(Duration::from_secs(1));
    assert!(world.both_ready());
    world.log
}

/// Whoever knows both addresses, and does not see what is sent between them, may forge whatever a handshake is made of.
#[test]
fn a_forged_datagram_of_any_kind_at_any_time_costs_some_seconds_at_most() {
    let strangers = of_strangers();
    for (number, (from_active, bytes)) in strangers.iter().enumerate() {
        for before in 1..=strangers.len() {
            for far in [false, true] {
                let mut forged = bytes.clone();
                if far {
                    forged[5..11].fill(0xFF); // The number of its first record is the last one.
                }
                let mut world = World::new(true, |_| false);
                world.forged = vec![(before, !from_active, forged)];
                world.agree(1);
                world.run(Duration::from_millis(4_500));
                let events = &world.events;
                assert!(world.both_ready(), "{number} before {before}, {far}: {events:?}");
                world.exchange_media(1);
            }
        }
    }
}

#[test]
fn a_client_that_begins_anew_is_answered_anew() {
    let mut world = World::new(true, |sent| sent == 5); // The client's certificate is lost, and then the client.
    world.agree(1);
    world.run(Duration::from_millis(100));
    assert!(!world.both_ready() && world.sent >= 5);
    world.active.transport = SecureTransport::new(Some(Arc::clone(&world.active.identity)));
    world.agree(1);
    world.run(Duration::from_millis(100));
    assert!(world.both_ready(), "{:?}", world.events);
    world.exchange_media(1);
}

#[test]
fn without_an_identity_there_is_no_dtls() {
    let mut transport = SecureTransport::new(None);
    let fingerprint = Fingerprint::of(b"certificate");
    let side = Side::new(1, true);
    transport.apply(start(), &dtls(DtlsRole::Active, fingerprint, 1), side.peer());
    assert!(matches!(transport.poll_event(), Some(SecurityEvent::Failed(_))));
    assert!(!transport.is_ready());
}
