//! The callers' voices: one thread that sends everybody's packets, each at its own instant of an absolute grid.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use tandem_rtp::{HEADER_LEN, RtpPacket};

use crate::{
    clock::{Priority, Scheduling, Sleeper},
    marker::{FRAME, Marker, Way, silence},
};

/// Audio in one packet.
pub(crate) const PTIME: Duration = Duration::from_millis(20);

/// Packets of each call that are sent but not counted: caches, queues and branch predictors fill.
pub(crate) const WARM_UP: u32 = 50;

/// When within a packet time the calls send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phases {
    /// One after the other, evenly spread.
    Spread,
    /// All at once.
    Burst,
}

/// When each packet is meant to leave.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    /// When packet 0 of call 0 leaves.
    pub(crate) start: Instant,
    /// The calls.
    pub(crate) calls: u16,
    /// Packets per call.
    pub(crate) packets: u32,
    /// Which of them when.
    pub(crate) phases: Phases,
}

impl Grid {
    /// A grid of `length` after the warm-up that begins in a moment.
    pub(crate) fn starting_soon(calls: u16, length: Duration, phases: Phases) -> Self {
        let packets = WARM_UP + (length.as_millis() / PTIME.as_millis()) as u32;
        Self { start: Instant::now() + Duration::from_millis(50), calls, packets, phases }
    }

    /// When packet `number` of `call` is meant to leave.
    pub(crate) fn due(&self, call: u16, number: u32) -> Instant {
        let phase = match self.phases {
            Phases::Spread => PTIME * u32::from(call) / u32::from(self.calls.max(1)),
            Phases::Burst => Duration::ZERO,
        };
        self.start + PTIME * number + phase
    }

    /// When the last packet has been sent.
    pub(crate) fn end(&self) -> Instant {
        self.start + PTIME * self.packets
    }

    /// Packets that count.
    pub(crate) fn counted(&self) -> u64 {
        u64::from(self.calls) * u64::from(self.packets - WARM_UP)
    }

    /// How long after its intended instant each marked packet was seen, without the warm-up.
    pub(crate) fn latencies(&self, arrivals: &[(Marker, Instant)]) -> Vec<Duration> {
        let counts = |marker: &Marker| {
            marker.call < self.calls && (WARM_UP..self.packets).contains(&marker.number)
        };
        let counted = arrivals.iter().filter(|(marker, _)| counts(marker));
        counted
            .map(|(marker, at)| at.saturating_duration_since(self.due(marker.call, marker.number)))
            .collect()
    }
}

/// How the generator kept its grid.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) scheduling: Scheduling,
    /// For each counted packet, how late it was handed to the kernel.
    pub(crate) lateness: Vec<Duration>,
    /// Packets the kernel did not take.
    pub(crate) refused: u64,
}

impl AsRef<Self> for Sent {
    fn as_ref(&self) -> &Self {
        self
    }
}

/// Sends all packets of `grid`: those of call n from `socket` to the n-th of `targets`. Takes as long as the grid is.
pub(crate) fn generate(socket: &UdpSocket, targets: &[SocketAddr], grid: Grid) -> io::Result<Sent> {
    thread::scope(|scope| {
        let generator = thread::Builder::new().name("generator".into());
        let thread = generator.spawn_scoped(scope, || send_all(socket, targets, grid))?;
        Ok(thread.join().expect("the generator does not panic"))
    })
}

fn send_all(socket: &UdpSocket, targets: &[SocketAddr], grid: Grid) -> Sent {
    let scheduling = Scheduling::best_for_this_thread(Priority::Paces);
    let sleeper = Sleeper::new();
    let mut payload = silence();
    let mut datagram = Vec::with_capacity(HEADER_LEN + FRAME);
    let mut lateness = Vec::with_capacity(grid.counted() as usize);
    let mut refused = 0;
    for number in 0..grid.packets {
        for (call, target) in (0..grid.calls).zip(targets) {
            Marker { call, number, frame: 0 }.write(Way::Up, &mut payload);
            datagram.clear();
            packet(call, number, &payload).write(&mut datagram);
            let due = grid.due(call, number);
            sleeper.sleep_until(due);
            let now = Instant::now();
            refused += u64::from(socket.send_to(&datagram, target).is_err());
            if number >= WARM_UP {
                lateness.push(now.saturating_duration_since(due));
            }
        }
    }
    Sent { scheduling, lateness, refused }
}

/// The packet of `call` with this number.
pub(crate) fn packet(call: u16, number: u32, payload: &[u8]) -> RtpPacket<'_> {
    RtpPacket {
        marker: number == 0,
        payload_type: 0,
        sequence: number as u16,
        timestamp: number.wrapping_mul(FRAME as u32),
        ssrc: 0x7A00_0000 | u32::from(call),
        csrc: &[],
        extension: None,
        payload,
        padding: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_are_spread_over_one_packet_time() {
        let grid = Grid { start: Instant::now(), calls: 4, packets: 60, phases: Phases::Spread };
        for (call, number, millis) in [(0, 0, 0), (1, 0, 5), (3, 0, 15), (0, 1, 20), (2, 50, 1010)]
        {
            assert_eq!(grid.due(call, number), grid.start + Duration::from_millis(millis));
        }
        assert_eq!(grid.end(), grid.start + Duration::from_millis(1200));
        assert_eq!(grid.counted(), 40);
        let burst = Grid { phases: Phases::Burst, ..grid };
        assert_eq!(burst.due(3, 1), grid.due(0, 1));
    }

    #[test]
    fn latency_counts_from_the_intended_instant_and_leaves_the_warm_up_out() {
        let grid = Grid { start: Instant::now(), calls: 2, packets: 60, phases: Phases::Spread };
        let late = Duration::from_micros(300);
        let seen =
            |call, number| (Marker { call, number, frame: 0 }, grid.due(call, number) + late);
        let arrivals = [seen(0, 49), seen(0, 50), seen(1, 59), seen(1, 60), seen(2, 55)];
        assert_eq!(grid.latencies(&arrivals), [late, late]);
    }

    #[test]
    fn packets_leave_in_the_order_of_their_instants_with_their_markers() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = receiver.local_addr().unwrap();
        // All of it is due already.
        let start = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
        let grid = Grid { start, calls: 2, packets: WARM_UP + 1, phases: Phases::Spread };
        let sent = generate(&sender, &[target, target], grid).unwrap();
        assert_eq!((sent.lateness.len(), sent.refused), (2, 0));
        let mut datagram = [0; 2048];
        for number in 0..grid.packets {
            for call in 0..2 {
                let length = receiver.recv(&mut datagram).unwrap();
                let packet = RtpPacket::parse(&datagram[..length]).unwrap();
                assert_eq!((packet.payload.len(), u32::from(packet.sequence)), (FRAME, number));
                let marker = Marker::read(Way::Up, packet.payload);
                assert_eq!(marker, Some(Marker { call, number, frame: 0 }));
            }
        }
    }
}
