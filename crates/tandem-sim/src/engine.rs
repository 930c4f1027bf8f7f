//! Plays a script on one connection: messages and time go in, outputs come out. No socket, no clock.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tandem_media::AudioFormat;

use crate::{
    answer::{AudioBank, bytes_of},
    script::{Action, ErrorSpec, Phase, Response, Script, ToolRequest, Trigger},
    speech::{SpeechChange, SpeechDetector},
    wire::{CurrentAnswer, Inbound, Link, Op, Output, Playback, Registry, Target, Wire},
};

mod sequence;
#[cfg(test)]
mod tests;

use sequence::Sequence;
pub(crate) use sequence::{error_event, rate_limits};

/// Where a fake server's time comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Time is the caller audio received on the connection. Before the session is configured no time passes, so
    /// delays there are nothing.
    #[default]
    AudioClock,
    /// As `AudioClock`, but scripted delays, pauses between chunks and waiting for playback are nothing.
    Collapsed,
    /// Time is tokio's.
    RealTime,
}

/// A message a fake server received.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    /// Position among the messages of its connection, from 1.
    pub seq: u64,
    /// Caller audio received before it, milliseconds.
    pub audio_ms: u64,
    /// What it was.
    pub message: ReceivedMessage,
}

/// What a fake server received.
#[derive(Debug, Clone, PartialEq)]
pub enum ReceivedMessage {
    /// Caller audio, decoded from base64.
    Audio(Bytes),
    /// Any other JSON.
    Json(Value),
    /// No JSON at all.
    Garbage(Bytes),
}

/// What happens, before it is matched with the script.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Occurrence {
    Open,
    Setup,
    Text,
    SpeechStart,
    SpeechEnd,
    ToolResult(String),
    AllResults,
}

pub(crate) struct EngineParts {
    pub(crate) connection: usize,
    pub(crate) script: Arc<Script>,
    pub(crate) wire: Box<dyn Wire>,
    pub(crate) mode: Mode,
    pub(crate) strict: bool,
    pub(crate) keep_audio: bool,
    pub(crate) keep_messages: bool,
    pub(crate) bank: Arc<AudioBank>,
    pub(crate) registry: Arc<Registry>,
}

/// One connection of a fake server.
pub(crate) struct Engine {
    script: Arc<Script>,
    /// Steps that wait for caller audio, and for playback.
    timed: Vec<usize>,
    on_playback: Vec<usize>,
    wire: Box<dyn Wire>,
    link: Link,
    mode: Mode,
    keep_audio: bool,
    keep_messages: bool,
    configured: bool,
    detector: SpeechDetector,
    caller_audio: Duration,
    received_count: u64,
    received: Vec<Received>,
    occurrences: Vec<(Occurrence, u32)>,
    message_counts: Vec<u32>,
    fired: Vec<u32>,
    sequences: Vec<Sequence>,
    next_sequence: u64,
    pong_delay: Duration,
    pongs: VecDeque<(Duration, Vec<u8>)>,
    tool_deadlines: Vec<(Duration, String)>,
    decoded: Vec<u8>,
}

impl Engine {
    pub(crate) fn new(parts: EngineParts) -> Self {
        let EngineParts {
            connection,
            script,
            wire,
            mode,
            strict,
            keep_audio,
            keep_messages,
            bank,
            registry,
        } = parts;
        let (format, silence_ms) = wire.listening();
        let steps = script.steps.len();
        let those = |wanted: fn(&Trigger) -> bool| -> Vec<usize> {
            (0..steps).filter(|index| wanted(&script.steps[*index].on)).collect()
        };
        let timed = those(|on| matches!(on, Trigger::AudioMs { .. } | Trigger::EveryMs { .. }));
        let on_playback = those(|on| matches!(on, Trigger::PlayedMs { .. }));
        Self {
            configured: wire.live_when_opened(),
            wire,
            mode,
            keep_audio,
            keep_messages,
            script,
            timed,
            on_playback,
            link: Link {
                connection,
                strict,
                now: Duration::ZERO,
                out: VecDeque::new(),
                violations: Vec::new(),
                playback: Playback::default(),
                current: None,
                answers: 0,
                calls: std::collections::BTreeMap::new(),
                bank,
                registry,
                closed: false,
            },
            detector: SpeechDetector::new(format, silence_ms),
            caller_audio: Duration::ZERO,
            received_count: 0,
            received: Vec::new(),
            occurrences: Vec::new(),
            message_counts: vec![0; steps],
            fired: vec![0; steps],
            sequences: Vec::new(),
            next_sequence: 0,
            pong_delay: Duration::ZERO,
            pongs: VecDeque::new(),
            tool_deadlines: Vec::new(),
            decoded: Vec::new(),
        }
    }

