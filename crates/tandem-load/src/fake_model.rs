//! The model that the daemon talks to: just enough of OpenAI Realtime to be spoken to, and a stamp on every message.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use base64_simd::{AsOut, STANDARD};
use futures_util::{SinkExt, StreamExt};
use memchr::memmem;
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
    marker::{FRAME, Marker, Way, tone},
};

/// Frames of one answer: 200 ms.
const ANSWER_FRAMES: usize = 10;

/// An answer begins this long before the next one may, so that it always meets an idle stream.
const ANSWER_ROOM: Duration = Duration::from_millis(300);

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
    thread: thread::JoinHandle<ModelLog>,
}

impl FakeModel {
    /// Listens on loopback. `seed` decides when it speaks.
    pub(crate) fn start(seed: u64) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (phase, phases) = watch::channel(Phase::Listening);
        let thread = thread::Builder::new().name("fake model".into()).spawn(move || {
            Scheduling::best_for_this_thread(Priority::Stamps);
            runtime.block_on(serve(listener, &phases, seed))
        })?;
        Ok(Self { address, phase, thread })
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
    seed: u64,
) -> ModelLog {
    let mut log = ModelLog::default();
    let mut conversations = JoinSet::new();
    let Ok(listener) = TcpListener::from_std(listener) else { return log };
    let mut over = phases.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    conversations.spawn(converse(stream, phases.clone(), seed));
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
async fn converse(stream: TcpStream, mut phases: watch::Receiver<Phase>, seed: u64) -> ModelLog {
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
                if let Some(audio) = appended_audio(text.as_bytes(), &mut decoded) {
                    let frames = audio.chunks_exact(FRAME);
                    log.arrivals.extend(frames.filter_map(|frame| Some((Marker::read(Way::Up, frame)?, at))));
                    if let (None, Some((marker, _))) = (&voice, log.arrivals.last()) {
                        voice = Some(Voice::new(marker.call, seed, *phases.borrow()));
                    }
                } else if memmem::find(text.as_bytes(), b"\"session.update\"").is_some()
                    && greet(&mut socket).await.is_err()
                {
                    return log;
                }
            }
            () = sleep_until(next_turn.unwrap_or_else(Instant::now).into()), if next_turn.is_some() => {
                let Some(voice) = &mut voice else { continue };
                let turn = voice.take_turn();
                match answer(&mut socket, turn).await {
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

/// The caller's audio in an `input_audio_buffer.append`.
fn appended_audio<'a>(message: &[u8], decoded: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    const KEY: &[u8] = b"\"audio\":\"";
    memmem::find(message, b"\"input_audio_buffer.append\"")?;
    let start = memmem::find(message, KEY)? + KEY.len();
    let length = memchr::memchr(b'"', &message[start..])?;
    let base64 = &message[start..start + length];
    decoded.resize(STANDARD.estimated_decoded_length(base64.len()), 0);
    STANDARD.decode(base64, decoded.as_mut_slice().as_out()).ok().map(|audio| &*audio)
}

/// When one call's model speaks.
struct Voice {
    call: u16,
    spoken: u32,
    random: fastrand::Rng,
    /// Where in its slot the next turn begins, as a part of the slot.
    position: f64,
    phase: Phase,
}

impl Voice {
    fn new(call: u16, seed: u64, phase: Phase) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ u64::from(call) << 32);
        Self { call, spoken: 0, position: random.f64(), random, phase }
    }

    fn next_turn(&self) -> Option<Instant> {
        let Phase::Speaking { from, until, slot } = self.phase else { return None };
        let begin = from + slot * self.spoken;
        (begin + slot <= until)
            .then(|| begin + slot.saturating_sub(ANSWER_ROOM).mul_f64(self.position))
    }

    fn take_turn(&mut self) -> Marker {
        let turn = Marker { call: self.call, number: self.spoken, frame: 0 };
        self.spoken += 1;
        self.position = self.random.f64();
        turn
    }
}

