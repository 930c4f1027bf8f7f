//! A link for datagrams that loses, delays, reorders and doubles them the same way for the same seed.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

use fastrand::Rng;

/// What a link does to datagrams. The default is a perfect link.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LinkConditions {
    /// Datagrams lost, in percent.
    pub loss_percent: f64,
    /// Time every datagram takes at least.
    pub delay: Duration,
    /// Added to the delay, evenly spread from nothing to this. Alone it never changes the order of arrival.
    pub jitter: Duration,
    /// Datagrams that are held back so that later ones overtake them, in percent.
    pub reorder_percent: f64,
    /// How long a held-back datagram is held.
    pub reorder_by: Duration,
    /// Datagrams that arrive twice, in percent.
    pub duplicate_percent: f64,
}

/// What a link has done so far, in datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Put in.
    pub pushed: u64,
    /// Lost on purpose.
    pub lost: u64,
    /// Delivered twice on purpose.
    pub duplicated: u64,
    /// Held back on purpose.
    pub held_back: u64,
    /// Thrown away because [`LossyLink::CAPACITY`] datagrams were on their way already.
    pub overflowed: u64,
    /// Taken out.
    pub delivered: u64,
}

/// One direction of a network between two sockets, on virtual time.
#[derive(Debug)]
pub struct LossyLink {
    conditions: LinkConditions,
    random: Rng,
    in_flight: BinaryHeap<Reverse<InFlight>>,
    next_order: u64,
    latest_arrival: Option<Instant>,
    stats: LinkStats,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    arrives: Instant,
    order: u64,
    datagram: Vec<u8>,
}

impl LossyLink {
    /// Most datagrams on their way at once; more are thrown away and counted.
    pub const CAPACITY: usize = 65_536;

    /// A link whose every decision follows from `seed`.
    pub fn seeded(seed: u64, conditions: LinkConditions) -> Self {
        Self {
            conditions,
            random: Rng::with_seed(seed),
            in_flight: BinaryHeap::new(),
            next_order: 0,
            latest_arrival: None,
            stats: LinkStats::default(),
        }
    }

    /// Changes what happens to the datagrams pushed from now on.
    pub fn set_conditions(&mut self, conditions: LinkConditions) {
        self.conditions = conditions;
    }

    /// Puts in a datagram sent at `now`.
    pub fn push(&mut self, now: Instant, datagram: &[u8]) {
        self.stats.pushed += 1;
        // Every datagram draws the same numbers, so changing one condition does not reshuffle the others.
        let [lost, jitter, held_back, duplicated, second_jitter] =
            std::array::from_fn(|_| self.random.f64());
        if lost * 100.0 < self.conditions.loss_percent {
            self.stats.lost += 1;
            return;
        }
        let on_time = now + self.conditions.delay + self.conditions.jitter.mul_f64(jitter);
        if held_back * 100.0 < self.conditions.reorder_percent {
            self.stats.held_back += 1;
            self.carry(on_time + self.conditions.reorder_by, datagram);
        } else {
            let in_order = self.latest_arrival.map_or(on_time, |latest| latest.max(on_time));
            self.latest_arrival = Some(in_order);
            self.carry(in_order, datagram);
        }
        if duplicated * 100.0 < self.conditions.duplicate_percent {
            self.stats.duplicated += 1;
            let copy = on_time + self.conditions.jitter.mul_f64(second_jitter);
            self.carry(copy, datagram);
        }
    }

    /// Takes out the next datagram that has arrived by `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<Vec<u8>> {
        if self.in_flight.peek()?.0.arrives > now {
            return None;
        }
        self.stats.delivered += 1;
        self.in_flight.pop().map(|Reverse(arrived)| arrived.datagram)
    }

    /// When the next datagram arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.in_flight.peek().map(|next| next.0.arrives)
    }

    /// What the link has done so far.
    pub fn stats(&self) -> LinkStats {
        self.stats
    }

    fn carry(&mut self, arrives: Instant, datagram: &[u8]) {
        if self.in_flight.len() >= Self::CAPACITY {
            self.stats.overflowed += 1;
            return;
        }
        let order = self.next_order;
        self.next_order += 1;
        self.in_flight.push(Reverse(InFlight { arrives, order, datagram: datagram.to_vec() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    /// Sends `count` numbered datagrams 20 ms apart and returns what came out, with the time each took.
    fn carry_all(seed: u64, conditions: LinkConditions, count: u32) -> Vec<(u32, Duration)> {
        let mut link = LossyLink::seeded(seed, conditions);
        let start = Instant::now();
        let mut out = Vec::new();
        for tick in 0..count + 100 {
            let now = start + FRAME * tick;
            if tick < count {
                link.push(now, &tick.to_be_bytes());
            }
            while let Some(datagram) = link.pop_due(now) {
                let number = u32::from_be_bytes(datagram.try_into().unwrap());
                out.push((number, now - (start + FRAME * number)));
            }
        }
        assert_eq!(link.next_arrival(), None);
        assert_eq!(link.stats().delivered, out.len() as u64);
        out
    }

    #[test]
    fn a_perfect_link_changes_nothing() {
        let out = carry_all(1, LinkConditions::default(), 500);
        let expected: Vec<_> = (0..500).map(|number| (number, Duration::ZERO)).collect();
        assert_eq!(out, expected);
    }

    #[test]
    fn the_same_seed_gives_the_same_network() {
        let bad = LinkConditions {
            loss_percent: 5.0,
            delay: Duration::from_millis(30),
            jitter: Duration::from_millis(15),
            reorder_percent: 3.0,
            reorder_by: Duration::from_millis(50),
            duplicate_percent: 2.0,
        };
        assert_eq!(carry_all(7, bad, 2_000), carry_all(7, bad, 2_000));
        assert_ne!(carry_all(7, bad, 2_000), carry_all(8, bad, 2_000));
    }

    #[test]
    fn each_condition_does_what_it_says() {
        let numbers = |conditions| -> Vec<u32> {
            carry_all(3, conditions, 5_000).into_iter().map(|(number, _)| number).collect()
        };
        let lossy = numbers(LinkConditions { loss_percent: 10.0, ..LinkConditions::default() });
        assert!((4_350..4_650).contains(&lossy.len()), "{}", lossy.len());
        assert!(lossy.is_sorted());

        let jittery = LinkConditions { jitter: 3 * FRAME, ..LinkConditions::default() };
        let jittery = numbers(jittery);
        assert_eq!(jittery.len(), 5_000);
        assert!(jittery.is_sorted(), "jitter alone keeps the order");

        let reordering = LinkConditions {
            reorder_percent: 5.0,
            reorder_by: 2 * FRAME,
            ..LinkConditions::default()
        };
        let reordered = numbers(reordering);
        assert_eq!(reordered.len(), 5_000);
        assert!(!reordered.is_sorted());

        let doubled = LinkConditions { duplicate_percent: 5.0, ..LinkConditions::default() };
        let doubled = numbers(doubled);
        assert!((5_150..5_350).contains(&doubled.len()), "{}", doubled.len());
    }
}
