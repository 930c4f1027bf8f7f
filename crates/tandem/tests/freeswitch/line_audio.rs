//! The sound of a telephone's line: RTP of 20 ms both ways, PCMU, digits as events (RFC 4733).

use std::{
    collections::VecDeque,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tandem_call::Digit;
use tandem_media::{Law, g711};
use tandem_sim::freeswitch::Heard;

/// One packet.
const FRAME: Duration = Duration::from_millis(20);
const SAMPLES: usize = 160;

/// Hz of everything here.
const RATE: u32 = 8_000;

/// Payload types as we offer them, and as every switch has them.
const PCMU: u8 = 0;
const EVENTS: u8 = 101;

/// Packets of a key: ten while it is held, three that end it, five of pause.
const HELD: u16 = 10;
const ENDS: u16 = 3;
const PAUSE: u16 = 5;

/// A packet that comes so much later than those before it had a pause before it.
const GAP: usize = 800;

/// One end of a line.
pub(crate) struct LineAudio(Arc<Inner>);

struct Inner {
    rtp: UdpSocket,
    peer: Mutex<SocketAddr>,
    state: Mutex<State>,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    said: VecDeque<i16>,
    keys: VecDeque<u8>,
    /// The key that is pressed: its event, the packet of it, its time stamp.
    key: Option<(u8, u16, u32)>,
    sequence: u16,
    timestamp: u32,
    heard: Vec<i16>,
    started: Option<Instant>,
}

impl LineAudio {
    /// A line to `peer` on which nothing happens yet.
    pub(crate) fn new(peer: SocketAddr) -> Self {
        let rtp = UdpSocket::bind(("127.0.0.1", 0)).expect("a port is free");
        Self(Arc::new(Inner {
            rtp,
            peer: Mutex::new(peer),
            state: Mutex::default(),
            stop: AtomicBool::new(false),
        }))
    }

    /// Its description for the other side (SDP).
    pub(crate) fn description(&self, direction: &str) -> String {
        let port = self.0.rtp.local_addr().expect("it is bound").port();
        format!(
            "v=0\r\no=- 1 {} IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {PCMU} {EVENTS}\r\na=rtpmap:{PCMU} PCMU/8000\r\n\
             a=rtpmap:{EVENTS} telephone-event/8000\r\na=fmtp:{EVENTS} 0-15\r\na=ptime:20\r\n\
             a={direction}\r\n",
            fastrand::u32(..)
        )
    }

    /// Begins to speak and to listen.
    pub(crate) fn start(&self) {
        let inner = Arc::clone(&self.0);
        thread::spawn(move || inner.run());
    }

    /// Is silent and deaf from now on.
    pub(crate) fn stop(&self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }

    /// Speaks to another address.
    pub(crate) fn lead_to(&self, peer: SocketAddr) {
        *locked(&self.0.peer) = peer;
    }

    /// Says these samples after those before; when it begins to.
    pub(crate) fn say(&self, samples: &[i16]) -> Instant {
        locked(&self.0.state).said.extend(samples);
        Instant::now()
    }

    /// Presses these keys after those before.
    pub(crate) fn press(&self, keys: &str) {
        let events = keys.chars().map(|key| Digit::new(key).expect("a digit").event());
        locked(&self.0.state).keys.extend(events);
    }

    /// What was heard so far; where no packets came it is silence.
    pub(crate) fn heard(&self) -> Heard {
        let state = locked(&self.0.state);
        Heard {
            started: state.started.unwrap_or_else(Instant::now),
            rate: RATE,
            samples: state.heard.clone(),
            written: state.heard.len(),
        }
    }
}

impl Drop for LineAudio {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Inner {
    fn run(&self) {
        let mut next = Instant::now();
        let mut datagram = [0; 2_048];
        while !self.stop.load(Ordering::Relaxed) {
            let packet = locked(&self.state).next_packet();
            let peer = *locked(&self.peer);
            if let Some(packet) = packet {
                // The other side may just be going away.
                self.rtp.send_to(&packet, peer).ok();
            }
            next += FRAME;
            loop {
                let left = next.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                self.rtp.set_read_timeout(Some(left)).expect("a time-out can be set");
                let Ok(length) = self.rtp.recv(&mut datagram) else { break };
                locked(&self.state).take(Instant::now(), &datagram[..length]);
            }
        }
    }
}

impl State {
    /// The packet of the next 20 ms; none in the pause after a key.
    fn next_packet(&mut self) -> Option<Vec<u8>> {
        self.timestamp = self.timestamp.wrapping_add(SAMPLES as u32);
        if self.key.is_none() {
            let now = self.timestamp;
            self.key = self.keys.pop_front().map(|event| (event, 0, now));
        }
        let Some((event, count, since)) = self.key else {
            let mut frame = [0; SAMPLES];
            let said = self.said.len().min(SAMPLES);
            for (sample, next) in frame.iter_mut().zip(self.said.drain(..said)) {
                *sample = next;
            }
            let mut payload = [0; SAMPLES];
            g711::encode(Law::Mu, &frame, &mut payload);
            return Some(self.packet(PCMU, false, self.timestamp, &payload));
        };
        self.key = (count + 1 < HELD + ENDS + PAUSE).then_some((event, count + 1, since));
        if count >= HELD + ENDS {
            return None;
        }
        let end = if count >= HELD { 0x80 } else { 0 };
        let duration = (count + 1).min(HELD) * SAMPLES as u16;
        let [high, low] = duration.to_be_bytes();
        Some(self.packet(EVENTS, count == 0, since, &[event, end | 10, high, low]))
    }

    fn packet(&mut self, kind: u8, marked: bool, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = vec![0x80, kind | if marked { 0x80 } else { 0 }];
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend(0x7E57_0002_u32.to_be_bytes());
        packet.extend(payload);
        packet
    }

    fn take(&mut self, now: Instant, packet: &[u8]) {
        if packet.len() <= 12 || packet[0] >> 6 != 2 || packet[1] & 0x7F != PCMU {
            return;
        }
        let started = *self.started.get_or_insert(now);
        let elapsed = now.saturating_duration_since(started).as_micros() as usize;
        let position = elapsed * (RATE as usize / 1_000) / 1_000;
        if position > self.heard.len() + GAP {
            self.heard.resize(position, 0);
        }
        let mut pcm = [0; 2_048];
        let samples = g711::decode(Law::Mu, &packet[12..], &mut pcm);
        self.heard.extend(&pcm[..samples]);
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
