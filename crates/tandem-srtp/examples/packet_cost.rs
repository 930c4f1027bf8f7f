//! Prints what protection costs: `cargo run --release -p tandem-srtp --example packet_cost`.

use std::{
    hint::black_box,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tandem_srtp::{
    DtlsIdentity, DtlsRole, MasterKey, MediaSecurity, Peer, Port, Profile, Receiver,
    SecureTransport, Sender,
};

/// Packets of one round; they are sealed before they are opened.
const PACKETS: u16 = 20_000;
const ROUNDS: usize = 40;

#[expect(clippy::disallowed_methods, reason = "it is the cost in real time that is asked for")]
fn main() {
    println!("a packet of 172 bytes (20 ms of G.711), nanoseconds, best of {ROUNDS} rounds:");
    for profile in Profile::ALL {
        let key = MasterKey::generate(profile).expect("the system has random numbers");
        let (mut seal, mut open) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let (mut sender, mut receiver) = (Sender::new(&key), Receiver::new(&key, None));
            let mut sealed: Vec<Vec<u8>> = vec![Vec::with_capacity(256); usize::from(PACKETS)];
            let start = Instant::now();
            for (sequence, out) in (0..PACKETS).zip(&mut sealed) {
                let packet = packet(sequence);
                sender.protect_rtp(black_box(&packet), out).expect("the sequence rises");
            }
            seal.push(start.elapsed() / u32::from(PACKETS));
            let start = Instant::now();
            for packet in &mut sealed {
                receiver.unprotect_rtp(black_box(packet)).expect("it is authentic");
            }
            open.push(start.elapsed() / u32::from(PACKETS));
        }
        let (seal, open) = (best(&seal).as_nanos(), best(&open).as_nanos());
        println!("  {:<26} seal {seal:>5}   open {open:>5}", profile.name());
    }
    let times: Vec<Duration> = (0..200).map(|_| handshake()).collect();
    let both = best(&times).as_secs_f64() * 1_000.0;
    println!("a handshake, both sides of it: {both:.2} ms");
    let start = Instant::now();
    black_box(DtlsIdentity::generate().expect("the system has random numbers"));
    println!("a certificate: {:.2} ms", start.elapsed().as_secs_f64() * 1_000.0);
}

fn packet(sequence: u16) -> [u8; 172] {
    let mut packet = [0xD5; 172];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}

/// The run that nothing else disturbed.
fn best(times: &[Duration]) -> Duration {
    times.iter().min().copied().unwrap_or_default()
}

/// Time that two sides spend on one handshake, with nothing lost.
#[expect(clippy::disallowed_methods, reason = "it is the cost in real time that is asked for")]
fn handshake() -> Duration {
    let identities = [(); 2].map(|()| Arc::new(DtlsIdentity::generate().expect("random numbers")));
    let address = |host: usize| SocketAddr::from(([192, 0, 2, host as u8], 4_000));
    let now = Instant::now();
    let mut sides = [0, 1].map(|side| {
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
    while !sides.iter().all(SecureTransport::is_ready) {
        for from in [0, 1] {
            while let Some(handshake) = sides[from].poll_handshake() {
                let mut bytes = handshake.bytes.to_vec();
                sides[1 - from].unprotect(now, Port::Rtp, address(from), &mut bytes);
            }
        }
    }
    now.elapsed()
}
