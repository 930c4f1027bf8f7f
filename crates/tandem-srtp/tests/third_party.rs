//! Two transports shake hands while a third party interferes, on a virtual clock.

use std::{
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

const VICTIM: usize = 0;
const GENUINE: usize = 1;
const STRANGER: usize = 2;

fn address(host: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, host as u8 + 1], 4000))
}

/// The victim, its genuine peer and a stranger, each at an address of its own.
struct World {
    now: Instant,
    identities: Vec<Arc<DtlsIdentity>>,
    sides: Vec<SecureTransport>,
    events: Vec<(usize, SecurityEvent)>,
    /// How often the victim has written to each, and to nobody that is here.
    written: [usize; 4],
}

impl World {
    fn new() -> Self {
        let identities: Vec<_> =
            (0..3).map(|_| Arc::new(DtlsIdentity::generate().expect("random numbers"))).collect();
        let sides =
            identities.iter().map(|it| SecureTransport::new(Some(Arc::clone(it)))).collect();
        Self { now: start(), identities, sides, events: Vec::new(), written: [0; 4] }
    }

    fn fingerprint(&self, side: usize) -> Fingerprint {
        self.identities[side].fingerprint().clone()
    }

    /// The side takes the victim for its peer.
    fn aim(&mut self, side: usize, role: DtlsRole) {
        let security = dtls(role, self.fingerprint(VICTIM));
        self.sides[side].apply(self.now, &security, peer(address(VICTIM), false));
    }

    /// The victim expects the genuine peer's certificate, and its media at `announced`.
    fn expect(&mut self, role: DtlsRole, announced: SocketAddr) {
        let security = dtls(role, self.fingerprint(GENUINE));
        self.sides[VICTIM].apply(self.now, &security, peer(announced, true));
    }

    fn inject(&mut self, source: SocketAddr, datagram: &[u8]) {
        let mut bytes = datagram.to_vec();
        assert_eq!(self.sides[VICTIM].unprotect(self.now, Port::Rtp, source, &mut bytes), None);
    }

    /// Carries what there is to carry, once; returns how much that was.
    fn carry(&mut self) -> usize {
        let mut flying = Vec::new();
        for (from, side) in self.sides.iter_mut().enumerate() {
            while let Some(handshake) = side.poll_handshake() {
                flying.push((from, handshake));
            }
            while let Some(event) = side.poll_event() {
                self.events.push((from, event));
            }
        }
        for (from, handshake) in &flying {
            let to = (0..3).find(|to| address(*to) == handshake.destination);
            if *from == VICTIM {
                self.written[to.unwrap_or(3)] += 1;
            }
            if let Some(to) = to {
                let mut bytes = handshake.bytes.to_vec();
                let source = address(*from);
                self.sides[to].unprotect(self.now, Port::Rtp, source, &mut bytes);
            }
        }
        flying.len()
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            while self.carry() > 0 {}
            let due = self.sides.iter().filter_map(SecureTransport::poll_timeout).min();
            let next = due.unwrap_or(end).min(end);
            self.now = next;
            if next >= end {
                return;
            }
            for side in &mut self.sides {
                side.handle_timeout(next);
            }
        }
    }

    /// The victim and its genuine peer, and nobody else, have each other's keys.
    fn assert_joined(&mut self) {
        assert_eq!(
            self.events.iter().filter(|(side, _)| *side == VICTIM).collect::<Vec<_>>(),
            [&(VICTIM, SecurityEvent::Ready)]
        );
        assert_eq!(self.sides[STRANGER].profile(), None);
        for (from, to) in [(VICTIM, GENUINE), (GENUINE, VICTIM)] {
            let mut packet = vec![0x80, 0, 0, 9, 0, 0, 0, 160, 1, 2, 3, 4];
            packet.extend([0x55; 160]);
            let mut sealed =
                self.sides[from].protect(Port::Rtp, &packet).expect("it has keys").to_vec();
            let length = self.sides[to].unprotect(self.now, Port::Rtp, address(from), &mut sealed);
            assert_eq!(length, Some(packet.len()));
        }
    }
}

fn dtls(role: DtlsRole, fingerprint: Fingerprint) -> MediaSecurity {
    MediaSecurity::Dtls { role, fingerprints: vec![fingerprint], generation: 1 }
}

const fn peer(rtp: SocketAddr, anywhere: bool) -> Peer {
    Peer { rtp, rtcp: rtp, anywhere }
}

