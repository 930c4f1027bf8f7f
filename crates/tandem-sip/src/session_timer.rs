//! Session timers (RFC 4028): who refreshes a session, when, and when it is given up.

use std::time::{Duration, Instant};

use crate::{
    headers::Headers,
    message::{Request, Response},
    uri::{find_param, parse_params},
};

/// The smallest legal interval (RFC 4028 §4).
pub(crate) const SMALLEST: Duration = Duration::from_secs(90);

/// The side that refreshes, named by its role in the request that settles it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refresher {
    Uac,
    Uas,
}

/// What a request and its 2xx settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) interval: Duration,
    pub(crate) refresher: Refresher,
    /// The 2xx says `Require: timer`: the other side has to refresh.
    pub(crate) require: bool,
}

/// An interval below ours: 422 with this Min-SE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooSmall {
    pub(crate) min_se: Duration,
}

/// What we want of session timers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Policy {
    /// The interval we ask for; none leaves it to the peer.
    pub(crate) wanted: Option<Duration>,
    /// The shortest we take.
    pub(crate) min_se: Duration,
}

impl Policy {
    pub(crate) fn new(wanted: Option<Duration>, min_se: Duration) -> Self {
        let min_se = min_se.max(SMALLEST);
        Self { wanted: wanted.map(|wanted| wanted.max(min_se)), min_se }
    }

    /// The terms for our 2xx to `request` (RFC 4028 §9).
    pub(crate) fn terms_for(&self, request: &Request) -> Result<Option<Terms>, TooSmall> {
        let supported = request.headers.has_token("Supported", "timer")
            || request.headers.has_token("Require", "timer");
        let least = min_se(&request.headers).unwrap_or(SMALLEST);
        let Some((interval, refresher)) = session_expires(&request.headers) else {
            return Ok(self.wanted.map(|wanted| Terms {
                interval: wanted.max(least),
                refresher: if supported { Refresher::Uac } else { Refresher::Uas },
                require: supported,
            }));
        };
        if interval < self.min_se && supported {
            return Err(TooSmall { min_se: self.min_se });
        }
        // A peer without timers cannot be told to ask for more.
        let interval = interval.max(self.min_se);
        // The interval may be lowered, but not below what the request allows.
        let interval = self.wanted.map_or(interval, |wanted| interval.min(wanted.max(least)));
        let refresher = match refresher {
            Some(refresher) if supported => refresher,
            _ if supported => Refresher::Uac,
            _ => Refresher::Uas,
        };
        Ok(Some(Terms { interval, refresher, require: refresher == Refresher::Uac }))
    }
}

impl Terms {
    /// Writes the terms into a 2xx.
    pub(crate) fn write(&self, response: &mut Response) {
        let who = match self.refresher {
            Refresher::Uac => "uac",
            Refresher::Uas => "uas",
        };
        response
            .headers
            .push("Session-Expires", format!("{};refresher={who}", self.interval.as_secs()));
        if self.require {
            response.headers.push("Require", "timer");
        }
    }

    /// The terms a 2xx to our request settles; none means no timer.
    pub(crate) fn of_response(response: &Response) -> Option<Self> {
        let (interval, refresher) = session_expires(&response.headers)?;
        let refresher = refresher.unwrap_or(Refresher::Uac);
        Some(Self { interval: interval.max(SMALLEST), refresher, require: false })
    }
}

/// The running timer of one session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SessionTimer {
    interval: Duration,
    started: Instant,
    we_refresh: bool,
    refresh_at: Option<Instant>,
}

impl SessionTimer {
    /// Starts at the 2xx. `we_are` is our role in the request it answers.
    pub(crate) fn start(now: Instant, terms: Terms, we_are: Refresher) -> Self {
        let we_refresh = terms.refresher == we_are;
        let refresh_at = we_refresh.then(|| now + terms.interval / 2);
        Self { interval: terms.interval, started: now, we_refresh, refresh_at }
    }

    pub(crate) const fn interval(&self) -> Duration {
        self.interval
    }

    pub(crate) const fn we_refresh(&self) -> bool {
        self.we_refresh
    }

    /// Whether a refresh is due at `now`; says so once.
    pub(crate) fn take_refresh(&mut self, now: Instant) -> bool {
        self.refresh_at.take_if(|at| *at <= now).is_some()
    }

    /// Has the refresh tried again at `at`.
    pub(crate) fn retry_refresh(&mut self, at: Instant) {
        self.refresh_at = Some(at);
    }

