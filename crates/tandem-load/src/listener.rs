//! The callers' ears: one thread that stamps every packet of marked audio as it comes.

use std::{
    io,
    net::UdpSocket,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use tandem_rtp::RtpPacket;

use crate::{
    clock::{Priority, Scheduling},
    generator::PTIME,
    marker::{Marker, Way},
};

/// How often a quiet socket is left to see whether it is time to stop.
const LOOK_UP: Duration = Duration::from_millis(50);

/// A thread that listens on the socket of all calls, until this is dropped.
pub(crate) struct Listener {
    wanted: Arc<()>,
    thread: thread::JoinHandle<Vec<(Marker, Instant)>>,
}

impl Listener {
    /// Listens on `socket`.
    pub(crate) fn start(socket: UdpSocket) -> io::Result<Self> {
        socket.set_read_timeout(Some(LOOK_UP))?;
        let wanted = Arc::new(());
        let thread = thread::Builder::new().name("listener".into()).spawn({
            let wanted = Arc::downgrade(&wanted);
            move || listen(&socket, &wanted)
        })?;
        Ok(Self { wanted, thread })
    }

    /// The marked packets that came, and when.
    pub(crate) fn stop(self) -> Vec<(Marker, Instant)> {
        drop(self.wanted);
        self.thread.join().expect("the listener does not panic")
    }
}

fn listen(socket: &UdpSocket, wanted: &Weak<()>) -> Vec<(Marker, Instant)> {
    Scheduling::best_for_this_thread(Priority::Stamps);
    let mut heard = Vec::with_capacity(1 << 16);
    let mut datagram = [0; 2048];
    while wanted.strong_count() > 0 {
        let Ok(length) = socket.recv(&mut datagram) else { continue }; // Nothing came, or an ICMP error.
        let at = Instant::now();
        let packet = RtpPacket::parse(&datagram[..length]).ok();
        heard
            .extend(packet.and_then(|packet| Some((Marker::read(Way::Down, packet.payload)?, at))));
    }
    heard
}

/// What the callers heard of the model's turns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TurnsHeard {
    /// From the model's write to the first packet, per turn.
    pub(crate) first_packet: Vec<Duration>,
    /// How far from one packet time apart neighbouring packets of a turn came.
    pub(crate) spacing: Vec<Duration>,
    /// Turns of which the first packet never came.
    pub(crate) unheard: u64,
}

impl TurnsHeard {
    /// Matches what was written (`frame` 0 of each turn) with what was heard.
    pub(crate) fn new(written: &[(Marker, Instant)], mut heard: Vec<(Marker, Instant)>) -> Self {
        heard.sort_unstable();
        let mut turns = Self::default();
        for (turn, at) in written {
            match heard.binary_search_by_key(turn, |(marker, _)| *marker) {
                Ok(found) => {
                    let first = heard[found].1;
                    turns.first_packet.push(first.saturating_duration_since(*at));
                }
                Err(_) => turns.unheard += 1,
            }
        }
        turns.spacing = heard
            .windows(2)
            .filter(|pair| {
                let (one, next) = (pair[0].0, pair[1].0);
                next == Marker { frame: one.frame + 1, ..one }
            })
            .map(|pair| (pair[1].1.saturating_duration_since(pair[0].1)).abs_diff(PTIME))
            .collect();
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_matched_with_their_first_packet() {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let marker = |call, number, frame| Marker { call, number, frame };
        let written =
            [(marker(0, 0, 0), at(0)), (marker(1, 0, 0), at(100)), (marker(0, 1, 0), at(900_000))];
        let heard = vec![
            (marker(1, 0, 0), at(600)),
            (marker(0, 0, 0), at(400)),
            (marker(0, 0, 1), at(20_500)),
            (marker(1, 0, 1), at(20_400)),
            (marker(0, 0, 3), at(60_400)), // The one before it was lost: no neighbours.
            (marker(0, 1, 1), at(920_000)),
        ];
        let turns = TurnsHeard::new(&written, heard);
        let micros = |n: &[u64]| n.iter().copied().map(Duration::from_micros).collect::<Vec<_>>();
        assert_eq!(turns.first_packet, micros(&[400, 500]));
        assert_eq!(turns.spacing, micros(&[100, 200]));
        assert_eq!(turns.unheard, 1);
    }
}
