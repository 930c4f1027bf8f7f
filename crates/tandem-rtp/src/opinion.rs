//! What a listener would say of the peer's stream: the E-model over the last ten seconds, and over the call.

use std::time::{Duration, Instant};

/// What a bucket counts.
const SECOND: Duration = Duration::from_secs(1);

/// Seconds in the window.
const WINDOW: usize = 10;

/// A window of fewer packets, 2 s of them, says too little to be the worst.
const MIN_PACKETS: u32 = 100;

/// What a listener's jitter buffer holds where there is no jitter: a packet.
const LEAST_BUFFER: Duration = Duration::from_millis(20);

/// What it holds at most; packets later than that are lost.
const MOST_BUFFER: Duration = Duration::from_millis(200);

/// The opinion of one leg's reception, by the E-model for narrowband whatever the codec: what it loses to the network.
///
/// Seconds are counted from the first packet. A second's end gives one window: it and the nine before it.
#[derive(Debug, Default)]
pub(crate) struct Opinion {
    seconds: [Second; WINDOW],
    present: usize,
    /// When the present second ends; none while the window is empty.
    second_ends: Option<Instant>,
    /// Over all windows: the score times the packets, and the packets.
    sum: f64,
    packets: f64,
    worst: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Second {
    heard: u32,
    /// Packets given up, come late or not.
    unheard: u32,
    /// Gaps those made.
    gaps: u32,
}

impl Opinion {
    /// Counts a packet whose turn it is at `now`, and the `missing` ones before it that were given up.
    pub(crate) fn record(&mut self, now: Instant, missing: u16) {
        self.second_ends.get_or_insert(now + SECOND);
        let second = &mut self.seconds[self.present];
        second.heard += 1;
        second.unheard += u32::from(missing);
        second.gaps += u32::from(missing > 0);
    }

    /// Whether a second is over at `now`.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.second_ends.is_some_and(|end| end <= now)
    }

    /// Closes the seconds that are over at `now`; `delay` is that of the path, one way.
    pub(crate) fn close_seconds(&mut self, now: Instant, delay: Duration) {
        while let Some(end) = self.second_ends.filter(|end| *end <= now) {
            let window = self.window();
            let Some(score) = window.score(delay) else {
                self.second_ends = None; // Nothing came for a whole window: the next packet begins anew.
                return;
            };
            self.sum += score * f64::from(window.packets());
            self.packets += f64::from(window.packets());
            self.worst = self.worse(&window, score);
            self.present = (self.present + 1) % WINDOW;
            self.seconds[self.present] = Second::default();
            self.second_ends = Some(end + SECOND);
        }
    }

    /// The present window's score; none when nothing came in it.
    pub(crate) fn live(&self, delay: Duration) -> Option<f64> {
        self.window().score(delay)
    }

    /// The mean score over all windows, by packets, and the worst; the present one included. None before the first packet.
    pub(crate) fn of_call(&self, delay: Duration) -> Option<(f64, f64)> {
        let window = self.window();
        let (mut sum, mut packets, mut worst) = (self.sum, self.packets, self.worst);
        if let Some(score) = window.score(delay) {
            sum += score * f64::from(window.packets());
            packets += f64::from(window.packets());
            worst = self.worse(&window, score);
        }
        let mean = (packets > 0.0).then(|| sum / packets)?;
        Some((mean, worst.map_or(mean, |worst| worst.min(mean))))
    }

    fn worse(&self, window: &Second, score: f64) -> Option<f64> {
        if window.packets() < MIN_PACKETS {
            return self.worst;
        }
        Some(self.worst.map_or(score, |worst| worst.min(score)))
    }

    /// The last ten seconds as one.
    fn window(&self) -> Second {
        self.seconds.iter().fold(Second::default(), |sum, second| Second {
            heard: sum.heard + second.heard,
            unheard: sum.unheard + second.unheard,
            gaps: sum.gaps + second.gaps,
        })
    }
}

