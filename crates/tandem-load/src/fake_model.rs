//! The model that the daemon talks to: just enough of a vendor's protocol to be spoken to, and a stamp on every message.

mod vendor;

pub(crate) use vendor::{FunctionCall, Vendor, openai_answer};

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::watch,
    task::JoinSet,
    time::sleep_until,
};
use tokio_tungstenite::{WebSocketStream, accept_async, tungstenite::Message};

use crate::{
    clock::{Priority, Scheduling},
    marker::Marker,
};

/// From the end of an answer's audio to the next answer at least, so that it always meets an idle stream.
const PAUSE: Duration = Duration::from_millis(100);

/// What the model does.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// It listens.
    Listening,
    /// On each call it speaks once in every `slot` between `from` and `until`, at a random moment of it.
    Speaking { from: Instant, until: Instant, slot: Duration },
    /// It hangs up.
    Over,
}

/// What the model saw and said.
#[derive(Debug, Default)]
pub(crate) struct ModelLog {
    /// Frames of callers' audio, stamped right after the read of their message.
    pub(crate) arrivals: Vec<(Marker, Instant)>,
    /// Answers, each by its first frame, stamped right before the write of their audio.
    pub(crate) turns: Vec<(Marker, Instant)>,
}

/// A running model.
pub(crate) struct FakeModel {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    sessions: mpsc::Receiver<Instant>,
    thread: thread::JoinHandle<ModelLog>,
}

/// What all connections are to know.
#[derive(Clone)]
struct Rules {
    vendor: Vendor,
    seed: u64,
    sessions: mpsc::Sender<Instant>,
}

impl FakeModel {
    /// Listens on loopback. `seed` decides when it speaks.
    pub(crate) fn start(vendor: Vendor, seed: u64) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (phase, phases) = watch::channel(Phase::Listening);
        let (opened, sessions) = mpsc::channel();
        let rules = Rules { vendor, seed, sessions: opened };
        let thread = thread::Builder::new().name("fake model".into()).spawn(move || {
            Scheduling::best_for_this_thread(Priority::Stamps);
            runtime.block_on(serve(listener, &phases, &rules))
        })?;
        Ok(Self { address, phase, sessions, thread })
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the next session to be open, and says since when it is.
    pub(crate) fn next_session(&self, within: Duration) -> Option<Instant> {
        self.sessions.recv_timeout(within).ok()
    }

    /// For `base_url`.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    /// Closes all connections and returns what was seen on them.
    pub(crate) fn stop(self) -> ModelLog {
        self.set_phase(Phase::Over);
        self.thread.join().expect("the fake model does not panic")
    }
}

async fn serve(
    listener: std::net::TcpListener,
    phases: &watch::Receiver<Phase>,
    rules: &Rules,
) -> ModelLog {
    let mut log = ModelLog::default();
    let mut conversations = JoinSet::new();
    let Ok(listener) = TcpListener::from_std(listener) else { return log };
    let mut over = phases.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    conversations.spawn(converse(stream, phases.clone(), rules.clone()));
                }
            }
            _ = over.wait_for(|phase| matches!(phase, Phase::Over)) => break,
        }
    }
    while let Some(conversation) = conversations.join_next().await {
        let conversation = conversation.expect("a conversation does not panic");
        log.arrivals.extend(conversation.arrivals);
        log.turns.extend(conversation.turns);
    }
    log
}