type Socket = WebSocketStream<TcpStream>;
type Failed = tokio_tungstenite::tungstenite::Error;

async fn greet(socket: &mut Socket) -> Result<(), Failed> {
    socket.feed(Message::text(r#"{"type":"session.created","session":{}}"#)).await?;
    socket.send(Message::text(r#"{"type":"session.updated","session":{}}"#)).await
}

/// Speaks 200 ms at once, as models do, and returns the instant before its audio was written.
async fn answer(socket: &mut Socket, turn: Marker) -> Result<Instant, Failed> {
    let name = format!("{}_{}", turn.call, turn.number);
    let item =
        format!(r#"{{"id":"item_{name}","type":"message","role":"assistant","content":[]}}"#);
    let event = |kind: &str, rest: &str| Message::text(format!(r#"{{"type":"{kind}",{rest}}}"#));
    let created =
        format!(r#""response":{{"id":"resp_{name}","status":"in_progress","output":[]}}"#);
    let added = format!(r#""response_id":"resp_{name}","output_index":0,"item":{item}"#);
    let delta = format!(
        r#""response_id":"resp_{name}","item_id":"item_{name}","output_index":0,"content_index":0,"delta":"{}""#,
        STANDARD.encode_to_string(answer_audio(turn)),
    );
    let delta = event("response.output_audio.delta", &delta);
    let done = format!(r#""response":{{"id":"resp_{name}","status":"completed","output":[]}}"#);

    socket.feed(event("response.created", &created)).await?;
    socket.send(event("response.output_item.added", &added)).await?;
    let written = Instant::now();
    socket.send(delta).await?;
    socket.feed(event("response.output_item.done", &added)).await?;
    socket.send(event("response.done", &done)).await?;
    Ok(written)
}

fn answer_audio(turn: Marker) -> Vec<u8> {
    let mut audio = tone(ANSWER_FRAMES * FRAME);
    for (number, frame) in (0..).zip(audio.chunks_exact_mut(FRAME)) {
        Marker { frame: number, ..turn }.write(Way::Down, frame);
    }
    audio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audio_is_found_in_its_message() {
        let mut frames = tone(2 * FRAME);
        let marker = Marker { call: 3, number: 7, frame: 0 };
        marker.write(Way::Up, &mut frames);
        let message = format!(
            r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#,
            STANDARD.encode_to_string(&frames)
        );
        let mut decoded = Vec::new();
        assert_eq!(appended_audio(message.as_bytes(), &mut decoded), Some(&frames[..]));
        for other in [
            r#"{"type":"session.update","session":{}}"#,
            r#"{"type":"input_audio_buffer.append","audio":"a"}"#,
            r#"{"type":"input_audio_buffer.append","audio":"#,
        ] {
            assert_eq!(appended_audio(other.as_bytes(), &mut decoded), None, "{other}");
        }
    }

    #[test]
    fn every_frame_of_an_answer_has_its_number() {
        let turn = Marker { call: 1, number: 2, frame: 0 };
        let audio = answer_audio(turn);
        let frames: Vec<_> =
            audio.chunks(FRAME).map(|frame| Marker::read(Way::Down, frame)).collect();
        let expected: Vec<_> = (0..10).map(|frame| Some(Marker { frame, ..turn })).collect();
        assert_eq!(frames, expected);
    }

    #[test]
    fn a_call_has_one_turn_in_every_slot_and_room_behind_it() {
        let from = Instant::now();
        let (slot, until) = (Duration::from_millis(800), from + Duration::from_secs(4));
        let mut voice = Voice::new(5, 1, Phase::Listening);
        assert_eq!(voice.next_turn(), None);
        voice.phase = Phase::Speaking { from, until, slot };
        for number in 0..5 {
            let at = voice.next_turn().unwrap();
            let begin = from + slot * number;
            assert!((begin..=begin + slot - ANSWER_ROOM).contains(&at));
            assert_eq!(voice.take_turn(), Marker { call: 5, number, frame: 0 });
        }
        assert_eq!(voice.next_turn(), None);
    }
}
