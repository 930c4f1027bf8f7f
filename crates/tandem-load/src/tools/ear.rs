//! The callers' ears: one thread that stamps every packet in which something is heard, and how long callers had to wait
//! in silence.

use std::{
    collections::HashMap,
    io,
    net::UdpSocket,
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use tandem_media::{Law, g711};
use tandem_rtp::RtpPacket;

use super::talk::Wait;
use crate::{
    clock::{Priority, Scheduling},
    generator::PTIME,
    listener::TurnsHeard,
    marker::{FRAME, LEN, Marker, Way},
};

/// How often a quiet socket is left to see whether it is time to stop.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Mean square of a packet in which something is heard: -50 dBFS, well under the faintest syllable of a prompt.
const AUDIBLE: u64 = 100 * 100;

/// A stream in which the last sound is this old stands still: what comes next starts at once.
const IDLE: Duration = Duration::from_millis(100);

/// Which call a port of the daemon belongs to, from when on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answered {
    /// The daemon's.
    pub(super) port: u16,
    /// The INVITE.
    pub(super) from: Instant,
    /// The call.
    pub(super) call: u16,
}

/// What came down.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Marked packets of the model's turns.
    marked: Vec<(Marker, Instant)>,
    /// Packets in which something is heard, by the daemon's port.
    sounds: Vec<(u16, Instant)>,
}

/// A thread that listens on the socket of all calls, until this is stopped.
pub(super) struct Ear {
    wanted: Arc<()>,
    thread: thread::JoinHandle<Heard>,
}

impl Ear {
    /// Listens on `socket`.
    pub(super) fn start(socket: UdpSocket) -> io::Result<Self> {
        socket.set_read_timeout(Some(LOOK_UP))?;
        let wanted = Arc::new(());
        let thread = thread::Builder::new().name("listener".into()).spawn({
            let wanted = Arc::downgrade(&wanted);
            move || listen(&socket, &wanted)
        })?;
        Ok(Self { wanted, thread })
    }

    /// What came.
    pub(super) fn stop(self) -> Heard {
        drop(self.wanted);
        self.thread.join().expect("the listener does not panic")
    }
}

fn listen(socket: &UdpSocket, wanted: &Weak<()>) -> Heard {
    Scheduling::best_for_this_thread(Priority::Stamps);
    let mut heard = Heard::default();
    let mut datagram = [0; 2048];
    let mut streams: HashMap<u16, Stream> = HashMap::new();
    while wanted.strong_count() > 0 {
        let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue }; // Nothing came, or an ICMP error.
        let at = Instant::now();
        let Ok(packet) = RtpPacket::parse(&datagram[..length]) else { continue };
        if is_audible(packet.payload) {
            heard.sounds.push((from.port(), at));
        }
        let stream = streams.entry(from.port()).or_default();
        heard.marked.extend(stream.markers(packet.payload).map(|marker| (marker, at)));
    }
    heard
}

/// What came from one port: words behind a prompt do not begin where a packet does.
#[derive(Default)]
struct Stream {
    /// The latest packet, behind the end of the one before it.
    audio: Vec<u8>,
}

impl Stream {
    /// The markers that end in `payload`.
    fn markers(&mut self, payload: &[u8]) -> impl Iterator<Item = Marker> {
        let beginning = self.audio.len().saturating_sub(LEN - 1);
        self.audio.drain(..beginning);
        self.audio.extend_from_slice(payload);
        Marker::find(Way::Down, &self.audio)
    }
}

fn is_audible(payload: &[u8]) -> bool {
    let mut pcm = [0; FRAME];
    let length = payload.len().min(FRAME);
    let samples = g711::decode(Law::Mu, &payload[..length], &mut pcm);
    let power: u64 = pcm[..samples].iter().map(|it| u64::from(it.unsigned_abs()).pow(2)).sum();
    power > AUDIBLE * samples.max(1) as u64
}

