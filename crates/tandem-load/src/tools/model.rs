//! The model of all calls: a thread that speaks OpenAI's protocol and plays each call's part.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    thread,
    time::Instant,
};

use futures_util::StreamExt;
use serde_json::Value;
use tokio::{
    net::{TcpListener, TcpStream},
    runtime,
    sync::{Notify, watch},
    task::JoinSet,
    time::sleep_until,
};
use tokio_tungstenite::{accept_async, tungstenite::Message};

use super::{
    story::Errand,
    talk::{Act, Talk, Told},
};
use crate::{
    clock::{Priority, Scheduling},
    fake_model::{Failed, FunctionCall, Socket, Vendor, openai_answer, send_all},
    marker::Marker,
};

/// How a result begins that is told in words.
const RESULT_IN_WORDS: &str = "(The tool ";

/// What the model saw, said and was told.
#[derive(Debug, Default)]
pub(super) struct ModelLog {
    /// Frames of callers' audio, stamped right after the read of their message.
    pub(super) arrivals: Vec<(Marker, Instant)>,
    /// What it said, each by its first frame, stamped right before the write of the audio.
    pub(super) turns: Vec<(Marker, Instant)>,
    /// What it was told, by call.
    pub(super) told: Vec<(u16, Told)>,
    /// Connections that broke off.
    pub(super) broken: u32,
}

/// What all connections know.
#[derive(Clone)]
struct Rules {
    seed: u64,
    calls_tools: bool,
    /// By call: the model has nothing more to say in it.
    over: Arc<[Notify]>,
}

/// A running model.
pub(super) struct Model {
    address: SocketAddr,
    wanted: watch::Sender<()>,
    over: Arc<[Notify]>,
    thread: thread::JoinHandle<ModelLog>,
}

impl Model {
    /// Listens on loopback, for calls from 0 to `calls`. Their stories follow from `seed`.
    pub(super) fn start(calls: u16, seed: u64, calls_tools: bool) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
        let (wanted, stop) = watch::channel(());
        let over: Arc<[Notify]> = (0..calls).map(|_| Notify::new()).collect();
        let rules = Rules { seed, calls_tools, over: Arc::clone(&over) };
        let thread = thread::Builder::new().name("talking model".into()).spawn(move || {
            Scheduling::best_for_this_thread(Priority::Stamps);
            runtime.block_on(serve(listener, stop, &rules))
        })?;
        Ok(Self { address, wanted, over, thread })
    }

    /// For `base_url`.
    pub(super) fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// By call: notified when the model has nothing more to say in it.
    pub(super) fn over(&self) -> Arc<[Notify]> {
        Arc::clone(&self.over)
    }

    /// Closes all connections and returns what was seen on them.
    pub(super) fn stop(self) -> ModelLog {
        drop(self.wanted);
        self.thread.join().expect("the model does not panic")
    }
}

async fn serve(
    listener: std::net::TcpListener,
    mut stop: watch::Receiver<()>,
    rules: &Rules,
) -> ModelLog {
    let mut log = ModelLog::default();
    let Ok(listener) = TcpListener::from_std(listener) else { return log };
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    conversations.spawn(converse(stream, stop.clone(), rules.clone()));
                }
            }
            Some(conversation) = conversations.join_next() => log.add(conversation),
            _ = stop.changed() => break,
        }
    }
    while let Some(conversation) = conversations.join_next().await {
        log.add(conversation);
    }
    log
}

impl ModelLog {
    fn add(&mut self, conversation: Result<Conversation, tokio::task::JoinError>) {
        let mut conversation = conversation.expect("a conversation does not panic");
        self.arrivals.append(&mut conversation.arrivals);
        self.turns.append(&mut conversation.turns);
        self.broken += u32::from(conversation.broken);
        if let Some(talk) = conversation.talk {
            self.told.push((talk.call(), talk.into_told()));
        }
    }
}

/// One connection.
struct Conversation {
    talk: Option<Talk>,
    arrivals: Vec<(Marker, Instant)>,
    turns: Vec<(Marker, Instant)>,
    broken: bool,
    rules: Rules,
}

/// Serves a connection until the daemon closes it or nobody wants it any more.
async fn converse(stream: TcpStream, mut stop: watch::Receiver<()>, rules: Rules) -> Conversation {
    let mut conversation =
        Conversation { talk: None, arrivals: Vec::new(), turns: Vec::new(), broken: false, rules };
    let accepted = stream.set_nodelay(true).is_ok();
    let (true, Ok(mut socket)) = (accepted, accept_async(stream).await) else {
        conversation.broken = true;
        return conversation;
    };
    tokio::select! {
        talked = conversation.talk(&mut socket) => conversation.broken |= talked.is_err(),
        _ = stop.changed() => {}
    }
    conversation
}

