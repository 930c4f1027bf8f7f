//! The attendant as a model session: audio and commands in, speech and events out.

use std::{
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tandem_call::{
    Capabilities, Digit, ItemId, ModelCommand, ModelEvent, ModelFailure, ModelSession, ModelSink,
    Reaction, ResponseEnd, SessionSpec, Speaker, ToolCall, UplinkStats,
};
use tandem_media::{AudioFormat, SampleRate};

use crate::{
    Answer, Dialogue, DialogueSpec, Endpointer, Endpointing, Happening, Script, Sentence, Speech,
    Spoken, Turn, Voice, dialogue::speech_marker, echo::EchoBuffer, script::END_CALL,
};

const FORMAT: AudioFormat = AudioFormat::Pcm16(SampleRate::Hz16000);
/// Answers that wait behind the one being spoken; more are left out.
const MAX_WAITING: usize = 8;
/// Items whose sentences are remembered for a truncation.
const MAX_REMEMBERED: usize = 8;
/// Digits taken from one command.
const MAX_DIGITS: usize = 32;
/// A sentence counts as heard when no more than this is missing: the pause at its end.
const UNHEARD_TAIL: Duration = Duration::from_millis(150);
/// Of an answer cut off so soon nothing was understood: the caller was about to go on.
const UNHEARD_START: Duration = Duration::from_millis(400);
/// A call that was to end is over 10 s later at the latest; one that is not goes on.
const ENDING_LIMIT: Duration = Duration::from_secs(12);

/// What makes an attendant, besides what every session is opened with.
#[derive(Debug, Clone)]
pub struct AttendantSpec {
    /// Its lines.
    pub script: Arc<Script>,
    /// Its voice.
    pub voice: Voice,
    /// The call's variables, for placeholders.
    pub variables: BTreeMap<String, String>,
    /// It takes over from a model that failed.
    pub apologise: bool,
    /// When speech counts as a turn.
    pub endpointing: Endpointing,
}

/// A conversation with the attendant.
///
/// Its clock is the caller's audio: silence and turns are measured in samples, so a call is the same however fast it is
/// played. Sentences are handed over whole as soon as they are rendered; one step is made at each poll, so that what
/// follows an interruption is never handed over together with it.
pub struct AttendantSession {
    dialogue: Dialogue,
    voice: Voice,
    language: String,
    transcription: bool,
    endpointer: Endpointer,
    edges: Vec<Turn>,
    echo: Option<EchoBuffer>,
    echo_turn: Vec<i16>,
    state: State,
    /// Events that are due before anything else is said.
    outbox: VecDeque<ModelEvent>,
    waiting: VecDeque<Answer>,
    speaking: Option<Speaking>,
    handed: VecDeque<HandedItem>,
    next_item: ItemId,
    /// Where in the caller's audio what was handed over will have been played.
    playing_until: Duration,
    /// Where the caller last did something.
    active_at: Duration,
    ending_since: Option<Duration>,
    bytes: Vec<u8>,
    stats: UplinkStats,
    waker: Option<Waker>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// Not polled yet; `taking_over` a conversation that has begun.
    Opening {
        taking_over: bool,
    },
    Unusable(&'static str),
    Ready,
    Closed,
}

type Rendering = Pin<Box<dyn Future<Output = Spoken> + Send>>;

/// An answer that is being handed over.
struct Speaking {
    item: ItemId,
    sentences: VecDeque<(Sentence, Rendering)>,
    echo: bool,
    tool: Option<ToolCall>,
    last_text: Option<String>,
}

struct HandedItem {
    item: ItemId,
    sentences: Vec<(Sentence, Duration)>,
}

impl AttendantSession {
    /// What the attendant can do.
    pub const CAPABILITIES: Capabilities = Capabilities {
        input: &[FORMAT],
        output: &[FORMAT],
        truncates: true,
        detects_turns: true,
        interrupts: true,
        turn_pause: Duration::ZERO,
        takes_digits: true,
        resumes: true,
        answers_results: false,
        session_limit: None,
    };

    /// Opens a session; it is ready at the first poll. Formats other than those of the capabilities lose it there.
    pub fn open(spec: SessionSpec, attendant: AttendantSpec) -> Self {
        let AttendantSpec { script, voice, variables, apologise, endpointing } = attendant;
        let callers = spec.history.iter().filter(|turn| turn.speaker == Speaker::Caller);
        let state = if spec.input == FORMAT && spec.output == FORMAT {
            State::Opening { taking_over: !spec.history.is_empty() }
        } else {
            State::Unusable("the attendant hears and speaks 16-bit PCM at 16 kHz and nothing else")
        };
        Self {
            echo: script.parrot.then(EchoBuffer::new),
            dialogue: Dialogue::new(DialogueSpec {
                script,
                variables,
                tools: spec.tools.into_iter().map(|tool| tool.name).collect(),
                apologise,
                turns_before: u32::try_from(callers.count()).unwrap_or(u32::MAX),
                call_prefix: format!("attendant-{}", spec.first_item.0),
            }),
            voice,
            language: spec.language,
            transcription: spec.transcription,
            endpointer: Endpointer::new(endpointing),
            edges: Vec::new(),
            echo_turn: Vec::new(),
            state,
            outbox: VecDeque::new(),
            waiting: VecDeque::new(),
            speaking: None,
            handed: VecDeque::new(),
            next_item: spec.first_item,
            playing_until: Duration::ZERO,
            active_at: Duration::ZERO,
            ending_since: None,
            bytes: Vec::new(),
            stats: UplinkStats::default(),
            waker: None,
        }
    }

    fn handle_edge(&mut self, edge: Turn) {
        match edge {
            Turn::Started { .. } => self.interrupt(),
            Turn::Stopped { at, length, noise } => {
                let position = self.endpointer.position();
                self.active_at = position;
                self.outbox.push_back(ModelEvent::SpeechStopped);
                if let Some(echo) = &mut self.echo {
                    self.echo_turn = echo.take(FORMAT.bytes_per(position.saturating_sub(at)) / 2);
                }
                if noise {
                    self.answer(Happening::Noise);
                    return;
                }
                if self.transcription {
                    self.outbox.push_back(ModelEvent::CallerText {
                        text: speech_marker(length),
                        last: true,
                    });
                }
                self.answer(Happening::Turn { length });
            }
        }
    }

    fn handle_digit(&mut self, digit: Digit) {
        self.active_at = self.endpointer.position();
        if self.dialogue.is_open() && self.is_heard() && !self.endpointer.in_turn() {
            self.interrupt(); // A menu stops talking when a key is pressed.
            self.outbox.push_back(ModelEvent::SpeechStopped);
        }
        self.answer(Happening::Digit(digit));
    }

    fn watch_silence(&mut self) {
        let position = self.endpointer.position();
        if self.ending_since.is_some_and(|since| position >= since + ENDING_LIMIT) {
            self.ending_since = None;
            self.answer(Happening::StillConnected);
        }
        let Some(limit) = self.dialogue.script().silence() else { return };
        let quiet_since = self.playing_until.max(self.active_at);
        let is_idle =
            self.speaking.is_none() && self.waiting.is_empty() && !self.endpointer.hears_speech();
        if is_idle && self.dialogue.is_open() && position >= quiet_since + limit {
            self.active_at = position;
            self.answer(Happening::Silence);
        }
    }

    fn answer(&mut self, happening: Happening) {
        let Some(answer) = self.dialogue.handle(happening) else { return };
        if self.waiting.len() >= MAX_WAITING {
            tracing::warn!("an answer is left out: too many are waiting");
            return;
        }
        self.waiting.push_back(answer);
    }

    /// Stops speaking because of the caller.
    fn interrupt(&mut self) {
        self.playing_until = self.endpointer.position();
        self.outbox.push_back(ModelEvent::SpeechStarted);
        let (withheld, whole) = self.withhold();
        self.dialogue.interrupted(withheld, whole);
    }

    /// Takes back what was not handed over, and tells whether nothing of the last answer was.
    fn withhold(&mut self) -> (Answer, bool) {
        let mut withheld = Answer::default();
        let mut whole = false;
        if let Some(speaking) = self.speaking.take() {
            self.outbox.push_back(ModelEvent::ResponseEnded(ResponseEnd::Cancelled));
            whole = speaking.last_text.is_none();
            withheld.sentences.extend(speaking.sentences.into_iter().map(|(sentence, _)| sentence));
            withheld.tool = speaking.tool;
        }
        for answer in self.waiting.drain(..) {
            whole = true;
            withheld.sentences.extend(answer.sentences);
            withheld.tool = withheld.tool.or(answer.tool);
        }
        (withheld, whole)
    }

    /// Remembers that of `item` only `heard` was heard.
    fn truncate(&mut self, item: ItemId, heard: Duration) {
        let Some(handed) = self.handed.iter().find(|handed| handed.item == item) else { return };
        let mut end = Duration::ZERO;
        let unplayed = handed.sentences.iter().filter(|(_, duration)| {
            end += *duration;
            end > heard + UNHEARD_TAIL
        });
        let unplayed = unplayed.map(|(sentence, _)| sentence.clone()).collect();
        self.dialogue.unplayed(unplayed, heard <= UNHEARD_START);
    }

    /// Whether the caller hears the agent, or is about to.
    fn is_heard(&self) -> bool {
        self.speaking.is_some()
            || !self.waiting.is_empty()
            || self.endpointer.position() < self.playing_until
    }

    fn begin(&mut self, answer: Answer) {
        let item = self.next_item;
        self.next_item = ItemId(item.0 + 1);
        if self.handed.len() == MAX_REMEMBERED {
            self.handed.pop_front();
        }
        self.handed.push_back(HandedItem { item, sentences: Vec::new() });
        let render = |sentence: Sentence| {
            let spoken = self.voice.speak(&self.language, sentence.clone());
            (sentence, Box::pin(spoken) as Rendering)
        };
        let sentences = answer.sentences.into_iter().map(render).collect();
        self.speaking = Some(Speaking {
            item,
            sentences,
            echo: answer.echo,
            tool: answer.tool,
            last_text: None,
        });
    }

    /// Hands over the next piece of the answer.
    fn go_on(
        &mut self,
        mut speaking: Speaking,
        cx: &mut Context<'_>,
        sink: &mut dyn ModelSink,
    ) -> Poll<()> {
        if std::mem::take(&mut speaking.echo) {
            let pcm = std::mem::take(&mut self.echo_turn);
            let text = format!(
                "[the caller's own words, {:.1} s]",
                Speech::RATE.duration_of(pcm.len()).as_secs_f64()
            );
            self.hand_over(&mut speaking, text, &pcm, sink);
            self.speaking = Some(speaking);
        } else if let Some((_, rendering)) = speaking.sentences.front_mut() {
            let rendered = rendering.as_mut().poll(cx);
            if let Poll::Ready(spoken) = rendered
                && let Some((sentence, _)) = speaking.sentences.pop_front()
            {
                self.hand_over_sentence(&mut speaking, sentence, spoken, sink);
                self.speaking = Some(speaking);
            } else {
                self.speaking = Some(speaking);
                return Poll::Pending;
            }
        } else if let Some(call) = speaking.tool.take() {
            self.speaking = Some(speaking);
            if call.name == END_CALL {
                self.ending_since = Some(self.endpointer.position().max(self.playing_until));
            }
            sink.event(ModelEvent::ToolCall(call));
        } else {
            sink.event(ModelEvent::ResponseEnded(ResponseEnd::Completed));
        }
        Poll::Ready(())
    }

    fn hand_over_sentence(
        &mut self,
        speaking: &mut Speaking,
        sentence: Sentence,
        spoken: Spoken,
        sink: &mut dyn ModelSink,
    ) {
        if spoken.stands_in && speaking.last_text.as_ref() == Some(&spoken.text) {
            return; // The same phrase stood in for the sentence before.
        }
        if let Some(handed) = self.handed.back_mut() {
            handed.sentences.push((sentence, spoken.speech.duration()));
        }
        self.hand_over(speaking, spoken.text, &spoken.speech.pcm, sink);
    }

    fn hand_over(
        &mut self,
        speaking: &mut Speaking,
        text: String,
        pcm: &[i16],
        sink: &mut dyn ModelSink,
    ) {
        if self.transcription {
            let joined =
                if speaking.last_text.is_some() { format!(" {text}") } else { text.clone() };
            sink.event(ModelEvent::AgentText { item: speaking.item, text: joined });
        }
        speaking.last_text = Some(text);
        self.bytes.clear();
        self.bytes.extend(pcm.iter().flat_map(|sample| sample.to_le_bytes()));
        sink.audio(speaking.item, FORMAT, &self.bytes);
        let begin = self.playing_until.max(self.endpointer.position());
        self.playing_until = begin + Speech::RATE.duration_of(pcm.len());
    }

    fn wake_if_due(&mut self) {
        if (!self.outbox.is_empty() || !self.waiting.is_empty())
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

impl ModelSession for AttendantSession {
    fn capabilities(&self) -> &Capabilities {
        &Self::CAPABILITIES
    }

    fn send_audio(&mut self, _now: Instant, audio: &[u8]) {
        if self.state != State::Ready {
            self.stats.frames_dropped += 1;
            return;
        }
        self.stats.frames_sent += 1;
        let samples = || audio.as_chunks::<2>().0.iter().map(|&bytes| i16::from_le_bytes(bytes));
        if let Some(echo) = &mut self.echo {
            echo.push(samples(), self.endpointer.hears_speech());
        }
        self.endpointer.set_agent_speaks(self.is_heard());
        let mut edges = std::mem::take(&mut self.edges);
        self.endpointer.process(samples(), |edge| edges.push(edge));
        edges.drain(..).for_each(|edge| self.handle_edge(edge));
        self.edges = edges;
        self.watch_silence();
        self.wake_if_due();
    }

    fn send(&mut self, _now: Instant, command: ModelCommand) {
        if matches!(self.state, State::Closed | State::Unusable(_)) {
            return;
        }
        match command {
            ModelCommand::Greet(greet) => self.answer(Happening::Greet(greet)),
            ModelCommand::Digits(digits) => {
                digits
                    .chars()
                    .filter_map(Digit::new)
                    .take(MAX_DIGITS)
                    .for_each(|digit| self.handle_digit(digit));
            }
            ModelCommand::Say(text) => self.answer(Happening::Say(text)),
            ModelCommand::ToolResult { id, outcome } => {
                self.answer(Happening::ToolResult { id, outcome });
            }
            ModelCommand::Truncate { item, heard } => self.truncate(item, heard),
            ModelCommand::Forget { item } => self.truncate(item, Duration::ZERO),
            ModelCommand::Cancel => {
                let (withheld, whole) = self.withhold();
                self.dialogue.interrupted(withheld, whole);
            }
            ModelCommand::TurnStarted { .. } | ModelCommand::TurnEnded => {} // It finds turns itself.
            ModelCommand::Renew { .. } => self.outbox.push_back(ModelEvent::Ready), // Nothing was lost.
            ModelCommand::Close => {
                self.state = State::Closed;
                self.outbox.clear();
                self.waiting.clear();
                self.speaking = None;
            }
        }
        self.wake_if_due();
    }

    fn poll(&mut self, cx: &mut Context<'_>, _now: Instant, sink: &mut dyn ModelSink) -> Poll<()> {
        match self.state {
            State::Opening { taking_over } => {
                self.state = State::Ready;
                if taking_over {
                    self.answer(Happening::TookOver);
                }
                sink.event(ModelEvent::Ready);
                return Poll::Ready(());
            }
            State::Unusable(reason) => {
                self.state = State::Closed;
                sink.event(ModelEvent::Lost(ModelFailure {
                    reaction: Reaction::GiveUp,
                    reason: reason.into(),
                }));
                return Poll::Ready(());
            }
            State::Ready => {}
            State::Closed => return Poll::Pending,
        }
        if let Some(event) = self.outbox.pop_front() {
            sink.event(event);
            return Poll::Ready(());
        }
        if let Some(speaking) = self.speaking.take() {
            if self.go_on(speaking, cx, sink).is_ready() {
                return Poll::Ready(());
            }
        } else if let Some(answer) = self.waiting.pop_front() {
            self.begin(answer);
            sink.event(ModelEvent::ResponseStarted);
            return Poll::Ready(());
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    fn uplink_stats(&self) -> UplinkStats {
        self.stats
    }
}

#[cfg(test)]
mod tests;