    /// What the script does to the dial itself.
    pub(crate) fn connect_actions(&self) -> Vec<Action> {
        self.script
            .steps
            .iter()
            .filter(|step| step.on == Trigger::Connect)
            .flat_map(|step| step.actions.iter().cloned())
            .collect()
    }

    pub(crate) fn wire(&mut self) -> &mut dyn Wire {
        self.wire.as_mut()
    }

    /// The handshake is done.
    pub(crate) fn handle_open(&mut self, now: Duration) {
        self.set_time(now);
        if !self.occur(&Occurrence::Open) {
            self.wire.opened(&mut self.link);
        }
        self.run();
    }

    /// Takes one complete websocket message.
    pub(crate) fn handle_message(&mut self, now: Duration, payload: &[u8]) {
        if self.link.closed {
            return;
        }
        self.set_time(now);
        self.received_count += 1;
        if let Some((base64, format)) = self.wire.plain_audio(payload) {
            let mut decoded = std::mem::take(&mut self.decoded);
            decoded.resize(base64_simd::STANDARD.estimated_decoded_length(base64.len()), 0);
            let length = base64_simd::STANDARD
                .decode(base64, base64_simd::Out::from_slice(&mut decoded))
                .map(|audio| audio.len());
            if let Ok(length) = length {
                self.handle_audio(&decoded[..length], format);
                self.decoded = decoded;
                return;
            }
            self.decoded = decoded;
        }
        match serde_json::from_slice::<Value>(payload) {
            Ok(message) => self.handle_json(message),
            Err(_) => {
                self.record(ReceivedMessage::Garbage(Bytes::copy_from_slice(payload)));
                self.wire.handle_garbage(&mut self.link);
            }
        }
        self.run();
    }

    /// Takes a ping; the pong comes out when it is due.
    pub(crate) fn handle_ping(&mut self, now: Duration, payload: &[u8]) {
        const MOST: usize = 1_000;
        self.set_time(now);
        if self.pongs.len() < MOST {
            self.pongs.push_back((self.link.now + self.pong_delay, payload.to_vec()));
        }
        self.run();
    }

