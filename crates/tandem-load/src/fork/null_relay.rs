//! The least a bridge between websockets can do: a binary message in, its base64 in a text message out. What it costs is
//! this machine's floor.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Weak, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use base64_simd::{AsOut, STANDARD};

use super::{
    calls::{Calls, hang_up},
    generator::{Spoken, generate},
    poll::Poll,
    websocket::{Connection, Opcode, append_masked, mask_payload, masked_frame},
};
use crate::{
    BenchError,
    clock::{Priority, Scheduling},
    fake_model::{FakeModel, Vendor},
    generator::{Grid, Phases},
};

/// What is still on its way after the last frame was sent may take this long.
const SETTLE: Duration = Duration::from_millis(200);

const LOOK_UP: Duration = Duration::from_millis(50);

const BEFORE: &[u8] = br#"{"realtimeInput":{"audio":{"data":""#;
const AFTER: &[u8] = br#"","mimeType":"audio/pcm;rate=16000"}}}"#;

/// One block of the control: the load of `calls` callers for `length` through the relay. `fifo` is how the relay's own
/// thread is scheduled, as the daemon is.
pub(super) fn measure(
    calls: u16,
    length: Duration,
    phases: Phases,
    fifo: bool,
) -> Result<(Spoken, Vec<Duration>), BenchError> {
    let model = FakeModel::start(Vendor::Gemini, 0)?;
    let relay = Relay::start(model.address(), fifo)?;
    let calls = Calls::open(relay.address, calls, &model)?;
    let (_, notes) = mpsc::channel();
    let grid = Grid::starting_soon(calls.streams.len() as u16, length, phases);
    let spoken = generate(&calls.streams, notes, grid)?;
    thread::sleep(SETTLE);
    hang_up(&calls.streams);
    relay.stop()?;
    Ok((spoken, grid.latencies(&model.stop().arrivals)))
}

/// A thread that relays until this is dropped.
struct Relay {
    address: SocketAddr,
    wanted: Arc<()>,
    thread: JoinHandle<io::Result<()>>,
}

/// One call's two sockets.
struct Bridge {
    fork: Connection,
    model: TcpStream,
}

impl Relay {
    fn start(model: SocketAddr, fifo: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let wanted = Arc::new(());
        let thread = thread::Builder::new().name("null relay".into()).spawn({
            let wanted = Arc::downgrade(&wanted);
            move || {
                if fifo {
                    Scheduling::best_for_this_thread(Priority::Measured);
                }
                relay(&listener, model, &wanted)
            }
        })?;
        Ok(Self { address, wanted, thread })
    }

    fn stop(self) -> io::Result<()> {
        drop(self.wanted);
        self.thread.join().expect("the relay does not panic")
    }
}

impl Bridge {
    fn open(fork: TcpStream, model: SocketAddr) -> io::Result<Self> {
        let fork = Connection::accept(fork)?;
        fork.stream.set_nonblocking(true)?;
        let mut model = Connection::open(model, "/")?.stream;
        model.write_all(&masked_frame(Opcode::Text, br#"{"setup":{}}"#))?;
        Ok(Self { fork, model })
    }

    /// Passes on what can be read at once; false when there will be no more.
    fn relay(&mut self, message: &mut Vec<u8>) -> io::Result<bool> {
        let Connection { stream, frames } = &mut self.fork;
        match frames.read(stream) {
            Ok(0) => return Ok(false),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
        while let Some((opcode, audio)) = frames.next_frame()? {
            match opcode {
                Opcode::Binary => {
                    encode(audio, message);
                    self.model.write_all(message)?;
                }
                Opcode::Close => return Ok(false),
                Opcode::Text | Opcode::Ping | Opcode::Pong => {}
            }
        }
        Ok(true)
    }
}

fn relay(listener: &TcpListener, model: SocketAddr, wanted: &Weak<()>) -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.add(listener, usize::MAX)?;
    let mut bridges = Vec::new();
    let mut ready = Vec::new();
    let mut message = Vec::new();
    while wanted.strong_count() > 0 {
        ready.clear();
        ready.extend(poll.wait(LOOK_UP));
        for number in &ready {
            if *number == usize::MAX {
                let bridge = Bridge::open(listener.accept()?.0, model)?;
                poll.add(&bridge.fork.stream, bridges.len())?;
                bridges.push(bridge);
            } else if !bridges[*number].relay(&mut message)? {
                poll.remove(&bridges[*number].fork.stream);
            }
        }
    }
    Ok(())
}

fn encode(audio: &[u8], message: &mut Vec<u8>) {
    let encoded = STANDARD.encoded_length(audio.len());
    let length = BEFORE.len() + encoded + AFTER.len();
    message.clear();
    append_masked(Opcode::Text, length, message);
    message.extend_from_slice(BEFORE);
    let start = message.len();
    message.resize(start + encoded, 0);
    let _ = STANDARD.encode(audio, message[start..].as_out());
    message.extend_from_slice(AFTER);
    mask_payload(message, length);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_frame_passes_the_relay() {
        for phases in [Phases::Spread, Phases::Burst] {
            let length = Duration::from_millis(200);
            let (spoken, latencies) = measure(3, length, phases, false).unwrap();
            assert_eq!((latencies.len(), spoken.sent.refused), (30, 0), "{phases:?}");
        }
    }
}
