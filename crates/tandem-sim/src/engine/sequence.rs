//! Actions of a step that are being carried out, with their waits.

use super::*;
use crate::answer::LONGEST_MS;

/// What remains of a step that was set off.
#[derive(Debug)]
pub(super) struct Sequence {
    id: u64,
    pub(super) due: Duration,
    ops: VecDeque<Op>,
    actions: VecDeque<Action>,
    in_answer: bool,
}

impl Engine {
    /// Sets off a sequence; it runs in [`Self::run`].
    pub(super) fn start(&mut self, actions: Vec<Action>, ops: Vec<Op>) {
        const MOST: usize = 1_000;
        if self.sequences.len() >= MOST {
            self.link.violation("too many steps at once");
            return;
        }
        self.next_sequence += 1;
        self.sequences.push(Sequence {
            id: self.next_sequence,
            due: self.link.now,
            ops: ops.into(),
            actions: actions.into(),
            in_answer: false,
        });
    }

    /// Carries out everything that is due.
    pub(super) fn run(&mut self) {
        loop {
            self.played();
            let now = self.link.now;
            let next = self
                .sequences
                .iter()
                .enumerate()
                .filter(|(_, sequence)| sequence.due <= now)
                .min_by_key(|(_, sequence)| (sequence.due, sequence.id))
                .map(|(index, _)| index);
            let Some(index) = next else { break };
            let sequence = self.sequences.swap_remove(index);
            if let Some(unfinished) = self.advance(sequence) {
                self.sequences.push(unfinished);
            }
        }
        self.due_pongs();
        self.overdue_tools();
    }

    /// Carries out `sequence` until it has to wait; none when it is done.
    fn advance(&mut self, mut sequence: Sequence) -> Option<Sequence> {
        while !self.link.closed {
            if let Some(op) = sequence.ops.pop_front() {
                if let Some(wait) = self.carry_out(op, &mut sequence) {
                    sequence.due = self.link.now + wait;
                    return Some(sequence);
                }
            } else if let Some(action) = sequence.actions.pop_front() {
                if let Action::Delay(ms) = action {
                    sequence.ops.push_back(Op::Delay(ms));
                } else {
                    sequence.ops = self.act(action).into();
                }
            } else {
                return None;
            }
        }
        None
    }

    /// Carries out one step of an answer and returns how long to wait after it, if at all.
    fn carry_out(&mut self, op: Op, sequence: &mut Sequence) -> Option<Duration> {
        let wait = match op {
            Op::Send(message) => {
                self.wire.send(message, &mut self.link);
                Duration::ZERO
            }
            Op::EnterAnswer => {
                sequence.in_answer = true;
                Duration::ZERO
            }
            Op::BeginAnswer => {
                self.link.playback.answers += 1;
                self.link.playback.sent = Duration::ZERO;
                self.link.current = None;
                Duration::ZERO
            }
            Op::Audio { marker, format, bytes, target } => {
                self.send_audio(marker, format, bytes, target);
                Duration::ZERO
            }
            Op::Delay(ms) => self.unless_collapsed(Duration::from_millis(ms)),
            Op::AwaitPlayback => self.unless_collapsed(self.link.playback.remaining(self.link.now)),
            Op::EndAnswer => {
                sequence.in_answer = false;
                Duration::ZERO
            }
        };
        (!wait.is_zero()).then_some(wait)
    }

    fn unless_collapsed(&self, wait: Duration) -> Duration {
        match self.mode {
            Mode::RealTime => wait,
            Mode::AudioClock if self.configured => wait,
            Mode::AudioClock | Mode::Collapsed => Duration::ZERO,
        }
    }

    fn send_audio(
        &mut self,
        marker: u32,
        format: AudioFormat,
        bytes: std::ops::Range<usize>,
        target: Target,
    ) {
        let base64 = self.link.bank.base64(format, marker, bytes.clone());
        self.wire.send_audio(&base64, format, bytes.len(), &target, &mut self.link);
        let nanos = bytes.len() as u64 * 1_000_000_000 / bytes_of(format, 1_000) as u64;
        self.link.playback.add(self.link.now, Duration::from_nanos(nanos));
        self.link.current = Some(CurrentAnswer { marker, format, sent_bytes: bytes.end, target });
    }