    /// Whether the session was not refreshed in time (RFC 4028 §10): BYE.
    pub(crate) fn is_expired(&self, now: Instant) -> bool {
        now >= self.started + self.lifetime()
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Instant {
        let end = self.started + self.lifetime();
        self.refresh_at.map_or(end, |at| at.min(end))
    }

    fn lifetime(&self) -> Duration {
        self.interval - (self.interval / 3).min(Duration::from_secs(32))
    }
}

fn session_expires(headers: &Headers) -> Option<(Duration, Option<Refresher>)> {
    let value = headers.get("Session-Expires")?;
    let (seconds, params) = value.split_once(';').unwrap_or((value, ""));
    let seconds: u32 = seconds.trim().parse().ok()?;
    let refresher = match find_param(&parse_params(params), "refresher") {
        Some(who) if who.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
        Some(who) if who.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
        _ => None,
    };
    Some((Duration::from_secs(seconds.into()), refresher))
}

/// The value of Min-SE.
pub(crate) fn min_se(headers: &Headers) -> Option<Duration> {
    let value = headers.get("Min-SE")?;
    let seconds: u32 = value.split(';').next()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{message::Method, uri::Uri};

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn request(headers: &[(&str, &str)]) -> Request {
        let mut request = Request::new(Method::Invite, Uri::parse("sip:a@b").unwrap());
        for (name, value) in headers {
            request.headers.push(name, *value);
        }
        request
    }

    #[test]
    fn terms_by_what_the_request_says() {
        let ours = Policy::new(Some(secs(1800)), secs(90));
        let none = Policy::new(None, secs(90));
        let timer = ("Supported", "timer, path");
        for (name, policy, headers, terms) in [
            (
                "peer refreshes by its own word",
                ours,
                vec![timer, ("Session-Expires", "1800;refresher=uac")],
                Ok(Some((1800, Refresher::Uac, true))),
            ),
            (
                "we are told to",
                ours,
                vec![timer, ("x", "1200;refresher=uas")],
                Ok(Some((1200, Refresher::Uas, false))),
            ),
            (
                "nobody is named",
                ours,
                vec![timer, ("Session-Expires", "900")],
                Ok(Some((900, Refresher::Uac, true))),
            ),
            (
                "longer than ours",
                ours,
                vec![timer, ("Session-Expires", "7200")],
                Ok(Some((1800, Refresher::Uac, true))),
            ),
            (
                "its Min-SE bounds us",
                ours,
                vec![timer, ("Session-Expires", "7200"), ("Min-SE", "3600")],
                Ok(Some((3600, Refresher::Uac, true))),
            ),
            ("too short", ours, vec![timer, ("Session-Expires", "60")], Err(90)),
            ("asked by us", ours, vec![timer], Ok(Some((1800, Refresher::Uac, true)))),
            ("peer without timers", ours, vec![], Ok(Some((1800, Refresher::Uas, false)))),
            (
                "a proxy wants it, the peer has no timers",
                ours,
                vec![("Session-Expires", "600;refresher=uac")],
                Ok(Some((600, Refresher::Uas, false))),
            ),
            (
                "too short, and the peer has no timers",
                ours,
                vec![("Session-Expires", "5")],
                Ok(Some((90, Refresher::Uas, false))),
            ),
            ("no interval at all", none, vec![("x", "0")], Ok(Some((90, Refresher::Uas, false)))),
            ("neither wants it", none, vec![timer], Ok(None)),
            (
                "only the peer wants it",
                none,
                vec![("Require", "timer"), ("Session-Expires", "600")],
                Ok(Some((600, Refresher::Uac, true))),
            ),
            ("garbage is no header", none, vec![timer, ("Session-Expires", "soon")], Ok(None)),
        ] {
            let terms: Result<Option<(u64, _, _)>, u64> = terms;
            let got = policy.terms_for(&request(&headers));
            assert_eq!(
                got.map(|t| t.map(|t| (t.interval.as_secs(), t.refresher, t.require)))
                    .map_err(|e| e.min_se.as_secs()),
                terms,
                "{name}"
            );
        }
    }

    #[test]
    fn the_refresher_refreshes_at_half_time_and_the_other_waits_until_the_end() {
        let start = Instant::now();
        let terms = Terms { interval: secs(1800), refresher: Refresher::Uas, require: false };
        let mut ours = SessionTimer::start(start, terms, Refresher::Uas);
        assert_eq!(ours.next(), start + secs(900));
        assert!(!ours.take_refresh(start + secs(899)));
        assert!(ours.take_refresh(start + secs(900)));
        assert!(!ours.take_refresh(start + secs(901)), "once");
        assert_eq!(ours.next(), start + secs(1768));
        let theirs = SessionTimer::start(start, terms, Refresher::Uac);
        assert_eq!(theirs.next(), start + secs(1768));
        assert!(!theirs.is_expired(start + secs(1767)) && theirs.is_expired(start + secs(1768)));
        let short =
            SessionTimer::start(start, Terms { interval: secs(90), ..terms }, Refresher::Uac);
        assert!(short.is_expired(start + secs(60)));
    }

    #[test]
    fn terms_are_written_and_read() {
        let terms = Terms { interval: secs(1800), refresher: Refresher::Uac, require: true };
        let mut response = request(&[]).response(200, None);
        terms.write(&mut response);
        assert_eq!(response.headers.get("Session-Expires"), Some("1800;refresher=uac"));
        assert_eq!(response.headers.get("Require"), Some("timer"));
        assert_eq!(Terms::of_response(&response), Some(Terms { require: false, ..terms }));
        response.headers.remove("Session-Expires");
        assert_eq!(Terms::of_response(&response), None);
    }
}
