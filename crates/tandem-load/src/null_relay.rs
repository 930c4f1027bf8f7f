//! The least a bridge can do: a datagram in, its payload out on a TCP stream. What it costs is this machine's floor.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tandem_rtp::RtpPacket;

use crate::{
    clock::{Priority, Scheduling},
    generator::{Grid, Phases, Sent, generate},
    marker::{FRAME, Marker, Way},
};

/// What is still on its way after the last packet was sent may take this long.
const SETTLE: Duration = Duration::from_millis(200);

/// One block of the control: the load of `calls` callers for `length` through the relay. `fifo` is how the relay's own
/// thread is scheduled, as the daemon is.
pub(crate) fn measure(
    calls: u16,
    length: Duration,
    fifo: bool,
) -> io::Result<(Sent, Vec<Duration>)> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let (sender, input) = (UdpSocket::bind(loopback)?, UdpSocket::bind(loopback)?);
    let targets = vec![input.local_addr()?; usize::from(calls)];
    let listener = TcpListener::bind(loopback)?;
    let output = TcpStream::connect(listener.local_addr()?)?;
    let (sink, _) = listener.accept()?;
    output.set_nodelay(true)?;
    input.set_read_timeout(Some(SETTLE / 4))?;

    let stop = Arc::new(AtomicBool::new(false));
    let sink = spawn("null sink", move || drain(sink))?;
    let relay = spawn("null relay", {
        let stop = Arc::clone(&stop);
        move || relay(&input, output, &stop, fifo)
    })?;
    let grid = Grid::starting_soon(calls, length, Phases::Spread);
    let sent = generate(&sender, &targets, grid);
    thread::sleep(SETTLE);
    stop.store(true, Ordering::Relaxed);
    relay.join().expect("the relay does not panic")?;
    let arrivals = sink.join().expect("the sink does not panic")?;
    Ok((sent?, grid.latencies(&arrivals)))
}

fn spawn<T: Send + 'static>(
    name: &str,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    thread::Builder::new().name(name.into()).spawn(run)
}

fn relay(
    input: &UdpSocket,
    mut output: TcpStream,
    stop: &AtomicBool,
    fifo: bool,
) -> io::Result<()> {
    if fifo {
        Scheduling::best_for_this_thread(Priority::Measured);
    }
    let mut datagram = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let Ok(length) = input.recv(&mut datagram) else { continue };
        if let Ok(packet) = RtpPacket::parse(&datagram[..length]) {
            output.write_all(packet.payload)?;
        }
    }
    Ok(())
}

/// Stamps each frame right after the read that brought it, until the stream ends.
fn drain(mut stream: TcpStream) -> io::Result<Vec<(Marker, Instant)>> {
    Scheduling::best_for_this_thread(Priority::Stamps);
    let mut arrivals = Vec::with_capacity(1 << 16);
    let mut buffer = vec![0; 64 << 10];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..])?;
        if read == 0 {
            return Ok(arrivals);
        }
        let at = Instant::now();
        filled += read;
        let frames = buffer[..filled].chunks_exact(FRAME);
        arrivals.extend(frames.filter_map(|frame| Some((Marker::read(Way::Up, frame)?, at))));
        let whole = filled - filled % FRAME;
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_passes_the_relay() {
        let (sent, latencies) = measure(3, Duration::from_millis(200), false).unwrap();
        assert_eq!((latencies.len(), sent.lateness.len(), sent.refused), (30, 30, 0));
    }
}
