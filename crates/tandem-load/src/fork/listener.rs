//! The callers' ears: one thread that stamps every message of speech as it comes, and plays the module.

use std::{
    io,
    net::TcpStream,
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use memchr::memmem;

use super::{
    generator::Note,
    poll::Poll,
    websocket::{Frames, Opcode, masked_frame},
};
use crate::{
    clock::{Priority, Scheduling},
    marker::Marker,
};

/// How often quiet sockets are left to see whether it is time to stop.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Amplitudes above this are speech: resampling leaves no more of silence.
const LOUD: u16 = 200;

/// Samples per second of what comes back.
const RATE: usize = 16_000;

/// So much of an answer is not missed: the ends of resampling filters. A lost message is longer.
const TAIL: Duration = Duration::from_millis(20);

/// One message of speech.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Speech {
    pub(super) call: u16,
    pub(super) at: Instant,
    pub(super) samples: usize,
}

/// What came back on all forks.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) speech: Vec<Speech>,
    /// Forks that the peer closed.
    pub(super) closed: u64,
}

/// A thread that listens on all forks, until this is dropped.
pub(super) struct Listener {
    wanted: Arc<()>,
    thread: thread::JoinHandle<Heard>,
}

impl Listener {
    /// Listens on `streams`, of which `frames` were read already. What the module would answer goes to `owed`.
    pub(super) fn start(
        streams: &[Arc<TcpStream>],
        frames: Vec<Frames>,
        owed: mpsc::Sender<Note>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut forks = Vec::new();
        for (number, (stream, frames)) in streams.iter().zip(frames).enumerate() {
            poll.add(&**stream, number)?;
            forks.push(Fork { stream: Arc::clone(stream), frames });
        }
        let wanted = Arc::new(());
        let thread = thread::Builder::new().name("listener".into()).spawn({
            let wanted = Arc::downgrade(&wanted);
            move || listen(poll, forks, &owed, &wanted)
        })?;
        Ok(Self { wanted, thread })
    }

    /// What came until now.
    pub(super) fn stop(self) -> Heard {
        drop(self.wanted);
        self.thread.join().expect("the listener does not panic")
    }
}

struct Fork {
    stream: Arc<TcpStream>,
    frames: Frames,
}

fn listen(
    mut poll: Poll,
    mut forks: Vec<Fork>,
    owed: &mpsc::Sender<Note>,
    wanted: &Weak<()>,
) -> Heard {
    Scheduling::best_for_this_thread(Priority::Stamps);
    let mut heard = Heard { speech: Vec::with_capacity(1 << 14), closed: 0 };
    let mut over = Vec::new();
    for (call, fork) in forks.iter_mut().enumerate() {
        if heard.take(call, &mut fork.frames, owed).is_err() {
            over.push(call);
        }
    }
    while wanted.strong_count() > 0 {
        for call in over.drain(..) {
            heard.closed += 1;
            poll.remove(&*forks[call].stream);
        }
        for call in poll.wait(LOOK_UP) {
            let Fork { stream, frames } = &mut forks[call];
            let taken = match frames.read(&mut &**stream) {
                Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => heard.take(call, frames, owed),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(error),
            };
            if taken.is_err() {
                over.push(call);
            }
        }
    }
    heard.closed += over.len() as u64;
    heard
}

impl Heard {
    /// Takes the frames that were read just now; an error is the end of the fork.
    fn take(
        &mut self,
        call: usize,
        frames: &mut Frames,
        owed: &mpsc::Sender<Note>,
    ) -> io::Result<()> {
        let at = Instant::now();
        while let Some((opcode, payload)) = frames.next_frame()? {
            let note = match opcode {
                Opcode::Binary => {
                    if is_loud(payload) {
                        let samples = payload.len() / 2;
                        self.speech.push(Speech { call: call as u16, at, samples });
                    }
                    continue;
                }
                Opcode::Text => match played(payload) {
                    Some(notice) => masked_frame(Opcode::Text, notice.as_bytes()),
                    None => continue,
                },
                Opcode::Ping => masked_frame(Opcode::Pong, payload),
                Opcode::Pong => continue,
                Opcode::Close => return Err(io::ErrorKind::UnexpectedEof.into()),
            };
            // Nobody takes it any more when all is said.
            let _ = owed.send((call, note));
        }
        Ok(())
    }
}

fn is_loud(payload: &[u8]) -> bool {
    payload.as_chunks::<2>().0.iter().any(|it| i16::from_le_bytes(*it).unsigned_abs() > LOUD)
}

