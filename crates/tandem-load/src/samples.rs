//! Every sample kept, and the percentiles of all of them.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// What a pile of latencies comes to. Percentiles are samples that were seen (nearest rank), never between two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// How many samples.
    pub n: usize,
    /// The median.
    #[serde(rename = "p50_us", serialize_with = "micros")]
    pub p50: Duration,
    /// 99 of 100 are not above it.
    #[serde(rename = "p99_us", serialize_with = "micros")]
    pub p99: Duration,
    /// 999 of 1000 are not above it.
    #[serde(rename = "p999_us", serialize_with = "micros")]
    pub p999: Duration,
    /// The largest.
    #[serde(rename = "max_us", serialize_with = "micros")]
    pub max: Duration,
}

impl Summary {
    /// Sums up `samples`, in any order; of none, all is zero.
    pub fn of(mut samples: Vec<Duration>) -> Self {
        samples.sort_unstable();
        let rank = |per_mille: usize| {
            let rank = (samples.len() * per_mille).div_ceil(1000).max(1);
            samples.get(rank - 1).copied().unwrap_or_default()
        };
        Self { n: samples.len(), p50: rank(500), p99: rank(990), p999: rank(999), max: rank(1000) }
    }
}

/// Writes microseconds with a tenth.
pub(crate) fn micros<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((duration.as_secs_f64() * 1e7).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let millis = |n: &[u64]| n.iter().copied().map(Duration::from_millis).collect::<Vec<_>>();
        let thousand: Vec<u64> = (1..=1000).rev().collect();
        for (name, samples, expected) in [
            ("none", vec![], [0, 0, 0, 0]),
            ("one", millis(&[7]), [7, 7, 7, 7]),
            ("two", millis(&[9, 1]), [1, 9, 9, 9]),
            ("three", millis(&[3, 1, 2]), [2, 3, 3, 3]),
            ("a thousand, upside down", millis(&thousand), [500, 990, 999, 1000]),
        ] {
            let summary = Summary::of(samples.clone());
            let found = [summary.p50, summary.p99, summary.p999, summary.max];
            assert_eq!(found, expected.map(Duration::from_millis), "{name}");
            assert_eq!(summary.n, samples.len(), "{name}");
        }
    }

    #[test]
    fn json_is_in_microseconds() {
        let summary = Summary::of(vec![Duration::from_nanos(1_234_560)]);
        let json = serde_json::to_value(summary).unwrap();
        assert_eq!(json["p99_us"], 1234.6);
        assert_eq!(json["n"], 1);
    }
}