    /// Does what is due at `now`.
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        self.set_time(now);
        self.run();
    }

    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.link.out.pop_front()
    }

    /// When [`Self::handle_timeout`] is next due. None when only the client's audio moves time.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        if self.mode != Mode::RealTime {
            return None;
        }
        let played = self.on_playback.iter().filter_map(|&index| {
            let Trigger::PlayedMs { at } = self.script.steps[index].on else { return None };
            let left = self.link.playback.sent.checked_sub(Duration::from_millis(at))?;
            let unfired = self.fired[index] != self.link.playback.answers;
            unfired.then(|| self.link.playback.ends.saturating_sub(left))
        });
        let sequences = self.sequences.iter().map(|sequence| sequence.due);
        let pongs = self.pongs.iter().map(|(due, _)| *due);
        let tools = self.tool_deadlines.iter().map(|(due, _)| *due);
        played.chain(sequences).chain(pongs).chain(tools).min()
    }

    pub(crate) fn take_received(&mut self) -> Vec<Received> {
        std::mem::take(&mut self.received)
    }

    pub(crate) fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.link.violations)
    }

    pub(crate) fn received_count(&self) -> u64 {
        self.received_count
    }

    pub(crate) fn caller_audio_ms(&self) -> u64 {
        self.caller_audio.as_millis() as u64
    }

    fn set_time(&mut self, real: Duration) {
        if self.mode == Mode::RealTime {
            self.link.now = real;
        }
    }

    fn handle_json(&mut self, message: Value) {
        let replaced = self.script_takes(&message);
        let inbound =
            if replaced { Vec::new() } else { self.wire.handle(&message, &mut self.link) };
        let only_audio = matches!(inbound.as_slice(), [Inbound::Audio(..)]);
        if !only_audio {
            self.record(ReceivedMessage::Json(message));
        }
        for inbound in inbound {
            self.take_inbound(inbound);
        }
    }

    fn take_inbound(&mut self, inbound: Inbound) {
        match inbound {
            Inbound::Setup => {
                self.reconfigure();
                if !self.occur(&Occurrence::Setup) {
                    self.wire.ready(&mut self.link);
                    self.configured = true;
                }
            }
            Inbound::Reconfigured => self.reconfigure(),
            Inbound::Text => {
                if !self.occur(&Occurrence::Text) {
                    let ops = self.wire.plan_unscripted(&mut self.link);
                    self.start(Vec::new(), ops);
                }
            }
            Inbound::Cut => {
                self.stop_answers();
                self.wire.interrupted(&mut self.link);
                self.wire.turn_complete(&mut self.link);
            }
            Inbound::Audio(audio, format) => self.handle_audio(&audio, format),
            Inbound::ActivityStart => {
                self.occur(&Occurrence::SpeechStart);
            }
            Inbound::ActivityEnd => {
                self.occur(&Occurrence::SpeechEnd);
            }
            Inbound::ToolResult(id) => {
                self.tool_deadlines.retain(|(_, call)| *call != id);
                self.occur(&Occurrence::ToolResult(id));
                if self.link.open_calls() == 0 {
                    self.occur(&Occurrence::AllResults);
                }
            }
        }
    }

    fn handle_audio(&mut self, audio: &[u8], format: AudioFormat) {
        if self.keep_audio {
            self.record(ReceivedMessage::Audio(Bytes::copy_from_slice(audio)));
        }
        self.detector.configure(format, self.wire.listening().1);
        let start = self.caller_audio;
        let bytes_per_second = bytes_of(format, 1_000) as u64;
        self.caller_audio =
            start + Duration::from_nanos(audio.len() as u64 * 1_000_000_000 / bytes_per_second);
        let mut rest = audio;
        while let Some(block) = self.detector.next_block(&mut rest) {
            if self.mode != Mode::RealTime {
                self.link.now = Duration::from_millis(block.ends_ms);
            }
            if let Some(change) = block.change.filter(|_| self.wire.detects_turns()) {
                self.wire.speech(change, &mut self.link);
                self.occur(&match change {
                    SpeechChange::Started { .. } => Occurrence::SpeechStart,
                    SpeechChange::Ended { .. } => Occurrence::SpeechEnd,
                });
            }
            self.heard_ms(block.ends_ms);
            self.run();
        }
    }

    fn reconfigure(&mut self) {
        let (format, silence_ms) = self.wire.listening();
        self.detector.configure(format, silence_ms);
    }

    fn record(&mut self, message: ReceivedMessage) {
        const MOST: usize = 200_000;
        if self.keep_messages && self.received.len() < MOST {
            let (seq, audio_ms) = (self.received_count, self.caller_audio_ms());
            self.received.push(Received { seq, audio_ms, message });
        }
    }

    /// Plays the steps that wait for this message; true when there is one.
    fn script_takes(&mut self, message: &Value) -> bool {
        let mut taken = false;
        for index in 0..self.script.steps.len() {
            let step = &self.script.steps[index];
            let Trigger::Message { pointer, equals } = &step.on else { continue };
            let matches = message
                .pointer(pointer)
                .is_some_and(|found| equals.as_ref().is_none_or(|wanted| wanted == found));
            if !matches {
                continue;
            }
            self.message_counts[index] += 1;
            if step.n.is_none_or(|n| n == self.message_counts[index]) && self.in_phase(step.phase) {
                taken = true;
                self.start(self.script.steps[index].actions.clone(), Vec::new());
            }
        }
        taken
    }

    /// Plays the steps that wait for `occurrence`; true when there is one.
    fn occur(&mut self, occurrence: &Occurrence) -> bool {
        let count = match self.occurrences.iter_mut().find(|(known, _)| known == occurrence) {
            Some((_, count)) => {
                *count += 1;
                *count
            }
            None => {
                self.occurrences.push((occurrence.clone(), 1));
                1
            }
        };
        let due: Vec<Vec<Action>> = self
            .script
            .steps
            .iter()
            .filter(|step| is_triggered(&step.on, occurrence))
            .filter(|step| step.n.is_none_or(|n| n == count) && self.in_phase(step.phase))
            .map(|step| step.actions.clone())
            .collect();
        let any = !due.is_empty();
        for actions in due {
            self.start(actions, Vec::new());
        }
        any
    }

    /// Plays the steps that wait for the caller's audio to reach `ms`.
    fn heard_ms(&mut self, ms: u64) {
        for position in 0..self.timed.len() {
            let index = self.timed[position];
            let step = &self.script.steps[index];
            let due = match step.on {
                Trigger::AudioMs { at } => ms >= at && self.fired[index] == 0,
                Trigger::EveryMs { every } => ms / every.max(20) > u64::from(self.fired[index]),
                _ => false,
            };
            if due {
                self.fired[index] += 1;
                if self.in_phase(step.phase) {
                    self.start(self.script.steps[index].actions.clone(), Vec::new());
                }
            }
        }
    }

    /// Plays the steps that wait for the current answer to have been played so far.
    fn played(&mut self) {
        let playback = self.link.playback;
        let played = playback.played(self.link.now);
        for position in 0..self.on_playback.len() {
            let index = self.on_playback[position];
            let step = &self.script.steps[index];
            let Trigger::PlayedMs { at } = step.on else { continue };
            let due = playback.answers > 0
                && played >= Duration::from_millis(at)
                && self.fired[index] != playback.answers
                && step.n.is_none_or(|n| n == playback.answers);
            if due {
                self.fired[index] = playback.answers;
                self.start(self.script.steps[index].actions.clone(), Vec::new());
            }
        }
    }

    fn in_phase(&self, phase: Option<Phase>) -> bool {
        let speaking =
            self.wire.turn_open() || !self.link.playback.remaining(self.link.now).is_zero();
        match phase {
            None => true,
            Some(Phase::Speaking) => speaking,
            Some(Phase::Idle) => !speaking,
        }
    }

    fn due_pongs(&mut self) {
        while self.pongs.front().is_some_and(|(due, _)| *due <= self.link.now) {
            let Some((_, payload)) = self.pongs.pop_front() else { break };
            self.link.push(Output::Pong(payload));
        }
    }

    fn overdue_tools(&mut self) {
        let now = self.link.now;
        while let Some(index) = self.tool_deadlines.iter().position(|(due, _)| *due <= now) {
            let (_, id) = self.tool_deadlines.swap_remove(index);
            self.link.violation(format!("tool call {id} was not answered in time"));
        }
    }
}

fn is_triggered(trigger: &Trigger, occurrence: &Occurrence) -> bool {
    match (trigger, occurrence) {
        (Trigger::Open, Occurrence::Open)
        | (Trigger::Setup, Occurrence::Setup)
        | (Trigger::Text, Occurrence::Text)
        | (Trigger::SpeechStart, Occurrence::SpeechStart)
        | (Trigger::SpeechEnd, Occurrence::SpeechEnd)
        | (Trigger::ToolResult { id: None }, Occurrence::AllResults) => true,
        (Trigger::ToolResult { id: Some(wanted) }, Occurrence::ToolResult(id)) => wanted == id,
        _ => false,
    }
}
