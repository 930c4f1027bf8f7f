//! The seam between the script engine and a provider's wire shapes.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tandem_media::AudioFormat;

use crate::{
    answer::AudioBank,
    script::{InputTranscript, Response, ToolRequest},
    speech::SpeechChange,
};

/// The handshake as the server sees it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dial {
    pub(crate) path: String,
    pub(crate) query: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
}

impl Dial {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// One thing for the socket, in order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    Message(String),
    Ping,
    Pong(Vec<u8>),
    Framing { fragment: usize, ping_between: bool },
    StallReading(Duration),
    Close { code: u16, reason: String },
    Drop,
}

/// What a client's message means to the script.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Inbound {
    /// The first configuration.
    Setup,
    /// The configuration of the caller's audio may have changed.
    Reconfigured,
    /// An answer is wanted.
    Text,
    /// The running answer ends here, whoever wanted that.
    Cut,
    Audio(Vec<u8>, AudioFormat),
    ActivityStart,
    ActivityEnd,
    ToolResult(String),
}

/// One step of a planned answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    Send(Value),
    /// From here on an interruption drops what remains.
    EnterAnswer,
    /// Audio of a new answer follows.
    BeginAnswer,
    Audio {
        marker: u32,
        format: AudioFormat,
        bytes: Range<usize>,
        target: Target,
    },
    Delay(u64),
    AwaitPlayback,
    EndAnswer,
}

/// Where audio belongs (OpenAI).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) response: String,
    pub(crate) item: String,
    pub(crate) output_index: usize,
}

/// What became of a tool call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallState {
    Open,
    Answered,
    Cancelled,
}

/// The answer that audio was sent of last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CurrentAnswer {
    pub(crate) marker: u32,
    pub(crate) format: AudioFormat,
    pub(crate) sent_bytes: usize,
    pub(crate) target: Target,
}

/// What the caller's side would be playing, if it plays audio as it comes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Playback {
    pub(crate) ends: Duration,
    pub(crate) sent: Duration,
    pub(crate) answers: u32,
}

impl Playback {
    pub(crate) fn add(&mut self, now: Duration, audio: Duration) {
        self.ends = self.ends.max(now) + audio;
        self.sent += audio;
    }

    pub(crate) fn remaining(&self, now: Duration) -> Duration {
        self.ends.saturating_sub(now)
    }

    pub(crate) fn played(&self, now: Duration) -> Duration {
        self.sent.saturating_sub(self.remaining(now))
    }

    pub(crate) fn clear(&mut self, now: Duration) {
        self.sent = self.played(now);
        self.ends = now;
    }
}

/// Sessions of a server across its connections.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    state: Mutex<RegistryState>,
}

#[derive(Debug, Default)]
struct RegistryState {
    handles: HashMap<String, usize>,
    open: HashSet<usize>,
}

impl Registry {
    pub(crate) fn opened(&self, connection: usize) {
        self.lock().open.insert(connection);
    }

    pub(crate) fn closed(&self, connection: usize) {
        self.lock().open.remove(&connection);
    }

    pub(crate) fn give_out(&self, handle: &str, connection: usize) {
        self.lock().handles.insert(handle.to_owned(), connection);
    }

    /// The connection that `handle` was given out on, and whether it is still open.
    pub(crate) fn session_of(&self, handle: &str) -> Option<(usize, bool)> {
        let state = self.lock();
        let connection = *state.handles.get(handle)?;
        Some((connection, state.open.contains(&connection)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, RegistryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state of a connection that engine and wire share.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) connection: usize,
    pub(crate) strict: bool,
    pub(crate) now: Duration,
    pub(crate) out: VecDeque<Output>,
    pub(crate) violations: Vec<String>,
    pub(crate) playback: Playback,
    pub(crate) current: Option<CurrentAnswer>,
    pub(crate) answers: u32,
    pub(crate) calls: BTreeMap<String, CallState>,
    pub(crate) bank: Arc<AudioBank>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) closed: bool,
}

impl Link {
    pub(crate) fn push(&mut self, output: Output) {
        if self.closed {
            return;
        }
        self.closed = matches!(output, Output::Close { .. } | Output::Drop);
        self.out.push_back(output);
    }

