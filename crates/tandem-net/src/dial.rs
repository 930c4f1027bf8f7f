//! Which of a host's addresses takes a connection (RFC 8305).

use std::{future::Future, io, net::SocketAddr, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::timeout;

/// The next address is tried when the ones before it have not answered for this long (RFC 8305 §5).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// One address may take this long: a lost SYN is sent again after a second.
const PER_ADDRESS: Duration = Duration::from_millis(1_500);

/// Addresses of a host that are tried.
const MAX_ADDRESSES: usize = 8;

/// What the first address gives whose `attempt` succeeds; the attempts at the others are dropped.
///
/// The attempts begin a quarter of a second apart, or as soon as one fails. The error is that of the last one.
pub(crate) async fn first_to_connect<T, F>(
    addresses: impl Iterator<Item = SocketAddr>,
    attempt: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut untried = interleaved(addresses).into_iter();
    let mut running = FuturesUnordered::new();
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    loop {
        if let Some(address) = untried.next() {
            running.push(timeout(PER_ADDRESS, attempt(address)));
        }
        let ended = if untried.len() == 0 {
            running.next().await
        } else {
            match timeout(NEXT_AFTER, running.next()).await {
                Ok(ended) => ended,
                Err(_) => continue,
            }
        };
        match ended {
            Some(Ok(Ok(connected))) => return Ok(connected),
            Some(Ok(Err(error))) => last = error,
            Some(Err(_)) => last = io::ErrorKind::TimedOut.into(),
            None => return Err(last),
        }
    }
}

/// IPv6 and IPv4 in turn, beginning with the resolver's choice (RFC 8305 §4).
fn interleaved(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let addresses: Vec<SocketAddr> = addresses.collect();
    let Some(first) = addresses.first() else { return addresses };
    let (preferred, others): (Vec<_>, Vec<_>) =
        addresses.iter().partition(|address| address.is_ipv6() == first.is_ipv6());
    let mut others = others.into_iter();
    let mut ordered = Vec::with_capacity(addresses.len());
    for address in preferred {
        ordered.push(address);
        ordered.extend(others.next());
    }
    ordered.extend(others);
    ordered.truncate(MAX_ADDRESSES);
    ordered
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending, rc::Rc};

    use super::*;

    fn v6(n: u16) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, n], 443))
    }

    fn v4(n: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, n], 443))
    }

    /// Counts itself while it lives.
    struct Alive(Rc<Cell<usize>>);

    impl Alive {
        fn new(count: &Rc<Cell<usize>>) -> Self {
            count.set(count.get() + 1);
            Self(Rc::clone(count))
        }
    }

    impl Drop for Alive {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    #[tokio::test]
    async fn an_address_that_hangs_keeps_no_other_from_being_tried() {
        let hanging = Rc::new(Cell::new(0));
        let connected = first_to_connect([v6(1), v4(1), v4(2)].into_iter(), |address| {
            let hanging = Rc::clone(&hanging);
            async move {
                if address == v4(2) {
                    assert_eq!(hanging.get(), 2, "both were given up before the third was tried");
                    return Ok(address);
                }
                let _alive = Alive::new(&hanging);
                pending().await
            }
        });
        assert_eq!(connected.await.expect("the third connects"), v4(2));
        assert_eq!(hanging.get(), 0, "the others go on");
    }

    #[tokio::test]
    async fn an_earlier_address_may_still_win() {
        let second = tokio::sync::Notify::new();
        let connected = first_to_connect([v4(1), v4(2)].into_iter(), |address| {
            let second = &second;
            async move {
                if address == v4(2) {
                    second.notify_one();
                    return pending().await;
                }
                second.notified().await;
                Ok(address)
            }
        });
        assert_eq!(connected.await.expect("the first connects"), v4(1));
    }

    #[tokio::test]
    async fn the_last_error_is_told_when_none_connects() {
        let refuse = |address: SocketAddr| async move {
            Err::<(), _>(io::Error::other(format!("{address} refused")))
        };
        let error = first_to_connect([v4(1), v4(2)].into_iter(), refuse).await.unwrap_err();
        assert_eq!(error.to_string(), "192.0.2.2:443 refused");
        let error = first_to_connect(std::iter::empty(), refuse).await.unwrap_err();
        assert_eq!(error.to_string(), "the host has no address");
    }

    #[test]
    fn both_families_get_their_turn() {
        for (given, ordered) in [
            (vec![v6(1), v6(2), v4(1), v4(2)], vec![v6(1), v4(1), v6(2), v4(2)]),
            (vec![v4(1), v6(1), v6(2)], vec![v4(1), v6(1), v6(2)]),
            (vec![], vec![]),
        ] {
            assert_eq!(interleaved(given.into_iter()), ordered);
        }
        let many = (0..50).map(v6).chain([v4(1)]);
        let ordered = interleaved(many);
        assert_eq!((ordered.len(), ordered[1]), (MAX_ADDRESSES, v4(1)));
    }
}
