//! Puts the packets of one source into the order they were sent in, without delaying those that are in order.

use std::time::{Duration, Instant};

use crate::RtpPacket;

/// How long a gap may be held open, from the packet that revealed it.
pub const MAX_HOLD: Duration = Duration::from_millis(60);

/// A sequence number further off than this belongs to a source that began anew.
const MAX_JUMP: i16 = 100;
const MAX_JUMP_BACK: i16 = -MAX_JUMP;

/// Packets held behind a gap: 60 ms of the shortest packets, and a burst.
const MAX_HELD: usize = 16;

/// What became of a packet that was inserted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// It is the next one: use it now, then [`Reorder::pop`] what waited for it.
    InOrder,
    /// A new SSRC or a sequence far off: use it now; nothing between it and the past is missing. What still waited is
    /// gone, unless it was taken with [`Reorder::give_up`].
    NewSource,
    /// It is kept until the gap before it is filled or given up.
    Held,
    /// It has been here before.
    Duplicate,
    /// The gap it belongs to had been given up.
    Late,
}

/// A packet as the decoder wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ArrivedPacket<'a> {
    /// When it arrived.
    pub arrival: Instant,
    /// Its payload type.
    pub payload_type: u8,
    /// Its sequence number.
    pub sequence: u16,
    /// Its RTP timestamp.
    pub timestamp: u32,
    /// What it carries.
    pub payload: &'a [u8],
}

/// A packet that waited, and how many before it never came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Released<'a> {
    /// Packets given up right before this one.
    pub missing: u16,
    /// The packet.
    pub packet: ArrivedPacket<'a>,
}

/// Reordering without a jitter buffer: only a gap waits, for [`MAX_HOLD`] at most.
///
/// After each `insert` and each `deadline`, `pop` is to be called until it gives nothing; before an `insert` that
/// [`begins_source`](Self::begins_source), `give_up`.
#[derive(Debug, Default)]
pub struct Reorder {
    source: Option<Source>,
    held: [Slot; MAX_HELD],
}

#[derive(Debug)]
struct Source {
    ssrc: u32,
    /// The sequence number that comes next.
    next: u16,
    /// Bit n is set when `next - 1 - n` arrived.
    arrived: u128,
}

#[derive(Debug, Default)]
struct Slot {
    /// None when the slot is free.
    arrival: Option<Instant>,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    payload: Vec<u8>,
}

impl Reorder {
    /// Takes a packet that arrived at `now`; it is copied only when it has to wait.
    pub fn insert(&mut self, now: Instant, packet: &RtpPacket<'_>) -> Inserted {
        let Some(source) = self.source.as_mut().filter(|source| source.continues_with(packet))
        else {
            return self.start_source(packet);
        };
        match packet.sequence.wrapping_sub(source.next).cast_signed() {
            0 => {
                source.advance(0);
                Inserted::InOrder
            }
            1.. => self.hold(now, packet),
            behind => {
                let bit = 1 << (-1 - behind);
                if source.arrived & bit != 0 {
                    return Inserted::Duplicate;
                }
                source.arrived |= bit;
                Inserted::Late
            }
        }
    }

    /// Whether `packet` ends the source there is: it has a new SSRC or its sequence is far off.
    pub fn begins_source(&self, packet: &RtpPacket<'_>) -> bool {
        !self.source.as_ref().is_some_and(|source| source.continues_with(packet))
    }

