//! The callers' voices: one thread that sends everybody's frames, each at its own instant of an absolute grid.

use std::{
    io::{self, Write},
    net::TcpStream,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::websocket::{Opcode, masked_frame, rewrite_masked};
use crate::{
    clock::{Priority, Scheduling, Sleeper},
    generator::{Grid, Phases, Sent, WARM_UP},
    marker::{Marker, PCM_FRAME},
};

/// Bytes before the payload of a frame of audio (RFC 6455 §5.2): two of length, four of mask.
const HEAD: usize = 8;

/// A frame that a call owes its peer beside the audio: it leaves behind its next audio.
pub(super) type Note = (usize, Vec<u8>);

/// How the generator kept its grid.
#[derive(Debug)]
pub(super) struct Spoken {
    pub(super) sent: Sent,
    /// From the first frame of a common tick to the end of the last; empty where phases are spread.
    pub(super) bursts: Vec<Duration>,
}

impl AsRef<Sent> for Spoken {
    fn as_ref(&self) -> &Sent {
        &self.sent
    }
}

/// Sends all frames of `grid`, those of call n to the n-th of `streams`. Takes as long as the grid is.
pub(super) fn generate(
    streams: &[Arc<TcpStream>],
    notes: mpsc::Receiver<Note>,
    grid: Grid,
) -> io::Result<Spoken> {
    let calls = streams.iter().map(Call::new).collect();
    let generator = thread::Builder::new().name("generator".into());
    let thread = generator.spawn(move || send_all(calls, &notes, grid))?;
    Ok(thread.join().expect("the generator does not panic"))
}

/// One call's way up.
struct Call {
    stream: Arc<TcpStream>,
    /// Masked silence, to write markers into.
    frame: Vec<u8>,
    /// What a full socket did not take of a frame.
    rest: Vec<u8>,
    notes: Vec<Vec<u8>>,
}

impl Call {
    fn new(stream: &Arc<TcpStream>) -> Self {
        Self {
            stream: Arc::clone(stream),
            frame: masked_frame(Opcode::Binary, &[0; PCM_FRAME]),
            rest: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn mark(&mut self, marker: Marker) {
        rewrite_masked(&mut self.frame, HEAD, &marker.to_pcm());
    }

    /// Sends the frame; false when the socket takes nothing.
    fn send(&mut self) -> bool {
        if !self.send_rest() {
            return false;
        }
        match (&*self.stream).write(&self.frame) {
            Ok(sent) => {
                self.rest.extend_from_slice(&self.frame[sent..]);
                true
            }
            Err(_) => false,
        }
    }

    fn send_rest(&mut self) -> bool {
        if self.rest.is_empty() {
            return true;
        }
        let sent = (&*self.stream).write(&self.rest).unwrap_or_default();
        self.rest.drain(..sent);
        self.rest.is_empty()
    }

    fn send_notes(&mut self) {
        for note in self.notes.drain(..) {
            if !self.rest.is_empty() {
                self.rest.extend_from_slice(&note);
                continue;
            }
            let sent = (&*self.stream).write(&note).unwrap_or_default();
            self.rest.extend_from_slice(&note[sent..]);
        }
    }
}

fn send_all(mut calls: Vec<Call>, notes: &mpsc::Receiver<Note>, grid: Grid) -> Spoken {
    let scheduling = Scheduling::best_for_this_thread(Priority::Paces);
    let sleeper = Sleeper::new();
    let burst = grid.phases == Phases::Burst;
    let mut lateness = Vec::with_capacity(grid.counted() as usize);
    let mut bursts = Vec::with_capacity(if burst { grid.packets as usize } else { 0 });
    let mut refused = 0;
    for number in 0..grid.packets {
        let counts = number >= WARM_UP;
        let mut first = None;
        for (call, line) in (0..).zip(&mut calls) {
            line.mark(Marker { call, number, frame: 0 });
            let due = grid.due(call, number);
            // Who sends with others is as late as the first of them; what those before it take is part of the load.
            let begins = !burst || first.is_none();
            if begins {
                sleeper.sleep_until(due);
                let now = Instant::now();
                first.get_or_insert(now);
                if counts {
                    lateness.push(now.saturating_duration_since(due));
                }
            }
            refused += u64::from(!line.send());
            if !burst {
                line.send_notes();
            }
        }
        if let (true, true, Some(first)) = (burst, counts, first) {
            bursts.push(first.elapsed());
        }
        if burst {
            calls.iter_mut().for_each(Call::send_notes);
        }
        for (call, note) in notes.try_iter() {
            calls[call].notes.push(note);
        }
    }
    Spoken { sent: Sent { scheduling, lateness, refused }, bursts }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::{super::websocket::Frames, *};

    #[test]
    fn frames_leave_with_their_markers_and_notes_behind_them() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            near.set_nonblocking(true).unwrap();
            (Arc::new(near), listener.accept().unwrap().0)
        };
        let (streams, mut peers): (Vec<_>, Vec<_>) = (0..2).map(|_| pair()).unzip();
        for phases in [Phases::Spread, Phases::Burst] {
            let (owe, notes) = mpsc::channel();
            owe.send((1, masked_frame(Opcode::Pong, b"x"))).unwrap();
            // All of it is due already.
            let start = Instant::now().checked_sub(Duration::from_secs(2)).unwrap();
            let grid = Grid { start, calls: 2, packets: WARM_UP + 2, phases };
            let Spoken { sent, bursts } = generate(&streams, notes, grid).unwrap();
            let ticks = if phases == Phases::Burst { 2 } else { 0 };
            assert_eq!((sent.lateness.len(), sent.refused, bursts.len()), (4 - ticks, 0, ticks));
            for (call, peer) in (0..).zip(&mut peers) {
                let (mut frames, mut found, mut pongs) = (Frames::default(), Vec::new(), 0);
                while found.len() < grid.packets as usize {
                    assert_ne!(frames.read(peer).unwrap(), 0);
                    while let Some((opcode, payload)) = frames.next_frame().unwrap() {
                        match opcode {
                            Opcode::Binary => {
                                assert_eq!(payload.len(), PCM_FRAME);
                                found.extend(Marker::find_pcm(payload));
                            }
                            Opcode::Pong => pongs += 1,
                            other => panic!("{other:?}"),
                        }
                    }
                }
                let expected = (0..grid.packets).map(|number| Marker { call, number, frame: 0 });
                assert_eq!(found, expected.collect::<Vec<_>>());
                assert_eq!(pongs, call, "the second call owes a pong");
            }
        }
    }
}