impl Conversation {
    async fn talk(&mut self, socket: &mut Socket) -> Result<(), Failed> {
        let mut decoded = Vec::new();
        loop {
            let now = Instant::now();
            let due = self.talk.as_ref().and_then(|talk| talk.due(now));
            tokio::select! {
                biased;
                message = socket.next() => {
                    let at = Instant::now();
                    match message {
                        Some(Ok(Message::Text(text))) => {
                            self.hear(socket, text.as_bytes(), at, &mut decoded).await?;
                        }
                        Some(Ok(Message::Close(_))) | None => return Ok(()),
                        Some(Ok(_)) => {}
                        Some(Err(error)) => return Err(error),
                    }
                }
                () = sleep_until(due.unwrap_or(now).into()), if due.is_some() => {
                    self.act(socket).await?;
                }
            }
        }
    }

    async fn hear(
        &mut self,
        socket: &mut Socket,
        message: &[u8],
        at: Instant,
        decoded: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        if Vendor::OpenAi.hear(message, at, decoded, &mut self.arrivals) {
            if let (None, Some((marker, _))) = (&self.talk, self.arrivals.last()) {
                let Rules { seed, calls_tools, .. } = self.rules;
                self.talk = Some(Talk::new(at, marker.call, seed, calls_tools));
            }
        } else if Vendor::OpenAi.is_setup(message) {
            send_all(socket, Vendor::OpenAi.greeting()).await?;
        } else if let Some(talk) = &mut self.talk {
            tell(talk, message);
        }
        Ok(())
    }

    async fn act(&mut self, socket: &mut Socket) -> Result<(), Failed> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        let (turn, frames, errands) = match talk.act(Instant::now()) {
            Some(Act::Say { turn, frames }) => (turn, frames, Vec::new()),
            Some(Act::Ask { turn, frames, errands }) => (turn, frames, errands),
            Some(Act::Over) => {
                if let Some(over) = self.rules.over.get(usize::from(talk.call())) {
                    over.notify_one();
                }
                return Ok(());
            }
            None => return Ok(()),
        };
        let calls: Vec<FunctionCall> = errands.iter().map(function_call).collect();
        let answer = openai_answer(turn, usize::from(frames), &calls);
        send_all(socket, &answer.before).await?;
        let written = Instant::now();
        send_all(socket, &[answer.audio]).await?;
        self.turns.push((turn, written));
        send_all(socket, &answer.after).await
    }
}

fn function_call(errand: &Errand) -> FunctionCall {
    FunctionCall {
        call_id: format!("call_{}", errand.ticket()),
        name: errand.tool.name,
        arguments: errand.arguments(),
    }
}

/// Hands on what a message that is no audio says.
fn tell(talk: &mut Talk, message: &[u8]) {
    let Ok(message) = serde_json::from_slice::<Value>(message) else { return };
    let item = &message["item"];
    match message["type"].as_str() {
        Some("response.create") => talk.asked(),
        Some("conversation.item.create") if item["type"] == "function_call_output" => {
            let ticket = item["call_id"].as_str().and_then(|id| id.strip_prefix("call_"));
            let errand = ticket.and_then(Errand::read_ticket);
            talk.result(errand.filter(|(call, _)| *call == talk.call()).map(|(_, number)| number));
        }
        Some("conversation.item.create") => {
            let words = item["content"][0]["text"].as_str().unwrap_or_default();
            talk.heard_words(words.matches(RESULT_IN_WORDS).count() as u32);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_says_is_understood() {
        let now = Instant::now();
        let mut talk = Talk::new(now, 5, 1, true);
        for message in [
            r#"{"type":"conversation.item.create","item":{"type":"function_call_output","call_id":"call_5-1","output":"{}"}}"#,
            r#"{"type":"conversation.item.create","item":{"type":"function_call_output","call_id":"call_4-1","output":"{}"}}"#,
            r#"{"type":"conversation.item.create","item":{"type":"function_call_output","call_id":"x","output":"{}"}}"#,
            r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"(The tool a answered: {})\n(The tool b answered: {})"}]}}"#,
            r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"(The caller is waiting.)"}]}}"#,
            r#"{"type":"session.update"}"#,
            "{",
        ] {
            tell(&mut talk, message.as_bytes());
        }
        assert_eq!((talk.told().results[&1], talk.told().results.len()), (1, 1));
        assert_eq!((talk.told().strange, talk.told().words), (2, 2));
        assert_eq!(talk.act(now), None);
        tell(&mut talk, br#"{"type":"response.create","event_id":"answer-1"}"#);
        assert!(matches!(talk.act(now), Some(Act::Say { .. })));
    }
}