    /// Carries out an action at once, or plans what is to be done for it.
    fn act(&mut self, action: Action) -> Vec<Op> {
        match action {
            Action::Send(Value::String(name))
                if name == "setupComplete" || name == "session.updated" =>
            {
                return self.act(Action::Ready);
            }
            Action::Send(message) => {
                let message = self.filled_in(message, &mut false);
                return vec![Op::Send(message)];
            }
            Action::Raw(text) => self.link.push(Output::Message(text)),
            Action::Ready => {
                self.wire.ready(&mut self.link);
                self.configured = true;
            }
            Action::Answer(answer) => {
                return self.wire.plan_response(&Response::from(answer), &mut self.link);
            }
            Action::Response(response) => {
                self.watch_tools(response.outputs.iter().filter_map(|output| match output {
                    crate::script::ResponseOutput::FunctionCall(tool) => Some(tool),
                    crate::script::ResponseOutput::Message(_) => None,
                }));
                return self.wire.plan_response(&response, &mut self.link);
            }
            Action::InputTranscript(transcript) => return self.wire.plan_transcript(&transcript),
            Action::Tool(tool) => return self.act(Action::Tools(vec![tool])),
            Action::Tools(tools) => {
                self.watch_tools(tools.iter());
                return self.wire.plan_tools(&tools, &mut self.link);
            }
            Action::CancelTool(ids) => {
                self.tool_deadlines.retain(|(_, id)| !ids.contains(id));
                return vec![Op::Send(json!({ "toolCallCancellation": { "ids": ids } }))];
            }
            Action::Interrupt(true) if self.wire.interruptible() => {
                self.stop_answers();
                let open = self.wire.turn_open();
                self.wire.interrupted(&mut self.link);
                if open {
                    self.wire.turn_complete(&mut self.link);
                }
            }
            Action::Interrupt(_) => {}
            Action::Interrupted => {
                self.stop_answers();
                self.wire.interrupted(&mut self.link);
            }
            Action::TurnComplete => self.wire.turn_complete(&mut self.link),
            Action::GenerationComplete => self.wire.generation_complete(&mut self.link),
            Action::StaleAudio(ms) => return self.stale_audio(ms),
            Action::AwaitPlayback => return vec![Op::AwaitPlayback],
            Action::Usage(usage) => {
                let message = json!({ "usageMetadata": crate::gemini::usage_metadata(&usage) });
                return vec![Op::Send(message)];
            }
            Action::Error(error) => return vec![Op::Send(error_event(&error, None, None))],
            Action::RateLimit { remaining, reset_seconds } => {
                return vec![Op::Send(rate_limits(remaining, reset_seconds))];
            }
            Action::GoAway(time_left) => {
                return vec![Op::Send(json!({ "goAway": { "timeLeft": time_left } }))];
            }
            Action::Handle(handle) => return vec![Op::Send(self.resumption_update(&handle))],
            Action::Close { code, reason } => self.link.push(Output::Close { code, reason }),
            Action::Drop => self.link.push(Output::Drop),
            Action::PongDelay(ms) => self.pong_delay = Duration::from_millis(ms),
            Action::Ping => self.link.push(Output::Ping),
            Action::Framing { fragment, ping_between } => {
                self.link.push(Output::Framing { fragment, ping_between });
            }
            Action::StallReading(ms) => {
                self.link.push(Output::StallReading(Duration::from_millis(ms)));
            }
            Action::Delay(ms) => return vec![Op::Delay(ms)],
            Action::HttpStatus(_) | Action::NeverUpgrade => {
                self.link.violation("the script acts on a handshake that is over");
            }
        }
        Vec::new()
    }