    /// The next packet that is ready at `now`.
    pub fn pop(&mut self, now: Instant) -> Option<Released<'_>> {
        let due = self.deadline().is_some_and(|deadline| deadline <= now)
            || self.held.iter().all(|slot| slot.arrival.is_some());
        self.release(due)
    }

    /// The next packet that waits, however new the gap before it: nothing will fill it any more.
    pub fn give_up(&mut self) -> Option<Released<'_>> {
        self.release(true)
    }

    fn release(&mut self, due: bool) -> Option<Released<'_>> {
        let source = self.source.as_mut()?;
        let next = source.next;
        let slot = self
            .held
            .iter_mut()
            .filter(|slot| slot.arrival.is_some())
            .min_by_key(|slot| slot.sequence.wrapping_sub(next))?;
        let missing = slot.sequence.wrapping_sub(next);
        if missing > 0 && !due {
            return None;
        }
        source.advance(missing);
        Some(Released {
            missing,
            packet: ArrivedPacket {
                arrival: slot.arrival.take().expect("only taken slots were looked at"),
                payload_type: slot.payload_type,
                sequence: slot.sequence,
                timestamp: slot.timestamp,
                payload: &slot.payload,
            },
        })
    }

    /// When the gap in front is given up; none when nothing waits.
    pub fn deadline(&self) -> Option<Instant> {
        self.held.iter().filter_map(|slot| slot.arrival).min().map(|revealed| revealed + MAX_HOLD)
    }

    fn start_source(&mut self, packet: &RtpPacket<'_>) -> Inserted {
        for slot in &mut self.held {
            slot.arrival = None;
        }
        self.source =
            Some(Source { ssrc: packet.ssrc, next: packet.sequence.wrapping_add(1), arrived: 1 });
        Inserted::NewSource
    }

    fn hold(&mut self, now: Instant, packet: &RtpPacket<'_>) -> Inserted {
        let taken = |slot: &Slot| slot.arrival.is_some() && slot.sequence == packet.sequence;
        if self.held.iter().any(taken) {
            return Inserted::Duplicate;
        }
        let Some(slot) = self.held.iter_mut().find(|slot| slot.arrival.is_none()) else {
            return Inserted::Late; // Only when nobody popped.
        };
        slot.arrival = Some(now);
        slot.payload_type = packet.payload_type;
        slot.sequence = packet.sequence;
        slot.timestamp = packet.timestamp;
        slot.payload.clear();
        slot.payload.extend_from_slice(packet.payload);
        Inserted::Held
    }
}

impl Source {
    fn continues_with(&self, packet: &RtpPacket<'_>) -> bool {
        let ahead = packet.sequence.wrapping_sub(self.next).cast_signed();
        self.ssrc == packet.ssrc && (MAX_JUMP_BACK..=MAX_JUMP).contains(&ahead)
    }

    /// Steps over `missing` packets and the one after them, which arrived.
    fn advance(&mut self, missing: u16) {
        self.next = self.next.wrapping_add(missing).wrapping_add(1);
        let shift = u32::from(missing) + 1;
        self.arrived = self.arrived.checked_shl(shift).unwrap_or(0) | 1;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PTIME: Duration = Duration::from_millis(20);

    fn packet(ssrc: u32, sequence: u16) -> RtpPacket<'static> {
        RtpPacket {
            marker: false,
            payload_type: 0,
            sequence,
            timestamp: u32::from(sequence) * 160,
            ssrc,
            csrc: &[],
            extension: None,
            payload: &[1, 2, 3],
            padding: 0,
        }
    }

    #[derive(Debug, PartialEq)]
    enum Out {
        Packet(u16),
        Missing(u16),
    }

    struct Bench {
        reorder: Reorder,
        now: Instant,
        out: Vec<Out>,
        late: usize,
        duplicates: usize,
    }

    fn take(released: Released<'_>, out: &mut Vec<Out>) {
        if released.missing > 0 {
            out.push(Out::Missing(released.missing));
        }
        out.push(Out::Packet(released.packet.sequence));
        assert_eq!(released.packet.payload, [1, 2, 3]);
    }

    impl Bench {
        fn new() -> Self {
            let (now, out) = (crate::testing::start(), Vec::new());
            Self { reorder: Reorder::default(), now, out, late: 0, duplicates: 0 }
        }

        fn arrive(&mut self, ssrc: u32, sequence: u16) {
            if self.reorder.begins_source(&packet(ssrc, sequence)) {
                while let Some(released) = self.reorder.give_up() {
                    take(released, &mut self.out);
                }
            }
            match self.reorder.insert(self.now, &packet(ssrc, sequence)) {
                Inserted::InOrder | Inserted::NewSource => self.out.push(Out::Packet(sequence)),
                Inserted::Held => {}
                Inserted::Late => self.late += 1,
                Inserted::Duplicate => self.duplicates += 1,
            }
            self.drain();
        }

