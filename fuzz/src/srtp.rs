//! Keys in SDP, and handshakes that somebody garbles on their way.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use tandem_srtp::{
    CryptoAttribute, DtlsIdentity, DtlsRole, MediaSecurity, Peer, Port, SecureTransport,
};

/// A crypto line that is taken is the same after it was written and read again.
pub fn crypto_attribute(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(attribute) = CryptoAttribute::parse(text) else { return };
    let written = CryptoAttribute::write(attribute.tag, &attribute.suite, &attribute.key);
    let again = CryptoAttribute::parse(&written).expect("what we wrote can be read");
    assert_eq!((again.tag, again.key), (attribute.tag, attribute.key));
}

/// A handshake in which datagrams are changed, lost, repeated and made up comes to keys on both sides that fit, or to none.
///
/// Four bytes each: which datagram, what is done to it, where, with what.
pub fn handshake(bytes: &[u8]) {
    static IDENTITIES: OnceLock<[Arc<DtlsIdentity>; 2]> = OnceLock::new();
    let identities = IDENTITIES.get_or_init(|| {
        [(); 2].map(|()| Arc::new(DtlsIdentity::generate().expect("a certificate can be made")))
    });
    let mut now = Instant::now();
    let address = |host: usize| SocketAddr::from(([192, 0, 2, host as u8], 4_000));
    let mut sides: [SecureTransport; 2] = [0, 1].map(|side| {
        let mut transport = SecureTransport::new(Some(Arc::clone(&identities[side])));
        let security = MediaSecurity::Dtls {
            role: [DtlsRole::Active, DtlsRole::Passive][side],
            fingerprints: vec![identities[1 - side].fingerprint().clone()],
            generation: 1,
        };
        let peer = Peer { rtp: address(1 - side), rtcp: address(1 - side), anywhere: false };
        transport.apply(now, &security, peer);
        transport
    });
    let mut number = 0_u8;
    for _ in 0..40 {
        for from in [0, 1] {
            while let Some(handshake) = sides[from].poll_handshake() {
                let mut datagrams = vec![handshake.bytes.to_vec()];
                for change in bytes.chunks_exact(4).filter(|change| change[0] % 16 == number % 16) {
                    garble(&mut datagrams, change);
                }
                number = number.wrapping_add(1);
                for mut datagram in datagrams {
                    let taken =
                        sides[1 - from].unprotect(now, Port::Rtp, address(from), &mut datagram);
                    assert_eq!(taken, None, "nothing of a handshake is media");
                }
            }
        }
        for side in &mut sides {
            let _ = side.poll_event();
        }
        now += Duration::from_millis(200);
        for side in &mut sides {
            side.handle_timeout(now);
        }
    }
    let [one, other] = &mut sides;
    if one.is_ready() && other.is_ready() {
        let packet = [0x80, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4, 9, 9, 9];
        let mut sent = one.protect(Port::Rtp, &packet).expect("it has keys").to_vec();
        assert_eq!(other.unprotect(now, Port::Rtp, address(0), &mut sent), Some(packet.len()));
    }
}

fn garble(datagrams: &mut Vec<Vec<u8>>, change: &[u8]) {
    let (action, place, value) = (change[1], usize::from(change[2]), change[3]);
    let Some(first) = datagrams.first_mut() else { return };
    let at = place % first.len().max(1);
    match action % 6 {
        0 => datagrams.clear(),
        1 => datagrams.extend_from_within(..1),
        2 => first.truncate(at),
        3 => first.extend(std::iter::repeat_n(value, place)),
        4 => datagrams.push(std::iter::repeat_n(20 + value % 44, place).collect()),
        _ => {
            if let Some(byte) = first.get_mut(at) {
                *byte ^= value;
            }
        }
    }
}
