//! How many connections one source may open in a while.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Sources that are remembered.
const MAX_SOURCES: usize = 4_096;

/// A bucket of tokens for each source: `burst` connections at once, `per_second` in the long run.
#[derive(Debug)]
pub(super) struct SourceRate {
    /// What one connection costs.
    cost: Duration,
    /// What a full bucket holds.
    full: Duration,
    /// When each source's bucket is full again.
    full_at: HashMap<IpAddr, Instant>,
}

impl SourceRate {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let cost = Duration::from_secs(1) / per_second.max(1);
        Self { cost, full: cost * burst.max(1), full_at: HashMap::new() }
    }

    /// Whether `source` may open one more connection at `now`; one that may not costs it nothing.
    pub(super) fn admit(&mut self, now: Instant, source: IpAddr) -> bool {
        let source = network(source);
        if self.full_at.len() >= MAX_SOURCES && !self.full_at.contains_key(&source) {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= MAX_SOURCES {
                return false;
            }
        }
        let full_at = self.full_at.entry(source).or_insert(now);
        let after = (*full_at).max(now) + self.cost;
        if after > now + self.full {
            return false;
        }
        *full_at = after;
        true
    }
}

/// The address, or for IPv6 the /64 that one host has to itself.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = Instant::now();
        let mut rate = SourceRate::new(10, 3);
        let source = "192.0.2.1".parse().unwrap();
        let admitted = |rate: &mut SourceRate, at| rate.admit(start + millis(at), source);
        let first: Vec<_> = (0..5).map(|_| admitted(&mut rate, 0)).collect();
        assert_eq!(first, [true, true, true, false, false]);
        assert!(!admitted(&mut rate, 99));
        assert!(admitted(&mut rate, 100));
        assert!(!admitted(&mut rate, 101));
        let later: Vec<_> = (0..4).map(|_| admitted(&mut rate, 10_000)).collect();
        assert_eq!(later, [true, true, true, false]);
    }

    #[test]
    fn sources_do_not_share_except_within_a_host() {
        let now = Instant::now();
        let mut rate = SourceRate::new(1, 1);
        for (source, admitted) in [
            ("192.0.2.1", true),
            ("192.0.2.2", true),
            ("::ffff:192.0.2.2", false),
            ("2001:db8::1", true),
            ("2001:db8::ffff:1", false),
            ("2001:db8:0:1::1", true),
        ] {
            assert_eq!(rate.admit(now, source.parse().unwrap()), admitted, "{source}");
        }
    }

    #[test]
    fn sources_beyond_count_take_no_memory() {
        let now = Instant::now();
        let mut rate = SourceRate::new(1, 1);
        for number in 0..10_000_u32 {
            let admitted = rate.admit(now, std::net::Ipv4Addr::from_bits(number).into());
            assert_eq!(admitted, (number as usize) < MAX_SOURCES);
        }
        assert_eq!(rate.full_at.len(), MAX_SOURCES);
        // Those whose bucket is full again are forgotten.
        assert!(rate.admit(now + millis(1_000), "192.0.2.1".parse().unwrap()));
        assert_eq!(rate.full_at.len(), 1);
    }
}
