//! Which packets are lost: patterns of an exact count, from a seed.

/// How losses lie in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Each packet on its own.
    Random,
    /// In bursts of three packets in the mean, as from a Gilbert channel.
    Burst,
}

impl Shape {
    /// What a table calls it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Burst => "burst",
        }
    }
}

/// A packet ends its burst with a chance of one in so many: the mean length of bursts.
const MEAN_BURST: u64 = 3;

/// Whether each of `packets` is lost: `percent` of them, rounded. The first and the last always arrive.
///
/// The count is exact, so that seeds differ in where losses lie and not in how many there are.
pub fn pattern(shape: Shape, percent: usize, packets: usize, seed: u64) -> Vec<bool> {
    let count = ((packets * percent + 50) / 100).min(packets.saturating_sub(2) / 2);
    let mut random = Random::new(seed);
    let bursts = match shape {
        Shape::Random => vec![1; count],
        Shape::Burst => bursts(count, &mut random),
    };
    // Runs of losses lie between the packets that arrive: behind the first, before the last. Random ones may touch.
    let mut lost = vec![false; packets];
    match shape {
        Shape::Random => {
            for place in choose(count, packets.saturating_sub(2), &mut random) {
                lost[place + 1] = true;
            }
        }
        Shape::Burst => {
            let gaps = (packets - count).saturating_sub(1);
            let mut at = 0;
            let mut previous = 0;
            for (gap, length) in choose(bursts.len(), gaps, &mut random).into_iter().zip(bursts) {
                at += gap + 1 - previous;
                previous = gap + 1;
                lost[at..at + length].fill(true);
                at += length;
            }
        }
    }
    lost
}

/// Lengths, geometrically distributed, that add up to `count`.
fn bursts(count: usize, random: &mut Random) -> Vec<usize> {
    let (mut lengths, mut left) = (Vec::new(), count);
    while left > 0 {
        let mut length = 1;
        while length < left && random.below(MEAN_BURST) != 0 {
            length += 1;
        }
        lengths.push(length);
        left -= length;
    }
    lengths
}

/// `count` different numbers below `bound`, rising.
fn choose(count: usize, bound: usize, random: &mut Random) -> Vec<usize> {
    let mut all: Vec<usize> = (0..bound).collect();
    let count = count.min(bound);
    for n in 0..count {
        let other = n + random.below((bound - n) as u64) as usize;
        all.swap(n, other);
    }
    all.truncate(count);
    all.sort_unstable();
    all
}

/// SplitMix64: its numbers are the same in every version of everything.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of numbers of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// A number from 0 up to `bound`, without it; even to one part in 2^32 for the small bounds used here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        ((z >> 32) * bound) >> 32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(lost: &[bool]) -> Vec<usize> {
        lost.split(|lost| !lost).map(<[bool]>::len).filter(|length| *length > 0).collect()
    }

    #[test]
    fn the_count_is_exact_and_the_ends_arrive() {
        for shape in [Shape::Random, Shape::Burst] {
            for (percent, packets, count) in [(0, 500, 0), (1, 480, 5), (5, 500, 25), (10, 433, 43)]
            {
                for seed in 0..200 {
                    let lost = pattern(shape, percent, packets, seed);
                    let found = lost.iter().filter(|lost| **lost).count();
                    assert_eq!((lost.len(), found), (packets, count), "{shape:?} {percent} {seed}");
                    assert!(!lost[0] && !lost[packets - 1], "{shape:?} {percent} {seed}");
                }
            }
        }
    }

    #[test]
    fn bursts_are_three_packets_long_in_the_mean_and_random_losses_are_not() {
        let mean = |shape| {
            let all: Vec<usize> =
                (0..500).flat_map(|seed| lengths(&pattern(shape, 5, 2_000, seed))).collect();
            all.iter().sum::<usize>() as f64 / all.len() as f64
        };
        let (random, burst) = (mean(Shape::Random), mean(Shape::Burst));
        assert!((1.0..1.1).contains(&random), "{random}");
        // The last burst of each pattern ends where the count is full.
        assert!((2.7..3.1).contains(&burst), "{burst}");
    }

    #[test]
    fn losses_lie_everywhere_alike() {
        for shape in [Shape::Random, Shape::Burst] {
            let mut quarters = [0; 4];
            for seed in 0..2_000 {
                for (n, lost) in pattern(shape, 5, 400, seed).into_iter().enumerate() {
                    quarters[n / 100] += usize::from(lost);
                }
            }
            for quarter in quarters {
                assert!((9_200..10_800).contains(&quarter), "{shape:?}: {quarters:?}");
            }
        }
    }

    #[test]
    fn a_seed_means_the_same_for_ever() {
        // Reports of different years compare the same losses.
        let places = |shape, seed| -> Vec<usize> {
            let lost = pattern(shape, 5, 100, seed).into_iter().enumerate();
            lost.filter_map(|(n, lost)| lost.then_some(n)).collect()
        };
        assert_eq!(places(Shape::Random, 1), [4, 14, 35, 43, 96]);
        assert_eq!(places(Shape::Burst, 1), [18, 19, 33, 34, 77]);
        assert_ne!(places(Shape::Random, 1), places(Shape::Random, 2));
    }

    #[test]
    fn a_stream_too_short_to_lose_from_loses_nothing() {
        for packets in 0..3 {
            for shape in [Shape::Random, Shape::Burst] {
                assert!(!pattern(shape, 10, packets, 1).contains(&true), "{packets}");
            }
        }
    }
}