    /// Drops what remains of every answer that is on its way, and of the steps it belongs to.
    pub(super) fn stop_answers(&mut self) {
        self.sequences.retain(|sequence| !sequence.in_answer);
        self.link.playback.clear(self.link.now);
    }

    fn watch_tools<'a>(&mut self, tools: impl Iterator<Item = &'a ToolRequest>) {
        for tool in tools {
            if let Some(budget_ms) = tool.budget_ms {
                let due = self.link.now + Duration::from_millis(budget_ms);
                self.tool_deadlines.push((due, tool.id.clone()));
            }
        }
    }

    fn resumption_update(&self, handle: &str) -> Value {
        if handle.is_empty() {
            return json!({ "sessionResumptionUpdate": { "resumable": false } });
        }
        self.link.registry.give_out(handle, self.link.connection);
        json!({ "sessionResumptionUpdate": { "newHandle": handle, "resumable": true } })
    }

    fn stale_audio(&mut self, ms: u64) -> Vec<Op> {
        let Some(current) = self.link.current.clone() else { return Vec::new() };
        let CurrentAnswer { marker, format, sent_bytes, target } = current;
        let chunks = crate::answer::Profile::Burst.cut(format, ms);
        let shifted = |chunk: crate::answer::Chunk| Op::Audio {
            marker,
            format,
            bytes: sent_bytes + chunk.bytes.start..sent_bytes + chunk.bytes.end,
            target: target.clone(),
        };
        chunks.into_iter().map(shifted).collect()
    }

    /// Replaces the strings that begin with `$`. `spoke`: there was audio in the message already.
    fn filled_in(&mut self, message: Value, spoke: &mut bool) -> Value {
        match message {
            Value::String(text) => match text.strip_prefix('$') {
                Some(name) => Value::String(self.placeholder(name, spoke).unwrap_or(text)),
                None => Value::String(text),
            },
            Value::Array(values) => {
                values.into_iter().map(|value| self.filled_in(value, spoke)).collect()
            }
            Value::Object(fields) => {
                fields.into_iter().map(|(key, value)| (key, self.filled_in(value, spoke))).collect()
            }
            other => other,
        }
    }

    fn placeholder(&mut self, name: &str, spoke: &mut bool) -> Option<String> {
        let Some(audio) = name.strip_prefix("audio:") else { return self.wire.placeholder(name) };
        let (ms, rate) = audio.split_once('@').unwrap_or((audio, ""));
        let ms = ms.parse::<u64>().ok()?.min(LONGEST_MS);
        let rate = rate.parse().ok().and_then(tandem_media::SampleRate::from_hz);
        let format = rate.map_or(self.wire.output_format(), AudioFormat::Pcm16);
        let continued = self.link.current.take().filter(|current| current.format == format);
        let (marker, start, target) = match continued {
            Some(current) if *spoke || self.wire.turn_open() => {
                (current.marker, current.sent_bytes, current.target)
            }
            _ => {
                self.link.playback.answers += 1;
                self.link.playback.sent = Duration::ZERO;
                (self.link.next_marker(None), 0, Target::default())
            }
        };
        *spoke = true;
        let end = start + bytes_of(format, ms);
        self.link.playback.add(self.link.now, Duration::from_millis(ms));
        self.link.current = Some(CurrentAnswer { marker, format, sent_bytes: end, target });
        Some(self.link.bank.base64(format, marker, start..end).to_string())
    }
}

/// An `error` event about the message with id `event_id`.
pub(crate) fn error_event(
    error: &ErrorSpec,
    param: Option<&str>,
    event_id: Option<&Value>,
) -> Value {
    json!({
        "type": "error",
        "error": {
            "type": error.kind,
            "code": error.code,
            "message": error.message,
            "param": param,
            "event_id": event_id,
        }
    })
}

pub(crate) fn rate_limits(remaining: u64, reset_seconds: f64) -> Value {
    json!({
        "type": "rate_limits.updated",
        "rate_limits": [
            { "name": "tokens", "limit": 40_000, "remaining": remaining, "reset_seconds": reset_seconds }
        ]
    })
}