/// One connection, until the daemon closes it or all is over.
async fn converse(stream: TcpStream, mut phases: watch::Receiver<Phase>, rules: Rules) -> ModelLog {
    let Rules { vendor, seed, sessions } = rules;
    let mut log = ModelLog::default();
    if stream.set_nodelay(true).is_err() {
        return log;
    }
    let Ok(mut socket) = accept_async(stream).await else { return log };
    log.arrivals.reserve(1 << 12);
    let mut decoded = Vec::new();
    let mut voice = None;
    loop {
        let next_turn = voice.as_ref().and_then(Voice::next_turn);
        tokio::select! {
            biased;
            message = socket.next() => {
                let at = Instant::now();
                let Some(Ok(message)) = message else { return log };
                let Message::Text(text) = message else { continue };
                if vendor.hear(text.as_bytes(), at, &mut decoded, &mut log.arrivals) {
                    if let (None, Some((marker, _))) = (&voice, log.arrivals.last()) {
                        voice = Some(Voice::new(vendor, marker.call, seed, *phases.borrow()));
                    }
                } else if vendor.is_setup(text.as_bytes()) {
                    if send_all(&mut socket, vendor.greeting()).await.is_err() {
                        return log;
                    }
                    let _ = sessions.send(Instant::now()); // Nobody may be waiting for it.
                }
            }
            () = sleep_until(next_turn.unwrap_or_else(Instant::now).into()), if next_turn.is_some() => {
                let Some(voice) = &mut voice else { continue };
                let turn = voice.take_turn();
                match answer(&mut socket, vendor, turn).await {
                    Ok(written) => log.turns.push((turn, written)),
                    Err(_) => return log,
                }
            }
            changed = phases.changed() => {
                let phase = *phases.borrow_and_update();
                if changed.is_err() || matches!(phase, Phase::Over) {
                    return log;
                }
                if let Some(voice) = &mut voice {
                    voice.phase = phase;
                }
            }
        }
    }
}

/// When one call's model speaks.
struct Voice {
    vendor: Vendor,
    call: u16,
    spoken: u32,
    random: fastrand::Rng,
    /// Where in its slot the next turn begins, as a part of the slot.
    position: f64,
    phase: Phase,
}

impl Voice {
    fn new(vendor: Vendor, call: u16, seed: u64, phase: Phase) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ u64::from(call) << 32);
        Self { vendor, call, spoken: 0, position: random.f64(), random, phase }
    }

    fn next_turn(&self) -> Option<Instant> {
        let Phase::Speaking { from, until, slot } = self.phase else { return None };
        let begin = from + slot * self.spoken;
        let room = self.vendor.answer_length() + PAUSE;
        (begin + slot <= until).then(|| begin + slot.saturating_sub(room).mul_f64(self.position))
    }

    fn take_turn(&mut self) -> Marker {
        let turn = Marker { call: self.call, number: self.spoken, frame: 0 };
        self.spoken += 1;
        self.position = self.random.f64();
        turn
    }
}

/// A connection of the daemon.
pub(crate) type Socket = WebSocketStream<TcpStream>;
/// Why nothing can be sent on it.
pub(crate) type Failed = tokio_tungstenite::tungstenite::Error;

pub(crate) async fn send_all(
    socket: &mut Socket,
    messages: &[impl AsRef<str>],
) -> Result<(), Failed> {
    for message in messages {
        socket.feed(Message::text(message.as_ref())).await?;
    }
    socket.flush().await
}

/// Speaks all of an answer at once, as models do, and returns the instant before its audio was written.
async fn answer(socket: &mut Socket, vendor: Vendor, turn: Marker) -> Result<Instant, Failed> {
    let answer = vendor.answer(turn);
    send_all(socket, &answer.before).await?;
    let written = Instant::now();
    socket.send(Message::text(answer.audio)).await?;
    send_all(socket, &answer.after).await?;
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_one_turn_in_every_slot_and_room_behind_it() {
        let from = Instant::now();
        let (slot, until) = (Duration::from_millis(800), from + Duration::from_secs(4));
        let mut voice = Voice::new(Vendor::OpenAi, 5, 1, Phase::Listening);
        assert_eq!(voice.next_turn(), None);
        voice.phase = Phase::Speaking { from, until, slot };
        for number in 0..5 {
            let at = voice.next_turn().unwrap();
            let begin = from + slot * number;
            assert!((begin..=begin + slot - Duration::from_millis(300)).contains(&at));
            assert_eq!(voice.take_turn(), Marker { call: 5, number, frame: 0 });
        }
        assert_eq!(voice.next_turn(), None);
    }
}