/// What the callers heard, call by call.
#[derive(Debug, Default)]
pub(super) struct CallersHeard {
    /// Latency and spacing of the model's turns. Of turns that began while something else was heard there is no first packet.
    pub(super) turns: TurnsHeard,
    /// Turns that had to wait for the end of what was heard before.
    pub(super) queued: u64,
    /// The longest silence of each wait.
    pub(super) silences: Vec<Duration>,
    /// Waits at whose end no answer was heard.
    pub(super) unanswered: u64,
}

impl CallersHeard {
    /// Puts together what was `heard`, with the `turns` the model wrote and the `waits` of callers.
    pub(super) fn new(
        heard: Heard,
        answered: &[Answered],
        turns: &[(Marker, Instant)],
        waits: &[Wait],
    ) -> Self {
        let sounds = by_call(&heard.sounds, answered);
        let of = |call: u16| sounds.get(usize::from(call)).map_or(&[][..], Vec::as_slice);
        let mut turns = turns.to_vec();
        turns.sort_unstable();
        let behind_another = |index: usize, (turn, at): (Marker, Instant)| {
            let before = index.checked_sub(1).map(|before| turns[before]);
            before.is_some_and(|(other, written)| other.call == turn.call && at < written + IDLE)
        };
        let (mut idle, mut queued) = (Vec::new(), Vec::new());
        for (index, &(turn, at)) in turns.iter().enumerate() {
            let sounds = last_before(of(turn.call), at).is_some_and(|sound| at <= sound + IDLE);
            // What was written a moment ago may not have been heard yet.
            let waits = sounds || behind_another(index, (turn, at));
            if waits { &mut queued } else { &mut idle }.push((turn, at));
        }
        let mut marked = heard.marked;
        marked.sort_unstable();
        let first = |turn: Marker| {
            let found = marked.binary_search_by_key(&turn, |(marker, _)| *marker).ok()?;
            Some(marked[found].1)
        };
        let unheard = queued.iter().filter(|(turn, _)| first(*turn).is_none()).count() as u64;
        let mut result = Self { queued: queued.len() as u64, ..Self::default() };
        for wait in waits {
            match wait.until.and_then(first) {
                Some(until) => {
                    result.silences.push(longest_silence(of(wait.call), wait.from, until));
                }
                None => result.unanswered += 1,
            }
        }
        result.turns = TurnsHeard::new(&idle, marked);
        result.turns.unheard += unheard;
        result
    }
}

/// When something was heard, by call, in order.
fn by_call(sounds: &[(u16, Instant)], answered: &[Answered]) -> Vec<Vec<Instant>> {
    let calls = answered.iter().map(|it| usize::from(it.call) + 1).max().unwrap_or(0);
    let mut of_port: Vec<Vec<&Answered>> = vec![Vec::new(); usize::from(u16::MAX) + 1];
    for it in answered {
        of_port[usize::from(it.port)].push(it);
    }
    for calls in &mut of_port {
        calls.sort_unstable_by_key(|it| it.from);
    }
    let mut by_call = vec![Vec::new(); calls];
    for (port, at) in sounds {
        let calls = &of_port[usize::from(*port)];
        let next = calls.partition_point(|it| it.from <= *at);
        if let Some(it) = next.checked_sub(1).map(|index| calls[index]) {
            by_call[usize::from(it.call)].push(*at);
        }
    }
    by_call
}

fn last_before(sounds: &[Instant], at: Instant) -> Option<Instant> {
    let next = sounds.partition_point(|sound| *sound < at);
    next.checked_sub(1).map(|index| sounds[index])
}

