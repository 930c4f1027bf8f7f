//! Who gets in, and how often: addresses, token buckets, unacknowledged INVITEs, scanners.

use std::{
    collections::HashMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use ipnet::IpNet;

use crate::Limits;

/// Sources whose rate is remembered. A new one above this is refused until an idle one is forgotten.
const MAX_SOURCES: usize = 16_384;
/// A stranger's share of the rate.
const STRANGER_DIVISOR: u32 = 20;
/// This part of the places for unacknowledged INVITEs and connections is kept for trusted sources.
const KEPT_FOR_TRUSTED: usize = 4;
/// Requests inside dialogs are this many times cheaper: there are several to each call.
const IN_DIALOG_FACTOR: f64 = 8.0;

/// Names that scanners of open SIP ports call themselves by, in lower case.
const SCANNERS: [&str; 9] = [
    "friendly-scanner",
    "sipvicious",
    "sipcli",
    "sundayddr",
    "sip-scan",
    "sipsak",
    "iwar",
    "vaxsipuseragent",
    "pplsip",
];

/// Whether a User-Agent is a scanner's.
pub(crate) fn is_scanner(user_agent: &str) -> bool {
    let user_agent = user_agent.to_ascii_lowercase();
    SCANNERS.iter().any(|scanner| user_agent.contains(scanner))
}

/// Decides who gets in.
#[derive(Debug)]
pub(crate) struct Admission {
    trusted: Vec<IpNet>,
    limits: Limits,
    buckets: HashMap<IpAddr, Bucket>,
    swept: Option<Instant>,
    unacked: HashMap<IpAddr, usize>,
    unacked_total: usize,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Admission {
    pub(crate) fn new(trusted: Vec<IpNet>, limits: Limits) -> Self {
        Self {
            trusted,
            limits,
            buckets: HashMap::new(),
            swept: None,
            unacked: HashMap::new(),
            unacked_total: 0,
        }
    }

    /// Whether the source needs no password.
    pub(crate) fn is_trusted(&self, source: IpAddr) -> bool {
        is_trusted(&self.trusted, source)
    }

    /// Takes a token of the source's bucket; `false` when it sends too fast.
    pub(crate) fn take(&mut self, now: Instant, source: IpAddr, in_dialog: bool) -> bool {
        let trusted = self.is_trusted(source);
        let share =
            |value: u32| f64::from(if trusted { value } else { (value / STRANGER_DIVISOR).max(1) });
        let (rate, burst) =
            (share(self.limits.requests_per_second_per_source), share(self.limits.burst));
        let key = bucket_key(source);
        if !self.buckets.contains_key(&key) && self.buckets.len() >= MAX_SOURCES {
            self.sweep(now, Duration::from_secs_f64(burst / rate.max(0.001)));
            if self.buckets.len() >= MAX_SOURCES {
                return false;
            }
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket { tokens: burst, at: now });
        let elapsed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + elapsed * rate).min(burst);
        bucket.at = now;
        let price = if in_dialog { 1.0 / IN_DIALOG_FACTOR } else { 1.0 };
        if bucket.tokens < price {
            return false;
        }
        bucket.tokens -= price;
        true
    }

    /// Forgets buckets that are full again. Under a flood of made-up sources this looks at all of them, so it is
    /// done ten times a second at most.
    fn sweep(&mut self, now: Instant, full_again: Duration) {
        if self
            .swept
            .is_some_and(|at| now.saturating_duration_since(at) < Duration::from_millis(100))
        {
            return;
        }
        self.swept = Some(now);
        self.buckets.retain(|_, bucket| now.saturating_duration_since(bucket.at) < full_again);
    }

    /// Whether one more INVITE of this source may wait for its ACK.
    pub(crate) fn has_room(&self, source: IpAddr) -> bool {
        self.unacked_total < places(self.limits.unacked, self.is_trusted(source))
            && self.unacked.get(&bucket_key(source)).copied().unwrap_or(0)
                < self.limits.unacked_per_source
    }

    /// Counts an INVITE that waits for its ACK. Each one ends in [`Self::acked`].
    pub(crate) fn invited(&mut self, source: IpAddr) {
        self.unacked_total += 1;
        *self.unacked.entry(bucket_key(source)).or_insert(0) += 1;
    }

    /// An INVITE of this source waits no longer.
    pub(crate) fn acked(&mut self, source: IpAddr) {
        let key = bucket_key(source);
        let Some(count) = self.unacked.get_mut(&key) else { return };
        self.unacked_total -= 1;
        *count -= 1;
        if *count == 0 {
            self.unacked.remove(&key);
        }
    }

    /// INVITEs waiting for an ACK.
    pub(crate) const fn unacked(&self) -> usize {
        self.unacked_total
    }
}

/// Whether one of the `trusted` networks holds the source.
pub(crate) fn is_trusted(trusted: &[IpNet], source: IpAddr) -> bool {
    let source = source.to_canonical();
    trusted.iter().any(|net| net.contains(&source))
}

/// How many of `most` places a source may fill: a stranger leaves some for trusted ones.
pub(crate) const fn places(most: usize, trusted: bool) -> usize {
    if trusted { most } else { most - most.div_ceil(KEPT_FOR_TRUSTED) }
}

/// What counts as one source: an IPv6 customer has a whole /64.
pub(crate) fn bucket_key(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SipSettings;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn admission(limits: Limits) -> Admission {
        let mut trusted = SipSettings::default().trusted;
        trusted.push("10.1.0.0/16".parse().unwrap());
        Admission::new(trusted, limits)
    }

    #[test]
    fn trust_is_by_address() {
        let admission = admission(Limits::default());
        for (address, trusted) in [
            ("127.0.0.1", true),
            ("10.1.255.1", true),
            ("::ffff:10.1.0.1", true),
            ("10.2.0.1", false),
            ("::2", false),
        ] {
            assert_eq!(admission.is_trusted(ip(address)), trusted, "{address}");
        }
    }

    #[test]
    fn a_source_has_a_burst_and_then_a_rate() {
        let now = Instant::now();
        let limits = Limits { requests_per_second_per_source: 10, burst: 20, ..Limits::default() };
        let mut admission = admission(limits);
        let sent = |admission: &mut Admission, at, source, count: usize| {
            (0..count).filter(|_| admission.take(at, ip(source), false)).count()
        };
        assert_eq!(sent(&mut admission, now, "10.1.0.1", 30), 20);
        assert_eq!(sent(&mut admission, now, "10.1.0.2", 30), 20, "each its own");
        assert_eq!(sent(&mut admission, now + Duration::from_secs(1), "10.1.0.1", 30), 10);
        assert_eq!(sent(&mut admission, now, "192.0.2.1", 30), 1, "strangers have less");
        assert_eq!(sent(&mut admission, now, "2001:db8::1", 1), 1);
        assert_eq!(sent(&mut admission, now, "2001:db8::ffff", 1), 0, "one /64 is one source");
        let in_dialog = (0..200).filter(|_| admission.take(now, ip("10.1.0.3"), true)).count();
        assert_eq!(in_dialog, 160);
    }

    #[test]
    fn the_table_of_sources_is_bounded_and_forgets_the_idle() {
        let now = Instant::now();
        let mut admission = admission(Limits::default());
        for source in 0..MAX_SOURCES as u32 {
            assert!(admission.take(now, IpAddr::V4((0x2000_0000 + source).into()), false));
        }
        assert!(!admission.take(now, ip("10.1.0.1"), false));
        assert!(admission.take(now + Duration::from_secs(10), ip("10.1.0.1"), false));
        assert_eq!(admission.buckets.len(), 1);
    }

    #[test]
    fn unacknowledged_invites_are_capped_per_source_and_in_all() {
        let mut admission =
            admission(Limits { unacked: 3, unacked_per_source: 2, ..Limits::default() });
        let (a, b) = (ip("10.1.0.1"), ip("10.1.0.2"));
        admission.invited(a);
        admission.invited(a);
        assert!(!admission.has_room(a) && admission.has_room(b));
        admission.invited(b);
        assert!(!admission.has_room(ip("10.1.0.3")));
        admission.acked(a);
        assert!(admission.has_room(a));
        admission.acked(a);
        admission.acked(b);
        admission.acked(b);
        assert_eq!((admission.unacked(), admission.unacked.len()), (0, 0));
    }

    #[test]
    fn strangers_leave_places_for_trusted_sources() {
        let mut admission = admission(Limits { unacked: 8, ..Limits::default() });
        let (stranger, trunk) = (ip("192.0.2.1"), ip("10.1.0.1"));
        for _ in 0..6 {
            assert!(admission.has_room(stranger));
            admission.invited(stranger);
        }
        assert!(!admission.has_room(stranger) && admission.has_room(trunk));
        admission.invited(trunk);
        admission.invited(trunk);
        assert!(!admission.has_room(trunk));
    }

    #[test]
    fn scanners_are_known_by_name() {
        assert!(is_scanner("Friendly-Scanner") && is_scanner("sipcli/v1.8"));
        assert!(!is_scanner("FreeSWITCH-mod_sofia/1.10.12"));
    }
}