        fn drain(&mut self) {
            while let Some(released) = self.reorder.pop(self.now) {
                take(released, &mut self.out);
            }
        }

        /// Goes to `at`, giving up on the way what is due.
        fn run_until(&mut self, at: Instant) {
            while let Some(deadline) = self.reorder.deadline().filter(|deadline| *deadline <= at) {
                self.now = self.now.max(deadline);
                self.drain();
            }
            self.now = at;
        }
    }

    #[test]
    fn packets_leave_in_order() {
        for (name, first, arrivals, expected, late, duplicates) in [
            ("in order", 7, vec![8, 9], vec![8, 9], 0, 0),
            ("wrap", 65_534, vec![65_535, 0, 1], vec![65_535, 0, 1], 0, 0),
            ("swapped", 7, vec![9, 8, 10], vec![8, 9, 10], 0, 0),
            ("swapped at the wrap", 65_534, vec![0, 65_535, 1], vec![65_535, 0, 1], 0, 0),
            ("depth three", 7, vec![9, 10, 11, 8], vec![8, 9, 10, 11], 0, 0),
            ("doubled", 7, vec![7, 8, 8, 9], vec![8, 9], 0, 2),
            ("doubled while held", 7, vec![9, 9, 8], vec![8, 9], 0, 1),
            ("older than the first", 7, vec![6, 8], vec![8], 1, 0),
            ("jump ahead", 7, vec![8, 110, 111], vec![8, 110, 111], 0, 0),
            ("jump back", 1007, vec![1008, 908, 909], vec![1008, 908, 909], 0, 0),
        ] {
            let mut bench = Bench::new();
            bench.arrive(1, first);
            for sequence in arrivals {
                bench.arrive(1, sequence);
            }
            let expected: Vec<_> =
                std::iter::once(first).chain(expected).map(Out::Packet).collect();
            assert_eq!(bench.out, expected, "{name}");
            assert_eq!((bench.late, bench.duplicates), (late, duplicates), "{name}");
        }
    }

    #[test]
    fn a_gap_is_given_up_60_ms_after_it_showed() {
        let mut bench = Bench::new();
        let start = bench.now;
        bench.arrive(1, 7);
        bench.run_until(start + 2 * PTIME);
        bench.arrive(1, 9);
        bench.run_until(start + 3 * PTIME);
        bench.arrive(1, 10);
        assert_eq!(bench.reorder.deadline(), Some(start + 2 * PTIME + MAX_HOLD));
        bench.run_until(start + 2 * PTIME + MAX_HOLD - Duration::from_millis(1));
        assert_eq!(bench.out, [Out::Packet(7)]);
        bench.run_until(start + 2 * PTIME + MAX_HOLD);
        assert_eq!(bench.out, [Out::Packet(7), Out::Missing(1), Out::Packet(9), Out::Packet(10)]);
        bench.arrive(1, 8);
        bench.arrive(1, 8);
        assert_eq!((bench.late, bench.duplicates), (1, 1));
    }

    #[test]
    fn a_new_source_starts_after_what_was_held_of_the_last_one() {
        for (name, ssrc, first) in
            [("another SSRC", 2, 500), ("the same numbers", 2, 8), ("a jump", 1, 30_000)]
        {
            let mut bench = Bench::new();
            for sequence in [7, 12, 9, 10] {
                bench.arrive(1, sequence);
            }
            assert_eq!(bench.out, [Out::Packet(7)], "{name}");
            bench.arrive(ssrc, first);
            bench.arrive(ssrc, first + 1);
            let expected = [
                Out::Packet(7),
                Out::Missing(1),
                Out::Packet(9),
                Out::Packet(10),
                Out::Missing(1),
                Out::Packet(12),
                Out::Packet(first),
                Out::Packet(first + 1),
            ];
            assert_eq!(bench.out, expected, "{name}");
            assert_eq!(bench.reorder.deadline(), None, "{name}");
        }
    }