/// The longest time without a sound between `from` and `until`, when there is one.
fn longest_silence(sounds: &[Instant], from: Instant, until: Instant) -> Duration {
    let (mut last, mut longest) = (from, Duration::ZERO);
    let begin = sounds.partition_point(|sound| *sound < from);
    for sound in sounds[begin..].iter().take_while(|sound| **sound <= until).chain([&until]) {
        longest = longest.max(sound.saturating_duration_since(last));
        last = *sound + PTIME;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marker::{silence, tone};

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_tone_is_heard_and_a_marked_silence_is_not() {
        let mut quiet = silence();
        Marker { call: 3, number: 9, frame: 2 }.write(Way::Down, &mut quiet);
        assert!(!is_audible(&quiet) && !is_audible(&[]));
        let mut loud = tone(FRAME);
        Marker { call: 3, number: 9, frame: 2 }.write(Way::Down, &mut loud);
        assert!(is_audible(&loud) && is_audible(&tone(2 * FRAME)));
    }

    #[test]
    fn a_marker_is_found_across_packets() {
        let mut audio = tone(3 * FRAME);
        let marker = Marker { call: 1, number: 2, frame: 3 };
        marker.write(Way::Down, &mut audio[FRAME - 5..]);
        marker.write(Way::Down, &mut audio[2 * FRAME + 50..]);
        let mut stream = Stream::default();
        let found: Vec<usize> =
            audio.chunks(FRAME).map(|packet| stream.markers(packet).count()).collect();
        assert_eq!(found, [0, 1, 1]);
    }

    #[test]
    fn the_longest_silence_is_between_two_sounds_of_a_wait() {
        let start = Instant::now();
        let at = |times: &[u64]| times.iter().map(|it| start + ms(*it)).collect::<Vec<_>>();
        for (name, sounds, from, until, expected) in [
            ("nothing but the end", at(&[1_000]), 0, 1_000, 1_000),
            ("words, then the answer", at(&[0, 20, 40, 900]), 0, 900, 840),
            ("a prompt between", at(&[0, 20, 1_500, 1_520, 2_900]), 0, 2_900, 1_460),
            ("silent before the wait", at(&[1_000, 4_000]), 2_000, 4_000, 2_000),
            ("what comes later is another silence", at(&[0, 500, 9_000]), 0, 500, 480),
        ] {
            let found = longest_silence(&sounds, start + ms(from), start + ms(until));
            assert_eq!(found, ms(expected), "{name}");
        }
    }

    #[test]
    fn a_port_belongs_to_its_call_until_the_next() {
        let start = Instant::now() + ms(1_000);
        let answered = [
            Answered { port: 40, from: start, call: 0 },
            Answered { port: 42, from: start, call: 1 },
            Answered { port: 40, from: start + ms(500), call: 2 },
        ];
        let before = start.checked_sub(ms(1)).unwrap();
        let sounds = [
            (40, before),
            (40, start + ms(10)),
            (42, start + ms(20)),
            (40, start + ms(499)),
            (40, start + ms(500)),
            (44, start + ms(510)),
        ];
        let found = by_call(&sounds, &answered);
        let after = |times: &[u64]| times.iter().map(|it| start + ms(*it)).collect::<Vec<_>>();
        assert_eq!(found, [after(&[10, 499]), after(&[20]), after(&[500])]);
    }

    #[test]
    fn a_turn_behind_other_sounds_has_no_latency_but_is_heard() {
        let start = Instant::now();
        let turn = |number, frame| Marker { call: 0, number, frame };
        let answered = [Answered { port: 40, from: start, call: 0 }];
        let heard = Heard {
            marked: vec![(turn(0, 0), start + ms(11)), (turn(1, 0), start + ms(300))],
            sounds: [11, 31, 51, 300].map(|it| (40, start + ms(it))).to_vec(),
        };
        let turns = [
            (turn(0, 0), start + ms(10)),
            (turn(1, 0), start + ms(60)),
            (turn(2, 0), start + ms(900)),
            (turn(3, 0), start + ms(901)),
        ];
        let waits = [
            Wait { call: 0, from: start + ms(10), until: Some(turn(1, 0)) },
            Wait { call: 0, from: start + ms(900), until: None },
        ];
        let found = CallersHeard::new(heard, &answered, &turns, &waits);
        assert_eq!(found.turns.first_packet, [ms(1)]);
        assert_eq!((found.queued, found.turns.unheard, found.unanswered), (2, 2, 1));
        assert_eq!(found.silences, [ms(229)]);
    }
}