    pub(crate) fn violation(&mut self, what: impl Into<String>) {
        const MOST: usize = 1_000;
        if self.violations.len() < MOST {
            self.violations.push(what.into());
        }
    }

    /// The number that the next answer's audio carries.
    pub(crate) fn next_marker(&mut self, wanted: Option<u32>) -> u32 {
        self.answers += 1;
        wanted.unwrap_or(self.answers)
    }

    pub(crate) fn open_calls(&self) -> usize {
        self.calls.values().filter(|state| **state == CallState::Open).count()
    }
}

/// A provider's protocol, server side.
pub(crate) trait Wire: Send {
    /// Whether this dial is let in; otherwise the HTTP status.
    fn authorize(&mut self, dial: &Dial) -> Result<(), u16>;

    /// Whether JSON goes out in binary frames.
    fn binary(&self) -> bool;

    /// Time passes from the handshake on, and not only once the session is configured.
    fn live_when_opened(&self) -> bool;

    /// The handshake is done.
    fn opened(&mut self, link: &mut Link);

    /// Confirms the configuration.
    fn ready(&mut self, link: &mut Link);

    /// The base64 and its format, if `text` is plainly a message of caller audio that may be taken without a closer look.
    fn plain_audio<'a>(&mut self, text: &'a [u8]) -> Option<(&'a [u8], AudioFormat)>;

    /// Judges and carries out a message.
    fn handle(&mut self, message: &Value, link: &mut Link) -> Vec<Inbound>;

    /// A message that is no JSON.
    fn handle_garbage(&mut self, link: &mut Link);

    /// Tells the client that a turn's border was found.
    fn speech(&mut self, change: SpeechChange, link: &mut Link);

    /// What a response consists of; nothing when it cannot be made now.
    fn plan_response(&mut self, response: &Response, link: &mut Link) -> Vec<Op>;

    fn plan_tools(&mut self, tools: &[ToolRequest], link: &mut Link) -> Vec<Op>;

    fn plan_transcript(&mut self, transcript: &InputTranscript) -> Vec<Op>;

    /// What an answer is that the script does not know of.
    fn plan_unscripted(&mut self, link: &mut Link) -> Vec<Op>;

    /// Whether the running answer may be cut by the caller's speech.
    fn interruptible(&self) -> bool;

    fn interrupted(&mut self, link: &mut Link);

    fn turn_complete(&mut self, link: &mut Link);

    fn generation_complete(&mut self, link: &mut Link);

    /// Sends `message`, keeping the books that it implies.
    fn send(&mut self, message: Value, link: &mut Link);

    /// Sends one chunk of answer audio.
    fn send_audio(
        &mut self,
        base64: &str,
        format: AudioFormat,
        bytes: usize,
        target: &Target,
        link: &mut Link,
    );

    /// The newest id a placeholder stands for.
    fn placeholder(&self, name: &str) -> Option<String>;

    /// The format answers are spoken in.
    fn output_format(&self) -> AudioFormat;

    /// How the caller's audio is read, and how much silence ends a turn.
    fn listening(&self) -> (AudioFormat, u64);

    /// The server looks for turns itself.
    fn detects_turns(&self) -> bool;

    /// A turn of the model is open.
    fn turn_open(&self) -> bool;

    /// The handle a first message wants to resume.
    fn resumed_handle(&self, text: &[u8]) -> Option<String>;
}

/// Plans `chunks` of speech with the transcript's fragments between them.
pub(crate) fn interleave<T>(
    chunks: Vec<T>,
    fragments: &[String],
    mut fragment_op: impl FnMut(&str) -> Op,
    mut chunk_ops: impl FnMut(T, &mut Vec<Op>),
) -> Vec<Op> {
    let mut ops = Vec::with_capacity(chunks.len() + fragments.len());
    let (chunk_count, mut next) = (chunks.len(), 0);
    for (index, chunk) in chunks.into_iter().enumerate() {
        while next < fragments.len() && next * chunk_count <= index * fragments.len() {
            ops.push(fragment_op(&fragments[next]));
            next += 1;
        }
        chunk_ops(chunk, &mut ops);
    }
    ops.extend(fragments[next..].iter().map(|fragment| fragment_op(fragment)));
    ops
}