    #[test]
    fn what_nobody_took_of_the_last_source_does_not_come_after_the_new_one() {
        let mut bench = Bench::new();
        bench.arrive(1, 7);
        bench.arrive(1, 9);
        assert!(bench.reorder.begins_source(&packet(2, 10)));
        assert_eq!(bench.reorder.insert(bench.now, &packet(2, 10)), Inserted::NewSource);
        assert!(bench.reorder.give_up().is_none());
        assert_eq!(bench.reorder.deadline(), None);
    }

    #[test]
    fn a_burst_behind_a_gap_is_not_held_without_bound() {
        let mut bench = Bench::new();
        bench.arrive(1, 7);
        for sequence in 9..40 {
            bench.arrive(1, sequence);
        }
        assert_eq!(bench.out[1], Out::Missing(1));
        assert_eq!(bench.out.len(), 2 + 31);
    }

    /// Numbers from a seed, spread well enough for a test.
    fn random(seed: &mut u64, below: u64) -> u64 {
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    }

    #[test]
    fn nothing_is_late_at_20_ms_jitter_and_reordering_of_depth_three() {
        for seed in 0..50 {
            let mut bench = Bench::new();
            let start = bench.now;
            let mut state = seed;
            let mut arrivals: Vec<(Duration, u16)> = (0..500u16)
                .map(|n| {
                    // Every 40th packet is overtaken by three, the others are 0 to 40 ms late.
                    let late = if n > 0 && n % 40 == 0 {
                        Duration::from_micros(65_000)
                    } else {
                        Duration::from_micros(random(&mut state, 40_000))
                    };
                    (PTIME * u32::from(n) + late, n.wrapping_add(65_300))
                })
                .collect();
            let depth_three: Vec<_> = (40..500).step_by(40).collect();
            for n in depth_three {
                // Those right behind an overtaken packet come at their mean time, so that it is overtaken by three.
                for (at, sequence) in &mut arrivals[n + 1..(n + 4).min(500)] {
                    *at = PTIME * u32::from(sequence.wrapping_sub(65_300));
                }
            }
            arrivals[0].0 = Duration::ZERO;
            arrivals.sort();
            for (at, sequence) in arrivals {
                bench.run_until(start + at);
                bench.arrive(1, sequence);
            }
            assert_eq!((bench.late, bench.duplicates), (0, 0), "seed {seed}");
            let expected: Vec<_> =
                (0..500u16).map(|n| Out::Packet(n.wrapping_add(65_300))).collect();
            assert_eq!(bench.out, expected, "seed {seed}");
        }
    }

    proptest! {
        #[test]
        fn each_packet_leaves_once_in_order_or_is_accounted_for(
            first: u16,
            fates in proptest::collection::vec((0u32..90, 0u8..10, 0u8..10), 1..300),
        ) {
            let mut bench = Bench::new();
            let start = bench.now;
            let mut arrivals = vec![(0, 0u16)];
            for (n, (delay, lost, doubled)) in (1u16..).zip(fates) {
                let at = u32::from(n) * 20 + delay;
                if lost > 0 {
                    arrivals.push((at, n));
                }
                if doubled == 0 {
                    arrivals.push((at + 7, n));
                }
            }
            arrivals.sort_unstable();
            let sent = arrivals.len();
            for (at, n) in arrivals {
                bench.run_until(start + Duration::from_millis(u64::from(at)));
                bench.arrive(1, first.wrapping_add(n));
            }
            bench.run_until(start + Duration::from_secs(60));
            let mut next = 0u16;
            let mut left = 0;
            for out in &bench.out {
                match out {
                    Out::Packet(sequence) => {
                        prop_assert_eq!(sequence.wrapping_sub(first), next);
                        (next, left) = (next + 1, left + 1);
                    }
                    Out::Missing(count) => next += count,
                }
            }
            prop_assert_eq!(left + bench.late + bench.duplicates, sent);
        }
    }
}
