//! Packets protected and checked: repetitions, forgeries, rollovers, new sources, new keys, and no allocation.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    net::SocketAddr,
    time::Instant,
};

use proptest::prelude::*;
use tandem_srtp::{
    MasterKey, MediaSecurity, Mki, OVERHEAD, Peer, Port, Profile, Receiver, SecureTransport,
    Sender, SrtpError,
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed to the system allocator unchanged; the counter neither allocates nor has a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps the promises of `GlobalAlloc::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Where virtual time begins.
#[expect(
    clippy::disallowed_methods,
    reason = "an instant can't be made out of nothing; nothing else here looks at a clock"
)]
fn start() -> Instant {
    Instant::now()
}

const SSRC: u32 = 0x0102_0304;

fn key(profile: Profile, seed: u8) -> MasterKey {
    let bytes: Vec<u8> = (0..MasterKey::length(profile) as u8).map(|byte| byte ^ seed).collect();
    MasterKey::from_bytes(profile, &bytes).expect("a key of the profile's length")
}

fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 8];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x81, 201, 0, 7];
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0x33; 24]);
    packet
}

fn sealed(sender: &mut Sender, packet: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    sender.protect_rtp(packet, &mut out).expect("the sequence rises");
    assert!(out.len() <= packet.len() + OVERHEAD);
    out
}

fn open(receiver: &mut Receiver, packet: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut packet = packet.to_vec();
    let length = receiver.unprotect_rtp(&mut packet)?;
    packet.truncate(length);
    Ok(packet)
}

/// A packet of a widely used implementation's own tests.
#[test]
fn a_packet_as_others_seal_it() {
    let hex = |text: &str| -> Vec<u8> {
        (0..text.len() / 2)
            .map(|at| u8::from_str_radix(&text[at * 2..][..2], 16).unwrap())
            .collect()
    };
    let master = hex("e1f97a0d3e018be0d64fa32c06de41390ec675ad498afeebb6960b3aabe6");
    let master = MasterKey::from_bytes(Profile::AesCm128HmacSha1_80, &master).unwrap();
    let plain = hex("800f1234decafbadcafebabeabababababababababababababababab");
    let expected =
        hex("800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb");
    assert_eq!(sealed(&mut Sender::new(&master), &plain), expected);
    assert_eq!(open(&mut Receiver::new(&master, None), &expected), Ok(plain));
    let plain = hex("81c8000bcafebabeabababababababababababababababab");
    let mut out = Vec::new();
    Sender::new(&master).protect_rtcp(&plain, &mut out).unwrap();
    assert_eq!(out[..8], plain[..8]);
    assert_eq!(out.len(), plain.len() + 14);
    assert_eq!(out[plain.len()..][..4], [0x80, 0, 0, 1]);
}

#[test]
fn every_packet_comes_through_once() {
    for profile in Profile::ALL {
        let key = key(profile, 1);
        let (mut sender, mut receiver) = (Sender::new(&key), Receiver::new(&key, None));
        for sequence in 0..300_u16 {
            let plain = rtp(SSRC, sequence, &[sequence as u8; 160]);
            let packet = sealed(&mut sender, &plain);
            assert_eq!(packet.len(), plain.len() + profile.rtp_tag_length());
            assert!(!packet.windows(8).any(|window| window == [sequence as u8; 8]), "{profile:?}");
            assert_eq!(open(&mut receiver, &packet), Ok(plain));
            assert_eq!(open(&mut receiver, &packet), Err(SrtpError::Replayed));
        }
        let (mut first, mut second) = (Vec::new(), Vec::new());
        sender.protect_rtcp(&rtcp(SSRC), &mut first).unwrap();
        sender.protect_rtcp(&rtcp(SSRC), &mut second).unwrap();
        assert_ne!(first[8..32], second[8..32], "each has a key stream of its own");
        for packet in [second, first] {
            let mut again = packet.clone();
            let mut packet = packet;
            let length = receiver.unprotect_rtcp(&mut packet).unwrap();
            assert_eq!(packet[..length], rtcp(SSRC));
            assert_eq!(receiver.unprotect_rtcp(&mut again), Err(SrtpError::Replayed));
        }
    }
}

#[test]
fn a_changed_bit_anywhere_is_a_forgery() {
    for profile in Profile::ALL {
        let key = key(profile, 2);
        let packet = sealed(&mut Sender::new(&key), &rtp(SSRC, 9, &[7; 20]));
        let mut control = Vec::new();
        Sender::new(&key).protect_rtcp(&rtcp(SSRC), &mut control).unwrap();
        let mut receiver = Receiver::new(&key, None);
        for at in 0..packet.len() {
            for bit in 0..8 {
                let mut forged = packet.clone();
                forged[at] ^= 1 << bit;
                let error = receiver.unprotect_rtp(&mut forged).unwrap_err();
                assert!(matches!(error, SrtpError::Forged | SrtpError::Malformed), "{at} {bit}");
            }
        }
        for at in 0..control.len() {
            let mut forged = control.clone();
            forged[at] ^= 0x10;
            let error = receiver.unprotect_rtcp(&mut forged).unwrap_err();
            assert!(matches!(error, SrtpError::Forged | SrtpError::Malformed), "{at}");
        }
        for length in 0..packet.len() {
            assert!(receiver.unprotect_rtp(&mut packet[..length].to_vec()).is_err());
        }
        assert!(open(&mut receiver, &packet).is_ok(), "nothing of all that was remembered");
        assert!(open(&mut Receiver::new(&self::key(profile, 3), None), &packet).is_err());
    }
}

#[test]
fn rollovers_with_loss_disorder_and_late_packets() {
    let key = key(Profile::AesCm128HmacSha1_80, 4);
    let (mut sender, mut receiver) = (Sender::new(&key), Receiver::new(&key, None));
    let mut sequence = 65_500_u16;
    let mut late: Vec<Vec<u8>> = Vec::new();
    let mut heard = 0;
    for number in 0..140_000_u32 {
        let plain = rtp(SSRC, sequence, &number.to_be_bytes());
        let packet = sealed(&mut sender, &plain);
        sequence = sequence.wrapping_add(1);
        match number % 7 {
            3 => {} // Lost.
            5 => late.push(packet),
            _ => {
                assert_eq!(open(&mut receiver, &packet), Ok(plain), "{number}");
                heard += 1;
            }
        }
        if late.len() == 4 {
            // Up to 27 packets late, also across the rollovers.
            for packet in late.drain(..).rev() {
                assert!(open(&mut receiver, &packet).is_ok(), "{number}");
                heard += 1;
            }
        }
    }
    assert!(heard > 119_000);
}

#[test]
fn who_joins_after_the_first_rollover_still_hears() {
    let key = key(Profile::AeadAes128Gcm, 4);
    let (mut sender, mut receiver) = (Sender::new(&key), Receiver::new(&key, None));
    sealed(&mut sender, &rtp(SSRC, 65_530, b"lost"));
    let plain = rtp(SSRC, 3, b"heard");
    assert_eq!(open(&mut receiver, &sealed(&mut sender, &plain)), Ok(plain));
}

#[test]
fn a_sequence_number_is_never_used_twice() {
    let mut sender = Sender::new(&key(Profile::AesCm128HmacSha1_80, 5));
    let mut out = Vec::new();
    for (sequence, result) in [
        (10, Ok(())),
        (10, Err(SrtpError::Replayed)),
        (9, Err(SrtpError::Replayed)),
        (12, Ok(())),
        (11, Err(SrtpError::Replayed)),
        (13, Ok(())),
    ] {
        assert_eq!(sender.protect_rtp(&rtp(SSRC, sequence, b"x"), &mut out), result, "{sequence}");
    }
    assert_eq!(sender.protect_rtp(&[0x80; 5], &mut out), Err(SrtpError::Malformed));
    assert_eq!(sender.protect_rtcp(&[0x80; 5], &mut out), Err(SrtpError::Malformed));
}

#[test]
fn sources_come_and_go_but_not_without_end() {
    let key = key(Profile::AesCm128HmacSha1_32, 6);
    let mut receiver = Receiver::new(&key, None);
    let packet_of = |ssrc: u32| sealed(&mut Sender::new(&key), &rtp(ssrc, 1, b"x"));
    // Nobody who lacks the key makes a source known.
    for ssrc in 0..10_000 {
        assert_eq!(open(&mut receiver, &rtp(ssrc, 1, &[9; 40])), Err(SrtpError::Forged));
    }
    for ssrc in 0..256 {
        assert!(open(&mut receiver, &packet_of(ssrc)).is_ok());
    }
    assert_eq!(open(&mut receiver, &packet_of(256)), Err(SrtpError::TooManySources));
    for ssrc in 0..256 {
        assert_eq!(open(&mut receiver, &packet_of(ssrc)), Err(SrtpError::Replayed), "{ssrc}");
    }
}

#[test]
fn an_identifier_of_the_key_is_demanded_and_taken_out() {
    for profile in Profile::ALL {
        let key = key(profile, 7);
        let mki = Mki::new(0xABCD, 3).unwrap();
        let mut receiver = Receiver::new(&key, Some(mki));
        let plain = rtp(SSRC, 1, &[1; 30]);
        let packet = sealed(&mut Sender::new(&key), &plain);
        let mut control = Vec::new();
        Sender::new(&key).protect_rtcp(&rtcp(SSRC), &mut control).unwrap();
        let with = |packet: &[u8], identifier: [u8; 3], tag: usize| {
            let behind = if profile.is_aead() { 0 } else { tag };
            let (front, back) = packet.split_at(packet.len() - behind);
            [front, &identifier, back].concat()
        };
        let (tag, control_tag) = (profile.rtp_tag_length(), profile.rtcp_tag_length());
        assert_eq!(open(&mut receiver, &packet), Err(SrtpError::Forged));
        let other = with(&packet, [0, 0xAB, 0xCE], tag);
        assert_eq!(open(&mut receiver, &other), Err(SrtpError::Forged));
        let right = with(&packet, [0, 0xAB, 0xCD], tag);
        assert_eq!(open(&mut receiver, &right), Ok(plain), "{profile:?}");
        let mut right = with(&control, [0, 0xAB, 0xCD], control_tag);
        let length = receiver.unprotect_rtcp(&mut right).unwrap();
        assert_eq!(right[..length], rtcp(SSRC));
    }
}

/// Two transports with keys that SDP has carried.
fn pair(profile: Profile) -> (SecureTransport, SecureTransport, SocketAddr, Instant) {
    let now = start();
    let (mut left, mut right) = (SecureTransport::new(None), SecureTransport::new(None));
    let address = SocketAddr::from(([192, 0, 2, 1], 4000));
    agree(&mut left, &mut right, key(profile, 8), key(profile, 9));
    (left, right, address, now)
}

fn agree(
    left: &mut SecureTransport,
    right: &mut SecureTransport,
    ours: MasterKey,
    theirs: MasterKey,
) {
    let address = SocketAddr::from(([192, 0, 2, 1], 4000));
    let peer = Peer { rtp: address, rtcp: address, anywhere: false };
    let security = MediaSecurity::Sdes { ours: ours.clone(), theirs: theirs.clone(), mki: None };
    left.apply(start(), &security, peer);
    let security = MediaSecurity::Sdes { ours: theirs, theirs: ours, mki: None };
    right.apply(start(), &security, peer);
}

#[test]
fn new_keys_take_over_while_packets_are_under_way() {
    for profile in [Profile::AesCm128HmacSha1_80, Profile::AeadAes256Gcm] {
        let (mut left, mut right, address, now) = pair(profile);
        let send = |left: &mut SecureTransport, sequence| {
            left.protect(Port::Rtp, &rtp(SSRC, sequence, &[5; 160])).unwrap().to_vec()
        };
        let hear = |right: &mut SecureTransport, mut packet: Vec<u8>| {
            right.unprotect(now, Port::Rtp, address, &mut packet).is_some()
        };
        let packet = send(&mut left, 1);
        assert!(hear(&mut right, packet));
        let under_way = [send(&mut left, 2), send(&mut left, 3)];
        agree(&mut left, &mut right, key(profile, 8), key(profile, 9));
        let same = send(&mut left, 4);
        assert!(hear(&mut right, same.clone()) && !hear(&mut right, same), "the window went on");
        agree(&mut left, &mut right, key(profile, 10), key(profile, 9));
        for packet in under_way {
            assert!(hear(&mut right, packet));
        }
        let packet = send(&mut left, 5);
        assert!(hear(&mut right, packet));
        let mut back = right.protect(Port::Rtcp, &rtcp(77)).unwrap().to_vec();
        assert_eq!(left.unprotect(now, Port::Rtcp, address, &mut back), Some(rtcp(77).len()));
        // In clear again, if that is what both want.
        let peer = Peer { rtp: address, rtcp: address, anywhere: false };
        right.apply(now, &MediaSecurity::Plain, peer);
        assert_eq!(right.protect(Port::Rtp, &rtp(1, 1, b"x")), Some(&rtp(1, 1, b"x")[..]));
    }
}

#[test]
fn nothing_enters_in_clear_and_all_that_is_counted() {
    let (mut left, mut right, address, now) = pair(Profile::AesCm128HmacSha1_80);
    let mut drop = |mut packet: Vec<u8>| right.unprotect(now, Port::Rtp, address, &mut packet);
    assert_eq!(drop(rtp(SSRC, 1, &[0xD5; 160])), None);
    assert_eq!(drop(rtcp(SSRC)), None);
    assert_eq!(drop(vec![0x80]), None);
    assert_eq!(drop(vec![22; 40]), None, "a handshake that nobody has agreed on");
    let packet = left.protect(Port::Rtp, &rtp(SSRC, 1, b"x")).unwrap().to_vec();
    assert!(drop(packet.clone()).is_some());
    assert_eq!(drop(packet), None);
    let counters = right.counters();
    assert_eq!((counters.forged, counters.replayed, counters.malformed), (2, 1, 2));
    assert_eq!(left.protect(Port::Rtp, &rtp(SSRC, 1, b"x")), None);
    assert_eq!(left.counters().unsent, 1);
    let (printed, bytes) = (format!("{left:?}"), format!("{:?}", [8, 9, 10, 11, 12]));
    assert!(!printed.contains(bytes.trim_matches(['[', ']'])), "no key in {printed}");
}

#[test]
fn a_packet_takes_nothing_from_the_heap() {
    for profile in Profile::ALL {
        let (mut left, mut right, address, now) = pair(profile);
        let mut datagram = [0; 2048];
        let mut carry = |sequence: u16, left: &mut SecureTransport, packet: &mut Vec<u8>, port| {
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            let sent = left.protect(port, packet).unwrap();
            datagram[..sent.len()].copy_from_slice(sent);
            let arrived = &mut datagram[..sent.len()];
            assert_eq!(right.unprotect(now, port, address, arrived), Some(packet.len()));
        };
        let (mut media, mut control) = (rtp(SSRC, 0, &[0xD5; 160]), rtcp(SSRC));
        carry(1, &mut left, &mut media, Port::Rtp);
        carry(7, &mut left, &mut control, Port::Rtcp);
        let before = ALLOCATIONS.get();
        for sequence in 2..1000 {
            carry(sequence, &mut left, &mut media, Port::Rtp);
            if sequence % 100 == 0 {
                carry(7, &mut left, &mut control, Port::Rtcp);
            }
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{profile:?}");
    }
}

proptest! {
    #[test]
    fn garbage_is_dropped_and_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 120_u8..200) {
        for profile in [Profile::AesCm128HmacSha1_80, Profile::AeadAes128Gcm] {
            for mki in [None, Mki::new(1, 4)] {
                let mut receiver = Receiver::new(&key(profile, 1), mki);
                let mut bytes = bytes.clone();
                if let Some(byte) = bytes.first_mut() { *byte = first; }
                prop_assert!(receiver.unprotect_rtp(&mut bytes.clone()).is_err());
                prop_assert!(receiver.unprotect_rtcp(&mut bytes.clone()).is_err());
                let mut out = Vec::new();
                let _ = Sender::new(&key(profile, 1)).protect_rtp(&bytes, &mut out);
                let _ = Sender::new(&key(profile, 1)).protect_rtcp(&bytes, &mut out);
            }
        }
    }

    #[test]
    fn any_header_and_any_payload_come_back(
        contributing in 0_u8..16, words in proptest::option::of(0_u16..8),
        payload in proptest::collection::vec(any::<u8>(), 0..300), sequence in any::<u16>(),
    ) {
        let mut packet = vec![0x80 | contributing | if words.is_some() { 0x10 } else { 0 }, 96];
        packet.extend(sequence.to_be_bytes());
        packet.extend([0; 8]);
        packet.extend(vec![7; usize::from(contributing) * 4]);
        if let Some(words) = words {
            packet.extend([0xBE, 0xDE]);
            packet.extend(words.to_be_bytes());
            packet.extend(vec![8; usize::from(words) * 4]);
        }
        let header = packet.len();
        packet.extend(&payload);
        for profile in Profile::ALL {
            let key = key(profile, 3);
            let sent = sealed(&mut Sender::new(&key), &packet);
            prop_assert_eq!(&sent[..header], &packet[..header]);
            prop_assert_eq!(open(&mut Receiver::new(&key, None), &sent), Ok(packet.clone()));
        }
    }
}