/// What the module says when it comes to the mark in `text`, if there is one: with the call's next frame, as it would.
fn played(text: &[u8]) -> Option<String> {
    const NAME: &[u8] = b"\"name\":\"";
    memmem::find(text, b"\"mark\"")?;
    let start = memmem::find(text, NAME)? + NAME.len();
    let length = memchr::memchr(b'"', &text[start..])?;
    let name = str::from_utf8(&text[start..start + length]).ok()?;
    Some(format!(r#"{{"type": "mark", "data": {{"name":"{name}", "event": "playout"}}}}"#))
}

/// What the callers heard of the model's answers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct AnswersHeard {
    /// From the model's write to the first message of speech, per answer.
    pub(super) first_message: Vec<Duration>,
    /// Answers of which nothing or not all came.
    pub(super) incomplete: u64,
    /// All answers.
    pub(super) written: u64,
}

impl AnswersHeard {
    /// Matches the answers that were `written`, each of `length`, with what was heard on the same call until the next.
    pub(super) fn new(
        mut written: Vec<(Marker, Instant)>,
        length: Duration,
        mut speech: Vec<Speech>,
    ) -> Self {
        written.sort_unstable();
        speech.sort_unstable();
        let whole = length.saturating_sub(TAIL).as_millis() as usize * RATE / 1000;
        let mut answers = Self { written: written.len() as u64, ..Self::default() };
        for (position, (turn, since)) in written.iter().enumerate() {
            let next = written.get(position + 1).filter(|(next, _)| next.call == turn.call);
            let begin = speech.partition_point(|it| (it.call, it.at) < (turn.call, *since));
            let heard = speech[begin..].iter().take_while(|it| {
                it.call == turn.call && next.is_none_or(|(_, next)| it.at < *next)
            });
            let (first, samples) = heard.fold((None, 0), |(first, samples), it| {
                (first.or(Some(it.at)), samples + it.samples)
            });
            answers
                .first_message
                .extend(first.map(|first: Instant| first.saturating_duration_since(*since)));
            answers.incomplete += u64::from(samples < whole);
        }
        answers
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net::TcpListener};

    use super::*;

    #[test]
    fn answers_are_matched_with_the_speech_behind_them() {
        let start = Instant::now();
        let at = |micros| start + Duration::from_micros(micros);
        let turn = |call, number| Marker { call, number, frame: 0 };
        let speech = |call, micros, samples| Speech { call, at: at(micros), samples };
        let written = vec![
            (turn(0, 0), at(0)),
            (turn(1, 0), at(100)),
            (turn(0, 1), at(900_000)),
            (turn(2, 0), at(5)),
        ];
        let heard = vec![
            speech(1, 600, 6080),
            speech(0, 400, 3520),
            speech(0, 180_000, 2880),
            speech(0, 900_300, 5760),
        ];
        let answers = AnswersHeard::new(written, Duration::from_millis(400), heard);
        let micros = |n: &[u64]| n.iter().copied().map(Duration::from_micros).collect::<Vec<_>>();
        assert_eq!(answers.first_message, micros(&[400, 300, 500]));
        assert_eq!(answers.written, 4);
        assert_eq!(answers.incomplete, 2, "one message lost, one answer unheard");
    }

    #[test]
    fn speech_is_stamped_marks_and_pings_are_answered_and_an_end_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let pair = || {
            let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            near.set_nonblocking(true).unwrap();
            (Arc::new(near), listener.accept().unwrap().0)
        };
        let (streams, mut peers): (Vec<_>, Vec<_>) = (0..2).map(|_| pair()).unzip();
        let (owed, notes) = mpsc::channel();
        let mut early = Frames::default();
        early.read(&mut &[0x89, 1, b'a'][..]).unwrap();
        let ears = Listener::start(&streams, vec![early, Frames::default()], owed).unwrap();
        assert_eq!(notes.recv().unwrap(), (0, masked_frame(Opcode::Pong, b"a")));

        let mark = br#"{"type":"mark","data":{"name":"7"}}"#;
        peers[1].write_all(&masked_frame(Opcode::Binary, &[0; 1280])).unwrap();
        peers[1].write_all(&masked_frame(Opcode::Binary, &[0, 4].repeat(640))).unwrap();
        peers[1].write_all(&masked_frame(Opcode::Text, br#"{"type":"killAudio"}"#)).unwrap();
        peers[1].write_all(&masked_frame(Opcode::Text, mark)).unwrap();
        let notice = br#"{"type": "mark", "data": {"name":"7", "event": "playout"}}"#;
        assert_eq!(notes.recv().unwrap(), (1, masked_frame(Opcode::Text, notice)));
        drop(peers.remove(0));
        peers[0].write_all(&masked_frame(Opcode::Ping, b"")).unwrap();
        notes.recv().unwrap();
        let heard = ears.stop();
        let speech: Vec<_> = heard.speech.iter().map(|it| (it.call, it.samples)).collect();
        assert_eq!(speech, [(1, 640)]);
        assert_eq!(heard.closed, 1);
    }
}
