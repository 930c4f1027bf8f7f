//! The callers' voices: one thread that sends the packets of whatever call a lane has at the time, each at its own
//! instant of an absolute grid.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use tandem_rtp::HEADER_LEN;

use crate::{
    clock::{Priority, Scheduling, Sleeper},
    generator::{Grid, PTIME, Phases, Sent, WARM_UP, packet},
    marker::{FRAME, Marker, Way, silence},
};

/// A lane's change: the call it has from now on, if it has one.
pub(super) type Change = (u16, Option<Line>);

/// One call's way up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line {
    /// Its number, from 0.
    pub(super) call: u16,
    /// Where its packets go.
    pub(super) remote: SocketAddr,
}

/// What was sent.
#[derive(Debug)]
pub(super) struct Spoken {
    /// How the grid was kept.
    pub(super) sent: Sent,
    /// When packet 0 of lane 0 was due; a packet's number is its tick of this grid.
    grid: Grid,
    /// The calls that counted: which lane, the first tick that counts, and packets from there on.
    begun: Vec<Begun>,
}

#[derive(Debug, Clone, Copy)]
struct Begun {
    call: u16,
    lane: u16,
    counts_from: u32,
    packets: u32,
}

impl AsRef<Sent> for Spoken {
    fn as_ref(&self) -> &Sent {
        &self.sent
    }
}

impl Spoken {
    /// How long after its intended instant each packet that counts was seen, and how many never were.
    pub(super) fn latencies(&self, arrivals: &[(Marker, Instant)]) -> (Vec<Duration>, u64) {
        let calls = self.begun.iter().map(|begun| usize::from(begun.call) + 1).max().unwrap_or(0);
        let mut by_call: Vec<Option<&Begun>> = vec![None; calls];
        for begun in &self.begun {
            by_call[usize::from(begun.call)] = Some(begun);
        }
        let seen: Vec<Duration> = arrivals
            .iter()
            .filter_map(|(marker, at)| {
                let begun = (*by_call.get(usize::from(marker.call))?)?;
                let due = self.grid.due(begun.lane, marker.number);
                (marker.number >= begun.counts_from).then(|| at.saturating_duration_since(due))
            })
            .collect();
        let sent: u64 = self.begun.iter().map(|begun| u64::from(begun.packets)).sum();
        let lost = sent.saturating_sub(seen.len() as u64);
        (seen, lost)
    }
}

/// Sends from `socket` for `lanes` lanes whose calls come and go by `changes`, until nobody can change anything any more.
pub(super) fn start(
    socket: UdpSocket,
    lanes: u16,
    changes: mpsc::Receiver<Change>,
) -> io::Result<thread::JoinHandle<Spoken>> {
    let generator = thread::Builder::new().name("generator".into());
    generator.spawn(move || send_all(&socket, lanes, &changes))
}

fn send_all(socket: &UdpSocket, lanes: u16, changes: &mpsc::Receiver<Change>) -> Spoken {
    let scheduling = Scheduling::best_for_this_thread(Priority::Paces);
    let sleeper = Sleeper::new();
    let start = Instant::now() + PTIME;
    let grid = Grid { start, calls: lanes, packets: u32::MAX, phases: Phases::Spread };
    let mut lines: Vec<Option<(Line, usize)>> = vec![None; usize::from(lanes)];
    let mut begun: Vec<Begun> = Vec::new();
    let mut payload = silence();
    let mut datagram = Vec::with_capacity(HEADER_LEN + FRAME);
    let (mut lateness, mut refused) = (Vec::new(), 0);
    for tick in 0.. {
        loop {
            match changes.try_recv() {
                Ok((lane, line)) => {
                    if let Some(place) = lines.get_mut(usize::from(lane)) {
                        *place = line.map(|line| (line, begun.len()));
                    }
                    if let Some(Line { call, .. }) = line {
                        begun.push(Begun { call, lane, counts_from: tick + WARM_UP, packets: 0 });
                    }
                }
                Err(mpsc::TryRecvError::Empty) => break,
                Err(mpsc::TryRecvError::Disconnected) => {
                    return Spoken { sent: Sent { scheduling, lateness, refused }, grid, begun };
                }
            }
        }
        for (lane, line) in (0..).zip(&lines) {
            let due = grid.due(lane, tick);
            let Some((Line { call, remote }, index)) = line else { continue };
            Marker { call: *call, number: tick, frame: 0 }.write(Way::Up, &mut payload);
            datagram.clear();
            packet(*call, tick, &payload).write(&mut datagram);
            sleeper.sleep_until(due);
            let now = Instant::now();
            refused += u64::from(socket.send_to(&datagram, remote).is_err());
            let begun = &mut begun[*index];
            if tick >= begun.counts_from {
                begun.packets += 1;
                lateness.push(now.saturating_duration_since(due));
            }
        }
        // A tick in which nobody has a call is as long as all others.
        sleeper.sleep_until(grid.due(0, tick + 1));
    }
    unreachable!("ticks never end")
}

#[cfg(test)]
mod tests {
    use tandem_rtp::RtpPacket;

    use super::*;

    #[test]
    fn a_lane_sends_for_its_call_until_it_has_another() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let remote = receiver.local_addr().unwrap();
        let (change, changes) = mpsc::channel();
        let generator = start(UdpSocket::bind("127.0.0.1:0").unwrap(), 2, changes).unwrap();
        let mut datagram = [0; 2048];
        let mut arrivals = Vec::new();
        let mut hear = |call: u16, packets: u32| {
            let mut heard = 0;
            while heard < packets {
                let length = receiver.recv(&mut datagram).unwrap();
                let packet = RtpPacket::parse(&datagram[..length]).unwrap();
                let marker = Marker::read(Way::Up, packet.payload).unwrap();
                assert_eq!(packet.ssrc & 0xFFFF, u32::from(marker.call));
                arrivals.push((marker, Instant::now()));
                heard += u32::from(marker.call == call);
            }
        };
        change.send((1, Some(Line { call: 7, remote }))).unwrap();
        hear(7, WARM_UP + 5);
        change.send((1, Some(Line { call: 8, remote }))).unwrap();
        hear(8, WARM_UP + 5);
        change.send((1, None)).unwrap();
        drop(change);
        let spoken = generator.join().unwrap();
        let (latencies, lost) = spoken.latencies(&arrivals);
        assert!(latencies.len() >= 10, "{}", latencies.len());
        // A packet or two may have been sent that were not read any more.
        assert!(lost <= 4, "{lost}");
        let strangers = [(Marker { call: 9, number: 1_000, frame: 0 }, Instant::now())];
        assert!(spoken.latencies(&strangers).0.is_empty());
    }
}