impl Second {
    const fn packets(&self) -> u32 {
        self.heard + self.unheard
    }

    fn score(&self, delay: Duration) -> Option<f64> {
        if self.packets() == 0 {
            return None;
        }
        let loss = f64::from(self.unheard) / f64::from(self.packets());
        // Random loss makes gaps of 1 / (1 - loss) packets on average.
        let gap = f64::from(self.unheard) / f64::from(self.gaps.max(1));
        Some(mos(loss, gap * (1.0 - loss), delay))
    }
}

/// From mouth to ear, as far as the network makes it: half a round trip, none where it is unknown, and a jitter buffer
/// of a packet and twice the jitter.
pub(crate) fn one_way_delay(round_trip: Option<Duration>, jitter: Duration) -> Duration {
    let buffer = LEAST_BUFFER.saturating_add(jitter.saturating_mul(2)).min(MOST_BUFFER);
    round_trip.unwrap_or_default() / 2 + buffer
}

/// The conversational quality of G.711 with concealment over such a path, 1.0 to 4.4 (ITU-T G.107).
///
/// `loss` is 0.0 to 1.0. `burst_ratio` is the mean length of gaps by that of as much random loss; below 1.0 it counts as
/// random. `delay` is one way. R0 is 93.2, and the loss robustness of G.711 with Appendix I, Bpl, 25.1.
pub fn mos(loss: f64, burst_ratio: f64, delay: Duration) -> f64 {
    let percent = loss.clamp(0.0, 1.0) * 100.0;
    let by_loss = 95.0 * percent / (percent / burst_ratio.max(1.0) + 25.1);
    let millis = delay.as_secs_f64() * 1e3;
    let by_delay = 0.024 * millis + 0.11 * (millis - 177.3).max(0.0);
    let r = 93.2 - by_loss - by_delay;
    if r <= 0.0 {
        return 1.0;
    }
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO_DELAY: Duration = Duration::ZERO;
    const PTIME: Duration = Duration::from_millis(20);

    struct Bench {
        opinion: Opinion,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            Self { opinion: Opinion::default(), now: crate::testing::start() }
        }

        /// `seconds` of packets of 20 ms, in which `missing` are given up before each `every`-th.
        fn hear(&mut self, seconds: u32, every: u32, missing: u16) {
            let mut slot = 0;
            for n in 1.. {
                let lost = if every > 0 && n % every == 0 { missing } else { 0 };
                slot += 1 + u32::from(lost);
                if slot > seconds * 50 {
                    break;
                }
                self.now += PTIME * (1 + u32::from(lost));
                self.opinion.close_seconds(self.now, NO_DELAY);
                self.opinion.record(self.now, lost);
            }
        }

        fn wait(&mut self, time: Duration) {
            self.now += time;
            self.opinion.close_seconds(self.now, NO_DELAY);
        }

        fn live(&self) -> f64 {
            self.opinion.live(NO_DELAY).unwrap()
        }
    }

    #[track_caller]
    fn assert_near(score: f64, expected: f64) {
        assert!((score - expected).abs() < 0.006, "{score} and not {expected}");
    }

    #[test]
    fn mos_matches_the_published_constants() {
        for (percent, burst_ratio, delay_ms, expected) in [
            (0.0, 1.0, 0, 4.41),
            (1.0, 1.0, 0, 4.33),
            (3.0, 1.0, 0, 4.13),
            (5.0, 1.0, 0, 3.92),
            (10.0, 1.0, 0, 3.41),
            (5.0, 0.3, 0, 3.92),
            (5.0, 4.0, 0, 3.829),
            (0.0, 1.0, 100, 4.358),
            (0.0, 1.0, 300, 3.712),
        ] {
            let delay = Duration::from_millis(delay_ms);
            assert_near(mos(percent / 100.0, burst_ratio, delay), expected);
        }
        assert_eq!(mos(2.0, 1.0, NO_DELAY), mos(1.0, 1.0, NO_DELAY));
        assert!((1.0..1.2).contains(&mos(1.0, 1.0, NO_DELAY)));
        assert_eq!(mos(1.0, 10.0, NO_DELAY), 1.0);
        assert_eq!(mos(0.0, 1.0, Duration::from_secs(60)), 1.0);
    }

    #[test]
    fn nothing_heard_is_no_opinion() {
        let mut bench = Bench::new();
        bench.wait(Duration::from_secs(30));
        assert_eq!(bench.opinion.live(NO_DELAY), None);
        assert_eq!(bench.opinion.of_call(NO_DELAY), None);
    }

    #[test]
    fn loss_leaves_the_live_score_after_ten_seconds_and_stays_in_the_worst() {
        let mut bench = Bench::new();
        bench.hear(60, 0, 0);
        assert_near(bench.live(), 4.41);
        bench.hear(10, 9, 1);
        assert_near(bench.live(), mos(0.1, 1.0, NO_DELAY));
        let then = bench.live();
        bench.hear(5, 0, 0);
        assert!((3.8..4.1).contains(&bench.live()), "{}", bench.live());
        bench.hear(45, 0, 0);
        assert_near(bench.live(), 4.41);
        let (mean, worst) = bench.opinion.of_call(NO_DELAY).unwrap();
        assert!((worst - then).abs() < 0.05, "{worst} and {then}");
        assert!((4.25..4.36).contains(&mean), "{mean}");
    }

    #[test]
    fn the_same_loss_is_worse_in_bursts() {
        let scores = [(9, 1), (45, 5)].map(|(every, missing)| {
            let mut bench = Bench::new();
            bench.hear(30, every, missing);
            bench.live()
        });
        assert_near(scores[0], mos(0.1, 1.0, NO_DELAY));
        assert!((scores[1] - mos(0.1, 4.5, NO_DELAY)).abs() < 0.05, "{scores:?}");
        assert!(scores[1] < scores[0] - 0.2, "{scores:?}");
    }

    #[test]
    fn a_pause_is_no_loss_and_its_windows_do_not_count() {
        let mut bench = Bench::new();
        bench.hear(20, 0, 0);
        bench.wait(Duration::from_secs(3600));
        assert_eq!(bench.opinion.live(NO_DELAY), None);
        let (mean, worst) = bench.opinion.of_call(NO_DELAY).unwrap();
        assert_near(mean, 4.41);
        assert_near(worst, 4.41);
        bench.hear(1, 4, 1);
        let (_, worst) = bench.opinion.of_call(NO_DELAY).unwrap();
        assert!(worst > 4.3, "a single second is not the worst window");
        bench.hear(2, 4, 1);
        let (_, worst) = bench.opinion.of_call(NO_DELAY).unwrap();
        assert!(worst < 3.0, "{worst}");
    }

    #[test]
    fn a_short_call_is_its_own_worst_window() {
        let mut bench = Bench::new();
        bench.hear(1, 9, 1);
        let (mean, worst) = bench.opinion.of_call(NO_DELAY).unwrap();
        assert_near(mean, mos(0.1, 1.0, NO_DELAY));
        assert_eq!(worst, mean);
    }

    #[test]
    fn delay_is_half_the_round_trip_and_a_bounded_buffer() {
        let millis = Duration::from_millis;
        for (round_trip, jitter, expected) in [
            (None, 0, 20),
            (None, 15, 50),
            (Some(100), 0, 70),
            (Some(600), 10, 340),
            (Some(100), 5_000, 250),
        ] {
            let delay = one_way_delay(round_trip.map(millis), millis(jitter));
            assert_eq!(delay, millis(expected), "{round_trip:?} {jitter}");
        }
        assert!(one_way_delay(None, Duration::MAX) <= MOST_BUFFER);
    }
}