const fn opposite(role: DtlsRole) -> DtlsRole {
    match role {
        DtlsRole::Active => DtlsRole::Passive,
        DtlsRole::Passive => DtlsRole::Active,
    }
}

fn record(content: u8, sequence: u16, body: &[u8]) -> Vec<u8> {
    let [high, low] = sequence.to_be_bytes();
    let mut bytes = vec![content, 254, 253, 0, 0, 0, 0, 0, 0, high, low, 0, body.len() as u8];
    bytes.extend(body);
    bytes
}

#[test]
fn alerts_in_clear_and_scraps_end_no_handshake() {
    for role in [DtlsRole::Active, DtlsRole::Passive] {
        for steps in 0..6 {
            let mut world = World::new();
            world.expect(role, address(GENUINE));
            world.aim(GENUINE, opposite(role));
            for _ in 0..steps {
                world.carry();
            }
            for source in [address(STRANGER), address(GENUINE)] {
                for scrap in [&[22_u8][..], &[22, 254, 253], &[21; 14], &[63]] {
                    for _ in 0..300 {
                        world.inject(source, scrap);
                    }
                }
                for (content, body) in [
                    (21, &[2, 40][..]),
                    (21, &[1, 0]),
                    (21, &[2]),
                    (23, b"forged"),
                    (20, &[2]),
                    (99, b"forged"),
                ] {
                    world.inject(source, &record(content, 40_000, body));
                }
            }
            world.run(Duration::from_secs(3));
            world.assert_joined();
        }
    }
}

#[test]
fn a_stranger_s_own_handshake_spoils_only_itself() {
    // The stranger begins before the peer, or between its steps.
    for steps in 0..5 {
        let mut world = World::new();
        world.expect(DtlsRole::Passive, address(GENUINE));
        if steps == 0 {
            world.aim(STRANGER, DtlsRole::Active);
            world.run(Duration::from_secs(1));
        }
        world.aim(GENUINE, DtlsRole::Active);
        for _ in 0..steps {
            world.carry();
        }
        if steps > 0 {
            world.aim(STRANGER, DtlsRole::Active);
        }
        world.run(Duration::from_secs(2));
        world.assert_joined();
        if steps < 4 {
            assert!(world.written[STRANGER] > 0, "the stranger was answered, at his own address");
        }
    }
}

#[test]
fn a_stranger_s_answer_to_our_hello_is_not_the_peer_s() {
    let mut world = World::new();
    world.aim(STRANGER, DtlsRole::Passive);
    world.expect(DtlsRole::Active, address(GENUINE));
    // He has overheard the hello, and answers faster than the peer, who is not there yet.
    let hello = world.sides[VICTIM].poll_handshake().expect("it begins");
    assert_eq!(hello.destination, address(GENUINE));
    let mut bytes = hello.bytes.to_vec();
    world.sides[STRANGER].unprotect(world.now, Port::Rtp, address(VICTIM), &mut bytes);
    world.run(Duration::from_secs(1));
    assert!(world.written[GENUINE] > 0, "the peer is still tried where it was announced");
    world.aim(GENUINE, DtlsRole::Passive);
    world.run(Duration::from_secs(4));
    world.assert_joined();
}

#[test]
fn a_wrong_certificate_from_elsewhere_is_waited_out() {
    let mut world = World::new();
    world.expect(DtlsRole::Passive, address(GENUINE));
    world.aim(STRANGER, DtlsRole::Active);
    world.run(Duration::from_secs(9));
    assert!(world.events.iter().all(|(side, _)| *side != VICTIM), "{:?}", world.events);
    world.run(Duration::from_secs(2));
    let timed_out = (VICTIM, SecurityEvent::Failed(DtlsError::TimedOut));
    assert!(world.events.contains(&timed_out), "{:?}", world.events);
    assert!(!world.sides[VICTIM].is_ready());
}

#[test]
fn a_peer_behind_a_nat_passes_a_crowd_of_forged_hellos() {
    let mut world = World::new();
    world.expect(DtlsRole::Passive, SocketAddr::from(([10, 0, 0, 7], 4000)));
    world.aim(GENUINE, DtlsRole::Active);
    let hello = world.sides[GENUINE].poll_handshake().expect("it begins").bytes;
    for round in 0..12_u8 {
        for host in 0..5 {
            world.inject(SocketAddr::from(([203, 0, 113, host], 1000 + u16::from(round))), &hello);
        }
        if round == 0 {
            world.inject(address(GENUINE), &hello);
        }
        world.carry();
        world.carry();
    }
    world.run(Duration::from_secs(3));
    world.assert_joined();
}
