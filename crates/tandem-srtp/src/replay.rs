//! Packet indices of one source: rollover counter, which packets came already (RFC 3711 §3.3).

/// Packets behind the newest that are still told apart from repeated ones.
const WINDOW: u64 = 128;

/// What is remembered of one source of packets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    ssrc: u32,
    highest: u64,
    /// Bit n: the packet n before the highest came.
    seen: u128,
}

impl Source {
    /// A source of which the packet `index` was the first.
    pub(crate) const fn new(ssrc: u32, index: u64) -> Self {
        Self { ssrc, highest: index, seen: 1 }
    }

    pub(crate) const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The index that a packet with `sequence` most likely has (RFC 3711 §3.3.1); none when it lies before the first
    /// packet or behind the last that a key may have.
    pub(crate) fn guess(&self, sequence: u16) -> Option<u64> {
        let ahead = i64::from(sequence.wrapping_sub(self.highest as u16) as i16);
        let index = self.highest.checked_add_signed(ahead)?;
        (index < 1 << 48).then_some(index)
    }

    /// Whether the packet `index` may be new: not seen, and not too old to tell.
    pub(crate) const fn is_new(&self, index: u64) -> bool {
        if index > self.highest {
            return true;
        }
        let age = self.highest - index;
        age < WINDOW && self.seen >> age & 1 == 0
    }

    /// Whether `index` is above all others.
    pub(crate) const fn is_newest(&self, index: u64) -> bool {
        index > self.highest
    }

    /// Remembers the packet `index`, which is known to be authentic.
    pub(crate) const fn record(&mut self, index: u64) {
        if index > self.highest {
            let ahead = index - self.highest;
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.highest = index;
        } else if self.highest - index < WINDOW {
            self.seen |= 1 << (self.highest - index);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn indices_around_a_rollover() {
        for (highest, sequence, index) in [
            (0, 0, Some(0)),
            (0, 1, Some(1)),
            (0, 65535, None),
            (65535, 0, Some(65536)),
            (65536, 65535, Some(65535)),
            (65535, 65534, Some(65534)),
            (3 << 16 | 10, 65530, Some(2 << 16 | 65530)),
            (3 << 16 | 65530, 10, Some(4 << 16 | 10)),
            (3 << 16 | 0x8000, 0, Some(3 << 16)),
            (3 << 16 | 0x7FFF, 0xFFFE, Some(3 << 16 | 0xFFFE)),
            ((1 << 48) - 1, 0, None),
        ] {
            assert_eq!(Source::new(1, highest).guess(sequence), index, "{highest:#x} {sequence}");
        }
    }

    proptest! {
        #[test]
        fn each_index_is_new_once(steps in proptest::collection::vec(-300_i64..300, 1..200)) {
            let mut source = Source::new(1, 1000);
            let mut taken = std::collections::BTreeSet::from([1000]);
            let (mut at, mut highest) = (1000_i64, 1000_i64);
            for step in steps {
                at = (at + step).max(0);
                let index = at as u64;
                let fresh = source.is_new(index);
                prop_assert_eq!(fresh, !taken.contains(&at) && at > highest - 128);
                if fresh {
                    source.record(index);
                    taken.insert(at);
                    highest = highest.max(at);
                }
                prop_assert!(!source.is_new(index));
            }
        }
    }
}
